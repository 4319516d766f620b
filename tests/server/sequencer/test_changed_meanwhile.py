"""What was true when another thread looked is compared again in the turn that acts on it: it may have changed.

A worker is held, the fact changes, the worker goes on.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from securechat.mls.proposals import Remove
from securechat.policy import departure_data
from securechat.server.sequencer.operations import Speak, SpeakReady
from securechat.server.sequencer.session import Session
from securechat.wire import messages as m
from tests.server.sequencer.test_coming_and_going import refused
from tests.server.sequencer.test_keepsakes import keepsake
from tests.support.memory_server import MemoryClient, MemoryServer
from tests.support.memory_server import MemoryPerson as Person

Enter = Callable[..., Person]

OTHER_CA = "0c" * 32


# --- an account, between a password that was right and the login ---


def reset(server: MemoryServer) -> None:
    made = server.accounts.create_invite("alice", 3600).result()
    server.accounts.reset("alice", server._workers._hasher.hash(os.urandom(32)), made.code).result()


def disable(server: MemoryServer) -> None:
    server.accounts.set_enabled("alice", enabled=False).result()


def disable_and_enable(server: MemoryServer) -> None:
    disable(server)
    server.accounts.set_enabled("alice", enabled=True).result()


CHANGES = {"reset": reset, "disabled": disable, "disabled and enabled": disable_and_enable}


class HeldHasher:
    """The worker's own, held between comparing a secret and what it does with the answer."""

    def __init__(self, server: MemoryServer, change: Callable[[MemoryServer], None]) -> None:
        self._server, self._hasher, self._change = server, server._workers._hasher, change

    def verify(self, *fields: Any) -> bool:
        return self._hasher.verify(*fields)

    def check_needs_rehash(self, found: str) -> bool:
        self._happen()
        return self._hasher.check_needs_rehash(found)

    def hash(self, secret: bytes) -> str:
        self._happen()
        return self._hasher.hash(secret)

    def _happen(self) -> None:
        self._server._workers._hasher = self._hasher
        self._change(self._server)


@pytest.mark.parametrize("former", [False, True], ids=["password", "former CA's secret"])
@pytest.mark.parametrize("change", [None, *CHANGES])
def test_who_was_right_about_a_password_that_is_another_by_now_is_not_let_in(
    server: MemoryServer, enter: Enter, change: str | None, *, former: bool
) -> None:
    alice = enter("alice")
    alice.bye()
    secret, more = alice.secret, {}
    if former:
        server._workers.ca = OTHER_CA
        secret, more = os.urandom(32), {"former": alice.secret}
    if change is not None:
        server._workers._hasher = HeldHasher(server, CHANGES[change])  # type: ignore[assignment]  # what is used of it
    with MemoryClient(server) as thief:
        reply = thief.ask(m.Login, "alice", secret, os.urandom(16), **more)
        if change is None:
            assert isinstance(reply, m.LoggedIn)
        else:
            refused(reply, "login-refused")
    assert server.sequencer.sessions == 0


