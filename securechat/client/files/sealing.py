"""A file as the server has it: a commitment to its key, and chunks that are encrypted one by one.

    key         32 bytes at random, for this file alone; blob: the id of the blob, 16 bytes at random
    derived     HKDF-SHA256(key, no salt, info = "securechat file v1 key" or "... commitment", then the blob's id)
    sealed      commitment[32] chunk chunk ... chunk
    chunk       AES-256-GCM: 65,536 bytes of plaintext, the last one what is left, and a tag of 16
    nonce       the chunk's number from 0, as 12 bytes
    associated  "securechat file v1", the blob's id, and a byte: 1 in the last chunk, else 0
    plaintext   the file, then zeros up to `padded` bytes (`wire.blobs`): at least 4,096, and what Padmé rounds to

How long it is follows from the file's size. So a receiver knows what will come before the first byte, and the server
sees a length that many files share.

A key encrypts one file, read once: who has to send a file again sends the same sealed bytes, since under the same key
and nonce other bytes would show what both have in common. Chunks can be read in their places alone: moved, left out,
added, cut off or taken from another blob they do not open. The commitment is compared first, since AES-GCM ciphertexts
can be made that open under two keys; and what was opened has to have the digest that the message names.

Everything here is streamed: memory holds a few chunks, however large a file is.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import BinaryIO, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.content.registry import FILE_KEY_LENGTH
from securechat.errors import PeerError, UsageError
from securechat.value import value
from securechat.wire.blobs import CHUNK_BYTES, COMMITMENT_LENGTH, TAG_LENGTH, blob_length, padded

_LABEL: Final = b"securechat file v1"

Progress = Callable[[int], None]
"""Is told how many bytes of the file are done; what it raises ends the work."""


def _nothing(_done: int) -> None:
    """Tell nobody."""


class DamagedFileError(PeerError):
    """What came is not the file that the message names. The text says why, as the end of a sentence."""


@value
class Digest:
    """What a file is known by."""

    size: int
    digest: bytes  # SHA-256

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return that of a whole file."""
        return cls(len(data), sha256(data).digest())

    def check(self, data: bytes) -> None:
        """Raise `DamagedFileError` if a whole file is another one."""
        if self != Digest.of(data):
            raise _another()

    def copy(self, source: BinaryIO, target: BinaryIO | None, progress: Progress) -> None:
        """Read a whole file, and write it to `target`, if there is one.

        Raises `DamagedFileError` if it is another one, OSError, and what `progress` raises.
        """
        digest, done = sha256(), 0
        while done <= self.size and (data := source.read(CHUNK_BYTES)):
            digest.update(data)
            done += len(data)
            if target is not None:
                target.write(data)
            progress(done)
        if (done, digest.digest()) != (self.size, self.digest):
            raise _another()


def _another() -> "DamagedFileError":
    return DamagedFileError("its content is not the one that the message names")


def seal(
    source: BinaryIO, target: BinaryIO, key: bytes, blob: bytes, size: int, progress: Progress = _nothing
) -> Digest:
    """Write what `source` has, `size` bytes of it, to `target` as above. `key` is to be used this once.

    Raises `UsageError` if there is less, OSError, and what `progress` raises.
    """
    aead, commitment = _derive(key, blob)
    target.write(commitment)
    digest, done, number = sha256(), 0, 0
    left = padded(size)
    while left:
        room = min(left, CHUNK_BYTES)
        wanted = min(room, size - done)
        data = source.read(wanted) if wanted else b""
        if len(data) != wanted:
            raise UsageError("it has become shorter while it was read. Send it again.")
        digest.update(data)
        done += wanted
        left -= room
        target.write(aead.encrypt(_nonce(number), data.ljust(room, b"\0"), _associated(blob, last=not left)))
        number += 1
        progress(done)
    return Digest(done, digest.digest())


def unseal(
    source: BinaryIO, target: BinaryIO, key: bytes, blob: bytes, found: Digest, progress: Progress = _nothing
) -> None:
    """Write the file that is sealed in `source` to `target`, if it is the one of this size and digest.

    Raises `DamagedFileError`: then `target` may hold the beginning of the file, which nobody is to get. Raises OSError,
    and what `progress` raises.
    """
    aead, commitment = _derive(key, blob)
    _check_commitment(source.read(COMMITMENT_LENGTH), commitment)
    digest, done, number = sha256(), 0, 0
    left = padded(found.size)
    while left:
        room = min(left, CHUNK_BYTES)
        sealed = source.read(room + TAG_LENGTH)
        left -= room
        plain = _open(aead, number, sealed, _associated(blob, last=not left))
        wanted = min(len(plain), found.size - done)
        if plain[wanted:].strip(b"\0"):
            raise DamagedFileError("it is longer than the message says")
        data = memoryview(plain)[:wanted]
        digest.update(data)
        target.write(data)
        done += wanted
        number += 1
        progress(done)
    if source.read(1):
        raise DamagedFileError("there is more of it than the message says")
    if not hmac.compare_digest(digest.digest(), found.digest):
        raise DamagedFileError("its content is not the one that the message names")


def check_parts(parts: Sequence[bytes], offset: int, key: bytes, blob: bytes, size: int) -> None:
    """Raise `DamagedFileError` unless parts are those of a sealed file of `size` bytes from `offset` on.

    Each has a length of `wire.blobs.part_length`.
    """
    aead, commitment = _derive(key, blob)
    total = blob_length(size)
    for part in parts:
        view, at = memoryview(part), 0
        if not offset:
            _check_commitment(part[:COMMITMENT_LENGTH], commitment)
            at = COMMITMENT_LENGTH
        while at < len(part):
            number = (offset + at - COMMITMENT_LENGTH) // (CHUNK_BYTES + TAG_LENGTH)
            sealed = view[at : at + CHUNK_BYTES + TAG_LENGTH]
            at += len(sealed)
            _open(aead, number, sealed, _associated(blob, last=offset + at == total))
        offset += len(part)


def new_key() -> bytes:
    """Return a key for one file."""
    return os.urandom(FILE_KEY_LENGTH)


def _derive(key: bytes, blob: bytes) -> tuple[AESGCM, bytes]:
    """Return what encrypts under a file's key, and the commitment to it."""
    aead, commitment = (
        HKDF(SHA256(), 32, salt=None, info=_LABEL + what + blob).derive(key) for what in (b" key", b" commitment")
    )
    return AESGCM(aead), commitment


def _check_commitment(found: bytes, commitment: bytes) -> None:
    if not hmac.compare_digest(found, commitment):
        raise DamagedFileError("it was not encrypted under the key that the message has")


def _open(aead: AESGCM, number: int, sealed: bytes | memoryview, associated: bytes) -> bytes:
    """Return what a chunk holds. Raises `DamagedFileError`."""
    try:
        return aead.decrypt(_nonce(number), sealed, associated)
    except (InvalidTag, ValueError):  # the latter, if it is shorter than a tag
        raise DamagedFileError("its encryption was tampered with, or it is not whole") from None


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _associated(blob: bytes, *, last: bool) -> bytes:
    return _LABEL + blob + bytes([last])
