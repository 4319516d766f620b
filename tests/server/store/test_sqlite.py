"""The store on SQLite by itself: what moves in it, what its file and its write-ahead log become."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.server.panic import StoreBrokenError
from securechat.server.store.port import DiskFullError
from securechat.server.store.records import (
    ACKNOWLEDGED_SECONDS,
    BRANCH_SECONDS,
    READER_SECONDS,
    Checkpoint,
    Departed,
    Head,
    InboxEntry,
    Membership,
)
from securechat.server.store.sqlite import conversations, tail, tidying, writer
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.server.store.sqlite.tidying import LOGS_AT_ONCE, PORTION, PORTION_BYTES
from securechat.wire.chain import CHAIN_START
from tests.support.stores import ALICE, BOB, DIRECT, NOW, ROOM, entries_for, make, read, same, set_cursors, tidy, write

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
    store.tidy(later, later)
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
        store.tidy(NOW + 60_000, NOW + 60_000)
    assert count(store, "tail") == PORTION
    assert read(store) == [*range(2 * PORTION + 1, 3 * PORTION + 1)]
    with pytest.raises(StoreBrokenError, match="not authorized"):
        store.tidy(NOW + 60_000, NOW + 60_000)


def test_one_transaction_moves_or_deletes_few_bytes_however_long_the_rows_are(store: SQLiteStore) -> None:
    head = make(store)
    row = PORTION_BYTES // 4
    write(store, head, 20, size=row)
    later = NOW + 60_000
    left: list[tuple[int, int]] = []
    while store.tidy(later, later)[1]:
        left.append((count(store, "tail"), count(store, "history")))
    assert left[:6] == [(20, 0), (16, 4), (12, 8), (8, 12), (4, 16), (0, 20)]
    store.logs.set_cursors([(ROOM, reader, 18) for reader in (ALICE, BOB)])
    store.commit()
    for member in head.members.values():
        member.cursor = 18
    store.logs.untidy.add(store.logs.refs[ROOM])
    left.clear()
    while store.tidy(later, later)[1]:
        left.append((count(store, "tail"), count(store, "history")))
    assert left == [(0, 16), (0, 12), (0, 8), (0, 4)]
    assert read(store) == [19, 20]


def test_the_size_is_told_while_a_deletion_is_committed(store: SQLiteStore) -> None:
    """A reader's snapshot may be of after the deletion, and what is in memory of before it."""
    write(store, make(store), 3)
    tidy(store, NOW + 60_000)
    store.conversations.delete(ROOM)
    store._writer.commit()  # on disk, and not yet noted
    assert store.size().entries == 0


def test_a_row_that_is_ahead_of_the_tail_is_not_counted_twice(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, PORTION)
    assert store.tidy(NOW + 60_000, NOW + 60_000) == ([], True)
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
        store.logs.append(head, [entry], "a")
        store.conversations.save_commit(head, entry, b"snapshot" if entry.seq == PORTION + 9 else None, "a")
    set_cursors(store, head, PORTION + 10)
    tidy(store, NOW + ACKNOWLEDGED_SECONDS * 1000 + 1)
    assert count(store, "handshakes") == 1  # since the snapshot
    assert store.size().handshake_bytes == 10


def test_a_deleted_conversation_leaves_nothing(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 2 * PORTION)
    store.tidy(NOW + 60_000, NOW + 60_000)  # half of it has moved
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
    for table in ("tail", "history", "members", "numbers", "handshakes", "dead"):
        assert count(store, table) <= 2, table


OF_CONVERSATIONS = [table for table, *_ in conversations._OF_CONVERSATIONS]


def fill(store: SQLiteStore, head: Head, entries: int) -> None:
    """Have rows of a conversation in every table, most of them of "a"."""
    for _ in range(entries):
        entry = entries_for(head, 1)[0]
        store.logs.append(head, [entry], "a")
        store.conversations.save_commit(head, entry, None, "a")
    for number in range(50):
        each = number.to_bytes(16, "big")
        store.conversations.put_members(head.id, [Membership(each, "a", 0, CHAIN_START, None, 0)])
        store.conversations.put_departed(head.id, Departed(each, number, b"proposal", b"state"))
        store.conversations.put_word(head.id, number, b"word")
        store.blobs.add(head.id, each, "a", each, 5000, 2 * NOW)
        store.conversations.put_revocation(head.id, number, b"statement", leafless=False)
    store.conversations.put_members(head.id, [Membership(b"x" * 16, "x", 0, CHAIN_START, None, 0)])
    store.conversations.drop_members(head.id, "x")
    store.conversations.put_checkpoint(head.id, Checkpoint("a", 1, NOW, bytes(32), b"info", bytes(9000), ()))
    store.commit()


