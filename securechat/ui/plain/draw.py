"""Events as lines of text. A message begins with its time, a notice with `--`, a warning with `!!`.

Text that others chose is cleaned here (`clean`), so that lines that begin in one of these ways are always our own.
"""

from collections.abc import Iterator
from datetime import datetime

from securechat.client.events import (
    Alarm,
    Connected,
    Conversation,
    ConversationChanged,
    Delayed,
    Disconnected,
    Ended,
    Event,
    Gap,
    Held,
    KeyAccepted,
    KeyChanged,
    LoggedIn,
    MemberList,
    Message,
    PresenceChanged,
    Refused,
    RoomList,
    SafetyNumber,
    Stopped,
    Waiting,
)
from securechat.ui.plain.clean import clean, clean_line

_TRUST_MARKS = {
    "pinned": "",
    "verified": " ✓",
    "changed": " (other key!)",
    "changed-verified": " (NOT THE VERIFIED KEY!)",
}

_PRESENCE = {"online": "is online", "offline": "has gone", "dropped": "has lost the connection"}


def notice(text: str) -> str:
    """Return a notice."""
    return f"-- {text}"


def warning(text: str) -> str:
    """Return a warning."""
    return f"!! {text}"


def title(conversation: Conversation | None) -> str:
    """Return a conversation's name: `#room` or the other account."""
    return "a conversation" if conversation is None else clean_line(conversation.name)


def message_line(message: Message, conversation: Conversation | None, now: datetime) -> str:
    """Return a message as it is shown; times are local."""
    time = datetime.fromtimestamp(message.time / 1000).astimezone() if message.time else now
    clock = f"{time:%H:%M}" if time.date() == now.date() else f"{time:%Y-%m-%d %H:%M}"
    mark = "" if message.own else _TRUST_MARKS[message.trust]
    problem = f"({clean_line(message.problem)})" if message.problem else ""
    text = " ".join(filter(None, (clean(message.text), problem)))
    return f"{clock} [{title(conversation)}] {clean_line(message.sender)}{mark}: {text}"


def first_contact(account: str) -> str:
    """Return what everybody should hear once about a new contact."""
    return notice(
        f"New contact: to be sure that {account} is who you think, compare the numbers that /safety {account} shows "
        f"both of you, by phone or face to face; then type /verify {account}."
    )


def event_lines(event: Event, conversation: Conversation | None, own: str) -> Iterator[str]:
    """Yield the lines for an event; `conversation` is the one it belongs to, `own` our account."""
    where = title(conversation)
    match event:
        case Connected():
            yield notice(f"Connected to {clean_line(event.server_name)}.")
            if event.greeting:
                yield notice(clean(event.greeting))
        case Disconnected():
            seconds = max(1, round(event.retry_in))
            yield notice(f"No connection: {clean_line(event.reason)} Trying again in {seconds} s.")
        case LoggedIn():
            yield notice(f"{'Welcome back' if event.resumed else 'Welcome'}, {clean_line(event.account)}.")
        case Waiting():
            yield notice(f"The server is full. You are number {event.place} in the queue and will be let in.")
        case Held():
            who = clean_line(event.account)
            yield warning(
                f"Your message in {where} is held: {who} now has another key. Either {who} has a new device, or "
                f"somebody sits between you. Compare /safety {who}, then /verify {who}; "
                f"/trust {who} goes on without comparing."
            )
        case KeyChanged():
            who = clean_line(event.account)
            verified = " It is not the one you had verified!" if event.was_verified else ""
            decide = f"See /safety {who}; then /verify {who} or /trust {who}."
            yield warning(f"{who} now has another key.{verified} {decide}")
        case KeyAccepted(account=account, verified=True):
            yield notice(f"{clean_line(account)} is verified. You will be warned loudly if the key ever changes.")
        case KeyAccepted(account=account):
            yield notice(
                f"The new key of {clean_line(account)} is trusted from now on; it has not been compared."
            )
        case SafetyNumber():
            yield from _safety_lines(event)
        case ConversationChanged():
            yield from _changed_lines(event, own)
        case PresenceChanged():
            yield notice(f"{clean_line(event.account)} {_PRESENCE[event.state]}.")
        case Gap():
            yield warning(f"Messages in {where} are missing here: you were away too long, and the server let them go.")
        case Alarm():
            yield warning(f"ALARM{f' in {where}' if conversation else ''}: {clean(event.text)}")
        case Stopped():
            who = clean_line(event.culprit)
            yield warning(
                f"{where} stands still: a change made by {who} cannot be processed ({clean_line(event.reason)}). "
                f"/repair tries to enter it anew; if that does not help, start a new conversation without {who}."
            )
        case RoomList(rooms=()):
            yield notice("There are no rooms yet. /join #lobby opens one.")
        case RoomList():
            for room in event.rooms:
                inside = ", you are in it" if room.joined else ""
                yield notice(f"{clean_line(room.name)}: {room.kind} room, {_people(room.members)}{inside}")
        case MemberList():
            names = (f"{clean_line(name)}{' (online)' if online else ''}" for name, online in event.members)
            yield notice(f"In {where}: {', '.join(names)}")
        case Refused() | Delayed():
            yield warning(clean(event.text))
        case Ended(error=error) if error is not None:
            yield warning(clean(str(error)))


def _safety_lines(event: SafetyNumber) -> Iterator[str]:
    who, groups = clean_line(event.account), event.number.split(" ")
    yield notice(f"Safety number of you and {who}:")
    for row in range(0, len(groups), 4):
        yield notice("    " + " ".join(groups[row : row + 4]))
    yield notice(f"If {who} sees the same digits, nobody sits between you: type /verify {who}.")


def _changed_lines(event: ConversationChanged, own: str) -> Iterator[str]:
    conversation = event.conversation
    where, who = title(conversation), clean_line(event.account)
    by_us = event.account in ("", own)
    direct = conversation.kind == "direct"
    match event.change:
        case "opened" if direct:
            asked = conversation.state == "requested"
            yield notice(f"You have asked {where} to chat." if asked else f"Your conversation with {where} is open.")
        case "opened":
            yield notice(f"You have opened the room {where}.")
        case "joined" if not by_us:
            yield notice(f"{who} has entered {where}.")
        case "joined":
            yield notice(f"You are in {where} ({_people(len(conversation.members))}). Earlier messages cannot be read.")
        case "request":
            yield notice(f"{where} asks to chat with you: /accept {where} or /decline {where}.")
        case "accepted":
            yield notice(f"You can talk with {where} now." if by_us else f"{who} has accepted.")
        case "declined":
            yield notice(f"You have declined the chat with {where}." if by_us else f"{who} has declined.")
        case "bye":
            yield notice(
                f"You have said bye to {where}; the chat ends when {where} says it too."
                if by_us
                else f"{who} has said bye. /bye ends the chat."
            )
        case "closed":
            again = f" /chat {where} asks for a new one." if direct else ""
            yield notice(f"The conversation {where} has ended.{again}")
        case "members":
            names = ", ".join(clean_line(name) for name in conversation.members)
            yield notice(f"Now in {where}{'' if by_us else f', changed by {who}'}: {names}")
        case "left" if direct and by_us:
            pass  # the user was told already that it has ended
        case "left" if direct:
            yield notice(f"{who} has left. /chat {where} asks for a new conversation.")
        case "left":
            yield notice(f"You have left {where}." if by_us else f"{who} has left {where}.")
        case "removed" if conversation.state == "closed":
            yield warning(f"You were removed from {where}{'' if by_us else f' by {who}'}.")
        case "removed":
            yield notice(f"{who} was removed from {where}.")


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"
