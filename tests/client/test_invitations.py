"""Being invited: nobody is in a room before they have said yes, and nobody can invite in another's name."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.conversations import bounds, entrance, invitations, offers, registry, welcomes
from securechat.client.conversations.conversation import Conversation
from securechat.client.snapshot import Invitation
from securechat.content.registry import INVITATION_DAYS, Accept, Body, Invite, encode_body
from securechat.errors import TrustError, UsageError
from securechat.identity.pins import digest
from securechat.identity.statements import Link as ChainLink
from securechat.mls.proposals import Remove
from securechat.policy import Identity
from securechat.policy.departures import departure_data, epoch_state
from securechat.server.sequencer.room_names import RoomNames
from securechat.wire import messages as wire
from tests.support.chains import later, revocation, show
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import PASSWORD, Person, only, settle

World = Callable[..., list[Person]]
DAY = 86_400_000


def room(owner: Person, name: str = "#club") -> bytes:
    """An invite room of somebody's own."""
    owner.do(commands.CreateRoom(name))
    settle(owner)
    return owner.id_of(name)


def asked(person: Person) -> list[Invitation]:
    """What a person has not answered."""
    return list(person.engine.snapshot.invitations.values())


def befriend(one: Person, other: Person) -> None:
    """Let two people talk in private, both ways."""
    one.do(commands.OpenDirect(other.name, "hello", ask=True))
    settle(one, other)
    other.do(commands.Accept(other.id_of(one.name)))
    settle(one, other)


def renew(person: Person) -> None:
    """Renew a person's signature key, which has run out meanwhile."""
    person.do(commands.Rotate())
    person.do(commands.Unlock(PASSWORD))
    settle(person)


def refuse_all(*people: Person) -> None:
    """Let people decide for themselves."""
    for person in people:
        person.obliging = False


def waiting(person: Person) -> int:
    """How many Welcomes wait."""
    return len(person.vault.invitations.inviters())


def changes(person: Person) -> list[str]:
    """What has happened to a person's conversations."""
    return [event.change for event in person.happened if isinstance(event, events.ConversationChanged)]


# --- asking -------------------------------------------------------------------------------------------------------