@pytest.mark.parametrize("change", [None, "reset", "disabled"])
def test_who_was_right_about_a_password_that_is_another_by_now_deletes_nothing(
    server: MemoryServer, enter: Enter, change: str | None
) -> None:
    alice = enter("alice")
    hasher = server._workers._hasher

    class Held:
        """Compares, and lets the fact change after it."""

        def verify(self, *fields: Any) -> bool:
            right = hasher.verify(*fields)
            server._workers._hasher = hasher
            if change is not None:
                CHANGES[change](server)
            return right

    server._workers._hasher = Held()  # type: ignore[assignment]  # what is used of it
    reply = alice.ask(m.DeleteAccount, alice.secret)
    account = server.accounts.get("alice")
    assert account is not None
    if change is None:
        assert isinstance(reply, m.Done)
        assert account.deleted
    else:
        refused(reply, "login-refused")
        assert not account.deleted


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "kept"])
def test_what_is_checked_while_the_owner_deletes_the_account_leaves_nothing(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, *, deleted: bool
) -> None:
    """The checks end in the turn that forgets the account, after it."""
    alice = enter("alice")
    alice.rotate()
    with server.slow_checks():
        alice.send(m.Publish(alice.protocol.next_id(), alice.unpublished(), [alice.key_package()], alice.key_package()))
        alice.send(m.PutKeepsake(alice.protocol.next_id(), keepsake(alice, 1).encode()))
    with monkeypatch.context() as patch:
        patch.setattr(server, "run", lambda: None)
        if deleted:
            alice.send(m.DeleteAccount(alice.protocol.next_id(), alice.secret))
        server._checks.finish()
        server._checks.run()
    server.run()
    account = server.accounts.get("alice")
    assert account is not None
    assert bool(account.deleted) is deleted
    assert len(server.store.directory.devices("alice")) == (not deleted)
    assert bool(server.store.directory.key_packages(alice.device)) is not deleted
    assert (server.store.keepsakes.find("alice") is None) is deleted
    assert isinstance(alice.take(m.Reply), m.Done if deleted else m.Published)


# --- an account, while a request of it is checked ---


def _commit(alice: Person, room: bytes) -> None:
    alice.change(room)


def _leave(alice: Person, room: bytes) -> None:
    alice.leave(room)


def _invite(alice: Person, room: bytes) -> None:
    alice.change(room, *alice.adds("bob"))


def _open_room(alice: Person, _: bytes) -> None:
    alice.open_room("#other")


def _open_direct(alice: Person, _: bytes) -> None:
    alice.open_direct("bob")


def _publish(alice: Person, _: bytes) -> None:
    alice.rotate()
    alice.publish()


def _key_packages(alice: Person, _: bytes) -> None:
    alice.ask(m.PublishKeyPackages, [alice.key_package()], b"")


def _keepsake(alice: Person, _: bytes) -> None:
    alice.ask(m.PutKeepsake, keepsake(alice, 1).encode())


def _enter(alice: Person, _: bytes) -> None:
    alice.join("#lobby")


PENDING = (_commit, _leave, _invite, _open_room, _open_direct, _publish, _key_packages, _keepsake, _enter)


def contents(server: MemoryServer) -> dict[str, list[Any]]:
    """All that the store has, but for key packages that were handed out."""
    rows = server.store._writer.rows
    tables = [name for (name,) in rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: rows(f"SELECT * FROM {name}") for name in tables}  # noqa: S608 - its own names


@pytest.mark.parametrize("disabled", [True, False])
@pytest.mark.parametrize("pending", PENDING)
def test_what_is_still_checked_for_an_account_that_is_disabled_is_not_done(
    server: MemoryServer, enter: Enter, pending: Callable[[Person, bytes], None], *, disabled: bool
) -> None:
    alice = enter("alice")
    bob = enter("bob")
    bob.open_room("#lobby")
    alice.open_room("#team", "invite")
    (room,) = alice.groups
    with server.slow_checks(), pytest.raises(AssertionError, match="nothing more comes"):
        pending(alice, room)
    before = contents(server)
    if disabled:
        disable(server)
        server.sequencer.expel("alice", "this account has been disabled by the operator")
        server.run()
        assert alice.ended().closing == m.Closing("logged-out", "this account has been disabled by the operator")
    assert server.finish_checks()
    assert (contents(server) == before) == disabled


