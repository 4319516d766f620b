"""A server that swaps keys: at first contact, later, and after numbers were compared. docs/design.md, section 6."""

import os
from collections.abc import Iterable
from dataclasses import replace

import msgspec
import pytest

from securechat.client import commands, events
from securechat.identity import pins
from securechat.policy import Rules
from securechat.wire import messages as m
from securechat_lab.cast.hostile import HostileServer
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.scenes import (
    assert_calm,
    compare,
    direct,
    found,
    happened,
    key_of,
    lobby,
    members,
    say,
    state,
    unsent,
    verify,
)
from securechat_lab.cast.shadow import Shadow
from tests.adversary.conftest import Crowd, Enter

change = msgspec.structs.replace
NOT_SOUND = "The key package that the server gave out for bob is not sound"


def asked(hostile: HostileServer, account: str, kind: type[m.Request]) -> list[m.Message]:
    """What a client has asked the server, of one kind."""
    return [
        request
        for link in hostile.links
        if link.account == account
        for request in list(link.requests.values())  # its thread adds to them
        if isinstance(request, kind)
    ]


def swap(hostile: HostileServer, packages: Iterable[bytes], *, to: str = "alice") -> None:
    """Give out other key packages than those asked for."""
    hostile.lie(m.KeyPackages, lambda _, reply: [m.KeyPackages(reply.id, reply.account, list(packages))], to=to)


def flip_last(encoded: bytes) -> bytes:
    """Alter the signature at the end."""
    return encoded[:-1] + bytes([encoded[-1] ^ 1])


def close_both(one: LiveClient, other: LiveClient) -> None:
    """End their direct conversation, so that the next message needs key packages."""
    one.do(commands.Bye(one.id_of(other.name)))
    other.wait_for(events.ConversationChanged, lambda event: event.change == "bye")
    other.do(commands.Bye(other.id_of(one.name)))
    for person, peer in ((one, other), (other, one)):
        person.wait_until(lambda person=person, peer=peer: state(person, peer.name) == "closed")  # type: ignore[misc]  # bound now


# --- key packages -------------------------------------------------------------------------------------------------


