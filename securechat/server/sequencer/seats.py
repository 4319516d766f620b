"""Seats belong to accounts: `max_clients` are logged in at once, the next ones wait (docs/design.md, section 5).

They wait in the order in which they came, one place per account. A seat is kept `KEEP_SECONDS` for an account that lost
its connection. Those who came from one address have a share of the seats; who waits for a place in it is passed by
others.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from securechat.errors import RefusedError
from securechat.identity.statements import EMPTY, Head, decode_link
from securechat.server.accounts.records import Account
from securechat.server.logs import get_logger
from securechat.server.rates import Rates
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.operations import Detach, Expel, Resize, Workers
from securechat.server.sequencer.presence import Presence, State
from securechat.server.sequencer.quotas import Quotas
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.session import MAX_SESSIONS, Session, Sessions, refusal
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ChainStore, DirectoryStore
from securechat.wire.messages import Closing, LoggedIn, Login, Reason, Resume, Seat, SecretReplaced

log = get_logger(__name__)

KEEP_SECONDS = 60.0
"""How long a seat is kept for an account that lost its connection."""


class WaitingRoom:
    """Seats and the queue for them. Not locked: requires holding the sequencer's turn.

    `tell(account, place)` is called for each waiting account whose place changes, 0 meaning that it is seated.
    """

    def __init__(self, seats: int, share: int, tell: Callable[[str, int], None]) -> None:
        """`seats`: accounts that may be logged in at once, and `share`: from one address; 0 for any number."""
        self._limit = seats
        self._share = share
        self._tell = tell
        self._origins: dict[str, str] = {}  # account -> from where it came, of those with a seat or in the queue
        self._seated: Counter[str] = Counter()  # address -> the seats of those who came from it
        self._seats: dict[str, int] = {}  # account -> its sessions
        self._kept: OrderedDict[str, float] = OrderedDict()  # accounts without sessions -> until when, in that order
        self._queue: OrderedDict[str, int] = OrderedDict()  # account -> its sessions, in order of arrival
        self._told: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many accounts wait. Any thread."""
        return len(self._queue)

    def enter(self, account: str, address: str) -> int:
        """Count one more session of an account; return its place: 0 if it is seated.

        `address`: of this session; that of an account's first one counts for as long as it has a seat or waits.
        """
        if account in self._seats:
            self._seats[account] += 1
            self._kept.pop(account, None)
            return 0
        if self._free(self._origins.setdefault(account, address)):  # whoever waits with a seat free has to
            self._sit(account, 1)
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
                    self._stand_up(account)
        else:
            self._queue[account] -= 1
            if self._queue[account] == 0:
                del self._queue[account]
                del self._told[account]
                del self._origins[account]
        self.advance(now)

    def resize(self, seats: int, share: int, now: float) -> None:
        """Have this many seats from now on. If they are fewer, nobody loses one."""
        self._limit, self._share = seats, share
        self.advance(now)

    def advance(self, now: float) -> float:
        """Give free seats to waiting accounts; return when the next kept seat becomes free (infinity: none is kept)."""
        while self._kept and self._next() <= now:
            account, _ = self._kept.popitem(last=False)
            self._stand_up(account)
        if self._queue and self._has_seats():
            for account in [each for each in self._queue if self._has_seats()]:
                if self._free(self._origins[account]):
                    del self._told[account]
                    self._sit(account, self._queue.pop(account))
                    self._tell(account, 0)
        for place, account in enumerate(self._queue, start=1):
            if self._told[account] != place:
                self._told[account] = place
                self._tell(account, place)
        return self._next()

    def _next(self) -> float:
        """When the next kept seat becomes free."""
        return next(iter(self._kept.values()), math.inf)

    def _sit(self, account: str, sessions: int) -> None:
        self._seats[account] = sessions
        self._seated[self._origins[account]] += 1

    def _stand_up(self, account: str) -> None:
        del self._seats[account]
        address = self._origins.pop(account)
        self._seated[address] -= 1
        if not self._seated[address]:
            del self._seated[address]

    def _has_seats(self) -> bool:
        return not self._limit or len(self._seats) < self._limit

    def _free(self, address: str) -> bool:
        """Whether somebody from there may take a seat now."""
        return self._has_seats() and (not self._share or self._seated[address] < self._share)


class Seats:
    """The sessions that come and go, and the seats they take. Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        chains: ChainStore,
        directory: DirectoryStore,
        sessions: Sessions,
        presence: Presence,
        reading: Reading,
        leases: Leases,
        rates: Rates,
        quotas: Quotas,
        workers: Sequence[Workers],
        seats: int,
        share: int,
    ) -> None:
        """`seats`: accounts that may be logged in at once, and `share`: from one address.

        `workers`: what a session asked of them ends with it.
        """
        self._turn = turn
        self._chains = chains
        self._directory = directory
        self._sessions = sessions
        self._presence = presence
        self._reading = reading
        self._leases = leases
        self._workers = workers
        self._submissions = rates.submissions
        self._quotas = quotas
        self._room = WaitingRoom(seats, share, self._tell_place)
        self._next_seat = math.inf

    @property
    def waiting(self) -> int:
        """How many accounts wait for a seat. Any thread; may be a moment old."""
        return self._room.waiting

    def attach(self, session: Session, login: Login | Resume, account: Account, token: bytes, expires: int) -> None:
        """Give a session whose login succeeded its seat, or its place in the queue; its token `expires` (ms)."""
        if session.ended:
            return
        if self._sessions.is_full(account.name, login.device):
            text = f"{MAX_SESSIONS} programs of this account are connected already: end one of them"
            session.outlet.send(refusal(login.id, RefusedError("busy", text)))
            return
        session.account, session.account_created, session.device = account.name, account.created, login.device
        session.by_password = isinstance(login, Login)
        session.secret_set = account.secret_set
        session.submissions = self._submissions.bucket(account.name)
        session.quota = self._quotas.of(account.name)
        place = self._room.enter(account.name, session.address)
        if (old := self._sessions.find(account.name, login.device)) is not None:
            self.expel(old, "replaced", "the device has logged in again")
        self._sessions.add(session)
        published = self._directory.device(session.who)
        identity_key = self._directory.identity_key(account.name)
        newest = self._chains.head(account.name, identity_key)
        head = Head.after(decode_link(newest.link)) if newest is not None else EMPTY
        session.outlet.send(
            LoggedIn(
                login.id,
                account.name,
                token,
                expires,
                place,
                identity_key,
                head.seq,
                head.digest,
                published.certificate if published is not None else b"",
                account.secret_set,
            )
        )
        log.info(
            "logged in",
            client=session.outlet.address,
            account=account.name,
            device=login.device.hex()[:8],
            place=place,
        )
        if not place:
            self._seat(session)

    def tell_secret(self, by: Session, account: Account) -> None:
        """Tell the other sessions of an account that a login, `by`, has put another secret in place of theirs."""
        for session in self._sessions.of(account.name):
            if session is not by and session.secret_set < account.secret_set:
                session.secret_set = account.secret_set
                session.outlet.send(SecretReplaced(account.secret_set))

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
        """End the sessions of an account."""
        for session in self._sessions.of(expel.account):
            if session is not expel.spared:
                self.expel(session, "logged-out", expel.text)

    def resize(self, resize: Resize) -> None:
        """Have more seats, or fewer, from now on."""
        self._room.resize(resize.seats, resize.share, self._turn.now)

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
        session.postponed.clear()
        for each in self._workers:
            each.drop(session.account, session)
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
