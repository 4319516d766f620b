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
    Blob,
    BranchPoint,
    ChainLink,
    Checkpoint,
    Departed,
    Device,
    Head,
    InboxEntry,
    InboxState,
    LogEntry,
    MemberRow,
    Membership,
    RoomRow,
    Size,
    StoredKeepsake,
    Token,
    Trimmed,
    Usage,
    Who,
)


class DiskFullError(StorageError):
    """There is no room; the transaction was rolled back."""


class ConversationStore(Protocol):
    """Conversations: their heads, members and public groups."""

    def create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> None:
        """Add a conversation with its members; `snapshot`: its public group; `pair`: of a direct one, sorted."""

    def delete(self, conversation: bytes) -> None:
        """Remove a conversation, its log, and its name or pair if they are still its own."""

    def save_commit(self, head: Head, entry: LogEntry, snapshot: bytes | None, account: str) -> None:
        """Keep a commit as a handshake, the head's GroupInfo, and a `snapshot` of the group after it, if one is due.

        `account`: who has made it.
        """

    def save_handshake(self, conversation: bytes, entry: LogEntry, account: str) -> None:
        """Keep an entry that is no message, beside the log and longer: until `tidy` finds that nobody needs it.

        `account`: who has made it; empty: the operator.
        """

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

    def read_branch_point(self, conversation: bytes, since: int) -> BranchPoint | None:
        """Return a conversation as it was when the server was restored, if that was after `since` (ms). Any thread."""

    def rewind(self, head: Head, point: BranchPoint) -> None:
        """Forget what a log has had since the server was restored. `head`: as it is from then on, on from its seq."""

    def put_members(self, conversation: bytes, members: Iterable[Membership]) -> None:
        """Add members or change them."""

    def drop_members(self, conversation: bytes, account: str) -> None:
        """Forget the members that are devices of an account that is deleted: nothing is kept for them any more.

        Those that were in are remembered as such (`Head.deleted`).
        """

    def drop_deleted(self, conversation: bytes, devices: Collection[bytes]) -> None:
        """Forget members of deleted accounts that the tree has dropped."""

    def put_departed(self, conversation: bytes, departed: Departed) -> None:
        """Remember that a device has departed."""

    def drop_departed(self, conversation: bytes, devices: Collection[bytes]) -> None:
        """Forget departed devices that the tree has dropped."""

    def put_word(self, conversation: bytes, seq: int, word: bytes) -> None:
        """Remember a word of the operator that is still to be carried out."""

    def drop_words(self, conversation: bytes, seqs: Collection[int]) -> None:
        """Forget words that have been carried out."""

    def put_revocation(self, conversation: bytes, seq: int, statement: bytes, *, leafless: bool) -> None:
        """Remember a statement that waits, or that its leaf has gone (`leafless`)."""

    def drop_revocations(self, conversation: bytes, seqs: Collection[int]) -> None:
        """Forget statements that wait no more."""

    def load(self, conversation: bytes) -> Head | None:
        """Return the head of a conversation."""

    def room(self, name: str) -> bytes | None:
        """Return the id of the room of that name."""

    def room_names(self) -> list[str]:
        """Return the names of all rooms that have one."""

    def rooms(self, account: str, device: bytes, first: Collection[str], most: int) -> list[RoomRow]:
        """Return open rooms, and the invite rooms in which the device is: at most so many. Any thread.

        Open rooms of the names `first` come first, then the rooms in which the device is, then the largest ones. Where
        there are very many, the number of their members is of a moment ago.
        """

    def members(self, conversation: bytes) -> list[MemberRow]:
        """Return who is in a conversation, by account. Any thread."""

    def count_founded(self, account: str) -> int:
        """Return how many rooms there are that an account has founded."""

    def count_memberships(self, account: str) -> int:
        """Return in how many conversations a device of an account is."""

    def pair(self, pair: tuple[str, str]) -> bytes | None:
        """Return the direct conversation of two accounts (sorted)."""

    def of_device(self, who: Who) -> list[bytes]:
        """Return the conversations in which the device is a member."""

    def of_account(self, account: str, *, out: bool = False, most: int = -1) -> list[bytes]:
        """Return the conversations in which a device of the account is a member, or was one and statements wait.

        `out`: also those in which one was, and has not acknowledged all that it may read. `most`: so many of them at
        most; negative: all.
        """

    def read_group(self, conversation: bytes) -> tuple[bytes, list[tuple[int, bytes]]] | None:
        """Return the last snapshot of the public group, and the commits since with their times (ms). Any thread."""


