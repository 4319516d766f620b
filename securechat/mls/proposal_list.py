"""The proposals of one commit, judged and applied as a list (RFC 9420, sections 12.2 and 12.3)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self, TypeVar

from securechat.mls.commit import Commit, ProposalRef
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.extensions import Extensions, external_senders, verify_group_extensions
from securechat.mls.framing import AuthenticatedContent, Sender, SenderType
from securechat.mls.group_context import GroupContext
from securechat.mls.key_package import KeyPackage
from securechat.mls.leaf_node import MLS10, CredentialValidator, LeafNode, LeafNodeSource
from securechat.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    ReInit,
    Remove,
    Update,
)
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


@value
class CommittedProposal(Struct):
    """A proposal that a commit covers, and who made it."""

    proposal: Proposal
    sender: Sender
    by_reference: bool

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form."""
        return cls(Proposal.read(reader), Sender.read(reader), reader.boolean())

    def write(self, writer: Writer) -> None:
        """Saved form."""
        self.proposal.write(writer)
        self.sender.write(writer)
        writer.u8(self.by_reference)


_P = TypeVar("_P", bound=Proposal)

Places = tuple[tuple[LeafIndex, LeafNode], ...]
"""Leaves and where they stand."""


class AppliedProposals(NamedTuple):
    """A commit's proposals in force, before its path."""

    committed: tuple[CommittedProposal, ...]
    tree: RatchetTree
    """For an external commit, with room at `committer_leaf`."""
    extensions: Extensions
    committer_leaf: LeafIndex
    added: Places
    key_packages: tuple[KeyPackage, ...]
    """Those of `added`, in the same order."""
    removed: Places
    updated: Places
    psks: tuple[PreSharedKeyId, ...]
    kem_output: bytes | None
    """Of an ExternalInit."""
    reinit: ReInit | None
    path_required: bool

    @property
    def new_leaves(self) -> list[LeafIndex]:
        """The leaves of `added`."""
        return [leaf for leaf, _ in self.added]


def resolve(
    commit: Commit, committer: Sender, remembered: Mapping[ProposalRef, AuthenticatedContent]
) -> tuple[CommittedProposal, ...]:
    """Replace references by the proposals they name. Raises `InvalidMessage` if one is not known."""
    resolved = []
    for entry in commit.proposals:
        if isinstance(entry, Proposal):
            resolved.append(CommittedProposal(entry, committer, by_reference=False))
            continue
        known = remembered.get(entry)
        if known is None or not isinstance(known.content.content, Proposal):
            raise InvalidMessage("a commit refers to a proposal that was not seen")
        resolved.append(CommittedProposal(known.content.content, known.content.sender, by_reference=True))
    return tuple(resolved)


def apply_proposals(
    suite: CipherSuite,
    context: GroupContext,
    tree: RatchetTree,
    committed: Sequence[CommittedProposal],
    committer: Sender,
    *,
    validate: CredentialValidator,
    now: int,
) -> AppliedProposals:
    """Check a list of proposals and apply it, in the order of section 12.3.

    `now` is in seconds since 1970. Raises `InvalidMessage`, or what `validate` raises. The caller
    checks that members' keys are unique: it knows the committer's new leaf.
    """
    if committer.type == SenderType.NEW_MEMBER_COMMIT:
        _check_external_list(committed)
    else:
        _check_regular_list(committed, committer)
    extensions = context.extensions
    for change in _of(committed, GroupContextExtensions):
        extensions = change.extensions

    before = tree
    updated, added, key_packages = [], [], []
    for entry in committed:
        if isinstance(entry.proposal, Update):
            leaf, new = LeafIndex(entry.sender.index), entry.proposal.leaf_node
            _check_update(suite, context.group_id, extensions, member_at(before, leaf), leaf, new)
            validate(new, entering=True)
            tree = tree.update_leaf(leaf, new)
            updated.append((leaf, new))
    removed = [(remove.removed, member_at(before, remove.removed)) for remove in _of(committed, Remove)]
    for leaf, _ in removed:
        tree = tree.remove_leaf(leaf)
    if extensions != context.extensions:
        verify_group_extensions(suite, extensions)
        for external_sender in external_senders(extensions):
            validate(external_sender, entering=True)
        for leaf, leaf_node in tree.leaves():
            if leaf != committer.leaf:  # whose new leaf comes in the path
                leaf_node.verify_for(suite, extensions)
    for add in _of(committed, Add):
        add.key_package.verify(suite, extensions, validate=validate, now=now)
        tree, leaf = tree.add_leaf(add.key_package.leaf_node)
        added.append((leaf, add.key_package.leaf_node))
        key_packages.append(add.key_package)

    if committer.type == SenderType.NEW_MEMBER_COMMIT:
        tree, committer_leaf = tree.with_blank_leaf()
    else:
        committer_leaf = LeafIndex(committer.index)
    return AppliedProposals(
        committed=tuple(committed),
        tree=tree,
        extensions=extensions,
        committer_leaf=committer_leaf,
        added=tuple(added),
        key_packages=tuple(key_packages),
        removed=tuple(removed),
        updated=tuple(updated),
        psks=_check_psks(suite, context, committer, [psk.psk for psk in _of(committed, PreSharedKey)]),
        kem_output=next((init.kem_output for init in _of(committed, ExternalInit)), None),
        reinit=next(iter(_of(committed, ReInit)), None),
        path_required=not committed or any(entry.proposal.path_required for entry in committed),
    )


def member_at(tree: RatchetTree, leaf: LeafIndex) -> LeafNode:
    """The member at a leaf. Raises `InvalidMessage` if there is none."""
    leaf_node = tree.leaf(leaf)
    if leaf_node is None:
        raise InvalidMessage(f"there is no member at leaf {leaf}")
    return leaf_node


