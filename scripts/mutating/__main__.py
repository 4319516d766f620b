"""`scripts/mutants AREA [--minutes N]`: exits 1 while a mutant survives of which nobody has said why."""

import argparse
import fcntl
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

from scripts.mutating import session, trial
from scripts.mutating.areas import AREAS, Area
from scripts.mutating.collected import Collected
from scripts.mutating.visits import Known, Only, Visits, telling

_FOLDER: Final = trial.ROOT / ".mutants"
_MOST: Final = 60
"""Minutes of a run: what is left goes on with the next one."""
_SLOWER: Final = 5
"""A mutant may burn this many times what the unaltered program took, and no less than `_LEAST` seconds."""
_LEAST: Final = 10
_BY_CHANCE: Final = 0.05
"""What a test is worth of which nothing is known, in mutants noticed; and the seconds that any test takes."""
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
"""In what pytest says at its end: the name of the test."""


def main(arguments: Sequence[str]) -> int:
    """Try the mutants of an area until the time is over, and print what survived. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", epilog=f"areas: {', '.join(AREAS)}")
    parser.add_argument("area", choices=AREAS, nargs="?")
    parser.add_argument("--minutes", type=float, default=_MOST, help=f"for this run, {_MOST} at most")
    asked = parser.parse_args(arguments)
    if asked.area is None:
        parser.print_help()
        return 2
    area = AREAS[asked.area]
    _FOLDER.mkdir(exist_ok=True)
    lock = (_FOLDER / f"{asked.area}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process; trials of two would mix in one copy
    except BlockingIOError:
        sys.exit(f"another run tries the mutants of {asked.area} here")
    database = session.load(_FOLDER / f"{asked.area}.sqlite", list(area))
    try:
        _try(database, area, _FOLDER / asked.area, time.monotonic() + min(asked.minutes, _MOST) * 60)
        return _report(database, asked.area)
    finally:
        database.close()


def _try(database: WorkDB, area: Area, folder: Path, end: float) -> None:
    """Run the tests on each mutant that is not known to be noticed."""
    said = folder.with_suffix(".txt")
    known: dict[tuple[str, ...], Known] = {}
    collected: dict[tuple[str, ...], Collected] = {}
    noticed_by: Counter[str] = Counter()
    pending = list(database.pending_work_items)
    explained, survivors = session.survivors(database)
    for item in [*survivors, *pending, *explained]:
        if time.monotonic() >= end:
            break
        if not known:
            trial.copy(folder)
            trial.prepare()
        (spec,) = item.mutations
        mutant, tests = session.mutant(spec), area[str(spec.module_path)]
        place = folder / mutant.file
        if tests not in known:
            known[tests] = _unaltered(folder, [file for file in area if area[file] == tests], tests, said)
            collected[tests] = Collected(folder, tests, said)
        text = place.read_text()
        only = known[tests].by(mutant.file, text, mutant.line)
        seconds = max(_LEAST, _SLOWER * sum(only.values()))
        likely = sorted(only, key=lambda test: -(noticed_by[test] + _BY_CHANCE) / (only[test] + _BY_CHANCE))
        survived: bool | None = None if only else True
        if only and not known[tests].is_imported(mutant.file, text, mutant.line):
            survived = collected[tests].try_on(place, mutant.text, likely, seconds)
        if survived is None:
            with trial.altered(place, mutant.text):
                survived = all(_passes(folder, some, said, seconds) for some in (likely[:1], likely))
        outcome = TestOutcome.SURVIVED if survived else TestOutcome.KILLED
        noticed = "" if survived else said.read_text(errors="replace")[-2000:]  # characters: who noticed is at the end
        noticed_by.update(_FAILED.findall(noticed))
        database.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, noticed, outcome, mutant.diff))


def _passes(folder: Path, tests: Sequence[str], said: Path, seconds: float) -> bool:
    """Whether these tests pass on the copy; nothing else is imported."""
    return trial.run(folder, list(dict.fromkeys(test.split("::")[0] for test in tests)), said, [Only(tests)], seconds)


def _unaltered(folder: Path, files: Sequence[str], tests: Sequence[str], said: Path) -> Known:
    """Run tests on the program as it is. Returns which functions of these files they enter."""
    visits = folder.with_suffix(".json")
    with ExitStack() as altered:
        for file in files:
            altered.enter_context(trial.altered(folder / file, telling(file, (folder / file).read_text())))
        if not trial.run(folder, tests, said, [Visits(visits)]):
            sys.exit(f"the tests fail on the program as it is:\n{said.read_text()}")
    return Known(visits)


def _report(database: WorkDB, name: str) -> int:
    """Print survivors and counts. Returns the exit code."""
    explained, survivors = session.survivors(database)
    told = [session.mutant(item.mutations[0]) for item in survivors]
    for each in sorted(told, key=lambda each: (each.file, each.line)):
        print(f"{each.file}:{each.line}\n{each.diff}\n")
    known = database.num_results
    print(
        f"{name}: {database.num_work_items} mutants; {known - len(survivors) - len(explained)} killed, "
        f"{len(survivors)} survived, {len(explained)} change nothing, {database.num_work_items - known} not tried yet"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
