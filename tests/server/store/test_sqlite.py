"""The store on SQLite by itself: what moves in it, what its file and its write-ahead log become."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.server.panic import StoreBrokenError
from securechat.server.store.port import DiskFullError
from securechat.server.store.records import READER_SECONDS, InboxEntry, Membership
from securechat.server.store.sqlite import inboxes, tail, tidying, writer
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.server.store.sqlite.tidying import PORTION, PORTION_BYTES
from securechat.wire.chain import CHAIN_START
from tests.support.stores import ALICE, BOB, NOW, ROOM, entries_for, make, read, same, set_cursors, tidy, write

Open = Callable[[], SQLiteStore]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Open the store; again, as after a crash: nothing is written on the way."""
    stores: list[SQLiteStore] = []

    def begin() -> SQLiteStore:
        if stores:
            stores.pop().close()
        stores.append(SQLiteStore(tmp_path / "chat.db"))
        return stores[0]

    yield begin
    for store in stores:
        store.close()


@pytest.fixture
def store(reopen: Open) -> SQLiteStore:
    return reopen()


def count(store: SQLiteStore, table: str) -> int:
    (rows,) = store._writer._connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - named in the tests
    assert isinstance(rows, int)
    return rows


@pytest.mark.parametrize("run", [1, 3])
@pytest.mark.parametrize("entries", [1, PORTION, PORTION + 1, 3 * PORTION])
def test_moving_entries_changes_nothing_for_who_reads(reopen: Open, entries: int, run: int) -> None:
    store = reopen()
    head = make(store)
    write(store, head, entries, run=run)
    later = NOW + 60_000
    store.tidy(later)
    assert read(store) == [*range(1, entries + 1)]
    tidy(store, later)
    assert count(store, "tail") == 0
    assert read(store) == [*range(1, entries + 1)]
    assert same(store.conversations.load(ROOM), head)
    write(store, head, 5)
    store = reopen()
    assert read(store) == [*range(1, entries + 6)]
    assert same(store.conversations.load(ROOM), head)
    assert read(store, after=entries + 2) == [entries + 3, entries + 4, entries + 5]


def test_recent_entries_stay_in_the_tail_until_it_is_long(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "TAIL_ENTRIES", 1000)
    head = make(store)
    write(store, head, 1010, run=10)
    tidy(store, NOW)
    assert count(store, "tail") == 100
    assert count(store, "history") == 1


def test_what_everybody_has_read_leaves_the_tail_without_being_moved(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 3 * PORTION)
    for reader in (ALICE, BOB):
        head.members[reader].cursor = 2 * PORTION
    store._writer._connection.set_authorizer(
        lambda action, table, *_: (
            sqlite3.SQLITE_DENY if (action, table) == (sqlite3.SQLITE_INSERT, "history") else sqlite3.SQLITE_OK
        )
    )
    for _ in range(3):  # the first time, the conversation's row is brought up to date
        store.tidy(NOW + 60_000)
    assert count(store, "tail") == PORTION
    assert read(store) == [*range(2 * PORTION + 1, 3 * PORTION + 1)]
    with pytest.raises(StoreBrokenError, match="not authorized"):
        store.tidy(NOW + 60_000)


def test_one_transaction_moves_or_deletes_few_bytes_however_long_the_rows_are(store: SQLiteStore) -> None:
    head = make(store)
    row = PORTION_BYTES // 4
    write(store, head, 20, size=row)
    later = NOW + 60_000
    left: list[tuple[int, int]] = []
    while store.tidy(later)[1]:
        left.append((count(store, "tail"), count(store, "history")))
    assert left[:6] == [(20, 0), (16, 4), (12, 8), (8, 12), (4, 16), (0, 20)]
    store.logs.set_cursors([(ROOM, reader, 18) for reader in (ALICE, BOB)])
    store.commit()
    for member in head.members.values():
        member.cursor = 18
    store.logs.untidy.add(store.logs.refs[ROOM])
    left.clear()
    while store.tidy(later)[1]:
        left.append((count(store, "tail"), count(store, "history")))
    assert left == [(0, 16), (0, 12), (0, 8), (0, 4)]
    assert read(store) == [19, 20]


