"""`scripts/run` in a terminal: two people come in and talk, and the server ends with the first, however that comes."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from securechat import certs
from securechat.identity.invite_line import decode
from securechat_lab.cast.terminal import Terminal

RUN = Path(__file__).parents[1] / "scripts" / "run"
PATIENCE = 60.0  # seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the script, where all is set up already."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(RUN, tmp_path / "scripts")
    (tmp_path / "scripts" / "setup").write_text("#!/bin/sh\n")
    (tmp_path / "scripts" / "setup").chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "securechat").symlink_to(Path(sys.executable).with_name("securechat"))
    return tmp_path


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGHUP), 129, id="the terminal is closed"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), 143, id="the script is told to end"),
    ],
)
def test_the_server_ends_with_the_script(folder: Path, end: Callable[[int], None], code: int) -> None:
    terminal, program = pty.openpty()
    process = subprocess.Popen(
        [folder / "scripts" / "run"],
        stdin=program, stdout=program, stderr=program, start_new_session=True,
        env={**os.environ, "SECURECHAT_PORT": "0"},
    )  # fmt: skip
    os.close(program)
    shown = b""
    try:
        while b"Your user name:" not in shown:
            assert select.select([terminal], [], [], PATIENCE)[0], shown
            shown += os.read(terminal, 4096)
        assert (folder / "data" / "chat.db").exists()
        end(process.pid)
        try:
            process.wait(PATIENCE / 3)
        except subprocess.TimeoutExpired:  # the shell was about to read: it heeds a signal that interrupts the reading
            end(process.pid)
        assert process.wait(PATIENCE) == code
        with pytest.raises(ProcessLookupError):  # nobody is left of its group: it has waited for the server
            os.killpg(process.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(terminal)


class Newcomer:
    """Somebody who types what they are asked for. `inputs`: how many times Enter was pressed, in all."""

    inputs = 0

    def __init__(self, *command: str | Path, full: bool = False, rows: int = 50) -> None:
        """`full`: with the full screen."""
        Newcomer.inputs += 1  # the command itself
        plain = {"SECURECHAT_PLAIN": ""} if full else {}
        words = list(map(str, command))
        self.terminal = Terminal(words, orders=False, columns=120, rows=rows, environment=plain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the script, and whatever it has started: a script that is killed tidies nothing up."""
        with self.terminal, contextlib.suppress(ProcessLookupError):
            os.killpg(self.terminal.process.pid, signal.SIGKILL)

    def waits_for(self, text: str) -> None:
        self.terminal.wait(lambda: any(text in row for row in self.terminal.rows))

    def answers(self, question: str, text: str) -> None:
        self.terminal.wait(lambda: self.terminal.cursor_row.startswith(question))
        self.says(text)

    def says(self, text: str) -> None:
        self.terminal.send(text.encode() + b"\r")
        Newcomer.inputs += 1

    def line(self) -> str:
        """Return the invite line that the screen shows, over several rows and beside other things."""
        shown = "".join(row.strip(" ▌·┃").rpartition("▌ ")[2] for row in self.terminal.rows)
        last = shown.rpartition("securechat1a")[2]
        return "securechat1a" + last[: len(last) - len(last.lstrip("abcdefghijklmnopqrstuvwxyz234567"))]


@pytest.fixture
def count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A new user's inputs from here to the first answer that a second person has read: less than eight."""
    monkeypatch.setenv("SECURECHAT_PORT", "0")
    monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "vaults"))
    Newcomer.inputs = 0
    yield
    assert Newcomer.inputs < 8


def run_by_alice(folder: Path, *, full: bool = False) -> Newcomer:
    return Newcomer(folder / "scripts" / "run", "alice", full=full)


