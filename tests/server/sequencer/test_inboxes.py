"""Inboxes: what waits for a device, and what it is told of that which does not wait any more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from securechat.server.store.records import (
    INBOX_BYTES,
    INBOX_BYTES_OF_SENDER,
    INBOX_ENTRIES,
    INBOX_ENTRIES_OF_SENDER,
    READER_SECONDS,
    InboxEntry,
)
from securechat.wire import limits
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson, MemoryServer

Enter = Callable[[str], MemoryPerson]

ROOM = b"R" * 32
PROOF = (bytes(limits.MAX_PROPOSAL), bytes(limits.EPOCH_STATE_LENGTH))


def put(
    server: MemoryServer, person: MemoryPerson, sender: str = "mallory", count: int = 1, **changed: Any
) -> None:
    """Have letters in somebody's inbox that no door has seen: from before there were bounds."""
    letter = replace(InboxEntry(0, server.now, ROOM, 1, bytes(32), b"w", b"t", ()), **changed)
    for _ in range(count):
        server.store.inboxes.deliver(letter, [person.device], sender)
    server.store.commit()


def invite(sender: MemoryPerson, account: str, room: bytes = b"") -> object:
    """Add somebody to a room of the sender's, a new one if there is none; the reply."""
    if not room:
        name = f"#{sender.account}{len(sender.groups)}"
        assert isinstance(sender.open_room(name, "invite"), m.Done)
        room = list(sender.groups)[-1]
    return sender.change(room, *sender.adds(account))


def refused(reply: object) -> str:
    """The text of a refusal because of a full inbox; empty: it was none."""
    assert isinstance(reply, m.Accepted | m.Refused), reply
    assert isinstance(reply, m.Accepted) or reply.code == "inbox-full", reply
    return "" if isinstance(reply, m.Accepted) else reply.text


@pytest.mark.parametrize(
    "poison",
    [
        {"welcome": bytes(limits.MAX_WELCOME + 1)},
        {"tree": bytes(limits.MAX_TREE + 1)},
        {"welcome": bytes(limits.MAX_FRAME), "tree": bytes(limits.MAX_FRAME)},
        {"departed": ((bytes(20_000), PROOF[1]),)},
        {"departed": (PROOF,) * (limits.MAX_ROOM_DEVICES + 1)},
    ],
    ids=["welcome", "tree", "frame", "tag", "departures"],
)
def test_a_letter_that_no_client_can_take_is_passed_over_and_told(
    server: MemoryServer, enter: Enter, poison: dict[str, Any]
) -> None:
    alice, bob = enter("alice"), enter("bob")
    put(server, bob, **poison)
    put(server, bob, **poison)
    assert bob.ask(m.Subscribe, bob.device, 0).head == 2
    bob.take(m.Truncated, lambda told: told == m.Truncated(bob.device, 3, b""))
    put(server, bob, **poison)
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    bob.take(m.Truncated, lambda told: told == m.Truncated(bob.device, 4, b""))
    assert bob.take(m.Welcomed).seq == 4
    back = bob.again()
    assert back.ask(m.Subscribe, bob.device, 0).head == 4
    assert back.accept_welcome() in alice.groups
    assert back.received[-1] == m.Truncated(bob.device, 4, b"")


def test_the_twin_of_a_letter_at_all_bounds_arrives(server: MemoryServer, enter: Enter) -> None:
    bob = enter("bob")
    departed = (PROOF,) * limits.MAX_ROOM_DEVICES
    put(server, bob, welcome=bytes(limits.MAX_WELCOME), tree=bytes(limits.MAX_TREE), departed=departed)
    bob.read_inbox()
    assert len(bob.take(m.Welcomed).departures) == limits.MAX_ROOM_DEVICES


def test_one_sender_has_a_small_part_of_an_inbox(server: MemoryServer, enter: Enter) -> None:
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    put(server, bob, "alice", INBOX_ENTRIES_OF_SENDER - 1)
    assert not refused(invite(alice, "bob"))
    assert "what you have sent them before" in refused(invite(alice, "bob"))
    assert "what you have sent them before" in refused(alice.open_direct("bob"))
    assert not refused(invite(carol, "bob"))  # the twin: another sender
    assert not refused(invite(alice, "carol"))  # and another receiver
    bob.send(m.Acknowledge(bob.device, 1))
    assert not refused(invite(alice, "bob"))  # and once something was read