@pytest.mark.parametrize("disabled", [True, False])
@pytest.mark.parametrize("kind", [m.Acknowledge, m.ListRooms], ids=["writes", "reads"])
def test_of_a_flood_nothing_more_is_done_once_its_account_is_disabled(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, kind: type, *, disabled: bool
) -> None:
    """However much of it waits, in a turn that has begun already: the operator is before all of it."""
    alice, bob = enter("alice"), enter("bob")
    which = list if kind is m.Acknowledge else kind
    table = server.sequencer._writing if which is list else server.sequencer._reading_only
    handle, done = table[which], list[str]()

    def handle_and_count(session: Session, operation: object) -> None:
        done.append(session.account)
        handle(session, operation)
        if done.count("alice") == 3 and disabled:
            server.sequencer.expel("alice", "this account has been disabled by the operator")  # another thread does so

    monkeypatch.setitem(table, which, handle_and_count)
    with monkeypatch.context() as patched:
        patched.setattr(server, "run", lambda: None)
        for number in range(50):
            for person in (alice, bob):
                person.link.receive(m.Acknowledge(bytes(32), 1) if which is list else m.ListRooms(5000 + number))
    server.run()
    assert (done.count("alice"), done.count("bob")) == (3 if disabled else 50, 50)
    assert alice.link.open is not disabled
    assert bob.link.open
    if disabled:
        assert alice.ended().closing == m.Closing("logged-out", "this account has been disabled by the operator")


# --- an account that is disabled, and others ---


def test_nobody_is_added_whose_account_is_disabled(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.open_room("#team", "invite")
    (room,) = bob.groups
    fetched, for_direct = bob.adds("alice"), bob.adds("alice")
    disable(server)
    refused(bob.ask(m.FetchKeyPackages, "alice"), "not-found")
    for reply in (bob.change(room, *fetched), bob.open_direct("alice", adds=for_direct)):
        refused(reply, "invalid-commit")
        assert "disabled the account alice" in reply.text
    assert server.store.inboxes.newest(alice.device) == 0
    assert isinstance(bob.change(room), m.Accepted)  # everything else goes on
    server.accounts.set_enabled("alice", enabled=True).result()  # the twin
    assert isinstance(bob.change(room, *fetched), m.Accepted)
    assert isinstance(bob.open_direct("alice", adds=for_direct), m.Accepted)
    assert server.store.inboxes.newest(alice.device) == 2


# --- a conversation, while its group is rebuilt ---


def test_a_commit_whose_group_has_gone_on_before_a_worker_could_rebuild_it_is_late_and_not_wrong(
    tmp_path: Path,
) -> None:
    first = MemoryServer(tmp_path)
    people = [Person(first, each).register().login() for each in ("alice", "bob")]
    people[0].open_room("#lobby")
    room = people[1].join("#lobby")
    people[0].subscribe(room)
    people[0].process(people[0].take(m.Entry))
    first.stop()
    second = MemoryServer(tmp_path)
    alice, bob = (Person(second, each.account).take_over(each) for each in people)
    staged = bob.make_commit(bob.groups[room])
    group = bob.groups[room]
    data = departure_data(bob.number(room), group.public.member(group.own_leaf))
    assert staged.group_info is not None
    left = group.propose(Remove(group.own_leaf), authenticated_data=data)
    with second.slow_checks():
        bob.send(m.Commit(bob.protocol.next_id(), room, bob.number(room), staged.message, b"", staged.group_info))
        bob.send(m.Leave(bob.protocol.next_id(), room, bob.number(room), left))
    assert isinstance(alice.change(room), m.Accepted)
    second.finish_checks()
    for _ in range(2):
        refused(bob.take(m.Reply), "stale-epoch")
    second.stop()


def test_a_group_that_was_rebuilt_for_the_operator_is_of_the_epoch_that_is_there_now(
    server: MemoryServer, enter: Enter
) -> None:
    """Epochs of two branches have the same number: what opened it is compared."""
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    conversation = server.sequencer._conversations.find(room, 0)
    read = server.sequencer._groups.reading(conversation)()
    head, conversation.group = conversation.head, None
    kept, head.group_info = head.group_info, b"of another branch"
    answers: list[object] = []
    with server.slow_checks():
        server.sequencer.submit(None, SpeakReady(Speak("#lobby", "bar", "mallory", answers.append), read))
        server.run()
        assert read.group is not conversation.group
        head.group_info = kept
    server.finish_checks()  # it is read again, for what is there
    assert server.sequencer._conversations.find(room, 0).group is not None
    assert answers == [None]
