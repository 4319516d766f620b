"""Who gets in, and how often somebody may try: seats, the waiting room, rates (design, section 5, Admission).

Seats belong to accounts: `max_clients` of them are logged in at once, the next ones wait in the order in which they
came, one place per account. A seat is kept `KEEP_SECONDS` for an account that lost its connection.

Rates are token buckets: a burst is fine, a stream is not.
"""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from securechat.errors import RefusedError

MAX_UNAUTHENTICATED = 2048
"""Connections at once that are not logged in: about 100 MB of TLS states."""

MAX_UNAUTHENTICATED_PER_ADDRESS = 1024
"""The same from one address: a site behind one gateway fits in, and one address cannot fill the server alone."""

KEEP_SECONDS = 60.0
"""How long a seat is kept for an account that lost its connection."""

LOGIN_BURST_PER_ADDRESS, LOGINS_PER_SECOND_PER_ADDRESS = 200, 5.0
"""Failed logins and registrations from one address: a class of students fits in, a dictionary does not."""

LOGIN_BURST_PER_ACCOUNT, LOGINS_PER_SECOND_PER_ACCOUNT = 20, 0.2
"""Failed logins to one account: more tries than a person makes, 17,000 guesses a day at most."""

FETCH_BURST, FETCHES_PER_SECOND = 1000, 20.0
"""Key packages that one account may take: enough to invite everybody once."""

TARGET_BURST, TARGETS_PER_SECOND = 1000, 5.0
"""Key packages that may be taken from one account: they run out, and the last-resort one protects less."""

REQUEST_BURST, REQUESTS_PER_SECOND = 4000, 200.0
"""Requests of one session other than messages: an honest client asks a few per conversation when it connects."""

MAX_BUCKETS = 10_000
"""Addresses or accounts whose rate is remembered: the longest unused are forgotten first."""


@dataclass
class _Bucket:
    tokens: float
    updated: float


class RateLimiter:
    """A token bucket per key. May be used from any thread."""

    def __init__(self, burst: float, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()
        self._lock = threading.Lock()  # protects _buckets

    def take(self, key: Hashable, now: float) -> None:
        """Take one token or raise RefusedError `slow-down`; `now` in monotonic seconds."""
        with self._lock:
            bucket = self._buckets.pop(key, None)
            if bucket is None:
                bucket = _Bucket(self._burst, now)
                if len(self._buckets) >= MAX_BUCKETS:
                    self._buckets.popitem(last=False)
            self._buckets[key] = bucket
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.updated) * self._per_second)
            bucket.updated = now
            if bucket.tokens < 1:
                raise RefusedError("slow-down", "too many attempts; wait a while and try again")
            bucket.tokens -= 1

    def give_back(self, key: Hashable) -> None:
        """Return a token: what it was taken for turned out to be honest."""
        with self._lock:
            if (bucket := self._buckets.get(key)) is not None:
                bucket.tokens = min(self._burst, bucket.tokens + 1)


def address_key(host: str) -> str:
    """Return what stands for one subscriber's addresses: the address itself, of IPv6 its /64."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 6:
        if (mapped := address.ipv4_mapped) is not None:
            return str(mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class ConnectionCounter:
    """Counts connections that are not logged in. May be used from any thread."""

    def __init__(
        self, limit: int = MAX_UNAUTHENTICATED, limit_per_address: int = MAX_UNAUTHENTICATED_PER_ADDRESS
    ) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._total = 0
        self._by_address: dict[str, int] = {}
        self._lock = threading.Lock()  # protects the two above

    def enter(self, address: str) -> None:
        """Count one more connection or raise RefusedError `busy`."""
        with self._lock:
            mine = self._by_address.get(address, 0)
            if self._total >= self._limit or mine >= self._limit_per_address:
                raise RefusedError("busy", "too many connections that are not logged in")
            self._total += 1
            self._by_address[address] = mine + 1

    def leave(self, address: str) -> None:
        """One is logged in, or gone."""
        with self._lock:
            self._total -= 1
            mine = self._by_address.pop(address) - 1
            if mine:
                self._by_address[address] = mine


@dataclass
class _Seat:
    sessions: int
    kept_until: float = 0.0  # meaningful while there are no sessions


class WaitingRoom:
    """Seats and the queue for them. Not locked: requires holding the sequencer's turn.

    `tell(account, place)` is called for each waiting account whose place changes, 0 meaning that it is seated.
    """

    def __init__(self, seats: int, tell: Callable[[str, int], None]) -> None:
        """`seats`: accounts that may be logged in at once; 0 for any number."""
        self._limit = seats
        self._tell = tell
        self._seats: dict[str, _Seat] = {}
        self._queue: OrderedDict[str, int] = OrderedDict()  # account -> its sessions, in order of arrival
        self._told: dict[str, int] = {}

    def enter(self, account: str) -> int:
        """Count one more session of an account; return its place: 0 if it is seated."""
        if (seat := self._seats.get(account)) is not None:
            seat.sessions += 1
            return 0
        if account not in self._queue and not self._queue and self._free():
            self._seats[account] = _Seat(1)
            return 0
        self._queue[account] = self._queue.get(account, 0) + 1
        return self._told.setdefault(account, len(self._queue))

    def leave(self, account: str, now: float, *, keep: bool) -> None:
        """One session less. `keep` its account's seat for a while: the connection was lost, not ended."""
        if (seat := self._seats.get(account)) is not None:
            seat.sessions -= 1
            if seat.sessions == 0:
                if keep:
                    seat.kept_until = now + KEEP_SECONDS
                else:
                    del self._seats[account]
        else:
            self._queue[account] -= 1
            if self._queue[account] == 0:
                del self._queue[account]
                del self._told[account]
        self.advance(now)

    def advance(self, now: float) -> float:
        """Give free seats to those who wait; return when a kept seat next becomes free (infinity: none is)."""
        for account, seat in list(self._seats.items()):
            if seat.sessions == 0 and seat.kept_until <= now:
                del self._seats[account]
        while self._queue and self._free():
            account, sessions = self._queue.popitem(last=False)
            del self._told[account]
            self._seats[account] = _Seat(sessions)
            self._tell(account, 0)
        for place, account in enumerate(self._queue, start=1):
            if self._told[account] != place:
                self._told[account] = place
                self._tell(account, place)
        return min((seat.kept_until for seat in self._seats.values() if seat.sessions == 0), default=float("inf"))

    def _free(self) -> bool:
        return not self._limit or len(self._seats) < self._limit
