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
"""How long a thread that computes keeps the interpreter when another one asks for it; 5 ms by default.

An I/O thread lets it go at each system call and each statement to the store. Beside a worker that checks a commit of
999 Adds a message then waits some ten times, 50 ms in all by default.
"""


def run_server(load: Callable[[], ServerConfig]) -> int:
    """Run a server until SIGINT or SIGTERM; returns the exit code. Raises StorageError or UsageError at the start.

    `load` reads the settings: at the start, and again at each SIGHUP.
    """
    config = load()
    configure(sys.stderr, config.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what is imported stays: looking through it for garbage takes 14 ms, in which everybody waits
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # whose `put` may interrupt itself

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