@pytest.mark.usefixtures("count")
def test_two_newcomers_talk_in_a_few_inputs(folder: Path) -> None:
    with Newcomer(folder / "scripts" / "run") as alice:
        alice.waits_for("securechat1a")
        assert not any("█" in row for row in alice.terminal.rows)  # a QR code: no camera's machine reaches this server
        alice.answers("Your user name:", "alice")
        alice.answers("New password of alice (Enter makes one):", "")
        alice.waits_for("is shown once, keep it: ")
        alice.waits_for("Welcome, alice.")
        alice.waits_for("You have opened the room #lobby.")
        with Newcomer(folder / "scripts" / "run", "bob") as bob:
            bob.waits_for("You join it there.")
            bob.answers("New password of bob (Enter makes one):", "")
            bob.answers("[#lobby] >", "hello")
            alice.waits_for("bob ?: hello")
            alice.answers("[#lobby] >", "hi bob")
            bob.waits_for("alice ?: hi bob")


@pytest.mark.usefixtures("count")
def test_two_newcomers_talk_on_full_screens_which_show_the_password_until_esc(folder: Path) -> None:
    with run_by_alice(folder, full=True) as alice:
        alice.answers("New password of alice (Enter makes one):", "")
        alice.waits_for("connected")
        alice.waits_for("is shown once, keep it: ")
        with Newcomer(folder / "scripts" / "run", "bob", full=True) as bob:
            bob.answers("New password of bob (Enter makes one):", "")
            bob.waits_for("You are in #lobby (2 people).")
            bob.says("hello")
            alice.waits_for("▎ hello")
            alice.says("hi bob")
            bob.waits_for("▎ hi bob")
        alice.waits_for("is shown once, keep it: ")
        alice.terminal.send(b"\x1b")
        alice.terminal.wait(lambda: not any("keep it: " in row for row in alice.terminal.rows))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.usefixtures("count")
def test_who_comes_by_a_members_line_is_with_its_maker_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, full: bool
) -> None:
    with run_by_alice(folder, full=full) as alice:
        alice.answers("New password of alice (Enter makes one):", "")
        alice.waits_for("You have opened the room #lobby.")
        alice.says("/invite-line")
        alice.waits_for("takes it back.")
        line = alice.line()
        monkeypatch.chdir(folder)
        with Newcomer(".venv/bin/securechat", "join", "--user", "bob", full=full) as bob:
            bob.answers("Paste the invite line:", line)
            bob.waits_for("/password puts one of your own in its place.")
            bob.waits_for("alice has accepted.")
            bob.says("hello")
            alice.waits_for("hello")
            alice.says("/msg bob hi bob")
            bob.waits_for("hi bob")
            bob.says("/quit")
            bob.answers("Write it now? A file name, or Enter for later:", "")
            assert bob.terminal.wait_for_end() == 0
            Newcomer.inputs -= 2  # they leave, when all is said


@pytest.mark.usefixtures("count")
def test_who_comes_by_an_operators_line_is_shown_the_rooms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run_by_alice(folder) as alice:
        alice.answers("New password of alice (Enter makes one):", "")
        alice.waits_for("You have opened the room #lobby.")
        line = alice.line()
        monkeypatch.chdir(folder)
        with Newcomer(".venv/bin/securechat", "join", "--user", "bob") as bob:
            bob.answers("Paste the invite line:", line)
            bob.waits_for("/join #lobby enters it.")
            bob.says("/join #lobby")
            bob.answers("[#lobby] >", "hello")
            alice.waits_for("bob ?: hello")
            alice.answers("[#lobby] >", "hi bob")
            bob.waits_for("alice ?: hi bob")


