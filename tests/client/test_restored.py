"""A restored server: nobody goes back, what it lacks is handed back, and all go on (design, section 6)."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.server.store.sqlite.store import SQLiteStore
from tests.client.test_following import there, told
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


class Backups:
    """The server's database as it was, to be put back."""

    def __init__(self, server: MemoryServer, folder: Path) -> None:
        self._server = server
        self._file = folder / "store.db"

    def take(self, copy: Path) -> None:
        """Make a backup, as `securechat admin backup` does."""
        with closing(sqlite3.connect(self._file)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)

    def put_back(self, copy: Path, *people: Person) -> None:
        """Restore one, as `securechat admin restore` does; everybody has lost the connection."""
        for person in people:
            person.cut()
        server = self._server
        server.stop()
        for each in self._file.parent.glob("store.db*"):
            each.unlink()
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(self._file)) as target:
            source.backup(target)
        with closing(SQLiteStore(self._file, durable=False)) as store:
            store.directory.drop_key_packages()
            store.conversations.resume(server.now)
            store.commit()
        now, seconds = server.now, server.seconds
        server.__init__(self._file.parent)  # type: ignore[misc]  # the same object: people hold on to it
        server.now, server.seconds = now, seconds


@pytest.fixture
def backups(server: MemoryServer, tmp_path: Path) -> Backups:
    return Backups(server, tmp_path / "server")


def talk(everybody: list[Person], name: str, text: str) -> None:
    """Everybody says something, and everybody reads it."""
    for person in everybody:
        person.say(_their(person, name), f"{text} of {person.name}")
        settle(*everybody)
    for person in everybody:
        lines = person.texts(_their(person, name))
        assert [line for line in lines if text in line] == [f"{each.name}: {text} of {each.name}" for each in everybody]


def _their(person: Person, name: str) -> str:
    """A conversation's name for one of its members; `alice-bob` is a direct one."""
    return next(each for each in name.split("-") if each != person.name)


def come_back(everybody: list[Person]) -> None:
    """Everybody connects."""
    for person in everybody:
        person.connect()
    settle(*everybody)


def asked(person: Person) -> list[events.Event]:
    """What a person was asked, or alarmed by."""
    return [*person.of(events.Alarm), *person.of(events.Held), *person.of(events.Stopped), *person.of(events.Refused)]


def test_where_messages_alone_are_lost_all_go_on_behind_a_gap(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)
    backups.take(tmp_path / "backup")
    talk(everybody, "alice-bob", "lost")
    backups.put_back(tmp_path / "backup", *everybody)
    come_back(everybody)
    talk(everybody, "alice-bob", "anew")
    assert not asked(alice)
    assert not asked(bob)
    assert not told(bob, events.OutOfStep)


def test_an_open_room_is_the_servers_and_whoever_knows_more_enters_it_anew(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    backups.take(tmp_path / "backup")
    carol.do(commands.JoinRoom("#lobby"))
    settle(*everybody)
    epoch = there(alice, "#lobby").group.epoch
    backups.put_back(tmp_path / "backup", *everybody)
    alice.say("#lobby", "waits")
    come_back(everybody)
    assert told(alice, events.OutOfStep) == told(bob, events.OutOfStep) == ["ahead"]
    assert there(alice, "#lobby").group.epoch_authenticator == there(bob, "#lobby").group.epoch_authenticator
    assert epoch <= there(alice, "#lobby").group.epoch
    assert bob.texts("#lobby")[-1] == "alice: waits"
    assert "carol" not in there(alice, "#lobby").row.members  # she has to come again
    carol.do(commands.JoinRoom("#lobby"))
    settle(*everybody)
    talk(everybody, "#lobby", "anew")
    for person in everybody:
        assert not asked(person)
