"""A vault put back from a copy of its files: first messages over keys that the copy does not know are not swallowed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events, publishing
from securechat.client.conversations import stock
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.scenes import happened
from tests.support.live import LiveServer


def ask(person: LiveClient, peer: str) -> None:
    """Write to somebody for the first time, and be sure that it is accepted."""
    command = commands.OpenDirect(peer, f"{person.name} was here", ask=True)
    assert isinstance(person.answer(command), events.Done)


def test_after_a_vault_was_put_back_everybody_reaches_it_again(
    server: LiveServer, clients: Callable[..., list[LiveClient]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (publishing, stock):
        monkeypatch.setattr(module, "KEY_PACKAGE_STOCK", 2)
    monkeypatch.setattr(stock, "KEY_PACKAGE_LOW", 2)  # each Welcome brings a new one
    alice, bob, carol, dave, erin = clients(server, "alice", "bob", "carol", "dave", "erin")
    alice.close()
    backup = tmp_path / "backup"
    backup.mkdir()
    for file in alice.path.parent.glob("alice.vault*"):
        shutil.copy(file, backup / file.name)
    alice.start()
    alice.wait_for(events.Ready)
    ask(carol, "alice")  # over the first key; a third one is published
    alice.read("carol", "carol: carol was here")
    alice.wait_until(lambda: not alice.client._engine._registry._stock.publishing)
    alice.close()
    ask(bob, "alice")  # over the second
    ask(dave, "alice")  # over the third, which the copy does not know
    for file in backup.iterdir():
        shutil.copy(file, alice.path.parent / file.name)
    alice.start()
    alice.read("bob", "bob: bob was here")
    alarm = alice.wait_for(events.Alarm)
    assert "let into a conversation with dave, by a key that it does not have" in alarm.text
    alice.wait_for(events.Ready)
    ask(erin, "alice")
    alice.read("erin", "erin: erin was here")
    for friend in (dave, carol):  # whose Welcome nothing opens, and whose Welcome is gone with the lost vault
        alice.do(commands.OpenDirect(friend.name, f"hello {friend.name}", ask=False))
        friend.read("alice", f"alice: hello {friend.name}")
        told = friend.wait_for(events.OutOfStep)
        assert (told.what, told.count) == ("anew", 1)  # the line that was not read
        friend.say("alice", "there you are")
        alice.read(friend.name, f"{friend.name}: there you are")
    for person in (bob, carol, dave, erin):
        assert not happened(person, events.Alarm)
    assert happened(alice, events.Alarm) == [alarm]
