"""Files that survive a crash: atomic replacement, and a lock against a second process. And files that others name.

Everything small that must never be half written goes through here: certificates, keys, accounts. What is read of a path
that is not surely a file's is opened here.
"""

import errno
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from securechat.errors import StorageError, UsageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PRIVATE = 0o600
PUBLIC = 0o644

_STANDARD: Final = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR: Final = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")

# Not on Windows. A pipe is not waited for; a terminal does not become ours.
_AT_ONCE: Final[int] = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK"))
_READ: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | _AT_ONCE


def descriptor_of(path: Path) -> int | None:
    """Return the descriptor of ours that a path leads to: what a shell makes of `<(command)`, `/dev/stdin`."""
    text = str(path)
    found = _DESCRIPTOR.fullmatch(text)
    return int(found[1]) if found is not None else _STANDARD.get(text)


def open_to_read(path: Path, *, once: bool = False) -> int:
    """Open a file, and return its descriptor. What is none is refused at once: a folder, a named pipe, a device.

    Who reads `once` may also be handed a stream, by a path that leads to a descriptor. That one is taken as it is: its
    path cannot be opened where another user has made it (`sudo`, a container), nor if it is a socket.

    Raises OSError, whose `strerror` says what is there.
    """
    descriptor, refusal = -1, None
    try:
        descriptor = os.open(path, _READ)
        if not (what := _what_else(os.fstat(descriptor))):
            return descriptor
        os.close(descriptor)
        refusal = OSError(errno.EINVAL, what, str(path))
    except OSError as error:
        refusal = error
    number = descriptor_of(path)
    if once and number is not None:
        return os.dup(number)
    raise refusal


def check_is_file(path: Path) -> None:
    """Make sure that a file of ours, which others will open, is one, or is not there: opening a pipe may never end.

    Raises StorageError that says what is there.
    """
    try:
        what = _what_else(path.stat())
    except OSError:  # whoever opens it can say more
        return
    if what:
        raise StorageError(f"cannot open {path}: {what}")


def _what_else(found: os.stat_result) -> str:
    """Say what is there in place of a file; empty: it is one."""
    mode = found.st_mode
    if stat.S_ISREG(mode):
        return ""
    what = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "something else"
    return f"it is {what}, and not a file"


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
            sync_open(file.fileno())
        if previous is not None and path.exists():
            previous.unlink(missing_ok=True)
            os.link(path, previous)
        fresh.replace(path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):  # it may be what has taken the last room
            fresh.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def has_no_room(error: StorageError) -> bool:
    """Whether something was not written because the disk, or somebody's share of it, is full."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it, that only its owner can enter; one that exists stays as it is.

    Raises StorageError.
    """
    try:
        missing = [each for each in (path, *path.parents) if not each.exists()]
        for folder in reversed(missing):  # the parents that `mkdir` makes by itself are open to others
            folder.mkdir(mode=0o700, exist_ok=True)
        path.mkdir(exist_ok=True)  # refuses what is there and no folder
    except OSError as error:
        raise StorageError(f"cannot make the folder {path}: {error.strerror or error}") from error


def expand(path: str) -> Path:
    """Return a path as somebody wrote it into a setting, where no shell has put the home folder in: `~/x`, `$HOME/x`.

    Raises UsageError if there is no such folder.
    """
    for home in ("$HOME", "${HOME}"):
        if path == home or path.startswith(f"{home}/"):
            path = f"~{path.removeprefix(home)}"
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"nobody knows the home folder that {path} begins with: write the whole path") from None


def is_ours(path: Path) -> bool:
    """Whether a file or folder belongs to our own user; Windows decides by other means."""
    return sys.platform == "win32" or path.stat().st_uid == os.geteuid()


def others_can_read(path: Path) -> bool:
    """Whether other users of this machine can read a file; no stream, and Windows decides by other means."""
    if sys.platform == "win32" or descriptor_of(path) is not None:
        return False
    with suppress(OSError):
        found = path.stat()
        return stat.S_ISREG(found.st_mode) and bool(found.st_mode & (stat.S_IRGRP | stat.S_IROTH))
    return False


class InUseError(StorageError):
    """Another process holds a lock."""


class FileLock:
    """An exclusive lock that the operating system drops with the process, however it ends.

    The file itself stays, but for `discard`.
    """

    def __init__(self, path: Path, *, busy: str) -> None:
        """Take the lock at once, or raise StorageError: InUseError with the text `busy` if another process has it."""
        self._path = path
        self._descriptor = self._lock(busy)
        while not self._is_named():  # whoever had it before us has discarded it: two would have locked two files
            self.close()
            self._descriptor = self._lock(busy)

    def _lock(self, busy: str) -> int:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | _AT_ONCE, PRIVATE)
        except OSError as error:
            raise StorageError(f"cannot open the lock file {self._path}: {error.strerror or error}") from error
        if what := _what_else(os.fstat(descriptor)):  # others may lock it, too
            os.close(descriptor)
            raise StorageError(f"cannot open the lock file {self._path}: {what}")
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise InUseError(busy) from error
        return descriptor

    def _is_named(self) -> bool:
        """Whether the file that we have locked still has its name."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def discard(self) -> None:
        """Release the lock and delete its file, where what it was for was never made."""
        if self._descriptor >= 0:  # else the name may be another one's by now
            with suppress(OSError):  # Windows deletes no open file
                self._path.unlink()
        self.close()

    def close(self) -> None:
        """Release the lock; doing so again is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the `FileLock` of this path. Raises OSError if it may not be read, or is no file.

    To find out, it is taken for an instant, in a way that others who look may share. A process that wants the lock at
    that very instant is refused.
    """
    try:
        descriptor = open_to_read(path)
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
    descriptor = os.open(path, _READ)
    try:
        sync_open(descriptor)
    finally:
        os.close(descriptor)


def sync_open(descriptor: int) -> None:
    """The same for one that is open."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync alone stops at the drive's cache there
    else:
        os.fsync(descriptor)
