"""Fuzz targets of the MLS engine: every decoder, and the doors behind them with a live group inside.

Three kinds. A decoder gets the bytes as they are. An altered message is a genuine one to which the bytes are a list
of edits, so that a kept input means the same whatever keys a run has made. A sealed message has the bytes inside
signature, tag and encryption, which are made right around them: what a malicious member can send.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from securechat import mls
from securechat.errors import DecodeError, PeerError, UsageError
from securechat.mls.commit import Commit, UpdatePath
from securechat.mls.credential import Credential, CredentialType
from securechat.mls.crypto.secret import Secret
from securechat.mls.extensions import (
    Extension,
    ExtensionType,
    ExternalSender,
    RequiredCapabilities,
    external_pub,
    external_senders,
    required_capabilities,
)
from securechat.mls.framing import (
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
    decode_body,
    read_header,
)
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.key_schedule import JoinerSecret
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
)
from securechat.mls.public_group import PublicGroup, PublicStagedCommit, verify_group_info
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.resumption import PastEpoch
from securechat.mls.secret_tree import SecretTree
from securechat.mls.tree_validation import verify_tree
from securechat.mls.treekem import TreePrivateKeys
from securechat.tlscodec import Reader, Struct, Writer
from tests.fuzz.registry import Target
from tests.mls import forge
from tests.mls.support import (
    EXTENSIONS,
    NOW,
    SUITE,
    Person,
    anyone,
    commit,
    group_of,
    objects_in,
    stage,
    state,
)

# ---- decoders


def structures() -> dict[str, type[Struct]]:
    """Every structure of the engine, by name."""
    for module in pkgutil.walk_packages(mls.__path__, "securechat.mls."):
        importlib.import_module(module.name)

    def below(kind: Any) -> Iterator[type[Struct]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    ours = {kind.__name__: kind for kind in below(Struct) if kind.__module__.startswith("securechat.mls.")}
    # The kinds of proposal have one decoder together: Proposal's.
    return {name: kind for name, kind in ours.items() if name == "Proposal" or not issubclass(kind, Proposal)}


SAVED: set[type[Struct]] = {PastEpoch, PublicGroup, PublicStagedCommit, SecretTree, TreePrivateKeys}
"""Only we read what we saved, and nothing is signed or hashed over it: an odd encoding of it does no harm."""


def decoder(kind: type[Struct]) -> Target:
    """What decodes encodes again to the same bytes, and shows itself; everything else is a `DecodeError`."""

    def target(data: bytes) -> None:
        try:
            value = kind.decode(data)
        except DecodeError:
            return
        again = value.encode()
        if kind in SAVED:
            assert kind.decode(again).encode() == again
        else:
            assert again == data
        repr(value)

    return target


def header(data: bytes) -> None:
    """A header says what the message behind it says."""
    try:
        front = read_header(data)
        body = MLSMessage.decode(data).body
    except DecodeError:
        return
    framed = body.content if isinstance(body, PublicMessage) else body
    assert isinstance(framed, FramedContent | PrivateMessage)
    assert front.group_id == framed.group_id
    assert (front.epoch, front.content_type) == (framed.epoch, framed.content_type)
    assert front.authenticated_data == framed.authenticated_data


def extension_data(data: bytes) -> None:
    """The insides of the extensions that the RFC defines."""
    for kind, read in (
        (ExtensionType.EXTERNAL_PUB, external_pub),
        (ExtensionType.EXTERNAL_SENDERS, external_senders),
        (ExtensionType.REQUIRED_CAPABILITIES, required_capabilities),
    ):
        try:
            read((Extension(kind, data),))
        except DecodeError:
            continue


# ---- a live group


class Scene(NamedTuple):
    """Alice and Bob in a group, Carol who is being added; alice's side makes messages, bob's receives them."""

    alice_person: Person
    alice: Group
    bob_person: Person
    bob: Group
    carol: Person
    bundle: KeyPackageBundle
    adding: StagedCommit
    """Alice's commit that adds carol."""
    application: bytes
    proposal: bytes
    group_info: bytes


