"""Recovery files: `securechat recovery`, the question after registering, `securechat recover` and `securechat revoke`.

The line, or the QR code of it, goes to standard output. A passphrase that was made goes to standard error, once, so
that it does not end up in the same file.
"""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from securechat.client.passphrase import WrongPassphraseError, check_own
from securechat.client.recovery_file import RecoveryContents, open_recovery, recovery_of, seal_recovery
from securechat.client.vault.vault import Vault
from securechat.errors import SecurechatError, StorageError, UsageError
from securechat.files import PRIVATE, descriptor_of, expand, open_to_read, write_atomically
from securechat.identity.armour import MAX_TEXT
from securechat.ui import person
from securechat.ui.called import program
from securechat.ui.qr import show_qr
from securechat.ui.start import Start, ask_password, ask_secret, open_vault, prepare_recover, warn_of_readers
from securechat.ui.told import tell


def run_recovery(start: Start, out: Path | None, own: str = "", *, line: bool, qr: bool) -> None:
    """Make one recovery file: write it to `out`, and show it as a line or a QR code. Raises `SecurechatError`.

    All of them are the same file, under one passphrase: `own`, by default one that is made and shown.
    """
    if out is None and not (line or qr):
        raise UsageError("Say where to: --out FILE writes it, --line and --qr show it here.")
    if out is not None and descriptor_of(out) is not None:
        raise UsageError(f"{out} is a stream, and --out makes a new file: --line prints what would be in it.")
    if out is not None and out.exists():
        raise _exists(out)
    with open_vault(start, again=True) as vault:
        text, passphrase = _seal(vault, start, own)
    if out is not None:
        _write(out, text)
    if line:
        sys.stdout.write(f"{text}\n")
    if qr:
        show_qr(text, sys.stdout)
    sys.stdout.flush()
    _tell_passphrase("" if own else passphrase, out)


def choose_passphrase(account: str, what: str) -> str:
    """Ask somebody for a passphrase of their own, twice, until it is good. `what`: it is for. Raises `UsageError` if
    nobody is there."""
    while True:
        own = ask_secret(f"Passphrase for the {what}: ")
        try:
            check_own(own, account)
        except UsageError as error:
            if not person.types():
                raise
            tell(str(error))
            continue
        if ask_secret("The same again: ") == own:
            return own
        tell("These were not the same.")


def passphrase_in(file: Path, account: str) -> str:
    """Return the passphrase of somebody's own that is in a file. Raises `UsageError`, also for one that is too weak."""
    own = passphrase_of(file)
    check_own(own, account)
    return own


def offer_recovery(start: Start) -> None:
    """Ask somebody who leaves for the first time, at a terminal, whether to write the file now.

    What was typed to come in is forgotten by then: the password is asked for, which also shows that it was kept.
    """
    whose = shlex.join(["--user", start.account, "--server", start.settings.address])
    later = f"Later: {program()} recovery {whose} --out FILE\n"
    tell(
        "With a recovery file you stay yourself when this computer is lost. Without one your contacts are warned of a "
        "stranger, and rooms have to invite you again.",
        sys.stdout,
    )
    while True:
        answer = _ask("Write it now? A file name, or Enter for later: ")
        if not answer:
            sys.stdout.write(later)
            return
        own = _ask("Enter makes a passphrase that nobody guesses, o asks for your own: ")
        try:
            if not start.password.at_hand:
                start = replace(start, password=ask_password(start.account, chosen=False))
            chosen = choose_passphrase(start.account, "recovery file") if own.lower().startswith("o") else ""
            run_recovery(start, expand(answer), chosen, line=False, qr=False)
        except SecurechatError as error:
            sys.stdout.write(f"{error}\n")
            continue
        if not chosen:
            _ask("Write the passphrase down, then press Enter: ")
        return


def _ask(question: str) -> str:
    """Return the answer; Ctrl-D is none."""
    try:
        return input(question).strip()
    except EOFError:
        sys.stdout.write("\n")
        return ""


