"""What connections cost that do nothing: memory of their own, and time of those who talk."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from scripts.benchmarks.contest import OURS, Contest, Maker, Run, durable, each_alone, losses, medians, running
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.floor import Floor
from scripts.benchmarks.systems.packaged import Packaged
from scripts.benchmarks.systems.system import Client, System
from scripts.benchmarks.work import workloads
from scripts.benchmarks.work.login import AT_ONCE
from scripts.benchmarks.work.relay import PAIRS

WARM = 100  # connections before the first that counts: what every server needs once is not theirs
CROWDS = (1_000, 5_000)
GOAL = 25  # KiB each, at the largest
OTHERS = (0, 2_000, 5_000)  # idle connections beside those who talk
SLOPE = 1.1  # what a message costs beside others, to what it costs beside none: no more than noise


def idle(run: Run) -> Iterator[Figure]:
    """Memory for each connection; then the cost of a message on like servers with and without others, in turns."""
    yield from each_alone(_memory, Floor, durable, *run.peers)
    makers: tuple[Maker, ...] = (Floor, durable)
    for make in makers:
        with running(*[make] * len(OTHERS)) as systems:
            yield from _slope(systems, run.rounds)


def _memory(system: System) -> Iterator[Figure]:
    _fill(system, WARM)
    before, there = system.process.rss(), 0
    for count in CROWDS[:1] if isinstance(system, Packaged) else CROWDS:
        _fill(system, count - there)
        there = count
        goal = GOAL if system.name == OURS and count == CROWDS[-1] else None
        each = (system.process.rss() - before) / count
        yield Figure(f"{count:,} connections", "RSS per idle connection", each, "KiB", goal=goal, system=system.name)


def _slope(systems: list[System], rounds: int) -> Iterator[Figure]:
    others = dict(zip(systems, OTHERS, strict=True))

    def connect(system: System) -> list[tuple[Client, Client]]:
        _fill(system, others[system])
        return system.pairs(PAIRS)

    results = Contest(systems, connect, rounds).results(workloads.bursts)
    costs = medians(results, lambda cost: cost.cpu_each)
    alone = costs[systems[0]]
    for system, cost in costs.items():
        count = others[system]
        yield Figure(
            f"bursts beside {count:,} idle", "server CPU per delivered message", cost, "µs", alone if count else None,
            SLOPE if count and system.name == OURS else None, system=system.name, note=losses(results).get(system, ""),
        )  # fmt: skip


def _fill(system: System, count: int) -> None:
    system.keep_alive()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(system.newcomer().log_in) for _ in range(count)]:
            done.result()
