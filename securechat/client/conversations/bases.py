"""Bases: the states that the server offers us to walk from, where none of ours leads on (docs/design.md, section 6).

Each is a GroupInfo with its tree, and what they do not say: who has left, what was revoked, and what the operator has
said that nobody has carried out. Here it is checked by itself; whether it may be walked from, `recovering` and
`regaining` ask the table of doors.
"""

from collections.abc import Callable, Sequence

from securechat import policy
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.external_commits import check_departures
from securechat.client.conversations.walking import Base
from securechat.client.doors.facts import Way
from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import decode_body
from securechat.mls.group_info import GroupInfo
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.wire.messages import Checkpoint, Checkpoints, JoinOffer, Reply


def first(conversation: Conversation, reply: Reply, judge: Callable[[Base], None]) -> Base | None:
    """Return the newest state in a reply that may be walked from; None if it offers none.

    `judge` raises `PeerError` for one that may not. So does this, as for the last of them, if there is no other.
    """
    refused: PeerError | None = None
    for way, checkpoint, words in _offered(conversation, reply):
        try:
            base = _read(conversation, way, checkpoint, words)
            judge(base)
        except PeerError as error:  # the next one may be better
            refused = error
        else:
            return base
    if refused is not None:
        raise refused
    return None


def _offered(conversation: Conversation, reply: Reply) -> list[tuple[Way, Checkpoint, Sequence[bytes]]]:
    """Return the states in a reply, each with the operator's words: there are none where somebody makes checkpoints."""
    if isinstance(reply, JoinOffer) and reply.conversation == conversation.id:
        now, seq = conversation.context.clock.milliseconds(), conversation.row.cursor
        newest = Checkpoint(seq, now, b"", reply.group_info, reply.tree, reply.departures, reply.revocations)
        return [("offer", newest, reply.words)]
    if isinstance(reply, Checkpoints) and reply.conversation == conversation.id:
        newest_first = sorted(reply.checkpoints, key=lambda each: each.seq, reverse=True)
        return [("checkpoint", each, ()) for each in newest_first]
    return []


def _read(conversation: Conversation, way: Way, checkpoint: Checkpoint, encoded_words: Sequence[bytes]) -> Base:
    """Return what is offered. Raises `PeerError` if it is not sound."""
    now, row = checkpoint.time // 1000, conversation.row
    info = decode_body(checkpoint.group_info, GroupInfo)
    tree, validate = RatchetTree.decode(checkpoint.tree), conversation.context.device.validator(now)
    group = PublicGroup.from_group_info(info, tree, validate=validate, now=now)
    if group.group_id != conversation.id:
        raise PeerError("it is of another conversation")
    # The id is the room's identity: its name may have changed meanwhile.
    policy.check_joining(group, kind=row.kind, name=policy.rules_of(group.extensions).name)
    revocations = policy.check_revocations(group, checkpoint.revocations, time=checkpoint.time)
    words = policy.check_words(group, encoded_words)
    departed = check_departures(group, checkpoint.departures) | policy.leaves_to_go(group, words)
    departed |= policy.revoked_leaves(group, revocations)
    signer = certificate_of(group.member(info.signer))
    return Base(
        group, departed, info.signer, checkpoint.seq, way, signer, checkpoint.time, row.phase == "ahead", revocations,
        words,
    )  # fmt: skip
