"""How soon each face shows what was said, and how soon a key is seen, while messages come in and while none do.

The real programs, in a room of many lines: the full screen and the line mode on a terminal, the page in a browser where
one is installed. A key is pressed ten times a second, first while nothing comes in, which is the control, then while
another program says so many messages a second. What the password costs is left out (Argon2, as much as is chosen).
"""

import fcntl
import json
import os
import pty
import struct
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, Protocol

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.securechat import PROGRAM
from scripts.benchmarks.systems.system import cpu_of_family
from tests.support.browser import Browser, browsers

COLUMNS, ROWS = 120, 40
RATE: Final = 500  # messages a second
BETWEEN: Final = 0.1  # seconds from one key to the next
HANDFUL: Final = 0.02  # seconds from one handful of messages to the next
ROUNDS: Final = 8  # of all letters, with nothing coming in, and as many while messages do
LETTERS: Final = "бгджзийлпфцчшщъыьэюя"
"""What is typed: none of them stands in a message, so whatever shows one shows a key."""
CLEARED: Final = 0.5  # seconds after which what was typed is gone from the screen
KILL_LINE: Final = b"\x15"  # Ctrl-U
PATIENCE: Final = 120.0
FIRST_SCREEN_GOAL, MEDIAN_GOAL, P99_GOAL = 1_000.0, 30.0, 100.0  # milliseconds


@dataclass(frozen=True)
class Seat:
    """What a face opens."""

    room: str
    newest: str
    """The text of the newest line there."""
    password: str
    settings: tuple[str, ...]
    """Of whoever looks: arguments."""
    talker: tuple[str, ...]
    """Of whoever talks, with a password file."""


class Face(Protocol):
    """A program that shows a room."""

    def first_screen(self, newest: str) -> float:
        """Give the password, and return how long it takes until the newest line is seen, in ms."""

    def type_all(self) -> list[float]:
        """Type all letters, one after the other, and take them back; return how long each took to be seen, in ms."""

    def wait_for(self, text: str) -> None:
        """Wait until a text is seen."""

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU that were used, by whom."""

    def close(self) -> None:
        """End it."""


def faces(seat: Seat) -> Iterator[Figure]:
    """Measure each face in turn."""
    made: dict[str, Callable[[], Face]] = {
        "full screen": lambda: OnATerminal(seat), "line mode": lambda: OnATerminal(seat, "--plain"),
    }  # fmt: skip
    if browsers():
        made["page"] = lambda: OnAPage(seat)
    newest = seat.newest
    for name, make in made.items():
        talker = Talker(seat, name)
        yield from _face(name, make, newest, talker)
        newest = talker.goodbye


def _face(name: str, make: Callable[[], Face], newest: str, talker: "Talker") -> Iterator[Figure]:
    face = make()
    try:
        yield Figure(name, "first screen", face.first_screen(newest), "ms", goal=FIRST_SCREEN_GOAL)
        talker.wait()
        face.wait_for(talker.greeting)
        control = _typed(face)
        talker.begin()
        busy = _typed(face, talker.end)
    finally:
        talker.close()
        face.close()
    case = f"{name}, {talker.rate:,.0f} messages a second come in"
    for each, typed in ((f"{name}, nothing comes in", control), (case, busy)):
        yield Figure(each, "delay of a key, median", median(typed.delays), "ms", goal=MEDIAN_GOAL)
        yield Figure(each, "delay of a key, p99", quantiles(typed.delays, n=100)[-1], "ms", goal=P99_GOAL)
    for who, seconds in busy.cpu.items():
        others = control.cpu[who] / control.seconds * busy.seconds
        yield Figure(case, f"CPU a message, {who}", (seconds - others) * 1e6 / talker.said, "us")
    yield Figure(case, "newest seen after it was said", busy.after * 1000, "ms")


@dataclass(frozen=True)
class Typed:
    """What came of typing."""

    delays: list[float]
    """Of each key, in ms."""
    cpu: dict[str, float]
    """Seconds that were used meanwhile."""
    seconds: float
    after: float
    """Seconds of them until what was said last was seen."""


def _typed(face: Face, end: Callable[[], str] = lambda: "") -> Typed:
    """Type, `end` what goes on meanwhile, and wait until what it says last is seen."""
    begun, before = time.perf_counter(), face.cpu()
    delays = [each for _ in range(ROUNDS) for each in face.type_all()]
    goodbye = end()
    last = time.perf_counter()
    face.wait_for(goodbye)
    now = time.perf_counter()
    return Typed(delays, {who: used - before[who] for who, used in face.cpu().items()}, now - begun, now - last)


class OnATerminal:
    """A client on a terminal of its own."""

    def __init__(self, seat: Seat, *options: str, command: str = "client") -> None:
        self._seat = seat
        self._fd, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "SECURECHAT_PLAIN": ""}
        self._process = subprocess.Popen(
            [PROGRAM, command, *seat.settings, *options],
            stdin=end, stdout=end, stderr=end, start_new_session=True, env=environment,
        )  # fmt: skip
        os.close(end)
        self._came: list[tuple[float, int]] = []  # when how much was there
        self._output = bytearray()
        self._more = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.wait_for("Password of")

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except OSError:  # it has ended
                return
            with self._more:
                self._output += data
                self._came.append((time.perf_counter(), len(self._output)))
                self._more.notify_all()

    def first_screen(self, newest: str) -> float:
        """See `Face`."""
        begun = time.perf_counter()
        self.send(f"{self._seat.password}\r".encode())
        return (self._seen(newest.encode(), 0) - begun) * 1000

    def type_all(self) -> list[float]:
        """See `Face`."""
        pressed: list[tuple[float, int, bytes]] = []
        begun = time.perf_counter()
        for number, letter in enumerate(LETTERS):
            time.sleep(max(0.0, begun + number * BETWEEN - time.perf_counter()))
            pressed.append((time.perf_counter(), len(self._output), letter.encode()))
            self.send(letter.encode())
        delays = [(self._seen(letter, start) - when) * 1000 for when, start, letter in pressed]
        self.send(KILL_LINE)
        time.sleep(CLEARED)
        return delays

    def wait_for(self, text: str) -> None:
        """See `Face`."""
        self._seen(text.encode(), 0)

    def _seen(self, what: bytes, start: int) -> float:
        """Return when the program wrote something, behind that much of its output."""
        deadline = time.perf_counter() + PATIENCE
        with self._more:
            while (found := self._output.find(what, start)) < 0:
                if not self._more.wait(deadline - time.perf_counter()):
                    raise TimeoutError(f"{what!r} was never shown:\n{bytes(self._output[-2000:])!r}")
            return next(when for when, length in self._came if length >= found + len(what))

    def line(self, begin: str) -> str:
        """Wait for a line that begins so, and return it."""
        self._seen(begin.encode(), 0)
        with self._more:
            start = self._output.find(begin.encode())
            while (end := self._output.find(b"\n", start)) < 0:
                self._more.wait(PATIENCE)
            return self._output[start:end].decode().strip()

    def send(self, data: bytes) -> None:
        """Press keys."""
        os.write(self._fd, data)

    def cpu(self) -> dict[str, float]:
        """See `Face`."""
        return {"the program": cpu_of_family(self._process.pid)}

    def close(self) -> None:
        """See `Face`."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._fd)


