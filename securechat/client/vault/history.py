"""The history: lines as they are shown, each with its encoded body and the name by which others know the message.

Its order is the log's: accepted lines by `seq`; what is not accepted yet comes last, in the order in which it was said.
A page is read from one index, however long the history is; unread lines are counted as they come in.
"""

from operator import itemgetter
from typing import Any, Final

from securechat.client.events import Message, Trust
from securechat.client.vault.database import Database, Statements
from securechat.content.registry import line_of
from securechat.errors import UsageError

UNACCEPTED: Final = 1 << 62
"""A line that the server has not accepted yet has this plus its local id as `place`, so it comes after the log."""

_KEPT, _KEPT_BYTES = 4096, 1024
"""Own lines, and their bytes, that stay in memory until they are accepted; others are read again."""

CANNOT_SHOW: Final = "This version of the program cannot show this kind of message."

_COLUMNS: Final = (
    "local_id, conversation, place, time, sender, own, kind, body, device, number, refers_to_device, refers_to_number,"
    " trust, problem, written, doubt"
)
_LINES: Final = f"SELECT {_COLUMNS} FROM messages"  # noqa: S608  # nosec B608  # our own
_ADD: Final = f"INSERT INTO messages ({_COLUMNS}, hidden) VALUES (?{', ?' * _COLUMNS.count(',')}, ?)"  # noqa: S608  # nosec B608  # our own

_ORDER: Final = itemgetter(2, 0)  # place, then local_id
_BESIDE: Final = (
    _LINES + " WHERE conversation = (SELECT conversation FROM messages WHERE local_id = ?1)"  # noqa: S608  # nosec B608  # our own
    " AND hidden = 0 AND (place, local_id) {} (SELECT place, local_id FROM messages WHERE local_id = ?1)"
    " ORDER BY place {}, local_id {} LIMIT ?2 + {}"
)
_BEFORE: Final = _BESIDE.format("<", "DESC", "DESC", 0)
_AFTER: Final = _BESIDE.format(">", "ASC", "ASC", 0)
_AROUND: Final = f"SELECT * FROM ({_BEFORE}) UNION ALL SELECT * FROM ({_BESIDE.format('>=', 'ASC', 'ASC', 1)})"  # noqa: S608  # nosec B608  # our own

_COUNT: Final = (
    "INSERT INTO unread SELECT ?1, 1, ?2 WHERE ?2 > (SELECT local_id FROM shown)"
    " ON CONFLICT DO UPDATE SET lines = lines + 1, newest = excluded.newest"
)
# The plus keeps SQLite from walking the index of the whole history to have the lines grouped.
_UNCOUNT: Final = (
    "INSERT INTO unread SELECT conversation, -count(*), 0 FROM messages"
    " WHERE own = 0 AND hidden = 0 AND local_id > (SELECT local_id FROM shown) AND local_id <= ?"
    " GROUP BY +conversation"
    " ON CONFLICT DO UPDATE SET lines = lines + excluded.lines"
)
_RECOUNT: Final = (
    "INSERT INTO unread SELECT conversation, count(*), max(local_id) FROM messages"
    " WHERE conversation = ? AND own = 0 AND hidden = 0 AND local_id > (SELECT local_id FROM shown)"
    " GROUP BY conversation"
)


class Pages:
    """Reads the history in pages, oldest line first in each."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def message(self, local_id: int) -> Message:
        """Return one line. Raises `UsageError` if there is none."""
        row = self._database.one(_LINES + " WHERE local_id = ?", local_id)
        if row is None:
            raise UsageError("There is no such message.")
        return _message(row)

    def newest(self, conversation: bytes, limit: int) -> list[Message]:
        """Return the newest `limit` lines of a conversation."""
        rows = self._database.all(
            _LINES + " WHERE conversation = ? AND hidden = 0 ORDER BY place DESC, local_id DESC LIMIT ?",
            conversation, limit,
        )
        return [_message(row) for row in reversed(rows)]

    def before(self, local_id: int, limit: int) -> list[Message]:
        """Return the `limit` lines of its conversation right before a line; none if there is no such line."""
        return [_message(row) for row in reversed(self._database.all(_BEFORE, local_id, limit))]

    def after(self, local_id: int, limit: int) -> list[Message]:
        """Return the `limit` lines of its conversation right after a line; none if there is no such line."""
        return [_message(row) for row in self._database.all(_AFTER, local_id, limit)]

    def around(self, local_id: int, limit: int) -> list[Message]:
        """Return a line with up to `limit` lines before it and as many after it."""
        rows = self._database.all(_AROUND, local_id, limit)
        return [_message(row) for row in sorted(rows, key=_ORDER)]

    def unread(self, after: int, limit: int) -> list[Message]:
        """Return the oldest `limit` lines of others that came in after the line `after`, in order of arrival."""
        rows = self._database.all(
            _LINES + " WHERE own = 0 AND hidden = 0 AND local_id > ? ORDER BY local_id LIMIT ?", after, limit
        )
        return [_message(row) for row in rows]

    def unread_counts(self) -> dict[bytes, tuple[int, int]]:
        """Return how many lines of others the user has not seen, by conversation, and the newest one's local id."""
        rows = self._database.all("SELECT conversation, lines, newest FROM unread")
        return {conversation: (lines, newest) for conversation, lines, newest in rows}

    def shown(self) -> int:
        """Return the newest line up to which the user has seen everything; 0 before the first."""
        (local_id,) = self._database.one("SELECT local_id FROM shown")
        return int(local_id)


