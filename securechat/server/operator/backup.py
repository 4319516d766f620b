"""Backups: everything that a server keeps, as it was at one instant, into one file and back.

A backup is a tar file of `chat.db` (with the server's identity, `server_id`) and its write-ahead log `chat.db-wal`, of
`accounts.json`, and finally `manifest.json`, which names them with their sizes and hashes. A file that breaks off has
no manifest and is refused. It is read from the files that the server goes on writing to, and needs no room beside them.
The accounts are read after the instant at which the database was, so an account that is made meanwhile is in the
accounts only. The other way round, a stranger could take the name of somebody who is in conversations.

It is as secret as the data folder. It lacks the certificate and its key, which have a folder of their own.
"""

import contextlib
import errno
import hashlib
import io
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Annotated, BinaryIO, Final, Literal

import msgspec

from securechat.errors import StorageError, UnreachableError
from securechat.files import PRIVATE, descriptor_of, is_ours, make_private_folder, open_to_read, sync
from securechat.server.accounts.file import read_accounts
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE
from securechat.server.operator import protocol
from securechat.server.store.sqlite.database import Part
from securechat.server.store.sqlite.store import SQLiteStore

MANIFEST: Final = "manifest.json"
PORTION: Final = 1 << 20
"""Bytes copied at once."""

LOG_FILE: Final = STORE_FILE + "-wal"

MAX_MANIFEST: Final = 64 << 10


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last member. `time` in ms since 1970; `server_id` in hexadecimal. Version 1 had no write-ahead log."""

    format: Literal["securechat backup"]
    version: Literal[1, 2]
    time: int
    server_id: str
    files: Annotated[dict[str, _File], msgspec.Meta(max_length=3)]


class _Reading(io.RawIOBase):
    """A part of a backup while it is read, and what was read of it so far."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._at = 0
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """See `io.RawIOBase`. A file that has become shorter ends with an OSError."""
        left = self._part.size - self._at
        data = os.pread(self._part.descriptor, left if size < 0 else min(size, left), self._at)
        if not data and left and size:
            raise OSError(errno.EIO, "the database has become shorter")
        self._at += len(data)
        self._digest.update(data)
        return data

    def file(self) -> _File:
        """What the manifest says of it."""
        return _File(self._at, self._digest.hexdigest())


def write_backup(stream: BinaryIO, parts: Iterable[Part], accounts: bytes, *, server_id: bytes, time: int) -> None:
    """Write a backup to a stream, of a store that is `frozen` in these parts. Raises OSError."""
    files = {}
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for part in parts:
            reading = _Reading(part)
            tar.addfile(_member(STORE_FILE + part.suffix, part.size, time), reading)
            files[STORE_FILE + part.suffix] = reading.file()
        if accounts:
            files[ACCOUNTS_FILE] = _File(len(accounts), hashlib.sha256(accounts).hexdigest())
            tar.addfile(_member(ACCOUNTS_FILE, len(accounts), time), io.BytesIO(accounts))
        manifest = msgspec.json.encode(Manifest("securechat backup", 2, time, server_id.hex(), files))
        tar.addfile(_member(MANIFEST, len(manifest), time), io.BytesIO(manifest))


