"""Whether a person is there to be asked: at a terminal, unless the command is to ask nothing (`--no-input`)."""

import sys

_asks = [True]


def ask(*, anything: bool) -> None:
    """Say for the rest of this process whether anything may be asked."""
    _asks[0] = anything


def types() -> bool:
    """Whether a person types what this process reads."""
    return _asks[0] and sys.stdin.isatty()


def is_there() -> bool:
    """Whether there is a person who can be asked for something that is not shown."""
    return _asks[0] and (sys.stdin.isatty() or sys.stderr.isatty())
