"""The view model over real engines: after any events it shows what it would if it were read anew."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client import commands
from securechat.client.core import ChatClient
from securechat.ui.view.listing import Listing
from securechat.ui.view.news import News
from securechat.ui.view.rows import Line, Notice
from securechat.ui.view.timeline import PAGE, Timeline
from tests.client.test_schedules import Schedule
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def lines(timeline: Timeline) -> list[Line]:
    return [row for row in timeline.rows if isinstance(row, Line)]


class PersonReads(ChatClient):
    """The reads of a person's front end, without a link to a server."""

    def __init__(self, person: Person) -> None:
        self.account, self._engine, self._reader = person.name, person.engine, person.vault.reader()


class Watcher:
    """A front end: a list of conversations and a timeline of each, which are told what happens."""

    def __init__(self, person: Person) -> None:
        self.person, self.vault, self.reads = person, person.vault, PersonReads(person)
        self.news, self.listing = News(self.reads), Listing(self.reads)
        self.timelines: dict[bytes, Timeline] = {}  # by the id they were opened under
        self._seen = len(person.happened)
        self._open()

    def _open(self) -> None:
        for each in self.reads.conversations():
            if each.id not in self.timelines:
                self.timelines[each.id] = Timeline(self.reads, each.id)

    def timeline(self, name: str) -> Timeline:
        """The timeline of a conversation."""
        wanted = self.person.id_of(name)
        return next(each for each in self.timelines.values() if each.conversation.id == wanted)

    def check(self) -> None:
        """Everything equals what is read anew."""
        self.person.happened += self.person.engine.take_events()
        for event in self.person.happened[self._seen :]:
            told = self.news.of(event)
            self.listing.fold(event)
            for timeline in self.timelines.values():
                timeline.fold(event, told)
        self._seen = len(self.person.happened)
        anew = Listing(self.reads).items  # but who is there now: that is told, and can be read nowhere
        assert {replace(each, online=False) for each in self.listing.items} == set(anew)
        for timeline in self.timelines.values():
            fresh = Timeline(self.reads, timeline.conversation.id)
            assert timeline.conversation == fresh.conversation
            assert lines(timeline)[-PAGE:] == lines(fresh)
            assert timeline.more_before or not fresh.more_before
        self._open()


def test_a_conversation_from_the_first_line_to_the_last_equals_its_history(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.cut()
    alice.do(commands.OpenDirect("bob", "are you there?", ask=True))
    hers = Watcher(alice)  # under an id that nobody else has heard of
    alice.say("bob", "still waiting")
    hers.check()
    assert [line.delivery for line in lines(hers.timeline("bob"))] == ["waiting", "waiting"]
    alice.connect()
    settle(alice, bob)
    hers.check()
    assert [line.delivery for line in lines(hers.timeline("bob"))] == ["sent", "sent"]
    his = Watcher(bob)
    bob.do(commands.Accept(bob.id_of("alice")))
    for number in range(5):
        bob.say("alice", f"his {number}")
        alice.say("bob", f"hers {number}")
        hers.check()
        his.check()
        settle(alice, bob)
    alice.do(commands.Bye(alice.id_of("bob")))
    bob.do(commands.Bye(bob.id_of("alice")))
    settle(alice, bob)
    hers.check()
    his.check()
    assert hers.timeline("bob").conversation.state == "closed"


def test_two_who_open_a_conversation_at_the_same_time_see_every_line_once(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    watchers = Watcher(alice), Watcher(bob)
    settle(alice, bob)
    for watcher, other in zip(watchers, ("bob", "alice"), strict=True):
        watcher.check()
        assert sorted(line.text for line in lines(watcher.timeline(other))) == ["from alice", "from bob"]


def test_a_room_that_one_enters_while_away_equals_its_history(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    bob.cut()
    bob.do(commands.JoinRoom("#lobby"))
    watcher = Watcher(bob)
    bob.say("#lobby", "anybody here?")
    bob.connect()
    settle(alice, bob)
    alice.say("#lobby", "yes")
    settle(alice, bob)
    watcher.check()
    assert [line.delivery for line in lines(watcher.timeline("#lobby"))] == ["sent", "received"]
    told = [row.text for row in watcher.timeline("#lobby").rows if isinstance(row, Notice)]
    assert any("You are in #lobby" in text for text in told)


class Watched(Schedule):
    """A schedule whose people have front ends that are looked at in between; one that crashed begins anew."""

    def __init__(self, seed: int, folder: Path, names: list[str]) -> None:
        super().__init__(seed, folder, names)
        self.everybody = list(self.people)
        self.watchers = {person.name: Watcher(person) for person in self.people}

    def look(self) -> None:
        """Check what somebody sees."""
        person = self.chance.choice(self.everybody)
        if self.watchers[person.name].vault is not person.vault:
            self.watchers[person.name] = Watcher(person)
        self.watchers[person.name].check()

    def arrive(self) -> None:
        """Everybody comes back, and everything arrives."""
        for person in self.everybody:
            if person.link is None:
                person.connect()
        settle(*self.everybody)
        for _ in range(8 * len(self.everybody)):
            self.look()
        self.stop()


@pytest.mark.parametrize("seed", range(9))
def test_in_any_schedule_of_a_direct_conversation_the_view_equals_the_history(seed: int, tmp_path: Path) -> None:
    schedule = Watched(seed, tmp_path, ["alice", "bob"])
    alice, bob = schedule.everybody
    for _ in range(250):
        schedule.people = [person] = [schedule.chance.choice(schedule.everybody)]
        other = bob if person is alice else alice
        if person.state_of(other.name) in ("", "closed"):
            person.do(commands.OpenDirect(other.name, "anew", ask=schedule.chance.random() < 0.5))
        elif person.state_of(other.name) == "request":
            kind = schedule.chance.choice((commands.Accept, commands.Decline))
            person.do(kind(person.id_of(other.name)))
        elif schedule.chance.random() < 0.02:
            person.do(commands.Leave(person.id_of(other.name)))
        else:
            schedule.step(other.name)
        schedule.look()
    schedule.arrive()


@pytest.mark.parametrize("seed", range(9))
def test_in_any_schedule_of_a_room_the_view_equals_the_history(seed: int, tmp_path: Path) -> None:
    schedule = Watched(seed, tmp_path, ["alice", "bob", "carol"])
    for _ in range(250):
        schedule.people = [person] = [schedule.chance.choice(schedule.everybody)]
        if person.state_of("#lobby") in ("", "closed"):
            person.do(commands.JoinRoom("#lobby"))
        elif schedule.chance.random() < 0.02:
            person.do(commands.Leave(person.id_of("#lobby")))
        else:
            schedule.step("#lobby")
        schedule.look()
    schedule.arrive()
