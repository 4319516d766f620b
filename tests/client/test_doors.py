"""The table of doors: each row takes what it is for, and refuses the same offer with one thing wrong."""

import ast
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from securechat.client.conversations.conversation import Conversation
from securechat.client.doors import checks
from securechat.client.doors.facts import (
    Action,
    Invitation,
    Key,
    KeyStanding,
    Known,
    Leaf,
    Offered,
    Standing,
    Step,
    Trusted,
    Verdict,
    Way,
)
from securechat.client.doors.table import OWN, TABLE, decide

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000
MONTHS = 90 * 86_400


def leaf(account: str, key: str = "", device: int = 1) -> Leaf:
    return Leaf(account, (key or account).encode().ljust(32), f"{account} {key} {device}".encode().ljust(16))


def replace_device(member: Leaf) -> Leaf:
    return member._replace(device=b"another device".ljust(16))


ALICE, BOB, CAROL, DAVE, MALLORY = map(leaf, ("alice", "bob", "carol", "dave", "mallory"))
ROOM, OTHER, DIRECT = b"R" * 32, b"O" * 32, b"D" * 32
CONTEXT = b"c" * 32


class Pins(dict[Leaf, KeyStanding]):
    """What bob thinks of keys."""

    def standing(self, account: str, key: bytes) -> KeyStanding:
        for who, standing in self.items():
            if who.account == account:
                return standing if who.identity == key else "changed-verified" if standing == "verified" else "changed"
        return "unknown"


PINS = Pins({ALICE: "accepted", CAROL: "verified"})
INVITATION = Invitation(ALICE.key, ROOM, "invite", "#team", frozenset({ALICE.key}), CONTEXT, NOW - 60, NOW + 86_400)
T = Trusted(5, frozenset({ALICE, BOB, CAROL}), frozenset({ALICE.key}), frozenset({CAROL.key}), NOW - 60)
OLD = replace(T, time=NOW - MONTHS)
EVERYBODY = T.members

WELCOME = Offered("welcome", ROOM, "invite", "#team", 6, EVERYBODY, INVITATION.owners, ALICE, CONTEXT, INVITATION)
DIRECT_WELCOME = Offered("welcome", DIRECT, "direct", "alice", 1, frozenset({ALICE, BOB}), signer=ALICE)
COMMIT = Offered("commit", ROOM, "invite", "#team", 6, EVERYBODY, signer=ALICE, steps=(Step(ALICE, "path"),))
WALK = replace(COMMIT, way="walk")
PUBLIC = replace(COMMIT, way="public-walk", asked_for=True)
CHECKPOINT = replace(WELCOME, way="checkpoint", invitation=None, epoch=40, steps=(Step(ALICE, "path"),))
OPEN = Offered("offer", ROOM, "open", "#lobby", 6, EVERYBODY, signer=CAROL)
ANOTHER = Leaf("alice", b"another".ljust(32), ALICE.device)


def known(standing: Standing, trusted: Trusted | None = T, **others: Any) -> Known:
    made = Known(BOB, standing, ROOM, "invite", "#team", trusted)
    return replace(made, **others)


NOTHING = Known(BOB)
ROOM_OPEN: dict[str, Any] = {"kind": "open", "name": "#lobby"}
ALICE_DIRECT = known("live", replace(T, members=frozenset({ALICE, BOB})), kind="direct", name="alice", group=OTHER)

