"""The conversation list: what each conversation is, its newest line, and how much of it has not been seen.

What a conversation is comes from the core's snapshot; what was said in it is read once, and then kept current by the
events. The one in which something was said last comes first.
"""

from collections.abc import Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Final

from securechat.clean import clean_line
from securechat.client.events import (
    Blocked,
    ConversationChanged,
    Delivered,
    Disconnected,
    Event,
    Expired,
    Ignored,
    Marked,
    PresenceChanged,
    Received,
    Refused,
    Said,
    Trust,
    Unread,
)
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.text.states import absent, unconfirmed
from securechat.ui.text.trust import TRUST, as_listed
from securechat.ui.text.wording import title
from securechat.ui.view.rows import Item, line_of, mentions, place_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


LOOK_FOR_MENTIONS: Final = 200
"""Unread lines of a conversation that are looked through, the oldest first: more than anybody reads at once."""


def names_in(client: "ChatClient", titles: Sequence[str] = ()) -> tuple[str, ...]:
    """Return rooms and people one may want to name, each once: `titles`, conversations, who has invited us where, and
    members. Any thread."""
    there = client.conversations()
    invited = [name for each in client.invitations() for name in (each.name, each.inviter)]
    named = chain(titles, map(title, there), invited, (name for each in there for name in each.members))
    own = clean_line(client.account)
    return tuple(dict.fromkeys(name for name in map(clean_line, named) if name != own))


