"""Typing: that somebody writes, told to those who are there now, and kept nowhere (docs/content.md, Typing).

Where there is a direct link to the other one, it goes by that, and the server sees nothing of it.
"""

from typing import Final

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.ephemerals import STOPPED, TYPES, Ephemerals, Said
from securechat.client.conversations.linking import Linking
from securechat.client.conversations.marking import may_speak
from securechat.client.conversations.marks import MAX_MARKING
from securechat.client.direct.links import Type
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.pins import AGAINST

PERIOD_SECONDS: Final = 3.0
"""Between two that say the same, at least."""


class Typing:
    """Who types where. Lives as long as the client; nothing of it is stored."""

    def __init__(self, context: Context, ephemerals: Ephemerals, linking: Linking) -> None:
        self._context = context
        self._ephemerals = ephemerals
        self._linking = linking
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
        if link := self._linking.up_with(conversation.id):
            context.link_orders.append(Type(link, typing))
        else:
            self._ephemerals.say(conversation, TYPES if typing else STOPPED)

    def take(self, conversation: Conversation, person: DeviceCertificate, said: Said) -> None:
        """Somebody says that they type, or have stopped. It is shown by their name, so not under another key."""
        if self._context.pins.standing(person.account, person.identity_key) not in AGAINST:
            self._show(conversation, person.account, typing=said.act == TYPES)

    def take_directly(self, link: bytes, *, typing: bool) -> None:
        """The other side of a direct link says the same."""
        if (conversation := self._linking.conversation_of(link)) is not None:
            self._show(conversation, conversation.row.name, typing=typing)

    def _show(self, conversation: Conversation, account: str, *, typing: bool) -> None:
        if self._context.preferences.get("show-typing", conversation.scope) == "on":
            self._context.emit(events.Typing(conversation.id, account, typing))
