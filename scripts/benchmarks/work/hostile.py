"""What floods cost the honest: every type of message in every state, from one account and from ten.

An honest pair talks, and a newcomer logs in: without a flood, under it, and while the same flood is aimed at
a second, idle server on this machine. The last is the control: what the machine is too busy for, the server cannot
help. The floods share one processor. They are made from the message table (`tests/support/floods.py`).
"""

import contextlib
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.contest import Run, bench_folder
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.securechat import PROGRAM
from scripts.benchmarks.systems.system import Process
from securechat.server.accounts.store import MAX_ACCOUNTS
from securechat.transport.tls import client_context
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WAIT
from tests.support.crowd import prepare
from tests.support.flooder import Flooding
from tests.support.floods import FLOODS, Flood
from tests.support.honest import Pair, log_in, newcomer
from tests.support.seeding import seed

SECONDS, SHORT_SECONDS = 2.0, 0.5
"""How long the pair talks under each flood."""

TOGETHER = (1, 10)
"""Accounts that send a flood at once."""

MOST = 2.0
"""How often longer a message may take than under the control, in the median."""

P99_MS = 50.0
NEWCOMER_MS = 1000.0

NEWCOMERS = 3
"""Logins of newcomers without a flood; the middle one counts."""


CONNECTED, ROOMS = 1_000, 10_000
"""Of a large site: people who are in and say nothing, and rooms."""

AT_A_LARGE_SITE = (m.Ping, m.ListRooms, m.OpenRoom, m.Submit, m.PublishKeyPackages)
"""What once cost the more, the larger a site was."""


@dataclass
class Seen:
    """What the honest have noticed. Times in ms."""

    p50: float
    p99: float
    login: float


class Site:
    """A server with an honest pair and a process that can flood it."""

    def __init__(
        self, folder: Path, certs: Path, accounts: int, ends: contextlib.ExitStack, *, large: bool = False
    ) -> None:
        """`accounts`: of those who flood, each of which is good for one flood. `large`: as full as a site may be."""
        folder.mkdir(exist_ok=True)
        data = folder / "data"
        if large:
            seed(data, accounts=MAX_ACCOUNTS - CONNECTED - 100, tokens=limits.MAX_DEVICES, rooms=ROOMS)
        self.flooding = ends.enter_context(Flooding(data, accounts, max(os.sched_getaffinity(0))))
        tickets = prepare(data, ["alice", "bob"])
        idlers = prepare(data, [f"idler{number}" for number in range(CONNECTED if large else 0)])
        self.process = Process(
            [
                str(PROGRAM), "server", "--port", "0", "--data", str(data),
                "--cert", str(certs / "server.pem"), "--key", str(certs / "server-key.pem"),
            ],
            folder,
            environment={**os.environ, "SECURECHAT_MAX_CLIENTS": "2000"},
        )  # fmt: skip
        ends.callback(self.process.stop)
        self.port, self.ca = self.process.address[1], certs / "ca.pem"
        self._tls = client_context(self.ca)
        self._newcomers = 0
        self._pair = Pair(self.port, self._tls, tickets)
        ends.callback(self._pair.close)
        for ticket in idlers:
            ends.callback(ticket.enter(self.port, self._tls, publish=False).drop)

    def seen(self, seconds: float) -> Seen:
        """Have the pair talk for a while, and then a newcomer log in."""
        waits: list[float] = []
        over = time.monotonic() + seconds
        while time.monotonic() < over or len(waits) < 10:
            waits += self._pair.exchange()
        cuts = statistics.quantiles(waits, n=100)
        return Seen(cuts[49] * 1e3, cuts[98] * 1e3, self._login() * 1e3)

    def _login(self) -> float:
        """How many seconds it takes a newcomer to log in and be enrolled; WAIT, if it does not get that far."""
        self._newcomers += 1
        name = f"newcomer{self._newcomers}"
        with contextlib.suppress(AssertionError), newcomer(self.port, self._tls, name) as person:
            began = time.perf_counter()
            log_in(person)
            person.bye()
            return time.perf_counter() - began
        return WAIT

    @contextlib.contextmanager
    def flooded(self, flood: Flood, count: int) -> Iterator[None]:
        """Flood the server meanwhile."""
        self.flooding.begin(self.port, self.ca, [flood] * count, "alice")
        yield
        self.flooding.end()


def hostile(run: Run) -> Iterator[Figure]:
    """All floods, or with `run.short` those that are made to cost the most."""
    floods = [flood for flood in FLOODS if flood.crafted or not run.short]
    seconds = SHORT_SECONDS if run.short else SECONDS
    accounts = len(floods) * sum(TOGETHER)
    with bench_folder() as (folder, certs), contextlib.ExitStack() as ends:
        site, idle = (Site(folder / name, certs, accounts, ends) for name in ("flooded", "idle"))
        quiet = [site.seen(seconds) for _ in range(NEWCOMERS)]
        for metric, values in (
            ("latency p50", [seen.p50 for seen in quiet]),
            ("latency p99", [seen.p99 for seen in quiet]),
            ("a newcomer's login", [seen.login for seen in quiet]),
        ):
            yield Figure("without a flood", metric, statistics.median(values), "ms")
        for count in TOGETHER:
            for flood in floods:
                yield from _compare(site, idle, flood, count, seconds)


def hostile_large(run: Run) -> Iterator[Figure]:
    """Floods at a site as large as one may be: 10,000 accounts with 16 tokens each, 10,000 rooms, 1,000 connections."""
    floods = [Flood(kind, "in a room") for kind in AT_A_LARGE_SITE]
    seconds = SHORT_SECONDS if run.short else SECONDS
    count = max(TOGETHER)
    with bench_folder() as (folder, certs), contextlib.ExitStack() as ends:
        site = Site(folder / "flooded", certs, len(floods) * count, ends, large=True)
        idle = Site(folder / "idle", certs, len(floods) * count, ends)
        for flood in floods:
            yield from _compare(site, idle, flood, count, seconds)
        yield Figure("at the end", "server memory", site.process.rss() / 1024, "MiB")


def _compare(site: Site, idle: Site, flood: Flood, count: int, seconds: float) -> Iterator[Figure]:
    with idle.flooded(flood, count):
        control = site.seen(seconds)
    with site.flooded(flood, count):
        seen = site.seen(seconds)
    case, system = str(flood), f"{count} account{'s' if count > 1 else ''}"  # a column of the table
    yield Figure(case, "latency p50", seen.p50, "ms", control.p50, MOST, system=system)
    yield Figure(case, "latency p99", seen.p99, "ms", goal=P99_MS, system=system, note=f"control {control.p99:.1f}")
    yield Figure(
        case, "a newcomer's login", seen.login, "ms", goal=NEWCOMER_MS, system=system,
        note=f"control {control.login:.0f}",
    )  # fmt: skip
