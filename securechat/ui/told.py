"""Sentences beside a prompt or at the end of a command: on a screen they are broken between words."""

import shutil
import sys
import textwrap
from typing import TextIO

from securechat.clean import clean_line


def tell(text: str, out: TextIO | None = None) -> None:
    """Write one sentence, cleaned; by itself a terminal breaks lines in the middle of words.

    What is piped stays one line. A word longer than a row, such as a path, is left whole, so that it can be copied.
    """
    out = sys.stderr if out is None else out
    line = clean_line(text)
    if out.isatty():
        columns = max(shutil.get_terminal_size().columns, 20)
        line = textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
    out.write(f"{line}\n")
    out.flush()
