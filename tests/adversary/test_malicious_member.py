"""A member that harms: with its own keys, in groups it really is in, and a client that does what no client should.

The server refuses what it can check. What only members can check stops one conversation, names whose doing it was, and
leaves everything else as it is. docs/design.md, sections 5 (Commits) and 6 (Rules, Poison).
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client import commands, events
from securechat.content import envelope
from securechat.content.envelope import Envelope
from securechat.content.registry import MAX_TEXT, Body, Bye, Request, Text, Unknown
from securechat.identity.certificate import credential, issue
from securechat.mls.framing import MLSMessage, PrivateMessage, PublicMessage, Sender, decode_body
from securechat.mls.group import StagedCommit
from securechat.mls.proposals import Add, GroupContextExtensions, Proposal, Remove
from securechat.mls.tree_math import LeafIndex
from securechat.policy import Identity, Rules, rules_of
from securechat.wire import messages as m
from securechat.wire.chain import MLS_MESSAGE
from securechat_lab.cast.hostile import HostileServer
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.rogue import Rogue
from securechat_lab.cast.scenes import MARKED, assert_calm, direct, found, happened, lobby, members, repair, say, state
from securechat_lab.cast.wire_client import commit_data
from tests.adversary.conftest import Crowd, Enter
from tests.support.log import logged


def lobby_with(mallory: Rogue, *people: LiveClient) -> bytes:
    """People and mallory in #lobby. Returns the conversation."""
    conversation = lobby(*people)
    assert mallory.enter_room("#lobby") == conversation
    everybody = tuple(sorted([*(person.name for person in people), "mallory"]))
    for person in people:
        person.wait_until(lambda person=person: members(person, "#lobby") == everybody)  # type: ignore[misc]  # bound now
    return conversation


def staff_with(mallory: Rogue, alice: LiveClient, *others: LiveClient) -> bytes:
    """An invite room of alice's, with others and mallory in it. Returns the conversation."""
    conversation = found(alice, "#staff", *others)
    assert isinstance(alice.answer(commands.Invite(conversation, "mallory")), events.Done)
    assert mallory.enter_by_welcome() == conversation
    for other in others:
        other.wait_until(lambda other=other: members(other, "#staff") == members(alice, "#staff"))  # type: ignore[misc]  # bound now
    return conversation


def leaf_of(mallory: Rogue, conversation: bytes, person: LiveClient, hostile: HostileServer) -> LeafIndex:
    """Somebody's leaf in mallory's tree."""
    device = hostile.link(person.name).device
    people = dict(mallory.groups[conversation].public.members())
    return next(leaf for leaf, node in people.items() if device in node.credential.encode())


def lines(person: LiveClient, name: str, sender: str) -> list[tuple[str, str]]:
    """Text and problem of what somebody has said, as another sees it."""
    history = person.client.history(person.id_of(name), 1000)
    return [(line.text, line.problem) for line in history if line.sender == sender]


# --- messages -----------------------------------------------------------------------------------------------------


def forged(mallory: Rogue, conversation: bytes, victim: LeafIndex) -> bytes:
    return mallory.protect_as(conversation, mallory.envelope(conversation, Text("I am bob and I quit")), victim)


def garbage(mallory: Rogue, conversation: bytes, _: LeafIndex) -> bytes:
    honest = decode_body(mallory.protect(conversation, mallory.envelope(conversation, Text("x"))), PrivateMessage)
    return MLSMessage(replace(honest, ciphertext=os.urandom(200))).encode()


def no_envelope(mallory: Rogue, conversation: bytes, _: LeafIndex) -> bytes:
    return mallory.protect(conversation, b"I am no envelope")


def too_long(mallory: Rogue, conversation: bytes, _: LeafIndex) -> bytes:
    short = mallory.envelope(conversation, Text(""))
    text = "x" * (MAX_TEXT + 1)
    inner = b"\x91\xdb" + len(text).to_bytes(4, "big") + text.encode()
    outer = short.removesuffix(b"\xc4\x02\x91\xa0") + b"\xc6" + len(inner).to_bytes(4, "big")
    return mallory.protect(conversation, outer + inner)


