"""Freshness: when an owner has last signed the state that we are in (docs/design.md, section 6, Freshness).

A server can show somebody who was away a state without its latest changes, and nobody can prove that there is a newer
one. But owners commit at least weekly, and a commit says when it was made, by its maker's clock. So what no owner has
signed for two weeks is marked. Rooms without owners, and direct conversations, have no such mark.
"""

from typing import Final

from securechat.client import events
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.numbers import decode_time
from securechat.identity.certificate import certificate_of
from securechat.mls.public_group import PublicStagedCommit
from securechat.policy import Identity, rules_of

MARK_MILLISECONDS: Final = 14 * 86_400_000
"""Time after which a state that no owner has signed is marked: two weeks, so that an owner may be away for one."""

_TOLD: Final = "unconfirmed"


def note_commit(conversation: Conversation, commit: PublicStagedCommit) -> None:
    """A commit has come into force: if an owner made it, it confirms what came before. Raises `PeerError`."""
    time = min(decode_time(commit.authenticated_data), conversation.context.clock.milliseconds())
    if Identity.of(certificate_of(commit.committer)) in rules_of(commit.before.extensions).owners:
        conversation.row.confirmed = max(conversation.row.confirmed, time)
        conversation.context.alarmed.discard((_TOLD, conversation.id))


def owes_commit(conversation: Conversation) -> bool:
    """Whether we own the room: then others wait for our weekly commit."""
    device = conversation.context.device
    return Identity(device.account, device.identity_key) in rules_of(conversation.group.public.extensions).owners


def look(conversation: Conversation) -> None:
    """Tell, once a session, that no owner has confirmed the room for long."""
    context = conversation.context
    since = unconfirmed_since(conversation)
    if since and (_TOLD, conversation.id) not in context.alarmed:
        context.alarmed.add((_TOLD, conversation.id))
        context.emit(events.Unconfirmed(conversation.id, since))
    conversation.unconfirmed = since


def unconfirmed_since(conversation: Conversation) -> int:
    """Return when an owner has last signed the room's state (ms), if that is too long ago; else 0."""
    confirmed, now = conversation.row.confirmed or conversation.row.created, conversation.context.clock.milliseconds()
    if now - confirmed <= MARK_MILLISECONDS or conversation.row.kind == "direct":
        return 0
    owned = bool(rules_of(conversation.group.public.extensions).owners)
    return confirmed if owned and not owes_commit(conversation) else 0  # an owner confirms it by coming back


def due(conversation: Conversation) -> int:
    """Return when the next of this comes by the clock alone: our commit, or the mark (ms); 0: nothing does."""
    row, now = conversation.row, conversation.context.clock.milliseconds()
    if row.kind == "direct" or not rules_of(conversation.group.public.extensions).owners:
        return 0
    mark = (row.confirmed or row.created) + MARK_MILLISECONDS
    times = [mark] if mark > now else []
    if owes_commit(conversation):
        times.append(row.path_time + conversation.context.parts.timing.path_milliseconds)
    return min(times, default=0)
