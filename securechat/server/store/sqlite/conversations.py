"""Conversations on SQLite: their rows, members and handshakes.

The state of a conversation is its row plus those entries of the tail that are newer than it. So a message costs a part
of one row of the tail, and all messages between two updates of the conversation's row share what that costs.
"""

import sqlite3
import time
from collections.abc import Collection, Iterable
from itertools import islice

import msgspec

from securechat.server.store.records import (
    BranchPoint,
    Checkpoint,
    Departed,
    Head,
    LogEntry,
    MemberRow,
    Membership,
    Numbers,
    RoomRow,
    Who,
)
from securechat.server.store.sqlite.database import Database
from securechat.server.store.sqlite.logs import Logs
from securechat.server.store.sqlite.tail import Allowance, decode_run, encode_run
from securechat.server.store.sqlite.writer import Writer
from securechat.wire.limits import LEAP_ENTRIES, MAX_CHECKPOINTS

LISTED_SHARE = 20
LISTED_SECONDS = 0.01
"""Processor seconds within which a list of rooms may be made for each who asks: some thousand rooms."""

_PEOPLE = (
    "(SELECT count(DISTINCT inside.account) FROM members AS inside WHERE inside.conversation = ref"
    " AND inside.last_seq IS NULL)"
)

_OF_CONVERSATIONS = (
    ("history", "last", "length(entries)"),
    ("handshakes", "seq", "length(entries)"),
    ("numbers", "device", "length(answers)"),
    ("checkpoints", "account", "length(group_info) + length(tree) + length(departed) + length(revocations)"),
    ("departed", "device", "length(proposal) + length(state)"),
    ("revocations", "seq", "length(statement)"),
    ("words", "seq", "length(word)"),
    ("members", "device", "length(join_chain) + length(identity_key)"),
    ("deleted_members", "device", "length(account)"),
    ("branch_points", "seq", "length(group_info) + length(snapshot) + length(members) + length(revocations)"),
    ("pairs", "low", "0"),
    ("blobs", "blob", "4096"),  # three rows change, and a file has to be deleted
)
"""Where rows of a conversation stand: the table, what tells one of its rows from the others, and the bytes in it."""

_Member = tuple[bytes, str, int, bytes, int | None, int, bytes, int]
_Gone = tuple[bytes, int, bytes, bytes]
Proofs = tuple[tuple[bytes, bytes], ...]


