"""The I/O threads: a selector each, and the connections that it watches (docs/design.md, section 5).

A connection belongs to one of them for life: only that thread touches its socket, its TLS state and its protocol
machine (docs/design.md, invariant 10). Every other thread that has something for a connection calls `Connection.send`,
which queues it and wakes the owner once per burst.

A round of the thread: read what has arrived, handle it, let `turn` do what the handlers collected together, then write
once per connection. First come all those who send little, then the others in turns, those first who have waited for
longest, until they have had `ROUND_UNITS` together (`payer`). The rest stays where it is. So a round is short while
somebody talks, however many send as much as they can.
"""

import contextlib
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from securechat.errors import SecurechatError
from securechat.server.carrying.connection import Connection
from securechat.server.carrying.payer import PAYER_UNITS, Payer, Payers
from securechat.server.logs import get_logger
from securechat.server.rates import Bucket
from securechat.server.workers import join
from securechat.transport.waker import Waker
from securechat.wire.messages import Closing

log = get_logger(__name__)

Value = TypeVar("Value")

ROUND_UNITS = 128
"""Units (`costs`) in a round of all who send much: half a millisecond. Not counted in time: on a machine that is busy
with other things, every round would be cut short, and there would be more of them."""

LONG_UNITS = 8192
"""The same while nobody else talks: a round costs as much as several dozen messages, however few it takes."""

LONG = 4
"""Rounds that such a one counts for: whoever takes part in it has as many times `PAYER_UNITS`."""

TALK_UNITS = 32
"""Units of what somebody sends at once who talks: some lines, or a request."""

TALK_ROUNDS = 64
"""Rounds for which somebody talks who has just said something: some tenth of a second."""

ROUND_TOTAL = 16384
"""Units of all in one round: what many send little of shares one transaction, up to 50 ms of it."""

SWEEP_SECONDS = 0.5
"""How often the deadlines of connections are checked: ten times in the shortest of them."""


class IOThread:
    """A selector, the connections that it watches, and the thread that serves them."""

    def __init__(
        self, name: str, turn: Callable[[float], float], waker: Waker, bucket: Callable[[str], Bucket]
    ) -> None:
        """`turn(now)` is called once per round, after reading and before writing; returns when it is needed again.

        `waker` starts a round; its maker closes it. `bucket(account)`: of its messages.
        """
        self._turn = turn
        self._selector = selectors.DefaultSelector()
        self._waker = waker
        self._selector.register(waker, selectors.EVENT_READ)
        self._payers = Payers(bucket)
        self._round = 0
        self._talk = -TALK_ROUNDS  # the last round in which somebody has said something who sends little
        self._connections: set[Connection] = set()
        self._readable: dict[Connection, None] = {}  # in the order in which they became that
        self._new: deque[Connection] = deque()
        self._pending: deque[Connection] = deque()  # those with something to send
        self._stop_at: float | None = None
        self.beat = time.monotonic()
        """When the thread last went round: at most SWEEP_SECONDS ago, unless it is stuck."""
        self.idle = 0.0
        """Seconds, ever, in which it has waited for something to do. Any thread; may be a round old."""
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
        if not new & selectors.EVENT_READ:
            self._readable.pop(connection, None)
        elif connection.has_more:
            self._readable[connection] = None
        if not old:
            self._selector.register(connection.socket, new, connection)
        elif new:
            self._selector.modify(connection.socket, new, connection)
        else:
            self._selector.unregister(connection.socket)

    def drop(self, connection: Connection, mask: int) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._readable.pop(connection, None)
        if mask:
            self._selector.unregister(connection.socket)

    def enter(self, name: str, *, is_account: bool) -> Payer:
        """Return who pays for one more connection."""
        return self._payers.enter(name, is_account=is_account)

    def leave(self, name: str, *, is_account: bool) -> None:
        """It pays for one connection less."""
        self._payers.leave(name, is_account=is_account)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_sweep = needed = 0.0
        told = False
        while self._stop_at is None or self._connections or self._new:
            now = time.monotonic()
            wait = 0.0 if self._pending or self._readable else max(0.0, min(next_sweep, needed) - now)
            ready = self._selector.select(wait)
            self.beat = time.monotonic()
            if wait:
                self.idle += self.beat - now
            now = self.beat
            for key, mask in ready:
                if key.data is None:
                    self._waker.clear()
                    continue
                if mask & selectors.EVENT_READ:
                    self._readable[key.data] = None  # keeps its place, if it has one
                if mask & selectors.EVENT_WRITE:
                    self._guarded(key.data, now, Connection.write)
            if self._readable:
                self._read(now)
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
        self._guarded(connection, now, Connection.begin)
        if self._stop_at is not None and connection in self._connections:
            connection.abandon()

    def _read(self, now: float) -> None:
        """Read from those that have sent something."""
        self._round = number = self._round + (LONG if self._round - self._talk >= TALK_ROUNDS else 1)
        left = ROUND_TOTAL
        heavy: list[Connection] = []
        for connection in list(self._readable):
            if not connection.payer.is_light(number, now):
                heavy.append(connection)
                continue
            units = self._read_from(connection, now, PAYER_UNITS - connection.payer.spent)
            if connection.spoke and units < TALK_UNITS:
                self._talk = number
            left -= units
            if left <= 0:
                return
        is_long = number - self._talk > TALK_ROUNDS
        share, left = (LONG * PAYER_UNITS, min(left, LONG_UNITS)) if is_long else (PAYER_UNITS, min(left, ROUND_UNITS))
        heavy.sort(key=_last_served)  # otherwise in the order in which they became readable
        for connection in heavy:
            if (mine := share - connection.payer.spent) > 0:
                left -= self._read_from(connection, now, min(mine, left))
                if left <= 0:
                    return

    def _read_from(self, connection: Connection, now: float, most: int) -> int:
        payer = connection.payer  # a login may change it meanwhile
        if self._readable.pop(connection, connection) is not None:  # dropped meanwhile
            return 0
        units = self._guarded(connection, now, lambda each, then: each.read(then, max(most, 1))) or 0
        payer.spend(units)
        payer.served = self._round
        if connection.has_more:
            self._readable[connection] = None
        return units

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections):
            if self._stop_at is not None and now > self._stop_at:
                connection.abandon()
                continue
            self._guarded(connection, now, Connection.check)

    def _guarded(self, connection: Connection, now: float, step: Callable[[Connection, float], Value]) -> Value | None:
        """Keep one connection's trouble from the others: a bug in our code costs only the connection that met it."""
        if connection not in self._connections:
            return None
        try:
            return step(connection, now)
        except Exception:
            log.exception("internal error", client=connection.address)
            with contextlib.suppress(SecurechatError):
                connection.abandon()
            return None


def _last_served(connection: Connection) -> int:
    return connection.payer.served
