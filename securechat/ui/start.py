"""From the command line to a client that can start: where its vault is, its password, whether to register.

Passwords come from a person at the terminal, without echo, or from a file; never from arguments, which every process on
the machine can read.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from securechat.client.events import Event
from securechat.client.settings import ClientSettings
from securechat.errors import RefusedError, StorageError, UsageError
from securechat.identity.invite_line import MAX_TEXT, CutOffError, InviteLine, decode, is_line
from securechat.names import normalise_account, normalise_password

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

DEFAULT_PORT: Final = 4433

MAX_PASSWORD_FILE: Final = 8192
"""Bytes. The longest password has 1,024; a larger file is not a password file."""


SWITCH_SECONDS: Final = 0.0005
"""How long a thread that computes keeps the interpreter when another one asks for it; 5 ms by default.

The core's thread computes much while much comes in, and a front end that draws should not wait that long at each step.
"""


@dataclass(frozen=True)
class Options:
    """The command line's options about who we are and where the server is."""

    user: str
    server: str
    ca: Path
    pin: str
    vault: Path
    password_file: Path | None
    register: bool
    new_identity: bool
    invite: str
    accept_invitations_of: tuple[str, ...] = ()  # `USER:KEY`


@dataclass(frozen=True)
class Start:
    """What the core needs to start."""

    account: str
    vault: Path
    password: str
    settings: ClientSettings

    def __repr__(self) -> str:
        """The account only: the rest holds the password."""
        return f"Start({self.account!r})"


def prepare(options: Options) -> Start:
    """Check the options, and ask a person for the rest. Raises `UsageError` or `StorageError`."""
    account = normalise_account(options.user)
    host, port = parse_server(options.server)
    inviters = frozenset(map(parse_inviter, options.accept_invitations_of))
    if not options.pin and not options.ca.is_file():
        raise UsageError(
            f"There is no CA certificate {options.ca} to know the server by. Ask its operator for ca.pem and give it "
            "with --ca FILE, or give the pin that gen-certs printed with --pin."
        )
    vault = vault_path(options.vault, account, host, port)
    register = options.register
    if not register and not vault.exists() and sys.stdin.isatty():
        register = _ask_whether_new(account, options.server)
    if options.password_file is not None:
        password = read_password(options.password_file)
    else:
        password = _ask_password(account, twice=register and not vault.exists())
    settings = ClientSettings(
        host,
        port,
        ca_file=None if options.pin else options.ca,
        pin=options.pin,
        password=password,
        register=register,
        invite=options.invite,
        accept_invitations_of=inviters,
        new_identity=options.new_identity,
    )
    return Start(account, vault, password, settings)


def read_line(source: str | None) -> tuple[str, InviteLine]:
    """Return an invite line as text and as a value: from a file, from standard input (`-`), or from who sits there.

    Raises `UsageError`, also for a line in place of `source`: every process can read arguments.
    """
    if source is not None and is_line(source):
        raise UsageError(
            "An invite line is a secret, and other users of this machine can see arguments. Run `securechat join` and "
            "paste the line when you are asked, or name a file that holds it."
        )
    if source is None and sys.stdin.isatty():
        text = _ask("Paste the invite line: ")
        while _is_cut_off(text) and (more := _ask("And the rest of it: ")):  # a terminal may have broken it
            text += more
    else:
        try:
            if source is None or source == "-":
                content = sys.stdin.buffer.read(MAX_TEXT + 1)
            else:
                with Path(source).open("rb") as opened:
                    content = opened.read(MAX_TEXT + 1)
            text = content.decode()
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {os.strerror(error.errno or 0)}.") from None
        except UnicodeDecodeError:
            raise UsageError("This is no invite line: it is not text.") from None
    return text, decode(text, int(time.time() * 1000))


def _is_cut_off(text: str) -> bool:
    try:
        decode(text, int(time.time() * 1000))
    except CutOffError:
        return len(text) <= MAX_TEXT
    except UsageError:
        return False
    return False


