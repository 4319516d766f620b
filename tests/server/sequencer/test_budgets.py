"""Budgets of commits: a flood of them meets its end, and what honest members owe the group is never refused."""

from collections.abc import Callable
from typing import Any

import pytest

from securechat.mls.proposals import Remove
from securechat.server.sequencer import budgets
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[[str], Person]


def catch_up(person: Person, room: bytes, head: int) -> None:
    """Process the log up to `head`; the person reads it already."""
    while person.cursors[room] < head:
        person.process(person.take(m.Entry))


def come_back(person: Person, room: bytes) -> Any:
    """Replace one's own leaf by an external commit; the reply."""
    offer = person.ask(m.Resync, room)
    assert isinstance(offer, m.JoinOffer)
    staged = person.external_commit(offer, old=person.groups[room].own_leaf)
    reply = person.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info)
    if isinstance(reply, m.Accepted):
        assert staged.group is not None
        person.take_part(room, staged.group, number=offer.number + 1, cursor=reply.seq)
    return reply


def is_refused(reply: Any) -> bool:
    if isinstance(reply, m.Refused):
        assert reply.code == "slow-down"
        assert 0 < reply.retry_after <= 600_000
        return True
    assert isinstance(reply, m.Accepted)
    return False


def test_a_flood_of_commits_meets_the_budget_and_stops_nobody_else(server: MemoryServer, enter: Enter) -> None:
    mallory, alice = enter("mallory"), enter("alice")
    mallory.open_room("#lobby")
    (room,) = mallory.groups
    assert [is_refused(mallory.change(room)) for _ in range(5)] == [False] * 3 + [True] * 2
    assert isinstance(mallory.say(room, "I can still speak"), m.Accepted)
    assert alice.join("#lobby") == room
    server.advance(server.seconds + 1200)
    mallory.subscribe(room, 4)
    mallory.process(mallory.take(m.Entry))
    assert [is_refused(mallory.change(room)) for _ in range(2)] == [False, True]


def test_every_fifty_messages_earn_the_fresh_path_that_is_due_then(enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    for _ in range(3):
        assert not is_refused(alice.change(room))
    for round_ in range(6):
        for n in range(budgets.MESSAGES_PER_COMMIT):
            assert isinstance(alice.say(room, f"{round_}.{n}"), m.Accepted)
        assert not is_refused(alice.change(room))
    assert is_refused(alice.change(room))


def test_messages_are_not_saved_up_for_a_flood(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MESSAGES_PER_COMMIT", 2)
    monkeypatch.setattr(budgets, "MAX_SAID", 6)
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    assert not is_refused(alice.change(room))
    for n in range(40):
        alice.say(room, str(n))
    outcomes = [is_refused(alice.change(room)) for _ in range(8)]
    assert outcomes == [False] * 6 + [True] * 2  # one at once, three that were saved up, two of this hour's


def test_a_weekly_path_and_the_removal_of_many_who_left_are_never_refused(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    others = [enter(f"bob{n}") for n in range(6)]
    for each in others:
        each.join("#lobby")
    alice.subscribe(room)
    catch_up(alice, room, server.head(room).seq)
    for _ in range(3):
        assert not is_refused(alice.change(room))
    for each in others:
        each.subscribe(room)
        catch_up(each, room, server.head(room).seq)
        assert isinstance(each.leave(room), m.Accepted)
        entry = alice.take(m.Entry)
        alice.process(entry)
        assert not is_refused(alice.change(room, Remove(each.groups[room].own_leaf)))
    assert is_refused(alice.change(room))
    for _ in range(3):
        server.advance(server.seconds + 7 * 86_400)
        alice = alice.again()
        assert not is_refused(alice.change(room))


def test_coming_back_after_a_reported_commit_of_somebody_else_is_not_counted(
    server: MemoryServer, enter: Enter
) -> None:
    alice, mallory = enter("alice"), enter("mallory")
    alice.open_room("#lobby")
    (room,) = alice.groups
    for _ in range(3):
        assert not is_refused(alice.change(room))
    mallory.join("#lobby")
    bad = server.head(room).seq
    assert is_refused(come_back(alice, room))  # nothing was reported
    assert isinstance(alice.ask(m.CommitFailed, room, bad - 1), m.Done)
    assert is_refused(come_back(alice, room))  # that was a commit of her own
    assert alice.ask(m.CommitFailed, room, bad + 7).code == "bad-request"
    assert is_refused(come_back(alice, room))  # and that none at all
    assert isinstance(alice.ask(m.CommitFailed, room, bad), m.Done)
    assert not is_refused(come_back(alice, room))
    assert isinstance(alice.ask(m.CommitFailed, room, bad), m.Done)
    assert is_refused(come_back(alice, room))  # one report, one way back


def test_coming_back_more_than_ten_times_a_day_is_counted(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    for _ in range(3):
        assert not is_refused(alice.change(room))
    outcomes = []
    for n in range(budgets.RE_ENTRIES + 1):
        enter(f"mallory{n}").join("#lobby")
        assert isinstance(alice.ask(m.CommitFailed, room, server.head(room).seq), m.Done)
        outcomes.append(is_refused(come_back(alice, room)))
    assert outcomes == [False] * budgets.RE_ENTRIES + [True]


def test_an_account_enters_on_its_first_day_and_changes_no_more(server: MemoryServer, enter: Enter) -> None:
    server.accounts._clock = lambda: server.now / 1000
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    assert is_refused(bob.change(room))
    server.advance(server.seconds + 3600)
    bob = bob.again()
    assert [is_refused(bob.change(room)) for _ in range(2)] == [False, True]
    server.now += 86_400_000
    server.advance(server.seconds + 3600)
    bob = bob.again()
    assert [is_refused(bob.change(room)) for _ in range(4)] == [False] * 3 + [True]


def test_elsewhere_a_hundred_commits_an_hour_pass(enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#team", "invite")
    (room,) = alice.groups
    assert [is_refused(alice.change(room)) for _ in range(101)] == [False] * 100 + [True]
