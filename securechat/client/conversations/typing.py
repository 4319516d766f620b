"""Typing: that somebody writes, told to those who are there now, and kept nowhere (docs/content.md, Typing)."""

from typing import Final

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.ephemerals import STOPPED, TYPES, Ephemerals, Said
from securechat.client.conversations.marking import may_speak
from securechat.client.conversations.marks import MAX_MARKING
from securechat.identity.certificate import DeviceCertificate

PERIOD_SECONDS: Final = 3.0
"""Between two that say the same, at least."""


class Typing:
    """Who types where. Lives as long as the client; nothing of it is stored."""

    def __init__(self, context: Context, ephemerals: Ephemerals) -> None:
        self._context = context
        self._ephemerals = ephemerals
        self._told: dict[bytes, tuple[bool, float]] = {}  # conversation -> what was sent last, and when (monotonic)

    def end(self) -> None:
        """The connection is gone."""
        self._told.clear()

    def tell(self, conversation: Conversation, *, typing: bool) -> None:
        """Tell the others that the user types, or has stopped; not too often, and none who would not get the words."""
        context, now, row = self._context, self._context.clock.monotonic(), conversation.row
        said, when = self._told.get(conversation.id, (False, -PERIOD_SECONDS))
        if (typing == said and (not typing or now - when < PERIOD_SECONDS)) or row.phase not in phases.READING:
            return
        if not conversation.caught_up or conversation.is_unheard or row.closed or row.asked:
            return
        if not 1 < len(row.members) <= MAX_MARKING or not may_speak(conversation):
            return
        if context.preferences.get("send-typing", conversation.scope) != "on" or not conversation.group.can_sign:
            return
        self._told[conversation.id] = typing, now
        self._ephemerals.say(conversation, TYPES if typing else STOPPED)

    def take(self, conversation: Conversation, person: DeviceCertificate, said: Said) -> None:
        """Tell the user that somebody types, or has stopped."""
        if self._context.preferences.get("show-typing", conversation.scope) == "on":
            self._context.emit(events.Typing(conversation.id, person.account, said.act == TYPES))
