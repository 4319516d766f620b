"""Messages that are altered, repeated, late, early, or not for us: refused, and nothing has changed."""

from dataclasses import replace

import pytest

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.mls.crypto import sealing
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import CannotDecrypt, InvalidMessage, WrongEpoch
from securechat.mls.framing import (
    AuthenticatedContent,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
    decode_body,
    read_header,
)
from securechat.mls.group import Group
from securechat.mls.message_protection import protect_private
from securechat.mls.proposals import Remove, Update
from securechat.mls.secret_tree import MAX_FORWARD_JUMP, MAX_SKIPPED_KEYS
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Writer
from tests.mls.support import SUITE, commit, group_of, stage, state


def pair() -> tuple[Group, Group]:
    (_, alice), (_, bob) = group_of("alice", "bob")
    return alice, bob


def flipped(message: bytes, position: int, bit: int = 0) -> bytes:
    return message[:position] + bytes([message[position] ^ 1 << bit]) + message[position + 1 :]


def test_any_flipped_bit_is_refused_and_the_genuine_message_still_opens() -> None:
    alice, bob = pair()
    message = alice.encrypt(b"a message", authenticated_data=b"header", padding=5)
    before = state(bob)
    for position in range(len(message)):
        with pytest.raises(PeerError):
            bob.decrypt(flipped(message, position, position % 8))
        assert state(bob) == before
    assert bob.decrypt(message).plaintext == b"a message"
    assert state(bob) != before


def test_a_message_cut_short_or_with_bytes_behind_it_is_refused() -> None:
    alice, bob = pair()
    message = alice.encrypt(b"a message")
    before = state(bob)
    for length in range(len(message)):
        with pytest.raises(PeerError):
            bob.decrypt(message[:length])
    with pytest.raises(DecodeError, match="follow the end"):
        bob.decrypt(message + b"\x00")
    assert state(bob) == before
    assert bob.decrypt(message).plaintext == b"a message"


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


def test_a_jump_too_far_ahead_is_refused_without_deriving_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = pair()
    messages = [alice.encrypt(b"%d" % number) for number in range(MAX_FORWARD_JUMP + 2)]
    before = state(bob)
    derived: list[int] = []
    derive = sealing.derive_tree_secret

    def counting(suite: CipherSuite, secret: bytes, label: bytes, generation: int, length: int) -> Secret:
        derived.append(generation)
        return derive(suite, secret, label, generation, length)

    monkeypatch.setattr(sealing, "derive_tree_secret", counting)
    with pytest.raises(CannotDecrypt, match="too far ahead"):
        bob.decrypt(messages[-1])
    assert derived == []
    assert state(bob) == before
    assert bob.decrypt(messages[-2]).plaintext == b"%d" % MAX_FORWARD_JUMP
    assert bob.decrypt(messages[-1]).plaintext == b"%d" % (MAX_FORWARD_JUMP + 1)


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


def forge(group: Group, plaintext: bytes, *, leaf: LeafIndex, signer: SignaturePrivateKey) -> bytes:
    """A message as a member can make it that has the group's secrets and lies about who it is."""
    framed = FramedContent(group.group_id, group.epoch, Sender.member(leaf), b"", plaintext)
    content = AuthenticatedContent.sign(
        WireFormat.PRIVATE_MESSAGE, framed, group.public.context, signer.sign_with_label
    )
    secret = group._secrets.sender_data_secret
    return MLSMessage(protect_private(SUITE, secret, group._messages, content)[0]).encode()


def test_a_member_cannot_speak_in_the_name_of_another() -> None:
    (_, alice), (_, bob), (mallory_person, mallory) = group_of("alice", "bob", "mallory")
    forged = forge(mallory, b"I am alice", leaf=alice.own_leaf, signer=mallory_person.signature)
    before = state(bob)
    with pytest.raises(InvalidMessage, match="signature"):
        bob.decrypt(forged)
    assert state(bob) == before
    # The forged message took the key of alice's first message; hers is read all the same.
    assert bob.decrypt(alice.encrypt(b"I am alice")).plaintext == b"I am alice"


