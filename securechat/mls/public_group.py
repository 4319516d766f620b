"""A group as far as it is known without secrets: context, tree, and the checks that need no more.

The server keeps one per conversation; a member's `Group` is built around one. It is an immutable value:
staging a commit gives the group after it and leaves this one as it was (RFC 9420, sections 12.2 to 12.4). What
it keeps: proposals that commits may refer to, until the epoch ends.

What cannot be checked here: membership tags, confirmation tags, and whether path secrets are what they should
be. And it cannot follow a group whose members send handshakes as PrivateMessages: it has no key to read them, stays in
the epoch of the last public commit, and refuses what comes after (`WrongEpoch`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import cached_property
from typing import Self

from securechat.errors import DecodeError, PeerError
from securechat.mls.commit import Commit, ProposalRef, UpdatePath
from securechat.mls.crypto.suite import CipherSuite, cipher_suite
from securechat.mls.errors import InvalidMessage, WrongEpoch
from securechat.mls.extensions import (
    Extensions,
    ExtensionType,
    external_pub,
    external_senders,
    find_extension,
    verify_group_extensions,
)
from securechat.mls.framing import AuthenticatedContent, PublicMessage, Sender, SenderType
from securechat.mls.group_context import MAX_EPOCH, GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.leaf_node import CredentialValidator, LeafNode, LeafNodeSource
from securechat.mls.parent_hash import set_path_keys
from securechat.mls.proposal_list import (
    AppliedProposals,
    CommittedProposal,
    Places,
    apply_proposals,
    member_at,
    resolve,
    select,
)
from securechat.mls.proposals import Add, Proposal, ReInit, Remove
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.transcript_hash import confirmed_transcript_hash, interim_transcript_hash
from securechat.mls.tree_math import LeafIndex, node_of
from securechat.mls.tree_validation import verify_members_agree, verify_tree
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value

MAX_REMEMBERED_PROPOSALS = 2000
"""Proposals kept in one epoch, at most: twice the members of the largest conversation."""

MAX_REMEMBERED_REQUESTS = 100
"""Proposals kept in which outsiders ask to be added: anybody can make them, and nobody answers for them."""

MAX_REMEMBERED_PROPOSAL = 64 << 10
"""Bytes of a proposal that is kept, at most: many times a key package."""

_SAVED_VERSION = 2


@value
class PublicGroup(Struct):
    """The public state of a group in one epoch."""

    context: GroupContext
    tree: RatchetTree
    interim_transcript_hash: bytes
    proposals: Mapping[ProposalRef, AuthenticatedContent] = field(default_factory=dict)
    """Proposals of this epoch that commits may refer to, oldest first."""
    reinit: ReInit | None = None
    """What the commit that began this epoch closed the group with: it goes on as another group (`resumption`)."""

    @cached_property
    def suite(self) -> CipherSuite:
        """The group's cipher suite."""
        return cipher_suite(self.context.cipher_suite)

    @property
    def group_id(self) -> bytes:
        """The group's name, constant for its life."""
        return self.context.group_id

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.context.epoch

    @property
    def extensions(self) -> Extensions:
        """The group context's extensions."""
        return self.context.extensions

    # ---- how it comes into being

    @classmethod
    def from_group_info(
        cls, group_info: GroupInfo, tree: RatchetTree | None, *, validate: CredentialValidator, now: int
    ) -> Self:
        """Check a group as a joiner must (sections 12.4.3.1 and 12.4.3.2).

        `tree` may come from anyone; None means that it is in the GroupInfo. `now` is in seconds since 1970. Raises
        `InvalidMessage`, `DecodeError`, or what `validate` raises. The confirmation tag needs a secret to be checked.
        """
        context = group_info.group_context
        suite = cipher_suite(context.cipher_suite)
        if tree is None:
            encoded = find_extension(group_info.extensions, ExtensionType.RATCHET_TREE)
            if encoded is None:
                raise InvalidMessage("a GroupInfo holds no ratchet tree, and none came with it")
            tree = RatchetTree.decode(encoded)
        if tree.tree_hash(suite) != context.tree_hash:
            raise InvalidMessage("the ratchet tree is not the one that the GroupInfo names")
        group_info.verify_signature(suite, member_at(tree, group_info.signer).signature_key)
        verify_group_extensions(suite, context.extensions)
        for external_sender in external_senders(context.extensions):
            validate(external_sender, entering=False)
        verify_tree(suite, tree, context.group_id, context.extensions, validate=validate, now=now)
        confirmed = context.confirmed_transcript_hash
        interim = interim_transcript_hash(suite, confirmed, group_info.confirmation_tag)
        return cls(context, tree, interim)

    # ---- members

    def member(self, leaf: LeafIndex) -> LeafNode:
        """The member at a leaf. Raises `InvalidMessage` if there is none."""
        return member_at(self.tree, leaf)

    def members(self) -> Iterator[tuple[LeafIndex, LeafNode]]:
        """All members, from left to right."""
        return self.tree.leaves()

    def find(self, signature_key: bytes) -> LeafIndex | None:
        """The leaf of the member with a signature key, or None."""
        return next((leaf for leaf, node in self.members() if node.signature_key == signature_key), None)

    # ---- proposals

    def verify_proposal(self, message: PublicMessage) -> AuthenticatedContent:
        """Check a standalone proposal: group, epoch, that its sender may send it, signature.

        Raises `WrongEpoch` or `InvalidMessage`. Whether it can take effect is judged when it is committed.
        """
        return self.verify_proposal_content(message.authenticated_content)

    def verify_proposal_content(self, content: AuthenticatedContent) -> AuthenticatedContent:
        """`verify_proposal` for a proposal that may have come encrypted."""
        self.check_epoch(content.content.group_id, content.content.epoch)
        proposal, sender = content.content.content, content.content.sender
        if not isinstance(proposal, Proposal):
            raise InvalidMessage("a proposal was expected")
        content.verify_signature(self.suite, self._proposer_key(proposal, sender), self.context)
        if isinstance(proposal, Remove):
            self.member(proposal.removed)
        return content

    def _proposer_key(self, proposal: Proposal, sender: Sender) -> bytes:
        """The key with which a proposal must be signed (section 6.1)."""
        if sender.type == SenderType.MEMBER:
            return self.member(LeafIndex(sender.index)).signature_key
        if sender.type == SenderType.EXTERNAL:
            senders = external_senders(self.extensions)
            if sender.index < len(senders) and proposal.external:
                return senders[sender.index].signature_key
        if sender.type == SenderType.NEW_MEMBER_PROPOSAL and isinstance(proposal, Add):
            return proposal.key_package.leaf_node.signature_key
        raise InvalidMessage("a proposal comes from someone who may not send it")

    def with_proposal(self, proposal: AuthenticatedContent) -> Self:
        """A copy that remembers a verified proposal, so that commits can refer to it.

        Raises `InvalidMessage` beyond `MAX_REMEMBERED_PROPOSALS` and the other limits of this module.
        """
        if len(self.proposals) >= MAX_REMEMBERED_PROPOSALS:
            raise InvalidMessage("there are too many proposals in this epoch")
        if _is_request(proposal) and sum(map(_is_request, self.proposals.values())) >= MAX_REMEMBERED_REQUESTS:
            raise InvalidMessage("too many have asked to be added in this epoch")
        encoded = proposal.encode()
        if len(encoded) > MAX_REMEMBERED_PROPOSAL:
            raise InvalidMessage(f"a proposal has {len(encoded)} bytes; at most {MAX_REMEMBERED_PROPOSAL} are kept")
        return replace(self, proposals={**self.proposals, self.suite.make_proposal_ref(encoded): proposal})

    def committable(
        self,
        by_value: Sequence[Proposal],
        committer: LeafIndex,
        *,
        by_reference: Callable[[CommittedProposal], bool],
        validate: CredentialValidator,
        now: int,
    ) -> dict[ProposalRef, CommittedProposal]:
        """The remembered proposals that a member's commit can cover by reference beside `by_value`.

        Only those that `by_reference` wants are considered. One that is invalid by itself displaces no other. If some
        are invalid together, such as new extensions and an Add of somebody who lacks them, those that came first stay.
        """
        sender = Sender.member(committer)

        def are_valid(entries: Iterable[CommittedProposal]) -> bool:
            try:
                applied = self.apply_proposals(list(entries), sender, validate=validate, now=now)
                verify_members_agree(applied.tree)
            except PeerError:
                return False
            return True

        remembered = {
            name: CommittedProposal(content.content.content, content.content.sender, by_reference=True)
            for name, content in self.proposals.items()
            if isinstance(content.content.content, Proposal)
        }
        alone = {name: entry for name, entry in remembered.items() if by_reference(entry) and are_valid([entry])}
        chosen = list(select(alone, by_value, committer).items())
        fixed = [CommittedProposal(proposal, sender, by_reference=False) for proposal in by_value]
        usable: dict[ProposalRef, CommittedProposal] = {}
        # Mostly they all fit together. If not, halves are tried: a few that do not fit then cost few attempts.
        portions = [chosen] if chosen else []  # if there are none, the caller checks `by_value` soon enough
        while portions:
            portion = portions.pop()
            if are_valid([*usable.values(), *(entry for _, entry in portion), *fixed]):
                usable.update(portion)
            elif len(portion) > 1:
                middle = len(portion) // 2
                portions += [portion[middle:], portion[:middle]]
        return usable

    # ---- commits

    def stage(
        self, message: PublicMessage, *, validate: CredentialValidator, now: int
    ) -> "PublicStagedCommit":
        """Check a commit and give the group after it; this group stays as it is (section 12.4.2).

        `now`, in seconds since 1970, judges the lifetimes of added key packages: give all members the same,
        such as the time at which the server took the commit. Raises `WrongEpoch`, `InvalidMessage`, or what
        `validate` raises.
        """
        return self.stage_content(message.authenticated_content, validate=validate, now=now)[0]

    def stage_content(
        self, content: AuthenticatedContent, *, validate: CredentialValidator, now: int
    ) -> tuple["PublicStagedCommit", AppliedProposals]:
        """`stage` for a commit that may have come encrypted; also gives what a member needs to go on."""
        framed = content.content
        self.check_epoch(framed.group_id, framed.epoch)
        commit = framed.content
        if not isinstance(commit, Commit):
            raise InvalidMessage("a commit was expected")
        content.verify_signature(self.suite, self._committer_key(commit, framed.sender), self.context)
        committed = resolve(commit, framed.sender, self.proposals)
        applied = self.apply_proposals(committed, framed.sender, validate=validate, now=now)
        return self.finish(applied, content, commit, validate=validate), applied

    def check_epoch(self, group_id: bytes, epoch: int) -> None:
        """Raise `WrongEpoch` unless a message is for this group and epoch, `InvalidMessage` if the group is closed."""
        if group_id != self.group_id:
            raise WrongEpoch("a message is for another group")
        if epoch != self.epoch:
            raise WrongEpoch(f"a message is for epoch {epoch}; the group is in epoch {self.epoch}")
        if self.reinit is not None:
            raise InvalidMessage("a message is for a group that was closed by a ReInit")

    def _committer_key(self, commit: Commit, sender: Sender) -> bytes:
        """The key with which a commit must be signed (section 6.1)."""
        if sender.type == SenderType.MEMBER:
            return self.member(LeafIndex(sender.index)).signature_key
        if sender.type == SenderType.NEW_MEMBER_COMMIT and commit.path is not None:
            return commit.path.leaf_node.signature_key
        raise InvalidMessage("a commit comes from someone who may not send it")

    def apply_proposals(
        self,
        committed: Sequence[CommittedProposal],
        committer: Sender,
        *,
        validate: CredentialValidator,
        now: int,
    ) -> AppliedProposals:
        """First half of a commit: check and apply its proposals."""
        return apply_proposals(
            self.suite, self.context, self.tree, committed, committer, validate=validate, now=now
        )

    def finish(
        self,
        applied: AppliedProposals,
        content: AuthenticatedContent,
        commit: Commit,
        *,
        validate: CredentialValidator,
    ) -> "PublicStagedCommit":
        """Second half of a commit: check and apply its path, and move to the next epoch."""
        suite, sender = self.suite, content.content.sender
        tree = applied.tree
        if commit.path is not None:
            tree = self._apply_path(applied, commit.path)
            validate(commit.path.leaf_node, entering=True)
        elif applied.path_required:
            raise InvalidMessage("a commit lacks the path that its proposals require")
        verify_members_agree(tree)
        tag = content.auth.confirmation_tag
        if tag is None:
            raise InvalidMessage("a commit lacks its confirmation tag")
        confirmed = confirmed_transcript_hash(suite, self.interim_transcript_hash, content)
        context = self.next_context(applied.extensions, tree.tree_hash(suite), confirmed)
        interim = interim_transcript_hash(suite, confirmed, tag)
        after = type(self)(context, tree, interim, reinit=applied.reinit)
        leaf = applied.committer_leaf
        return PublicStagedCommit(
            before=self,
            after=after,
            sender=sender,
            committer=member_at(self.tree if sender.type == SenderType.MEMBER else tree, leaf),
            committer_leaf=leaf,
            proposals=applied.committed,
            added=applied.added,
            removed=applied.removed,
            updated=applied.updated,
            has_path=commit.path is not None,
            authenticated_data=content.content.authenticated_data,
            new_member_refs=frozenset(package.reference(suite) for package in applied.key_packages),
        )

    def next_context(self, extensions: Extensions, tree_hash: bytes, confirmed: bytes) -> GroupContext:
        """The context of the next epoch; with the present transcript hash, the provisional one (12.4.1).

        Raises `InvalidMessage` after `MAX_EPOCH`.
        """
        if self.epoch == MAX_EPOCH:
            raise InvalidMessage("the group is in its last epoch")
        return replace(
            self.context,
            epoch=self.epoch + 1,
            tree_hash=tree_hash,
            confirmed_transcript_hash=confirmed,
            extensions=extensions,
        )

    def _apply_path(self, applied: AppliedProposals, path: UpdatePath) -> RatchetTree:
        """Check an update path and put its public keys into the tree (sections 7.5, 7.6 and 12.4.2)."""
        suite, leaf, leaf_node = self.suite, applied.committer_leaf, path.leaf_node
        if leaf_node.source != LeafNodeSource.COMMIT:
            raise InvalidMessage("the leaf of a path does not come from a commit")
        leaf_node.verify_for(suite, applied.extensions)
        leaf_node.verify_signature(suite, self.group_id, leaf)

        steps = applied.tree.filtered_direct_path(leaf)
        tree, parent_hash = set_path_keys(
            suite, applied.tree, leaf, [node.encryption_key for node in path.nodes]
        )
        if leaf_node.parent_hash != parent_hash:
            raise InvalidMessage("the parent hash of a path's leaf does not fit")
        for step, node in zip(steps, path.nodes, strict=True):
            suite.kem.check_public_key(node.encryption_key)
            if len(node.encrypted_path_secret) != len(applied.tree.recipients(step, applied.new_leaves)):
                raise InvalidMessage("an update path has too few or too many ciphertexts")

        known = (self.tree.census.encryption_keys, applied.tree.census.encryption_keys)
        for key in (leaf_node.encryption_key, *(node.encryption_key for node in path.nodes)):
            if any(key in keys for keys in known):
                raise InvalidMessage("a path uses a key again that is already in the tree")
        return tree.replace({node_of(leaf): leaf_node})

    # ---- saved form

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form. Raises `DecodeError` if it is of another version, or context and tree do not fit."""
        if reader.u16() != _SAVED_VERSION:
            raise DecodeError("a saved group is of another version")
        context, tree, interim = GroupContext.read(reader), RatchetTree.read(reader), reader.vector()
        proposals = reader.items(AuthenticatedContent.read)
        group = cls(context, tree, interim, reinit=reader.optional(ReInit.read_body))
        try:
            for proposal in proposals:
                group = group.with_proposal(proposal)
            fits = tree.tree_hash(group.suite) == context.tree_hash
        except InvalidMessage as error:
            raise DecodeError(f"a saved group is damaged: {error}") from None
        if not fits:
            raise DecodeError("a saved group is damaged: its tree does not fit its context")
        return group

    def write(self, writer: Writer) -> None:
        """Saved form: version, context, tree, interim transcript hash, remembered proposals, `reinit`."""
        self.context.write(writer.u16(_SAVED_VERSION))
        self.tree.write(writer)
        writer.vector(self.interim_transcript_hash).structs(self.proposals.values())
        writer.optional(self.reinit, lambda inner, reinit: reinit.write_body(inner))


def _is_request(proposal: AuthenticatedContent) -> bool:
    return proposal.content.sender.type == SenderType.NEW_MEMBER_PROPOSAL


def verify_group_info(group: PublicGroup, group_info: GroupInfo, *, signer: LeafIndex) -> None:
    """Check that a GroupInfo which `signer` gave out, whose commit was the newest, lets others join `group`.

    Raises `InvalidMessage` if its context, confirmation tag, signer, signature or external key do not fit, or if it has
    other extensions: to everybody who joins, those would be one member's word. Whether its external key is the group's
    only members can tell (`Group.verify_external_key`).
    """
    suite = group.suite
    if group_info.group_context != group.context:
        raise InvalidMessage("a GroupInfo does not fit the group's context")
    confirmed = group.context.confirmed_transcript_hash
    if group.interim_transcript_hash != interim_transcript_hash(
        suite, confirmed, group_info.confirmation_tag
    ):
        raise InvalidMessage("a GroupInfo does not have the confirmation tag of the newest commit")
    if group_info.signer != signer:
        raise InvalidMessage("a GroupInfo is signed by somebody else than the newest committer")
    group_info.verify_signature(suite, group.member(signer).signature_key)
    key = external_pub(group_info.extensions)
    if key is None or len(group_info.extensions) > 1:
        raise InvalidMessage("a GroupInfo has to hold the key for external joins and nothing else")
    suite.kem.check_public_key(key)


@value
class PublicStagedCommit(Struct):
    """A commit that was checked and is not in force: what rules and users look at."""

    before: PublicGroup
    after: PublicGroup
    sender: Sender
    """A member, or NEW_MEMBER_COMMIT."""
    committer: LeafNode
    """Of a member: its leaf before the commit. Of an external committer: its new leaf."""
    committer_leaf: LeafIndex
    """The committer's place in `after`."""
    proposals: tuple[CommittedProposal, ...]
    added: Places
    removed: Places
    updated: Places
    """Members that Update proposals changed, with their new leaves. The committer's new leaf is `after`'s."""
    has_path: bool
    authenticated_data: bytes
    new_member_refs: frozenset[bytes]
    """KeyPackageRefs of those added: together, the Welcomes must cover exactly these."""

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form."""
        return cls(
            before=PublicGroup.read(reader),
            after=PublicGroup.read(reader),
            sender=Sender.read(reader),
            committer=LeafNode.read(reader),
            committer_leaf=LeafIndex(reader.u32()),
            proposals=reader.items(CommittedProposal.read),
            added=reader.items(_read_place),
            removed=reader.items(_read_place),
            updated=reader.items(_read_place),
            has_path=reader.boolean(),
            authenticated_data=reader.vector(),
            new_member_refs=frozenset(reader.items(Reader.vector)),
        )

    def write(self, writer: Writer) -> None:
        """Saved form."""
        for part in (self.before, self.after, self.sender, self.committer):
            part.write(writer)
        writer.u32(self.committer_leaf).structs(self.proposals)
        for places in (self.added, self.removed, self.updated):
            writer.items(places, lambda inner, place: place[1].write(inner.u32(place[0])))
        writer.u8(self.has_path).vector(self.authenticated_data)
        writer.items(sorted(self.new_member_refs), Writer.vector)


def _read_place(reader: Reader) -> tuple[LeafIndex, LeafNode]:
    return LeafIndex(reader.u32()), LeafNode.read(reader)
