"""The codec: one encoding per value, every length checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import DecodeError
from securechat.tlscodec import MAX_VECTOR, Reader, Writer


@given(st.integers(0, MAX_VECTOR))
def test_a_length_survives_a_round_trip(value: int) -> None:
    encoded = bytes(Writer().varint(value))
    reader = Reader(encoded)
    assert reader.varint() == value
    reader.done()


@given(st.binary(max_size=6))
def test_a_length_that_decodes_encodes_again_to_the_same_bytes(data: bytes) -> None:
    reader = Reader(data)
    try:
        value = reader.varint()
    except DecodeError:
        return
    assert bytes(Writer().varint(value)) == data[: len(data) - reader.remaining]


@pytest.mark.parametrize(("value", "size"), [(63, 1), (64, 2), (16383, 2), (16384, 4), (MAX_VECTOR, 4)])
def test_lengths_take_their_shortest_form(value: int, size: int) -> None:
    assert len(bytes(Writer().varint(value))) == size


@pytest.mark.parametrize("data", ["4000", "403f", "80000000", "80003fff", "bfff"])
def test_a_length_in_a_longer_form_than_needed_or_cut_short_is_refused(data: str) -> None:
    with pytest.raises(DecodeError):
        Reader(bytes.fromhex(data)).varint()


@pytest.mark.parametrize("first", [0xC0, 0xDA, 0xFF])
def test_a_length_with_the_reserved_prefix_is_refused(first: int) -> None:
    with pytest.raises(DecodeError, match="reserved"):
        Reader(bytes([first, *[0] * 8])).varint()


def test_a_vector_longer_than_the_writer_can_say_is_our_bug() -> None:
    with pytest.raises(OverflowError):
        Writer().varint(MAX_VECTOR + 1)
    with pytest.raises(OverflowError):
        Writer().u16(0x10000)


def test_a_vector_that_claims_more_than_there_is_is_refused_before_it_is_copied() -> None:
    with pytest.raises(DecodeError, match="cut short"):
        Reader(bytes.fromhex("bfffffff00")).vector()


def test_a_vector_over_its_limit_is_refused() -> None:
    data = bytes(Writer().vector(b"12345"))
    assert Reader(data).vector(limit=5) == b"12345"
    with pytest.raises(DecodeError, match="at most 4"):
        Reader(data).vector(limit=4)
    with pytest.raises(DecodeError, match="at most 4"):
        Reader(data).items(Reader.u8, limit=4)


@pytest.mark.parametrize("presence", [2, 0x80, 0xFF])
def test_a_presence_octet_other_than_0_and_1_is_refused(presence: int) -> None:
    with pytest.raises(DecodeError, match="presence"):
        Reader(bytes([presence, 7])).optional(Reader.u8)


def test_optional_values_are_there_or_not() -> None:
    assert Reader(b"\x00").optional(Reader.u8) is None
    assert Reader(b"\x01\x07").optional(Reader.u8) == 7
    assert bytes(Writer().optional(None, Writer.u8).optional(7, Writer.u8)) == b"\x00\x01\x07"


def test_bytes_behind_the_last_field_are_refused() -> None:
    reader = Reader(b"\x01\x02")
    reader.u8()
    with pytest.raises(DecodeError, match="1 bytes follow"):
        reader.done()


def test_an_element_cut_off_by_the_end_of_its_vector_is_refused_even_if_bytes_follow() -> None:
    with pytest.raises(DecodeError, match="cut short"):
        Reader(b"\x03\x00\x01\x00\x02").items(Reader.u16)


def test_numbers_are_big_endian() -> None:
    data = bytes(Writer().u8(1).u16(2).u32(3).u64(4).opaque(b"x"))
    assert data.hex() == "01000200000003000000000000000478"
    reader = Reader(data)
    assert [reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.opaque(1)] == [1, 2, 3, 4, b"x"]
