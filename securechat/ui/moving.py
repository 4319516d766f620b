"""`securechat export` and `securechat import`: a vault moves to another machine, under a passphrase of its own."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from securechat import codes
from securechat.client.archive import Export, import_vault, write_export
from securechat.client.passphrase import WrongPassphraseError
from securechat.client.vault_files import check_whole
from securechat.errors import StorageError, UsageError
from securechat.files import PRIVATE, open_to_read, sync
from securechat.hosts import address_of
from securechat.ui import person
from securechat.ui.called import program
from securechat.ui.recovery import passphrase_of
from securechat.ui.start import Start, ask_secret, open_vault, parse_server
from securechat.ui.told import tell


def run_export(start: Start, out: Path, own: str = "") -> None:
    """Write the whole vault to a file that is not there yet, under a passphrase: `own`, by default one that is made.

    Raises `SecurechatError`; then nothing of the file is left.
    """
    check_whole(start.vault)
    passphrase = own or codes.make_code()
    with open_vault(start) as vault:
        try:
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), PRIVATE)
        except FileExistsError:
            raise StorageError(f"{out} is there already: choose another name. Nothing was done.") from None
        except OSError as error:
            raise StorageError(f"{out} cannot be written: {error.strerror or error}.") from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                write_export(vault, file, passphrase)
            sync(out)
        except BaseException:
            out.unlink(missing_ok=True)
            raise
    if not own:
        tell(f"The passphrase of this export is shown once: {passphrase}")
    tell(
        f"{out} is you, with all your messages: keep the passphrase apart from it. On the other computer: {program()} "
        f"import {out.name}. When {start.account} starts there, this computer is shut out: do not go on here."
    )


def run_import(source: Path, folder: Path, passphrase_file: Path | None) -> None:
    """Make the vault that is in an export. Who types a wrong passphrase is asked again. Raises `SecurechatError`."""
    given = passphrase_of(passphrase_file) if passphrase_file is not None else ""
    while True:
        try:
            with os.fdopen(open_to_read(source, once=True), "rb") as file:
                passphrase = given or ask_secret("Passphrase of the export: ")
                export = Export(file, passphrase)
                import_vault(export, folder)
                break
        except OSError as error:
            raise UsageError(f"The export {source} cannot be read: {error.strerror or error}.") from None
        except WrongPassphraseError as error:
            if given or not person.types() or not source.is_file():  # a stream cannot be read again
                raise
            tell(str(error))
    account, words = export.contents.account, ["client", "--user", export.contents.account]
    with suppress(UsageError):  # what stands there, whoever has made the file says
        words += ["--server", address_of(*parse_server(export.address))]
    tell(f"{account} is on this computer now, under the same password. Go on:")
    sys.stderr.write(f"    {program()} {shlex.join(words)}\n")
    tell("The first start gives this computer a key of its own, and shuts the other one out.")
