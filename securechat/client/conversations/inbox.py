"""The inbox: how far we have read the log in which the server keeps what others send to this device."""

from securechat.client.context import Context
from securechat.errors import PeerError
from securechat.wire.messages import Reply, Subscribe, Subscribed


class Inbox:
    """Our place in it. The vault has the newest seq that we have had, `device.row.inbox_cursor`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._head = 0
        self.read = 0
        """The newest seq that this connection has brought."""
        self.caught_up = False
        """Whether we have had everything that was in it when this connection began to read it."""

    def begin(self) -> None:
        """Read everything in it: what we have acknowledged is not there any more.

        Not from our cursor on: a server restored from a backup counts from an older head, so new Welcomes may have a
        seq that we have had before.
        """
        device = self._context.device
        self.read, self.caught_up = 0, False

        def answer(reply: Reply) -> None:
            if not isinstance(reply, Subscribed):
                raise PeerError("the server does not let us read our inbox")
            self._head = reply.head
            if reply.head < device.row.inbox_cursor:
                device.keep_inbox_cursor(reply.head)
            self._look()

        what = "let this device read who has begun conversations with it"
        self._context.errands.run("inbox", what, Subscribe(0, device.id, 0), answer)

    def is_new(self, seq: int) -> bool:
        """Whether we have not had an entry before."""
        return seq > self._context.device.row.inbox_cursor

    def note(self, seq: int) -> None:
        """An entry was processed."""
        self.read = max(self.read, seq)
        self._move_to(seq)

    def pass_over(self, seq: int) -> int:
        """Entries up to `seq` are gone. Returns how many of them this device has never had."""
        seq = min(seq, self._head)
        missed = max(0, seq - self._context.device.row.inbox_cursor)
        self._move_to(seq)
        return missed

    def _move_to(self, seq: int) -> None:
        if self.is_new(seq):
            self._context.device.keep_inbox_cursor(seq)
            self._look()

    def _look(self) -> None:
        self.caught_up |= self._context.device.row.inbox_cursor >= self._head
