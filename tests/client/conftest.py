"""Real engines and the real server, all in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("cheap_argon2")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MemoryServer]:
    server = MemoryServer(tmp_path / "server")
    yield server
    server.stop()


@pytest.fixture
def people(server: MemoryServer, tmp_path: Path) -> Iterator[Callable[..., list[Person]]]:
    """Make people with an account who are connected; their vaults are closed at the end."""
    everybody: list[Person] = []

    def make(*names: str, **settings: object) -> list[Person]:
        new = [Person(server, tmp_path, name, **settings) for name in names]
        for person in new:
            person.register()
            person.connect()
        settle(*new)
        everybody.extend(new)
        return new

    yield make
    for person in everybody:
        person.stop()
