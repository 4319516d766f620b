"""Device ids: logs, numbers and inboxes go by them, so that each belongs to its first account for ever."""

from collections.abc import Callable

import pytest

from securechat.identity.certificate import DeviceCertificate
from securechat.identity.statements import Statement
from securechat.server.sequencer.operations import ForgetAccount
from securechat.server.store.records import InboxEntry
from securechat.wire import messages as m
from tests.server.sequencer.test_coming_and_going import refused
from tests.server.sequencer.test_publishing import beside, publish
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


def with_device(server: MemoryServer, account: str, device: bytes) -> Person:
    person = Person(server, account)
    person.device = device
    return person


@pytest.fixture
def team(enter: Enter) -> tuple[Person, Person, bytes]:
    """alice and bob are in an invite room."""
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#team", "invite")
    (room,) = alice.groups
    assert isinstance(alice.change(room, *alice.adds("bob")), m.Accepted)
    bob.read_inbox()
    bob.accept_welcome()
    return alice, bob, room


def test_who_revokes_an_id_that_they_have_never_had_takes_it_from_nobody(server: MemoryServer, enter: Enter) -> None:
    mallory, bob = enter("mallory"), Person(server, "bob").register()
    statement = mallory.state("revoke", mallory.certificate().signature_key, device_id=bob.device)
    assert isinstance(publish(mallory, statement), m.Published)
    assert bob.login().protocol.allows(m.OpenRoom)


@pytest.mark.parametrize("how", ["published", "revoked", "replaced"])
def test_nobody_else_logs_in_with_a_device_id_that_an_account_has_had(
    server: MemoryServer, team: tuple[Person, Person, bytes], how: str
) -> None:
    _, bob, room = team
    if how == "revoked":
        other = beside(bob)
        statement = other.state("revoke", bob.certificate().signature_key, device_id=bob.device)
        assert isinstance(publish(other, statement), m.Published)
        bob.chain = list(other.chain)
    elif how == "replaced":
        Person(server, "bob").login(publish=False).publish(instead_of=bob)
    mallory = with_device(server, "mallory", bob.device).register()
    for _ in range(2):
        reply = mallory.ask(m.Login, "mallory", mallory.secret, mallory.device)
        refused(reply, "not-allowed")
        assert "belongs to another account" in reply.text
    assert bob.account == server.head(room).members[bob.device].account
    with Person(server, "mallory") as honest:  # the twins: an id of her own, and bob on his device
        assert honest.login().protocol.allows(m.OpenRoom)
    back = with_device(server, "bob", bob.device).login(publish=False)
    if how != "replaced":
        back.identity, back.chain = bob.identity, bob.chain
        reply = publish(back, back.rotate(), packages=[back.key_package()])
        assert isinstance(reply, m.Published)
        assert reply.enrolled


def test_the_device_ids_of_a_deleted_account_stay_its_own(
    server: MemoryServer, team: tuple[Person, Person, bytes]
) -> None:
    alice, bob, _ = team
    answers: list[object] = []
    server.accounts.delete("bob").result()
    server.sequencer.submit(None, ForgetAccount("bob", answers.append))
    server.run()
    assert answers == [None]
    assert bob.ended().closing is not None
    mallory = with_device(server, "mallory", bob.device).register()
    refused(mallory.ask(m.Login, "mallory", mallory.secret, mallory.device), "not-allowed")
    own = Person(server, "mallory").login()  # the twin
    refused(publish(own, certificate_for(own, bob.device)), "bad-request")
    assert [each.name for each in alice.ask(m.ListRooms).rooms] == ["#team"]
    assert own.ask(m.ListRooms).rooms == []


def certificate_for(person: Person, device: bytes) -> DeviceCertificate:
    """The next certificate in somebody's chain, of any device id."""
    other = Person(person.server, person.account)
    other.device, other.identity, other.chain = device, person.identity, person.chain
    return other.certify()


def test_who_is_logged_in_with_a_device_id_that_another_account_publishes_is_out(server: MemoryServer) -> None:
    bob = Person(server, "bob").register().login(publish=False)
    mallory = with_device(server, "mallory", bob.device).register().login(publish=False)
    twin = Person(server, "mallory").login(publish=False)
    with server.slow_checks():
        request = mallory.protocol.next_id()
        mallory.send(m.Publish(request, [mallory.certificate().encode()], [], mallory.key_package()))
    assert isinstance(publish(bob, bob.certificate()), m.Published)
    closing = mallory.ended().closing
    assert closing is not None
    assert (closing.reason, "belongs to another account" in closing.text) == ("logged-out", True)
    server.finish_checks()
    assert not server.store.directory.devices("mallory")
    assert [each.device for each in server.store.directory.devices("bob")] == [bob.device]
    twin.publish()  # her other session goes on
    bob.open_room("#team", "invite")
    assert twin.ask(m.ListRooms).rooms == []
    assert [each.name for each in bob.ask(m.ListRooms).rooms] == ["#team"]


