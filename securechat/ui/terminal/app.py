"""Runs the full screen: one thread draws, takes keys and the mouse, and is fed by the core through a queue.

Whatever is shown is drawn from the view model, in `frames`. What its parts look like, and what keys do in them, is
theirs: `timeline`, `listing`, `pane`, `answers`, `about`, `bars`, `composer`. Here is what joins them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final

import click
from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.events import Key, Resize
from textual.screen import Screen
from textual.widgets import Static, TextArea

from securechat.clean import clean
from securechat.client.events import Ended, Event, PasswordWanted, Ready, SafetyNumber
from securechat.errors import SecurechatError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.leaving import left_in_order
from securechat.ui.ring import Ring
from securechat.ui.session.mail import Item, Leave, Mail
from securechat.ui.session.pictures import Pictures, Seen
from securechat.ui.session.screen import Session
from securechat.ui.session.sharing import paths_like
from securechat.ui.session.verbs import VERBS
from securechat.ui.session.voice import Decoded
from securechat.ui.terminal.about import About
from securechat.ui.terminal.answers import Answers
from securechat.ui.terminal.asking import ask, ask_to_change
from securechat.ui.terminal.bars import Bar, above, below
from securechat.ui.terminal.blocks import Blocks
from securechat.ui.terminal.composer import Composer
from securechat.ui.terminal.driver import TerminalDriver, has_lost_its_terminal
from securechat.ui.terminal.everything import Everything
from securechat.ui.terminal.frames import Frames
from securechat.ui.terminal.keys import KEYS
from securechat.ui.terminal.listing import ListView
from securechat.ui.terminal.pane import Pane
from securechat.ui.terminal.themes import LOOKS, THEMES
from securechat.ui.terminal.timeline import TimelineView
from securechat.ui.text.states import NOBODY_HEARS, NOBODY_YET
from securechat.ui.text.wording import Sentence
from securechat.ui.view.completion import Candidate, complete
from securechat.ui.view.lines import brief, sentence_line
from securechat.ui.view.rows import Line, Notice, Row

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

LOOK_SECONDS: Final = 1.0
"""How often it is looked who types, and whether the terminal is there: nobody tells that either has ended."""

TOLD_SECONDS: Final = 2.0
"""How often those who may know are told that we type."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye; then we leave without it."""

NARROW, MEDIUM, LOW = 64, 104, 16
"""Columns below which one thing is shown at a time, or less beside each other; rows below which there is no air."""

