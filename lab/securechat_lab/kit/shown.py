"""What a text does to a screen: the product's own lines, in a terminal emulator (pyte)."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import pyte
from prompt_toolkit.utils import get_cwidth
from pyte.screens import wcwidth

from securechat.client.message import Message
from securechat.ui.view.lines import message_line, wrap
from securechat.ui.view.rows import line_of

COLUMNS: Final = 80
ROWS: Final = 40
ABOVE: Final = ("-- Welcome.", "!! Somebody's key has changed.")
"""What stands on the screen before: nothing may write over it."""


class _Screen(pyte.Screen):
    """A screen that goes on behind a sign without a width, as terminals do: pyte's leaves out the rest of the text."""

    def draw(self, data: str) -> None:
        """Draw letters. A sign without a width stands in the cell of the letter before it."""
        for character in data:
            row, at = self.buffer[self.cursor.y], self.cursor.x - 1
            if at < 0 or wcwidth(character) != 0:
                super().draw(character)
                continue
            if at and not row[at].data:  # the second cell of a wide letter
                at -= 1
            row[at] = row[at]._replace(data=row[at].data + character)


def screen(messages: Iterable[Message], where: str, clean: Callable[[str], str], now: datetime) -> list[str]:
    """Return the rows of a screen on which these messages were shown, without the blanks at their ends."""
    shown = _Screen(COLUMNS, ROWS)
    stream = pyte.Stream(shown)
    for row in ABOVE:
        stream.feed(f"{row}\r\n")
    for message in messages:
        text = wrap(message_line(line_of(message, clean), where, now), COLUMNS, get_cwidth)
        stream.feed(text.replace("\n", "\r\n") + "\r\n")
    return [row.rstrip() for row in shown.display]
