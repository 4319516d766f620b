"""The viewer's screen as a pure function: a view in, rows of styled text out. No terminal here.

    title
    the network's records on a time axis
    moments:  time | history | network | server | people
    the onion of the chosen moment
    what the signs mean
    keys

It fits into 80 columns and 24 rows, and uses what there is beyond that.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from prompt_toolkit.utils import get_cwidth

from securechat.clean import clean_line
from securechat_lab.watching import words
from securechat_lab.watching.onion import SYMBOLS, Layer, onion
from securechat_lab.watching.story import Moment, Story

MIN_WIDTH, MIN_HEIGHT = 80, 24

Span = tuple[str, str]
"""A style, by its name in `terminal.STYLES`, and a text."""

Row = list[Span]

ONION_ROWS: Final = 8
"""A heading, six layers, and who can look at which."""

_KEYS: Final = "↑↓ choose  ←→ layer  ⏎ inside  space play  u until here  a all  q quit"
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_TIME, _SERVER, _PERSON = 8, 28, 20
"""Columns, in cells; of a person the least that is worth a column of its own."""

_WIDE: Final = 110
"""Cells from which on the network's column also says which connection it was."""


@dataclass(frozen=True)
class View:
    """What is looked at, and how."""

    story: Story
    width: int
    height: int
    chosen: int = 0
    """The index of a moment among those that are shown."""
    layer: int = 0
    """The index of a layer of its onion, from the inside."""
    inside: bool = False
    """Whether the fields of that layer are shown in place of the onion."""
    everything: bool = False
    """Whether also what concerns no message is shown."""
    until: bool = False
    """Whether what comes after the chosen moment is hidden."""
    playing: bool = False
    live: bool = False
    """Whether the recording may still grow."""

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """Those that can be chosen."""
        return tuple(each for each in self.story.moments if self.everything or each.main)

    @property
    def moment(self) -> Moment | None:
        """The chosen one."""
        return self.moments[min(self.chosen, len(self.moments) - 1)] if self.moments else None


def cut(text: str, width: int) -> str:
    """Return a text in exactly `width` cells: cut, or filled up with spaces. Wide characters take two cells."""
    if get_cwidth(text) <= width:
        return text + " " * (width - get_cwidth(text))
    if not width:
        return ""
    head = _head(text, width - 1)
    return head + "…" + " " * (width - 1 - get_cwidth(head))


