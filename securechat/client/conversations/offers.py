"""Offers: what a conversation is to us and what is offered, in the words of the table of doors (design, section 6).

The bytes have been checked when an `Offered` is made here: parsed, signatures and tree verified, `policy` asked.
"""

import hashlib
from dataclasses import replace
from typing import Any, Final

from securechat import policy
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation, People
from securechat.client.conversations.walking import Base, Walk
from securechat.client.doors.facts import Key, Known, Leaf, Offered, Standing, Step, Trusted, Verdict, Way
from securechat.client.doors.table import decide
from securechat.client.vault.conversations import Phase
from securechat.errors import InternalError
from securechat.identity.certificate import DeviceCertificate, certificate_of, in_date
from securechat.identity.pins import Pins
from securechat.identity.statements import Statement
from securechat.mls.framing import SenderType
from securechat.mls.public_group import PublicGroup, PublicStagedCommit

_STANDING: Final[dict[Phase, Standing]] = {
    "opening": "opening", "founding": "opening", "joining": "nothing", "awaiting": "opening",
    "recovered": "recovered", "regaining": "recovered", "member": "live",
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
    pins = conversation.context.pins.of(row.name) if row.kind == "direct" else Pins(row.name)
    standing = _STANDING[row.phase]
    if row.phase == "ahead" and (conversation.branch_lost or conversation.server_epoch is None):
        standing = "lost"  # another branch goes on, or one in which we are not
    return Known(
        own_leaf(conversation.context), standing, group, row.kind, row.name, trusted,
        fetched=None if pins.written_to is None else Key(row.name, pins.written_to),
        first=row.kind == "direct" and not pins.states,
    )  # fmt: skip


def trusted_state(conversation: Conversation) -> Trusted:
    """Return the last state that we trusted; of a conversation that has ended only its epoch is left."""
    row = conversation.row
    if row.phase in phases.REGAINING:
        return _kept(conversation)
    if row.phase not in phases.INSIDE:
        return Trusted(row.epoch, frozenset())
    rules = policy.rules_of(conversation.group.public.extensions)
    people = frozenset(map(leaf_of, conversation.people.values()))
    return Trusted(row.epoch, people, _keys(rules.owners), _keys(rules.inviters), row.followed // 1000)


def _kept(conversation: Conversation) -> Trusted:
    """Return what the keepsake says of a conversation. It knows no devices: a lost one of ours counts as another's.

    So in a direct conversation our own key is an anchor, too: the last commit may be ours. Who is in it is compared.
    """
    context, row = conversation.context, conversation.row
    anchors = frozenset(Key(*each) for each in context.vault.anchors.load(row.id))
    if row.kind != "direct":
        return Trusted(row.epoch, frozenset(), anchors, time=row.followed // 1000)
    both = anchors | {own_leaf(context).key}
    return Trusted(row.epoch, frozenset(Leaf(*key, b"") for key in both), time=row.followed // 1000)


def shown(way: Way, group: PublicGroup, *, name: str, signer: Leaf | None = None, **more: Any) -> Offered:
    """Return an offer of a group as its public state shows it; `name` is the peer's account in a direct one."""
    rules = policy.rules_of(group.extensions)
    members = frozenset(leaf_of(certificate_of(leaf)) for _, leaf in group.members())
    context = hashlib.sha256(group.context.encode()).digest()
    return Offered(
        way, group.group_id, rules.kind, name, group.epoch, members, _keys(rules.owners), signer, context, **more
    )


def steps_of(context: Context, walk: Walk) -> tuple[Step, ...]:
    """Return the commits of a walk. Of each its maker's certificate counts, or the one where the walk ends."""
    here = {leaf_of(each): each for _, leaf in walk.group.members() for each in (certificate_of(leaf),)}
    steps: list[Step] = []
    for each in walk.passed:
        who = leaf_of(each.committer)
        stands = here.get(who)
        dated = context.in_force(each.committer) or (stands is not None and context.in_force(stands))
        steps.append(Step(who, each.change, in_force=dated))
    return tuple(steps)


def judge_base(conversation: Conversation, base: Base, group: PublicGroup, steps: tuple[Step, ...]) -> Verdict:
    """Look up a state that was reached from `base` past `steps`, our own being out of reach."""
    context, name = conversation.context, conversation.row.name
    in_force = context.in_force(base.signer)
    if conversation.row.phase in phases.REGAINING:
        in_force |= _was_ours(context, base.signer)
    offered = shown(
        base.way, group, name=name, signer=leaf_of(base.signer), steps=steps, in_force=in_force,
        behind=is_behind(context, group),
    )  # fmt: skip
    before = known(conversation)
    if conversation.row.phase not in phases.REGAINING:
        before = replace(before, standing="lost" if base.restored else "gone")
    return judge(context, before, offered)


def judge_relied_on(conversation: Conversation, group: PublicGroup) -> Verdict:
    """Look up the state that a recovered device asked to be let into on an earlier connection."""
    found = conversation.context.vault.anchors.relied_on(conversation.id)
    if found is None:
        raise InternalError("a request to enter without the word that it relies on")
    way, signer = found[0], DeviceCertificate.decode(found[1])
    in_force = conversation.context.in_force(signer) or _was_ours(conversation.context, signer)
    kept: Way = "offer" if way == "offer" else "checkpoint"
    offered = shown(kept, group, name=conversation.row.name, signer=leaf_of(signer), in_force=in_force)
    return judge(conversation.context, known(conversation), offered)


def may_walk_from(conversation: Conversation, base: Base) -> Verdict:
    """Look up whether a recovered device may walk from `base`. How far that leads is judged where the walk ends."""
    context, before = conversation.context, known(conversation)
    if before.trusted is not None:
        before = replace(before, trusted=replace(before.trusted, epoch=0))
    in_force = context.in_force(base.signer) or _was_ours(context, base.signer)
    signer = leaf_of(base.signer)
    offered = shown(base.way, base.group, name=conversation.row.name, signer=signer, in_force=in_force)
    return judge(context, before, offered)


def _was_ours(context: Context, certificate: DeviceCertificate) -> bool:
    """Whether a certificate is in date and one of a device of ours that spoke for us until this one came.

    That this one has revoked it since does not count: what was not entered yet is entered on the same word.
    """
    device = context.device
    revoked = any(
        isinstance(link, Statement) and link.action == "revoke" and link.device_id == certificate.device_id
        and certificate.seq < link.seq < device.first.seq
        for link in device.chain
    )  # fmt: skip
    return device.has_signed(certificate) and in_date(certificate, context.clock.seconds()) and not revoked


def is_behind(context: Context, group: PublicGroup) -> bool:
    """Whether our leaf in a group has a certificate that came after this vault's, for which it does not give way."""
    own = context.device.certificate
    return any(
        each.identity_key == own.identity_key and each.seq > own.seq and each.signature_key != own.signature_key
        for each in (certificate_of(leaf) for _, leaf in group.members())
    )


def judge_commit(conversation: Conversation, commit: PublicStagedCommit, after: People) -> Verdict:
    """Look up the next commit of a log that we follow, which the engine and the rules have found good.

    Only the leaves that it changes are compared: a room has a thousand. Whoever had left before does not go now.
    """
    row, before, committer = conversation.row, conversation.people, certificate_of(commit.committer)
    author = leaf_of(committer)
    if commit.sender.type == SenderType.NEW_MEMBER_COMMIT:
        step = Step(author, "re-enter" if commit.removed else "enter", conversation.context.in_force(committer))
    else:
        step = Step(author, "add" if commit.added else "remove" if commit.removed else "path")
    changed = {leaf for leaf in before.keys() | after.keys() if before.get(leaf) is not after.get(leaf)}
    # Whoever had left may come again by the same commit, to the same leaf and with the same certificate.
    changed |= conversation.departed & dict(commit.removed).keys()
    was = frozenset(leaf_of(before[leaf]) for leaf in changed - conversation.departed if leaf in before)
    now_is = frozenset(leaf_of(after[leaf]) for leaf in changed if leaf in after)
    trusted = Trusted(row.epoch, was)
    context = conversation.context
    return judge(
        context,
        Known(own_leaf(context), "live", row.id, row.kind, row.name, trusted),
        Offered("commit", row.id, row.kind, row.name, row.epoch + 1, now_is, signer=author, steps=(step,)),
    )


def judge_own(conversation: Conversation, standing: Standing, way: Way) -> Verdict:
    """Look up our own state, to which the handshakes have led with the secrets, or from which nothing leads on."""
    row, us = conversation.row, own_leaf(conversation.context)
    before = Known(us, standing, row.id, row.kind, row.name, Trusted(row.epoch, frozenset((us,))))
    offered = Offered(way, row.id, row.kind, row.name, row.epoch, frozenset((us,)))
    return judge(conversation.context, before, offered)


def judge(context: Context, before: Known, offered: Offered) -> Verdict:
    """Look an offer up in the table of doors."""
    return decide(before, offered, context.pins, context.clock.seconds())


def _keys(identities: tuple[policy.Identity, ...]) -> frozenset[Key]:
    return frozenset(Key(*each) for each in identities)
