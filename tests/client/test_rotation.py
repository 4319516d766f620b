"""The signature key is renewed in time, by whoever has the password at hand, and nobody is ever locked out."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client import device as device_module
from securechat.client.conversations import old_keys
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.statements import Head, state
from securechat.wire import messages as wire
from tests.client.test_renewing import SILENT, own_key, talking
from tests.support.memory_server import MemoryPerson, MemoryServer
from tests.support.people import PASSWORD, Person, opened, settle

World = Callable[..., list[Person]]
DAY = 86_400


def pass_days(server: MemoryServer, days: int, *people: Person, step: int = 1) -> None:
    """Let days go by, on both clocks, for people who stay connected."""
    for _ in range(0, days, step):
        server.now += step * DAY * 1000
        server.advance(server.seconds + step * DAY)
        for person in people:
            if person.link is not None:
                person.engine.handle_timer()
                person.flush()
        settle(*people)


def key(person: Person) -> bytes:
    return person.engine._context.device.row.signature_key


def certificate(person: Person) -> DeviceCertificate:
    return person.engine._context.device.certificate


def published(server: MemoryServer, person: Person) -> DeviceCertificate:
    """The certificate of somebody's device in the server's directory."""
    found = server.store.directory.device((person.name, person.engine._context.device.id))
    assert found is not None
    return DeviceCertificate.decode(found.certificate)


def asked(person: Person) -> list[events.PasswordWanted]:
    return [event for event in person.happened if isinstance(event, events.PasswordWanted)]


def tell(person: Person, command: commands.Command) -> list[events.Event]:
    """What comes of a command, also of one that is refused."""
    person.engine.do([command])
    return person.engine.take_events()


def restart(person: Person) -> None:
    """Close the program, and start it again with the password."""
    person.stop()
    person.start()
    person.connect()


@pytest.mark.parametrize(("days", "renews"), [(29, False), (31, True), (44, True), (46, True), (400, True)])
def test_whoever_starts_from_day_30_on_has_a_new_key_and_is_not_asked(
    people: World, server: MemoryServer, days: int, *, renews: bool
) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    old, first = key(alice), certificate(alice)
    alice.cut()
    bob.cut()
    server.now += days * DAY * 1000
    for person in (alice, bob):
        person.happened.clear()
        restart(person)
    settle(alice, bob)
    assert (key(alice) != old) is renews
    assert published(server, alice) == certificate(alice)
    assert own_key(alice, "bob") == key(alice)
    if renews:
        assert (certificate(alice).seq, certificate(alice).device_id) == (first.seq + 1, first.device_id)
        assert certificate(alice).not_after - alice.clock.seconds() >= 44 * DAY
    for person, name in ((alice, "bob"), (bob, "alice")):
        person.say(name, f"still {person.name}")
    settle(alice, bob)
    assert alice.texts("bob")[-2:] == bob.texts("alice")[-2:]
    for person in (alice, bob):
        assert not asked(person)
        assert not [event for event in person.happened if isinstance(event, SILENT)]


def test_who_is_online_without_a_break_is_asked_once_a_day_and_told_when_it_is_too_late(
    people: World, server: MemoryServer
) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    old = key(alice)
    pass_days(server, 39, alice)
    assert key(alice) == old
    assert not asked(alice)
    pass_days(server, 3, alice)
    assert [event.why for event in asked(alice)] == ["rotation"] * 3
    assert all(event.until == certificate(alice).not_after * 1000 for event in asked(alice))
    alice.say("bob", "still in time")
    settle(alice)
    pass_days(server, 4, alice)
    alice.say("bob", "too late")
    settle(alice)
    assert [type(event) for event in alice.happened[-2:]] == [events.Said, events.Delayed]
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert key(alice) != old
    bob.cut()
    restart(bob)
    settle(alice, bob)
    assert bob.texts("alice")[-2:] == ["alice: still in time", "alice: too late"]


def test_a_wrong_password_renews_nothing_and_from_day_30_each_unlock_does(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    old = key(alice)
    pass_days(server, 31, alice)
    refused = [each for each in tell(alice, commands.Unlock("wrong")) if isinstance(each, events.Refused)]
    assert refused
    assert key(alice) == old
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert key(alice) != old
    assert not asked(alice)


def test_a_year_with_a_password_file_needs_neither_a_restart_nor_a_person(server: MemoryServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    alice, bob = everybody = [Person(server, tmp_path, name, file) for name in ("alice", "bob")]
    for person in everybody:
        person.register()
        person.connect()
    settle(*everybody)
    talking(alice, bob)
    keys = {key(alice)}
    for month in range(12):
        pass_days(server, 31, *everybody)
        keys.add(key(alice))
        alice.say("bob", f"month {month}")
        settle(*everybody)
        assert bob.texts("alice")[-1] == f"alice: month {month}"
        assert len(alice.vault.signature_keys.all()) <= 2
    assert len(keys) >= 12
    for person in everybody:
        assert not asked(person)
        assert not [event for event in person.happened if isinstance(event, (events.Alarm, events.Delayed))]
        assert set(person.vault.signature_keys.all()) == {key(person)}  # the others are gone
        person.stop()


def test_a_password_file_that_cannot_be_read_is_told_and_asked_for(server: MemoryServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    alice = Person(server, tmp_path, "alice", file)
    alice.register()
    alice.connect()
    settle(alice)
    old = key(alice)
    file.unlink()
    pass_days(server, 41, alice)
    assert key(alice) == old
    assert asked(alice)
    assert "cannot be read" in asked(alice)[-1].problem
    file.write_text(PASSWORD)
    pass_days(server, 1, alice)
    assert key(alice) != old
    alice.stop()


@pytest.mark.parametrize("step", range(8))
def test_killed_between_any_two_messages_of_a_rotation_the_same_key_is_published(
    people: World, server: MemoryServer, step: int
) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    first = certificate(alice)
    alice.cut()
    server.now += 31 * DAY * 1000
    sent: list[wire.Publish] = []
    logins: list[wire.Login] = []

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.Publish):
            sent.append(message)
        if isinstance(message, wire.Login):
            logins.append(message)
        return [message]

    server.inward = inward
    restart(alice)
    for _ in range(step):
        if not alice.push():
            alice.pull()
    alice.crash()
    alice.connect()
    settle(alice, bob)
    assert certificate(alice).seq == first.seq + 1
    assert published(server, alice) == certificate(alice)
    assert not logins  # the token goes with the new key, too, also where the server's answer was lost
    assert len({bytes(link) for message in sent for link in message.links}) == 1
    assert len({bytes(package) for message in sent for package in message.key_packages}) == len(sent[0].key_packages)
    assert own_key(alice, "bob") == key(alice)
    alice.say("bob", "by the new one")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: by the new one"


def test_a_new_acquaintance_adds_us_by_the_new_certificate_alone(people: World, server: MemoryServer) -> None:
    carol, alice = people("carol", "alice")
    alice.cut()
    server.now += 31 * DAY * 1000
    restart(alice)
    settle(alice, carol)
    carol.cut()
    restart(carol)
    settle(alice, carol)
    carol.do(commands.OpenDirect("alice", "May I?", ask=True))
    settle(alice, carol)
    alice.do(commands.Accept(alice.id_of("carol")))
    settle(alice, carol)
    assert own_key(alice, "carol") == key(alice)
    rotated = certificate(alice)
    alice.say("carol", "hello")
    settle(alice, carol)
    assert carol.texts("alice")[-1] == "alice: hello"
    assert server.store.directory.count_key_packages(rotated.device_id) >= device_module.KEY_PACKAGE_STOCK - 1


def test_two_copies_of_one_vault_rotate_and_each_is_told(people: World, server: MemoryServer, tmp_path: Path) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    alice.stop()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tmp_path.glob("alice.vault*"):
        shutil.copy(file, copy / file.name)
    server.now += 31 * DAY * 1000
    alice.start()
    alice.connect()
    settle(alice, bob)
    restart(bob)
    bob.say("alice", "I am there")
    settle(alice, bob)
    alice.cut()
    first = published(server, alice)
    assert first == certificate(alice)
    bob.cut()  # and has read nothing of it, so that the server keeps it
    other = Person(server, copy, "alice")
    other.connect()
    settle(other)
    (told,) = other.of(events.OwnKeyUsed)
    assert isinstance(told, events.OwnKeyUsed)
    assert abs(told.time / 1000 - other.clock.seconds()) < DAY
    assert published(server, other) == first  # it publishes over it at the user's word alone
    assert other.engine.failure is None
    other.do(commands.Rotate())
    assert asked(other)
    other.do(commands.Unlock(PASSWORD))
    settle(other)
    second = published(server, other)
    assert second == certificate(other)
    assert second.seq == first.seq + 1
    other.say("bob", "from the other copy")
    settle(other)
    other.cut()
    alice.happened.clear()
    restart(alice)
    settle(alice)
    assert alice.of(events.OwnKeyUsed)
    assert published(server, alice) == second
    alice.do(commands.Rotate())
    assert [event.why for event in alice.of(events.PasswordWanted)][-1] == "renewal"  # type: ignore[attr-defined]  # has it
    assert not alice.of(events.KeyRenewed)
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert published(server, alice) == certificate(alice)
    (renewed,) = alice.of(events.KeyRenewed)
    assert renewed == events.KeyRenewed(certificate(alice).not_after * 1000)
    assert certificate(alice).seq == second.seq + 1
    restart(bob)
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: from the other copy"
    assert not bob.of(events.Alarm)
    assert not bob.of(events.TwoHolders)
    other.stop()


def test_an_old_key_goes_once_nothing_needs_it(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    old = key(alice)
    pass_days(server, 31, alice, bob)
    alice.do(commands.Unlock(PASSWORD))
    bob.do(commands.Unlock(PASSWORD))
    settle(alice, bob)
    assert not alice.of(events.KeyRenewed)  # what comes with time is nobody's news
    assert alice.vault.signature_keys.find(old)  # its key packages may still be used
    pass_days(server, 1, alice, bob)
    assert alice.vault.signature_keys.find(old) == b""
    assert not alice.vault.key_packages.under(old)


def test_a_conversation_that_takes_no_commit_keeps_an_old_key_for_a_week_and_then_comes_back_by_itself(
    people: World, server: MemoryServer
) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    old = key(alice)
    pass_days(server, 31, alice, bob)

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        return [] if link is alice.link and isinstance(message, wire.Commit) else [message]

    server.inward = inward
    for person in (alice, bob):
        person.do(commands.Unlock(PASSWORD))
        settle(alice, bob)
    pass_days(server, 6, alice, bob)
    assert alice.vault.signature_keys.find(old)
    pass_days(server, 2, alice, bob)
    assert alice.vault.signature_keys.find(old) == b""
    server.inward = lambda _link, message: [message]
    alice.cut()
    bob.say("alice", "meanwhile")
    settle(bob)
    alice.connect()
    settle(alice, bob)
    assert own_key(alice, "bob") == key(alice)
    assert alice.texts("bob")[-1] == "bob: meanwhile"
    alice.say("bob", "back")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: back"
    assert old_keys.KEPT_SECONDS == 7 * DAY


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Callable[[int], MemoryServer]]:
    """A server with the open room #hall, in which so many leaves are whose devices nobody ever turns on again."""
    server = MemoryServer(tmp_path / "full", max_clients=400)

    def begin(leaves: int) -> MemoryServer:
        for number in range(leaves):
            with MemoryPerson(server, f"leaf{number}") as member:
                member.register().login()
                if number == 0:
                    assert isinstance(member.open_room("#hall"), wire.Done)
                else:
                    member.join("#hall")
        return server

    yield begin
    server.stop()


