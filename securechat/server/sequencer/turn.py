"""One turn of the sequencer: everything that must wait until the turn's transaction is on disk."""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from securechat.server.clock import ServerClock
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.session import Session
from securechat.server.space import Space
from securechat.server.store.records import Head, LogEntry, Who, pack_answer
from securechat.wire.chain import HANDED_BACK, MLS_MESSAGE, NO_DEVICE, OPERATORS_WORD, next_chain
from securechat.wire.messages import (
    Accepted,
    BlobState,
    Checkpoints,
    Done,
    Handshake,
    JoinOffer,
    KeyPackages,
    MemberList,
    PasswordChanged,
    Published,
    Refused,
    Rooms,
    SessionList,
    Statements,
    Stock,
    StoredKeepsake,
    Subscribed,
    TokenExtended,
)

Answer: TypeAlias = (
    Accepted | BlobState | Checkpoints | Done | JoinOffer | KeyPackages | MemberList | PasswordChanged | Published
    | Refused | Rooms | SessionList | Statements | Stock | StoredKeepsake | Subscribed | TokenExtended
)


MAX_WAIT_MILLISECONDS = 600_000
"""How far behind a log's newest entry the clock may be for the log to wait: ten minutes."""

RUN_ENTRIES = 64
RUN_BYTES = 16 << 10
"""Entries in a run, and bytes of payload after which it takes no more. Runs are stored and read as a whole, and a
reader that needs one entry should not pay for many."""


class Run:
    """Entries that the turn adds to a log one after the other, for one session: they share whatever that costs.

    What no session has submitted is a run of its own.

    `accepted` is what the session gets in their place. `last_for`: devices that get nothing after these entries.
    `full`: the next entry begins another run.
    """

    __slots__ = (
        "_device", "_head", "_size", "accepted", "account", "conversation", "entries", "full", "last_for", "session",
    )  # fmt: skip

    def __init__(self, conversation: Conversation, session: Session | None, account: str) -> None:
        """`session`: None where none has submitted it. `account`: who has written it; empty: the operator."""
        self.conversation = conversation
        self.session = session
        self.account = account
        self.entries: list[LogEntry] = []
        self.accepted: list[Accepted] = []
        self.last_for: tuple[Who, ...] = ()
        self.full = False
        self._size = 0  # bytes of payload
        self._device = session.device if session is not None else NO_DEVICE
        self._head = conversation.head

    def extend(self, requests: deque[tuple[int, bytes]], epoch: int, time: int, group_info: bytes = b"") -> None:
        """Take requests from the left until none remain or the run is full, and move the log's head along.

        `requests`: id and payload of submissions by the session's device, with their numbers checked. `epoch`: the
        conversation's after them; `time` in ms; `group_info`: of a commit, which is the only request then.
        """
        head, device = self._head, self._device
        numbers = head.numbers_of(device)
        conversation, seq, chain, number, size = head.id, head.seq, head.chain, numbers.last, self._size
        entries, accepted, answers, full = self.entries, self.accepted, [], self.full
        opening = b"" if entries else chain
        while requests and not full:
            request, payload = requests.popleft()
            seq += 1
            number += 1
            before = chain
            chain = next_chain(before, conversation, seq, time, device, number, payload, group_info)
            entries.append(
                LogEntry(seq, time, device, number, epoch, chain, payload, group_info, MLS_MESSAGE, opening)
            )
            opening = b""
            accepted.append(Accepted(request, conversation, number, seq, time, b""))
            answers.append(pack_answer(seq, time, before, chain))
            size += len(payload) + len(group_info)
            full = size >= RUN_BYTES or len(entries) == RUN_ENTRIES
        head.seq, head.time, head.epoch, head.chain = seq, time, epoch, chain
        numbers.extend(answers)
        self._size, self.full = size, full

    def add(
        self,
        request: int,
        payload: bytes,
        epoch: int,
        time: int,
        *,
        group_info: bytes = b"",
        joins: bool = False,
        last_for: tuple[Who, ...] = (),
    ) -> LogEntry:
        """Add one entry.

        `group_info`: of a commit. `joins`: the device enters by it. `last_for`: devices that get nothing after it.
        """
        self.extend(deque([(request, payload)]), epoch, time, group_info)
        entry = self.entries[-1]
        if joins:
            self.accepted[-1].chain = entry.chain
        if last_for:
            self.last_for = last_for
            self.full = True
        return entry


    def add_word(self, word: bytes, time: int, *, last_for: tuple[Who, ...]) -> LogEntry:
        """Add a word of the operator, as the only entry; `last_for` as in `add`."""
        return self._add_alone(NO_DEVICE, 0, word, b"", OPERATORS_WORD, self._head.epoch, time, last_for)

    def add_statement(self, statement: bytes, time: int, kind: int, *, last_for: tuple[Who, ...]) -> LogEntry:
        """Add a statement, as the only entry; `kind`: of the entry, `last_for` as in `add`."""
        return self._add_alone(NO_DEVICE, 0, statement, b"", kind, self._head.epoch, time, last_for)

    def add_handed_back(
        self, handshake: Handshake, device: bytes, number: int, epoch: int, time: int, *, last_for: tuple[Who, ...]
    ) -> LogEntry:
        """Add a handshake that a restored server had lost, as the only entry. `device` made it as its `number`."""
        payload, group_info = handshake.payload, handshake.group_info
        return self._add_alone(device, number, payload, group_info, HANDED_BACK, epoch, time, last_for)

    def _add_alone(
        self,
        device: bytes,
        number: int,
        payload: bytes,
        group_info: bytes,
        kind: int,
        epoch: int,
        time: int,
        last_for: tuple[Who, ...],
    ) -> LogEntry:
        head = self._head
        seq, before = head.seq + 1, head.chain
        chain = next_chain(before, head.id, seq, time, device, number, payload, group_info, kind)
        entry = LogEntry(seq, time, device, number, epoch, chain, payload, group_info, kind, before)
        self.entries.append(entry)
        head.seq, head.time, head.epoch, head.chain = seq, time, epoch, chain
        self.last_for, self.full = last_for, True
        return entry


