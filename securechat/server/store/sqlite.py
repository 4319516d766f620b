"""The store on SQLite: one file, one writer, a write-ahead log that is fsynced by every commit (design, section 5).

New entries go to `tail`, in order of arrival: one append-only table whose ids are never reused and which has no second
index, so a turn dirties the same last page however many conversations it touches. Where the entries of a conversation
stand in it is kept in memory (module `tail`) and read again at start. `tidy` deletes the beginning of the tail: what
all have read by then simply goes, and only what is still unread moves into `history`, keyed (conversation, seq). Before
entries leave the tail, their conversation's row is brought up to date with the head in memory. So the state of a
conversation is always its row plus those entries of the tail that are newer than it: what a message costs is a part of
one row, and what the conversation's row costs is shared by all messages between two of its updates.

A transaction that the disk has no room for is rolled back; any other failure of the file ends the process, for after a
failed fsync nobody knows what is on the disk.
"""

import contextlib
import os
import queue
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from securechat.errors import StorageError
from securechat.files import PRIVATE, FileLock, make_private_folder, sync
from securechat.server.panic import StoreBrokenError
from securechat.server.store import schema
from securechat.server.store.port import (
    READER_BYTES,
    READER_ENTRIES,
    READER_SECONDS,
    Departed,
    Device,
    DiskFullError,
    Head,
    InboxEntry,
    LogEntry,
    Membership,
    Numbers,
    RoomRow,
    Trimmed,
)
from securechat.server.store.tail import Allowance, Run, Tail, decode_run, encode_run
from securechat.wire.limits import SERVER_ID_LENGTH

PORTION = 256
PORTION_BYTES = 256 << 10
"""Rows, and bytes of payload in them, that `tidy` deletes or moves in one transaction: about 1 ms, in which no turn is
taken."""

DEVICES_AT_ONCE = 8
"""Devices whose numbers `tidy` stores in one transaction: up to 20 KiB each, about 1 ms together."""

LOGS_AT_ONCE = 16
"""Histories that `tidy` looks through in one transaction: about 1 ms, too."""

RUNS_AT_ONCE = 64
"""Runs of the tail asked for in one query."""

WAL_BYTES = 16 << 20
"""Size of the write-ahead log past which a checkpoint is due, and the commit after it waits for readers and starts the
log anew: over itself, as a file that grows is synced at half the speed."""

WAL_MOST_BYTES = 40 << 20
"""Size past which a commit makes the checkpoint and starts it anew: whoever writes waits for that. The next commit cuts
the file to this length."""

COMMIT_BYTES = 8 << 10
"""What a commit adds to the log besides its entries, about: two pages. After one of other things it is looked up."""

RESTART_SECONDS = 0.1
"""How long a commit waits for readers before it leaves the log as it is until after the next checkpoint. Our own take
milliseconds; one in another process, such as `securechat doctor`, may take as long as it likes."""

READ_CONNECTIONS = 8
"""Connections for reading, one for each thread that reads at once: I/O, readers, validators, metrics, the operator.

All are opened at the start, while there are file descriptors: later there may be none left, for clients have them.
"""

WAL_HEADER = 32
"""Bytes of a write-ahead log that holds nothing yet: its writer was killed within the first commit."""

GIVE_BACK_BYTES = 64 << 20
"""Free room in the file that is kept for what comes: what readers that were away have left is used again."""

EXPIRY_SECONDS = 3600
"""How often all histories and inboxes are looked through for what is past the limits of its readers."""

INBOX_ENTRIES = 1000
"""Welcomes kept for one device: the oldest go first, and their senders can invite again."""

Value = TypeVar("Value")

_OF_THE_SYSTEM = frozenset(
    (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY)
)
"""Errors that say nothing about what the file holds."""

_APPEND = "INSERT INTO tail VALUES (?, ?, ?, ?, ?, ?, ?)"


