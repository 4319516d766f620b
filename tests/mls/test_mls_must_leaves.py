"""What makes leaves and key packages invalid (RFC 9420, sections 7.3 and 10), wherever they come in; see `rules`.

Every leaf is broken in one way at each of the four doors: an Add, an Update, a commit's path, and the tree that a
joiner is given. The same leaf with nothing wrong comes in by the same door.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from securechat.errors import DecodeError, PeerError
from securechat.mls.credential import Credential, CredentialType
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.errors import InvalidMessage, OutsideLifetime
from securechat.mls.extensions import Extension, ExtensionType, ExternalSender, RequiredCapabilities
from securechat.mls.framing import MLSMessage, PublicMessage, decode_body
from securechat.mls.group import Group
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.leaf_node import CredentialValidator, LeafNode, LeafNodeSource, Lifetime
from securechat.mls.proposals import Add, Update
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import node_of
from tests.mls import forge
from tests.mls.forge import forged_commit, forged_key_package, same
from tests.mls.support import (
    CAPABILITIES,
    EXTENSIONS,
    NOW,
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


def fresh_key() -> bytes:
    return HpkePrivateKey.generate(SUITE).public_key


X509 = Credential(CredentialType.X509, certificates=(b"certificate",))
NEEDED_EXTENSION, NEEDED_PROPOSAL = 0xF002, 0xF003
ABLE = replace(
    CAPABILITIES,
    extensions=(*CAPABILITIES.extensions, NEEDED_EXTENSION),
    proposals=(NEEDED_PROPOSAL,),
    credentials=(CredentialType.BASIC, CredentialType.X509),
)
DEMANDS = Extension(
    ExtensionType.REQUIRED_CAPABILITIES,
    RequiredCapabilities((NEEDED_EXTENSION,), (NEEDED_PROPOSAL,), (CredentialType.X509,)).encode(),
)

Change = Callable[[LeafNode], LeafNode]


class Scene:
    """Alice, Bob and Carol in a group; Alice is malicious, or Bob is, or Dave, who is new."""

    def __init__(self, *, demanding: bool = False) -> None:
        capabilities = ABLE if demanding else CAPABILITIES
        extensions = (*EXTENSIONS, DEMANDS) if demanding else EXTENSIONS
        (self.alice_person, self.alice), (self.bob_person, self.bob), (self.carol_person, self.carol) = group_of(
            "alice", "bob", "carol", capabilities=capabilities, extensions=extensions
        )
        self.dave = Person.named("dave", capabilities)


Attempt = Callable[[CredentialValidator], object]
Door = Callable[[Scene, Change, Change], list[Attempt]]
"""Lets a leaf in, changed before and after it is signed: what each of the receivers does."""


def judged(scene: Scene, message: bytes) -> list[Attempt]:
    """Carol and the public view judge a commit."""
    public = decode_body(message, PublicMessage)
    return [
        lambda validate: scene.carol.stage(message, validate=validate, now=NOW),
        lambda validate: scene.carol.public.stage(public, validate=validate, now=NOW),
    ]


def in_an_add(scene: Scene, leaf: Change, signed_leaf: Change) -> list[Attempt]:
    package = forged_key_package(scene.dave, leaf=leaf, signed_leaf=signed_leaf)
    return judged(scene, forged_commit(scene.alice, scene.alice_person, [Add(package)]).message)


def updated_leaf(scene: Scene, leaf: Change, signed_leaf: Change) -> LeafNode:
    """Bob's leaf, as he would update it."""
    old = scene.bob.public.member(scene.bob.own_leaf)
    unsigned = leaf(replace(old, encryption_key=fresh_key(), source=LeafNodeSource.UPDATE, lifetime=None))
    sign = scene.bob_person.signature.sign_with_label
    return signed_leaf(unsigned.signed(sign, scene.bob.group_id, scene.bob.own_leaf))


