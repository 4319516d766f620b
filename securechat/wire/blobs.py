"""How long a blob is: a file as it lies at the server, encrypted in chunks (docs/protocol.md, Blobs).

    blob     = commitment[32] chunk*
    chunk    = ciphertext[n] tag[16]        n = 65,536 but in the last one
    the n together = padded(size)           of a file of `size` bytes

The server sees the length of a blob, and learns `padded(size)` by it.
"""

from securechat.padding import padme
from securechat.wire.limits import MAX_BLOB, MIN_BLOB

COMMITMENT_LENGTH = 32
"""Bytes before the first chunk."""

CHUNK_BYTES = 64 << 10
"""Bytes of the padded file in each chunk but the last."""

TAG_LENGTH = 16
"""Bytes that encryption adds to a chunk."""

FLOOR = 4096
"""Bytes that each file is padded to at least: a block of most disks."""


def padded(size: int) -> int:
    """Return to how many bytes a file of `size` bytes is padded."""
    return padme(max(size, FLOOR))


def blob_length(size: int) -> int:
    """Return how many bytes the blob of a file of `size` bytes has."""
    length = padded(size)
    return COMMITMENT_LENGTH + length + TAG_LENGTH * -(-length // CHUNK_BYTES)


def part_length(offset: int, chunks: int, length: int) -> int:
    """Return how many bytes a part of so many whole chunks has, of a blob of `length` bytes, if it begins at `offset`.

    The first part brings the commitment with it; the last one ends with the blob.
    """
    return min(chunks * (CHUNK_BYTES + TAG_LENGTH) + (0 if offset else COMMITMENT_LENGTH), length - offset)


def whole_part(offset: int, length: int) -> int:
    """Return the last place up to `offset` at which a part of a blob of `length` bytes can begin, or its end."""
    if offset >= length:
        return length
    chunks = (offset - COMMITMENT_LENGTH) // (CHUNK_BYTES + TAG_LENGTH)
    return COMMITMENT_LENGTH + chunks * (CHUNK_BYTES + TAG_LENGTH) if chunks > 0 else 0


def is_blob_length(length: int) -> bool:
    """Whether a blob can have this many bytes: one that was not padded has others."""
    if not MIN_BLOB <= length <= MAX_BLOB:
        return False
    chunks = -(-(length - COMMITMENT_LENGTH) // (CHUNK_BYTES + TAG_LENGTH))
    return blob_length(length - COMMITMENT_LENGTH - TAG_LENGTH * chunks) == length
