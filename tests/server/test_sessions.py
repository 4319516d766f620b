"""Sessions over real connections: guesses, one session a device, catching up while others talk, slow readers."""

import io
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from securechat.server.app import Server
from securechat.server.carrying import payer, reactor
from securechat.server.carrying.connection import Connection
from securechat.server.sequencer import reading
from securechat.server.sequencer.session import Session
from securechat.server.store.records import Membership
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person, WireClient

Enter = Callable[..., Person]
Start = Callable[..., Server]

PATIENCE = 60.0
"""Seconds until a test gives up waiting."""


def refused(reply: object, code: str) -> None:
    assert isinstance(reply, m.Refused), reply
    assert reply.code == code, reply


# --- addresses ---


@pytest.mark.parametrize("host", ["::", "127.0.0.1", "::1"])
@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no sockets of both families")
def test_a_server_is_reached_where_it_listens_and_at_all_addresses_by_both_families(
    start: Start, tls: ssl.SSLContext, log_without_secrets: io.StringIO, host: str
) -> None:
    server = start(host=host)
    for source in ("127.0.0.1", "::1"):
        if host in ("::", source):
            with WireClient(server.port, tls, source=source) as client:
                assert client.ask(m.Login, "nobody", bytes(32), bytes(16)).code == "login-refused"
        else:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((source, server.port), timeout=PATIENCE)
    seen = log_without_secrets.getvalue()
    assert ('"client": "127.0.0.1:' in seen) == (host != "::1")
    assert ('"client": "[::1]:' in seen) == (host != "127.0.0.1")


# --- logging in ---


def test_too_many_wrong_passwords_are_slowed_down(enter: Enter, connect: Callable[..., Person]) -> None:
    alice = enter("alice")
    client = connect()
    codes = [client.ask(m.Login, "alice", bytes(32), bytes(16)).code for _ in range(25)]
    assert codes[0] == "login-refused"
    assert codes[-1] == "slow-down"
    resumed = alice.again()  # a token needs no guessing
    resumed.drop()


