"""Several systems do the same work in one run: they take turns, and the median of the rounds counts.

So whatever else the machine does hits all of them alike. The first one is the floor, with which the others are
compared. A foreign server that fails is named and left out; ours must not fail.
"""

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.floor import Floor
from scripts.benchmarks.systems.packaged import Packaged
from scripts.benchmarks.systems.securechat import PROGRAM, SecureChat
from scripts.benchmarks.systems.system import ServerFailedError, System
from scripts.benchmarks.work.workloads import Cost

Maker = Callable[[Path, Path], System]
"""Starts a system with a folder of its own and the folder of the certificates."""

T = TypeVar("T")
C = TypeVar("C")

OURS = "securechat"


@dataclass(frozen=True)
class Run:
    """The user's choices."""

    rounds: int = 3
    peers: Sequence[type[Packaged]] = ()
    short: bool = False


def durable(folder: Path, certs: Path) -> SecureChat:
    """The server as it is meant to run: `Accepted` after fsync."""
    return SecureChat(folder, certs)


def in_memory(folder: Path, certs: Path) -> SecureChat:
    """The server without fsync, for comparison."""
    return SecureChat(folder, certs, "memory", name=f"{OURS}, durability memory")


@contextlib.contextmanager
def bench_folder() -> Iterator[tuple[Path, Path]]:
    """A folder for a bench, and in it one with certificates."""
    with tempfile.TemporaryDirectory(prefix="securechat-bench-") as name:
        certs = Path(name) / "certs"
        subprocess.run([str(PROGRAM), "gen-certs", "--out", str(certs)], check=True, stdout=subprocess.DEVNULL)
        yield Path(name), certs


@contextlib.contextmanager
def running(*makers: Maker) -> Iterator[list[System]]:
    """Start these systems, each in a folder of its own."""
    with bench_folder() as (folder, certs), contextlib.ExitStack() as started:
        systems = []
        for number, make in enumerate(makers):
            own = folder / str(number)
            own.mkdir()
            try:
                system = make(own, certs)
            except ServerFailedError as error:
                _excuse(make, error)
                continue
            started.callback(system.stop)
            systems.append(system)
        yield systems


def _excuse(server: System | Maker, error: ServerFailedError) -> None:
    """Name a foreign server that has failed, and go on without it. Ours must not fail."""
    if not isinstance(server, Packaged) and not (isinstance(server, type) and issubclass(server, Packaged)):
        raise error
    print(f"left out: {error}", file=sys.stderr)


def each_alone(measure: Callable[[System], Iterable[Figure]], *makers: Maker) -> Iterator[Figure]:
    """Start each of these systems once the previous one has ended, and measure it."""
    for make in makers:
        with running(make) as systems:
            for system in systems:
                try:
                    yield from measure(system)
                except ServerFailedError as error:
                    _excuse(system, error)


class Contest(Generic[C]):
    """Systems that take turns, each with its clients."""

    def __init__(self, systems: Sequence[System], connect: Callable[[System], C], rounds: int) -> None:
        """`connect` makes a system's clients."""
        self._rounds = rounds
        self._clients: dict[System, C] = {}
        for system in systems:
            self._keep_alive()
            try:
                self._clients[system] = connect(system)
            except ServerFailedError as error:
                _excuse(system, error)

    def results(self, work: Callable[[System, C], T]) -> dict[System, list[T]]:
        """Have each do the work once per round; return the results. One that fails takes no further part."""
        results: dict[System, list[T]] = {system: [] for system in self._clients}
        for _ in range(self._rounds):
            for system in results:
                self._keep_alive()
                if system in self._clients:
                    try:
                        results[system].append(work(system, self._clients[system]))
                    except ServerFailedError as error:
                        self._leave_out(system, error)
        return {system: results[system] for system in self._clients}

    def _keep_alive(self) -> None:
        """Keep the clients of waiting systems alive."""
        for system in list(self._clients):
            try:
                system.keep_alive()
            except ServerFailedError as error:
                self._leave_out(system, error)

    def _leave_out(self, system: System, error: ServerFailedError) -> None:
        _excuse(system, error)
        del self._clients[system]


def figures(
    case: str, metric: str, unit: str, values: Mapping[System, float], goals: Mapping[str, float] | None = None,
    notes: Mapping[System, str] | None = None, *, absolute: bool = False, at_least: bool = False,
) -> Iterator[Figure]:  # fmt: skip
    """The costs of all systems, relative to the floor if it is among them, or `absolute`. `goals`: by system's name."""
    floor = None if absolute else next((value for system, value in values.items() if isinstance(system, Floor)), None)
    for system, value in values.items():
        yield Figure(
            case, metric, value, unit, None if isinstance(system, Floor) else floor, (goals or {}).get(system.name),
            at_least, system.name, (notes or {}).get(system, ""),
        )  # fmt: skip


def medians(results: Mapping[System, list[T]], number: Callable[[T], float]) -> dict[System, float]:
    """The median of a number in each system's results."""
    return {system: statistics.median(number(each) for each in own) for system, own in results.items()}


def losses(results: Mapping[System, list[Cost]]) -> dict[System, str]:
    """The remark beside the figures of systems that have dropped messages."""
    notes = {}
    for system, costs in results.items():
        if lost := sum(cost.lost for cost in costs):
            notes[system] = f"LOST {lost:,} of {lost + sum(cost.delivered for cost in costs):,} messages"
    return notes