def _member(name: str, size: int, time: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, PRIVATE, time // 1000
    return member


def check_backup(path: Path, folder: Path | None = None) -> Manifest:
    """Read a whole backup, compare it with its manifest, and put its files into `folder`, if one is given.

    Raises StorageError if it is damaged, incomplete, or not a backup.
    """
    seen: dict[str, _File] = {}
    manifest: Manifest | None = None
    try:
        with os.fdopen(open_to_read(path, once=True), "rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or manifest is not None or member.name in seen:
                    raise StorageError(f"{path} is not a backup: it holds {member.name!a}")
                if member.name == MANIFEST:
                    manifest = msgspec.json.decode(content.read(MAX_MANIFEST), type=Manifest)
                elif member.name in (STORE_FILE, LOG_FILE, ACCOUNTS_FILE):
                    seen[member.name] = _copy(content, folder / member.name if folder is not None else None)
                else:
                    raise StorageError(f"{path} is not a backup: it holds {member.name!a}")
    except (tarfile.TarError, EOFError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} is damaged, or not a backup: {error}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    if manifest is None:
        raise StorageError(f"{path} is incomplete: it breaks off before its end")
    if manifest.files != seen or STORE_FILE not in seen:
        raise StorageError(f"{path} is damaged: its files are not those that its manifest names")
    return manifest


def _copy(content: IO[bytes], target: Path | None) -> _File:
    size, digest = 0, hashlib.sha256()
    with contextlib.ExitStack() as opened:
        out = None
        if target is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            out = opened.enter_context(os.fdopen(os.open(target, flags, PRIVATE), "wb"))
        while portion := content.read(PORTION):
            size += len(portion)
            digest.update(portion)
            if out is not None:
                out.write(portion)
        if out is not None:
            out.flush()
            os.fsync(out.fileno())
    return _File(size, digest.hexdigest())


def save_backup(data: Path, target: Path) -> None:
    """Have a backup made into `target`, for its owner only; `-`: to standard output.

    The file has its name once it is whole, checked and on disk. Raises StorageError; a file that is there stays.
    """
    if str(target) == "-":
        with protocol.connect(data, protocol.Backup()) as (_, stream):
            _receive(stream, sys.stdout.buffer)
        return
    if descriptor_of(target) is not None:
        raise StorageError(f"{target} is a stream: give - to write to standard output")
    if target.exists():
        raise StorageError(f"{target} is there already; give another name")
    fresh = target.with_name(target.name + ".new")
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        with (
            os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            protocol.connect(data, protocol.Backup()) as (_, stream),
        ):
            _receive(stream, file)
            file.flush()
            os.fsync(file.fileno())
        check_backup(fresh)
        fresh.rename(target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _receive(stream: BinaryIO, out: BinaryIO) -> None:
    while True:
        try:
            portion = stream.read(PORTION)
        except OSError as error:
            raise UnreachableError(f"the server broke off: {error.strerror or error}; see its log") from error
        if not portion:
            return
        out.write(portion)


def restore(path: Path, data: Path) -> Manifest:
    """Make a data folder from a backup; a server can start on it then. Raises StorageError, having changed nothing.

    The folder must be empty or absent: nothing is ever overwritten.
    """
    made = not data.exists()
    make_private_folder(data)
    if not is_ours(data):
        raise StorageError(f"{data} belongs to another user: restore as that user, or the server cannot read it")
    if inside := sorted(data.iterdir()):
        raise StorageError(
            f"{data} is not empty ({inside[0].name} is there): restore into an empty folder, or move that one away"
        )
    fresh = data / "restoring"
    try:
        fresh.mkdir(mode=0o700)
        manifest = check_backup(path, fresh)
        # The server's own code shows best whether a server could start on it.
        read_accounts(fresh / ACCOUNTS_FILE)
        with contextlib.closing(SQLiteStore(fresh / STORE_FILE)) as store:
            server_id = store.server_id
            # If one was handed out and used after the backup, its owner has deleted the private key and could not open
            # another Welcome for it. Clients publish new ones when they connect; the last-resort ones serve until then.
            store.directory.drop_key_packages()
            store.conversations.resume(time.time_ns() // 1_000_000)
            store.commit()
        if server_id.hex() != manifest.server_id:
            raise StorageError(f"{path} is damaged: the database is another server's")
        # The database last, because no server starts on accounts without one.
        for name in (ACCOUNTS_FILE, STORE_FILE):
            if (fresh / name).exists():
                (fresh / name).rename(data / name)
        sync(data)
    except OSError as error:
        raise StorageError(f"cannot restore into {data}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):  # not empty: all went well
                data.rmdir()
    return manifest
