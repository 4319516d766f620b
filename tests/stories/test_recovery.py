"""A dead disk: from a recovery file to reading and writing everywhere, and nobody is asked anything."""

from securechat.client import commands, events
from tests.stories.asking import events_of, forget, questions
from tests.stories.town import Place, Town
from tests.support.people import Person
from tests.support.recovering import Recovering, file_of


def lose(town: Town, person: Person, *others: Person) -> Recovering:
    """Their disk dies; they start again with the recovery file on a new computer."""
    person.cut()
    person.connect()  # the last start before: it leaves a keepsake
    town.settle()
    contents = file_of(person)
    person.cut()
    forget(*others)
    folder = town.folder / f"new computer of {person.name}"
    folder.mkdir(exist_ok=True)
    new = Recovering(town.server, folder, contents)
    new.obliging = False
    town.people = [each for each in town.people if each is not person] + [new]
    return new


def test_a_new_computer_goes_on_in_every_conversation_and_nobody_is_asked(town: Town) -> None:
    alice, bob, carol, owner = town.move_in("alice", "bob", "carol", "owner")
    town.befriend(alice, bob, carol)
    town.room("#small", alice, bob, carol, size=3)
    town.room("#large", owner, alice, bob, size=30)
    for person in (alice, bob, carol):
        person.do(commands.JoinRoom("#lobby"))
        town.settle()
    alice.safety_number("bob")
    alice.do(commands.Verify("bob"))
    for name in ("#small", "#large", "#lobby"):  # whoever spoke last is no owner
        bob.say(name, "before")
    town.settle()
    alice.crash()  # the last start
    alice.connect()
    town.settle()
    others = [bob, carol, owner]
    new = lose(town, alice, *others)
    new.connect()
    town.settle()
    assert [event.missing for event in events_of(new, events.Recovered)] == [()]
    assert {question for person in (new, *others) for question in questions(person)} == set()
    for room, people in (("", (new, bob)), ("", (new, carol)), ("#small", (new, bob, carol)), ("#lobby", (new, bob))):
        Place(town, room, *people).all_read_each_other()
    Place(town, "#large", new, bob, owner).all_read_each_other()
