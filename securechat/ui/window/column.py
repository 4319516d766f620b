"""What scrolls: blocks one below the other, of which those alone are drawn that are seen."""

import tkinter as tk
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from tkinter import ttk
from typing import Final, Protocol

from securechat.ui.window.layout import Block, Emoji, Fill, Picture, Piece, Text

WHEEL: Final = 60
"""Pixels of one step of the wheel."""

AIR: Final = 14
"""Pixels below the last of what is followed."""

_HIGHEST: Final = 600
"""Pixels of a line or a picture, at most."""

_BEYOND: Final = 4000
"""Pixels above and below what is seen to which a rectangle is drawn: X11 counts to 32,767."""


def focused(widget: tk.Misc) -> tk.Misc | None:
    """Return what keys go to; None: nothing of ours, as a dialog that Tk has made by itself."""
    try:
        return widget.focus_get()
    except KeyError:
        return None


class Paint(Protocol):
    """What turns pieces into what is seen."""

    def colour(self, name: str) -> str:
        """Return a colour as Tk takes it."""

    def font(self, style: str) -> str:
        """Return the name of a font."""

    def corners(self, colour: str, on: str, radius: int) -> Sequence[tk.PhotoImage]:
        """Return the corners of a rectangle."""

    def emoji(self, emoji: str, size: int) -> tk.PhotoImage | None:
        """Return a picture of an emoji."""

    def preview(self, local_id: int) -> tk.PhotoImage | None:
        """Return a preview."""


