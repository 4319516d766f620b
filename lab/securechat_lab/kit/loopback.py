"""Keeps a process on this machine while weak builds run in it: they talk to nobody else, whatever they are told.

Python tells an audit hook of each connection before it is made (PEP 578). A hook stays for good, and does nothing while
nobody is confined. A student's process gets the same one, as source (`child`): this module imports nothing of the lab.
There it stops what a file does by mistake, or because somebody has told it to, and is no wall: code that calls the
system past Python, or starts another program, is not seen.
"""

import contextlib
import errno
import ipaddress
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

_EVENTS: Final = {
    "socket.bind": 1, "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1,
    "socket.getaddrinfo": 0, "socket.gethostbyname": 0,
}  # fmt: skip
"""Each with where in its arguments an address, or the name of a host, stands."""


class LoopbackOnlyError(PermissionError):
    """Something in the lab wanted to leave this machine."""

    def __init__(self, where: object) -> None:
        super().__init__(errno.EACCES, f"The lab stays on this machine, and something wanted to use {where!r:.80}.")

    def __str__(self) -> str:
        """Return the sentence."""
        return str(self.strerror)


class _Guard:
    """Counts who is confined; a connection counts as this process's, whichever thread makes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._confined = 0
        self._installed = False

    def count(self, by: int) -> None:
        """Begin, or end."""
        with self._lock:
            if not self._installed:
                sys.addaudithook(self._look)
                self._installed = True
            self._confined += by

    def _look(self, event: str, given: tuple[Any, ...]) -> None:
        if self._confined and event in _EVENTS and not _is_here(where := given[_EVENTS[event]]):
            raise LoopbackOnlyError(where)


def _is_here(address: object) -> bool:
    """Whether an address, or a host, is this machine's own; a socket in the file system is."""
    host = address[0] if isinstance(address, tuple) else address
    if host is None or host == "localhost" or "/" in str(host):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


_GUARD: Final = _Guard()


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Refuse every other address, for the time of a block: raises `LoopbackOnlyError` where it is used."""
    _GUARD.count(1)
    try:
        yield
    finally:
        _GUARD.count(-1)
