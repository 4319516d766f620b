"""Runs the window: one thread draws, takes keys and the mouse, and looks for what the core has told in a queue.

It looks some thirty times a second, takes what is there for a while, and draws once what has come of it: what comes in
in a rush costs no more than one line does. What was told before the loop begins, or while it ends, stays in the queue.
"""

import tkinter as tk
from contextlib import suppress
from functools import partial
from time import monotonic
from tkinter import ttk
from types import TracebackType
from typing import TYPE_CHECKING, Final

import sv_ttk

from securechat.clean import clean
from securechat.client.events import Ended, Event, PasswordWanted, Ready, SafetyNumber
from securechat.errors import SecurechatError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.leaving import left_in_order
from securechat.ui.session.about import QUICK
from securechat.ui.session.mail import Leave, Mail
from securechat.ui.session.pictures import Pictures, Seen
from securechat.ui.session.screen import Session
from securechat.ui.session.sharing import downloads, paths_like
from securechat.ui.session.verbs import VERBS
from securechat.ui.session.voice import Decoded
from securechat.ui.sharing import sharing
from securechat.ui.text.states import NOBODY_HEARS, NOBODY_YET
from securechat.ui.text.trust import AGAINST, TRUST
from securechat.ui.text.wording import Sentence, people
from securechat.ui.told import tell
from securechat.ui.view.completion import Candidate, complete
from securechat.ui.view.lines import CONTINUATION, brief
from securechat.ui.view.rows import Line, Notice, Row, key_of
from securechat.ui.view.shown import heads
from securechat.ui.window import files, pane
from securechat.ui.window.asking import ask_secret
from securechat.ui.window.column import Column, focused
from securechat.ui.window.composer import Composer
from securechat.ui.window.drawing import Draw
from securechat.ui.window.keys import KEYS, ON_A_MESSAGE
from securechat.ui.window.layout import Block, Piece, Setter, Text
from securechat.ui.window.looks import other
from securechat.ui.window.notices import Notices
from securechat.ui.window.painting import Paints

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from collections.abc import Callable, Sequence

    from securechat.client.core import ChatClient
    from securechat.client.media.pictures import Pixels

FRAME_MS: Final = 30
"""From one look at the queue to the next."""

TAKE_SECONDS: Final = 0.02
"""How long what came in is taken before keys get their turn."""

LOOK_MS: Final = 1000
"""How often it is looked who types: nobody tells that somebody has stopped."""

TOLD_SECONDS: Final = 2.0
"""How often those who may know are told that we type."""

CLOSE_MS: Final = 5000
"""How long the core may take to say goodbye; then we leave without it."""

NARROW: Final = 680
MEDIUM: Final = 1040
"""Pixels of width below which one thing is shown at a time, or the pane in place of the list."""

SIDE: Final = 300
PANE: Final = 340
"""Pixels of the list and of the pane."""

ANSWERS: Final = 220
"""Pixels of what is answered, at most."""

_NOWHERE: Final[dict[str, tuple[Row, ...]]] = {
    text: (Notice(0, "notice", text),) for text in (NOBODY_YET, NOBODY_HEARS)
}
"""The row of who is in no conversation, by what it says."""


