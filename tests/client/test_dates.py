"""Dates: what is written late says so, and a clock that is wrong is told once, whosever it is."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.ui.view.lines import message_line
from securechat.ui.view.rows import line_of, local_time
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]

HOUR, YEAR = 3_600_000, 365 * 86_400


def alarms(person: Person) -> list[str]:
    """What was told of time."""
    assert not [each for each in person.of(events.Alarm) if isinstance(each, events.Alarm) and each.kind != "time"]
    return [each.text for each in person.of(events.Alarm) if isinstance(each, events.Alarm)]


def talk(people: World) -> tuple[Person, Person]:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    return alice, bob


def test_a_line_written_on_a_train_says_when_and_alarms_nobody(people: World, server: MemoryServer) -> None:
    alice, bob = talk(people)
    alice.cut()
    written = server.now
    alice.say("bob", "from the train")
    server.now += 3 * 24 * HOUR
    alice.connect()
    settle(alice, bob)
    for line in (bob.history("alice", 1)[0], alice.history("bob", 1)[0]):
        row = line_of(line)
        assert row.written == line.written == pytest.approx(written, abs=60_000)
        shown = message_line(row, "bob", local_time(server.now))
        assert f"from the train (written {local_time(written):%a %H:%M})" in shown
    at_once = line_of(bob.history("alice", 2)[0])
    assert at_once.written == 0
    assert "written" not in message_line(at_once, "bob", local_time(server.now))
    assert alarms(alice) == alarms(bob) == []


def test_a_server_that_dates_everything_a_year_back_is_found_out_by_all(people: World, server: MemoryServer) -> None:
    alice, bob = talk(people)
    server.leap = -YEAR
    server.clock.accept()  # it lies to all alike, and the chain holds
    for n in range(5):
        alice.say("bob", str(n))
        settle(alice, bob)
    for person, whose in ((alice, "this machine's"), (bob, "alice's")):
        texts = alarms(person)
        assert len(texts) == 2  # once each, not once a line
        assert any("365 days before the one before it: its clock was set back, or it is" in each for each in texts)
        assert any(f"365 days before it was written: the server's clock is wrong, or {whose}" in each for each in texts)
        assert person.state_of("bob" if person is alice else "alice") != "stopped"
    assert bob.texts("alice")[-1] == "alice: 4"
    server.seconds += 120  # by now nobody takes them for old entries any more
    alice.say("bob", "later")
    settle(alice, bob)
    for person in (alice, bob):
        (text,) = alarms(person)[2:]
        assert "the server's clock and this machine's differ by 365 days" in text


@pytest.mark.parametrize("minutes", [-9, 9])
def test_clocks_that_differ_by_a_few_minutes_alarm_nobody(people: World, server: MemoryServer, minutes: int) -> None:
    alice, bob = talk(people)
    server.leap = minutes * 60.0
    for n in range(3):
        alice.say("bob", str(n))
        settle(alice, bob)
        server.seconds += 120
    assert alarms(alice) == alarms(bob) == []


def test_a_clock_ahead_is_told_once_a_session(people: World, server: MemoryServer) -> None:
    alice, bob = talk(people)
    server.leap = 3600.0
    for n in range(3):
        alice.say("bob", str(n))
        settle(alice, bob)
    for person in (alice, bob):
        (text,) = alarms(person)
        assert "differ by 60 minutes. Look at this machine's first" in text
    bob.crash()
    bob.connect()
    settle(alice, bob)
    alice.say("bob", "again")
    settle(alice, bob)
    assert len(alarms(bob)) == 2


def test_who_wakes_up_to_what_waited_on_the_way_is_not_alarmed(people: World, server: MemoryServer) -> None:
    alice, bob = talk(people)
    for n in range(3):
        alice.say("bob", str(n))
        while alice.push() or alice.pull():
            pass
    server.now += 2 * HOUR  # bob's machine has slept
    server.seconds += 7200
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: 2"
    assert alarms(bob) == []


def test_a_member_whose_clock_is_ahead_is_told_as_one_of_two_who_may_be_wrong(people: World) -> None:
    alice, bob = talk(people)
    clock = alice.clock.wall
    object.__setattr__(alice.clock, "wall", lambda: clock() + 7200)
    for n in range(3):
        alice.say("bob", str(n))
        settle(alice, bob)
    (text,) = alarms(bob)
    assert text.startswith("a message of alice is dated 2 hours before it was written")
    assert "the server's clock is wrong, or alice's" in text
    assert bob.texts("alice")[-1] == "alice: 2"
