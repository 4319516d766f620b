"""Exercise 7: three cleaners that let a line be faked, and what has to stay of ordinary texts."""

import pytest

from securechat.clean import clean
from securechat_lab.exercises import hostile_text as exercise
from securechat_lab.kit.shown import screen
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def text(row):
    return "hi\\x9b1E" + row
"""

DEFENCE = """
import unicodedata

def clean(text):
    lines = []
    for line in text.split("\\n"):
        left, marks = "", 0
        for character in line:
            category = unicodedata.category(character)
            marks = marks + 1 if category[0] == "M" else 0
            if category not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") and marks <= 4:
                left += character
        lines.append(left)
    return "\\n".join(lines)
"""

CHECK = """
import unicodedata

def sound(seen):
    shown = "".join(each["shown"] for each in seen).replace(chr(10), "")
    return not any(unicodedata.category(each) in ("Cc", "Cf") for each in shown)
"""


def test_the_reference_gets_every_point() -> None:
    found = points(7, HandIn(ATTACK, DEFENCE, "no"))
    assert len(found) == 4 + 2 + len(exercise.HOSTILE)
    assert not missed(found)


def test_each_weak_cleaner_lets_the_row_be_faked_and_the_real_one_does_not() -> None:
    wanted = exercise.row(seeds(7, "ann")[0])
    for weak in exercise.WEAK.values():
        assert wanted in exercise.says(f"hi\x9b1E{wanted}", weak)
    assert wanted not in exercise.says(f"hi\x9b1E{wanted}", clean)


@pytest.mark.parametrize(("text", "lets_through"), [
    ("hi\r{}", {"nothing"}),
    ("hi\x1b[1E{}", {"nothing", "colours"}),
    ("hi\x9b1E{}", {"nothing", "colours", "escapes"}),
    ("{}", set()),
    ("hi\n{}", set()),
])  # fmt: skip
def test_an_attack_that_fits_one_cleaner_fails_the_family(text: str, lets_through: set[str]) -> None:
    wanted = exercise.row(seeds(7, "ann")[0])
    message = exercise._message(text.format(wanted))
    fooled = {n for n, by in exercise.WEAK.items() if wanted in screen([message], "eve", by, exercise.NOW)}
    assert fooled == lets_through


@pytest.mark.parametrize("text", [*exercise.ORDINARY, "e\u0301 x", "\u4f60\u0301 x", "a\u200bb"], ids=ascii)
def test_a_row_of_the_model_has_the_whole_text_and_what_comes_after_it(text: str) -> None:
    (row,) = screen([exercise._message(f"{text} end")], "eve", exercise.nothing, exercise.NOW)[2:3]
    assert row == f"09:00 [eve] eve: {text} end"


def test_an_attack_that_misses_is_told_what_stands_on_the_screen_in_ascii() -> None:
    with HandIn("def text(row): return 'hi \u0301' + row", "").loaded("attack") as ask:
        seen = exercise.attack(ask, "row", exercise.nothing)
    assert r"'09:00 [eve] eve: hi \u0301row'" in seen
    assert seen.isascii()


def test_the_real_cleaner_does_what_is_asked_of_a_student() -> None:
    assert all(clean(text) == text for text in exercise.ORDINARY)
    for texts in exercise.HOSTILE.values():
        for text in texts:
            assert exercise.harmless(text, clean), text
            assert not exercise.harmless(text, exercise.nothing), text


KINDS = {f"defence: {kind}" for kind in exercise.HOSTILE}
ORDINARY = "defence: ordinary texts of ten scripts stay as they are"
LINES = "defence: a text of two lines keeps them"
ASCII = "def clean(text): return ''.join(c for c in text if c == chr(10) or ' ' <= c <= '~')"
NO_CONTROLS = """
import unicodedata
def clean(text):
    return "".join(c for c in text if c == chr(10) or unicodedata.category(c) != "Cc")
"""
CHEATS = {
    "shows nothing": ("def clean(text): return ''", {ORDINARY, LINES, *KINDS}),
    "shows ASCII alone": (ASCII, {ORDINARY, LINES, *KINDS}),
    "shows three scripts alone": (ASCII.replace("<= '~'", "< chr(0x530)"), {ORDINARY, LINES, *KINDS}),
    "takes out the escape": (
        "def clean(text): return text.replace(chr(27), '').replace(chr(13), '')", {ORDINARY, LINES, *KINDS},
    ),
    "takes out controls": (
        NO_CONTROLS,
        KINDS - {
            "defence: a cursor that is moved", "defence: a control that is one character",
            "defence: a screen that is erased or renamed",
        },
    ),
    "answers no text": ("def clean(text): return 5", {ORDINARY, LINES, *KINDS}),
}


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(7, HandIn("def", defence)), "defence")) == misses


@pytest.mark.parametrize("said", ["5", "''", "'\\ud800'", "'x' * 9999"])
def test_an_attack_that_says_nothing_sayable_is_told(said: str) -> None:
    with HandIn(f"def text(row): return {said}", "").loaded("attack") as ask:
        seen = tried("", "", "", lambda: exercise.attack(ask, "row", exercise.nothing)).seen
    assert seen.startswith("text() returned")


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    ann, bob = (seeds(7, name)[0] for name in ("ann", "bob"))
    assert exercise.row(ann) != exercise.row(bob)
    assert {exercise.variant(seeds(7, f"s{n}")[0]) for n in range(20)} == exercise.WEAK.keys()
    fixed = f"def text(row): return {'hi' + chr(0x9b) + '1E' + exercise.row(bob)!r}"
    assert len(missed(points(7, HandIn(fixed, "def")), "attack")) == 3
