"""Where a conversation can go from where it stands, and that nothing moves where it cannot."""

import typing
from collections.abc import Callable

import pytest

from securechat.client import commands
from securechat.client.conversations import phases
from securechat.client.conversations.phases import Event, after
from securechat.client.vault.conversations import Phase
from securechat.errors import InternalError
from tests.support.people import Person, settle

World = Callable[..., list[Person]]

PHASES: tuple[Phase, ...] = typing.get_args(Phase)
EVENTS: tuple[Event, ...] = typing.get_args(Event)


def leads(phase: Phase, event: Event) -> bool:
    try:
        return after(phase, event) in PHASES
    except InternalError:
        return False


def test_every_event_can_happen_and_every_phase_can_be_entered_and_left() -> None:
    assert {event for event in EVENTS for phase in PHASES if leads(phase, event)} == set(EVENTS)
    entered = {after(phase, event) for phase in PHASES for event in EVENTS if leads(phase, event)}
    assert entered | set(phases.FIRST.values()) == set(PHASES)
    for phase in PHASES:
        assert any(after(phase, event) != phase for event in EVENTS if leads(phase, event))


def test_a_conversation_ends_from_wherever_it_stands_and_only_begins_anew_after_that() -> None:
    assert {after(phase, "over") for phase in PHASES} == {"ended"}
    assert {event for event in EVENTS if leads("ended", event)} == {
        "over", "opened-again", "joined-again", "awaited-again",
    }  # fmt: skip


def test_what_has_stopped_goes_on_by_the_users_word_or_by_being_added_again() -> None:
    assert {event for event in EVENTS if leads("stopped", event)} == {"repaired", "entered", "over"}
    assert {phase for phase in PHASES if leads(phase, "distrusted")} == {"member", "resync"}


def test_what_a_phase_permits_is_said_of_phases_that_fit_together() -> None:
    assert phases.READING < phases.PLACED < phases.INSIDE
    assert phases.NEW < phases.ENTERING
    assert not phases.READING & phases.ENTERING
    assert phases.ENDED.isdisjoint(phases.INSIDE | phases.ENTERING | phases.AWAITING | phases.LEAVABLE)


def test_an_impossible_event_moves_nothing(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    conversation = alice.engine._registry.find("bob")
    assert conversation is not None
    before = conversation.row.phase, conversation.staged, conversation.group.epoch
    for event in EVENTS:
        if not leads("member", event):
            with pytest.raises(InternalError):
                conversation.advance(event)
            assert (conversation.row.phase, conversation.staged, conversation.group.epoch) == before
