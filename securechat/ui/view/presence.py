"""Who comes and goes, folded: all that changes within a while is told in one line, and what changes back is not."""

from collections.abc import Callable
from math import inf
from typing import Final

from securechat.client.events import PresenceChanged

TOGETHER_SECONDS: Final = 0.5
"""What comes at once, as after a connection was lost, is told at once."""

BETWEEN_SECONDS: Final = 10.0
"""From one such line to the next, at least: nobody reads them while they run over the screen."""


class Presence:
    """What was told of whom, and what is to be told. One thread at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._told: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._next = 0.0
        self.due = inf
        """When `take` has something to tell, by that clock."""

    def note(self, event: PresenceChanged) -> None:
        """Take note of a change. It comes once for each conversation that we share."""
        if self._told.get(event.account) == event.state:
            self._new.pop(event.account, None)
        else:
            self._new[event.account] = event.state
        if not self._new:
            self.due = inf
        elif self.due == inf:
            self.due = max(self._clock() + TOGETHER_SECONDS, self._next)

    def take(self) -> dict[str, str]:
        """Return what is to be told now: accounts and their states; nothing before it is due."""
        now = self._clock()
        if now < self.due:
            return {}
        told, self._new = self._new, {}
        self._told.update(told)
        self.due, self._next = inf, now + BETWEEN_SECONDS
        return told
