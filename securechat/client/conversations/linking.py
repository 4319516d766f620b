"""Linking: direct links to the people in private conversations, offered and answered there (docs/direct-link.md).

    offering    our client listens, and has said where, or is about to
    meeting     one of both sides comes to the other
    up          bytes can go

Nothing of it is stored, and an offer is no record: it is told to who is there now (`ephemerals`). What lasts is the
user's word for each person, the preference `link`: to whom they tell their address, and to whose they connect.

A link that is made for a file, between two who have agreed before, is nothing that either of them hears of.
"""

import os
from collections import defaultdict
from typing import Final, Literal

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.ephemerals import ANSWERS, HAS, OFFERS, OFFERS_BY_ITSELF, Ephemerals, Said
from securechat.client.conversations.index import Index
from securechat.client.conversations.marking import may_speak, nobody_in_doubt
from securechat.client.direct.carrying import Down, News, Up
from securechat.client.direct.links import Admit, Close, Knock, Listen, Moved
from securechat.client.direct.offers import LINK_ID_LENGTH, Answer, Offer
from securechat.client.direct.protocol import OPENING_SECONDS
from securechat.errors import DecodeError, UsageError

AGREED: Final = ("private", "anywhere")
"""Values of the preference `link` that let a link be: within private networks, or also across public ones."""

ASKED_SECONDS: Final = 60.0
"""Between two offers of one person of which the user is told, while they have not agreed."""

ANSWER_SECONDS: Final = 30.0
"""After an offer of one person that we have taken, until another one is answered; twice as long after each that led
nowhere. An offer says where we connect to, and how soon that fails says what is there."""

MAX_ANSWER_SECONDS: Final = 900.0
"""The longest of these waits: some four hundred places a day, at four an offer."""


class _Link:
    """One link, under way or there."""

    def __init__(
        self,
        conversation: bytes,
        state: Literal["offering", "meeting", "up"],
        due: float,
        taken_from: bytes = b"",
        *,
        quiet: bool = False,
    ) -> None:
        self.conversation = conversation
        self.state = state
        self.due = due  # when it is given up (monotonic), unless it is up
        self.taken_from = taken_from  # whose offer it was, as `Conversation.scope`; empty: ours
        self.quiet = quiet  # it was made by itself: the user hears nothing of it


class _Pace:
    """When another offer of one person is answered by itself, or one is made to them by itself."""

    def __init__(self) -> None:
        self.free = 0.0  # from when on (monotonic)
        self.wait = ANSWER_SECONDS  # the next one, if nothing comes of it

    def up(self, now: float) -> None:
        self.free, self.wait = now + ANSWER_SECONDS, ANSWER_SECONDS

    def failed(self, now: float) -> None:
        """Nothing came of it."""
        self.free, self.wait = now + self.wait, min(2 * self.wait, MAX_ANSWER_SECONDS)


