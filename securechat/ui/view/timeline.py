"""The rows of one conversation: a window of its history that pages both ways and follows what happens.

The window is always whole: it holds every line of the conversation from its first to its last one, in the history's
order (accepted lines as in the log, then what waits). Pages are read from the vault, which may be ahead of the events
that are still on their way to us: so lines are known by their local id, and an event that tells what a page has shown
already changes nothing. After the same events a window equals one that is read afresh, except for its notices, which
are in no history.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import tzinfo
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
    Day,
    Line,
    Moving,
    New,
    Notice,
    Person,
    Place,
    Row,
    line_of,
    local_time,
    moving_of,
    place_of,
)

PAGE: Final = 100
"""Lines read at once: more than a screen shows, so that scrolling does not wait for each line."""

MAX_LINES: Final = 1000
"""Lines in a window: some 20 screens, and at most 64 MB if every text is as long as it can be."""

MAX_NOTICES: Final = 200
"""Notices kept in a timeline; the oldest go first."""

_first: Final = itemgetter(0)

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


class Timeline:
    """One conversation. One thread at a time."""

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

        `new`: the local id of the first line that was not seen before (`ChatClient.first_unread`); 0: there is none.
        `zone`: whose days the rows are sorted by; None: this machine's. `page`: lines read at once; `limit`: lines
        kept. Raises `UsageError` if there is no such conversation, or no such line in it.
        """
        found = client.conversation(conversation)
        if found is None:
            raise UsageError("There is no such conversation.")
        self._conversation = found
        self.more_before = self.more_after = False
        """Whether the history has lines before the window's first, and after its last."""
        self._client, self._zone, self._page, self._limit = client, zone, page, limit
        self._lines: list[tuple[Place, Line]] = []  # sorted
        self._places: dict[int, Place] = {}  # local id -> where the line is
        self._notices: deque[tuple[Place, Notice]] = deque(maxlen=MAX_NOTICES)  # as told
        self._told = 0
        self._new = new
        self._moving: dict[int, Moving] = {}  # by the transfer's id
        for transfer in client.transfers():
            if transfer.conversation == found.id:
                self._moving[transfer.id] = moving_of(transfer)
        self._read_to = 0  # the newest line that any page has brought: what was stored before it, pages know better
        self._looks_back = False  # the user reads older lines: they are not dropped for new ones
        self._rows: tuple[Row, ...] | None = None
        if around:
            self.show(around)
        else:
            self.show_newest()

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
        """The conversation as the core knows it now, which may be ahead of the events."""
        return self._client.conversation(self._conversation.id) or self._conversation

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
        half = self._page // 2
        page = self._client.around(local_id, half)
        if not page or page[0].conversation != self.conversation.id:
            raise UsageError("There is no such message in this conversation.")
        index = next(index for index, message in enumerate(page) if message.local_id == local_id)
        self._replace(page)
        self.more_before, self.more_after = index == half, len(page) - index - 1 == half
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
        page = self._client.before(first.local_id, self._page)
        self.more_before = len(page) == self._page
        self._extend(page, from_end=True)
        return bool(page)

    def show_newer(self) -> bool:
        """Extend the window by the page after it, and cut its beginning to size. Return whether there was more."""
        if not self.more_after:
            return False
        page = self._client.after(self._lines[-1][1].local_id, self._page)
        self._looks_back = self.more_after = len(page) == self._page
        self._extend(page, from_end=False)
        return bool(page)

    # --- what happens ---------------------------------------------------------------------------------------------

    def fold(self, event: Event, told: Iterable[Sentence] = ()) -> None:
        """Take note of an event; one that is about something else changes nothing.

        `told`: what is said of it (`news`), which becomes notices here if it belongs here.
        """
        match event:
            case Said(message=message) if message.local_id <= self._read_to:
                pass  # a page has shown what became of it, or that it is outside the window
            case Said(message=message) | Received(message=message) | Delivered(message=message):
                self._receive(message)
            case Refused(message=Message() as message):
                self._receive(message)
            case Edited(message=message) | Deleted(message=message) | Reacted(message=message):
                self._receive(message)
                if any(line.answers and line.answers.local_id == message.local_id for _, line in self._lines):
                    self._read_again()  # it is quoted
            case Marked(conversation=where, delivered=delivered) if self._is_here(where):
                open_ones = (place for place, line in self._lines if line.delivery in ("sent", "delivered"))
                if any(place[0] <= delivered for place in open_ones):
                    self._read_again()
            case PreferenceChanged(name="show-marks"):
                self._read_again()
            case Ignored() | Blocked() if self.conversation.kind != "invite":
                self._read_again()
            case Expired(conversation=where) if self._is_here(where):
                self._read_again()
            case Transferred(transfer=transfer) if self._is_here(transfer.conversation):
                self._moving[transfer.id] = moving_of(transfer)
                self._rows = None
            case TransferEnded(transfer=transfer) if self._moving.pop(transfer.id, None) is not None:
                self._rows = None
            case ConversationChanged() if event.account in ("", self._client.account):
                if self._is_here(event.conversation.id):
                    self._read_again()  # when we enter or leave, lines may have moved here or away
        sentences = tuple(told)
        if sentences and self._concerns(event):
            for sentence in sentences:
                self._told += 1
                notice = Notice(self._told, sentence.kind, sentence.text)
                self._notices.append(((UNACCEPTED, 0, notice.number), notice))
            self._rows = None

    def _receive(self, message: Message) -> None:
        if not self._is_here(message.conversation):
            if message.local_id in self._places:
                self._remove(message.local_id)  # it moved to where it is said now
                if not self._lines:
                    self._read_again()
            return
        held = self._places.get(message.local_id)
        if held is not None or self._is_within(place_of(message)):
            self._put(message)
            moved = held is not None and held != self._places[message.local_id]
            if moved and self.more_before and self._lines[0][1].local_id == message.local_id:
                self._read_again()  # lines that were before it may be after it now
            self._trim(from_end=self._looks_back)
        if message.seq:
            self._pin_notices(message.seq)

    def _concerns(self, event: Event) -> bool:
        match event:
            case KeyChanged(account=account) | KeyAccepted(account=account) | KeyRefused(account=account):
                return account in self.conversation.members
            case ConversationChanged(conversation=conversation):
                return self._is_here(conversation.id)
        return self._is_here(getattr(event, "conversation", b""))

    def _is_here(self, conversation: bytes) -> bool:
        """Whether this is our conversation, which gets another id when another one replaces it."""
        if conversation == self._conversation.id:
            return True
        now = self.conversation
        if now.id != conversation:
            return False
        self._conversation = now
        self._read_again()
        return True

    # --- the window -----------------------------------------------------------------------------------------------

    def _open_at_end(self, count: int) -> None:
        page = self._client.history(self._conversation.id, count)
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

    def _replace(self, page: list[Message]) -> None:
        self._lines = [(place_of(message), self._line_of(message)) for message in page]
        self._places = {line.local_id: place for place, line in self._lines}
        self._read_to = max([self._read_to, *self._places])
        self._rows = None

    def _extend(self, page: list[Message], *, from_end: bool) -> None:
        here = self.conversation.id
        for message in page:
            if message.conversation == here:  # else the line we asked beside has moved, and an event will tell us
                self._put(message)
                self._read_to = max(self._read_to, message.local_id)
        self._trim(from_end=from_end)

    def _is_within(self, place: Place) -> bool:
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
        place = self._places[line.local_id] = place_of(message)
        insort(self._lines, (place, line), key=_first)
        self._rows = None

    def _line_of(self, message: Message) -> Line:
        shown = self.conversation.prefers("show-marks") == "on"
        return line_of(message, self._client.clean, self._client.account, marks=shown)

    def _remove(self, local_id: int) -> None:
        del self._lines[self._index(self._places.pop(local_id))]
        self._rows = None

    def _index(self, place: Place) -> int:
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

    def _pin_notices(self, seq: int) -> None:
        """Put what was told before the entry `seq` came before it; until then, it is after everything accepted."""
        loose = []
        while self._notices and self._notices[-1][0][0] == UNACCEPTED:
            loose.append(self._notices.pop()[1])
        for notice in reversed(loose):
            self._notices.append(((seq, 0, notice.number), notice))
        if loose:
            self._rows = None

    def _with_days(self) -> Iterator[Row]:
        day = None
        notices = [each for each in self._notices if self._is_within(each[0])]
        placed: list[tuple[Place, Row]] = sorted([*self._lines, *notices], key=_first)
        for _, row in placed:
            if isinstance(row, Line):
                if row.time:  # what waits has no time yet
                    date = local_time(row.time, self._zone).date()
                    if date != day:
                        day = date
                        yield Day(date)
                if row.local_id == self._new:
                    yield New()
            yield row
        if not self.more_after:
            yield from self._moving.values()
