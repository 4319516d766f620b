"""Unopened: Welcomes that lead nowhere are told, the first few of a day in words, the others as a number.

Each is the server's word alone, it may name anybody's certificates, and ids cost it nothing.
"""

from typing import Final

from securechat.client import events
from securechat.client.context import Context

MAX_TOLD: Final = 5
"""Welcomes of one day that are told one by one: several people may have written while a copy was put back."""

DAY_SECONDS: Final = 86_400.0

_MORE: Final = "The server brings more invitations that lead nowhere than are told one by one: the others are counted."


class Unopened:
    """What was told of them in the last day, at most `MAX_TOLD` ids of 32 bytes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: set[bytes] = set()
        self._more = 0  # that were not told
        self._since: float | None = None  # when the day began

    def knows(self, conversation: bytes) -> bool:
        """Whether it was told today of a Welcome into this one."""
        self.look()
        return conversation in self._told

    def tell(self, alarm: events.Alarm) -> None:
        """Tell of one, or count it."""
        self.look()
        if self._since is None:
            self._since = self._context.clock.monotonic()
        if len(self._told) < MAX_TOLD:
            self._told.add(alarm.conversation)
            self._context.emit(alarm)
            return
        self._more += 1
        if self._more == 1:
            self._context.emit(events.Alarm("server", b"", f"{_MORE} Tell the operator of the server."))

    def look(self) -> None:
        """Tell how many were counted once their day is over."""
        if self._since is None or self._context.clock.monotonic() - self._since < DAY_SECONDS:
            return
        more, self._more, self._since = self._more, 0, None
        self._told.clear()
        if more:
            text = f"Since yesterday the server has brought {more} more invitations that lead nowhere."
            self._context.emit(events.Alarm("server", b"", text))
