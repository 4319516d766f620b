"""Rows: what a face draws, one value for each thing on the screen. All text in them is clean (`clean`)."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, Literal

from securechat.clean import clean, clean_line
from securechat.client.events import Transfer, TransferStage, Trust
from securechat.client.message import Attached, Disposition, Message, Quote, QuoteState
from securechat.value import value

Delivery = Literal["received", "waiting", "sent", "delivered", "read", "not sent"]
"""`received`: somebody else's. Our own waits until the server has it on disk (`sent`); `not sent`: it never will be.
`delivered`, `read`: by all for whom it was said."""


@value
class Answered:
    """What a message answers, in short, as it is now."""

    local_id: int
    """Of its row; 0: it is not here."""
    sender: str
    text: str
    """The beginning of it. One line."""
    edited: bool
    state: QuoteState
    """Not empty: there is nothing to show, and this says why."""
    trust: Trust
    """Of its sender's key, as beside that line; `accepted` for our own, which has no sign."""


@value
class Under:
    """What some people have put under a message: an emoji, or a short word. One line."""

    text: str
    accounts: tuple[str, ...]


@value
class Shared:
    """A file that a message brings, by its sender's word."""

    name: str
    """One line; no path yet."""
    description: str
    """May have several lines; empty: there is none."""
    media_type: str
    disposition: Disposition
    size: int
    """Of the file, in bytes."""
    thumbnail: bytes = b""
    """A small picture as its sender encoded it, which is hostile until a bounded child has decoded it; or empty."""
    milliseconds: int = 0
    """How long a recording is; 0: not known."""
    waveform: bytes = b""
    """How loud it is, from 0 to 255, in 48 parts; empty: not known."""
    width: int = 0
    """Of a picture, in pixels; 0: not known."""
    height: int = 0
    until: int = 0
    """When the server deletes it, in milliseconds since 1970; 0: not known."""


@value
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
    action: bool = False
    """Whether the text says what its sender does: "waves"."""
    answers: Answered | None = None
    edited: int = 0
    """When its text was last changed, in milliseconds since 1970; 0: never."""
    deleted_by: str = ""
    """Who has deleted it; empty: nobody. Its text is empty then."""
    reactions: tuple[Under, ...] = ()
    mentioned: bool = False
    """Whether its text names the one who reads it, as in "@alice"."""
    recipients: int = 0
    """Of our own: the people of whom it is told whether they have it; 0: of nobody."""
    delivered: int = 0
    """How many of them have it."""
    read: int = 0
    """How many have read it."""
    file: Shared | None = None
    """What it brings; its text has the name, too."""


@value
class Notice:
    """Something told to the user between the messages: a `Sentence` with a name."""

    number: int
    """Names the row within its timeline."""
    kind: Literal["notice", "warning", "alarm"]
    text: str
    """May have several lines."""


@value
class Day:
    """A day: the messages below, up to the next one of these, are of it."""

    date: date


@value
class New:
    """What is below was not seen when one came here."""


@value
class Moving:
    """A file on its way: it is sent, or saved. It stands below everything, and goes when that is over."""

    number: int
    """Names the row, and what `CancelFile` takes."""
    kind: Literal["send", "save"]
    name: str
    """One line."""
    stage: TransferStage
    done: int
    """Bytes, of `size`."""
    size: int
    """0: not known yet."""
    local_id: int
    """Of the line that names it; 0: it is sent, and has none yet."""


@value
class Beginning:
    """Another conversation of the same name begins here: `states.BEGINS` says what that means for those above."""

    conversation: bytes
    """The id of that which begins."""


Row = Line | Notice | Day | New | Moving | Beginning


def key_of(row: Row) -> str:
    """Return what names a row within its timeline: it keeps that when it changes, or moves."""
    match row:
        case Line(local_id=number):
            return f"line-{number}"
        case Notice(number=number):
            return f"notice-{number}"
        case Day(date=day):
            return f"day-{day}"
        case Moving(number=number):
            return f"moving-{number}"
        case Beginning(conversation=conversation):
            return f"begins-{conversation.hex()}"
    return "new"


@value
class Splice:
    """What has changed between two lists of rows: in place of `removed` rows from `start` on come `rows`."""

    start: int
    removed: int
    rows: tuple[Row, ...]


MOVES: Final = 4
"""Times that rows are looked for that stay, behind others that go or come: a window moves past a day, and its lines."""


def splices(before: Sequence[Row], after: Sequence[Row]) -> list[Splice]:
    """Return how rows became others, one change behind the other; none: nothing has changed.

    What a window that moves keeps stays: rows that go at its one end and come at its other are changes of their own.
    """
    changes: list[Splice] = []
    while True:
        start, end = _alike(before, after)
        gone, come = before[start : len(before) - end], after[start : len(after) - end]
        if len(changes) == MOVES:
            moved = 0
        elif moved := _place(come, gone):
            changes.append(Splice(start, moved, ()))
            before = (*before[:start], *before[start + moved :])
        elif moved := _place(gone, come):
            changes.append(Splice(start, 0, tuple(come[:moved])))
            before = (*before[:start], *come[:moved], *before[start:])
        if not moved:
            return [*changes, Splice(start, len(gone), tuple(come))] if gone or come else changes


