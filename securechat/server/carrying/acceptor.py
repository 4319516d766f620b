"""The acceptor's thread: takes connections from the listening socket and hands them on; never waits for a peer."""

import selectors
import socket
import threading
import time
from collections.abc import Callable

from securechat.server.logs import get_logger
from securechat.server.workers import join
from securechat.transport.waker import Waker

log = get_logger(__name__)

ACCEPT_PAUSE_SECONDS = 0.1
"""Pause after the system refused a new connection, mostly for want of file descriptors."""

REPEAT_SECONDS = 60.0
"""How often the log repeats that."""


class Acceptor:
    """Takes new connections from the listening socket."""

    def __init__(self, listener: socket.socket, accept: Callable[[socket.socket, tuple[str, int]], None]) -> None:
        """`accept(socket, address)` must not wait; it owns the socket."""
        self._listener = listener
        self._listener.settimeout(0)
        self._accept = accept
        self._waker = Waker()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acceptor")

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting, and close the listening socket."""
        self._stopped.set()
        self._waker.wake()
        join(self._thread)
        self._listener.close()
        self._waker.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            quiet_until = 0.0
            while not self._stopped.is_set():
                selector.select()
                try:
                    sock, address = self._listener.accept()
                except BlockingIOError:
                    continue
                except ConnectionError:
                    continue  # the peer has gone already
                except OSError as error:
                    if time.monotonic() >= quiet_until:
                        quiet_until = time.monotonic() + REPEAT_SECONDS
                        log.warning("cannot accept a connection", reason=error.strerror)
                    self._stopped.wait(ACCEPT_PAUSE_SECONDS)
                    continue
                try:
                    sock.settimeout(0)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._accept(sock, address[:2])
                except Exception:
                    log.exception("internal error in accepting a connection", client=address[0])
                    sock.close()
