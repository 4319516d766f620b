"""Clients of the chat of old (`old_chat`), in one loop: what each of them sends, and what it was told.

None of them ever waits for another: what is to be sent waits in a buffer, and everybody is read who reads.
"""

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

MAX_TOLD: Final = 4 << 20
"""Bytes that a client is told in all: no scene has a tenth of it."""
QUIET_SECONDS: Final = 3.0
"""In which nothing at all happens, and what is waited for does not come: an answer takes less than a millisecond."""
END_SECONDS: Final = 0.5
"""In which the end of a process is noticed, once its connections have ended."""
ROUND: Final = 0.05
"""Seconds between two looks at the server's process."""


class UnexpectedError(Exception):
    """Somebody was told something else than they should have been, in a sentence."""


class Talker:
    """One client."""

    def __init__(self, name: str, port: int, *, reads: bool) -> None:
        self.name = name
        self.reads = reads
        """Whether it takes what it is told. Who does not has room for a few lines only."""
        self.gone = False
        """Whether the server has ended the connection."""
        self.sending = bytearray()
        self.lines: list[str] = []
        """The whole lines that it was told."""
        self.apart: dict[str, int] = {}
        """Lines that may come at any time: how often they have come. They are not among the others."""
        self._checked = 0
        self.told = 0
        """Bytes."""
        self._rest = b""
        self.link = socket.socket()
        if not reads:
            self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before it connects (tcp(7))
        try:
            self.link.connect(("127.0.0.1", port))
        except OSError:
            self.gone = True
        self.link.setblocking(False)  # noqa: FBT003  it is the standard library's

    def new(self) -> list[str]:
        """Return the lines that nobody has looked at so far."""
        return self.lines[self._checked :]

    def skip(self, count: int) -> None:
        """Take so many lines as looked at."""
        self._checked += count

    def log_in(self) -> None:
        """Say who it is."""
        self.say(f"LOGIN {self.name} secret")

    def say(self, *lines: str) -> None:
        """Send lines."""
        self.send("".join(f"{line}\n" for line in lines).encode())

    def send(self, data: bytes) -> None:
        """Send bytes: at once if there is room, in one piece."""
        self.sending += data
        self.push()

    def push(self) -> None:
        """Send what there is room for."""
        try:
            del self.sending[: self.link.send(self.sending)]
        except BlockingIOError:
            pass
        except OSError:
            self.sending.clear()

    def take(self) -> None:
        """Read what is there."""
        try:
            data = self.link.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in (each.decode("utf-8", "replace") for each in lines):
            if line in self.apart:
                self.apart[line] += 1
            else:
                self.lines.append(line)
        self.told += len(data)
        self.gone = not data or self.told > MAX_TOLD

    def leave(self) -> None:
        """Go, as one should."""
        self.link.close()

    def crash(self) -> None:
        """Go as a process that has crashed, or a machine without power: no goodbye, but a reset."""
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.link.close()


class Table:
    """All of them; a context manager, at whose end everybody has left."""

    def __init__(self, port: int, look: Callable[[], object] = lambda: None) -> None:
        """`look`: looks after the server's process, and raises something if that has ended."""
        self._port = port
        self._look = look
        self._talkers: list[Talker] = []

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let everybody go."""
        for each in self._talkers:
            each.link.close()

    def connect(self, name: str, *, reads: bool = True) -> Talker:
        """Return somebody who has said nothing so far."""
        talker = Talker(name, self._port, reads=reads)
        self._talkers.append(talker)
        return talker

    def come(self, name: str, *, reads: bool = True) -> Talker:
        """Return somebody who has said who they are."""
        talker = self.connect(name, reads=reads)
        talker.log_in()
        return talker

    def hears(self, talker: Talker, *expected: str) -> None:
        """Wait until somebody was told exactly these lines, after those looked at. Raises `UnexpectedError`."""

        def differs() -> bool:
            return any(one != other for one, other in zip(talker.new(), expected, strict=False))

        self.until(lambda: len(talker.new()) >= len(expected) or differs() or talker.gone)
        if talker.gone and len(talker.new()) < len(expected):
            self.until(lambda: False, END_SECONDS)  # is it the server's process that has ended?
        for told, want in zip([*talker.new(), None], expected, strict=False):
            if told is None:
                raise UnexpectedError(f"{talker.name} waits in vain for {want!r:.80}")
            if told != want:
                raise UnexpectedError(f"{talker.name} was told {told!r:.80}, where {want!r:.80} was to come")
        talker.skip(len(expected))

    def sent_away(self, talker: Talker) -> None:
        """Wait until the server has ended somebody's connection. Raises `UnexpectedError`."""
        if not self.until(lambda: talker.gone):
            raise UnexpectedError(f"the connection of {talker.name} was to be ended, and goes on")

    @property
    def told(self) -> bool:
        """Whether anybody was told anything so far, if only a part of a line."""
        return any(each.told for each in self._talkers)

    def until(self, sign: Callable[[], bool], seconds: float | None = None) -> bool:
        """Move bytes until there is this sign. Return False if nothing happens for so long that it will not come."""
        seconds = QUIET_SECONDS if seconds is None else seconds
        quiet = time.monotonic() + seconds
        while not sign():
            self._look()
            if self._move():
                quiet = time.monotonic() + seconds
            elif time.monotonic() > quiet:
                return False
        return True

    def _move(self) -> bool:
        """Wait for something to happen, and say whether it did."""
        with selectors.DefaultSelector() as selector:
            for each in self._talkers:
                wants = selectors.EVENT_READ * each.reads | selectors.EVENT_WRITE * bool(each.sending)
                if wants and not each.gone and each.link.fileno() >= 0:
                    selector.register(each.link, wants, each)
            ready = selector.select(ROUND)
        for key, mask in ready:
            talker: Talker = key.data
            if mask & selectors.EVENT_WRITE:
                talker.push()
            if mask & selectors.EVENT_READ:
                with contextlib.suppress(OSError):
                    talker.take()
        return bool(ready)
