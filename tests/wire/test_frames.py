"""Frames: whatever arrives, in whatever pieces, ends in a frame or in a DecodeError."""

import struct
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import DecodeError, InternalError
from securechat.wire import limits, messages
from securechat.wire.frames import FrameReader, encode_frame, encode_frames, peek


def read_all(reader: FrameReader, pieces: list[bytes]) -> list[bytes]:
    return [frame for piece in pieces for frame in reader.receive(piece)]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(bodies=st.lists(st.binary(max_size=200), max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_frames_come_out_whole_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    assert read_all(FrameReader(200), cut(stream, cuts)) == bodies


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_random_bytes_end_in_frames_or_in_a_decode_error(data: bytes, cuts: list[int]) -> None:
    try:
        frames = read_all(FrameReader(64), cut(data, cuts))
    except DecodeError:
        return
    assert all(len(frame) <= 64 for frame in frames)


def test_a_frame_over_the_limit_is_refused_before_its_body_arrives() -> None:
    reader = FrameReader(100)
    with pytest.raises(DecodeError, match="101 bytes, where 100 are allowed"):
        next(reader.receive(struct.pack(">I", 101)))


def test_a_frame_at_the_limit_is_taken() -> None:
    assert read_all(FrameReader(100), [struct.pack(">I", 100) + bytes(100)]) == [bytes(100)]


def test_the_limit_may_grow_between_two_frames_of_one_piece() -> None:
    reader = FrameReader(1)
    frames = reader.receive(struct.pack(">I", 1) + b"a" + struct.pack(">I", 2) + b"bc")
    assert next(frames) == b"a"
    reader.limit = 2
    assert list(frames) == [b"bc"]


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"SSH-2.0"])
def test_another_protocol_is_known_by_its_first_byte(first: bytes) -> None:
    reader = FrameReader(100)
    with pytest.raises(DecodeError, match="not the securechat protocol"):
        next(reader.receive(first[:1]))


def test_frames_keep_good_ones_before_a_bad_one() -> None:
    reader = FrameReader(10)
    frames = reader.receive(struct.pack(">I", 2) + b"ok" + b"\xff\xff\xff\xff")
    assert next(frames) == b"ok"
    with pytest.raises(DecodeError):
        next(frames)


@given(body=st.binary(max_size=60))
def test_peek_ends_in_a_name_or_in_a_decode_error(body: bytes) -> None:
    try:
        name, request = peek(body)
    except DecodeError:
        return
    assert name.isascii()
    assert name.isalnum()
    assert request is None or 0 <= request < 1 << 32


@pytest.mark.parametrize("request_id", [0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1])
def test_peek_finds_name_and_id(request_id: int) -> None:
    assert peek(msgspec.msgpack.encode(["Teleport", request_id, {"a": 1}])) == ("Teleport", request_id)


@pytest.mark.parametrize("second", [-1, "x", None, 1 << 32, [1], 1.5])
def test_peek_finds_no_id_where_none_stands(second: object) -> None:
    assert peek(msgspec.msgpack.encode(["Teleport", second])) == ("Teleport", None)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"\x9f\xbf" + b"a" * 31 + b"\x05", ("a" * 31, 5)),  # the longest array and the longest name
        (b"\x91\xa1a", ("a", None)),
        (b"\x91\xa1a\x05", ("a", None)),  # behind the array, and no field of it
        (b"\x92\xa1a", ("a", None)),
        (b"\x92\xa1a\x7f", ("a", 127)),
        (b"\x92\xa1a\xcc\x80", ("a", 128)),
        (b"\x92\xa1a\xcd\x01\x00", ("a", 256)),
        (b"\x92\xa1a\xce\x00\x01\x00\x00", ("a", 65536)),
        *((b"\x92\xa1a" + cut_off, ("a", None)) for cut_off in (b"\xcc", b"\xcd\x01", b"\xce\x00\x01\x00")),
        (b"\x92\xa1a\x80", ("a", None)),
    ],
)
def test_peek_reads_arrays_and_ids_of_each_length(body: bytes, found: tuple[str, int | None]) -> None:
    assert peek(body) == found


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\x90", b"\x90\xa1a", b"\xa0", b"\xdc\xa1a", b"\x91", b"\x91\xa0", b"\x91\xc0", b"\x91\xa2a",
        b"\x91\xa1-", b"\xa0\xa1a", b"\x91Aa", b"\x91\xc1a",  # the last two: what has these bits and is no string
    ],
)
def test_peek_takes_nothing_that_does_not_begin_like_a_message(body: bytes) -> None:
    with pytest.raises(DecodeError, match="message"):
        peek(body)