class LogStore(Protocol):
    """Entries, and how far each reader has come."""

    def append(self, head: Head, entries: Sequence[LogEntry], account: str) -> None:
        """Add entries that follow each other; `head` is the conversation's, as it is after them.

        `account`: who has written them; empty: the operator.
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

    def deliver(self, entry: InboxEntry, devices: Collection[bytes], account: str) -> None:
        """Put a Welcome of `account` into inboxes; `entry.seq` is ignored: each inbox counts for itself."""

    def waiting(self, devices: Collection[bytes], sender: str) -> dict[bytes, InboxState]:
        """Return what waits in each of these inboxes that is not empty, and what of that is by the account `sender`."""

    def acknowledge(self, device: bytes, seq: int) -> None:
        """Delete what a device has read of its inbox, up to `seq`."""

    def newest(self, device: bytes) -> int:
        """Return the newest seq of a device's inbox."""

    def read(self, device: bytes, after: int, max_bytes: int) -> list[InboxEntry]:
        """Return the next entries after `after` in order, at least one if there is any. Any thread."""


class ChainStore(Protocol):
    """What identity keys have signed about their accounts: one chain for each account and identity key."""

    def append(self, account: str, identity_key: bytes, links: Iterable[ChainLink]) -> None:
        """Add links; their seqs go on from the chain's newest."""

    def head(self, account: str, identity_key: bytes) -> ChainLink | None:
        """Return the newest link; None: there is no such chain."""

    def read(self, account: str, identity_key: bytes, after: int, max_links: int) -> list[ChainLink]:
        """Return the next links after the seq `after`, in order."""


class KeepsakeStore(Protocol):
    """What accounts leave for the day when their devices are gone, one of each."""

    def put(self, account: str, keepsake: StoredKeepsake) -> None:
        """Keep it, in place of the one before."""

    def find(self, account: str) -> StoredKeepsake | None:
        """Return the one that is kept."""

    def drop(self, account: str) -> None:
        """Keep none any more."""


class BlobStore(Protocol):
    """Which blobs there are. Their bytes are elsewhere (`server.blobs`), each in a file of the name that it has here.

    A file that is not needed any more is remembered until somebody has deleted it.
    """

    def find(self, conversation: bytes, blob: bytes) -> Blob | None:
        """Return a blob of a conversation."""

    def add(self, conversation: bytes, blob: bytes, account: str, device: bytes, size: int, expires: int) -> Blob:
        """Add one that is not whole; its file is the SHA-256 of both ids, so that no other blob can ever have it."""

    def change(self, file: bytes, seq: int, expires: int) -> None:
        """Note since when a blob is whole (0: it is not), and when it expires."""

    def drop(self, files: Collection[bytes]) -> None:
        """Drop blobs; their files are to be deleted."""

    def drop_of(self, account: str, most: int) -> bool:
        """Drop up to `most` blobs of an account; return whether there may be more."""

    def held(self, account: str) -> tuple[int, int]:
        """Return the bytes of an account's blobs, those that have not come yet included, and how many are not whole."""

    def unfinished(self) -> int:
        """Return how many are not whole. Any thread."""

    def held_by_each(self) -> dict[str, int]:
        """Return the bytes of each account that has any. Any thread."""

    def is_dropped(self, conversation: bytes, blob: bytes) -> bool:
        """Whether the file of a blob that was there before is still to be deleted."""

    def forget(self, files: Collection[bytes]) -> None:
        """Note that files were deleted."""

    def dropped(self, most: int) -> list[bytes]:
        """Return some of the files that are to be deleted. Any thread."""

    def known(self, files: Collection[bytes]) -> set[bytes]:
        """Return those of these files that are a blob's, or to be deleted. Any thread."""

    def whole(self, after: bytes, before: bytes) -> dict[bytes, int]:
        """Return the sizes of the whole blobs whose files lie between two names, the first included. Any thread."""


