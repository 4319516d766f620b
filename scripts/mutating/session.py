"""A session: every mutant of an area and what became of it, in a database of cosmic-ray's under `.mutants/`.

A mutant is known by the text of its module, its operator and its occurrence: what was found out stays true while the
module stays as it is. Survivors are tried again by every run, since the tests may have changed: first those of which
nobody has said why they change nothing, and last the others.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import MutationSpec, WorkItem

from scripts.mutating.operators import OPERATORS
from scripts.mutating.trial import ROOT

_UNCHANGED: Final = Path(__file__).with_name("unchanged.toml")


@dataclass(frozen=True)
class Mutant:
    """One alteration: where it is, and the text of the whole module with it."""

    file: str
    line: int
    before: str
    """The altered lines as they are, joined by spaces and without indentation; `after` is what becomes of them."""
    after: str
    diff: str
    text: str


def items(files: Sequence[str]) -> Iterator[WorkItem]:
    """Yield every mutant of these files."""
    for file in files:
        text = (ROOT / file).read_text()
        nodes = list(ast_nodes(get_ast(text)))
        for name, operator in OPERATORS.items():
            places = [place for node in nodes for place in operator.mutation_positions(node)]
            for occurrence, (start, end) in enumerate(places):
                known_by = hashlib.sha256(f"{file}\0{text}\0{name}\0{occurrence}".encode()).hexdigest()
                yield WorkItem.single(known_by, MutationSpec(file, name, occurrence, start, end))


def load(path: Path, files: Sequence[str]) -> WorkDB:
    """Open the session in `path` with every mutant of these files as they are now. What is known of them stays."""
    database = WorkDB(path, WorkDB.Mode.create)
    now = {item.job_id: item for item in items(files)}
    kept = {item.job_id: result for item, result in database.completed_work_items if item.job_id in now}
    database.clear()
    database.add_work_items(now.values())
    for job, result in kept.items():
        database.set_result(job, result)
    return database


def mutant(spec: MutationSpec) -> Mutant:
    """Make the mutant."""
    file = str(spec.module_path)
    text = (ROOT / file).read_text()
    altered = mutate_code(text, OPERATORS[spec.operator_name], spec.occurrence)
    assert altered is not None, "the module has changed since the session was loaded"
    lines = list(difflib.unified_diff(text.split("\n"), altered.split("\n"), lineterm="", n=0))[2:]
    sides = {side: " ".join(line[1:].strip() for line in lines if line[0] == side) for side in "-+"}
    return Mutant(file, spec.start_pos[0], sides["-"], sides["+"], "\n".join(lines), altered)


def survivors(database: WorkDB) -> tuple[list[WorkItem], list[WorkItem]]:
    """Mutants that no test noticed: those of which somebody has said why they change nothing, and the others."""
    reasons = unchanged()
    found: tuple[list[WorkItem], list[WorkItem]] = ([], [])
    for item, result in database.completed_work_items:
        if not result.is_killed:
            one = mutant(item.mutations[0])
            found[(one.file, one.before, one.after) not in reasons].append(item)
    return found


def unchanged() -> dict[tuple[str, str, str], str]:
    """Mutants that change nothing: file, lines before, lines after; and why."""
    rows = tomllib.loads(_UNCHANGED.read_text())["unchanged"]
    return {(row["file"], row["before"], row["after"]): row["why"] for row in rows}
