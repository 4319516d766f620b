"""An old tree and this one do the same work in turns: has a change made anything more expensive?

What else the machine does moves a cost by more than a change does. So each round starts both trees afresh and has them
do the same work within seconds of each other, every other round in the opposite order. What counts is the median of the
ratios within the rounds: on a machine whose load changed, the ratio of the medians was off by 10 %. Only CPU time is
compared, since rates and latencies depend on the clients.

Each tree's server is the program of its own .venv, driven by this tree's clients. The MLS engine is measured by this
tree's bench in the other's Python. So the trees must agree on the wire and on what `work/mls.py` uses of
`securechat.mls`; where they do not, a line says what cannot be compared.
"""

import functools
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks import ROOT
from scripts.benchmarks.contest import running
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.securechat import SecureChat
from scripts.benchmarks.systems.system import ServerFailedError, System
from scripts.benchmarks.work import login, mls, relay

ROUNDS = 10
TOLERATED = 0.03  # of the old cost: less is not to be seen on a machine that does anything else
ENGINE_SECONDS = 300  # for one part of the bench of the MLS engine: ten times what it needs

ENGINE = """
import dataclasses, json, sys
import securechat  # first, so that it is the one of the tree that we are in, whatever else the next line lets us import
sys.path.insert(0, sys.argv[1])
from scripts.benchmarks.work import mls
print(json.dumps([dataclasses.asdict(figure) for figure in mls.alone(sys.argv[2])]))
"""


class NotComparableError(Exception):
    """A tree cannot do this work."""


@dataclass(frozen=True)
class Tree:
    """A checkout of this repository that has been set up."""

    name: str
    folder: Path

    @property
    def programs(self) -> Path:
        """The folder of its Python and its `securechat`."""
        return self.folder / ".venv" / "bin"

    def server(self, folder: Path, certs: Path) -> SecureChat:
        """Start its server: a `contest.Maker`."""
        return SecureChat(folder, certs, program=self.programs / "securechat", name=self.name)

    def described(self) -> str:
        """Its path and commit."""
        describe = ["git", "-C", str(self.folder), "describe", "--always", "--dirty"]
        commit = subprocess.run(describe, check=False, capture_output=True, text=True).stdout.strip()
        return f"{self.name}: {self.folder}, {commit or 'not a repository'}"


def set_up(name: str, folder: Path) -> Tree:
    """Have the tree make or refresh its own .venv. Raises `NotComparableError`."""
    setup = folder / "scripts" / "setup"
    if not setup.is_file():
        raise NotComparableError(f"{folder} is not a checkout of this repository: it has no scripts/setup")
    if subprocess.run([str(setup)], check=False).returncode:
        raise NotComparableError(f"{setup} has failed")
    return Tree(name, folder.resolve())


# --- one round of work --------------------------------------------------------------------------------------------


def _servers(measure: Callable[[Sequence[System], int], Iterable[Figure]], trees: Sequence[Tree]) -> Iterator[Figure]:
    try:
        with running(*(tree.server for tree in trees)) as systems:
            for figure in measure(systems, 1):
                if figure.metric.startswith("server CPU"):
                    yield figure
    except ServerFailedError as error:
        raise NotComparableError(str(error)) from error


def _engines(trees: Sequence[Tree]) -> Iterator[Figure]:
    for part, tree in itertools.product(mls.PARTS, trees):  # in turns as short as possible
        command = [str(tree.programs / "python"), "-c", ENGINE, str(ROOT), part]
        try:
            done = subprocess.run(
                command, cwd=tree.folder, timeout=ENGINE_SECONDS, check=False, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            raise NotComparableError(f"{tree.name} has not come to an end in {ENGINE_SECONDS} s") from None
        if done.returncode:
            raise NotComparableError(f"{tree.name} ends with {done.stderr.strip().rpartition(chr(10))[2]}")
        for fields in json.loads(done.stdout):
            yield Figure(**{**fields, "system": tree.name})


WORK: dict[str, Callable[[Sequence[Tree]], Iterator[Figure]]] = {
    "relay": functools.partial(_servers, relay.relayed), "fan-out": functools.partial(_servers, relay.fanned_out),
    "resume": functools.partial(_servers, login.resumes), "mls": _engines,
}  # fmt: skip
"""By name. Each puts the trees, in the given order, to the work once; the figures' `system` is the tree's name."""


# --- the comparison -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What one piece of work cost both trees, round by round."""

    case: str
    metric: str
    unit: str
    old: Sequence[float]
    new: Sequence[float]

    @property
    def quartiles(self) -> list[float]:
        """Of new to old, round by round; the middle one is the median. What slows down a round is not in them."""
        ratios = [new / old for old, new in zip(self.old, self.new, strict=True)]
        return statistics.quantiles(ratios, n=4, method="inclusive")

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles."""
        low, _, high = self.quartiles
        return (high - low) / 2

    @property
    def verdict(self) -> str:
        """Whether the difference is more than what is tolerated and the spread together."""
        _, ratio, _ = self.quartiles
        if abs(ratio - 1) <= TOLERATED + self.spread:
            return "same"
        return "DEARER" if ratio > 1 else "cheaper"

    def as_dict(self) -> dict[str, object]:
        """Its JSON form."""
        return {
            "case": self.case, "metric": self.metric, "unit": self.unit,
            "old": round(statistics.median(self.old), 3), "new": round(statistics.median(self.new), 3),
            "ratios": [round(each, 4) for each in self.quartiles], "rounds": len(self.old), "verdict": self.verdict,
        }  # fmt: skip

    def as_line(self) -> str:
        """Its form for people."""
        old, new = statistics.median(self.old), statistics.median(self.new)
        low, ratio, high = self.quartiles
        return (
            f"{self.case:34} {self.metric:32} old {old:8,.1f}  new {new:8,.1f} {self.unit:2}   {ratio:.3f}"
            f" ({low:.3f} to {high:.3f})   {self.verdict} {'within' if self.verdict == 'same' else 'beyond'}"
            f" {TOLERATED:.0%} + {self.spread:.1%}"
        )


def compare(trees: tuple[Tree, Tree], names: Iterable[str], rounds: int) -> Iterator[tuple[str, Comparison]]:
    """Have the trees, old and new, do the work; yield each bench's name and results, or say why there are none."""
    for name in names:
        costs: dict[tuple[str, str, str], dict[str, list[float]]] = {}
        try:
            for number in range(rounds):
                for figure in WORK[name](trees if number % 2 == 0 else trees[::-1]):
                    work = costs.setdefault((figure.case, figure.metric, figure.unit), {"old": [], "new": []})
                    work[figure.system].append(figure.value)
        except NotComparableError as error:
            print(f"{name}: cannot be compared: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            continue
        for (case, metric, unit), work in costs.items():
            yield name, Comparison(case, metric, unit, work["old"], work["new"])
