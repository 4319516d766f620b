"""Making a commit, with the Welcome and the GroupInfo that go with it (RFC 9420, section 12.4.1).

Used by `group` for members' commits and for external ones. What is made here passes through the checks that
every receiver makes (`PublicGroup.finish`) before it is handed out.
"""

from typing import NamedTuple

from securechat.mls.commit import Commit, ProposalRef
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.extensions import Extension, Extensions, ExtensionType, external_pub_extension
from securechat.mls.framing import (
    AuthenticatedContent,
    FramedContent,
    MLSMessage,
    Sender,
    WireFormat,
)
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets, encrypt_group_info
from securechat.mls.key_schedule import (
    EpochSecrets,
    InitSecret,
    JoinerSecret,
    PskLookup,
    PskSecret,
    epoch_secret,
    joiner_secret,
    psk_secret,
    welcome_secret,
)
from securechat.mls.leaf_node import Capabilities, CredentialValidator, LeafNode, LeafNodeSource
from securechat.mls.proposal_list import AppliedProposals
from securechat.mls.proposals import Proposal
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.secret_tree import SecretTree
from securechat.mls.transcript_hash import confirmed_transcript_hash
from securechat.mls.tree_math import LeafIndex
from securechat.mls.treekem import NewPath, TreePrivateKeys
from securechat.mls.welcome import Welcome
from securechat.value import value


@value
class Committer:
    """Who commits, and the secrets of the epoch that ends."""

    public: PublicGroup
    sender: Sender
    keys: TreePrivateKeys
    signature_private: SignaturePrivateKey
    init_secret: InitSecret


class LeafTemplate(NamedTuple):
    """What a committer's new leaf says, beside its keys."""

    credential: Credential
    capabilities: Capabilities
    extensions: Extensions


class NewEpoch(NamedTuple):
    """What a commit leads to, for its maker."""

    staged: PublicStagedCommit
    secrets: EpochSecrets
    keys: TreePrivateKeys
    messages: SecretTree
    content: AuthenticatedContent
    """The commit, signed and tagged, still to be framed for its wire format."""
    welcome: bytes | None
    group_info: bytes


def make_commit(
    committer: Committer,
    proposals: tuple[Proposal | ProposalRef, ...],
    applied: AppliedProposals,
    template: LeafTemplate,
    *,
    wire_format: WireFormat,
    authenticated_data: bytes,
    tree_in_welcome: bool,
    psks: PskLookup,
    validate: CredentialValidator,
) -> NewEpoch:
    """Make a commit with a path for proposals that were checked and applied.

    Raises `InvalidMessage`, or what `psks` and `validate` raise.
    """
    before, leaf = committer.public, applied.committer_leaf
    suite, sign = before.suite, committer.signature_private.sign_with_label

    def make_leaf(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
        return LeafNode(
            encryption_key,
            committer.signature_private.public_key,
            template.credential,
            template.capabilities,
            LeafNodeSource.COMMIT,
            None,
            parent_hash,
            template.extensions,
            b"",
        ).signed(sign, before.group_id, leaf)

    def make_context(tree_hash: bytes) -> bytes:
        transcript = before.context.confirmed_transcript_hash
        return before.next_context(applied.extensions, tree_hash, transcript).encode()

    path = committer.keys.create_path(applied.tree, applied.new_leaves, make_leaf, make_context)
    commit = Commit(proposals, path.update_path)
    framed = FramedContent(before.group_id, before.epoch, committer.sender, authenticated_data, commit)
    signed = AuthenticatedContent.sign(wire_format, framed, before.context, sign)

    confirmed = confirmed_transcript_hash(suite, before.interim_transcript_hash, signed)
    context = before.next_context(applied.extensions, path.tree.tree_hash(suite), confirmed)
    joiner = joiner_secret(suite, committer.init_secret, path.commit_secret, context)
    psk = psk_secret(suite, applied.psks, psks)
    secrets, encryption_secret = EpochSecrets.derive(suite, epoch_secret(suite, joiner, psk, context))
    content = signed.with_confirmation_tag(secrets.confirmation_tag(suite, context))
    staged = before.finish(applied, content, commit, validate=validate)

    welcome = None
    if applied.added:
        group_info = make_group_info(
            staged.after,
            secrets,
            leaf,
            committer.signature_private,
            external=False,
            with_tree=tree_in_welcome,
        )
        welcome = MLSMessage(_make_welcome(group_info, applied, path, joiner, psk)).encode()
    public_info = make_group_info(
        staged.after, secrets, leaf, committer.signature_private, external=True, with_tree=False
    )
    return NewEpoch(
        staged,
        secrets,
        path.keys,
        SecretTree.create(suite, path.tree.leaf_count, encryption_secret),
        content,
        welcome,
        MLSMessage(public_info).encode(),
    )


def make_group_info(
    group: PublicGroup,
    secrets: EpochSecrets,
    signer: LeafIndex,
    signature_private: SignaturePrivateKey,
    *,
    external: bool,
    with_tree: bool,
) -> GroupInfo:
    """Sign a GroupInfo; with `external`, it has the key for external joins."""
    suite, extensions = group.suite, []
    if external:
        extensions.append(external_pub_extension(secrets.external_key(suite).public_key))
    if with_tree:
        extensions.append(Extension(ExtensionType.RATCHET_TREE, group.tree.encode()))
    tag = secrets.confirmation_tag(suite, group.context)
    return GroupInfo(group.context, tuple(extensions), tag, signer).signed(signature_private.sign_with_label)


def _make_welcome(
    group_info: GroupInfo, applied: AppliedProposals, path: NewPath, joiner: JoinerSecret, psk: PskSecret
) -> Welcome:
    suite = path.keys.suite
    encrypted = encrypt_group_info(suite, welcome_secret(suite, joiner, psk), group_info)
    entries = tuple(
        GroupSecrets(joiner, path.path_secret_for(path.keys.leaf, leaf), applied.psks).encrypt_to(
            suite, package, encrypted
        )
        for leaf, package in zip(applied.new_leaves, applied.key_packages, strict=True)
    )
    return Welcome(suite.value, entries, encrypted)
