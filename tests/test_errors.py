"""Sentences of ours that end with what somebody else says."""

import pytest

from securechat.errors import sentence


@pytest.mark.parametrize(
    ("said", "told"), [("it is full", "it is full."), ("It is full.", "It is full."), ("wait...", "wait."), ("", ".")]
)
def test_a_sentence_ends_with_one_full_stop(said: str, told: str) -> None:
    assert sentence(said) == told
