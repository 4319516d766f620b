"""A process of its own that floods a server as fast as it can, and the other end of it.

    python -m tests.support.flooder DATA COUNT

makes COUNT accounts in the data folder of a server that does not run yet, and then does what it is told on standard
input, in lines of JSON. Everything is raw: what the server answers is counted, and read only as far as it takes to have
as many requests on their way as a client may have. A connection that the server ends is opened again at once.
"""

import contextlib
import itertools
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from securechat.errors import SecurechatError
from securechat.transport.tls import client_context
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import FrameReader, encode_frame
from securechat_lab.cast import wire_client
from tests.support.crowd import Ticket, prepare
from tests.support.floods import FLOODS, Attacker, Flood

ROOT = Path(__file__).parents[2]

CHUNK = 64 << 10
"""Bytes that are made at once; a message is taken whole."""

STRANGERS = 8
"""Connections of each who floods without having logged in."""

PATIENCE = 60.0
"""Seconds to wait for anything while a flood is prepared."""

HASTE = 5.0
"""The same while a connection is opened again: whoever floods has others to tend."""

PAUSE = 0.01
"""Seconds, at most, between two looks at connections none of which can do anything."""


class Hose:
    """One account's connection, through which a flood runs."""

    def __init__(self, ticket: Ticket, flood: Flood, port: int, tls: ssl.SSLContext, source: str, victim: str) -> None:
        self._ticket = ticket
        self.flood = flood
        self._place = port, tls, source
        self._victim = victim
        self.sent = 0
        self.bytes = 0
        self.answers: Counter[str] = Counter()
        self._connect()
        self._attacker = self._prepare()
        self._messages = flood.messages(self._attacker)
        self._waiting = [next(self._messages)]  # what takes long to make is made now
        self.socket.settimeout(0)

    @property
    def socket(self) -> socket.socket:
        """The one that it has at present."""
        return self._person.socket

    def _connect(self) -> None:
        port, tls, source = self._place
        if self.flood.state == "before login":
            self._person = self._ticket.knock(port, tls, source=source)
        else:
            self._person = self._ticket.enter(port, tls, publish=False, source=source)
        self._unsent = memoryview(b"")
        self._frames = FrameReader(limits.MAX_FRAME)
        self._outstanding = 0

    def _prepare(self) -> Attacker:
        """Have what a flood needs."""
        person = self._person
        attacker = Attacker(person, self._victim)
        if self.flood.state == "in a room":
            packages = [person.key_package() for _ in range(2)]
            assert isinstance(person.ask(m.PublishKeyPackages, packages[1:], packages[0]), m.Stock)
            assert isinstance(person.open_room(f"#{person.account}"), m.Done)
            (attacker.room,) = person.groups
            assert isinstance(person.subscribe(attacker.room), m.Subscribed)
        return attacker

    def _return(self) -> None:
        """Connect again, and be where we were."""
        attacker = self._attacker
        self._connect()
        self._person.groups = attacker.person.groups
        attacker.person = self._person
        if self.flood.state == "in a room":
            subscribed = self._person.subscribe(attacker.room)
            assert isinstance(subscribed, m.Subscribed), subscribed
            attacker.accepted = attacker.number = subscribed.last
        self.socket.settimeout(0)

    def step(self) -> bool:
        """Do what can be done without waiting; return whether that was anything."""
        try:
            received = self._receive()
            return self._send() or received
        except (ConnectionError, SecurechatError, ssl.SSLError, EOFError):
            self.close()
            self.answers["connections"] += 1
            try:
                self._return()
            except (OSError, SecurechatError, AssertionError):
                self.answers["shut out"] += 1
                self.close()
                return False  # the next step fails, and tries again
            return True

    def close(self) -> None:
        """Drop the connection."""
        self._person.drop()

    def _receive(self) -> bool:
        try:
            data = self._person.socket.recv(256 << 10)
        except BlockingIOError:
            return False
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        for body in self._frames.receive(self._person.tls.receive(data)):
            self._take(_decode(body))
        return True

    def _take(self, message: m.FromServer) -> None:
        if isinstance(message, m.Closing):
            self.answers[f"closing: {message.reason}"] += 1
            raise EOFError
        if not isinstance(message, m.Reply):
            return
        self._outstanding -= 1
        attacker = self._attacker
        if isinstance(message, m.Refused):
            self.answers[message.code] += 1
            attacker.number = attacker.accepted
        else:
            self.answers[type(message).__name__] += 1
        if isinstance(message, m.Accepted):
            attacker.accepted = message.number
        if isinstance(message, m.LoggedIn):  # once more
            raise EOFError

    def _send(self) -> bool:
        if not self._unsent:
            self._fill()
        if not self._unsent:
            return False
        try:
            sent = self._person.socket.send(self._unsent)
        except BlockingIOError:
            return False
        self.bytes += sent
        self._unsent = self._unsent[sent:]
        return True

    def _fill(self) -> None:
        frames, size = [], 0
        while size < CHUNK:
            if not self._waiting:
                self._waiting.append(next(self._messages))
            if isinstance(self._waiting[0], m.Request):
                if self._outstanding >= limits.MAX_IN_FLIGHT:
                    break
                self._outstanding += 1
            frames.append(encode_frame(self._waiting.pop()))
            size += len(frames[-1])
        if frames:
            self.sent += len(frames)
            tls = self._person.tls
            tls.write(b"".join(frames))
            self._unsent = memoryview(tls.data_to_send())


