"""Marks of others: how far each member has received and read what we have said (docs/content.md, Marks).

Each is cumulative, and of each member the newest counts: none goes back, whatever comes again or out of turn, from a
restored vault, or from a second device of the same key. A line of ours counts for how many people it was meant, and how
many of them have it and have read it; whoever comes in later has nothing to do with it, and whoever goes stays counted.
"""

from typing import Final

from securechat.client import events
from securechat.client.conversations.conversation import Conversation
from securechat.client.message import NO_MARK, Mark
from securechat.content.registry import Marks
from securechat.identity.certificate import DeviceCertificate

MAX_MARKING: Final = 30
"""Members of a conversation up to which marks are sent, and count: each line costs each of them a message."""


def take(conversation: Conversation, sender: DeviceCertificate, body: Marks, reached: int) -> bool:
    """Take what somebody says of themselves, who had come as far as entry `reached`. Return whether it can be true."""
    if not 0 < body.delivered <= reached or body.read > body.delivered:
        return False
    context, row = conversation.context, conversation.row
    if sender.account == context.device.account or len(row.members) > MAX_MARKING:
        return True
    whose = (sender.account, sender.identity_key)
    before = conversation.marks.get(whose, NO_MARK)
    after = Mark(max(before.delivered, body.delivered), max(before.read, body.read))
    if after != before:
        conversation.set_mark(whose, after)
        context.vault.history.mark(conversation.id, before, after)
        if context.preferences.get("show-marks", conversation.scope) == "on" and not conversation.is_unheard:
            context.emit(events.Marked(conversation.id, sender.account, *after))
    return True


def note_newcomers(conversation: Conversation, newcomers: set[tuple[str, bytes]]) -> None:
    """Whoever has come in has nothing to do with what was said before, even if they were here once."""
    row = conversation.row
    few = len(row.members) <= MAX_MARKING
    for account, key in {person[:2] for person in row.persons} if few else newcomers:
        before = conversation.marks.get((account, key))
        if before is None and not few:
            continue  # once there are few, what they have is noted then
        if account != conversation.context.device.account and (before is None or (account, key) in newcomers):
            before = before or NO_MARK
            after = Mark(max(before.delivered, row.cursor), max(before.read, row.cursor))
            conversation.set_mark((account, key), after)


def recipients(conversation: Conversation) -> int:
    """Return for how many people what we say now is meant, of whom marks count; 0: there are too many."""
    others = len(set(conversation.row.members) - {conversation.context.device.account})
    return others if others < MAX_MARKING else 0