def prepare_join(user: str, vault: Path, password_file: Path | None, line: InviteLine) -> Start:
    """Return what the core needs to come in by a line: it registers where there is no vault. Raises as `prepare`."""
    path = vault_path(vault, normalise_account(user), *parse_server(line.address))
    return prepare(
        Options(
            user,
            line.address,
            ca=Path(),
            pin=line.pin,
            vault=vault,
            password_file=password_file,
            register=not path.exists(),
            new_identity=False,
            invite=line.code,
        )
    )


def parse_server(server: str) -> tuple[str, int]:
    """Return host and port of `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`. Raises `UsageError`."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", server)
    if found is None or not 1 <= int(found[3] or DEFAULT_PORT) <= 65535:
        raise UsageError(f"{server!r} is not a server: give HOST:PORT, as in chat.example:4433 or [::1]:4433.")
    return found[1] or found[2], int(found[3] or DEFAULT_PORT)


def parse_inviter(inviter: str) -> tuple[str, str]:
    """Return account and key of `USER:KEY`; the key has 64 hexadecimal digits. Raises `UsageError`."""
    account, _, key = inviter.rpartition(":")
    if re.fullmatch(r"[0-9a-fA-F]{64}", key) is None:
        raise UsageError(f"{inviter!r} is not USER:KEY: the key has 64 digits, as `securechat recv` shows it.")
    return normalise_account(account), key.lower()


def vault_path(folder: Path, account: str, host: str, port: int) -> Path:
    """Return the path of an account's vault for a server: one file each, with a name that every system takes."""

    def safe(text: str) -> str:
        return re.sub(r"[^\w.-]", lambda found: f"%{ord(found[0]):02X}", text)

    return folder / f"{safe(account)}@{safe(host)}-{port}.vault"


def read_password(file: Path) -> str:
    """Return the first line of a file. Raises `StorageError` or `UsageError`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_PASSWORD_FILE + 1)
        line = content.decode().split("\n", 1)[0].removesuffix("\r")
    except OSError as error:
        raise StorageError(f"The password file {file} cannot be read: {os.strerror(error.errno or 0)}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The password file {file} is not UTF-8 text.") from None
    if len(content) > MAX_PASSWORD_FILE:
        raise UsageError(f"{file} is too large to be a password file.")
    return normalise_password(line)


def _ask_whether_new(account: str, server: str) -> bool:
    sys.stdout.write(f"{account} is not set up on this computer for {server} yet.\n")
    while True:
        answer = _ask("Make a new account? [Y/n] ").strip().lower()
        if answer in ("", "y", "yes", "n", "no"):
            return not answer.startswith("n")


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise UsageError("No answer: nothing was done.") from None


def _ask_password(account: str, *, twice: bool) -> str:
    if not (sys.stdin.isatty() or sys.stderr.isatty()):
        raise UsageError("Nobody is there to ask for the password: give it in a file with --password-file.")
    while True:
        try:
            password = getpass(f"{'New password' if twice else 'Password'} of {account}: ")
            if twice and getpass("The same again: ") != password:
                sys.stderr.write("These were not the same.\n")
                continue
        except EOFError:
            sys.stderr.write("\n")  # the question has no line break
            raise UsageError("No password: nothing was done.") from None
        return normalise_password(password)


@contextmanager
def open_client(start: Start, on_event: Callable[[Event], None]) -> Iterator["ChatClient"]:
    """Open the vault, yield the core, not started yet, and close the vault once the front end has finished.

    Raises `StorageError`; `RefusedError` for the password.
    """
    # Imported here: the vault brings the database, and the core brings all of MLS.
    from securechat.client import core
    from securechat.client.vault.key_file import WrongPasswordError
    from securechat.client.vault.vault import Vault

    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        vault = Vault.open(start.vault, start.account, start.password)
    except WrongPasswordError as error:
        raise RefusedError("login-refused", str(error)) from None
    try:
        yield core.ChatClient(start.settings, vault, on_event=on_event)
    finally:
        vault.close()
