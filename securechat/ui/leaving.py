"""A terminal that is left as it was, and on which nothing is echoed that the line editor does not show."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

if sys.platform != "win32":
    import termios

    LOST: tuple[type[Exception], ...] = (OSError, termios.error)
else:
    LOST = (OSError,)
"""What is raised on a terminal that was closed."""

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Who sends these wants the program to end: the system, a supervisor, a terminal that was closed."""


@contextmanager
def quiet(fd: int) -> Iterator[None]:
    """While in it, a terminal keeps what is typed between two prompts as it is, and echoes none; then it is as before.

    It makes neither lines nor signals of it: a Ctrl-D that it takes for the end of a line would never reach the next
    prompt, and a Ctrl-C that it sends would interrupt whatever is done just then.
    """
    if sys.platform == "win32":
        yield
        return
    before = termios.tcgetattr(fd)
    keys = list(before[6])
    keys[termios.VMIN], keys[termios.VTIME] = 1, 0  # a read waits for one byte; elsewhere they mean other keys
    silent = [*before[:3], before[3] & ~(termios.ECHO | termios.ICANON | termios.ISIG), *before[4:6], keys]
    termios.tcsetattr(fd, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        with suppress(*LOST):  # it is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def is_gone(fd: int) -> bool:
    """Whether a terminal was closed. Whoever gets no signal that says so would read nothing for ever."""
    if sys.platform == "win32":
        return False
    try:
        termios.tcgetattr(fd)
    except LOST:
        return True
    return False


@contextmanager
def left_in_order(leave: Callable[[], object]) -> Iterator[None]:
    """Call `leave` for a signal that ends the program, in place of dying at once; what the signal says comes after it.

    Requires the main thread.
    """
    received: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        received.append(number)
        leave()

    before = {number: signal.signal(number, receive) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        os.kill(os.getpid(), received[0])
