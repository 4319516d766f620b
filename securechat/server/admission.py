"""Who gets in, and how often somebody may try: rates, newcomers, seats, the waiting room (design, section 5).

Rates are token buckets (`RateLimiter`): a burst is fine, a stream is not. What has no account yet is counted by
address, what has one by account. Nobody is locked out: a bucket fills again by itself, a refusal says when
(`Refused.retry_after`), and nobody can empty a bucket that somebody else's next step depends on:

    connections     by address    beyond the rate they are closed unanswered: an answer would cost the TLS handshake
    attempts        by address    wrong passwords and tokens; what turns out to be right is given back
                    by account    the same; addresses that have logged in to the account before have a bucket of their
                                  own there, so that strangers who guess do not keep its owner out
    registrations   by address    accounts made
    requests        by account    everything but messages
    submissions     by account    messages
    fetches         by account    key packages taken by it
                    of account    key packages taken from it: beyond the rate only its last-resort one is handed out

Newcomers are connections that are not logged in. There is room for a number of them, and the oldest gives way.

Seats belong to accounts: `max_clients` of them are logged in at once, the next ones wait in the order in which they
came, one place per account. A seat is kept `KEEP_SECONDS` for an account that lost its connection.
"""

import ipaddress
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

from securechat.errors import RefusedError
from securechat.wire.limits import MAX_RETRY_AFTER

if TYPE_CHECKING:
    from securechat.server.config import ServerConfig

MAX_NEWCOMERS = 2048
"""Connections at once that are not logged in: about 100 MB of TLS states."""

MAX_NEWCOMERS_PER_ADDRESS = 1024
"""The same from one address: a site behind one gateway fits in, and one address cannot fill the server alone."""

KEEP_SECONDS = 60.0
"""How long a seat is kept for an account that lost its connection."""

MAX_BUCKETS = 10_000
"""Addresses or accounts whose rate is remembered, about 2 MB each time: the longest unused are forgotten first."""

_RATE = re.compile(r"(\d{1,9}) *\+ *(\d{1,9}(?:\.\d{1,6})?)/s", re.ASCII)


class Rate(NamedTuple):
    """A bucket of `burst` tokens that fills at `per_second`. Written `200 + 5/s`."""

    burst: int
    per_second: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form. Raises ValueError."""
        match = _RATE.fullmatch(text)
        if match is None or int(match[1]) < 1 or float(match[2]) * MAX_RETRY_AFTER / 1000 < 1:
            raise ValueError("Expected a burst and a rate, as in `200 + 5/s`: at least 1, and one in ten minutes")
        return cls(int(match[1]), float(match[2]))

    def __str__(self) -> str:
        """The written form."""
        return f"{self.burst} + {self.per_second:g}/s"


class Bucket:
    """One token bucket. Requires that one thread at a time uses it.

    Kept as one number, the time at which the bucket will be full again: each token that is taken moves it on by what
    one token takes to flow in (the generic cell rate algorithm, ITU-T I.371).
    """

    __slots__ = ("full_at", "limiter")

    def __init__(self, limiter: "RateLimiter") -> None:
        self.limiter = limiter
        self.full_at = 0.0  # monotonic seconds; in the past: it is full

    def take(self, now: float) -> None:
        """Take one token or raise RefusedError `slow-down`; `now` in monotonic seconds."""
        limiter = self.limiter
        full_at = self.full_at if self.full_at > now else now  # noqa: FURB136 - `max` costs as much as all the rest
        full_at += limiter.interval
        if full_at - now > limiter.capacity:
            # Never longer than one token takes: what a slower rate, since changed, has left behind is forgotten.
            self.full_at = min(self.full_at, now + limiter.capacity)
            retry_after = self.full_at + limiter.interval - now - limiter.capacity
            raise RefusedError("slow-down", limiter.complaint, retry_after=retry_after)
        self.full_at = full_at


class RateLimiter:
    """A bucket per key, of the `MAX_BUCKETS` keys that were used last. May be used from any thread."""

    def __init__(self, rate: Rate, complaint: str) -> None:
        """`complaint`: what who is refused is told."""
        self.complaint = complaint
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()
        self._lock = threading.Lock()  # protects _buckets, and those of them that `bucket` has not given out
        self.change(rate)

    def change(self, rate: Rate) -> None:
        """Another rate from now on, also for the buckets that there are."""
        self.interval = 1 / rate.per_second
        # A microsecond more, for the rounding of sums of intervals: the last token of a burst must not be lost to it.
        self.capacity = rate.burst * self.interval + 1e-6

    def bucket(self, key: Hashable) -> Bucket:
        """Return the bucket of a key, for one thread to keep and use without this limiter's lock."""
        with self._lock:
            return self._bucket(key)

    def take(self, key: Hashable, now: float) -> None:
        """Take one token or raise RefusedError `slow-down`; `now` in monotonic seconds."""
        with self._lock:
            self._bucket(key).take(now)

    def give_back(self, key: Hashable) -> None:
        """Return a token: what it was taken for turned out to be honest."""
        with self._lock:
            if (bucket := self._buckets.get(key)) is not None:
                bucket.full_at -= self.interval

    def _bucket(self, key: Hashable) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = Bucket(self)
        else:
            self._buckets.move_to_end(key)
        return bucket