def of_another_kind(body: Body | Unknown) -> Callable[[Rogue, bytes, LeafIndex], bytes]:
    def make(mallory: Rogue, conversation: bytes, _: LeafIndex) -> bytes:
        place = mallory.cursors[conversation], mallory.chains[conversation]
        return mallory.protect(conversation, envelope.encode(Envelope(*place, 0, body)))

    return make


UNREADABLE = "This message cannot be read: "
UNKNOWN = "This version of the program cannot show this kind of message."


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (forged, f"{UNREADABLE}a signature does not fit"),
        (garbage, UNREADABLE),
        (no_envelope, f"{UNREADABLE}The content of a message is damaged"),
        (too_long, f"{UNREADABLE}The content of a message is damaged"),
        (of_another_kind(Unknown("hologram", b"\x00\xff")), UNKNOWN),
        (of_another_kind(Bye()), UNKNOWN),
        (of_another_kind(Request("let me in")), UNKNOWN),
    ],
    ids=["forged sender", "garbage", "no envelope", "too long", "unknown kind", "bye in a room", "request in a room"],
)
def test_a_message_that_cannot_be_shown_is_told_as_such_and_passed_over(
    hostile: HostileServer, crowd: Crowd, rogue: Enter,
    make: Callable[[Rogue, bytes, LeafIndex], bytes], problem: str,
) -> None:  # fmt: skip
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    conversation = lobby_with(mallory, alice, bob)
    mallory.tell(conversation, "before")
    mallory.submit(conversation, make(mallory, conversation, leaf_of(mallory, conversation, bob, hostile)))
    mallory.tell(conversation, "after")
    for person in (alice, bob):
        person.read("#lobby", "mallory: after")
        first, second, third = lines(person, "#lobby", "mallory")
        assert (first, third) == (("before", ""), ("after", ""))
        assert second[0] == ""
        assert second[1].startswith(problem if person is alice else problem[: len(UNREADABLE)])
        assert not lines(person, "#lobby", "bob")
    say(bob, "#lobby", "I never said that", alice)  # his ratchet is where he left it, with everybody
    say(alice, "#lobby", "we know", bob)
    assert not happened(alice, events.Alarm)
    assert not happened(bob, events.Alarm)


