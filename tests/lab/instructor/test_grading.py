"""A class is graded: honest hand-ins get their points, hostile ones a sentence, and whoever is stopped goes on."""

import csv
import io
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from securechat.errors import UsageError
from securechat_lab.exercises import find
from securechat_lab.instructor import worker
from securechat_lab.instructor.course import Course, as_csv, read_roster
from securechat_lab.instructor.grading import AS_YOU
from securechat_lab.instructor.hand_ins import MAX_ARCHIVE, receive, sort_out
from securechat_lab.instructor.worker import run
from securechat_lab.kit.loopback import LoopbackOnlyError
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.task import HandIn, Task
from tests.lab.instructor.conftest import PEOPLE, TAMPER, Instructor, packed, solution


def link(name: str, to: str) -> bytes:
    """An archive with a symbolic link in it."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as made:
        made.writestr(entry, to)
    return written.getvalue()


def lying(name: str) -> bytes:
    """An archive that says of a file of 50 MB that it has ten bytes."""
    data = bytearray(packed({name: b"\0" * 50_000_000}))
    size = struct.pack("<I", 50_000_000)
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = struct.pack("<I", 10)
    return bytes(data)


def encrypted(name: str) -> bytes:
    data = bytearray(packed({name: "x"}))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    return bytes(data)


ATTACK = f"{TAMPER}/attack.py"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "leads out": (packed({f"../../{ATTACK}": "x"}), "leads out of the folder"),
    "is absolute": (packed({"/etc/cron.d/x": "x", ATTACK: "x"}), "leads out of the folder"),
    "has a link": (link(ATTACK, "/etc/shadow"), "a link"),
    "is a bomb that says so": (packed({ATTACK: b"\0" * 50_000_000}), "longer than 64 KiB"),
    "is a bomb that lies": (lying(ATTACK), "no archive (ZIP) that could be read"),
    "is encrypted": (encrypted(ATTACK), "it is encrypted"),
    "is no archive": (b"PK\x03\x04 but not really", "no archive (ZIP)"),
    "has too many files": (packed({f"x/{n}": "" for n in range(1001)}), "more than 1,000 files"),
    "is too large": (b"\0" * (MAX_ARCHIVE + 1), "more than 2 MiB"),
    "has a file twice": (packed({ATTACK: "x", f"copy/{ATTACK}": "y"}), "is in it twice"),
    "has nothing": (packed({"thesis.txt": "x"}), "no exercise is in it"),
    "has no text": (packed({ATTACK: b"\xff\xfe"}), "no text in UTF-8"),
}


@pytest.mark.parametrize(("archive", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hand_in_that_is_told_in_a_sentence(tmp_path: Path, archive: bytes, told: str) -> None:
    (tmp_path / "s.zip").write_bytes(archive)
    try:
        said = "; ".join(receive(tmp_path / "s.zip").problems)
    except UsageError as error:
        said = str(error)
    assert told in said
    assert [path.name for path in tmp_path.iterdir()] == ["s.zip"]


def test_a_folder_is_read_and_links_in_it_are_not_followed(tmp_path: Path) -> None:
    place = tmp_path / "s" / TAMPER
    place.mkdir(parents=True)
    (place / "attack.py").write_text("mine")
    assert receive(tmp_path / "s").exercises == {5: HandIn("mine", "")}
    os.mkfifo(place / "check.py")
    assert "check.py" in receive(tmp_path / "s").problems[0]
    (place / "defence.py").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="a link is in it"):
        receive(tmp_path / "s")
    (tmp_path / "t").symlink_to(tmp_path / "s")
    with pytest.raises(UsageError, match="it is a link"):
        receive(tmp_path / "t")


def test_whose_a_hand_in_is_its_name_says(tmp_path: Path, course: Course) -> None:
    for name in ("s01.zip", "S02@uni.example", "s03_1234_late.zip", "s0.zip", "nobody@uni.example.zip", ".DS_Store"):
        (tmp_path / "in" / name).mkdir(parents=True)
    found, strangers = sort_out(tmp_path / "in", course.roster())
    assert {who: [path.name for path in paths] for who, paths in found.items()} == {
        "s01": ["s01.zip"], "s02": ["S02@uni.example"], "s03": ["s03_1234_late.zip"],
    }  # fmt: skip
    assert [path.name for path in strangers] == ["nobody@uni.example.zip", "s0.zip"]


def rows(out: Path) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in csv.DictReader(out.read_text().splitlines())}


GOOD = PEOPLE[:3]
HOSTILE_ONES = dict(zip(PEOPLE[3:13], list(HOSTILE)[:10], strict=True))


@pytest.fixture
def hand_ins(tmp_path: Path, course: Course) -> Path:
    """Of fourteen people three hand in what they should, ten something hostile, and one nothing."""
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    for number, who in enumerate(GOOD):
        (folder / f"{who}.zip").write_bytes(packed(solution(course, who, notices=number != 1)))
    for who, kind in HOSTILE_ONES.items():
        (folder / f"{who}@uni.example.zip").write_bytes(HOSTILE[kind][0])
    (folder / "stranger.zip").write_bytes(packed({ATTACK: "x"}))
    return folder


def test_a_class_is_graded_and_one_that_was_killed_goes_on(
    tmp_path: Path, course: Course, hand_ins: Path, instructor: Instructor
) -> None:
    out, kept = tmp_path / "grades.csv", course.folder / "graded"
    program, given = Path(sys.executable).with_name("securechat"), ["--course", str(course.folder), "--out", str(out)]
    command = [str(program), "lab", "instructor", "grade", str(hand_ins), *given]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as grader:
        assert grader.stderr is not None
        for line in grader.stderr:
            if line.startswith("1 of 13"):
                break
        grader.send_signal(signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    assert before

    done = instructor("grade", str(hand_ins), "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "13 of 13" in done.stderr
    assert "1 of 13, from an earlier run: s00" in done.stderr
    assert not [who for who in HOSTILE_ONES if f"from an earlier run: {who}" in done.stderr]
    assert "stranger.zip: nobody in the roster" in done.stderr
    assert {name: (kept / name).stat().st_mtime_ns for name in before} == before  # not checked again

    found = rows(out)
    assert set(found) == set(PEOPLE)
    whole, less = found[GOOD[0]], found[GOOD[1]]
    assert (whole["5 points"], whole["5 of"], whole["hints"], whole["problems"]) == (whole["points"], "20", "2", "")
    assert int(whole["5 points"]) == 20 - 3  # all but the table, which is as it was given
    assert int(less["5 points"]) == 20 - 3 - 1
    for who, kind in HOSTILE_ONES.items():
        assert HOSTILE[kind][1] in found[who]["problems"], kind
    assert found[PEOPLE[13]]["problems"] == "nothing was handed in"
    assert {row["name"][:2] for row in found.values()} == {"'="}

    key = (course.folder / "course.key").read_bytes()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "course.key"]
    assert not [each for each in [*written, done.output.encode()] if key in each]


@pytest.mark.parametrize(("user", "warned"), [(0, False), (1000, True)], ids=["root", "somebody"])
def test_who_grades_as_themselves_is_told_what_students_could_do(
    tmp_path: Path, course: Course, instructor: Instructor, monkeypatch: pytest.MonkeyPatch, *, user: int, warned: bool
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: user)
    done = instructor("grade", str(tmp_path / "none"), "--out", str(tmp_path / "grades.csv"))
    assert done.exit_code == 0, done.output
    assert (AS_YOU in done.stderr) == warned
    assert len(rows(tmp_path / "grades.csv")) == len(course.roster())


def test_a_check_that_does_not_end_keeps_what_it_has_found(course: Course) -> None:
    slow = HandIn("import time\ndef forge(*_): time.sleep(4)\ndef notices(_): time.sleep(4)", "", "0")
    outcomes, finished = run(5, slow, course.seeds("s01", find(5).module), seconds=0.05)
    assert (outcomes, finished) == ([], False)


def test_what_a_class_is_checked_with_stays_on_this_machine(
    course: Course, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def elsewhere(*_: object) -> list[Outcome]:
        with pytest.raises(LoopbackOnlyError):
            socket.create_connection(("192.0.2.1", 9), 0.1)
        return [Outcome("a point", "seen", "seen", "")]

    own, unseen = course.seeds("s01", find(5).module)
    given = {"number": 5, "own": own.text, "unseen": unseen.text, "hand_in": HandIn("", "").given}
    monkeypatch.setattr(Task, "outcomes", elsewhere)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(given)))
    worker.main()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.get("point", each) for each in told] == ["a point", {"finished": True}]


def test_a_fault_of_the_lab_is_told_and_the_rest_is_graded(
    tmp_path: Path, course: Course, instructor: Instructor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = course.folder / "hand-ins", tmp_path / "grades.csv"
    folder.mkdir()
    for who in PEOPLE[:2]:
        (folder / f"{who}.zip").write_bytes(packed({ATTACK: ""}))
    monkeypatch.setattr(Course, "seeds", lambda *_: (Broken(), Broken()))
    done = instructor("grade", str(folder), "--out", str(out))
    assert done.exit_code == 0, done.output
    told = "the check of exercise 5 did not come to its end: a fault of the lab: "
    assert [rows(out)[who]["problems"][: len(told)] for who in PEOPLE[:2]] == [told] * 2
    monkeypatch.undo()
    instructor("grade", str(folder), "--out", str(out))
    assert {rows(out)[who]["5 of"]: rows(out)[who]["problems"] for who in PEOPLE[:2]} == {"20": ""}


class Broken:
    """A seed that is none."""

    text = 0


def test_the_key_is_for_its_owner_alone(tmp_path: Path, course: Course, instructor: Instructor) -> None:
    key = course.folder / "course.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(course.folder.stat().st_mode) == 0o700
    assert key.read_text() not in repr(course)
    assert "not empty" in instructor("new-course").stderr
    key.chmod(0o644)
    assert "Others on this machine can read" in instructor("roster", str(tmp_path / "class.csv")).stderr
    key.chmod(0o600)
    key.write_text("00")
    assert "holds no key of a course" in instructor("roster", str(tmp_path / "class.csv")).stderr


@pytest.mark.parametrize(("table", "told"), [
    ("name\nann", "no column `email`"),
    ("email\nann", "no address of somebody"),
    ("email\na@b\nA@b", "in it twice"),
    ("email\n", "names nobody"),
    ("email,id\na@b,x\nc@d,x", "in it twice"),
], ids=["no column", "no address", "twice", "nobody", "an id twice"])  # fmt: skip
def test_a_roster_that_is_none_is_told(tmp_path: Path, table: str, told: str) -> None:
    (tmp_path / "class.csv").write_text(table)
    with pytest.raises(UsageError, match=told):
        read_roster(tmp_path / "class.csv")


@pytest.mark.parametrize("cell", ["=1+1", " =1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\u200b=1", "\uff1d1", "|x"])
def test_no_cell_is_computed_by_a_spreadsheet(cell: str) -> None:
    (_, (shown,)) = csv.reader(as_csv(("a",), [(cell,)]).splitlines())
    assert shown.startswith("'")


def test_ordinary_cells_stay_as_they_are() -> None:
    assert as_csv(("a", "b"), [("Grüße, Ann", -3)]).splitlines()[1] == '"Grüße, Ann",-3'


def test_the_graded_scenes_are_not_those_of_the_token(course: Course) -> None:
    own, graded = course.seeds("s01", "tamper")
    assert own.text != graded.text
    assert json.dumps(course.token("s01")) not in graded.text
