"""What scrolls: blocks of lines, one below the other, of which the screen asks for those alone that it shows."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar, NamedTuple

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget


class Block(NamedTuple):
    """A few lines that belong together."""

    key: str
    """Names it among the others."""
    strips: Sequence[Strip]
    chosen: bool = True
    """Whether it can be."""


class Blocks(ScrollView, can_focus=True):
    """A column of blocks, of which one may be chosen by the keyboard or the mouse."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"blocks--chosen"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "step(-1)", "Up", show=False),
        Binding("down,j", "step(1)", "Down", show=False),
        Binding("enter,space", "take", "Take", show=False),
        Binding("home,g", "ends(0)", "First", show=False),
        Binding("end,G", "ends(-1)", "Last", show=False),
    ]

    class Taken(Message):
        """A block was clicked, or Enter was pressed on it."""

        def __init__(self, blocks: "Blocks", key: str) -> None:
            super().__init__()
            self.blocks, self.key = blocks, key

        @property
        def control(self) -> "Blocks":
            """Where."""
            return self.blocks

    class Moved(Message):
        """The window has moved, or has another size."""

        def __init__(self, blocks: "Blocks") -> None:
            super().__init__()
            self.blocks = blocks

        @property
        def control(self) -> "Blocks":
            """Where."""
            return self.blocks

    class Sized(Moved):
        """It has another width: what it shows has to be drawn anew."""

    def __init__(self, *, follows: bool = False, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        """`follows`: the end stays in view while it was."""
        super().__init__(id=id)
        self.blocks: Sequence[Block] = ()
        self.chosen = ""
        """The key of the block that is chosen; empty: none is."""
        self._follows = follows
        self._starts: list[int] = [0]  # of each block, and the end of the last
        self._width = 0
        self._stays_at_end = True

    @property
    def columns(self) -> int:
        """How wide a block is."""
        return max(1, self.scrollable_content_region.width)

    @property
    def at_end(self) -> bool:
        """Whether the last line is in view."""
        return self.scroll_offset.y >= self._starts[-1] - self.scrollable_content_region.height

    def put(self, blocks: Sequence[Block], *, to_end: bool = False) -> None:
        """Show these blocks. What was in view stays there, or the end does, if it was and the window follows it."""
        follow = to_end or (self._follows and self._stays_at_end)
        top = self.scroll_offset.y
        index = min(max(bisect_right(self._starts, top) - 1, 0), max(len(self.blocks) - 1, 0))
        seen = () if follow else self.blocks[index:]
        anchor = [(each.key, self._starts[place]) for place, each in enumerate(seen, index)]
        self.blocks = blocks
        self._starts = [0, *accumulate(len(each.strips) for each in blocks)]
        if self.chosen and not any(each.key == self.chosen for each in blocks):
            self.chosen = ""
        self._set_height(self._starts[-1])
        end = max(0, self._starts[-1] - self.scrollable_content_region.height)
        if follow:
            self._go(end)
            self._stays_at_end = True
        else:
            there = {each.key: start for each, start in zip(blocks, self._starts, strict=False)}
            found = next(((key, start) for key, start in anchor if key in there), None)
            self._go(min(end, top if found is None else there[found[0]] + top - found[1]))
        self.refresh()

    def _set_height(self, lines: int) -> None:
        """Note how much there is. Textual would lay out the whole screen for it, in each frame in which more comes."""
        size = Size(self.columns, lines)
        if self.styles.overflow_y == "scroll":  # the bar is there whatever the height is
            self.set_reactive(Widget.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = lines
        else:
            self.virtual_size = size

    def _go(self, top: int) -> None:
        if top != self.scroll_offset.y:
            self.scroll_to(y=max(0, top), animate=False, force=True, immediate=True)

    def choose(self, key: str, *, center: bool = False) -> None:
        """Choose a block, and bring it into view."""
        self.chosen = key
        place = next((place for place, each in enumerate(self.blocks) if each.key == key), None)
        if place is not None:
            start, end = self._starts[place], self._starts[place + 1]
            height, top = self.scrollable_content_region.height, self.scroll_offset.y
            if center:
                self._go(max(0, (start + end - height) // 2))
            elif start < top:
                self._go(start)
            elif end > top + height:
                self._go(min(start, end - height))
        self.refresh()

    def show_end(self) -> None:
        """Move the window to the end, and let it follow that."""
        self._go(max(0, self._starts[-1] - self.scrollable_content_region.height))
        self._stays_at_end = True

    def show_from(self, key: str) -> None:
        """Move the window so that it begins shortly before a block, or as near as the end lets it."""
        place = next((place for place, each in enumerate(self.blocks) if each.key == key), 0)
        height = self.scrollable_content_region.height
        self._go(min(max(0, self._starts[place] - height // 4), max(0, self._starts[-1] - height)))

    def block_at(self, y: int) -> Block | None:
        """Return the block in a line of the window."""
        place = bisect_right(self._starts, y + self.scroll_offset.y) - 1
        return self.blocks[place] if 0 <= place < len(self.blocks) else None

    def render_line(self, y: int) -> Strip:
        """Return a line of the window."""
        return self._line(y, self.size.width, self.rich_style, self.get_component_rich_style("blocks--chosen"))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return lines of the window as they are painted.

        Textual's own way makes each line anew, with room for borders: most of the time that a frame takes.
        """
        if self.styles.gutter:
            return super().render_lines(crop)
        width, style, chosen = self.size.width, self.rich_style, self.get_component_rich_style("blocks--chosen")
        filters, behind = self.get_line_filters(), self.background_colors[1]
        strips = []
        for y in crop.line_range:
            strip = self._line(y, width, style, chosen)
            for each in filters:
                strip = strip.apply_filter(each, behind)
            strips.append(strip if crop.column_span == (0, width) else strip.crop(*crop.column_span))
        return strips

    def _line(self, y: int, width: int, style: Style, chosen: Style) -> Strip:
        line = y + self.scroll_offset.y
        place = bisect_right(self._starts, line) - 1
        if not 0 <= place < len(self.blocks):
            return Strip.blank(width, style)
        block = self.blocks[place]
        strip = block.strips[line - self._starts[place]]
        if block.key == self.chosen and strip.text.strip():  # what is empty only keeps others apart
            style = chosen
        return strip.apply_style(style).adjust_cell_length(width, style)

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Tell that the window has moved."""
        super().watch_scroll_y(old, new)
        if round(old) != round(new):
            self._stays_at_end = self.at_end
            self.post_message(self.Moved(self))

    def on_resize(self, _: Resize) -> None:
        """Tell that what is shown has to be drawn anew."""
        if self.columns != self._width:
            self._width = self.columns
            self.post_message(self.Sized(self))
        elif self._follows and self._stays_at_end:
            self._go(max(0, self._starts[-1] - self.scrollable_content_region.height))

    def on_click(self, event: Click) -> None:
        """Choose what is under the pointer."""
        offset = event.get_content_offset(self)
        block = None if offset is None else self.block_at(offset.y)
        if block is not None and block.chosen:
            self.choose(block.key)
            self.post_message(self.Taken(self, block.key))

    def action_step(self, by: int) -> None:
        """Choose the block before or after."""
        there = [each.key for each in self.blocks if each.chosen]
        if not there:
            self.scroll_relative(y=by, animate=False)
        elif self.chosen in there:
            self.choose(there[min(max(there.index(self.chosen) + by, 0), len(there) - 1)])
        else:
            self.choose(there[-1 if by < 0 or self._follows else 0])

    def action_ends(self, place: int) -> None:
        """Choose the first block or the last one."""
        there = [each.key for each in self.blocks if each.chosen]
        if there:
            self.choose(there[place])

    def action_take(self) -> None:
        """Take what is chosen."""
        if self.chosen:
            self.post_message(self.Taken(self, self.chosen))
