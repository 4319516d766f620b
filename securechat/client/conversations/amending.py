"""What the user wants done about a message: whether it makes sense, and the body that says it to all.

What others would refuse (`amendments`) is refused here with the reason, a `UsageError`, before anything is sent. What
may change until it is in the log is looked at again there; which message is meant, goes into the body when that is
encrypted.
"""

import unicodedata
from collections.abc import Callable
from typing import Final

from securechat.client.context import Context
from securechat.client.conversations import amendments, phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.vault.history import MAX_REACTIONS_EACH, Target
from securechat.content.registry import (
    MAX_REACTION,
    NAMELESS,
    Body,
    Delete,
    Edit,
    Reaction,
    Reply,
    check_text,
    is_editable,
    is_message,
)
from securechat.errors import UsageError
from securechat.policy import Identity

_NOT_YOURS: Final = "That message is not yours."
_OLD_KEY: Final = "You said that under another key of this account: with this one it cannot be changed."


def reply(context: Context, local_id: int, text: str) -> tuple[Target, Body]:
    """Return the line that is answered, and what says so."""
    return _find(context, local_id), Reply(text, NAMELESS)


def edit(context: Context, local_id: int, text: str) -> tuple[Target, Body]:
    """Return the line whose text becomes another one, and what says so."""
    line = _find(context, local_id)
    _check_own(context, line)
    if not is_editable(line.kind):
        raise UsageError("That message has no text to change.")
    if not text:
        raise UsageError("Nothing would be left of it: delete it instead.")
    check_text(text)
    if text == context.vault.history.message(local_id).text:
        raise UsageError("It says that already.")
    return line, Edit(text, NAMELESS)


def delete(context: Context, local_id: int, get: Callable[[bytes], Conversation]) -> tuple[Target, Body]:
    """Return the line that goes, and what says so: one of ours, or anybody's in a room that we own."""
    line = _find(context, local_id)
    own = Identity(context.device.account, context.device.identity_key)
    if line.own or not _owns(get(line.conversation), own):
        _check_own(context, line)
    return line, Delete(NAMELESS)


def react(context: Context, local_id: int, text: str, *, remove: bool) -> tuple[Target, Body]:
    """Return the line under which a reaction is put, or from where it is taken back, and what says so."""
    line = _find(context, local_id)
    if not text or any(each.isspace() for each in text) or unicodedata.category(text[0])[0] in "CM":
        raise UsageError("A reaction is one emoji or one short word, such as 👍 or +1.")
    if len(text) > MAX_REACTION:
        raise UsageError(f"A reaction has at most {MAX_REACTION} characters: say it in a reply.")
    check_text(text)
    there = context.vault.history.reactions_of(local_id, context.device.identity_key)
    if (text in there) != remove:
        raise UsageError("You have put no such reaction there." if remove else "You have put that there already.")
    if not remove and len(there) >= MAX_REACTIONS_EACH:
        raise UsageError(f"You have put {MAX_REACTIONS_EACH} reactions there: take one back first.")
    return line, Reaction(text, NAMELESS, "remove" if remove else "add")


def _find(context: Context, local_id: int) -> Target:
    """Return the line that is meant, if others know it."""
    found = context.vault.history.target(local_id)
    if found is None:
        raise UsageError("That message is not here any more.")
    if not is_message(found.kind):
        raise UsageError("That line is no message: nothing can be done about it.")
    if found.deleted_by:
        raise UsageError("That message was deleted.")
    if found.waits and found.problem:
        raise UsageError("That message was not sent: say it again.")
    if not (found.waits or found.number):
        raise UsageError("That message is too old: it has no name by which others know it.")
    return found


def _owns(conversation: Conversation, who: Identity) -> bool:
    """Whether we may delete what others have said, as far as we know now."""
    return conversation.row.phase in phases.READING and amendments.owns(conversation, who)


def _check_own(context: Context, line: Target) -> None:
    if not line.own:
        raise UsageError(_NOT_YOURS)
    if line.author and line.author != context.device.identity_key:
        raise UsageError(_OLD_KEY)
