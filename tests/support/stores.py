"""Conversations and entries for a store, whichever it is; and the stores that there are."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from securechat.server.accounts.records import Account
from securechat.server.store.port import Store
from securechat.server.store.records import Head, Kind, LogEntry, Membership, Token
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire.chain import CHAIN_START, next_chain
from securechat.wire.limits import TOKEN_LENGTH

NOW = 1_800_000_000_000
ROOM, DIRECT = b"R" * 32, b"D" * 32
ALICE, BOB = b"a" * 16, b"b" * 16

STORES: dict[str, Callable[[Path], Store]] = {"sqlite": lambda folder: SQLiteStore(folder / "chat.db")}
"""Every store opens what it keeps in a folder, or makes it, and passes the contract (tests/server/store)."""


def make(
    store: Store, conversation: bytes = ROOM, readers: tuple[bytes, ...] = (ALICE, BOB), kind: Kind = "open"
) -> Head:
    """Found a conversation; `kind`: of a room."""
    direct = conversation == DIRECT
    head = Head(conversation, "direct" if direct else kind, "" if direct else "#lobby", 0, NOW, 0, CHAIN_START, b"i")
    for device in readers:
        head.members[device] = Membership(device, device[:1].decode(), 0, CHAIN_START, None, 0)
    store.conversations.create(head, ("a", "b") if direct else None, b"snapshot")
    store.commit()
    return head


def entries_for(head: Head, count: int, *, time: int = NOW, size: int = 10) -> list[LogEntry]:
    """The next entries of a log, to which its head moves."""
    entries: list[LogEntry] = []
    for _ in range(count):
        numbers = head.numbers.get(ALICE)
        payload = str(head.seq + 1).encode().ljust(size)
        number = numbers.last + 1 if numbers else 1
        chain = next_chain(head.chain, head.id, head.seq + 1, time, ALICE, number, payload)
        before = b"" if entries else head.chain
        entries.append(LogEntry(head.seq + 1, time, ALICE, number, 7, chain, payload, before=before))
        head.record(entries[-1])
    return entries


def write(store: Store, head: Head, count: int, *, run: int = 1, time: int = NOW, size: int = 10) -> None:
    """Add entries, in runs of `run` (the last may be shorter), each in a transaction of its own."""
    while count > 0:
        store.logs.append(head, entries_for(head, min(run, count), time=time, size=size), "a")
        store.commit()
        count -= run


def read(store: Store, conversation: bytes = ROOM, after: int = 0) -> list[int]:
    """The seqs of all entries after one."""
    seqs: list[int] = []
    while entries := store.logs.read(conversation, after, 1 << 40, 256, 1 << 20):
        seqs += [entry.seq for entry in entries]
        assert all(entry.payload.strip() == str(entry.seq).encode() for entry in entries)
        after = seqs[-1]
    return seqs


def set_cursors(store: Store, head: Head, seq: int, readers: Sequence[bytes] = (ALICE, BOB)) -> None:
    """These readers have everything up to `seq`, in memory and in the store."""
    for reader in readers:
        head.members[reader].cursor = seq
    store.logs.set_cursors([(head.id, reader, seq) for reader in readers])
    store.commit()


def make_token(store: Store, account: Account, device: bytes, *, expires: int) -> bytes:
    """Put a resume token into the store, as a login would; `expires` in ms."""
    token = secrets.token_bytes(TOKEN_LENGTH)
    store.tokens.put(Token(hashlib.sha256(token).digest(), account.name, device, account.generation, expires))
    return token


def tidy(store: Store, now: int) -> dict[bytes, int]:
    """Tidy until there is no more to do; the first seq of each conversation that shrank."""
    first: dict[bytes, int] = {}
    while True:
        trimmed, more = store.tidy(now, now)
        first.update((each.conversation, each.first_seq) for each in trimmed)
        if not more:
            return first


def same(one: Head | None, other: Head) -> bool:
    """Whether a head that was loaded says what the one in memory does."""
    assert one is not None
    fields = ("seq", "time", "epoch", "chain", "members", "departed", "group_info", "name", "kind",
              "topic", "owner_time")  # fmt: skip
    numbers = {device: (each.last, each.encode()) for device, each in one.numbers.items()}
    expected = {device: (each.last, each.encode()) for device, each in other.numbers.items()}
    return numbers == expected and all(getattr(one, field) == getattr(other, field) for field in fields)
