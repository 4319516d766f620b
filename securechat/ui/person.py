"""What a person at this process may be asked and told: at a terminal, unless the command line says otherwise."""

import sys

_asks = [True]
_tells = [True]


def ask(*, anything: bool) -> None:
    """Say for the rest of this process whether anything may be asked (`--no-input`)."""
    _asks[0] = anything


def tell(*, news: bool) -> None:
    """Say for the rest of this process whether anything is told but errors (`--quiet`)."""
    _tells[0] = news


def types() -> bool:
    """Whether a person types what this process reads."""
    return _asks[0] and sys.stdin.isatty()


def is_there() -> bool:
    """Whether there is a person who can be asked for something that is not shown."""
    return _asks[0] and (sys.stdin.isatty() or sys.stderr.isatty())


def hears_news() -> bool:
    """Whether a person is told what is no error."""
    return _tells[0]
