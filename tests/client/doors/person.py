"""Bob in the model: what he knows, what his client does with an offer (`decide` itself), and how he answers."""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final, Literal, NamedTuple

from securechat.client.doors.checks import FOLLOWS, OURS
from securechat.client.doors.facts import (
    Invitation,
    Key,
    KeyStanding,
    Known,
    Leaf,
    Offered,
    Standing,
    Step,
    Told,
    Trusted,
    Verdict,
    Waits,
    Way,
)
from securechat.client.doors.table import TABLE, Row, decide
from securechat.policy import Kind
from tests.client.doors.world import (
    BOB,
    DAY,
    SERVERS,
    START,
    Branch,
    World,
    after,
    allowed,
    back_after_leaving,
    changed,
    lets_in,
    path,
    seq_of,
    sound,
    with_,
)


class Pins(NamedTuple):
    """What bob has decided on keys; `test_pins` compares it with `identity.pins`."""

    accepted: frozenset[Key] = frozenset()
    verified: frozenset[Key] = frozenset()
    refused: frozenset[Key] = frozenset()
    succeeded: frozenset[Key] = frozenset()  # named by a key that he had compared
    contested: frozenset[Key] = frozenset()

    def refuse(self, key: Key) -> "Pins":
        """/distrust."""
        return self._without({key})._replace(refused=self.refused | {key})

    def compare(self, key: Key) -> "Pins":
        """What was compared is verified, and takes acceptance from the account's other keys."""
        pins = self._only(key)
        return pins._replace(verified=pins.verified | {key})

    def trust(self, key: Key) -> "Pins":
        """/trust: a key is accepted, also against another one."""
        if key in self.accepted | self.verified | self.succeeded:
            return self
        pins = self._only(key)
        return pins._replace(accepted=pins.accepted | {key})

    def accept(self, key: Key) -> "Pins":
        """Yes to a request accepts a key where no other is accepted."""
        return self.trust(key) if self.standing(*key) == "unknown" else self

    def succeed(self, old: Key, new: Key) -> "Pins":
        """The key that he writes to has named another one: accepted follows, and verified waits for one Enter."""
        if self.written_to(old.account) != old or new in self.refused:
            return self
        pins = self._only(new)
        if old in self.accepted:
            return pins._replace(accepted=pins.accepted | {new})
        return pins._replace(succeeded=pins.succeeded | {new})

    def contest(self, old: Key, new: Key) -> "Pins":
        """The old key denies it: neither is accepted before he has compared."""
        if self.written_to(old.account) != new or new in self.verified:
            return self
        return self._without({old, new})._replace(contested=self.contested | {old, new})

    def go_on(self, key: Key) -> "Pins":
        """The one Enter."""
        if key not in self.succeeded:
            return self
        pins = self._only(key)
        return pins._replace(accepted=pins.accepted | {key})

    def _only(self, key: Key) -> "Pins":
        """Nothing but what is refused is left of the account's other keys, and nothing of this one."""
        others = {each for kind in self for each in kind if each.account == key.account} - self.refused
        return self._without(others | {key})

    def _without(self, keys: set[Key]) -> "Pins":
        return Pins(*(kind - keys for kind in self))

    def first(self, account: str) -> bool:
        """Whether nothing was decided on any key of an account yet."""
        return account not in {key.account for kind in self for key in kind}

    def written_to(self, account: str) -> Key | None:
        """The key of an account that is accepted, if one is."""
        found = self.accepted | self.verified | self.succeeded
        return next((key for key in found if key.account == account), None)

    def standing(self, account: str, key: bytes) -> KeyStanding:
        """Compare a key with them."""
        this = Key(account, key)
        for kind, name in zip(self, _KINDS, strict=True):
            if this in kind:
                return name
        if account in {each.account for each in self.verified}:
            return "changed-verified"
        return "unknown" if self.written_to(account) is None else "changed"


_KINDS: Final[tuple[KeyStanding, ...]] = ("accepted", "verified", "refused", "succeeded", "contested")


