"""Real engines and the real server, all in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import commands
from securechat.server.sequencer import tokens
from tests.support.cheap import verify_each_signature_once
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

WHOLE_STOCKS = ("test_adversaries", "test_stock")
"""Where it matters how many key packages a client has at the server."""


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.getfixturevalue("cheap_argon2")
    if request.path.stem not in WHOLE_STOCKS:
        request.getfixturevalue("small_stocks")
    verify_each_signature_once(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def tokens_for_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far a test turns the clock, people come back without being asked for the password."""
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 100 * 365 * 86_400)


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
        new = [Person(server, tmp_path, name, None, **settings) for name in names]
        for person in new:
            person.register()
            person.connect()
        settle(*new)
        everybody.extend(new)
        return new

    yield make
    for person in everybody:
        person.stop()


@pytest.fixture
def lobby(people: Callable[..., list[Person]]) -> list[Person]:
    """Alice and bob in #lobby, which belongs to nobody."""
    everybody = people("alice", "bob")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    return everybody
