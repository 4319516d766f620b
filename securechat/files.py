"""Files that survive a crash: atomic replacement, and a lock against a second process.

Everything small that must never be half written goes through here: certificates, keys, accounts.
"""

import os
import sys
from pathlib import Path

from securechat.errors import StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PRIVATE = 0o600
PUBLIC = 0o644


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE, previous: Path | None = None) -> None:
    """Replace `path` by `data`: after a crash at any instant the old or the new content is there, whole.

    On return the new content is on disk. `previous`, if given, becomes the name of the old content. The file has
    `mode` from its first instant. Several writers of one path must each hold the same `FileLock`. Raises StorageError;
    then the old content is still in place.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)  # left by a crash; we hold the lock, so nobody is writing it now
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(fresh, flags, mode), "wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        if previous is not None and path.exists():
            previous.unlink(missing_ok=True)
            os.link(path, previous)
        fresh.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it, that only its owner can enter; one that exists stays as it is."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {path}: {error.strerror or error}") from error


def is_ours(path: Path) -> bool:
    """Whether a file or folder belongs to our own user; Windows decides by other means."""
    return sys.platform == "win32" or path.stat().st_uid == os.geteuid()


class FileLock:
    """An exclusive lock that the operating system drops with the process, however it ends.

    The file itself stays: deleting it would let two processes lock two files of the same name.
    """

    def __init__(self, path: Path, *, busy: str) -> None:
        """Take the lock at once or raise StorageError with the text `busy`."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
        except OSError as error:
            raise StorageError(f"cannot open the lock file {path}: {error.strerror or error}") from error
        try:
            if sys.platform == "win32":
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise StorageError(busy) from error

    def close(self) -> None:
        """Release the lock; doing so again is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the `FileLock` of this path. Raises OSError if it may not be read.

    To find out, it is taken for an instant, in a way that others who look may share. A process that wants the lock at
    that very instant is refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def sync(path: Path) -> None:
    """Make the disk hold a file, or a folder's names, as they are. Not on Windows, where that takes write access."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync alone stops at the drive's cache there
    else:
        os.fsync(descriptor)
