"""Previews of pictures: what is sent of one's own, and what a stranger's can do."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest

from securechat.client.media import pictures
from securechat.client.media.child import Child, MediaError
from securechat.client.media.pictures import Picture, Pixels, describe, look
from securechat.client.media.worker import MAX_PREVIEW, PICTURES, PREVIEW, SIDE
from tests.support.sounds import damaged

pytest.importorskip("PIL", reason="needs the extra [media]")
from PIL import Image  # after it was looked for

HALVES = ((200, 30, 30), (30, 30, 200))
"""The upper half of the example, and the lower one."""


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Red above, blue below."""
    made = Image.new("RGB", (width, height), HALVES[0])
    made.paste(HALVES[1], (0, height // 2, width, height))
    return made.convert(mode)


def saved(made: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    made.save(out, kind, **options)
    return out.getvalue()


def noise(width: int, height: int) -> Image.Image:
    """What no picture is: nothing of it can be left out."""
    return Image.effect_noise((width, height), 250).convert("RGB")


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child(PICTURES) as child:
        yield child


def colour(shown: Pixels, x: int, y: int) -> tuple[int, ...]:
    at = 3 * (y * shown.width + x)
    return tuple(shown.rgb[at : at + 3])


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return all(abs(a - b) < 24 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    "data",
    [
        saved(picture(1200, 800), "JPEG"),
        saved(picture(1200, 800), "JPEG", progressive=True),
        saved(picture(1200, 800, "CMYK"), "JPEG"),
        saved(picture(1200, 800), "PNG"),
        saved(picture(1200, 800, "P"), "PNG"),
        saved(picture(1200, 800), "GIF"),
        saved(picture(1200, 800), "GIF", save_all=True, append_images=[noise(1200, 800)]),
        saved(picture(1200, 800), "WEBP"),
    ],
    ids=["jpeg", "progressive jpeg", "cmyk", "png", "palette", "gif", "animation", "webp"],
)
def test_a_picture_gets_a_small_one_that_shows_the_same(data: bytes, child: Child) -> None:
    described = describe(data)
    assert (described.width, described.height) == (1200, 800)
    assert len(described.thumbnail) <= MAX_PREVIEW
    shown = look(child, described.thumbnail)
    assert (shown.width, shown.height) == (SIDE, 213)
    assert near(colour(shown, 160, 20), HALVES[0])
    assert near(colour(shown, 160, 190), HALVES[1])


def test_a_small_picture_stays_as_large_as_it_is_and_a_narrow_one_keeps_its_shape(child: Child) -> None:
    shown = look(child, describe(saved(picture(20, 10), "PNG")).thumbnail)
    assert (shown.width, shown.height) == (20, 10)
    shown = look(child, describe(saved(picture(4000, 2), "PNG")).thumbnail)
    assert (shown.width, shown.height) == (SIDE, 1)


@pytest.mark.parametrize(("orientation", "size", "first", "last"), [
    (1, (1200, 800), (160, 20), (160, 190)),
    (3, (1200, 800), (160, 190), (160, 20)),
    (6, (800, 1200), (190, 160), (20, 160)),
    (8, (800, 1200), (20, 160), (190, 160)),
])  # fmt: skip
def test_it_is_turned_as_the_camera_was_held(
    orientation: int, size: tuple[int, int], first: tuple[int, int], last: tuple[int, int], child: Child
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    described = describe(saved(picture(1200, 800), "JPEG", exif=exif))
    assert (described.width, described.height) == size
    shown = look(child, described.thumbnail)
    assert near(colour(shown, *first), HALVES[0])
    assert near(colour(shown, *last), HALVES[1])


def test_what_is_clear_is_white(child: Child) -> None:
    made = picture(100, 100, "RGBA")
    made.putalpha(Image.new("L", made.size, 0))
    assert near(colour(look(child, describe(saved(made, "PNG")).thumbnail), 50, 50), (255, 255, 255))


def test_where_and_by_what_it_was_taken_is_not_in_the_preview() -> None:
    exif = Image.Exif()
    exif[0x010F] = "CANARY camera"
    exif.get_ifd(0x8825)[1] = "N"
    data = saved(picture(1200, 800), "JPEG", exif=exif, comment=b"CANARY comment", icc_profile=b"CANARY" * 50)
    assert data.count(b"CANARY") > 2
    thumbnail = describe(data).thumbnail
    assert b"CANARY" not in thumbnail
    assert b"Exif" not in thumbnail
    with Image.open(io.BytesIO(thumbnail)) as opened:
        assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_preview_is_small_whatever_the_picture_is() -> None:
    assert len(describe(saved(noise(640, 640), "PNG")).thumbnail) <= MAX_PREVIEW


def png(width: int, height: int, *, rows: int = 0, chunks: bytes = b"") -> bytes:
    """A PNG that says it is so large, and has so many rows of zeros."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    zeros = zlib.compress(bytes(1 + 3 * width) * rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zeros) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    data = b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    return struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))


BOMBS = {
    "a billion pixels": (png(60_000, 60_000), "too many pixels"),
    "one row too many": (png(8000, 8001), "too many pixels"),
    "too many in one row": (png(2**31 - 1, 2**31 - 1), "too many pixels|damaged"),
    "200 MB of text": (png(10, 10, rows=10, chunks=text_bomb()), "damaged"),
    "no pixels": (png(0, 10), "damaged|too many"),
    "empty": (b"", "damaged"),
    "no picture": (b"%PDF-1.7" + bytes(1000), "damaged"),
    "a picture of a kind that is not taken": (saved(picture(10, 10), "BMP"), "damaged, or of a kind that is not taken"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "damaged"),
    "a wide line": (saved(Image.new("1", (65_536, 1)), "PNG"), "more than 65,535 pixels"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_that_grows_is_one_sentence(name: str) -> None:
    data, why = BOMBS[name]
    assert len(data) < 1 << 20
    with pytest.raises(MediaError, match=rf"^The picture cannot be used: .*({why}).*\.$"):
        describe(data)


def test_a_picture_that_ends_too_early_has_no_preview_and_the_whole_one_has() -> None:
    data = saved(picture(1200, 800), "JPEG")
    with pytest.raises(MediaError, match="damaged"):
        describe(data[: len(data) // 2])
    assert describe(data)


def test_the_largest_picture_is_decoded_and_one_that_takes_too_much_memory_is_one_sentence() -> None:
    assert describe(png(8000, 8000, rows=8000)).width == 8000
    with pytest.raises(MediaError, match="more than 512 MiB of memory|damaged"):
        describe(saved(Image.new("RGBA", (8000, 8000)), "WEBP", quality=0, method=0))


@pytest.mark.parametrize(
    ("thumbnail", "why"),
    [
        (saved(picture(SIDE + 1, 2), "JPEG"), "too many pixels"),
        (saved(picture(2, SIDE + 1), "JPEG"), "too many pixels"),
        (saved(picture(10_000, 8_000), "JPEG"), "too many pixels"),
        (saved(picture(10, 10), "PNG"), "damaged, or of a kind"),
        (saved(picture(10, 10), "WEBP"), "damaged, or of a kind"),
        (png(60_000, 60_000), "damaged, or of a kind"),
    ],
    ids=["wide", "high", "huge", "png", "webp", "bomb"],
)
def test_a_strangers_preview_that_is_none_is_not_decoded(thumbnail: bytes, why: str, child: Child) -> None:
    with pytest.raises(MediaError, match=why):
        look(child, thumbnail)
    assert look(child, saved(picture(SIDE, SIDE), "JPEG")).height == SIDE  # the next one is shown


def test_a_thousand_damaged_previews_are_pixels_or_one_sentence_each(child: Child) -> None:
    whole = saved(noise(64, 64), "JPEG")
    shown = 0
    for seed in range(1000):
        with suppress(MediaError):
            pixels = look(child, damaged(whole, seed))
            assert len(pixels.rgb) == 3 * pixels.width * pixels.height
            shown += 1
    assert 50 < shown < 950
    assert child._process.poll() is None  # none of them has broken what reads them


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_damaged_pictures_have_a_preview_or_one_sentence_each(kind: str, child: Child) -> None:
    whole = saved(noise(64, 64), kind)
    shown = 0
    for seed in range(100):
        with suppress(MediaError):
            assert len(child.ask(PREVIEW, damaged(whole, seed), 8 + MAX_PREVIEW)) > 8
            shown += 1
    assert shown < 100
    assert child.ask(PREVIEW, whole, 8 + MAX_PREVIEW)
    assert child._process.poll() is None


def test_what_a_process_that_was_taken_over_answers_is_looked_at(monkeypatch: pytest.MonkeyPatch, child: Child) -> None:
    for answer in (b"", bytes(7), bytes(8), b"\0\0\0\1\0\0\0\1ab", b"\0\0\0\1\0\0\0\1abcd", b"\xff" * 11):
        monkeypatch.setattr(Child, "ask", lambda *_, answer=answer: answer)
        with pytest.raises(MediaError):
            look(child, b"")
    for answer in (b"", bytes(9), b"\0\0\0\1\0\0\0\1", b"\0\0\0\1\0\1\0\0x"):
        monkeypatch.setattr(Child, "ask", lambda *_, answer=answer: answer)
        with pytest.raises(MediaError):
            describe(b"")
    monkeypatch.setattr(Child, "ask", lambda *_: b"\0\0\0\2\0\0\0\1x")
    assert describe(b"") == Picture(2, 1, b"x")
    assert pictures.MAX_SIDE == 65_535
