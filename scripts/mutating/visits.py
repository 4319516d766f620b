"""Which tests come by an altered place: those alone are run, and if there are none, nobody notices.

A place is known by its function. Each function is altered once so that it tells that it was entered. What is altered
outside of functions may concern every test, and what a fixture of several tests enters counts for each.
"""

import ast
import builtins
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

Function = tuple[str, int]
"""A module's path, and the line where the function begins, with its decorators."""

_TOLD: Final = "entered_by_a_test"
_EVERY: Final = ""


def telling(file: str, text: str) -> str:
    """Return a module's text in which each function tells `Visits` that it was entered; in another process, nobody."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            tells = f"__import__('builtins').__dict__.get({_TOLD!r}, id)({(file, _begins(node))!r})"
            node.body[:0] = ast.parse(tells).body
    return ast.unparse(tree)


class Visits:
    """A plugin for pytest that writes down what each test enters and how long it computes."""

    def __init__(self, written: Path) -> None:
        self._written = written
        self._entered: dict[str, set[Function]] = defaultdict(set)
        self._seconds: dict[str, float] = {}
        self._test = _EVERY
        setattr(builtins, _TOLD, lambda function: self._entered[self._test].add(function))

    def pytest_collection_finish(self) -> None:
        """What was entered until here was entered by the import of a module."""
        self._imported = set(self._entered[self._test])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Watch, from the setup of a test on."""
        self._test, self._began = nodeid, time.process_time()
        self._entered[nodeid] = set()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """It is over."""
        self._seconds[nodeid] = time.process_time() - self._began

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """A fixture that others use as well is everybody's."""
        before = self._test
        self._test = before if fixturedef.scope == "function" else _EVERY
        try:
            return (yield)
        finally:
            self._test = before

    def pytest_sessionfinish(self) -> None:
        """Write it down."""
        every = self._entered.pop(_EVERY, set())
        tests = {
            test: {"seconds": self._seconds[test], "entered": sorted(entered | every)}
            for test, entered in self._entered.items()
        }
        self._written.write_text(json.dumps({"tests": tests, "imported": sorted(self._imported)}))


class Only:
    """A plugin for pytest by which these tests alone are run, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out all others."""
        found = {item.nodeid: item for item in items}
        items[:] = [found[test] for test in self._tests]


class Known:
    """What `Visits` has written."""

    def __init__(self, written: Path) -> None:
        known = json.loads(written.read_text())
        self._tests: dict[str, Any] = known["tests"]
        self._imported: list[list[Any]] = known["imported"]

    def by(self, file: str, text: str, line: int) -> dict[str, float]:
        """The tests that come by a line of a module, in their order, and the seconds that each computes."""
        inside = _functions(text, line)
        return {
            test: known["seconds"]
            for test, known in self._tests.items()
            if not inside or [file, inside[-1]] in known["entered"]
        }

    def is_imported(self, file: str, text: str, line: int) -> bool:
        """Whether a line of a module is run, or is part of what is made, while modules are imported."""
        inside = _functions(text, line)
        return not inside or any([file, each] in self._imported for each in inside)


def _functions(text: str, line: int) -> list[int]:
    """The lines where those functions begin in whose bodies `line` is, from the outside inwards."""
    return [
        _begins(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or line)
    ]


def _begins(function: ast.FunctionDef) -> int:
    return min([function.lineno, *(each.lineno for each in function.decorator_list)])
