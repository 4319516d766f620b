"""The header of an encrypted frame (RFC 9605, section 4.3).

    config byte     X K K K Y C C C: the key's number and the frame's, or, where X or Y is set, their lengths less one
    KID             0 to 8 bytes, big-endian
    CTR             0 to 8 bytes, big-endian
"""

from typing import Final, Self

from securechat.errors import DecodeError
from securechat.value import value

MAX_VALUE: Final = 2**64 - 1
"""Of a KID or a CTR: eight bytes."""

MAX_HEADER_LENGTH: Final = 17
"""Bytes: the config byte and two values of eight."""

_EXTENDED: Final = 8  # in either half of the config byte: what follows in it is a length


@value
class Header:
    """Which key a frame is encrypted with, and which of that key's frames it is."""

    kid: int
    """0 to 2^64 - 1."""
    ctr: int
    """0 to 2^64 - 1."""

    def encode(self) -> bytes:
        """Return the one encoding: 1 to 17 bytes."""
        kid, kid_bytes = _field(self.kid)
        ctr, ctr_bytes = _field(self.ctr)
        return bytes([kid << 4 | ctr]) + kid_bytes + ctr_bytes

    @classmethod
    def decode(cls, frame: bytes) -> tuple[Self, int]:
        """Read the header with which a frame begins, and return it with its length in bytes.

        Raises `DecodeError` if it is cut short, or not in its shortest form.
        """
        if not frame:
            raise DecodeError("an encrypted frame is empty")
        values: list[int] = []
        at = 1
        for half in (frame[0] >> 4, frame[0] & 15):
            if half < _EXTENDED:
                values.append(half)
                continue
            length = half - _EXTENDED + 1
            if len(frame) < at + length:
                raise DecodeError("the header of an encrypted frame is cut short")
            values.append(int.from_bytes(frame[at : at + length], "big"))
            at += length
        header = cls(*values)
        if header.encode() != frame[:at]:
            raise DecodeError("the header of an encrypted frame is not in its shortest form")
        return header, at


def _field(number: int) -> tuple[int, bytes]:
    """Half of the config byte, and what follows it."""
    if number < _EXTENDED:
        return number, b""
    encoded = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return _EXTENDED | len(encoded) - 1, encoded