def _alike(before: Sequence[Row], after: Sequence[Row]) -> tuple[int, int]:
    """Return how many rows both begin with, and how many they end with besides."""
    shorter = min(len(before), len(after))
    start = next((place for place in range(shorter) if not _same(before[place], after[place])), shorter)
    rest = shorter - start
    return start, next((place for place in range(rest) if not _same(before[-1 - place], after[-1 - place])), rest)


def _place(rows: Sequence[Row], among: Sequence[Row]) -> int:
    """Return where the first of some rows stands among others; 0: it does not."""
    first = key_of(rows[0]) if rows else ""
    return next((place for place, row in enumerate(among) if key_of(row) == first), 0)


def _same(one: Row, other: Row) -> bool:
    return one is other or one == other


@value
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
    """How the keys of the others stand: that of the one to be trusted least. In a room nobody counts as verified who
    is only listed."""
    unconfirmed: str = ""
    """Since when no owner has signed the room's state, if that is long ago; else empty."""
    absent: str = ""
    """Who will not get what is said, because the directory has their device no more; else empty."""
    mentioned: bool = False
    """Whether one of the newest unread lines names the one who reads them."""
    online: bool = False
    """Whether the other one of a direct conversation is there now, as far as it was told."""


@value
class Person:
    """One of those in a conversation."""

    account: str
    own: bool
    trust: Trust
    """As it is shown in a list: who is only listed is never shown as verified."""
    heard: bool
    """Whether they have said or changed something since we came in; else they are listed, which proves nothing."""
    absent: bool
    """Whether they will not get what is said, because the directory has their device no more."""


Place = tuple[int, int, int]
"""Where a row is among the others of its conversation: in the order of the history (`place_of`)."""

LATE: Final = 600_000
"""Milliseconds between writing and acceptance from which on both are shown: it was written on a train, for example."""

UNACCEPTED: Final = 1 << 63
"""Stands for the seq of a line that has none: it comes after the log."""


def place_of(message: Message) -> Place:
    """Return where a line is: its seq, 1, and its local id. A notice before it has 0 in the middle."""
    return (message.seq or UNACCEPTED, 1, message.local_id)


def line_of(
    message: Message, clean: Callable[[str], str] = clean, account: str = "", *, marks: bool = True
) -> Line:
    """Return a message as a row. `clean`: the client's. `account`: whose screen it is. `marks`: whether they show."""
    recipients = message.recipients if marks else 0
    return Line(
        message.local_id,
        clean_line(message.sender),
        message.own,
        message.trust,
        clean(message.text),
        clean_line(message.problem),
        message.time,
        _delivery(message, recipients),
        clean_line(message.doubt),
        message.written if message.seq and message.time - message.written > LATE and message.written else 0,
        message.kind == "action",
        _answered(message.quote),
        message.edited,
        clean_line(message.deleted_by),
        tuple(Under(clean_line(each.text), tuple(map(clean_line, each.accounts))) for each in message.reactions),
        bool(account) and not message.own and mentions(message.text, account),
        recipients,
        message.delivered if marks else 0,
        message.read if marks else 0,
        _shared(message.file, clean),
    )


def moving_of(transfer: Transfer) -> Moving:
    """Return a file on its way as a row."""
    name = clean_line(transfer.name)
    stage, done, size = transfer.stage, transfer.done, transfer.size
    return Moving(transfer.id, transfer.kind, name, stage, done, size, transfer.local_id)


def _shared(file: Attached | None, clean: Callable[[str], str]) -> Shared | None:
    if file is None:
        return None
    return Shared(
        clean_line(file.name), clean(file.description), file.media_type, file.disposition, file.size, file.thumbnail,
        file.milliseconds, file.waveform, file.width, file.height, file.until,
    )  # fmt: skip


def _delivery(message: Message, recipients: int) -> Delivery:
    if not message.own:
        return "received"
    if not message.seq:
        return "not sent" if message.problem else "waiting"
    if recipients and message.read >= recipients:
        return "read"
    return "delivered" if recipients and message.delivered >= recipients else "sent"


def _answered(quote: Quote | None) -> Answered | None:
    if quote is None:
        return None
    return Answered(
        quote.local_id, clean_line(quote.sender), clean_line(quote.text), bool(quote.edited), quote.state, quote.trust
    )


def day_of(time: int, zone: tzinfo | None = None) -> tuple[date, int, int]:
    """Return the day of a time, and the times at which it begins and is over; `local_time` says of what and where."""
    day = local_time(time, zone).date()
    begins, over = (
        int(datetime(each.year, each.month, each.day, tzinfo=zone).timestamp() * 1000)
        for each in (day, day + timedelta(days=1))
    )
    return day, begins, over


def local_time(time: int, zone: tzinfo | None = None) -> datetime:
    """Return a time (milliseconds since 1970) as a clock in `zone` shows it; None: this machine's own zone."""
    return datetime.fromtimestamp(time / 1000, UTC).astimezone(zone)


def mentions(text: str, account: str) -> bool:
    """Whether a text mentions an account: `@` and its name, in whatever case, and not as a part of something longer."""
    return re.search(rf"(?<![\w@])@{re.escape(account)}(?![\w@]|[.-]\w)", text, re.IGNORECASE) is not None
