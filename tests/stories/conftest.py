"""A town whose people and rooms a story chooses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.server.sequencer import tokens
from tests.stories.town import Town
from tests.support.cheap import verify_each_signature_once


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.getfixturevalue("cheap_argon2")
    verify_each_signature_once(monkeypatch.setattr)


@pytest.fixture(autouse=True)
def tokens_for_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far a test turns the clock, people come back without being asked for the password."""
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 100 * 365 * 86_400)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.close()