def test_somebody_elses_ciphertext_sent_again_is_not_shown_again(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    conversation = lobby_with(mallory, alice, bob)
    say(bob, "#lobby", "I owe mallory ten", alice)  # bob's number 2, as mallory's next is
    entry = mallory.take(m.Entry, lambda entry: entry.device == hostile.link("bob").device)
    mallory.process(entry)
    mallory.submit(conversation, entry.payload)
    mallory.tell(conversation, "and again?")
    for person in (alice, bob):
        person.read("#lobby", "mallory: and again?")
        assert lines(person, "#lobby", "bob") == [("I owe mallory ten", "")]
        again, _ = lines(person, "#lobby", "mallory")
        assert again[0] == ""
        assert again[1].startswith(UNREADABLE)
    assert not happened(alice, events.Alarm)


@pytest.mark.parametrize("what", ["chain", "future", "past"])
def test_a_member_that_lies_about_the_history_it_saw_is_named_in_the_alarm(
    crowd: Crowd, rogue: Enter, what: str
) -> None:
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    conversation = lobby_with(mallory, alice, bob)
    direct(alice, bob)
    seq, chain = mallory.cursors[conversation], mallory.chains[conversation]
    seq, chain = {"chain": (seq, bytes(32)), "future": (seq + 1, chain), "past": (0, bytes(32))}[what]
    sent = int(time.time() * 1000)
    lie = envelope.encode(Envelope(seq, chain, sent, Text("trust me")))
    mallory.submit(conversation, mallory.protect(conversation, lie))
    for person in (alice, bob):
        told = person.wait_for(events.Alarm)
        assert told == events.Alarm(
            "history",
            conversation,
            f"mallory saw another history than you up to entry {seq}: the server shows people different histories, "
            f"or the program of mallory is at fault. {MARKED}",
        )
        assert state(person, "#lobby") == "open"
        newest = person.client.history(person.id_of("#lobby"), 1)[0]
        assert (newest.text, newest.doubt) == ("trust me", "the server, or mallory: another history")
    say(alice, "bob", "that one again", bob)
    say(alice, "#lobby", "we go on", bob)
    say(bob, "#lobby", "so we do", alice)


# --- commits that the server refuses ------------------------------------------------------------------------------


def removal(mallory: Rogue, conversation: bytes, victim: LeafIndex) -> StagedCommit:
    return mallory.make_commit(mallory.groups[conversation], Remove(victim))


def by_reference(mallory: Rogue, conversation: bytes, victim: LeafIndex) -> StagedCommit:
    group, number = mallory.groups[conversation], mallory.number(conversation)
    group.propose(Remove(victim))
    return group.commit(
        authenticated_data=commit_data(number), tree_in_welcome=False, validate=mallory.validate, now=int(time.time())
    )


def rules_change(mallory: Rogue, conversation: bytes, _: LeafIndex) -> StagedCommit:
    group = mallory.groups[conversation]
    own = Identity.of(mallory.certificate())
    rules = replace(rules_of(group.public.extensions), owners=(own,))
    return mallory.make_commit(group, GroupContextExtensions((rules.extension(),)))


def addition(mallory: Rogue, conversation: bytes, _: LeafIndex) -> StagedCommit:
    return mallory.make_commit(mallory.groups[conversation], *mallory.adds("dave"))


def other_credential(account: str, *, own_identity: bool) -> Callable[[Rogue, bytes, LeafIndex], StagedCommit]:
    def make(mallory: Rogue, conversation: bytes, _: LeafIndex) -> StagedCommit:
        certificate = issue(
            mallory.identity if own_identity else Ed25519PrivateKey.generate(),
            server_id=mallory.hello.server_id, account=account, device_id=mallory.device,
            signature_key=mallory.signature.public_key, not_before=mallory.now, not_after=mallory.now + 86_400,
        )  # fmt: skip
        return mallory.groups[conversation].commit(
            by_reference=None, credential=credential(certificate),
            authenticated_data=commit_data(mallory.number(conversation)), tree_in_welcome=False,
            validate=mallory.validate, now=int(time.time()),
        )  # fmt: skip

    return make


def forged_committer(mallory: Rogue, conversation: bytes, victim: LeafIndex) -> StagedCommit:
    staged = mallory.make_commit(mallory.groups[conversation])
    message = decode_body(staged.message, PublicMessage)
    forged = replace(message, content=replace(message.content, sender=Sender.member(victim)))
    return replace(staged, message=MLSMessage(forged).encode())


BAD_COMMITS = pytest.mark.parametrize(
    ("make", "reason"),
    [
        (removal, "mallory removes bob without being an owner"),
        (by_reference, "mallory commits a proposal by reference; it has to stand in the commit"),
        (rules_change, "mallory changes the rules of #staff without being an owner"),
        (addition, "mallory adds dave without being an owner or inviter of #staff"),
        (other_credential("bob", own_identity=True), "mallory becomes another device or identity in a commit"),
        (other_credential("mallory", own_identity=False), "mallory becomes another device or identity in a commit"),
        (forged_committer, "does not fit"),  # the signature at the server, the membership tag before it at members
    ],
    ids=["removal", "by reference", "rules", "addition", "another account", "another identity", "forged committer"],
)
Make = Callable[[Rogue, bytes, LeafIndex], StagedCommit]


@BAD_COMMITS
def test_a_commit_that_breaks_the_rules_is_refused_by_the_server_and_nobody_sees_it(
    hostile: HostileServer, crowd: Crowd, rogue: Enter, make: Make, reason: str
) -> None:
    alice, bob = crowd("alice", "bob")
    mallory, _ = rogue("mallory"), rogue("dave")
    conversation = staff_with(mallory, alice, bob)
    victim = leaf_of(mallory, conversation, bob, hostile)
    seq = mallory.cursors[conversation]
    refused = mallory.submit_commit(conversation, make(mallory, conversation, victim))
    assert isinstance(refused, m.Refused)
    assert refused.code == "invalid-commit"
    if make is not by_reference:  # which the server cannot resolve: no proposal was ever sent to it
        assert reason in refused.text
    mallory.groups[conversation].public = replace(mallory.groups[conversation].public, proposals={})
    accepted = mallory.submit_commit(conversation, mallory.make_commit(mallory.groups[conversation]))
    assert isinstance(accepted, m.Accepted)
    assert accepted.seq == seq + 1
    mallory.tell(conversation, "just me")
    for person in (alice, bob):
        person.read("#staff", "mallory: just me")
        assert members(person, "#staff") == ("alice", "bob", "mallory")
    assert_calm(alice, bob)


@BAD_COMMITS
def test_a_commit_that_breaks_the_rules_stops_members_whom_a_lying_server_shows_it(
    hostile: HostileServer, crowd: Crowd, rogue: Enter, make: Make, reason: str
) -> None:
    """A server in league with a member: nobody who is shown such a commit follows it."""
    alice, bob = crowd("alice", "bob")
    mallory, _ = rogue("mallory"), rogue("dave")
    conversation = staff_with(mallory, alice, bob)
    direct(alice, bob)
    staged = make(mallory, conversation, leaf_of(mallory, conversation, bob, hostile))
    seq = mallory.cursors[conversation] + 1
    now, group_info = int(time.time() * 1000), staged.group_info or b""
    entry = m.Entry(conversation, seq, now, mallory.device, MLS_MESSAGE, staged.message, group_info)
    hostile.link("alice").tell_client(entry)
    stopped = alice.wait_for(events.Stopped)
    assert (stopped.conversation, stopped.culprit) == (conversation, "")
    if make is not by_reference:
        assert reason in stopped.reason
    assert state(alice, "#staff") == "stopped"
    assert members(alice, "#staff") == ("alice", "bob", "mallory")
    say(alice, "bob", "look at #staff", bob)
    repair(alice, "#staff")
    say(alice, "#staff", "nothing has changed", bob)
    assert_calm(bob)


def test_a_third_person_is_not_added_to_a_direct_conversation(crowd: Crowd, rogue: Enter) -> None:
    (alice,) = crowd("alice")
    mallory, _ = rogue("mallory"), rogue("dave")
    alice.do(commands.OpenDirect("mallory", "hello", ask=False))
    conversation = mallory.enter_by_welcome()
    refused = mallory.submit_commit(conversation, addition(mallory, conversation, LeafIndex(0)))
    assert isinstance(refused, m.Refused)
    assert refused.text == "mallory adds dave to a direct conversation of two people."
    mallory.tell(conversation, "just us")
    alice.read("mallory", "mallory: just us")
    assert_calm(alice)


# --- commits that only members can see through --------------------------------------------------------------------


def test_a_commit_that_nobody_can_follow_stops_that_conversation_only_names_its_maker_and_can_be_repaired(
    crowd: Crowd, rogue: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    conversation = staff_with(mallory, alice, bob)
    direct(alice, bob)
    say(alice, "#staff", "before", bob)
    mallory.follow(conversation, mallory.cursors[conversation] + 1)
    accepted = mallory.submit_commit(conversation, mallory.commit_wrong_secret(conversation))
    assert isinstance(accepted, m.Accepted)
    for person in (alice, bob):
        stopped = person.wait_for(events.Stopped)
        assert (stopped.conversation, stopped.culprit, stopped.proven) == (conversation, "mallory", True)
        assert stopped.reason == "the confirmation tag does not fit"
        assert state(person, "#staff") == "stopped"
    told = {"event": "a member cannot process a commit", "conversation": "#staff", "seq": accepted.seq}
    lines = [{**told, "account": each.name, "author": "mallory"} for each in (alice, bob)]
    alice.wait_until(lambda: any(line in logged(caplog) for line in lines))
    say(alice, "bob", "see here", bob)
    say(bob, "alice", "that mallory", alice)
    mallory.tell(conversation, "hello? anybody?")
    assert alice.texts("#staff") == bob.texts("#staff") == ["alice: before"]

    repair(alice, "#staff")
    repair(bob, "#staff")
    say(bob, "#staff", "mended", alice)
    alice.do(commands.Remove(conversation, "mallory"))
    bob.wait_until(lambda: members(bob, "#staff") == ("alice", "bob"))
    say(alice, "#staff", "without mallory", bob)
    assert not [*happened(alice, events.Alarm), *happened(bob, events.Alarm)]


def test_a_false_key_for_joins_is_found_by_every_member_and_proves_who_made_it(crowd: Crowd, rogue: Enter) -> None:
    """The server cannot see it. Whoever entered by it would sit alone with its maker, and be blamed for it."""
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    conversation = lobby(alice, bob)
    mallory.enter_room("#lobby")
    mallory.tell(conversation, "hi")
    alice.read("#lobby", "mallory: hi")
    assert isinstance(mallory.submit_commit(conversation, mallory.commit_false_key(conversation)), m.Accepted)
    for person in (alice, bob):
        stopped = person.wait_for(events.Stopped)
        assert (stopped.conversation, stopped.culprit, stopped.proven) == (conversation, "mallory", True)
        assert stopped.reason == "a GroupInfo offers a key for external joins that is not the group's"


def test_a_commit_against_one_member_is_passed_over_by_that_one_and_the_rest_goes_on(
    hostile: HostileServer, crowd: Crowd, rogue: Enter
) -> None:
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    conversation = lobby(alice)
    mallory.enter_room("#lobby")  # between the two, so that her path has a ciphertext for each of them alone
    bob.do(commands.JoinRoom("#lobby"))
    alice.wait_until(lambda: members(alice, "#lobby") == ("alice", "bob", "mallory"))
    mallory.follow(conversation, mallory.cursors[conversation] + 1)
    spite = mallory.commit_against(conversation, leaf_of(mallory, conversation, bob, hostile))
    assert isinstance(mallory.submit_commit(conversation, spite), m.Accepted)
    stopped = bob.wait_for(events.Stopped)
    assert (stopped.conversation, stopped.culprit, stopped.proven) == (conversation, "mallory", True)
    assert stopped.passed_over
    say(alice, "#lobby", "bob?")
    bob.wait_for(events.Gap)  # he has entered again by himself
    say(bob, "#lobby", "here again", alice)
    assert_calm(alice)


def test_a_welcome_that_nobody_can_open_is_refused_and_nothing_else_happens(crowd: Crowd, rogue: Enter) -> None:
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    group = mallory.found(Rules("direct"))
    staged = mallory.make_commit(group, *mallory.adds("alice"))
    assert staged.welcome is not None
    welcome = staged.welcome[:-1] + bytes([staged.welcome[-1] ^ 1])
    reply = mallory.ask(
        m.OpenDirect, group.group_id, "alice", group.group_info(with_tree=True), staged.message, welcome,
        staged.group_info,
    )  # fmt: skip
    assert isinstance(reply, m.Accepted)
    told = alice.wait_for(events.Alarm)
    assert (told.kind, told.conversation) == ("rules", group.group_id)
    assert told.text.startswith("An invitation was refused: ")
    assert alice.client.find("mallory") is None
    direct(alice, bob)
    assert len(happened(alice, events.Alarm)) == 1


def test_whoever_is_added_without_a_word_sees_nothing_of_it(crowd: Crowd, rogue: Enter) -> None:
    """mallory founds a room and adds alice and bob, and invites nobody."""
    alice, bob = crowd("alice", "bob")
    mallory = rogue("mallory")
    assert isinstance(mallory.open_room("#bob-and-alice", "invite"), m.Done)
    (conversation,) = mallory.groups
    proposals: list[Proposal] = [*mallory.adds("alice"), *mallory.adds("bob")]
    assert all(isinstance(proposal, Add) for proposal in proposals)
    mallory.subscribe(conversation)
    assert isinstance(
        mallory.submit_commit(conversation, mallory.make_commit(mallory.groups[conversation], *proposals)), m.Accepted
    )
    mallory.tell(conversation, "only the two of us")
    direct(alice, bob)  # what came before this has been looked at
    for person in (alice, bob):
        assert person.client.find("#bob-and-alice") is None
        assert not person.client.invitations()
    assert_calm(alice, bob)