class Turn:
    """Collects what handlers want to happen: after COMMIT it happens, after a rollback it is dropped."""

    __slots__ = ("_clock", "_conversations", "answers", "effects", "now", "runs", "space", "time")

    def __init__(self, conversations: Conversations, clock: ServerClock, space: Space) -> None:
        self.space = space
        self._conversations = conversations
        self._clock = clock
        self.now = 0.0  # monotonic seconds
        self.time = 0  # ms since 1970
        self.runs: list[Run] = []
        self.answers: list[tuple[Session, Answer]] = []
        self.effects: list[Callable[[], None]] = []

    def begin(self, now: float) -> None:
        """`now` in monotonic seconds."""
        self.now = now
        self.time = int(self._clock.seconds() * 1000)

    @property
    def age(self) -> int:
        """The time by which things are deleted (`ServerClock.age`), in ms."""
        return int(self._clock.age() * 1000)

    def check_clock(self) -> None:
        """Raise RefusedError `busy` while nobody knows what time it is: then nothing is added to a log."""
        self._clock.check()

    def time_in(self, head: Head) -> int:
        """Return the time of the next entry of a log (ms).

        It waits where the clock was set back a little, so that times do not run back; where that would take long, it
        follows the clock, and clients say so.
        """
        return head.time if 0 < head.time - self.time <= MAX_WAIT_MILLISECONDS else self.time

    def clear(self) -> None:
        """Forget everything."""
        self.runs = []
        self.answers = []
        self.effects = []

    def run(self, conversation: Conversation, session: Session) -> Run:
        """Return the run that the session's next entry in a conversation belongs to."""
        if self.runs:
            run = self.runs[-1]
            if run.session is session and run.conversation is conversation and not run.full:
                return run
        run = Run(conversation, session, session.account)
        self.runs.append(run)
        self._conversations.touch(conversation)
        return run

    def word(
        self, conversation: Conversation, word: bytes, time: int, *, last_for: tuple[Who, ...]
    ) -> LogEntry:
        """Add a word of the operator to a log; `last_for` as in `Run.add`."""
        return self.run_of_none(conversation, "").add_word(word, time, last_for=last_for)

    def run_of_none(self, conversation: Conversation, account: str) -> Run:
        """Return a new run for an entry of an account (empty: the operator) that no session has submitted."""
        run = Run(conversation, None, account)
        self.runs.append(run)
        self._conversations.touch(conversation)
        return run

    def answer(self, session: Session, reply: Answer) -> None:
        """Reply to a request."""
        self.answers.append((session, reply))

    def after(self, effect: Callable[[], None]) -> None:
        """Do something after the commit; it must not write to the store."""
        self.effects.append(effect)
