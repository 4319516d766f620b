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
from dataclasses import replace
from getpass import getpass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from securechat.client.addresses import Folder
from securechat.client.events import Event
from securechat.client.link.connecting import Greeting, ask_server, cas_in
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault_files import KEY, beside, check_whole
from securechat.codes import make_code
from securechat.errors import RefusedError, TrustError, UnreachableError, UsageError
from securechat.files import InUseError, descriptor_of, open_to_read, others_can_read
from securechat.hosts import normalise_host
from securechat.identity.armour import MAX_TEXT, CutOffError
from securechat.identity.invite_line import InviteLine, decode, is_line
from securechat.lookalikes import check_new_account
from securechat.names import normalise_account
from securechat.strength import check_password
from securechat.ui import person
from securechat.ui.called import program
from securechat.ui.told import tell
from securechat.value import value

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient
    from securechat.client.recovery_file import RecoveryContents
    from securechat.client.vault.door_proof import DoorKey
    from securechat.client.vault.vault import Vault
    from securechat.ui.rpc.remote import RemoteClient

DEFAULT_PORT: Final = 4433

DEFAULT_CA: Final = Path("certs/ca.pem")
"""Where `gen-certs` writes it: for a first try on one machine."""

OWNER_SECONDS: Final = 30.0
"""How long the program that has a vault open may take to let us in, or to end."""

END_SECONDS: Final = 5.0
"""How long the core may take to end once its front end has finished. To close the vault under its thread would fail
what that one does; to be ended with the process, at any instant, harms no vault (docs/design.md, invariant 5)."""

LOOK_SECONDS: Final = 0.05
"""How often it is looked whether it does."""

SWITCH_SECONDS: Final = 0.0005
"""How long a thread that computes keeps the interpreter when another one asks for it; 5 ms by default.

The core's thread computes much while much comes in, and a front end that draws should not wait that long at each step.
"""


@value
class Options:
    """The command line's options about who we are and where the server is."""

    user: str
    server: str
    ca: Path | None  # None: the one that the vault knows, or DEFAULT_CA
    pin: str
    vault: Path
    password_file: Path | None
    register: bool | None  # None: where there is no vault
    new_identity: bool
    invite: str
    accept_invitations_of: tuple[str, ...] = ()  # `USER:KEY`
    contest: bool = False
    first_pin: str = ""
    asks_password: bool = True  # whether somebody new is asked for one; else it is made


@value
class Start:
    """What the core needs to start. `greeting`: what the server has said, if it was asked where the vault is."""

    account: str
    vault: Path
    password: PasswordSource
    settings: ClientSettings
    greeting: Greeting | None = None


def prepare(options: Options, *, new: bool = True, offline: bool = False) -> Start:
    """Check the options, and ask a person for the rest. Raises `UsageError` or `StorageError`.

    Not `new`: only an account that is set up on this computer will do. `offline`: what comes of it opens the vault and
    asks no server, so that the file of a CA that is named need not be there.
    """
    if offline and options.ca is not None and not options.ca.exists():
        options = replace(options, ca=None)
    account = who(options.user)
    host, port = parse_server(options.server)
    settings = ClientSettings(
        host,
        port,
        ca_file=None if options.pin else options.ca,
        pin=options.pin,
        first_pin=options.first_pin,
        invite=options.invite,
        accept_invitations_of=frozenset(map(parse_inviter, options.accept_invitations_of)),
        contest=options.contest,
        new_identity=options.new_identity,
    )
    settings = _with_ca(settings)
    folder = Folder(options.vault, account)
    there, greeting = folder.at(settings.address), None
    if len(there) == 1 and not _may_be_another(folder.ca_pin(there[0]), options, settings):
        vault = there[0]
    else:
        vault, greeting, settings = _find_by_id(folder, settings, there)
    check_whole(vault)
    register = options.register if options.register is not None else not vault.exists()
    if not new and not vault.exists():
        raise UsageError(f"{account} is not set up on this computer for {options.server}: there is no vault {vault}.")
    if not register and not vault.exists() and person.types() and not options.new_identity:
        register = True
        tell(
            f"{account} is not set up on this computer for {options.server} yet: this makes a new account. If you have "
            f"one, press Ctrl-C: `{program()} recover` or `{program()} import` brings it here."
        )
    chosen = register and not vault.exists()
    if chosen:
        try:
            check_new_account(account)
        except UsageError as error:
            if not person.types():
                raise
            tell(str(error))
            return prepare(replace(options, user=""), new=new)
    if options.password_file is not None:
        password = _password_in(options.password_file, account, chosen=chosen)
    else:
        password = ask_password(account, chosen=chosen, asks=options.asks_password)
    return Start(account, vault, password, replace(settings, register=register), greeting)


