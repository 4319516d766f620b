"""The login: who may register, what is counted as tried, what an attempt costs and what the operator sees of it."""

import functools
import logging
import time
from collections.abc import Callable

import pytest

from securechat import files
from securechat.errors import RefusedError
from securechat.server.accounts.password_queue import PasswordQueue
from securechat.server.accounts.passwords import PasswordWorkers
from securechat.server.rate import Rate
from securechat.wire import messages as m
from securechat.wire.protocol import Ended
from tests.server.sequencer.test_own_sessions import NEW, logs_in, refused
from tests.support.log import logged
from tests.support.memory_server import MemoryClient, MemoryServer
from tests.support.memory_server import MemoryPerson as Person

Start = Callable[..., MemoryServer]


def test_an_invite_lets_in_where_nobody_else_is_let_in_and_is_no_guess(start: Start) -> None:
    server = start(registration="closed", attempts_per_address=Rate(1, 0.0001))
    with Person(server, "alice") as alice:
        code = server.accounts.create_invite("alice", 60).result().code
        for _ in range(3):
            assert isinstance(alice.ask(m.Register, "alice", alice.secret, code), m.Registered)
        for wrong in ("registration-closed", "slow-down"):
            refused(alice.ask(m.Register, "bob", alice.secret, code), wrong)


def test_registering_again_ends_no_session_and_a_password_that_was_reset_ends_all(server: MemoryServer) -> None:
    with Person(server, "alice") as alice, MemoryClient(server) as other:
        alice.register().login()
        assert isinstance(other.ask(m.Register, "alice", alice.secret), m.Registered)
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        code = server.accounts.create_invite("alice", 60).result().code
        assert isinstance(other.ask(m.Register, "alice", bytes(32), code), m.Registered)
        closing = alice.take(Ended).closing
        assert closing is not None
        assert closing.text == "the password was reset"


def test_below_the_disks_floor_nobody_new_is_registered_and_who_is_there_hears_so(server: MemoryServer) -> None:
    with Person(server, "alice") as alice, Person(server, "bob") as bob:
        alice.register()
        server.free = 0
        server.space.look()
        refused(bob.ask(m.Register, "bob", bob.secret), "disk-full")
        assert isinstance(alice.ask(m.Register, "alice", alice.secret), m.Registered)  # the answer was lost, perhaps


