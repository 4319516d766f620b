"""Long absences, and what else parts a device from its conversations: everybody finds back, and is asked little.

In a private conversation and in rooms of 3, 30 and 300. Each story ends with everybody reading everybody, in one epoch,
and nothing that was said or written is thrown away.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.clock import Clock
from securechat.server.sequencer import validation
from tests.client.test_restored import Backups
from tests.stories.asking import events_of, forget, play, questions
from tests.stories.town import Place, Town, copy, put_back
from tests.support.people import Person

HANDSHAKE_DAYS = 180
"""How long the server keeps handshakes for who is away."""

SIZES = (2, 3, 30, 300)
"""Members; two: a private conversation."""


@pytest.fixture(params=SIZES, ids=str)
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def town(size: int, built: Callable[[int], Path], tmp_path: Path) -> Iterator[Town]:
    shutil.copytree(built(size), tmp_path, dirs_exist_ok=True)
    town = Town(tmp_path)
    yield town
    town.close()


@pytest.fixture
def place(town: Town, size: int) -> Place:
    """Alice, who owns the room, bob, who will be parted from it, and carol, if there is a third one."""
    return move_in(town, size)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of a town in which they are in conversation: built once for each size, to be copied."""

    @cache
    def build(size: int) -> Path:
        folder = tmp_path_factory.mktemp(f"town-of-{size}")
        town = Town(folder)
        alice, bob, *others = town.move_in(*names(size))
        if size == 2:
            town.befriend(alice, bob)
        else:
            town.room("#club", alice, bob, *others, size=size)
        move_in(town, size, *town.people)
        town.close()
        return folder

    return build


def names(size: int) -> list[str]:
    return ["alice", "bob", "carol"][:size]


def move_in(town: Town, size: int, *people: Person) -> Place:
    people = people or tuple(town.move_in(*names(size)))
    found = Place(town, "#club" if size > 2 else "", *people)
    found.all_read_each_other()
    forget(*people)
    return found


rooms = pytest.mark.parametrize("size", SIZES[1:], indirect=True, ids=str)
"""For what does not happen in a private conversation."""


def asked(place: Place) -> list[set[str]]:
    """What each was asked."""
    return [questions(person) for person in place.people]


def told(person: Person) -> list[str]:
    """What somebody was told of states that do not fit together."""
    return [event.what for event in events_of(person, events.OutOfStep)]


def changes(person: Person) -> list[events.ConversationChanged]:
    """What somebody was told of changes in conversations."""
    return events_of(person, events.ConversationChanged)


NOTHING: set[str] = set()


# --- away ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [30, 200])
def test_who_was_away_comes_back_and_is_asked_about_lines_that_waited_in_a_room_alone(
    place: Place, size: int, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "SNAPSHOT_EPOCHS", 8)  # as where more is said: the server needs no old handshakes
    alice, bob, *others = place.people
    before = place.texts(bob)
    bob.say(place.called(bob), "sent before")
    bob.cut()
    bob.say(place.called(bob), "written on the train")
    place.pass_days(days, alice, *others)
    bob.connect()
    play(*place.people)
    place.all_read_each_other()
    about = {"lines to a room of long ago"} if size > 2 else NOTHING
    assert asked(place) == [NOTHING, about, *[NOTHING] * len(others)]
    assert place.texts(bob)[: len(before)] == before
    assert "bob: written on the train" in place.texts(alice)
    gone = days > HANDSHAKE_DAYS
    assert told(bob) == (["cut-off", "checkpoint"] if gone else [])
    assert {event.change for event in changes(alice)} == ({"re-entered"} if gone else set())


def test_whoever_else_is_away_finds_back_too(town: Town, place: Place) -> None:
    """All of them, for 200 days, one after the other."""
    for person in place.people:
        person.cut()
    town.pass_time(200)
    for person in place.people:
        person.connect()
        play(*town.here)
    place.all_read_each_other()
    assert asked(place) == [NOTHING] * len(place.people)


# --- yesterday -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("committed", [False, True])
def test_a_vault_of_yesterday_comes_back_without_a_question(
    town: Town, place: Place, committed: bool  # noqa: FBT001  a parameter of the test
) -> None:
    alice, bob, *_ = place.people
    yesterday = copy(bob, town.folder / "yesterday")
    play(*place.people)
    place.say(bob, "today")
    place.say(alice, "yes, today")
    if committed:
        town.pass_time(8)
        place.say(bob, "with fresh keys")
    put_back(bob, yesterday)
    play(*place.people)
    place.all_read_each_other()
    assert told(bob)[-1:] == ["own-commit" if committed else "older-copy"]
    assert asked(place) == [NOTHING] * len(place.people)