_NOWHERE: Final[dict[str, tuple[Row, ...]]] = {
    text: (Notice(0, "notice", text),) for text in (NOBODY_YET, NOBODY_HEARS)
}
"""The row of who is in no conversation, by what it says: made once, for what is drawn is compared by identity."""


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
        super().__init__(driver_class=TerminalDriver)
        self.client, self.mail = client, mail
        self.session = Session(client, self.answer, first=first, ring=Ring(self._ring), later=mail.put)
        self.pictures = Pictures(mail.put)
        self.frames = Frames(mail, self._take, self._draw, self._soon, self._later)
        for each in THEMES.values():
            self.register_theme(each)
        self.theme = theme
        if keys:
            self.set_keymap(keys)
        self._said = said
        self._told = -TOLD_SECONDS
        self._delete = 0  # the line that goes if it is asked for once more
        self.failure: Exception | None = None
        """What has ended it that should not have happened."""
        self.last_words: list[Sentence] = []
        """What was said when it ended."""

    # --- what is there

    def compose(self) -> ComposeResult:
        """Make what is shown."""
        self.list, self.title_bar, self.status = ListView(id="list"), Bar(id="title"), Bar(id="status")
        self.timeline = TimelineView(self.client.account, self._picture, id="timeline")
        self.answers, self.about = Answers(self._said, id="answers"), About(id="about")
        self.pane = Pane(self.session, id="pane")
        self.offered, self.composer = Static(id="offered", markup=False), Composer(self._complete, id="composer")
        with Horizontal(id="body"):
            with Vertical(id="side"):
                yield Static(Text(f"securechat  {self.client.account}", no_wrap=True), id="who", markup=False)
                yield self.list
            with Vertical(id="main"):
                yield from (self.title_bar, self.timeline, self.answers, self.about, self.offered, self.composer)
            yield self.pane
        yield self.status

    @property
    def base(self) -> Screen[Any]:
        """The screen itself, whatever is above it."""
        return self.screen_stack[0]

    def on_mount(self) -> None:
        """Begin the session."""
        self.mail.wake = self.frames.wake
        self.session.begin()
        self.composer.focus()
        self.set_interval(LOOK_SECONDS, self._look)
        self.redraw()
        self.client.start()

    def _complete(self, typed: str) -> tuple[Candidate, ...]:
        return complete(typed, VERBS.values(), self.session.listing.names, paths_like)

    def _picture(self, line: Line) -> Any:
        shared = line.file
        return self.pictures.of(line.local_id, shared.thumbnail) if shared is not None and shared.thumbnail else None

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

    def _soon(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(act)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_later(seconds, self.call_later, act)

    def _take(self, item: Item) -> None:
        match item:
            case Decoded():
                self.session.heard(item)
            case Seen():
                self.pictures.take(item)
                self.timeline.show_again(item.local_id)
            case Leave():
                self.leave()
            case Ended():
                before = len(self.answers.said)
                self.session.event(item)
                self.last_words = self.answers.said[before:]
                self.exit(self.session.exit_code)
            case Event():
                self.session.event(item)
                if isinstance(item, SafetyNumber):
                    self.show_pane("number")
                elif isinstance(item, PasswordWanted):
                    self.bell()
                elif isinstance(item, Ready) and self.pane.kind == "members":
                    self.show_pane("members")

    def leave(self) -> None:
        """Say goodbye, and end."""
        self.session.quit()
        self.set_timer(CLOSE_SECONDS, partial(self.exit, ExitCode.FAILURE))

    def answer(self, said: str | Sentence) -> None:
        """Show what a command says to who has typed it."""
        self.answers.say(said)

    # --- drawing

    def _draw(self) -> None:
        self.session.settle()
        self.redraw()

    def redraw(self) -> None:
        """Draw what has changed."""
        timeline, place, look = self.session.timeline, self.session.place, LOOKS[self.theme]
        if timeline is None:
            self.timeline.show(_NOWHERE[place.nowhere], b"", self.theme)
        else:
            self.timeline.show(timeline.rows, timeline.conversation.id, self.theme)
        items = [each for each in self.session.listing.items if each.state != "closed" or each.unread]
        self.list.show(items, place.id, self.theme)
        title = Text()
        if timeline is not None:
            now = timeline.conversation
            title = above(now, next((each for each in items if each.id == now.id), None), look)
        self.title_bar.say(title)
        self._draw_status()

    def _look(self) -> None:
        if has_lost_its_terminal(self._driver):
            self.mail.put(Leave())
        self._draw_status()

    def _draw_status(self) -> None:
        look, columns = LOOKS[self.theme], self.base.size.width - 4
        self.status.say(below(self.session.link.now, self.session.types, columns, look))

    def on_resize(self, event: Resize) -> None:
        """Fit what is shown into another size."""
        columns, rows = event.size
        self.base.set_class(columns < NARROW, "narrow")
        self.base.set_class(NARROW <= columns < MEDIUM, "medium")
        self.base.set_class(rows < LOW, "low")
        self.call_after_refresh(self.redraw)

    @on(Blocks.Sized)
    def _sized(self) -> None:
        self.redraw()

    @on(Blocks.Moved, "#timeline")
    def _moved(self, event: Blocks.Moved) -> None:
        timeline, blocks = self.session.timeline, event.blocks
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
        self.answers.forget()
        verb, line = self.about.end()
        if not verb:
            self.type(event.text)
        elif event.text.strip():
            self.session.about(line, f"{verb} 1 {event.text}")
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
                self.base.add_class("pane")
                self.pane.search(rest)
            case "/who", "":
                self.show_pane("members")
            case "/help", "":
                self.show_pane("help")
            case "/quit", "":
                self.leave()
            case "/unlock", "":
                ask(self, "Your password:", self.session.unlock)
            case "/delete-account", rest if rest:
                ask(self, "Your password, to delete the account:", partial(self.session.delete_account, rest))
            case "/password", "":
                differ = Sentence("warning", "These were not the same: the password stays as it is.")
                ask_to_change(self, self.session.change_password, partial(self.answer, differ))
            case _:
                self.session.line(text)

    @on(Composer.Offered)
    def _offered(self, event: Composer.Offered) -> None:
        self.offered.set_class(bool(event.candidates), "shown")
        look = LOOKS[self.theme]
        text = Text(no_wrap=True, overflow="ellipsis")
        for place, each in enumerate(event.candidates[:6]):
            text.append(("\n" if place else "") + each.text, look.text if not place else look.quiet)
            text.append(f"  {each.note}", look.quiet)
        self.offered.update(text)

    @on(Composer.Over)
    def _over(self) -> None:
        self.leave()

    @on(TextArea.Changed, "#composer")
    def _changed(self, event: TextArea.Changed) -> None:
        text = event.text_area.text
        if not text or monotonic() - self._told >= TOLD_SECONDS:
            self._told = monotonic() if text else -TOLD_SECONDS
            self.session.typing(text)

    # --- places

    def go(self, conversation: str) -> None:
        """Go to a conversation, by its name."""
        self.answers.forget()
        try:
            self.session.visit(conversation)
        except SecurechatError as error:
            self.answer(Sentence("warning", clean(str(error))))
        self.session.settle()
        self.base.remove_class("list")
        if self.pane.kind in ("members", "number"):
            self.hide_pane()
        self.about.end()
        self.redraw()
        self.composer.focus()

    @on(Blocks.Taken, "#list")
    def _taken(self, event: Blocks.Taken) -> None:
        self._go_to(bytes.fromhex(event.key))

    def _go_to(self, conversation: bytes) -> None:
        found = self.client.conversation(conversation)
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
        if not self.session.reach(local_id):
            return
        self.redraw()
        self.base.remove_class("list")
        if self.base.has_class("narrow"):
            self.hide_pane()
        self.timeline.focus()
        self.timeline.choose(f"line-{local_id}", center=True)

    def _go_newest(self) -> None:
        timeline = self.session.timeline
        if timeline is not None and timeline.more_after:
            timeline.show_newest()
        self.redraw()
        self.timeline.show_end()

    def show_pane(self, kind: str) -> None:
        """Show something beside what was said."""
        self.base.add_class("pane")
        self.pane.show(kind)

    def hide_pane(self) -> None:
        """Show what was said alone."""
        self.pane.hide()
        self.base.remove_class("pane")
        self.composer.focus()

    # --- keys

    def action_do(self, name: str) -> None:
        """Do what a key is for."""
        match name:
            case "help" | "members" | "search":
                if self.pane.kind == name:
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
                    self._go_to(new.id)
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
        if self.pane.kind == "number":
            self.hide_pane()
        elif timeline is not None and timeline.conversation.kind == "direct":
            self.session.line(f"/safety {timeline.conversation.name}")
        else:
            self.show_pane("members")

    def _toggle_list(self) -> None:
        narrow = self.base.has_class("narrow")
        if narrow:
            shown = not self.base.has_class("list")
            self.base.set_class(shown, "list")
        else:
            shown = not self.list.has_focus
            self.base.set_class(not shown, "hidden")
        (self.list if shown else self.composer).focus()

    def _step(self, by: int) -> None:
        ids = [each.id for each in self.session.listing.items if each.state != "closed"]
        if ids:
            here = self.session.place.id
            place = ids.index(here) + by if here in ids else 0
            self._go_to(ids[place % len(ids)])

    def action_leave_it(self) -> None:
        """Close what is open, one after the other; then go between the line and the messages."""
        if self.about.verb:
            self.about.end()
            self.composer.write("")
        elif self.pane.has_focus_within:  # what one is in goes first
            self.hide_pane()
        elif self.answers.said:
            self.answers.close()
        elif self.pane.kind:
            self.hide_pane()
        elif self.base.has_class("list"):
            self.base.remove_class("list")
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

    def on_key(self, event: Key) -> None:
        """Put under a message what a digit stands for, where that is asked."""
        if emoji := self.about.quick(event.character):
            event.stop()
            _, local_id = self.about.end()
            self.session.about(local_id, f"/react 1 {emoji}")

    @on(TimelineView.Wanted)
    def _wanted(self, event: TimelineView.Wanted) -> None:
        """Do what a key does with a message."""
        line, key = event.line, event.key
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
                self.answers.forget()
                self.session.about(line.local_id, f"{verb} 1")
        self._delete = 0

    def _write_about(self, verb: str, line: Line, text: str) -> None:
        self.about.begin(verb, line)
        self.composer.write(text)
        if verb != "/react":
            self.composer.focus()

    @on(Blocks.Taken, "#timeline")
    def _taken_message(self, event: Blocks.Taken) -> None:
        self.timeline.focus()
        line = self.timeline.line(int(event.key.removeprefix("line-")))
        if line is not None:
            self.timeline.unfold(line)
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
