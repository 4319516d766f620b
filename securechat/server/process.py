"""The server as a process: signals, and what is set for all of its threads."""

import gc
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

from securechat.server import log_output
from securechat.server.app import Server, too_few_threads
from securechat.server.config import ServerConfig

HANDLED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has no SIGHUP."""

ENDING: Final = frozenset((signal.SIGINT, signal.SIGTERM))

SWITCH_SECONDS = 0.0005
"""How long a computing thread keeps the interpreter when another one asks for it. Python's default is 5 ms.

An I/O thread gives it up at each system call and each statement to the store. While a worker checks a commit of 999
Adds, a message therefore waits some ten times: 50 ms in all, by default.
"""


def run_server(load: Callable[[], ServerConfig], started: Callable[[ServerConfig, str], None]) -> int:
    """Run a server until SIGINT or SIGTERM; returns the exit code. Raises StorageError or UsageError at the start.

    `load` reads the settings: at the start, and again at each SIGHUP. `started` gets them and the address, `HOST:PORT`,
    once the server listens.
    """
    config = load()
    try:
        log_output.configure(sys.stderr, config.log_level)
    except RuntimeError as error:
        raise too_few_threads(error) from error
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # imported modules stay; looking through them for garbage takes 14 ms
    with Signals() as signals:
        server = Server(config)
        server.start()
        try:
            # The line that scripts wait for, in one piece: the log may go to the same place, by a thread of its own.
            sys.stdout.write(f"listening on {server.address}\n")
            sys.stdout.flush()
            started(config, server.address)
            while not signals.wait():
                server.reload(load)
        finally:  # also where nobody can be told
            server.stop()
            log_output.flush()  # a sentence on what ended it is the last line that whoever started it sees
    return 0


class Signals:
    """What the system has asked of this process. Requires the main thread.

    The system may give a signal to any thread, and Python's own handler runs on the main one when that next wakes. So
    the main thread waits at a socket that is written to in whichever thread it was: at a queue or a lock it would sleep
    on.
    """

    def __init__(self) -> None:
        self._asked: set[int] = set()  # a byte is lost where the socket is full, and none of these

    def __enter__(self) -> Self:
        """Take the signals from here on."""
        self._woken, self._wake = socket.socketpair()
        self._wake.settimeout(0)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        """End the waiting. The signals stay taken: a second one must not cut an end in order short."""
        signal.set_wakeup_fd(-1)
        self._woken.close()
        self._wake.close()

    def wait(self) -> bool:
        """Wait for signals. Return whether one of them asks for the end; otherwise, for a reload."""
        asked = {*self._woken.recv(4096), *self._asked}
        self._asked -= asked
        return bool(asked & ENDING)

    def _take(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._asked.add(number)
