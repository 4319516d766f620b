"""Why what is said in a conversation waits: told once, and again in answer to whatever is said later."""

from dataclasses import replace

from securechat.client import events
from securechat.client.conversations.conversation import Conversation


class Waiting:
    """What the user knows of one conversation's waiting."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._told = False
        self._newest = 0  # item of the outbox that had been said when it was told

    def tell(self, command: int, event: events.Held | events.Delayed) -> None:
        """Tell what is waited for, unless nothing was said since that was told. `command`: what waits longest, or 0."""
        context = self._conversation.context
        newest = context.vault.outbox.newest(self._conversation.id)
        first = not self._told
        if not first and newest == self._newest:
            return
        self._told, self._newest = True, newest
        waiting = (command if first else 0, context.answers.waiting(("item", newest)))
        for each in dict.fromkeys(filter(None, waiting)) or ([0] if first else []):
            context.emit(replace(event, command=each))

    def over(self) -> None:
        """Nothing waits any more."""
        self._told = False
