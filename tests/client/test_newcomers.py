"""Who is new in a conversation is told by account, key and device, never by the name alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.conversations.newcomers import changes
from securechat.client.doors.facts import Leaf
from securechat.errors import UsageError
from securechat.wire import messages as wire
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import Person, settle


def person(account: str, key: str = "", device: str = "1") -> Leaf:
    return Leaf(account, (key or account).encode().ljust(32), f"{account} {device}".encode().ljust(16))


ALICE, BOB, CAROL = map(person, ("alice", "bob", "carol"))


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ([ALICE, BOB], []),
        ([ALICE, person("bob", device="2")], [("new-device", "bob")]),
        ([ALICE, person("bob", "forged")], [("new-key", "bob")]),
        ([ALICE, person("bob", "forged", "2")], [("new-key", "bob")]),
        ([ALICE, BOB, CAROL], [("joined", "carol")]),
        ([ALICE], [("removed", "bob")]),
        ([ALICE, CAROL], [("joined", "carol"), ("removed", "bob")]),
    ],
)
def test_members_are_compared_by_key_and_device(after: list[Leaf], told: list[tuple[str, str]]) -> None:
    were, are = {ALICE, BOB}, set(after)
    assert list(changes(are - were, were - are)) == told


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


def test_who_let_somebody_in_and_who_removed_them_is_told_to_all(people: Callable[..., list[Person]]) -> None:
    everybody = alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    room = alice.id_of("#club")
    for command in (commands.Invite(room, "bob"), commands.SetInviter(room, "bob", inviter=True)):
        alice.do(command)
        settle(*everybody)
    bob.do(commands.Invite(room, "carol"))
    settle(*everybody)
    alice.do(commands.Remove(room, "carol"))
    settle(*everybody)
    told = [
        [(each.change, each.account, each.by) for each in one.happened if isinstance(each, events.ConversationChanged)]
        for one in (alice, bob)
    ]
    assert ("joined", "bob", "alice") in told[0]
    for each in told:
        assert ("joined", "carol", "bob") in each
        assert ("removed", "carol", "alice") in each
    for one in (carol, dave):  # the twin: they come by themselves
        one.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    entered = [each for each in carol.happened if isinstance(each, events.ConversationChanged)]
    assert [(each.account, each.by) for each in entered if each.account == "dave"] == [("dave", "")]


def test_whoever_left_and_is_let_in_again_is_told_to_all_and_again_when_they_come(
    people: Callable[..., list[Person]],
) -> None:
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    room = alice.id_of("#club")
    for name in ("bob", "carol"):
        alice.do(commands.Invite(room, name))
        settle(*everybody)
    with pytest.raises(UsageError, match="carol is in #club"):  # the twin: she is there
        alice.do(commands.Invite(room, "carol"))
    carol.do(commands.Leave(room))
    settle(*everybody)
    for one in everybody:
        one.happened.clear()
        one.obliging = False
    alice.do(commands.Invite(room, "carol"))  # to the leaf that she had, in the commit that drops it
    settle(*everybody)
    for one in (alice, bob):
        assert ("joined", "carol", "alice") in _told(one)
        assert ("entered", "carol", "") not in _told(one)
    (asked,) = carol.engine.snapshot.invitations.values()
    carol.do(commands.AcceptInvitation(asked.conversation, asked.question))
    settle(*everybody)
    for one in (alice, bob):
        assert ("entered", "carol", "") in _told(one)
    assert not [change for change, _, _ in _told(carol) if change == "entered"]  # she hears that she is in


def _told(person: Person) -> list[tuple[str, str, str]]:
    changed = [each for each in person.happened if isinstance(each, events.ConversationChanged)]
    return [(each.change, each.account, each.by) for each in changed]
