"""Random schedules, each repeatable by its seed: sends, commits, cuts and crashes at every moment between two messages.

Whatever the order, what `check_history` demands holds at the end, and everybody is in the same epoch.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from securechat.client import commands, events
from tests.support.history import DELETED, View, check_history
from tests.support.memory_server import MemoryServer
from tests.support.people import PASSWORD, Person, settle


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
        self.became: dict[str, list[str]] = {}
        self.amending = False  # whether what was said is also answered, edited, deleted and reacted to
        self.original: dict[tuple[str, int], str] = {}  # person, local id -> what a line of theirs said first
        for person in self.people:
            person.register()
            person.connect()
        settle(*self.people)

    def say(self, person: Person, name: str) -> None:
        """Say something new."""
        text = f"{person.name} {len(self.said[person.name])}"
        self.said[person.name].append(text)
        self.original[person.name, person.say(name, text)] = text

    def amend(self, person: Person, name: str) -> None:
        """Answer, edit, delete, or react to something that was said, waiting or not."""
        line = self.chance.choice(person.history(name, 20) or [None])
        if line is None or line.deleted_by:
            self.say(person, name)
            return
        original, what = self.original.get((person.name, line.local_id)), self.chance.random()
        own = original is not None and DELETED not in self.became.get(original, ())
        if original is not None and own and what < 0.4:
            became = self.became.setdefault(original, [])
            became.append(f"{original}, {len(became) + 1}")
            person.do(commands.Edit(line.local_id, became[-1]))
        elif original is not None and own and what < 0.5:
            self.became.setdefault(original, []).append(DELETED)
            person.do(commands.Delete(line.local_id))
        elif what < 0.75:
            text = f"{person.name} {len(self.said[person.name])}"
            self.said[person.name].append(text)
            told = person.do(commands.Reply(line.local_id, text))
            (said,) = [each.message for each in told if isinstance(each, events.Said)]
            self.original[person.name, said.local_id] = text
        else:
            emoji = self.chance.choice("👍👎")
            there = any(each.text == emoji and person.name in each.accounts for each in line.reactions)
            person.do(commands.React(line.local_id, emoji, remove=there))

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
            (self.amend if self.amending and self.chance.random() < 0.6 else self.say)(person, name)
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
            for each in self.people:
                if each.link is not None and not each.engine._rotation.is_seated:
                    each.cut()  # no greeting is a week on its way: it tells the server's clock
            if self.chance.random() < 0.5:
                person.do(commands.Unlock(PASSWORD))  # after four of them that gives the device a new key

    def finish(self, name: str, joined: dict[str, int]) -> None:
        """Everybody comes back, everything arrives; then look at it."""
        self.come_back()
        views = [
            View(person.name, person.history(name, 100_000), joined.get(person.name, 0))
            for person in self.people
        ]
        check_history(self.said, views, everything_arrived=True, became=self.became)
        conversations = [person.engine.snapshot.find(name) for person in self.people]
        assert len({(there.epoch, there.members) for there in conversations if there is not None}) == 1
        self.stop()

    def come_back(self) -> None:
        """Everybody is there, with a key that is good."""
        for person in self.people:
            if person.link is None:
                person.connect()
        settle(*self.people)
        for person in self.people:
            person.do(commands.Unlock(PASSWORD))
        settle(*self.people)

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
def test_what_becomes_of_what_was_said_is_the_same_for_all_after_any_schedule(seed: int, tmp_path: Path) -> None:
    schedule = Schedule(seed, tmp_path, ["alice", "bob", "carol"])
    for person in schedule.people:
        person.do(commands.JoinRoom("#lobby"))
        settle(*schedule.people)
    schedule.amending = True
    for _ in range(300):
        schedule.step("#lobby")
    assert schedule.became
    members = schedule.server.head(schedule.people[0].id_of("#lobby")).members.values()
    schedule.finish("#lobby", {member.account: member.join_seq for member in members})


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
    schedule.come_back()
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
    schedule.come_back()
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
