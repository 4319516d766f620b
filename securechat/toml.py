"""TOML files of settings, as people write them: bounded before they are read, and with the line of each setting."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from securechat.errors import UsageError
from securechat.files import open_to_read

MAX_CONFIG: Final = 16 << 10
"""Bytes of a config file: all settings with a paragraph of comment on each."""

MAX_DOTS: Final = 100
"""Dots in one of its lines: `tomllib` takes quadratic time for a key of many parts. Ours have three at most."""

_TOKEN: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|"(?:\\.|[^\\])*?"'  # strings with escapes; two quotes may stand before the last three
    r"|'''.*?'{3,5}|'.*?'|#[^\n]*|[\[\]{}\n]",
    re.DOTALL,
)
"""What decides where a statement of TOML ends: strings, comments, brackets, line ends."""


class TomlFile:
    """A file that was read. `table`: what it says."""

    def __init__(self, path: Path) -> None:
        """Read it. Raises UsageError that says where something is wrong, or why it cannot be read."""
        try:
            with os.fdopen(open_to_read(path), "rb") as opened:  # a server reads it again: no stream
                data = opened.read(MAX_CONFIG + 1)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        if len(data) > MAX_CONFIG:
            raise UsageError(f"{path} is larger than {MAX_CONFIG:,} bytes")
        self._path = path
        try:
            self._text = data.decode().replace("\r\n", "\n")
            for number, line in enumerate(self._text.split("\n"), start=1):
                if line.count(".") > MAX_DOTS:
                    raise UsageError(f"{path}, line {number}: more than {MAX_DOTS} dots in one line")
            self.table: dict[str, Any] = tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or a number of thousands of digits
            raise UsageError(f"{path}: {error}") from error  # TOMLDecodeError names line and column

    def place(self, *keys: str) -> str:
        """Name the file and the line on which the statement begins that sets a key, in tables of tables: tomllib does
        not say."""
        line, header = 1, tuple[str, ...]()
        for statement in _statements(self._text):
            found = _keys(tomllib.loads(statement))
            if is_header := statement.lstrip().startswith("["):
                header = found
            full = header if is_header else (*header, *found)
            whole = len(full) if not is_header else len(keys)  # a table may be written in one line
            if found and full[: len(keys)] == keys[:whole]:
                break
            line += statement.count("\n")
        return f"{self._path}, line {line}"


def _keys(table: Any) -> tuple[str, ...]:
    """The keys that lead to what one statement sets."""
    keys = []
    while isinstance(table, dict) and len(table) == 1:
        ((key, table),) = table.items()
        keys.append(key)
    return tuple(keys)


def _statements(text: str) -> Iterator[str]:
    """Cut a valid file where a line ends outside of all brackets and strings."""
    begin = depth = 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case "\n" if depth == 0:
                yield text[begin : token.end()]
                begin = token.end()
    yield text[begin:]
