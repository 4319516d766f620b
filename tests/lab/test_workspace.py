"""A student's folder, by the commands that a student types."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from securechat import cli
from securechat_lab import cli as cli_of_the_lab
from securechat_lab.exercises import EXERCISES, Exercise, rogue_certificate, word_sizes
from securechat_lab.kit.loopback import LoopbackOnlyError
from securechat_lab.kit.outcomes import VERSIONS, Outcome
from securechat_lab.kit.seeds import practice
from securechat_lab.kit.task import Task
from securechat_lab.workspace import Desk, Workspace
from tests.lab.test_reviews import filled
from tests.lab.test_rogue_certificate import ATTACK, CHECK, DEFENCE

FILES = ("attack.py", "defence.py", "claims.md", "check.py")


def lab(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["lab", *arguments, "--folder", str(folder)])


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_student_starts_asks_predicts_checks_and_packs(tmp_path: Path) -> None:
    folder, here = tmp_path / "mine", tmp_path / "mine" / "02-rogue-certificate"
    began = lab(folder, "start", "2")
    assert began.exit_code == 0
    assert str(here / "README.md") in began.stdout
    assert "WEAKENED" in began.stderr
    assert {path.name for path in here.iterdir()} == {"README.md", "progress.json", *FILES}

    assert "three questions" in lab(folder, "hint", "2").stdout
    assert lines(lab(folder, "hint", "2", "--json"))[0]["number"] == 2
    assert "Noted: 0" in lab(folder, "predict", "2", " 00 ").stdout

    seed = Workspace.open(folder).seed.part("rogue_certificate")
    (here / "attack.py").write_text(ATTACK % rogue_certificate.variant(seed) + "\nprint('tried')\n")
    (here / "defence.py").write_text(DEFENCE)
    (here / "check.py").write_text(CHECK)
    (here / "claims.md").write_text(filled(rogue_certificate.REVIEW, seed, rogue_certificate.REVIEW.answers(seed)))
    results = tmp_path / "results.json"
    checked = lab(folder, "check", "2", "--json", "--results", str(results))
    assert checked.exit_code == 0, checked.output
    assert all(line["counts"] for line in lines(checked))
    assert {line["versions"] for line in lines(checked)} == {VERSIONS}
    assert json.loads(results.read_text())["score"] == len(lines(checked))
    log = (here / "run.log").read_text()
    assert "defence: expired: counts" in log
    assert "\nattack: your victim's login: counts\n    attack.py printed: tried\n" in log

    late = lab(folder, "predict", "2", "9")
    assert late.exit_code != 0
    assert "before the first check" in late.stderr
    (told,) = [line for line in lines(lab(folder, "status", "--json")) if line["number"] == 2]
    assert (told["hints"], told["prediction"], told["begun"]) == (2, "0", True)
    newest = told["newest"]
    assert isinstance(newest, dict)
    assert newest["points"] == newest["of"]

    packed = lab(folder, "pack")
    assert packed.exit_code == 0
    with zipfile.ZipFile(folder / "hand-in.zip") as archive:
        assert archive.namelist() == [f"{here.name}/{name}" for name in (*FILES, "progress.json")]


def test_reset_keeps_all_that_was_written_and_says_where(tmp_path: Path) -> None:
    folder, here = tmp_path / "mine", tmp_path / "mine" / "02-rogue-certificate"
    lab(folder, "start", "2")
    for number, written in enumerate(("first", "second"), 1):
        (here / "defence.py").write_text(written)
        told = lab(folder, "reset", "2").stdout
        assert told.splitlines()[1:] == [f"Yours:       {here / 'defence.py'}.old{number}"]
        assert lines(lab(folder, "reset", "2", "--json"))[0]["kept"] == []  # as it was handed out
        assert (here / "defence.py").read_text() == rogue_certificate.TASK.defence
    assert sorted(path.name for path in here.glob("*.old*")) == ["defence.py.old1", "defence.py.old2"]
    assert [(here / f"defence.py.old{number}").read_text() for number in (1, 2)] == ["first", "second"]


def test_captures_stay_when_an_exercise_is_started_again_and_are_made_anew_by_reset(tmp_path: Path) -> None:
    folder, here = tmp_path / "mine", tmp_path / "mine" / "00-old-chat"
    assert "already" not in lab(folder, "start", "0").stdout
    capture = here / "capture-new.pcapng"
    first = capture.read_bytes()
    capture.write_bytes(b"touched")
    assert "your files stay as they were" in lab(folder, "start", "0").stdout
    assert capture.read_bytes() == b"touched"
    lab(folder, "reset", "0")
    assert capture.read_bytes()[:4] == first[:4]


def test_a_check_that_misses_says_what_was_expected_and_seen_once(tmp_path: Path) -> None:
    folder, here = tmp_path / "mine", tmp_path / "mine" / "02-rogue-certificate"
    lab(folder, "start", "2")
    lab(folder, "predict", "2", "9")
    (here / "check.py").write_text("def sound(seen):\n    return Tru\n")
    checked = lab(folder, "check", "2")
    assert checked.exit_code == 1
    assert "NO  attack: your victim's login" in checked.stdout
    assert "expected the login was taken, seen gave up after 0 refused certificates" in checked.stdout
    assert 'expected "0", seen "9"' in checked.stdout
    assert "look at: README.md, step 1" in checked.stdout
    assert "to see more, let attack.py print what it was given" in checked.stdout
    assert "what attack.py has printed" not in checked.stdout
    reasons = [line for line in checked.stdout.splitlines() if "have none of the three answers" in line]
    assert len(reasons) == 1
    (fault,) = [line for line in checked.stdout.splitlines() if "NameError" in line]
    assert "in check.py, line 2" in fault


def test_each_point_is_told_once_when_it_is_settled(tmp_path: Path) -> None:
    """In exercise 6 a point of `defence.py` holds before its twin is tried."""
    folder, here = tmp_path / "mine", tmp_path / "mine" / "06-word-sizes"
    lab(folder, "start", "6")
    lab(folder, "predict", "6", "no")
    (here / "defence.py").write_text("def pad(length):\n    return max(0, 256 - length - (1 if length < 64 else 2))\n")
    told = lab(folder, "check", "6").stdout.splitlines()
    point = "defence: a short message stays within the budget"
    assert f"ok  {point}" in told
    points = [line[4:] for line in told if line[:4] in ("ok  ", "--  ", "NO  ")]
    assert len(points) == len(set(points)) > 8
    assert "NO  defence: long messages show few sizes" in told
    scene = "01-defence-a-real-chat-goes-on-with-it"
    assert sorted(path.stem for path in (here / "scenes").iterdir()) == [scene, scene]


def test_a_check_writes_each_point_down_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, results, kept = tmp_path / "mine", tmp_path / "results.json", []

    def outcomes(*_: object) -> Iterator[Outcome]:
        for point in ("attack: one", "attack: two"):
            yield Outcome(point, "seen", "seen", "")
            kept.append(json.loads(results.read_text()))

    lab(folder, "start", "2")
    lab(folder, "predict", "2", "0")
    monkeypatch.setattr(Task, "outcomes", outcomes)
    assert lab(folder, "check", "2", "--results", str(results)).exit_code == 0
    assert [each["score"] for each in kept] == [1, 2]
    assert all("did not come to its end" in each["output"] for each in kept)
    assert "did not come" not in json.loads(results.read_text())["output"]


def test_what_a_command_plays_stays_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def elsewhere(*_: object) -> list[Outcome]:
        with pytest.raises(LoopbackOnlyError):
            socket.create_connection(("192.0.2.1", 9), 0.1)
        tried.append(True)
        return []

    folder = tmp_path / "mine"
    lab(folder, "start", "2")
    lab(folder, "predict", "2", "0")
    monkeypatch.setattr(Task, "outcomes", elsewhere)
    monkeypatch.setattr(Desk, "begin", elsewhere)
    monkeypatch.setattr(Desk, "reset", elsewhere)
    for command in ("start", "check", "reset"):
        assert lab(folder, command, "2").exit_code == 0
    assert len(tried) == 3


def test_nothing_is_checked_at_once_where_nothing_was_predicted(tmp_path: Path) -> None:
    folder, results = tmp_path / "mine", tmp_path / "results.json"
    lab(folder, "start", "6")
    refused = lab(folder, "check", "6", "--results", str(results))
    assert refused.exit_code != 0
    assert "you have predicted nothing yet" in refused.stderr
    assert "predicted nothing yet" in json.loads(results.read_text())["tests"][0]["output"]
    went = lab(folder, "check", "6")
    assert "expected one before the first check, seen no prediction" in went.stdout
    assert "by now you have seen" in lab(folder, "predict", "6", "no").stderr


@pytest.mark.parametrize(("number", "said", "told"), [
    ("3", None, "one of these words here: yes, no."),
    ("3", "", "one of these words here: yes, no."),
    ("3", "maybe", "one of these words here: yes, no."),
    ("2", "none", "is a number here"),
    ("2", "", "is a number here"),
    ("2", "9" * 10, "is a number here"),
    ("B", " ", "is a sentence here"),
], ids=["nothing", "empty", "other word", "word for a number", "no number", "too long", "empty report"])  # fmt: skip
def test_a_prediction_is_one_that_can_be_compared(
    tmp_path: Path, number: str, said: str | None, told: str
) -> None:
    lab(tmp_path / "mine", "start", number)
    assert told in lab(tmp_path / "mine", "predict", number, *([] if said is None else [said])).stderr
    assert [line["prediction"] for line in lines(lab(tmp_path / "mine", "status", "--json")) if line["begun"]] == [""]


def test_the_lab_is_found_from_within_and_none_begins_inside_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def typed(*arguments: str) -> Result:
        return CliRunner().invoke(cli.main, ["lab", *arguments])

    monkeypatch.chdir(tmp_path)
    assert "is no folder of the lab" in typed("hint", "2").stderr
    assert typed("start", "2").stdout.endswith("check 2\n")
    assert typed("start", "2", "--folder", "an other").stdout.endswith("check 2 --folder 'an other'\n")
    shutil.rmtree("an other")
    assert [path.name for path in tmp_path.iterdir()] == ["securechat-lab"]
    for inside in (tmp_path / "securechat-lab", tmp_path / "securechat-lab" / "02-rogue-certificate"):
        monkeypatch.chdir(inside)
        assert typed("hint", "2").exit_code == 0
    assert typed("start", "6").exit_code == 0
    assert (tmp_path / "securechat-lab" / "06-word-sizes").is_dir()
    refused = typed("start", "6", "--folder", "another")
    assert "a lab inside the lab" in refused.stderr
    assert not Path("another").exists()


def test_what_is_told_can_be_typed_where_the_command_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURECHAT_LAB", "../my repo/scripts/lab")
    folder, typed = tmp_path / "mine", "'../my repo/scripts/lab'"
    assert f"{typed} check 2 --folder {folder}\n" in lab(folder, "start", "2").stdout
    page = (folder / "02-rogue-certificate" / "README.md").read_text()
    assert f"{typed} predict 2 NUMBER" in page
    assert "securechat lab" not in page
    assert f"Begin with: {typed} start 3" in lab(folder, "hint", "3").stderr


def test_a_file_that_is_not_there_is_told_with_what_makes_it_again(tmp_path: Path) -> None:
    folder, results = tmp_path / "mine", tmp_path / "results.json"
    lab(folder, "start", "2")
    (folder / "02-rogue-certificate" / "defence.py").unlink()
    assert "start 2 makes it again" in lab(folder, "check", "2", "--results", str(results)).stderr
    told = json.loads(results.read_text())
    assert told["score"] == 0
    assert "defence.py is not there" in told["tests"][0]["output"]
    (folder / "02-rogue-certificate" / "attack.py").write_text("mine")
    assert "those that are missing are made again" in lab(folder, "start", "2").stdout
    assert (folder / "02-rogue-certificate" / "defence.py").read_text() == rogue_certificate.TASK.defence
    assert (folder / "02-rogue-certificate" / "attack.py").read_text() == "mine"


def test_a_long_line_that_was_printed_is_cut_in_the_log(tmp_path: Path) -> None:
    folder, here = tmp_path / "mine", tmp_path / "mine" / "06-word-sizes"
    lab(folder, "start", "6")
    lab(folder, "predict", "6", "no")
    (here / "attack.py").write_text("def guess(*_):\n    print('x' * 6000)\ndef pairs(_):\n    print('pairs')\n")
    assert "look at: run.log, under this point: what attack.py has printed" in lab(folder, "check", "6").stdout
    log = (here / "run.log").read_text()
    assert "at the end" not in log  # nothing was printed then
    sections = log.split("\n\n")
    (first,) = [each for each in sections if each.startswith("attack: your phrases, without padding: misses")]
    assert first.endswith("xxx ... and 1,000 more characters")
    (pairs,) = [each for each in sections if "printed: pairs" in each]
    assert pairs.startswith("attack: who talks to whom: misses")


def test_the_lab_writes_into_no_folder_that_it_has_not_made(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    refused = lab(tmp_path, "start", "2")
    assert refused.exit_code != 0
    assert "the lab has not made it" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    for command in (["status"], ["check", "2"], ["hint", "2"], ["pack"], ["reset", "2"]):
        assert "is no folder of the lab" in lab(tmp_path / "none", *command).stderr
        assert not (tmp_path / "none").exists()


def test_a_folder_belongs_to_one_token(tmp_path: Path) -> None:
    token = practice().text
    assert lab(tmp_path / "mine", "start", "2", "--token", token).exit_code == 0
    assert lab(tmp_path / "mine", "start", "2", "--token", token.upper()).exit_code == 0
    assert "is for another token" in lab(tmp_path / "mine", "start", "2", "--token", practice().text).stderr
    assert "no token of a course" in lab(tmp_path / "other", "start", "2", "--token", "abc").stderr
    assert not (tmp_path / "other").exists()


def test_what_was_written_stays_when_an_exercise_is_started_again(tmp_path: Path) -> None:
    lab(tmp_path / "mine", "start", "2")
    file = tmp_path / "mine" / "02-rogue-certificate" / "attack.py"
    file.write_text("mine")
    lab(tmp_path / "mine", "start", "2")
    assert file.read_text() == "mine"


@pytest.mark.parametrize(("name", "content", "told"), [
    ("attack.py", b"x" * (1 << 17), "is longer than 64 KiB"),
    ("defence.py", b"\xff\xfe", "is no text in UTF-8"),
    ("progress.json", b"{", "is damaged"),
])  # fmt: skip
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    lab(tmp_path / "mine", "start", "2")
    (tmp_path / "mine" / "02-rogue-certificate" / name).write_bytes(content)
    assert told in lab(tmp_path / "mine", "check", "2").stderr


def test_there_is_no_further_hint_and_no_such_exercise(tmp_path: Path) -> None:
    lab(tmp_path / "mine", "start", "2")
    for _ in rogue_certificate.TASK.hints:
        assert lab(tmp_path / "mine", "hint", "2").exit_code == 0
    assert "no further hint" in lab(tmp_path / "mine", "hint", "2").stderr
    assert "There is no exercise 99" in lab(tmp_path / "mine", "start", "99").stderr


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda each: each.folder)
def test_every_exercise_has_its_page_its_hints_and_files_that_run(exercise: Exercise) -> None:
    task = exercise.load()
    page = task.page(practice().part(exercise.module))
    assert page.startswith(f"# Exercise {exercise.number}: ")
    for part in ("**The threat.**", "Three questions", "**What is not protected:**", "**Reading:**", "lab predict"):
        assert part in page
    threat = page.partition("**The threat.**")[2].partition("\n\n")[0]
    assert len(re.findall(r"[.?!](?=\s|$)", threat)) == 3
    assert len(page.splitlines()) < 78
    assert len(task.hints) >= 3
    wanted = "WORD" if task.words else '"..."' if task.report else "NUMBER"  # and not what is right
    assert f"lab predict {exercise.number} {wanted}`" in page
    assert [word for word in task.words if word not in page] == []
    written = Path(str(import_module(f"securechat_lab.exercises.{exercise.module}").__file__)).read_text()
    for shows_answers in ('call("which")', "hand_in.prediction"):  # `which` and `predicted` of `kit.task` show none
        assert shows_answers not in written
    for source in (task.attack, task.defence):
        compile(source, "student.py", "exec")


def test_on_a_terminal_lines_are_broken_between_words_and_in_a_pipe_nowhere(tmp_path: Path) -> None:
    lab(tmp_path / "mine", "start", "6")
    first, second = hints = word_sizes.TASK.hints[:2]
    assert max(map(len, hints)) > 50
    assert lab(tmp_path / "mine", "hint", "6").stdout == f"1 of {len(word_sizes.TASK.hints)}: {first}\n"
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(
            [Path(sys.executable).with_name("securechat"), "lab", "hint", "6", "--folder", str(tmp_path / "mine")],
            stdout=theirs, env=os.environ | {"COLUMNS": "50"}, timeout=60, check=True,
        )  # fmt: skip
        assert done.returncode == 0
        shown = os.read(ours, 1 << 16).decode().splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    assert max(map(len, shown)) <= 50
    assert " ".join(shown).split()[3:] == second.split()


def test_the_banner_and_errors_are_broken_between_words_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    try:
        subprocess.run(
            [Path(sys.executable).with_name("securechat"), "lab", "start", "6", "--folder", ".", "--token", "none"],
            stderr=theirs, env=os.environ | {"COLUMNS": "50"}, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(len, plain.splitlines())) <= 50
    banner, _, error = " ".join(plain.split()).partition(" Error: ")
    assert banner == cli_of_the_lab._BANNER
    assert "no token of a course" in error
