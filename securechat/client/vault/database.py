"""The encrypted file: how it is opened, migrated, read and written.

    alice.vault        SQLCipher database (docs/design.md, section 7)
    alice.vault.key    its random key, wrapped under the password (`key_file`)
    alice.vault.lock   held while a process has the vault open
    alice.vault.server where its server is, for finding it (`client.addresses`)

All changes happen inside `transaction()`: what belongs to one event becomes durable together or not at all
(invariant 5). One thread writes; others read over connections of their own (`ReadOnly`). The writer's driver folds
the log in (`folding`).
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import field
from pathlib import Path
from shutil import copyfile, disk_usage, rmtree
from typing import Any, Final, Self

from sqlcipher3 import dbapi2 as sqlite

from securechat.client.password_source import PasswordSource
from securechat.client.vault import key_file, schema
from securechat.client.vault.door_proof import DoorKey
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.vault_files import CARD, EXPORTING, FILES, FIRST_KEY, IMPORTING, KEY, beside, check_whole
from securechat.client.wrapping import Cost
from securechat.errors import InternalError, StorageError
from securechat.files import PRIVATE, FileLock, make_private_folder, sync, write_atomically
from securechat.value import value

_WAL_HEADER: Final = 32
"""Bytes of a write-ahead log that holds nothing."""


ROOM: Final = 1 << 20
"""Bytes of room below which a disk counts as full: SQLite grows a vault and its log by far less at once."""

_BUSY_MILLISECONDS: Final = 5_000
"""How long a statement waits for somebody else's lock: Python's default."""


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
        return StorageError(f"The vault {self.path} cannot be used: {_trouble(self.path, error)}")


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


@value
class Unlocked:
    """What opens a database: its key, and where the password that unlocks it comes from."""

    password: PasswordSource
    key: bytes = field(repr=False)
    cost: Cost


class Database(Statements):
    """The database of one account on this machine, held by this process. One thread at a time."""

    def __init__(self, path: Path, account: str, unlocked: "Unlocked", connection: Any, lock: FileLock) -> None:
        """Use `open` instead."""
        super().__init__(path, connection)
        self.account = account
        self.password: Final = unlocked.password
        """Where the password of this vault comes from when it is needed again."""
        self.cost: Final = unlocked.cost
        """What a guess at it costs."""
        self.discard_at_close = False
        self.left_open = False
        """Whether somebody still works with it who does not end: then it stays open until the process ends."""
        self._key = unlocked.key
        self._lock = lock
        self._readers: list[ReadOnly] = []
        self._deferred: dict[str, list[tuple[object, ...]]] = {}
        self._inside = False  # a transaction, which begins with the first change
        self.writes = 0
        """Statements given that may change something, deferred ones included: whether there was one in between."""

    @classmethod
    def open(cls, path: Path, account: str, password: PasswordSource, *, cost: Cost) -> Self:
        """Open the database of `account` at `path`, or make it where there is none; bring it up to date.

        `cost` matters only for a new one. Raises `StorageError`: held by another process, damaged, written by a newer
        program, or not writable; for a wrong password, `WrongPasswordError`. Raises what `PasswordSource.read` raises.
        """
        make_private_folder(path.parent)
        busy = f"The vault {path} is open in another program. Close that one first."
        lock = FileLock(beside(path, ".lock"), busy=busy)
        try:
            with password.read() as typed:
                unlocked = Unlocked(password, *_unlock(path, typed, cost))

                def wrap(owner: str, private: bytearray) -> IdentityKey:
                    return IdentityKey.of(owner, private, typed, unlocked.cost)

                connection = _open(path, account, unlocked.key, wrap)
                for suffix in (EXPORTING, f"{EXPORTING}-journal", IMPORTING):  # of a kill: no deletion reaches them
                    with suppress(OSError):
                        beside(path, suffix).unlink(missing_ok=True)
            return cls(path, account, unlocked, connection, lock)
        except BaseException:
            _release(lock, path)
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
                self._discard()
        finally:
            _release(self._lock, self.path)

    def _discard(self) -> None:
        """Delete the files, in an order that leaves an unfinished first start behind if it is cut off."""
        with suppress(OSError):  # what is called so may be no card
            beside(self.path, CARD).unlink()
        beside(self.path, KEY).replace(beside(self.path, FIRST_KEY))
        rmtree(beside(self.path, FILES), ignore_errors=True)
        for suffix in (EXPORTING, IMPORTING, "", "-wal", "-shm", FIRST_KEY):
            beside(self.path, suffix).unlink(missing_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes inside durable together; an exception undoes them. Raises `StorageError`.

        It costs nothing until the first of them: most of what a client does while a file moves changes nothing here.
        """
        if self._inside:
            raise InternalError("a transaction in another one")
        self._inside = True
        try:
            yield
            self._settle()
            if self._connection.in_transaction:
                self.run("COMMIT")
        except BaseException:
            self._deferred.clear()
            with suppress(sqlite.Error):  # the file itself failed: nothing of the transaction is in it
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._inside = False

    def _begin(self) -> None:
        """Let the transaction begin that we are in, if we are in one, and none has begun."""
        if self._inside and not self._connection.in_transaction:
            super().run("BEGIN IMMEDIATE")

    def key_file(self) -> bytes:
        """Return what the key file holds. Raises `StorageError`."""
        return key_file.read(beside(self.path, KEY))

    def door_key(self) -> DoorKey:
        """Return what others prove by that they can open this vault, too."""
        return DoorKey(self._key)

    def key_file_under(self, password: bytearray) -> bytes:
        """Return what the key file would hold under another password."""
        return key_file.content(self._key, password, cost=self.cost)

    def replace_key_file(self, content: bytes) -> None:
        """Put another content in its place, whole or not at all. Raises `StorageError`."""
        write_atomically(beside(self.path, KEY), content)

    def write_copy(self, path: Path) -> None:
        """Write a copy of the database, under the same key, for another machine: one that heals before it speaks.

        Its device renews its signature key at its first login, before anything else, and a fresh path comes first in
        each conversation: this database and that one would otherwise encrypt by the same keys. Raises `StorageError`.
        """
        if not self.fold():
            raise StorageError(f"The vault {self.path} is being read. Try again in a moment.")
        try:
            path.unlink(missing_ok=True)  # left by a crash
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE))
            with self.transaction():
                self._begin()  # so that nothing changes meanwhile
                copyfile(self.path, path)
            with closing(_connect(str(path), self._key)) as copy:
                copy.execute("PRAGMA journal_mode = DELETE")  # all of it in one file
                copy.execute("PRAGMA secure_delete = ON")
                copy.execute("UPDATE device SET renew = 1")
                copy.execute("UPDATE conversations SET path_time = 0")
                copy.execute("DELETE FROM transfers")  # files and folders of this computer, not of that one
                copy.execute("DELETE FROM leftovers")
                copy.execute("DELETE FROM saved")
        except (OSError, sqlite.Error) as error:
            raise StorageError(f"The vault {self.path} cannot be copied: {_trouble(self.path, error)}") from error

    def fold(self) -> bool:
        """Fold the write-ahead log into the file, and cut it to nothing: until then it keeps what was overwritten.

        In the file, SQLite overwrites with zeros what was deleted (`secure_delete`). False if somebody is reading from
        the log, which has to be tried again: nobody is waited for. Raises `StorageError`.
        """
        log = beside(self.path, "-wal")
        if not log.exists() or log.stat().st_size == 0:
            return True
        run = super().run  # these change nothing that `writes` is about
        run("PRAGMA busy_timeout = 0")
        (busy, _, _) = run("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        run(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        return not busy

    def defer(self, sql: str, *values: object) -> None:
        """Execute a statement inside a transaction, together with others of its kind: before anything else happens.

        Many of a kind in a row cost half of what they cost one by one. Kinds may change places among each other, so
        this is for rows that no other deferred statement touches.
        """
        if self._inside:
            self.writes += 1
            self._deferred.setdefault(sql, []).append(values)
        else:
            self.run(sql, *values)

    def run(self, sql: str, *values: object) -> Any:
        """Execute one statement, after what was deferred. Returns its cursor."""
        if not sql.startswith("SELECT"):
            self.writes += 1
            self._begin()
        self._settle()
        return super().run(sql, *values)

    def run_many(self, sql: str, rows: list[tuple[object, ...]]) -> None:
        """Execute one statement for each of `rows`, after what was deferred."""
        self.writes += 1
        self._begin()
        self._settle()
        super().run_many(sql, rows)

    def _settle(self) -> None:
        if self._deferred:
            self._begin()
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


def _release(lock: FileLock, path: Path) -> None:
    """Give a vault's lock up; where there is no vault, leave nothing of it."""
    if any(beside(path, suffix).exists() for suffix in ("", KEY, FIRST_KEY)):
        lock.close()
    else:
        lock.discard()


def _unlock(path: Path, password: bytearray, cost: Cost) -> tuple[bytes, Cost]:
    """Return the key of the database at `path`, and its cost; a new one gets a new key."""
    check_whole(path)
    for suffix in (KEY, FIRST_KEY):
        if (wrapped := beside(path, suffix)).exists():
            return key_file.unlock(wrapped, password)
    return key_file.create(beside(path, FIRST_KEY), password, cost=cost), cost


def _open(path: Path, account: str, key: bytes, wrap: Callable[[str, bytearray], IdentityKey]) -> Any:
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
        _migrate(path, connection, wrap)
        # What a step took out must not stay in the file until the log happens to be folded in: also after a kill.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not beside(path, KEY).exists():  # the first start has come to its end
            beside(path, FIRST_KEY).replace(beside(path, KEY))
            sync(path.parent)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite.Error | OSError):
            raise StorageError(f"The vault {path} cannot be opened: {_trouble(path, error)}") from error
        raise
    return connection


