"""Rows and sentences as lines of text. A message begins with its time, a notice with `--`, a warning with `!!`.

What is drawn is clean; here it is kept from looking like a line of its own, so that lines that begin in one of
these ways are always our own. What a message answers stands above it, and what is under it below, in lines that begin
in ways of their own, too. What happens to a message that is on the screen already is told in a line that says which.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from securechat.ui.text.trust import beside
from securechat.ui.text.wording import Sentence, names_of, size_of
from securechat.ui.view.rows import Line, Shared, local_time

CONTINUATION: Final = "      ┃ "
"""Begins every line of a text but its first, so that none of them can look like a line of its own."""

ABOVE: Final = "      ╭ "
"""Begins what a message answers."""

BELOW: Final = "      ╰ "
"""Begins what others have put under it."""

_ADDRESS: Final = re.compile(r"(?<!\S)https?://[A-Za-z0-9._~:/?#@$&'()*+,;=%-]+(?!\S)")
"""One of the web, of the characters of RFC 3986 without those by which our own lines begin."""

BRIEF: Final = 60
"""Characters of a message that are quoted to tell which is meant."""

WHY_NO_QUOTE: Final = {
    "absent": "a message that is not here",
    "deleted": "a message that was deleted",
    "ignored": "somebody whom you ignore",
    "unreadable": "a message that cannot be shown",
}

_SORTS: Final = {"attachment": "file", "image": "picture", "voice": "voice note"}

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


def message_line(line: Line, where: str, now: datetime, *, number: int = 0, fate: bool = False) -> str:
    """Return a message as it is shown, with its conversation's title; times are local.

    `number`: put before it. `fate`: with what became of it, if it is our own.
    """
    written = f"(written {_when(local_time(line.written), local_time(line.time))})" if line.written else ""
    edited = "(edited)" if line.edited else ""
    became = f"({state})" if fate and not line.deleted_by and (state := became_of(line)) else ""
    first = f"{f'{number}) ' if number else ''}{_first(line, line.time, where, now, written, edited, became)}"
    return "\n".join(filter(None, (_above(line), first, _below(line))))


def became_of(line: Line) -> str:
    """Return what became of a line of our own; empty where there is nothing to say."""
    if line.delivery in ("received", "not sent"):
        return ""  # its problem says why
    if line.recipients > 1 and line.delivery != "waiting":
        if line.read:
            return f"read by {line.read} of {line.recipients}"
        if line.delivered:
            return f"delivered to {line.delivered} of {line.recipients}"
    return line.delivery


def sent_line(line: Line, where: str) -> str:
    """Return what is shown once a message is sent that was shown as waiting."""
    return notice(f"Sent in {where} at {local_time(line.time):%H:%M}: {brief(line.text)}")


def edited_line(line: Line, before: str, where: str, now: datetime) -> str:
    """Return what is shown once a message has another text; `before` is the old one, clean."""
    return f"{ABOVE}{brief(before)}\n{_first(line, line.edited, where, now, '(edited)')}"


def deleted_line(line: Line, where: str, account: str) -> str:
    """Return what is shown once a message has gone, to `account`. It says nothing of what that was."""
    whose = "what you said" if line.own else f"what {line.sender} said"
    if line.deleted_by == line.sender:
        whose = "something that you said" if line.own else "something that they said"
    who = "You have" if line.deleted_by == account else f"{line.deleted_by} has"
    return notice(f"{who} deleted {whose} in {where} at {local_time(line.time):%H:%M}.")


def reacted_line(line: Line, who: str, text: str, where: str, *, removed: bool) -> str:
    """Return what is shown once somebody, an account or you, has put a text under a message; both are clean."""
    whose = "you" if line.own else line.sender
    act = "took back" if removed else "put"
    return notice(f"In {where}, {who} {act} {text} under what {whose} said: {brief(line.text)}")


def brief(text: str) -> str:
    """Return the beginning of a text as one line, by which one knows which is meant."""
    row = " ".join(text.split())
    return row if len(row) <= BRIEF else f"{row[: BRIEF - 1]}…"


def _first(line: Line, at: int, where: str, now: datetime, *remarks: str) -> str:
    """Return a message without what is above and below it."""
    time = local_time(at) if at else now
    clock = f"{time:%H:%M}" if time.date() == now.date() else f"{time:%Y-%m-%d %H:%M}"
    sender = line.sender if line.own else beside(line.sender, line.trust)
    sender += " @you" if line.mentioned else ""
    gone = f"deleted by {line.deleted_by}" if line.deleted_by else ""
    said = (*remarks, *(f"({each})" for each in (line.doubt, line.problem, gone) if each))
    text = " ".join(filter(None, (_hang(_said(line)), *said)))
    return f"{clock} [{where}] * {sender} {text}" if line.action else f"{clock} [{where}] {sender}: {text}"


def _said(line: Line) -> str:
    """Return the text of a message; of one that brings a file, what that is."""
    if (file := line.file) is None:
        return line.text
    return f"[{what_it_is(file)}] {file.name}{f': {file.description}' if file.description else ''}"


def what_it_is(file: Shared) -> str:
    """Return what somebody shares, in short: "picture, 1200 x 800, 68 kB", "voice note, 0:15"."""
    if file.disposition == "voice" and file.milliseconds:
        minutes, seconds = divmod(file.milliseconds // 1000, 60)
        return f"voice note, {minutes}:{seconds:02}"
    sides = f"{file.width} x {file.height}, " if file.disposition == "image" and file.width and file.height else ""
    return f"{_SORTS[file.disposition]}, {sides}{size_of(file.size)}"


def _above(line: Line) -> str:
    if (answers := line.answers) is None:
        return ""
    if answers.state:
        return f"{ABOVE}{WHY_NO_QUOTE[answers.state]}"
    who = beside(answers.sender, answers.trust)
    return f"{ABOVE}{who}{' (edited)' if answers.edited else ''}: {brief(answers.text)}"


def _below(line: Line) -> str:
    if not line.reactions:
        return ""
    return BELOW + " · ".join(f"{each.text} {names_of(each.accounts)}" for each in line.reactions)


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
    for text beside the marker breaks lines itself. So does any with an address that fits into no row: what it has
    broken can be copied as one, and an address cannot look like a line of ours.
    """
    room = columns - 1  # the last column stays free: some terminals break after it, others before
    if room < 2 * len(CONTINUATION):
        return line
    rows: list[str] = []
    for part in line.split("\n"):
        end = 0
        for found in _ADDRESS.finditer(part):
            if len(found[0]) > room - len(CONTINUATION) and "--" not in found[0]:
                before = part[end : found.start()].strip(" ")
                if before.strip(CONTINUATION):
                    rows += _broken(part[:found.start()] if not end else CONTINUATION + before, room, width_of)
                rows.append(found[0])
                end = found.end()
        if not end:
            rows += _broken(part, room, width_of)
        elif rest := part[end:].strip(" "):
            rows += _broken(CONTINUATION + rest, room, width_of)
    return "\n".join(rows)


def words_of(text: str) -> Iterator[str]:
    """Yield the words of a line, each with the spaces behind it."""
    start = 0
    while start < len(text):
        end = text.find(" ", start)
        if end < 0:
            yield text[start:]
            return
        while end < len(text) and text[end] == " ":
            end += 1
        yield text[start:end]
        start = end


def _broken(text: str, room: int, width_of: Callable[[str], int]) -> Iterator[str]:
    row: list[str] = []
    used = 0
    for character in text:
        width = width_of(character)
        if used + width > room:
            cut = _last_word(row)
            yield "".join(row[:cut])
            row = [*CONTINUATION, *row[cut:]]
            used = sum(map(width_of, row))
        row.append(character)
        used += width
    yield "".join(row)


def _last_word(row: list[str]) -> int:
    """Return where the last word begins, if that is in the second half of the row; else the end."""
    for place in range(len(row), len(row) // 2, -1):
        if row[place - 1] == " ":
            return place
    return len(row)
