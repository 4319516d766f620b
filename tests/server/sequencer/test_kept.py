"""What a turn has done is on disk as it is in memory: a server that is killed then forgets none of it."""

from collections.abc import Callable
from dataclasses import fields

from securechat.mls.proposals import Remove
from securechat.server.store.records import Head
from securechat.wire import messages as m
from tests.server.sequencer.test_heirs import enters, heir_of
from tests.server.sequencer.test_publishing import beside, publish
from tests.server.sequencer.test_revoking import leaf_of, revoke
from tests.server.sequencer.test_succeeding import contested, succeed
from tests.server.sequencer.test_words import carry_out
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]

KEPT = {each.name for each in fields(Head)} - {"held_bytes", "held_time", "numbers"}
"""But for what the store looks up by itself, and numbers, which stand there in another form."""


def on_disk(server: MemoryServer, room: bytes) -> bool:
    """Whether the conversation is on disk as it is in memory; says where it is not."""
    head, kept = server.head(room), server.store.conversations.load(room)
    assert kept is not None
    for name in KEPT:
        assert getattr(kept, name) == getattr(head, name), name
    assert {device: each.last for device, each in kept.numbers.items()} == {
        device: each.last for device, each in head.numbers.items()
    }
    return True


def test_who_enters_leaves_and_is_sent_away_by_the_operator(server: MemoryServer, enter: Enter) -> None:
    alice, bob, carol = (enter(name) for name in ("alice", "bob", "carol"))
    alice.open_room("#lobby")
    (room,) = alice.groups
    alice.subscribe(room)
    assert on_disk(server, room)
    for person in (bob, carol):
        person.join("#lobby")
        alice.process(alice.take(m.Entry))
        assert on_disk(server, room)
    leaf = leaf_of(alice, room, "carol")
    assert isinstance(carol.leave(room), m.Accepted)
    assert server.head(room).departed.keys() == {carol.device}
    assert on_disk(server, room)
    alice.process(alice.take(m.Entry))
    assert isinstance(alice.change(room, Remove(leaf)), m.Accepted)
    assert not server.head(room).departed
    assert on_disk(server, room)
    for action in ("remove", "bar"):
        assert server.speak("#lobby", action, "bob") is None
        assert on_disk(server, room)
    assert len(server.head(room).words) == 2
    assert isinstance(carry_out(server, alice, room), m.Accepted)
    assert not server.head(room).words
    assert [each.account for each in server.head(room).members.values() if each.last_seq is None] == ["alice"]
    assert on_disk(server, room)


def test_who_is_added_renews_is_revoked_and_comes_back(server: MemoryServer, enter: Enter) -> None:
    alice, bob, carol = (enter(name) for name in ("alice", "bob", "carol"))
    alice.open_room("#club", "invite")
    (room,) = alice.groups
    alice.subscribe(room)
    for guest in (bob, carol):
        guest.read_inbox()
        assert isinstance(alice.change(room, *alice.adds(guest.account)), m.Accepted)
        assert guest.accept_welcome() == room
        assert on_disk(server, room)
    before = server.head(room).members[alice.device].leaf_seq
    alice.renew()
    assert server.head(room).members[alice.device].leaf_seq == before + 1
    assert on_disk(server, room)
    revoke(bob)
    (waiting,) = server.head(room).revocations
    assert server.head(room).members[bob.device].last_seq == waiting
    assert on_disk(server, room)
    assert isinstance(alice.change(room, Remove(leaf_of(alice, room, "bob"))), m.Accepted)
    assert not server.head(room).revocations
    assert on_disk(server, room)
    heir = heir_of(carol)
    assert isinstance(enters(heir, room), m.Accepted)
    present = {each.device for each in server.head(room).members.values() if each.last_seq is None}
    assert present == {alice.device, heir.device}
    assert on_disk(server, room)
    alice.process(alice.take(m.Entry, lambda entry: entry.device == heir.device))
    assert isinstance(heir.ask(m.DeleteAccount, heir.secret), m.Done)
    assert server.head(room).deleted == {heir.device: "carol"}
    assert on_disk(server, room)
    assert isinstance(alice.change(room, Remove(leaf_of(alice, room, "carol"))), m.Accepted)
    assert not server.head(room).deleted
    assert on_disk(server, room)


def test_a_successor_is_followed_and_contested(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#club", "invite")
    (room,) = alice.groups
    alice.subscribe(room)
    bob.read_inbox()
    assert isinstance(alice.change(room, *alice.adds("bob")), m.Accepted)
    bob.accept_welcome()
    victim = beside(bob)
    heir, succession = succeed(bob)
    assert len(server.head(room).revocations) == 1
    assert on_disk(server, room)
    victim.chain = [*victim.chain, succession]
    victim = beside(victim)
    assert isinstance(publish(victim, contested(victim, heir.identity_key)), m.Published)
    assert len(server.head(room).revocations) == 1  # in the place of what it contests
    assert on_disk(server, room)
    assert isinstance(alice.change(room, Remove(leaf_of(alice, room, "bob"))), m.Accepted)
    assert on_disk(server, room)
