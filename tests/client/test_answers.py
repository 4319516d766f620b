"""Each command is answered once, whatever comes between it and its end."""

import random
from collections.abc import Callable

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.commands import Command
from securechat.wire import messages as wire
from tests.support.memory_server import Link, MemoryServer, refuse
from tests.support.people import Person, only, settle

World = Callable[..., list[Person]]


def give(person: Person, *given: Command) -> None:
    """Hand commands over at once; what makes no sense is refused."""
    person.engine.do(given)
    person.flush()


def answer(person: Person, command: Command) -> events.Event:
    """The one answer of a command."""
    (answered,) = [
        event
        for event in person.happened
        if isinstance(event, events.Done | events.Refused) and event.command == command.id
    ]
    return answered


def refusal(person: Person, command: Command) -> str:
    """Why a command was refused."""
    refused = answer(person, command)
    assert isinstance(refused, events.Refused), refused
    return refused.text


def done(person: Person, *given: Command) -> bool:
    """Whether all of these were carried out."""
    return all(isinstance(answer(person, each), events.Done) for each in given)


def room_of(owner: Person, *members: Person) -> bytes:
    """An invite room with these people."""
    owner.do(commands.CreateRoom("#den"))
    settle(owner, *members)
    for member in members:
        owner.do(commands.Invite(owner.id_of("#den"), member.name))
        settle(owner, *members)
    return owner.id_of("#den")


def test_a_refused_command_undoes_nothing_of_those_before_it_and_ends_nobody(people: World) -> None:
    alice, bob = people("alice", "bob")
    den = room_of(alice, bob)
    bob.crash()  # so that what is refused has to be read from the vault first
    bob.connect()
    say, forbidden, again = commands.Send(den, "one"), commands.Invite(den, "carol"), commands.Send(den, "two")
    give(bob, say, forbidden, again)
    settle(alice, bob)
    assert refusal(bob, forbidden) == "Only alice can invite people to #den."
    assert done(bob, say, again)
    assert alice.texts("#den") == ["bob: one", "bob: two"]


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (commands.JoinRoom("#x"), "#x"),
        (commands.CreateRoom("#x"), "#x"),
        (commands.OpenDirect("bob", ask=False), "bob"),
    ],
    ids=["join", "create", "open"],
)
def test_who_leaves_before_they_are_in_is_told_of_both(
    people: World, asked: Command, name: str, online: bool  # noqa: FBT001  a parameter of the test
) -> None:
    alice, _ = people("alice", "bob")
    if not online:
        alice.cut()
    give(alice, asked)
    leave = commands.Leave(alice.id_of(name))
    give(alice, leave)
    if not online:
        alice.connect()
    settle(alice)
    if online and isinstance(asked, commands.CreateRoom):
        assert done(alice, asked)  # it was founded before we left
    else:
        assert refusal(alice, asked) == "You left before this was sent."
    assert done(alice, leave)


