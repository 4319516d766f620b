"""What the commands share: options that name a path, and text that is safe to show."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from securechat.files import expand


def printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class _Path(click.Path):
    """An empty path would silently mean the current folder: a script's variable that was never set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a Path, or raise click.BadParameter."""
        if value == "":
            self.fail("a path cannot be empty; the current folder is `.`", param, ctx)
        if isinstance(value, str):
            value = expand(value)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path, readable=False)  # whoever opens it can say more, and opens what is handed over, too


def apply(options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Return what adds several options to a command, in their order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add
