"""Runs the full screen: one thread draws, takes keys and the mouse, and is fed by the core through a queue.

Whatever is shown is drawn from the view model once that is quiet, some thirty times a second at most, so what comes in
in a rush costs the screen no more than one line does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final

import click
from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.css.query import NoMatches
from textual.events import Resize
from textual.widgets import Input, Static, TextArea

from securechat.clean import clean
from securechat.client.events import Ended, Event, PasswordWanted, Ready, SafetyNumber
from securechat.errors import SecurechatError, UsageError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.leaving import left_in_order
from securechat.ui.ring import Ring
from securechat.ui.session.mail import Leave, Mail
from securechat.ui.session.pictures import Pictures, Seen
from securechat.ui.session.screen import Session
from securechat.ui.session.sharing import paths_like
from securechat.ui.session.verbs import VERBS
from securechat.ui.session.voice import Decoded
from securechat.ui.terminal import panes
from securechat.ui.terminal.asking import Ask
from securechat.ui.terminal.blocks import Block, Blocks
from securechat.ui.terminal.composer import Composer
from securechat.ui.terminal.drawing import draw, draw_item
from securechat.ui.terminal.everything import Everything
from securechat.ui.terminal.keys import KEYS, ON_A_MESSAGE
from securechat.ui.terminal.themes import LOOKS, THEMES
from securechat.ui.text.states import NOBODY_HEARS, NOBODY_YET
from securechat.ui.text.trust import beside
from securechat.ui.text.wording import Sentence, people
from securechat.ui.view.completion import Candidate, complete
from securechat.ui.view.lines import CONTINUATION, brief, sentence_line
from securechat.ui.view.rows import Line, Notice, Row, key_of
from securechat.ui.view.shown import heads

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

FRAME_SECONDS: Final = 1 / 30
"""From one drawing to the next, at least."""

TAKE_SECONDS: Final = 0.02
"""How long what came in is taken before keys get their turn."""

LOOK_SECONDS: Final = 1.0
"""How often it is looked who types: nobody tells that somebody has stopped."""

TOLD_SECONDS: Final = 2.0
"""How often those who may know are told that we type."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye; then we leave without it."""

NARROW, MEDIUM, LOW = 64, 104, 16
"""Columns below which one thing is shown at a time, or less beside each other; rows below which there is no air."""

QUICK: Final = "👍❤😂😮😢🙏"
"""What a digit puts under a message."""

_NOWHERE: Final[dict[str, tuple[Row, ...]]] = {
    text: (Notice(0, "notice", text),) for text in (NOBODY_YET, NOBODY_HEARS)
}
"""The row of who is in no conversation, by what it says: made once, for what is drawn is compared by identity."""
_STATES: Final = {
    "ready": "●", "connected": "○", "connecting": "○", "waiting": "◔", "locked": "!", "lost": "✗", "over": "✗",
}  # fmt: skip


