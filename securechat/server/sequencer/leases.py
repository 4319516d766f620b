"""Leases: who may commit next, so that joiners get in and members get a word in (docs/design.md, section 6).

A joiner needs the newest GroupInfo, and its commit is worthless once another one is accepted. So the server gives the
GroupInfo to one joiner at a time and, for two seconds, accepts no other device's commit there. Messages go on. A member
that was refused three times in a row because another commit was faster gets the next lease itself.

    no lease   --joiner waits-->           leased to the joiner, JoinOffer sent
    no lease   --member starves-->         leased to the member
    leased     --2 s / commit accepted or refused / disconnected-->  no lease
"""

import math

from securechat import policy
from securechat.errors import RefusedError
from securechat.server.sequencer.conversation import Conversation, Conversations, Lease, not_found
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.operations import GroupRead
from securechat.server.sequencer.room_names import RoomNames
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore
from securechat.wire import limits
from securechat.wire.messages import Departure, Join, JoinOffer, Refused, Resync

STRIKES = 3
"""Refusals in a row after which a member gets the next lease."""


class Leases:
    """Requires holding the turn."""

    def __init__(
        self, turn: Turn, store: ConversationStore, conversations: Conversations, names: RoomNames, groups: Groups
    ) -> None:
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._names = names
        self._groups = groups
        self._leased: set[Conversation] = set()

    def join(self, session: Session, request: Join) -> None:
        """Handle `Join`."""
        conversation_id = self._store.room(request.room)
        if conversation_id is None:
            raise self._names.refuse_unknown(request.room)
        conversation = self._conversations.find(conversation_id, self._turn.now)
        if conversation.head.kind != "open":
            raise RefusedError("not-found", f"there is no open room {request.room}")
        self._queue(session, request.id, conversation)

    def resync(self, session: Session, request: Resync) -> None:
        """Handle `Resync`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        self._queue(session, request.id, conversation)

    def _queue(self, session: Session, request: int, conversation: Conversation) -> None:
        queue = conversation.lease_queue
        if session.device in queue.joiners:
            raise RefusedError("not-now", "this device is waiting to enter there already")
        queue.joiners[session.device] = (session, request)
        session.leases.add(conversation.head.id)
        if queue.lease is not None and queue.lease.device == session.device:
            queue.lease = None  # by asking again the device gives up the earlier offer
        self.offer(conversation)

    def offer(self, conversation: Conversation) -> None:
        """Give out the next lease, if there is none."""
        queue = conversation.lease_queue
        while queue.lease is None and (queue.starved or queue.joiners):
            if queue.starved:
                self._lease(conversation, queue.starved.popleft())
                return
            if conversation.group is None:
                self._groups.load(conversation)  # `group_read` goes on when it is there
                return
            device, (session, request) = queue.joiners.popitem(last=False)
            leaves = len(conversation.present) + len(conversation.head.departed)
            if leaves >= limits.MAX_ROOM_DEVICES and device not in conversation.head.members:
                text = f"a room has room for {limits.MAX_ROOM_DEVICES} devices"
                self._turn.answer(session, Refused(request, "room-full", text))
                continue
            head, words = conversation.head, conversation.words
            if session.account in policy.barred(conversation.group, words):
                self._turn.answer(session, Refused(request, "not-allowed", f"you are barred from {head.name}"))
                continue
            self._lease(conversation, device)
            queue.offered[device] = (conversation.departed_leaves, tuple(head.words))
            numbers = head.numbers.get(device)
            departures = [
                Departure(each.proposal, each.group_context) for each in head.departed.values() if each.proposal
            ]
            self._turn.answer(
                session,
                JoinOffer(
                    request,
                    head.id,
                    numbers.last if numbers else 0,
                    head.group_info,
                    conversation.tree,
                    departures,
                    list(head.words.values()),
                ),
            )

    def group_read(self, result: GroupRead) -> None:
        """Go on with an offer, now that a worker has rebuilt the group."""
        if (conversation := self._groups.read(result)) is not None:
            self.offer(conversation)

    def check(self, conversation: Conversation, device: bytes) -> None:
        """Raise RefusedError `leased` if another device may commit now."""
        lease = conversation.lease_queue.lease
        if lease is not None and lease.device != device:
            self.strike(conversation, device)
            raise RefusedError("leased", "somebody else is committing: process that, then try again")

    def check_offer(self, conversation: Conversation, device: bytes) -> None:
        """Raise RefusedError `commit-first` if the device enters by an offer that lacks a departed device, or a word.

        Devices may leave while a lease is out, and the operator may speak, and neither opens an epoch. A joiner knows
        only of what is in its offer, and would take the removal of any other device for a breach of the rules.
        """
        known = (conversation.departed_leaves, tuple(conversation.head.words))
        if conversation.lease_queue.offered.get(device) != known:
            self.release(conversation, device)
            raise RefusedError("commit-first", "somebody has left since the offer, or there was none: ask again")

    def hold(self, conversation: Conversation, session: Session) -> None:
        """Keep the session's lease while its commit is being checked, but not longer than the session."""
        lease = conversation.lease_queue.lease
        if lease is not None and lease.device == session.device:
            lease.until = math.inf
            session.leases.add(conversation.head.id)

    def refuse_stale(self, conversation: Conversation, device: bytes) -> RefusedError:
        """Return the refusal of a submission whose epoch has passed, and count it."""
        self.strike(conversation, device)
        return RefusedError("stale-epoch", f"the conversation is in epoch {conversation.head.epoch}")

    def strike(self, conversation: Conversation, device: bytes) -> None:
        """Count that a member's submission was refused because another commit was faster."""
        queue = conversation.lease_queue
        member = conversation.head.members.get(device)
        if member is None or member.last_seq is not None:
            return
        queue.strikes[device] = queue.strikes.get(device, 0) + 1
        if queue.strikes[device] >= STRIKES and device not in queue.starved:
            del queue.strikes[device]
            queue.starved.append(device)
            self._turn.after(lambda: self.offer(conversation))

    def accepted(self, conversation: Conversation, device: bytes) -> None:
        """Note that a submission of the device was accepted."""
        queue = conversation.lease_queue
        queue.strikes.pop(device, None)
        self.release(conversation, device)

    def release(self, conversation: Conversation, device: bytes) -> None:
        """End the device's lease, if it has one."""
        queue = conversation.lease_queue
        if queue.lease is not None and queue.lease.device == device:
            queue.lease = None
            self._turn.after(lambda: self.offer(conversation))

    def leave(self, session: Session) -> None:
        """End what a session has or waits for."""
        for conversation_id in session.leases:
            conversation = self._conversations.loaded(conversation_id)
            if conversation is None:
                continue
            queue = conversation.lease_queue
            if (waiting := queue.joiners.get(session.device)) is not None and waiting[0] is session:
                del queue.joiners[session.device]
            if queue.lease is not None and queue.lease.device == session.device:
                queue.lease = None
            self.offer(conversation)
        session.leases.clear()

    def close(self, conversation: Conversation) -> None:
        """Refuse all joiners of a conversation that was deleted."""
        queue = conversation.lease_queue
        while queue.joiners:
            _, (session, request) = queue.joiners.popitem()
            self._turn.answer(session, Refused(request, "not-found", str(not_found())))
        self._leased.discard(conversation)

    def expire(self) -> float:
        """End expired leases; return when the next one expires."""
        soonest = math.inf
        for conversation in list(self._leased):
            queue = conversation.lease_queue
            if queue.lease is None:
                self._leased.discard(conversation)
                continue
            if queue.lease.until <= self._turn.now:
                queue.lease = None
                self._leased.discard(conversation)
                self.offer(conversation)
            if queue.lease is not None:
                soonest = min(soonest, queue.lease.until)
        return soonest

    def _lease(self, conversation: Conversation, device: bytes) -> None:
        conversation.lease_queue.lease = Lease(device, self._turn.now + limits.LEASE_SECONDS)
        self._leased.add(conversation)
