"""Seats belong to accounts: `max_clients` are logged in at once, the next ones wait (docs/design.md, section 5).

They wait in the order in which they came, one place per account. A seat is kept `KEEP_SECONDS` for an account that lost
its connection.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

from securechat.server.logs import get_logger
from securechat.server.rates import Rates
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.operations import Attach, Detach, Expel, Resize
from securechat.server.sequencer.presence import Presence, State
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import DirectoryStore
from securechat.wire.messages import Closing, LoggedIn, Reason, Seat

log = get_logger(__name__)

KEEP_SECONDS = 60.0
"""How long a seat is kept for an account that lost its connection."""


class WaitingRoom:
    """Seats and the queue for them. Not locked: requires holding the sequencer's turn.

    `tell(account, place)` is called for each waiting account whose place changes, 0 meaning that it is seated.
    """

    def __init__(self, seats: int, tell: Callable[[str, int], None]) -> None:
        """`seats`: accounts that may be logged in at once; 0 for any number."""
        self._limit = seats
        self._tell = tell
        self._seats: dict[str, int] = {}  # account -> its sessions
        self._kept: OrderedDict[str, float] = OrderedDict()  # accounts without sessions -> until when, in that order
        self._queue: OrderedDict[str, int] = OrderedDict()  # account -> its sessions, in order of arrival
        self._told: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many accounts wait. Any thread."""
        return len(self._queue)

    def enter(self, account: str) -> int:
        """Count one more session of an account; return its place: 0 if it is seated."""
        if account in self._seats:
            self._seats[account] += 1
            self._kept.pop(account, None)
            return 0
        if not self._queue and self._free():
            self._seats[account] = 1
            return 0
        self._queue[account] = self._queue.get(account, 0) + 1
        return self._told.setdefault(account, len(self._queue))

    def leave(self, account: str, now: float, *, keep: bool) -> None:
        """Count one session less. `keep`: the connection was lost, so its account's seat is kept for a while."""
        if account in self._seats:
            self._seats[account] -= 1
            if self._seats[account] == 0:
                if keep:
                    self._kept[account] = now + KEEP_SECONDS
                else:
                    del self._seats[account]
        else:
            self._queue[account] -= 1
            if self._queue[account] == 0:
                del self._queue[account]
                del self._told[account]
        self.advance(now)

    def resize(self, seats: int, now: float) -> None:
        """Have this many seats from now on. If they are fewer, nobody loses one."""
        self._limit = seats
        self.advance(now)

    def advance(self, now: float) -> float:
        """Give free seats to waiting accounts; return when the next kept seat becomes free (infinity: none is kept)."""
        while self._kept and self._next() <= now:
            account, _ = self._kept.popitem(last=False)
            del self._seats[account]
        while self._queue and self._free():
            account, sessions = self._queue.popitem(last=False)
            del self._told[account]
            self._seats[account] = sessions
            self._tell(account, 0)
        for place, account in enumerate(self._queue, start=1):
            if self._told[account] != place:
                self._told[account] = place
                self._tell(account, place)
        return self._next()

    def _next(self) -> float:
        """When the next kept seat becomes free."""
        return next(iter(self._kept.values()), math.inf)

    def _free(self) -> bool:
        return not self._limit or len(self._seats) < self._limit


class Seats:
    """The sessions that come and go, and the seats they take. Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        directory: DirectoryStore,
        sessions: Sessions,
        presence: Presence,
        reading: Reading,
        leases: Leases,
        rates: Rates,
        seats: int,
    ) -> None:
        """`seats`: accounts that may be logged in at once."""
        self._turn = turn
        self._directory = directory
        self._sessions = sessions
        self._presence = presence
        self._reading = reading
        self._leases = leases
        self._submissions = rates.submissions
        self._room = WaitingRoom(seats, self._tell_place)
        self._next_seat = math.inf

    @property
    def waiting(self) -> int:
        """How many accounts wait for a seat. Any thread; may be a moment old."""
        return self._room.waiting

    def attach(self, session: Session, login: Attach) -> None:
        """Give a session whose login succeeded its seat, or its place in the queue."""
        if session.ended:
            return
        session.account, session.account_created, session.device = login.account, login.created, login.device
        session.submissions = self._submissions.bucket(login.account)
        place = self._room.enter(login.account)
        if (old := self._sessions.find(login.account, login.device)) is not None:
            self.expel(old, "replaced", "the device has logged in again")
        self._sessions.add(session)
        device = self._directory.device(login.device)
        published = device is not None and device.account == login.account
        session.outlet.send(
            LoggedIn(
                login.id,
                login.account,
                login.token,
                login.expires,
                place,
                self._directory.identity_key(login.account),
                published,
                self._directory.count_key_packages(login.device) if published else 0,
            )
        )
        log.info(
            "logged in",
            client=session.outlet.address,
            account=login.account,
            device=login.device.hex()[:8],
            place=place,
        )
        if not place:
            self._seat(session)

    def detach(self, session: Session, end: Detach) -> None:
        """Take out a session whose connection has ended."""
        session.ended = True
        if session.account:
            state: State = "offline" if end.said_goodbye else "dropped"
            self._remove(session, keep_seat=not end.said_goodbye, state=state)

    def expel(self, session: Session, reason: Reason, text: str) -> None:
        """End a session from this side; nothing that it still asks for is done."""
        session.outlet.send(Closing(reason, text))
        session.expelled = True
        self._remove(session, keep_seat=False, state="offline")

    def expel_account(self, expel: Expel) -> None:
        """End all sessions of an account."""
        for session in self._sessions.of(expel.account):
            self.expel(session, "revoked", expel.text)

    def resize(self, resize: Resize) -> None:
        """Have more seats, or fewer, from now on."""
        self._room.resize(resize.seats, self._turn.now)

    def run(self) -> float:
        """Give away seats that were kept long enough; return when the next one is due (monotonic seconds)."""
        if self._turn.now >= self._next_seat:
            self._next_seat = self._room.advance(self._turn.now)
        return self._next_seat

    def _seat(self, session: Session) -> None:
        session.seated = True
        self._presence.note(session.account, "online")

    def _remove(self, session: Session, *, keep_seat: bool, state: State) -> None:
        self._sessions.remove(session)
        self._reading.leave(session)
        self._leases.leave(session)
        if session.seated and not self._sessions.is_online(session.account):
            self._presence.note(session.account, state)
        session.seated = False
        self._room.leave(session.account, self._turn.now, keep=keep_seat)
        self._next_seat = self._room.advance(self._turn.now)

    def _tell_place(self, account: str, place: int) -> None:
        for session in self._sessions.of(account):
            session.outlet.send(Seat(place))
            if not place:
                self._seat(session)
