"""Conversations: their rows and members, and the working state that exists only while we are in them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from securechat.client.message import Mark
from securechat.client.vault.database import Statements
from securechat.value import value

Phase = Literal[
    "opening", "founding", "joining", "awaiting", "recovered", "regaining", "member", "resync", "cut-off", "ahead",
    "stopped", "ended",
]
"""`client.conversations.phases` says what each means and what follows it."""


class PersonRow(NamedTuple):
    """One of those in a conversation: an account under one identity key."""

    account: str
    identity_key: bytes  # 32 bytes; empty in a conversation that ended before keys were kept
    door: int = 0  # the roster with which they came by a door, until the user confirms it; else 0


KEPT_MILLISECONDS: Final = 30 * 86_400_000
"""How long processed handshakes are kept: backups are younger."""

KEPT_BYTES: Final = 16 << 20
"""Of one conversation at most: 30 days of the largest room take 10 MB."""


KEPT_REFUSED: Final = 256
"""Digests of refused submissions that are kept of one conversation, 32 bytes each: the user hears of each refusal, or
waits longer after each."""


@dataclass
class ConversationRow:
    """A conversation's place in its log, and what its members have agreed on."""

    id: bytes
    kind: Literal["direct", "invite", "open"]
    name: str  # the room's name, or the other account
    phase: Phase
    created: int  # milliseconds since 1970
    cursor: int = 0  # newest entry processed
    chain: bytes = bytes(32)  # chain value at the cursor
    number: int = 0  # our newest submission in the log
    followed: int = 0  # when we last followed the log, milliseconds since 1970 by our own clock
    gap: int = 0  # in this epoch, messages before this seq were gone: `chain` is the one before it until we are there
    sent_on_path: int = 0  # our messages since our leaf key was last fresh
    path_time: int = 0  # when that was, milliseconds since 1970; 0: never, so a path comes at once
    asked: Literal["", "ours", "theirs"] = ""  # an open request to talk, and whose
    own_bye: bool = False
    their_bye: bool = False
    closed: bool = False  # we only leave, and say nothing more
    title: str = ""  # a room's second title, where another one goes by its name here (`registry.entitle`)
    topic: str = ""
    owners: str = ""  # accounts, with blanks between them
    inviters: str = ""
    life: int = 0  # seconds that what is said from now on lives; 0: for ever
    epoch: int = 0
    confirmed: int = 0  # when an owner has last signed the state, by their clock, milliseconds since 1970
    roster: int = 0  # rises whenever those in the conversation are others than before
    returned: int = 0  # the roster with which we came back after a long absence, until the user confirms; else 0
    theirs: int = 0  # seq of the newest line of somebody else
    seen: int = 0  # the same of those that a person has seen here
    told_delivered: int = 0  # up to which seq we have told the others that we have what they said
    told_read: int = 0  # and that we have read it
    persons: tuple[PersonRow, ...] = ()  # in the tree, without departed ones; sorted

    @property
    def members(self) -> tuple[str, ...]:
        """The accounts of those in the conversation, sorted."""
        return tuple(dict.fromkeys(person.account for person in self.persons))


@value
class StagedRow:
    """Our commit, or another request that changes our membership, on its way to the server."""

    number: int
    request: bytes = field(repr=False)  # the wire message, to be sent again unchanged
    commit_state: bytes = field(repr=False)  # empty if the request holds no commit


Action = Literal[
    "add", "remove", "replace", "owner", "no-owner", "inviter", "no-inviter", "bar", "unbar", "topic", "rename",
    "life",
]
"""`replace`: somebody's accepted key takes the place of the one that they have in the room."""


@value
class ChangeRow:
    """A change of the members or the rules that the user has asked for and no commit has made yet."""

    id: int
    action: Action
    value: str  # the account that it is about, or the new topic, name or life (seconds)
    data: bytes = field(repr=False)  # its key package, if it is to be added; the identity key, if it is to get a right


