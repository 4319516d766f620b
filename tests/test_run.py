"""`scripts/run` in a terminal: two people come in and talk, and the server ends with the first, however that comes."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
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

    def __init__(self, folder: Path, *name: str) -> None:
        Newcomer.inputs += 1  # the command itself
        self.terminal = Terminal([str(folder / "scripts" / "run"), *name], orders=False, columns=120, rows=50)

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
        self.terminal.send(text.encode() + b"\r")
        Newcomer.inputs += 1


def test_two_newcomers_talk_after_fewer_than_eight_inputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURECHAT_PORT", "0")
    monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "vaults"))
    Newcomer.inputs = 0
    with Newcomer(folder) as alice:
        alice.waits_for("█")  # the QR code of a line
        alice.waits_for("securechat1a")
        alice.answers("Your user name:", "alice")
        alice.answers("New password of alice (Enter makes one):", "")
        alice.waits_for("is shown once, keep it: ")
        alice.waits_for("Welcome, alice.")
        alice.waits_for("You have opened the room #lobby.")
        with Newcomer(folder, "bob") as bob:
            bob.waits_for("You join it there.")
            bob.answers("New password of bob (Enter makes one):", "")
            bob.answers("[#lobby] >", "hello")
            alice.waits_for("bob ?: hello")
            alice.answers("[#lobby] >", "hi bob")
            bob.waits_for("alice ?: hi bob")
            assert Newcomer.inputs < 8
            for each in (bob, alice):
                each.answers("[#lobby] >", "/quit")
                assert each.terminal.wait_for_end() == 0


def test_a_typing_error_in_a_name_or_a_password_is_asked_about_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURECHAT_PORT", "0")
    monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "vaults"))
    with Newcomer(folder, "al\\ice") as alice:
        alice.waits_for("a user name holds no \\")
        alice.answers("Your user name:", "alice")
        for question in ("New password of alice", "The same again:"):
            alice.answers(question, "glacier tulip seven")
        alice.waits_for("You have opened the room #lobby.")
        monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "other"))
        with Newcomer(folder, "Alice") as other:  # the name is taken, and no vault here is theirs
            other.answers("New password of alice", "")
            other.waits_for("Type name and password again")
            other.answers("Your user name:", "bob")
        alice.answers("[#lobby] >", "/quit")
        assert alice.terminal.wait_for_end() == 0
    monkeypatch.setenv("SECURECHAT_VAULT", str(folder / "vaults"))
    with Newcomer(folder, "alice") as alice:
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
        terminal.wait(lambda: any("█" in row for row in terminal.rows))
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
