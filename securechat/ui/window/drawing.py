"""Rows as blocks of pieces: a row of the view model, and how wide there is room, in. All text is clean."""

from collections.abc import Sequence
from typing import Final

from securechat.client.media.pictures import Pixels
from securechat.ui.text.states import BEGINS
from securechat.ui.text.trust import AGAINST, TRUST, beside
from securechat.ui.text.wording import names_of, size_of
from securechat.ui.view.lines import WHY_NO_QUOTE, became_of, brief, what_it_is
from securechat.ui.view.rows import (
    Beginning,
    Day,
    Item,
    Line,
    Moving,
    New,
    Notice,
    Person,
    Row,
    Shared,
    key_of,
    local_time,
)
from securechat.ui.view.shown import STATES, hue_of, in_short
from securechat.ui.window.layout import Block, Fill, Picture, Piece, Setter, Spot, Text
from securechat.ui.window.layout import Row as Set

BUBBLE: Final = 620
"""Pixels that a message takes at most, of whatever room there is: longer lines are hard to follow."""

FOLDED: Final = 3000
"""Characters of a message that are shown until one wants all of them: to lay out what floods the screen takes long."""

_DELIVERY: Final = {"waiting": "◌", "sent": "✓", "delivered": "✓✓", "read": "✓✓", "not sent": "✗", "received": ""}


