"""The SQLite store by itself: logs that move, shrink and survive, key packages, inboxes."""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.server.panic import StoreBrokenError
from securechat.server.store import sqlite as implementation
from securechat.server.store import tail
from securechat.server.store.port import (
    READER_ENTRIES,
    READER_SECONDS,
    Device,
    DiskFullError,
    Head,
    InboxEntry,
    LogEntry,
    Membership,
    Numbers,
    pack_answer,
)
from securechat.server.store.sqlite import PORTION, PORTION_BYTES, SQLiteStore
from securechat.wire.chain import CHAIN_START, next_chain

NOW = 1_800_000_000_000
ROOM, DIRECT = b"R" * 32, b"D" * 32
ALICE, BOB = b"a" * 16, b"b" * 16
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


def make(store: SQLiteStore, conversation: bytes = ROOM, readers: tuple[bytes, ...] = (ALICE, BOB)) -> Head:
    direct = conversation == DIRECT
    head = Head(conversation, "direct" if direct else "open", "" if direct else "#lobby", 0, NOW, 0, CHAIN_START, b"i")
    for device in readers:
        head.members[device] = Membership(device, device[:1].decode(), 0, CHAIN_START, None, 0)
    store.create(head, ("a", "b") if direct else None, b"snapshot")
    store.commit()
    return head


def write(store: SQLiteStore, head: Head, count: int, *, run: int = 1, time: int = NOW, size: int = 10) -> None:
    """Add entries, in runs of `run` (the last may be shorter), each in a transaction of its own."""
    while count > 0:
        entries: list[LogEntry] = []
        store.append(head.id, entries)
        for _ in range(min(run, count)):
            numbers = head.numbers.get(ALICE)
            payload = str(head.seq + 1).encode().ljust(size)
            number = numbers.last + 1 if numbers else 1
            chain = next_chain(head.chain, head.id, head.seq + 1, time, ALICE, number, payload)
            entries.append(LogEntry(head.seq + 1, time, ALICE, number, 7, chain, payload))
            head.record(entries[-1])
        store.commit()
        count -= run


def read(store: SQLiteStore, conversation: bytes = ROOM, after: int = 0) -> list[int]:
    seqs: list[int] = []
    while entries := store.read(conversation, after, 1 << 40, 256, 1 << 20):
        seqs += [entry.seq for entry in entries]
        assert all(entry.payload.strip() == str(entry.seq).encode() for entry in entries)
        after = seqs[-1]
    return seqs


def tidy(store: SQLiteStore, now: int) -> dict[bytes, int]:
    """Tidy until there is no more to do; the first seq of each conversation that shrank."""
    first: dict[bytes, int] = {}
    while True:
        trimmed, more = store.tidy(now, store.load)
        first.update((each.conversation, each.first_seq) for each in trimmed)
        if not more:
            return first


def count(store: SQLiteStore, table: str) -> int:
    (rows,) = store._writer.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - named in the tests
    assert isinstance(rows, int)
    return rows


def same(one: Head | None, other: Head) -> bool:
    assert one is not None
    fields = ("seq", "time", "epoch", "chain", "members", "departed", "group_info", "name", "kind")
    numbers = {device: (each.last, each.encode()) for device, each in one.numbers.items()}
    expected = {device: (each.last, each.encode()) for device, each in other.numbers.items()}
    return numbers == expected and all(getattr(one, field) == getattr(other, field) for field in fields)


def test_what_was_committed_is_there_after_a_crash_and_the_rest_is_not(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 3)
    store.append(ROOM, [LogEntry(4, NOW, ALICE, 4, 7, bytes(32), b"never committed")])
    server_id = store.server_id
    store = reopen()
    assert store.server_id == server_id
    assert read(store) == [1, 2, 3]
    assert same(store.load(ROOM), head)


def test_rollback_forgets_all_of_it(store: SQLiteStore) -> None:
    head = make(store)
    write(store, head, 1)
    store.append(ROOM, [LogEntry(2, NOW, ALICE, 2, 7, bytes(32), b"x")])
    other = Head(DIRECT, "direct", "", 0, NOW, 0, CHAIN_START, b"")
    store.create(other, ("a", "b"), b"")
    store.rollback()
    assert read(store) == [1]
    assert store.load(DIRECT) is None
    assert store.pair(("a", "b")) is None
    write(store, head, 1)
    assert read(store) == [1, 2]


