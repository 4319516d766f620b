"""Wakes a thread that waits in a selector, from any other thread."""

import contextlib
import socket


class Waker:
    """Register it for reading with the selector; `clear` it when the selector says so."""

    def __init__(self) -> None:
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.settimeout(0)
        self._awake = False  # a byte is on its way: a burst of calls costs one

    def fileno(self) -> int:
        """Return what the selector watches."""
        return self._woken.fileno()

    def wake(self) -> None:
        """Wake the thread. From any thread; nothing happens after `close`."""
        if not self._awake:
            self._awake = True
            with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nobody is left to wake
                self._wake.send(b"\0")

    def clear(self) -> None:
        """Forget the wakenings so far; look for work after this, not before."""
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        self._awake = False  # only now: a byte sent before `recv` is gone, and nobody would send another

    def close(self) -> None:
        """Close both ends."""
        self._woken.close()
        self._wake.close()
