"""Conversations in memory: what the store keeps of them, cached, and who reads them now."""

from dataclasses import dataclass, field

from securechat.errors import RefusedError
from securechat.identity.statements import Statement
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.policy import Word
from securechat.server.sequencer.session import Session
from securechat.server.store.port import ConversationStore
from securechat.server.store.records import Head, Membership, Who

RETURN_SECONDS = 60.0
"""How long members of a conversation of a restored server have to come back, from when the first has, before anybody
goes on in its epoch: clients that are running try again within half a minute."""

HAND_BACK_SECONDS = 2.0
"""How long those have who are all back: whoever knows of more hands it back at once."""

IDLE_SECONDS = 600.0
"""How long an unused conversation stays in memory, and a little longer."""

LOOKED_AT_ONCE = 256
"""Conversations in memory that are looked at, whether they are still used, in one portion of housekeeping."""


Known = tuple[frozenset[LeafIndex], tuple[int, ...], tuple[int, ...]]
"""What an offer tells beside the tree: whose leaves have departed, and the seqs of words and revocations that wait."""


Full = tuple[tuple[int, int, int, int], tuple[str, str]]
"""A state of a direct conversation (`messages`), and the code and text of the refusal."""


@dataclass
class Lease:
    """The right to commit next. `until`: monotonic seconds; infinite while the device's commit is being checked."""

    who: Who
    until: float


@dataclass
class LeaseQueue:
    """Who may commit next, and who waits to (docs/design.md, section 6, Open rooms)."""

    lease: Lease | None = None
    joiners: dict[str, tuple[Session, int]] = field(default_factory=dict)  # account -> session, request; as they came
    strikes: dict[Who, int] = field(default_factory=dict)  # refusals in a row because another commit was faster
    starved: dict[str, Who] = field(default_factory=dict)  # account -> member that waits; as they came
    idle: dict[str, float] = field(default_factory=dict)  # account -> when its leases without a commit are forgotten
    offered: dict[Who, Known] = field(default_factory=dict)


class Conversation:
    """`head` and `group` are what the store has; `readers` read live: they have everything up to `head.seq`."""

    __slots__ = (
        "_prefix",
        "_prefix_epoch",
        "back",
        "closed_until",
        "full",
        "group",
        "head",
        "lease_queue",
        "loading",
        "readers",
        "tree",
        "used",
    )  # fmt: skip

    def __init__(self, head: Head) -> None:
        self.head = head
        self.group: PublicGroup | None = None  # rebuilt by a worker when it is needed
        self.tree = b""  # of `group`, encoded
        self.loading: set[str] = set()  # accounts that have workers rebuild the group
        self.readers: dict[Who, Session] = {}
        self.lease_queue = LeaseQueue()
        self.closed_until = 0.0  # monotonic seconds; until then no new commit is taken (`handing_back`)
        self.full: dict[bytes, Full] = {}  # a direct one: device -> why it could say nothing more, in which state
        self.back: set[bytes] = set()  # devices that have come back since a restore
        self.used = 0.0
        self._prefix = b""
        self._prefix_epoch = -1

    @property
    def application_prefix(self) -> bytes:
        """How an application message of this epoch begins, up to its number: comparing with it needs no parser.

        MLSMessage: version mls10, wire format mls_private_message, group_id<V>, epoch, content type application, and
        the length of authenticated_data<V> (RFC 9420, sections 6 and 6.3).
        """
        if self._prefix_epoch != self.head.epoch:
            self._prefix_epoch = self.head.epoch
            group_id = len(self.head.id).to_bytes(1, "big") + self.head.id
            self._prefix = b"\x00\x01\x00\x02" + group_id + self.head.epoch.to_bytes(8, "big") + b"\x01\x08"
        return self._prefix

    def set_group(self, group: PublicGroup, tree: bytes) -> None:
        """Move to another epoch's group."""
        self.group = group
        self.tree = tree

    def come_back(self, device: bytes, now: float) -> None:
        """A member reads the log of a restored server: until somebody has gone on there, others may know of more.

        So the first new commit waits for all members, or for `RETURN_SECONDS`. `now` in monotonic seconds.
        """
        head = self.head
        if not head.resumed or head.kind == "open" or any(each.newest > head.resumed for each in head.numbers.values()):
            return
        self.back.add(device)
        self.closed_until = self.closed_until or now + RETURN_SECONDS
        if self.back.issuperset(member.device for member in self.present):
            self.closed_until = min(self.closed_until, now + HAND_BACK_SECONDS)

    def reload(self, store: ConversationStore) -> bool:
        """Forget what could not be written; return False if the conversation itself is not in the store."""
        head = store.load(self.head.id)
        if head is None:
            return False
        if (head.epoch, head.resumed) != (self.head.epoch, self.head.resumed):  # the latter: in another branch
            self.group = None
        for device, member in self.head.members.items():
            if (stored := head.members.get(device)) is not None:
                stored.cursor = max(stored.cursor, member.cursor)  # acknowledged, but perhaps not stored yet
        self.head = head
        return True

    def member(self, session: Session) -> Membership:
        """Return the present membership of a session's device, or raise RefusedError `not-found`."""
        member = self.membership(session)
        if member is None or member.last_seq is not None:
            raise not_found()
        return member

    def membership(self, session: Session) -> Membership | None:
        """Return the membership of a session's device, also one that has ended; of its account, or it is none."""
        return self.head.place(session.who)

    @property
    def present(self) -> list[Membership]:
        """The devices that are members now."""
        return [member for member in self.head.members.values() if member.last_seq is None]

    @property
    def departed_leaves(self) -> frozenset[LeafIndex]:
        """Leaves of departed devices."""
        return frozenset(LeafIndex(each.leaf) for each in self.head.departed.values())

    @property
    def words(self) -> tuple[Word, ...]:
        """What the operator has said and nobody has carried out."""
        return tuple(map(Word.decode, self.head.words.values()))

    @property
    def revocations(self) -> tuple[Statement, ...]:
        """The statements that wait (`policy.revocations`)."""
        return tuple(map(Statement.decode, self.head.revocations.values()))

    @property
    def idle(self) -> bool:
        """Whether nobody reads it or waits for it."""
        queue = self.lease_queue
        return not self.readers and queue.lease is None and not queue.joiners and not self.loading


