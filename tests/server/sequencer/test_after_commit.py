"""What is on disk is never done again, whatever goes wrong afterwards; and who hears of what a turn has done."""

from collections.abc import Callable
from typing import Any

import pytest

from securechat.errors import InternalError
from securechat.server.sequencer.operations import DeleteRoom
from securechat.server.sequencer.reading import FALL_BEHIND_BYTES
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]
Rooms = tuple[tuple[Person, Person, bytes], tuple[Person, Person, bytes]]


@pytest.fixture
def rooms(enter: Enter) -> Rooms:
    """Two rooms, each of two people who read live; the second of them can speak."""

    def found(first: str, second: str, name: str) -> tuple[Person, Person, bytes]:
        reader, speaker = enter(first), enter(second)
        reader.open_room(name)
        room = speaker.join(name)
        for person in (reader, speaker):
            person.subscribe(room)
        drain(reader, speaker)
        return reader, speaker, room

    return found("alice", "bob", "#den"), found("carol", "dave", "#talk")


def drain(*people: Person) -> list[m.FromServer]:
    """What waits for these people."""
    found: list[m.FromServer] = []
    for person in people:
        found += person.received
        person.received = []
        while person.link.to_client:
            found.append(person.link.take())
    return found


def in_one_turn(server: MemoryServer, monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], Any]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(server, "run", lambda: None)
        for step in steps:
            step()
    server.run()


@pytest.mark.parametrize("slow", [False, True], ids=["", "slow"])
@pytest.mark.parametrize("deleted", [False, True], ids=["kept", "deleted"])
def test_a_room_that_is_deleted_in_the_turn_of_its_last_message_takes_no_other_entry_with_it(
    server: MemoryServer, rooms: Rooms, monkeypatch: pytest.MonkeyPatch, *, deleted: bool, slow: bool
) -> None:
    (alice, bob, den), (carol, dave, talk) = rooms
    answers: list[object] = []
    alice.link.backlog = FALL_BEHIND_BYTES + 1 if slow else 0
    last, elsewhere = bob.encrypt(den, "the last one"), dave.encrypt(talk, "elsewhere")
    before = len(server.entries(talk))
    in_one_turn(
        server,
        monkeypatch,
        lambda: bob.send(last),
        lambda: server.sequencer.operate(DeleteRoom("#den", answers.append)) if deleted else None,
        lambda: dave.send(elsewhere),
    )
    assert answers == ([None] if deleted else [])
    assert [type(each) for each in drain(dave)] == [m.Accepted]
    (entry,) = drain(carol)
    assert isinstance(entry, m.Entry)
    assert (entry.conversation, entry.payload) == (talk, elsewhere.payload)
    assert len(server.entries(talk)) == before + 1
    alice.link.backlog = 0
    alice.link._handler.drained()
    server.run()
    told = [type(each) for each in drain(alice)]
    assert told == [m.Entry] * (not (slow and deleted)) + [m.Notice] * deleted
    assert [type(each) for each in drain(bob)] == [m.Accepted] + [m.Notice] * deleted
    for session in server.sequencer._sessions.all():
        assert (den in session.subscriptions) is (not deleted and session.account in ("alice", "bob"))
    assert isinstance(dave.say(talk, "and on"), m.Accepted)
    assert [type(each) for each in drain(carol)] == [m.Entry]