def in_an_update(scene: Scene, leaf: Change, signed_leaf: Change) -> list[Attempt]:
    updated = updated_leaf(scene, leaf, signed_leaf)
    message = forge.proposal(scene.bob, scene.bob_person, Update(updated))
    for member in (scene.alice, scene.carol):
        member.receive_proposal(message)
    (reference,) = scene.alice.public.proposals
    try:
        SUITE.kem.check_public_key(updated.encryption_key)
    except InvalidMessage:  # nothing can be encrypted to a bad key: alice encrypts her path to another
        updated = replace(updated, encryption_key=fresh_key())
    tree = {node_of(scene.bob.own_leaf): updated}
    made = forged_commit(scene.alice, scene.alice_person, [reference], tree=lambda before: before.replace(tree))
    return judged(scene, made.message)


def in_a_path(scene: Scene, leaf: Change, signed_leaf: Change) -> list[Attempt]:
    return judged(scene, forged_commit(scene.alice, scene.alice_person, leaf=leaf, signed_leaf=signed_leaf).message)


def in_a_tree(scene: Scene, leaf: Change, signed_leaf: Change) -> list[Attempt]:
    """A joiner judges a tree with Bob's leaf in it, for which Alice vouches."""
    tree = scene.alice.public.tree.update_leaf(scene.bob.own_leaf, updated_leaf(scene, leaf, signed_leaf))
    context = replace(scene.alice.public.context, tree_hash=tree.tree_hash(SUITE))
    unsigned = GroupInfo(context, (), bytes(SUITE.hash_size), scene.alice.own_leaf)
    info = unsigned.signed(scene.alice_person.signature.sign_with_label)
    return [lambda validate: PublicGroup.from_group_info(info, tree, validate=validate, now=NOW)]


DOORS: dict[str, Door] = {
    "add": in_an_add,
    "update": in_an_update,
    "path": in_a_path,
    "tree": in_a_tree,
}


@dataclass(frozen=True)
class Case:
    """One thing wrong with a leaf."""

    number: str
    reason: str
    leaf: Callable[[LeafNode, Scene], LeafNode] = lambda leaf, _: leaf
    signed_leaf: Callable[[LeafNode, Scene], LeafNode] = lambda leaf, _: leaf
    doors: tuple[str, ...] = tuple(DOORS)
    demanding: bool = False
    reasons: tuple[tuple[str, str], ...] = ()
    """Doors at which another check comes first."""

    def reason_at(self, door: str) -> str:
        return dict(self.reasons).get(door, self.reason)


def able(**changes: object) -> Callable[[LeafNode, Scene], LeafNode]:
    """The leaf with other capabilities."""
    return lambda leaf, _: replace(leaf, capabilities=replace(leaf.capabilities, **changes))  # type: ignore[arg-type]  # fields of capabilities


def with_(**changes: object) -> Callable[[LeafNode, Scene], LeafNode]:
    return lambda leaf, _: replace(leaf, **changes)  # type: ignore[arg-type]  # fields of a leaf


def key_of(name: str, field: str) -> Callable[[LeafNode, Scene], LeafNode]:
    """The leaf with the key of a member."""

    def change(leaf: LeafNode, scene: Scene) -> LeafNode:
        group: Group = getattr(scene, name)
        return replace(leaf, **{field: getattr(group.public.member(group.own_leaf), field)})

    return change


def signed_with_the_key_of_carol(leaf: LeafNode, scene: Scene) -> LeafNode:
    """Carol helps another to use her signature key."""
    place = scene.alice.own_leaf if leaf.source == LeafNodeSource.COMMIT else scene.bob.own_leaf
    return leaf.signed(scene.carol_person.signature.sign_with_label, scene.alice.group_id, place)


