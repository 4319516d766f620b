"""The index of rooms by name: who may take one, and when it is free again (docs/design.md, section 6, Rules).

The name is in the rules, which all members agree on; the index follows them in the same turn. A room whose owners have
all gone keeps its people, and after a while not its name.
"""

from collections.abc import Callable, Iterable
from typing import Final

from securechat.errors import RefusedError
from securechat.identity.site_key import SiteKey
from securechat.policy import Rules
from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Checked
from securechat.server.store.port import ConversationStore
from securechat.server.store.records import Head

NAME_MILLISECONDS: Final = 90 * 86_400_000
"""How long a room keeps its name after the newest commit by one of its owners: 90 days. Honest owners commit weekly."""


class RoomNames:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        conversations: Conversations,
        ownerless: frozenset[str],
        site_keys: Callable[[], Iterable[SiteKey]],
    ) -> None:
        """`ownerless`: the rooms that the operator names; they belong to nobody, and a site key is in their rules."""
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._ownerless = ownerless
        self._site_keys = site_keys

    def claim(self, rules: Rules) -> None:
        """Make sure that a room of these rules can have its name. Raises RefusedError, having changed nothing."""
        name, owned = rules.name, bool(rules.owners)
        if owned and name in self._ownerless:
            raise RefusedError("ownerless", f"the operator has named {name}: it is open, and belongs to nobody")
        if not owned and name not in self._ownerless:
            raise RefusedError("not-allowed", f"whoever opens {name} has to be its owner")
        if not owned and rules.site_key not in (key.public for key in self._site_keys()):
            raise RefusedError("not-allowed", f"the rules of {name} do not name the site key of this server")
        holder = self._store.room(name)
        if holder is None:
            return
        conversation = self._conversations.get(holder)
        if conversation is None or not self._is_abandoned(conversation.head.owner_time):
            raise RefusedError("exists", f"there is a room {name}")
        self._conversations.touch(conversation)
        conversation.head.name = ""
        self._store.save_room(conversation.head)

    def refuse_unknown(self, name: str) -> RefusedError:
        """Return the refusal for a room that does not exist; it says whether whoever makes it will own it."""
        if name in self._ownerless:
            return RefusedError("ownerless", f"nobody has opened {name} yet; it belongs to nobody")
        return RefusedError("not-found", f"there is no open room {name}")

    def follow(self, head: Head, checked: Checked) -> None:
        """Note what a commit that was just accepted makes of the room, whose new name has been claimed."""
        before, rules = checked.before, checked.rules
        if rules.name != before.name:
            head.name = rules.name
        head.topic = rules.topic
        if checked.by_owner:
            head.owner_time = checked.time
        self._store.save_room(head)

    def _is_abandoned(self, owner_time: int) -> bool:
        return 0 < owner_time < self._turn.time - NAME_MILLISECONDS
