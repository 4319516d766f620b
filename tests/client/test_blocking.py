"""`/block`, and asking again after a no: nothing is heard of it, and whoever asks gets no answer."""

from collections.abc import Callable

import pytest

from securechat.client import commands, contacts, events
from securechat.client.context import DAY_MILLISECONDS
from securechat.client.conversations import bounds
from securechat.errors import UsageError
from securechat.wire import messages as wire
from tests.client.test_killed_amendments import come_back
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def heard(person: Person) -> list[events.Event]:
    """What a person was told since this was asked last, but for answers, and what is told of keys."""
    told = [
        each for each in person.happened
        if not isinstance(each, events.Done | events.Blocked | events.FirstContact | events.Ready | events.LoggedIn)
        and not isinstance(each, events.Connected | events.Said | events.Delivered | events.Marked)
    ]  # fmt: skip
    person.happened.clear()
    return told


def listed(person: Person) -> list[str]:
    """What a front end lists, by name."""
    return sorted(each.name for each in person.engine.snapshot.conversations.values() if not each.unheard)


def sent(person: Person, monkeypatch: pytest.MonkeyPatch) -> list[wire.FromClient]:
    """What a person's program sends from now on that others hear of."""
    seen: list[wire.FromClient] = []
    request = person.engine._context.request

    def noting(message: wire.Request, handler: object) -> None:
        if isinstance(message, wire.Submit | wire.Leave | wire.Commit | wire.OpenDirect):
            seen.append(message)
        request(message, handler)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(person.engine._context, "request", noting)
    return seen


def friends(people: World) -> list[Person]:
    alice, bob = both = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*both)
    bob.say("alice", "hi")
    settle(*both)
    return both


def test_what_a_blocked_account_asks_is_never_shown_and_gets_no_answer(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Person, "marks", True)
    alice, mallory = both = people("alice", "mallory")
    alice.do(commands.Block("Mallory"))
    assert alice.engine.snapshot.blocked == ("mallory",)
    heard(alice)
    spoken = sent(alice, monkeypatch)
    mallory.do(commands.OpenDirect("alice", "buy this", ask=True))
    settle(*both)
    mallory.say("alice", "and this")
    settle(*both)
    assert heard(alice) == []
    assert spoken == []
    assert listed(alice) == []
    assert alice.vault.history.unread(0, 10) == []
    assert alice.vault.history.unread_counts() == {}
    come_back(alice)
    settle(*both)
    assert heard(alice) == []
    assert listed(alice) == []
    assert mallory.state_of("alice") == "requested"


def test_whoever_is_heard_again_is_heard_with_what_they_have_asked_and_said(people: World) -> None:
    alice, mallory = both = people("alice", "mallory")
    alice.do(commands.Block("mallory"))
    mallory.do(commands.OpenDirect("alice", "it was not me", ask=True))
    settle(*both)
    heard(alice)
    alice.do(commands.Unblock("mallory"))
    assert [each.change for each in heard(alice) if isinstance(each, events.ConversationChanged)] == ["request"]
    assert (listed(alice), alice.texts("mallory")) == (["mallory"], ["mallory: it was not me"])
    assert alice.engine.snapshot.blocked == ()
    alice.accept("mallory")
    settle(*both)
    mallory.say("alice", "thank you")
    settle(*both)
    assert alice.texts("mallory")[-1] == "mallory: thank you"


def test_a_friend_who_is_blocked_is_silent_and_nothing_is_said_to_them(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Person, "marks", True)
    alice, bob = both = friends(people)
    settle(*both)
    alice.do(commands.Block("bob"))
    heard(alice)
    spoken = sent(alice, monkeypatch)
    bob.do(commands.Visit(bob.id_of("alice"), bob.vault.history.last_id))  # and reads what was said to them
    bob.say("alice", "are you angry?")
    settle(*both)
    assert not [each for each in alice.happened if isinstance(each, events.Marked)]
    assert (heard(alice), spoken, listed(alice)) == ([], [], [])
    assert alice.texts("bob") == ["alice: hello"]
    for command in (
        commands.Send(alice.id_of("bob"), "yes"), commands.OpenDirect("bob", "yes", ask=False),
        commands.Bye(alice.id_of("bob")),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="/unblock bob first"):
            alice.do(command)
    alice.do(commands.Unblock("bob"))
    settle(*both)
    assert alice.texts("bob") == ["alice: hello", "bob: hi", "bob: are you angry?"]
    alice.say("bob", "no")
    settle(*both)
    assert bob.texts("alice")[-1] == "alice: no"