class Draw:
    """Draws for one screen."""

    def __init__(self, setter: Setter, account: str) -> None:
        """`account`: whose screen it is."""
        self._set, self._account = setter, account
        self._m = setter.measure

    # --- a timeline

    def row(
        self, row: Row, width: int, *, head: bool, picture: Pixels | None = None, whole: bool = False
    ) -> Block:
        """Return a row. `head`: with its sender's name. `whole`: also of a text that is long."""
        match row:
            case Line():
                return self._line(row, width, picture, head=head, whole=whole)
            case Day(date=date):
                return self._day(row, f"{date:%A}, {date.day} {date:%B %Y}", width)
            case New():
                return self._new(row, width)
            case Notice():
                return self._notice(row, width)
            case Moving():
                return self._moving(row, width)
            case Beginning():
                return self._notice(Notice(0, "notice", BEGINS), width)._replace(key=key_of(row))

    def _day(self, row: Row, text: str, width: int) -> Block:
        px, high = self._m.px, self._m.heights["small"]
        words = self._set.line(text, width - px(60), "small")
        wide, tall = words.width + px(28), high + px(8)
        left = (width - wide) // 2
        pieces: list[Piece] = [Fill(left, px(14), wide, tall, "chip", tall // 2, "page")]
        pieces += words.pieces(left + px(14), px(18), "small", "quiet", high)
        return Block(key_of(row), tall + px(26), pieces, chosen=False)

    def _new(self, row: Row, width: int) -> Block:
        px, high = self._m.px, self._m.heights["small-bold"]
        text = "New messages"
        wide, middle = self._m.width(text, "small-bold"), px(8) + high // 2
        left, side = (width - wide) // 2, px(18)
        pieces: list[Piece] = [
            Fill(side, middle, max(1, left - side - px(12)), px(1), "new"),
            Text(left, px(8), text, "small-bold", "new"),
            Fill(left + wide + px(12), middle, max(1, width - side - left - wide - px(12)), px(1), "new"),
        ]
        return Block(key_of(row), high + px(16), pieces, chosen=False)

    def _notice(self, row: Notice, width: int) -> Block:
        px, high = self._m.px, self._m.heights["small"]
        colour = "quiet" if row.kind == "notice" else row.kind
        rows = self._set.rows(row.text, min(px(BUBBLE), width - px(72)), "small")
        wide = max(each.width for each in rows)
        left, top = (width - wide) // 2, px(8)
        pieces: list[Piece] = []
        if row.kind != "notice":
            box = px(14)
            tall = len(rows) * high + px(16)
            pieces += [
                Fill(left - box, top, wide + 2 * box, tall, "chip", px(10), "page"),
                Fill(left - box, top + px(10), px(3), max(1, tall - px(20)), colour),
            ]
            top += px(8)
        for each in rows:
            x = (width - each.width) // 2 if row.kind == "notice" else left
            pieces += each.pieces(x, top, "small", colour, high)
            top += high
        return Block(key_of(row), top + px(8 if row.kind == "notice" else 16), pieces, chosen=False)

    def _moving(self, row: Moving, width: int) -> Block:
        px, high, low = self._m.px, self._m.heights["text"], self._m.heights["small"]
        wide = min(px(360), width - px(36))
        left = width - px(18) - wide if row.kind == "send" else px(18)
        share = min(1.0, row.done / row.size) if row.size else 0.0
        told = f"{share:.0%} of {size_of(row.size)}" if row.size else row.stage
        name = self._set.line(f"{'↑' if row.kind == 'send' else '↓'} {row.name}", wide - px(60), "text")
        inner, tall = wide - px(28), high + low + px(38)
        pieces: list[Piece] = [Fill(left, px(8), wide, tall, "bubble", px(14), "page")]
        pieces += name.pieces(left + px(14), px(18), "text", "text", high)
        bar = px(18) + high + px(6)
        pieces += [
            Fill(left + px(14), bar, inner, px(4), "trough"),
            Fill(left + px(14), bar, max(1, round(inner * share)), px(4), "progress"),
            Text(left + px(14), bar + px(8), told, "small", "quiet"),
        ]
        cross = left + wide - px(30)
        pieces.append(Text(cross, px(18), "✕", "text", "quiet"))
        spots = [Spot(cross - px(6), px(12), px(32), high + px(12), f"cancel {row.number}")]
        return Block(key_of(row), tall + px(16), pieces, chosen=False, spots=spots)

    def _line(self, line: Line, width: int, picture: Pixels | None, *, head: bool, whole: bool) -> Block:
        px = self._m.px
        inner = max(px(80), min(px(BUBBLE), (width - px(60)) * 4 // 5) - px(28))
        body = _Body(self._set, inner, self._account)
        top_gap = px(12) if head else px(3)
        body.fill(line, picture, head=head and not line.own, whole=whole)
        wide = max(body.wide, px(24)) + px(28)
        tall = body.y + px(18)
        narrow = width < px(520)
        left = width - px(18) - wide if line.own else px(18) if narrow else px(66)
        ground = "named" if line.mentioned else "own" if line.own else "bubble"
        pieces: list[Piece] = [Fill(left, top_gap, wide, tall, ground, px(14), "page")]
        pieces += _moved(body.pieces, left + px(14), top_gap + px(9))
        spots = [spot._replace(x=spot.x + left + px(14), y=spot.y + top_gap + px(9)) for spot in body.spots]
        if head and not line.own and not narrow:
            pieces += self._face(px(18), top_gap, px(36), line.sender, "page")
        bottom = top_gap + tall
        bottom += self._chips(line, pieces, left, bottom + px(4), wide, width)
        return Block(key_of(line), bottom + px(2), pieces, spots=spots)

    def _chips(self, line: Line, pieces: list[Piece], left: int, top: int, wide: int, width: int) -> int:
        """Put what was put under a message there; return how high that is."""
        px, high = self._m.px, self._m.heights["small"]
        room = max(wide, px(240))
        x, y, begun = 0, 0, False
        set_here: list[Piece] = []
        for each in line.reactions:
            who = names_of(each.accounts) if len(each.accounts) < 3 else str(len(each.accounts))
            words = self._set.line(f"{brief(each.text)} {who}", room - px(20), "small")
            if begun and x + words.width + px(20) > room:
                x, y = 0, y + high + px(10)
            set_here.append(Fill(x, y, words.width + px(20), high + px(6), "chip", (high + px(6)) // 2, "page"))
            set_here += words.pieces(x + px(10), y + px(3), "small", "text", high)
            x, begun = x + words.width + px(26), True
        if not set_here:
            return 0
        extent = max(each.x + each.width for each in set_here if isinstance(each, Fill))
        at = min(left, width - px(18) - extent) if not line.own else width - px(18) - extent
        pieces += _moved(set_here, max(px(4), at), top)
        return y + high + px(12)

    def _face(self, x: int, y: int, side: int, name: str, on: str) -> list[Piece]:
        """Return a disc with the first letter of a name."""
        letter = self._set.line((name.lstrip("#") or "?")[0].upper(), side, "letter")
        high = self._m.heights["letter"]
        return [
            Fill(x, y, side, side, f"name-{hue_of(name)}", side // 2, on),
            *letter.pieces(x + (side - letter.width) // 2, y + (side - high) // 2, "letter", "on-name", high),
        ]

    # --- lists

    def item(self, item: Item, width: int, *, here: bool) -> Block:
        """Return a conversation of the list: what it is and what is new there, and its newest line."""
        px, m = self._m.px, self._m
        ground = "here" if here else "side"
        pieces: list[Piece] = [Fill(px(8), px(2), width - px(16), px(60), "here", px(10), "side")] if here else []
        pieces += self._face(px(18), px(12), px(40), item.title, ground)
        if item.online:
            pieces += [
                Fill(px(46), px(40), px(14), px(14), ground, px(7), ground),
                Fill(px(48), px(42), px(10), px(10), "good", px(5), ground),
            ]
        left, right = px(70), width - px(20)
        newest = item.newest
        clock = ""
        if newest is not None and newest.time:
            clock = f"{local_time(newest.time):%H:%M}"
            pieces.append(Text(right - m.width(clock, "tiny"), px(14), clock, "tiny", "quiet"))
        sign = TRUST[item.trust].sign
        short = "!" if item.trust in AGAINST else sign if len(sign) == 1 else "?" if sign else ""
        room = right - left - m.width(clock, "tiny") - px(10) - (m.width(f" {short}", "bold") if short else 0)
        title = self._set.line(item.title, room, "bold")
        pieces += title.pieces(left, px(11), "bold", "text", m.heights["bold"])
        if short:
            signed = "good" if item.trust == "verified" else "alarm" if item.trust in AGAINST else "warning"
            pieces.append(Text(left + title.width + px(5), px(11), short, "bold", signed))
        count = f"{'@' if item.mentioned else ''}{item.unread:,}" if item.unread else ""
        if count:
            wide = max(m.width(count, "tiny-bold") + px(14), px(22))
            pieces += [
                Fill(right - wide, px(34), wide, px(20), "new" if item.mentioned else "badge", px(10), ground),
                Text(right - wide + (wide - m.width(count, "tiny-bold")) // 2,
                     px(34) + (px(20) - m.heights["tiny-bold"]) // 2, count, "tiny-bold",
                     "on-name" if item.mentioned else "on-badge"),
            ]  # fmt: skip
            right -= wide + px(8)
        state = STATES.get(item.state, "")
        text = state or ("" if newest is None else in_short(newest, direct=item.kind == "direct"))
        below = self._set.line(text, right - left, "small")
        pieces += below.pieces(left, px(35), "small", "warning" if state else "quiet", m.heights["small"])
        return Block(item.id.hex(), px(64), pieces)

    def person(self, person: Person, width: int) -> Block:
        """Return a member: name, how their key stands, and what is to be known."""
        px, m = self._m.px, self._m
        shown = TRUST[person.trust]
        pieces = self._face(px(16), px(8), px(36), person.account, "side")
        name = self._set.line(person.account + (" (you)" if person.own else ""), width - px(100), "bold")
        pieces += name.pieces(px(64), px(7), "bold", "text", m.heights["bold"])
        if shown.sign == "✓" and not person.own:
            pieces.append(Text(px(70) + name.width, px(7), "✓", "bold", "good"))
        words = shown.words if person.heard else f"listed; {shown.words}"
        words = "this is you" if person.own else "their device is gone" if person.absent else words
        top = px(30)
        for each in self._set.rows(words, width - px(80), "small"):
            colour = "alarm" if person.trust in AGAINST and not person.own else "quiet"
            pieces += each.pieces(px(64), top, "small", colour, m.heights["small"])
            top += m.heights["small"]
        return Block(f"person-{person.account}", max(top, px(44)) + px(8), pieces)

    def found(self, title: str, line: Line, width: int) -> Block:
        """Return a line that was found: where and when it was said, and the beginning of it."""
        px, m = self._m.px, self._m
        when = f"{local_time(line.time):%d %b %Y, %H:%M}" if line.time else ""
        head = self._set.line(f"{line.sender} · {title}", width - px(32), "small-bold")
        pieces = list(head.pieces(px(16), px(8), "small-bold", f"name-{hue_of(line.sender)}", m.heights["small-bold"]))
        top = px(8) + m.heights["small-bold"]
        pieces += self._set.line(when, width - px(32), "tiny").pieces(px(16), top, "tiny", "quiet", m.heights["tiny"])
        top += m.heights["tiny"] + px(3)
        for each in self._set.rows(in_short(line, direct=True)[:300], width - px(32), "text")[:3]:
            pieces += each.pieces(px(16), top, "text", "text", m.heights["text"])
            top += m.heights["text"]
        pieces.append(Fill(px(16), top + px(9), width - px(32), px(1), "line"))
        return Block(f"line-{line.local_id}", top + px(12), pieces)

    def words(self, text: str, width: int, colour: str = "quiet", key: str = "words", style: str = "text") -> Block:
        """Return a few sentences."""
        px, high = self._m.px, self._m.heights[style]
        pieces: list[Piece] = []
        top = px(6)
        for each in self._set.rows(text, width - px(32), style):
            pieces += each.pieces(px(16), top, style, colour, high)
            top += high
        return Block(key, top + px(4), pieces, chosen=False)


class _Body:
    """What stands in a bubble, from 0,0; `wide` and `y` grow with it."""

    def __init__(self, setter: Setter, room: int, account: str) -> None:
        self._set, self._m, self._room, self._account = setter, setter.measure, room, account
        self.pieces: list[Piece] = []
        self.spots: list[Spot] = []
        self.wide = self.y = 0
        self._end = 0  # where the last line ends; 0: nothing may stand beside it

    def fill(self, line: Line, picture: Pixels | None, *, head: bool, whole: bool) -> None:
        """Put a message in."""
        px = self._m.px
        if head:
            self._name(line)
        if (answers := line.answers) is not None:
            who = beside(answers.sender, answers.trust)
            quoted = WHY_NO_QUOTE[answers.state] if answers.state else f"{who}: {answers.text}"
            row = self._set.line(quoted, self._room - px(14), "small")
            high = self._m.heights["small"]
            self.pieces.append(Fill(0, self.y + px(2), px(3), high + px(2), "accent"))
            self.pieces += row.pieces(px(12), self.y + px(3), "small", "quote", high)
            if answers.local_id:
                self.spots.append(Spot(0, self.y, row.width + px(12), high + px(6), f"jump {answers.local_id}"))
            self._grow(row.width + px(12), high + px(8))
        if line.deleted_by:
            self._text(f"deleted by {line.deleted_by}", "gone", "quiet")
        else:
            self._said(line, picture, whole=whole)
        if line.problem:
            self._text(line.problem, "small", "warning" if line.delivery == "not sent" else "quiet")
        if line.doubt:
            self._text(line.doubt, "small", "warning")
        self._foot(line)

    def _said(self, line: Line, picture: Pixels | None, *, whole: bool) -> None:
        text = f"{line.sender} {line.text}" if line.action else line.text
        if line.file is not None:
            self._file(line, line.file, picture)
            text = line.file.description
        if not text:
            return
        folded = len(text) > FOLDED and not whole
        self._text(f"{text[:FOLDED]}…" if folded else text, "action" if line.action else "text", "text")
        if folded:
            top = self.y
            self._text(f"Show all {len(text):,} characters", "small-bold", "link")
            self.spots.append(Spot(0, top, self.wide, self.y - top, f"unfold {line.local_id}"))

    def _name(self, line: Line) -> None:
        sign = TRUST[line.trust].sign
        high = self._m.heights["small-bold"]
        name = self._set.line(line.sender, self._room - self._m.width(f" {sign}", "small-bold"), "small-bold")
        self.pieces += name.pieces(0, self.y, "small-bold", f"name-{hue_of(line.sender)}", high)
        wide = name.width
        if sign:
            signed = "good" if line.trust == "verified" else "alarm" if line.trust in AGAINST else "warning"
            self.pieces.append(Text(wide + self._m.px(5), self.y, sign, "small-bold", signed))
            wide += self._m.px(5) + self._m.width(sign, "small-bold")
        self._grow(wide, high + self._m.px(2))

    def _text(self, text: str, style: str, colour: str) -> None:
        high = self._m.heights[style]
        rows = self._set.rows(text, self._room, style)
        widest = max(each.width for each in rows)
        for each in rows:
            x = max(0, widest - each.width) if each.from_right else 0
            self.pieces += self._marked(each, x, style, colour, high)
            self._grow(x + each.width, high)
        self._end = 0 if rows[-1].from_right else rows[-1].width

    def _marked(self, row: Set, x: int, style: str, colour: str, high: int) -> list[Piece]:
        """Return a line of a text, with our own name set off."""
        name = f"@{self._account}".lower()
        found: list[Piece] = []
        for piece in row.pieces(x, self.y, style, colour, high):
            at = piece.text.lower().find(name) if isinstance(piece, Text) and len(name) > 1 else -1
            if not isinstance(piece, Text) or at < 0 or len(piece.text.lower()) != len(piece.text):
                found.append(piece)
                continue
            begin, end = piece.x, at + len(name)
            parts = (piece.text[:at], colour), (piece.text[at:end], "new"), (piece.text[end:], colour)
            for text, its in parts:
                if text:
                    found.append(Text(begin, piece.y, text, style, its))
                    begin += self._m.width(text, style)
        return found

    def _file(self, line: Line, file: Shared, picture: Pixels | None) -> None:
        px, m = self._m.px, self._m
        number = line.local_id
        if file.disposition == "voice":
            self._voice(file, number)
            return
        if picture is not None:
            self.pieces.append(Picture(0, self.y + px(2), number))
            self.spots.append(Spot(0, self.y, picture.width, picture.height, f"save {number}"))
            self._grow(picture.width, picture.height + px(8))
        side = px(38)
        name = self._set.line(file.name, self._room - side - px(12), "text")
        told = self._set.line(what_it_is(file), self._room - side - px(12), "small")
        arrow = "↑" if line.own else "↓"
        wide = side + px(12) + max(name.width, told.width)
        ground = "own" if line.own else "bubble"
        top = self.y + px(3)
        self.pieces += [
            Fill(0, top, side, side, "badge", px(10), "named" if line.mentioned else ground),
            Text((side - m.width(arrow, "letter")) // 2, top + (side - m.heights["letter"]) // 2, arrow, "letter",
                 "on-badge"),
        ]  # fmt: skip
        self.pieces += name.pieces(side + px(12), self.y + px(2), "text", "text", m.heights["text"])
        self.pieces += told.pieces(side + px(12), self.y + px(22), "small", "quiet", m.heights["small"])
        if not line.own:
            self.spots.append(Spot(0, self.y, wide, side + px(6), f"save {number}"))
        self._grow(wide, side + px(6))
        self._end = wide

    def _voice(self, file: Shared, number: int) -> None:
        px, m = self._m.px, self._m
        side, bars = px(34), file.waveform or bytes(48)
        # What is left of the room is for the length and, where there is more of it, for the time.
        count = max(8, min(len(bars), (self._room - side - px(150)) // px(5)))
        minutes, seconds = divmod(file.milliseconds // 1000, 60)
        length = f"{minutes}:{seconds:02}" if file.milliseconds else "voice note"
        self.pieces += [
            Fill(0, self.y + px(2), side, side, "badge", side // 2, "bubble"),
            Text(px(12), self.y + px(2) + (side - m.heights["small"]) // 2, "▶", "small", "on-badge"),
        ]
        for place in range(count):
            start = place * len(bars) // count
            end = max((place + 1) * len(bars) // count, start + 1)
            tall = px(3) + max(bars[start:end]) * px(25) // 255
            x = side + px(12) + place * px(5)
            self.pieces.append(Fill(x, self.y + px(2) + (side - tall) // 2, px(3), tall, "accent"))
        wide = side + px(12) + count * px(5) + px(6)
        self.pieces.append(Text(wide, self.y + px(2) + (side - m.heights["small"]) // 2, length, "small", "quiet"))
        self.spots.append(Spot(0, self.y, wide, side + px(4), f"play {number}"))
        wide += m.width(length, "small")
        self._grow(wide, side + px(6))
        self._end = wide

    def _foot(self, line: Line) -> None:
        """Put the time and what became of it at the bottom right, beside the last line of text where it fits."""
        m, px = self._m, self._m.px
        parts: list[tuple[str, str]] = []
        if line.edited and not line.deleted_by:
            parts.append(("(edited)", "quiet"))
        if line.written:
            parts.append((f"written {local_time(line.written):%d %b, %H:%M}", "quiet"))
        if line.time:
            parts.append((f"{local_time(line.time):%H:%M}", "quiet"))
        if line.own and not line.deleted_by:
            parts.append(_fate(line))
        words = [(text, colour, m.width(text, "tiny")) for text, colour in parts if text]
        if not words:
            return
        wide = sum(each[2] for each in words) + px(6) * (len(words) - 1)
        beside_last = self._end and self._end + px(14) + wide <= self._room
        if beside_last:
            self.wide = max(self.wide, self._end + px(14) + wide)
            y = self.y - m.heights["tiny"] - px(1)
        else:
            y = self.y + px(1)
            self._grow(wide, m.heights["tiny"] + px(1))
        x = self.wide - wide
        for text, colour, each in words:
            self.pieces.append(Text(x, y, text, "tiny", colour))
            x += each + px(6)

    def _grow(self, wide: int, tall: int) -> None:
        self.wide, self.y, self._end = max(self.wide, wide), self.y + tall, 0


def _fate(line: Line) -> tuple[str, str]:
    """Return what became of a line of our own, and the colour of it."""
    sign = _DELIVERY[line.delivery]
    if line.delivery == "not sent":
        return f"{sign} not sent", "alarm"
    if line.delivery == "waiting":
        return f"{sign} waiting", "warning"
    if line.recipients > 1 and line.delivery != "read" and (line.read or line.delivered):
        kind = "read" if line.read else "delivered"
        return f"✓✓ {kind} {line.read or line.delivered}/{line.recipients}", "quiet"
    return (f"{sign} {became_of(line)}", "good") if line.delivery == "read" else (sign, "quiet")


def _moved(pieces: Sequence[Piece], x: int, y: int) -> list[Piece]:
    return [each._replace(x=each.x + x, y=each.y + y) for each in pieces]
