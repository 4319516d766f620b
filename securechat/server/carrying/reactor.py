"""The I/O threads: a selector each, and the connections that it watches (docs/design.md, section 5).

A connection belongs to one of them for life: only that thread touches its socket, its TLS state and its protocol
machine (docs/design.md, invariant 10). Every other thread that has something for a connection calls `Connection.send`,
which queues it and wakes the owner once per burst.

A round of the thread: read what has arrived, handle it, let `turn` do what the handlers collected together, then write
once per connection.
"""

import contextlib
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable

from securechat.errors import SecurechatError
from securechat.server.carrying.connection import Connection
from securechat.server.logs import get_logger
from securechat.server.workers import join
from securechat.transport.waker import Waker
from securechat.wire.messages import Closing

log = get_logger(__name__)

SWEEP_SECONDS = 0.5
"""How often the deadlines of connections are checked: ten times in the shortest of them."""


class IOThread:
    """A selector, the connections that it watches, and the thread that serves them."""

    def __init__(self, name: str, turn: Callable[[float], float], waker: Waker) -> None:
        """`turn(now)` is called once per round, after reading and before writing; returns when it is needed again.

        `waker` starts a round; its maker closes it.
        """
        self._turn = turn
        self._selector = selectors.DefaultSelector()
        self._waker = waker
        self._selector.register(waker, selectors.EVENT_READ)
        self._connections: set[Connection] = set()
        self._new: deque[Connection] = deque()
        self._pending: deque[Connection] = deque()  # those with something to send
        self._stop_at: float | None = None
        self.beat = time.monotonic()
        """When the thread last went round: at most SWEEP_SECONDS ago, unless it is stuck."""
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Say goodbye to everybody and end, after `seconds` at the latest. Wait with `join`."""
        self._stop_at = time.monotonic() + seconds
        self._waker.wake()

    def join(self) -> None:
        """Wait until the thread has ended."""
        join(self._thread)

    # --- any thread -------------------------------------------------------------------------------------------------

    def add(self, connection: Connection) -> None:
        """Take over a new connection."""
        self._new.append(connection)
        self._waker.wake()

    def wake(self, connection: Connection) -> None:
        """`connection` has something to send."""
        self._pending.append(connection)
        if threading.get_ident() != self._thread.ident:
            self._waker.wake()

    @property
    def connections(self) -> int:
        """How many connections it has. May be a moment old."""
        return len(self._connections) + len(self._new)

    # --- connections, on this thread --------------------------------------------------------------------------------

    def watch(self, connection: Connection, old: int, new: int) -> None:
        """Wait for the events `new` instead of `old`; 0: for none."""
        if not old:
            self._selector.register(connection.socket, new, connection)
        elif new:
            self._selector.modify(connection.socket, new, connection)
        else:
            self._selector.unregister(connection.socket)

    def drop(self, connection: Connection, mask: int) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if mask:
            self._selector.unregister(connection.socket)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_sweep = needed = 0.0
        told = False
        while self._stop_at is None or self._connections or self._new:
            wait = 0.0 if self._pending else max(0.0, min(next_sweep, needed) - time.monotonic())
            ready = self._selector.select(wait)
            now = self.beat = time.monotonic()
            for key, mask in ready:
                if key.data is None:
                    self._waker.clear()
                    continue
                self._serve(key.data, mask, now)
            while self._new:
                self._begin(self._new.popleft(), now)
            if self._stop_at is not None and not told:
                told = True
                for connection in self._connections:
                    connection.send(Closing("shutdown"))
            try:
                needed = self._turn(now)
            except Exception:
                log.exception("internal error in a turn")
                needed = now + SWEEP_SECONDS
            while self._pending:
                self._guarded(self._pending.popleft(), now, Connection.write)
            if now >= next_sweep:
                next_sweep = now + SWEEP_SECONDS
                self._sweep(now)
        self._selector.close()

    def _begin(self, connection: Connection, now: float) -> None:
        self._connections.add(connection)
        if self._stop_at is not None:
            connection.abandon()
        else:
            self._guarded(connection, now, Connection.write)

    def _serve(self, connection: Connection, mask: int, now: float) -> None:
        if mask & selectors.EVENT_READ:
            self._guarded(connection, now, Connection.read)
        if mask & selectors.EVENT_WRITE and connection in self._connections:
            self._guarded(connection, now, Connection.write)

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections):
            if self._stop_at is not None and now > self._stop_at:
                connection.abandon()
                continue
            self._guarded(connection, now, Connection.check)

    def _guarded(self, connection: Connection, now: float, step: Callable[[Connection, float], None]) -> None:
        """Keep one connection's trouble from the others: a bug in our code costs only the connection that met it."""
        if connection not in self._connections:
            return
        try:
            step(connection, now)
        except Exception:
            log.exception("internal error", client=connection.address)
            with contextlib.suppress(SecurechatError):
                connection.abandon()
