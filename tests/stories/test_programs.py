"""The everyday stories in a small form, with a real server process and real clients over TLS."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.scenes import direct, found, happened, lobby, members, say, state
from tests.stories.asking import asked_in
from tests.support.live import LiveServer

Clients = Callable[..., list[LiveClient]]


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    """Start clients of one server."""
    server = LiveServer(tmp_path)
    everybody: list[LiveClient] = []

    def make(*names: str) -> list[LiveClient]:
        for name in names:
            everybody.append(LiveClient(server, name))
            everybody[-1].wait_for(events.Ready)
        return everybody[-len(names) :]

    yield make
    for client in everybody:
        if not any(isinstance(event, events.Ended) for event in client.happened):
            client.close()
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def begin(*people: LiveClient) -> None:
    """What was told so far is not part of the story."""
    for person in people:
        happened(person, events.Event)
        person.happened.clear()


def asked(*people: LiveClient) -> list[int]:
    """How many questions each was asked."""
    return [len(asked_in(happened(person, events.Event), person.client._engine)) for person in people]


def all_read_each_other(name: str, *people: LiveClient) -> None:
    """Each says something that all others read."""
    for person in people:
        say(person, name, f"{person.name} is here")
    for person in people:
        person.read(name, *(f"{each.name}: {each.name} is here" for each in people))


def start_again(person: LiveClient) -> None:
    """Start a client that was closed; what it was told before still counts."""
    before = person.happened
    person.start()
    person.happened = [event for event in before if not isinstance(event, events.Ended | events.Ready)]
    person.wait_for(events.Ready)


def test_a_new_phone_a_new_key_and_a_new_member(clients: Clients) -> None:
    alice, bob, carol, dave = clients("alice", "bob", "carol", "dave")
    direct(alice, bob)
    room = found(carol, "#club", alice, bob)
    begin(alice, bob, carol, dave)
    alice.close()
    alice.path = alice.path.with_name("new-alice.vault")
    alice.settings = replace(alice.settings, new_identity=True)
    alice.start()
    alice.wait_for(events.Ready)
    for person in (bob, carol):
        alice.do(commands.OpenDirect(person.name, "my new phone", ask=False))
        person.wait_for(events.KeyChanged)
        assert isinstance(person.answer(commands.Trust("alice")), events.Done)
        say(person, "alice", "good to see you", alice)
    for name in ("alice", "dave"):
        assert isinstance(carol.answer(commands.Invite(room, name)), events.Done)
    for person in (alice, dave):
        person.wait_until(lambda person=person: state(person, "#club") == "open")  # type: ignore[misc]  # bound now
    all_read_each_other("#club", alice, bob, carol, dave)
    assert asked(alice, bob, carol, dave) == [1, 1, 1, 1]


def test_the_laptop_of_yesterday_and_a_short_absence(clients: Clients, tmp_path: Path) -> None:
    alice, bob, carol = clients("alice", "bob", "carol")
    found(alice, "#club", bob, carol)
    lobby(alice, bob, carol)
    begin(alice, bob, carol)
    bob.close()
    shutil.copy(bob.path, tmp_path / "yesterday")
    start_again(bob)
    say(bob, "#club", "today", alice, carol)
    bob.close()
    say(alice, "#club", "while bob is away", carol)
    shutil.copy(tmp_path / "yesterday", bob.path)
    start_again(bob)
    for name in ("#club", "#lobby"):
        all_read_each_other(name, alice, bob, carol)
    assert "alice: while bob is away" in bob.texts("#club")
    assert asked(alice, bob, carol) == [0, 0, 0]
    assert not happened(alice, events.ConversationChanged)


def test_an_owner_who_is_gone_and_one_who_leaves_and_comes_back(clients: Clients) -> None:
    alice, bob, carol = clients("alice", "bob", "carol")
    room = found(alice, "#club", bob, carol)
    direct(bob, carol)
    assert isinstance(alice.answer(commands.SetOwner(room, "bob", owner=True)), events.Done)
    bob.wait_until(lambda: "bob" in bob.client.find("#club").owners)  # type: ignore[union-attr]  # he is in it
    begin(alice, bob, carol)
    alice.close()
    assert isinstance(carol.answer(commands.Leave(room)), events.Done)
    bob.wait_until(lambda: "carol" not in members(bob, "#club"))
    assert isinstance(bob.answer(commands.Invite(room, "carol")), events.Done)
    carol.wait_until(lambda: state(carol, "#club") == "open")
    all_read_each_other("#club", bob, carol)
    assert asked(bob, carol) == [0, 1]


def test_two_who_open_at_once(clients: Clients) -> None:
    alice, bob = clients("alice", "bob")
    for one, other in ((alice, bob), (bob, alice)):
        one.do(commands.OpenDirect(other.name, f"from {one.name}", ask=False))
    for one, other in ((alice, bob), (bob, alice)):
        one.read(other.name, "alice: from alice", "bob: from bob")
    assert asked(alice, bob) == [0, 0]
