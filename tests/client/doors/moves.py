"""What everybody can do: the server and whoever helps it, people of good will, and the surroundings of bob's vault."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from securechat.client.doors.facts import Key, Leaf, Standing, Way
from tests.client.doors.person import Conv, Door, Said, State, Statement, Table, offer, put
from tests.client.doors.world import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DAY,
    FALSE_ALICE,
    FALSE_BOB,
    MALLORY,
    NEW_ALICE,
    SERVERS,
    START,
    Branch,
    after,
    allowed,
    back_after_leaving,
    changed,
    founded,
    lets_in,
    lost,
    path,
    revoked,
    seq_of,
    with_,
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
    stolen: frozenset[Leaf] = frozenset()  # members whose first signature key it has, and nothing else
    vaults: frozenset[Leaf] = frozenset()  # members of whose vault it has a copy from when the story began
    passwords: frozenset[Leaf] = frozenset()  # the same with the password, hence with the identity key
    heals: frozenset[Leaf] = frozenset()  # members who rotate and revoke in the story
    succeeds: bool = False  # alice names a successor
    unforgiven: frozenset[Leaf] = (
        frozenset()
    )  # of these, who gets in where bob goes on without secrets breaks an invariant, too
    questions: int = 1  # an honest server and honest people from the start on: so many, at most, until all read

    @property
    def robbed(self) -> frozenset[Leaf]:
        """Whose keys a thief has."""
        return self.stolen | self.vaults | self.passwords

    @property
    def bad(self) -> frozenset[Leaf]:
        """Whoever reads for the server."""
        return SERVERS | self.corrupt


Move = tuple[str, State, Door | Branch | None]
"""What happens, what it leads to, and the door that somebody came to or the branch that the server forged."""

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
    "recovered": ("checkpoint", "offer", "welcome", "none"),
    "ahead": ("head", "welcome"),
}
"""By which ways the server may offer any branch. The table has to refuse what does not belong."""

_BY_HAND: Final = frozenset[Standing](("stopped", "forked"))


def moves(state: State, scenario: Scenario, table: Table) -> Iterator[Move]:
    """Every move, with the state that it leads to."""
    yield from making(state, scenario)
    yield from acts(state, scenario, table)


def making(state: State, scenario: Scenario, forged: Branch | None = None) -> Iterator[Move]:
    """Branches that somebody makes, of which bob knows nothing yet.

    `forged`: what the server made in the move before; then only what is based on that.
    """
    if sum(branch.author != BOB for branch in state.world) < MAX_BRANCHES:
        for label, base, branch in _forged(state, scenario):
            if branch not in state.world and forged in (None, base):
                yield label, state._replace(world=with_(state.world, branch)), branch
        if forged is None:
            yield from _people(state, scenario)


def acts(
    state: State, scenario: Scenario, table: Table, forged: Branch | None = None, *, welcomes: bool = False
) -> Iterator[Move]:
    """What happens at bob's: offers (if something was forged in the move before: of that), and what he does himself.

    `welcomes`: Welcomes alone, which are judged by what he thinks of keys.
    """
    for slot, conv in enumerate(state.convs):
        yield from _offers(state, scenario, slot, conv, table, forged, welcomes=welcomes)
        if forged is None and not welcomes:
            yield from _surroundings(state, slot, conv)
            if BOB in scenario.heals and conv.standing == "live":
                yield f"bob rotates in {conv.name}", rotate(state, slot), None
    if forged is None and not welcomes:
        yield from _decisions(state)
        for said in sorted(state.statements):
            yield f"bob reads that {_name(said.old)} {said.action}s {_name(said.new)}", hear(state, said, table), None


def _forged(state: State, scenario: Scenario) -> Iterator[tuple[str, Branch | None, Branch]]:
    """Branches that the server makes, alone or with the keys of others: what each is based on, and the branch."""
    for conv, head in zip(state.convs, state.heads, strict=True):
        if head is None:
            continue
        if conv.kind == "direct":
            yield "the server opens a conversation as alice", None, founded(b"D'", "direct", "", FALSE_ALICE, BOB)
            for who in sorted(scenario.robbed - {BOB}):
                opened = changed(founded(b"D*", "direct", "", who, BOB), thief=frozenset((who,)))
                yield f"a thief opens a conversation as {_key(who)}", None, opened
            continue
        for real in path(None, head) or ():
            for author in (MALLORY, FALSE_ALICE, *sorted((scenario.corrupt | scenario.robbed - {BOB}) & real.members)):
                yield f"the server copies {real}, signed by {_key(author)}", None, _copy(real, author, scenario.robbed)
        if head.kind == "open":
            yield "the server founds #spam", None, founded(b"X", "open", "#spam", MALLORY, BOB)
        another = founded(b"R'", head.kind, head.name, FALSE_ALICE, BOB, MALLORY)
        yield f"the server founds another {head.name}", None, another
    for branch in state.world:
        if branch.parent is not None and branch.readable:
            yield f"the server flips a tag of {branch}", branch, changed(branch, readable=False)
        for who in (MALLORY, FALSE_BOB):
            if branch.kind == "open" and who not in branch.members:
                yield f"{_key(who)} enters {branch}", branch, after(branch, who, "enter", who)
        yield from _thief(branch, scenario)
        for author in sorted((scenario.corrupt | scenario.stolen) & branch.members):
            secret, name = author in scenario.corrupt, _key(author)
            if not secret and seq_of(branch, author) > 1:
                continue  # the leaf there has another signature key than the one that was stolen
            how = "" if secret else " without secrets"
            yield f"{name} commits{how} on {branch}", branch, after(branch, author, "path", secret=secret)
            if author in scenario.stolen and lets_in(branch, BOB):
                welcome = changed(branch, author=author, secret=False)
                yield f"{name} signs another Welcome to {branch}", branch, welcome
            for who in (MALLORY, FALSE_BOB):
                if who not in branch.members and branch.kind == "invite":
                    added = after(branch, author, "add", who, secret=secret)
                    yield f"{name} adds {_key(who)}{how} on {branch}", branch, added


def _thief(branch: Branch, scenario: Scenario) -> Iterator[tuple[str, Branch | None, Branch]]:
    """What a thief does with a program of their own: re-enters, and goes on with what secrets there are."""
    if branch.change == "revoke":
        return
    for who in sorted(scenario.robbed & branch.members):
        name, seq = _key(who), seq_of(branch, who)
        if who in scenario.passwords:
            later = after(branch, who, "re-enter", who, seq=seq + 2, stolen=True)
            yield f"a thief certifies a key as {name} and re-enters {branch}", branch, later
        else:
            again = after(branch, who, "re-enter", who, seq=1, stolen=True)
            yield f"a thief re-enters {branch} as {name}", branch, again
        if who in branch.thief:
            yield f"a thief commits as {name} on {branch}", branch, after(branch, who, "path", stolen=True)


def _copy(real: Branch, author: Leaf, robbed: frozenset[Leaf]) -> Branch:
    """A group of somebody's own with the same leaves, and bob."""
    return changed(
        real, epoch=real.epoch + 3, parent=None, author=author, change="add", who=frozenset((BOB,)), readable=True,
        members=frozenset(each for each in real.members if each.account != author.account) | {author, BOB},
        revoked=frozenset(), thief=frozenset((author,)) & robbed,
        seqs=frozenset(each for each in real.seqs if each[0] != author),
    )  # fmt: skip


