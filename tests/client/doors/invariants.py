"""What must hold after every move: five invariants, each of which says how it was broken."""

from collections.abc import Callable, Iterator
from operator import is_
from typing import Final

from securechat.client.doors.checks import GONE_SECONDS
from securechat.client.doors.facts import Key, Leaf, Standing
from tests.client.doors.moves import Scenario
from tests.client.doors.person import Conv, Door, State, held, reading
from tests.client.doors.world import ALICE, BOB, DAY, FALSE_BOB, authorised, path, seq_of

MEMBER: Final[frozenset[Standing]] = frozenset(
    ("live", "away", "gone", "lost", "old-copy", "old-copy-commit", "stopped", "forked", "ahead")
)
CLAIMS: Final = frozenset(("invitation", "you-left", "invited-back", "second-title"))
"""Questions that say of a key which the user knows that it invites them."""


def sends(state: State, conv: Conv) -> bool:
    """Whether what bob says in a conversation leaves at once."""
    if conv.standing != "live" or conv.waits != "nothing" or conv.at is None or held(state.pins, conv.at):
        return False
    return conv.kind != "direct" or state.doubted.isdisjoint(leaf.key for leaf in reading(conv.at))


def _sending(state: State) -> Iterator[Conv]:
    """The conversations in which what bob says leaves at once."""
    for conv in state.convs:
        if sends(state, conv):
            yield conv


def _forgiven(conv: Conv, now: State, scenario: Scenario) -> frozenset[Leaf]:
    """Whose stolen keys are in date, where bob goes on without secrets: past his own commit, or after /repair."""
    return scenario.stolen - now.certs.expired - scenario.unforgiven if conv.without else frozenset()


