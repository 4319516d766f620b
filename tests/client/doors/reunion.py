"""The twin of the invariants: with an honest server and honest people from now on, bob and alice read each other.

Every state that a story has reached is asked for its way back: within so many moves, with so many questions at most. A
table that refused everything would break no invariant, and lead nobody anywhere.
"""

from collections.abc import Iterator
from typing import Final

from securechat.client.doors.facts import Way
from tests.client.doors.moves import extend, invite
from tests.client.doors.person import Conv, Door, Said, State, Table, offer, put
from tests.client.doors.world import ALICE, BOB, DAY, founded, lets_in, letter, path

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
