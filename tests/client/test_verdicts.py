"""What the table of doors says is told and waits: the client has no other source for either."""

import ast
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from securechat.client import commands, device, events
from securechat.client.conversations import offers, resync
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.verdicts import ENTERED
from securechat.client.doors.table import TABLE, decide
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]
ROOT = Path(__file__).parents[2]
DAY = 86_400_000  # milliseconds


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change a row of the table that all clients look up."""

    def change(name: str, **fields: Any) -> None:
        assert name in {row.name for row in TABLE}
        table = tuple(replace(row, **fields) if row.name == name else row for row in TABLE)
        monkeypatch.setattr(offers, "decide", partial(decide, table=table))

    return change


def there(person: Person, name: str) -> Conversation:
    found = person.engine._registry.find(name)
    assert found is not None
    return found


@pytest.fixture
def old_copy(people: World) -> tuple[Person, Person]:
    """Bob talks to alice, and his vault does not know of the newest thing that he has said."""
    alice, bob = people("alice", "bob")
    bob.do(commands.OpenDirect("alice", "hello", ask=False))
    settle(alice, bob)
    bob.stop()
    kept = {each: each.read_bytes() for each in bob.path.parent.glob(f"{bob.path.name}*")}
    bob.start()
    bob.connect()
    bob.say("alice", "which the copy does not know")
    settle(alice, bob)
    bob.stop()
    for file in bob.path.parent.glob(f"{bob.path.name}*"):
        file.unlink()
    for file, content in kept.items():
        file.write_bytes(content)
    bob.start()
    return alice, bob


@pytest.mark.parametrize("told", ["old-copy", ""])
@pytest.mark.parametrize("waits", ["fresh-path", "nothing"])
def test_an_older_copy_is_told_of_and_commits_a_fresh_path_because_the_table_says_so(
    old_copy: tuple[Person, Person], door: Callable[..., None], told: str, waits: str
) -> None:
    alice, bob = old_copy
    door("old copy", told=told, waits=waits)
    bob.connect()
    settle(alice, bob)
    bob.say("alice", "and on")
    settle(alice, bob)
    # The copy has used the keys of this epoch, and others have deleted them.
    assert (alice.texts("bob")[-1] == "bob: and on") == (waits == "fresh-path")
    copies = [each for each in bob.of(events.OutOfStep) if isinstance(each, events.OutOfStep)]
    assert [each.what for each in copies] == ["older-copy"] * bool(told)


@pytest.mark.parametrize("waits", ["held", "nothing"])
def test_a_line_waits_for_who_entered_by_an_old_key_because_the_table_says_so(
    server: MemoryServer, people: World, monkeypatch: pytest.MonkeyPatch, door: Callable[..., None], waits: str
) -> None:
    alice, bob = people("alice", "bob")
    monkeypatch.setattr(device, "CERTIFICATE_SECONDS", 3 * 86_400)
    (carol,) = people("carol")
    everybody = alice, bob, carol
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    room = alice.id_of("#club")
    for name in ("bob", "carol"):
        alice.do(commands.Invite(room, name))
        settle(*everybody)
    bob.cut()
    resync.supersede(there(carol, "#club"))
    carol.engine._context.touched.add(room)
    carol.engine.handle_timer()
    settle(alice, carol)
    carol.cut()
    server.now += 5 * DAY
    bob.say("#club", "typed before")
    door("next commit", waits=waits)
    bob.connect()
    settle(alice, bob)
    assert ("bob: typed before" in alice.texts("#club")) == (waits == "nothing")
    assert bool(bob.of(events.Held)) == (waits == "held")
    # Whose key is an old one is told either way.
    assert [each.account for each in bob.of(events.CameByOldKey) if isinstance(each, events.CameByOldKey)] == ["carol"]


@pytest.mark.parametrize("told", ["request", "entered"])
def test_a_direct_conversation_is_a_request_because_the_table_says_so(
    people: World, door: Callable[..., None], told: str
) -> None:
    alice, bob = people("alice", "bob")
    door("direct request", told=told)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    came = [each.change for each in bob.of(events.ConversationChanged) if isinstance(each, events.ConversationChanged)]
    assert came[0] == ("request" if told == "request" else "opened")


def test_every_way_in_is_told_as_something() -> None:
    coming = {row.told for row in TABLE if row.action in ("ask", "enter", "beside")}
    assert coming | {"keepsake"} == ENTERED.keys()


def test_nothing_else_tells_or_lets_wait_what_the_table_decides() -> None:
    telling, holding, freshening = set(), set(), set()
    for path in (ROOT / "securechat/client").rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            where = path.stem, function.name
            for each in ast.walk(function):
                if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
                    said = {word.value for word in each.args if isinstance(word, ast.Constant)}
                    decided = said & {"older-copy", "own-commit", "checkpoint", "nothing-left", "ahead"}
                    if each.func.attr == "Gap" or (each.func.attr == "OutOfStep" and decided):
                        telling.add(where)
                    if each.func.attr == "_replace" and any(word.arg == "door" for word in each.keywords):
                        holding.add(where)
                if isinstance(each, ast.Assign) and ast.unparse(each.value).endswith("path_messages"):
                    freshening.add(where)
    resynced = "entering", "_entered"  # after the messages that our own resync has passed over
    assert telling == {("verdicts", "tell"), resynced}
    assert holding == {("roster", "hold"), ("roster", "forget_door"), ("holds", "confirm")}
    assert freshening == {("verdicts", "look")}
