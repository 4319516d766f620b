"""Outcomes: what a check has seen, and which of it counts.

A point counts only if its twin holds as well: a defence that refuses everything keeps every attacker out. What a file
has as it was handed out, for one that does nothing lets every friend in, counts only beside a point that took work.
"""

import json
import os
import platform
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from securechat import __version__

VERSIONS: Final = f"lab {__version__}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"
"""Said with each result: what was accepted elsewhere can be looked up."""


IDLE: Final = "a file that does nothing has this, too: it counts once another point of its part does"


@dataclass(frozen=True)
class Outcome:
    """One thing that was tried."""

    point: str
    """What it is about; no two outcomes of a check have the same."""
    expected: str
    seen: str
    where: str
    """Where a student sees more of it: a file, a section of `run.log`, a step of the handout; empty: nowhere."""
    twin: str = ""
    """The point that has to hold, too, for this one to count; empty: none."""
    worth: int = 1
    """Points; 0: it is said, and gets no marks."""
    idle: bool = False
    """Whether a file has it that does nothing: it counts only if another one of the same part does that is not so."""
    fault: bool = False
    """Whether a file did something else than answer; what it did, is seen."""

    @property
    def holds(self) -> bool:
        """Whether it was as expected."""
        return self.expected == self.seen

    @property
    def part(self) -> str:
        """What it belongs to: the word before the colon, such as "defence"."""
        return self.point.partition(":")[0]


@dataclass(frozen=True)
class Scored:
    """An outcome with what it counts."""

    outcome: Outcome
    counts: bool
    why_not: str = ""

    @property
    def points(self) -> int:
        """What it gets."""
        return self.outcome.worth if self.counts else 0


def score(outcomes: Sequence[Outcome]) -> list[Scored]:
    """Say which outcomes count."""
    tried = {each.point: each for each in outcomes}
    why_not = {each.point: _why_not(each, tried) for each in outcomes}
    worked = {each.part for each in outcomes if not each.idle and not why_not[each.point]}
    for each in outcomes:
        if each.idle and each.part not in worked:
            why_not[each.point] = why_not[each.point] or IDLE
    return [Scored(each, not why_not[each.point], why_not[each.point]) for each in outcomes]


def _why_not(outcome: Outcome, tried: Mapping[str, Outcome]) -> str:
    """Say why it does not hold together with its twins; empty: it does."""
    if not outcome.holds:
        return outcome.seen if outcome.fault else f"expected {outcome.expected}, seen {outcome.seen}"
    twin, seen = outcome.twin, {outcome.point}
    while twin and twin not in seen:  # twins have twins
        seen.add(twin)
        if twin not in tried or not tried[twin].holds:
            return f"counts only together with: {twin}"
        twin = tried[twin].twin
    return ""


def gradescope(outcomes: Sequence[Outcome], *, finished: bool) -> dict[str, Any]:
    """Return what Gradescope reads: a test a point."""
    scored = score(outcomes)
    tests = [
        {
            "name": each.outcome.point,
            "score": each.points,
            "max_score": each.outcome.worth,
            "output": "; look at: ".join(filter(None, (each.why_not, each.why_not and each.outcome.where))),
        }
        for each in scored
    ]
    output = VERSIONS if finished else f"{VERSIONS}. The check did not come to its end: what follows is missing."
    total = sum(each.points for each in scored)
    return {"score": total, "output": output, "stdout_visibility": "hidden", "tests": tests}


def write_results(file: Path, outcomes: Sequence[Outcome], *, finished: bool) -> None:
    """Write them, whole or not at all: a check may be killed at any moment, and what it has found so far counts."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps(gradescope(outcomes, finished=finished), indent=1))
    os.replace(new, file)  # noqa: PTH105  # Path.replace is the same


def as_lines(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return them as objects, for `--json`."""
    return [
        asdict(each.outcome) | {"counts": each.counts, "why_not": each.why_not, "versions": VERSIONS}
        for each in score(list(outcomes))
    ]
