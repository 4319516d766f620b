"""The time of entries: it follows the server's clock, and a clock that leaps ruins nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from securechat.server.clock import CATCH_UP, KEEP_SECONDS, MAX_LEAP, ServerClock
from securechat.server.sequencer.turn import MAX_WAIT_MILLISECONDS
from securechat.server.store.records import READER_SECONDS
from securechat.server.store.sqlite import tail
from securechat.wire import messages as m
from tests.support.memory_server import MemoryClient, MemoryServer
from tests.support.memory_server import MemoryPerson as Person

Enter = Callable[[str], Person]

DAYS_50 = 50 * 86_400.0


@contextmanager
def closing_server(server: MemoryServer) -> Iterator[MemoryServer]:
    yield server
    server.stop()


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


def unread(tmp_path: Path) -> tuple[Person, bytes, int]:
    """What bob has not read, in a room of a server that has ended; with an invitation and a token beside it."""
    server = MemoryServer(tmp_path)
    alice, room = talk(lambda account: Person(server, account).register().login())
    said = alice.say(room, "bob has not read this")
    alice.send(m.Acknowledge(room, said.seq))
    alice.open_room("#team", "invite")
    (team,) = (each for each in alice.groups if each != room)
    assert isinstance(alice.change(team, *alice.adds("bob")), m.Accepted)
    server.stop()
    return alice, room, said.seq


def what_is_left(server: MemoryServer, room: bytes) -> tuple[list[int], int, int]:
    """Messages, invitations and tokens."""
    count = server.store._writer.one
    entries = [each.seq for each in server.store.logs.read(room, 1, 100, 100, 1 << 20)]
    return entries, count("SELECT count(*) FROM inbox"), count("SELECT count(*) FROM tokens")


def pass_days(server: MemoryServer, days: float) -> None:
    """Time passes, and the server is there."""
    for _ in range(int(days * 4)):
        server.now += 21_600_000
        server.tidy()
    server.tidy()


@pytest.mark.parametrize("days", [40, 400])
def test_a_server_that_starts_with_a_clock_far_ahead_deletes_nothing(tmp_path: Path, days: int) -> None:
    alice, room, seq = unread(tmp_path)
    with closing_server(MemoryServer(tmp_path, ahead=days * 86_400.0)) as ahead:
        assert ahead.clock.seconds() > time.time() + (days - 1) * 86_400  # it cannot know
        for _ in range(5):
            ahead.now += 1000
            ahead.tidy()
        assert what_is_left(ahead, room) == ([seq], 1, 2)
    with closing_server(MemoryServer(tmp_path)) as right:
        pass_days(right, 1)
        assert what_is_left(right, room) == ([seq], 1, 2)
        assert isinstance(Person(right, "alice").take_over(alice).say(room, "and on it goes"), m.Accepted)


@pytest.mark.parametrize("off", [0.0, 40.0])
def test_what_is_old_enough_by_the_time_that_has_been_seen_goes(tmp_path: Path, off: float) -> None:
    """The twin: 31 days with the server there; and 40 days in which it was off, for which it waits a few days more."""
    _, room, seq = unread(tmp_path)
    again = MemoryServer(tmp_path, ahead=off * 86_400)
    with closing_server(again):
        again.tidy()
        assert what_is_left(again, room)[0] == [seq]
        pass_days(again, 6 if off else 31)
        assert what_is_left(again, room) == ([], 0, 0)


def test_a_room_keeps_its_name_while_the_clock_is_ahead_for_a_moment(tmp_path: Path) -> None:
    unread(tmp_path)
    with closing_server(MemoryServer(tmp_path, ahead=120 * 86_400.0)) as ahead:
        carol = Person(ahead, "carol").register().login()
        assert carol.open_room("#team", "open").code == "exists"
    with closing_server(MemoryServer(tmp_path)) as right:
        right.now += 100 * 86_400_000
        carol = Person(right, "dave").register().login()
        assert isinstance(carol.open_room("#team", "open"), m.Done)  # the twin


def test_after_a_year_ahead_people_are_added_as_before_and_nobody_is_asked(tmp_path: Path) -> None:
    alice, _, _ = unread(tmp_path)
    with closing_server(MemoryServer(tmp_path, ahead=365 * 86_400.0)) as server:
        carol = Person(server, "carol").register().login()
        carol.open_room("#far", "invite")
        (future,) = carol.groups
        ahead = carol.say(future, "from the future")
        server.tidy()
    with closing_server(MemoryServer(tmp_path)) as server:
        again = Person(server, "alice").take_over(alice)
        assert server.clock.problem == ""
        dave = Person(server, "dave").register().login()
        assert isinstance(again.ask(m.FetchKeyPackages, "dave"), m.KeyPackages)
        assert isinstance(again.open_direct("dave"), m.Accepted)
        assert isinstance(dave.open_room("#other"), m.Done)
        (token,) = server.store._writer.rows("SELECT expires FROM tokens WHERE account = 'carol'")
        assert token[0] > server.now + 365 * 86_400_000
        with MemoryClient(server) as client:  # it would be good for a year and a month
            refused = client.ask(m.Resume, *carol.credentials(client.channel))
            assert refused.code == "token-refused"
        server.now += 60_000
        server.tidy()
        assert [each.seq for each in server.store.logs.read(future, 0, 100, 100, 1 << 20)] == [ahead.seq]
        assert server.store._writer.one("SELECT count(*) FROM tail") == 0  # it stands in nobody's way


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


def test_a_clock_that_was_ahead_at_the_start_is_believed_when_it_comes_back(tmp_path: Path) -> None:
    clocks = Clocks()
    clock = clocks.make(tmp_path)
    clock.begin(0)
    clock.keep(at_once=True)
    clocks.now += 60
    clocks.leap = 400 * 86_400.0
    clock = clocks.make(tmp_path)
    clock.begin(clocks.now)
    assert (clock.problem, clock.seconds()) == ("", clocks.now + clocks.leap)
    assert clock.age() == clocks.now - 60
    clocks.now += 3600
    assert clock.age() == clocks.now - 3660 + CATCH_UP * 3600
    clocks.leap = 0.0
    assert (clock.seconds(), clock.problem) == (clocks.now, "")
    clocks.leap = -DAYS_50  # the twin: what the age does not tell is not believed
    assert (clock.seconds(), "-50.0 days" in clock.problem) == (clocks.now, True)


def test_the_age_never_goes_back_nor_ahead_of_the_clock(tmp_path: Path) -> None:
    clocks = Clocks()
    clock = clocks.make(tmp_path)
    clock.begin(0)
    for leap in (MAX_LEAP - 60, 0.0, 60 - MAX_LEAP, 0.0, DAYS_50, -DAYS_50, 0.0):
        before = clock.age()
        clocks.leap = leap
        clocks.now += 1
        clock.seconds()
        assert before <= clock.age() <= before + CATCH_UP + 1
    assert clock.age() <= clocks.now + CATCH_UP * 7
    clocks.now += DAYS_50
    assert clock.age() == clocks.now


def test_the_age_is_kept_now_and_then_and_a_full_disk_harms_nobody(tmp_path: Path) -> None:
    clocks = Clocks()
    clock = clocks.make(tmp_path)
    clock.begin(0)
    file = tmp_path / "age"
    clock.keep()
    first = file.read_bytes()
    assert int(first) == clocks.now
    clocks.now += KEEP_SECONDS - 1
    clock.keep()
    assert file.read_bytes() == first
    clocks.now += 1
    clock.keep()
    assert int(file.read_bytes()) == clocks.now
    file.unlink()
    file.mkdir()
    clocks.now += KEEP_SECONDS
    clock.keep()
    assert clock.age() == clocks.now
    for damaged in (b"", b"nonsense", b"9" * 400):
        file.rmdir() if file.is_dir() else file.unlink()
        file.write_bytes(damaged)
        clocks.make(tmp_path).begin(clocks.now)
