import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.content.envelope import Envelope, decode, encode, padding, place, unplaced
from securechat.content.registry import (
    KINDS,
    MAX_TEXT,
    Accept,
    Body,
    Bye,
    Decline,
    DeclineInvite,
    Invite,
    LineProof,
    Request,
    Text,
    Unknown,
    WithdrawInvite,
    check_text,
    encode_body,
    kind_of,
    line_of,
)
from securechat.errors import DecodeError, UsageError
from securechat.wire.limits import MAX_PAYLOAD

CHAIN = bytes(range(32))


ROOM = bytes(range(32))
INVITE = Invite(ROOM, "invite", "#club", "member", (("alice", bytes(32)),), CHAIN, 1_700_000_000_000, "come in")
EXAMPLES = [
    Text("hi"), Request("may I?"), Request(), Accept(), Decline(), Bye(), INVITE, DeclineInvite(ROOM),
    WithdrawInvite(ROOM), LineProof(ROOM, b"package", bytes(64)), LineProof(ROOM, b"", bytes(64)),
]  # fmt: skip
"""At least one body of every kind."""


@pytest.mark.parametrize("body", EXAMPLES)
def test_what_is_put_in_comes_out(body: Body) -> None:
    envelope = Envelope(7, CHAIN, 1_700_000_000_000, body)
    assert decode(encode(envelope)) == envelope


@pytest.mark.parametrize("body", EXAMPLES)
def test_what_waits_without_a_place_is_the_same_once_it_has_one(body: Body) -> None:
    waits = unplaced(encode_body(body), 1_700_000_000_000)
    assert decode(waits) == Envelope(0, bytes(32), 1_700_000_000_000, body)
    assert place(waits, 7, CHAIN) == encode(Envelope(7, CHAIN, 1_700_000_000_000, body))


def test_there_is_an_example_of_every_kind() -> None:
    assert {kind_of(body) for body in EXAMPLES} == set(KINDS)
    assert len({kind.name for kind in KINDS}) == len({kind.body for kind in KINDS}) == len(KINDS)


def test_every_field_of_every_kind_has_a_limit() -> None:
    for kind in KINDS:
        for field in msgspec.structs.fields(kind.body):
            described = msgspec.inspect.type_info(field.type)
            limits = [getattr(described, name, None) for name in ("max_length", "le", "lt", "values")]
            assert any(limit is not None for limit in limits), f"{kind.name}.{field.name}"


def test_a_kind_that_is_a_line_says_what_it_shows_and_others_show_nothing() -> None:
    assert line_of("text", b"\x91\xa2hi") == "hi"
    assert line_of("request", b"\x91\xa6may I?") == "may I?"
    assert line_of("bye", b"\x90") is None
    assert line_of("reaction", b"\x91" * 1000) is None


def test_a_type_from_the_future_is_named_and_left_unread() -> None:
    content = msgspec.msgpack.encode((7, CHAIN, 1, "reaction", b"\x91" * 1000))
    assert decode(content).body == Unknown("reaction", b"\x91" * 1000)


def test_the_longest_text_fits_into_an_entry_and_one_byte_more_is_refused() -> None:
    content = encode(Envelope(1, CHAIN, 1, Text("x" * MAX_TEXT)))
    assert len(content) + padding(len(content)) + 1024 < MAX_PAYLOAD
    with pytest.raises(UsageError, match="in parts"):
        encode(Envelope(1, CHAIN, 1, Text("x" * (MAX_TEXT + 1))))
    with pytest.raises(UsageError, match="in parts"):
        check_text("é" * (MAX_TEXT // 2 + 1))
    with pytest.raises(UsageError, match="not Unicode"):
        check_text("\ud800")


@pytest.mark.parametrize(
    "outer",
    [
        (7, CHAIN, 1, "text"),
        (7, CHAIN, 1, "text", b"\x91\xa2hi", 0),
        (-1, CHAIN, 1, "text", b"\x91\xa2hi"),
        (1 << 53, CHAIN, 1, "text", b"\x91\xa2hi"),
        (1, CHAIN, 253_370_764_800_001, "text", b"\x91\xa2hi"),
        (7, CHAIN[1:], 1, "text", b"\x91\xa2hi"),
        (7, CHAIN, 1, "", b"\x91\xa2hi"),
        (7, CHAIN, 1, "t" * 33, b"\x91\xa2hi"),
        (7, CHAIN, 1, "text", b"\x92\xa2hi\x00"),
        (7, CHAIN, 1, "text", b"\x91\xa2hi\x00"),
        (7, CHAIN, 1, "text", b"\x91\xa2\xff\xff"),
        (7, CHAIN, 1, "text", b"\x91" * 100_000),
        (7, CHAIN, 1, "accept", b"\x91\xa2hi"),
        (7, CHAIN, 1, "text", b"\x91\xd9\x02hi"),
        (7, CHAIN, 1, "text", msgspec.msgpack.encode(["é" * MAX_TEXT])),
    ],
    ids=["short", "long", "negative", "too large", "too late", "chain", "no type", "long type", "extra field",
         "trailing bytes", "not UTF-8", "nested", "text where none is", "second spelling", "text too long"],
)  # fmt: skip
def test_damaged_content_is_refused(outer: tuple[object, ...]) -> None:
    assert decode(msgspec.msgpack.encode((7, CHAIN, 1, "text", b"\x91\xa2hi"))).body == Text("hi")
    with pytest.raises(DecodeError):
        decode(msgspec.msgpack.encode(outer))


@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_value_or_a_decode_error(content: bytes) -> None:
    try:
        envelope = decode(content)
    except DecodeError:
        return
    assert encode(envelope) == content


@pytest.mark.parametrize("body", [Text("secret"), Unknown("secret", b"secret")])
def test_printing_what_was_decrypted_shows_none_of_it(body: Body | Unknown) -> None:
    envelope = Envelope(7, b"secret".ljust(32), 1_750_000_000_000, body)
    for shown in (repr(envelope), str(envelope), f"{envelope}", repr(body), str(body), f"{body}", f"{[body]}"):
        assert "secret" not in shown
        assert "1750000000000" not in shown
    assert repr(envelope) == f"Envelope(seq=7, {type(body).__name__}(...))"


@pytest.mark.parametrize(("length", "padded"), [(0, 0), (1, 1), (2, 2), (9, 10), (64, 64), (65, 72), (1000, 1024)])
def test_padding_rounds_up_as_padme_does(length: int, padded: int) -> None:
    assert length + padding(length) == padded


@given(st.integers(1, 1 << 24))
def test_padding_costs_at_most_an_eighth(length: int) -> None:
    assert 0 <= padding(length) <= length * 0.125
