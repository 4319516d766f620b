"""The rows of one conversation: a window of its history that pages both ways and follows what happens.

Its history is that of its name: all that was said to this person or in rooms of this name, in one conversation after
the other (*parts*), since a new one begins where somebody has left or ended the one before, or has got another key. The
part that counts now is the last one. The window is always whole: it holds every line from its first to its last one, in
the history's order (by part; in each of them accepted lines as in the log, then what waits). Pages are read from the
vault, which may be ahead of the events that are still on their way to us: so lines are known by their local id, and an
event that tells what a page has shown already changes nothing. After the same events a window equals one that is read
afresh, except for its notices, which are in no history.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, tzinfo
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from securechat.clean import clean_line
from securechat.client.events import (
    Blocked,
    ConversationChanged,
    Deleted,
    Delivered,
    Edited,
    Event,
    Expired,
    FileSaved,
    FileSent,
    Ignored,
    KeyAccepted,
    KeyChanged,
    KeyRefused,
    Marked,
    PreferenceChanged,
    Reacted,
    Received,
    Refused,
    Said,
    TransferEnded,
    Transferred,
)
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import UsageError
from securechat.ui.text.trust import as_listed
from securechat.ui.text.wording import Sentence
from securechat.ui.view.rows import (
    UNACCEPTED,
    Beginning,
    Day,
    Line,
    Moving,
    New,
    Notice,
    Person,
    Row,
    day_of,
    line_of,
    moving_of,
    place_of,
)

PAGE: Final = 100
"""Lines read at once: more than a screen shows, so that scrolling does not wait for each line."""

MAX_LINES: Final = 1000
"""Lines in a window: some 20 screens, and at most 64 MB if every text is as long as it can be."""

MAX_NOTICES: Final = 200
"""Notices kept in a timeline; the oldest go first."""

_Place = tuple[int, int, int, int]  # the number of its part, and where it is there (`rows.Place`)

_first: Final = itemgetter(0)

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


class Timeline:
    """One person's or room's conversations. One thread at a time."""

    def __init__(
        self,
        client: "ChatClient",
        conversation: bytes,
        *,
        around: int = 0,
        new: int = 0,
        zone: tzinfo | None = None,
        page: int = PAGE,
        limit: int = MAX_LINES,
    ) -> None:
        """Open at the newest lines or, if it is given, around the line with the local id `around`.

        `conversation`: any of those under the name. `new`: the local id of the first line that was not seen before
        (`ChatClient.first_unread`); 0: there is none. `zone`: whose days the rows are sorted by; None: this machine's.
        `page`: lines read at once; `limit`: lines kept. Raises `UsageError` if there is no such conversation, or no
        such line under its name.
        """
        found = client.conversation(conversation)
        if found is None:
            raise UsageError("There is no such conversation.")
        self._conversation = found
        self._parts: tuple[bytes, ...] = ()  # the conversations of its name as they were when pages were read last
        self.more_before = self.more_after = False
        """Whether the history has lines before the window's first, and after its last."""
        self._client, self._zone, self._page, self._limit = client, zone, page, limit
        self._lines: list[tuple[_Place, Line]] = []  # sorted
        self._places: dict[int, _Place] = {}  # local id -> where the line is
        self._notices: deque[tuple[bytes, int, Notice]] = deque(maxlen=MAX_NOTICES)  # as told; of which part, its seq
        self._told = 0
        self._new = new
        self._moving: dict[int, Moving] = {}  # by the transfer's id
        self._read_to = 0  # the newest line that any page has brought: what was stored before it, pages know better
        self._looks_back = False  # the user reads older lines: they are not dropped for new ones
        self._rows: tuple[Row, ...] | None = None
        if around:
            self.show(around)
        else:
            self.show_newest()
        for transfer in client.transfers():
            if transfer.conversation in self._parts:
                self._moving[transfer.id] = moving_of(transfer)

    @property
    def rows(self) -> tuple[Row, ...]:
        """What the window shows, oldest first; the same object until something changes."""
        if self._rows is None:
            self._rows = tuple(self._with_days())
        return self._rows

    def see(self) -> None:
        """Note that the user has seen all there is: nothing in it is new to them any more."""
        if self._new:
            self._new, self._rows = 0, None

    @property
    def conversation(self) -> ConversationSnapshot:
        """The one that counts under its name, as the core knows it now, which may be ahead of the events."""
        now = self._client.conversation(self._conversation.id) or self._conversation
        return self._client.find(now.name) or now

    @property
    def people(self) -> tuple[Person, ...]:
        """Those in the conversation now."""
        now, own = self.conversation, self._client.account
        return tuple(
            Person(
                clean_line(account),
                account == own,
                as_listed(trust, heard=account == own or account in now.heard),
                account in now.heard,
                account in now.absent,
            )
            for account, trust in zip(now.members, now.trust, strict=True)
        )

    # --- paging ---------------------------------------------------------------------------------------------------

    def show_newest(self) -> None:
        """Move the window to the end of the history, where it follows what comes."""
        self._open_at_end(self._page)
        self._looks_back = False

    def show(self, local_id: int) -> None:
        """Move the window to a line. Raises `UsageError`, and changes nothing, if the conversation has no such line."""
        half, name = self._page // 2, self.conversation.name
        before = self._client.past(name, half, before=local_id)
        line = self._client.around(local_id, 0)
        after = self._client.past(name, half, after=local_id)
        self._replace([*before, *line, *after])
        self.more_before, self.more_after = len(before) == half, len(after) == half
        self._looks_back = self.more_after

    def show_older(self) -> bool:
        """Extend the window by the page before it, and cut its end to size. Return whether there was more."""
        if not self.more_before:
            return False
        self._looks_back = True
        first = self._lines[0][1]
        if first.delivery == "waiting" and not self.more_after and len(self._lines) < self._limit:
            # It may have been accepted meanwhile, and so come before lines that are older here: read all in one piece.
            self._open_at_end(min(len(self._lines) + self._page, self._limit))
            return True
        page = self._beside(before=first.local_id)
        self.more_before = len(page) == self._page
        self._extend(page, from_end=True)
        return bool(page)

    def show_newer(self) -> bool:
        """Extend the window by the page after it, and cut its beginning to size. Return whether there was more."""
        if not self.more_after:
            return False
        page = self._beside(after=self._lines[-1][1].local_id)
        self._looks_back = self.more_after = len(page) == self._page
        self._extend(page, from_end=False)
        return bool(page)

    # --- what happens ---------------------------------------------------------------------------------------------

    def fold(self, event: Event, told: Iterable[Sentence] = ()) -> bool:
        """Take note of an event; one that is about something else changes nothing.

        `told`: what is said of it (`news`), which becomes notices here if it belongs here: whether it does is returned.
        """
        if isinstance(event, ConversationChanged) or self.conversation.id != self._parts[-1]:
            self._follow()
        match event:
            case Said(message=message) if message.local_id <= self._read_to:
                pass  # a page has shown what became of it, or that it is outside the window
            case Said(message=message) | Received(message=message) | Delivered(message=message):
                self._receive(message)
            case Refused(message=Message() as message):
                self._receive(message)
            case Edited(message=message) | Deleted(message=message):
                self._receive(message)
                self._quote_anew(message.local_id)
            case Reacted(message=message):
                self._receive(message)
            case Marked(conversation=where, delivered=delivered) if self._is_here(where):
                part = self._part(where)
                open_ones = [(place, line) for place, line in self._lines if line.delivery in ("sent", "delivered")]
                for place, line in open_ones:
                    if place[0] == part and place[1] <= delivered:
                        self._read_line(line.local_id)
            case PreferenceChanged(name="show-marks"):
                self._read_again()
            case Ignored() | Blocked() if self.conversation.kind != "invite":
                self._read_again()
            case Expired(conversation=where) if self._is_here(where):
                self._read_again()
            case Transferred(transfer=transfer) if self._is_here(transfer.conversation):
                self._moving[transfer.id] = moving_of(transfer)
                self._rows = None
            case FileSent() | TransferEnded() if self._moving.pop(event.transfer.id, None) is not None:
                self._rows = None
            case FileSaved() if self._moving:  # it does not say which of them has arrived
                there = {each.id for each in self._client.transfers()}
                self._moving = {number: row for number, row in self._moving.items() if number in there}
                self._rows = None
            case ConversationChanged() if event.account in ("", self._client.account):
                if self._is_here(event.conversation.id):
                    self._read_again()  # when we enter or leave, lines may have moved here or away
        sentences = tuple(told)
        where = self._concerns(event)
        if not (sentences and where):
            return False
        for sentence in sentences:
            self._told += 1
            self._notices.append((where, UNACCEPTED, Notice(self._told, sentence.kind, sentence.text)))
        self._rows = None
        return True

    def _receive(self, message: Message) -> None:
        if not self._is_here(message.conversation):
            if message.local_id in self._places:
                self._remove(message.local_id)  # it moved to where it is said now
                if not self._lines:
                    self._read_again()
            return
        held = self._places.get(message.local_id)
        if held is not None or self._is_within(self._place_of(message)):
            self._put(message)
            moved = held is not None and held != self._places[message.local_id]
            if moved and self.more_before and self._lines[0][1].local_id == message.local_id:
                self._read_again()  # lines that were before it may be after it now
            self._trim(from_end=self._looks_back)
        if message.seq:
            self._pin_notices(message.conversation, message.seq)

    def _concerns(self, event: Event) -> bytes:
        """Return the part that an event is about; empty: it is about none."""
        match event:
            case KeyChanged(account=account) | KeyAccepted(account=account) | KeyRefused(account=account):
                return self._parts[-1] if account in self.conversation.members else b""
            case ConversationChanged(conversation=conversation):
                where = conversation.id
            case _:
                where = getattr(event, "conversation", b"")
        return where if self._is_here(where) else b""

    def _is_here(self, conversation: bytes) -> bool:
        """Whether this is a part, or has become one. One gets another id when another one replaces it."""
        if conversation in self._parts:
            return True
        found = self._client.conversation(conversation)
        if found is None or found.id != conversation or found.name != self.conversation.name:
            return False
        self._read_again()
        return conversation in self._parts

    def _part(self, conversation: bytes) -> int:
        """Return which part a conversation is, also by an id that it had; -1: it is none."""
        if conversation not in self._parts and (found := self._client.conversation(conversation)):
            conversation = found.id
        return self._parts.index(conversation) if conversation in self._parts else -1

    def _follow(self) -> None:
        """Read the window again if its name has other conversations by now, or another one counts."""
        if self._parts != tuple(each.id for each in self._client.called(self.conversation.name)):
            self._read_again()

    # --- the window -----------------------------------------------------------------------------------------------

    def _open_at_end(self, count: int) -> None:
        page = self._client.past(self.conversation.name, count)
        self._replace(page)
        self.more_before, self.more_after = len(page) == count, False

    def _read_again(self) -> None:
        """Read the window again where it is."""
        if self.more_after and self._lines:
            try:
                self.show(self._lines[len(self._lines) // 2][1].local_id)
            except UsageError:  # that line has moved away
                self.show_newest()
        else:
            self._open_at_end(max(self._page, len(self._lines)))

    def _read_line(self, local_id: int) -> None:
        """Read a line of the window again: others bring this about as often as they like, so it costs no more."""
        for message in self._client.around(local_id, 0):
            if message.conversation in self._parts:  # else it has moved, and an event will tell us
                self._put(message)

    def _quote_anew(self, local_id: int) -> None:
        """Show what has become of a line above those that answer it."""
        quoting = [place for place, (_, line) in enumerate(self._lines) if _answers(line, local_id)]
        for message in self._client.around(self._lines[quoting[0]][1].local_id, 0) if quoting else ():
            answers = self._line_of(message).answers
            for place in quoting:
                where, line = self._lines[place]
                self._lines[place] = where, replace(line, answers=answers)
            self._rows = None

    def _beside(self, *, before: int = 0, after: int = 0) -> list[Message]:
        """Read the page beside a line of the window, which may have moved away: then there is none."""
        try:
            return self._client.past(self.conversation.name, self._page, before=before, after=after)
        except UsageError:
            return []

    def _replace(self, page: list[Message]) -> None:
        self._conversation = self.conversation
        self._parts = tuple(each.id for each in self._client.called(self._conversation.name))
        here = {each.local_id: each for each in page if each.conversation in self._parts}  # of a line twice: the newer
        placed = ((self._place_of(message), self._line_of(message)) for message in here.values())
        self._lines = sorted(placed, key=_first)
        self._places = {line.local_id: place for place, line in self._lines}
        self._read_to = max([self._read_to, *self._places])
        self._rows = None

    def _extend(self, page: list[Message], *, from_end: bool) -> None:
        for message in page:
            if message.conversation in self._parts:  # else it has moved, and an event will tell us
                self._put(message)
                self._read_to = max(self._read_to, message.local_id)
        self._trim(from_end=from_end)

    def _is_within(self, place: _Place) -> bool:
        """Whether a line at this place belongs in the window."""
        after_first = not self.more_before or (bool(self._lines) and place > self._lines[0][0])
        return after_first and (not self.more_after or (bool(self._lines) and place < self._lines[-1][0]))

    def _put(self, message: Message) -> None:
        """Put a line where it is, unless what we have of it is as new or newer."""
        line, held = self._line_of(message), self._places.get(message.local_id)
        if held is not None:
            if line.delivery == "waiting" or self._lines[self._index(held)][1] == line:
                return
            self._remove(message.local_id)
        place = self._places[line.local_id] = self._place_of(message)
        insort(self._lines, (place, line), key=_first)
        self._rows = None

    def _place_of(self, message: Message) -> _Place:
        return (self._parts.index(message.conversation), *place_of(message))

    def _line_of(self, message: Message) -> Line:
        shown = self.conversation.prefers("show-marks") == "on"
        return line_of(message, self._client.clean, self._client.account, marks=shown)

    def _remove(self, local_id: int) -> None:
        del self._lines[self._index(self._places.pop(local_id))]
        self._rows = None

    def _index(self, place: _Place) -> int:
        return bisect_left(self._lines, place, key=_first)

    def _trim(self, *, from_end: bool) -> None:
        """Drop the surplus of the window."""
        excess = len(self._lines) - self._limit
        if excess <= 0:
            return
        if from_end:
            dropped, self._lines = self._lines[-excess:], self._lines[:-excess]
            self.more_after = True
        else:
            dropped, self._lines = self._lines[:excess], self._lines[excess:]
            self.more_before = True
        for _, line in dropped:
            del self._places[line.local_id]
        self._rows = None

    # --- notices and days -----------------------------------------------------------------------------------------

    def _pin_notices(self, part: bytes, seq: int) -> None:
        """Put what was told before the entry `seq` of a part came before it; until then, it is after everything
        accepted.
        """
        loose = []
        while self._notices and self._notices[-1][1] == UNACCEPTED:
            loose.append(self._notices.pop())
        for where, _, notice in reversed(loose):
            self._notices.append((where, seq if where == part else UNACCEPTED, notice))
        if loose:
            self._rows = None

    def _placed_notices(self) -> Iterator[tuple[_Place, Notice]]:
        for where, seq, notice in self._notices:
            place = (self._part(where), seq, 0, notice.number)
            if place[0] >= 0 and self._is_within(place):
                yield place, notice

    def _with_days(self) -> Iterator[Row]:
        day: date | None = None
        part: int | None = None
        begins = over = 0  # of the day: to ask for each line on which day it was said would take longer than all else
        placed: list[tuple[_Place, Row]] = sorted([*self._lines, *self._placed_notices()], key=_first)
        for place, row in placed:
            if part not in (None, place[0]):
                yield Beginning(self._parts[place[0]])
            part = place[0]
            if isinstance(row, Line):
                if row.time and not begins <= row.time < over:  # what waits has no time yet
                    before, (day, begins, over) = day, day_of(row.time, self._zone)
                    if day != before:
                        yield Day(day)
                if row.local_id == self._new:
                    yield New()
            yield row
        if not self.more_after:
            yield from self._moving.values()


def _answers(line: Line, local_id: int) -> bool:
    return line.answers is not None and line.answers.local_id == local_id
