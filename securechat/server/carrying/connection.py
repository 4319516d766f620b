"""One client's connection: TLS, frames and the protocol machine, over a socket that never waits.

Whatever is to be sent is queued from any thread; the I/O thread that owns the connection encrypts it once the socket
can take more. Entries wait encoded and shared by all their receivers, so a reader that does not read costs references,
and `backlog` says how many bytes.
"""

import contextlib
import selectors
import socket
import ssl
from collections import deque
from typing import Protocol

from securechat.errors import PeerError
from securechat.transport.tls_connection import TLSConnection
from securechat.wire.messages import Accepted, Closing, FromClient, FromServer, Hello, LoggedIn
from securechat.wire.protocol import Ended, ServerProtocol

RECEIVE_BYTES = 64 << 10
"""Bytes of one `recv`: many records at once, but not so much that one peer holds up the thread."""

SEND_BYTES = 256 << 10
"""Bytes encrypted ahead of the socket. The last item is taken whole and may be as much again. More would sit in memory,
and be encrypted in vain if the peer is gone."""

MAX_BACKLOG = 1 << 20
"""Bytes queued for one connection. Beyond it no requests are read from it, and its logs are read from disk again."""

STALL_SECONDS = 60.0
"""A peer that takes none of the bytes offered to it for this long is given up."""

LINGER_SECONDS = 2.0
"""How long the peer gets to read our last message: closing at once could destroy what it has not read yet."""


class Handler(Protocol):
    """What a connection does with its messages; called by its I/O thread only."""

    def receive(self, messages: list[FromClient]) -> None:
        """Handle messages that came at once, each allowed in the protocol's state."""

    def logged_in(self) -> None:
        """The reply to a successful login is on its way."""

    def drained(self) -> None:
        """Everything queued has gone to the system; called after each write that got so far."""

    def ended(self, closing: Closing | None, reason: str) -> None:
        """The session is over. `closing`: the peer's farewell; `reason`: for the log. Called exactly once."""


class Owner(Protocol):
    """The I/O thread, as its connections know it."""

    def wake(self, connection: "Connection") -> None:
        """`connection` has something to send. Any thread."""

    def watch(self, connection: "Connection", old: int, new: int) -> None:
        """Wait for `new` events, where it was `old`; 0: for nothing."""

    def drop(self, connection: "Connection", mask: int) -> None:
        """Forget a connection that was watched for `mask`."""


class Connection:
    """One client. Any thread may call `send`, `close` and `backlog`; the rest belongs to the I/O thread."""

    def __init__(
        self, thread: "Owner", sock: socket.socket, address: str, context: ssl.SSLContext, hello: Hello, now: float
    ) -> None:
        self.address = address
        self.socket = sock
        self.handler: Handler  # set before the connection is handed to its thread
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

        Frames are sent by one thread at a time, the holder of the sequencer's turn, so that they can be counted.
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
        """The socket is readable."""
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
        self._awake = False  # before looking at the queue: whatever comes later wakes the thread again
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
        """Encrypt as much of the queue as may go ahead of the socket."""
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
        """The server stops: close the socket, whatever waits."""
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
        """Tell the selector which events we wait for."""
        # Nothing more is read from a peer that sends requests and does not read the answers.
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
        """TLS itself failed: only OpenSSL's alert can still be sent."""
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
