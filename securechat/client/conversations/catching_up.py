"""Catching up: what the log shows, once we have read it all, of what the server said of us when we began to read.

That is above all the number of our newest submission (docs/design.md, section 6): the log counts, and the server's word
only where nothing in the log says otherwise. A number of ours that this vault does not know was used by another copy.
"""

from typing import Final

from securechat.client import events
from securechat.client.conversations import phases, roster, verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.walking import Effort
from securechat.wire.limits import MAX_COUNT

MAX_OFFERED_NUMBER: Final = MAX_COUNT >> 1
"""The highest number of our own that we take a server's word for: as many are left to count on with."""

_CLAIM: Final = (
    "The server claims that this device has said {} things here; the log, with all that is in it, shows {}. The claim "
    "is ignored."
)


def settle(conversation: Conversation) -> None:
    """If we have caught up, judge by the log what the server said of us when we began to read."""
    row, context = conversation.row, conversation.context
    if row.phase not in phases.READING or not conversation.caught_up or conversation.settled:
        return
    conversation.settled, conversation.effort = True, Effort()
    row.followed = context.clock.milliseconds()
    roster.tell_stale(conversation)
    if conversation.trail.last_number(context.device.id) is None:
        _settle_number(conversation)
    elif conversation.claimed > context.vault.outbox.last_number(row.id, row.number) and not conversation.told_claim:
        conversation.told_claim = True
        context.emit(events.Alarm("server", row.id, _CLAIM.format(conversation.claimed, row.number)))
    if context.answers.waiting(("conversation", conversation.id)):
        conversation.tell_entered("members")  # `/repair` is done


def highest_number(conversation: Conversation) -> int:
    """The highest number that an entry of our own can have behind a gap: one that we have used, or the server's.

    Nobody has signed what we do not know ourselves, so it is no more than the server's word either.
    """
    used = conversation.context.vault.outbox.last_number(conversation.id, conversation.row.number)
    return max(used, min(conversation.claimed, MAX_OFFERED_NUMBER))


def _settle_number(conversation: Conversation) -> None:
    """We have caught up, and messages of our own may have been among those that are gone: go on behind them.

    Here the server's word counts, as no log says otherwise; a number that is too high hurts nobody but us.
    """
    row, vault, number = conversation.row, conversation.context.vault, min(conversation.claimed, MAX_OFFERED_NUMBER)
    known = vault.outbox.last_number(row.id, row.number)
    row.number = max(row.number, number)
    conversation.trail.note_number(conversation.context.device.id, row.number)
    problem = "It is not known whether this message was sent."
    conversation.refuse_dropped(vault.outbox.drop_submitted(row.id, row.number), "local", problem, problem)
    conversation.void_ciphertexts()
    if conversation.staged is not None and conversation.staged.number != row.number + 1:
        conversation.unstage()
    if conversation.missed and number > known:
        verdicts.look(conversation, "old-copy", "walk")
