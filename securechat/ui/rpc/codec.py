"""JSON-RPC 2.0 over commands, reads and events of the core: one object a line (https://www.jsonrpc.org/specification).

    -> {"jsonrpc": "2.0", "id": 7, "method": "Send", "params": {"conversation": "8f3c...", "text": "Hello"}}
    <- {"jsonrpc": "2.0", "method": "event", "params": {"v": 1, "event": "Delivered", "command": 7, ...}}
    <- {"jsonrpc": "2.0", "id": 7, "result": null}
    -> {"jsonrpc": "2.0", "id": 8, "method": "past", "params": {"name": "#lobby", "limit": 20}}
    <- {"jsonrpc": "2.0", "id": 8, "result": [{"local_id": 12, ...}]}

A method is a command (`client.commands`), by its class's name, or a read, by its name in `client.core.ChatClient`; its
params are an object with the fields or parameters that it has there, of which those with a default may be left out.
What the core can do is what a caller can: both are made from these definitions. Events are the objects of `--json`
(`ui.objects`); an event's `command` names a request by its id.

What is left out of the standard: params by position, batches, and ids that are no whole numbers from 1.
"""

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from securechat.client.commands import Command
from securechat.client.core import ChatClient
from securechat.client.events import Event
from securechat.errors import UsageError
from securechat.ui.objects import (
    EventObject,
    MessageObject,
    event_object,
    from_json,
    given_type,
    json_type,
    line_of,
    to_json,
)

MAX_LINE: Final = 512 << 10
"""Bytes of one request: the longest text with every character escaped takes 384 KiB."""

MAX_ID: Final = (1 << 53) - 1
"""The largest id of a caller: the largest integer that every JSON library keeps exact."""

MAX_LIMIT: Final = 1000
"""Lines of one read: with the longest texts, and every character escaped, they take 400 MB."""

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
"""Of the standard (section 5.1). Other codes are exit codes: why the same as a command in a shell would have failed."""


_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading a line may raise."""


class InvalidRequestError(UsageError):
    """A line is no request that can be carried out."""

    def __init__(self, code: int, text: str, call: int = 0) -> None:
        """`call`: the caller's id, if that can be said."""
        super().__init__(text)
        self.code = code
        self.call = call


class Read(NamedTuple):
    """A read of what the core has: a method of `ChatClient`, and its arguments."""

    name: str
    arguments: Mapping[str, Any]


class Request(NamedTuple):
    """What is asked for, and what its caller calls it; 0: nobody waits for an answer."""

    id: int
    what: Command | Read


def encode_request(request: Request) -> bytes:
    """Return a request as a line, without its line break, as all of these."""
    call, what = request
    named = {"id": call} if call else {}
    if isinstance(what, Read):
        method, params = what.name, dict(what.arguments)
    else:
        method, params = type(what).__name__, {each.name: getattr(what, each.name) for each in _own_fields(type(what))}
    return line_of({"jsonrpc": "2.0", **named, "method": method, "params": to_json(params)})


def encode_event(event: Event, where: str) -> bytes:
    """Return an event as a line. `event.command` has to be the caller's id already, or 0."""
    return line_of({"jsonrpc": "2.0", "method": "event", "params": event_object(event, where)})


def encode_result(call: int, result: Any) -> bytes:
    """Return what a request has come to; `result` is as JSON has it."""
    return line_of({"jsonrpc": "2.0", "id": call, "result": result})


def encode_error(call: int, code: int, text: str, refusal: str = "") -> bytes:
    """Return why a request came to nothing. `refusal`: the server's code, or `local`; `call` 0: none that is known."""
    data = {"data": {"refusal": refusal}} if refusal else {}
    return line_of({"jsonrpc": "2.0", "id": call or None, "error": {"code": code, "message": text, **data}})


def decode_request(line: bytes) -> Request:
    """Return the request on a line, a command under a new `Command.id`. Raises `InvalidRequestError` for others."""
    if len(line) > MAX_LINE:
        raise too_long()
    try:
        decoded = _decode(line)
    except _UNREADABLE as error:
        raise _invalid(line, error) from None
    call = 0 if decoded.id is UNSET else decoded.id
    method = type(decoded).__name__
    given = {name: getattr(decoded.params, name) for name in decoded.params.__struct_fields__}
    hints = _hints(method)
    values = {name: from_json(hints[name], msgspec.to_builtins(value)) for name, value in given.items()}
    if method in _COMMANDS:
        return Request(call, _COMMANDS[method](**values))
    return Request(call, Read(method, values))


