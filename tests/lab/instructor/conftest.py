"""A course, and hand-ins for it."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from securechat import cli
from securechat_lab.exercises import find
from securechat_lab.instructor.course import Course
from tests.lab import test_tamper as solved
from tests.lab.proofs import COURSE

Instructor = Callable[..., Result]

PEOPLE = [f"s{number:02}" for number in range(14)]


@pytest.fixture
def instructor(tmp_path: Path) -> Instructor:
    """The commands of `lab instructor`, in a folder of the test's own."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.main, ["lab", "instructor", *arguments, "--course", str(tmp_path / "course")])

    return run


@pytest.fixture
def course(tmp_path: Path, instructor: Instructor) -> Course:
    """A course in which fourteen people take part, each with the same seeds in every run."""
    rows = [f'{name},{name}@uni.example,"=HYPERLINK(""http://x"",""{name}"")"' for name in PEOPLE]
    (tmp_path / "class.csv").write_text("\n".join(["id,Email,name", *rows]))
    for command in (["new-course"], ["roster", str(tmp_path / "class.csv")]):
        done = instructor(*command)
        assert done.exit_code == 0, done.output
        (tmp_path / "course" / "course.key").write_text(COURSE.hex())
    return Course.open(tmp_path / "course")


def packed(files: dict[str, str | bytes]) -> bytes:
    """An archive."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


TAMPER = find(5).folder


def solution(course: Course, student: str, *, notices: bool = True) -> dict[str, str | bytes]:
    """What somebody hands in who has solved exercise 5, all but the table."""
    task, (own, _) = find(5).load(), course.seeds(student, find(5).module)
    attack = solved.ATTACK if notices else solved.ATTACK.replace("def notices", "def noticed")
    files = task.files(own) | {"attack.py": attack, "defence.py": solved.DEFENCE, "check.py": solved.CHECK}
    given: dict[str, str | bytes] = {f"{TAMPER}/{name}": text for name, text in files.items()}
    return given | {f"{TAMPER}/progress.json": '{"hints": 2, "prediction": "0", "checks": []}'}
