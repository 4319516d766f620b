"""The vault's schema, as the steps that have led to it, each numbered by its place (docs/design.md, section 7).

A new vault takes all steps, an old one those that it lacks: in one transaction, so that after a crash at any instant
the old one is there, whole. A step that has been released is never changed; a change is a new step at the end.
`user_version` holds the number of the last step taken.
"""

import json
from typing import Any, Final

import msgspec

from securechat.identity.certificate import certificate_of
from securechat.mls.public_group import PublicGroup

_FIRST: Final = """
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

_CONTENT: Final = """
ALTER TABLE messages RENAME TO old_messages;
CREATE TABLE messages (
  local_id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL,
  place INTEGER NOT NULL,        -- seq; 2^62 + local_id until the server has accepted the line
  time INTEGER NOT NULL, sender TEXT NOT NULL, own INTEGER NOT NULL,
  kind TEXT NOT NULL, body BLOB NOT NULL,  -- as in the envelope; both empty where nothing could be decrypted
  device BLOB, number INTEGER,   -- these two name the message for everybody; NULL where they are not known
  refers_to_device BLOB, refers_to_number INTEGER,  -- the name of another message that this one is about, or NULL
  trust TEXT NOT NULL, problem TEXT NOT NULL
) STRICT;
DELETE FROM sqlite_sequence WHERE name = 'messages';
INSERT INTO messages
  SELECT local_id, conversation, iif(seq = 0, 4611686018427387904 + local_id, seq), time, sender, own,
    iif(own OR problem = '', 'text', ''), iif(own OR problem = '', text_body(text), x''),
    iif(own, (SELECT device_id FROM device), NULL), NULL, NULL, NULL, trust, problem
  FROM old_messages ORDER BY local_id;
DELETE FROM sqlite_sequence WHERE name = 'messages';
UPDATE sqlite_sequence SET name = 'messages' WHERE name = 'old_messages';
DROP TABLE old_messages;
CREATE INDEX messages_in_order ON messages (conversation, place, local_id);

CREATE TABLE members (
  conversation BLOB NOT NULL, account TEXT NOT NULL, PRIMARY KEY (conversation, account)
) STRICT, WITHOUT ROWID;
WITH RECURSIVE split(conversation, account, rest) AS (
  SELECT id, '', members || ' ' FROM conversations
  UNION ALL
  SELECT conversation, substr(rest, 1, instr(rest, ' ') - 1), substr(rest, instr(rest, ' ') + 1)
  FROM split WHERE rest != ''
)
INSERT INTO members SELECT conversation, account FROM split WHERE account != '';
ALTER TABLE conversations DROP COLUMN members;
UPDATE conversations SET phase = 'ended' WHERE phase = 'gone';

ALTER TABLE chain RENAME TO old_chain;
CREATE TABLE chain (
  conversation BLOB NOT NULL, first INTEGER NOT NULL, links BLOB NOT NULL, PRIMARY KEY (conversation, first)
) STRICT;
INSERT INTO chain SELECT conversation, seq, value FROM old_chain ORDER BY conversation, seq;
DROP TABLE old_chain;
"""
"""Lines keep what was said as it was encoded, with its kind, so that later versions can show more of it; they are found
from both ends by one index. Members are rows in place of one string, and the chain is kept in runs: one for all that a
transaction adds."""

_UNREAD: Final = """
CREATE TABLE unread (
  conversation BLOB PRIMARY KEY,
  lines INTEGER NOT NULL,        -- lines of others after the one in `shown`
  newest INTEGER NOT NULL        -- local_id of the newest of them
) STRICT, WITHOUT ROWID;
INSERT INTO unread
  SELECT conversation, count(*), max(local_id) FROM messages
  WHERE own = 0 AND local_id > (SELECT local_id FROM shown) GROUP BY +conversation;
