import unicodedata

import pyte
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from securechat import clean as cleaner
from securechat.clean import MAX_MARKS, NOT_SHOWN, clean_line
from securechat.ui.view.lines import CONTINUATION, notice, wrap

COLUMNS, ROWS = 80, 24
JOINERS = "\u200c\u200d"

ATTACKS = {
    "colour": "\x1b[31mred\x1b[0m",
    "cursor up and overwrite": "\x1b[2A\r12:00 [alice] alice: I agree",
    "clear the screen": "\x1b[2J\x1b[H",
    "C1 control sequence": "\x9b2J",
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;aGk=\x1b\\",
    "hyperlink": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "device control": "\x1bPq#0\x1b\\",
    "status report": "\x1b[6n\x1bZ\x05",
    "backspaces": "hello\b\b\b\b\bbye",
    "carriage return": "hello\r12:00 [alice] alice: fake",
    "alternate screen": "\x1b[?1049h",
    "character set": "\x0e\x1b(0",
    "bell": "\x07" * 10,
    "vertical": "a\x0bb\x0cc\x85d\u2028e\u2029f",
    "right to left override": "\u202etxt.exe\u202c \u2066x\u2069 \u200f",
    "invisible": "a\u200b\u200d\ufeff\u2060\u00ad\u3164\u115f\u034f\ufe0f\U000e0041b",
    "unassigned and private": "\u0378\ue000\U0010ffff",
    "half a character": "\ud800\udfff",
    "marks": "Z" + "\u0300" * 500,
    "marks first": "\u0300\u0301x",
    "new line": "hello\n12:00 [alice] alice: fake",
}


def clean(text: str) -> str:
    """A text as the plain client shows it."""
    return notice(cleaner.clean(text)).removeprefix("-- ")


def assert_harmless(text: str) -> None:
    for before, character in zip("x" + text, text, strict=False):
        if character in JOINERS:  # something else is seen before it
            assert before not in JOINERS
            assert not before.isascii()
            continue
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}, ascii(character)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_no_attack_leaves_anything_but_visible_text(attack: str) -> None:
    first, *rest = clean(attack).split("\n")
    assert_harmless(first)
    for line in rest:
        assert line.startswith(CONTINUATION)
        assert_harmless(line)


@given(st.text(alphabet=st.characters(), max_size=200))
@example("\n")
@example("\r\n\r")
def test_any_text_becomes_harmless_and_stays_so(text: str) -> None:
    first, *rest = clean(text).split("\n")
    assert_harmless(first)
    for line in rest:
        assert line.startswith(CONTINUATION)
        assert_harmless(line)
    line = clean_line(text)
    assert_harmless(line)
    assert clean_line(line) == line


@pytest.mark.parametrize(
    "text",
    ["hello", "naïve café", "Здравствуй, мир", "שלום", "สวัสดี", "日本語", "नमस्ते", "🎉👍", "1 < 2 & \\x", "tiếng Việt"],
)
def test_honest_text_is_left_as_it_is(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cخواهم", "کتاب\u200cها", "क्\u200dष", "ක්\u200dෂ",
        "👨\u200d👩\u200d👧\u200d👦", "👩🏽\u200d🚒", "❤\u200d🔥", "🏳\u200d🌈",
    ],
)  # fmt: skip
def test_joiners_stay_where_letters_or_emoji_need_them_but_not_in_names(text: str) -> None:
    assert clean(text) == text
    assert clean_line(text) == text.replace("\u200c", "").replace("\u200d", "")


@pytest.mark.parametrize(
    "text",
    [
        "al\u200cice", "al\u200dice", "\u200c", "👩\u200d", "\u200d👩", "ب\u200c\u200cب", "ب\u200c",
        "\x1b\u200d👩", "\ufffd\u200d👩", "👩\u200dalice", "ب" + "\u064b" * 20 + "\u200cب",
    ],
)  # fmt: skip
def test_joiners_go_where_nothing_needs_them(text: str) -> None:
    shown = cleaner.clean(text)
    assert not any(joiner in shown for joiner in JOINERS)
    assert cleaner.clean(shown) == shown