_FIELDS: Final = tuple(each.name for each in fields(ConversationRow) if each.name != "persons")
_COLUMNS: Final = tuple("hole" if name == "gap" else name for name in _FIELDS)  # its name in a step that was released
_LOAD: Final = f"SELECT {', '.join(_COLUMNS)} FROM conversations ORDER BY rowid"  # noqa: S608  # nosec B608  # our own
_SAVE: Final = (
    f"INSERT INTO conversations ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)})"  # noqa: S608  # nosec B608  # our own
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in _COLUMNS)}"
)

_WORKING_TABLES: Final = (
    "groups", "staged", "departures", "words", "revocations", "numbers", "chain", "changes", "outbox", "handshakes",
    "doubts", "refused", "heard", "anchors", "bearers", "marks",
)  # fmt: skip
"""Tables that a conversation needs while we are in it, by their column `conversation`."""


class MarkTable:
    """How far others have received and read what is said in the conversations that we are in."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self, conversation: bytes) -> dict[tuple[str, bytes], Mark]:
        """Return what is known of each, by account and identity key."""
        rows = self._database.all(
            "SELECT account, identity_key, delivered, read FROM marks WHERE conversation = ?", conversation
        )
        return {(account, key): Mark(*mark) for account, key, *mark in rows}

    def save(self, conversation: bytes, account: str, identity_key: bytes, mark: Mark) -> None:
        """Keep what is known of somebody, in place of what was."""
        self._database.run(
            "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?)", conversation, account, identity_key, *mark
        )

    def clear(self, conversation: bytes) -> None:
        """Forget all of them: the log starts over."""
        self._database.run("DELETE FROM marks WHERE conversation = ?", conversation)


class ConversationTable:
    """All conversations we are in, or were."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> list[ConversationRow]:
        """Return all conversations, oldest first."""
        persons: dict[bytes, list[PersonRow]] = {}
        found = self._database.all(
            "SELECT conversation, account, identity_key, door FROM members ORDER BY account, identity_key"
        )
        for conversation, *person in found:
            persons.setdefault(conversation, []).append(PersonRow(*person))
        rows = self._database.all(_LOAD)
        return [_row(dict(zip(_FIELDS, row, strict=True)), tuple(persons.get(row[0], ()))) for row in rows]

    def save(self, row: ConversationRow) -> None:
        """Keep a conversation's row, new or changed, except its members."""
        self._database.run(_SAVE, *(getattr(row, name) for name in _FIELDS))

    def save_persons(
        self, conversation: bytes, before: tuple[PersonRow, ...], after: tuple[PersonRow, ...]
    ) -> None:
        """Keep who is in a conversation; its rows hold `before`."""
        gone, new = set(before) - set(after), set(after) - set(before)
        database = self._database
        database.run_many(
            "DELETE FROM members WHERE conversation = ? AND account = ? AND identity_key = ?",
            [(conversation, person.account, person.identity_key) for person in gone],
        )
        database.run_many("INSERT INTO members VALUES (?, ?, ?, ?)", [(conversation, *person) for person in new])

    def heard(self, conversation: bytes) -> set[tuple[str, bytes]]:
        """Return which others have said or changed something since we came in: account and identity key."""
        rows = self._database.all("SELECT account, identity_key FROM heard WHERE conversation = ?", conversation)
        return set(rows)

    def hear(self, conversation: bytes, person: tuple[str, bytes]) -> None:
        """Keep that somebody has."""
        self._database.run("INSERT OR IGNORE INTO heard VALUES (?, ?, ?)", conversation, *person)

    def unhear(self, conversation: bytes, persons: Iterable[tuple[str, bytes]]) -> None:
        """Forget it of those who are not in it any more, or since we have come in anew."""
        rows: list[tuple[object, ...]] = [(conversation, *person) for person in persons]
        self._database.run_many(
            "DELETE FROM heard WHERE conversation = ? AND account = ? AND identity_key = ?", rows
        )

    def confirmed(self, conversation: bytes) -> set[tuple[str, bytes]]:
        """Return whom the user lets read an open room although their key is against what was decided."""
        rows = self._database.all("SELECT account, identity_key FROM confirmed WHERE conversation = ?", conversation)
        return set(rows)

    def confirm(self, conversation: bytes, persons: Iterable[tuple[str, bytes]]) -> None:
        """Keep that the user lets these read."""
        rows: list[tuple[object, ...]] = [(conversation, *person) for person in persons]
        self._database.run_many("INSERT OR IGNORE INTO confirmed VALUES (?, ?, ?)", rows)

    def unconfirm(self, account: str, identity_key: bytes) -> None:
        """Forget it for one key in all conversations: something newer was decided on it."""
        self._database.run("DELETE FROM confirmed WHERE account = ? AND identity_key = ?", account, identity_key)

    def delete(self, conversation: bytes) -> None:
        """Forget a conversation that never came to be; its history must have moved elsewhere."""
        self.clear_working_state(conversation)
        self._database.run("DELETE FROM members WHERE conversation = ?", conversation)
        self._database.run("DELETE FROM conversations WHERE id = ?", conversation)

    def clear_working_state(self, conversation: bytes) -> None:
        """Delete all secrets and queues of a conversation; its row and its history stay."""
        for table in _WORKING_TABLES:
            self._database.run(f"DELETE FROM {table} WHERE conversation = ?", conversation)  # noqa: S608  # nosec B608  # our own


