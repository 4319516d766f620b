"""What all parts of one client share: its vault, its clock, its pins, and its outgoing requests and events.

Only the vault does I/O here. Requests and events are collected while a transaction runs; the core lets them out once it
is on disk (invariant 5: state first, bytes second).
"""

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from securechat.client.answers import Answers
from securechat.client.device import Device
from securechat.client.events import Event
from securechat.client.pins import PinBook
from securechat.client.vault.vault import Vault
from securechat.identity.certificate import DeviceCertificate
from securechat.policy import Rules
from securechat.wire.messages import CommitFailed, FromClient, Reply

ReplyHandler = Callable[[Reply], None]
"""Handles the reply to a request: the one that the request's docstring names, or `Refused`."""


@dataclass(frozen=True)
class Clock:
    """Two clocks: `wall` in seconds since 1970, which may be set back, and `monotonic` for durations."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def seconds(self) -> int:
        """Now, in whole seconds since 1970."""
        return int(self.wall())

    def milliseconds(self) -> int:
        """Now, in milliseconds since 1970."""
        return int(self.wall() * 1000)


Outgoing = tuple[FromClient, ReplyHandler | None]
"""A message for the server and, if it is a request, who takes the reply."""


@dataclass
class Added:
    """Somebody whom our commit has added to a room."""

    room: bytes
    person: DeviceCertificate
    rules: Rules  # of the epoch that their Welcome opens: a later commit may have come in the same transaction
    opens: bytes  # SHA-256 of its group context
    change: int = 0  # the user's change that asked for it; 0: that is not known any more


@dataclass
class Context:
    """The shared state of one client. One thread at a time."""

    vault: Vault
    device: Device
    clock: Clock
    events: list[Event] = field(default_factory=list, repr=False)
    answers: Answers = field(init=False)
    pins: PinBook = field(init=False)
    accepts_from: frozenset[tuple[str, str]] = frozenset()
    """Accounts, each with the digest of its key, whose invitations are accepted without asking."""
    ignored: set[str] = field(init=False)  # accounts whose lines in open rooms are hidden; the vault has the same
    alarmed: set[Hashable] = field(default_factory=set)  # alarms of time that were told in this session
    touched: set[bytes] = field(default_factory=set)  # conversations with something to do in this transaction
    added: list[Added] = field(default_factory=list)
    """Whom our commits have added to rooms in this transaction: they get invitations."""
    said_of_invitations: list[tuple[bytes, DeviceCertificate | None, object]] = field(default_factory=list, repr=False)
    """What has come about invitations in this transaction: the direct conversation, who said it, the body."""
    removed: list[tuple[bytes, tuple[DeviceCertificate, ...]]] = field(default_factory=list)
    """Rooms, and whom our commits have removed from them in this transaction before they had answered."""
    site_key = b""  # what goes into the rules of a room that belongs to nobody, by the server's word when it connected
    told_older_copy = False  # that this vault is one
    outgoing: deque[Outgoing] = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        """Wire the parts that tell the front end something."""
        self.answers = Answers(self.emit)
        own = self.device
        self.pins = PinBook(self.vault.pins, self.emit, own.account, own.identity_key)
        self.ignored = self.vault.ignored.load()

    def emit(self, event: Event) -> None:
        """Tell the front end, once the transaction is on disk."""
        self.events.append(self.answers.name(event))

    def request(self, request: FromClient, handler: ReplyHandler) -> None:
        """Send a request, once the transaction is on disk; it gets its id then. A lost connection drops `handler`."""
        self.outgoing.append((request, handler))

    def send(self, message: FromClient) -> None:
        """Send a message that has no reply, once the transaction is on disk."""
        self.outgoing.append((message, None))

    def report_failed_commit(self, conversation: bytes, seq: int) -> None:
        """Tell the server that a commit cannot be processed; its operator sees it in the log."""
        self.request(CommitFailed(0, conversation, seq), lambda _reply: None)
