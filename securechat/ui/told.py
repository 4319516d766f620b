"""Sentences beside a prompt or at the end of a command: on a screen they are broken between words."""

import shutil
import sys
import textwrap
from typing import Final, TextIO

from securechat.clean import clean_line

_FOR_THE_SCREEN: Final[list[str]] = []


def tell(text: str, out: TextIO | None = None, *, lasts: bool = False) -> None:
    """Write one sentence, cleaned; by itself a terminal breaks lines in the middle of words.

    `lasts`: nobody should miss it, so where a full screen comes next it stands there again.

    What is piped stays one line. A word longer than a row, such as a path, is left whole, so that it can be copied.
    """
    out = sys.stderr if out is None else out
    line = clean_line(text)
    if out.isatty():
        columns = max(shutil.get_terminal_size().columns, 20)
        line = textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
    out.write(f"{line}\n")
    out.flush()
    if lasts:
        _FOR_THE_SCREEN.append(clean_line(text))


def told_to_last() -> tuple[str, ...]:
    """Return, once, what was told so that nobody should miss it."""
    said = tuple(_FOR_THE_SCREEN)
    _FOR_THE_SCREEN.clear()
    return said
