"""The disk's floor, and a reserve above it (docs/design.md, section 5, Disk).

Where less is free than the floor (`ServerConfig.disk_floor`), nothing new is taken: people can come in, read,
acknowledge and leave, which makes room, and the operator can act. What SQLite has to spare within its file counts as
free: messages go there first. So that the operator can act even where others have filled the disk to its last byte, a
file of the data folder holds room of its own. Whoever has no room to write gives that up, and it is made again later.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from securechat.errors import RefusedError, StorageError
from securechat.files import PRIVATE, has_no_room
from securechat.server.logs import get_logger

log = get_logger(__name__)

RESERVE_SHARE: Final = 8
"""The reserve is one part in so many of the floor: 32 MiB of 256, for accounts.json (5 MB with 10,000 accounts, and as
much for the one before it) and what the write-ahead log grows by while the operator puts things right."""

RELIEF_SHARE: Final = 8
"""So much of the floor has to be free above it before things are taken again: else it would go to and fro."""

FILES_SHARE: Final = 2
"""Times the floor that stays free of files (`blobs`): they end long before people can say nothing more."""

RETRY_SECONDS: Final = 60.0
"""When those who are refused come again."""

_RESERVE_FILE: Final = "reserve"
_ZEROS: Final = bytes(1 << 20)


class Space:
    """May be used from any thread."""

    def __init__(
        self,
        folder: Path,
        floor: int,
        *,
        free: Callable[[], int] | None = None,
        reusable: Callable[[], int] = lambda: 0,
    ) -> None:
        """`folder`: of the data. `floor`: bytes; 0: there is none, and no reserve.

        `free`: bytes that are free on the disk; `reusable`: those that the store has to spare in its file.
        """
        self.floor = floor
        self.reusable = reusable
        self.free = 0
        """Bytes that are free on the disk, when somebody last looked."""
        self._folder = folder
        self._free = free if free is not None else lambda: shutil.disk_usage(folder).free
        self._reserve = folder / _RESERVE_FILE
        self._low = False
        self._lock = threading.Lock()  # protects all of it, but for who only reads

    @property
    def reserved(self) -> int:
        """Bytes of the reserve that is there."""
        with contextlib.suppress(OSError):
            return self._reserve.stat().st_size
        return 0

    @property
    def problem(self) -> str:
        """Why nothing new is taken, for the operator; empty: it is."""
        if not self._low:
            return ""
        return (
            f"its disk is nearly full: {self.free / 2**20:,.0f} MiB are free, and below {self.floor / 2**20:,.0f} MiB "
            "it takes nothing new; make room, or see who takes it with `securechat admin top`"
        )

    def check(self) -> None:
        """Raise RefusedError `disk-full` while there is less room than there has to be, as of the last look."""
        if self._low:
            text = "the server's disk is nearly full: it takes nothing new until its operator has made room"
            raise RefusedError("disk-full", text, retry_after=RETRY_SECONDS)

    def check_for_file(self, size: int) -> None:
        """Raise RefusedError `disk-full` where a file of so many bytes leaves too little room."""
        free = self.free
        with contextlib.suppress(OSError):  # nobody can say; who writes will
            free = self._free()
        if self.floor and free - size < FILES_SHARE * self.floor:
            text = "the server's disk has no room for this file until its operator has made some"
            raise RefusedError("disk-full", text, retry_after=RETRY_SECONDS)

    def look(self) -> None:
        """See how much is free, and make the reserve anew if there is room for it."""
        with self._lock:
            self._look()
            if not self._low and self.free >= self.floor + self._share and self.reserved < self._share:
                self._make()

    def release(self) -> bool:
        """Give the reserve up, because somebody had no room to write; return whether it was there."""
        with self._lock:
            there = self.reserved > 0
            with contextlib.suppress(OSError):
                self._reserve.unlink()
            if there:
                log.warning("the reserve was given up: the disk is full", reserve=self._share)
                self._low = True
                self._look()
            return there

    def or_release(self, write: Callable[[], None]) -> None:
        """Write something small that must not fail for want of room. Raises StorageError."""
        try:
            write()
        except StorageError as error:
            if not has_no_room(error) or not self.release():
                raise
            write()

    @property
    def _share(self) -> int:
        return self.floor // RESERVE_SHARE

    def _look(self) -> None:
        with contextlib.suppress(OSError):  # nobody can say; who writes will
            self.free = self._free()
        room = self.free + self.reusable()
        enough = self.floor + self.floor // RELIEF_SHARE if self._low else self.floor
        # Where SQLite has room within its file, the disk itself must still have some for its log.
        low = room < enough or self.free + self.reserved < self._share
        if low and not self._low:
            log.error("the disk is nearly full; nothing new is taken", free=self.free, floor=self.floor)
        elif self._low and not low:
            log.info("the disk has room again", free=self.free)
        self._low = low

    def _make(self) -> None:
        try:
            with os.fdopen(os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._share)
                else:
                    for start in range(0, self._share, len(_ZEROS)):
                        file.write(_ZEROS[: self._share - start])
        except OSError as error:
            log.warning("no reserve could be made", reason=str(error))
            with contextlib.suppress(OSError):
                self._reserve.unlink()
