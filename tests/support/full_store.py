"""A store whose disk is full between a commit and its checkpoint; test_disk.py runs this over a faulty system.

    full_store.py DATABASE SWITCHES
"""

import sys
from pathlib import Path

from securechat.server.store.records import Head, LogEntry, Membership
from securechat.server.store.sqlite import writer
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire.chain import CHAIN_START
from tests.support.faulty_system import throw_switches

ROOM, ALICE = b"R" * 32, b"a" * 16


def write(store: SQLiteStore, head: Head, count: int) -> None:
    """Append and commit."""
    for _ in range(count):
        payload = str(head.seq + 1).encode().ljust(4000)
        entry = LogEntry(head.seq + 1, 1, ALICE, head.seq + 1, 0, bytes(32), payload)
        store.logs.append(head, [entry], "a")
        head.record(entry)
    store.commit()


def main() -> None:
    """Print the seqs that a store holds at the end."""
    path, switches = map(Path, sys.argv[1:])
    writer.WAL_BYTES = 0  # every checkpoint finds the log too long
    store = SQLiteStore(path)
    head = Head(ROOM, "open", "#lobby", 0, 1, 0, CHAIN_START, b"i")
    head.members[ALICE] = Membership(ALICE, "alice", 0, CHAIN_START, None, 0)
    store.conversations.create(head, None, b"snapshot")
    write(store, head, 100)
    store.checkpoint()  # all of it: the log's space is free, and the next commit starts from its beginning
    throw_switches(switches, disk_full=True)
    write(store, head, 10)  # fits into the log; the database cannot grow
    store.checkpoint()
    write(store, head, 10)
    throw_switches(switches)
    write(store, head, 10)
    store.close()
    store = SQLiteStore(path)
    print([entry.seq for entry in store.logs.read(ROOM, 0, 1000, 1000, 1 << 30)])  # noqa: T201 - the answer
    store.close()


if __name__ == "__main__":
    main()