def _may_be_another(known_pin: str, options: Options, settings: ClientSettings) -> bool:
    """Whether the command line says that another server than a vault's may be at its address now."""
    if not (known_pin and (settings.ca_file is not None or settings.pin or settings.first_pin)):
        return False
    return options.register is True or settings.ca_pin != f"sha256:{known_pin}"


def _find_by_id(
    folder: Folder, settings: ClientSettings, there: list[Path]
) -> tuple[Path, Greeting | None, ClientSettings]:
    """Ask the server at an address for its id: no vault knows the address, or several do, or what was `there` may have
    given way to another server.

    Where no CA was named, those that vaults know will do for the question, and the one at its usual place. For a new
    vault only that one will, at an address that is new too: it is as if it was named.
    """
    named = settings.ca_file is not None or settings.pin or settings.first_pin
    usual = cas_in(DEFAULT_CA) if not (named or there) and DEFAULT_CA.is_file() else []
    known = [] if named else [*folder.cas(), *usual]
    # What is opened without asking knows its server's id and CA itself.
    unasked = folder.bare() if not (named or there) else there[0] if len(there) == 1 else None
    if not named and not known:
        if unasked is None:
            raise _without_ca(DEFAULT_CA)
        return unasked, None, settings
    try:
        greeting = ask_server(settings, known)
    except UnreachableError:
        if unasked is None:
            raise
        return unasked, None, settings
    vault = folder.of(greeting.server_id)
    if there and not named and not vault.exists():
        raise TrustError(
            f"{settings.address} leads to another server than before. If its operator set it up anew, name its CA "
            "(--ca or --pin) and give --register. If not, do not log in."
        )
    if there and vault not in there:
        tell(
            f"{settings.address} leads to another server than before: if you did not expect that, end this now and ask "
            f"the operator; the vault for the one that was there stays as it is ({there[0]}).",
            lasts=True,
        )
    if not named and not vault.exists():
        if greeting.ca.pin not in {ca.pin for ca in usual}:
            raise _without_ca(DEFAULT_CA)
        settings = replace(settings, ca_file=DEFAULT_CA)
    return vault, greeting, replace(settings, server_id=greeting.server_id)


def _with_ca(settings: ClientSettings) -> ClientSettings:
    """Check that the CA's file is there; of a stream take the pin, for a file is read several times.

    Raises `UsageError` if there is none, `StorageError` for a stream that holds no CA.
    """
    if settings.ca_file is None:
        return settings
    if descriptor_of(settings.ca_file) is not None:
        return replace(settings, ca_file=None, pin=settings.ca_pin)
    if not settings.ca_file.exists():
        raise _without_ca(settings.ca_file)
    return settings


def _without_ca(file: Path) -> UsageError:
    return UsageError(
        f"There is no CA certificate {file} to know the server by. Ask its operator for ca.pem and give it with "
        "--ca FILE, or give the pin that gen-certs printed with --pin."
    )


def read_line(source: str | None) -> tuple[str, InviteLine]:
    """Return an invite line as text and as a value: from a file, from standard input (`-`), or from who sits there.

    Raises `UsageError`, also for a line in place of `source`: every process can read arguments.
    """
    if source is not None and is_line(source):
        raise UsageError(
            "An invite line is a secret, and other users of this machine can see arguments. Run `securechat join` and "
            "paste the line when you are asked, or name a file that holds it."
        )
    if source is None and person.types():
        text = _ask("Paste the invite line: ")
        while _is_cut_off(text) and (more := _ask("And the rest of it: ")):  # a terminal may have broken it
            text += more
    else:
        try:
            if source is None or source == "-":
                content = sys.stdin.buffer.read(MAX_TEXT + 1)
            else:
                with os.fdopen(open_to_read(Path(source), once=True), "rb") as opened:
                    content = opened.read(MAX_TEXT + 1)
            text = content.decode()
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {error.strerror}.") from None
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


def prepare_join(
    user: str, vault: Path, password_file: Path | None, line: InviteLine, *, choose: bool = True
) -> Start:
    """Return what the core needs to come in by a line: it registers where there is no vault. Raises as `prepare`.

    Not `choose`: who registers at a terminal gets a password that is made.
    """
    return prepare(
        Options(
            user,
            line.address,
            ca=None,
            pin="",
            vault=vault,
            password_file=password_file,
            register=None,
            new_identity=False,
            invite=line.code,
            first_pin=line.pin,
            asks_password=choose,
        )
    )


