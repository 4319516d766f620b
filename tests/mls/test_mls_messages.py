"""Messages that are altered, repeated, late, early, or not for us: refused, and nothing has changed."""

from dataclasses import replace

import pytest

from securechat.errors import DecodeError, UsageError
from securechat.mls.errors import CannotDecrypt, InvalidMessage, WrongEpoch
from securechat.mls.framing import (
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    decode_body,
    read_header,
)
from securechat.mls.group import Group
from securechat.mls.proposals import Remove, Update
from securechat.mls.secret_tree import MAX_FORWARD_JUMP, MAX_GENERATION, MAX_SKIPPED_KEYS, SecretTree
from securechat.mls.tree_math import LeafIndex
from tests.mls.forge import application, sealed_private
from tests.mls.support import SUITE, commit, group_of, same_view, stage, state


def pair() -> tuple[Group, Group]:
    (_, alice), (_, bob) = group_of("alice", "bob")
    return alice, bob


def flipped(message: bytes, position: int, bit: int = 0) -> bytes:
    return message[:position] + bytes([message[position] ^ 1 << bit]) + message[position + 1 :]


def test_a_message_is_read_once() -> None:
    alice, bob = pair()
    message = alice.encrypt(b"once")
    bob.decrypt(message)
    before = state(bob)
    with pytest.raises(CannotDecrypt, match="read before"):
        bob.decrypt(message)
    assert state(bob) == before


def test_fifty_messages_in_reverse_order_are_all_read_once() -> None:
    alice, bob = pair()
    messages = [alice.encrypt(b"%d" % number) for number in range(50)]
    for number in reversed(range(50)):
        assert bob.decrypt(messages[number]).plaintext == b"%d" % number
    for message in messages:
        with pytest.raises(CannotDecrypt):
            bob.decrypt(message)


def test_only_the_newest_skipped_keys_are_kept() -> None:
    alice, bob = pair()
    messages = [alice.encrypt(b"%d" % number) for number in range(MAX_SKIPPED_KEYS + 100)]
    bob.decrypt(messages[MAX_SKIPPED_KEYS])
    bob.decrypt(messages[-1])
    with pytest.raises(CannotDecrypt, match="deleted"):
        bob.decrypt(messages[97])
    assert bob.decrypt(messages[98]).plaintext == b"98"


def test_a_reader_in_order_keeps_no_keys_of_messages_passed_over() -> None:
    alice, bob = pair()
    empty = len(bob.secret_bytes())
    messages = [alice.encrypt(b"%d" % number) for number in range(MAX_FORWARD_JUMP + 2)]
    assert bob.decrypt(messages[0], in_order=True).plaintext == b"0"
    once = len(bob.secret_bytes())
    assert bob.decrypt(messages[3]).plaintext == b"3"
    assert len(bob.secret_bytes()) > once
    assert bob.decrypt(messages[-1], in_order=True).plaintext == b"%d" % (MAX_FORWARD_JUMP + 1)
    assert len(bob.secret_bytes()) == once > empty
    for number in (0, 1, 4, MAX_FORWARD_JUMP):
        before = state(bob)
        with pytest.raises(CannotDecrypt, match="deleted"):
            bob.decrypt(messages[number], in_order=True)
        assert state(bob) == before
    assert bob.decrypt(alice.encrypt(b"next"), in_order=True).plaintext == b"next"


def test_our_own_message_coming_back_is_told_apart() -> None:
    alice, bob = pair()
    message = alice.encrypt(b"mine")
    before = state(alice)
    with pytest.raises(CannotDecrypt, match="our own"):
        alice.decrypt(message)
    assert state(alice) == before
    assert bob.decrypt(message).plaintext == b"mine"


def test_messages_of_another_epoch_are_refused() -> None:
    alice, bob = pair()
    old = alice.encrypt(b"old")
    staged = commit(alice)
    new_bob = stage(bob, staged.message).group
    assert staged.group is not None
    assert new_bob is not None
    new = staged.group.encrypt(b"new")
    for receiver, message in ((new_bob, old), (bob, new)):
        before = state(receiver)
        with pytest.raises(WrongEpoch):
            receiver.decrypt(message)
        assert state(receiver) == before
    assert new_bob.decrypt(new).plaintext == b"new"
    assert bob.decrypt(old).plaintext == b"old"