@pytest.mark.parametrize("run", [1, 3])
@pytest.mark.parametrize("entries", [1, PORTION, PORTION + 1, 3 * PORTION])
def test_moving_entries_changes_nothing_for_who_reads(reopen: Open, entries: int, run: int) -> None:
    store = reopen()
    head = make(store)
    write(store, head, entries, run=run)
    later = NOW + 60_000
    store.tidy(later, store.load)
    assert read(store) == [*range(1, entries + 1)]
    tidy(store, later)
    assert count(store, "tail") == 0
    assert read(store) == [*range(1, entries + 1)]
    assert same(store.load(ROOM), head)
    write(store, head, 5)
    store = reopen()
    assert read(store) == [*range(1, entries + 6)]
    assert same(store.load(ROOM), head)
    assert read(store, after=entries + 2) == [entries + 3, entries + 4, entries + 5]


def test_a_run_is_read_from_anywhere_in_it(store: SQLiteStore) -> None:
    head, other = make(store), make(store, DIRECT)
    write(store, head, 130, run=64)
    assert count(store, "tail") == 3
    write(store, other, 3, run=2)
    assert read(store) == [*range(1, 131)]
    assert read(store, after=70) == [*range(71, 131)]
    assert read(store, DIRECT, after=1) == [2, 3]
    assert [entry.seq for entry in store.read(ROOM, 3, 6, 256, 1 << 20)] == [4, 5, 6]
    assert [entry.seq for entry in store.read(ROOM, 3, 80, 2, 1 << 20)] == [4, 5]
    assert [entry.seq for entry in store.read(ROOM, 3, 80, 256, 1)] == [4]


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
    store._writer.set_authorizer(
        lambda action, table, *_: (
            sqlite3.SQLITE_DENY if (action, table) == (sqlite3.SQLITE_INSERT, "history") else sqlite3.SQLITE_OK
        )
    )
    for _ in range(3):  # the first time, the conversation's row is brought up to date
        store.tidy(NOW + 60_000, {ROOM: head}.get)
    assert count(store, "tail") == PORTION
    assert read(store) == [*range(2 * PORTION + 1, 3 * PORTION + 1)]
    with pytest.raises(StoreBrokenError, match="not authorized"):
        store.tidy(NOW + 60_000, {ROOM: head}.get)


def test_one_transaction_moves_or_deletes_few_bytes_however_long_the_rows_are(store: SQLiteStore) -> None:
    head = make(store)
    row = PORTION_BYTES // 4
    write(store, head, 20, size=row)
    later, heads = NOW + 60_000, {ROOM: head}.get
    left: list[tuple[int, int]] = []
    while store.tidy(later, heads)[1]:
        left.append((count(store, "tail"), count(store, "history")))
    assert left[:6] == [(20, 0), (16, 4), (12, 8), (8, 12), (4, 16), (0, 20)]
    store.set_cursors([(ROOM, reader, 18) for reader in (ALICE, BOB)])
    store.commit()
    for member in head.members.values():
        member.cursor = 18
    store._untidy.add(store._refs[ROOM])
    left.clear()
    while store.tidy(later, heads)[1]:
        left.append((count(store, "tail"), count(store, "history")))
    assert left == [(0, 16), (0, 12), (0, 8), (0, 4)]
    assert read(store) == [19, 20]


def test_a_row_that_is_ahead_of_the_tail_is_not_counted_twice(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, PORTION)
    assert store.tidy(NOW + 60_000, {ROOM: head}.get) == ([], True)
    assert count(store, "tail") == PORTION  # it is only prepared: the row knows of entries that are there still
    assert same(store.load(ROOM), head)
    write(store, head, 3)
    store = reopen()
    assert same(store.load(ROOM), head)
    tidy(store, NOW + 60_000)
    assert same(store.load(ROOM), head)


def test_ids_of_the_tail_are_never_used_again(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 5)
    tidy(store, NOW + 60_000)
    assert count(store, "tail") == 0
    store = reopen()
    write(store, head, 1)
    assert store._writer.execute("SELECT min(id) FROM tail").fetchone()[0] > 5


