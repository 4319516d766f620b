"""What the server keeps on disk, as values: entries, heads, members, devices, inbox entries."""

import struct
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from securechat.wire import limits
from securechat.wire.chain import MLS_MESSAGE, next_chain

Kind = Literal["direct", "invite", "open"]

READER_SECONDS = 30 * 86_400
READER_ENTRIES = 10_000
READER_BYTES = 64 << 20
"""What a reader may leave unread in a log. Past any of these its cursor holds nothing (docs/design.md, section 5)."""

KEPT_SECONDS = 180 * 86_400
KEPT_BYTES = 32 << 20
"""What is kept of a log's handshakes at most: half a year, in which the largest room makes about 62 MB, a room of 300
about 15 MB (docs/design.md, section 5)."""

LEAP_ENTRIES = 1 << 20
"""How far the log of a restored server leaps at least: more than was added between two seconds of any clock."""

INBOX_ENTRIES = 1000
"""Welcomes kept for one device: the oldest are dropped first, and their senders can invite again."""


class LogEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One entry of a conversation's log. `time` in ms; `epoch` and `chain` as they are after it.

    `before`: the chain before it, in the first entry of a run, where others may be gone; else empty. What was stored
    before entries had the last three is read with their defaults.
    """

    seq: int
    time: int
    device: bytes
    number: int
    epoch: int
    chain: bytes
    payload: bytes
    group_info: bytes = b""
    kind: int = MLS_MESSAGE
    before: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of what it carries."""
        return len(self.payload) + len(self.group_info)


_ANSWER = struct.Struct(">QQ32s32s")

pack_answer = _ANSWER.pack
"""What `Numbers` keeps of a submission that was accepted: seq, time, the chain before and after."""

_SPARE_BYTES = 16 * _ANSWER.size
_KEPT_BYTES = limits.NUMBERS_KEPT * _ANSWER.size
"""Bytes of answers that are kept, and that may come on top before the surplus is dropped at once."""


