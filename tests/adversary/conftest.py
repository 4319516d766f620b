"""An honest server, a lying one in front of it, real clients that only ever meet the lying one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from securechat.client import backoff, commands, events
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.rate import Size
from securechat.server.sequencer import budgets
from securechat.transport.tls import client_context, server_context
from securechat_lab.cast.hostile import HostileServer
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.rogue import Rogue


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest) -> None:
    for each in ("cheap_argon2", "small_stocks"):
        request.getfixturevalue(each)


@pytest.fixture
def server(certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The honest server."""
    monkeypatch.setattr(backoff, "RETRY_SECONDS", 0.05)  # clients come back at once: nobody here waits for a reason
    for limit in ("OPEN_COMMITS", "FIRST_DAY_COMMITS"):
        monkeypatch.setattr(budgets, limit, 100)  # a test repairs more often than people do in an hour
    cert, key = certificates / "server.pem", certificates / "server-key.pem"
    server = Server(ServerConfig(port=0, data=tmp_path / "data", cert=cert, key=key, disk_floor=Size(1 << 20)))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def hostile(server: Server, certificates: Path) -> Iterator[HostileServer]:
    """The server that people believe to be the honest one."""
    context = server_context(certificates / "server.pem", certificates / "server-key.pem")
    with HostileServer(context, ("127.0.0.1", server.port), certificates / "ca.pem") as hostile:
        yield hostile


@dataclass
class Site:
    """Where clients find their server and keep their vaults."""

    folder: Path
    ca: Path
    port: int


Crowd = Callable[..., list[LiveClient]]


@pytest.fixture
def crowd(hostile: HostileServer, certificates: Path, tmp_path: Path) -> Iterator[Crowd]:
    """Real clients behind the lying server, ready; closed at the end."""
    site = Site(tmp_path, certificates / "ca.pem", hostile.port)
    everybody: list[LiveClient] = []

    def make(*names: str) -> list[LiveClient]:
        new = [LiveClient(site, name) for name in names]
        everybody.extend(new)
        for client in new:
            client.wait_for(events.Ready)
            # What they have read they would tell seconds later: in a log of lies, in the middle of something else.
            assert isinstance(client.answer(commands.Prefer("send-marks", "off")), events.Done)
        return new

    yield make
    for client in everybody:
        if not any(isinstance(event, events.Ended) for event in client.happened):
            client.close()


Enter = Callable[..., Rogue]


@pytest.fixture
def rogue(server: Server, certificates: Path) -> Iterator[Enter]:
    """Malicious members, at the honest server; closed at the end. `register=False`: only connected."""
    context = client_context(certificates / "ca.pem")
    everybody: list[Rogue] = []

    def enter(account: str, *, register: bool = True) -> Rogue:
        person = Rogue(server.port, context, account)
        everybody.append(person)
        if register:
            person.register().login()
        return person

    yield enter
    for person in everybody:
        person.drop()