def run_recover(
    source: Path,
    vault: Path,
    password_file: Path | None,
    passphrase_file: Path | None,
    code: str,
    *,
    ca: Path | None,
    pin: str,
) -> int:
    """Set a new device up from a recovery file, `-` for standard input; return the exit code.

    `code`: of the operator, with which the typed password becomes the account's. `ca` or `pin`: of a CA that the server
    has had since. Raises `SecurechatError`.
    """
    from securechat.client.core import ChatClient  # only here: it brings all of MLS
    from securechat.client.recovery import prepare_recovery
    from securechat.ui.scripts.account import run_recovery_of_device
    from securechat.ui.scripts.run import Events

    contents = _open(source, passphrase_file)
    try:
        start = prepare_recover(contents, vault, password_file, code, ca=ca, pin=pin)
        events: Events = SimpleQueue()
        with open_vault(start) as opened:
            prepare_recovery(opened, contents)
            contents.wipe()
            return run_recovery_of_device(ChatClient(start.settings, opened, on_event=events.put), events)
    finally:
        contents.wipe()


def run_revoke(
    source: Path, password_file: Path | None, passphrase_file: Path | None, code: str, *, ca: Path | None, pin: str
) -> int:
    """Revoke all devices of the account in a recovery file, and set none up; return the exit code.

    What is not given here is as in `run_recover`. What it takes lies in a private folder for as long.
    """
    from securechat.client.core import ChatClient  # only here: it brings all of MLS
    from securechat.client.recovery import prepare_recovery
    from securechat.ui.scripts.account import run_revocation
    from securechat.ui.scripts.run import Events

    contents = _open(source, passphrase_file)
    try:
        with TemporaryDirectory(prefix="securechat-") as folder:
            start = prepare_recover(contents, Path(folder), password_file, code, ca=ca, pin=pin)
            events: Events = SimpleQueue()
            with open_vault(start) as opened:
                prepare_recovery(opened, contents, only_revoke=True)
                contents.wipe()
                return run_revocation(ChatClient(start.settings, opened, on_event=events.put), events)
    finally:
        contents.wipe()


def _open(source: Path, passphrase_file: Path | None) -> RecoveryContents:
    """Read a recovery file, and open it. Who types a wrong passphrase is asked again."""
    data = sys.stdin.buffer.read(MAX_TEXT + 1) if str(source) == "-" else _read("recovery file", source)
    if passphrase_file is not None:
        return open_recovery(data, passphrase_of(passphrase_file))
    while True:
        try:
            return open_recovery(data, ask_secret("Passphrase of the recovery file: "))
        except WrongPassphraseError as error:
            if not person.types():
                raise
            tell(str(error))


def passphrase_of(file: Path) -> str:
    """Return the passphrase in a file. Raises `UsageError`."""
    warn_of_readers("passphrase file", file)
    try:
        return _read("passphrase file", file).decode()
    except UnicodeDecodeError:
        raise UsageError(f"The passphrase file {file} is not UTF-8 text.") from None


def _read(what: str, path: Path) -> bytes:
    """Return at most MAX_TEXT + 1 bytes. Raises `UsageError`."""
    try:
        with os.fdopen(open_to_read(path, once=True), "rb") as file:
            return file.read(MAX_TEXT + 1)
    except OSError as error:
        raise UsageError(f"The {what} {path} cannot be read: {error.strerror}.") from None


def _seal(vault: Vault, start: Start, own: str) -> tuple[str, str]:
    contents = recovery_of(vault, start.settings)
    try:
        return seal_recovery(contents, own)
    finally:
        contents.wipe()


def _write(out: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all; a crash may leave it empty. Raises `StorageError`."""
    try:
        os.close(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))  # the name is ours
    except FileExistsError:
        raise _exists(out) from None
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror or error}.") from error
    try:
        write_atomically(out, f"{text}\n".encode(), mode=PRIVATE)
    except StorageError:
        out.unlink(missing_ok=True)
        raise


def _exists(out: Path) -> StorageError:
    return StorageError(f"{out} is there already, and may be the only way back: choose another name. Nothing was done.")


def _tell_passphrase(passphrase: str, out: Path | None) -> None:
    """Tell a passphrase that was made, once; empty: its owner knows it."""
    if passphrase:
        tell(f"The passphrase of this recovery file is shown once: {passphrase}")
    where = f" It is in {out}, and is useless without the passphrase." if out is not None else ""
    tell(f"Keep the passphrase apart from the file.{where} Who has both is you.")
