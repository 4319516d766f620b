"""Leases: who may commit next, so that joiners get in and members get a word in (docs/design.md, section 6).

A joiner needs the newest GroupInfo, and its commit is worthless once another one is accepted. So the server gives the
GroupInfo to one joiner at a time and, for two seconds, accepts no other device's commit there. Messages go on. A member
that was refused three times in a row because another commit was faster waits for a lease, too.

    no lease   --joiner waits-->           leased to the joiner, JoinOffer sent
    no lease   --member starves-->         leased to the member
    leased     --2 s / commit accepted or refused / disconnected-->  no lease

An account waits once in a conversation, whatever number of devices it has. Whoever has let the fewest leases there end
without an accepted commit is next, members before joiners, then who came first; and after `IDLE_LEASES` an hour an
account gets none.
"""

import math

from securechat import policy
from securechat.errors import RefusedError
from securechat.server.sequencer.budgets import Allowance
from securechat.server.sequencer.conversation import (
    Conversation,
    Conversations,
    Known,
    Lease,
    LeaseQueue,
    not_found,
)
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.heirs import Heirs
from securechat.server.sequencer.memberships import check_memberships
from securechat.server.sequencer.operations import GroupRead
from securechat.server.sequencer.room_names import RoomNames
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore
from securechat.server.store.records import Who
from securechat.wire import limits
from securechat.wire.messages import Departure, Join, JoinOffer, Refused, Resync

STRIKES = 3
"""Refusals in a row after which a member waits for a lease."""

IDLE_LEASES = 10
"""Leases an hour that an account may let end in one conversation without an accepted commit: connections break, and the
largest room takes a slow machine longer than a lease."""

_IDLE = Allowance(IDLE_LEASES, 3600.0)


