"""What the pane at the right shows: who is here, what was found, a safety number, and what one can do."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from securechat.clean import clean_line
from securechat.client.events import SafetyNumber
from securechat.errors import SecurechatError
from securechat.ui.text.trust import AGAINST, TRUST
from securechat.ui.text.wording import title
from securechat.ui.view.completion import Usage
from securechat.ui.view.query import query_of
from securechat.ui.view.rows import Person, line_of
from securechat.ui.window.drawing import Draw
from securechat.ui.window.keys import KEYS, ON_A_MESSAGE, WRITING
from securechat.ui.window.layout import Block, Fill, Measure, Piece, Text

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

TITLES: Final = {
    "members": "Who is here", "search": "Search", "number": "Safety number", "help": "Keys and commands",
}  # fmt: skip

FOUND: Final = 100
"""Messages that are found at once: the newest."""

CANNOT: Final = (
    "A window of Tk says nothing to screen readers, and shows emoji as pictures only where Pillow and a font of them "
    "are: `securechat web` can do both, and `securechat client --plain` is made for screen readers."
)


def members(draw: Draw, there: Sequence[Person], width: int) -> list[Block]:
    """Return who is here; Enter compares the safety number with them."""
    return [draw.person(each, width) for each in there]


def found(draw: Draw, client: "ChatClient", typed: str, width: int) -> list[Block]:
    """Return what was found, the newest first; Enter goes there."""
    if not typed.strip():
        return [draw.words('Words, "a phrase", from:bob in:#room has:file after:2026-11', width, style="small")]
    try:
        messages = client.search(query_of(typed, client.account), FOUND)
    except SecurechatError as error:
        return [draw.words(clean_line(str(error)), width, "warning")]
    blocks = [
        draw.found(title(client.conversation(each.conversation)), line_of(each, client.clean), width)
        for each in messages
    ]
    return blocks or [draw.words("Nothing was found.", width)]


def number(draw: Draw, measure: Measure, shown: SafetyNumber | None, account: str, width: int) -> list[Block]:
    """Return what to compare with somebody: digits, and the same as a QR code."""
    if shown is None:
        return []
    who = clean_line(shown.account)
    blocks = [draw.words(f"{account} and {who}", width, "text", "who", "bold")]
    for each in shown.keys:
        colour = "alarm" if each.trust in AGAINST else "good" if each.trust == "verified" else "quiet"
        stands = f"Key {each.key}: {TRUST[each.trust].words}"
        blocks.append(draw.words(stands, width, colour, f"key-{each.key}", "small"))
        blocks.append(_digits(measure, each.number.split(" "), width, each.key))
        blocks.append(_code(measure, each.number.replace(" ", ""), width, each.key))
    blocks.append(draw.words(f"If {who} sees the same digits, nobody sits between you.", width, "text", "same"))
    key = f" {shown.keys[0].key}" if len(shown.keys) > 1 else ""
    told = f"/verify {who}{key} notes that; /distrust {who}{key} refuses the key."
    blocks.append(draw.words(told, width, "quiet", "verbs", "small"))
    return blocks


def _digits(measure: Measure, groups: Sequence[str], width: int, key: str) -> Block:
    px, high, wide = measure.px, measure.heights["digits"], measure.width("00000", "digits")
    a_row = max(1, min(4, (width - px(32)) // (wide + px(14))))
    pieces = [
        Text(px(16) + place % a_row * (wide + px(14)), px(6) + place // a_row * (high + px(4)), each, "digits", "text")
        for place, each in enumerate(groups)
    ]
    return Block(f"digits-{key}", px(12) + -(-len(groups) // a_row) * (high + px(4)), pieces, chosen=False)


def _code(measure: Measure, digits: str, width: int, key: str) -> Block:
    """Return a QR code, dark on light whatever the theme is."""
    import segno  # only here

    code = segno.make(digits, error="l", micro=False)
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=3)]
    side = max(2, min(measure.px(5), (width - measure.px(32)) // len(rows)))
    left, top = measure.px(16), measure.px(8)
    pieces: list[Piece] = [Fill(left, top, side * len(rows), side * len(rows), "#ffffff")]
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            end = x
            while end < len(row) and row[end]:
                end += 1
            if end > x:
                pieces.append(Fill(left + x * side, top + y * side, (end - x) * side, side, "#111111"))
            x = end + 1
    return Block(f"code-{key}", side * len(rows) + measure.px(20), pieces, chosen=False)


def helped(draw: Draw, verbs: Iterable[Usage], width: int) -> list[Block]:
    """Return what keys do, what one can type, and what this window cannot do."""
    blocks: list[Block] = []

    def part(head: str, rows: Iterable[tuple[str, str]]) -> None:
        blocks.append(draw.words(head, width, "new", f"head-{head}", "bold"))
        for name, does in rows:
            blocks.append(draw.words(name, width, "text", f"name-{head}-{name}", "small-bold"))
            blocks.append(draw.words(does, width, "quiet", f"does-{head}-{name}", "small"))

    part("Keys", ((each.spoken, each.does) for each in KEYS.values()))
    part("Where one writes", WRITING)
    part("On a message", (("+" if name == "plus" else name, does) for name, does in ON_A_MESSAGE.items()))
    part("Commands", ((each.usage, each.help) for each in verbs))
    blocks.append(draw.words("What a window cannot", width, "new", "head-cannot", "bold"))
    blocks.append(draw.words(CANNOT, width, "quiet", "cannot", "small"))
    return blocks
