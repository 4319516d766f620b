"""One client's connection: TLS, frames and the protocol machine, over a socket that never waits.

Whatever is to be sent is queued from any thread; the I/O thread that owns the connection encrypts it once the socket
can take more. Entries wait encoded and shared by all their receivers, so a reader that does not read costs references.
Replies wait encoded as well: a small request may have a large answer. `backlog` says how many bytes wait.
"""

import contextlib
import os
import selectors
import socket
import ssl
import threading
from collections import deque
from typing import NamedTuple, Protocol

from securechat.errors import InternalError, PeerError
from securechat.server.carrying.costs import BYTES_PER_UNIT, BYTES_PER_UNIT_SENT, HANDSHAKE_UNITS, UNITS
from securechat.server.carrying.payer import Payer
from securechat.server.logs import get_logger
from securechat.transport.tls_connection import TLSConnection
from securechat.wire.frames import encode_frame
from securechat.wire.messages import (
    Accepted,
    Acknowledge,
    Closing,
    FromClient,
    FromServer,
    Hello,
    LoggedIn,
    Ping,
    Refused,
    Reply,
)  # fmt: skip
from securechat.wire.protocol import MOVERS, Ended, ServerProtocol

log = get_logger(__name__)

RECEIVE_BYTES = 32 << 10
RECEIVE_BYTES_BEFORE_LOGIN = 4 << 10
"""Bytes of one `recv`: many records at once, but not so much that one peer holds up the thread."""

RECEIVE_BYTES_ALONE = 128 << 10
"""The same where nobody talks whom that could hold up: half of a large part of a blob."""

LEAST_BYTES = 256
"""Bytes of one `recv` at least, however small the records were: a few of the smallest."""

FIRST_RECORD = 32
"""Bytes that a record is taken to have before any was read."""

SMALL = 4 << 10
"""Bytes read at once up to which nobody looks at how much is in memory now; the next sweep does."""

MAX_MESSAGES_BEFORE_LOGIN = 100
"""Messages of a connection that has not logged in, or TLS records if those are more: a person who mistypes the password
sends two a minute and a ping now and then."""

FRAME_SECONDS = 120.0
"""A message that has not arrived as a whole after that ends the connection, so that nobody has us keep half of one for
ever. The largest arrives in time at 140 kbit/s."""

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

    def logged_in(self) -> str:
        """The reply to a successful login is on its way; return the account, which pays from now on."""

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

    def enter(self, name: str, *, is_account: bool) -> Payer:
        """Return who pays for a connection from now on."""

    def leave(self, name: str, *, is_account: bool) -> None:
        """The connection is paid for by that one no more."""


class _Encoded(NamedTuple):
    """A reply that waits: what it was, and its frame."""

    kind: type[Reply]
    request: int
    frame: bytes


