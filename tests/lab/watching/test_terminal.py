"""The viewer on a real pseudo-terminal."""

import contextlib
import fcntl
import re
import signal
import struct
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from securechat.cli import main
from securechat_lab.cast.terminal import Terminal
from securechat_lab.watching.demo import DROPPED
from securechat_lab.watching.demo import PRIVATE as LINES
from securechat_lab.watching.recording import Recorder
from tests.lab.watching.conftest import Scene

PROGRAM = [sys.executable, "-c", "from securechat.cli import main; main()", "lab", "watch"]


class Watching(Terminal):
    """The viewer."""

    def __init__(self, *arguments: str, folder: Path | None = None) -> None:
        with contextlib.chdir(folder or Path.cwd()):
            super().__init__([*PROGRAM, *arguments], orders=False)
        self.before = termios.tcgetattr(self._fd)

    def shows(self, text: str) -> None:
        self.wait(lambda: any(text in row for row in self.rows))

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)
        self._screen.cursor.y = min(self._screen.cursor.y, rows - 1)  # which pyte leaves outside
        self._screen.cursor.x = min(self._screen.cursor.x, columns - 1)
        self.process.send_signal(signal.SIGWINCH)

    def is_drawn(self) -> bool:
        """Whether a whole screen has come, and the cursor has gone back to its beginning.

        What is still on its way when the size changes goes to another place of it, as on any terminal.
        """
        return re.search(rb"\x1b\[\d+A\x1b\[0m$", self.output) is not None

    def is_sane(self) -> bool:
        """Whether the terminal is as it was: line by line, echoing, the cursor shown, no alternate screen."""
        shown, hidden = self.output.rfind(b"\x1b[?25h"), self.output.rfind(b"\x1b[?25l")
        left, entered = self.output.rfind(b"\x1b[?1049l"), self.output.rfind(b"\x1b[?1049h")
        return termios.tcgetattr(self._fd) == self.before and shown > hidden and left > entered >= 0


def moments(scene: Scene, *, everything: bool = False) -> list[str]:
    """The texts of those that are shown."""
    return [moment.text for moment in scene.story().moments if moment.main or everything]


def count(scene: Scene) -> int:
    return len(moments(scene))


def test_keys_walk_through_a_recording_and_the_terminal_is_left_as_it_was(scene: Scene) -> None:
    with Watching(str(scene.recording)) as viewer:
        viewer.shows(f"1 of {count(scene)}")
        viewer.send(b"\x1b[F")  # end
        viewer.shows("{0} of {0}".format(count(scene)))
        viewer.send(b"k" * (count(scene) - 1 - moments(scene).index(DROPPED)))
        viewer.shows("≠ FORK at #4")
        viewer.send(b"\x1b[H")
        viewer.shows(f"1 of {count(scene)}")
        viewer.send(b"\x1b[B" * moments(scene).index(LINES[0]))
        viewer.shows(f"The way of “{LINES[0]}”: 35 bytes become 497")
        viewer.send(b"\x1b[C\x1b[C\x1b[C\r")
        viewer.shows("inside ▣ MLS message, 424 bytes")
        viewer.send(b"u")
        viewer.wait(lambda: not any(LINES[1] in row for row in viewer.rows))
        viewer.send(b"ua")
        viewer.shows(f" of {len(moments(scene, everything=True))}")
        viewer.resize(130, 34)
        viewer.shows("☺ carol")
        viewer.wait(viewer.is_drawn)
        viewer.resize(60, 10)
        viewer.shows("This needs 80 columns")
        viewer.wait(viewer.is_drawn)
        viewer.resize(80, 24)
        viewer.shows("▤ Network")
        viewer.send(b"q")
        assert viewer.wait_for_end() == 0
        assert viewer.is_sane()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_one_that_is_ended_leaves_the_terminal_as_it_was(number: signal.Signals, scene: Scene) -> None:
    with Watching(str(scene.recording)) as viewer:
        viewer.shows(f"1 of {count(scene)}")
        viewer.process.send_signal(number)
        assert viewer.wait_for_end() == 0
        assert viewer.is_sane()


