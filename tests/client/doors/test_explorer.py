"""No short story breaks an invariant; without any one row of the table some story does."""

import pytest

from securechat.client.doors.table import TABLE
from tests.client.doors.explorer import Exploration, explore, shortest
from tests.client.doors.moves import Scenario
from tests.client.doors.person import WHOLE, Door, State, Table, Without
from tests.client.doors.real import replay
from tests.client.doors.scenarios import MEMBER_STOLEN, OWNER_STOLEN, REMOVED, ROOM, SCENARIOS
from tests.client.doors.world import CAROL, path

DEPTH = 4
"""Moves in a row. `scripts/explore` goes deeper."""

FURTHER = 5_000
"""Moves that were judged: where so few are all that there is so far, one more in a row is a matter of a second."""

DEEPEST = 8


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_story_breaks_an_invariant(scenario: Scenario) -> None:
    exploration = Exploration(scenario)
    while exploration.depth < DEPTH or (exploration.steps < FURTHER and exploration.depth < DEEPEST):
        assert exploration.deepen(), exploration.trace
    assert exploration.trace == ()


def play(scenario: Scenario, trace: tuple[str, ...], table: Table = WHOLE) -> None:
    """Play a story with real keys, up to what was wrong in it."""
    left = list(trace[:-1])

    def choose(labels: list[str]) -> int:
        return labels.index(left.pop(0)) if left else -1

    replay(scenario, choose, table)


@pytest.mark.parametrize("name", [row.name for row in TABLE])
def test_without_a_row_some_story_goes_wrong(name: str) -> None:
    table = Table(tuple(row for row in TABLE if row.name != name))
    found = shortest(table, depth=DEPTH)
    assert found is not None
    play(next(each for each in SCENARIOS if each.name == found.scenario), found.trace, table)


@pytest.mark.parametrize(
    ("without", "story", "wrong"),
    [
        ("alarm", "an open room", "I3: another key has come under bob's own name, and he was not alarmed"),
        (
            "re-entries",
            "with dave's vault, in #team",
            "I3: a thief of dave's keys has come into #team, and bob was not told",
        ),
        (
            "dating",
            "with the key that dave had long ago",
            "I3: a thief with an old key of dave reads a line that was typed in #team before",
        ),
        (
            "rotating first",
            "a vault from before a rotation",
            "TWIN: nothing leads bob from old-copy-commit back to alice in #team",
        ),
        (
            "giving way",
            "with dave's key, which he renews",
            "I1: nobody with that right led bob to where he is in #team",
        ),
        (
            "seeing chains",
            "with the key that alice had before, bob was away for 200 days",
            "I1: nobody with that right led bob to where he is in #team",
        ),
        ("succession", "alice has named a successor", "TWIN: alice: 1 questions"),
        (
            "comparing again",
            "alice names a successor of a key that bob has compared",
            "I3: what bob had compared has become another key without his seeing it",
        ),
        (
            "doubting",
            "with alice's password, in a direct conversation",
            "I3: two hold the key of alice that bob's line goes to, and he was not asked to see that",
        ),
        (
            "contesting",
            "a thief has named a successor of alice's key",
            "I1: bob's line is read by a key of alice that the one before it denies",
        ),
    ],
)
def test_without_a_rule_some_story_goes_wrong(without: Without, story: str, wrong: str) -> None:
    (scenario,) = (each for each in SCENARIOS if each.name == story)
    trace = explore(scenario, Table(without=without), depth=DEPTH).trace
    assert trace
    assert trace[-1] == wrong


# --- what stays possible, and is said in docs/threat-model.md --------------------------------------------------------


def test_who_has_the_owners_signature_key_makes_a_checkpoint() -> None:
    trace = explore(OWNER_STOLEN, depth=DEPTH, fair=0).trace
    assert trace == (
        f"the server copies {ROOM}, signed by A",
        "checkpoint of #team: R4 (ABCD): A adds B, A stolen -> checkpoint",
        "I1: nobody with that right led bob to where he is in #team",
    )
    play(OWNER_STOLEN, trace)


def test_who_has_a_members_signature_key_gets_in_by_a_repair() -> None:
    trace = explore(MEMBER_STOLEN, depth=DEPTH, fair=0).trace
    assert trace == (
        f"D commits without secrets on {ROOM}",
        f"commit of #team: {ROOM}, D paths without secrets -> next commit",
        f"public-walk of #team: {ROOM}, D paths without secrets after /repair -> repair past a commit",
        "I1: nobody with that right led bob to where he is in #team",
    )
    play(MEMBER_STOLEN, trace)


def test_an_inviter_whose_removal_is_withheld_adds_in_the_fork() -> None:
    def judge(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
        del before, door, scenario
        here, real = now.convs[0].at, now.heads[0]
        assert here is not None
        assert real is not None
        added = here.change == "add" and here.author == CAROL
        added = added and CAROL not in real.members and path(here, real) is None
        return "an inviter who was removed has added somebody" if added else ""

    trace = explore(REMOVED, depth=DEPTH, fair=0, judge=judge).trace
    assert trace == (
        "alice removes carol",
        f"C adds M on {ROOM}",
        f"commit of #team: {ROOM}, C adds M -> next commit",
        "an inviter who was removed has added somebody",
    )
    play(REMOVED, trace)
