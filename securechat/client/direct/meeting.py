"""How the two sides of a direct link come together: one listens for a while, the other knocks.

Whoever listens knows beforehand which certificate comes. Anybody else who connects is a stranger: few of them are heard
at once, the one who has been there longest goes first, and after MAX_STRANGERS nobody is let in any more. So they can
cost us the link, whose bytes then go by the server, and nothing else.
"""

import contextlib
import selectors
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from securechat.client.direct.endpoints import Address, Endpoint
from securechat.errors import PeerError, UnreachableError
from securechat.transport.deadline import Deadline
from securechat.transport.mutual import MutualTLS
from securechat.transport.streaming import receive, send, shake_hands
from securechat.transport.tcp import race
from securechat.transport.tls_connection import TLSConnection
from securechat.transport.waker import Waker
from securechat.value import value

MAX_HEARD: Final = 16
"""Connections in the middle of a handshake: about 100 KiB each, and one file."""

MAX_STRANGERS: Final = 256
"""Connections that are taken while one link is waited for: a millisecond of our time each, if they shake hands."""

MAX_HANDSHAKE: Final = 16 << 10
"""Bytes that a stranger may send without having shaken hands: ours take 1 KiB."""

KNOCK_SECONDS: Final = 5.0
"""For one endpoint, TCP and TLS together: it is near, or the user has chosen a way across the Internet."""


@value
class Session:
    """A connection whose TLS is established: each side has shown the certificate that the other one knew."""

    link: socket.socket
    tls: TLSConnection
    early: bytes
    """Plaintext that has come with the handshake."""


class Door:
    """Sockets that listen for one link."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        """Listen on each address, at a port that the system chooses. Nobody is let in before `admit`."""
        self._listeners: list[socket.socket] = []
        for address in addresses:
            with contextlib.suppress(OSError):  # an address that has gone: the others may do
                self._listeners.append(_listen(Endpoint(address, 0)))

    def endpoints(self, addresses: Sequence[Address]) -> list[Endpoint]:
        """Return where it listens."""
        known = {str(address): address for address in addresses}
        return [Endpoint(known[name[0]], name[1]) for name in (each.getsockname() for each in self._listeners)]

    def admit(self, tls: MutualTLS, deadline: Deadline, closing: Callable[[], bool], waker: Waker) -> Session:
        """Wait for the one whom `tls` trusts; nobody else is let in, and the door is closed then.

        Raises UnreachableError: in time nobody has come, too many others have, or `closing` was true after a wake.
        """
        guests = _Guests(tls)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(waker, selectors.EVENT_READ)
                for listener in self._listeners:
                    selector.register(listener, selectors.EVENT_READ)
                while not closing():
                    for key, _ in selector.select(deadline.remaining()):
                        if key.fileobj is waker:
                            waker.clear()
                        elif key.fileobj in self._listeners:
                            guests.take(key.fileobj, selector)
                        elif (session := guests.hear(key.data, selector)) is not None:
                            return session
                raise UnreachableError("the link was given up")
        except TimeoutError:
            raise UnreachableError("nobody came in time") from None
        finally:
            guests.dismiss()
            self.close()

    def close(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            listener.close()


def _listen(endpoint: Endpoint) -> socket.socket:
    listener = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        if endpoint.address.version == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(endpoint.address), endpoint.port))
        listener.listen(MAX_STRANGERS)  # with fewer, the system lets strangers keep others waiting
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


class _Guests:
    """Those who have connected and have not shaken hands, oldest first."""

    def __init__(self, tls: MutualTLS) -> None:
        self._tls = tls
        self._heard: list[_Guest] = []
        self._taken = 0

    def take(self, listener: socket.socket, selector: selectors.BaseSelector) -> None:
        """Let one more connect. Raises UnreachableError if there were too many."""
        try:
            link, _ = listener.accept()
        except OSError:  # gone again
            return
        self._taken += 1
        if self._taken > MAX_STRANGERS:
            link.close()
            raise UnreachableError("too many strangers connected")
        if len(self._heard) == MAX_HEARD:
            self._drop(self._heard[0], selector)
        link.settimeout(0)
        guest = _Guest(link, self._tls.connection())
        self._heard.append(guest)
        selector.register(link, selectors.EVENT_READ, guest)

    def hear(self, guest: "_Guest", selector: selectors.BaseSelector) -> Session | None:
        """Read what one of them sends; return the one who is awaited, once they have shaken hands."""
        if guest not in self._heard:  # dropped by an event of the same round
            return None
        try:
            early = guest.hear()
        except (OSError, PeerError):  # ssl.SSLError is an OSError
            self._drop(guest, selector)
            return None
        if guest.tls.established:
            self._heard.remove(guest)
            return Session(guest.link, guest.tls, early)
        return None

    def dismiss(self) -> None:
        """Close them all."""
        for guest in self._heard:
            guest.link.close()

    def _drop(self, guest: "_Guest", selector: selectors.BaseSelector) -> None:
        self._heard.remove(guest)
        selector.unregister(guest.link)
        guest.link.close()


class _Guest:
    def __init__(self, link: socket.socket, tls: TLSConnection) -> None:
        self.link, self.tls = link, tls
        self._received = 0

    def hear(self) -> bytes:
        """Read, and answer. Raises OSError, PeerError."""
        received = receive(self.link)
        if received is None:
            return b""
        if not received:
            raise ConnectionResetError("closed during the handshake")
        self._received += len(received)
        if self._received > MAX_HANDSHAKE:
            raise PeerError("it sends too much")
        try:
            early = self.tls.receive(received)
        finally:  # what we answer is less than an empty socket takes, and may be an alert that says why we refuse
            send(self.link, self.tls.data_to_send())
        return early


def knock(tls: MutualTLS, endpoints: Iterable[Endpoint], deadline: Deadline) -> Session:
    """Connect to the first of these endpoints where the one is whom `tls` trusts. Each is tried once.

    Raises UnreachableError: there is nobody.
    """
    reason = "no address of theirs can be used"
    for endpoint in endpoints:
        link: socket.socket | None = None
        try:
            for_it = Deadline(min(KNOCK_SECONDS, deadline.remaining()))
            link = race([(endpoint.family, socket.SOCK_STREAM, 0, (str(endpoint.address), endpoint.port))], for_it)
            connection = tls.connection()
            return Session(link, connection, shake_hands(link, connection, for_it))
        except (OSError, PeerError) as error:  # ssl.SSLError is an OSError
            if link is not None:
                link.close()
            reason = _why(error)
    raise UnreachableError(reason)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError | PeerError):
        return "somebody else is at their address"
    if isinstance(error, TimeoutError):
        return "their address does not answer"
    return "their address cannot be reached"