def _people(state: State, scenario: Scenario) -> Iterator[Move]:
    """What the owner does in good faith, in the branch where she is, and others there whose keys a thief may have."""
    for slot, (conv, head) in enumerate(zip(state.convs, state.heads, strict=True)):
        if head is None or ALICE not in head.members:
            continue
        if conv.kind == "direct":
            yield from _successors(state, scenario, slot)
        if ALICE not in head.revoked and not lost(head, ALICE):
            yield "alice commits", extend(state, slot, after(head, ALICE, "path")), None
        for who in sorted(scenario.corrupt & head.members):
            if who.key in head.inviters and MALLORY not in head.members:
                added = after(head, who, "add", MALLORY)
                yield f"{_key(who)} adds M, and the server takes it", extend(state, slot, added), None
        for label, _, branch in _thief(head, scenario):
            late = branch.author in state.certs.expired and seq_of(branch, branch.author) == 1
            if allowed(branch) and not back_after_leaving(branch) and not late:
                yield f"{label}, and the server takes it", extend(state, slot, branch), None
        for who in sorted(scenario.heals & head.members - {BOB}):
            name, seq = _key(who), seq_of(head, who)
            if who in head.revoked:
                back = after(head, who, "re-enter", who, seq=seq + 2)
                yield f"{name} comes back with another device", extend(state, slot, back), None
                continue
            again = lost(head, who)
            rotated = after(head, who, "re-enter" if again else "path", *(who,) * again, seq=seq + 1)
            yield f"{name} rotates", extend(state, slot, rotated), None
            yield f"{name} is revoked", extend(state, slot, revoked(head, who)), None
        if conv.kind == "invite":
            if CAROL in head.members:
                yield "alice removes carol", extend(state, slot, after(head, ALICE, "remove", CAROL)), None
            yield "alice invites bob", invite(state, slot), None
            if BOB in head.members:
                yield "alice removes bob", extend(state, slot, after(head, ALICE, "remove", BOB)), None


