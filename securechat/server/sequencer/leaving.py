"""Devices leave by a signed proposal to remove themselves (docs/design.md, section 6, Leaving)."""

from securechat import policy
from securechat.errors import RefusedError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import Header
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.conversation import Conversation, Conversations, not_found
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.numbers import check_header, is_next, read_proposal_header
from securechat.server.sequencer.operations import DepartureChecked
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore
from securechat.server.store.records import Departed, LogEntry
from securechat.wire.messages import Leave


class Leaving:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        conversations: Conversations,
        groups: Groups,
        leases: Leases,
        checks: Checks,
    ) -> None:
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._groups = groups
        self._leases = leases
        self._checks = checks

    def leave(self, session: Session, request: Leave) -> None:
        """Handle `Leave`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_leave(conversation, session, request):
            return
        header = read_proposal_header(request.proposal)
        check_header(header, request.conversation, request.number)
        self._check_epoch(conversation, session, header)
        group, opening = conversation.group, conversation.head.group_info

        def work() -> DepartureChecked:
            current = group if group is not None else self._groups.restore_at(request.conversation, header.epoch)
            leaf = policy.check_departure(current, request.proposal)
            return DepartureChecked(request, header, leaf, current, opening)

        self._checks.check(session, request, work)

    def departure_checked(self, session: Session, checked: DepartureChecked) -> None:
        """Append a departure that has passed the checks."""
        request = checked.request
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_leave(conversation, session, request):
            return
        self._check_epoch(conversation, session, checked.header)
        if checked.opening != conversation.head.group_info:  # an epoch of this number in another branch
            raise self._leases.refuse_stale(conversation, session.who)
        certificate = certificate_of(checked.group.member(checked.leaf))
        if certificate.who != session.who:
            raise RefusedError("not-allowed", "a device can only take itself out")
        head = conversation.head
        run = self._turn.run(conversation, session)
        time = self._turn.time_in(head)
        entry = run.add(request.id, request.proposal, head.epoch, time, last_for=(session.who,))
        state = policy.epoch_state(checked.group)
        departed = Departed(session.device, checked.leaf, request.proposal, state)
        self.depart(conversation, entry, departed, session.account)
        self._leases.accepted(conversation, session.who)
        if not conversation.present:  # the last one out
            self._store.delete(head.id)
            self._conversations.remove(conversation)
            self._turn.after(lambda: self._leases.close(conversation))

    def depart(self, conversation: Conversation, entry: LogEntry, departed: Departed, account: str) -> None:
        """Bring an appended departure, of a device of `account`, into force."""
        head, device = conversation.head, departed.device
        self._store.save_handshake(head.id, entry, account)
        if (member := head.members.get(device)) is not None and member.last_seq is None:
            member.last_seq = entry.seq
            self._store.put_members(head.id, [member])
        head.departed[device] = departed
        self._store.put_departed(head.id, departed)

    def _may_leave(self, conversation: Conversation, session: Session, request: Leave) -> bool:
        """Whether a departure may be tried; answers retries, raises RefusedError otherwise."""
        if conversation.membership(session) is None:
            raise not_found()
        if not is_next(self._turn, conversation, session, request.id, request.number, request.proposal):
            return False
        conversation.member(session)
        return True

    def _check_epoch(self, conversation: Conversation, session: Session, header: Header) -> None:
        if header.epoch != conversation.head.epoch:
            raise self._leases.refuse_stale(conversation, session.who)
