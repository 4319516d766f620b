"""The one connection that writes: its transactions, and the write-ahead log that they grow.

Every commit fsyncs the write-ahead log. If the disk has no room for a transaction, it is rolled back. Any other failure
of the file ends the process, because after a failed fsync nobody knows what is on the disk.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from securechat.errors import StorageError
from securechat.server.store.port import DiskFullError
from securechat.server.store.sqlite import schema
from securechat.server.store.sqlite.database import Database, code
from securechat.server.store.sqlite.passed_over import passed_over

WAL_BYTES = 16 << 20
"""Size of the write-ahead log past which a checkpoint is due. The commit after it waits for readers and starts the log
over in the same file, since a growing file is synced at half the speed."""

WAL_MOST_BYTES = 40 << 20
"""Size past which a commit makes the checkpoint itself and starts the log over; the turn waits for that. The next
commit cuts the file to this length."""

COMMIT_BYTES = 8 << 10
"""What a commit adds to the log besides its entries: about two pages. After other writes the real size is looked up."""

RESTART_SECONDS = 0.1
"""How long a commit waits for readers before it leaves the log as it is until after the next checkpoint. Our own
readers take milliseconds; one in another process, such as `securechat doctor`, may take as long as it likes."""

GIVE_BACK_BYTES = 64 << 20
"""Free room in the file that is kept: room that absent readers needed once will be needed again."""


class Writer:
    """Requires holding the turn, except for `checkpoint` and `copying`."""

    def __init__(self, database: Database, *, durable: bool, on_long_log: Callable[[], None]) -> None:
        """Connect, and bring the schema up to date. See `store.SQLiteStore`."""
        self._database = database
        self._durable = durable
        self._on_long_log = on_long_log
        self._rolled_back: list[Callable[[], None]] = []
        self._grown = 0  # bytes of entries and their commits since the last checkpoint, about
        self._checkpointing = threading.Lock()  # SQLite refuses a second checkpoint at once, without waiting
        self._refused = False  # the log could not be started over since the last checkpoint
        self._restart = False  # the log is long, and has been copied: the next commit starts it over
        self._copying = False  # a backup reads
        self._connection = connection = database.connect("rw", timeout=RESTART_SECONDS)  # nobody else writes
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("SELECT key FROM meta").fetchall()  # opens the write-ahead log as well
        self.passed_over = passed_over(database.log_path, database.open_files())
        """Commits that stood in the log behind a damaged place, and are not in the database."""
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's cache; ignored elsewhere
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # `commit` and `checkpoint` say when
        # Some builds overwrite deleted data, which is a third of all that they write. What is deleted here is
        # ciphertext, public keys, and who was in which conversation.
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute("PRAGMA recursive_triggers = ON")  # what a REPLACE deletes is held no more (`schema`)
        connection.execute(f"PRAGMA journal_size_limit = {WAL_MOST_BYTES}")
        try:
            schema.migrate(connection)
        except sqlite3.Error as error:
            raise StorageError(
                f"{database.path} could not be brought to version {len(schema.MIGRATIONS)}: {error}. "
                "It was left as it is."
            ) from error

    def finish_opening(self) -> None:
        """Give room back if there is much, and open the connection that makes checkpoints."""
        if self.passed_over:  # counted once: what is written now does not cover all of them
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._give_back()
        self._checkpointer = self._database.connect("rw")

    def _give_back(self) -> None:
        """Give the room of deleted data back to the system, if that is most of the file, by copying the rest.

        Only at the start, because nobody could write meanwhile.
        """
        connection = self._connection
        page, pages, free = (
            connection.execute(f"PRAGMA {each}").fetchone()[0] for each in ("page_size", "page_count", "freelist_count")
        )
        if free * page < GIVE_BACK_BYTES or 2 * free < pages:
            return
        connection.execute("PRAGMA temp_store = FILE")  # for the copy: it may be larger than memory
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            if code(error) != sqlite3.SQLITE_FULL:
                raise
        connection.execute("PRAGMA temp_store = MEMORY")

    # --- statements -------------------------------------------------------------------------------------------------

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Write, in the transaction."""
        with self.guarded():
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN IMMEDIATE")
            return self._connection.execute(sql, values)

    def execute_many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Write the same for each row, in the transaction."""
        with self.guarded():
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(sql, rows)

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Look up; the transaction's own writes are seen."""
        with self.guarded():
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: object) -> Any:
        """The first column of the only row, None if there is no row."""
        with self.guarded():
            row = self._connection.execute(sql, values).fetchone()
        return None if row is None else row[0]

    @contextlib.contextmanager
    def guarded(self) -> Iterator[sqlite3.Connection]:
        """The connection itself, raising our errors instead of SQLite's."""
        try:
            yield self._connection
        except (sqlite3.Error, msgspec.DecodeError) as error:
            if code(error) == sqlite3.SQLITE_FULL:
                self.rollback()
                raise DiskFullError("the disk is full") from error
            raise self._database.broken(error) from error

    # --- transactions -----------------------------------------------------------------------------------------------

    def commit(self, insert: str = "", rows: Sequence[tuple[Any, ...]] = (), size: int = 0) -> None:
        """Insert rows of `size` bytes together, if there are any, and make everything durable."""
        connection = self._connection
        more = connection.in_transaction  # was written than these rows
        if not rows and not more:
            return
        with self.guarded():
            if len(rows) == 1 and not more:
                connection.execute(insert, rows[0])  # a transaction of its own, in one step instead of three
            else:
                if not more:
                    connection.execute("BEGIN IMMEDIATE")
                if rows:
                    connection.executemany(insert, rows)
                connection.execute("COMMIT")
        self._grown += size + COMMIT_BYTES
        if self._copying or self._refused:
            return
        long = self._grown > WAL_BYTES
        if self._restart or ((long or more) and self._database.log_length() > WAL_MOST_BYTES):
            self._start_log_anew()
        elif long:
            self._on_long_log()

    def rollback(self) -> None:
        """Undo the transaction, and call what `after_rollback` was given."""
        with self.guarded():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        for forget in self._rolled_back:
            forget()

    def after_rollback(self, forget: Callable[[], None]) -> None:
        """Have `forget` called after each rollback."""
        self._rolled_back.append(forget)

    def _in_transaction(self) -> bool:
        return self._connection.in_transaction

    @contextlib.contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let commits within be made durable by the next commit after them, or be lost with all that follows.

        A write-ahead log allows that: a sync is one of everything in it, and a torn log is read up to the tear. If a
        transaction has begun before, its commit is durable as usual.
        """
        if not self._durable or self._in_transaction():
            yield
            return
        with self.guarded():
            self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            if self._in_transaction():  # something failed half-way
                self.rollback()
            with self.guarded():
                self._connection.execute("PRAGMA synchronous = FULL")

    # --- the write-ahead log ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def copying(self) -> Iterator[None]:
        """Do not start the log over, which would have to wait for a long reader; it grows meanwhile. Any thread."""
        self._copying = True
        try:
            yield
        finally:
            self._copying = False

    def checkpoint(self) -> None:
        """Copy what the log holds into the database, outside the turn, so that the log can start over."""
        with self._checkpointing:
            self._grown = 0
            _, length = self._checkpoint(self._checkpointer, "PASSIVE")
            self._refused = False
            self._restart = length > WAL_BYTES

    def _start_log_anew(self) -> None:
        """Copy the rest, and let the next commit write from the log's beginning, unless somebody reads."""
        self._restart = False
        with self._checkpointing:
            self._refused, _ = self._checkpoint(self._connection, "RESTART")
        if not self._refused:
            self._grown = 0

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> tuple[bool, int]:
        """Copy what is committed into the database; return whether that was refused, and the bytes in the log.

        If there is no room, it stays in the log, where it is as durable.
        """
        try:
            refused, pages, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            if code(error) == sqlite3.SQLITE_FULL:
                return True, 0
            raise self._database.broken(error) from error
        return bool(refused), int(pages) * 4096