@pytest.mark.parametrize(("size", "like", "step"), [(3, 0, 1), (30, 2, 4), (300, 0, 4)])
def test_a_year_in_a_room_with_one_who_is_always_there_one_who_is_seldom_and_one_who_never_answers(
    full: Callable[[int], MemoryServer], tmp_path: Path, size: int, like: int, step: int
) -> None:
    """`like`: so many more are always there. The others have no program: their leaves stand, and are out of date for
    most of the year.
    """
    server, file, days = full(size - 3 - like), tmp_path / "password", 360
    file.write_text(PASSWORD)
    always = Person(server, tmp_path, "always", file)
    seldom, never = Person(server, tmp_path, "seldom"), Person(server, tmp_path, "never")
    others = [Person(server, tmp_path, f"member{number}", file) for number in range(like)]
    everybody = [always, seldom, never, *others]
    for person in everybody:
        person.register()
        person.connect()
    settle(*everybody)
    for person in everybody[1:]:
        talking(always, person)
    always.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for person in everybody[1:]:
        always.do(commands.Invite(always.id_of("#club"), person.name))
    settle(*everybody)
    for person in everybody:
        person.do(commands.JoinRoom("#hall"))
        settle(*everybody)
    hall = always.engine.snapshot.find("#hall")
    assert hall is not None
    assert len(hall.members) == size
    seldom.stop()
    online = [always, never, *others]
    for passed in range(20, days + 1, 20):
        pass_days(server, 20, *online, step=step)
        for room in ("#club", "#hall"):
            always.say(room, f"day {passed}")
            settle(*online)
            for person in online:
                assert person.texts(room)[-1] == f"always: day {passed}"  # also the one who never answers reads
        if passed % 60 == 0:
            seldom.start()
            seldom.connect()
            settle(seldom, *online)
            for room in ("#club", "#hall"):
                seldom.say(room, f"here on day {passed}")
                settle(seldom, *online)
                for person in everybody:
                    assert person.texts(room)[-1] == f"seldom: here on day {passed}"
            seldom.stop()
    never.say("#club", "is anybody there?")
    settle(*online)
    assert "renewed first" in never.of(events.Delayed)[-1].text  # type: ignore[attr-defined]  # it has one
    assert len(asked(never)) >= (days - 41) // step
    never.do(commands.Unlock(PASSWORD))
    settle(*online)
    assert always.texts("#club")[-1] == "never: is anybody there?"
    never.say("#hall", "and here?")
    settle(*online)
    assert always.texts("#hall")[-1] == "never: and here?"
    for person in online:
        for room in ("#club", "#hall"):
            assert own_key(person, room) == key(person)
        assert not [event for event in person.happened if isinstance(event, events.Alarm | events.TwoHolders)]
        assert person is never or not asked(person)
        person.stop()


