"""The time of entries: it follows the server's clock, and a clock that leaps ruins nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securechat.server.clock import MAX_LEAP, ServerClock
from securechat.server.sequencer.turn import MAX_WAIT_MILLISECONDS
from securechat.server.store.records import READER_SECONDS
from securechat.server.store.sqlite import tail
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[[str], Person]

DAYS_50 = 50 * 86_400.0


def talk(enter: Enter) -> tuple[Person, bytes]:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    enter("bob").join("#lobby")
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    return alice, room


def test_a_log_waits_for_a_clock_that_was_set_back_a_little(server: MemoryServer, enter: Enter) -> None:
    alice, room = talk(enter)
    newest = alice.say(room, "before").time
    server.leap = -(MAX_WAIT_MILLISECONDS - 60_000) / 1000
    assert [alice.say(room, "after").time for _ in range(3)] == [newest] * 3
    server.leap = 1.0
    assert alice.say(room, "again").time > newest


def test_a_log_steps_back_once_to_a_clock_that_was_set_back_by_more(server: MemoryServer, enter: Enter) -> None:
    alice, room = talk(enter)
    newest = alice.say(room, "before").time
    server.leap = -3600.0
    times = [alice.say(room, "after").time for _ in range(3)]
    assert newest - 3_600_000 < times[0] < newest - 3_590_000
    assert times == sorted(times)
    committed = alice.change(room)
    assert newest - 3_600_000 < committed.time < newest - 3_590_000
    left = alice.leave(room)
    assert newest - 3_600_000 < left.time < newest - 3_590_000


@pytest.mark.parametrize("leap", [DAYS_50, -DAYS_50])
def test_nothing_is_accepted_while_the_clock_has_leapt(server: MemoryServer, enter: Enter, leap: float) -> None:
    alice, room = talk(enter)
    before = alice.say(room, "before")
    server.leap = leap
    refused: list[Any] = [alice.say(room, "during"), alice.change(room), alice.leave(room), alice.open_room("#other")]
    assert {each.code for each in refused} == {"busy"}
    assert all(each.retry_after > 0 and "clock" in each.text for each in refused)
    assert "days" in server.clock.problem
    assert server.head(room).seq == before.seq
    server.leap = 0.0
    alice.numbers[room] -= 1  # what was refused is said again
    after = alice.say(room, "after")
    assert before.time < after.time < before.time + 60_000
    assert server.clock.problem == ""


def test_a_clock_that_leaps_by_less_than_a_day_is_followed(server: MemoryServer, enter: Enter) -> None:
    alice, room = talk(enter)
    before = alice.say(room, "before")
    server.leap = MAX_LEAP - 3600
    after = alice.say(room, "after")
    assert after.time > before.time + (MAX_LEAP - 3601) * 1000


def test_a_clock_far_ahead_for_a_moment_expires_nothing(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    alice, room = talk(enter)
    said = alice.say(room, "bob has not read this")
    alice.send(m.Acknowledge(room, said.seq))
    server.leap = DAYS_50
    server.tidy()
    server.leap = 0.0
    assert [each.seq for each in server.store.logs.read(room, 1, 100, 100, 1 << 20)] == [said.seq]
    server.now += (READER_SECONDS + 86_400) * 1000  # the same time, really passed
    server.tidy()
    assert [each.seq for each in server.store.logs.read(room, 1, 100, 100, 1 << 20)] == []


def test_the_operator_can_say_that_the_clock_is_right(server: MemoryServer, enter: Enter) -> None:
    alice, room = talk(enter)
    before = alice.say(room, "before")
    server.leap = DAYS_50
    assert isinstance(alice.change(room), m.Refused)
    server.clock.accept()
    after = alice.say(room, "after")
    assert after.time > before.time + (DAYS_50 - 1) * 1000


def test_a_server_that_ran_with_a_clock_far_ahead_asks_once_and_goes_on(tmp_path: Path) -> None:
    first = MemoryServer(tmp_path)
    first.leap = DAYS_50
    first.clock.accept()
    alice, room = talk(lambda account: Person(first, account).register().login())
    ahead = alice.say(room, "from the future")
    first.stop()
    second = MemoryServer(tmp_path)
    again = Person(second, "alice").take_over(alice)
    assert again.say(room, "refused").code == "busy"
    second.clock.accept()
    again.numbers[room] -= 1
    said = again.say(room, "in the present")
    assert said.time < ahead.time - (DAYS_50 - 60) * 1000
    second.stop()
    third = MemoryServer(tmp_path)
    assert third.store.newest() >= said.time
    assert isinstance(Person(third, "alice").take_over(again).say(room, "still"), m.Accepted)
    third.stop()


class Clocks:
    """Both at once, and the wall's error."""

    def __init__(self) -> None:
        self.now, self.leap = 1_800_000_000.0, 0.0

    def make(self, folder: Path) -> ServerClock:
        return ServerClock(folder, lambda: self.now + self.leap, lambda: self.now)


def test_a_clock_before_the_newest_entry_is_not_believed_at_the_start(tmp_path: Path) -> None:
    clocks = Clocks()
    clock = clocks.make(tmp_path)
    clock.begin(clocks.now + 3600)  # an hour: that happens
    assert clock.problem == ""
    clock = clocks.make(tmp_path)
    clock.begin(clocks.now + DAYS_50)
    assert "-50.0 days" in clock.problem
    assert clock.seconds() == clocks.now + DAYS_50
    clocks.now += 60
    assert clock.seconds() == clocks.now + DAYS_50  # it goes on by the steady clock
    clock = clocks.make(tmp_path)
    clock.begin(0)  # a new store
    assert clock.problem == ""


def test_what_the_operator_has_accepted_does_not_hide_a_later_leap(tmp_path: Path) -> None:
    clocks = Clocks()
    clock = clocks.make(tmp_path)
    clock.begin(clocks.now + DAYS_50)
    clock.accept()
    assert (clock.problem, clock.seconds()) == ("", clocks.now)
    clocks.leap = -DAYS_50
    later = clocks.make(tmp_path)
    later.begin(clocks.now + DAYS_50)
    assert "days" in later.problem
