"""Exercise B: a report has all its parts or is sent back, and a machine gives nothing for it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from securechat_lab.exercises import break_ours as exercise
from securechat_lab.exercises import find
from securechat_lab.instructor.hand_ins import receive
from securechat_lab.instructor.worker import run
from securechat_lab.kit.task import HandIn
from tests.lab.proofs import missed, points, seeds
from tests.lab.test_workspace import lab, lines

SCRIPT = exercise.ATTACK.replace("return False", "return bob.texts('alice') != ['alice: hello', 'bob: hi']")
REPORT = exercise.REPORT
for question in exercise.PARTS.values():
    REPORT = REPORT.replace(f"({question})", "```\n## not a heading\n```" if "printed" in question else "this and that")


def test_a_whole_report_is_said_to_be_whole_and_gets_no_point() -> None:
    found = points("B", HandIn(SCRIPT, "", report=REPORT))
    assert len(found) == len(exercise.PARTS) + 1
    assert not missed(found)
    assert sum(each.outcome.worth + each.points for each in found.values()) == 0


def test_the_form_as_it_was_given_has_nothing_in_it() -> None:
    assert len(missed(points("B", HandIn(exercise.TASK.attack, "", report=exercise.REPORT)))) == len(exercise.PARTS) + 1


@pytest.mark.parametrize("heading", exercise.PARTS)
def test_a_part_that_is_missing_or_empty_is_named(heading: str) -> None:
    text = f"## {heading}\n\n{exercise.sections(REPORT)[heading]}\n"
    assert text in REPORT
    assert exercise.filled(REPORT, heading) == "written"
    assert exercise.filled(REPORT.replace(text, ""), heading) == "no such heading"
    assert exercise.filled(REPORT.replace(text, f"## {heading}\n"), heading) == "nothing was written"


SCRIPTS = {
    "is whole": (SCRIPT, "a script"),
    "is as it was given": (exercise.ATTACK + "\n# mine\n", "as it was given"),
    "is no Python": ("def", "no Python: "),
    "has no reproduction": ("print('broken!')", "no function reproduce(stage)"),
    "takes a weak part": (SCRIPT.replace('person("bob")', 'person("bob", Parts(rules=lax))'), "it names Parts"),
    "patches the program": (SCRIPT + "\nsetattr(direct, 'x', 1)\n", "it names setattr"),
    "is nothing": ("", "no function reproduce(stage)"),
}


@pytest.mark.parametrize(("source", "told"), SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_that(source: str, told: str) -> None:
    assert exercise.script(source).startswith(told)


def test_the_script_as_it_is_given_runs_and_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "attack.py").write_text(exercise.ATTACK)
    environment = {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    done = subprocess.run(
        [sys.executable, "attack.py"], cwd=tmp_path, env=environment, capture_output=True, check=True, text=True
    )
    assert done.stdout.splitlines() == ["bob has: ['alice: hello', 'bob: hi', 'alice: how are you?']", "not shown"]


def test_a_student_begins_it_is_told_what_is_missing_and_packs_it(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    here = folder / "B-break-ours"
    assert find("B").folder == here.name
    assert lab(folder, "start", "b").exit_code == 0
    assert {path.name for path in here.iterdir()} == {"README.md", "attack.py", "report.md", "progress.json"}
    checked = lab(folder, "check", "B")
    assert checked.exit_code == 1
    assert "expected written, seen nothing was written" in checked.stdout
    assert "0 of 0 points" in checked.stdout
    (here / "report.md").write_text(REPORT)
    (here / "attack.py").write_text(SCRIPT)
    results = tmp_path / "results.json"
    assert lab(folder, "check", "B", "--results", str(results)).exit_code == 0
    told = json.loads(results.read_text())
    assert {told["score"], *(each["max_score"] for each in told["tests"])} == {0}
    (status,) = [line for line in lines(lab(folder, "status", "--json")) if line["number"] == "B"]
    assert status["begun"]
    assert lab(folder, "pack").exit_code == 0
    with zipfile.ZipFile(folder / "hand-in.zip") as archive:
        packed = {Path(each).name for each in archive.namelist()}
    assert packed == {"attack.py", "report.md", "progress.json"}
    assert "There is no exercise Z" in lab(folder, "start", "z").stderr


def test_an_instructor_gets_the_report_beside_the_other_exercises_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    shown = tmp_path / "it-was-run"
    script = f"{SCRIPT}\nopen({str(shown)!r}, 'w')\n"
    files = {"05-tamper/attack.py": "x", "B-break-ours/attack.py": script, "B-break-ours/report.md": REPORT}
    with zipfile.ZipFile(tmp_path / "hand-in.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    received = receive(tmp_path / "hand-in.zip").exercises
    assert [*received] == [5, "B"]
    outcomes, finished = run("B", received["B"], seeds("B", "ann"))
    assert (finished, [each.holds for each in outcomes]) == (True, [True] * (len(exercise.PARTS) + 1))
    assert not shown.exists()
