"""Blobs, as a client of the wire alone sends and fetches them."""

import os
from typing import Any

from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.blobs import blob_length

PART = 64 << 10
"""Bytes of a part, as a client sends them where the connection is slow."""


def bytes_of(size: int = 100_000) -> bytes:
    """What a blob of a file of `size` bytes could be."""
    return os.urandom(blob_length(size))


def begin(person: Any, conversation: bytes, blob: bytes, data: bytes) -> Any:
    return person.ask(m.StartBlob, conversation, blob, len(data))


def put(person: Any, conversation: bytes, blob: bytes, data: bytes, offset: int) -> Any:
    """Send the part of `data` that is at an offset."""
    part = data[offset : offset + PART]
    return person.ask(m.PutBlob, conversation, blob, offset, part)


def upload(person: Any, conversation: bytes, data: bytes, blob: bytes = b"", *, upto: int | None = None) -> bytes:
    """Send a blob, or the beginning of it; return its id."""
    blob = blob or os.urandom(limits.BLOB_ID_LENGTH)
    state = begin(person, conversation, blob, data)
    assert isinstance(state, m.BlobState), state
    while state.offset < (len(data) if upto is None else upto):
        state = put(person, conversation, blob, data, state.offset)
        assert isinstance(state, m.BlobState), state
    return blob


def fetch(person: Any, conversation: bytes, blob: bytes, offset: int = 0, length: int = PART) -> Any:
    return person.ask(m.FetchBlob, conversation, blob, offset, length)


def download(person: Any, conversation: bytes, blob: bytes) -> bytes:
    """Fetch all of a blob."""
    data = b""
    while True:
        reply = fetch(person, conversation, blob, len(data))
        assert isinstance(reply, m.BlobBytes), reply
        data += reply.data
        if len(data) == reply.size:
            return data
