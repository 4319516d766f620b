"""The threads that carry bytes: one acceptor, and I/O threads that own the connections (design, section 5).

    acceptor      takes connections from the listening socket, counts them, hands them on; never waits for a peer
    I/O threads   a selector each. A connection belongs to one of them for life: only that thread touches its socket,
                  its TLS state and its protocol machine (design, invariant 10)

Every other thread that has something for a connection calls `Connection.send`, which queues it and wakes the owner once
per burst. A turn of an I/O thread is: read what has arrived, handle it, let `turn` do what the handlers collected
together, then write once per connection. Entries wait encoded and shared by all their receivers; they are encrypted
only when the socket can take more, so a reader that does not read costs references, and `backlog` says how many bytes.
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from securechat.errors import PeerError, SecurechatError
from securechat.server.logs import get_logger
from securechat.server.workers import join
from securechat.transport.tls_connection import TLSConnection
from securechat.transport.waker import Waker
from securechat.wire.messages import Accepted, Closing, FromClient, FromServer, Hello, LoggedIn
from securechat.wire.protocol import Ended, ServerProtocol

log = get_logger(__name__)

RECEIVE_BYTES = 64 << 10
"""Bytes of one `recv`: many records at once, and little enough that nobody holds up the thread."""

SEND_BYTES = 256 << 10
"""Bytes encrypted ahead of the socket, and what is queued last may be as much again: it is taken whole. More would sit
in memory, and be encrypted in vain when the peer is gone."""

MAX_BACKLOG = 1 << 20
"""Bytes queued for one connection. Beyond it no requests are read from it, and its logs are read from disk again."""

STALL_SECONDS = 60.0
"""A peer that takes none of the bytes offered to it for so long is given up."""

LINGER_SECONDS = 2.0
"""How long the peer gets to read our last message: closing at once could destroy what it has not read yet."""

SWEEP_SECONDS = 0.5
"""How often deadlines of connections are looked at: ten times the precision that the shortest one needs."""

ACCEPT_PAUSE_SECONDS = 0.1
"""Pause after the system refused a new connection, mostly for want of file descriptors."""

REPEAT_SECONDS = 60.0
"""How often the log repeats that."""


class Handler(Protocol):
    """What a connection is good for; called by its I/O thread only."""

    def receive(self, messages: list[FromClient]) -> None:
        """Messages that came at once, each of them allowed by the protocol's state."""

    def logged_in(self) -> None:
        """The login's success is on its way."""

    def drained(self) -> None:
        """Everything queued has gone to the system; called after each write that got so far."""

    def ended(self, closing: Closing | None, reason: str) -> None:
        """The session is over. `closing`: the peer's farewell; `reason`: for the log. Called exactly once."""


