"""The log: one line an event, JSON for programs, readable at a terminal (docs/design.md, section 5, Operation).

A line is an event, whose text is fixed and our own, and fields. Everything that varies is a field, and so is everything
that comes from others. Both renderings escape whatever is not printable ASCII, so nobody can colour the operator's
screen, fake a second line, or hide one.

Lines are about connections, never about entries: a line costs as much as ten messages. No secrets need filtering, at
any level, because none is handed in: messages show only the sizes of their bytes (`wire.messages`), and a name that
nobody has is left out, because it may be a password typed into the wrong field.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

_ROOT = "securechat"

_FIRST = ("time", "level", "event")
"""Fields that every line begins with."""


class Logger(logging.LoggerAdapter[logging.Logger]):
    """The log of a module: `log.info("logged in", account=...)`. Lines go where `log_output` writes, or nowhere.

    It uses the standard library's `logging`, so that a program that embeds a server decides what becomes of its lines.
    """

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        """Return an event and its fields as a record's message, and the error that belongs to it."""
        error = kwargs.pop("exc_info", None)
        return _Line(event=msg, **kwargs), {"exc_info": error}


def get_logger(name: str) -> Logger:
    """Return the log of the module of this name."""
    return Logger(logging.getLogger(name))


def make_handler(stream: TextIO) -> logging.Handler:
    """Return the handler that writes our lines to a stream, for programs that configure `logging` themselves."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(make_formatter(stream))
    return handler


def make_formatter(stream: TextIO) -> logging.Formatter:
    """Return what makes our lines for a stream: readable ones if it is a terminal, else JSON."""
    return _Formatter(_readable if stream.isatty() else json.JSONEncoder(default=repr).encode)


def set_level(level: str) -> None:
    """Log our own lines from `level` on."""
    logging.getLogger(_ROOT).setLevel(level.upper())


def thread_ended(args: threading.ExceptHookArgs) -> None:
    """Log the error that ends a thread; for `threading.excepthook`."""
    if args.exc_value is not None and args.exc_type is not SystemExit:
        thread = args.thread.name if args.thread is not None else ""
        get_logger(__name__).critical("a thread has ended by an internal error", thread=thread, exc_info=args.exc_value)


class _Line(dict[str, object]):
    """One of our own lines: its event and fields."""


class _Formatter(logging.Formatter):
    """Makes a line of a record: of one of our own, and of one of another library."""

    def __init__(self, render: Callable[[Mapping[str, object]], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Render an event with its fields, and what has gone wrong as the last of them."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = record.msg if isinstance(record.msg, _Line) else {"event": record.getMessage()}
        fields = {"time": time, "level": record.levelname.lower(), "event": "", **said}
        if record.exc_info:  # a traceback shows lines of source and the error's text; never the values of variables
            fields["exception"] = self.formatException(record.exc_info)
        return self._render(fields)


def _readable(fields: Mapping[str, object]) -> str:
    """`time level event key=value key=value`, and below it any traceback, whose lines cannot pass for log lines."""
    line = f"{fields['time']} {fields['level']:<8} {_shown(fields['event'])}"
    line += "".join(
        f" {name}={_shown(value, quoted=True)}"
        for name, value in fields.items()
        if name not in (*_FIRST, "exception")
    )
    for each in str(fields.get("exception", "")).splitlines():
        line += f"\n    | {_shown(each)}"
    return line


def _shown(value: object, *, quoted: bool = False) -> str:
    """Escape a text; `quoted`: put quotes around it if its end could not be seen otherwise."""
    if not isinstance(value, str):
        return _shown(str(value), quoted=quoted)
    plain = value.isascii() and value.isprintable()
    if quoted and (not plain or not value or set(value) & set(" '\"=")):
        return ascii(value)
    return value if plain else ascii(value)[1:-1]