def test_a_message_from_a_blank_leaf_is_refused() -> None:
    _, (_, bob), (mallory_person, mallory) = group_of("alice", "bob", "mallory")
    assert bob.public.tree.leaf(LeafIndex(3)) is None
    for leaf in (3, 4, 2**31, 2**32 - 1):
        tree_has_it = leaf < mallory.public.tree.leaf_count
        before = state(bob)
        forged = _forge_any_leaf(mallory, LeafIndex(leaf), mallory_person.signature, keyed=tree_has_it)
        with pytest.raises(InvalidMessage, match="no member"):
            bob.decrypt(forged)
        assert state(bob) == before


def _forge_any_leaf(group: Group, leaf: LeafIndex, signer: SignaturePrivateKey, *, keyed: bool) -> bytes:
    """A message whose sender data name `leaf`, in the tree or not."""
    if keyed:
        return forge(group, b"hello", leaf=leaf, signer=signer)
    message = decode_body(forge(group, b"hello", leaf=group.own_leaf, signer=signer), PrivateMessage)
    sample = message.ciphertext[: SUITE.hash_size]
    secret = group._secrets.sender_data_secret
    key = sealing.expand_with_label(SUITE, secret, b"key", sample, SUITE.key_size)
    nonce = sealing.expand_with_label(SUITE, secret, b"nonce", sample, SUITE.nonce_size)
    aad = bytes(Writer().vector(group.group_id).u64(group.epoch).u8(message.content_type))
    sender_data = bytes(Writer().u32(leaf).u32(0).opaque(bytes(4)))
    sealed = sealing.aead_seal(SUITE, key, nonce, aad, sender_data)
    return MLSMessage(replace(message, encrypted_sender_data=sealed)).encode()


def test_padding_hides_the_length_and_must_be_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = pair()
    assert len(alice.encrypt(b"short", padding=50)) == len(alice.encrypt(b"s" * 55))
    bob.decrypt(alice.encrypt(b"padded", padding=100))
    seal = sealing.aead_seal

    def with_dirty_padding(suite: CipherSuite, key: bytes, nonce: bytes, aad: bytes, text: bytes) -> bytes:
        return seal(suite, key, nonce, aad, text[:-1] + b"\x01" if text.endswith(bytes(100)) else text)

    monkeypatch.setattr(sealing, "aead_seal", with_dirty_padding)
    dirty = alice.encrypt(b"padded", padding=100)
    before = state(bob)
    with pytest.raises(DecodeError, match="padding"):
        bob.decrypt(dirty)
    assert state(bob) == before


def test_application_data_in_the_clear_is_refused() -> None:
    (alice_person, alice), (_, bob) = group_of("alice", "bob")
    framed = FramedContent(alice.group_id, alice.epoch, Sender.member(alice.own_leaf), b"", b"in the clear")
    content = AuthenticatedContent.sign(
        WireFormat.PUBLIC_MESSAGE, framed, alice.public.context, alice_person.signature.sign_with_label
    )
    message = MLSMessage(PublicMessage(framed, content.auth, bytes(32))).encode()
    for receive in (bob.decrypt, bob.receive_proposal, lambda message: stage(bob, message)):
        with pytest.raises(InvalidMessage):
            receive(message)


def test_a_proposal_of_another_epoch_group_or_sender_is_refused_and_forgotten() -> None:
    (_, alice), (_, bob), (mallory_person, mallory) = group_of("alice", "bob", "mallory")
    genuine = alice.propose(Remove(mallory.own_leaf))
    before = state(bob)
    for position in range(len(genuine)):
        with pytest.raises(PeerError):
            bob.receive_proposal(flipped(genuine, position, position % 8))
        assert state(bob) == before
    body = decode_body(genuine, PublicMessage)
    framed = replace(body.content, sender=Sender.member(alice.own_leaf), content=Remove(bob.own_leaf))
    sign = mallory_person.signature.sign_with_label
    lie = AuthenticatedContent.sign(WireFormat.PUBLIC_MESSAGE, framed, mallory.public.context, sign)
    tag = sealing.mac(SUITE, mallory._secrets.membership_key, lie.tbm(mallory.public.context))
    with pytest.raises(InvalidMessage, match="signature"):
        bob.receive_proposal(MLSMessage(PublicMessage(framed, lie.auth, tag)).encode())
    assert state(bob) == before
    bob.receive_proposal(genuine)
    assert len(bob.public.proposals) == 1


def test_an_update_is_proposed_with_a_key_of_our_own() -> None:
    alice, bob = pair()
    update = alice.receive_proposal(bob.propose_update()).content.content
    assert isinstance(update, Update)
    with pytest.raises(UsageError):
        alice.propose(update)
