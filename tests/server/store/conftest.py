"""Every store there is, opened and opened again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.server.store.port import Store
from tests.support.stores import STORES


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Open the store; again, as after a crash: nothing is written on the way."""
    stores: list[Store] = []

    def begin() -> Store:
        if stores:
            stores.pop().close()
        stores.append(STORES[request.param](tmp_path))
        return stores[0]

    yield begin
    for store in stores:
        store.close()


@pytest.fixture
def store(reopen: Callable[[], Store]) -> Store:
    return reopen()
