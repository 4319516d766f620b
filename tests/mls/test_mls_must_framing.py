"""What makes a message invalid, whatever it contains (RFC 9420, sections 6 and 12.1.8); see `rules`.

Mallory is a member and makes messages that the API refuses to make: rightly tagged and encrypted, with one thing wrong.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.mls.commit import Commit
from securechat.mls.errors import InvalidMessage, WrongEpoch
from securechat.mls.extensions import Extension, ExtensionType, ExternalSender
from securechat.mls.framing import (
    AuthenticatedContent,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    decode_body,
)
from securechat.mls.group import Group
from securechat.mls.message_protection import open_sender_data, protect_private, protect_public
from securechat.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    Proposal,
    Remove,
    Update,
)
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import MAX_VECTOR, Writer
from tests.mls import forge
from tests.mls.forge import application, forged_commit, forged_external, sealed_private, sealed_public
from tests.mls.support import EXTENSIONS, SUITE, Person, commit, group_of, refused, stage, state

WARDEN = Person.named("warden")
SENDERS = Extension(
    ExtensionType.EXTERNAL_SENDERS,
    bytes(Writer().structs([ExternalSender(WARDEN.signature.public_key, WARDEN.credential)])),
)

Receive = Callable[[Group, bytes], object]
RECEIVE: dict[str, Receive] = {
    "application": lambda group, message: group.decrypt(message),
    "proposal": lambda group, message: group.receive_proposal(message),
    "commit": stage,
}


class Scene:
    """Alice, Bob and Mallory in a group that listens to a warden outside; Bob receives."""

    def __init__(self) -> None:
        (self.alice_person, self.alice), (_, self.bob), (self.mallory_person, self.mallory) = group_of(
            "alice", "bob", "mallory", extensions=(*EXTENSIONS, SENDERS)
        )

    def refuse(self, kind: str, message: bytes, reason: str, error: type[PeerError] = InvalidMessage) -> None:
        before = state(self.bob)
        with pytest.raises(error, match=reason):
            RECEIVE[kind](self.bob, message)
        assert state(self.bob) == before


def public(content: AuthenticatedContent) -> bytes:
    """A PublicMessage without a membership tag."""
    return MLSMessage(PublicMessage(content.content, content.auth, None)).encode()


def outside(group: Group, person: Person, sender: Sender, content: Proposal | Commit | bytes) -> bytes:
    """A message from outside the group, signed by `person`."""
    framed = FramedContent(group.group_id, group.epoch, sender, b"", content)
    made = forge.signed(group.public, person, framed, WireFormat.PUBLIC_MESSAGE)
    if isinstance(content, Commit):
        made = made.with_confirmation_tag(bytes(SUITE.hash_size))
    return public(made)


def test_application_data_in_the_clear_is_refused_and_not_made() -> None:  # 6-1
    scene = Scene()
    framed = application(scene.alice, scene.alice_person).content
    in_the_clear = forge.signed(scene.alice.public, scene.alice_person, framed, WireFormat.PUBLIC_MESSAGE)
    for kind, reason in (("application", "expected"), ("proposal", "in the clear"), ("commit", "in the clear")):
        scene.refuse(kind, sealed_public(scene.alice, in_the_clear), reason)
    with pytest.raises(UsageError, match="never sent in the clear"):
        protect_public(SUITE, scene.alice._secrets.membership_key, in_the_clear, scene.alice.public.context)
    good = sealed_private(scene.alice, application(scene.alice, scene.alice_person))
    assert scene.bob.decrypt(good).plaintext == b"text"


# ---- who signs (6.1)


@pytest.mark.parametrize("kind", RECEIVE)
@pytest.mark.parametrize("wire_format", [WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE])
def test_a_member_cannot_speak_as_another(kind: str, wire_format: WireFormat) -> None:  # 6.1-1, 6.3.1-4, 12.4.2-3
    scene = Scene()

    def made_by(person: Person) -> bytes:
        """A message under alice's name."""
        sender = Sender.member(scene.alice.own_leaf)
        if kind == "application":
            return sealed_private(scene.mallory, application(scene.mallory, person, sender=sender))
        if kind == "proposal":
            content = Remove(scene.mallory.own_leaf)
            return forge.proposal(scene.mallory, person, content, sender=sender, wire_format=wire_format)
        if person is scene.alice_person:
            return forged_commit(scene.alice, person, wire_format=wire_format).message
        return forged_commit(
            scene.mallory, person, content=lambda framed: replace(framed, sender=sender), wire_format=wire_format
        ).message

    scene.refuse(kind, made_by(scene.mallory_person), "signature")
    RECEIVE[kind](scene.bob, made_by(scene.alice_person))


