"""The acceptor's thread: takes connections from the listening socket and hands them on; never waits for a peer.

Those from a load balancer say first whose they are (`proxied`): until then they are here.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from securechat.errors import PeerError
from securechat.server.carrying.proxied import ANNOUNCE_SECONDS, Announcement
from securechat.server.logs import get_logger
from securechat.server.workers import join
from securechat.transport.waker import Waker

log = get_logger(__name__)

ACCEPT_PAUSE_SECONDS = 0.1
"""Pause after the system refused a new connection, mostly for want of file descriptors."""

REPEAT_SECONDS = 60.0
"""How often the log repeats that."""

MAX_ANNOUNCING: Final = 16
"""Connections from load balancers that have not said yet whose they are, within `descriptors.RESERVED_FILES`; beyond it
the oldest gives way. Mostly there are none: what they say comes with the connection."""


class Acceptor:
    """Takes new connections from the listening socket."""

    def __init__(
        self,
        listener: socket.socket,
        accept: Callable[[socket.socket, tuple[str, int]], None],
        is_proxy: Callable[[str], bool],
    ) -> None:
        """`accept(socket, address)` must not wait; it owns the socket. `is_proxy(host)`: whether one says there whose
        connection it is.
        """
        self._listener = listener
        self._listener.settimeout(0)
        self._accept = accept
        self._is_proxy = is_proxy
        self._announcing: dict[Announcement, None] = {}  # the oldest first
        self._quiet_until = 0.0
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
            while not self._stopped.is_set():
                ready = selector.select(ANNOUNCE_SECONDS if self._announcing else None)
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._take(selector)
                    elif key.data is not None:
                        self._read(key.data, selector)
                while self._announcing and time.monotonic() >= (oldest := next(iter(self._announcing))).due:
                    self._give_up(oldest, selector, "it did not say in time whose it is")
            for each in self._announcing:
                each.socket.close()

    def _take(self, selector: selectors.BaseSelector) -> None:
        """Take a connection from the system."""
        try:
            sock, address = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # the peer has gone already
            return
        except OSError as error:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + REPEAT_SECONDS
                log.warning("cannot accept a connection", reason=error.strerror)
            self._stopped.wait(ACCEPT_PAUSE_SECONDS)
            return
        try:
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:  # it has been closed, or reset
            log.debug("turned away", client=address[0], reason=error.strerror)
            sock.close()
            return
        if not self._is_proxy(address[0]):
            self._hand_on(sock, address[:2])
            return
        if len(self._announcing) >= MAX_ANNOUNCING:
            self._give_up(next(iter(self._announcing)), selector, "too many do not say whose they are")
        announcement = Announcement(sock, address[:2], time.monotonic())
        self._announcing[announcement] = None
        selector.register(sock, selectors.EVENT_READ, announcement)
        self._read(announcement, selector)

    def _read(self, announcement: Announcement, selector: selectors.BaseSelector) -> None:
        """Go on with a connection of which a load balancer says whose it is."""
        if announcement not in self._announcing:  # given up in this very round
            return
        try:
            address = announcement.read()
        except PeerError as error:
            self._give_up(announcement, selector, str(error))
            return
        if address is not None:
            selector.unregister(announcement.socket)
            del self._announcing[announcement]
            self._hand_on(announcement.socket, address)

    def _give_up(self, announcement: Announcement, selector: selectors.BaseSelector, reason: str) -> None:
        """Close a connection from a load balancer."""
        # Not at `debug`: what is wrong here is the operator's set-up.
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + REPEAT_SECONDS
            log.warning("turned away a connection from a trusted proxy", reason=reason)
        selector.unregister(announcement.socket)
        del self._announcing[announcement]
        announcement.socket.close()

    def _hand_on(self, sock: socket.socket, address: tuple[str, int]) -> None:
        try:
            self._accept(sock, address)
        except Exception:
            log.exception("internal error in accepting a connection", client=address[0])
            sock.close()
