"""Strength: what people like to choose is weak, what was drawn by lot is not, and no length makes it slow."""

import pytest

from securechat.strength import JUDGED, strength_of


@pytest.mark.parametrize("weak", ["", "password", "alice", "Alice2024", "qwertyuiop", "aaaaaaaaaaaa", "20.11.1987"])
def test_what_is_tried_first_is_weak(weak: str) -> None:
    assert strength_of(weak, "alice").score < 2


def test_the_reason_is_a_sentence_that_quotes_nothing() -> None:
    assert strength_of("hunter2").reason == "This is a very common password."
    assert not strength_of("").reason


def test_words_that_are_known_of_somebody_count_for_little() -> None:
    assert strength_of("zoltanka", "zoltanka").digits < 1 < strength_of("zoltanka").digits


@pytest.mark.parametrize("good", ["kq7-vxm2-tbh9", "glacier tulip harvest", "ледник тюльпан жатва"])
def test_what_nobody_would_try_is_good(good: str) -> None:
    assert strength_of(good, "alice").score >= 3


def test_what_follows_the_judged_part_changes_nothing() -> None:
    assert strength_of("x7" * JUDGED) == strength_of("x7" * (JUDGED // 2))
    assert strength_of("\N{GRINNING FACE}" * 100_000).score < 2