class Linking:
    """The links of one client. Lives as long as the client."""

    def __init__(self, context: Context, index: Index, ephemerals: Ephemerals) -> None:
        self._context = context
        self._index = index
        self._ephemerals = ephemerals
        self._links: dict[bytes, _Link] = {}  # by an id that we have drawn, whoever offers it
        self._paces: defaultdict[bytes, _Pace] = defaultdict(_Pace)  # by whose offers we took, as `Conversation.scope`
        self._own_paces: defaultdict[bytes, _Pace] = defaultdict(_Pace)  # the same of offers that we make by itself
        self._asked: dict[bytes, float] = {}  # conversation -> until when the user is told of no offer again
        self._waiting: dict[bytes, tuple[Offer, float]] = {}  # the newest of those, and until when it may be taken

    # --- what the user wants --------------------------------------------------------------------------------------

    def check(self, conversation: Conversation) -> None:
        """Raise UsageError if nothing of this can be said in a private conversation now."""
        if not self._may(conversation):
            raise UsageError(
                f"No link can be offered to {conversation.row.name} now. Write something there first, and see that it "
                "is sent."
            )

    def begin(self, conversation: Conversation) -> None:
        """Take the offer of which the user was told, or else make one; if there is a link, do nothing.

        `check` comes before. A link ends by itself once the user does not agree any more.
        """
        if (there := self._with(conversation)) is not None:
            link = self._links[there]
            if link.quiet and link.state == "up":
                self._tell(conversation, "up")
            link.quiet = False
            return
        offer, until = self._waiting.pop(conversation.id, (None, 0.0))
        if offer is not None and self._context.clock.monotonic() < until:
            self._knock(conversation, offer)
            return
        self._offer(conversation, quiet=False)

    def begin_by_itself(self, conversation: Conversation) -> bool:
        """Offer a link for a file, where the user has agreed to it before; say whether one is there or may come.

        The other one takes it if they have agreed, too, and is told nothing if not. As with the offers of others, the
        next one waits ever longer after each that has led nowhere.
        """
        if conversation.row.kind != "direct" or not self._agrees(conversation) or not self._may(conversation):
            return False
        now, pace = self._context.clock.monotonic(), self._own_paces[conversation.scope]
        if self._with(conversation) is None:
            if now < pace.free:
                return False
            self._offer(conversation, quiet=True)
        return True

    def _offer(self, conversation: Conversation, *, quiet: bool) -> None:
        link, due = os.urandom(LINK_ID_LENGTH), self._context.clock.monotonic() + OPENING_SECONDS
        self._links[link] = _Link(conversation.id, "offering", due, quiet=quiet)
        self._context.link_orders.append(Listen(link, self._wide(conversation)))

    # --- what the other one says ----------------------------------------------------------------------------------

    def take(self, conversation: Conversation, said: Said) -> None:
        """Somebody offers a link, answers our offer, or has a file of ours. What makes no sense counts for nothing."""
        if conversation.row.kind != "direct" or not self._may(conversation):
            return
        try:
            if said.act in {OFFERS, OFFERS_BY_ITSELF}:
                self._take_offer(conversation, Offer.read(said.body), quiet=said.act == OFFERS_BY_ITSELF)
            elif said.act == ANSWERS:
                self._take_answer(conversation, Answer.read(said.body))
            elif conversation.people[said.leaf].account == conversation.row.name:
                self._context.had.append((conversation.id, said.body))
        except DecodeError:
            return

    def _take_offer(self, conversation: Conversation, offer: Offer, *, quiet: bool) -> None:
        context, now = self._context, self._context.clock.monotonic()
        agreed = context.preferences.get("link", conversation.scope_of("link"))
        if agreed == "ask" and not quiet:
            self._waiting[conversation.id] = offer, now + OPENING_SECONDS
            if now >= self._asked.get(conversation.id, now):
                self._asked[conversation.id] = now + ASKED_SECONDS
                self._tell(conversation, "asked")
        if agreed not in AGREED or now < self._paces[conversation.scope].free:
            return
        own = self._with(conversation)
        if own is not None:
            if self._links[own].state != "offering" or own <= offer.link:
                return  # of two who offer at once, the smaller id goes on
            context.link_orders.append(Close(own))
            quiet = quiet and self._links[own].quiet
            del self._links[own]
        self._knock(conversation, offer, quiet=quiet)

    def _knock(self, conversation: Conversation, offer: Offer, *, quiet: bool = False) -> None:
        link, wide = os.urandom(LINK_ID_LENGTH), self._wide(conversation)
        due = self._context.clock.monotonic() + OPENING_SECONDS
        self._links[link] = _Link(conversation.id, "meeting", due, conversation.scope, quiet=quiet)
        self._context.link_orders.append(Knock(link, offer.link, offer.certificate, offer.endpoints, wide))

    def _take_answer(self, conversation: Conversation, answer: Answer) -> None:
        link = self._links.get(answer.link)
        if link is None or link.conversation != conversation.id or link.state != "offering":
            return
        link.state = "meeting"
        self._context.link_orders.append(Admit(answer.link, answer.certificate))

    # --- what comes of it -----------------------------------------------------------------------------------------

    def happened(self, link_id: bytes, news: Offer | Answer | Moved | News) -> None:
        """Something has happened to a link."""
        if (link := self._links.get(link_id)) is None:
            return
        conversation = self._index.get(link.conversation)
        if conversation is None or (isinstance(news, Offer | Answer) and not self._may(conversation)):
            self._context.link_orders.append(Close(link_id))
        elif isinstance(news, Offer):
            self._ephemerals.say(conversation, OFFERS_BY_ITSELF if link.quiet else OFFERS, bytes(news))
            if not link.quiet:
                self._tell(conversation, "offered", addresses=tuple(str(each.address) for each in news.endpoints))
        elif isinstance(news, Answer):
            self._ephemerals.say(conversation, ANSWERS, bytes(news))
        elif isinstance(news, Up):
            link.state = "up"
            if link.taken_from:
                self._paces[link.taken_from].up(self._context.clock.monotonic())
            else:
                self._own_paces.pop(conversation.scope, None)
            if not link.quiet:
                self._tell(conversation, "up")
        if isinstance(news, Down):
            del self._links[link_id]
            now = self._context.clock.monotonic()
            if link.state == "meeting" and link.taken_from:
                self._paces[link.taken_from].failed(now)
            elif link.state != "up" and link.quiet and conversation is not None:
                self._own_paces[conversation.scope].failed(now)
            if conversation is not None and not link.quiet:
                self._tell(conversation, "down", news.reason)

    def up_with(self, conversation: bytes) -> bytes:
        """Return the id of the link to the other one of a private conversation; empty: there is none."""
        up = (each for each, link in self._links.items() if link.conversation == conversation and link.state == "up")
        return next(up, b"")

    def tell_had(self, conversation: Conversation, blob: bytes) -> bool:
        """Tell the other one by the server that we have all of a file of theirs; return whether it could be said."""
        if self._may(conversation):
            self._ephemerals.say(conversation, HAS, blob)
            return True
        return False

    def is_coming(self, conversation: bytes) -> bool:
        """Whether there may be a link to the other one of a private conversation at any moment."""
        return any(link.conversation == conversation and link.state != "up" for link in self._links.values())

    def conversation_of(self, link_id: bytes) -> Conversation | None:
        """Return the conversation to whose other one a link leads that is up, and may be."""
        link = self._links.get(link_id)
        conversation = None if link is None or link.state != "up" else self._index.get(link.conversation)
        return conversation if conversation is not None and self._agrees(conversation) else None

    @property
    def timer(self) -> float | None:
        """When to call `look`, on the monotonic clock."""
        return min((each.due for each in self._links.values() if each.state == "offering"), default=None)

    def look(self) -> None:
        """Give up what nobody has answered, and end the links to people to whom there may be none any more."""
        now = self._context.clock.monotonic()
        for link_id, link in self._links.items():
            conversation = self._index.get(link.conversation)
            late = link.state == "offering" and now >= link.due
            if late or conversation is None or not self._agrees(conversation):
                self._context.link_orders.append(Close(link_id))
                link.due = now + OPENING_SECONDS

    def _with(self, conversation: Conversation) -> bytes | None:
        return next((link_id for link_id, link in self._links.items() if link.conversation == conversation.id), None)

    def _agrees(self, conversation: Conversation) -> bool:
        """Whether a link that is there may stay: without the server as well."""
        row, context = conversation.row, self._context
        agreed = context.preferences.get("link", conversation.scope_of("link")) in AGREED
        there = not row.closed and row.phase in phases.READING and not context.blocks(row.name)
        return agreed and there and nobody_in_doubt(conversation)

    def _may(self, conversation: Conversation) -> bool:
        """Whether something of this may be said, and heard, here: where what the user writes would go out at once."""
        row = conversation.row
        open_ = row.phase in phases.READING and conversation.caught_up and not (row.closed or row.asked)
        return open_ and not conversation.is_unheard and may_speak(conversation) and conversation.group.can_sign

    def _wide(self, conversation: Conversation) -> bool:
        return self._context.preferences.get("link", conversation.scope_of("link")) == "anywhere"

    def _tell(
        self, conversation: Conversation, state: events.LinkState, reason: str = "", addresses: tuple[str, ...] = ()
    ) -> None:
        self._context.emit(events.LinkChanged(conversation.id, conversation.row.name, state, reason, addresses))
