"""The history: lines as they are shown, each with its encoded body and the name by which others know the message.

Its order is the log's: accepted lines by `seq`; what is not accepted yet comes last, in the order in which it was said.
A page is read from one index, however long the history is; unread lines are counted as they come in. An edit overwrites
the text of a line and a deletion its body; what answers a line points to it, and has no copy of it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from securechat.client import searching
from securechat.client.message import Attached, Mark, Message, Quote, Reaction
from securechat.client.query import Query
from securechat.client.vault.database import Database, Statements
from securechat.content.registry import File, Name, file_of, line_of, stand_in, with_text
from securechat.errors import UsageError
from securechat.identity.pins import Standing

UNACCEPTED: Final = 1 << 62
"""A line that the server has not accepted yet has this plus its local id as `place`, so it comes after the log."""

_NEVER: Final = (1 << 63) - 1
"""Stands for a time, or a local id, that nothing comes to."""

_KEPT, _KEPT_BYTES = 4096, 1024
"""Own lines, and their bytes, that stay in memory until they are accepted; others are read again."""

CANNOT_SHOW: Final = "This version of the program cannot show this kind of message."

MAX_QUOTE: Final = 200
"""Characters of a quote: two lines of a screen, by which one knows what is answered."""

MAX_REACTIONS: Final = 256
"""Reactions under one line: more than anybody reads, and a page of a hundred such lines is read in no time. What comes
after them is not kept, by nobody: all count alike."""

MAX_REACTIONS_EACH: Final = 8
"""The same, of one person."""

ENDING_LINES, ENDING_BYTES = 1000, 32 << 10
"""Lines that go at once when their life is over, and bytes of them: each costs 5 µs and 7 more for each word, of which
there may be one in two bytes. So other work waits 5 ms for what people say, and a tenth of a second for the worst."""

MOVING_LINES: Final = 500
"""Lines that go to another conversation at once, and about ENDING_BYTES of them: where a line was said is in the index,
so its words are written again, a tenth of a millisecond for a line of eight. Other work waits for a tenth of a second;
portions of a hundred lines were tried, and took two and a half times as long in all."""

_COLUMNS: Final = (
    "local_id, conversation, place, time, sender, own, kind, body, device, number, refers_to_device, refers_to_number,"
    " trust, problem, written, doubt, about, edited, deleted_by, recipients, delivered, read"
)
_LINES: Final = (
    f"SELECT {_COLUMNS}, quoted_sender, quoted_own, quoted_kind, quoted_body, quoted_problem, quoted_hidden,"  # noqa: S608  # nosec B608  # our own
    " quoted_edited, quoted_deleted_by, quoted_trust,"
    " (SELECT json_group_array(json_array(text, account)) FROM"
    " (SELECT text, account FROM reactions WHERE line = local_id AND reactions.hidden = 0 ORDER BY reactions.id))"
    " FROM messages LEFT JOIN (SELECT local_id AS quoted, sender AS quoted_sender, own AS quoted_own,"
    " kind AS quoted_kind, body AS quoted_body, problem AS quoted_problem, hidden AS quoted_hidden,"
    " edited AS quoted_edited, deleted_by AS quoted_deleted_by, trust AS quoted_trust FROM messages) ON quoted = about"
)
_ADD: Final = (
    f"INSERT INTO messages ({_COLUMNS}, author, hidden, until) VALUES (?{', ?' * _COLUMNS.count(',')}, ?, ?, ?)"  # noqa: S608  # nosec B608  # our own
)
_NO_QUOTE: Final = (None,) * 9
_INDEX: Final = "INSERT INTO search (rowid, said, facets) VALUES (?, ?, ?)"

_ORDER: Final = itemgetter(2, 0)  # place, then local_id
_BESIDE: Final = (
    _LINES + " WHERE conversation = (SELECT conversation FROM messages WHERE local_id = ?1)"  # noqa: S608  # nosec B608  # our own
    " AND hidden = 0 AND (place, local_id) {} (SELECT place, local_id FROM messages WHERE local_id = ?1)"
    " ORDER BY place {}, local_id {} LIMIT ?2 + {}"
)
_BEFORE: Final = _BESIDE.format("<", "DESC", "DESC", 0)
_AFTER: Final = _BESIDE.format(">", "ASC", "ASC", 0)
_AROUND: Final = f"SELECT * FROM ({_BEFORE}) UNION ALL SELECT * FROM ({_BESIDE.format('>=', 'ASC', 'ASC', 1)})"  # noqa: S608  # nosec B608  # our own

_SPAN: Final = (
    "SELECT min(local_id), max(local_id) FROM messages"
    " WHERE iif(time, time, written) >= ? AND iif(time, time, written) < ?"
)
_ANY: Final = (
    "SELECT local_id FROM messages WHERE hidden = 0 AND +iif(time, time, written) >= ?"  # the span is narrower
    " AND +iif(time, time, written) < ? AND local_id >= ? AND local_id < ? ORDER BY local_id DESC LIMIT ?"
)
_FOUND: Final = (
    "SELECT local_id FROM search CROSS JOIN messages ON local_id = search.rowid"
    " WHERE search MATCH ? AND hidden = 0 AND iif(time, time, written) >= ?"
    " AND iif(time, time, written) < ? AND search.rowid >= ? AND search.rowid < ?"
    " ORDER BY search.rowid DESC LIMIT ?"
)

_REACTIONS_OVER: Final = (
    "SELECT reactions.id, conversation FROM reactions JOIN messages ON local_id = line"
    " WHERE reactions.until <= ? LIMIT ?"
)
_OVER: Final = (
    "SELECT local_id, messages.conversation, length(body), own = 0 AND hidden = 0 AND local_id > coalesce(line, 0),"
    " CASE WHEN own AND kind = 'file' AND deleted_by = '' THEN body END"
    " FROM messages LEFT JOIN seen ON seen.conversation = messages.conversation"
    " WHERE until <= ? ORDER BY until LIMIT ?"
)

_COUNT: Final = (
    "INSERT INTO unread VALUES (?1, 1, ?2)"
    " ON CONFLICT DO UPDATE SET lines = lines + 1, newest = excluded.newest"
)
# The plus keeps SQLite from walking the whole conversation, of which most was seen.
_UNREAD: Final = (
    " FROM messages WHERE +conversation = ?1 AND own = 0 AND hidden = 0"
    " AND local_id > coalesce((SELECT line FROM seen WHERE conversation = ?1), 0)"
)
_RECOUNT: Final = f"INSERT INTO unread SELECT ?1, count(*), max(local_id){_UNREAD} HAVING count(*) > 0"
_RECOUNT_ALL: Final = (
    "INSERT INTO unread SELECT +messages.conversation AS here, count(*), max(local_id)"
    " FROM messages LEFT JOIN seen ON seen.conversation = messages.conversation"
    " WHERE own = 0 AND hidden = 0 AND local_id > coalesce(line, 0) GROUP BY here"
)
_FEW: Final = 4
"""Conversations that are counted one by one. Each may walk through all lines, of all: so do many of them, once."""

_SEEN_ALIKE: Final = "INSERT OR IGNORE INTO seen SELECT ?2, line FROM seen WHERE conversation = ?1"


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

    def oldest(self, conversation: bytes, limit: int) -> list[Message]:
        """Return the oldest `limit` lines of a conversation."""
        rows = self._database.all(
            _LINES + " WHERE conversation = ? AND hidden = 0 ORDER BY place, local_id LIMIT ?", conversation, limit
        )
        return [_message(row) for row in rows]

    def past(self, conversations: Sequence[bytes], limit: int, *, before: int = 0, after: int = 0) -> list[Message]:
        """Return the newest `limit` lines of several conversations, one after the other, or those beside a line.

        `before`, `after`: a line of one of them. Raises `UsageError` if it is none.
        """
        page, at = [], len(conversations)
        if line := before or after:
            where = self.message(line).conversation
            if where not in conversations:
                raise UsageError("There is no such message in this conversation.")
            at = conversations.index(where)
            page = self.after(line, limit) if after else self.before(line, limit)
        if after:
            for each in conversations[at + 1 :]:
                page += self.oldest(each, limit - len(page)) if len(page) < limit else []
        else:
            for each in reversed(conversations[:at]):
                page = [*(self.newest(each, limit - len(page)) if len(page) < limit else []), *page]
        return page

    def unread(self, after: int, limit: int) -> list[Message]:
        """Return the oldest `limit` lines of others that came in after the line `after`, in order of arrival."""
        rows = self._database.all(
            _LINES + " WHERE own = 0 AND hidden = 0 AND local_id > ? ORDER BY local_id LIMIT ?", after, limit
        )
        return [_message(row) for row in rows]

    def search(self, query: Query, conversations: Sequence[bytes], before: int, limit: int) -> list[Message]:
        """Return the newest `limit` lines before the line `before` (0: of all) that a query fits, newest first.

        Their order is that in which they came here. `conversations`: ids of `query.where`. Raises `UsageError` if this
        cannot be looked for.
        """
        matched = searching.match(query, conversations)
        times, first, end = (query.after, query.before or _NEVER), 1, before or _NEVER
        if query.after or query.before:  # what came in then stands together, so few other lines are read
            (oldest, newest) = self._database.one(_SPAN, *times)
            if oldest is None:
                return []
            first, end = oldest, min(end, newest + 1)
        rest = *times, first, end, limit
        found = self._database.all(_FOUND, matched, *rest) if matched else self._database.all(_ANY, *rest)
        rows = self._database.all(
            f"{_LINES} WHERE local_id IN ({', '.join('?' * len(found))}) ORDER BY local_id DESC",
            *(local_id for (local_id,) in found),
        )
        return [_message(row) for row in rows]

    def last_said(self, account: str, limit: int) -> dict[bytes, int]:
        """Return when the devices of an account last said something in the newest `limit` lines (ms), by device id."""
        rows = self._database.all(
            "SELECT device, max(time) FROM (SELECT device, time, sender, place FROM messages"
            " ORDER BY local_id DESC LIMIT ?) WHERE sender = ? AND device IS NOT NULL AND place < ? GROUP BY device",
            limit,
            account,
            UNACCEPTED,
        )
        return dict(rows)

    def last_heard(self, limit: int) -> dict[tuple[str, bytes], int]:
        """Return when others last said something in the newest `limit` lines (ms), by account and identity key."""
        rows = self._database.all(
            "SELECT sender, author, max(time) FROM (SELECT sender, author, time, own, hidden FROM messages"
            " ORDER BY local_id DESC LIMIT ?) WHERE own = 0 AND hidden = 0 GROUP BY sender, author",
            limit,
        )
        return {(sender, author): time for sender, author, time in rows}

    def unread_counts(self) -> dict[bytes, tuple[int, int]]:
        """Return how many lines of others have come in since the user was last in a conversation, by its id, and the
        newest one's local id.
        """
        rows = self._database.all("SELECT conversation, lines, newest FROM unread")
        return {conversation: (lines, newest) for conversation, lines, newest in rows}

    def first_unread(self, conversation: bytes) -> int:
        """Return the line that came in first of those; 0: there is none."""
        row = self._database.one(f"SELECT local_id{_UNREAD} ORDER BY local_id LIMIT 1", conversation)
        return 0 if row is None else int(row[0])

    def place(self) -> bytes:
        """Return the conversation that the user was in last; empty: none."""
        row = self._database.one("SELECT conversation FROM place")
        return b"" if row is None else bytes(row[0])

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
        trust: Standing,
        seq: int = 0,
        time: int = 0,
        device: bytes = b"",
        number: int = 0,
        author: bytes = b"",
        refers_to: Name | None = None,
        about: int = 0,
        problem: str = "",
        written: int = 0,
        doubt: str = "",
        hidden: bool = False,
        life: int = 0,
        since: int = 0,
    ) -> Message:
        """Append a line. Returns it with its local id.

        `content`: kind and body as they are in the envelope; both empty where nothing could be decrypted. `device` (16
        bytes) and `number` name the message; the number of our own is known when the server has accepted it.
        `author`: the sender's identity key (32 bytes), if it is certain. `refers_to`: the name of the message that this
        one is about, by its sender's word. `about`: its local id, if it is here. `written`: by the sender's clock (ms).
        `doubt`: what contradicts it. `hidden`: no page shows it. `life`: seconds after `since` (ms) when it goes;
        0: never.
        """
        self.last_id += 1
        row = (
            self.last_id, conversation, seq or UNACCEPTED + self.last_id, time, sender, own, *content,
            device or None, number or None, *(refers_to or (None, None)), trust, problem, written, doubt,
            about or None, 0, "", 0, 0, 0,
        )  # fmt: skip
        self._writer.defer(_ADD, *row, author, hidden, _until(since, life))
        if not own and not hidden:
            self._writer.defer(_COUNT, conversation, self.last_id)
        line = self.message(self.last_id) if about else _message((*row, *_NO_QUOTE, "[]"))
        facets = searching.facets(conversation, sender, line.kind, line.text)
        self._writer.defer(_INDEX, line.local_id, searching.said(line.text), facets)
        if own and not seq and len(self._unaccepted) < _KEPT and len(content[1]) <= _KEPT_BYTES:
            self._unaccepted[line.local_id] = line
        return line

    def accept(
        self, local_id: int, seq: int, time: int, number: int, *, life: int = 0, now: int = 0, recipients: int = 0
    ) -> Message:
        """Note our line's place in the log. Return the line. `life` as in `add`, after what `life_from` says.

        `recipients`: the people of whom it counts whether they have it.
        """
        line = self._unaccepted.pop(local_id, None) or self.message(local_id)
        self._writer.defer(
            "UPDATE messages SET place = ?, time = ?, number = ?, until = ?, recipients = ? WHERE local_id = ?",
            seq, time, number, _until(life_from(time, line.written, now), life), recipients, local_id,
        )  # fmt: skip
        return Message(
            local_id, line.conversation, seq, time, line.sender, line.own, line.text, line.trust, line.problem,
            line.kind, line.device, number, line.refers_to, line.written, line.doubt, line.quote, recipients=recipients,
            file=line.file,
        )  # fmt: skip

    def fail(self, local_id: int, problem: str) -> Message:
        """Note that our line cannot be sent, and why. Return the line."""
        self._unaccepted.pop(local_id, None)
        self._writer.run("UPDATE messages SET problem = ? WHERE local_id = ?", problem, local_id)
        return self.message(local_id)

    def mark(self, conversation: bytes, before: Mark, after: Mark) -> None:
        """Note that somebody has received and read more of what we have said than before."""
        for column, old, new in zip(Mark._fields, before, after, strict=True):
            if new > old:
                self._writer.run(
                    f"UPDATE messages SET {column} = {column} + 1 WHERE conversation = ? AND place > ? AND place <= ?"  # noqa: S608  # nosec B608  # our own
                    f" AND own AND {column} < recipients",
                    conversation, old, new,
                )  # fmt: skip

    # --- what becomes of a line -----------------------------------------------------------------------------------

    def named(self, conversation: bytes, name: Name) -> "Target | None":
        """Return the line of a message that is in the log, by the name that all have for it; None: it is not here."""
        row = self._writer.one(
            _TARGET + " WHERE conversation = ? AND device = ? AND number = ? ORDER BY local_id DESC LIMIT 1",
            conversation, *name,
        )  # fmt: skip
        return None if row is None else Target._make(row)

    def target(self, local_id: int) -> "Target | None":
        """Return a line by its local id; None: it is not here."""
        row = self._writer.one(_TARGET + " WHERE local_id = ?", local_id)
        return None if row is None else Target._make(row)

    def file(self, local_id: int) -> File | None:
        """Return the file that a line brings; None: none, or it is not here any more."""
        row = self._writer.one(
            "SELECT kind, body FROM messages WHERE local_id = ? AND deleted_by = '' AND (problem = '' OR own)", local_id
        )
        return None if row is None else file_of(*row)

    def edit(
        self, local_id: int, text: str, time: int,
        *, trust: Standing, doubt: str = "", since: int = 0, life: int = 0,
    ) -> Message:  # fmt: skip
        """Put another text in place of a line's, whose kind can be edited, at `time` (ms). Return the line.

        `life` and `since` as in `add`: the line goes when the text would, but not later than it would have anyway.
        `trust`: how its sender's key stands now, for what they say now. `doubt`: as in `add`; what there was stays.
        """
        kind, body, until = self._writer.one("SELECT kind, body, until FROM messages WHERE local_id = ?", local_id)
        ends = [each for each in (until, _until(since, life)) if each is not None]
        self._writer.run(
            "UPDATE messages SET body = ?, edited = ?, until = ?, trust = ?, doubt = iif(?5 = '', doubt, ?5)"
            " WHERE local_id = ?",
            with_text(kind, body, text), time, min(ends, default=None), trust, doubt, local_id,
        )  # fmt: skip
        line = self.message(local_id)
        self._writer.run("DELETE FROM search WHERE rowid = ?", local_id)
        facets = searching.facets(line.conversation, line.sender, line.kind, line.text)
        self._writer.run(_INDEX, local_id, searching.said(line.text), facets)
        return line

    def delete(self, local_id: int, by: str) -> Message:
        """Overwrite what a line says, with all that hangs on it: that there was one is left. Return it."""
        self._writer.run(
            "UPDATE messages SET body = x'', problem = '', edited = 0, deleted_by = ?, about = NULL,"
            " refers_to_device = NULL, refers_to_number = NULL WHERE local_id = ?",
            by, local_id,
        )  # fmt: skip
        self._writer.run("DELETE FROM reactions WHERE line = ?", local_id)
        self._writer.run("DELETE FROM search WHERE rowid = ?", local_id)
        return self.message(local_id)

    def react(
        self, local_id: int, text: str, account: str, author: bytes,
        *, hidden: bool = False, since: int = 0, life: int = 0,
    ) -> bool:  # fmt: skip
        """Put a reaction under a line; whether that changes anything: it may be there, or there are too many."""
        there, all_, own = self._writer.one(
            "SELECT total(author = ?1 AND text = ?2), count(*), total(author = ?1) FROM reactions WHERE line = ?3",
            author, text, local_id,
        )  # fmt: skip
        if there or all_ >= MAX_REACTIONS or own >= MAX_REACTIONS_EACH:
            return False
        self._writer.run(
            "INSERT INTO reactions (line, text, account, author, hidden, until) VALUES (?, ?, ?, ?, ?, ?)",
            local_id, text, account, author, hidden, _until(since, life),
        )  # fmt: skip
        return True

    def unreact(self, local_id: int, text: str, author: bytes) -> bool:
        """Take somebody's reaction back. Return whether there was one."""
        gone = self._writer.run(
            "DELETE FROM reactions WHERE line = ? AND text = ? AND author = ?", local_id, text, author
        )
        return bool(gone.rowcount)

    def reactions_of(self, local_id: int, author: bytes) -> list[str]:
        """Return somebody's reactions under a line."""
        rows = self._writer.all("SELECT text FROM reactions WHERE line = ? AND author = ?", local_id, author)
        return [text for (text,) in rows]

    # --- as a whole -----------------------------------------------------------------------------------------------

    def move(self, conversation: bytes, new: bytes, *, waiting_only: bool) -> None:
        """Move the lines of a conversation to another one: all, or those that still wait to be accepted."""
        self._unaccepted.clear()
        self._writer.run(
            "UPDATE messages SET conversation = ? WHERE conversation = ? AND (? OR (place >= ? AND problem = ''))",
            new, conversation, not waiting_only, UNACCEPTED,
        )  # fmt: skip
        self._writer.run(_SEEN_ALIKE, conversation, new)
        self._recount(conversation, new)

    def unanswered(self, conversation: bytes) -> int:
        """Count our lines of a conversation behind the newest of the others: nothing shows that they have come."""
        (count,) = self._writer.one(
            "SELECT count(*) FROM messages WHERE conversation = ? AND own AND place >"
            " (SELECT coalesce(max(place), 0) FROM messages WHERE conversation = ? AND NOT own)",
            conversation, conversation,
        )  # fmt: skip
        return int(count)

    def put_aside(self, conversation: bytes, new: bytes) -> None:
        """Have the lines that are in a log by now moved to another conversation, by `move_some`."""
        self._writer.run("INSERT OR IGNORE INTO moves VALUES (?, ?, ?)", conversation, self.last_id, new)
        self._writer.run(_SEEN_ALIKE, conversation, new)

    def is_moving(self, conversation: bytes | None = None) -> bool:
        """Whether a conversation, or any, still has lines that were put aside: nothing is read into it before."""
        row = self._writer.one("SELECT 1 FROM moves WHERE coalesce(conversation = ?, 1) LIMIT 1", conversation)
        return row is not None

    def move_some(self) -> bytes | None:
        """Move some of the lines that were put aside. Return the conversation that they go from, if there are any."""
        row = self._writer.one("SELECT conversation, last, new FROM moves ORDER BY last LIMIT 1")
        if row is None:
            return None
        conversation, last, new = row
        found = self._writer.all(
            "SELECT local_id, length(body) FROM messages WHERE conversation = ? AND place < ? AND local_id <= ?"
            " ORDER BY place DESC LIMIT ?",
            conversation, UNACCEPTED, last, MOVING_LINES,
        )  # fmt: skip
        sizes = accumulate(length for _, length in found)
        some = [local_id for (local_id, length), size in zip(found, sizes, strict=True) if size - length < ENDING_BYTES]
        self.move_lines(some, new)
        if len(some) == len(found) < MOVING_LINES:
            self._writer.run("DELETE FROM moves WHERE conversation = ? AND last = ?", conversation, last)
            self._recount(conversation, new)
        return bytes(conversation)

    def forget(self, conversation: bytes) -> None:
        """Delete the lines of a conversation in which none of ours waits."""
        self._writer.run("DELETE FROM messages WHERE conversation = ?", conversation)
        self._recount(conversation)

    def expire(self, now: int) -> tuple[list[bytes], bool]:
        """Delete lines, and reactions, whose life is over at `now` (ms): as many as go at once.

        Return the conversations that had any, and whether there are more.
        """
        less = self._writer.all(_REACTIONS_OVER, now, ENDING_LINES)
        self._writer.run_many("DELETE FROM reactions WHERE id = ?", [(each,) for each, _ in less])
        over, size = [], 0
        for local_id, conversation, length, unread, body in self._writer.all(_OVER, now, ENDING_LINES):
            over.append((local_id, bytes(conversation), unread))
            if body is not None and (file := file_of("file", body)) is not None and file.blob:
                self._writer.run("INSERT OR IGNORE INTO unshared VALUES (?, ?)", file.blob, conversation)
            size += length
            if size > ENDING_BYTES:
                break
        self._writer.run_many("DELETE FROM messages WHERE local_id = ?", [(local_id,) for local_id, *_ in over])
        uncounted = Counter(conversation for _, conversation, unread in over if unread)
        self._writer.run_many(
            "UPDATE unread SET lines = lines - ? WHERE conversation = ?",
            [(count, conversation) for conversation, count in uncounted.items()],
        )
        self._writer.run("DELETE FROM unread WHERE lines <= 0")
        more = len(less) == ENDING_LINES or len(over) == ENDING_LINES or size > ENDING_BYTES
        return sorted({*(bytes(conversation) for _, conversation in less), *(each for _, each, _ in over)}), more

    def move_lines(self, local_ids: list[int], new: bytes) -> None:
        """Move lines of our own to another conversation."""
        self._unaccepted.clear()
        self._writer.run_many(
            "UPDATE messages SET conversation = ? WHERE local_id = ?", [(new, local_id) for local_id in local_ids]
        )

    def hide(self, account: str, *, hidden: bool, kind: str = "open") -> None:
        """Take an account's lines in conversations of a kind out of all pages, or put them back."""
        changed = self._writer.all(
            "SELECT DISTINCT conversation FROM messages WHERE sender = ? AND own = 0 AND hidden != ?"
            " AND conversation IN (SELECT id FROM conversations WHERE kind = ?)",
            account, hidden, kind,
        )  # fmt: skip
        self._writer.run(
            "UPDATE reactions SET hidden = ? WHERE account = ? AND author != (SELECT identity_key FROM device)"
            " AND line IN (SELECT local_id FROM messages WHERE conversation IN"
            " (SELECT id FROM conversations WHERE kind = ?))",
            hidden, account, kind,
        )  # fmt: skip
        for (conversation,) in changed:
            self._writer.run(
                "UPDATE messages SET hidden = ? WHERE conversation = ? AND sender = ? AND own = 0",
                hidden, conversation, account,
            )  # fmt: skip
            self._recount(conversation)

    def any_over(self, now: int) -> bool:
        """Whether there is a line whose life is over at `now` (ms)."""
        return self._writer.one("SELECT 1 FROM messages WHERE until <= ? LIMIT 1", now) is not None

    def seen_of_others(self, conversation: bytes, local_id: int) -> int:
        """Return the seq of the newest line of others there, of those that came in up to a line; 0: there is none."""
        row = self._writer.one(
            "SELECT place FROM messages WHERE conversation = ? AND own = 0 AND hidden = 0 AND local_id <= ?"
            " ORDER BY place DESC LIMIT 1",
            conversation, local_id,
        )  # fmt: skip
        return 0 if row is None else int(row[0])

    def see(self, conversation: bytes, local_id: int) -> None:
        """Note that the user has been in a conversation, and seen what came in there up to a line, and no more."""
        self._writer.run("INSERT OR REPLACE INTO seen VALUES (?, ?)", conversation, local_id)
        self._recount(conversation)

    def go_to(self, conversation: bytes) -> None:
        """Note where the user is."""
        self._writer.run("INSERT OR REPLACE INTO place VALUES (1, ?)", conversation)

    def mark_shown(self, local_id: int) -> None:
        """Note that everything that came in up to a line was shown."""
        self._writer.run("UPDATE shown SET local_id = max(local_id, ?)", local_id)

    def _recount(self, *conversations: bytes) -> None:
        """Count the unread lines of conversations that lines have moved between, or gone from."""
        if len(conversations) > _FEW:
            self._writer.run("DELETE FROM unread")
            self._writer.run(_RECOUNT_ALL)
            return
        for conversation in conversations:
            self._writer.run("DELETE FROM unread WHERE conversation = ?", conversation)
            self._writer.run(_RECOUNT, conversation)


