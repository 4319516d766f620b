"""What a commit may do, by who made it and in which kind of conversation.

    in a commit             direct                   invite room                      open room
    Add                     the peer, in the first   owners and inviters; where       nobody
                                                     none is left, everybody their
                                                     successors
    Remove                  departed devices         owners; inviters: who was added  owners; departed devices
                                                     and has not answered; departed
                                                     devices
    change of the rules     life, version: both      owners; successors               owners; successors
    external join           nobody                   nobody                           everybody, in place of what
                                                                                      their account had there
    external replacement    of one's own account     of one's own account             of one's own account
    of a leaf

A regular commit has to remove every departed device, and every revoked one (`revocations`); a leaf of an identity key
that has named a successor counts as one, and the successor takes over what that key was (`successions`). A leaf gives
way to another of the same identity key only with the same signature key or a later certificate, whoever commits: else a
thief of an old key puts the owner's new one out.
Somebody else's identity key replaces a leaf where the committer may remove it, in one commit with the Add.

Whoever is barred has no leaf (`states`), so that a commit that bars somebody removes them, too. Kind and site key never
change, and a room that has owners keeps one. In a room that belongs to nobody a regular commit carries out what the
operator has said since the last one, and changes the rules by nothing else (`words`). Proposals are in the commit by
value. Updates, PSKs and ReInit are not used: a commit with a path updates its sender.
"""

from collections.abc import Sequence
from dataclasses import replace

from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.statements import Statement
from securechat.mls.framing import SenderType
from securechat.mls.leaf_node import LeafNodeSource
from securechat.mls.proposals import Add, ExternalInit, GroupContextExtensions, Proposal, Remove
from securechat.mls.public_group import PublicStagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.policy.revocations import is_revoked, revoked_leaves
from securechat.policy.rules import Identity, Rules
from securechat.policy.successions import added_by_anybody, taken_over
from securechat.policy.words import Word, carried_out


def judge_commit(
    staged: PublicStagedCommit,
    before: Rules,
    after: Rules,
    departed: frozenset[LeafIndex],
    words: Sequence[Word],
    revocations: Sequence[Statement],
) -> None:
    """Check a commit in an epoch of version 2; `departed` and what follows: see `judges.check_commit`."""
    who = certificate_of(staged.committer)
    external = staged.sender.type == SenderType.NEW_MEMBER_COMMIT
    for committed in staged.proposals:
        if committed.by_reference:
            raise PeerError(f"{who.account} commits a proposal by reference; it has to be in the commit.")
        _check_used(committed.proposal, who, external=external)
    _check_replacements(staged, who)
    _check_entering(staged, who, revocations)
    revoked = revoked_leaves(staged.before, revocations)
    if external:
        _check_external(staged, before, who, departed - revoked)
        if words and who.account in carried_out(before, words).barred:
            raise PeerError(f"{who.account} enters {before.name}, from where the operator has barred them.")
        return
    departed |= revoked
    _check_sender(staged, who, departed)
    _check_adds(staged, before, who, departed, revocations)
    _check_removes(staged, before, who, departed)
    if words:
        _check_carried_out(before, after, who, words)
    elif any(isinstance(committed.proposal, GroupContextExtensions) for committed in staged.proposals):
        heirs = {Identity.of(each) for each in (who, *(certificate_of(leaf) for _, leaf in staged.added))}
        if after == before or after != taken_over(before, revocations, heirs):
            _check_rules_change(before, after, Identity.of(who))


def check_opening(staged: PublicStagedCommit, *, peer: str) -> None:
    """Check that the first commit of a direct conversation adds `peer`, in addition to what `check_commit` checks."""
    if [certificate_of(leaf).account for _, leaf in staged.added] != [peer]:
        raise PeerError(f"The first commit of a direct conversation has to add {peer} and nobody else.")


def replacements(staged: PublicStagedCommit) -> tuple[tuple[DeviceCertificate, DeviceCertificate], ...]:
    """Return whose leaf a commit puts another in place of: each account's certificate before and after it.

    Where the identity keys differ, another person may have taken the account's place: every member should hear of it.
    """
    before = {old.account: old for old in (certificate_of(leaf) for _, leaf in staged.removed)}
    new = [certificate_of(leaf) for _, leaf in staged.added]
    if staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
        new.append(certificate_of(staged.committer))
    return tuple((old, each) for each in new if (old := before.get(each.account)) is not None and old != each)


def _check_used(proposal: Proposal, who: DeviceCertificate, *, external: bool) -> None:
    if external and not isinstance(proposal, ExternalInit | Remove):
        raise PeerError(f"{who.account} enters with a proposal that is not allowed: {type(proposal).__name__}.")
    if not external and not isinstance(proposal, Add | Remove | GroupContextExtensions):
        raise PeerError(f"{who.account} commits a proposal that is not used here: {type(proposal).__name__}.")


