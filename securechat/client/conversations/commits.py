"""Commits of the log: each brings the next epoch into force, or the conversation stops before it.

A commit is staged beside the present state and judged by the rules in force and by its GroupInfo. What it changes for
people is told; of one that cannot be processed, whose fault that is.
"""

from dataclasses import replace
from hashlib import sha256
from typing import Final

from securechat import policy
from securechat.client import events
from securechat.client.context import Added
from securechat.client.conversations import freshness, offers, resync, roster, rule_changes, standstill
from securechat.client.conversations.conversation import Conversation, People
from securechat.client.conversations.newcomers import changes
from securechat.client.conversations.standstill import distrust
from securechat.client.conversations.walking import TooFar
from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.errors import BadConfirmationTag, BadExternalKey, BadPath
from securechat.mls.framing import PublicMessage, SenderType, decode_body
from securechat.mls.group import StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.leaf_node import LeafNodeSource
from securechat.mls.public_group import PublicStagedCommit, verify_group_info
from securechat.wire.messages import Entry

_OWN_NAME: Final = (
    "Somebody has entered {} under your own name with another key, which is not this device's. Unless that is you with "
    "a new identity, somebody else can log in to your account: change its password, and tell the others."
)


def receive(conversation: Conversation, entry: Entry) -> bool:
    """Process somebody else's commit. Return whether the log goes on after it."""
    now = entry.time // 1000  # the log's own time, so that all members judge alike
    validate = conversation.context.device.validator(now)
    try:
        if not conversation.caught_up:
            conversation.effort.spend(entry)
    except TooFar as error:
        distrust(conversation, str(error))
        return False
    try:
        policy.check_proposals(decode_body(entry.payload, PublicMessage), conversation.group.public)
        staged = conversation.group.stage(entry.payload, validate=validate, now=now)
        check(conversation, staged.public)
        group_info = _check_group_info(staged.public, entry)
        if staged.group is not None:
            staged.group.verify_external_key(group_info)
    except PeerError as error:
        _stop_before(conversation, entry, now, error)
        return False
    committer = certificate_of(staged.public.committer)
    if committer.device_id != entry.device:
        distrust(conversation, f"the server ascribes a change made by {committer.account} to another device")
        return False
    if conversation.staged is not None:
        conversation.unstage()  # another commit came first
    _swap(conversation, entry, staged)
    return True


def merge_own(conversation: Conversation, entry: Entry, commit: StagedCommit) -> None:
    """Bring our own commit into force, in whose place `entry` stands."""
    conversation.unstage()
    if commit.public.has_path:
        conversation.row.sent_on_path, conversation.row.path_time = 0, conversation.context.clock.milliseconds()
    _note_invited(conversation, commit.public)
    _swap(conversation, entry, commit)


def check(conversation: Conversation, commit: PublicStagedCommit) -> None:
    """Raise `PeerError` unless the rules allow a commit in the present epoch."""
    conversation.context.parts.rules(
        commit,
        departed=conversation.departed,
        words=conversation.words,
        revocations=conversation.revocations,
    )


def _swap(conversation: Conversation, entry: Entry, staged: StagedCommit) -> None:
    """Bring a commit into force: the new epoch replaces the old one."""
    public, people, departed = staged.public, conversation.people, conversation.departed
    after = _people_after(people, public)
    verdict = offers.judge_commit(conversation, public, after)
    if verdict.alarm:
        text = _OWN_NAME.format(conversation.row.name)
        conversation.context.emit(events.Alarm("rules", conversation.id, text))
    if staged.group is None:
        conversation.row.closed = True
        conversation.end("You are no longer in this conversation.")
        conversation.tell("removed", certificate_of(public.committer).account)
        return
    revoked = conversation.revocations
    forced = policy.revoked_leaves(public.before, revoked) if revoked else frozenset()
    conversation.replace_group(verdict, staged.group)
    conversation.people = after
    conversation.set_departed(departed - {leaf for leaf, _ in public.removed})
    conversation.set_revocations(policy.still_revoked(public.after, conversation.revocations))
    said = conversation.words
    conversation.set_words(policy.still_due(public, said))
    conversation.trail.open_epoch(entry.seq)
    if entry.seq >= conversation.row.gap:
        conversation.row.gap = 0  # the chain of this epoch is known from its beginning
    roster.note_members(conversation)
    roster.note_heard(conversation, certificate_of(public.committer))
    roster.hold(conversation, verdict)
    roster.forgive_stale(conversation)
    freshness.note_commit(conversation, public)
    for index, person in conversation.people.items():
        if person != people.get(index):
            conversation.context.meet(person, conversation.id)
    context = conversation.context
    wanted = context.vault.changes.load(conversation.id)
    by = {each.value: context.answers.waiting(("change", each.id)) for each in wanted}
    committer = certificate_of(public.committer)
    for change, account in changes(verdict.came, verdict.went):  # whoever had left was told of then
        # What the operator has said, or a revocation, is carried out by whoever commits next: nobody here has done it.
        its_own = bool(said) or any(people[leaf].account == account for leaf in forced)
        done_by = committer.account if account != committer.account and change != "new-device" and not its_own else ""
        conversation.tell(change, account, by.get(account, 0), done_by)
    old, new = (policy.rules_of(group.extensions) for group in (public.before, public.after))
    for kind, about in rule_changes.told(old, new) if not said else ():  # the operator's were told when they were said
        conversation.tell(kind, about, by.get(about, 0), committer.account)
    said_yes = conversation.row.kind == "invite" and public.committer.source == LeafNodeSource.KEY_PACKAGE
    if said_yes and committer.account != context.device.account:
        conversation.tell("entered", committer.account)
    for leaf in verdict.back - verdict.came:
        conversation.tell("re-entered", leaf.account)
    if conversation.settled:
        roster.tell_stale(conversation)
    rule_changes.settle(conversation)


