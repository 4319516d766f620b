"""The database's file: how it is made, checked, opened, read and copied."""

import contextlib
import os
import queue
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from securechat.errors import StorageError
from securechat.files import PRIVATE, FileLock, make_private_folder, sync
from securechat.server.panic import StoreBrokenError
from securechat.server.store.sqlite import schema
from securechat.wire.limits import SERVER_ID_LENGTH, SITE_KEY_LENGTH

READ_CONNECTIONS = 8
"""Connections for reading, one for each thread that reads at once: I/O, readers, validators, metrics, the operator.

All are opened at the start, while there are file descriptors: later there may be none left, for clients have them.
"""

WAL_HEADER = 32
"""Bytes of a write-ahead log that holds nothing yet: its writer was killed within the first commit."""

VALUES_AT_ONCE = 256
"""Values in one statement: every build of SQLite takes this many."""

_OF_THE_SYSTEM = frozenset(
    (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY)
)
"""Errors that say nothing about what the file holds."""

Value = TypeVar("Value")


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
            timeout,
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # the turn moves between threads, under its lock; readers have one each
            cached_statements=256,
        )
        connection.execute("PRAGMA temp_store = MEMORY")  # statements need no temporary files then
        self._connections.append(connection)
        return connection

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

    def copy(self, target: Path) -> None:
        """Copy everything, as it is at one instant, into an empty file. Any thread. Raises StorageError."""
        try:
            with (
                contextlib.closing(sqlite3.connect(target)) as copy,
                contextlib.closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as reader,
            ):
                reader.backup(copy)
        except sqlite3.Error as error:  # of the copy; if it is our file that is broken, the next turn will meet it
            raise StorageError(f"cannot copy the database to {target}: {error}") from error

    def size(self) -> int:
        """Bytes on disk."""
        return self._length(self.path) + self.log_length()

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
        self._lock_file.close()


def check_database(path: Path) -> int:
    """Refuse a database that is not ours, damaged, or of a newer version; reading changes no byte of it.

    A server may be writing to it meanwhile. Returns its version. Raises StorageError or sqlite3.Error.
    """
    try:
        return _look_into(path)
    except UnicodeDecodeError as error:  # SQLite's complaint quotes bytes that are no text
        raise StorageError(f"{path} is damaged: {error.object!a}. It was left as it is.") from error
    except sqlite3.OperationalError as error:
        if code(error) != sqlite3.SQLITE_PROTOCOL:
            raise
        # This is how SQLite, which reads without a trace here, says after ten seconds that a log's header is wrong.
        raise StorageError(
            f"{path}-wal is damaged at its beginning: restore a backup, or move it away and lose what it holds. "
            "It was left as it is."
        ) from error


def knows_people(path: Path) -> bool:
    """Whether any account has an identity key in a database; reading leaves no trace.

    False also for a database that is not there or cannot be read: opening it says what is wrong.
    """
    if path.exists():
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(_traceless(path)) as reader:
            return reader.execute("SELECT 1 FROM identities LIMIT 1").fetchone() is not None
    return False


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