class HandedIn(deque[tuple[Session | None, Any]]):
    """What is handed in to the sequencer, which also remembers what it has taken from it."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._ever: list[tuple[Session | None, Any]] = []
        self._more = threading.Condition()
        with server._sequencer._lock:
            server._sequencer._submissions = self

    def append(self, each: tuple[Session | None, Any]) -> None:
        super().append(each)
        with self._more:
            self._ever.append(each)
            self._more.notify_all()

    def wait_for(self, session: Session, kind: type) -> None:
        """Wait until something of a session has been handed in."""
        with self._more:
            assert self._more.wait_for(
                lambda: any(each is session and type(what) is kind for each, what in self._ever), PATIENCE
            )


def session_of(server: Server, person: Person) -> Session:
    session = server._sequencer._sessions.find(person.account, person.device)
    assert session is not None
    return session


@pytest.mark.parametrize(("who", "accepted"), [("alice", 0), ("bob", 1)])
def test_what_a_replaced_session_says_on_is_not_accepted(
    server: Server, enter: Enter, monkeypatch: pytest.MonkeyPatch, who: str, accepted: int
) -> None:
    """Its connection ends once it has taken what is on its way to it; until then it can say what it likes."""
    monkeypatch.setattr(reading, "FALL_BEHIND_BYTES", 64 << 10)
    handed_in = HandedIn(server)
    alice, bob = enter("alice", receive_buffer=4096), enter("bob")
    bob.read_inbox()
    alice.open_direct("bob")
    conversation = bob.accept_welcome()
    session = session_of(server, alice)
    connection = session.outlet
    assert isinstance(connection, Connection)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    alice.subscribe(conversation)
    pour(bob, conversation, ["x" * 60_000] * 20)  # more than the sockets take, and alice does not read
    with {"alice": alice, "bob": bob}[who].again() as again:
        assert connection._unsent
        alice.protocol.send(alice.encrypt(conversation, "still me"))
        alice.flush()
        handed_in.wait_for(session, list)
        assert again.subscribe(conversation, 21).head == 21 + accepted  # it is handled after what was handed in before
    if who == "alice":
        closing = alice.ended().closing
        assert closing is not None
        assert closing.reason == "replaced"
        assert not [event for event in alice.received if isinstance(event, m.Reply)]
    else:
        assert alice.take(m.Accepted).seq == 22


# --- reading ---


def chat(enter: Enter) -> tuple[Person, Person, bytes]:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    alice.open_direct("bob")
    return alice, bob, bob.accept_welcome()


def pour(person: Person, conversation: bytes, texts: list[str]) -> None:
    """Submit all of them, up to 64 at once, and take the replies."""
    waiting = list(texts)
    answered = 0
    while answered < len(texts):
        while waiting and person.protocol.in_flight < 64:
            person.protocol.send(person.encrypt(conversation, waiting.pop(0)))
        reply = person.take(m.Reply)
        assert isinstance(reply, m.Accepted), reply
        answered += 1


def test_catching_up_meets_live_delivery_without_gap_or_repeat(enter: Enter) -> None:
    alice, bob, conversation = chat(enter)
    count = 1500
    pour(alice, conversation, [str(n) for n in range(count)])
    rest = [str(count + n) for n in range(count)]
    more = threading.Thread(target=pour, daemon=True, args=(alice, conversation, rest))
    more.start()
    bob.subscribe(conversation)
    read = bob.read(conversation, 2 * count)
    more.join()
    assert read == [(2 + n, str(n)) for n in range(2 * count)]


def test_one_portion_of_history_follows_the_other_where_nothing_else_happens(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PORTION_ENTRIES", 8)
    monkeypatch.setattr(reading, "ON_THE_SPOT", 0)
    monkeypatch.setattr(reading, "FALL_BEHIND_BYTES", 100)  # a portion is more than a connection takes at once
    monkeypatch.setattr(reactor, "SWEEP_SECONDS", 3600.0)  # else that is what happens next
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    for n in range(50):
        assert isinstance(alice.say(room, str(n)), m.Accepted)
    bob.subscribe(room)
    assert [bob.take(m.Entry).seq for _ in range(50)] == [*range(2, 52)]


def test_a_sender_that_reads_gets_its_answer_in_the_place_of_its_entry(enter: Enter) -> None:
    alice, bob, conversation = chat(enter)
    alice.subscribe(conversation)
    bob.subscribe(conversation)
    other = threading.Thread(target=pour, daemon=True, args=(bob, conversation, ["b"] * 100))
    other.start()
    for _ in range(50):
        alice.protocol.send(alice.encrypt(conversation, "a"))
    alice.flush()
    seqs: list[int] = []
    while len(seqs) < 150:
        alice.pump()
        while alice.received:
            message = alice.received.pop(0)
            if isinstance(message, m.Presence):  # of bob, which comes when the server has nothing else to do
                continue
            assert isinstance(message, m.Entry | m.Accepted), message
            seqs.append(message.seq)
    other.join()
    assert seqs == [2 + n for n in range(150)]


def test_a_slow_reader_costs_no_memory_and_misses_nothing(
    server: Server, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FALL_BEHIND_BYTES", 64 << 10)
    alice, bob, conversation = chat(enter)
    slow = bob.again(receive_buffer=4096)
    slow.subscribe(conversation)
    count, size = 80, 60_000
    pour(alice, conversation, ["x" * size] * count)
    session = session_of(server, slow)
    assert session.outlet.backlog < 2 << 20 < count * size
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    assert [seq for seq, _ in slow.read(conversation, count)] == [2 + n for n in range(count)]
    slow.drop()


@pytest.mark.parametrize("crowded", [True, False])
def test_all_slow_readers_of_an_account_together_cost_no_more_memory_than_it_may(
    server: Server, enter: Enter, monkeypatch: pytest.MonkeyPatch, *, crowded: bool
) -> None:
    """Each may have half a megabyte waiting, and an account has 32 of them. They miss nothing."""
    if crowded:
        monkeypatch.setattr(payer, "HELD_BY_ANYBODY", 64 << 10)
        monkeypatch.setattr(payer, "MAX_UNREAD", 64 << 10)
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    bob.subscribe(room)
    slow = [bob.again(receive_buffer=4096)]
    for _ in range(3):
        other = Person(server.port, bob.context, "bob", receive_buffer=4096)
        other.identity, other.chain = bob.identity, slow[-1].chain
        slow.append(other.login())
        with server._sequencer._lock:
            kept = server._store.conversations
            kept.put_members(room, [Membership(other.device, "bob", 1, bytes(32), None, 1)])
            server._store.commit()
            server._sequencer._conversations.find(room, 0).reload(kept)
    connections = []
    for each in slow:
        each.subscribe(room, 1)
        connection = session_of(server, each).outlet
        assert isinstance(connection, Connection)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connections.append(connection)
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    count, size = 100, 8_000
    for _ in range(count):
        assert isinstance(alice.say(room, "x" * size), m.Accepted)
    held = sum(each.backlog for each in connections)
    assert (held < (64 << 10) + 4 * (reading.FEW_BYTES + 3 * size)) is crowded
    for each in slow:
        each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert [each.take(m.Entry).seq for _ in range(count)] == [2 + n for n in range(count)]
        each.drop()


def test_a_slow_reader_does_not_hold_up_the_others(enter: Enter) -> None:
    alice, bob, conversation = chat(enter)
    carol = enter("carol")
    carol.read_inbox()
    alice.open_direct("carol")
    other = carol.accept_welcome()
    carol.subscribe(other)
    slow = bob.again(receive_buffer=4096)
    slow.subscribe(conversation)
    pour(alice, conversation, ["x" * 60_000] * 60)
    pour(alice, other, ["quick"])
    assert carol.read(other) == [(2, "quick")]
    slow.drop()


