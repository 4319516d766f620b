"""Folding: when the write-ahead log, which keeps what was deleted and overwritten, is cut to nothing.

A vault overwrites used keys and past epochs in its file (`secure_delete`), but its log has each page as it was after
every transaction. Folding it in after each of them would more than double what one message waits for the disk. So it
is done as soon as nothing is written any more, and while much goes on, each second.
"""

import math
import time
from typing import Final

from securechat.client.vault.database import Database

QUIET: Final = 0.05
"""Seconds without a write after which the log is folded in: more than an answer of the server takes, so that what is
said one by one does not wait for it. Also until the next try, where a front end was reading: some pages of history."""

WITHIN: Final = 1.0
"""Seconds after which it is folded in however much is written. That long, used keys may stay in the log."""


class Folding:
    """One vault's log, for the thread that writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = -1  # writes of the database, at the last look: what was there before us is folded in, too
        self._quiet = self._latest = math.inf

    def look(self) -> float:
        """Fold the log in if it is time. Returns when to look again, on the monotonic clock. Raises `StorageError`."""
        now = time.monotonic()
        if self._database.writes != self._seen:
            self._seen = self._database.writes
            self._quiet = now + QUIET
            self._latest = min(self._latest, now + WITHIN)
        if now >= min(self._quiet, self._latest):
            again = math.inf if self._database.fold() else now + QUIET
            self._quiet = self._latest = again
        return min(self._quiet, self._latest)
