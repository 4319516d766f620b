"""Patience: the waits before we enter an open room again past a commit that cannot be processed."""

from typing import Final

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 3600.0
"""Seconds before we enter it again: doubling, and never given up."""

_CALM_SECONDS: Final = 3600.0
"""After so long without another such commit the waits begin anew."""


class Patience:
    """The waits before each re-entry of one open room."""

    def __init__(self) -> None:
        self._wait = 0.0
        self.until = 0.0  # monotonic seconds

    def lose(self, now: float) -> None:
        """Another commit could not be processed, or the way in failed: wait twice as long as before."""
        calm = now - self.until > _CALM_SECONDS
        self._wait = FIRST_WAIT if calm or not self._wait else min(2 * self._wait, LONGEST_WAIT)
        self.until = now + self._wait
