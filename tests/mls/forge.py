"""Messages that the public API refuses to make, to prove that receivers refuse them too.

What a malicious member or joiner can make: everything here is rightly signed, tagged and encrypted, except for what a
hook changes. With no hook it is a good message, which every receiver takes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from securechat.mls.commit import Commit, ProposalRef, UpdatePath
from securechat.mls.committing import Committer
from securechat.mls.crypto import sealing
from securechat.mls.extensions import Extension, ExtensionType, external_pub_extension
from securechat.mls.framing import (
    AuthenticatedContent,
    ContentType,
    FramedContent,
    MLSMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    write_content,
)
from securechat.mls.group import Group
from securechat.mls.group_context import GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets, encrypt_group_info
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_schedule import (
    CommitSecret,
    EpochSecrets,
    InitSecret,
    JoinerSecret,
    PskLookup,
    PskSecret,
    encapsulate_init_secret,
    epoch_secret,
    joiner_secret,
    psk_secret,
    welcome_secret,
    zero_secret,
)
from securechat.mls.leaf_node import LeafNode, LeafNodeSource
from securechat.mls.message_protection import sender_data_key
from securechat.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    Remove,
    Update,
)
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.transcript_hash import confirmed_transcript_hash
from securechat.mls.tree_math import LeafIndex, NodeIndex, common_ancestor
from securechat.mls.treekem import PathSecret, TreePrivateKeys
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Writer
from tests.mls.support import SUITE, Person

_T = TypeVar("_T")


def same(value: _T) -> _T:
    """The hook that changes nothing."""
    return value


# ---- signing, tagging, encrypting


def signed(group: PublicGroup, person: Person, framed: FramedContent, wire_format: WireFormat) -> AuthenticatedContent:
    """Content that `person` signed, whatever sender it claims."""
    return AuthenticatedContent.sign(wire_format, framed, group.context, person.signature.sign_with_label)


def sealed_public(group: Group, content: AuthenticatedContent) -> bytes:
    """A PublicMessage with the membership tag that a member can make."""
    tag = None
    if content.content.sender.type == SenderType.MEMBER:
        tag = sealing.mac(group.suite, group._secrets.membership_key, content.tbm(group.public.context))
    return MLSMessage(PublicMessage(content.content, content.auth, tag)).encode()


def sealed_private(
    group: Group,
    content: AuthenticatedContent,
    *,
    plaintext: Callable[[bytes], bytes] = same,
    sender_data: Callable[[bytes], bytes] = same,
    content_type: ContentType | None = None,
) -> bytes:
    """A PrivateMessage under the next key of the sender's leaf, which is not used up.

    The hooks change PrivateMessageContent and SenderData before they are encrypted; `content_type` is what the message
    says of itself.
    """
    framed, suite = content.content, group.suite
    kind = framed.content_type if content_type is None else content_type
    handshake = kind != ContentType.APPLICATION
    leaf = LeafIndex(framed.sender.index)
    generation = group._messages.next_generation(leaf, handshake=handshake)
    key, _ = group._messages.key(leaf, generation, handshake=handshake)
    inside = Writer()
    write_content(inside, framed.content)
    content.auth.write(inside)
    aad = Writer().vector(framed.group_id).u64(framed.epoch).u8(kind)
    sender_aad = bytes(aad)
    content_aad = bytes(aad.vector(framed.authenticated_data))
    # A reuse guard of four zero bytes: no real message is under this key.
    ciphertext = sealing.aead_seal(suite, key.key, key.nonce, content_aad, plaintext(bytes(inside)))
    sender_key = sender_data_key(suite, group._secrets.sender_data_secret, ciphertext)
    data = sender_data(bytes(Writer().u32(leaf).u32(generation).opaque(bytes(4))))
    sealed = sealing.aead_seal(suite, sender_key.key, sender_key.nonce, sender_aad, data)
    message = Writer().u16(1).u16(WireFormat.PRIVATE_MESSAGE).opaque(content_aad).vector(sealed).vector(ciphertext)
    return bytes(message)


def application(group: Group, person: Person, text: bytes = b"text", **changes: object) -> AuthenticatedContent:
    """An application message's content; `changes` are fields of FramedContent."""
    framed = FramedContent(group.group_id, group.epoch, Sender.member(group.own_leaf), b"", text)
    framed = replace(framed, **changes)  # type: ignore[arg-type]  # fields of the content
    return signed(group.public, person, framed, WireFormat.PRIVATE_MESSAGE)


def proposal(
    group: Group,
    person: Person,
    content: Proposal,
    *,
    sender: Sender | None = None,
    wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE,
    **changes: Any,
) -> bytes:
    """A standalone proposal; by default from `group`'s member. `changes` are fields of FramedContent."""
    framed = FramedContent(group.group_id, group.epoch, sender or Sender.member(group.own_leaf), b"", content)
    made = signed(group.public, person, replace(framed, **changes), wire_format)
    return sealed_public(group, made) if wire_format == WireFormat.PUBLIC_MESSAGE else sealed_private(group, made)


