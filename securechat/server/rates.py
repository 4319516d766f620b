"""Rates: how often an address or an account may do something (docs/design.md, section 5, Admission).

Rates are token buckets (`RateLimiter`): a burst is fine, a stream is not. Clients without an account are counted by
address, all others by account. Nobody is locked out: a bucket fills again by itself, a refusal says when
(`Refused.retry_after`), and nobody can empty a bucket that somebody else's next step depends on:

    connections     by address    beyond the rate they are closed unanswered: an answer would cost the TLS handshake
    attempts        by address    wrong passwords and tokens; what turns out to be right is given back
                    by account    the same; addresses that have logged in to the account before have a bucket of their
                                  own there, so that strangers who guess do not keep its owner out
    logins          by account    right passwords: each costs as much to compare as a wrong one
    new passwords   by account    tried and done: each costs the workers three times as much, and rewrites accounts
    registrations   by address    accounts made, at once
    accounts        by address    the same, in the long run
    requests        by account    everything but messages
    submissions     by account    messages
    messages        by account    everything that it sends, also what costs no other token: beyond the rate it is read
                                  later, and nothing is refused
    fetches         by account    key packages taken by it
                    of account    key packages taken from it: beyond the rate only its last-resort one is handed out
    statements      by account    certificates and statements published, which are kept for ever; counted once their
                                  signatures are right
    rooms           by account    rooms made
    keepsakes       by account    keepsakes left, each in the place of the one before
    uploads         by account    blobs begun
    transfers       by account    KiB of blobs that it uploads and fetches
"""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from securechat.errors import RefusedError, SecurechatError
from securechat.server.config import ServerConfig
from securechat.server.rate import Rate

MAX_BUCKETS = 10_000
"""Addresses or accounts remembered for each rate, about 2 MB: the longest unused are forgotten first."""


class Bucket:
    """One token bucket. Requires that one thread at a time uses it.

    Kept as one number, the time at which the bucket will be full again: each token that is taken moves it on by what
    one token takes to flow in (the generic cell rate algorithm, ITU-T I.371).
    """

    __slots__ = ("full_at", "limiter")

    def __init__(self, limiter: "RateLimiter") -> None:
        self.limiter = limiter
        self.full_at = 0.0  # monotonic seconds; in the past: it is full

    def take(self, now: float, tokens: int = 1) -> None:
        """Take tokens or raise RefusedError `slow-down`; `now` in monotonic seconds. A burst pays for any number."""
        limiter = self.limiter
        full_at = self.full_at if self.full_at > now else now  # noqa: FURB136 - `max` costs as much as all the rest
        full_at += limiter.interval if tokens == 1 else limiter.time_of(tokens)
        if full_at - now > limiter.capacity:
            # A slower rate, since changed, must not leave more than one token's wait behind.
            self.full_at = min(self.full_at, now + limiter.capacity)
            limiter.refused += 1
            retry_after = self.full_at + limiter.time_of(tokens) - now - limiter.capacity
            raise RefusedError("slow-down", limiter.text, retry_after=retry_after)
        self.full_at = full_at

    def owe(self, now: float, tokens: float) -> float:
        """Take tokens, whether they are there or not; return the seconds until as many have flowed in, mostly 0."""
        full_at = self.full_at if self.full_at > now else now  # noqa: FURB136 - as in `take`
        self.full_at = full_at = full_at + tokens * self.limiter.interval
        debt = full_at - now - self.limiter.capacity
        return debt if debt > 0 else 0.0


