"""Jobs: what is done with files on this machine's disk, away from the thread that owns the engine.

The engine decides, and hands out a job once what it has decided is in the vault; what has come of it comes back as an
`Outcome`. A job that ends in the middle, with the program or because it was cancelled, is begun again from the start,
or from where its file ends: none of them needs another one to have ended well.

Sealed files lie in a folder beside the vault while they are sent or fetched. They open with a key that the vault has.
"""

import errno
import os
import threading
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from shutil import disk_usage
from typing import BinaryIO, Final

from securechat import surroundings
from securechat.client.files.placing import place, tidy
from securechat.client.files.sealing import DamagedFileError, Digest, Progress, check_parts, seal, unseal
from securechat.client.media.sending import prepare
from securechat.client.message import Disposition
from securechat.errors import InternalError, SecurechatError, StorageError, UsageError
from securechat.files import PRIVATE, make_private_folder, open_to_read
from securechat.value import value

_WRITE: Final[int] = os.O_WRONLY | os.O_CREAT | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
)


class CancelledError(Exception):
    """A job was not wanted any more."""


@value
class Job:
    """Base of all jobs. `transfer`: whose it is, or 0; `attempt`: which one of its tries wants to know what comes."""

    transfer: int
    attempt: int
    unwanted: threading.Event = field(default_factory=threading.Event, compare=False, repr=False, kw_only=True)

    def run(self, progress: Progress) -> object:
        """Do it, on a worker's thread, and return what comes of it. Raises `SecurechatError` or OSError."""
        raise NotImplementedError


@value
class Outcome:
    """What has come of a job: its result, or why there is none."""

    job: Job
    result: object


@value
class Reached:
    """How many bytes of the file a job has done so far; it goes on."""

    bytes: int


@value
class Sealed:
    """A file is sealed, or it is so small that it goes into the message."""

    digest: Digest
    inline: bytes = field(default=b"", repr=False)
    described: dict[str, bytes | int] = field(default_factory=dict, repr=False)  # by `client.media.sending`


@value
class Seal(Job):
    """Encrypt a file into a sealed copy, or read it if it has at most `inline` bytes: `Sealed`."""

    source: Path = field(kw_only=True)
    copy: Path = field(kw_only=True)
    key: bytes = field(kw_only=True, repr=False)
    blob: bytes = field(kw_only=True)
    inline: int = field(kw_only=True)
    most: int = field(kw_only=True)
    disposition: Disposition = field(kw_only=True)

    def run(self, progress: Progress) -> Sealed:
        try:
            file = os.fdopen(open_to_read(self.source), "rb")
        except OSError as error:
            raise UsageError(f"{error.strerror or error}.") from None
        with file:
            size = os.fstat(file.fileno()).st_size
            if size > self.most:
                raise UsageError("it is larger than files can be.")
            source, size, described = prepare(file, size, self.disposition)
            if size <= self.inline:
                data = source.read(size)
                if len(data) != size:
                    raise UsageError("it has become shorter while it was read. Send it again.")
                return Sealed(Digest.of(data), data, described)
            make_private_folder(self.copy.parent)
            self.copy.unlink(missing_ok=True)
            with os.fdopen(os.open(self.copy, _WRITE | os.O_EXCL, PRIVATE), "wb") as copy:
                found = seal(source, copy, self.key, self.blob, size, progress)
                copy.flush()
                os.fsync(copy.fileno())
            return Sealed(found, described=described)


@value
class Read(Job):
    """Read parts of a sealed copy that follow each other: the bytes of each."""

    copy: Path
    offset: int
    lengths: tuple[int, ...]

    def run(self, _progress: Progress) -> list[bytes]:
        with self.copy.open("rb") as file:
            file.seek(self.offset)
            return [file.read(length) for length in self.lengths]


class LostError(StorageError):
    """What was written before is not there any more."""


@value
class Measure(Job):
    """See how much of a sealed file was fetched: bytes. Raises `StorageError` if the rest of it has no room."""

    copy: Path
    total: int  # bytes that it will have
    folder: Path  # where the file is saved then
    size: int  # bytes of the file
    afresh: bool  # what was fetched is not to be used: it goes, and nobody meets it again

    def run(self, _progress: Progress) -> int:
        if self.afresh:
            self.copy.unlink(missing_ok=True)
        try:
            length = self.copy.lstat().st_size
        except FileNotFoundError:
            length = 0
        make_private_folder(self.copy.parent)
        _check_room((self.copy.parent, max(self.total - length, 0)), (self.folder, self.size))
        return length


def _check_room(*wanted: tuple[Path, int]) -> None:
    """Raise `StorageError` if folders have less room than is wanted in them: in vain, a gigabyte would be fetched."""
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in wanted:
        with suppress(OSError):  # whoever writes there says what is wrong
            device = folder.stat().st_dev
            disks[device] = folder, disks.get(device, (folder, 0))[1] + size
    for folder, size in disks.values():
        free = disk_usage(folder).free
        if free < size:
            text = f"it takes {size / 2**20:,.0f} MiB of room in {folder}, where {free / 2**20:,.0f} are free."
            raise StorageError(text) from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@value
