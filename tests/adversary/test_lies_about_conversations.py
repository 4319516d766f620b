"""A server that leads people somewhere else than they meant to go: joining, being added, a resync, opening."""

import os
from collections.abc import Callable

import msgspec
import pytest

from securechat.client import commands, events
from securechat.errors import UsageError
from securechat.identity.certificate import certificate_of
from securechat.policy import Identity, Rules
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.hostile import HostileServer, Link
from securechat_lab.cast.scenes import assert_calm, direct, found, happened, lobby, members, repair, say, state
from securechat_lab.cast.shadow import Shadow
from tests.adversary.conftest import Crowd, Enter

change = msgspec.structs.replace


def sent(hostile: HostileServer, account: str, kind: type[m.Request]) -> int:
    """How many requests of one kind a client has sent."""
    links = [link for link in hostile.links if link.account == account]
    requests = [each for link in links for each in list(link.requests.values())]  # their threads add to them
    return sum(isinstance(request, kind) for request in requests)


# --- joining ------------------------------------------------------------------------------------------------------


def test_an_invite_room_that_the_server_calls_open_is_not_entered(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    (bob,) = crowd("bob")
    mallory = rogue("mallory")
    assert isinstance(mallory.open_room("#staff", "invite"), m.Done)
    shadow = Shadow(hostile, mallory, next(iter(mallory.groups)))
    hostile.lie(m.Rooms, lambda _, reply: [change(reply, rooms=[m.Room("#staff", "open", 1, joined=False, topic="")])])
    hostile.from_client[m.Join] = lambda link, request: link.tell_client(shadow.offer(request.id)) or []  # type: ignore[attr-defined, func-returns-value]  # a request
    bob.do(commands.ListRooms())
    assert bob.wait_for(events.RoomList).rooms[0].kind == "open"
    bob.do(commands.JoinRoom("#staff"))
    told = bob.wait_for(events.Alarm)
    assert (told.kind, told.text) == (
        "rules",
        (
            "You meant to enter the open room #staff, but the server led you to the invite room #staff. "
            "Nothing was joined or sent."
        ),
    )
    assert bob.wait_for(events.Refused).text == told.text
    assert state(bob, "#staff") == "closed"
    assert not sent(hostile, "bob", m.Commit)


def test_another_room_under_the_name_that_was_asked_for_is_not_entered(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    lobby(alice)
    alice.do(commands.JoinRoom("#trap"))
    alice.wait_for(events.ConversationChanged, lambda event: event.conversation.name == "#trap")
    hostile.from_client[m.Join] = lambda _, request: [change(request, room="#trap")]
    bob.do(commands.JoinRoom("#lobby"))
    told = bob.wait_for(events.Alarm)
    assert told.text.startswith(
        "You meant to enter the open room #lobby, but the server led you to the open room #trap."
    )
    assert members(alice, "#trap") == ("alice",)
    hostile.from_client.clear()
    assert isinstance(bob.answer(commands.JoinRoom("#lobby")), events.Done)
    say(bob, "#lobby", "here", alice)
    assert_calm(alice)


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (lambda offer: change(offer, tree=offer.tree[:-1]), "cut short"),
        (lambda offer: change(offer, tree=b"\x00"), "a ratchet tree does not end with a node"),
        (lambda offer: change(offer, group_info=offer.group_info[:-1] + b"\xff"), "a signature does not fit"),
        (lambda offer: change(offer, group_info=offer.tree), ""),
        (lambda offer: change(offer, conversation=bytes(32)), "The server offered the group of another conversation."),
        (lambda offer: change(offer, departures=[m.Departure(b"", bytes(64))]), "cut short"),
        (
            lambda offer: change(offer, number=limits.MAX_COUNT),
            "The server claims that this device has said more here than can be counted.",
        ),
    ],
    ids=["cut tree", "other tree", "group info", "no group info", "other group", "departure", "number"],
)
def test_a_wrong_offer_is_not_followed(
    hostile: HostileServer, crowd: Crowd, alter: Callable[[m.JoinOffer], m.JoinOffer], told: str
) -> None:
    alice, bob = crowd("alice", "bob")
    lobby(alice)
    hostile.lie(m.JoinOffer, lambda _, offer: [alter(offer)], to="bob")
    bob.do(commands.JoinRoom("#lobby"))
    alarm = bob.wait_for(events.Alarm)
    assert alarm.kind == "rules"
    assert told in alarm.text
    assert not sent(hostile, "bob", m.Commit)
    assert members(alice, "#lobby") == ("alice",)
    del hostile.from_server[m.JoinOffer]
    assert isinstance(bob.answer(commands.JoinRoom("#lobby")), events.Done)
    say(bob, "#lobby", "here", alice)