class AnchorTable:
    """On whose word a conversation is entered that a recovered device knows from its keepsake alone."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self, conversation: bytes) -> list[tuple[str, bytes]]:
        """Return accounts, each with its identity key."""
        return self._database.all(
            "SELECT account, identity_key FROM anchors WHERE conversation = ? ORDER BY account", conversation
        )

    def save(self, conversation: bytes, anchors: Iterable[tuple[str, bytes]]) -> None:
        """Keep those of a new conversation."""
        rows: list[tuple[object, ...]] = [(conversation, *anchor) for anchor in anchors]
        self._database.run_many("INSERT OR IGNORE INTO anchors VALUES (?, ?, ?)", rows)

    def rely_on(self, conversation: bytes, way: str, certificate: bytes) -> None:
        """Keep by whose certificate, and on which way, a state came that we have asked to be let into."""
        self._database.run("REPLACE INTO bearers VALUES (?, ?, ?)", conversation, way, certificate)

    def relied_on(self, conversation: bytes) -> tuple[str, bytes] | None:
        """Return the way and the certificate."""
        row = self._database.one("SELECT way, certificate FROM bearers WHERE conversation = ?", conversation)
        return None if row is None else (row[0], row[1])

    def delete(self, conversation: bytes) -> None:
        """Forget all of it: we are in."""
        self._database.run("DELETE FROM anchors WHERE conversation = ?", conversation)
        self._database.run("DELETE FROM bearers WHERE conversation = ?", conversation)


class GroupTable:
    """MLS groups in their current epoch, our staged requests, departed leaves, and what the operator has said."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self, conversation: bytes) -> tuple[bytes, bytes] | None:
        """Return the public and the secret part of a group's state."""
        row = self._database.one("SELECT public, secret FROM groups WHERE conversation = ?", conversation)
        return None if row is None else (row[0], row[1])

    def save(self, conversation: bytes, public: bytes, secret: bytes) -> None:
        """Keep a group's state in a new epoch."""
        self._database.run("REPLACE INTO groups VALUES (?, ?, ?)", conversation, public, secret)

    def save_secret(self, conversation: bytes, secret: bytes) -> None:
        """Keep a group's state within an epoch: the tree has not changed, the ratchets have."""
        self._database.run("UPDATE groups SET secret = ? WHERE conversation = ?", secret, conversation)

    def staged(self, conversation: bytes) -> StagedRow | None:
        """Return our request on its way."""
        row = self._database.one(
            "SELECT number, request, commit_state FROM staged WHERE conversation = ?", conversation
        )
        return None if row is None else StagedRow(*row)

    def save_staged(self, conversation: bytes, row: StagedRow) -> None:
        """Keep a request before it is sent."""
        self._database.run(
            "REPLACE INTO staged VALUES (?, ?, ?, ?)", conversation, row.number, row.request, row.commit_state
        )

    def delete_staged(self, conversation: bytes) -> None:
        """Forget a request: it was answered, or another commit came first."""
        self._database.run("DELETE FROM staged WHERE conversation = ?", conversation)

    def departures(self, conversation: bytes) -> frozenset[int]:
        """Return the departed leaves."""
        rows = self._database.all("SELECT leaf FROM departures WHERE conversation = ?", conversation)
        return frozenset(leaf for (leaf,) in rows)

    def save_departures(self, conversation: bytes, leaves: frozenset[int]) -> None:
        """Replace the set of departed leaves."""
        self._database.run("DELETE FROM departures WHERE conversation = ?", conversation)
        self._database.run_many("INSERT INTO departures VALUES (?, ?)", [(conversation, leaf) for leaf in leaves])

    def words(self, conversation: bytes) -> list[bytes]:
        """Return what the operator has said and no commit has carried out, in order."""
        rows = self._database.all("SELECT word FROM words WHERE conversation = ? ORDER BY seq", conversation)
        return [word for (word,) in rows]

    def save_words(self, conversation: bytes, words: list[tuple[int, bytes]]) -> None:
        """Replace them, each with its seq."""
        self._database.run("DELETE FROM words WHERE conversation = ?", conversation)
        self._database.run_many("INSERT INTO words VALUES (?, ?, ?)", [(conversation, *word) for word in words])

    def revocations(self, conversation: bytes) -> list[bytes]:
        """Return the statements by which leaves are revoked that are still there."""
        rows = self._database.all("SELECT statement FROM revocations WHERE conversation = ?", conversation)
        return [statement for (statement,) in rows]

    def save_revocations(self, conversation: bytes, statements: list[bytes]) -> None:
        """Replace them."""
        self._database.run("DELETE FROM revocations WHERE conversation = ?", conversation)
        self._database.run_many("INSERT INTO revocations VALUES (?, ?)", [(conversation, each) for each in statements])


