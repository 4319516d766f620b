"""Own sessions and passwords: each sees and ends its own, and a new password ends all others."""

import hashlib
import io
import os
from collections.abc import Callable

import pytest

from securechat.errors import RefusedError, SecurechatError, StorageError
from securechat.server.rate import Rate
from securechat.server.sequencer.operations import ForgetAccount
from securechat.server.sequencer.sequencer import FORGET_AGAIN_SECONDS
from securechat.server.sequencer.tokens import NOTED_MILLISECONDS
from securechat.server.store.port import DiskFullError
from securechat.server.store.records import StoredKeepsake
from securechat.wire import messages as m
from securechat.wire.protocol import Ended
from tests.support.log import logged
from tests.support.memory_server import MemoryClient, MemoryServer
from tests.support.memory_server import MemoryPerson as Person

Enter = Callable[..., Person]
NEW = hashlib.sha256(b"a new password").digest()


def refused(reply: object, code: str) -> None:
    assert isinstance(reply, m.Refused), reply
    assert reply.code == code, reply


def another(server: MemoryServer, of: Person) -> Person:
    """Another device of somebody's, under the same identity key."""
    second = Person(server, of.account)
    second.identity, second.chain = of.identity, of.chain
    return second.login(publish=False)


def closings(person: Person) -> list[str]:
    closing = person.take(Ended).closing
    return [] if closing is None else [closing.reason]


def resumes(server: MemoryServer, person: Person) -> bool:
    with MemoryClient(server) as client:
        return isinstance(client.ask(m.Resume, *person.credentials(client.channel)), m.LoggedIn)


def logs_in(server: MemoryServer, account: str, secret: bytes) -> bool:
    with MemoryClient(server) as client:
        return isinstance(client.ask(m.Login, account, secret, os.urandom(16)), m.LoggedIn)


# --- sessions -----------------------------------------------------------------------------------------------------