def _head(text: str, width: int) -> str:
    """Return as much of the beginning of a text as has room in `width` cells."""
    used = 0
    for index, character in enumerate(text):
        used += get_cwidth(character)
        if used > width:
            return text[:index]
    return text


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` cells, at spaces where there are some."""
    lines, line = [], ""
    for word in text.split(" "):
        while get_cwidth(word) > width:
            head = _head(word, width) or word[:1]
            lines += [line, head] if line else [head]
            line, word = "", word[len(head) :]
        if line and get_cwidth(line) + 1 + get_cwidth(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def draw(view: View) -> list[Row]:
    """Return `view.height` rows of exactly `view.width` cells each."""
    if view.width < MIN_WIDTH or view.height < MIN_HEIGHT:
        told = f"This needs {MIN_WIDTH} columns and {MIN_HEIGHT} rows, and has {view.width} by {view.height}. q quits."
        rows = [[("", line)] for line in wrap(told, max(view.width, 1))]
        return [_fill(row, view.width) for row in (rows + [[] for _ in range(view.height)])[: view.height]]
    inside = min(max(view.height - MIN_HEIGHT - 3, 0), 9)  # rows for the fields of a layer, where they have room
    problems = [[("alarm", f" ! {_first(view.story.problems)}")]] if view.story.problems else []
    legend: list[Row] = [[("dim", f" {each}")] for each in (words.LEGEND, words.NUMBERS)]
    legend = legend[: 1 + view.height - MIN_HEIGHT]  # the smallest screen has room for one of them
    below = [_rule(view.width), *_lower(view, inside), *problems, *legend, [("dim", f" {_KEYS}")]]
    above = [_title(view), *_axis(view), *_header(view)]
    table = _table(view, view.height - len(above) - len(below))
    return [_fill(row, view.width) for row in above + table + below]


def _first(problems: tuple[str, ...]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return problems[0] + more


def _fill(row: Row, width: int) -> Row:
    """Cut a row, or fill it up, to the width of the screen."""
    filled: Row = []
    left = width
    for style, text in row:
        size = min(get_cwidth(text), left)
        filled.append((style, cut(text, size)))
        left -= size
    return [*filled, (row[-1][0] if row and row[-1][0] == "chosen" else "", " " * left)]


def _rule(width: int) -> Row:
    return [("dim", "─" * width)]


def _title(view: View) -> Row:
    state = "▶ playing" if view.playing else "● live" if view.live else ""
    moment = view.moment
    place = f"{min(view.chosen, len(view.moments) - 1) + 1} of {len(view.moments)}" if moment else "nothing yet"
    right = f"{state}  {place} "
    left = f" What each of them sees · {view.story.title or 'a scene'}"
    return [("title", cut(left, view.width - get_cwidth(right))), ("title", right)]


# ---- the time axis


def _axis(view: View) -> list[Row]:
    """What the network sees over time: bytes to the server, bytes from it, and where the chosen moment is."""
    width = view.width - 12
    end = view.story.end or 1.0
    until = view.moment.t if view.until and view.moment else end
    counts = {"up": [0] * width, "down": [0] * width}
    for record in view.story.records:
        if record.t <= until and record.way:
            counts[record.way][min(int(record.t / end * width), width - 1)] += record.len
    most = max(max(counts["up"]), max(counts["down"]), 1)
    rows: list[Row] = []
    for way, label in (("up", " ▤ to server"), ("down", " ▤ to people")):
        bars = "".join(_BLOCKS[_level(count, most)] for count in counts[way])
        rows.append([("network", cut(label, 12)), ("network", bars)])
    here = min(int(view.moment.t / end * width), width - 1) if view.moment else 0
    scale = list("─" * width)
    scale[here] = "▲"
    begin, last = "0 s", f"{end:.2f} s"
    line = "".join(scale)
    if here > len(begin) + 1:
        line = begin + line[len(begin) :]
    if here < width - len(last) - 1:
        line = line[: -len(last)] + last
    rows.append([("dim", cut("   time", 12)), ("dim", line)])
    return rows


def _level(count: int, most: int) -> int:
    """How high a bar is: as the root of its bytes, so that a short answer can be seen beside a stock of keys."""
    return 0 if not count else max(1, round((count / most) ** 0.5 * (len(_BLOCKS) - 1)))


# ---- the table


def _people_columns(view: View, history: int) -> tuple[list[str], int]:
    """Whose screens have a column of their own, and how wide it is; none: they share one."""
    room = view.width - 1 - _TIME - history - _network(view) - _SERVER
    people = list(view.story.people)
    if people and room // len(people) >= _PERSON:
        return people, room // len(people)
    return [], room


def _network(view: View) -> int:
    return 23 if view.width >= _WIDE else 16


def _history(view: View) -> int:
    return 2 * max((each.branches for each in view.moments), default=1) + 1


def _header(view: View) -> list[Row]:
    history = _history(view)
    people, width = _people_columns(view, history)
    names: Row = [("people", cut(f"☺ {clean_line(name)}", width)) for name in people]
    first: Row = [
        ("dim", cut(" time", 1 + _TIME + history)),
        ("network", cut("▤ Network", _network(view))),
        ("server", cut("▣ Server", _SERVER)),
        *(names or [("people", cut("☺ People", width))]),
    ]
    second: Row = [
        ("dim", cut(" s", 1 + _TIME + history)),
        ("dim", cut("connection, bytes" if view.width >= _WIDE else "bytes", _network(view))),
        ("dim", cut("place epoch who→where bytes", _SERVER)),
        ("dim", "the words" if not names else "the words, and only they"),
    ]
    return [first, second]


def _table(view: View, height: int) -> list[Row]:
    shown = view.moments[: view.chosen + 1] if view.until else view.moments
    start = max(0, min(view.chosen - height // 2, len(shown) - height))
    history = _history(view)
    people, width = _people_columns(view, history)
    rows = [
        _moment(view, moment, people, (history, width), chosen=start + index == min(view.chosen, len(shown) - 1))
        for index, moment in enumerate(shown[start : start + height])
    ]
    if not rows:
        rows = [[("dim", " Nothing was recorded yet." if view.live else " There is nothing in this recording.")]]
    return rows + [[] for _ in range(height - len(rows))]


def _moment(view: View, moment: Moment, people: list[str], widths: tuple[int, int], *, chosen: bool) -> Row:
    history, width = widths
    style = {name: "chosen" if chosen else name for name in ("", "dim", "network", "server", "people", "alarm")}
    cells: Row = [
        (style[""], "▶" if chosen else " "),
        (style["dim"], cut(f"{moment.t:7.3f} ", _TIME)),
        (style["alarm" if moment.branches > 1 or moment.refused or moment.kind == "alarm" else ""],
         cut(words.lanes(moment), history)),
        (style["network"], cut(words.network_sees(moment, numbered=view.width >= _WIDE), _network(view) - 1) + " "),
        (style["server"], cut(words.server_sees(moment, view.story), _SERVER - 1) + " "),
    ]  # fmt: skip
    if people:
        for name in people:
            mark, text = words.person_sees(moment, name)
            alarm = mark in ("!", "✗", "≠")
            cells.append((style["alarm" if alarm else "people"], cut(f"{mark} {text}".strip(), width - 1) + " "))
    else:
        cells.append(_shared(view, moment, width, style))
    return cells


def _shared(view: View, moment: Moment, width: int, style: dict[str, str]) -> Span:
    """What all people see, in one column: the words of the first, and who sees something else."""
    seen = [(name, *words.person_sees(moment, name)) for name in view.story.people]
    wrong = [f"{mark}{clean_line(name)}" for name, mark, _ in seen if mark in ("!", "✗", "≠")]
    text = next((text for _, mark, text in seen if mark in ("»", "‹")), "")
    said = f"{clean_line(moment.sender)}: {text}" if text else next((text for _, _, text in seen if text), "")
    return (style["alarm" if wrong else "people"], cut(" ".join([*wrong, said]), width))


# ---- the onion


def _lower(view: View, inside: int) -> list[Row]:
    moment = view.moment
    if moment is None:
        return [[] for _ in range(ONION_ROWS + inside)]
    layers = onion(moment)
    told = [
        [("alarm" if line[0] in "≠✗!" else "", f" {part}")]
        for line in words.everything_told(moment)
        for part in wrap(line, view.width - 2)
    ]
    heading: Row = [("title", cut(f" {words.heading(moment, view.story)}", view.width))]
    if layers and layers[0].seen == "people" and layers[0].name == "text":
        end = f": {layers[0].size} bytes become {layers[-1].size}"
        text = f" {words.heading(moment, view.story)}"
        heading = [("title", cut(text, min(get_cwidth(text), view.width - len(end)))), ("title", end)]
    chosen = min(view.layer, len(layers) - 1)
    rows: list[Row] = [heading]
    if view.inside and layers:
        rows += _inside(view, moment, layers[chosen])
    else:
        rows += [_layer(view, layer, layers[-1].size, chosen=index == chosen) for index, layer in enumerate(layers)]
        rows += _who(layers)
    if not layers:
        return ([heading, *told] + [[] for _ in range(ONION_ROWS + inside)])[: ONION_ROWS + inside]
    if told:  # what went wrong counts more than who could look at what
        rows = rows[: max(ONION_ROWS - len(told), 1)] + told if inside < len(told) + 1 else rows
    rows = (rows + [[] for _ in range(ONION_ROWS)])[:ONION_ROWS]
    if not inside:
        return rows
    more = told + ([[]] if told else []) + ([] if view.inside else _inside(view, moment, layers[chosen]))
    return rows + ([[], *more] + [[] for _ in range(inside)])[:inside]


def _layer(view: View, layer: Layer, largest: int, *, chosen: bool) -> Row:
    room = view.width - 2 - 24 - 9
    bar = max(1, round(min(layer.size / max(largest, 1), 1.0) * min(room // 3, 40)))
    drawn = cut("█" * bar, min(room // 3, 40) + 1)
    return [
        ("chosen" if chosen else "", "▸ " if chosen else "  "),
        (layer.seen, cut(f"{SYMBOLS[layer.seen]} {layer.name}", 24)),
        (layer.seen, f"{layer.size:>6} B  "),
        (layer.seen, drawn),
        ("dim", layer.adds),
    ]


def _who(layers: tuple[Layer, ...]) -> list[Row]:
    who = words.who_can_look(layers)
    return [[("", "  seen by "), *((seen, f"{SYMBOLS[seen]} {text}  ") for seen, text in who)]] if who else []


def _inside(view: View, moment: Moment, layer: Layer) -> list[Row]:
    """The fields of a layer, and what carried the moment besides."""
    rows: list[Row] = [[(layer.seen, f"  inside {SYMBOLS[layer.seen]} {layer.name}, {layer.size} bytes: {layer.adds}")]]
    if layer.name == "text":
        rows += [[("", f"    {line}")] for line in wrap(clean_line(moment.text), view.width - 5)]
    rows += [
        [("", cut(f"    {part.name}", 26)), ("dim", f"{part.size:>6} B  "), ("dim", part.hex)] for part in layer.parts
    ]
    lines = {"frame": moment.frames, "TLS record": moment.records}.get(layer.name.removesuffix("s"), ())
    if len(lines) > 1:
        rows.append([("dim", "    with what belongs to it:")])
    for line in lines if len(lines) > 1 else ():
        size = line.size if line.layer == "server" else line.len
        way = f"{clean_line(line.sender or 'a newcomer')} → {clean_line(line.to or 'a newcomer')}"
        rows.append([("", f"    {line.t:8.3f} s  {cut(clean_line(line.what), 14)} {size:>6} B  "), ("dim", way)])
    return rows


def plain(story: Story, width: int) -> list[str]:
    """All moments as lines of text, for a pipe or a file."""
    view = View(story, width, MIN_HEIGHT)
    history = _history(view)
    people, column = _people_columns(view, history)
    rows = [*_header(view), *(_moment(view, each, people, (history, column), chosen=False) for each in view.moments)]
    return ["".join(text for _, text in row).rstrip() for row in rows]
