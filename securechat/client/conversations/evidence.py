"""Evidence: what a member's other history proves, and what it holds (docs/design.md, section 6, Evidence).

A member who saw another history than we is marked, and so is the line: the server shows people different histories, or
that member's program is at fault, and nobody can tell which. So one member alone mutes no room. Reading never stops for
this; sending waits where the others are few or their word is worth something, until the user has compared.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

from securechat.client import events
from securechat.client.conversations.conversation import Conversation
from securechat.identity.certificate import DeviceCertificate
from securechat.policy import Identity, Kind, rules_of

Weight = Literal["stranger", "member", "owner"]
"""Of somebody who contradicts. `member`: had an entry in our own log before, so was in it; `owner`: owns the room."""

MEMBERS: Final = 2
"""Members who were in before the disputed entry, and contradict: one could lie alone, and new ones cost nothing."""

DOUBT: Final = "the server, or {}: another history"
"""What a line is marked with."""


def holds(kind: Kind, contradictions: Iterable[str]) -> bool:
    """Whether what we say waits, because of those who contradict our history; each by its `Weight`."""
    if kind == "open":
        return False
    found = Counter(contradictions)
    if kind == "direct":
        return bool(found)
    return bool(found["owner"]) or found["member"] >= MEMBERS


def disputed(conversation: Conversation) -> bool:
    """Whether what we say waits, since others saw another history, until the user has compared."""
    return holds(conversation.row.kind, conversation.doubts.values())


def contradicted(conversation: Conversation, who: DeviceCertificate, seq: int) -> None:
    """A member saw another history than we up to the entry `seq`: mark them, and tell it once a session."""
    context, account, held = conversation.context, who.account, disputed(conversation)
    weight: Weight = "stranger"
    if Identity.of(who) in rules_of(conversation.group.public.extensions).owners:
        weight = "owner"
    elif conversation.trail.last_number(who.device_id) is not None:
        weight = "member"
    if conversation.doubts.get(account) != weight:
        conversation.doubts[account] = weight
        context.vault.doubts.add(conversation.id, account, weight)
    if ("history", conversation.id, account) in context.alarmed and held == disputed(conversation):
        return
    context.alarmed.add(("history", conversation.id, account))
    advice = "What is said is read and marked; compare with the others in some other way."
    if disputed(conversation):
        advice += " What you say here waits; /repair sends it all the same."
    text = (
        f"{account} saw another history than you up to entry {seq}: the server shows people different histories, "
        f"or the program of {account} is at fault. {advice}"
    )
    context.emit(events.Alarm("history", conversation.id, text))


def forget(conversation: Conversation) -> None:
    """The user has compared, or our history begins anew."""
    context, doubts = conversation.context, conversation.doubts
    context.alarmed.difference_update(("history", conversation.id, account) for account in doubts)
    doubts.clear()
    context.vault.doubts.clear(conversation.id)
