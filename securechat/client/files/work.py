"""Work: the threads on which jobs with files are done, one for those that take long and one for the rest.

They begin with the first job. At the end a job is stopped between two chunks: it is begun again by the next session.
Only what clears up is still done then, so that nothing in clear lies in a folder until the next one.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from securechat.client.files.jobs import LONG, CancelledError, Clear, Job, Outcome, Reached, outcome

_TOLD_SECONDS: Final = 0.5
"""Between two words on how far a job has come."""

_END_SECONDS: Final = 5.0
"""How long the end waits for a job that hangs in the disk; its thread does not hold up the program after that."""


class Work:
    """Does jobs in order. `do` and `close` from one thread."""

    def __init__(self, deliver: Callable[[Outcome], None]) -> None:
        """`deliver` is called on the workers' threads, and should only queue the outcome."""
        self._deliver = deliver
        self._over = threading.Event()
        self._queues: dict[bool, SimpleQueue[Job | None]] = {}
        self._threads: list[threading.Thread] = []

    def do(self, job: Job) -> None:
        """Have a job done."""
        long = isinstance(job, LONG)
        if long not in self._queues:
            queue = self._queues[long] = SimpleQueue()
            thread = threading.Thread(target=self._run, args=(queue,), name="securechat-files", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._queues[long].put(job)

    def close(self) -> None:
        """Stop. Of the jobs that have not begun, only those that clear up are done."""
        self._over.set()
        for queue in self._queues.values():
            queue.put(None)
        for thread in self._threads:
            thread.join(_END_SECONDS)

    def _run(self, queue: SimpleQueue[Job | None]) -> None:
        while (job := queue.get()) is not None:
            if not self._over.is_set() or isinstance(job, Clear):
                self._deliver(outcome(job, self._watch(job)))

    def _watch(self, job: Job) -> Callable[[int], None]:
        told = time.monotonic()

        def progress(done: int) -> None:
            nonlocal told
            if self._over.is_set() or job.unwanted.is_set():
                raise CancelledError
            if time.monotonic() - told >= _TOLD_SECONDS:
                told = time.monotonic()
                self._deliver(Outcome(job, Reached(done)))

        return progress
