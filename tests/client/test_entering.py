"""What the server offers to enter, and what becomes of it."""

from collections.abc import Callable

from securechat import policy
from securechat.client import commands, events
from securechat.client.conversations.conversation import Conversation
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle


def begin_once_more(person: Person, kind: policy.Kind, name: str) -> Conversation:
    """Begin a conversation from a new row, whatever is in the vault: as a program would that has lost count."""
    with person.engine._unit():
        return person.engine._registry.add(kind, name)


def test_an_offer_to_enter_a_room_that_we_are_in_leaves_its_state_alone(
    server: MemoryServer, people: Callable[..., list[Person]]
) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, bob)
    room = alice.id_of("#lobby")
    epoch = server.head(room).epoch
    again = begin_once_more(alice, "open", "#lobby")
    settle(alice, bob)
    assert server.head(room).epoch == epoch
    assert alice.engine._registry.get(again.id) is alice.engine._registry.get(room)
    alice.say("#lobby", "still here")
    settle(alice, bob)
    assert bob.texts("#lobby") == ["alice: still here"]
    (carol,) = people("carol")
    begin_once_more(carol, "open", "#lobby")  # nothing is wrong with the offer to somebody who is not in
    settle(alice, bob, carol)
    assert server.head(room).epoch == epoch + 1
    assert not [event for person in (alice, bob, carol) for event in person.of(events.Alarm)]


def test_the_word_that_a_conversation_exists_leaves_its_state_alone(
    server: MemoryServer, people: Callable[..., list[Person]]
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    there = alice.id_of("bob")
    epoch = server.head(there).epoch
    again = begin_once_more(alice, "direct", "bob")
    settle(alice, bob)
    assert alice.engine._registry.get(again.id) is alice.engine._registry.get(there)
    assert (server.head(there).epoch, server.conversations) == (epoch, [there])
    alice.say("bob", "still here")
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: hello", "alice: still here"]


def test_of_two_who_open_at_once_both_are_in_the_first(
    server: MemoryServer, people: Callable[..., list[Person]]
) -> None:
    alice, bob = people("alice", "bob")
    for one, other in ((alice, "bob"), (bob, "alice")):
        one.do(commands.OpenDirect(other, f"from {one.name}", ask=False))
    settle(alice, bob)
    assert alice.id_of("bob") == bob.id_of("alice")
    assert server.conversations == [alice.id_of("bob")]
    assert sorted(alice.texts("bob")) == ["alice: from alice", "bob: from bob"]
