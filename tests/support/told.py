"""One conversation in which everything happens once, and the rows that every face draws of it.

The first lines are there when a face begins; the rest is told. `ROWS` is what the view model makes of it, written by
hand: a face that draws something else has its own idea of a conversation.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from securechat.client.events import (
    Deleted,
    Delivered,
    Edited,
    Event,
    Held,
    KeyShown,
    Marked,
    Reacted,
    Received,
    Refused,
    Said,
    Transfer,
    Transferred,
)
from securechat.client.message import Attached, Message, Quote, Reaction
from securechat.ui.view.rows import Answered, Day, Line, Moving, New, Notice, Row, Shared, Under
from tests.support.scripted import ScriptedClient, conversation

CLUB = replace(conversation("#club", "invite", members=("alice", "bob", "carol")), heard=("bob", "carol"))

NOON = 1_795_003_200_000
"""18 November 2026, 12:00 UTC: the same day nearly everywhere."""

TOMORROW = NOON + 86_400_000

WAVES = bytes(range(0, 240, 5))

HOSTILE = "[red]Free[/red] \u202egnp.exe\u202c \x1b[2J https://evil.example"
"""What a terminal, a markup or a screen that reorders could take for an order."""


def said(local_id: int, sender: str, text: str, **others: object) -> Message:
    about = {"trust": "accepted", "kind": "text", "time": NOON + local_id * 60_000, "seq": local_id} | others
    return Message(local_id, CLUB.id, sender=sender, own=sender == "alice", text=text, **about)  # type: ignore[arg-type]


def file(name: str, **others: object) -> Attached:
    about = {"description": "", "media_type": "image/png", "disposition": "image", "size": 68_000} | others
    return Attached(name, digest=bytes(32), inline=False, **about)  # type: ignore[arg-type]


ASKS = said(1, "bob", "Shall we meet?", trust="verified")
SIXX = said(2, "alice", "At sixx?", recipients=2)
READ = (
    ASKS,
    SIXX,
    said(3, "carol", "A secret that was not meant for here"),
)
"""What is there at first, and was seen: everybody trusts everybody."""

NEW = (
    said(4, "carol", "@alice look", time=TOMORROW),
    said(5, "bob", "Our house", trust="verified", kind="file", time=TOMORROW + 60_000,
         file=file("sea.jpg", description="Our house", width=1200, height=800)),
    said(6, "carol", "voice.ogg", kind="file", time=TOMORROW + 120_000,
         file=file("voice.ogg", media_type="audio/ogg", disposition="voice", milliseconds=15_000, waveform=WAVES)),
    said(7, "bob", "", kind="", time=TOMORROW + 180_000, problem="it cannot be decrypted"),
    said(8, "carol", "", kind="poll", time=TOMORROW + 240_000, problem="this version cannot show it"),
)  # fmt: skip
"""The same, and was not seen."""

SENDS = Transfer(1, "send", CLUB.id, 0, "plan.pdf", "moving", 300_000, 1_200_000)


def begin(client: ScriptedClient) -> None:
    """Put what is there at first into a client."""
    client.add(CLUB)
    client.said[:] = [*READ, *NEW]
    client.shown = READ[-1].local_id


def happen(client: ScriptedClient) -> Iterator[Event]:
    """Yield what is told then, one after the other; the client has it before."""

    def now(message: Message) -> Message:
        there = [each.local_id for each in client.said]
        if message.local_id in there:
            client.said[there.index(message.local_id)] = message
        else:
            client.said.append(message)
        return message

    six = now(replace(SIXX, text="At six?", edited=TOMORROW))
    yield Edited(six, "At sixx?")
    yield Deleted(now(replace(READ[2], text="", deleted_by="carol")))
    thumbs = (Reaction("👍", ("bob", "alice")),)
    yield Reacted(now(replace(NEW[0], reactions=thumbs)), "alice", "👍", "add")
    quote = Quote(2, "alice", own=True, text="At six?", edited=TOMORROW)
    fine = said(9, "bob", "Fine", trust="verified", time=TOMORROW + 300_000, quote=quote)
    yield Received(now(fine))
    yield Received(now(said(10, "carol", "waves", kind="action", time=TOMORROW + 360_000)))
    yield Received(now(said(11, "bob", HOSTILE, trust="changed", time=TOMORROW + 420_000)))
    sent = said(12, "alice", "See you\nthere", time=0, seq=0, recipients=2)
    yield Said(now(sent), command=1)
    yield Delivered(now(replace(sent, seq=12, time=TOMORROW + 480_000)), command=1)
    now(replace(six, delivered=2, read=1))
    yield Marked(CLUB.id, "bob", 2, 2)
    failed = said(13, "alice", "Too long", time=0, seq=0)
    yield Said(now(failed), command=2)
    yield Refused("too-large", "This is too long.", now(replace(failed, problem="This is too long.")), command=2)
    yield Said(now(said(14, "alice", "Only for you", time=0, seq=0)), command=3)
    yield Held(CLUB.id, (KeyShown("bob", "1a2b", "changed"),), 7, command=3)
    client.on_their_way = (SENDS,)
    yield Transferred(SENDS, command=4)


def line(local_id: int, sender: str, text: str, **others: object) -> Line:
    """A row, as most of them are."""
    day = NOON if local_id < 4 else TOMORROW
    own = sender == "alice"
    about = {"problem": "", "time": day + (local_id if local_id < 4 else local_id - 4) * 60_000,
             "delivery": "received"} | others  # fmt: skip
    return Line(local_id, sender, own, about.pop("trust", "accepted"), text, **about)  # type: ignore[arg-type]


ROWS: tuple[Row, ...] = (
    Day(date(2026, 11, 18)),
    line(1, "bob", "Shall we meet?", trust="verified"),
    line(2, "alice", "At six?", edited=TOMORROW, delivery="delivered", recipients=2, delivered=2, read=1),
    line(3, "carol", "", deleted_by="carol"),
    Day(date(2026, 11, 19)),
    New(),
    line(4, "carol", "@alice look", mentioned=True, reactions=(Under("👍", ("bob", "alice")),)),
    line(5, "bob", "Our house", trust="verified",
         file=Shared("sea.jpg", "Our house", "image/png", "image", 68_000, width=1200, height=800)),
    line(6, "carol", "voice.ogg",
         file=Shared("voice.ogg", "", "audio/ogg", "voice", 68_000, milliseconds=15_000, waveform=WAVES)),
    line(7, "bob", "", problem="it cannot be decrypted"),
    line(8, "carol", "", problem="this version cannot show it"),
    line(
        9, "bob", "Fine", trust="verified",
        answers=Answered(2, "alice", "At six?", edited=True, state="", trust="accepted"),
    ),
    line(10, "carol", "waves", action=True),
    line(11, "bob", "[red]Free[/red] gnp.exe �[2J https://evil.example", trust="changed"),
    line(12, "alice", "See you\nthere", delivery="sent", recipients=2),
    Notice(1, "warning", "Your message in #club waits. Reading there: bob (key 1a2b: not the accepted key). /safety "
                         "bob shows the numbers; an empty line (Enter alone) lets it go to them."),
    line(13, "alice", "Too long", problem="This is too long.", time=0, delivery="not sent"),
    line(14, "alice", "Only for you", time=0, delivery="waiting"),
    Moving(1, "send", "plan.pdf", "moving", 300_000, 1_200_000, 0),
)  # fmt: skip
"""What a face shows in the end; of what it tells besides, the `Held` alone is told here."""
