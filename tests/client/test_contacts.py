"""Contacts: who is known, how their keys stand, where they are; and who is found by a part of a name."""

from collections.abc import Callable

import pytest

from securechat.client import commands, contacts, events
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def listed(person: Person, part: str = "") -> events.ContactList:
    person.do(commands.ListContacts(part))
    settle(person)
    (told,) = person.of(events.ContactList)[-1:]
    assert isinstance(told, events.ContactList)
    return told


@pytest.fixture
def town(people: World) -> list[Person]:
    """alice writes to bob, and is in #garden with bob and carol."""
    alice, bob, _ = everybody = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom("#garden"))
        settle(*everybody)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.do(commands.Accept(bob.id_of("alice")))
    settle(*everybody)
    return everybody


def test_contacts_are_those_on_whose_keys_one_has_decided(town: list[Person]) -> None:
    alice, bob, carol = town
    (contact,) = listed(alice).contacts
    assert (contact.account, contact.trust, contact.talks, contact.rooms) == ("bob", "accepted", True, ("#garden",))
    alice.do(commands.ShowSafetyNumber("bob"))
    alice.do(commands.Verify("bob"))
    alice.do(commands.Ignore("bob"))
    (contact,) = listed(alice).contacts
    assert (contact.trust, contact.ignored) == ("verified", True)
    alice.do(commands.Leave(alice.id_of("bob")))
    settle(*town)
    alice.do(commands.Distrust("carol"))
    first, second = listed(alice).contacts
    assert (first.account, first.talks) == ("bob", False)
    assert (second.account, second.trust) == ("carol", "refused")
    assert listed(carol).contacts == ()
    carol.do(commands.Block("eve"))  # of whom she has seen nothing yet
    (eve,) = listed(carol).contacts
    assert (eve.account, eve.key, eve.trust, eve.blocked) == ("eve", "", "unknown", True)
    carol.do(commands.Unblock("eve"))
    assert listed(carol).contacts == ()
    assert [each.account for each in listed(bob).contacts] == ["alice"]


def test_when_somebody_was_last_heard_is_what_they_have_said_here_under_the_key_that_is_known(
    town: list[Person],
) -> None:
    alice, bob, carol = town
    (contact,) = listed(alice).contacts
    assert contact.heard == 0  # he is there, and that is nobody's to keep
    bob.say("alice", "hi")
    carol.say("#garden", "hello")
    settle(*town)
    (contact,) = listed(alice).contacts
    newest = alice.engine._context.vault.history.newest(alice.id_of("bob"), 1)[0]
    assert contact.heard == newest.time > 0
    alice.do(commands.Distrust("carol"))
    assert [each.heard > 0 for each in listed(alice).contacts] == [True, True]
    alice.engine._context.vault.history.add(
        alice.id_of("#garden"), "bob", ("", b""), own=False, trust="changed", seq=99, time=newest.time + 1,
        author=b"a key of somebody else".ljust(32),
    )  # fmt: skip
    assert listed(alice).contacts[0].heard == newest.time


def test_people_and_rooms_are_found_by_a_part_of_their_names_without_the_server(town: list[Person]) -> None:
    alice = town[0]
    alice.cut()
    found = listed(alice, "AR")
    assert [(each.account, each.trust) for each in found.contacts] == [("carol", "unknown")]
    assert found.rooms == ("#garden",)
    assert [each.account for each in listed(alice, "o").contacts] == ["bob", "carol"]
    nobody = listed(alice, "zoe")
    assert (nobody.contacts, nobody.rooms, nobody.count) == ((), (), 0)
    assert not listed(alice, "alice").contacts  # that is she


def test_of_many_the_first_are_listed_and_the_others_counted(
    town: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts, "MAX_LISTED", 1)
    found = listed(town[0], "o")
    assert [each.account for each in found.contacts] == ["bob"]
    assert found.count == 2
