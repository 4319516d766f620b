"""Groups that continue other groups: reinitialization and branching (RFC 9420, sections 11.2 and 11.3).

A new group is tied to an epoch of the old one by a resumption PSK, which only those who were members in that
epoch have. To reinitialize a group, a member commits a ReInit proposal; that closes the group for everybody
(`PublicGroup.reinit`), and any member then makes the new one. A branch leaves the old group as it is.

What it keeps: a `PastEpoch`, for as long as the caller does. Its holder can prove membership in that epoch,
so delete it as soon as no new group can refer to it any more.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import field
from typing import Self

from securechat.errors import UsageError
from securechat.mls.crypto import sealing
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.secret import Secret
from securechat.mls.errors import InvalidMessage
from securechat.mls.group import Group, StagedCommit
from securechat.mls.joining import enter, open_welcome
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.key_schedule import PskLookup, no_psks
from securechat.mls.leaf_node import MLS10, CredentialValidator, LeafNode
from securechat.mls.proposals import Add, PreSharedKey, PreSharedKeyId, PskType, ReInit, ResumptionPskUsage
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value

Identity = Callable[[LeafNode], Hashable]
"""The application's name for a client: equal for the leaves of one client in the old group and in the new one."""


@value
class PastEpoch(Struct):
    """An epoch that new groups may refer to: what it was, and the proof of having been there."""

    public: PublicGroup
    resumption_psk: Secret = field(repr=False)

    @classmethod
    def of(cls, group: Group) -> Self:
        """The epoch that a member is in."""
        return cls(group.public, group.resumption_psk)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form. Raises `DecodeError`."""
        return cls(PublicGroup.read(reader), Secret(reader.vector()))

    def write(self, writer: Writer) -> None:
        """Saved form: holds a secret."""
        self.public.write(writer)
        writer.vector(self.resumption_psk)

    @property
    def usage(self) -> ResumptionPskUsage:
        """How a new group can continue this epoch: as the replacement of a closed group, or as a branch."""
        return ResumptionPskUsage.BRANCH if self.public.reinit is None else ResumptionPskUsage.REINIT


def continued_epoch(welcome: Welcome, bundle: KeyPackageBundle) -> PreSharedKeyId | None:
    """Which group and epoch the group of a Welcome claims to continue, and how (`usage`); None: it does not.

    Raises `InvalidMessage` or `CannotDecrypt`.
    """
    return next((psk for psk in open_welcome(welcome, bundle).psks if psk.links_groups), None)


def reinitialize(
    old: PastEpoch,
    bundle: KeyPackageBundle,
    signature_private: SignaturePrivateKey,
    key_packages: Sequence[KeyPackage],
    *,
    tree_in_welcome: bool,
    identity: Identity,
    validate: CredentialValidator,
    now: int,
) -> StagedCommit:
    """Make the group that replaces a closed one; `key_packages` are those of the other members.

    Keep the result's `group`, and send the `welcome`. Raises `UsageError` if the old group is not closed,
    `InvalidMessage` if the new one does not fit the ReInit, or what `validate` raises.
    """
    reinit = old.public.reinit
    if reinit is None:
        raise UsageError("commit a ReInit first: a group that nobody has closed cannot be replaced")
    created = Group.create(reinit.group_id, bundle, signature_private, extensions=reinit.extensions)
    return _tie(
        old,
        created,
        key_packages,
        tree_in_welcome=tree_in_welcome,
        identity=identity,
        validate=validate,
        now=now,
    )


def branch(
    old: PastEpoch,
    group_id: bytes,
    bundle: KeyPackageBundle,
    signature_private: SignaturePrivateKey,
    key_packages: Sequence[KeyPackage],
    *,
    tree_in_welcome: bool,
    identity: Identity,
    validate: CredentialValidator,
    now: int,
) -> StagedCommit:
    """Make a subgroup with the old group's parameters; `key_packages` are those of its members beside us.

    Keep the result's `group`, and send the `welcome`. Raises `UsageError` if the old group is closed, `InvalidMessage`
    if the new one has another cipher suite or other members, or what `validate` raises.
    """
    if old.public.reinit is not None:
        raise UsageError("a closed group cannot be branched: reinitialize it")
    created = Group.create(group_id, bundle, signature_private, extensions=old.public.extensions)
    return _tie(
        old,
        created,
        key_packages,
        tree_in_welcome=tree_in_welcome,
        identity=identity,
        validate=validate,
        now=now,
    )


def _tie(
    old: PastEpoch,
    created: Group,
    key_packages: Sequence[KeyPackage],
    *,
    tree_in_welcome: bool,
    identity: Identity,
    validate: CredentialValidator,
    now: int,
) -> StagedCommit:
    """Make the first commit of a group: it adds the others and ties the group to the old one."""
    nonce = sealing.random_bytes(created.suite.hash_size)
    link = PreSharedKeyId(
        PskType.RESUMPTION, nonce, usage=old.usage, group_id=old.public.group_id, epoch=old.public.epoch
    )
    staged = created.commit(
        [*(Add(package) for package in key_packages), PreSharedKey(link)],
        tree_in_welcome=tree_in_welcome,
        psks=lambda _: old.resumption_psk,
        validate=validate,
        now=now,
    )
    _verify_continues(old.public, staged.public.after, identity)
    return staged


def join(
    old: PastEpoch,
    welcome: Welcome,
    bundle: KeyPackageBundle,
    signature_private: SignaturePrivateKey,
    *,
    tree: RatchetTree | None = None,
    psks: PskLookup = no_psks,
    identity: Identity,
    validate: CredentialValidator,
    now: int,
) -> Group:
    """Enter the group that replaces our closed one, or a branch of our open one. Otherwise like `Group.join`.

    `psks` finds pre-shared keys other than the one that ties the groups.
    """
    opened = open_welcome(welcome, bundle)
    links = [psk_id for psk_id in opened.psks if psk_id.links_groups]
    if len(links) != 1:
        raise InvalidMessage("a Welcome does not tie its group to exactly one old one")
    (link,) = links
    if (link.usage, link.group_id, link.epoch) != (old.usage, old.public.group_id, old.public.epoch):
        raise InvalidMessage("a Welcome ties its group to another epoch, or for another purpose, than we expect")

    def with_link(psk_id: PreSharedKeyId) -> bytes:
        return old.resumption_psk if psk_id == link else psks(psk_id)

    entrance = enter(welcome, opened, bundle, tree=tree, psks=with_link, validate=validate, now=now)
    _verify_continues(old.public, entrance.public, identity)
    return Group.entered(entrance, signature_private)


def _verify_continues(old: PublicGroup, new: PublicGroup, identity: Identity) -> None:
    """What sections 11.2, 11.3 and 12.4.3.1 ask of the new group. Raises `InvalidMessage`."""
    if new.epoch != 1:
        raise InvalidMessage("a group that continues another one has to be entered in epoch 1")
    old_members = {identity(leaf) for _, leaf in old.members()}
    new_members = {identity(leaf) for _, leaf in new.members()}
    if old.reinit is None:
        if new.context.cipher_suite != old.context.cipher_suite:  # and there is one version only
            raise InvalidMessage("a subgroup is of another cipher suite than its group")
        if not new_members <= old_members:
            raise InvalidMessage("a subgroup has a member that its group does not have")
    else:
        if ReInit(new.group_id, MLS10, new.context.cipher_suite, new.extensions) != old.reinit:
            raise InvalidMessage("a new group has another name, version, suite or extensions than its ReInit says")
        if not old_members <= new_members:
            raise InvalidMessage("a new group lacks a member of the one that it replaces")
