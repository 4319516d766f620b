"""What a voice note looks like from the outside."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.client.media.ogg import length_of
from securechat.errors import DecodeError
from tests.support.sounds import TAGS, note, opus_head, page

HEAD = page([opus_head()], granule=0, number=0, kind=2)
SECOND = page([TAGS], granule=0, number=1)
NOTE = note([b"\xf8\xff\xfe"] * 3, samples=2880)


def test_its_length_is_what_its_last_page_says_without_what_is_skipped() -> None:
    assert length_of(NOTE) == 2880
    many = HEAD + SECOND + b"".join(page([b"x"], granule=960 * at, number=1 + at) for at in range(1, 6))
    assert length_of(many) == 5 * 960 - 312
    goes_on = HEAD + SECOND + page([b"x" * 255], granule=-1, number=2) + page([b"x"], granule=960, number=3, kind=1)
    assert length_of(goes_on) == 960 - 312


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing in the recording"),
        (HEAD, "nothing in the recording"),
        (HEAD + SECOND, "nothing in the recording"),
        (note([b"x"], samples=0), "nothing in the recording"),
        (b"RIFF" + NOTE, "no series"),
        (NOTE[:-1], "no series"),
        (NOTE + b"\0", "within a page"),
        (NOTE + b"\0" * 27, "no series"),
        (NOTE[:4] + b"\1" + NOTE[5:], "no series"),
        (page([opus_head()], granule=0, number=0) + SECOND, "not Opus"),
        (page([b"\x01vorbis" + bytes(12)], granule=0, number=0, kind=2), "not Opus"),
        (page([opus_head() + b"\0"], granule=0, number=0, kind=2), "not Opus"),
        (note([b"x"], samples=9, head=opus_head(magic=b"OpusHeat")), "not Opus"),
        (note([b"x"], samples=9, head=opus_head(version=16)), "not Opus"),
        (note([b"x"], samples=9, head=opus_head(channels=2)), "one channel"),
        (note([b"x"], samples=9, head=opus_head(channels=0)), "one channel"),
        (note([b"x"], samples=9, head=opus_head(mapping=1)), "one channel"),
        (HEAD + page([b"x"], granule=960, number=1), "no tags"),
        (HEAD + page([TAGS], granule=0, number=1, kind=1), "no tags"),
        (HEAD + SECOND + page([b"x"], granule=960, number=2, serial=8), "one stream"),
        (HEAD + SECOND + page([opus_head()], granule=0, number=2, kind=2), "one stream"),
        (HEAD + SECOND + page([b"x"], granule=960, number=3), "missing"),
        (HEAD + SECOND + page([b"x"], granule=960, number=2) + page([b"x"], granule=959, number=3), "out of order"),
        (HEAD + SECOND + page([b"x"], granule=-2, number=2), "out of order"),
    ],
)
def test_one_thing_wrong_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        length_of(data)


@given(st.binary(max_size=400) | st.tuples(st.integers(0, len(NOTE)), st.binary(max_size=60)).map(
    lambda cut: NOTE[: cut[0]] + cut[1] + NOTE[cut[0] + len(cut[1]) :]
))  # fmt: skip
def test_any_bytes_have_a_length_or_are_refused(data: bytes) -> None:
    with suppress(DecodeError):
        assert length_of(data) > 0
