"""Why what is said in a conversation waits: told to each command that waits, and once where none does."""

import math
from dataclasses import replace
from typing import Final

from securechat.client import events
from securechat.client.answers import Key
from securechat.client.backoff import TOLD_SECONDS, Backoff
from securechat.client.conversations import standstill
from securechat.client.conversations.conversation import Conversation
from securechat.errors import sentence
from securechat.wire.messages import Refused

_OTHER_NUMBER: Final = (
    "The server insists that this device has said something else in {} than the log shows. What you say waits, and is "
    "tried again; if it stays like this, /repair rejoins."
)

_EXPIRED: Final = (
    "What you say in {} waits: this device's key has to be renewed first, which takes your password. /rotate does it, "
    "and you can read meanwhile."
)

_REVOKED: Final = (
    "What you say in {} waits: this device was revoked by another program with your identity key. /rotate brings it "
    "back, if that was not you."
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

    def tell_long(self, refused: Refused, backoff: Backoff) -> None:
        """Tell that the server puts us off, if that lasts: a budget is used up, for example."""
        if backoff.lasts > TOLD_SECONDS:
            row, minutes = self._conversation.row, math.ceil(refused.retry_after / 60_000)
            text = (
                f"{row.name} has to wait, the server says: {sentence(refused.text)} Nothing is lost: what waits is "
                f"tried again by itself{f', next in {minutes} min' if minutes else ''}."
            )
            self.tell(events.Delayed(row.id, refused.code, text))

    def tell_other_number(self, number: int) -> None:
        """The server expects another number than ours: what counts is the log. Tell if it insists."""
        if self._refused_number == number:
            row, self._conversation.misnumbered = self._conversation.row, True
            self.tell(events.Delayed(row.id, "wrong-number", _OTHER_NUMBER.format(row.name)))
        self._refused_number = number

    def tell_expired(self) -> None:
        """Our certificate has run out: nobody would take what we say before it is renewed."""
        row = self._conversation.row
        self.tell(events.Delayed(row.id, "local", _EXPIRED.format(row.name)))

    def tell_revoked(self) -> None:
        """Our identity key has revoked this device, and not by our hand: only the user can say that it goes on."""
        row = self._conversation.row
        self.tell(events.Delayed(row.id, "local", _REVOKED.format(row.name)))

    def tell_denied(self) -> None:
        """The server says that we are not in it. If we were removed the log says so; whoever wanted to leave is out."""
        conversation = self._conversation
        if conversation.row.closed:
            standstill.deny(conversation)
        else:
            self.tell(events.Delayed(conversation.id, "not-found", standstill.DENIED.format(conversation.row.name)))

    def over(self) -> None:
        """Nothing waits any more."""
        self._told, self._newest = False, 0
