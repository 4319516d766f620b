"""Lies in every field of everything that a server can send: which there are, by a field's type, and how one is told."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import inspect

from securechat.wire import limits
from securechat.wire import messages as m

change = msgspec.structs.replace

YEAR: Final = 365 * 86_400_000  # milliseconds


@dataclass(frozen=True)
class Elsewhere:
    """What is true of something else: another conversation, another account, the past."""

    conversation: bytes
    inbox: bytes  # the reader's own device, under whose id its inbox is
    device: bytes  # of one other member
    second_device: bytes  # of another
    account: str
    body: bytes  # an entry's payload, from another conversation
    departure: m.Departure


Make = Callable[[Any, Elsewhere], object]

_BODIES: Final[dict[str, Make]] = {
    "empty": lambda _, __: b"",
    "one byte less": lambda value, _: value[:-1],
    "one byte more": lambda value, _: value + b"\0",
    "first byte altered": lambda value, _: bytes([value[0] ^ 1]) + value[1:] if value else b"?",
    "last byte altered": lambda value, _: value[:-1] + bytes([value[-1] ^ 1]) if value else b"?",
    "zeros": lambda value, _: bytes(len(value)),
    "of another conversation": lambda _, elsewhere: elsewhere.body,
}

_BY_NAME: Final[dict[str, dict[str, Make]]] = {
    "id": {"of no request": lambda value, _: value + 1000},
    "conversation": {
        "another": lambda _, elsewhere: elsewhere.conversation,
        "unheard of": lambda _, __: b"?" * 32,
    },
    "device": {
        "another": lambda value, elsewhere: elsewhere.second_device if value == elsewhere.device else elsewhere.device,
        "ours": lambda _, elsewhere: elsewhere.inbox,
        "unheard of": lambda _, __: b"?" * 16,
    },
    "account": {
        "another": lambda _, elsewhere: elsewhere.account,
        "unheard of": lambda _, __: "nobody",
        "no name": lambda _, __: "\x1b[2J\n\u202e",
    },
    "time": {
        "0": lambda _, __: 0,
        "a year back": lambda value, _: max(value - YEAR, 0),
        "the end": lambda _, __: limits.MAX_TIME,
    },
}
_BY_NAME["token_expires"] = _BY_NAME["time"]

_NUMBERS: Final[dict[str, Make]] = {
    "0": lambda _, __: 0,
    "one less": lambda value, _: max(value - 1, 0),
    "one more": lambda value, _: value + 1,
}


def _of_none(make: Make, value: Any, elsewhere: Elsewhere) -> object:
    return make(value or 0, elsewhere)


def lies_about(field: inspect.Field) -> dict[str, Make]:
    """What can be wrong with a field, though it can be read: each lie's name, and how it is made of the truth."""
    kind, name = field.type, field.encode_name
    if name in _BY_NAME:
        known = _BY_NAME[name]
        if name == "conversation" and isinstance(kind, inspect.BytesType) and kind.min_length != kind.max_length:
            return known | {"the inbox": lambda _, elsewhere: elsewhere.inbox}
        return known
    if isinstance(kind, inspect.UnionType):  # of a number and None
        numbers = {each: partial(_of_none, make) for each, make in _NUMBERS.items()}
        return numbers | {"the most": lambda _, __: limits.MAX_COUNT, "none": lambda _, __: None}
    if isinstance(kind, inspect.IntType):
        most = kind.le
        return _NUMBERS | {"the most": lambda _, __: most}
    if isinstance(kind, inspect.BytesType):
        if kind.min_length is not None and kind.min_length == kind.max_length:
            return {"another": lambda value, _: bytes(255 - each for each in value)}
        if kind.max_length is not None and kind.max_length <= limits.CHAIN_LENGTH:
            return {
                "empty": lambda _, __: b"",
                "one byte": lambda _, __: b"?",
                "another": lambda _, __: b"?" * limits.CHAIN_LENGTH,
            }
        return _BODIES
    if isinstance(kind, inspect.StrType):
        longest = kind.max_length or 0
        lies: dict[str, Make] = {"the longest": lambda _, __: "#" + "x" * (longest - 1)}
        if not kind.pattern:
            lies |= {"empty": lambda _, __: "", "in the program's voice": lambda _, __: "\x1b[2J\nYou are in #board."}
        return lies
    if isinstance(kind, inspect.LiteralType):
        return {str(each): lambda _, __, each=each: each for each in kind.values}  # type: ignore[misc]  # bound now
    if isinstance(kind, inspect.BoolType):
        return {"not": lambda value, _: not value}
    assert isinstance(kind, inspect.ListType), f"no lie is known about {name}"
    return _lies_about_lists(kind)


def _lies_about_lists(kind: inspect.ListType) -> dict[str, Make]:
    item = kind.item_type
    lies: dict[str, Make] = {
        "none": lambda _, __: [],
        "twice": lambda value, _: [*value, *value],
    }
    if isinstance(item, inspect.StructType) and item.cls is m.Departure:
        return lies | {
            "empty": lambda _, __: [m.Departure(b"", bytes(64))],
            "of another conversation": lambda _, elsewhere: [elsewhere.departure],
        }
    if isinstance(item, inspect.StructType):
        for field in item.fields:
            for name, make in lies_about(field).items():
                lies[f"{field.encode_name}: {name}"] = lambda value, elsewhere, make=make, field=field: [  # type: ignore[misc]  # bound now
                    change(each, **{field.encode_name: make(getattr(each, field.encode_name), elsewhere)})
                    for each in value
                ]
        return lies
    if isinstance(item, inspect.BytesType):
        for name, make in _BODIES.items():
            lies[name] = lambda value, elsewhere, make=make: [make(each, elsewhere) for each in value]  # type: ignore[misc]  # bound now
    return lies


def fields_of(kind: type[m.Message]) -> list[inspect.Field]:
    """The fields of a message."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return list(info.fields)