def _note_invited(conversation: Conversation, commit: PublicStagedCommit) -> None:
    """Those whom our own commit adds get their invitations in the same transaction; those it removes hear of that."""
    if conversation.row.kind != "invite":
        return
    context, departed = conversation.context, conversation.departed
    rules, opens = policy.rules_of(commit.after.extensions), sha256(commit.after.context.encode()).digest()
    context.added += (Added(conversation.id, certificate_of(node), rules, opens) for _, node in commit.added)
    silent = [
        certificate_of(node)
        for leaf, node in commit.removed
        if node.source == LeafNodeSource.KEY_PACKAGE and leaf not in departed
    ]
    if silent:
        context.removed.append((conversation.id, tuple(silent)))


def _people_after(before: People, commit: PublicStagedCommit) -> People:
    """Return the certificates in the tree after a commit, without reading the whole tree again."""
    removed = dict(commit.removed)
    after = {leaf: person for leaf, person in before.items() if leaf not in removed}
    committer = (commit.committer_leaf, commit.after.member(commit.committer_leaf))
    for leaf, node in (*commit.added, *commit.updated, committer):
        after[leaf] = certificate_of(node)
    return after


def _check_group_info(commit: PublicStagedCommit, entry: Entry) -> GroupInfo:
    """Return a commit's GroupInfo. Raises `PeerError` if it is one that a server can see through."""
    group_info = decode_body(entry.group_info, GroupInfo)
    verify_group_info(commit.after, group_info, signer=commit.committer_leaf)
    return group_info


def _stop_before(conversation: Conversation, entry: Entry, now: int, error: PeerError) -> None:
    """Stop before a commit that cannot be processed, and say whose it is (docs/design.md, section 6, Poison).

    Where the user has said so, and in an open room, where anybody may make one, we enter again past it; not past one
    that the server had to refuse: there is no state after that.
    """
    if conversation.repairing:
        resync.supersede(conversation)
        return
    culprit, proven = _blame(conversation, entry, now, error)
    conversation.context.report_failed_commit(conversation.id, entry.seq)
    stopped = events.Stopped(conversation.id, culprit, str(error), proven=proven)
    if culprit and conversation.row.kind == "open":
        standstill.pass_over(conversation, replace(stopped, passed_over=True))
    else:
        standstill.stop(conversation)
        conversation.context.emit(stopped)


def _blame(conversation: Conversation, entry: Entry, now: int, error: PeerError) -> tuple[str, bool]:
    """Return whose fault a bad commit is, empty for the server's, and whether that is proven.

    The server has to refuse what shows without secrets, and a confirmation tag other than the GroupInfo's shows: that
    one is signed, so the server has altered the commit's. What is left is its maker's doing as far as a signature
    covers it. That is not so for the membership tag, nor for the confirmation tag of somebody who entered: they may
    have been led to a false key for external joins, which a member and the server can do together.
    """
    try:
        message = decode_body(entry.payload, PublicMessage)
        policy.check_proposals(message, conversation.group.public)
        public = conversation.group.public.stage(message, validate=conversation.context.device.validator(now), now=now)
        policy.check_commit(
            public, departed=conversation.departed, words=conversation.words, revocations=conversation.revocations
        )
        _check_group_info(public, entry)
    except PeerError:
        return "", True
    signed = isinstance(error, BadPath | BadExternalKey) or (
        isinstance(error, BadConfirmationTag) and public.sender.type == SenderType.MEMBER
    )
    return certificate_of(public.committer).account, signed
