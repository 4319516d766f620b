"""What is said of events: the one place where an event becomes words, for every face.

A sentence is a value; how it looks is the face's business. Whatever others chose is cleaned where its words are made.
"""

from collections.abc import Iterator

from securechat.clean import clean, clean_line
from securechat.client.events import (
    Alarm,
    Connected,
    Delayed,
    Disconnected,
    Ended,
    Event,
    Held,
    LoggedIn,
    Notice,
    PasswordWanted,
    PreferenceChanged,
    Refused,
    Unreachable,
    Waiting,
)
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.text import account, contacts, conversations, files, invitations, keys, links
from securechat.ui.text.states import preferred, why_held, why_password, why_unreachable
from securechat.ui.text.wording import Sentence, in_words, notice, title, warning


def sentences(event: Event, conversation: ConversationSnapshot | None, own: str) -> Iterator[Sentence]:
    """Yield what is said of an event; messages are not said but shown.

    `conversation`: the one that the event is about, if any. `own`: our account.
    """
    where = title(conversation)
    yield from _said(event, conversation)
    yield from account.said(event, own)
    yield from keys.said(event, where, own)
    yield from contacts.said(event)
    yield from links.said(event)
    yield from invitations.said(event, where)
    yield from conversations.said(event, conversation, own)
    yield from files.said(event, where)


def _said(event: Event, conversation: ConversationSnapshot | None) -> Iterator[Sentence]:
    match event:
        case Connected():
            yield notice(f"Connected to {clean_line(event.server_name)}.")
            if event.greeting:
                yield notice(f"The server's greeting: {clean(event.greeting)}")
        case Notice():
            yield notice(f"The server's operator says: {clean(event.text)}")
        case Disconnected():
            yield notice(f"No connection: {clean_line(event.reason)} Tried again by itself; /reconnect tries now.")
        case LoggedIn():
            yield notice(f"Welcome, {clean_line(event.account)}.")
        case PasswordWanted():
            yield warning(why_password(event))
        case Waiting():
            yield notice(f"The server is full. You are number {event.place} in the queue and will be let in.")
        case PreferenceChanged():
            yield notice(preferred(event, conversation))
        case Held():
            yield warning(why_held(event, conversation))
        case Unreachable():
            yield warning(why_unreachable(event, conversation))
        case Alarm():
            where = f" in {in_words(conversation)}" if conversation else ""
            yield Sentence("alarm", f"ALARM{where}: {clean(event.text)}")
        case Refused(message=None, code=code) if code != "local":
            yield warning(f"The server says: {clean(event.text)}")
        case Refused(message=None) | Delayed():
            yield warning(clean(event.text))
        case Ended(error=error) if error is not None:
            yield warning(clean(str(error)))
