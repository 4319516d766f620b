"""The server's clock: the system's, as long as it does not leap (docs/design.md, section 5, Time).

A clock that is wrong for a second could expire what people have not read, or date a log so far ahead that it stands
still for weeks. So a clock that differs by more than `MAX_LEAP` from what it last said is not believed: the server goes
on counting by the steady clock, and takes no entries, until the clock is right again or the operator accepts it. Of the
time while it did not run it knows only that it is not before its newest entry.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from securechat.errors import RefusedError
from securechat.files import write_atomically
from securechat.server.logs import get_logger

log = get_logger(__name__)

MAX_LEAP: Final = 86_400.0
"""Seconds by which the clock may differ from what it should say. A clock that is set right moves by less."""

RETRY_SECONDS: Final = 60.0
"""When those who are refused because of a leap come again."""

_ACCEPTED_FILE: Final = "clock-accepted"


def steady() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere the monotonic clock does the same
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


class ServerClock:
    """May be read from any thread."""

    def __init__(
        self, folder: Path, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady
    ) -> None:
        """`folder`: where it remembers what the operator has accepted."""
        self._file = folder / _ACCEPTED_FILE
        self._wall = wall
        self._steady = steady
        self._lock = threading.Lock()  # protects the rest
        self._believed, self._since = wall(), steady()
        self._leap = 0.0

    def begin(self, newest: float) -> None:
        """The server has last run until `newest` (seconds since 1970) at least."""
        with self._lock:
            now = self._wall()
            if now < newest - MAX_LEAP and not self._is_accepted(now):
                self._believed, self._since = newest, self._steady()
        self.seconds()

    def seconds(self) -> float:
        """Now, in seconds since 1970."""
        with self._lock:
            now, steady = self._wall(), self._steady()
            expected = self._believed + steady - self._since
            leap = now - expected if abs(now - expected) > MAX_LEAP else 0.0
            if leap and not self._leap:
                log.error("the clock has leapt; nothing is accepted", seconds=round(leap))
            self._leap = leap
            if leap:
                return expected
            self._believed, self._since = now, steady
            return now

    @property
    def problem(self) -> str:
        """Why nothing is accepted now, for the operator; empty: it is."""
        if not self._leap:
            return ""
        return (
            f"its clock has leapt by {self._leap / 86_400:+.1f} days: set it right (NTP), or say that it is right now "
            "with `securechat admin clock accept`"
        )

    def check(self) -> None:
        """Raise RefusedError `busy` while the clock has leapt, as of the last reading."""
        if self._leap:
            text = "the server's clock has leapt, and nothing is accepted before its operator has looked at it"
            raise RefusedError("busy", text, retry_after=RETRY_SECONDS)

    def accept(self) -> None:
        """The operator says that the clock is right. Raises StorageError."""
        with self._lock:
            self._believed, self._since = self._wall(), self._steady()
            if self._leap < 0:  # entries from the future would make the next start doubt it again
                write_atomically(self._file, str(int(self._believed)).encode())
            self._leap = 0.0

    def _is_accepted(self, now: float) -> bool:
        accepted = float("inf")
        with contextlib.suppress(OSError, ValueError):
            accepted = int(self._file.read_bytes()[:20])
        return now >= accepted - MAX_LEAP
