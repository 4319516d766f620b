"""Two people, each with a window on a display of their own, over a real server; and the program itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

pytest.importorskip("tkinter", reason="this Python has none")
pytest.importorskip("sv_ttk", reason="needs the extra [window]")

from securechat.client.core import ChatClient
from securechat.client.events import Event, Received
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.ui.rpc.owner import OwnedClient
from securechat_lab.cast.live import CHEAP, LiveClient
from tests.support.display import PATIENCE, Display
from tests.support.live import LiveServer
from tests.support.server_process import server_environment
from tests.ui.window.conftest import Seat

Sit = Callable[..., Seat]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path)
    yield server
    server.stop()


class Account:
    """A core with a vault, over TLS."""

    def __init__(self, server: LiveServer, name: str) -> None:
        self._settings = ClientSettings("localhost", server.port, register=True, ca_file=server.ca)
        path = server.folder / f"{name}.vault"
        self.vault = Vault.open(path, name, PasswordSource.typed("correct horse"), cost=CHEAP)
        self.core: OwnedClient | None = None

    def __call__(self, tell: Callable[[Event], None]) -> ChatClient:
        self.core = OwnedClient(self._settings, self.vault, on_event=tell)
        return self.core

    def close(self) -> None:
        assert self.core is not None
        assert self.core.end(60)
        self.vault.close()


def test_two_people_chat_verify_share_a_file_search_and_come_back(
    display: Display, other_display: Display, seats: Sit, server: LiveServer
) -> None:
    accounts = [Account(server, name) for name in ("alice", "bob")]
    try:
        alice, bob = (seats(where, account) for where, account in zip((display, other_display), accounts, strict=True))
        _talk(alice, bob, server)
    finally:
        for account in accounts:
            account.close()


def _talk(alice: Seat, bob: Seat, server: LiveServer) -> None:
    for each in (alice, bob):
        each.reads("● connected")
    alice.says("/chat bob")
    bob.until(lambda: any("wants to talk" in each for each in bob.listed), alice)
    column = bob.window.list
    bob.display.click(column.winfo_rootx() + 120, column.winfo_rooty() + 20)
    bob.until(lambda: bob.window.session.place.name == "alice")
    bob.says("/accept")
    alice.until(lambda: any(each.state == "open" for each in alice.client.conversations()), bob)
    alice.says("Hello Bob")
    bob.reads("Hello Bob", alice)
    bob.says("Hello Alice")
    alice.reads("Hello Alice", bob)
    alice.until(lambda: "✓✓" in alice.shown, bob)  # bob has it

    # Each sees the number that the other one sees, and notes it.
    numbers = []
    for seat, whom in ((alice, "bob"), (bob, "alice")):
        seat.display.press("ctrl+n")
        seat.reads("nobody sits between you")
        shown = seat.window.session.number
        assert shown is not None
        numbers.append(shown.keys[0].number)
        assert all(group in seat.shown for group in numbers[-1].split())
        seat.display.press("Escape")
        seat.until(lambda seat=seat: not seat.window.pane)  # type: ignore[misc]
        seat.says(f"/verify {whom}")
        seat.until(lambda seat=seat: [each.trust for each in seat.window.session.listing.items] == ["verified"])  # type: ignore[misc]
    assert numbers[0] == numbers[1]

    # A file goes by the two dialogs, whose keys are pressed.
    file = server.folder / "plan.txt"
    file.write_text("the plan")
    saved = server.folder / "saved"
    saved.mkdir()
    _in_dialog(alice, "ctrl+o", "Send a file", str(file))
    bob.reads("plan.txt", alice)
    bob.display.press("Escape")
    bob.until(lambda: bob.focused is bob.window.timeline)
    bob.display.press("End")
    bob.until(lambda: "plan.txt" in next(e.words for e in bob.window.timeline.blocks
                                         if e.key == bob.window.timeline.chosen))  # fmt: skip
    _in_dialog(bob, "s", "Save it in", str(saved))
    bob.until(lambda: (saved / "plan.txt").exists() and "saved" in bob.shown, alice)
    assert (saved / "plan.txt").read_text() == "the plan"

    # A search leads to where something was said.
    bob.display.press("ctrl+f")
    bob.until(lambda: bob.focused is bob.window.query)
    bob.display.type("hello from:alice")
    bob.until(lambda: len(bob.window.found.blocks) == 1 and "Hello Bob" in bob.window.found.blocks[0].words)
    bob.display.press("\n")
    bob.until(lambda: bool(bob.window.found.chosen))
    bob.display.press("\n")
    bob.until(lambda: "Hello Bob" in next((e.words for e in bob.window.timeline.blocks
                                           if e.key == bob.window.timeline.chosen), ""))  # fmt: skip

    # The server goes and comes back: what was said meanwhile arrives.
    server.kill()
    alice.reads("no connection")
    alice.says("Said alone")
    alice.reads("◌ waiting")
    server.start()
    alice.says("/reconnect")
    bob.reads("Said alone", alice)
    alice.until(lambda: "waiting" not in alice.shown, bob)

    for each in (alice, bob):
        each.display.press("ctrl+q")
        each.until(lambda each=each: each.window._over)  # type: ignore[misc]
        assert each.window.session.exit_code == 0


def _folder_in(tk: Any) -> str:
    """Where the dialog for folders is; empty: there was none yet."""
    return str(tk.eval("catch {set ::tk::dialog::file::__tk_choosedir(selectPath)} found; set found"))


def _in_dialog(seat: Seat, key: str, title: str, path: str) -> None:
    """Press a key that opens a dialog, type a path into it, and press Enter: all from within Tk's own loop."""
    tk, pressed, deadline = seat.root.tk, [0], monotonic() + PATIENCE
    entry = ""

    def go_on() -> None:
        nonlocal entry
        there = title in seat.display.windows()
        focused = str(tk.call("focus"))
        if there and not entry and focused and str(tk.call("winfo", "class", focused)) == "TEntry":
            entry = focused
            tk.call(entry, "delete", 0, "end")
            seat.display.type(path)
        elif there and entry and tk.call(entry, "get") == path and pressed[0] < 1:
            pressed[0] = 1
            seat.display.press("\n")
        elif there and pressed[0] == 1 and _folder_in(tk) == path:
            pressed[0] = 2  # it has gone there, and asks whether this is the one
            seat.display.press("\n")
        if monotonic() > deadline:
            tk.call("set", "::tk::Priv(selectFilePath)", "")  # else the dialog would stay for ever
        elif there or not pressed[0]:
            seat.root.after(20, go_on)

    seat.root.after(20, go_on)
    seat.display.press(key)
    seat.until(lambda: pressed[0] and title not in seat.display.windows())


