"""What our identity key has signed comes to the server, whatever it refuses first and whoever was there before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.clock import Clock
from securechat.errors import UsageError
from securechat.identity.certificate import issue
from securechat.identity.statements import EMPTY, Head, Link, state
from securechat.server.store.records import ChainLink
from securechat.wire import limits
from securechat.wire import messages as wire
from tests.client.test_devices import PHONE, devices, with_phone
from tests.client.test_rotation import DAY, certificate, published, restart
from tests.support.memory_server import Link as Connection
from tests.support.memory_server import MemoryServer, refuse
from tests.support.people import PASSWORD, Person, opened, settle

World = Callable[..., list[Person]]


class Refusing:
    """Refuses the next requests of one kind, and counts those that it lets through."""

    def __init__(
        self, server: MemoryServer, times: int, code: wire.Code, kind: type[wire.Request] = wire.Publish
    ) -> None:
        self.times, self.code, self.kind = times, code, kind
        self.passed = 0
        server.inward = self

    def __call__(self, link: Connection, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, self.kind):
            if self.times:
                self.times -= 1
                refuse(link, message, self.code, "come back later")
                return []
            self.passed += 1
        return [message]


def said(person: Person) -> list[str]:
    return [each.text for each in person.happened if isinstance(each, events.Refused)]


def hours_later(server: MemoryServer, *people: Person) -> None:
    """Step by step until what was put off for an hour is tried again."""
    for _ in range(3):
        server.now += 3_600_000
        server.advance(server.seconds + 3600)
        for person in people:
            person.engine.handle_timer()
            person.flush()
        settle(*people)


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["busy", "slow-down", "disk-full", "bad-request", "chain-moved"])
@pytest.mark.parametrize("kind", [wire.Publish, wire.FetchStatements])
def test_who_has_a_certificate_there_reads_while_the_server_refuses_the_next_one(
    people: World, server: MemoryServer, code: wire.Code, kind: type[wire.Request]
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    alice.cut()
    bob.say("alice", "can you read?")
    settle(bob)
    server.now += 31 * DAY * 1000
    alice.happened.clear()
    Refusing(server, 3, code, kind)
    restart(alice)
    settle(alice)
    assert alice.texts("bob")[-1] == "bob: can you read?"
    hours_later(server, alice)
    assert published(server, alice) == certificate(alice)  # and it was tried again by itself
    assert certificate(alice).seq == 2


@pytest.mark.parametrize("code", ["busy", "slow-down", "bad-request", None])
@pytest.mark.parametrize("change", ["revocation", "rotation"])
def test_what_the_user_wants_is_sent_again_until_the_server_has_it_and_they_are_told(
    people: World, server: MemoryServer, code: wire.Code | None, change: str
) -> None:
    (alice,) = people("alice")
    phone = with_phone(alice)
    alice.do(commands.RevokeDevice(phone) if change == "revocation" else commands.Rotate())
    refusing = Refusing(server, 2 if code else 0, code or "busy")
    alice.do(commands.Unlock(PASSWORD))
    while refusing.times and (alice.push() or alice.pull()):
        if refusing.times == 1 and said(alice):
            break
    if code:
        assert any("by itself" in each for each in said(alice))
        if change == "revocation":
            assert [(each.state, each.unpublished) for each in devices(alice)][1] == ("revoked", True)
    settle(alice)
    hours_later(server, alice)
    assert len(said(alice)) == {None: 0, "bad-request": 2}.get(code, 1)  # of what lasts, each hour
    if change == "revocation":
        assert {each.device for each in server.store.directory.devices("alice")} == {certificate(alice).device_id}
        assert [each.device for each in alice.of(events.DeviceRevoked)] == [phone]  # type: ignore[attr-defined]  # its kind
        assert not any(each.unpublished for each in devices(alice))
    else:
        assert len(alice.of(events.KeyRenewed)) == 1
        assert published(server, alice) == certificate(alice)


def test_a_revocation_that_was_refused_is_sent_again_on_the_next_connection(
    people: World, server: MemoryServer
) -> None:
    (alice,) = people("alice")
    phone = with_phone(alice)
    alice.do(commands.RevokeDevice(phone))
    refusing = Refusing(server, 1, "busy")
    alice.do(commands.Unlock(PASSWORD))
    while refusing.times:
        assert alice.push()
    alice.cut()
    alice.connect()
    settle(alice)
    assert [each.device for each in alice.of(events.DeviceRevoked)] == [phone]  # type: ignore[attr-defined]  # its kind
    assert {each.device for each in server.store.directory.devices("alice")} == {certificate(alice).device_id}


# --- by a wrong clock ---------------------------------------------------------------------------------------------


def start_with_clock(person: Person, days: int) -> None:
    """Start the program anew, by a clock that is wrong by so many days."""
    person.stop()
    person.clock = Clock(lambda: person.server.now / 1000 + days * DAY, lambda: person.server.seconds)
    person.start()
    person.connect()


@pytest.mark.parametrize("days", [-400, -50, -3, 0, 3, 50, 400])
def test_while_the_clocks_differ_nothing_is_signed_and_afterwards_nothing_is_lost(
    people: World, server: MemoryServer, days: int
) -> None:
    (alice,) = people("alice")
    phone = with_phone(alice)
    before = alice.engine._context.device.chain
    server.now += 31 * DAY * 1000
    start_with_clock(alice, days)
    settle(alice)
    if days:
        assert alice.engine._context.device.chain == before
        for command in (commands.Rotate(), commands.RevokeDevice(phone), commands.Succeed()):
            with pytest.raises(UsageError, match="clock is .* the server's: nothing is signed"):
                alice.do(command)
        alarms = [each for each in alice.happened if isinstance(each, events.Alarm) and "clock is" in each.text]
        assert bool(alarms) == (days > 0)  # by a clock that is behind nothing is due
    start_with_clock(alice, 0)
    settle(alice)
    alice.do(commands.RevokeDevice(phone))
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert published(server, alice) == certificate(alice)
    assert {each.device for each in server.store.directory.devices("alice")} == {certificate(alice).device_id}
    assert not said(alice)


def test_once_the_clock_is_set_right_the_same_session_signs(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    wrong = [3 * DAY]
    alice.clock = Clock(lambda: server.now / 1000 + wrong[0], lambda: server.seconds)
    restart(alice)
    settle(alice)
    with pytest.raises(UsageError, match="3 days ahead of the server's"):
        alice.do(commands.Rotate())
    wrong[0] = 0
    alice.do(commands.Rotate())
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert published(server, alice) == certificate(alice)
    assert certificate(alice).seq == 2


def test_at_the_first_contact_nothing_is_signed_by_a_wrong_clock(server: MemoryServer, tmp_path: Path) -> None:
    alice = Person(server, tmp_path, "alice")
    alice.register()
    alice.clock = Clock(lambda: server.now / 1000 - 3 * DAY, lambda: server.seconds)
    alice.stop()
    alice.start()
    alice.connect()
    while alice.push() or alice.pull():
        pass
    assert "3 days behind" in alice.engine.disconnect_reason
    assert alice.engine.failure is None
    assert not alice.engine._context.device.chain
    start_with_clock(alice, 0)
    settle(alice)
    assert published(server, alice) == certificate(alice)
    alice.stop()


@pytest.mark.parametrize("revoked", [False, True])
def test_what_was_signed_in_the_future_and_never_taken_is_signed_anew(
    people: World, server: MemoryServer, *, revoked: bool
) -> None:
    (alice,) = people("alice")
    with_phone(alice)
    device, used = alice.engine._context.device, certificate(alice)
    alice.cut()
    with alice.engine._unit(), opened(device.row.identity) as key:
        for days in (0, 400):  # the first of them is sound
            device.certify_next(key, alice.clock.seconds() + days * DAY)
        if revoked:
            device.revoke(key, PHONE, alice.clock.seconds())
    alice.happened.clear()
    alice.connect()
    settle(alice)
    assert published(server, alice) == certificate(alice)
    assert certificate(alice).seq == 3
    assert len(device.chain) == 3
    assert used in device.chain
    assert len(alice.of(events.Alarm)) == revoked  # of what they have to do again
    alice.do(commands.RevokeDevice(PHONE.hex()[:8]))
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert {each.device for each in server.store.directory.devices("alice")} == {used.device_id}


def test_what_the_server_has_is_never_dropped(people: World) -> None:
    (alice,) = people("alice")
    with_phone(alice)
    device = alice.engine._context.device
    used, phone = device.chain
    with alice.engine._unit():
        assert device.drop_future(device.head, 0) == []
        assert device.drop_future(EMPTY, 0) == [phone]
    assert device.chain == (used,)  # it is in use, whatever the server says now


# --- another program has signed there -----------------------------------------------------------------------------


def many(person: Person, count: int) -> list[Link]:
    """What another program with the identity key of `person` signs: a device that comes and goes."""
    device, now = person.engine._context.device, person.clock.seconds()
    head, made = device.head, list[Link]()
    with opened(device.row.identity) as key:
        for number in range(count):
            link: Link
            if number % 2 == 0:
                link = issue(
                    key, server_id=device.row.server_id, account=person.name, device_id=PHONE, signature_key=b"k" * 32,
                    not_before=now - DAY, not_after=now + DAY, seq=head.seq + 1, previous=head.digest,
                )  # fmt: skip
            else:
                link = state(
                    key, head, "revoke", server_id=device.row.server_id, account=person.name, time=now, key=b"k" * 32,
                    device_id=PHONE,
                )  # fmt: skip
            made.append(link)
            head = Head.after(link)
    return made


def put(server: MemoryServer, person: Person, links: list[Link]) -> None:
    """Have links in the server's chain, as if they had come over many years."""
    key = person.engine._context.device.identity_key
    server.store.chains.append(person.name, key, [ChainLink(each.seq, server.now, each.encode()) for each in links])
    server.store.commit()