def test_whoever_revokes_us_by_our_identity_key_is_told_of_and_overruled_at_our_word(
    people: World, server: MemoryServer
) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    own, device = certificate(alice), alice.engine._context.device
    with opened(device.row.identity) as identity:  # a thief with vault and password
        revocation = state(
            identity, Head.after(own), "revoke", server_id=own.server_id, account="alice",
            time=alice.clock.seconds(), key=own.signature_key, device_id=own.device_id,
        )  # fmt: skip
    with alice.engine._unit():
        alice.engine._context.request(wire.Publish(0, [revocation.encode()], [], b""), lambda _reply: None)
    while alice.push() or alice.pull():
        pass
    alice.cut()
    settle(bob)
    alice.happened.clear()
    restart(alice)
    settle(alice, bob)
    assert [event.what for event in alice.of(events.OwnKeyUsed)] == ["revoke"]  # type: ignore[attr-defined]  # it has one
    assert alice.engine.failure is None
    alice.do(commands.Rotate())
    alice.do(commands.Unlock(PASSWORD))
    settle(alice, bob)
    assert published(server, alice) == certificate(alice)
    assert certificate(alice).seq == own.seq + 2
    assert alice.of(events.Ready)
    alice.do(commands.CreateRoom("#still-me"))
    settle(alice, bob)
    assert alice.state_of("#still-me") == "open"