def life_from(time: int, written: int, now: int) -> int:
    """Return when the life of something begins that the server has dated so, and whose sender has written it then (ms).

    The later of both: a server that dates it back does not take it from its readers. But not after it came: so it does
    not live longer where either of the two dates it forward.
    """
    return min(max(time, written), now)


def _until(since: int, life: int) -> int | None:
    return since + life * 1000 if life else None


class Target(NamedTuple):
    """A line that something is about. Printing it shows who said it and no more."""

    local_id: int
    conversation: bytes
    account: str
    author: bytes  # the sender's identity key; empty: not known, of a line of an older vault
    device: bytes
    own: bool
    kind: str
    problem: str
    waits: bool  # it is not in the log yet
    hidden: bool
    deleted_by: str
    number: int


_TARGET: Final = (
    "SELECT local_id, conversation, sender, author, coalesce(device, x''), own, kind, problem,"  # noqa: S608  # nosec B608  # our own
    f" place >= {UNACCEPTED}, hidden, deleted_by, coalesce(number, 0) FROM messages"
)


def _message(row: Any) -> Message:
    local_id, conversation, place, time, sender, own, kind, body, device, number, *about = row[:12]
    trust, problem, written, doubt, answers, edited, deleted_by, *rest = row[12:]
    recipients, delivered, read, *quoted, reactions = rest
    text, why = _shown(kind, body, own=own, problem=problem, deleted_by=deleted_by)
    quote = None
    if answers is not None or (about[0] is not None and not problem):
        quote = _quote(answers or 0, *quoted)
    return Message(
        local_id,
        conversation,
        place if place < UNACCEPTED else 0,
        time,
        sender,
        bool(own),
        text,
        trust,
        why,
        kind,
        device or b"",
        number or 0,
        (about[0], about[1]) if about[0] is not None else None,
        written,
        doubt,
        quote,
        edited,
        deleted_by,
        _reactions(reactions) if reactions != "[]" else (),
        recipients,
        delivered,
        read,
        _attached(kind, body) if not (deleted_by or (problem and not own)) else None,
    )


