"""Makes text from others harmless: it cannot move a cursor, colour a screen, turn its direction or hide anything.

Everything that a person did not type themselves passes through here before it is shown: messages, names, greetings,
error texts, and also lines read back from the vault. What is left is letters, marks, numbers, punctuation and symbols
that take up the space where they are, and line breaks where a text may have them.
"""

import unicodedata
from collections.abc import Iterator
from typing import Final

from precis_i18n.context import rule_zero_width_joiner, rule_zero_width_nonjoiner
from precis_i18n.unicode import UnicodeData

NOT_SHOWN: Final = "\N{REPLACEMENT CHARACTER}"
"""Stands for a control character, half a character, or one that this Unicode version does not know."""

MAX_MARKS: Final = 4
"""Combining marks kept on one character: the most stacked honest script needs no more; floods cover other lines."""

_NON_JOINER: Final = "\N{ZERO WIDTH NON-JOINER}"
_JOINER: Final = "\N{ZERO WIDTH JOINER}"
_JOINS: Final = {_NON_JOINER: rule_zero_width_nonjoiner, _JOINER: rule_zero_width_joiner}
"""Where a script needs them (RFC 5892, appendix A.1 and A.2): Persian between two letters, Indic after a virama."""

_NEARBY: Final = 8
"""Characters on each side of a joiner that are looked at: a letter and marks on it."""

_FIRST_EMOJI: Final = "\u2600"
_SKIN_TONES: Final = range(0x1F3FB, 0x1F400)

_UNICODE_DATA: Final = UnicodeData()

_DOTTED_CIRCLE: Final = "\N{DOTTED CIRCLE}"
"""Carries a mark that would otherwise attach to our own text."""

_TAB: Final = "    "

_INVISIBLE: Final = frozenset(
    chr(point)
    for first, last in (
        (0x034F, 0x034F),  # combining grapheme joiner
        (0x115F, 0x1160),  # Hangul fillers
        (0x17B4, 0x17B5),  # Khmer inherent vowels
        (0x180B, 0x180F),  # Mongolian variation selectors
        (0x2800, 0x2800),  # a Braille pattern without dots
        (0x3164, 0x3164),  # Hangul filler
        (0xFE00, 0xFE0F),  # variation selectors
        (0xFFA0, 0xFFA0),  # halfwidth Hangul filler
        (0xE0100, 0xE01EF),  # variation selectors supplement
    )
    for point in range(first, last + 1)
)
"""Characters that show nothing although their category says letter, mark or symbol (Default_Ignorable_Code_Point).

The others of that kind have category Cf, as bidirectional controls do. Dropping both leaves the visible text;
right-to-left letters stay.
"""


def clean(text: str) -> str:
    """Return `text` made harmless; it keeps its line breaks, as `\\n`, and the joiners that words and emoji need."""
    return "\n".join("".join(_clean_characters(line, joiners=True)) for line in _split(text))


def clean_line(text: str) -> str:
    """Return `text` made harmless as exactly one line; its line breaks become spaces.

    For names too, of which two must not differ in what nobody sees: it keeps no joiners.
    """
    return " ".join("".join(_clean_characters(line)) for line in _split(text))


def _split(text: str) -> list[str]:
    """Split at the line breaks that people type; the exotic ones are control characters or separators to us."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")


def _clean_characters(line: str, *, joiners: bool = False) -> Iterator[str]:
    marks = MAX_MARKS  # as if full, so that a mark at the beginning gets something to attach to
    beginning = True
    last = ""  # that was not dropped
    for place, character in enumerate(line):
        category = unicodedata.category(character)
        if category == "Cf" or character in _INVISIBLE:
            if joiners and character in _JOINS and _is_needed(line, place, last):
                yield character
            continue
        last = character
        if category[0] == "M":
            if beginning:
                yield _DOTTED_CIRCLE
                marks = 0
            if marks < MAX_MARKS:
                yield character
            marks += 1
        else:
            marks = 0
            if character == "\t":
                yield _TAB
            elif category == "Zs":
                yield " "
            elif category[0] in "CZ":  # controls, surrogates, private use, unassigned; line and paragraph separators
                yield NOT_SHOWN
            else:
                yield character
        beginning = False


def _is_needed(line: str, place: int, last: str) -> bool:
    """Whether the joiner at a place joins two emoji, or parts or joins letters as their script needs it.

    `last`: the last character before it that is shown.
    """
    joiner, following = line[place], line[place + 1 : place + 2]
    if joiner == _JOINER and following and _is_emoji(last) and _is_emoji(following):
        return True
    first = max(place - _NEARBY, 0)
    near = line[first : place + 1 + _NEARBY]
    return bool(last) and last == line[place - 1] and _JOINS[joiner](near, place - first, _UNICODE_DATA)


def _is_emoji(character: str) -> bool:
    if character < _FIRST_EMOJI or character == NOT_SHOWN:
        return False
    return unicodedata.category(character) == "So" or ord(character) in _SKIN_TONES
