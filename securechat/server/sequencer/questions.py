"""What a client asks, and what it reports: who is in a conversation, which rooms and checkpoints there are."""

from collections.abc import Callable, Collection

import msgspec
from msgspec import structs

from securechat.errors import RefusedError
from securechat.identity.statements import is_statement
from securechat.mls.framing import ContentType, read_header
from securechat.server.logs import get_logger
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.conversation import Conversation, Conversations, not_found
from securechat.server.sequencer.heirs import Heirs
from securechat.server.sequencer.operations import CheckpointsRead, Listed, Workers
from securechat.server.sequencer.reading import FALL_BEHIND_BYTES, is_full
from securechat.server.sequencer.session import Session, Sessions, contained, refusal
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore, DirectoryStore, LogStore
from securechat.wire import limits
from securechat.wire.chain import HANDED_BACK, MLS_MESSAGE
from securechat.wire.frames import encode_frame
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
    Request,
    Room,
    Rooms,
)

log = get_logger(__name__)

ANSWERS_AT_ONCE = 4
"""Requests that one list is made for, and which are answered in one turn: each takes as long as the list is. People ask
for one at a time."""

_ROOMS = b""
"""What stands for the list of rooms in `Session.asked`."""


class Questions:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        logs: LogStore,
        directory: DirectoryStore,
        conversations: Conversations,
        sessions: Sessions,
        heirs: Heirs,
        budgets: Budgets,
        readers: Workers,
        submit: Callable[[Session, object], None],
        ownerless: Collection[str],
    ) -> None:
        """`submit(session, operation)` hands in what a reader thread has read.

        `ownerless`: the rooms that the operator names, which come first in every list.
        """
        self._ownerless = ownerless
        self._turn = turn
        self._store = store
        self._logs = logs
        self._directory = directory
        self._conversations = conversations
        self._sessions = sessions
        self._heirs = heirs
        self._budgets = budgets
        self._readers = readers
        self._submit = submit

    def members(self, session: Session, request: Members) -> None:
        """Handle `Members`. There may be a thousand."""
        self._conversations.find(request.conversation, self._turn.now).member(session)
        self._ask(session, request, request.conversation)

    def list_rooms(self, session: Session, request: ListRooms) -> None:
        """Handle `ListRooms`. There may be ten thousand."""
        self._ask(session, request, _ROOMS)

    def _ask(self, session: Session, request: Request, what: bytes) -> None:
        """Have a reader make a list: one at a time for each session, and one for some of those that ask meanwhile."""
        session.asked.setdefault(what, []).append(request)
        if not session.asking:
            self._ask_next(session)

    def _ask_next(self, session: Session) -> None:
        what = next(iter(session.asked))
        waiting = session.asked.pop(what)
        requests = waiting[:ANSWERS_AT_ONCE]
        if len(waiting) > ANSWERS_AT_ONCE:
            session.asked[what] = waiting[ANSWERS_AT_ONCE:]  # behind other lists
        session.asking = True

        def read() -> None:
            reply = self._read_rooms(session) if what == _ROOMS else self._read_members(what)
            self._submit(session, Listed(requests, reply, len(encode_frame(reply))))

        self._readers.submit(contained(session, read), session.account, session)

    def _read_rooms(self, session: Session) -> Rooms:
        """On a reader's thread."""
        rows = self._store.rooms(session.account, session.device, self._ownerless, limits.MAX_LISTED_ROOMS)
        rooms = [Room(row.name, row.kind, row.members, row.joined, row.topic) for row in rows if row.kind != "direct"]
        return Rooms(0, rooms)

    def _read_members(self, conversation: bytes) -> MemberList:
        """On a reader's thread."""
        rows = self._store.members(conversation)
        return MemberList(
            0, conversation, [Member(row.account, self._sessions.is_seated(row.who), row.published) for row in rows]
        )

    def listed(self, session: Session, listed: Listed) -> None:
        """Answer with a list that a reader has made, to whoever may still see it.

        Once the connection has as much to take as it may, the others wait: else it would have all of them at once.
        """
        session.asking = False
        outlet, reply = session.outlet, listed.reply
        room = 1 if is_full(outlet) else FALL_BEHIND_BYTES - outlet.backlog
        for request in listed.requests:
            if room <= 0:
                session.postponed.append(request)
                continue
            try:
                if isinstance(reply, MemberList):
                    self._conversations.find(reply.conversation, self._turn.now).member(session)
                self._turn.answer(session, structs.replace(reply, id=request.id))
                room -= listed.size
            except RefusedError as error:
                self._turn.answer(session, refusal(request.id, error))
        if session.asked:
            self._ask_next(session)

    def fetch_checkpoints(self, session: Session, request: FetchCheckpoints) -> None:
        """Handle `FetchCheckpoints`. They may take megabytes: one is read at a time, for who has taken the last."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if conversation.membership(session) is None:
            self._heirs.membership(conversation, session)
        if session.fetching:
            raise RefusedError("busy", "take what was asked for before, then ask for checkpoints again")
        session.fetching = True
        job = contained(session, lambda: self._read_checkpoints(session, request))
        self._readers.submit(job, session.account, session)

    def _read_checkpoints(self, session: Session, request: FetchCheckpoints) -> None:
        """On a reader's thread."""
        found = []
        room = limits.MAX_FRAME - limits.FRAME_OVERHEAD
        for each in self._store.read_checkpoints(request.conversation):
            departures = [Departure(*proof) for proof in each.departed]
            checkpoint = Checkpoint(
                each.seq, each.time, each.chain, each.group_info, each.tree, departures, list(each.revocations)
            )
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
        """Handle `CommitFailed`: the operator sees it, once for each commit, and coming back is not counted."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        member = conversation.membership(session)
        if member is None:
            raise not_found()
        last = conversation.head.seq if member.last_seq is None else member.last_seq
        author = self._author(conversation, request.seq) if member.join_seq < request.seq <= last else None
        if author is None:
            raise RefusedError("bad-request", "there is no such commit that this device should have read")
        if author != session.account and self._budgets.report(conversation, session, request.seq):
            log.warning(
                "a member cannot process a commit",
                account=session.account,
                conversation=conversation.head.title,
                seq=request.seq,
                author=author,
            )
        self._turn.answer(session, Done(request.id))

    def _author(self, conversation: Conversation, seq: int) -> str | None:
        """Return whose the commit `seq` is; None: it is not there, or something else."""
        for entry in self._logs.read_handshakes(conversation.head.id, seq - 1, seq, 1, 1):
            signed = entry.kind in (MLS_MESSAGE, HANDED_BACK) and not is_statement(entry.payload)
            if signed and read_header(entry.payload).content_type == ContentType.COMMIT:
                return self._directory.account_of(entry.device)
        return None
