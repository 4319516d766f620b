"""QR codes on a terminal: of a recovery file, and of an invite line, for a camera to take to another machine."""

import shutil
import sys
from typing import Final, TextIO

from securechat.hosts import is_loopback
from securechat.identity.invite_line import decode

BORDER: Final = 2
"""Modules around the code: half of what ISO/IEC 18004 wants, which every reader takes from a screen."""


def show_qr(text: str, out: TextIO) -> None:
    """Draw a text, in capitals: those are in the alphabet of letters and digits, which takes a third less room."""
    import segno  # only here

    segno.make(text.upper(), error="m", micro=False).terminal(out, border=BORDER, compact=True)


def show_beside(line: str) -> None:
    """Draw an invite line on standard error, if that and standard output are a terminal on which all of it has room.

    Where a script takes the line, or a window is small, the line alone says it all; and no other machine that has a
    camera reaches a server which listens on this one alone.
    """
    import segno  # only here

    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return
    if is_loopback(decode(line, 0).address.rpartition(":")[0].strip("[]")):
        return
    code = segno.make(line.upper(), error="l", micro=False, boost_error=False)
    columns, rows = shutil.get_terminal_size()
    width, height = code.symbol_size(border=BORDER)
    if width <= columns and (height + 1) // 2 <= rows:  # two rows of modules to a line
        code.terminal(sys.stderr, border=BORDER, compact=True)
        sys.stderr.flush()
