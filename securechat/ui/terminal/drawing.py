"""Rows as lines of a screen: a row of the view model, and how wide there is room, in; styled lines out.

All text is clean. Nothing here reads markup, so what others write is drawn as it is, in the style of what it is.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size, split_graphemes
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from securechat.client.media.pictures import Pixels
from securechat.ui.terminal.themes import Look
from securechat.ui.text.states import BEGINS
from securechat.ui.text.trust import AGAINST, TRUST, beside
from securechat.ui.text.wording import names_of, size_of
from securechat.ui.view.lines import WHY_NO_QUOTE, became_of, brief, what_it_is, words_of
from securechat.ui.view.rows import Beginning, Day, Item, Line, Moving, New, Notice, Person, Row, local_time
from securechat.ui.view.shown import STATES, hue_of, in_short

BAR: Final = "▎"
"""Begins each line of what somebody said, in the colour of their name."""

MARGIN: Final = 3
"""Columns before what was said."""

MAX_ROWS: Final = 100
"""Lines of one text that are drawn before its reader asks for all of them: some screens. Each takes 20 µs and 1.5 KiB,
a text can have 32,768 of them, and a window a thousand texts."""

MORE: Final = "… there is more of it: choose it, and Enter shows all"
"""Stands below a text of which only the beginning is drawn."""

MAX_BARS: Final = 48
"""Of a voice note's waveform, which has as many parts."""

_LEVELS: Final = "▁▂▃▄▅▆▇█"

_DELIVERY: Final = {"waiting": "◌", "sent": "✓", "delivered": "✓✓", "read": "✓✓", "not sent": "✗", "received": ""}


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style


def wrapped(text: str, columns: int) -> Iterator[str]:
    """Yield a text in lines that fit, broken between words where that goes, and never within a character."""
    columns = max(columns, 2)
    for part in text.split("\n"):
        row, used = "", 0
        for word in words_of(part):
            width = cell_len(word)
            if used + width <= columns:
                row, used = row + word, used + width
                continue
            if used and cell_len(word.rstrip(" ")) <= columns - used:
                row += word.rstrip(" ")
                yield row
                row, used = "", 0
                continue
            if row:
                yield row.rstrip(" ")
                row, used = "", 0
            if width <= columns:
                row, used = word, width
                continue
            spans, _ = split_graphemes(word)
            for start, end, cells in spans:
                if used + cells > columns:
                    yield row
                    row, used = "", 0
                row, used = row + word[start:end], used + cells
        yield row.rstrip(" ") if row.strip(" ") else row


def beginning(text: str, columns: int) -> tuple[list[str], bool]:
    """Return the lines of a text that are drawn before all of it is asked for, and whether there are more."""
    most = MAX_ROWS * columns
    lines = list(islice(wrapped(text[:most], columns), MAX_ROWS + 1))
    return lines[:MAX_ROWS], len(lines) > MAX_ROWS or len(text) > most


def is_long(line: Line, columns: int) -> bool:
    """Whether only the beginning of a message is drawn before all of it is asked for."""
    return not line.deleted_by and beginning(_text(line), _room(columns))[1]


def strip_of(spans: Iterable[Span], columns: int) -> Strip:
    """Return a line of exactly so many columns."""
    return Strip([Segment(each.text, each.style) for each in spans]).adjust_cell_length(columns)


def name_style(sender: str, look: Look, *, own: bool) -> Style:
    """Return the colour of a name: the same one each time."""
    return look.own if own else look.names[hue_of(sender) % len(look.names)]


def draw(
    row: Row, columns: int, look: Look, *, head: bool = True, account: str = "", picture: Pixels | None = None,
    whole: bool = False,
) -> list[Strip]:  # fmt: skip
    """Return the lines of a row.

    `head`: with its sender's name. `account`: whose screen it is. `whole`: however long its text is.
    """
    match row:
        case Line():
            spans = _line(row, columns, look, account, picture, head=head, whole=whole)
        case Day(date=date):
            spans = [[], _rule(f"{date:%A}, {date.day} {date:%B %Y}", columns, look.quiet)]
        case New():
            spans = [[], _rule("new", columns, look.new)]
        case Notice():
            spans = _notice(row, columns, look)
        case Moving():
            spans = _moving(row, columns, look)
        case Beginning():
            spans = _notice(Notice(0, "notice", BEGINS), columns, look)
    return [strip_of(each, columns) for each in spans]


