"""What waits to be submitted, in each conversation in its order, until it stands in the log."""

from dataclasses import dataclass, field
from typing import Final, Literal

from securechat.client.vault.database import Statements


@dataclass
class OutboxRow:
    """Something to submit. Encrypted already if `payload` is not empty; then the same bytes go out at each try."""

    id: int
    kind: Literal["message", "leave"]
    content: bytes = field(repr=False)  # the envelope without its place in the log
    local_id: int  # of the line in the history, or 0
    number: int
    epoch: int
    payload: bytes = field(repr=False)


_ROWS: Final = "SELECT id, kind, content, local_id, number, epoch, payload FROM outbox"


class OutboxTable:
    """The queues of all conversations."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def add(self, conversation: bytes, kind: Literal["message", "leave"], content: bytes, local_id: int) -> None:
        """Put something to submit at the end of a conversation's queue."""
        self._database.run(
            "INSERT INTO outbox (conversation, kind, content, local_id, number, epoch, payload)"
            " VALUES (?, ?, ?, ?, 0, 0, x'')",
            conversation, kind, content, local_id,
        )  # fmt: skip

    def first(self, conversation: bytes, limit: int) -> list[OutboxRow]:
        """Return the oldest `limit` things a conversation has to submit, oldest first."""
        rows = self._database.all(_ROWS + " WHERE conversation = ? ORDER BY id LIMIT ?", conversation, limit)
        return [OutboxRow(*row) for row in rows]

    def by_number(self, conversation: bytes, number: int) -> OutboxRow | None:
        """Return what was encrypted under `number`."""
        row = self._database.one(_ROWS + " WHERE conversation = ? AND number = ?", conversation, number)
        return None if row is None else OutboxRow(*row)

    def get(self, item: int) -> OutboxRow | None:
        """Return one thing to submit."""
        row = self._database.one(_ROWS + " WHERE id = ?", item)
        return None if row is None else OutboxRow(*row)

    def last_number(self, conversation: bytes, in_log: int) -> int:
        """Return the newest number we can have used: `in_log`, or of what was encrypted or staged after it."""
        (newest,) = self._database.one(
            "SELECT max(number) FROM (SELECT number FROM outbox WHERE conversation = ?"
            " UNION ALL SELECT number FROM staged WHERE conversation = ? UNION ALL SELECT ?)",
            conversation, conversation, in_log,
        )  # fmt: skip
        return int(newest)

    def holds_anything(self, conversation: bytes) -> bool:
        """Say whether anything waits to be submitted."""
        return self._database.one("SELECT 1 FROM outbox WHERE conversation = ? LIMIT 1", conversation) is not None

    def save_ciphertext(self, item: int, number: int, epoch: int, payload: bytes) -> None:
        """Keep the encrypted form of an item before it is sent."""
        self._database.run(
            "UPDATE outbox SET number = ?, epoch = ?, payload = ? WHERE id = ?", number, epoch, payload, item
        )

    def void_ciphertexts(self, conversation: bytes) -> None:
        """Forget the encrypted form of all items: the server took none of them; they are encrypted anew, in order."""
        self._database.run(
            "UPDATE outbox SET number = 0, epoch = 0, payload = x'' WHERE conversation = ?", conversation
        )

    def delete(self, item: int) -> None:
        """Forget an item: it stands in the log, or cannot be sent."""
        self._database.run("DELETE FROM outbox WHERE id = ?", item)

    def drop(self, conversation: bytes) -> list[int]:
        """Give up what waits to be submitted. Returns the local ids of its lines in the history, in their order."""
        return self._line_ids("DELETE FROM outbox WHERE conversation = ? RETURNING local_id", conversation)

    def drop_submitted(self, conversation: bytes, number: int) -> list[int]:
        """Give up what was encrypted under `number` or an earlier one, as `drop` does."""
        return self._line_ids(
            "DELETE FROM outbox WHERE conversation = ? AND payload != x'' AND number <= ? RETURNING local_id",
            conversation, number,
        )  # fmt: skip

    def move(self, conversation: bytes, new: bytes) -> None:
        """Let all that waits wait in another conversation."""
        self._database.run("UPDATE outbox SET conversation = ? WHERE conversation = ?", new, conversation)

    def move_plain(self, conversation: bytes, new: bytes) -> list[int]:
        """Move the messages that were never encrypted to another conversation. Returns their lines' local ids."""
        return self._line_ids(
            "UPDATE outbox SET conversation = ? WHERE conversation = ? AND kind = 'message' AND payload = x''"
            " RETURNING local_id",
            new, conversation,
        )  # fmt: skip

    def _line_ids(self, sql: str, *values: object) -> list[int]:
        return sorted(local_id for (local_id,) in self._database.all(sql, *values) if local_id)
