"""Messages and acknowledgements: by far most of what arrives, and the path that has to be short.

As many as came from a session at once are handled together, and what is the same for those of one conversation is
looked at once: whether the device is a member, how its messages must begin, how much more there is room for.
"""

import math

from securechat.errors import RefusedError
from securechat.server.conversation import Conversation, Conversations
from securechat.server.entrances import Entrances
from securechat.server.membership import Memberships, explain_application
from securechat.server.reading import Reading
from securechat.server.session import Session, refusal
from securechat.server.store.port import READER_BYTES, READER_ENTRIES, READER_SECONDS, Store
from securechat.server.turn import Run, Turn
from securechat.wire.messages import Acknowledge, Submit


class Talk:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: Store,
        conversations: Conversations,
        entrances: Entrances,
        memberships: Memberships,
        reading: Reading,
    ) -> None:
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._entrances = entrances
        self._memberships = memberships
        self._reading = reading

    def handle(self, session: Session, messages: list[Submit | Acknowledge]) -> None:
        """Handle what came from a session at once."""
        turn, device, take = self._turn, session.device, session.submissions.take
        known = b""  # the conversation of the message before, when it was found
        for message in messages:
            if isinstance(message, Acknowledge):
                self._reading.acknowledge(session, message)
                continue
            try:
                if message.conversation != known:
                    known = b""
                    conversation = self._conversations.find(message.conversation, turn.now)
                    conversation.member(session)
                    head, entrance = conversation.head, conversation.entrance
                    numbers = head.numbers_of(device)
                    prefix, time = conversation.application_prefix, max(turn.time, head.time)
                    run: Run | None = None
                    room = 0.0
                    known = head.id
                payload, number = message.payload, message.number
                if number != numbers.last + 1:
                    self._memberships.check_number(conversation, session, message.id, number, payload)
                    continue
                if not payload.startswith(prefix + number.to_bytes(8, "big")):
                    problem = explain_application(payload, conversation, number)
                    if problem is None:
                        raise self._memberships.refuse_stale(conversation, session)
                    raise RefusedError("bad-request", problem)
                if head.departed:
                    raise RefusedError("commit-first", "a device has left: commit its removal, then speak")
                room = room or self._room(conversation)
                if not room:
                    raise RefusedError(
                        "reader-full", "the other side has been away too long: there is no more room for it"
                    )
                take(turn.now)
                if run is None or run.full:
                    run = turn.run(conversation, session)
                run.add(message.id, payload, head.epoch, time)
                room -= 1
                if entrance.strikes or entrance.lease is not None:
                    self._entrances.accepted(conversation, device)
            except RefusedError as error:
                turn.answer(session, refusal(message.id, error))

    def _room(self, conversation: Conversation) -> float:
        """How many entries a direct conversation takes before it holds as much unread as a reader may leave.

        At least: what memory knows to be unread may have been read since, and only when that is too much it is found
        out. A room takes all: its slow readers lose, not its speakers.
        """
        head = conversation.head
        if head.kind != "direct":
            return math.inf
        old = head.held_time and self._turn.time - head.held_time > READER_SECONDS * 1000
        held = head.seq + 1 - head.first_seq
        if held < READER_ENTRIES and head.held_bytes < READER_BYTES and not old:
            return READER_ENTRIES - held
        read = min(member.cursor for member in head.members.values())
        if head.seq - read >= READER_ENTRIES:
            return 0
        head.held_bytes, head.held_time = self._store.measure(head.id, read)
        oldest = head.held_time or self._turn.time
        if head.held_bytes >= READER_BYTES or self._turn.time - oldest > READER_SECONDS * 1000:
            return 0
        return READER_ENTRIES - (head.seq - read)
