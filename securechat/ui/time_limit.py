"""The time that a command may take (`--timeout`). It holds, whatever the command waits for: a name, a server, a pipe.

At its end the command says so and closes what it has open. What cannot be closed at once is left: the process ends, and
to be ended at any instant harms no vault (docs/design.md, invariant 5).
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from securechat.ui.exit_codes import ExitCode
from securechat.ui.told import tell

GRACE_SECONDS: Final = 0.3
"""How long what is open may take to close once the time is up."""

TIME_IS_UP: Final = "Time is up."


class TimeLimit:
    """One command's time, from now on."""

    def __init__(self, seconds: float, *, end: Callable[[int], object] = os._exit) -> None:
        """`end`: what ends the process if the command does not."""
        self._until = monotonic() + seconds
        self._end = end
        self._timer = threading.Timer(min(seconds + GRACE_SECONDS, threading.TIMEOUT_MAX), self._enforce)
        self._timer.daemon = True
        self._timer.start()

    @property
    def left(self) -> float:
        """Seconds until its end."""
        return max(0.0, self._until - monotonic())

    def cancel(self) -> None:
        """The command has ended."""
        self._timer.cancel()

    def _enforce(self) -> None:
        with suppress(OSError):
            tell(f"securechat: {TIME_IS_UP}")
        self._end(ExitCode.TIMEOUT)
