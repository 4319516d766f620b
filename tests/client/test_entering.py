"""What the server offers to enter, and what becomes of it."""

from collections.abc import Callable

import pytest

from securechat import policy
from securechat.client import commands, events
from securechat.client.clock import Clock
from securechat.client.conversations.conversation import Conversation
from securechat.identity.certificate import issue
from securechat.identity.statements import state
from securechat.ui.text.sentences import sentences
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryPerson, MemoryServer
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


def test_what_this_program_concludes_from_a_refusal_is_not_shown_as_the_servers_words(
    people: Callable[..., list[Person]],
) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.CreateRoom("#club"))
        settle(alice, bob)
    assert alice.state_of("#club") == "open"
    (refused,) = [event for event in bob.happened if isinstance(event, events.Refused)]
    assert refused.code == "local"
    (said,) = sentences(refused, None, "bob")
    assert said.text == "By the server's word there is a room #club already: its members can invite you."


@pytest.mark.parametrize("dated", ["statement", "certificate"])
@pytest.mark.parametrize("behind", [0, 3600, 2 * 86_400])
def test_who_dates_something_as_late_as_the_server_takes_it_shuts_nobody_out_whose_clock_is_a_bit_slow(
    server: MemoryServer, people: Callable[..., list[Person]], dated: str, behind: int
) -> None:
    alice, carol = people("alice", "carol")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice, carol)
    mallory = MemoryPerson(server, "mallory").register()
    latest = server.now // 1000 + 86_400
    if dated == "certificate":
        mallory.chain.append(
            issue(
                mallory.identity, server_id=server.store.server_id, account="mallory", device_id=mallory.device,
                signature_key=mallory.signature.public_key, not_before=latest, not_after=latest + 86_400,
            )
        )  # fmt: skip
    mallory.login(publish=False)
    assert isinstance(mallory.ask(wire.Publish, [mallory.certificate().encode()], [], b""), wire.Published)
    mallory.join("#lobby")
    settle(alice, carol)
    if dated == "statement":
        revocation = state(
            mallory.identity, mallory.head, "revoke", server_id=server.store.server_id, account="mallory", time=latest,
            key=mallory.signature.public_key, device_id=mallory.device,
        )  # fmt: skip
        assert isinstance(mallory.ask(wire.Publish, [revocation.encode()], [], b""), wire.Published)
    carol.clock = Clock(lambda: server.now / 1000 - behind, lambda: server.seconds)
    carol.stop()
    carol.start()
    carol.connect()
    carol.happened.clear()
    carol.do(commands.JoinRoom("#lobby"))
    for _ in range(200):
        if not (carol.push() or carol.pull()):
            break
    if behind > 86_400:
        assert carol.engine._registry.find("#lobby").row.phase == "joining"  # type: ignore[union-attr]  # it is there
        (told,) = carol.of(events.Delayed)
        assert "One of the clocks is wrong" in told.text  # type: ignore[attr-defined]  # its kind
        behind = 0  # it is set right
        server.advance(server.seconds + 60)
        carol.engine.handle_timer()
        carol.flush()
    settle(alice, carol)
    carol.say("#lobby", "I am in")
    settle(alice, carol)
    assert alice.texts("#lobby")[-1] == "carol: I am in"
    assert not [each for each in carol.happened if isinstance(each, events.Alarm) and each.kind != "time"]
