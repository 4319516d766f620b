"""What Textual reads from and writes to: a terminal, which has a size of its own, and may go away unsaid.

Textual's thread that writes would end with the first error, and the one that draws would then wait for it for ever,
with the vault open; the one that reads would ask again and again. And it would believe `COLUMNS` and `LINES`, which a
program that reads lines leaves to those that it starts.
"""

import os
import sys
from contextlib import suppress
from io import TextIOBase, TextIOWrapper
from typing import Any, TextIO, cast

from textual.driver import Driver

from securechat.ui.leaving import LOST, is_gone

if sys.platform == "win32":
    from textual.drivers.windows_driver import WindowsDriver as TerminalDriver
else:
    from textual.drivers.linux_driver import LinuxDriver

    class _Outlet(TextIOBase):
        """A terminal that takes what is written for as long as it is there."""

        def __init__(self, terminal: TextIO) -> None:
            self._terminal = terminal

        def write(self, text: str, /) -> int:
            try:
                return self._terminal.write(text)
            except LOST:
                return len(text)

        def flush(self) -> None:
            with suppress(*LOST):
                self._terminal.flush()

        def fileno(self) -> int:
            return self._terminal.fileno()

    class TerminalDriver(LinuxDriver):
        """Textual's own, which outlives its terminal."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._file = cast("TextIOWrapper", _Outlet(cast("TextIO", self._file)))  # there is one at a terminal

        def _get_terminal_size(self) -> tuple[int, int]:
            try:
                size = os.get_terminal_size(self.fileno)
            except OSError:
                size = os.terminal_size((0, 0))
            return (size.columns or 80, size.lines or 25)  # as Textual takes where nobody knows


def has_lost_its_terminal(driver: Driver | None) -> bool:
    """Whether nobody is at the terminal any more. A driver of another kind has none to lose."""
    return sys.platform != "win32" and isinstance(driver, TerminalDriver) and is_gone(driver.fileno)