def _of(committed: Iterable[CommittedProposal], kind: type[_P]) -> list[_P]:
    return [entry.proposal for entry in committed if isinstance(entry.proposal, kind)]


def _check_regular_list(committed: Sequence[CommittedProposal], committer: Sender) -> None:
    """The list rules of section 12.2 for commits by members."""
    changed: Counter[int] = Counter()
    for entry in committed:
        match entry.proposal:
            case Update():
                if entry.sender.type != SenderType.MEMBER:
                    raise InvalidMessage("a commit holds an update by somebody who is not a member")
                if entry.sender == committer:
                    raise InvalidMessage("a commit holds an update of the committer's own leaf")
                changed[entry.sender.index] += 1
            case Remove(removed=leaf):
                if committer == Sender.member(leaf):
                    raise InvalidMessage("a commit removes its own committer")
                changed[leaf] += 1
            case ExternalInit():
                raise InvalidMessage("a member's commit holds an ExternalInit")
            case ReInit(version=version):
                if len(committed) > 1:
                    raise InvalidMessage("a commit holds a ReInit together with another proposal")
                if version < MLS10:
                    raise InvalidMessage("a ReInit lowers the protocol version")
    if any(count > 1 for count in changed.values()):
        raise InvalidMessage("a commit changes one leaf twice")
    if len(_of(committed, GroupContextExtensions)) > 1:
        raise InvalidMessage("a commit replaces the group context extensions twice")


def _check_external_list(committed: Sequence[CommittedProposal]) -> None:
    """The list rules of section 12.2 for external commits."""
    if any(entry.by_reference for entry in committed):
        raise InvalidMessage("an external commit refers to a proposal")
    kinds = Counter(type(entry.proposal) for entry in committed)
    if kinds[ExternalInit] != 1:
        raise InvalidMessage("an external commit does not have exactly one ExternalInit")
    if kinds[Remove] > 1:
        raise InvalidMessage("an external commit removes more than one member")
    if kinds.keys() - {ExternalInit, Remove, PreSharedKey}:
        raise InvalidMessage("an external commit holds a proposal that is not allowed there")


def _check_update(
    suite: CipherSuite,
    group_id: bytes,
    extensions: Extensions,
    old: LeafNode,
    leaf: LeafIndex,
    new: LeafNode,
) -> None:
    """Check the leaf of an Update proposal against the one it replaces (sections 7.3 and 12.1.2)."""
    if new.source != LeafNodeSource.UPDATE:
        raise InvalidMessage("the leaf of an update does not come from an update")
    if new.encryption_key == old.encryption_key:
        raise InvalidMessage("an update does not change the leaf's encryption key")
    new.verify_for(suite, extensions)
    new.verify_signature(suite, group_id, leaf)


def _check_psks(
    suite: CipherSuite, context: GroupContext, committer: Sender, psks: Sequence[PreSharedKeyId]
) -> tuple[PreSharedKeyId, ...]:
    """Check a commit's PreSharedKey proposals (sections 12.1.4 and 12.2).

    Only the creator's first commit can tie the new group to one that it continues.
    """
    if len(set(psks)) < len(psks):
        raise InvalidMessage("a commit uses one pre-shared key twice")
    if any(len(psk.nonce) != suite.hash_size for psk in psks):
        raise InvalidMessage("the nonce of a pre-shared key has the wrong length")
    links = sum(psk.links_groups for psk in psks)
    if links and (context.epoch > 0 or committer.type != SenderType.MEMBER):
        raise InvalidMessage("a commit uses a resumption key that is only for new groups")
    if links > 1:
        raise InvalidMessage("a new group continues more than one old one")
    return tuple(psks)


def of_members(entry: CommittedProposal) -> bool:
    """Whether a proposal comes from a member, or from an external sender that the group lists."""
    return entry.sender.type != SenderType.NEW_MEMBER_PROPOSAL


def select(
    usable: Mapping[ProposalRef, CommittedProposal], by_value: Sequence[Proposal], committer: LeafIndex
) -> dict[ProposalRef, CommittedProposal]:
    """Choose which proposals, each valid by itself and oldest first, a member's commit can cover beside `by_value`.

    Left out are those about the committer itself, and all but one for each leaf, pre-shared key and the
    extensions: a Remove wins over Updates, else the newest wins; and a ReInit, which stands alone, unless there is
    nothing else (section 12.2).
    """
    if any(isinstance(proposal, ReInit) for proposal in by_value):
        return {}
    taken: dict[object, ProposalRef | None] = {_subject(proposal, None): None for proposal in by_value}
    chosen: dict[ProposalRef, CommittedProposal] = {}
    for reference, entry in usable.items():
        proposal = entry.proposal
        subject = _subject(proposal, entry.sender)
        if subject == ("leaf", committer):
            continue
        rival = taken.get(subject)
        if subject in taken and (
            rival is None or (isinstance(chosen[rival].proposal, Remove) and not isinstance(proposal, Remove))
        ):
            continue
        if rival is not None:
            del chosen[rival]
        taken[subject] = reference
        chosen[reference] = entry
    if len(chosen) + len(by_value) > 1:
        chosen = {name: entry for name, entry in chosen.items() if not isinstance(entry.proposal, ReInit)}
    return chosen


def _subject(proposal: Proposal, sender: Sender | None) -> object:
    """What a proposal is about: a commit may hold only one proposal about each subject."""
    match proposal:
        case Remove(removed=leaf):
            return "leaf", leaf
        case Update():
            return "leaf", None if sender is None else sender.index
        case PreSharedKey(psk=psk):
            return "psk", psk
        case Add(key_package=key_package):
            return "client", key_package.leaf_node.signature_key
        case _:
            return "group", proposal.type
