"""How a sentence is made: names that others chose, days and counts, as people write them."""

import time
from datetime import UTC, datetime
from typing import Final, Literal

from securechat.clean import clean_line
from securechat.client.snapshot import ConversationSnapshot
from securechat.value import value

MAX_NAMED: Final = 20
"""People named in one sentence: what a screen holds."""

NAMES: Final = 10
"""Names shown in a row: more would be a screen of them."""

_UNITS: Final = ("kB", "MB", "GB", "TB")


@value
class Sentence:
    """Something said to the user. Its text is clean, and may have several lines."""

    kind: Literal["notice", "warning", "alarm"]
    """`warning`: should be read twice. `alarm`: somebody did what honest ones do not."""
    text: str


def notice(text: str) -> Sentence:
    """Return what is plainly told."""
    return Sentence("notice", text)


def warning(text: str) -> Sentence:
    """Return what should be read twice."""
    return Sentence("warning", text)


def alarm(text: str) -> Sentence:
    """Return what tells that somebody did what honest ones do not."""
    return Sentence("alarm", f"ALARM: {text}")


def title(conversation: ConversationSnapshot | None) -> str:
    """Return a conversation's name: `#room`, its second title, or the other account."""
    return "a conversation" if conversation is None else clean_line(conversation.name)


def in_words(conversation: ConversationSnapshot | None) -> str:
    """Return a conversation as a sentence names it, behind "in" for example: "#room", or "the chat with bob"."""
    direct = conversation is not None and conversation.kind == "direct"
    return f"the chat with {title(conversation)}" if direct else title(conversation)


def people(count: int) -> str:
    """Return how many they are, in words."""
    return "1 person" if count == 1 else f"{count} people"


def names_of(accounts: tuple[str, ...]) -> str:
    """Return names in a row, of many the first ones."""
    shown = ", ".join(clean_line(account) for account in accounts[:NAMES])
    more = len(accounts) - NAMES
    return f"{shown} and {more} more" if more > 0 else shown or "nobody"


def day_of(milliseconds: int) -> str:
    """Return the day of a time (ms since 1970), here."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
    return f"{moment.day} {moment:%b %Y}"


def moment_of(milliseconds: int) -> str:
    """Return the day and minute of a time (ms since 1970), here."""
    return time.strftime("%d %b %Y, %H:%M", time.localtime(milliseconds / 1000))


def life_of(seconds: int) -> str:
    """Return how long messages live, in days or hours."""
    count, unit = (seconds // 86_400, "day") if seconds % 86_400 == 0 else (-(-seconds // 3600), "hour")
    return f"{count} {unit}{'' if count == 1 else 's'}"


def size_of(count: int) -> str:
    """Return a number of bytes as people write it, in powers of a thousand: "1 byte", "68 kB", "1.4 GB"."""
    if count < 1000:
        return "1 byte" if count == 1 else f"{count} bytes"
    value, unit = count / 1000, 0
    while value >= 999.5 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if value < 9.95 else f"{value:,.0f} {_UNITS[unit]}"
