"""What everybody can do: the server and whoever helps it, people of good will, and the surroundings of bob's vault."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from securechat.client.doors.facts import Leaf, Standing, Way
from tests.client.doors.person import Conv, Door, Said, State, Table, offer, put
from tests.client.doors.world import (
    ALICE,
    BOB,
    CAROL,
    DAY,
    FALSE_ALICE,
    FALSE_BOB,
    MALLORY,
    SERVERS,
    START,
    Branch,
    after,
    founded,
    lets_in,
    path,
)

MAX_BRANCHES: Final = 5
"""Branches of all groups together, beyond which nobody makes another one but bob himself."""

LONG: Final = 200 * DAY
"""How long bob is away at most, in seconds: longer than any handshake is kept."""


@dataclass(frozen=True)
class Scenario:
    """Where a story begins, and who helps the server in it."""

    name: str
    start: State
    corrupt: frozenset[Leaf] = frozenset()  # members who help the server: it has their keys and secrets
    stolen: frozenset[Leaf] = frozenset()  # members whose signature key it has, and nothing else
    questions: int = 1  # an honest server and honest people from the start on: so many, at most, until all read

    @property
    def bad(self) -> frozenset[Leaf]:
        """Whoever reads for the server."""
        return SERVERS | self.corrupt


Move = tuple[str, State, Door | None]

WAYS: Final[dict[Standing, tuple[Way, ...]]] = {
    "nothing": ("welcome", "offer"),
    "invited": ("welcome", "removal"),
    "opening": ("welcome", "claim"),
    "live": ("commit", "welcome", "offer", "claim"),
    "away": ("walk", "welcome", "offer"),
    "gone": ("checkpoint", "welcome", "offer", "none"),
    "lost": ("welcome", "offer", "none"),
    "old-copy": ("walk", "welcome"),
    "old-copy-commit": ("public-walk", "welcome"),
    "stopped": ("public-walk", "offer", "welcome"),
    "forked": ("walk", "welcome"),
    "left": ("welcome", "offer"),
    "ahead": ("head", "welcome"),
}
"""By which ways the server may offer any branch. The table has to refuse what does not belong."""

_BY_HAND: Final = frozenset[Standing](("stopped", "forked"))


def moves(state: State, scenario: Scenario, table: Table, *, loud: bool) -> Iterator[Move]:
    """Every move, with the state that it leads to."""
    if len(state.world) < MAX_BRANCHES:
        for label, branch in _forged(state, scenario):
            if branch not in state.world:
                yield label, state._replace(world=(*state.world, branch)), None
        yield from _alice(state)
    if ALICE.key not in state.pins.verified:
        yield "bob compares with alice", state._replace(pins=state.pins.compare(ALICE.key)), None
    for slot, conv in enumerate(state.convs):
        yield from _offers(state, scenario, slot, conv, table, loud=loud)
        yield from _surroundings(state, slot, conv)


def _forged(state: State, scenario: Scenario) -> Iterator[tuple[str, Branch]]:
    """Branches that the server makes, alone or with the keys of others."""
    for conv, head in zip(state.convs, state.heads, strict=True):
        if head < 0:
            continue
        real = state.world[head]
        if conv.kind == "direct":
            yield "the server opens a conversation as alice", founded(b"D'", "direct", "", FALSE_ALICE, BOB)
            continue
        for author in (MALLORY, FALSE_ALICE, *(scenario.corrupt & real.members)):
            copy = real._replace(
                epoch=real.epoch + 3, parent=-1, author=author, change="add", who=frozenset((BOB,)), readable=True,
                members=frozenset(each for each in real.members if each.account != author.account) | {author, BOB},
            )  # fmt: skip
            yield f"the server copies {real.name}, signed by {_key(author)}", copy
        if real.kind == "open":
            yield "the server founds #spam", founded(b"X", "open", "#spam", MALLORY, BOB)
        yield f"the server founds another {real.name}", founded(b"R'", real.kind, real.name, FALSE_ALICE, BOB, MALLORY)
    for number, branch in enumerate(state.world):
        if branch.parent >= 0 and branch.readable:
            yield f"the server flips a tag of branch {number}", branch._replace(readable=False)
        for who in (MALLORY, FALSE_BOB):
            if branch.kind == "open" and who not in branch.members:
                yield f"{_key(who)} enters branch {number}", after(state.world, number, who, "enter", who)
        for author in (scenario.corrupt | scenario.stolen) & branch.members:
            secret, name = author in scenario.corrupt, _key(author)
            how = "" if secret else " without secrets"
            yield f"{name} commits{how} on {number}", after(state.world, number, author, "path", secret=secret)
            if author in scenario.stolen and lets_in(branch, BOB):
                forged = branch._replace(author=author, secret=False)
                yield f"{name} signs another Welcome to branch {number}", forged
            for who in (MALLORY, FALSE_BOB):
                if who not in branch.members and branch.kind == "invite":
                    added = after(state.world, number, author, "add", who, secret=secret)
                    yield f"{name} adds {_key(who)}{how} on {number}", added


def _alice(state: State) -> Iterator[Move]:
    """What the owner does in good faith, in the branch where she is."""
    for slot, (conv, head) in enumerate(zip(state.convs, state.heads, strict=True)):
        if head < 0 or ALICE not in state.world[head].members:
            continue
        yield "alice commits", extend(state, slot, after(state.world, head, ALICE, "path")), None
        if conv.kind == "invite":
            if CAROL in state.world[head].members:
                yield "alice removes carol", extend(state, slot, after(state.world, head, ALICE, "remove", CAROL)), None
            yield "alice invites bob", invite(state, slot), None
            if BOB in state.world[head].members:
                yield "alice removes bob", extend(state, slot, after(state.world, head, ALICE, "remove", BOB)), None


def extend(state: State, slot: int, branch: Branch) -> State:
    """An honest commit: where alice is, and an honest server's log, go on."""
    heads = (*state.heads[:slot], len(state.world), *state.heads[slot + 1 :])
    return state._replace(world=(*state.world, branch), heads=heads)


