"""Seats belong to accounts: `max_clients` of them are logged in at once, and the next ones wait.

They wait in the order in which they came, one place per account. A seat is kept `KEEP_SECONDS` for an account that lost
its connection.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

KEEP_SECONDS = 60.0
"""How long a seat is kept for an account that lost its connection."""


class WaitingRoom:
    """Seats and the queue for them. Not locked: requires holding the sequencer's turn.

    `tell(account, place)` is called for each waiting account whose place changes, 0 meaning that it is seated.
    """

    def __init__(self, seats: int, tell: Callable[[str, int], None]) -> None:
        """`seats`: accounts that may be logged in at once; 0 for any number."""
        self._limit = seats
        self._tell = tell
        self._seats: dict[str, int] = {}  # account -> its sessions
        self._kept: OrderedDict[str, float] = OrderedDict()  # accounts without sessions -> until when, in that order
        self._queue: OrderedDict[str, int] = OrderedDict()  # account -> its sessions, in order of arrival
        self._told: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many accounts wait. Any thread."""
        return len(self._queue)

    def enter(self, account: str) -> int:
        """Count one more session of an account; return its place: 0 if it is seated."""
        if account in self._seats:
            self._seats[account] += 1
            self._kept.pop(account, None)
            return 0
        if not self._queue and self._free():
            self._seats[account] = 1
            return 0
        self._queue[account] = self._queue.get(account, 0) + 1
        return self._told.setdefault(account, len(self._queue))

    def leave(self, account: str, now: float, *, keep: bool) -> None:
        """One session less. `keep` its account's seat for a while: the connection was lost, not ended."""
        if account in self._seats:
            self._seats[account] -= 1
            if self._seats[account] == 0:
                if keep:
                    self._kept[account] = now + KEEP_SECONDS
                else:
                    del self._seats[account]
        else:
            self._queue[account] -= 1
            if self._queue[account] == 0:
                del self._queue[account]
                del self._told[account]
        self.advance(now)

    def resize(self, seats: int, now: float) -> None:
        """So many seats from now on. Of fewer, who has one keeps it."""
        self._limit = seats
        self.advance(now)

    def advance(self, now: float) -> float:
        """Give free seats to those who wait; return when a kept seat next becomes free (infinity: none is)."""
        while self._kept and self._next() <= now:
            account, _ = self._kept.popitem(last=False)
            del self._seats[account]
        while self._queue and self._free():
            account, sessions = self._queue.popitem(last=False)
            del self._told[account]
            self._seats[account] = sessions
            self._tell(account, 0)
        for place, account in enumerate(self._queue, start=1):
            if self._told[account] != place:
                self._told[account] = place
                self._tell(account, place)
        return self._next()

    def _next(self) -> float:
        """When the next kept seat becomes free."""
        return next(iter(self._kept.values()), math.inf)

    def _free(self) -> bool:
        return not self._limit or len(self._seats) < self._limit
