"""What is forwarded once: to the other members who are there, so much of it, and to nobody else."""

from collections.abc import Callable

import pytest

from securechat.server.sequencer import ephemerals
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson, MemoryServer

Enter = Callable[[str], MemoryPerson]


def heard(person: MemoryPerson) -> list[bytes]:
    """What has come so far; an answer shows that nothing more is on its way."""
    person.ask(m.ListRooms)
    found = [each.payload for each in person.received if isinstance(each, m.Ephemeral)]
    person.received[:] = [each for each in person.received if not isinstance(each, m.Ephemeral)]
    return found


@pytest.fixture
def room(enter: Enter) -> tuple[MemoryPerson, MemoryPerson, bytes]:
    """alice and bob, and the conversation that they are in."""
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    return alice, bob, bob.accept_welcome()


def test_it_goes_to_the_other_members_who_are_there_and_stays_nowhere(
    room: tuple[MemoryPerson, MemoryPerson, bytes], enter: Enter
) -> None:
    alice, bob, conversation = room
    mallory = enter("mallory")
    alice.send(m.Ephemeral(conversation, b"one"))
    assert (heard(bob), heard(alice), heard(mallory)) == ([b"one"], [], [])
    mallory.send(m.Ephemeral(conversation, b"two"))
    mallory.send(m.Ephemeral(bytes(32), b"three"))
    assert (heard(bob), heard(alice), heard(mallory)) == ([], [], [])
    bob.bye()
    alice.send(m.Ephemeral(conversation, b"four"))
    assert heard(alice) == []
    assert heard(bob.again()) == []  # it was not kept


def test_a_session_has_its_budget_and_nobody_is_told(
    room: tuple[MemoryPerson, MemoryPerson, bytes], server: MemoryServer
) -> None:
    alice, bob, conversation = room
    for _ in range(3 * ephemerals.AT_ONCE):
        alice.send(m.Ephemeral(conversation, b"typing"))
    assert len(heard(bob)) == ephemerals.AT_ONCE
    assert heard(alice) == []
    bob.send(m.Ephemeral(conversation, b"mine is my own"))
    assert heard(alice) == [b"mine is my own"]
    server.advance(server.seconds + 5 / ephemerals.PER_SECOND)
    for _ in range(3 * ephemerals.AT_ONCE):
        alice.send(m.Ephemeral(conversation, b"typing"))
    assert len(heard(bob)) == 5


def test_above_so_many_members_it_goes_to_none(
    room: tuple[MemoryPerson, MemoryPerson, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, conversation = room
    monkeypatch.setattr(ephemerals, "MAX_EPHEMERAL_MEMBERS", 1)
    alice.send(m.Ephemeral(conversation, b"typing"))
    assert heard(bob) == []