def _check_replacements(staged: PublicStagedCommit, who: DeviceCertificate) -> None:
    for old, new in replacements(staged):
        if old.identity_key == new.identity_key and not _gives_way(old, new):
            raise PeerError(f"{who.account} puts an older certificate of {old.account} in place of a newer one.")


def _check_entering(
    staged: PublicStagedCommit, who: DeviceCertificate, revocations: Sequence[Statement]
) -> None:
    entering = [certificate_of(leaf) for _, leaf in staged.added]
    if staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
        entering.append(who)
    for each in entering:
        if is_revoked(each, revocations):
            raise PeerError(f"A device of {each.account} enters that was revoked, or whose certificate is older.")


def _gives_way(old: DeviceCertificate, new: DeviceCertificate) -> bool:
    """Whether a leaf gives way to another of the same identity key: a resync, or a later certificate."""
    return new.signature_key == old.signature_key or new.seq > old.seq


def _check_sender(staged: PublicStagedCommit, who: DeviceCertificate, departed: frozenset[LeafIndex]) -> None:
    if staged.committer_leaf in departed:
        raise PeerError(f"{who.account} commits after having left.")
    after = certificate_of(staged.after.member(staged.committer_leaf))
    if (after.device_id, Identity.of(after)) != (who.device_id, Identity.of(who)):
        raise PeerError(f"{who.account} becomes another device or identity in a commit.")
    if not _gives_way(who, after):
        raise PeerError(f"{who.account} goes back to an older certificate in a commit.")


def _check_adds(
    staged: PublicStagedCommit,
    rules: Rules,
    who: DeviceCertificate,
    departed: frozenset[LeafIndex],
    revocations: Sequence[Statement],
) -> None:
    added = [certificate_of(leaf) for _, leaf in staged.added]
    if rules.kind == "direct" and (len(added) > 1 or (added and staged.before.epoch > 0)):
        raise PeerError(f"{who.account} adds {added[-1].account} to a direct conversation of two people.")
    if not added or rules.kind == "direct":
        return
    if rules.kind == "open":
        raise PeerError(f"{who.account} adds {added[0].account} to an open room, which people enter by themselves.")
    if Identity.of(who) in rules.who_adds:
        return
    anybody = added_by_anybody(staged.before, rules, departed, revocations)
    for each in added:
        if Identity.of(each) not in anybody:
            raise PeerError(f"{who.account} adds {each.account} without being an owner or inviter of {rules.name}.")


def _check_removes(
    staged: PublicStagedCommit, rules: Rules, who: DeviceCertificate, departed: frozenset[LeafIndex]
) -> None:
    removed, me = dict(staged.removed), Identity.of(who)
    for index, leaf in removed.items():
        if index in departed or me in rules.owners:
            continue
        gone = certificate_of(leaf)
        if me not in rules.inviters:
            raise PeerError(f"{who.account} removes {gone.account} without being an owner.")
        if leaf.source != LeafNodeSource.KEY_PACKAGE or Identity.of(gone) in rules.owners:
            raise PeerError(f"{who.account} may invite, and removes {gone.account}, who is in already.")
    for index in sorted(departed - removed.keys()):
        left = certificate_of(staged.before.member(index))
        raise PeerError(f"{who.account} does not remove {left.account}, who has left.")


def _check_rules_change(before: Rules, after: Rules, who: Identity) -> None:
    if after.version < before.version:
        raise PeerError(f"{who.account} goes back to version {after.version} of the rules.")
    if (after.kind, after.site_key) != (before.kind, before.site_key):
        raise PeerError(f"{who.account} changes the kind of the conversation or its site key, which are fixed.")
    if before.kind == "direct":
        return  # who is in it may change what the rules of two can hold: version and life
    if who not in before.owners:
        raise PeerError(f"{who.account} changes the rules of {before.name} without being an owner.")
    if not after.owners:
        raise PeerError(f"{who.account} takes its last owner from {before.name}.")


def _check_carried_out(before: Rules, after: Rules, who: DeviceCertificate, words: Sequence[Word]) -> None:
    due = carried_out(before, words)
    upgraded = [replace(due, version=word.version) for word in words if word.version > due.version]
    if after not in (due, *upgraded):
        raise PeerError(f"{who.account} does not carry out what the operator said of {before.name}, and that alone.")


def _check_external(
    staged: PublicStagedCommit, rules: Rules, who: DeviceCertificate, departed: frozenset[LeafIndex]
) -> None:
    for index, leaf in staged.removed:
        old = certificate_of(leaf)
        if old.account != who.account:
            raise PeerError(f"{who.account} enters by removing {old.account}.")
        if rules.kind == "open":
            continue
        if old.identity_key != who.identity_key:
            raise PeerError(f"{who.account} enters under another identity key than the one that was let in.")
        if index in departed:
            raise PeerError(f"{who.account} comes back after having left; somebody has to add them.")
    if not staged.removed and rules.kind != "open":
        raise PeerError(f"{who.account} enters without having been added, and this is not an open room.")