def i1(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """Whoever reads what bob sends was let in along a branch that starts at a state he trusted."""
    if door is not None and door.branch is not None and door.verdict.lets_in and door.offered.way == "welcome":
        signer = door.branch.author
        certs, seq, waits = before.certs, seq_of(door.branch, signer), door.verdict.waits
        revoked = not certs.not_revoked(signer, seq) and (door.verdict.action == "ask" or waits != "everything")
        hasty = not certs.in_force(signer, seq) and signer.key not in door.verdict.holding
        if signer in door.branch.thief and (revoked or hasty):
            return f"bob comes in on the word of a key that {signer.account} has revoked"
    if door is not None and door.branch is not None and (door.yes or door.verdict.action in ("enter", "beside")):
        made, whose = door.branch, door.verdict.whose
        honest = {leaf.key for leaf in (ALICE, BOB)} - {leaf.key for leaf in scenario.bad}
        if whose in honest and made.author.key != whose and made.kind != "open":
            return f"bob enters on {whose.account}'s word what somebody else made"
        accepted = before.pins.accepted | before.pins.verified
        if door.verdict.action == "enter" and made.kind != "open" and whose not in accepted:
            return "bob enters on the word of a key that he never accepted"
    for conv in _sending(now):
        assert conv.at is not None
        if conv.kind != "direct" and conv.at.name != conv.name:
            return f"what bob says in {conv.name} is read in {conv.at.name}"
        if conv.kind != "open" and not authorised(conv.root, conv.at, _forgiven(conv, now, scenario)):
            return f"nobody with that right led bob to where he is in {conv.name}"
        for member in reading(conv.at) if conv.kind == "direct" else ():
            if member.key in now.denied - now.pins.verified:
                return f"bob's line is read by a key of {member.account} that the one before it denies"
            if now.pins.standing(member.account, member.identity) in ("changed", "changed-verified", "refused"):
                return f"bob's line is read by a key of {member.account} that he did not accept"
    return ""


def i2(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """No conversation is left, replaced, moved or revived without a yes."""
    del scenario
    if door is None:
        return ""
    here = before.convs[door.slot]
    by_itself = door.verdict.action in ("resync", "follow") and here.kind != "open" and not door.offered.asked_for
    if here.standing in ("stopped", "forked") and by_itself:
        return f"{here.name} goes on by itself past what could not be followed"
    for old, new in zip(before.convs, now.convs, strict=False):
        back = new.standing == "live" and new.at is not old.at and path(new.at, old.at) is not None
        back = back and (old.kind == "open" or path(old.since, new.at) is not None)  # he has had its secrets
        again = old.standing == "left" and new.standing == "live" and new.at is old.at and old.kind != "open"
        back = back and door.verdict.action != "resync"  # which makes another epoch, with keys of its own
        if (back or again) and door.verdict.action != "hand-back" and old.group == new.group:
            return f"{old.name} goes back to an epoch whose keys are used"
        if door.yes:
            continue
        if old.standing == "opening" and new.standing == "nothing":
            return f"what bob has begun to say to {old.name} was given up"
        if old.kind == "open":
            continue  # bob walked in by himself; where he goes on is told
        used = old.at is not None and new.at is not None and new.at is not old.at and new.at.epoch <= old.at.epoch
        used = used and old.group == new.group and path(old.at, new.at) is None
        if used and new.standing == "live" and door.verdict.action != "hand-back":
            return f"{old.name} goes on in an epoch whose keys are used"
        elsewhere = old.standing in MEMBER and new.standing == "live" and path(old.at, new.at) is None
        if elsewhere and door.verdict.told != "checkpoint":
            return f"{old.name} was given up for something else without a question"
        if old.standing == "left" and new.standing == "live":
            return f"{old.name} came back without a question"
    return ""


def _overheard(before: State, door: Door, now: State) -> str:
    """Who reads a line that was typed before they came, or came back by a key that is not in force."""
    old, conv = before.convs[door.slot], now.convs[door.slot]
    if conv.at is None or conv.kind == "open" or not old.typed or not sends(now, conv):
        return ""
    if door.offered.way not in ("commit", "walk") and not (door.yes and door.verdict.told != "invited-back"):
        for key in sorted(leaf.key for leaf in reading(conv.at) - {BOB} if leaf.key not in old.typed):
            return f"{key.account} reads a line in {conv.name} that was typed before they came"
    for branch in path(old.at, conv.at) or () if door.offered.way == "walk" else ():  # what came before he was told of
        who = branch.author
        late = branch.change == "re-enter" and not now.certs.in_force(who, seq_of(conv.at, who))
        if late and who in conv.at.thief & reading(conv.at):
            return f"a thief with an old key of {who.account} reads a line that was typed in {conv.name} before"
    return ""


def settled(before: State, door: Door | None, now: State, scenario: Scenario) -> State:
    """What waits after a move, and what bob's trust begins with.

    A person may type at any time; the worst time for a line that waits is the earliest. Where handshakes are gone, bob
    goes by the signature key of an owner, stolen or not, as long as it is in force: that stays possible. On the word of
    an owner whose key nobody has stolen he is where they are, whoever may have led him away from there before.
    """
    convs = list(now.convs)
    if door is not None and door.branch is not None and door.verdict.told in ("checkpoint", "keepsake"):
        signer = door.branch.author
        robbed = signer in scenario.robbed - scenario.unforgiven
        gone = before.now - before.convs[door.slot].time > GONE_SECONDS
        honest = signer not in scenario.bad | scenario.robbed
        if honest or (robbed and gone and before.certs.in_force(signer, seq_of(door.branch, signer))):
            convs[door.slot] = convs[door.slot]._replace(root=door.branch)
    for slot, conv in enumerate(convs):
        old = before.convs[slot] if slot < len(before.convs) else None
        if sends(now, conv) or conv.at is None:
            typed = frozenset[Key]()
        elif old is not None and old.at is not None and sends(before, old):
            typed = frozenset(leaf.key for leaf in old.at.members)
        elif door is not None and door.slot == slot and door.offered.way in ("commit", "walk"):
            typed = conv.typed | frozenset(leaf.key for leaf in conv.at.members)
        else:
            typed = conv.typed
        if typed != conv.typed:
            convs[slot] = conv._replace(typed=typed)
    return now if all(map(is_, convs, now.convs)) else now._replace(convs=tuple(convs))


def i3(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """Every leaf that reads was named to bob, as what it is, before the line leaves."""
    del scenario
    if door is not None and (problem := _overheard(before, door, now)):
        return problem
    if door is not None and door.verdict.lets_in and FALSE_BOB in door.offered.members - door.verdict.alarm:
        return "another key has come under bob's own name, and he was not alarmed"
    if door is None:
        gained = {key.account for key in now.pins.accepted - before.pins.accepted - before.pins.succeeded}
        if gained & {key.account for key in before.pins.verified}:
            return "what bob had compared has become another key without his seeing it"
    for conv in _sending(now):
        assert conv.at is not None
        for twice in sorted(leaf for leaf in reading(conv.at) if leaf.key in now.split and conv.kind == "direct"):
            return f"two hold the key of {twice.account} that bob's line goes to, and he was not asked to see that"
        for silent in sorted(reading(conv.at) - {BOB} - conv.named):
            return f"{silent.account} ({silent.identity.decode()}) reads {conv.name} and was never named"
        for branch in path(conv.since, conv.at) or ():
            if branch.change == "re-enter" and branch.author in branch.thief and branch not in conv.back:
                return f"a thief of {branch.author.account}'s keys has come into {conv.name}, and bob was not told"
    return ""


def i4(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
    """What a question says of a key that bob knows is true."""
    if door is not None and door.offered.way == "removal" and now.convs[door.slot].standing == "invited":
        return "bob is still asked whether he comes to a room, and the invitation was withdrawn"
    if door is not None and door.said is not None and door.branch is not None and door.verdict.lets_in:
        said, made = door.said.branch, door.branch
        if any(getattr(said, part) != getattr(made, part) for part in ("group", "name", "owners", "members")):
            return f"bob is asked about {said}, and yes would bring him into {made}"
        if before.now > door.said.time + 14 * DAY:
            return f"bob is asked about an invitation of {door.said.inviter.account} that has run out"
    if door is None or door.verdict.action != "ask" or door.verdict.told not in CLAIMS:
        return ""
    whose, old = door.verdict.whose, before.convs[door.slot]
    if door.verdict.told == "invited-back" and old.at is not None and whose not in old.at.owners:
        return "bob is asked whether somebody lets him into a room that he knows, who never owned it"
    if whose is None or whose in {leaf.key for leaf in scenario.bad | scenario.stolen}:
        return ""
    if not any(said.inviter == whose and said.branch is door.branch for said in before.said):
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
