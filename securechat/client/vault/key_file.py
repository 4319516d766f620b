"""The small file beside a vault that keeps the vault's key, wrapped under the user's password.

    key file = magic[4] version[1] wrapped_key[117] checksum[32]

The vault's key is 32 random bytes, wrapped (`wrapping`) with everything before `wrapped_key` as its context. Whose the
vault is says the vault itself, which nothing but this key opens. The checksum (SHA-256) only tells damage from a wrong
password: an attacker can recompute it, and gains nothing by that. Changing the password rewrites this file and leaves
the database alone.

Version 1 did not commit to its key. It is refused before a password is tried: whoever can write to the folder could put
one there that opens under many passwords, so that the vault beside it cannot be asked what it is used to.
`scripts/commit_keys.py` makes version 2 of it, once, at its owner's word.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

from securechat.client.wrapping import OVERHEAD, Cost, WrongPasswordError, cost_of, unwrap, wrap
from securechat.errors import StorageError
from securechat.files import open_to_read, write_atomically

KEY_LENGTH: Final = 32
"""Bytes of the vault's key: AES-256 inside SQLCipher."""

_MAGIC: Final = b"SCvk"
_HEAD: Final = _MAGIC + b"\x02"
"""Magic and version."""
UNCOMMITTED: Final = _MAGIC + b"\x01"
"""How key files began that did not commit to their key."""
_CHECKSUM_LENGTH: Final = 32
_FILE_LENGTH: Final = len(_HEAD) + OVERHEAD + KEY_LENGTH + _CHECKSUM_LENGTH


def create(path: Path, password: bytearray, *, cost: Cost) -> bytes:
    """Make a key, keep it wrapped in `path`, return its 32 bytes. Raises `StorageError`."""
    key = os.urandom(KEY_LENGTH)
    write(path, key, password, cost=cost)
    return key


def write(path: Path, key: bytes, password: bytearray, *, cost: Cost) -> None:
    """Keep a vault's key wrapped in `path`, whole or not at all. Raises `StorageError`."""
    write_atomically(path, content(key, password, cost=cost))


def content(key: bytes, password: bytearray, *, cost: Cost) -> bytes:
    """Return what such a file holds."""
    body = _HEAD + wrap(bytearray(key), password, context=_HEAD, cost=cost)
    return body + hashlib.sha256(body).digest()


def read(path: Path) -> bytes:
    """Return what a key file holds, or the beginning of what is too long for one. Raises `StorageError`."""
    try:
        with os.fdopen(open_to_read(path), "rb") as file:
            return file.read(_FILE_LENGTH + 1)
    except OSError as error:
        raise StorageError(f"Cannot read the key file {path}: {error.strerror or error}.") from error


def unlock(path: Path, password: bytearray) -> tuple[bytes, Cost]:
    """Return the 32-byte key kept in `path`, and its cost.

    Raises `StorageError`; for a wrong password, `WrongPasswordError`.
    """
    whole = read(path)
    if whole.startswith(UNCOMMITTED):
        raise StorageError(
            f"The key file {path} is of the first version, which could be made to open under several passwords, and is "
            f"not opened any more. Bring it over with scripts/commit_keys.py, which comes with the source."
        )
    body, checksum = whole[:-_CHECKSUM_LENGTH], whole[-_CHECKSUM_LENGTH:]
    if len(whole) != _FILE_LENGTH or hashlib.sha256(body).digest() != checksum:
        raise StorageError(f"The key file {path} is damaged. Put a backup back; without it nothing opens the vault.")
    wrapped = body.removeprefix(_HEAD)
    if wrapped == body:
        raise StorageError(f"The key file {path} is of a version that this program does not know.")
    try:
        return bytes(unwrap(wrapped, password, context=_HEAD)), cost_of(wrapped)
    except WrongPasswordError:
        raise WrongPasswordError(f"The password does not open the vault {path.with_suffix('')}.") from None
    except StorageError as error:
        raise StorageError(f"The key file {path} cannot be used. {error}") from None
