"""Small pools of threads for what must not hold up the turn: validation of commits, reading of history."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError, end_process
from securechat.server.rate import Rate
from securechat.server.rates import Bucket, RateLimiter

log = get_logger(__name__)

Job = Callable[[], None]

REST = 3.0
"""How many times as long as a job has computed its pool takes no other one, if the chat has had work all the while:
under the GIL each thread that computes takes as much of the processor as the chat does."""

MAX_REST = 0.1
"""Seconds, at most: nobody who asks for little waits longer for that."""


def join(thread: threading.Thread) -> None:
    """Wait until a thread has ended, if it ever began: the system may have let only the first ones start."""
    if thread.ident is not None:
        thread.join()


class WorkerPool:
    """Runs jobs, each for an account: of those that wait, the account comes first that has used least lately.

    One account never has all threads, and beyond a rate of processor time its jobs wait until as much has flowed in. Of
    each account they are done in the order in which they came. The submitter bounds how many of its jobs wait. While
    the chat has much to do, all of them rest between two jobs.
    """

    def __init__(self, name: str, threads: int, seconds: Rate, idle: Callable[[], float]) -> None:
        """`seconds`: processor time of one account. `idle`: for how many seconds, ever, the chat has had no work."""
        self._idle = idle
        self._rests_until = 0.0  # monotonic seconds
        self._used = RateLimiter(seconds, "")
        self._most = max(1, threads - 1)  # threads for one account
        self._waiting: dict[str, deque[tuple[object, Job]]] = {}  # by account, never empty; with the owner
        self._running: Counter[str] = Counter()
        self._stopping = False
        self._changed = threading.Condition()  # protects the four above, and the buckets
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{index}") for index in range(threads)]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, account: str = "", owner: object = None) -> None:
        """Have a thread do `job`. If it raises, that is a bug, and logged.

        `account`: pays for it; empty: it is the server's own, for which there is no rate. `owner`: see `drop`.
        """
        with self._changed:
            self._waiting.setdefault(account, deque()).append((owner, job))
            self._changed.notify()

    def drop(self, account: str, owner: object) -> None:
        """Forget the jobs of `owner` that have not begun: nobody waits for them any more."""
        with self._changed:
            if (jobs := self._waiting.pop(account, None)) is not None:
                left = deque(each for each in jobs if each[0] is not owner)
                if left:
                    self._waiting[account] = left

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread. Any thread."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def stop(self) -> None:
        """Finish all waiting jobs, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            join(thread)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            account, bucket, job = taken
            began, then, idle = time.thread_time(), time.monotonic(), self._idle()
            try:
                job()
            except StoreBrokenError as error:
                end_process(error)
            except Exception:
                log.exception("internal error", thread=threading.current_thread().name)
            with self._changed:
                used, now = time.thread_time() - began, time.monotonic()
                bucket.owe(now, used)
                busy = max(now - then - (self._idle() - idle), 0.0) / max(now - then, used, 1e-9)
                self._rests_until = max(self._rests_until, now) + min(REST * busy * used, MAX_REST)
                self._running[account] -= 1
                if not self._running[account]:
                    del self._running[account]
                self._changed.notify()  # for whom all its threads were busy

    def _take(self) -> tuple[str, Bucket, Job] | None:
        """Wait for the next job; None: the pool has stopped."""
        with self._changed:
            while True:
                now = time.monotonic()
                wait: float | None = None
                best: tuple[str, Bucket] | None = None
                if self._waiting and now < self._rests_until and not self._stopping:
                    self._changed.wait(self._rests_until - now)
                    continue
                for account in self._waiting:
                    if self._running[account] >= self._most and account and not self._stopping:
                        continue
                    bucket = self._used.bucket(account)
                    owing = bucket.owe(now, 0)
                    if owing and account and not self._stopping:
                        wait = owing if wait is None else min(wait, owing)
                    elif best is None or bucket.full_at < best[1].full_at:
                        best = account, bucket
                if best is not None:
                    account, bucket = best
                    jobs = self._waiting.pop(account)
                    _, job = jobs.popleft()
                    if jobs:
                        self._waiting[account] = jobs  # behind all that have used as little
                    self._running[account] += 1
                    return account, bucket, job
                if self._stopping and not self._waiting:
                    return None
                self._changed.wait(wait)