class Conv(NamedTuple):
    """A conversation as bob's vault has it."""

    kind: Kind
    name: str
    group: bytes = b""
    standing: Standing = "nothing"
    keepsake: Branch | None = None  # what a recovered client knows of it
    at: Branch | None = None  # T: the branch of the last state that was trusted
    since: Branch | None = None  # from here on bob's client has followed every commit
    root: Branch | None = None  # where the trust in it began: what it was when the story began, or what bob said yes to
    waits: Waits = "nothing"
    named: frozenset[Leaf] = frozenset()  # leaves that bob was told of, each as what it is
    typed: frozenset[Key] = frozenset()  # whom the oldest line that waits was typed for; empty: none waits
    time: int = START
    kept: Branch | None = None  # the branch of a Welcome that was put by
    told: Told = ""
    back: frozenset[Branch] = frozenset()  # re-entries that bob was told of
    without: bool = False  # it has gone on past commits without the secrets
    line: Key | None = None


class Certs(NamedTuple):
    """What bob's client has seen of the chains of identity keys, his own included."""

    own: int = 1  # the place of the certificate that this vault has
    newest: frozenset[tuple[Leaf, int]] = frozenset()  # the newest seen, of whom it is a later one than the first
    revoked: frozenset[tuple[Leaf, int]] = frozenset()  # up to which certificate somebody has revoked their own
    expired: frozenset[Leaf] = frozenset()  # whose first certificate has run out

    def in_force(self, leaf: Leaf, seq: int) -> bool:
        """Whether a certificate is in date, not revoked, and the newest that was seen."""
        late = leaf in self.expired and seq == 1
        return not late and seq >= dict(self.newest).get(leaf, 1) and self.not_revoked(leaf, seq)

    def not_revoked(self, leaf: Leaf, seq: int) -> bool:
        """Whether a certificate is behind the last that was revoked."""
        return seq > dict(self.revoked).get(leaf, 0)

    def see(self, branch: Branch) -> "Certs":
        """Look at the certificates in a state, and at what was revoked there."""
        newest, revoked = dict(self.newest), dict(self.revoked)
        for leaf, seq in branch.seqs:
            newest[leaf] = max(seq, newest.get(leaf, 1))
        for leaf in branch.revoked:
            revoked[leaf] = max(seq_of(branch, leaf), revoked.get(leaf, 0))
        return self._replace(newest=frozenset(newest.items()), revoked=frozenset(revoked.items()))


class Said(NamedTuple):
    """An invitation that was written, in the direct conversation with its inviter."""

    inviter: Key
    branch: Branch
    time: int


class Statement(NamedTuple):
    """What an identity key says of another one, in its chain; fork: it says two things in one place, so two hold it."""

    action: Literal["succeed", "contest", "fork"]
    old: Key
    new: Key


class State(NamedTuple):
    """Everything in one moment of the story."""

    world: World
    heads: tuple[Branch | None, ...]  # by conversation: the branch where alice is, and an honest server's log
    convs: tuple[Conv, ...]
    pins: Pins
    said: frozenset[Said] = frozenset()
    now: int = START + DAY
    certs: Certs = Certs()
    statements: frozenset[Statement] = frozenset()  # by keys of alice, which bob has not read
    read: frozenset[Statement] = frozenset()
    denied: frozenset[Key] = frozenset()  # keys of which he has read that they are no successors
    split: frozenset[Key] = frozenset()  # keys of which he has read that two hold them, until he goes on
    doubted: frozenset[Key] = frozenset()  # those of them that his client holds lines for


@dataclass(frozen=True)
class Door:
    """What happened when something was offered: to be judged by the invariants."""

    slot: int
    branch: Branch | None  # what was offered
    offered: Offered
    verdict: Verdict
    yes: bool  # bob was asked, and said yes
    said: Said | None = None  # the invitation beside it


Without = Literal[
    "", "alarm", "re-entries", "dating", "rotating first", "giving way", "seeing chains", "succession",
    "comparing again", "contesting", "doubting",
]  # fmt: skip
"""What else than a row a table can lack.

alarm: over leaves of bob's own name. re-entries: telling who came in again. dating: lines wait for one Enter.
rotating first: before a resync in place of a leaf with a later certificate. giving way: a leaf does so to a later
certificate alone, which is a rule of the conversation. seeing chains: bob's client knows which certificates were
revoked, or replaced by later ones. succession: pins follow to a successor. comparing again: they wait for one Enter if
the old key was compared. contesting: an old key may deny its successor. doubting: private lines to a key that two hold
wait for one Enter.
"""


