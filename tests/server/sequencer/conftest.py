"""The server in memory instead of the one of the folder above: nothing here is about TLS, sockets or threads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from securechat.errors import RefusedError
from tests.support.memory_server import MemoryClient, MemoryPerson, MemoryServer


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., MemoryServer]]:
    """Make a server with some settings changed; closed at the end."""
    servers: list[MemoryServer] = []
    half_done: list[str] = []

    def begin(**changes: Any) -> MemoryServer:
        servers.append(MemoryServer(tmp_path / "data", **changes))
        _watch(servers[-1], half_done)
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()
    assert not half_done


def _watch(server: MemoryServer, half_done: list[str]) -> None:
    """Note what the server refuses after it has written some of it: nothing takes that back."""
    sequencer = server.sequencer
    dispatch, not_done = sequencer._dispatch, sequencer._not_done
    before = (0, 0)

    def written() -> tuple[int, int]:
        return server.store._writer._connection.total_changes, len(sequencer._turn.runs)

    def dispatching(*fields: Any) -> None:
        nonlocal before
        before = written()
        dispatch(*fields)

    def refusing(operation: object, error: Any) -> None:
        if isinstance(error, RefusedError) and written() != before:
            half_done.append(f"{type(operation).__name__}: {error}")
        not_done(operation, error)

    for name, function in {"_dispatch": dispatching, "_not_done": refusing}.items():
        setattr(sequencer, name, function)


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