def test_a_row_that_is_ahead_of_the_tail_is_not_counted_twice(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, PORTION)
    assert store.tidy(NOW + 60_000) == ([], True)
    assert count(store, "tail") == PORTION  # it is only prepared: the row knows of entries that are there still
    assert same(store.conversations.load(ROOM), head)
    write(store, head, 3)
    store = reopen()
    assert same(store.conversations.load(ROOM), head)
    tidy(store, NOW + 60_000)
    assert same(store.conversations.load(ROOM), head)


def test_ids_of_the_tail_are_never_used_again(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 5)
    tidy(store, NOW + 60_000)
    assert count(store, "tail") == 0
    store = reopen()
    write(store, head, 1)
    assert store._writer._connection.execute("SELECT min(id) FROM tail").fetchone()[0] > 5


@pytest.mark.parametrize("unread", [5, 600])
def test_a_start_gives_back_the_room_of_what_has_gone_where_that_is_most(
    reopen: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unread: int
) -> None:
    monkeypatch.setattr(writer, "GIVE_BACK_BYTES", 1 << 20)
    store = reopen()
    head = make(store)
    write(store, head, 1000, run=50, size=4000)
    store.logs.set_cursors([(ROOM, ALICE, 1000), (ROOM, BOB, 1000 - unread)])
    store.commit()
    tidy(store, NOW + 60_000)
    store.checkpoint()
    size = (tmp_path / "chat.db").stat().st_size
    assert size > 4 << 20  # a running server keeps it, for what comes
    store = reopen()
    assert ((tmp_path / "chat.db").stat().st_size < size / 4) == (unread == 5)
    seqs = read(store)
    assert seqs[-unread:] == list(range(1001 - unread, 1001))
    write(store, head, 10)
    assert read(reopen()) == [*seqs, *range(1001, 1011)]


def test_nobody_absent_keeps_more_bytes_of_a_room_than_allowed(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "READER_BYTES", 5_000)
    head = make(store)
    write(store, head, 10, size=1000)
    assert tidy(store, NOW + 60_000) == {ROOM: 6}


def test_handshakes_go_in_portions_until_none_is_left_that_nobody_needs(store: SQLiteStore) -> None:
    head = make(store)
    for entry in entries_for(head, PORTION + 10):
        store.logs.append(head, [entry])
        store.conversations.save_commit(head, entry, b"snapshot" if entry.seq == PORTION + 9 else None)
    set_cursors(store, head, PORTION + 10)
    tidy(store, NOW + 60_000)
    assert count(store, "handshakes") == 1  # since the snapshot
    assert store.size().handshake_bytes == 10


def test_a_deleted_conversation_leaves_nothing(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 2 * PORTION)
    store.tidy(NOW + 60_000)  # half of it has moved
    store.conversations.delete(ROOM)
    store.commit()
    assert read(store) == []
    assert store.conversations.room("#lobby") is None
    again = make(store)  # the name is free, and even the id
    write(store, again, 2)
    store = reopen()
    tidy(store, NOW + 60_000)
    assert read(store) == [1, 2]
    assert same(store.conversations.load(ROOM), again)
    for table in ("tail", "history", "members", "numbers", "handshakes"):
        assert count(store, table) <= 2, table


def test_a_welcome_is_stored_once_and_goes_with_its_last_reader(reopen: Open) -> None:
    store = reopen()
    letter = InboxEntry(0, NOW, ROOM, 3, bytes(32), b"welcome", b"tree", ((b"proposal", b"context"),))
    store.inboxes.deliver(letter, [ALICE, BOB])
    store.inboxes.deliver(letter, [BOB])
    store.commit()
    assert count(store, "letters") == 2
    assert [each.seq for each in store.inboxes.read(BOB, 0, 1 << 20)] == [1, 2]
    assert [each.seq for each in store.inboxes.read(BOB, 0, 1)] == [1]
    (first,) = store.inboxes.read(ALICE, 0, 1 << 20)
    assert (first.welcome, first.departed) == (b"welcome", ((b"proposal", b"context"),))
    store.inboxes.acknowledge(BOB, 2)
    store.commit()
    tidy(store, NOW)
    assert count(store, "letters") == 1
    store.inboxes.acknowledge(ALICE, 1)
    store.commit()
    assert count(store, "inbox") == 0
    store = reopen()  # one that was killed before it deleted the letter
    tidy(store, NOW)
    assert count(store, "letters") == 0
    store.inboxes.deliver(letter, [ALICE])  # numbers of an inbox go on
    assert store.inboxes.newest(ALICE) == 2


