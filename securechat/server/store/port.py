"""What the server keeps on disk, and what it asks of whatever keeps it (design, section 5, Store).

Writing belongs to whoever holds the sequencer's turn: writes collect in one transaction, which `commit` makes durable
as a whole and `rollback` undoes as a whole. The methods under "reading" may be called from any thread at any time and
see what is committed only.
"""

import struct
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from securechat.errors import StorageError
from securechat.wire import limits
from securechat.wire.chain import next_chain

Kind = Literal["direct", "invite", "open"]

READER_SECONDS = 30 * 86_400
READER_ENTRIES = 10_000
READER_BYTES = 64 << 20
"""What a reader may leave unread in one log. Past any of these its cursor stops holding entries (design, section 5)."""


class DiskFullError(StorageError):
    """There is no room; the transaction was rolled back."""


class LogEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One entry of a conversation's log. `time` in ms; `epoch` and `chain` as they are after it."""

    seq: int
    time: int
    device: bytes
    number: int
    epoch: int
    chain: bytes
    payload: bytes


_ANSWER = struct.Struct(">QQ32s32s")

pack_answer = _ANSWER.pack
"""What `Numbers` keeps of a submission that was accepted: seq, time, the chain before and after."""

_SPARE_BYTES = 16 * _ANSWER.size
_KEPT_BYTES = limits.NUMBERS_KEPT * _ANSWER.size
"""Bytes of the answers that are kept, and of those beyond them until all of these are dropped together."""


