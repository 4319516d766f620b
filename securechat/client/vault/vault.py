"""The vault: everything one account keeps on this machine for one server, in one encrypted database.

    alice.vault        SQLCipher database (design, section 7): keys, groups, outbox, history
    alice.vault.key    its random key, wrapped under the password (`key_file`)
    alice.vault.lock   held while a process has the vault open

What it keeps: keys of the account and the device, pins, unused key packages, conversations with their place in the
log, the state of each group in its current epoch, our staged commit, the outbox, the history. What it deletes, and
overwrites (`secure_delete`): keys of used key packages, each group's past epochs and used message keys, everything but
the history of a conversation we are out of.

All changes happen inside `transaction()`: what belongs to one event becomes durable together or not at all
(invariant 5). One thread at a time: the caller holds a lock.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from sqlcipher3 import dbapi2 as sqlite

from securechat.client.events import Message, Trust
from securechat.client.vault import key_file
from securechat.errors import StorageError, UsageError
from securechat.files import PRIVATE, FileLock, make_private_folder
from securechat.identity.pins import Pin
from securechat.names import normalise_password

SCHEMA_VERSION: Final = 1

Phase = Literal["opening", "founding", "joining", "awaiting", "member", "resync", "stopped", "gone"]
"""Where a conversation stands between us and the server.

opening:  a direct one, not yet accepted; `founding`: a room, likewise; `joining`: our external commit into a room,
          likewise. What we asked for stands in `staged`, if it was asked already.
