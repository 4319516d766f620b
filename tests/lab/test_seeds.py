"""What is personal, and what an instructor alone can compute."""

import pytest

from securechat.errors import UsageError
from securechat_lab.kit.seeds import Seed, graded_seed, new_course_key, read_token, token_of

COURSE = bytes(range(32))


def test_a_token_is_the_same_again_and_each_students_own() -> None:
    ann = token_of(COURSE, "ann")
    assert ann.text == token_of(COURSE, "ann").text
    assert len({token_of(COURSE, name).text for name in ("ann", "bob", "ann ", "Ann")} | {ann.text}) == 4
    assert token_of(new_course_key(), "ann").text != ann.text
    assert read_token(f" {ann.text[:13]} {ann.text[13:].upper()}\n").text == ann.text


def test_who_has_a_token_has_not_the_seed_that_is_graded() -> None:
    token, graded = token_of(COURSE, "ann"), graded_seed(COURSE, "ann")
    assert graded.text != token.text
    assert {token.part("graded").text, token.part("graded", "ann").text}.isdisjoint({graded.text})


def test_what_is_personal_does_not_change_from_release_to_release() -> None:
    seed = token_of(COURSE, "ann").part("exercise 3", "canary")
    assert (seed.word(), seed.below(1000), seed.pick("abcde"), seed.bytes(4).hex()) == (
        "ucxumv2jmw", 612, "c", "a0af4657",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "abc", "a" * 27, "1" * 26, "aaaaaaaaaaaaaaaaaaaaaaaaa!"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no token of a course"):
        read_token(text)


def test_parts_of_other_names_are_others_and_a_seed_shows_nothing() -> None:
    seed = Seed(bytes(16))
    parts = [("a", "b"), ("ab",), ("a", "b", ""), ("", "a", "b"), ()]
    assert len({seed.part(*each).text for each in parts}) == len(parts)
    assert repr(seed) == "Seed(...)"
