"""The tables of limits in the threat model say what the code does."""

import importlib
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from securechat.server.config import ServerConfig
from securechat.server.rate import Rate, Size
from securechat.server.store.sqlite.store import SQLiteStore

THREAT_MODEL = Path(__file__).parents[2] / "docs" / "threat-model.md"


def rows(shape: str) -> dict[str, str]:
    """First column, in backquotes and of a `shape`, to the second one."""
    return dict(re.findall(rf"^\| `({shape})` \| ([^|]+) \|", THREAT_MODEL.read_text(), re.MULTILINE))


def test_every_rate_and_size_stands_there_with_its_default() -> None:
    settings = {name: str(value) for name, value in vars(ServerConfig()).items() if isinstance(value, Rate | Size)}
    assert rows("[a-z_]+") == settings


def test_every_table_of_the_database_is_bounded_or_says_why_not(tmp_path: Path) -> None:
    SQLiteStore(tmp_path / "chat.db").close()
    with closing(sqlite3.connect(tmp_path / "chat.db")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        charged = {name for (name,) in connection.execute("SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'")}
    told = dict(re.findall(r"^\| table `([a-z_]+)` \| [^|]+ \| ([^|]+) \|", THREAT_MODEL.read_text(), re.MULTILINE))
    assert told.keys() == tables - {"sqlite_sequence"}
    assert {name for name, bound in told.items() if bound.startswith("charged")} == charged | {"tail"}


def test_every_other_limit_has_the_value_that_stands_there() -> None:
    told = rows(r"[a-z_.]+\.[A-Z_]+")
    assert len(told) > 10
    for name, value in told.items():
        module, _, constant = name.rpartition(".")
        number = float(value.split()[0].replace(",", ""))
        assert getattr(importlib.import_module(f"securechat.{module}"), constant) == number, name