def test_who_is_invited_to_a_room_that_is_being_founded_comes_in_once_it_is_there(people: World) -> None:
    alice, bob = people("alice", "bob")
    befriend(alice, bob)
    alice.cut()
    alice.do(commands.CreateRoom("#club"))
    club = alice.id_of("#club")
    for command in (commands.Invite(club, "bob"), commands.SetTopic(club, "books")):
        assert alice.do(command) == []  # it waits, as what is said does
    alice.say("#club", "welcome")
    for late, why in (
        (commands.SetOwner(club, "bob", owner=True), "bob is not in #club."),
        (commands.Remove(club, "bob"), "bob is not in #club."),
        (commands.Invite(club, "alice"), "That is you."),
        (commands.MakeInviteLine("#club"), "#club does not exist yet"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=why):
            alice.do(late)
    alice.crash()  # what waits is in the vault
    alice.connect()
    settle(alice, bob)
    assert alice.engine.snapshot.conversations[club].members == ("alice", "bob")
    assert bob.engine.snapshot.conversations[club].topic == "books"
    assert bob.texts("#club") == ["alice: welcome"]
    assert not alice.of(events.Refused)


def test_what_waits_for_a_room_is_answered_whether_it_is_founded_or_not(people: World) -> None:
    alice, bob = people("alice", "bob")
    befriend(alice, bob)
    room(bob, "#taken")
    for name, kind in (("#club", events.Done), ("#taken", events.Refused)):
        found = commands.CreateRoom(name)
        alice.do(found)
        add = commands.Invite(alice.id_of(name), "bob")
        alice.do(add)
        settle(alice, bob)
        for command in (found, add):
            assert [type(each) for each in alice.of(events.Event) if each.command == command.id
                    and isinstance(each, events.Done | events.Refused)] == [kind]  # fmt: skip
    assert bob.state_of("#club") == "open"
    assert alice.state_of("#taken") == "closed"


def test_nobody_is_in_a_room_before_they_have_said_yes(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    alice.say("#club", "before bob has answered")
    settle(alice, bob)
    (question,) = asked(bob)
    assert (question.conversation, question.name, question.inviter) == (club, "#club", "alice")
    assert (question.owners, question.members, question.known) == (("alice",), ("alice",), ("alice",))
    assert question.key == digest(alice.engine._context.device.identity_key)
    assert not question.first_contact
    assert bob.of(events.Invited) == [events.Invited(question)]
    assert bob.state_of("#club") == ""
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    assert asked(bob) == []
    assert bob.texts("#club") == ["alice: before bob has answered"]
    bob.say("#club", "here I am")
    settle(alice, bob)
    assert alice.texts("#club")[-1] == "bob: here I am"


def test_welcomes_into_a_room_that_one_is_in_are_told_once_a_day(server: MemoryServer, people: World) -> None:
    (alice,) = people("alice")
    club = alice.engine._registry.get(room(alice))

    def told_after(milliseconds: int) -> int:
        server.now += milliseconds
        alice.happened.clear()
        with alice.engine._unit():
            alice.engine._registry._welcomes._tell_repeated(club)
        alice.flush()
        return len(alice.of(events.Alarm))

    assert [told_after(0), told_after(0), told_after(0)] == [0, 1, 0]  # one may be an honest one that comes late
    assert told_after(welcomes.REPEATED_MILLISECONDS - 1) == 0
    assert told_after(1) == 1


def test_who_was_away_for_longer_than_their_key_packages_last_can_be_invited_when_they_are_back(
    server: MemoryServer, people: World
) -> None:
    alice, bob = people("alice", "bob")
    club = room(alice)
    bob.cut()
    server.now += 100 * DAY
    renew(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice)
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert refused.text == "bob was not added: bob has been away too long; nothing could be sent"
    bob.connect()
    settle(alice, bob)
    renew(bob)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    bob.say("#club", "here I am")
    settle(alice, bob)
    assert alice.texts("#club")[-1] == "bob: here I am"
    assert not alice.of(events.Alarm)


def test_who_left_and_is_invited_again_by_a_stranger_is_asked_about_the_stranger_first(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    club = room(alice)
    for name in ("bob", "carol"):
        alice.do(commands.Invite(club, name))
        settle(alice, bob, carol)
    alice.do(commands.SetOwner(club, "bob", owner=True))
    settle(alice, bob, carol)
    refuse_all(carol)
    carol.do(commands.Leave(club))
    settle(alice, bob, carol)
    bob.do(commands.Invite(club, "carol"))
    settle(alice, bob, carol)
    requests = [event for event in carol.of(events.ConversationChanged) if event.change == "request"]  # type: ignore[attr-defined]
    assert [event.account for event in requests] == ["bob"]  # type: ignore[attr-defined]
    assert asked(carol) == []
    carol.do(commands.Accept(carol.id_of("bob")))
    settle(alice, bob, carol)
    (question,) = asked(carol)
    assert (question.inviter, question.again) == ("bob", True)


def test_who_has_not_answered_is_listed_so_until_their_first_commit(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)

    def listed() -> tuple[str, ...]:
        alice.do(commands.ListMembers(club))
        settle(alice, bob)
        told = alice.of(events.MemberList)[-1]
        assert isinstance(told, events.MemberList)
        return told.invited

    assert listed() == ("bob",)
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    assert listed() == ()


def test_an_unknown_inviter_asks_for_both_at_once(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    (question,) = asked(bob)
    assert question.first_contact
    assert changes(bob) == []  # one question for both
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("open", "open")


@pytest.mark.parametrize("who", ["bob", "mallory"])
def test_nobody_answers_their_own_request(people: World, who: str) -> None:
    """`who` says yes to what mallory has asked."""
    bob, mallory = people("bob", "mallory")
    refuse_all(bob)
    mallory.do(commands.OpenDirect("bob", "hi", ask=True))
    settle(bob, mallory)
    if who == "bob":
        bob.do(commands.Accept(bob.id_of("mallory")))
    else:
        theirs = mallory.engine._registry.find("bob")
        assert theirs is not None
        with mallory.engine._unit():
            theirs.put(Accept())
    settle(bob, mallory)
    assert bob.state_of("mallory") == ("open" if who == "bob" else "request")
    assert ("accepted" in changes(bob)) == (who == "bob")
    mallory.do(commands.Invite(room(mallory), "bob"))
    settle(bob, mallory)
    (question,) = asked(bob)
    assert question.first_contact == (who == "mallory")


def test_a_question_survives_a_restart_and_is_asked_once(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    before = asked(bob)
    bob.crash()
    assert asked(bob) == before
    bob.connect()
    settle(alice, bob)
    assert len(bob.of(events.Invited)) == 1
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    assert bob.state_of("#club") == "open"


def test_no_leaves_the_room_and_is_told(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    bob.do(commands.DeclineInvitation(club, bob.question(club)))
    settle(alice, bob)
    alice.say("#club", "then without")
    settle(alice, bob)
    assert asked(bob) == []
    assert bob.state_of("#club") == ""
    assert alice.of(events.InvitationDeclined) == [events.InvitationDeclined(club, "bob")]
    assert became_of(alice, "bob") == "stayed-out"
    conversation = alice.engine.snapshot.find("#club")
    assert conversation is not None
    assert conversation.members == ("alice",)
    assert len(alice.engine._registry.get(club).people) == 1  # type: ignore[union-attr]  # it is there
    assert bob.state_of("alice") == "open"  # to say no to a room is not to say no to alice


def became_of(person: Person, account: str) -> str:
    """What was told of somebody last."""
    told = [each for each in person.happened if isinstance(each, events.ConversationChanged)]
    return [each.change for each in told if each.account == account][-1]


def test_who_came_and_goes_has_left(people: World) -> None:
    alice, bob = people("alice", "bob")
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    bob.do(commands.Leave(club))
    settle(alice, bob)
    assert became_of(alice, "bob") == "left"


def test_a_no_to_a_room_that_has_gone_on_removes_the_leaf_all_the_same(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    for name in ("bob", "carol"):
        alice.do(commands.Invite(club, name))
        settle(alice, bob, carol)
    bob.do(commands.DeclineInvitation(club, bob.question(club)))
    settle(alice, bob, carol)
    assert len(alice.engine._registry.get(club).people) == 2  # type: ignore[union-attr]  # it is there
    carol.say("#club", "without bob")
    settle(alice, bob, carol)
    assert alice.texts("#club") == ["carol: without bob"]


def test_no_to_a_stranger_is_no_to_both(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    alice.do(commands.Invite(room(alice), "bob"))
    settle(alice, bob)
    (question,) = asked(bob)
    bob.do(commands.DeclineInvitation(question.conversation, bob.question(question.conversation)))
    settle(alice, bob)
    assert (asked(bob), bob.state_of("alice"), bob.state_of("#club")) == ([], "closed", "")
    assert alice.state_of("bob") == "closed"
    alice.say("#club", "alone")
    settle(alice, bob)
    assert len(alice.engine._registry.get(alice.id_of("#club")).people) == 1  # type: ignore[union-attr]  # it is there


def test_never_declines_what_the_same_key_sends_later_in_silence(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    first, second = room(alice), room(alice, "#den")
    alice.do(commands.Invite(first, "bob"))
    settle(alice, bob)
    bob.do(commands.DeclineInvitation(first, bob.question(first), never=True))
    settle(alice, bob)
    alice.do(commands.Invite(second, "bob"))
    settle(alice, bob)
    assert asked(bob) == []
    assert len(bob.of(events.Invited)) == 1
    assert len(alice.of(events.InvitationDeclined)) == 2


def test_an_invitation_that_is_taken_back_is_told_and_cannot_be_accepted(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    (question,) = asked(bob)
    alice.do(commands.Remove(club, "bob"))
    settle(alice, bob)
    assert bob.of(events.InvitationEnded) == [events.InvitationEnded(question, "withdrawn")]
    assert waiting(bob) == 0
    with pytest.raises(UsageError, match="no invitation"):
        bob.do(commands.AcceptInvitation(club, bob.question(club)))


@pytest.mark.parametrize("days", [INVITATION_DAYS - 1, INVITATION_DAYS + 1])
def test_an_invitation_ends_after_fourteen_days_while_nobody_restarts(
    people: World, server: MemoryServer, days: int
) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    (question,) = asked(bob)
    server.now += days * DAY
    assert bob.engine.timer is not None
    bob.engine.handle_timer()
    bob.flush()
    ended = days > INVITATION_DAYS
    assert bob.of(events.InvitationEnded) == ([events.InvitationEnded(question, "expired")] if ended else [])
    assert waiting(bob) == (0 if ended else 1)
    if not ended:
        bob.do(commands.AcceptInvitation(club, bob.question(club)))
        assert bob.state_of("#club") == "open"


def test_a_welcome_without_its_invitation_ends_as_well(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    without_invitations(alice)
    alice.do(commands.Invite(room(alice), "bob"))
    settle(alice, bob)
    assert waiting(bob) == 1
    server.now += (INVITATION_DAYS + 1) * DAY
    bob.engine.handle_timer()
    assert waiting(bob) == 0
    assert bob.engine._registry.invitations.timer is None


def test_the_newest_invitation_to_a_room_counts(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    for _ in range(2):
        alice.do(commands.Invite(club, "bob"))
        settle(alice, bob)
        if len(bob.of(events.Invited)) == 1:
            alice.do(commands.Remove(club, "bob"))
            settle(alice, bob)
    assert len(asked(bob)) == 1
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    bob.say("#club", "at last")
    settle(alice, bob)
    assert alice.texts("#club") == ["bob: at last"]


def test_a_program_accepts_invitations_of_the_accounts_in_its_settings_alone(people: World) -> None:
    alice, carol = people("alice", "carol")
    key = digest(alice.engine._context.device.identity_key)
    (bob,) = people("bob", accept_invitations_of=frozenset({("alice", key), ("carol", key)}))
    refuse_all(bob)
    for person, name in ((alice, "#club"), (carol, "#trap")):
        person.do(commands.Invite(room(person, name), "bob"))
        settle(alice, bob, carol)
    assert bob.state_of("#club") == "open"
    assert bob.state_of("#trap") == ""
    assert [question.name for question in asked(bob)] == ["#trap"]


def test_a_newer_invitation_voids_the_question_until_its_own_welcome_is_there(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    alice.do(commands.Remove(club, "bob"))
    alice.engine._registry.inviting.withdraw = lambda *_: None  # type: ignore[method-assign]  # nobody says so
    settle(alice, bob)
    alice.do(commands.Invite(club, "bob"))
    held: list[wire.FromServer] = []
    only(bob, lambda message: held.append(message) or [] if isinstance(message, wire.Welcomed) else [message])  # type: ignore[func-returns-value]  # a test's filter
    settle(alice, bob)
    assert asked(bob) == []
    with pytest.raises(UsageError, match="no invitation"):
        bob.do(commands.AcceptInvitation(club, bob.question(club)))
    bob.server.outward = lambda _link, message: [message]
    for message in held:
        assert bob.link is not None
        bob.link.send(message)
    settle(alice, bob)
    assert len(bob.of(events.Invited)) == 2
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    bob.say("#club", "in")
    settle(alice, bob)
    assert alice.texts("#club") == ["bob: in"]


@pytest.mark.parametrize("decline", [False, True])
def test_another_inviter_to_the_same_room_takes_nothing_away(people: World, decline: bool) -> None:  # noqa: FBT001  a parameter of the test
    alice, bob, mallory = people("alice", "bob", "mallory")
    refuse_all(bob)
    befriend(alice, bob)
    befriend(mallory, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob, mallory)
    (question,) = asked(bob)
    (row,) = bob.vault.invitations.invites(club)
    (welcome,) = bob.vault.invitations.welcomes(club)
    other = Identity("mallory", mallory.engine._context.device.identity_key)
    with bob.vault.transaction():  # as if mallory had made a group under the room's id
        bob.vault.invitations.save_invite(replace(row, inviter=other, told=False, direct=bob.id_of("mallory")))
        bob.vault.invitations.add_welcome(replace(welcome, inviter=other))
        bob.engine._registry.invitations.consider(club)
    assert asked(bob) == [question]
    if decline:
        bob.do(commands.DeclineInvitation(club, bob.question(club)))
    else:
        bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob, mallory)
    assert asked(bob) == []
    assert bob.state_of("#club") == ("" if decline else "open")


@pytest.mark.parametrize("mallory_is", ["a stranger", "known"])
def test_an_answer_is_to_the_question_that_was_shown(people: World, mallory_is: str) -> None:
    """Mallory and the server make a group under the id of the room that alice invites to."""
    alice, bob, mallory = people("alice", "bob", "mallory")
    refuse_all(bob)
    if mallory_is == "known":
        befriend(mallory, bob)
    else:
        mallory.do(commands.OpenDirect("bob", "hi", ask=True))
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob, mallory)
    (question,) = asked(bob)
    assert (question.inviter, question.first_contact) == ("alice", True)
    (row,) = bob.vault.invitations.invites(club)
    (welcome,) = bob.vault.invitations.welcomes(club)
    room(mallory, "#den")
    den = mallory.engine._registry.find("#den")
    assert den is not None
    signer = offers.own_leaf(mallory.engine._context)
    other, key = Identity("mallory", signer.identity), signer.identity
    facts, body = entrance.decode_facts(welcome.facts), invitations._body_of(row)
    facts = msgspec.structs.replace(facts, owners=(other,), signer=signer)
    forged = msgspec.structs.replace(
        entrance.decode_welcomed(welcome.welcomed), tree=den.group.public.tree.encode()
    )  # fmt: skip
    body = msgspec.structs.replace(body, owners=(other,))
    invite = replace(row, inviter=other, told=False, direct=bob.id_of("mallory"), body=encode_body(body)[1])
    with bob.engine._unit():
        bob.vault.invitations.save_invite(invite)
        bob.vault.invitations.add_welcome(
            replace(
                welcome, inviter=other, facts=msgspec.msgpack.encode(facts), welcomed=msgspec.msgpack.encode(forged)
            )
        )
        bob.engine._registry.invitations.consider(club)
    (now,) = asked(bob)
    if mallory_is == "known":  # who is known is asked about before a stranger
        assert now.inviter == "mallory"
        with pytest.raises(UsageError, match="another invitation"):
            bob.do(commands.AcceptInvitation(club, question.question))
        with pytest.raises(UsageError, match="another invitation"):
            bob.do(commands.DeclineInvitation(club, question.question))
        assert asked(bob) == [now]
        bob.do(commands.DeclineInvitation(club, now.question))
        assert [each.inviter for each in asked(bob)] == ["alice"]
        return
    assert now == question
    bob.do(commands.AcceptInvitation(club, now.question))
    settle(alice, bob, mallory)
    bob.say("#club", "in")
    settle(alice, bob, mallory)
    assert alice.texts("#club") == ["bob: in"]
    assert bob.engine._context.pins.standing("mallory", key) == "unknown"


@pytest.mark.parametrize("answered", [False, True])
def test_requests_that_end_unanswered_are_kept_up_to_a_bound(
    people: World, monkeypatch: pytest.MonkeyPatch, *, answered: bool
) -> None:
    monkeypatch.setattr(registry, "MAX_REQUESTS", 2)
    bob, mallory = people("bob", "mallory")
    for number in range(5):
        mallory.do(commands.OpenDirect("bob", f"request {number}", ask=True))
        settle(bob, mallory)
        if answered:
            bob.do(commands.Accept(bob.id_of("mallory")))
            settle(bob, mallory)
        mallory.do(commands.Leave(mallory.id_of("bob")))
        settle(bob, mallory)
    for _ in range(2):
        kept = [each for each in bob.engine._registry if each.row.name == "mallory"]
        lines = [bob.vault.history.newest(each.id, 10)[0].text for each in kept]
        assert lines == [f"request {number}" for number in range(0 if answered else 2, 5)]
        assert bob.vault.one("SELECT count(*) FROM conversations WHERE name = 'mallory'")[0] == len(kept)
        bob.stop()
        bob.start()
        bob.connect()
        settle(bob, mallory)

def test_a_question_ends_with_its_welcome(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    (question,) = asked(bob)
    (welcome,) = bob.vault.invitations.welcomes(club)
    with bob.engine._unit():
        bob.engine._registry.invitations.drop_welcome(welcome.id)  # it had to give way
    assert asked(bob) == []
    assert bob.engine.take_events() == [events.InvitationEnded(question, "expired")]


# --- kills --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(0, 24, 2))
def test_no_crash_parts_an_addition_from_its_invitation(people: World, steps: int) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    for _ in range(steps):
        alice.push() or alice.pull()
    alice.crash()
    alice.connect()
    settle(alice, bob)
    assert [question.name for question in asked(bob)] == ["#club"]
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    for _ in range(steps):
        bob.push() or bob.pull()
    bob.crash()
    bob.connect()
    settle(alice, bob)
    bob.say("#club", "in")
    settle(alice, bob)
    assert alice.texts("#club") == ["bob: in"]


@pytest.mark.parametrize("then", ["nothing", "rename", "remove"])
def test_whatever_follows_an_addition_in_one_batch_the_invitation_fits_its_welcome(people: World, then: str) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    refuse_all(carol)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    alice.do(commands.SetOwner(club, "bob", owner=True))
    settle(alice, bob)
    alice.do(commands.Invite(club, "carol"))
    while not any(isinstance(message, wire.Commit) for message in alice.to_server):
        assert alice.push() or alice.pull()
    while alice.push():
        pass
    alice.cut()  # before the server's answer to the commit
    settle(bob, carol)
    if then == "rename":
        bob.do(commands.Rename(club, "#team"))
    elif then == "remove":
        bob.do(commands.Remove(club, "alice"))
    settle(bob, carol)
    alice.connect()
    settle(alice, bob, carol)
    assert ("removed" in changes(alice)) == (then == "remove")
    (question,) = asked(carol)
    assert (question.inviter, question.owners) == ("alice", ("alice", "bob"))
    carol.do(commands.AcceptInvitation(club, carol.question(club)))
    settle(alice, bob, carol)
    name = "#team" if then == "rename" else "#club"
    carol.say(name, "here I am")
    settle(alice, bob, carol)
    assert bob.texts(name) == ["carol: here I am"]
    assert not carol.of(events.Alarm)
    alice.say("carol", "and we go on talking")
    settle(alice, bob, carol)
    assert carol.texts("alice")[-1] == "alice: and we go on talking"


def test_a_welcome_is_not_acknowledged_before_it_is_kept_and_can_be_opened_later(
    people: World, server: MemoryServer
) -> None:
    """Also one for a last-resort key package, and whatever key packages have been replaced since."""
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    bob.cut()
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice)
    bob.connect()
    settle(alice, bob)
    device = bob.engine._context.device.id
    bob.engine.say_goodbye()
    settle(alice, bob)
    assert server.store.inboxes.read(device, 0, 1 << 20) == []
    with bob.vault.transaction():
        bob.vault.key_packages.delete_expired(1 << 50)
    bob.crash()
    bob.connect()
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    assert bob.state_of("#club") == "open"


@pytest.mark.parametrize("first", ["goes on", "has stopped"])
def test_a_room_whose_name_one_knows_is_left_before_another_is_entered_by_that_name(
    people: World, server: MemoryServer, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """A server alone can stop a room; its name leads to no other one because of that."""
    alice, bob, mallory = everybody = people("alice", "bob", "mallory")
    befriend(mallory, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(*everybody)
    refuse_all(bob)
    if first == "has stopped":
        assert bob.link is not None
        bob.link.send(wire.Entry(club, server.head(club).seq + 1, server.now, bytes(16), 9, b"", b""))
        settle(*everybody)
    assert bob.state_of("#club") == ("stopped" if first == "has stopped" else "open")
    for name in ("claim", "follow"):
        monkeypatch.setattr(RoomNames, name, lambda *_, **__: None)
    theirs = room(mallory, "#fun")
    mallory.do(commands.Rename(theirs, "#club"))
    settle(*everybody)
    mallory.do(commands.Invite(theirs, "bob"))
    settle(*everybody)
    with pytest.raises(UsageError, match="You are in another room #club. Leave that one first"):
        bob.do(commands.AcceptInvitation(theirs, bob.question(theirs)))
    assert bob.id_of("#club") == club
    bob.do(commands.Leave(club))
    settle(*everybody)
    bob.do(commands.AcceptInvitation(theirs, bob.question(theirs)))
    settle(*everybody)
    assert bob.id_of("#club") == theirs
    assert bob.state_of("#club") == "open"


# --- floods -------------------------------------------------------------------------------------------------------


def test_one_inviter_fills_their_own_places_and_many_leave_room_for_those_we_know(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_OF_INVITER", 2)
    monkeypatch.setattr(bounds, "MAX_WAITING", 4)
    alice, bob, *crowd = people("alice", "bob", *(f"p{number}" for number in range(4)))
    refuse_all(bob)
    befriend(alice, bob)
    for person in crowd:
        for number in range(3):
            person.do(commands.Invite(room(person, f"#{person.name}-{number}"), "bob"))
            settle(bob, alice, person)
    assert waiting(bob) == 4
    assert bob.engine._registry.bounds.dropped > 0
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    assert waiting(bob) == 4
    assert "#club" in {question.name for question in asked(bob)}
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    assert bob.state_of("#club") == "open"
    assert not bob.of(events.Alarm)


# --- invitations that do not fit ------------------------------------------------------------------------------------


def without_invitations(person: Person) -> None:
    """Let a person's program add people without a word, as a server's own would."""
    person.engine._registry.inviting.invite = lambda *_: None  # type: ignore[method-assign]  # a liar


def test_a_welcome_without_an_invitation_is_kept_in_silence(people: World) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    without_invitations(alice)
    told = list(bob.happened)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    assert waiting(bob) == 1
    assert asked(bob) == []
    assert [event for event in bob.happened[len(told) :] if not isinstance(event, events.PresenceChanged)] == []
    assert [each.id for each in bob.engine._registry] == [bob.id_of("alice")]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("name", "#other", "group, kind, name, owners and context are the invitation's"),
        ("role", "owner", "find no fault in it"),
        ("owners", (("alice", bytes(32)),), "group, kind, name, owners and context are the invitation's"),
        ("context", bytes(32), ""),
        ("group", bytes(32), ""),
        ("until", 1, ""),
        ("text", "come in", None),
    ],
)
def test_an_invitation_that_does_not_fit_its_welcome_is_not_asked_about(
    people: World, monkeypatch: pytest.MonkeyPatch, field: str, value: object, problem: str | None
) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    honest = Conversation.put

    def put(conversation: Conversation, body: Body, local_id: int = 0) -> int:
        altered = msgspec.structs.replace(body, **{field: value}) if isinstance(body, Invite) else body
        return honest(conversation, altered, local_id)

    monkeypatch.setattr(Conversation, "put", put)
    alice.do(commands.Invite(room(alice), "bob"))
    settle(alice, bob)
    alarms = [event.text for event in bob.of(events.Alarm) if isinstance(event, events.Alarm)]
    if problem is None:
        assert [question.text for question in asked(bob)] == [value]
    else:
        assert asked(bob) == []
        assert [problem in text for text in alarms] == ([True] if problem else [])


@pytest.mark.parametrize("made", [revocation, later, None])
def test_a_welcome_that_waits_is_refused_once_its_maker_is_revoked_and_not_once_they_renew_their_key(
    people: World, made: Callable[[Person], ChainLink] | None
) -> None:
    """An honest maker may renew it while the invitation waits: the log shows that, and until then it is told."""
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    (question,) = asked(bob)
    if made is not None:
        show(bob, made(alice))
        settle(bob)
    if made is revocation:
        assert asked(bob) == []
        assert waiting(bob) == 0
        assert any("in force" in each.text for each in bob.of(events.Alarm) if isinstance(each, events.Alarm))
        with pytest.raises(UsageError, match="no invitation"):
            bob.do(commands.AcceptInvitation(club, question.question))
        return
    bob.do(commands.AcceptInvitation(club, question.question))
    settle(alice, bob)
    assert bob.state_of("#club") == "open"
    assert not bob.of(events.Alarm)
    assert len(bob.of(events.CameByOldKey)) == (made is later)


def test_nobody_in_an_open_room_is_listed_as_invited(people: World) -> None:
    """Not even its founder, whose leaf comes from a key package until they commit something."""
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, bob)
    bob.do(commands.ListMembers(bob.id_of("#lobby")))
    settle(alice, bob)
    (told,) = bob.of(events.MemberList)
    assert isinstance(told, events.MemberList)
    assert told.invited == ()


# --- coming back --------------------------------------------------------------------------------------------------


def test_who_has_left_is_asked_before_they_are_in_again(people: World) -> None:
    alice, bob = people("alice", "bob")
    befriend(alice, bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    bob.do(commands.Leave(club))
    settle(alice, bob)
    alice.say("#club", "without bob")
    settle(alice, bob)
    refuse_all(bob)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    assert bob.state_of("#club") == "closed"
    (question,) = asked(bob)
    assert question.again
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob)
    bob.say("#club", "back")
    settle(alice, bob)
    assert alice.texts("#club")[-1] == "bob: back"
    assert "alice: without bob" not in bob.texts("#club")


def test_who_was_removed_is_invited_back_into_a_room_that_was_renamed_meanwhile(people: World) -> None:
    alice, bob = people("alice", "bob")
    befriend(alice, bob)
    club = room(alice)
    for command in (commands.Invite(club, "bob"), commands.Remove(club, "bob"), commands.Rename(club, "#pub")):
        alice.do(command)
        settle(alice, bob)
    assert bob.state_of("#club") == "closed"
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    assert bob.id_of("#pub") == club
    alice.say("#pub", "back again")
    settle(alice, bob)
    assert bob.texts("#pub")[-1] == "alice: back again"


@pytest.mark.parametrize("late", [False, True])
def test_who_was_removed_and_invited_again_while_away_is_asked(people: World, late: bool) -> None:  # noqa: FBT001  a parameter of the test
    """`late`: the Welcome comes only after the log has been asked for."""
    alice, bob, carol = people("alice", "bob", "carol")
    befriend(alice, bob)
    club = room(alice)
    for name in ("bob", "carol"):
        alice.do(commands.Invite(club, name))
        settle(alice, bob, carol)
    bob.cut()
    alice.do(commands.Remove(club, "bob"))
    settle(alice, carol)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, carol)
    refuse_all(bob)
    bob.happened.clear()
    kept: list[wire.FromServer] = []
    if late:
        only(bob, lambda message: kept.append(message) or [] if isinstance(message, wire.Welcomed) else [message])  # type: ignore[func-returns-value]  # a test's filter
    bob.connect()
    settle(alice, bob, carol)
    bob.server.outward = lambda _link, message: [message]
    for message in kept:
        assert bob.link is not None
        bob.link.send(message)
    settle(alice, bob, carol)
    assert len(bob.of(events.Ready)) == 1
    (question,) = asked(bob)
    assert question.again
    bob.say("#club", "typed before the answer")
    settle(alice, bob, carol)
    assert carol.texts("#club") == []
    bob.do(commands.AcceptInvitation(club, bob.question(club)))
    settle(alice, bob, carol)
    bob.say("#club", "back")
    settle(alice, bob, carol)
    assert carol.texts("#club") == []
    held = bob.of(events.Held)[-1]
    assert isinstance(held, events.Held)
    assert {each.account for each in held.whose} == {"alice", "carol"}
    bob.do(commands.Confirm(club, held.question))
    settle(alice, bob, carol)
    assert carol.texts("#club") == ["bob: typed before the answer", "bob: back"]


@pytest.mark.parametrize("left", [False, True])
def test_a_direct_welcome_whose_maker_has_left_leads_nowhere(
    server: MemoryServer, people: World, left: bool  # noqa: FBT001  a parameter of the test
) -> None:
    """Else what was typed first would go into a conversation with nobody, and a key of no bytes would be accepted."""
    alice, bob = people("alice", "bob")
    server.inward = lambda link, message: (
        [] if link is alice.link and isinstance(message, wire.FetchKeyPackages) else [message]
    )
    alice.do(commands.OpenDirect("bob", "for bob alone", ask=False))

    kept: list[wire.Welcomed] = []
    only(alice, lambda message: kept.append(message) or [] if isinstance(message, wire.Welcomed) else [message])  # type: ignore[func-returns-value]  # a test's filter
    bob.do(commands.OpenDirect("alice", "hello", ask=False))
    settle(alice, bob)
    (welcomed,) = kept
    server.outward = lambda _link, message: [message]
    if left:
        conversation = bob.engine._registry.get(welcomed.conversation)
        assert conversation is not None
        group = conversation.group
        leaving = departure_data(2, group.public.member(group.own_leaf))
        proof = group.propose(Remove(group.own_leaf), authenticated_data=leaving)
        welcomed.departures = [wire.Departure(proof, epoch_state(group.public))]
    assert alice.link is not None
    alice.link.send(welcomed)
    settle(alice, bob)
    accepted = alice.engine._context.pins.of("bob").written_to
    assert accepted == (None if left else bob.engine._context.device.identity_key)
    assert bool(alice.of(events.Alarm)) == left
    assert ("bob: hello" in alice.texts("bob")) == (not left)


def test_no_key_but_one_of_thirty_two_bytes_is_accepted(people: World) -> None:
    (alice,) = people("alice")
    book = alice.engine._context.pins
    with alice.vault.transaction():
        for length in (0, 31, 33):
            with pytest.raises(TrustError):
                book.accept("bob", bytes(length))
        assert book.of("bob").written_to is None
        book.accept("bob", bytes(32))
    assert book.standing("bob", bytes(32)) == "accepted"


@pytest.mark.parametrize("when", ["never", "while it waits", "while it is on its way"])
def test_a_key_that_is_refused_before_it_is_added_does_not_stay(server: MemoryServer, people: World, when: str) -> None:
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    befriend(alice, bob)
    club = room(alice)

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is alice.link and isinstance(message, wire.Commit) and when == "while it waits":
            link.send(wire.Refused(message.id, "busy", "later", retry_after=60_000))
            return []
        return [message]

    server.inward = inward
    if when == "while it is on its way":
        only(alice, lambda message: [] if isinstance(message, wire.Accepted) else [message])
    invite = commands.Invite(club, "bob")
    alice.do(invite)
    for _ in range(40):
        alice.push()
        alice.pull(8)
    if when != "never":
        alice.do(commands.Distrust("bob", digest(bob.engine._context.device.identity_key)))
    server.inward, server.outward = lambda _link, message: [message], lambda _link, message: [message]
    if when == "while it is on its way":
        alice.cut()  # the answer is lost: the log brings our commit
        alice.connect()
    settle(alice, bob)
    there = alice.engine._registry.get(club)
    assert there is not None
    here = {person.account for person in there.people.values()}
    assert here == ({"alice", "bob"} if when == "never" else {"alice"})
    assert bool(asked(bob)) == (when == "never")
    told = [event.code for event in alice.happened if isinstance(event, events.Refused) and event.command == invite.id]
    assert told == ([] if when == "never" else ["local"])


def test_unanswered_requests_have_a_bound_and_those_one_knows_have_room(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_WAITING", 2)
    bob, carol, *crowd = people("bob", "carol", "p1", "p2", "p3", "p4")
    befriend(bob, carol)
    carol.do(commands.Leave(carol.id_of("bob")))
    settle(bob, carol)
    for person in crowd[:3]:
        person.do(commands.OpenDirect("bob", person.name, ask=True))
        settle(bob, person)
    assert "p3" not in {each.message.text for each in bob.of(events.Received)}  # type: ignore[attr-defined]  # by `of`
    assert [bob.state_of(person.name) for person in crowd[:3]] == ["request", "request", "closed"]
    assert crowd[2].state_of("bob") == "closed"
    assert bob.engine._registry.bounds.dropped == 1
    crowd[0].do(commands.Leave(crowd[0].id_of("bob")))
    settle(bob, *crowd)
    crowd[3].do(commands.OpenDirect("bob", ask=True))  # one that is over gives way
    settle(bob, *crowd)
    assert [bob.state_of(person.name) for person in crowd] == ["", "request", "", "request"]
    carol.do(commands.OpenDirect("bob", "me again", ask=False))
    settle(bob, carol)
    assert bob.texts("carol")[-1] == "carol: me again"
    bob.do(commands.OpenDirect("p3", "what was it?", ask=False))  # nobody is kept out by it
    settle(bob, *crowd)
    assert crowd[2].texts("bob") == ["bob: what was it?"]


@pytest.mark.parametrize("most", [0, 1])
def test_whoever_is_never_to_invite_asks_nothing_either(
    people: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A server that lets nobody out cannot fill the vault with what is being left: `most` of it are entered."""
    monkeypatch.setattr(welcomes, "MAX_LEAVING", most)
    alice, bob = people("alice", "bob")
    refuse_all(bob)
    club = room(alice)
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    bob.do(commands.DeclineInvitation(club, bob.question(club), never=True))
    alice.do(commands.Leave(alice.id_of("bob")))
    settle(alice, bob)
    alice.do(commands.OpenDirect("bob", "again", ask=True))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("closed" if most else "requested", "closed")
    assert bob.texts("alice") == []
    assert len(bob.engine._registry.named("alice")) == 1 + most
    assert bob.engine._registry.bounds.dropped == 1
