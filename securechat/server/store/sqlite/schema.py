"""The database's schema, as numbered steps that have led to it (docs/design.md, section 5, Store).

A new database takes all steps, an old one those that it lacks: in one transaction, so that after a crash at any instant
the old one is there, whole. A step that has been released is never changed; a change is a new step. `user_version`
holds the number of the last step taken.
"""

import sqlite3
from typing import Final

import msgspec

from securechat.identity.site_key import new_private

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

MIGRATIONS: Final[tuple[str, ...]] = (
    _FIRST, _RUNS, _HANDSHAKES, _CHECKPOINTS, _ROOMS, _SITE_KEY, _WORDS, _RESUMED,
)  # fmt: skip
"""Step n, at n - 1, leads from version n - 1 to n: statements of SQL, without BEGIN or COMMIT."""


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
    try:
        # One script: between its statements nothing commits.
        connection.executescript(
            f"BEGIN EXCLUSIVE;\n{steps}\n"
            f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;"
        )
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