@dataclass(frozen=True, eq=False)
class Table:
    """A table of doors to explore: the client's, or one that lacks something."""

    rows: tuple[Row, ...] = TABLE
    without: Without = ""
    memory: dict[object, Verdict] = field(default_factory=dict, repr=False)
    index: dict[tuple[Standing, Way], tuple[Row, ...]] = field(default_factory=dict, repr=False)  # `rows` that may take

    def decide(self, known: Known, offered: Offered, pins: Pins, now: int) -> Verdict:
        """Ask the client's own function."""
        about = known.standing, offered.way
        if about not in self.index:
            taking = (row for row in self.rows if known.standing in row.standings and offered.way in row.ways)
            self.index[about] = tuple(taking)
        verdict = decide(known, offered, pins, now, self.index[about])
        match self.without:
            case "alarm":
                return replace(verdict, alarm=frozenset())
            case "re-entries":
                return replace(verdict, back=frozenset())
            case "dating":
                return replace(verdict, waits="nothing") if verdict.waits == "enter" else verdict
            case "rotating first":
                return replace(verdict, action="resync") if verdict.action == "rotate" else verdict
        return verdict


WHOLE = Table()


def offer(
    state: State,
    slot: int,
    way: Way,
    branch: Branch | None = None,
    said: Said | None = None,
    *,
    by_hand: bool = False,
    table: Table = WHOLE,
    bad: frozenset[Leaf] = SERVERS,
) -> tuple[State, Door]:
    """Let bob's client meet an offer: `branch`, by a way, with or without an invitation.

    `by_hand`: bob typed /repair. `bad`: keys of the server's.
    """
    slot = _concerned(state, slot, branch)
    conv = state.convs[slot]
    if branch is not None and way in ("walk", "public-walk"):
        branch = _until_removed(conv.at, branch)
    sight = _Sight(conv.standing, conv.group, conv.kind, conv.name, conv.at)
    certs = state.certs
    if table.without == "seeing chains":
        certs = Certs(certs.own, expired=certs.expired)
    offered = show(sight, way, branch, said, certs, by_hand=by_hand, lax=table.without == "giving way")
    pins = state.pins if way == "welcome" else _UNASKED
    about = (*sight, conv.time, conv.line, offered, pins, state.now)
    verdict = table.memory.get(about)
    if verdict is None:
        verdict = table.memory[about] = table.decide(known(conv, pins), offered, pins, state.now)
    yes = verdict.action == "ask" and believes(state, verdict, said, bad)
    door = Door(slot, branch, offered, verdict, yes, said)
    return _apply(state, door), door


class _Unasked(Pins):
    """By all ways but a Welcome the table has to decide alike whatever bob thinks of keys: so that is not looked at."""

    def standing(self, account: str, key: bytes) -> KeyStanding:
        raise AssertionError(f"a door asks for the key of {account}, {key!r}")


_UNASKED: Final = _Unasked()


@cache
def _until_removed(start: Branch | None, end: Branch) -> Branch:
    """Where a walk ends: at the commit that removes bob, if there is one."""
    return next((each for each in path(start, end) or () if BOB not in each.members), end)


def _concerned(state: State, slot: int, branch: Branch | None) -> int:
    """The conversation of that group, if bob has one; else the one that was named."""
    if branch is not None:
        for number, conv in enumerate(state.convs):
            if conv.group == branch.group:
                return number
    return slot


def known(conv: Conv, pins: Pins) -> Known:
    """What bob's vault says of a conversation."""
    trusted, last = None, conv.at or conv.keepsake
    if last is not None:
        members = last.members if last is conv.at or last.kind == "direct" else frozenset[Leaf]()
        trusted = Trusted(last.epoch, members, last.owners, last.inviters, conv.time)
    direct = conv.kind == "direct"
    return Known(
        BOB, conv.standing, conv.group, conv.kind, conv.name, trusted, conv.line,
        pins.written_to(conv.name) if direct else None, direct and pins.first(conv.name),
    )  # fmt: skip


