"""The checker itself must be able to fail: one twin for each fault that it is meant to find."""

from dataclasses import replace

import pytest

from securechat.client.message import Message, Quote, Reaction
from tests.support.history import DELETED, View, check_history

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
        ([replace(GOOD[0], own=True, recipients=2, delivered=1, read=2), *GOOD[1:]], "read by too many"),
        ([replace(GOOD[0], own=True, recipients=1, delivered=2), *GOOD[1:]], "read by too many"),
        ([replace(GOOD[0], recipients=1, delivered=1), *GOOD[1:]], "read by too many"),
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


BECAME = {"one": ["uno", "eins"], "two": [DELETED]}
CHANGED = [replace(GOOD[0], text="eins", edited=9), GOOD[1], replace(GOOD[2], text="", deleted_by="alice")]


def test_what_was_edited_and_deleted_is_what_it_became() -> None:
    both = [View("alice", CHANGED), View("bob", CHANGED)]
    check_history(SAID, both, everything_arrived=True, became=BECAME)
    behind = [replace(GOOD[0], text="uno", edited=8), GOOD[1]]
    check_history(SAID, [View("alice", CHANGED)], everything_arrived=False, became=BECAME)
    check_history(SAID, [View("bob", behind, left=4)], everything_arrived=False, became=BECAME)


@pytest.mark.parametrize(
    "lines",
    [
        GOOD,
        [replace(CHANGED[0], text="uno"), *CHANGED[1:]],
        [replace(CHANGED[0], text="two"), *CHANGED[1:]],
        [CHANGED[0], replace(CHANGED[1], text="", deleted_by="alice"), CHANGED[2]],
    ],
    ids=["as it was said", "an edit before the last", "another text", "another one deleted"],
)
def test_what_it_should_not_have_become_is_found(lines: list[Message]) -> None:
    with pytest.raises(AssertionError, match="the log has"):
        check_history(SAID, [View("bob", lines)], everything_arrived=True, became=BECAME)


@pytest.mark.parametrize(
    "other",
    [
        replace(GOOD[1], edited=9),
        replace(GOOD[1], reactions=(Reaction("+1", ("alice",)),)),
        replace(GOOD[1], quote=Quote(1, "alice", text="one")),
        replace(GOOD[1], kind="action"),
    ],
    ids=["edited", "reaction", "quote", "kind"],
)
def test_what_became_of_a_line_for_one_reader_alone_is_found(other: Message) -> None:
    with pytest.raises(AssertionError, match="entry 4"):
        check_history(SAID, [View("alice", GOOD), View("bob", [GOOD[0], other, GOOD[2]])], everything_arrived=True)
