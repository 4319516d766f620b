"""Tests that are imported and collected once: each mutant is tried in a fork of the process that has done so.

There the functions that the mutant alters get its code in place, so a trial costs what its tests cost and no imports.
What cannot be altered so is left to `trial.run`: what stands outside of functions, and a function that reaches fewer
variables around it than before.
"""

import gc
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final

import pytest

from scripts.mutating import trial

_NOT_SO: Final = 99
"""The exit code of a trial whose mutant cannot be made in place; pytest has none of them."""


@dataclass(frozen=True)
class _Asked:
    file: Path
    before: str
    after: str
    tests: Sequence[str]
    seconds: float


class Collected:
    """Tests of a copy that wait in a process of their own to be run. It ends with this one."""

    def __init__(self, folder: Path, tests: Sequence[str], said: Path) -> None:
        self._connection, theirs = Pipe()
        if not os.fork():
            self._connection.close()
            os._exit(trial.pytest_on(folder, tests, said, [_Stage(theirs, said)]))
        theirs.close()

    def try_on(self, file: Path, text: str, tests: Sequence[str], seconds: float) -> bool | None:
        """Whether these tests pass when `file` has this text. None: it cannot be found out in this way."""
        before = file.read_text()
        with trial.altered(file, text):  # for processes that a test starts
            self._connection.send(_Asked(file, before, text, tests, seconds))
            code: int = self._connection.recv()
        return None if code in {_NOT_SO, pytest.ExitCode.INTERNAL_ERROR} else code == 0


class _Stage:
    """A plugin for pytest that runs no tests: its forks do."""

    def __init__(self, connection: Connection, said: Path) -> None:
        self._connection, self._said = connection, said

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Try what is asked for until nobody asks any more. In a fork: None, so that pytest goes on with the tests."""
        items = {item.nodeid: item for item in session.items}
        functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
        gc.freeze()  # a collection in a fork would copy all of it
        with suppress(EOFError, BrokenPipeError):
            while True:
                asked: _Asked = self._connection.recv()
                os.truncate(self._said, 0)
                child = os.fork()
                if not child:
                    os.setsid()
                    if not _alter(functions, asked):
                        os._exit(_NOT_SO)
                    trial.grant(asked.seconds)
                    session.items = [items[test] for test in asked.tests]
                    return None
                self._connection.send(trial.exit_code(child))
        return True


def _alter(functions: Iterable[FunctionType], asked: _Asked) -> bool:
    """Give those functions of the module that differ the code that they are to have; False: it cannot be."""
    before, after = (compile(each, asked.file, "exec") for each in (asked.before, asked.after))
    if _outside(before) != _outside(after):
        return False
    pairs = list(zip(_functions(before), _functions(after), strict=True))
    times = Counter(_key(old) for old, _ in pairs)
    codes = {_key(old): (old, new) for old, new in pairs if times[_key(old)] == 1}
    altered = False
    for each in functions:
        if each.__code__.co_filename == str(asked.file) and _key(each.__code__) in codes:
            old, new = codes[_key(each.__code__)]
            if old.co_freevars != new.co_freevars:
                return False
            each.__code__ = new
            altered = True
    return altered


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _outside(code: CodeType) -> list[object]:
    """What runs when a module is imported: its own code and that of its classes, without that of functions."""
    constants = [each for each in code.co_consts if not isinstance(each, CodeType)]
    found: list[object] = [code.co_code, code.co_names, repr(constants)]
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found += _outside(each) if not each.co_flags & CO_OPTIMIZED else [each.co_name]
    return found


def _functions(code: CodeType) -> list[CodeType]:
    """The code of each function of a module and of its classes, without those inside of functions."""
    found = []
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found += [each] if each.co_flags & CO_OPTIMIZED else _functions(each)
    return found