class Connection:
    """One client. Any thread may call `send`, `close` and `backlog`; the rest belongs to the I/O thread."""

    def __init__(
        self, thread: "IOThread", sock: socket.socket, address: str, context: ssl.SSLContext, hello: Hello, now: float
    ) -> None:
        self.address = address
        self.socket = sock
        self.handler: Handler  # set by whoever makes the connection, before it is handed to the thread
        self._thread = thread
        self._tls = TLSConnection(context)
        self._protocol = ServerProtocol(hello, now)
        self._queue: deque[FromServer | bytes | list[Accepted]] = deque()
        self._queued = 0  # bytes ever put into the queue as frames: counted by those who send them, under one lock
        self._taken = 0  # and taken from it: counted by the I/O thread
        self._awake = False  # whether the I/O thread knows that there is something in the queue
        self._unsent: bytes | memoryview = b""  # ciphertext that the socket would not take yet
        self._progress = now  # when the socket last took something, or nothing waited
        self._finishing: float | None = None  # since when we wait for the peer to read our last message
        self._reason = ""
        self._mask = 0

    # --- any thread -------------------------------------------------------------------------------------------------

    def send(self, item: FromServer | bytes | list[Accepted]) -> None:
        """Queue a message, the frames of events, or replies. A `Closing` ends the session after what was queued before.

        Frames are sent by one thread at a time (whoever holds the sequencer's turn), so that they can be counted.
        """
        if isinstance(item, bytes):
            self._queued += len(item)
        self._queue.append(item)
        if not self._awake:  # a call saved: this is done for each reader
            self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._thread.wake(self)

    @property
    def backlog(self) -> int:
        """Bytes of frames that wait for the peer to read."""
        return self._queued - self._taken + len(self._unsent)

    # --- the I/O thread ---------------------------------------------------------------------------------------------

    def read(self, now: float) -> None:
        """The socket has something for us."""
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        if self._finishing is not None:
            if not data:
                self._drop()
            return
        if not data:
            self._lost("connection lost" if self._tls.established else "connection lost during the TLS handshake")
            return
        try:
            plaintext = self._tls.receive(data)
        except (ssl.SSLError, PeerError) as error:
            self._refuse(_describe(error))
            return
        if plaintext:
            self._handle(self._protocol.receive_data(plaintext, now))
        if self._tls.ended:
            self._lost("connection closed without a goodbye")
        elif self._protocol.has_data_to_send or self._tls.has_data_to_send or self._protocol.ended:
            self._wake()

    def write(self, now: float) -> None:
        """Send what is queued, as far as the socket takes it."""
        self._awake = False  # before the queue is looked at: what comes later wakes again
        if not self._unsent:
            self._encrypt()
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent)
            except BlockingIOError:
                break
            except OSError as error:
                self._lost(error.strerror or str(error))
                return
            self._progress = now
            if sent < len(self._unsent):
                self._unsent = memoryview(self._unsent)[sent:]
                break
            self._unsent = b""
            if self._queue or self._protocol.has_data_to_send:
                self._encrypt()
        if not self._unsent:
            self._progress = now
            if self._protocol.ended:
                self._finish(now)
                return
            self.handler.drained()
        self._watch()

    def _encrypt(self) -> None:
        """Take from the queue what may go ahead of the socket."""
        tls, protocol, queue = self._tls, self._protocol, self._queue
        size = 0
        while queue and size < SEND_BYTES:
            item = queue.popleft()
            if isinstance(item, bytes):
                self._taken += len(item)
                size += protocol.send_frames(item)
            elif isinstance(item, list):
                size += protocol.send_accepted(item)
            elif isinstance(item, Closing):
                protocol.close(item.reason, item.text)
                self._end(None, f"closed by the server: {item.reason}")
            else:
                size += protocol.send(item)
                if isinstance(item, LoggedIn):
                    self.handler.logged_in()
        if tls.established:
            tls.write(protocol.data_to_send())
        self._unsent = tls.data_to_send()

    def check(self, now: float) -> None:
        """Look at the deadlines."""
        if self._finishing is not None:
            if now - self._finishing > LINGER_SECONDS:
                self._drop()
        elif self._unsent and now - self._progress > STALL_SECONDS:
            self._lost("the client does not read")
        elif now >= self._protocol.timer and not self._protocol.ended:
            self._handle(self._protocol.handle_timer(now))
            self.write(now)

    def abandon(self) -> None:
        """The server stops: let the socket go whatever waits."""
        self._lost("the server has stopped")

    def _handle(self, events: list[FromClient | Ended]) -> None:
        messages = [event for event in events if not isinstance(event, Ended)]
        if messages:
            self.handler.receive(messages)
        if len(messages) < len(events) and isinstance(ended := events[-1], Ended):  # nothing follows that
            if ended.closing is not None:
                self._end(ended.closing, f"goodbye ({ended.closing.reason})")
            else:
                self._end(None, str(ended.error))

    def _watch(self) -> None:
        """Tell the selector what we wait for."""
        # A peer that sends what has to be answered and does not read the answers is not read from.
        deaf = self.backlog > MAX_BACKLOG or (self._unsent and self._protocol.has_data_to_send)
        mask = 0 if deaf and self._finishing is None else selectors.EVENT_READ
        if self._unsent:
            mask |= selectors.EVENT_WRITE
        if mask != self._mask:
            self._thread.watch(self, self._mask, mask)
            self._mask = mask

    def _end(self, closing: Closing | None, reason: str) -> None:
        """Tell the handler, once."""
        if not self._reason:
            self._reason = reason
            self.handler.ended(closing, reason)

    def _refuse(self, reason: str) -> None:
        """TLS itself failed: OpenSSL's alert is all that can still be said."""
        self._protocol.receive_eof()
        self._end(None, reason)
        self._unsent = bytes(self._unsent) + self._tls.data_to_send()
        self.write(self._progress)

    def _finish(self, now: float) -> None:
        """Everything is said: end our stream, and give the peer time to read it."""
        self._tls.close()
        with contextlib.suppress(OSError):
            self.socket.send(self._tls.data_to_send())
            self.socket.shutdown(socket.SHUT_WR)
        self._finishing = now
        self._watch()

    def _lost(self, reason: str) -> None:
        self._protocol.receive_eof()
        self._end(None, reason)
        self._drop()

    def _drop(self) -> None:
        self._thread.drop(self, self._mask)
        self._mask = 0
        self.socket.close()


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS refused: {error.reason.replace('_', ' ').lower()}"
    return f"TLS refused: {error}"


class IOThread:
    """A selector, the connections that it watches, and the thread that serves them."""

    def __init__(self, name: str, turn: Callable[[float], float], waker: Waker) -> None:
        """`turn(now)` is called once per round, after reading and before writing; returns when it is needed again.

        `waker` starts a round; it is closed by whoever has made it.
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
        """When the thread last went round; at most SWEEP_SECONDS ago, unless it is stuck."""
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
        """Wait for `new`, where it was `old`; 0: for nothing."""
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
        """One connection's trouble is not another's: a bug of ours costs the one that met it."""
        if connection not in self._connections:
            return
        try:
            step(connection, now)
        except Exception:
            log.exception("internal error", client=connection.address)
            with contextlib.suppress(SecurechatError):
                connection.abandon()


class Acceptor:
    """Takes new connections from the listening socket."""

    def __init__(self, listener: socket.socket, accept: Callable[[socket.socket, tuple[str, int]], None]) -> None:
        """`accept(socket, address)` must not wait; it owns the socket."""
        self._listener = listener
        self._listener.settimeout(0)
        self._accept = accept
        self._waker = Waker()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acceptor")

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Accept nobody any more, and close the listening socket."""
        self._stopped.set()
        self._waker.wake()
        join(self._thread)
        self._listener.close()
        self._waker.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            quiet_until = 0.0
            while not self._stopped.is_set():
                selector.select()
                try:
                    sock, address = self._listener.accept()
                except BlockingIOError:
                    continue
                except ConnectionError:
                    continue  # gone before we came to it
                except OSError as error:
                    if time.monotonic() >= quiet_until:
                        quiet_until = time.monotonic() + REPEAT_SECONDS
                        log.warning("cannot accept a connection", reason=error.strerror)
                    self._stopped.wait(ACCEPT_PAUSE_SECONDS)
                    continue
                try:
                    sock.settimeout(0)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._accept(sock, address[:2])
                except Exception:
                    log.exception("internal error in accepting a connection", client=address[0])
                    sock.close()