class Rates:
    """All rates of one server, as its operator has set them (`config.ServerConfig`, where each has its reason)."""

    def __init__(self, config: "ServerConfig") -> None:
        here = "from this network address"
        self.connections = RateLimiter(config.connections_per_address, f"too many connections {here}")
        self.attempts_by_address = RateLimiter(config.attempts_per_address, f"too many attempts to log in {here}")
        self.attempts_by_account = RateLimiter(config.attempts_per_account, "too many attempts at this account")
        self.registrations = RateLimiter(config.registrations_per_address, f"too many new accounts {here}")
        self.requests = RateLimiter(config.requests_per_account, "this account asks for too much at once")
        self.submissions = RateLimiter(config.submissions_per_account, "this account writes too much at once")
        self.fetches = RateLimiter(config.fetches_per_account, "this account asks for too many keys at once")
        self.fetches_of = RateLimiter(config.fetches_of_account, "too many keys of this account were asked for")
        self._by_setting = {
            "connections_per_address": self.connections,
            "attempts_per_address": self.attempts_by_address,
            "attempts_per_account": self.attempts_by_account,
            "registrations_per_address": self.registrations,
            "requests_per_account": self.requests,
            "submissions_per_account": self.submissions,
            "fetches_per_account": self.fetches,
            "fetches_of_account": self.fetches_of,
        }
        self._familiar: OrderedDict[tuple[str, str], None] = OrderedDict()  # (account, address) that have logged in
        self._lock = threading.Lock()  # protects _familiar

    def change(self, config: "ServerConfig") -> None:
        """Other rates from now on."""
        for setting, limiter in self._by_setting.items():
            limiter.change(getattr(config, setting))

    def attempt(self, account: str, address: str, now: float) -> "Attempt":
        """Count an attempt to show that one is `account`, or raise RefusedError `slow-down`."""
        with self._lock:
            key: Hashable = (account, address) if (account, address) in self._familiar else account
        self.attempts_by_address.take(address, now)
        try:
            self.attempts_by_account.take(key, now)
        except RefusedError:
            self.attempts_by_address.give_back(address)  # nothing was tried
            raise
        return Attempt(self, account, address, key)

    def remember(self, account: str, address: str) -> None:
        """Somebody at this address has shown to be `account`."""
        with self._lock:
            if len(self._familiar) >= MAX_BUCKETS:
                self._familiar.popitem(last=False)
            self._familiar[account, address] = None
            self._familiar.move_to_end((account, address))


class Attempt(NamedTuple):
    """A counted attempt."""

    rates: Rates
    account: str
    address: str
    key: Hashable

    @property
    def familiar(self) -> bool:
        """Whether the account has logged in from this address before."""
        return self.key != self.account

    def succeeded(self) -> None:
        """It was right: it does not count, and those who come from here are no strangers any more."""
        self.forget()
        self.rates.remember(self.account, self.address)

    def forget(self) -> None:
        """Nothing was tried after all."""
        self.rates.attempts_by_address.give_back(self.address)
        self.rates.attempts_by_account.give_back(self.key)


def address_key(host: str) -> str:
    """Return what stands for one subscriber's addresses: the address itself, of IPv6 its /64."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 6:
        if (mapped := address.ipv4_mapped) is not None:
            return str(mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


Newcomer = TypeVar("Newcomer", bound=Hashable)


class Newcomers(Generic[Newcomer]):
    """Connections that are not logged in. May be used from any thread.

    Where there is no room for another one the oldest gives way: of the same address if that has its share, else of the
    address that has most. Whoever logs in at once has done so long before being the oldest, however many are silent.
    """

    def __init__(self, limit: int = MAX_NEWCOMERS, limit_per_address: int = MAX_NEWCOMERS_PER_ADDRESS) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._total = 0
        self._by_address: dict[str, OrderedDict[Newcomer, None]] = {}
        self._lock = threading.Lock()  # protects the two above

    def __len__(self) -> int:
        """How many there are."""
        return self._total

    def enter(self, address: str, newcomer: Newcomer) -> Newcomer | None:
        """Count one more; return the one that has to give way, which is not counted any more."""
        with self._lock:
            mine = self._by_address.setdefault(address, OrderedDict())
            leaving = None
            if len(mine) >= self._limit_per_address:
                leaving = self._remove_oldest(address)
            elif self._total >= self._limit:
                leaving = self._remove_oldest(max(self._by_address, key=lambda each: len(self._by_address[each])))
            self._by_address.setdefault(address, mine)[newcomer] = None
            self._total += 1
            return leaving

    def leave(self, address: str, newcomer: Newcomer) -> None:
        """One is logged in, or gone. May be said twice."""
        with self._lock:
            self._remove(address, newcomer)

    def _remove_oldest(self, address: str) -> Newcomer:
        oldest = next(iter(self._by_address[address]))
        self._remove(address, oldest)
        return oldest

    def _remove(self, address: str, newcomer: Newcomer) -> None:
        mine = self._by_address.get(address, OrderedDict())
        if newcomer in mine:
            del mine[newcomer]
            self._total -= 1
            if not mine:
                del self._by_address[address]


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
        """One session less. `keep` its account's seat for a while: the connection was lost, not ended."""
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
        """So many seats from now on. Of fewer, who has one keeps it."""
        self._limit = seats
        self.advance(now)

    def advance(self, now: float) -> float:
        """Give free seats to those who wait; return when a kept seat next becomes free (infinity: none is)."""
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
