"""Marking: we tell the others how far we have received and read what they have said (docs/content.md, Marks).

A mark is sent when nothing else is to be: it makes no commit, waits for nobody and holds nothing back. What comes
between, another epoch or a refusal, takes it away, and a later one says more. Whoever would not get our words gets no
marks either.
"""

from typing import Final

from securechat import policy
from securechat.client.context import Context
from securechat.client.conversations import evidence, holds
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.marks import MAX_MARKING
from securechat.client.vault.outbox import OutboxRow
from securechat.content.envelope import decode
from securechat.content.registry import Marks

GATHER_SECONDS: Final = 1.0
"""How long we wait for more to say: what is shown as soon as it comes was received and read."""

PERIOD_SECONDS: Final = 5.0
"""Between two marks of ours in one conversation, at least."""

AT_ONCE: Final = 30
PER_SECOND: Final = 0.5
"""Our marks in all conversations, at once and in the long run: far less than the server lets an account say."""

PUT_OFF_SECONDS: Final = 60.0
"""After a refusal of the server, at least."""


class Marking:
    """What is to be told, in all conversations of one client. Lives as long as the client."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._due: dict[bytes, float] = {}  # conversation -> when there is something to tell there (monotonic seconds)
        self._ripe: set[bytes] = set()  # conversations in which that time has come
        self._free: dict[bytes, float] = {}  # conversation -> when we may tell something there again
        self._tokens, self._counted = float(AT_ONCE), context.clock.monotonic()

    @property
    def timer(self) -> float | None:
        """When to call `ripen`, on the monotonic clock."""
        return min(self._due.values(), default=None)

    def ripen(self) -> set[bytes]:
        """Time has passed. Return the conversations in which something can be told now."""
        now = self._context.clock.monotonic()
        self._ripe |= (ripe := {conversation for conversation, due in self._due.items() if due <= now})
        for conversation in ripe:
            del self._due[conversation]
        return ripe

    def end(self) -> None:
        """The connection is gone."""
        self._due.clear()
        self._ripe.clear()

    def next(self, conversation: Conversation) -> Marks | None:
        """Return what to tell now. Requires that nothing waits to be said there, and nothing is on its way."""
        now, here = self._context.clock.monotonic(), conversation.id
        mark = self._owed(conversation)
        if mark is None:
            self._due.pop(here, None)
            self._ripe.discard(here)
            return None
        if here not in self._ripe:
            self._due.setdefault(here, max(now + GATHER_SECONDS, self._free.get(here, 0.0)))
            return None
        self._ripe.discard(here)
        self._tokens = min(AT_ONCE, self._tokens + (now - self._counted) * PER_SECOND)
        self._counted = now
        if self._tokens < 1:
            self._due[here] = now + (1 - self._tokens) / PER_SECOND
            return None
        self._tokens -= 1
        self._free[here] = now + PERIOD_SECONDS
        return mark

    def put_off(self, conversation: Conversation, seconds: float) -> None:
        """The server has refused a mark: tell nothing there for so long."""
        self._free[conversation.id] = self._context.clock.monotonic() + max(seconds, PUT_OFF_SECONDS)

    def may_tell(self, conversation: Conversation) -> bool:
        """Whether the user wants to tell anything there: one that was not sent yet must not go out against that."""
        row = conversation.row
        if row.closed or row.asked or conversation.is_unheard or not 1 < len(row.members) <= MAX_MARKING:
            return False
        return self._context.preferences.get("send-marks", conversation.scope) == "on"

    def _owed(self, conversation: Conversation) -> Marks | None:
        """Return what the others do not know, if it is to be told and nothing stands against it."""
        row = conversation.row
        read = max(row.seen, row.told_read)
        if row.theirs <= row.told_delivered and read <= row.told_read:
            return None
        if not (self.may_tell(conversation) and may_speak(conversation)):
            return None
        return Marks(max(row.theirs, read), read)


def may_speak(conversation: Conversation) -> bool:
    """Whether something said now would go out without a commit, a question or a wait."""
    row, context = conversation.row, conversation.context
    fresh = 0 <= context.clock.milliseconds() - row.path_time < context.parts.timing.path_milliseconds
    return fresh and not context.device.is_expired(context.clock.seconds()) and nobody_in_doubt(conversation)


def nobody_in_doubt(conversation: Conversation) -> bool:
    """Whether no key, device or history of those who are there stands against telling them anything."""
    row, public = conversation.row, conversation.group.public
    return (
        not conversation.departed
        and not (conversation.words and policy.rules_due(public, conversation.words))
        and not evidence.disputed(conversation)
        and not (row.kind == "direct" and conversation.absent)
        and row.roster >= row.returned
        and holds.reads_freely(conversation)
    )


def told(conversation: Conversation, item: OutboxRow) -> None:
    """Our mark is in the log."""
    row, body = conversation.row, decode(item.content).body
    if isinstance(body, Marks):
        row.told_delivered, row.told_read = max(row.told_delivered, body.delivered), max(row.told_read, body.read)