@pytest.mark.parametrize(
    ("sender", "signer", "reason"),
    [
        (Sender(SenderType.EXTERNAL, 0), "mallory", "signature"),  # 6.1-2
        (Sender(SenderType.EXTERNAL, 1), "warden", "may not send it"),  # 6.1-2, 12.1.8-1
        (Sender(SenderType.EXTERNAL, 2**32 - 1), "warden", "may not send it"),
        (Sender(SenderType.NEW_MEMBER_PROPOSAL), "warden", "signature"),  # 6.1-7
        (Sender(SenderType.NEW_MEMBER_COMMIT), "newcomer", "may not send it"),  # 6.1-6
    ],
)
def test_a_proposal_from_outside_is_signed_by_whom_it_names(sender: Sender, signer: str, reason: str) -> None:
    scene, newcomer = Scene(), Person.named("newcomer")
    people = {"warden": WARDEN, "mallory": scene.mallory_person, "newcomer": newcomer}
    add = Add(newcomer.key_package().key_package)
    scene.refuse("proposal", outside(scene.bob, people[signer], sender, add), reason)
    scene.bob.receive_proposal(outside(scene.bob, WARDEN, Sender(SenderType.EXTERNAL, 0), add))
    scene.bob.receive_proposal(outside(scene.bob, newcomer, Sender(SenderType.NEW_MEMBER_PROPOSAL), add))
    assert len(scene.bob.public.proposals) == 2


def test_an_external_sender_proposes_only_what_it_may() -> None:  # 6.1-3, 6.1-4
    scene = Scene()
    sender = Sender(SenderType.EXTERNAL, 0)
    leaf = scene.alice.public.member(scene.alice.own_leaf)
    for content in (Update(leaf), ExternalInit(bytes(32))):
        scene.refuse("proposal", outside(scene.bob, WARDEN, sender, content), "may not send it")
    scene.refuse("commit", outside(scene.bob, WARDEN, sender, Commit((), None)), "may not send it")
    scene.refuse("proposal", outside(scene.bob, WARDEN, sender, b"text"), "in the clear")
    scene.refuse("application", outside(scene.bob, WARDEN, sender, b"text"), "expected")
    for good in (Remove(LeafIndex(0)), GroupContextExtensions(EXTENSIONS)):
        scene.bob.receive_proposal(outside(scene.bob, WARDEN, sender, good))


def test_a_new_member_proposes_nothing_but_to_add_itself() -> None:  # 6.1-8
    scene, newcomer = Scene(), Person.named("newcomer")
    sender = Sender(SenderType.NEW_MEMBER_PROPOSAL)
    for content in (Remove(LeafIndex(0)), GroupContextExtensions(())):
        scene.refuse("proposal", outside(scene.bob, newcomer, sender, content), "may not send it")
    scene.refuse("commit", outside(scene.bob, newcomer, sender, Commit((), None)), "may not send it")
    scene.refuse("proposal", outside(scene.bob, newcomer, sender, b"text"), "in the clear")


def test_a_new_members_commit_is_signed_with_the_key_in_its_path() -> None:  # 6.1-5, 12.4.3.2-3
    scene, newcomer = Scene(), Person.named("newcomer")
    other = Person.named("other").signature.public_key

    def by_another(framed: FramedContent) -> FramedContent:
        assert isinstance(framed.content, Commit)
        assert framed.content.path is not None
        leaf = replace(framed.content.path.leaf_node, signature_key=other)
        return replace(framed, content=replace(framed.content, path=replace(framed.content.path, leaf_node=leaf)))

    refused(scene.bob, forged_external(scene.alice, newcomer, content=by_another).message, "signature")
    assert stage(scene.bob, forged_external(scene.alice, newcomer).message).group is not None