class History(Pages):
    """The history as its one writer sees it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._writer = database
        self.last_id = database.last_id("messages")  # the newest line's
        self._unaccepted: dict[int, Message] = {}  # lines of our own since the start

    def add(
        self,
        conversation: bytes,
        sender: str,
        content: tuple[str, bytes],
        *,
        own: bool,
        trust: Trust,
        seq: int = 0,
        time: int = 0,
        device: bytes = b"",
        number: int = 0,
        refers_to: tuple[bytes, int] | None = None,
        problem: str = "",
        written: int = 0,
        doubt: str = "",
        hidden: bool = False,
    ) -> Message:
        """Append a line. Returns it with its local id.

        `content`: kind and body as they are in the envelope; both empty where nothing could be decrypted. `device` (16
        bytes) and `number` name the message; the number of our own is known when the server has accepted it.
        `refers_to`: the name of another message that this one is about. `written`: when, by the sender's clock (ms).
        `doubt`: what contradicts it. `hidden`: no page shows it.
        """
        self.last_id += 1
        row = (
            self.last_id, conversation, seq or UNACCEPTED + self.last_id, time, sender, own, *content,
            device or None, number or None, *(refers_to or (None, None)), trust, problem, written, doubt,
        )  # fmt: skip
        self._writer.defer(_ADD, *row, hidden)
        if not own and not hidden:
            self._writer.defer(_COUNT, conversation, self.last_id)
        line = _message(row)
        if own and not seq and len(self._unaccepted) < _KEPT and len(content[1]) <= _KEPT_BYTES:
            self._unaccepted[line.local_id] = line
        return line

    def accept(self, local_id: int, seq: int, time: int, number: int) -> Message:
        """Note our line's place in the log. Return the line."""
        line = self._unaccepted.pop(local_id, None) or self.message(local_id)
        self._writer.defer(
            "UPDATE messages SET place = ?, time = ?, number = ? WHERE local_id = ?", seq, time, number, local_id
        )
        return Message(
            local_id, line.conversation, seq, time, line.sender, line.own, line.text, line.trust, line.problem,
            line.kind, line.device, number, line.refers_to, line.written, line.doubt,
        )  # fmt: skip

    def fail(self, local_id: int, problem: str) -> Message:
        """Note that our line cannot be sent, and why. Return the line."""
        self._unaccepted.pop(local_id, None)
        self._writer.run("UPDATE messages SET problem = ? WHERE local_id = ?", problem, local_id)
        return self.message(local_id)

    def move(self, conversation: bytes, new: bytes, *, waiting_only: bool) -> None:
        """Move the lines of a conversation to another one: all, or those that still wait to be accepted."""
        self._unaccepted.clear()
        self._writer.run(
            "UPDATE messages SET conversation = ? WHERE conversation = ? AND (? OR (place >= ? AND problem = ''))",
            new, conversation, not waiting_only, UNACCEPTED,
        )  # fmt: skip
        self._recount(conversation, new)

    def move_accepted(self, conversation: bytes, new: bytes) -> None:
        """Move the lines that are in a log to another conversation."""
        self._writer.run(
            "UPDATE messages SET conversation = ? WHERE conversation = ? AND place < ?", new, conversation, UNACCEPTED
        )
        self._recount(conversation, new)

    def forget(self, conversation: bytes) -> None:
        """Delete the lines of a conversation in which none of ours waits."""
        self._writer.run("DELETE FROM messages WHERE conversation = ?", conversation)
        self._recount(conversation)

    def move_lines(self, local_ids: list[int], new: bytes) -> None:
        """Move lines of our own to another conversation."""
        self._unaccepted.clear()
        self._writer.run_many(
            "UPDATE messages SET conversation = ? WHERE local_id = ?", [(new, local_id) for local_id in local_ids]
        )

    def hide(self, account: str, *, hidden: bool) -> None:
        """Take an account's lines in open rooms out of all pages, or put them back."""
        changed = self._writer.all(
            "SELECT DISTINCT conversation FROM messages WHERE sender = ? AND own = 0 AND hidden != ?"
            " AND conversation IN (SELECT id FROM conversations WHERE kind = 'open')",
            account, hidden,
        )  # fmt: skip
        for (conversation,) in changed:
            self._writer.run(
                "UPDATE messages SET hidden = ? WHERE conversation = ? AND sender = ? AND own = 0",
                hidden, conversation, account,
            )  # fmt: skip
            self._recount(conversation)

    def mark_shown(self, local_id: int) -> None:
        """Note that the user has seen everything that came in up to a line."""
        self._writer.run(_UNCOUNT, local_id)
        self._writer.run("DELETE FROM unread WHERE lines = 0")
        self._writer.run("UPDATE shown SET local_id = max(local_id, ?)", local_id)

    def _recount(self, *conversations: bytes) -> None:
        """Count the unread lines of conversations that lines have moved between."""
        for conversation in conversations:
            self._writer.run("DELETE FROM unread WHERE conversation = ?", conversation)
            self._writer.run(_RECOUNT, conversation)


def _message(row: Any) -> Message:
    local_id, conversation, place, time, sender, own, kind, body, device, number, *about = row[:-4]
    trust, problem, written, doubt = row[-4:]
    text = ""
    if own or not problem:
        line = line_of(kind, body)
        if line is None:
            problem = problem or CANNOT_SHOW
        else:
            text = line
    return Message(
        local_id,
        conversation,
        place if place < UNACCEPTED else 0,
        time,
        sender,
        bool(own),
        text,
        trust,
        problem,
        kind,
        device or b"",
        number or 0,
        (about[0], about[1]) if about[0] is not None else None,
        written,
        doubt,
    )
