"""Who may take a name: it is shown as it is spelled, and nobody takes it for another one. UTS #39, section 4.

`names` says which names are valid, for ever; this module judges only names that somebody is about to take, and whom a
client warns of. An account that is there goes on whatever is said here, and so does what holds its name.

The classes come from the pairs of look-alikes in the Unicode consortium's `confusables.txt`, as the library
`confusable-homoglyphs` carries them. A class is computed from a name by replacing characters: no name is compared with
another one, so an index of classes finds a look-alike among all names at once.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

from securechat.clean import clean_line
from securechat.errors import UsageError
from securechat.names import normalise_account, normalise_room

RESERVED: Final = (
    "admin", "administrator", "alarm", "everybody", "everyone", "me", "moderator", "nobody", "operator", "root",
    "securechat", "server", "somebody", "someone", "support", "system", "you",
)  # fmt: skip
"""What a sentence of ours calls somebody or something, and whom people obey because of the name. No account is one."""

_PAIRS: Final = (("0", "o"), ("vv", "w"))
"""Look-alikes that the data lacks between small letters, and names are in small letters: it has `0` for `O` alone."""

_REMEMBERED: Final = 4096
"""Names whose class is remembered, as `names` remembers what is normal."""

_PUNCTUATION: Final = frozenset("-_.'")
"""What of ASCII a new name may hold beside letters and digits. The rest has a meaning where names are typed, listed or
shown (`~` before the digits of a second title, `,` between names, `/` before a command, `:` after who speaks), or may
come to have one, and a shell's."""

_DOTTED: Final = re.compile("([ij][\u0316-\u0333]*)\u0307")
"""A dot above `i` or `j`, which has one already; marks below may stand between. Turkish `İ` leaves it in small type."""


def check_new_account(name: str) -> None:
    """Whether anybody may take this valid name at all. Raises UsageError: why not, and what to do."""
    if normalise_account(name) != name:
        raise UsageError(f"{name!a} is not in its one spelling")
    _check_visible(name, "a user name")
    if is_reserved(name):
        raise UsageError(f"{clean_line(name)} is taken for securechat itself or for whoever runs it; choose another")


def check_new_room(name: str) -> None:
    """The same for the name of a room, `#` and all. No word is reserved there: the `#` tells a room from anybody."""
    if normalise_room(name) != name:
        raise UsageError(f"{name!a} is not in its one spelling")
    _check_visible(name, "a room's name")


def is_reserved(name: str) -> bool:
    """Whether a name is one that no account has, or looks like one of these."""
    return likeness(name) in _reserved()


@lru_cache(_REMEMBERED)
def likeness(name: str) -> str:
    """The class of a name: equal for names that a reader takes for one another, as far as the data goes.

    Names that are shown alike have one class, and so have those that differ in case. Not for show, and not to be kept:
    it changes with the data.
    """
    table = _table()
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFC", clean_line(name)).casefold())
    text = unicodedata.normalize("NFD", "".join(table.get(character, character) for character in text))
    return _DOTTED.sub(r"\1", text)


def _check_visible(name: str, what: str) -> None:
    """Raises UsageError for a name that is shown otherwise than it is spelled, or runs into the text around it."""
    if (shown := clean_line(name)) != name:
        hidden = next((f"U+{ord(each):04X}" for each in name if each not in shown), "a mark too many on one letter")
        raise UsageError(f"{what} is what is shown of it, and {hidden} is not shown: leave it out")
    for character in name:
        if "MODIFIER LETTER" in unicodedata.name(character, ""):  # they look like quotation marks, colons and primes
            raise UsageError(
                f"{what} holds no letter that looks like punctuation, as U+{ord(character):04X} does: leave it out"
            )
    if unicodedata.category(name[-1])[0] not in "LMN":
        raise UsageError(f"{what} ends with a letter or a digit, or it runs into the sentence around it")
    for character in name.removeprefix("#"):
        if character.isascii() and not character.isalnum() and character not in _PUNCTUATION:
            raise UsageError(
                f"{what} holds no {character}, which means something where names are typed and shown; "
                "of punctuation it may hold - _ . and '"
            )


@cache
def _reserved() -> frozenset[str]:
    return frozenset(map(likeness, RESERVED))


@cache
def _table() -> dict[str, str]:
    """What stands for each character in a class, by character.

    Characters that look alike form a set. What stands for its members is a sequence that one of them looks like (`rn`
    for `m`), each character of it replaced in turn, or else one of them, an ASCII character if there is one.
    """
    alike: dict[str, list[str]] = {}  # each character -> all that look like it, one list for all of them
    longer: list[tuple[str, str]] = []
    for one, other in _pairs():
        if len(one) == len(other) == 1:
            these, those = alike.setdefault(one, [one]), alike.setdefault(other, [other])
            if these is not those:
                these += those
                alike.update(dict.fromkeys(those, these))
        elif len(one) == 1 < len(other):
            longer.append((one, other))
    stands: dict[str, str] = {}
    for one, these in alike.items():
        if one not in stands:
            stands.update(dict.fromkeys(these, min(these)))
    sequences: dict[str, str] = {}  # by what stands for a set otherwise
    for one, other in sorted(longer, key=lambda pair: (len(pair[1]), pair)):  # where there are several, the shortest
        sequences.setdefault(stands.setdefault(one, one), other)

    def replaced(character: str, within: tuple[str, ...] = ()) -> str:
        key = stands.get(character, character)
        if key not in sequences or key in within:
            return key
        return "".join(replaced(each, (*within, key)) for each in sequences[key])

    return {one: replaced(one) if key in sequences else key for one, key in stands.items()}


def _pairs() -> Iterator[tuple[str, str]]:
    """Yield all pairs, both ways. The file is read as it lies in the package: the library's own loader would let an
    environment variable name another one, and keep it all in memory."""
    data = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text(encoding="utf-8"))
    for each, others in data.items():
        one = _plain(each)
        for other in others:
            yield one, _plain(other["c"])
    for one, other in _PAIRS:
        yield one, other
        yield other, one


def _plain(text: str) -> str:
    """Decomposed, and without the marks of direction that stand around right-to-left characters in the data."""
    text = unicodedata.normalize("NFD", text)
    return text if len(text) == 1 else "".join(each for each in text if unicodedata.category(each) != "Cf")