def test_a_new_member_cannot_send_application_data() -> None:  # 6.1-6
    scene, newcomer = Scene(), Person.named("newcomer")
    text = outside(scene.bob, newcomer, Sender(SenderType.NEW_MEMBER_COMMIT), b"text")
    scene.refuse("commit", text, "in the clear")
    scene.refuse("application", text, "expected")


def test_a_signature_for_one_wire_format_group_or_epoch_does_not_fit_another() -> None:  # 6.1-9
    scene = Scene()
    alice, person = scene.alice, scene.alice_person
    for_public = forge.signed(alice.public, person, application(alice, person).content, WireFormat.PUBLIC_MESSAGE)
    scene.refuse("application", sealed_private(alice, for_public), "signature")
    made = forge.proposal(alice, person, Remove(LeafIndex(2)))
    framed = decode_body(made, PublicMessage).content
    for_private = forge.signed(alice.public, person, framed, WireFormat.PRIVATE_MESSAGE)
    scene.refuse(
        "proposal", sealed_public(alice, replace(for_private, wire_format=WireFormat.PUBLIC_MESSAGE)), "signature"
    )
    context = replace(alice.public.context, epoch=7)
    elsewhere = replace(alice.public, context=context)
    in_epoch_7 = forge.signed(elsewhere, person, application(alice, person).content, WireFormat.PRIVATE_MESSAGE)
    scene.refuse("application", sealed_private(alice, in_epoch_7), "signature")
    scene.bob.receive_proposal(made)


# ---- messages in the clear: section 6.2


@pytest.mark.parametrize("kind", ["proposal", "commit"])
@pytest.mark.parametrize("tag", [bytes(32), b"", "cut", "long"])
def test_a_wrong_membership_tag_is_refused(kind: str, tag: bytes | str) -> None:  # 6.2-1, 12.4.2-2
    scene = Scene()
    if kind == "proposal":
        good = forge.proposal(scene.alice, scene.alice_person, Remove(LeafIndex(2)))
    else:
        good = commit(scene.alice).message
    body = decode_body(good, PublicMessage)
    genuine = body.membership_tag
    assert genuine is not None
    wrong = {"cut": genuine[:-1], "long": genuine + b"\x00"}[tag] if isinstance(tag, str) else tag
    scene.refuse(kind, MLSMessage(replace(body, membership_tag=wrong)).encode(), "membership tag")
    RECEIVE[kind](scene.bob, good)


def test_a_membership_tag_covers_content_and_authentication() -> None:  # 6.2-1
    scene = Scene()
    body = decode_body(commit(scene.alice).message, PublicMessage)
    for wrong in (
        replace(body, content=replace(body.content, authenticated_data=b"other")),
        replace(body, auth=replace(body.auth, signature=bytes(64))),
        replace(body, auth=replace(body.auth, confirmation_tag=bytes(32))),
    ):
        scene.refuse("commit", MLSMessage(wrong).encode(), "membership tag")


@pytest.mark.parametrize("wire_format", [WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE])
@pytest.mark.parametrize("tag", [lambda _: bytes(32), lambda tag: tag[:-1], lambda tag: tag + b"\x00", lambda _: b""])
def test_a_wrong_confirmation_tag_is_refused(  # 6.2-2, 6.3.1-4, 12.4.2-10
    tag: Callable[[bytes], bytes], wire_format: WireFormat
) -> None:
    scene = Scene()
    for kind in ({"with_path": True}, {"with_path": False}):
        add = Add(Person.named("newcomer").key_package().key_package)
        options = {**kind, "wire_format": wire_format}
        scene.refuse("commit", forged_commit(scene.alice, scene.alice_person, [add], tag=tag, **options).message, "tag")
        assert stage(scene.bob, forged_commit(scene.alice, scene.alice_person, [add], **options).message).group


# ---- encrypted messages: section 6.3


def test_padding_is_zero() -> None:  # 6.3.1-1
    scene = Scene()
    content = application(scene.alice, scene.alice_person)

    def padded(padding: bytes) -> bytes:
        return sealed_private(scene.alice, content, plaintext=lambda inside: inside + padding)

    for wrong in (b"\x01", bytes(99) + b"\x01", b"\x01" + bytes(99), b"\xff" * 40):
        scene.refuse("application", padded(wrong), "padding of a message is not zero", DecodeError)
    assert scene.bob.decrypt(padded(bytes(100))).plaintext == b"text"


