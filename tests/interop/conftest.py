"""The foreign implementations, or why they are not here."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.interop.ts_mls import HERE, TsMls, find_node

if TYPE_CHECKING:  # these import what may be missing
    from tests.interop.mls_rs import MlsRs
    from tests.interop.rine import Rine


def missing(what: str) -> str:
    """Why a test skips."""
    return f"{what} is not installed; to see why, remove .venv/interop.json and run scripts/setup interop"


@pytest.fixture(scope="session")
def ts_mls() -> Iterator[TsMls]:
    """A node process in which members run ts-mls."""
    node = find_node()
    if node is None:
        pytest.skip(missing("node"))
    if not (HERE / "node_modules" / "ts-mls").is_dir():
        pytest.skip(missing("ts-mls"))
    with TsMls(node) as peer:
        yield peer


@pytest.fixture
def mls_rs() -> "type[MlsRs]":
    """The class of members that run mls-rs."""
    pytest.importorskip("mls_rs_uniffi", reason=missing("agentvault-mls-rs-uniffi"))
    from tests.interop.mls_rs import MlsRs

    return MlsRs


@pytest.fixture
def rine(tmp_path: Path) -> "Callable[[], Rine]":
    """Makes members that run rine-mls; each has a folder of its own."""
    pytest.importorskip("rine_mls", reason=missing("rine-mls"))
    from tests.interop.rine import Rine

    numbers = count()
    return lambda: Rine(tmp_path / str(next(numbers)))