def test_one_sender_has_so_many_bytes_of_an_inbox(server: MemoryServer, enter: Enter) -> None:
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    put(server, bob, "alice", 8, tree=bytes(limits.MAX_TREE - 200_000))
    assert not refused(invite(alice, "bob"))
    put(server, bob, "alice", 1, tree=bytes(INBOX_BYTES_OF_SENDER - 8 * limits.MAX_TREE + 8 * 200_000))
    assert refused(invite(alice, "bob"))
    assert not refused(invite(carol, "bob"))


def test_strangers_do_not_keep_out_whom_one_talks_with(server: MemoryServer, enter: Enter) -> None:
    """1,001 of them pushed a friend's invitation out, and nobody was told."""
    alice, bob, carol, dave = (enter(name) for name in ("alice", "bob", "carol", "dave"))
    bob.read_inbox()
    for friend in (alice, carol):
        assert isinstance(friend.open_direct("bob"), m.Accepted)
        bob.accept_welcome()
    direct = next(iter(alice.groups))
    assert isinstance(bob.say(direct, "hello"), m.Accepted)  # and nothing to carol
    bob.drop()
    assert not refused(invite(alice, "bob"))
    for number in range(INBOX_ENTRIES // 2 - 2):
        put(server, bob, f"stranger {number}")
    assert not refused(invite(dave, "bob"))
    for reply in (invite(dave, "bob"), dave.open_direct("bob"), invite(carol, "bob")):
        assert "too many invitations wait for bob" in refused(reply)
    assert not refused(invite(alice, "bob"))
    put(server, bob, "stranger", INBOX_ENTRIES // 2)
    assert "too many invitations wait for bob" in refused(invite(alice, "bob"))
    back = bob.again()
    back.read_inbox()
    first = back.take(m.Welcomed, lambda each: each.conversation in alice.groups)
    assert first.seq == 3  # it is still there, before all of them


def test_strangers_do_not_fill_an_inbox_by_bytes_either(server: MemoryServer, enter: Enter) -> None:
    bob, dave = enter("bob"), enter("dave")
    alice = enter("alice")
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    assert isinstance(bob.say(bob.accept_welcome(), "hello"), m.Accepted)
    for number in range(INBOX_BYTES // 2 // (4 << 20)):
        put(server, bob, f"stranger {number}", 4, tree=bytes((1 << 20) - 2000))
    assert not refused(invite(dave, "bob"))
    waiting = server.store.inboxes.waiting([bob.device], "").popitem()[1].of_all
    put(server, bob, "stranger", 1, tree=bytes(INBOX_BYTES // 2 - waiting.bytes - 100))
    assert refused(invite(dave, "bob"))
    assert not refused(invite(alice, "bob"))


def test_a_commit_that_adds_many_says_whose_inbox_is_full(server: MemoryServer, enter: Enter) -> None:
    alice, bob, _ = enter("alice"), enter("bob"), enter("carol")
    put(server, bob, "alice", INBOX_ENTRIES_OF_SENDER)
    assert isinstance(alice.open_room("#club", "invite"), m.Done)
    (room,) = alice.groups
    both = [*alice.adds("bob"), *alice.adds("carol")]
    assert refused(alice.change(room, *both)).startswith("bob ")
    assert server.head(room).seq == 0
    assert not refused(alice.change(room, both[1]))


def test_what_went_unread_is_told_and_what_was_read_before_it(server: MemoryServer, enter: Enter) -> None:
    bob = enter("bob")
    put(server, bob, time=server.now - READER_SECONDS * 1000 - 1)
    put(server, bob, time=server.now - READER_SECONDS * 1000 + 60_000)
    server.tidy()
    assert bob.ask(m.Subscribe, bob.device, 0).head == 2
    assert bob.take(m.Truncated) == m.Truncated(bob.device, 2, b"")
    assert bob.take(m.Welcomed).seq == 2