@cache
def scene() -> Scene:
    """One group for the whole run: no target changes it."""
    (alice_person, alice), (bob_person, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    adding = commit(alice, Add(bundle.key_package), authenticated_data=b"data")
    application = alice.encrypt(b"a message", authenticated_data=b"data", padding=3)
    proposal = forge.proposal(alice, alice_person, Remove(bob.own_leaf))
    return Scene(
        alice_person,
        alice,
        bob_person,
        bob,
        carol,
        bundle,
        adding,
        application,
        proposal,
        alice.group_info(with_tree=True),
    )


def edited(genuine: bytes, script: bytes) -> bytes:
    """`genuine` after the edits in a script, each `position[2] || deleted[1] || length[1] || inserted[length]`."""
    position = 0
    while position + 4 <= len(script):
        at = int.from_bytes(script[position : position + 2], "big") % (len(genuine) + 1)
        deleted, length = script[position + 2 : position + 4]
        inserted = script[position + 4 : position + 4 + length]
        genuine = genuine[:at] + inserted + genuine[at + deleted :]
        position += 4 + length
    return genuine


def unchanged(receiver: Group, use: Callable[[], object]) -> object:
    """What `use` gives, or None if it refuses with a `PeerError`, which must leave the receiver as it was."""
    before = state(receiver)
    try:
        return use()
    except PeerError:
        assert state(receiver) == before
        return None


def restored(person: Person, receiver: Group, use: Callable[[Group], object]) -> object:
    """`unchanged` on a copy: what the message changes is forgotten."""
    copy = Group.load(*state(receiver), person.keys)
    return unchanged(copy, lambda: use(copy))


def altered_application(script: bytes) -> None:
    """Only the genuine application message opens."""
    here = scene()
    message = edited(here.application, script)
    opened = restored(here.bob_person, here.bob, lambda bob: bob.decrypt(message))
    assert (opened is not None) == (message == here.application)


def altered_proposal(script: bytes) -> None:
    """Only the genuine proposal is remembered."""
    here = scene()
    message = edited(here.proposal, script)
    seen = restored(here.bob_person, here.bob, lambda bob: bob.receive_proposal(message))
    assert (seen is not None) == (message == here.proposal)


def altered_commit(script: bytes) -> None:
    """Only the genuine commit is taken, by a member; the public view knows no tags, and may end otherwise."""
    here = scene()
    message = edited(here.adding.message, script)
    staged = unchanged(here.bob, lambda: stage(here.bob, message))
    assert (staged is not None) == (message == here.adding.message)
    try:
        public = decode_body(message, PublicMessage)
        here.bob.public.stage(public, validate=anyone, now=NOW)
    except PeerError:
        return


def altered_welcome(script: bytes) -> None:
    """A Welcome leads into the one group or is refused; entries for others may be anything."""
    here = scene()
    assert here.adding.welcome is not None
    assert here.adding.group is not None
    message = edited(here.adding.welcome, script)
    try:
        joined = here.carol.join(message, here.bundle)
    except PeerError:
        assert message != here.adding.welcome
        return
    assert joined.epoch_authenticator == here.adding.group.epoch_authenticator


def altered_group_info(script: bytes) -> None:
    """Only the genuine GroupInfo lets anyone join."""
    here = scene()
    message = edited(here.group_info, script)
    try:
        here.carol.join_external(message, None)
    except PeerError:
        assert message != here.group_info
        return
    assert message == here.group_info


# ---- sealed messages


def sealed_plaintext(data: bytes) -> None:
    """A PrivateMessage with any plaintext inside its encryption."""
    here = scene()
    genuine = forge.application(here.alice, here.alice_person)
    for kind, receive in (
        (ContentType.APPLICATION, lambda bob, message: bob.decrypt(message)),
        (ContentType.PROPOSAL, lambda bob, message: bob.receive_proposal(message)),
        (ContentType.COMMIT, stage),
    ):
        message = forge.sealed_private(here.alice, genuine, plaintext=lambda _: data, content_type=kind)
        unchanged(here.bob, lambda: receive(here.bob, message))  # noqa: B023 - called at once


def sealed_sender_data(data: bytes) -> None:
    """A PrivateMessage with any sender data inside their encryption."""
    here = scene()
    genuine = forge.application(here.alice, here.alice_person)
    message = forge.sealed_private(here.alice, genuine, sender_data=lambda _: data)
    restored(here.bob_person, here.bob, lambda bob: bob.decrypt(message))


def sealed_proposal(data: bytes) -> None:
    """A proposal that a member signed; what is remembered must not stop a commit."""
    here = scene()
    try:
        proposal = Proposal.decode(data)
    except DecodeError:
        return
    message = forge.proposal(here.alice, here.alice_person, proposal)

    def receive(bob: Group) -> object:
        bob.receive_proposal(message)
        return commit(bob, psks=lambda _: b"secret")

    restored(here.bob_person, here.bob, receive)


def sealed_commit(data: bytes) -> None:
    """A commit that a member signed and tagged, with its leaf signed again so that what is behind it is reached."""
    here = scene()
    try:
        made = Commit.decode(data)
    except DecodeError:
        return
    if made.path is not None:
        sign = here.alice_person.signature.sign_with_label
        leaf = made.path.leaf_node.signed(sign, here.alice.group_id, here.alice.own_leaf)
        made = Commit(made.proposals, UpdatePath(leaf, made.path.nodes))
    framed = FramedContent(here.alice.group_id, here.alice.epoch, Sender.member(here.alice.own_leaf), b"", made)
    content = forge.signed(here.alice.public, here.alice_person, framed, WireFormat.PUBLIC_MESSAGE)
    message = forge.sealed_public(here.alice, content.with_confirmation_tag(bytes(SUITE.hash_size)))
    assert unchanged(here.bob, lambda: stage(here.bob, message)) is None, "the tag was zero"


def sealed_group_info(data: bytes) -> None:
    """A GroupInfo signed again by the member it names as signer, if that is alice."""
    here = scene()
    try:
        info = GroupInfo.decode(data).signed(here.alice_person.signature.sign_with_label)
        here.carol.join_external(MLSMessage(info).encode(), None)
    except PeerError:
        return
    try:
        verify_group_info(here.alice.public, info, signer=here.alice.own_leaf)
    except PeerError:
        return


def sealed_tree(data: bytes) -> None:
    """A tree for which a member vouches."""
    context = scene().alice.public.context
    try:
        tree = RatchetTree.decode(data)
        verify_tree(SUITE, tree, context.group_id, EXTENSIONS, validate=anyone, now=NOW)
    except PeerError:
        return


def sealed_key_package(data: bytes) -> None:
    """A key package that its owner signed, added by a member who does not look."""
    here = scene()
    try:
        decoded = KeyPackage.decode(data)
        package = forge.forged_key_package(here.carol, package=lambda _: decoded)
        package.verify(SUITE, EXTENSIONS, validate=anyone, now=NOW)
    except PeerError:
        return
    commit(here.alice, Add(package))


# ---- saved states


def saved_group(data: bytes) -> None:
    """A saved group loads and saves again, or is refused."""
    here = scene()
    reader = Reader(data)
    try:
        public, secret = reader.vector(), reader.vector()
        loaded = Group.load(public, secret, here.bob_person.keys)
    except (DecodeError, UsageError):
        return
    assert Group.load(*state(loaded), here.bob_person.keys).epoch == loaded.epoch


def saved_commit(data: bytes) -> None:
    """A staged commit loads and saves again, or is refused."""
    try:
        staged = StagedCommit.decode(data, scene().alice_person.keys)
    except (DecodeError, UsageError):
        return
    assert StagedCommit.decode(staged.encode(), scene().alice_person.keys).message == staged.message


TARGETS: dict[str, Target] = {
    **{f"decode_{name}": decoder(kind) for name, kind in structures().items()},
    "header": header,
    "extension_data": extension_data,
    "altered_application": altered_application,
    "altered_proposal": altered_proposal,
    "altered_commit": altered_commit,
    "altered_welcome": altered_welcome,
    "altered_group_info": altered_group_info,
    "sealed_plaintext": sealed_plaintext,
    "sealed_sender_data": sealed_sender_data,
    "sealed_proposal": sealed_proposal,
    "sealed_commit": sealed_commit,
    "sealed_group_info": sealed_group_info,
    "sealed_tree": sealed_tree,
    "sealed_key_package": sealed_key_package,
    "saved_group": saved_group,
    "saved_commit": saved_commit,
}


def seeds() -> dict[str, list[bytes]]:
    """Genuine encodings of everything in the scene."""
    here = scene()
    assert here.adding.welcome is not None
    messages = [here.application, here.proposal, here.adding.message, here.adding.welcome, here.group_info]
    messages.append(MLSMessage(here.bundle.key_package).encode())
    proposal = decode_body(here.proposal, PublicMessage)
    psk = PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name")
    x509 = Credential(CredentialType.X509, certificates=(b"certificate",))
    others = [
        PreSharedKey(psk),
        ReInit(b"new", 1, 1, EXTENSIONS),
        ExternalInit(bytes(32)),
        GroupContextExtensions(EXTENSIONS),
        GroupSecrets(JoinerSecret(bytes(32)), Secret(bytes(32)), (psk,)),
        RequiredCapabilities((1, 2), (3,), (4,)),
        ExternalSender(bytes(32), x509),
        here.bob.public.with_proposal(here.bob.public.verify_proposal(proposal)),
        proposal.authenticated_content,
        PastEpoch.of(here.bob),
        replace(PastEpoch.of(here.bob), public=replace(here.bob.public, reinit=ReInit(b"new", 1, 1, EXTENSIONS))),
    ]
    roots = [here, others, [MLSMessage.decode(message) for message in messages]]
    found: dict[str, list[bytes]] = {name: [] for name in TARGETS}
    for item in objects_in(roots):
        if isinstance(item, Struct):
            kind = Proposal if isinstance(item, Proposal) else type(item)
            found[f"decode_{kind.__name__}"].append(item.encode())
    found["header"] = messages[:3]
    found["extension_data"] = [
        bytes(Writer().vector(bytes(32))),
        bytes(Writer().structs([ExternalSender(bytes(32), x509)])),
        RequiredCapabilities((1, 2), (3,), (4,)).encode(),
    ]
    for name in TARGETS:
        if name.startswith("altered_"):
            found[name] = [b"", bytes([0, 9, 1, 1, 0xFF])]
    staged_commit = decode_body(here.adding.message, PublicMessage).content.content
    assert isinstance(staged_commit, Commit)
    found["sealed_commit"] = [staged_commit.encode(), Commit((), staged_commit.path).encode()]
    found["sealed_proposal"] = found["decode_Proposal"]
    found["sealed_group_info"] = [decode_body(here.group_info, GroupInfo).encode()]
    found["sealed_tree"] = [here.alice.public.tree.encode()]
    found["sealed_key_package"] = [here.bundle.key_package.encode()]
    found["sealed_sender_data"] = [bytes(12)]
    found["sealed_plaintext"] = [bytes(Writer().vector(b"text").vector(bytes(64)))]
    public, secret = state(here.bob)
    found["saved_group"] = [bytes(Writer().vector(public).vector(secret))]
    found["saved_commit"] = [here.adding.encode()]
    return found