def test_what_happens_is_shown_as_it_happens(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "scene.jsonl", "a scene \x1b[31m")
    with Watching("--follow", str(tmp_path / "scene.jsonl")) as viewer:
        viewer.shows("Nothing was recorded yet")
        for text in ("first", "\x1b[2Jsecond\x07"):
            recorder.add("person", "said", sender="alice", to="alice", text=text, local=len(text), len=len(text))
            viewer.shows(text.strip("\x1b\x07"))
        viewer.shows("2 of 2")  # the newest is chosen by itself
        viewer.send(b"k")
        viewer.shows("1 of 2")
        recorder.add("person", "alarm", to="alice", text="third")
        viewer.shows("1 of 3")  # who has chosen one stays with it
        (tmp_path / "scene.jsonl").unlink()
        recorder.close()
        recorder = Recorder(tmp_path / "scene.jsonl", "another scene")
        viewer.shows("another scene")
        viewer.send(b"\x03")
        assert viewer.wait_for_end() == 0
        assert b"\x1b[2Jsecond" not in viewer.output
    recorder.close()


def test_it_plays_what_happened_in_its_own_time(scene: Scene) -> None:
    with Watching(str(scene.recording)) as viewer:
        viewer.shows(f"1 of {count(scene)}")
        viewer.send(b" ")
        viewer.shows("{0} of {0}".format(count(scene)))
        viewer.wait(lambda: not any("playing" in row for row in viewer.rows))
        viewer.send(b"q")
        assert viewer.wait_for_end() == 0


def test_without_colours_no_colour_is_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = re.compile(rb"\x1b\[([0-9;]*;)?([34][0-8]|9[0-7])(;[0-9;]*)?m")
    for value, expected in (("1", False), ("", True)):
        monkeypatch.setenv("NO_COLOR", value)
        with Watching(str(scene.recording)) as viewer:
            viewer.shows(f"1 of {count(scene)}")
            viewer.send(b"q")
            viewer.wait_for_end()
            assert bool(coloured.search(viewer.output)) is expected
            assert b"\x1b[0;7m" in viewer.output  # the chosen row is reversed all the same


def test_into_a_pipe_go_lines(scene: Scene) -> None:
    done = CliRunner().invoke(main, ["lab", "watch", str(scene.recording)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "●─●" in done.stdout
    assert DROPPED.split()[0] in done.stdout


def test_a_capture_is_no_recording_and_that_is_said(scene: Scene) -> None:
    done = CliRunner().invoke(main, ["lab", "watch", str(scene.capture)])
    assert done.exit_code == 1
    assert "is a capture: open it with Wireshark or tshark. The recording is beside it." in done.stderr


def test_where_there_is_nothing_to_watch_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["lab", "watch"])
    assert done.exit_code == 1
    assert "There is no scene.jsonl here. Go to where one is, name a recording, or play the --demo." in done.stderr
    done = CliRunner().invoke(main, ["lab", "watch", "nothing"])
    assert "cannot read the recording nothing: No such file or directory" in done.stderr


def test_the_demo_is_watched_while_it_happens_and_can_be_left(tmp_path: Path) -> None:
    with Watching("--demo", folder=tmp_path) as viewer:
        viewer.shows("alice logs in")
        viewer.shows("live")
        viewer.send(b"q")
        assert viewer.wait_for_end() == 0
        assert viewer.is_sane()
        assert viewer.rows[-1] == "To watch it again: securechat lab watch watch-demo/scene.jsonl"
        assert b"durability" not in viewer.output  # nor anything else that the server logs
    assert {path.name for path in (tmp_path / "watch-demo").iterdir()} == {"scene.jsonl", "scene.pcapng"}
    done = CliRunner().invoke(main, ["lab", "watch", "--demo", "recording"])
    assert "Name a recording, or play the --demo." in done.stderr
