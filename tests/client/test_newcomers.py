"""Who is new in a conversation is told by account, key and device, never by the name alone."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.conversations.newcomers import changes
from securechat.identity.certificate import DeviceCertificate
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, only, settle


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


def test_a_device_that_has_re_entered_is_told(server: MemoryServer, people: Callable[..., list[Person]]) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    only(bob, lambda message: [] if isinstance(message, wire.Entry) else [message])
    alice.say("bob", "lost")
    settle(alice, bob)
    server.outward = lambda _link, message: [message]
    alice.say("bob", "after it")
    settle(alice, bob)
    assert bob.state_of("alice") == "stopped"
    alice.happened.clear()
    bob.do(commands.Repair(bob.id_of("alice")))
    settle(alice, bob)
    told = [event for event in alice.happened if isinstance(event, events.ConversationChanged)]
    assert [(event.change, event.account) for event in told] == [("re-entered", "bob")]