def test_an_old_offer_cannot_be_used(hostile: HostileServer, crowd: Crowd) -> None:
    """The server may show a state of yesterday; the log, which has moved on, does not fit it."""
    alice, bob, carol = crowd("alice", "bob", "carol")
    lobby(alice)
    offers: list[m.JoinOffer] = []

    def stale(_: Link, offer: m.JoinOffer) -> list[m.JoinOffer] | None:
        offers.append(offer)
        old = offers[0]
        return [change(offer, group_info=old.group_info, tree=old.tree)] if len(offers) == 2 else None

    hostile.lie(m.JoinOffer, stale)
    bob.do(commands.JoinRoom("#lobby"))
    say(bob, "#lobby", "first", alice)
    carol.do(commands.JoinRoom("#lobby"))
    say(carol, "#lobby", "second", alice, bob)  # refused as stale by the honest server behind, and sent again
    assert len(offers) == 3
    assert_calm(alice, bob, carol)


def test_a_room_under_the_id_of_a_private_conversation_does_not_take_its_place(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    """The server knows the id of alice and bob's conversation, and offers a group of its own under it as #lobby."""
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    mallory = rogue("mallory")
    shadow = Shadow(hostile, mallory, conversation)
    shadow.found_alone(Rules("open", "#lobby"))
    hostile.from_client[m.Join] = lambda link, request: link.tell_client(shadow.offer(request.id, number=1)) or []  # type: ignore[attr-defined, func-returns-value]  # a request
    alice.do(commands.JoinRoom("#lobby"))
    told = alice.wait_for(events.Alarm)
    assert told.text == "The server gives two conversations one id."
    assert members(alice, "bob") == ("alice", "bob")
    assert not sent(hostile, "alice", m.Commit)
    hostile.from_client.clear()
    say(alice, "bob", "still you?", bob)
    say(bob, "alice", "still me", alice)


# --- being added --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (lambda welcomed: change(welcomed, tree=b"\x00"), "a ratchet tree does not end with a node"),
        (lambda welcomed: change(welcomed, tree=welcomed.tree[:-2]), ""),
        (lambda welcomed: change(welcomed, welcome=welcomed.welcome[:-1] + b"\x00\x00"), ""),
        (lambda welcomed: change(welcomed, welcome=b"\x00\x01\x00\x03"), ""),
        (
            lambda welcomed: change(welcomed, conversation=bytes(32)),
            "it leads into another conversation than the server says",
        ),
        (lambda welcomed: change(welcomed, departures=[m.Departure(b"", bytes(64))]), ""),
    ],
    ids=["other tree", "cut tree", "altered welcome", "no welcome", "other conversation", "departure"],
)
def test_a_wrong_welcome_is_refused_and_leads_nowhere(
    hostile: HostileServer, crowd: Crowd, alter: Callable[[m.Welcomed], m.Welcomed], told: str
) -> None:
    alice, bob = crowd("alice", "bob")
    hostile.lie(m.Welcomed, lambda _, welcomed: [alter(welcomed)], to="bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    alarm = bob.wait_for(events.Alarm)
    assert alarm.kind == "rules"
    assert alarm.text.startswith("An invitation was refused: ")
    assert told in alarm.text
    assert bob.client.conversations() == []
    assert_calm(alice)


def test_a_welcome_that_comes_again_changes_nothing(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    kept: list[m.Welcomed] = []
    hostile.lie(m.Welcomed, lambda _, welcomed: kept.append(welcomed), to="bob")
    direct(alice, bob)
    link = hostile.link("bob")
    link.tell_client(change(kept[0], seq=2))  # where we are already
    link.tell_client(change(kept[0], seq=3, join_seq=10))  # or are said to come again
    told = bob.wait_for(events.Alarm)
    assert told.text == "An invitation was refused: it is for none of our key packages"
    say(bob, "alice", "still here", alice)
    say(alice, "bob", "me too", bob)


def test_a_welcome_for_an_open_room_is_refused(hostile: HostileServer, crowd: Crowd, rogue: Enter) -> None:
    (alice,) = crowd("alice")
    mallory = rogue("mallory")
    (add,) = mallory.adds("alice")
    shadow = Shadow(hostile, mallory, os.urandom(32))
    hostile.link("alice").tell_client(shadow.found(Rules("open", "#trap"), add.key_package))
    assert alice.wait_for(events.Alarm).text == "An invitation was refused: nobody is added to an open room"
    assert alice.client.find("#trap") is None


def test_a_second_room_of_the_same_name_does_not_take_the_place_of_the_first(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    found(alice, "#staff", bob)
    mallory = rogue("mallory")
    (add,) = mallory.adds("bob")
    shadow = Shadow(hostile, mallory, os.urandom(32))
    rules = Rules("invite", "#staff", owners=(Identity.of(mallory.certificate()),))
    hostile.link("bob").tell_client(change(shadow.found(rules, add.key_package), seq=2))
    bob.do(commands.ListRooms())
    bob.wait_for(events.RoomList)
    assert not happened(bob, events.Invited, lambda event: event.invitation.conversation == shadow.conversation)
    say(bob, "#staff", "still the old one", alice)
    assert shadow.read == []


@pytest.mark.parametrize("standing", ["member", "owner", "stopped", "left"])
def test_nobody_follows_a_welcome_into_a_room_of_the_servers_own(
    hostile: HostileServer, crowd: Crowd, rogue: Enter, standing: str
) -> None:
    """The server founds a group under the room's id, name and rules, and raises its epoch. Without it all goes on."""
    alice, bob = crowd("alice", "bob")
    conversation = found(alice, "#staff", bob)
    victim = alice if standing == "owner" else bob
    if standing == "left":
        bob.do(commands.Leave(conversation))
        bob.wait_for(events.ConversationChanged, lambda event: event.change == "left")
        alice.wait_until(lambda: "bob" not in members(alice, "#staff"))
    if standing == "stopped":
        gap = hostile.lie(m.Entry, lambda _, entry: [change(entry, seq=entry.seq + 1)], to="bob")
        say(alice, "#staff", "lost")
        bob.wait_for(events.Alarm)
        gap.armed = False
    before = state(victim, "#staff")
    mallory = rogue("mallory")
    (owner,), (add,) = mallory.adds("alice"), mallory.adds(victim.name)
    rules = Rules("invite", "#staff", owners=(Identity.of(certificate_of(owner.key_package.leaf_node)),))
    shadow = Shadow(hostile, mallory, conversation)
    hostile.from_client.clear()
    shadow.seq = 99
    welcomed = shadow.found(rules, add.key_package, epoch=20)
    hostile.link(victim.name).tell_client(change(welcomed, seq=9))
    victim.do(commands.ListRooms())
    victim.wait_for(events.RoomList)
    assert state(victim, "#staff") == before
    assert not happened(victim, events.Alarm, lambda event: event.kind == "rules")
    assert not [each for each in victim.client.invitations() if each.conversation == conversation]
    assert shadow.read == []
    if standing == "left":
        assert isinstance(alice.answer(commands.Invite(conversation, "bob")), events.Done)
        bob.wait_until(lambda: state(bob, "#staff") == "open")
    if standing == "stopped":
        repair(bob, "#staff")
    say(alice, "#staff", "still me", bob) if standing == "owner" else say(bob, "#staff", "still me", alice)


def test_a_welcome_under_the_id_of_somebody_elses_conversation_is_refused(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    mallory = rogue("mallory")
    (add,) = mallory.adds("alice")
    shadow = Shadow(hostile, mallory, conversation)
    hostile.from_client.clear()
    shadow.seq = 99
    hostile.link("alice").tell_client(shadow.found(Rules("direct"), add.key_package))
    told = alice.wait_for(events.Alarm)
    assert told.text == "An invitation was refused: it was to lead to bob, and leads to mallory"
    say(alice, "bob", "still you?", bob)
    say(bob, "alice", "still me", alice)


def test_a_welcome_under_the_id_that_a_conversation_had_at_first_is_refused(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    """Alice and bob open at once. Alice's id gives way to bob's, and the server has a `bob` of its own use it."""
    alice, bob = crowd("alice", "bob")
    hostile.from_client[m.OpenDirect] = lambda link, _: [] if link.account == "alice" else None
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    alice.wait_until(lambda: bool(sent(hostile, "alice", m.OpenDirect)))
    first = alice.id_of("bob")
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    alice.wait_until(lambda: alice.id_of("bob") != first)
    hostile.from_client.clear()
    mallory, impostor = rogue("mallory"), rogue("bob", register=False)
    (add,) = mallory.adds("alice")
    shadow = Shadow(hostile, impostor, first)
    shadow.seq = 99
    hostile.link("alice").tell_client(shadow.found(Rules("direct"), add.key_package, epoch=9))
    told = alice.wait_for(events.Alarm)
    assert told.text == "An invitation was refused: it leads to an id that was only ever ours"
    say(alice, "bob", "still you?", bob)
    say(bob, "alice", "still me", alice)
    assert shadow.read == []


# --- resync -------------------------------------------------------------------------------------------------------


def test_a_server_that_offers_a_group_of_its_own_to_a_device_that_resyncs_puts_nobody_in_bobs_place(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    mallory = rogue("mallory")
    (add,) = mallory.adds("alice")
    shadow = Shadow(hostile, mallory, conversation)
    shadow.seq = 99
    shadow.found(Rules("direct"), add.key_package)
    for kind in (m.Subscribe, m.Submit, m.Acknowledge):
        del hostile.from_client[kind]
    hostile.from_client[m.Resync] = lambda link, request: link.tell_client(shadow.offer(request.id, number=2)) or []  # type: ignore[attr-defined, func-returns-value]  # a request
    gap = hostile.lie(m.Entry, lambda _, entry: [change(entry, seq=entry.seq + 1)], to="alice")
    say(bob, "alice", "lost")
    alice.wait_for(events.Alarm)  # stopped; and what follows the repair does not fit either
    refused = alice.answer(commands.Repair(conversation))
    assert isinstance(refused, events.Refused)
    assert refused.text == (
        "The server offers another state than the one that the log leads to: a GroupInfo does not fit the group's "
        "context. /repair tries again."
    )
    assert state(alice, "bob") == "stopped"
    with pytest.raises(UsageError, match="has stopped"):
        alice.say("bob", "for bob only")
    assert shadow.read == []
    gap.armed = False
    hostile.from_client.clear()
    repair(alice, "bob")
    say(alice, "bob", "is it you?", bob)
    say(bob, "alice", "it is", alice)
    assert "bob: lost" in alice.texts("bob")  # nothing was given up


def test_a_conversation_that_has_stopped_stays_so_whatever_the_server_says(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    gap = hostile.lie(m.Entry, lambda _, entry: [change(entry, seq=entry.seq + 1)], to="bob")
    say(alice, "bob", "lost")
    bob.wait_for(events.Alarm)
    gap.armed = False
    hostile.link("bob").tell_client(m.Truncated(conversation, 4, bytes(32)))
    (carol,) = crowd("carol")
    direct(carol, bob)  # what was sent before this has been looked at
    assert state(bob, "alice") == "stopped"
    assert not sent(hostile, "bob", m.Resync)
    repair(bob, "alice")
    say(bob, "alice", "back", alice)


def test_a_conversation_that_was_left_is_not_entered_anew(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    conversation = lobby(alice, bob)
    bob.do(commands.Leave(conversation))
    bob.wait_for(events.ConversationChanged, lambda event: event.change == "left")
    hostile.link("bob").tell_client(m.Truncated(conversation, 4, bytes(32)))
    direct(alice, bob)
    assert state(bob, "#lobby") == "closed"
    assert not sent(hostile, "bob", m.Resync)


# --- opening ------------------------------------------------------------------------------------------------------


def test_what_is_meant_for_bob_is_not_sent_to_carol_because_the_server_says_that_it_is_his_conversation(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob, carol = crowd("alice", "bob", "carol")
    with_carol = direct(alice, carol)
    hostile.from_client[m.OpenDirect] = lambda link, request: (
        link.tell_client(m.Refused(request.id, "exists", "", with_carol)) or []  # type: ignore[attr-defined, func-returns-value]  # a request
    )
    alice.do(commands.OpenDirect("bob", "for bob only", ask=False))
    told = alice.wait_for(events.Disconnected)
    assert told.reason == "The server broke the protocol: The server gives two conversations one id."
    hostile.from_client.clear()
    bob.read("alice", "alice: for bob only")
    say(alice, "carol", "for carol", carol)
    assert carol.texts("alice") == ["alice: hello", "carol: hi", "alice: for carol"]
    assert_calm(alice, bob, carol)


def test_a_conversation_that_the_server_claims_exists_and_nobody_opened_waits(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    (add,) = mallory.adds("alice")
    shadow = Shadow(hostile, mallory, os.urandom(32))
    hostile.from_client[m.OpenDirect] = lambda link, request: (
        link.tell_client(m.Refused(request.id, "exists", "", shadow.conversation)) or []  # type: ignore[attr-defined, func-returns-value]  # a request
    )
    alice.do(commands.OpenDirect("bob", "for bob only", ask=False))
    assert alice.wait_for(events.Delayed).code == "exists"  # its Welcome is nowhere, and nothing takes its place
    assert alice.id_of("bob") != shadow.conversation
    hostile.link("alice").tell_client(shadow.found(Rules("direct"), add.key_package))
    told = alice.wait_for(events.Alarm)
    assert told.text == "An invitation was refused: it leads to an id that was only ever ours"
    assert alice.texts("bob") == ["alice: for bob only"]
    hostile.from_client.clear()
    bob.read("alice", "alice: for bob only")
    assert shadow.read == []
    direct(alice, bob)
