"""`securechat admin`: who is there, who takes most, and how the operator ends sessions, accounts and rooms."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from securechat import cli
from securechat.client import events
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.store.records import StoredKeepsake
from securechat.ui.exit_codes import ExitCode
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.scenes import found
from securechat_lab.cast.wire_client import Person, WireClient
from tests.support.live import LiveServer

Enter = Callable[..., Person]
Connect = Callable[..., WireClient]
Run = Callable[..., str]


def admin(data: Path) -> Run:
    """Return what runs `securechat admin` on a folder and says what it prints: its error, where it is meant to fail."""

    def begin(*arguments: str, code: ExitCode = ExitCode.OK) -> str:
        result = CliRunner().invoke(cli.main, ["admin", "--data", str(data), *arguments])
        assert result.exit_code == code, result.output
        return result.stderr if code else result.stdout

    return begin


@pytest.fixture
def run(config: ServerConfig) -> Run:
    return admin(config.data)


def leaves(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below one, with their names."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, *path, name)
    else:
        yield path, command


def test_every_command_of_the_operator_speaks_json() -> None:
    found = dict(leaves(cli.admin.admin))
    assert len(found) > 20
    for path, command in found.items():
        assert "as_json" in [each.name for each in command.params], path


def test_json_has_the_fields_that_the_handbook_tells(
    server: Server, enter: Enter, run: Run, tmp_path: Path
) -> None:
    alice = enter("alice")
    alice.open_room("#den", "invite")
    handbook = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    told = {
        command: set(re.findall(r"`(\w+)`", fields))
        for command, fields in re.findall(r"^\| `([a-z -]+) --json` \| (.+) \|$", handbook, re.MULTILINE)
    }

    def fields(value: object) -> set[str]:
        found: set[str] = set()
        if isinstance(value, dict):
            found |= set(value)
            for each in value.values():
                found |= fields(each)
        elif isinstance(value, list) and value:
            found |= fields(value[0])
        return found

    code = json.loads(run("users", "add", "dora", "--json"))["code"]
    assert re.fullmatch(r"[a-z2-9]{5}(-[a-z2-9]{5}){3}", code)
    shown = {
        "users list": run("users", "list", "--json"),
        "users add": run("invites", "create", "--json"),
        "sessions list": run("sessions", "list", "--json"),
        "top": run("top", "--json"),
        "invites list": run("invites", "list", "--json"),
        "rooms list": run("rooms", "list", "--json"),
        "rooms list --all": run("rooms", "list", "--all", "--json"),
        "status": run("status", "--json"),
        "notice": run("notice", "hello", "--json"),
        "backup": run("backup", str(tmp_path / "backup.tar"), "--json"),
        "users disable": run("users", "disable", "alice", "--json"),
    }
    found = {command: fields(json.loads(text)) for command, text in shown.items()}
    found["status"] = set(json.loads(shown["status"]))
    assert found == told
    assert json.loads(shown["users disable"]) == {}
    assert json.loads(shown["users list"])["users"][0]["name"] == "alice"
    assert server.running


def test_the_operator_sees_who_is_there_and_ends_their_sessions(
    server: Server, enter: Enter, connect: Connect, run: Run
) -> None:
    alice, bob = enter("alice"), enter("bob")
    shown = run("sessions", "list")
    assert re.search(rf"alice +{alice.device.hex()[:8]} +127\.0\.0\.1:\d+ +in +0\n", shown)
    run("sessions", "kick", "alice")
    closing = alice.ended().closing
    assert closing is not None
    assert (closing.reason, "the server's operator has ended this login" in closing.text) == ("logged-out", True)
    assert "alice" not in run("sessions", "list")
    client = connect()
    assert client.ask(m.Resume, *alice.credentials(client.channel)).code == "token-refused"
    assert isinstance(client.ask(m.Login, "alice", alice.secret, alice.device), m.LoggedIn)
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)
    assert "there is no account carol" in run("sessions", "kick", "carol", code=ExitCode.FAILURE)
    assert server.running


def test_top_shows_who_holds_most_and_who_sends_most(server: Server, enter: Enter, run: Run) -> None:
    alice, bob = enter("alice"), enter("bob")
    server._store.keepsakes.put("bob", StoredKeepsake(bytes(32), 1, bytes(3 << 20)))
    server._store.commit()
    alice.open_room("#den", "invite")
    top = json.loads(run("top", "--json"))
    assert top["accounts"][0]["name"] == "bob"
    assert top["accounts"][0]["held_bytes"] > 3 << 20
    assert [(room["name"], room["kind"], room["founder"]) for room in top["rooms"]] == [("#den", "invite", "alice")]
    assert re.search(r"bob +3\.\d MiB +0\.0 MiB +1 +[\d.]+\n", run("top", "--count", "1"))
    assert bob.ask(m.ListRooms)


def test_a_deleted_account_is_gone_and_its_name_and_rooms_are_not(
    server: Server, enter: Enter, connect: Connect, run: Run, config: ServerConfig
) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#den")
    room = bob.join("#den")
    bob.subscribe(room)
    bob.open_direct("alice")
    server._store.keepsakes.put("alice", StoredKeepsake(bytes(32), 1, b"keepsake"))
    server._store.commit()
    run("users", "reset-password", "alice")
    run("users", "delete", "alice")
    closing = alice.ended().closing
    assert closing is not None
    assert (closing.reason, closing.text) == ("logged-out", "this account was deleted")
    assert re.search(r"alice .* deleted +0\n", run("users", "list"))
    assert run("invites", "list").count("\n") == 1
    client = connect()
    assert client.ask(m.Resume, *alice.credentials(client.channel)).code == "token-refused"
    assert client.ask(m.Login, "alice", alice.secret, alice.device).code == "login-refused"
    assert client.ask(m.Register, "alice", bytes(32), "").code == "name-taken"
    assert client.ask(m.Register, "Alıce", bytes(32), "").code in ("name-taken", "bad-request")
    with server._sequencer._lock:
        assert server._store.directory.devices("alice") == []
        assert server._store.directory.key_packages(alice.device) == []
        assert server._store.keepsakes.find("alice") is None
        assert server._store.inboxes.newest(alice.device) == 0 or not server._store.inboxes.read(alice.device, 0, 1000)
        assert server._store.conversations.of_account("alice") == []
    for arguments in (("disable", "alice"), ("enable", "alice"), ("reset-password", "alice"), ("add", "alice")):
        assert "its name stays reserved" in run("users", *arguments, code=ExitCode.FAILURE)
    assert "reset-password lets it in again" in run("users", "add", "bob", code=ExitCode.FAILURE)  # who is there
    run("users", "delete", "alice")  # again: the answer may have been lost
    assert isinstance(bob.say(room, "without her"), m.Accepted)
    (listed,) = [each for each in bob.ask(m.ListRooms).rooms if each.name == "#den"]
    assert listed.members == 1
    assert bob.ask(m.FetchKeyPackages, "alice").code in ("not-found", "away")
    run("users", "delete", "bob")
    assert "#den" not in run("rooms", "list", "--all")  # the last one is out
    stored = json.loads((config.data / "accounts.json").read_text())["accounts"]
    assert {each["hash"] for each in stored} == {""}
    server.stop()
    again = Server(config)
    again.start()
    assert "deleted" in run("users", "list")
    again.stop()


def test_a_deletion_that_a_kill_cut_short_is_finished_at_the_start(
    server: Server, enter: Enter, config: ServerConfig
) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#den")
    room = bob.join("#den")
    bob.subscribe(room)
    server._accounts.delete("alice").result()  # on disk; the rest of it never began
    server.stop()
    again = Server(config)
    again.start()
    try:
        bob.port = again.port
        with bob.again() as bob:
            assert isinstance(bob.say(room, "without her"), m.Accepted)  # a turn later
            with again._sequencer._lock:
                store = again._store
                assert (store.directory.devices("alice"), store.tokens.of("alice")) == ([], [])
                assert store.conversations.of_account("alice") == []
                assert len(store.directory.devices("bob")) == len(store.conversations.of_account("bob")) == 1
    finally:
        again.stop()


def test_a_room_is_deleted_by_name_or_id_and_frees_what_it_held(
    server: Server, enter: Enter, run: Run
) -> None:
    alice, bob = enter("alice"), enter("bob")
    for name, kind in (("#den", "open"), ("#hut", "invite")):
        alice.open_room(name, kind)
    den, hut = alice.groups
    bob.join("#den")
    bob.subscribe(den)
    for number in range(10):
        assert isinstance(bob.say(den, f"{number}" * 1000), m.Accepted)
    with server._sequencer._lock:
        held = server._store.held("bob")
    assert re.search(rf"#hut +invite +alice +[\d.]+ MiB +{hut.hex()}\n", run("rooms", "list", "--all"))
    run("rooms", "delete", "#Den")
    assert bob.take(m.Notice).text == "#den was deleted. What you say there reaches nobody; /leave closes it."
    assert bob.ask(m.Subscribe, den, 0).code == "not-found"
    assert alice.say(den, "x").code == "not-found"
    with server._sequencer._lock:
        hour_later = int(time.time() + 3600) * 1000  # new entries are looked at when they are older
        while server._store.tidy(hour_later, hour_later)[1]:
            pass
        assert server._store.held("bob") < held - 10_000
    run("rooms", "delete", hut.hex())
    assert run("rooms", "list", "--all").count("\n") == 1
    alice.open_room("#hut")  # its name is free
    for room in ("#nowhere", "00" * 16, "nothing", ""):
        assert "there is no room" in run("rooms", "delete", room, code=ExitCode.FAILURE)
    alice.open_direct("bob")
    *_, direct = alice.groups
    assert "there is no room" in run("rooms", "delete", direct.hex(), code=ExitCode.FAILURE)  # it is no room


def test_a_notice_reaches_everybody_and_is_made_harmless(server: Server, enter: Enter, run: Run) -> None:
    alice, bob = enter("alice"), enter("bob")
    assert run("notice", "Down at noon.\x1b[2J\u202e") == "sent to 2 devices\n"
    for person in (alice, bob):
        assert person.take(m.Notice).text == "Down at noon.\N{REPLACEMENT CHARACTER}[2J"
    for text in ("", " \n", "x" * (limits.MAX_NOTICE + 1)):
        assert "a notice has 1 to 1000 characters" in run("notice", text, code=ExitCode.USAGE)
    assert run("notice", "x" * limits.MAX_NOTICE)
    assert server.running


def test_people_are_told_of_a_deleted_room_and_a_notice_in_sentences(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    with contextlib.ExitStack() as people:
        alice = LiveClient(server, "alice")
        people.callback(alice.close)
        people.callback(server.stop)
        alice.wait_for(events.Ready)
        found(alice, "#den")
        run = admin(tmp_path / "data")
        run("notice", "Down at noon.")
        alice.wait_for(events.Notice, lambda event: event.text == "Down at noon.")
        run("rooms", "delete", "#den")
        alice.wait_for(events.Notice, lambda event: event.text.startswith("#den was deleted."))
        alice.close()
        alice.start()
        alice.wait_for(events.OutOfStep, lambda event: event.what == "not-found")
