"""The data folder of a large site, made by the store's own code: what would take clients hours."""

import contextlib
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import argon2

from securechat.server.accounts.file import write_accounts
from securechat.server.accounts.passwords import COST
from securechat.server.accounts.records import Account
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE
from securechat.server.store.records import Head, Membership, Token
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire import limits
from securechat.wire.chain import CHAIN_START
from tests.support.crowd import Ticket


def seed(data: Path, *, accounts: int, tokens: int, rooms: int) -> None:
    """Make accounts with so many devices that hold a token, and open rooms, each with one of them in it.

    Nobody knows their passwords, and the rooms' groups are none: they can be listed, not entered. The folder has
    nothing in it yet.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    password_hash = argon2.PasswordHasher.from_parameters(COST).hash(secrets.token_bytes(limits.SECRET_LENGTH))
    now = int(time.time())
    people = [Account(f"member{number}", password_hash, now, generation=now) for number in range(accounts)]
    with contextlib.closing(SQLiteStore(data / STORE_FILE)) as store:
        for each in people:
            for _ in range(tokens):
                device = secrets.token_bytes(limits.DEVICE_ID_LENGTH)
                digest = secrets.token_bytes(limits.TOKEN_LENGTH)
                store.tokens.put(Token(digest, each.name, device, each.generation, (now + 86_400) * 1000))
        store.commit()
        for number in range(rooms):
            member = people[number % accounts].name
            _found(store, f"#room{number}", [(member, secrets.token_bytes(limits.DEVICE_ID_LENGTH))])
        store.commit()
    write_accounts(data / ACCOUNTS_FILE, people, [])


def seat(data: Path, rooms: Iterable[str], tickets: Iterable[Ticket]) -> list[bytes]:
    """Found rooms with these devices in each, as logs that they may read and write; their ids."""
    members = [(each.account, each.device) for each in tickets]
    with contextlib.closing(SQLiteStore(data / STORE_FILE)) as store:
        conversations = [_found(store, room, members) for room in rooms]
        store.commit()
    return conversations


def _found(store: SQLiteStore, name: str, members: Sequence[tuple[str, bytes]]) -> bytes:
    conversation = secrets.token_bytes(limits.CONVERSATION_ID_LENGTH)
    head = Head(conversation, "open", name, 0, int(time.time() * 1000), 0, CHAIN_START, b"i", founder=members[0][0])
    for account, device in members:
        head.members[device] = Membership(device, account, 0, CHAIN_START, None, 0)
    store.conversations.create(head, None, b"snapshot")
    return conversation
