"""A class of a hundred, graded unattended: does everybody get what their hand-in is worth?

    .venv/bin/python -m tests.support.lab_class FOLDER

FOLDER must not be there. In it a course is made, and hand-ins: the reference solutions of all exercises, naive ones,
files as they were handed out, hostile code, hostile archives. `lab instructor grade` runs on them, is killed (kill -9)
when it is at a third, and started again. What everybody got is compared with what is known of their hand-in, not with
what a check says of it. It takes about ten minutes on two processors that others use, too; the last lines say what it
took. The short form is tests/lab/instructor/test_grading.py.
"""

import argparse
import csv
import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from securechat_lab.exercises import Number, find
from securechat_lab.kit.review import ANSWERS
from tests.lab import test_sandbox as hostile
from tests.lab.instructor import test_grading as archives
from tests.lab.instructor.conftest import packed
from tests.lab.proofs import COURSE, seeds
from tests.lab.test_hostile_text import KINDS, LINES, ORDINARY

PEOPLE: Final = 100
PREDICTIONS: Final[dict[Number, str]] = {
    0: "old", 1: "text", 2: "0", 3: "no", 4: "number", 5: "0", 6: "no", 7: "no", 8: "bob", 9: "0", 10: "36",
    11: "leave", 12: "enters", 13: "guard", 14: "4", 15: "everybody",
}  # fmt: skip
NAIVE: Final = (1, 5, 6, 7, 9, 11, 13, 14)
"""Exercises of which tests know which points a naive defence misses."""
NAIVE_EACH: Final = 2
CHANCE: Final = {"14 lets the oldest go"}
"""Those that may miss one point more, as the seed has it: where all attacks come one after the other."""
CODE: Final = 7
"""The exercise whose defence is hostile code: it has one function, of one value."""

ANOTHER: Final = {"has no such function", "raises"}
"""Hostile code that is none here: the function has another name, and takes a text."""
READ: Final = {"is a bomb that says so", "has no text"}
"""Archives of which one file is refused, and the rest, which is nothing, checked."""

Files = dict[str, str]


@dataclass
class Given:
    """What somebody hands in, and what they have to get."""

    kind: str
    content: bytes = b""
    points: dict[Number, int] = field(default_factory=dict)
    """By exercise, points that are missed; all of them where it is -1."""
    told: str = ""
    """What is said of it, in the table of grades or at a point."""
    name: str = "{id}.zip"


def solved(number: Number, who: str) -> Files:
    """The reference solution of somebody, with their table filled rightly."""
    module = import_module(f"tests.lab.test_{find(number).module}")
    own, _ = seeds(number, who)
    attack = getattr(module, "ATTACK", "")
    if hasattr(module, "reference") and "%s" in attack:
        attack = module.reference(who).attack
    task = find(number).load()
    assert task.review is not None
    table = task.review.table(own)
    for says, answer in task.review.answers(own).items():
        table = table.replace(f"| ? | {says} |", f"| {answer} | {says} |")
    given = {"attack.py": attack, "defence.py": module.DEFENCE, "check.py": getattr(module, "CHECK", "")}
    names = task.files(own)
    prediction = json.dumps({"hints": 1, "prediction": PREDICTIONS[number]})
    return {name: text for name, text in given.items() if name in names} | {
        "claims.md": table, "progress.json": prediction,
    }  # fmt: skip


def untouched(number: Number, who: str) -> Files:
    """The files as they were handed out, and nothing predicted."""
    return find(number).load().files(seeds(number, who)[0])


def archive(**exercises: Files) -> bytes:
    """What `lab pack` makes, by folder."""
    return packed({f"{folder}/{name}": text for folder, files in exercises.items() for name, text in files.items()})


def of(number: Number, files: Files) -> bytes:
    """The same for one exercise."""
    return archive(**{find(number).folder: files})


def one_row_wrong(files: Files) -> Files:
    """The table with another answer in its first row."""
    rows = files["claims.md"].splitlines()
    first = next(index for index, row in enumerate(rows) if row.startswith(("| holds", "| broken", "| not claimed")))
    answer = rows[first].split("|")[1].strip()
    rows[first] = rows[first].replace(answer, next(each for each in ANSWERS if each != answer), 1)
    return files | {"claims.md": "\n".join(rows)}


def everybody(ids: Iterator[str]) -> Iterator[tuple[str, Given]]:
    """All hand-ins, each with its author."""
    for number in PREDICTIONS:
        who = next(ids)
        yield who, Given(f"{number} solved", of(number, solved(number, who)), {number: 0})
    for number in PREDICTIONS:
        who = next(ids)
        yield who, Given(f"{number} as handed out", of(number, untouched(number, who)), {number: -1})
    for number in NAIVE:
        module = import_module(f"tests.lab.test_{find(number).module}")
        for name, (source, misses) in list(module.CHEATS.items())[1 : 1 + NAIVE_EACH]:
            who = next(ids)
            files = solved(number, who) | {"defence.py": source}
            yield who, Given(f"{number} {name}", of(number, files), {number: len(misses)})
    for name, source, told in (
        *((name, *each) for name, each in hostile.AT_ONCE.items() if name not in ANOTHER),
        *((name, source, "did not answer within") for name, source in hostile.SLOW.items()),
    ):
        who = next(ids)
        files = solved(CODE, who) | {"defence.py": f"{source}\ndef clean(x): return f(x)\n"}
        missed: dict[Number, int] = {CODE: len({*KINDS, LINES, ORDINARY})}
        yield who, Given(f"{CODE} {name}", of(CODE, files), missed, told.replace("f() of", "clean() of"))
    for name, (data, told) in archives.HOSTILE.items():
        yield next(ids), Given(f"archive {name}", data, {5: -1} if name in READ else {}, told)
    for number, name in ((5, "{id}@uni.example.zip"), (13, "{id}_4711_late.zip"), (6, "{id}/hand-in.zip")):
        who = next(ids)
        files = one_row_wrong(solved(number, who))
        yield who, Given(f"{number}, one row wrong", of(number, files), {number: 2}, "", name)
    while (who := next(ids, "")) != "":
        both = {find(number).folder: solved(number, who) for number in (5, 13)}
        yield who, Given("5 and 13 solved", archive(**both), {5: 0, 13: 0})


