"""A disk that is soon full: a real small one where mounting is allowed, elsewhere one on which no file may grow."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.support.faulty_system import FaultySystem

SMALL = "3m"
"""Room for a fresh database and some hundred messages."""

_libc = ctypes.CDLL(None, use_errno=True)
_MS_RDONLY = 1
_MS_REMOUNT = 32
_MNT_DETACH = 2


class SmallDisk(Protocol):
    """A disk for the folder `data`; the server runs with `environment`."""

    environment: dict[str, str]

    def fill(self) -> None:
        """Make it full, now or as soon as something is written."""

    def make_room(self) -> None:
        """There is room again."""


class MountedDisk:
    """A tmpfs of limited size."""

    def __init__(self, folder: Path) -> None:
        self.environment: dict[str, str] = {}
        self._folder = folder

    def fill(self) -> None:
        """It is small from the beginning."""

    def make_room(self) -> None:
        """Make it larger, and let it be written to."""
        _mount(self._folder, "64m", _MS_REMOUNT)

    def resize(self, size: int) -> None:
        """Let it have so many bytes."""
        _mount(self._folder, str(size), _MS_REMOUNT)

    def forbid_writing(self) -> None:
        """Let it be read only."""
        _mount(self._folder, "64m", _MS_REMOUNT | _MS_RDONLY)


class _Refusing:
    """A disk that has room until it is told to have none."""

    def __init__(self, folder: Path) -> None:
        self._system = FaultySystem(folder)
        self.environment = self._system.environment

    def fill(self) -> None:
        """No file may grow."""
        self._system.set(disk_full=True)

    def make_room(self) -> None:
        """All is well."""
        self._system.set()


@contextmanager
def mounted_disk(folder: Path, size: str = SMALL) -> Iterator[MountedDisk]:
    """A tmpfs at `folder`, which is made."""
    folder.mkdir(mode=0o700)
    _mount(folder, size, 0)
    try:
        yield MountedDisk(folder)
    finally:
        _libc.umount2(os.fsencode(folder), _MNT_DETACH)


@contextmanager
def refusing_disk(folder: Path) -> Iterator[SmallDisk]:
    """A system whose disk can be made full; `folder` is the future data folder."""
    yield _Refusing(folder.parent)


def may_mount() -> bool:
    """Whether this process may mount file systems: root outside of most containers."""
    status = Path("/proc/self/status")
    if not status.exists():
        return False
    (effective,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(effective, 16) & 1 << 21)  # CAP_SYS_ADMIN


def _mount(folder: Path, size: str, flags: int) -> None:
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, f"size={size},mode=700".encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
