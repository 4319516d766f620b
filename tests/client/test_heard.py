"""Who was heard in a conversation since we came in, and who is only listed: a leaf proves nothing."""

from collections.abc import Callable

from securechat.client import commands, events
from securechat.ui.view.rows import Person as Shown
from securechat.ui.view.timeline import Timeline
from tests.client.test_view import PersonReads
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def heard(person: Person, name: str = "#club") -> tuple[str, ...]:
    snapshot = person.engine.snapshot.find(name)
    assert snapshot is not None
    return snapshot.heard


def invite(alice: Person, name: str, *everybody: Person) -> None:
    alice.do(commands.Invite(alice.id_of("#club"), name))
    settle(alice, *everybody)


def club(people: World) -> list[Person]:
    """alice's room, with bob and carol in it, who came in this order."""
    alice, *others = everybody = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    for other in others:
        invite(alice, other.name, *others)
    return everybody


def test_who_has_said_or_changed_something_is_heard_and_others_are_listed(people: World) -> None:
    alice, bob, carol = club(people)
    assert heard(alice) == ("bob", "carol")  # whoever comes in commits a path at once
    assert heard(bob) == ("alice", "carol")  # she has added carol
    assert heard(carol) == ()
    bob.say("#club", "hello")
    settle(alice, bob, carol)
    assert heard(carol) == ("bob",)
    carol.do(commands.ListMembers(carol.id_of("#club")))
    settle(alice, bob, carol)
    lists = [event for event in carol.happened if isinstance(event, events.MemberList)]
    assert [each.heard for each in lists] == [("bob",)]
    alice.do(commands.SetTopic(alice.id_of("#club"), "tea"))
    settle(alice, bob, carol)
    assert heard(carol) == ("alice", "bob")


def test_it_is_kept_and_ends_when_they_go_or_we_come_in_anew(people: World) -> None:
    alice, bob, carol = everybody = club(people)
    for each in (alice, bob):
        each.say("#club", "hello")
    settle(*everybody)
    carol.crash()
    carol.connect()
    settle(*everybody)
    assert heard(carol) == ("alice", "bob")
    bob.do(commands.Leave(bob.id_of("#club")))
    settle(*everybody)
    assert heard(carol) == ("alice",)
    invite(alice, "bob", bob, carol)
    assert heard(carol) == ("alice", "bob")  # his path
    carol.do(commands.Leave(carol.id_of("#club")))
    settle(*everybody)
    assert heard(carol) == ()
    assert carol.vault.conversations.heard(carol.id_of("#club")) == set()
    invite(alice, "carol", bob, carol)
    assert carol.state_of("#club") == "open"
    assert heard(carol) == ()
    bob.say("#club", "still here")
    settle(*everybody)
    assert heard(carol) == ("bob",)


def test_a_verified_friend_who_is_only_listed_is_not_shown_as_verified(people: World) -> None:
    _, bob, carol = everybody = club(people)
    carol.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    carol.do(commands.ShowSafetyNumber("bob"))
    carol.do(commands.Verify("bob"))

    def shown() -> dict[str, Shown]:
        return {each.account: each for each in Timeline(PersonReads(carol), carol.id_of("#club")).people}

    assert (shown()["bob"].trust, shown()["bob"].heard) == ("accepted", False)
    bob.say("#club", "it is me")
    settle(*everybody)
    assert (shown()["bob"].trust, shown()["bob"].heard) == ("verified", True)
    assert [each.account for each in shown().values() if each.own] == ["carol"]
