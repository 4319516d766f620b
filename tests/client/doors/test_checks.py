"""Without one check of one row, or without what it says or lets wait, the story named beside it goes wrong.

Every check is looked at: one that refuses nothing alone in all stories of three moves is the second of two locks, which
no story can show, and `BESIDE` has those that refuse something alone, of which nothing would go wrong so soon.
`scripts/explore --checks` looks further.
"""

from dataclasses import replace

import pytest

from securechat.client.doors import checks
from securechat.client.doors.checks import Check
from securechat.client.doors.table import TABLE
from tests.client.doors.explorer import deciding, explore, without
from tests.client.doors.person import Table
from tests.client.doors.scenarios import SCENARIOS

OUTSIDE, REVOKED = "bob is not in the room yet", "with the vault that alice has revoked"
LINE, GONE = "bob has a line of alice's", "bob was away for 200 days"
CHECKS: dict[str, dict[Check, str]] = {
    "invitation": {
        checks.SOUND: OUTSIDE, checks.IN_FORCE: REVOKED, checks.FITS: REVOKED, checks.BY_INVITER: REVOKED,
        checks.IN_TIME: OUTSIDE,
    },
    "invitation of a stranger": {checks.FITS: OUTSIDE, checks.IN_TIME: "bob knows nobody"},
    "invite line": {checks.NOBODY_AGAINST: LINE, checks.IN_TIME: LINE, checks.BY_LINE: LINE},
    "invitation renewed": {
        checks.SOUND: "bob was invited", checks.FITS: "bob was invited", checks.IN_TIME: "bob was invited",
    },
    "direct beside direct": {checks.IN_FORCE: f"{REVOKED}, beside bob"},
    "next commit": {checks.SOUND: "with dave, a member"},
    "walk": {checks.SOUND: "with dave, a member", checks.FOLLOWS: "bob was away"},
    "checkpoint": {
        checks.ANCHORED: f"with dave, {GONE}", checks.IN_FORCE: f"with the key that alice had before, {GONE}",
        checks.LONG_AWAY: "with alice's key, handshakes are lost", checks.NOT_BACK: "bob was away",
    },
    "invited back": {
        checks.SOUND: "alice has not committed for 200 days",
        checks.BY_INVITER: f"with dave's key, {GONE}", checks.BY_ANCHOR: GONE,
        checks.IN_TIME: "the server has lost handshakes",
    },
    "keepsake": {checks.ANCHORED: "bob has recovered, with dave"},
    "old copy": {checks.FOLLOWS: "a vault of yesterday"},
    "own commit": {
        checks.FOLLOWS: "a vault from before a commit", checks.OURS: "a vault from before a commit",
        checks.STEPS_IN_FORCE: "with dave's old key, a vault from before a commit",
    },
    "repair past a commit": {
        checks.SOUND: "with dave, who has left",
        checks.BY_HAND: "a commit cannot be processed", checks.FOLLOWS: "a commit cannot be processed",
        checks.OURS: "a commit cannot be processed", checks.STEPS_IN_FORCE: "with the key that dave had long ago",
    },
    "repair of the history": {
        checks.BY_HAND: "a message shows another history", checks.FOLLOWS: "a message shows another history",
    },
    "back after leaving": {
        checks.SOUND: "bob has left the room",
        checks.FITS: "bob has left where he was invited to", checks.NOT_BACK: "bob has left where he was invited to",
        checks.IN_TIME: "bob has left where he was invited to",
    },
    "open room": {
        checks.MEANT: "bob enters an open room", checks.NOT_BELOW: "200 days away from an open room",
    },
    "same name": {checks.FITS: "a room", checks.BY_INVITER: "with dave's vault, in #team"},
}  # fmt: skip

BESIDE: dict[str, tuple[Check, ...]] = {
    "back after leaving": (checks.NOBODY_AGAINST,),
    "checkpoint": (checks.OURS,),
    "direct beside direct": (checks.SOUND,),
    "direct by a known key": (checks.SOUND,),
    "direct request": (checks.SOUND,),
    "direct under another key": (checks.SOUND,),
    "invitation of a stranger": (checks.NOBODY_AGAINST, checks.BY_INVITER, checks.SOUND),
    "invitation renewed": (checks.NOBODY_AGAINST, checks.BY_INVITER),
    "invite line": (checks.FITS, checks.SOUND),
    "invited back": (checks.FITS, checks.NOBODY_AGAINST),
    "lost race": (checks.SOUND,),
    "lost race to another key": (checks.SOUND,),
    "old copy": (checks.SOUND,),
    "open room after a gap": (checks.NOT_BELOW,),
    "open room past a commit": (checks.FOLLOWS,),
    "repair of the history": (checks.SOUND,),
    "same name": (checks.NOBODY_AGAINST,),
    "same open name": (checks.MEANT,),
}  # fmt: skip
"""What refuses something alone, and without which no story of three moves goes wrong: the user's answer, a pin, the
engine or the server's own interest is in the way as well."""

SILENT = {
    "invitation": OUTSIDE, "invitation of a stranger": OUTSIDE, "invite line": LINE, "direct beside direct":
    "alice has a new key", "invitation renewed": "bob was invited", "next commit": "an open room",
    "walk": "an open room", "own commit": "with bob's vault, in #team",
    "direct request": "bob has no conversation with alice", "lost race to another key": "bob opens with a false key",
    "nothing left": "alice has not committed for 200 days",
}  # fmt: skip
"""Rows of which the user has to be told: nobody reads who was not named, and who is not told does not decide."""

WAITING = {"walk": "with the key that dave had long ago", "checkpoint": f"with carol, {GONE}"}
"""Rows that let lines wait; elsewhere, by these stories, pins or the question hold what this would."""


def violation(story: str, table: Table) -> str:
    (scenario,) = (each for each in SCENARIOS if each.name == story)
    trace = explore(scenario, table, depth=3).trace
    return trace[-1] if trace else ""


@pytest.mark.parametrize(
    ("row", "check", "story"), [(row, *each) for row, checked in CHECKS.items() for each in checked.items()]
)
def test_without_a_check_some_story_goes_wrong(row: str, check: Check, story: str) -> None:
    assert check in next(each for each in TABLE if each.name == row).checks
    assert violation(story, without(check, row))


def test_every_check_has_its_story_or_is_the_second_of_two_locks() -> None:
    alone = deciding(3)
    shown = {(row, check) for row, checked in CHECKS.items() for check in checked}
    beside = {(row, check) for row, checked in BESIDE.items() for check in checked}
    every = {(row.name, check) for row in TABLE for check in row.checks}
    assert shown | beside <= every
    assert {(row, check.words) for row, check in alone.keys() - shown} == {(row, check.words) for row, check in beside}
    assert not beside & shown


@pytest.mark.parametrize(("row", "story"), SILENT.items())
def test_without_being_told_the_user_is_read_by_somebody_unnamed(row: str, story: str) -> None:
    silent = tuple(replace(each, told="") if each.name == row else each for each in TABLE)
    assert violation(story, Table(silent))


@pytest.mark.parametrize(("row", "story"), WAITING.items())
def test_without_waiting_a_line_is_read_by_somebody_who_came_later(row: str, story: str) -> None:
    hasty = tuple(replace(each, waits="nothing") if each.name == row else each for each in TABLE)
    assert violation(story, Table(hasty)).startswith("I3")