DOORS: dict[str, tuple[Known, Offered]] = {
    "welcome alone": (NOTHING, replace(WELCOME, invitation=None)),
    "invitation": (NOTHING, WELCOME),
    "invitation of a stranger": (
        NOTHING,
        replace(
            WELCOME, signer=DAVE, owners=frozenset({DAVE.key}),
            invitation=replace(INVITATION, inviter=DAVE.key, owners=frozenset({DAVE.key})),
        ),
    ),
    "invite line": (replace(NOTHING, line=ALICE.key), WELCOME),
    "direct request": (NOTHING, replace(DIRECT_WELCOME, signer=MALLORY, members=frozenset({MALLORY, BOB}))),
    "direct by a known key": (NOTHING, DIRECT_WELCOME),
    "invitation withdrawn": (known("invited"), Offered("removal", ROOM)),
    "invitation renewed": (known("invited"), WELCOME),
    "lost race": (replace(ALICE_DIRECT, standing="opening", fetched=ALICE.key), DIRECT_WELCOME),
    "lost race to another key": (replace(ALICE_DIRECT, standing="opening", fetched=DAVE.key), DIRECT_WELCOME),
    "word of a lost race": (replace(ALICE_DIRECT, standing="opening"), Offered("claim", DIRECT, "direct")),
    "direct beside direct": (ALICE_DIRECT, DIRECT_WELCOME),
    "direct under another key": (
        ALICE_DIRECT, replace(DIRECT_WELCOME, signer=ANOTHER, members=frozenset({ANOTHER, BOB})),
    ),
    "next commit": (known("live"), COMMIT),
    "live state": (known("live"), WELCOME),
    "walk": (known("away"), WALK),
    "checkpoint": (known("gone", OLD), CHECKPOINT),
    "nothing left": (known("gone", OLD), Offered("none", ROOM)),
    "invited back": (known("lost", OLD), WELCOME),
    "keepsake of an open room": (known("recovered", replace(T, owners=frozenset()), **ROOM_OPEN), OPEN),
    "keepsake": (known("recovered"), CHECKPOINT),
    "old copy": (known("old-copy"), WALK),
    "own commit": (known("old-copy-commit"), replace(PUBLIC, asked_for=False)),
    "repair past a commit": (known("stopped"), PUBLIC),
    "repair of the history": (known("forked"), replace(WALK, asked_for=True)),
    "back after leaving": (known("left"), WELCOME),
    "open room past a commit": (known("stopped", **ROOM_OPEN), replace(OPEN, steps=(Step(DAVE, "path"),))),
    "behind us": (known("ahead"), Offered("head", ROOM)),
    "same name": (known("live", group=OTHER), WELCOME),
    "same open name": (known("live", group=OTHER, **ROOM_OPEN), OPEN),
    "open room": (replace(NOTHING, **ROOM_OPEN), OPEN),
    "open room after a gap": (known("gone", OLD, **ROOM_OPEN), OPEN),
    "open room of a restored server": (known("lost", OLD, **ROOM_OPEN), replace(OPEN, epoch=2)),
}  # fmt: skip
"""For each row an offer that it takes and finds no fault in."""

Change = Callable[[Known, Offered], tuple[Known, Offered]]


def offer(**fields: Any) -> Change:
    return lambda before, offered: (before, replace(offered, **fields))


def say(**fields: Any) -> Change:
    def change(before: Known, offered: Offered) -> tuple[Known, Offered]:
        assert offered.invitation is not None
        return before, replace(offered, invitation=replace(offered.invitation, **fields))

    return change


def people(without: Leaf = DAVE, also: Leaf | None = None) -> Change:
    more = frozenset(() if also is None else (also,))
    return lambda before, offered: (before, replace(offered, members=offered.members - {without} | more))


def trust(**fields: Any) -> Change:
    def change(before: Known, offered: Offered) -> tuple[Known, Offered]:
        trusted = replace(before.trusted or T, **fields)
        return replace(before, group=offered.group, trusted=trusted), offered

    return change


BROKEN: dict[checks.Check, tuple[Change, ...]] = {
    checks.SOUND: (offer(fault="the tree is damaged"),),
    checks.OURS: (people(without=BOB), people(without=BOB, also=replace_device(BOB))),
    checks.NO_NAMESAKE: (people(also=leaf("bob", "forged")),),
    checks.NOBODY_AGAINST: (people(also=leaf("carol", "forged")), offer(owners=frozenset({ANOTHER.key}))),
    checks.FITS: (offer(context=b"d" * 32), offer(name="#board"), say(group=OTHER), say(owners=frozenset())),
    checks.BY_INVITER: (offer(signer=MALLORY), offer(signer=None)),
    checks.IN_TIME: (say(until=NOW - 1), say(until=NOW + MONTHS)),
    checks.BY_LINE: (lambda before, offered: (replace(before, line=CAROL.key), offered),),
    checks.NOT_BACK: (lambda before, offered: trust(epoch=offered.epoch)(before, offered),),
    checks.NOT_AGAIN: (lambda before, offered: trust(epoch=offered.epoch)(replace(before, standing="gone"), offered),),
    checks.NOT_BELOW: (lambda before, offered: trust(epoch=offered.epoch + 1)(before, offered),),
    checks.FOLLOWS: (offer(steps=None),),
    checks.ANCHORED: (offer(signer=CAROL), offer(signer=None)),
    checks.BY_ANCHOR: (trust(owners=frozenset({DAVE.key})), trust(time=NOW)),
    checks.IN_FORCE: (offer(in_force=False),),
    checks.LONG_AWAY: (trust(time=NOW - 60), trust(time=NOW - 20 * 86_400)),
    checks.TWO: (
        people(also=DAVE), offer(signer=DAVE), lambda *case: people(also=DAVE)(*offer(signer=None)(*case)),
    ),
    checks.STEPS_IN_FORCE: (
        offer(steps=(Step(DAVE, "add", in_force=False), Step(ALICE, "path"))),
        offer(steps=(Step(ALICE, "path", in_force=False),)),
    ),
    checks.PEERS: (
        lambda before, offered: people(also=DAVE)(replace(before, kind="direct"), replace(offered, kind="direct")),
    ),
    checks.BY_HAND: (offer(asked_for=False),),
    checks.MEANT: (offer(name="#other"),),
}  # fmt: skip
"""For each check what makes it fail, in any offer that passes it."""


