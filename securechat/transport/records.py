"""TLS records, counted by their headers: those without content cost both sides, and bring nothing (RFC 8446, 5.1).

A `KeyUpdate` is the dearest: one of 27 bytes has OpenSSL derive new keys and answer in kind, and it takes any number.
So they are handed to it a few at a time, and who sends more of them than any honest program is given up.
"""

from securechat.errors import PeerError

RECORDS_AT_ONCE = 32
"""Records that OpenSSL gets in one piece: with nothing but key updates in them, about a millisecond of work."""

MAX_EMPTY_RECORDS = 32
"""Records without content that a peer may send. A handshake has up to ten; our programs send none after it."""

RECORDS_PER_EMPTY = 1024
"""Records that earn another one without content: a library that renews its keys does so after many more."""

_HEADER_BYTES = 5
"""Content type, version, and the length of what follows: two bytes."""


class RecordCounter:
    """Follows the records in what one peer sends, and counts them."""

    __slots__ = ("_header", "_left", "records", "with_content")

    def __init__(self) -> None:
        self.records = 0
        """Records that have come to their end, ever."""
        self.with_content = 0
        """Those of them that have had content: counted by who reads it."""
        self._header = b""  # the beginning of a header, less than _HEADER_BYTES
        self._left = 0  # bytes of the record's body that are still to come

    def advance(self, data: bytes, begin: int) -> int:
        """Follow `data` from `begin` on; return where the piece ends that is to be handed on now."""
        size = len(data)
        if not (begin or self._left or self._header or size < _HEADER_BYTES) and (
            size == _HEADER_BYTES + (data[3] << 8 | data[4])
        ):
            self.records += 1  # a lone record, as most are
            return size
        at, left, count = begin, self._left, 0
        while at < size and count < RECORDS_AT_ONCE:
            if not left:
                header = self._header + data[at : at + _HEADER_BYTES - len(self._header)]
                at += len(header) - len(self._header)
                if len(header) < _HEADER_BYTES:
                    self._header = header
                    break
                self._header = b""
                left = header[3] << 8 | header[4]
            if left > size - at:
                left -= size - at
                at = size
                break
            at += left
            left = 0
            count += 1
        self._left = left
        self.records += count
        return at

    def check(self) -> None:
        """Raise PeerError if too few of the records have had content."""
        if self.records - self.with_content > MAX_EMPTY_RECORDS + self.records // RECORDS_PER_EMPTY:
            raise PeerError("too many TLS records without content, such as key updates")
