"""The server's clock: the system's, as long as it does not leap (docs/design.md, section 5, Time).

A clock that is wrong for a second could expire what people have not read, or date a log so far ahead that it stands
still for weeks. So a clock that differs by more than `MAX_LEAP` from what it last said is not believed: the server goes
on counting by the steady clock, and takes no entries, until the clock is right again or the operator accepts it.

Of the time while it did not run the server knows only that it is not before what it has seen. So there is a second
time, the *age*, by which things are deleted: it follows the clock, and never faster than `CATCH_UP` times what the
server has seen pass. It is kept on the disk now and then. A server that starts with a clock far ahead dates by it, and
deletes nothing because of it; when the clock is back at what the age tells, it is the clock before that was wrong.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from securechat.errors import RefusedError, StorageError
from securechat.files import open_to_read, write_atomically
from securechat.server.logs import get_logger

log = get_logger(__name__)

MAX_LEAP: Final = 86_400.0
"""Seconds by which the clock may differ from what it should say. A clock that is set right moves by less."""

RETRY_SECONDS: Final = 60.0
"""When those who are refused because of a leap come again."""

CATCH_UP: Final = 8
"""How much faster than time passes the age may follow the clock. A server that runs three hours a day keeps up with it,
and a clock has to be ahead for four days before something goes that is kept for thirty."""

KEEP_SECONDS: Final = 600.0
"""Seconds between two times that the age is written: a server that is killed has lost as much of it at most."""

_AGE_FILE: Final = "age"


def steady() -> float:
    """Seconds that nobody can set, and that go on while the machine sleeps."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere the monotonic clock does the same
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


class ServerClock:
    """May be read from any thread."""

    def __init__(
        self, folder: Path, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady
    ) -> None:
        """`folder`: where it keeps the age."""
        self._file = folder / _AGE_FILE
        self._wall = wall
        self._steady = steady
        self._lock = threading.Lock()  # protects the rest
        self._believed, self._since = wall(), steady()
        self._age, self._age_since = self._believed, self._since
        self._kept_since = -KEEP_SECONDS
        self._leap = 0.0

    def begin(self, newest: float) -> None:
        """The server has last run until about its age, or, where none was kept, until `newest` (seconds since 1970)."""
        with self._lock:
            now = self._wall()
            self._age = newest if now < newest - MAX_LEAP or 0 < newest < now else now
            with contextlib.suppress(OSError, ValueError), os.fdopen(open_to_read(self._file), "rb") as file:
                newest = self._age = float(int(file.read(20)))
            if now < newest - MAX_LEAP:
                self._believed, self._since = newest, self._steady()
            elif now > self._age + MAX_LEAP:
                days = round((now - self._age) / 86_400, 1)
                log.warning("has not run for long, or the clock is ahead: what expires waits", days=days)
        self.seconds()

    def seconds(self) -> float:
        """Now, in seconds since 1970."""
        with self._lock:
            return self._read()

    def age(self) -> float:
        """The time by which things are deleted, in seconds since 1970: at most now, unless that was set back."""
        with self._lock:
            self._read()
            return self._age

    def _read(self) -> float:
        now, steady = self._wall(), self._steady()
        expected = self._believed + steady - self._since
        leap = now - expected if abs(now - expected) > MAX_LEAP else 0.0
        if leap < 0 and now >= self._age - MAX_LEAP:
            log.error("the clock was ahead since the start, and is right now", seconds=round(-leap))
            leap = 0.0
        if leap and not self._leap:
            log.error("the clock has leapt; nothing is accepted", seconds=round(leap))
        self._leap = leap
        if leap:
            now = expected
        else:
            self._believed, self._since = now, steady
        self._age = max(self._age, min(now, self._age + CATCH_UP * (steady - self._age_since)))
        self._age_since = steady
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
            self._age = min(self._age, self._believed)
            self._write()
            self._leap = 0.0

    def keep(self, *, at_once: bool = False) -> None:
        """Write the age, if it is time to, or `at_once`. A disk that has no room for it is told to the log."""
        with self._lock:
            self._read()
            if not at_once and self._age_since < self._kept_since + KEEP_SECONDS:
                return
            try:
                self._write()
            except StorageError as error:
                log.warning("the server's age could not be kept", reason=str(error))

    def _write(self) -> None:
        self._kept_since = self._age_since
        write_atomically(self._file, str(int(self._age)).encode())