class RefusedTable:
    """Digests of what the server has refused for good."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def add(self, conversation: bytes, message: bytes) -> None:
        """Note that an MLS message was refused; the oldest gives way to more than `KEPT_REFUSED`."""
        self._database.run("INSERT OR IGNORE INTO refused VALUES (?, ?)", conversation, sha256(message).digest())
        self._database.run(
            "DELETE FROM refused WHERE conversation = ? AND rowid <= (SELECT rowid FROM refused WHERE conversation = ?"
            " ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
            conversation, conversation, KEPT_REFUSED,
        )  # fmt: skip

    def has(self, conversation: bytes, message: bytes) -> bool:
        """Whether an MLS message was refused."""
        sql = "SELECT 1 FROM refused WHERE conversation = ? AND digest = ?"
        return self._database.one(sql, conversation, sha256(message).digest()) is not None


class DoubtTable:
    """The members whose history contradicts ours, each with the weight of their word (`conversations.evidence`)."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self, conversation: bytes) -> dict[str, str]:
        """Return them all."""
        return dict(self._database.all("SELECT account, weight FROM doubts WHERE conversation = ?", conversation))

    def add(self, conversation: bytes, account: str, weight: str) -> None:
        """Note that a member contradicts."""
        self._database.run("INSERT OR REPLACE INTO doubts VALUES (?, ?, ?)", conversation, account, weight)

    def clear(self, conversation: bytes) -> None:
        """The user has compared, or our history begins anew."""
        self._database.run("DELETE FROM doubts WHERE conversation = ?", conversation)


