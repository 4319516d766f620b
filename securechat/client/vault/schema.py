"""The vault's schema, as the steps that have led to it, each numbered by its place (docs/design.md, section 7).

A new vault takes all steps, an old one those that it lacks: in one transaction, so that after a crash at any instant
the old one is there, whole. A step that has been released is never changed; a change is a new step at the end.
`user_version` holds the number of the last step taken.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client import searching
from securechat.client.vault.identity_key import IdentityKey
from securechat.identity.certificate import certificate_of
from securechat.mls.public_group import PublicGroup
from securechat.surroundings import SurroundingsError

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

_WRAPPED: Final = """
ALTER TABLE device ADD COLUMN identity_key BLOB NOT NULL DEFAULT x'';
ALTER TABLE device ADD COLUMN identity_wrapped BLOB NOT NULL DEFAULT x'';
UPDATE device SET identity_wrapped = wrapped_identity(account, identity_private);
UPDATE device SET identity_key = substr(identity_wrapped, 1, 32), identity_wrapped = substr(identity_wrapped, 33);
ALTER TABLE device DROP COLUMN identity_private;
"""
"""The identity key is wrapped under the password, with its public half in clear (`identity_key`)."""

_CHAINS: Final = """
CREATE TABLE seen_chains (
  account TEXT NOT NULL, identity_key BLOB NOT NULL,
  newest BLOB NOT NULL, certificate BLOB NOT NULL, revocation BLOB NOT NULL,  -- links as encoded; empty: none was seen
  two_holders INTEGER NOT NULL, confirmed INTEGER NOT NULL,
  PRIMARY KEY (account, identity_key)
) STRICT;
"""
"""What was seen of the chain of each identity key; an older vault knows of none, and learns from what comes."""

_KEYS: Final = """
CREATE TABLE signature_keys (public BLOB PRIMARY KEY, private BLOB NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO signature_keys SELECT public_half(signature_private), signature_private FROM device;
CREATE TABLE signed (seq INTEGER PRIMARY KEY, link BLOB NOT NULL) STRICT;
INSERT INTO signed SELECT 1, certificate FROM device WHERE substr(certificate, 1, 2) = x'0002';
ALTER TABLE device ADD COLUMN signature_key BLOB NOT NULL DEFAULT x'';
UPDATE device SET signature_key = public_half(signature_private);
ALTER TABLE device DROP COLUMN signature_private;
ALTER TABLE device DROP COLUMN certificate;
"""
"""A device has several signature keys while one takes the place of another, and what the account's identity key has
signed is kept whole."""

_HEARD: Final = """
CREATE TABLE heard (
  conversation BLOB NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL,
  PRIMARY KEY (conversation, account, identity_key)
) STRICT, WITHOUT ROWID;
"""
"""Who has said or changed something since we came in; of those in an older vault nobody can tell."""

_SUCCESSIONS: Final = """
ALTER TABLE seen_chains ADD COLUMN succession BLOB NOT NULL DEFAULT x'';
"""
"""Which key an identity key has named as its successor."""

_REVOCATIONS: Final = """
CREATE TABLE revocations (conversation BLOB NOT NULL, statement BLOB NOT NULL) STRICT;
CREATE INDEX revocations_by_conversation ON revocations (conversation);
"""
"""The statements by which leaves are revoked that the trees still have."""

_ROTATION: Final = """
ALTER TABLE device ADD COLUMN renew INTEGER NOT NULL DEFAULT 0;
ALTER TABLE signature_keys ADD COLUMN connected INTEGER NOT NULL DEFAULT 0;  -- seconds, since another took its place
ALTER TABLE signature_keys ADD COLUMN certificate BLOB NOT NULL DEFAULT x'';  -- the newest one
UPDATE signature_keys SET certificate = coalesce((SELECT link FROM signed ORDER BY seq DESC LIMIT 1), x'');
ALTER TABLE key_packages ADD COLUMN signature_key BLOB NOT NULL DEFAULT x'';
UPDATE key_packages SET signature_key = (SELECT signature_key FROM device);
"""
"""A signature key is renewed each month, and forgotten once nothing needs it."""

_KEEPSAKE: Final = """
CREATE TABLE keepsake (
  id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, contents BLOB NOT NULL, sealed BLOB NOT NULL
) STRICT;
CREATE TABLE recovery (
  id INTEGER PRIMARY KEY CHECK (id = 1), step TEXT NOT NULL, kept INTEGER NOT NULL
) STRICT;
CREATE TABLE anchors (
  conversation BLOB NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL,
  PRIMARY KEY (conversation, account, identity_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE bearers (conversation BLOB PRIMARY KEY, way TEXT NOT NULL, certificate BLOB NOT NULL) STRICT;
"""
"""What is left at the server for a new device; and of such a device, how far it is, and on whose word it enters."""

_SUCCEEDING: Final = """
CREATE TABLE heir (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  identity_key BLOB NOT NULL, identity_wrapped BLOB NOT NULL, statement BLOB NOT NULL, certificate BLOB NOT NULL
) STRICT;
"""
"""The identity key that is to succeed ours, with what makes it so, until the server has that."""

_AUTHORITIES: Final = """
CREATE TABLE authorities (
  id INTEGER PRIMARY KEY AUTOINCREMENT, pin BLOB NOT NULL UNIQUE, certificate BLOB NOT NULL, password INTEGER NOT NULL
) STRICT;
INSERT INTO authorities (pin, certificate, password) SELECT x'', x'', 1 FROM device WHERE server_id != x'';
"""
"""The CAs that were trusted; the first row of an older vault: its password belongs to none."""

_ADDRESSES: Final = """
CREATE TABLE addresses (id INTEGER PRIMARY KEY AUTOINCREMENT, address TEXT NOT NULL UNIQUE) STRICT;
"""
"""Where the server has let us in; an older vault takes over what its card says (`ui.start`)."""

_LOGIN: Final = "ALTER TABLE device ADD COLUMN secret_set INTEGER;"
"""Since when the account has its secret at the server; NULL: the server has not said yet."""

_NAMES: Final = """
CREATE TABLE device_names (
  id INTEGER PRIMARY KEY AUTOINCREMENT, device BLOB NOT NULL UNIQUE, name TEXT NOT NULL
) STRICT;
"""

_LIFE: Final = """
ALTER TABLE conversations ADD COLUMN life INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN until INTEGER;
CREATE INDEX messages_by_end ON messages (until) WHERE until IS NOT NULL;
"""
"""How long what is said in a conversation lives, and until when a line does; NULL: for ever."""

_REWRAPPED: Final = """
CREATE TABLE new_password (
  id INTEGER PRIMARY KEY CHECK (id = 1), pin BLOB NOT NULL, old BLOB NOT NULL, new BLOB NOT NULL, key_file BLOB NOT NULL
) STRICT;
CREATE TABLE rewrapped (identity_key BLOB PRIMARY KEY, wrapped BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
"""A new password under way, and our identity keys under it."""

_TALK: Final = """
ALTER TABLE messages ADD COLUMN author BLOB NOT NULL DEFAULT x'';    -- the sender's identity key; empty: not known
ALTER TABLE messages ADD COLUMN about INTEGER;                       -- local_id of the line that it answers, or NULL
ALTER TABLE messages ADD COLUMN edited INTEGER NOT NULL DEFAULT 0;   -- when its text was last changed (ms); 0: never
ALTER TABLE messages ADD COLUMN deleted_by TEXT NOT NULL DEFAULT ''; -- the account that has; its body is empty then
CREATE INDEX messages_by_name ON messages (conversation, device, number) WHERE number IS NOT NULL;
CREATE TABLE reactions (
  id INTEGER PRIMARY KEY,
  line INTEGER NOT NULL,         -- local_id of the one that it is under
  text TEXT NOT NULL, account TEXT NOT NULL, author BLOB NOT NULL,
  hidden INTEGER NOT NULL,       -- as of a line
  until INTEGER, UNIQUE (line, author, text)
) STRICT;
CREATE INDEX reactions_by_end ON reactions (until) WHERE until IS NOT NULL;
CREATE TRIGGER reactions_go_with_their_line AFTER DELETE ON messages BEGIN
  DELETE FROM reactions WHERE line = old.local_id;
END;
ALTER TABLE outbox ADD COLUMN about INTEGER NOT NULL DEFAULT 0;
"""
"""Whose a line is, so that nobody else changes it; what became of it since; and what waits that is about another one.
Of older lines the sender's key is not known."""

_MARKS: Final = """
ALTER TABLE conversations ADD COLUMN theirs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN told_delivered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN told_read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN recipients INTEGER NOT NULL DEFAULT 0;  -- people of whom marks count; of our own lines
ALTER TABLE messages ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0;   -- how many of them have it
ALTER TABLE messages ADD COLUMN read INTEGER NOT NULL DEFAULT 0;        -- how many have read it
CREATE TABLE marks (
  conversation BLOB NOT NULL, account TEXT NOT NULL, identity_key BLOB NOT NULL,
  delivered INTEGER NOT NULL, read INTEGER NOT NULL,
  PRIMARY KEY (conversation, account, identity_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE preferences (
  scope BLOB NOT NULL,           -- a conversation's; empty: for all of them
  name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;
"""
"""How far others have received and read what is said, and what they were told of us; and what the user prefers.

Of lines that were said before, nobody counts."""

_SEARCH: Final = """
CREATE VIRTUAL TABLE search USING fts5(said, facets, tokenize = 'ascii', columnsize = 0);
INSERT INTO search (search, rank) VALUES ('secure-delete', 1);
INSERT INTO search (rowid, said, facets)
  SELECT local_id, said(text), facets(conversation, sender, kind, text)
  FROM (SELECT local_id, conversation, sender, kind, said_in(kind, body, own, problem) AS text FROM messages
    WHERE deleted_by = '' ORDER BY local_id);
CREATE TRIGGER search_follows_deletion AFTER DELETE ON messages BEGIN
  DELETE FROM search WHERE rowid = old.local_id;
END;
CREATE TRIGGER search_follows_moves AFTER UPDATE OF conversation ON messages BEGIN
  UPDATE search SET facets = replace(facets, ' c' || lower(hex(substr(old.conversation, 1, 8))),
    ' c' || lower(hex(substr(new.conversation, 1, 8)))) WHERE rowid = new.local_id;
END;
"""
"""The index of words (`client.searching`). FTS5 is told to overwrite what goes from it, as the database does."""

_SEEN: Final = """
CREATE TABLE seen (
  conversation BLOB PRIMARY KEY,
  line INTEGER NOT NULL          -- local_id up to which the user has seen what came in there
) STRICT, WITHOUT ROWID;
INSERT INTO seen SELECT DISTINCT conversation, (SELECT local_id FROM shown) FROM messages;
CREATE TABLE place (id INTEGER PRIMARY KEY CHECK (id = 1), conversation BLOB NOT NULL) STRICT;
"""
"""What is unread counts from when the user was last in a conversation, and not from what was shown anywhere; and the
conversation in which they were last."""

_UNWANTED: Final = """
CREATE TABLE unwanted (
  account TEXT NOT NULL,
  room BLOB NOT NULL,            -- that they invite to; empty: whatever they ask
  until INTEGER NOT NULL,        -- milliseconds since 1970; 0: for ever
  PRIMARY KEY (account, room)
) STRICT, WITHOUT ROWID;
"""
"""Who is blocked, and who was told no and has to wait before asking again is heard."""

_TRANSFERS: Final = """
CREATE TABLE transfers (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,            -- send, save
  conversation BLOB NOT NULL,
  line INTEGER NOT NULL,         -- local_id of the line whose file is saved; 0: it is sent, and has none yet
  path TEXT NOT NULL,            -- the file that is sent, or the folder where it is saved
  temporary TEXT NOT NULL,       -- the name of what is being written there
  body BLOB NOT NULL,            -- as it will be said, or was
  sealed INTEGER NOT NULL        -- whether the copy that is sent is whole
) STRICT;
CREATE TRIGGER transfers_go_with_their_line AFTER DELETE ON messages BEGIN
  DELETE FROM transfers WHERE line = old.local_id;
END;
CREATE TRIGGER transfers_go_with_what_is_deleted AFTER UPDATE OF deleted_by ON messages WHEN new.deleted_by != '' BEGIN
  DELETE FROM transfers WHERE line = new.local_id;
END;
"""
"""Files that are being sent or saved."""

_LEFTOVERS: Final = """
CREATE TABLE leftovers (temporary TEXT PRIMARY KEY, folder TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TRIGGER leftovers_outlive_their_transfer AFTER DELETE ON transfers WHEN old.temporary != '' BEGIN
  INSERT OR IGNORE INTO leftovers VALUES (old.temporary, old.path);
END;
"""
"""What files that were saved, or given up, have left in folders until it is cleared there."""

_TIMES: Final = "CREATE INDEX messages_by_time ON messages (iif(time, time, written));"
"""When lines were said, so that a search between two times reads those alone."""

_UNSHARED: Final = """
CREATE TABLE unshared (blob BLOB PRIMARY KEY, conversation BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
"""Blobs of ours that nobody is to fetch any more, until the server has deleted them."""

_SAVED: Final = """
ALTER TABLE transfers ADD COLUMN began INTEGER NOT NULL DEFAULT 0;
CREATE TABLE saved (line INTEGER PRIMARY KEY, path TEXT NOT NULL) STRICT;
CREATE TRIGGER saved_go_with_their_line AFTER DELETE ON messages BEGIN
  DELETE FROM saved WHERE line = old.local_id;
END;
CREATE TRIGGER saved_go_with_what_is_deleted AFTER UPDATE OF deleted_by ON messages WHEN new.deleted_by != '' BEGIN
  DELETE FROM saved WHERE line = new.local_id;
END;
"""
"""When somebody wanted a file to be saved, and where the file of a line was saved."""

_MOVES: Final = """
CREATE TABLE moves (
  conversation BLOB NOT NULL,
  last INTEGER NOT NULL,         -- local_id of the newest line that goes from it
  new BLOB NOT NULL, PRIMARY KEY (conversation, last)
) STRICT, WITHOUT ROWID;
"""
"""Lines of a log that has begun anew, on their way into a conversation of their own."""

MIGRATIONS: Final[tuple[str, ...]] = (
    _FIRST, _CONTENT, _UNREAD, _INVITATIONS, _IGNORED, _HOLES, _EVIDENCE, _FOLLOWED,
    _PINS, _RULES, _KEPT, _LINES, _WORDS, _RETURNED, _REFUSED, _TITLES, _WRAPPED, _CHAINS, _KEYS,
    _HEARD, _SUCCESSIONS, _REVOCATIONS, _ROTATION, _KEEPSAKE, _SUCCEEDING, _AUTHORITIES,
    _ADDRESSES, _LOGIN, _NAMES, _LIFE, _REWRAPPED, _TALK, _MARKS, _SEARCH, _SEEN, _UNWANTED,
    _TRANSFERS, _LEFTOVERS, _TIMES, _UNSHARED, _SAVED, _MOVES,
)  # fmt: skip
"""Step n, at n - 1, leads from version n - 1 to n: statements of SQL, without BEGIN or COMMIT."""


def version_of(connection: Any) -> int:
    """Return the number of steps that a database has taken; 0: it is empty."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def migrate(connection: Any, wrap: Callable[[str, bytearray], IdentityKey]) -> None:
    """Take the steps that are missing, all or none. Raises the database's own errors, MemoryError, `SurroundingsError`.

    `wrap` puts an account's identity key under the password.
    """
    version = version_of(connection)
    if version == len(MIGRATIONS):
        return
    steps = "\n".join(MIGRATIONS[version:])

    lacking: list[Exception] = []  # SQLite makes an error of them that looks like damage

    def define(name: str, arguments: int, function: Callable[..., object], *, deterministic: bool = True) -> None:
        def call(*values: object) -> object:
            try:
                return function(*values)
            except (MemoryError, SurroundingsError) as error:
                lacking.append(error)
                raise

        connection.create_function(name, arguments, call, deterministic=deterministic)

    def wrapped_identity(account: str, private: bytes) -> bytes:
        key = wrap(account, bytearray(private))
        return key.public + key.wrapped

    define("text_body", 1, lambda text: msgspec.msgpack.encode([text]))
    define("public_half", 1, _public_half)
    define("persons_of", 1, _persons_of)
    define("said_in", 4, searching.said_in)
    define("said", 1, searching.said)
    define("facets", 4, searching.facets)
    define("wrapped_identity", 2, wrapped_identity, deterministic=False)
    try:
        # One script: between its statements nothing commits.
        connection.executescript(f"BEGIN EXCLUSIVE;\n{steps}\nPRAGMA user_version = {len(MIGRATIONS)};\nCOMMIT;")
    except Exception:
        if lacking:
            raise lacking[0] from None
        raise
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _public_half(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _persons_of(public: bytes) -> str:
    """Return the leaves of a group as JSON: account, identity key in hexadecimal, index."""
    persons = ((certificate_of(node), leaf) for leaf, node in PublicGroup.decode(public).members())
    return json.dumps([(person.account, person.identity_key.hex(), leaf) for person, leaf in persons])
