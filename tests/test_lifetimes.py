"""docs/lifetimes.md is current, names every constant that lasts for an hour or longer, and tests that are there."""

import ast
import datetime as dt
import re
from collections.abc import Iterator

import pytest

from scripts.lifetimes import PAGE, ROOT, TABLES, UNITS, Row, build, seconds

ROWS = [row for section in TABLES for row in section.rows]

LENGTH = re.compile(r"(SECONDS|DAYS|HOURS|LIFE|LIFETIME|_AGE|SKEW|LEAP|TTL|EXPIRY|WAIT)$")
WRITTEN = re.compile(r"\b86_?400|\b3_?600|days=")
"""A constant is a lifetime by how it is called, or by how it is written."""


def constants() -> Iterator[tuple[str, str]]:
    """The constants of the program, by module and name, that last for an hour or longer."""
    for file in sorted((ROOT / "securechat").rglob("*.py")):
        source = file.read_text()
        module = ".".join(file.relative_to(ROOT / "securechat").with_suffix("").parts)
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign):
                (target,) = node.targets
            elif isinstance(node, ast.AnnAssign):
                target = node.target
            else:
                continue
            if not isinstance(target, ast.Name) or not target.id.isupper() or node.value is None:
                continue
            written = ast.get_source_segment(source, node.value) or ""
            if (LENGTH.search(target.id) or WRITTEN.search(written)) and _is_long(module, target.id):
                yield module, target.id


def _is_long(module: str, name: str) -> bool:
    try:
        return seconds(module, name) >= 3600
    except (TypeError, ValueError):  # a table, for example
        return False


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == build()


def test_every_lifetime_has_a_row() -> None:
    found = set(constants())
    assert found - UNITS == {(row.module, row.name) for row in ROWS}
    assert found >= UNITS


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.module}.{row.name}" for row in ROWS])
def test_each_is_held_by_tests_that_are_there(row: Row) -> None:
    assert row.tests
    for test in row.tests:
        path, _, part = test.partition(": ")
        found = re.findall(rf"^def test\w*{part}\w*\(", (ROOT / "tests" / path).read_text(), re.MULTILINE)
        assert found, f"{path} has no test that is called ...{part}..."


def test_a_length_is_read_by_the_unit_in_its_name() -> None:
    assert seconds("certs", "CA_LIFE") == dt.timedelta(days=3653).total_seconds()
    assert seconds("content.registry", "INVITATION_DAYS") == 14 * 86_400
    assert seconds("client.parts", "PATH_MILLISECONDS") == 7 * 86_400
    assert seconds("client.device", "CERTIFICATE_SECONDS") == 45 * 86_400
