"""The client's border: a front end waits for nothing, and each command is answered once, by name."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.core import ChatClient
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.errors import UsageError
from tests.support.people import Person, settle

PASSWORD = "correct horse"
PATIENCE = 60.0
"""Seconds for which the engine is stopped, unless the front end is done before: its calls have to return meanwhile."""

World = Callable[..., list[Person]]


def test_no_call_of_a_front_end_waits_for_the_engine(tmp_path: Path) -> None:
    password = PasswordSource.typed(PASSWORD)
    vault = Vault.open(tmp_path / "alice.vault", "alice", password, cost=Cost(time=1, memory=8, lanes=1))
    told: list[events.Event] = []
    released: list[bool] = []  # whether by us
    stopped, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def on_event(event: events.Event) -> None:
        """Runs on the engine's thread: while it is in here, the engine does nothing."""
        told.append(event)
        if isinstance(event, events.Said) and not stopped.is_set():
            stopped.set()
            released.append(go_on.wait(PATIENCE))
        if isinstance(event, events.Ended):
            ended.set()

    settings = ClientSettings("localhost", 1, pin="sha256:" + "0" * 64)
    client = ChatClient(settings, vault, on_event=on_event)
    client.do(commands.OpenDirect("bob", "first", ask=False))
    client.start()
    assert stopped.wait(PATIENCE)
    with vault.transaction():  # and the vault is being written to, besides
        for number in range(100):
            client.do(commands.OpenDirect("bob", f"later {number}", ask=False))
        bob = client.find("bob")
        assert bob is not None
        assert client.conversation(bob.id) == bob
        assert client.conversations() == [bob]
        (line,) = client.history(bob.id, 10)
        assert line.text == "first"
        assert client.around(line.local_id, 10) == [line]
        assert client.before(line.local_id, 10) == client.after(line.local_id, 10) == []
        assert client.unread(0, 10) == []
        assert client.unread_counts() == {}
        client.close()
        assert not released  # nobody has waited for it
        assert len([event for event in told if isinstance(event, events.Said)]) == 1  # it did nothing meanwhile
    go_on.set()
    assert ended.wait(PATIENCE)
    said = [event.message.text for event in told if isinstance(event, events.Said)]
    assert said == ["first", *(f"later {number}" for number in range(100))]  # in their order, before the goodbye
    assert isinstance(told[-1], events.Ended)
    vault.close()


def answers(person: Person, command: commands.Command) -> list[events.Event]:
    """What answered a command so far."""
    return [
        event
        for event in person.happened
        if isinstance(event, events.Done | events.Refused) and event.command == command.id
    ]


def test_each_command_is_answered_once_and_what_comes_of_it_names_it(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")

    def done(person: Person, command: commands.Command) -> None:
        person.do(command)
        settle(alice, bob, carol)
        assert answers(person, command) == [events.Done(command=command.id)], command

    ask = commands.OpenDirect("bob", "may I?", ask=True)
    done(alice, ask)
    assert [type(event) for event in alice.happened if event.command == ask.id] == [
        events.Said, events.ConversationChanged, events.Delivered, events.Done,
    ]  # fmt: skip
    done(bob, commands.Accept(bob.id_of("alice")))
    done(bob, commands.Send(bob.id_of("alice"), "yes"))
    done(alice, commands.OpenDirect("bob", "good", ask=False))  # there is one
    done(alice, commands.OpenDirect("bob", ask=False))
    done(alice, commands.OpenDirect("carol", ask=False))
    done(alice, commands.CreateRoom("#den"))
    done(alice, commands.Invite(alice.id_of("#den"), "bob"))
    done(alice, commands.Remove(alice.id_of("#den"), "bob"))
    done(carol, commands.JoinRoom("#lobby"))
    done(bob, commands.JoinRoom("#lobby"))
    done(bob, commands.ListRooms())
    done(bob, commands.ListMembers(bob.id_of("#lobby")))
    done(bob, commands.ShowSafetyNumber("carol"))
    done(bob, commands.Verify("carol"))
    done(bob, commands.Leave(bob.id_of("#lobby")))
    done(alice, commands.Bye(alice.id_of("bob")))
    done(bob, commands.Bye(bob.id_of("alice")))
    done(carol, commands.OpenDirect("bob", "hello?", ask=True))
    done(bob, commands.Decline(bob.id_of("carol")))
    done(carol, commands.MarkShown(1))
    assert len({event.command for person in (alice, bob, carol) for event in person.of(events.Done)}) == 22


def test_a_refused_command_is_answered_and_changes_nothing_and_those_beside_it_are_carried_out(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    batch: list[commands.Command] = [
        commands.Send(alice.id_of("bob"), "one"),
        commands.Send(b"?" * 32, "to nobody"),
        commands.Send(alice.id_of("bob"), ""),
        commands.OpenDirect("Alice", ask=False),
        commands.Leave(b"?" * 32),
        commands.Send(alice.id_of("bob"), "two"),
    ]
    alice.engine.do(batch)
    settle(alice, bob)
    assert [type(*answers(alice, each)) for each in batch] == [
        events.Done, events.Refused, events.Refused, events.Refused, events.Refused, events.Done,
    ]  # fmt: skip
    assert bob.texts("alice") == ["alice: hello", "alice: one", "alice: two"]


def test_a_line_that_is_not_sent_is_told_with_its_refusal_and_once(people: World) -> None:
    alice, bob = people("alice", "bob")
    nobody = commands.OpenDirect("nobody", "hello?", ask=False)
    alice.do(nobody)
    settle(alice, bob)
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert refused.command == nobody.id
    assert refused.message is not None
    assert (refused.message.text, "not sent" in refused.message.problem) == ("hello?", True)


def test_a_question_that_the_connection_takes_with_it_is_answered(people: World) -> None:
    (alice,) = people("alice")
    question = commands.ListRooms()
    alice.do(question)
    alice.flush()
    alice.cut()
    alice.flush()
    (refused,) = answers(alice, question)
    assert isinstance(refused, events.Refused)
    assert refused.text == "The connection was lost before the server told which rooms there are. Ask again."
    with pytest.raises(UsageError, match="no connection"):
        alice.do(commands.ListRooms())


def test_a_conversation_is_found_by_the_id_it_had_at_first(people: World) -> None:
    alice, bob = people("alice", "bob")
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    settle(bob)
    alice.cut()
    alice.do(commands.OpenDirect("bob", ask=False))
    at_first = alice.id_of("bob")
    alice.connect()
    settle(alice, bob)
    now = alice.id_of("bob")
    assert now != at_first
    assert alice.engine.snapshot.get(at_first) == alice.engine.snapshot.get(now)
    assert len(alice.engine.snapshot.conversations) == 1


def test_a_snapshot_does_not_change_once_it_was_taken(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    before = alice.engine.snapshot
    bob.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    seen = before.find("#lobby"), alice.engine.snapshot.find("#lobby")
    assert [room.members for room in seen if room is not None] == [("alice",), ("alice", "bob")]
    unchanged = alice.engine.snapshot
    bob.say("#lobby", "hello")
    settle(alice, bob)
    assert alice.engine.snapshot is unchanged  # a message is nothing that a list of conversations shows


@pytest.mark.parametrize(
    ("host", "words"),
    [("a..b", "empty part"), ("x" * 64 + ".example", "more than 63 letters"), ("\udc80", "neither a host name nor")],
)
def test_what_cannot_be_a_hosts_name_is_said_in_a_sentence(host: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ClientSettings(host, 1, pin="sha256:" + "0" * 64)
    assert ClientSettings("Chat.Example.", 1).address == "chat.example:1"  # the twin, in its one spelling
