"""Housekeeping: a thread that moves and expires entries, a portion at a time, and makes checkpoints."""

import threading
import time
from collections.abc import Callable

from securechat.errors import StorageError
from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError, end_process
from securechat.server.sequencer.sequencer import Sequencer
from securechat.server.workers import join

log = get_logger(__name__)

PAUSE_SECONDS = 1.0
"""Seconds between two rounds, and after a failure. `due` cuts it short."""

PORTION_PAUSE_SECONDS = 0.005
"""Seconds between two portions of a round, so that messages come first."""


class Housekeeping:
    """The thread."""

    def __init__(
        self,
        sequencer: Sequencer,
        checkpoint: Callable[[], None],
        keep_age: Callable[[], None],
        due: threading.Event,
        look: Callable[[], None],
        sweep: Callable[[], None],
    ) -> None:
        """`checkpoint` and `keep_age` end each round; `due` is set when a round should not wait for its time.

        `look` and `sweep` begin each: the one sees how much of the disk is free, the other has files of blobs deleted.
        """
        self._sequencer = sequencer
        self._checkpoint = checkpoint
        self._keep_age = keep_age
        self._due = due
        self._look = look
        self._sweep = sweep
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping")

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current portion, and end."""
        self._stopping.set()
        self._due.set()
        join(self._thread)

    def _run(self) -> None:
        more = False
        while not self._stopping.is_set():
            if not more:
                self._due.wait(PAUSE_SECONDS)
            self._due.clear()
            more = False
            try:
                self._look()
                self._sweep()
                try:
                    end = time.monotonic() + PAUSE_SECONDS
                    while (more := self._sequencer.housekeep(now := time.monotonic())) and now < end:
                        if self._stopping.wait(PORTION_PAUSE_SECONDS) or self._due.is_set():
                            break
                finally:
                    self._checkpoint()
                    self._keep_age()
                continue
            except StoreBrokenError as error:
                end_process(error)
            except StorageError as error:
                log.warning("housekeeping has failed", reason=str(error))
            except Exception:
                log.exception("internal error in housekeeping")
            more = False
            self._stopping.wait(PAUSE_SECONDS)  # and do not try again for each commit that asks for it
