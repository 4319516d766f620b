"""The tables of limits in the threat model say what the code does."""

import importlib
import re
from pathlib import Path

from securechat.server.config import ServerConfig
from securechat.server.rate import Rate

THREAT_MODEL = Path(__file__).parents[2] / "docs" / "threat-model.md"


def rows(shape: str) -> dict[str, str]:
    """First column, in backquotes and of a `shape`, to the second one."""
    return dict(re.findall(rf"^\| `({shape})` \| ([^|]+) \|", THREAT_MODEL.read_text(), re.MULTILINE))


def test_every_rate_stands_there_with_its_default() -> None:
    rates = {name: str(value) for name, value in vars(ServerConfig()).items() if isinstance(value, Rate)}
    assert rows("[a-z_]+") == rates


def test_every_other_limit_has_the_value_that_stands_there() -> None:
    told = rows(r"[a-z_.]+\.[A-Z_]+")
    assert len(told) > 10
    for name, value in told.items():
        module, _, constant = name.rpartition(".")
        number = int(value.split()[0].replace(",", ""))
        assert getattr(importlib.import_module(f"securechat.{module}"), constant) == number, name
