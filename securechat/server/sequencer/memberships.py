"""In how many conversations an account may be, and how many rooms there may be that it has made.

Counted where somebody comes in by an act of their own: founds, opens, joins. Where others add them, the others pay.
"""

from typing import Final

from securechat.errors import RefusedError
from securechat.server.store.port import ConversationStore
from securechat.wire.limits import MAX_SUBSCRIPTIONS

MAX_MEMBERSHIPS: Final = MAX_SUBSCRIPTIONS - 1
"""Conversations of one account: as many as one connection can read beside its inbox."""

MAX_FOUNDED: Final = 500
"""Rooms that there are and that one account has founded: a teacher's whole life, a bot's year."""


def check_memberships(store: ConversationStore, account: str) -> None:
    """Raise RefusedError if an account cannot come into another conversation."""
    if store.count_memberships(account) >= MAX_MEMBERSHIPS:
        text = f"you are in {MAX_MEMBERSHIPS:,} conversations, which is the most: leave one of them first"
        raise RefusedError("not-allowed", text)


def check_founded(store: ConversationStore, account: str) -> None:
    """Raise RefusedError if an account cannot found another room."""
    if store.count_founded(account) >= MAX_FOUNDED:
        text = f"there are {MAX_FOUNDED} rooms that you have made, which is the most: one ends when the last one leaves"
        raise RefusedError("not-allowed", text)
