"""Many at once who want nothing good: each is got rid of in its time, and others get in and are served meanwhile."""

import contextlib
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import argon2
import pytest

from securechat.server.accounts import password_queue, passwords
from securechat.server.app import Server
from securechat.server.rate import Rate
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from securechat_lab.cast.wire_client import WAIT, Person, WireClient
from tests.support.waiting import wait_until

EACH = 40
"""Strangers of each kind."""

PING = encode_frame(m.Ping())


class Stranger:
    """A connection that says a little, byte by byte or not at all, and never what would get it further."""

    def __init__(self, server: Server, kind: str, tls: ssl.SSLContext) -> None:
        self.kind = kind
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)
        self._says: Iterator[bytes] = iter(())
        if kind == "drips":
            outgoing = ssl.MemoryBIO()
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1").do_handshake()
            self._says = iter([bytes([byte]) for byte in outgoing.read()])
        elif kind != "silent":
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
            if kind != "silent in TLS":
                self.socket.sendall(encode_frame(m.ClientHello([limits.PROTOCOL_VERSION], "test")))
            if kind == "pings":
                self._says = iter([PING] * 1_000_000)
        self.socket.settimeout(0)

    def speak(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(next(self._says, b""))

    @property
    def closed(self) -> bool:
        """Whether the server has ended the connection."""
        try:
            while self.socket.recv(1 << 14):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        return True


KINDS = ("silent", "drips", "silent in TLS", "silent after the hello", "pings")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that a test can wait for; the handshake's is short enough as it is."""
    monkeypatch.setattr(limits, "LOGIN_SECONDS", 6.0)


@pytest.mark.usefixtures("impatient")
def test_who_does_not_log_in_is_closed_at_the_deadline_whatever_it_says(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person]
) -> None:
    inside = enter("bob")
    strangers = [Stranger(server, kind, tls) for _ in range(EACH) for kind in KINDS]
    with Person(server.port, tls, "alice", source="127.0.0.2") as alice:
        alice.register().login()
        deadline = time.monotonic() + 60
        left = strangers
        with selectors.DefaultSelector() as selector:
            while left:
                assert time.monotonic() < deadline, sorted({stranger.kind for stranger in left})
                for stranger in left:
                    stranger.speak()
                left = [stranger for stranger in left if not stranger.closed]
                selector.select(0.05)
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        assert isinstance(inside.ask(m.ListRooms), m.Rooms)
    for stranger in strangers:
        stranger.socket.close()
    assert len(server._desk.newcomers) == 0


