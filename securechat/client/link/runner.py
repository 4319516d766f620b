"""The one thread that owns a client's socket, its TLS and its protocol (design, invariant 10).

    connect     TCP and TLS, within one deadline                 fails at the very first try -> the client ends
    talk        bytes in, units of the engine, bytes out         lost -> wait, connect again, resume by token
    wait        longer each time, at random; commands and `close` wake it

Other threads change the engine only under `lock`, then call `wake`; they never touch the connection. The front end's
`on_event` runs here too, outside the lock, so it may call commands.
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from securechat import __version__
from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.engine import Engine
from securechat.client.settings import ClientSettings
from securechat.errors import InternalError, PeerError, RefusedError, SecurechatError, UnreachableError, UsageError
from securechat.transport.deadline import Deadline
from securechat.transport.tls import client_context, client_context_for_pin, describe_tls_failure
from securechat.transport.tls_connection import TLSConnection
from securechat.wire import limits
from securechat.wire.messages import Closing, FromServer
from securechat.wire.protocol import ClientProtocol, Ended

CONNECT_SECONDS: Final = 10.0
"""For name, TCP and TLS together: a far server over a bad link answers in less."""

GOODBYE_SECONDS: Final = 2.0
"""For the last bytes to leave; what was said is in the vault and in the log, whether they do or not."""

_RECEIVE_SIZE: Final = 256 << 10
"""Bytes read at once: what one `recv` brings becomes one transaction."""

_MAX_UNSENT: Final = 1 << 20
"""Bytes that may wait for a slow server before we hand it nothing new."""

_END_OF_DEVICE: Final = {
    "replaced": "This account has logged in from another program with the same vault.",
    "revoked": "This device has been revoked.",
}


class Runner:
    """Drives one engine. `start` once; after `close`, or a failure, `Ended` is the last event."""

    def __init__(
        self, settings: ClientSettings, engine: Engine, lock: threading.RLock, on_event: Callable[[events.Event], None]
    ) -> None:
        """`lock` guards the engine; `on_event` is called on the runner's thread."""
        self._settings = settings
        self._engine = engine
        self._lock = lock
        self._on_event = on_event
        self._closing = threading.Event()
        self._waker: socket.socket | None = None  # one byte into it wakes the thread
        self._context: ssl.SSLContext | None = None
        self._greeted = False  # a server we trust has spoken to us once
        self._backoff = Backoff(time.monotonic)  # between connections; starts anew when we are let in
        self._retry_after = 0.0  # seconds that the server has asked for
        self._thread = threading.Thread(target=self._run, name="securechat-client", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._waker, self._wakened = socket.socketpair()
        for end in (self._waker, self._wakened):
            end.settimeout(0)
        self._thread.start()

    def wake(self) -> None:
        """Something was changed: look at it. From any thread."""
        if self._waker is not None:
            # Full: it will wake anyway. Closed: it has ended.
            with contextlib.suppress(OSError):
                self._waker.send(b"\0")

    def close(self) -> None:
        """Say goodbye and end. From any thread."""
        self._closing.set()
        self.wake()

    def join(self, seconds: float) -> None:
        """Wait for the end, which `close` has asked for."""
        self._thread.join(seconds)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._connect_again_and_again()
        except SecurechatError as failure:
            error = self._engine.failure or failure  # a command on another thread may have broken the engine
        except Exception as failure:  # noqa: BLE001  # the front end has to learn of any end
            error = InternalError(f"{type(failure).__name__}: {failure}")
            error.__cause__ = failure
        for end in (self._waker, self._wakened):
            if end is not None:
                end.close()
        self._on_event(events.Ended(error))

    def _connect_again_and_again(self) -> None:
        while not self._closing.is_set():
            try:
                reason = self._talk(*self._connect())
            except UnreachableError as error:
                if not self._greeted:
                    raise
                reason = str(error)
            if self._closing.is_set():
                return
            wait, self._retry_after = self._backoff.wait(self._retry_after), 0.0
            self._on_event(events.Disconnected(reason, wait))
            self._pause(wait)

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakened, selectors.EVENT_READ)
            while not self._closing.is_set() and (left := deadline - time.monotonic()) > 0:
                if selector.select(left):
                    self._clear_wakening()
                self._deliver()

    def _clear_wakening(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wakened.recv(4096):
                pass

    def _deliver(self) -> None:
        """Hand the events that are on disk to the front end."""
        with self._lock:
            happened = self._engine.take_events()
            failure = self._engine.failure
        for event in happened:
            if isinstance(event, events.Ready | events.Waiting):
                self._backoff.reset()
            elif isinstance(event, events.Connected):
                self._greeted = True
            self._on_event(event)
        if failure is not None:
            raise failure

    # --- connecting -----------------------------------------------------------------------------------------------

    def _connect(self) -> tuple[socket.socket, TLSConnection, bytes]:
        """Make a TLS connection; the bytes are what the server has already said.

        Raises `UnreachableError`, also for a pin that nobody there has.
        """
        settings, deadline = self._settings, Deadline(CONNECT_SECONDS)
        try:
            if self._context is None:
                self._context = (
                    client_context(settings.ca_file)
                    if settings.ca_file is not None
                    else client_context_for_pin(settings.host, settings.port, settings.pin, deadline)
                )
            link = self._connect_tcp(deadline)
            try:
                tls = TLSConnection(self._context, server_hostname=settings.host)
                early = self._shake_hands(link, tls, deadline)
            except BaseException:
                link.close()
                raise
        except (OSError, PeerError) as error:  # ssl.SSLError is an OSError
            raise UnreachableError(describe_tls_failure(error, settings.host, settings.port)) from error
        return link, tls, early

    def _connect_tcp(self, deadline: Deadline) -> socket.socket:
        addresses = socket.getaddrinfo(self._settings.host, self._settings.port, type=socket.SOCK_STREAM)
        failure: OSError = TimeoutError()
        for family, kind, protocol, _, address in addresses:
            link = socket.socket(family, kind, protocol)
            try:
                link.settimeout(deadline.remaining())
                link.connect(address)
                link.settimeout(0)
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # we batch ourselves
            except OSError as error:
                link.close()
                failure = error
            else:
                return link
        raise failure

    def _shake_hands(self, link: socket.socket, tls: TLSConnection, deadline: Deadline) -> bytes:
        """Complete the handshake. Returns what the server has already said after it."""
        early = b""
        with selectors.DefaultSelector() as selector:
            selector.register(link, selectors.EVENT_READ)
            unsent = tls.data_to_send()
            while not tls.established or unsent:
                unsent = unsent[_send(link, unsent) :]
                selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
                selector.select(deadline.remaining())
                received = _receive(link)
                if received == b"":
                    raise ConnectionResetError("closed during the handshake")
                try:
                    early += tls.receive(received or b"")
                except (ssl.SSLError, PeerError):
                    _send(link, tls.data_to_send())  # perhaps the alert that says what we do not like
                    raise
                unsent += tls.data_to_send()
        return early

    # --- talking --------------------------------------------------------------------------------------------------

    def _talk(self, link: socket.socket, tls: TLSConnection, early: bytes) -> str:
        """Exchange messages until the connection ends. Says why it did."""
        protocol = ClientProtocol(f"securechat/{__version__}", time.monotonic())
        with self._lock:
            self._engine.connected()
        try:
            with link, selectors.DefaultSelector() as selector:
                selector.register(link, selectors.EVENT_READ)
                selector.register(self._wakened, selectors.EVENT_READ)
                reason = self._take_in(protocol, early)
                return self._exchange(link, tls, protocol, selector, reason)
        except (OSError, PeerError) as error:
            return describe_tls_failure(error, self._settings.host, self._settings.port)
        finally:
            with self._lock, contextlib.suppress(UsageError):  # the engine has ended
                self._engine.disconnected()

    def _exchange(
        self,
        link: socket.socket,
        tls: TLSConnection,
        protocol: ClientProtocol,
        selector: selectors.BaseSelector,
        reason: str | None,
    ) -> str:
        unsent = b""
        while True:
            self._deliver()
            if reason is None and self._closing.is_set():
                self._say_goodbye(protocol)
                reason = "closed"
            elif reason is None and len(unsent) < _MAX_UNSENT:
                self._give_out(protocol)
            tls.write(protocol.data_to_send())
            unsent += tls.data_to_send()
            if reason is not None:
                tls.close()
                _send_all(link, unsent + tls.data_to_send())
                return reason
            if unsent:
                unsent = unsent[_send(link, unsent) :]
            selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
            ready = {key.fileobj for key, _ in selector.select(self._patience(protocol))}
            if self._wakened in ready:
                self._clear_wakening()
            if link in ready and (received := _receive(link)) is not None:
                reason = self._take_in(protocol, tls.receive(received)) if received else self._lost(protocol)
            elif time.monotonic() >= protocol.timer:
                reason = self._handle(protocol.handle_timer(time.monotonic()))
            with self._lock:
                if (timer := self._engine.timer) is not None and time.monotonic() >= timer:
                    self._engine.handle_timer()

    def _patience(self, protocol: ClientProtocol) -> float:
        with self._lock:
            timer = self._engine.timer
        due = protocol.timer if timer is None else min(protocol.timer, timer)
        return max(due - time.monotonic(), 0.0)

    def _give_out(self, protocol: ClientProtocol) -> None:
        with self._lock:
            outgoing = self._engine.take_outgoing(limits.MAX_IN_FLIGHT - protocol.in_flight, protocol.next_id)
        for message in outgoing:
            protocol.send(message)

    def _say_goodbye(self, protocol: ClientProtocol) -> None:
        with self._lock:
            self._engine.say_goodbye()
        self._give_out(protocol)
        protocol.close("bye")

    def _take_in(self, protocol: ClientProtocol, plaintext: bytes) -> str | None:
        return self._handle(protocol.receive_data(plaintext, time.monotonic()))

    def _lost(self, protocol: ClientProtocol) -> str:
        return self._handle(protocol.receive_eof()) or "The connection was lost."

    def _handle(self, received: list[FromServer | Ended]) -> str | None:
        """Let the engine process what has come. Says why the connection is over, if it is."""
        messages = [message for message in received if not isinstance(message, Ended)]
        if messages:
            with self._lock:
                self._engine.receive(messages)
                setback, self._retry_after = self._engine.setback, self._engine.retry_after
            if setback:
                return setback
        ends = [message for message in received if isinstance(message, Ended)]
        return self._end(ends[0]) if ends else None

    def _end(self, ended: Ended) -> str:
        if ended.error is not None:
            return f"The server broke the protocol: {ended.error}"
        if not isinstance(ended.closing, Closing):
            return "The connection was lost."
        if ended.closing.reason in _END_OF_DEVICE:
            raise RefusedError(ended.closing.reason, _END_OF_DEVICE[ended.closing.reason])
        return f"The server has closed the connection ({ended.closing.reason}). {ended.closing.text}".strip()


def _receive(link: socket.socket) -> bytes | None:
    """Return what has come; nothing at the end of the stream; None if there is nothing yet."""
    try:
        return link.recv(_RECEIVE_SIZE)
    except BlockingIOError:
        return None


def _send(link: socket.socket, data: bytes) -> int:
    """Send what goes out at once; return how many bytes that was."""
    try:
        return link.send(data) if data else 0
    except BlockingIOError:
        return 0


def _send_all(link: socket.socket, data: bytes) -> None:
    """Send the last bytes, within `GOODBYE_SECONDS`."""
    deadline = Deadline(GOODBYE_SECONDS)
    with contextlib.suppress(OSError):  # TimeoutError is one
        link.settimeout(deadline.remaining())
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        # Closing with bytes unread would reset the connection, and the reset could overtake our goodbye.
        while link.recv(_RECEIVE_SIZE):
            link.settimeout(deadline.remaining())
