"""Rows and sentences as lines of text. A message begins with its time, a notice with `--`, a warning with `!!`.

What is drawn is clean; here it is kept from looking like a line of its own, so that lines that begin in one of
these ways are always our own.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from securechat.ui.text.sentences import Sentence
from securechat.ui.text.trust import beside
from securechat.ui.view.rows import Line, local_time

CONTINUATION: Final = "      ┃ "
"""Begins every line of a text but its first, so that none of them can look like a line of its own."""

_MARKS: Final = {"notice": "--", "warning": "!!", "alarm": "!!"}


def notice(text: str) -> str:
    """Return a notice; the text is clean."""
    return sentence_line(Sentence("notice", text))


def warning(text: str) -> str:
    """Return a warning; the text is clean."""
    return sentence_line(Sentence("warning", text))


def sentence_line(sentence: Sentence) -> str:
    """Return a sentence as it is shown."""
    return f"{_MARKS[sentence.kind]} {_hang(sentence.text)}"


def message_line(line: Line, where: str, now: datetime) -> str:
    """Return a message as it is shown, with its conversation's title; times are local."""
    time = local_time(line.time) if line.time else now
    clock = f"{time:%H:%M}" if time.date() == now.date() else f"{time:%Y-%m-%d %H:%M}"
    sender = line.sender if line.own else beside(line.sender, line.trust)
    written = f"(written {_when(local_time(line.written), time)})" if line.written else ""
    remarks = (written, *(f"({each})" for each in (line.doubt, line.problem) if each))
    text = " ".join(filter(None, (_hang(line.text), *remarks)))
    return f"{clock} [{where}] {sender}: {text}"


def _when(written: datetime, accepted: datetime) -> str:
    """Return when something was written, as people say it at the time it was accepted."""
    days = (accepted.date() - written.date()).days
    return f"{written:%H:%M}" if not days else f"{written:%a %H:%M}" if days < 7 else f"{written:%Y-%m-%d %H:%M}"


def _hang(text: str) -> str:
    """Let each line but the first begin with `CONTINUATION`."""
    return text.replace("\n", f"\n{CONTINUATION}")


def wrap(line: str, columns: int, width_of: Callable[[str], int]) -> str:
    """Break `line` before the terminal would, so that no part of a message begins at the left edge.

    `line` is our own text followed by cleaned text. `width_of` measures one character in columns. A terminal too narrow
    for text beside the marker breaks lines itself.
    """
    room = columns - 1  # the last column stays free: some terminals break after it, others before
    if room < 2 * len(CONTINUATION):
        return line
    rows: list[str] = []
    for part in line.split("\n"):
        row: list[str] = []
        used = 0
        for character in part:
            width = width_of(character)
            if used + width > room:
                cut = _last_word(row)
                rows.append("".join(row[:cut]))
                row = [*CONTINUATION, *row[cut:]]
                used = sum(map(width_of, row))
            row.append(character)
            used += width
        rows.append("".join(row))
    return "\n".join(rows)


def _last_word(row: list[str]) -> int:
    """Return where the last word begins, if that is in the second half of the row; else the end."""
    for place in range(len(row), len(row) // 2, -1):
        if row[place - 1] == " ":
            return place
    return len(row)
