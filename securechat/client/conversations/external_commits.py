"""External commits: by one, a device enters an open room, or replaces its own leaf in exactly the state walked to.

What the server offers for it is checked here, before anything is sent: signatures and tree, the rules against what we
meant to enter, who has to go, and the table of doors.
"""

from dataclasses import replace
from typing import NamedTuple

from securechat import policy
from securechat.client.conversations import offers, phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.numbers import encode_commit
from securechat.client.conversations.walking import Walk
from securechat.client.device import CAPABILITIES, Device
from securechat.client.doors.facts import Verdict, Way
from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.identity.statements import Statement
from securechat.mls.framing import decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex
from securechat.wire.messages import Departure, JoinOffer


class Joining(NamedTuple):
    """An external commit that may be made, and what was due in the state that it leads on from."""

    commit: StagedCommit
    departed: frozenset[LeafIndex]
    words: tuple[policy.Word, ...]
    revocations: tuple[Statement, ...]


def join(conversation: Conversation, offer: JoinOffer, number: int) -> Joining:
    """Make the commit that enters the room of an offer. Raises `PeerError` if it is not what we meant to enter."""
    now = conversation.context.clock.latest()
    commit = _make(conversation, decode_body(offer.group_info, GroupInfo), RatchetTree.decode(offer.tree), number, now)
    before = commit.public.before
    if before.group_id != offer.conversation:
        raise PeerError("The server offered the group of another conversation.")
    policy.check_joining(before, kind=conversation.row.kind, name=conversation.row.name)
    words = policy.check_words(before, offer.words)
    revocations = policy.check_revocations(before, offer.revocations, time=now * 1000)
    departed = check_departures(before, offer.departures) | policy.leaves_to_go(before, words)
    departed |= policy.revoked_leaves(before, revocations)
    policy.check_commit(commit.public, departed=departed, words=words, revocations=revocations)
    return Joining(commit, departed, words, revocations)


def rejoin(conversation: Conversation, walk: Walk, info: GroupInfo, number: int) -> Joining:
    """Make the commit that replaces our leaf in the state walked to. Raises `PeerError`."""
    commit = _make(conversation, info, walk.group.tree, number, conversation.context.clock.latest())
    policy.check_commit(commit.public, departed=walk.departed, words=walk.words, revocations=walk.revocations)
    return Joining(commit, walk.departed, walk.words, walk.revocations)


def _make(conversation: Conversation, info: GroupInfo, tree: RatchetTree, number: int, now: int) -> StagedCommit:
    device, clock = conversation.context.device, conversation.context.clock
    return Group.join_external(
        info,
        tree,
        device.signature,
        credential=device.credential,
        capabilities=CAPABILITIES,
        remove_own_old_leaf=_leaf_of(tree, device),
        authenticated_data=encode_commit(number, clock.milliseconds()),
        validate=device.validator(now),
        now=now,
    )


def may_pass(conversation: Conversation, walk: Walk) -> bool:
    """Whether commits may be passed without secrets: behind one of our own that this vault does not know, by the
    user's word, from an owner's checkpoint, and in an open room, where anybody may make what nobody can process.
    """
    asked = conversation.repairing or conversation.base is not None or conversation.row.kind == "open"
    return asked or _own_is_unknown(conversation, walk)


def _own_is_unknown(conversation: Conversation, walk: Walk) -> bool:
    """Whether a commit of our own is in the log in a place that this vault has not seen: our opening, perhaps."""
    return walk.own_commit or not conversation.row.cursor


def judge(conversation: Conversation, meant: Conversation, group: PublicGroup, *, asked_for: bool = False) -> Verdict:
    """Look up what becomes of the offer to enter a group, or to re-enter it.

    `meant`: the conversation that the offer concerns. `asked_for`: by `/repair`.
    """
    context, walk = conversation.context, conversation.walk
    again = conversation.row.phase in phases.WALKING
    before = offers.known(meant)
    steps = offers.steps_of(context, walk) if walk is not None else ()
    if conversation.base is not None:
        return offers.judge_base(conversation, conversation.base, group, steps)
    if conversation.row.phase in phases.REGAINING:
        return offers.judge_relied_on(conversation, group)
    way: Way = "offer"
    if walk is not None and _own_is_unknown(conversation, walk):
        before, way = replace(before, standing="old-copy-commit"), "public-walk"
    elif again and conversation.row.kind != "open":
        way = "public-walk"
        if not steps:  # the state that we know with its secrets: a history is disputed, or our leaf is left behind
            before, way = replace(before, standing="forked" if asked_for else "away"), "walk"
    behind = again and offers.is_behind(context, group)
    offered = offers.shown(way, group, name=conversation.row.name, asked_for=asked_for, steps=steps, behind=behind)
    return offers.judge(context, before, offered)


def check_departures(group: PublicGroup, departures: list[Departure]) -> frozenset[LeafIndex]:
    """Return the departed leaves, by the proofs that the server gives a joiner. Raises `PeerError`."""
    return frozenset(policy.check_departure(group, proof.proposal, proof.state) for proof in departures)


def _leaf_of(tree: RatchetTree, device: Device) -> LeafIndex | None:
    """Return our account's leaf in a tree that has not been checked yet. Raises `PeerError`."""
    return next((leaf for leaf, node in tree.leaves() if certificate_of(node).account == device.account), None)
