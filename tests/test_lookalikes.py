"""Names that somebody is about to take: what is shown of them, and whom they would be taken for."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.clean import MAX_MARKS, clean_line
from securechat.errors import UsageError
from securechat.lookalikes import RESERVED, check_new_account, check_new_room, likeness
from securechat.names import collision_key, normalise_account, normalise_room

ALIKE = [
    ("alice", "ɑlice"), ("alice", "alıce"), ("alice", "a1ice"), ("coco", "сосо"), ("modern", "rnodern"),
    ("bob", "b0b"), ("walter", "vvalter"), ("ismail", "i\u0307smail"), ("straße", "strasse"), ("οδός", "οδόσ"),
    ("alireza", "ali\u200creza"), ("deva", "de\u200dva"), ("#lobby", "#1obby"), ("#modern", "#rnodern"),
    ("#сор", "#cop"), ("q" + MAX_MARKS * "\u0323", "q" + MAX_MARKS * "\u0323" + "\u0324"), ("Alice", "alice"),
]  # fmt: skip
"""Names that are shown alike, or nearly."""

APART = [
    ("manana", "mañana"), ("zoe", "zoë"), ("李雷", "李梅"), ("иван", "ivan"), ("anna", "hanna"), ("ian", "lan"),
    ("jose", "josé"), ("péter", "pèter"), ("anna", "анна"), ("lobby", "#lobby"), ("carn", "cam1"), ("alice", "alicia"),
    ("o'brien", "obrien"), ("محمد", "محمود"), ("coco", "coco1"),
]  # fmt: skip
"""Honest names that only resemble each other."""


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_are_of_one_class(one: str, other: str) -> None:
    assert likeness(one) == likeness(other)


@pytest.mark.parametrize(("one", "other"), APART)
def test_honest_names_that_are_near_each_other_are_not(one: str, other: str) -> None:
    assert likeness(one) != likeness(other)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("علی\u200cرضا", "U+200C is not shown: leave it out"),
        ("श्\u200dर", "U+200D is not shown: leave it out"),
        ("q" + MAX_MARKS * "\u0323" + "\u0324", "U+0324 is not shown: leave it out"),
        ("q" + (MAX_MARKS + 1) * "\u0323", "a mark too many on one letter is not shown: leave"),
        ("al\u02bcice", "looks like punctuation, as U+02BC does: leave it out"),
        ("al\u02bbice", "looks like punctuation"),
        ("alice\u02d0", "looks like punctuation"),
        ("al\u02eeice", "looks like punctuation"),
        ("\u0561\u0559", "looks like punctuation"),
        ("alice.", "ends with a letter or a digit"),
        ("alice-", "ends with a letter or a digit"),
        ("alice:", "ends with a letter or a digit"),
        ("alice'", "ends with a letter or a digit"),
        ("\u0f40\u0f0b", "ends with a letter or a digit"),
        (".alice", "begins with a letter or a digit"),
        ("admin", "taken for securechat itself"),
        ("adrnin", "taken for securechat itself"),
        ("y0u", "taken for securechat itself"),
        ("аdmin", "one script"),  # with a Cyrillic `а`, which is no valid name anyway
        ("уоu", "one script"),
        ("sуstem", "one script"),
    ],
)
def test_a_name_that_nobody_may_take_is_refused_with_what_to_do(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("+", r"\+")):
        check_new_account(name)


@pytest.mark.parametrize("word", RESERVED)
def test_what_the_program_calls_somebody_is_nobodys_name(word: str) -> None:
    with pytest.raises(UsageError, match="taken for securechat itself"):
        check_new_account(word)
    check_new_account(f"{word}2b")
    check_new_room(f"#{word}")


@pytest.mark.parametrize(
    "name",
    ["mañana", "zoë", "李雷", "иван", "anna", "hanna", "o'brien", "bob_2", "j.smith", "ヤマダー", "佐々木", "देवी",
     "محمد", "रमेश", "đặng", "нгуен", "gal·la", "q" + MAX_MARKS * "\u0323"],
)  # fmt: skip
def test_honest_names_can_be_taken(name: str) -> None:
    check_new_account(normalise_account(name))
    check_new_room(normalise_room(f"#{name}"))


@pytest.mark.parametrize("mark", [*'!"#$%&()*+,/:;<=>?@[\\]^`{|}~'])
def test_no_new_name_holds_what_our_own_lines_give_a_meaning(mark: str) -> None:
    valid = normalise_account(f"alice{mark}1a2b")  # whoever has such a name keeps it
    with pytest.raises(UsageError, match="of punctuation it may hold - _ . and '"):
        check_new_account(valid)
    with pytest.raises(UsageError, match="of punctuation it may hold - _ . and '"):
        check_new_room(normalise_room(f"#{valid}"))


def test_a_room_is_named_as_it_is_shown_too() -> None:
    for name in ("#lobby.", "#lo\u02bcbby", "#علی\u200cرضا", "#ӏobby", "#lоbby"):
        with pytest.raises(UsageError):
            check_new_room(name)


def test_the_data_are_those_of_the_package_whatever_the_environment_says() -> None:
    program = "from securechat.lookalikes import likeness; print(likeness('rnodern') == likeness('modern'))"
    environment = os.environ | {"CONFUSABLE_DATA": "/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "True\n"


@given(st.text(max_size=40), st.text(max_size=3))
def test_a_class_is_no_finer_than_what_is_shown(text: str, more: str) -> None:
    assert likeness(clean_line(text)) == likeness(text)
    try:
        one, other = normalise_account(text), normalise_account(text + more)
    except UsageError:
        return
    if clean_line(one) == clean_line(other) or collision_key(one) == collision_key(other):
        assert likeness(one) == likeness(other)
