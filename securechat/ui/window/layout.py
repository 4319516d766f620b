"""Where things are: texts broken into lines, and blocks of pieces, in pixels. Nothing here draws."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from securechat.ui.view.lines import words_of
from securechat.ui.window.letters import Apart, as_seen, begins_at_right, drawable, in_words, joined, runs_from_right

MAX_PIECE: Final = 512
"""Characters that are drawn at once: Tk takes longer than linear for more."""

MAX_LINE: Final = 256
"""Characters that are looked at to fill one line, which is as wide as a screen at most."""


class Text(NamedTuple):
    """Letters, from their top left corner."""

    x: int
    y: int
    text: str
    style: str
    colour: str


class Emoji(NamedTuple):
    """A picture of an emoji, in a square."""

    x: int
    y: int
    size: int
    text: str


class Fill(NamedTuple):
    """A rectangle; `radius`: of its corners, whose outside is of the colour `on`."""

    x: int
    y: int
    width: int
    height: int
    colour: str
    radius: int = 0
    on: str = ""


class Picture(NamedTuple):
    """Somebody's preview."""

    x: int
    y: int
    local_id: int


class Spot(NamedTuple):
    """Where a click does something."""

    x: int
    y: int
    width: int
    height: int
    act: str


Piece = Text | Emoji | Fill | Picture


class Block(NamedTuple):
    """Pieces that belong together, from their top left corner."""

    key: str
    """Names it among the others."""
    height: int
    pieces: Sequence[Piece]
    chosen: bool = True
    """Whether it can be."""
    spots: Sequence[Spot] = ()

    @property
    def words(self) -> str:
        """All that can be read in it."""
        return " ".join(each.text for each in self.pieces if isinstance(each, Text | Emoji))


class Measure(Protocol):
    """What is asked of the fonts (`looks.Letters`)."""

    heights: dict[str, int]
    draws_all: bool

    def px(self, pixels: float) -> int:
        """Return pixels of this screen."""

    def width(self, text: str, style: str) -> int:
        """Return how wide a text is."""

    def family_for(self, character: str) -> str:
        """Return the font that a character would be drawn with."""


class Row(NamedTuple):
    """A line of a text that fits: what is drawn of it, from x = 0, and how wide that is."""

    parts: Sequence[tuple[int, str, bool]]
    """x, text, and whether it is an emoji that is drawn as a picture."""
    width: int
    from_right: bool = False

    def pieces(self, x: int, y: int, style: str, colour: str, height: int) -> Iterator[Piece]:
        """Yield what is drawn at a place. `height`: of the line."""
        for at, text, is_emoji in self.parts:
            if is_emoji:
                yield Emoji(x + at, y + height // 12, height * 5 // 6, text)
            else:
                yield Text(x + at, y, text, style, colour)


class Setter:
    """Breaks texts into lines. `pictures`: whether emoji can be drawn as such."""

    def __init__(self, measure: Measure, has_picture: Callable[[str], bool]) -> None:
        self.measure = measure
        self._has_picture = has_picture

    def rows(self, text: str, room: int, style: str) -> list[Row]:
        """Return a clean text in lines that fit, broken between words where that goes."""
        if self.measure.draws_all:
            apart = Apart("")
            apart.text = text
        else:
            apart = Apart(text)
            apart.text = "".join(
                each if each not in apart.emoji or self._has_picture(apart.emoji[each]) else in_words(apart.emoji[each])
                for each in apart.text
            )
        found: list[Row] = []
        for paragraph in apart.text.split("\n"):
            turns = not self.measure.draws_all and runs_from_right(paragraph)
            from_right = turns and begins_at_right(paragraph)
            if turns:
                paragraph = joined(paragraph)
            paragraph = "".join(self._drawable(paragraph, apart))
            lines = self._broken(paragraph, room, style)
            seen = (as_seen(each, from_right=from_right) for each in lines) if turns else lines
            found.extend(self._row(each, apart, style, from_right) for each in seen)
        return found

    def line(self, text: str, room: int, style: str) -> Row:
        """Return a text in one line, with an ellipsis where something is missing."""
        text = " ".join(text.split())
        is_whole, text = len(text) <= MAX_LINE, text[:MAX_LINE]
        (row,) = self.rows(text, 1 << 24, style)
        if is_whole and row.width <= room:
            return row
        rows = self.rows(text, room - self.measure.width("…", style), style)
        parts, width = rows[0].parts, rows[0].width
        return Row([*parts, (width, "…", False)], width + self.measure.width("…", style))

    def _drawable(self, text: str, apart: Apart) -> Iterator[str]:
        start = 0
        for place, each in enumerate(text):
            if each in apart.emoji:
                yield drawable(text[start:place], self.measure.family_for)
                yield each
                start = place + 1
        yield drawable(text[start:], self.measure.family_for) if not self.measure.draws_all else text[start:]

    def _broken(self, text: str, room: int, style: str) -> Iterator[str]:
        row, used = "", 0
        for word in words_of(text):
            bare = word.rstrip(" ")
            width, bare_width = self._width(word, style), self._width(bare, style)
            if used + bare_width <= room and len(row) + len(word) <= MAX_PIECE:
                row, used = row + word, used + width
                continue
            if row:
                yield row.rstrip(" ")
                row, used = "", 0
            if bare_width <= room and len(word) <= MAX_PIECE:
                row, used = word, width
                continue
            for each in _clusters(word):
                wide = self._width(each, style)
                if row and (used + wide > room or len(row) + len(each) > MAX_PIECE):
                    yield row
                    row, used = "", 0
                row, used = row + each, used + wide
        yield row.rstrip(" ")

    def _width(self, text: str, style: str) -> int:
        """Return how wide a text with stand-ins is."""
        if text.isascii():
            return self.measure.width(text, style) if len(text) <= MAX_PIECE else 1 << 24
        if len(text) > MAX_PIECE:
            return 1 << 24
        letters = "".join(each for each in text if not "\ue000" <= each <= "\uf8ff")
        return self.measure.width(letters, style) + (len(text) - len(letters)) * self._emoji_width(style)

    def _emoji_width(self, style: str) -> int:
        return self.measure.heights[style]

    def _row(self, line: str, apart: Apart, style: str, from_right: bool) -> Row:  # noqa: FBT001  # what a paragraph is
        parts: list[tuple[int, str, bool]] = []
        x, start = 0, 0
        for place, each in enumerate(line):
            if each in apart.emoji:
                if start < place:
                    parts.append((x, line[start:place], False))
                    x += self.measure.width(line[start:place], style)
                parts.append((x, apart.emoji[each], True))
                x += self._emoji_width(style)
                start = place + 1
        if start < len(line):
            parts.append((x, line[start:], False))
            x += self.measure.width(line[start:], style)
        return Row(parts, x, from_right)


def _clusters(word: str) -> Iterator[str]:
    """Yield the characters of a word, each with the marks on it."""
    start = 0
    for place, each in enumerate(word):
        if place > start and unicodedata.category(each)[0] != "M":
            yield word[start:place]
            start = place
    yield word[start:]
