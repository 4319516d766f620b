"""Bob in the model: what he knows, what his client does with an offer (`decide` itself), and how he answers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

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
    lets_in,
    path,
    sound,
)


class Pins(NamedTuple):
    """The keys that bob has accepted, compared or refused."""

    accepted: frozenset[Key] = frozenset()
    verified: frozenset[Key] = frozenset()
    refused: frozenset[Key] = frozenset()

    def compare(self, key: Key) -> "Pins":
        """What was compared is verified, and takes acceptance from the account's other keys."""
        accepted, verified = (
            frozenset(each for each in keys if each.account != key.account) for keys in (self.accepted, self.verified)
        )
        return self._replace(accepted=accepted, verified=verified | {key})

    def accept(self, key: Key) -> "Pins":
        """Yes to a request accepts a key where no other is accepted."""
        known = {each.account for each in self.accepted | self.verified}
        return self if key.account in known else self._replace(accepted=self.accepted | {key})

    def standing(self, account: str, key: bytes) -> KeyStanding:
        """Compare a key with them."""
        this = Key(account, key)
        if this in self.refused:
            return "refused"
        if this in self.verified:
            return "verified"
        if this in self.accepted:
            return "accepted"
        if account in {each.account for each in self.verified}:
            return "changed-verified"
        return "changed" if account in {each.account for each in self.accepted} else "unknown"


class Conv(NamedTuple):
    """A conversation as bob's vault has it."""

    kind: Kind
    name: str
    group: bytes = b""
    standing: Standing = "nothing"
    at: int = -1  # T: the branch of the last state that was trusted
    root: int = -1  # where the trust in it began: what it was when the story began, or what bob said yes to
    waits: Waits = "nothing"
    named: frozenset[Leaf] = frozenset()  # leaves that bob was told of, each as what it is
    time: int = START
    kept: int = -1  # the branch of a Welcome that was put by
    told: Told = ""
    fetched: Key | None = None
    line: Key | None = None


class Said(NamedTuple):
    """An invitation that was written, in the direct conversation with its inviter."""

    inviter: Key
    branch: int
    time: int


class State(NamedTuple):
    """Everything in one moment of the story."""

    world: World
    heads: tuple[int, ...]  # by conversation: the branch where alice is, and an honest server's log
    convs: tuple[Conv, ...]
    pins: Pins
    said: frozenset[Said] = frozenset()
    now: int = START + DAY
    expired: frozenset[Leaf] = frozenset()  # whose certificate has run out


@dataclass(frozen=True)
class Door:
    """What happened when something was offered: to be judged by the invariants."""

    slot: int
    branch: int  # what was offered; -1: nothing of the kind
    offered: Offered
    verdict: Verdict
    yes: bool  # bob was asked, and said yes
    said: Said | None = None  # the invitation beside it


_AGAINST = ("changed-verified", "refused")
Table = tuple[Row, ...]


def offer(
    state: State,
    slot: int,
    way: Way,
    branch: int = -1,
    said: Said | None = None,
    *,
    by_hand: bool = False,
    table: Table = TABLE,
    loud: bool = True,
    bad: frozenset[Leaf] = SERVERS,
) -> tuple[State, Door]:
    """Let bob's client meet an offer: `branch`, by a way, with or without an invitation.

    `by_hand`: bob typed /repair. `loud`: whether leaves of his own name raise an alarm. `bad`: keys of the server's.
    """
    slot = _concerned(state, slot, branch)
    conv = state.convs[slot]
    if way in ("walk", "public-walk"):
        branch = _until_removed(state.world, conv.at, branch)
    offered = show(state, conv, way, branch, said, by_hand=by_hand)
    verdict = _decide(known(state, conv), offered, state.pins, state.now, table)
    if not loud:
        verdict = replace(verdict, alarm=frozenset())
    yes = verdict.action == "ask" and believes(state, verdict, said, bad)
    door = Door(slot, branch, offered, verdict, yes, said)
    return _apply(state, door), door


def _until_removed(world: World, start: int, end: int) -> int:
    """Where a walk ends: at the commit that removes bob, if there is one."""
    return next((each for each in path(world, start, end) or () if BOB not in world[each].members), end)


def _concerned(state: State, slot: int, branch: int) -> int:
    """The conversation of that group, if bob has one; else the one that was named."""
    groups = [conv.group for conv in state.convs]
    group = state.world[branch].group if branch >= 0 else b""
    return groups.index(group) if group in groups and group else slot


_decide: Callable[..., Verdict] = lru_cache(maxsize=1 << 18)(decide)


def known(state: State, conv: Conv) -> Known:
    """What bob's vault says of a conversation."""
    trusted = None
    if conv.at >= 0:
        branch = state.world[conv.at]
        trusted = Trusted(branch.epoch, branch.members, branch.owners, branch.inviters, conv.time)
    return Known(BOB, conv.standing, conv.group, conv.kind, conv.name, trusted, conv.line, conv.fetched)


def show(state: State, conv: Conv, way: Way, number: int, said: Said | None, *, by_hand: bool) -> Offered:
    """What an offer shows, and what the engine and the rules find wrong with it."""
    if number < 0:
        return Offered(way, conv.group, conv.kind, conv.name, asked_for=by_hand)
    world, branch, expired = state.world, state.world[number], state.expired
    name = branch.name or next((each.account for each in branch.members if each != BOB), "")
    walked = path(world, conv.at, number) if conv.at >= 0 else None
    if way == "checkpoint":
        walked = ()  # it is offered without what leads to it
    elif way == "offer" and conv.standing != "stopped":
        walked = ()
    return Offered(
        way, branch.group, branch.kind, name, branch.epoch, branch.members, branch.owners, branch.author,
        _context(branch), _invitation(state, said), _steps(world, walked, expired), asked_for=by_hand,
        in_date=branch.author not in expired, fault=_fault(world, way, number, walked),
    )  # fmt: skip


