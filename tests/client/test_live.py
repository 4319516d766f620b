"""The real thing: a server process, clients over TLS, files on disk."""

import io
import math
import queue
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from securechat import certs
from securechat.client import backoff, commands, events
from securechat.client.core import ChatClient
from securechat.client.engine import Engine
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.errors import RefusedError, StorageError, TrustError, UnreachableError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.scripts.run import Events
from securechat.ui.scripts.sending import run_send
from securechat.ui.session.chat import Chat
from securechat.ui.view.lines import ABOVE
from securechat.ui.view.listing import Listing
from securechat.ui.view.rows import Line, line_of
from securechat.ui.view.timeline import Timeline
from securechat_lab.cast.live import CHEAP, PASSWORD, PATIENCE, LiveClient
from tests.support.live import LiveServer

Clients = Callable[..., list[LiveClient]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def clients(server: LiveServer) -> Iterator[Clients]:
    everybody: list[LiveClient] = []

    def make(*names: str) -> list[LiveClient]:
        new = []
        for name in names:  # one by one: the password hashing of thirty at once would starve their handshakes
            new.append(LiveClient(server, name))
            everybody.append(new[-1])
            new[-1].wait_for(events.Ready)
        return new

    yield make
    for client in everybody:
        if not any(isinstance(event, events.Ended) for event in client.happened):
            client.close()


def test_alice_and_bob_talk_in_private(clients: Clients) -> None:
    alice, bob = clients("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    bob.read("alice", "alice: hello")
    bob.say("alice", "hi")
    alice.read("bob", "bob: hi")
    assert alice.texts("bob") == bob.texts("alice") == ["alice: hello", "bob: hi"]
    assert alice.safety_number("bob") == bob.safety_number("alice")


def test_three_talk_in_the_lobby_and_one_catches_up_after_being_away(clients: Clients) -> None:
    alice, bob, carol = clients("alice", "bob", "carol")
    alice.do(commands.JoinRoom("#lobby"))
    alice.wait_for(events.ConversationChanged, lambda event: event.change == "opened")
    bob.do(commands.JoinRoom("#lobby"))
    carol.do(commands.JoinRoom("#lobby"))
    for person in (bob, carol):
        person.wait_for(events.ConversationChanged, lambda event: event.change == "joined")
        person.say("#lobby", f"{person.name} is here")
    alice.read("#lobby", "bob: bob is here", "carol: carol is here")
    carol.close()
    for number in range(5):
        alice.say("#lobby", f"while carol is away {number}")
    bob.read("#lobby", "alice: while carol is away 4")
    carol.start()
    carol.wait_for(events.Ready)
    assert carol.wait_for(events.LoggedIn, lambda event: event.resumed)
    assert [line for line in carol.texts("#lobby") if "away" in line] == [
        f"alice: while carol is away {number}" for number in range(5)
    ]
    carol.say("#lobby", "back")
    alice.read("#lobby", "carol: back")


class Seat:
    """Somebody at the plain client: what they type, and all that their screen has shown."""

    def __init__(self, person: LiveClient) -> None:
        self.person = person
        self.shown: list[str] = []
        self._chat = Chat(person.client, self.shown.append, piped=False)
        self._told = 0

    def type(self, *lines: str) -> None:
        self._look()
        for line in lines:
            self._chat.line(line)

    def sees(self, *patterns: str) -> None:
        """Wait for lines that match."""
        for pattern in patterns:
            self.person.wait_until(lambda pattern=pattern: self._has(pattern))  # type: ignore[misc]  # bound now

    def _has(self, pattern: str) -> bool:
        self._look()
        return any(re.fullmatch(pattern, line) for line in self.shown)

    def _look(self) -> None:
        for event in self.person.happened[self._told :]:
            self._chat.event(event)
        self._told = len(self.person.happened)


def test_what_was_said_is_answered_changed_and_deleted_on_both_screens(clients: Clients) -> None:
    """As people would: at two plain clients, over TLS, with a server between them."""
    alice, bob = map(Seat, clients("alice", "bob"))
    clock = r"\d\d:\d\d"
    alice.type("/join #lobby")
    alice.sees(".*#lobby.*")
    bob.type("/join #lobby")
    bob.sees(".*#lobby.*")
    bob.type("Shall we meat at six?")
    alice.sees(clock + r" \[#lobby\] bob( \?)?: Shall we meat at six\?")
    bob.type("/edit Shall we meet at six?")
    alice.sees(rf"{ABOVE}Shall we meat at six\?\n{clock} \[#lobby\] bob( \?)?: Shall we meet at six\? \(edited\)")
    alice.type("/reply Yes, @bob", "/react 👍", "/me is glad")
    reply = rf"{ABOVE}bob( \?)? \(edited\): Shall we meet at six\?\n{clock} \[#lobby\] alice"
    alice.sees(reply + ": Yes, @bob")
    bob.sees(
        reply + r"( \?)? @you: Yes, @bob", "-- In #lobby, alice put 👍 under what you said: Shall we meet at six\\?",
        clock + r" \[#lobby\] \* alice( \?)? is glad",
    )  # fmt: skip
    bob.type("/edit 9 nothing", "/delete")
    bob.sees("!! There is no message 9: .*", "-- You have deleted something that you said in #lobby at .*")
    alice.sees("-- bob has deleted something that they said in #lobby at .*")
    alice.type("/reply What was that?")
    alice.sees("!! There is no such message .*")
    alice.type("/history")
    deleted = rf"3\) {clock} \[#lobby\] bob( \?)?: \(deleted by bob\)"
    alice.sees(deleted, rf"1\) {clock} \[#lobby\] \* alice is glad \(.*\)")
    assert sum("meet at six" in line for line in alice.shown) == 3  # edit, answer, reaction; in the history no more


def test_two_who_open_a_conversation_at_once_share_it(clients: Clients) -> None:
    alice, bob = clients("alice", "bob")
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    alice.read("bob", "bob: from bob", "alice: from alice")
    bob.read("alice", "bob: from bob", "alice: from alice")
    alice.wait_until(lambda: alice.id_of("bob") == bob.id_of("alice"))
    assert alice.texts("bob") == bob.texts("alice")


def test_thirty_join_at_once_while_others_talk(clients: Clients) -> None:
    alice, *crowd = clients("alice", *(f"p{number}" for number in range(30)))
    alice.do(commands.JoinRoom("#lobby"))
    alice.wait_for(events.ConversationChanged, lambda event: event.change == "opened")
    for number, person in enumerate(crowd):
        person.do(commands.JoinRoom("#lobby"))
        person.say("#lobby", f"{person.name} is in")
        alice.say("#lobby", f"word {number}")
    expected = [f"{person.name}: {person.name} is in" for person in crowd]
    alice.read("#lobby", *expected, *(f"alice: word {number}" for number in range(30)))
    everything = alice.texts("#lobby")
    for person in crowd:
        person.read("#lobby", everything[-1])
        own = person.texts("#lobby")
        assert own == everything[len(everything) - len(own) :]
        person.wait_until(lambda person=person: len(person.client.find("#lobby").members) == 31)  # type: ignore[misc]  # bound now


def test_eight_commit_in_one_epoch(clients: Clients) -> None:
    everybody = clients(*(f"p{number}" for number in range(9)))
    *speakers, leaver = everybody
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        person.wait_for(events.ConversationChanged, lambda event: event.change in ("opened", "joined"))
    leaver.do(commands.Leave(leaver.id_of("#lobby")))
    leaver.wait_for(events.ConversationChanged, lambda event: event.change == "left")
    for person in speakers:  # to speak now, one has to commit the removal first
        person.say("#lobby", f"{person.name} speaks")
    said = [f"{person.name}: {person.name} speaks" for person in speakers]
    for person in speakers:
        person.read("#lobby", *said)
    assert {tuple(person.texts("#lobby")) for person in speakers} == {tuple(speakers[0].texts("#lobby"))}


# --- connections that end, and come back ---------------------------------------------------------------------------


def test_a_server_that_restarts_is_found_again_without_the_password(
    server: LiveServer, clients: Clients
) -> None:
    alice, bob = clients("alice", "bob")
    alice.do(commands.OpenDirect("bob", "before", ask=False))
    bob.read("alice", "alice: before")
    assert server.stop() == 0
    gone = alice.wait_for(events.Disconnected)
    assert "shutdown" in gone.reason
    alice.say("bob", "while the server is away")
    server.start()
    bob.read("alice", "alice: while the server is away")
    assert alice.wait_for(events.LoggedIn, lambda event: event.resumed)


def test_who_does_not_want_to_wait_for_the_next_try_is_connected_at_once(
    server: LiveServer, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(backoff, "MAX_RETRY_SECONDS", 3600.0)
    (alice,) = clients("alice")
    alice.do(commands.Reconnect())  # while there is a connection, it changes nothing
    assert server.stop() == 0
    assert alice.wait_for(events.Disconnected).retry_in > 1000
    server.start()
    alice.do(commands.Reconnect())
    assert alice.wait_for(events.LoggedIn, lambda event: event.resumed)


def test_the_waiting_room_is_left_in_order(tmp_path: Path) -> None:
    server = LiveServer(tmp_path, "--max-clients", "1")
    alice = LiveClient(server, "alice")
    alice.wait_for(events.Ready)
    bob = LiveClient(server, "bob")
    assert bob.wait_for(events.Waiting).place == 1
    carol = LiveClient(server, "carol")
    assert carol.wait_for(events.Waiting).place == 2
    alice.close()
    bob.wait_for(events.Ready)
    carol.wait_for(events.Waiting, lambda event: event.place == 1)
    bob.close()
    carol.wait_for(events.Ready)
    carol.close()
    server.stop()


def test_closing_while_there_is_no_connection_ends_at_once(server: LiveServer, clients: Clients) -> None:
    (alice,) = clients("alice")
    server.kill()
    alice.wait_for(events.Disconnected)
    alice.close()
    server.start()


@pytest.mark.parametrize("anything_else_is_due", [True, False])
def test_a_deleted_account_ends_its_program_in_order(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, *, anything_else_is_due: bool
) -> None:
    alice, bob = clients("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    bob.read("alice", "alice: hello")
    if not anything_else_is_due:
        monkeypatch.setattr(alice.client._runner._folding, "look", lambda: math.inf)
        monkeypatch.setattr(Engine, "timer", None)
    alice.do(commands.DeleteAccount("alice", alice.password))
    alice.wait_for(events.AccountDeleted)
    assert alice.wait_for(events.Ended).error is None
    assert not any(isinstance(each, events.Disconnected) for each in alice.happened)  # "trying again" would be untrue
    alice.vault.close()
    bob.wait_for(events.ConversationChanged, lambda event: event.change == "left" and event.account == "alice")


def test_a_new_password_is_asked_of_the_server_and_opens_the_vault(clients: Clients) -> None:
    (alice,) = clients("alice")
    old, alice.password = alice.password, "glacier tulip harvest"
    alice.do(commands.ChangePassword(old, alice.password))
    alice.wait_for(events.PasswordReplaced)
    alice.do(commands.ListSessions())
    (session,) = alice.wait_for(events.OwnSessions).sessions
    assert (session.own, session.online, session.address) == (True, True, "127.0.0.1")
    alice.close()
    alice.start()
    assert alice.wait_for(events.LoggedIn).resumed


# --- not getting in ------------------------------------------------------------------------------------------------


def test_the_wrong_password_ends_the_client_and_leaves_no_vault_behind(server: LiveServer, clients: Clients) -> None:
    (alice,) = clients("alice")
    alice.close()
    other = LiveClient(server, "alice2", start=False, register=False)
    other.name = "alice"  # the right name, on a new machine, with a typing error
    other.path = server.folder / "elsewhere" / "alice.vault"
    other.password = "corect horse"
    other.start()
    error = other.wait_for(events.Ended).error
    assert isinstance(error, RefusedError)
    assert error.code == "login-refused"
    other.vault.close()
    assert not [file for file in other.path.parent.iterdir() if file.suffix != ".lock"]


def test_a_second_device_without_the_identity_key_is_told_what_to_do(server: LiveServer, clients: Clients) -> None:
    alice, bob = clients("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    bob.read("alice", "alice: hello")
    bob.accept("alice")
    alice.close()
    alice.path = server.folder / "elsewhere" / "alice.vault"
    alice.start()
    error = alice.wait_for(events.Ended).error
    assert isinstance(error, TrustError)
    assert "--new-identity" in str(error)
    alice.vault.close()
    alice.settings = replace(alice.settings, new_identity=True)
    alice.start()
    alice.wait_for(events.Ready)
    alice.do(commands.OpenDirect("bob", "it is me", ask=False))
    bob.wait_for(events.KeyChanged, lambda event: event.account == "alice")
    received = bob.wait_for(events.Received, lambda event: event.message.text == "it is me").message
    assert received.trust == "changed"
    bob.do(commands.Send(received.conversation, "is it?"))
    bob.wait_for(events.Held)
    assert isinstance(bob.answer(commands.Trust("alice")), events.Done)
    alice.read("bob", "bob: is it?")


def send(client: LiveClient, to: str, text: str) -> tuple[ExitCode, str]:
    """`securechat send`, by somebody who is not running. Returns its exit code and what it has to say."""
    told: Events = queue.SimpleQueue()
    errors = io.StringIO()
    vault = Vault.open(client.path, client.name, PasswordSource.typed(PASSWORD), cost=CHEAP)
    program = ChatClient(client.settings, vault, on_event=told.put)
    code = run_send(program, told, to, text, wait=False, timeout=PATIENCE, errors=errors)
    vault.close()
    return code, errors.getvalue()


def test_a_contact_who_starts_anew_is_reached_once_their_key_is_accepted(
    server: LiveServer, clients: Clients
) -> None:
    alice, bob = clients("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    bob.read("alice", "alice: hello")
    bob.say("alice", "hi")
    alice.read("bob", "bob: hi")
    assert isinstance(alice.answer(commands.CreateRoom("#den")), events.Done)
    assert isinstance(alice.answer(commands.Invite(alice.id_of("#den"), "bob")), events.Done)
    bob.wait_until(lambda: bob.client.find("#den") is not None)
    bob.close()
    alice.close()
    assert send(alice, "bob", "before")[0] == ExitCode.OK  # the twin: he is away, and his device is not gone
    bob.path = server.folder / "elsewhere" / "bob.vault"
    bob.settings = replace(bob.settings, new_identity=True)
    bob.start()
    bob.wait_for(events.Ready)
    code, said = send(alice, "bob", "after")
    assert code == ExitCode.UNTRUSTED
    assert said.startswith("securechat: bob will not get what you write, nor what was not read yet: the server says")
    alice.start()
    there = alice.wait_for(events.Unreachable, lambda event: event.new is not None).new
    assert there is not None
    assert f"/trust bob {there.key}" in said
    assert [shown.key for shown in alice.safety_numbers("bob")][1:] == [there.key]
    listing = commands.ListMembers(alice.id_of("bob"))
    alice.do(listing)
    found = alice.wait_for(events.MemberList, lambda event: event.command == listing.id)
    assert (found.absent, dict(each[:2] for each in found.members)) == (("bob",), {"alice": True, "bob": False})
    assert isinstance(alice.answer(commands.Trust("bob")), events.Done)
    bob.read("alice", "alice: after")
    bob.say("alice", "it is me")
    alice.read("bob", "bob: it is me")
    assert isinstance(alice.answer(commands.Invite(alice.id_of("#den"), "bob")), events.Done)
    bob.wait_until(lambda: bob.client.find("#den") is not None)
    alice.say("#den", "welcome back")
    bob.read("#den", "alice: welcome back")
    bob.say("#den", "thanks")
    alice.read("#den", "bob: thanks")


def test_a_server_under_another_ca_is_refused(server: LiveServer, tmp_path: Path) -> None:
    certs.generate(tmp_path / "other", ("localhost",))
    client = LiveClient(server, "alice", ca_file=tmp_path / "other" / "ca.pem")
    error = client.wait_for(events.Ended).error
    assert isinstance(error, UnreachableError)
    assert "does not come from the CA you trust" in str(error)
    client.vault.close()


def test_a_pin_is_as_good_as_the_ca_file_and_another_pin_is_refused(server: LiveServer) -> None:
    pin = certs.generate(server.folder / "certs", ("localhost", "127.0.0.1")).pin
    client = LiveClient(server, "alice", ca_file=None, pin=pin)
    client.wait_for(events.Ready)
    client.close()
    client = LiveClient(server, "bob", ca_file=None, pin="sha256:" + "0" * 64)
    assert isinstance(client.wait_for(events.Ended).error, UnreachableError)
    client.vault.close()


def test_nobody_there_ends_the_client(server: LiveServer) -> None:
    server.stop()
    client = LiveClient(server, "alice")
    assert isinstance(client.wait_for(events.Ended).error, UnreachableError)
    client.vault.close()
    assert not client.path.exists()  # the password may have been a typing error
    server.start()


def test_the_same_vault_in_two_programs_is_refused(clients: Clients, server: LiveServer) -> None:
    clients("alice")
    with pytest.raises(StorageError, match="open in another program"):
        LiveClient(server, "alice")


@pytest.mark.parametrize("seed", range(2))
def test_a_timeline_that_pages_beside_a_busy_engine_ends_as_the_history(seed: int, clients: Clients) -> None:
    """Pages are read while events are on their way: no line is lost, doubled or taken back for that."""
    chance = random.Random(seed)
    alice, bob = clients("alice", "bob")
    alice.do(commands.OpenDirect("bob", "first", ask=False))
    timeline = Timeline(alice.client, alice.id_of("bob"), page=10, limit=60)
    listing = Listing(alice.client)
    told, sent = 0, set[int]()

    def fold() -> None:
        nonlocal told, sent
        for event in alice.happened[told:]:
            timeline.fold(event)
            listing.fold(event)
            if (move := chance.random()) < 0.3:
                timeline.show_older()
            elif move < 0.5:
                timeline.show_newer()
            elif move < 0.55:
                timeline.show_newest()
            lines = [row for row in timeline.rows if isinstance(row, Line)]
            assert not [line for line in lines if line.local_id in sent and line.delivery == "waiting"]
            sent |= {line.local_id for line in lines if line.delivery == "sent"}
        told = len(alice.happened)

    bob.wait_for(events.Received)
    bob.accept("alice")
    for number in range(150):
        alice.do(commands.Send(alice.id_of("bob"), f"hers {number}"))
        bob.do(commands.Send(bob.id_of("alice"), f"his {number}"))

    def all_is_said() -> bool:
        fold()
        history = alice.client.history(alice.id_of("bob"), 1000)
        return len(history) == 301 and all(line.seq and line.delivered == line.own for line in history)

    alice.wait_until(all_is_said)  # and bob's client has said of each that it has it: nothing changes any more
    alice.answer(commands.ListMembers(alice.id_of("bob")))  # what was told before its answer has come
    fold()
    fresh = Listing(alice.client)
    for event in alice.happened[:told]:
        if isinstance(event, events.PresenceChanged):  # who is there is told, and nowhere kept
            fresh.fold(event)
    assert listing.items == fresh.items
    timeline.show_newest()
    walked = [row for row in timeline.rows if isinstance(row, Line)]
    while timeline.show_older():
        page = [row for row in timeline.rows if isinstance(row, Line)]
        walked = page[: page.index(walked[0])] + walked
    assert walked == [line_of(message) for message in alice.client.history(alice.id_of("bob"), 1000)]
    assert len(walked) == 301
