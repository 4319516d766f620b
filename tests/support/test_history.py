"""The checker itself must be able to fail: one twin for each fault that it is meant to find."""

from dataclasses import replace

import pytest

from securechat.client.events import Message
from tests.support.history import View, check_history

SAID = {"alice": ["one", "two"], "bob": ["three"]}


def line(seq: int, sender: str, text: str) -> Message:
    return Message(seq, b"", seq, 1, sender, own=False, text=text)


GOOD = [line(2, "alice", "one"), line(4, "bob", "three"), line(5, "alice", "two")]


def test_a_clean_history_passes() -> None:
    check_history(SAID, [View("alice", GOOD), View("bob", GOOD)], everything_arrived=True)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([*GOOD, line(6, "alice", "one")], "there twice"),
        ([*GOOD, GOOD[0]], "an entry twice"),
        ([replace(GOOD[0], text="two"), GOOD[1], replace(GOOD[2], text="one")], "the log has"),
        ([*GOOD, line(6, "bob", "four")], "bob said"),
        ([*GOOD, line(6, "mallory", "four")], "said nothing"),
        ([*GOOD[:2], replace(GOOD[2], problem="cannot be decrypted")], "cannot read entry 5"),
        ([*GOOD, line(0, "bob", "waiting")], "still waits"),
    ],
)
def test_each_fault_is_named(lines: list[Message], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_history(SAID, [View("bob", lines)], everything_arrived=True)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (GOOD[1:], "misses"),
        ([replace(GOOD[0], text="two"), GOOD[1], replace(GOOD[2], text="one")], "entry 2"),
    ],
)
def test_each_difference_between_readers_is_named(lines: list[Message], fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_history(SAID, [View("alice", GOOD), View("bob", lines)], everything_arrived=True)
