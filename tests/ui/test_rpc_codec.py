"""Requests and events as lines of JSON: all of them, exactly, and nothing else."""

import inspect
import json
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.client import commands, events
from securechat.client.commands import Command
from securechat.client.core import ChatClient
from securechat.client.events import Event
from securechat.client.query import Query
from securechat.content.registry import MAX_TEXT
from securechat.errors import InternalError, RefusedError, UnreachableError
from securechat.ui import objects
from securechat.ui.objects import ID_LENGTH, event_from, event_object, from_json, line_of, to_json
from securechat.ui.rpc import codec
from securechat.ui.rpc.codec import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MAX_ID,
    MAX_LINE,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    InvalidRequestError,
    Read,
    Request,
    decode_request,
    encode_event,
    encode_request,
)
from securechat.wire.limits import CONVERSATION_ID_LENGTH

SCHEMA = Path(__file__).with_name("rpc_schema.json")
ROOM = bytes(range(32))

any_text = st.text(st.characters(exclude_categories=["Cs"]))
any_error = st.one_of(
    st.builds(RefusedError, st.sampled_from(["busy", "not-found"]), any_text),
    st.builds(UnreachableError, any_text),
    st.builds(InternalError, any_text),
)


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bytes:
        return st.binary(min_size=ID_LENGTH, max_size=ID_LENGTH)
    if hint is str:
        return any_text
    if hint is type(None):
        return st.none()
    if hint is Exception:
        return any_error
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return st.builds(hint, **{name: any_of(each) for name, each in hints_of(hint).items()})
    if origin in (Union, UnionType):
        return st.one_of(*map(any_of, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(any_of(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(any_of(arguments[0]), any_of(arguments[1]), max_size=3)
    if origin is tuple:
        if arguments[-1] is ...:
            return st.lists(any_of(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(any_of, arguments))
    if hint is int:
        return st.integers(0, objects.MAX_INTEGER)
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    return st.from_type(hint)


def hints_of(dataclass: Any) -> dict[str, Any]:
    """The fields' types; a command's own id is made when it is."""
    hints = get_type_hints(dataclass)
    names = [field.name for field in fields(dataclass)]
    return {name: hints[name] for name in names if not (name == "id" and issubclass(dataclass, Command))}


any_command = st.one_of(*(any_of(each) for each in Command.__subclasses__()))
any_event = st.one_of(*(any_of(each) for each in Event.__subclasses__()))


# --- there and back ---------------------------------------------------------------------------------------------------


@given(any_command, st.integers(1, MAX_ID))
def test_every_command_comes_back_as_it_was_under_the_callers_id(command: Command, call_id: int) -> None:
    line = encode_request(Request(call_id, command))
    call, decoded = decode_request(line)
    assert (call, decoded) == (call_id, command)
    assert type(decoded) is type(command)
    assert isinstance(decoded, Command)
    assert decoded.id != command.id
    assert b"\n" not in line
    assert line.isascii()


@given(any_event, any_text)
def test_every_event_is_one_line_that_fits_the_schema_and_says_all_of_it(event: Event, where: str) -> None:
    line = encode_event(event, where)
    assert line.isascii()
    assert b"\n" not in line
    value = json.loads(line)["params"]
    msgspec.json.decode(line_of(value), type=objects.EventObject)
    assert (value["v"], value["event"], value["where"]) == (1, type(event).__name__, where)
    again = event_from(value)
    if isinstance(event, events.Ended):
        assert isinstance(again, events.Ended)
        assert type(again.error) is type(event.error)
        assert str(again.error) == str(event.error)
    else:
        assert again == event


@pytest.mark.parametrize("name", list(codec.READS))
def test_every_read_is_what_the_core_has(name: str) -> None:
    method = getattr(ChatClient, name)
    called = "notify" if name == "prefers" else "bob"
    needed = {"conversation": ROOM, "name": called, "limit": 3, "local_id": 7, "after": 1, "query": Query(("a",))}
    taken = [each for each in inspect.signature(method).parameters.values() if each.name != "self"]
    params = {each.name: needed[each.name] for each in taken if each.default is each.empty}
    call, read = decode_request(encode_request(Request(5, Read(name, params))))
    assert call == 5
    assert isinstance(read, Read)
    assert read.name == name
    assert read.arguments.keys() == {each.name for each in taken}
    assert {each: read.arguments[each] for each in params} == params
    inspect.signature(method).bind(None, **read.arguments)


@given(st.data())
def test_every_result_of_a_read_fits_the_schema(data: st.DataObject) -> None:
    hint = get_type_hints(getattr(ChatClient, data.draw(st.sampled_from(list(codec.READS)))))["return"]
    value = data.draw(any_of(hint))
    line = line_of({"result": to_json(value)})
    msgspec.json.decode(line, type=msgspec.defstruct("Result", [("result", objects.json_type(hint))]))
    assert from_json(hint, json.loads(line)["result"]) == value


def test_a_line_reads_as_it_is_documented() -> None:
    line = b'{"jsonrpc":"2.0","id":7,"method":"Send","params":{"conversation":"%s","text":"Hello"}}'
    assert decode_request(line % ROOM.hex().encode()) == Request(7, commands.Send(ROOM, "Hello"))
    assert decode_request(b'{"jsonrpc":"2.0","method":"ListRooms"}') == Request(0, commands.ListRooms())
    assert json.loads(encode_event(events.Done(command=7), "")) == {
        "jsonrpc": "2.0", "method": "event", "params": {"v": 1, "event": "Done", "where": "", "command": 7},
    }  # fmt: skip
    refused = events.Ended(RefusedError("login-refused", "Wrong\n\x1b[2Jpassword."))
    assert event_object(refused) == {
        "v": 1, "event": "Ended", "where": "", "command": 0,
        "error": {"type": "RefusedError", "code": "login-refused", "text": "Wrong\n\x1b[2Jpassword."},
    }  # fmt: skip
    assert b"\x1b" not in encode_event(refused, "")
    unnamed = encode_event(events.Ended(UnreachableError("file \udcff")), "")  # as a path that is no text may have it
    assert json.loads(unnamed)["params"]["error"]["text"] == "file \udcff"


def test_a_field_with_a_default_may_be_left_out() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"method":"OpenDirect","params":{"account":"bob","ask":true}}'
    assert decode_request(line).what == commands.OpenDirect("bob", ask=True)


# --- what is refused --------------------------------------------------------------------------------------------------


def changed(**others: Any) -> bytes:
    line = {
        "jsonrpc": "2.0", "method": "Send", "id": 7, "params": {"conversation": ROOM.hex(), "text": "Hello"},
    } | others  # fmt: skip
    return json.dumps({name: value for name, value in line.items() if value is not MISSING}).encode()


def given_(**others: Any) -> bytes:
    params = {"conversation": ROOM.hex(), "text": "Hello"} | others
    return changed(params={name: value for name, value in params.items() if value is not MISSING})


@pytest.mark.parametrize(
    ("line", "code", "call", "why"),
    [
        (b"", PARSE_ERROR, 0, "truncated"),
        (b"hello", PARSE_ERROR, 0, "malformed"),
        (b"[]", INVALID_REQUEST, 0, "Expected `object`"),
        (b"[" + changed() + b"]", INVALID_REQUEST, 0, "Expected `object`"),
        (b"null", INVALID_REQUEST, 0, "Expected `object`"),
        (b"\xff\xfe", PARSE_ERROR, 0, "malformed"),
        (changed() + changed(), PARSE_ERROR, 0, "trailing"),
        (changed(method="JoinRoom", params={"name": "x"}).replace(b"x", b"\xff"), PARSE_ERROR, 0, "UTF-8"),
        (changed(method="JoinRoom", params={"name": "\ud800"}), PARSE_ERROR, 0, "truncated"),
        (b'{"jsonrpc":"2.0","method":"ListRooms","id":1,"x":' + b"[" * 300_000, None, None, "recursion|unknown"),
        (b'{"id":' * 50_000, None, None, "recursion|Expected"),
        (changed(jsonrpc="1.0"), INVALID_REQUEST, 7, r"\$\.jsonrpc`"),
        (changed(jsonrpc=MISSING), INVALID_REQUEST, 7, "required field `jsonrpc`"),
        (changed(id=0), INVALID_REQUEST, 0, r"\$\.id`"),
        (changed(id=MAX_ID + 1), INVALID_REQUEST, 0, r"\$\.id`"),
        (changed(id=1.5), INVALID_REQUEST, 0, r"\$\.id`"),
        (changed(id="7"), INVALID_REQUEST, 0, r"\$\.id`"),
        (changed(id=None), INVALID_REQUEST, 0, r"\$\.id`"),
        (changed(id=True), INVALID_REQUEST, 0, r"\$\.id`"),
        (changed(method=MISSING), INVALID_REQUEST, 7, "required field `method`"),
        (changed(method="send"), METHOD_NOT_FOUND, 7, r"\$\.method`"),
        (changed(method="Command"), METHOD_NOT_FOUND, 7, r"\$\.method`"),
        (changed(method="Done"), METHOD_NOT_FOUND, 7, r"\$\.method`"),
        (changed(method="close", params={}), METHOD_NOT_FOUND, 7, r"\$\.method`"),
        (changed(method="__init__", params={}), METHOD_NOT_FOUND, 7, r"\$\.method`"),
        (changed(method=3), METHOD_NOT_FOUND, 7, r"\$\.method`"),
        (changed(extra=1), INVALID_REQUEST, 7, "unknown field `extra`"),
        (changed(params=MISSING), INVALID_REQUEST, 7, "required field `params`"),
        (changed(params=[ROOM.hex(), "Hello"]), INVALID_PARAMS, 7, r"\$\.params`"),
        (given_(extra=1), INVALID_PARAMS, 7, "unknown field `extra`"),
        (given_(text=MISSING), INVALID_PARAMS, 7, "required field `text`"),
        (given_(text=None), INVALID_PARAMS, 7, r"\$\.params\.text`"),
        (given_(text=["Hello"]), INVALID_PARAMS, 7, r"\$\.params\.text`"),
        (given_(conversation=ROOM.hex()[2:]), INVALID_PARAMS, 7, r"\$\.params\.conversation`"),
        (given_(conversation=ROOM.hex() + "00"), INVALID_PARAMS, 7, r"\$\.params\.conversation`"),
        (given_(conversation=ROOM.hex().upper()), INVALID_PARAMS, 7, r"\$\.params\.conversation`"),
        (given_(conversation=ROOM.hex() + "\n"), INVALID_PARAMS, 7, r"\$\.params\.conversation`"),
        (given_(conversation=1), INVALID_PARAMS, 7, r"\$\.params\.conversation`"),
        (changed(method="MarkShown", params={"local_id": -1}), INVALID_PARAMS, 7, r"local_id`"),
        (changed(method="MarkShown", params={"local_id": 1 << 63}), INVALID_PARAMS, 7, r"local_id`"),
        (changed(method="MarkShown", params={"local_id": True}), INVALID_PARAMS, 7, r"local_id`"),
        (changed(method="OpenDirect", params={"account": "bob", "ask": 1}), INVALID_PARAMS, 7, r"ask`"),
        (changed(method="past", params={"name": "bob", "limit": 0}), INVALID_PARAMS, 7, r"limit`"),
        (changed(method="past", params={"name": "bob", "limit": 1001}), INVALID_PARAMS, 7, r"limit`"),
        (changed(method="search", params={"query": {"has": ["x"]}, "limit": 1}), INVALID_PARAMS, 7, r"query\.has"),
        (given_(text="x" * MAX_LINE), INVALID_REQUEST, 0, f"at most {MAX_LINE:,} bytes"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(line: bytes, code: int | None, call: int | None, why: str) -> None:
    with pytest.raises(InvalidRequestError, match=why) as refused:
        decode_request(line)
    assert code is None or (refused.value.code, refused.value.call) == (code, call)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        decode_request(line)


def test_the_longest_text_fits_into_a_line_however_it_is_escaped() -> None:
    longest = commands.Send(ROOM, "\x01" * MAX_TEXT)
    line = encode_request(Request(MAX_ID, longest))
    assert len(line) <= MAX_LINE
    assert decode_request(line).what == longest


def test_what_a_refusal_says_holds_nothing_of_the_text() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        decode_request(given_(text="my secret", extra=1))
    assert "secret" not in str(refused.value)
    assert "my secret" not in repr(decode_request(given_(text="my secret")))


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_schema_is_the_one_that_callers_know() -> None:
    """A change here is a change for every caller: run `python -m tests.ui.test_rpc_codec` if it is meant."""
    assert json.loads(json.dumps(codec.schema())) == json.loads(SCHEMA.read_text())


def test_every_command_and_event_has_its_place_and_its_sizes() -> None:
    kinds = {*Command.__subclasses__(), *Event.__subclasses__()}
    assert {each.__name__ for each in kinds} <= codec.schema()["$defs"].keys()
    assert not any(each.__subclasses__() for each in kinds)  # a kind of a kind would be left out
    assert not any({"v", "event", "where"} & get_type_hints(each).keys() for each in Event.__subclasses__())
    assert ID_LENGTH == CONVERSATION_ID_LENGTH


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(codec.schema(), indent=1, sort_keys=True) + "\n")
