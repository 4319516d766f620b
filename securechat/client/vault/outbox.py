"""The outbox: each conversation's submissions in their order, until they are in the log."""

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from securechat.client.vault.database import Database

Kind = Literal["message", "leave", "marks"]
"""`marks`: how far we have received and read (`conversations.marking`). They are not said again."""


@dataclass
class OutboxRow:
    """Something to submit. If `payload` is not empty it is encrypted already, and each try sends the same bytes."""

    id: int
    kind: Kind
    content: bytes = field(repr=False)  # the envelope without its place in the log
    local_id: int  # of the line in the history, or 0
    number: int
    epoch: int
    payload: bytes = field(repr=False)
    roster: int  # of the conversation when it was typed
    about: int  # the local id of the line that it is about, whose name goes into it when it is encrypted; or 0


_ROWS: Final = "SELECT id, kind, content, local_id, number, epoch, payload, roster, about FROM outbox"


class Dropped(NamedTuple):
    """Something that was to be submitted, and is not any more."""

    id: int
    kind: Kind
    local_id: int  # of its line in the history; 0: it has none


class OutboxTable:
    """The queues of all conversations."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_id = database.last_id("outbox")

    def add(
        self,
        conversation: bytes,
        kind: Kind,
        content: bytes,
        local_id: int,
        *,
        roster: int = 0,
        about: int = 0,
        first: bool = False,
    ) -> int:
        """Put something to submit at the end of a conversation's queue, or `first` of all. Returns the item's id."""
        if first:  # it is no command's, which ids above zero stand for
            (newest,) = self._database.one("SELECT min(id) FROM outbox")
            item = min(newest or 0, 0) - 1
        else:
            item = self._last_id = self._last_id + 1
        self._database.defer(
            "INSERT INTO outbox (id, conversation, kind, content, local_id, number, epoch, payload, roster,"
            " about) VALUES (?, ?, ?, ?, ?, 0, 0, x'', ?, ?)",
            item, conversation, kind, content, local_id, roster, about,
        )  # fmt: skip
        return item

    def first(self, conversation: bytes, limit: int) -> list[OutboxRow]:
        """Return the oldest `limit` things a conversation has to submit, oldest first."""
        rows = self._database.all(_ROWS + " WHERE conversation = ? ORDER BY id LIMIT ?", conversation, limit)
        return [OutboxRow(*row) for row in rows]

    def ids(self, conversation: bytes, *, after: int) -> list[int]:
        """Return the ids of what a conversation has to submit that came after the item `after`, oldest first."""
        sql = "SELECT id FROM outbox WHERE conversation = ? AND id > ? ORDER BY id"
        rows = self._database.all(sql, conversation, after)
        return [item for (item,) in rows]

    def lines(self, conversation: bytes) -> int:
        """Return how many lines of a person wait to be submitted."""
        (count,) = self._database.one(
            "SELECT count(*) FROM outbox WHERE conversation = ? AND local_id != 0", conversation
        )
        return int(count)

    def by_number(self, conversation: bytes, number: int) -> OutboxRow | None:
        """Return what was encrypted under `number`."""
        row = self._database.one(_ROWS + " WHERE conversation = ? AND number = ?", conversation, number)
        return None if row is None else OutboxRow(*row)

    def number_of(self, local_id: int) -> int:
        """Return under which number a line of ours was encrypted; 0: it was not, or does not wait."""
        row = self._database.one("SELECT number FROM outbox WHERE local_id = ? AND payload != x''", local_id)
        return 0 if row is None else int(row[0])

    def get(self, item: int) -> OutboxRow | None:
        """Return one thing to submit."""
        row = self._database.one(_ROWS + " WHERE id = ?", item)
        return None if row is None else OutboxRow(*row)

    def last_number(self, conversation: bytes, in_log: int) -> int:
        """Return the newest number that we may have used: `in_log`, or one encrypted or staged after it."""
        (newest,) = self._database.one(
            "SELECT max(number) FROM (SELECT number FROM outbox WHERE conversation = ?"
            " UNION ALL SELECT number FROM staged WHERE conversation = ? UNION ALL SELECT ?)",
            conversation, conversation, in_log,
        )  # fmt: skip
        return int(newest)

    def holds_anything(self, conversation: bytes) -> bool:
        """Whether anything waits to be submitted."""
        return self._database.one("SELECT 1 FROM outbox WHERE conversation = ? LIMIT 1", conversation) is not None

    def save_ciphertext(self, item: OutboxRow) -> None:
        """Keep the encrypted form of an item before it is sent."""
        self._database.defer(
            "UPDATE outbox SET number = ?, epoch = ?, payload = ? WHERE id = ?",
            item.number, item.epoch, item.payload, item.id,
        )  # fmt: skip

    def void_ciphertexts(self, conversation: bytes) -> None:
        """Forget the ciphertexts of all items: the server took none of them, and they are encrypted again, in order.

        Marks are forgotten as a whole: by then there is something newer to say.
        """
        self.drop_marks(conversation)
        self._database.run(
            "UPDATE outbox SET number = 0, epoch = 0, payload = x'' WHERE conversation = ?", conversation
        )

    def drop_marks(self, conversation: bytes) -> None:
        """Forget our marks that are not in the log."""
        self._database.run("DELETE FROM outbox WHERE conversation = ? AND kind = 'marks'", conversation)

    def delete(self, item: int) -> None:
        """Forget an item: it is in the log, or cannot be sent."""
        self._database.defer("DELETE FROM outbox WHERE id = ?", item)

    def drop(self, conversation: bytes) -> list[Dropped]:
        """Give up what waits to be submitted. Returns what that was, in its order."""
        return self._drop("conversation = ?", conversation)

    def drop_line(self, local_id: int) -> list[Dropped]:
        """Give up a line of ours, as `drop` does."""
        return self._drop("local_id = ?", local_id)

    def drop_submitted(self, conversation: bytes, number: int) -> list[Dropped]:
        """Give up what was encrypted under `number` or an earlier one, as `drop` does."""
        return self._drop("conversation = ? AND payload != x'' AND number <= ?", conversation, number)

    def _drop(self, condition: str, *values: object) -> list[Dropped]:
        rows = self._database.all(
            f"DELETE FROM outbox WHERE {condition} RETURNING id, kind, local_id",  # noqa: S608  # nosec B608  # our own
            *values,
        )
        return sorted(Dropped(*row) for row in rows)

    def move(self, conversation: bytes, new: bytes) -> None:
        """Move everything that waits to another conversation: it was typed for none of those in it."""
        self.drop_marks(conversation)
        self._database.run("UPDATE outbox SET conversation = ?, roster = 0 WHERE conversation = ?", new, conversation)

    def move_plain(self, conversation: bytes, new: bytes) -> list[int]:
        """Move the messages that were never encrypted to another conversation. Returns their lines' local ids."""
        rows = self._database.all(
            "UPDATE outbox SET conversation = ?, roster = 0"
            " WHERE conversation = ? AND kind = 'message' AND payload = x'' RETURNING local_id",
            new, conversation,
        )  # fmt: skip
        return sorted(local_id for (local_id,) in rows if local_id)
