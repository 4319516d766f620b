"""What Tk is given to draw: no emoji, nothing of a font of colour pictures, and lines in the order that is seen."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.clean import clean
from securechat.ui.window.layout import Emoji, Setter, Text
from securechat.ui.window.letters import EMOJI, NOT_DRAWN, STAND_INS, Apart, drawable, in_words, is_coloured

pytest.importorskip("bidi", reason="needs the extra [window]")
pytest.importorskip("arabic_reshaper", reason="needs the extra [window]")

FAMILY = "👨\u200d👩\u200d👧"


class Ruler:
    """Letters that are all equally wide; a font of colour pictures has the symbols from the zodiac on."""

    heights = dict.fromkeys(("text", "small", "bold"), 20)
    draws_all = False

    def px(self, pixels: float) -> int:
        return round(pixels)

    def width(self, text: str, style: str) -> int:
        assert style in self.heights
        assert "\n" not in text
        return 10 * sum(not unicodedata.combining(each) for each in text)

    def family_for(self, character: str) -> str:
        return "Noto Color Emoji" if character >= "\u2648" else "Noto Sans"


def setter(*, pictures: bool = False) -> Setter:
    return Setter(Ruler(), lambda _emoji: pictures)


def drawn(text: str, *, room: int = 400, pictures: bool = False) -> list[str]:
    """Each line as it is given to Tk, with what is a picture in angle brackets."""
    rows = setter(pictures=pictures).rows(text, room, "text")
    assert all(each.width <= room or len(each.parts) == 1 for each in rows)
    return ["".join(f"<{text}>" if is_emoji else text for _, text, is_emoji in row.parts) for row in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("👍", "<👍>"), ("👍🏽!", "<👍🏽>!"), (f"we {FAMILY} go", f"we <{FAMILY}> go"), ("🇩🇪🇫🇷", "<🇩🇪><🇫🇷>"),
        ("❤ and ☃", "<❤> and ☃"), ("1\u20e3 2", "<1\u20e3> 2"), ("🏽", "<🏽>"), ("no", "no"),
    ],
)  # fmt: skip
def test_emoji_are_set_apart(text: str, expected: str) -> None:
    assert drawn(text, pictures=True) == [expected]


@pytest.mark.parametrize(
    ("emoji", "words"),
    [
        ("👍", "[thumbs up sign]"), ("👍🏽", "[thumbs up sign]"), (FAMILY, "[man]"), ("🇩🇪", "[flag DE]"),
        ("1\u20e3", "[1]"),
    ],
)  # fmt: skip
def test_where_there_is_no_picture_its_name_stands(emoji: str, words: str) -> None:
    assert in_words(emoji) == words
    assert drawn(f"so {emoji}") == [f"so {words}"]


def test_no_character_whatever_it_is_reaches_tk_as_one_that_ends_it() -> None:
    """The guard against an old libXft: every character that there is, alone and after cleaning."""
    ruler, rows = Ruler(), setter()
    seen = set[str]()
    for first in (*range(0, 0x20000, 256), 0xE0000, 0x10FF00):  # in between are ideographs, and nothing
        text = " ".join(map(chr, range(first, first + 256)))
        for row in rows.rows(clean(text), 1 << 20, "text"):
            for piece in row.pieces(0, 0, "text", "text", 20):
                assert isinstance(piece, Text)
                assert EMOJI.search(piece.text) is None
                seen |= set(piece.text)
    assert len(seen) > 50_000
    symbols = {each for each in seen if each >= "\u2000" and unicodedata.category(each)[0] not in "LMNZ"}
    assert not [each for each in symbols if is_coloured(ruler.family_for(each))]


@given(st.text(st.sampled_from("ab \u200d🏽👍👩❤🇩🇪#1\u20e3\u0301שלم\ufffd♉☂\n") , max_size=40), st.booleans())
def test_what_is_laid_out_is_what_was_said(text: str, pictures: bool) -> None:  # noqa: FBT001  # hypothesis gives it
    rows = setter(pictures=pictures).rows(clean(text), 100, "text")
    assert rows
    pieces = [piece for row in rows for piece in row.pieces(0, 0, "text", "text", 20)]
    shown = "".join(each.text for each in pieces if isinstance(each, Text | Emoji))
    assert not any(ord(each) in STAND_INS for each in shown)
    assert pictures or not any(isinstance(each, Emoji) for each in pieces)
    latin = [each for each in clean(text) if each in "ab"]
    if pictures:
        assert [each for each in shown if each in "ab"] == latin or any(each in shown for each in "שלم")


def test_a_symbol_that_only_a_font_of_colour_pictures_has_becomes_a_square() -> None:
    assert drawable("♉ ☂ é", Ruler().family_for) == f"{NOT_DRAWN} ☂ é"
    for family, coloured in (("Noto Color Emoji", True), ("Twemoji", True), ("Noto Emoji", False), ("Inter", False)):
        assert is_coloured(family) == coloured


@pytest.mark.parametrize(
    ("said", "seen"),
    [("שלום world", "world םולש"), ("I said שלום!", "I said םולש!"), ("abc", "abc"), ("שלום 12", "12 םולש")],
)
def test_what_is_written_from_the_right_is_put_in_the_order_that_is_seen(said: str, seen: str) -> None:
    assert drawn(said) == [seen]


def test_a_paragraph_from_the_right_is_broken_as_it_is_read() -> None:
    rows = setter().rows("אחת שתיים שלוש", 90, "text")
    assert ["".join(text for _, text, _ in row.parts) for row in rows] == ["םייתש תחא", "שולש"]
    assert all(each.from_right for each in rows)


def test_arabic_letters_are_joined() -> None:
    assert drawn("سلام") != ["سلام"[::-1]]
    assert all("\ufe70" <= each <= "\ufeff" for each in drawn("سلام")[0])


def test_lines_break_between_words_and_long_words_anywhere() -> None:
    assert drawn("one two three", room=70) == ["one two", "three"]
    assert drawn("abcdefghijkl", room=50) == ["abcde", "fghij", "kl"]
    assert drawn("a\n\nb") == ["a", "", "b"]
    marked = "e\u0301" * 6
    assert drawn(marked, room=30) == ["e\u0301" * 3] * 2  # a mark stays on its letter


def test_a_stand_in_of_the_text_itself_stands_for_nothing() -> None:
    hostile = f"{chr(STAND_INS[0])}👍"
    assert chr(STAND_INS[0]) not in clean(hostile)  # whatever is drawn was cleaned
    assert Apart(clean(hostile)).text == f"\ufffd{chr(STAND_INS[0])}"


def test_one_line_ends_in_an_ellipsis_where_something_is_missing() -> None:
    row = setter().line("a  long\ntext", 60, "text")
    assert "".join(text for _, text, _ in row.parts) == "a…"
    assert setter().line("short", 60, "text").width == 50
    assert setter().line("x" * 100_000, 60, "text").width <= 60


def test_floods_of_marks_and_of_letters_are_laid_out_in_pieces() -> None:
    for text in ("a" + "\u0301" * 100_000, "x" * 64_000, "👍" * 10_000, "ש" * 30_000):
        for pictures in (True, False):
            rows = setter(pictures=pictures).rows(clean(text), 600, "text")
            assert all(len(text) <= 512 for row in rows for _, text, _ in row.parts)