@pytest.mark.parametrize("how", ["published", "revoked at once"])
def test_a_device_id_that_was_once_certified_is_certified_for_nobody_else(server: MemoryServer, how: str) -> None:
    bob, mallory = (Person(server, each).register().login() for each in ("bob", "mallory"))
    device, free = b"x" * 16, b"y" * 16
    first = certificate_for(bob, device)
    links: list[DeviceCertificate | Statement] = [first]
    if how == "revoked at once":
        links.append(bob.state("revoke", first.signature_key, device_id=device))
    assert isinstance(publish(bob, *links), m.Published)
    assert (server.store.directory.device(("bob", device)) is not None) == (how == "published")
    reply = publish(mallory, certificate_for(mallory, device))
    refused(reply, "bad-request")
    assert "device id is taken" in reply.text  # type: ignore[attr-defined]  # it is a `Refused`: see the line above
    mallory.chain.pop()
    assert isinstance(publish(mallory, certificate_for(mallory, free)), m.Published)  # the twin
    refused(Person(server, "mallory").ask(m.Login, "mallory", mallory.secret, device), "not-allowed")


def test_a_seat_is_of_an_account_and_a_device(server: MemoryServer, team: tuple[Person, Person, bytes]) -> None:
    """A restored server may have forgotten whose an id is."""
    _, bob, room = team
    server.store._writer.execute("DELETE FROM device_ids")
    server.store._writer.execute("DELETE FROM devices WHERE device = ?", bob.device)
    mallory = with_device(server, "mallory", bob.device).register().login()
    for kind, *fields in (
        (m.Subscribe, room, 0), (m.Members, room), (m.Resync, room), (m.FetchCheckpoints, room),
        (m.CommitFailed, room, 1), (m.Submit, room, 1, b"payload"),
    ):  # fmt: skip
        refused(mallory.ask(kind, *fields), "not-found")
    mallory.send(m.Acknowledge(room, 1))
    before = server.head(room).members[bob.device].cursor
    server.run()
    assert server.head(room).members[bob.device].cursor == before
    assert mallory.ask(m.ListRooms).rooms == []


@pytest.fixture
def both(server: MemoryServer, team: tuple[Person, Person, bytes]) -> tuple[Person, Person]:
    """bob, and mallory, who is in with his device id, which cannot be: it was forgotten, and is known again."""
    _, bob, _ = team
    tables = ("device_ids", "devices")
    kept = {each: server.store._writer.rows(f"SELECT * FROM {each}") for each in tables}  # noqa: S608 - from here
    for table in tables:
        server.store._writer.execute(f"DELETE FROM {table} WHERE device = ?", bob.device)  # noqa: S608 - from here
    mallory = with_device(server, "mallory", bob.device).register().login()
    for table, rows in kept.items():
        marks = ", ".join("?" * len(rows[0]))
        server.store._writer.execute_many(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608 - from here
    return bob.again(), mallory


def test_an_inbox_is_of_an_account_and_a_device(server: MemoryServer, both: tuple[Person, Person]) -> None:
    bob, mallory = both
    letter = InboxEntry(0, server.now, bytes(32), 1, bytes(32), b"w", b"t", ())
    server.store.inboxes.deliver(letter, [bob.device], "alice")
    refused(mallory.ask(m.Subscribe, mallory.device, 0), "not-found")
    mallory.send(m.Acknowledge(mallory.device, 2))
    server.run()
    bob.read_inbox()
    assert bob.take(m.Welcomed).seq == 2
    bob.send(m.Acknowledge(bob.device, 2))  # the twin
    server.run()
    assert server.store.inboxes.read(bob.device, 0, 1 << 20) == []


def test_a_published_device_is_of_an_account(both: tuple[Person, Person]) -> None:
    bob, mallory = both
    refused(mallory.ask(m.PublishKeyPackages, [mallory.key_package()], b""), "not-now")
    refused(mallory.open_room("#mine"), "not-now")
    refused(mallory.ask(m.ExtendToken), "token-refused")
    assert isinstance(bob.ask(m.PublishKeyPackages, [bob.key_package()], b""), m.Stock)
    assert isinstance(bob.open_room("#mine"), m.Done)
    assert isinstance(bob.ask(m.ExtendToken), m.TokenExtended)


def test_sessions_with_one_device_id_are_told_apart_by_account(
    server: MemoryServer, enter: Enter, team: tuple[Person, Person, bytes], both: tuple[Person, Person]
) -> None:
    """Leases, offers and live readers: each is noted by account and device."""
    alice, _, room = team
    bob, mallory = both
    alice.open_room("#lobby")
    lobby = next(each for each in alice.groups if each != room)
    assert isinstance(enter("carol").ask(m.Join, "#lobby"), m.JoinOffer)  # and does not use it
    for each in (mallory, bob):
        each.send(m.Join(each.protocol.next_id(), "#lobby"))
    mallory.drop()
    server.advance(server.seconds + 3)
    assert bob.take(m.JoinOffer).conversation == lobby
    assert bob.join("#lobby") == lobby
    bob.subscribe(lobby)
    bob.subscribe(room)
    alice.subscribe(lobby)
    alice.process(alice.take(m.Entry))
    for conversation in (room, lobby):
        said = alice.say(conversation, "bob reads live")
        assert bob.take(m.Entry).seq == said.seq
