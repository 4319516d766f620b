"""A person's session where rows are drawn: what is typed goes the way that it goes in the line mode, and what comes in
becomes rows, not lines."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from securechat.client.events import (
    Connected,
    ContactList,
    Deleted,
    Devices,
    Disconnected,
    Edited,
    Event,
    InviteLineMade,
    InviteLines,
    LoggedIn,
    MemberList,
    OwnSessions,
    PresenceChanged,
    Reacted,
    Refused,
    RoomList,
    SafetyNumber,
    Waiting,
)
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import UsageError
from securechat.ui.ring import Ring
from securechat.ui.session.chat import Chat
from securechat.ui.session.voice import Decoded
from securechat.ui.text.wording import Sentence
from securechat.ui.view.rows import Line
from securechat.ui.view.timeline import Timeline

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

_ANSWERS: Final = (
    ContactList, Devices, InviteLineMade, InviteLines, MemberList, OwnSessions, Refused, RoomList,
)  # fmt: skip
"""Said to who has asked, and not in a conversation."""

_ELSEWHERE: Final = (Connected, Disconnected, LoggedIn, PresenceChanged, SafetyNumber, Waiting)
"""What the list, the status line and the pane show."""


class Session(Chat):
    """What one does on a full screen, or in a window."""

    def __init__(
        self,
        client: "ChatClient",
        answer: Callable[[str | Sentence], None],
        *,
        first: str = "",
        ring: Ring | None = None,
        later: Callable[[Decoded], None] | None = None,
    ) -> None:
        """`answer`: shows what is said to whoever has typed something. The rest as in `Chat`."""
        super().__init__(client, answer, piped=False, first=first, ring=ring, later=later)
        self._answer = answer
        self._told: tuple[Sentence, ...] = ()  # of the event that is taken now: in the conversation that is shown
        self.timeline: Timeline | None = None
        self.number: SafetyNumber | None = None
        """What was asked for last."""

    def begin(self) -> None:
        """Be where one was at the end of the last session, else where something is."""
        last = self.client.place()
        found = [each.id for each in self.listing.items if each.state != "closed"]
        if last is not None and self.place.alive(last.name) is not None:
            self.visit(last.name)
        elif found and (first := self.client.conversation(found[0])) is not None:
            self.visit(first.name)
        self._newest_shown = max((self.listing.counted(each.id) for each in self.listing.items), default=0)
        self.settle()

    def settle(self) -> None:
        """Have the timeline of where one is, and the vault know what was seen. Call when nothing waits."""
        here = self.place.find() if self.place.name else None
        if here is None:
            self.timeline = None
        elif self.timeline is None or self.timeline.conversation.name != here.name:
            self.timeline = Timeline(self.client, here.id, new=self.client.first_unread(here.id))
        self.mark_shown()
        self.tell_folded()

    def event(self, event: Event) -> None:
        """Take an event."""
        super().event(event)
        if isinstance(event, SafetyNumber):
            self.number = event

    def reach(self, local_id: int) -> bool:
        """Be where a line was said, with those around it in the timeline. False: it is not here, which was told."""
        found = next(iter(self.client.around(local_id, 0)), None)
        where = None if found is None else self.client.conversation(found.conversation)
        if where is None:
            self._answer(Sentence("warning", "That message is not here any more."))
            return False
        if where.name != self.place.name:
            self.place.turn_to(where.name)
            self.settle()
        if self.timeline is None:
            return False
        try:
            if not any(isinstance(each, Line) and each.local_id == local_id for each in self.timeline.rows):
                self.timeline.show(local_id)
        except UsageError as error:
            self._answer(Sentence("warning", str(error)))
            return False
        return True

    @property
    def types(self) -> str:
        """Who types in the current conversation."""
        return self._typists.told(self.place.id)

    def about(self, line: int, text: str) -> None:
        """Type a command about a line, with 1 for its number: `/reply 1 Fine`."""
        found = self.client.around(line, 0)
        if found:
            self.numbers.give(found)
            self.line(text)

    # --- what the line mode prints

    def tell_folded(self) -> None:
        """Say nothing: who is there stands in the list, and what was changed in the timeline."""
        self._presence.take()
        self._flood.rest()

    def show_message(self, message: Message) -> None:
        """It becomes a row."""

    def show_sent(self, message: Message) -> None:
        """Its row shows it."""

    def show_amended(self, event: Edited | Deleted | Reacted) -> None:
        """Its row shows it."""

    def show_arrival(self, conversation: ConversationSnapshot, unread: int) -> None:
        """The screen shows it."""

    def show_entry(self) -> None:
        """The status line shows it."""

    def show_news(self, event: Event) -> None:
        """Say it where it belongs: in the conversation that is shown, or to who has typed."""
        told = self._news.of(event)
        if isinstance(event, _ANSWERS):
            self._say(told)
        elif not isinstance(event, _ELSEWHERE):
            self._told = told

    def _note(self, event: Event) -> None:
        super()._note(event)
        told, self._told = self._told, ()
        here = self.timeline is not None and self.timeline.fold(event, told)
        if not here:
            self._say(told)

    def _say(self, told: tuple[Sentence, ...]) -> None:
        for sentence in told:
            self._answer(sentence)
