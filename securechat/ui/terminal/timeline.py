"""What was said, on the screen: the rows of one conversation, each drawn once, and again where it has changed."""

from collections.abc import Callable
from typing import Final, NamedTuple

from textual.events import Key

from securechat.client.media.pictures import Pixels
from securechat.ui.terminal.blocks import Block, Blocks
from securechat.ui.terminal.drawing import draw, is_long
from securechat.ui.terminal.keys import ON_A_MESSAGE
from securechat.ui.terminal.themes import LOOKS
from securechat.ui.view.rows import Line, Row, Splice, key_of, splices
from securechat.ui.view.shown import heads

_NOWHERE: Final = (b"", 0, "")


class _Drawn(NamedTuple):
    row: Row
    head: bool
    block: Block


class TimelineView(Blocks):
    """The rows that a conversation's timeline has."""

    class Wanted(Blocks.Moved):
        """A key of `ON_A_MESSAGE` was pressed on a line."""

        def __init__(self, blocks: "TimelineView", line: Line, key: str) -> None:
            super().__init__(blocks)
            self.line, self.key = line, key

    def __init__(self, account: str, picture: Callable[[Line], Pixels | None], *, id: str) -> None:  # noqa: A002  # Textual's name
        """`account`: whose screen it is. `picture`: a line's, once it is decoded."""
        super().__init__(follows=True, id=id)
        self._account, self._picture = account, picture
        self.rows: tuple[Row, ...] = ()
        self._drawn: list[_Drawn] = []
        self._whole = 0  # the line of which all is drawn, however long it is
        self._drawn_for = _NOWHERE  # which conversation, how wide, in which theme

    def show(self, rows: tuple[Row, ...], where: bytes, theme: str) -> None:
        """Show these rows of a conversation. Its end comes into view where it was not shown before, or what is new."""
        drawn_for, moved = (where, self.columns, theme), where != self._drawn_for[0] or not self._drawn
        if drawn_for == self._drawn_for and rows is self.rows:
            return
        if drawn_for != self._drawn_for:
            self._drawn_for, self._drawn, self.rows = drawn_for, [], ()
        self._whole = 0 if moved else self._whole
        for change in splices(self.rows, rows):
            self._splice(change)
        self.rows = rows
        self.put([each.block for each in self._drawn], to_end=moved)
        if moved and any(each.block.key == "new" for each in self._drawn):
            self.show_from("new")

    def show_again(self, local_id: int) -> None:
        """Draw a line again, whose picture is there by now."""
        place = next((place for place, each in enumerate(self._drawn) if each.block.key == f"line-{local_id}"), None)
        if place is not None:
            self._drawn[place] = self._draw(self._drawn[place].row, head=self._drawn[place].head)
            self.put([each.block for each in self._drawn])

    def unfold(self, line: Line) -> None:
        """Draw all of a long text, or its beginning again; of any other one the beginning."""
        if is_long(line, self.columns):
            before, self._whole = self._whole, 0 if self._whole == line.local_id else line.local_id
            for local_id in {before, line.local_id}:
                self.show_again(local_id)

    def line(self, local_id: int) -> Line | None:
        """Return a line, if it is one of the rows."""
        return next((each for each in self.rows if isinstance(each, Line) and each.local_id == local_id), None)

    def _splice(self, change: Splice) -> None:
        before = self._drawn[change.start - 1].row if change.start else None
        drawn: list[_Drawn] = []
        for row in change.rows:
            drawn.append(self._draw(row, head=heads(row, before)))
            before = row
        self._drawn[change.start : change.start + change.removed] = drawn
        after = change.start + len(drawn)
        if after < len(self._drawn):  # another one may speak before it now
            row, head, _ = self._drawn[after]
            if head != heads(row, before):
                self._drawn[after] = self._draw(row, head=not head)

    def _draw(self, row: Row, *, head: bool) -> _Drawn:
        _, columns, theme = self._drawn_for
        picture = self._picture(row) if isinstance(row, Line) else None
        whole = isinstance(row, Line) and row.local_id == self._whole
        strips = draw(row, columns, LOOKS[theme], head=head, account=self._account, picture=picture, whole=whole)
        return _Drawn(row, head, Block(key_of(row), strips, isinstance(row, Line)))

    def on_key(self, event: Key) -> None:
        """Tell of a key on the line that is chosen."""
        if event.character not in ON_A_MESSAGE or not self.chosen.startswith("line-"):
            return
        line = self.line(int(self.chosen.removeprefix("line-")))
        if line is not None:
            event.stop()
            self.post_message(self.Wanted(self, line, event.character))
