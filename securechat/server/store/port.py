"""What the server asks of whatever keeps its logs, one Protocol for each part of it (docs/design.md, section 5, Store).

Writing belongs to the holder of the sequencer's turn: writes collect in one transaction, which `commit` makes durable
as a whole and `rollback` undoes as a whole. Methods marked "any thread" may be called at any time, and see only what is
committed. All methods raise `DiskFullError` or `StoreBrokenError`.

`tests/server/store` holds the contract, as tests that every store has to pass.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from securechat.errors import StorageError
from securechat.identity.site_key import SiteKey
from securechat.server.store.records import (
    Checkpoint,
    Departed,
    Device,
    Head,
    InboxEntry,
    LogEntry,
    Membership,
    RoomRow,
    Size,
    Trimmed,
)


class DiskFullError(StorageError):
    """There is no room; the transaction was rolled back."""


class ConversationStore(Protocol):
    """Conversations: their heads, members and public groups."""

    def create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> None:
        """Add a conversation with its members; `snapshot`: its public group; `pair`: of a direct one, sorted."""

    def delete(self, conversation: bytes) -> None:
        """Remove a conversation, its log, and its name or pair if they are still its own."""

    def save_commit(self, head: Head, entry: LogEntry, snapshot: bytes | None) -> None:
        """Keep a commit as a handshake, the head's GroupInfo, and a `snapshot` of the group after it, if one is due."""

    def save_handshake(self, conversation: bytes, entry: LogEntry) -> None:
        """Keep an entry that is no message, beside the log and longer: until `tidy` finds that nobody needs it."""

    def put_checkpoint(self, conversation: bytes, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint in place of its account's last one; the oldest goes where there are too many."""

    def read_checkpoints(self, conversation: bytes) -> list[Checkpoint]:
        """Return the checkpoints, the newest first. Any thread."""

    def save_room(self, head: Head) -> None:
        """Keep a room's name, which is free or was its own (empty: it has none any more), topic and `owner_time`."""

    def resume(self, now: int) -> None:
        """Let all logs leap, because the server was restored; `now` in ms.

        Clients know entries that the store has lost. A log leaps by `LEAP_ENTRIES`, and by one for each millisecond
        since its newest entry: it gets fewer than that. So no seq comes again, nor after another restore from the same
        backup. Nothing but `commit` and `close` may follow.
        """

    def put_members(self, conversation: bytes, members: Iterable[Membership]) -> None:
        """Add members or change them."""

    def put_departed(self, conversation: bytes, departed: Departed) -> None:
        """Remember that a device has departed."""

    def drop_departed(self, conversation: bytes, devices: Collection[bytes]) -> None:
        """Forget departed devices that the tree has dropped."""

    def put_word(self, conversation: bytes, seq: int, word: bytes) -> None:
        """Remember a word of the operator that is still to be carried out."""

    def drop_words(self, conversation: bytes, seqs: Collection[int]) -> None:
        """Forget words that have been carried out."""

    def load(self, conversation: bytes) -> Head | None:
        """Return the head of a conversation."""

    def room(self, name: str) -> bytes | None:
        """Return the id of the room of that name."""

    def rooms(self, device: bytes) -> list[RoomRow]:
        """Return open rooms, and the invite rooms in which the device is."""

    def pair(self, pair: tuple[str, str]) -> bytes | None:
        """Return the direct conversation of two accounts (sorted)."""

    def of_device(self, device: bytes) -> list[bytes]:
        """Return the conversations in which the device is a member."""

    def read_group(self, conversation: bytes) -> tuple[bytes, list[tuple[int, bytes]]] | None:
        """Return the last snapshot of the public group, and the commits since with their times (ms). Any thread."""


class LogStore(Protocol):
    """Entries, and how far each reader has come."""

    def append(self, head: Head, entries: Sequence[LogEntry]) -> None:
        """Add entries that follow each other; `head` is the conversation's, as it is after them.

        The store may keep `head` and read it whenever it is called by the holder of the turn, until a rollback.
        """

    def set_cursors(self, cursors: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Note how far readers have come: (conversation, device, seq)."""

    def measure(self, conversation: bytes, after: int) -> tuple[int, int]:
        """Return the bytes of a log after `after`, and the time of the first entry there (0: there is none).

        A few entries before them may be counted too.
        """

    def read(self, conversation: bytes, after: int, upto: int, max_entries: int, max_bytes: int) -> list[LogEntry]:
        """Return the next entries after `after` in order, at least one if there is any. Any thread.

        They follow each other: where a log has leapt, the rest is read with another call. The first one says what the
        chain was before it if it is the first that is left.
        """

    def read_handshakes(
        self, conversation: bytes, after: int, upto: int, max_entries: int, max_bytes: int
    ) -> list[LogEntry]:
        """The same for handshakes, of which more are kept, and which do not follow each other. Any thread."""


class InboxStore(Protocol):
    """The inboxes."""

    def deliver(self, entry: InboxEntry, devices: Collection[bytes]) -> None:
        """Put a Welcome into inboxes; `entry.seq` is ignored: each inbox counts for itself."""

    def acknowledge(self, device: bytes, seq: int) -> None:
        """Delete what a device has read of its inbox, up to `seq`."""

    def newest(self, device: bytes) -> int:
        """Return the newest seq of a device's inbox."""

    def read(self, device: bytes, after: int, max_bytes: int) -> list[InboxEntry]:
        """Return the next entries after `after` in order, at least one if there is any. Any thread."""


class DirectoryStore(Protocol):
    """Published devices and their key packages."""

    def put_device(self, device: Device, identity_key: bytes) -> None:
        """Publish a device and its account's identity key."""

    def drop_devices(self, devices: Collection[bytes]) -> None:
        """Take devices out of the directory, with their key packages."""

    def put_key_packages(self, device: bytes, key_packages: Iterable[bytes], last_resort: bytes) -> None:
        """Add key packages; a `last_resort` one, unless empty, replaces the one before."""

    def drop_key_packages(self) -> None:
        """Drop all key packages but the last-resort ones."""

    def take_key_package(self, device: bytes, *, only_last_resort: bool = False) -> bytes | None:
        """Return the oldest unused key package and delete it; where there is none, the last-resort one, which stays.

        `only_last_resort`: that one even where there are others.
        """

    def count_key_packages(self, device: bytes) -> int:
        """Return how many unused key packages a device has."""

    def device(self, device: bytes) -> Device | None:
        """Return a published device."""

    def devices(self, account: str) -> list[Device]:
        """Return the published devices of an account."""

    def owners(self, devices: Collection[bytes]) -> dict[bytes, tuple[str, bytes]]:
        """Return the account of each of these devices that is published, and the account's identity key."""

    def identity_key(self, account: str) -> bytes:
        """Return the account's identity key, empty before the first device was published."""


class Store(Protocol):
    """All of it: what the sequencer holds."""

    @property
    def server_id(self) -> bytes:
        """The 16 bytes that name this server, drawn when the store was made."""

    @property
    def site_keys(self) -> tuple[SiteKey, ...]:
        """By which the operator speaks in rooms that belong to nobody: the newest first, the last made with the store.

        The old ones are kept: the rules of a room name them until its members have heard of a new one.
        """

    def change_site_key(self) -> None:
        """Make a new one."""

    @property
    def conversations(self) -> ConversationStore:
        """See there."""

    @property
    def logs(self) -> LogStore:
        """See there."""

    @property
    def inboxes(self) -> InboxStore:
        """See there."""

    @property
    def directory(self) -> DirectoryStore:
        """See there."""

    def commit(self) -> None:
        """Make everything written since the last call durable, all or nothing."""

    def rollback(self) -> None:
        """Forget everything written since the last `commit`."""

    def tidy(self, now: int) -> tuple[list[Trimmed], bool]:
        """Expire and delete one portion, and commit that with what was written before; `now` in ms.

        This commit may be lost in a power failure, with all that follows it, until the next `commit` has returned: the
        turn does not wait for the disk. Returns what changed, and whether there is more to do.
        """

    def newest(self) -> int:
        """Return the newest time (ms) that a log tells; 0 if there is none."""

    def size(self) -> Size:
        """Return what is kept. Any thread."""

    def close(self) -> None:
        """Close everything; nothing may be called afterwards."""
