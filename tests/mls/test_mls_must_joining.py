"""What a joiner must check of a Welcome and a GroupInfo (RFC 9420, section 12.4.3); see `rules`.

Alice adds Carol and lies to her in one thing; the same Welcome with nothing wrong lets Carol in.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from securechat.errors import PeerError, UsageError
from securechat.mls.crypto.secret import Secret
from securechat.mls.errors import CannotDecrypt, InvalidMessage
from securechat.mls.extensions import Extension, ExtensionType
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets
from securechat.mls.key_schedule import JoinerSecret
from securechat.mls.leaf_node import Capabilities
from securechat.mls.proposals import Add, PreSharedKeyId, PskType, ResumptionPskUsage
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex, node_of
from securechat.mls.welcome import Welcome
from tests.mls.forge import forged_commit
from tests.mls.support import SUITE, Person, commit, group_of

CAROL = Person.named("carol")
PSK = PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name")


def link(usage: ResumptionPskUsage) -> PreSharedKeyId:
    """The name of a resumption PSK of alice's group."""
    return PreSharedKeyId(PskType.RESUMPTION, bytes(32), usage=usage, group_id=b"group", epoch=1)


def altered(ciphertext: bytes) -> bytes:
    return ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])


def with_entry(**changes: object) -> Callable[[Welcome], Welcome]:
    """The Welcome with its entry changed."""
    return lambda welcome: replace(welcome, secrets=(replace(welcome.secrets[0], **changes),))  # type: ignore[arg-type]  # fields


def in_context(**changes: Any) -> Callable[[GroupInfo], GroupInfo]:
    return lambda info: replace(info, group_context=replace(info.group_context, **changes))


def with_tree(change: Callable[[RatchetTree], RatchetTree]) -> Callable[[GroupInfo], GroupInfo]:
    """The GroupInfo with another tree in it."""

    def changed(info: GroupInfo) -> GroupInfo:
        (extension,) = info.extensions
        tree = change(RatchetTree.decode(extension.data))
        return replace(info, extensions=(Extension(ExtensionType.RATCHET_TREE, tree.encode()),))

    return changed


def without_carol(info: GroupInfo) -> GroupInfo:
    return with_blank_root(info, lambda tree: tree.remove_leaf(LeafIndex(2)))


def with_other_leaf_of_carol(info: GroupInfo) -> GroupInfo:
    other = CAROL.key_package().key_package.leaf_node
    return with_blank_root(info, lambda tree: tree.replace({node_of(LeafIndex(2)): other}))


def with_blank_root(info: GroupInfo, change: Callable[[RatchetTree], RatchetTree]) -> GroupInfo:
    """The GroupInfo with another tree in it that is sound: the root's parent hash would not fit."""
    (extension,) = info.extensions
    tree = change(RatchetTree.decode(extension.data))
    tree = tree.replace({tree.root: None})
    context = replace(info.group_context, tree_hash=tree.tree_hash(SUITE))
    return replace(info, group_context=context, extensions=(Extension(ExtensionType.RATCHET_TREE, tree.encode()),))


def with_secrets(**changes: Any) -> Callable[[GroupSecrets], GroupSecrets]:
    return lambda secrets: replace(secrets, **changes)


