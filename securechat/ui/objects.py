"""Events, messages and what else the core tells, as JSON objects: for programs (`--json`, `securechat rpc`).

    {"v": 1, "event": "Received", "where": "#lobby", "command": 0, "message": {"local_id": 12, ...}}
    {"v": 1, "where": "#lobby", "message": {"local_id": 12, ...}}

All of it is made from the definitions in `client`: each kind has its class's name, each field its own; bytes are
written in lower-case hexadecimal. `where` is the name of the conversation that a line is about; it is empty if it is
about none. A line is ASCII, so that no text from others can break or fake one. Text is raw, as in the events.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from securechat import errors
from securechat.client.events import Event
from securechat.client.message import Message
from securechat.errors import InternalError, RefusedError, SecurechatError

VERSION: Final = 1
"""`v` of every line. A change that an old caller would misread takes a new one; fields are added without."""

ID_LENGTH: Final = 32
"""Bytes of a conversation's id."""

MAX_INTEGER: Final = (1 << 63) - 1
"""The largest integer that is taken: what the vault can hold."""


class Error(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exception: its class's name in `errors`, its code if the server refused something, and its text."""

    type: str
    code: str
    text: str


def line_of(value: Mapping[str, Any]) -> bytes:
    """Return an object as a line, without its line break."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def event_object(event: Event, where: str = "") -> dict[str, Any]:
    """Return an event as an object. `where`: the name of the conversation that it is about."""
    return {"v": VERSION, "event": type(event).__name__, "where": where, **to_json(event)}


def message_object(message: Message, where: str) -> dict[str, Any]:
    """Return a line of the history as an object."""
    return {"v": VERSION, "where": where, "message": to_json(message)}


def conversation_of(event: Event) -> bytes:
    """Return the id of the conversation that an event is about; empty: it is about none."""
    for each in (event, getattr(event, "message", None)):
        found = getattr(each, "conversation", b"")
        if isinstance(found, bytes) and found:
            return found
        if isinstance(id_of := getattr(found, "id", None), bytes):
            return id_of
    return b""


def to_json(value: Any) -> Any:
    """Return a value of a command, an event or a read as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    if isinstance(value, dict):
        return {to_json(key): to_json(each) for key, each in value.items()}
    if isinstance(value, Exception):
        code = value.code if isinstance(value, RefusedError) else ""
        return {"type": type(value).__name__, "code": code, "text": str(value)}
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    return value


def from_json(hint: Any, value: Any) -> Any:
    """Return the value of this type that `to_json` has made this of. Raises ValueError or TypeError for others."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bytes:
        return bytes.fromhex(value)
    if hint is Exception:
        return _error(**value)
    if origin in (Union, UnionType):
        return None if value is None else from_json(next(each for each in arguments if each is not type(None)), value)
    if origin is list:
        return [from_json(arguments[0], each) for each in value]
    if origin is dict:
        return {from_json(arguments[0], key): from_json(arguments[1], each) for key, each in value.items()}
    if origin is tuple or (isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")):
        types = arguments if origin is tuple else tuple(get_type_hints(hint).values())
        if types[-1] is ...:
            return tuple(from_json(types[0], each) for each in value)
        made = [from_json(each, part) for each, part in zip(types, value, strict=True)]
        return tuple(made) if origin is tuple else hint(*made)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return hint(**{name: from_json(hints[name], each) for name, each in value.items()})
    return value


def event_from(value: Mapping[str, Any]) -> Event:
    """Return the event of an object. Raises ValueError, TypeError or KeyError for anything else."""
    event = EVENTS[value["event"]]
    given = {name: each for name, each in value.items() if name not in ("v", "event", "where")}
    made: Event = from_json(event, given)
    return made


def _error(type: str, code: str, text: str) -> SecurechatError:  # noqa: A002  # as in `Error`
    kind = getattr(errors, type, InternalError)
    if kind is RefusedError:
        return RefusedError(code, text)
    return kind(text) if isinstance(kind, type_of) and issubclass(kind, SecurechatError) else InternalError(text)


type_of: Final = type

# --- the same in types ------------------------------------------------------------------------------------------------

HexText = Annotated[str, Meta(pattern="^([0-9a-f]{2})*$")]
Id = Annotated[str, Meta(pattern=f"^([0-9a-f]{{{2 * ID_LENGTH}}})?$", max_length=2 * ID_LENGTH)]  # `$` lets "\n" pass
Integer = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


def json_fields(dataclass: Any) -> list[tuple[str, Any]]:
    """Return the fields of what `to_json` makes of a dataclass."""
    hints = get_type_hints(dataclass)
    return [(field.name, json_type(hints[field.name])) for field in fields(dataclass)]


def json_type(hint: Any) -> Any:
    """Return the type of what `to_json` makes of a value of this one."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bytes:
        return HexText
    if hint is Exception:
        return Error
    if isinstance(hint, type) and is_dataclass(hint):
        if hint not in _parts:
            _parts[hint] = msgspec.defstruct(hint.__name__, json_fields(hint), forbid_unknown_fields=True)
        return _parts[hint]
    if origin in (list, dict):
        return origin[tuple(map(json_type, arguments))]
    if origin is tuple:
        return tuple[tuple(each if each is ... else json_type(each) for each in arguments)]  # type: ignore[misc]  # made at run time
    if origin in (Union, UnionType):
        return reduce(or_, map(json_type, arguments))
    return hint


def given_type(hint: Any, name: str = "") -> Any:
    """Return the type of what a caller may give for a value of this one: bounded where `json_type` need not be.

    `name`: of the field. One that is called so holds the id of a conversation, or is empty, for all of them or none.
    """
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        parts = []
        for field in fields(hint):
            default = () if field.default is MISSING else (field.default,)
            parts.append((field.name, given_type(hints[field.name], field.name), *default))
        return msgspec.defstruct(f"{hint.__name__}Given", parts, kw_only=True, forbid_unknown_fields=True)
    if hint is bytes:
        return Id if name == "conversation" else HexText
    return Integer if hint is int else hint


def event_type(event: type[Event]) -> Any:
    """Return the type of an event's object."""
    parts = [("v", Literal[VERSION]), ("where", str), *json_fields(event)]
    return msgspec.defstruct(event.__name__, parts, tag_field="event", tag=True, forbid_unknown_fields=True)


_parts: Final[dict[Any, Any]] = {}  # the dataclasses inside events
EVENTS: Final = {each.__name__: each for each in Event.__subclasses__()}
EventObject: Final[Any] = reduce(or_, map(event_type, EVENTS.values()))
MessageObject: Final[Any] = msgspec.defstruct(
    "MessageObject", [("v", Literal[VERSION]), ("where", str), ("message", json_type(Message))],
    forbid_unknown_fields=True,
)  # fmt: skip
