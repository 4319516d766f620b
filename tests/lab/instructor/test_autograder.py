"""What is uploaded to Gradescope: it grades by address, hides what it prints, and holds no key of the course."""

import json
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securechat_lab.instructor import gradescope
from securechat_lab.instructor.autograder import RUN
from securechat_lab.instructor.course import Course
from securechat_lab.instructor.gradescope import grade
from securechat_lab.kit.outcomes import Outcome
from tests.lab.instructor.conftest import Instructor, solution


@pytest.fixture
def root(tmp_path: Path, course: Course, instructor: Instructor) -> Path:
    """Where Gradescope has unpacked it."""
    file, root = tmp_path / "autograder.zip", tmp_path / "autograder"
    done = instructor("autograder", "--out", str(file))
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in ("submission", "results"):
        (root / folder).mkdir(parents=True)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(root / "source")
        modes = [archive.getinfo(each).external_attr >> 16 for each in ("setup.sh", "run_autograder")]
    assert modes == [0o755, 0o755]
    key = (course.folder / "course.key").read_bytes()
    assert not [path for path in (root / "source").rglob("*") if path.is_file() and key in path.read_bytes()]
    return root


@pytest.fixture
def graded(root: Path) -> Callable[[str, dict[str, str | bytes]], dict[str, Any]]:
    """Lets somebody hand in, and returns what Gradescope reads then."""

    def hand_in(email: str, files: dict[str, str | bytes]) -> dict[str, Any]:
        (root / "submission_metadata.json").write_text(json.dumps({"users": [{"email": email}]}))
        for name, text in files.items():
            file = root / "submission" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(text if isinstance(text, bytes) else text.encode())
        grade(root)
        results: dict[str, Any] = json.loads((root / "results/results.json").read_text())
        return results

    return hand_in


def test_a_hand_in_is_graded_by_the_address_of_its_author(
    course: Course, graded: Callable[..., dict[str, Any]]
) -> None:
    found = graded("S01@uni.example", solution(course, "s01"))
    assert (found["score"], len(found["tests"])) == (17, 20)
    assert found["stdout_visibility"] == "hidden"
    assert all(each["name"].startswith("5: ") for each in found["tests"])
    assert "Python 3." in found["output"]
    assert "did not come" not in found["output"]


def test_each_point_is_in_the_results_as_it_comes(
    root: Path, course: Course, graded: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []

    def run(*_: object, came: Callable[[list[Outcome]], None]) -> tuple[list[Outcome], bool]:
        came([Outcome("a point", "seen", "seen", "")])
        kept.append(json.loads((root / "results/results.json").read_text()))
        return [], False

    monkeypatch.setattr(gradescope, "run", run)
    graded("s01@uni.example", solution(course, "s01"))
    assert [(each["score"], each["tests"][0]["name"]) for each in kept] == [(1, "5: a point")]


@pytest.mark.parametrize(("email", "files", "told"), [
    ("eve@uni.example", {"05-tamper/attack.py": "x"}, "eve@uni.example is not in the roster"),
    ("s01@uni.example", {"thesis.txt": "x"}, "no exercise is in it"),
    ("s01@uni.example", {"hand-in.zip": b"PK"}, "no archive (ZIP)"),
], ids=["a stranger", "nothing", "no archive"])  # fmt: skip
def test_what_cannot_be_graded_is_said_in_the_results(
    graded: Callable[..., dict[str, Any]], email: str, files: dict[str, str | bytes], told: str
) -> None:
    found = graded(email, files)
    assert (found["score"], found["tests"]) == (0, [])
    assert told in found["output"]


def test_the_archive_holds_a_program_that_runs_without_the_repository(root: Path) -> None:
    places = [str(root / "source/source"), str(root / "source/source/lab")]
    program = f"import sys; sys.path[:0] = {places}; import securechat_lab.instructor.worker as w; print(w.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith(places[1])


def test_what_gradescope_runs_prints_nothing_and_keeps_others_out(tmp_path: Path, root: Path) -> None:
    (root / "source" / "setup.sh").chmod(0o755)
    subprocess.run(["/bin/sh", "-n", root / "source" / "setup.sh"], check=True)
    (root / "submission_metadata.json").write_text('{"users": [{"email": "s01@uni.example"}]}')
    program = tmp_path / "run_autograder"
    program.write_text(RUN.replace("/opt/securechat-lab/bin/python", sys.executable))
    done = subprocess.run(["/bin/sh", program, root], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert "no exercise is in it" in json.loads((root / "results/results.json").read_text())["output"]
    assert [stat.S_IMODE((root / each).stat().st_mode) for each in ("source", "results")] == [0o700, 0o700]
