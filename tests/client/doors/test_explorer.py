"""No short story breaks an invariant; without any one row of the table some story does."""

import pytest

from securechat.client.doors.table import LATER, TABLE
from tests.client.doors.explorer import explore, shortest
from tests.client.doors.moves import Scenario
from tests.client.doors.person import Door, State
from tests.client.doors.scenarios import MEMBER_STOLEN, OWNER_STOLEN, REMOVED, SCENARIOS
from tests.client.doors.world import CAROL

DEPTH = 3
"""Moves in a row. `scripts/explore` goes deeper."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_no_story_breaks_an_invariant(scenario: Scenario) -> None:
    assert explore(scenario, depth=DEPTH).trace == ()


@pytest.mark.parametrize("name", [row.name for row in TABLE if row.name not in LATER])
def test_without_a_row_some_story_goes_wrong(name: str) -> None:
    assert shortest(tuple(row for row in TABLE if row.name != name), depth=DEPTH) is not None


def test_without_the_alarm_a_leaf_of_our_own_name_reads_unnamed() -> None:
    found = shortest(TABLE, depth=DEPTH, loud=False)
    assert found is not None
    assert "bob (B') reads #team and was never named" in found.trace[-1]


# --- what stays possible, and is said in docs/threat-model.md --------------------------------------------------------


def test_who_has_the_owners_signature_key_makes_a_checkpoint() -> None:
    assert explore(OWNER_STOLEN, depth=DEPTH, fair=0).trace == (
        "A commits without secrets on 0",
        "checkpoint of #team: 2 -> checkpoint",
        "I1: nobody with that right led bob to where he is in #team",
    )


def test_who_has_a_members_signature_key_gets_in_by_a_repair() -> None:
    assert explore(MEMBER_STOLEN, depth=DEPTH, fair=0).trace == (
        "D commits without secrets on 0",
        "commit of #team: 1 -> next commit",
        "public-walk of #team: 1 after /repair -> repair past a commit",
        "I1: nobody with that right led bob to where he is in #team",
    )


def test_an_inviter_whose_removal_is_withheld_adds_in_the_fork() -> None:
    def judge(before: State, door: Door | None, now: State, scenario: Scenario) -> str:
        del before, door, scenario
        here, real = now.world[now.convs[0].at], now.world[now.heads[0]]
        added = here.change == "add" and here.author == CAROL and CAROL not in real.members
        return "an inviter who was removed has added somebody" if added else ""

    assert explore(REMOVED, depth=DEPTH, fair=0, judge=judge).trace == (
        "C adds M on 0",
        "alice removes carol",
        "commit of #team: 1 -> next commit",
        "an inviter who was removed has added somebody",
    )