awaiting: the other one's direct conversation came first; its Welcome has not arrived yet.
member:   following the log. `resync`: our state does not fit the log, we enter anew before anything else.
stopped:  a commit cannot be processed or the history is not to be trusted; `/repair` decides.
gone:     we are out; only the history is left.
"""

_SCHEMA: Final = """
CREATE TABLE device (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  account TEXT NOT NULL, server_id BLOB NOT NULL, device_id BLOB NOT NULL,
  identity_private BLOB NOT NULL, signature_private BLOB NOT NULL, certificate BLOB NOT NULL,
  token BLOB NOT NULL, token_expires INTEGER NOT NULL, inbox_cursor INTEGER NOT NULL
) STRICT;
CREATE TABLE pins (
  account TEXT PRIMARY KEY, identity_key BLOB NOT NULL, verified INTEGER NOT NULL, changed_key BLOB
) STRICT;
CREATE TABLE key_packages (
  reference BLOB PRIMARY KEY, bundle BLOB NOT NULL, last_resort INTEGER NOT NULL, not_after INTEGER NOT NULL
) STRICT;
CREATE TABLE conversations (
  id BLOB PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, phase TEXT NOT NULL, created INTEGER NOT NULL,
  cursor INTEGER NOT NULL, chain BLOB NOT NULL, number INTEGER NOT NULL,
  sent_on_path INTEGER NOT NULL, path_time INTEGER NOT NULL,
  asked TEXT NOT NULL, own_bye INTEGER NOT NULL, their_bye INTEGER NOT NULL, closed INTEGER NOT NULL,
  epoch INTEGER NOT NULL, members TEXT NOT NULL
) STRICT;
CREATE TABLE groups (
  conversation BLOB PRIMARY KEY, public BLOB NOT NULL, secret BLOB NOT NULL
) STRICT;
CREATE TABLE staged (
  conversation BLOB PRIMARY KEY, number INTEGER NOT NULL, request BLOB NOT NULL, commit_state BLOB NOT NULL
) STRICT;
CREATE TABLE departures (
  conversation BLOB NOT NULL, leaf INTEGER NOT NULL, PRIMARY KEY (conversation, leaf)
) STRICT, WITHOUT ROWID;
CREATE TABLE numbers (
  conversation BLOB NOT NULL, device BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (conversation, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE chain (
  conversation BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE changes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, action TEXT NOT NULL, account TEXT NOT NULL,
  key_packages BLOB NOT NULL
) STRICT;
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL,
  local_id INTEGER NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_by_conversation ON outbox (conversation, id);
CREATE TABLE messages (
  local_id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,
  sender TEXT NOT NULL, own INTEGER NOT NULL, text TEXT NOT NULL, trust TEXT NOT NULL, problem TEXT NOT NULL
) STRICT;
CREATE INDEX messages_by_conversation ON messages (conversation, seq, local_id);
CREATE TABLE shown (local_id INTEGER NOT NULL) STRICT;
INSERT INTO shown VALUES (0);
"""

_WORKING_TABLES: Final = ("groups", "staged", "departures", "numbers", "chain", "changes", "outbox")
"""What a conversation needs while we are in it, by column `conversation`."""


@dataclass
class DeviceRow:
    """Who we are to this server."""

    account: str
    device_id: bytes
    identity_private: bytes = field(repr=False)  # 32 bytes, Ed25519
    signature_private: bytes = field(repr=False)  # 32 bytes, Ed25519
    server_id: bytes = b""  # empty until the first Hello
    certificate: bytes = b""  # the same: it names the server
    token: bytes = field(default=b"", repr=False)
    token_expires: int = 0  # milliseconds since 1970
    inbox_cursor: int = 0


@dataclass
class ConversationRow:
    """A conversation's place in its log, and what its people have agreed on."""

    id: bytes
    kind: Literal["direct", "invite", "open"]
    name: str  # the room's name, or the other account
    phase: Phase
    created: int  # milliseconds since 1970
    cursor: int = 0  # newest entry processed
    chain: bytes = bytes(32)  # chain value at the cursor
    number: int = 0  # newest of our submissions that stands in the log
    sent_on_path: int = 0  # our messages since our leaf key was last fresh
    path_time: int = 0  # when that was, milliseconds since 1970
    asked: Literal["", "ours", "theirs"] = ""  # an open request to talk, and whose
    own_bye: bool = False
    their_bye: bool = False
    closed: bool = False  # we say nothing more here but that we leave
    epoch: int = 0
    members: str = ""  # accounts in the tree, but for those that have left; sorted, separated by spaces


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


@dataclass(frozen=True)
class StagedRow:
    """Our commit, or another request that changes where we stand, on its way to the server."""

    number: int
    request: bytes = field(repr=False)  # the wire message, to be sent again as it is
    commit_state: bytes = field(repr=False)  # empty where the request holds no commit


@dataclass(frozen=True)
class ChangeRow:
    """A change of the members that the user asked for and no commit has made yet."""

    id: int
    action: Literal["add", "remove"]
    account: str
    key_packages: bytes = field(repr=False)  # of who is to be added; empty until they are fetched


class Vault:
    """An open vault. Made by `open`; `close` it."""

    def __init__(self, path: Path, account: str, connection: Any, lock: FileLock) -> None:
        """Not for callers: see `open`. The connection is of a library without type information."""
        self.path = path
        self.account = account
        self._connection = connection
        self._lock = lock
        self.discard_at_close = False

    @classmethod
    def open(cls, path: Path, account: str, password: str, *, cost: key_file.Cost = key_file.INTERACTIVE) -> "Vault":
        """Open the vault of `account` at `path`, or make it where there is none.

        `cost` matters only for a new one. Raises `StorageError`: held by another process, damaged, or not writable;
        for a wrong password, `key_file.WrongPasswordError`. Raises `UsageError` for what cannot be a password.
        """
        password = normalise_password(password)
        make_private_folder(path.parent)
        busy = f"The vault {path} is open in another program. Close that one first."
        lock = FileLock(_beside(path, ".lock"), busy=busy)
        try:
            return cls(path, account, _connect(path, account, password, cost), lock)
        except BaseException:
            lock.close()
            raise

    def __repr__(self) -> str:
        """Name the file only."""
        return f"Vault({str(self.path)!r})"

    def close(self) -> None:
        """Close the database and let other processes have it.

        With `discard_at_close` the files go: nobody ever logged in with this vault; its password may be a typing error.
        """
        try:
            self._connection.close()
            if self.discard_at_close:
                for suffix in ("", "-wal", "-shm", ".key"):
                    _beside(self.path, suffix).unlink(missing_ok=True)
        finally:
            self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes inside durable together; an exception undoes them. Raises `StorageError`."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            with suppress(sqlite.Error):  # the file itself failed: nothing of the transaction is in it
                self._connection.execute("ROLLBACK")
            raise

    # --- the device -----------------------------------------------------------------------------------------------

    def device(self) -> DeviceRow | None:
        """Return who we are, or None in a new vault."""
        row = self._one(
            "SELECT account, device_id, identity_private, signature_private, server_id, certificate, token,"
            " token_expires, inbox_cursor FROM device"
        )
        return None if row is None else DeviceRow(*row)

    def save_device(self, row: DeviceRow) -> None:
        """Keep who we are."""
        self._run(
            "REPLACE INTO device (id, account, device_id, identity_private, signature_private, server_id, certificate,"
            " token, token_expires, inbox_cursor) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row.account, row.device_id, row.identity_private, row.signature_private, row.server_id, row.certificate,
            row.token, row.token_expires, row.inbox_cursor,
        )  # fmt: skip

    def pin(self, account: str) -> Pin | None:
        """Return what we know of an account's identity key."""
        row = self._one("SELECT account, identity_key, verified, changed_key FROM pins WHERE account = ?", account)
        return None if row is None else Pin(row[0], row[1], verified=bool(row[2]), changed_key=row[3])

    def save_pin(self, pin: Pin) -> None:
        """Keep a pin."""
        self._run(
            "REPLACE INTO pins (account, identity_key, verified, changed_key) VALUES (?, ?, ?, ?)",
            pin.account, pin.identity_key, pin.verified, pin.changed_key,
        )  # fmt: skip

    def add_key_package(self, reference: bytes, bundle: bytes, *, last_resort: bool, not_after: int) -> None:
        """Keep the private side of a key package we are about to publish."""
        self._run("INSERT INTO key_packages VALUES (?, ?, ?, ?)", reference, bundle, last_resort, not_after)

    def key_package(self, reference: bytes) -> tuple[bytes, bool] | None:
        """Return the bundle of one of our key packages and whether it is a last-resort one."""
        row = self._one("SELECT bundle, last_resort FROM key_packages WHERE reference = ?", reference)
        return None if row is None else (row[0], bool(row[1]))

    def delete_key_package(self, reference: bytes) -> None:
        """Forget a key package that has been used."""
        self._run("DELETE FROM key_packages WHERE reference = ?", reference)

    def delete_expired_key_packages(self, before: int) -> None:
        """Forget key packages that nobody may use any more; `before` in seconds since 1970."""
        self._run("DELETE FROM key_packages WHERE not_after < ?", before)

    def newest_last_resort(self) -> int:
        """Return when the newest last-resort key package runs out, in seconds since 1970; 0 if there is none."""
        row = self._one("SELECT max(not_after) FROM key_packages WHERE last_resort")
        return int(row[0] or 0) if row else 0

    # --- conversations --------------------------------------------------------------------------------------------

    def conversations(self) -> list[ConversationRow]:
        """Return all conversations, oldest first."""
        rows = self._all(f"SELECT {', '.join(_COLUMNS)} FROM conversations ORDER BY rowid")  # noqa: S608  # nosec B608  # our own names
        return [_conversation(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def save_conversation(self, row: ConversationRow) -> None:
        """Keep a conversation's row, new or changed."""
        self._run(_SAVE_CONVERSATION, *(getattr(row, column) for column in _COLUMNS))

    def delete_conversation(self, conversation: bytes) -> None:
        """Forget a conversation that never came to be; its history must have moved elsewhere."""
        self.clear_working_state(conversation)
        self._run("DELETE FROM conversations WHERE id = ?", conversation)

    def clear_working_state(self, conversation: bytes) -> None:
        """Delete all secrets and queues of a conversation; its row and its history stay."""
        for table in _WORKING_TABLES:
            self._run(f"DELETE FROM {table} WHERE conversation = ?", conversation)  # noqa: S608  # nosec B608  # our own

    def rebind(self, conversation: bytes, new: bytes, *, everything: bool) -> None:
        """Move what waits to the conversation that came to be in its place; with `everything`, all of the history."""
        self._run("UPDATE outbox SET conversation = ? WHERE conversation = ?", new, conversation)
        self._run(
            "UPDATE messages SET conversation = ? WHERE conversation = ? AND (? OR (seq = 0 AND problem = ''))",
            new, conversation, everything,
        )  # fmt: skip

    def move_accepted(self, conversation: bytes, new: bytes) -> None:
        """Move the history that stands in a log to another conversation."""
        self._run("UPDATE messages SET conversation = ? WHERE conversation = ? AND seq != 0", new, conversation)

    def move_unsent(self, conversation: bytes, new: bytes) -> None:
        """Move messages that were never encrypted, with their lines in the history, to a newer conversation."""
        moved = self._all(
            "UPDATE outbox SET conversation = ? WHERE conversation = ? AND kind = 'message' AND payload = x''"
            " RETURNING local_id",
            new, conversation,
        )  # fmt: skip
        for (local_id,) in moved:
            self._run("UPDATE messages SET conversation = ? WHERE local_id = ?", new, local_id)

    def group(self, conversation: bytes) -> tuple[bytes, bytes] | None:
        """Return the public and the secret part of a group's state."""
        row = self._one("SELECT public, secret FROM groups WHERE conversation = ?", conversation)
        return None if row is None else (row[0], row[1])

    def save_group(self, conversation: bytes, public: bytes, secret: bytes) -> None:
        """Keep a group's state in a new epoch."""
        self._run("REPLACE INTO groups VALUES (?, ?, ?)", conversation, public, secret)

    def save_group_secret(self, conversation: bytes, secret: bytes) -> None:
        """Keep a group's state within an epoch: the tree has not changed, the ratchets have."""
        self._run("UPDATE groups SET secret = ? WHERE conversation = ?", secret, conversation)

    def staged(self, conversation: bytes) -> StagedRow | None:
        """Return our request on its way."""
        row = self._one("SELECT number, request, commit_state FROM staged WHERE conversation = ?", conversation)
        return None if row is None else StagedRow(*row)

    def save_staged(self, conversation: bytes, row: StagedRow) -> None:
        """Keep a request before it is sent."""
        self._run("REPLACE INTO staged VALUES (?, ?, ?, ?)", conversation, row.number, row.request, row.commit_state)

    def delete_staged(self, conversation: bytes) -> None:
        """Forget a request: it was answered, or another commit came first."""
        self._run("DELETE FROM staged WHERE conversation = ?", conversation)

    def departures(self, conversation: bytes) -> frozenset[int]:
        """Return the leaves that have left and are still in the tree."""
        rows = self._all("SELECT leaf FROM departures WHERE conversation = ?", conversation)
        return frozenset(leaf for (leaf,) in rows)

    def save_departures(self, conversation: bytes, leaves: frozenset[int]) -> None:
        """Replace the leaves that have left and are still in the tree."""
        self._run("DELETE FROM departures WHERE conversation = ?", conversation)
        for leaf in leaves:
            self._run("INSERT INTO departures VALUES (?, ?)", conversation, leaf)

    def last_number(self, conversation: bytes, device: bytes) -> int | None:
        """Return the newest number seen of another device; None if none was seen since we came."""
        row = self._one("SELECT number FROM numbers WHERE conversation = ? AND device = ?", conversation, device)
        return None if row is None else int(row[0])

    def save_number(self, conversation: bytes, device: bytes, number: int) -> None:
        """Keep the newest number seen of another device."""
        self._run("REPLACE INTO numbers VALUES (?, ?, ?)", conversation, device, number)

    def forget_numbers(self, conversation: bytes) -> None:
        """Forget the numbers of all devices: entries were skipped."""
        self._run("DELETE FROM numbers WHERE conversation = ?", conversation)

    def chain_value(self, conversation: bytes, seq: int) -> bytes | None:
        """Return the chain at `seq`, if that lies in the current epoch."""
        row = self._one("SELECT value FROM chain WHERE conversation = ? AND seq = ?", conversation, seq)
        return None if row is None else bytes(row[0])

    def add_chain_value(self, conversation: bytes, seq: int, value: bytes) -> None:
        """Keep the chain at `seq`."""
        self._run("REPLACE INTO chain VALUES (?, ?, ?)", conversation, seq, value)

    def delete_chain_before(self, conversation: bytes, seq: int) -> None:
        """Forget the chain of past epochs; `seq` is the commit that opened the current one."""
        self._run("DELETE FROM chain WHERE conversation = ? AND seq < ?", conversation, seq)

    def changes(self, conversation: bytes) -> list[ChangeRow]:
        """Return the changes of the members still to be made, oldest first."""
        rows = self._all(
            "SELECT id, action, account, key_packages FROM changes WHERE conversation = ? ORDER BY id", conversation
        )
        return [ChangeRow(*row) for row in rows]

    def add_change(self, conversation: bytes, action: Literal["add", "remove"], account: str) -> None:
        """Keep a change of the members to be made."""
        self._run(
            "INSERT INTO changes (conversation, action, account, key_packages) VALUES (?, ?, ?, x'')",
            conversation, action, account,
        )  # fmt: skip

    def save_change_packages(self, change: int, packages: bytes) -> None:
        """Keep the key packages for somebody to be added."""
        self._run("UPDATE changes SET key_packages = ? WHERE id = ?", packages, change)

    def delete_change(self, change: int) -> None:
        """Forget a change: it is made, or cannot be."""
        self._run("DELETE FROM changes WHERE id = ?", change)

    # --- outbox and history ---------------------------------------------------------------------------------------

    def enqueue(self, conversation: bytes, kind: Literal["message", "leave"], content: bytes, local_id: int) -> None:
        """Put something to submit at the end of a conversation's queue."""
        self._run(
            "INSERT INTO outbox (conversation, kind, content, local_id, number, epoch, payload)"
            " VALUES (?, ?, ?, ?, 0, 0, x'')",
            conversation, kind, content, local_id,
        )  # fmt: skip

    def outbox(self, conversation: bytes, limit: int) -> list[OutboxRow]:
        """Return the oldest `limit` things a conversation has to submit, oldest first."""
        rows = self._all(
            "SELECT id, kind, content, local_id, number, epoch, payload FROM outbox WHERE conversation = ?"
            " ORDER BY id LIMIT ?",
            conversation, limit,
        )  # fmt: skip
        return [OutboxRow(*row) for row in rows]

    def outbox_by_number(self, conversation: bytes, number: int) -> OutboxRow | None:
        """Return what was encrypted under `number`."""
        row = self._one(
            "SELECT id, kind, content, local_id, number, epoch, payload FROM outbox"
            " WHERE conversation = ? AND number = ?",
            conversation, number,
        )  # fmt: skip
        return None if row is None else OutboxRow(*row)

    def outbox_item(self, item: int) -> OutboxRow | None:
        """Return one thing to submit."""
        row = self._one(
            "SELECT id, kind, content, local_id, number, epoch, payload FROM outbox WHERE id = ?", item
        )
        return None if row is None else OutboxRow(*row)

    def last_own_number(self, conversation: bytes, in_log: int) -> int:
        """Return the newest number we can have used: `in_log`, or of what was encrypted or staged after it."""
        row = self._one(
            "SELECT max(number) FROM (SELECT number FROM outbox WHERE conversation = ?"
            " UNION ALL SELECT number FROM staged WHERE conversation = ? UNION ALL SELECT ?)",
            conversation, conversation, in_log,
        )  # fmt: skip
        return int(row[0])

    def has_outbox(self, conversation: bytes) -> bool:
        """Say whether anything waits to be submitted."""
        return self._one("SELECT 1 FROM outbox WHERE conversation = ? LIMIT 1", conversation) is not None

    def save_ciphertext(self, item: int, number: int, epoch: int, payload: bytes) -> None:
        """Keep the encrypted form of an item before it is sent."""
        self._run("UPDATE outbox SET number = ?, epoch = ?, payload = ? WHERE id = ?", number, epoch, payload, item)

    def void_ciphertexts(self, conversation: bytes) -> None:
        """Forget the encrypted form of all items: the server took none of them; they are encrypted anew, in order."""
        self._run("UPDATE outbox SET number = 0, epoch = 0, payload = x'' WHERE conversation = ?", conversation)

    def dequeue(self, item: int) -> None:
        """Forget an item: it stands in the log, or cannot be sent."""
        self._run("DELETE FROM outbox WHERE id = ?", item)

    def drop_outbox(self, conversation: bytes, problem: str) -> list[int]:
        """Give up what waits to be submitted; its lines in the history say why. Returns their local ids."""
        return self._drop(problem, "conversation = ?", conversation)

    def drop_submitted(self, conversation: bytes, number: int, problem: str) -> list[int]:
        """Give up what was encrypted under `number` or an earlier one, as `drop_outbox` does."""
        return self._drop(problem, "conversation = ? AND payload != x'' AND number <= ?", conversation, number)

    def _drop(self, problem: str, condition: str, *values: object) -> list[int]:
        rows = self._all(f"DELETE FROM outbox WHERE {condition} RETURNING local_id", *values)  # noqa: S608  # nosec B608  # our own
        local_ids = sorted(local_id for (local_id,) in rows if local_id)
        for local_id in local_ids:
            self._run("UPDATE messages SET problem = ? WHERE local_id = ?", problem, local_id)
        return local_ids

    def add_message(
        self,
        conversation: bytes,
        seq: int,
        time: int,
        sender: str,
        text: str,
        *,
        own: bool,
        trust: Trust,
        problem: str = "",
    ) -> Message:
        """Append a line to the history. Returns it with its local id."""
        cursor = self._run(
            "INSERT INTO messages (conversation, seq, time, sender, own, text, trust, problem)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            conversation, seq, time, sender, own, text, trust, problem,
        )  # fmt: skip
        return self.message(cursor.lastrowid)

    def accept_message(self, local_id: int, seq: int, time: int) -> Message:
        """Note where our line stands in the log. Returns the line."""
        self._run("UPDATE messages SET seq = ?, time = ? WHERE local_id = ?", seq, time, local_id)
        return self.message(local_id)

    def fail_message(self, local_id: int, problem: str) -> Message:
        """Note that our line cannot be sent. Returns the line."""
        self._run("UPDATE messages SET problem = ? WHERE local_id = ?", problem, local_id)
        return self.message(local_id)

    def message(self, local_id: int) -> Message:
        """Return one line of the history."""
        row = self._one(_MESSAGES + " WHERE local_id = ?", local_id)
        if row is None:
            raise UsageError("There is no such message.")
        return _message(row)

    def history(self, conversation: bytes, limit: int) -> list[Message]:
        """Return the newest `limit` lines in the log's order; those the server has not accepted yet come last."""
        rows = self._all(
            _MESSAGES + " WHERE conversation = ? ORDER BY seq = 0 DESC, seq DESC, local_id DESC LIMIT ?",
            conversation, limit,
        )  # fmt: skip
        return [_message(row) for row in reversed(rows)]

    def unread(self, limit: int) -> list[Message]:
        """Return the oldest `limit` lines of others that came in after the last one that was shown."""
        rows = self._all(
            _MESSAGES + " WHERE own = 0 AND local_id > (SELECT local_id FROM shown)"  # noqa: S608  # nosec B608  # our own
            " ORDER BY local_id LIMIT ?",
            limit,
        )  # fmt: skip
        return [_message(row) for row in rows]

    def mark_shown(self, local_id: int) -> None:
        """Note that the user has seen everything that came in up to a line."""
        self._run("UPDATE shown SET local_id = max(local_id, ?)", local_id)

    # --- SQL ------------------------------------------------------------------------------------------------------

    def _run(self, sql: str, *values: object) -> Any:
        try:
            return self._connection.execute(sql, values)
        except sqlite.Error as error:
            raise StorageError(f"The vault {self.path} cannot be used: {error}.") from error

    def _one(self, sql: str, *values: object) -> Any:
        return self._run(sql, *values).fetchone()

    def _all(self, sql: str, *values: object) -> list[Any]:
        return list(self._run(sql, *values).fetchall())


_COLUMNS: Final = tuple(column.name for column in fields(ConversationRow))
_SAVE_CONVERSATION: Final = (
    f"INSERT INTO conversations ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' for _ in _COLUMNS)})"  # noqa: S608  # nosec B608  # our own
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in _COLUMNS)}"
)
_MESSAGES: Final = "SELECT local_id, conversation, seq, time, sender, own, text, trust, problem FROM messages"


def _conversation(values: dict[str, Any]) -> ConversationRow:
    for flag in ("own_bye", "their_bye", "closed"):
        values[flag] = bool(values[flag])
    return ConversationRow(**values)


def _message(row: Any) -> Message:
    local_id, conversation, seq, time, sender, own, text, trust, problem = row
    return Message(local_id, conversation, seq, time, sender, bool(own), text, trust, problem)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, account: str, password: str, cost: key_file.Cost) -> Any:
    """Open or make the database. The lock is held, so nobody else is doing the same."""
    wrapped = _beside(path, ".key")
    if wrapped.exists():
        key = key_file.unlock(wrapped, password)
    elif path.exists():
        raise StorageError(f"The key file {wrapped} is missing; without it nothing opens the vault. Put a backup back.")
    else:
        key = key_file.create(wrapped, password, cost=cost)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))  # SQLite would make it readable for others
        # The core's lock sees to it that one thread at a time is in here.
        connection = sqlite.connect(str(path), isolation_level=None, check_same_thread=False)
    except (OSError, sqlite.Error) as error:
        raise StorageError(f"The vault {path} cannot be opened: {error}.") from error
    try:
        connection.execute("PRAGMA cipher_log_level = NONE")  # what is wrong we say ourselves
        connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {setting}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise StorageError(f"The vault {path} was written by a newer program. Use that one.")
        owner = connection.execute("SELECT account FROM device").fetchone()
        if owner is not None and owner[0] != account:
            raise StorageError(f"The vault {path} belongs to {owner[0]}, not to {account}.")
    except sqlite.Error as error:
        connection.close()
        raise StorageError(f"The vault {path} is damaged: {error}. Put a backup of it back.") from error
    except BaseException:
        connection.close()
        raise
    return connection