class Gate:
    """Holds up every comparison of a password while it is closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self.reached = 0  # comparisons that have come to it
        self.open = self._open.set
        self.close = self._open.clear
        self.open()
        verify = argon2.PasswordHasher.verify

        def wait(hasher: argon2.PasswordHasher, *args: str | bytes) -> bool:
            self.reached += 1
            assert self._open.wait(2 * WAIT)
            return verify(hasher, *args)

        monkeypatch.setattr(argon2.PasswordHasher, "verify", wait)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


def test_guesses_that_do_not_fit_into_the_queue_are_busy_at_once_and_keep_nobody_else_out(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person], gate: Gate
) -> None:
    alice = enter("alice")
    gate.close()
    room = passwords.WORKERS + password_queue.QUEUE
    with contextlib.ExitStack() as opened:
        guessers = [
            opened.enter_context(WireClient(server.port, tls, source=f"127.0.0.{number + 10}"))
            for number in range(room + 20)
        ]
        for number, guesser in enumerate(guessers[:room]):
            guesser.send(m.Login(1, f"nobody{number}", os.urandom(32), bytes(16)))
            deadline = time.monotonic() + WAIT
            while server.status().password_queue != max(number + 1 - passwords.WORKERS, 0):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        for guesser in guessers[room:]:  # nobody's work is done now, so what is answered is answered at once
            for _ in range(5):
                assert guesser.ask(m.Login, "alice", os.urandom(32), bytes(16)).code == "busy"
        assert server.status().password_queue == password_queue.QUEUE
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        alice.again().drop()  # by token: without a password
        known = opened.enter_context(Person(server.port, tls, "alice"))  # from where she has logged in before
        known.send(m.Login(1, "alice", alice.secret, known.device))
        while server.status().password_queue == password_queue.QUEUE:
            assert not known.pump(0.01), known.received
        gate.open()
        assert isinstance(known.take(m.Reply), m.LoggedIn)
        assert {guesser.take(m.Refused).code for guesser in guessers[:room]} == {"login-refused"}
        honest = opened.enter_context(Person(server.port, tls, "alice", source="127.0.0.2"))
        assert isinstance(honest.ask(m.Login, "alice", alice.secret, honest.device), m.LoggedIn)


# --- who waits for a password worker ---


def queue_of(server: Server) -> int:
    return server.status().password_queue


def test_right_passwords_of_one_account_keep_nobody_out(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person], gate: Gate
) -> None:
    mallory, bob = enter("mallory"), enter("bob")
    with contextlib.ExitStack() as opened:
        crowd = [opened.enter_context(Person(server.port, tls, "mallory")) for _ in range(26)]
        again = opened.enter_context(Person(server.port, tls, "bob", source="127.0.0.2"))
        gate.close()
        reached = gate.reached
        for number, each in enumerate(crowd, start=1):
            each.send(m.Login(1, "mallory", mallory.secret, os.urandom(16)))
            wait_until(lambda: gate.reached == reached + min(number, passwords.WORKERS))  # noqa: B023  # called at once
        places = password_queue.PER_ACCOUNT + passwords.WORKERS
        wait_until(lambda: answered(crowd) == 26 - places)
        again.send(m.Login(1, "bob", bob.secret, again.device))
        wait_until(lambda: queue_of(server) == password_queue.PER_ACCOUNT + 1)
        gate.open()
        assert isinstance(again.take(m.Reply), m.LoggedIn)
        codes = [getattr(each.take(m.Reply), "code", "in") for each in crowd]
        assert sorted(codes) == ["busy"] * (26 - places) + ["in"] * places


def answered(crowd: Sequence[WireClient]) -> int:
    """How many have a reply that they have not taken."""
    for client in crowd:
        client.pump(0.001)
    return sum(any(isinstance(each, m.Reply) for each in client.received) for client in crowd)


def test_one_address_gives_way_to_another_and_its_own_take_turns(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person], gate: Gate
) -> None:
    alice = enter("alice", source="127.0.0.2")
    with contextlib.ExitStack() as opened:
        room = passwords.WORKERS + password_queue.QUEUE
        crowd = [opened.enter_context(WireClient(server.port, tls, source="127.0.0.9")) for _ in range(room)]
        gate.close()
        reached = gate.reached
        for number, each in enumerate(crowd, start=1):  # the workers have theirs before the queue fills up
            each.send(m.Login(1, f"nobody{number}", os.urandom(32), bytes(16)))
            wait_until(lambda: gate.reached == reached + min(number, passwords.WORKERS))  # noqa: B023  # called at once
        wait_until(lambda: queue_of(server) == password_queue.QUEUE)
        late = opened.enter_context(Person(server.port, tls, "alice", source="127.0.0.3"))
        late.send(m.Login(1, "alice", alice.secret, late.device))
        wait_until(lambda: answered(crowd) == 1)
        assert queue_of(server) == password_queue.QUEUE
        gate.open()
        assert isinstance(late.take(m.Reply), m.LoggedIn)
        codes = [each.take(m.Refused).code for each in crowd]
        assert sorted(codes) == ["busy"] + ["login-refused"] * (room - 1)


def test_the_twin_a_class_of_sixty_behind_one_address_gets_in_at_once(server: Server, tls: ssl.SSLContext) -> None:
    with contextlib.ExitStack() as opened:
        pupils = [opened.enter_context(Person(server.port, tls, f"pupil{number}")) for number in range(60)]
        for step in (m.Register, m.Login):
            for pupil in pupils:
                more = (pupil.device,) if step is m.Login else ()
                pupil.send(step(pupil.protocol.next_id(), pupil.account, pupil.secret, *more))
            replies = [pupil.take(m.Reply) for pupil in pupils]
            assert not [reply for reply in replies if isinstance(reply, m.Refused)]
        assert all(isinstance(reply, m.LoggedIn) and not reply.place for reply in replies)


def test_who_has_gone_waits_no_more(server: Server, tls: ssl.SSLContext, gate: Gate) -> None:
    gate.close()
    crowd = [WireClient(server.port, tls) for _ in range(passwords.WORKERS + 10)]
    for number, each in enumerate(crowd):
        each.send(m.Login(1, f"nobody{number}", os.urandom(32), bytes(16)))
    wait_until(lambda: queue_of(server) == 10)
    for each in crowd:
        each.drop()
    wait_until(lambda: queue_of(server) == 0)


def test_what_was_not_tried_before_its_connection_was_lost_is_no_attempt(
    start: Callable[..., Server], tls: ssl.SSLContext, gate: Gate
) -> None:
    server = start(attempts_per_account=Rate(6, 0.001))
    with contextlib.ExitStack() as opened:
        alice = opened.enter_context(Person(server.port, tls, "alice")).register()
        gate.close()
        busy = [opened.enter_context(WireClient(server.port, tls)) for _ in range(passwords.WORKERS + 1)]
        for number, each in enumerate(busy):
            each.send(m.Login(1, f"nobody{number}", os.urandom(32), bytes(16)))
        wait_until(lambda: queue_of(server) == 1)
        for _ in range(4):  # a bad network: more than all attempts there are
            lost = [WireClient(server.port, tls) for _ in range(password_queue.PER_ACCOUNT)]
            for each in lost:
                each.send(m.Login(1, "alice", os.urandom(32), bytes(16)))
            wait_until(lambda: queue_of(server) == 1 + password_queue.PER_ACCOUNT)
            for each in lost:
                each.drop()
            wait_until(lambda: queue_of(server) == 1)
        gate.open()
        alice.login()
        guesser = opened.enter_context(WireClient(server.port, tls))  # the twin: what was tried counts
        codes = [guesser.ask(m.Login, "alice", os.urandom(32), bytes(16)).code for _ in range(8)]
        assert codes == ["login-refused"] * 6 + ["slow-down"] * 2


def test_right_passwords_have_a_rate_and_guesses_do_not_use_it_up(
    start: Callable[..., Server], tls: ssl.SSLContext
) -> None:
    server = start(logins_per_account=Rate(6, 0.001))
    with contextlib.ExitStack() as opened:
        alice = opened.enter_context(Person(server.port, tls, "alice")).register()
        guesser = opened.enter_context(WireClient(server.port, tls, source="127.0.0.9"))
        for _ in range(12):
            assert guesser.ask(m.Login, "alice", os.urandom(32), bytes(16)).code == "login-refused"
        for _ in range(6):
            again = opened.enter_context(Person(server.port, tls, "alice"))
            assert isinstance(again.ask(m.Login, "alice", alice.secret, os.urandom(16)), m.LoggedIn)
        refused = opened.enter_context(Person(server.port, tls, "alice")).ask(
            m.Login, "alice", alice.secret, os.urandom(16)
        )
        assert refused.code == "slow-down"
        assert refused.retry_after > 0
        assert "with its password" in refused.text


# --- one address, one account ---


def test_one_address_does_not_take_all_seats(start: Callable[..., Server], tls: ssl.SSLContext) -> None:
    server = start(max_clients=8)
    with contextlib.ExitStack() as opened:
        places = []
        for number in range(9):
            one = opened.enter_context(Person(server.port, tls, f"mallory{number}", source="127.0.0.9")).register()
            places.append(one.ask(m.Login, one.account, one.secret, one.device).place)
        assert places == [0, 0, 0, 0, 0, 0, 1, 2, 3]
        for number in range(2):
            honest = opened.enter_context(Person(server.port, tls, f"honest{number}")).register()
            assert honest.ask(m.Login, honest.account, honest.secret, honest.device).place == 0


def test_where_all_come_from_one_address_the_operator_lets_them_have_all_seats(
    start: Callable[..., Server], tls: ssl.SSLContext
) -> None:
    server = start(max_clients=8, max_clients_per_address=8)
    with contextlib.ExitStack() as opened:
        for number in range(8):
            one = opened.enter_context(Person(server.port, tls, f"user{number}")).register()
            assert one.ask(m.Login, one.account, one.secret, one.device).place == 0


def test_one_account_has_so_many_sessions_and_no_more(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securechat.server.sequencer.session.MAX_SESSIONS", 4)
    alice = enter("alice")
    with contextlib.ExitStack() as opened:
        others = [opened.enter_context(Person(server.port, tls, "alice")) for _ in range(4)]
        replies = [other.ask(m.Login, "alice", alice.secret, other.device) for other in others]
        assert [getattr(reply, "code", "in") for reply in replies] == ["in", "in", "in", "busy"]
        alice = alice.again()  # the twin: a device that has a session has it again
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        others[0].bye()
        wait_until(lambda: server.status().sessions == 3)
        reply = others[3].ask(m.Login, "alice", alice.secret, others[3].device)
        assert isinstance(reply, m.LoggedIn)
        assert server.status().sessions == 4
        alice.drop()


def test_one_address_does_not_make_all_accounts(start: Callable[..., Server], tls: ssl.SSLContext) -> None:
    server = start(accounts_per_address=Rate(3, 0.002))
    with WireClient(server.port, tls, source="127.0.0.9") as there, WireClient(server.port, tls) as here:
        replies = [there.ask(m.Register, f"mallory{number}", os.urandom(32)) for number in range(5)]
        assert [getattr(reply, "code", "made") for reply in replies] == ["made"] * 3 + ["slow-down"] * 2
        assert isinstance(here.ask(m.Register, "honest", os.urandom(32)), m.Registered)
