"""What becomes of a message after it was said: edits, deletions, reactions (docs/content.md).

Each is a message of its own, and counts in the order of the log, ours as well: so all come to the same, if they have
the message that it is about. What decides is in the log:

    edit        by the identity key that has said it, of a text, an action or a reply
    delete      by the same, or by an owner of the room under the rules of that epoch
    reaction    by anybody who is in it; so many under a message, and of each (`vault.history`). Under a key against
                what the user has decided it counts for nothing: a chip has an account's name, and no sign of its key
    reply       by anybody; it is a line, and shows what it answers if that is here

What may not be, or names what there has never been, is kept as a line that says so. Where a message is not here, since
we came later, or it has gone in its time or lies before a gap, an edit is told; of the others there is nothing to show.
"""

from typing import Final

from securechat import policy
from securechat.client import events
from securechat.client.conversations.conversation import Conversation
from securechat.client.vault.history import Target
from securechat.content.registry import Delete, Edit, Name, Reaction, is_editable, is_message
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.pins import AGAINST
from securechat.policy import Identity
from securechat.value import value

NEVER: Final = "This is about a message that there has never been, and counts for nothing."
_NOT_THEIRS: Final = "This would {} a message of somebody else, and counts for nothing."
_NO_TEXT: Final = "This would change a message that has no text to change, and counts for nothing."
_ABSENT: Final = "This changes a message that is not here."

Amendment = Edit | Delete | Reaction


@value
class Act:
    """One of them, as it came in the log."""

    body: Amendment
    by: DeviceCertificate
    time: int
    """Of its entry, in milliseconds since 1970."""
    since: int
    """When its life begins (`history.life_from`)."""
    doubt: str = ""
    """What contradicts its sender's history."""
    hidden: bool = False
    """Whether the user wants to see nothing of its sender here."""
    command: int = 0
    """Ours that it carries out."""


def find(conversation: Conversation, about: Name, by: bytes, number: int) -> Target | str | None:
    """Return the line that is named in message `number` of the device `by`; NEVER: there is none. None: not here."""
    newest = number - 1 if about.device == by else conversation.trail.last_number(about.device)
    if about.number == 0 or (newest is not None and about.number > newest):
        return NEVER
    found = conversation.context.vault.history.named(conversation.id, about)
    return NEVER if found is not None and not is_message(found.kind) else found


def carry_out(conversation: Conversation, act: Act, target: Target | str | None) -> str:
    """Do what somebody wants done to a line. Return why not, if there is a line to say so; else an empty text."""
    if isinstance(target, str):
        return target
    if target is None:
        return _ABSENT if isinstance(act.body, Edit) else ""
    match act.body:
        case Reaction():
            if not target.deleted_by:
                _react(conversation, act, act.body, target)
        case Edit(text=text):
            if not _is_theirs(target, act.by):
                return _NOT_THEIRS.format("change")
            if target.deleted_by:
                return ""
            if target.problem or not is_editable(target.kind):
                return _NO_TEXT
            _edit(conversation, act, text, target)
        case Delete():
            if not (_is_theirs(target, act.by) or owns(conversation, Identity.of(act.by))):
                return _NOT_THEIRS.format("delete")
            if not target.deleted_by:
                _unshare(conversation, target)
                message = conversation.context.vault.history.delete(target.local_id, act.by.account)
                _tell(conversation, target, events.Deleted(message, command=act.command))
    return ""


def owns(conversation: Conversation, who: Identity) -> bool:
    """Whether somebody is an owner of a room, by the rules of its present epoch."""
    rules = policy.rules_of(conversation.group.public.extensions)
    return rules.kind != "direct" and who in rules.owners


def name_of(conversation: Conversation, local_id: int) -> Name | None:
    """Return how others know one of our conversation's lines; None: they do not, or it is another one's.

    A line that waits has its number once it is encrypted, and nothing behind it is before.
    """
    vault = conversation.context.vault
    found = vault.history.target(local_id)
    if found is None or found.conversation != conversation.id:
        return None
    number = vault.outbox.number_of(local_id) if found.waits else found.number
    return Name(found.device, number) if number else None


def _is_theirs(target: Target, who: DeviceCertificate) -> bool:
    """Whether somebody has said something: their key has. Of an older vault's lines it is known whose device it was."""
    if target.author:
        return target.author == who.identity_key
    return (target.account, target.device) == (who.account, who.device_id)


def _unshare(conversation: Conversation, target: Target) -> None:
    """Note a file of ours that goes: nobody is to fetch it any more."""
    context = conversation.context
    file = context.vault.history.file(target.local_id) if target.own else None
    if file is not None and file.blob:
        context.vault.transfers.unshare(conversation.id, file.blob)
        context.unshared = True


def _edit(conversation: Conversation, act: Act, text: str, target: Target) -> None:
    history, life = conversation.context.vault.history, conversation.row.life
    before = history.message(target.local_id).text
    trust = conversation.context.pins.standing(act.by.account, act.by.identity_key)
    message = history.edit(target.local_id, text, act.time, trust=trust, doubt=act.doubt, since=act.since, life=life)
    _tell(conversation, target, events.Edited(message, before, command=act.command))


def _react(conversation: Conversation, act: Act, body: Reaction, target: Target) -> None:
    history, by = conversation.context.vault.history, act.by
    if body.act == "add":
        if conversation.context.pins.standing(by.account, by.identity_key) in AGAINST:
            return
        changed = history.react(
            target.local_id, body.text, by.account, by.identity_key,
            hidden=act.hidden, since=act.since, life=conversation.row.life,
        )  # fmt: skip
    else:
        changed = history.unreact(target.local_id, body.text, by.identity_key)
    if changed and not act.hidden:
        message = history.message(target.local_id)
        _tell(conversation, target, events.Reacted(message, by.account, body.text, body.act, command=act.command))


def _tell(conversation: Conversation, target: Target, event: events.Event) -> None:
    if not target.hidden:
        conversation.context.emit(event)
