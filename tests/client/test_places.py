"""Where a user was, and what they have not seen there: kept in the vault, whatever a front end has shown elsewhere."""

from collections.abc import Callable
from dataclasses import replace

from securechat.client import commands, events
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def unread(person: Person) -> dict[str, int]:
    names = {each.id: each.name for each in person.engine.snapshot.conversations.values()}
    return {names[where]: lines for where, (lines, _) in person.vault.history.unread_counts().items()}


def come_back(person: Person) -> None:
    person.crash()
    person.connect()
    settle(person)


def test_unread_counts_and_the_place_survive_a_restart(people: World) -> None:
    alice, bob = both = people("alice", "bob")
    for room in ("#garden", "#kitchen"):
        for person in both:
            person.do(commands.JoinRoom(room))
            settle(*both)
        bob.say(room, "one")
        bob.say(room, "two")
        settle(*both)
    history = alice.vault.history
    alice.do(commands.Visit(alice.id_of("#garden"), history.last_id))
    alice.do(commands.MarkShown(history.last_id))  # all of it was on the screen
    assert unread(alice) == {"#kitchen": 2}
    bob.say("#garden", "three")
    settle(*both)
    come_back(alice)
    assert unread(alice) == {"#garden": 1, "#kitchen": 2}
    assert alice.vault.history.place() == alice.id_of("#garden")
    (_, three) = alice.history("#garden", 2)
    assert alice.vault.history.first_unread(alice.id_of("#garden")) == three.local_id
    alice.do(commands.Visit(alice.id_of("#kitchen"), alice.vault.history.last_id))
    assert unread(alice) == {"#garden": 1}
    alice.do(commands.Visit(b""))
    come_back(alice)
    assert unread(alice) == {"#garden": 1}
    assert alice.vault.history.place() == b""


def test_lines_are_marked_as_unread_from_one_of_them_on(people: World) -> None:
    alice, bob = both = people("alice", "bob")
    for person in both:
        person.do(commands.JoinRoom("#garden"))
        settle(*both)
    for number in range(4):
        bob.say("#garden", str(number))
        settle(*both)
    alice.say("#garden", "mine")
    settle(*both)
    alice.do(commands.Visit(alice.id_of("#garden"), alice.vault.history.last_id))
    assert unread(alice) == {}
    lines = alice.history("#garden", 5)
    alice.do(commands.MarkUnread(lines[2].local_id))
    settle(*both)
    told = replace(alice.of(events.Unread)[-1], command=0)
    assert told == events.Unread(alice.id_of("#garden"), 2, lines[3].local_id)
    come_back(alice)
    assert unread(alice) == {"#garden": 2}
    alice.do(commands.MarkUnread(lines[4].local_id))  # of one's own there is none
    assert unread(alice) == {}
