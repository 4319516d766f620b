"""Inboxes on SQLite. A Welcome is stored once, in `letters`, however many devices it is for; `inbox` says whose."""

from collections.abc import Collection

import msgspec

from securechat.server.store.records import InboxEntry, InboxState, Waiting
from securechat.server.store.sqlite.database import Database, marks, portions
from securechat.server.store.sqlite.tail import Allowance
from securechat.server.store.sqlite.writer import Writer


class Inboxes:
    """See `port.InboxStore`."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        found = writer.rows("SELECT id FROM letters WHERE id NOT IN (SELECT letter FROM inbox)")
        self.loose = {letter for (letter,) in found}  # letters that may be in no inbox any more

    def deliver(self, entry: InboxEntry, devices: Collection[bytes], account: str) -> None:
        """See the port."""
        cursor = self._writer.execute(
            "INSERT INTO letters (time, conversation, join_seq, chain, welcome, tree, departed, revocations, account)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            entry.time, entry.conversation, entry.join_seq, entry.chain, entry.welcome, entry.tree,
            msgspec.msgpack.encode(entry.departed),
            msgspec.msgpack.encode(entry.revocations) if entry.revocations else b"",
            account,
        )  # fmt: skip
        # As few statements as can be: one commit adds up to 999 devices, and all others' messages wait for this turn.
        self._writer.execute_many(
            "INSERT INTO inbox_heads VALUES (?, 1) ON CONFLICT (device) DO UPDATE SET seq = seq + 1",
            [(device,) for device in devices],
        )
        self._writer.execute_many(
            "INSERT INTO inbox SELECT device, seq, ? FROM inbox_heads WHERE device = ?",
            [(cursor.lastrowid, device) for device in devices],
        )

    def waiting(self, devices: Collection[bytes], sender: str) -> dict[bytes, InboxState]:
        """See the port."""
        size = "(length(welcome) + length(tree) + length(departed) + length(revocations))"
        found = {}
        for portion in portions(devices):
            for device, *counts in self._writer.rows(
                f"SELECT device, count(*), sum({size}), sum(account = ?), sum((account = ?) * {size})"  # noqa: S608  # nosec B608  # only marks
                f" FROM inbox JOIN letters ON id = letter WHERE device IN ({marks(portion)}) GROUP BY device",
                sender, sender, *portion,
            ):
                found[device] = InboxState(Waiting(*counts[:2]), Waiting(*counts[2:]))
        return found

    def newest(self, device: bytes) -> int:
        """See the port."""
        return self._writer.one("SELECT seq FROM inbox_heads WHERE device = ?", device) or 0

    def acknowledge(self, device: bytes, seq: int) -> None:
        """See the port."""
        self._take_out("FROM inbox WHERE device = ? AND seq <= ?", device, seq)

    def expire(self, before: int, count: int) -> bool:
        """Take out up to `count` entries from before a time (ms); whether there may be more."""
        old = "FROM letters JOIN inbox ON letter = id WHERE time < ? LIMIT ?"
        return self._take_out(old, before, count) == count

    def _take_out(self, which: str, *values: object) -> int:
        """Take letters out of inboxes, and return how many; `tidy` deletes those that are in no inbox any more."""
        rows = self._writer.rows(f"SELECT device, seq, letter {which}", *values)  # nosec B608  # conditions are written here
        if rows:
            self._writer.execute_many("DELETE FROM inbox WHERE device = ? AND seq = ?", [row[:2] for row in rows])
            self.loose.update(letter for _, _, letter in rows)
        return len(rows)

    def drop_loose(self, allowance: Allowance) -> set[int]:
        """Delete letters that are in no inbox, as many as is allowed: one may have megabytes. Return those seen to."""
        done: set[int] = set()
        for letter in self.loose:
            if allowance.full:
                break
            size = self._writer.one(
                "SELECT length(welcome) + length(tree) + length(departed) + length(revocations) FROM letters"
                " WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM inbox WHERE letter = ?1)",
                letter,
            )
            if size is not None:
                self._writer.execute("DELETE FROM letters WHERE id = ?", letter)
                allowance.take(size)
            done.add(letter)
        return done

    def read(self, device: bytes, after: int, max_bytes: int) -> list[InboxEntry]:
        """See the port."""
        entries, size = [], 0
        with self._database.snapshot() as reader:
            for row in reader.execute(
                "SELECT seq, time, conversation, join_seq, chain, welcome, tree, departed, revocations FROM inbox"
                " JOIN letters ON id = letter WHERE device = ? AND seq > ? ORDER BY seq",
                (device, after),
            ):
                seq, time, conversation, join_seq, chain, welcome, tree, left, stated = row
                departed = msgspec.msgpack.decode(left, type=tuple[tuple[bytes, bytes], ...])
                revocations = msgspec.msgpack.decode(stated, type=tuple[bytes, ...]) if stated else ()
                entries.append(
                    InboxEntry(seq, time, conversation, join_seq, chain, welcome, tree, departed, revocations)
                )
                size += len(welcome) + len(tree) + len(left) + len(stated)
                if size >= max_bytes:
                    break
        return entries
