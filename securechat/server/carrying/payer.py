"""Who pays for what connections cost the I/O thread: an account, or before the login an address.

However many connections it has, a payer has its turn in the rounds of the thread (`PAYER_UNITS`), one bucket of
messages, and one amount of memory (`MAX_HELD`), of what there is for all (`MAX_HELD_BY_ALL`). Beyond these nothing is
refused: its connections are read later.
"""

from collections.abc import Callable
from typing import Protocol

from securechat.server.rates import Bucket

PAYER_UNITS = 256
"""Units (`costs`) of one payer in a round, one message more, and less in the next rounds after that."""

LIGHT_RATE = 2048
"""Units a second, on the average, up to which a payer is *light*: it takes part in each round, as it sends something.
Ten messages take fifty. The others have what is left of the round, in turns. Counted in seconds: where rounds are
short, those who have to wait for many of them would pass for light."""

LIGHT_UNITS = 64
"""Units at once beyond which it is not: a dozen messages in a row."""

MAX_OWED = 1024
"""Units that are remembered: whoever has sent much is light again half a second after it has ended that."""

MAX_HELD = 16 << 20
"""Bytes in memory for one payer: frames that are unfinished or not handled, large requests without their answer, what
waits to be read by its clients. Eight of the largest requests."""

MAX_HELD_BY_ALL = 256 << 20
"""Bytes in memory for all payers together: a quarter of what the unit gives the server (docs/operations.md, Memory).
While more is held, each has `HELD_BY_ANYBODY` only."""

HELD_BY_ANYBODY = 1 << 20
"""Bytes in memory up to which a payer is read from whatever others hold, and then to the end of one message: more than
people ever have there, but for their largest commits."""

MAX_UNREAD = 4 << 20
"""Bytes in memory for one payer beyond which nothing is made ready for those of its connections that do not take what
they have: they are sent it later, from the disk. Eight connections' worth."""

PAID_AT_ONCE = 64
"""Messages that are counted together: the bucket is not asked for each."""


class Sender(Protocol):
    """A connection, as its payer knows it."""

    @property
    def unfinished(self) -> int | None:
        """The number of the message of which a part has arrived, or all of it and nobody has looked; or None."""


class Total:
    """What all payers of an I/O thread hold together."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0  # bytes, see MAX_HELD_BY_ALL


class Payer:
    """The record. Belongs to one I/O thread."""

    __slots__ = (
        "_bucket", "_finishing", "_owed", "_paused_until", "_round", "_since", "_total", "_unpaid", "asked",
        "connections", "held", "served", "spent", "tight",
    )  # fmt: skip

    def __init__(self, bucket: Bucket | None, total: Total) -> None:
        """`bucket`: of messages; None: they are counted by connection."""
        self.connections = 0
        self.held = 0  # bytes, see MAX_HELD
        self.asked = 0  # those of them that are large requests without their answer
        self._bucket = bucket
        self._total = total
        self._finishing: tuple[Sender, int] | None = None  # who may finish its message although too much is held
        self._paused_until = 0.0
        self._unpaid = 0  # messages
        self._round = 0  # the last that it was looked at in
        self._since = 0.0  # and when that was, in monotonic seconds
        self._owed = 0.0  # units: those beyond what a light payer may have spent by then
        self.spent = 0  # units: in that round, and in those before beyond PAYER_UNITS
        self.served = 0  # the last round in which something was read from it
        self.tight = False  # whether it may be stopped: only then it is worth asking

    def pay(self, messages: int, now: float) -> None:
        """Count messages, or TLS records where those are more; beyond the rate, nothing is read for a while."""
        self._unpaid += messages
        if self._unpaid < PAID_AT_ONCE or self._bucket is None:
            return
        self._paused_until = now + self._bucket.owe(now, self._unpaid)
        self._unpaid = 0
        self.tight = self.tight or self._paused_until > now

    def is_light(self, number: int, now: float) -> bool:
        """Whether it comes first in this round of the thread: it has sent little lately."""
        if rounds := number - self._round:
            self._round = number
            self.spent = max(self.spent - rounds * PAYER_UNITS, 0)
            self._owed = max(min(self._owed, MAX_OWED) - (now - self._since) * LIGHT_RATE, 0.0)
            self._since = now
        return self._owed <= LIGHT_UNITS

    def spend(self, units: int) -> None:
        """Count units, also for what has been done for it since it was read from."""
        self.spent += units
        self._owed += units

    def settle(self, held: int, asked: int) -> None:
        """Count more bytes in memory, or less, and those of large requests among them."""
        self.held += held
        self.asked += asked
        self._total.held += held
        self.tight = self.tight or self._holds_too_much()

    def is_stopped(self, sender: Sender, now: float) -> bool:
        """Whether nothing is read from this one of its connections for the moment."""
        paused, full = now < self._paused_until, self._holds_too_much()
        self.tight = paused or full
        return paused or (full and not self._may_finish(sender))

    @property
    def crowded(self) -> bool:
        """Whether nothing more is to be made ready for its slow connections. Any thread; may be a moment old."""
        return self.held > HELD_BY_ANYBODY and (self.held > MAX_UNREAD or self._total.held > MAX_HELD_BY_ALL)

    def _holds_too_much(self) -> bool:
        return self.held > (HELD_BY_ANYBODY if self._total.held > MAX_HELD_BY_ALL else MAX_HELD)

    def _may_finish(self, sender: Sender) -> bool:
        """Whether it is the one that may go on, one at a time: else halves of messages could hold each other up."""
        if self._finishing is None or self._finishing[0].unfinished != self._finishing[1]:
            number = sender.unfinished
            self._finishing = None if self.asked or number is None else (sender, number)
        return self._finishing is not None and self._finishing[0] is sender


class Payers:
    """Those with connections on one I/O thread."""

    def __init__(self, bucket: Callable[[str], Bucket]) -> None:
        """`bucket(account)`: of its messages."""
        self._bucket = bucket
        self._total = Total()
        self._payers: dict[tuple[str, bool], Payer] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._payers)

    def enter(self, name: str, *, is_account: bool) -> Payer:
        """Return the payer of one more connection: an account, or an address."""
        payer = self._payers.get((name, is_account))
        if payer is None:
            payer = self._payers[name, is_account] = Payer(
                self._bucket(name) if is_account else None, self._total
            )
        payer.connections += 1
        return payer

    def leave(self, name: str, *, is_account: bool) -> None:
        """One of its connections has ended, or pays with another name."""
        payer = self._payers[name, is_account]
        payer.connections -= 1
        if not payer.connections:
            del self._payers[name, is_account]