class Conversations:
    """The conversations in memory. Others are loaded when they are needed. Requires holding the turn."""

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._loaded: dict[bytes, Conversation] = {}
        self._touched: set[Conversation] = set()
        self._unlooked: list[bytes] = []  # those that `evict` looks at next

    def find(self, conversation: bytes, now: float) -> Conversation:
        """Return a conversation or raise RefusedError `not-found`."""
        found = self._loaded.get(conversation) or self.get(conversation)
        if found is None:
            raise not_found()
        found.used = now
        return found

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation, None if there is none."""
        found = self._loaded.get(conversation)
        if found is None and (head := self._store.load(conversation)) is not None:
            found = self._loaded[conversation] = Conversation(head)
        return found

    def loaded(self, conversation: bytes) -> Conversation | None:
        """Return a conversation if it is in memory."""
        return self._loaded.get(conversation)

    def add(self, conversation: Conversation) -> None:
        """Add a new one; `touch` it as well."""
        self._loaded[conversation.head.id] = conversation

    def touch(self, conversation: Conversation) -> None:
        """Note that its head changes in this turn."""
        self._touched.add(conversation)

    def remove(self, conversation: Conversation) -> None:
        """Forget a deleted one."""
        self._loaded.pop(conversation.head.id, None)
        self._touched.add(conversation)

    def forget(self, conversation: Conversation) -> None:
        """Forget one that is on the disk no more."""
        self._loaded.pop(conversation.head.id, None)

    def committed(self) -> None:
        """Note that what the turn changed is on disk."""
        self._touched.clear()

    def rolled_back(self) -> None:
        """Undo here what the turn changed: it is undone in the store."""
        for conversation in self._touched:
            if conversation.reload(self._store):
                self._loaded[conversation.head.id] = conversation
            else:
                self._loaded.pop(conversation.head.id, None)
        self._touched.clear()

    def evict(self, now: float) -> None:
        """Forget conversations that nobody has used for a while; look at some of them, and at others the next time."""
        self._unlooked = self._unlooked or list(self._loaded)
        for key in self._unlooked[-LOOKED_AT_ONCE:]:
            found = self._loaded.get(key)
            if found is not None and now - found.used > IDLE_SECONDS and found.idle:
                del self._loaded[key]
        del self._unlooked[-LOOKED_AT_ONCE:]


def not_found() -> RefusedError:
    """Return the refusal for a conversation that does not exist, and for one that is not yours."""
    return RefusedError("not-found", "there is no such conversation, or you are not in it")
