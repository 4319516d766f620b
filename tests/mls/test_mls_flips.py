"""Every byte of every kind of message altered, cut off and added: refused, and the genuine message still works.

State is compared byte for byte: all of it is in `public_bytes` and `secret_bytes`.
"""

from collections.abc import Callable, Iterator

import pytest

from securechat.errors import PeerError
from securechat.mls.framing import MLSMessage, decode_body
from securechat.mls.group import Group
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add, Remove
from tests.mls.support import EXTENSIONS, NOW, SUITE, Person, anyone, commit, group_of, same_view, stage, state


def spoiled(message: bytes) -> Iterator[bytes]:
    """One bit flipped at every position, every truncation, one byte more."""
    for position, byte in enumerate(message):
        yield message[:position] + bytes([byte ^ 1 << position % 8]) + message[position + 1 :]
    for length in range(len(message)):
        yield message[:length]
    yield message + b"\x00"


def refuse_all(message: bytes, receive: Callable[[bytes], object], *receivers: Group) -> None:
    before = [state(receiver) for receiver in receivers]
    for wrong in spoiled(message):
        with pytest.raises(PeerError):
            receive(wrong)
        assert [state(receiver) for receiver in receivers] == before


def test_an_application_message() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    message = alice.encrypt(b"a message", authenticated_data=b"header", padding=5)
    refuse_all(message, bob.decrypt, bob)
    assert bob.decrypt(message).plaintext == b"a message"


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_proposal(*, encrypt: bool) -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    message = alice.propose(Remove(carol.own_leaf), encrypt=encrypt)
    refuse_all(message, bob.receive_proposal, bob)
    bob.receive_proposal(message)
    assert [leaf for leaf, _ in commit(bob).public.removed] == [carol.own_leaf]


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_commit(*, encrypt: bool) -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    add = Add(Person.named("carol").key_package().key_package)
    staged = commit(alice, add, authenticated_data=b"data", encrypt=encrypt)
    refuse_all(staged.message, lambda wrong: stage(bob, wrong), bob)
    assert same_view(staged.group, stage(bob, staged.message).group)


def test_an_external_commit() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    staged = Person.named("carol").join_external(alice.group_info(with_tree=True), None)
    refuse_all(staged.message, lambda wrong: stage(bob, wrong), bob)
    assert same_view(staged.group, stage(bob, staged.message).group)


def test_a_welcome() -> None:
    (_, alice), (_, _) = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    staged = commit(alice, Add(bundle.key_package))
    assert staged.welcome is not None
    refuse_all(staged.welcome, lambda wrong: carol.join(wrong, bundle))
    assert same_view(staged.group, carol.join(staged.welcome, bundle))


def test_a_group_info() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    info = alice.group_info(with_tree=True)
    refuse_all(info, lambda wrong: carol.join_external(wrong, None))
    staged = carol.join_external(info, None)
    assert same_view(staged.group, stage(bob, staged.message).group)


def test_a_key_package() -> None:
    message = MLSMessage(Person.named("carol").key_package().key_package).encode()

    def verify(data: bytes) -> None:
        decode_body(data, KeyPackage).verify(SUITE, EXTENSIONS, validate=anyone, now=NOW)

    refuse_all(message, verify)
    verify(message)
