"""Whom somebody could be taken for is told once, when they come up: by a server that lets look-alikes in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from securechat.client import commands, events, resemblance
from securechat.client.resemblance import Resemblances
from securechat.client.snapshot import ConversationSnapshot, Snapshot
from securechat.errors import RefusedError
from securechat.ui.text.sentences import sentences
from securechat.ui.text.wording import MAX_NAMED
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lets everybody be called what they like: it lies, or has its accounts from before."""
    for module in ("securechat.server.accounts.store", "securechat.server.sequencer.room_names"):
        monkeypatch.setattr(f"{module}.likeness", lambda name: name)


def told(person: Person) -> list[tuple[str, str]]:
    """All pairs that a person was told of."""
    return [pair for event in person.of(events.LookAlike) for pair in event.pairs]  # type: ignore[attr-defined]  # its kind


def befriend(one: Person, other: Person) -> None:
    """Let two people talk in private."""
    one.do(commands.OpenDirect(other.name, "hello", ask=True))
    settle(one, other)
    other.do(commands.Accept(other.id_of(one.name)))
    settle(one, other)


@contextmanager
def registering(server: MemoryServer, folder: Path, name: str) -> Iterator[Person]:
    """Somebody who registers, as far as the server lets them."""
    person = Person(server, folder, name, register=True)
    try:
        person.connect()
        settle(person, until=lambda: person.engine.failure is not None)
        yield person
    finally:
        person.stop()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("ɑlice", "name-taken", "the name ɑlice looks like one that is taken; choose another"),
        ("alıce", "name-taken", "looks like one that is taken"),
        ("сосо", "name-taken", "looks like one that is taken"),
        ("rnodern", "name-taken", "looks like one that is taken"),
        ("علیرضا", "name-taken", "looks like one that is taken"),
        ("alireza\u02bc", "bad-request", "no letter that looks like punctuation, as U+02BC does: leave it out"),
        ("al\u02bcice", "bad-request", "no letter that looks like punctuation"),
        ("क्\u200dष", "bad-request", "U+200D is not shown: leave it out"),
        ("نی\u200cما", "bad-request", "U+200C is not shown: leave it out"),
        ("q\u0323\u0323\u0323\u0323\u0324", "bad-request", "U+0324 is not shown: leave it out"),
        ("alice.", "bad-request", "ends with a letter or a digit"),
        *((each, "bad-request", "taken for securechat itself") for each in ("admin", "server", "system", "you", "me")),
        ("securechat", "bad-request", "taken for securechat itself or for whoever runs it; choose another"),
    ],
)
def test_who_registers_a_name_that_would_be_taken_for_another_reads_why(
    people: World,
    server: MemoryServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: str,
    words: str,
) -> None:
    with monkeypatch.context() as before:  # an account from before
        before.setattr("securechat.server.accounts.store.check_new_account", lambda _: None)
        people("alice", "coco", "modern", "علی\u200cرضا")
    accounts = len(server.accounts)
    with registering(server, tmp_path, name) as person:
        failure = person.engine.failure
        assert isinstance(failure, RefusedError)
        assert failure.code == code
        assert words in str(failure)
    assert len(server.accounts) == accounts


def test_who_has_an_honest_name_gets_in_beside_those_near_it(
    people: World, server: MemoryServer, tmp_path: Path
) -> None:
    people("manana", "zoe", "ivan", "anna")
    for name in ("mañana", "zoë", "李雷", "иван", "hanna", "o'brien"):
        with registering(server, tmp_path, name) as person:
            assert person.engine.failure is None
            assert person.of(events.Ready)