CASES = {
    "signature zero": Case("7.3-2", "signature", signed_leaf=with_(signature=bytes(64))),
    "signature cut short": Case(
        "7.3-2", "signature", signed_leaf=lambda leaf, _: replace(leaf, signature=leaf.signature[:63])
    ),
    "changed after signing": Case("7.3-2", "signature", signed_leaf=able(extensions=(0xF001, 0xF00A))),
    "signed for another group": Case(
        "7.3-2",
        "signature",
        signed_leaf=lambda leaf, scene: leaf.signed(
            scene.bob_person.signature.sign_with_label, b"elsewhere", scene.bob.own_leaf
        ),
        doors=("update", "tree"),
    ),
    "signed for another place": Case(
        "7.3-2",
        "signature",
        signed_leaf=lambda leaf, scene: leaf.signed(
            scene.bob_person.signature.sign_with_label, scene.bob.group_id, scene.carol.own_leaf
        ),
        doors=("update", "tree"),
    ),
    "version not supported": Case("7.3-3", "version or cipher suite", able(versions=(2,))),
    "suite not supported": Case("7.3-3", "version or cipher suite", able(cipher_suites=(3,))),
    "group context extension not supported": Case("7.3-3", "extension of the group context", able(extensions=())),
    "required extension not supported": Case(
        "7.3-3", "what the group requires", able(extensions=CAPABILITIES.extensions), demanding=True
    ),
    "required proposal not supported": Case("7.3-3", "what the group requires", able(proposals=()), demanding=True),
    "required credential not supported": Case(
        "7.3-3", "what the group requires", able(credentials=(1,)), demanding=True
    ),
    "credential type that others do not support": Case(
        "7.3-4",
        "credential type of another",
        lambda leaf, _: replace(leaf, credential=X509, capabilities=replace(leaf.capabilities, credentials=(1, 2))),
    ),
    "credential type of others not supported": Case(
        "7.3-4",
        "credential type of another",
        lambda leaf, _: replace(leaf, credential=X509, capabilities=replace(leaf.capabilities, credentials=(2,))),
        demanding=True,
    ),
    "own extension not supported": Case("7.3-6", "own extensions", with_(extensions=(Extension(0xF0F0, b""),))),
    "own credential type not supported": Case(
        "7.3-6", "own credential", able(credentials=(2,)), reasons=(("tree", "credential type of another"),)
    ),
    "signature key of another": Case(
        "7.3-10",
        "same signature key",
        key_of("carol", "signature_key"),
        signed_with_the_key_of_carol,
        ("update", "path", "tree"),
    ),
    "encryption key of another": Case(
        "7.3-11", "same encryption key", key_of("carol", "encryption_key"), reasons=(("path", "again"),)
    ),
    "encryption key of small order": Case("10-3", "small order", with_(encryption_key=bytes(32))),
    "encryption key cut short": Case("10-3", "31 bytes long", with_(encryption_key=bytes(31))),
    "encryption key in a second form": Case(
        "10-3",
        "canonical",
        lambda leaf, _: replace(
            leaf, encryption_key=leaf.encryption_key[:31] + bytes([leaf.encryption_key[31] | 0x80])
        ),
    ),
    "signature key of small order": Case("10-3", "small order", with_(signature_key=bytes([1, *[0] * 31]))),
    "signature key in a second form": Case("10-3", "canonical", with_(signature_key=bytes([0xEE, *[0xFF] * 30, 0x7F]))),
    "signature key cut short": Case("10-3", "31 bytes long", with_(signature_key=bytes(31))),
}


@pytest.mark.parametrize(("name", "door"), [(name, door) for name, case in CASES.items() for door in case.doors])
def test_a_leaf_with_one_thing_wrong_is_refused_at_every_door(name: str, door: str) -> None:
    case = CASES[name]
    scene = Scene(demanding=case.demanding)
    attempts = DOORS[door](scene, lambda leaf: case.leaf(leaf, scene), lambda leaf: case.signed_leaf(leaf, scene))
    before = state(scene.carol)
    for attempt in attempts:
        with pytest.raises(InvalidMessage, match=case.reason_at(door)):
            attempt(anyone)
    assert state(scene.carol) == before


