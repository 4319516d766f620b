"""What a server knows about itself: counts since it started, and its state at this moment.

Counting must cost nothing next to what is counted: plain integers, added to once per turn or login. `metrics` and
`admin` read them from other threads, so a number may be one turn old.
"""

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import field
from typing import Final, Literal

from securechat.value import value

LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds in seconds: from a lone message on a fast disk to a disk that is about to fail."""

TOP_ACCOUNTS: Final = 5
"""Accounts whose bytes are shown: where one is far ahead of the others, `admin top` has its name."""

LoginKind = Literal["password", "resume", "register"]

TurnedAway = Literal["no-files", "too-many", "gave-way"]
"""At accept, because of the system's limit of files or `connections_per_address`; or, when there was no room for more,
the oldest connection that was not logged in."""


class Counters:
    """Counts since the start."""

    def __init__(self) -> None:
        self.entries = 0
        self.commits: Counter[str] = Counter()  # by outcome: `accepted`, or the code of the refusal
        self.refused: Counter[str] = Counter()
        """Requests of those who are logged in, by the code of the refusal. Requires holding the turn."""
        self.turned_away: Counter[TurnedAway] = Counter()
        """Connections that were closed for others' sake; added to by the acceptor alone."""
        self.latency = [0] * (len(LATENCY_BUCKETS) + 1)
        """Entries by the time from receiving them to handing them, once on disk, to their readers; the last: longer."""
        self.latency_sum = 0.0
        self._logins: Counter[tuple[LoginKind, str]] = Counter()
        self._lock = threading.Lock()  # protects _logins, which I/O threads and password workers add to

    def delivered(self, entries: int, seconds: float) -> None:
        """Count entries that a turn has accepted and handed to their readers. Requires holding the turn."""
        self.entries += entries
        self.latency[bisect_left(LATENCY_BUCKETS, seconds)] += entries
        self.latency_sum += entries * seconds

    def tried(self, kind: LoginKind, outcome: str) -> None:
        """Somebody tried to log in or to register; `outcome` is `accepted`, or the code of the refusal."""
        with self._lock:
            self._logins[kind, outcome] += 1

    def logins(self) -> dict[tuple[LoginKind, str], int]:
        """What `tried` has counted."""
        with self._lock:
            return dict(self._logins)


@value
class Status:
    """A server's state. Times in seconds since 1970."""

    started: float
    accounts: int
    connections: int
    sessions: int  # devices that are logged in, the waiting ones included
    waiting: int  # accounts in the queue for a seat
    password_queue: int  # logins that wait for a worker
    validation_queue: int  # commits and the like that wait for one
    reading_queue: int  # portions of history that wait for one
    moving_queue: int  # parts of blobs, and of several parts that are written together one, that wait for one
    turn_queue: int  # of what was handed in for the next turn: requests, and messages of one connection together
    log_entries: int  # kept because somebody has not read them yet, or for a moment
    handshake_bytes: int  # kept for those who are away for longer
    store_bytes: int  # of the database and its write-ahead log
    reusable_bytes: int  # of them, what the database has to spare
    disk_free_bytes: int  # on the disk of the data folder
    disk_floor_bytes: int  # below which nothing new is taken
    disk_reserve_bytes: int  # of the reserve; 0: it was given up, or never made
    certificate_expires: float
    commits_passed_over: int  # of the store, at the start: behind a damaged place of its write-ahead log
    held_bytes: int  # that accounts have written and that are kept, of all together
    quota_bytes: int  # of one account
    blob_bytes: int  # of the blobs of all together, on the disk
    blob_most_bytes: int  # of all together, at most
    blob_account_bytes: int  # of one account, at most
    uploads: int  # blobs that are not whole
    held_most: list[int]  # bytes of the accounts that hold most, without their names: `TOP_ACCOUNTS`
    refused_by_rate: dict[str, int] = field(default_factory=dict)  # how often, by the name of the setting
