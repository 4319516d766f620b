"""A real server on a free port, with certificates made for the test."""

import contextlib
import io
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from securechat.server import logs
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.rate import Size
from securechat.transport.tls import client_context
from securechat_lab.cast.wire_client import SECRETS, Person, WireClient, secrets_in
from tests.support.cheap import make_server_cheap

STOP_SECONDS = 60.0
"""Ten times what a server takes that waits for clients which do not read."""


@pytest.fixture(autouse=True)
def log_without_secrets() -> Iterator[io.StringIO]:
    """Every server in this process logs everything that it can; at the end, none of its clients' secrets may be in
    that."""
    SECRETS.clear()
    text = io.StringIO()
    handler, ours = logs.make_handler(text), logging.getLogger("securechat")
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield text
    ours.removeHandler(handler)
    ours.setLevel(level)
    assert secrets_in(text.getvalue().encode()) == []


@pytest.fixture
def config(certificates: Path, tmp_path: Path) -> ServerConfig:
    return ServerConfig(
        port=0, data=tmp_path / "data", cert=certificates / "server.pem", key=certificates / "server-key.pem",
        disk_floor=Size(1 << 20),
    )  # fmt: skip


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    return client_context(certificates / "ca.pem")


@pytest.fixture
def start(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Start a server with some settings changed; stopped at the end. Its hashes are cheap: most tests log in."""
    make_server_cheap(monkeypatch.setitem)
    servers: list[Server] = []

    def begin(**changes: Any) -> Server:
        server = Server(replace(config, **changes))
        server.start()
        servers.append(server)
        return server

    yield begin
    with contextlib.ExitStack() as ends:  # each is stopped, whatever happens to the others
        for server in servers:
            ends.callback(stop, server)


def stop(server: Server) -> None:
    """Stop a server that runs. One that cannot, for a test that failed may hold its turn, fails and is waited for no
    more: what it leaves running ends with the process (`pytest_unconfigure`)."""
    if server.running:
        stopping = threading.Thread(target=server.stop, daemon=True)
        stopping.start()
        stopping.join(STOP_SECONDS)
        assert not stopping.is_alive(), "the server does not stop"


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


@pytest.fixture
def connect(server: Server, tls: ssl.SSLContext) -> Iterator[Callable[..., WireClient]]:
    """Connect to `server`; closed at the end."""
    clients: list[WireClient] = []

    def begin(**options: Any) -> WireClient:
        client = WireClient(server.port, tls, **options)
        clients.append(client)
        return client

    yield begin
    for client in clients:
        client.drop()


@pytest.fixture
def enter(server: Server, tls: ssl.SSLContext) -> Iterator[Callable[..., Person]]:
    """Register, log in and publish a person; closed at the end."""
    people: list[Person] = []

    def begin(account: str, **options: Any) -> Person:
        person = Person(server.port, tls, account, **options).register().login()
        people.append(person)
        return person

    yield begin
    for person in people:
        person.drop()
