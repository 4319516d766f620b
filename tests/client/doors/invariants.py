"""What must hold after every move, and the twin: people of good will get together again."""

from collections.abc import Callable, Iterator
from typing import Final

from securechat.client.doors.facts import Standing, Way
from tests.client.doors.moves import Scenario, extend, invite
from tests.client.doors.person import Conv, Door, Said, State, Table, held, offer, put
from tests.client.doors.world import ALICE, BOB, DAY, FALSE_BOB, authorised, founded, lets_in, letter, path

MEMBER: Final[frozenset[Standing]] = frozenset(
    ("live", "away", "gone", "lost", "old-copy", "old-copy-commit", "stopped", "forked", "ahead")
)
CLAIMS: Final = frozenset(("invitation", "you-left", "invited-back", "second-title"))
"""Questions that say of a key which the user knows that it invites them."""


def _sending(state: State) -> Iterator[Conv]:
    """The conversations in which what bob says leaves at once."""
    for conv in state.convs:
        if conv.standing == "live" and conv.waits == "nothing" and not held(state, conv):
            yield conv


def i1(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """Whoever reads what bob sends was let in along a branch that starts at a state he trusted."""
    honest = {leaf.key for leaf in (ALICE, BOB)} - {leaf.key for leaf in scenario.bad}
    if door is not None and door.branch >= 0 and (door.yes or door.verdict.action in ("enter", "beside")):
        made, whose = now.world[door.branch], door.verdict.whose
        if whose in honest and made.author.key != whose and made.kind != "open":
            return f"bob enters on {whose.account}'s word what somebody else made"
        accepted = before.pins.accepted | before.pins.verified
        if door.verdict.action == "enter" and made.kind != "open" and whose not in accepted:
            return "bob enters on the word of a key that he never accepted"
    for conv in _sending(now):
        if conv.kind != "direct" and now.world[conv.at].name != conv.name:
            return f"what bob says in {conv.name} is read in {now.world[conv.at].name}"
        if conv.kind != "open" and not authorised(now.world, conv.root, conv.at):
            return f"nobody with that right led bob to where he is in {conv.name}"
        for member in now.world[conv.at].members if conv.kind == "direct" else ():
            if now.pins.standing(member.account, member.identity) in ("changed", "changed-verified", "refused"):
                return f"bob's line is read by a key of {member.account} that he did not accept"
    return ""


def i2(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """No conversation is left, replaced, moved or revived without a yes."""
    del scenario
    if door is None:
        return ""
    for old, new in zip(before.convs, now.convs, strict=False):
        back = new.standing == "live" and new.at != old.at and path(now.world, new.at, old.at) is not None
        if back and door.verdict.action != "hand-back" and old.group == new.group:
            return f"{old.name} goes back to an epoch whose keys are used"
        if door.yes:
            continue
        if old.kind == "open":
            continue  # bob walked in by himself; where he goes on is told
        elsewhere = old.standing in MEMBER and new.standing == "live" and path(now.world, old.at, new.at) is None
        if elsewhere and door.verdict.told != "checkpoint":
            return f"{old.name} was given up for something else without a question"
        if old.standing == "left" and new.standing == "live":
            return f"{old.name} came back without a question"
    return ""


def i3(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """Every leaf that reads was named to bob, as what it is, before the line leaves."""
    del before, scenario
    if door is not None and door.verdict.lets_in and FALSE_BOB in door.offered.members - door.verdict.alarm:
        return "another key has come under bob's own name, and he was not alarmed"
    for conv in _sending(now):
        for silent in sorted(now.world[conv.at].members - {BOB} - conv.named):
            return f"{silent.account} ({silent.identity.decode()}) reads {conv.name} and was never named"
    return ""


def i4(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """What a question says of a key that bob knows is true."""
    if door is not None and door.offered.way == "removal" and now.convs[door.slot].standing == "invited":
        return "bob is still asked whether he comes to a room, and the invitation was withdrawn"
    if door is None or door.verdict.action != "ask" or door.verdict.told not in CLAIMS:
        return ""
    whose, old = door.verdict.whose, before.convs[door.slot]
    if door.verdict.told == "invited-back" and whose not in before.world[old.at].owners:
        return "bob is asked whether somebody lets him into a room that he knows, who never owned it"
    if whose is None or whose in {leaf.key for leaf in scenario.bad}:
        return ""
    if not any((said.inviter, said.branch) == (whose, door.branch) for said in before.said):
        return f"bob is asked whether {whose.account} shall let him in, who never wanted to"
    return ""


def i5(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """What is said in one conversation changes no other, and no pin."""
    del scenario
    if door is None:
        return ""
    pairs = enumerate(zip(before.convs, now.convs, strict=False))
    stays = all(old == new for slot, (old, new) in pairs if slot != door.slot) and (door.yes or before.pins == now.pins)
    return "" if stays else "what was said in one conversation reached another"


INVARIANTS: Final[tuple[Callable[[State, Door | None, State, Scenario], str], ...]] = (i1, i2, i3, i4, i5)


def violation(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """The first invariant that a move breaks, and how; empty if none."""
    for invariant in INVARIANTS:
        if problem := invariant(before, door, now, scenario):
            return f"{invariant.__name__.upper()}: {problem}"
    return ""


# --- the twin: with an honest server and honest people from now on, all read each other ----------------------------

MAX_MOVES: Final = 10


def unfair(state: State, table: Table, questions: int) -> str:
    """What keeps bob apart from alice although everybody is honest from now on; empty if nothing does."""
    for slot in range(len(state.heads)):
        if state.heads[slot] >= 0 and (problem := _apart(state, slot, table, questions)):
            return f"TWIN: {problem}"
    return ""


def _apart(state: State, slot: int, table: Table, questions: int) -> str:
    asked = 0
    overtaken = -1  # a Welcome that came before the log, and was not put by: it comes but once
    if state.convs[slot].kind != "direct" and state.pins.standing(*ALICE.key) != "unknown":  # he met the real alice
        state = state._replace(pins=state.pins.compare(ALICE.key))
    for _ in range(MAX_MOVES):
        here = _where(state, slot)
        conv, head = state.convs[here], state.heads[slot]
        if conv.standing == "live" and conv.waits == "nothing" and conv.at == head:
            return "" if asked <= questions else f"{conv.name}: {asked} questions"
        if conv.standing == "live" and conv.waits != "nothing":  # bob decides, by what is true
            asked += conv.waits == "everything"
            pins = state.pins.compare(ALICE.key) if conv.waits == "everything" else state.pins
            state = put(state, here, conv._replace(waits="nothing"))._replace(pins=pins)
            continue
        if conv.standing == "live" and _overtakes(state, conv, head) and conv.kept != head != overtaken:
            state = offer(state, here, "welcome", head, table=table)[0]
            overtaken = -1 if state.convs[here].kept == head else head
            continue
        if conv.standing == "left" and overtaken == head and lets_in(state.world[head], BOB):
            return f"the Welcome back to {conv.name} came too early and was thrown away"
        for new, door in _honest(state, slot, table):
            asked += door.verdict.action == "ask"
            if door.verdict.action == "hand-back":  # the server, and with it alice, takes the handshakes
                heads = (*state.heads[:slot], new.convs[here].at, *state.heads[slot + 1 :])
                new = new._replace(heads=heads)
            if new != state:
                state = new
                break
        else:
            return f"nothing leads bob from {conv.standing} back to alice in {conv.name or 'a conversation'}"
    return f"bob and alice never meet in {state.convs[slot].name}"


def _overtakes(state: State, conv: Conv, head: int) -> bool:
    """Whether bob was removed and let in again, so that the Welcome may be here before the log that says so."""
    walked = path(state.world, conv.at, head) or ()
    return lets_in(state.world[head], BOB) and any(BOB not in state.world[each].members for each in walked)


def _said(state: State, branch: int) -> Said | None:
    """Alice's invitation to a branch, while it lasts."""
    return next((said for said in state.said if said.branch == branch and state.now <= said.time + 14 * DAY), None)


def _where(state: State, slot: int) -> int:
    """The conversation in which alice is, if bob has it; else the one that the story is about."""
    groups = [conv.group for conv in state.convs]
    group = state.world[state.heads[slot]].group
    return groups.index(group) if group in groups else slot


def _honest(state: State, slot: int, table: Table) -> Iterator[tuple[State, Door]]:
    """What an honest server does next, and alice if bob asks her to: tried in this order."""
    here, head = _where(state, slot), state.heads[slot]
    conv, welcome = state.convs[here], letter(state.world, head, BOB)

    def try_(
        way: Way, branch: int = head, said: Said | None = None, at: State = state, *, by_hand: bool = False
    ) -> tuple[State, Door]:
        return offer(at, here, way, branch, said, by_hand=by_hand, table=table)

    walked = path(state.world, conv.at, head) if conv.at >= 0 else None
    if conv.kind == "open" and conv.standing not in ("live", "away", "old-copy", "ahead"):
        yield try_("offer")
    match conv.standing:
        case "live" if walked:
            yield try_("commit", walked[0])
        case "live" if path(state.world, head, conv.at):  # the server was restored
            yield try_("head", -1, at=put(state, here, conv._replace(standing="ahead")))
        case "live" | "away" | "old-copy" | "old-copy-commit" if walked is None:
            yield try_("walk", at=put(state, here, conv._replace(standing="forked")), by_hand=True)
        case "away" | "old-copy":
            yield try_("walk")
        case "old-copy-commit":
            yield try_("public-walk")
        case "stopped" | "forked":
            yield try_("public-walk" if conv.standing == "stopped" else "walk", by_hand=True)
        case "ahead":
            yield try_("head", -1)
        case "gone" if conv.at == head:  # nothing is missing: nobody has committed meanwhile
            yield try_("walk", at=put(state, here, conv._replace(standing="away")))
        case "gone":
            yield try_("checkpoint")
        case "opening":
            yield try_("claim")
    if conv.standing in ("gone", "lost") and conv.told != "ask-for-invitation":
        yield try_("none", -1)
    if conv.kind == "invite" and (conv.standing in ("nothing", "invited", "left") or conv.told == "ask-for-invitation"):
        comes = BOB in state.world[head].members and 0 <= conv.kept == welcome and _said(state, welcome) is not None
        invited = state if comes else invite(state, slot)
        welcome = letter(invited.world, invited.heads[slot], BOB)
        kept, _ = try_("welcome", welcome, at=invited)  # the Welcome is there before the invitation
        if kept.convs[here].kept == welcome:
            yield try_("welcome", welcome, _said(invited, welcome), at=kept)
    if conv.kind == "direct" and conv.group != state.world[head].group:
        yield try_("welcome", welcome)
    elif conv.kind == "direct" and conv.standing in ("nothing", "opening", "left", "lost"):
        anew = extend(state, slot, founded(b"D%d" % len(state.world), "direct", "", ALICE, BOB))
        yield try_("welcome", anew.heads[slot], at=anew)
