"""Devices: what a chain shows of those of an account, our own and others'."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.keepsake import MAX_DEVICE_NAME
from securechat.content.registry import Text, encode_body
from securechat.errors import UsageError
from securechat.wire import messages as wire
from tests.support.chains import certificate, certified, later, revocation, show
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import PASSWORD, Person, settle
from tests.support.recovering import Recovering, file_of

World = Callable[..., list[Person]]


def devices(person: Person, account: str = "") -> tuple[events.DeviceShown, ...]:
    told = person.do(commands.ListDevices(account))
    (shown,) = [each for each in told if isinstance(each, events.Devices)]
    assert shown.account == (account or person.name)
    return shown.devices


@pytest.fixture
def pair(people: World) -> list[Person]:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)
    return [alice, bob]


def test_our_own_device_is_shown_as_this_one(pair: list[Person]) -> None:
    alice, _ = pair
    (shown,) = devices(alice)
    own = certificate(alice)
    assert shown.own
    assert (shown.device, shown.state) == (own.device_id.hex()[:8], "current")
    assert shown.until == own.not_after * 1000
    assert abs(shown.since - alice.server.now) < 60_000
    assert shown.renewed == shown.since


def test_a_device_has_the_name_that_its_user_gives_it_and_nobody_else_hears_of_it(
    server: MemoryServer, pair: list[Person]
) -> None:
    alice, bob = pair
    heard: list[bytes] = []

    def listen(_: Link, message: wire.FromClient) -> list[wire.FromClient]:
        heard.append(msgspec.msgpack.encode(message))
        return [message]

    server.inward = listen
    (own,) = devices(alice)
    assert own.name == ""
    alice.do(commands.NameDevice(own.device[:4], "Zoë's laptop"))
    alice.do(commands.Unlock(PASSWORD))
    settle(alice, bob)
    assert [each.name for each in devices(alice)] == ["Zoë's laptop"]
    assert [each.name for each in devices(bob, "alice")] == [""]
    assert any(b"PutKeepsake" in each for each in heard)  # it is in there, sealed
    assert not any(b"laptop" in each for each in heard)
    for wrong in ("x" * (MAX_DEVICE_NAME + 1), "two\nlines", "\x1b[2J", " spaced", "\u202eright to left"):
        with pytest.raises(UsageError, match="one line of at most 32 characters"):
            alice.do(commands.NameDevice(own.device, wrong))
    with pytest.raises(UsageError, match="no such device"):
        alice.do(commands.NameDevice("0" * 8 if own.device != "0" * 8 else "1" * 8, "desk"))
    alice.do(commands.NameDevice(own.device, "desk"))
    assert [each.name for each in devices(alice)] == ["desk"]
    alice.do(commands.NameDevice(own.device, ""))
    assert [each.name for each in devices(alice)] == [""]


def test_a_new_device_knows_what_the_lost_one_was_called(
    server: MemoryServer, pair: list[Person], tmp_path: Path
) -> None:
    alice, bob = pair
    (lost,) = devices(alice)
    alice.do(commands.NameDevice(lost.device, "laptop"))
    alice.do(commands.Unlock(PASSWORD))
    settle(alice, bob)
    contents = file_of(alice)
    alice.stop()
    (tmp_path / "new computer").mkdir()
    new = Recovering(server, tmp_path / "new computer", contents)
    new.connect()
    settle(new, bob)
    assert [(each.name, each.state) for each in devices(new)] == [("laptop", "revoked"), ("", "current")]


def test_of_our_own_devices_it_is_shown_when_each_has_last_said_something(pair: list[Person]) -> None:
    alice, bob = pair
    (line,) = [each for each in alice.history("bob", 10) if each.own]
    assert [each.heard for each in devices(alice)] == [line.time]
    phone = with_phone(alice)
    assert [each.heard for each in devices(alice)] == [line.time, 0]
    alice.vault.history.add(
        alice.id_of("bob"), "alice", encode_body(Text("from the phone")),
        own=True, trust="verified", seq=9, time=line.time + 5, device=PHONE,
    )  # fmt: skip
    bob.cut()
    alice.cut()
    alice.say("bob", "not accepted yet")
    assert [(each.device == phone, each.heard) for each in devices(alice)] == [
        (False, line.time), (True, line.time + 5),
    ]  # fmt: skip


def test_of_others_the_device_that_certifies_is_shown_and_when_it_was_heard(pair: list[Person]) -> None:
    alice, bob = pair
    (shown,) = devices(alice, "bob")
    (line,) = [each for each in alice.history("bob", 10) if each.sender == "bob"]
    assert (shown.device, shown.heard, shown.state) == (certificate(bob).device_id.hex()[:8], line.time, "current")
    assert not shown.own
    show(alice, later(bob))
    (shown,) = devices(alice, "bob")
    assert shown.state == "current"
    show(alice, revocation(bob))
    assert devices(alice, "bob")[0].state == "current"  # by a certificate that came after it


def test_a_revoked_device_is_shown_as_revoked(pair: list[Person]) -> None:
    alice, bob = pair
    show(alice, revocation(bob))
    assert [each.state for each in devices(alice, "bob")] == ["revoked"]


def test_of_who_was_never_met_there_is_nothing_to_show(pair: list[Person]) -> None:
    with pytest.raises(UsageError, match="No device of zoe is known"):
        devices(pair[0], "zoe")


# --- revoking -----------------------------------------------------------------------------------------------------

PHONE = b"P" * 16


def with_phone(person: Person) -> str:
    """Let the identity key of somebody certify a second device, and the server have it. Returns its mark."""
    device = person.engine._context.device
    with person.engine._unit():
        device._sign(certified(person, device.head, device_id=PHONE))
        person.engine._rotation._publish()
    settle(person)
    return PHONE.hex()[:8]


def published(server: MemoryServer, person: Person) -> set[bytes]:
    return {each.device for each in server.store.directory.devices(person.name)}


def test_a_device_is_revoked_once_the_password_is_at_hand(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    own = certificate(alice).device_id
    phone = with_phone(alice)
    assert [each.device for each in devices(alice)] == [own.hex()[:8], phone]
    assert published(server, alice) == {own, PHONE}
    alice.do(commands.RevokeDevice(phone[:4]))
    settle(alice)
    (wanted,) = alice.of(events.PasswordWanted)
    assert isinstance(wanted, events.PasswordWanted)
    assert wanted.why == "revocation"
    assert published(server, alice) == {own, PHONE}
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert published(server, alice) == {own}
    assert [each.device for each in alice.of(events.DeviceRevoked)] == [phone]  # type: ignore[attr-defined]  # its kind
    assert [each.state for each in devices(alice)] == ["current", "revoked"]
    assert not alice.of(events.OwnKeyUsed)
    with pytest.raises(UsageError, match="revoked already"):
        alice.do(commands.RevokeDevice(phone))


def test_a_revocation_that_the_server_has_not_had_is_published_at_the_next_start(
    people: World, server: MemoryServer
) -> None:
    (alice,) = people("alice")
    phone = with_phone(alice)
    server.inward = lambda _link, message: [] if isinstance(message, wire.Publish) else [message]
    alice.do(commands.RevokeDevice(phone))
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert PHONE in published(server, alice)
    server.inward = lambda _link, message: [message]
    alice.crash()
    alice.connect()
    settle(alice)
    assert PHONE not in published(server, alice)
    assert not alice.of(events.OwnKeyUsed)


@pytest.mark.parametrize(("form", "text"), [("ffff", "no such device"), ("50", "several|no such")])
def test_what_cannot_be_revoked_says_what_can_be_done(people: World, form: str, text: str) -> None:
    (alice,) = people("alice")
    with_phone(alice)
    with pytest.raises(UsageError, match=text):
        alice.do(commands.RevokeDevice(form))


def test_this_very_device_gets_a_new_key_and_so_does_no_copy_of_it(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    own = certificate(alice)
    alice.do(commands.RevokeDevice(own.device_id.hex()[:8]))
    settle(alice)
    assert certificate(alice) == own
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert certificate(alice).seq == own.seq + 1
    assert published(server, alice) == {own.device_id}
    assert alice.of(events.KeyRenewed)
    assert not alice.of(events.OwnKeyUsed)


def test_a_revocation_whose_answer_was_lost_is_told_once_the_server_has_it(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    phone = with_phone(alice)
    server.inward = lambda _link, message: [] if isinstance(message, wire.Publish) else [message]
    alice.do(commands.RevokeDevice(phone))
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert not alice.of(events.DeviceRevoked)
    alice.cut()
    server.inward = lambda _link, message: [message]
    alice.connect()
    settle(alice)
    assert [each.device for each in alice.of(events.DeviceRevoked)] == [phone]  # type: ignore[attr-defined]  # its kind
