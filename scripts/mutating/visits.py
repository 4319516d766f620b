"""Which tests come by an altered place: those alone are run, and if there are none, nobody notices.

A place is known by its statement. Each statement of a function is altered once so that it tells that it is made. What
is altered outside of functions may concern every test, and what a fixture of several tests does counts for each.
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

Statement = tuple[str, int]
"""A module's path, and the line where the statement begins."""

_TOLD: Final = "entered_by_a_test"
_EVERY: Final = ""


def telling(file: str, text: str) -> str:
    """Return a module's text in which each statement tells `Visits` that it is made; in another process, nobody."""
    tree = ast.parse(text)
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef))
    inside = {id(node): node for function in functions for node in ast.walk(function)}
    for node in inside.values():
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, [each for one in block for each in (_tell(file, one), one)])
    return ast.unparse(tree)


def _tell(file: str, statement: ast.stmt) -> ast.stmt:
    return ast.parse(f"__import__('builtins').__dict__.get({_TOLD!r}, id)({(file, statement.lineno)!r})").body[0]


class Visits:
    """A plugin for pytest that writes down by which statements each test comes and how long it computes."""

    def __init__(self, written: Path) -> None:
        self._written = written
        self._made: dict[str, set[Statement]] = defaultdict(set)
        self._seconds: dict[str, float] = {}
        self._test = _EVERY
        setattr(builtins, _TOLD, lambda statement: self._made[self._test].add(statement))

    def pytest_collection_finish(self) -> None:
        """What was made until here was made by the import of a module."""
        self._imported = set(self._made[self._test])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Watch, from the setup of a test on."""
        self._test, self._began = nodeid, time.process_time()
        self._made[nodeid] = set()

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
        every = self._made.pop(_EVERY, set())
        tests = {
            test: {"seconds": self._seconds[test], "made": sorted(made | every)}
            for test, made in self._made.items()
        }
        self._written.write_text(json.dumps({"tests": tests, "imported": sorted(self._imported)}))


class Only:
    """A plugin for pytest by which these tests alone are run, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out all others. Where a mutant has renamed a case of a test, all its cases are run."""
        found = {item.nodeid: item for item in items}
        renamed = {_uncased(test) for test in self._tests if test not in found}
        cases = [name for name in found if _uncased(name) in renamed and name not in self._tests]
        items[:] = [found[name] for name in (*self._tests, *cases) if name in found]


def _uncased(test: str) -> str:
    return test.partition("[")[0]


class Known:
    """What `Visits` has written."""

    def __init__(self, written: Path) -> None:
        known = json.loads(written.read_text())
        self._tests: dict[str, Any] = known["tests"]
        self._imported: list[list[Any]] = known["imported"]

    def by(self, file: str, text: str, line: int) -> dict[str, float]:
        """The tests that come by a line of a module, in their order, and the seconds that each computes."""
        _, statement = _place(text, line)
        return {
            test: known["seconds"]
            for test, known in self._tests.items()
            if statement is None or [file, statement] in known["made"]
        }

    def is_imported(self, file: str, text: str, line: int) -> bool:
        """Whether a line of a module is run, or is part of what is made, while modules are imported."""
        functions, statement = _place(text, line)
        return statement is None or any([file, each] in self._imported for each in functions)


def _place(text: str, line: int) -> tuple[list[int], int | None]:
    """The first lines in the bodies of the functions around `line`, and where its statement begins, if it is in one."""
    functions: list[int] = []
    statement = None
    for node in ast.walk(ast.parse(text)):  # from the outside inwards
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line):
            if functions:
                statement = node.lineno
            if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line:
                functions.append(node.body[0].lineno)
    return functions, statement
