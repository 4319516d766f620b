"""Bounds: how much waits for the user's answer, of one inviter and in all, and what gives way to more of it.

Accounts cost little, and keys nothing: so whom the user knows is never displaced by whom they do not.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.content.registry import INVITATION_DAYS
from securechat.identity.pins import WRITTEN_TO
from securechat.policy import Identity

WAIT_MILLISECONDS: Final = INVITATION_DAYS * 86_400_000
"""How long a Welcome waits for its invitation, and both for an answer."""

MAX_OF_INVITER: Final = 20
"""Welcomes, and invitations, of one inviter that wait; an older one gives way. Nobody has more rooms for one friend."""

MAX_WAITING: Final = 200
"""Welcomes, and invitations, that wait in all. Beyond that, an inviter whom the user does not know is not kept."""

MAX_WAITING_BYTES: Final = 64 << 20
"""Bytes of the Welcomes that wait: the largest one takes 0.6 MB."""


class RegistryPort(Protocol):
    """What the bounds need of the set of conversations."""

    def __iter__(self) -> Iterator[Conversation]:
        """All conversations, oldest first."""

    def forget(self, request: Conversation) -> None:
        """Delete a request that nobody has answered, with what was said in it."""


class Bounds:
    """What waits for an answer, counted."""

    def __init__(self, context: Context, registry: RegistryPort) -> None:
        self._context = context
        self._registry = registry
        self._vault = context.vault.invitations
        self.dropped = 0
        """Welcomes, invitations and requests not kept because too many wait."""

    def has_room_for(
        self, who: Identity, size: int, load: Callable[[], list[tuple[Any, Identity, int]]], drop: Callable[[Any], None]
    ) -> bool:
        """Make room for one more of an inviter's, of so many bytes; say whether there is any.

        `load` returns what waits, oldest first: what to `drop` it by, its inviter and its bytes.
        """
        while True:
            waiting = load()
            theirs = [each for each, inviter, _ in waiting if inviter == who]
            strangers = Counter(inviter for _, inviter, _ in waiting if not self.knows(inviter))
            if len(theirs) >= MAX_OF_INVITER:
                oldest = theirs[0]
            elif len(waiting) < MAX_WAITING and sum(used for *_, used in waiting) + size <= MAX_WAITING_BYTES:
                return True
            elif not strangers or not self.knows(who):
                self.dropped += 1
                return False
            else:  # whoever has most of it gives way
                ((loudest, _),) = strangers.most_common(1)
                oldest = next(each for each, inviter, _ in waiting if inviter == loudest)
            drop(oldest)
            self.dropped += 1

    def has_room_for_request(self, who: Identity) -> bool:
        """Say whether one more private conversation of somebody's is kept. Requests that ended unanswered give way:
        accounts cost little, and keys nothing."""
        if self._context.pins.standing(*who) != "unknown":
            return True
        if self._vault.refuses(who):
            self.dropped += 1
            return False
        asking = [each for each in self._registry if each.row.asked == "theirs"]
        over = [each for each in asking if each.row.phase in phases.ENDED]
        for oldest in over[: max(0, len(asking) - MAX_WAITING + 1)]:
            asking.remove(oldest)
            self._registry.forget(oldest)
        theirs = sum(each.row.name == who.account and each not in over for each in asking)
        kept = theirs < MAX_OF_INVITER and len(asking) < MAX_WAITING
        self.dropped += not kept
        return kept

    def knows(self, who: Identity) -> bool:
        """Whether the user has accepted this key, whatever has come from it."""
        return self._context.pins.standing(*who) in WRITTEN_TO
