"""The files that make up a vault, and whether all of them are there.

    NAME.vault              the database
    NAME.vault.key          its key, wrapped under the password (`key_file`)
    NAME.vault.key.first    the same until the database is made: a first start that was cut off goes on from here
    NAME.vault.server       its card (`client.addresses`)
    NAME.vault.exporting    a copy of the database, while an export is written
    NAME.vault.importing    a database that an import has not finished
    NAME.vault.files        a folder of encrypted files, while they are sent or fetched
    HASH.socket             the door of the program that has it open (`ui.rpc.sockets`); of no use without that

A key or a card without a database is a vault that was lost, and never a place for a new one: the account would get a
new identity without anybody having asked for it.
"""

from pathlib import Path
from typing import Final

from securechat.errors import StorageError

KEY: Final = ".key"
FIRST_KEY: Final = ".key.first"
CARD: Final = ".server"
EXPORTING: Final = ".exporting"
IMPORTING: Final = ".importing"
FILES: Final = ".files"
"""Each ends a file's name, after the vault's."""

MAX_ADDRESSES: Final = 16
"""Addresses of the server that are kept, the newest: it has one to its users, and a few as it moves."""

_WAYS_OUT: Final = (
    "Put a backup of both back. If there is none, move {path} and the files beside it away; then `securechat recover "
    "FILE` makes a vault from a recovery file, and without one --register begins anew, as a stranger to your contacts."
)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file beside the vault at `path`."""
    return path.with_name(path.name + suffix)


def check_whole(path: Path) -> None:
    """See that there is a vault at `path`, whole, or none at all. Raises StorageError that says what to do."""
    key = beside(path, KEY)
    for each in (path, key):
        if each.exists() and not each.is_file():
            raise StorageError(f"{each} is in the place of a file of your vault, and is none. Move it away.")
    if beside(path, FIRST_KEY).is_file() and not key.exists():
        return
    ways_out = _WAYS_OUT.format(path=path)
    if path.exists() and path.stat().st_size == 0:
        raise StorageError(f"The vault {path} is empty, so what was in it is lost here. {ways_out}")
    if path.exists() and not key.exists():
        raise StorageError(f"The key file {key} is missing, and without it nothing opens the vault. {ways_out}")
    if not path.exists() and (left := [each.name for each in (key, beside(path, CARD)) if each.is_file()]):
        raise StorageError(f"The vault {path} is missing, though {' and '.join(left)} beside it say that it was there. "
                           f"{ways_out}")  # fmt: skip