# ---- commits


@dataclass(frozen=True)
class Forged:
    """A commit, and what its maker knows of the epoch after it."""

    message: bytes
    person: Person
    leaf: LeafIndex
    tree: RatchetTree
    context: GroupContext
    secrets: EpochSecrets
    joiner: JoinerSecret
    psk: PskSecret
    psk_ids: tuple[PreSharedKeyId, ...]
    path_secrets: dict[NodeIndex, PathSecret] | None

    def group_info(self, change: Callable[[GroupInfo], GroupInfo] = same, *, external: bool = False) -> GroupInfo:
        """A signed GroupInfo with the tree; the hook works before the signature."""
        extensions = [Extension(ExtensionType.RATCHET_TREE, self.tree.encode())]
        if external:
            extensions.append(external_pub_extension(self.secrets.external_key(SUITE).public_key))
        tag = self.secrets.confirmation_tag(SUITE, self.context)
        info = change(GroupInfo(self.context, tuple(extensions), tag, self.leaf))
        return info.signed(self.person.signature.sign_with_label)

    def welcome(
        self,
        package: KeyPackage,
        *,
        info: Callable[[GroupInfo], GroupInfo] = same,
        signed_info: Callable[[GroupInfo], GroupInfo] = same,
        secrets: Callable[[GroupSecrets], GroupSecrets] = same,
        welcome: Callable[[Welcome], Welcome] = same,
    ) -> bytes:
        """The Welcome for one of those added; the hooks change its parts, all but `welcome` before encryption."""
        path_secret = None
        if self.path_secrets is not None:
            new_leaf = next(leaf for leaf, node in self.tree.leaves() if node == package.leaf_node)
            path_secret = self.path_secrets[common_ancestor(self.leaf, new_leaf)]
        group_info = signed_info(self.group_info(info))
        encrypted = encrypt_group_info(SUITE, welcome_secret(SUITE, self.joiner, self.psk), group_info)
        inside = secrets(GroupSecrets(self.joiner, path_secret, self.psk_ids))
        entry = inside.encrypt_to(SUITE, package, encrypted)
        return MLSMessage(welcome(Welcome(SUITE.value, (entry,), encrypted))).encode()


@dataclass(frozen=True)
class Hooks:
    """What to change in a commit while it is made; by default nothing."""

    with_path: bool = True
    tree: Callable[[RatchetTree], RatchetTree] = same
    """The tree with the proposals applied."""
    leaf: Callable[[LeafNode], LeafNode] = same
    """The committer's leaf before it is signed."""
    signed_leaf: Callable[[LeafNode], LeafNode] = same
    path: Callable[[UpdatePath], UpdatePath] = same
    content: Callable[[FramedContent], FramedContent] = same
    """What is framed, before it is signed."""
    init_secret: Callable[[InitSecret], InitSecret] = same
    tag: Callable[[bytes], bytes] = same
    """The confirmation tag."""
    psks: PskLookup = lambda _: b"secret"
    wire_format: WireFormat = WireFormat.PUBLIC_MESSAGE


Entries = Sequence[Proposal | ProposalRef]


def forged_commit(group: Group, person: Person, proposals: Entries = (), **hooks: Any) -> Forged:
    """A commit as `group`'s member can make it with its own keys and no scruples; `hooks` are fields of `Hooks`."""
    wrong = Hooks(**hooks)
    sender, init_secret = Sender.member(group.own_leaf), group._secrets.init_secret
    committer = Committer(group.public, sender, group._keys, person.signature, init_secret)
    public = wrong.wire_format == WireFormat.PUBLIC_MESSAGE
    seal = partial(sealed_public, group) if public else partial(sealed_private, group)
    return _forge(committer, person, group.public.member(group.own_leaf), proposals, wrong, seal)


def forged_external(
    group: Group, person: Person, proposals: Callable[[Entries], Entries] = same, **hooks: Any
) -> Forged:
    """An external commit into the group that `group` is a member's view of; `proposals` changes its list."""
    key = group._secrets.external_key(SUITE).public_key
    kem_output, init_secret = encapsulate_init_secret(SUITE, key)
    listed = proposals([ExternalInit(kem_output)])
    _, own_leaf = _applied(group.public, None, listed).tree.with_blank_leaf()
    keys = TreePrivateKeys(SUITE, own_leaf, {})
    sender = Sender(SenderType.NEW_MEMBER_COMMIT)
    committer = Committer(group.public, sender, keys, person.signature, init_secret)
    leaf = person.key_package().key_package.leaf_node
    return _forge(committer, person, leaf, listed, Hooks(**hooks), partial(sealed_public, group))


