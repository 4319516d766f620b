"""Clients of other versions of the protocol: each is served, or told why not, and nobody else is hurt."""

from collections.abc import Callable, Iterator

import msgspec
import pytest

from securechat.transport.tls import client_context
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person
from tests.support.live import LiveServer

Enter = Callable[..., Person]


@pytest.fixture
def enter(server: LiveServer) -> Iterator[Enter]:
    people: list[Person] = []

    def begin(name: str, **options: object) -> Person:
        people.append(Person(server.port, client_context(server.ca), name, **options))
        return people[-1]

    yield begin
    for person in people:
        person.drop()


def frame(*fields: object) -> bytes:
    body = msgspec.msgpack.encode(fields)
    return len(body).to_bytes(4, "big") + body


def test_clients_that_speak_a_newer_version_too_talk_with_those_that_do_not(enter: Enter) -> None:
    alice = enter("alice").register().login()
    bob = enter("bob", versions=[2, limits.PROTOCOL_VERSION, 4_000_000_000]).register().login()
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    conversation = bob.accept_welcome()
    bob.subscribe(conversation)
    alice.say(conversation, "hello")
    assert bob.read(conversation) == [(2, "hello")]


def test_a_client_of_newer_versions_only_is_told_which_one_there_is(enter: Enter) -> None:
    alice = enter("alice").register().login()
    closing = enter("bob", versions=[2, 3]).ended().closing
    assert closing == m.Closing("protocol-error", "no common protocol version; this server speaks [1]")
    assert isinstance(alice.ask(m.ListRooms), m.Rooms)


def test_a_request_of_a_newer_version_is_refused_and_the_session_goes_on(enter: Enter) -> None:
    alice = enter("alice").register().login()
    alice.protocol._in_flight[4_000_000] = m.ListRooms  # so that our own machine takes the reply
    alice.send_raw(frame("Teleport", 4_000_000, {"to": [b"moon"]}, None))
    reply = alice.take(m.Refused)
    assert (reply.id, reply.code) == (4_000_000, "unknown-message")
    assert isinstance(alice.ask(m.ListRooms), m.Rooms)


@pytest.mark.parametrize("message", [("ListRooms", 7, "and more"), ("ListRooms",), ("ListRooms", "seven")])
def test_a_known_message_of_another_form_ends_its_session_and_no_other(
    enter: Enter, message: tuple[object, ...]
) -> None:
    """Versions agree on the form of a message: a new field comes with a new version, so here is something broken."""
    alice, bob = enter("alice").register().login(), enter("bob").register().login()
    alice.send_raw(frame(*message))
    closing = alice.ended().closing
    assert closing is not None
    assert closing.reason == "protocol-error"
    assert "a damaged ListRooms" in closing.text
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)
