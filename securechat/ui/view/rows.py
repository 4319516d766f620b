"""Rows: what a face draws, one value for each thing on the screen. All text in them is clean (`ui.text.clean`)."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Final, Literal

from securechat.client.events import Message, Trust
from securechat.ui.text.clean import clean, clean_line

Delivery = Literal["received", "waiting", "sent", "not sent"]
"""`received`: somebody else's. Our own waits until the server has it on disk; `not sent`: it never will be."""


@dataclass(frozen=True)
class Line:
    """A message."""

    local_id: int
    """Names the row: a line that changes, or moves, keeps it."""
    sender: str
    own: bool
    trust: Trust
    """The trust in the sender's key when the message came."""
    text: str
    """May have several lines; empty if the message cannot be shown."""
    problem: str
    """Why the message cannot be shown, or was not sent; else empty. One line."""
    time: int
    """When the server accepted it, in milliseconds since 1970; 0 until it has."""
    delivery: Delivery
    doubt: str = ""
    """What contradicts the history that its sender saw; else empty. One line."""
    written: int = 0
    """When its sender wrote it, by their clock, in milliseconds since 1970, where that was much earlier; else 0."""


@dataclass(frozen=True)
class Notice:
    """Something told to the user between the messages: a `Sentence` with a name."""

    number: int
    """Names the row within its timeline."""
    kind: Literal["notice", "warning", "alarm"]
    text: str
    """May have several lines."""


@dataclass(frozen=True)
class Day:
    """A day: the messages below, up to the next one of these, are of it."""

    date: date


Row = Line | Notice | Day


@dataclass(frozen=True)
class Item:
    """A conversation in the list."""

    id: bytes
    title: str
    kind: Literal["direct", "invite", "open"]
    state: Literal["requested", "request", "open", "closed", "stopped"]
    members: int
    unread: int
    newest: Line | None
    trust: Trust
    """How the keys of the others stand: that of the one to be trusted least."""
    unconfirmed: str = ""
    """Since when no owner has signed the room's state, if that is long ago; else empty."""
    absent: str = ""
    """Who will not get what is said, because the directory has their device no more; else empty."""


Place = tuple[int, int, int]
"""Where a row is among the others of its conversation: in the order of the history (`place_of`)."""

LATE: Final = 600_000
"""Milliseconds between writing and acceptance from which on both are shown: it was written on a train, for example."""

UNACCEPTED: Final = 1 << 63
"""Stands for the seq of a line that has none: it comes after the log."""


def place_of(message: Message) -> Place:
    """Return where a line is: its seq, 1, and its local id. A notice before it has 0 in the middle."""
    return (message.seq or UNACCEPTED, 1, message.local_id)


def line_of(message: Message) -> Line:
    """Return a message as a row."""
    delivery: Delivery = "received"
    if message.own:
        delivery = "sent" if message.seq else "not sent" if message.problem else "waiting"
    return Line(
        message.local_id,
        clean_line(message.sender),
        message.own,
        message.trust,
        clean(message.text),
        clean_line(message.problem),
        message.time,
        delivery,
        clean_line(message.doubt),
        message.written if message.seq and message.time - message.written > LATE and message.written else 0,
    )


def local_time(time: int, zone: tzinfo | None = None) -> datetime:
    """Return a time (milliseconds since 1970) as a clock in `zone` shows it; None: this machine's own zone."""
    return datetime.fromtimestamp(time / 1000, UTC).astimezone(zone)