def test_messages_of_another_group_are_refused() -> None:
    alice, _ = pair()
    (_, carol), (_, dave) = group_of("carol", "dave")
    before = state(dave)
    with pytest.raises(CannotDecrypt):  # the groups have the same name in this test, and other secrets
        dave.decrypt(alice.encrypt(b"hello"))
    assert state(dave) == before
    header = read_header(carol.encrypt(b"hello"))
    assert header.group_id == b"group"
    body = decode_body(carol.encrypt(b"hello"), PrivateMessage)
    with pytest.raises(WrongEpoch, match="another group"):
        dave.decrypt(MLSMessage(replace(body, group_id=b"elsewhere")).encode())


def test_an_update_is_proposed_with_a_key_of_our_own() -> None:
    alice, bob = pair()
    update = alice.receive_proposal(bob.propose_update()).content.content
    assert isinstance(update, Update)
    with pytest.raises(UsageError):
        alice.propose(update)


def test_a_forged_message_does_not_use_up_the_key_of_the_genuine_one() -> None:
    (alice_person, alice), (_, bob), (mallory_person, mallory) = group_of("alice", "bob", "mallory")
    sender = Sender.member(alice.own_leaf)
    lie = sealed_private(mallory, application(mallory, mallory_person, b"I am alice", sender=sender))
    genuine = alice.encrypt(b"I am alice")
    before = state(bob)
    for wrong in (lie, genuine[:-1] + bytes([genuine[-1] ^ 1])):
        with pytest.raises(InvalidMessage):
            bob.decrypt(wrong)
        assert state(bob) == before
    assert bob.decrypt(genuine).plaintext == b"I am alice"
    assert alice_person.name == b"alice"


def test_our_own_commit_coming_back_is_told_apart() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    staged = commit(alice)
    with pytest.raises(InvalidMessage, match="our own commit"):
        stage(alice, staged.message)
    after = stage(bob, staged.message).group
    assert after is not None
    with pytest.raises(WrongEpoch):
        stage(after, staged.message)


def test_of_two_commits_in_one_epoch_the_second_is_too_late() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    first, second = commit(alice), commit(bob)
    after = stage(carol, first.message).group
    assert after is not None
    before = state(after)
    with pytest.raises(WrongEpoch, match="epoch 1; the group is in epoch 2"):
        stage(after, second.message)
    assert state(after) == before
    bob_after = stage(bob, first.message).group
    assert same_view(after, bob_after, first.group)


@pytest.mark.parametrize("length", [0, 63, 64, 16383, 16384])
def test_messages_at_the_boundaries_of_length_headers_are_read(length: int) -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    received = bob.decrypt(alice.encrypt(bytes(length), authenticated_data=bytes(length)))
    assert (received.plaintext, received.authenticated_data) == (bytes(length), bytes(length))


def test_each_door_takes_only_its_kind_of_message() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    application, commit_, info = alice.encrypt(b"x"), commit(alice).message, alice.group_info(with_tree=False)
    proposal = alice.propose(Remove(bob.own_leaf))
    before = state(bob)
    for wrong in (commit_, proposal, info):
        with pytest.raises(InvalidMessage, match="application message was expected"):
            bob.decrypt(wrong)
    for wrong in (application, commit_, info):
        with pytest.raises(InvalidMessage, match="a proposal was expected"):
            bob.receive_proposal(wrong)
    for wrong in (application, proposal, info):
        with pytest.raises(InvalidMessage, match="a commit was expected"):
            stage(bob, wrong)
    with pytest.raises(InvalidMessage, match="a PublicMessage was expected, and a PrivateMessage came"):
        decode_body(application, PublicMessage)
    with pytest.raises(DecodeError, match="message of a group"):
        read_header(info)
    assert state(bob) == before


def test_a_sender_without_keys_in_the_tree_is_refused_and_a_ratchet_ends() -> None:
    leaf = LeafIndex(0)
    with pytest.raises(CannotDecrypt, match="no keys"):
        SecretTree(SUITE, 2, {}, {}).key(leaf, 0, handshake=False)
    (_, alice), _ = group_of("alice", "bob")
    alice.encrypt(b"x")
    ratchets = alice._messages._ratchets[leaf]
    last = replace(ratchets.application, generation=MAX_GENERATION)
    alice._messages._ratchets[leaf] = ratchets._replace(application=last)
    alice.encrypt(b"the last one")
    before = state(alice)
    with pytest.raises(UsageError, match="commit first"):
        alice.encrypt(b"one too many")
    assert state(alice) == before
