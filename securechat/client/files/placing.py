"""Placing: a file gets into a folder that its user has chosen, under a name that nothing there has.

What is written goes to a temporary file in that folder, is complete on disk before it gets its name, and gets it only
if nothing of that name is there: no file is overwritten, and no link followed, but in the way to the folder itself,
which is the user's. Folders are held open meanwhile, so that nobody puts another one in their place. After a kill at
any instant there is no file or a whole one, and beside it at most the temporary file, by which the next try sees what
the last one has done: so it stays until its user has noted that the file is there, and calls `tidy`.

Windows has no open folders: there a path is looked up each time. Renaming there overwrites nothing, by itself. A file
system without hard links may be left with an empty file of that name.
"""

import errno
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from securechat.client.files.names import numbered, safe_name
from securechat.errors import StorageError, UsageError
from securechat.files import PRIVATE

MAX_NUMBER: Final = 1000
"""Files of one name in a folder: who has more wants another folder."""

_WRITE: Final[int] = os.O_WRONLY | os.O_CREAT | os.O_EXCL | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
)
_FOLDER: Final[int] = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_CLOEXEC"))
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def new_temporary_name() -> str:
    """Return a name for the temporary file, which nobody can foresee."""
    return f".securechat-{secrets.token_hex(8)}.part"


def place(folder: Path, temporary: str, name: str, write: Callable[[BinaryIO], None]) -> Path:
    """Save what `write` writes in a folder, as `name` or, where that is taken, with a number. Return its path.

    `name` is what its sender calls it: what is saved has a safe one. `temporary`: of `new_temporary_name`; what is
    called so is of an earlier try, and is taken up if it was finished. It is left for `tidy`.

    Raises `StorageError`, `UsageError` for a folder that is none, and what `write` raises: then nothing is left of it.
    """
    safe = safe_name(name)
    with _opened(folder) as at:
        try:
            if (found := _finished(at, temporary, safe)) is not None:
                return folder / found
            with suppress(FileNotFoundError):
                _unlink(at, temporary)
            with os.fdopen(at.open(temporary, _WRITE), "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            return folder / _name(at, temporary, safe)
        except OSError as error:
            _discard(at, temporary)
            raise StorageError(f"nothing can be written in {folder}: {error.strerror or error}.") from error
        except BaseException:
            _discard(at, temporary)
            raise


def tidy(folder: Path, temporary: str) -> None:
    """Remove the temporary file: the file that came of it is noted, or not wanted any more."""
    with suppress(OSError, UsageError, StorageError), _opened(folder) as at:
        _discard(at, temporary)


class _Folder:
    """An open folder: names in it are looked up there and nowhere else."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self.descriptor = descriptor

    def named(self, name: str) -> str | Path:
        return name if self.descriptor is not None else self.path / name

    def open(self, name: str, flags: int) -> int:
        return os.open(self.named(name), flags, PRIVATE, dir_fd=self.descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(self.named(name), dir_fd=self.descriptor, follow_symlinks=False)


@contextmanager
def _opened(path: Path) -> Iterator[_Folder]:
    if not path.is_dir():
        raise UsageError(f"there is no folder {path}. Make it first, or name another one.")
    if sys.platform == "win32":
        yield _Folder(path, None)
        return
    try:
        descriptor = os.open(path, _FOLDER)
    except OSError as error:
        raise StorageError(f"the folder {path} cannot be opened: {error.strerror or error}.") from error
    try:
        yield _Folder(path, descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(safe: str) -> Iterator[str]:
    yield safe
    for number in range(2, MAX_NUMBER + 1):
        yield numbered(safe, number)


def _name(at: _Folder, temporary: str, safe: str) -> str:
    """Give the temporary file the first name that is free, for good. Return it."""
    for each in _names(safe):
        try:
            _move(at, temporary, each)
        except FileExistsError:
            continue
        return each
    raise UsageError(f"there are {MAX_NUMBER:,} files called {safe} in {at.path}. Name another folder.")


def _move(at: _Folder, temporary: str, name: str) -> None:
    """Let a file have another name that nothing has. Raises FileExistsError if something has it."""
    if sys.platform == "win32":
        at_once = at.named(temporary), at.named(name)
        os.rename(*at_once)  # noqa: PTH104  # of names in a folder, as below; Windows refuses where something is
        return
    try:
        os.link(temporary, name, src_dir_fd=at.descriptor, dst_dir_fd=at.descriptor, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links, such as a USB stick's: an empty file of ours takes the name, and then
        # the content takes its place.
        os.close(at.open(name, _WRITE))
        os.rename(temporary, name, src_dir_fd=at.descriptor, dst_dir_fd=at.descriptor)  # in the folder
        return


def _finished(at: _Folder, temporary: str, safe: str) -> str | None:
    """Return the name that an earlier try has given its file before it was killed; None: none."""
    try:
        found = at.stat(temporary)
    except FileNotFoundError:
        return None
    if found.st_nlink < 2 or sys.platform == "win32":
        return None
    for each in _names(safe):
        try:
            if os.path.samestat(found, at.stat(each)):
                return each
        except FileNotFoundError:
            continue
    return None


def _unlink(at: _Folder, name: str) -> None:
    os.unlink(at.named(name), dir_fd=at.descriptor)  # in the folder that is open


def _discard(at: _Folder, name: str) -> None:
    with suppress(OSError):
        _unlink(at, name)
