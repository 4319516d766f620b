"""What relaying a message costs, beside the floor (`floor_server.py`) and the servers of others that are installed."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from scripts.benchmarks.contest import OURS, Contest, Run, durable, figures, in_memory, losses, medians, running
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.floor import Floor
from scripts.benchmarks.systems.system import System
from scripts.benchmarks.work import workloads
from scripts.benchmarks.work.workloads import Cost

PAIRS = 50
ROOM = 100  # members
PAGE = 4096  # bytes
SYNCS = 500


def relay(run: Run) -> Iterator[Figure]:
    """50 pairs: pipelined, lone messages in bursts, and evenly at a fixed rate; 256-byte payloads over TLS 1.3."""
    with running(Floor, durable, in_memory, *run.peers) as systems:
        yield from relayed(systems, run.rounds)


def relayed(systems: Sequence[System], rounds: int) -> Iterator[Figure]:
    """The work of `relay` with these systems."""
    contest = Contest(systems, lambda system: system.pairs(PAIRS), rounds)
    for case, work, goal in (
        (f"{PAIRS} pairs, {workloads.OUTSTANDING} outstanding", workloads.pipelined, 0.75),
        (f"{PAIRS} pairs, lone messages in bursts", workloads.bursts, 3.5),
    ):
        yield from _costs(case, contest.results(work), goal)
    case = f"{workloads.RATE} messages/s"
    results = contest.results(workloads.steady)
    notes = losses(results)
    yield from _cpu(case, results, notes, None)
    disk = f"`fdatasync` of a page took {_sync_time():.0f} µs on this disk"
    notes |= {system: disk for system in results if system.name == OURS}
    in_memory_name = f"{OURS}, durability memory"
    goals = {50: {OURS: 500, in_memory_name: 200}, 99: {OURS: 2000, in_memory_name: 600}}
    yield from _latencies(case, results, notes, goals)


def _sync_time() -> float:
    """µs, the median, that the disk takes to keep a page of a file which is as long as it will be.

    That is what a turn waits for, as a write-ahead log is written again from its beginning.
    """
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter
    times = []
    with tempfile.TemporaryFile() as file:
        os.pwrite(file.fileno(), bytes(SYNCS * PAGE), 0)
        os.fsync(file.fileno())
        for number in range(SYNCS):
            os.pwrite(file.fileno(), os.urandom(PAGE), number * PAGE)
            began = time.perf_counter()
            sync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def fan_out(run: Run) -> Iterator[Figure]:
    """One room of 100: one member speaks, all others get it."""
    with running(Floor, durable, in_memory, *run.peers) as systems:
        yield from fanned_out(systems, run.rounds)


def fanned_out(systems: Sequence[System], rounds: int) -> Iterator[Figure]:
    """The work of `fan_out` with these systems."""
    contest = Contest(systems, lambda system: system.room(ROOM), rounds)
    for outstanding in (1, workloads.OUTSTANDING):
        results = contest.results(partial(workloads.room, outstanding=outstanding))
        yield from _costs(f"room of {ROOM}, {outstanding} outstanding", results, 0.7)


def _costs(case: str, results: dict[System, list[Cost]], goal: float) -> Iterator[Figure]:
    notes = losses(results)
    yield from _cpu(case, results, notes, goal)
    rate = medians(results, lambda cost: cost.delivered / cost.seconds)
    yield from figures(case, "delivered", "1/s", rate, notes=notes)
    yield from _latencies(case, results, notes, {})


def _cpu(
    case: str, results: dict[System, list[Cost]], notes: dict[System, str], goal: float | None
) -> Iterator[Figure]:
    cpu = medians(results, lambda cost: cost.cpu_each)
    goals = {OURS: goal} if goal is not None else {}
    yield from figures(case, "server CPU per delivered message", "µs", cpu, goals, notes)


def _latencies(
    case: str, results: dict[System, list[Cost]], notes: dict[System, str], goals: Mapping[int, Mapping[str, float]]
) -> Iterator[Figure]:
    """`goals`: by percentile, of systems by name."""
    for percent in (50, 99):
        latencies = medians(results, partial(Cost.latency, percent=percent))
        yield from figures(case, f"latency p{percent}", "µs", latencies, goals.get(percent), notes, absolute=True)
