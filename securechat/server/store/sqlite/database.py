"""The database's file: how it is made, checked, opened, read and copied."""

import contextlib
import os
import queue
import sqlite3
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import msgspec

from securechat.errors import StorageError
from securechat.files import PRIVATE, FileLock, check_is_file, make_private_folder, sync
from securechat.server.panic import StoreBrokenError
from securechat.server.store.sqlite import schema
from securechat.server.store.sqlite.passed_over import behind_wrong_header
from securechat.wire.limits import SERVER_ID_LENGTH, SITE_KEY_LENGTH

READ_CONNECTIONS = 8
"""Connections for reading, one for each thread that reads at once: I/O, readers, validators, metrics, the operator.

All are opened at the start, while there are file descriptors: later there may be none left, for clients have them.
"""

WAL_HEADER = 32
"""Bytes of a write-ahead log that holds nothing yet: its writer was killed within the first commit."""

FRAME_HEADER = 24
"""Bytes of a write-ahead log before each page in it."""

INDEX_HEADER = 48
FRAMES_AT = 16
BACKFILLED_AT = 96
"""Of the index: bytes that change with each commit, and where it tells how many frames are valid, and how many of them
are in the database; each 4 bytes in the machine's order (sqlite.org/walformat.html, section 2.1)."""

MOST_TRIES = 10_000
"""How often an instant between two commits is looked for: one try takes less time than a commit."""

VALUES_AT_ONCE = 256
"""Values in one statement: every build of SQLite takes this many."""

_OF_THE_SYSTEM = frozenset(
    (
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    )
)
"""Errors that say nothing about what the file holds."""

Value = TypeVar("Value")


class Part(NamedTuple):
    """A file of the database: what comes behind its name, and the bytes of it that count; `descriptor` reads it."""

    suffix: str
    size: int
    descriptor: int