def too_long() -> InvalidRequestError:
    """Return what is said of a line that is too long to be kept."""
    return InvalidRequestError(INVALID_REQUEST, f"A request is at most {MAX_LINE:,} bytes long.")


def schema() -> dict[str, Any]:
    """Return the JSON schema of all requests, their results, and events, by which a caller can be written or checked.

    `line`: what the commands with `--json` print of a message; `event`: of an event, and what `rpc` sends as params.
    """
    results = [json_type(get_type_hints(method)["return"]) for method in READS.values()]
    (request, event, line, *answers), parts = msgspec.json.schema_components(
        [_RequestLine, EventObject, MessageObject, *results]
    )
    return {
        "request": request, "event": event, "line": line,
        "result": {**{name: {"type": "null"} for name in _COMMANDS}, **dict(zip(READS, answers, strict=True))},
        "$defs": parts,
    }  # fmt: skip


def _invalid(line: bytes, error: Exception) -> InvalidRequestError:
    """Return what is wrong with a line, for the caller's id if it has one."""
    if not isinstance(error, msgspec.ValidationError):
        return InvalidRequestError(PARSE_ERROR, f"This line is not JSON: {error}.")
    code = INVALID_REQUEST
    if "`$.method`" in str(error):
        code = METHOD_NOT_FOUND
    elif "`$.params" in str(error):
        code = INVALID_PARAMS
    try:
        call = _decode_id(line).id
    except _UNREADABLE:
        return InvalidRequestError(INVALID_REQUEST, f"This line is not a request: {error}.")
    return InvalidRequestError(code, f"This line is not a request: {error}.", 0 if call is UNSET else call)


# --- the same in types ------------------------------------------------------------------------------------------------

_Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
_CallId = Annotated[int, Meta(ge=1, le=MAX_ID)]


def _own_fields(command: type[Command]) -> list[Field[Any]]:
    return [field for field in fields(command) if field.name != "id"]


def _reads() -> dict[str, Any]:
    """Return what of the core can be read: its public methods that return something."""
    methods = {name: each for name, each in vars(ChatClient).items() if inspect.isfunction(each)}
    return {
        name: each for name, each in methods.items()
        if not name.startswith("_") and get_type_hints(each)["return"] is not type(None)
    }  # fmt: skip


def _hints(method: str) -> dict[str, Any]:
    return get_type_hints(_COMMANDS.get(method) or READS[method])


def _request_type(name: str, parts: list[tuple[Any, ...]]) -> Any:
    """Return the type of a request's line."""
    params = msgspec.defstruct(f"{name}Params", parts, kw_only=True, forbid_unknown_fields=True)
    needed = any(len(part) == 2 for part in parts)
    outer = [
        ("jsonrpc", Literal["2.0"]),
        ("params", params) if needed else ("params", params, msgspec.field(default_factory=params)),
        ("id", _CallId | UnsetType, UNSET),
    ]
    return msgspec.defstruct(name, outer, tag_field="method", tag=True, kw_only=True, forbid_unknown_fields=True)


def _command_type(command: type[Command]) -> Any:
    hints = get_type_hints(command)
    parts: list[tuple[Any, ...]] = []
    for field in _own_fields(command):
        default = () if field.default is MISSING else (to_json(field.default),)
        parts.append((field.name, given_type(hints[field.name], field.name), *default))
    return _request_type(command.__name__, parts)


def _read_type(name: str, method: Any) -> Any:
    hints = get_type_hints(method)
    parts: list[tuple[Any, ...]] = []
    for each in list(inspect.signature(method).parameters.values())[1:]:
        hint = given_type(hints[each.name], each.name) if each.name != "limit" else _Limit
        default = () if each.default is each.empty else (each.default,)
        parts.append((each.name, hint, *default))
    return _request_type(name, parts)


class _Id(msgspec.Struct):
    """What is read of a line that is no proper request."""

    id: _CallId | UnsetType = UNSET


_COMMANDS: Final = {each.__name__: each for each in Command.__subclasses__()}
READS: Final = _reads()
"""The reads, by their names."""

_RequestLine: Final[Any] = reduce(
    or_, [*map(_command_type, _COMMANDS.values()), *(_read_type(*each) for each in READS.items())]
)
_decode: Final = msgspec.json.Decoder(_RequestLine).decode
_decode_id: Final = msgspec.json.Decoder(_Id).decode