def test_in_open_rooms_a_blocked_account_is_hidden_and_ignoring_is_its_own(people: World) -> None:
    alice, bob, mallory = everybody = people("alice", "bob", "mallory")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    mallory.say("#lobby", "spam 1")
    settle(*everybody)
    alice.do(commands.Block("mallory"))
    mallory.say("#lobby", "spam 2")
    bob.say("#lobby", "hello")
    settle(*everybody)
    assert alice.texts("#lobby") == ["bob: hello"]
    assert len(bob.texts("#lobby")) == 3
    alice.do(commands.Ignore("mallory"))
    alice.do(commands.Unblock("mallory"))
    assert alice.texts("#lobby") == ["bob: hello"]
    alice.do(commands.Block("mallory"))
    alice.do(commands.Unignore("mallory"))
    assert alice.texts("#lobby") == ["bob: hello"]
    alice.do(commands.Unblock("mallory"))
    assert len(alice.texts("#lobby")) == 3


def test_in_an_open_room_what_a_blocked_account_says_is_not_marked_as_received(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Person, "marks", True)
    alice, bob, mallory = everybody = people("alice", "bob", "mallory")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    alice.do(commands.Block("mallory"))
    settle(*everybody)
    spoken = sent(alice, monkeypatch)
    mallory.say("#lobby", "are you there?")
    settle(*everybody)
    assert spoken == []
    bob.say("#lobby", "I am")
    settle(*everybody)
    assert [type(each) for each in spoken] == [wire.Submit]


def test_an_invitation_of_a_blocked_account_is_forgotten_without_a_word(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = both = friends(people)
    alice.obliging = False  # of this one alone
    bob.do(commands.CreateRoom("#club"))
    settle(*both)
    bob.do(commands.Invite(bob.id_of("#club"), "alice"))
    settle(*both)
    assert len(alice.engine.snapshot.invitations) == 1
    spoken = sent(alice, monkeypatch)
    alice.do(commands.Block("bob"))
    assert alice.engine.snapshot.invitations == {}
    heard(alice)
    bob.do(commands.Remove(bob.id_of("#club"), "alice"))
    settle(*both)
    bob.do(commands.Invite(bob.id_of("#club"), "alice"))
    settle(*both)
    assert (heard(alice), spoken, alice.engine.snapshot.invitations) == ([], [], {})
    assert not [each for each in bob.happened if isinstance(each, events.InvitationDeclined)]


def test_who_asks_again_within_a_day_of_a_no_is_not_heard_and_is_found_after_it(
    people: World, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = both = people("alice", "bob")
    bob.do(commands.OpenDirect("alice", "May I?", ask=True))
    settle(*both)
    alice.do(commands.Decline(alice.id_of("bob")))
    settle(*both)
    heard(alice)
    spoken = sent(alice, monkeypatch)
    bob.do(commands.OpenDirect("alice", "Please?", ask=True))
    settle(*both)
    assert (heard(alice), spoken) == ([], [])
    asking = [each for each in alice.engine.snapshot.conversations.values() if each.state == "request"]
    assert [each.unheard for each in asking] == [True]
    server.now += DAY_MILLISECONDS
    come_back(alice)
    settle(*both)
    asking = [each for each in alice.engine.snapshot.conversations.values() if each.state == "request"]
    assert [each.unheard for each in asking] == [False]
    alice.do(commands.Accept(asking[0].id))
    settle(*both)
    bob.say("alice", "thanks")
    settle(*both)
    assert alice.texts("bob")[-1] == "bob: thanks"


def test_a_no_to_a_room_counts_for_that_room_alone(people: World) -> None:
    alice, bob = both = friends(people)
    alice.obliging = False  # of this one alone
    for name in ("#club", "#den"):
        bob.do(commands.CreateRoom(name))
        settle(*both)
    bob.do(commands.Invite(bob.id_of("#club"), "alice"))
    settle(*both)
    (club,) = alice.engine.snapshot.invitations.values()
    alice.do(commands.DeclineInvitation(club.conversation, club.question))
    settle(*both)
    heard(alice)
    bob.do(commands.Invite(bob.id_of("#club"), "alice"))
    bob.do(commands.Invite(bob.id_of("#den"), "alice"))
    settle(*both)
    assert [each.invitation.name for each in heard(alice) if isinstance(each, events.Invited)] == ["#den"]
    assert [each.name for each in alice.engine.snapshot.invitations.values()] == ["#den"]


def test_beyond_the_bounds_a_blocked_account_is_not_even_left(people: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_OF_INVITER", 0)
    alice, mallory = both = people("alice", "mallory")
    alice.do(commands.Block("mallory"))
    spoken = sent(alice, monkeypatch)
    mallory.do(commands.OpenDirect("alice", "again", ask=True))
    settle(*both)
    assert spoken == []
    assert mallory.state_of("alice") == "requested"


def test_what_makes_no_sense_is_refused(people: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice,) = people("alice")
    monkeypatch.setattr(contacts, "MAX_BLOCKED", 1)
    alice.do(commands.Block("mallory"))
    for command, why in (
        (commands.Block("Alice"), "That is you"), (commands.Block("mallory"), "blocked already"),
        (commands.Block("eve"), "more are not kept"), (commands.Unblock("eve"), "not blocked"),
        (commands.Block("no body"), "name"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=why):
            alice.do(command)
    assert alice.engine.snapshot.blocked == ("mallory",)
