"""What all parts of one client share: its vault, its clock, its pins, and its outgoing requests and events.

Only the vault does I/O here. Requests and events are collected while a transaction runs; the core lets them out once it
is on disk (invariant 5: state first, bytes second).
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from securechat.client.answers import Answers
from securechat.client.chains import ChainBook
from securechat.client.clock import Clock
from securechat.client.device import Device
from securechat.client.direct.links import Order
from securechat.client.errands import Errands, ReplyHandler
from securechat.client.events import Alarm, Event, IdentitySucceeded
from securechat.client.parts import Parts
from securechat.client.pins import PinBook
from securechat.client.unlocking import Unlocking
from securechat.client.vault.preferences import Preferences
from securechat.client.vault.vault import Vault
from securechat.identity.certificate import CLOCK_SKEW, DeviceCertificate, in_date
from securechat.identity.pins import short
from securechat.identity.statements import Statement
from securechat.policy import Rules
from securechat.wire.messages import CommitFailed, FromClient

DAY_MILLISECONDS: Final = 86_400_000
"""How long somebody who was told no is not heard if they ask again: a day."""

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
    parts: Parts
    clock: Clock = field(init=False)
    events: list[Event] = field(default_factory=list, repr=False)
    answers: Answers = field(init=False)
    errands: Errands = field(init=False)
    pins: PinBook = field(init=False)
    unlocking: Unlocking = field(init=False)
    chains: ChainBook = field(init=False)
    accepts_from: frozenset[tuple[str, str]] = frozenset()
    """Accounts, each with the digest of its key, whose invitations are accepted without asking."""
    preferences: Preferences = field(init=False)
    ignored: set[str] = field(init=False)  # accounts whose lines in open rooms are hidden; the vault has the same
    unwanted: dict[tuple[str, bytes], int] = field(init=False)
    """Who is blocked, or was told no: until when, as in the vault."""
    alarmed: set[Hashable] = field(default_factory=set)  # alarms of time that were told in this session
    touched: set[bytes] = field(default_factory=set)  # conversations with something to do in this transaction
    contradicted: set[tuple[str, bytes]] = field(default_factory=set)
    """Accounts with a key of theirs in whose place another one is, or shows itself: it is asked what became of it."""
    heard_of: set[str] = field(default_factory=set)  # accounts whose statements came in this transaction
    added: list[Added] = field(default_factory=list)
    """Whom our commits have added to rooms in this transaction: they get invitations."""
    said_of_invitations: list[tuple[bytes, DeviceCertificate | None, object]] = field(default_factory=list, repr=False)
    """What has come about invitations in this transaction: the direct conversation, who said it, the body."""
    removed: list[tuple[bytes, tuple[DeviceCertificate, ...]]] = field(default_factory=list)
    """Rooms, and whom our commits have removed from them in this transaction before they had answered."""
    site_key = b""  # what goes into the rules of a room that belongs to nobody, by the server's word when it connected
    told_older_copy = False  # that this vault is one
    founded = False  # a room of invitation, in this transaction: nobody else could let a new device of ours in
    link_orders: list[Order] = field(default_factory=list, repr=False)
    """What is to be done about direct links, once the transaction is on disk."""
    _server_clock: tuple[int, float] | None = None
    """What it showed when it greeted us (s since 1970), and our monotonic clock then."""
    _differed = False  # whether our clock was another one by much
    had: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Files of ours that the other one of a private conversation has, as they have said in this transaction:
    conversation and blob."""
    unshared = True
    """Whether the vault may have blobs of ours that the server is still to be told to delete."""
    jobs: list[Any] = field(default_factory=list, repr=False)
    """What is to be done with files once the transaction is on disk: of `files.jobs`, which stands above this."""
    outgoing: deque[Outgoing] = field(default_factory=deque, repr=False)

    def __post_init__(self) -> None:
        """Wire the parts that tell the front end something."""
        self.clock = self.parts.clock
        self.answers = Answers(self.emit)
        self.errands = Errands(self.clock.monotonic, self.request, self.emit)
        own = self.device
        self.pins = self.parts.pins(self.vault.pins, self.emit, own.account, own.identity_key)
        self.unlocking = Unlocking(self.vault.password, own.row.identity, self.emit)
        self.chains = ChainBook(self.vault.chains, self.emit, self.pins, own)
        self.preferences = self.vault.preferences
        self.ignored = self.vault.ignored.load()
        self.unwanted = self.vault.unwanted.load()

    def blocks(self, account: str) -> bool:
        """Whether the user has blocked an account."""
        return self.unwanted.get((account, b"")) == 0

    def is_unwanted(self, account: str, room: bytes = b"") -> bool:
        """Whether the user hears nothing of it if an account asks now: to talk, or into a room."""
        untils = (self.unwanted.get((account, each)) for each in {b"", room})
        now = self.clock.milliseconds()
        return any(until is not None and (until == 0 or now < until) for until in untils)

    def said_no(self, account: str, room: bytes = b"") -> None:
        """The user has said no to somebody who asked: let them wait before they are heard asking again."""
        if not self.blocks(account):
            now = self.clock.milliseconds()
            self.vault.unwanted.expire(now)
            self.unwanted = self.vault.unwanted.load()
            self.unwanted[account, room] = now + DAY_MILLISECONDS
            self.vault.unwanted.put(account, room, now + DAY_MILLISECONDS)

    def hear_again(self, account: str) -> None:
        """Whatever an account asks is heard again."""
        for each in [each for each in self.unwanted if each[0] == account]:
            del self.unwanted[each]
            self.vault.unwanted.remove(*each)

    def compare_clocks(self, time: int) -> None:
        """The server has just told its time (ms since 1970)."""
        self._server_clock = (time // 1000, self.clock.monotonic())
        self._differed = abs(self._ahead) > CLOCK_SKEW

    @property
    def _ahead(self) -> int:
        """Seconds by which our clock is ahead of the server's now, as far as that has told its own."""
        if self._server_clock is None:
            return 0
        time, since = self._server_clock
        return self.clock.seconds() - time - int(self.clock.monotonic() - since)

    @property
    def clocks_agree(self) -> bool:
        """Whether our clock shows about what the server's does, and has not leapt since that has greeted us.

        It has, too, where this machine was asleep for long: until we are connected again.
        """
        return abs(self._ahead) <= CLOCK_SKEW

    @property
    def clock_trouble(self) -> str:
        """Why our identity key signs nothing now, for the user; empty: it may.

        What is dated in the future no server takes, nor anything that is signed after it.
        """
        if not self._differed or self.clocks_agree:
            return ""
        return self._apart("nothing is signed for your account before they agree")

    def _apart(self, what: str) -> str:
        """Say that the two clocks differ, and what follows from that."""
        ahead = self._ahead
        return (
            f"This machine's clock is {span(abs(ahead) * 1000)} {'ahead of' if ahead > 0 else 'behind'} the server's: "
            f"{what}. Set this machine's clock right; if it is, tell the operator of the server."
        )

    def tell_lives_on(self) -> None:
        """Tell, once a session, that messages outlive their time: a server that lies of its own brings that about."""
        if self._differed and "life" not in self.alarmed:
            self.alarmed.add("life")
            self.emit(Alarm("time", b"", self._apart("messages whose time is over stay here until they agree")))

    def tell_clock_trouble(self) -> bool:
        """Tell, once a session, that a wrong clock keeps us from signing. Returns whether one does."""
        if self.clock_trouble and "signing" not in self.alarmed:
            self.alarmed.add("signing")
            self.emit(Alarm("time", b"", self.clock_trouble))
        return bool(self.clock_trouble)

    def emit(self, event: Event) -> None:
        """Tell the front end, once the transaction is on disk."""
        self.events.append(self.answers.name(event))

    def meet(self, person: DeviceCertificate, conversation: bytes) -> None:
        """Take note of a verified certificate that shows itself in a conversation, and tell what is wrong with it."""
        contradicted = self.pins.meet(person, conversation)
        if contradicted is not None:
            self.contradicted.add((person.account, contradicted))
        self.chains.see(person)

    def hear(self, statement: Statement) -> None:
        """Take note of a verified statement: what was revoked, and which key follows which.

        Logs are read in any order, so that what follows on it, or contests it, may have been heard before.
        """
        account = statement.account
        if not self.chains.see(statement) or account == self.device.account:
            return  # of our own key the user hears otherwise; what was heard before undoes no decision since
        self.heard_of.add(account)
        if statement.action == "contest":
            self._contest(statement)
        said, followed = statement if statement.action == "succeed" else None, set[bytes]()
        while said is not None and said.identity_key not in followed:
            followed.add(said.identity_key)
            pinned = self.pins.succeed(account, said.identity_key, said.key)
            seen = self.chains.of(account, said.identity_key)
            if seen is not None and isinstance(seen.newest, Statement) and seen.newest.action == "contest":
                self._contest(seen.newest)
            after = self.chains.of(account, said.key) if pinned else None
            said = None if after is None else after.succession

    def _contest(self, contest: Statement) -> None:
        if self.chains.may_contest(contest):
            self.pins.contest(contest.account, contest.identity_key, contest.key)

    def take_over(self) -> None:
        """The server has the identity key that succeeds ours, if there is one: it is ours from now on."""
        if self.device.heir is None:
            return
        self.device.take_over()
        self.unlocking.use(self.device.row.identity)
        self.pins.use(self.device.identity_key)
        self.emit(IdentitySucceeded(short(self.device.identity_key)))

    def in_force(self, certificate: DeviceCertificate) -> bool:
        """Whether a certificate is in date by our own clock, not revoked, and the newest that was seen of its chain."""
        return in_date(certificate, self.clock.seconds()) and self.chains.age(certificate) == "current"

    def request(self, request: FromClient, handler: ReplyHandler) -> None:
        """Send a request, once the transaction is on disk; it gets its id then. A lost connection drops `handler`."""
        self.outgoing.append((request, handler))

    def send(self, message: FromClient) -> None:
        """Send a message that has no reply, once the transaction is on disk."""
        self.outgoing.append((message, None))

    def report_failed_commit(self, conversation: bytes, seq: int) -> None:
        """Tell the server that a commit cannot be processed; its operator sees it in the log."""
        self.request(CommitFailed(0, conversation, seq), lambda _reply: None)


def span(milliseconds: int) -> str:
    """Say how long, about: the largest unit of which there are two."""
    minutes = round(milliseconds / 60_000)
    for unit, name in ((1440, "days"), (60, "hours")):
        if minutes >= 2 * unit:
            return f"{round(minutes / unit)} {name}"
    return f"{minutes} minutes"
