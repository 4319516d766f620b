"""Ctrl-C while the main thread waits at a queue, whichever thread the system gives the signal to."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread


class Woken:
    """What a queue gets so that whoever waits at it looks up; it means nothing else."""


@contextmanager
def interrupts_wake(put: Callable[[Woken], None]) -> Iterator[None]:
    """While in it, each handled signal puts a `Woken` into a queue. Requires the main thread, which waits there.

    The system may give a signal to any thread, but Python's own handler, which raises KeyboardInterrupt, runs on the
    main one when that next wakes, and at a queue it would sleep on.
    """
    woken, wake = socket.socketpair()
    wake.settimeout(0)

    def watch() -> None:
        while woken.recv(4096):
            put(Woken())

    watcher = Thread(target=watch, name="interrupts", daemon=True)
    try:
        watcher.start()
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            wake.close()
            watcher.join()
    finally:
        wake.close()
        woken.close()