def test_every_row_is_shown() -> None:
    assert list(DOORS) == [row.name for row in TABLE]


@pytest.mark.parametrize("door", DOORS)
def test_a_door_takes_what_it_is_for(door: str) -> None:
    verdict = decide(*DOORS[door], PINS, NOW)
    row = next(row for row in TABLE if row.name == door)
    assert (verdict.row, verdict.action, verdict.told, verdict.why) == (door, row.action, row.told, "")


@pytest.mark.parametrize(("door", "check"), [(row.name, check) for row in TABLE for check in row.checks])
def test_a_door_refuses_the_same_with_one_thing_wrong(door: str, check: checks.Check) -> None:
    for change in BROKEN[check]:
        case = change(*DOORS[door])
        assert not check.holds(checks.Case(*case, PINS, NOW))
        verdict = decide(*case, PINS, NOW)
        assert verdict.action == "refuse" or verdict.row != door


def test_what_no_row_takes_is_refused() -> None:
    for standing, way in product(get_args(Standing), get_args(Way)):
        before, offered = known(standing), Offered(way, ROOM, fault="everything")
        verdict = decide(before, offered, PINS, NOW)
        if not any(row.takes(checks.Case(before, offered, PINS, NOW)) for row in TABLE):
            assert (verdict.row, verdict.action) == ("", "refuse")
        assert verdict.action not in ("enter", "beside", "follow", "resync", "ask")


def test_members_are_compared_by_device_and_key() -> None:
    second = leaf("alice", device=2)
    verdict = decide(known("live"), replace(COMMIT, members=EVERYBODY - {CAROL} | {second}), PINS, NOW)
    assert (verdict.came, verdict.went) == (frozenset({second}), frozenset({CAROL}))
    assert decide(*DOORS["next commit"], PINS, NOW).came == frozenset()


def test_a_leaf_of_our_own_name_raises_an_alarm_at_every_door() -> None:
    forged = leaf("bob", "forged")
    for door in DOORS:
        before, offered = DOORS[door]
        assert not decide(before, offered, PINS, NOW).alarm
        assert decide(before, replace(offered, members=offered.members | {forged}), PINS, NOW).alarm == {forged}


def test_whoever_has_decided_on_a_key_is_asked_about_another_one() -> None:
    opening = replace(ALICE_DIRECT, standing="opening")
    assert decide(replace(opening, first=True), DIRECT_WELCOME, PINS, NOW).row == "lost race"
    assert decide(opening, DIRECT_WELCOME, PINS, NOW).row == "lost race to another key"


@pytest.mark.parametrize("door", ["own commit", "repair past a commit", "checkpoint", "keepsake"])
def test_an_old_copy_rotates_before_it_takes_the_place_of_a_later_certificate(door: str) -> None:
    before, offered = DOORS[door]
    assert decide(before, offered, PINS, NOW).action == "resync"
    verdict = decide(before, replace(offered, behind=True), PINS, NOW)
    assert (verdict.row, verdict.action, verdict.lets_in) == (door, "rotate", False)
    before, offered = DOORS["walk"]
    assert decide(before, replace(offered, behind=True), PINS, NOW).action == "follow"


