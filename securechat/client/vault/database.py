"""The encrypted file: how it is opened, migrated, read and written.

    alice.vault        SQLCipher database (docs/design.md, section 7)
    alice.vault.key    its random key, wrapped under the password (`key_file`)
    alice.vault.lock   held while a process has the vault open

All changes happen inside `transaction()`: what belongs to one event becomes durable together or not at all
(invariant 5). One thread writes; others read over connections of their own (`ReadOnly`).
"""

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from sqlcipher3 import dbapi2 as sqlite

from securechat.client.vault import key_file, schema
from securechat.errors import StorageError
from securechat.files import PRIVATE, FileLock, make_private_folder
from securechat.names import normalise_password

_WAL_HEADER: Final = 32
"""Bytes of a write-ahead log that holds nothing."""


class Statements:
    """Statements over one connection to a vault. All raise `StorageError` where the file cannot be used."""

    def __init__(self, path: Path, connection: Any) -> None:
        """`connection` belongs to a library without type information."""
        self.path = path
        self._connection = connection

    def run(self, sql: str, *values: object) -> Any:
        """Execute one statement. Returns its cursor."""
        try:
            return self._connection.execute(sql, values)
        except sqlite.Error as error:
            raise self._failed(error) from error

    def run_many(self, sql: str, rows: list[tuple[object, ...]]) -> None:
        """Execute one statement for each of `rows`."""
        try:
            self._connection.executemany(sql, rows)
        except sqlite.Error as error:
            raise self._failed(error) from error

    def one(self, sql: str, *values: object) -> Any:
        """Return the first row of a query, or None."""
        return self.run(sql, *values).fetchone()

    def all(self, sql: str, *values: object) -> list[Any]:
        """Return all rows of a query."""
        try:
            return list(self.run(sql, *values).fetchall())
        except sqlite.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StorageError:
        return StorageError(f"The vault {self.path} cannot be used: {error}.")


class ReadOnly(Statements):
    """A connection that cannot write and shares nothing with the writer's: it sees what is committed. Any thread."""

    def __init__(self, path: Path, connection: Any) -> None:
        """See `Database.read_only`."""
        super().__init__(path, connection)
        self._lock = threading.Lock()  # held for one query: a connection serves one thread at a time

    def all(self, sql: str, *values: object) -> list[Any]:
        """Return all rows of a query."""
        with self._lock:
            return super().all(sql, *values)

    def one(self, sql: str, *values: object) -> Any:
        """Return the first row of a query, or None."""
        rows = self.all(sql, *values)
        return rows[0] if rows else None

    def close(self) -> None:
        """Close the connection, after any query that another thread is making."""
        with self._lock:
            self._connection.close()


