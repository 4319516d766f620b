"""A town whose people and rooms a story chooses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.town import Town


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("cheap_argon2")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.close()
