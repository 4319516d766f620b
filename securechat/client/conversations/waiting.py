"""Why what is said in a conversation waits: told to each command that waits, and once where none does."""

import math
from dataclasses import replace
from typing import Final

from securechat.client import events
from securechat.client.answers import Key
from securechat.client.conversations.conversation import DENIED, Conversation
from securechat.wire.messages import Refused

TOLD_SECONDS: Final = 10.0
"""A wait that the server asks for is told if it is longer: nobody notices a shorter one."""

_OTHER_NUMBER: Final = (
    "The server insists that this device has said something else in {} than the log shows. What you say waits, and is "
    "tried again; if it stays like this, /repair rejoins."
)


class Waiting:
    """What the user knows of one conversation's waiting."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._told = False
        self._refused_number = 0
        self._newest = 0  # item of the outbox that had been said when it was told

    def tell(self, event: events.Held | events.Delayed | events.Unreachable) -> None:
        """Tell what is waited for to all that was said since that was told."""
        context, first = self._conversation.context, not self._told
        items = context.vault.outbox.ids(self._conversation.id, after=self._newest)
        keys: list[Key] = [("conversation", self._conversation.id)] if first else []
        keys += [("change", change.id) for change in context.vault.changes.load(self._conversation.id) if first]
        keys += [("item", item) for item in items]
        waiting = [command for key in keys if (command := context.answers.waiting(key))]
        told = event in self._conversation.told_absent
        for command in waiting or ([0] if first and not told else []):
            context.emit(replace(event, command=command))
        self._told, self._newest = True, max(items, default=self._newest)

    def tell_long(self, refused: Refused) -> None:
        """Tell that the server wants us to try again later, if it is much later: a budget is used up, for example."""
        seconds = refused.retry_after / 1000
        if seconds > TOLD_SECONDS:
            row, minutes = self._conversation.row, math.ceil(seconds / 60)
            text = (
                f"{row.name} has to wait, the server says: {refused.text}. Nothing is lost: what waits is tried again "
                f"by itself, next in {minutes} min."
            )
            self.tell(events.Delayed(row.id, refused.code, text))

    def tell_other_number(self, number: int) -> None:
        """The server expects another number than ours: what counts is the log. Tell if it insists."""
        if self._refused_number == number:
            row, self._conversation.misnumbered = self._conversation.row, True
            self.tell(events.Delayed(row.id, "wrong-number", _OTHER_NUMBER.format(row.name)))
        self._refused_number = number

    def tell_denied(self) -> None:
        """The server says that we are not in it. If we were removed the log says so; whoever wanted to leave is out."""
        conversation = self._conversation
        if conversation.row.closed:
            conversation.deny()
        else:
            self.tell(events.Delayed(conversation.id, "not-found", DENIED.format(conversation.row.name)))

    def over(self) -> None:
        """Nothing waits any more."""
        self._told, self._newest = False, 0