OPENING = replace(ALICE_DIRECT, standing="opening", fetched=ALICE.key)
BY_ANOTHER = replace(WELCOME, signer=ANOTHER, invitation=replace(INVITATION, inviter=ANOTHER.key))
BY_STRANGER = DOORS["invitation of a stranger"][1]
DIRECT_BY_ANOTHER, DIRECT_BY_STRANGER = (
    replace(DIRECT_WELCOME, signer=who, members=frozenset({who, BOB})) for who in (ANOTHER, MALLORY)
)
SAME_DIRECT = replace(ALICE_DIRECT, group=DIRECT)
OTHER_ID = known("nothing", None, group=OTHER)
BESIDE: dict[str, tuple[Known, Offered, str, Action]] = {
    "a direct conversation is none to be invited to": (
        NOTHING, replace(DIRECT_WELCOME, invitation=INVITATION), "direct by a known key", "enter",
    ),
    "nor does a line for a room ask more of it": (
        replace(NOTHING, line=ALICE.key), DIRECT_WELCOME, "direct by a known key", "enter",
    ),
    "a direct conversation under a key against the accepted one": (
        NOTHING, DIRECT_BY_ANOTHER, "direct under another key", "beside",
    ),
    "a direct conversation that nobody signed": (
        NOTHING, replace(DIRECT_WELCOME, signer=None), "direct under another key", "refuse",
    ),
    "a stranger who is named in a line": (replace(NOTHING, line=DAVE.key), BY_STRANGER, "invite line", "enter"),
    "an invitation to the room that we know by another id": (OTHER_ID, WELCOME, "", "refuse"),
    "the same of a stranger": (OTHER_ID, BY_STRANGER, "", "refuse"),
    "an invitation under a key against the accepted one": (NOTHING, BY_ANOTHER, "", "refuse"),
    "a room is being opened, not the conversation with alice": (
        replace(OPENING, kind="invite", name="#team"), DIRECT_WELCOME, "", "refuse",
    ),
    "a room is offered, not the conversation with alice": (OPENING, WELCOME, "", "refuse"),
    "the opening of a conversation that nobody signed": (
        OPENING, replace(DIRECT_WELCOME, signer=None), "lost race to another key", "refuse",
    ),
    "the conversation that we follow, by a stranger": (SAME_DIRECT, DIRECT_BY_STRANGER, "live state", "ignore"),
    "the conversation that we follow, by another key": (SAME_DIRECT, DIRECT_BY_ANOTHER, "live state", "ignore"),
    "a room by invitation that is stopped": (known("stopped"), WELCOME, "live state", "ignore"),
    "an open room that we follow": (known("live", **ROOM_OPEN), OPEN, "live state", "ignore"),
    "an open room that has the name of one that is stopped": (
        known("stopped", group=OTHER, **ROOM_OPEN), OPEN, "same open name", "beside",
    ),
    "an open room of the keepsake that has owners": (known("recovered", **ROOM_OPEN), OPEN, "keepsake", "refuse"),
    "a room of the keepsake without owners that is not open": (
        known("recovered", replace(T, owners=frozenset())), replace(OPEN, kind="invite", name="#team"),
        "keepsake", "refuse",
    ),
    "a stranger invites to the room that we left": (known("left"), BY_STRANGER, "", "refuse"),
    "another room with the name of one that we left": (known("left", group=OTHER), WELCOME, "same name", "ask"),
    "an open room with the name of one by invitation, and an invitation": (
        known("live", group=OTHER), replace(WELCOME, kind="open", invitation=replace(INVITATION, kind="open")),
        "", "refuse",
    ),
    "a room by invitation that is offered like an open one": (
        known("live", group=OTHER), replace(OPEN, kind="invite", name="#team"), "", "refuse",
    ),
}  # fmt: skip
"""Offers that differ a little from what a row is for, the row that takes them (empty: none), and what it does."""


@pytest.mark.parametrize("words", BESIDE)
def test_an_offer_beside_a_door_goes_by_another_one_or_by_none(words: str) -> None:
    before, offered, row, action = BESIDE[words]
    verdict = decide(before, offered, PINS, NOW)
    assert (verdict.row, verdict.action) == (row, action)


def test_a_checkpoint_is_taken_when_thirty_days_are_over_and_not_on_the_last_second_of_them() -> None:
    month = 30 * 86_400
    decided = [decide(known("gone", replace(T, time=NOW - away)), CHECKPOINT, PINS, NOW) for away in (month, month + 1)]
    assert [verdict.action for verdict in decided] == ["refuse", "resync"]


def test_nothing_is_repaired_that_nobody_asked_for() -> None:
    assert decide(known("forked"), WALK, PINS, NOW).why == checks.BY_HAND.words
    assert decide(known("forked"), replace(WALK, asked_for=True), PINS, NOW).action == "follow"


def test_a_keepsake_names_a_room_and_not_who_is_in_it_by_now() -> None:
    before, offered = DOORS["keepsake"]
    verdict = decide(before, replace(offered, members=EVERYBODY | {DAVE}, dated=False), PINS, NOW)
    assert verdict.action == "resync"
    assert verdict.came == {DAVE}
    assert verdict.late == {ALICE.key}
    assert not verdict.holding


@pytest.mark.parametrize("door", [row.name for row in TABLE if checks.NOT_BELOW in row.checks])
def test_a_state_as_old_as_ours_is_entered_for_that_makes_a_newer_one(door: str) -> None:
    before, offered = trust(epoch=DOORS[door][1].epoch)(*DOORS[door])
    assert decide(before, offered, PINS, NOW).row == door
    assert decide(before, offered, PINS, NOW).why == ""


