"""Connecting: from a host's name to TLS, in a thread of its own, so that the engine's thread waits for nobody.

The finished connection is handed over as a whole, and its taker owns it from then on (invariant 10).
"""

import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Final

from securechat.client.link.connection import Connection, receive, send
from securechat.client.settings import ClientSettings
from securechat.errors import PeerError, UnreachableError
from securechat.transport.deadline import Deadline
from securechat.transport.tls import client_context, client_context_for_pin, describe_tls_failure
from securechat.transport.tls_connection import TLSConnection

CONNECT_SECONDS: Final = 10.0
"""For name resolution, TCP and TLS together: a far server over a bad link answers sooner."""


class Connecting:
    """Tries to connect, one try at a time."""

    def __init__(self, settings: ClientSettings, deliver: Callable[[Connection | Exception], None]) -> None:
        """`deliver` takes a try's result, on the try's thread: a connection, `UnreachableError` or another error."""
        self._settings = settings
        self._deliver = deliver
        self._context: ssl.SSLContext | None = None  # kept from the first try that got as far
        self._lock = threading.Lock()  # protects `_abandoned`, after which nothing may be delivered
        self._abandoned = False

    def start(self) -> None:
        """Begin a try. The previous one must have been delivered."""
        threading.Thread(target=self._try, name="securechat-connect", daemon=True).start()

    def abandon(self) -> None:
        """Deliver nothing any more; close a connection that is still made."""
        with self._lock:
            self._abandoned = True

    def _try(self) -> None:
        outcome: Connection | Exception
        try:
            outcome = self._connect()
        except Exception as error:  # noqa: BLE001  # on another thread: the client's owner has to learn of it
            outcome = error
        with self._lock:
            if not self._abandoned:
                self._deliver(outcome)
            elif isinstance(outcome, Connection):
                outcome.close()

    def _connect(self) -> Connection:
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
                return Connection(link, tls, _shake_hands(link, tls, deadline))
            except BaseException:
                link.close()
                raise
        except UnicodeError:  # the codec of internationalised names
            raise UnreachableError(f"{settings.host!r} cannot be the name of a host. Check its spelling.") from None
        except (OSError, PeerError) as error:  # ssl.SSLError is an OSError
            raise UnreachableError(describe_tls_failure(error, settings.host, settings.port)) from error

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


def _shake_hands(link: socket.socket, tls: TLSConnection, deadline: Deadline) -> bytes:
    """Complete the handshake. Return the bytes that the server has sent after it."""
    early = b""
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        unsent = tls.data_to_send()
        while not tls.established or unsent:
            unsent = unsent[send(link, unsent) :]
            selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
            selector.select(deadline.remaining())
            received = receive(link)
            if received == b"":
                raise ConnectionResetError("closed during the handshake")
            try:
                early += tls.receive(received or b"")
            except (ssl.SSLError, PeerError):
                send(link, tls.data_to_send())  # perhaps an alert that says why we refuse
                raise
            unsent += tls.data_to_send()
    return early