class FullScreen(App[ExitCode]):
    """The screen of one session."""

    CSS_PATH = "screen.tcss"
    TITLE = "securechat"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar = {Everything}
    COMMAND_PALETTE_BINDING = ""
    BINDINGS: ClassVar = [
        *(
            Binding(key.keys, f"do('{name}')", key.does, show=False, priority=True, id=name)
            for name, key in KEYS.items()
        ),
        Binding("escape", "leave_it", "Back", show=False),
        Binding("ctrl+c", "stay", "Copy", show=False),
    ]

    def __init__(
        self, client: "ChatClient", mail: Mail, *, first: str = "", theme: str = "dark",
        keys: Mapping[str, str] | None = None, said: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """`first`: a command that is done once we are in. `theme`: one of `THEMES`. `keys`: others than `KEYS`.

        `said`: what was told before, and stays until Esc.
        """
        super().__init__()
        self.client, self.mail = client, mail
        self.session = Session(client, self.answer, first=first, ring=Ring(self._ring), later=mail.put)
        self.pictures = Pictures(mail.put)
        for each in THEMES.values():
            self.register_theme(each)
        self.theme = theme
        if keys:
            self.set_keymap(keys)
        self.pane = ""
        """What the pane at the right shows; empty: it is hidden."""
        self.context: tuple[str, int] | None = None
        """A command, and the local id of the line, that what is written now is for."""
        self._cache: dict[str, tuple[Row, bool, Any, list[Any]]] = {}
        self._drawn: tuple[object, ...] = ()  # what the timeline was drawn of
        self._listed: tuple[object, ...] = ()  # what the list was drawn of
        self._due = False  # whether what came in will be taken
        self._told = -TOLD_SECONDS
        self._delete = 0  # the line that goes if it is asked for once more
        self._lasting = tuple(Sentence("warning", text) for text in said)  # answers that only Esc takes away
        self._answers: list[Sentence] = [*self._lasting]
        self.failure: Exception | None = None
        """What has ended it that should not have happened."""
        self.last_words: list[Sentence] = []
        """What was said when it ended."""

    # --- what is there

    def compose(self) -> ComposeResult:
        """Make what is shown."""
        with Horizontal(id="body"):
            with Vertical(id="side"):
                yield Static(id="who", markup=False)
                yield Blocks(id="list")
            with Vertical(id="main"):
                yield Static(id="title", markup=False)
                yield Blocks(id="timeline", follows=True)
                with VerticalScroll(id="answers", can_focus=False):
                    yield Static(id="answer", markup=False)
                yield Static(id="context", markup=False)
                yield Static(id="offers", markup=False)
                yield Composer(self._complete, id="composer")
            with Vertical(id="pane"):
                yield Static(id="pane-title", markup=False)
                yield Input(id="query", placeholder='words, "a phrase", from:bob in:#room has:file after:2026-11')
                yield Blocks(id="found")
                with VerticalScroll(id="words"):
                    yield Static(id="told", markup=False)
        yield Static(id="status", markup=False)

    def on_mount(self) -> None:
        """Begin the session."""
        self.mail.wake = self._wake
        self.session.begin()
        self.composer.focus()
        self.query_one("#who", Static).update(Text(f"securechat  {self.client.account}", no_wrap=True))
        self.set_interval(LOOK_SECONDS, self._draw_status)
        self.redraw()
        self._show_answers()
        self.client.start()

    @property
    def composer(self) -> Composer:
        """Where one writes."""
        return self.query_one("#composer", Composer)

    @property
    def timeline(self) -> Blocks:
        """What was said."""
        return self.query_one("#timeline", Blocks)

    @property
    def found(self) -> Blocks:
        """What the pane lists."""
        return self.query_one("#found", Blocks)

    def _complete(self, typed: str) -> tuple[Candidate, ...]:
        return complete(typed, VERBS.values(), self.session.listing.names, paths_like)

    def _ring(self, sequence: str) -> None:
        if self._driver is not None:
            self._driver.write(sequence)
            self._driver.flush()

    def _handle_exception(self, error: Exception) -> None:
        self.failure = self.failure or error
        super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """End; whoever runs it gets the error. What Textual would print has the texts and secrets of a crash in it."""
        self._close_messages_no_wait()

    # --- what comes in

    def _wake(self) -> None:
        """Have what came in taken. Any thread."""
        if not self._due and self._loop is not None:
            self._due = True
            try:
                self._loop.call_soon_threadsafe(self._take_soon)
            except RuntimeError:  # it has just ended
                self._due = False

    def _take_soon(self) -> None:
        self.call_later(self._take)

    def _take(self) -> None:
        """Take what came in, for a while, and draw what has come of it."""
        self._due = False
        until = monotonic() + TAKE_SECONDS
        while not self.mail.empty() and monotonic() < until:
            self._take_one(self.mail.get())
        self.session.settle()
        self.redraw()
        if not self.mail.empty() and not self._due:
            self._due = True
            self.set_timer(FRAME_SECONDS, self._take)

    def _take_one(self, item: object) -> None:
        match item:
            case Decoded():
                self.session.heard(item)
            case Seen():
                self.pictures.take(item)
            case Leave():
                self.leave()
            case Ended():
                before = len(self._answers)
                self.session.event(item)
                self.last_words = self._answers[before:]
                self.exit(self.session.exit_code)
            case Event():
                self.session.event(item)
                if isinstance(item, SafetyNumber):
                    self.show_pane("number")
                elif isinstance(item, PasswordWanted):
                    self.bell()
                elif isinstance(item, Ready) and self.pane == "members":
                    self.show_pane("members")

    def leave(self) -> None:
        """Say goodbye, and end."""
        self.session.quit()
        self.set_timer(CLOSE_SECONDS, partial(self.exit, ExitCode.FAILURE))

    # --- what is said to who types

    def answer(self, said: str | Sentence) -> None:
        """Show what a command says: a line as the line mode prints it, or a sentence."""
        if isinstance(said, str):
            kind: Any = "warning" if said.startswith("!!") else "notice"
            text = said[3:] if said.startswith(("-- ", "!! ")) else said
            said = Sentence(kind, text.replace(f"\n{CONTINUATION}", "\n"))
        self._answers.append(said)
        self.call_later(self._show_answers)

    def _show_answers(self) -> None:
        look = LOOKS[self.theme]
        styles = {"notice": look.text, "warning": look.warning, "alarm": look.alarm}
        text = Text("\n").join(Text(each.text, styles[each.kind]) for each in self._answers[-200:])
        self.query_one("#answer", Static).update(text)
        answers = self.query_one("#answers", VerticalScroll)
        answers.set_class(bool(self._answers), "shown")
        answers.scroll_home(animate=False)

    def forget_answers(self) -> None:
        """Show no more of what was answered."""
        if len(self._answers) > len(self._lasting):
            self._answers = [*self._lasting]
            self._show_answers()

    # --- drawing

    def redraw(self) -> None:
        """Draw what has changed."""
        with suppress(NoMatches):  # another screen is above this one, or it is on its way out
            self._draw_timeline()
            self._draw_list()
            self._draw_title()
            self._draw_status()

    def _draw_timeline(self) -> None:
        timeline, blocks = self.session.timeline, self.timeline
        rows = _NOWHERE[self.session.place.nowhere] if timeline is None else timeline.rows
        columns, look = blocks.columns, LOOKS[self.theme]
        here = b"" if timeline is None else timeline.conversation.id
        moved = not self._drawn or self._drawn[1:2] != (here,)
        pictures = tuple(map(self._picture, rows))
        drawn = (id(rows), here, columns, self.theme, *map(id, pictures))
        if drawn == self._drawn:
            return
        kept = self._cache if self._drawn[1:4] == drawn[1:4] else {}
        cache: dict[str, tuple[Row, bool, Any, list[Any]]] = {}
        shown: list[Block] = []
        before: Row | None = None
        for row, picture in zip(rows, pictures, strict=True):
            key, head = key_of(row), heads(row, before)
            have = kept.get(key)
            if have is None or have[1] != head or have[2] is not picture or (have[0] is not row and have[0] != row):
                strips = draw(row, columns, look, head=head, account=self.client.account, picture=picture)
                have = (row, head, picture, strips)
            cache[key] = have
            shown.append(Block(key, have[3], isinstance(row, Line)))
            before = row
        self._cache, self._drawn, self._rows = cache, drawn, rows
        blocks.put(shown, to_end=moved)
        if moved and any(each.key == "new" for each in shown):
            blocks.show_from("new")

    _rows: tuple[Row, ...] = ()

    def _picture(self, row: Row) -> Any:
        if isinstance(row, Line) and row.file is not None and row.file.thumbnail:
            return self.pictures.of(row.local_id, row.file.thumbnail)
        return None

    def _draw_list(self) -> None:
        items = tuple(each for each in self.session.listing.items if each.state != "closed" or each.unread)
        blocks = self.query_one("#list", Blocks)
        here = self.session.place.id
        listed = (items, here, blocks.columns, self.theme)
        if listed == self._listed:
            return
        moved = not self._listed or self._listed[1] != here
        self._listed = listed
        look = LOOKS[self.theme]
        drawn = (draw_item(each, blocks.columns, look, here=each.id == here) for each in items)
        blocks.put([Block(each.id.hex(), strips) for each, strips in zip(items, drawn, strict=True)])
        if moved or not blocks.has_focus:
            blocks.choose(here.hex())

    def _draw_title(self) -> None:
        timeline, look = self.session.timeline, LOOKS[self.theme]
        text = Text(no_wrap=True, overflow="ellipsis")
        if timeline is not None:
            now = timeline.conversation
            direct = now.kind == "direct"
            item = next((each for each in self.session.listing.items if each.id == now.id), None)
            name = now.name if item is None else item.title
            text.append(beside(name, item.trust) if item is not None and direct else name, look.text + Style(bold=True))
            told = [] if direct else [people(len(now.members))]
            if item is not None:
                told += filter(None, ("online" if item.online else "", item.unconfirmed, item.absent))
            if now.topic:
                told.append(" ".join(clean(now.topic).split()))
            text.append("   " + " · ".join(told), look.quiet)
        self.query_one("#title", Static).update(text)

    def _draw_status(self) -> None:
        look, link = LOOKS[self.theme], self.session.link.now
        well = link.state == "ready"
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{_STATES[link.state]} ", look.verified if well else look.warning)
        told = self.session.types
        text.append(told if well and told else link.text, look.quiet if well and not told else look.warning)
        hints = "F1 help   ^K go   ^F search   ^Q quit"
        room = self.size.width - 4 - text.cell_len - len(hints)
        if room > 2:
            text.append(" " * room + hints, look.quiet)
        with suppress(NoMatches):
            self.query_one("#status", Static).update(text)

    def on_resize(self, event: Resize) -> None:
        """Fit what is shown into another size."""
        columns, rows = event.size
        self.screen.set_class(columns < NARROW, "narrow")
        self.screen.set_class(NARROW <= columns < MEDIUM, "medium")
        self.screen.set_class(rows < LOW, "low")
        self.call_after_refresh(self.redraw)

    @on(Blocks.Sized)
    def _sized(self, event: Blocks.Sized) -> None:
        if event.blocks.id == "found" and self.pane:
            self.show_pane(self.pane, focus=False)
        self.redraw()

    @on(Blocks.Moved, "#timeline")
    def _moved(self) -> None:
        timeline, blocks = self.session.timeline, self.timeline
        if timeline is None:
            return
        height = blocks.scrollable_content_region.height
        if blocks.scroll_offset.y < height and timeline.more_before and timeline.show_older():
            self.redraw()
        elif timeline.more_after and blocks.virtual_size.height - blocks.scroll_offset.y < 2 * height:
            timeline.show_newer()
            self.redraw()

    def watch_theme(self, _: str) -> None:
        """Draw everything anew in other colours."""
        self.call_later(self.redraw)

    # --- what is written

    @on(Composer.Sent)
    def _sent(self, event: Composer.Sent) -> None:
        self.forget_answers()
        context, self.context = self.context, None
        self._draw_context()
        if context is not None:
            verb, line = context
            if event.text.strip():
                self.session.about(line, f"{verb} 1 {event.text}")
        else:
            self.type(event.text)
        self.session.settle()
        self.redraw()
        if not event.text.startswith("/"):
            if self.session.timeline is not None:
                self.session.timeline.see()
            self._go_newest()

    def type(self, text: str) -> None:
        """Do what was typed; what a full screen has a place for is shown there."""
        word, _, rest = text.strip().partition(" ")
        match word.lower(), rest.strip():
            case "/search", rest:
                self.show_pane("search")
                if rest:
                    self.query_one("#query", Input).value = rest
            case "/who", "":
                self.show_pane("members")
            case "/help", "":
                self.show_pane("help")
            case "/quit", "":
                self.leave()
            case "/unlock", "":
                self.push_screen(Ask("Your password:"), self._given(self.session.unlock))
            case "/delete-account", rest if rest:
                delete = partial(self.session.delete_account, rest)
                self.push_screen(Ask("Your password, to delete the account:"), self._given(delete))
            case "/password", "":
                self.push_screen(Ask("Your password until now:"), self._given(self._new_password))
            case _:
                self.session.line(text)

    def _given(self, take: Callable[[str], None]) -> Callable[[str | None], None]:
        """Return what takes an answer, if there is one."""
        return lambda said: take(said) if said else None

    def _new_password(self, old: str) -> None:
        def again(new: str) -> None:
            self.push_screen(Ask("The same again:"), self._given(lambda said: change(new, said)))

        def change(new: str, said: str) -> None:
            if new == said:
                self.session.change_password(old, new)
            else:
                self.answer(Sentence("warning", "These were not the same: the password stays as it is."))

        self.push_screen(Ask("New password:"), self._given(again))

    @on(Composer.Offered)
    def _offered(self, event: Composer.Offered) -> None:
        offers = self.query_one("#offers", Static)
        offers.set_class(bool(event.candidates), "shown")
        look = LOOKS[self.theme]
        text = Text(no_wrap=True, overflow="ellipsis")
        for place, each in enumerate(event.candidates[:6]):
            text.append(("\n" if place else "") + each.text, look.text if not place else look.quiet)
            text.append(f"  {each.note}", look.quiet)
        offers.update(text)

    @on(Composer.Over)
    def _over(self) -> None:
        self.leave()

    @on(TextArea.Changed, "#composer")
    def _changed(self, event: TextArea.Changed) -> None:
        text = event.text_area.text
        if not text or monotonic() - self._told >= TOLD_SECONDS:
            self._told = monotonic() if text else -TOLD_SECONDS
            self.session.typing(text)

    def _draw_context(self) -> None:
        shown = self.query_one("#context", Static)
        shown.set_class(self.context is not None, "shown")
        if self.context is not None:
            verb, local_id = self.context
            line = self._line(local_id)
            text = "" if line is None else brief(line.text or line.problem)
            whose = "" if line is None else line.sender
            quick = "  ".join(f"{place} {each}" for place, each in enumerate(QUICK, 1))
            shown.update(Text({
                "/reply": f"↳ {whose}: {text}", "/edit": f"Edit: {text}", "/react": f"{quick}   under {whose}: {text}",
            }[verb], no_wrap=True, overflow="ellipsis"))  # fmt: skip

    # --- places

    def go(self, conversation: str) -> None:
        """Go to a conversation, by its name."""
        self.forget_answers()
        try:
            self.session.visit(conversation)
        except SecurechatError as error:
            self.answer(Sentence("warning", clean(str(error))))
        self.session.settle()
        self.screen.remove_class("list")
        if self.pane in ("members", "number"):
            self.hide_pane()
        self.context = None
        self._draw_context()
        self.redraw()
        self.composer.focus()

    @on(Blocks.Taken, "#list")
    def _taken(self, event: Blocks.Taken) -> None:
        found = self.client.conversation(bytes.fromhex(event.key))
        if found is not None:
            self.go(found.name)

    @on(Blocks.Taken, "#found")
    def _taken_found(self, event: Blocks.Taken) -> None:
        kind, _, name = event.key.partition("-")
        if kind == "line":
            self.jump(int(name))
        elif kind == "person" and name != self.client.account:
            self.session.line(f"/safety {name}")

    def jump(self, local_id: int) -> None:
        """Show a line among those around it, wherever it was said."""
        found = next(iter(self.client.around(local_id, 0)), None)
        where = None if found is None else self.client.conversation(found.conversation)
        if where is None:
            self.answer(Sentence("warning", "That message is not here any more."))
            return
        if where.name != self.session.place.name:
            self.session.place.turn_to(where.name)
            self.session.settle()
        timeline = self.session.timeline
        if timeline is None:
            return
        try:
            if self._line(local_id) is None:
                timeline.show(local_id)
        except UsageError as error:
            self.answer(Sentence("warning", str(error)))
            return
        self.redraw()
        self.screen.remove_class("list")
        if self.screen.has_class("narrow"):
            self.hide_pane()
        self.timeline.focus()
        self.timeline.choose(f"line-{local_id}", center=True)

    def _line(self, local_id: int) -> Line | None:
        timeline = self.session.timeline
        rows = () if timeline is None else timeline.rows
        return next((each for each in rows if isinstance(each, Line) and each.local_id == local_id), None)

    def _go_newest(self) -> None:
        timeline = self.session.timeline
        if timeline is not None and timeline.more_after:
            timeline.show_newest()
        self.redraw()
        self.timeline.show_end()

    # --- the pane

    def show_pane(self, kind: str, *, focus: bool = True) -> None:
        """Show something beside what was said."""
        self.pane = kind
        self.screen.add_class("pane")
        self.query_one("#pane").add_class("shown")
        blocks, words = self.found, self.query_one("#words")
        lists = kind in ("members", "search")
        self.query_one("#query").set_class(kind == "search", "shown")
        blocks.set_class(lists, "shown")
        words.set_class(not lists, "shown")
        look, columns = LOOKS[self.theme], blocks.columns
        self.query_one("#pane-title", Static).update(Text(panes.TITLES[kind]))
        told = self.query_one("#told", Static)
        match kind:
            case "members":
                timeline = self.session.timeline
                blocks.put(panes.members(() if timeline is None else timeline.people, columns, look))
            case "search":
                self._search(self.query_one("#query", Input).value)
            case "number":
                told.update(panes.number(self.session.number, self.client.account, look))
            case "help":
                told.update(panes.helped(VERBS.values(), KEYS, ON_A_MESSAGE, look))
        if focus:
            self.call_after_refresh(self._focus_pane)

    def _focus_pane(self) -> None:
        target = {"search": "#query", "members": "#found"}.get(self.pane, "#words")
        if self.pane:
            self.query_one(target).focus()

    def hide_pane(self) -> None:
        """Show what was said alone."""
        self.pane = ""
        self.screen.remove_class("pane")
        self.query_one("#pane").remove_class("shown")
        self.composer.focus()

    @on(Input.Changed, "#query")
    def _searched(self, event: Input.Changed) -> None:
        if self.pane == "search":
            self._search(event.value)

    @on(Input.Submitted, "#query")
    def _searched_all(self) -> None:
        self.found.focus()
        self.found.action_ends(0)

    def _search(self, typed: str) -> None:
        blocks = self.found
        blocks.put(panes.found(self.client, typed, blocks.columns, LOOKS[self.theme]))

    # --- keys

    def action_do(self, name: str) -> None:
        """Do what a key is for."""
        match name:
            case "help" | "members" | "search":
                if self.pane == name:
                    self.hide_pane()
                else:
                    self.show_pane(name)
            case "number":
                self._compare()
            case "list":
                self._toggle_list()
            case "theme":
                names = list(THEMES)
                self.theme = names[(names.index(self.theme) + 1) % len(names)]
            case "palette":
                self.action_command_palette()
            case "next" | "previous":
                self._step(1 if name == "next" else -1)
            case "unread":
                new = next((each for each in self.session.listing.items if each.unread), None)
                if new is not None:
                    self._taken(Blocks.Taken(self.timeline, new.id.hex()))
            case "older" | "newer":
                step = self.timeline.scrollable_content_region.height - 2
                self.timeline.scroll_relative(y=-step if name == "older" else step, animate=False)
            case "newest":
                self._go_newest()
            case "quit":
                self.leave()

    def _compare(self) -> None:
        """Show the safety number with whom one talks, or who is there to compare it with."""
        timeline = self.session.timeline
        if self.pane == "number":
            self.hide_pane()
        elif timeline is not None and timeline.conversation.kind == "direct":
            self.session.line(f"/safety {timeline.conversation.name}")
        else:
            self.show_pane("members")

    def _toggle_list(self) -> None:
        narrow = self.screen.has_class("narrow")
        if narrow:
            shown = not self.screen.has_class("list")
            self.screen.set_class(shown, "list")
        else:
            shown = not self.query_one("#list").has_focus
            self.screen.set_class(not shown, "hidden")
        (self.query_one("#list") if shown else self.composer).focus()

    def _step(self, by: int) -> None:
        items = [each for each in self.session.listing.items if each.state != "closed"]
        if items:
            ids = [each.id for each in items]
            here = self.session.place.id
            place = ids.index(here) + by if here in ids else 0
            self._taken(Blocks.Taken(self.timeline, ids[place % len(ids)].hex()))

    def action_leave_it(self) -> None:
        """Close what is open, one after the other; then go between the line and the messages."""
        if self.context is not None:
            self.context = None
            self._draw_context()
            self.composer.write("")
        elif self.pane and self.query_one("#pane").has_focus_within:  # what one is in goes first
            self.hide_pane()
        elif self._answers:
            self._answers, self._lasting = [], ()
            self._show_answers()
        elif self.pane:
            self.hide_pane()
        elif self.screen.has_class("list"):
            self.screen.remove_class("list")
            self.composer.focus()
        elif self.composer.has_focus:
            self.timeline.focus()
            if not self.timeline.chosen:
                self.timeline.action_ends(-1)
        else:
            self.composer.focus()

    def action_stay(self) -> None:
        """Say how to leave."""
        self.answer(Sentence("notice", "To leave, press Ctrl-Q, or type /quit."))

    def on_key(self, event: Any) -> None:
        """Keys on a message that is chosen, and digits for what goes under one."""
        if self.context is not None and self.context[0] == "/react" and event.character in tuple("123456"):
            event.stop()
            self._put_under(QUICK[int(event.character) - 1])
            return
        blocks = self.timeline
        if not (blocks.has_focus and blocks.chosen.startswith("line-") and event.character in ON_A_MESSAGE):
            return
        event.stop()
        local_id = int(blocks.chosen.removeprefix("line-"))
        line = self._line(local_id)
        if line is not None:
            self.on_message(line, event.character)

    def on_message(self, line: Line, key: str) -> None:
        """Do what a key does with a message."""
        match key:
            case "r":
                self._write_about("/reply", line, "")
            case "e":
                self._write_about("/edit", line, line.text)
            case "+":
                self._write_about("/react", line, "")
            case "d" if self._delete != line.local_id:
                self._delete = line.local_id
                self.answer(Sentence("warning", f"d once more deletes this for everybody: {brief(line.text)}"))
                return
            case "o" if line.answers is not None and line.answers.local_id:
                self.jump(line.answers.local_id)
            case _ if verb := {"d": "/delete", "p": "/play", "s": "/save", "u": "/unread"}.get(key):
                self.forget_answers()
                self.session.about(line.local_id, f"{verb} 1")
        self._delete = 0

    def _write_about(self, verb: str, line: Line, text: str) -> None:
        self.context = (verb, line.local_id)
        self._draw_context()
        self.composer.write(text)
        if verb != "/react":
            self.composer.focus()

    def _put_under(self, emoji: str) -> None:
        if self.context is not None:
            local_id, self.context = self.context[1], None
            self._draw_context()
            self.session.about(local_id, f"/react 1 {emoji}")

    @on(Blocks.Taken, "#timeline")
    def _taken_message(self, event: Blocks.Taken) -> None:
        self.timeline.focus()
        line = self._line(int(event.key.removeprefix("line-")))
        if line is not None and line.file is not None:
            self.answer(Sentence("notice", "p plays it." if line.file.disposition == "voice" else "s saves it."))

    def offers(self) -> Iterator[tuple[str, str, Callable[[], None]]]:
        """Yield what the palette offers, and what it does: conversations, then what keys do, then commands."""
        for each in self.session.listing.items:
            yield each.title, f"{each.unread:,} new" if each.unread else "", partial(self.go, each.title)
        for name, key in KEYS.items():
            if name != "palette":
                yield key.does.capitalize(), key.keys, partial(self.action_do, name)
        for verb in VERBS.values():
            yield verb.usage, verb.help, partial(self._begin, f"{verb.name} ")

    def _begin(self, text: str) -> None:
        self.composer.focus()
        self.composer.write(text)


def run_terminal(
    client: "ChatClient", mail: Mail, first: str = "", *, theme: str = "dark", keys: Mapping[str, str] | None = None,
    said: tuple[str, ...] = (),
) -> ExitCode:  # fmt: skip
    """Talk until the user or the core ends it. `client` is not started yet and tells its events to `mail`.

    Parameters as in `FullScreen`.
    """
    app = FullScreen(client, mail, first=first, theme=theme, keys=keys, said=said)
    with left_in_order(lambda: mail.put(Leave())):
        app.run()
    app.pictures.close()
    if app.failure is not None:
        raise app.failure
    for sentence in app.last_words:
        click.echo(sentence_line(sentence))
    return ExitCode.FAILURE if app.session.exit_code is None else app.session.exit_code
