"""Proposals from outside the group (RFC 9420, section 12.1.8): who may send which, and how they take effect."""

from dataclasses import replace

import pytest

from securechat.errors import PeerError, UsageError
from securechat.mls.credential import Credential
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.errors import InvalidMessage, WrongEpoch
from securechat.mls.extensions import Extension, ExternalSender, external_senders, external_senders_extension
from securechat.mls.external_proposals import propose_as_external_sender, propose_own_add
from securechat.mls.framing import PublicMessage, Sender, SenderType, decode_body
from securechat.mls.group import Group
from securechat.mls.group_info import GroupInfo
from securechat.mls.leaf_node import LeafNode
from securechat.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    PskType,
    ReInit,
    Remove,
    Update,
)
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from tests.mls import forge
from tests.mls.support import (
    EXTENSIONS,
    NOW,
    RULES,
    SUITE,
    Person,
    anyone,
    commit,
    group_of,
    refused,
    same_view,
    stage,
    state,
)

PSK = PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name"))


def watched() -> tuple[Person, Person, Group, Group]:
    """A warden and a bailiff, whom the group lists as its external senders, and alice and bob."""
    warden, bailiff = Person.named("warden"), Person.named("bailiff")
    listed = [ExternalSender(person.signature.public_key, person.credential) for person in (warden, bailiff)]
    (_, alice), (_, bob) = group_of("alice", "bob")
    extensions = (*EXTENSIONS, external_senders_extension(listed))
    assert external_senders(extensions) == tuple(listed)
    staged = commit(alice, GroupContextExtensions(extensions))
    after = stage(bob, staged.message).group
    assert staged.group is not None
    assert after is not None
    return warden, bailiff, staged.group, after


def from_outside() -> dict[str, Proposal]:
    """One of each kind that an external sender may send."""
    return {
        "add": Add(Person.named("carol").key_package().key_package),
        "remove": Remove(LeafIndex(1)),
        "psk": PSK,
        "reinit": ReInit(b"new", 1, SUITE.value, ()),
        "extensions": GroupContextExtensions((Extension(RULES, b"other rules"),)),
    }


@pytest.mark.parametrize("kind", from_outside())
def test_what_an_external_sender_proposes_takes_effect_by_reference(kind: str) -> None:  # 12.1.8-3
    _, bailiff, alice, bob = watched()
    proposal = from_outside()[kind]
    message = propose_as_external_sender(alice.public.context, 1, proposal, bailiff.signature, now=NOW)
    server = alice.public.with_proposal(alice.public.verify_proposal(decode_body(message, PublicMessage)))
    for group in (alice, bob):
        group.receive_proposal(message)
    staged = commit(alice, psks=lambda _: b"secret")
    (entry,) = staged.public.proposals
    assert (entry.proposal, entry.sender, entry.by_reference) == (proposal, Sender(SenderType.EXTERNAL, 1), True)
    for_bob = bob.stage(staged.message, psks=lambda _: b"secret", validate=anyone, now=NOW)
    assert for_bob.public == staged.public
    assert for_bob.removed_us == (kind == "remove")
    if for_bob.group is not None:
        assert same_view(staged.group, for_bob.group)
    seen = server.stage(decode_body(staged.message, PublicMessage), validate=anyone, now=NOW)
    assert seen == replace(staged.public, before=server)


def test_who_wants_to_be_added_can_ask_for_it() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    message = propose_own_add(alice.public.context, bundle.key_package, carol.signature, now=NOW)
    for group in (alice, bob):
        group.receive_proposal(message)
    assert commit(alice).public.proposals == ()  # unless the application says yes
    staged = commit(alice, by_reference=lambda _: True)
    assert staged.public.proposals[0].sender == Sender(SenderType.NEW_MEMBER_PROPOSAL)
    assert staged.welcome is not None
    assert same_view(staged.group, stage(bob, staged.message).group, carol.join(staged.welcome, bundle))


def test_only_members_update_and_only_joiners_bring_an_external_init() -> None:  # 6.1-4, 12.1.8-3
    warden, _, alice, bob = watched()
    context = bob.public.context
    key = HpkePrivateKey.generate(SUITE).public_key
    for proposal in (Update(alice.public.member(alice.own_leaf)), ExternalInit(key)):
        with pytest.raises(UsageError, match="cannot come from outside"):
            propose_as_external_sender(context, 0, proposal, warden.signature, now=NOW)
        # Signed nevertheless, like the Remove that is taken below.
        message = forge.proposal(alice, warden, proposal, sender=Sender(SenderType.EXTERNAL, 0))
        before = state(bob)
        with pytest.raises(InvalidMessage, match="may not send it"):
            bob.receive_proposal(message)
        assert state(bob) == before
    bob.receive_proposal(forge.proposal(alice, warden, Remove(LeafIndex(0)), sender=Sender(SenderType.EXTERNAL, 0)))