class Append(Job):
    """Check the next parts of a sealed file that is fetched, and write them: how many bytes the file has then."""

    copy: Path
    offset: int
    parts: list[bytes] = field(repr=False)
    key: bytes = field(repr=False)
    blob: bytes
    size: int

    def run(self, _progress: Progress) -> int:
        check_parts(self.parts, self.offset, self.key, self.blob, self.size)
        try:
            descriptor = os.open(self.copy, _WRITE, PRIVATE)
        except FileNotFoundError:
            raise LostError("its folder is not there any more.") from None
        with os.fdopen(descriptor, "wb") as file:
            there = os.fstat(descriptor).st_size
            if there < self.offset:
                raise LostError("what comes before it was not written.")
            if there > self.offset:
                file.truncate(self.offset)
            file.seek(self.offset)
            for part in self.parts:
                file.write(part)
        return self.offset + sum(map(len, self.parts))


@value
class Unseal(Job):
    """Open a sealed file into a folder: the path under which it is saved there."""

    copy: Path = field(kw_only=True)
    folder: Path = field(kw_only=True)
    temporary: str = field(kw_only=True)
    name: str = field(kw_only=True)
    key: bytes = field(kw_only=True, repr=False)
    blob: bytes = field(kw_only=True)
    digest: Digest = field(kw_only=True)

    def run(self, progress: Progress) -> Path:
        def write(file: BinaryIO) -> None:
            with self.copy.open("rb") as sealed:
                unseal(sealed, file, self.key, self.blob, self.digest, progress)

        return place(self.folder, self.temporary, self.name, write)


@value
class Save(Job):
    """Save a file that a message has brought with it: its path."""

    folder: Path = field(kw_only=True)
    temporary: str = field(kw_only=True)
    name: str = field(kw_only=True)
    data: bytes = field(kw_only=True, repr=False)
    digest: Digest = field(kw_only=True)

    def run(self, _progress: Progress) -> Path:
        self.digest.check(self.data)

        def write(file: BinaryIO) -> None:
            file.write(self.data)

        return place(self.folder, self.temporary, self.name, write)


@value
class Reuse(Job):
    """Take a file where it was saved before, if it is there and whole: its path, or in another folder that of a copy.

    None: it is gone, or another one by now.
    """

    saved: Path = field(kw_only=True)
    folder: Path = field(kw_only=True)
    temporary: str = field(kw_only=True)
    name: str = field(kw_only=True)
    digest: Digest = field(kw_only=True)

    def run(self, progress: Progress) -> Path | None:
        try:
            file = os.fdopen(open_to_read(self.saved), "rb")
        except OSError:
            return None
        with file:
            try:
                self.digest.copy(file, None, progress)
                if self.saved.parent == self.folder:
                    return self.saved
                file.seek(0)
                return place(
                    self.folder, self.temporary, self.name, lambda copy: self.digest.copy(file, copy, progress)
                )
            except DamagedFileError:
                return None


@value
class Clear(Job):
    """Delete a sealed file, and what `Unseal` has left in a folder, once neither is needed any more."""

    copy: Path | None  # None: the next `Sweep` sees to it
    folder: Path
    temporary: str  # empty: there is none

    def run(self, _progress: Progress) -> None:
        if self.copy is not None:
            with suppress(OSError):
                self.copy.unlink(missing_ok=True)
        if self.temporary:
            tidy(self.folder, self.temporary)


@value
class Sweep(Job):
    """Delete all sealed files that no transfer needs."""

    folder: Path
    kept: frozenset[str]

    def run(self, _progress: Progress) -> None:
        with suppress(OSError):
            for each in [*self.folder.iterdir()]:
                if each.name not in self.kept:
                    each.unlink()


LONG: Final = (Seal, Unseal, Save, Reuse, Clear, Sweep)
"""What may take minutes, and what must come behind it: these have a thread of their own."""


def outcome(job: Job, progress: Progress) -> Outcome:
    """Run a job. Return its result, or the error that says why there is none."""
    try:
        if job.unwanted.is_set():
            raise CancelledError
        return Outcome(job, job.run(progress))
    except (CancelledError, SecurechatError) as error:
        return Outcome(job, error)
    except OSError as error:
        refused = StorageError(f"the disk refuses it: {error.strerror or error}.")
        refused.__cause__ = error
        return Outcome(job, refused)
    except Exception as error:  # noqa: BLE001  # whoever waits for the outcome has to hear of any end
        return Outcome(job, surroundings.told(error) or InternalError(f"{type(error).__name__}: {error}"))