def test_long_letters_that_everybody_has_go_a_few_at_a_time(store: SQLiteStore) -> None:
    letters = 300
    for n in range(letters):
        store.inboxes.deliver(InboxEntry(0, NOW, ROOM, n, bytes(32), bytes(PORTION_BYTES // 50), b"t", ()), [ALICE])
    store.commit()
    store.inboxes.acknowledge(ALICE, letters)
    store.commit()
    assert store.inboxes.read(ALICE, 0, 1) == []
    left = []
    while store.tidy(NOW)[1]:
        left.append(count(store, "letters"))
    assert left == [250, 200, 150, 100, 50]
    assert count(store, "letters") == 0


def test_a_letter_that_could_not_be_deleted_is_deleted_later(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.inboxes.deliver(InboxEntry(0, NOW, ROOM, 1, bytes(32), b"w", b"t", ()), [ALICE])
    store.inboxes.acknowledge(ALICE, 1)
    store.commit()

    def full() -> None:
        raise DiskFullError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store._writer, "commit", full)
        with pytest.raises(DiskFullError):
            store.tidy(NOW)
    store.rollback()
    assert count(store, "letters") == 1
    tidy(store, NOW)
    assert count(store, "letters") == 0


def test_an_inbox_that_nobody_reads_is_bounded(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "INBOX_ENTRIES", 3)
    for n in range(10):
        store.inboxes.deliver(InboxEntry(0, NOW, ROOM, n, bytes(32), b"w", b"t", ()), [ALICE])
    store.commit()
    assert [letter.seq for letter in store.inboxes.read(ALICE, 0, 1 << 20)] == [8, 9, 10]
    tidy(store, NOW + READER_SECONDS * 1000 + 1)
    assert store.inboxes.read(ALICE, 0, 1 << 20) == []
    assert count(store, "letters") == 0


def test_the_write_ahead_log_is_started_anew_when_it_is_long(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WAL_BYTES", 100_000)
    head = make(store)
    for _ in range(40):
        write(store, head, 1, size=10_000)
    store.checkpoint()
    write(store, head, 1)
    size = (tmp_path / "chat.db-wal").stat().st_size
    for _ in range(10):
        write(store, head, 1, size=10_000)
    assert (tmp_path / "chat.db-wal").stat().st_size == size
    assert len(read(store)) == 51


def test_commits_ask_for_a_checkpoint_and_bound_the_write_ahead_log_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WAL_BYTES", 600_000)
    monkeypatch.setattr(writer, "WAL_MOST_BYTES", 1_200_000)
    log = tmp_path / "chat.db-wal"
    asked: list[int] = []
    store = SQLiteStore(tmp_path / "chat.db", on_long_log=lambda: asked.append(log.stat().st_size))
    head = make(store)

    def fill() -> int:
        """The longest that the log becomes; nobody makes a checkpoint."""
        sizes = []
        for _ in range(100):
            write(store, head, 1, size=10_000)
            sizes.append(log.stat().st_size)
        return max(sizes)

    assert 1_200_000 < fill() < 1_250_000
    assert 300_000 < asked[0] < 900_000
    store._writer._copying = True  # a backup reads: it would be waited for
    assert fill() > 2_000_000
    store._writer._copying = False
    write(store, head, 2, size=10_000)
    assert log.stat().st_size <= 1_200_000  # it was cut
    assert fill() < 1_250_000
    assert len(read(store)) == 302
    store.close()


def test_whatever_is_committed_the_write_ahead_log_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WAL_MOST_BYTES", 600_000)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "chat.db").symlink_to(tmp_path / "elsewhere" / "chat.db")
    store = SQLiteStore(tmp_path / "chat.db")  # SQLite keeps the log beside the file itself
    for _ in range(40):
        store.directory.put_key_packages(ALICE, [bytes(50_000)], b"")
        store.commit()
        assert (tmp_path / "elsewhere" / "chat.db-wal").stat().st_size < 700_000
    assert store.directory.count_key_packages(ALICE) == 40
    store.close()


def test_a_reader_in_another_process_is_waited_for_once_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "WAL_BYTES", 300_000)
    monkeypatch.setattr(writer, "WAL_MOST_BYTES", 600_000)
    monkeypatch.setattr(writer, "RESTART_SECONDS", 0.0)
    store = SQLiteStore(tmp_path / "chat.db")
    log = tmp_path / "chat.db-wal"
    head = make(store)
    tried: list[str] = []
    checkpoint = store._writer._checkpoint

    def watched(connection: sqlite3.Connection, mode: str) -> tuple[bool, int]:
        assert store._writer._checkpointing.locked()  # SQLite would refuse one beside another
        tried.append(mode)
        return checkpoint(connection, mode)

    monkeypatch.setattr(store._writer, "_checkpoint", watched)
    with contextlib.closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as doctor:
        doctor.execute("BEGIN")
        doctor.execute("SELECT * FROM meta").fetchall()
        write(store, head, 80, size=10_000)
        assert tried == ["RESTART"]
        store.checkpoint()
        write(store, head, 80, size=10_000)
        assert tried == ["RESTART", "PASSIVE", "RESTART"]
        assert log.stat().st_size > 1_200_000  # it could not be started over
    store.checkpoint()
    write(store, head, 2)
    assert tried[3:] == ["PASSIVE", "RESTART"]
    assert log.stat().st_size <= 600_000
    assert len(read(store)) == 162
    store.close()


def test_the_writer_syncs_every_commit(store: SQLiteStore) -> None:
    settings = {name: store._writer._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in
                ("journal_mode", "synchronous", "fullfsync", "wal_autocheckpoint", "secure_delete")}  # fmt: skip
    assert settings == {
        "journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "wal_autocheckpoint": 0, "secure_delete": 2,
    }  # fmt: skip


def test_the_writer_syncs_again_after_housekeeping(store: SQLiteStore) -> None:
    def synchronous() -> object:
        return store._writer._connection.execute("PRAGMA synchronous").fetchone()[0]

    with store._writer.unhurried():
        assert synchronous() == 1
    assert synchronous() == 2
    with pytest.raises(KeyError), store._writer.unhurried():
        store.conversations.put_members(ROOM, [Membership(ALICE, "a", 0, CHAIN_START, None, 0)])
    assert synchronous() == 2
    make(store)

    def fail() -> None:
        with store._writer.unhurried():
            store.logs.set_cursors([(ROOM, ALICE, 1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert synchronous() == 2
    assert store.conversations.load(ROOM).members[ALICE].cursor == 0  # type: ignore[union-attr]  # it is there


def test_whatever_a_power_failure_leaves_of_the_write_ahead_log_is_whole(store: SQLiteStore, tmp_path: Path) -> None:
    head = make(store)
    for _ in range(4):
        write(store, head, PORTION, run=2)
        head.members[ALICE].cursor = head.members[BOB].cursor = head.seq - 30
        with store._writer.unhurried():
            store.logs.set_cursors([(ROOM, ALICE, head.seq - 30), (ROOM, BOB, head.seq - 30)])
            store.commit()
            store.tidy(NOW + 60_000)
    database, log = (tmp_path / "chat.db").read_bytes(), (tmp_path / "chat.db-wal").read_bytes()
    left = tmp_path / "left" / "chat.db"
    lengths = set()
    for size in range(len(log), 0, -len(log) // 40):
        left.parent.mkdir()
        left.write_bytes(database)
        left.with_name("chat.db-wal").write_bytes(log[:size])
        found = SQLiteStore(left)
        try:
            loaded = found.conversations.load(ROOM)
            if loaded is not None:
                seqs = read(found)
                lengths.add(loaded.seq)
                floor = min(member.cursor for member in loaded.members.values())
                assert seqs == [*range(loaded.seq + 1 - len(seqs), loaded.seq + 1)]
                assert len(seqs) >= loaded.seq - floor
                assert loaded.numbers[ALICE].last == loaded.seq if loaded.seq else not loaded.numbers
        finally:
            found.close()
            shutil.rmtree(left.parent)
    assert len(lengths) > 10


def test_readers_cannot_write(store: SQLiteStore) -> None:
    with store._database.snapshot() as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM tail")


def test_after_a_stop_all_is_in_one_file(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "chat.db")
    write(store, make(store), 10)
    assert read(store) == [*range(1, 11)]  # by a connection of the reader's own
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"chat.db", "chat.db.lock"}
