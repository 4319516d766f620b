"""No short story breaks an invariant; without any one row of the table some story does."""

import pytest

from securechat.client.doors.table import LATER, TABLE
from tests.client.doors.explorer import explore, shortest
from tests.client.doors.moves import Scenario
from tests.client.doors.person import Door, State, Table
from tests.client.doors.real import replay
from tests.client.doors.scenarios import MEMBER_STOLEN, OWNER_STOLEN, REMOVED, SCENARIOS
from tests.client.doors.world import CAROL

DEPTH = 3
"""Moves in a row. `scripts/explore` goes deeper."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_story_breaks_an_invariant(scenario: Scenario) -> None:
    assert explore(scenario, depth=DEPTH).trace == ()


def play(scenario: Scenario, trace: tuple[str, ...], table: Table = TABLE) -> None:
    """Play a story with real keys, up to what was wrong in it."""
    left = list(trace[:-1])

    def choose(labels: list[str]) -> int:
        return labels.index(left.pop(0)) if left else -1

    replay(scenario, choose, table)


@pytest.mark.parametrize("name", [row.name for row in TABLE if row.name not in LATER])
def test_without_a_row_some_story_goes_wrong(name: str) -> None:
    table = tuple(row for row in TABLE if row.name != name)
    found = shortest(table, depth=DEPTH)
    assert found is not None
    play(next(each for each in SCENARIOS if each.name == found.scenario), found.trace, table)


def test_without_the_alarm_another_key_takes_our_place_unseen() -> None:
    found = shortest(TABLE, depth=DEPTH, loud=False)
    assert found is not None
    assert found.trace[-1] == "I3: another key has come under bob's own name, and he was not alarmed"


# --- what stays possible, and is said in docs/threat-model.md --------------------------------------------------------


def test_who_has_the_owners_signature_key_makes_a_checkpoint() -> None:
    trace = explore(OWNER_STOLEN, depth=DEPTH, fair=0).trace
    assert trace == (
        "A commits without secrets on 0",
        "checkpoint of #team: 2 -> checkpoint",
        "I1: nobody with that right led bob to where he is in #team",
    )
    play(OWNER_STOLEN, trace)


def test_who_has_a_members_signature_key_gets_in_by_a_repair() -> None:
    trace = explore(MEMBER_STOLEN, depth=DEPTH, fair=0).trace
    assert trace == (
        "D commits without secrets on 0",
        "commit of #team: 1 -> next commit",
        "public-walk of #team: 1 after /repair -> repair past a commit",
        "I1: nobody with that right led bob to where he is in #team",
    )
    play(MEMBER_STOLEN, trace)


def test_an_inviter_whose_removal_is_withheld_adds_in_the_fork() -> None:
    def judge(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
        del before, door, scenario
        here, real = now.world[now.convs[0].at], now.world[now.heads[0]]
        added = here.change == "add" and here.author == CAROL and CAROL not in real.members
        return "an inviter who was removed has added somebody" if added else ""

    trace = explore(REMOVED, depth=DEPTH, fair=0, judge=judge).trace
    assert trace == (
        "C adds M on 0",
        "alice removes carol",
        "commit of #team: 1 -> next commit",
        "an inviter who was removed has added somebody",
    )
    play(REMOVED, trace)
