"""What each account has written and is kept is known exactly, whatever happens to it."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.strategies import booleans, integers, sampled_from

from securechat.server.store.records import (
    READER_SECONDS,
    AccountUsage,
    ChainLink,
    Checkpoint,
    Device,
    Head,
    InboxEntry,
    LogEntry,
    Membership,
    StoredKeepsake,
)
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire.chain import CHAIN_START, next_chain
from tests.support.stores import NOW, tidy

PEOPLE = {"anna": b"1" * 16, "ben": b"2" * 16, "cleo": b"3" * 16}
ROOMS = (b"R" * 32, b"S" * 32, b"T" * 32)
WRITTEN = {
    "tail": ("account", "entries"),
    "history": ("account", "entries"),
    "handshakes": ("account", "entries"),
    "letters": ("account", "welcome", "tree", "departed", "revocations"),
    "checkpoints": ("account", "group_info", "tree", "departed", "revocations"),
    "conversations": ("founder", "group_info", "snapshot"),
    "numbers": ("device", "answers"),
    "key_packages": ("device", "key_package"),
    "devices": ("account", "certificate"),
    "chains": ("account", "link"),
    "keepsakes": ("account", "keepsake"),
}
"""Of each table: who has written a row, and the columns that they pay for."""


def counted(path: Path) -> Counter[str]:
    """What is held of each account, by a look at every row."""
    held: Counter[str] = Counter()
    owners = {device: account for account, device in PEOPLE.items()}
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader:
        for table, (whose, *columns) in WRITTEN.items():
            for account, *values in reader.execute(f"SELECT {whose}, {', '.join(columns)} FROM {table}"):  # noqa: S608 - from above
                held[owners.get(account, account)] += sum(map(len, values))
    return Counter({account: size for account, size in held.items() if size})


def entry(head: Head, account: str, size: int) -> LogEntry:
    number = head.numbers_of(PEOPLE[account]).last + 1
    chain = next_chain(head.chain, head.id, head.seq + 1, head.time, PEOPLE[account], number, bytes(size))
    made = LogEntry(head.seq + 1, head.time, PEOPLE[account], number, head.epoch, chain, bytes(size), before=head.chain)
    head.record(made)
    return made


class Held(RuleBasedStateMachine):
    """A store to which anything happens."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "chat.db"
        self.store = SQLiteStore(self.path, durable=False)
        self.now = NOW
        self.heads: dict[bytes, Head] = {}
        self.written = False  # since the last commit

    @initialize()
    def publish(self) -> None:
        for account, device in PEOPLE.items():
            self.store.directory.reserve(account, [device])
            self.store.directory.put_device(Device(device, account, b"certificate"), b"key")
        self.store.commit()

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def load(self) -> None:
        loaded = {room: self.store.conversations.load(room) for room in ROOMS}
        self.heads = {room: head for room, head in loaded.items() if head is not None}

    @rule(room=sampled_from(ROOMS), account=sampled_from([*PEOPLE]), kind=sampled_from(["open", "invite"]))
    def found(self, room: bytes, account: str, kind: str) -> None:
        if room in self.heads:
            return
        head = Head(room, kind, f"#{room[:1].decode()}", 0, self.now, 0, CHAIN_START, b"info", founder=account)  # type: ignore[arg-type]  # kinds are str here
        for each, device in PEOPLE.items():
            head.members[device] = Membership(device, each, 0, CHAIN_START, None, 0)
        self.store.conversations.create(head, None, bytes(300))
        self.heads[room] = head
        self.written = True

    @precondition(lambda self: self.heads)
    @rule(which=integers(0), account=sampled_from([*PEOPLE]), sizes=integers(1, 3), size=integers(1, 3000))
    def say(self, which: int, account: str, sizes: int, size: int) -> None:
        head = [*self.heads.values()][which % len(self.heads)]
        self.store.logs.append(head, [entry(head, account, size) for _ in range(sizes)], account)
        self.written = True

    @precondition(lambda self: self.heads)
    @rule(which=integers(0), account=sampled_from([*PEOPLE]), snapshot=booleans(), opens=booleans())
    def change(self, which: int, account: str, *, snapshot: bool, opens: bool) -> None:
        head = [*self.heads.values()][which % len(self.heads)]
        made = entry(head, account, 200)
        self.store.logs.append(head, [made], account)
        if opens:
            head.group_info = bytes(made.seq % 97)
            self.store.conversations.save_commit(head, made, bytes(100 + made.seq % 97) if snapshot else None, account)
            found = Checkpoint(account, made.seq, made.time, made.chain, b"info", bytes(made.seq % 97), ((b"p", b"s"),))
            self.store.conversations.put_checkpoint(head.id, found)
            stated = (b"statement",) * snapshot
            letter = InboxEntry(0, self.now, head.id, made.seq, made.chain, b"welcome", bytes(500), (), stated)
            self.store.inboxes.deliver(letter, [*PEOPLE.values()], account)
        else:
            self.store.conversations.save_handshake(head.id, made, account)
        self.written = True

    @rule(account=sampled_from([*PEOPLE]), count=integers(0, 3), last=booleans(), size=integers(1, 99))
    def leave_things(self, account: str, count: int, size: int, *, last: bool) -> None:
        device, store = PEOPLE[account], self.store
        store.directory.put_device(Device(device, account, bytes(size)), b"key")
        store.directory.put_key_packages(device, [bytes(size)] * count, bytes(size) if last else b"")
        store.directory.take_key_package(device)
        store.keepsakes.put(account, StoredKeepsake(b"key", 1, bytes(size)))
        found = store.chains.head(account, b"key")
        store.chains.append(account, b"key", [ChainLink(found.seq + 1 if found else 1, self.now, bytes(size))])
        self.written = True

    @rule(account=sampled_from([*PEOPLE]))
    def go(self, account: str) -> None:
        self.store.directory.drop_devices([PEOPLE[account]])
        self.written = True

    @precondition(lambda self: self.heads)
    @rule(which=integers(0), everybody=booleans())
    def read(self, which: int, *, everybody: bool) -> None:
        head = [*self.heads.values()][which % len(self.heads)]
        for device in [*PEOPLE.values()][not everybody :]:
            head.members[device].cursor = head.seq
            self.store.logs.set_cursors([(head.id, device, head.seq)])
            self.store.inboxes.acknowledge(device, self.store.inboxes.newest(device))
        self.written = True

    @precondition(lambda self: self.heads)
    @rule(which=integers(0))
    def delete(self, which: int) -> None:
        room = [*self.heads][which % len(self.heads)]
        self.commit()  # as in a turn, which adds nothing to what it deletes
        self.store.conversations.delete(room)
        del self.heads[room]
        self.written = True

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self.written = False

    @rule()
    def roll_back(self) -> None:
        self.store.rollback()
        self.written = False
        self.load()

    @rule(days=sampled_from([0, 0, READER_SECONDS // 86_400 + 1, 200]))
    def housekeep(self, days: int) -> None:
        self.commit()
        self.now += 60_000 + days * 86_400_000
        tidy(self.store, self.now)
        self.load()

    @rule()
    def restore(self) -> None:
        self.commit()
        self.store.conversations.resume(self.now)
        self.store.directory.drop_key_packages()
        self.commit()
        self.crash()

    @rule()
    def crash(self) -> None:
        self.store.close()
        self.store = SQLiteStore(self.path, durable=False)
        self.written = False
        self.load()

    @invariant()
    def what_is_held_is_what_is_there(self) -> None:
        if self.written:
            return
        there = counted(self.path)
        assert {each: self.store.held(each) for each in PEOPLE} == {each: there[each] for each in PEOPLE}
        shown = self.store.usage(len(PEOPLE))
        assert dict(shown.accounts) == {each: there[each] for each in PEOPLE if there[each]}
        assert [*shown.accounts] == sorted(shown.accounts, key=lambda each: -each.held_bytes)
        assert {each.conversation for each in shown.conversations} == self.heads.keys()
        assert all(each.founder in PEOPLE and each.held_bytes >= 100 for each in shown.conversations)


TestHeld = Held.TestCase
TestHeld.settings = settings(max_examples=6, stateful_step_count=40, deadline=None)


def test_what_a_killed_process_has_written_is_held_and_no_more(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from securechat.server.store.sqlite.store import SQLiteStore
from tests.server.store.test_held import PEOPLE, ROOMS, entry
from tests.support.stores import NOW, tidy
store = SQLiteStore(Path(sys.argv[1]))
head = store.conversations.load(ROOMS[0])
device = PEOPLE["anna"]
print("begun", flush=True)
while True:
    made = entry(head, "anna", 900)
    store.logs.append(head, [made], "anna")
    store.conversations.save_handshake(head.id, made, "anna")
    store.commit()
    tidy(store, NOW + head.seq * 5_000)
"""
    path = tmp_path / "chat.db"
    store = SQLiteStore(path)
    head = Head(ROOMS[0], "open", "#r", 0, NOW, 0, CHAIN_START, b"info", founder="ben")
    for account, device in PEOPLE.items():
        store.directory.reserve(account, [device])
        store.directory.put_device(Device(device, account, b"certificate"), b"key")
        head.members[device] = Membership(device, account, 0, CHAIN_START, None, 0)
    store.conversations.create(head, None, bytes(300))
    store.commit()
    store.close()
    before = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as reader:
                while reader.execute("SELECT count(*) FROM handshakes").fetchone()[0] < before + 20:
                    assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        store = SQLiteStore(path)
        try:
            there = counted(path)
            assert there["anna"] > 20 * 2 * 900
            assert {each: store.held(each) for each in PEOPLE} == {each: there[each] for each in PEOPLE}
            assert store.usage(1).accounts == [AccountUsage("anna", there["anna"])]
            (count,) = store._writer.rows("SELECT count(*) FROM handshakes")[0]
            before = count
        finally:
            store.close()
