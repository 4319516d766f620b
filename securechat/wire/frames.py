"""Frames: a `u32` big-endian length, then one MessagePack message (docs/design.md, section 4).

A length is checked as soon as its four bytes are there, before anything is kept for it; a first byte that is not 0
shows at once that somebody speaks another protocol, since no frame is as long as 16 MiB. Fields are positional, so a
message has no duplicate or unknown ones; the typed decoder goes no deeper than the message table does.
"""

import struct
from collections.abc import Iterable, Iterator

import msgspec

from securechat.errors import DecodeError, InternalError
from securechat.wire.limits import MAX_FRAME
from securechat.wire.messages import Message

_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()


def encode_frame(message: Message) -> bytes:
    """Return the frame that carries `message`. Raises `InternalError` if nobody could receive it."""
    return encode_frames((message,))


def encode_frames(messages: Iterable[Message]) -> bytes:
    """Return the frames of messages that follow each other. Raises `InternalError` if nobody could receive one."""
    encode, pack = _encoder.encode, _LENGTH.pack
    frames = []
    for message in messages:
        body = encode(message)
        if len(body) > MAX_FRAME:
            name = type(message).__name__
            raise InternalError(f"a {name} of {len(body):,} bytes, where each receiver takes {MAX_FRAME:,} at most")
        frames.append(pack(len(body)))
        frames.append(body)
    return b"".join(frames)


class FrameReader:
    """Cuts a stream of bytes into frames.

    `limit` is the largest body accepted, in bytes; it may change between two frames. What is kept between two calls of
    `receive` is at most one incomplete frame.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._partial = bytearray()
        self._needed = 0  # bytes of `_partial` with which `receive` can go on

    @property
    def unfinished(self) -> int:
        """Bytes kept of an incomplete frame."""
        return len(self._partial)

    def receive(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Take bytes from the peer; yield the body of each frame that they complete.

        Raises `DecodeError` at what cannot be a frame; nothing may be received after that. Exhaust the iterator before
        the next call.
        """
        if self._partial:
            self._partial += data  # grows in place: a frame that drips in costs time in proportion to its size
            if len(self._partial) < self._needed:
                return
            data, self._partial = self._partial, bytearray()
        start, available = 0, len(data)
        while available - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, start)
            if length > self.limit:
                raise DecodeError(_refusal(data[start], length, self.limit))
            body = start + _LENGTH.size
            end = body + length
            if end > available:
                self._needed = end - start
                break
            start = end
            yield data[body:end] if isinstance(data, bytes) else bytes(memoryview(data)[body:end])
        else:
            if start < available and data[start] != 0:
                raise DecodeError(_refusal(data[start], 0, self.limit))
            self._needed = _LENGTH.size
        self._partial += data[start:]


def _refusal(first_byte: int, length: int, limit: int) -> str:
    if first_byte != 0:
        return "this is not the securechat protocol"
    return f"a message of {length} bytes, where {limit} are allowed"


def peek(body: bytes) -> tuple[str, int | None]:
    """Return the name of the message in `body` and its id, if the second field can be one.

    For messages of an unknown type, of which nothing else is parsed. Raise `DecodeError` if `body` does not begin like
    a message.
    """
    if not body:
        raise DecodeError("an empty message")
    if not 0x91 <= body[0] <= 0x9F:  # an array of 1 to 15 elements: no message has more
        raise DecodeError("a message is an array that begins with its name")
    if len(body) < 2 or not 0xA1 <= body[1] <= 0xBF:  # a string of 1 to 31 bytes
        raise DecodeError("a message begins with its name")
    position = 2 + (body[1] & 0x1F)
    name = body[2:position]
    if len(name) != body[1] & 0x1F or not name.isalnum():  # ASCII letters and digits
        raise DecodeError("a message begins with its name")
    return name.decode("ascii"), _peek_id(body[position : position + 5]) if body[0] > 0x91 else None


def _peek_id(field: bytes) -> int | None:
    if field and field[0] < 0x80:
        return field[0]
    size = {0xCC: 1, 0xCD: 2, 0xCE: 4}.get(field[0], 0) if field else 0
    return int.from_bytes(field[1 : 1 + size], "big") if size and len(field) > size else None