class Connection:
    """One client. Any thread may call `send`, `close` and `backlog`; the rest belongs to the I/O thread."""

    def __init__(
        self,
        thread: "Owner",
        sock: socket.socket,
        address: str,
        payer: str,
        context: ssl.SSLContext,
        hello: Hello,
        now: float,
    ) -> None:
        """`address`: for the log. `payer`: who pays until the login (`rates.address_key`)."""
        self.address = address
        self.socket = sock
        self.handler: Handler  # set before the connection is handed to its thread
        self._thread = thread
        self._tls = TLSConnection(context, server_side=True)
        self._protocol = ServerProtocol(hello, now, UNITS)
        self._queue: deque[FromServer | bytes | list[Accepted] | _Encoded] = deque()
        self._queued = 0  # bytes ever put into the queue as frames: counted by those who send them, under one lock
        self._taken = 0  # and taken from it: counted by the I/O thread
        self._replies = 0  # bytes of encoded replies in the queue
        self._counting = threading.Lock()  # protects them: replies are sent by several threads
        self._dropped = False
        self._awake = False  # whether the I/O thread knows that there is something in the queue
        self._unsent: bytes | memoryview = b""  # ciphertext that the socket would not take yet
        self._progress = now  # when the socket last took something, or nothing waited
        self._finishing: float | None = None  # since when we wait for the peer to read our last message
        self._reason = ""
        self._mask = 0
        self.payer: Payer  # from `begin` on
        self._pays = payer
        self._logged_in = False
        self._held = self._asked = 0  # bytes that the payer answers for
        self._paid = 0  # messages, or records
        self._record = FIRST_RECORD  # bytes of the records that it sends, lately
        self._unfinished: tuple[int | None, float] = None, now  # at the last check, and since when
        self.spoke = False
        """Whether it has sent anything but acknowledgements, for which nobody waits, when it was last read from."""

    # --- any thread -------------------------------------------------------------------------------------------------

    def send(self, item: FromServer | bytes | list[Accepted]) -> None:
        """Queue a message, the frames of events, or replies. A `Closing` ends the session after what was queued before.

        Frames are sent by one thread at a time, the holder of the sequencer's turn, so that they can be counted.
        """
        if self._dropped:
            return
        if isinstance(item, bytes):
            self._queued += len(item)
            self._queue.append(item)
        elif isinstance(item, Reply) and type(item) not in MOVERS:
            self._send_reply(item)
        else:  # no message that is anything but small; of lists, as many replies as may be asked for at once
            self._queue.append(item)
        if not self._awake:  # a call saved: this is done for each reader
            self._wake()

    def _send_reply(self, reply: Reply) -> None:
        try:
            frame = encode_frame(reply)
        except InternalError:
            self._queue.append(reply)  # type: ignore[arg-type]  # the I/O thread meets it again, and ends the session
            return
        with self._counting:
            self._replies += len(frame)
        self._queue.append(_Encoded(type(reply), reply.id, frame))

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._thread.wake(self)

    @property
    def backlog(self) -> int:
        """Bytes of frames that wait for the peer to read."""
        return self._queued - self._taken + self._replies + len(self._unsent)

    @property
    def crowded(self) -> bool:
        """Whether its payer has too much in memory."""
        return self.payer.crowded

    # --- the I/O thread ---------------------------------------------------------------------------------------------

    @property
    def unfinished(self) -> int | None:
        """The number of the message of which a part has arrived, or all of it and nobody has looked; or None."""
        protocol = self._protocol
        return protocol.messages if (protocol.unfinished or protocol.waiting) and not protocol.ended else None

    def begin(self, now: float) -> None:
        """The thread has taken the connection over."""
        self.payer = self._thread.enter(self._pays, is_account=False)
        self.write(now)

    @property
    def has_more(self) -> bool:
        """Whether messages wait that have been decrypted already, and may be handled."""
        return self._protocol.waiting > 0 and self._mask & selectors.EVENT_READ > 0

    def read(self, now: float, most: int) -> int:
        """Read once, if that may be, and handle about `most` units of it; return what it has cost.

        What was decrypted and not handled comes first in the next round: a record is opened as a whole, and may hold
        thousands of messages.
        """
        payer, protocol, tls = self.payer, self._protocol, self._tls
        if payer.tight and self._finishing is None and payer.is_stopped(self, now):
            self._watch(now)
            return 0
        self.spoke = False
        before, units, plaintext = protocol.units, 0, b""
        if not protocol.waiting:
            size = max(RECEIVE_BYTES, min(most * BYTES_PER_UNIT, RECEIVE_BYTES_ALONE))
            if not self._logged_in:
                size = RECEIVE_BYTES_BEFORE_LOGIN
            try:
                data = self.socket.recv(min(max(most * self._record, LEAST_BYTES), size))
            except BlockingIOError:
                return 0
            except OSError as error:
                self._lost(error.strerror or str(error))
                return 0
            units = len(data) // BYTES_PER_UNIT
            if self._finishing is not None:
                if not data:
                    self._drop()
                return units
            if not data:
                self._lost("connection lost" if tls.established else "connection lost during the TLS handshake")
                return 0
            if not tls.established:
                units += HANDSHAKE_UNITS
            records = tls.counted.records
            try:
                plaintext = tls.receive(data)
            except (ssl.SSLError, PeerError) as error:
                self._refuse(_describe(error))
                return units
            records = tls.counted.records - records
            units += records
            # It falls at once, and rises slowly: who sends large records is not trusted with what comes next.
            self._record = min(len(data) // max(records, 1) + 1, 2 * self._record)
            if plaintext:
                self._handle(protocol.receive_data(plaintext, now, most - units if self._logged_in else self._few))
        else:
            self._handle(protocol.receive_more(now, most if self._logged_in else self._few))
        units += protocol.units - before
        count = max(protocol.messages, tls.counted.records)
        payer.pay(count - self._paid, now)
        self._paid = count
        if tls.ended and not protocol.waiting:
            self._lost("connection closed without a goodbye")
            return units
        if not self._logged_in and count > MAX_MESSAGES_BEFORE_LOGIN and not protocol.ended:
            text = f"more than {MAX_MESSAGES_BEFORE_LOGIN} messages before the login"
            protocol.close("protocol-error", text)
            self._end(None, text)
        if protocol.has_data_to_send or tls.has_data_to_send or protocol.ended:
            self._wake()
        if self._held or protocol.waiting or len(plaintext) > SMALL:
            self._settle()
        if payer.tight and payer.is_stopped(self, now):
            self._watch(now)
        return units

    @property
    def _few(self) -> int:
        """Messages that are still handled before the login, the one that is too many among them."""
        return max(MAX_MESSAGES_BEFORE_LOGIN + 1 - self._paid, 1)

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
        if self._held or self._unsent:
            self._settle()
        self._watch(now)

    def _encrypt(self) -> None:
        """Encrypt as much of the queue as may go ahead of the socket."""
        tls, protocol, queue = self._tls, self._protocol, self._queue
        size, most = 0, SMALL if self.payer.crowded else SEND_BYTES
        while queue and size < most:
            item = queue.popleft()
            if isinstance(item, bytes):
                self._taken += len(item)
                size += protocol.send_frames(item)
            elif isinstance(item, list):
                size += protocol.send_accepted(item)
            elif isinstance(item, Closing):
                protocol.close(item.reason, item.text)
                self._end(None, f"closed by the server: {item.reason}")
            elif isinstance(item, _Encoded):
                with self._counting:
                    self._replies -= len(item.frame)
                if item.kind is Refused:
                    self.payer.spend(UNITS[Refused])
                size += protocol.send_reply(*item)
            else:
                try:
                    size += protocol.send(item)
                except InternalError:
                    log.exception("internal error", client=self.address)
                    protocol.close("protocol-error", "internal error of the server")
                    self._end(None, "closed by the server: internal error")
                if isinstance(item, LoggedIn):
                    self._charge_to(self.handler.logged_in())
        if tls.established:
            tls.write(protocol.data_to_send())
        self._unsent = tls.data_to_send()
        if len(self._unsent) >= BYTES_PER_UNIT_SENT:
            self.payer.spend(len(self._unsent) // BYTES_PER_UNIT_SENT)

    def check(self, now: float) -> None:
        """Look at the deadlines, and at what many small reads have left in memory."""
        self._settle()
        if self._finishing is not None:
            if now - self._finishing > LINGER_SECONDS:
                self._drop()
        elif self._unsent and now - self._progress > STALL_SECONDS:
            self._lost("the client does not read")
        elif self._is_unfinished_for_too_long(now):
            self._protocol.close("too-slow", "a message did not arrive as a whole")
            self._end(None, "a message did not arrive as a whole")
            self.write(now)
        elif now >= self._protocol.timer and not self._protocol.ended:
            self._handle(self._protocol.handle_timer(now))
            self.write(now)
        elif not self._mask & selectors.EVENT_READ:
            self._ask_whether_it_is_there(now)
            # `_watch`, as after each write: enough tokens may have flowed in, or enough been answered

    def abandon(self) -> None:
        """The server stops: close the socket, whatever waits."""
        self._lost("the server has stopped")

    def _ask_whether_it_is_there(self, now: float) -> None:
        """Notice that a peer has gone from whom nothing is read at the moment, however much of it is still unread.

        What is sent to a program that has ended is answered by its system, with a reset.
        """
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lost(os.strerror(error))
            return
        if not self._unsent and self._logged_in:
            self._protocol.send(Ping())
        self.write(now)

    def _is_unfinished_for_too_long(self, now: float) -> bool:
        number = self.unfinished
        if number is None or number != self._unfinished[0] or self._protocol.waiting:
            self._unfinished = number, now
        return now - self._unfinished[1] > FRAME_SECONDS

    def _charge_to(self, account: str) -> None:
        """From now on the account pays."""
        self._settle(over=True)
        self._thread.leave(self._pays, is_account=self._logged_in)
        self._pays, self._logged_in = account, True
        self.payer = self._thread.enter(account, is_account=True)

    def _settle(self, *, over: bool = False) -> None:
        """Have the payer answer for what is in memory now; `over`: for nothing any more."""
        asked = 0 if over else self._protocol.held
        held = 0 if over else asked + self._protocol.unfinished + self._protocol.waiting + self.backlog
        self.payer.settle(held - self._held, asked - self._asked)
        self._held, self._asked = held, asked

    def _handle(self, events: list[FromClient | Ended]) -> None:
        messages = [event for event in events if not isinstance(event, Ended)]
        if messages:
            self.spoke = type(messages[-1]) is not Acknowledge
            self.handler.receive(messages)
        if len(messages) < len(events) and isinstance(ended := events[-1], Ended):  # nothing follows that
            if ended.closing is not None:
                self._end(ended.closing, f"goodbye ({ended.closing.reason})")
            else:
                self._end(None, str(ended.error))

    def _watch(self, now: float) -> None:
        """Tell the selector which events we wait for."""
        # Nothing more is read from a peer that sends requests and does not read the answers.
        deaf = (
            self.backlog > MAX_BACKLOG
            or (self._unsent and (self._protocol.has_data_to_send or self._tls.has_data_to_send))
            or (self.payer.tight and self.payer.is_stopped(self, now))
        )
        mask = 0 if deaf and self._finishing is None else selectors.EVENT_READ
        if self._unsent:
            mask |= selectors.EVENT_WRITE
        if mask != self._mask:
            old, self._mask = self._mask, mask
            self._thread.watch(self, old, mask)

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
        self._settle()
        self._watch(now)

    def _lost(self, reason: str) -> None:
        self._protocol.receive_eof()
        self._end(None, reason)
        self._drop()

    def _drop(self) -> None:
        if self.socket.fileno() < 0:
            return
        self._thread.drop(self, self._mask)
        self._mask = 0
        self._settle(over=True)
        self._thread.leave(self._pays, is_account=self._logged_in)
        self.socket.close()
        self._dropped = True
        self._queue.clear()  # a session may know this connection for a while longer: nothing large goes with it
        self._unsent = b""
        self._protocol.data_to_send()
        del self.handler  # which knows this connection: no cycle keeps the memory of both


def _describe(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS refused: {error.reason.replace('_', ' ').lower()}"
    return f"TLS refused: {error}"