def test_an_account_that_would_be_refused_today_goes_on(people: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("admin", "alice", "ɑlice", "al\u02bcice", "علی\u200cرضا", "alice.")
    with monkeypatch.context() as before:
        before.setattr("securechat.server.accounts.store.check_new_account", lambda _: None)
        before.setattr("securechat.server.accounts.store.likeness", lambda name: name)
        everybody = people(*names)
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    befriend(everybody[0], everybody[2])
    everybody[2].say("#lobby", "hello")
    everybody[0].crash()
    everybody[0].connect()
    settle(*everybody)
    everybody[0].say("ɑlice", "hello")
    settle(*everybody)
    assert everybody[2].texts("admin")[-1:] == ["admin: hello"]
    assert set(everybody[1].engine.snapshot.find("#lobby").members) == set(names)  # type: ignore[union-attr]  # it is there


@pytest.mark.usefixtures("careless")
def test_who_asks_to_talk_and_looks_like_a_contact_is_told_once_and_again_while_unanswered(people: World) -> None:
    alice, bob, other = people("alice", "bob", "ɑlice")
    befriend(alice, bob)
    assert told(bob) == []
    other.do(commands.OpenDirect("bob", "it is me", ask=True))
    settle(alice, bob, other)
    assert told(bob) == [("ɑlice", "alice")]
    asked = [isinstance(each, events.ConversationChanged) and each.change == "request" for each in bob.happened]
    beside = [isinstance(each, events.LookAlike) for each in bob.happened]
    assert beside.index(True) == len(asked) - asked[::-1].index(True)  # next to the question
    bob.crash()
    bob.connect()
    settle(alice, bob, other)
    assert told(bob) == [("ɑlice", "alice")] * 2
    bob.do(commands.Accept(bob.id_of("ɑlice")))
    settle(alice, bob, other)
    other.say("bob", "and again")
    settle(alice, bob, other)
    bob.crash()
    bob.connect()
    settle(alice, bob, other)
    assert told(bob) == [("ɑlice", "alice")] * 2
    assert told(alice) == []


@pytest.mark.usefixtures("careless")
def test_who_looks_like_us_is_told(people: World) -> None:
    alice, other = people("alice", "ɑlice")
    other.do(commands.OpenDirect("alice", "it is me", ask=True))
    settle(alice, other)
    assert told(alice) == [("ɑlice", "alice")]
    assert told(other) == [("alice", "ɑlice")]  # as soon as it was typed


@pytest.mark.usefixtures("careless")
def test_an_invitation_by_or_to_a_look_alike_is_told_beside_the_question(people: World) -> None:
    alice, bob, other = people("modern", "bob", "rnodern")
    befriend(alice, bob)
    alice.do(commands.CreateRoom("#club-o"))
    settle(alice)
    alice.do(commands.Invite(alice.id_of("#club-o"), "bob"))
    settle(alice, bob)
    assert bob.state_of("#club-o") == "open"
    assert told(bob) == []
    bob.obliging = False
    other.do(commands.CreateRoom("#club-0"))
    settle(other)
    other.do(commands.Invite(other.id_of("#club-0"), "bob"))
    settle(alice, bob, other)
    assert sorted(told(bob)) == [("#club-0", "#club-o"), ("rnodern", "modern")]
    assert [each.invitation.name for each in bob.of(events.Invited)] == ["#club-o", "#club-0"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("careless")
def test_members_of_a_room_who_look_alike_are_told_once(people: World) -> None:
    alice, other, carol = people("alice", "ɑlice", "carol")
    for person in (alice, other, carol):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, other, carol)
    assert told(alice) == [("ɑlice", "alice")]
    assert told(carol) == [("ɑlice", "alice")]
    other.say("#lobby", "hello")
    other.do(commands.Leave(other.id_of("#lobby")))
    settle(alice, other, carol)
    other.do(commands.JoinRoom("#lobby"))
    settle(alice, other, carol)
    assert told(carol) == [("ɑlice", "alice")]


@pytest.mark.usefixtures("careless")
def test_nothing_is_told_on_the_servers_word_alone(people: World) -> None:
    alice, other = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice, other)
    other.do(commands.JoinRoom("#1obby"))
    settle(alice, other)
    alice.do(commands.ListRooms())
    settle(alice, other)
    (listed,) = alice.of(events.RoomList)
    assert {each.name for each in listed.rooms} == {"#lobby", "#1obby"}  # type: ignore[attr-defined]  # its kind
    assert told(alice) == []
    alice.do(commands.JoinRoom("#1obby"))  # the user types it
    settle(alice, other)
    assert told(alice) == [("#1obby", "#lobby")]


