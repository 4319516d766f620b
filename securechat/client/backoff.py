"""How long to wait before the next try: longer each time, and at random, so that not all come back at once."""

import random
from collections.abc import Callable
from typing import Final

RETRY_SECONDS: Final = 0.5
MAX_RETRY_SECONDS: Final = 30.0
"""The first wait and the longest; it doubles each time, and each is shortened at random by up to half."""

TOLD_SECONDS: Final = 10.0
"""What the server puts off for longer than this is told: nobody notices a shorter wait."""

_MAX_DOUBLINGS: Final = 16
"""Doublings counted; `MAX_RETRY_SECONDS` is reached long before."""


class Backoff:
    """The waits between the tries of one thing. `until` is monotonic seconds; 0 while nothing waits."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tries = 0
        self._since = 0.0
        self.until = 0.0

    def wait(self, at_least: float = 0.0) -> float:
        """The try failed: return the seconds to wait, at least as many as the server asks for."""
        longest = min(RETRY_SECONDS * (1 << self._tries), MAX_RETRY_SECONDS)
        if not self._tries:
            self._since = self._clock()
        seconds = max(longest * random.uniform(0.5, 1.0), at_least)  # noqa: S311  # nosec B311  # spreads load
        self._tries = min(self._tries + 1, _MAX_DOUBLINGS)
        self.until = self._clock() + seconds
        return seconds

    def reset(self) -> None:
        """A try succeeded."""
        self._tries, self.until = 0, 0.0

    @property
    def waiting(self) -> bool:
        """Whether it is too early for the next try."""
        return self._clock() < self.until

    @property
    def lasts(self) -> float:
        """Seconds from the first of the tries that have failed to the next one."""
        return self.until - self._since if self._tries else 0.0
