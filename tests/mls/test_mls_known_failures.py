"""What other implementations of MLS got wrong: where the test is that we do not, or the test itself."""

import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace
from pathlib import Path

import pytest

from securechat import tlscodec
from securechat.errors import DecodeError
from securechat.mls.errors import CannotDecrypt, InvalidMessage
from securechat.mls.framing import (
    AuthenticatedContent,
    FramedContentAuthData,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    WireFormat,
    decode_body,
)
from securechat.mls.group import Group
from securechat.mls.proposals import Add, Remove
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Struct
from tests.fuzz import registry, targets_mls
from tests.mls import forge
from tests.mls.support import Person, commit, group_of, stage, state

ELSEWHERE = {
    "a genuine message after an altered copy of its generation is not read": (
        "test_mls_messages.py",
        "test_a_forged_message_does_not_use_up_the_key_of_the_genuine_one",
    ),
    "a replay is read": ("test_mls_messages.py", "test_a_message_is_read_once"),
    "a member speaks as another": ("test_mls_must_framing.py", "test_a_member_cannot_speak_as_another"),
    "messages in reverse order are not all read": (
        "test_mls_messages.py",
        "test_fifty_messages_in_reverse_order_are_all_read_once",
    ),
    "a jump far ahead costs work without bound": (
        "test_mls_bounds.py",
        "test_a_jump_of_any_size_above_the_limit_is_refused_for_the_same_few_derivations",
    ),
    "a cut or longer membership tag is taken": ("test_mls_must_framing.py", "test_a_wrong_membership_tag_is_refused"),
    "a cut or longer confirmation tag is taken": (
        "test_mls_must_framing.py",
        "test_a_wrong_confirmation_tag_is_refused",
    ),
    "lengths of 63, 64, 16383 and 16384 bytes are mistaken": (
        "test_mls_messages.py",
        "test_messages_at_the_boundaries_of_length_headers_are_read",
    ),
    "a huge length that is only claimed is allocated": (
        "test_mls_bounds.py",
        "test_memory_grows_with_the_bytes_that_are_there_and_not_with_those_that_are_claimed",
    ),
    "a bad parent hash is taken by a joiner": (
        "test_mls_must_commits.py",
        "test_a_joiner_refuses_a_bad_tree_even_if_a_member_vouches_for_it",
    ),
    "a bad parent hash is taken in a path": ("test_mls_must_commits.py", "test_a_bad_path_is_refused"),
    "an encryption key is in the tree twice": (
        "test_mls_must_commits.py",
        "test_two_members_never_have_one_encryption_key_after_a_commit",
    ),
    "a path brings a key that is in the tree": (
        "test_mls_must_commits.py",
        "test_a_path_with_the_key_of_another_member_or_node_is_refused",
    ),
    "a signature key is in the tree twice": (
        "test_mls_must_leaves.py",
        "test_a_key_package_with_the_signature_key_of_a_member_is_refused",
    ),
    "GroupContextExtensions are committed without a path": (
        "test_mls_must_commits.py",
        "test_a_path_is_required_by_an_empty_commit_and_by_most_proposals",
    ),
    "an own commit that comes back does harm": (
        "test_mls_messages.py",
        "test_our_own_commit_coming_back_is_told_apart",
    ),
    "two commits in one epoch are both taken": (
        "test_mls_messages.py",
        "test_of_two_commits_in_one_epoch_the_second_is_too_late",
    ),
}


@pytest.mark.parametrize("failure", ELSEWHERE)
def test_each_failure_of_others_has_its_test(failure: str) -> None:
    module, name = ELSEWHERE[failure]
    assert re.search(rf"^def {name}\(", (Path(__file__).parent / module).read_text(), re.MULTILINE)


def pair() -> tuple[Person, Group, Group]:
    (person, alice), (_, bob) = group_of("alice", "bob")
    return person, alice, bob


# ---- truncated tags and signatures


def refused_cut(group: Group, receive: Callable[[bytes], object], cut: bytes, reason: str) -> None:
    before = state(group)
    with pytest.raises(InvalidMessage, match=reason):
        receive(cut)
    assert state(group) == before


@pytest.mark.parametrize("kept", [0, 1, 4, 8, 12, 15])
def test_an_aead_tag_that_was_cut_is_refused(kept: int) -> None:
    _, alice, bob = pair()
    genuine = alice.encrypt(b"text", padding=64)
    body = decode_body(genuine, PrivateMessage)
    for wrong in (
        replace(body, ciphertext=body.ciphertext[: len(body.ciphertext) - 16 + kept]),
        replace(body, encrypted_sender_data=body.encrypted_sender_data[: 12 + kept]),
        replace(body, ciphertext=body.ciphertext[:kept]),
        replace(body, encrypted_sender_data=body.encrypted_sender_data[:kept]),
    ):
        refused_cut(bob, bob.decrypt, MLSMessage(wrong).encode(), "cannot be decrypted")
    assert bob.decrypt(genuine).plaintext == b"text"


