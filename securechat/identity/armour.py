"""Armour: bytes as one line of letters, to be pasted, printed or read out, with a checksum that finds slips.

    prefix base32(uint8 version; uint16 length; opaque body[length]; opaque checksum[4])    lower case, no padding

The prefix says what the line is, and ends with a digit that is no letter of base32. The checksum is the beginning of
SHA-256 over a label and all bytes before it. It proves nothing.
"""

import hashlib
from typing import Final

from securechat.errors import UsageError
from securechat.tlscodec import Writer
from securechat.value import value

MAX_TEXT: Final = 4096
"""Characters that are looked at, spaces and line breaks included: more is another file."""

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_VALUES: Final = {letter: value for value, letter in enumerate(_LETTERS)}
_HEAD: Final = 3
"""Bytes before the body: version and length."""
_CHECKSUM: Final = 4

_AGAIN: Final = "Copy it again, from its beginning to its end."
_MARGIN: Final = "┃"
"""What our own terminal client draws before each row of a broken line but the first: it is copied with the line."""


class CutOffError(UsageError):
    """A line whose end is missing."""


@value
class Armour:
    """One kind of line: what people call it, how it begins, and what its checksum covers besides the bytes."""

    name: str
    prefix: str
    label: bytes
    version: int = 1

    def encode(self, body: bytes) -> str:
        """Return the line that holds `body`, at most 65,535 bytes."""
        data = bytes(Writer().u8(self.version).u16(len(body)).opaque(body))
        return self.prefix + _letters(data + self._checksum(data))

    def decode(self, text: str) -> bytes:
        """Return the body of a line. Spaces, line breaks, capitals and `_MARGIN` are forgiven.

        Raises `UsageError`, which says what is wrong and quotes nothing; `CutOffError` if the rest may yet come.
        """
        if len(text) > MAX_TEXT:
            raise UsageError(f"This is no {self.name}: it is much longer than one.")
        compact = "".join(text.replace(_MARGIN, "").split()).lower()
        if not compact.startswith(self.prefix):
            if compact and self.prefix.startswith(compact):
                raise self._cut_off()
            raise UsageError(f"This is no {self.name}: one begins with {self.prefix}.")
        letters = compact.removeprefix(self.prefix)
        wrong = next((place for place, letter in enumerate(letters, 1) if letter not in _VALUES), 0)
        if wrong:
            raise UsageError(
                f"This {self.name} has a character that belongs to none, {wrong} after {self.prefix}. {_AGAIN}"
            )
        data = _bytes(letters)
        if len(data) < _HEAD:
            raise self._cut_off()
        if not 1 <= data[0] <= self.version:
            raise UsageError(
                f"This {self.name} is of another version of securechat, or damaged. Update, or copy it again."
            )
        whole = _HEAD + int.from_bytes(data[1:_HEAD], "big") + _CHECKSUM
        expected = -(-whole * 8 // 5)
        if len(letters) < expected:
            raise self._cut_off()
        if len(letters) > expected:
            raise UsageError(f"This {self.name} goes on after its end. {_AGAIN}")
        if data[-_CHECKSUM:] != self._checksum(data[:-_CHECKSUM]) or _letters(data) != letters:
            raise UsageError(f"A character of this {self.name} is wrong. {_AGAIN}")
        if data[0] != self.version:
            raise UsageError(
                f"This {self.name} is of an older version, which is not read any more. Make a new one with the command "
                "that made it."
            )
        return data[_HEAD:-_CHECKSUM]

    def _checksum(self, data: bytes) -> bytes:
        return hashlib.sha256(self.label + data).digest()[:_CHECKSUM]

    def _cut_off(self) -> CutOffError:
        return CutOffError(f"This {self.name} is cut off. {_AGAIN}")


def _letters(data: bytes) -> str:
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (5 * count - 8 * len(data))
    return "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(count)))


def _bytes(letters: str) -> bytes:
    """Return the whole bytes in the letters; bits beyond them are left to the comparison with `_letters`."""
    number = 0
    for letter in letters:
        number = number << 5 | _VALUES[letter]
    size, rest = divmod(5 * len(letters), 8)
    return (number >> rest).to_bytes(size, "big")
