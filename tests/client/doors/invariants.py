"""What must hold after every move: five invariants, each of which says how it was broken."""

from collections.abc import Callable, Iterator
from typing import Final

from securechat.client.doors.facts import Standing
from tests.client.doors.moves import Scenario
from tests.client.doors.person import Conv, Door, State, held
from tests.client.doors.world import ALICE, BOB, FALSE_BOB, authorised, path

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