@pytest.mark.parametrize("kept", [0, 15])
def test_a_tag_that_was_cut_in_a_welcome_is_refused(kept: int) -> None:
    _, alice, _ = pair()
    carol = Person.named("carol")
    bundle = carol.key_package()
    genuine = commit(alice, Add(bundle.key_package)).welcome
    assert genuine is not None
    body = decode_body(genuine, Welcome)
    (entry,) = body.secrets
    sealed = entry.encrypted_group_secrets
    cut = replace(sealed, ciphertext=sealed.ciphertext[: len(sealed.ciphertext) - 16 + kept])
    for wrong in (
        replace(body, secrets=(replace(entry, encrypted_group_secrets=cut),)),
        replace(body, encrypted_group_info=body.encrypted_group_info[:-1]),
    ):
        with pytest.raises(CannotDecrypt, match="cannot be opened"):
            carol.join(MLSMessage(wrong).encode(), bundle)
    carol.join(genuine, bundle)


@pytest.mark.parametrize("change", [lambda s: s[:63], lambda s: s[:32], lambda _: b"", lambda s: s + b"\x00"])
@pytest.mark.parametrize("wire_format", [WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE])
def test_a_signature_that_was_cut_or_made_longer_is_refused(
    change: Callable[[bytes], bytes], wire_format: WireFormat
) -> None:
    person, alice, bob = pair()
    seal = forge.sealed_public if wire_format == WireFormat.PUBLIC_MESSAGE else forge.sealed_private

    def altered(content: AuthenticatedContent) -> AuthenticatedContent:
        auth = content.auth
        return replace(content, auth=FramedContentAuthData(change(auth.signature), auth.confirmation_tag))

    genuine = forge.proposal(alice, person, Remove(LeafIndex(1)), wire_format=wire_format)
    if wire_format == WireFormat.PUBLIC_MESSAGE:
        made = decode_body(genuine, PublicMessage).authenticated_content
    else:
        framed = decode_body(forge.proposal(alice, person, Remove(LeafIndex(1))), PublicMessage).content
        made = forge.signed(alice.public, person, framed, wire_format)
    refused_cut(bob, bob.receive_proposal, seal(alice, altered(made)), "signature")
    bob.receive_proposal(genuine)

    joining = Person.named("carol").join_external(alice.group_info(with_tree=True), None)
    external = decode_body(joining.message, PublicMessage)
    wrong = replace(external, auth=altered(external.authenticated_content).auth)
    refused_cut(bob, lambda message: stage(bob, message), MLSMessage(wrong).encode(), "signature")


# ---- one encoding for each value


STRUCTURES = targets_mls.structures()
SEEDS = registry.seeds()


@pytest.mark.parametrize("name", STRUCTURES)
def test_bytes_behind_a_structure_are_refused(name: str) -> None:
    decode = STRUCTURES[name].decode
    for good in SEEDS[f"decode_{name}"]:
        decode(good)
        with pytest.raises(DecodeError, match="1 bytes follow the end|cut short"):
            decode(good + b"\x00")


def with_longer_lengths(value: Struct, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """The encoding of a value with one of its lengths written in a longer form than needed; each length in turn."""
    shortest, written, wrong = tlscodec.encode_varint, 0, 0

    def longer(length: int) -> bytes:
        nonlocal written
        written += 1
        if written != wrong + 1:
            return shortest(length)
        return (length | 1 << 14).to_bytes(2, "big") if length < 64 else (length | 2 << 30).to_bytes(4, "big")

    while True:
        written = 0
        fresh = replace(value) if is_dataclass(value) else value  # without an encoding that was kept
        with monkeypatch.context() as patch:
            patch.setattr(tlscodec, "encode_varint", longer)
            encoded = fresh.encode()
        if written <= wrong:
            return
        yield encoded
        wrong += 1


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_length_in_a_longer_form_than_needed_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    decode = STRUCTURES[name].decode
    for good in SEEDS[f"decode_{name}"][:3]:
        for wrong in with_longer_lengths(decode(good), monkeypatch):
            with pytest.raises(DecodeError, match="not in its shortest form"):
                decode(wrong)
