"""The sweep: what lies among the files of blobs and belongs to none goes, and what is missing there is noticed.

What was dropped is deleted at the next round, a second later. Besides, all files are looked through, a part a round,
once after the start and then each day: the folder may have been put back from an older or a newer time than the store,
or a server was killed between two steps. A file that no blob has is deleted, and a blob whose bytes are not all there
is dropped, and the bytes of all are counted anew. So nothing depends on how or when the one or the other was lost.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from securechat.errors import StorageError
from securechat.server.blobs.port import PARTS, BlobFiles
from securechat.server.blobs.transfers import Transfers
from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError
from securechat.server.sequencer.operations import BlobsLost, FilesDeleted
from securechat.server.store.port import BlobStore

log = get_logger(__name__)

DELETED_AT_ONCE: Final = 64
"""Files deleted in one round: a large one takes its disk a while."""

PARTS_AT_ONCE: Final = 32
"""Parts looked through in one round: all of them within ten seconds of the start."""

WALK_SECONDS: Final = 86_400.0
"""How often all files are looked through."""


class Sweep:
    """May be used by any thread; while one does, the others have nothing to do."""

    def __init__(
        self,
        files: BlobFiles,
        store: BlobStore,
        transfers: Transfers,
        hand_in: Callable[[None, object], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hand_in(None, operation)`: to the sequencer."""
        self._files = files
        self._store = store
        self._transfers = transfers
        self._hand_in = hand_in
        self._clock = clock
        self._deleted: set[bytes] = set()  # files that the store may not know yet to be deleted
        self._part = 0  # the next one
        self._walk_at = 0.0  # when the next walk begins
        self._lock = threading.Lock()

    @property
    def walking(self) -> bool:
        """Whether the next round goes on with a walk."""
        return self._part > 0

    def round(self) -> None:
        """Do a portion. What fails is told, and tried again at the next."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._round()
        except StoreBrokenError:
            raise
        except StorageError as error:
            log.error("files of blobs cannot be swept", reason=str(error))
        finally:
            self._lock.release()

    def _round(self) -> None:
        dropped = self._store.dropped(DELETED_AT_ONCE)
        # What was deleted before and is still named here is so no more in a moment: then there may be a new one.
        self._deleted.intersection_update(dropped)
        self._deleted.update(file for file in dropped if file not in self._deleted and self._delete(file))
        if self._deleted:
            self._hand_in(None, FilesDeleted(tuple(self._deleted)))
        if self._part or self._clock() >= self._walk_at:
            if not self._part:
                self._walk_at = self._clock() + WALK_SECONDS
            for part in range(self._part, self._part + PARTS_AT_ONCE):
                self._look_through(part)
            self._part = (self._part + PARTS_AT_ONCE) % PARTS

    def _delete(self, file: bytes) -> bool:
        if not self._transfers.release(file):
            return False
        self._files.delete(file)
        return True

    def _look_through(self, part: int) -> None:
        # First what ought to be there: what has become whole since then would seem to be missing.
        whole = self._store.whole(bytes([part]), bytes([part + 1]) if part + 1 < PARTS else b"\xff" * 33)
        there = self._files.files(part)
        strange = set(there) - self._store.known(there)
        gone = [file for file in strange if self._delete(file)]
        if gone:
            log.warning("files that belong to no blob were deleted", files=len(gone))
        self._files.recount(part)
        missing = tuple(file for file, size in whole.items() if self._files.size(file) != size)
        if missing:
            log.error("blobs whose bytes are not all there are dropped", blobs=len(missing))
            self._hand_in(None, BlobsLost(missing))
