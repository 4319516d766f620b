"""Colours for lines that say everything without them: who speaks, what is ours, what warns.

A line is taken apart by how it begins, which only our own lines do (`view.lines`). The colours are the terminal's own,
so its user decides how they look on their background.
"""

import os
import re
from collections.abc import Iterator
from typing import Final, Literal, get_args

from securechat.errors import UsageError
from securechat.ui.text.trust import TRUST
from securechat.ui.view.lines import ABOVE, BELOW, CONTINUATION

Choice = Literal["auto", "always", "never"]
CHOICES: Final[tuple[Choice, ...]] = get_args(Choice)

DIM, BOLD, RED, CYAN, MAGENTA = 2, 1, 31, 36, 35
"""Select Graphic Rendition parameters (ECMA-48, 8.3.117)."""

_MESSAGE: Final = re.compile(r"((?:\d+\) )?(?:\d{4}-\d\d-\d\d )?\d\d:\d\d \[\S+\] )(\* )?(\S+?)(:? )")

_SIGNS: Final = tuple(each.sign for each in TRUST.values() if each.sign)
"""Stand beside others' names alone."""


def parse_choice(text: str) -> Choice:
    """Read auto, always or never. Raises `UsageError`."""
    for choice in CHOICES:
        if text == choice:
            return choice
    raise UsageError(f"it is one of {', '.join(CHOICES)}")


def is_wanted(choice: Choice, *, terminal: bool) -> bool:
    """Whether lines get colours: if they are wanted, or it is a terminal that has them and https://no-color.org does
    not keep them away."""
    if choice == "auto":
        return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")
    return choice == "always"


def painted(text: str, own: str) -> str:
    """Return a line, which may have several rows, with colours. `own`: our account.

    Nothing in it can give orders to the terminal: it is clean, and what begins an order is taken out once more.
    """
    return "\n".join(_rows(text.replace("\x1b", "?").split("\n"), own))


def _rows(rows: list[str], own: str) -> Iterator[str]:
    style: tuple[int, ...] = ()  # of the rows that go on with one
    for row in rows:
        if row.startswith(CONTINUATION):
            yield _styled(CONTINUATION, DIM) + _styled(row.removeprefix(CONTINUATION), *style)
        elif row.startswith((ABOVE, BELOW)):
            yield _styled(row, DIM)
        elif row.startswith("!! "):
            style = (BOLD, RED) if row.startswith("!! ALARM") else (RED,)
            yield _styled(row, *style)
        elif row.startswith("-- "):
            style = (DIM,)
            yield _styled(row, DIM)
        elif begins := _MESSAGE.match(row):
            style = ()
            where, acts, sender, colon = begins.groups(default="")
            said = row[begins.end() :]
            signed = said.startswith(_SIGNS) if acts else colon != ": "  # our name under a key that is not ours
            name = _styled(sender, BOLD, CYAN if sender == own and not signed else MAGENTA)
            yield f"{_styled(where, DIM)}{acts}{name}{colon}{said}"
        else:
            yield row


def _styled(text: str, *codes: int) -> str:
    return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m" if codes and text else text
