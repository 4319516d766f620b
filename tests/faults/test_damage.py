"""Files damaged at any place: a start is refused and touches nothing, or the content is read as it is.

What no checksum covers (a text, a number, a free page) may change and be read changed. The members find that by
chain, signatures and authenticated encryption. Here, nobody may meet anything but an answer that says what is wrong.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.errors import StorageError
from securechat.server.accounts.store import AccountStore
from securechat.server.panic import StoreBrokenError
from securechat.server.store.records import Device, Head, InboxEntry, LogEntry, Membership
from securechat.server.store.sqlite import tail
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire.chain import CHAIN_START
from tests.support.crowd import prepare

ROOM, ALICE, BOB = b"R" * 32, b"a" * 16, b"b" * 16
PAGE = 4096
MOVED, RECENT = 40, 30


def payload(seq: int) -> bytes:
    return f"{seq} ".encode().ljust(300, b"x")


def fill(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something in each table, MOVED entries in the history, and RECENT ones in the tail, three a commit."""
    head = Head(ROOM, "open", "#lobby", 0, 1, 0, CHAIN_START, b"group info")
    head.members = {device: Membership(device, "someone", 0, CHAIN_START, None, 0) for device in (ALICE, BOB)}
    store.conversations.create(head, None, b"snapshot" * 50)
    store.directory.put_device(Device(ALICE, "alice", b"certificate"), b"k" * 32)
    store.directory.put_key_packages(ALICE, [b"p" * 300] * 3, b"l" * 300)
    store.inboxes.deliver(InboxEntry(0, 1, ROOM, 1, bytes(32), b"w" * 400, b"t" * 400, ()), [ALICE, BOB], "a")

    def write(count: int) -> None:
        run = [
            LogEntry(seq, 1000 + seq, ALICE, seq, 0, bytes(32), payload(seq))
            for seq in range(head.seq + 1, head.seq + count + 1)
        ]
        store.logs.append(head, run, "a")
        for entry in run:
            head.record(entry)
        store.commit()

    write(MOVED)
    with monkeypatch.context() as patch:
        patch.setattr(tail, "TAIL_SECONDS", -1)
        while store.tidy(5000, 5000)[1]:
            pass
    store.checkpoint()
    for _ in range(RECENT // 3):
        write(3)


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store that was closed in good order."""
    store = SQLiteStore(tmp_path / "closed" / "chat.db", durable=False)  # what is damaged here was written
    fill(store, monkeypatch)
    store.close()
    return tmp_path / "closed"


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder as a killed server leaves it: with a write-ahead log that holds the RECENT entries."""
    store = SQLiteStore(tmp_path / "running" / "chat.db", durable=False)
    fill(store, monkeypatch)
    shutil.copytree(tmp_path / "running", tmp_path / "killed")
    yield tmp_path / "killed"
    store.close()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def outcome(folder: Path, name: str, data: bytes) -> int | str:
    """Open a copy of the folder with other bytes in one of its files: how many entries there are, or what is wrong."""
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(data)
    before = content(copy)
    refused = ""
    try:
        store = SQLiteStore(copy / "chat.db", durable=False)
    except StorageError as error:
        refused = str(error)
    if refused:
        assert content(copy) == before, f"{refused}: something was touched"
        assert str(copy / "chat.db") in refused
        return refused
    try:
        store.conversations.load(ROOM)
        entries = store.logs.read(ROOM, 0, 1000, 1000, 1 << 30)
        store.inboxes.read(ALICE, 0, 1 << 20)
        store.directory.device(("alice", ALICE))
        store.size()
        while store.tidy(6000, 6000)[1]:
            pass
        store.checkpoint()
    except StoreBrokenError as error:
        return str(error)
    finally:
        store.close()
    if folder.name == "killed":
        assert [(entry.seq, entry.payload) for entry in entries] == [
            (seq, payload(seq)) for seq in range(1, len(entries) + 1)
        ]
    return len(entries)


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


def test_a_bit_of_the_database_that_is_flipped(closed: Path) -> None:
    data = (closed / "chat.db").read_bytes()
    chance = random.Random(1)
    positions = {*range(16), *range(18, 100, 3), data.rindex(b"INTEGER"), data.rindex(b"TABLE")}  # header; the schema
    positions |= {page + offset for page in range(0, len(data), PAGE) for offset in (0, 3, 8)}  # each page's own header
    positions |= set(chance.choices(range(len(data)), k=60))
    outcomes = [outcome(closed, "chat.db", flipped(data, each, chance.choice((0, 3, 7)))) for each in sorted(positions)]
    assert outcome(closed, "chat.db", data) == MOVED + RECENT
    assert sum(isinstance(each, str) for each in outcomes) > 100
    assert outcomes.count(MOVED + RECENT) > 60


def test_a_schema_that_is_no_text_is_refused(closed: Path) -> None:
    data = (closed / "chat.db").read_bytes()
    told = outcome(closed, "chat.db", flipped(data, data.index(b"NOT NULL") + 4, 7))
    assert isinstance(told, str)
    assert "is damaged: b'malformed database schema" in told


@pytest.mark.parametrize("size", [1, 99, 100, PAGE - 1, PAGE, 5 * PAGE + 1, -PAGE])
def test_a_database_that_was_cut_off_is_refused(closed: Path, size: int) -> None:
    assert "It was left as it is" in str(outcome(closed, "chat.db", (closed / "chat.db").read_bytes()[:size]))


def test_a_write_ahead_log_is_read_up_to_where_it_is_damaged(killed: Path) -> None:
    """SQLite takes what has the wrong checksum, and all after it, for the end of a log that a power failure has cut."""
    data = (killed / "chat.db-wal").read_bytes()
    assert outcome(killed, "chat.db-wal", data) == MOVED + RECENT
    cut = [outcome(killed, "chat.db-wal", data[:size]) for size in (0, 1, 31, 32, 33, *range(32, len(data), 2000))]
    assert cut[:5] == [MOVED] * 5
    assert all(isinstance(each, int) and (each - MOVED) % 3 == 0 for each in cut), cut  # whole commits only
    chance = random.Random(2)
    for position in chance.choices(range(32, len(data)), k=40):
        seen = outcome(killed, "chat.db-wal", flipped(data, position, chance.randrange(8)))
        assert isinstance(seen, int), seen
        assert MOVED <= seen <= MOVED + RECENT


def test_a_write_ahead_log_with_a_damaged_header_is_refused_with_what_may_be_lost(killed: Path) -> None:
    data = (killed / "chat.db-wal").read_bytes()
    chance = random.Random(4)
    damaged = [flipped(data, position, chance.randrange(8)) for position in range(32)]
    damaged += [bytes(size) + data[size:] for size in (32, 512, 4096)]  # a sector takes the first frame's header along
    for each in damaged:
        told = str(outcome(killed, "chat.db-wal", each))
        assert "chat.db-wal is damaged at its beginning" in told
        most = RECENT // 3 + (not any(each[32:56]) and not any(data[36:40]))  # it may have ended a commit
        assert f"lose what it holds, up to {most} commits of the store" in told
        for size in (0, 1, 31, 32):  # no frame: that may be the end of a server in its first commit, and loses nothing
            assert outcome(killed, "chat.db-wal", each[:size]) == MOVED
    (killed / "chat.db-shm").unlink()  # somebody has copied the two files by hand
    assert "is damaged at its beginning" in str(outcome(killed, "chat.db-wal", damaged[20]))
    assert outcome(killed, "chat.db-wal", data) == MOVED + RECENT


def test_what_stands_behind_damage_in_the_write_ahead_log_is_counted_once(killed: Path) -> None:
    log = killed / "chat.db-wal"
    data = log.read_bytes()
    frames = range(32, len(data), 24 + PAGE)
    commits = [start for start in frames if data[start + 4 : start + 8] != bytes(4)]
    commits = [start for start in commits if data[start + 8 : start + 16] == data[16:24]]  # others are of a former log
    assert len(commits) == RECENT // 3
    for first in (0, len(commits) // 2, len(commits) - 1):
        start = commits[first - 1] + 24 + PAGE if first else 32  # the first frame of a commit
        log.write_bytes(flipped(data, start + 100, 3))
        folder = killed.with_name(f"from {first}")
        shutil.copytree(killed, folder)
        store = SQLiteStore(folder / "chat.db", durable=False)
        assert store.passed_over == len(commits) - first
        shutil.copytree(folder, killed.with_name("killed again"))
        store.close()
        again = SQLiteStore(killed.with_name("killed again") / "chat.db", durable=False)
        assert again.passed_over == 0
        again.close()
        shutil.rmtree(killed.with_name("killed again"))


def test_a_log_that_a_kill_has_left_whole_or_cut_off_has_nothing_passed_over(killed: Path) -> None:
    log = killed / "chat.db-wal"
    data = log.read_bytes()
    for size in (len(data), len(data) - PAGE, 32, 0):
        log.write_bytes(data[:size])
        folder = killed.with_name(f"cut to {size}")
        shutil.copytree(killed, folder)
        store = SQLiteStore(folder / "chat.db", durable=False)
        assert store.passed_over == 0
        store.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b"%PDF-1.7 " * 2000), "file is not a database"),
        (lambda path: path.write_bytes(b""), "is not a database of this server"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot open"),
    ],
)
def test_what_is_no_database_is_refused(closed: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(closed / "chat.db")
    with pytest.raises(StorageError, match=words):
        SQLiteStore(closed / "chat.db")


def test_any_byte_of_the_accounts_that_is_changed_or_missing(tmp_path: Path) -> None:
    prepare(tmp_path, ["alice", "bob"])
    path = tmp_path / "accounts.json"
    data = path.read_bytes()
    chance = random.Random(3)
    damaged = [data[:size] for size in range(0, len(data) - 2, 7)]
    damaged += [flipped(data, position, chance.randrange(8)) for position in range(len(data))]
    refused = []
    for each in damaged:
        path.write_bytes(each)
        try:
            AccountStore(path).close()
        except StorageError as error:
            refused.append(str(error))
        assert path.read_bytes() == each
    assert len(refused) > len(data) // 3
    assert all(text.startswith(f"{path} ") and "It was left as it is" in text for text in refused)