def test_what_is_kept_of_a_frame_is_what_has_come_of_it() -> None:
    reader = FrameReader(100)
    for piece, kept, frames in (
        (b"\0\0", 2, []), (b"\0\3a", 5, []), (b"bc\0", 1, [b"abc"]), (b"\0\0\1x", 0, [b"x"]), (b"", 0, []),
    ):  # fmt: skip
        assert (list(reader.receive(piece)), reader.unfinished) == (frames, kept)


def test_a_frame_is_bytes_of_its_own_in_whatever_it_came() -> None:
    for pieces in ((b"\0\0\0\1x",), (bytearray(b"\0\0\0\1x"),), (b"\0\0\0\1", b"x")):
        reader = FrameReader(100)
        found = [body for piece in pieces for body in reader.receive(piece)]
        assert [(type(body), body) for body in found] == [(bytes, b"x")]


def test_unknown_and_doubled_fields_are_refused() -> None:
    decoder = msgspec.msgpack.Decoder(messages.FromClient)
    assert decoder.decode(msgspec.msgpack.encode(["Members", 1, bytes(32)])) == messages.Members(1, bytes(32))
    for more in ([1], ["x", "y"], [None]):
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.msgpack.encode(["Members", 1, bytes(32), *more]))


@pytest.mark.parametrize("message", ["Ping", "PublishKeyPackages", "Submit"])
def test_deep_nesting_is_refused_where_it_begins(message: str) -> None:
    decoder = msgspec.msgpack.Decoder(messages.FromClient)
    head = msgspec.msgpack.encode([message, 1])
    with pytest.raises(msgspec.DecodeError):  # not a RecursionError: no type is recursive
        decoder.decode(b"\x9f" + head[1:] + b"\x91" * limits.MAX_FRAME)


def test_no_message_is_deeper_than_a_list_of_structs_with_lists_of_structs() -> None:
    def depth(kind: object) -> int:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return 1 + max((depth(field.type) for field in msgspec.structs.fields(kind)), default=0)
        if typing.get_origin(kind) is list:
            return 1 + depth(typing.get_args(kind)[0])
        return max(map(depth, typing.get_args(kind)), default=0)

    assert depth(messages.FromServer | messages.FromClient) <= 5


def test_frames_one_after_the_other_are_read_one_after_the_other() -> None:
    pair = [messages.Ping(), messages.Pong()]
    stream = b"".join(map(encode_frame, pair))
    assert encode_frames(pair) == stream
    assert encode_frames([]) == b""
    assert read_all(FrameReader(100), [stream]) == [msgspec.msgpack.encode(message) for message in pair]


def test_what_nobody_could_receive_is_not_encoded() -> None:
    fits = limits.MAX_FRAME - len(msgspec.msgpack.encode(messages.StoredKeepsake(1, b""))) - 3  # a longer length
    largest = messages.StoredKeepsake(1, bytes(fits))
    assert len(encode_frame(largest)) == 4 + limits.MAX_FRAME
    with pytest.raises(InternalError, match="a StoredKeepsake of 2,097,153 bytes"):
        encode_frame(messages.StoredKeepsake(1, bytes(fits + 1)))
    with pytest.raises(InternalError, match="a StoredKeepsake of"):
        encode_frames([messages.Ping(), messages.StoredKeepsake(1, bytes(fits + 1))])
