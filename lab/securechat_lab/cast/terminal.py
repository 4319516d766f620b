"""A program on a real pseudo-terminal, with a terminal emulator (pyte) at the other end."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Self

import pyte

from securechat_lab.cast.live import PATIENCE


class _Emulator(pyte.Screen):
    """A screen that answers the program's questions to its terminal, such as where the cursor is."""

    def __init__(self, columns: int, rows: int, answer: Callable[[bytes], object]) -> None:
        super().__init__(columns, rows)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data.encode())


class Terminal:
    """Runs `command`: `rows` is what it shows, and `type` is its keyboard.

    With `orders`, its last argument is a descriptor from which it reads what `order` writes. `environment`: variables
    to add to our own. `SECURECHAT_PLAIN`, if that is not emptied, keeps a client's full screen away.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        orders: bool = True,
        columns: int = 80,
        rows: int = 24,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._fd, program_side = pty.openpty()
        fcntl.ioctl(program_side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen = _Emulator(columns, rows, self.send)
        self._stream = pyte.ByteStream(self._screen)
        self.output = bytearray()  # by the program, as it came
        obeyed, self._orders = os.pipe()
        self.process = subprocess.Popen(
            [*command, *([str(obeyed)] if orders else [])],
            stdin=program_side,
            stdout=program_side,
            stderr=program_side,
            pass_fds=(obeyed,),
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "SECURECHAT_PLAIN": "1", **environment},
        )
        os.close(program_side)
        os.close(obeyed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._orders)
        self.process.kill()
        self.process.wait()
        os.close(self._fd)

    @property
    def rows(self) -> list[str]:
        """What the screen shows, without empty rows."""
        return [row.rstrip() for row in self._screen.display if row.strip()]

    @property
    def all_rows(self) -> list[str]:
        """The same with the empty ones: each stays where it is until the screen is full."""
        return [row.rstrip() for row in self._screen.display]

    @property
    def cursor_at(self) -> int:
        """The number of the row with the cursor."""
        row: int = self._screen.cursor.y
        return row

    def fileno(self) -> int:
        """Our side of the terminal: it can be read when the program has written something, or has ended."""
        return self._fd

    def vanish(self) -> None:
        """Be closed: the program reads nothing from it any more, and nobody what it writes."""
        os.close(self._fd)
        self._fd = os.open(os.devnull, os.O_RDWR)

    @property
    def modes(self) -> int:
        """The terminal's local modes (termios(3), `c_lflag`): whether it echoes, and the like."""
        modes: int = termios.tcgetattr(self._fd)[3]
        return modes

    @property
    def cursor_row(self) -> str:
        """The row with the cursor."""
        row: str = self._screen.display[self._screen.cursor.y]
        return row.rstrip()

    def send(self, data: bytes) -> None:
        """Press keys."""
        os.write(self._fd, data)

    def type(self, text: str) -> None:
        """Type text and wait until the program has echoed its last word."""
        self.send(text.encode())
        self.wait(lambda: text.split("\n")[-1] in self.cursor_row)

    def order(self, line: str) -> None:
        """Send the program's scripted core an order: one line over a pipe."""
        os.write(self._orders, line.encode() + b"\n")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Show what the program writes until `condition` holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError("the screen shows:\n" + "\n".join(self.rows))
            if select.select([self], [], [], left)[0] and not self.take():
                if condition():
                    return
                raise AssertionError("the program ended; the screen shows:\n" + "\n".join(self.rows))

    def take(self) -> bool:
        """Show what the program has written, once it has. False: it has ended."""
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # nobody holds the other end
            data = b""
        self.output += data
        self._stream.feed(data)
        return bool(data)

    def wait_for_end(self) -> int:
        """Show what is still written; return the exit code."""
        while self.take():
            pass
        return self.process.wait(PATIENCE)
