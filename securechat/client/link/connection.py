"""One connection after its TLS handshake: bytes and messages. Belongs to one thread (invariant 10)."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final

from securechat import __version__
from securechat.transport.certificate_files import CA
from securechat.transport.deadline import Deadline
from securechat.transport.streaming import RECEIVE_SIZE, receive, send
from securechat.transport.tls_connection import TLSConnection
from securechat.wire import limits
from securechat.wire.messages import FromClient, FromServer
from securechat.wire.protocol import ClientProtocol, Ended

GOODBYE_SECONDS: Final = 2.0
"""For the last bytes to leave; whatever was said is in the vault or the log, whether they do or not."""

_MAX_UNSENT: Final = 1 << 20
"""Encrypted bytes that may wait for a slow server before we send it anything new."""


class Connection:
    """Every method except `close` raises OSError or `PeerError` if the connection is broken."""

    def __init__(self, link: socket.socket, tls: TLSConnection, early: bytes) -> None:
        """`link` does not block, `tls` is established; `early`: plaintext that the server has sent already."""
        self.link: Final = link
        self._tls = tls
        self._early = early
        self._protocol = ClientProtocol(f"securechat/{__version__}", time.monotonic())
        self._unsent = memoryview(b"")

    @property
    def server_address(self) -> str:
        """The server's IP address; empty: the connection is lost."""
        try:
            return str(self.link.getpeername()[0])
        except OSError:
            return ""

    def shown(self) -> bytes:
        """SHA-256 of the certificate that the server has shown."""
        return self._tls.shown()

    def verified_by(self) -> CA:
        """The CA that has signed for the server."""
        return self._tls.verified_by()

    def begin(self) -> list[FromServer | Ended]:
        """Return the messages that the server has sent already."""
        early, self._early = self._early, b""
        return self._protocol.receive_data(early, time.monotonic())

    def receive(self) -> list[FromServer | Ended]:
        """Read whatever has arrived."""
        received = receive(self.link)
        if received is None:
            return []
        if not received:
            return self._protocol.receive_eof()
        return self._protocol.receive_data(self._tls.receive(received), time.monotonic())

    @property
    def timer(self) -> float:
        """When to call `handle_timer`, on the monotonic clock."""
        return self._protocol.timer

    def handle_timer(self) -> list[FromServer | Ended]:
        """Time has passed."""
        return self._protocol.handle_timer(time.monotonic())

    def send(self, take: Callable[[int, Callable[[], int]], Iterable[FromClient]]) -> None:
        """Send whatever waits, and what `take(free requests, next id)` returns, unless too much waits already."""
        waiting = self._tls.has_data_to_send or len(self._unsent) >= _MAX_UNSENT
        if not (waiting or self._protocol.ended):
            for message in take(limits.MAX_IN_FLIGHT - self._protocol.in_flight, self._protocol.next_id):
                self._protocol.send(message)
        self._tls.write(self._protocol.data_to_send())
        while self._unsent or self._tls.has_data_to_send:
            if not self._unsent:  # what waits is not copied again each time that the system takes some of it
                self._unsent = memoryview(self._tls.data_to_send())
            self._unsent = self._unsent[send(self.link, self._unsent) :]
            if self._unsent:
                return

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait that the system has not taken."""
        return bool(self._unsent) or self._tls.has_data_to_send

    def say_goodbye(self) -> None:
        """Say goodbye to the server, in the protocol and in TLS, and wait until it is out. Only `close` may follow."""
        if not self._protocol.ended:
            self._protocol.close("bye")
        self._tls.write(self._protocol.data_to_send())
        self._tls.close()
        deadline = Deadline(GOODBYE_SECONDS)
        with contextlib.suppress(OSError):  # TimeoutError is one
            self.link.settimeout(deadline.remaining())
            self.link.sendall(bytes(self._unsent) + self._tls.data_to_send())
            self.link.shutdown(socket.SHUT_WR)
            # Closing while bytes are unread would reset the connection, and the reset could overtake our goodbye.
            while self.link.recv(RECEIVE_SIZE):
                self.link.settimeout(deadline.remaining())

    def close(self) -> None:
        """Close without waiting; the protocol's last words (why the server was not understood) go out if they can."""
        with contextlib.suppress(OSError), self.link:
            self._tls.write(self._protocol.data_to_send())
            self._tls.close()
            send(self.link, bytes(self._unsent) + self._tls.data_to_send())
