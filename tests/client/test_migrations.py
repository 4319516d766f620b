"""Old vaults are brought up to date, whole or not at all, and go on working; newer ones are left alone."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from sqlcipher3 import dbapi2 as sqlite

from securechat.client import commands, events
from securechat.client.password_source import PasswordSource
from securechat.client.query import Query
from securechat.client.vault import key_file, schema
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost, WrongPasswordError
from securechat.errors import StorageError
from securechat.surroundings import SurroundingsError
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

HERE = Path(__file__).parent
PASSWORD = "correct horse"
CHEAP = Cost(time=1, memory=8, lanes=1)
DIRECT = bytes.fromhex("293EB8BBFB2B0635676E97C26CDA2FD1B31E269F02FEF14F8F3B19BD5D69C6FF")
CLUB = bytes.fromhex("71B83598C1C3CC62C96B202B807441DA9784FD549889CB6914BC68AECAA5C6BC")
LOBBY = bytes.fromhex("EFAF779392989BE0F9CE3A0254F151BCFEE57305D7970E6151B5EA64F3AE8FA5")
ALICE = bytes.fromhex("11DD7910A8B85B4756A625BB797A37F1")

UNREADABLE = """
INSERT INTO messages SELECT 17, id, 4, 1750000000030, 'somebody unknown', 0, '', 'pinned',
  'This message cannot be read: it is damaged.' FROM conversations WHERE name = '#lobby';
"""

NEXT = """
CREATE TABLE body_sizes (local_id INTEGER PRIMARY KEY, size INTEGER NOT NULL) STRICT;
INSERT INTO body_sizes SELECT local_id, length(body) FROM messages;
ALTER TABLE pins ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
"""
"""A step to try migrations with: it makes a table from existing data, and changes another."""


def typed() -> bytearray:
    return bytearray(PASSWORD.encode())


def key_of(path: Path) -> bytes:
    return key_file.unlock(path.with_name(path.name + ".key"), typed())[0]


def wrap(account: str, private: bytearray) -> IdentityKey:
    return IdentityKey.of(account, private, typed(), CHEAP)


def connect(path: Path) -> Any:
    """A connection to a vault that the program knows nothing of."""
    key = key_of(path)
    connection = sqlite.connect(str(path), isolation_level=None)
    connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    return connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A vault as version 1 wrote it, from `oldest.sql`, which is never changed; its secrets are zeros."""
    path = tmp_path / "alice.vault"
    key_file.create(path.with_name(path.name + ".key"), typed(), cost=CHEAP)
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript((HERE / "oldest.sql").read_text())
        connection.executescript(UNREADABLE)
    return path


@contextmanager
def opened(path: Path) -> Iterator[Vault]:
    vault = Vault.open(path, path.stem, PasswordSource.typed(PASSWORD), cost=CHEAP)
    try:
        yield vault
    finally:
        vault.close()


