"""Commands and events as lines of JSON: all of them, exactly, and nothing else."""

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
from securechat.client.events import Event
from securechat.content.registry import MAX_TEXT
from securechat.errors import InternalError, RefusedError, UnreachableError, UsageError
from securechat.ui.rpc import codec
from securechat.ui.rpc.codec import ID_LENGTH, MAX_ID, MAX_LINE, Call, decode_command, encode_command, encode_event
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
    if hint is Exception:
        return any_error
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return st.builds(hint, **{name: any_of(each) for name, each in hints_of(hint).items()})
    if origin in (Union, UnionType):
        return st.one_of(*map(any_of, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        if arguments[-1] is ...:
            return st.lists(any_of(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*map(any_of, arguments))
    if hint is int:
        return st.integers(0, codec.MAX_INTEGER)
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    return st.from_type(hint)


def hints_of(dataclass: Any) -> dict[str, Any]:
    """The fields' types; a command's own id is made when it is."""
    hints = get_type_hints(dataclass)
    names = [field.name for field in fields(dataclass)]
    return {name: hints[name] for name in names if not (name == "id" and issubclass(dataclass, Command))}


def from_json(hint: Any, value: Any) -> Any:
    """The value that was written as `value`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is bytes:
        return bytes.fromhex(value)
    if origin in (Union, UnionType):
        return None if value is None else from_json(arguments[0], value)
    if origin is tuple:
        types = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(map(from_json, types, value))
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return hint(**{name: from_json(each, value[name]) for name, each in get_type_hints(hint).items()})
    return value


any_command = st.one_of(*(any_of(each) for each in Command.__subclasses__()))
any_event = st.one_of(*(any_of(each) for each in Event.__subclasses__()))


# --- there and back ---------------------------------------------------------------------------------------------------


@given(any_command, st.integers(1, MAX_ID))
def test_every_command_comes_back_as_it_was_under_the_callers_id(command: Command, call_id: int) -> None:
    line = encode_command(Call(call_id, command))
    call = decode_command(line)
    assert (call.id, call.command) == (call_id, command)
    assert type(call.command) is type(command)
    assert call.command.id != command.id
    assert b"\n" not in line
    assert line.isascii()


@given(any_event)
def test_every_event_is_one_line_that_fits_the_schema_and_says_all_of_it(event: Event) -> None:
    line = encode_event(event)
    assert line.isascii()
    assert b"\n" not in line
    msgspec.json.decode(line, type=codec._EventLine)
    value = json.loads(line)
    assert (value.pop("v"), value.pop("event")) == (1, type(event).__name__)
    if isinstance(event, events.Ended):
        error = value["error"]
        assert error is None if event.error is None else error["text"] == str(event.error)
    else:
        assert from_json(type(event), value) == event


def test_a_line_reads_as_it_is_documented() -> None:
    line = b'{"v":1,"command":"Send","id":7,"conversation":"%s","text":"Hello"}' % ROOM.hex().encode()
    assert decode_command(line) == Call(7, commands.Send(ROOM, "Hello"))
    assert encode_event(events.Done(command=7)) == b'{"v":1,"event":"Done","command":7}'
    refused = events.Ended(RefusedError("login-refused", "Wrong\n\x1b[2Jpassword."))
    assert json.loads(encode_event(refused)) == {
        "v": 1, "event": "Ended", "command": 0,
        "error": {"type": "RefusedError", "code": "login-refused", "text": "Wrong\n\x1b[2Jpassword."},
    }  # fmt: skip
    assert b"\x1b" not in encode_event(refused)
    unnamed = encode_event(events.Ended(UnreachableError("file \udcff")))  # as a path that is no text may have it
    assert json.loads(unnamed)["error"]["text"] == "file \udcff"


def test_a_field_with_a_default_may_be_left_out() -> None:
    line = b'{"v":1,"command":"OpenDirect","id":1,"account":"bob","ask":true}'
    assert decode_command(line).command == commands.OpenDirect("bob", ask=True)


# --- what is refused --------------------------------------------------------------------------------------------------


def changed(**others: Any) -> bytes:
    line = {"v": 1, "command": "Send", "id": 7, "conversation": ROOM.hex(), "text": "Hello"} | others
    return json.dumps({name: value for name, value in line.items() if value is not MISSING}).encode()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "truncated"),
        (b"hello", "malformed"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"\xff\xfe", "malformed"),
        (changed() + changed(), "trailing"),
        (b'{"v":1,"command":"JoinRoom","id":1,"name":"\xff"}', "UTF-8"),
        (b'{"v":1,"command":"JoinRoom","id":1,"name":"\\ud800"}', "truncated"),
        (b'{"v":1,"command":"ListRooms","id":1,"x":' + b"[" * 300_000, "recursion|unknown"),
        (b'{"v":' * 50_000, "recursion|Expected"),
        (changed(v=2), r"\$\.v`"),
        (changed(v=MISSING), "required field `v`"),
        (changed(v=True), r"\$\.v`"),
        (changed(id=MISSING), "required field `id`"),
        (changed(id=0), r"\$\.id`"),
        (changed(id=MAX_ID + 1), r"\$\.id`"),
        (changed(id=1.5), r"\$\.id`"),
        (changed(id="7"), r"\$\.id`"),
        (changed(command=MISSING), "required field `command`"),
        (changed(command="send"), r"\$\.command`"),
        (changed(command="Command"), r"\$\.command`"),
        (changed(command="Done"), r"\$\.command`"),
        (changed(command=3), r"\$\.command`"),
        (changed(extra=1), "unknown field `extra`"),
        (changed(text=MISSING), "required field `text`"),
        (changed(text=None), r"\$\.text`"),
        (changed(text=["Hello"]), r"\$\.text`"),
        (changed(conversation=ROOM.hex()[2:]), r"\$\.conversation`"),
        (changed(conversation=ROOM.hex() + "00"), r"\$\.conversation`"),
        (changed(conversation=ROOM.hex().upper()), r"\$\.conversation`"),
        (changed(conversation=ROOM.hex() + "\n"), r"\$\.conversation`"),
        (changed(conversation=1), r"\$\.conversation`"),
        (b'{"v":1,"command":"MarkShown","id":1,"local_id":-1}', r"\$\.local_id`"),
        (b'{"v":1,"command":"MarkShown","id":1,"local_id":9223372036854775808}', r"\$\.local_id`"),
        (b'{"v":1,"command":"MarkShown","id":1,"local_id":true}', r"\$\.local_id`"),
        (b'{"v":1,"command":"OpenDirect","id":1,"account":"bob","ask":1}', r"\$\.ask`"),
        (changed(text="x" * MAX_LINE), f"at most {MAX_LINE:,} bytes"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(line: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        decode_command(line)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@given(st.binary(max_size=300))
def test_any_bytes_are_a_command_or_refused(line: bytes) -> None:
    with pytest.raises(UsageError):
        decode_command(line)


def test_the_longest_text_fits_into_a_line_however_it_is_escaped() -> None:
    longest = commands.Send(ROOM, "\x01" * MAX_TEXT)
    line = encode_command(Call(MAX_ID, longest))
    assert len(line) <= MAX_LINE
    assert decode_command(line).command == longest


def test_what_a_refusal_says_holds_nothing_of_the_text() -> None:
    with pytest.raises(UsageError) as refused:
        decode_command(changed(text="my secret", extra=1))
    assert "secret" not in str(refused.value)
    assert "my secret" not in repr(decode_command(changed(text="my secret")))


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_schema_is_the_one_that_callers_know() -> None:
    """A change here is a change for every caller: run `python -m tests.ui.test_rpc_codec` if it is meant."""
    assert codec.schema() == json.loads(SCHEMA.read_text())


def test_every_command_and_event_has_its_place_and_its_sizes() -> None:
    kinds = {*Command.__subclasses__(), *Event.__subclasses__()}
    assert {each.__name__ for each in kinds} <= codec.schema()["$defs"].keys()
    assert not any(each.__subclasses__() for each in kinds)  # a kind of a kind would be left out
    assert ID_LENGTH == CONVERSATION_ID_LENGTH


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(codec.schema(), indent=1, sort_keys=True) + "\n")