def test_a_direct_keepsake_is_entered_with_the_same_two_people() -> None:
    before, offered = known("recovered", replace(T, members=frozenset({ALICE, BOB})), kind="direct"), CHECKPOINT
    two = replace(offered, kind="direct", members=frozenset({ALICE, BOB}))
    assert decide(before, two, PINS, NOW).action == "resync"
    assert decide(before, replace(two, members=frozenset({ALICE, BOB, DAVE})), PINS, NOW).why == checks.PEERS.words


def test_who_is_invited_back_knows_nobody_there_any_more() -> None:
    before, offered = DOORS["invited back"]
    assert decide(before, offered, PINS, NOW).holding == {ALICE.key, CAROL.key}
    assert decide(*trust(time=INVITATION.time)(before, offered), PINS, NOW).action == "ask"  # written in that second


def test_lines_wait_for_new_people_and_not_for_our_own_or_for_new_devices() -> None:
    before, offered = DOORS["checkpoint"]
    second = replace(offered, members=EVERYBODY | {leaf("alice", device=2)})
    assert not decide(before, second, PINS, NOW).holding
    assert not decide(replace(before, trusted=replace(OLD, members=EVERYBODY - {BOB})), offered, PINS, NOW).holding


def test_by_a_certificate_out_of_date_lines_wait_where_people_are_let_in_and_nowhere_else() -> None:
    def waits(door: str) -> tuple[str, set[Key]]:
        before, offered = DOORS[door]
        verdict = decide(before, replace(offered, dated=False), PINS, NOW)
        return verdict.waits, set(verdict.holding)

    assert waits("direct by a known key") == ("enter", {ALICE.key})
    assert waits("invitation") == ("everything", {ALICE.key})
    assert waits("open room past a commit") == ("until-in", set())


def test_a_verdict_names_on_whose_word_it_came() -> None:
    for door in ("direct by a known key", "checkpoint", "invitation"):
        assert decide(*DOORS[door], PINS, NOW).whose == ALICE.key
    assert decide(NOTHING, replace(WELCOME, signer=MALLORY), PINS, NOW).whose == ALICE.key
    assert decide(*DOORS["invitation withdrawn"], PINS, NOW).whose is None


def test_an_invitation_leads_to_the_very_first_state() -> None:
    assert decide(NOTHING, replace(WELCOME, epoch=0), PINS, NOW).action == "ask"


def test_who_came_in_again_is_named_our_own_device_too() -> None:
    steps = (Step(DAVE, "re-enter"), Step(ALICE, "path"), Step(BOB, "re-enter"), Step(CAROL, "enter"))
    assert decide(known("away"), replace(WALK, steps=steps), PINS, NOW).back == {DAVE, BOB}
    assert decide(*DOORS["walk"], PINS, NOW).back == frozenset()


def test_one_enter_is_asked_for_only_if_somebody_is_new() -> None:
    before, offered = DOORS["checkpoint"]
    assert decide(before, offered, PINS, NOW).waits == "nothing"
    assert decide(before, replace(offered, members=EVERYBODY | {DAVE}), PINS, NOW).waits == "enter"
    walked = replace(WALK, steps=(Step(DAVE, "re-enter", in_force=False), Step(ALICE, "path")))
    assert decide(known("away"), walked, PINS, NOW).waits == "enter"
    assert decide(known("away"), replace(walked, steps=(Step(DAVE, "re-enter"),)), PINS, NOW).waits == "fresh-path"


def test_one_function_replaces_the_state_of_a_group() -> None:
    """What else sets it loads it from the vault, takes over keys within the epoch, or forgets it."""
    setting = set()
    for path in (ROOT / "securechat/client").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                named = [each for each in ast.walk(function) if isinstance(each, ast.Attribute)]
                if any(each.attr == "_group" and isinstance(each.ctx, ast.Store) for each in named):
                    setting.add((path.stem, function.name))
    names = ("__init__", "group", "reload_group", "use_keys", "replace_group", "end")
    assert setting == {("conversation", name) for name in names}
    hints = get_type_hints(Conversation.replace_group)
    assert hints["verdict"] is Verdict


def test_what_the_table_refuses_replaces_nothing() -> None:
    for action in get_args(Action):
        verdict = Verdict("a row", action)
        assert verdict.lets_in == (action in ("ask", "enter", "beside", "follow", "resync"))
    assert OWN.lets_in


def test_the_page_shows_the_table_as_it_is() -> None:
    spec = importlib.util.spec_from_file_location("the_doors", ROOT / "scripts/doors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.build(), "run: scripts/doors.py"
