"""The server in memory instead of the one of the folder above: nothing here is about TLS, sockets or threads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.memory_server import MemoryClient, MemoryPerson, MemoryServer


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., MemoryServer]]:
    """Make a server with some settings changed; closed at the end."""
    servers: list[MemoryServer] = []

    def begin(**changes: Any) -> MemoryServer:
        servers.append(MemoryServer(tmp_path / "data", **changes))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture
def server(start: Callable[..., MemoryServer]) -> MemoryServer:
    return start()


@pytest.fixture
def connect(server: MemoryServer) -> Callable[..., MemoryClient]:
    return lambda **options: MemoryClient(server, **options)


@pytest.fixture
def enter(server: MemoryServer) -> Callable[[str], MemoryPerson]:
    """Register, log in and publish a person."""
    return lambda account: MemoryPerson(server, account).register().login()
