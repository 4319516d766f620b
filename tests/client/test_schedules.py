"""Random schedules, each repeatable by its seed: sends, commits, cuts and crashes at every moment between two messages.

Whatever the order, what `check_history` demands holds at the end, and everybody is in the same epoch.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from securechat.client import commands, events
from tests.support.history import View, check_history
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle


class Killed(BaseException):
    """The process dies here."""


class Schedule:
    """People, a server, and a source of chance."""

    def __init__(self, seed: int, folder: Path, names: list[str]) -> None:
        self.chance = random.Random(seed)
        random.seed(seed)  # the waits between tries
        self.server = MemoryServer(folder / "server")
        self.people = [Person(self.server, folder, name) for name in names]
        self.said: dict[str, list[str]] = {name: [] for name in names}
        for person in self.people:
            person.register()
            person.connect()
        settle(*self.people)

    def say(self, person: Person, name: str) -> None:
        """Say something new."""
        text = f"{person.name} {len(self.said[person.name])}"
        self.said[person.name].append(text)
        person.say(name, text)

    def kill_inside_a_transaction(self, person: Person) -> None:
        """The process dies after its work and before the vault has it."""
        if person.link is None or not person.link.to_client:
            return
        vault = person.vault
        real = vault.transaction

        @contextmanager
        def dying() -> Iterator[None]:
            with real():
                yield
                raise Killed

        vault.transaction = dying  # type: ignore[method-assign]  # the moment under test
        with pytest.raises(Killed):
            person.pull(self.chance.randint(1, 4))
        person.link.close()
        person.link = None
        person.to_server.clear()
        person.crash()

    def step(self, name: str) -> None:
        """Something happens to somebody."""
        person = self.chance.choice(self.people)
        what = self.chance.random()
        if person.link is None:
            if what < 0.3:
                person.connect()
            elif what < 0.5:
                self.say(person, name)
        elif what < 0.2:
            self.say(person, name)
        elif what < 0.55:
            for _ in range(self.chance.randint(1, 3)):
                person.push()
        elif what < 0.92:
            person.pull(self.chance.randint(1, 5))
        elif what < 0.94:
            person.cut()
        elif what < 0.96:
            person.crash()
        elif what < 0.97:
            self.kill_inside_a_transaction(person)
        elif what < 0.98:
            self.server.finish_checks()
            self.server.set_slow(slow=self.chance.random() < 0.7)
        elif what < 0.99:
            self.server.advance(self.server.seconds + 1.0)
            person.engine.handle_timer()
        else:
            self.server.now += 8 * 86_400_000  # a week has passed: the next speaker commits a fresh path

    def finish(self, name: str, joined: dict[str, int]) -> None:
        """Everybody comes back, everything arrives; then look at it."""
        for person in self.people:
            if person.link is None:
                person.connect()
        settle(*self.people)
        views = [
            View(person.name, person.history(name, 100_000), joined.get(person.name, 0))
            for person in self.people
        ]
        check_history(self.said, views, everything_arrived=True)
        conversations = [person.engine.snapshot.find(name) for person in self.people]
        assert len({(there.epoch, there.members) for there in conversations if there is not None}) == 1
        self.stop()

    def stop(self) -> None:
        """Let go of the files."""
        for person in self.people:
            person.stop()
        self.server.stop()


@pytest.mark.parametrize("seed", range(12))
def test_a_room_survives_any_schedule(seed: int, tmp_path: Path) -> None:
    schedule = Schedule(seed, tmp_path, ["alice", "bob", "carol", "dave"])
    first, *rest = schedule.people
    first.do(commands.JoinRoom("#lobby"))
    settle(*schedule.people)
    for person in rest:
        person.do(commands.JoinRoom("#lobby"))
        settle(*schedule.people)
    members = schedule.server.head(first.id_of("#lobby")).members.values()
    joined = {member.account: member.join_seq for member in members}
    for _ in range(400):
        schedule.step("#lobby")
    schedule.finish("#lobby", joined)


@pytest.mark.parametrize("seed", range(12))
def test_a_direct_conversation_survives_any_schedule_even_its_opening(seed: int, tmp_path: Path) -> None:
    schedule = Schedule(seed, tmp_path, ["alice", "bob"])
    alice, bob = schedule.people
    alice.do(commands.OpenDirect("bob", "", ask=False))
    if seed % 2:
        bob.do(commands.OpenDirect("alice", "", ask=False))
    for _ in range(250):
        person = schedule.chance.choice(schedule.people)
        other = bob if person is alice else alice
        if person.engine.snapshot.find(other.name) is None:
            person.pull()
            other.push()
        else:
            schedule.people = [person]
            schedule.step(other.name)
            schedule.people = [alice, bob]
    for person in schedule.people:
        if person.link is None:
            person.connect()
    settle(alice, bob)
    assert alice.id_of("bob") == bob.id_of("alice")
    pairs = ((alice, bob), (bob, alice))
    views = [View(one.name, one.history(other.name, 10_000)) for one, other in pairs]
    check_history(schedule.said, views, everything_arrived=True)
    schedule.stop()


@pytest.mark.parametrize("seed", range(10))
def test_a_room_survives_coming_and_going(seed: int, tmp_path: Path) -> None:
    schedule = Schedule(seed, tmp_path, ["alice", "bob", "carol", "dave"])
    for _ in range(500):
        person = schedule.chance.choice(schedule.people)
        inside = person.state_of("#lobby") == "open"
        if schedule.chance.random() < 0.06:
            if inside:
                person.do(commands.Leave(person.id_of("#lobby")))
            else:
                person.do(commands.JoinRoom("#lobby"))
        elif inside or schedule.chance.random() < 0.5:
            everybody, schedule.people = schedule.people, [person]
            if inside:
                schedule.step("#lobby")
            else:
                person.push()
                person.pull()
            schedule.people = everybody
    for person in schedule.people:
        if person.link is None:
            person.connect()
    settle(*schedule.people)
    for person in schedule.people:
        assert not [event for event in person.happened if isinstance(event, events.Alarm | events.Stopped | events.Gap)]
        if person.state_of("#lobby") != "open":
            person.do(commands.JoinRoom("#lobby"))
        settle(*schedule.people)
    seen = {person.name: len(person.history("#lobby", 10_000)) for person in schedule.people}
    for person in schedule.people:
        person.say("#lobby", f"{person.name} at last")
    settle(*schedule.people)
    last: set[tuple[str, ...]] = set()
    log: dict[int, tuple[str, str]] = {}
    for person in schedule.people:
        assert not [event for event in person.happened if isinstance(event, events.Alarm | events.Stopped | events.Gap)]
        lines = person.history("#lobby", 10_000)
        last.add(tuple(line.text for line in lines if line.seq)[-4:])
        assert len(lines) == seen[person.name] + 4
        for line in lines:
            assert line.seq or line.problem, f"{line.text!r} of {person.name} still waits"
            assert not line.problem or "left" in line.problem, line.problem
            if line.seq:
                assert log.setdefault(line.seq, (line.sender, line.text)) == (line.sender, line.text)
    assert len(last) == 1
    conversations = [person.engine.snapshot.find("#lobby") for person in schedule.people]
    assert len({(there.epoch, there.members) for there in conversations if there is not None}) == 1
    schedule.stop()