def _attached(kind: str, body: bytes) -> Attached | None:
    file = file_of(kind, body)
    if file is None:
        return None
    description = file.text if file.text != file.name else ""
    return Attached(
        file.name, description, file.media_type, file.disposition, file.size, file.digest, not file.blob,
        file.thumbnail, file.milliseconds, file.waveform, file.width, file.height, file.until,
    )  # fmt: skip


def _shown(kind: str, body: bytes, *, own: int, problem: str, deleted_by: str) -> tuple[str, str]:
    """Return a line's text, and why it cannot be shown, or was not sent."""
    if deleted_by or (problem and not own):
        return "", problem
    text = line_of(kind, body)
    return (stand_in(kind, body), problem or CANNOT_SHOW) if text is None else (text, problem)


def _quote(
    local_id: int, sender: str | None, own: int | None, kind: str, body: bytes, problem: str, hidden: int, edited: int,
    deleted_by: str, trust: Standing,
) -> Quote:  # fmt: skip
    """Return what a line answers, in short; its columns are NULL where it is not here."""
    if sender is None:
        return Quote(0, state="absent")
    if hidden:
        return Quote(local_id, state="ignored")
    text, why = _shown(kind, body, own=own or 0, problem=problem, deleted_by=deleted_by)
    state: Any = "deleted" if deleted_by else "unreadable" if why and not own else ""
    return Quote(local_id, sender, bool(own), text[:MAX_QUOTE], edited, state, "accepted" if own or state else trust)


def _reactions(array: str) -> tuple[Reaction, ...]:
    """Return reactions by what they say, that which was first under the line first."""
    pairs = [(text, account) for text, account in json.loads(array)]
    first = {text: place for place, (text, _) in reversed([*enumerate(pairs)])}
    pairs.sort(key=lambda pair: first[pair[0]])
    return tuple(Reaction(text, tuple(account for _, account in of)) for text, of in groupby(pairs, itemgetter(0)))
