"""One turn of the sequencer: what may be said and done only once the turn's transaction is on disk."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from securechat.server.conversation import Conversation
from securechat.server.store.port import LogEntry
from securechat.wire.messages import (
    Accepted,
    Done,
    JoinOffer,
    KeyPackages,
    MemberList,
    Refused,
    Rooms,
    Stock,
    Subscribed,
)

if TYPE_CHECKING:
    from securechat.server.session import Session

Answer: TypeAlias = Accepted | Done | JoinOffer | KeyPackages | MemberList | Refused | Rooms | Stock | Subscribed


RUN_ENTRIES = 64
RUN_BYTES = 16 << 10
"""Entries of one run, and bytes of payload after which it takes no more: runs are delivered and read again as a whole,
and who needs one entry should not pay for many."""


class Run:
    """Entries that the turn adds to a log one after the other, by one session: whatever it costs, they share it.

    `accepted` is what the session gets in their place. `gone`: devices for which they are the last ones. `full`: the
    next entry begins another run.
    """

    __slots__ = ("_size", "accepted", "conversation", "entries", "full", "gone", "session")

    def __init__(self, conversation: Conversation, session: "Session") -> None:
        self.conversation = conversation
        self.session = session
        self.entries: list[LogEntry] = []
        self.accepted: list[Accepted] = []
        self.gone: tuple[bytes, ...] = ()
        self.full = False
        self._size = 0  # bytes of payload

    def add(self, entry: LogEntry, accepted: Accepted, gone: tuple[bytes, ...] = ()) -> None:
        """Add an entry; `gone`: devices for which it is the last one."""
        self.entries.append(entry)
        self.accepted.append(accepted)
        self.gone = gone
        self._size += len(entry.payload)
        if self._size >= RUN_BYTES or gone or len(self.entries) >= RUN_ENTRIES:
            self.full = True


class Turn:
    """Collects what the handlers want to happen; `Delivery` lets it happen after COMMIT, or drops it."""

    __slots__ = ("answers", "effects", "now", "runs", "time")

    def __init__(self) -> None:
        self.now = 0.0  # monotonic seconds
        self.time = 0  # ms since 1970
        self.runs: list[Run] = []
        self.answers: list[tuple[Session, Answer]] = []
        self.effects: list[Callable[[], None]] = []

    def clear(self) -> None:
        """Forget everything."""
        self.runs = []
        self.answers = []
        self.effects = []

    def answer(self, session: "Session", reply: Answer) -> None:
        """Reply to a request."""
        self.answers.append((session, reply))

    def after(self, effect: Callable[[], None]) -> None:
        """Do something else; it must not write to the store."""
        self.effects.append(effect)
