"""Plays scripts that read like conversations: real programs on terminals, over TLS to a real server.

A script is lines of text, played from the first to the last:

    # a remark
    alice comes                   registers, at a terminal; or comes again
    alice comes with TERM=foot    with variables
    alice leaves                  types /quit; the program ends, and without an error
    the server stops              and starts again: the server starts
    alice> Hello!                 types it, and presses Enter; without a text, presses Enter alone
    alice types: Hel              types it, and no more
    alice pastes: one | two       pastes two lines, and no more
    alice tab: /his => /history   types it, presses Tab, and has that there
    alice asks: /go => (2 new)    types it, each second again, until a line with that in it comes
    alice: bob: Hello!            a line with this in it stands on her screen, or comes; each line is claimed once
    alice never: Hello!           no line of her screen has had this in it, when the script is over
    alice| delivered              the row in which she types ends with this
    alice* bell                   the next notice that she hears: the bell, or a sequence with this text

Words in braces are filled in by whoever plays it. What stands on a screen is taken row by row: a text that goes on in
the next rows, behind a mark, is one line.
"""

import re
import select
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from securechat.ui.view.lines import CONTINUATION
from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer

PATIENCE: Final = 60.0
"""Seconds in which anything that has to come does."""

AGAIN: Final = 1.0
"""Seconds after which a question is asked again that has no other answer yet."""

ROWS: Final = 400
"""Of each screen: nothing of a script leaves it."""

_NOTICE: Final = re.compile(rb"\x1b\](9;|777;notify;)([^\x07]*)\x07\x07|\x07")
"""A sequence with the bell behind it, or the bell alone."""