def test_honest_names_are_told_of_nothing(people: World) -> None:
    names = ("manana", "mañana", "zoe", "zoë", "李雷", "иван", "ivan", "anna", "hanna")
    everybody = people(*names)
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    befriend(everybody[0], everybody[1])
    assert [told(person) for person in everybody] == [[]] * len(names)


def test_a_message_costs_nothing(people: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = people("alice", "bob")
    befriend(alice, bob)
    asked: list[str] = []

    def likeness(name: str) -> str:
        asked.append(name)
        return name

    monkeypatch.setattr(resemblance, "likeness", likeness)
    for number in range(5):
        alice.say("bob", f"line {number}")
        bob.say("alice", f"line {number}")
        settle(alice, bob)
    assert asked == []
    alice.crash()
    alice.connect()
    settle(alice, bob)
    assert asked == []


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resemblance, "MAX_NAMES", 10)
    known = Resemblances("me2", (f"user{number}" for number in range(5)), ())
    for number in range(100):
        room = ConversationSnapshot(bytes([number]), "open", f"#room-{number}", ("me2",), "open", 0)
        assert known.compare(Snapshot(), Snapshot.of((room,), {}, {})) == ()
    assert len(known._names) == 10
    assert len(known._first) == 11
    again = ConversationSnapshot(b"a", "open", "#r00m-99", ("me2",), "open", 0)
    assert known.compare(Snapshot(), Snapshot.of((again,), {}, {})) == (("#r00m-99", "#room-99"),)


def test_the_sentence_says_what_differs_and_what_to_do() -> None:
    def said(*pairs: tuple[str, str]) -> list[str]:
        found = list(sentences(events.LookAlike(pairs), None, "bob"))
        assert {each.kind for each in found} == {"warning"}
        return [each.text for each in found]

    person = ", which you know, and is somebody else. /safety {} shows whose key it is before you write there or say "
    person += "yes."
    assert said(("ɑlice", "alice"), ("b0b", "bob"), ("ali\u200dce", "alice")) == [
        f"ɑlice (with LATIN SMALL LETTER ALPHA) looks like alice{person.format('ɑlice')}",
        f"b0b looks like your own name, bob{person.format('b0b').replace(' which you know,', '')}",
        f"alice (with ZERO WIDTH JOINER) looks like alice{person.format('alice')}",
    ]
    (other,) = said(("#1obby", "#lobby"))
    assert other.startswith("#1obby looks like #lobby, which you know, and is another room. Be sure which one you mean")
    many = said(*[(f"a1ice{number}", f"alice{number}") for number in range(MAX_NAMED + 5)])
    assert len(many) == MAX_NAMED + 1
    assert many[-1] == "5 more names there look like one that you know."


@pytest.mark.parametrize("name", ["server", "you", "operator", "rn0derator", "s3rver", "observer"])
@pytest.mark.usefixtures("careless")
def test_an_account_that_is_called_like_the_program_or_its_operator_is_told(
    people: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("securechat.server.accounts.store.check_new_account", lambda _name: None)
    alice, other = people("alice", name)
    other.do(commands.OpenDirect("alice", "type your password here", ask=True))
    settle(alice, other)
    meant = name not in ("s3rver", "observer")  # the twins: the data knows no 3 for an e
    assert told(alice) == ([(name, "")] if meant else [])
    for person in (alice, other):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, other)
    assert told(alice) == ([(name, "")] if meant else [])  # once
    if meant:
        (sentence,) = sentences(events.LookAlike(((name, ""),)), None, "alice")
        assert sentence.text.startswith(f"{name} is an account like any other")
