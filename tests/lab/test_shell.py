"""The shell of the lab: one folder, this machine, and a prompt that nobody takes for another."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from securechat_lab.cast.terminal import Terminal
from securechat_lab.kit.loopback import LoopbackOnlyError, loopback_only
from securechat_lab.kit.stage import confined

PROGRAM = Path(sys.executable).with_name("securechat")


def shell(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), "lab", "shell", "--folder", str(folder)]
    typed = "".join(f"{line}\n" for line in lines)
    return subprocess.run(command, input=typed, capture_output=True, text=True, check=False, cwd=folder.parent)


def test_commands_are_carried_out_in_the_shells_folder(tmp_path: Path) -> None:
    done = shell(tmp_path / "mine", "start 5", "", "predict 5 0", "status", "exit", "list")
    assert done.returncode == 0
    assert "WEAKENED" in done.stderr
    assert done.stdout.count("weakened> ") == 5
    assert "Read first:" in done.stdout
    assert "Noted: 0" in done.stdout
    assert (tmp_path / "mine" / "05-tamper" / "attack.py").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_everything_else_is_refused_in_a_sentence_and_the_shell_goes_on(tmp_path: Path) -> None:
    refused = {
        "ls /": "no command of the lab: 'ls'",
        "instructor new-course": "no command of the lab: 'instructor'",
        "shell": "no command of the lab: 'shell'",
        f"status --folder {tmp_path}": "this shell uses nothing else",
        "watch /etc/passwd": "this shell uses nothing else",
        "check 5 --results ../elsewhere.json": "this shell uses nothing else",
        "start 'five": "No closing quotation",
        "start five": "There is no exercise FIVE",
        "check 5": "Begin with: securechat lab start 5",
    }
    done = shell(tmp_path / "mine", *refused, "list")
    assert done.returncode == 0, done.stderr
    for said in refused.values():
        assert said in done.stderr
    assert "Tamper" in done.stdout


def test_a_folder_that_the_lab_has_not_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    done = shell(tmp_path / "mine", "list")
    assert done.returncode != 0
    assert "the lab has not made it" in done.stderr


def test_on_a_terminal_banner_and_prompt_are_red(tmp_path: Path) -> None:
    with Terminal([str(PROGRAM), "lab", "shell", "--folder", str(tmp_path / "mine")], orders=False) as terminal:
        terminal.wait(lambda: terminal.cursor_row.startswith("weakened>"))
        for begins in ("WEAKENED: the lab", "weakened>"):
            (row,) = [number for number, row in enumerate(terminal._screen.display) if row.startswith(begins)]
            assert terminal._screen.buffer[row][0].bg == "red"


@pytest.mark.parametrize("address", [("192.0.2.1", 9), ("2001:db8::1", 9, 0, 0), ("", 0)])
def test_no_weak_build_leaves_this_machine(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as stream, socket.socket(family, socket.SOCK_DGRAM) as letters, confined():
        for use in (stream.connect, stream.bind, letters.connect, lambda to: letters.sendto(b"x", to)):
            with pytest.raises(LoopbackOnlyError, match="stays on this machine"):
                use(address)


def test_no_name_is_looked_up() -> None:
    with confined():
        for use in (socket.create_connection, lambda to: socket.gethostbyname(to[0])):
            with pytest.raises(LoopbackOnlyError, match="chat.example"):
                use(("chat.example", 9))


def test_on_this_machine_and_afterwards_everything_goes(tmp_path: Path) -> None:
    with loopback_only(), socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
        socket.create_connection(("localhost", server.getsockname()[1])).close()
        with socket.socket(socket.AF_UNIX) as local:
            local.bind(str(tmp_path / "socket"))
    with socket.socket() as everywhere:
        everywhere.bind(("", 0))
