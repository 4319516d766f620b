"""Where the log's lines go: into a bounded queue, and from there to standard error by a thread of their own.

So nobody waits for whoever reads the log: a pipe that nobody empties, a disk that is full or slow. What finds no room
is dropped and counted; the log says how many lines that were once it can be written again, and `/metrics` at any time.
"""

import logging
import os
import select
import threading
from collections import deque
from typing import Final, TextIO

from securechat.server.logs import get_logger, make_formatter, set_level, thread_ended

log = get_logger(__name__)

MAX_WAITING: Final = 1 << 20
"""Bytes of lines that wait: some 5,000 of them. A single line may be longer."""

FLUSH_SECONDS: Final = 2.0
"""How long a server that ends waits for its last lines to be taken."""


def configure(stream: TextIO, level: str) -> None:
    """Log to `stream` from `level` (`debug`, `info`...) on: readable if it is a terminal, else one JSON object a line.

    Also logs the errors that would end a thread. Raises RuntimeError if the system allows no thread.
    """
    # Nobody sees what these would find out for each line (Logging HOWTO, Optimization).
    logging._srcfile = None  # noqa: SLF001 - as the HOWTO says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()  # other libraries' warnings too
    stream.flush()
    handler = QueuedHandler(stream.fileno())
    handler.setFormatter(make_formatter(stream))
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)
    threading.excepthook = thread_ended


def flush() -> None:
    """Wait for what was logged so far, for `FLUSH_SECONDS` at most: what is written elsewhere then comes after it."""
    for each in logging.getLogger().handlers:
        each.flush()


def dropped() -> int:
    """How many lines of this process's log were lost so far."""
    return sum(each.dropped for each in logging.getLogger().handlers if isinstance(each, QueuedHandler))


class QueuedHandler(logging.Handler):
    """Writes to a descriptor, past the stream that it belongs to: that has a lock, which one who waits would hold."""

    def __init__(self, descriptor: int) -> None:
        """Raises RuntimeError if the system allows no thread."""
        super().__init__()
        self.dropped = 0
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes of these, and of those that are being written
        self._closed = False
        self._changed = threading.Condition(threading.Lock())  # protects all of these but the descriptor
        self._torn = False  # a line broke off: the next one needs a line break before it
        # At the end of the process it may still wait for a reader; then nobody waits for it.
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a line without waiting: not for the lock of `logging.Handler` either, which is held while it ends."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or count it as lost."""
        try:
            line = self.format(record).encode() + b"\n"
        except Exception:  # noqa: BLE001 - as all handlers do: it shows the bug
            self.handleError(record)
            return
        with self._changed:
            if self._waiting and self._waiting + len(line) > MAX_WAITING:
                self.dropped += 1
                return
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written or lost, for `FLUSH_SECONDS` at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread, once it has written what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _run(self) -> None:
        told = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                lines, self._lines = self._lines, deque()
            if not lines:
                return
            data = b"".join(lines)
            written = self._write(data)
            with self._changed:
                if not written:
                    self.dropped += len(lines)
                lost = self.dropped - told if written and not self._lines else 0
                self._waiting -= len(data)
                self._changed.notify_all()
            if lost:
                told += lost
                log.warning("lines of the log were lost", lines=lost)

    def _write(self, data: bytes) -> bool:
        """Write lines; return whether that went well. Waits for as long as the reader wants."""
        left = memoryview(b"\n" + data if self._torn else data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # somebody who has the same pipe or terminal does not want to wait
                select.select([], [self._descriptor], [])
            except OSError:  # the disk is full, the reader has gone
                self._torn = self._torn or len(left) < len(data)
                return False
        self._torn = False
        return True
