"""One turn of the sequencer: what may be said and done only once the turn's transaction is on disk."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

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


class Appended(NamedTuple):
    """An entry that the turn adds to a log, for its readers; `accepted` is what its sender gets in its place.

    `gone`: devices for which it is the last one.
    """

    conversation: Conversation
    entry: LogEntry
    session: "Session"
    accepted: Accepted
    gone: tuple[bytes, ...] = ()


class Turn:
    """Collects what the handlers want to happen; `Delivery` lets it happen after COMMIT, or drops it."""

    __slots__ = ("answers", "appended", "effects", "now", "time")

    def __init__(self) -> None:
        self.now = 0.0  # monotonic seconds
        self.time = 0  # ms since 1970
        self.appended: list[Appended] = []
        self.answers: list[tuple[Session, Answer]] = []
        self.effects: list[Callable[[], None]] = []

    def clear(self) -> None:
        """Forget everything."""
        self.appended = []
        self.answers = []
        self.effects = []

    def answer(self, session: "Session", reply: Answer) -> None:
        """Reply to a request."""
        self.answers.append((session, reply))

    def after(self, effect: Callable[[], None]) -> None:
        """Do something else; it must not write to the store."""
        self.effects.append(effect)