@pytest.mark.usefixtures("count")
def test_two_newcomers_talk_by_the_commands_of_the_readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README.md, "By hand"."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SECURECHAT_PORT")
    serve = "scripts/setup && .venv/bin/securechat gen-certs && exec .venv/bin/securechat server --port 0"
    with Newcomer("sh", "-c", serve) as server:
        server.terminal.wait(lambda: any("listening on" in row for row in server.terminal.rows))
        row = next(row for row in server.terminal.rows if "listening on" in row)
        where = ["--server", row.rpartition("listening on")[2].split()[0]]
        with Newcomer(".venv/bin/securechat", "client", "--user", "alice", *where) as alice:
            alice.answers("New password of alice (Enter makes one):", "")
            with Newcomer(".venv/bin/securechat", "client", "--user", "bob", *where) as bob:
                bob.answers("New password of bob (Enter makes one):", "")
                bob.waits_for("You are in.")
                alice.waits_for("You are in.")
                bob.says("/msg alice hello")
                alice.waits_for("/accept bob")
                alice.says("/msg bob hi")
                bob.waits_for("alice: hi")


def test_a_typing_error_in_a_name_or_a_password_is_asked_about_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURECHAT_PORT", "0")
    monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "vaults"))
    with Newcomer(folder / "scripts" / "run", "al\\ice") as alice:
        alice.waits_for("a user name holds no \\")
        alice.answers("Your user name:", "alice")
        for question in ("New password of alice", "The same again:"):
            alice.answers(question, "glacier tulip seven")
        alice.waits_for("You have opened the room #lobby.")
        monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "other"))
        with Newcomer(folder / "scripts" / "run", "Alice") as other:  # the name is taken, and no vault here is theirs
            other.answers("New password of alice", "")
            other.waits_for("Type name and password again")
            other.answers("Your user name:", "bob")
        alice.answers("[#lobby] >", "/quit")
        assert alice.terminal.wait_for_end() == 0
    monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "vaults"))
    with Newcomer(folder / "scripts" / "run", "alice") as alice:
        alice.answers("Password of alice:", "glacier tulip eight")
        alice.waits_for("The password does not open the vault")
        alice.answers("Password of alice:", "glacier tulip seven")
        alice.waits_for("You are in.")


def test_a_server_at_a_terminal_hands_out_its_first_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECURECHAT_VAULT", str(tmp_path / "vaults"))
    certs.generate(tmp_path / "certs", ("localhost", "chat.example"))
    program = str(Path(sys.executable).with_name("securechat"))
    server = [program, "server", "--port", "0"]
    with Terminal([*server, "--host", "0.0.0.0"], orders=False, columns=200, rows=60) as terminal:  # noqa: S104  # a test
        terminal.wait(lambda: any("█" in row for row in terminal.rows))
        (line,) = [row for row in terminal.rows if row.startswith("securechat1")]
        assert decode(line, 0).address.startswith("chat.example:")
        terminal.process.terminate()
        assert terminal.wait_for_end() == 0
    with Terminal(server, orders=False, columns=200, rows=60) as terminal:
        terminal.wait(lambda: any("Nobody has an account" in row for row in terminal.rows))
        terminal.wait(lambda: any(row.startswith("securechat1") for row in terminal.rows))
        assert not any("█" in row for row in terminal.rows)  # for a machine with a camera it is nothing
        (line,) = [row for row in terminal.rows if row.startswith("securechat1")]
        (tmp_path / "line").write_text(line)
        (tmp_path / "password").write_text("glacier tulip seven")
        joining = [program, "join", "line", "--user", "alice", "--password-file", "password"]
        done = subprocess.run(joining, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
        assert "securechat: You are registered. Go on: " in done.stderr
        terminal.process.terminate()
        assert terminal.wait_for_end() == 0
    with Terminal(server, orders=False, columns=200, rows=60) as terminal:  # the twin: somebody has an account
        terminal.wait(lambda: any("listening on" in row for row in terminal.rows))
        terminal.process.terminate()
        assert terminal.wait_for_end() == 0
        assert not any("securechat1" in row for row in terminal.rows)


def test_a_wrong_argument_is_told(folder: Path) -> None:
    for arguments in (["--dmeo"], ["alice", "bob"]):
        command = [str(folder / "scripts" / "run"), *arguments]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stderr) == (2, b"usage: scripts/run [NAME | --demo]\n")