class DirectoryStore(Protocol):
    """Published devices and their key packages."""

    def put_device(self, device: Device, identity_key: bytes) -> None:
        """Publish a device and its account's identity key."""

    def reserve(self, account: str, devices: Collection[bytes]) -> None:
        """Let device ids that belong to nobody be an account's, for ever: they outlive the devices and the account."""

    def drop_devices(self, devices: Collection[bytes]) -> None:
        """Take devices out of the directory, with their key packages. Whose their ids are stays known."""

    def put_key_packages(self, device: bytes, key_packages: Iterable[bytes], last_resort: bytes) -> None:
        """Add key packages; with a `last_resort` one, unless empty, they replace all those before."""

    def drop_key_packages(self) -> None:
        """Drop all key packages but the last-resort ones."""

    def take_key_package(self, device: bytes, *, only_last_resort: bool = False) -> bytes | None:
        """Return the oldest unused key package and delete it; where there is none, the last-resort one, which stays.

        `only_last_resort`: that one even where there are others.
        """

    def key_packages(self, device: bytes) -> list[bytes]:
        """Return a device's unused key packages, the oldest first, the last-resort one last."""

    def count_key_packages(self, device: bytes) -> int:
        """Return how many unused key packages a device has, the last-resort one not counted."""

    def device(self, who: Who) -> Device | None:
        """Return a published device of an account."""

    def account_of(self, device: bytes) -> str:
        """Return the account to which a device id belongs (`reserve`); empty: to none."""

    def devices(self, account: str) -> list[Device]:
        """Return the published devices of an account."""

    def owners(self, devices: Collection[bytes]) -> dict[bytes, tuple[str, bytes]]:
        """Return the account of each of these devices that is published, and the account's identity key."""

    def identity_key(self, account: str) -> bytes:
        """Return the account's identity key, empty before the first device was published."""


class TokenStore(Protocol):
    """Resume tokens: here, so that they change in one transaction with the directory."""

    def put(self, token: Token) -> None:
        """Keep a token in place of its device's; the account's oldest goes where there are too many."""

    def find(self, digest: bytes) -> Token | None:
        """Return the token whose hash this is."""

    def of(self, account: str) -> list[Token]:
        """Return the tokens of an account's devices."""

    def drop(self, account: str, device: bytes) -> None:
        """Drop the token of an account's device, if there is one."""

    def keep_only(self, account: str, device: bytes) -> None:
        """Drop the tokens of an account, except that of one device."""

    def holders(self, now: int) -> dict[tuple[str, int], int]:
        """Return how many devices of each account and generation have a token that is good; `now` in ms. Any thread."""


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
    def keepsakes(self) -> KeepsakeStore:
        """What accounts leave for later."""

    @property
    def blobs(self) -> BlobStore:
        """See there."""

    @property
    def chains(self) -> ChainStore:
        """See there."""

    @property
    def directory(self) -> DirectoryStore:
        """See there."""

    @property
    def tokens(self) -> TokenStore:
        """See there."""

    def commit(self) -> None:
        """Make everything written since the last call durable, all or nothing."""

    def rollback(self) -> None:
        """Forget everything written since the last `commit`."""

    def tidy(self, now: int, age: int) -> tuple[list[Trimmed], bool]:
        """Expire and delete one portion, and commit that with what was written before; both in ms.

        `now` tells what has been in the tail long enough, `age` what is too old to be kept.

        This commit may be lost in a power failure, with all that follows it, until the next `commit` has returned: the
        turn does not wait for the disk. Returns what changed, and whether there is more to do.
        """

    def held(self, account: str) -> int:
        """Return the bytes that an account has written and that are kept: what is committed, and what will be."""

    def held_by_all(self) -> list[int]:
        """Return the bytes that each account holds which holds any, the most first. Any thread."""

    def usage(self, most: int) -> Usage:
        """Return who holds most: at most so many accounts, and as many conversations. Any thread."""

    def newest(self) -> int:
        """Return the newest time (ms) that a log tells; 0 if there is none."""

    def size(self) -> Size:
        """Return what is kept. Any thread."""

    def close(self) -> None:
        """Close everything; nothing may be called afterwards."""
