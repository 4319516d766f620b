"""What waits for the screen's thread: events of the core, and what threads have made."""

from collections.abc import Callable
from queue import SimpleQueue

from securechat.client.events import Event
from securechat.ui.session.pictures import Seen
from securechat.ui.session.voice import Decoded
from securechat.value import value


@value
class Leave:
    """Somebody wants the program to end."""


Item = Event | Decoded | Seen | Leave


class Mail(SimpleQueue[Item]):
    """A queue that wakes whoever reads it. `put` may be called from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.wake: Callable[[], object] = lambda: None
        """Called after something was put in, on the thread that did."""

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002  # as in its base
        """Put something in."""
        super().put(item, block, timeout)
        self.wake()
