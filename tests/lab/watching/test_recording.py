"""Recordings are read line by line, whatever is in them, and as they grow."""

import json
import os
from pathlib import Path

import pytest

from securechat.errors import StorageError
from securechat_lab.watching import recording as module
from securechat_lab.watching.recording import Reader, Recorder
from securechat_lab.watching.screen import View, draw
from securechat_lab.watching.story import tell

GOOD = b'{"v":1,"t":1,"layer":"server","what":"Ping"}\n'


def read(path: Path, data: bytes) -> Reader:
    path.write_bytes(data)
    reader = Reader(path)
    reader.read_all()
    reader.close()
    return reader


DAMAGED = (
    b"{",
    b"\xff\xfe",
    b"[]",
    b"null",
    b'{"v":2,"t":1,"layer":"server","what":"Ping"}',
    b'{"v":1,"t":-1,"layer":"server","what":"Ping"}',
    b'{"v":1,"t":NaN,"layer":"server","what":"Ping"}',
    b'{"v":1,"t":1e400,"layer":"server","what":"Ping"}',
    b'{"v":1,"t":1,"layer":"nobody","what":"Ping"}',
    b'{"v":1,"t":1,"layer":"server","what":"Ping","seq":-1}',
    b'{"v":1,"t":1,"layer":"server","what":"Ping","seq":99999999999999999999999999}',
    b'{"v":1,"t":1,"layer":"server","what":"Ping","from":7}',
    b'{"v":1,"t":1,"layer":"server","what":"' + b"x" * 65 + b'"}',
    b'{"v":1,"t":1,"layer":"person","what":"said","text":"' + b"x" * 5000 + b'"}',
    b'{"v":1,"t":1,"layer":"server","what":"Ping","hex":"' + b"00" * 600 + b'"}',
    b'{"v":1,"t":1,"layer":"server","what":"Ping","hex":"zz"}',
    b'{"v":1,"t":1,"layer":"server","what":"\\u001b[2J"}',
    b'{"v":1,"t":1,"layer":"server","what":"Ping","conversation":"../.."}',
    b"[" * 30_000,
    b'{"v":1,"t":1,"layer":"\x1b[2Jserver","what":"Ping"}',
)


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_a_sentence_and_costs_nothing_but_itself(line: bytes, tmp_path: Path) -> None:
    reader = read(tmp_path / "r", GOOD + line + b"\n" + GOOD)
    assert len(reader.lines) == 2
    (problem,) = reader.problems
    assert problem.startswith("Line 2 is damaged and left out: ")
    assert problem.isprintable()
    assert len(problem) < 200


def test_of_many_damaged_lines_the_first_are_told_and_the_others_counted(tmp_path: Path) -> None:
    reader = read(tmp_path / "r", b"{\n" * 1000)
    assert len(reader.problems) == 6
    assert reader.problems[-1] == "995 more lines are damaged and left out."


def test_what_a_later_version_adds_to_a_line_is_passed_over(tmp_path: Path) -> None:
    reader = read(tmp_path / "r", GOOD.replace(b"}", b',"colour":"green"}'))
    assert (len(reader.lines), reader.problems) == (1, [])


def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    reader = read(tmp_path / "r", GOOD + b"x" * (5 << 20) + b"\n" + GOOD)
    assert len(reader.lines) == 2
    assert reader.problems == ["Line 2 is damaged and left out: it is longer than 32,768 bytes."]
    endless = read(tmp_path / "s", b"x" * (5 << 20))
    assert len(endless._partial) <= module.MAX_LINE


def test_of_a_million_lines_the_first_are_shown_and_that_is_said(tmp_path: Path) -> None:
    reader = read(tmp_path / "r", GOOD * 1_000_000)
    assert len(reader.lines) == module.MAX_LINES
    assert reader.problems == ["The recording is longer than 50,000 lines or 64 MiB: the rest is not shown."]
    rows = draw(View(tell(reader.lines, reader.problems), 80, 24, everything=True, chosen=49_999))
    assert "50000 of 50000" in "".join(text for _, text in rows[0])


def test_one_that_grows_is_read_on_line_by_line(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", "a title")
    reader = Reader(tmp_path / "r")
    reader.read_all()
    assert [line.text for line in reader.lines] == ["a title"]
    recorder.add("person", "notice", to="alice", text="one")
    with (tmp_path / "r").open("ab") as file:
        file.write(GOOD[:20])  # as a writer that is being watched
        file.flush()
        reader.read_all()
        assert [line.text for line in reader.lines] == ["a title", "one"]
        file.write(GOOD[20:])
    reader.read_all()
    assert (len(reader.lines), reader.problems) == (3, [])
    recorder.close()
    reader.close()


def test_a_new_scene_in_the_place_of_the_old_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "r"
    Recorder(path, "the first").close()
    reader = Reader(path)
    reader.read_all()
    path.unlink()
    reader.read_all()  # between the two
    Recorder(path, "the second").close()
    reader.read_all()
    assert [line.text for line in reader.lines] == ["the second"]
    os.truncate(path, 0)
    reader.read_all()
    assert reader.lines == []
    reader.close()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda _path: None])
def test_what_is_no_file_is_a_sentence_at_once(make: object, tmp_path: Path) -> None:
    make(tmp_path / "r")  # type: ignore[operator]  # each of them takes a path
    with pytest.raises(StorageError, match="cannot read the recording .*(a folder|a pipe|No such file)"):
        Reader(tmp_path / "r")


def test_the_fields_are_those_that_the_format_names(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    recorder.add("server", "Submit", conn=1, way="up", sender="alice", to="server", seq=3, number=2, epoch=1, len=9)
    recorder.close()
    written = json.loads((tmp_path / "r").read_text().splitlines()[-1])
    assert {key: written[key] for key in ("v", "layer", "conn", "from", "to", "len", "seq", "number", "epoch")} == {
        "v": 1, "layer": "server", "conn": 1, "from": "alice", "to": "server", "len": 9, "seq": 3, "number": 2,
        "epoch": 1,
    }  # fmt: skip
