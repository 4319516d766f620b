"""Recovering: a way back where the handshakes from our state on are gone (docs/design.md, section 6, Following).

    open room              the newest GroupInfo: whoever runs the server can walk in there anyway. In the room of a
                           restored server it is taken though its epoch is lower than ours
    others, after 30 days  a checkpoint of somebody who owned the room in our trusted state, or of the peer: GroupInfo
                           and tree of a commit of theirs. The handshakes from there on are walked
    else                   we wait: the server may have lost them for a while only

The table of doors judges what is found (`doors.table`). Our trusted state stays until we are in.
"""

from collections.abc import Callable

from securechat import policy
from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.conversations import offers, phases
from securechat.client.conversations.conversation import Base, Conversation
from securechat.client.conversations.entering import check_departures
from securechat.client.doors.checks import GONE_SECONDS
from securechat.client.doors.facts import Way
from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import decode_body
from securechat.mls.group_info import GroupInfo
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.wire.messages import (
    RETRYABLE,
    Checkpoint,
    Checkpoints,
    FetchCheckpoints,
    FromClient,
    JoinOffer,
    Refused,
    Reply,
    Resync,
)


class Recovering:
    """The search for a way back into one conversation. Lives as long as one connection."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._context = conversation.context
        self._asking = self._over = False
        self.backoff = Backoff(self._context.clock.monotonic)

    def pump(self) -> None:
        """Ask, if nobody has been asked on this connection. Call inside a transaction."""
        row = self._conversation.row
        if self._asking or self._over or self.backoff.waiting or row.phase not in phases.WAITING:
            return
        if self._conversation.denied:
            return  # who is not in it gets nothing there
        if row.kind == "open":
            self._ask(Resync(0, row.id))
        elif row.phase == "cut-off" and self._context.clock.seconds() - row.followed // 1000 > GONE_SECONDS:
            self._ask(FetchCheckpoints(0, row.id))

    def _ask(self, request: FromClient) -> None:
        self._asking = True

        def answer(reply: Reply) -> None:
            self._asking = False
            conversation = self._conversation
            self._context.touched.add(conversation.id)
            if conversation.row.phase not in phases.WAITING:
                return
            if isinstance(reply, Refused) and reply.code in RETRYABLE:
                self.backoff.wait(reply.retry_after / 1000)
                return
            self._over = True
            found = self._find(reply)
            if found is not None:
                conversation.recover(found)
            else:
                owners = policy.rules_of(conversation.group.public.extensions).owners
                own = self._context.device.account
                whom = next((owner.account for owner in owners if owner.account != own), "")
                self._context.emit(events.OutOfStep(conversation.id, "nothing-left", account=whom))

        self._context.request(request, answer)

    def _find(self, reply: Reply) -> Base | None:
        """Return the first state that may be walked from, if any."""
        offered: list[Callable[[], Base]] = []
        if isinstance(reply, JoinOffer) and reply.conversation == self._conversation.id:
            offer = Checkpoint(
                self._conversation.row.cursor, self._context.clock.milliseconds(), b"", reply.group_info, reply.tree,
                reply.departures,
            )  # fmt: skip
            offered = [lambda: self._check(offer, "offer")]
        elif isinstance(reply, Checkpoints) and reply.conversation == self._conversation.id:
            offered = [lambda each=each: self._check(each, "checkpoint") for each in reply.checkpoints]  # type: ignore[misc]  # bound now
        for check in offered:
            try:
                return check()
            except PeerError:
                continue  # the next one may be better
        return None

    def _check(self, checkpoint: Checkpoint, way: Way) -> Base:
        """Return what a checkpoint shows. Raises `PeerError` if it is not sound, or the table does not let us in."""
        conversation = self._conversation
        info = decode_body(checkpoint.group_info, GroupInfo)
        group = PublicGroup.from_group_info(
            info,
            RatchetTree.decode(checkpoint.tree),
            validate=self._context.device.validator(checkpoint.time // 1000),
            now=checkpoint.time // 1000,
        )
        if group.group_id != conversation.id:
            raise PeerError("it is of another conversation")
        row = conversation.row
        # The id is the room's identity: its name may have changed while we were away.
        policy.check_joining(group, kind=row.kind, name=policy.rules_of(group.extensions).name)
        departed = check_departures(group, checkpoint.departures)
        signer = certificate_of(group.member(info.signer))
        base = Base(group, departed, info.signer, checkpoint.seq, way, signer, checkpoint.time, row.phase == "ahead")
        verdict = offers.judge_base(conversation, base, group, steps=())
        if not verdict.lets_in:
            raise PeerError(verdict.why)
        return base