class Shown(Offered):
    """What an offer shows; equal ones are the same object, as with branches."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class _Sight(NamedTuple):
    """As much of a conversation as decides what an offer shows."""

    standing: Standing
    group: bytes
    kind: Kind
    name: str
    at: Branch | None


@cache
def show(
    conv: _Sight, way: Way, branch: Branch | None, said: Said | None, certs: Certs, *, by_hand: bool, lax: bool
) -> Offered:
    """What an offer shows, and what the engine and the rules find wrong with it."""
    if branch is None:
        return Shown(way, conv.group, conv.kind, conv.name, asked_for=by_hand)
    name = branch.name or next((each.account for each in branch.members if each != BOB), "")
    seq = seq_of(branch, branch.author)
    walked = path(conv.at, branch) if conv.at is not None else None
    if way == "checkpoint":
        walked = ()  # it is offered without what leads to it
    elif way == "offer" and conv.standing != "stopped":
        walked = ()
    return Shown(
        way, branch.group, branch.kind, name, branch.epoch, branch.members, branch.owners, branch.author,
        _context(branch), _invitation(said), _steps(walked, branch, certs), asked_for=by_hand,
        in_force=certs.not_revoked(branch.author, seq) if way == "welcome" else certs.in_force(branch.author, seq),
        dated=way != "welcome" or certs.in_force(branch.author, seq), behind=seq_of(branch, BOB) > certs.own,
        fault=_fault(way, branch, walked, conv.standing, lax=lax),
    )  # fmt: skip


@cache
def _context(branch: Branch) -> bytes:
    """The hash of the context: what it covers is the same for whoever signs a Welcome to it."""
    author = BOB if branch.change == "add" else branch.author
    return changed(branch, author=author, secret=True, readable=True).label.encode()


def _invitation(said: Said | None) -> Invitation | None:
    if said is None:
        return None
    to = said.branch
    end = said.time + 14 * DAY
    return Invitation(said.inviter, to.group, to.kind, to.name, to.owners, _context(to), said.time, end)


def _steps(walked: World | None, end: Branch, certs: Certs) -> tuple[Step, ...] | None:
    if walked is None:
        return None
    steps: list[Step] = []
    for each in walked:
        who = each.author
        in_force = any(certs.in_force(who, seq_of(branch, who)) for branch in (each, end) if who in branch.members)
        if each.change != "revoke":
            steps.append(Step(who, each.change, in_force))
    return tuple(steps)


UNKNOWN: Final = "a commit of our own device that this vault does not know"


def _fault(way: Way, branch: Branch, walked: World | None, standing: Standing, *, lax: bool) -> str:
    if not sound(branch):
        return "an account is in it twice"
    if way == "welcome":
        return "" if lets_in(branch, BOB) else "it is for none of our key packages"
    secretly = way in ("commit", "walk") or standing == "old-copy-commit"  # of that one: up to our own commit
    for step in walked or ():
        secretly = secretly and (way != "public-walk" or step.author != BOB)
        if not allowed(step, lax=lax) or back_after_leaving(step):
            return "the rules do not allow a commit"
        if secretly and step.author == BOB:
            return UNKNOWN
        if secretly and not step.secret:
            return "a membership tag is wrong"
        if secretly and not step.readable:
            return "a commit cannot be processed"
    return ""


def believes(state: State, verdict: Verdict, said: Said | None, bad: frozenset[Leaf]) -> bool:
    """Bob's answer: the truth about what the question says of a key that he knows, and a naive yes at first contact."""
    if verdict.told in ("first-contact", "request"):
        return True
    if verdict.told == "key-change":
        return verdict.whose not in {leaf.key for leaf in SERVERS}
    return said in state.said or (verdict.whose in {leaf.key for leaf in bad})


def _walked(conv: Conv, door: Door) -> World:
    """What was followed to an offer."""
    return path(conv.at, door.branch) or () if conv.at is not None and door.offered.steps else ()


def _apply(state: State, door: Door) -> State:
    """What bob's client makes of it."""
    verdict, conv = door.verdict, state.convs[door.slot]
    if verdict.lets_in and (door.yes or verdict.action != "ask"):
        return _enter(state, door)
    match verdict.action:
        case "rotate":  # bob types his password
            assert door.branch is not None
            certs = state.certs._replace(own=seq_of(door.branch, BOB) + 1)
            return put(state._replace(certs=certs), door.slot, conv._replace(told=verdict.told))
        case "keep" | "ignore" if door.offered.way == "welcome":
            return put(state, door.slot, conv._replace(kept=door.branch))
        case "withdraw":
            return put(state, door.slot, conv._replace(standing="nothing", kept=None, told=verdict.told))
        case "hand-back":
            return put(state, door.slot, conv._replace(standing="live", told=verdict.told))
        case "refuse":
            return put(state, door.slot, _refused(conv, door))
    return state