def version(path: Path) -> int:
    with closing(connect(path)) as connection:
        return schema.version_of(connection)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def open_and_check(path: Path) -> None:
    """What was in alice's vault is there."""
    with opened(path) as vault:
        rows = vault.conversations.load()
        assert [(row.name, row.cursor, row.number, row.members) for row in rows] == [
            ("bob", 10, 6, ("alice", "bob")),
            ("carol", 6, 3, ("alice",)),
            ("zoe", 0, 0, ()),
            ("#club", 4, 2, ("alice", "bob")),
            ("#lobby", 3, 0, ("alice", "bob", "carol")),
        ]
        texts = [line.text for line in vault.history.newest(DIRECT, 100)]
        assert texts[:4] == ["May I?", "from alice 0", "from bob 0: äöü 🙂", "from alice 1"]
        assert texts[-3:] == ["encrypted, never answered", "waits 1", "waits 2"]
        assert [len(text) for text in texts] == [6, 12, 17, 12, 17, 12, 17, 305, 25, 7, 7]
        own, theirs = vault.history.newest(DIRECT, 100)[1:3]
        assert (own.kind, own.device, own.number, own.seq) == ("text", ALICE, 0, 4)
        assert (theirs.kind, theirs.device, theirs.seq, theirs.time) == ("text", b"", 5, 1_750_000_000_005)
        (unreadable,) = vault.history.newest(LOBBY, 1)
        assert (unreadable.kind, unreadable.text) == ("", "")
        assert unreadable.problem == "This message cannot be read: it is damaged."
        (unsent,) = vault.history.newest(rows[2].id, 10)
        assert (unsent.text, unsent.seq) == ("to nobody", 0)
        assert unsent.problem == "This message was not sent: There is no zoe here."
        assert [(item.number, bool(item.payload)) for item in vault.outbox.first(DIRECT, 10)] == [
            (7, True), (0, False), (0, False),
        ]  # fmt: skip
        staged = vault.groups.staged(CLUB)
        assert staged is not None
        assert staged.number == 3
        assert vault.groups.departures(CLUB) == {2}
        assert [(change.action, change.value) for change in vault.changes.load(CLUB)] == [("add", "dave")]
        assert {pin.account: pin.state for pin in vault.pins.load()} == {
            "bob": "verified", "carol": "accepted", "dave": "accepted",
        }  # fmt: skip
        found = vault.history.search(Query(("äöü", "bob"), sender="bob", where="bob"), (DIRECT,), 0, 10)
        assert [line.text for line in found] == [f"from bob {number}: äöü 🙂" for number in (2, 1, 0)]
        unread = vault.history.unread(vault.history.shown(), 100)
        assert [line.text for line in unread][-2:] == ["hello lobby", ""]
        counted: dict[bytes, tuple[int, int]] = {}
        for line in unread:
            counted[line.conversation] = (counted.get(line.conversation, (0, 0))[0] + 1, line.local_id)
        assert vault.history.unread_counts() == counted


def test_the_oldest_vault_is_brought_up_to_date_with_all_that_is_in_it(path: Path, tmp_path: Path) -> None:
    assert version(path) == 1
    open_and_check(path)
    assert version(path) == len(schema.MIGRATIONS)
    new = tmp_path / "new" / "alice.vault"
    with opened(new):
        pass
    schemas = []
    for each in (path, new):
        with closing(connect(each)) as connection:
            found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            schemas.append(sorted(found))
    assert schemas[0] == schemas[1]


def test_a_vault_of_version_2_is_brought_up_to_date_with_what_was_unread_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connect(path)) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
            schema.migrate(connection, wrap)
        assert schema.version_of(connection) == 2
        connection.execute("UPDATE shown SET local_id = 3")
        before = connection.execute("SELECT * FROM messages ORDER BY local_id").fetchall()
        unread = connection.execute("SELECT local_id FROM messages WHERE own = 0 AND local_id > 3").fetchall()
    open_and_check(path)
    assert version(path) == len(schema.MIGRATIONS)
    with opened(path) as vault:
        after = vault.all("SELECT * FROM messages ORDER BY local_id")
        trust = 12  # its column
        assert [line[:trust] for line in after] == [line[:trust] for line in before]
        assert [line[trust + 1 :] for line in after] == [
            (*line[trust + 1 :], 0, 0, "", None, b"", None, 0, "", 0, 0, 0) for line in before
        ]
        assert {line[trust] for line in after} == {"accepted", "verified", "unknown"}
        counts = vault.history.unread_counts()
        assert sum(lines for lines, _ in counts.values()) == len(unread) > 0
        with vault.transaction():
            for conversation in counts:
                vault.history.see(conversation, unread[-1][0])
        assert vault.history.unread_counts() == {}


def test_a_local_id_is_not_given_twice_after_an_update(path: Path) -> None:
    with opened(path) as vault, vault.transaction():
        line = vault.history.add(DIRECT, "alice", ("text", b"\x91\xa2hi"), own=True, trust="verified")
    assert line.local_id == 18


def test_a_step_works_on_what_is_there_and_is_taken_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
    for _ in range(2):
        open_and_check(path)
        assert version(path) == len(schema.MIGRATIONS)
    with closing(connect(path)) as connection:
        assert connection.execute("SELECT count(*), max(size) FROM body_sizes").fetchone() == (17, 309)
        assert connection.execute("SELECT DISTINCT seen FROM pins").fetchall() == [(0,)]