class TrailTable:
    """What lies behind our cursor in each log: other devices' numbers, and the chain in runs of successive values."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def numbers(self, conversation: bytes) -> dict[bytes, int]:
        """Return the newest number seen of each other device."""
        return dict(self._database.all("SELECT device, number FROM numbers WHERE conversation = ?", conversation))

    def save_numbers(self, conversation: bytes, numbers: list[tuple[bytes, int]]) -> None:
        """Keep the newest numbers of devices."""
        self._database.run_many(
            "REPLACE INTO numbers VALUES (?, ?, ?)", [(conversation, *number) for number in numbers]
        )

    def clear_numbers(self, conversation: bytes) -> None:
        """Forget the numbers of all devices."""
        self._database.run("DELETE FROM numbers WHERE conversation = ?", conversation)

    def chain(self, conversation: bytes) -> list[tuple[int, bytes]]:
        """Return runs of the chain in order: the first one's seq, and values of 32 bytes one after the other."""
        return self._database.all("SELECT first, links FROM chain WHERE conversation = ? ORDER BY first", conversation)

    def add_chain(self, conversation: bytes, first: int, links: bytes) -> None:
        """Keep a run that goes on where the last one ends."""
        self._database.run("INSERT INTO chain VALUES (?, ?, ?)", conversation, first, links)

    def clear_chain(self, conversation: bytes) -> None:
        """Forget the chain."""
        self._database.run("DELETE FROM chain WHERE conversation = ?", conversation)


class HandshakeTable:
    """Commits and departures that we have processed, as they came: for a server that has lost them."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def add(self, conversation: bytes, seq: int, time: int, entry: bytes, chain: bytes) -> None:
        """Keep an encoded entry (`time` in ms) with the chain after it, and delete what is older than the limits."""
        self._database.run(
            "REPLACE INTO handshakes VALUES (?, ?, ?, ?, ?, ?)", conversation, seq, time, len(entry), entry, chain
        )
        self._database.run(
            "DELETE FROM handshakes WHERE conversation = ? AND (time < ? OR seq <= (SELECT max(seq) FROM"
            " (SELECT seq, sum(size) OVER (ORDER BY seq DESC) AS total FROM handshakes WHERE conversation = ?)"
            " WHERE total > ?))",
            conversation, time - KEPT_MILLISECONDS, conversation, KEPT_BYTES,
        )  # fmt: skip

    def load(self, conversation: bytes, after: int) -> list[tuple[int, bytes, bytes]]:
        """Return what is kept after `after`: seq, encoded entry, chain after it (empty if it is not known)."""
        return self._database.all(
            "SELECT seq, entry, chain FROM handshakes WHERE conversation = ? AND seq > ? ORDER BY seq",
            conversation, after,
        )  # fmt: skip


class ChangeTable:
    """Changes of the members and the rules that the user asked for and no commit has made yet."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self, conversation: bytes) -> list[ChangeRow]:
        """Return the changes still to be made, oldest first."""
        rows = self._database.all(
            "SELECT id, action, value, data FROM changes WHERE conversation = ? ORDER BY id", conversation
        )
        return [ChangeRow(*row) for row in rows]

    def add(self, conversation: bytes, action: Action, value: str, data: bytes = b"") -> int:
        """Keep a change to be made. Returns its id."""
        cursor = self._database.run(
            "INSERT INTO changes (conversation, action, value, data) VALUES (?, ?, ?, ?)",
            conversation, action, value, data,
        )  # fmt: skip
        return int(cursor.lastrowid)

    def save_package(self, change: int, package: bytes) -> None:
        """Keep the key package for somebody to be added."""
        self._database.run("UPDATE changes SET data = ? WHERE id = ?", package, change)

    def delete(self, change: int) -> None:
        """Forget a change: it is made, or cannot be."""
        self._database.run("DELETE FROM changes WHERE id = ?", change)


def _row(values: dict[str, Any], persons: tuple[PersonRow, ...]) -> ConversationRow:
    for flag in ("own_bye", "their_bye", "closed"):
        values[flag] = bool(values[flag])
    return ConversationRow(**values, persons=persons)
