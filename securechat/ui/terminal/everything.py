"""The palette: everything that one can do or go to, by a part of its name."""

from collections.abc import Callable, Iterator
from typing import Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content


class Everything(Provider):
    """What the screen offers, in its order."""

    def _offers(self) -> Iterator[tuple[str, str, Callable[[], None]]]:
        return cast("Iterator[tuple[str, str, Callable[[], None]]]", cast("Any", self.app).offers())

    async def discover(self) -> Hits:
        """Yield all there is."""
        for name, note, act in self._offers():
            yield DiscoveryHit(Content(name), act, text=name, help=_literal(note))

    async def search(self, query: str) -> Hits:
        """Yield what the typed letters are in."""
        matcher = self.matcher(query)
        for name, note, act in self._offers():
            if (score := matcher.match(name)) > 0:
                yield Hit(score, matcher.highlight(name), act, text=name, help=_literal(note))


def _literal(note: str) -> str:
    """Return a note in which nothing is markup."""
    return note.replace("[", "\\[")
