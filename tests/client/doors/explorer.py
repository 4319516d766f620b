"""The explorer: every story up to so many moves, the shortest first, and the first that breaks an invariant.

Read in this order: `world` (who there is, and what a group looks like from outside), `person` (bob, whose client asks
`decide` itself), `moves` (what everybody can do), `invariants` (what must hold after each move), `reunion` (people of
good will find together again), `scenarios` (where stories begin). `real` plays them again with real keys.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from securechat.client.doors import checks
from securechat.client.doors.table import TABLE
from tests.client.doors.invariants import violation
from tests.client.doors.moves import Scenario, moves
from tests.client.doors.person import Door, State, Table
from tests.client.doors.reunion import unfair
from tests.client.doors.scenarios import SCENARIOS

Judge = Callable[[State, Door | None, State, Scenario], str]


class Found(NamedTuple):
    """What exploring one scenario brought."""

    scenario: str
    states: int
    trace: tuple[str, ...] = ()  # what happened, and at last what was wrong; empty: nothing was


def explore(
    scenario: Scenario,
    table: Table = TABLE,
    *,
    depth: int,
    fair: int = 2,
    loud: bool = True,
    judge: Judge = violation,
    most: int = 1_000_000,
) -> Found:
    """Explore breadth first, so the trace is a shortest one.

    `fair`: up to so many moves the twin is asked as well. `loud`: whether leaves of bob's own name raise an alarm.
    `judge`: what says which move is a violation. `most`: how many states, at most.
    """
    if problem := unfair(scenario.start, table, scenario.questions):
        return Found(scenario.name, 1, (problem,))
    seen: set[State] = {scenario.start}
    todo: deque[tuple[State, tuple[str, ...]]] = deque([(scenario.start, ())])
    while todo and len(seen) < most:
        state, trace = todo.popleft()
        for label, new, door in moves(state, scenario, table, loud=loud):
            if problem := judge(state, door, new, scenario):
                return Found(scenario.name, len(seen), (*trace, label, problem))
            if new in seen:
                continue
            seen.add(new)
            if len(trace) < fair and (problem := unfair(new, table, 1)):
                return Found(scenario.name, len(seen), (*trace, label, problem))
            if len(trace) + 1 < depth:
                todo.append((new, (*trace, label)))
    return Found(scenario.name, len(seen))


def shortest(table: Table, *, depth: int, loud: bool = True) -> Found | None:
    """The shortest story that goes wrong with another table."""
    for so_far in range(1, depth + 1):
        for scenario in SCENARIOS:
            found = explore(scenario, table, depth=so_far, loud=loud)
            if found.trace:
                return found
    return None


def without(check: checks.Check) -> Table:
    """The table without one of its checks."""
    return tuple(replace(row, checks=tuple(each for each in row.checks if each is not check)) for row in TABLE)
