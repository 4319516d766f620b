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
from securechat.client.events import Event, KeyChanged
from securechat.client.vault.identity import PinTable
from securechat.client.vault.vault import Vault
from securechat.errors import TrustError, UsageError
from securechat.identity import pins
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.safety_number import safety_number
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


class Pins:
    """Which identity keys we know (docs/design.md, section 6, Pins): keeps them in the vault, tells of changes.

    All are in memory, written through to the vault: they are looked at for every message.
    """

    def __init__(self, table: PinTable, emit: Callable[[Event], None]) -> None:
        self._table = table
        self._emit = emit
        self._pins = {pin.account: pin for pin in table.load()}
        self.undecided = {pin.account for pin in self._pins.values() if pin.changed_key is not None}
        """Accounts that show another key than the pinned one, and nobody has decided yet."""
        self._shown: dict[str, bytes] = {}  # keys whose safety number the user has looked at

    def observe(self, certificate: DeviceCertificate) -> None:
        """Take note of the key that a verified certificate shows."""
        known = self._pins.get(certificate.account)
        pin, observation = pins.observe(known, certificate.account, certificate.identity_key)
        self._keep(pin)
        if observation == "changed":
            self._emit(KeyChanged(pin.account, was_verified=pin.verified))

    def standing(self, certificate: DeviceCertificate) -> pins.Standing:
        """Say how the key in a verified certificate compares with the pin."""
        pin = self._pins.get(certificate.account)
        return "pinned" if pin is None else pins.standing(pin, certificate.identity_key)

    def trust(self, account: str) -> None:
        """The user accepts the changed key that the account showed last. Raises `UsageError` if there is none."""
        pin = self._known(account)
        if pin.changed_key is None:
            raise UsageError(f"The key of {account} has not changed; there is nothing to trust.")
        self._keep(pins.trust(pin, pin.current_key))

    def verify(self, account: str) -> None:
        """The user has compared the safety number: that of the key that was shown, not of one that has come since.

        Raises `UsageError`, also where no number was shown since the start.
        """
        pin = self._known(account)
        shown = self._shown.get(account)
        if shown is None:
            raise UsageError(f"Look at the safety number first: /safety {account}. Compare it, then /verify {account}.")
        try:
            self._keep(pins.verify(pin, shown))
        except TrustError as error:
            raise UsageError(str(error)) from error

    def safety_number(self, own_key: bytes, own_account: str, account: str) -> str:
        """Return the 60 digits both people compare. Raises `UsageError` if no key of `account` is known."""
        self._shown[account] = self._known(account).current_key
        return safety_number(own_key, own_account, self._shown[account], account)

    def contradicts(self, account: str, key: bytes) -> bool:
        """Whether a key is another one than the user has compared."""
        pin = self._pins.get(account)
        return pin is not None and pin.verified and key != pin.identity_key

    def knows(self, account: str, key: bytes) -> bool:
        """Whether this is the key by which we know an account."""
        pin = self._pins.get(account)
        return pin is not None and key == pin.identity_key

    def set_own(self, account: str, key: bytes) -> None:
        """Pin our own key: another key in our name is then reported like any other change."""
        self._keep(pins.Pin(account, key, verified=True))

    def _keep(self, pin: pins.Pin) -> None:
        if pin == self._pins.get(pin.account):
            return
        self._table.save(pin)
        self._pins[pin.account] = pin
        if pin.changed_key is None:
            self.undecided.discard(pin.account)
        else:
            self.undecided.add(pin.account)

    def _known(self, account: str) -> pins.Pin:
        pin = self._pins.get(account)
        if pin is None:
            raise UsageError(f"No key of {account} is known yet. Write to them first.")
        return pin


Outgoing = tuple[FromClient, ReplyHandler | None]
"""A message for the server and, if it is a request, who takes the reply."""


@dataclass
class Added:
    """Somebody whom our commit has added to a room."""

    room: bytes
    person: DeviceCertificate
    opens: bytes  # SHA-256 of the group context that their Welcome opens
    change: int = 0  # the user's change that asked for it; 0: that is not known any more


@dataclass
class Context:
    """The shared state of one client. One thread at a time."""

    vault: Vault
    device: Device
    clock: Clock
    events: list[Event] = field(default_factory=list, repr=False)
    answers: Answers = field(init=False)
    pins: Pins = field(init=False)
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
    told_older_copy = False  # that this vault is one
    outgoing: deque[Outgoing] = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        """Wire the parts that tell the front end something."""
        self.answers = Answers(self.emit)
        self.pins = Pins(self.vault.pins, self.emit)
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
