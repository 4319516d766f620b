"""Previews of pictures: decoded by a process of its own, on a thread, so that nobody waits for what others sent."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Final

from securechat.client.media.child import Child, check_installed
from securechat.client.media.pictures import Pixels, look
from securechat.client.media.worker import PICTURES
from securechat.errors import SecurechatError, UsageError
from securechat.value import value

MAX_SEEN: Final = 64
"""Decoded previews that are kept: some screens of nothing but pictures."""


@value
class Seen:
    """A preview was decoded; None: it cannot be."""

    local_id: int
    pixels: Pixels | None


class Pictures:
    """Decodes what is asked for, one preview after another. Call from the screen's thread."""

    def __init__(self, tell: Callable[[Seen], None]) -> None:
        """`tell`: takes what was decoded, on another thread."""
        self._tell = tell
        self._asked: SimpleQueue[tuple[int, bytes] | None] | None = None
        self._seen: dict[int, Pixels | None] = {}
        try:
            check_installed(PICTURES)
            self._can = True
        except UsageError:  # without the extra, a picture is a line
            self._can = False

    def of(self, local_id: int, thumbnail: bytes) -> Pixels | None:
        """Return a preview, if it was decoded; else have that done."""
        if not (self._can and thumbnail):
            return None
        if local_id not in self._seen:
            if self._asked is None:
                self._asked = SimpleQueue()
                Thread(target=self._work, args=(self._asked,), name="pictures", daemon=True).start()
            self._seen[local_id] = None
            while len(self._seen) > MAX_SEEN:
                del self._seen[next(iter(self._seen))]
            self._asked.put((local_id, thumbnail))
        return self._seen[local_id]

    def take(self, seen: Seen) -> None:
        """Keep what was decoded."""
        if seen.local_id in self._seen:
            self._seen[seen.local_id] = seen.pixels

    def close(self) -> None:
        """Decode no more."""
        if self._asked is not None:
            self._asked.put(None)

    def _work(self, asked: "SimpleQueue[tuple[int, bytes] | None]") -> None:
        child: Child | None = None
        while (job := asked.get()) is not None:
            local_id, thumbnail = job
            try:
                child = child or Child(PICTURES)
                self._tell(Seen(local_id, look(child, thumbnail)))
            except SecurechatError:  # what it shows cannot be said, and a process that has failed gives no more
                if child is not None:
                    child.close()
                child = None
        if child is not None:
            child.close()
