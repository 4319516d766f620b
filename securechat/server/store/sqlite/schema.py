"""The database's schema, as numbered steps that have led to it (docs/design.md, section 5, Store).

A new database takes all steps, an old one those that it lacks: in one transaction, so that after a crash at any instant
the old one is there, whole. A step that has been released is never changed; a change is a new step. `user_version`
holds the number of the last step taken.
"""

import sqlite3
from typing import Final

import msgspec

from securechat.identity.certificate import DeviceCertificate
from securechat.identity.site_key import new_private
from securechat.identity.statements import decode_link

APPLICATION_ID: Final = 0x5343_4854
"""`application_id`, "SCHT": tells our files from other databases."""

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE conversations (
    ref INTEGER PRIMARY KEY AUTOINCREMENT,  -- the tail may still hold entries of a deleted one
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    seq INTEGER NOT NULL,          -- this and the next three: of no older an entry than the last that left the tail
    time INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    chain BLOB NOT NULL,
    group_info BLOB NOT NULL,
    first_seq INTEGER NOT NULL,
    held_bytes INTEGER NOT NULL,
    snapshot BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX rooms ON conversations (name) WHERE name != '';
CREATE TABLE pairs (low TEXT, high TEXT, conversation INTEGER NOT NULL, PRIMARY KEY (low, high)) STRICT, WITHOUT ROWID;
CREATE INDEX pairs_by_conversation ON pairs (conversation);
CREATE TABLE commits (
    conversation INTEGER, seq INTEGER, time INTEGER NOT NULL, message BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT;
CREATE TABLE members (
    conversation INTEGER, device BLOB, account TEXT NOT NULL,
    join_seq INTEGER NOT NULL, join_chain BLOB NOT NULL, last_seq INTEGER, cursor INTEGER NOT NULL,
    PRIMARY KEY (conversation, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_device ON members (device);
CREATE TABLE departed (
    conversation INTEGER, device BLOB, leaf INTEGER NOT NULL, proposal BLOB NOT NULL, group_context BLOB NOT NULL,
    PRIMARY KEY (conversation, device)
) STRICT;
CREATE TABLE numbers (
    conversation INTEGER, device BLOB, last INTEGER NOT NULL, answers BLOB NOT NULL,
    PRIMARY KEY (conversation, device)
) STRICT;

CREATE TABLE tail (
    id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,
    device BLOB NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL, chain BLOB NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE TABLE history (
    conversation INTEGER, seq INTEGER, time INTEGER NOT NULL, device BLOB NOT NULL, number INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (conversation, seq)
) STRICT;

CREATE TABLE letters (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, conversation BLOB NOT NULL, join_seq INTEGER NOT NULL,
    chain BLOB NOT NULL, welcome BLOB NOT NULL, tree BLOB NOT NULL, departed BLOB NOT NULL
) STRICT;
CREATE TABLE inbox (device BLOB, seq INTEGER, letter INTEGER NOT NULL, PRIMARY KEY (device, seq)) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_by_letter ON inbox (letter);
CREATE TABLE inbox_heads (device BLOB PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE identities (account TEXT PRIMARY KEY, identity_key BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE devices (device BLOB PRIMARY KEY, account TEXT NOT NULL, certificate BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_account ON devices (account);
CREATE TABLE key_packages (
    id INTEGER PRIMARY KEY, device BLOB NOT NULL, last_resort INTEGER NOT NULL, key_package BLOB NOT NULL
) STRICT;
CREATE INDEX key_packages_by_device ON key_packages (device, last_resort, id);
"""

_RUNS = """
ALTER TABLE tail RENAME TO old_tail;
CREATE TABLE tail (
    id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, time INTEGER NOT NULL, size INTEGER NOT NULL, entries BLOB NOT NULL
) STRICT;
INSERT INTO tail
    SELECT id, conversation, seq, seq, time, length(payload),
        packed_entry(seq, time, device, number, epoch, chain, payload) FROM old_tail ORDER BY id;
DROP TABLE old_tail;

ALTER TABLE history RENAME TO old_history;
CREATE TABLE history (
    conversation INTEGER,
    first INTEGER NOT NULL, last INTEGER NOT NULL, time INTEGER NOT NULL, size INTEGER NOT NULL, entries BLOB NOT NULL,
    PRIMARY KEY (conversation, last)
) STRICT;
INSERT INTO history
    SELECT conversation, seq, seq, time, length(payload),
        packed_entry(seq, time, device, number, 0, x'', payload) FROM old_history ORDER BY conversation, seq;
DROP TABLE old_history;

UPDATE numbers SET answers = x'';
"""
"""Entries are kept in runs (`tail`): several of one conversation in a row, which costs SQLite less than a row for each.
Answers to retries hold chains in place of digests. The old ones are forgotten: clients learn from `Subscribed` and from
the log what had been accepted before the server was updated."""

_HANDSHAKES = """
CREATE TABLE handshakes (
    conversation INTEGER, seq INTEGER, time INTEGER NOT NULL,
    opens INTEGER NOT NULL,        -- 1: a commit, which opens an epoch
    size INTEGER NOT NULL,         -- 0: from before handshakes were kept; the group needs it, and no reader gets it
    entries BLOB NOT NULL,         -- a run of one
    PRIMARY KEY (conversation, seq)
) STRICT;
INSERT INTO handshakes
    SELECT conversation, seq, time, 1, 0, packed_entry(seq, time, x'', 0, 0, x'', message) FROM commits
    ORDER BY conversation, seq;
DROP TABLE commits;
ALTER TABLE conversations ADD COLUMN snapshot_seq INTEGER NOT NULL DEFAULT 0;  -- `snapshot` includes commits up to here
ALTER TABLE conversations ADD COLUMN handshake_bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX handshake_bytes ON conversations (handshake_bytes);
UPDATE numbers SET answers = x'';
"""
"""Commits and departures are kept longer than messages, and a public group is rebuilt from them. The chain covers more
than before, so that answers to retries are forgotten once more."""

_CHECKPOINTS = """
CREATE TABLE checkpoints (
    conversation INTEGER, account TEXT, seq INTEGER NOT NULL, time INTEGER NOT NULL, chain BLOB NOT NULL,
    group_info BLOB NOT NULL, tree BLOB NOT NULL, departed BLOB NOT NULL, PRIMARY KEY (conversation, account)
) STRICT;
"""

_ROOMS = """
ALTER TABLE conversations ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN owner_time INTEGER NOT NULL DEFAULT 0;
"""
"""Rooms have a topic, and lose their name some time after the newest commit by an owner."""

_SITE_KEY = """
INSERT INTO meta VALUES ('site_key', new_private());
"""
"""The private half of the site key stands beside the server's id."""

_WORDS = """
CREATE TABLE words (
    conversation INTEGER, seq INTEGER, word BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
"""
"""What the operator has said and nobody has carried out."""

_RESUMED = """
ALTER TABLE conversations ADD COLUMN resumed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN lost_after INTEGER NOT NULL DEFAULT 0;
"""
"""Where logs went on after the server was restored from a backup, and what is left from before that."""

_TOKENS = """
CREATE TABLE tokens (
    account TEXT, device BLOB, hash BLOB NOT NULL UNIQUE, generation INTEGER NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (account, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_by_end ON tokens (expires);
"""
"""Resume tokens stand beside the directory. Those of before, in the file of accounts, were bound to no key."""

_CHAINS = """
CREATE TABLE chains (
    account TEXT, identity_key BLOB, seq INTEGER, time INTEGER NOT NULL, link BLOB NOT NULL,
    PRIMARY KEY (account, identity_key, seq)
) STRICT, WITHOUT ROWID;
"""
"""What identity keys have signed. Devices that were published before do so again when they log in."""

_DEPARTED = """
ALTER TABLE departed RENAME COLUMN group_context TO state;
UPDATE departed SET state = substr(state, 47, 32) || substr(state, 80, 32) WHERE state != x'';
DELETE FROM checkpoints WHERE departed != x'90';  -- owners make others
"""
"""Of the epoch in which a device has left its proof keeps tree hash and transcript hash, and the rules no more."""

_REVOCATIONS = """
CREATE TABLE revocations (
    conversation INTEGER, seq INTEGER, statement BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
ALTER TABLE members ADD COLUMN identity_key BLOB NOT NULL DEFAULT x'';
ALTER TABLE checkpoints ADD COLUMN revocations BLOB NOT NULL DEFAULT x'90';
"""
"""What was revoked and is still in a tree; which key a member's leaf is under, so that no tree is needed to tell whom a
statement is about. A checkpoint of before has none (an empty list)."""

_BRANCHES = """
CREATE TABLE branch_points (
    conversation INTEGER PRIMARY KEY, seq INTEGER NOT NULL, time INTEGER NOT NULL, epoch INTEGER NOT NULL,
    group_info BLOB NOT NULL, snapshot BLOB NOT NULL, snapshot_seq INTEGER NOT NULL,
    members BLOB NOT NULL, departed BLOB NOT NULL, revocations BLOB NOT NULL
) STRICT;
"""
"""Conversations as they were in the backup: the branch that goes on from there may turn out to be another one."""

_SUCCESSIONS = """
CREATE INDEX members_by_account ON members (account);
ALTER TABLE revocations ADD COLUMN leafless INTEGER NOT NULL DEFAULT 0;
"""
"""An identity key has leaves under any of its devices; what it stated may have to wait when those are gone."""

_KEEPSAKES = """
CREATE TABLE keepsakes (
    account TEXT PRIMARY KEY, identity_key BLOB NOT NULL, number INTEGER NOT NULL, keepsake BLOB NOT NULL
) STRICT;
"""
"""What accounts leave for the day when their devices are gone."""

_LEAVES = """
ALTER TABLE members ADD COLUMN leaf_seq INTEGER NOT NULL DEFAULT 0;
DELETE FROM branch_points;  -- they hold members as they were before this step
"""
"""A statement revokes the certificates before it: which one a member's leaf is under."""

_DEVICE_IDS = """
CREATE TABLE device_ids (device BLOB PRIMARY KEY, account TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO device_ids SELECT device, account FROM devices;
INSERT OR IGNORE INTO device_ids SELECT device, account FROM members;
"""
"""A device id belongs to its first account for ever: logs, inboxes and numbers go by it, and outlive the device."""

_OWNER = "coalesce((SELECT account FROM device_ids WHERE device = {0}.device), '')"

_HOLD = """
CREATE TRIGGER {table}_come AFTER INSERT ON {table} BEGIN
    INSERT INTO held VALUES ({new_account}, {new_size})
        ON CONFLICT (account) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER {table}_change AFTER UPDATE OF {columns} ON {table} BEGIN
    UPDATE held SET bytes = bytes - {old_size} + {new_size} WHERE account = {new_account};
END;
CREATE TRIGGER {table}_go AFTER DELETE ON {table} BEGIN
    UPDATE held SET bytes = bytes - {old_size} WHERE account = {old_account};
END;
"""

_COUNT = """
INSERT INTO held SELECT {account}, sum({size}) FROM {table} WHERE true GROUP BY 1
    ON CONFLICT (account) DO UPDATE SET bytes = bytes + excluded.bytes;
"""


def _hold(template: str, table: str, account: str, *columns: str) -> str:
    """Statements by which `held` has what stands in some columns of a table. `account`: whose a row `{0}` is."""
    size = "(" + " + ".join("length({0}." + column + ")" for column in columns) + ")"
    return template.format(
        table=table, columns=", ".join(columns), account=account.format(table), size=size.format(table),
        new_account=account.format("NEW"), new_size=size.format("NEW"),
        old_account=account.format("OLD"), old_size=size.format("OLD"),
    )  # fmt: skip


_HELD_TABLES = """
CREATE TABLE held (account TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;

ALTER TABLE tail RENAME TO old_tail;
CREATE TABLE tail (
    id INTEGER PRIMARY KEY, conversation INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, time INTEGER NOT NULL, size INTEGER NOT NULL,
    account TEXT NOT NULL,         -- who has written it; empty: the operator
    entries BLOB NOT NULL
) STRICT;
INSERT INTO tail SELECT id, conversation, first, last, time, size,
    coalesce((SELECT account FROM device_ids WHERE device = device_of(entries)), ''), entries FROM old_tail ORDER BY id;
DROP TABLE old_tail;

ALTER TABLE history ADD COLUMN account TEXT NOT NULL DEFAULT '';
UPDATE history SET account = coalesce((SELECT account FROM device_ids WHERE device = device_of(entries)), '');
ALTER TABLE handshakes ADD COLUMN account TEXT NOT NULL DEFAULT '';
UPDATE handshakes SET account = coalesce((SELECT account FROM device_ids WHERE device = device_of(entries)), '');
ALTER TABLE letters ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN founder TEXT NOT NULL DEFAULT '';
UPDATE conversations SET founder = coalesce(
        (SELECT account FROM members WHERE conversation = ref AND join_seq <= 1 ORDER BY join_seq, account LIMIT 1), ''
    ) WHERE kind = 'direct' OR owner_time > 0;  -- what the operator has named belongs to nobody
CREATE INDEX conversations_by_founder ON conversations (founder) WHERE founder != '';
"""

_CHARGED = (
    ("history", "{0}.account", "entries"),
    ("handshakes", "{0}.account", "entries"),
    ("letters", "{0}.account", "welcome", "tree", "departed"),
    ("checkpoints", "{0}.account", "group_info", "tree", "departed", "revocations"),
    ("conversations", "{0}.founder", "group_info", "snapshot"),
    ("numbers", _OWNER, "answers"),
    ("key_packages", _OWNER, "key_package"),
    ("devices", "{0}.account", "certificate"),
    ("chains", "{0}.account", "link"),
    ("keepsakes", "{0}.account", "keepsake"),
)

_HELD = _HELD_TABLES + "".join(_hold(template, *each) for each in _CHARGED for template in (_HOLD, _COUNT))
"""What each account has written and is kept, in bytes: `held` has it of all tables but `tail`, whose sums are in memory
as the rest of its index is. Triggers keep it, so that no statement can forget to; a REPLACE fires them because of
`recursive_triggers` (`writer`). Entries of before this step are of the account that their device belongs to, and
letters are nobody's: they have gone within a month."""

_CERTIFIED_IDS = """
INSERT OR IGNORE INTO device_ids
    SELECT certified_id(link), account FROM chains WHERE certified_id(link) IS NOT NULL ORDER BY time;
"""
"""Those too that had been dropped again, and were in no conversation, when the step before was taken."""

_USED_TOKENS = """
ALTER TABLE tokens ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
"""
"""When its device came in last, for `/sessions`."""

_COUNTED = "".join(("DELETE FROM held;", *(_hold(_COUNT, *each) for each in _CHARGED)))
"""What those devices have left is their accounts'."""

_LISTED = """
CREATE INDEX rooms_by_kind ON conversations (kind, name, topic) WHERE name != '';
"""
"""A list of rooms is made without their groups, which lie in the same table."""

_DEAD = """
CREATE TABLE dead (ref INTEGER PRIMARY KEY) STRICT;
"""
"""Conversations that were deleted, and of which rows are left: they go a portion at a time (`tidying`)."""

_DELETED_MEMBERS = """
CREATE TABLE deleted_members (
    conversation INTEGER, device BLOB, account TEXT NOT NULL, PRIMARY KEY (conversation, device)
) STRICT, WITHOUT ROWID;
"""
"""Members whose accounts were deleted while they were in: of those before this step nothing is known."""

_LETTERS_BY_TIME = """
CREATE INDEX letters_by_time ON letters (time);
"""
"""Those that are too old are found without a look at all others."""

_LETTER_REVOCATIONS = """
ALTER TABLE letters ADD COLUMN revocations BLOB NOT NULL DEFAULT x'';
DROP TRIGGER letters_come;
DROP TRIGGER letters_change;
DROP TRIGGER letters_go;
""" + _hold(_HOLD, "letters", "{0}.account", "welcome", "tree", "departed", "revocations")
"""Whoever is added by a Welcome needs the statements that wait, as all others do. Empty: none, as in letters of before
this step."""

_BLOBS = """
CREATE TABLE blobs (
    conversation INTEGER, blob BLOB,
    file BLOB NOT NULL UNIQUE,
    account TEXT NOT NULL, device BLOB NOT NULL,  -- who uploads it
    size INTEGER NOT NULL,
    seq INTEGER NOT NULL,          -- 0: it is not whole yet
    expires INTEGER NOT NULL,
    PRIMARY KEY (conversation, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_account ON blobs (account);
CREATE INDEX blobs_by_end ON blobs (expires);
CREATE TABLE blob_bytes (
    account TEXT PRIMARY KEY, bytes INTEGER NOT NULL, unfinished INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE dropped_blobs (file BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TRIGGER blobs_come AFTER INSERT ON blobs BEGIN
    INSERT INTO blob_bytes VALUES (NEW.account, NEW.size, NEW.seq = 0)
        ON CONFLICT (account) DO UPDATE
        SET bytes = bytes + excluded.bytes, unfinished = unfinished + excluded.unfinished;
END;
CREATE TRIGGER blobs_change AFTER UPDATE OF seq ON blobs BEGIN
    UPDATE blob_bytes SET unfinished = unfinished - (OLD.seq = 0) + (NEW.seq = 0) WHERE account = NEW.account;
END;
CREATE TRIGGER blobs_go AFTER DELETE ON blobs BEGIN
    UPDATE blob_bytes SET bytes = bytes - OLD.size, unfinished = unfinished - (OLD.seq = 0)
        WHERE account = OLD.account;
    INSERT OR IGNORE INTO dropped_blobs VALUES (OLD.file);
END;
"""
"""Blobs, whose bytes lie in a folder of their own; how many bytes of them each account has; and which files nobody
needs any more, until they are deleted. Triggers keep the last two, so that no statement can forget to."""

MIGRATIONS: Final[tuple[str, ...]] = (
    _FIRST, _RUNS, _HANDSHAKES, _CHECKPOINTS, _ROOMS, _SITE_KEY, _WORDS, _RESUMED, _TOKENS, _CHAINS,
    _DEPARTED, _REVOCATIONS, _BRANCHES, _SUCCESSIONS,
    _KEEPSAKES, _LEAVES, _DEVICE_IDS, _HELD, _CERTIFIED_IDS, _USED_TOKENS, _COUNTED, _LISTED, _DEAD,
    _DELETED_MEMBERS, _LETTERS_BY_TIME, _LETTER_REVOCATIONS, _BLOBS,
)  # fmt: skip
"""Step n, at n - 1, leads from version n - 1 to n: statements of SQL, without BEGIN or COMMIT."""


def _certified_id(link: bytes) -> bytes | None:
    decoded = decode_link(link)
    return decoded.device_id if isinstance(decoded, DeviceCertificate) else None


def application_of(connection: sqlite3.Connection) -> int:
    """Return the application_id."""
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    return int(found)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of steps that a database has taken; 0: it is empty."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def migrate(connection: sqlite3.Connection) -> None:
    """Take the steps that are missing, all or none. Raises sqlite3.Error."""
    version = version_of(connection)
    if version == len(MIGRATIONS):
        return
    steps = "\n".join(MIGRATIONS[version:])
    connection.create_function("packed_entry", 7, lambda *entry: msgspec.msgpack.encode([entry]), deterministic=True)
    connection.create_function("new_private", 0, new_private)
    connection.create_function("device_of", 1, lambda run: msgspec.msgpack.decode(run)[0][2], deterministic=True)
    connection.create_function("certified_id", 1, _certified_id, deterministic=True)
    try:
        # One script: between its statements nothing commits.
        connection.executescript(
            f"BEGIN EXCLUSIVE;\n{steps}\n"
            f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;"
        )
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
