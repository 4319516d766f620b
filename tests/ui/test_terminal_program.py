"""The real program on a terminal: who gets the full screen, what keys do there, and what nobody else loads of it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.client import commands
from securechat.client.events import Ready, Received
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer

CHEAP = [sys.executable, "-m", "tests.support.cheap"]


@pytest.fixture
def bob(tmp_path: Path) -> Iterator[LiveClient]:
    server = LiveServer(tmp_path)
    bob = LiveClient(server, "bob")
    bob.wait_for(Ready)
    yield bob
    bob.close()
    assert server.stop() == 0


def alice(bob: LiveClient, folder: Path, *options: str, environment: dict[str, str] | None = None) -> Terminal:
    (folder / "password").write_text("glacier tulip Harvest\n")
    (folder / "password").chmod(0o600)
    where = ["--server", f"127.0.0.1:{bob.server.port}", "--ca", str(bob.server.ca), "--vault", str(folder / "alice")]
    who = ["--user", "alice", "--register", "--without-recovery", "--password-file", str(folder / "password")]
    command = [*CHEAP, "client", *where, *who, *options]
    environment = {"SECURECHAT_PLAIN": "", **(environment or {})}
    return Terminal(command, orders=False, columns=100, rows=30, environment=environment)


def shows(terminal: Terminal, text: str) -> None:
    terminal.wait(lambda: any(text in row for row in terminal.rows))


def test_somebody_new_comes_to_the_full_screen_talks_and_leaves(bob: LiveClient, tmp_path: Path) -> None:
    with alice(bob, tmp_path) as terminal:
        shows(terminal, "connected")
        terminal.send(b"/msg bob Hello\r")
        shows(terminal, "▎ Hello")
        heard = bob.wait_for(Received).message
        bob.do(commands.Accept(heard.conversation))
        bob.do(commands.Send(heard.conversation, "\x1b]0;owned\x07 [red]Hi[/red]"))
        shows(terminal, "[red]Hi[/red]")
        assert b"\x1b]0;owned" not in terminal.output
        terminal.send(b"\x06")  # Ctrl-F
        shows(terminal, "Search")
        terminal.send(b"Hello")
        shows(terminal, "you: Hello")
        terminal.send(b"\x06")
        terminal.wait(lambda: not any("Search" in row for row in terminal.rows))
        terminal.send(b"\x11")  # Ctrl-Q
        terminal.wait(lambda: b"\x1b[?1049l" in terminal.output)  # the screen of before
        assert terminal.process.wait(60) == 0


@pytest.mark.parametrize(("options", "environment"), [(["--plain"], {}), ([], {"TERM": "dumb"}),
                                                      ([], {"SECURECHAT_PLAIN": "1"})])  # fmt: skip
def test_who_wants_lines_or_cannot_have_more_gets_them(
    bob: LiveClient, tmp_path: Path, options: list[str], environment: dict[str, str]
) -> None:
    with alice(bob, tmp_path, *options, environment=environment) as terminal:
        shows(terminal, "You are in.")
        assert b"\x1b[?1049h" not in terminal.output
        terminal.send(b"/quit\r")
        assert terminal.process.wait(60) == 0


def test_a_signal_ends_it_in_order(bob: LiveClient, tmp_path: Path) -> None:
    with alice(bob, tmp_path) as terminal:
        shows(terminal, "connected")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.wait(lambda: b"\x1b[?1049l" in terminal.output)
        assert terminal.process.wait(60) == -signal.SIGTERM


def test_it_is_as_large_as_its_terminal_whatever_variables_say(bob: LiveClient, tmp_path: Path) -> None:
    with alice(bob, tmp_path, environment={"COLUMNS": "50", "LINES": "12"}) as terminal:
        shows(terminal, "connected")
        terminal.wait(lambda: "^Q quit" in terminal.all_rows[29][60:])  # the last row goes to the right edge


def test_it_ends_once_its_terminal_has_gone_without_a_signal(bob: LiveClient, tmp_path: Path) -> None:
    with alice(bob, tmp_path) as terminal:
        shows(terminal, "connected")
        terminal.vanish()
        assert terminal.process.wait(60) == 0


def loaded(*arguments: str) -> set[str]:
    program = (
        "import sys\nfrom securechat.cli import main\n"
        f"try:\n    main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input="Hi", capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.split())


def test_a_script_loads_nothing_of_the_full_screen(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("glacier tulip Harvest\n")
    (tmp_path / "password").chmod(0o600)
    there = loaded("send", "--user", "alice", "--server", "127.0.0.1:1", "--pin", "sha256:" + "0" * 64, "--register",
                   "--vault", str(tmp_path), "--password-file", str(tmp_path / "password"), "--to", "bob")  # fmt: skip
    assert "securechat.ui.scripts.sending" in there
    assert not {name.partition(".")[0] for name in there} & {"rich", "textual", "pygments", "markdown_it", "asyncio"}
    ours = {name for name in there if name.startswith("securechat.ui.terminal")}
    assert ours == {"securechat.ui.terminal", "securechat.ui.terminal.keys"}  # names, which the settings file has
