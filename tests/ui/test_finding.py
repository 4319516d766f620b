"""A story on a terminal, over TLS: what was said is found again, with a server and without one."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer

SECURECHAT = [sys.executable, "-m", "tests.support.cheap"]


class Place:
    """A server, and what its people need to find it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = LiveServer(folder)
        monkeypatch.setenv("SECURECHAT_SERVER", f"localhost:{self.server.port}")
        monkeypatch.setenv("SECURECHAT_CA", str(self.server.ca))
        monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "vaults"))
        monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text("glacier tulip lantern\n")
        monkeypatch.setenv("SECURECHAT_PASSWORD_FILE", str(password))

    def types(self, user: str, *lines: str, new: bool = False) -> str:
        """Somebody types lines into a pipe; return what they see."""
        command = [*SECURECHAT, "client", "--user", user, *(["--register"] if new else [])]
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return done.stdout

    def sits_down(self, user: str) -> Terminal:
        """Somebody opens the program at a terminal."""
        return Terminal([*SECURECHAT, "client", "--user", user], orders=False, columns=120, rows=50)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(tmp_path, monkeypatch)
    yield place
    assert place.server.stop() == 0


def sees(terminal: Terminal, text: str) -> None:
    terminal.wait(lambda: any(text in row for row in terminal.rows))


def enters(terminal: Terminal, line: str, *texts: str) -> None:
    terminal.type(line)
    terminal.send(b"\r")
    for text in texts:
        sees(terminal, text)


def test_what_was_said_is_found_with_a_server_and_without_one(place: Place) -> None:
    place.types("alice", "/join #club", "the key is under the mat", *(f"line {n}" for n in range(30)), new=True)
    place.types("bob", "/join #club", "lunch at noon?", new=True)

    with place.sits_down("alice") as alice:
        sees(alice, "bob ?: lunch at noon?")
        sees(alice, "You are talking in #club now.")  # somebody has written there
        enters(alice, "/history", "lunch at noon?", "12) ", "line 12")
        enters(alice, "/history older", "the key is under the mat")
        enters(alice, "/quit")
        assert alice.wait_for_end() == 0

    place.server.stop()
    with place.sits_down("alice") as alice:
        sees(alice, "You are talking in #club now.")  # where she was
        sees(alice, "line 29")
        sees(alice, "bob ?: lunch at noon?")
        sees(alice, "No connection: nothing listens")
        enters(alice, "/search MAT from:me", "1) ", "the key is under the mat", "/history at N shows")
        enters(alice, "/history at 1", "line 9")
        enters(alice, "/search noon in:#club", "lunch at noon?")
        enters(alice, '/search "key is" has:link', "Nothing was found.")
        enters(alice, "/go", "/go #club", "(here)")
        enters(alice, "said without a connection", "alice: said without a connection")
        place.server.start()
        enters(alice, "/reconnect")
        sees(alice, "You are in.")
        enters(alice, "/quit")
        assert alice.wait_for_end() == 0

    assert "alice ?: said without a connection" in place.types("bob")
