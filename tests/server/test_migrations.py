"""Old databases are brought up to date, whole or not at all; newer ones are left alone."""

import hashlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.errors import StorageError
from securechat.identity.certificate import issue
from securechat.identity.statements import Head, state
from securechat.server.sequencer.validation import Validator
from securechat.server.store.sqlite import schema
from securechat.server.store.sqlite.store import SQLiteStore
from tests.support.stores import tidy

OLDEST = Path(__file__).with_name("oldest.sql")
"""Version 1, as a server of that version wrote it: alice and bob, their conversation, and a room. Never changed."""

DIRECT = bytes.fromhex("5fbd6ef49ea19a699c463c4a7107afa1004b3532de19968304d3bda0c99b932d")
SERVER_ID = bytes.fromhex("fd21f405767f3f861aa92d95b3d12333")

NEXT = """
CREATE TABLE payload_sizes (id INTEGER PRIMARY KEY, size INTEGER NOT NULL) STRICT;
INSERT INTO payload_sizes SELECT id, size FROM tail;
ALTER TABLE devices ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
"""
"""A step to try migrations with: it makes a table from existing data, and changes another."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An oldest database."""
    made = tmp_path / "chat.db"
    with closing(sqlite3.connect(made)) as connection:
        connection.executescript(OLDEST.read_text())
    return made


def open_and_check(path: Path) -> None:
    """A server finds in it what was there."""
    store = SQLiteStore(path)
    try:
        assert store.server_id == SERVER_ID
        head = store.conversations.load(DIRECT)
        assert head is not None
        assert (head.kind, head.seq, head.epoch) == ("direct", 4, 1)
        assert {member.account for member in head.members.values()} == {"alice", "bob"}
        entries = store.logs.read(DIRECT, 0, head.seq, 100, 1 << 20)
        assert [entry.seq for entry in entries] == [1, 2, 3, 4]
        digest = hashlib.sha256(b"".join(entry.payload for entry in entries)).hexdigest()
        assert digest == "981efa7be22aa0769bbadd6d39eace8b4ea2133eaef01914a91ddda793fb7dc0"
        found = store.conversations.read_group(DIRECT)
        assert found is not None
        group = Validator(SERVER_ID).restore(*found)
        assert group.epoch == 1
        assert store.logs.read_handshakes(DIRECT, 0, head.seq, 100, 1 << 20) == []  # without device and number
        assert store.conversations.room("#lobby") is not None
        (device,) = store.directory.devices("alice")
        assert store.directory.count_key_packages(device.device) == 2
        assert store.inboxes.newest(store.directory.devices("bob")[0].device) == 1
    finally:
        store.close()


