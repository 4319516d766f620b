"""Who is new in a conversation is told by account, key and device, never by the name alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.conversations.newcomers import changes
from securechat.identity.certificate import DeviceCertificate
from securechat.wire import messages as wire
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import Person, settle


def person(account: str, key: str = "", device: str = "1", *, since: int = 0) -> DeviceCertificate:
    identity, device_id = (key or account).encode().ljust(32), f"{account} {device}".encode().ljust(16)
    return DeviceCertificate(b"S" * 16, account, device_id, identity, b"k" * 32, since, since + 1, b"s" * 64)


ALICE, BOB, CAROL = map(person, ("alice", "bob", "carol"))


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ([ALICE, BOB], []),
        ([ALICE, person("bob", since=1)], []),
        ([ALICE, person("bob", device="2")], [("new-device", "bob")]),
        ([ALICE, person("bob", "forged")], [("new-key", "bob")]),
        ([ALICE, person("bob", "forged", "2")], [("new-key", "bob")]),
        ([ALICE, BOB, CAROL], [("joined", "carol")]),
        ([ALICE], [("removed", "bob")]),
        ([ALICE, CAROL], [("joined", "carol"), ("removed", "bob")]),
    ],
)
def test_members_are_compared_by_key_and_device(after: list[DeviceCertificate], told: list[tuple[str, str]]) -> None:
    assert list(changes([ALICE, BOB], after)) == told


def test_whoever_takes_our_place_under_our_own_name_raises_an_alarm(
    server: MemoryServer, people: Callable[..., list[Person]], tmp_path: Path
) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, bob)
    (tmp_path / "elsewhere").mkdir()
    other = Person(server, tmp_path / "elsewhere", "bob", new_identity=True)
    other.register()
    other.connect()
    settle(alice, bob, other)
    entries: list[wire.Entry] = []

    def listen(_link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        entries.extend([message] if isinstance(message, wire.Entry) else [])
        return [message]

    server.outward = listen
    other.do(commands.JoinRoom("#lobby"))
    settle(alice, bob, other)
    told = [event for event in alice.happened if isinstance(event, events.ConversationChanged)]
    assert ("new-key", "bob") in [(event.change, event.account) for event in told]
    assert not [event for event in alice.happened if isinstance(event, events.Alarm)]
    other.stop()
    # An honest server has let the old device go; one that lies shows it the commit.
    bob.engine.receive([entries[-1]])
    bob.flush()
    (alarm,) = [event for event in bob.happened if isinstance(event, events.Alarm)]
    assert "under your own name" in alarm.text
    assert bob.state_of("#lobby") == "closed"
