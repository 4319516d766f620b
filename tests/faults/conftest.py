"""A real server process, and its clients in this process or in others; whatever a test leaves running is ended."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from securechat.client import events
from securechat_lab.cast.live import LiveClient, Place
from tests.support.live import LiveServer
from tests.support.talker_process import Talker


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("cheap_argon2")


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Start a server with its data in the test's folder."""
    servers: list[LiveServer] = []

    def begin(*options: str, **how: Any) -> LiveServer:
        servers.append(LiveServer(tmp_path, *options, **how))
        return servers[-1]

    yield begin
    with contextlib.ExitStack() as ends:
        for server in servers:
            ends.callback(server.stop)


@pytest.fixture
def server(start_server: Callable[..., LiveServer]) -> LiveServer:
    """A server with the usual settings."""
    return start_server()


@pytest.fixture
def clients() -> Iterator[Callable[..., list[LiveClient]]]:
    """Start clients in this process, one after the other: each derives its password."""
    everybody: list[LiveClient] = []

    def begin(place: Place, *names: str) -> list[LiveClient]:
        new = []
        for name in names:
            new.append(LiveClient(place, name))
            everybody.append(new[-1])
            new[-1].wait_for(events.Ready)
        return new

    yield begin
    for client in everybody:
        if not any(isinstance(event, events.Ended) for event in client.happened):
            client.close()


@pytest.fixture
def talkers() -> Iterator[Callable[..., list[Talker]]]:
    """Start clients in processes of their own."""
    everybody: list[Talker] = []

    def begin(place: Place, *names: str, environment: Mapping[str, str] | None = None) -> list[Talker]:
        new = [Talker(place, name, environment) for name in names]
        everybody.extend(new)
        return new

    yield begin
    with contextlib.ExitStack() as ends:  # each is ended, whatever happens to the others
        for talker in everybody:
            ends.callback(talker.kill)