@pytest.mark.parametrize("part", ["push", "effect", ""])
def test_a_bug_after_the_commit_costs_its_own_and_nothing_is_done_twice(
    server: MemoryServer, rooms: Rooms, monkeypatch: pytest.MonkeyPatch, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    (alice, bob, den), (carol, dave, talk) = rooms
    reading, push = server.sequencer._reading, server.sequencer._reading.push

    def fail(*_: object) -> None:
        raise KeyError("a bug")

    if part == "push":
        monkeypatch.setattr(reading, "push", lambda run: fail() if run.conversation.head.id == den else push(run))
    before = len(server.entries(den)), len(server.entries(talk))
    first, second = bob.encrypt(den, "in the den"), dave.encrypt(talk, "elsewhere")
    in_one_turn(
        server,
        monkeypatch,
        lambda: bob.send(first),
        lambda: server.sequencer.operate(DeleteRoom("#talk", fail)) if part == "effect" else None,
        lambda: dave.send(second),
    )
    assert len(server.entries(den)) == before[0] + 1
    assert ("internal error" in caplog.text) is bool(part)
    assert bob.link.open is (part != "push")
    if part != "push":
        assert [type(each) for each in drain(alice)] == [m.Entry]
        assert [type(each) for each in drain(bob)] == [m.Accepted]
    if part != "effect":
        assert len(server.entries(talk)) == before[1] + 1
        assert [type(each) for each in drain(carol)] == [m.Entry]
        assert [type(each) for each in drain(dave)] == [m.Accepted]
    else:
        assert server.store.conversations.room("#talk") is None


@pytest.mark.parametrize("part", ["send", "fall behind", ""])
def test_a_bug_at_one_reader_leaves_no_gap_at_the_others_nor_at_itself(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    people = [enter(name) for name in ("alice", "bob", "carol", "dave")]
    alice, *others = people
    alice.open_room("#den")
    (den,) = alice.groups
    for person in others:
        person.join("#den")
    head = server.head(den).seq
    for person in people:
        assert isinstance(person.subscribe(den, head), m.Subscribed)
    drain(*people)
    dave, readers = people[-1], people[:-1]
    first = next(iter(server.sequencer._conversations.find(den, 0).readers.values()))
    broken = next(person for person in readers if person.device == first.device)
    with monkeypatch.context() as patched:
        if part == "send":
            patched.setattr(broken.link, "send", fail_once(broken.link.send))
        elif part:
            for person in readers:
                person.link.backlog = FALL_BEHIND_BYTES + 1  # all of them are slow
            behind = server.sequencer._reading._fall_behind
            patched.setattr(server.sequencer._reading, "_fall_behind", fail_once(behind))
        said = [dave.encrypt(den, text) for text in ("one", "two")]
        for each in said:
            dave.send(each)
        for person in readers:
            person.link.backlog = 0
            if person.link.open:
                person.link._handler.drained()
        server.run()
    assert ("internal error" in caplog.text) is bool(part)
    for person in readers:
        seqs = [each.seq for each in drain(person) if isinstance(each, m.Entry)]
        if person.link.open:
            assert seqs == [head + 1, head + 2], person.account
    assert sum(not person.link.open for person in readers) == (part == "fall behind")  # who has no way to go on ends
    assert [type(each) for each in drain(dave)] == [m.Accepted] * 2


def fail_once(work: Callable[..., None]) -> Callable[..., None]:
    failed: list[object] = []

    def do(*arguments: object) -> None:
        if not failed:
            failed.append(arguments)
            raise KeyError("a bug")
        work(*arguments)

    return do


@pytest.mark.parametrize("broken", [True, False])
def test_the_operator_is_told_of_a_bug_that_what_they_want_meets(
    server: MemoryServer, rooms: Rooms, monkeypatch: pytest.MonkeyPatch, *, broken: bool
) -> None:
    (_, bob, den), (carol, dave, talk) = rooms
    answers: list[object] = []

    def fail(*_: object) -> None:
        raise KeyError("a bug")

    said = dave.encrypt(talk, "elsewhere")
    if broken:
        monkeypatch.setattr(server.store.conversations, "delete", fail)
    server.sequencer.operate(DeleteRoom("#den", answers.append))
    dave.send(said)
    assert [type(each) for each in answers] == [InternalError if broken else type(None)]
    assert [type(each) for each in drain(dave)] == [m.Accepted]
    assert [type(each) for each in drain(carol)] == [m.Entry]
    assert isinstance(bob.say(den, "still there"), m.Accepted if broken else m.Refused)
