"""Many at once who want nothing good: each is got rid of in its time, and others get in and are served meanwhile."""

import contextlib
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import argon2
import pytest

from securechat.server.accounts import passwords
from securechat.server.app import Server
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from tests.support.wire_client import WAIT, Person, WireClient

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
        self.open = self._open.set
        self.close = self._open.clear
        self.open()
        verify = argon2.PasswordHasher.verify

        def wait(hasher: argon2.PasswordHasher, *args: str | bytes) -> bool:
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
    room = passwords.WORKERS + passwords.QUEUE
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
        assert server.status().password_queue == passwords.QUEUE
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        alice.again().drop()  # by token: without a password
        known = opened.enter_context(Person(server.port, tls, "alice"))  # from where she has logged in before
        known.send(m.Login(1, "alice", alice.secret, known.device))
        while server.status().password_queue == passwords.QUEUE:
            assert not known.pump(0.01), known.received
        gate.open()
        assert isinstance(known.take(m.Reply), m.LoggedIn)
        assert {guesser.take(m.Refused).code for guesser in guessers[:room]} == {"login-refused"}
        honest = opened.enter_context(Person(server.port, tls, "alice", source="127.0.0.2"))
        assert isinstance(honest.ask(m.Login, "alice", alice.secret, honest.device), m.LoggedIn)
