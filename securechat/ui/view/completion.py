"""Completion: what a typed word may become, and what may have been meant. Commands by their usage, people and rooms by
name."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from securechat.value import value

SIMILAR: Final = 0.6
"""How alike two words are, from 0 to 1, of which one may be a typing error for the other: the default of `difflib`."""

MAX_CANDIDATES: Final = 50
"""More than anybody reads: the next letter makes them fewer."""


@value
class Usage:
    """A command as `/help` shows it: `/msg USER TEXT`, and what it does."""

    usage: str
    help: str

    @property
    def name(self) -> str:
        """What it begins with."""
        return self.usage.split(" ")[0]


@value
class Candidate:
    """What the last word of the line may be replaced by, and a note about it, which may be empty."""

    text: str
    note: str = ""


def complete(
    typed: str,
    usages: Iterable[Usage],
    names: Sequence[str],
    paths: Callable[[str], Iterable[str]] = lambda _word: (),
) -> tuple[Candidate, ...]:
    """Return what the last word of `typed` may become, most likely first.

    `typed`: the line up to the cursor. `names`: rooms and people, most likely first (`Listing.names`). A word that is
    not part of a command is a text, which nothing completes. `paths`: what the beginning of a path may become.
    """
    *before, word = typed.split(" ")
    if not typed.startswith("/") or typed.startswith("//"):
        return ()
    if not before:
        found = (Candidate(each.name, each.help) for each in usages if each.name.startswith(word.lower()))
        return tuple(found)[:MAX_CANDIDATES]
    arguments = next((each.usage.split(" ")[1:] for each in usages if each.name == before[0].lower()), [])
    wanted = arguments[len(before) - 1].strip("[]") if len(before) <= len(arguments) else ""
    if wanted == "N" and len(before) < len(arguments) and not word.isdigit():  # it may be left out
        wanted = arguments[len(before)].strip("[]")
    if wanted == "COMMAND":
        return tuple(Candidate(each.name, each.help) for each in usages if each.name.startswith(f"/{word.lstrip('/')}"))
    if wanted.islower():  # said as it stands there
        return tuple(Candidate(each) for each in wanted.split("|") if each.startswith(word.lower()))
    if wanted in ("FILE", "FOLDER"):
        there = (each for each in paths(word) if " " not in each and (wanted == "FILE" or each.endswith("/")))
        return tuple(map(Candidate, islice(there, MAX_CANDIDATES)))
    if wanted not in ("USER", "#ROOM", "NAME"):
        return ()
    fitting = (
        name
        for name in names
        if name.casefold().startswith(word.casefold())
        and (wanted == "NAME" or name.startswith("#") == (wanted == "#ROOM"))
    )
    return tuple(map(Candidate, fitting))[:MAX_CANDIDATES]


def meant(word: str, usages: Iterable[Usage]) -> str:
    """Return the command that somebody may have meant; empty: none is like it."""
    names = [each.name for each in usages]
    begun = [name for name in names if name.startswith(word.lower())]
    return begun[0] if len(begun) == 1 else next(iter(difflib.get_close_matches(word.lower(), names, 1, SIMILAR)), "")
