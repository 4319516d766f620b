"""What the server keeps on disk, as values: entries, heads, members, devices, inbox entries."""

import struct
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from securechat.identity.certificate import MAX_LIFETIME
from securechat.wire import limits
from securechat.wire.chain import MLS_MESSAGE, next_chain

Kind = Literal["direct", "invite", "open"]

Who = tuple[str, bytes]
"""Account and device id. The id alone says nothing: its client has chosen it, and others can see it."""

READER_SECONDS = 30 * 86_400
READER_ENTRIES = 10_000
READER_BYTES = 64 << 20
"""What a reader may leave unread in a log. Past any of these its cursor holds nothing (docs/design.md, section 5)."""

ACKNOWLEDGED_SECONDS = MAX_LIFETIME
"""How long handshakes stay that all have acknowledged. A copy of a vault acknowledges in its owner's place: for
as long as a certificate lives, without the identity key (docs/design.md, section 5)."""

KEPT_SECONDS = 180 * 86_400
"""How long anything of a log stays that somebody has not read, be it said in a direct conversation: a device that is
lost never reads it, and nobody tells the server that it is lost."""

KEPT_BYTES = 32 << 20
"""What is kept of a log's handshakes at most: in `KEPT_SECONDS` the largest room makes about 62 MB, a room of 300 about
15 MB (docs/design.md, section 5)."""

INBOX_ENTRIES = 1000
INBOX_BYTES = 64 << 20
"""What waits in one device's inbox at most; a Welcome into the largest room takes 0.6 MB. Who is not known has half."""

INBOX_ENTRIES_OF_SENDER = 20
INBOX_BYTES_OF_SENDER = 8 << 20
"""What of one account waits there: as many Welcomes as a client keeps of one inviter."""


class Blob(NamedTuple):
    """A blob: bytes that an account has uploaded for those who are in a conversation, or has begun to.

    `file`: the 32 bytes by which its bytes are found (`server.blobs`). `seq`: what comes into the log from here on
    comes after it was whole; 0: it is not whole yet. `expires` in ms.
    """

    file: bytes
    account: str
    device: bytes
    size: int
    seq: int
    expires: int


class Waiting(NamedTuple):
    """What waits in an inbox: letters, and the bytes in them."""

    entries: int
    bytes: int


