"""What the pane at the right shows: who is here, what was found, a safety number, and what one can do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Static

from securechat.clean import clean_line
from securechat.client.events import SafetyNumber
from securechat.errors import SecurechatError
from securechat.ui.session.screen import Session
from securechat.ui.session.verbs import VERBS
from securechat.ui.terminal.blocks import Block, Blocks
from securechat.ui.terminal.drawing import Span, draw_found, draw_person, strip_of
from securechat.ui.terminal.keys import KEYS, ON_A_MESSAGE, Key
from securechat.ui.terminal.themes import LOOKS, Look
from securechat.ui.text.trust import TRUST
from securechat.ui.text.wording import title
from securechat.ui.view.completion import Usage
from securechat.ui.view.query import query_of
from securechat.ui.view.rows import Person, line_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

TITLES: Final = {
    "members": "Who is here", "search": "Search", "number": "Safety number", "help": "Keys and commands",
}  # fmt: skip

FOUND: Final = 100
"""Messages that are found at once: the newest."""


class Pane(Vertical):
    """Shows one of `TITLES`, or nothing and is hidden then."""

    def __init__(self, session: Session, *, id: str) -> None:  # noqa: A002  # Textual's name
        """`session`: whose people, messages and keys it shows."""
        super().__init__(id=id)
        self._session = session
        self.kind = ""
        """What it shows; empty: it is hidden."""

    def compose(self) -> ComposeResult:
        """Make what is shown."""
        yield Static(id="pane-title", markup=False)
        yield Input(id="query", placeholder='words, "a phrase", from:bob in:#room has:file after:2026-11')
        yield Blocks(id="found")
        with VerticalScroll(id="words"):
            yield Static(id="told", markup=False)

    @property
    def found(self) -> Blocks:
        """What it lists."""
        return self.query_one("#found", Blocks)

    def show(self, kind: str, *, focus: bool = True) -> None:
        """Show something, or the same again as it is now. `focus`: keys go there."""
        self.kind = kind
        self.add_class("shown")
        lists = kind in ("members", "search")
        self.query_one("#query").set_class(kind == "search", "shown")
        self.found.set_class(lists, "shown")
        self.query_one("#words").set_class(not lists, "shown")
        self.query_one("#pane-title", Static).update(Text(TITLES[kind]))
        look, told = LOOKS[self.app.theme], self.query_one("#told", Static)
        match kind:
            case "members":
                timeline = self._session.timeline
                self.found.put(members(() if timeline is None else timeline.people, self.found.columns, look))
            case "search":
                self._search()
            case "number":
                told.update(number(self._session.number, self._session.client.account, look))
            case "help":
                told.update(helped(VERBS.values(), KEYS, ON_A_MESSAGE, look))
        if focus:
            self.call_after_refresh(self._focus)

    def search(self, typed: str) -> None:
        """Show what a search finds, whose words may be typed there if there are none yet."""
        self.show("search")
        if typed:
            self.query_one("#query", Input).value = typed

    def hide(self) -> None:
        """Show nothing."""
        self.kind = ""
        self.remove_class("shown")

    def _focus(self) -> None:
        if self.kind:
            self.query_one({"search": "#query", "members": "#found"}.get(self.kind, "#words")).focus()

    @on(Blocks.Sized, "#found")
    def _sized(self) -> None:
        if self.kind:
            self.show(self.kind, focus=False)

    @on(Input.Changed, "#query")
    def _typed(self) -> None:
        if self.kind == "search":
            self._search()

    @on(Input.Submitted, "#query")
    def _entered(self) -> None:
        self.found.focus()
        self.found.action_ends(0)

    def _search(self) -> None:
        typed, look = self.query_one("#query", Input).value, LOOKS[self.app.theme]
        self.found.put(found(self._session.client, typed, self.found.columns, look))


def members(there: Sequence[Person], columns: int, look: Look) -> list[Block]:
    """Return who is here; Enter compares the safety number with them."""
    return [Block(f"person-{each.account}", draw_person(each, columns, look)) for each in there]


def found(client: "ChatClient", typed: str, columns: int, look: Look) -> list[Block]:
    """Return what was found, the newest first; Enter goes there."""
    if not typed.strip():
        return []
    try:
        messages = client.search(query_of(typed, client.account), FOUND)
    except SecurechatError as error:
        return [Block("why", [strip_of([Span(f" {clean_line(str(error))}", look.warning)], columns)], chosen=False)]
    blocks = [
        Block(
            f"line-{each.local_id}",
            draw_found(title(client.conversation(each.conversation)), line_of(each, client.clean), columns, look),
        )
        for each in messages
    ]
    nothing = Block("nothing", [strip_of([Span(" Nothing was found.", look.quiet)], columns)], chosen=False)
    return blocks or [nothing]


def number(shown: SafetyNumber | None, account: str, look: Look) -> Text:
    """Return what to compare with somebody: digits, and the same as a QR code."""
    text = Text()
    if shown is None:
        return text
    who = clean_line(shown.account)
    text.append(f"{account} and {who}\n\n", look.text)
    for each in shown.keys:
        text.append(f"key {each.key}: {TRUST[each.trust].words}\n", look.quiet)
        groups = each.number.split(" ")
        for row in range(0, len(groups), 4):
            text.append("  " + "  ".join(groups[row : row + 4]) + "\n", look.text)
        text.append("\n")
        text.append_text(qr(each.number.replace(" ", "")))
        text.append("\n\n")
    text.append(f"If {who} sees the same digits, nobody sits between you.\n", look.text)
    key = f" {shown.keys[0].key}" if len(shown.keys) > 1 else ""
    text.append(f"/verify {who}{key} notes that; /distrust {who}{key} refuses the key.", look.quiet)
    return text


def qr(digits: str) -> Text:
    """Return a QR code in half blocks, dark on light whatever the theme is."""
    import segno  # only here

    code = segno.make(digits, error="l", micro=False)
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=2)]
    text = Text(no_wrap=True)
    for top in range(0, len(rows), 2):
        under = rows[top + 1] if top + 1 < len(rows) else [False] * len(rows[top])
        for over, below in zip(rows[top], under, strict=True):
            colours = ["#111111" if each else "#ffffff" for each in (over, below)]
            text.append("▀", f"{colours[0]} on {colours[1]}")
        text.append("\n")
    return text


def helped(verbs: Iterable[Usage], keys: Mapping[str, Key], on_a_message: Mapping[str, str], look: Look) -> Text:
    """Return what keys do, and what one can type."""
    text = Text()

    def part(head: str, rows: Iterable[tuple[str, str]]) -> None:
        text.append(f"{head}\n", look.new)
        for name, does in rows:
            text.append(f"{name}\n", look.text)
            text.append(f"  {does}\n", look.quiet)
        text.append("\n")

    part("Keys", ((_spoken(each.keys), each.does) for each in keys.values()))
    part("Where one writes", (
        ("Enter", "send it; alone, say yes to what is asked"), ("Alt-Enter, Ctrl-J", "begin a new line"),
        ("Tab", "complete a command, a name or a path"), ("Up, Down", "what was written before"),
        ("Esc", "go to the messages, and back"),
    ))  # fmt: skip
    part("On a message", on_a_message.items())
    part("Commands", ((each.usage, each.help) for each in verbs))
    return text


def _spoken(keys: str) -> str:
    return ", ".join("-".join(part.capitalize() for part in each.split("+")) for each in keys.split(","))
