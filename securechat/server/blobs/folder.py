"""Blobs in a folder: a file each, in 256 folders by the first byte of its name, under which no client's word stands."""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from securechat.errors import StorageError
from securechat.files import PRIVATE, make_private_folder, sync, sync_open
from securechat.server.blobs.port import PARTS, BlobLostError

FILE_LENGTH = 32
"""Bytes of a file's name, which are written in hexadecimal."""

_BINARY = getattr(os, "O_BINARY", 0)


class BlobFolder:
    """See `port.BlobFiles`. A file is opened for each call: what is open would have to be bounded."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if it is not there, and count the bytes in it, file by file. Raises StorageError."""
        make_private_folder(folder)
        self._folder = folder
        self._locks = [threading.Lock() for _ in range(PARTS)]  # of each part: while its files change, or are counted
        self._held = [0] * PARTS  # bytes of each part, protected by its lock
        for part in range(PARTS):
            self.recount(part)

    @property
    def held(self) -> int:
        """See the port."""
        return sum(self._held)

    def recount(self, part: int) -> None:
        """See the port."""
        with self._locks[part]:
            self._held[part] = sum(map(self.size, self.files(part)))

    def size(self, file: bytes) -> int:
        """See the port."""
        with self._guarded():
            try:
                return self._path(file).stat().st_size
            except FileNotFoundError:
                return 0

    def settle(self, file: bytes) -> int:
        """See the port."""
        path = self._path(file)
        with self._guarded():
            try:
                descriptor = os.open(path, os.O_RDWR | _BINARY)  # Windows syncs only what may be written to
            except FileNotFoundError:
                return 0
            try:
                sync_open(descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            sync(path.parent)
            sync(self._folder)
        return size

    def append(self, file: bytes, at: int, parts: Sequence[bytes]) -> None:
        """See the port."""
        path = self._path(file)
        with self._locks[file[0]], self._guarded():
            made = at == 0 and not path.exists()
            new_folder = made and not path.parent.exists()
            if new_folder:
                path.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_WRONLY | _BINARY | (os.O_CREAT if made else 0), PRIVATE)
            except FileNotFoundError as error:
                raise BlobLostError(f"{path} is not there any more") from error
            try:
                there = os.fstat(descriptor).st_size
                if there < at:
                    raise BlobLostError(f"{path} has {there:,} bytes, and had {at:,}")
                if there > at:
                    os.ftruncate(descriptor, at)
                os.lseek(descriptor, at, os.SEEK_SET)
                try:
                    for part in parts:
                        _write(descriptor, part)
                    sync_open(descriptor)
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, at)
                    raise
                finally:
                    self._held[file[0]] += os.fstat(descriptor).st_size - there
            finally:
                os.close(descriptor)
            if made:  # before anybody is told: its name has to last as long as its bytes
                sync(path.parent)
            if new_folder:
                sync(self._folder)

    def read(self, file: bytes, at: int, length: int) -> bytes:
        """See the port."""
        path = self._path(file)
        with self._guarded():
            try:
                with path.open("rb", buffering=0) as opened:
                    opened.seek(at)
                    data = opened.read(length)
            except FileNotFoundError as error:
                raise BlobLostError(f"{path} is not there any more") from error
        if data is None or len(data) < length:
            raise BlobLostError(f"{path} has become shorter")
        return data

    def delete(self, file: bytes) -> None:
        """See the port. It need not be durable: whoever asked remembers that until it is told."""
        path = self._path(file)
        with self._locks[file[0]], self._guarded():
            if path.exists():
                size = path.stat().st_size
                path.unlink()
                self._held[file[0]] -= size
                sync(path.parent)

    def files(self, part: int) -> list[bytes]:
        """See the port. What has no name of ours is somebody else's, and stays."""
        with self._guarded():
            try:
                names = [path.name for path in (self._folder / f"{part:02x}").iterdir()]
            except FileNotFoundError:
                return []
        return [file for name in names if (file := _file_of(name)) is not None and file[0] == part]

    def _path(self, file: bytes) -> Path:
        name = file.hex()
        return self._folder / name[:2] / name

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot use {self._folder}: {error.strerror or error}") from error


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _file_of(name: str) -> bytes | None:
    """Return the file that a name stands for; None: it is none of ours."""
    with contextlib.suppress(ValueError):
        file = bytes.fromhex(name)
        return file if len(file) == FILE_LENGTH and file.hex() == name else None
    return None
