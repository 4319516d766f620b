"""An account that its owner deletes leaves what it can, and is gone; its name is nobody's, and what stays is told."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.deletion import LEAVING_SECONDS
from securechat.errors import UsageError
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryClient, MemoryServer, refuse
from tests.support.people import PASSWORD, Person, settle

World = Callable[..., list[Person]]
DELETE = commands.DeleteAccount("alice", PASSWORD)


def gone(server: MemoryServer, person: Person) -> bool:
    """Whether nothing of an account is left but its name."""
    account = server.accounts.get(person.name)
    left = (server.store.tokens.of(person.name), server.store.directory.devices(person.name))
    return (account is None or bool(account.deleted)) and left == ([], [])


def test_a_deleted_account_has_left_its_conversations(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    alice.do(DELETE)
    settle(alice, bob)
    (deleted,) = alice.of(events.AccountDeleted)
    assert isinstance(deleted, events.AccountDeleted)
    assert not deleted.wiped
    assert gone(server, alice)
    assert alice.engine.is_deleted
    assert bob.state_of("alice") != "open"  # she has left, and was not only dropped
    with MemoryClient(server) as stranger:
        reply = stranger.ask(wire.Register, "alice", bytes(32))
        assert isinstance(reply, wire.Refused)
        assert reply.code == "name-taken"


def test_the_vault_stays_as_a_record_or_goes_as_told(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(DELETE)
    bob.do(commands.DeleteAccount("bob", PASSWORD, wipe=True))
    settle(alice, bob)
    for person in (alice, bob):
        assert person.of(events.AccountDeleted)
        person.cut()
        person.vault.close()
        person.vault.discard_at_close = False  # it is closed once more at the end
    assert alice.path.exists()
    assert not list(bob.path.parent.glob("bob.vault.key*"))
    assert not bob.path.exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (commands.DeleteAccount("bob", PASSWORD), "Type your own user name, alice"),
        (commands.DeleteAccount("alice", "wrong one"), "Nothing was deleted"),
    ],
)
def test_what_is_not_meant_deletes_nothing(
    people: World, server: MemoryServer, command: commands.DeleteAccount, says: str
) -> None:
    (alice,) = people("alice")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    with pytest.raises(UsageError, match=says):
        alice.do(command)
    settle(alice)
    assert not gone(server, alice)
    assert alice.state_of("#lobby") == "open"


@pytest.mark.parametrize("shared", [False, True])
def test_a_room_is_not_left_without_an_owner_and_loses_the_account_all_the_same(
    people: World, server: MemoryServer, *, shared: bool
) -> None:
    """The twin has another owner, and is left."""
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob)
    if shared:
        alice.do(commands.SetOwner(alice.id_of("#club"), "bob", owner=True))
        settle(alice, bob)
    club, link = alice.id_of("#club"), alice.link
    left: list[wire.Leave] = []

    def inward(by: object, message: wire.FromClient) -> list[wire.FromClient]:
        if by is link and isinstance(message, wire.Leave) and message.conversation == club:
            left.append(message)
        return [message]

    server.inward = inward
    alice.do(DELETE)
    settle(alice, bob)
    assert len(left) == shared
    assert alice.of(events.AccountDeleted)
    assert gone(server, alice)


@pytest.mark.parametrize("answered", [False, True])
def test_departures_that_stay_unanswered_hold_a_deletion_up_for_a_while_only(
    people: World, server: MemoryServer, *, answered: bool
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    at: list[float] = []

    def inward(_: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.DeleteAccount):
            at.append(server.seconds)
        return [message] if answered or not isinstance(message, wire.Leave) else []

    server.inward = inward
    begun = server.seconds
    alice.do(DELETE)
    settle(alice, bob)
    (asked,) = at
    assert asked - begun < 1 if answered else asked - begun == LEAVING_SECONDS
    assert gone(server, alice)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_deletion_that_is_cut_off_is_told_and_can_be_asked_for_again(
    people: World, server: MemoryServer, *, leaves: bool
) -> None:
    """Cut off while departures are on their way, or the request itself: nothing is asked without the user any more."""
    alice, bob = people("alice", "bob")
    if leaves:
        alice.do(commands.OpenDirect("bob", "hello", ask=False))
        settle(alice, bob)
    asked = commands.DeleteAccount("alice", PASSWORD)
    alice.do(asked)
    alice.cut()
    alice.flush()
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert refused.command == asked.id
    assert "Ask again" in refused.text
    alice.connect()
    settle(alice, bob)
    assert not gone(server, alice)
    alice.do(DELETE)
    settle(alice, bob)
    assert gone(server, alice)


def test_the_end_of_the_connection_after_a_deletion_is_told_as_none(people: World) -> None:
    (alice,) = people("alice")
    alice.do(DELETE)
    settle(alice)
    assert alice.of(events.AccountDeleted)
    alice.cut()
    alice.flush()
    assert not alice.of(events.Refused)


def test_a_server_that_does_not_want_to_is_told(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.DeleteAccount):
            refuse(link, message, "login-refused", "no")  # type: ignore[arg-type]  # a link
            return []
        return [message]

    server.inward = inward
    alice.do(DELETE)
    settle(alice)
    assert not alice.of(events.AccountDeleted)
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert "is not deleted" in refused.text
    assert not alice.vault.discard_at_close
