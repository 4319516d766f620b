"""The work of `scripts/explore`."""

import argparse
import hashlib
import json
import resource
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, process_time
from typing import TypedDict

from securechat.client.doors.table import TABLE
from tests.client.doors.explorer import Exploration, Found, deciding, shortest, without
from tests.client.doors.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".explored.json"
"""How far each story was explored, and with what result, by this very code: what is in it is not explored again."""


class _Line(TypedDict):
    """What exploring one story has brought."""

    moves: int
    steps: int  # moves that were judged
    states: int
    seconds: float
    wrong: Sequence[str]


def main() -> None:
    """Explore as `scripts/explore` says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int)
    parser.add_argument("--hours", type=float, default=0)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("story", nargs="*")
    options = parser.parse_args()
    depth = options.depth or (3 if options.checks else 5)
    if options.checks:
        _explore_checks(depth)
        return
    end = monotonic() + options.hours * 3600 if options.hours else float("inf")
    kept = _Kept()
    for scenario in SCENARIOS:
        if options.story and not any(word in scenario.name for word in options.story):
            continue
        line = kept.lines.get(scenario.name)
        if line is None or (line["moves"] < depth and not line["wrong"]):
            with get_context("spawn").Pool(1) as alone:  # its memory ends with it
                line = alone.apply(_explore, (SCENARIOS.index(scenario), depth, end, options.gigabytes))
            kept.add(scenario.name, line)
        print(_shown(scenario.name, line), flush=True)
        if monotonic() > end:
            sys.exit("the time is over: the same command goes on from here")


def _explore(story: int, depth: int, end: float, gigabytes: float) -> _Line:
    """Explore one story, as far as there is time and memory for it: in a process that explores no other."""
    exploration, began = Exploration(SCENARIOS[story]), process_time()
    while not exploration.trace and exploration.depth < depth:
        exploration.deepen(last=exploration.depth + 1 == depth)
        if monotonic() > end or _gigabytes() > gigabytes:
            break
    return {
        "moves": exploration.depth, "steps": exploration.steps, "states": len(exploration.came),
        "seconds": round(process_time() - began, 1), "wrong": exploration.trace,
    }  # fmt: skip


def _shown(name: str, line: _Line) -> str:
    told = " / ".join(line["wrong"]) or "holds"
    numbers = f"{line['moves']} moves {line['steps']:11,} steps {line['states']:10,} states {line['seconds']:8} s"
    return f"{name:66} {numbers}: {told}"


def _explore_checks(depth: int) -> None:
    """Take each check out that refuses something alone, in the stories where it does: the others change nothing."""
    for (row, check), scenarios in sorted(deciding(depth).items(), key=lambda each: (each[0][0], each[0][1].words)):
        found = shortest(without(check, row), depth=depth, scenarios=scenarios)
        print(f"{row}, without {check.words!r}: {_told(found)}", flush=True)
    print(
        f"{sum(len(row.checks) for row in TABLE)} checks in {len(TABLE)} rows; what is not named refuses nothing alone"
    )


def _told(found: Found | None) -> str:
    return "holds" if found is None or not found.trace else " / ".join(found.trace)


class _Kept:
    """The lines of earlier runs of the same code."""

    def __init__(self) -> None:
        self._code = hashlib.sha256(b"".join(each.read_bytes() for each in _sources())).hexdigest()
        found = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        self.lines: dict[str, _Line] = found["lines"] if found.get("code") == self._code else {}

    def add(self, name: str, line: _Line) -> None:
        """Write a line down."""
        self.lines[name] = line
        KEPT.write_text(json.dumps({"code": self._code, "lines": self.lines}, indent=1))


def _sources() -> Iterator[Path]:
    for folder in ("securechat/client/doors", "tests/client/doors"):
        yield from sorted((ROOT / folder).glob("*.py"))


def _gigabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)


if __name__ == "__main__":
    main()