@pytest.mark.parametrize("demanding", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_the_same_leaf_with_nothing_wrong_comes_in(door: str, *, demanding: bool) -> None:
    for attempt in DOORS[door](Scene(demanding=demanding), same, same):
        attempt(anyone)


class RefusedHereError(PeerError):
    """Told apart from the engine's own errors."""


@pytest.mark.parametrize("door", DOORS)
def test_the_application_judges_the_credential_at_every_door(door: str) -> None:  # 7.3-1
    def not_mallory(leaf: LeafNode | ExternalSender, /, *, entering: bool) -> None:
        if leaf.credential.identity == b"mallory":
            raise RefusedHereError("enters" if entering else "is there")

    scene = Scene()
    for attempt in DOORS[door](scene, lambda leaf: replace(leaf, credential=Credential.basic(b"mallory")), same):
        with pytest.raises(RefusedHereError, match="is there" if door == "tree" else "enters"):
            attempt(not_mallory)
    for attempt in DOORS[door](Scene(), same, same):
        attempt(not_mallory)


def test_the_application_judges_what_is_sent_and_who_joins_too() -> None:  # 7.3-1
    def not_mallory(leaf: LeafNode | ExternalSender, /, *, entering: bool) -> None:  # noqa: ARG001 - refused whatever it does
        if leaf.credential.identity == b"mallory":
            raise RefusedHereError

    scene, mallory = Scene(), Person.named("mallory")
    add = Add(mallory.key_package().key_package)
    external = mallory.join_external(scene.alice.group_info(with_tree=True), None)
    with pytest.raises(RefusedHereError):
        commit(scene.alice, add, validate=not_mallory)
    with pytest.raises(RefusedHereError):
        commit(scene.alice, credential=mallory.credential, validate=not_mallory)
    with pytest.raises(RefusedHereError):
        scene.bob.stage(external.message, validate=not_mallory, now=NOW)
    assert same_view(external.group, stage(scene.bob, external.message).group)


# ---- key packages


BAD_KEY_PACKAGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "expired": ("7.3-5", "expired", {"leaf": lambda leaf: replace(leaf, lifetime=Lifetime(0, NOW - 1))}),
    "not valid yet": ("7.3-5", "expired", {"leaf": lambda leaf: replace(leaf, lifetime=Lifetime(NOW + 1, NOW + 9))}),
    "of negative lifetime": (
        "7.3-5",
        "expired",
        {"leaf": lambda leaf: replace(leaf, lifetime=Lifetime(NOW + 1, NOW - 1))},
    ),
    "from an update": (
        "7.3-7",
        "does not come from a key package",
        {"leaf": lambda leaf: replace(leaf, source=LeafNodeSource.UPDATE, lifetime=None)},
    ),
    "from a commit": (
        "7.3-7",
        "does not come from a key package",
        {"leaf": lambda leaf: replace(leaf, source=LeafNodeSource.COMMIT, lifetime=None)},
    ),
    "init key of small order": (
        "10-1",
        "small order",
        {"package": lambda package: replace(package, init_key=bytes(32))},
    ),
    "init key cut short": (
        "10-1",
        "31 bytes",
        {"package": lambda package: replace(package, init_key=package.init_key[1:])},
    ),
    "no init key": ("10-1", "0 bytes", {"package": lambda package: replace(package, init_key=b"")}),
    "changed after signing": (
        "10-4",
        "signature",
        {"signed_package": lambda package: replace(package, init_key=fresh_key())},
    ),
    "signature zero": ("10-4", "signature", {"signed_package": lambda package: replace(package, signature=bytes(64))}),
    "signature cut short": (
        "10-4",
        "signature",
        {"signed_package": lambda package: replace(package, signature=package.signature[:63])},
    ),
    "extension not supported": (
        "10-6",
        "capabilities lack",
        {"package": lambda package: replace(package, extensions=(Extension(0xF0F0, b""),))},
    ),
    "other suite": ("10.1-1", "cipher suite", {"package": lambda package: replace(package, cipher_suite=3)}),
    "other version": ("10.1-1", "version", {"package": lambda package: replace(package, version=2)}),
    "one key for both": (
        "10.1-3",
        "two purposes",
        {"package": lambda package: replace(package, init_key=package.leaf_node.encryption_key)},
    ),
}


@pytest.mark.parametrize("name", BAD_KEY_PACKAGES)
def test_a_bad_key_package_is_not_added_and_not_taken(name: str) -> None:  # 10.1-2, 12.1.1-1
    scene = Scene()
    _, reason, hooks = BAD_KEY_PACKAGES[name]
    error = OutsideLifetime if reason == "expired" else InvalidMessage
    bad = Add(forged_key_package(scene.dave, **hooks))
    refused(scene.bob, forged_commit(scene.alice, scene.alice_person, [bad]).message, reason, error)
    with pytest.raises(error, match=reason):
        commit(scene.alice, bad)
    staged = commit(scene.alice, Add(forged_key_package(scene.dave)))
    assert same_view(staged.group, stage(scene.bob, staged.message).group)


