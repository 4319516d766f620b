"""The doors with real engines and the real sequencer: through each row bob comes where he should, and without it not.

The shortest story that goes wrong without a row is played with real keys in `test_explorer`; here the client itself
goes through the door.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from securechat.client.conversations import offers
from securechat.client.doors.facts import Known, Offered, Pins, Verdict
from securechat.client.doors.table import TABLE, Row, decide
from securechat.errors import SecurechatError
from tests.client.doors.scenes import SCENES, Town, World
from tests.support.memory_server import MemoryServer


def comes_through(name: str, town: Town, table: tuple[Row, ...]) -> bool:
    """Play the scene of a row. Returns whether all is as it should be."""

    def look(known: Known, offered: Offered, pins: Pins, now: int) -> Verdict:
        verdict = decide(known, offered, pins, now, table)
        town.verdicts.append(verdict)
        return verdict

    town.monkeypatch.setattr(offers, "decide", look)
    return SCENES[name](town)


@pytest.fixture
def town(
    server: MemoryServer, people: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Town]:
    town = Town(server, people, tmp_path, monkeypatch)
    yield town
    town.leave()


def test_every_row_has_its_scene() -> None:
    assert set(SCENES) == {row.name for row in TABLE}


@pytest.mark.parametrize("name", SCENES)
def test_a_door_leads_where_it_should(name: str, town: Town) -> None:
    assert comes_through(name, town, TABLE)
    assert name in {verdict.row for verdict in town.verdicts}


@pytest.mark.parametrize("name", SCENES)
def test_without_its_row_it_does_not(name: str, town: Town) -> None:
    play = partial(comes_through, name, town, tuple(row for row in TABLE if row.name != name))
    try:
        right = play()
    except (AssertionError, SecurechatError):  # what it needs is not there, or the engine refuses to go on
        for person in town.everybody:
            person.link = None  # an engine that has ended is told of nothing more
        return
    assert not right
