"""Sessions: logging in, seats, one session a device, catching up while others talk, slow readers, goodbyes."""

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from securechat.server.app import Server
from securechat.server.carrying import reactor
from securechat.server.carrying.connection import Connection
from securechat.server.sequencer import reading
from securechat.server.sequencer.operations import CommitChecked
from securechat.server.sequencer.session import Session
from securechat.server.store.records import READER_SECONDS
from securechat.wire import limits
from securechat.wire import messages as m
from tests.support.wire_client import Person

Enter = Callable[..., Person]
Start = Callable[..., Server]

PATIENCE = 60.0
"""Seconds until a test gives up waiting."""


def refused(reply: object, code: str) -> None:
    assert isinstance(reply, m.Refused), reply
    assert reply.code == code, reply


# --- logging in ---


def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(
    enter: Enter, connect: Callable[..., Person]
) -> None:
    enter("alice")
    client = connect()
    wrong = client.ask(m.Login, "alice", bytes(32), bytes(16))
    unknown = client.ask(m.Login, "nobody", bytes(32), bytes(16))
    refused(wrong, "login-refused")
    assert (wrong.code, wrong.text) == (unknown.code, unknown.text)


def test_registering_again_with_the_same_secret_succeeds_and_with_another_does_not(
    enter: Enter, connect: Callable[..., Person]
) -> None:
    alice = enter("alice")
    client = connect()
    assert isinstance(client.ask(m.Register, "alice", alice.secret), m.Registered)
    refused(client.ask(m.Register, "ALICE", bytes(32)), "name-taken")


@pytest.mark.parametrize(
    ("registration", "given", "code"),
    [("closed", "", "registration-closed"), ("invite", "wrong", "registration-closed"), ("invite", "sesame", None)],
)
def test_registration_is_as_the_operator_wants_it(
    start: Start, tls: ssl.SSLContext, registration: str, given: str, code: str | None
) -> None:
    server = start(registration=registration, invite_code="sesame" if registration == "invite" else "")
    with Person(server.port, tls, "alice") as alice:
        assert alice.hello.registration == registration
        reply = alice.ask(m.Register, "alice", alice.secret, given)
        if code is None:
            assert isinstance(reply, m.Registered)
        else:
            refused(reply, code)


def test_too_many_wrong_passwords_are_slowed_down(enter: Enter, connect: Callable[..., Person]) -> None:
    alice = enter("alice")
    client = connect()
    codes = [client.ask(m.Login, "alice", bytes(32), bytes(16)).code for _ in range(25)]
    assert codes[0] == "login-refused"
    assert codes[-1] == "slow-down"
    resumed = alice.again()  # a token needs no guessing
    resumed.drop()


def test_a_resume_token_is_for_its_device(enter: Enter, connect: Callable[..., Person]) -> None:
    alice = enter("alice")
    client = connect()
    refused(client.ask(m.Resume, alice.token, bytes(16)), "token-refused")
    refused(client.ask(m.Resume, bytes(32), alice.device), "token-refused")
    assert isinstance(client.ask(m.Resume, alice.token, alice.device), m.LoggedIn)


def test_a_device_that_is_not_published_can_only_publish(server: Server, tls: ssl.SSLContext) -> None:
    with Person(server.port, tls, "alice") as alice:
        alice.register().login(publish=False)
        assert not alice.protocol.allows(m.FetchKeyPackages)
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        refused(alice.ask(m.PublishKeyPackages, [alice.key_package()], b""), "not-now")
        alice.publish()
        assert alice.protocol.allows(m.FetchKeyPackages)


def test_another_identity_key_is_refused_unless_it_replaces_the_old_one(enter: Enter, tls: ssl.SSLContext) -> None:
    old = enter("alice")
    with Person(old.port, tls, "alice") as new:
        new.login(publish=False)
        refused(new.ask(m.PublishDevice, new.certificate().encode(), replace_identity=False), "identity-differs")
        assert isinstance(new.ask(m.PublishDevice, new.certificate().encode(), replace_identity=True), m.Done)
        closing = old.ended().closing
        assert closing is not None
        assert closing.reason == "revoked"
        with Person(old.port, tls, "alice") as again:
            refused(again.ask(m.Resume, old.token, old.device), "token-refused")


