"""One account, or ten, send what they can as fast as they can, beside people who only want to talk.

The floods are made from the message table (tests/support/floods.py) and sent by a process of their own. Nothing that is
asserted depends on how fast this machine is: that the honest get through in order and newcomers get in, how much the
server's processor does between two messages, how much it keeps, and that it gives everything back. Who comes first at
the password workers is in `test_accounts.py`; `scripts/bench hostile` has the times.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from scripts.soaking import watch
from securechat.server.operator import protocol
from securechat.transport.tls import client_context
from tests.support.crowd import prepare
from tests.support.flooder import Flooding
from tests.support.floods import CRAFTED, FLOODS, STATES, TYPES, Flood, State, make
from tests.support.honest import Pair, log_in, newcomer
from tests.support.server_process import ServerProcess

PATIENCE = 60.0
"""Seconds after which something that must happen has not happened."""

EXCHANGES = 15
"""Messages there and back, of the honest pair, during each flood."""

EXCHANGE = 100
"""What the server's processor does, in the median, from a message to the answer to it, whatever that is for: at most so
many times what it does where nobody floods, which is 0.001 s."""

FURTHER = 0.2
"""How much of this each account beyond the first may add: whoever floods has a share, too."""

MEMORY, MEMORY_AFTER = 96.0, 48.0
"""MiB that the server may grow by during a flood, and may have kept of it afterwards."""

QUOTA = 32
"""MiB that the server keeps of an account: floods reach it where the machine is fast."""

DISK = 2.0 * QUOTA
"""MiB that a flood may add to the data folder: what is kept, and the same in the write-ahead log."""

MIXED = 10
"""Accounts that flood together, each with something else."""


class Holding(NamedTuple):
    """What the server has at one moment. Sizes in MiB."""

    sessions: int
    connections: int
    passwords: int
    validating: int
    reading: int
    moving: int
    handed_in: int
    sockets: int
    memory: float
    disk: float


class Site:
    """The server, the pair, and the process that floods."""

    def __init__(self, folder: Path, certificates: Path, accounts: int, ends: ExitStack) -> None:
        self._data = folder / "data"
        self.flooding = ends.enter_context(Flooding(self._data, accounts, max(os.sched_getaffinity(0))))
        tickets = prepare(self._data, ["alice", "bob"])
        server = ends.enter_context(ServerProcess(
            certificates, self._data, "--log-level", "info",
            "--max-clients", str(2 * accounts),  # seats of floods that are over are kept for a time
            environment=dict.fromkeys(
                ("SECURECHAT_BYTES_PER_ACCOUNT", "SECURECHAT_BLOB_BYTES_PER_ACCOUNT"), f"{QUOTA} MiB"
            ),
        ))  # fmt: skip
        self.port, self.ca, self._pid = server.port, certificates / "ca.pem", server.process.pid
        self._tls = client_context(self.ca)
        self._newcomers = 0
        self.problems: list[str] = []
        """What the floods have done that they must not."""
        self.pair = Pair(self.port, self._tls, tickets)
        ends.callback(self.pair.close)
        for _ in range(EXCHANGES):
            self.pair.exchange()
        self._quiet = max(self.exchanges(), 0.001)

    def processor(self) -> float:
        """Seconds of processor that the server has used, to the nanosecond (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self._pid << 3) | 2)

    def holding(self) -> Holding:
        """What the server has now."""
        # First, since asking opens another one. Not all files: SQLite opens its own when it first needs them.
        sockets = 0
        for each in Path(f"/proc/{self._pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                sockets += str(each.readlink()).startswith("socket:")
        report = protocol.ask(self._data, protocol.GetStatus())
        assert isinstance(report, protocol.StatusReport)
        status = report.status
        disk = sum(watch.size(each) for each in self._data.rglob("*"))
        return Holding(
            status.sessions, status.connections, status.password_queue, status.validation_queue, status.reading_queue,
            status.moving_queue, status.turn_queue, sockets, watch.memory(self._pid), disk,
        )  # fmt: skip

    def exchanges(self) -> float:
        """Have the pair talk; seconds of processor, in the median, for a message and its answer."""
        used = []
        for _ in range(EXCHANGES):
            began = self.processor()
            self.pair.exchange()
            used.append(self.processor() - began)
        return median(used)

    def login(self) -> None:
        """Have a newcomer log in, who waits no longer than people do (`wire_client.WAIT`)."""
        self._newcomers += 1
        with newcomer(self.port, self._tls, f"newcomer{self._newcomers}") as person:
            log_in(person)
            person.bye()

    def withstand(self, floods: Sequence[Flood]) -> None:
        """Check everything during these floods, each from an account of its own, and after them."""
        before, shares = self.holding(), 1 + FURTHER * (len(floods) - 1)
        self.flooding.begin(self.port, self.ca, floods, "alice")
        try:
            exchange = self.exchanges()
            self.login()
            meanwhile = self.holding()
        finally:
            report = self.flooding.end()
            told = f"{' + '.join(map(str, floods))}: {report}"
        if report["silent"]:
            self.problems.append(f"{told}: nothing was sent")
        for what, value, most in (
            ("a message and its answer", exchange, EXCHANGE * self._quiet * shares),
            ("memory", meanwhile.memory - before.memory, MEMORY),
            ("disk", meanwhile.disk - before.disk, DISK),
        ):
            if value >= most:
                self.problems.append(f"{told}: {what}: {value:.3f}, at most {most}")
        deadline = time.monotonic() + PATIENCE
        while not self._given_back(before, after := self.holding()):
            assert time.monotonic() < deadline, f"{told}: not given back: {before}, {after}; {self.problems}"
            time.sleep(0.05)

    def _given_back(self, before: Holding, after: Holding) -> bool:
        back = all(now <= then for now, then in zip(after[:8], before[:8], strict=True))
        return back and after.memory - before.memory < MEMORY_AFTER


@pytest.fixture(scope="module")
def site(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ExitStack() as ends:
        yield Site(tmp_path_factory.mktemp("hostile"), certificates, len(TYPES) + len(FLOODS), ends)


def test_every_message_of_a_client_has_a_flood() -> None:
    assert set(CRAFTED) == set(TYPES)
    for kind in TYPES:
        assert isinstance(make(kind, largest=True), kind)
    assert {(flood.kind, flood.state) for flood in FLOODS} == {(kind, state) for kind in TYPES for state in STATES}


@pytest.mark.timeout(400)
def test_one_account_floods_with_what_costs_the_most(site: Site) -> None:
    site.problems.clear()
    for flood in FLOODS:
        if flood.crafted:
            site.withstand([flood])
    assert not site.problems


@pytest.mark.timeout(400)
@pytest.mark.parametrize("state", STATES)
def test_ten_accounts_flood_with_ten_types_at_once(site: Site, state: State) -> None:
    site.problems.clear()
    floods = [flood for flood in FLOODS if flood.state == state]
    for first in range(0, len(floods), MIXED):
        site.withstand(floods[first : first + MIXED])
    assert not site.problems