class SQLiteStore:
    """See `port.Store`."""

    server_id: bytes

    def __init__(self, path: Path, *, durable: bool = True, on_long_log: Callable[[], None] = lambda: None) -> None:
        """Open the database, or make it, with a new server_id.

        `on_long_log` is called, in a commit, when entries have made a checkpoint due.
        Not `durable`: `commit` leaves it to the system when to write, so a power failure loses what was committed.
        This breaks the store's promise and is good for measuring what the promise costs.

        Raises StorageError if another server uses it, or if it is damaged or not ours; it is left as it is then.
        """
        make_private_folder(path.parent)
        self._path = path = path.resolve()  # SQLite puts its other files beside what a link points to
        self._log_path = path.with_name(path.name + "-wal")  # the write-ahead log
        self._durable = durable
        self._lock_file = FileLock(path.with_name(path.name + ".lock"), busy=f"another server is using {path}")
        self._connections: list[sqlite3.Connection] = []
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()  # for reading, when nobody does
        self._index_lock = threading.Lock()  # protects _tail and the start of a reader's snapshot
        self._tail = Tail()
        self._refs: dict[bytes, int] = {}
        self._conversations: dict[int, bytes] = {}  # the other way round
        self._pending: list[tuple[int, list[LogEntry]]] = []  # conversation, entries
        self._histories: set[int] = set()  # conversations with entries in the history
        self._untidy: set[int] = set()  # those of them whose history may have become unnecessary
        self._loose: set[int] = set()  # letters that may be in no inbox any more
        self._next_expiry = 0
        self._expiring = False  # inboxes are looked through for old letters
        self._copying = False  # a backup reads
        self._on_long_log = on_long_log
        self._grown = 0  # bytes of entries and their commits since the last checkpoint, about
        self._checkpointing = threading.Lock()  # SQLite refuses a checkpoint beside another at once, without waiting
        self._refused = False  # the log could not be started anew since the last checkpoint
        self._restart = False  # the write-ahead log is long, and has been copied: the next commit starts it anew
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    # --- opening ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            if not self._path.exists():
                self._create()
            check_database(self._path)
            self._writer = writer = self._connect("rw", timeout=RESTART_SECONDS)  # nobody else writes
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
            writer.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's cache; ignored elsewhere
            writer.execute("PRAGMA wal_autocheckpoint = 0")  # `commit` and `checkpoint` say when
            # Some builds overwrite what is deleted, which is a third of all that they write: it is ciphertext, public
            # keys, and who was where.
            writer.execute("PRAGMA secure_delete = FAST")
            writer.execute(f"PRAGMA journal_size_limit = {WAL_MOST_BYTES}")
            self._migrate(writer)
            self._read_index()
            self._give_back()
            self._checkpointer = self._connect("rw")
            for _ in range(READ_CONNECTIONS):
                reader = self._connect("ro")
                reader.execute("SELECT key FROM meta").fetchall()  # opens the write-ahead log as well
                self._idle.put(reader)
        except OSError as error:
            raise StorageError(f"cannot open {self._path}: {error.strerror or error}") from error
        except sqlite3.Error as error:
            if _code(error) & 0xFF in _OF_THE_SYSTEM:  # its details stand in the higher bits
                raise StorageError(f"cannot open {self._path}: {error}") from error
            raise StorageError(f"{self._path} is damaged: {error}. It was left as it is.") from error

    def _connect(self, mode: str, timeout: float = 5) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}",
            timeout,
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # the turn moves between threads, under its lock; readers have one each
            cached_statements=256,
        )
        connection.execute("PRAGMA temp_store = MEMORY")  # nor is there a file needed for a statement's own notes
        self._connections.append(connection)
        return connection

    def _create(self) -> None:
        """Make the database under another name first: what has ours is always whole."""
        fresh = self._path.with_name(self._path.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=PRIVATE)
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            schema.migrate(connection)
            connection.executemany("INSERT INTO meta VALUES (?, ?)", _first_meta())
        fresh.replace(self._path)
        sync(self._path.parent)

    def _migrate(self, writer: sqlite3.Connection) -> None:
        try:
            schema.migrate(writer)
        except sqlite3.Error as error:
            raise StorageError(
                f"{self._path} could not be brought to version {len(schema.MIGRATIONS)}: {error}. It was left as it is."
            ) from error

    def _read_index(self) -> None:
        meta = dict(self._writer.execute("SELECT key, value FROM meta"))
        try:
            self.server_id = meta["server_id"]
            self._next_id = int.from_bytes(meta["next_id"], "big")
        except KeyError as error:
            raise StorageError(f"{self._path} is damaged: its {error} is missing. It was left as it is.") from error
        self._read_refs()
        try:
            for row in self._writer.execute("SELECT id, conversation, first, last, time, size FROM tail ORDER BY id"):
                self._tail.add(Run(*row))
                self._next_id = row[0] + 1
        except ValueError as error:
            raise StorageError(f"{self._path} is damaged: {error}. It was left as it is.") from error
        self._histories = {ref for (ref,) in self._writer.execute("SELECT DISTINCT conversation FROM history")}
        self._untidy |= self._histories
        loose = self._writer.execute("SELECT id FROM letters WHERE id NOT IN (SELECT letter FROM inbox)")
        self._loose = {letter for (letter,) in loose}

    def _read_refs(self) -> None:
        self._refs = dict(self._writer.execute("SELECT id, ref FROM conversations"))
        self._conversations = {ref: conversation for conversation, ref in self._refs.items()}

    def _give_back(self) -> None:
        """Give the system the room of what was deleted, where that is most of the file, by copying the rest.

        Only at the start: nobody could write meanwhile.
        """
        writer = self._writer
        page, pages, free = (
            writer.execute(f"PRAGMA {each}").fetchone()[0] for each in ("page_size", "page_count", "freelist_count")
        )
        if free * page < GIVE_BACK_BYTES or 2 * free < pages:
            return
        writer.execute("PRAGMA temp_store = FILE")  # for the copy: it may be larger than memory
        try:
            writer.execute("VACUUM")
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            if _code(error) != sqlite3.SQLITE_FULL:
                raise
        writer.execute("PRAGMA temp_store = MEMORY")

    # --- transactions -----------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """See `port.Store`."""
        rows = [
            (
                row_id,
                ref,
                run[0].seq,
                run[-1].seq,
                run[-1].time,
                sum([len(entry.payload) for entry in run]),
                encode_run(run),
            )
            for row_id, (ref, run) in enumerate(self._pending, self._next_id)
        ]
        more = self._writer.in_transaction  # than entries
        if not rows and not more:
            return
        with self._writing():
            if len(rows) == 1 and not more:
                self._writer.execute(_APPEND, rows[0])  # a transaction of its own, in one step instead of three
            else:
                if not more:
                    self._writer.execute("BEGIN IMMEDIATE")
                if rows:
                    self._writer.executemany(_APPEND, rows)
                self._writer.execute("COMMIT")
        if rows:
            self._next_id += len(rows)
            self._pending = []
            with self._index_lock:
                for row in rows:
                    self._tail.add(Run(*row[:-1]))
        self._grown += sum([len(row[6]) for row in rows]) + COMMIT_BYTES
        if self._copying or self._refused:
            return
        long = self._grown > WAL_BYTES
        if self._restart or ((long or more) and _size(self._log_path) > WAL_MOST_BYTES):
            self._start_log_anew()
        elif long:
            self._on_long_log()

    def _start_log_anew(self) -> None:
        """Copy what is left to copy, and let the next commit write from the log's beginning; not if somebody reads."""
        self._restart = False
        with self._checkpointing:
            self._refused, _ = self._checkpoint(self._writer, "RESTART")
        if not self._refused:
            self._grown = 0

    def rollback(self) -> None:
        """See `port.Store`."""
        self._pending = []
        with self._writing():
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            self._read_refs()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, msgspec.DecodeError) as error:
            if _code(error) == sqlite3.SQLITE_FULL:
                self.rollback()
                raise DiskFullError("the disk is full") from error
            raise StoreBrokenError(f"{self._path}: {error}") from error

    def _write(self, sql: str, *values: object) -> sqlite3.Cursor:
        with self._writing():
            if not self._writer.in_transaction:
                self._writer.execute("BEGIN IMMEDIATE")
            return self._writer.execute(sql, values)

    def _write_many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        with self._writing():
            if not self._writer.in_transaction:
                self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany(sql, rows)

    def _rows(self, sql: str, *values: object) -> list[Any]:
        with self._writing():
            return self._writer.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: object) -> Any:
        """The first column of the only row, None if there is no row."""
        with self._writing():
            row = self._writer.execute(sql, values).fetchone()
        return None if row is None else row[0]

    # --- conversations ----------------------------------------------------------------------------------------------

    def append(self, conversation: bytes, run: list[LogEntry]) -> None:
        """See `port.Store`."""
        self._pending.append((self._refs[conversation], run))

    def create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> None:
        """See `port.Store`."""
        cursor = self._write(
            "INSERT INTO conversations (id, kind, name, seq, time, epoch, chain, group_info, first_seq, held_bytes,"
            " snapshot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            head.id, head.kind, head.name, head.seq, head.time, head.epoch, head.chain, head.group_info,
            head.first_seq, head.held_bytes, snapshot,
        )  # fmt: skip
        ref = cursor.lastrowid
        assert ref is not None  # noqa: S101  # nosec B101  # an INSERT has one
        self._refs[head.id] = ref
        self._conversations[ref] = head.id
        self.put_members(head.id, head.members.values())
        if pair is not None:
            self._write("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", *pair, ref)

    def delete(self, conversation: bytes) -> None:
        """See `port.Store`."""
        ref = self._refs.pop(conversation)
        del self._conversations[ref]
        self._pending = [each for each in self._pending if each[0] != ref]
        # Entries stay in the tail until `tidy` comes to them: the tail is only ever cut at its beginning.
        for table in ("pairs", "commits", "members", "departed", "numbers", "history"):
            self._write(f"DELETE FROM {table} WHERE conversation = ?", ref)  # noqa: S608  # nosec B608  # names from the line above
        self._write("DELETE FROM conversations WHERE ref = ?", ref)

    def load(self, conversation: bytes) -> Head | None:
        """See `port.Store`."""
        ref = self._refs.get(conversation)
        if ref is None:
            return None
        (row,) = self._rows(
            "SELECT id, kind, name, seq, time, epoch, chain, group_info, first_seq, held_bytes FROM conversations"
            " WHERE ref = ?",
            ref,
        )
        head = Head(*row)
        for numbers in self._rows("SELECT device, last, answers FROM numbers WHERE conversation = ?", ref):
            head.numbers[numbers[0]] = Numbers(*numbers[1:])
        for member in self._rows(
            "SELECT device, account, join_seq, join_chain, last_seq, cursor FROM members WHERE conversation = ?", ref
        ):
            head.members[member[0]] = Membership(*member)
        for gone in self._rows(
            "SELECT device, leaf, proposal, group_context FROM departed WHERE conversation = ?", ref
        ):
            head.departed[gone[0]] = Departed(*gone)
        with self._writing():
            for entry in self._read_tail(self._writer, self._tail.runs(ref, head.seq)):
                if entry.seq > head.seq:
                    head.record(entry)
        return head

    def save_commit(self, head: Head, entry: LogEntry, snapshot: bytes | None) -> None:
        """See `port.Store`."""
        ref = self._refs[head.id]
        self._write("UPDATE conversations SET group_info = ? WHERE ref = ?", head.group_info, ref)
        if snapshot is None:
            self._write("INSERT INTO commits VALUES (?, ?, ?, ?)", ref, entry.seq, entry.time, entry.payload)
        else:
            self._write("UPDATE conversations SET snapshot = ? WHERE ref = ?", snapshot, ref)
            self._write("DELETE FROM commits WHERE conversation = ?", ref)

    def read_group(self, conversation: bytes) -> tuple[bytes, list[tuple[int, bytes]]] | None:
        """See `port.Store`."""
        with self._snapshot() as reader:
            row = reader.execute("SELECT ref, snapshot FROM conversations WHERE id = ?", (conversation,)).fetchone()
            if row is None:
                return None
            commits = reader.execute("SELECT time, message FROM commits WHERE conversation = ? ORDER BY seq", (row[0],))
            return row[1], commits.fetchall()

    def put_members(self, conversation: bytes, members: Iterable[Membership]) -> None:
        """See `port.Store`."""
        ref = self._refs[conversation]
        self._write_many(
            "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (ref, each.device, each.account, each.join_seq, each.join_chain, each.last_seq, each.cursor)
                for each in members
            ],
        )

    def put_departed(self, conversation: bytes, departed: Departed) -> None:
        """See `port.Store`."""
        self._write(
            "INSERT OR REPLACE INTO departed VALUES (?, ?, ?, ?, ?)",
            self._refs[conversation], departed.device, departed.leaf, departed.proposal, departed.group_context,
        )  # fmt: skip

    def drop_departed(self, conversation: bytes, devices: Collection[bytes]) -> None:
        """See `port.Store`."""
        ref = self._refs[conversation]
        self._write_many(
            "DELETE FROM departed WHERE conversation = ? AND device = ?", [(ref, device) for device in devices]
        )

    def set_cursors(self, cursors: Iterable[tuple[bytes, bytes, int]]) -> None:
        """See `port.Store`."""
        refs = self._refs
        rows = [(seq, refs[conversation], device) for conversation, device, seq in cursors if conversation in refs]
        self._write_many("UPDATE members SET cursor = max(cursor, ?) WHERE conversation = ? AND device = ?", rows)
        self._write_many(
            "DELETE FROM members WHERE conversation = ? AND device = ? AND cursor >= last_seq",
            [(ref, device) for _, ref, device in rows],
        )
        self._untidy |= self._histories.intersection(ref for _, ref, _ in rows)

    def room(self, name: str) -> bytes | None:
        """See `port.Store`."""
        found: bytes | None = self._one("SELECT id FROM conversations WHERE name = ? AND name != ''", name)
        return found

    def rooms(self, device: bytes) -> list[RoomRow]:
        """See `port.Store`."""
        rows = self._rows(
            "SELECT name, kind, count(DISTINCT account), coalesce(max(device = ?), 0) FROM conversations"
            " LEFT JOIN members ON conversation = ref AND last_seq IS NULL"
            " WHERE name != '' GROUP BY ref ORDER BY name",
            device,
        )
        return [RoomRow(row[0], row[1], row[2], bool(row[3])) for row in rows if row[1] == "open" or row[3]]

    def pair(self, pair: tuple[str, str]) -> bytes | None:
        """See `port.Store`."""
        found: bytes | None = self._one(
            "SELECT id FROM pairs JOIN conversations ON ref = conversation WHERE low = ? AND high = ?", *pair
        )
        return found

    def conversations_of(self, device: bytes) -> list[bytes]:
        """See `port.Store`."""
        rows = self._rows(
            "SELECT id FROM members JOIN conversations ON ref = conversation WHERE device = ? AND last_seq IS NULL",
            device,
        )
        return [conversation for (conversation,) in rows]

    def measure(self, conversation: bytes, after: int) -> tuple[int, int]:
        """See `port.Store`."""
        ref = self._refs[conversation]
        size, first = self._rows(
            "SELECT coalesce(sum(size), 0), coalesce(min(time), 0) FROM history WHERE conversation = ? AND last > ?",
            ref, after,
        )[0]  # fmt: skip
        for run in self._tail.runs(ref, after):
            size += run.size
            first = first or run.time
        return size, first

    # --- inboxes ----------------------------------------------------------------------------------------------------

    def deliver(self, letter: InboxEntry, devices: Collection[bytes]) -> None:
        """See `port.Store`."""
        cursor = self._write(
            "INSERT INTO letters (time, conversation, join_seq, chain, welcome, tree, departed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            letter.time, letter.conversation, letter.join_seq, letter.chain, letter.welcome, letter.tree,
            msgspec.msgpack.encode(letter.departed),
        )  # fmt: skip
        # As few statements as can be: one commit adds up to 999 devices, and all others' messages wait for this turn.
        self._write_many(
            "INSERT INTO inbox_heads VALUES (?, 1) ON CONFLICT (device) DO UPDATE SET seq = seq + 1",
            [(device,) for device in devices],
        )
        self._write_many(
            "INSERT INTO inbox SELECT device, seq, ? FROM inbox_heads WHERE device = ?",
            [(cursor.lastrowid, device) for device in devices],
        )
        for portion in _portions(devices):
            for device, seq in self._rows(
                f"SELECT device, seq FROM inbox_heads WHERE device IN ({_marks(portion)}) AND seq > ?",  # noqa: S608  # nosec B608  # only marks
                *portion, INBOX_ENTRIES,
            ):
                self._take_out("device = ? AND seq <= ?", device, seq - INBOX_ENTRIES)

    def inbox(self, device: bytes) -> int:
        """See `port.Store`."""
        return self._one("SELECT seq FROM inbox_heads WHERE device = ?", device) or 0

    def acknowledge_inbox(self, device: bytes, seq: int) -> None:
        """See `port.Store`."""
        self._take_out("device = ? AND seq <= ?", device, seq)

    def _take_out(self, which: str, *values: object) -> int:
        """Take letters out of inboxes, and return how many; `tidy` deletes those that are in no inbox any more."""
        rows = self._rows(f"SELECT device, seq, letter FROM inbox WHERE {which}", *values)  # noqa: S608  # nosec B608  # conditions are written here
        if rows:
            self._write_many("DELETE FROM inbox WHERE device = ? AND seq = ?", [row[:2] for row in rows])
            self._loose.update(letter for _, _, letter in rows)
        return len(rows)

    def _drop_letters(self, allowance: Allowance) -> set[int]:
        """Delete letters that are in no inbox, as many as is allowed: one may have megabytes. Return those seen to."""
        done: set[int] = set()
        for letter in self._loose:
            if allowance.full:
                break
            size = self._one(
                "SELECT length(welcome) + length(tree) + length(departed) FROM letters"
                " WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM inbox WHERE letter = ?1)",
                letter,
            )
            if size is not None:
                self._write("DELETE FROM letters WHERE id = ?", letter)
                allowance.take(size)
            done.add(letter)
        return done

    def read_inbox(self, device: bytes, after: int, max_bytes: int) -> list[InboxEntry]:
        """See `port.Store`."""
        letters, size = [], 0
        with self._snapshot() as reader:
            for row in reader.execute(
                "SELECT seq, time, conversation, join_seq, chain, welcome, tree, departed FROM inbox"
                " JOIN letters ON id = letter WHERE device = ? AND seq > ? ORDER BY seq",
                (device, after),
            ):
                seq, time, conversation, join_seq, chain, welcome, tree, encoded = row
                departed = msgspec.msgpack.decode(encoded, type=tuple[tuple[bytes, bytes], ...])
                letters.append(InboxEntry(seq, time, conversation, join_seq, chain, welcome, tree, departed))
                size += len(welcome) + len(tree) + len(encoded)
                if size >= max_bytes:
                    break
        return letters

    # --- directory --------------------------------------------------------------------------------------------------

    def put_device(self, device: Device, identity_key: bytes) -> None:
        """See `port.Store`."""
        self._write("INSERT OR REPLACE INTO identities VALUES (?, ?)", device.account, identity_key)
        self._write(
            "INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", device.device, device.account, device.certificate
        )

    def drop_devices(self, devices: Collection[bytes]) -> None:
        """See `port.Store`."""
        rows = [(device,) for device in devices]
        self._write_many("DELETE FROM devices WHERE device = ?", rows)
        self._write_many("DELETE FROM key_packages WHERE device = ?", rows)

    def device(self, device: bytes) -> Device | None:
        """See `port.Store`."""
        rows = self._rows("SELECT device, account, certificate FROM devices WHERE device = ?", device)
        return Device(*rows[0]) if rows else None

    def devices(self, account: str) -> list[Device]:
        """See `port.Store`."""
        return [
            Device(*row)
            for row in self._rows("SELECT device, account, certificate FROM devices WHERE account = ?", account)
        ]

    def owners(self, devices: Collection[bytes]) -> dict[bytes, tuple[str, bytes]]:
        """See `port.Store`."""
        return {
            device: (account, identity_key)
            for portion in _portions(devices)
            for device, account, identity_key in self._rows(
                "SELECT device, account, identity_key FROM devices JOIN identities USING (account)"  # noqa: S608  # nosec B608  # only marks
                f" WHERE device IN ({_marks(portion)})",
                *portion,
            )
        }

    def identity_key(self, account: str) -> bytes:
        """See `port.Store`."""
        return self._one("SELECT identity_key FROM identities WHERE account = ?", account) or b""

    def put_key_packages(self, device: bytes, key_packages: Iterable[bytes], last_resort: bytes) -> None:
        """See `port.Store`."""
        insert = "INSERT INTO key_packages (device, last_resort, key_package) VALUES (?, ?, ?)"
        self._write_many(insert, [(device, 0, key_package) for key_package in key_packages])
        if last_resort:
            self._write("DELETE FROM key_packages WHERE device = ? AND last_resort = 1", device)
            self._write(insert, device, 1, last_resort)

    def drop_key_packages(self) -> None:
        """Drop all key packages but the last-resort ones, and commit."""
        self._write("DELETE FROM key_packages WHERE last_resort = 0")
        self.commit()

    def take_key_package(self, device: bytes, *, only_last_resort: bool = False) -> bytes | None:
        """See `port.Store`."""
        rows = self._rows(
            "SELECT id, last_resort, key_package FROM key_packages WHERE device = ? AND last_resort >= ?"
            " ORDER BY last_resort, id LIMIT 1",
            device,
            only_last_resort,
        )
        if not rows:
            return None
        ((row_id, last_resort, key_package),) = rows
        if not last_resort:
            self._write("DELETE FROM key_packages WHERE id = ?", row_id)
        found: bytes = key_package
        return found

    def count_key_packages(self, device: bytes) -> int:
        """See `port.Store`."""
        count: int = self._one("SELECT count(*) FROM key_packages WHERE device = ? AND last_resort = 0", device)
        return count

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """A reader's view of one instant."""
        reader = self._idle.get()
        try:
            reader.execute("BEGIN")
            yield reader
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise StoreBrokenError(f"{self._path}: {error}") from error
        finally:
            with contextlib.suppress(sqlite3.Error):
                reader.execute("ROLLBACK")
            self._idle.put(reader)

    def read(self, conversation: bytes, after: int, upto: int, max_entries: int, max_bytes: int) -> list[LogEntry]:
        """See `port.Store`."""
        with self._snapshot() as reader:
            with self._index_lock:
                # The snapshot begins with the first read, and the index must be of the same instant: between the two,
                # `tidy` could move rows away.
                row = reader.execute("SELECT ref FROM conversations WHERE id = ?", (conversation,)).fetchone()
                if row is None:
                    return []
                (ref,) = row
                runs = self._tail.runs(ref, after)
            found: list[LogEntry] = []
            size = 0
            for entry in chain(self._read_history(reader, ref, after, upto), self._read_tail(reader, runs)):
                if entry.seq > upto or len(found) == max_entries or size >= max_bytes:
                    break
                if entry.seq > after:
                    found.append(entry)
                    size += len(entry.payload)
            return found

    def _read_history(self, reader: sqlite3.Connection, ref: int, after: int, upto: int) -> Iterator[LogEntry]:
        """The entries of the runs in the history that hold any between `after` and `upto`."""
        for (run,) in reader.execute(
            "SELECT entries FROM history WHERE conversation = ? AND last > ? AND first <= ? ORDER BY last",
            (ref, after, upto),
        ):
            yield from decode_run(run)

    def _read_tail(self, reader: sqlite3.Connection, runs: Sequence[Run]) -> Iterator[LogEntry]:
        """The entries of these runs."""
        for start in range(0, len(runs), RUNS_AT_ONCE):
            ids = [run.id for run in runs[start : start + RUNS_AT_ONCE]]
            query = f"SELECT entries FROM tail WHERE id IN ({_marks(ids)}) ORDER BY id"  # noqa: S608  # nosec B608  # only marks
            for (run,) in reader.execute(query, ids):
                yield from decode_run(run)

    def size(self) -> tuple[int, int]:
        """See `port.Store`."""
        moved = 0
        with self._snapshot() as reader:
            for ref in list(self._histories):  # by its ends: counting would read all of the history
                (count,) = reader.execute(
                    "SELECT (SELECT last FROM history WHERE conversation = ?1 ORDER BY last DESC LIMIT 1)"
                    " - (SELECT first FROM history WHERE conversation = ?1 ORDER BY last LIMIT 1) + 1",
                    (ref,),
                ).fetchone()
                moved += count or 0
        return moved + self._tail.entries, _size(self._path) + _size(self._log_path)

    # --- housekeeping -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def unhurried(self) -> Iterator[None]:
        """See `port.Store`.

        That holds for a write-ahead log: a sync is one of all that stands in it, and a torn one is read up to the tear.
        """
        if not self._durable:
            yield
            return
        with self._writing():
            self._writer.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            if self._writer.in_transaction:  # something has failed half-way
                self.rollback()
            with self._writing():
                self._writer.execute("PRAGMA synchronous = FULL")

    def tidy(self, now: int, head: Callable[[bytes], Head | None]) -> tuple[list[Trimmed], bool]:
        """See `port.Store`."""
        cut = self._cut_tail(now, head)
        if cut is not None:
            return cut, True
        if now >= self._next_expiry:
            self._next_expiry = now + EXPIRY_SECONDS * 1000
            self._untidy |= self._histories
            self._expiring = True
        old = now - READER_SECONDS * 1000
        if self._expiring:
            expired = self._take_out("letter IN (SELECT id FROM letters WHERE time < ?) LIMIT ?", old, PORTION)
            self._expiring = expired == PORTION
        trimmed: list[Trimmed] = []
        allowance = Allowance(PORTION, PORTION_BYTES)
        for _ in range(min(LOGS_AT_ONCE, len(self._untidy))):
            trimmed += self._trim(self._untidy.pop(), old, allowance)
            if allowance.full:
                break
        dropped = self._drop_letters(allowance)
        self.commit()
        self._loose -= dropped
        return trimmed, bool(self._untidy or self._loose or self._expiring)

    def _cut_tail(self, now: int, head: Callable[[bytes], Head | None]) -> list[Trimmed] | None:
        """Let the oldest runs leave the tail, or prepare that; None if none has to leave."""
        runs = self._tail.leaving(now, Allowance(PORTION, PORTION_BYTES))
        if not runs:
            return None
        ends = {run.ref: run.last for run in runs}
        if self._store_heads([ref for ref, end in ends.items() if not self._tail.is_stored(ref, end)], head):
            return []
        trimmed = []
        floors: dict[int, int] = {}
        for ref, end in ends.items():
            # Without a conversation these are the last traces of one that was deleted.
            if (conversation := self._conversations.get(ref)) is not None and (current := head(conversation)):
                floor = floors[ref] = min((member.cursor for member in current.members.values()), default=0)
                first = max(current.first_seq, min(floor, end) + 1)
                trimmed.append(Trimmed(conversation, first, current.held_bytes, current.held_time, 0))
        if unread := [run for run in runs if run.last > floors.get(run.ref, run.last)]:
            self._move(unread)
        self._write("DELETE FROM tail WHERE id <= ?", runs[-1].id)
        self._write("UPDATE meta SET value = ? WHERE key = 'next_id'", self._next_id.to_bytes(8, "big"))
        with self._index_lock:  # see `read`
            self.commit()
            self._tail.drop(runs)
        return trimmed

    def _store_heads(self, refs: list[int], head: Callable[[bytes], Head | None]) -> bool:
        """Bring the rows of some of these conversations up to date; whether there was anything to do."""
        stored: list[tuple[int, int]] = []
        numbers: list[Numbers] = []
        for ref in refs:
            conversation = self._conversations.get(ref)
            current = head(conversation) if conversation is not None else None
            if current is None:
                continue
            self._write(
                "UPDATE conversations SET seq = ?, time = ?, epoch = ?, chain = ?, first_seq = ? WHERE ref = ?",
                current.seq, current.time, current.epoch, current.chain, current.first_seq, ref,
            )  # fmt: skip
            changed = [(device, each) for device, each in current.numbers.items() if each.last > each.stored]
            self._write_many(
                "INSERT OR REPLACE INTO numbers VALUES (?, ?, ?, ?)",
                [(ref, device, each.last, each.encode()) for device, each in changed],
            )
            numbers += [each for _, each in changed]
            stored.append((ref, current.seq))
            if len(numbers) >= DEVICES_AT_ONCE:
                break
        self.commit()
        for ref, seq in stored:
            self._tail.stored(ref, seq)
        for each in numbers:
            each.stored = each.last
        return bool(stored)

    def _move(self, runs: list[Run]) -> None:
        """Copy runs from the tail to the history."""
        self._write_many(
            "INSERT INTO history SELECT conversation, first, last, time, size, entries FROM tail WHERE id = ?",
            [(run.id,) for run in runs],
        )
        sizes: Counter[int] = Counter()
        for run in runs:
            sizes[run.ref] += run.size
        self._write_many(
            "UPDATE conversations SET held_bytes = held_bytes + ? WHERE ref = ?",
            [(size, ref) for ref, size in sizes.items()],
        )
        self._histories |= sizes.keys()
        self._untidy |= sizes.keys()

    def _trim(self, ref: int, old: int, allowance: Allowance) -> list[Trimmed]:
        """Delete what everybody has read, and in rooms what is past a reader's limits, as far as is allowed."""
        found = self._rows("SELECT id, kind, seq, first_seq, held_bytes FROM conversations WHERE ref = ?", ref)
        if not found:
            self._histories.discard(ref)
            return []
        conversation, kind, seq, first_seq, held = found[0]
        floor = self._one("SELECT min(cursor) FROM members WHERE conversation = ?", ref) or 0  # all have it up to there
        given_up = 0
        first_time = 0  # of what stays
        end = 0
        whole = True  # everything goes
        for last, time, size in self._rows(
            "SELECT last, time, size FROM history WHERE conversation = ? ORDER BY last LIMIT ?", ref, allowance.rows
        ):
            if allowance.full:
                first_time = time
                break
            if last > floor:
                past_limits = time < old or held > READER_BYTES or last <= seq - READER_ENTRIES
                if kind == "direct" or not past_limits:
                    first_time = time
                    whole = False
                    break
                given_up = last
            held -= size
            end = last
            allowance.take(size)
        if given_up:
            self._write("UPDATE members SET cursor = ? WHERE conversation = ? AND cursor < ?", given_up, ref, given_up)
            self._write(
                "DELETE FROM members WHERE conversation = ? AND last_seq IS NOT NULL AND cursor >= last_seq", ref
            )
        first_seq = max(first_seq, min(max(floor, given_up), seq) + 1)
        if end:
            self._write("DELETE FROM history WHERE conversation = ? AND last <= ?", ref, end)
            self._write("UPDATE conversations SET first_seq = ?, held_bytes = ? WHERE ref = ?", first_seq, held, ref)
        if allowance.full:
            self._untidy.add(ref)
        elif whole:
            self._histories.discard(ref)
        return [Trimmed(conversation, first_seq, held, first_time, given_up)]

    def backup(self, target: Path) -> None:
        """See `port.Store`. The write-ahead log grows meanwhile: starting it anew would have to wait for us."""
        self._copying = True
        try:
            with (
                contextlib.closing(sqlite3.connect(target)) as copy,
                contextlib.closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as reader,
            ):
                reader.backup(copy)
        except sqlite3.Error as error:  # not of our file: whatever is wrong with that, the next turn will meet
            raise StorageError(f"cannot copy the database to {target}: {error}") from error
        finally:
            self._copying = False

    def checkpoint(self) -> None:
        """See `port.Store`."""
        with self._checkpointing:
            self._grown = 0
            _, length = self._checkpoint(self._checkpointer, "PASSIVE")
            self._refused = False
            self._restart = length > WAL_BYTES

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> tuple[bool, int]:
        """Copy what is committed into the database; return whether that was refused, and how long the log is, in bytes.

        For want of room it stays where it is, and safe: what was committed was committed.
        """
        try:
            refused, pages, _ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_FULL:
                return True, 0
            raise StoreBrokenError(f"{self._path}: {error}") from error
        return bool(refused), int(pages) * 4096

    def close(self) -> None:
        """See `port.Store`."""
        for connection in reversed(self._connections):  # the writer last: it takes the write-ahead log away
            connection.close()
        self._lock_file.close()


