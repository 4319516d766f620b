"""What a client asks, and what it reports: who is in a conversation, which rooms and checkpoints there are."""

from collections.abc import Callable

import msgspec

from securechat.errors import RefusedError
from securechat.server.logs import get_logger
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.conversation import Conversations, not_found
from securechat.server.sequencer.operations import CheckpointsRead, Workers
from securechat.server.sequencer.reading import FALL_BEHIND_BYTES
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore, DirectoryStore
from securechat.wire import limits
from securechat.wire.messages import (
    Checkpoint,
    Checkpoints,
    CommitFailed,
    Departure,
    Done,
    FetchCheckpoints,
    ListRooms,
    Member,
    MemberList,
    Members,
    Room,
    Rooms,
)

log = get_logger(__name__)

REPLY_BYTES = 256
"""Bytes of a frame that are not for what a reply holds: its name, ids and lengths."""


class Questions:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        directory: DirectoryStore,
        conversations: Conversations,
        sessions: Sessions,
        budgets: Budgets,
        readers: Workers,
        submit: Callable[[Session, object], None],
    ) -> None:
        """`submit(session, operation)` hands in what a reader thread has read."""
        self._turn = turn
        self._store = store
        self._directory = directory
        self._conversations = conversations
        self._sessions = sessions
        self._budgets = budgets
        self._readers = readers
        self._submit = submit

    def members(self, session: Session, request: Members) -> None:
        """Handle `Members`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        present = sorted(conversation.present, key=lambda each: each.account)
        published = self._directory.owners([each.device for each in present])
        members = [
            Member(each.account, self._sessions.is_online(each.account, each.device), each.device in published)
            for each in present
        ]
        self._turn.answer(session, MemberList(request.id, request.conversation, members))

    def list_rooms(self, session: Session, request: ListRooms) -> None:
        """Handle `ListRooms`."""
        rows = self._store.rooms(session.device)
        rooms = [Room(row.name, row.kind, row.members, row.joined, row.topic) for row in rows if row.kind != "direct"]
        self._turn.answer(session, Rooms(request.id, rooms[:10_000]))

    def fetch_checkpoints(self, session: Session, request: FetchCheckpoints) -> None:
        """Handle `FetchCheckpoints`. They may take megabytes: one is read at a time, for who has taken the last."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if session.device not in conversation.head.members:
            raise not_found()
        if session.fetching or session.outlet.backlog > FALL_BEHIND_BYTES:
            raise RefusedError("busy", "take what was asked for before, then ask for checkpoints again")
        session.fetching = True
        self._readers.submit(lambda: self._read_checkpoints(session, request))

    def _read_checkpoints(self, session: Session, request: FetchCheckpoints) -> None:
        """On a reader's thread."""
        found = []
        room = limits.MAX_FRAME - REPLY_BYTES
        for each in self._store.read_checkpoints(request.conversation):
            departures = [Departure(proposal, group_context) for proposal, group_context in each.departed]
            checkpoint = Checkpoint(each.seq, each.time, each.chain, each.group_info, each.tree, departures)
            room -= len(msgspec.msgpack.encode(checkpoint))
            if room < 0:
                break
            found.append(checkpoint)
        self._submit(session, CheckpointsRead(Checkpoints(request.id, request.conversation, found)))

    def checkpoints_read(self, session: Session, read: CheckpointsRead) -> None:
        """Answer with what a reader has fetched."""
        session.fetching = False
        self._turn.answer(session, read.reply)

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
