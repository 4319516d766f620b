"""Rates against a real server: a burst passes; whatever exceeds it is told when to come again, and then passes.

Those of requests, registrations and codes are in `sequencer/test_login.py`.
"""

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.server.app import Server
from securechat.server.rate import Rate
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.scenes import happened
from securechat_lab.cast.wire_client import WAIT, Person, WireClient
from tests.support.live import LiveServer

Start = Callable[..., Server]

SLOW = Rate(3, 2)
"""Three at once, then one each half second."""

NEVER = Rate(3, 0.002)
"""Three at once, and the fourth after the test is over."""

DEVICE = bytes(16)  # of the guesser


def too_often(ask: Callable[[], m.Reply], *, honest: str) -> m.Refused:
    """Ask until that is too often; everything before must have the `honest` outcome. The refusal."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        reply = ask()
        if isinstance(reply, m.Refused) and reply.code == "slow-down":
            assert 0 < reply.retry_after <= 1000 / SLOW.per_second
            return reply
        assert (reply.code if isinstance(reply, m.Refused) else type(reply).__name__) == honest
    raise AssertionError("never refused")


def come_again(refused: m.Refused) -> None:
    time.sleep(refused.retry_after / 1000)


@pytest.fixture
def visit(tls: ssl.SSLContext) -> Iterator[Callable[..., Person]]:
    """Connect as somebody; closed at the end."""
    people: list[Person] = []

    def begin(server: Server, account: str, **options: str) -> Person:
        people.append(Person(server.port, tls, account, **options))
        return people[-1]

    yield begin
    for person in people:
        person.drop()


Visit = Callable[..., Person]


def guess(thief: WireClient, account: str) -> m.Refused:
    reply = thief.ask(m.Login, account, bytes(32), DEVICE)
    assert isinstance(reply, m.Refused)
    return reply


# --- attempts ---


def test_wrong_passwords_at_an_account(start: Start, visit: Visit) -> None:
    server = start(attempts_per_account=SLOW)
    alice, thief = visit(server, "alice").register(), visit(server, "thief")
    come_again(too_often(lambda: guess(thief, "alice"), honest="login-refused"))
    alice.login()


def test_wrong_passwords_from_an_address(start: Start, visit: Visit) -> None:
    server = start(attempts_per_address=SLOW)
    alice, thief = visit(server, "alice").register(), visit(server, "thief")
    numbers = iter(range(10_000))
    refused = too_often(lambda: guess(thief, f"account{next(numbers)}"), honest="login-refused")
    elsewhere = visit(server, "alice", source="127.0.0.2")
    elsewhere.login()
    come_again(refused)
    alice.login(publish=False)


def test_wrong_tokens_from_an_address(start: Start, visit: Visit) -> None:
    server = start(attempts_per_address=SLOW)
    alice, thief = visit(server, "alice").register().login(), visit(server, "thief")
    refused = too_often(lambda: thief.ask(m.Resume, os.urandom(32), DEVICE, bytes(64)), honest="token-refused")
    come_again(refused)
    alice.again().drop()


def test_a_right_token_with_wrong_proofs_is_tried_as_seldom(start: Start, visit: Visit) -> None:
    """Each one costs the server a signature's check."""
    server = start(attempts_per_address=SLOW)
    alice, thief = visit(server, "alice").register().login(), visit(server, "thief")
    refused = too_often(lambda: thief.ask(m.Resume, alice.token, alice.device, bytes(64)), honest="token-refused")
    come_again(refused)
    alice.again().drop()


def test_right_passwords_and_tokens_cost_nothing(start: Start, visit: Visit) -> None:
    server = start(attempts_per_account=NEVER, attempts_per_address=NEVER)
    alice = visit(server, "alice").register().login()
    for _ in range(2 * NEVER.burst):
        again = visit(server, "alice")
        again.device, again.signature = alice.device, alice.signature
        again.login(publish=False)
        again.again().drop()