def test_a_key_package_with_the_signature_key_of_a_member_is_refused() -> None:  # 7.3-10
    scene = Scene()
    again = Add(scene.bob_person.key_package().key_package)
    refused(scene.carol, forged_commit(scene.alice, scene.alice_person, [again]).message, "same signature key")


def test_each_key_package_has_fresh_keys() -> None:  # 10-2
    person = Person.named("dave")
    packages = [person.key_package().key_package for _ in range(4)]
    assert len({key for package in packages for key in (package.init_key, package.leaf_node.encryption_key)}) == 8


def test_unknown_extensions_of_a_key_package_are_ignored() -> None:  # 10-7
    scene = Scene()
    able = replace(CAPABILITIES, extensions=(*CAPABILITIES.extensions, 0x0A0A))
    noisy = forged_key_package(
        scene.dave,
        leaf=lambda leaf: replace(leaf, capabilities=able),
        package=lambda package: replace(package, extensions=(Extension(0x0A0A, b"noise"),)),
    )
    staged = commit(scene.alice, Add(noisy))
    assert same_view(staged.group, stage(scene.bob, staged.message).group)


def test_a_key_package_of_another_version_than_its_message_does_not_decode() -> None:  # 10-5
    package = Person.named("dave").key_package().key_package
    assert decode_body(MLSMessage(package).encode(), KeyPackage) == package
    with pytest.raises(DecodeError, match="version"):
        MLSMessage.decode(MLSMessage(replace(package, version=2)).encode())


# ---- what each door asks of the leaf's source and key


@pytest.mark.parametrize("source", [LeafNodeSource.COMMIT, LeafNodeSource.KEY_PACKAGE])
def test_the_leaf_of_an_update_comes_from_an_update(source: LeafNodeSource) -> None:  # 7.3-8, 12.1.2-1
    scene = Scene()
    lifetime = Lifetime(NOW - 1, NOW + 1) if source == LeafNodeSource.KEY_PACKAGE else None
    for attempt in in_an_update(scene, lambda leaf: replace(leaf, source=source, lifetime=lifetime), same):
        with pytest.raises(InvalidMessage, match="does not come from an update"):
            attempt(anyone)


def test_an_update_changes_the_encryption_key() -> None:  # 7.3-8, 12.1.2-1
    scene = Scene()
    old = scene.bob.public.member(scene.bob.own_leaf).encryption_key
    for attempt in in_an_update(scene, lambda leaf: replace(leaf, encryption_key=old), same):
        with pytest.raises(InvalidMessage, match="does not change the leaf's encryption key"):
            attempt(anyone)


@pytest.mark.parametrize("source", [LeafNodeSource.UPDATE, LeafNodeSource.KEY_PACKAGE])
def test_the_leaf_of_a_path_comes_from_a_commit(source: LeafNodeSource) -> None:  # 7.3-9
    scene = Scene()
    lifetime = Lifetime(NOW - 1, NOW + 1) if source == LeafNodeSource.KEY_PACKAGE else None
    other = {"source": source, "lifetime": lifetime, "parent_hash": b""}
    for attempt in in_a_path(scene, lambda leaf: replace(leaf, **other), same):  # type: ignore[arg-type]  # fields of a leaf
        with pytest.raises(InvalidMessage, match="does not come from a commit"):
            attempt(anyone)


def test_a_joiner_refuses_a_member_from_the_future_and_takes_one_that_has_expired() -> None:  # 7.3-5
    scene = Scene()

    def lives(lifetime: Lifetime) -> Change:
        return lambda leaf: replace(leaf, source=LeafNodeSource.KEY_PACKAGE, lifetime=lifetime)

    (attempt,) = in_a_tree(scene, lives(Lifetime(NOW + 1, NOW + 9)), same)
    with pytest.raises(OutsideLifetime):
        attempt(anyone)
    (attempt,) = in_a_tree(scene, lives(Lifetime(NOW - 9, NOW - 1)), same)
    attempt(anyone)
