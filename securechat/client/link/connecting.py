"""Connecting: from a host's name to TLS, in a thread of its own, so that the engine's thread waits for nobody.

The finished connection is handed over as a whole, and its taker owns it from then on (invariant 10).
"""

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from securechat.client.link.connection import Connection
from securechat.client.settings import ClientSettings
from securechat.client.trust import Trust, trust
from securechat.errors import PeerError, UnreachableError
from securechat.transport.certificate_files import CA, read_cas
from securechat.transport.deadline import Deadline
from securechat.transport.streaming import shake_hands
from securechat.transport.tcp import connect
from securechat.transport.tls import describe_tls_failure
from securechat.transport.tls_connection import TLSConnection
from securechat.value import value
from securechat.wire.messages import Hello

CONNECT_SECONDS: Final = 10.0
"""For name resolution, TCP and TLS together: a far server over a bad link answers sooner."""


@value
class Greeting:
    """What a server has said of itself: its id, under a CA that was named or known."""

    server_id: bytes
    ca: CA


class Connecting:
    """Tries to connect, one try at a time."""

    def __init__(
        self,
        settings: ClientSettings,
        trusted: Sequence[CA],
        deliver: Callable[[Connection | Exception], None],
        trust: Trust,
    ) -> None:
        """`trusted`: the CAs that this vault trusts already, where the settings name none; `trust` goes by them.

        `deliver` takes a try's result, on the try's thread: a connection, `UnreachableError` or another error.
        """
        self._settings = settings
        self._trusted = trusted
        self._deliver = deliver
        self._trust = trust
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
        deadline = Deadline(CONNECT_SECONDS)
        with _described(self._settings):
            if self._context is None:
                self._context = self._trust(self._settings, self._trusted, deadline)
            return _open(self._settings, self._context, deadline)


def ask_server(settings: ClientSettings, trusted: Sequence[CA]) -> Greeting:
    """Ask a server who it is, over a connection of its own, under a CA of the settings or, without, a `trusted` one.

    Raises UnreachableError; StorageError or UsageError for the CA that was named.
    """
    deadline = Deadline(CONNECT_SECONDS)
    with _described(settings):
        connection = _open(settings, trust(settings, trusted, deadline), deadline)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(connection.link, selectors.EVENT_READ)
                messages = connection.begin()
                while not messages:
                    selector.select(deadline.remaining())
                    messages = connection.receive()
        finally:
            connection.close()
        if not isinstance(messages[0], Hello):
            raise PeerError("it does not say who it is")
        return Greeting(messages[0].server_id, connection.verified_by())


def cas_in(file: Path) -> list[CA]:
    """Return the CAs in a file. Raises StorageError."""
    return [CA.of(certificate) for certificate in read_cas(file)]


@contextmanager
def _described(settings: ClientSettings) -> Iterator[None]:
    """Say in words why there is no connection."""
    try:
        yield
    except (OSError, PeerError) as error:  # ssl.SSLError is an OSError
        raise UnreachableError(describe_tls_failure(error, settings.host, settings.port)) from error


def _open(settings: ClientSettings, context: ssl.SSLContext, deadline: Deadline) -> Connection:
    link = connect(settings.host, settings.port, deadline)
    try:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # we batch ourselves
        tls = TLSConnection(context, server_side=False, server_hostname=settings.host)
        return Connection(link, tls, shake_hands(link, tls, deadline))
    except ssl.SSLCertVerificationError as error:
        link.close()
        raise UnreachableError(describe_tls_failure(error, settings.host, settings.port, context)) from error
    except BaseException:
        link.close()
        raise