def _successors(state: State, scenario: Scenario, slot: int) -> Iterator[Move]:
    """What alice's identity key says of others, by her hand or a thief's. Under the new one she opens another chat."""
    said = Statement("succeed", ALICE.key, NEW_ALICE.key)
    anew = founded(b"DN", "direct", "", NEW_ALICE, BOB)
    if scenario.succeeds and anew not in state.world:
        yield "alice names a successor", extend(state, slot, anew)._replace(statements=state.statements | {said}), None
    forged = Statement("succeed", ALICE.key, FALSE_ALICE.key)
    if ALICE in scenario.passwords and forged not in state.statements | state.read:
        yield "a thief names a successor of A", state._replace(statements=state.statements | {forged}), None
    forked = Statement("fork", ALICE.key, ALICE.key)
    if ALICE in scenario.passwords and forked not in state.statements | state.read:
        yield "a thief signs where A has signed", state._replace(statements=state.statements | {forked}), None
    contest = forged._replace(action="contest")
    if forged in state.statements | state.read and contest not in state.statements | state.read:
        yield "alice contests", state._replace(statements=state.statements | {contest}), None


def hear(state: State, said: Statement, table: Table) -> State:
    """Bob reads a statement: each once, and of what is contested nothing else."""
    if said.action == "fork":
        doubted = state.doubted if table.without == "doubting" else state.doubted | {said.old}
        heard = state._replace(statements=state.statements - {said}, read=state.read | {said})
        return heard._replace(split=state.split | {said.old}, doubted=doubted)
    read = {said, said._replace(action="succeed")}
    state = state._replace(statements=state.statements - read, read=state.read | read)
    if said.action == "contest":
        pins = state.pins if table.without == "contesting" else state.pins.contest(said.old, said.new)
        return state._replace(pins=pins, denied=state.denied | {said.new})
    if table.without == "succession":
        return state
    pins = state.pins.succeed(said.old, said.new)
    return state._replace(pins=pins.go_on(said.new) if table.without == "comparing again" else pins)


def read(state: State, slot: int, branch: Branch) -> State:
    """Bob reads in the log that somebody has revoked a certificate of theirs."""
    return put(state._replace(certs=state.certs.see(branch)), slot, state.convs[slot]._replace(at=branch))


def rotate(state: State, slot: int) -> State:
    """Bob commits a leaf with a new certificate."""
    conv, certs = state.convs[slot], state.certs._replace(own=state.certs.own + 1)
    assert conv.at is not None
    made = after(conv.at, BOB, "path", seq=certs.own)
    if not allowed(made):
        return state
    if state.heads[slot] is conv.at:
        state = extend(state, slot, made)
    state = state._replace(world=with_(state.world, made), certs=certs)
    return put(state, slot, conv._replace(at=made))


def extend(state: State, slot: int, branch: Branch) -> State:
    """An honest commit: where alice is, and an honest server's log, go on."""
    heads = (*state.heads[:slot], branch, *state.heads[slot + 1 :])
    return state._replace(world=with_(state.world, branch), heads=heads)


def invite(state: State, slot: int) -> State:
    """Alice puts bob in, in place of a leaf that he has already, and says so in their direct conversation."""
    head = state.heads[slot]
    assert head is not None
    if BOB in head.members:
        head = after(head, ALICE, "remove", BOB)
        state = extend(state, slot, head)
    head = after(head, ALICE, "add", BOB)
    return extend(state, slot, head)._replace(said=state.said | {Said(ALICE.key, head, state.now)})


def _offers(
    state: State, scenario: Scenario, slot: int, conv: Conv, table: Table, forged: Branch | None, *, welcomes: bool
) -> Iterator[Move]:
    nothing: tuple[Branch | None, ...] = (None,) if forged is None else ()
    for way in ("welcome",) if welcomes else WAYS.get(conv.standing, ()):
        for branch in nothing if way in ("none", "head") else state.world if forged is None else (forged,):
            if branch is not None and not _related(conv, branch, way):
                continue
            for said in _invitations(state, scenario, way, branch):
                for by_hand in (False, True) if conv.standing in _BY_HAND and "walk" in way else (False,):
                    new, door = offer(state, slot, way, branch, said, by_hand=by_hand, table=table, bad=scenario.bad)
                    if new != state or door.verdict.action == "ask" or way == "removal":
                        by = f", invited by {said.inviter.identity.decode()}" if said is not None else ""
                        by += " after /repair" if by_hand else ""
                        what = f": {branch}" if branch is not None else ""
                        yield f"{way} of {conv.name}{what}{by} -> {door.verdict.row or 'refused'}", new, door


