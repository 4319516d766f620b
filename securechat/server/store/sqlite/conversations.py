"""Conversations on SQLite: their rows, members and handshakes.

The state of a conversation is its row plus those entries of the tail that are newer than it. So a message costs a part
of one row of the tail, and all messages between two updates of the conversation's row share what that costs.
"""

from collections.abc import Collection, Iterable

import msgspec

from securechat.server.store.records import (
    LEAP_ENTRIES,
    Checkpoint,
    Departed,
    Head,
    LogEntry,
    Membership,
    Numbers,
    RoomRow,
)
from securechat.server.store.sqlite.database import Database
from securechat.server.store.sqlite.logs import Logs
from securechat.server.store.sqlite.tail import decode_run, encode_run
from securechat.server.store.sqlite.writer import Writer
from securechat.wire.limits import MAX_CHECKPOINTS

Proofs = tuple[tuple[bytes, bytes], ...]


class Conversations:
    """See `port.ConversationStore`."""

    def __init__(self, database: Database, writer: Writer, logs: Logs) -> None:
        self._database = database
        self._writer = writer
        self._logs = logs

    def create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> None:
        """See the port."""
        cursor = self._writer.execute(
            "INSERT INTO conversations (id, kind, name, seq, time, epoch, chain, group_info, first_seq, held_bytes,"
            " topic, owner_time, snapshot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            head.id, head.kind, head.name, head.seq, head.time, head.epoch, head.chain, head.group_info,
            head.first_seq, head.held_bytes, head.topic, head.owner_time, snapshot,
        )  # fmt: skip
        ref = cursor.lastrowid
        assert ref is not None  # noqa: S101  # nosec B101  # an INSERT has one
        self._logs.refs[head.id] = ref
        self._logs.ids[ref] = head.id
        self.put_members(head.id, head.members.values())
        if pair is not None:
            self._writer.execute("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", *pair, ref)

    def delete(self, conversation: bytes) -> None:
        """See the port."""
        ref = self._logs.refs.pop(conversation)
        del self._logs.ids[ref]
        # Entries stay in the tail until `tidy` comes to them: the tail is only ever cut at its beginning.
        for table in ("pairs", "handshakes", "checkpoints", "members", "departed", "words", "numbers", "history"):
            self._writer.execute(f"DELETE FROM {table} WHERE conversation = ?", ref)  # noqa: S608  # nosec B608  # names from the line above
        self._writer.execute("DELETE FROM conversations WHERE ref = ?", ref)

    def load(self, conversation: bytes) -> Head | None:
        """See the port."""
        ref = self._logs.refs.get(conversation)
        if ref is None:
            return None
        (row,) = self._writer.rows(
            "SELECT id, kind, name, seq, time, epoch, chain, group_info, first_seq, held_bytes, 0, topic, owner_time,"
            " resumed, lost_after"
            " FROM conversations WHERE ref = ?",
            ref,
        )
        head = Head(*row)
        for numbers in self._writer.rows("SELECT device, last, answers FROM numbers WHERE conversation = ?", ref):
            head.numbers[numbers[0]] = Numbers(*numbers[1:])
        for member in self._writer.rows(
            "SELECT device, account, join_seq, join_chain, last_seq, cursor FROM members WHERE conversation = ?", ref
        ):
            head.members[member[0]] = Membership(*member)
        for departed in self._writer.rows(
            "SELECT device, leaf, proposal, group_context FROM departed WHERE conversation = ?", ref
        ):
            head.departed[departed[0]] = Departed(*departed)
        head.words = dict(
            self._writer.rows("SELECT seq, word FROM words WHERE conversation = ? ORDER BY seq", ref)
        )
        for entry in self._logs.newer(ref, head.seq):
            head.record(entry)
        return head

    def save_commit(self, head: Head, entry: LogEntry, snapshot: bytes | None) -> None:
        """See the port."""
        ref = self._logs.refs[head.id]
        self._writer.execute("UPDATE conversations SET group_info = ? WHERE ref = ?", head.group_info, ref)
        if snapshot is not None:
            self._writer.execute(
                "UPDATE conversations SET snapshot = ?, snapshot_seq = ? WHERE ref = ?", snapshot, entry.seq, ref
            )
        self._keep(ref, entry, opens=True)

    def save_handshake(self, conversation: bytes, entry: LogEntry) -> None:
        """See the port."""
        self._keep(self._logs.refs[conversation], entry, opens=False)

    def _keep(self, ref: int, entry: LogEntry, *, opens: bool) -> None:
        self._writer.execute(
            "INSERT INTO handshakes VALUES (?, ?, ?, ?, ?, ?)",
            ref, entry.seq, entry.time, opens, entry.size, encode_run([entry]),
        )  # fmt: skip
        self._writer.execute(
            "UPDATE conversations SET handshake_bytes = handshake_bytes + ? WHERE ref = ?", entry.size, ref
        )
        self._logs.grown.add(ref)

    def save_room(self, head: Head) -> None:
        """See the port."""
        self._writer.execute(
            "UPDATE conversations SET name = ?, topic = ?, owner_time = ? WHERE ref = ?",
            head.name, head.topic, head.owner_time, self._logs.refs[head.id],
        )  # fmt: skip

    def resume(self, now: int) -> None:
        """See the port."""
        for conversation, ref in self._logs.refs.items():
            head = self.load(conversation)
            if head is None:
                continue
            seq = head.seq + LEAP_ENTRIES + max(now - head.time, 0)
            older = head.lost_after >= head.first_seq  # entries from before an earlier restore are left
            lost_after = head.lost_after if older else head.seq
            self._writer.execute(
                "UPDATE conversations SET seq = ?, time = ?, epoch = ?, chain = ?, resumed = ?, lost_after = ?"
                " WHERE ref = ?",
                seq, head.time, head.epoch, head.chain, seq, lost_after, ref,
            )  # fmt: skip
            self._writer.execute_many(
                "INSERT OR REPLACE INTO numbers VALUES (?, ?, ?, ?)",
                [(ref, device, each.last, each.encode()) for device, each in head.numbers.items()],
            )
        for statement in (  # the tail has no gaps
            (
                "UPDATE conversations SET held_bytes = held_bytes"
                " + (SELECT coalesce(sum(size), 0) FROM tail WHERE conversation = ref)"
            ),
            (
                "INSERT INTO history SELECT conversation, first, last, time, size, entries FROM tail"
                " WHERE conversation IN (SELECT ref FROM conversations)"
            ),
            "DELETE FROM tail",
        ):
            self._writer.execute(statement)
        self._writer.execute("UPDATE meta SET value = ? WHERE key = 'next_id'", self._logs.next_id.to_bytes(8, "big"))

    def read_group(self, conversation: bytes) -> tuple[bytes, list[tuple[int, bytes]]] | None:
        """See the port."""
        with self._database.snapshot() as reader:
            row = reader.execute(
                "SELECT snapshot, ref, snapshot_seq FROM conversations WHERE id = ?", (conversation,)
            ).fetchone()
            if row is None:
                return None
            runs = reader.execute(
                "SELECT entries FROM handshakes WHERE conversation = ? AND seq > ? AND opens ORDER BY seq", row[1:]
            )
            return row[0], [(entry.time, entry.payload) for (run,) in runs for entry in decode_run(run)]

    def put_checkpoint(self, conversation: bytes, checkpoint: Checkpoint) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        each = checkpoint
        self._writer.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ref, each.account, each.seq, each.time, each.chain, each.group_info, each.tree,
            msgspec.msgpack.encode(each.departed),
        )  # fmt: skip
        self._writer.execute(
            "DELETE FROM checkpoints WHERE conversation = ?1 AND seq NOT IN"
            " (SELECT seq FROM checkpoints WHERE conversation = ?1 ORDER BY seq DESC LIMIT ?2)",
            ref, MAX_CHECKPOINTS,
        )  # fmt: skip

    def read_checkpoints(self, conversation: bytes) -> list[Checkpoint]:
        """See the port."""
        with self._database.snapshot() as reader:
            rows = reader.execute(
                "SELECT account, checkpoints.seq, checkpoints.time, checkpoints.chain, checkpoints.group_info, tree,"
                " departed FROM checkpoints JOIN conversations ON ref = conversation WHERE id = ?"
                " ORDER BY checkpoints.seq DESC",
                (conversation,),
            ).fetchall()
            return [
                Checkpoint(account, seq, time, chain, group_info, tree, msgspec.msgpack.decode(proofs, type=Proofs))
                for account, seq, time, chain, group_info, tree, proofs in rows
            ]

    def put_members(self, conversation: bytes, members: Iterable[Membership]) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute_many(
            "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (ref, each.device, each.account, each.join_seq, each.join_chain, each.last_seq, each.cursor)
                for each in members
            ],
        )

    def put_departed(self, conversation: bytes, departed: Departed) -> None:
        """See the port."""
        self._writer.execute(
            "INSERT OR REPLACE INTO departed VALUES (?, ?, ?, ?, ?)",
            self._logs.refs[conversation], departed.device, departed.leaf, departed.proposal, departed.group_context,
        )  # fmt: skip

    def drop_departed(self, conversation: bytes, devices: Collection[bytes]) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute_many(
            "DELETE FROM departed WHERE conversation = ? AND device = ?", [(ref, device) for device in devices]
        )

    def put_word(self, conversation: bytes, seq: int, word: bytes) -> None:
        """See the port."""
        self._writer.execute("INSERT INTO words VALUES (?, ?, ?)", self._logs.refs[conversation], seq, word)

    def drop_words(self, conversation: bytes, seqs: Collection[int]) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute_many(
            "DELETE FROM words WHERE conversation = ? AND seq = ?", [(ref, seq) for seq in seqs]
        )

    def room(self, name: str) -> bytes | None:
        """See the port."""
        found: bytes | None = self._writer.one("SELECT id FROM conversations WHERE name = ? AND name != ''", name)
        return found

    def rooms(self, device: bytes) -> list[RoomRow]:
        """See the port."""
        rows = self._writer.rows(
            "SELECT name, kind, count(DISTINCT account), coalesce(max(device = ?), 0), topic FROM conversations"
            " LEFT JOIN members ON conversation = ref AND last_seq IS NULL"
            " WHERE name != '' GROUP BY ref ORDER BY name",
            device,
        )
        return [RoomRow(row[0], row[1], row[2], bool(row[3]), row[4]) for row in rows if row[1] == "open" or row[3]]

    def pair(self, pair: tuple[str, str]) -> bytes | None:
        """See the port."""
        found: bytes | None = self._writer.one(
            "SELECT id FROM pairs JOIN conversations ON ref = conversation WHERE low = ? AND high = ?", *pair
        )
        return found

    def of_device(self, device: bytes) -> list[bytes]:
        """See the port."""
        rows = self._writer.rows(
            "SELECT id FROM members JOIN conversations ON ref = conversation WHERE device = ? AND last_seq IS NULL",
            device,
        )
        return [conversation for (conversation,) in rows]
