"""What stands beside a conversation and is in no history: whether the server can be reached, and who types."""

from collections.abc import Callable
from math import inf
from typing import Final, Literal

from securechat.clean import clean_line
from securechat.client.events import (
    Connected,
    Disconnected,
    Ended,
    Event,
    PasswordWanted,
    Ready,
    Received,
    Typing,
    Waiting,
)
from securechat.ui.text.wording import names_of
from securechat.value import value

TYPES_FOR: Final = 10.0
"""Seconds for which somebody types who has not said again that they do."""


@value
class Connection:
    """How things stand with the server."""

    state: Literal["connecting", "connected", "ready", "waiting", "locked", "lost", "over"]
    """`connected`: we log in, or catch up. `waiting`: for a seat. `over`: we go on no more."""
    text: str
    """In a few words. One line."""


class Link:
    """The connection, as the events tell. One thread at a time."""

    def __init__(self) -> None:
        self.now = Connection("connecting", "connecting")

    def fold(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Connected():
                self.now = Connection("connected", "logging in")
            case Ready():
                self.now = Connection("ready", "connected")
            case Waiting(place=place):
                self.now = Connection("waiting", f"the server is full: place {place} in the queue")
            case PasswordWanted():
                self.now = Connection("locked", "the password is wanted: /unlock")
            case Disconnected(reason=reason):
                self.now = Connection("lost", f"no connection: {clean_line(reason)}")
            case Ended():
                self.now = Connection("over", "ended")


class Typists:
    """Who types where. One thread at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._until: dict[tuple[bytes, str], float] = {}  # conversation and account -> until when

    def fold(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Disconnected():
                self._until.clear()
            case Typing(conversation=where, account=who, typing=typing):
                self._until[where, who] = self._clock() + TYPES_FOR if typing else 0.0
            case Received(message=message):
                self._until.pop((message.conversation, message.sender), None)

    @property
    def due(self) -> float:
        """When the next one has stopped, unless they say more, by that clock; infinite: nobody types."""
        now = self._clock()
        return min((until for until in [*self._until.values()] if until > now), default=inf)

    def told(self, conversation: bytes) -> str:
        """Return who types in a conversation: "bob types"; empty: nobody does. Any thread."""
        now = self._clock()
        typing = ((where, who) for (where, who), until in [*self._until.items()] if until > now)
        names = tuple(sorted(clean_line(who) for where, who in typing if where == conversation))
        return f"{names_of(names)} {'types' if len(names) == 1 else 'type'}" if names else ""