class Database:
    """The file and its connections. One process at a time has it, under a lock file."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError if another server uses it."""
        make_private_folder(path.parent)
        self.path = path.resolve()  # SQLite puts its other files beside what a link points to
        self.log_path = self.path.with_name(self.path.name + "-wal")  # the write-ahead log
        self._lock_file = FileLock(
            self.path.with_name(self.path.name + ".lock"), busy=f"another server is using {self.path}"
        )
        self._connections: list[sqlite3.Connection] = []
        self._held: list[BinaryIO] = []
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()  # for reading, when nobody does

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """Make StorageErrors of whatever prevents an opening."""
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot open {self.path}: {error.strerror or error}") from error
        except (sqlite3.Error, StoreBrokenError) as error:
            reason = error.__cause__ if isinstance(error.__cause__, sqlite3.Error) else error
            if code(reason) & 0xFF in _OF_THE_SYSTEM:  # the higher bits hold its details
                raise StorageError(f"cannot open {self.path}: {reason}") from error
            raise self.damaged(reason) from error

    def damaged(self, problem: object) -> StorageError:
        """The error of a file whose content cannot be."""
        return StorageError(f"{self.path} is damaged: {problem}. It was left as it is.")

    def broken(self, error: Exception) -> StoreBrokenError:
        """The error of a file that has failed while it was used."""
        return StoreBrokenError(f"{self.path}: {error}")

    def prepare(self) -> None:
        """Make the database if there is none, with a new server_id; check an existing one."""
        if not self.path.exists():
            self._create()
        check_database(self.path)

    def _create(self) -> None:
        """Make it under another name first: a database with our name is always whole."""
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=PRIVATE)
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            schema.migrate(connection)
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [("server_id", os.urandom(SERVER_ID_LENGTH)), ("next_id", b"\x01")],
            )
        fresh.replace(self.path)
        sync(self.path.parent)

    def connect(self, mode: str, timeout: float = 5) -> sqlite3.Connection:
        """Open a connection, to be closed with the others; `mode`: `rw` or `ro`."""
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            timeout=timeout,
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # the turn moves between threads, under its lock; readers have one each
            cached_statements=256,
        )
        connection.execute("PRAGMA temp_store = MEMORY")  # statements need no temporary files then
        self._connections.append(connection)
        return connection

    def open_files(self) -> BinaryIO:
        """Open the file and the index of its write-ahead log to look into them, once somebody has that log open.

        They stay open: to close any descriptor of a file gives up all of a process's locks on it (POSIX), SQLite's too.
        Another program that opens the database would then start the index anew, under this process's feet.
        """
        index = self.path.with_name(f"{self.path.name}-shm")
        self._file, self._index = self._held = [path.open("rb", buffering=0) for path in (self.path, index)]
        return self._index

    def open_readers(self) -> None:
        """Open the connections for reading."""
        for _ in range(READ_CONNECTIONS):
            reader = self.connect("ro")
            reader.execute("SELECT key FROM meta").fetchall()  # opens the write-ahead log as well
            self._idle.put(reader)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A reader's view of one instant. Any thread."""
        reader = self._idle.get()
        try:
            reader.execute("BEGIN")
            yield reader
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise self.broken(error) from error
        finally:
            with contextlib.suppress(sqlite3.Error):
                reader.execute("ROLLBACK")
            self._idle.put(reader)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[list[Part]]:
        """The database as it is at one instant, in its files, which others go on writing to. Any thread.

        A reader holds the instant: what the write-ahead log has up to there is not overwritten, and nothing behind it
        is copied into the database. A checkpoint may go on copying what is before, which the log has as well. So the
        two of them together are the database of that instant, without a copy of it on this disk.

        Raises StorageError.
        """
        with contextlib.ExitStack() as opened:
            try:
                reader = opened.enter_context(contextlib.closing(self._reader_of_files()))
                for _ in range(MOST_TRIES):
                    before = self._log_header()
                    reader.execute("BEGIN")
                    reader.execute("SELECT key FROM meta").fetchall()
                    if self._log_header() == before:
                        break  # nobody has committed since: this is the reader's instant
                    reader.execute("ROLLBACK")
                else:
                    raise StorageError(f"{self.path} does not stand still for an instant")
                parts = [Part("", os.fstat(self._file.fileno()).st_size, self._file.fileno())]
                if frames := self._frames_needed():
                    log = opened.enter_context(self.log_path.open("rb", buffering=0))
                    (page,) = reader.execute("PRAGMA page_size").fetchone()
                    parts.append(Part("-wal", WAL_HEADER + frames * (FRAME_HEADER + page), log.fileno()))
            except sqlite3.Error as error:
                raise StorageError(f"cannot read {self.path}: {error}") from error
            except OSError as error:
                raise StorageError(f"cannot read {self.path}: {error.strerror or error}") from error
            yield parts

    def _reader_of_files(self) -> sqlite3.Connection:
        """A connection of its own: those for reading have to come back within milliseconds."""
        return sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, isolation_level=None)

    def _log_header(self) -> bytes:
        """What the index says of the log's valid frames: it changes with each commit."""
        return os.pread(self._index.fileno(), INDEX_HEADER, 0)

    def _frames_needed(self) -> int:
        """Frames of the log up to the instant, 0 if all of them are in the database. Requires that a reader holds it.

        If it holds one that had all of them there, the log may begin anew meanwhile; nobody writes to the database.
        """
        index = os.pread(self._index.fileno(), BACKFILLED_AT + 4, 0)
        frames, copied = (int.from_bytes(index[at : at + 4], sys.byteorder) for at in (FRAMES_AT, BACKFILLED_AT))
        return frames if copied < frames else 0

    def size(self) -> int:
        """Bytes on disk."""
        return self._length(self.path) + self.log_length()

    def reusable(self) -> int:
        """Bytes of the file that hold nothing any more."""
        with self.snapshot() as reader:
            free, page = (reader.execute(f"PRAGMA {each}").fetchone()[0] for each in ("freelist_count", "page_size"))
        return int(free * page)

    def log_length(self) -> int:
        """Bytes of the write-ahead log."""
        return self._length(self.log_path)

    def _length(self, path: Path) -> int:
        """0 if it is not there: somebody has moved it, and SQLite goes on with the open one."""
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreBrokenError(f"{path}: {error.strerror}") from error

    def close(self) -> None:
        """Close everything."""
        for connection in reversed(self._connections):  # the writer last: it takes the write-ahead log away
            connection.close()
        for file in self._held:
            file.close()
        self._lock_file.close()


