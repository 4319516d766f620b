"""The index of rooms by name: who may take one, and when it is free again (docs/design.md, section 6, Rules).

The name is in the rules, which all members agree on; the index follows them in the same turn. A room whose owners have
all gone keeps its people, and after a while not its name. A new name must not look like that of another room
(`lookalikes`); those that are there are not judged again.
"""

from collections.abc import Callable, Iterable
from typing import Final

from securechat.errors import RefusedError, UsageError
from securechat.identity.site_key import SiteKey
from securechat.lookalikes import check_new_room, likeness
from securechat.policy import Rules
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Checked
from securechat.server.store.port import ConversationStore
from securechat.server.store.records import Head

NAME_MILLISECONDS: Final = 90 * 86_400_000
"""How long a room keeps its name after the newest commit by one of its owners: 90 days. Honest owners commit weekly."""

SPARE_NAMES: Final = 1000
"""Names noted beyond twice those there were at the last look: what rooms have given up takes 300 KB at most."""


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
        self._ownerless_alike = {likeness(name): name for name in sorted(ownerless)}
        self._alike: dict[str, set[str]] = {}  # names by class of look-alikes; one that was given up may still be here
        self._most = 0  # names that are noted before those that were given up are forgotten
        self._index()

    def claim(self, rules: Rules, room: bytes) -> None:
        """Make sure that `room` can have the name in these rules. Raises RefusedError, having changed nothing."""
        name, owned = rules.name, bool(rules.owners)
        if owned and name in self._ownerless:
            raise RefusedError("ownerless", f"the operator has named {name}: it is open, and belongs to nobody")
        if not owned and name not in self._ownerless:
            raise RefusedError("not-allowed", f"whoever opens {name} has to be its owner")
        if not owned and rules.site_key not in (key.public for key in self._site_keys()):
            raise RefusedError("not-allowed", f"the rules of {name} do not name the site key of this server")
        if owned:
            self._check_look(name)
        for conversation in self._in_the_way(name, room, alike=owned):
            self._conversations.touch(conversation)
            conversation.head.name = ""
            self._store.save_room(conversation.head)
        self._note(name)

    def _check_look(self, name: str) -> None:
        """Whether a room that people make may be called so at all."""
        try:
            check_new_room(name)
        except UsageError as error:
            raise RefusedError("not-allowed", str(error)) from None
        if (other := self._ownerless_alike.get(likeness(name))) is not None:
            raise RefusedError("not-allowed", f"{name} looks like the operator's room {other}; choose another name")

    def _in_the_way(self, name: str, room: bytes, *, alike: bool) -> list[Conversation]:
        """Return abandoned rooms of this name, or of one that looks like it. Raises RefusedError if one is in use."""
        found: list[Conversation] = []
        names = self._alike.get(likeness(name), set())
        for other in [each for each in names if each == name or alike]:
            holder = self._store.room(other)
            if holder is None:  # it has another name by now, or is gone
                names.discard(other)
                continue
            conversation = self._conversations.get(holder)
            if conversation is not None and self._is_abandoned(conversation.head.owner_time):
                found.append(conversation)
            elif other == name:
                raise RefusedError("exists", f"there is a room {name}")
            elif holder != room:
                # Which one is not for everybody to know: it may be a room for invited people.
                raise RefusedError("not-allowed", f"{name} looks like the name of another room; choose another one")
        return found

    def _index(self) -> None:
        """Note the names that there are: at the start, and whenever as many have come again, and some more."""
        self._alike.clear()
        names = self._store.room_names()
        self._most = 2 * len(names) + SPARE_NAMES
        for name in names:
            self._note(name)

    def _note(self, name: str) -> None:
        if name in self._alike.get(likeness(name), ()):
            return
        self._most -= 1
        if self._most < 0:
            self._index()
        self._alike.setdefault(likeness(name), set()).add(name)

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
            self._note(rules.name)
        head.topic = rules.topic
        if checked.by_owner:
            head.owner_time = checked.time
        self._store.save_room(head)

    def _is_abandoned(self, owner_time: int) -> bool:
        return 0 < owner_time < self._turn.age - NAME_MILLISECONDS
