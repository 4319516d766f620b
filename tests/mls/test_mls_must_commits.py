"""Each rule for proposals, commits and trees (RFC 9420, sections 7.9 and 12), broken one at a time; see `rules`.

Every refused commit is a good one with one thing wrong, and is refused by a member and by the public view for
that reason; the state stays as it was, and the good commit is taken afterwards.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from securechat.errors import DecodeError, PeerError
from securechat.mls import parent_hash as parent_hashes
from securechat.mls import ratchet_tree
from securechat.mls.commit import Commit, UpdatePath
from securechat.mls.crypto import sealing
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.errors import InvalidMessage, WrongEpoch
from securechat.mls.extensions import Extension, ExtensionType, RequiredCapabilities
from securechat.mls.framing import (
    AuthenticatedContent,
    FramedContent,
    MLSMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    decode_body,
)
from securechat.mls.group import Group
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_schedule import psk_secret
from securechat.mls.leaf_node import LeafNode, LeafNodeSource
from securechat.mls.message_protection import protect_private
from securechat.mls.parent_hash import parent_hash, set_path_keys, verify_parent_hashes
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
    ResumptionPskUsage,
    Update,
)
from securechat.mls.public_group import PublicGroup, verify_group_info
from securechat.mls.ratchet_tree import MAX_LEAVES, ParentNode, RatchetTree
from securechat.mls.tree_math import LeafIndex, NodeIndex, node_of
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Reader, Writer
from tests.mls import forge
from tests.mls.support import (
    CAPABILITIES,
    EXTENSIONS,
    NOW,
    RULES,
    SUITE,
    Person,
    anyone,
    commit,
    group_of,
    refused,
    refused_by_member,
    same_view,
    stage,
    state,
)

SMALL_ORDER = bytes(32)
FRESH = HpkePrivateKey.generate(SUITE).public_key


def forged_commit(*arguments: Any, **hooks: Any) -> bytes:
    return forge.forged_commit(*arguments, **hooks).message


def test_a_forged_commit_with_nothing_wrong_is_taken() -> None:
    (person, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    for wire_format in (WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE):
        forged = forge.forged_commit(alice, person, [Remove(carol.own_leaf)], wire_format=wire_format)
        after = stage(bob, forged.message).group
        assert after is not None
        assert after.epoch_authenticator == forged.secrets.epoch_authenticator


# ---- the list of proposals (section 12.2)

PSK = PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name")


def required(capabilities: RequiredCapabilities) -> Extension:
    return Extension(ExtensionType.REQUIRED_CAPABILITIES, capabilities.encode())


def bad_lists() -> dict[str, tuple[Callable[[Group, Group], list[Proposal]], str]]:
    """By name: proposals made for (committer, receiver), and why they are refused."""
    carol = Person.named("carol").key_package().key_package
    return {
        # 12.2-3
        "removes the committer": (lambda a, _: [Remove(a.own_leaf)], "removes its own committer"),
        # 12.1.3-1
        "removes nobody": (lambda *_: [Remove(LeafIndex(3))], "no member at leaf 3"),
        "removes beyond the tree": (lambda *_: [Remove(LeafIndex(2**32 - 1))], "no member"),
        # 12.2-4
        "removes twice": (lambda _, b: [Remove(b.own_leaf), Remove(b.own_leaf)], "one leaf twice"),
        # 12.2-2
        "updates the committer": (lambda a, _: [Update(a.public.member(a.own_leaf))], "own leaf"),
        # 12.2-5
        "adds one client twice": (lambda *_: [Add(carol), Add(carol)], "same signature key"),
        # 12.2-10, 12.4.3.2-5
        "external init": (lambda *_: [ExternalInit(FRESH)], "ExternalInit"),
        # 12.2-9
        "reinit and another": (lambda _, b: [ReInit(b"new", 1, 1, ()), Remove(b.own_leaf)], "together with"),
        "two reinits": (lambda *_: [ReInit(b"new", 1, 1, ()), ReInit(b"newer", 1, 1, ())], "together with"),
        # 12.1.5-1
        "reinit to an older version": (lambda *_: [ReInit(b"new", 0, 1, ())], "lowers the protocol version"),
        # 12.2-8
        "two new rules": (
            lambda *_: [GroupContextExtensions(EXTENSIONS), GroupContextExtensions(EXTENSIONS)],
            "extensions twice",
        ),
        "rules nobody knows": (
            lambda *_: [GroupContextExtensions((Extension(0xF0F0, b""),))],
            "extension of the group context",
        ),
        # 12.1.7-1
        "extensions nobody has": (
            lambda *_: [GroupContextExtensions((required(RequiredCapabilities((0xF0F0,))),))],
            "what the group requires",
        ),
        "proposals nobody has": (
            lambda *_: [GroupContextExtensions((required(RequiredCapabilities((), (0xF0F0,))),))],
            "what the group requires",
        ),
        "credentials nobody has": (
            lambda *_: [GroupContextExtensions((required(RequiredCapabilities((), (), (2,))),))],
            "what the group requires",
        ),
        # 12.2-7
        "one key twice": (lambda *_: [PreSharedKey(PSK), PreSharedKey(PSK)], "key twice"),
        # 12.1.4-3
        "short nonce": (lambda *_: [PreSharedKey(replace(PSK, nonce=bytes(31)))], "nonce"),
        # 12.1.4-2
        "key for new groups": (
            lambda a, _: [
                PreSharedKey(
                    PreSharedKeyId(
                        PskType.RESUMPTION,
                        bytes(32),
                        usage=ResumptionPskUsage.BRANCH,
                        group_id=a.group_id,
                        epoch=a.epoch,
                    )
                )
            ],
            "only for new groups",
        ),
        # 12.1.4-1
        "key for reinitialized groups": (
            lambda a, _: [
                PreSharedKey(
                    PreSharedKeyId(
                        PskType.RESUMPTION,
                        bytes(32),
                        usage=ResumptionPskUsage.REINIT,
                        group_id=a.group_id,
                        epoch=a.epoch,
                    )
                )
            ],
            "only for new groups",
        ),
    }


@pytest.mark.parametrize("name", bad_lists())
def test_a_commit_with_a_bad_list_of_proposals_is_refused_and_not_made(name: str) -> None:  # 12.2-1, 12.4-1
    (person, alice), (_, bob) = group_of("alice", "bob")
    make, reason = bad_lists()[name]
    proposals = make(alice, bob)
    refused(bob, forged_commit(alice, person, proposals), reason)
    with pytest.raises(InvalidMessage, match=reason):
        commit(alice, *proposals, psks=lambda _: b"secret")
    assert same_view(stage(bob, commit(alice).message).group)


def test_group_extensions_that_do_not_parse_are_refused() -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    for kind in (ExtensionType.EXTERNAL_SENDERS, ExtensionType.REQUIRED_CAPABILITIES):
        change = GroupContextExtensions((*EXTENSIONS, Extension(kind, b"x")))
        refused(bob, forged_commit(alice, person, [change]), "cut short", DecodeError)
        with pytest.raises(DecodeError, match="cut short"):
            commit(alice, change)
        with pytest.raises(DecodeError, match="cut short"):
            Group.create(b"new", person.key_package(), person.signature, extensions=change.extensions)


def test_a_commit_that_adds_someone_who_is_in_is_refused_unless_it_removes_the_old_place() -> None:  # 12.2-6
    (person, alice), (bob_person, bob), (_, carol) = group_of("alice", "bob", "carol")
    package = bob_person.key_package().key_package
    refused(carol, forged_commit(alice, person, [Add(package)]), "same signature key")
    staged = commit(alice, Add(package), Remove(bob.own_leaf))
    assert same_view(staged.group, stage(carol, staged.message).group)


def test_an_unknown_reference_is_refused() -> None:  # 12.4-3
    (person, alice), (_, bob) = group_of("alice", "bob")
    refused(bob, forged_commit(alice, person, [bytes(32)]), "not seen")


def test_a_reference_to_an_update_by_the_committer_is_refused() -> None:  # 12.2-2
    (person, alice), (_, bob) = group_of("alice", "bob")
    bob.receive_proposal(alice.propose_update())
    (reference,) = bob.public.proposals
    refused(bob, forged_commit(alice, person, [reference]), "own leaf")


# ---- the path (sections 7.3, 7.5, 7.9 and 12.4.2)


def with_node(path: UpdatePath, **changes: object) -> UpdatePath:
    """The path with its first node changed."""
    return replace(path, nodes=(replace(path.nodes[0], **changes), *path.nodes[1:]))  # type: ignore[arg-type]  # fields of a node


BAD_PATHS: dict[str, tuple[dict[str, object], str]] = {
    "leaf from an update": (
        {"leaf": lambda leaf: replace(leaf, source=LeafNodeSource.UPDATE, parent_hash=b"")},
        "does not come from a commit",
    ),
    "leaf changed": ({"signed_leaf": lambda leaf: replace(leaf, encryption_key=FRESH)}, "signature"),
    # 7.9-4
    "parent hash wrong": ({"leaf": lambda leaf: replace(leaf, parent_hash=bytes(32))}, "parent hash"),
    "small-order leaf key": ({"leaf": lambda leaf: replace(leaf, encryption_key=SMALL_ORDER)}, "small"),
    "capabilities dropped": (
        {"leaf": lambda leaf: replace(leaf, capabilities=replace(CAPABILITIES, extensions=()))},
        "extension of the group context",
    ),
    "node missing": ({"path": lambda path: replace(path, nodes=path.nodes[1:])}, "one key for each node"),
    "node too many": (
        {"path": lambda path: replace(path, nodes=(*path.nodes, path.nodes[-1]))},
        "one key for each node",
    ),
    "node key changed": ({"path": lambda path: with_node(path, encryption_key=FRESH)}, "parent hash"),
    "ciphertext missing": ({"path": lambda path: with_node(path, encrypted_path_secret=())}, "ciphertexts"),
    "ciphertext too many": (
        {"path": lambda path: with_node(path, encrypted_path_secret=path.nodes[0].encrypted_path_secret * 2)},
        "ciphertexts",
    ),
}


@pytest.mark.parametrize("name", BAD_PATHS)
def test_a_bad_path_is_refused(name: str) -> None:  # 12.4.2-5, 12.4.2-8
    (person, alice), (_, bob), (_, _) = group_of("alice", "bob", "carol")
    hooks, reason = BAD_PATHS[name]
    refused(bob, forged_commit(alice, person, **hooks), reason)
    assert stage(bob, commit(alice).message).group is not None


def with_encryption_key(key: bytes) -> Callable[[LeafNode], LeafNode]:
    return lambda leaf: replace(leaf, encryption_key=key)


def test_a_path_that_does_not_change_the_leaf_key_is_refused() -> None:  # 12.4.2-6
    (person, alice), (_, bob) = group_of("alice", "bob")
    old = alice.public.member(alice.own_leaf).encryption_key
    refused(bob, forged_commit(alice, person, leaf=with_encryption_key(old)), "again")


def test_a_path_with_the_key_of_another_member_or_node_is_refused() -> None:  # 12.4.2-7
    (person, alice), (_, bob) = group_of("alice", "bob")
    other = bob.public.member(bob.own_leaf)
    root = bob.public.tree.encryption_key(bob.public.tree.root)
    assert root is not None
    for key in (other.encryption_key, root):
        stolen = forged_commit(alice, person, leaf=with_encryption_key(key))
        refused(bob, stolen, "again")
    stolen = forged_commit(alice, person, signed_leaf=lambda leaf: replace(leaf, signature_key=other.signature_key))
    refused(bob, stolen, "signature")


def test_a_path_with_a_node_key_of_small_order_is_refused() -> None:  # 12.4.2-8
    (person, alice), (_, bob) = group_of("alice", "bob")
    _, parent_hash_above = set_path_keys(SUITE, alice.public.tree, alice.own_leaf, [SMALL_ORDER])

    def small(path: UpdatePath) -> UpdatePath:
        leaf = replace(path.leaf_node, parent_hash=parent_hash_above)
        signed = leaf.signed(person.signature.sign_with_label, alice.group_id, alice.own_leaf)
        return with_node(replace(path, leaf_node=signed), encryption_key=SMALL_ORDER)

    refused(bob, forged_commit(alice, person, path=small), "small order")
    assert stage(bob, commit(alice).message).group is not None


def test_a_path_that_brings_one_key_twice_is_refused() -> None:  # 7.3-11, 12.2-12
    (person, alice), (_, bob), _ = group_of("alice", "bob", "carol")

    def one_key(path: UpdatePath) -> UpdatePath:
        leaf = replace(path.leaf_node, encryption_key=path.nodes[0].encryption_key)
        signed = leaf.signed(person.signature.sign_with_label, alice.group_id, alice.own_leaf)
        return replace(path, leaf_node=signed)

    refused(bob, forged_commit(alice, person, path=one_key), "same encryption key")
    assert stage(bob, commit(alice).message).group is not None


def test_a_path_is_required_by_an_empty_commit_and_by_most_proposals() -> None:  # 12.4-2
    (person, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    message = carol.propose_update()
    for member in (alice, bob):
        member.receive_proposal(message)
    (update,) = carol.public.proposals
    for proposals in ([], [Remove(carol.own_leaf)], [GroupContextExtensions(EXTENSIONS)], [update]):
        refused(bob, forged_commit(alice, person, proposals, with_path=False), "lacks the path")
        assert stage(bob, forged_commit(alice, person, proposals)).group is not None
    added = Add(Person.named("dave").key_package().key_package)
    assert not stage(bob, forged_commit(alice, person, [added], with_path=False)).public.has_path


def test_a_path_whose_secrets_do_not_fit_its_keys_is_refused_by_members_only() -> None:  # 12.4.2-9
    (person, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")

    def swapped(path: UpdatePath) -> UpdatePath:
        sealed = path.nodes[0].encrypted_path_secret[0]
        broken = replace(sealed, ciphertext=sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1]))
        return with_node(path, encrypted_path_secret=(broken,))

    message = forged_commit(alice, person, path=swapped)
    bob.public.stage(decode_body(message, PublicMessage), validate=anyone, now=NOW)
    before = state(bob)
    with pytest.raises(InvalidMessage, match="cannot be opened"):
        stage(bob, message)
    assert state(bob) == before
    assert stage(carol, message).group is not None  # her ciphertext is another one


# ---- the message around it


def changed(**changes: object) -> Callable[[FramedContent], FramedContent]:
    return lambda content: replace(content, **changes)  # type: ignore[arg-type]  # fields of the content


@pytest.mark.parametrize(
    ("change", "reason", "error"),
    [
        (changed(group_id=b"elsewhere"), "another group", WrongEpoch),
        (changed(epoch=0), "epoch 0", WrongEpoch),
        (changed(epoch=2), "epoch 2", WrongEpoch),
        (changed(sender=Sender.member(LeafIndex(1))), "signature", InvalidMessage),
        (changed(sender=Sender.member(LeafIndex(3))), "no member", InvalidMessage),
        (changed(sender=Sender.member(LeafIndex(2**32 - 1))), "no member", InvalidMessage),
        (changed(content=Remove(LeafIndex(1))), "a commit was expected", InvalidMessage),
    ],
)
def test_a_commit_that_lies_about_group_epoch_sender_or_kind_is_refused(
    change: Callable[[FramedContent], FramedContent], reason: str, error: type[PeerError]
) -> None:  # 12.4.2-1
    (person, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    refused(carol, forged_commit(alice, person, content=change), reason, error)
    assert same_view(stage(carol, commit(alice).message).group)
    assert bob.own_leaf == 1


@pytest.mark.parametrize("kind", [SenderType.EXTERNAL, SenderType.NEW_MEMBER_PROPOSAL])
def test_a_commit_from_someone_who_may_not_commit_is_refused(kind: SenderType) -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    message = decode_body(forged_commit(alice, person), PublicMessage)
    outside = PublicMessage(replace(message.content, sender=Sender(kind)), message.auth, None)
    refused(bob, MLSMessage(outside).encode(), "may not send it")


def encrypted(group: Group, content: AuthenticatedContent) -> bytes:
    """The content as a PrivateMessage."""
    message, step = protect_private(SUITE, group._secrets.sender_data_secret, group._messages, content)
    group._messages.take(step)
    return MLSMessage(message).encode()


def test_a_commit_signed_to_be_public_does_not_pass_as_an_encrypted_one() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    public = decode_body(commit(alice).message, PublicMessage)
    resealed = AuthenticatedContent(WireFormat.PRIVATE_MESSAGE, public.content, public.auth)
    before = state(bob)
    with pytest.raises(InvalidMessage, match="signature"):
        stage(bob, encrypted(alice, resealed))
    assert state(bob) == before

    made = commit(alice, encrypt=True)
    message = made.message
    assert same_view(made.group, stage(bob, message).group, stage(carol, message).group)


# ---- external commits (sections 12.2 and 12.4.3.2)


def forged_external(
    alice: Group, change: Callable[[list[Proposal]], list[Proposal]], *, with_path: bool = True
) -> bytes:
    """An external commit with another list of proposals, signed by its maker."""
    carol = Person.named("carol")
    good = decode_body(carol.join_external(alice.group_info(with_tree=True), None).message, PublicMessage)
    made = good.content.content
    assert isinstance(made, Commit)
    proposals = [entry for entry in made.proposals if isinstance(entry, Proposal)]
    changed_commit = Commit(tuple(change(proposals)), made.path if with_path else None)
    content = replace(good.content, content=changed_commit)
    signed = AuthenticatedContent.sign(
        WireFormat.PUBLIC_MESSAGE, content, alice.public.context, carol.signature.sign_with_label
    )
    auth = replace(signed.auth, confirmation_tag=good.auth.confirmation_tag)
    return MLSMessage(PublicMessage(content, auth, None)).encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: [], "exactly one ExternalInit"),
        (lambda proposals: proposals * 2, "exactly one ExternalInit"),
        (
            lambda proposals: [*proposals, Add(Person.named("dave").key_package().key_package)],
            "not allowed there",
        ),
        (lambda proposals: [*proposals, GroupContextExtensions(())], "not allowed there"),
        (
            lambda proposals: [*proposals, Remove(LeafIndex(0)), Remove(LeafIndex(1))],
            "more than one member",
        ),
        (lambda proposals: [*proposals, Remove(LeafIndex(3))], "no member"),
        (lambda proposals: [*proposals, PreSharedKey(PSK), PreSharedKey(PSK)], "key twice"),
    ],
)
def test_an_external_commit_with_a_bad_list_is_refused(
    change: Callable[[list[Proposal]], list[Proposal]], reason: str
) -> None:  # 12.2-13, 12.2-14, 12.2-16
    (_, alice), (_, bob) = group_of("alice", "bob")
    refused(bob, forged_external(alice, change), reason)
    good = Person.named("carol").join_external(alice.group_info(with_tree=True), None)
    assert same_view(good.group, stage(bob, good.message).group)


def test_an_external_commit_without_a_path_or_by_reference_is_refused() -> None:  # 12.4.3.2-1, 12.4.3.2-2
    (_, alice), (_, bob) = group_of("alice", "bob")
    bob.receive_proposal(alice.propose(Remove(bob.own_leaf)))
    (reference,) = bob.public.proposals
    refused(bob, forged_external(alice, lambda proposals: proposals, with_path=False), "may not send it")
    by_reference = forged_external(alice, lambda proposals: [*proposals, reference])  # type: ignore[list-item]  # a reference where a proposal should be
    refused(bob, by_reference, "refers to a proposal")


def only(proposal: Proposal) -> Callable[[list[Proposal]], list[Proposal]]:
    return lambda _: [proposal]


def test_an_external_init_with_a_zero_shared_secret_is_refused_by_members() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    before = state(bob)
    for kem_output in (SMALL_ORDER, b"", bytes(31)):
        message = forged_external(alice, only(ExternalInit(kem_output)))
        with pytest.raises(InvalidMessage, match="encapsulated key"):
            stage(bob, message)
        assert state(bob) == before


def test_an_external_commit_needs_the_external_key_and_the_right_tree() -> None:  # 12.4.3-3, 12.4.3.2-6
    (person, alice), (_, bob) = group_of("alice", "bob")
    info = decode_body(alice.group_info(with_tree=True), GroupInfo)
    sign = group_of("x")[0][0].signature.sign_with_label
    for extensions, reason in (
        (info.extensions[1:], "signature"),
        (info.extensions[:1], "no ratchet tree"),
    ):
        changed_info = MLSMessage(replace(info, extensions=extensions)).encode()
        with pytest.raises(InvalidMessage, match=reason):
            Person.named("carol").join_external(changed_info, None)
    no_key = replace(info, extensions=info.extensions[1:]).signed(person.signature.sign_with_label)
    with pytest.raises(InvalidMessage, match="no key"):
        Person.named("carol").join_external(MLSMessage(no_key).encode(), None)
    with pytest.raises(InvalidMessage, match="signature"):
        Person.named("carol").join_external(MLSMessage(info.signed(sign)).encode(), None)
    other = commit(bob).public.after.tree
    with pytest.raises(InvalidMessage, match="not the one"):
        Person.named("carol").join_external(alice.group_info(with_tree=False), other)


# ---- what joiners check


def test_a_welcome_for_another_key_package_is_refused() -> None:  # 12.4.3.1-1
    alice, bob = Person.named("alice").create(), Person.named("bob")
    staged = commit(alice, Add(bob.key_package().key_package))
    assert staged.welcome is not None
    with pytest.raises(InvalidMessage, match="not for this key package"):
        bob.join(staged.welcome, bob.key_package())


def joined_with(tree: RatchetTree, alice: Group, person: Person) -> PublicGroup:
    """A joiner's view of alice's group when she vouches for this tree."""
    context = replace(alice.public.context, tree_hash=tree.tree_hash(SUITE))
    info = GroupInfo(context, (), bytes(32), alice.own_leaf).signed(person.signature.sign_with_label)
    return PublicGroup.from_group_info(info, tree, validate=anyone, now=NOW)


def root_of(tree: RatchetTree) -> ParentNode:
    root = tree.parent(tree.root)
    assert root is not None
    return root


BAD_TREES: dict[str, tuple[Callable[[RatchetTree], RatchetTree], str]] = {
    "root key changed": (
        lambda tree: tree.replace({tree.root: replace(root_of(tree), encryption_key=FRESH)}),
        "parent-hash valid",
    ),
    "root key of small order": (
        lambda tree: tree.replace({tree.root: replace(root_of(tree), encryption_key=SMALL_ORDER)}),
        "small order",
    ),
    "parent invented": (
        lambda tree: tree.replace({NodeIndex(5): ParentNode(FRESH, b"", ())}),
        "parent-hash valid",
    ),
    # 12.4.3.1-9
    "unmerged leaf that is blank": (
        lambda tree: tree.replace({tree.root: replace(root_of(tree), unmerged_leaves=(LeafIndex(3),))}),
        "unmerged",
    ),
    "unmerged leaf beyond the tree": (
        lambda tree: tree.replace({tree.root: replace(root_of(tree), unmerged_leaves=(LeafIndex(9),))}),
        "unmerged",
    ),
    "unmerged leaf invented": (
        lambda tree: tree.replace({tree.root: replace(root_of(tree), unmerged_leaves=(LeafIndex(2),))}),
        "parent-hash valid",
    ),
    # 12.4.3.1-10
    "unmerged at one node only": (
        lambda tree: tree.replace(
            {
                tree.root: replace(root_of(tree), unmerged_leaves=(LeafIndex(1),)),
                NodeIndex(1): ParentNode(FRESH, b"", ()),
            }
        ),
        "unmerged at one node",
    ),
    "one member twice": (
        lambda tree: tree.replace({NodeIndex(6): tree.leaf(LeafIndex(2))}),
        "same signature key",
    ),
    "members swapped": (
        lambda tree: tree.replace({NodeIndex(0): tree.leaf(LeafIndex(2)), NodeIndex(4): tree.leaf(LeafIndex(0))}),
        "signature",
    ),
    # 12.4.3.1-11
    "key of a member at a parent": (
        lambda tree: tree.replace(
            {tree.root: replace(root_of(tree), encryption_key=tree.encryption_key(NodeIndex(2)) or b"")}
        ),
        "same encryption key",
    ),
}


@pytest.mark.parametrize("name", BAD_TREES)
def test_a_joiner_refuses_a_bad_tree_even_if_a_member_vouches_for_it(name: str) -> None:  # 7.9-1, 7.9-2, 12.4.3.1-8
    (person, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    alice_after = commit(alice).group
    assert alice_after is not None
    assert joined_with(alice_after.public.tree, alice_after, person).tree == alice_after.public.tree
    change, reason = BAD_TREES[name]
    with pytest.raises(InvalidMessage, match=reason):
        joined_with(change(alice_after.public.tree), alice_after, person)
    assert (bob.own_leaf, carol.own_leaf) == (1, 2)


def test_a_tree_whose_right_half_is_empty_is_refused() -> None:
    person = Person.named("alice")
    alice = person.create()
    wide, _ = alice.public.tree.with_blank_leaf()
    root = ParentNode(FRESH, b"", ())
    unsigned = replace(
        alice.public.member(alice.own_leaf),
        source=LeafNodeSource.COMMIT,
        lifetime=None,
        parent_hash=parent_hash(SUITE, root, wide.tree_hash(SUITE, NodeIndex(2))),
    )
    leaf = unsigned.signed(person.signature.sign_with_label, alice.group_id, alice.own_leaf)
    wide = wide.replace({node_of(alice.own_leaf): leaf, wide.root: root})
    assert RatchetTree.decode(wide.encode()) == wide
    verify_parent_hashes(SUITE, wide)
    with pytest.raises(InvalidMessage, match="right half"):
        joined_with(wide, alice, person)
    assert joined_with(alice.public.tree, alice, person).tree == alice.public.tree


def test_a_tree_with_unmerged_leaves_is_valid_for_joiners() -> None:
    (person, alice), (_, _), (_, _) = group_of("alice", "bob", "carol")
    tree, leaf = alice.public.tree.add_leaf(Person.named("dave").key_package().key_package.leaf_node)
    assert leaf in root_of(tree).unmerged_leaves
    assert joined_with(tree, alice, person).member(leaf).credential.identity == b"dave"


def test_a_tree_that_ends_in_a_blank_or_has_nodes_in_the_wrong_place_does_not_decode() -> (
    None
):  # 12.4.3.3-1, 12.4.3.3-2
    (_, alice), _ = group_of("alice", "bob")
    leaf = alice.public.member(alice.own_leaf).encode()
    blank, a_leaf = b"\x00", b"\x01\x01" + leaf
    a_parent = b"\x01\x02" + ParentNode(FRESH, b"", ()).encode()
    RatchetTree.decode(bytes(Writer().vector(a_leaf)))
    for nodes in (b"", blank, a_leaf + blank, a_parent, a_leaf + a_leaf, a_leaf + a_parent + a_parent):
        with pytest.raises(DecodeError):
            RatchetTree.decode(bytes(Writer().vector(nodes)))


def test_unmerged_leaves_out_of_order_do_not_decode() -> None:
    for leaves in ((2, 1), (1, 1)):
        node = ParentNode(bytes(32), b"", tuple(LeafIndex(leaf) for leaf in leaves))
        with pytest.raises(DecodeError, match="order"):
            ParentNode.decode(node.encode())


def test_a_tree_wider_than_any_conversation_does_not_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    tree = alice.public.tree.encode()
    leaf = b"\x01\x01" + carol.public.member(carol.own_leaf).encode()

    def after_blanks(count: int) -> bytes:
        return bytes(Writer().vector(bytes(count) + leaf))

    assert RatchetTree.decode(after_blanks(2 * MAX_LEAVES - 2)).leaf_count == MAX_LEAVES
    with pytest.raises(DecodeError, match=f"wider than {MAX_LEAVES} leaves"):
        RatchetTree.decode(after_blanks(2 * MAX_LEAVES))
    monkeypatch.setattr(ratchet_tree, "MAX_LEAVES", 4)
    assert RatchetTree.decode(tree).leaf_count == 4
    full = stage(bob, commit(alice, Add(Person.named("dave").key_package().key_package)).message).group
    assert full is not None
    with pytest.raises(InvalidMessage, match="no room"):
        commit(full, Add(Person.named("erin").key_package().key_package))


def test_a_list_of_required_capabilities_names_each_type_once_and_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (_, alice), *_ = group_of("alice", "bob", "carol")
    decoded: list[bytes] = []
    read = RequiredCapabilities.read.__func__  # type: ignore[attr-defined]  # a class method has one

    def counting(cls: type[RequiredCapabilities], reader: Reader) -> RequiredCapabilities:
        decoded.append(b"")
        return cast("RequiredCapabilities", read(cls, reader))

    monkeypatch.setattr(RequiredCapabilities, "read", classmethod(counting))
    requirement = required(RequiredCapabilities((RULES,), (1, 2), (1,)))
    assert commit(alice, GroupContextExtensions((*EXTENSIONS, requirement))).group is not None
    assert len(decoded) == 1
    with pytest.raises(DecodeError, match="twice"):
        commit(alice, GroupContextExtensions((*EXTENSIONS, required(RequiredCapabilities((RULES, RULES))))))
    with pytest.raises(DecodeError, match="at most"):
        commit(alice, GroupContextExtensions((*EXTENSIONS, required(RequiredCapabilities((RULES,) * 65_537)))))


def test_a_group_info_given_out_with_a_commit_must_fit_the_group_after_it() -> None:
    (person, alice), (bob_person, bob) = group_of("alice", "bob")
    staged = commit(alice)
    assert staged.group_info is not None
    info = decode_body(staged.group_info, GroupInfo)
    after = staged.public.after
    verify_group_info(after, info, signer=alice.own_leaf)
    sign = person.signature.sign_with_label
    bad_key = Extension(ExtensionType.EXTERNAL_PUB, bytes([32]) + SMALL_ORDER)
    for wrong, reason in (
        (replace(info, group_context=bob.public.context).signed(sign), "context"),
        (replace(info, confirmation_tag=bytes(32)).signed(sign), "confirmation tag"),
        (replace(info, extensions=()).signed(sign), "the key for external joins and nothing else"),
        (replace(info, extensions=(*info.extensions, Extension(0x0A0A, b""))).signed(sign), "nothing else"),
        (replace(info, extensions=(bad_key,)).signed(sign), "small order"),
        (info.signed(bob_person.signature.sign_with_label), "signature"),
        (replace(info, signer=bob.own_leaf).signed(bob_person.signature.sign_with_label), "somebody else"),
        (replace(info, signer=LeafIndex(7)).signed(sign), "somebody else"),
    ):
        with pytest.raises(InvalidMessage, match=reason):
            verify_group_info(after, wrong, signer=alice.own_leaf)


@pytest.mark.parametrize("length", [0, 31, 33, 70_000])
def test_a_confirmation_tag_of_another_length_never_becomes_part_of_a_state(length: int) -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    good = decode_body(commit(alice).message, PublicMessage)
    info = decode_body(alice.group_info(with_tree=True), GroupInfo)

    def follow(tag: bytes) -> PublicGroup:
        message = replace(good, auth=replace(good.auth, confirmation_tag=tag))
        return bob.public.stage(message, validate=anyone, now=NOW).after

    def enter(tag: bytes) -> PublicGroup:
        signed = replace(info, confirmation_tag=tag).signed(person.signature.sign_with_label)
        return PublicGroup.from_group_info(signed, None, validate=anyone, now=NOW)

    for use in (follow, enter):
        use(bytes(32))
        with pytest.raises(InvalidMessage, match="confirmation tag"):
            use(bytes(length))


def test_a_wrong_confirmation_or_membership_tag_is_refused_by_members_only() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    good = decode_body(commit(alice).message, PublicMessage)
    auth = replace(good.auth, confirmation_tag=bytes(32))
    content = AuthenticatedContent(WireFormat.PUBLIC_MESSAGE, good.content, auth)
    tag = sealing.mac(SUITE, alice._secrets.membership_key, content.tbm(alice.public.context))
    for wrong, reason in (
        (PublicMessage(good.content, auth, tag), "confirmation tag"),
        (replace(good, membership_tag=bytes(32)), "membership tag"),
    ):
        before = state(bob)
        with pytest.raises(InvalidMessage, match=reason):
            stage(bob, MLSMessage(wrong).encode())
        assert state(bob) == before
        bob.public.stage(wrong, validate=anyone, now=NOW)


def test_a_list_with_one_extension_twice_does_not_decode() -> None:
    package = Person.named("carol").key_package().key_package
    two = replace(package, extensions=(Extension(RULES, b"a"), Extension(RULES + 1, b"b"))).encode()
    first, second = (bytes(Writer().u16(kind).vector(b"b")) for kind in (RULES, RULES + 1))
    assert KeyPackage.decode(two)
    with pytest.raises(DecodeError, match="twice"):
        KeyPackage.decode(two.replace(second, first))


# ---- rules that need more than one proposal


def test_new_requirements_count_for_those_added_and_not_for_those_removed() -> None:  # 12.1.7-1, 12.3-1
    able = replace(CAPABILITIES, extensions=(*CAPABILITIES.extensions, 0xF002))
    (person, alice), (_, bob) = group_of("alice", "bob", capabilities=able)
    demands = GroupContextExtensions((*EXTENSIONS, required(RequiredCapabilities((0xF002,)))))
    carol, dave = Person.named("carol"), Person.named("dave", able)
    unable, fit = Add(carol.key_package().key_package), Add(dave.key_package().key_package)
    for order in ([demands, unable], [unable, demands]):
        refused(bob, forged_commit(alice, person, order), "what the group requires")
    assert stage(bob, forged_commit(alice, person, [fit, demands])).group is not None
    with_carol = commit(alice, unable)
    after, bob_after = with_carol.group, stage(bob, with_carol.message).group
    assert after is not None
    assert bob_after is not None
    place = after.public.find(carol.signature.public_key)
    assert place is not None
    refused(bob_after, forged_commit(after, person, [demands]), "what the group requires")
    assert stage(bob_after, forged_commit(after, person, [demands, Remove(place)])).group is not None


def test_a_requirement_that_goes_away_no_longer_counts() -> None:  # 12.3-1
    able = replace(CAPABILITIES, extensions=(*CAPABILITIES.extensions, 0xF002))
    demands = (*EXTENSIONS, required(RequiredCapabilities((0xF002,))))
    (person, alice), (_, bob) = group_of("alice", "bob", capabilities=able, extensions=demands)
    unable = Add(Person.named("carol").key_package().key_package)
    refused(bob, forged_commit(alice, person, [unable]), "what the group requires")
    relaxed = forged_commit(alice, person, [unable, GroupContextExtensions(EXTENSIONS)])
    assert stage(bob, relaxed).group is not None


def test_removals_take_effect_before_adds_and_adds_in_their_order() -> None:  # 12.3-2
    (_, alice), (_, bob), (_, carol), _ = group_of("alice", "bob", "carol", "dave")
    new = [Person.named(name) for name in ("erin", "frank", "grace")]
    adds = [Add(person.key_package().key_package) for person in new]
    staged = commit(alice, adds[0], Remove(carol.own_leaf), adds[1], Remove(bob.own_leaf), adds[2])
    assert [leaf for leaf, _ in staged.public.added] == [1, 2, 4]
    assert [leaf.credential.identity for _, leaf in staged.public.added] == [b"erin", b"frank", b"grace"]


def test_keys_take_effect_in_the_order_of_the_list() -> None:  # 12.3-3
    (person, alice), (_, bob) = group_of("alice", "bob")
    ids = [replace(PSK, psk_id=name) for name in (b"b", b"a")]
    in_order, reversed_order = (psk_secret(SUITE, keys, lambda psk: psk.psk_id) for keys in (ids, ids[::-1]))
    assert in_order != reversed_order
    made = forge.forged_commit(alice, person, [*map(PreSharedKey, ids)], psks=lambda psk: psk.psk_id)
    assert made.psk == in_order
    assert bob.stage(made.message, psks=lambda psk: psk.psk_id, validate=anyone, now=NOW).group is not None


def test_who_is_removed_sends_and_reads_nothing_more() -> None:  # 12.4.2-12
    (_, alice), (bob_person, bob), (_, carol) = group_of("alice", "bob", "carol")
    made = commit(alice, Remove(bob.own_leaf))
    after = stage(carol, made.message).group
    assert made.group is not None
    assert after is not None
    assert stage(bob, made.message).group is None
    with pytest.raises(WrongEpoch):
        bob.decrypt(made.group.encrypt(b"bob is gone"))
    with pytest.raises(WrongEpoch):
        after.decrypt(bob.encrypt(b"I am still here"))
    # Whatever epoch he claims, he has no key of it.
    lie = forge.proposal(bob, bob_person, Remove(LeafIndex(0)), epoch=after.epoch)
    with pytest.raises(InvalidMessage, match="membership tag"):
        after.receive_proposal(lie)


def test_an_update_and_a_removal_of_one_leaf_exclude_each_other() -> None:  # 12.2-4
    (person, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    messages = [carol.propose_update(), carol.propose_update()]
    for message in messages:
        for member in (alice, bob):
            member.receive_proposal(message)
    first, second = alice.public.proposals
    for proposals in ([first, second], [first, Remove(carol.own_leaf)], [first, first]):
        refused(bob, forged_commit(alice, person, proposals), "one leaf twice")
    assert stage(bob, forged_commit(alice, person, [second])).group is not None


def test_a_proposal_of_an_unknown_type_does_not_decode() -> None:  # 12.2-11
    (person, alice), (_, bob) = group_of("alice", "bob")
    carol = Remove(LeafIndex(1)).encode()
    good = forged_commit(alice, person, [Remove(LeafIndex(1))])
    assert good.count(b"\x01" + carol) == 1
    with pytest.raises(DecodeError, match="proposal type"):
        stage(bob, good.replace(b"\x01" + carol, b"\x01\xf0\x0d" + carol[2:]))


def test_two_members_never_have_one_encryption_key_after_a_commit() -> None:  # 12.2-12
    (person, alice), (_, bob) = group_of("alice", "bob")
    taken = bob.public.member(bob.own_leaf).encryption_key
    bad = Add(forge.forged_key_package(Person.named("carol"), leaf=with_encryption_key(taken)))
    refused(bob, forged_commit(alice, person, [bad]), "same encryption key")
    with pytest.raises(InvalidMessage, match="same encryption key"):
        commit(alice, bad)


def test_who_comes_back_has_a_new_encryption_key() -> None:  # 12.2-15
    (_, alice), (bob_person, bob) = group_of("alice", "bob")
    old = bob.public.member(bob.own_leaf).encryption_key
    back = Remove(bob.own_leaf)

    def coming_back(**hooks: Any) -> bytes:
        return forge.forged_external(alice, bob_person, lambda entries: [*entries, back], **hooks).message

    refused(alice, coming_back(leaf=with_encryption_key(old)), "again")
    assert stage(alice, coming_back()).group is not None


def test_all_keys_of_a_commit_are_known() -> None:  # 12.4.2-4
    (person, alice), (_, bob) = group_of("alice", "bob")
    message = forged_commit(alice, person, [PreSharedKey(PSK)])
    refused_by_member(bob, message, "not known here")
    with pytest.raises(InvalidMessage, match="confirmation tag"):
        bob.stage(message, psks=lambda _: b"another secret", validate=anyone, now=NOW)
    assert bob.stage(message, psks=lambda _: b"secret", validate=anyone, now=NOW).group is not None


def test_the_welcome_covers_everyone_who_is_added() -> None:  # 12.4.1-1
    (_, alice), _ = group_of("alice", "bob")
    bundles = [Person.named(name).key_package() for name in ("carol", "dave", "erin")]
    staged = commit(alice, *(Add(bundle.key_package) for bundle in bundles))
    assert staged.welcome is not None
    references = {bundle.key_package.reference(SUITE) for bundle in bundles}
    assert decode_body(staged.welcome, Welcome).new_member_refs == references == staged.public.new_member_refs


def test_a_welcome_names_keys_in_the_order_of_the_proposals() -> None:  # 12.4.1-2
    (_, alice), _ = group_of("alice", "bob")
    ids = [replace(PSK, psk_id=name) for name in (b"b", b"a", b"c")]
    bundle = Person.named("carol").key_package()
    staged = commit(alice, Add(bundle.key_package), *map(PreSharedKey, ids), psks=lambda psk: psk.psk_id)
    assert staged.welcome is not None
    reference = bundle.key_package.reference(SUITE)
    opened = GroupSecrets.decrypt_from(SUITE, decode_body(staged.welcome, Welcome), reference, bundle.init_private)
    assert list(opened.psks) == ids


def test_the_epoch_after_an_external_commit_starts_from_its_init_secret() -> None:  # 12.4.3.2-4
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    of_the_group = forge.forged_external(alice, carol, init_secret=lambda _: alice._secrets.init_secret)
    refused_by_member(bob, of_the_group.message, "confirmation tag")
    assert stage(bob, forge.forged_external(alice, carol).message).group is not None


def test_an_unmerged_leaf_that_the_node_below_does_not_know_breaks_the_chain() -> None:  # 7.9-2
    """`verify_tree` refuses it before for another reason (12.4.3.1-10); section 7.9.2 does by itself."""
    (_, alice), *_ = group_of("alice", "bob", "carol", "dave")
    tree = commit(alice).public.after.tree
    verify_parent_hashes(SUITE, tree)
    wrong = tree.replace({tree.root: replace(root_of(tree), unmerged_leaves=(LeafIndex(1),))})
    with pytest.raises(InvalidMessage, match="parent-hash valid"):
        verify_parent_hashes(SUITE, wrong)


def test_two_chains_to_one_parent_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:  # 7.9-3
    """Each chain holds the hash of the other's side, so nobody can make two: the check is told that both fit."""
    (person, alice), _ = group_of("alice", "bob")
    after = commit(alice).group
    assert after is not None
    joined_with(after.public.tree, after, person)
    monkeypatch.setattr(parent_hashes, "_is_valid_below", lambda *_: True)
    with pytest.raises(InvalidMessage, match="parent-hash valid"):
        joined_with(after.public.tree, after, person)