class Numbers:
    """What one device has submitted in one conversation: how much, and the newest `limits.NUMBERS_KEPT` answers."""

    __slots__ = ("_answers", "last", "stored")

    def __init__(self, last: int = 0, answers: bytes = b"") -> None:
        """`answers`: what `encode` returned."""
        self.last = last
        self.stored = last  # as of this number the store has it in a row of its own, and need not count its entries
        self._answers = bytearray(answers)

    def extend(self, answers: list[bytes]) -> None:
        """The next numbers were accepted; `answers`: what `pack_answer` has made of each."""
        self.last += len(answers)
        self._answers += b"".join(answers)
        if len(self._answers) >= _KEPT_BYTES + _SPARE_BYTES:
            del self._answers[:-_KEPT_BYTES]

    def answer(self, conversation: bytes, device: bytes, number: int, payload: bytes) -> tuple[int, int] | None:
        """Return (seq, time) of a submission that was accepted before, None if it was not, with these bytes.

        That it was with these is what the chain says.
        """
        behind = self.last - number
        if not 0 <= behind < min(limits.NUMBERS_KEPT, len(self._answers) // _ANSWER.size):
            return None
        start = len(self._answers) - (behind + 1) * _ANSWER.size
        seq, time, before, after = _ANSWER.unpack_from(self._answers, start)
        found = next_chain(before, conversation, seq, time, device, number, payload)
        return (seq, time) if found == after else None

    def encode(self) -> bytes:
        """Return the newest answers, for the store."""
        return bytes(self._answers[-_KEPT_BYTES:])


@dataclass(slots=True)
class Membership:
    """A device's place in a log: it may read `join_seq` < seq <= `last_seq` (None: it is a member still)."""

    device: bytes
    account: str
    join_seq: int
    join_chain: bytes  # chain_join_seq
    last_seq: int | None
    cursor: int  # acknowledged up to here


@dataclass(frozen=True, slots=True)
class Departed:
    """A device that has left but still stands in the tree: its leaf, and the proof (`messages.Departure`)."""

    device: bytes
    leaf: int
    proposal: bytes
    group_context: bytes


@dataclass(slots=True)
class Head:
    """All of a conversation but its entries and its group."""

    id: bytes
    kind: Kind
    name: str  # of a room
    seq: int
    time: int
    epoch: int
    chain: bytes
    group_info: bytes
    first_seq: int = 1  # entries before it are gone
    held_bytes: int = 0  # of payloads that stood in the history when housekeeping last looked
    held_time: int = 0  # of the first of them; 0: there was none
    numbers: dict[bytes, Numbers] = field(default_factory=dict)
    members: dict[bytes, Membership] = field(default_factory=dict)
    departed: dict[bytes, Departed] = field(default_factory=dict)

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

    def record(self, entry: LogEntry) -> None:
        """Move to an entry that was added before."""
        self.numbers_of(entry.device).extend([pack_answer(entry.seq, entry.time, self.chain, entry.chain)])
        self.seq, self.time, self.epoch, self.chain = entry.seq, entry.time, entry.epoch, entry.chain


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """An inbox entry: a Welcome and what belongs to it. `departed`: the tree's leaves that have left."""

    seq: int
    time: int
    conversation: bytes
    join_seq: int
    chain: bytes
    welcome: bytes
    tree: bytes
    departed: tuple[tuple[bytes, bytes], ...]  # (proposal, group_context)


@dataclass(frozen=True, slots=True)
class RoomRow:
    """One line of the list of rooms; `members` counts accounts."""

    name: str
    kind: Kind
    members: int
    joined: bool


@dataclass(frozen=True, slots=True)
class Device:
    """A published device."""

    device: bytes
    account: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What housekeeping changed in a conversation: entries before `first_seq` are gone."""

    conversation: bytes
    first_seq: int
    held_bytes: int
    held_time: int
    cursor: int  # readers behind it were given up: their cursors were moved here; 0: none


class Store(Protocol):
    """A durable store. Methods raise `DiskFullError` or `StoreBrokenError`."""

    server_id: bytes

    # --- writing: requires holding the turn -------------------------------------------------------------------------

    def commit(self) -> None:
        """Make everything written since the last call durable, all or nothing."""

    def rollback(self) -> None:
        """Forget everything written since the last `commit`."""

    def append(self, conversation: bytes, run: list[LogEntry]) -> None:
        """Add entries that follow each other to the log of a conversation; the list may grow until `commit`."""

    def create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> None:
        """Add a conversation with its members; `snapshot`: its public group; `pair`: of a direct one, sorted."""

    def delete(self, conversation: bytes) -> None:
        """Remove a conversation, its log, and its name or pair if they are still its own."""

    def save_commit(self, head: Head, entry: LogEntry, snapshot: bytes | None) -> None:
        """Keep a commit and the head's GroupInfo; a `snapshot` of the group after it replaces all commits."""

    def put_members(self, conversation: bytes, members: Iterable[Membership]) -> None:
        """Add members or change them."""

    def put_departed(self, conversation: bytes, departed: Departed) -> None:
        """Remember that a device has left."""

    def drop_departed(self, conversation: bytes, devices: Collection[bytes]) -> None:
        """These devices are out of the tree."""

    def set_cursors(self, cursors: Iterable[tuple[bytes, bytes, int]]) -> None:
        """(conversation, device, seq): these readers have everything up to seq."""

    def deliver(self, letter: InboxEntry, devices: Collection[bytes]) -> None:
        """Put a Welcome into inboxes; `letter.seq` is ignored: each inbox counts for itself."""

    def acknowledge_inbox(self, device: bytes, seq: int) -> None:
        """The device has its inbox up to `seq`."""

    def put_device(self, device: Device, identity_key: bytes) -> None:
        """Publish a device and its account's identity key."""

    def drop_devices(self, devices: Collection[bytes]) -> None:
        """Take devices out of the directory, with their key packages."""

    def put_key_packages(self, device: bytes, key_packages: Iterable[bytes], last_resort: bytes) -> None:
        """Add key packages; `last_resort`, if not empty, replaces the old one."""

    def take_key_package(self, device: bytes, *, only_last_resort: bool = False) -> bytes | None:
        """Return the oldest unused key package and delete it; where there is none, the last-resort one, which stays.

        `only_last_resort`: that one even where there are others.
        """

    # --- looking up: requires holding the turn; sees what was written in it -----------------------------------------

    def load(self, conversation: bytes) -> Head | None:
        """Return the head of a conversation."""

    def room(self, name: str) -> bytes | None:
        """Return the id of the room of that name."""

    def rooms(self, device: bytes) -> list[RoomRow]:
        """Return open rooms, and the invite rooms in which the device is."""

    def pair(self, pair: tuple[str, str]) -> bytes | None:
        """Return the direct conversation of two accounts (sorted)."""

    def conversations_of(self, device: bytes) -> list[bytes]:
        """Return the conversations in which the device is a member."""

    def inbox(self, device: bytes) -> int:
        """Return the newest seq of a device's inbox."""

    def device(self, device: bytes) -> Device | None:
        """Return a published device."""

    def devices(self, account: str) -> list[Device]:
        """Return the published devices of an account."""

    def owners(self, devices: Collection[bytes]) -> dict[bytes, tuple[str, bytes]]:
        """Return the account of each of these devices that is published, and the account's identity key."""

    def identity_key(self, account: str) -> bytes:
        """Return the account's identity key, empty before the first device was published."""

    def count_key_packages(self, device: bytes) -> int:
        """Return how many unused key packages a device has."""

    def measure(self, conversation: bytes, after: int) -> tuple[int, int]:
        """Return how many bytes stand in a log after `after`, and the time of the first entry (0: there is none).

        Entries may be counted together with a few before them.
        """

    # --- reading: any thread ----------------------------------------------------------------------------------------

    def read(self, conversation: bytes, after: int, upto: int, max_entries: int, max_bytes: int) -> list[LogEntry]:
        """Return the next entries after `after` in order, at least one if there is any."""

    def read_inbox(self, device: bytes, after: int, max_bytes: int) -> list[InboxEntry]:
        """Return the next inbox entries after `after` in order, at least one if there is any."""

    def read_group(self, conversation: bytes) -> tuple[bytes, list[tuple[int, bytes]]] | None:
        """Return the last snapshot of the public group, and the commits since with their times."""

    def size(self) -> tuple[int, int]:
        """Return how many entries the logs hold, and bytes on disk."""

    # --- housekeeping -----------------------------------------------------------------------------------------------

    def unhurried(self) -> AbstractContextManager[None]:
        """What is committed within is made durable by the next commit after it, or lost with all that follows.

        Requires holding the turn: who waits for that does not wait for the disk.
        """

    def tidy(self, now: int, head: Callable[[bytes], Head | None]) -> tuple[list[Trimmed], bool]:
        """Move, expire and delete one portion, and commit. Requires holding the turn; `now` in ms.

        `head(conversation)` is the head as of the last commit: from memory, or what `load` returns. Returns what
        changed, and whether there is more to do.
        """

    def backup(self, target: Path) -> None:
        """Copy everything, as it is at one instant, into an empty file. Any thread. Raises StorageError."""

    def checkpoint(self) -> None:
        """Copy what the write-ahead log holds into the database, outside the turn, so that it can start anew."""

    def close(self) -> None:
        """Close everything; nothing may be called afterwards."""