@pytest.mark.parametrize("count", [1, limits.MAX_LINKS_FETCHED + 1, 1200])
@pytest.mark.parametrize("pending", [False, True])
def test_a_chain_of_any_length_is_continued(
    people: World, server: MemoryServer, count: int, *, pending: bool
) -> None:
    (alice,) = people("alice")
    links = many(alice, count)
    alice.cut()
    if pending:  # two that the server has never had, in a place that is taken
        with alice.engine._unit(), opened(alice.engine._context.device.row.identity) as key:
            for _ in range(2):
                alice.engine._context.device.certify_next(key, alice.clock.seconds())
    put(server, alice, links)
    alice.happened.clear()
    alice.connect()
    settle(alice)
    device = alice.engine._context.device
    assert device.chain[1:] == tuple(links)
    assert set(device._certificates) == {device.row.signature_key}
    assert len(alice.of(events.OwnKeyUsed)) == 1
    alice.do(commands.Rotate())
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert published(server, alice) == certificate(alice)
    assert certificate(alice).seq == count + 2
    restart(alice)
    settle(alice)
    assert device.chain[1:-1] == tuple(links)


def test_a_server_that_says_there_is_more_and_shows_nothing_is_not_asked_for_ever(
    people: World, server: MemoryServer
) -> None:
    (alice,) = people("alice")
    links = many(alice, 1)
    alice.cut()
    put(server, alice, links)
    asked = []

    def lie(link: Connection, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.FetchStatements):
            asked.append(message.after_seq)
            key = alice.engine._context.device.identity_key
            link.send(wire.Statements(message.id, "alice", key, [], more=True))
            return []
        return [message]

    server.inward = lie
    alice.connect()
    for _ in range(100):
        if not (alice.push() or alice.pull()):
            break
    assert 0 < len(asked) < 5
