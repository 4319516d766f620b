"""The number of a submission, in the authenticated data of its MLS message (docs/design.md, section 4).

A commit says there, too, when it was made, by its maker's clock: a state that an owner has signed lately is no old one.
"""

from typing import Final

from securechat.errors import PeerError
from securechat.mls.framing import ContentType, Header
from securechat.wire.limits import COMMIT_DATA_LENGTH, MAX_COUNT, MAX_TIME

NUMBER_LENGTH: Final = 8
"""Bytes of a number in the authenticated data (`uint64`)."""


def encode_number(number: int) -> bytes:
    """Return the MLS authenticated data of the submission `number`."""
    return number.to_bytes(NUMBER_LENGTH, "big")


def encode_commit(number: int, time: int) -> bytes:
    """Return the MLS authenticated data of the commit `number`, made at `time` (ms since 1970)."""
    return encode_number(number) + time.to_bytes(8, "big")


def decode_time(authenticated_data: bytes) -> int:
    """Return when a commit was made, by its maker's clock (ms since 1970). Raises `PeerError`."""
    time = int.from_bytes(authenticated_data[NUMBER_LENGTH:], "big")
    if len(authenticated_data) != COMMIT_DATA_LENGTH or time > MAX_TIME:
        raise PeerError("a commit that does not say when it was made")
    return time


def decode_number(header: Header) -> int:
    """Return the number in an entry's authenticated data. Raises `PeerError`."""
    authenticated_data = header.authenticated_data
    if header.content_type == ContentType.COMMIT:
        decode_time(authenticated_data)
    if header.content_type != ContentType.APPLICATION:
        authenticated_data = authenticated_data[:NUMBER_LENGTH]  # more follows it: here, and in `policy.departure_data`
    if len(authenticated_data) != NUMBER_LENGTH:
        raise PeerError("an entry without a number")
    number = int.from_bytes(authenticated_data, "big")
    if number > MAX_COUNT:
        raise PeerError("an entry with an impossible number")
    return number
