"""A real server process, and processes that talk through it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.live import LiveServer, Place
from tests.support.talker_process import Talker


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server; ended as it should by the test itself, or killed."""
    server = LiveServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def talkers() -> Iterator[Callable[..., list[Talker]]]:
    """Start talkers; those that a test leaves are killed."""
    everybody: list[Talker] = []

    def begin(place: Place, *names: str) -> list[Talker]:
        new = [Talker(place, name) for name in names]
        everybody.extend(new)
        return new

    yield begin
    for talker in everybody:
        with contextlib.suppress(ProcessLookupError):
            talker.kill()
