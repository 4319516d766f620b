from hypothesis import given
from hypothesis import strategies as st

from securechat.padding import padme


def test_lengths_are_rounded_to_few_bits() -> None:
    """The smallest ones by hand: as many low bits are zero as the exponent leaves over."""
    assert [padme(length) for length in range(20)] == [*range(9), 10, 10, 12, 12, 14, 14, 16, 16, 18, 18, 20]
    assert [padme(each) for each in (4_097, 65_537, 1_000_000)] == [4_352, 67_584, 1_015_808]


@given(st.integers(0, 1 << 50))
def test_a_length_is_rounded_up_once_and_by_an_eighth_at_most(length: int) -> None:
    assert length <= padme(length) <= length * 1.125 + 1
    assert padme(padme(length)) == padme(length)


def test_few_lengths_can_be_seen() -> None:
    """Of all files up to a tebibyte: 1,196 sizes."""
    seen, length = 0, 1
    while length <= 1 << 40:
        length, seen = padme(length) + 1, seen + 1
    assert seen == 1196