@cache
def _related(conv: Conv, branch: Branch, way: Way) -> bool:
    """Whether an offer can be taken for one that concerns the conversation at all."""
    if branch.kind != conv.kind or (way == "commit" and branch.change == "revoke"):
        return False
    if way == "commit":
        return branch.parent is conv.at
    if way == "removal":
        return branch.group == conv.group and BOB not in branch.members
    if way == "offer" and branch.kind == "open":
        return True
    if way in ("welcome", "offer", "claim"):
        return branch.group == conv.group or not conv.group or branch.name == conv.name or branch.kind == "direct"
    return branch.group == conv.group and branch is not conv.at


def _invitations(state: State, scenario: Scenario, way: Way, branch: Branch | None) -> Iterator[Said | None]:
    """Which invitations can stand beside a Welcome: none, an honest one, or one by a key that the server has."""
    yield None
    if way == "welcome" and branch is not None and branch.kind == "invite":
        yield from sorted(state.said, key=lambda said: (said.branch.label, said.time))
        writing = scenario.bad - {FALSE_BOB} | (scenario.vaults | scenario.passwords) - {BOB}
        said = {branch, *(head for head in state.heads if head is not None and head.kind == "invite")}
        for to in sorted(said, key=lambda each: each.label):
            yield from (Said(each.key, to, state.now) for each in sorted(writing))


def _decisions(state: State) -> Iterator[Move]:
    """What bob decides on keys and on lines that wait."""
    pins = state.pins
    if state.said and state.now < START + LONG:
        yield "200 days pass", state._replace(now=state.now + LONG), None
    if ALICE.key not in pins.verified:
        yield "bob compares with alice", state._replace(pins=pins.compare(ALICE.key)), None
    if NEW_ALICE.key in pins.succeeded:  # of another one he would hear from alice that it is none
        yield "bob goes on with the successor", state._replace(pins=pins.go_on(NEW_ALICE.key)), None
    for key in sorted(state.split):
        gone_on = state._replace(split=state.split - {key}, doubted=state.doubted - {key})
        yield f"bob goes on with {_name(key)}, which two hold", gone_on, None
    met = frozenset(leaf for conv in state.convs if conv.at is not None for leaf in conv.at.members - {BOB})
    for who in sorted(met | {leaf for leaf in (ALICE, FALSE_ALICE) if pins.standing(*leaf.key) != "unknown"}):
        if who.key not in pins.refused and who != DAVE:  # one ordinary member is like another
            yield f"bob distrusts {_key(who)}", state._replace(pins=pins.refuse(who.key)), None
    for slot, conv in enumerate(state.convs):
        if conv.standing == "live" and conv.waits == "enter" and conv.at is not None:
            shown = conv._replace(waits="nothing", named=conv.named | conv.at.members)
            yield f"bob lets go what waits in {conv.name}", put(state, slot, shown), None


def _surroundings(state: State, slot: int, conv: Conv) -> Iterator[Move]:
    """What happens to bob's vault and to the server, and what bob does by himself."""
    if conv.standing == "live":
        yield f"the server keeps {conv.name} back", put(state, slot, conv._replace(standing="away")), None
        yield f"bob leaves {conv.name}", put(state, slot, conv._replace(standing="left")), None
        assert conv.at is not None
        parent, own = conv.at.parent, conv.at.author == BOB
        outside = own and conv.at.change == "re-enter"  # he was never in the state that he made it on
        if parent is not None and conv.at is not conv.root and not outside:
            yesterday = conv._replace(standing="old-copy-commit" if own else "old-copy", at=parent)
            yield f"bob starts a vault of yesterday ({conv.name})", put(state, slot, yesterday), None
        head = state.heads[slot]
        if path(conv.at, head) is None and path(head, conv.at) is None:
            forked = put(state, slot, conv._replace(standing="forked"))
            yield f"a message in {conv.name} shows another history", forked, None
        for branch in state.world:
            if branch.change == "revoke" and branch.parent is conv.at:
                yield f"bob reads {branch}", read(state, slot, branch), None
    if conv.standing in ("live", "away") and state.now < START + LONG:
        gone = put(state, slot, conv._replace(standing="gone"))
        yield f"bob is away from {conv.name} for 200 days", gone._replace(now=state.now + LONG), None


def _name(key: Key) -> str:
    return key.identity.decode()


def _key(leaf: Leaf) -> str:
    return leaf.identity.decode()