def test_the_owner_gets_in_while_strangers_guess(start: Start, visit: Visit) -> None:
    server = start(attempts_per_account=NEVER)
    visit(server, "alice").register().login().drop()
    thief = visit(server, "thief", source="127.0.0.2")
    assert [guess(thief, "alice").code for _ in range(4)] == ["login-refused"] * 3 + ["slow-down"]
    visit(server, "alice").login(publish=False)
    assert guess(thief, "alice").code == "slow-down"


def test_the_twin_who_has_never_been_here_waits_with_the_strangers(start: Start, visit: Visit) -> None:
    server = start(attempts_per_account=NEVER)
    visit(server, "alice").register().drop()
    thief = visit(server, "thief", source="127.0.0.2")
    assert [guess(thief, "alice").code for _ in range(4)] == ["login-refused"] * 3 + ["slow-down"]
    alice = visit(server, "alice")
    assert alice.ask(m.Login, "alice", alice.secret, alice.device).code == "slow-down"


@pytest.mark.parametrize("name", ["alice", "nobody", "no body\n"])
def test_a_name_that_nobody_has_is_guessed_at_the_same_rate(start: Start, visit: Visit, name: str) -> None:
    server = start(attempts_per_account=NEVER)
    visit(server, "alice").register()
    thief = visit(server, "thief")
    assert [guess(thief, name).code for _ in range(4)] == ["login-refused"] * 3 + ["slow-down"]


def test_registering_a_taken_name_is_a_guess_at_its_password(start: Start, visit: Visit) -> None:
    server = start(attempts_per_account=NEVER)
    alice, thief = visit(server, "alice").register(), visit(server, "thief")
    for _ in range(2 * NEVER.burst):
        alice.register()  # with its own password: no guess
    codes = [thief.ask(m.Register, "alice", bytes(32)).code for _ in range(4)]
    assert codes == ["name-taken"] * 3 + ["slow-down"]
    assert guess(thief, "alice").code == "slow-down"


def test_a_login_with_a_former_secret_is_two_guesses(start: Start, visit: Visit) -> None:
    server = start(attempts_per_account=Rate(3, 0.001))
    alice = visit(server, "alice").register()

    def offer(former: bytes) -> object:
        return alice.ask(m.Login, "alice", bytes(32), alice.device, former).code

    assert offer(bytes(range(32))) == "login-refused"
    assert offer(alice.secret) == "slow-down"  # one is left, and two are needed
    assert isinstance(alice.ask(m.Login, "alice", alice.secret, alice.device), m.LoggedIn)  # and one is enough here


# --- accounts, messages ---


def test_new_accounts_from_an_address(start: Start, visit: Visit) -> None:
    server = start(registrations_per_address=SLOW)
    client = visit(server, "anybody")
    numbers = iter(range(10_000))
    refused = too_often(lambda: client.ask(m.Register, f"x{next(numbers)}", bytes(32)), honest="Registered")
    assert isinstance(visit(server, "y", source="127.0.0.2").ask(m.Register, "y", bytes(32)), m.Registered)
    come_again(refused)
    assert isinstance(client.ask(m.Register, "z", bytes(32)), m.Registered)


def say_too_often(alice: Person) -> tuple[m.Submit, m.Refused]:
    """Talk in a room until that is too often; the message that was refused, and its refusal."""
    alice.open_room("#den")
    (room,) = alice.groups
    while True:
        submit = alice.encrypt(room, "hello")
        alice.send(submit)
        reply = alice.take(m.Reply, lambda reply: reply.id == submit.id)  # noqa: B023  # called at once
        if isinstance(reply, m.Refused):
            assert reply.code == "slow-down"
            return submit, reply
        assert submit.number < 1000, "never refused"


def test_messages_of_an_account(start: Start, visit: Visit) -> None:
    server = start(submissions_per_account=SLOW)
    alice = visit(server, "alice").register().login()
    submit, refused = say_too_often(alice)
    assert 0 < refused.retry_after <= 500
    come_again(refused)
    alice.send(submit)  # under the number that was refused
    assert isinstance(alice.take(m.Reply), m.Accepted)


def test_messages_of_an_account_over_all_its_connections(start: Start, visit: Visit) -> None:
    server = start(submissions_per_account=NEVER)
    alice = visit(server, "alice").register().login()
    submit, _ = say_too_often(alice)
    again = alice.again()
    again.send(submit)
    assert again.take(m.Reply).code == "slow-down"  # type: ignore[attr-defined]  # a refusal, or this fails as it should
    again.drop()


