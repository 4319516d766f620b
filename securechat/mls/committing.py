"""From one epoch to the next: making a commit, with its Welcome and GroupInfo, and following another's.

RFC 9420, sections 12.4.1 and 12.4.2. Used by `group` for members' commits and for external ones. What is made here
passes through the checks that every receiver makes of a decoded commit (`PublicGroup.finish`) before it is handed out.
Nothing is kept here: the secrets of the new epoch go to the caller, who deletes those of the old one by dropping its
`Group`; joiner secret, path secrets and commit secret end with the functions.
"""

from dataclasses import replace
from typing import NamedTuple

from securechat.mls.commit import Commit, ProposalRef
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import BadPath, InvalidMessage
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
    CommitSecret,
    EpochSecrets,
    InitSecret,
    JoinerSecret,
    PskLookup,
    PskSecret,
    epoch_secret,
    joiner_secret,
    psk_secret,
    welcome_secret,
    zero_secret,
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
    """What a committer's new leaf says, and the key that signs it and everything in the new epoch."""

    signature_private: SignaturePrivateKey
    credential: Credential
    capabilities: Capabilities
    extensions: Extensions


class NewEpoch(NamedTuple):
    """What a commit leads to, for its maker."""

    staged: PublicStagedCommit
    secrets: EpochSecrets
    keys: TreePrivateKeys
    messages: SecretTree
    signature_private: SignaturePrivateKey
    """Of the maker's new leaf."""
    content: AuthenticatedContent
    """The commit, signed and tagged, still to be framed for its wire format."""
    welcome: bytes | None
    group_info: bytes


def make_commit(
    committer: Committer,
    proposals: tuple[Proposal | ProposalRef, ...],
    applied: AppliedProposals,
    template: LeafTemplate | None,
    *,
    wire_format: WireFormat,
    authenticated_data: bytes,
    tree_in_welcome: bool,
    psks: PskLookup,
    validate: CredentialValidator,
) -> NewEpoch:
    """Make a commit for proposals that were checked and applied; without `template` it has no path.

    Raises `InvalidMessage`, or what `psks` and `validate` raise.
    """
    before, leaf = committer.public, applied.committer_leaf
    suite, sign = before.suite, committer.signature_private.sign_with_label
    path = None if template is None else _make_path(committer, applied, template)
    tree = applied.tree if path is None else path.tree
    keys = committer.keys.kept_in(tree) if path is None else path.keys
    signer = committer.signature_private if template is None else template.signature_private
    commit_secret = CommitSecret(zero_secret(suite)) if path is None else path.commit_secret

    commit = Commit(proposals, None if path is None else path.update_path)
    framed = FramedContent(before.group_id, before.epoch, committer.sender, authenticated_data, commit)
    signed = AuthenticatedContent.sign(wire_format, framed, before.context, sign)

    confirmed = confirmed_transcript_hash(suite, before.interim_transcript_hash, signed)
    context = before.next_context(applied.extensions, tree.tree_hash(suite), confirmed)
    joiner = joiner_secret(suite, committer.init_secret, commit_secret, context)
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
            signer,
            external=False,
            with_tree=tree_in_welcome,
        )
        welcome = MLSMessage(_make_welcome(suite, group_info, applied, path, joiner, psk)).encode()
    public_info = make_group_info(staged.after, secrets, leaf, signer, external=True, with_tree=False)
    return NewEpoch(
        staged,
        secrets,
        keys,
        SecretTree.create(suite, tree.leaf_count, encryption_secret),
        signer,
        content,
        welcome,
        MLSMessage(public_info).encode(),
    )


def _make_path(committer: Committer, applied: AppliedProposals, template: LeafTemplate) -> NewPath:
    """Renew the committer's leaf and the keys above it."""
    before, leaf = committer.public, applied.committer_leaf

    def make_leaf(encryption_key: bytes, parent_hash: bytes) -> LeafNode:
        return LeafNode(
            encryption_key=encryption_key,
            signature_key=template.signature_private.public_key,
            credential=template.credential,
            capabilities=template.capabilities,
            source=LeafNodeSource.COMMIT,
            lifetime=None,
            parent_hash=parent_hash,
            extensions=template.extensions,
            signature=b"",
        ).signed(template.signature_private.sign_with_label, before.group_id, leaf)

    def make_context(tree_hash: bytes) -> bytes:
        transcript = before.context.confirmed_transcript_hash
        return before.next_context(applied.extensions, tree_hash, transcript).encode()

    return committer.keys.create_path(applied.tree, applied.new_leaves, make_leaf, make_context)


def follow_commit(
    staged: PublicStagedCommit,
    applied: AppliedProposals,
    content: AuthenticatedContent,
    secrets: EpochSecrets,
    keys: TreePrivateKeys,
    psks: PskLookup,
) -> tuple[EpochSecrets, TreePrivateKeys, SecretTree]:
    """What another member comes to know by a commit that was checked (section 12.4.2).

    `secrets` are those of the epoch that ends, `keys` those that are left once the proposals are applied. Raises
    `BadPath` if its path does not hold for us, `InvalidMessage` if it leads elsewhere than its confirmation tag says,
    or what `psks` raises.
    """
    before, after = staged.before, staged.after
    suite, commit_secret = after.suite, CommitSecret(zero_secret(after.suite))
    commit = content.content.content
    if isinstance(commit, Commit) and commit.path is not None:
        provisional = replace(after.context, confirmed_transcript_hash=before.context.confirmed_transcript_hash)
        try:
            keys, commit_secret = keys.process_path(
                applied.tree,
                after.tree,
                commit.path,
                applied.committer_leaf,
                applied.new_leaves,
                provisional.encode(),
            )
        except InvalidMessage as error:
            raise BadPath(str(error)) from error
    init_secret = secrets.init_secret
    if applied.kem_output is not None:
        init_secret = secrets.external_init_secret(suite, applied.kem_output)
    joiner = joiner_secret(suite, init_secret, commit_secret, after.context)
    root = epoch_secret(suite, joiner, psk_secret(suite, applied.psks, psks), after.context)
    next_secrets, encryption_secret = EpochSecrets.derive(suite, root)
    next_secrets.verify_confirmation_tag(suite, after.context, content.auth.confirmation_tag or b"")
    return next_secrets, keys, SecretTree.create(suite, after.tree.leaf_count, encryption_secret)


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
    suite: CipherSuite,
    group_info: GroupInfo,
    applied: AppliedProposals,
    path: NewPath | None,
    joiner: JoinerSecret,
    psk: PskSecret,
) -> Welcome:
    encrypted = encrypt_group_info(suite, welcome_secret(suite, joiner, psk), group_info)
    entries = []
    for leaf, package in zip(applied.new_leaves, applied.key_packages, strict=True):
        path_secret = None if path is None else path.path_secret_for(applied.committer_leaf, leaf)
        secrets = GroupSecrets(joiner, path_secret, applied.psks)
        entries.append(secrets.encrypt_to(suite, package, encrypted))
    return Welcome(suite.value, tuple(entries), encrypted)