class InboxState(NamedTuple):
    """All that waits in an inbox, and what of that one account has sent."""

    of_all: Waiting
    of_sender: Waiting



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
    ) -> tuple[int, int, bytes] | None:
        """Return (seq, time, chain after it) of a submission accepted before with these bytes, else None.

        The chain shows whether the bytes are the same.
        """
        behind = self.last - number
        if not 0 <= behind < min(limits.NUMBERS_KEPT, len(self._answers) // _ANSWER.size):
            return None
        start = len(self._answers) - (behind + 1) * _ANSWER.size
        seq, time, before, after = _ANSWER.unpack_from(self._answers, start)
        found = next_chain(before, conversation, seq, time, device, number, payload, group_info)
        return (seq, time, after) if found == after else None

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
    identity_key: bytes = b""  # under which its leaf is; empty: of before this was kept
    leaf_seq: int = 0  # of the certificate in its leaf; 0: of before this was kept

    @property
    def who(self) -> Who:
        """Whose place it is."""
        return self.account, self.device


@dataclass(frozen=True, slots=True)
class Departed:
    """A departed device: its leaf, and the proof (`messages.Departure`); empty where a word of the operator is it."""

    device: bytes
    leaf: int
    proposal: bytes
    state: bytes


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
    restored_epoch: int = 0  # its epoch in the backup, while another branch may still lead on from there; else 0
    founder: str = ""  # the account that has begun it, and pays for what is kept of the group; empty: the operator
    numbers: dict[bytes, Numbers] = field(default_factory=dict)
    members: dict[bytes, Membership] = field(default_factory=dict)
    departed: dict[bytes, Departed] = field(default_factory=dict)
    words: dict[int, bytes] = field(default_factory=dict)  # of the operator, not carried out yet: seq -> `policy.Word`
    revocations: dict[int, bytes] = field(default_factory=dict)  # that wait: seq -> `statements.Statement`
    leafless: set[int] = field(default_factory=set)  # those of them whose leaf is gone: nobody waits for them
    deleted: dict[bytes, str] = field(default_factory=dict)  # device -> account, deleted, whose leaf is still there

    @property
    def title(self) -> str:
        """What the server's log calls the conversation."""
        return self.name or f"direct {self.id.hex()[:8]}"

    def place(self, who: Who) -> Membership | None:
        """Return a device's membership, also one that has ended."""
        account, device = who
        member = self.members.get(device)
        return member if member is not None and member.account == account else None

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
    """A Welcome and what belongs to it: the proofs of departed devices, and the statements that wait."""

    seq: int
    time: int
    conversation: bytes
    join_seq: int
    chain: bytes
    welcome: bytes
    tree: bytes
    departed: tuple[tuple[bytes, bytes], ...]  # (proposal, state)
    revocations: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state that a commit of `account` has led to: chain, GroupInfo and tree as in a `JoinOffer`, but kept."""

    account: str
    seq: int
    time: int
    chain: bytes
    group_info: bytes
    tree: bytes
    departed: tuple[tuple[bytes, bytes], ...]  # (proposal, state)
    revocations: tuple[bytes, ...] = ()


BRANCH_SECONDS = 30 * 86_400
"""How long a restored server goes back to where the backup was, for a branch that it has lost: as long as clients keep
handshakes for that."""


@dataclass(frozen=True, slots=True)
class BranchPoint:
    """A conversation as it was in the backup that the server was restored from, and its log went on after `seq`.

    The group is `snapshot` after `commits`, each with its time (ms).
    """

    seq: int
    epoch: int
    group_info: bytes
    snapshot: bytes
    snapshot_seq: int
    commits: tuple[tuple[int, bytes], ...]
    members: tuple[Membership, ...]
    departed: tuple[Departed, ...]
    revocations: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class RoomRow:
    """One line of the list of rooms; `members` counts accounts."""

    name: str
    kind: Kind
    members: int
    joined: bool
    topic: str = ""


class MemberRow(NamedTuple):
    """One line of the list of members; `published`: the directory has the device, as this account's."""

    account: str
    device: bytes
    published: bool

    @property
    def who(self) -> Who:
        """Whose place it is."""
        return self.account, self.device


@dataclass(frozen=True, slots=True)
class ChainLink:
    """A link of a chain (`identity.statements.Link`), encoded. `time` (ms): when the server took it."""

    seq: int
    time: int
    link: bytes


@dataclass(frozen=True, slots=True)
class StoredKeepsake:
    """The keepsake of an account (`identity.keepsake.Keepsake`), encoded, with the key and the number that it names."""

    identity_key: bytes
    number: int
    keepsake: bytes


@dataclass(frozen=True, slots=True)
class Device:
    """A published device."""

    device: bytes
    account: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Token:
    """A resume token: SHA-256 of its bytes, good for one device until `expires` (ms since 1970).

    `generation`: of the account when it was made (`accounts.records.Account`); it is worthless in any other.
    `used`: when the device last came in (ms).
    """

    hash: bytes
    account: str
    device: bytes
    generation: int
    expires: int
    used: int = 0


class Size(NamedTuple):
    """What a store keeps: entries of the logs, bytes in their handshakes, bytes on disk in all, and to spare there."""

    entries: int
    handshake_bytes: int
    disk_bytes: int
    reusable_bytes: int


class AccountUsage(NamedTuple):
    """Bytes that an account has written and that are kept; `account` is empty for the operator."""

    account: str
    held_bytes: int


class ConversationUsage(NamedTuple):
    """Bytes that are kept of a conversation: its entries, handshakes and group. `name`: of a room that has one."""

    conversation: bytes
    kind: Kind
    name: str
    founder: str
    held_bytes: int


class Usage(NamedTuple):
    """Who holds most, the largest first."""

    accounts: list[AccountUsage]
    conversations: list[ConversationUsage]


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What housekeeping changed in a conversation: entries before `first_seq` are gone, but for handshakes.

    `deserted`: so is all the rest, as nobody had been in it for so long.
    """

    conversation: bytes
    first_seq: int
    given_up: int = 0  # up to here entries went that some had not read; whoever is out by then is forgotten; 0: none
    held: tuple[int, int] | None = None  # the head's new `held_bytes` and `held_time`, where they have changed
    deserted: bool = False
