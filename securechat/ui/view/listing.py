"""The conversation list: what each conversation is, its newest line, and how much of it has not been seen.

Read once, then kept by the events. What something was said in last comes first.
"""

from collections.abc import Iterable
from itertools import chain, count

from securechat.client.events import (
    Conversation,
    ConversationChanged,
    Delivered,
    Event,
    KeyAccepted,
    KeyChanged,
    Message,
    Received,
    Refused,
    Said,
    Trust,
)
from securechat.ui.text.clean import clean_line
from securechat.ui.text.sentences import title
from securechat.ui.view.reads import Reads
from securechat.ui.view.rows import NOWHERE, Item, Line, Place, line_of, place_of


class Listing:
    """All conversations. One thread at a time."""

    def __init__(self, reads: Reads) -> None:
        """Read what there is."""
        self._reads = reads
        self._trust = reads.trust()
        self._unread = reads.unread_counts()  # conversation -> how many, and the newest line that was counted
        self._conversations: dict[bytes, Conversation] = {}
        self._newest: dict[bytes, Line] = {}
        self._newest_place: dict[bytes, Place] = {}
        self._rank: dict[bytes, int] = {}  # the greater, the later something happened
        self._items: dict[bytes, Item] = {}  # made when they are asked for
        for conversation in reads.conversations():
            self._conversations[conversation.id] = conversation
            self._read_newest(conversation.id)
            newest = self._newest.get(conversation.id)
            self._rank[conversation.id] = newest.local_id if newest is not None else 0  # given out as lines arrive
        self._next_rank = count(max(self._rank.values(), default=0) + 1)

    @property
    def items(self) -> tuple[Item, ...]:
        """The list, closed conversations included."""
        ranked = sorted(self._conversations, key=lambda each: self._rank.get(each, 0), reverse=True)
        return tuple(self._item(each) for each in ranked)

    @property
    def names(self) -> tuple[str, ...]:
        """Rooms and people one may want to name, each once: those talked with last first, then members of rooms."""
        others = (clean_line(name) for each in self._conversations.values() for name in each.members)
        own = clean_line(self._reads.account)
        return tuple(dict.fromkeys(name for name in chain((each.title for each in self.items), others) if name != own))

    def unread(self, conversation: bytes) -> int:
        """Return how many lines of others in a conversation have not been seen."""
        return self._unread.get(conversation, (0, 0))[0]

    def see(self, conversation: bytes) -> None:
        """Note that the user has seen all there is of a conversation."""
        _, counted = self._unread.get(conversation, (0, 0))
        self._unread[conversation] = (0, counted)
        self._items.pop(conversation, None)

    def fold(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Received(message=message):
                self._receive(message)
                self._touch(message.conversation)
            case Said(message=message):
                self._note_own(message)
                self._touch(message.conversation)
            case Delivered(message=message) | Refused(message=Message() as message):
                self._note_own(message)
            case ConversationChanged(conversation=conversation):
                self._change(conversation, by_us=event.account in ("", self._reads.account))
                if event.change in ("opened", "request"):
                    self._touch(conversation.id)
            case KeyChanged(account=account, was_verified=was_verified):
                self._note_trust(account, "changed-verified" if was_verified else "changed")
            case KeyAccepted(account=account, verified=verified):
                self._note_trust(account, "verified" if verified else "pinned")

    def _receive(self, message: Message) -> None:
        where = message.conversation
        if not self._knows(where):
            return
        unread, counted = self._unread.get(where, (0, 0))
        if not message.own and message.local_id > counted:
            self._unread[where] = (unread + 1, message.local_id)
        if place_of(message) > self._newest_place.get(where, NOWHERE):
            self._keep_newest(message)

    def _note_own(self, message: Message) -> None:
        """Read the newest line: ours moves when it is accepted, and then another may be the newest."""
        if self._knows(message.conversation):
            self._read_newest(message.conversation)

    def _knows(self, conversation: bytes) -> bool:
        if conversation not in self._conversations:
            found = self._reads.conversation(conversation)
            if found is None or found.id != conversation:
                return False  # it has another id now, and is listed under that
            self._conversations[conversation] = found
        return True

    def _change(self, conversation: Conversation, *, by_us: bool) -> None:
        self._conversations[conversation.id] = conversation
        self._items.pop(conversation.id, None)
        if by_us:  # what we open or enter may take the place of another, and the lines of it
            for each in list(self._conversations):
                found = self._reads.conversation(each)
                if found is None or found.id != each:
                    self._conversations.pop(each)
                    self._items.pop(each, None)
            if conversation.id in self._conversations:
                self._read_newest(conversation.id)

    def _touch(self, conversation: bytes) -> None:
        self._rank[conversation] = next(self._next_rank)

    def _note_trust(self, account: str, trust: Trust) -> None:
        self._trust[account] = trust
        self._items.clear()

    def _read_newest(self, conversation: bytes) -> None:
        self._newest.pop(conversation, None)
        self._newest_place.pop(conversation, None)
        self._items.pop(conversation, None)
        for message in self._reads.history(conversation, 1):
            self._keep_newest(message)

    def _keep_newest(self, message: Message) -> None:
        self._newest[message.conversation] = line_of(message)
        self._newest_place[message.conversation] = place_of(message)
        self._items.pop(message.conversation, None)

    def _item(self, conversation: bytes) -> Item:
        if conversation not in self._items:
            known = self._conversations[conversation]
            self._items[conversation] = Item(
                conversation,
                title(known),
                known.kind,
                known.state,
                len(known.members),
                self.unread(conversation),
                self._newest.get(conversation),
                self._trust_in(each for each in known.members if each != self._reads.account),
            )
        return self._items[conversation]

    def _trust_in(self, others: Iterable[str]) -> Trust:
        """Return the least trust that any of the others has."""
        found = {self._trust.get(each, "pinned") for each in others}
        worst: tuple[Trust, ...] = ("changed-verified", "changed", "pinned", "verified")
        return next((each for each in worst if each in found), "pinned")