class Leases:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        conversations: Conversations,
        names: RoomNames,
        groups: Groups,
        heirs: Heirs,
    ) -> None:
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._names = names
        self._groups = groups
        self._heirs = heirs
        self._leased: set[Conversation] = set()

    def join(self, session: Session, request: Join) -> None:
        """Handle `Join`."""
        conversation_id = self._store.room(request.room)
        if conversation_id is None:
            raise self._names.refuse_unknown(request.room)
        conversation = self._conversations.find(conversation_id, self._turn.now)
        if conversation.head.kind != "open":
            raise RefusedError("not-found", f"there is no open room {request.room}")
        member = conversation.membership(session)
        if member is None or member.last_seq is not None:
            check_memberships(self._store, session.account)
        self._queue(session, request.id, conversation)

    def resync(self, session: Session, request: Resync) -> None:
        """Handle `Resync`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        self._heirs.membership(conversation, session)
        self._queue(session, request.id, conversation)

    def _queue(self, session: Session, request: int, conversation: Conversation) -> None:
        queue = conversation.lease_queue
        if (waiting := queue.joiners.get(session.account)) is not None:
            own = "this device" if waiting[0] is session else "another device of yours"
            raise RefusedError("not-now", f"{own} is waiting to enter there already", retry_after=limits.LEASE_SECONDS)
        if queue.lease is not None and queue.lease.who == session.who:
            self._end(conversation, idle=True)  # by asking again the device gives up the earlier offer
        if wait := _IDLE.take(queue.idle.get(session.account, 0.0), self._turn.now).wait:
            text = f"this account was let in {IDLE_LEASES} times within an hour and did not come"
            raise RefusedError("slow-down", text, retry_after=wait)
        queue.joiners[session.account] = (session, request)
        session.leases.add(conversation.head.id)
        self.offer(conversation)

    def offer(self, conversation: Conversation) -> None:
        """Give out the next lease, if there is none."""
        queue = conversation.lease_queue
        while queue.lease is None and (queue.starved or queue.joiners):
            account = self._next(queue)
            if account in queue.starved:
                self._lease(conversation, queue.starved.pop(account))
                return
            if conversation.group is None:
                for each in queue.joiners:
                    self._groups.load(
                        conversation,
                        each,
                        done=lambda: self.offer(conversation),  # as `group_read` does
                        failed=lambda: self._refuse_all(conversation),
                    )
                return
            session, request = queue.joiners.pop(account)
            who, head = session.who, conversation.head
            leaves = len(conversation.present) + len(head.departed) + len(head.revocations) - len(head.leafless)
            inside = any(each.account == session.account for each in head.members.values())  # its leaf may give way
            if leaves >= limits.MAX_ROOM_DEVICES and not inside:
                text = f"a room has room for {limits.MAX_ROOM_DEVICES} devices"
                self._turn.answer(session, Refused(request, "room-full", text))
                continue
            if session.account in policy.barred(conversation.group, conversation.words):
                self._turn.answer(session, Refused(request, "not-allowed", f"you are barred from {head.name}"))
                continue
            self._lease(conversation, who)
            queue.offered[who] = _known(conversation)
            numbers = head.numbers.get(session.device)
            departures = [
                Departure(each.proposal, each.state) for each in head.departed.values() if each.proposal
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
                    list(head.revocations.values()),
                ),
            )

    def _next(self, queue: LeaseQueue) -> str:
        """Return the account that is next of those that wait."""
        waiting = [*queue.starved, *queue.joiners]
        if not queue.idle:
            return waiting[0]
        now = self._turn.now
        return min(waiting, key=lambda account: _IDLE.taken(queue.idle.get(account, 0.0), now))

    def group_read(self, result: GroupRead) -> None:
        """Go on with an offer, now that a worker has rebuilt the group."""
        if (conversation := self._groups.read(result)) is not None:
            self.offer(conversation)

    def check(self, conversation: Conversation, who: Who) -> None:
        """Raise RefusedError `leased` if another device may commit now."""
        lease = conversation.lease_queue.lease
        if lease is not None and lease.who != who:
            self.strike(conversation, who)
            raise RefusedError("leased", "somebody else is committing: process that, then try again")

    def check_offer(self, conversation: Conversation, who: Who) -> None:
        """Raise RefusedError `commit-first` if the device enters by an offer that lacks a departed device, or a word.

        Devices may leave while a lease is out, and the operator may speak, and neither opens an epoch. A joiner knows
        only of what is in its offer, and would take the removal of any other device for a breach of the rules.
        """
        if conversation.lease_queue.offered.get(who) != _known(conversation):
            self.release(conversation, who)
            raise RefusedError("commit-first", "somebody has left since the offer, or there was none: ask again")

    def hold(self, conversation: Conversation, session: Session) -> None:
        """Keep the session's lease while its commit is being checked, but not longer than the session."""
        lease = conversation.lease_queue.lease
        if lease is not None and lease.who == session.who:
            lease.until = math.inf
            session.leases.add(conversation.head.id)

    def refuse_stale(self, conversation: Conversation, who: Who) -> RefusedError:
        """Return the refusal of a submission whose epoch has passed, and count it."""
        self.strike(conversation, who)
        return RefusedError("stale-epoch", f"the conversation is in epoch {conversation.head.epoch}")

    def strike(self, conversation: Conversation, who: Who) -> None:
        """Count that a member's submission was refused because another commit was faster."""
        queue = conversation.lease_queue
        member = conversation.head.place(who)
        if member is None or member.last_seq is not None:
            return
        queue.strikes[who] = queue.strikes.get(who, 0) + 1
        if queue.strikes[who] >= STRIKES and member.account not in queue.starved:
            del queue.strikes[who]
            if _IDLE.take(queue.idle.get(member.account, 0.0), self._turn.now).wait:
                return
            queue.starved[member.account] = who
            self._turn.after(lambda: self.offer(conversation))

    def accepted(self, conversation: Conversation, who: Who) -> None:
        """Note that a submission of the device was accepted."""
        queue = conversation.lease_queue
        queue.strikes.pop(who, None)
        self._release(conversation, who, idle=False)

    def release(self, conversation: Conversation, who: Who) -> None:
        """End the device's lease, if it has one: nothing has come of it."""
        self._release(conversation, who, idle=True)

    def _release(self, conversation: Conversation, who: Who, *, idle: bool) -> None:
        lease = conversation.lease_queue.lease
        if lease is not None and lease.who == who:
            self._end(conversation, idle=idle)
            self._turn.after(lambda: self.offer(conversation))

    def _end(self, conversation: Conversation, *, idle: bool) -> None:
        """End the lease that there is; `idle`: without an accepted commit or message."""
        queue, now = conversation.lease_queue, self._turn.now
        lease, queue.lease = queue.lease, None
        if lease is not None and idle:
            account, _ = lease.who
            queue.idle = {each: full_at for each, full_at in queue.idle.items() if full_at > now}
            queue.idle[account] = _IDLE.take(queue.idle.get(account, 0.0), now).full_at

    def leave(self, session: Session) -> None:
        """End what a session has or waits for."""
        for conversation_id in session.leases:
            conversation = self._conversations.loaded(conversation_id)
            if conversation is None:
                continue
            queue = conversation.lease_queue
            if (waiting := queue.joiners.get(session.account)) is not None and waiting[0] is session:
                del queue.joiners[session.account]
            if queue.lease is not None and queue.lease.who == session.who:
                self._end(conversation, idle=True)
            self.offer(conversation)
        session.leases.clear()

    def close(self, conversation: Conversation) -> None:
        """Refuse all joiners of a conversation that was deleted."""
        queue = conversation.lease_queue
        while queue.joiners:
            _, (session, request) = queue.joiners.popitem()
            self._turn.answer(session, Refused(request, "not-found", str(not_found())))
        self._leased.discard(conversation)

    def _refuse_all(self, conversation: Conversation) -> None:
        """Nobody enters now: the group could not be rebuilt. Whoever asks again has it tried again."""
        queue = conversation.lease_queue
        while queue.joiners:
            _, (session, request) = queue.joiners.popitem()
            self._turn.answer(session, Refused(request, "not-now", "the server cannot read this conversation now"))

    def expire(self) -> float:
        """End expired leases; return when the next one expires."""
        soonest = math.inf
        for conversation in list(self._leased):
            queue = conversation.lease_queue
            if queue.lease is None:
                self._leased.discard(conversation)
                continue
            if queue.lease.until <= self._turn.now:
                self._end(conversation, idle=True)
                self._leased.discard(conversation)
                self.offer(conversation)
            if queue.lease is not None:
                soonest = min(soonest, queue.lease.until)
        return soonest

    def _lease(self, conversation: Conversation, who: Who) -> None:
        conversation.lease_queue.lease = Lease(who, self._turn.now + limits.LEASE_SECONDS)
        self._leased.add(conversation)


def _known(conversation: Conversation) -> Known:
    """Return what an offer made now tells (`LeaseQueue.offered`)."""
    head = conversation.head
    return conversation.departed_leaves, tuple(head.words), tuple(head.revocations)
