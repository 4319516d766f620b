"""Folding: a vault's log is cut once it is quiet, and at the latest a second after its first write."""

from pathlib import Path

import pytest

from securechat.client.vault import folding
from securechat.client.vault.folding import QUIET, Folding
from tests.support.memory_server import MemoryServer
from tests.support.people import Person

SECOND = 1.0
"""How long the papers say that used keys may stay in the log."""


class Clock:
    """The monotonic clock, which stands still."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_however_much_is_written_the_log_is_folded_in_within_a_second(
    server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(folding, "time", clock)
    vault = Person(server, tmp_path, "alice").vault
    log = vault.path.with_name(f"{vault.path.name}-wal")
    bound = Folding(vault)

    def write() -> None:
        with vault.transaction():
            vault.run("UPDATE device SET inbox_cursor = inbox_cursor + 1")

    write()
    bound.look()
    begun = clock.now
    step = QUIET / 2  # never quiet
    while clock.now + step < begun + SECOND:
        clock.now += step
        write()
        assert bound.look() <= begun + SECOND
        assert log.stat().st_size > 0
    clock.now = begun + SECOND
    write()
    bound.look()
    assert log.stat().st_size == 0


def test_a_log_that_is_quiet_is_folded_in_at_once(
    server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(folding, "time", clock)
    vault = Person(server, tmp_path, "alice").vault
    log = vault.path.with_name(f"{vault.path.name}-wal")
    bound = Folding(vault)
    assert bound.look() == clock.now + QUIET  # what was there before
    assert log.stat().st_size > 0
    clock.now += QUIET
    bound.look()
    assert log.stat().st_size == 0
