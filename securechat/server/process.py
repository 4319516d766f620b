"""The server as a process: signals, and what is set for all of its threads."""

import gc
import queue
import signal
import sys
from collections.abc import Callable
from types import FrameType

from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.logs import configure

HANDLED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has no SIGHUP."""

SWITCH_SECONDS = 0.0005
"""How long a computing thread keeps the interpreter when another one asks for it. Python's default is 5 ms.

An I/O thread gives it up at each system call and each statement to the store. While a worker checks a commit of 999
Adds, a message therefore waits some ten times: 50 ms in all, by default.
"""


def run_server(load: Callable[[], ServerConfig]) -> int:
    """Run a server until SIGINT or SIGTERM; returns the exit code. Raises StorageError or UsageError at the start.

    `load` reads the settings: at the start, and again at each SIGHUP.
    """
    config = load()
    configure(sys.stderr, config.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # imported modules stay; looking through them for garbage takes 14 ms
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # its `put` is reentrant: a signal may interrupt it

    def take(number: int, frame: FrameType | None) -> None:
        del frame
        signals.put(number)

    for number in HANDLED:
        signal.signal(number, take)
    server = Server(config)
    server.start()
    print(f"listening on {server.address}", flush=True)  # noqa: T201 - the line that scripts wait for
    while signals.get() not in (signal.SIGINT, signal.SIGTERM):
        server.reload(load)
    server.stop()
    return 0
