"""Entering a group by a Welcome (RFC 9420, section 12.4.3.1).

The steps that a plain Welcome and one to a group that continues another (`resumption`) have in common. What a
joiner gets is kept in its `Group`; the joiner secret and the path secret end here. The key package's private
keys are the caller's to delete.
"""

from typing import NamedTuple

from securechat.mls.errors import InvalidMessage
from securechat.mls.group_secrets import GroupSecrets, decrypt_group_info
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.key_schedule import EpochSecrets, PskLookup, epoch_secret, psk_secret, welcome_secret
from securechat.mls.leaf_node import CredentialValidator
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.secret_tree import SecretTree
from securechat.mls.tree_math import LeafIndex, common_ancestor
from securechat.mls.treekem import PathSecret, TreePrivateKeys
from securechat.mls.welcome import Welcome


class Entrance(NamedTuple):
    """What a new member knows of its first epoch."""

    public: PublicGroup
    secrets: EpochSecrets
    keys: TreePrivateKeys
    messages: SecretTree
    signer: LeafIndex
    """Who signed the GroupInfo in the Welcome, which is who made the commit."""


def open_welcome(welcome: Welcome, bundle: KeyPackageBundle) -> GroupSecrets:
    """Open the part of a Welcome that is for one key package. Raises `InvalidMessage` or `CannotDecrypt`."""
    suite = bundle.suite
    if welcome.cipher_suite != suite.value:
        raise InvalidMessage("a Welcome is for another cipher suite than its key package")
    reference = bundle.key_package.reference(suite)
    return GroupSecrets.decrypt_from(suite, welcome, reference, bundle.init_private)


def enter(
    welcome: Welcome,
    opened: GroupSecrets,
    bundle: KeyPackageBundle,
    *,
    tree: RatchetTree | None,
    psks: PskLookup,
    validate: CredentialValidator,
    now: int,
) -> Entrance:
    """Check the group that an opened Welcome leads to, and derive what its newest member knows.

    `tree` is needed if it is not in the Welcome. Raises `InvalidMessage`, `CannotDecrypt`, `DecodeError`, or what
    `validate` and `psks` raise.
    """
    suite, own_leaf_node = bundle.suite, bundle.key_package.leaf_node
    psk = psk_secret(suite, opened.psks, psks)
    group_info = decrypt_group_info(
        suite, welcome_secret(suite, opened.joiner_secret, psk), welcome.encrypted_group_info
    )
    if group_info.group_context.cipher_suite != suite.value:
        raise InvalidMessage("a group is of another cipher suite than its Welcome")
    public = PublicGroup.from_group_info(group_info, tree, validate=validate, now=now)
    leaf = public.find(own_leaf_node.signature_key)
    if leaf is None or public.member(leaf) != own_leaf_node:
        raise InvalidMessage("the group that a Welcome is for does not have us in it")

    keys = TreePrivateKeys.of_leaf(suite, leaf, bundle.leaf_private)
    if opened.path_secret is not None:
        if group_info.signer == leaf:
            raise InvalidMessage("a Welcome claims to be signed by its receiver")
        start = common_ancestor(leaf, group_info.signer)
        keys, _ = keys.with_path_secret(public.tree, start, PathSecret(opened.path_secret))
    root = epoch_secret(suite, opened.joiner_secret, psk, public.context)
    secrets, encryption_secret = EpochSecrets.derive(suite, root)
    secrets.verify_confirmation_tag(suite, public.context, group_info.confirmation_tag)
    messages = SecretTree.create(suite, public.tree.leaf_count, encryption_secret)
    return Entrance(public, secrets, keys, messages, group_info.signer)
