"""A server on this machine: its beginning, a thread for each connection, and an end that leaves none of them."""

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from securechat_lab.cast.live import PATIENCE


class Listener(ABC):
    """Takes connections on `port` of this machine, each in a thread of its own; all have ended when it has."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()  # guards the next two
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE)
        with self._lock:
            for link in self._open:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
        self.wait()

    def wait(self) -> None:
        """Wait until the connections that there are have ended."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(PATIENCE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                thread = threading.Thread(target=self._run, args=(link,), daemon=True)
                with self._lock:
                    self._open.add(link)
                    self._threads.append(thread)
                thread.start()

    def _run(self, link: socket.socket) -> None:
        mark = link.dup()  # no two threads may touch one TLS object; this one stays a plain socket
        with self._lock:
            self._open.remove(link)
            self._open.add(mark)
        try:
            with contextlib.suppress(OSError), link:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.serve(link)
        finally:
            with self._lock:
                self._open.remove(mark)
            with contextlib.suppress(OSError):
                mark.shutdown(socket.SHUT_RDWR)
            mark.close()

    @abstractmethod
    def serve(self, link: socket.socket) -> None:
        """Serve one connection; an `OSError` is its end."""
