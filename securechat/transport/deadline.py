"""One time budget for several steps."""

import time
from collections.abc import Callable


class Deadline:
    """A moment by which several steps together have to be done.

    A peer that answers each step just in time cannot stretch the whole.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """The deadline is `seconds` from now; `clock` returns seconds and never goes back."""
        self._clock = clock
        self._end = clock() + seconds

    def remaining(self) -> float:
        """Seconds left for the next step, more than 0; raises TimeoutError when none are left."""
        left = self._end - self._clock()
        if left <= 0:
            raise TimeoutError("the time is over")
        return left
