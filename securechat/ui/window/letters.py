"""What Tk may be given to draw: text whose emoji are set apart, and whose lines run as they are read.

Tk on X11 draws no emoji that consist of several characters, and a libXft before 2.3.5 ends the whole program where it
meets a font of colour pictures. So emoji are never given to it there: they become pictures or, where there are none,
their names in brackets. Nor does it turn what is written from the right, or join Arabic letters: each line is put in
the order in which it is seen. All text is clean before (`securechat.clean`).
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Final

MAX_PARTS: Final = 16
"""Emoji that joiners make one of: more than any that there is."""

_BMP: Final = "⌚⌛⏩-⏬⏰⏳◽◾☔☕♈-♓♿⚓⚡⚪⚫⚽⚾⛄⛅⛎⛔⛪⛲⛳⛵⛺⛽✅✊✋✨❌❎❓-❕❗❤➕-➗➰➿⬛⬜⭐⭕"
"""Emoji among the characters that old fonts have, too (Emoji_Presentation of Unicode), and the heart."""

_PICTURE: Final = f"[{_BMP}\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
_TONE: Final = "[\U0001f3fb-\U0001f3ff]"
_JOINED: Final = "[\u2600-\u27bf\u2190-\u21ff\u2300-\u23ff\u2b00-\u2bff\U0001f000-\U0001faff]"

EMOJI: Final = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{1,2}}|[#*0-9]\u20e3"
    f"|{_PICTURE}{_TONE}?(?:\u200d{_JOINED}{_TONE}?){{0,{MAX_PARTS}}}|{_TONE}"
)
"""One emoji, of however many characters."""

STAND_INS: Final = range(0xE000, 0xF900)
"""Characters that stand for emoji while a text is laid out: for private use, and so in no clean text."""

_RIGHT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\U00010800-\U00010fff\U0001e800-\U0001efff]")
"""Scripts that run from the right."""

_JOINERS: Final = str.maketrans("", "", "\u200c\u200d")

NOT_DRAWN: Final = "\N{WHITE SQUARE}"
"""Stands for a symbol that only a font of colour pictures has."""

_PLAIN_FONTS: Final = ("noto emoji", "symbola", "openmoji black")
"""Fonts of emoji that are drawn as letters are."""


def is_coloured(family: str) -> bool:
    """Whether a font consists of colour pictures, by its name."""
    name = family.lower()
    return any(each in name for each in ("emoji", "twemoji", "joypixels", "openmoji")) and name not in _PLAIN_FONTS


class Apart:
    """A text with its emoji set apart: `text` has a stand-in for each."""

    def __init__(self, text: str) -> None:
        self.emoji: dict[str, str] = {}
        """Stand-ins, and what they stand for."""
        known: dict[str, str] = {}

        def stand_in(found: re.Match[str]) -> str:
            each = found[0]
            if each not in known:
                if len(known) >= len(STAND_INS):
                    return NOT_DRAWN
                known[each] = chr(STAND_INS[len(known)])
                self.emoji[known[each]] = each
            return known[each]

        self.text = EMOJI.sub(stand_in, text)


@lru_cache(4096)
def in_words(emoji: str) -> str:
    """Return an emoji as its name in brackets, as "[thumbs up sign]"; joined ones by the first."""
    flag = [chr(ord(each) - 0x1F1E6 + ord("A")) for each in emoji if "\U0001f1e6" <= each <= "\U0001f1ff"]
    if flag:
        return f"[flag {''.join(flag)}]"
    if emoji.endswith("\u20e3"):
        return f"[{emoji[0]}]"
    name = unicodedata.name(emoji[0], "emoji").lower()
    return f"[{name}]"


def drawable(text: str, family_for: Callable[[str], str]) -> str:
    """Return a text without emoji as Tk may draw it. `family_for`: the font that it would take for a character."""
    if text.isascii():
        return text
    return "".join(each if _is_safe(each, family_for) else NOT_DRAWN for each in text.translate(_JOINERS))


def _is_safe(character: str, family_for: Callable[[str], str]) -> bool:
    if character < "\u2000" or unicodedata.category(character)[0] in "LMNZ":
        return True
    return not is_coloured(family_for(character))


def runs_from_right(text: str) -> bool:
    """Whether something in a text does."""
    return _RIGHT.search(text) is not None


def begins_at_right(text: str) -> bool:
    """Whether a paragraph's first letter does (rule P2 of Unicode's UAX 9), and so the whole of it."""
    for each in text:
        direction = unicodedata.bidirectional(each)
        if direction in ("R", "AL"):
            return True
        if direction == "L" and ord(each) not in STAND_INS:
            return False
    return False


def joined(text: str) -> str:
    """Return Arabic letters in the forms that they have beside each other."""
    from arabic_reshaper import reshape  # where somebody writes so

    shaped: str = reshape(text)
    return shaped


def as_seen(line: str, *, from_right: bool) -> str:
    """Return a line in the order in which it is seen from left to right. `from_right`: of such a paragraph."""
    from bidi import get_display  # where somebody writes so

    seen: str = get_display(line, base_dir="R" if from_right else "L")
    return seen