def check_database(path: Path) -> int:
    """Refuse a database that is not ours, damaged, or of a newer version; reading changes no byte of it.

    A server may be writing to it meanwhile. Returns its version. Raises StorageError or sqlite3.Error.
    """
    for suffix in ("", "-wal", "-shm", "-journal"):  # all that SQLite opens
        check_is_file(path.with_name(path.name + suffix))
    log = path.with_name(path.name + "-wal")
    if path.exists() and (commits := behind_wrong_header(log, path)) is not None:
        raise StorageError(
            f"{log} is damaged at its beginning: restore a backup, or move it away and lose what it holds, up to "
            f"{commits:,} commits of the store. It was left as it is."
        )
    try:
        return _look_into(path)
    except UnicodeDecodeError as error:  # SQLite's complaint quotes bytes that are no text
        raise StorageError(f"{path} is damaged: {error.object!a}. It was left as it is.") from error


def knows_people(path: Path) -> bool:
    """Whether any account has an identity key in a database; reading leaves no trace.

    False also for a database that is not there or cannot be read: opening it says what is wrong.
    """
    if path.is_file():
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(_traceless(path)) as reader:
            return reader.execute("SELECT 1 FROM identities LIMIT 1").fetchone() is not None
    return False


def read_blobs(path: Path) -> tuple[set[str], dict[str, int]]:
    """Return the files that a database knows of, in hexadecimal, and the sizes of whole blobs; reading leaves no trace.

    None where there is no database, or one of before there were blobs. Raises sqlite3.Error.
    """
    if not path.is_file():
        return set(), {}
    with contextlib.closing(_traceless(path)) as reader:
        if not reader.execute("SELECT 1 FROM sqlite_master WHERE name = 'blobs'").fetchone():
            return set(), {}
        known = reader.execute("SELECT file FROM blobs UNION SELECT file FROM dropped_blobs").fetchall()
        whole = reader.execute("SELECT file, size FROM blobs WHERE seq > 0")
        return {file.hex() for (file,) in known}, {file.hex(): size for file, size in whole}


def _traceless(path: Path) -> sqlite3.Connection:
    """A connection that reads, and changes no byte of any file."""
    log = path.with_name(path.name + "-wal")
    if not log.exists() or log.stat().st_size <= WAL_HEADER:
        alone = "immutable=1"  # the file has everything, and no other is to be made beside it
    elif path.with_name(path.name + "-shm").exists():
        alone = "readonly_shm=1"  # reads the log without a trace, whether its writer lives or was killed
    else:
        alone = ""  # somebody has copied the two files by hand: SQLite has to make the third one
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&{alone}", uri=True)


def _look_into(path: Path) -> int:
    with contextlib.closing(_traceless(path)) as reader:
        if schema.application_of(reader) != schema.APPLICATION_ID:
            raise StorageError(f"{path} is not a database of this server. It was left as it is.")
        version = schema.version_of(reader)
        if not 1 <= version <= len(schema.MIGRATIONS):
            raise StorageError(
                f"{path} has version {version}, and this securechat knows those up to "
                f"{len(schema.MIGRATIONS)}: install the newer one again, or restore a backup from before. "
                "It was left as it is."
            )
        (problem,) = reader.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise StorageError(f"{path} is damaged: {problem}. It was left as it is.")
        key = reader.execute("SELECT length(value) FROM meta WHERE key = 'site_key'").fetchone()
        if version == len(schema.MIGRATIONS) and key != (SITE_KEY_LENGTH,):
            raise StorageError(f"{path} is damaged: its site key is missing. It was left as it is.")
        return version


def code(error: Exception) -> int:
    """SQLite's code of an error. An error that Python made, over a malformed text or run, counts as damage."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)


def portions(values: Collection[Value]) -> Iterator[list[Value]]:
    """The values, as many at a time as go into one statement."""
    values = list(values)
    for start in range(0, len(values), VALUES_AT_ONCE):
        yield values[start : start + VALUES_AT_ONCE]


def marks(values: Collection[object]) -> str:
    """The question marks that stand for these values in a statement."""
    return ", ".join("?" * len(values))
