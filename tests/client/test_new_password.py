"""A new password opens server, vault and identity key, and the old one nothing; cut off anywhere, one of them does."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from securechat.client import commands, events
from securechat.client.engine import Engine
from securechat.client.parts import Parts
from securechat.client.password import login_secret
from securechat.client.password_source import PasswordSource
from securechat.client.recovery_file import recovery_of
from securechat.client.vault import database
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import WrongPasswordError
from securechat.errors import UsageError
from securechat.files import write_atomically
from tests.client.test_killed_rotation import Killed, killed_at
from tests.support.memory_server import AUTHORITY, MemoryServer
from tests.support.people import CHEAP, PASSWORD, Person, opened, settle

World = Callable[..., list[Person]]

NEW = "glacier tulip harvest"
THIRD = "marble onion thursday"

def secret_of(server: MemoryServer, password: str, account: str = "alice") -> bytes:
    return login_secret(bytearray(password.encode()), server.store.server_id, account, AUTHORITY.pin)


def logs_in(server: MemoryServer, password: str, account: str = "alice") -> bool:
    """Whether the server takes a password."""
    found = server.accounts.get(account)
    assert found is not None
    try:
        server._workers._hasher.verify(found.hash, secret_of(server, password, account))
    except Exception:  # noqa: BLE001  # argon2's own
        return False
    return True


def restart(person: Person, password: str) -> None:
    """The process dies, and starts again with a password."""
    person.cut()
    person.vault._connection.close()
    person.vault._lock.close()
    begin(person, password)


def begin(person: Person, password: str) -> None:
    person.vault = Vault.open(person.path, person.name, PasswordSource.typed(password), cost=CHEAP)
    person.vault._connection.execute("PRAGMA synchronous = OFF")
    person.engine = Engine(person.settings, person.vault, parts=Parts(clock=person.clock))


def opens_all(person: Person, password: str) -> bool:
    """Whether a password opens vault and identity key, and gets in, whatever has to be finished for that.

    The vault is a copy's and the server the same, so that nothing of it lasts: only what the server has.
    """
    try:
        begin(person, password)
    except WrongPasswordError:
        return False
    person.happened.clear()
    person.connect()
    settle(person)
    return bool(person.of(events.LoggedIn))


# --- the change ---------------------------------------------------------------------------------------------------


def test_a_new_password_opens_everything_and_the_old_one_nothing(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.ChangePassword(PASSWORD, NEW))
    settle(alice, bob)
    (replaced,) = alice.of(events.PasswordReplaced)
    assert isinstance(replaced, events.PasswordReplaced)
    assert not replaced.file
    assert alice.of(events.Done)
    assert (logs_in(server, PASSWORD), logs_in(server, NEW)) == (False, True)
    with opened(alice.vault.device.load().identity, NEW):  # type: ignore[union-attr]  # there is one
        pass
    with pytest.raises(WrongPasswordError), opened(alice.vault.device.load().identity, PASSWORD):  # type: ignore[union-attr]  # as above
        pass
    with pytest.raises(WrongPasswordError):
        restart(alice, PASSWORD)
    alice.happened.clear()
    begin(alice, NEW)
    alice.connect()
    settle(alice)
    assert alice.of(events.LoggedIn) == [events.LoggedIn("alice", resumed=True)]  # by the token of the answer
    assert not alice.of(events.SecretReplaced)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (commands.ChangePassword("wrong one", NEW), "does not open the identity key"),
        (commands.ChangePassword(PASSWORD, PASSWORD), "the password that you have"),
        (commands.ChangePassword(PASSWORD, "Alice2024"), "too easy to guess"),
        (commands.ChangePassword(PASSWORD, ""), "password"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    people: World, server: MemoryServer, command: commands.ChangePassword, says: str
) -> None:
    (alice,) = people("alice")
    with pytest.raises(UsageError, match=says):
        alice.do(command)
    settle(alice)
    assert alice.vault.new_password.load() is None
    assert logs_in(server, PASSWORD)
    restart(alice, PASSWORD)


def test_without_a_connection_nothing_is_begun(people: World) -> None:
    (alice,) = people("alice")
    alice.cut()
    with pytest.raises(UsageError, match="no connection"):
        alice.do(commands.ChangePassword(PASSWORD, NEW))
    assert alice.vault.new_password.load() is None


def test_what_the_server_refuses_changes_nothing(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    name = "alice"
    account = server.accounts.get(name)
    assert account is not None
    server.accounts.replace_hash(name, account.hash, server._workers._hasher.hash(bytes(32))).result()
    alice.do(commands.ChangePassword(PASSWORD, NEW))
    settle(alice)
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert refused.code == "login-refused"
    assert alice.vault.new_password.load() is None
    restart(alice, PASSWORD)


def test_a_recovery_file_stays_good(people: World) -> None:
    (alice,) = people("alice")
    before = recovery_of(alice.vault, alice.settings).private if alice.vault.password.at_hand else None
    alice.do(commands.ChangePassword(PASSWORD, NEW))
    settle(alice)
    restart(alice, NEW)
    after = recovery_of(alice.vault, alice.settings)
    assert before in (None, after.private)
    assert after.public == alice.engine._context.device.identity_key


# --- on another device --------------------------------------------------------------------------------------------


def changed_elsewhere(server: MemoryServer, account: str = "alice", password: str = NEW) -> None:
    """Another device of the account changes its password, or a code of the operator does."""
    found = server.accounts.get(account)
    assert found is not None
    new = server._workers._hasher.hash(secret_of(server, password, account))
    server.accounts.change_password(account, found.hash, new, ca=AUTHORITY.pin.hex()).result()
    server.sequencer.expel(account, "the password was changed on another device")
    server.run()


def test_another_device_asks_for_the_new_password_and_takes_it_over(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    alice.cut()
    changed_elsewhere(server)
    restart(alice, PASSWORD)  # its vault has the old one
    alice.happened.clear()
    alice.connect()
    settle(alice)
    (wanted,) = alice.of(events.PasswordWanted)
    assert isinstance(wanted, events.PasswordWanted)
    assert wanted.why == "changed"
    alice.do(commands.TakePassword(THIRD))
    settle(alice)
    assert len(alice.of(events.PasswordWanted)) == 2  # that is not it
    alice.do(commands.TakePassword(NEW))
    settle(alice)
    assert alice.of(events.PasswordReplaced)
    assert alice.of(events.LoggedIn)
    with pytest.raises(WrongPasswordError):
        restart(alice, PASSWORD)
    begin(alice, NEW)
    alice.connect()
    settle(alice)


def test_nobody_gives_a_password_that_is_not_wanted(people: World) -> None:
    (alice,) = people("alice")
    with pytest.raises(UsageError, match="has not refused"):
        alice.do(commands.TakePassword(NEW))
    restart(alice, PASSWORD)


# --- cut off ------------------------------------------------------------------------------------------------------


def test_a_lost_answer_is_found_out(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    alice.do(commands.ChangePassword(PASSWORD, NEW))
    alice.flush()
    while alice.to_server:
        assert alice.link is not None
        alice.link.receive(alice.to_server.popleft())
    assert logs_in(server, NEW)
    restart(alice, PASSWORD)  # its answer was on the way
    alice.happened.clear()
    alice.connect()
    settle(alice)
    assert alice.of(events.PasswordReplaced)
    with pytest.raises(WrongPasswordError):
        restart(alice, PASSWORD)
    begin(alice, NEW)


def test_a_request_that_was_lost_is_made_again(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    alice.do(commands.ChangePassword(PASSWORD, NEW))
    alice.flush()
    alice.to_server.clear()
    alice.cut()
    assert logs_in(server, PASSWORD)
    alice.connect()
    settle(alice)
    assert alice.of(events.PasswordReplaced)
    assert (logs_in(server, PASSWORD), logs_in(server, NEW)) == (False, True)


@contextmanager
def files_too(number: int) -> Iterator[None]:
    """Die before or after the files are replaced as well: count them like a write each."""
    left = [number]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **named: Any) -> Any:
            if left[0] == 0:
                left[0] = -1
                raise Killed
            left[0] -= 1
            result = function(*values, **named)
            if left[0] == 0:
                left[0] = -1
                raise Killed
            left[0] -= 1
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "write_atomically", counted(write_atomically))
        yield


@pytest.mark.parametrize("where", ["vault", "files"])
def test_killed_at_any_write_exactly_one_password_opens_everything(
    people: World, server: MemoryServer, tmp_path: Path, where: str
) -> None:
    (alice,) = people("alice")
    killed, number, have, want = True, 0, PASSWORD, NEW
    seen = set()
    while killed:
        killed = False
        alice.happened.clear()
        try:
            with killed_at(alice, number) if where == "vault" else files_too(number):
                alice.do(commands.ChangePassword(have, want))
                settle(alice)
        except Killed:
            killed = True
            assert alice.link is not None
            alice.link.close()
            alice.link = None
            alice.to_server.clear()
        else:
            alice.cut()
        alice.vault._connection.close()
        alice.vault._lock.close()
        kept = tmp_path / f"kept {number}"
        kept.mkdir()
        for each in alice.path.parent.glob(f"{alice.path.name}*"):
            shutil.copy(each, kept)
        refused = []
        for password in (have, want):  # the vault first: what it does not open gets nowhere
            try:
                vault = Vault.open(kept / alice.path.name, "alice", PasswordSource.typed(password))
            except WrongPasswordError:
                refused.append(password)
                continue
            row = vault.device.load()
            assert row is not None
            with opened(row.identity, password):  # before it has ever been connected
                pass
            vault.close()
        assert len(refused) == 1, (number, refused)
        opens = want if have in refused else have
        assert opens_all(alice, opens), (number, opens)
        alice.cut()
        changed = logs_in(server, want)
        assert changed != logs_in(server, have)
        seen.add((opens == want, changed))
        alice.vault.close()
        begin(alice, now := want if changed else have)  # once it was in, it is the same password everywhere
        row = alice.vault.device.load()
        assert row is not None
        with opened(row.identity, now):
            pass
        alice.connect()
        settle(alice)
        if changed:
            have, want = want, have
        number += 1
    assert number > (8 if where == "vault" else 1)
    assert (False, False) in seen or where == "files"
    assert (True, True) in seen