class RateLimiter:
    """A bucket per key, of the `MAX_BUCKETS` keys that were used last. May be used from any thread."""

    def __init__(self, rate: Rate, text: str) -> None:
        """`text`: what a refused client is told."""
        self.text = text
        self.refused = 0
        """How often somebody was refused; about, since several threads may count at once."""
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()
        self._lock = threading.Lock()  # protects _buckets, and those of them that `bucket` has not given out
        self.change(rate)

    def change(self, rate: Rate) -> None:
        """Use another rate from now on, for existing buckets too."""
        self.interval = 1 / rate.per_second
        # A microsecond more, so that rounding sums of intervals does not cost the last token of a burst.
        self.capacity = rate.burst * self.interval + 1e-6

    def bucket(self, key: Hashable) -> Bucket:
        """Return the bucket of a key, for one thread to keep and use without this limiter's lock."""
        with self._lock:
            return self._bucket(key)

    def time_of(self, tokens: int) -> float:
        """Return the seconds in which as many tokens flow in as are taken for `tokens`: a burst at most."""
        return min(tokens * self.interval, self.capacity)

    def take(self, key: Hashable, now: float, tokens: int = 1) -> None:
        """As `Bucket.take`."""
        with self._lock:
            self._bucket(key).take(now, tokens)

    def give_back(self, key: Hashable) -> None:
        """Return a token: the attempt turned out to be honest."""
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

    def __init__(self, config: ServerConfig) -> None:
        here = "from this network address"
        self.connections = RateLimiter(config.connections_per_address, f"too many connections {here}")
        self.attempts_by_address = RateLimiter(config.attempts_per_address, f"too many attempts to log in {here}")
        self.attempts_by_account = RateLimiter(config.attempts_per_account, "too many attempts at this account")
        self.logins = RateLimiter(config.logins_per_account, "this account logs in with its password too often")
        self.password_changes = RateLimiter(
            config.password_changes_per_account, "this account changes its password too often"
        )
        self.registrations = RateLimiter(config.registrations_per_address, f"too many new accounts {here}")
        self.accounts = RateLimiter(config.accounts_per_address, f"too many new accounts {here}")
        self.requests = RateLimiter(config.requests_per_account, "this account asks for too much at once")
        self.submissions = RateLimiter(config.submissions_per_account, "this account writes too much at once")
        self.messages = RateLimiter(config.messages_per_account, "")  # nobody is refused by it
        self.fetches = RateLimiter(config.fetches_per_account, "this account asks for too many keys at once")
        self.statements = RateLimiter(
            config.statements_per_account, "this account signs too much about itself: certificates and statements"
        )
        self.rooms = RateLimiter(config.rooms_per_account, "this account makes too many rooms at once")
        self.keepsakes = RateLimiter(config.keepsakes_per_account, "this account leaves too many keepsakes")
        self.uploads = RateLimiter(config.uploads_per_account, "this account sends too many files at once")
        self.transfers = RateLimiter(config.transfers_per_account, "this account sends and fetches files too fast")
        self.fetches_of = RateLimiter(config.fetches_of_account, "too many keys of this account were asked for")
        self._by_setting = {
            "connections_per_address": self.connections,
            "attempts_per_address": self.attempts_by_address,
            "attempts_per_account": self.attempts_by_account,
            "logins_per_account": self.logins,
            "password_changes_per_account": self.password_changes,
            "registrations_per_address": self.registrations,
            "accounts_per_address": self.accounts,
            "requests_per_account": self.requests,
            "submissions_per_account": self.submissions,
            "messages_per_account": self.messages,
            "fetches_per_account": self.fetches,
            "fetches_of_account": self.fetches_of,
            "statements_per_account": self.statements,
            "keepsakes_per_account": self.keepsakes,
            "rooms_per_account": self.rooms,
            "uploads_per_account": self.uploads,
            "transfers_per_account": self.transfers,
        }
        self._familiar: OrderedDict[tuple[str, str], None] = OrderedDict()  # (account, address) that have logged in
        self._lock = threading.Lock()  # protects _familiar

    def change(self, config: ServerConfig) -> None:
        """Use other rates from now on."""
        for setting, limiter in self._by_setting.items():
            limiter.change(getattr(config, setting))

    def refused(self) -> dict[str, int]:
        """How often each rate has refused somebody, by the name of its setting."""
        return {setting: limiter.refused for setting, limiter in self._by_setting.items()}

    def attempt(self, account: str, address: str, now: float) -> "Attempt":
        """Count an attempt to authenticate as `account`, or raise RefusedError `slow-down`."""
        with self._lock:
            key: Hashable = (account, address) if (account, address) in self._familiar else account
        taken: list[tuple[RateLimiter, Hashable]] = []
        try:
            for limiter, whose in (
                (self.logins, account), (self.attempts_by_address, address), (self.attempts_by_account, key),
            ):  # fmt: skip
                limiter.take(whose, now)
                taken.append((limiter, whose))
        except RefusedError:
            for limiter, whose in taken:
                limiter.give_back(whose)  # nothing was tried
            raise
        return Attempt(self, account, address, key)

    def remember(self, account: str, address: str) -> None:
        """Somebody at this address has authenticated as `account`."""
        with self._lock:
            self._familiar[account, address] = None
            self._familiar.move_to_end((account, address))
            if len(self._familiar) > MAX_BUCKETS:
                self._familiar.popitem(last=False)


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
        """It succeeded: it counts as a login and no guess, and this address is familiar from now on."""
        self.rates.attempts_by_address.give_back(self.address)
        self.rates.attempts_by_account.give_back(self.key)
        self.rates.remember(self.account, self.address)

    def failed(self, error: SecurechatError) -> None:
        """It did not: it is no login. Others who guess do not use up what its owner logs in with."""
        if isinstance(error, RefusedError) and error.code == "busy":
            self.forget()
        else:
            self.rates.logins.give_back(self.account)

    def forget(self) -> None:
        """Nothing was tried after all: give the tokens back."""
        self.rates.logins.give_back(self.account)
        self.rates.attempts_by_address.give_back(self.address)
        self.rates.attempts_by_account.give_back(self.key)


def address_key(host: str) -> str:
    """Return the key for one subscriber's addresses: the IPv4 address, or the /64 of an IPv6 address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 6:
        if (mapped := address.ipv4_mapped) is not None:
            return str(mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
