"""What is accepted, every receiver can take: one bound at both doors, and the largest message fits into a frame."""

import re
import typing
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from securechat.identity.statements import Statement
from securechat.policy.rules import MAX_RULES
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame

PASSED_ON: list[tuple[tuple[type, str], tuple[type, str]]] = [
    ((m.Submit, "payload"), (m.Entry, "payload")),
    ((m.Commit, "commit"), (m.Entry, "payload")),
    ((m.OpenDirect, "commit"), (m.Entry, "payload")),
    ((m.Leave, "proposal"), (m.Entry, "payload")),
    ((m.Handshake, "payload"), (m.Entry, "payload")),
    ((m.Commit, "group_info"), (m.Entry, "group_info")),
    ((m.OpenDirect, "group_info"), (m.Entry, "group_info")),
    ((m.Handshake, "group_info"), (m.Entry, "group_info")),
    ((m.Commit, "group_info"), (m.JoinOffer, "group_info")),
    ((m.OpenDirect, "group_info"), (m.JoinOffer, "group_info")),
    ((m.OpenRoom, "group_info"), (m.JoinOffer, "group_info")),
    ((m.Handshake, "group_info"), (m.JoinOffer, "group_info")),
    ((m.Commit, "group_info"), (m.Checkpoint, "group_info")),
    ((m.OpenDirect, "group_info"), (m.Checkpoint, "group_info")),
    ((m.Handshake, "group_info"), (m.Checkpoint, "group_info")),
    ((m.Commit, "welcome"), (m.Welcomed, "welcome")),
    ((m.OpenDirect, "welcome"), (m.Welcomed, "welcome")),
    ((m.Leave, "proposal"), (m.Departure, "proposal")),
    ((m.Publish, "links"), (m.Statements, "links")),
    ((m.Publish, "links"), (m.LoggedIn, "certificate")),
    ((m.Publish, "links"), (m.Gone, "certificate")),
    ((m.Publish, "links"), (m.Entry, "payload")),
    ((m.Publish, "key_packages"), (m.KeyPackages, "key_packages")),
    ((m.Publish, "last_resort"), (m.KeyPackages, "key_packages")),
    ((m.PublishKeyPackages, "key_packages"), (m.KeyPackages, "key_packages")),
    ((m.PublishKeyPackages, "last_resort"), (m.KeyPackages, "key_packages")),
    ((m.PutKeepsake, "keepsake"), (m.StoredKeepsake, "keepsake")),
    ((m.Register, "account"), (m.Registered, "account")),
    ((m.Register, "account"), (m.Member, "account")),
    ((m.Register, "account"), (m.Presence, "account")),
    ((m.PutBlob, "data"), (m.BlobBytes, "data")),
    ((m.StartBlob, "size"), (m.BlobBytes, "size")),
    ((m.StartBlob, "size"), (m.BlobState, "offset")),
    ((m.Ephemeral, "payload"), (m.Ephemeral, "payload")),
    ((m.Submit, "number"), (m.Subscribed, "last")),
]
"""Bytes that one client sends and another one gets. Handed-back departures have the bound of `policy.departures`."""

PAGED = {m.Checkpoints}
"""Of these the server counts the bytes, and sends as many as fit into a frame."""

BEFORE_LOGIN = {m.Hello, m.Registered, m.LoggedIn, m.Refused, m.Ping, m.Pong, m.Closing}
"""What a client may get before it takes larger frames."""


def bound(where: tuple[type, str]) -> int:
    """The largest length or number of a field, or of what its list holds."""
    kind = next(each.type for each in fields_of(where[0]) if each.name == where[1])
    kind = kind.item_type if isinstance(kind, inspect.ListType) else kind
    largest = kind.le if isinstance(kind, inspect.IntType) else kind.max_length  # type: ignore[attr-defined]  # bytes and texts have one
    assert isinstance(largest, int)
    return largest


def fields_of(kind: type) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return described.fields