def test_a_deletion_takes_one_row_in_the_turn_and_the_rest_in_portions(reopen: Open) -> None:
    store = reopen()
    found = store._writer.rows(
        "SELECT tables.name FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns"
        " WHERE tables.type = 'table' AND columns.name = 'conversation'"
    )
    assert {table for (table,) in found} == {*OF_CONVERSATIONS, "tail", "letters"}  # none is left out
    kept = make(store, DIRECT)
    fill(store, kept, 20)
    head = make(store, kind="invite")
    fill(store, head, 3 * PORTION)
    store.conversations.resume(NOW)  # nothing of it is in the tail, and it has a branch point
    store.commit()
    store = reopen()
    rows = {table: count(store, table) for table in OF_CONVERSATIONS}
    assert min(rows.values()) >= 1
    held, connection = store.held("a"), store._writer._connection

    before = connection.total_changes
    store.conversations.delete(ROOM)
    store.commit()
    assert connection.total_changes - before <= 3  # with what is held for its founder
    assert {table: count(store, table) for table in OF_CONVERSATIONS} == rows
    assert store.held("a") == held  # until they are gone
    assert store.conversations.count_memberships("a") == 1

    again = make(store)
    steps, more = [], True
    while more:
        before = connection.total_changes
        _, more = store.tidy(NOW, NOW)
        steps.append(connection.total_changes - before)
        assert store.held("a") <= held
        held = store.held("a")
        write(store, again, 1)  # others' work goes on
        if len(steps) % 3 == 0:
            store = reopen()  # killed: what is left is deleted all the same
            connection = store._writer._connection
    assert len(steps) > 6
    assert max(steps) <= 2 * (PORTION + 20)  # each row, and what is held for it
    assert count(store, "dead") == 0
    assert read(store) == [*range(1, len(steps) + 1)]
    assert same(store.conversations.load(ROOM), again)
    assert len(read(store, DIRECT)) == 20
    assert [len(each.tree) for each in store.conversations.read_checkpoints(DIRECT)] == [9000]
    loaded = store.conversations.load(DIRECT)
    assert loaded is not None
    left = (loaded.members, loaded.departed, loaded.words, loaded.revocations)
    assert [len(each) for each in left] == [52, 50, 50, 50]


def test_many_small_conversations_are_not_deleted_at_once(store: SQLiteStore) -> None:
    for number in range(3 * LOGS_AT_ONCE):
        head = Head(number.to_bytes(32, "big"), "open", "", 0, NOW, 0, CHAIN_START, b"i")
        store.conversations.create(head, None, b"snapshot")
        store.conversations.delete(head.id)
    store.commit()
    left = []
    while store.tidy(NOW, NOW)[1]:
        left.append(count(store, "dead"))
    assert left == [2 * LOGS_AT_ONCE, LOGS_AT_ONCE]
    assert count(store, "dead") == 0


def test_a_deletion_that_is_rolled_back_has_not_been(store: SQLiteStore) -> None:
    head = make(store)
    write(store, head, 3)
    store.conversations.delete(ROOM)
    store.rollback()
    tidy(store, NOW + 60_000)
    assert read(store) == [1, 2, 3]
    assert same(store.conversations.load(ROOM), head)


def test_a_welcome_is_stored_once_and_goes_with_its_last_reader(reopen: Open) -> None:
    store = reopen()
    letter = InboxEntry(0, NOW, ROOM, 3, bytes(32), b"welcome", b"tree", ((b"proposal", b"context"),))
    store.inboxes.deliver(letter, [ALICE, BOB], "a")
    store.inboxes.deliver(letter, [BOB], "a")
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
    store.inboxes.deliver(letter, [ALICE], "a")  # numbers of an inbox go on
    assert store.inboxes.newest(ALICE) == 2