def test_a_key_package_of_another_account_is_refused_and_nothing_is_sent(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    swap(hostile, [mallory.key_package()])
    alice.do(commands.OpenDirect("bob", "for bob only", ask=False))
    alarm = alice.wait_for(events.Alarm)
    assert (alarm.kind, alarm.text) == ("key-package", "The server gave out a key package of mallory for bob.")
    assert alice.wait_for(events.Refused).text == f"Nothing was sent to bob. {alarm.text}"
    (line,) = alice.client.history(alarm.conversation, 10)
    assert (line.text, line.seq, line.problem) == (
        "for bob only", 0, f"This message was not sent: Nothing was sent to bob. {alarm.text}",
    )  # fmt: skip
    assert not asked(hostile, "alice", m.OpenDirect)
    del hostile.from_server[m.KeyPackages]
    direct(alice, bob)
    assert len(happened(alice, events.Alarm)) == 1


@pytest.mark.parametrize(
    ("packages", "told"),
    [
        (lambda _: [], "The server gave out no key package for bob."),
        (lambda _: [b"\x00\x01"], f"{NOT_SOUND}: message is cut short"),
        (
            lambda bob: [bob.key_package(), bob.key_package()],
            "The server gave out two key packages for one device of bob.",
        ),
        (lambda bob: [flip_last(bob.key_package())], f"{NOT_SOUND}: a signature does not fit."),
    ],
    ids=["none", "garbage", "two of one device", "altered"],
)
def test_a_wrong_set_of_key_packages_is_refused(
    hostile: HostileServer, crowd: Crowd, rogue: Enter, packages: object, told: str
) -> None:
    (alice,) = crowd("alice")
    bob = rogue("bob")
    swap(hostile, packages(bob))  # type: ignore[operator]  # a function
    alice.do(commands.OpenDirect("bob", "for bob only", ask=False))
    alarm = alice.wait_for(events.Alarm)
    assert alarm.kind == "key-package"
    assert told in alarm.text
    assert not asked(hostile, "alice", m.OpenDirect)


# --- the same account under another identity key ------------------------------------------------------------------


def test_at_first_contact_a_lying_server_can_sit_in_the_middle_until_safety_numbers_are_compared(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    """Trust on first use, as docs/threat-model.md says. Comparing ends it: the conversation goes with the key."""
    alice, bob = crowd("alice", "bob")
    impostor = rogue("bob", register=False)
    swap(hostile, [impostor.key_package()])
    shadow = Shadow(hostile, impostor)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    alice.wait_for(events.Delivered)
    assert shadow.read == ["hello"]
    shadow.say(hostile.link("alice"), "hi")
    alice.read("bob", "bob: hi")
    assert alice.client.history(alice.id_of("bob"), 1)[0].trust == "accepted"  # and not verified
    (first,) = happened(alice, events.FirstContact)

    hostile.from_server.clear()
    del hostile.from_client[m.OpenDirect]
    lobby(alice, bob)  # the real one is there, and pins nothing
    assert happened(alice, events.KeyChanged) == [events.KeyChanged("bob", key_of(bob), "changed")]
    assert {shown.key: shown.trust for shown in alice.safety_numbers("bob")} == {
        first.key: "accepted", key_of(bob): "changed",
    }  # fmt: skip
    refused = alice.answer(commands.Verify("bob"))  # which of the two?
    assert isinstance(refused, events.Refused)
    assert f"/verify bob {key_of(bob)}" in refused.text

    assert compare(alice, bob) == key_of(bob)
    (accepted,) = happened(alice, events.KeyAccepted)
    assert (accepted.key, accepted.stops) == (key_of(bob), ("bob",))
    alice.wait_until(lambda: state(alice, "bob") == "open")
    alice.say("bob", "who is who?")
    bob.wait_until(lambda: state(bob, "alice") == "request")
    bob.read("alice", "alice: who is who?")
    assert shadow.read == ["hello"]
    assert alice.id_of("bob") != shadow.conversation
    old = alice.client.conversation(shadow.conversation)
    assert old is not None
    assert old.state == "closed"


@pytest.mark.parametrize("lies", [False, True])
def test_who_comes_by_a_line_gives_nothing_to_a_key_that_the_server_makes_up(
    hostile: HostileServer, crowd: Crowd, rogue: Enter, lies: bool  # noqa: FBT001  a parameter of the test
) -> None:
    """The first contact that the server can sit in the middle of is none with a line."""
    alice, bob = crowd("alice", "bob")
    alice.do(commands.MakeInviteLine())
    made = alice.wait_for(events.InviteLineMade)
    if lies:
        impostor = rogue("alice", register=False)
        swap(hostile, [impostor.key_package()], to="bob")
    bob.do(commands.UseInviteLine(made.text))
    if lies:
        (shown,) = bob.wait_for(events.Held).whose
        assert (shown.account, shown.trust) == ("alice", "changed")
        assert not asked(hostile, "bob", m.OpenDirect)
    else:
        alice.wait_for(events.InviteLineUsed)
        bob.wait_until(lambda: state(bob, "alice") == "open")
        say(alice, "bob", "it is you", bob)


def test_comparing_the_key_that_a_conversation_has_already_leaves_everything_where_it_is(crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    lobby(alice, bob)
    assert compare(alice, bob) == key_of(bob)
    (accepted,) = happened(alice, events.KeyAccepted)
    assert (accepted.lines, accepted.stops) == (0, ())
    say(alice, "bob", "it is you", bob)
    assert alice.id_of("bob") == conversation
    assert alice.client.history(conversation, 1)[0].seq
    assert_calm(alice, bob)


def test_a_refused_key_gets_nothing_that_is_written_and_another_decision_lets_it_go(crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    assert isinstance(alice.answer(commands.Distrust("bob")), events.Done)
    (refused,) = happened(alice, events.KeyRefused)
    assert refused == events.KeyRefused("bob", key_of(bob), 0, ("bob",), command=refused.command)
    command = alice.say("bob", "for nobody")
    held = alice.wait_for(events.Held)
    assert held == events.Held(
        conversation, (events.KeyShown("bob", key_of(bob), "refused"),), command=command.id
    )  # fmt: skip
    nothing = alice.answer(commands.Trust("bob"))  # a refusal is not undone in passing
    assert isinstance(nothing, events.Refused)
    assert unsent(alice, "bob") == ["for nobody"]
    assert isinstance(alice.answer(commands.Trust("bob", key_of(bob))), events.Done)
    assert happened(alice, events.KeyAccepted)[-1].lines == 1
    bob.read("alice", "alice: for nobody")
    assert alice.id_of("bob") == conversation


@pytest.mark.parametrize("verified", [False, True])
def test_another_identity_key_than_the_pinned_one_holds_what_is_to_be_sent(
    hostile: HostileServer, crowd: Crowd, rogue: Enter, *, verified: bool
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    number = alice.safety_number("bob")
    if verified:
        verify(alice, "bob")
    close_both(alice, bob)
    assert_calm(alice, bob)

    impostor = rogue("bob", register=False)
    swap(hostile, [impostor.key_package()])
    already = len(asked(hostile, "alice", m.OpenDirect))
    alice.do(commands.OpenDirect("bob", "for bob only", ask=False))
    held = alice.wait_for(events.Held)
    against: events.Trust = "changed-verified" if verified else "changed"
    form = pins.short(impostor.identity.public_key().public_bytes_raw())
    assert held.whose == (events.KeyShown("bob", form, against),)
    assert happened(alice, events.KeyChanged) == [events.KeyChanged("bob", form, against)]
    assert unsent(alice, "bob") == ["for bob only"]
    assert [shown.number == number for shown in alice.safety_numbers("bob")] == [True, False]
    assert len(asked(hostile, "alice", m.OpenDirect)) == already

    # A new connection changes nothing: the user has to decide.
    hostile.link("alice").drop()
    alice.wait_until(lambda: len(happened(alice, events.Ready)) == 2)
    assert unsent(alice, "bob") == ["for bob only"]
    assert len(asked(hostile, "alice", m.OpenDirect)) == already


def test_the_same_contact_anew_through_the_same_proxy_without_the_lie_is_quiet(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    verify(alice, "bob")
    close_both(alice, bob)
    honest = hostile.lie(m.KeyPackages, lambda _, reply: [reply], to="alice")
    alice.do(commands.OpenDirect("bob", "again", ask=False))
    bob.wait_until(lambda: state(bob, "alice") == "open")
    bob.read("alice", "alice: again")
    say(bob, "alice", "here", alice)
    assert honest.told == 1
    assert alice.client.history(alice.id_of("bob"), 1)[0].trust == "verified"
    assert_calm(alice, bob)


@pytest.mark.parametrize(("verified", "mark"), [(False, "changed"), (True, "changed-verified")])
def test_a_later_conversation_with_an_impostor_is_marked_and_moves_nothing(
    hostile: HostileServer, crowd: Crowd, rogue: Enter, *, verified: bool, mark: events.Trust
) -> None:
    """The server makes a `bob` of its own and has it write to alice, who knows bob."""
    alice, bob = crowd("alice", "bob")
    real = direct(alice, bob)
    if verified:
        verify(alice, "bob")
    mallory, impostor = rogue("mallory"), rogue("bob", register=False)
    (add,) = mallory.adds("alice")
    shadow = Shadow(hostile, impostor, os.urandom(32))
    welcomed = shadow.found(Rules("direct"), add.key_package)
    link = hostile.link("alice")
    link.tell_client(change(welcomed, seq=1))
    told = alice.wait_for(events.KeyChanged)
    assert (told.account, told.trust) == ("bob", mark)
    alice.wait_until(lambda: alice.client.conversation(shadow.conversation) is not None)
    shadow.say(link, "I have a new phone")
    alice.wait_for(events.Received, lambda event: event.message.text == "I have a new phone")
    (line,) = alice.client.history(shadow.conversation, 10)
    assert line.trust == mark

    # Nothing was left, moved or accepted: her lines go where they went before.
    assert alice.id_of("bob") == real
    say(alice, "bob", "do you?", bob)
    command = commands.Send(shadow.conversation, "who are you?")
    alice.do(command)
    held = alice.wait_for(events.Held)
    assert (held.command, held.conversation, held.question) == (command.id, shadow.conversation, 0)
    assert held.whose == (events.KeyShown("bob", told.key, mark),)
    assert isinstance(alice.answer(commands.Distrust("bob", told.key)), events.Done)
    say(alice, "bob", "not you, then", bob)
    assert shadow.read == []
    assert alice.client.conversation(real) is not None
    assert {each.key: each.trust for each in alice.safety_numbers("bob")} == {
        key_of(bob): "verified" if verified else "accepted", told.key: "refused",
    }  # fmt: skip


def test_a_second_conversation_under_the_same_key_stands_beside_the_first(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    """The twin, with one thing other: the key is the accepted one. Even that moves no line."""
    (alice,) = crowd("alice")
    mallory = rogue("mallory")
    alice.do(commands.OpenDirect("mallory", "hello", ask=False))
    first = mallory.enter_by_welcome()
    alice.wait_for(events.Delivered)
    (add,) = mallory.adds("alice")
    shadow = Shadow(hostile, mallory, os.urandom(32))
    welcomed = shadow.found(Rules("direct"), add.key_package)
    hostile.link("alice").tell_client(change(welcomed, seq=1))
    alice.wait_for(events.ConversationChanged, lambda event: event.conversation.id == shadow.conversation)
    alice.wait_until(lambda: shadow.subscribed)
    shadow.say(hostile.link("alice"), "over here")
    beside = alice.wait_for(events.ConversationChanged, lambda event: event.change == "beside")
    assert beside.conversation.id == shadow.conversation
    assert alice.id_of("mallory") == first
    say(alice, "mallory", "still here")
    assert shadow.read == []
    assert isinstance(alice.answer(commands.Leave(first)), events.Done)
    assert alice.id_of("mallory") == shadow.conversation
    say(alice, "mallory", "and now there")
    assert shadow.read == ["and now there"]
    assert not happened(alice, events.KeyChanged)


@pytest.mark.parametrize("decide", ["verify", "trust"])
def test_a_new_identity_of_a_contact_is_told_and_holds_what_is_to_be_sent(crowd: Crowd, decide: str) -> None:
    """Honest or not: bob starts afresh with --new-identity, and looks like an impostor to alice until she decides."""
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    verify(alice, "bob")
    bob.close()
    bob.path = bob.path.with_name("new-bob.vault")
    bob.settings = replace(bob.settings, new_identity=True)
    bob.start()
    bob.wait_for(events.Ready)
    bob.do(commands.OpenDirect("alice", "me again", ask=False))
    received = alice.wait_for(events.Received, lambda event: event.message.text == "me again")
    assert received.message.trust == "changed-verified"
    assert happened(alice, events.KeyChanged) == [events.KeyChanged("bob", key_of(bob), "changed-verified")]
    alice.do(commands.Send(received.message.conversation, "prove it"))
    alice.wait_for(events.Held)
    assert not [line for line in bob.texts("alice") if "prove it" in line]
    if decide == "verify":
        compare(alice, bob)
    else:
        assert isinstance(alice.answer(commands.Trust("bob")), events.Done)
    bob.read("alice", "alice: prove it")
    (accepted,) = happened(alice, events.KeyAccepted, lambda event: event.key == key_of(bob))
    assert (accepted.lines, accepted.stops) == (1, ("bob",))
    assert alice.id_of("bob") == received.message.conversation


def test_a_device_that_is_said_to_be_gone_delays_a_line_and_gives_it_to_nobody(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    """The server says that bob has a new device, shows its own, and would hand out that one's key packages."""
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    impostor = rogue("bob", register=False)
    swap(hostile, [impostor.key_package()])
    gone = m.Gone(hostile.link("bob").device, impostor.certificate().encode())
    opened = len(asked(hostile, "alice", m.OpenDirect))
    hostile.link("alice").tell_client(m.DirectoryNews(conversation, [gone]))
    told = alice.wait_for(events.Unreachable)
    form = pins.short(impostor.identity.public_key().public_bytes_raw())
    assert told == events.Unreachable(conversation, "bob", key_of(bob), events.KeyShown("bob", form, "changed"))
    said = alice.say("bob", "for bob only")
    alice.wait_for(events.Unreachable, lambda event: event.command == said.id)
    assert {each.key: each.trust for each in alice.safety_numbers("bob")} == {
        key_of(bob): "accepted", form: "changed",
    }  # fmt: skip
    assert unsent(alice, "bob") == ["for bob only"]
    hostile.link("alice").tell_client(m.DirectoryNews(conversation, []))  # the twin: it has told the truth again
    bob.read("alice", "alice: for bob only")
    assert len(asked(hostile, "alice", m.OpenDirect)) == opened
    assert alice.id_of("bob") == conversation


def test_a_key_that_comes_while_safety_numbers_are_compared_is_not_verified(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    close_both(alice, bob)
    assert alice.safety_number("bob") == bob.safety_number("alice")  # and while they are on the phone ...
    swap(hostile, [rogue("bob", register=False).key_package()])
    alice.do(commands.OpenDirect("bob", "for bob only", ask=False))
    held = alice.wait_for(events.Held)
    assert isinstance(alice.answer(commands.Verify("bob")), events.Done)  # it is the key that they have compared
    assert {each.key: each.trust for each in alice.safety_numbers("bob")} == {
        key_of(bob): "verified", held.whose[0].key: "changed-verified",
    }  # fmt: skip
    assert unsent(alice, "bob") == ["for bob only"]


def test_somebody_under_another_key_is_not_invited_to_a_room(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    room = found(alice, "#staff")
    impostor = rogue("bob", register=False)
    swap(hostile, [impostor.key_package()])
    refused = alice.answer(commands.Invite(room, "bob"))
    assert isinstance(refused, events.Refused)
    form = pins.short(impostor.identity.public_key().public_bytes_raw())
    assert refused.text.startswith(f"bob was not added: Their key {form} is not accepted: /trust or /verify decides.")
    assert happened(alice, events.KeyChanged) == [events.KeyChanged("bob", form, "changed")]
    assert members(alice, "#staff") == ("alice",)
    assert not asked(hostile, "alice", m.Commit)