class Database(Statements):
    """The database of one account on this machine, held by this process. One thread at a time."""

    def __init__(self, path: Path, account: str, connection: Any, key: bytes, lock: FileLock) -> None:
        """Use `open` instead."""
        super().__init__(path, connection)
        self.account = account
        self.discard_at_close = False
        self._key = key
        self._lock = lock
        self._readers: list[ReadOnly] = []
        self._deferred: dict[str, list[tuple[object, ...]]] = {}
        self.writes = 0
        """Statements given that may change something, deferred ones included: whether there was one in between."""

    @classmethod
    def open(cls, path: Path, account: str, password: str, *, cost: key_file.Cost = key_file.INTERACTIVE) -> Self:
        """Open the database of `account` at `path`, or make it where there is none; bring it up to date.

        `cost` matters only for a new one. Raises `StorageError`: held by another process, damaged, written by a newer
        program, or not writable; for a wrong password, `key_file.WrongPasswordError`. Raises `UsageError` for what
        cannot be a password.
        """
        password = normalise_password(password)
        make_private_folder(path.parent)
        busy = f"The vault {path} is open in another program. Close that one first."
        lock = FileLock(_beside(path, ".lock"), busy=busy)
        try:
            key = _unlock(path, password, cost)
            return cls(path, account, _open(path, account, key), key, lock)
        except BaseException:
            lock.close()
            raise

    def __repr__(self) -> str:
        """Name the file only."""
        return f"{type(self).__name__}({str(self.path)!r})"

    def close(self) -> None:
        """Close all connections and let other processes have the files.

        With `discard_at_close` the files are deleted: nobody ever logged in with this vault, and its password may be a
        typing error.
        """
        try:
            for reader in self._readers:
                reader.close()
            self._connection.close()
            if self.discard_at_close:
                for suffix in ("", "-wal", "-shm", ".key"):
                    _beside(self.path, suffix).unlink(missing_ok=True)
        finally:
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes inside durable together; an exception undoes them. Raises `StorageError`."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            self._deferred.clear()
            with suppress(sqlite.Error):  # the file itself failed: nothing of the transaction is in it
                self._connection.execute("ROLLBACK")
            raise

    def defer(self, sql: str, *values: object) -> None:
        """Execute a statement inside a transaction, together with others of its kind: before anything else happens.

        Many of a kind in a row cost half of what they cost one by one. Kinds may change places among each other, so
        this is for rows that no other deferred statement touches.
        """
        if self._connection.in_transaction:
            self.writes += 1
            self._deferred.setdefault(sql, []).append(values)
        else:
            self.run(sql, *values)

    def run(self, sql: str, *values: object) -> Any:
        """Execute one statement, after what was deferred. Returns its cursor."""
        if not sql.startswith("SELECT"):
            self.writes += 1
        self._settle()
        return super().run(sql, *values)

    def run_many(self, sql: str, rows: list[tuple[object, ...]]) -> None:
        """Execute one statement for each of `rows`, after what was deferred."""
        self.writes += 1
        self._settle()
        super().run_many(sql, rows)

    def _settle(self) -> None:
        if self._deferred:
            deferred, self._deferred = self._deferred, {}
            for sql, rows in deferred.items():
                super().run_many(sql, rows)

    def last_id(self, table: str) -> int:
        """Return the last id that a table has given out: none is given out twice (AUTOINCREMENT)."""
        row = self.one("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
        return int(row[0]) if row is not None else 0

    def read_only(self) -> ReadOnly:
        """Return another connection, which only reads; it is closed with the database. Raises `StorageError`."""
        try:
            connection = _connect(str(self.path), self._key)
            connection.execute("PRAGMA query_only = ON")
        except sqlite.Error as error:
            raise self._failed(error) from error
        reader = ReadOnly(self.path, connection)
        self._readers.append(reader)
        return reader


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _unlock(path: Path, password: str, cost: key_file.Cost) -> bytes:
    """Return the key of the database at `path`; a new one gets a new key."""
    wrapped = _beside(path, ".key")
    if wrapped.exists():
        return key_file.unlock(wrapped, password)
    if path.exists():
        raise StorageError(f"The key file {wrapped} is missing; without it nothing opens the vault. Put a backup back.")
    return key_file.create(wrapped, password, cost=cost)


def _open(path: Path, account: str, key: bytes) -> Any:
    """Open or make the database. The lock is held, so nobody else is doing the same."""
    connection = None
    try:
        if path.exists():
            _look_into(path, account, key)
        else:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))  # SQLite would make it readable for others
        connection = _connect(str(path), key)
        for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            connection.execute(f"PRAGMA {setting}")
        _migrate(path, connection)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite.OperationalError | OSError):
            raise StorageError(f"The vault {path} cannot be opened: {error}.") from error
        if isinstance(error, sqlite.Error):
            raise StorageError(f"The vault {path} is damaged: {error}. Put a backup of it back.") from error
        raise
    return connection


def _look_into(path: Path, account: str, key: bytes) -> None:
    """Refuse a file that is not ours before changing a byte of it."""
    log = _beside(path, "-wal")
    # Without a log the file has everything, and no other is to be made beside it.
    alone = "" if log.exists() and log.stat().st_size > _WAL_HEADER else "&immutable=1"
    with closing(_connect(f"{path.absolute().as_uri()}?mode=ro{alone}", key, uri=True)) as reader:
        version, newest = schema.version_of(reader), len(schema.MIGRATIONS)
        if version > newest:
            raise StorageError(
                f"The vault {path} was written by a newer program: it has version {version}, and this one knows those "
                f"up to {newest}. Use the newer one. The vault was left as it is."
            )
        owner = reader.execute("SELECT account FROM device").fetchone() if version else None
        if owner is not None and owner[0] != account:
            raise StorageError(f"The vault {path} belongs to {owner[0]}, not to {account}.")


def _connect(name: str, key: bytes, *, uri: bool = False) -> Any:
    # The writer's thread may change between transactions; readers have a lock.
    connection = sqlite.connect(name, isolation_level=None, check_same_thread=False, uri=uri)
    connection.execute("PRAGMA cipher_log_level = NONE")  # we report errors ourselves
    connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    connection.execute("PRAGMA temp_store = MEMORY")  # a temporary file would not be encrypted
    return connection


def _migrate(path: Path, connection: Any) -> None:
    try:
        schema.migrate(connection)
    except sqlite.Error as error:
        raise StorageError(
            f"The vault {path} could not be brought to version {len(schema.MIGRATIONS)}: {error}. It was left as it is."
            " If the disk is full, make room; otherwise it is damaged: put a backup of it back."
        ) from error