def prepare_recover(
    contents: "RecoveryContents", vault: Path, password_file: Path | None, code: str, *, ca: Path | None, pin: str
) -> Start:
    """Return what the core needs on a new computer; with a `code` it sets a new password. Raises as `prepare`.

    `ca` or `pin`: the server's CA, if it is another one than in the recovery file.
    """
    host, port = parse_server(contents.address)
    path = Folder(vault, contents.account).of(contents.server_id)
    check_whole(path)
    if password_file is not None:
        password = _password_in(password_file, contents.account, chosen=bool(code))
    else:
        password = ask_password(contents.account, chosen=bool(code))
    settings = ClientSettings(
        host,
        port,
        ca_file=None if pin else ca,
        pin=pin,
        first_pin=contents.pin,
        register=bool(code),
        invite=code,
    )
    return Start(contents.account, path, password, _with_ca(settings))


def who(user: str) -> str:
    """Return the name of an account: the one given, or what somebody types, until it can be a name.

    A typing error is theirs to mend, also behind --user; without a terminal it is an error. Raises `UsageError`.
    """
    there = person.types() and sys.stderr.isatty()
    while True:
        try:
            if user:
                return normalise_account(user)
        except UsageError as error:
            if not there:
                raise
            tell(str(error))
        if not there:
            raise UsageError("Say who you are: with --user NAME, or with SECURECHAT_USER.")
        user = _ask("Your user name: ").strip()


