"""Conversations over real TLS with real MLS groups: what one says, the others read."""

import ssl
from collections.abc import Callable

import pytest

from securechat.server import app
from securechat.server.app import Server
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person

Enter = Callable[..., Person]


def test_two_people_talk(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    opened = alice.open_direct("bob")
    assert isinstance(opened, m.Accepted), opened
    assert (opened.seq, opened.number) == (1, 1)
    conversation = bob.accept_welcome()
    for person in (alice, bob):
        assert isinstance(person.subscribe(conversation), m.Subscribed)
    assert isinstance(alice.say(conversation, "hello"), m.Accepted)
    assert bob.read(conversation) == [(2, "hello")]
    assert isinstance(bob.say(conversation, "hi"), m.Accepted)
    assert alice.read(conversation) == [(3, "hi")]


def test_three_people_talk_in_an_open_room(enter: Enter) -> None:
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    assert isinstance(alice.open_room("#lobby"), m.Done)
    (room,) = alice.groups
    alice.subscribe(room)
    for person in (bob, carol):
        assert person.join("#lobby") == room
        person.subscribe(room)
    carol_says = carol.say(room, "hello all")
    assert isinstance(carol_says, m.Accepted)
    assert alice.read(room) == [(3, "hello all")]
    assert bob.read(room) == [(3, "hello all")]


def test_several_io_threads_share_the_turn(
    start: Callable[..., Server], tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "IO_THREADS", 3)
    server = start()
    people = [Person(server.port, tls, name).register().login() for name in ("alice", "bob", "carol", "dave")]
    people[0].open_room("#lobby")
    for person in people[1:]:
        person.join("#lobby")
    (room,) = people[0].groups
    for index, person in enumerate(people):
        person.subscribe(room)
        for _ in people[index + 1 :]:
            person.process(person.take(m.Entry))
    for person in people:
        for n in range(20):
            person.protocol.send(person.encrypt(room, f"{person.account} {n}"))
        person.flush()
    for person in people:
        read = person.read(room, 60)
        assert [seq for seq, _ in read] == sorted(seq for seq, _ in read)
        for other in people:
            if other is not person:
                said = [text for _, text in read if text.startswith(other.account)]
                assert said == [f"{other.account} {n}" for n in range(20)]
        person.drop()