class Numbers:
    """What one device has submitted in one conversation: how much, and the newest `limits.NUMBERS_KEPT` answers.

    `stored` is the store's own: up to this number it has them in a row of theirs. It stays here because it ends with
    them, when the sequencer lets a conversation go.
    """

    __slots__ = ("_answers", "last", "stored")

    def __init__(self, last: int = 0, answers: bytes = b"") -> None:
        """`answers`: what `encode` returned."""
        self.last = last
        self.stored = last
        self._answers = bytearray(answers)

    @property
    def newest(self) -> int:
        """The seq of the newest submission whose answer is kept; 0: none is."""
        return int(_ANSWER.unpack_from(self._answers, len(self._answers) - _ANSWER.size)[0]) if self._answers else 0

    def raise_to(self, number: int) -> None:
        """Go on after `number`: the submissions up to it are lost, and so are the answers to them."""
        self.last = number
        self._answers.clear()

    def extend(self, answers: list[bytes]) -> None:
        """Note that the next numbers were accepted; `answers`: what `pack_answer` made of each."""
        self.last += len(answers)
        self._answers += b"".join(answers)
        if len(self._answers) >= _KEPT_BYTES + _SPARE_BYTES:
            del self._answers[:-_KEPT_BYTES]

    def answer(
        self, conversation: bytes, device: bytes, number: int, payload: bytes, group_info: bytes = b""
    ) -> tuple[int, int] | None:
        """Return (seq, time) of a submission that was accepted before with these bytes, else None.

        The chain shows whether the bytes are the same.
        """
        behind = self.last - number
        if not 0 <= behind < min(limits.NUMBERS_KEPT, len(self._answers) // _ANSWER.size):
            return None
        start = len(self._answers) - (behind + 1) * _ANSWER.size
        seq, time, before, after = _ANSWER.unpack_from(self._answers, start)
        found = next_chain(before, conversation, seq, time, device, number, payload, group_info)
        return (seq, time) if found == after else None

    def encode(self) -> bytes:
        """Return the newest answers, for the store."""
        return bytes(self._answers[-_KEPT_BYTES:])


@dataclass(slots=True)
class Membership:
    """A device's place in a log: it may read `join_seq` < seq <= `last_seq` (None: it is still a member)."""

    device: bytes
    account: str
    join_seq: int
    join_chain: bytes  # chain_join_seq
    last_seq: int | None
    cursor: int  # acknowledged up to here


@dataclass(frozen=True, slots=True)
class Departed:
    """A departed device: its leaf, and the proof (`messages.Departure`); empty where a word of the operator is it."""

    device: bytes
    leaf: int
    proposal: bytes
    group_context: bytes


@dataclass(slots=True)
class Head:
    """A conversation, without its entries and its group."""

    id: bytes
    kind: Kind
    name: str  # of a room
    seq: int
    time: int
    epoch: int
    chain: bytes
    group_info: bytes
    first_seq: int = 1  # entries before it are gone
    held_bytes: int = 0  # of payloads that somebody had still to read when the store last looked
    held_time: int = 0  # of the first of them; 0: there was none
    topic: str = ""  # of a room
    owner_time: int = 0  # of the newest commit by an owner; 0: it has none
    resumed: int = 0  # the server was restored from a backup, and the log went on after this seq; 0: never
    lost_after: int = 0  # the newest seq in that backup, or in an earlier one: what came between is lost
    numbers: dict[bytes, Numbers] = field(default_factory=dict)
    members: dict[bytes, Membership] = field(default_factory=dict)
    departed: dict[bytes, Departed] = field(default_factory=dict)
    words: dict[int, bytes] = field(default_factory=dict)  # of the operator, not carried out yet: seq -> `policy.Word`

    @property
    def title(self) -> str:
        """What the server's log calls the conversation."""
        return self.name or f"direct {self.id.hex()[:8]}"

    def numbers_of(self, device: bytes) -> Numbers:
        """What the device has submitted."""
        numbers = self.numbers.get(device)
        if numbers is None:
            numbers = self.numbers[device] = Numbers()
        return numbers

    def unread(self, cursor: int) -> int:
        """How many entries there are behind a cursor."""
        lost = self.resumed - max(cursor, self.lost_after) if cursor < self.resumed else 0
        return self.seq - cursor - lost

    def follow_number(self, device: bytes, number: int) -> None:
        """Take the first number of a device since a restore as its next: those before it may be lost."""
        numbers = self.numbers_of(device)
        if number > numbers.last + 1 and numbers.newest <= self.resumed:
            numbers.raise_to(number - 1)

    def record(self, entry: LogEntry) -> None:
        """Move to an entry that was added before."""
        if entry.kind == MLS_MESSAGE:
            if self.resumed:
                self.follow_number(entry.device, entry.number)
            self.numbers_of(entry.device).extend([pack_answer(entry.seq, entry.time, self.chain, entry.chain)])
        self.seq, self.time, self.epoch, self.chain = entry.seq, entry.time, entry.epoch, entry.chain


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A Welcome and what belongs to it. `departed`: the proofs of departed devices."""

    seq: int
    time: int
    conversation: bytes
    join_seq: int
    chain: bytes
    welcome: bytes
    tree: bytes
    departed: tuple[tuple[bytes, bytes], ...]  # (proposal, group_context)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state that a commit of `account` has led to: chain, GroupInfo and tree as in a `JoinOffer`, but kept."""

    account: str
    seq: int
    time: int
    chain: bytes
    group_info: bytes
    tree: bytes
    departed: tuple[tuple[bytes, bytes], ...]  # (proposal, group_context)


@dataclass(frozen=True, slots=True)
class RoomRow:
    """One line of the list of rooms; `members` counts accounts."""

    name: str
    kind: Kind
    members: int
    joined: bool
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A published device."""

    device: bytes
    account: str
    certificate: bytes


class Size(NamedTuple):
    """What a store keeps: entries of the logs, bytes in their handshakes, bytes on disk in all."""

    entries: int
    handshake_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What housekeeping changed in a conversation: entries before `first_seq` are gone, but for handshakes."""

    conversation: bytes
    first_seq: int
    given_up: int = 0  # up to here entries went that some had not read; whoever is out by then is forgotten; 0: none
    held: tuple[int, int] | None = None  # the head's new `held_bytes` and `held_time`, where they have changed