class Column(tk.Canvas):
    """A column of blocks, of which one may be chosen by keyboard or mouse."""

    def __init__(self, master: tk.Misc, paint: Paint, ground: str, *, follows: bool = False) -> None:
        """`ground`: the colour behind. `follows`: the end stays in view while it was."""
        super().__init__(master, highlightthickness=0, borderwidth=0, takefocus=1, width=10, height=10)
        self._paint, self._ground, self._follows = paint, ground, follows
        self._air = AIR if follows else 0
        self.blocks: Sequence[Block] = ()
        self.chosen = ""
        """The key of the block that is chosen; empty: none is."""
        self.taken: Callable[[str], object] = lambda _key: None
        """Called when a block was clicked, or Enter was pressed on it."""
        self.acted: Callable[[str], object] = lambda _act: None
        """Called when a spot was clicked."""
        self.moved: Callable[[], object] = lambda: None
        """Called when what is seen has moved."""
        self.sized: Callable[[], object] = lambda: None
        """Called when it has another width: what it shows has to be set anew."""
        self._starts: list[int] = [0]  # of each block, and the end of the last
        self._top = 0
        self._at_end = True
        self._size = (0, 0)
        self.due = False
        self.drawn = 0
        """How often it was drawn."""
        self.bar: ttk.Scrollbar | None = None
        self.bind("<Configure>", self._configured)
        self.bind("<Button-1>", self._clicked)
        self.bind("<Motion>", self._pointed)
        self.bind("<MouseWheel>", lambda event: self.scroll(-WHEEL if event.delta > 0 else WHEEL))
        self.bind("<Button-4>", lambda _: self.scroll(-WHEEL))
        self.bind("<Button-5>", lambda _: self.scroll(WHEEL))
        for keys, act in (
            (("<Up>", "<k>"), lambda: self.step(-1)), (("<Down>", "<j>"), lambda: self.step(1)),
            (("<Home>", "<g>"), lambda: self.choose_end(0)), (("<End>", "<G>"), lambda: self.choose_end(-1)),
            (("<Return>", "<space>"), lambda: self.chosen and self.taken(self.chosen)),
            (("<Prior>",), lambda: self.page(-1)), (("<Next>",), lambda: self.page(1)),
        ):  # fmt: skip
            for key in keys:
                self.bind(key, lambda _, act=act: (act(), "break")[1])  # type: ignore[misc]
        for sequence in ("<FocusIn>", "<FocusOut>"):
            self.bind(sequence, lambda _: self.draw_soon())

    @property
    def room(self) -> int:
        """How wide a block is."""
        return max(1, self._size[0])

    @property
    def height(self) -> int:
        """How much of it is seen."""
        return self._size[1]

    @property
    def top(self) -> int:
        """Where what is seen begins."""
        return self._top

    @property
    def end(self) -> int:
        """Where the last block ends, and what is below it."""
        return self._starts[-1] + self._air

    @property
    def at_end(self) -> bool:
        """Whether the end is in view."""
        return self._top >= self.end - self.height

    def put(self, blocks: Sequence[Block], *, to_end: bool = False) -> None:
        """Show these blocks. What was in view stays there, or the end does, if it was and the column follows it."""
        follow = to_end or (self._follows and self._at_end)
        first = min(max(bisect_right(self._starts, self._top) - 1, 0), max(len(self.blocks) - 1, 0))
        # A day stays the first, whatever of it comes above: what is said is held on to.
        there_now = enumerate(self.blocks[first:], first)
        anchors = [(each.key, self._starts[place]) for place, each in there_now if each.chosen]
        self.blocks = blocks
        self._starts = [0, *accumulate(each.height for each in blocks)]
        if not any(each.key == self.chosen for each in blocks):
            self.chosen = ""
        if follow:
            self._top, self._at_end = self._last_top, True
        else:
            there = {each.key: start for each, start in zip(blocks, self._starts, strict=False)}
            found = next(((key, start) for key, start in anchors if key in there), None)
            top = self._top if found is None else there[found[0]] + self._top - found[1]
            self._top = min(self._last_top, max(0, top))
        self.draw_soon()

    @property
    def _last_top(self) -> int:
        return max(0, self.end - self.height)

    def go(self, top: int) -> None:
        """Move what is seen."""
        top = min(max(0, top), self._last_top)
        if top != self._top:
            self._top = top
            self._at_end = self.at_end
            self.draw_soon()
            self.moved()

    def scroll(self, by: int) -> str:
        """Move what is seen by so many pixels."""
        self.go(self._top + by)
        return "break"

    def page(self, by: int) -> None:
        """Move what is seen by nearly all of it."""
        self.go(self._top + by * max(40, self.height - 40))

    def show_end(self) -> None:
        """Show the end, and follow it."""
        self._at_end = True
        self._top = self._last_top
        self.draw_soon()
        self.moved()

    def show_from(self, key: str) -> None:
        """Show what begins with a block, shortly before it."""
        self.go(self._start_of(key) - self.height // 4)

    def _start_of(self, key: str) -> int:
        return self._starts[next((place for place, each in enumerate(self.blocks) if each.key == key), 0)]

    def choose(self, key: str, *, center: bool = False) -> None:
        """Choose a block, and bring it into view."""
        self.chosen = key
        place = next((place for place, each in enumerate(self.blocks) if each.key == key), None)
        if place is not None:
            start, end = self._starts[place], self._starts[place + 1]
            if center:
                self.go((start + end - self.height) // 2)
            elif start < self._top:
                self.go(start)
            elif end > self._top + self.height:
                self.go(min(start, end - self.height))
        self.draw_soon()

    def step(self, by: int) -> None:
        """Choose the block before or after."""
        there = [each.key for each in self.blocks if each.chosen]
        if self.chosen in there:
            self.choose(there[min(max(there.index(self.chosen) + by, 0), len(there) - 1)])
        elif there:
            self.choose(there[-1 if by < 0 or self._follows else 0])
        else:
            self.scroll(by * WHEEL)

    def choose_end(self, place: int) -> None:
        """Choose the first block or the last one."""
        there = [each.key for each in self.blocks if each.chosen]
        if there:
            self.choose(there[place])

    def yview(self, *how: object) -> None:  # type: ignore[override]  # what a scrollbar asks for
        """Move what is seen as a scrollbar wants it."""
        match how:
            case ("moveto", share):
                self.go(round(float(str(share)) * self.end))
            case ("scroll", by, "units"):
                self.scroll(int(str(by)) * WHEEL)
            case ("scroll", by, _):
                self.page(int(str(by)))

    # --- drawing

    def draw_soon(self) -> None:
        """Draw once everything that is known now was taken."""
        if not self.due:
            self.due = True
            self.after_idle(self._draw)

    def _draw(self) -> None:
        self.due = False
        self.drawn += 1
        self.delete("all")
        self.configure(background=self._paint.colour(self._ground))
        top, bottom = self._top, self._top + self.height
        # What is little stands at the bottom of what follows its end, as in any chat.
        offset = max(0, self.height - self.end) if self._follows else 0
        place = max(0, bisect_right(self._starts, top) - 1)
        while place < len(self.blocks) and self._starts[place] < bottom:
            self._block(self.blocks[place], self._starts[place] - top + offset)
            place += 1
        if self.bar is not None:
            whole = max(1, self.end)
            self.bar.set(min(1.0, top / whole), min(1.0, bottom / whole))

    def _block(self, block: Block, y: int) -> None:
        lowest = self.height
        for piece in block.pieces:
            at = y + piece.y
            if at < lowest and at + (piece.height if isinstance(piece, Fill) else _HIGHEST) > 0:
                self._piece(piece, y)
        if block.key == self.chosen and block.chosen and focused(self) is self:
            colour = self._paint.colour("accent")
            self.create_rectangle(0, y + 2, 3, y + block.height - 2, fill=colour, width=0)

    def _piece(self, piece: Piece, y: int) -> None:
        match piece:
            case Text(x=x, text=text, style=style, colour=colour):
                self.create_text(x, y + piece.y, text=text, anchor="nw", font=self._paint.font(style),
                                 fill=self._paint.colour(colour))  # fmt: skip
            case Fill():
                self._fill(piece, y + piece.y)
            case Emoji(x=x, size=size, text=text):
                image = self._paint.emoji(text, size)
                if image is not None:
                    self.create_image(x, y + piece.y, image=image, anchor="nw")
            case Picture(x=x, local_id=local_id):
                image = self._paint.preview(local_id)
                if image is not None:
                    self.create_image(x, y + piece.y, image=image, anchor="nw")

    def _fill(self, fill: Fill, y: int) -> None:
        colour = self._paint.colour(fill.colour)
        right, bottom = fill.x + fill.width, y + fill.height
        radius = min(fill.radius, fill.width // 2, fill.height // 2)
        y, bottom = max(y, -_BEYOND), min(bottom, self.height + _BEYOND)
        if not radius:
            self.create_rectangle(fill.x, y, right, bottom, fill=colour, width=0)
            return
        if fill.width > 2 * radius:
            self.create_rectangle(fill.x + radius, y, right - radius, bottom, fill=colour, width=0)
        if bottom - y > 2 * radius:
            self.create_rectangle(fill.x, y + radius, right, bottom - radius, fill=colour, width=0)
        corners = self._paint.corners(fill.colour, fill.on, radius)
        lefts, tops = (fill.x, right - radius), (y, bottom - radius)
        for image, (x, at) in zip(corners, ((x, at) for at in tops for x in lefts), strict=True):
            self.create_image(x, at, image=image, anchor="nw")

    # --- the mouse

    def _configured(self, event: "tk.Event[tk.Misc]") -> None:
        before, self._size = self._size, (event.width, event.height)
        if before[0] != event.width:
            self.sized()
        if self._follows and self._at_end:
            self._top = self._last_top
        else:
            self._top = min(self._top, self._last_top)
        self.draw_soon()

    def block_at(self, y: int) -> tuple[Block, int] | None:
        """Return the block at a height of what is seen, and where in it that is."""
        offset = max(0, self.height - self.end) if self._follows else 0
        at = y + self._top - offset
        place = bisect_right(self._starts, at) - 1
        return (self.blocks[place], at - self._starts[place]) if 0 <= place < len(self.blocks) and at >= 0 else None

    def _spot_at(self, x: int, y: int) -> str:
        found = self.block_at(y)
        if found is None:
            return ""
        block, at = found
        return next((s.act for s in block.spots if s.x <= x < s.x + s.width and s.y <= at < s.y + s.height), "")

    def _pointed(self, event: "tk.Event[tk.Misc]") -> None:
        self.configure(cursor="hand2" if self._spot_at(event.x, event.y) else "")

    def _clicked(self, event: "tk.Event[tk.Misc]") -> None:
        self.focus_set()
        act = self._spot_at(event.x, event.y)
        if act:
            self.acted(act)
            return
        found = self.block_at(event.y)
        if found is not None and found[0].chosen:
            self.choose(found[0].key)
            self.taken(found[0].key)
