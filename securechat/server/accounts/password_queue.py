"""The queue for the password workers: short, and fair by address, and within one address by account.

Of those that wait, the address comes first for which least was hashed lately: some jobs take three hashes, and whoever
comes once does not wait for one of each that come all the time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from securechat.errors import RefusedError
from securechat.server.rate import Rate
from securechat.server.rates import RateLimiter

QUEUE = 64
"""Logins that wait for a worker: a class that comes at once, three seconds' worth. Longer queues only make everybody
time out."""

RESERVED = 4
"""Extra places for addresses from which the account has logged in before: others who guess do not keep them out."""

PER_ACCOUNT = 4
"""Logins to one account from one address that wait at once."""

REMEMBERED = Rate(1, 0.05)
"""Hashing of an address, in seconds: of each, a twentieth of a second is forgotten in a second."""


class Job(NamedTuple):
    """`refuse` is called instead of `work` if the job has to give way. `owner`: who waits for it."""

    work: Callable[[], None]
    refuse: Callable[[RefusedError], None]
    owner: object = None


def _busy() -> RefusedError:
    return RefusedError("busy", "too many people are logging in at this moment; try again soon")


class PasswordQueue:
    """Jobs by address and account. May be used from any thread."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, deque[Job]]] = {}  # none of them empty; the first is next
        self._count = 0
        self._closing = False
        self._hashed = RateLimiter(REMEMBERED, "")  # seconds, by address; nobody is refused by it
        self._changed = threading.Condition()  # protects the three above, and the buckets

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def put(self, job: Job, *, address: str, account: str, familiar: bool) -> None:
        """Queue a job. If all places are taken, the newest of the address that has most gives way.

        `familiar`: the reserved places may be taken. Raises RefusedError `busy` if there is no place for it.
        """
        leaving = None
        with self._changed:
            mine = self._jobs.get(address, {})
            if self._closing or len(mine.get(account, ())) >= PER_ACCOUNT:
                raise _busy()
            if self._count >= QUEUE + (RESERVED if familiar else 0):
                most = max(self._jobs, key=self._of)
                if self._of(most) <= self._of(address) + 1:
                    raise _busy()
                theirs = self._jobs[most]
                leaving = self._remove(most, max(reversed(theirs), key=lambda each: len(theirs[each])))
            self._jobs.setdefault(address, {}).setdefault(account, deque()).append(job)
            self._count += 1
            self._changed.notify()
        if leaving is not None:
            leaving.refuse(_busy())

    def take(self) -> tuple[str, Job] | None:
        """Wait for the next job, and return whose address it is of; None: the queue is closed, and empty."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return None
                self._changed.wait()
            now = time.monotonic()
            address = min(self._jobs, key=lambda each: max(self._hashed.bucket(each).full_at, now))  # then in turns
            accounts = self._jobs[address]
            account = next(iter(accounts))
            jobs = accounts[account]
            job = jobs[0]
            self._remove(address, account, first=True)
            if jobs:
                accounts[account] = accounts.pop(account)  # to the end, behind the others
            if accounts:
                self._jobs[address] = self._jobs.pop(address)
            return address, job

    def count(self, address: str, seconds: float) -> None:
        """A job of this address has taken so long."""
        with self._changed:
            self._hashed.bucket(address).owe(time.monotonic(), seconds)

    def drop(self, owner: object) -> None:
        """Forget the jobs of an owner who waits for them no more: they have to give way, to nobody."""
        dropped: list[Job] = []
        with self._changed:
            found = [
                (address, account)
                for address, accounts in self._jobs.items()
                for account, jobs in accounts.items()
                if any(job.owner is owner for job in jobs)
            ]
            for address, account in found:
                jobs = self._jobs[address][account]
                left = [job for job in jobs if job.owner is not owner]
                dropped += [job for job in jobs if job.owner is owner]
                while jobs:
                    self._remove(address, account)
                if left:
                    self._jobs.setdefault(address, {})[account] = deque(left)
                    self._count += len(left)
        for job in dropped:
            job.refuse(_busy())

    def close(self) -> None:
        """Take no more jobs."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _of(self, address: str) -> int:
        return sum(map(len, self._jobs.get(address, {}).values()))

    def _remove(self, address: str, account: str, *, first: bool = False) -> Job:
        accounts = self._jobs[address]
        jobs = accounts[account]
        job = jobs.popleft() if first else jobs.pop()
        self._count -= 1
        if not jobs:
            del accounts[account]
        if not accounts:
            del self._jobs[address]
        return job