"""
"""Unread lines are counted as they come in: front ends read the counts when they start, and may not wait for them."""

_INVITATIONS: Final = """
CREATE TABLE welcomes (
  id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL,
  context BLOB NOT NULL, facts BLOB NOT NULL, bundle BLOB NOT NULL, welcomed BLOB NOT NULL, received INTEGER NOT NULL
) STRICT;
CREATE INDEX welcomes_by_conversation ON welcomes (conversation, id);
CREATE TABLE invites (
  conversation BLOB NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL, direct BLOB NOT NULL,
  body BLOB NOT NULL, received INTEGER NOT NULL, until INTEGER NOT NULL, told INTEGER NOT NULL,
  PRIMARY KEY (conversation, account, identity_key)
) STRICT;
CREATE TABLE refused_inviters (
  account TEXT NOT NULL, identity_key BLOB NOT NULL, PRIMARY KEY (account, identity_key)
) STRICT, WITHOUT ROWID;
"""
"""A Welcome waits for its invitation, and both for an answer."""

_IGNORED: Final = """
CREATE TABLE ignored (account TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
ALTER TABLE messages ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;   -- of an account that the user ignores
ALTER TABLE messages ADD COLUMN written INTEGER NOT NULL DEFAULT 0;  -- by the sender's clock; 0: not known
ALTER TABLE messages ADD COLUMN doubt TEXT NOT NULL DEFAULT '';      -- what contradicts the line
"""
"""What a line tells besides its words: whether its user wants to see it, when it was written, and whether the history
that its sender saw is ours."""

_HOLES: Final = """
ALTER TABLE conversations ADD COLUMN hole INTEGER NOT NULL DEFAULT 0;
"""
"""Where messages were gone, the handshakes before them are followed all the same."""

_EVIDENCE: Final = """
ALTER TABLE conversations ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE doubts (
  conversation BLOB NOT NULL, account TEXT NOT NULL, weight TEXT NOT NULL, PRIMARY KEY (conversation, account)
) STRICT, WITHOUT ROWID;
"""
"""When an owner has last signed a room's state, and which members saw another history of it than we."""

_FOLLOWED: Final = """
ALTER TABLE conversations ADD COLUMN followed INTEGER NOT NULL DEFAULT 0;
UPDATE conversations SET followed = path_time;
"""
"""How old the state of a conversation is; of older vaults a week less is known."""

_PINS: Final = """
ALTER TABLE pins RENAME TO old_pins;
CREATE TABLE pins (
  account TEXT NOT NULL, identity_key BLOB NOT NULL,
  state TEXT NOT NULL,           -- accepted, verified or refused
  PRIMARY KEY (account, identity_key)
) STRICT, WITHOUT ROWID;
INSERT INTO pins SELECT account, identity_key, iif(verified, 'verified', 'accepted') FROM old_pins
  WHERE account NOT IN (SELECT account FROM device);
DROP TABLE old_pins;
UPDATE messages SET trust = CASE WHEN trust != 'pinned' THEN trust WHEN device IS NULL AND kind = '' THEN 'unknown'
  ELSE 'accepted' END;

ALTER TABLE members RENAME TO old_members;
CREATE TABLE members (
  conversation BLOB NOT NULL, account TEXT NOT NULL,
  identity_key BLOB NOT NULL,    -- empty where it is not known any more
  door INTEGER NOT NULL,         -- the roster with which this one came by a door, until the user confirms; else 0
  PRIMARY KEY (conversation, account, identity_key)
) STRICT, WITHOUT ROWID;
INSERT INTO members SELECT DISTINCT groups.conversation, person.value ->> 0, unhex(person.value ->> 1), 0
  FROM groups, json_each(persons_of(public)) AS person
  WHERE NOT EXISTS (SELECT 1 FROM departures
    WHERE departures.conversation = groups.conversation AND leaf = person.value ->> 2);
INSERT INTO members SELECT conversation, account, x'', 0 FROM old_members
  WHERE conversation NOT IN (SELECT conversation FROM groups);
DROP TABLE old_members;
CREATE TABLE confirmed (
  conversation BLOB NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL,
  PRIMARY KEY (conversation, account, identity_key)
) STRICT, WITHOUT ROWID;
ALTER TABLE conversations ADD COLUMN roster INTEGER NOT NULL DEFAULT 1;
ALTER TABLE outbox ADD COLUMN roster INTEGER NOT NULL DEFAULT 1;
"""
"""Each key of an account has its own state; the key that an account had merely shown is not kept. Members are known by
their keys, and a line remembers for which of them it was typed."""

_RULES: Final = """
ALTER TABLE conversations ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN owners TEXT NOT NULL DEFAULT '';
ALTER TABLE conversations ADD COLUMN inviters TEXT NOT NULL DEFAULT '';
ALTER TABLE changes RENAME COLUMN account TO value;
ALTER TABLE changes RENAME COLUMN key_packages TO data;
UPDATE changes SET data = x'';
"""
"""Rules that front ends show, and changes of them. Key packages to be added by are fetched once more."""

_KEPT: Final = """
CREATE TABLE handshakes (
  conversation BLOB NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL, size INTEGER NOT NULL, entry BLOB NOT NULL,
  chain BLOB NOT NULL,  -- after the entry; empty: messages before it were gone
  PRIMARY KEY (conversation, seq)
) STRICT;
CREATE INDEX handshake_sizes ON handshakes (conversation, seq, size);
"""
"""Handshakes of the last weeks, which a server that was restored from a backup can be given back."""

_LINES: Final = """
CREATE TABLE lines_given (
  public BLOB PRIMARY KEY,       -- of the one-time key: the line itself is not kept
  room BLOB NOT NULL,            -- empty: a line to nothing but a conversation with us
  until INTEGER NOT NULL, used INTEGER NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL
) STRICT;
CREATE TABLE lines_followed (
  room BLOB NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (room, account, identity_key)
) STRICT, WITHOUT ROWID;
"""
"""Invite lines: given out, with who has used them; and used, until the room lets us in."""

_WORDS: Final = """
CREATE TABLE words (
  conversation BLOB NOT NULL, seq INTEGER NOT NULL, word BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
"""
"""What the operator has said in a room and no commit has carried out."""

_RETURNED: Final = """
ALTER TABLE conversations ADD COLUMN returned INTEGER NOT NULL DEFAULT 0;
"""
"""After a long absence, lines that were typed before wait for the user."""

_REFUSED: Final = """
CREATE TABLE refused (conversation BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (conversation, digest)) STRICT;
"""
"""What the server has refused for good: an honest one does not put it into the log afterwards."""

_TITLES: Final = """
ALTER TABLE conversations ADD COLUMN title TEXT NOT NULL DEFAULT '';
"""
"""A room that gets the name of another one is called otherwise here."""

MIGRATIONS: Final[tuple[str, ...]] = (
    _FIRST, _CONTENT, _UNREAD, _INVITATIONS, _IGNORED, _HOLES, _EVIDENCE, _FOLLOWED,
    _PINS, _RULES, _KEPT, _LINES, _WORDS, _RETURNED, _REFUSED, _TITLES,
)  # fmt: skip
"""Step n, at n - 1, leads from version n - 1 to n: statements of SQL, without BEGIN or COMMIT."""


def version_of(connection: Any) -> int:
    """Return the number of steps that a database has taken; 0: it is empty."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def migrate(connection: Any) -> None:
    """Take the steps that are missing, all or none. Raises the database's own errors."""
    version = version_of(connection)
    if version == len(MIGRATIONS):
        return
    steps = "\n".join(MIGRATIONS[version:])
    connection.create_function("text_body", 1, lambda text: msgspec.msgpack.encode([text]), deterministic=True)
    connection.create_function("persons_of", 1, _persons_of, deterministic=True)
    try:
        # One script: between its statements nothing commits.
        connection.executescript(f"BEGIN EXCLUSIVE;\n{steps}\nPRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _persons_of(public: bytes) -> str:
    """Return the leaves of a group as JSON: account, identity key in hexadecimal, index."""
    persons = ((certificate_of(node), leaf) for leaf, node in PublicGroup.decode(public).members())
    return json.dumps([(person.account, person.identity_key.hex(), leaf) for person, leaf in persons])