@pytest.mark.parametrize("flaw", ["INSERT INTO nowhere VALUES (1);", "DROP TABLE device; nonsense;"])
def test_a_step_that_fails_leaves_the_old_vault(path: Path, monkeypatch: pytest.MonkeyPatch, flaw: str) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT + flaw))
        newest = len(schema.MIGRATIONS)
        with (
            pytest.raises(StorageError, match=rf"could not be brought to version {newest}, and was left as it is: "),
            opened(path),
        ):
            pass
    assert version(path) == 1
    open_and_check(path)
    with closing(connect(path)) as connection, pytest.raises(sqlite.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM body_sizes")


def test_of_a_damaged_old_vault_it_is_said_what_to_do(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("DROP TABLE chain")
    advice = r"left as it is: it is damaged \(no such table.*\)\. Put a backup of it back\.$"
    with pytest.raises(StorageError, match=advice), opened(path):
        pass
    assert version(path) == 1


@pytest.mark.parametrize("lacking", [MemoryError(), SurroundingsError("There is too little memory for the password.")])
@pytest.mark.parametrize("step", ["of", "_persons_of"])
def test_too_little_memory_for_a_step_is_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, lacking: Exception, step: str
) -> None:
    def fail(*_: object) -> Any:
        raise lacking

    monkeypatch.setattr(IdentityKey if step == "of" else schema, step, fail)
    with pytest.raises(type(lacking)), opened(path):
        pass
    assert version(path) == 1
    monkeypatch.undo()
    open_and_check(path)
    assert version(path) == len(schema.MIGRATIONS)


def test_a_kill_in_the_middle_leaves_the_old_vault(path: Path) -> None:
    numbers = "WITH RECURSIVE number(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM number)"
    endless = f"{NEXT} {numbers} INSERT INTO body_sizes SELECT n, n FROM number;"  # noqa: S608 - all from here
    program = (
        "import sys; from pathlib import Path; from securechat.client.vault import schema\n"
        "from securechat.client.password_source import PasswordSource\n"
        "from securechat.client.vault.vault import Vault\n"
        "schema.MIGRATIONS = (*schema.MIGRATIONS, sys.argv[2])\n"
        "Vault.open(Path(sys.argv[1]), 'alice', PasswordSource.typed('correct horse'))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path), endless]) as process:
        try:
            log = path.with_name(path.name + "-wal")
            deadline = time.monotonic() + 60
            while not log.exists() or log.stat().st_size < 1 << 20:  # its pages do not fit into memory any more
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
    assert version(path) == 1
    open_and_check(path)


def test_a_newer_vault_is_refused_and_not_a_byte_of_it_changes(path: Path) -> None:
    open_and_check(path)
    # It was killed while it wrote, so that a write-ahead log is there: opening it to write would fold that in.
    key = key_of(path)
    program = (
        "import os, sys; from sqlcipher3 import dbapi2; connection = dbapi2.connect(sys.argv[1])\n"
        'connection.execute(f"PRAGMA key = \\"x\'{sys.argv[2]}\'\\"")\n'
        "connection.execute('PRAGMA user_version = 99'); connection.execute('CREATE TABLE later (id)')\n"
        "connection.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path), key.hex()], check=True, timeout=60)
    before = contents(path.parent)
    assert len(before["alice.vault-wal"]) > 0
    for _ in range(2):
        with pytest.raises(StorageError, match=r"newer program: it has version 99, .* left as it is"), opened(path):
            pass
    after = contents(path.parent)
    for name in ("alice.vault", "alice.vault-wal", "alice.vault.key"):
        assert after[name] == before[name]
    assert version(path) == 99


def test_a_newer_vault_that_was_closed_is_refused_without_a_trace(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = contents(path.parent)
    with pytest.raises(StorageError, match="newer program"), opened(path):
        pass
    assert contents(path.parent) == before


# --- and work on ----------------------------------------------------------------------------------------------------


BACK = """
DROP TRIGGER saved_go_with_their_line; DROP TRIGGER saved_go_with_what_is_deleted; DROP TABLE saved;
ALTER TABLE transfers DROP COLUMN began;
DROP TABLE moves; DROP TABLE unshared;
DROP INDEX messages_by_time;
DROP TRIGGER leftovers_outlive_their_transfer; DROP TABLE leftovers;
DROP TRIGGER transfers_go_with_their_line; DROP TRIGGER transfers_go_with_what_is_deleted; DROP TABLE transfers;
DROP TABLE seen; DROP TABLE place;
DROP TRIGGER search_follows_deletion; DROP TRIGGER search_follows_moves; DROP TABLE search;
DROP TABLE unwanted; DROP TABLE marks; DROP TABLE preferences;
ALTER TABLE conversations DROP COLUMN theirs;
ALTER TABLE conversations DROP COLUMN seen;
ALTER TABLE conversations DROP COLUMN told_delivered;
ALTER TABLE conversations DROP COLUMN told_read;
DROP TRIGGER reactions_go_with_their_line; DROP TABLE reactions;
ALTER TABLE outbox DROP COLUMN about;
DROP TABLE addresses;
DROP TABLE authorities;
DROP TABLE revocations;
ALTER TABLE device ADD COLUMN identity_private BLOB NOT NULL DEFAULT x'';
UPDATE device SET identity_private = private_of(account, identity_key, identity_wrapped);
ALTER TABLE device DROP COLUMN identity_key;
ALTER TABLE device DROP COLUMN identity_wrapped;
ALTER TABLE device DROP COLUMN secret_set;
DROP TABLE device_names; DROP TABLE new_password; DROP TABLE rewrapped;
ALTER TABLE conversations DROP COLUMN life;
DROP TABLE seen_chains; DROP TABLE keepsake; DROP TABLE recovery; DROP TABLE anchors; DROP TABLE bearers;
ALTER TABLE conversations DROP COLUMN title;
ALTER TABLE conversations DROP COLUMN topic;
ALTER TABLE conversations DROP COLUMN owners;
ALTER TABLE conversations DROP COLUMN inviters;
ALTER TABLE changes RENAME COLUMN value TO account;
ALTER TABLE changes RENAME COLUMN data TO key_packages;
DROP TABLE handshakes; DROP TABLE lines_given; DROP TABLE lines_followed; DROP TABLE words;
DROP TABLE welcomes;
DROP TABLE invites;
DROP TABLE refused_inviters;
ALTER TABLE conversations DROP COLUMN hole;
ALTER TABLE conversations DROP COLUMN followed;
ALTER TABLE pins RENAME TO new_pins;
CREATE TABLE pins (
  account TEXT PRIMARY KEY, identity_key BLOB NOT NULL, verified INTEGER NOT NULL, changed_key BLOB
) STRICT;
INSERT INTO pins SELECT account, identity_key, state = 'verified', NULL FROM new_pins;
DROP TABLE new_pins;
DROP TABLE confirmed;
ALTER TABLE conversations DROP COLUMN roster;
ALTER TABLE conversations DROP COLUMN returned;
ALTER TABLE outbox DROP COLUMN roster;
ALTER TABLE conversations ADD COLUMN members TEXT NOT NULL DEFAULT '';
UPDATE conversations SET phase = 'gone' WHERE phase = 'ended';
UPDATE conversations SET members = (
  SELECT coalesce(group_concat(account, ' '), '')
  FROM (SELECT account FROM members WHERE conversation = id ORDER BY account)
);
DROP TABLE members;
DROP TABLE unread;
DROP TABLE ignored;
DROP TABLE doubts; DROP TABLE refused; DROP TABLE heard; DROP TABLE heir;
ALTER TABLE device ADD COLUMN signature_private BLOB NOT NULL DEFAULT x'';
ALTER TABLE device ADD COLUMN certificate BLOB NOT NULL DEFAULT x'';
UPDATE device SET signature_private = (SELECT private FROM signature_keys), certificate = (SELECT link FROM signed);
ALTER TABLE device DROP COLUMN signature_key; ALTER TABLE device DROP COLUMN renew;
ALTER TABLE key_packages DROP COLUMN signature_key;
DROP TABLE signature_keys; DROP TABLE signed;
ALTER TABLE conversations DROP COLUMN confirmed;
ALTER TABLE messages RENAME TO new_messages;
CREATE TABLE messages (
  local_id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL,
  sender TEXT NOT NULL, own INTEGER NOT NULL, text TEXT NOT NULL, trust TEXT NOT NULL, problem TEXT NOT NULL
) STRICT;
INSERT INTO messages
  SELECT local_id, conversation, iif(place < 4611686018427387904, place, 0), time, sender, own, text_of(body), trust,
    problem FROM new_messages;
DROP TABLE new_messages;
CREATE INDEX messages_by_conversation ON messages (conversation, seq, local_id);
ALTER TABLE chain RENAME TO new_chain;
CREATE TABLE chain (
  conversation BLOB NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
WITH RECURSIVE link(conversation, seq, links) AS (
  SELECT conversation, first, links FROM new_chain
  UNION ALL
  SELECT conversation, seq + 1, substr(links, 33) FROM link WHERE length(links) > 32
)
INSERT INTO chain SELECT conversation, seq, substr(links, 1, 32) FROM link;
DROP TABLE new_chain;
PRAGMA user_version = 1;
"""
"""Takes a vault of today back to version 1: no keys are kept for tests, so those of a vault that works on are fresh."""


def private_of(account: str, public: bytes, wrapped: bytes) -> bytes:
    with IdentityKey(account, public, wrapped).opened(typed()) as key:
        return bytes(key.secret())


def take_back(path: Path) -> None:
    """Make a vault that of version 1."""
    with closing(connect(path)) as connection:
        connection.create_function("text_of", 1, lambda body: msgspec.msgpack.decode(body)[0] if body else "")
        connection.create_function("private_of", 3, private_of)
        connection.executescript(f"BEGIN; {BACK} COMMIT;")


def test_people_with_old_vaults_go_on_talking_and_their_queues_and_changes_go_out(
    server: MemoryServer, people: Callable[..., list[Person]]
) -> None:
    alice, bob, carol, dave = everybody = people("alice", "bob", "carol", "dave")
    alice.do(commands.OpenDirect("bob", "May I?", ask=True))
    settle(*everybody)
    bob.do(commands.Accept(bob.id_of("alice")))
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for name in ("bob", "carol"):
        alice.do(commands.Invite(alice.id_of("#club"), name))
        settle(*everybody)
    carol.do(commands.Leave(carol.id_of("#club")))
    settle(*everybody)
    # A change whose commit is on its way, texts encrypted and not: nothing of it has reached the server yet.
    server.inward = lambda link, m: [] if link is alice.link and isinstance(m, wire.Commit | wire.Submit) else [m]
    alice.do(commands.Invite(alice.id_of("#club"), "dave"))
    alice.say("bob", "encrypted, never answered")
    settle(*everybody)
    alice.cut()
    alice.say("bob", "waits")
    staged = alice.vault.groups.staged(alice.id_of("#club"))
    assert staged is not None
    assert [bool(item.payload) for item in alice.vault.outbox.first(alice.id_of("bob"), 10)] == [True, False]
    before = {person: person.texts(name) for person, name in ((alice, "bob"), (bob, "alice"))}
    server.inward = lambda _link, message: [message]
    for person in (alice, bob):
        person.stop()
        take_back(person.path)
        assert version(person.path) == 1
        person.start()
        person.vault.addresses.add(person.settings.address)  # as `ui.start` takes it over from the vault's name or card
        assert version(person.path) == len(schema.MIGRATIONS)
        person.connect()
    assert {person: person.texts(name) for person, name in ((alice, "bob"), (bob, "alice"))} == before
    settle(*everybody)
    assert bob.texts("alice") == ["alice: May I?", "alice: encrypted, never answered", "alice: waits"]
    bob.say("alice", "read")
    dave.say("#club", "in")
    settle(*everybody)
    assert alice.texts("bob") == bob.texts("alice")
    assert alice.texts("#club") == bob.texts("#club") == dave.texts("#club") == ["dave: in"]
    for person in everybody:
        assert not person.of(events.Alarm)
        assert not person.of(events.Stopped)


def test_old_pins_stay_what_the_user_has_decided_and_a_key_merely_shown_is_none(path: Path) -> None:
    shown = b"s" * 32
    with closing(connect(path)) as connection:
        before = dict(connection.execute("SELECT account, identity_key FROM pins").fetchall())
        connection.execute("UPDATE pins SET changed_key = ? WHERE account IN ('bob', 'carol')", (shown,))
        connection.commit()
    with opened(path) as vault:
        found = {(pin.account, pin.identity_key): pin.state for pin in vault.pins.load()}
        assert found == {  # our own is in the device's row
            ("bob", before["bob"]): "verified", ("carol", before["carol"]): "accepted",
            ("dave", before["dave"]): "accepted",
        }  # fmt: skip
        lobby = next(row for row in vault.conversations.load() if row.name == "#lobby")
        assert [(each.account, each.identity_key) for each in lobby.persons] == sorted(
            (name, before[name]) for name in ("alice", "bob", "carol")
        )  # from the tree, which the pins are compared with
        assert lobby.roster == 1
        assert {item.roster for item in vault.outbox.first(DIRECT, 10)} == {1}  # typed for those who are there


# --- the identity key -----------------------------------------------------------------------------------------------

PRIVATE = bytes(range(100, 132))
"""The identity key of an old vault."""

PAGE, RESERVED = 4096, 80
"""Bytes of a page of SQLCipher 4, and of the initialisation vector and the authentication code at its end."""


def with_an_identity_key(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("UPDATE device SET identity_private = ?", (PRIVATE,))


def pages(path: Path) -> Iterator[bytes]:
    """All pages of a vault and its log as they are on the disk, decrypted: also those that the database has freed."""
    key, log = key_of(path), path.with_name(path.name + "-wal")
    main, frames = path.read_bytes(), log.read_bytes()[32:] if log.exists() else b""
    found = [main[start : start + PAGE] for start in range(0, len(main), PAGE)]
    found += [frames[start + 24 : start + 24 + PAGE] for start in range(0, len(frames), 24 + PAGE)]
    for page in found:
        vector = page[PAGE - RESERVED : PAGE - RESERVED + 16]
        body = page[16 : PAGE - RESERVED] if page[:16] == main[:16] else page[: PAGE - RESERVED]  # the salt
        if any(page):
            decryptor = Cipher(AES(key), CBC(vector)).decryptor()
            yield decryptor.update(body) + decryptor.finalize()


def holds_the_key(path: Path) -> bool:
    return any(PRIVATE in page for page in pages(path))


def check_wrapped(path: Path) -> None:
    """The vault has the key that it had, by its password alone."""
    with opened(path) as vault:
        device = vault.device.load()
        assert device is not None
        assert device.identity.public == Ed25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()
        with device.identity.opened(typed()) as key:
            assert key.secret() == PRIVATE
        assert not holds_the_key(path)
    assert not holds_the_key(path)


def test_an_old_identity_key_is_wrapped_and_gone_from_the_file(path: Path) -> None:
    with_an_identity_key(path)
    assert holds_the_key(path)  # the search finds it where it is
    check_wrapped(path)
    assert b"alice" in b"".join(pages(path))  # and still reads the pages
    open_and_check(path)


@pytest.mark.parametrize("where", ["while it is wrapped", "in the step", "after the step"])
def test_a_kill_while_the_identity_key_is_wrapped_leaves_it_once(path: Path, where: str) -> None:
    with_an_identity_key(path)
    program = (
        "import os, sys; from pathlib import Path; from securechat.client.vault import database, schema\n"
        "from securechat.client.password_source import PasswordSource\n"
        "from securechat.client.vault.vault import Vault\n"
        "def die(*_): os._exit(9)\n"
        "migrate = schema.migrate\n"
        "if sys.argv[2] == 'while it is wrapped': schema.migrate = lambda connection, _: migrate(connection, die)\n"
        "if sys.argv[2] == 'in the step':\n"
        "  def migrate_and_die(connection, wrap):\n"
        "    connection.create_function('die', 0, die)\n"
        "    schema.MIGRATIONS = (*schema.MIGRATIONS, 'SELECT die();')\n"
        "    migrate(connection, wrap)\n"
        "  schema.migrate = migrate_and_die\n"
        "if sys.argv[2] == 'after the step': schema.migrate = lambda *given: (migrate(*given), die())\n"
        "Vault.open(Path(sys.argv[1]), 'alice', PasswordSource.typed('correct horse'))"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path), where], check=False, timeout=60)
    assert killed.returncode == 9
    assert holds_the_key(path)  # not yet done, or done and still below the log
    check_wrapped(path)


def test_the_identity_key_of_an_old_vault_is_not_lost_with_a_wrong_password(path: Path) -> None:
    with_an_identity_key(path)
    with pytest.raises(WrongPasswordError):
        Vault.open(path, "alice", PasswordSource.typed("corect horse"), cost=CHEAP)
    assert version(path) == 1
    check_wrapped(path)
