"""What a direct link costs: CPU time of either side, each a process, while a sealed file goes across on loopback.

Whoever gives reads it from the disk, whoever takes writes it there, as clients do. Afterwards the two files are
compared by their hashes, which is not counted.
"""

import hashlib
import ipaddress
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Final

from scripts.benchmarks.figure import Figure
from securechat.client.direct.carrying import DirectLink, Down, Fetched, Given, Meet, News, Up, Wish
from securechat.client.direct.endpoints import Endpoint
from securechat.client.direct.meeting import Door, knock
from securechat.transport.mutual import MutualTLS, make_credential

SIZE: Final = 1 << 30
ROUNDS: Final = 3
GOAL: Final = 5.0
"""Seconds of CPU a side: a prototype needed 2.2 and 3.4, with a hash over all of it."""

HERE: Final = ipaddress.ip_address("127.0.0.1")
BLOB: Final = bytes(16)
PATIENCE: Final = 600.0


def link() -> Iterator[Figure]:
    """CPU time and speed of 1 GiB."""
    with tempfile.TemporaryDirectory() as name:
        source, copy = Path(name, "source"), Path(name, "copy")
        with source.open("wb") as file:
            for _ in range(SIZE >> 20):
                file.write(os.urandom(1 << 20))
        digest = _digest(source)
        rounds = []
        for _ in range(ROUNDS):
            rounds.append(_round(source, copy))
            assert _digest(copy) == digest
    gave, took, seconds = min(rounds, key=lambda each: each[0] + each[1])
    case, note = "1 GiB on loopback", f"the best of {ROUNDS} rounds; equal by their hashes in each"
    yield Figure(case, "CPU of who gives", gave, "s", goal=GOAL, note=note)
    yield Figure(case, "CPU of who takes", took, "s", goal=GOAL)
    yield Figure(case, "speed", (SIZE >> 20) / seconds, "MiB/s")


def _round(source: Path, copy: Path) -> tuple[float, float, float]:
    """Return the CPU seconds of who gives and of who takes, and how long it has taken."""
    spawn = multiprocessing.get_context("spawn")
    between = spawn.Pipe()
    told = [spawn.Pipe(duplex=False) for _ in between]
    work = ((_give, source), (_take, copy))
    sides = [
        spawn.Process(target=side, args=(path, end, sender))
        for (side, path), end, (_, sender) in zip(work, between, told, strict=True)
    ]
    for side in sides:
        side.start()
    for receiver, _ in told:
        assert receiver.poll(PATIENCE)
    (gave, _), (took, seconds) = (receiver.recv() for receiver, _ in told)
    for side in sides:
        side.join(PATIENCE)
    return gave, took, seconds


def _give(path: Path, other: Connection, told: Connection) -> None:
    door, own = Door([HERE]), make_credential()
    (endpoint,) = door.endpoints([HERE])
    other.send((own.certificate, endpoint.port))
    tls = MutualTLS(own, other.recv(), listens=True)
    news = SimpleQueue[News]()
    _begin(lambda *waiting: door.admit(tls, *waiting), news, path, listens=True)
    began = time.process_time()
    _wait_for(Given, news)
    _wait_for(Down, news)
    told.send((time.process_time() - began, 0.0))


def _take(path: Path, other: Connection, told: Connection) -> None:
    own = make_credential()
    certificate, port = other.recv()
    other.send(own.certificate)
    tls = MutualTLS(own, certificate, listens=False)
    news = SimpleQueue[News]()
    made = _begin(lambda deadline, *_: knock(tls, [Endpoint(HERE, port)], deadline), news, path, listens=False)
    began, moment = time.process_time(), time.monotonic()
    with path.open("wb") as file:
        made.fetch(Wish(BLOB, 0, SIZE, file.write))
        _wait_for(Fetched, news)
    figures = time.process_time() - began, time.monotonic() - moment
    made.have(BLOB)
    made.close()
    told.send(figures)
    _wait_for(Down, news)


def _begin(meet: Meet, news: "SimpleQueue[News]", path: Path, *, listens: bool) -> DirectLink:
    def open_blob(_: bytes) -> BinaryIO:
        return path.open("rb")

    made = DirectLink(meet, listens=listens, open_blob=open_blob, deliver=news.put)
    made.start()
    assert news.get(timeout=PATIENCE) == Up()
    return made


def _wait_for(kind: type[News], news: "SimpleQueue[News]") -> None:
    told = news.get(timeout=PATIENCE)
    assert isinstance(told, kind), told


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
