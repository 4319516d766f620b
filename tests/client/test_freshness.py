"""Freshness: owners confirm their rooms weekly, and what none has confirmed for two weeks is marked."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.conversations.numbers import decode_time
from securechat.errors import PeerError
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, only, settle

World = Callable[..., list[Person]]

DAY = 86_400


def pass_days(server: MemoryServer, days: float, *people: Person) -> None:
    """Let time pass, while whoever is connected does what is due."""
    server.now += int(days * DAY * 1000)
    server.advance(server.seconds + days * DAY)
    for person in people:
        if person.link is not None:
            person.engine.handle_timer()
    settle(*people)


def team(people: World) -> tuple[Person, Person]:
    """alice's room, with bob in it."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    alice.do(commands.CreateRoom("#team"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#team"), "bob"))
    settle(alice, bob)
    assert bob.state_of("#team") == "open"
    return alice, bob


def epoch(person: Person, name: str = "#team") -> int:
    snapshot = person.engine.snapshot.find(name)
    assert snapshot is not None
    return snapshot.epoch


def since(person: Person) -> int:
    snapshot = person.engine.snapshot.find("#team")
    assert snapshot is not None
    return snapshot.unconfirmed_since


def test_an_owner_commits_weekly_in_silence_and_others_when_they_speak(people: World, server: MemoryServer) -> None:
    alice, bob = team(people)
    before = epoch(bob)
    for week in range(1, 4):
        pass_days(server, 7.1, alice, bob)
        assert epoch(alice) == epoch(bob) == before + week  # one commit: the owner's
    alice.cut()
    pass_days(server, 7.1, bob)
    assert epoch(bob) == before + 3
    bob.say("#team", "I speak")
    settle(bob)
    assert epoch(bob) == before + 4
    assert not bob.of(events.Unconfirmed)


def test_a_room_that_no_owner_has_signed_for_two_weeks_is_marked_until_one_does(
    people: World, server: MemoryServer
) -> None:
    alice, bob = team(people)
    pass_days(server, 7.1, alice, bob)
    signed = server.now
    alice.cut()
    pass_days(server, 13, bob)
    bob.say("#team", "bob's own commits confirm nothing")
    settle(bob)
    assert since(bob) == 0
    pass_days(server, 1.5, bob)
    assert since(bob) == pytest.approx(signed, abs=60_000)
    bob.crash()
    bob.connect()
    settle(bob)
    assert len(bob.of(events.Unconfirmed)) == 2  # once a session
    pass_days(server, 1, bob)
    assert len(bob.of(events.Unconfirmed)) == 2
    alice.connect()
    settle(alice, bob)
    assert since(bob) == 0
    assert not alice.of(events.Unconfirmed)


def test_a_tail_that_the_server_withholds_is_marked_after_two_weeks(people: World, server: MemoryServer) -> None:
    alice, bob = team(people)
    room = bob.id_of("#team")
    only(bob, lambda message: [] if isinstance(message, wire.Entry) and message.conversation == room else [message])
    for _ in range(2):
        pass_days(server, 7.1, alice, bob)
    pass_days(server, 1, alice, bob)
    assert since(bob) > 0
    assert since(alice) == 0


def test_what_has_no_owner_has_no_mark(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, bob)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    before = epoch(bob, "#lobby"), epoch(bob, "alice")
    pass_days(server, 30, alice, bob)
    assert (epoch(bob, "#lobby"), epoch(bob, "alice")) == before
    assert not [*alice.of(events.Unconfirmed), *bob.of(events.Unconfirmed)]


def test_an_owner_whose_clock_is_ahead_confirms_no_more_than_until_now(people: World, server: MemoryServer) -> None:
    alice, bob = team(people)
    clock = alice.clock.wall
    object.__setattr__(alice.clock, "wall", lambda: clock() + 400 * DAY)
    alice.engine._context.touched.add(alice.id_of("#team"))
    alice.say("#team", "from next year")
    settle(alice, bob)
    alice.cut()
    pass_days(server, 15, bob)
    assert since(bob) > 0


def test_a_commit_that_does_not_say_when_it_was_made_is_none() -> None:
    assert decode_time(bytes(8) + (1234).to_bytes(8, "big")) == 1234
    for data in (bytes(8), bytes(15), bytes(17), bytes(8) + b"\xff" * 8):
        with pytest.raises(PeerError, match="when it was made"):
            decode_time(data)


@pytest.mark.parametrize("days", [6, 8])
def test_lines_that_waited_through_a_long_absence_take_one_enter(
    people: World, server: MemoryServer, days: float
) -> None:
    alice, bob = team(people)
    bob.cut()
    bob.say("#team", "typed on the way to the airport")
    pass_days(server, days, alice)
    bob.connect()
    bob.say("#team", "typed on the way back")  # in the state that bob sees: nothing is asked about it
    settle(alice, bob)
    read = [text for text in alice.texts("#team") if text.startswith("bob")]
    if days < 7:
        assert len(read) == 2
        assert not bob.of(events.Held)
        return
    assert read == []
    asked = bob.of(events.Held)[-1]
    assert isinstance(asked, events.Held)
    assert asked.after_absence
    assert not asked.whose
    bob.crash()
    bob.connect()
    settle(alice, bob)
    assert not [text for text in alice.texts("#team") if text.startswith("bob")]
    asked = bob.of(events.Held)[-1]
    assert isinstance(asked, events.Held)
    bob.do(commands.Confirm(bob.id_of("#team"), asked.question))
    settle(alice, bob)
    assert [text for text in alice.texts("#team") if text.startswith("bob")] == [
        "bob: typed on the way to the airport", "bob: typed on the way back",
    ]  # fmt: skip


@pytest.mark.parametrize("days", [6, 8])
def test_who_leaves_while_lines_wait_for_that_enter_is_out_and_they_say_why(
    people: World, server: MemoryServer, days: float
) -> None:
    alice, bob = team(people)
    bob.cut()
    bob.say("#team", "typed on the way to the airport")
    pass_days(server, days, alice)
    bob.connect()
    settle(alice, bob)
    bob.do(commands.Leave(bob.id_of("#team")))
    settle(alice, bob)
    assert bob.state_of("#team") == "closed"
    line = bob.history("#team", 1)[0]
    assert ("you had been away, and you left" in line.problem) == (days > 7)
    assert bool(line.seq) == (days < 7)


def test_being_there_in_silence_is_no_absence(people: World, server: MemoryServer) -> None:
    alice, bob = team(people)
    alice.cut()  # so that no owner's commit comes
    pass_days(server, 8, bob)
    bob.cut()
    bob.say("#team", "said in the train")
    bob.connect()
    alice.connect()
    settle(alice, bob)
    assert not bob.of(events.Held)
    assert alice.texts("#team")[-1] == "bob: said in the train"


def test_a_room_that_belongs_to_nobody_asks_nothing_after_an_absence(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, bob)
    bob.cut()
    bob.say("#lobby", "back soon")
    pass_days(server, 8, alice)
    bob.connect()
    settle(alice, bob)
    assert not bob.of(events.Held)
    assert "bob: back soon" in alice.texts("#lobby")
