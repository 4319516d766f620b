"""Completion: what a typed word may become. Commands by their usage, people and rooms by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

MAX_CANDIDATES: Final = 50
"""More than anybody reads: the next letter makes them fewer."""


@dataclass(frozen=True)
class Usage:
    """A command as `/help` shows it: `/msg USER TEXT`, and what it does."""

    usage: str
    help: str

    @property
    def name(self) -> str:
        """What it begins with."""
        return self.usage.split(" ")[0]


@dataclass(frozen=True)
class Candidate:
    """What the last word of the line may be replaced by, and a note about it, which may be empty."""

    text: str
    note: str = ""


def complete(typed: str, usages: Iterable[Usage], names: Sequence[str]) -> tuple[Candidate, ...]:
    """Return what the last word of `typed` may become, most likely first.

    `typed`: the line up to the cursor. `names`: rooms and people, most likely first (`Listing.names`). A word that is
    not part of a command is a text, which nothing completes.
    """
    *before, word = typed.split(" ")
    if not typed.startswith("/") or typed.startswith("//"):
        return ()
    if not before:
        found = (Candidate(each.name, each.help) for each in usages if each.name.startswith(word.lower()))
        return tuple(found)[:MAX_CANDIDATES]
    arguments = next((each.usage.split(" ")[1:] for each in usages if each.name == before[0].lower()), [])
    wanted = arguments[len(before) - 1].strip("[]") if len(before) <= len(arguments) else ""
    if wanted not in ("USER", "#ROOM", "NAME"):
        return ()
    fitting = (
        name
        for name in names
        if name.casefold().startswith(word.casefold())
        and (wanted == "NAME" or name.startswith("#") == (wanted == "#ROOM"))
    )
    return tuple(map(Candidate, fitting))[:MAX_CANDIDATES]
