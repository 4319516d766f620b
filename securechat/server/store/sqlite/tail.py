"""Where the newest entries of all logs are: the index of the table `tail`, in memory (see `logs`).

A row of the tail is a *run*: entries of one conversation that follow each other, added at once and encoded together,
because a row costs SQLite more than the bytes in it. To read one entry is to read its run. Runs leave the tail in the
order in which they came, and move into the history as they are.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

from securechat.server.clock import MAX_LEAP
from securechat.server.panic import StoreBrokenError
from securechat.server.store.records import Head, LogEntry

TAIL_ENTRIES = 32_768
"""Entries that stay in the tail until they are old. Under load so many come within two seconds, and by then nearly all
older ones have been read and need not be moved. A reader close behind reads only the tail."""

TAIL_SECONDS = 10
"""Entries older than this leave the tail, so that entries that were read do not stay on a quiet server's disk."""

encode_run = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[LogEntry]).decode


def decode_run(encoded: bytes) -> list[LogEntry]:
    """The opposite of `encode_run`. Raises StoreBrokenError: SQLite checks its pages, but not the values in them."""
    try:
        return _decode(encoded)
    except msgspec.DecodeError as error:
        raise StoreBrokenError(f"the database is damaged: entries that cannot be read ({error})") from error


class RunRow(msgspec.Struct, frozen=True, gc=False):
    """A row of the tail, without its entries: `first` to `last`, the newest of `time` (ms), `size` bytes of payload.

    `length`: bytes of its entries as they are stored, which are held for `account`.
    """

    id: int
    ref: int
    first: int
    last: int
    time: int
    size: int
    account: str
    length: int


class Allowance:
    """How many rows, and bytes of payload, one transaction may still delete or move. The last row may exceed it."""

    def __init__(self, rows: int, size: int) -> None:
        self.rows = rows
        self._size = size

    @property
    def full(self) -> bool:
        """Whether it is used up."""
        return self.rows <= 0 or self._size <= 0

    def take(self, size: int) -> None:
        """Use it for a row."""
        self.rows -= 1
        self._size -= size


class _Log:
    """The runs of one conversation. Its row in `conversations` is up to date as of `stored` at least.

    `head`: the conversation's, as the sequencer has it in memory; None: it has to be loaded.
    """

    __slots__ = ("head", "runs", "stored")

    def __init__(self, first: int) -> None:
        self.head: Head | None = None
        self.runs: list[RunRow] = []
        self.stored = first - 1


class Tail:
    """The index. Several threads that use it need a lock of their own."""

    def __init__(self) -> None:
        self.entries = 0
        """How many there are in all."""
        self.held: Counter[str] = Counter()
        """Bytes by account."""
        self._runs: deque[RunRow] = deque()
        self._logs: dict[int, _Log] = {}

    def add(self, run: RunRow, head: Head | None = None) -> None:
        """Add a run, with the head as it is after it. Raises ValueError if it does not continue its log."""
        log = self._logs.get(run.ref)
        if log is None:
            log = self._logs[run.ref] = _Log(run.first)
        elif run.first != log.runs[-1].last + 1:
            raise ValueError("a gap in a log")
        log.runs.append(run)
        log.head = head
        self._runs.append(run)
        self.held[run.account] += run.length
        self.entries += run.last + 1 - run.first

    def sizes(self) -> Counter[int]:
        """Bytes of payload by conversation."""
        sizes: Counter[int] = Counter()
        for run in self._runs:
            sizes[run.ref] += run.size
        return sizes

    @property
    def newest(self) -> int:
        """The newest time (ms); 0 if it is empty."""
        return max((run.time for run in self._runs), default=0)

    def runs(self, ref: int, after: int) -> Sequence[RunRow]:
        """The runs of a conversation with entries after `after`, in order."""
        log = self._logs.get(ref)
        return log.runs[bisect_right(log.runs, after, key=lambda run: run.last) :] if log is not None else ()

    def leaving(self, now: int, allowance: Allowance) -> list[RunRow]:
        """The oldest runs that have to leave, because of their age or the tail's length; as many as are allowed."""
        excess, horizon = self.entries - TAIL_ENTRIES, now - TAIL_SECONDS * 1000
        ahead = now + MAX_LEAP * 1000  # what is further ahead was dated by a clock that was wrong
        runs: list[RunRow] = []
        for run in self._runs:
            if allowance.full or (excess <= 0 and horizon < run.time <= ahead):
                break
            allowance.take(run.size)
            runs.append(run)
            excess -= run.last + 1 - run.first
        return runs

    def drop(self, runs: Sequence[RunRow]) -> None:
        """Forget the oldest runs, which have left the tail."""
        for run in runs:
            self._runs.popleft()
            self.entries -= run.last + 1 - run.first
            self.held[run.account] -= run.length
            if not self.held[run.account]:
                del self.held[run.account]
        for ref, count in Counter(run.ref for run in runs).items():
            log = self._logs[ref]
            del log.runs[:count]
            if not log.runs:
                del self._logs[ref]

    def has(self, ref: int) -> bool:
        """Whether a conversation has entries here."""
        return ref in self._logs

    def head(self, ref: int) -> Head | None:
        """The head of a conversation that has entries here, None if it has to be loaded."""
        return self._logs[ref].head

    def forget_heads(self) -> None:
        """Forget all heads: what they say may have been rolled back."""
        for log in self._logs.values():
            log.head = None

    def is_stored(self, ref: int, seq: int) -> bool:
        """Whether the conversation's row includes its entries up to `seq`."""
        return self._logs[ref].stored >= seq

    def stored(self, ref: int, seq: int) -> None:
        """Note that the conversation's row includes its entries up to `seq`."""
        self._logs[ref].stored = seq