def _look_into(path: Path, account: str, key: bytes) -> None:
    """Refuse a file that is not ours before changing a byte of it."""
    log = beside(path, "-wal")
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
    connection = sqlite.connect(
        name, timeout=_BUSY_MILLISECONDS / 1000, isolation_level=None, check_same_thread=False, uri=uri
    )
    connection.execute("PRAGMA cipher_log_level = NONE")  # we report errors ourselves
    connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    connection.execute("PRAGMA temp_store = MEMORY")  # a temporary file would not be encrypted
    return connection


def _trouble(path: Path, error: Exception) -> str:
    """Return why a vault cannot be used, and what to do: sentences. Only where it is damaged, to put a backup back."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    full = code in (sqlite.SQLITE_FULL, sqlite.SQLITE_IOERR) and disk_usage(path.parent).free < ROOM
    if full or code == sqlite.SQLITE_FULL:  # an IOERR, too, is what SQLite makes of a full disk
        return f"the disk is full ({error}). Make room and start again; nothing in it is lost."
    if code == sqlite.SQLITE_IOERR:
        return f"the disk does not do what it is asked for ({error}). See the system's log; nothing in it was given up."
    if code in (sqlite.SQLITE_BUSY, sqlite.SQLITE_LOCKED):
        return f"another program holds it ({error}). Close that one, a backup program perhaps, and start again."
    if code in (sqlite.SQLITE_READONLY, sqlite.SQLITE_CANTOPEN, sqlite.SQLITE_PERM) or isinstance(error, OSError):
        return f"{error}. See that you may write to {path.parent} and to what is in it, and start again."
    if code == sqlite.SQLITE_NOMEM:
        return f"there is too little memory ({error}). Close other programs, and start again."
    return f"it is damaged ({error}). Put a backup of it back."


def _migrate(path: Path, connection: Any, wrap: Callable[[str, bytearray], IdentityKey]) -> None:
    try:
        schema.migrate(connection, wrap)
    except sqlite.Error as error:
        raise StorageError(
            f"The vault {path} could not be brought to version {len(schema.MIGRATIONS)}, and was left as it is: "
            f"{_trouble(path, error)}"
        ) from error
