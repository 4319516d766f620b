"""What targets keep is closed with the session: no thread of theirs is left."""

from collections.abc import Iterator

import pytest

from tests.fuzz.kept import KEPT


@pytest.fixture(scope="session", autouse=True)
def _kept() -> Iterator[None]:
    yield
    KEPT.close()
