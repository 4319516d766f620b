"""A device with a new signature key brings it into each conversation, once, while others go on, and unseen by them."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.mls.framing import ContentType, read_header
from securechat.server.sequencer import budgets
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryServer
from tests.support.people import PASSWORD, Person, opened, settle

World = Callable[..., list[Person]]

SILENT = (events.Alarm, events.ConversationChanged, events.TwoHolders, events.OwnKeyUsed, events.Held, events.Stopped)
"""What nobody hears of a rotation."""


def take_new_key(person: Person) -> bytes:
    """Have a new key in use, as if the server had its certificate; return the old one."""
    device = person.engine._context.device
    old = device.row.signature_key
    with person.engine._unit():
        with opened(device.row.identity) as key:
            device.certify_next(key, person.clock.seconds())
        device.use_newest()
        person.engine._context.touched.update(each.id for each in person.engine._registry)
    person.flush()
    return old


def own_key(person: Person, name: str) -> bytes:
    """The signature key that somebody's leaf names in a conversation."""
    group = person.engine._registry._conversations[person.id_of(name)].group
    return group.public.member(group.own_leaf).signature_key


def talking(alice: Person, bob: Person) -> None:
    alice.do(commands.OpenDirect(bob.name, "May I?", ask=True))
    settle(alice, bob)
    bob.do(commands.Accept(bob.id_of(alice.name)))
    settle(alice, bob)


def test_the_new_key_comes_into_each_conversation_by_one_commit_that_nobody_hears_of(people: World) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    alice.do(commands.JoinRoom("#open"))
    settle(alice, bob)
    bob.do(commands.JoinRoom("#open"))
    settle(alice, bob)
    names = {"bob": "alice", "#club": "#club", "#open": "#open"}
    before = {name: alice.engine._registry._conversations[alice.id_of(name)].row.epoch for name in names}
    alice.happened.clear()
    bob.happened.clear()
    old = take_new_key(alice)
    settle(alice, bob)
    new = alice.engine._context.device.row.signature_key
    assert new != old
    for name, theirs in names.items():
        assert own_key(alice, name) == new
        assert alice.engine._registry._conversations[alice.id_of(name)].row.epoch == before[name] + 1
        alice.say(name, "by the new one")
        settle(alice, bob)
        assert bob.texts(theirs)[-1] == "alice: by the new one"
        bob.say(theirs, "heard")
        settle(alice, bob)
        assert alice.texts(name)[-1] == "bob: heard"
    for person in (alice, bob):
        assert not [event for event in person.happened if isinstance(event, SILENT)]


def test_others_commit_and_talk_meanwhile_in_thirty_conversations(people: World, server: MemoryServer) -> None:
    everybody = people("alice", "bob", "carol")
    alice, bob, carol = everybody
    talking(alice, bob)
    talking(alice, carol)
    rooms = [f"#room{number}" for number in range(30)]
    for room in rooms:
        alice.do(commands.CreateRoom(room))
    settle(*everybody)
    for room in rooms:
        for name in ("bob", "carol"):
            alice.do(commands.Invite(alice.id_of(room), name))
        settle(*everybody)
        server.advance(server.seconds + 3600)  # so many keys an hour are given out to one account
    old = take_new_key(alice)
    for room in rooms:  # theirs and ours are on their way at once: one of each epoch is taken
        bob.say(room, "meanwhile")
        with bob.engine._unit():
            bob.engine._registry._conversations[bob.id_of(room)].row.path_time = 0
            bob.engine._context.touched.add(bob.id_of(room))
        bob.flush()
        alice.say(room, "meanwhile")
    settle(*everybody)
    for room in rooms:
        assert own_key(alice, room) != old
        for person in everybody:
            assert sorted(person.texts(room)) == ["alice: meanwhile", "bob: meanwhile"]
            assert not person.of(events.Stopped)
    assert old in alice.vault.signature_keys.all()  # key packages of before still name it


@pytest.mark.parametrize("step", range(6))
def test_killed_between_any_two_messages_the_staged_commit_comes_back_with_its_key(people: World, step: int) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    take_new_key(alice)
    for _ in range(step):
        if not alice.push():
            alice.pull()
    alice.crash()
    alice.connect()
    settle(alice, bob)
    assert own_key(alice, "bob") == alice.engine._context.device.row.signature_key
    alice.say("bob", "by the new one")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: by the new one"
    assert not bob.of(events.Alarm)


def test_with_an_expired_certificate_one_reads_and_what_one_says_waits(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    server.now += 46 * 86_400_000
    take_new_key(bob)
    settle(alice, bob)
    alice.happened.clear()
    alice.say("bob", "waits")
    alice.do(commands.CreateRoom("#later"))
    settle(alice, bob)
    told = [event.text for event in alice.of(events.Delayed)]  # type: ignore[attr-defined]  # it has one
    assert len(told) == 2
    assert all("waits: this device's key has to be renewed first" in text for text in told)
    assert bob.texts("alice") == ["alice: May I?"]
    bob.say("alice", "can you read me?")
    settle(alice, bob)
    assert alice.texts("bob")[-2:] == ["bob: can you read me?", "alice: waits"]
    take_new_key(alice)
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: waits"
    assert not alice.of(events.Alarm)


def test_the_budget_of_an_open_room_does_not_count_the_months_renewal(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    alice.do(commands.JoinRoom("#open"))
    settle(alice)
    seen: list[wire.FromClient] = []

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.Commit):
            assert read_header(message.commit).content_type == ContentType.COMMIT
            seen.append(message)
        return [message]

    server.inward = inward
    for _ in range(budgets.OPEN_COMMITS):
        alice.do(commands.Rotate())
        alice.do(commands.Unlock(PASSWORD))
        settle(alice)
    assert len(seen) == budgets.OPEN_COMMITS
    assert own_key(alice, "#open") == alice.engine._context.device.row.signature_key