def _refused(conv: Conv, door: Door) -> Conv:
    """How bob stands after something was refused."""
    verdict, way, fault = door.verdict, door.offered.way, door.offered.fault
    if way == "claim" and conv.standing == "opening":  # our own opening has failed
        return Conv(conv.kind, conv.name)
    if fault == UNKNOWN:
        return conv._replace(standing="old-copy-commit")
    if fault and (way in ("commit", "walk") or (conv.standing == "old-copy-commit" and way != "welcome")):
        return conv._replace(standing="stopped")
    if verdict.why == OURS.words and way == "public-walk":
        return conv._replace(standing="left", told=verdict.told)
    if verdict.why == FOLLOWS.words and door.offered.asked_for:
        return conv._replace(standing="lost")
    return conv if verdict.told == "refused" else conv._replace(told=verdict.told)


def _enter(state: State, door: Door) -> State:
    """Bob's client takes over what was offered."""
    verdict, conv = door.verdict, state.convs[door.slot]
    assert door.branch is not None
    state = state._replace(certs=state.certs.see(door.branch))
    if verdict.action == "follow" and BOB not in door.offered.members:
        return put(state, door.slot, conv._replace(standing="left", told=verdict.told))
    named, back = conv.named, conv.back
    if verdict.told:
        named |= verdict.came
        back |= frozenset(each for each in _walked(conv, door) if each.author in verdict.back)
    waits = conv.waits if verdict.waits in ("held", "fresh-path") else verdict.waits
    waits = "nothing" if waits == "until-in" else waits
    if conv.waits == "enter" and waits == "nothing":  # whoever came by a door is still to be confirmed (`roster`)
        waits = "enter"
    if door.yes:  # what was typed for others waits all the same
        waits = "enter" if verdict.holding else "nothing"
    entered = conv._replace(
        group=door.offered.group, standing="live", at=door.branch, named=named, waits=waits, time=state.now, kept=None,
        since=conv.since if door.offered.steps else door.branch, told=verdict.told, line=None, back=back,
        name=conv.name or door.offered.name, without=conv.without or door.offered.way == "public-walk",
    )  # fmt: skip
    match verdict.action:
        case "resync":
            return _resync(state, door, entered)
        case "ask" | "enter":
            shown = named if door.offered.kind != "direct" and not verdict.told else door.offered.members
            entered = entered._replace(root=door.branch, named=shown)
            if verdict.whose is not None and door.yes:  # writing to somebody, and yes to them, accepts their key
                state = state._replace(pins=state.pins.accept(verdict.whose))
        case "beside":
            beside = entered._replace(root=door.branch, name=door.offered.name, typed=frozenset())
            beside = beside._replace(named=door.offered.members if verdict.told else frozenset())
            return state._replace(convs=(*state.convs, beside), heads=(*state.heads, door.branch))
    return put(state, door.slot, entered)


def _resync(state: State, door: Door, entered: Conv) -> State:
    """Bob's own external commit on what was offered. If that is where alice is, she follows it."""
    assert door.branch is not None
    made = after(door.branch, BOB, "re-enter", BOB, seq=state.certs.own)
    if not allowed(made):  # nobody follows him
        return state
    heads = tuple(made if head is door.branch else head for head in state.heads)
    state = state._replace(world=with_(state.world, made), heads=heads)
    since = entered.since if door.offered.steps else made  # what he has entered from he has had no secrets of
    return put(state, door.slot, entered._replace(at=made, since=since))


@cache
def reading(branch: Branch) -> frozenset[Leaf]:
    """Who reads what bob says there: before he speaks he commits, which removes whose certificate was revoked."""
    return branch.members - branch.revoked


@cache
def held(pins: Pins, branch: Branch) -> bool:
    """Whether pins alone hold what is said: in a direct conversation every key that was not accepted does."""
    if branch.kind == "direct":
        return any(pins.standing(*leaf.key) not in ("accepted", "verified") for leaf in reading(branch) - {BOB})
    return branch.kind == "invite" and any(pins.standing(*leaf.key) in _AGAINST for leaf in reading(branch) - {BOB})


_AGAINST = ("changed-verified", "refused")


def put(state: State, slot: int, conv: Conv) -> State:
    """The state with another view of one conversation."""
    return state._replace(convs=(*state.convs[:slot], conv, *state.convs[slot + 1 :]))