def invite(state: State, slot: int) -> State:
    """Alice puts bob in, in place of a leaf that he has already, and says so in their direct conversation."""
    if BOB in state.world[state.heads[slot]].members:
        state = extend(state, slot, after(state.world, state.heads[slot], ALICE, "remove", BOB))
    state = extend(state, slot, after(state.world, state.heads[slot], ALICE, "add", BOB))
    return state._replace(said=state.said | {Said(ALICE.key, state.heads[slot], state.now)})


def _offers(
    state: State, scenario: Scenario, slot: int, conv: Conv, table: Table, *, loud: bool
) -> Iterator[Move]:
    for way in WAYS.get(conv.standing, ()):
        for branch in range(len(state.world)) if way not in ("none", "head") else (-1,):
            if branch >= 0 and not _related(conv, state.world[branch], way, state, branch):
                continue
            for said in _invitations(state, scenario, way, branch):
                for by_hand in (False, True) if conv.standing in _BY_HAND and "walk" in way else (False,):
                    new, door = offer(
                        state, slot, way, branch, said, by_hand=by_hand, table=table, loud=loud, bad=scenario.bad
                    )
                    if new != state or door.verdict.action == "ask" or way == "removal":
                        by = f", invited by {said.inviter.identity.decode()}" if said is not None else ""
                        by += " after /repair" if by_hand else ""
                        yield f"{way} of {conv.name}: {branch}{by} -> {door.verdict.row or 'refused'}", new, door


def _related(conv: Conv, branch: Branch, way: Way, state: State, number: int) -> bool:
    """Whether an offer can be taken for one that concerns the conversation at all."""
    if branch.kind != conv.kind:
        return False
    if way == "commit":
        return branch.parent == conv.at
    if way == "removal":
        return branch.group == conv.group and BOB not in branch.members
    if way in ("welcome", "offer", "claim"):
        return branch.group == conv.group or not conv.group or branch.name == conv.name or branch.kind == "direct"
    return branch.group == conv.group and path(state.world, conv.at, number) != ()


def _invitations(state: State, scenario: Scenario, way: Way, branch: int) -> Iterator[Said | None]:
    """Which invitations can stand beside a Welcome: none, an honest one, or one by a key that the server has."""
    yield None
    if way == "welcome" and state.world[branch].kind == "invite":
        yield from state.said
        yield from (Said(each.key, branch, state.now) for each in scenario.bad - {FALSE_BOB})


def _surroundings(state: State, slot: int, conv: Conv) -> Iterator[Move]:
    """What happens to bob's vault and to the server, and what bob does by himself."""
    if conv.standing == "live":
        yield f"the server keeps {conv.name} back", put(state, slot, conv._replace(standing="away")), None
        yield f"bob leaves {conv.name}", put(state, slot, conv._replace(standing="left")), None
        parent = state.world[conv.at].parent
        if parent >= 0 and conv.at != conv.root:
            own = state.world[conv.at].author == BOB
            yesterday = conv._replace(standing="old-copy-commit" if own else "old-copy", at=parent)
            yield f"bob starts a vault of yesterday ({conv.name})", put(state, slot, yesterday), None
        head = state.heads[slot]
        if path(state.world, conv.at, head) is None and path(state.world, head, conv.at) is None:
            forked = put(state, slot, conv._replace(standing="forked"))
            yield f"a message in {conv.name} shows another history", forked, None
    if conv.standing in ("live", "away") and state.now < START + LONG:
        gone = put(state, slot, conv._replace(standing="gone"))
        yield f"bob is away from {conv.name} for 200 days", gone._replace(now=state.now + LONG), None


def _key(leaf: Leaf) -> str:
    return leaf.identity.decode()

