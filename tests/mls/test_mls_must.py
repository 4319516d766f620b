"""Every rule of `rules.py` has a test that names its number, and every number that a test names is there."""

import re
from pathlib import Path

from tests.mls.rules import RULES

NUMBER = re.compile(r"\b\d+(?:\.\d+)*-\d+\b")

ALSO = ("test_mls_external_proposals.py", "test_mls_resumption.py")
"""Modules whose story is broader than the rules."""


def named_in(path: Path) -> set[str]:
    """The numbers in a test module: in its tables, and in comments behind the names of tests."""
    return set(NUMBER.findall(path.read_text()))


def test_every_rule_has_a_test_and_every_test_a_rule() -> None:
    folder = Path(__file__).parent
    modules = [*folder.glob("test_mls_must_*.py"), *map(folder.joinpath, ALSO)]
    named = {number: path.name for path in modules for number in named_in(path)}
    assert not RULES.keys() - named.keys(), "rules without a test"
    assert not named.keys() - RULES.keys(), "tests of no rule"
