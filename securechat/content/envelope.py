"""The envelope: a body's bytes, its kind, and the place in the log that its sender had reached.

The place is the newest entry the sender had processed, with its chain value, so that receivers can tell whether the
server shows everybody the same log. The kind stands beside the body's own bytes: a client that does not know it yet
parses none of them. One value has one encoding.
"""

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from securechat.content.registry import MAX_NAME, Body, Name, Unknown, decode_body, encode_body, with_name
from securechat.errors import DecodeError, UsageError
from securechat.padding import padme
from securechat.tlscodec import encode_varint
from securechat.wire.limits import CHAIN_LENGTH, MAX_COUNT, MAX_TIME

FLOOR: Final = 256
"""Bytes, length included, that any content is padded to at least: a text of about 190 bytes, two lines of a screen.
Most of what people write to each other is shorter, and Padmé alone tells short texts apart: it rounds a "no" to 57
bytes and an "I love you" to 66."""

_Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Time = Annotated[int, Meta(ge=0, le=MAX_TIME)]


class Envelope(NamedTuple):
    """One application message before encryption. Printing one shows its place and what kind of body it holds."""

    seq: int
    """The newest entry its sender had processed in this conversation."""
    chain: bytes
    """chain_seq as the sender computed it, 32 bytes."""
    sent: int
    """Milliseconds since 1970, by the sender's clock."""
    body: Body | Unknown

    def __repr__(self) -> str:
        """Show the place and the kind of body."""
        return f"Envelope(seq={self.seq}, {self.body!r})"


class _Outer(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    seq: _Count
    chain: Annotated[bytes, Meta(min_length=CHAIN_LENGTH, max_length=CHAIN_LENGTH)]
    sent: _Time
    kind: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    data: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_outer: Final = msgspec.msgpack.Decoder(_Outer).decode


def encode(envelope: Envelope) -> bytes:
    """Return the bytes to encrypt. Raises `UsageError` for a body that exceeds its limits."""
    return _encode(_Outer(envelope.seq, envelope.chain, envelope.sent, *encode_body(envelope.body)))


def decode(content: bytes) -> Envelope:
    """Return the envelope in decrypted bytes. Raises `DecodeError`."""
    try:
        outer = _decode_outer(content)
        body = decode_body(outer.kind, outer.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"The content of a message is damaged: {error}.") from None
    envelope = Envelope(outer.seq, outer.chain, outer.sent, body)
    try:
        canonical = encode(envelope)
    except UsageError as error:
        raise DecodeError(f"The content of a message cannot be shown: {error}") from None
    if canonical != content:
        raise DecodeError("The content of a message is not in its one encoding.")
    return envelope


def unplaced(body: tuple[str, bytes], sent: int) -> bytes:
    """Return the content of our own message before its place is known; `body`: what `encode_body` returned."""
    return _encode(_Outer(0, bytes(CHAIN_LENGTH), sent, *body))


def place(content: bytes, seq: int, chain: bytes, about: Name | None = None) -> bytes:
    """Return our own content with the place that its sender has reached: what was said waits without one.

    `about`: the name of the message that it is about, if it is about one.
    """
    outer = _decode_outer(content)
    outer.seq, outer.chain = seq, chain
    if about is not None:
        outer.data = with_name(outer.kind, outer.data, about)
    return _encode(outer)


def padding(length: int) -> int:
    """Return how many zero bytes to add to content of `length` bytes: up to FLOOR, above it Padmé (`padding`).

    What is rounded up is the content with the length before it (a vector of RFC 9420): that one's size differs as well.
    """
    whole = len(encode_varint(length)) + length
    return max(FLOOR, padme(whole)) - whole