def test_somebody_sees_their_own_sessions_and_no_other_s(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    second = another(server, alice)
    server.now += NOTED_MILLISECONDS + 1
    before = server.now
    second.drop()
    alice.again()
    (mine, other) = alice.again().ask(m.FetchSessions).sessions
    assert (mine.device, mine.online, mine.used >= before) == (alice.device, True, True)
    assert (other.device, other.online, other.address) == (second.device, False, "")
    assert other.used <= before < other.expires
    assert [each.device for each in bob.ask(m.FetchSessions).sessions] == [bob.device]


def test_an_ended_session_is_told_and_does_not_come_back(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.again().ask(m.EndSession, bob.device)  # of somebody else: nothing
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)
    assert resumes(server, bob)
    second = Person(server, "alice")
    second.identity, second.chain = alice.identity, list(alice.chain)
    second.certify()
    second.login()
    first = alice.again()
    assert isinstance(first.ask(m.EndSession, second.device), m.Done)
    assert closings(second) == ["logged-out"]
    assert not resumes(server, second)
    assert isinstance(first.ask(m.EndSession, second.device), m.Done)  # the same again
    assert resumes(server, alice)


def test_who_ends_their_own_session_stays_until_they_go(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    assert isinstance(alice.ask(m.EndSession, alice.device), m.Done)
    assert isinstance(alice.ask(m.ListRooms), m.Rooms)
    refused(alice.ask(m.ExtendToken), "token-refused")
    assert not resumes(server, alice)
    assert logs_in(server, "alice", alice.secret)


# --- a new password -----------------------------------------------------------------------------------------------


def test_a_new_password_ends_all_other_sessions_and_tokens(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    second = another(server, alice)
    changed = alice.ask(m.ChangePassword, alice.secret, NEW)
    assert isinstance(changed, m.PasswordChanged)
    assert closings(second) == ["logged-out"]
    assert isinstance(alice.ask(m.ListRooms), m.Rooms)
    assert not resumes(server, second)
    assert not resumes(server, alice)  # by her old token
    alice.token = changed.token
    assert resumes(server, alice)
    assert not logs_in(server, "alice", alice.secret)
    assert logs_in(server, "alice", NEW)


def test_the_operator_can_see_what_became_of_an_account(
    server: MemoryServer, enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "securechat"):
        alice = enter("alice")
        second = another(server, alice)
        alice.ask(m.ChangePassword, alice.secret, NEW)
        closing = second.take(Ended).closing
        assert closing is not None
        assert closing.text == "the password was changed on another device"
        refused(alice.ask(m.DeleteAccount, alice.secret), "login-refused")
        assert isinstance(alice.ask(m.DeleteAccount, NEW), m.Done)
        closing = alice.take(Ended).closing
        assert closing is not None
        assert closing.text == "this account was deleted"
        refused(MemoryClient(server).ask(m.Login, "alice", NEW, alice.device), "login-refused")
        refused(MemoryClient(server).ask(m.Login, "my password", NEW, alice.device), "login-refused")
    told = [(line["event"], line["account"]) for line in logged(caplog) if "account" in line and "client" in line]
    for event in ("registered", "password changed", "account deleted by its owner", "closed"):
        assert told.count((event, "alice")) == (2 if event == "closed" else 1), event
    assert [account for event, account in told if event == "refused"] == ["alice", ""]  # never what is no name
    counted = server.desk.counters.logins()
    assert counted["register", "accepted"] == 1
    assert (counted["password", "accepted"], counted["password", "login-refused"]) == (2, 2)


def test_a_new_password_takes_the_old_one_and_a_token_is_none(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice").again()
    refused(alice.ask(m.ChangePassword, bytes(32), NEW), "login-refused")
    assert logs_in(server, "alice", alice.secret)
    assert isinstance(alice.ask(m.ChangePassword, alice.secret, NEW), m.PasswordChanged)


def test_the_same_change_again_succeeds(server: MemoryServer, enter: Enter) -> None:
    """Its answer may have been lost, or there was no room for the token."""
    alice = enter("alice")
    first = alice.ask(m.ChangePassword, alice.secret, NEW)
    again = alice.ask(m.ChangePassword, alice.secret, NEW)
    assert isinstance(again, m.PasswordChanged)
    alice.token = first.token
    assert not resumes(server, alice)
    alice.token = again.token
    assert resumes(server, alice)


def test_guesses_by_a_token_are_counted_twice(start: Callable[..., MemoryServer]) -> None:
    with Person(start(attempts_per_account=Rate(7, 0.0001)), "alice") as alice:
        alice.register().login()
        codes = [alice.ask(m.ChangePassword, bytes([n]) * 32, NEW).code for n in range(5)]
        assert codes == ["login-refused"] * 3 + ["slow-down"] * 2


def change(alice: Person, old: bytes, new: bytes) -> object:
    return alice.ask(m.ChangePassword, old, new)


def delete(alice: Person, old: bytes, new: bytes) -> object:
    del new
    return alice.ask(m.DeleteAccount, old)


BOTH = pytest.mark.parametrize("ask", [change, delete])
Ask = Callable[[Person, bytes, bytes], object]


@BOTH
def test_wrong_passwords_there_take_none_of_the_logins(start: Callable[..., MemoryServer], ask: Ask) -> None:
    with Person(start(logins_per_account=Rate(4, 0.0001)), "alice") as alice:
        alice.register().login()
        for n in range(6):
            refused(ask(alice, bytes([n]) * 32, bytes([n + 100]) * 32), "login-refused")
        assert logs_in(alice.server, "alice", alice.secret)


def test_who_is_told_that_the_password_changes_too_often_has_tried_none(start: Callable[..., MemoryServer]) -> None:
    few = Rate(5, 0.0001)
    with Person(start(password_changes_per_account=Rate(1, 0.0001), logins_per_account=few), "alice") as alice:
        alice.register().login()
        assert isinstance(change(alice, alice.secret, NEW), m.PasswordChanged)
        for _ in range(3):
            reply = change(alice, NEW, alice.secret)
            refused(reply, "slow-down")
            assert "changes its password too often" in reply.text  # type: ignore[attr-defined]  # a Refused
        assert logs_in(alice.server, "alice", NEW)


def test_guesses_at_the_password_that_is_to_change_are_changes_that_were_tried(
    start: Callable[..., MemoryServer],
) -> None:
    with Person(start(password_changes_per_account=Rate(2, 0.0001)), "alice") as alice:
        alice.register().login()
        for code in ("login-refused", "login-refused", "slow-down"):
            refused(change(alice, NEW, alice.secret[::-1]), code)


def test_who_deletes_an_account_has_not_guessed(start: Callable[..., MemoryServer]) -> None:
    server = start(attempts_per_address=Rate(2, 0.0001))
    with Person(server, "alice") as alice, MemoryClient(server) as other:
        alice.register().login()
        assert isinstance(delete(alice, alice.secret, b""), m.Done)
        for code in ("login-refused", "login-refused", "slow-down"):
            refused(other.ask(m.Login, "bob", NEW, bytes(16)), code)


def test_right_passwords_there_are_logins_and_no_guesses(start: Callable[..., MemoryServer]) -> None:
    few = start(logins_per_account=Rate(5, 0.0001), attempts_per_account=Rate(3, 0.0001))
    with Person(few, "alice") as alice:
        alice.register().login()
        old = alice.secret
        for new in (NEW, bytes(32)):
            assert isinstance(change(alice, old, new), m.PasswordChanged)
            old = new
        refused(delete(alice, old, b""), "slow-down")  # a login and two for each change: that was all
        assert few.desk.rates.logins.refused == 1
        assert few.desk.rates.attempts_by_account.refused == 0


@BOTH
def test_one_that_gives_way_there_costs_nothing(
    start: Callable[..., MemoryServer], monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    few = Rate(3, 0.0001)
    server = start(logins_per_account=few, attempts_per_account=few, password_changes_per_account=few)
    with Person(server, "alice") as alice:
        alice.register().login()
        with monkeypatch.context() as patched:
            # What the queue does with the newest job of whoever has most.
            busy = RefusedError("busy", "others wait")
            patched.setattr(server._workers, "_submit", lambda job, *_args, **_options: job.refuse(busy))
            for _ in range(4):
                refused(ask(alice, alice.secret, NEW), "busy")
        assert not isinstance(ask(alice, alice.secret, NEW), m.Refused)


@pytest.mark.parametrize("what", ["register", "log in", "change", "delete"])
def test_who_finds_the_queue_full_has_tried_nothing(
    start: Callable[..., MemoryServer], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    few = Rate(3, 0.0001)
    counted = ("logins_per_account", "attempts_per_account", "attempts_per_address", "password_changes_per_account",
               "registrations_per_address", "accounts_per_address")  # fmt: skip
    server = start(**dict.fromkeys(counted, few))
    with Person(server, "alice") as alice, MemoryClient(server) as other:
        alice.register().login()
        ask: dict[str, Callable[[], object]] = {
            "register": lambda: other.ask(m.Register, "bob", NEW),
            "log in": lambda: other.ask(m.Login, "alice", alice.secret, alice.device, NEW),
            "change": lambda: change(alice, alice.secret, NEW),
            "delete": lambda: delete(alice, alice.secret, NEW),
        }

        def full(*_args: object, **_options: object) -> None:
            raise RefusedError("busy", "others wait")

        with monkeypatch.context() as patched:
            patched.setattr(server._workers, "_submit", full)
            for _ in range(4):
                refused(ask[what](), "busy")
        assert not isinstance(ask[what](), m.Refused)


def test_without_room_for_a_token_the_change_can_be_repeated(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = enter("alice")
    second = another(server, alice)

    def full() -> None:
        raise DiskFullError("full")

    with monkeypatch.context() as patched:
        patched.setattr(server.store, "commit", full)
        refused(alice.ask(m.ChangePassword, alice.secret, NEW), "disk-full")
    assert closings(second) == ["logged-out"]
    assert isinstance(alice.ask(m.ChangePassword, alice.secret, NEW), m.PasswordChanged)
    assert not logs_in(server, "alice", alice.secret)


def left_of(server: MemoryServer, account: str) -> list[object]:
    store = server.store
    return [*store.tokens.of(account), *store.directory.devices(account), *store.conversations.of_account(account)]


@pytest.mark.parametrize("by_the_operator", [False, True])
def test_a_deleted_account_is_forgotten_once_there_is_room(
    server: MemoryServer,
    enter: Enter,
    monkeypatch: pytest.MonkeyPatch,
    log_without_secrets: io.StringIO,
    *,
    by_the_operator: bool,
) -> None:
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_room("#den"), m.Done)

    def full() -> None:
        raise DiskFullError("full")

    answers: list[SecurechatError | None] = []
    with monkeypatch.context() as patched:
        patched.setattr(server.store, "commit", full)
        if by_the_operator:
            server.accounts.delete("alice").result()
            server.sequencer.operate(ForgetAccount("alice", answers.append))
            server.run()
            assert list(map(type, answers)) == [StorageError]
        else:
            assert isinstance(alice.ask(m.DeleteAccount, alice.secret), m.Done)
    assert "a deleted account is not forgotten yet" in log_without_secrets.getvalue()
    server.tidy()
    server.run()
    assert left_of(server, "alice")  # not each second: it is not yet time
    server.seconds += FORGET_AGAIN_SECONDS + 1
    server.tidy()
    server.run()
    assert left_of(server, "alice") == []
    assert len(answers) == by_the_operator
    assert left_of(server, "bob")
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)


def test_a_start_finds_the_keepsake_of_a_deleted_account(server: MemoryServer) -> None:
    for name in ("alice", "bob"):
        server.store.keepsakes.put(name, StoredKeepsake(bytes(32), 1, bytes(100)))
    server.store.commit()
    server.sequencer.finish_deletions(["alice"])
    server.run()
    assert server.store.keepsakes.find("alice") is None
    assert server.store.keepsakes.find("bob") is not None


def test_passwords_are_changed_so_often_and_no_more(start: Callable[..., MemoryServer]) -> None:
    with Person(start(password_changes_per_account=Rate(2, 0.002)), "alice") as alice:
        alice.register().login()
        new = [bytes([n]) * 32 for n in range(3)]
        before = alice.secret
        for each in new[:2]:
            assert isinstance(alice.ask(m.ChangePassword, before, each), m.PasswordChanged)
            before = each
        reply = alice.ask(m.ChangePassword, before, new[2])
        refused(reply, "slow-down")
        assert 0 < reply.retry_after <= 600_000
        with Person(alice.server, "bob") as bob:  # whose budget it was not
            bob.register().login()
            assert isinstance(bob.ask(m.ChangePassword, bob.secret, new[2]), m.PasswordChanged)


def test_a_disabled_account_changes_nothing(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    server.accounts.set_enabled("alice", enabled=False).result()
    refused(alice.ask(m.ChangePassword, alice.secret, NEW), "login-refused")
    server.accounts.set_enabled("alice", enabled=True).result()
    assert logs_in(server, "alice", alice.secret)
