"""What files cost, and what they cost those who talk beside them.

Somebody uploads, and somebody downloads, as fast as the server lets them, with a full window of parts; an honest pair
talks meanwhile. The control is the same pair while the same bytes go to and from a second server on this machine: what
the machine is too busy for, the server cannot help.
"""

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from scripts.benchmarks.contest import Run, bench_folder
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.securechat import PROGRAM
from scripts.benchmarks.systems.system import Process
from securechat.transport.tls import client_context
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.blobs import blob_length
from securechat_lab.cast.wire_client import Person
from tests.support.crowd import Ticket, prepare
from tests.support.honest import Pair

SIZE = blob_length(64 << 20)
"""Bytes of each blob that goes to the server, and of the one that is fetched from it, again and again."""

SECONDS, SHORT_SECONDS = 10.0, 3.0
"""How long the pair talks beside it."""

MOST = 2.0
"""How often longer a message may take than under the control, in the median."""

_forking = multiprocessing.get_context("fork")


class Site:
    """A server with an honest pair, and somebody with a file."""

    def __init__(self, folder: Path, certs: Path, ends: contextlib.ExitStack) -> None:
        folder.mkdir()
        data = folder / "data"
        self._mover, *pair = prepare(data, ["mover", "alice", "bob"])
        self.process = Process(
            [
                str(PROGRAM), "server", "--port", "0", "--data", str(data),
                "--cert", str(certs / "server.pem"), "--key", str(certs / "server-key.pem"),
            ],
            folder,
            environment={
                **os.environ, "SECURECHAT_TRANSFERS_PER_ACCOUNT": "999999999 + 999999/s",
                "SECURECHAT_UPLOADS_PER_ACCOUNT": "10000 + 1000/s",
            },
        )  # fmt: skip
        ends.callback(self.process.stop)
        self._port, self._ca = self.process.address[1], certs / "ca.pem"
        self._pair = Pair(self._port, client_context(self._ca), pair)
        ends.callback(self._pair.close)

    def waits(self, seconds: float) -> tuple[list[float], list[float]]:
        """Have the pair talk; ms from one to the other, and ms of the server's processor there and back."""
        waits: list[float] = []
        work: list[float] = []
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            began = self._processor()
            waits += [wait * 1e3 for wait in self._pair.exchange()]
            work.append((self._processor() - began) * 1e3)
        return waits, work

    def _processor(self) -> float:
        """Seconds of processor that the server has used, to the nanosecond (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    @contextlib.contextmanager
    def moving(self, what: str) -> Iterator["Synchronized[int]"]:
        """Have bytes moved in a process of its own; yields how many have come so far."""
        count = _forking.Value("q", 0)
        mover = _forking.Process(target=_move, args=(self._port, self._ca, self._mover, what, count), daemon=True)
        mover.start()
        while not count.value:
            time.sleep(0.01)
        yield count
        mover.terminate()
        mover.join()


def _move(port: int, ca: Path, ticket: Ticket, what: str, count: "Synchronized[int]") -> None:
    person = ticket.enter(port, client_context(ca))
    person.open_room(f"#{what}{os.getpid()}", "invite")
    (room,) = person.groups
    if what == "upload":
        while True:
            blob = _upload(person, room, count)
            person.ask(m.DropBlob, room, blob)
    blob = _upload(person, room, None)
    while True:
        waiting = 0
        for offset in range(0, SIZE, limits.MAX_BLOB_PART):
            person.send(m.FetchBlob(person.protocol.next_id(), room, blob, offset, limits.MAX_BLOB_PART))
            waiting += 1
            if waiting == limits.BLOB_WINDOW:
                _count(count, len(person.take(m.BlobBytes).data))
                waiting -= 1
        for _ in range(waiting):
            _count(count, len(person.take(m.BlobBytes).data))


def _upload(person: Person, room: bytes, count: "Synchronized[int] | None") -> bytes:
    blob, part = os.urandom(limits.BLOB_ID_LENGTH), os.urandom(limits.MAX_BLOB_PART)
    reply = person.ask(m.StartBlob, room, blob, SIZE)
    assert isinstance(reply, m.BlobState), reply
    waiting = 0
    for offset in range(0, SIZE, len(part)):
        person.send(m.PutBlob(person.protocol.next_id(), room, blob, offset, part[: SIZE - offset]))
        waiting += 1
        if waiting == limits.BLOB_WINDOW:
            person.take(m.BlobState)
            waiting -= 1
        _count(count, len(part))
    for _ in range(waiting):
        person.take(m.BlobState)
    return blob


def _count(count: "Synchronized[int] | None", size: int) -> None:
    if count is not None:
        count.value += size


def blobs(run: Run) -> Iterator[Figure]:
    """Beside nothing, an upload, and a download."""
    seconds = SHORT_SECONDS if run.short else SECONDS
    with bench_folder() as (folder, certs), contextlib.ExitStack() as ends:
        site, idle = (Site(folder / name, certs, ends) for name in ("busy", "idle"))
        quiet, work = site.waits(seconds)
        yield Figure("beside nothing", "latency p50", statistics.median(quiet), "ms")
        yield Figure("beside nothing", "latency p99", statistics.quantiles(quiet, n=100)[98], "ms")
        yield Figure("beside nothing", "server CPU there and back, p50", statistics.median(work), "ms")
        for what in ("upload", "download"):
            with idle.moving(what):
                control, _ = site.waits(seconds)
            with site.moving(what) as count:
                moved, used, began = count.value, site.process.cpu(), time.monotonic()
                waits, work = site.waits(seconds)
                moved, used = count.value - moved, site.process.cpu() - used
                took = time.monotonic() - began
            p50, p99 = statistics.median(waits), statistics.quantiles(waits, n=100)[98]
            note = f"control {statistics.quantiles(control, n=100)[98]:.1f}"
            yield Figure(f"beside {what}s", "latency p50", p50, "ms", statistics.median(control), MOST)
            yield Figure(f"beside {what}s", "latency p99", p99, "ms", note=note)
            yield Figure(f"beside {what}s", "server CPU there and back, p50", statistics.median(work), "ms")
            yield Figure(what, "speed beside the pair", moved / took / 2**20, "MiB/s")
            yield Figure(what, "server CPU, with the pair's", used / (moved / 2**30), "s/GiB")
