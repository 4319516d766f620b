"""The small file beside a vault that keeps the vault's key, wrapped under the user's password.

    key file = magic[4] version[1] time[4] memory[4] lanes[1] salt[16] nonce[12] wrapped_key[48] checksum[32]

The vault's key is 32 random bytes. It is sealed with AES-256-GCM under Argon2id(password, salt); everything before
`wrapped_key` is the associated data. The checksum (SHA-256) only tells damage from a wrong password: an attacker can
recompute it, and gains nothing by that. Changing the password rewrites this file and leaves the database alone.
"""

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securechat.errors import StorageError
from securechat.files import write_atomically

KEY_LENGTH: Final = 32
"""Bytes of the vault's key: AES-256 inside SQLCipher."""

_MAGIC: Final = b"SCvk"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(">4sBIIB16s12s")
_WRAPPED_LENGTH: Final = KEY_LENGTH + 16
_CHECKSUM_LENGTH: Final = 32
_FILE_LENGTH: Final = _HEADER.size + _WRAPPED_LENGTH + _CHECKSUM_LENGTH


class WrongPasswordError(StorageError):
    """The password does not open this vault."""


@dataclass(frozen=True)
class Cost:
    """What one guess at the password costs: Argon2id passes, KiB of memory, lanes."""

    time: int
    memory: int
    lanes: int


INTERACTIVE: Final = Cost(time=3, memory=64 << 10, lanes=4)
"""The second recommendation of RFC 9106, section 4: a tenth of a second on a laptop, 64 MiB."""

_MOST: Final = Cost(time=64, memory=1 << 20, lanes=16)
"""More than this (1 GiB) in a file is damage or an attempt to exhaust us: we never choose it."""


def create(path: Path, password: str, *, cost: Cost = INTERACTIVE) -> bytes:
    """Make a key, keep it wrapped in `path`, return its 32 bytes. Raises `StorageError`."""
    key = os.urandom(KEY_LENGTH)
    header = _HEADER.pack(_MAGIC, _VERSION, cost.time, cost.memory, cost.lanes, os.urandom(16), os.urandom(12))
    body = header + _wrapping(password, header).encrypt(header[-12:], key, header)
    write_atomically(path, body + hashlib.sha256(body).digest())
    return key


def unlock(path: Path, password: str) -> bytes:
    """Return the 32-byte key kept in `path`. Raises `StorageError`; for a wrong password, `WrongPasswordError`."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LENGTH + 1)
    except OSError as error:
        raise StorageError(f"Cannot read the key file {path}: {error.strerror or error}.") from error
    body, checksum = content[:-_CHECKSUM_LENGTH], content[-_CHECKSUM_LENGTH:]
    if len(content) != _FILE_LENGTH or hashlib.sha256(body).digest() != checksum:
        raise StorageError(f"The key file {path} is damaged. Put a backup back; without it nothing opens the vault.")
    header, wrapped = body[: _HEADER.size], body[_HEADER.size :]
    magic, version, *_ = _HEADER.unpack(header)
    if magic != _MAGIC or version != _VERSION:
        raise StorageError(f"The key file {path} is of a version that this program does not know.")
    try:
        return _wrapping(password, header).decrypt(header[-12:], wrapped, header)
    except InvalidTag:
        raise WrongPasswordError(f"The password does not open the vault {path.with_suffix('')}.") from None


def _wrapping(password: str, header: bytes) -> AESGCM:
    """Return the cipher that wraps the key. Bounds the cost first, because it comes from the file."""
    _magic, _version, time, memory, lanes, salt, _nonce = _HEADER.unpack(header)
    if not (1 <= time <= _MOST.time and 1 <= lanes <= _MOST.lanes and 8 * lanes <= memory <= _MOST.memory):
        raise StorageError("The key file asks for more memory or time than this program grants.")
    return AESGCM(
        hash_secret_raw(
            password.encode(),
            salt,
            time_cost=time,
            memory_cost=memory,
            parallelism=lanes,
            hash_len=32,
            type=Type.ID,
        )
    )