_decode = msgspec.msgpack.Decoder(m.FromServer).decode


def _pour(hoses: Sequence[Hose]) -> None:
    """Let them run until somebody says something."""
    wire_client.WAIT = HASTE
    began = time.monotonic()
    told = False
    while True:
        moved = False
        for hose in hoses:
            moved |= hose.step()
        if not told and (all(hose.sent for hose in hoses) or time.monotonic() - began > HASTE):
            told = True
            _tell({"flooding": True})
        watched = [] if moved else [hose.socket for hose in hoses if hose.socket.fileno() >= 0]
        ready, _, _ = select.select([sys.stdin, *watched], [], [], 0 if moved else PAUSE)
        if sys.stdin in ready:
            return


def _tell(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(data: Path, count: int) -> None:
    """The process."""
    tickets = iter(prepare(data, [f"flooder{number}" for number in range(count)]))
    _tell({"prepared": count})
    numbers = itertools.count(1)
    by_name = {str(flood): flood for flood in FLOODS}
    while line := sys.stdin.readline():
        order = json.loads(line)
        tls = client_context(Path(order["ca"]))
        hoses: list[Hose] = []
        wire_client.WAIT = PATIENCE
        with contextlib.ExitStack() as ends:
            for name in order["floods"]:
                flood, ticket, number = by_name[name], next(tickets), next(numbers)
                source = f"127.1.{number >> 8}.{number & 255}"  # so that no flood finds an earlier one's buckets
                for _ in range(STRANGERS if flood.state == "before login" else 1):
                    hose = Hose(ticket, flood, order["port"], tls, source, order["victim"])
                    ends.callback(hose.close)
                    hoses.append(hose)
            _pour(hoses)
            sys.stdin.readline()
        heard = {str(hose.flood) for hose in hoses if hose.bytes}
        answers: Counter[str] = sum((hose.answers for hose in hoses), Counter())
        _tell({
            "sent": sum(hose.sent for hose in hoses), "bytes": sum(hose.bytes for hose in hoses), "answers": answers,
            "silent": [name for name in order["floods"] if name not in heard],
        })  # fmt: skip


# --- the other end ------------------------------------------------------------------------------------------------


class Flooding:
    """The process, as others see it."""

    def __init__(self, data: Path, count: int, core: int | None = None) -> None:
        """Make `count` accounts in a server's data folder; each is good for one flood.

        `core`: the only processor that it may use.
        """
        pin = ["taskset", "--cpu-list", str(core)] if core is not None else []
        self._process = subprocess.Popen(
            [*pin, sys.executable, "-m", "tests.support.flooder", str(data), str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self._hear()

    def begin(self, port: int, ca: Path, floods: Iterable[Flood], victim: str) -> None:
        """Have each flood sent by an account of its own; returns when all of them run."""
        self._say({"port": port, "ca": str(ca), "floods": [str(flood) for flood in floods], "victim": victim})
        self._hear()

    def end(self) -> dict[str, Any]:
        """Stop, and let go of all connections. Returns what was sent, how that was answered, and what was not."""
        self._say({})
        return self._hear()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that floods has ended"
        heard: dict[str, Any] = json.loads(line)
        return heard


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