class _Applied(NamedTuple):
    tree: RatchetTree
    new_leaves: list[LeafIndex]
    context: GroupContext
    psks: tuple[PreSharedKeyId, ...]


def _applied(public: PublicGroup, committer: LeafIndex | None, listed: Entries) -> _Applied:
    """Apply proposals as section 12.3 says, without judging them."""
    entries: list[tuple[Proposal, LeafIndex | None]] = []
    for entry in listed:
        if isinstance(entry, Proposal):
            entries.append((entry, committer))
        elif entry in public.proposals:
            known = public.proposals[entry].content
            assert isinstance(known.content, Proposal)
            entries.append((known.content, known.sender.leaf))
    tree, new_leaves, context = public.tree, list[LeafIndex](), public.context
    for content, sender in entries:
        if isinstance(content, GroupContextExtensions):
            context = replace(context, extensions=content.extensions)
        elif isinstance(content, Update) and sender is not None and tree.leaf(sender) is not None:
            tree = tree.update_leaf(sender, content.leaf_node)
    for content, _ in entries:
        if isinstance(content, Remove) and tree.leaf(content.removed) is not None:
            tree = tree.remove_leaf(content.removed)
    for content, _ in entries:
        if isinstance(content, Add):
            tree, new_leaf = tree.add_leaf(content.key_package.leaf_node)
            new_leaves.append(new_leaf)
    psks = tuple(content.psk for content, _ in entries if isinstance(content, PreSharedKey))
    return _Applied(tree, new_leaves, context, psks)


def _forge(
    committer: Committer,
    person: Person,
    old_leaf: LeafNode,
    proposals: Entries,
    hooks: Hooks,
    seal: Callable[[AuthenticatedContent], bytes],
) -> Forged:
    """Section 12.4.1, unchecked."""
    before, own, suite = committer.public, committer.keys.leaf, committer.public.suite
    sign = committer.signature_private.sign_with_label
    applied = _applied(before, committer.sender.leaf, proposals)
    tree = hooks.tree(applied.tree)
    if committer.sender.leaf is None:
        tree, _ = tree.with_blank_leaf()

    def make_leaf(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
        unsigned = replace(
            old_leaf,
            encryption_key=encryption_key,
            source=LeafNodeSource.COMMIT,
            lifetime=None,
            parent_hash=parent_hash,
        )
        return hooks.signed_leaf(hooks.leaf(unsigned).signed(sign, before.group_id, own))

    def make_context(tree_hash: bytes) -> bytes:
        return replace(applied.context, epoch=before.epoch + 1, tree_hash=tree_hash).encode()

    update_path, commit_secret, path_secrets = None, CommitSecret(zero_secret(suite)), None
    if hooks.with_path:
        made = committer.keys.create_path(tree, applied.new_leaves, make_leaf, make_context)
        update_path, tree = hooks.path(made.update_path), made.tree
        commit_secret, path_secrets = made.commit_secret, made.path_secrets
    commit = Commit(tuple(proposals), update_path)
    framed = hooks.content(FramedContent(before.group_id, before.epoch, committer.sender, b"", commit))
    content = signed(before, person, framed, hooks.wire_format)
    confirmed = confirmed_transcript_hash(suite, before.interim_transcript_hash, content)
    context = replace(
        applied.context,
        epoch=before.epoch + 1,
        tree_hash=tree.tree_hash(suite),
        confirmed_transcript_hash=confirmed,
    )
    joiner = joiner_secret(suite, hooks.init_secret(committer.init_secret), commit_secret, context)
    psk = psk_secret(suite, applied.psks, hooks.psks)
    secrets, _ = EpochSecrets.derive(suite, epoch_secret(suite, joiner, psk, context))
    if isinstance(framed.content, Commit):
        content = content.with_confirmation_tag(hooks.tag(secrets.confirmation_tag(suite, context)))
    return Forged(
        seal(content), person, own, tree, context, secrets, joiner, psk, applied.psks, path_secrets
    )


# ---- key packages


def forged_key_package(
    person: Person,
    *,
    leaf: Callable[[LeafNode], LeafNode] = same,
    signed_leaf: Callable[[LeafNode], LeafNode] = same,
    package: Callable[[KeyPackage], KeyPackage] = same,
    signed_package: Callable[[KeyPackage], KeyPackage] = same,
) -> KeyPackage:
    """A key package that its owner made wrong; the hooks work before and after each of the two signatures."""
    sign = person.signature.sign_with_label
    good = person.key_package().key_package
    made = package(replace(good, leaf_node=signed_leaf(leaf(good.leaf_node).signed(sign))))
    return signed_package(replace(made, signature=sign(b"KeyPackageTBS", made.tbs)))
