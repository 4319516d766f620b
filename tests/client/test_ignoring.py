"""`/ignore`: an account's lines in open rooms are hidden on this device, and nothing else changes."""

from collections.abc import Callable

import pytest

from securechat.client import commands, contacts, events
from securechat.errors import UsageError
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def meet(people: World) -> list[Person]:
    everybody = people("alice", "bob", "mallory")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    return everybody


def received(person: Person) -> list[str]:
    return [each.message.text for each in person.of(events.Received) if isinstance(each, events.Received)]


def unread(person: Person, name: str) -> int:
    return person.vault.history.unread_counts().get(person.id_of(name), (0, 0))[0]


def test_an_ignored_account_is_not_seen_in_open_rooms_and_is_elsewhere(people: World) -> None:
    alice, bob, mallory = meet(people)
    mallory.say("#lobby", "spam 0")
    settle(alice, bob, mallory)
    bob.say("#lobby", "hello")
    settle(alice, bob, mallory)
    alice.do(command := commands.Ignore("Mallory"))
    assert alice.of(events.Ignored) == [events.Ignored("mallory", ignored=True, command=command.id)]
    mallory.say("#lobby", "spam 1")
    mallory.do(commands.OpenDirect("alice", "please", ask=False))
    settle(alice, bob, mallory)
    assert alice.texts("#lobby") == ["bob: hello"]
    assert unread(alice, "#lobby") == 1
    assert received(alice) == ["spam 0", "hello", "please"]
    assert alice.texts("mallory") == ["mallory: please"]
    assert unread(alice, "mallory") == 1
    assert bob.texts("#lobby") == ["mallory: spam 0", "bob: hello", "mallory: spam 1"]
    assert unread(bob, "#lobby") == 2


def test_what_was_hidden_is_there_again_and_is_counted_once(people: World) -> None:
    alice, bob, mallory = meet(people)
    alice.do(commands.Ignore("mallory"))
    mallory.say("#lobby", "spam 0")
    bob.say("#lobby", "hello")
    mallory.say("#lobby", "spam 1")
    settle(alice, bob, mallory)
    alice.crash()
    alice.connect()
    settle(alice, bob, mallory)
    assert alice.texts("#lobby") == ["bob: hello"]  # the vault remembers
    alice.do(commands.Unignore("mallory"))
    assert sorted(alice.texts("#lobby")) == ["bob: hello", "mallory: spam 0", "mallory: spam 1"]
    assert unread(alice, "#lobby") == 3
    alice.do(commands.Ignore("mallory"))
    assert unread(alice, "#lobby") == 1
    alice.do(commands.Visit(alice.id_of("#lobby"), alice.vault.history.last_id))
    assert alice.vault.history.unread_counts() == {}
    alice.do(commands.Unignore("mallory"))
    assert unread(alice, "#lobby") == 0
    mallory.say("#lobby", "spam 2")
    settle(alice, bob, mallory)
    assert unread(alice, "#lobby") == 1


def test_pages_pass_over_what_is_hidden(people: World) -> None:
    alice, bob, mallory = meet(people)
    for n in range(10):
        mallory.say("#lobby", f"spam {n}")
        bob.say("#lobby", str(n))
        settle(alice, bob, mallory)
    alice.do(commands.Ignore("mallory"))
    pages = alice.vault.history
    newest = pages.newest(alice.id_of("#lobby"), 3)
    assert [each.text for each in newest] == ["7", "8", "9"]
    assert [each.text for each in pages.before(newest[0].local_id, 3)] == ["4", "5", "6"]
    assert [each.text for each in pages.after(newest[0].local_id, 9)] == ["8", "9"]
    assert [each.text for each in pages.around(newest[0].local_id, 1)] == ["6", "7", "8"]
    assert [each.text for each in pages.unread(0, 99)] == [str(n) for n in range(10)]


def test_who_is_ignored_stands_in_the_list_of_an_open_room_alone(people: World) -> None:
    alice, bob, mallory = meet(people)
    alice.do(commands.Ignore("mallory"))
    alice.do(commands.CreateRoom("#team"))
    settle(alice, bob, mallory)
    alice.do(commands.Invite(alice.id_of("#team"), "mallory"))
    settle(alice, bob, mallory)
    for name, ignored in (("#lobby", ("mallory",)), ("#team", ())):
        alice.do(commands.ListMembers(alice.id_of(name)))
        settle(alice, bob, mallory)
        listed = alice.of(events.MemberList)[-1]
        assert isinstance(listed, events.MemberList)
        assert listed.ignored == ignored
    mallory.say("#team", "I am invited")
    settle(alice, bob, mallory)
    assert alice.texts("#team") == ["mallory: I am invited"]


def test_what_makes_no_sense_is_refused(people: World, server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    (alice,) = people("alice")
    with pytest.raises(UsageError, match="That is you"):
        alice.do(commands.Ignore("alice"))
    with pytest.raises(UsageError, match="not ignored"):
        alice.do(commands.Unignore("bob"))
    alice.do(commands.Ignore("bob"))
    with pytest.raises(UsageError, match="ignored already"):
        alice.do(commands.Ignore("bob"))
    monkeypatch.setattr(contacts, "MAX_IGNORED", 1)
    with pytest.raises(UsageError, match="/unignore"):
        alice.do(commands.Ignore("carol"))
    assert server.conversations == []