def test_new_accounts_of_an_address_are_counted_and_registering_again_makes_none(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise RefusedError("busy", "others wait")

    few = Rate(2, 0.0001)
    with Person(start(accounts_per_address=few), "alice") as alice:
        for _ in range(3):
            alice.register()
        assert isinstance(alice.ask(m.Register, "bob", alice.secret), m.Registered)
        refused(alice.ask(m.Register, "carol", alice.secret), "slow-down")
        with monkeypatch.context() as patched:
            patched.setattr(alice.server._workers, "_submit", full)
            refused(alice.ask(m.Register, "bob", alice.secret), "busy")  # which frees no place either
        refused(alice.ask(m.Register, "carol", alice.secret), "slow-down")


def test_registrations_of_an_address_are_counted(start: Start) -> None:
    with Person(start(registrations_per_address=Rate(2, 0.0001)), "alice") as alice:
        for _ in range(2):
            alice.register()
        refused(alice.ask(m.Register, "bob", alice.secret), "slow-down")


def test_guesses_at_a_code_are_counted(start: Start) -> None:
    few = Rate(2, 0.0001)
    with Person(start(registration="invite", invite_code="sesame", attempts_per_address=few), "alice") as alice:
        for _ in range(2):
            refused(alice.ask(m.Register, "alice", alice.secret, "wrong"), "registration-closed")
        refused(alice.ask(m.Register, "alice", alice.secret, "wrong"), "slow-down")


def test_who_guesses_all_the_time_fills_no_log(
    start: Callable[..., MemoryServer], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "securechat.server"), MemoryClient(
        start(attempts_per_account=Rate(2, 0.0001))
    ) as thief:
        for _ in range(4):
            assert isinstance(thief.ask(m.Login, "alice", bytes(32), bytes(16)), m.Refused)
    levels = [record.levelno for record in caplog.records if "'event': 'refused'" in record.getMessage()]
    assert levels == [logging.INFO] * 2 + [logging.DEBUG] * 2


def test_who_hangs_up_waits_for_no_worker_any_more(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    workers, waiting = server._workers, PasswordQueue()
    with monkeypatch.context() as patched, MemoryClient(server) as one, MemoryClient(server) as other:
        patched.setattr(workers, "_jobs", waiting)
        patched.setattr(workers, "_submit", functools.partial(PasswordWorkers._submit, workers))
        for client in (one, other):
            client.send(m.Login(client.protocol.next_id(), "alice", bytes(32), bytes(16)))
        assert len(waiting) == 2
        one.drop()
        assert len(waiting) == 1


def test_wrong_passwords_at_the_login_take_none_of_the_logins(start: Callable[..., MemoryServer]) -> None:
    with Person(start(logins_per_account=Rate(2, 0.0001)), "alice") as alice:
        alice.register()
        for _ in range(3):
            assert not logs_in(alice.server, "alice", NEW)
        assert logs_in(alice.server, "alice", alice.secret)


def test_who_has_logged_in_or_gone_is_no_newcomer_any_more(server: MemoryServer) -> None:
    newcomers = server.desk.newcomers
    with Person(server, "alice") as alice, MemoryClient(server) as stranger:
        for link in (alice.link, stranger.link):
            assert newcomers.enter(link.address, link) is None
        alice.register()
        assert len(newcomers) == 2
        alice.login()
        assert len(newcomers) == 1
    assert len(newcomers) == 0


def test_an_account_that_cannot_be_written_is_told_to_come_again(
    server: MemoryServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Person(server, "alice") as alice:
        with monkeypatch.context() as broken:
            broken.setattr(files, "sync_open", full)
            refused(alice.ask(m.Register, "alice", alice.secret), "disk-full")
        alice.register().login()
        with monkeypatch.context() as broken:
            broken.setattr(files, "sync_open", full)
            refused(alice.ask(m.ChangePassword, alice.secret, NEW), "disk-full")
            refused(alice.ask(m.DeleteAccount, alice.secret), "disk-full")
        assert logs_in(server, "alice", alice.secret)
    assert len(logged(caplog, "cannot store an account")) == 3


def test_guesses_by_registering_a_taken_name_take_none_of_the_logins(start: Start) -> None:
    with Person(start(logins_per_account=Rate(2, 0.0001)), "alice") as alice:
        alice.register()
        for _ in range(3):
            refused(alice.ask(m.Register, "alice", NEW), "name-taken")
        assert logs_in(alice.server, "alice", alice.secret)


def test_at_debug_each_request_is_named_and_who_made_it(server: MemoryServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "securechat.server"), Person(server, "alice") as alice:
        alice.register().login()
        alice.ask(m.ListRooms)
    told = [(line["request"], line["account"]) for line in logged(caplog, "request")]
    assert told[:2] == [("Register", ""), ("Login", "")]
    assert told[-1] == ("ListRooms", "alice")
    (closed,) = logged(caplog, "closed")
    assert closed["account"] == "alice"
    assert 0 <= closed["seconds"] < time.monotonic()


def test_what_an_account_asks_for_is_counted_on_all_its_devices(start: Start) -> None:
    with Person(start(requests_per_account=Rate(3, 0.0001)), "alice") as alice:
        alice.register().login(publish=False)
        other = Person(alice.server, "alice").login(publish=False)
        for person in (alice, other, alice):
            assert isinstance(person.ask(m.ListRooms), m.Rooms)
        for person in (alice, other):
            refused(person.ask(m.ListRooms), "slow-down")
        with Person(alice.server, "bob") as bob:
            bob.register().login(publish=False)
            assert isinstance(bob.ask(m.ListRooms), m.Rooms)


def test_a_name_that_nobody_may_have_is_refused_with_the_reason(server: MemoryServer) -> None:
    client = MemoryClient(server)
    for name, reason in (("a b", "space"), ("admin", "admin"), ("adrnin", "adrnin")):
        reply = client.ask(m.Register, name, NEW)
        refused(reply, "bad-request")
        assert reason in reply.text


def test_what_is_said_between_two_requests_is_heard_and_is_none(start: Start) -> None:
    with Person(start(requests_per_account=Rate(9, 0.0001)), "alice") as alice:
        alice.register().login()
        alice.open_room("#den")
        (room,) = alice.groups
        while not isinstance(alice.ask(m.ListRooms), m.Refused):
            pass
        said = alice.encrypt(room, "hello")
        for message in (m.ListRooms(alice.protocol.next_id()), said, m.ListRooms(alice.protocol.next_id())):
            alice.protocol.send(message)
        alice.flush()
        assert alice.take(m.Accepted).id == said.id


def test_a_password_that_was_checked_wakes_whoever_takes_turns(
    server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    monkeypatch.setattr(server.sequencer, "interrupt", lambda: woken.append(1))
    with Person(server, "alice") as alice:
        alice.register()
        assert not woken
        alice.login(publish=False)
    assert woken