def test_a_second_device_of_the_same_identity_is_welcome(enter: Enter, tls: ssl.SSLContext) -> None:
    first, bob = enter("alice"), enter("bob")
    with Person(first.port, tls, "alice") as second:
        second.identity = first.identity
        second.login()
        assert len(bob.ask(m.FetchKeyPackages, "alice").key_packages) == 2


def test_a_certificate_of_somebody_else_is_refused(enter: Enter, tls: ssl.SSLContext) -> None:
    bob = enter("bob")
    with Person(bob.port, tls, "alice") as alice:
        alice.register().login(publish=False)
        refused(alice.ask(m.PublishDevice, bob.certificate().encode(), replace_identity=False), "bad-request")
        refused(alice.ask(m.PublishDevice, b"nonsense", replace_identity=False), "bad-request")


def test_the_device_id_of_somebody_else_is_refused(enter: Enter, tls: ssl.SSLContext) -> None:
    bob = enter("bob")
    with Person(bob.port, tls, "alice") as alice:
        alice.device = bob.device
        alice.register().login(publish=False)
        refused(alice.ask(m.PublishDevice, alice.certificate().encode(), replace_identity=False), "bad-request")


def test_a_second_login_of_a_device_ends_the_first_session(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    alice.open_direct("bob")
    conversation = bob.accept_welcome()
    alice.subscribe(conversation)
    second = alice.again()
    closing = alice.ended().closing
    assert closing is not None
    assert closing.reason == "replaced"
    second.subscribe(conversation)
    bob.say(conversation, "to the new one")
    assert second.read(conversation) == [(2, "to the new one")]
    second.drop()


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


def stop_validators(server: Server) -> threading.Event:
    """Let no commit be checked until the event is set."""
    validators, go_on = server._validators, threading.Event()
    for _ in validators._threads:
        validators.submit(lambda: None if go_on.wait(PATIENCE) else pytest.fail("nobody let the validators go on"))
    return go_on


@pytest.mark.parametrize(("who", "accepted"), [("alice", 0), ("bob", 1)])
def test_a_commit_that_is_still_checked_when_its_session_is_replaced_is_not_accepted(
    server: Server, enter: Enter, who: str, accepted: int
) -> None:
    handed_in = HandedIn(server)
    alice, bob, conversation = chat(enter)
    session = session_of(server, alice)
    go_on = stop_validators(server)
    staged = alice.make_commit(alice.groups[conversation])
    assert staged.group_info is not None
    commit = m.Commit(alice.protocol.next_id(), conversation, 2, staged.message, b"", staged.group_info)
    alice.send(commit)
    handed_in.wait_for(session, m.Commit)
    with {"alice": alice, "bob": bob}[who].again() as again:
        go_on.set()
        handed_in.wait_for(session, CommitChecked)
        assert again.subscribe(conversation, 1).head == 1 + accepted  # it is handled after what was handed in before
    if who == "bob":
        assert alice.take(m.Accepted).seq == 2


def test_a_member_whose_session_is_replaced_while_its_commit_is_checked_loses_its_lease(
    server: Server, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LEASE_SECONDS", PATIENCE)
    handed_in = HandedIn(server)
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    session = session_of(server, alice)
    carol.ask(m.Join, "#lobby")
    for _ in range(3):
        refused(alice.change(room), "leased")
    staged = alice.make_commit(alice.groups[room])
    assert staged.group_info is not None
    go_on = stop_validators(server)
    carol.bye()
    queue = server._sequencer._conversations.find(room, 0).lease_queue
    while queue.lease is None or queue.lease.device != alice.device:
        alice.ask(m.ListRooms)
    alice.send(m.Commit(alice.protocol.next_id(), room, 1, staged.message, b"", staged.group_info))
    handed_in.wait_for(session, m.Commit)
    with alice.again():
        go_on.set()
        handed_in.wait_for(session, CommitChecked)
        assert isinstance(bob.change(room), m.Accepted)


# --- the waiting room ---


def test_the_waiting_room_is_fair_and_says_each_place(start: Start, tls: ssl.SSLContext) -> None:
    server = start(max_clients=2)
    people = [Person(server.port, tls, name).register() for name in ("alice", "bob", "carol", "dave", "erin")]
    alice, bob, carol, dave, erin = people
    places = [person.ask(m.Login, person.account, person.secret, person.device).place for person in people]
    assert places == [0, 0, 1, 2, 3]
    assert not carol.protocol.allows(m.ListRooms)
    alice.bye()
    assert [person.take(m.Seat).place for person in (carol, dave, erin)] == [0, 1, 2]
    carol.publish()
    dave.bye()
    assert erin.take(m.Seat).place == 1
    bob.bye()
    assert erin.take(m.Seat).place == 0
    for person in people:
        person.drop()


def test_an_account_has_one_place_whatever_its_devices(start: Start, tls: ssl.SSLContext) -> None:
    server = start(max_clients=1)
    alice = Person(server.port, tls, "alice").register().login()
    first, second = (Person(server.port, tls, "bob") for _ in range(2))
    first.register()
    places = [person.ask(m.Login, "bob", person.secret, person.device).place for person in (first, second)]
    assert places == [1, 1]
    alice.bye()
    assert [person.take(m.Seat).place for person in (first, second)] == [0, 0]
    first.drop()
    second.drop()


def test_a_seat_is_kept_for_a_lost_connection_and_not_after_a_goodbye(start: Start, tls: ssl.SSLContext) -> None:
    server = start(max_clients=1)
    alice = Person(server.port, tls, "alice").register().login()
    bob = Person(server.port, tls, "bob").register()
    alice.drop()
    assert bob.ask(m.Login, "bob", bob.secret, bob.device).place == 1
    back = alice.again()  # comes back to its own seat, past those who wait
    assert isinstance(back.ask(m.ListRooms), m.Rooms)
    back.bye()
    assert bob.take(m.Seat).place == 0
    bob.drop()


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


def test_a_subscription_starts_where_it_is_asked_to(enter: Enter) -> None:
    alice, bob, conversation = chat(enter)
    pour(alice, conversation, ["one", "two", "three"])
    subscribed = bob.subscribe(conversation, 3)
    assert (subscribed.head, subscribed.last) == (4, 0)
    assert bob.take(m.Entry).seq == 4
    assert bob.subscribe(conversation, 2).head == 4  # again, from further back
    assert [bob.take(m.Entry).seq, bob.take(m.Entry).seq] == [3, 4]


def test_a_member_cannot_read_what_was_before_it(enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    for text in ("one", "two"):
        alice.say(room, text)
    bob = enter("bob")
    bob.join("#lobby")
    bob.subscribe(room, 0)
    alice.subscribe(room, 3 - 1)
    alice.process(alice.take(m.Entry))
    alice.say(room, "three")
    assert bob.take(m.Entry).seq == 4


def test_an_acknowledged_welcome_does_not_come_again(enter: Enter) -> None:
    _, bob, conversation = chat(enter)
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)  # the acknowledgement has been handled
    again = bob.again()
    again.read_inbox()
    assert isinstance(again.subscribe(conversation), m.Subscribed)
    assert isinstance(again.ask(m.ListRooms), m.Rooms)
    assert not [event for event in again.received if isinstance(event, m.Welcomed)]
    again.drop()


def test_of_letters_that_are_gone_the_reader_is_told(server: Server, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    with server._sequencer._lock:
        later = time.time_ns() // 1_000_000 + (READER_SECONDS + 1) * 1000
        while server._store.tidy(later)[1]:
            pass
    bob.read_inbox()
    assert bob.take(m.Message) == m.Truncated(bob.device, 2)


def test_a_welcome_waits_for_who_is_away(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.drop()
    opened = alice.open_direct("bob")
    alice.say(opened.conversation, "when you are back")
    back = bob.again()
    back.read_inbox()
    assert back.accept_welcome() == opened.conversation
    back.subscribe(opened.conversation)
    assert back.read(opened.conversation) == [(2, "when you are back")]
    back.drop()


def test_who_has_published_no_key_packages_yet_is_said_to_be_setting_up(enter: Enter, tls: ssl.SSLContext) -> None:
    bob = enter("bob")
    with Person(bob.port, tls, "alice") as alice:
        alice.ask(m.Register, "alice", alice.secret)
        alice.login(publish=False)
        refused(bob.ask(m.FetchKeyPackages, "alice"), "not-found")
        alice.ask(m.PublishDevice, alice.certificate().encode(), replace_identity=False)
        refused(bob.ask(m.FetchKeyPackages, "alice"), "busy")
