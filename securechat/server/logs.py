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
from typing import Any, TextIO, TypeAlias

import structlog

Logger: TypeAlias = structlog.stdlib.BoundLogger

_Fields: TypeAlias = MutableMapping[str, Any]

_ROOT = "securechat"

_FIRST = ("time", "level", "event")
"""Fields that every line begins with."""


def get_logger(name: str) -> Logger:
    """Return the log of a module: `log.info("logged in", account=...)`. Lines go where `configure` said, or nowhere.

    It uses the standard library's `logging`, so that a program that embeds a server decides what becomes of its lines.
    """
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    log: Logger = wrapped.bind()
    return log


def configure(stream: TextIO, level: str) -> None:
    """Log to `stream` from `level` (`debug`, `info`...) on: readable if it is a terminal, else one JSON object a line.

    Also logs the errors that would end a thread.
    """
    # Nobody sees what these would find out for each line (Logging HOWTO, Optimization).
    logging._srcfile = None  # noqa: SLF001 - as the HOWTO says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()  # other libraries' warnings too
    root.handlers = [make_handler(stream)]
    root.setLevel(logging.WARNING)
    set_level(level)
    threading.excepthook = _thread_ended


def make_handler(stream: TextIO) -> logging.Handler:
    """Return the handler that writes our lines to a stream, for programs that configure `logging` themselves."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Formatter(_readable if stream.isatty() else json.JSONEncoder(default=repr).encode))
    return handler


def set_level(level: str) -> None:
    """Log our own lines from `level` on."""
    logging.getLogger(_ROOT).setLevel(level.upper())


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        thread = args.thread.name if args.thread is not None else ""
        get_logger(__name__).critical("a thread has ended by an internal error", thread=thread, exc_info=args.exc_value)


class _Formatter(logging.Formatter):
    """What we need of structlog's own formatter, without its second record of each line, which takes half the time."""

    def __init__(self, render: Callable[[_Fields], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Render one of our own lines, whose message is its event and fields, or one of another library."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: _Fields = {"time": time, "level": record.levelname.lower(), "event": ""}
        if hasattr(record, "_logger") and isinstance(record.msg, dict):
            fields.update(record.msg)
        else:
            fields.update(event=record.getMessage(), exc_info=record.exc_info)
        # A traceback shows lines of source and the error's text; never the values of variables.
        return self._render(structlog.processors.format_exc_info(None, "", fields))


def _readable(fields: Mapping[str, Any]) -> str:
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
