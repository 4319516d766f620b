"""What people type about files in the plain client, and what they are told of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.message import Attached
from securechat.ui.session.sharing import paths_like
from securechat.ui.session.verbs import VERBS
from securechat.ui.text.files import progress
from securechat.ui.view.completion import complete
from tests.support.scripted import message
from tests.ui.test_chat import BOB, LOBBY, Screen

SEA = Attached("sea.jpg", "at last", "image/jpeg", "image", 2_100_000, bytes(32), inline=False)
WAY = events.Transfer(7, "send", LOBBY.id, 0, "sea.jpg", "moving", 500_000, 2_000_000)


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Screen:
    """In #lobby, where bob (2) and alice (3) have sent a file; the program was started in a folder with two files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("sea.jpg", "my sea.jpg"):
        (tmp_path / name).write_bytes(b"x")
    screen = Screen()
    for where in (BOB, LOBBY):
        screen.client.add(where)
    for number, (sender, file) in enumerate((("bob", None), ("bob", SEA), ("alice", SEA), ("carol", None)), 1):
        said = message(LOBBY, sender, "sea.jpg: at last" if file else "hi", local_id=number, seq=number)
        screen.client.said.append(replace(said, own=sender == "alice", file=file))
    screen.type("/go #lobby")
    screen.client.calls.clear()
    return screen


def test_a_file_is_sent_by_its_path_with_what_it_is(screen: Screen, tmp_path: Path) -> None:
    screen.type("/send sea.jpg", '/send "my sea.jpg" at last', "/send my sea.jpg", "/send my\\ sea.jpg", "/send ~/x")
    image = {"media_type": "image/jpeg", "disposition": "image"}
    here, mine = str(tmp_path / "sea.jpg"), str(tmp_path / "my sea.jpg")
    assert screen.commands() == [
        commands.SendFile(LOBBY.id, here, **image),  # type: ignore[arg-type]  # test data
        commands.SendFile(LOBBY.id, mine, "at last", **image),  # type: ignore[arg-type]  # test data
        commands.SendFile(LOBBY.id, mine, **image),  # type: ignore[arg-type]  # test data
        commands.SendFile(LOBBY.id, mine, **image),  # type: ignore[arg-type]  # test data
        commands.SendFile(LOBBY.id, str(tmp_path / "home" / "x")),
    ]


def test_a_file_is_saved_where_one_says_or_with_the_downloads(screen: Screen, tmp_path: Path) -> None:
    screen.type("/save")
    downloads = tmp_path / "home" / "Downloads"
    downloads.mkdir()
    screen.type("/save", "/files", "/save 1", "/save 2 pictures", "/save ~")
    assert screen.commands() == [
        commands.SaveFile(2, str(tmp_path)),
        commands.SaveFile(2, str(downloads)),
        commands.SaveFile(3, str(downloads)),
        commands.SaveFile(2, str(tmp_path / "pictures")),
        commands.SaveFile(2, str(tmp_path / "home")),
    ]


def test_the_files_are_listed_with_numbers_and_those_on_their_way(screen: Screen) -> None:
    screen.client.on_their_way = (WAY,)
    shown = screen.type("/files")
    assert "-- (1) sending sea.jpg: 25 % of 2.0 MB" in shown
    assert "2) " in shown
    assert "[picture, 2.1 MB] sea.jpg: at last" in shown
    assert "/save N" in shown


def test_what_is_on_its_way_is_given_up(screen: Screen) -> None:
    assert "No file is on its way" in screen.type("/cancel")
    screen.client.on_their_way = (WAY, replace(WAY, id=9))
    screen.type("/cancel", "/cancel 1")
    assert screen.commands() == [commands.CancelFile(9), commands.CancelFile(7)]
    assert "with a number that /files shows" in screen.type("/cancel 3")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/send", "Type /send and a file"), ("/send ~nobody-is-called-this/x", "There can be no such path"),
        ("/files 1", "Type /files alone"), ("/save 9", "There is no message 9"), ("/cancel x", "Type /cancel"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_what_does(screen: Screen, line: str, why: str) -> None:
    assert why in screen.type(line)
    assert not screen.commands()


def test_where_there_are_no_files_it_is_said(screen: Screen) -> None:
    screen.client.said = []
    assert "There are no files in #lobby yet" in screen.type("/files")
    assert "Nobody else has sent a file in #lobby" in screen.type("/save")


@pytest.mark.usefixtures("screen")
def test_paths_are_completed(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "a\x1bb").write_bytes(b"")
    assert [*paths_like("")] == ["home/", "my sea.jpg", "sea.jpg"]
    assert [*paths_like("s")] == ["sea.jpg"]
    assert [*paths_like(".h")] == [".hidden"]
    assert [*paths_like(f"{tmp_path}/s")] == [f"{tmp_path}/sea.jpg"]
    assert [*paths_like("nowhere/x")] == []
    (tmp_path / "home" / "x").write_bytes(b"")
    assert [*paths_like("~/")] == ["~/x"]

    def completed(typed: str) -> list[str]:
        return [each.text for each in complete(typed, VERBS.values(), (), paths_like)]

    assert completed("/send s") == ["sea.jpg"]
    assert completed("/send ") == ["home/", "sea.jpg"]  # what has blanks takes quotes
    assert completed("/save h") == completed("/save 1 h") == ["home/"]
    assert completed("/save 1") == []
    assert completed("/msg s") == []


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (events.Transferred(replace(WAY, stage="sealing", done=0, size=0)), "Sending sea.jpg to #lobby"),
        (events.Transferred(replace(WAY, kind="save", done=0)), "Fetching sea.jpg (2.0 MB)"),
        (events.TransferDelayed(WAY, "quota", "The server says: full."), "sea.jpg waits. The server says: full."),
        (events.TransferEnded(WAY, "sea.jpg was not sent: gone."), "sea.jpg was not sent: gone."),
        (events.FileSaved(2, "../sea\x1b.jpg", "/srv/sea.jpg"), "as /srv/sea.jpg"),
    ],
)
def test_what_becomes_of_files_is_told_in_clean_words(screen: Screen, event: events.Event, words: str) -> None:
    shown = screen.tell(event)
    assert words in shown
    assert "\x1b" not in shown


def test_progress_is_told_by_its_list_alone(screen: Screen) -> None:
    for stage in ("waiting", "moving", "opening"):
        assert not screen.tell(events.Transferred(replace(WAY, stage=stage)))
    assert not screen.tell(events.TransferEnded(WAY, "refused with its command", command=5))


def test_each_stage_has_words() -> None:
    assert progress(replace(WAY, stage="sealing", size=0)) == "sending sea.jpg: encrypting it here, 500 kB so far"
    assert progress(replace(WAY, stage="waiting")) == "sending sea.jpg: waiting for the server"
    assert progress(replace(WAY, kind="save")) == "saving sea.jpg: 25 % of 2.0 MB"
    assert progress(replace(WAY, kind="save", stage="opening")) == "saving sea.jpg: decrypting and checking it, 25 %"
