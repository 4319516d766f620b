"""A server that lies: a proxy between clients and an honest server, with a hook per message type.

It has a certificate that the clients trust (the test's own CA), so TLS is no obstacle: exactly the position of somebody
who has taken over the real server. It frames and decodes by itself, so that a mistake in `wire` cannot hide here.
"""

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from securechat.wire import limits
from securechat.wire import messages as m

_CHUNK = 1 << 16
_encode = msgspec.msgpack.Encoder().encode
_decode_client = msgspec.msgpack.Decoder(m.FromClient).decode
_decode_server = msgspec.msgpack.Decoder(m.FromServer).decode

Sent = m.Message | bytes
"""What a hook returns: a message, or bytes that go into the stream as they are."""

Hook = Callable[["Link", m.Message], Iterable[Sent] | None]


class Link:
    """One client's connection through the proxy. `account` is known once it has logged in."""

    def __init__(self) -> None:
        self.account = ""
        self.device = b""
        self.requests: dict[int, m.Message] = {}
        """The client's requests, by id: a reply does not say what it answers."""
        self.to_client: deque[Sent] = deque()
        self.to_server: deque[Sent] = deque()
        self.cut = False
        self._waker, self.woken = socket.socketpair()

    def tell_client(self, *messages: Sent) -> None:
        """Say something to the client that the server did not; from any thread."""
        self.to_client.extend(messages)
        self._waker.send(b"\0")

    def drop(self) -> None:
        """End the connection without a word; from any thread."""
        self.cut = True
        self._waker.send(b"\0")

    def close(self) -> None:
        """Close what wakes the link."""
        self._waker.close()
        self.woken.close()


class Lie:
    """A hook that is honest until `armed`, so that a test is its own twin. Counts how often it lied."""

    def __init__(self, tell: Hook, *, to: str = "", armed: bool = True) -> None:
        """`tell` as a hook, for `to` only; whatever it returns, except None, is a lie."""
        self._tell = tell
        self._to = to
        self.armed = armed
        self.told = 0

    def __call__(self, link: Link, message: m.Message) -> Iterable[Sent] | None:
        """Lie, if this link is meant."""
        if not self.armed or self._to not in ("", link.account):
            return None
        result = self._tell(link, message)
        self.told += result is not None
        return result


class HostileServer:
    """Relays between clients and the honest server at `upstream`; hooks may change, drop or invent messages.

    `from_server[Type]` and `from_client[Type]` take `(link, message)` and return what is relayed instead; None means
    the message itself. Hooks run in the link's own thread; those that share state between links use `lock`.
    """

    def __init__(self, server_context: ssl.SSLContext, upstream: tuple[str, int], ca: Path) -> None:
        """`server_context` presents the certificate clients accept; `ca` is the CA of the honest server."""
        self.from_server: dict[type[m.Message], Hook] = {}
        self.from_client: dict[type[m.Message], Hook] = {}
        self.lock = threading.Lock()
        self.failures: list[BaseException] = []
        self.tapped = bytearray()
        """Every byte clients have sent, after TLS."""
        self.links: list[Link] = []
        self._server_context = server_context
        self._upstream = upstream
        self._client_context = ssl.create_default_context(cafile=ca)
        self._client_context.set_alpn_protocols([limits.ALPN])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="hostile-acceptor", daemon=True)

    def __enter__(self) -> Self:
        """Start relaying."""
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut every connection; a hook that failed fails the test."""
        self._stop_writer.close()
        for thread in (self._acceptor, *self._threads):
            thread.join(60)
        self._listener.close()
        self._stop_reader.close()
        for link in self.links:
            link.close()
        if error is None and self.failures:
            raise self.failures[0]

    def link(self, account: str) -> Link:
        """The newest connection of an account that has logged in."""
        return next(link for link in reversed(self.links) if link.account == account)

    def lie(
        self, kind: type[m.Message], tell: Callable[..., Iterable[Sent] | None], *, to: str = "", armed: bool = True
    ) -> Lie:
        """Hook `tell` in for a type of message on its way to clients, or to `to` only."""
        lie = Lie(tell, to=to, armed=armed)
        self.from_server[kind] = lie
        return lie

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._stop_reader], [], [])
            if self._stop_reader in ready:
                return
            raw, _ = self._listener.accept()
            link = Link()
            self.links.append(link)
            thread = threading.Thread(target=self._serve, args=(raw, link), name="hostile-link", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket, link: Link) -> None:
        # Broken connections are normal here; anything else is a bug in the test and must fail it.
        try:
            with contextlib.suppress(OSError), raw:
                raw.settimeout(60)
                with (
                    self._server_context.wrap_socket(raw, server_side=True) as client,
                    socket.create_connection(self._upstream, timeout=60) as plain,
                    self._client_context.wrap_socket(plain, server_hostname="localhost") as server,
                ):
                    self._relay(link, client, server)
        except Exception as error:  # noqa: BLE001  whatever a hook raises belongs to the test's main thread
            self.failures.append(error)

    def _relay(self, link: Link, client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        # One thread owns both TLS objects, so that no two threads ever meet inside one.
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffers = {client: bytearray(), server: bytearray()}
        while not link.cut:
            ready = [side for side in buffers if side.pending()]
            if not ready:
                readable, _, _ = select.select([client, server, link.woken, self._stop_reader], [], [])
                if self._stop_reader in readable:
                    return
                if link.woken in readable:
                    link.woken.recv(_CHUNK)
                ready = [side for side in buffers if side in readable]
            for side in ready:
                data = side.recv(_CHUNK)
                if not data:
                    return
                buffers[side] += data
                if side is client:
                    self.tapped += data
                for body in _frames(buffers[side]):
                    if side is server:
                        link.to_client.extend(self._from_server(link, body))
                    else:
                        link.to_server.extend(self._from_client(link, body))
            for socket_, queue in ((client, link.to_client), (server, link.to_server)):
                while queue:
                    socket_.sendall(_on_the_wire(queue.popleft()))

    def _from_client(self, link: Link, body: bytes) -> Iterable[Sent]:
        message = _decode_client(body)
        if isinstance(message, m.Request):
            link.requests[message.id] = message
        if isinstance(message, m.Login | m.Resume):
            link.device = message.device
        return _apply(self.from_client, link, message)

    def _from_server(self, link: Link, body: bytes) -> Iterable[Sent]:
        message = _decode_server(body)
        if isinstance(message, m.LoggedIn):
            link.account = message.account
        return _apply(self.from_server, link, message)


def _apply(hooks: dict[type[m.Message], Hook], link: Link, message: m.Message) -> Iterable[Sent]:
    hook = hooks.get(type(message))
    result = hook(link, message) if hook else None
    return [message] if result is None else result


def _on_the_wire(sent: Sent) -> bytes:
    if isinstance(sent, bytes):
        return sent
    body = _encode(sent)
    return struct.pack(">I", len(body)) + body


def _frames(buffer: bytearray) -> list[bytes]:
    frames = []
    while len(buffer) >= 4:
        length = struct.unpack_from(">I", buffer)[0]
        if len(buffer) < 4 + length:
            break
        frames.append(bytes(buffer[4 : 4 + length]))
        del buffer[: 4 + length]
    return frames