def largest(kind: inspect.Type) -> object:
    """The value of a type that takes most bytes."""
    match kind:
        case inspect.UnionType():
            return max(map(largest, kind.types), key=lambda value: len(msgspec.msgpack.encode(value)))
        case inspect.IntType():
            return kind.le
        case inspect.BytesType():
            return bytes(kind.max_length or 0)
        case inspect.StrType():
            longest = kind.max_length or 0
            return "#" + "\U0001f600" * (longest - 1) if kind.pattern else "\U0001f600" * longest
        case inspect.LiteralType():
            return max(kind.values, key=lambda value: len(str(value)))
        case inspect.ListType():
            return [largest(kind.item_type)] * (kind.max_length or 0)
        case inspect.StructType():
            return kind.cls(*(largest(each.type) for each in kind.fields))
        case inspect.BoolType() | inspect.NoneType():
            return None if isinstance(kind, inspect.NoneType) else True
    raise AssertionError(kind)


@pytest.mark.parametrize(("sent", "received"), PASSED_ON, ids=str)
def test_what_one_client_may_send_another_one_takes(sent: tuple[type, str], received: tuple[type, str]) -> None:
    assert bound(sent) <= bound(received)


@pytest.mark.parametrize("kind", sorted(set(typing.get_args(m.FromServer)) - PAGED, key=str))
def test_the_largest_message_of_the_server_fits_into_a_frame(kind: type[m.Message]) -> None:
    message = largest(inspect.type_info(kind))
    assert isinstance(message, m.Message)
    frame = encode_frame(message)  # raises where it does not fit
    assert len(frame) - 4 <= (limits.MAX_FRAME_BEFORE_LOGIN if kind in BEFORE_LOGIN else limits.MAX_FRAME)
    assert msgspec.msgpack.decode(frame[4:], type=m.FromServer) == message


def test_one_of_what_is_paged_fits_into_a_frame() -> None:
    checkpoint = largest(inspect.type_info(m.Checkpoint))
    assert len(encode_frame(m.Checkpoints(1, bytes(32), [checkpoint]))) - 4 <= limits.MAX_FRAME  # type: ignore[list-item]  # `largest` says object


def test_the_largest_tree_has_at_most_so_many_bytes() -> None:
    """1,000 leaves have 1,023 nodes above them at most, since the tree is cut where its right half is blank.

    A parent has a key of 32 bytes, a parent hash of 32, and the leaves below it that it does not know, 4 bytes each: on
    each of ten levels no more than there are leaves.
    """
    leaves = limits.MAX_ROOM_DEVICES * (limits.MAX_LEAF + 2) + 24
    parents = 1023 * (2 + 33 + 33 + 4) + 10 * 4 * limits.MAX_ROOM_DEVICES
    assert 4 + leaves + parents <= limits.MAX_TREE


def test_the_largest_welcome_has_at_most_so_many_bytes() -> None:
    """RFC 9420, section 12.4.3.1. Of each new member: a reference, an HPKE output, and the joiner secret and a path
    secret under a tag of 16 bytes; the others have 32 each."""
    one = 33 + 33 + 2 + (33 + 1 + 33 + 1 + 16)
    assert 8 + limits.MAX_ROOM_DEVICES * one + limits.MAX_GROUP_INFO + 16 <= limits.MAX_WELCOME


def test_the_longest_statement_has_at_most_so_many_bytes() -> None:
    name = "\U00010400" * limits.MAX_ACCOUNT  # four bytes each
    longest = Statement(
        server_id=bytes(16), account=name, identity_key=bytes(32), seq=1, previous=bytes(32), time=0, action="succeed",
        device_id=b"", key=bytes(32), new_signature=bytes(64), signature=bytes(64),
    )  # fmt: skip
    assert len(longest.encode()) == 389 <= limits.MAX_STATEMENT


def test_a_group_info_holds_the_largest_rules() -> None:
    assert MAX_RULES < limits.MAX_GROUP_INFO


def test_every_limit_stands_in_the_table_of_the_protocol_with_its_value() -> None:
    """Another client is written by that page: a limit that changes unseen parts the two."""
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    told = re.findall(r"^\| `([A-Z_]+)` \| ([0-9,.]+)(?: [a-z]+)? \|", page, re.MULTILINE)
    limited = {name: value for name, value in vars(limits).items() if name.isupper() and name != "ALPN"}
    assert {name: float(value.replace(",", "")) for name, value in told} == limited
