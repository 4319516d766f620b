"""What is said where nothing can be said, where messages are missing, and to whom may not: one sentence a state.

Each state is reached as people reach it, and its sentence is no other state's.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.errors import UsageError
from securechat.ui.text.sentences import sentences
from securechat.ui.text.states import ARRIVED, ENDS, MISSING, NOWHERE, arrived, why_silent
from securechat.ui.view.lines import became_of
from securechat.ui.view.rows import line_of
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]
Scene = Callable[[Person, Person], str]


def told(person: Person) -> list[str]:
    """What was said of what has changed."""
    return [
        sentence.text
        for event in person.happened
        if isinstance(event, events.ConversationChanged)
        for sentence in sentences(event, event.conversation, person.name)
    ]


def silent(person: Person, name: str) -> str:
    conversation = person.engine.snapshot.find(name)
    assert conversation is not None
    return why_silent(conversation)


def room(alice: Person, bob: Person, name: str = "#den") -> str:
    alice.do(commands.CreateRoom(name) if name == "#den" else commands.JoinRoom(name))
    settle(alice, bob)
    if name == "#den":
        alice.do(commands.Invite(alice.id_of(name), "bob"))
    else:
        bob.do(commands.JoinRoom(name))
    settle(alice, bob)
    return name


def chat(alice: Person, bob: Person) -> None:
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)


def both_say_bye(alice: Person, bob: Person) -> str:
    chat(alice, bob)
    for person, other in ((alice, "bob"), (bob, "alice")):
        person.do(commands.Bye(person.id_of(other)))
        settle(alice, bob)
    return "alice"


def a_chat_is_left(alice: Person, bob: Person) -> str:
    chat(alice, bob)
    bob.do(commands.Leave(bob.id_of("alice")))
    settle(alice, bob)
    return "alice"


def a_room_is_left(alice: Person, bob: Person) -> str:
    name = room(alice, bob)
    bob.do(commands.Leave(bob.id_of(name)))
    settle(alice, bob)
    return name


def an_open_room_is_left(alice: Person, bob: Person) -> str:
    name = room(alice, bob, "#lobby")
    bob.do(commands.Leave(bob.id_of(name)))
    settle(alice, bob)
    return name


def nobody_of_that_name(_: Person, bob: Person) -> str:
    bob.do(commands.OpenDirect("nemo", "hello", ask=False))
    settle(bob)
    return "nemo"


def a_room_does_not_let_in(alice: Person, bob: Person) -> str:
    alice.do(commands.CreateRoom("#den"))
    settle(alice, bob)
    bob.do(commands.JoinRoom("#den"))
    settle(alice, bob)
    return "#den"


SCENES: dict[Scene, tuple[tuple[str, bool], str]] = {
    both_say_bye: (("closed", True), "bye"),
    a_chat_is_left: (("leaving", True), "direct"),
    a_room_is_left: (("leaving", False), "invite"),
    an_open_room_is_left: (("leaving", False), "open"),
    nobody_of_that_name: (("not-opened", True), "direct"),
    a_room_does_not_let_in: (("not-opened", False), "open"),
}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_each_end_of_a_conversation_is_told_as_what_it_is(people: World, scene: Scene) -> None:
    alice, bob = people("alice", "bob")
    name = scene(alice, bob)
    end, why = SCENES[scene]
    assert [each for each in told(bob) if each in {text.format(name) for text in ENDS.values()}] == [
        ENDS[end].format(name)
    ]
    assert silent(bob, name) == NOWHERE[why].format(name)


def test_a_chat_that_another_one_replaces_says_so(people: World, server: MemoryServer, tmp_path: Path) -> None:
    alice, bob = people("alice", "bob")
    chat(alice, bob)
    bob.cut()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    again = Person(server, folder, "bob", new_identity=True)
    again.register()
    again.connect()
    settle(alice, again)
    alice.say("bob", "are you there?")
    settle(alice, again)
    alice.do(commands.Trust("bob"))
    settle(alice, again)
    assert ENDS["given-up", True].format("bob") in told(alice)
    assert alice.state_of("bob") != "closed"  # the other one
    again.stop()


def test_who_goes_to_a_conversation_hears_how_it_stands(people: World) -> None:
    alice, bob = people("alice", "bob")

    def heard(person: Person, name: str) -> str:
        settle(alice, bob)
        conversation = person.engine.snapshot.find(name)
        assert conversation is not None
        return arrived(conversation)

    alice.do(commands.OpenDirect("bob", "hello", ask=True))
    assert heard(alice, "bob") == ARRIVED["requested"].format("bob")
    assert heard(bob, "alice") == silent(bob, "alice") != ""
    bob.do(commands.Accept(bob.id_of("alice")))
    assert (heard(alice, "bob"), heard(bob, "alice")) == (
        ARRIVED["direct"].format("bob"), ARRIVED["direct"].format("alice"),
    )  # fmt: skip
    alice.do(commands.Bye(alice.id_of("bob")))
    assert (heard(alice, "bob"), heard(bob, "alice")) == (
        ARRIVED["own-bye"].format("bob"), ARRIVED["their-bye"].format("alice"),
    )  # fmt: skip
    bob.do(commands.Bye(bob.id_of("alice")))
    assert (heard(alice, "bob"), heard(bob, "alice")) == (
        ARRIVED["closed"].format("bob"), ARRIVED["closed"].format("alice"),
    )  # fmt: skip
    room(alice, bob, "#lobby")
    assert heard(bob, "#lobby") == ARRIVED["room"].format("#lobby")


def test_no_two_states_are_said_alike() -> None:
    for table in (ENDS, NOWHERE, MISSING, ARRIVED):
        assert len(set(table.values())) == len(table)


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        ("alice", commands.Invite, "That is for rooms: a conversation of two has no owner."),
        ("alice", commands.Remove, "That is for rooms: a conversation of two has no owner."),
        ("#den", commands.Invite, "Only alice can invite people to #den."),
        ("#den", commands.Remove, "Only alice can remove people from #den."),
        ("#lobby", commands.Invite, "Nobody has to be invited to #lobby: everybody can enter."),
        ("#lobby", commands.Remove, "#lobby belongs to nobody: only whoever runs the server keeps order there."),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_who_may_not_hears_who_may(
    people: World, name: str, command: Callable[[bytes, str], commands.Command], said: str
) -> None:
    alice, bob = people("alice", "bob")
    if name == "alice":
        chat(alice, bob)
    else:
        room(alice, bob, name)
    with pytest.raises(UsageError) as refused:
        bob.do(command(bob.id_of(name), "carol"))
    assert str(refused.value) == said


# --- what became of a line


def offline(alice: Person, bob: Person) -> None:
    chat(alice, bob)
    alice.cut()
    alice.say("bob", "where are you?")


def while_they_are_away(alice: Person, bob: Person) -> None:
    chat(alice, bob)
    bob.cut()
    alice.say("bob", "where are you?")
    settle(alice)


def once_they_are_back(alice: Person, bob: Person) -> None:
    while_they_are_away(alice, bob)
    bob.connect()
    settle(alice, bob)


def once_they_look(alice: Person, bob: Person) -> None:
    once_they_are_back(alice, bob)
    bob.do(commands.Visit(bob.id_of("alice"), bob.vault.history.last_id))
    settle(alice, bob)


def to_nobody(alice: Person, _: Person) -> None:
    alice.do(commands.OpenDirect("nemo", "hello", ask=False))
    settle(alice)


FATES: dict[Callable[[Person, Person], None], tuple[str, str]] = {
    offline: ("waiting", "waiting"),
    while_they_are_away: ("sent", "sent"),
    once_they_are_back: ("delivered", "delivered"),
    once_they_look: ("read", "read"),
    to_nobody: ("not sent", ""),
}


@pytest.mark.parametrize("scene", FATES, ids=lambda scene: scene.__name__)
def test_each_line_of_ours_says_what_became_of_it(
    people: World, monkeypatch: pytest.MonkeyPatch, scene: Callable[[Person, Person], None]
) -> None:
    monkeypatch.setattr(Person, "marks", True)
    alice, bob = people("alice", "bob")
    scene(alice, bob)
    (message,) = alice.history("nemo" if scene is to_nobody else "bob", 1)
    line = line_of(message)
    assert (line.delivery, became_of(line)) == FATES[scene]
    assert bool(line.problem) == (scene is to_nobody)  # which says why
