"""What relaying a message costs, beside the floor: the least that a relay in Python does (`floor.py`).

The systems take turns at the same work, several rounds of it, and the median counts: so what else the machine does
hits all of them alike.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import workloads
from figure import Figure
from floor_system import Floor
from securechat_system import SecureChat
from systems import System
from workloads import Cost

PAIRS = 50
ROOM = 100  # members
ROUNDS = 3

CPU = "server CPU per delivered message"


@contextlib.contextmanager
def bench_folder() -> Iterator[tuple[Path, Path]]:
    """A folder for a bench, and in it one with certificates."""
    with tempfile.TemporaryDirectory(prefix="securechat-bench-") as name:
        folder = Path(name)
        program = str(Path(sys.executable).with_name("securechat"))
        certs = folder / "certs"
        subprocess.run([program, "gen-certs", "--out", str(certs)], check=True, stdout=subprocess.DEVNULL)
        yield folder, certs


@contextlib.contextmanager
def running(*make: Callable[[Path, Path], System]) -> Iterator[list[System]]:
    """Start these systems, each in a folder of its own."""
    with bench_folder() as (folder, certs), contextlib.ExitStack() as started:
        systems = []
        for number, start in enumerate(make):
            own = folder / str(number)
            own.mkdir()
            systems.append(start(own, certs))
            started.callback(systems[-1].stop)
        yield systems


def durable(folder: Path, certs: Path) -> SecureChat:
    """The server as it is meant to be: `Accepted` after fsync."""
    return SecureChat(folder, certs)


def in_memory(folder: Path, certs: Path) -> SecureChat:
    """The server without fsync, for comparison."""
    return SecureChat(folder, certs, "memory")


def in_turns(works: list[Callable[[], Cost]]) -> list[list[Cost]]:
    """Do each work once a round; return each one's costs."""
    rounds = [[work() for work in works] for _ in range(ROUNDS)]
    return [list(costs) for costs in zip(*rounds, strict=True)]


def cpu_each(costs: list[Cost]) -> float:
    """µs of server CPU per delivered message."""
    return statistics.median(cost.cpu_each for cost in costs)


def rate(costs: list[Cost]) -> float:
    """Delivered messages per second."""
    return statistics.median(cost.delivered / cost.seconds for cost in costs)


def latency(costs: list[Cost], share: float) -> float:
    """µs within which this share of the messages arrived."""
    return statistics.median(cost.latency(share) for cost in costs)


def relay(*systems: Callable[[Path, Path], System]) -> Iterator[Figure]:
    """50 pairs: pipelined, lone messages in bursts, and evenly at a fixed rate; 256-byte payloads over TLS 1.3."""
    with running(Floor, *(systems or (durable, in_memory))) as running_systems:
        pairs = [(system, system.pairs(PAIRS)) for system in running_systems]
        goals = {"pipelined": (1.0, 0.75), "bursts": (4.0, 3.5)}
        for title, work, goal in (
            (f"{PAIRS} pairs, {workloads.OUTSTANDING} outstanding", workloads.pipelined, goals["pipelined"]),
            (f"{PAIRS} pairs, lone messages in bursts", workloads.bursts, goals["bursts"]),
        ):
            floor, *others = in_turns([lambda s=s, p=p, w=work: w(s, p) for s, p in pairs])
            yield Figure(f"floor: {title}", CPU, cpu_each(floor), "µs")
            yield Figure(f"floor: {title}", "delivered", rate(floor), "1/s")
            for (system, _), costs in zip(pairs[1:], others, strict=True):
                ours = system.name == "securechat"
                held = goal[1] if ours else None
                yield Figure(f"{system.name}: {title}", CPU, cpu_each(costs), "µs", cpu_each(floor), held)
                yield Figure(f"{system.name}: {title}", "delivered", rate(costs), "1/s", rate(floor))
        floor, *others = in_turns([lambda s=s, p=p: workloads.steady(s, p) for s, p in pairs])
        title = f"{workloads.RATE} messages/s"
        limits = {"securechat": (500, 2000), "securechat, durability memory": (200, 600)}
        for share in (0, 1):
            metric = ("latency p50", "latency p99")[share]
            at = (0.5, 0.99)[share]
            yield Figure(f"floor: {title}", metric, latency(floor, at), "µs")
            for (system, _), costs in zip(pairs[1:], others, strict=True):
                goal_at = limits[system.name][share] if system.name in limits else None
                yield Figure(f"{system.name}: {title}", metric, latency(costs, at), "µs", goal=goal_at)


def fan_out(*systems: Callable[[Path, Path], System]) -> Iterator[Figure]:
    """One room of 100: one member speaks, all others get it."""
    with running(Floor, *(systems or (durable, in_memory))) as running_systems:
        rooms = [(system, system.room(ROOM)) for system in running_systems]
        for outstanding in (1, workloads.OUTSTANDING):
            title = f"room of {ROOM}, {outstanding} outstanding"
            floor, *others = in_turns([lambda s=s, r=r, o=outstanding: workloads.room(s, r, o) for s, r in rooms])
            yield Figure(f"floor: {title}", CPU, cpu_each(floor), "µs")
            for (system, _), costs in zip(rooms[1:], others, strict=True):
                goal = 0.7 if system.name == "securechat" else None
                yield Figure(f"{system.name}: {title}", CPU, cpu_each(costs), "µs", cpu_each(floor), goal)
                yield Figure(f"{system.name}: {title}", "delivered", rate(costs), "1/s", rate(floor))