# --- key packages ---


def test_key_packages_taken_by_an_account(start: Start, visit: Visit) -> None:
    server = start(fetches_per_account=SLOW)
    visit(server, "bob").register().login()
    alice, carol = (visit(server, name).register().login() for name in ("alice", "carol"))
    refused = too_often(lambda: alice.ask(m.FetchKeyPackages, "bob"), honest="KeyPackages")
    assert isinstance(carol.ask(m.FetchKeyPackages, "bob"), m.KeyPackages)
    come_again(refused)
    assert isinstance(alice.ask(m.FetchKeyPackages, "bob"), m.KeyPackages)


def test_nobody_uses_up_the_key_packages_of_somebody_and_nobody_is_refused_for_that(start: Start, visit: Visit) -> None:
    server = start(fetches_of_account=Rate(1, 0.002))
    bob = visit(server, "bob").register().login()
    last_resort = bob.key_package()
    stock = bob.ask(m.PublishKeyPackages, [bob.key_package() for _ in range(5)], last_resort)
    thief, alice = (visit(server, name).register().login() for name in ("thief", "alice"))
    assert thief.ask(m.FetchKeyPackages, "bob").key_packages != [last_resort]
    for _ in range(10):
        assert thief.ask(m.FetchKeyPackages, "bob").key_packages == [last_resort]
    assert alice.ask(m.FetchKeyPackages, "bob").key_packages == [last_resort]
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    assert bob.ask(m.PublishKeyPackages, [], b"").references == stock.references[1:]


# --- connections ---


def test_connections_from_an_address(start: Start, visit: Visit) -> None:
    server = start(connections_per_address=NEVER)
    first = visit(server, "alice").register()
    for name in ("bob", "carol"):
        visit(server, name)
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as unanswered:
        assert unanswered.recv(1) == b""
    visit(server, "dave", source="127.0.0.2")
    first.login()  # those who are in are not affected


# --- the real client ---


@pytest.fixture
def live() -> Iterator[Callable[[Path], LiveServer]]:
    """Start a server process; stopped at the end, however the test ends."""
    with contextlib.ExitStack() as servers:

        def begin(folder: Path) -> LiveServer:
            server = LiveServer(folder)
            servers.callback(server.stop)
            return server

        yield begin


Live = Callable[[Path], LiveServer]


def test_the_real_client_comes_again_when_it_is_told_to(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURECHAT_ATTEMPTS_PER_ACCOUNT", "1 + 1/s")
    monkeypatch.setenv("SECURECHAT_SUBMISSIONS_PER_ACCOUNT", "5 + 10/s")
    server = live(tmp_path)
    alice = LiveClient(server, "alice")
    alice.wait_for(events.Ready)
    alice.do(commands.JoinRoom("#den"))
    alice.wait_for(events.ConversationChanged, lambda event: event.change == "opened")
    said = [f"line {number}" for number in range(25)]
    for line in said:
        alice.say("#den", line)
    alice.wait_until(lambda: all(line.seq for line in alice.client.history(alice.id_of("#den"), 100)))
    assert alice.texts("#den") == [f"alice: {line}" for line in said]
    assert not happened(alice, events.Refused)
    alice.close()


def test_the_real_client_waits_out_a_flood_of_guesses_at_its_account(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURECHAT_ATTEMPTS_PER_ACCOUNT", "2 + 0.5/s")
    server = live(tmp_path)
    with WireClient(server.port, client_context(server.ca), source="127.0.0.2") as thief:
        alice = LiveClient(server, "alice", start=False)

        def is_refused() -> bool:
            while guess(thief, "alice").code != "slow-down":
                pass
            return any(isinstance(event, events.Disconnected) for event in alice.happened)

        alice.happened = []
        is_refused()
        alice.start()
        alice.wait_until(is_refused)
    assert "too many attempts at this account" in alice.wait_for(events.Disconnected).reason
    alice.wait_for(events.Ready)
    alice.close()