class Seat:
    """Somebody at a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.is_there = True
        self._claimed: set[tuple[int, str]] = set()  # rows, and what stood there: a prompt that goes moves lines up
        self._heard = 0  # notices that are claimed

    def lines(self) -> list[tuple[int, str]]:
        """What stands on the screen, each line with its first row."""
        found: list[tuple[int, str]] = []
        for number, row in enumerate(self.terminal.all_rows):
            if row.startswith(CONTINUATION.rstrip()) and found:
                begun, text = found.pop()
                found.append((begun, f"{text} {row.removeprefix(CONTINUATION.rstrip()).strip()}"))
            elif row:
                found.append((number, row))
        return found

    def claim(self, text: str) -> bool:
        """Whether a line with a text in it is there that was not claimed yet. It is now."""
        for number, line in self.lines():
            if (number, line) not in self._claimed and text in line and number != self.terminal.cursor_at:
                self._claimed.add((number, line))
                return True
        return False

    def hears(self, text: str) -> bool:
        """Whether the next notice has come and is this one."""
        notices = [*_NOTICE.finditer(bytes(self.terminal.output))]
        if len(notices) <= self._heard:
            return False
        heard = (notices[self._heard][0]).decode()
        assert (heard == "\a") if text == "bell" else (text in heard), f"{heard!r} was heard in place of {text}"
        self._heard += 1
        return True

    @property
    def unclaimed_notices(self) -> int:
        """Notices that no step has claimed."""
        return len([*_NOTICE.finditer(bytes(self.terminal.output))]) - self._heard


class Stage:
    """A server, and who is at a terminal."""

    def __init__(self, folder: Path, words: Mapping[str, str]) -> None:
        self.folder = folder
        self.server = LiveServer(folder / "server")
        self.words = words
        self.seats: dict[str, Seat] = {}
        self._never: list[tuple[str, str]] = []
        (folder / "password").touch(mode=0o600)
        (folder / "password").write_text("glacier tulip Harvest\n")

    def close(self) -> None:
        """End whatever runs."""
        for seat in self.seats.values():
            seat.terminal.__exit__(None, None, None)
        self.server.stop()

    def play(self, script: str) -> None:
        """Play a script. Raises `AssertionError` that names its line."""
        for number, line in enumerate(script.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                try:
                    self._step(line.strip().format_map(self.words))
                except AssertionError as error:
                    raise AssertionError(f"line {number}, {line!r}: {error}") from None
        for name, text in self._never:
            assert not any(text in line for _, line in self.seats[name].lines()), f"{name} has seen {text!r}"
        for name, seat in self.seats.items():
            assert not seat.unclaimed_notices, f"{name} has heard {seat.unclaimed_notices} notices more"

    def _step(self, line: str) -> None:
        if line == "the server stops":
            assert self.server.stop() == 0
            return
        if line == "the server starts":
            self.server.start()
            return
        found = re.fullmatch(r"(\w+)( comes| leaves| never:| types:| pastes:| tab:| asks:|[>:|*])(?: (.*))?", line)
        assert found is not None, "no step"
        name, what, text = found[1], found[2].strip(), found[3] or ""
        if what == "comes":
            self._comes(name, dict(each.split("=") for each in text.removeprefix("with ").split()))
            return
        seat = self.seats[name]
        match what:
            case "leaves":
                self._types(seat, "/quit")
                assert seat.terminal.wait_for_end() == 0
                seat.is_there = False
            case "never:":
                self._never.append((name, text))
            case "types:":
                self._types(seat, text, then=b"")
            case "tab:":
                typed, _, becomes = text.partition(" => ")
                self._types(seat, typed, then=b"\t")
                self._wait(lambda: f"> {becomes}" in seat.terminal.cursor_row, seat)
            case "asks:":
                self._asks(seat, *text.split(" => "))
            case "pastes:":
                seat.terminal.send(b"\x1b[200~" + text.replace(" | ", "\r").encode() + b"\x1b[201~")
                self._wait(lambda: seat.terminal.cursor_row.endswith(text.split(" | ")[-1]), seat)
            case ">":
                self._types(seat, text)
            case ":":
                self._wait(lambda: seat.claim(text), seat)
            case "|":
                self._wait(lambda: seat.terminal.cursor_row.endswith(text), seat)
            case "*":
                self._wait(lambda: seat.hears(text), seat)

    def _comes(self, name: str, environment: dict[str, str]) -> None:
        if before := self.seats.pop(name, None):
            before.terminal.__exit__(None, None, None)
        options = ["--user", name, "--server", f"localhost:{self.server.port}", "--ca", str(self.server.ca)]
        options += ["--vault", str(self.folder / name), "--password-file", str(self.folder / "password")]
        options += [] if before else ["--register", "--without-recovery"]
        command = [sys.executable, "-m", "tests.stories.person", "client", *options]
        terminal = Terminal(command, orders=False, columns=120, rows=ROWS, environment=environment)
        seat = self.seats[name] = Seat(terminal)
        self._wait(lambda: seat.claim("You are in.") or seat.claim("No connection"), seat)

    def _types(self, seat: Seat, text: str, then: bytes = b"\r") -> None:
        seat.terminal.send(text.encode())
        self._wait(lambda: text in seat.terminal.cursor_row, seat)
        seat.terminal.send(then)

    def _asks(self, seat: Seat, question: str, answer: str) -> None:
        """Ask until the answer is that: what has changed is not always told by itself."""
        ends, asked = time.monotonic() + PATIENCE, 0.0
        while not seat.claim(answer):
            assert time.monotonic() < ends, "the screen shows:\n" + "\n".join(seat.terminal.rows)
            if time.monotonic() > asked + AGAIN:
                self._types(seat, question)
                asked = time.monotonic()
            self._show(AGAIN)

    def _wait(self, condition: Callable[[], bool], whose: Seat) -> None:
        """Let everybody's screen go on until something holds."""
        ends = time.monotonic() + PATIENCE
        while not condition():
            left = ends - time.monotonic()
            assert left > 0, "the screen shows:\n" + "\n".join(whose.terminal.rows)
            running = self._show(left)
            assert running or condition(), "all have ended; the screen shows:\n" + "\n".join(whose.terminal.rows)

    def _show(self, seconds: float) -> bool:
        """Let everybody's screen go on as soon as there is something, or time is up. False: all have ended."""
        running = {seat.terminal: seat for seat in self.seats.values() if seat.is_there}
        for terminal in select.select(running, [], [], seconds)[0]:
            running[terminal].is_there = terminal.take()
        return any(seat.is_there for seat in running.values())