def _context(branch: Branch) -> bytes:
    """The hash of the context: what it covers is the same for whoever signs a GroupInfo of it."""
    return repr(branch._replace(author=BOB, secret=True, readable=True)).encode()


def _invitation(state: State, said: Said | None) -> Invitation | None:
    if said is None:
        return None
    to = state.world[said.branch]
    end = said.time + 14 * DAY
    return Invitation(said.inviter, to.group, to.kind, to.name, to.owners, _context(to), said.time, end)


def _steps(
    world: World, walked: tuple[int, ...] | None, expired: frozenset[Leaf]
) -> tuple[Step, ...] | None:
    if walked is None:
        return None
    steps = [world[each] for each in walked]
    return tuple(
        Step(each.author, each.change, each.author not in expired, back_after_leaving(world, each)) for each in steps
    )


def _fault(world: World, way: Way, number: int, walked: tuple[int, ...] | None) -> str:
    if not sound(world[number]):
        return "an account is in it twice"
    if way == "welcome":
        return "" if lets_in(world[number], BOB) else "it is for none of our key packages"
    for each in walked or ():
        step = world[each]
        if not allowed(world, step):
            return "the rules do not allow a commit"
        if way in ("commit", "walk") and not step.secret:
            return "a membership tag is wrong"
        if way in ("commit", "walk") and not step.readable:
            return "a commit cannot be processed"
    return ""


def believes(state: State, verdict: Verdict, said: Said | None, bad: frozenset[Leaf]) -> bool:
    """Bob's answer: the truth about what the question says of a key that he knows, and a naive yes at first contact."""
    if verdict.told in ("first-contact", "request"):
        return True
    if verdict.told == "key-change":
        return verdict.whose not in {leaf.key for leaf in SERVERS}
    return said in state.said or (verdict.whose in {leaf.key for leaf in bad})


def _apply(state: State, door: Door) -> State:
    verdict, conv = door.verdict, state.convs[door.slot]
    named = conv.named | verdict.came
    waits: Waits = "nothing" if verdict.waits in ("held", "fresh-path", "until-in") else verdict.waits
    entered = conv._replace(
        group=door.offered.group, standing="live", at=door.branch, named=named, waits=waits, time=state.now, kept=-1,
        told=verdict.told, line=None, name=conv.name or door.offered.name,
    )  # fmt: skip
    match verdict.action:
        case "follow" if BOB not in door.offered.members:
            return put(state, door.slot, conv._replace(standing="left", told=verdict.told))
        case "follow":
            return put(state, door.slot, entered)
        case "resync":
            return _resync(state, door, entered)
        case "ask" | "enter" if verdict.action == "enter" or door.yes:
            entered = entered._replace(root=door.branch, waits="nothing", named=door.offered.members)
            if verdict.whose is not None and door.yes:  # writing to somebody, and yes to them, accepts their key
                state = state._replace(pins=state.pins.accept(verdict.whose))
            return put(state, door.slot, entered)
        case "beside":
            beside = entered._replace(root=door.branch, named=door.offered.members, name=door.offered.name)
            return state._replace(convs=(*state.convs, beside), heads=(*state.heads, door.branch))
        case "keep" | "ignore" if door.offered.way == "welcome":
            return put(state, door.slot, conv._replace(kept=door.branch))
        case "withdraw":
            return put(state, door.slot, conv._replace(standing="nothing", kept=-1, told=verdict.told))
        case "hand-back":
            return put(state, door.slot, conv._replace(standing="live", told=verdict.told))
        case "refuse" if door.offered.way == "claim" and conv.standing == "opening":  # our own opening has failed
            return put(state, door.slot, Conv(conv.kind, conv.name))
        case "refuse" if door.offered.way in ("commit", "walk") and door.offered.fault:
            return put(state, door.slot, conv._replace(standing="stopped"))
        case "refuse" if verdict.why == OURS.words and door.offered.way == "public-walk":
            return put(state, door.slot, conv._replace(standing="left", told=verdict.told))
        case "refuse" if verdict.why == FOLLOWS.words and door.offered.asked_for:
            return put(state, door.slot, conv._replace(standing="lost"))
        case "refuse" if verdict.told != "refused":
            return put(state, door.slot, conv._replace(told=verdict.told))
    return state


def _resync(state: State, door: Door, entered: Conv) -> State:
    """Bob's own external commit on what was offered. If that is where alice is, she follows it."""
    made = len(state.world)
    branch = after(state.world, door.branch, BOB, "re-enter", BOB)
    heads = tuple(made if head == door.branch else head for head in state.heads)
    return put(state._replace(world=(*state.world, branch), heads=heads), door.slot, entered._replace(at=made))


def held(state: State, conv: Conv) -> bool:
    """Whether pins alone hold what is said: in a direct conversation every key that was not accepted does."""
    holding = ("unknown", "changed", "changed-verified", "refused") if conv.kind == "direct" else _AGAINST
    others = state.world[conv.at].members - {BOB}
    return conv.kind != "open" and any(state.pins.standing(*leaf.key) in holding for leaf in others)


def put(state: State, slot: int, conv: Conv) -> State:
    """The state with another view of one conversation."""
    return state._replace(convs=(*state.convs[:slot], conv, *state.convs[slot + 1 :]))


def branch_of(state: State, conv: Conv) -> Branch:
    """The epoch that a conversation is in."""
    return state.world[conv.at]
