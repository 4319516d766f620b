"""The twin of the invariants: with an honest server and honest people from now on, bob and alice read each other.

Every state that a story has reached is asked for its way back: within so many moves, with so many questions at most. A
table that refused everything would break no invariant, and lead nobody anywhere.
"""

from collections.abc import Iterator
from typing import Final

from securechat.client.doors.facts import Leaf, Way
from tests.client.doors.moves import extend, hear, invite, read
from tests.client.doors.person import Conv, Door, Said, State, Table, offer, put
from tests.client.doors.world import ALICE, BOB, CAROL, DAY, NEW_ALICE, Branch, changed, founded, lets_in, letter, path

MAX_MOVES: Final = 10


def unfair(state: State, table: Table, questions: int) -> str:
    """What keeps bob apart from alice although everybody is honest from now on; empty if nothing does."""
    for slot in range(len(state.heads)):
        if state.heads[slot] is not None and (problem := _apart(state, slot, table, questions)):
            return f"TWIN: {problem}"
    return ""


def _apart(state: State, slot: int, table: Table, questions: int) -> str:
    asked = 0
    overtaken: Branch | None = None  # a Welcome that came before the log, and was not put by: it comes but once
    for said in sorted(state.statements):
        state = hear(state, said, table)
    pins, her = state.pins, _alice(state, slot)
    met = state.convs[slot].kind != "direct" and pins.standing(*her.key) != "unknown"
    if met or her.key in pins.refused | pins.contested:  # he met the real alice, and nobody but he keeps them apart
        pins = pins.compare(her.key)
    state = state._replace(pins=pins._replace(refused=pins.refused - {CAROL.key}))
    for _ in range(MAX_MOVES):
        here = _where(state, slot)
        conv, head = state.convs[here], state.heads[slot]
        assert head is not None
        if conv.standing == "live" and conv.waits == "nothing" and conv.at is head:
            return "" if asked <= questions else f"{conv.name}: {asked} questions"
        if conv.standing == "live" and conv.waits != "nothing":  # bob decides, by what is true
            asked += conv.waits == "everything"
            pins = state.pins.compare(her.key) if conv.waits == "everything" else state.pins
            state = put(state, here, conv._replace(waits="nothing"))._replace(pins=pins)
            continue
        if conv.standing == "live" and _overtakes(conv, head) and head not in (conv.kept, overtaken):
            state = offer(state, here, "welcome", head, table=table)[0]
            overtaken = None if state.convs[here].kept is head else head
            continue
        if conv.standing == "left" and overtaken is head and lets_in(head, BOB):
            return f"the Welcome back to {conv.name} came too early and was thrown away"
        for new, door in _honest(state, slot, table):
            asked += door is not None and door.verdict.action == "ask"
            if (
                door is not None and door.verdict.action == "hand-back"
            ):  # the server, and with it alice, takes the handshakes
                heads = (*state.heads[:slot], new.convs[here].at, *state.heads[slot + 1 :])
                new = new._replace(heads=heads)
            if new != state:
                state = new
                break
        else:
            return f"nothing leads bob from {conv.standing} back to alice in {conv.name or 'a conversation'}"
    return f"bob and alice never meet in {state.convs[slot].name}"


def _alice(state: State, slot: int) -> Leaf:
    """Alice as she is there: under her key, or her successor's."""
    head = state.heads[slot]
    return NEW_ALICE if head is not None and NEW_ALICE in head.members else ALICE


def _overtakes(conv: Conv, head: Branch) -> bool:
    """Whether bob was removed and let in again, so that the Welcome may be here before the log that says so."""
    walked = path(conv.at, head) or ()
    return lets_in(head, BOB) and any(BOB not in each.members for each in walked)


def _said(state: State, branch: Branch) -> Said | None:
    """Alice's invitation to a branch, while it lasts."""
    return next((said for said in state.said if said.branch is branch and state.now <= said.time + 14 * DAY), None)


def _where(state: State, slot: int) -> int:
    """The conversation in which alice is, if bob has it; else the one that the story is about."""
    groups = [conv.group for conv in state.convs]
    head = state.heads[slot]
    group = head.group if head is not None else b""
    return groups.index(group) if group in groups else slot


def _honest(state: State, slot: int, table: Table) -> Iterator[tuple[State, Door | None]]:
    """What an honest server does next, and alice if bob asks her to: tried in this order."""
    here, head = _where(state, slot), state.heads[slot]
    assert head is not None
    conv, welcome = state.convs[here], letter(head, BOB)

    def try_(
        way: Way, branch: Branch | None = head, said: Said | None = None, at: State = state, *, by_hand: bool = False
    ) -> tuple[State, Door]:
        return offer(at, here, way, branch, said, by_hand=by_hand, table=table)

    walked = path(conv.at, head) if conv.at is not None else None
    if conv.kind == "open" and conv.standing not in ("live", "away", "old-copy", "ahead"):
        yield try_("offer")
    match conv.standing:
        case "live" if walked and walked[0].change == "revoke":
            yield read(state, here, walked[0]), None
        case "live" if walked:
            yield try_("commit", walked[0])
        case "live" if conv.at is not None and path(head, conv.at):  # the server was restored
            yield try_("head", None, at=put(state, here, conv._replace(standing="ahead")))
        case "live" | "away" | "old-copy" | "old-copy-commit" if walked is None:
            yield try_("walk", at=put(state, here, conv._replace(standing="forked")), by_hand=True)
        case "away" | "old-copy":
            yield try_("walk")
        case "old-copy-commit":
            yield try_("public-walk")
        case "stopped" | "forked":
            yield try_("public-walk" if conv.standing == "stopped" else "walk", by_hand=True)
        case "ahead":
            yield try_("head", None)
        case "gone" if conv.at is head:  # nothing is missing: nobody has committed meanwhile
            yield try_("walk", at=put(state, here, conv._replace(standing="away")))
        case "gone" | "recovered":
            yield try_("checkpoint")
        case "opening":
            yield try_("claim")
    if conv.standing in ("gone", "lost", "recovered") and conv.told != "ask-for-invitation":
        yield try_("none", None)
    if conv.kind == "invite" and (conv.standing in ("nothing", "invited", "left") or conv.told == "ask-for-invitation"):
        kept = welcome is not None and conv.kept is welcome and _said(state, welcome) is not None
        kept = kept and welcome is not None and (conv.at is None or welcome.epoch > conv.at.epoch)
        invited = state if kept and BOB in head.members else invite(state, slot)
        welcome = letter(invited.heads[slot], BOB)
        assert welcome is not None
        put_by, _ = try_("welcome", welcome, at=invited)  # the Welcome is there before the invitation
        if put_by.convs[here].kept is welcome:
            yield try_("welcome", welcome, _said(invited, welcome), at=put_by)
    if conv.kind == "direct" and conv.group != head.group:
        yield try_("welcome", welcome)
    elif conv.kind == "direct" and (
        conv.standing in ("nothing", "opening", "left", "lost") or conv.told == "ask-for-invitation"
    ):
        made = founded(b"D%d" % len(state.world), "direct", "", _alice(state, slot), BOB)
        anew = extend(state, slot, changed(made, seqs=head.seqs))
        yield try_("welcome", anew.heads[slot], at=anew)
