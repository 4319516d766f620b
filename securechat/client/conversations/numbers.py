"""The number of a submission, in the authenticated data of its MLS message (docs/design.md, section 4)."""

from typing import Final

from securechat.errors import PeerError
from securechat.mls.framing import ContentType, Header
from securechat.wire.limits import MAX_COUNT

NUMBER_LENGTH: Final = 8
"""Bytes of a number in the authenticated data (`uint64`)."""


def encode_number(number: int) -> bytes:
    """Return the MLS authenticated data of the submission `number`."""
    return number.to_bytes(NUMBER_LENGTH, "big")


def decode_number(header: Header) -> int:
    """Return the number in an entry's authenticated data. Raises `PeerError`."""
    authenticated_data = header.authenticated_data
    if header.content_type == ContentType.PROPOSAL:
        authenticated_data = authenticated_data[:NUMBER_LENGTH]  # the leaf follows it: `policy.departure_data`
    if len(authenticated_data) != NUMBER_LENGTH:
        raise PeerError("an entry without a number")
    number = int.from_bytes(authenticated_data, "big")
    if number > MAX_COUNT:
        raise PeerError("an entry with an impossible number")
    return number
