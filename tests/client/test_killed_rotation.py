"""A program that is killed between any two writes of a rotation goes on with it, or with the key before, and with one
key at a time: nobody is locked out, and nothing is said twice or under a key that was given up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from securechat.client import commands, events
from securechat.client.vault.database import Database
from tests.client.test_renewing import SILENT, own_key, talking
from tests.client.test_rotation import certificate, key, published
from tests.support.memory_server import MemoryServer
from tests.support.people import PASSWORD, Person, settle

World = Callable[..., list[Person]]


class Killed(BaseException):
    """The process is gone. What it had not committed is lost, and so is what it had not sent."""


@contextmanager
def killed_at(person: Person, number: int) -> Iterator[None]:
    """Let a program live through so many writes to its vault, and commits, and no more."""
    left = number

    def passing() -> None:
        nonlocal left
        if left == 0:
            left -= 1  # one that is dead does not die again
            raise Killed
        left -= 1

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(database: Database, sql: str, *values: Any) -> Any:
            watched = database.path == person.path and left >= 0 and not sql.startswith(("SELECT", "BEGIN"))
            if watched:
                passing()
            result = function(database, sql, *values)
            if watched and sql == "COMMIT":
                passing()
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("run", "run_many"):
            patch.setattr(Database, name, counted(getattr(Database, name)))
        yield


def test_killed_between_any_two_writes_of_a_rotation_it_goes_on(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob)
    names = {"bob": "alice", "#club": "#club"}
    said: list[str] = []
    killed, number, renewed = True, 0, 0
    for person in (alice, bob):
        person.happened.clear()
    while killed:
        old, killed = key(alice), False
        try:
            with killed_at(alice, number):
                alice.do(commands.Rotate())
                alice.do(commands.Unlock(PASSWORD))
                settle(alice, bob)
        except Killed:
            killed = True
            assert alice.link is not None
            alice.link.close()
            alice.link = None
            alice.to_server.clear()
            alice.crash()
            alice.connect()
            settle(alice, bob)
        renewed += key(alice) != old
        assert published(server, alice) == certificate(alice)
        for name, theirs in names.items():
            assert own_key(alice, name) == key(alice)
            if number % 5 == 0 or not killed:
                alice.say(name, f"{number}")
                bob.say(theirs, f"{number}, too")
                settle(alice, bob)
        if number % 5 == 0 or not killed:
            said += [f"alice: {number}", f"bob: {number}, too"]
        number += 1
    assert number > 30, "there was little to be killed between"
    assert 0 < number - renewed < number  # what was killed before the key was in the vault is forgotten
    for person, its in ((alice, names.keys()), (bob, names.values())):
        for name in its:
            assert sorted(person.texts(name)[-len(said) :]) == sorted(said)
        assert not [event for event in person.happened if isinstance(event, (*SILENT, events.OutOfStep, events.Gap))]
    assert set(alice.engine._context.device.keys.keys()) >= {key(alice)}
