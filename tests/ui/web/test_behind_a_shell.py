"""`securechat web &`: a shell's job goes on behind it, and hears Enter once it is in front again."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from securechat.client.events import Ready
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer

SHELL = shutil.which("bash")

CONTROLLED = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Runs a program whose terminal this one is: only then has a shell jobs."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path)
    bob = LiveClient(server, "bob")
    bob.wait_for(Ready)
    yield server
    bob.close()
    assert server.stop() == 0


@pytest.mark.skipif(SHELL is None, reason="bash is not installed")
def test_it_goes_on_behind_a_shell_and_hears_enter_in_front_of_it(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("glacier tulip Harvest\n")
    (tmp_path / "password").chmod(0o600)
    program = [
        sys.executable, "-m", "tests.support.cheap", "web", "--no-browser", "--user", "alice", "--register",
        "--server", f"127.0.0.1:{server.port}", "--ca", str(server.ca), "--vault", str(tmp_path / "alice"),
        "--password-file", str(tmp_path / "password"),
    ]  # fmt: skip
    shell = [sys.executable, "-c", CONTROLLED, str(SHELL), "--norc", "--noprofile", "-i"]
    with Terminal(shell, orders=False, columns=400, environment={"PS1": "> "}) as terminal:
        terminal.send(f"{' '.join(program)} &\r".encode())
        terminal.wait(lambda: len(addresses(terminal)) == 1)
        with urlopen(addresses(terminal)[0].partition("#")[0], timeout=60) as page:  # noqa: S310  # our own
            assert page.status == 200
        terminal.send(b"jobs\r")
        terminal.wait(lambda: b"Running" in terminal.output)
        assert b"Stopped" not in terminal.output
        terminal.send(b"fg\r")

        def another() -> bool:
            terminal.send(b"\r")
            return len(addresses(terminal)) > 1

        terminal.wait(another)
        terminal.send(b"\x03")
        terminal.wait(lambda: "> " in terminal.all_rows[terminal.cursor_at] + " ")


def addresses(terminal: Terminal) -> list[str]:
    """What it has printed so far."""
    words = bytes(terminal.output).decode(errors="replace").split()
    return [each for each in words if each.startswith("http://127.0.0.1:") and "#" in each]
