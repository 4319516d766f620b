"""A conversation as one sees it at a terminal: the real client on a pty, a real server, and somebody else over TLS."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.conversations import marking
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer


@pytest.fixture
def bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveClient]:
    monkeypatch.setattr(marking, "GATHER_SECONDS", 0.1)
    monkeypatch.setattr(marking, "PERIOD_SECONDS", 0.2)
    server = LiveServer(tmp_path)
    bob = LiveClient(server, "bob")
    bob.wait_for(events.Ready)
    yield bob
    bob.close()
    assert server.stop() == 0


def alice(bob: LiveClient, folder: Path) -> Terminal:
    (folder / "password").write_text("glacier tulip Harvest\n")
    (folder / "password").chmod(0o600)
    where = ["--server", f"127.0.0.1:{bob.server.port}", "--ca", str(bob.server.ca), "--vault", str(folder / "alice")]
    who = ["--user", "alice", "--register", "--without-recovery", "--password-file", str(folder / "password")]
    return Terminal([sys.executable, "-m", "tests.support.cheap", "client", *where, *who], orders=False, columns=100)


def test_what_became_of_a_line_who_types_and_who_is_blocked(bob: LiveClient, tmp_path: Path) -> None:
    with alice(bob, tmp_path) as terminal:

        def shows(text: str) -> Callable[[], bool]:
            return lambda: any(text in row for row in terminal.rows)

        def stands(text: str) -> Callable[[], bool]:
            """At the right end of the line that is being typed."""
            return lambda: terminal.cursor_row.startswith("[bob") and terminal.cursor_row.endswith(text)

        def type_line(text: str) -> None:
            terminal.type(text)
            terminal.send(b"\r")

        terminal.wait(shows("You are in."))
        type_line("/msg bob Are you coming?")
        asking = bob.wait_for(events.Received).message
        assert bob.answer(commands.Accept(asking.conversation)) is not None
        terminal.wait(stands("delivered"))
        bob.do(commands.Visit(asking.conversation, asking.local_id))
        terminal.wait(stands("read"))
        bob.do(commands.Type(asking.conversation))
        terminal.wait(stands("bob types"))
        bob.do(commands.Send(asking.conversation, "At six"))
        terminal.wait(shows("bob: At six"))
        terminal.wait(stands("read"))
        type_line("/history")
        terminal.wait(shows("alice: Are you coming? (read)"))
        type_line("/block bob")
        terminal.wait(shows("You hear nothing more of bob"))
        assert isinstance(bob.answer(commands.Send(asking.conversation, "Or at seven")), events.Done)
        type_line("/create #den")
        terminal.wait(shows("You have opened the room #den."))  # the server's answer comes behind what bob has said
        type_line("/unblock bob")
        terminal.wait(shows("bob is heard again."))
        assert not shows("Or at seven")()
        terminal.send(b"\x04")
        assert terminal.wait_for_end() == 0
