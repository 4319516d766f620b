"""The tap: a TCP proxy on loopback, between clients and a server, that records what passes.

It looks and never changes: bytes go on before they are read. What it keeps is bounded, by what the slower side of a
connection has not taken yet and by the few records before the secrets of a connection are known. It cannot open TLS by
itself: clients of the scene write their secrets into a key log (`SSLContext.keylog_filename`), which is something for
the lab and for tests.
"""

import contextlib
import errno
import ipaddress
import selectors
import socket
import struct
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from securechat.errors import UsageError
from securechat_lab.watching.capture import Capture, Flow
from securechat_lab.watching.observer import Observer
from securechat_lab.watching.recording import Recorder
from securechat_lab.watching.tls13 import APPLICATION_DATA, KeyLog, Record, Records, Side

CHUNK: Final = 1 << 16
"""Bytes that are read at once."""

MAX_BEHIND: Final = 1 << 18
"""Bytes that a side has not taken yet: then nothing more is read from the other one."""

MAX_HELD: Final = 1 << 18
"""Bytes of a connection that wait to be written down until its secrets are known."""

MAX_CONNECTIONS: Final = 256
"""Connections at a time: two descriptors each, of the 1,024 that a process may have at least. The next ones wait."""


class _Watched:
    """One connection as it is written down: as soon as its secrets are known, or cannot be known any more."""

    def __init__(self, flow: Flow | None, observer: Observer, key_log: KeyLog | None, capture: Capture | None) -> None:
        self._flow, self._observer, self._key_log, self._capture = flow, observer, key_log, capture
        self._records = (Records(), Records())
        self._held: list[tuple[Side, bytes, list[Record], float, float]] | None = []
        self._size = 0

    def passed(self, side: Side, data: bytes, t: float, moment: float) -> None:
        """Bytes have passed; `t`: in seconds since the recording began, `moment`: since 1970."""
        records = list(self._records[side].receive(data))
        if self._held is None:
            self._write(side, data, records, t, moment)
            return
        self._held.append((side, data, records, t, moment))
        self._size += len(data)
        # A client encrypts nothing before it has the secrets of the handshake; by its Finished it has all of them.
        known = side == 0 and any(record.kind in (0, APPLICATION_DATA) for record in records)
        if known or self._size > MAX_HELD:
            self.release()

    def release(self) -> None:
        """Write down what was held."""
        held, self._held = self._held, None
        if not held:
            return
        session = self._observer.session
        for side, _, records, _, _ in held:  # the handshake's messages in the clear say whose secrets to look for
            for record in records if side == 0 else ():
                if not session.client_random:
                    session.open(side, record)
        lines = b"" if self._key_log is None else self._key_log.lines(session.client_random)
        if lines:
            session.learn(lines)
            if self._capture is not None:
                self._capture.secrets(lines)
        for each in held:
            self._write(*each)

    def _write(self, side: Side, data: bytes, records: list[Record], t: float, moment: float) -> None:
        if self._flow is not None:
            self._flow.data(side, data, moment)
        for record in records:
            self._observer.passed(side, record, t)

    def end(self, moment: float) -> None:
        """The connection has ended."""
        self.release()
        if self._flow is not None:
            self._flow.end(moment)


class _Connection:
    """A client's socket and the server's, with what each has not taken yet."""

    def __init__(self, client: socket.socket, server: socket.socket, watched: _Watched) -> None:
        self.sockets = (client, server)
        self.waiting = (bytearray(), bytearray())  # for the client, for the server
        self.ended = [False, False]  # whether a side sends nothing more
        self.told = [False, False]  # whether a side knows that of the other
        self.watched = watched

    def side(self, socket_: socket.socket) -> Side:
        return 0 if socket_ is self.sockets[0] else 1


