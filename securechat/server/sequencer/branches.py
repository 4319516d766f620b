"""Two honest branches: after a restore some members went on where the backup was, and others know of what it lacks.

Nobody goes back to an epoch that was used, so one branch ends. The one that an owner has signed goes on, whoever came
back first; of two signed ones that in which an owner's newest commit has the higher epoch (docs/design.md, section 6, A
restored server). An owner may remove everybody else anyway. For the members of the branch that goes on the log has a
gap, and the others have to be invited again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from securechat import policy
from securechat.errors import DecodeError, PeerError, RefusedError
from securechat.identity.statements import Statement, is_statement
from securechat.mls.framing import decode_body, read_header
from securechat.mls.group_info import GroupInfo
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.server.logs import get_logger
from securechat.server.sequencer.conversation import Conversation
from securechat.server.sequencer.operations import Branch, Returned
from securechat.server.sequencer.validation import Validator
from securechat.server.store.port import ConversationStore, LogStore
from securechat.server.store.records import BRANCH_SECONDS, LogEntry
from securechat.wire.messages import Handshake

MAX_FOLLOWED: Final = 1000
"""Handshakes of the server's own branch that are looked through: in the largest room a week of them."""

_FOLLOWED_BYTES: Final = 32 << 20

log = get_logger(__name__)

Follow = Callable[
    [PublicGroup, frozenset[LeafIndex], tuple[Statement, ...], Sequence[Handshake], int],
    tuple[tuple[Returned, ...], RefusedError | None],
]
"""Checks handshakes one after the other; returns those that lead on from a state, and why it goes no further."""


class Branches:
    """Requires holding the turn, except for `find`."""

    def __init__(self, logs: LogStore, store: ConversationStore, validator: Validator) -> None:
        self._logs = logs
        self._store = store
        self._validator = validator

    def find(
        self, conversation: bytes, upto: int, offered: Sequence[Handshake], time: int, follow: Follow
    ) -> Branch | None:
        """Return the branch that these handshakes are, if it is the one that has to go on. Any thread; `time` in ms.

        `upto`: the log's head. All handshakes since the backup, or since the branches part, have to be among them.
        """
        point = self._store.read_branch_point(conversation, time - BRANCH_SECONDS * 1000)
        if point is None or not offered:
            return None
        ours = self._logs.read_handshakes(conversation, point.seq, upto, MAX_FOLLOWED, _FOLLOWED_BYTES)
        try:
            before = self._validator.restore(point.snapshot, list(point.commits))
            common = _common(ours, offered)
            known = {each.payload for each in common}
            rest = [each for each in offered if each.payload not in known]
            # What was revoked since stays revoked, whichever branch goes on.
            revoked = [each for each in ours if is_statement(each.payload) and each.payload not in known]
            returned, problem = follow(
                before,
                frozenset(LeafIndex(each.leaf) for each in point.departed),
                tuple(map(Statement.decode, point.revocations.values())),
                [*map(_handshake, common), *rest, *map(_handshake, revoked)],
                time,
            )
        except (PeerError, DecodeError):
            return None
        if problem is not None:
            return None
        parted = common[-1].seq if common else point.seq
        signed = [
            each.commit.staged.after.epoch
            for each in returned
            if each.commit is not None and each.commit.is_checkpoint and each.handshake.payload not in known
        ]
        rivals = [
            decode_body(each.group_info, GroupInfo).group_context.epoch
            for each in self._store.read_checkpoints(conversation)
            if each.seq > parted
        ]
        if max(signed, default=0) <= max(rivals, default=0):
            return None
        return Branch(point, before, before.tree.encode(), returned)

    def go_back(self, conversation: Conversation, branch: Branch) -> None:
        """Let a conversation be as it was in the backup; what the log has had since belongs to the branch that ends."""
        head, point = conversation.head, branch.point
        cursors = {device: member.cursor for device, member in head.members.items()}
        head.members = {
            each.device: replace(each, cursor=max(each.cursor, cursors.get(each.device, 0)))
            for each in point.members
            if each.device not in head.deleted
        }
        head.departed = {each.device: each for each in point.departed}
        head.words, head.revocations = {}, dict(point.revocations)
        head.leafless = {
            seq
            for seq, statement in head.revocations.items()
            if not policy.revoked_leaves(branch.group, [Statement.decode(statement)])
        }
        head.epoch, head.group_info = point.epoch, point.group_info
        head.resumed = head.seq  # what came since the backup is a gap like what the backup lacks
        self._store.rewind(head, point)
        conversation.set_group(branch.group, branch.tree)
        conversation.lease_queue.offered.clear()
        for who in [who for who in conversation.readers if head.place(who) is None]:
            session = conversation.readers.pop(who)
            session.subscriptions.pop(head.id, None)
        log.warning("a restored conversation goes on in another branch", conversation=head.title, epoch=head.epoch)


def _common(ours: Sequence[LogEntry], offered: Sequence[Handshake]) -> list[LogEntry]:
    """Return our handshakes up to where the branches part: those of an epoch before the first that is offered are known
    to whoever offers that, and then as many as are equal.
    """
    first = min((_epoch_of(each.payload) for each in offered if not is_statement(each.payload)), default=0)
    common: list[LogEntry] = []
    for entry in ours:
        if not is_statement(entry.payload) and _epoch_of(entry.payload) >= first:
            break
        common.append(entry)
    known = {each.payload for each in common}
    rest = (each for each in offered if each.payload not in known)
    for entry, handshake in zip(ours[len(common) :], rest, strict=False):
        if entry.payload != handshake.payload:
            break
        common.append(entry)
    return common


def _epoch_of(payload: bytes) -> int:
    return read_header(payload).epoch


def _handshake(entry: LogEntry) -> Handshake:
    return Handshake(entry.payload, entry.group_info)