def test_no_generation_is_used_twice_not_even_after_a_restart() -> None:  # 6.3.1-2
    scene = Scene()
    secret, generations = scene.alice._secrets.sender_data_secret, []
    alice = scene.alice
    for number in range(6):
        body = decode_body(alice.encrypt(b"%d" % number), PrivateMessage)
        generations.append(open_sender_data(SUITE, secret, body).generation)
        if number % 2:
            alice = Group.load(*state(alice), scene.alice_person.keys)
    assert generations == list(range(6))


def test_the_same_message_from_the_same_state_has_another_reuse_guard() -> None:  # 6.3.1-3
    scene = Scene()
    saved, secret = state(scene.alice), scene.alice._secrets.sender_data_secret
    guards = set()
    for _ in range(8):
        copy = Group.load(*saved, scene.alice_person.keys)
        guards.add(open_sender_data(SUITE, secret, decode_body(copy.encrypt(b"text"), PrivateMessage)).reuse_guard)
    assert len(guards) == 8


def test_the_longest_field_is_far_below_what_an_aead_can_encrypt() -> None:  # 6.3.1-5
    assert MAX_VECTOR < 2**36 - 32  # bytes for one AES-GCM nonce; each key encrypts one message


def test_only_members_encrypt() -> None:  # 6.3.2-1, 12.1.8-2
    scene = Scene()
    for kind in (SenderType.EXTERNAL, SenderType.NEW_MEMBER_PROPOSAL, SenderType.NEW_MEMBER_COMMIT):
        content = application(scene.alice, scene.alice_person, sender=Sender(kind))
        with pytest.raises(UsageError, match="only members"):
            protect_private(SUITE, scene.alice._secrets.sender_data_secret, scene.alice._messages, content)
    # What comes encrypted is by a member, whatever it was meant to be: what the warden signed is not alice's.
    framed = FramedContent(b"group", 1, Sender(SenderType.EXTERNAL, 0), b"", Remove(LeafIndex(2)))
    by_warden = forge.signed(scene.alice.public, WARDEN, framed, WireFormat.PRIVATE_MESSAGE)
    scene.refuse("proposal", sealed_private(scene.alice, by_warden), "signature")


@pytest.mark.parametrize("leaf", [3, 4, 2**31, 2**32 - 1])
def test_sender_data_name_a_member(leaf: int) -> None:  # 6.3.2-2
    scene = Scene()
    content = application(scene.alice, scene.alice_person)
    data = bytes(Writer().u32(leaf).u32(0).opaque(bytes(4)))
    assert scene.bob.public.tree.leaf(LeafIndex(leaf)) is None
    wrong = sealed_private(scene.alice, content, sender_data=lambda _: data)
    scene.refuse("application", wrong, f"no member at leaf {leaf}")
    scene.bob.decrypt(sealed_private(scene.alice, content))


@pytest.mark.parametrize("length", [0, 11, 13])
def test_sender_data_have_their_length(length: int) -> None:
    scene = Scene()
    content = application(scene.alice, scene.alice_person)
    wrong = sealed_private(scene.alice, content, sender_data=lambda data: (data + b"\x00")[:length])
    scene.refuse("application", wrong, "message", DecodeError)


# ---- standalone proposals (12.1)


@pytest.mark.parametrize("wire_format", [WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE])
def test_a_proposal_is_checked_before_it_is_remembered(wire_format: WireFormat) -> None:  # 12.1-1
    scene = Scene()
    content = Remove(scene.mallory.own_leaf)

    def made(**changes: Any) -> bytes:
        return forge.proposal(scene.alice, scene.alice_person, content, wire_format=wire_format, **changes)

    scene.refuse("proposal", made(epoch=0), "epoch 0", WrongEpoch)
    scene.refuse("proposal", made(epoch=2), "epoch 2", WrongEpoch)
    scene.refuse("proposal", made(group_id=b"elsewhere"), "another group", WrongEpoch)
    by_mallory = forge.proposal(scene.alice, scene.mallory_person, content, wire_format=wire_format)
    scene.refuse("proposal", by_mallory, "signature")
    scene.bob.receive_proposal(made())
    assert len(scene.bob.public.proposals) == 1