class Tap:
    """Relays between `port` on loopback and a server there; as a context manager it works from entry to exit."""

    def __init__(
        self,
        upstream: tuple[str, int],
        recorder: Recorder,
        *,
        capture: Capture | None = None,
        key_log: Path | None = None,
    ) -> None:
        """`capture` and `recorder` are the caller's to close. Raises `UsageError` if the server is not on loopback."""
        if not _is_loopback(upstream[0]):
            raise UsageError(f"The tap listens on this computer only, and {upstream[0]} is another one.")
        self._upstream = upstream
        self._recorder = recorder
        self._capture = capture
        self._key_log = None if key_log is None else KeyLog(key_log)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self._count = 0
        self._connections: set[_Connection] = set()
        self._selector = selectors.DefaultSelector()
        self._failure: Exception | None = None
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def __enter__(self) -> Self:
        """Start relaying."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut every connection. What has ended the tap before is raised."""
        self._stop_writer.close()
        self._thread.join()
        self._stop_reader.close()
        if error is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._relay()
        except Exception as error:  # noqa: BLE001  a bug of ours; whoever is connected must not wait for ever
            self._failure = error
            for each in tuple(self._connections):
                for socket_ in each.sockets:
                    socket_.close()

    def _relay(self) -> None:
        with self._selector, self._listener:
            self._selector.register(self._stop_reader, selectors.EVENT_READ)
            self._selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, events in self._selector.select():
                    if key.fileobj is self._stop_reader:
                        for each in tuple(self._connections):
                            self._close(each)
                        return
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data in self._connections:  # its other socket may have ended it a moment ago
                        self._serve(key.data, key.fileobj, events)  # type: ignore[arg-type]  # we register sockets
                if self._capture is not None:
                    self._capture.flush()

    def _accept(self) -> None:
        try:
            client, address = self._listener.accept()
        except OSError:  # it has gone, or there are no descriptors left
            return
        server = socket.socket(socket.AF_INET6 if ":" in self._upstream[0] else socket.AF_INET)
        for each in (client, server):
            each.settimeout(0)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.connect_ex(self._upstream)  # whether it succeeds is seen once something is sent or read
        self._count += 1
        moment = time.time()
        capture = None if self._capture is None or self._capture.full else self._capture
        flow = None if capture is None else Flow(capture, address[:2], ("127.0.0.1", self.port), moment)
        observer = Observer(self._recorder, self._count, f"{address[0]}:{address[1]}")
        connection = _Connection(client, server, _Watched(flow, observer, self._key_log, capture))
        self._connections.add(connection)
        for each in (client, server):
            self._selector.register(each, selectors.EVENT_READ, connection)
        if len(self._connections) == MAX_CONNECTIONS:
            self._selector.unregister(self._listener)

    def _serve(self, connection: _Connection, socket_: socket.socket, events: int) -> None:
        side = connection.side(socket_)
        try:
            if events & selectors.EVENT_WRITE:
                self._send(connection, side)
            if events & selectors.EVENT_READ and not connection.ended[side]:
                self._receive(connection, side)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection, reset=True)
            return
        if all(connection.told):
            self._close(connection)
        else:
            self._watch(connection)

    def _receive(self, connection: _Connection, side: Side) -> None:
        data = connection.sockets[side].recv(CHUNK)
        other: Side = 1 if side == 0 else 0
        if data:
            t, moment = self._recorder.now(), time.time()
            connection.waiting[other].extend(data)
            with contextlib.suppress(BlockingIOError):
                self._send(connection, other)
            connection.watched.passed(side, data, t, moment)
        else:
            connection.ended[side] = True
            with contextlib.suppress(BlockingIOError):
                self._send(connection, other)

    def _send(self, connection: _Connection, side: Side) -> None:
        """Pass on what a side has not taken yet, and then, if so, that there is nothing more."""
        waiting = connection.waiting[side]
        try:
            while waiting:
                del waiting[: connection.sockets[side].send(waiting)]
            if connection.ended[1 - side] and not connection.told[side]:
                connection.sockets[side].shutdown(socket.SHUT_WR)
                connection.told[side] = True
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # not yet
                raise BlockingIOError from error
            raise

    def _watch(self, connection: _Connection) -> None:
        """Wait for what can happen next."""
        for side, socket_ in enumerate(connection.sockets):
            behind = connection.waiting[side] or (connection.ended[1 - side] and not connection.told[side])
            events = selectors.EVENT_WRITE if behind else 0
            if not connection.ended[side] and len(connection.waiting[1 - side]) < MAX_BEHIND:
                events |= selectors.EVENT_READ
            registered = socket_ in self._selector.get_map()
            if not events:
                if registered:
                    self._selector.unregister(socket_)
            elif registered:
                self._selector.modify(socket_, events, connection)
            else:
                self._selector.register(socket_, events, connection)

    def _close(self, connection: _Connection, *, reset: bool = False) -> None:
        for socket_ in connection.sockets:
            if socket_ in self._selector.get_map():
                self._selector.unregister(socket_)
            if reset:  # whoever is left sees that the other side was lost, and did not say goodbye
                with contextlib.suppress(OSError):
                    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket_.close()
        self._connections.discard(connection)
        connection.watched.end(time.time())
        if self._listener not in self._selector.get_map():
            self._selector.register(self._listener, selectors.EVENT_READ)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
