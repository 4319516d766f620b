"""What a client asks, and what it reports: who is in a conversation, which rooms there are, what it cannot process."""

from securechat.server.logs import get_logger
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.conversation import Conversations, not_found
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore
from securechat.wire.messages import CommitFailed, Done, ListRooms, Member, MemberList, Members, Room, Rooms

log = get_logger(__name__)


class Questions:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        conversations: Conversations,
        sessions: Sessions,
        budgets: Budgets,
    ) -> None:
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._sessions = sessions
        self._budgets = budgets

    def members(self, session: Session, request: Members) -> None:
        """Handle `Members`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        accounts = sorted({member.account for member in conversation.present})
        members = [Member(account, self._sessions.is_online(account)) for account in accounts]
        self._turn.answer(session, MemberList(request.id, request.conversation, members))

    def list_rooms(self, session: Session, request: ListRooms) -> None:
        """Handle `ListRooms`."""
        rows = self._store.rooms(session.device)
        rooms = [Room(row.name, row.kind, row.members, row.joined) for row in rows if row.kind != "direct"]
        self._turn.answer(session, Rooms(request.id, rooms[:10_000]))

    def commit_failed(self, session: Session, request: CommitFailed) -> None:
        """Handle `CommitFailed`: the operator sees it, and coming back is not counted."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if session.device not in conversation.head.members:
            raise not_found()
        self._budgets.report(conversation, session, request.seq)
        log.warning(
            "a member cannot process a commit",
            account=session.account,
            conversation=conversation.head.title,
            seq=request.seq,
        )
        self._turn.answer(session, Done(request.id))