@contextmanager
def before_step(step: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Bring a database to where it was before a step; what is written to it then is what a server of then wrote."""
    with monkeypatch.context() as patched, closing(sqlite3.connect(path)) as connection:
        patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index(step)])
        schema.migrate(connection)
        yield connection
        connection.commit()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".lock"}


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return schema.version_of(connection)


def test_the_oldest_database_is_brought_up_to_date_with_all_that_is_in_it(path: Path, tmp_path: Path) -> None:
    assert version(path) == 1
    open_and_check(path)
    assert version(path) == len(schema.MIGRATIONS)
    SQLiteStore(tmp_path / "new.db").close()
    schemas = []
    for each in (path, tmp_path / "new.db"):
        with closing(sqlite3.connect(each)) as connection:
            schemas.append(sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")))
    assert schemas[0] == schemas[1]


def test_a_step_works_on_what_is_there_and_is_taken_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT))
    for _ in range(2):
        open_and_check(path)
        assert version(path) == len(schema.MIGRATIONS)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), min(size) > 100 FROM payload_sizes").fetchone() == (6, 1)
        assert connection.execute("SELECT seen FROM devices").fetchall() == [(0,), (0,)]


def test_device_ids_of_before_belong_to_whoever_certified_them_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what a server of the step before had: bob's device is in a room, alice's was certified and is gone."""
    with before_step(schema._CERTIFIED_IDS, path, monkeypatch) as connection:
        ((bob,),) = connection.execute("SELECT device FROM devices WHERE account = 'bob'")
        identity = Ed25519PrivateKey.generate()
        certified = (("alice", b"x" * 16), ("mallory", b"x" * 16), ("mallory", bob))
        for time, (account, device) in enumerate(certified):
            link = issue(
                identity, server_id=SERVER_ID, account=account, device_id=device, signature_key=bytes(32),
                not_before=0, not_after=1, seq=time + 1, previous=bytes(32),
            )  # fmt: skip
            row = account, link.identity_key, link.seq, time, link.encode()
            connection.execute("INSERT INTO chains VALUES (?, ?, ?, ?, ?)", row)
        revoked = state(
            identity, Head.after(link), "revoke", server_id=SERVER_ID, account="mallory", time=0, key=bytes(32),
            device_id=b"y" * 16,
        )  # fmt: skip
        row = "mallory", link.identity_key, revoked.seq, 9, revoked.encode()
        connection.execute("INSERT INTO chains VALUES (?, ?, ?, ?, ?)", row)
    store = SQLiteStore(path)
    owners = [store.directory.account_of(each) for each in (b"x" * 16, bob, b"y" * 16)]
    store.close()
    assert owners == ["alice", "bob", ""]


def test_what_was_there_before_deletions_had_portions_can_be_deleted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what a server of the step before had: one conversation goes, the room stays."""
    with before_step(schema._DEAD, path, monkeypatch):
        pass
    store = SQLiteStore(path)
    lobby, entries = store.conversations.room("#lobby"), store.size().entries
    assert lobby is not None
    store.conversations.delete(DIRECT)
    store.commit()
    assert store._writer.one("SELECT count(*) FROM dead") == 1
    tidy(store, store.newest() + 60_000)
    assert store._writer.one("SELECT count(*) FROM dead") == 0
    assert {ref for (ref,) in store._writer.rows("SELECT conversation FROM members")} == {store.logs.refs[lobby]}
    assert 0 < store.size().entries == entries - 4
    store.close()


@pytest.mark.parametrize("flaw", ["INSERT INTO nowhere VALUES (1);", "DROP TABLE meta; nonsense;"])
def test_a_step_that_fails_leaves_the_old_database(path: Path, monkeypatch: pytest.MonkeyPatch, flaw: str) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, NEXT + flaw))
        with pytest.raises(StorageError, match=r"could not be brought to version \d+: .* left as it is"):
            SQLiteStore(path)
    open_and_check(path)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM payload_sizes")


def test_a_kill_in_the_middle_leaves_the_old_database(path: Path) -> None:
    numbers = "WITH RECURSIVE number(n) AS (SELECT 100 UNION ALL SELECT n + 1 FROM number)"
    endless = f"{NEXT} {numbers} INSERT INTO payload_sizes SELECT n, n FROM number;"  # noqa: S608 - all from here
    program = (
        "import sys; from pathlib import Path; from securechat.server.store.sqlite import schema, store\n"
        "schema.MIGRATIONS = (*schema.MIGRATIONS, sys.argv[2])\n"
        "store.SQLiteStore(Path(sys.argv[1]))"
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


def test_a_newer_database_is_refused_and_not_a_byte_of_it_changes(path: Path) -> None:
    open_and_check(path)
    # It was killed while it wrote, so that a write-ahead log is there: opening it to write would fold that in.
    program = (
        "import os, sqlite3, sys; connection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute('PRAGMA user_version = 99'); connection.execute('CREATE TABLE later (id)')\n"
        "connection.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
    before = contents(path.parent)
    assert len(before["chat.db-wal"]) > 0
    for _ in range(2):
        with pytest.raises(StorageError, match=r"has version 99, and this securechat knows those up to \d+: .*newer"):
            SQLiteStore(path)
    after = contents(path.parent)
    assert {name: after[name] for name in ("chat.db", "chat.db-wal")} == {
        name: before[name] for name in ("chat.db", "chat.db-wal")
    }
    assert version(path) == 99