def test_lines_are_kept_and_marked_and_tabs_become_spaces() -> None:
    assert clean("one\ntwo\r\nthree\n") == f"one\n{CONTINUATION}two\n{CONTINUATION}three"
    assert cleaner.clean("one\ntwo\r\nthree\n") == "one\ntwo\nthree"
    assert clean("a\tb") == "a    b"
    assert clean_line("one\ntwo") == "one two"


def test_marks_do_not_pile_up_and_do_not_settle_on_text_of_ours() -> None:
    assert clean("Z" + "\u0300" * 500) == "Z" + "\u0300" * MAX_MARKS
    assert clean("\u0300x") == "\N{DOTTED CIRCLE}\u0300x"
    assert clean("\u200b\u0300x") == "\N{DOTTED CIRCLE}\u0300x"
    assert clean("\x1b\u0300") == NOT_SHOWN + "\u0300"


@pytest.mark.parametrize("attack", [*ATTACKS.values(), " " * 70 + "12:00 [alice] alice: fake", "日" * 200, "x" * 500])
def test_on_a_real_terminal_every_row_of_a_message_is_marked_and_nothing_else_changes(attack: str) -> None:
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.Stream(screen)
    stream.feed("above\r\n")
    line = wrap(f"12:34 [#lobby] mallory: {clean(attack)}", COLUMNS, get_cwidth)
    stream.feed(line.replace("\n", "\r\n") + "\r\n")
    stream.feed("below\r\n")
    rows = [row.rstrip() for row in screen.display if row.strip()]
    assert rows[0] == "above"
    assert rows[1].startswith("12:34 [#lobby] mallory:")
    assert rows[-1] == "below"
    for row in rows[2:-1]:
        assert row.startswith(CONTINUATION.rstrip())
    assert screen.title == ""
    for cells in screen.buffer.values():
        for cell in cells.values():
            assert (cell.fg, cell.bg, cell.reverse) == ("default", "default", False)


def test_wrapping_leaves_a_short_line_and_a_tiny_terminal_alone() -> None:
    assert wrap("short", 80, get_cwidth) == "short"
    assert wrap("x" * 100, 10, get_cwidth) == "x" * 100


def test_lines_are_broken_between_words() -> None:
    text = "12:00 [bob] bob: " + "some words " * 12
    rows = wrap(text, 60, get_cwidth).split("\n")
    assert len(rows) > 2
    assert all(row.endswith(("some ", "words ")) for row in rows)
    assert "".join(row.removeprefix(CONTINUATION) for row in rows) == text


ADDRESS = "https://chat.example/" + "a-very/long_path/" * 12 + "?q=1&r=%20#end"


@pytest.mark.parametrize(
    ("text", "around"),
    [
        (f"look: {ADDRESS} here", ("12:00 [bob] bob: look:", f"{CONTINUATION}here")),
        (ADDRESS, ("12:00 [bob] bob:", "")),
        (f"one\n{CONTINUATION}{ADDRESS}", ("12:00 [bob] bob: one", "")),
        (f"{ADDRESS} {ADDRESS} and", ("12:00 [bob] bob:", ADDRESS, f"{CONTINUATION}and")),
    ],
    ids=["within", "alone", "on its own line", "twice"],
)
def test_an_address_that_fits_into_no_row_is_left_to_the_terminal_as_one(text: str, around: tuple[str, ...]) -> None:
    rows = wrap(f"12:00 [bob] bob: {text}", COLUMNS, get_cwidth).split("\n")
    assert [row.rstrip() for row in rows if row != ADDRESS] == [row for row in around if row not in ("", ADDRESS)]
    assert rows.count(ADDRESS) == text.count(ADDRESS)


@pytest.mark.parametrize("odd", ["!!", "--", "[bob]", "\N{CYRILLIC SMALL LETTER A}", "<", "é"])
def test_what_could_look_like_a_line_of_ours_in_an_address_is_marked_as_ever(odd: str) -> None:
    rows = wrap(f"12:00 [bob] bob: {ADDRESS}{odd}{ADDRESS}", COLUMNS, get_cwidth).split("\n")
    assert len(rows) > 3
    assert all(row.startswith(CONTINUATION) for row in rows[1:])


def test_a_short_address_stays_in_its_row() -> None:
    line = "12:00 [bob] bob: see https://chat.example/ and more"
    assert wrap(line, COLUMNS, get_cwidth) == line
