"""The password is at hand until the login is done, and afterwards only when it is asked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.password import login_secret
from securechat.client.password_source import PasswordSource
from securechat.client.unlocking import Unlocking
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.wrapping import Cost
from securechat.errors import UsageError
from securechat.wire import messages as wire
from tests.support.memory_server import AUTHORITY, Link, MemoryServer, refuse
from tests.support.people import PASSWORD, Person, only, settle

CHEAP = Cost(time=1, memory=8, lanes=1)
World = Callable[..., list[Person]]


@pytest.fixture
def key() -> IdentityKey:
    return IdentityKey.create("alice", bytearray(PASSWORD.encode()), CHEAP)


def at_hand(person: Person) -> bool:
    return person.engine._context.unlocking.at_hand


def move(person: Person) -> None:
    while person.push() or person.pull():
        pass


def without_tokens(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
    """The server has lost its tokens: from now on only passwords count, and it notes who comes with one."""
    if isinstance(message, wire.Resume):
        refuse(link, message, "token-refused")
        return []
    return [message]


# --- what waits for a password -------------------------------------------------------------------------------------


def test_work_is_done_at_once_while_the_password_is_at_hand(key: IdentityKey) -> None:
    told: list[events.Event] = []
    unlocking = Unlocking(PasswordSource.typed(PASSWORD), key, told.append)
    done = []

    def work() -> None:
        with unlocking.opened() as opened:
            done.append(opened.public)

    assert unlocking.at_hand
    unlocking.want("login", work)
    assert done == [key.public]
    assert told == []


def test_work_waits_is_asked_for_once_and_done_with_the_password(key: IdentityKey) -> None:
    told: list[events.Event] = []
    unlocking = Unlocking(PasswordSource.typed(PASSWORD), key, told.append)
    unlocking.settle()
    assert not unlocking.at_hand
    done: list[str] = []

    def work() -> None:
        with unlocking.opened() as outer, unlocking.opened() as inner:  # opened once for both
            assert inner is outer
            done.append("second")

    unlocking.want("login", lambda: done.append("first"))
    unlocking.want("login", work)  # in its place
    assert told == [events.PasswordWanted("login", "")]
    with pytest.raises(UsageError, match="does not open the identity key of alice"):
        unlocking.unlock("corect horse")
    assert not unlocking.at_hand
    assert done == []
    unlocking.unlock(PASSWORD)
    assert done == ["second"]
    assert not unlocking.at_hand  # and forgotten again
    unlocking.unlock(PASSWORD)
    assert done == ["second"]  # once


def test_a_password_file_is_asked_by_itself_and_a_person_only_if_it_does_not_help(
    key: IdentityKey, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    told: list[events.Event] = []
    unlocking = Unlocking(PasswordSource.in_file(file), key, told.append)
    unlocking.settle()
    done: list[bytes] = []

    def work() -> None:
        with unlocking.opened() as opened:
            done.append(opened.public)

    unlocking.want("login", work)
    assert (len(done), told) == (1, [])
    for change, problem in ((lambda: file.write_text("another"), "does not open"), (file.unlink, "cannot be read")):
        told.clear()
        change()
        unlocking.want("login", work)
        (wanted,) = told
        assert isinstance(wanted, events.PasswordWanted)
        assert problem in wanted.problem
        unlocking.unlock(PASSWORD)
    assert len(done) == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"another", "does not open"), (b"", "password"), (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * 9000, "too large"), (b"x" * 2000, "password"), (None, "cannot be read"),
    ],
)  # fmt: skip
def test_whatever_becomes_of_a_password_file_is_told_and_ends_nothing(
    key: IdentityKey, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    told: list[events.Event] = []
    unlocking = Unlocking(PasswordSource.in_file(file), key, told.append)
    done: list[bytes] = []

    def change() -> None:
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)

    def work() -> None:
        with unlocking.password() as password, unlocking.opened() as opened:
            done.append(opened.sign(bytes(password)))

    def change_and_work() -> None:
        change()
        work()

    unlocking.want("login", change_and_work)  # it was read before, and is not read again for the same work
    assert (len(done), told) == (1, [])
    unlocking.want("login", work)
    (wanted,) = told
    assert isinstance(wanted, events.PasswordWanted)
    assert problem in wanted.problem
    file.write_text(PASSWORD)
    unlocking.want("login", work)
    assert (len(done), len(told)) == (2, 1)


def test_work_that_fails_does_not_lose_what_waits_beside_it(key: IdentityKey) -> None:
    unlocking = Unlocking(PasswordSource.typed(PASSWORD), key, lambda _: None)
    unlocking.settle()
    done: list[str] = []
    trouble = [True]

    def fail() -> None:
        if trouble:
            raise UsageError("Not today.")
        done.append("first")

    unlocking.want("login", fail)
    unlocking.want("renewal", lambda: done.append("second"))
    with pytest.raises(UsageError, match="Not today"):
        unlocking.unlock(PASSWORD)
    with pytest.raises(UsageError, match="Not today"):  # tried again, behind the other
        unlocking.unlock(PASSWORD)
    assert done == ["second"]
    trouble.clear()
    unlocking.unlock(PASSWORD)
    unlocking.unlock(PASSWORD)
    assert done == ["second", "first"]  # each once


# --- a whole client -------------------------------------------------------------------------------------------------


def test_a_typed_password_is_forgotten_once_the_client_is_logged_in(people: World) -> None:
    (alice,) = people("alice")
    assert alice.of(events.LoggedIn)
    assert not at_hand(alice)
    alice.cut()
    alice.crash()
    assert at_hand(alice)  # typed again
    alice.connect()
    settle(alice)
    assert not at_hand(alice)


def test_a_refused_token_asks_for_the_password_and_the_login_goes_on(server: MemoryServer, people: World) -> None:
    (alice,) = people("alice")
    logins: list[bytes] = []

    def note(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.Login):
            logins.append(message.secret)
        return without_tokens(link, message)

    server.inward = note
    for _ in range(2):  # asked once, however often the connection is lost meanwhile
        alice.cut()
        alice.connect()
        move(alice)
    assert alice.of(events.PasswordWanted) == [events.PasswordWanted("login", "")]
    assert logins == []
    with pytest.raises(UsageError, match="does not open"):
        alice.do(commands.Unlock("corect horse"))
    move(alice)
    assert logins == []
    alice.do(commands.Unlock(PASSWORD))
    move(alice)
    device = alice.engine._context.device
    assert logins == [login_secret(bytearray(PASSWORD.encode()), device.row.server_id, "alice", AUTHORITY.pin)]


def test_a_password_that_is_given_while_there_is_no_connection_serves_the_next_one(
    server: MemoryServer, people: World
) -> None:
    (alice,) = people("alice")
    logins: list[wire.Login] = []

    def note(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.Login):
            logins.append(message)
        return without_tokens(link, message)

    server.inward = note
    alice.cut()
    alice.connect()
    move(alice)
    alice.cut()
    alice.do(commands.Unlock(PASSWORD))
    alice.connect()
    move(alice)
    assert len(logins) == 1
    assert alice.of(events.PasswordWanted) == [events.PasswordWanted("login", "")]


def test_a_command_with_a_password_does_not_show_it() -> None:
    assert "horse" not in repr(commands.Unlock(PASSWORD))


@pytest.mark.parametrize("content", [None, b"", b"\xff"])
def test_a_password_file_that_is_gone_at_the_first_contact_is_told_and_the_registration_waits(
    server: MemoryServer, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    alice = Person(server, tmp_path, "alice", file)
    alice.settings = replace(alice.settings, register=True)
    alice.stop()
    alice.start()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    alice.connect()
    move(alice)
    (wanted,) = alice.of(events.PasswordWanted)
    assert isinstance(wanted, events.PasswordWanted)
    assert wanted.problem
    assert not alice.of(events.LoggedIn)
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert alice.of(events.LoggedIn)
    alice.stop()


def test_who_starts_with_register_again_and_has_a_token_is_not_asked_for_the_password(people: World) -> None:
    (alice,) = people("alice")
    alice.settings = replace(alice.settings, register=True)
    alice.stop()
    alice.start()
    for _ in range(2):
        alice.connect()
        settle(alice)
        alice.cut()
    assert not alice.of(events.PasswordWanted)


@pytest.mark.parametrize("content", [None, b"", b"another one"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_password_file_that_is_gone_when_the_identity_key_is_replaced_is_told_and_that_waits(
    people: World, server: MemoryServer, tmp_path: Path, content: bytes | None, *, lost: bool
) -> None:
    (old,) = people("alice")
    old.cut()
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    (tmp_path / "new").mkdir()
    alice = Person(server, tmp_path / "new", "alice", file, new_identity=True)
    alice.connect()

    def change(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.LoggedIn):
            file.unlink(missing_ok=True) if content is None else file.write_bytes(content)
        return [message]

    only(alice, change)
    move(alice)
    (wanted,) = alice.of(events.PasswordWanted)
    assert isinstance(wanted, events.PasswordWanted)
    assert wanted.problem
    assert not alice.of(events.LoggedIn)
    if lost:
        alice.cut()
    alice.do(commands.Unlock(PASSWORD))
    if lost:
        assert len(alice.engine._context.device.chain) == 1  # nothing is signed for a connection that is gone
        alice.connect()
    settle(alice)
    assert alice.of(events.LoggedIn)
    assert server.store.directory.identity_key("alice") == alice.engine._context.device.identity_key
    alice.stop()
