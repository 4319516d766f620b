"""How much goes over the connection for files at once, so that words do not wait behind it.

`WINDOW` parts, one where they take long. Parts are small at first, and larger where they come through quickly: each
costs as much work as another.
"""

from collections.abc import Callable
from typing import Final

from securechat.wire.blobs import CHUNK_BYTES
from securechat.wire.limits import MAX_BLOB_PART
from securechat.wire.messages import Reply

WINDOW: Final = 4
"""Parts on their way at once, of all files together: a quarter of a megabyte at first, which fills most connections."""

AT_ONCE: Final = WINDOW // 2
"""Parts that are asked for, read or written together, where that many can be: each step costs a unit of the engine, and
the other half of them is on its way meanwhile."""

QUICK_SECONDS: Final = 0.1
"""What a part takes at most, with those before it, for the next ones to be twice as large: up to `MAX_CHUNKS`."""

MAX_CHUNKS: Final = MAX_BLOB_PART // CHUNK_BYTES
"""Chunks of a part at most."""

SLOW_SECONDS: Final = 0.5
"""What a part may take; where it takes longer, one of one chunk goes at a time, so that words come through."""


class Pace:
    """The pace of all files together."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now`: the monotonic clock, in seconds."""
        self._now = now
        self._slow = False
        self.chunks = 1  # of the next part

    def room(self, in_flight: int) -> int:
        """Return how many parts go on their way now, beside those that are: none, before several can."""
        free = (1 if self._slow else WINDOW) - in_flight
        return free if self._slow or free >= AT_ONCE else 0

    def timed(self, answer: Callable[[Reply], None]) -> Callable[[Reply], None]:
        """Return what takes the answer to a part that is asked for now, sees how long that took, and gives it on."""
        asked = self._now()

        def timed(reply: Reply) -> None:
            took = self._now() - asked
            self._slow = took > SLOW_SECONDS
            if took < QUICK_SECONDS:
                self.chunks = min(2 * self.chunks, MAX_CHUNKS)
            elif self._slow:
                self.chunks = 1
            answer(reply)

        return timed
