"""What a server process takes: memory, processor, disk. Linux."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from securechat.server.config import STORE_FILE

MAX_WAL = 64.0
"""MiB. A write-ahead log must stay below this whatever happens."""

LOOK_SECONDS = 0.05
"""Between two looks at a write-ahead log: a disk that takes 100 MiB/s adds 5 MiB."""


def memory(pid: int) -> float:
    """Resident memory, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def peak(pid: int) -> float:
    """Resident memory at most, since the process began, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def processor(pid: int) -> float:
    """Processor time used so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def size(path: Path) -> float:
    """A file's size in MiB; 0 if there is none."""
    try:
        return path.stat().st_size / (1 << 20)
    except FileNotFoundError:
        return 0.0


@contextmanager
def bounded_wal(data: Path) -> Iterator[Callable[[], float]]:
    """Watch the write-ahead log of the server with this data folder; at the end, check that it stayed below MAX_WAL.

    Yields a function that returns the largest size so far, in MiB.
    """
    path, largest, over = data / f"{STORE_FILE}-wal", 0.0, threading.Event()

    def look() -> None:
        nonlocal largest
        while not over.wait(LOOK_SECONDS):
            largest = max(largest, size(path))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield lambda: largest
    finally:
        over.set()
        watching.join()
    assert 0 < largest < MAX_WAL, f"the write-ahead log grew to {largest:.0f} MiB"
