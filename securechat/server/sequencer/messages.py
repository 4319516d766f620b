"""Messages and acknowledgements: most of what arrives, so their path has to be short.

All that came from a session at once is handled together. What is the same for all messages to one conversation is
checked once: whether the device is a member, how its messages must begin, how many more there is room for.
"""

import math
from collections import deque
from itertools import groupby
from operator import attrgetter

from securechat.errors import RefusedError
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.numbers import explain_application, is_next
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.session import Session, refusal
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import LogStore
from securechat.server.store.records import READER_BYTES, READER_ENTRIES, READER_SECONDS, Head
from securechat.wire.messages import Acknowledge, Submit


class Messages:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        logs: LogStore,
        conversations: Conversations,
        leases: Leases,
        reading: Reading,
    ) -> None:
        self._turn = turn
        self._logs = logs
        self._conversations = conversations
        self._leases = leases
        self._reading = reading

    def handle(self, session: Session, messages: list[Submit | Acknowledge]) -> None:
        """Handle the messages that came from a session at once, as if one after the other.

        Acknowledgements alone are handled first: nobody can have read the entries submitted beside them.
        """
        for conversation, group in groupby(messages, attrgetter("conversation")):
            submissions = []
            for message in group:
                if isinstance(message, Submit):
                    submissions.append(message)
                else:
                    self._reading.acknowledge(session, message)
            if submissions:
                self._submit(session, conversation, submissions)

    def _submit(self, session: Session, to: bytes, submissions: list[Submit]) -> None:
        """Check messages to one conversation, and add those that pass."""
        turn, take = self._turn, session.submissions.take
        try:
            turn.check_clock()
            turn.space.check()
            conversation = self._conversations.find(to, turn.now)
            conversation.member(session)
        except RefusedError as error:
            for message in submissions:
                turn.answer(session, refusal(message.id, error))
            return
        head, prefix = conversation.head, conversation.application_prefix
        if head.resumed:
            head.follow_number(session.device, submissions[0].number)
        last = head.numbers_of(session.device).last
        accepted: deque[tuple[int, bytes]] = deque()  # id and payload of those not added yet
        room = 0.0
        for message in submissions:
            payload, number = message.payload, message.number
            try:
                if number != last + 1:
                    self._add(session, conversation, accepted)
                    is_next(turn, conversation, session, message.id, number, payload)
                    continue
                if not payload.startswith(prefix + number.to_bytes(8, "big")):
                    problem = explain_application(payload, conversation, number)
                    if problem is None:
                        self._add(session, conversation, accepted)
                        raise self._leases.refuse_stale(conversation, session.who)
                    raise RefusedError("bad-request", problem)
                if head.departed or len(head.revocations) > len(head.leafless):
                    raise RefusedError("commit-first", "a device has left: commit its removal, then speak")
                if not room:
                    self._add(session, conversation, accepted)
                    size = sum([len(each.payload) for each in submissions])
                    session.quota.take(len(submissions), size, turn.now)
                    room = self._room(conversation, session)
                take(turn.now)
            except RefusedError as error:
                turn.answer(session, refusal(message.id, error))
                continue
            accepted.append((message.id, payload))
            last = number
            room -= 1
        self._add(session, conversation, accepted)

    def _add(self, session: Session, conversation: Conversation, accepted: deque[tuple[int, bytes]]) -> None:
        """Add messages to a log, and empty the queue that they came in."""
        if not accepted:
            return
        head, queue = conversation.head, conversation.lease_queue
        time = self._turn.time_in(head)
        while accepted:
            self._turn.run(conversation, session).extend(accepted, head.epoch, time)
        if queue.strikes or queue.lease is not None:
            self._leases.accepted(conversation, session.who)

    def _room(self, conversation: Conversation, session: Session) -> float:
        """Return how many entries a direct conversation takes before a device leaves as much unread as it may.

        It may take more than that: memory overestimates what is unread, and the store is asked only when the estimate
        is too high. A room takes everything: there a slow reader loses entries, and no speaker is refused.

        Raises RefusedError: `reader-full` if another device has not read for too long, `busy` if only the speaker's own
        acknowledgements are missing. They count too, for what nobody acknowledges stays on disk.
        """
        head = conversation.head
        if head.kind != "direct":
            return math.inf
        held = head.unread(head.first_seq - 1)
        if held < READER_ENTRIES and head.held_bytes < READER_BYTES and not self._is_too_old(head):
            return READER_ENTRIES - held
        own = head.members[session.device].cursor
        others = min((each.cursor for each in head.members.values() if each.device != session.device), default=own)
        # To measure means to look at thousands of rows: not again before anything has changed.
        state = own, others, head.first_seq, head.seq
        before, refusal_then = conversation.full.get(session.device, (None, ("", "")))
        if before == state:
            raise RefusedError(*refusal_then)
        try:
            return self._measured_room(head, own, others)
        except RefusedError as error:
            conversation.full[session.device] = state, (error.code, str(error))
            raise

    def _measured_room(self, head: Head, own: int, others: int) -> int:
        """The same by what the store has behind these cursors."""
        room = self._room_behind(head, others)
        if not room:
            raise RefusedError("reader-full", "the other side has been away too long: there is no more room for it")
        if own < others:
            room = self._room_behind(head, own)
            if not room:
                raise RefusedError("busy", "too much is unacknowledged: acknowledge what has arrived, then try again")
        return room

    def _room_behind(self, head: Head, cursor: int) -> int:
        """Return how many more entries may be added before a device with this cursor has too much unread."""
        unread = head.unread(max(cursor, head.first_seq - 1))  # what was given up is not kept for it any more
        if unread >= READER_ENTRIES:
            return 0
        head.held_bytes, head.held_time = self._logs.measure(head.id, cursor)
        return 0 if head.held_bytes >= READER_BYTES or self._is_too_old(head) else READER_ENTRIES - unread

    def _is_too_old(self, head: Head) -> bool:
        return bool(head.held_time) and self._turn.time - head.held_time > READER_SECONDS * 1000
