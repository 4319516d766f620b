"""The commands that ask: what is on this device, and what the server or a person's number says."""

import json
import re
from queue import SimpleQueue
from typing import Any

import msgspec
import pytest

from securechat.client import commands
from securechat.client.events import Done, MemberList, NumberedKey, RoomList, RoomListed, SafetyNumber
from securechat.errors import UsageError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.objects import EventObject, MessageObject, event_from
from securechat.ui.scripts.asking import run_history, run_members, run_rooms, run_search, run_verify
from securechat.ui.scripts.run import Events
from tests.support.scripted import NUMBER, ScriptedClient, conversation

BOB = conversation("bob")
OTHER = NUMBER.replace("00000", "99999")


class Asker:
    """A core that does what a test says, and what commands have printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.events: Events = SimpleQueue()
        self.client = ScriptedClient(self.events.put)
        self.client.add(BOB)
        self._capsys = capsys
        self.complaints = ""

    def printed(self) -> str:
        output, self.complaints = self._capsys.readouterr()
        return output

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.printed().splitlines()]

    @property
    def given(self) -> list[commands.Command]:
        return [each for each in self.client.calls if isinstance(each, commands.Command)]


@pytest.fixture
def asker(capsys: pytest.CaptureFixture[str]) -> Asker:
    return Asker(capsys)


OPTIONS: dict[str, Any] = {"wait": False, "timeout": 20.0}


def test_history_is_read_here_and_asks_nobody(asker: Asker) -> None:
    for text in ("one", "two\n\x1b[31m\u202e", "three"):
        asker.client.receive(BOB, "bob", text)
    assert run_history(asker.client, "bob", 2, as_json=True) == ExitCode.OK
    lines = asker.objects()
    assert [line["message"]["text"] for line in lines] == ["two\n\x1b[31m\u202e", "three"]
    for line in lines:
        msgspec.json.decode(json.dumps(line), type=MessageObject)
    run_history(asker.client, "bob", 3, as_json=False)
    shown = asker.printed()
    assert re.findall(r"\[bob\] bob: (\w+)", shown) == ["one", "two", "three"]
    assert "\x1b" not in shown
    assert asker.client.calls == []


def test_a_search_prints_the_newest_that_it_finds_oldest_first(asker: Asker) -> None:
    for text in ("a tree", "a house", "two trees", "three trees"):
        asker.client.receive(BOB, "bob", text)
    run_search(asker.client, "tree", 2, as_json=True)
    assert [line["message"]["text"] for line in asker.objects()] == ["two trees", "three trees"]
    with pytest.raises(UsageError, match="has: takes"):
        run_search(asker.client, "has:money", 2, as_json=True)
    assert asker.client.calls == []


def test_rooms_and_members_are_the_events_that_answer(asker: Asker) -> None:
    rooms = RoomList((RoomListed("#lobby", "open", 2, joined=False),))
    asker.client.told[commands.ListRooms] = rooms
    assert run_rooms(asker.client, asker.events, as_json=True, **OPTIONS) == ExitCode.OK
    (line,) = asker.objects()
    msgspec.json.decode(json.dumps(line), type=EventObject)
    assert event_from(line | {"command": 0}) == rooms
    there = MemberList(BOB.id, (("bob", True, "accepted"),))
    asker.client.told[commands.ListMembers] = there
    assert run_members(asker.client, asker.events, "bob", as_json=True, **OPTIONS) == ExitCode.OK
    (line,) = asker.objects()
    assert (line["where"], event_from(line | {"command": 0})) == ("bob", there)
    assert run_members(asker.client, asker.events, "bob", as_json=False, **OPTIONS) == ExitCode.OK
    assert "bob" in asker.printed()
    assert run_members(asker.client, asker.events, "#typo", as_json=True, **OPTIONS) == ExitCode.FAILURE
    assert asker.printed() == ""
    assert "You have no conversation #typo." in asker.complaints


def test_verify_notes_a_number_that_fits_and_no_other(asker: Asker) -> None:
    keys = SafetyNumber("bob", (NumberedKey("3c4d", "changed", OTHER, ()), NumberedKey("1a2b", "accepted", NUMBER, ())))
    asker.client.told[commands.ShowSafetyNumber] = keys
    asker.client.answer[commands.ShowSafetyNumber] = Done()
    assert run_verify(asker.client, asker.events, "Bob", "", as_json=False, **OPTIONS) == ExitCode.OK
    assert NUMBER[:23] in asker.printed()
    asker.client.calls.clear()
    assert run_verify(asker.client, asker.events, "bob", NUMBER, as_json=True, **OPTIONS) == ExitCode.OK
    assert asker.given == [commands.ShowSafetyNumber("bob"), commands.Verify("bob", "1a2b")]
    assert [line["event"] for line in asker.objects()] == ["KeyAccepted"]
    for wrong in (NUMBER.replace("00001", "00002"), NUMBER[:-1], "0"):
        asker.client.calls.clear()
        assert run_verify(asker.client, asker.events, "bob", wrong, as_json=True, **OPTIONS) == ExitCode.UNTRUSTED
        assert asker.given == [commands.ShowSafetyNumber("bob")]
        assert asker.printed() == ""
        assert "number of no key that bob has shown" in asker.complaints