class Listing:
    """All conversations. One thread at a time."""

    def __init__(self, client: "ChatClient") -> None:
        """Read what there is."""
        self._client = client
        self._unread = client.unread_counts()  # conversation -> how many, and the newest line that was counted
        self._newest: dict[bytes, Message | None] = {}  # read when they are asked for
        self._ranks = {each.id: self._local_id_of_newest(each.id) for each in client.conversations()}
        self._next_rank = count(max(self._ranks.values(), default=0) + 1)
        self._items: dict[bytes, tuple[ConversationSnapshot, Item]] = {}  # made when they are asked for
        self._mentioned: dict[bytes, bool] = {}  # read when it is asked for
        self._online: set[str] = set()  # accounts

    @property
    def items(self) -> tuple[Item, ...]:
        """The list, closed conversations included. What happened to a conversation is in it before it is told."""
        now = self._client.conversations()
        now.sort(key=lambda each: self._ranks.get(each.id, 0), reverse=True)
        return tuple(map(self._item, now))

    @property
    def names(self) -> tuple[str, ...]:
        """Rooms and people one may want to name, each once: those talked with last first, then members of rooms."""
        return names_in(self._client, [each.title for each in self.items])

    def unread(self, conversation: bytes) -> int:
        """Return how many lines of others in a conversation have not been seen."""
        return self._unread.get(conversation, (0, 0))[0]

    def counted(self, conversation: bytes) -> int:
        """Return the local id of the newest line of others that was counted in a conversation; 0: none was."""
        return self._unread.get(conversation, (0, 0))[1]

    def see(self, conversation: bytes) -> None:
        """Note that the user has seen all there is of a conversation."""
        _, counted = self._unread.get(conversation, (0, 0))
        self._unread[conversation] = (0, counted)
        self._mentioned[conversation] = False
        self._items.pop(conversation, None)

    def fold(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Received(message=message):
                self._receive(message)
                self._rise(message.conversation)
            case Said(message=message):
                self._forget_newest(message.conversation)
                self._rise(message.conversation)
            case Delivered(message=message) | Refused(message=Message() as message):
                self._forget_newest(message.conversation)  # it moves, and then another may be the newest
            case ConversationChanged(conversation=conversation, change=change):
                by_us = event.account in ("", self._client.account)
                if by_us:
                    self._forget_newest(conversation.id)  # lines may have moved here or away
                if change in ("opened", "request") or (by_us and change == "joined"):
                    self._rise(conversation.id)
            case Marked(conversation=where):
                self._forget_newest(where)
            case Unread(conversation=where, lines=lines, newest=newest):
                self._unread[where] = lines, max(newest, self._unread.get(where, (0, 0))[1])
                self._mentioned.pop(where, None)
                self._items.pop(where, None)
            case PresenceChanged(account=account, state=state):
                (self._online.add if state == "online" else self._online.discard)(account)
                self._forget_item_of(account)
            case Disconnected():
                for account in (*self._online,):
                    self._forget_item_of(account)
                self._online.clear()
            case Ignored() | Blocked() | Expired():
                now = self._client.unread_counts()
                for each, (unread, counted) in self._unread.items():  # what was seen here is not unread again
                    self._unread[each] = min(unread, now.get(each, (0, 0))[0]), counted
                self._newest.clear()
                self._mentioned.clear()
                self._items.clear()

    def _receive(self, message: Message) -> None:
        where = message.conversation
        unread, counted = self._unread.get(where, (0, 0))
        if not message.own and message.local_id > counted:
            self._unread[where] = (unread + 1, message.local_id)
            if mentions(message.text, self._client.account):
                self._mentioned[where] = True
            self._items.pop(where, None)
        newest = self._newest.get(where)
        if newest is not None and place_of(message) > place_of(newest):
            self._newest[where] = message
            self._items.pop(where, None)
        elif newest is None:
            self._forget_newest(where)

    def _forget_newest(self, conversation: bytes) -> None:
        """Have the newest line read again when it is asked for."""
        self._newest.pop(conversation, None)
        self._items.pop(conversation, None)

    def _forget_item_of(self, account: str) -> None:
        for where, (conversation, _) in (*self._items.items(),):
            if conversation.kind == "direct" and conversation.name == account:
                del self._items[where]

    def _is_mentioned(self, conversation: bytes) -> bool:
        """Whether we are named in what is unread."""
        if conversation not in self._mentioned and self.unread(conversation):
            first = self._client.first_unread(conversation)
            unread = self._client.around(first, LOOK_FOR_MENTIONS) if first else []
            new = (each for each in unread if each.local_id >= first and not each.own)
            self._mentioned[conversation] = any(mentions(each.text, self._client.account) for each in new)
        return bool(self.unread(conversation)) and self._mentioned.get(conversation, False)

    def _newest_of(self, conversation: bytes) -> Message | None:
        if conversation not in self._newest:
            self._newest[conversation] = next(iter(self._client.history(conversation, 1)), None)
        return self._newest[conversation]

    def _local_id_of_newest(self, conversation: bytes) -> int:
        newest = self._newest_of(conversation)
        return 0 if newest is None else newest.local_id  # local ids are given out as lines arrive

    def _rise(self, conversation: bytes) -> None:
        """Let a conversation come first: something new happened in it."""
        self._ranks[conversation] = next(self._next_rank)

    def _item(self, conversation: ConversationSnapshot) -> Item:
        kept = self._items.get(conversation.id)
        if kept is not None and kept[0] == conversation:
            return kept[1]
        newest = self._newest_of(conversation.id)
        marks = conversation.prefers("show-marks") == "on"
        item = Item(
            conversation.id,
            title(conversation),
            conversation.kind,
            conversation.state,
            len(conversation.members),
            self.unread(conversation.id),
            None if newest is None else line_of(newest, self._client.clean, marks=marks),
            self._trust_in(conversation),
            unconfirmed(conversation.unconfirmed_since) if conversation.unconfirmed_since else "",
            absent(conversation),
            self._is_mentioned(conversation.id),
            conversation.kind == "direct" and conversation.name in self._online,
        )
        self._items[conversation.id] = conversation, item
        return item

    def _trust_in(self, conversation: ConversationSnapshot) -> Trust:
        """Return the least trust that any of the others has; in a room of one there is nobody to be trusted less."""
        here = zip(conversation.members, conversation.trust, strict=False)
        direct = conversation.kind == "direct"  # whom one talks with there: their key alone reads what is written
        found = {
            as_listed(trust, heard=direct or account in conversation.heard)
            for account, trust in here
            if account != self._client.account
        }
        return next((each for each in TRUST if each in found), "accepted")
