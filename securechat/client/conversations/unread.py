"""Unread: a log that the server does not let us read now. It is asked again by itself (docs/design.md, section 4)."""

from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.waiting import TOLD_SECONDS, Waiting
from securechat.wire.messages import Refused


class Unread:
    """The refused subscriptions to one conversation, until the server accepts one. Lives as long as one connection."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._clock = conversation.context.clock.monotonic
        self._since = self._clock()
        self._waiting = Waiting(conversation)
        self.backoff = Backoff(self._clock)

    def put_off(self, refused: Refused) -> None:
        """Ask again later. The user hears of it, once, and with each command that waits, when it lasts."""
        seconds = self.backoff.wait(refused.retry_after / 1000)
        if self._clock() + seconds - self._since > TOLD_SECONDS:
            row = self._conversation.row
            text = (
                f"{row.name} cannot be read now, the server says: {refused.text}. Nothing is lost: it is tried again "
                "by itself, and what you say waits."
            )
            self._waiting.tell(events.Delayed(row.id, refused.code, text))
