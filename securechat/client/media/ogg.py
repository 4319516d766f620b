"""The outside of a voice note: one stream of Opus with one channel, in pages. RFC 3533; RFC 7845.

Looked at before anything decodes it, and without decoding: what is laid out otherwise never gets there, and how long it
is is known.
"""

import struct
from typing import Final

from securechat.errors import DecodeError

_PAGE: Final = struct.Struct("<4sBBqIIIB")  # pattern, version, type, granule position, serial, number, CRC, segments
_HEAD: Final = struct.Struct("<8sBBHIhB")  # magic, version, channels, samples to skip, rate, gain, mapping family
_CONTINUED: Final = 1  # a bit of a page's type: it goes on with a packet
_FIRST: Final = 2  # another: its stream begins
_NOTHING_ENDS: Final = -1  # the granule position of a page on which no packet ends
RATE: Final = 48_000
"""Units of a granule position a second."""


def length_of(data: bytes) -> int:
    """Return the length of a voice note in samples, RATE a second. Raises `DecodeError`; nothing is decoded.

    Checksums are not compared: who makes the rest can make them.
    """
    at, number, stream, skipped, end = 0, 0, -1, 0, 0
    while at < len(data):
        if len(data) - at < _PAGE.size:
            raise DecodeError("the recording ends within a page")
        pattern, version, kind, granule, serial, count, _, segments = _PAGE.unpack_from(data, at)
        body = at + _PAGE.size + segments
        at = body + sum(data[at + _PAGE.size : body])
        if pattern != b"OggS" or version or at > len(data):
            raise DecodeError("the recording is no series of Ogg pages")
        if number == 0:
            stream, skipped = serial, _head(kind, data[body:at])
        elif kind & _FIRST or serial != stream:
            raise DecodeError("the recording has more than one stream")
        elif number == 1 and (kind & _CONTINUED or data[body : body + 8] != b"OpusTags"):
            raise DecodeError("the recording has no tags")
        if count != number:
            raise DecodeError("a page of the recording is missing")
        if granule != _NOTHING_ENDS:
            if granule < end:
                raise DecodeError("the pages of the recording are out of order")
            end = granule
        number += 1
    if number < 3 or end <= skipped:
        raise DecodeError("there is nothing in the recording")
    return end - skipped


def _head(kind: int, packet: bytes) -> int:
    """Check the first page. Return how many samples are decoded and not played: RFC 7845, section 4.2."""
    if not kind & _FIRST or len(packet) != _HEAD.size:
        raise DecodeError("the recording is not Opus")
    magic, version, channels, skipped, _, _, mapping = _HEAD.unpack(packet)
    if magic != b"OpusHead" or version >> 4:
        raise DecodeError("the recording is not Opus")
    if channels != 1 or mapping:
        raise DecodeError("the recording has more than one channel")
    return int(skipped)