def test_long_letters_that_everybody_has_go_a_few_at_a_time(store: SQLiteStore) -> None:
    letters = 300
    for n in range(letters):
        letter = InboxEntry(0, NOW, ROOM, n, bytes(32), bytes(PORTION_BYTES // 50), b"t", ())
        store.inboxes.deliver(letter, [ALICE], "a")
    store.commit()
    store.inboxes.acknowledge(ALICE, letters)
    store.commit()
    assert store.inboxes.read(ALICE, 0, 1) == []
    left = []
    while store.tidy(NOW, NOW)[1]:
        left.append(count(store, "letters"))
    assert left == [250, 200, 150, 100, 50]
    assert count(store, "letters") == 0


def test_a_letter_that_could_not_be_deleted_is_deleted_later(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.inboxes.deliver(InboxEntry(0, NOW, ROOM, 1, bytes(32), b"w", b"t", ()), [ALICE], "a")
    store.inboxes.acknowledge(ALICE, 1)
    store.commit()

    def full() -> None:
        raise DiskFullError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store._writer, "commit", full)
        with pytest.raises(DiskFullError):
            store.tidy(NOW, NOW)
    store.rollback()
    assert count(store, "letters") == 1
    tidy(store, NOW)
    assert count(store, "letters") == 0


def test_an_inbox_that_nobody_reads_ends_with_its_letters(store: SQLiteStore) -> None:
    for n in range(3):
        store.inboxes.deliver(InboxEntry(0, NOW, ROOM, n, bytes(32), b"w", b"t", ()), [ALICE], "a")
    store.commit()
    tidy(store, NOW + READER_SECONDS * 1000 + 1)
    assert store.inboxes.read(ALICE, 0, 1 << 20) == []
    assert count(store, "letters") == 0


def test_old_letters_are_found_without_a_look_at_the_others(store: SQLiteStore) -> None:
    """Counted in steps of SQLite: a hundred thousand letters took 0.2 s in each portion, and nothing else went on."""
    for n in range(2000):
        store.inboxes.deliver(InboxEntry(0, NOW + n, ROOM, n, bytes(32), b"w", b"t", ()), [ALICE], "a")
    store.commit()
    steps: list[None] = []
    store._writer._connection.set_progress_handler(lambda: steps.append(None), 100)  # each 100 steps
    assert not store.inboxes.expire(NOW, PORTION)
    assert len(steps) < 5
    assert store.inboxes.expire(NOW + 2000, PORTION)
    assert len(steps) < 5 + 100
    store._writer._connection.set_progress_handler(None, 100)
    store.commit()
    assert count(store, "inbox") == 2000 - PORTION
    assert store.inboxes.read(ALICE, 0, 1)[0].seq == PORTION + 1  # the oldest have gone


def test_what_a_backup_had_is_forgotten_in_portions(store: SQLiteStore) -> None:
    for number in range(2 * LOGS_AT_ONCE + 1):
        head = Head(number.to_bytes(32, "big"), "invite", "", 0, NOW, 0, CHAIN_START, b"i")
        head.members[ALICE] = Membership(ALICE, "a", 0, CHAIN_START, None, 0)
        store.conversations.create(head, None, b"snapshot")
    store.conversations.resume(NOW)
    store.commit()
    left = []
    while store.tidy(NOW + BRANCH_SECONDS * 1000 + 1, NOW + BRANCH_SECONDS * 1000 + 1)[1]:
        left.append(count(store, "branch_points"))
    assert left[:2] == [LOGS_AT_ONCE + 1, 1]
    assert count(store, "branch_points") == 0


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
            store.tidy(NOW + 60_000, NOW + 60_000)
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


@pytest.mark.parametrize("state", ["in the log", "in both", "in the file", "checkpointed meanwhile", "begun anew"])
def test_what_is_read_of_a_frozen_store_is_that_instant_whatever_is_written_meanwhile(
    store: SQLiteStore, tmp_path: Path, state: str
) -> None:
    head = make(store)
    write(store, head, 40, size=3000)
    if state in ("in both", "in the file", "begun anew"):
        store.checkpoint()
    if state == "in both":
        write(store, head, 10, size=3000)
    if state == "begun anew":
        store._writer._restart = True
    there = head.seq
    with store.frozen() as parts:
        copied = {part.suffix: os.pread(part.descriptor, part.size // 2, 0) for part in parts}
        write(store, head, 200, size=3000)
        tidy(store, NOW + 60_000)
        if state == "checkpointed meanwhile":
            store.checkpoint()
        write(store, head, 5, size=3000)
        for part in parts:
            copied[part.suffix] += os.pread(part.descriptor, part.size - part.size // 2, part.size // 2)
            assert len(copied[part.suffix]) == part.size
    assert ("-wal" in copied) == (state in ("in the log", "in both", "checkpointed meanwhile"))
    (tmp_path / "copy").mkdir()
    for suffix, data in copied.items():
        (tmp_path / "copy" / f"chat.db{suffix}").write_bytes(data)
    other = SQLiteStore(tmp_path / "copy" / "chat.db")
    try:
        assert read(other) == [*range(1, there + 1)]
        assert other._writer.one("PRAGMA integrity_check") == "ok"
        assert other.passed_over == 0
    finally:
        other.close()
    assert read(store) == [*range(1, head.seq + 1)]


def test_another_program_that_reads_the_database_leaves_the_server_its_locks(store: SQLiteStore) -> None:
    """Had we given up ours, it would believe that nobody is there, begin the index anew, and end us by SIGBUS; at its
    end it would take the write-ahead log away."""
    head = make(store)
    write(store, head, 20)
    program = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]); "
        "print(connection.execute('SELECT count(*) FROM tail').fetchone()); connection.close()"
    )
    for _ in range(2):
        with store.frozen():
            pass
        path = str(store._database.path)
        done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, check=True, timeout=60)
        assert done.stdout.startswith(b"(")
        assert store._database.log_path.exists()
        write(store, head, 20)
    assert read(store) == [*range(1, 61)]


def test_after_a_stop_all_is_in_one_file(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "chat.db")
    write(store, make(store), 10)
    assert read(store) == [*range(1, 11)]  # by a connection of the reader's own
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"chat.db", "chat.db.lock"}
