"""Commands and events as JSON: one object a line, in ASCII, so that no text from others can break or fake a line.

    {"v": 1, "command": "Send", "id": 7, "conversation": "8f3c...", "text": "Hello"}
    {"v": 1, "event": "Delivered", "command": 7, "message": {"local_id": 12, ...}}

Both are made from `client.commands` and `client.events`: each kind has its class's name, each field its own; bytes are
written in lower-case hexadecimal. A field with a default may be left out of a command. `id` is the caller's own, and an
event's `command` names a command by it: the carrier of the lines keeps track of which is which (`Command.id` is unique
within this process only). Text is raw, as in the events.
"""

import json
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from securechat.client.commands import Command
from securechat.client.events import Event
from securechat.errors import RefusedError, UsageError

VERSION: Final = 1
"""`v` of every line. A change that an old caller would misread takes a new one."""

MAX_LINE: Final = 512 << 10
"""Bytes of one command: the longest text with every character escaped takes 384 KiB."""

ID_LENGTH: Final = 32
"""Bytes of a conversation's id."""

MAX_ID: Final = (1 << 53) - 1
"""The largest id of a caller: the largest integer that every JSON library keeps exact."""

MAX_INTEGER: Final = (1 << 63) - 1
"""The largest integer of a command: what the vault can hold."""


class Call(NamedTuple):
    """A command, and what its caller calls it."""

    id: int
    command: Command


class Error(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exception: its class's name in `errors`, its code if the server refused something, and its text."""

    type: str
    code: str
    text: str


def encode_command(call: Call) -> bytes:
    """Return a command as a line, without its line break."""
    return _line({"v": VERSION, "command": type(call.command).__name__, **_plain(call.command), "id": call.id})


def encode_event(event: Event) -> bytes:
    """Return an event as a line, without its line break. `event.command` has to be the caller's id already, or 0."""
    return _line({"v": VERSION, "event": type(event).__name__, **_plain(event)})


def decode_command(line: bytes) -> Call:
    """Return the command on a line, under a new `Command.id`. Raises `UsageError` for anything else."""
    if len(line) > MAX_LINE:
        raise UsageError(f"A command is at most {MAX_LINE:,} bytes long; this line has {len(line):,}.")
    try:
        decoded = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"This line is not a command: {error}.") from None
    command = _COMMANDS[type(decoded).__name__]
    hints = get_type_hints(command)
    values: dict[str, Any] = {}
    for field in _own_fields(command):
        value = getattr(decoded, field.name)
        values[field.name] = bytes.fromhex(value) if hints[field.name] is bytes else value
    return Call(decoded.id, command(**values))


def schema() -> dict[str, Any]:
    """Return the JSON schema of all commands and events, by which a caller can be written or checked."""
    (commands, events), components = msgspec.json.schema_components([_CommandLine, _EventLine])
    return {"command": commands, "event": events, "$defs": components}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _plain(value: Any) -> Any:
    """Return a value of a command or an event as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Exception):
        code = value.code if isinstance(value, RefusedError) else ""
        return {"type": type(value).__name__, "code": code, "text": str(value)}
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


# --- the same in types ------------------------------------------------------------------------------------------------

_Hex = Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")]
_Id = Annotated[str, Meta(pattern=f"^[0-9a-f]{{{2 * ID_LENGTH}}}$", max_length=2 * ID_LENGTH)]  # `$` lets "\n" pass
_Integer = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


def _own_fields(command: type[Command]) -> list[Field[Any]]:
    return [field for field in fields(command) if field.name != "id"]


def _command_type(command: type[Command]) -> Any:
    """Return the type of a command's line."""
    types: dict[Any, Any] = {bytes: _Id, int: _Integer}
    hints = get_type_hints(command)
    parts: list[Any] = [("v", Literal[VERSION]), ("id", Annotated[int, Meta(ge=1, le=MAX_ID)])]
    for field in _own_fields(command):
        default = () if field.default is MISSING else (field.default,)
        parts.append((field.name, types.get(hints[field.name], hints[field.name]), *default))
    return msgspec.defstruct(
        command.__name__, parts, tag_field="command", tag=True, kw_only=True, forbid_unknown_fields=True
    )


def _event_type(event: type[Event]) -> Any:
    """Return the type of an event's line."""
    parts = [("v", Literal[VERSION]), *_json_fields(event)]
    return msgspec.defstruct(event.__name__, parts, tag_field="event", tag=True, forbid_unknown_fields=True)


def _json_fields(dataclass: Any) -> list[tuple[str, Any]]:
    hints = get_type_hints(dataclass)
    return [(field.name, _json_type(hints[field.name])) for field in fields(dataclass)]


def _json_type(hint: Any) -> Any:
    """Return what `_plain` makes of a field of this type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bytes:
        return _Hex
    if hint is Exception:
        return Error
    if isinstance(hint, type) and is_dataclass(hint):
        if hint not in _parts:
            _parts[hint] = msgspec.defstruct(hint.__name__, _json_fields(hint), forbid_unknown_fields=True)
        return _parts[hint]
    if origin is tuple:
        return tuple[tuple(each if each is ... else _json_type(each) for each in arguments)]  # type: ignore[misc]  # made at run time
    if origin in (Union, UnionType):
        return reduce(or_, map(_json_type, arguments))
    return hint


_parts: Final[dict[Any, Any]] = {}  # the dataclasses inside events
_COMMANDS: Final = {each.__name__: each for each in Command.__subclasses__()}
_CommandLine: Final[Any] = reduce(or_, map(_command_type, _COMMANDS.values()))
_EventLine: Final[Any] = reduce(or_, map(_event_type, Event.__subclasses__()))
_decode: Final = msgspec.json.Decoder(_CommandLine).decode