def _rule(text: str, columns: int, style: Style) -> list[Span]:
    room = max(0, columns - cell_len(text) - 2 * MARGIN - 2)
    side = "─" * (room // 2)
    return [Span(f"{' ' * MARGIN}{side} {text} {side}", style)]


def _notice(row: Notice, columns: int, look: Look) -> list[list[Span]]:
    style = {"notice": look.notice, "warning": look.warning, "alarm": look.alarm}[row.kind]
    lines = list(wrapped(row.text, columns - MARGIN - 3))
    sign = "·" if row.kind == "notice" else "!"
    margin = " " * MARGIN
    return [[], *([Span(f"{margin}{' ' if place else sign} {text}", style)] for place, text in enumerate(lines))]


def _moving(row: Moving, columns: int, look: Look) -> list[list[Span]]:
    share = row.done / row.size if row.size else 0.0
    arrow = "↑" if row.kind == "send" else "↓"
    bar = max(4, min(24, columns - MARGIN - 24))
    full = round(bar * min(1.0, share))
    told = f" {share:4.0%} of {size_of(row.size)}" if row.size else f" {row.stage}"
    name = next(wrapped(row.name, columns - MARGIN - 3), "")
    return [
        [],
        [Span(f"{' ' * MARGIN}{arrow} ", look.progress), Span(name, look.text)],
        [Span(" " * (MARGIN + 2) + "━" * full, look.progress), Span("─" * (bar - full) + told, look.quiet)],
    ]


def _line(
    line: Line, columns: int, look: Look, account: str, picture: Pixels | None, *, head: bool, whole: bool
) -> list[list[Span]]:
    style = name_style(line.sender, look, own=line.own)
    bar = [Span(f" {BAR}", look.new if line.mentioned else style + Style(bold=False)), Span(" ", look.text)]
    room = _room(columns)
    out: list[list[Span]] = []
    if head:
        out += [[], bar + _head(line, columns, look, style)]
    if line.answers is not None:
        answers = line.answers
        who = beside(answers.sender, answers.trust)
        quoted = WHY_NO_QUOTE[answers.state] if answers.state else f"{who}: {answers.text}"
        text = next(wrapped(" ".join(quoted.split()), room - 2), "")
        out.append([*bar, Span(f"↳ {text}", look.quote)])
    out += ([*bar, *spans] for spans in _body(line, room, look, account, picture, whole=whole))
    for each in _chips(line, room, look):
        out.append([*bar, *each])
    mark = _mark(line, look)
    if mark is not None:
        _at_right(out, mark, columns, bar)
    return out


def _head(line: Line, columns: int, look: Look, style: Style) -> list[Span]:
    spans = [Span(line.sender, style)]
    sign = "" if line.own else TRUST[line.trust].sign
    if sign:
        signed = look.verified if line.trust == "verified" else look.alarm if line.trust in AGAINST else look.warning
        spans.append(Span(f" {sign}", signed))
    clock = f"{local_time(line.time):%H:%M}" if line.time else ""
    if line.written:
        clock += f" (written {local_time(line.written):%d %b %H:%M})"
    if clock:
        spans.append(Span(f"  {clock}", look.quiet))
    if line.mentioned and columns > 40:
        spans.append(Span("  @you", look.new))
    return spans


def _room(columns: int) -> int:
    """Return the columns that a text has."""
    return columns - MARGIN - 2


def _text(line: Line) -> str:
    """Return what is said in a message, or of the file in it."""
    if line.file is not None:
        return line.file.description
    return f"{line.sender} {line.text}" if line.action else line.text


def _body(
    line: Line, room: int, look: Look, account: str, picture: Pixels | None, *, whole: bool
) -> Iterator[list[Span]]:
    remarks = [f"({each})" for each in ("edited" if line.edited and not line.deleted_by else "", line.doubt) if each]
    if line.deleted_by:
        yield [Span(next(wrapped(f"deleted by {line.deleted_by}", room), ""), look.gone)]
        return
    if line.file is not None:
        yield from _file(line, room, look, picture)
    said = look.text + Style(italic=True) if line.action else look.text
    text = _text(line)
    lines, more = (list(wrapped(text, room)), False) if whole else beginning(text, room)
    lines = lines if text else []
    for row in lines[:-1]:
        yield _said(row, said, look, account)
    last = _said(lines[-1], said, look, account) if lines else []
    if more:
        yield last
        last = []
        yield from ([Span(each, look.new)] for each in wrapped(MORE, room))
    for remark in remarks:
        if last and sum(cell_len(each.text) for each in last) + cell_len(remark) + 1 <= room:
            last.append(Span(f" {remark}", look.quiet))
        else:
            if last:
                yield last
                last = []
            yield from ([Span(each, look.quiet)] for each in wrapped(remark, room))
    if last:
        yield last
    if line.problem:
        style = look.warning if line.delivery == "not sent" else look.gone
        yield from ([Span(each, style)] for each in wrapped(line.problem, room))


def _said(row: str, style: Style, look: Look, account: str) -> list[Span]:
    """Return a line of a text, with our own name set off."""
    name, at = f"@{account}".lower(), -1
    if account:
        at = row.lower().find(name)
    if at < 0 or len(row.lower()) != len(row):
        return [Span(row, style)]
    end = at + len(name)
    return [Span(row[:at], style), Span(row[at:end], look.mention), Span(row[end:], style)]


def _file(line: Line, room: int, look: Look, picture: Pixels | None) -> Iterator[list[Span]]:
    file = line.file
    if file is None:
        return
    if picture is not None:
        yield from _pixels(picture, room)
    if file.disposition == "voice":
        minutes, seconds = divmod(file.milliseconds // 1000, 60)
        length = f"{minutes}:{seconds:02}" if file.milliseconds else "voice note"
        bars = bars_of(file.waveform, min(MAX_BARS, room - cell_len(length) - 5))
        yield [Span("▶ ", look.progress), Span(bars, look.progress), Span(f" {length}", look.quiet)]
        return
    sign = "▣" if file.disposition == "image" else "▤"
    name, told = f"{sign} {file.name}", f"  {what_it_is(file)}"
    if cell_len(name + told) <= room:
        yield [Span(name, look.progress), Span(told, look.quiet)]
    else:
        yield from ([Span(each, look.progress)] for each in wrapped(name, room))
        yield from ([Span(each, look.quiet)] for each in wrapped(told, room))


def bars_of(waveform: bytes, columns: int) -> str:
    """Return how loud a recording is, in so many columns at most; the loudest of what comes together counts."""
    columns = max(0, min(columns, len(waveform)))
    loud = (
        max(waveform[place * len(waveform) // columns : max((place + 1) * len(waveform) // columns, 1)] or b"\0")
        for place in range(columns)
    )
    return "".join(_LEVELS[each * len(_LEVELS) // 256] for each in loud)


def _pixels(picture: Pixels, room: int) -> Iterator[list[Span]]:
    """Yield a picture in half blocks: two pixels a character, one above the other."""
    columns = min(picture.width, room, 32)
    rows = max(1, picture.height * columns // picture.width // 2) * 2
    for top in range(0, rows, 2):
        spans = []
        for column in range(columns):
            over, under = (
                _colour(picture, column * picture.width // columns, row * picture.height // rows)
                for row in (top, top + 1)
            )
            spans.append(Span("▀", Style(color=over, bgcolor=under)))
        yield spans


def _colour(picture: Pixels, column: int, row: int) -> str:
    at = 3 * (row * picture.width + column)
    return "#" + picture.rgb[at : at + 3].hex()


def _chips(line: Line, room: int, look: Look) -> Iterator[list[Span]]:
    """Yield what was put under a message, in as many lines as it takes."""
    spans: list[Span] = []
    used = 0
    for each in line.reactions:
        who = f" {names_of(each.accounts)}" if len(each.accounts) < 3 else f" {len(each.accounts)}"
        chip = next(wrapped(f"{brief(each.text)}{who}", room - 3), "")
        width = cell_len(chip) + 3
        if used + width > room and spans:
            yield spans
            spans, used = [], 0
        spans += [Span(f" {chip} ", look.chip), Span(" ", look.quiet)]
        used += width
    if spans:
        yield spans


def _mark(line: Line, look: Look) -> Span | None:
    """Return what became of a line of our own."""
    if not line.own or line.deleted_by:
        return None
    sign = _DELIVERY[line.delivery]
    if line.delivery == "not sent":
        return Span(f"{sign} not sent", look.alarm)
    words = became_of(line)
    if line.delivery == "waiting":
        return Span(f"{sign} waiting", look.warning)
    if line.recipients > 1 and line.delivery != "read" and (line.read or line.delivered):
        counted = line.read or line.delivered
        kind = "read" if line.read else "delivered"
        return Span(f"✓✓ {kind} {counted}/{line.recipients}", look.quiet)
    return Span(f"{sign} {words}" if line.delivery == "read" else sign, look.verified if line.read else look.quiet)


def _at_right(out: list[list[Span]], mark: Span, columns: int, bar: list[Span]) -> None:
    """Put a mark at the right end of the last line, or of one below it."""
    used = sum(cell_len(each.text) for each in out[-1])
    width = cell_len(mark.text)
    if used + width + 2 > columns:
        out.append([*bar])
        used = MARGIN
    out[-1].append(Span(" " * max(1, columns - used - width - 1), mark.style))
    out[-1].append(mark)


# --- lists ------------------------------------------------------------------------------------------------------------


def draw_item(item: Item, columns: int, look: Look, *, here: bool) -> list[Strip]:
    """Return a conversation of the list: what it is and what is new there, and its newest line."""
    count = f" {'@' if item.mentioned else ''}{item.unread:,} " if item.unread else ""
    sign = TRUST[item.trust].sign
    short = "!" if item.trust in AGAINST else sign if cell_len(sign) == 1 else "?" if sign else ""
    signed = look.verified if item.trust == "verified" else look.alarm if item.trust in AGAINST else look.warning
    room = columns - 3 - cell_len(count) - (cell_len(short) + 1 if short else 0) - (2 if item.online else 0)
    loud = look.text + Style(bold=True) if item.unread or here else look.text
    title = [Span(" ", look.text), Span(cut(item.title, room), loud)]
    if short:
        title.append(Span(f" {short}", signed))
    if item.online:
        title.append(Span(" •", look.verified))
    used = sum(cell_len(each.text) for each in title)
    if count:
        title += [
            Span(" " * max(1, columns - 1 - used - cell_len(count)), look.text),
            Span(count, (look.mention if item.mentioned else look.text) + Style(bgcolor=look.chip.bgcolor, bold=True)),
        ]
    state = STATES.get(item.state, "")
    newest = "" if item.newest is None else in_short(item.newest, direct=item.kind == "direct")
    below = [Span(f" {cut(state or newest, columns - 2)}", look.warning if state else look.quiet)]
    return [strip_of(title, columns), strip_of(below, columns), strip_of([], columns)]


def draw_person(person: Person, columns: int, look: Look) -> list[Strip]:
    """Return a member: name, how their key stands, and what is to be known."""
    shown = TRUST[person.trust]
    style = name_style(person.account, look, own=person.own)
    name = [Span(" ", look.text), Span(cut(person.account + (" (you)" if person.own else ""), columns - 2), style)]
    if shown.sign == "✓":
        name.append(Span(" ✓", look.verified))
    words = shown.words if person.heard else f"listed; {shown.words}"
    words = "their device is gone" if person.absent else words
    if person.own:
        return [strip_of(name, columns), strip_of([], columns)]
    against = person.trust in AGAINST
    below = [Span(f" {cut(words, columns - 2)}", look.alarm if against else look.quiet)]
    return [strip_of(name, columns), strip_of(below, columns), strip_of([], columns)]


def draw_found(title: str, line: Line, columns: int, look: Look) -> list[Strip]:
    """Return a line that was found: where and when it was said, and the beginning of it."""
    when = f"{local_time(line.time):%d %b %Y %H:%M}" if line.time else ""
    name = Span(f" {line.sender}", name_style(line.sender, look, own=line.own))
    head = [name, Span(f"  {title}  {when}", look.quiet)]
    text = [Span(f" {cut(in_short(line, direct=True), columns - 2)}", look.text)]
    return [strip_of(each, columns) for each in (head, text, [])]


def cut(text: str, columns: int) -> str:
    """Return a text that fits, with an ellipsis where something is missing."""
    if cell_len(text) <= columns:
        return text
    return set_cell_size(text[: max(columns, 0) * 4], columns - 1).rstrip() + "…" if columns > 0 else ""
