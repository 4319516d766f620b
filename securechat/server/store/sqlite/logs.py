"""Logs on SQLite: entries, where they are, and how far each reader has come.

New entries go to `tail`, in order of arrival: one append-only table whose ids are never reused and which has no second
index, so a turn dirties the same last page however many conversations it touches. Where the entries of a conversation
stand in it is kept in memory (module `tail`) and read again at start. Later (module `tidying`) what all have read is
deleted there, and only what is still unread moves into `history`, keyed (conversation, seq).
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from securechat.identity.certificate import KEY_LENGTH
from securechat.identity.site_key import SiteKey, new_private
from securechat.server.store.records import Head, LogEntry
from securechat.server.store.sqlite.database import Database, marks
from securechat.server.store.sqlite.tail import RunRow, Tail, decode_run, encode_run
from securechat.server.store.sqlite.writer import Writer

RUNS_AT_ONCE = 64
"""Runs of the tail asked for in one query."""

_APPEND = "INSERT INTO tail VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class Logs:
    """See `port.LogStore`. Public names that the port lacks are for the other modules of this store."""

    def __init__(self, database: Database, writer: Writer) -> None:
        """Read where the tail's entries stand. Raises StorageError or sqlite3.Error."""
        self._database = database
        self._writer = writer
        self.lock = threading.Lock()  # protects `tail` and the start of a reader's snapshot
        self.tail = Tail()
        self.refs: dict[bytes, int] = {}  # conversation -> its number in the tables
        self.ids: dict[int, bytes] = {}  # the other way round
        self._pending: list[tuple[int, Head, Sequence[LogEntry], str]] = []
        self._cursors: list[tuple[bytes, bytes, int]] = []
        self.histories: set[int] = set()  # conversations with entries in the history
        self.emptied: set[int] = set()  # those that have none there any more once the transaction is committed
        self.untidy: set[int] = set()  # those of them whose history may have become unnecessary
        self.grown: set[int] = set()  # conversations with new handshakes
        self.dead: set[int] = set()  # deleted conversations of which rows are left
        with writer.guarded() as connection:
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            try:
                self.server_id: bytes = meta["server_id"]
                self.next_id = int.from_bytes(meta["next_id"], "big")
                self.site_keys = _site_keys(meta)
            except KeyError as error:
                raise database.damaged(f"its {error} is missing") from error
            self._read_refs()
            try:
                for row in connection.execute(
                    "SELECT id, conversation, first, last, time, size, account, length(entries) FROM tail ORDER BY id"
                ):
                    self.tail.add(RunRow(*row))
                    self.next_id = row[0] + 1
            except ValueError as error:
                raise database.damaged(error) from error
            found = connection.execute("SELECT DISTINCT conversation FROM history")
            self.histories = {ref for (ref,) in found} - self.dead
        self.untidy |= self.histories
        writer.after_rollback(self._rolled_back)

    def change_site_key(self) -> None:
        """See `port.Store`."""
        old = dict(self._writer.rows("SELECT key, value FROM meta WHERE key LIKE '%site_key%'"))
        kept = old["site_key"] + old.get("old_site_keys", b"")
        private = new_private()
        self._writer.execute("UPDATE meta SET value = ? WHERE key = 'site_key'", private)
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('old_site_keys', ?)", kept)
        self.site_keys = (SiteKey(private), *self.site_keys)

    def _read_refs(self) -> None:
        self.refs = dict(self._writer.rows("SELECT id, ref FROM conversations"))
        self.ids = {ref: conversation for conversation, ref in self.refs.items()}
        self.dead = {ref for (ref,) in self._writer.rows("SELECT ref FROM dead")}

    # --- writing ----------------------------------------------------------------------------------------------------

    def append(self, head: Head, entries: Sequence[LogEntry], account: str) -> None:
        """See the port."""
        self._pending.append((self.refs[head.id], head, entries, account))

    def pending_bytes(self, account: str) -> int:
        """Bytes of payload that an account has in the transaction."""
        return sum(entry.size for _, _, run, whose in self._pending if whose == account for entry in run)

    def set_cursors(self, cursors: Iterable[tuple[bytes, bytes, int]]) -> None:
        """See the port."""
        self._cursors += cursors

    def commit(self) -> None:
        """Commit the transaction, with what was added here."""
        self.write_cursors()
        rows = [
            (
                row_id,
                ref,
                run[0].seq,
                run[-1].seq,
                run[-1].time,
                sum([len(entry.payload) + len(entry.group_info) for entry in run]),
                account,
                encode_run(run),
            )
            for row_id, (ref, _, run, account) in enumerate(self._pending, self.next_id)
        ]
        self._writer.commit(_APPEND, rows, sum([len(row[7]) for row in rows]))
        self.committed()
        if rows:
            self.next_id += len(rows)
            with self.lock:
                for row, pending in zip(rows, self._pending, strict=True):
                    self.tail.add(RunRow(*row[:-1], len(row[7])), pending[1])
            self._pending = []

    def committed(self) -> None:
        """Note that what was deleted from histories is gone."""
        self.histories -= self.emptied
        self.emptied.clear()

    def write_cursors(self) -> None:
        """Write the cursors that were set, in the transaction."""
        if not self._cursors:
            return
        refs, cursors = self.refs, self._cursors
        self._cursors = []
        rows = [(seq, refs[conversation], device) for conversation, device, seq in cursors if conversation in refs]
        self._writer.execute_many(
            "UPDATE members SET cursor = max(cursor, ?) WHERE conversation = ? AND device = ?", rows
        )
        self._writer.execute_many(
            "DELETE FROM members WHERE conversation = ? AND device = ? AND cursor >= last_seq",
            [(ref, device) for _, ref, device in rows],
        )
        self.untidy |= self.histories.intersection(ref for _, ref, _ in rows)

    def _rolled_back(self) -> None:
        self._pending = []
        self._cursors = []
        self.emptied.clear()
        self.tail.forget_heads()
        self._read_refs()
        self.site_keys = _site_keys(dict(self._writer.rows("SELECT key, value FROM meta")))

    # --- looking up -------------------------------------------------------------------------------------------------

    def measure(self, conversation: bytes, after: int) -> tuple[int, int]:
        """See the port."""
        ref = self.refs[conversation]
        size, first = self._writer.rows(
            "SELECT coalesce(sum(size), 0), coalesce(min(time), 0) FROM history WHERE conversation = ? AND last > ?",
            ref, after,
        )[0]  # fmt: skip
        for run in self.tail.runs(ref, after):
            size += run.size
            first = first or run.time
        return size, first

    def newer(self, ref: int, seq: int) -> Iterator[LogEntry]:
        """The entries of the tail after `seq`. Requires holding the turn."""
        with self._writer.guarded() as connection:
            for entry in self._read_tail(connection, self.tail.runs(ref, seq)):
                if entry.seq > seq:
                    yield entry

    def read(self, conversation: bytes, after: int, upto: int, max_entries: int, max_bytes: int) -> list[LogEntry]:
        """See the port."""
        with self._database.snapshot() as reader:
            with self.lock:
                # The snapshot begins with the first read, and the index must be of the same instant: between the two,
                # `tidy` could move rows away.
                row = reader.execute("SELECT ref FROM conversations WHERE id = ?", (conversation,)).fetchone()
                if row is None:
                    return []
                (ref,) = row
                runs = self.tail.runs(ref, after)
            found: list[LogEntry] = []
            size = 0
            for entry in chain(self._read_history(reader, ref, after, upto), self._read_tail(reader, runs)):
                if entry.seq > upto or len(found) == max_entries or size >= max_bytes:
                    break
                if found and entry.seq != found[-1].seq + 1:
                    break
                if entry.seq > after:
                    found.append(entry)
                    size += entry.size
            return found

    def _read_history(self, reader: sqlite3.Connection, ref: int, after: int, upto: int) -> Iterator[LogEntry]:
        """The entries of the runs in the history that hold any between `after` and `upto`."""
        for (run,) in reader.execute(
            "SELECT entries FROM history WHERE conversation = ? AND last > ? AND first <= ? ORDER BY last",
            (ref, after, upto),
        ):
            yield from decode_run(run)

    def _read_tail(self, reader: sqlite3.Connection, runs: Sequence[RunRow]) -> Iterator[LogEntry]:
        """The entries of these runs."""
        for start in range(0, len(runs), RUNS_AT_ONCE):
            ids = [run.id for run in runs[start : start + RUNS_AT_ONCE]]
            query = f"SELECT entries FROM tail WHERE id IN ({marks(ids)}) ORDER BY id"  # noqa: S608  # nosec B608  # only marks
            for (run,) in reader.execute(query, ids):
                yield from decode_run(run)

    def newest(self) -> int:
        """See `port.Store`."""
        stored: int | None = self._writer.one("SELECT max(time) FROM conversations")
        return max(stored or 0, self.tail.newest)

    def read_handshakes(
        self, conversation: bytes, after: int, upto: int, max_entries: int, max_bytes: int
    ) -> list[LogEntry]:
        """See the port."""
        found: list[LogEntry] = []
        size = 0
        with self._database.snapshot() as reader:
            for (run,) in reader.execute(
                "SELECT entries FROM handshakes JOIN conversations ON ref = conversation"
                " WHERE id = ? AND handshakes.seq > ? AND handshakes.seq <= ? AND size > 0"
                " ORDER BY handshakes.seq LIMIT ?",
                (conversation, after, upto, max_entries),
            ):
                found += decode_run(run)
                size += found[-1].size
                if size >= max_bytes:
                    break
        return found

    def count(self) -> int:
        """How many entries there are. Any thread."""
        moved = 0
        with self._database.snapshot() as reader:
            for ref in list(self.histories):  # by its ends: counting would read all of the history
                row = reader.execute(
                    "SELECT newest - oldest + 1"
                    " - iif(oldest <= lost_after AND newest > resumed, resumed - lost_after, 0)"
                    " FROM (SELECT resumed, lost_after,"
                    " (SELECT last FROM history WHERE conversation = ref ORDER BY last DESC LIMIT 1) AS newest,"
                    " (SELECT first FROM history WHERE conversation = ref ORDER BY last LIMIT 1) AS oldest"
                    " FROM conversations WHERE ref = ?)",
                    (ref,),
                ).fetchone()
                if row is not None:  # it was deleted since we looked
                    moved += row[0] or 0
        return moved + self.tail.entries

    def handshake_bytes(self) -> int:
        """How many bytes the handshakes take. Any thread."""
        with self._database.snapshot() as reader:
            (size,) = reader.execute("SELECT coalesce(sum(handshake_bytes), 0) FROM conversations").fetchone()
        return int(size)


def _site_keys(meta: dict[str, bytes]) -> tuple[SiteKey, ...]:
    """The newest first. Raises KeyError if there is none."""
    private = meta["site_key"] + meta.get("old_site_keys", b"")
    return tuple(SiteKey(private[at : at + KEY_LENGTH]) for at in range(0, len(private), KEY_LENGTH))
