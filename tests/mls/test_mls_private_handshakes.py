"""Proposals and commits as PrivateMessages (RFC 9420, section 6.3): what they change, use up, and hide."""

from dataclasses import replace

import pytest

from securechat.errors import UsageError
from securechat.mls.errors import CannotDecrypt, InvalidMessage, WrongEpoch
from securechat.mls.framing import ContentType, PublicMessage, WireFormat, decode_body, read_header
from securechat.mls.group import Group, StagedCommit
from securechat.mls.proposals import Add, Remove
from securechat.mls.secret_tree import MAX_GENERATION
from securechat.mls.tree_math import LeafIndex
from tests.mls.support import NOW, Person, anyone, commit, group_of, same_view, stage, state


def test_encrypted_proposals_and_commits_take_effect_like_public_ones() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    dave = Person.named("dave")
    bundle = dave.key_package()
    update = bob.propose_update(encrypt=True)
    removal = carol.propose(Remove(carol.own_leaf), encrypt=True)
    for message in (update, removal):
        alice.receive_proposal(message)
    carol.receive_proposal(update)
    bob.receive_proposal(removal)
    staged = commit(alice, Add(bundle.key_package), encrypt=True, authenticated_data=b"number 1")
    assert [type(entry.proposal).__name__ for entry in staged.public.proposals] == ["Update", "Remove", "Add"]
    assert stage(carol, staged.message).removed_us
    for_bob = stage(bob, staged.message)
    assert for_bob.public == staged.public
    assert staged.welcome is not None
    assert same_view(staged.group, for_bob.group, dave.join(staged.welcome, bundle))


def test_the_header_of_an_encrypted_handshake_hides_its_sender() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    proposal = alice.propose(Remove(bob.own_leaf), encrypt=True)
    for message, content_type in (
        (proposal, ContentType.PROPOSAL),
        (commit(alice, encrypt=True).message, ContentType.COMMIT),
    ):
        header = read_header(message)
        assert (header.wire_format, header.content_type) == (WireFormat.PRIVATE_MESSAGE, content_type)
        assert header.sender is None


def handshake_generation(group: Group) -> int:
    return group._messages.next_generation(group.own_leaf, handshake=True)


def test_each_encrypted_handshake_uses_up_a_key_of_its_own() -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    keys = [alice._messages.key(alice.own_leaf, generation, handshake=True)[0] for generation in range(3)]
    messages = [
        commit(alice, encrypt=True).message,
        alice.propose(Remove(bob.own_leaf), encrypt=True),
        commit(alice, encrypt=True, by_reference=None).message,
    ]
    assert handshake_generation(alice) == 3
    reloaded = Group.load(*state(alice), person.keys)
    assert handshake_generation(reloaded) == 3
    for generation, key in enumerate(keys):
        assert bytes(key.key) not in state(alice)[1]
        with pytest.raises(CannotDecrypt, match="read before"):
            reloaded._messages.key(alice.own_leaf, generation, handshake=True)
    # The first commit was dropped; the others arrive nevertheless, in any order.
    assert stage(bob, messages[2]).group is not None
    bob.receive_proposal(messages[1])
    assert stage(bob, messages[0]).group is not None


def test_an_encrypted_commit_survives_a_restart() -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    staged = commit(alice, encrypt=True)
    again = StagedCommit.decode(staged.encode(), person.keys)
    assert again.message == staged.message
    assert same_view(again.group, stage(bob, again.message).group)


def test_public_handshakes_and_staging_use_up_nothing() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    before = state(alice)[1], state(bob)
    public, private = commit(alice).message, commit(bob, encrypt=True).message
    stage(bob, public)
    stage(alice, private)
    stage(alice, private)
    assert state(alice)[1] == before[0]
    assert bob.public_bytes() == before[1][0]


def test_a_failed_encrypted_handshake_uses_up_nothing() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    before = state(alice)
    with pytest.raises(InvalidMessage, match="its own committer"):
        commit(alice, Remove(alice.own_leaf), encrypt=True)
    with pytest.raises(InvalidMessage, match="no member"):
        alice.propose(Remove(LeafIndex(7)), encrypt=True)
    assert state(alice) == before
    alice.propose(Remove(bob.own_leaf), encrypt=True)
    ratchets = alice._messages._ratchets[alice.own_leaf]
    last = replace(ratchets.handshake, generation=MAX_GENERATION + 1)
    alice._messages._ratchets[alice.own_leaf] = ratchets._replace(handshake=last)
    before = state(alice)
    with pytest.raises(UsageError, match="commit first"):
        alice.propose_update(encrypt=True)
    with pytest.raises(UsageError, match="commit first"):
        commit(alice, encrypt=True)
    assert state(alice) == before
    assert same_view(stage(bob, commit(alice, by_reference=None).message).group)


def test_an_encrypted_proposal_is_read_once_and_not_by_its_sender() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    proposal = alice.propose(Remove(bob.own_leaf), encrypt=True)
    bob.receive_proposal(proposal)
    before = state(bob)
    with pytest.raises(CannotDecrypt, match="read before"):
        bob.receive_proposal(proposal)
    assert state(bob) == before
    with pytest.raises(CannotDecrypt, match="our own"):
        alice.receive_proposal(proposal)
    with pytest.raises(CannotDecrypt, match="our own"):
        stage(alice, commit(alice, encrypt=True).message)


def test_the_public_view_cannot_follow_an_encrypted_commit() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    server = bob.public
    staged = commit(alice, encrypt=True)
    with pytest.raises(InvalidMessage, match="a PublicMessage was expected, and a PrivateMessage came"):
        decode_body(staged.message, PublicMessage)
    assert staged.group is not None
    public = decode_body(commit(staged.group).message, PublicMessage)
    with pytest.raises(WrongEpoch, match="the group is in epoch 1"):
        server.stage(public, validate=anyone, now=NOW)
    server.stage(decode_body(commit(alice).message, PublicMessage), validate=anyone, now=NOW)
