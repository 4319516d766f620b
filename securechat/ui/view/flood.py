"""What one person changes, folded: a few changes are told one by one, and of many how many there were."""

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

AT_ONCE: Final = 5
"""Changes of one person in one conversation that are told one by one."""

WITHIN_SECONDS: Final = 10.0
"""Of so many seconds. What is beyond it is told in one line at their end."""

MAX_REMEMBERED: Final = 256
"""People whose changes are counted, after which those go whose seconds are over: a room has a thousand."""

Who = tuple[bytes, str]
"""A conversation and an account."""


class Flood:
    """How much was told of whom lately. One thread at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._changes: dict[Who, tuple[float, int]] = {}  # until when, and how many
        self.due = inf
        """When `rest` has something to tell, by that clock."""

    def shows(self, who: Who) -> bool:
        """Take note of a change. Return whether it is told by itself."""
        now = self._clock()
        until, count = self._changes.get(who, (-inf, 0))
        if until <= now and count <= AT_ONCE:
            until, count = now + WITHIN_SECONDS, 0
            if len(self._changes) >= MAX_REMEMBERED:
                self._changes = {each: found for each, found in self._changes.items() if _counts(found, now)}
        self._changes[who] = until, count + 1
        if count >= AT_ONCE:
            self.due = min(self.due, until)
        return count < AT_ONCE

    def rest(self) -> Mapping[Who, int]:
        """Return how many changes of whom were not told; nothing before that is due."""
        now = self._clock()
        if now < self.due:
            return {}
        over = {who: count - AT_ONCE for who, (until, count) in self._changes.items() if until <= now}
        self._changes = {who: found for who, found in self._changes.items() if who not in over}
        self.due = min((until for until, count in self._changes.values() if count > AT_ONCE), default=inf)
        return {who: more for who, more in over.items() if more > 0}


def _counts(found: tuple[float, int], now: float) -> bool:
    until, count = found
    return until > now or count > AT_ONCE
