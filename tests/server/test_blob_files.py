"""What whatever keeps the bytes of blobs has to do (`server.blobs.port`); here the folder does."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.errors import StorageError
from securechat.files import has_no_room
from securechat.server.blobs import folder as folder_module
from securechat.server.blobs.folder import BlobFolder
from securechat.server.blobs.port import PARTS, BlobFiles, BlobLostError

FILE, OTHER = b"\x07" * 32, b"\x07" + b"\xff" * 31

KINDS: dict[str, Callable[[Path], BlobFiles]] = {"folder": lambda path: BlobFolder(path / "blobs")}


@pytest.fixture(params=KINDS)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> BlobFiles:
    return KINDS[request.param](tmp_path)


def test_what_was_appended_is_read_again_from_anywhere(files: BlobFiles) -> None:
    assert files.size(FILE) == files.settle(FILE) == 0
    files.append(FILE, 0, [b"one", b"two"])
    files.append(FILE, 6, [b"three"])
    assert files.size(FILE) == files.settle(FILE) == 11
    assert files.read(FILE, 0, 11) == b"onetwothree"
    assert files.read(FILE, 4, 5) == b"wothr"
    assert files.files(7) == [FILE]
    files.append(OTHER, 0, [b"?"])
    assert sorted(files.files(7)) == [FILE, OTHER]
    assert not any(files.files(part) for part in range(PARTS) if part != 7)


def test_what_nobody_was_told_of_gives_way(files: BlobFiles) -> None:
    files.append(FILE, 0, [b"acknowledged", b" and not"])
    files.append(FILE, 12, [b"!"])
    assert files.read(FILE, 0, 13) == b"acknowledged!"
    assert files.size(FILE) == 13


def test_bytes_that_are_not_there_are_noticed(files: BlobFiles) -> None:
    with pytest.raises(BlobLostError):
        files.append(FILE, 5, [b"?"])
    with pytest.raises(BlobLostError):
        files.read(FILE, 0, 1)
    files.append(FILE, 0, [b"four"])
    with pytest.raises(BlobLostError):
        files.append(FILE, 5, [b"?"])
    with pytest.raises(BlobLostError):
        files.read(FILE, 0, 5)
    assert files.read(FILE, 0, 4) == b"four"


def test_bytes_of_all_files_are_counted_as_they_come_and_go_and_anew_at_the_start(
    files: BlobFiles, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    assert files.held == 0
    files.append(FILE, 0, [b"acknowledged", b" and not"])
    files.append(OTHER, 0, [b"other"])
    assert files.held == 25
    files.append(FILE, 12, [b"!"])  # what nobody was told of gives way
    assert files.held == 18
    assert KINDS[request.node.callspec.params["files"]](tmp_path).held == 18
    files.delete(OTHER)
    files.delete(OTHER)
    assert files.held == 13


def test_what_somebody_has_changed_in_the_folder_is_counted_anew(tmp_path: Path) -> None:
    files = BlobFolder(tmp_path)
    files.append(FILE, 0, [b"a file"])
    files.append(b"\x08" * 32, 0, [b"another one"])
    (tmp_path / "07" / FILE.hex()).write_bytes(b"longer than it was")
    (tmp_path / "07" / "README").write_text("not ours")
    files.recount(7)
    assert files.held == 18 + 11
    files.delete(FILE)
    assert files.held == 11
    (tmp_path / "08" / (b"\x08" * 32).hex()).unlink()
    files.recount(8)
    assert files.held == 0


def test_a_file_is_deleted_once_and_for_all(files: BlobFiles) -> None:
    files.append(FILE, 0, [b"?"])
    files.delete(FILE)
    files.delete(FILE)
    assert files.files(7) == []
    files.append(FILE, 0, [b"anew"])
    assert files.read(FILE, 0, 4) == b"anew"


def test_a_write_that_fails_leaves_what_was_there(files: BlobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.append(FILE, 0, [b"there"])

    def fail(descriptor: int) -> None:
        del descriptor
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "sync_open", fail)
        with pytest.raises(StorageError) as raised:
            files.append(FILE, 5, [b" and more"])
    assert has_no_room(raised.value)
    assert files.size(FILE) == files.held == 5


def test_only_what_has_a_name_of_ours_is_ours(tmp_path: Path) -> None:
    files = BlobFolder(tmp_path / "blobs")
    files.append(FILE, 0, [b"?"])
    part = tmp_path / "blobs" / "07"
    for name in ("README", "07" * 31, "07" * 33, ("07" * 32).replace("0", "O"), "08" * 32, ("0A" * 32)):
        (part / name).write_text("somebody's")
    assert files.files(7) == [FILE]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    BlobFolder(tmp_path / "blobs").append(FILE, 0, [b"?"])
    for path in (tmp_path / "blobs", *(tmp_path / "blobs").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0
