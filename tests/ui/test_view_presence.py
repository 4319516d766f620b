"""Who comes and goes is told together, not too often, and not if it has changed back."""

from math import inf
from typing import Literal

import pytest

from securechat.client.events import PresenceChanged
from securechat.ui.text.conversations import presence
from securechat.ui.view.presence import BETWEEN_SECONDS, TOGETHER_SECONDS, Presence

State = Literal["online", "offline", "dropped"]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(clock: Clock) -> Presence:
    return Presence(clock)


def note(told: Presence, **states: State) -> None:
    for account, state in states.items():
        told.note(PresenceChanged(b"c" * 32, account, state))


def test_what_comes_at_once_is_told_at_once(told: Presence, clock: Clock) -> None:
    assert told.due == inf
    note(told, bob="online", carol="online", dave="offline")
    assert told.take() == {}
    clock.now += TOGETHER_SECONDS
    assert told.take() == {"bob": "online", "carol": "online", "dave": "offline"}
    assert told.due == inf
    assert told.take() == {}


def test_from_one_line_to_the_next_there_is_a_while(told: Presence, clock: Clock) -> None:
    note(told, bob="online")
    clock.now = told.due
    assert told.take()
    for _ in range(1_000):
        note(told, bob="offline")
        note(told, bob="dropped", carol="online")
    assert told.due == clock.now + BETWEEN_SECONDS
    clock.now = told.due
    assert told.take() == {"bob": "dropped", "carol": "online"}


def test_what_has_changed_back_is_not_told(told: Presence, clock: Clock) -> None:
    note(told, bob="online")
    clock.now = told.due
    told.take()
    note(told, bob="dropped")
    note(told, bob="online")
    assert told.due == inf
    note(told, bob="online")  # in another conversation
    assert told.due == inf


def test_the_line_names_some_and_counts_the_others() -> None:
    assert [each.text for each in presence({})] == []
    assert [each.text for each in presence({"bob": "online", "carol": "online", "dave": "offline"})] == [
        "bob, carol are online; dave has gone."
    ]
    (line,) = presence({f"user{number}": "online" for number in range(1_000)})
    assert len(line.text) < 200
    assert "more are online" in line.text