class Window:
    """The window of one session. Call from Tk's thread."""

    def __init__(
        self, root: tk.Tk, client: "ChatClient", mail: Mail, *, first: str = "", theme: str = "dark"
    ) -> None:
        """`first`: a command that is done once we are in. `theme`: one of `PALETTES`."""
        self.root, self.client, self.mail = root, client, mail
        self.session = Session(client, self.answer, first=first, ring=Notices(root, self._mark), later=mail.put)
        self.pictures = Pictures(mail.put)
        self.paints = Paints(root, self._preview_of)
        self.paints.theme = theme
        self.setter = Setter(self.paints.letters, self.paints.emojis.has)
        self.draw = Draw(self.setter, client.account)
        self.pane = ""
        """What the pane at the right shows; empty: it is hidden."""
        self.context: tuple[str, int] | None = None
        """A command, and the local id of the line, that what is written now is for."""
        self.rows: tuple[Row, ...] = ()
        """What the timeline was drawn of."""
        self.failure: BaseException | None = None
        """What has ended it that should not have happened."""
        self.last_words: list[Sentence] = []
        """What was said when it ended."""
        self.taken = 0
        """How many things were taken from the queue."""
        self._cache: dict[str, tuple[Row, bool, object, Block]] = {}
        self._drawn: tuple[object, ...] = ()
        self._listed: tuple[object, ...] = ()
        self._unfolded: set[int] = set()  # lines of which all is shown, in the timeline that is shown
        self._told = -TOLD_SECONDS
        self._delete = 0  # the line that goes if it is asked for once more
        self._answers: list[Sentence] = []
        self._shows_list = False  # in a narrow window, in place of the conversation
        self._new = False  # something came while nobody looked
        self._width = 0
        self._ticks = ["", ""]  # what Tk calls soon
        root.report_callback_exception = self._failed
        root.protocol("WM_DELETE_WINDOW", self.leave)
        self._compose()
        self._bind()
        self._dress()

    # --- what is there

    def _compose(self) -> None:
        root, px = self.root, self.paints.letters.px
        root.title(f"securechat - {self.client.account}")
        root.minsize(px(380), px(360))
        root.geometry(f"{px(1120)}x{px(740)}")
        root.columnconfigure(1, weight=1)
        root.rowconfigure(0, weight=1)
        paint = self.paints

        self.side = tk.Frame(root, width=px(SIDE))
        self.side.grid(row=0, column=0, sticky="nsew")
        self.side.grid_propagate(flag=False)
        self.side.rowconfigure(1, weight=1)
        self.side.columnconfigure(0, weight=1)
        self.who = Column(self.side, paint, "side")
        self.who.configure(height=px(64), takefocus=0)
        self.who.grid(row=0, column=0, sticky="ew")
        self.list = Column(self.side, paint, "side")
        self.list.grid(row=1, column=0, sticky="nsew")

        self.edge = tk.Frame(root, width=1)
        self.edge.grid(row=0, column=0, sticky="nse")
        self.main = tk.Frame(root)
        self.main.grid(row=0, column=1, sticky="nsew")
        self.main.rowconfigure(1, weight=1)
        self.main.columnconfigure(0, weight=1)
        self._compose_head()
        self.timeline = Column(self.main, paint, "page", follows=True)
        self.timeline.grid(row=1, column=0, sticky="nsew")
        bar = ttk.Scrollbar(self.main, command=self.timeline.yview)
        bar.grid(row=1, column=1, sticky="ns")
        self.timeline.bar = bar
        self.answers = Column(self.main, paint, "base")
        self.about = Column(self.main, paint, "base")
        self.offers = Column(self.main, paint, "base")
        for row, each in enumerate((self.answers, self.about, self.offers), 2):
            each.grid(row=row, column=0, columnspan=2, sticky="ew")
            each.grid_remove()
        self._compose_foot()

        self.beside = tk.Frame(root, width=px(PANE))
        self.beside.grid(row=0, column=2, sticky="nsew")
        self.beside.grid_propagate(flag=False)
        self.beside.rowconfigure(2, weight=1)
        self.beside.columnconfigure(0, weight=1)
        self.pane_title = Column(self.beside, paint, "side")
        self.pane_title.configure(height=px(58), takefocus=0)
        self.pane_title.grid(row=0, column=0, sticky="ew", columnspan=2)
        self.query = ttk.Entry(self.beside)
        self.query.grid(row=1, column=0, columnspan=2, sticky="ew", padx=px(14), pady=(0, px(8)))
        self.found = Column(self.beside, paint, "side")
        self.found.grid(row=2, column=0, sticky="nsew")
        self.other_edge = tk.Frame(self.beside, width=1)
        self.other_edge.place(x=0, y=0, relheight=1)
        self.beside.grid_remove()

    def _compose_head(self) -> None:
        px = self.paints.letters.px
        self.head = tk.Frame(self.main)
        self.head.grid(row=0, column=0, columnspan=2, sticky="ew")
        self.head.columnconfigure(0, weight=1)
        self.title = Column(self.head, self.paints, "base")
        self.title.configure(height=px(64), takefocus=0)
        self.title.grid(row=0, column=0, sticky="ew")
        for column, (text, name) in enumerate((("Search", "search"), ("People", "members"), ("Verify", "number")), 1):
            button = ttk.Button(self.head, text=text, command=partial(self.do, name), takefocus=0)
            button.grid(row=0, column=column, padx=(0, px(8 if column < 3 else 16)))
        self.rule = tk.Frame(self.head, height=1)
        self.rule.grid(row=1, column=0, columnspan=4, sticky="ew")

    def _compose_foot(self) -> None:
        px = self.paints.letters.px
        self.foot = tk.Frame(self.main, padx=px(16), pady=px(10))
        self.foot.grid(row=5, column=0, columnspan=2, sticky="ew")
        self.foot.columnconfigure(1, weight=1)
        attach = ttk.Button(self.foot, text="+", width=2, command=self.attach, takefocus=0)
        attach.grid(row=0, column=0, sticky="s", padx=(0, px(10)))
        self.box = tk.Frame(self.foot, highlightthickness=1, padx=px(12), pady=px(7))
        self.box.grid(row=0, column=1, sticky="ew")
        self.box.columnconfigure(0, weight=1)
        self.composer = Composer(self.box, self._complete, self.paints.letters, self.paints.emoji)
        self.composer.grid(row=0, column=0, sticky="ew")
        send = ttk.Button(self.foot, text="Send", style="Accent.TButton", takefocus=0,
                          command=lambda: self.composer.event_generate("<Return>"))  # fmt: skip
        send.grid(row=0, column=2, sticky="s", padx=(px(10), 0))
        self.status = Column(self.main, self.paints, "base")
        self.status.configure(height=px(30), takefocus=0)
        self.status.grid(row=6, column=0, columnspan=2, sticky="ew")

    def _bind(self) -> None:
        for name, key in KEYS.items():
            for sequence in key.sequences:
                self.root.bind_class("Keys", sequence, partial(self._pressed, name))
        self.root.bind_class("Keys", "<Escape>", lambda _: self.step_back())
        for widget in (self.composer, self.timeline, self.list, self.query, self.found, self.answers):
            widget.bindtags(("Keys", *widget.bindtags()))
        for sequence in ON_A_MESSAGE:
            self.timeline.bind(f"<{sequence}>", lambda _, key=sequence: self.on_chosen(key))  # type: ignore[misc]
        for digit in range(1, len(QUICK) + 1):
            self.root.bind_class("Keys", f"<Key-{digit}>", lambda _, digit=digit: self._quick(digit))  # type: ignore[misc]
        self.composer.sent, self.composer.offered = self._sent, self._offered
        self.composer.changed = self._changed
        self.composer.bind("<Control-d>", lambda _: None if self.composer.text else self.leave())
        self.list.taken, self.found.taken = self._taken_item, self._taken_found
        self.timeline.taken, self.timeline.acted = self._taken_line, self.act
        self.timeline.moved = self._moved
        self.timeline.sized = self.list.sized = self.title.sized = self.redraw
        self.found.sized = lambda: self._fill_pane() if self.pane else None
        self.query.bind("<KeyRelease>", lambda _: self._search())
        self.query.bind("<Return>", lambda _: self._into_found())
        files.guard(self.query, self.paints.letters)
        self.root.bind("<Configure>", self._resized)
        self.root.bind("<FocusIn>", lambda _: self._looked())

    def _pressed(self, name: str, _: "tk.Event[tk.Misc]") -> str:
        self.do(name)
        return "break"

    def _dress(self) -> None:
        """Put the colours of the theme on."""
        sv_ttk.set_theme(self.paints.theme, self.root)
        colour = self.paints.colour
        style = ttk.Style(self.root)
        for name in (".", "TButton", "Accent.TButton", "TEntry"):
            style.configure(name, font=self.paints.letters.fonts["small"])
        self.root.configure(background=colour("base"))
        for frame, ground in (
            (self.side, "side"), (self.main, "base"), (self.beside, "side"), (self.head, "base"), (self.foot, "base"),
            (self.box, "bubble"), (self.edge, "line"), (self.other_edge, "line"), (self.rule, "line"),
        ):  # fmt: skip
            frame.configure(background=colour(ground))
        self.box.configure(highlightbackground=colour("line"), highlightcolor=colour("accent"))
        self.composer.configure(background=colour("bubble"), foreground=colour("text"), insertbackground=colour("text"),
                                selectbackground=colour("badge"), selectforeground=colour("on-badge"))  # fmt: skip
        px = self.paints.letters.px
        letters = self.paints.letters
        pieces: list[Piece] = [
            Text(px(20), px(14), "securechat", "title", "text"),
            Text(px(20), px(14) + letters.heights["title"], self.client.account, "small", "quiet"),
        ]
        self.who.put([Block("who", px(64), pieces, chosen=False)])
        self._drawn = self._listed = ()
        self._cache.clear()
        for column in (self.who, self.list, self.timeline, self.answers, self.about, self.offers, self.title,
                       self.status, self.found, self.pane_title):  # fmt: skip
            column.draw_soon()
        self.redraw()

    def begin(self) -> None:
        """Begin the session, and show it."""
        self.session.begin()
        self.redraw()
        self.root.deiconify()
        self.composer.focus_force()
        self._frame()
        self._look()
        self.client.start()

    def run(self) -> None:
        """Show it until it ends."""
        self.begin()
        try:
            while not self._over:
                try:
                    self.root.mainloop()
                    break
                except KeyboardInterrupt:
                    self.mail.put(Leave())
        finally:
            self.close()

    def close(self) -> None:
        """Show no more."""
        self._over = True
        self.pictures.close()
        with suppress(tk.TclError):  # it is gone
            for each in self._ticks:
                self.root.after_cancel(each)
            self.root.destroy()

    _over = False

    def _end(self) -> None:
        self._over = True
        files.end_dialog(self.root)
        self.root.quit()

    def _failed(self, _kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        """Take what Tk has caught: it would print it, and go on."""
        if isinstance(error, KeyboardInterrupt):
            self.mail.put(Leave())
            return
        self.failure = self.failure or error
        self._end()

    # --- what comes in

    def _frame(self) -> None:
        """Look for what came in, and look again soon."""
        if self._over:
            return
        self._ticks[0] = self.root.after(FRAME_MS, self._frame)
        self.take()

    def take(self) -> None:
        """Take what came in, for a while, and draw what has come of it."""
        if self.mail.empty():
            return
        until = monotonic() + TAKE_SECONDS
        while not self.mail.empty() and not self._over:
            self._take_one(self.mail.get())
            self.taken += 1
            if monotonic() >= until:
                break
        if not self._over:
            self.session.settle()
            self.redraw()

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
                self._end()
            case Event():
                self.session.event(item)
                if isinstance(item, SafetyNumber):
                    self.show_pane("number")
                elif isinstance(item, PasswordWanted):
                    self.root.bell()
                elif isinstance(item, Ready) and self.pane == "members":
                    self._fill_pane()

    def _look(self) -> None:
        if not self._over:
            self._ticks[1] = self.root.after(LOOK_MS, self._look)
            self._draw_status()

    def leave(self) -> None:
        """Say goodbye, and end."""
        self.session.quit()
        self.root.after(CLOSE_MS, self._end)

    # --- what is said to who types

    def answer(self, said: str | Sentence) -> None:
        """Show what a command says: a line as the line mode prints it, or a sentence."""
        if isinstance(said, str):
            text = said[3:] if said.startswith(("-- ", "!! ")) else said
            said = Sentence("warning" if said.startswith("!!") else "notice", text.replace(f"\n{CONTINUATION}", "\n"))
        self._answers = [*self._answers[-199:], said]
        if not self._over:
            self._show_answers()

    def _show_answers(self) -> None:
        if not self._answers:
            self.answers.grid_remove()
            return
        colours = {"notice": "text", "warning": "warning", "alarm": "alarm"}
        width = self.main.winfo_width()
        blocks = [
            self.draw.words(each.text, width, colours[each.kind], f"answer-{place}", "small")
            for place, each in enumerate(self._answers)
        ]
        self._show_strip(self.answers, blocks, ANSWERS)

    def _show_strip(self, column: Column, blocks: "Sequence[Block]", most: int) -> None:
        high = min(self.paints.letters.px(most), sum(each.height for each in blocks))
        column.configure(height=high)
        column.put(blocks)
        column.go(0)
        column.grid()

    def forget_answers(self) -> None:
        """Show no more of what was answered."""
        if self._answers:
            self._answers = []
            self._show_answers()

    # --- drawing

    def redraw(self) -> None:
        """Draw what has changed."""
        self._draw_timeline()
        self._draw_list()
        self._draw_title()
        self._draw_status()

    def _draw_timeline(self) -> None:
        timeline, column = self.session.timeline, self.timeline
        rows = _NOWHERE[self.session.place.nowhere] if timeline is None else timeline.rows
        width = column.room
        here = b"" if timeline is None else timeline.conversation.id
        moved = self._drawn[1:2] != (here,)
        if moved:
            self._unfolded.clear()
        pictures = tuple(map(self._picture, rows))
        drawn = (id(rows), here, width, *map(id, pictures))
        if drawn == self._drawn or width < 2:
            return
        kept = self._cache if self._drawn[1:3] == drawn[1:3] else {}
        cache: dict[str, tuple[Row, bool, object, Block]] = {}
        blocks: list[Block] = []
        before: Row | None = None
        for row, picture in zip(rows, pictures, strict=True):
            key, head = key_of(row), heads(row, before)
            have = kept.get(key)
            if have is None or have[1] != head or have[2] is not picture or (have[0] is not row and have[0] != row):
                whole = isinstance(row, Line) and row.local_id in self._unfolded
                have = (row, head, picture, self.draw.row(row, width, head=head, picture=picture, whole=whole))
            cache[key] = have
            blocks.append(have[3])
            before = row
        self._cache, self._drawn, self.rows = cache, drawn, rows
        column.put(blocks, to_end=moved)
        if moved and any(each.key == "new" for each in blocks):
            column.show_from("new")

    def _picture(self, row: Row) -> "Pixels | None":
        if isinstance(row, Line) and row.file is not None and row.file.thumbnail:
            return self.pictures.of(row.local_id, row.file.thumbnail)
        return None

    def _preview_of(self, local_id: int) -> "Pixels | None":
        line = self.line(local_id)
        return None if line is None else self._picture(line)

    def _draw_list(self) -> None:
        items = tuple(each for each in self.session.listing.items if each.state != "closed" or each.unread)
        here, width = self.session.place.id, self.list.room
        listed = (items, here, width)
        if listed == self._listed or width < 2:
            return
        moved = not self._listed or self._listed[1] != here
        self._listed = listed
        self.list.put([self.draw.item(each, width, here=each.id == here) for each in items])
        if moved:
            self.list.choose(here.hex())
        new = sum(each.unread for each in items if each.id != here)
        self.root.title(f"{f'({new:,}) ' if new else '* ' if self._new else ''}securechat - {self.client.account}")

    def _draw_title(self) -> None:
        timeline, px, m = self.session.timeline, self.paints.letters.px, self.paints.letters
        width, pieces = self.title.room, list[Piece]()
        if timeline is not None and width > px(60):
            now = timeline.conversation
            item = next((each for each in self.session.listing.items if each.id == now.id), None)
            direct = now.kind == "direct"
            sign = TRUST[item.trust].sign if item is not None and direct else ""
            name = self.setter.line(now.name if item is None else item.title,
                                    width - px(40) - m.width(f" {sign}", "bold"), "title")  # fmt: skip
            pieces += name.pieces(px(20), px(11), "title", "text", m.heights["title"])
            if item is not None and sign:
                signed = "good" if item.trust == "verified" else "alarm" if item.trust in AGAINST else "warning"
                pieces.append(Text(px(27) + name.width, px(14), sign, "bold", signed))
            told = [] if direct else [people(len(now.members))]
            if item is not None:
                words = TRUST[item.trust].words if direct else ""
                told += filter(None, ("online" if item.online else "", words, item.unconfirmed, item.absent))
            if now.topic:
                told.append(" ".join(clean(now.topic).split()))
            below = self.setter.line(" · ".join(told), width - px(40), "small")
            pieces += below.pieces(px(20), px(11) + m.heights["title"], "small", "quiet", m.heights["small"])
        self._put_one(self.title, pieces)

    def _draw_status(self) -> None:
        link, px, m = self.session.link.now, self.paints.letters.px, self.paints.letters
        well, told = link.state == "ready", self.session.types
        width = self.status.room
        hints = "F1 help   Ctrl-F search   Ctrl-O file   Ctrl-Q quit"
        room = width - px(52)
        shows_hints = room > m.width(hints, "tiny") + px(240)
        text = told if well and told else link.text
        row = self.setter.line(text, room - (m.width(hints, "tiny") if shows_hints else 0), "tiny")
        colour = "quiet" if well and not told else "accent" if well else "warning"
        sign = "●" if well else "○" if link.state in ("connecting", "connected") else "!"
        pieces: list[Piece] = [Text(px(18), px(4), sign, "tiny", "good" if well else "warning")]
        pieces += row.pieces(px(34), px(4), "tiny", colour, m.heights["tiny"])
        if shows_hints:
            pieces.append(Text(width - px(18) - m.width(hints, "tiny"), px(4), hints, "tiny", "quiet"))
        self._put_one(self.status, pieces)

    @staticmethod
    def _put_one(column: Column, pieces: "list[Piece]") -> None:
        """Show pieces in a column that does not scroll, if they are others than before."""
        if not column.blocks or list(column.blocks[0].pieces) != pieces:
            column.put([Block("one", column.height or 1, pieces, chosen=False)])

    def _resized(self, event: "tk.Event[tk.Misc]") -> None:
        if event.widget is self.root and event.width != self._width:
            self._width = event.width
            self._arrange()

    def _arrange(self) -> None:
        """Show beside each other what has room there."""
        px = self.paints.letters.px
        narrow, medium = self._width < px(NARROW), self._width < px(MEDIUM)
        has_list = not narrow or self._shows_list
        has_pane = bool(self.pane) and not (narrow and self._shows_list)
        has_main = not (narrow and (self._shows_list or has_pane)) and not (medium and has_pane and narrow)
        self.side.configure(width=self._width if narrow else px(SIDE))
        self.beside.configure(width=self._width if narrow else px(PANE if not medium else 300))
        for frame, shown in ((self.side, has_list and not (medium and has_pane)), (self.main, has_main),
                             (self.beside, has_pane)):  # fmt: skip
            frame.grid() if shown else frame.grid_remove()
        self.edge.grid() if has_list and not narrow else self.edge.grid_remove()
        self.root.columnconfigure(1, weight=1 if has_main else 0)
        if self._answers:
            self._show_answers()

    # --- what is written

    def _complete(self, typed: str) -> tuple[Candidate, ...]:
        return complete(typed, VERBS.values(), self.session.listing.names, paths_like)

    def _sent(self, text: str) -> None:
        self.forget_answers()
        context, self.context = self.context, None
        self._draw_context()
        if context is not None:
            verb, line = context
            if text.strip():
                self.session.about(line, f"{verb} 1 {text}")
        else:
            self.type(text)
        if self._over:
            return
        self.session.settle()
        self.redraw()
        if not text.startswith("/"):
            if self.session.timeline is not None:
                self.session.timeline.see()
            self.go_newest()

    def type(self, text: str) -> None:
        """Do what was typed; what a window has a place for is shown there."""
        word, _, rest = text.strip().partition(" ")
        match word.lower(), rest.strip():
            case "/search", rest:
                self.show_pane("search")
                if rest:
                    self.query.delete(0, "end")
                    self.query.insert(0, rest)
                    self._search()
            case "/who", "":
                self.show_pane("members")
            case "/help", "":
                self.show_pane("help")
            case "/quit", "":
                self.leave()
            case "/unlock", "":
                self.ask("Your password:", self.session.unlock)
            case "/delete-account", rest if rest:
                self.ask("Your password, to delete the account:", partial(self.session.delete_account, rest))
            case "/password", "":
                self.ask("Your password until now:", self._new_password)
            case _:
                self.session.line(text)

    def ask(self, question: str, take: "Callable[[str], object]") -> None:
        """Ask for a secret."""
        ask_secret(self.root, question, take, self.paints.colour("base"))

    def _new_password(self, old: str) -> None:
        def again(new: str) -> None:
            self.ask("The same again:", lambda said: change(new, said))

        def change(new: str, said: str) -> None:
            if new == said:
                self.session.change_password(old, new)
            else:
                self.answer(Sentence("warning", "These were not the same: the password stays as it is."))

        self.ask("New password:", again)

    def _offered(self, candidates: "Sequence[Candidate]") -> None:
        if not candidates:
            self.offers.grid_remove()
            return
        width = self.main.winfo_width()
        blocks = [
            self.draw.words(f"{each.text}   {each.note}".rstrip(), width, "text" if not place else "quiet",
                            f"offer-{place}", "small")
            for place, each in enumerate(candidates[:6])
        ]  # fmt: skip
        self._show_strip(self.offers, blocks, ANSWERS)

    def _changed(self, text: str) -> None:
        if not text or monotonic() - self._told >= TOLD_SECONDS:
            self._told = monotonic() if text else -TOLD_SECONDS
            self.session.typing(text)

    def _draw_context(self) -> None:
        if self.context is None:
            self.about.grid_remove()
            return
        verb, local_id = self.context
        line = self.line(local_id)
        text = "" if line is None else brief(line.text or line.problem)
        whose = "" if line is None else line.sender
        quick = "  ".join(f"{place} {each}" for place, each in enumerate(QUICK, 1))
        told = {"/reply": f"↳ {whose}: {text}", "/edit": f"Edit: {text}", "/react": f"{quick}   under {whose}: {text}"}
        words = self.draw.words(told[verb], self.main.winfo_width(), "accent", style="small")
        self._show_strip(self.about, [words], 80)

    # --- files

    def attach(self) -> None:
        """Have a file chosen, and send it."""
        path = files.ask_file(self.root, self.paints.colour("base"))
        if path is None:
            if not files.has_dialogs(self.root):
                self._begin("/send ")
            return
        try:
            here = self.session.place.here()
            self.session.speak(here, sharing(here.id, path, self.composer.text.strip()))
            self.composer.write("")
        except SecurechatError as error:
            self.answer(Sentence("warning", clean(str(error))))

    def save(self, local_id: int) -> None:
        """Have a folder chosen, and save the file of a line there."""
        ground = self.paints.colour("base")
        folder = files.ask_folder(self.root, ground) if files.has_dialogs(self.root) else downloads()
        if folder is not None:
            self.forget_answers()
            self.session.about(local_id, f"/save 1 {folder}")

    def _begin(self, text: str) -> None:
        self.composer.focus_set()
        self.composer.write(text)

    # --- places

    def go(self, conversation: str) -> None:
        """Go to a conversation, by its name."""
        self.forget_answers()
        try:
            self.session.visit(conversation)
        except SecurechatError as error:
            self.answer(Sentence("warning", clean(str(error))))
        self.session.settle()
        self._shows_list = False
        self.context = None
        self._draw_context()
        if self.pane in ("members", "number"):
            self.hide_pane()
        self._arrange()
        self.redraw()
        self.composer.focus_set()

    def _taken_item(self, key: str) -> None:
        found = self.client.conversation(bytes.fromhex(key))
        if found is not None:
            self.go(found.name)

    def _taken_found(self, key: str) -> None:
        kind, _, name = key.partition("-")
        if kind == "line":
            self.jump(int(name))
        elif kind == "person" and name != self.client.account:
            self.session.line(f"/safety {name}")

    def jump(self, local_id: int) -> None:
        """Show a line among those around it, wherever it was said."""
        if not self.session.reach(local_id):
            return
        self.redraw()
        if self._width < self.paints.letters.px(NARROW):
            self._shows_list = False
            self.hide_pane()
        self.timeline.focus_set()
        self.timeline.choose(f"line-{local_id}", center=True)

    def line(self, local_id: int) -> Line | None:
        """Return a line that is in the timeline."""
        timeline = self.session.timeline
        rows = () if timeline is None else timeline.rows
        return next((each for each in rows if isinstance(each, Line) and each.local_id == local_id), None)

    def go_newest(self) -> None:
        """Go to the end of the conversation."""
        timeline = self.session.timeline
        if timeline is not None and timeline.more_after:
            timeline.show_newest()
        self.redraw()
        self.timeline.show_end()

    def _moved(self) -> None:
        timeline, column = self.session.timeline, self.timeline
        if timeline is None:
            return
        if column.top < column.height and timeline.more_before and timeline.show_older():
            self.redraw()
        elif timeline.more_after and column.end - column.top < 2 * column.height:
            timeline.show_newer()
            self.redraw()

    # --- the pane

    def show_pane(self, kind: str) -> None:
        """Show something beside what was said."""
        self.pane = kind
        letters = self.paints.letters
        words = Text(letters.px(18), letters.px(18), pane.TITLES[kind], "title", "text")
        self._put_one(self.pane_title, [words])
        if kind == "search":
            self.query.grid()
        else:
            self.query.grid_remove()
        self._arrange()
        self._fill_pane()
        self.found.go(0)
        (self.query if kind == "search" else self.found).focus_set()

    def _fill_pane(self) -> None:
        draw, width = self.draw, max(self.found.room, 2)
        timeline = self.session.timeline
        match self.pane:
            case "members":
                blocks = pane.members(draw, () if timeline is None else timeline.people, width)
            case "search":
                blocks = pane.found(draw, self.client, self.query.get(), width)
            case "number":
                shown = self.session.number
                blocks = pane.number(draw, self.paints.letters, shown, self.client.account, width)
            case _:
                blocks = pane.helped(draw, VERBS.values(), width)
        self.found.put(blocks)

    def hide_pane(self) -> None:
        """Show what was said alone."""
        self.pane = ""
        self._arrange()
        self.composer.focus_set()

    def _search(self) -> None:
        if self.pane == "search":
            self._fill_pane()

    def _into_found(self) -> str:
        self.found.focus_set()
        self.found.choose_end(0)
        return "break"

    # --- keys

    def do(self, name: str) -> None:
        """Do what a key is for."""
        match name:
            case "help" | "members" | "search":
                self.hide_pane() if self.pane == name else self.show_pane(name)
            case "number":
                self._compare()
            case "list":
                self._toggle_list()
            case "theme":
                self.paints.theme = other(self.paints.theme)
                self._dress()
                if self.pane:
                    self._fill_pane()
            case "attach":
                self.attach()
            case "next" | "previous":
                self._step(1 if name == "next" else -1)
            case "unread":
                new = next((each for each in self.session.listing.items if each.unread), None)
                if new is not None:
                    self._taken_item(new.id.hex())
            case "older" | "newer":
                there = focused(self.root)
                column = there if isinstance(there, Column) else self.timeline
                column.page(-1 if name == "older" else 1)
            case "newest":
                self.go_newest()
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
        if self._width < self.paints.letters.px(NARROW):
            self._shows_list = not self._shows_list
            self._arrange()
            (self.list if self._shows_list else self.composer).focus_set()
        else:
            (self.composer if focused(self.root) is self.list else self.list).focus_set()

    def _step(self, by: int) -> None:
        ids = [each.id for each in self.session.listing.items if each.state != "closed"]
        if ids:
            here = self.session.place.id
            place = ids.index(here) + by if here in ids else 0
            self._taken_item(ids[place % len(ids)].hex())

    def step_back(self) -> str:
        """Close what is open, one after the other; then go between where one writes and the messages."""
        there = focused(self.root)
        if self.context is not None:
            self.context = None
            self._draw_context()
            self.composer.write("")
            self.composer.focus_set()
        elif self.pane and there in (self.query, self.found):  # what one is in goes first
            self.hide_pane()
        elif self._answers:
            self.forget_answers()
        elif self.pane:
            self.hide_pane()
        elif self._shows_list:
            self._toggle_list()
        elif there is self.composer:
            self.timeline.focus_set()
            if not self.timeline.chosen:
                self.timeline.choose_end(-1)
        else:
            self.composer.focus_set()
        return "break"

    def on_chosen(self, key: str) -> str:
        """Do what a key does with the message that is chosen."""
        if self.timeline.chosen.startswith("line-"):
            line = self.line(int(self.timeline.chosen.removeprefix("line-")))
            if line is not None:
                self.on_message(line, key)
        return "break"

    def on_message(self, line: Line, key: str) -> None:
        """Do what a key does with a message."""
        match key:
            case "r":
                self._write_about("/reply", line, "")
            case "e":
                self._write_about("/edit", line, line.text)
            case "plus":
                self._write_about("/react", line, "")
            case "c":
                self.root.clipboard_clear()
                self.root.clipboard_append(line.text)
                self.answer(Sentence("notice", f"Copied: {brief(line.text)}"))
            case "d" if self._delete != line.local_id:
                self._delete = line.local_id
                self.answer(Sentence("warning", f"d once more deletes this for everybody: {brief(line.text)}"))
                return
            case "o" if line.answers is not None and line.answers.local_id:
                self.jump(line.answers.local_id)
            case "s" if line.file is not None:
                self.save(line.local_id)
            case _ if verb := {"d": "/delete", "p": "/play", "u": "/unread"}.get(key):
                self.forget_answers()
                self.session.about(line.local_id, f"{verb} 1")
        self._delete = 0

    def act(self, what: str) -> None:
        """Do what a click on a spot is for."""
        kind, _, number = what.partition(" ")
        match kind:
            case "jump":
                self.jump(int(number))
            case "save":
                self.save(int(number))
            case "unfold":
                self._unfolded.add(int(number))
                self._cache.pop(f"line-{number}", None)
                self._drawn = (None, *self._drawn[1:])
                self.redraw()
            case "play":
                self.session.about(int(number), "/play 1")
            case "cancel":
                ids = [each.id for each in self.client.transfers()]
                if int(number) in ids:
                    self.session.line(f"/cancel {ids.index(int(number)) + 1}")

    def _write_about(self, verb: str, line: Line, text: str) -> None:
        self.context = (verb, line.local_id)
        self._draw_context()
        self.composer.write(text)
        self.composer.focus_set()

    def _quick(self, digit: int) -> str | None:
        """Put an emoji under a message; or let the digit be one."""
        if self.context is None or self.context[0] != "/react":
            return None
        local_id, self.context = self.context[1], None
        self._draw_context()
        self.session.about(local_id, f"/react 1 {QUICK[digit - 1]}")
        return "break"

    def _taken_line(self, key: str) -> None:
        line = self.line(int(key.removeprefix("line-"))) if key.startswith("line-") else None
        if line is not None and line.file is not None:
            self.answer(Sentence("notice", "p plays it." if line.file.disposition == "voice" else "s saves it."))

    def _mark(self) -> None:
        """Show in the title that something is new."""
        self._new = True
        self._listed = ()

    def _looked(self) -> None:
        if self._new:
            self._new = False
            self._listed = ()


def run_window(
    client: "ChatClient", mail: Mail, root: tk.Tk, *, first: str = "", theme: str = "dark"
) -> ExitCode:
    """Talk until the user or the core ends it. `client` is not started yet and tells its events to `mail`.

    Parameters as in `Window`. Raises what it did not expect: whoever runs it says so.
    """
    window = Window(root, client, mail, first=first, theme=theme)
    with left_in_order(lambda: mail.put(Leave())):
        window.run()
    if window.failure is not None:
        raise window.failure
    for sentence in window.last_words:
        tell(sentence.text)
    return ExitCode.FAILURE if window.session.exit_code is None else window.session.exit_code