def parse_server(server: str) -> tuple[str, int]:
    """Return host and port of `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`. Raises `UsageError`."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", server)
    if found is None or not 1 <= int(found[3] or DEFAULT_PORT) <= 65535:
        raise UsageError(f"{server!r} is not a server: give HOST:PORT, as in chat.example:4433 or [::1]:4433.")
    return normalise_host(found[1] or found[2]), int(found[3] or DEFAULT_PORT)


def parse_inviter(inviter: str) -> tuple[str, str]:
    """Return account and key of `USER:KEY`; the key has 64 hexadecimal digits. Raises `UsageError`."""
    account, _, key = inviter.rpartition(":")
    if re.fullmatch(r"[0-9a-fA-F]{64}", key) is None:
        raise UsageError(f"{inviter!r} is not USER:KEY: the key has 64 digits, as `securechat recv` shows it.")
    return normalise_account(account), key.lower()


def _ask(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        raise UsageError("No answer: nothing was done.") from None


def ask_secret(question: str) -> str:
    """Ask a person for something that is not shown. Raises `UsageError` if nobody is there."""
    if not person.is_there():
        raise UsageError("Nobody is there to ask: give it in a file.")
    try:
        return getpass(question)
    except EOFError:
        sys.stderr.write("\n")  # the question has no line break
        raise UsageError("No answer: nothing was done.") from None


def ask_password(account: str, *, chosen: bool, asks: bool = True) -> PasswordSource:
    """Ask for a password; one that is `chosen` now is made, or has to be hard to guess and is asked for twice.

    Not `asks`: it is made, if its owner sees it.
    """
    if not person.is_there():
        raise UsageError("Nobody is there to ask for the password: give it in a file with --password-file.")
    shown = sys.stderr.isatty()  # else one that is made would come into a file, and before nobody's eyes
    made = " (Enter makes one)" if shown else ""
    while True:
        try:
            asked = asks or not (chosen and shown)
            question = f"New password of {account}{made}: " if chosen else f"Password of {account}: "
            password = getpass(question) if asked else ""
            if chosen and shown and not password:
                password = make_code()
                made_unasked = "" if asked else "One is made; /password puts one of your own in its place. "
                tell(f"{made_unasked}The password of {account} is shown once, keep it: {password}", lasts=True)
            elif chosen:
                check_password(password, account)
                if getpass("The same again: ") != password:
                    tell("These were not the same.")
                    continue
            return PasswordSource.typed(password)
        except UsageError as error:  # it cannot be a password
            if not person.types():
                raise
            tell(str(error))
        except EOFError:
            sys.stderr.write("\n")  # the question has no line break
            raise UsageError("No password: nothing was done.") from None


def _password_in(file: Path, account: str, *, chosen: bool) -> PasswordSource:
    """Return the password in a file; one that is `chosen` now has to be hard to guess. Raises as `in_file`."""
    warn_of_readers("password file", file)
    source = PasswordSource.in_file(file)
    if chosen:
        with source.read() as password:
            check_password(password.decode(), account)
    return source


def choose_password(account: str, file: Path | None) -> str:
    """Return a new password, from a file or from who sits there. Raises as `prepare`, also for one that is weak."""
    source = ask_password(account, chosen=True) if file is None else _password_in(file, account, chosen=True)
    with source.read() as password:
        chosen = password.decode()
    source.forget()
    return chosen


def warn_of_readers(what: str, file: Path) -> None:
    """Tell who has put a secret into a file that other users of this machine can read."""
    if others_can_read(file):
        tell(f"Other users of this machine can read the {what} {file}: chmod 600 takes it from them.", lasts=True)


@contextmanager
def open_vault(start: Start, *, again: bool = False) -> Iterator["Vault"]:
    """Open the vault, and close it at the end. `again`: it will be opened once more, so the password is kept.

    Who has typed a wrong password is asked again.

    Raises `StorageError`; `RefusedError` for the password.
    """
    # Imported here: the vault brings the database.
    from securechat.client.vault.vault import Vault
    from securechat.client.wrapping import WrongPasswordError

    while True:
        try:
            vault = Vault.open(start.vault, start.account, start.password.copy() if again else start.password)
            break
        except WrongPasswordError as error:
            hint = "If it was changed on another device, the one before opens it; `securechat password` takes both."
            if not (start.password.is_typed and person.types()):
                raise RefusedError("login-refused", f"{error} {hint}") from None
            tell(f"{error} {hint}")
            with ask_password(start.account, chosen=False).read() as password:
                start.password.give(password.decode())
    try:
        _write_card(vault, start)
        yield vault
        if not vault.left_open:
            _write_card(vault, start)  # the CA, and a new vault's server, are known by now
    finally:
        if not vault.left_open:
            vault.close()


def _write_card(vault: "Vault", start: Start) -> None:
    """Write down what the vault knows of its server, to find the vault by it next time. Raises `StorageError`."""
    device = vault.device.load()
    server_id = (device.server_id if device is not None else b"") or start.settings.server_id
    if not server_id or vault.discard_at_close:
        return
    folder = Folder(start.vault.parent, start.account)
    known = vault.addresses.all()
    if not known and not vault.authorities.is_empty():  # from before vaults knew any
        known = folder.addresses(start.vault)
        for address in known:
            vault.addresses.add(address)
    # One that has said the right id, under a CA that was named or known, is found there again if we are killed now.
    new = [start.settings.address] if start.greeting is not None and start.settings.address not in known else []
    folder.note(start.vault, server_id, [*known, *new], vault.authorities.current())


@contextmanager
def open_client(
    start: Start, on_event: Callable[[Event], None], *, again: bool = False
) -> Iterator["ChatClient"]:
    """Open the vault, yield the core, not started yet, and close the vault once the front end has finished.

    Parameters and errors as in `open_vault`.
    """
    from securechat.ui.rpc.owner import OwnedClient  # only here: it brings all of MLS

    sys.setswitchinterval(SWITCH_SECONDS)
    with open_vault(start, again=again) as vault:
        client = OwnedClient(_beside(vault, start), vault, on_event=on_event)
        try:
            yield client
        finally:
            vault.left_open = True  # also if the wait is interrupted
            vault.left_open = not client.end(END_SECONDS)


@contextmanager
def reach_client(
    start: Start, on_event: Callable[[Event], None], *, patience: float = 0.0
) -> Iterator["ChatClient"]:
    """As `open_client`; where another program has the vault open, the core is reached through that one.

    `patience`: how long (s) the vault itself is waited for first. `on_event` may get `Ended(OwnerGone())`, and a read
    may raise OwnerGone: then whoever wants to go on comes here again. Raises as `open_client`.
    """
    began = monotonic()
    key: DoorKey | None = None
    while True:
        try:
            with open_client(start, on_event, again=True) as client:
                yield client
            return
        except InUseError:
            waited = monotonic() - began
            if waited > OWNER_SECONDS:
                raise
        try:
            if waited >= patience:
                key = key or _door_key(start)
                remote = _remote(start, key, on_event)
                break
        except OSError:  # it has ended by now, or has not got that far
            pass
        sleep(LOOK_SECONDS)
    try:
        yield remote
    finally:
        remote.hang_up()


def _door_key(start: Start) -> "DoorKey":
    """Return what proves to the owner that we can open the vault. Raises OSError if it is being made."""
    from securechat.client.vault import key_file
    from securechat.client.vault.door_proof import DoorKey
    from securechat.client.wrapping import WrongPasswordError

    path = beside(start.vault, KEY)
    if not path.exists():
        raise FileNotFoundError(path)
    with start.password.read() as password:
        try:
            return DoorKey(key_file.unlock(path, password)[0])
        except WrongPasswordError as error:
            raise RefusedError("login-refused", str(error)) from None


def _remote(start: Start, key: "DoorKey", on_event: Callable[[Event], None]) -> "RemoteClient":
    from securechat.ui.rpc.remote import RemoteClient

    return RemoteClient(start.vault, key, start.account, on_event=on_event)


def _beside(vault: "Vault", start: Start) -> ClientSettings:
    """Return the settings with the other vaults that there are."""
    device = vault.device.load()
    server_id = (device.server_id if device is not None else b"") or start.settings.server_id
    others = Folder(start.vault.parent, start.account).beside(start.vault, server_id)
    return replace(start.settings, other_vaults=tuple(others))