WRONG: dict[str, tuple[str, dict[str, Any], type[PeerError]]] = {
    "no entry for us": (  # 12.4.3.1-1
        "not for this key package",
        {"welcome": with_entry(new_member=bytes(32))},
        InvalidMessage,
    ),
    "no entry at all": (
        "not for this key package",
        {"welcome": lambda welcome: replace(welcome, secrets=())},
        InvalidMessage,
    ),
    "another suite": (  # 12.4.3.1-1
        "another cipher suite than its key package",
        {"welcome": lambda welcome: replace(welcome, cipher_suite=3)},
        InvalidMessage,
    ),
    "entry that does not open": (  # 12.4.3.1-2
        "cannot be opened",
        {
            "welcome": lambda welcome: with_entry(
                encrypted_group_secrets=replace(
                    welcome.secrets[0].encrypted_group_secrets,
                    ciphertext=altered(welcome.secrets[0].encrypted_group_secrets.ciphertext),
                )
            )(welcome)
        },
        CannotDecrypt,
    ),
    "GroupInfo of another Welcome": (
        "cannot be opened",
        {"welcome": lambda welcome: replace(welcome, encrypted_group_info=altered(welcome.encrypted_group_info))},
        CannotDecrypt,
    ),
    "joiner secret that does not fit": (
        "cannot be decrypted",
        {"secrets": with_secrets(joiner_secret=JoinerSecret(bytes(32)))},
        CannotDecrypt,
    ),
    "unknown key": ("not known here", {"secrets": with_secrets(psks=(PSK,))}, InvalidMessage),  # 12.4.3.1-3
    "signer who is no member": (  # 12.4.3.1-5
        "no member at leaf 3",
        {"info": lambda info: replace(info, signer=LeafIndex(3))},
        InvalidMessage,
    ),
    "signer who did not sign": (  # 12.4.3.1-5
        "signature",
        {"info": lambda info: replace(info, signer=LeafIndex(1))},
        InvalidMessage,
    ),
    "signer who is the joiner": (
        "signed by its receiver",
        {
            "info": lambda info: replace(info, signer=LeafIndex(2)),
            "signed_info": lambda info: info.signed(CAROL.signature.sign_with_label),
        },
        InvalidMessage,
    ),
    "signature zero": (
        "signature",
        {"signed_info": lambda info: replace(info, signature=bytes(64))},
        InvalidMessage,
    ),
    "group of another suite": (  # 12.4.3.1-6
        "another cipher suite than its Welcome",
        {"info": in_context(cipher_suite=3)},
        InvalidMessage,
    ),
    "group that replaces another": (  # 11.2-4
        "continues another one",
        {"secrets": with_secrets(psks=(link(ResumptionPskUsage.REINIT),))},
        InvalidMessage,
    ),
    "branch of a group": (  # 11.3-5
        "continues another one",
        {"secrets": with_secrets(psks=(link(ResumptionPskUsage.BRANCH),))},
        InvalidMessage,
    ),
    "no tree": (  # 12.4.3.1-19
        "no ratchet tree",
        {"info": lambda info: replace(info, extensions=())},
        InvalidMessage,
    ),
    "another tree": (  # 12.4.3.1-7
        "not the one that the GroupInfo names",
        {"info": with_tree(lambda tree: tree.remove_leaf(LeafIndex(1)))},
        InvalidMessage,
    ),
    "another tree hash": (
        "not the one that the GroupInfo names",
        {"info": in_context(tree_hash=bytes(32))},
        InvalidMessage,
    ),
    "tree without us": ("does not have us", {"info": without_carol}, InvalidMessage),  # 12.4.3.1-12
    "tree with another leaf of ours": (  # 12.4.3.1-12
        "does not have us",
        {"info": with_other_leaf_of_carol},
        InvalidMessage,
    ),
    "path secret that leads elsewhere": (  # 12.4.3.1-13
        "does not lead to the public keys",
        {"secrets": with_secrets(path_secret=Secret(bytes(32)))},
        InvalidMessage,
    ),
    "confirmation tag zero": (  # 12.4.3.1-14
        "confirmation tag",
        {"info": lambda info: replace(info, confirmation_tag=bytes(32))},
        InvalidMessage,
    ),
    "confirmation tag of another transcript": (
        "confirmation tag",
        {"info": in_context(confirmed_transcript_hash=bytes(32))},
        InvalidMessage,
    ),
    "extensions that the joiner does not support": (  # 12.4.3-2
        "extension of the group context",
        {"info": in_context(extensions=(Extension(0xF0F0, b""),))},
        InvalidMessage,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_welcome_with_one_thing_wrong_is_refused(name: str) -> None:
    reason, hooks, error = WRONG[name]
    (person, alice), _ = group_of("alice", "bob")
    bundle = CAROL.key_package()
    made = forged_commit(alice, person, [Add(bundle.key_package)])
    with pytest.raises(error, match=reason):
        CAROL.join(made.welcome(bundle.key_package, **hooks), bundle)
    joined = CAROL.join(made.welcome(bundle.key_package), bundle)
    assert joined.epoch_authenticator == made.secrets.epoch_authenticator


def test_unknown_extensions_of_a_group_info_are_ignored() -> None:  # 12.4.3-1
    (person, alice), _ = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    made = forged_commit(alice, person, [Add(bundle.key_package)])

    def with_grease(info: GroupInfo) -> GroupInfo:
        return replace(info, extensions=(Extension(0x0A0A, b"grease"), *info.extensions, Extension(0xEAEA, b"")))

    assert carol.join(made.welcome(bundle.key_package, info=with_grease), bundle).own_leaf == 2


def test_who_comes_by_external_commit_supports_the_groups_extensions() -> None:  # 12.4.3-2
    (_, alice), _ = group_of("alice", "bob")
    unable = Person.named("carol", Capabilities(cipher_suites=(SUITE.value,)))
    with pytest.raises(InvalidMessage, match="extension of the group context"):
        unable.join_external(alice.group_info(with_tree=True), None)
    assert Person.named("dave").join_external(alice.group_info(with_tree=True), None).group is not None


def test_joining_with_the_wrong_signature_key_is_our_mistake() -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol, dave = Person.named("carol"), Person.named("dave")
    bundle = carol.key_package()
    staged = commit(alice, Add(bundle.key_package))
    assert staged.welcome is not None
    with pytest.raises(UsageError, match="signature key"):
        dave.join(staged.welcome, bundle)
