"""How far each log is on our disk, as the server is told: at once if much is new, otherwise after a moment."""

from collections.abc import Callable

from securechat.client.context import Context
from securechat.wire.limits import ACKNOWLEDGE_ENTRIES, ACKNOWLEDGE_SECONDS
from securechat.wire.messages import Acknowledge


class Acknowledgements:
    """What the server has been told on this connection, and has not been yet. Logs are conversations and the inbox."""

    def __init__(self, context: Context, cursor_of: Callable[[bytes], int]) -> None:
        """`cursor_of`: how far a log is on our disk once the transaction is."""
        self._context = context
        self._cursor_of = cursor_of
        self._told: dict[bytes, int] = {}  # log -> newest seq that we have acknowledged
        self._new: set[bytes] = set()  # logs of which more is to be acknowledged
        self.due = 0.0
        """When to call `send`, on the monotonic clock; 0: there is nothing to tell."""

    def begin(self, log: bytes, cursor: int) -> None:
        """A log is read from here on. One that is read already stays at what was acknowledged, if that is less.

        Where we have come back by a resync, the server keeps what lay before until we acknowledge it.
        """
        self._told[log] = min(self._told.get(log, cursor), cursor)

    def note(self, log: bytes) -> None:
        """A log may have been read further in this transaction."""
        told, cursor = self._told.get(log), self._cursor_of(log)
        if told is None or cursor <= told:
            return
        if not self._new:
            self.due = self._context.clock.monotonic() + ACKNOWLEDGE_SECONDS
        self._new.add(log)
        if cursor - told >= ACKNOWLEDGE_ENTRIES:
            self.send()

    def send(self) -> None:
        """Tell the server; this leaves after the transaction."""
        for log in self._new:
            self._told[log] = cursor = self._cursor_of(log)
            self._context.send(Acknowledge(log, cursor))
        self._new.clear()
        self.due = 0.0

    def forget(self, log: bytes) -> None:
        """There is no such log any more."""
        self._told.pop(log, None)
        self._new.discard(log)

    def end(self) -> None:
        """The connection is gone."""
        self._told.clear()
        self._new.clear()
        self.due = 0.0
