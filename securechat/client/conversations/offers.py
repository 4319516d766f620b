"""Offers: what a conversation is to us and what is offered, in the words of the table of doors (design, section 6).

The bytes have been checked when an `Offered` is made here: parsed, signatures and tree verified, `policy` asked.
"""

import hashlib
from dataclasses import replace
from typing import Any, Final

from securechat import policy
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Base, Conversation, People
from securechat.client.conversations.walking import Walk, in_date
from securechat.client.doors.facts import Key, Known, Leaf, Offered, Standing, Step, Trusted, Verdict, Way
from securechat.client.doors.table import decide
from securechat.client.vault.conversations import Phase
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.mls.framing import SenderType
from securechat.mls.public_group import PublicGroup, PublicStagedCommit

_STANDING: Final[dict[Phase, Standing]] = {
    "opening": "opening", "founding": "opening", "joining": "nothing", "awaiting": "opening", "member": "live",
    "resync": "stopped", "cut-off": "gone", "ahead": "ahead", "stopped": "stopped",
    "ended": "left",
}  # fmt: skip
"""How we stand in a conversation, by its phase."""


def leaf_of(certificate: DeviceCertificate) -> Leaf:
    """Return a member as the table compares them."""
    return Leaf(certificate.account, certificate.identity_key, certificate.device_id)


def own_leaf(context: Context) -> Leaf:
    """Return ours."""
    device = context.device
    return Leaf(device.account, device.identity_key, device.id)


def known(conversation: Conversation) -> Known:
    """Say what we know of a conversation."""
    row = conversation.row
    new = row.phase in phases.NEW  # then its id is one of our own making, and nobody else knows it
    trusted = None if new else trusted_state(conversation)
    group = b"" if new else row.id
    written_to = conversation.context.pins.of(row.name).written_to if row.kind == "direct" else None
    return Known(
        own_leaf(conversation.context), _STANDING[row.phase], group, row.kind, row.name, trusted,
        fetched=None if written_to is None else Key(row.name, written_to),
    )  # fmt: skip


def trusted_state(conversation: Conversation) -> Trusted:
    """Return the last state that we trusted; of a conversation that has ended only its epoch is left."""
    row = conversation.row
    if row.phase not in phases.INSIDE:
        return Trusted(row.epoch, frozenset())
    rules = policy.rules_of(conversation.group.public.extensions)
    people = frozenset(map(leaf_of, conversation.people.values()))
    return Trusted(row.epoch, people, _keys(rules.owners), _keys(rules.inviters), row.followed // 1000)


def shown(way: Way, group: PublicGroup, *, name: str, signer: Leaf | None = None, **more: Any) -> Offered:
    """Return an offer of a group as its public state shows it; `name` is the peer's account in a direct one."""
    rules = policy.rules_of(group.extensions)
    members = frozenset(leaf_of(certificate_of(leaf)) for _, leaf in group.members())
    context = hashlib.sha256(group.context.encode()).digest()
    return Offered(
        way, group.group_id, rules.kind, name, group.epoch, members, _keys(rules.owners), signer, context, **more
    )


def steps_of(walk: Walk, now: int) -> tuple[Step, ...]:
    """Return the commits of a walk. Its maker is in date, at `now` in seconds, then or where the walk ends."""
    here = {leaf_of(each): each for _, leaf in walk.group.members() for each in (certificate_of(leaf),)}
    steps: list[Step] = []
    for each in walk.passed:
        who = leaf_of(each.committer)
        stands = here.get(who)
        dated = in_date(each.committer, now) or (stands is not None and in_date(stands, now))
        steps.append(Step(who, each.change, in_date=dated))
    return tuple(steps)


def judge_base(conversation: Conversation, base: Base, group: PublicGroup, steps: tuple[Step, ...]) -> Verdict:
    """Look up a state that was reached from `base` past `steps`, our own being out of reach."""
    context, name = conversation.context, conversation.row.name
    now = context.clock.seconds()
    offered = shown(
        base.way, group, name=name, signer=leaf_of(base.signer), steps=steps, in_date=in_date(base.signer, now)
    )
    return judge(context, replace(known(conversation), standing="lost" if base.restored else "gone"), offered)


def judge_commit(conversation: Conversation, commit: PublicStagedCommit, after: People) -> Verdict:
    """Look up the next commit of a log that we follow, which the engine and the rules have found good.

    Only the leaves that it changes are compared: a room has a thousand.
    """
    row, before, author = conversation.row, conversation.people, leaf_of(certificate_of(commit.committer))
    entered = commit.sender.type == SenderType.NEW_MEMBER_COMMIT
    step = Step(author, "enter" if entered else "add" if commit.added else "remove" if commit.removed else "path")
    changed = {leaf for leaf in before.keys() | after.keys() if before.get(leaf) is not after.get(leaf)}
    was, now_is = (
        frozenset(leaf_of(people[leaf]) for leaf in changed if leaf in people) for people in (before, after)
    )
    trusted = Trusted(row.epoch, was)
    context = conversation.context
    return judge(
        context,
        Known(own_leaf(context), "live", row.id, row.kind, row.name, trusted),
        Offered("commit", row.id, row.kind, row.name, row.epoch + 1, now_is, signer=author, steps=(step,)),
    )


def judge(context: Context, before: Known, offered: Offered) -> Verdict:
    """Look an offer up in the table of doors."""
    return decide(before, offered, context.pins, context.clock.seconds())


def _keys(identities: tuple[policy.Identity, ...]) -> frozenset[Key]:
    return frozenset(Key(*each) for each in identities)
