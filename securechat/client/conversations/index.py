"""The conversations of one client: each by its id, by the id that it had at first, and by its name or title."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.errors import UsageError

_TITLE_DIGITS: Final = 4
"""Hexadecimal digits of a room's id in its second title: people tell few rooms apart by them."""


class Index:
    """The set of conversations, oldest first."""

    def __init__(self) -> None:
        self._conversations: dict[bytes, Conversation] = {}
        self._named: dict[str, list[Conversation]] = {}  # by name, oldest first
        self._indexed: dict[bytes, str] = {}  # conversation -> the name that it is under
        self._aliases: dict[bytes, bytes] = {}  # our own first ids -> the ids that replaced them

    def __iter__(self) -> Iterator[Conversation]:
        """All conversations, oldest first."""
        return iter(self._conversations.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._conversations)

    @property
    def aliases(self) -> Mapping[bytes, bytes]:
        """Ids of our own making, and what came to be in their place."""
        return self._aliases

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""
        while conversation not in self._conversations and conversation in self._aliases:
            conversation = self._aliases[conversation]
        return self._conversations.get(conversation)

    def wanted(self, conversation: bytes) -> Conversation:
        """Return a conversation that a command names. Raises `UsageError`."""
        found = self.get(conversation)
        if found is None:
            raise UsageError("There is no such conversation.")
        return found

    def named(self, name: str) -> list[Conversation]:
        """Return all conversations of this name (`#room` or account), oldest first."""
        return self._named.get(name, [])

    def find(self, name: str) -> Conversation | None:
        """Return the conversation of this name or title that counts (`ConversationSnapshot.outranks`)."""
        best: Conversation | None = None
        room = name[1:].rpartition("~")[0] if name.startswith("##") else name
        for each in self.named(room):
            if each.title == name and (best is None or each.snapshot().outranks(best.snapshot())):
                best = each
        return best

    def keep(self, conversation: Conversation) -> Conversation:
        """Add a conversation under the id that it has."""
        self._conversations[conversation.id] = conversation
        self._named.setdefault(conversation.row.name, []).append(conversation)
        self._indexed[conversation.id] = conversation.row.name
        return conversation

    def entitle(self, conversation: Conversation, *, renamed: bool = False) -> None:
        """Give a room that has got its name now a second title, if another one goes by that name here.

        Whoever types the name means the room that they know by it; the second title stays when that one is left. A
        name that the user brought here, by a new room, is free once the older room is over; one that comes by
        `renamed` is not, as nobody has asked for it.
        """
        row = conversation.row
        row.title = ""
        others = [each for each in self._named[row.name] if each is not conversation and (renamed or not each.is_over)]
        if row.kind == "direct" or all(each.row.title for each in others):
            return
        digits, taken = row.id.hex(), {each.row.title for each in others}
        titles = (f"#{row.name}~{digits[:length]}" for length in range(_TITLE_DIGITS, len(digits) + 1))
        row.title = next(title for title in titles if title not in taken)  # ids are of one length, and differ

    def follow_name(self, conversation: Conversation) -> None:
        """Find a renamed conversation under its new name alone."""
        old, new = self._indexed[conversation.id], conversation.row.name
        if new != old:
            self._named[old].remove(conversation)
            self._named.setdefault(new, []).append(conversation)
            self._indexed[conversation.id] = new
            self.entitle(conversation, renamed=True)
            if conversation.row.title:
                conversation.tell("namesake", new)

    def meant(self, conversation: Conversation, group: bytes) -> Conversation:
        """Return the conversation that an offer of a group concerns: that group's, or one of the same name, or ours."""
        if (known := self._conversations.get(group)) is not None:
            return known
        row = conversation.row
        others = (each for each in self._named[row.name] if each.row.phase in phases.INSIDE and not each.row.closed)
        return next(others, conversation)

    def has_older_unleft(self, conversation: Conversation) -> bool:
        """Whether we are still on our way out of an older conversation of the same name."""
        older = itertools.takewhile(lambda each: each is not conversation, self._named[conversation.row.name])
        return any(each.row.closed and each.row.phase in phases.LEAVABLE for each in older)

    def at(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by the id that it has now."""
        return self._conversations.get(conversation)

    def take_out(self, conversation: Conversation, heir: bytes = b"") -> None:
        """Know a conversation no more; `heir`: by whose id it is found from now on."""
        del self._conversations[conversation.id]
        self._named[self._indexed.pop(conversation.id)].remove(conversation)
        if heir:
            self._aliases[conversation.id] = heir