class OnAPage:
    """The page in a browser, and what serves it."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._folder = tempfile.TemporaryDirectory()
        self._browser = Browser(browsers()[0], Path(self._folder.name))
        self._program = OnATerminal(seat, "--no-browser", command="web")

    def first_screen(self, newest: str) -> float:
        """See `Face`. Starting the browser is left out."""
        begun = time.perf_counter()
        self._program.send(f"{self._seat.password}\r".encode())
        address = self._program.line("http://")
        self._browser.go(address)
        self.wait_for(newest)
        took = (time.perf_counter() - begun) * 1000
        self._browser.value(_LISTEN)
        return took

    def type_all(self) -> list[float]:
        """See `Face`."""
        self._browser.value("window.delays = [], document.querySelector('textarea').focus()")
        begun = time.perf_counter()
        for number, letter in enumerate(LETTERS):
            time.sleep(max(0.0, begun + number * BETWEEN - time.perf_counter()))
            self._browser.press(letter)
        self._browser.wait(f"window.delays.length === {len(LETTERS)}")
        delays: list[float] = self._browser.value("window.delays")
        self._browser.value("window.delays = [], document.querySelector('textarea').select()")
        self._browser.ask("Input.insertText", text="")
        time.sleep(CLEARED)
        return delays

    def wait_for(self, text: str) -> None:
        """See `Face`."""
        self._browser.wait(f"document.querySelector('main').textContent.includes({json.dumps(text)})")

    def cpu(self) -> dict[str, float]:
        """See `Face`."""
        return {**self._program.cpu(), "the browser": cpu_of_family(self._browser.pid)}

    def close(self) -> None:
        """See `Face`."""
        self._browser.__exit__(None, None, None)
        self._program.close()
        self._folder.cleanup()


_LISTEN: Final = """
document.querySelector('textarea').addEventListener('keydown', (event) => requestAnimationFrame(() => {
    const drawn = new MessageChannel();
    drawn.port1.onmessage = () => window.delays.push(performance.now() - event.timeStamp);
    drawn.port2.postMessage(0);
}))
"""
"""Note from each key to when the next picture after it was drawn."""


class Talker:
    """Somebody else's program, which says one message after the other: `securechat rpc`."""

    def __init__(self, seat: Seat, name: str) -> None:
        """`name`: of the face that is talked to."""
        self.greeting, self.goodbye = f"hello to the {name}", f"and that was all for the {name}"
        self._process = subprocess.Popen(
            [PROGRAM, "rpc", *seat.talker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._room, self._number, self.said, self._seconds = seat.room, 0, 0, 0.0
        self._answers: dict[int, Any] = {}
        self._more, self._over = threading.Condition(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._where = ""
        self._thread = threading.Thread(target=self._talk, daemon=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._more:
                self._answers[said.get("id", 0)] = said
                self._more.notify_all()

    def wait(self) -> None:
        """Wait until it is in, and has said that it is there."""
        found = self._ask("find", name=self._room)
        self._where = found["result"]["id"]
        self._say(self.greeting)

    def begin(self) -> None:
        """Begin to talk."""
        self._thread.start()

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.said / self._seconds

    def end(self) -> str:
        """Say goodbye once all has been said; return how."""
        self._over.set()
        self._thread.join()
        self._say(self.goodbye)
        return self.goodbye

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._process.kill()
        self._process.wait()

    def _talk(self) -> None:
        begun = time.perf_counter()
        while not self._over.wait(HANDFUL):
            self._seconds = time.perf_counter() - begun
            while self.said < RATE * self._seconds:
                self.said += 1
                self._send("Send", conversation=self._where, text=f"message {self.said}, as long as many others are")

    def _say(self, text: str) -> None:
        answer = self._ask("Send", conversation=self._where, text=text)
        assert "error" not in answer, answer

    def _ask(self, method: str, **params: str) -> Any:
        number = self._send(method, **params)
        with self._more:
            assert self._more.wait_for(lambda: number in self._answers, PATIENCE)
            return self._answers.pop(number)

    def _send(self, method: str, **params: str) -> int:
        assert self._process.stdin is not None
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._number