def check_database(path: Path) -> int:
    """Refuse what is not ours, not whole, or of a time to come: by reading, so that not a byte changes.

    A server may be writing to it meanwhile. Returns its version. Raises StorageError or sqlite3.Error.
    """
    try:
        return _look_into(path)
    except UnicodeDecodeError as error:  # what SQLite complains of, which Python cannot read
        raise StorageError(f"{path} is damaged: {error.object!a}. It was left as it is.") from error
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_PROTOCOL:
            raise
        # This is how SQLite, which reads without a trace here, says after ten seconds that a log's header is wrong.
        raise StorageError(
            f"{path}-wal is damaged at its beginning: restore a backup, or move it away and lose what it holds. "
            "It was left as it is."
        ) from error


def knows_people(path: Path) -> bool:
    """Whether anybody has an identity key in a database, found out without a trace.

    False also for one that is not there or cannot be read: opening it says what is wrong with it.
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
        return version


def _size(path: Path) -> int:
    """The length of a file; 0 if it is not there: somebody has moved it, and SQLite goes on with the open one."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreBrokenError(f"{path}: {error.strerror}") from error


def _code(error: Exception) -> int:
    """SQLite's code of an error; of one that Python made, over a text or a run that is none, that of damage."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)


def _first_meta() -> list[tuple[str, bytes]]:
    return [("server_id", os.urandom(SERVER_ID_LENGTH)), ("next_id", b"\x01")]


def _portions(values: Collection[Value]) -> Iterator[list[Value]]:
    """The values, PORTION at a time: SQLite takes so many in one statement wherever it was built."""
    values = list(values)
    for start in range(0, len(values), PORTION):
        yield values[start : start + PORTION]


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))