def test_who_is_not_a_member_proposes_only_what_its_kind_of_sender_may() -> None:  # 6.1-6, 6.1-8
    warden, _, alice, bob = watched()
    carol = Person.named("carol")
    add = Add(carol.key_package().key_package)
    external, joining = Sender(SenderType.EXTERNAL, 0), Sender(SenderType.NEW_MEMBER_PROPOSAL)
    before = state(bob)
    for sender, proposal, person, reason in (
        (external, Remove(LeafIndex(2)), warden, "no member"),
        (joining, Remove(LeafIndex(0)), carol, "may not send it"),
        (Sender(SenderType.NEW_MEMBER_COMMIT), add, carol, "may not send it"),
    ):
        with pytest.raises(InvalidMessage, match=reason):
            bob.receive_proposal(forge.proposal(alice, person, proposal, sender=sender))
        assert state(bob) == before
    bob.receive_proposal(forge.proposal(alice, carol, add, sender=joining))


def test_the_application_judges_external_senders_where_they_come_in() -> None:
    warden, _, alice, bob = watched()
    senders = alice.public.extensions
    judged = []

    def judge(holder: LeafNode | ExternalSender, /, *, entering: bool) -> None:
        if isinstance(holder, ExternalSender):
            judged.append((holder.signature_key == warden.signature.public_key, entering))
            raise NotWelcomeError

    (_, plain), (_, follower) = group_of("carol", "dave")
    made = commit(plain, GroupContextExtensions(senders))
    public = decode_body(made.message, PublicMessage)
    for attempt in (
        lambda: commit(plain, GroupContextExtensions(senders), validate=judge),
        lambda: follower.stage(made.message, validate=judge, now=NOW),
        lambda: follower.public.stage(public, validate=judge, now=NOW),
    ):
        with pytest.raises(NotWelcomeError):
            attempt()
        assert judged.pop() == (True, True)
    assert stage(follower, made.message).group is not None
    info = decode_body(bob.group_info(with_tree=True), GroupInfo)
    with pytest.raises(NotWelcomeError):
        PublicGroup.from_group_info(info, None, validate=judge, now=NOW)
    assert judged.pop() == (True, False)
    assert PublicGroup.from_group_info(info, None, validate=anyone, now=NOW).extensions == senders


class NotWelcomeError(PeerError):
    """Told apart from the engine's own errors."""


@pytest.mark.parametrize("key", [b"", bytes([1]) + bytes(31), bytes(33)])
def test_the_key_of_an_external_sender_is_checked(key: bytes) -> None:
    bad = external_senders_extension([ExternalSender(key, Credential.basic(b"eve"))])
    alice = Person.named("alice")
    with pytest.raises(InvalidMessage, match="key"):
        alice.create(extensions=(*EXTENSIONS, bad))
    (person, group), (_, bob) = group_of("alice", "bob")
    refused(bob, forge.forged_commit(group, person, [GroupContextExtensions((*EXTENSIONS, bad))]).message, "key")
    alice.create(extensions=watched()[2].public.extensions)  # the twin


@pytest.mark.parametrize("index", [1, 2, 2**32 - 1])
def test_each_external_sender_speaks_for_itself(index: int) -> None:  # 6.1-2
    warden, _, alice, bob = watched()
    message = propose_as_external_sender(alice.public.context, index, Remove(LeafIndex(0)), warden.signature, now=NOW)
    before = state(bob)
    with pytest.raises(InvalidMessage, match="signature" if index == 1 else "may not send it"):
        bob.receive_proposal(message)
    assert state(bob) == before
    context = alice.public.context
    bob.receive_proposal(propose_as_external_sender(context, 0, Remove(LeafIndex(0)), warden.signature, now=NOW))


def test_a_group_without_external_senders_takes_nothing_from_them() -> None:  # 12.1.8-1
    warden = Person.named("warden")
    (_, alice), (_, bob) = group_of("alice", "bob")
    message = propose_as_external_sender(alice.public.context, 0, Remove(LeafIndex(0)), warden.signature, now=NOW)
    with pytest.raises(InvalidMessage, match="may not send it"):
        bob.receive_proposal(message)


def test_an_external_proposal_is_for_one_epoch_and_cannot_be_altered() -> None:
    warden, _, alice, bob = watched()
    message = propose_as_external_sender(alice.public.context, 0, Remove(LeafIndex(0)), warden.signature, now=NOW)
    before = state(bob)
    for position in range(len(message)):
        with pytest.raises(PeerError):
            bob.receive_proposal(message[:position] + bytes([message[position] ^ 1]) + message[position + 1 :])
    assert state(bob) == before
    later = stage(bob, commit(alice).message).group
    assert later is not None
    with pytest.raises(WrongEpoch, match="epoch 2"):
        later.receive_proposal(message)
    bob.receive_proposal(message)


def test_a_request_to_be_added_is_signed_by_the_key_package_s_own_key() -> None:  # 6.1-7
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol, mallory = Person.named("carol"), Person.named("mallory")
    package = carol.key_package().key_package
    with pytest.raises(InvalidMessage, match="signature"):
        bob.receive_proposal(propose_own_add(alice.public.context, package, mallory.signature, now=NOW))
    bob.receive_proposal(propose_own_add(alice.public.context, package, carol.signature, now=NOW))
