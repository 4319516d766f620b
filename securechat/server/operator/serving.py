"""The operator's socket: who connects there is served beside the others, each by a thread of its own.

Whoever can open the socket may do anything, so nothing here is about strangers: it is about scripts that hang, and
requests that take their time. Neither keeps the next one waiting:

- a connection that has not sent its request, or does not read its answer, gives way to a new one when there are too
  many, and has `REQUEST_SECONDS` for each of these in any case; a backup gives way to nobody, but to the server's end;
- of the requests that may take long `MAX_AT_ONCE` are handled at once, and one backup; more are refused (`busy`);
- what shuts somebody out (`URGENT`) is always handled at once.
"""

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Final

import msgspec

from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.files import PRIVATE
from securechat.server.logs import get_logger
from securechat.server.operator import protocol
from securechat.server.operator.admin import Admin
from securechat.server.operator.protocol import Request
from securechat.server.workers import join
from securechat.transport.deadline import Deadline
from securechat.transport.waker import Waker

log = get_logger(__name__)

REQUEST_SECONDS: Final = 10.0
"""How long the other side may take to send its line, to take the answer, and to take each portion of a backup."""

MAX_CONNECTIONS: Final = 32
"""Connections, each with a thread: more than an operator's scripts open at once."""

MAX_AT_ONCE: Final = 8
"""Requests that are handled at once, besides the urgent ones: each may wait half a minute for a disk."""

URGENT: Final = (protocol.SetEnabled, protocol.EndSessions, protocol.DeleteUser)
"""Requests that never wait for others."""


class AdminServer:
    """The socket, and the threads that answer there."""

    def __init__(self, path: str, admin: Admin) -> None:
        """`path`: see `protocol.socket_path`; nobody else may use the data folder. Raises StorageError."""
        self._path = path
        self._admin = admin
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - left by a server that was killed
            self._listener.bind(path)
            os.chmod(path, PRIVATE)  # noqa: PTH101 - before it listens: until then nobody gets in
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise StorageError(f"cannot open {path}: {error.strerror or error}") from error
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name="admin")
        self._at_once = threading.Semaphore(MAX_AT_ONCE)
        self._lock = threading.Lock()  # protects the three below
        self._threads: set[threading.Thread] = set()
        self._backup: socket.socket | None = None  # the connection that gets one, which gives way to nobody
        self._idle: dict[socket.socket, None] = {}  # connections whose other side is waited for, the oldest first

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, once what is being done is done, and remove the socket. A backup breaks off."""
        self._waker.wake()
        join(self._thread)
        with self._lock:
            for connection in (*self._idle, *([self._backup] if self._backup is not None else [])):
                _hang_up(connection)
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        self.close()

    def close(self) -> None:
        """Close everything; after `stop`, or instead of `start`."""
        self._listener.close()
        self._waker.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108 - a str, as the socket wants it

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            while all(key.fileobj is self._listener for key, _ in selector.select()):
                with contextlib.suppress(OSError):  # the other side has gone
                    self._admit(self._listener.accept()[0])

    def _admit(self, connection: socket.socket) -> None:
        """Have a thread serve a connection."""
        thread = threading.Thread(target=self._serve, args=(connection,), name="admin-request")
        with self._lock:
            if len(self._threads) >= MAX_CONNECTIONS:
                oldest = next(iter(self._idle), None)
                if oldest is None:  # all are being handled
                    connection.close()
                    return
                del self._idle[oldest]
                _hang_up(oldest)
            self._threads.add(thread)
            self._idle[connection] = None
        try:
            thread.start()
        except RuntimeError:  # the system allows no more threads
            with self._lock:
                self._threads.discard(thread)
                self._idle.pop(connection, None)
            connection.close()
            log.warning("no thread for an operator's request")

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):  # the other side has gone, or takes too long
                self._answer(connection)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
                self._idle.pop(connection, None)

    def _answer(self, connection: socket.socket) -> None:
        try:
            request = _read(connection)
            if isinstance(request, protocol.Backup):
                with self._copying_to(connection):
                    connection.settimeout(REQUEST_SECONDS)
                    self._admin.write_backup(connection)
                return
            with self._handling(connection, urgent=isinstance(request, URGENT)):
                reply = self._admin.handle(request)
        except RefusedError as error:
            reply = protocol.Failed(error.code, str(error))
        except UsageError as error:
            reply = protocol.Failed("usage", str(error))
        except SecurechatError as error:
            reply = protocol.Failed("", str(error))
        except OSError:
            raise
        except Exception:
            log.exception("internal error in an operator's request")
            reply = protocol.Failed("", "internal error of the server; see its log")
        connection.settimeout(REQUEST_SECONDS)
        connection.sendall(protocol.encode(reply))

    @contextlib.contextmanager
    def _copying_to(self, connection: socket.socket) -> Iterator[None]:
        """Keep the connection while a backup is written to it. Raises RefusedError if another one is."""
        with self._lock:
            if self._backup is not None:
                raise RefusedError("busy", "a backup is being made already; try again when it is done")
            self._idle.pop(connection, None)
            self._backup = connection
        try:
            yield
        finally:
            with self._lock:
                self._backup = None
                self._idle[connection] = None

    @contextlib.contextmanager
    def _handling(self, connection: socket.socket, *, urgent: bool) -> Iterator[None]:
        """Keep the connection while its request is handled. Raises RefusedError if there are too many."""
        if not urgent and not self._at_once.acquire(blocking=False):
            raise RefusedError("busy", f"{MAX_AT_ONCE} requests are being handled already; try again in a moment")
        with self._lock:
            self._idle.pop(connection, None)
        try:
            yield
        finally:
            with self._lock:
                self._idle[connection] = None
            if not urgent:
                self._at_once.release()


def _hang_up(connection: socket.socket) -> None:
    """End a connection; its thread, which may wait for the other side, notices."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _read(connection: socket.socket) -> Request:
    deadline = Deadline(REQUEST_SECONDS)
    line = b""
    while not line.endswith(b"\n"):
        connection.settimeout(deadline.remaining())
        data = connection.recv(protocol.MAX_REQUEST)
        line += data
        if not data or len(line) > protocol.MAX_REQUEST:
            raise UsageError("a request is one line of JSON")
    try:
        request: Request = msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the latter: text that is not UTF-8
        raise UsageError(f"the server does not understand this; is it of another version? {error}") from None
    return request