def test_entries_go_when_every_member_has_them(store: SQLiteStore) -> None:
    head = make(store)
    write(store, head, 10)
    store.set_cursors([(ROOM, ALICE, 10), (ROOM, BOB, 4)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 5}
    assert read(store) == [5, 6, 7, 8, 9, 10]
    store.set_cursors([(ROOM, BOB, 10)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 11}
    assert read(store) == []
    assert count(store, "history") == 0
    write(store, head, 1)
    assert read(store) == [11]


@pytest.mark.parametrize("unread", [5, 600])
def test_a_start_gives_back_the_room_of_what_has_gone_where_that_is_most(
    reopen: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unread: int
) -> None:
    monkeypatch.setattr(implementation, "GIVE_BACK_BYTES", 1 << 20)
    store = reopen()
    head = make(store)
    write(store, head, 1000, run=50, size=4000)
    store.set_cursors([(ROOM, ALICE, 1000), (ROOM, BOB, 1000 - unread)])
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


def test_who_has_left_holds_entries_until_its_last_one(store: SQLiteStore) -> None:
    head = make(store)
    write(store, head, 10)
    store.put_members(ROOM, [Membership(BOB, "b", 0, CHAIN_START, 6, 2)])
    store.set_cursors([(ROOM, ALICE, 10)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 3}
    store.set_cursors([(ROOM, BOB, 6)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 11}


def test_nobody_absent_can_fill_a_room(store: SQLiteStore) -> None:
    head = make(store)
    store.set_cursors([(ROOM, ALICE, 1 << 40)])
    write(store, head, READER_ENTRIES + 20, run=10)
    assert tidy(store, NOW + 60_000) == {ROOM: 21}
    loaded = store.load(ROOM)
    assert loaded is not None
    assert loaded.members[BOB].cursor == 20
    assert len(read(store)) == READER_ENTRIES


def test_nobody_absent_keeps_old_entries_of_a_room(store: SQLiteStore) -> None:
    head = make(store)
    write(store, head, 5)
    write(store, head, 5, time=NOW + 86_400_000)
    later = NOW + READER_SECONDS * 1000 + 1000
    assert tidy(store, later) == {ROOM: 6}
    assert read(store) == [6, 7, 8, 9, 10]


def test_nobody_absent_keeps_more_bytes_of_a_room_than_allowed(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implementation, "READER_BYTES", 5_000)
    head = make(store)
    write(store, head, 10, size=1000)
    assert tidy(store, NOW + 60_000) == {ROOM: 6}


def test_a_direct_conversation_gives_up_nothing(store: SQLiteStore) -> None:
    head = make(store, DIRECT)
    write(store, head, READER_ENTRIES + 20, run=20)
    tidy(store, NOW + READER_SECONDS * 2000)
    assert len(read(store, DIRECT)) == READER_ENTRIES + 20
    assert store.measure(DIRECT, 20) == (10 * READER_ENTRIES, NOW)
    assert store.measure(DIRECT, 19) == (10 * READER_ENTRIES + 200, NOW)  # with those that stand in the same run
    write(store, head, 1, time=NOW + 5)
    assert store.measure(DIRECT, READER_ENTRIES + 20) == (10, NOW + 5)
    assert store.measure(DIRECT, READER_ENTRIES + 21) == (0, 0)


def test_a_deleted_conversation_leaves_nothing(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 2 * PORTION)
    store.tidy(NOW + 60_000, store.load)  # half of it has moved
    store.delete(ROOM)
    store.commit()
    assert read(store) == []
    assert store.room("#lobby") is None
    again = make(store)  # the name is free, and even the id
    write(store, again, 2)
    store = reopen()
    tidy(store, NOW + 60_000)
    assert read(store) == [1, 2]
    assert same(store.load(ROOM), again)
    for table in ("tail", "history", "members", "numbers", "commits"):
        assert count(store, table) <= 2, table


def test_numbers_keep_the_newest_answers() -> None:
    numbers, chain = Numbers(), CHAIN_START
    for n in range(1, 1001):
        before, chain = chain, next_chain(chain, ROOM, 2 * n, n, ALICE, n, b"%d" % n)
        numbers.extend([pack_answer(2 * n, n, before, chain)])
    for copy in (numbers, Numbers(numbers.last, numbers.encode())):
        assert copy.last == 1000
        assert copy.answer(ROOM, ALICE, 1000, b"1000") == (2000, 1000)
        assert copy.answer(ROOM, ALICE, 745, b"745") == (1490, 745)
        assert copy.answer(ROOM, ALICE, 744, b"744") is None
        assert copy.answer(ROOM, ALICE, 1000, b"other") is None
        assert copy.answer(ROOM, BOB, 1000, b"1000") is None
        assert copy.answer(ROOM, ALICE, 1001, b"1001") is None
        assert copy.answer(ROOM, ALICE, 0, b"0") is None


def test_a_welcome_is_stored_once_and_goes_with_its_last_reader(reopen: Open) -> None:
    store = reopen()
    letter = InboxEntry(0, NOW, ROOM, 3, bytes(32), b"welcome", b"tree", ((b"proposal", b"context"),))
    store.deliver(letter, [ALICE, BOB])
    store.deliver(letter, [BOB])
    store.commit()
    assert count(store, "letters") == 2
    assert [each.seq for each in store.read_inbox(BOB, 0, 1 << 20)] == [1, 2]
    assert [each.seq for each in store.read_inbox(BOB, 0, 1)] == [1]
    (first,) = store.read_inbox(ALICE, 0, 1 << 20)
    assert (first.welcome, first.departed) == (b"welcome", ((b"proposal", b"context"),))
    store.acknowledge_inbox(BOB, 2)
    store.commit()
    tidy(store, NOW)
    assert count(store, "letters") == 1
    store.acknowledge_inbox(ALICE, 1)
    store.commit()
    assert count(store, "inbox") == 0
    store = reopen()  # one that was killed before it deleted the letter
    tidy(store, NOW)
    assert count(store, "letters") == 0
    store.deliver(letter, [ALICE])  # numbers of an inbox go on
    assert store.inbox(ALICE) == 2


def test_long_letters_that_everybody_has_go_a_few_at_a_time(store: SQLiteStore) -> None:
    letters = 300
    for n in range(letters):
        store.deliver(InboxEntry(0, NOW, ROOM, n, bytes(32), bytes(PORTION_BYTES // 50), b"t", ()), [ALICE])
    store.commit()
    store.acknowledge_inbox(ALICE, letters)
    store.commit()
    assert store.read_inbox(ALICE, 0, 1) == []
    left = []
    while store.tidy(NOW, store.load)[1]:
        left.append(count(store, "letters"))
    assert left == [250, 200, 150, 100, 50]
    assert count(store, "letters") == 0


def test_a_letter_that_could_not_be_deleted_is_deleted_later(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.deliver(InboxEntry(0, NOW, ROOM, 1, bytes(32), b"w", b"t", ()), [ALICE])
    store.acknowledge_inbox(ALICE, 1)
    store.commit()

    def full() -> None:
        raise DiskFullError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", full)
        with pytest.raises(DiskFullError):
            store.tidy(NOW, store.load)
    store.rollback()
    assert count(store, "letters") == 1
    tidy(store, NOW)
    assert count(store, "letters") == 0


def test_an_inbox_that_nobody_reads_is_bounded(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementation, "INBOX_ENTRIES", 3)
    for n in range(10):
        store.deliver(InboxEntry(0, NOW, ROOM, n, bytes(32), b"w", b"t", ()), [ALICE])
    store.commit()
    assert [letter.seq for letter in store.read_inbox(ALICE, 0, 1 << 20)] == [8, 9, 10]
    tidy(store, NOW + READER_SECONDS * 1000 + 1)
    assert store.read_inbox(ALICE, 0, 1 << 20) == []
    assert count(store, "letters") == 0


def test_a_key_package_that_was_handed_out_stays_gone(reopen: Open) -> None:
    store = reopen()
    store.put_device(Device(ALICE, "alice", b"certificate"), b"identity")
    store.put_key_packages(ALICE, [b"one", b"two"], b"last")
    assert store.take_key_package(ALICE) == b"one"
    store.commit()
    store = reopen()
    assert [store.take_key_package(ALICE) for _ in range(3)] == [b"two", b"last", b"last"]
    store.put_key_packages(ALICE, [], b"new last")
    assert store.take_key_package(ALICE) == b"new last"
    assert store.count_key_packages(ALICE) == 0
    store.drop_devices([ALICE])
    assert store.take_key_package(ALICE) is None
    assert store.devices("alice") == []
    assert store.identity_key("alice") == b"identity"


def test_the_write_ahead_log_is_started_anew_when_it_is_long(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implementation, "WAL_BYTES", 100_000)
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
    monkeypatch.setattr(implementation, "WAL_BYTES", 600_000)
    monkeypatch.setattr(implementation, "WAL_MOST_BYTES", 1_200_000)
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
    store._copying = True  # a backup reads: it would be waited for
    assert fill() > 2_000_000
    store._copying = False
    write(store, head, 2, size=10_000)
    assert log.stat().st_size <= 1_200_000  # it was cut
    assert fill() < 1_250_000
    assert len(read(store)) == 302
    store.close()


def test_whatever_is_committed_the_write_ahead_log_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implementation, "WAL_MOST_BYTES", 600_000)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "chat.db").symlink_to(tmp_path / "elsewhere" / "chat.db")
    store = SQLiteStore(tmp_path / "chat.db")  # SQLite keeps the log beside the file itself
    for _ in range(40):
        store.put_key_packages(ALICE, [bytes(50_000)], b"")
        store.commit()
        assert (tmp_path / "elsewhere" / "chat.db-wal").stat().st_size < 700_000
    assert store.count_key_packages(ALICE) == 40
    store.close()


def test_a_reader_in_another_process_is_waited_for_once_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implementation, "WAL_BYTES", 300_000)
    monkeypatch.setattr(implementation, "WAL_MOST_BYTES", 600_000)
    monkeypatch.setattr(implementation, "RESTART_SECONDS", 0.0)
    store = SQLiteStore(tmp_path / "chat.db")
    log = tmp_path / "chat.db-wal"
    head = make(store)
    tried: list[str] = []
    checkpoint = store._checkpoint

    def watched(connection: sqlite3.Connection, mode: str) -> tuple[bool, int]:
        assert store._checkpointing.locked()  # SQLite would refuse one beside another
        tried.append(mode)
        return checkpoint(connection, mode)

    monkeypatch.setattr(store, "_checkpoint", watched)
    with contextlib.closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as doctor:
        doctor.execute("BEGIN")
        doctor.execute("SELECT * FROM meta").fetchall()
        write(store, head, 80, size=10_000)
        assert tried == ["RESTART"]
        store.checkpoint()
        write(store, head, 80, size=10_000)
        assert tried == ["RESTART", "PASSIVE", "RESTART"]
        assert log.stat().st_size > 1_200_000  # it could not be started anew
    store.checkpoint()
    write(store, head, 2)
    assert tried[3:] == ["PASSIVE", "RESTART"]
    assert log.stat().st_size <= 600_000
    assert len(read(store)) == 162
    store.close()


def test_the_writer_syncs_every_commit(store: SQLiteStore) -> None:
    settings = {name: store._writer.execute(f"PRAGMA {name}").fetchone()[0] for name in
                ("journal_mode", "synchronous", "fullfsync", "wal_autocheckpoint", "secure_delete")}  # fmt: skip
    assert settings == {
        "journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "wal_autocheckpoint": 0, "secure_delete": 2,
    }  # fmt: skip


def test_the_writer_syncs_again_after_housekeeping(store: SQLiteStore) -> None:
    def synchronous() -> object:
        return store._writer.execute("PRAGMA synchronous").fetchone()[0]

    with store.unhurried():
        assert synchronous() == 1
    assert synchronous() == 2
    with pytest.raises(KeyError), store.unhurried():
        store.put_members(ROOM, [Membership(ALICE, "a", 0, CHAIN_START, None, 0)])
    assert synchronous() == 2
    make(store)

    def fail() -> None:
        with store.unhurried():
            store.set_cursors([(ROOM, ALICE, 1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert synchronous() == 2
    assert store.load(ROOM).members[ALICE].cursor == 0  # type: ignore[union-attr]  # it is there


def test_whatever_a_power_failure_leaves_of_the_write_ahead_log_is_whole(store: SQLiteStore, tmp_path: Path) -> None:
    head = make(store)
    for _ in range(4):
        write(store, head, PORTION, run=2)
        head.members[ALICE].cursor = head.members[BOB].cursor = head.seq - 30
        with store.unhurried():
            store.set_cursors([(ROOM, ALICE, head.seq - 30), (ROOM, BOB, head.seq - 30)])
            store.commit()
            store.tidy(NOW + 60_000, {ROOM: head}.get)
    database, log = (tmp_path / "chat.db").read_bytes(), (tmp_path / "chat.db-wal").read_bytes()
    left = tmp_path / "left" / "chat.db"
    lengths = set()
    for size in range(len(log), 0, -len(log) // 40):
        left.parent.mkdir()
        left.write_bytes(database)
        left.with_name("chat.db-wal").write_bytes(log[:size])
        found = SQLiteStore(left)
        try:
            loaded = found.load(ROOM)
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
    with store._snapshot() as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM tail")


def test_after_a_stop_all_is_in_one_file(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "chat.db")
    write(store, make(store), 10)
    assert read(store) == [*range(1, 11)]  # by a connection of the reader's own
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {"chat.db", "chat.db.lock"}
