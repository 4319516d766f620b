"""Housekeeping on SQLite: entries leave the tail, and entries that nobody still has to read are deleted.

Before entries leave the tail, their conversation's row is brought up to date with the head in memory.
"""

from collections import Counter

from securechat.server.store.records import (
    ACKNOWLEDGED_SECONDS,
    BRANCH_SECONDS,
    KEPT_BYTES,
    KEPT_SECONDS,
    READER_BYTES,
    READER_ENTRIES,
    READER_SECONDS,
    Head,
    Numbers,
    Trimmed,
)
from securechat.server.store.sqlite.blobs import Blobs
from securechat.server.store.sqlite.conversations import Conversations
from securechat.server.store.sqlite.inboxes import Inboxes
from securechat.server.store.sqlite.logs import Logs
from securechat.server.store.sqlite.tail import Allowance, RunRow
from securechat.server.store.sqlite.tokens import Tokens
from securechat.server.store.sqlite.writer import Writer

PORTION = 256
PORTION_BYTES = 256 << 10
"""Rows, and bytes of payload in them, that `tidy` deletes or moves in one transaction: about 1 ms, during which no turn
can be taken."""

BLOBS_AT_ONCE = 64
"""Blobs that `tidy` drops in one transaction because they have expired: three rows change for each."""

DEVICES_AT_ONCE = 8
"""Devices whose numbers `tidy` stores in one transaction: up to 20 KiB each, about 1 ms in all."""

LOGS_AT_ONCE = 16
"""Histories that `tidy` looks through in one transaction, and deleted conversations: about 1 ms."""

EXPIRY_SECONDS = 3600
"""How often all histories and inboxes are searched for entries past the limits of their readers, and tokens and blobs
for those that have expired."""

HANDSHAKES_EXPIRY_SECONDS = 86_400
"""How often the handshakes of all conversations are looked through: they are kept for months, and a new one lets its
own conversation be looked through in any case."""