class Conversations:
    """See `port.ConversationStore`."""

    def __init__(self, database: Database, writer: Writer, logs: Logs) -> None:
        self._database = database
        self._writer = writer
        self._logs = logs
        self._listed: tuple[float, list[RoomRow]] = 0.0, []  # the largest rooms, and how long they are good

    def create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> None:
        """See the port."""
        cursor = self._writer.execute(
            "INSERT INTO conversations (id, kind, name, seq, time, epoch, chain, group_info, first_seq, held_bytes,"
            " topic, owner_time, founder, snapshot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            head.id, head.kind, head.name, head.seq, head.time, head.epoch, head.chain, head.group_info,
            head.first_seq, head.held_bytes, head.topic, head.owner_time, head.founder, snapshot,
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
        self._logs.emptied.add(ref)
        # However much there is, the turn takes this one row away. Whatever is looked up by id, name or account goes by
        # it. The others stay until `tidy` comes to them, and are somebody's until then.
        self._writer.execute("DELETE FROM conversations WHERE ref = ?", ref)
        self._writer.execute("INSERT INTO dead VALUES (?)", ref)
        self._logs.dead.add(ref)

    def drop_dead(self, most: int, allowance: Allowance) -> set[int]:
        """Delete what is left of conversations that were deleted, of `most` at once, as much as is allowed.

        Returns those of which nothing is left, but for what the tail has: that is only ever cut at its beginning.
        """
        done: set[int] = set()
        for ref in list(islice(self._logs.dead, most)):
            if not all(self._drop_rows(ref, *each, allowance) for each in _OF_CONVERSATIONS):
                break
            self._writer.execute("DELETE FROM dead WHERE ref = ?", ref)
            done.add(ref)
        return done

    def _drop_rows(self, ref: int, table: str, key: str, size: str, allowance: Allowance) -> bool:
        """Delete rows of a conversation from a table, as many as are allowed; return whether none is left."""
        rows = self._writer.rows(
            f"SELECT {key}, {size} FROM {table} WHERE conversation = ? LIMIT ?",  # noqa: S608  # nosec B608  # from `_OF_CONVERSATIONS`
            ref, max(allowance.rows, 0) + 1,
        )  # fmt: skip
        taken: list[tuple[int, object]] = []
        for which, length in rows:
            if allowance.full:
                break
            allowance.take(length)
            taken.append((ref, which))
        self._writer.execute_many(f"DELETE FROM {table} WHERE conversation = ? AND {key} = ?", taken)  # noqa: S608  # nosec B608  # the same
        return len(taken) == len(rows)

    def load(self, conversation: bytes) -> Head | None:
        """See the port."""
        ref = self._logs.refs.get(conversation)
        if ref is None:
            return None
        (row,) = self._writer.rows(
            "SELECT id, kind, name, seq, time, epoch, chain, group_info, first_seq, held_bytes, 0, topic, owner_time,"
            " resumed, lost_after,"
            " coalesce((SELECT branch_points.epoch FROM branch_points WHERE conversation = ref), 0), founder"
            " FROM conversations WHERE ref = ?",
            ref,
        )
        head = Head(*row)
        for numbers in self._writer.rows("SELECT device, last, answers FROM numbers WHERE conversation = ?", ref):
            head.numbers[numbers[0]] = Numbers(*numbers[1:])
        for member in self._writer.rows(
            "SELECT device, account, join_seq, join_chain, last_seq, cursor, identity_key, leaf_seq FROM members"
            " WHERE conversation = ?",
            ref,
        ):
            head.members[member[0]] = Membership(*member)
        for departed in self._writer.rows(
            "SELECT device, leaf, proposal, state FROM departed WHERE conversation = ?", ref
        ):
            head.departed[departed[0]] = Departed(*departed)
        head.words = dict(
            self._writer.rows("SELECT seq, word FROM words WHERE conversation = ? ORDER BY seq", ref)
        )
        for seq, statement, leafless in self._writer.rows(
            "SELECT seq, statement, leafless FROM revocations WHERE conversation = ? ORDER BY seq", ref
        ):
            head.revocations[seq] = statement
            head.leafless |= {seq} if leafless else set()
        head.deleted = dict(
            self._writer.rows("SELECT device, account FROM deleted_members WHERE conversation = ?", ref)
        )
        for entry in self._logs.newer(ref, head.seq):
            head.record(entry)
        return head

    def save_commit(self, head: Head, entry: LogEntry, snapshot: bytes | None, account: str) -> None:
        """See the port."""
        ref = self._logs.refs[head.id]
        self._writer.execute("UPDATE conversations SET group_info = ? WHERE ref = ?", head.group_info, ref)
        if snapshot is not None:
            self._writer.execute(
                "UPDATE conversations SET snapshot = ?, snapshot_seq = ? WHERE ref = ?", snapshot, entry.seq, ref
            )
        self._keep(ref, entry, account, opens=True)

    def save_handshake(self, conversation: bytes, entry: LogEntry, account: str) -> None:
        """See the port."""
        self._keep(self._logs.refs[conversation], entry, account, opens=False)

    def _keep(self, ref: int, entry: LogEntry, account: str, *, opens: bool) -> None:
        self._writer.execute(
            "INSERT INTO handshakes VALUES (?, ?, ?, ?, ?, ?, ?)",
            ref, entry.seq, entry.time, opens, entry.size, encode_run([entry]), account,
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
            if head.kind == "open":  # it has no other branches; its members learn by the epoch that they know more
                self._writer.execute(
                    "INSERT OR REPLACE INTO branch_points VALUES (?, ?, ?, ?, x'', x'', 0, x'', x'', x'')",
                    ref, seq, now, head.epoch,
                )  # fmt: skip
            elif head.kind == "invite":  # a direct conversation has no owner, by whom one branch would win
                members = [
                    (each.device, each.account, each.join_seq, each.join_chain, each.last_seq, each.cursor,
                     each.identity_key, each.leaf_seq)
                    for each in head.members.values()
                ]  # fmt: skip
                departed = [(each.device, each.leaf, each.proposal, each.state) for each in head.departed.values()]
                self._writer.execute(
                    "INSERT OR REPLACE INTO branch_points"
                    " SELECT ref, ?, ?, ?, group_info, snapshot, snapshot_seq, ?, ?, ? FROM conversations"
                    " WHERE ref = ?",
                    seq, now, head.epoch, msgspec.msgpack.encode(members), msgspec.msgpack.encode(departed),
                    msgspec.msgpack.encode(head.revocations), ref,
                )  # fmt: skip
        for statement in (  # the tail has no gaps
            (
                "UPDATE conversations SET held_bytes = held_bytes"
                " + (SELECT coalesce(sum(size), 0) FROM tail WHERE conversation = ref)"
            ),
            (
                "INSERT INTO history SELECT conversation, first, last, time, size, entries, account FROM tail"
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

    def read_branch_point(self, conversation: bytes, since: int) -> BranchPoint | None:
        """See the port."""
        with self._database.snapshot() as reader:
            row = reader.execute(
                "SELECT ref, branch_points.seq, branch_points.epoch, branch_points.group_info, branch_points.snapshot,"
                " branch_points.snapshot_seq, members, departed, revocations FROM branch_points"
                " JOIN conversations ON ref = conversation WHERE id = ? AND branch_points.time > ?",
                (conversation, since),
            ).fetchone()
            if row is None:
                return None
            ref, seq, epoch, group_info, snapshot, snapshot_seq, members, departed, revocations = row
            runs = reader.execute(
                "SELECT entries FROM handshakes WHERE conversation = ? AND seq > ? AND seq <= ? AND opens ORDER BY seq",
                (ref, snapshot_seq, seq),
            )
            commits = tuple((entry.time, entry.payload) for (run,) in runs for entry in decode_run(run))
        return BranchPoint(
            seq, epoch, group_info, snapshot, snapshot_seq, commits,
            tuple(Membership(*each) for each in msgspec.msgpack.decode(members, type=list[_Member])),
            tuple(Departed(*each) for each in msgspec.msgpack.decode(departed, type=list[_Gone])),
            msgspec.msgpack.decode(revocations, type=dict[int, bytes]),
        )  # fmt: skip

    def rewind(self, head: Head, point: BranchPoint) -> None:
        """See the port."""
        old = self._logs.refs[head.id]
        self._writer.execute("UPDATE conversations SET id = x'', name = '' WHERE ref = ?", old)
        cursor = self._writer.execute(
            "INSERT INTO conversations (id, kind, name, seq, time, epoch, chain, group_info, first_seq, held_bytes,"
            " topic, owner_time, founder, snapshot, snapshot_seq, resumed, lost_after)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            head.id, head.kind, head.name, head.seq, head.time, head.epoch, head.chain, head.group_info,
            head.first_seq, head.held_bytes, head.topic, head.owner_time, head.founder, point.snapshot,
            point.snapshot_seq,
            head.resumed, head.lost_after,
        )  # fmt: skip
        ref = cursor.lastrowid
        assert ref is not None  # noqa: S101  # nosec B101  # an INSERT has one
        # What was said in the other branch stays in the tail until `tidy` comes to it, and belongs to nothing.
        for table in ("pairs", "handshakes", "checkpoints", "numbers", "history", "branch_points", "deleted_members"):
            self._writer.execute(f"UPDATE {table} SET conversation = ? WHERE conversation = ?", ref, old)  # noqa: S608  # nosec B608  # names from the line above
        for table in ("members", "departed", "words", "revocations"):
            self._writer.execute(f"DELETE FROM {table} WHERE conversation = ?", old)  # noqa: S608  # nosec B608  # names from the line above
        self._writer.execute("DELETE FROM conversations WHERE ref = ?", old)
        for table, place in (("handshakes", "seq"), ("checkpoints", "seq"), ("history", "last")):
            self._writer.execute(f"DELETE FROM {table} WHERE conversation = ? AND {place} > ?", ref, point.seq)  # noqa: S608  # nosec B608  # names from the line above
        self._writer.execute(
            "UPDATE conversations SET handshake_bytes ="
            " (SELECT coalesce(sum(size), 0) FROM handshakes WHERE conversation = ref) WHERE ref = ?",
            ref,
        )
        self._writer.execute_many(
            "INSERT OR REPLACE INTO numbers VALUES (?, ?, ?, ?)",
            [(ref, device, each.last, each.encode()) for device, each in head.numbers.items()],
        )
        del self._logs.ids[old]
        self._logs.refs[head.id], self._logs.ids[ref] = ref, head.id
        if old in self._logs.histories:
            self._logs.histories.add(ref)
            self._logs.emptied.add(old)
        self.put_members(head.id, head.members.values())
        for each in head.departed.values():
            self.put_departed(head.id, each)
        for seq, statement in head.revocations.items():
            self.put_revocation(head.id, seq, statement, leafless=seq in head.leafless)

    def drop_branch_points(self, before: int, count: int) -> bool:
        """Delete up to `count` of those from before a time (ms); whether there may be more."""
        return self._writer.execute(
            "DELETE FROM branch_points WHERE conversation IN"
            " (SELECT conversation FROM branch_points WHERE time < ? LIMIT ?)",
            before, count,
        ).rowcount == count  # fmt: skip

    def put_checkpoint(self, conversation: bytes, checkpoint: Checkpoint) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        each = checkpoint
        self._writer.execute(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ref, each.account, each.seq, each.time, each.chain, each.group_info, each.tree,
            msgspec.msgpack.encode(each.departed), msgspec.msgpack.encode(each.revocations),
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
                " departed, revocations FROM checkpoints JOIN conversations ON ref = conversation WHERE id = ?"
                " ORDER BY checkpoints.seq DESC",
                (conversation,),
            ).fetchall()
            return [
                Checkpoint(
                    account, seq, time, chain, group_info, tree, msgspec.msgpack.decode(proofs, type=Proofs),
                    msgspec.msgpack.decode(revocations, type=tuple[bytes, ...]),
                )
                for account, seq, time, chain, group_info, tree, proofs, revocations in rows
            ]

    def put_members(self, conversation: bytes, members: Iterable[Membership]) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute_many(
            "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    ref, each.device, each.account, each.join_seq, each.join_chain, each.last_seq, each.cursor,
                    each.identity_key, each.leaf_seq,
                )
                for each in members
            ],
        )

    def drop_members(self, conversation: bytes, account: str) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute(
            "INSERT OR IGNORE INTO deleted_members SELECT conversation, device, account FROM members"
            " WHERE account = ? AND conversation = ? AND last_seq IS NULL",
            account, ref,
        )  # fmt: skip
        self._writer.execute("DELETE FROM members WHERE account = ? AND conversation = ?", account, ref)
        self._logs.untidy |= self._logs.histories & {ref}
        self._logs.grown.add(ref)

    def drop_deleted(self, conversation: bytes, devices: Collection[bytes]) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute_many(
            "DELETE FROM deleted_members WHERE conversation = ? AND device = ?", [(ref, device) for device in devices]
        )

    def put_departed(self, conversation: bytes, departed: Departed) -> None:
        """See the port."""
        self._writer.execute(
            "INSERT OR REPLACE INTO departed VALUES (?, ?, ?, ?, ?)",
            self._logs.refs[conversation], departed.device, departed.leaf, departed.proposal, departed.state,
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

    def put_revocation(self, conversation: bytes, seq: int, statement: bytes, *, leafless: bool) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute("INSERT OR REPLACE INTO revocations VALUES (?, ?, ?, ?)", ref, seq, statement, leafless)

    def drop_revocations(self, conversation: bytes, seqs: Collection[int]) -> None:
        """See the port."""
        ref = self._logs.refs[conversation]
        self._writer.execute_many(
            "DELETE FROM revocations WHERE conversation = ? AND seq = ?", [(ref, seq) for seq in seqs]
        )

    def room(self, name: str) -> bytes | None:
        """See the port."""
        found: bytes | None = self._writer.one("SELECT id FROM conversations WHERE name = ? AND name != ''", name)
        return found

    def room_names(self) -> list[str]:
        """See the port."""
        return [name for (name,) in self._writer.rows("SELECT name FROM conversations WHERE name != ''")]

    def rooms(self, account: str, device: bytes, first: Collection[str], most: int) -> list[RoomRow]:
        """See the port."""
        with self._database.snapshot() as reader:
            rooms = {
                row[0]: RoomRow(row[0], "open", row[1], joined=False, topic=row[2])
                for name in sorted(first)
                for row in reader.execute(
                    f"SELECT name, {_PEOPLE}, topic FROM conversations WHERE name = ? AND name != '' AND kind = 'open'",  # noqa: S608  # nosec B608  # written here
                    (name,),
                )
            }
            for name, kind, people, topic in reader.execute(
                f"SELECT name, kind, {_PEOPLE}, topic FROM members AS own JOIN conversations ON ref = conversation"  # noqa: S608  # nosec B608  # written here
                " WHERE device = ? AND account = ? AND last_seq IS NULL AND name != '' ORDER BY name",
                (device, account),
            ):
                rooms[name] = RoomRow(name, kind, people, joined=True, topic=topic)
            for row in self._largest(reader, most):
                rooms.setdefault(row.name, row)
        return list(rooms.values())[:most]

    def members(self, conversation: bytes) -> list[MemberRow]:
        """See the port."""
        with self._database.snapshot() as reader:
            rows = reader.execute(
                "SELECT own.account AS account, own.device, devices.device IS NOT NULL FROM conversations"
                " JOIN members AS own ON own.conversation = ref LEFT JOIN devices ON devices.device = own.device"
                " AND devices.account = own.account WHERE id = ?1 AND last_seq IS NULL"
                " UNION ALL SELECT account, device, 0 FROM conversations JOIN deleted_members ON conversation = ref"
                " WHERE id = ?1 ORDER BY account",
                (conversation,),
            )
            return [MemberRow(account, device, bool(there)) for account, device, there in rows]

    def _largest(self, reader: sqlite3.Connection, most: int) -> list[RoomRow]:
        """The open rooms with most people. What took long to count is good for a while: so it takes one part in
        `LISTED_SHARE` of a processor at most, however often somebody asks."""
        until, rows = self._listed
        if time.monotonic() >= until:
            begun = time.thread_time()
            rows = [
                RoomRow(name, "open", people, joined=False, topic=topic)
                for name, people, topic in reader.execute(
                    f"SELECT name, {_PEOPLE} AS people, topic FROM conversations WHERE name != '' AND kind = 'open'"  # noqa: S608  # nosec B608  # written here
                    " ORDER BY people DESC, name LIMIT ?",
                    (most,),
                )
            ]
            took = time.thread_time() - begun
            self._listed = time.monotonic() + LISTED_SHARE * took if took > LISTED_SECONDS else 0.0, rows
        return rows

    def count_founded(self, account: str) -> int:
        """See the port."""
        count: int = self._writer.one(
            "SELECT count(*) FROM conversations WHERE founder = ? AND founder != '' AND kind != 'direct'", account
        )
        return count

    def count_memberships(self, account: str) -> int:
        """See the port."""
        count: int = self._writer.one(
            "SELECT count(DISTINCT conversation) FROM members WHERE account = ? AND last_seq IS NULL"
            " AND conversation NOT IN (SELECT ref FROM dead)",
            account,
        )
        return count

    def pair(self, pair: tuple[str, str]) -> bytes | None:
        """See the port."""
        found: bytes | None = self._writer.one(
            "SELECT id FROM pairs JOIN conversations ON ref = conversation WHERE low = ? AND high = ?", *pair
        )
        return found

    def of_device(self, who: Who) -> list[bytes]:
        """See the port."""
        rows = self._writer.rows(
            "SELECT id FROM members JOIN conversations ON ref = conversation"
            " WHERE +account = ? AND device = ? AND last_seq IS NULL",  # by device: an account may have a thousand rows
            *who,
        )
        return [conversation for (conversation,) in rows]

    def of_account(self, account: str, *, out: bool = False, most: int = -1) -> list[bytes]:
        """See the port."""
        rows = self._writer.rows(
            "SELECT DISTINCT id FROM members JOIN conversations ON ref = conversation WHERE account = ? AND"
            " (? OR last_seq IS NULL OR EXISTS (SELECT 1 FROM revocations WHERE revocations.conversation = ref))"
            " LIMIT ?",
            account, out, most,
        )  # fmt: skip
        return [conversation for (conversation,) in rows]
