"""Notices: what is told beside the screen of something new, for whoever looks elsewhere.

Whether one comes, and how much it says, is what the user prefers (`client.preferences`). Its text is one line, clean
and short: it goes to a terminal's title bar, or to a desktop that others can see.
"""

from collections.abc import Callable
from datetime import datetime, time
from typing import Final

from securechat.clean import clean_line
from securechat.client.events import ConversationChanged, Event, Invited, Received
from securechat.client.message import Message
from securechat.client.preferences import HOURS, Preference
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.view.rows import mentions
from securechat.value import value

MAX_TEXT: Final = 100
"""Characters of a notice: two lines of a small window."""


@value
class Notification:
    """What is told. Both texts are one clean line."""

    title: str
    text: str


NEW: Final = Notification("securechat", "Something new")


def notification(
    event: Event,
    conversation: ConversationSnapshot | None,
    account: str,
    now: datetime,
    prefers: Callable[[Preference], str],
) -> Notification | None:
    """Return what is told of an event, to `account`, at the local time `now`; None: nothing.

    `conversation`: in which it has happened, if it is one that is known. `prefers`: what is preferred elsewhere.
    """
    told = _told(event, conversation, account)
    if told is None:
        return None
    if conversation is not None:
        prefers = conversation.prefers
    level = prefers("notify")
    if level == "none" or is_quiet(prefers("quiet"), now.time()):
        return None
    who, short, long = told
    if level == "new":
        return NEW
    return Notification(_short(who), _short(long if level == "text" else short))


def is_quiet(hours: str, now: time) -> bool:
    """Whether a local time is within hours such as 22:00-07:00."""
    found = HOURS.fullmatch(hours)
    if found is None:
        return False
    begin, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    return begin <= now < end if begin <= end else now >= begin or now < end


def _told(
    event: Event, conversation: ConversationSnapshot | None, account: str
) -> tuple[str, str, str] | None:
    """Return who it is of, and what is said of it, shorter and longer."""
    match event:
        case Received(message=message):
            return _of_message(message, conversation, account)
        case ConversationChanged(change="request"):
            asks = "asks to chat with you"
            return event.conversation.name, asks, asks
        case Invited(invitation=invitation):
            return invitation.inviter, "invites you", f"invites you to {invitation.name}"
    return None


def _of_message(
    message: Message, conversation: ConversationSnapshot | None, account: str
) -> tuple[str, str, str] | None:
    if message.own or (conversation is not None and conversation.state == "request"):
        return None  # a request was told as what it is
    mentioned = mentions(message.text, account)
    room = conversation is not None and conversation.kind != "direct"
    if room and conversation is not None and conversation.prefers("notify-of") == "mentions" and not mentioned:
        return None
    where = f" in {conversation.name}" if room and conversation is not None else ""
    short = f"has mentioned you{where}" if mentioned else f"has written{where}"
    return f"{message.sender}{where}", short, message.text or short


def _short(text: str) -> str:
    row = " ".join(clean_line(text).split())
    return row if len(row) <= MAX_TEXT else f"{row[: MAX_TEXT - 1]}…"