class Tidying:
    """Requires holding the turn."""

    def __init__(
        self,
        writer: Writer,
        logs: Logs,
        conversations: Conversations,
        inboxes: Inboxes,
        tokens: Tokens,
        blobs: Blobs,
    ) -> None:
        self._writer = writer
        self._logs = logs
        self._conversations = conversations
        self._inboxes = inboxes
        self._tokens = tokens
        self._blobs = blobs
        self._next_expiry = 0
        self._next_handshakes_expiry = 0
        self._expiring = False  # inboxes are looked through for old entries, and tokens, blobs and branch points

    def tidy(self, now: int, age: int) -> tuple[list[Trimmed], bool]:
        """See `port.Store`."""
        with self._writer.unhurried():
            self._logs.write_cursors()
            if (cut := self._cut_tail(now)) is not None:
                return cut, True
            return self._trim_histories(age)

    def _trim_histories(self, age: int) -> tuple[list[Trimmed], bool]:
        if not self._next_expiry - EXPIRY_SECONDS * 1000 <= age < self._next_expiry:  # the operator may set it back
            self._next_expiry = age + EXPIRY_SECONDS * 1000
            self._logs.untidy |= self._logs.histories
            self._expiring = True
        if not self._next_handshakes_expiry - HANDSHAKES_EXPIRY_SECONDS * 1000 <= age < self._next_handshakes_expiry:
            self._next_handshakes_expiry = age + HANDSHAKES_EXPIRY_SECONDS * 1000
            self._logs.grown |= self._logs.ids.keys()
        old = age - READER_SECONDS * 1000
        if self._expiring:
            self._expiring = any([
                self._inboxes.expire(old, PORTION),
                self._tokens.expire(age, PORTION),
                self._blobs.expire(age, BLOBS_AT_ONCE),
                self._conversations.drop_branch_points(age - BRANCH_SECONDS * 1000, LOGS_AT_ONCE),
            ])
        trimmed: list[Trimmed] = []
        allowance = Allowance(PORTION, PORTION_BYTES)
        for _ in range(min(LOGS_AT_ONCE, len(self._logs.untidy))):
            trimmed += self._trim(self._logs.untidy.pop(), age, allowance)
            if allowance.full:
                break
        for _ in range(min(LOGS_AT_ONCE, len(self._logs.grown))):
            if allowance.full:
                break
            ref = self._logs.grown.pop()
            if (deserted := self._drop_deserted(ref, age)) is not None:
                trimmed.append(deserted)
            else:
                self._trim_handshakes(ref, age, allowance)
        buried = self._conversations.drop_dead(LOGS_AT_ONCE, allowance)
        dropped = self._inboxes.drop_loose(allowance)
        self._writer.commit()
        self._logs.committed()
        self._logs.dead -= buried
        self._inboxes.loose -= dropped
        return trimmed, bool(
            self._logs.untidy or self._logs.grown or self._logs.dead or self._inboxes.loose or self._expiring
        )

    def _cut_tail(self, now: int) -> list[Trimmed] | None:
        """Let the oldest runs leave the tail, or prepare that; None if none has to leave."""
        tail = self._logs.tail
        runs = tail.leaving(now, Allowance(PORTION, PORTION_BYTES))
        if not runs:
            return None
        ends = {run.ref: run.last for run in runs}
        if self._store_heads([ref for ref, end in ends.items() if not tail.is_stored(ref, end)]):
            return []
        trimmed = []
        floors: dict[int, int] = {}
        for ref, end in ends.items():
            if (current := self._head(ref)) is not None:
                floor = floors[ref] = min((member.cursor for member in current.members.values()), default=0)
                first = max(current.first_seq, min(floor, end) + 1)
                trimmed.append(Trimmed(current.id, first))
        if unread := [run for run in runs if run.last > floors.get(run.ref, run.last)]:
            self._move(unread)
        self._writer.execute("DELETE FROM tail WHERE id <= ?", runs[-1].id)
        self._writer.execute("UPDATE meta SET value = ? WHERE key = 'next_id'", self._logs.next_id.to_bytes(8, "big"))
        with self._logs.lock:  # see `Logs.read`
            self._writer.commit()
            tail.drop(runs)
        return trimmed

    def _store_heads(self, refs: list[int]) -> bool:
        """Bring the rows of some of these conversations up to date; return whether there was anything to do."""
        stored: list[tuple[int, int]] = []
        numbers: list[Numbers] = []
        for ref in refs:
            if (current := self._head(ref)) is None:
                continue
            self._writer.execute(
                "UPDATE conversations SET seq = ?, time = ?, epoch = ?, chain = ?, first_seq = max(first_seq, ?)"
                " WHERE ref = ?",
                current.seq, current.time, current.epoch, current.chain, current.first_seq, ref,
            )  # fmt: skip
            changed = [(device, each) for device, each in current.numbers.items() if each.last > each.stored]
            self._writer.execute_many(
                "INSERT OR REPLACE INTO numbers VALUES (?, ?, ?, ?)",
                [(ref, device, each.last, each.encode()) for device, each in changed],
            )
            numbers += [each for _, each in changed]
            stored.append((ref, current.seq))
            if len(numbers) >= DEVICES_AT_ONCE:
                break
        self._writer.commit()
        for ref, seq in stored:
            self._logs.tail.stored(ref, seq)
        for each in numbers:
            each.stored = each.last
        return bool(stored)

    def _move(self, runs: list[RunRow]) -> None:
        """Copy runs from the tail to the history."""
        self._writer.execute_many(
            "INSERT INTO history SELECT conversation, first, last, time, size, entries, account FROM tail WHERE id = ?",
            [(run.id,) for run in runs],
        )
        sizes: Counter[int] = Counter()
        for run in runs:
            sizes[run.ref] += run.size
        self._writer.execute_many(
            "UPDATE conversations SET held_bytes = held_bytes + ? WHERE ref = ?",
            [(size, ref) for ref, size in sizes.items()],
        )
        self._logs.histories |= sizes.keys()
        self._logs.untidy |= sizes.keys()

    def _trim(self, ref: int, age: int, allowance: Allowance) -> list[Trimmed]:
        """Delete entries that everybody has read, and those past a reader's limits, as many as are allowed.

        In a direct conversation senders are refused instead, and it ends when its handshakes do: a lost device never
        comes to read.
        """
        found = self._writer.rows(
            "SELECT id, kind, seq, first_seq, held_bytes, resumed, lost_after FROM conversations WHERE ref = ?", ref
        )
        if not found:
            self._logs.histories.discard(ref)
            return []
        conversation, kind, seq, first_seq, held, resumed, lost_after = found[0]
        surplus = seq - READER_ENTRIES  # entries up to here are too many
        if surplus < resumed:
            surplus -= resumed - lost_after
        floor = self._writer.one("SELECT min(cursor) FROM members WHERE conversation = ?", ref) or 0  # all have read it
        given_up = 0
        first_time = 0  # of the first row that stays
        end = 0
        whole = True  # every row is deleted
        for last, time, size in self._writer.rows(
            "SELECT last, time, size FROM history WHERE conversation = ? ORDER BY last LIMIT ?", ref, allowance.rows
        ):
            if allowance.full:
                first_time = time
                break
            if last > floor:
                if kind == "direct":
                    past_limits = time < age - KEPT_SECONDS * 1000
                else:
                    past_limits = time < age - READER_SECONDS * 1000 or held > READER_BYTES or last <= surplus
                if not past_limits:
                    first_time = time
                    whole = False
                    break
                given_up = last
            held -= size
            end = last
            allowance.take(size)
        if given_up:
            self._writer.execute("DELETE FROM members WHERE conversation = ? AND last_seq <= ?", ref, given_up)
        first_seq = max(first_seq, min(max(floor, given_up), seq) + 1)
        if end:
            self._writer.execute("DELETE FROM history WHERE conversation = ? AND last <= ?", ref, end)
            self._writer.execute(
                "UPDATE conversations SET first_seq = ?, held_bytes = ? WHERE ref = ?", first_seq, held, ref
            )
        if allowance.full:
            self._logs.untidy.add(ref)
        elif whole:
            self._logs.emptied.add(ref)
        return [Trimmed(conversation, first_seq, given_up, (held, first_time))]

    def _drop_deserted(self, ref: int, age: int) -> Trimmed | None:
        """Delete a conversation without members in which nothing has happened for long; None: it is not one.

        A device that leaves as the last one deletes it by that. Nobody does where the last ones were revoked, or thrown
        out by a word of the operator: their owner may come back (`sequencer.heirs`), as long as a reader is waited for.
        """
        conversation = self._logs.ids.get(ref)
        if conversation is None or self._logs.tail.has(ref):
            return None
        ((time, seq),) = self._writer.rows("SELECT time, seq FROM conversations WHERE ref = ?", ref)
        if time > age - READER_SECONDS * 1000 or self._writer.one(
            "SELECT 1 FROM members WHERE conversation = ? AND last_seq IS NULL LIMIT 1", ref
        ):
            return None
        self._conversations.delete(conversation)
        return Trimmed(conversation, seq + 1, deserted=True)

    def _trim_handshakes(self, ref: int, age: int, allowance: Allowance) -> None:
        """Delete handshakes that nobody needs, and those past the limits, but none that the group is rebuilt from.

        As many as are allowed.
        """
        found = self._writer.rows("SELECT handshake_bytes, snapshot_seq FROM conversations WHERE ref = ?", ref)
        if not found:
            return
        kept, snapshot_seq = found[0]
        fresh = age - ACKNOWLEDGED_SECONDS * 1000
        old = age - KEPT_SECONDS * 1000
        floor = self._writer.one("SELECT min(cursor) FROM members WHERE conversation = ?", ref) or 0  # all have read it
        anchor: int | None = self._writer.one("SELECT min(seq) FROM checkpoints WHERE conversation = ?", ref)
        if anchor is not None:  # whoever goes on from a checkpoint needs what follows it
            floor = min(floor, anchor)
        end = 0
        for seq, time, size in self._writer.rows(
            "SELECT seq, time, size FROM handshakes WHERE conversation = ? AND seq <= ? ORDER BY seq LIMIT ?",
            ref, snapshot_seq, allowance.rows,
        ):  # fmt: skip
            if (time >= fresh or (seq > floor and time >= old)) and kept <= KEPT_BYTES and size:
                break
            if allowance.full:
                break
            kept -= size
            end = seq
            allowance.take(size)
        if end:
            self._writer.execute("DELETE FROM handshakes WHERE conversation = ? AND seq <= ?", ref, end)
            self._writer.execute("DELETE FROM checkpoints WHERE conversation = ? AND seq < ?", ref, end)
            self._writer.execute("UPDATE conversations SET handshake_bytes = ? WHERE ref = ?", kept, ref)
        if allowance.full:
            self._logs.grown.add(ref)

    def _head(self, ref: int) -> Head | None:
        """The head of a conversation with entries in the tail; None: these are the last traces of a deleted one."""
        conversation = self._logs.ids.get(ref)
        if conversation is None:
            return None
        return self._logs.tail.head(ref) or self._conversations.load(conversation)
