"""What stands inside the encryption of an application message (design, section 4, Chain).

An envelope names the newest entry its sender had processed, so that receivers can tell whether the server shows
everybody the same log, and holds one body. The body's type stands beside the body's own bytes: a client that does not
know a type yet shows that something came, and parses none of it. One value has one encoding.
"""

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from securechat.errors import DecodeError, UsageError
from securechat.wire.limits import CHAIN_LENGTH

MAX_TEXT = 64 << 10
"""Bytes of one text in UTF-8: half of what fits into an entry (`wire.limits.MAX_PAYLOAD`), padding included."""

MAX_TYPE = 32
"""Characters of a body type's name."""

_U63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]


class Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Base of all bodies. Printing one shows no text."""

    def __repr__(self) -> str:
        """Show the type only."""
        return f"{type(self).__name__}(...)"


class Text(Body, frozen=True):
    """Something said."""

    text: _Text


class Request(Body, frozen=True):
    """Asks the other one of a direct conversation to talk; `text`, which may be empty, says why."""

    text: _Text = ""


class Accept(Body, frozen=True):
    """The answer yes to `Request`."""


class Decline(Body, frozen=True):
    """The answer no to `Request`: closes the direct conversation."""


class Bye(Body, frozen=True):
    """Ends a direct conversation once both have said it."""


class Unknown(NamedTuple):
    """A body of a type that this version does not know. Printing one shows neither."""

    type: str
    data: bytes

    def __repr__(self) -> str:
        """Show that there is one."""
        return "Unknown(...)"


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
    seq: _U63
    chain: Annotated[bytes, Meta(min_length=CHAIN_LENGTH, max_length=CHAIN_LENGTH)]
    sent: _U63
    type: Annotated[str, Meta(min_length=1, max_length=MAX_TYPE)]
    data: bytes


_BODIES: Final = {kind.__name__.lower(): kind for kind in (Text, Request, Accept, Decline, Bye)}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_outer: Final = msgspec.msgpack.Decoder(_Outer).decode
_decode_body: Final = {name: msgspec.msgpack.Decoder(kind).decode for name, kind in _BODIES.items()}


def check_text(text: str) -> None:
    """Raise `UsageError` if `text` cannot be sent as one message."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError("The text has characters that are not Unicode. Remove them and send it again.") from None
    if size > MAX_TEXT:
        raise UsageError(f"The text is {size:,} bytes long; one message takes {MAX_TEXT:,}. Send it in parts.")


def encode(envelope: Envelope) -> bytes:
    """Return the bytes to encrypt. Raises `UsageError` for a text that is too long or not Unicode."""
    body = envelope.body
    if isinstance(body, Unknown):
        kind, data = body
    else:
        check_text(getattr(body, "text", ""))
        kind, data = type(body).__name__.lower(), _encode(body)
    return _encode(_Outer(envelope.seq, envelope.chain, envelope.sent, kind, data))


def decode(content: bytes) -> Envelope:
    """Return the envelope in decrypted bytes. Raises `DecodeError`."""
    try:
        outer = _decode_outer(content)
        decode_body = _decode_body.get(outer.type)
        body = Unknown(outer.type, outer.data) if decode_body is None else decode_body(outer.data)
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


def padding(length: int) -> int:
    """Return how many zero bytes to add to content of `length` bytes: Padmé, at most 12 % (PURBs, section 4.2).

    It leaves O(log log) bits of the length visible where no padding leaves O(log).
    """
    if length < 2:
        return 0
    exponent = length.bit_length() - 1
    low_bits = (1 << (exponent - exponent.bit_length())) - 1
    return -length & low_bits
