"""A sealed file opens as it was, in one piece, under its key and its id; and nothing else of it does."""

import hmac
import tracemalloc
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import Buffer

from securechat.client.files.sealing import DamagedFileError, Digest, new_key, seal, unseal
from securechat.errors import UsageError
from securechat.wire.blobs import CHUNK_BYTES, FLOOR, blob_length
from securechat.wire.limits import BLOB_ID_LENGTH

KEY, BLOB = bytes(range(32)), bytes(range(100, 100 + BLOB_ID_LENGTH))
PLAIN, CHUNK = CHUNK_BYTES, CHUNK_BYTES + 16
LONG = bytes(range(256)) * 800  # four chunks


def sealed(data: bytes, key: bytes = KEY, blob: bytes = BLOB) -> bytes:
    target = BytesIO()
    assert seal(BytesIO(data), target, key, blob, len(data)) == digest_of(data)
    return target.getvalue()


def digest_of(data: bytes) -> Digest:
    return Digest(len(data), sha256(data).digest())


def opened(data: bytes, of: bytes, key: bytes = KEY, blob: bytes = BLOB) -> bytes:
    target = BytesIO()
    unseal(BytesIO(data), target, key, blob, digest_of(of))
    return target.getvalue()


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 for one block, written out from RFC 5869: without salt it extracts under 32 zeros."""
    return hmac.digest(hmac.digest(bytes(32), key, "sha256"), info + b"\x01", "sha256")


def test_the_form_is_the_one_that_is_written_down() -> None:
    """By hand, of a file of two chunks: another client is written by the docstring."""
    data = LONG[: PLAIN + 5]
    found = sealed(data)
    assert found[:32] == expand(KEY, b"securechat file v1 commitment" + BLOB)
    aead = AESGCM(expand(KEY, b"securechat file v1 key" + BLOB))
    first, second = found[32 : 32 + CHUNK], found[32 + CHUNK :]
    assert aead.decrypt(bytes(12), first, b"securechat file v1" + BLOB + b"\0") == data[:PLAIN]
    rest = aead.decrypt(bytes(11) + b"\1", second, b"securechat file v1" + BLOB + b"\1")
    assert rest == data[PLAIN:].ljust(len(rest), b"\0")
    assert len(found) == 32 + 67_584 + 2 * 16


def test_a_known_file_has_a_known_form() -> None:
    assert sha256(sealed(b"hello")).hexdigest() == KNOWN_SHORT
    assert sha256(sealed(LONG)).hexdigest() == KNOWN_LONG


KNOWN_SHORT = "68ad1826efaaf4e6a191ab168373b00515a990f35fbe8b2e80c51ffc6e57fe80"
KNOWN_LONG = "4cf2d87f9dbaf6752bc318d8ad6c3c13e746e8a95732e5b3124d806d951d65d7"
SIZES = sorted(
    {0, 1, FLOOR, *(n * PLAIN + d for n in (1, 2, 3) for d in (-17, -16, -1, 0, 1, 16, 17)),
     *(FLOOR + d for d in (-1, 1))}
)  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_size_comes_out_as_it_went_in(size: int) -> None:
    data = LONG[:size]
    found = sealed(data)
    assert len(found) == blob_length(size)
    assert opened(found, data) == data


def swapped(data: bytes) -> bytes:
    first, second = data[32 : 32 + CHUNK], data[32 + CHUNK : 32 + 2 * CHUNK]
    return data[:32] + second + first + data[32 + 2 * CHUNK :]


ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "cut to nothing": lambda _: b"",
    "cut in its commitment": lambda data: data[:31],
    "cut before its chunks": lambda data: data[:32],
    "cut by a byte": lambda data: data[:-1],
    "cut by a chunk": lambda data: data[: 32 + 2 * CHUNK],
    "cut in a tag": lambda data: data[: 32 + CHUNK - 5],
    "a byte more": lambda data: data + b"\0",
    "a chunk more": lambda data: data + data[32 : 32 + CHUNK],
    "chunks in another order": swapped,
    "a chunk twice": lambda data: data[: 32 + CHUNK] + data[32 : 32 + CHUNK] + data[32 + 2 * CHUNK :],
    "a chunk left out": lambda data: data[:32] + data[32 + CHUNK :],
    "another commitment": lambda data: bytes(32) + data[32:],
    "of another key": lambda _: sealed(LONG, new_key()),
    "of another id": lambda _: sealed(LONG, blob=bytes(16)),
    "chunks of another id": lambda data: data[:32] + sealed(LONG, blob=bytes(16))[32:],
    "another file": lambda _: sealed(LONG[::-1]),
    "a shorter file": lambda _: sealed(LONG[:-1]),
    "a longer file": lambda _: sealed(LONG + b"x"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_whatever_is_done_to_a_sealed_file_is_noticed(what: str) -> None:
    good = sealed(LONG)
    assert opened(good, LONG) == LONG
    with pytest.raises(DamagedFileError):
        opened(ALTERED[what](good), LONG)


@given(st.integers(0, blob_length(len(LONG)) - 1), st.integers(1, 255))
def test_no_byte_can_be_another_one(at: int, change: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= change
    with pytest.raises(DamagedFileError):
        opened(bytes(data), LONG)


GOOD = sealed(LONG)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (Digest(len(LONG), bytes(32)), "its content is not the one"),
        (Digest(len(LONG) - 1, sha256(LONG[:-1]).digest()), "longer than the message says"),
    ],
)
def test_a_file_has_the_size_and_the_digest_that_its_message_names(found: Digest, why: str) -> None:
    """A sender that lies about them: its own encryption is right."""
    with pytest.raises(DamagedFileError, match=why):
        unseal(BytesIO(GOOD), BytesIO(), KEY, BLOB, found)


def test_a_size_that_has_another_blob_length_is_refused() -> None:
    for size in (0, 1, 1 << 40):
        with pytest.raises(DamagedFileError):
            unseal(BytesIO(GOOD), BytesIO(), KEY, BLOB, Digest(size, sha256(LONG).digest()))


def test_of_two_keys_one_is_committed_to() -> None:
    """AES-GCM alone does not tell: what opens under one key may be made to open under another."""
    with pytest.raises(DamagedFileError, match="not encrypted under the key"):
        opened(sealed(b"hello"), b"hello", key=new_key())


def test_a_file_that_shrinks_while_it_is_read_is_not_sent() -> None:
    with pytest.raises(UsageError, match="shorter"):
        seal(BytesIO(LONG), BytesIO(), KEY, BLOB, len(LONG) + 1)


def test_who_follows_the_progress_can_end_the_work() -> None:
    told: list[int] = []
    seal(BytesIO(LONG), BytesIO(), KEY, BLOB, len(LONG), told.append)
    assert told == [PLAIN, 2 * PLAIN, 3 * PLAIN, len(LONG)]

    def end(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unseal(BytesIO(GOOD), BytesIO(), KEY, BLOB, digest_of(LONG), end)


class Zeros(BytesIO):
    """A long file that takes no room."""

    def read(self, size: int | None = -1) -> bytes:
        return bytes(size or 0)


class Nowhere(BytesIO):
    def write(self, data: Buffer) -> int:
        return memoryview(data).nbytes


def test_memory_holds_a_few_chunks_however_large_a_file_is() -> None:
    source, target = Zeros(), Nowhere()
    peaks = []
    for size in (1 << 20, 1 << 25):
        tracemalloc.start()
        seal(source, target, KEY, BLOB, size)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 8 * CHUNK


def test_keys_are_fresh() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert len(new_key()) == 32
