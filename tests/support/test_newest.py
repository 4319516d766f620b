"""What is made at once is what the steps make."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from securechat.client.vault import schema as vault_schema
from securechat.server.store.sqlite import schema as store_schema
from tests.support.newest import OF_STORE, OF_VAULT, script_of


def no_key(*_: object) -> Any:
    raise AssertionError("nobody's key is in a new vault")


def content(kind: Any, migrate: Callable[..., None], *rest: object) -> list[str]:
    """Everything in a new database; of the store's key only that it is one of 32 bytes."""
    with closing(kind.connect(":memory:", isolation_level=None)) as database:
        migrate(database, *rest)
        found = sorted(script_of(database).splitlines())
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return [f"{line[:39]} {len(line)}" if "'site_key'" in line else line for line in found]


@pytest.mark.parametrize(
    ("kind", "at_once", "steps", "rest"),
    [(sqlcipher, vault_schema.migrate, OF_VAULT, (no_key,)), (sqlite3, store_schema.migrate, OF_STORE, ())],
    ids=["vault", "store"],
)
def test_a_new_database_is_what_the_steps_make(
    kind: Any, at_once: Callable[..., None], steps: Callable[..., None], rest: tuple[object, ...]
) -> None:
    assert at_once is not steps
    made = content(kind, at_once, *rest)
    assert len(made) > 20
    assert made == content(kind, steps, *rest)


def test_each_store_has_a_key_of_its_own() -> None:
    keys = set()
    for _ in range(3):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            store_schema.migrate(database)
            keys.add(database.execute("SELECT value FROM meta WHERE key = 'site_key'").fetchone()[0])
    assert len(keys) == 3


def test_a_step_that_a_test_adds_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_schema, "MIGRATIONS", (*store_schema.MIGRATIONS, "CREATE TABLE more (x ANY) STRICT;"))
    assert "CREATE TABLE more (x ANY) STRICT;" in content(sqlite3, store_schema.migrate)
