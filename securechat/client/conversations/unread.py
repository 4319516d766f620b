"""Unread: a log that the server does not let us read now. It is asked again by itself (docs/design.md, section 4)."""

from securechat.client import events
from securechat.client.backoff import TOLD_SECONDS, Backoff
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.waiting import Waiting
from securechat.errors import sentence
from securechat.wire.messages import Refused


class Unread:
    """The refused subscriptions to one conversation, until the server accepts one. Lives as long as one connection."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._waiting = Waiting(conversation)
        self.backoff = Backoff(conversation.context.clock.monotonic)

    def put_off(self, refused: Refused) -> None:
        """Ask again later. The user hears of it, once, and with each command that waits, when it lasts."""
        self.backoff.wait(refused.retry_after / 1000)
        if self.backoff.lasts > TOLD_SECONDS:
            row = self._conversation.row
            text = (
                f"{row.name} cannot be read now, the server says: {sentence(refused.text)} Nothing is lost: it is "
                "tried again by itself, and what you say waits."
            )
            self._waiting.tell(events.Delayed(row.id, refused.code, text))
