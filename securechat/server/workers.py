"""Small pools of threads for what must not hold up the turn: validation of commits, reading of history."""

import queue
import threading
from collections.abc import Callable

from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError, end_process

log = get_logger(__name__)


def join(thread: threading.Thread) -> None:
    """Wait until a thread has ended, if it ever began: the system may have let only the first ones start."""
    if thread.ident is not None:
        thread.join()


class WorkerPool:
    """Runs jobs in the order in which they came. The submitter bounds how many of its jobs wait."""

    def __init__(self, name: str, threads: int) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{index}") for index in range(threads)]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Have a thread do `job`. If it raises, that is a bug, and logged."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish all waiting jobs, and end."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            join(thread)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except StoreBrokenError as error:
                end_process(error)
            except Exception:
                log.exception("internal error", thread=threading.current_thread().name)