# --- the program ------------------------------------------------------------------------------------------------------


def command(server: LiveServer, *options: str) -> list[str]:
    password = server.folder / "password"
    password.touch(mode=0o600)
    password.write_text("glacier tulip Harvest\n")
    where = ["--server", f"localhost:{server.port}", "--ca", str(server.ca), "--vault", str(server.folder / "vaults")]
    who = ["--user", "alice", "--register", "--password-file", str(password)]
    return [sys.executable, "-m", "tests.support.cheap", "window", *where, *who, *options]


def test_somebody_new_chats_in_the_program_and_a_signal_ends_it_in_order(display: Display, server: LiveServer) -> None:
    bob = LiveClient(server, "bob")
    environment = server_environment({"HOME": str(server.folder), **display.environment})
    with subprocess.Popen(command(server), env=environment, stderr=subprocess.PIPE, text=True) as program:
        display.wait(lambda: any("securechat - alice" in each for each in display.windows()))
        display.wait(lambda: program.poll() is not None or _is_drawn(display))
        display.click(700, 680)  # where one writes
        display.type("/msg bob Hello")
        display.press("\n")
        assert bob.wait_for(Received).message.text == "Hello"
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=60)
        assert program.returncode == -signal.SIGTERM
        assert errors == ""
    bob.close()


def _is_drawn(display: Display) -> bool:
    return display.picture(size=(400, 740)).getcolors(20) is None  # letters are drawn in many shades


@pytest.mark.parametrize(
    ("how", "sentence"),
    [("display", "There is no display here"), ("tkinter", "This Python has no tkinter"),
     ("extra", "The window needs the extra [window]")],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_sentence_before_anything_is_asked(how: str, sentence: str) -> None:
    missing = {"display": [], "tkinter": ["tkinter"], "extra": ["sv_ttk"]}[how]
    program = (
        "import importlib.util, sys\n"
        f"for name in {missing!r}:\n    sys.modules[name] = None\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name in {missing!r} else find(name)\n"
        "from securechat.cli import main\nmain(['window'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {sentence}")
    assert done.stderr.count("\n") == 1


def test_the_picture_in_the_manual_can_still_be_made(display: Display, tmp_path: Path) -> None:
    assert display  # there can be one
    subprocess.run([sys.executable, "-m", "scripts.window_picture", tmp_path / "window.png"], check=True, timeout=120)
    assert (tmp_path / "window.png").read_bytes().startswith(b"\x89PNG")