def make(folder: Path) -> dict[str, Given]:
    """Make course and hand-ins, and return who gave what: everybody but the last, who gives nothing."""
    people = [f"s{number:03}" for number in range(PEOPLE)]
    folder.mkdir(parents=True)
    (folder / "class.csv").write_text("\n".join(["id,email", *(f"{each},{each}@uni.example" for each in people)]))
    instruct("new-course", "--course", str(folder / "course"))
    key = folder / "course/course.key"
    key.write_text(COURSE.hex())  # the one by which tests know whose victim has which hole
    instruct("roster", str(folder / "class.csv"), "--course", str(folder / "course"))
    given = dict(everybody(iter(people[:-2])))
    for who, each in given.items():
        file = folder / "hand-ins" / each.name.format(id=who)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(each.content)
    twice = people[-2]
    for name in (f"{twice}.zip", f"{twice}_again.zip", "somebody-else.zip"):
        (folder / "hand-ins" / name).write_bytes(of(5, solved(5, twice)))
    return given | {
        twice: Given("two hand-ins", told="2 hand-ins have this name"),
        people[-1]: Given("nothing", told="nothing was handed in"),
    }


def instruct(*arguments: str) -> None:
    """Run a command of `lab instructor`."""
    subprocess.run(command(*arguments), check=True, stdout=subprocess.DEVNULL)


def command(*arguments: str) -> list[str]:
    """Return it as it is typed."""
    return ["nice", str(Path(sys.executable).with_name("securechat")), "lab", "instructor", *arguments]


def graded(folder: Path, *, stop_at: int = 0) -> None:
    """Grade, and tell how far it is; kill the grader after so many."""
    course, out = str(folder / "course"), str(folder / "grades.csv")
    began = time.monotonic()
    line = command("grade", str(folder / "hand-ins"), "--course", course, "--out", out)
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as grader:
        assert grader.stderr is not None
        for said in grader.stderr:
            click.echo(f"{time.monotonic() - began:6.1f} s  {said.rstrip():.150}")
            if stop_at and said.startswith(f"{stop_at} of "):
                grader.kill()
                click.echo("killed")
                break
    if not stop_at and grader.returncode:
        sys.exit(f"the grader ended with {grader.returncode}")


def kept(folder: Path) -> dict[str, int]:
    """What was found so far: files, and when they were written."""
    return {file.name: file.stat().st_mtime_ns for file in (folder / "course/graded").iterdir()}


def differences(folder: Path, given: dict[str, Given]) -> Iterator[str]:
    """Say who did not get what they should."""
    rows = {row["id"]: row for row in csv.DictReader((folder / "grades.csv").read_text().splitlines())}
    if rows.keys() != given.keys():
        yield f"the table has {len(rows)} rows, not {len(given)}"
    most: dict[Number, str] = {}
    for who, each in given.items():
        row = rows[who]
        for number, misses in each.points.items():
            got, whole = row[f"{number} points"], row[f"{number} of"]
            should = 0 if misses < 0 else int(whole or 0) - misses
            right = {str(should), str(should - (each.kind in CHANCE))}
            if not whole or got not in right or most.setdefault(number, whole) != whole:
                yield f"{who}, {each.kind}: got {got} of {whole}, should have {should}"
        others = {number for number in PREDICTIONS if row[f"{number} of"]} - each.points.keys()
        if others:
            yield f"{who}, {each.kind}: has points in {others}"
        if not each.told and row["problems"]:
            yield f"{who}, {each.kind}: {row['problems']}"
        if each.told not in row["problems"] and not (each.points and each.told in _seen(folder, who)):
            yield f"{who}, {each.kind}: nothing says {each.told!r}"


def _seen(folder: Path, who: str) -> str:
    file = folder / "course/graded" / f"{hashlib.sha256(who.encode()).hexdigest()[:24]}.json"
    exercises = json.loads(file.read_text())["exercises"].values()
    return "\n".join(outcome["seen"] for each in exercises for outcome in each["outcomes"])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    given = make(folder)
    began = time.monotonic()
    graded(folder, stop_at=PEOPLE // 3)
    before = kept(folder)
    graded(folder)
    after = kept(folder)
    took, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    again = [name for name in before if before[name] != after[name]]
    wrong = list(differences(folder, given))
    for line in wrong:
        click.echo(line)
    click.echo(f"{len(given)} people, {took / 60:.1f} min, {used.ru_utime + used.ru_stime:.0f} s of processor time")
    click.echo(f"{len(before)} were checked before the grader was killed; {len(again)} of them were checked again")
    click.echo(f"{len(given) - len({line.partition(',')[0] for line in wrong})} got what they should")
    sys.exit(bool(wrong or again))


if __name__ == "__main__":
    main()
