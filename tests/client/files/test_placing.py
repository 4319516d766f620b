"""Where a received file lands: in the folder that was chosen, over nothing, through no link, whole or not at all."""

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from securechat.client.files import placing
from securechat.client.files.placing import new_temporary_name, tidy
from securechat.errors import StorageError, UsageError
from tests.client.files.test_names import hostile_names


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def place(folder: Path, temporary: str, name: str, write: Callable[[BinaryIO], None]) -> Path:
    """As whoever saves a file does it: what it takes is tidied up once the file is noted."""
    path = placing.place(folder, temporary, name, write)
    tidy(folder, temporary)
    return path


TEMPORARY = ".securechat-0123456789abcdef.part"


def writes(data: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(data)

    return write


def test_a_file_is_saved_under_its_name_and_is_its_owners(tmp_path: Path) -> None:
    path = place(tmp_path, TEMPORARY, "sea.jpg", writes(b"sea"))
    assert path == tmp_path / "sea.jpg"
    assert path.read_bytes() == b"sea"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == ["sea.jpg"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for number, name in enumerate(("sea.jpg", "sea (2).jpg", "sea (3).jpg")):
        assert place(tmp_path, TEMPORARY, "sea.jpg", writes(b"%d" % number)).name == name
    assert (tmp_path / "sea.jpg").read_bytes() == b"0"


@pytest.mark.parametrize("kind", ["file", "folder", "link to a file", "link to nothing", "pipe"])
def test_what_has_the_name_stays_what_it_is_and_no_link_is_followed(tmp_path: Path, kind: str) -> None:
    folder, outside = tmp_path / "in", tmp_path / "outside"
    folder.mkdir()
    there = folder / "x"
    match kind:
        case "file":
            there.write_bytes(b"mine")
        case "folder":
            there.mkdir()
        case "link to a file":
            outside.write_bytes(b"mine")
            there.symlink_to(outside)
        case "link to nothing":
            there.symlink_to(outside)
        case "pipe":
            os.mkfifo(there)
    before = there.lstat()
    assert place(folder, TEMPORARY, "x", writes(b"theirs")).name == "x (2)"
    assert os.path.samestat(before, there.lstat())
    assert outside.exists() == (kind == "link to a file")
    assert not outside.exists() or outside.read_bytes() == b"mine"


def test_a_link_in_the_temporary_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / TEMPORARY).symlink_to(tmp_path / "outside")
    assert place(tmp_path / "in", TEMPORARY, "x", writes(b"theirs")).read_bytes() == b"theirs"
    assert not (tmp_path / "outside").exists()


def test_a_folder_that_is_exchanged_meanwhile_gets_nothing(tmp_path: Path) -> None:
    chosen, other = tmp_path / "chosen", tmp_path / "other"
    chosen.mkdir()
    other.mkdir()

    def write(file: BinaryIO) -> None:
        file.write(b"theirs")
        chosen.rename(tmp_path / "moved")
        chosen.symlink_to(other)

    place(chosen, TEMPORARY, "x", write)
    assert names_in(tmp_path / "moved") == [TEMPORARY, "x"]
    assert not names_in(other)


def test_hostile_names_all_land_in_the_folder_and_each_has_its_content(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    names = hostile_names()
    paths = [place(folder, new_temporary_name(), name, writes(b"%d" % number)) for number, name in enumerate(names)]
    assert len(set(paths)) == len(names) > 200
    assert all(path.parent == folder and path.read_bytes() == b"%d" % number for number, path in enumerate(paths))
    assert names_in(folder) == sorted(path.name for path in paths)
    assert names_in(tmp_path) == ["in"]
    assert names_in(tmp_path / "in") == ["deep"]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="No space left"):
        place(tmp_path, TEMPORARY, "x", write)
    assert not names_in(tmp_path)


def test_what_ends_the_writing_leaves_nothing(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise UsageError("cancelled")

    with pytest.raises(UsageError, match="cancelled"):
        place(tmp_path, TEMPORARY, "x", write)
    assert not names_in(tmp_path)


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for each in ("nowhere", "file"):
        with pytest.raises(UsageError, match="there is no folder"):
            place(tmp_path / each, TEMPORARY, "x", writes(b""))
        tidy(tmp_path / each, TEMPORARY)


def test_a_folder_full_of_that_name_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "MAX_NUMBER", 3)
    for _ in range(3):
        place(tmp_path, TEMPORARY, "x", writes(b""))
    with pytest.raises(UsageError, match="3 files called x"):
        place(tmp_path, TEMPORARY, "x", writes(b""))
    assert len(names_in(tmp_path)) == 3


def test_without_hard_links_nothing_is_overwritten_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_args: object, **_named: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    for name in ("x", "x (2)"):
        assert place(tmp_path, TEMPORARY, "x", writes(name.encode())).name == name
    assert (tmp_path / "x").read_bytes() == b"x"
    assert names_in(tmp_path) == ["x", "x (2)"]


def test_what_was_finished_before_a_kill_is_not_saved_twice(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"another one")
    (tmp_path / TEMPORARY).write_bytes(b"theirs")
    (tmp_path / "x (2)").hardlink_to(tmp_path / TEMPORARY)

    def write(_file: BinaryIO) -> None:
        raise AssertionError

    assert place(tmp_path, TEMPORARY, "x", write) == tmp_path / "x (2)"
    assert names_in(tmp_path) == ["x", "x (2)"]


KILLED = """
    import os, sys
    from pathlib import Path
    from securechat.client.files import placing

    step, count = int(sys.argv[2]), 0

    def at(real):
        def call(*args, **named):
            global count
            count += 1
            if count == step:
                os.kill(os.getpid(), 9)
            return real(*args, **named)
        return call

    for name in ("open", "link", "fsync", "close"):
        setattr(os, name, at(getattr(os, name)))
    placing.place(Path(sys.argv[1]), sys.argv[3], "x", lambda file: file.write(b"theirs" * 10_000))
"""


@pytest.mark.parametrize("step", range(1, 8))
def test_killed_at_any_step_there_is_a_whole_file_or_none_and_the_next_try_saves_it_once(
    tmp_path: Path, step: int
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(step), TEMPORARY]
    done = subprocess.run(command, timeout=60, check=False)
    assert done.returncode == (-9 if step <= STEPS else 0)
    for each in tmp_path.iterdir():
        assert each.name == TEMPORARY or each.read_bytes() == b"theirs" * 10_000
    place(tmp_path, TEMPORARY, "x", writes(b"theirs" * 10_000))
    assert names_in(tmp_path) == ["x"]


STEPS = 6
"""Open the folder and the file, sync it, link, sync the folder, close it."""