def test_the_same_change_asked_for_twice_is_made_once_and_answered_twice(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    den = room_of(alice)
    invites = [commands.Invite(den, "bob"), commands.Invite(den, "bob"), commands.Invite(den, "carol")]
    give(alice, *invites)
    settle(alice, bob, carol)
    assert done(alice, *invites)
    removals = [commands.Remove(den, "bob"), commands.Remove(den, "bob")]
    give(alice, *removals)
    settle(alice, bob, carol)
    assert done(alice, *removals)
    room = alice.engine.snapshot.find("#den")
    assert room is not None
    assert room.members == ("alice", "carol")


def test_of_several_changes_only_the_impossible_one_is_refused(server: MemoryServer, people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    den = room_of(alice)
    refused = 0

    def full(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        """Refuse the commit that adds both, and then the one that adds bob alone."""
        nonlocal refused
        if isinstance(message, wire.Commit) and refused < 2:
            refused += 1
            refuse(link, message, "not-allowed", "bob is in too many rooms")
            return []
        return [message]

    server.inward = full
    first, second = commands.Invite(den, "bob"), commands.Invite(den, "carol")
    give(alice, first, second)
    settle(alice, bob, carol)
    assert refusal(alice, first) == "bob is in too many rooms"
    assert done(alice, second)


def test_who_comes_and_goes_by_a_command_is_told_with_it_and_before_its_answer(people: World) -> None:
    alice, bob = people("alice", "bob")
    den = room_of(alice)
    for command, change in ((commands.Invite(den, "bob"), "joined"), (commands.Remove(den, "bob"), "removed")):
        give(alice, command)
        settle(alice, bob)
        told = [event for event in alice.happened if event.command == command.id]
        assert [type(event) for event in told] == [events.ConversationChanged, events.Done]
        assert isinstance(told[0], events.ConversationChanged)
        assert (told[0].change, told[0].account) == (change, "bob")


def stop(person: Person, other: Person, name: str) -> None:
    """Let the server break the order of a conversation, so that it stops for one person."""

    def lie(message: wire.FromServer) -> list[wire.FromServer]:
        return [msgspec.structs.replace(message, seq=message.seq + 1) if isinstance(message, wire.Entry) else message]

    only(person, lie)
    other.say(name, "out of order")
    settle(person, other)
    person.server.outward = lambda _link, message: [message]


def test_what_waits_in_a_conversation_that_stops_is_told_so_and_sent_after_the_repair(
    server: MemoryServer, people: World
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    server.inward = lambda link, m: [] if isinstance(m, wire.Submit) and link is alice.link else [m]
    waits = commands.Send(alice.id_of("bob"), "on its way")
    give(alice, waits)
    stop(alice, bob, "alice")
    assert alice.state_of("bob") == "stopped"
    (told,) = [event for event in alice.of(events.Delayed) if event.command == waits.id]
    assert isinstance(told, events.Delayed)
    assert told.text == "bob has stopped: what you said or changed waits until /repair has rejoined it."
    server.inward = lambda _link, message: [message]
    repair = commands.Repair(alice.id_of("bob"))
    give(alice, repair)
    settle(alice, bob)
    assert done(alice, repair)
    assert answer(alice, waits)


def test_a_stopped_conversation_can_be_left_though_the_server_lets_nobody_back(
    server: MemoryServer, people: World
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    stop(alice, bob, "alice")

    def deny(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.Resync):
            refuse(link, message, "not-allowed", "no")
            return []
        return [message]

    server.inward = deny
    leave = commands.Leave(alice.id_of("bob"))
    give(alice, leave)
    settle(alice, bob)
    assert done(alice, leave)
    assert alice.state_of("bob") == "closed"


def test_who_leaves_waits_for_no_decision_on_a_key(people: World) -> None:
    alice, bob = people("alice", "bob")
    den = room_of(bob, alice)  # whose only owner could not leave
    with alice.vault.transaction():
        alice.engine._context.pins.verify("bob", b"k" * 32)
    held, leave = commands.Send(den, "for bob only"), commands.Leave(den)
    give(alice, held)
    settle(alice, bob)
    assert [event.command for event in alice.of(events.Held)] == [held.id]
    give(alice, leave)
    settle(alice, bob)
    assert refusal(alice, held) == "it was held for the key of bob, and you left"
    assert done(alice, leave)
    assert bob.texts("#den") == []


def test_what_was_on_its_way_in_a_conversation_that_is_replaced_is_not_lost_without_a_word(
    server: MemoryServer, people: World
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    server.inward = lambda link, m: [] if isinstance(m, wire.Submit) and link is alice.link else [m]
    sent = commands.Send(alice.id_of("bob"), "on its way")
    give(alice, sent)
    stop(alice, bob, "alice")
    server.inward = lambda _link, message: [message]
    bob.do(commands.Leave(bob.id_of("alice")))
    settle(alice, bob)
    bob.do(commands.OpenDirect("alice", "a new one", ask=False))
    settle(alice, bob)
    changes = [change.change for change in alice.happened if isinstance(change, events.ConversationChanged)]
    assert "beside" in changes  # the first one goes on
    assert not [event for event in alice.happened if isinstance(event, events.Refused)]
    alice.cut()
    alice.connect()
    leave = commands.Leave(sent.conversation)
    give(alice, leave)
    settle(alice, bob)
    assert done(alice, leave)
    assert answer(alice, sent)
    assert alice.texts("bob") == ["bob: a new one"]


def test_a_removal_that_others_have_made_is_done_whatever_way_it_is_learned(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    den = room_of(alice, bob, carol)
    alice.cut()
    remove = commands.Remove(den, "carol")
    give(alice, remove)
    carol.do(commands.Leave(den))
    settle(bob, carol)
    bob.say("#den", "and a commit has removed her")
    settle(bob, carol)
    alice.connect()
    once = [True]

    def old_copy(message: wire.FromServer) -> list[wire.FromServer]:
        """Make alice resync: she is told of a number that she does not know."""
        if isinstance(message, wire.Subscribed) and message.head and once:
            once.clear()
            return [msgspec.structs.replace(message, last=50)]
        return [message]

    only(alice, old_copy)
    settle(alice, bob)
    assert done(alice, remove)


def test_opening_what_is_being_opened_waits_for_it_and_what_they_ask_for_has_to_be_answered(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.cut()
    twice = [commands.OpenDirect("bob", ask=False), commands.OpenDirect("bob", ask=False)]
    give(alice, *twice)
    assert not alice.of(events.Done)
    alice.connect()
    settle(alice, bob)
    assert done(alice, *twice)
    (carol,) = people("carol")
    carol.do(commands.OpenDirect("bob", "may I?", ask=True))
    settle(bob, carol)
    back = commands.OpenDirect("carol", ask=True)
    give(bob, back)
    assert refusal(bob, back) == "carol asks to talk with you: accept or decline first."


@pytest.mark.parametrize("seed", range(20))
def test_whatever_people_ask_for_in_whatever_order_everything_is_answered_once(people: World, seed: int) -> None:
    chance = random.Random(seed)
    random.seed(seed)  # the waits between tries
    everybody = people("alice", "bob", "carol")
    given: list[tuple[Person, Command]] = []
    for _ in range(150):
        person = chance.choice(everybody)
        known = list(person.engine.snapshot.conversations) or [b"?" * 32]
        where, whom = chance.choice(known), chance.choice(everybody).name
        command: Command = chance.choice(
            [
                commands.Send(where, f"line {len(given)}"), commands.Send(where, "again"),
                commands.OpenDirect(whom, "hello", ask=chance.random() < 0.5), commands.OpenDirect(whom, ask=False),
                commands.Accept(where), commands.Decline(where), commands.Bye(where), commands.Leave(where),
                commands.Repair(where), commands.JoinRoom(chance.choice(("#a", "#b"))), commands.CreateRoom("#c"),
                commands.Invite(where, whom), commands.Invite(where, whom), commands.Remove(where, whom),
                commands.ListRooms(), commands.ListMembers(where), commands.ShowSafetyNumber(whom),
                commands.Verify(whom), commands.Trust(whom),
            ]
        )  # fmt: skip
        given.append((person, command))
        give(person, command)
        for _ in range(chance.randint(0, 6)):
            other = chance.choice(everybody)
            if other.link is None:
                other.connect()
            elif chance.random() < 0.05:
                other.cut()
                other.flush()
            elif chance.random() < 0.5:
                other.push()
            else:
                other.pull(chance.randint(1, 4))
    for person in everybody:
        if person.link is None:
            person.connect()
    settle(*everybody)
    for person, command in given:
        assert answer(person, command), command


def test_what_a_front_end_asks_by_mistake_is_refused_and_ends_nobody(people: World) -> None:
    (alice,) = people("alice")

    class Unknown(Command):
        """None that the core knows."""

    mistakes = [
        Unknown(), commands.MarkShown(-1), commands.MarkShown(1), commands.MarkShown(1 << 64), commands.Visit(b"", 1),
        commands.MarkUnread(9), commands.Visit(b"?" * 32),
    ]  # fmt: skip
    question = commands.ListRooms()
    give(alice, *mistakes, question, question)
    settle(alice)
    assert [refusal(alice, each) for each in mistakes] == [
        "This program does not know that command.", *["There is no such message."] * 5,
        "There is no such conversation.",
    ]  # fmt: skip
    assert done(alice, question)
