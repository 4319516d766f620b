"""What faces that draw rows have in common: whose name stands above which, in which colour, and a line in short."""

from typing import Final

from securechat.ui.view.lines import what_it_is
from securechat.ui.view.rows import Line, Row

TOGETHER: Final = 300_000
"""Milliseconds within which what one person says stands under one name."""

MAX_SHORT: Final = 400
"""Characters of a message that are looked at for one line of a list."""

STATES: Final = {
    "requested": "asked; no answer yet", "request": "wants to talk: /accept", "closed": "over", "stopped": "stopped",
}  # fmt: skip
"""What the list says of a conversation instead of its newest line."""


def heads(row: Row, before: Row | None) -> bool:
    """Whether a row stands under a name of its own: another one spoke before, or it is a while ago."""
    if not (isinstance(row, Line) and isinstance(before, Line)):
        return True
    if row.sender != before.sender or row.trust != before.trust or row.action or before.action:
        return True
    return bool(row.time and before.time) and row.time - before.time > TOGETHER


def hue_of(name: str) -> int:
    """Return a number that chooses the colour of a name: the same one each time."""
    mixed = 0
    for each in name.encode():
        mixed = (mixed * 167 + each) % 65_521
    return mixed


def in_short(line: Line, *, direct: bool) -> str:
    """Return a message as one line of a list. `direct`: there is one other who can have said it."""
    if line.deleted_by:
        text = "deleted"
    elif line.problem:
        text = line.problem
    elif line.file is not None:
        text = f"{what_it_is(line.file)}"
    else:
        text = line.text[:MAX_SHORT]
    who = "you: " if line.own else "" if direct else f"{line.sender}: "
    return f"{who}{' '.join(text.split())}"
