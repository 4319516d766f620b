"""What relaying a message costs, beside the floor (`floor.py`) and the servers of others that are installed."""

from collections.abc import Iterator
from functools import partial

import workloads
from contest import OURS, Contest, Run, durable, figures, in_memory, losses, medians, running
from figure import Figure
from floor_system import Floor
from systems import System
from workloads import Cost

PAIRS = 50
ROOM = 100  # members


def relay(run: Run) -> Iterator[Figure]:
    """50 pairs: pipelined, lone messages in bursts, and evenly at a fixed rate; 256-byte payloads over TLS 1.3."""
    with running(Floor, durable, in_memory, *run.peers) as systems:
        contest = Contest(systems, lambda system: system.pairs(PAIRS), run.rounds)
        for case, work, goal in (
            (f"{PAIRS} pairs, {workloads.OUTSTANDING} outstanding", workloads.pipelined, 0.75),
            (f"{PAIRS} pairs, lone messages in bursts", workloads.bursts, 3.5),
        ):
            yield from _costs(case, contest.results(work), goal)
        results = contest.results(workloads.steady)
        for percent, ours, ours_in_memory in ((50, 500, 200), (99, 2000, 600)):
            latencies = medians(results, partial(Cost.latency, percent=percent))
            yield from figures(
                f"{workloads.RATE} messages/s", f"latency p{percent}", "µs", latencies,
                {OURS: ours, f"{OURS}, durability memory": ours_in_memory}, losses(results), absolute=True,
            )  # fmt: skip


def fan_out(run: Run) -> Iterator[Figure]:
    """One room of 100: one member speaks, all others get it."""
    with running(Floor, durable, in_memory, *run.peers) as systems:
        contest = Contest(systems, lambda system: system.room(ROOM), run.rounds)
        for outstanding in (1, workloads.OUTSTANDING):
            results = contest.results(partial(workloads.room, outstanding=outstanding))
            yield from _costs(f"room of {ROOM}, {outstanding} outstanding", results, 0.7)


def _costs(case: str, results: dict[System, list[Cost]], goal: float) -> Iterator[Figure]:
    notes = losses(results)
    cpu = medians(results, lambda cost: cost.cpu_each)
    yield from figures(case, "server CPU per delivered message", "µs", cpu, {OURS: goal}, notes)
    rate = medians(results, lambda cost: cost.delivered / cost.seconds)
    yield from figures(case, "delivered", "1/s", rate, notes=notes)
