"""The explorer: every story up to so many moves, the shortest first, and the first that breaks an invariant.

Read in this order: `world` (who there is, and what a group looks like from outside), `person` (bob, whose client asks
`decide` itself), `moves` (what everybody can do), `invariants` (what must hold after each move), `reunion` (people of
good will find together again), `scenarios` (where stories begin). `real` plays them again with real keys.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from securechat.client.doors.checks import Case, Check
from securechat.client.doors.facts import Known, Offered, Verdict
from securechat.client.doors.table import TABLE
from tests.client.doors.invariants import settled, violation
from tests.client.doors.moves import Move, Scenario, acts, making
from tests.client.doors.person import WHOLE, Door, Pins, State, Table
from tests.client.doors.reunion import unfair
from tests.client.doors.scenarios import SCENARIOS
from tests.client.doors.world import ALICE, Branch

Judge = Callable[[State, Door | None, State, Scenario], str]


class Found(NamedTuple):
    """What exploring one scenario brought."""

    scenario: str
    states: int
    trace: tuple[str, ...] = ()  # what happened, and at last what was wrong; empty: nothing was


class Node(NamedTuple):
    """A moment of some story. What the server forges it forges just before it is used: `forged` must be used next.

    `refused`: bob has just refused a key for good, which he does just before a Welcome comes that this is about.
    """

    state: State
    forged: Branch | None = None
    refused: bool = False


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let the collector look for no cycles: millions of tuples have none, and it takes a quarter of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@dataclass
class Exploration:
    """One scenario, explored breadth first, so that the first trace is a shortest one.

    `fair`: up to so many moves the twin is asked as well; later stories need not tell apart what only it asks for.
    `judge`: what says which move is a violation.
    """

    scenario: Scenario
    table: Table = WHOLE
    fair: int = 2
    judge: Judge = violation
    depth: int = 0
    came: dict[Node, Node | None] = field(default_factory=dict)  # from where
    trace: tuple[str, ...] = ()
    steps: int = 0  # moves that were judged
    _edge: list[Node] = field(default_factory=list)  # as far as it was explored: what somebody makes there is not yet
    _next: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = Node(self.scenario.start)
        self.came[start] = None
        self._next = [start]
        if problem := unfair(start.state, self.table, self.scenario.questions):
            self.trace = (problem,)

    @_uncollected()
    def deepen(self, *, last: bool = False) -> bool:
        """Explore stories that are one move longer. Whether all is well so far.

        `last`: none longer than these is explored, so where they lead need not be remembered.
        """
        edge, self._edge, self._next = self._edge, self._next, []
        for node in edge:  # what nobody saw in the last move of a story could break nothing
            if not node.refused and not self._go(
                node, making(node.state, self.scenario, node.forged), self._edge, self.depth
            ):
                return False
        self.depth += 1
        keep = not last or self.depth <= self.fair
        return all(self._go(node, self._acts(node), self._next, self.depth, keep=keep) for node in self._edge)

    def _acts(self, node: Node) -> Iterable[Move]:
        return acts(node.state, self.scenario, self.table, node.forged, welcomes=node.refused)

    def _go(self, node: Node, moves: Iterable[Move], to: list[Node], depth: int, *, keep: bool = True) -> bool:
        state, known = node.state, self.came
        for label, new, what in moves:
            self.steps += 1
            forged = what if isinstance(what, Branch) else None
            door = what if isinstance(what, Door) else None
            new = settled(state, door, new, self.scenario)
            if forged is None and (problem := self.judge(state, door, new, self.scenario)):
                self.trace = (*self._story(node), label, problem)
                return False
            if not keep:
                continue
            reached = self._reached(state, new, forged, depth)
            if reached in known or reached.state == state:
                continue
            known[reached] = node
            to.append(reached)
            if depth <= self.fair and forged is None and (problem := unfair(new, self.table, 1)):
                self.trace = (*self._story(node), label, problem)
                return False
        return True

    def _reached(self, state: State, new: State, forged: Branch | None, depth: int) -> Node:
        refused = len(new.pins.refused) > len(state.pins.refused) and ALICE.key not in new.pins.refused
        return Node(new if depth <= self.fair else _forgetting(new), forged, refused)

    def _story(self, node: Node) -> tuple[str, ...]:
        """What happened up to a moment."""
        before = self.came[node]
        if before is None:
            return ()
        for moves in (making(before.state, self.scenario, before.forged), self._acts(before)):
            for label, new, what in moves:
                forged = what if isinstance(what, Branch) else None
                door = what if isinstance(what, Door) else None
                new = settled(before.state, door, new, self.scenario)
                if node in (self._reached(before.state, new, forged, depth) for depth in (0, self.depth + self.fair)):
                    return (*self._story(before), label)
        raise AssertionError("no move leads there")


def _forgetting(state: State) -> State:
    """A state without what the twin alone asks for."""
    if all(conv.kept is None and not conv.told for conv in state.convs):
        return state
    return state._replace(convs=tuple(conv._replace(kept=None, told="") for conv in state.convs))


def explore(scenario: Scenario, table: Table = WHOLE, *, depth: int, fair: int = 2, judge: Judge = violation) -> Found:
    """Explore one scenario up to so many moves."""
    exploration = Exploration(scenario, table, fair, judge)
    while not exploration.trace and exploration.depth < depth:
        exploration.deepen(last=exploration.depth + 1 == depth)
    return Found(scenario.name, len(exploration.came), exploration.trace)


def shortest(table: Table, *, depth: int, scenarios: Iterable[Scenario] = SCENARIOS) -> Found | None:
    """The shortest story that goes wrong with another table."""
    explorations = [Exploration(scenario, table) for scenario in scenarios]
    for moves in range(1, depth + 1):
        for each in explorations:
            if each.trace or not each.deepen(last=moves == depth):
                return Found(each.scenario.name, len(each.came), each.trace)
    return None


def deciding(depth: int, scenarios: Iterable[Scenario] = SCENARIOS) -> dict[tuple[str, Check], list[Scenario]]:
    """The checks that refuse something alone, by the names of their rows: in which stories they do up to so many moves.

    Without any other one all these stories go just as with it, as another check of its row refuses the same.
    """
    alone: dict[tuple[str, Check], list[Scenario]] = {}

    class Watched(Table):
        def decide(self, known: Known, offered: Offered, pins: Pins, now: int) -> Verdict:
            case = Case(known, offered, pins, now)
            row = next((each for each in self.rows if each.takes(case)), None)
            failing = [check for check in row.checks if not check.holds(case)] if row is not None else []
            if row is not None and len(failing) == 1:
                stories = alone.setdefault((row.name, failing[0]), [])
                if scenario not in stories:
                    stories.append(scenario)
            return super().decide(known, offered, pins, now)

    for scenario in scenarios:
        explore(scenario, Watched(), depth=depth, fair=0)
    return alone


def without(check: Check, row: str = "") -> Table:
    """The table without one of its checks, in one row or in all."""
    return Table(
        tuple(
            replace(each, checks=tuple(one for one in each.checks if one is not check))
            if row in ("", each.name)
            else each
            for each in TABLE
        )
    )