# --- removed -------------------------------------------------------------------------------------------------------


@rooms
def test_who_was_removed_and_invited_again_meanwhile_is_asked_once(place: Place) -> None:
    alice, bob, carol = place.people
    bob.cut()
    for command in (commands.Remove, commands.Invite):
        alice.do(command(alice.id_of("#club"), "bob"))
        play(alice, carol)
    place.say(alice, "bob is invited again")
    bob.connect()
    play(*place.people)
    place.all_read_each_other()
    assert asked(place) == [NOTHING, {"invitation to #club by alice"}, NOTHING]


# --- clocks --------------------------------------------------------------------------------------------------------


def test_a_clock_that_was_fifty_days_ahead_for_a_second_is_told_of_and_holds_nothing(place: Place) -> None:
    alice, bob, *_ = place.people
    right = bob.clock
    bob.clock = Clock(lambda: right.wall() + 50 * 86_400, right.monotonic)
    bob.crash()
    bob.connect()
    play(*place.people)
    place.say(bob, "from the future")
    bob.clock = right
    bob.crash()
    bob.connect()
    play(*place.people)
    place.all_read_each_other()
    assert asked(place) == [NOTHING] * len(place.people)
    assert "bob: from the future" in place.texts(alice)


def test_a_server_whose_clock_was_fifty_days_ahead_holds_up_for_so_long(town: Town, place: Place) -> None:
    alice, bob, *_ = place.people
    town.server.leap = 50 * 86_400
    bob.say(place.called(bob), "while its clock is wrong")
    town.exchange()
    assert "bob: while its clock is wrong" not in place.texts(alice)
    town.server.leap = 0
    play(*place.people)
    town.pass_time(1 / 24)
    play(*place.people)
    assert "bob: while its clock is wrong" in place.texts(alice)
    place.all_read_each_other()
    assert asked(place) == [NOTHING] * len(place.people)


# --- a restored server ---------------------------------------------------------------------------------------------


def test_a_server_that_was_restored_twice_is_handed_back_what_it_has_lost(town: Town, place: Place) -> None:
    backups, backup = Backups(town.server, town.folder / "server"), town.folder / "backup"
    backups.take(backup)
    for time in ("once", "twice"):
        town.pass_time(8)
        for person in place.people:  # with a fresh path each
            place.say(person, f"lost {time}")
        lost = place.there(place.people[0]).group
        backups.put_back(backup, *place.people)
        assert town.server.head(lost.group_id).epoch < lost.epoch
        for person in place.people:
            person.connect()
        play(*place.people)
        place.all_read_each_other()
        assert place.there(place.people[0]).group.epoch >= lost.epoch
    assert asked(place) == [NOTHING] * len(place.people)
    assert f"{place.people[0].name}: lost once" in place.texts(place.people[-1])


# --- the owner is gone ---------------------------------------------------------------------------------------------


@rooms
@pytest.mark.parametrize("days", [30, 200])
def test_without_their_owner_those_who_are_there_go_on(place: Place, days: int) -> None:
    alice, bob, carol = place.people
    alice.cut()
    place.pass_days(days, bob, carol)
    place.all_read_each_other(alice)
    assert asked(place) == [NOTHING] * 3
    assert bob.of(events.Unconfirmed)


@rooms
def test_who_was_away_as_long_as_the_only_owner_finds_nothing_and_a_new_room_asks_each_once(
    town: Town, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No owner has signed what is newer than they know, and nobody else's word counts: not even for the owner."""
    monkeypatch.setattr(validation, "SNAPSHOT_EPOCHS", 8)
    alice, bob, carol = place.people
    alice.cut()
    bob.cut()
    bob.say("#club", "written on the train")
    place.pass_days(200, carol, every=3)
    for person in (bob, alice):
        person.connect()
        play(*town.here)
        assert told(person) == ["cut-off", "nothing-left"]
    assert asked(place) == [NOTHING] * 3
    assert bob.texts("#club")[-1] == "bob: written on the train"  # it waits, and can be said elsewhere
    carol.do(commands.CreateRoom("#club-again"))
    for name in ("alice", "bob"):
        play(*town.here)
        carol.do(commands.Invite(carol.id_of("#club-again"), name))
    play(*town.here)
    Place(town, "#club-again", *place.people).all_read_each_other()
    assert [len(questions(person)) for person in place.people] == [1, 1, 0]
