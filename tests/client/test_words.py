"""The operator speaks in rooms that belong to nobody: members are told, and their clients do what was said.

Each lie of the server has its twin: the word that the operator did say.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.conversations import external_commits, own_commit
from securechat.client.conversations.conversation import Conversation
from securechat.client.device import CAPABILITIES
from securechat.identity.site_key import SiteKey
from securechat.policy import Word, rules_of
from securechat.policy.judges import JUDGES
from securechat.policy.rules import READERS, VERSION, Rules, known_extensions
from securechat.server.sequencer.operations import OwnerlessRoom, Survey
from securechat.ui.text.sentences import sentences
from securechat.wire import messages as wire
from securechat.wire.chain import NO_DEVICE, OPERATORS_WORD
from tests.client.test_following import renew
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, only, settle
from tests.support.recovering import Recovering, file_of

World = Callable[..., list[Person]]
change = msgspec.structs.replace


@pytest.fixture
def lobby(people: World) -> list[Person]:
    """alice, bob and mallory in the lobby."""
    everybody = people("alice", "bob", "mallory")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    return list(everybody)


def there(person: Person, name: str = "#lobby") -> Conversation:
    found = person.engine._registry.find(name)
    assert found is not None
    return found


def barred(person: Person) -> tuple[str, ...]:
    return rules_of(there(person).group.public.extensions).barred


def told(person: Person) -> list[str]:
    """What is said of the operator's words."""
    return [
        sentence.text
        for event in person.happened
        if isinstance(event, events.OperatorSpoke)
        for sentence in sentences(event, person.engine.snapshot.get(event.conversation), person.name)
    ]


def lines(person: Person) -> list[str]:
    """What was said, without who said it."""
    return [line.split(": ", 1)[1] for line in person.texts("#lobby")]


def members(person: Person) -> tuple[str, ...]:
    return there(person).row.members


def test_who_is_barred_is_out_at_once_and_whoever_speaks_next_shuts_the_door(
    server: MemoryServer, lobby: list[Person]
) -> None:
    alice, bob, mallory = lobby
    epoch = there(bob).row.epoch
    assert server.speak("#lobby", "bar", "mallory") is None
    settle(*lobby)
    for person in (alice, bob):
        assert told(person) == ["The operator of this server barred mallory from #lobby."]
        assert members(person) == ("alice", "bob")
    assert told(mallory) == [
        "The operator of this server removed you from #lobby; you are barred until the operator lets you in again."
    ]
    assert mallory.state_of("#lobby") == "closed"
    assert there(bob).row.epoch == epoch  # nobody has anything to say
    alice.say("#lobby", "peace at last")
    settle(*lobby)
    assert lines(bob)[-1:] == ["peace at last"]
    assert there(bob).row.epoch == epoch + 1
    assert barred(alice) == barred(bob) == ("mallory",)
    assert not there(bob).words
    assert not [event for event in bob.of(events.ConversationChanged) if getattr(event, "change", "") == "barred"]
    mallory.do(commands.JoinRoom("#lobby"))
    settle(*lobby)
    assert "you are barred from #lobby" in str(mallory.of(events.Refused)[-1])
    assert not alice.of(events.Alarm)


def test_who_is_let_in_again_comes_in_once_somebody_has_spoken(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, mallory = lobby
    server.speak("#lobby", "bar", "mallory")
    settle(*lobby)
    alice.say("#lobby", "one")
    settle(*lobby)
    assert server.speak("#lobby", "unbar", "mallory") is None
    settle(*lobby)
    assert told(bob)[-1:] == ["The operator of this server lets mallory into #lobby again."]
    bob.say("#lobby", "two")
    settle(*lobby)
    assert barred(alice) == ()
    mallory.do(commands.JoinRoom("#lobby"))
    settle(*lobby)
    mallory.say("#lobby", "I shall behave")
    settle(*lobby)
    assert lines(alice)[-3:] == lines(bob)[-3:] == ["one", "two", "I shall behave"]


def test_who_was_removed_may_come_back(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, mallory = lobby
    assert server.speak("#lobby", "remove", "mallory") is None
    settle(*lobby)
    assert told(mallory) == ["The operator of this server removed you from #lobby."]
    assert told(alice) == ["The operator of this server removed mallory from #lobby."]
    mallory.do(commands.JoinRoom("#lobby"))
    settle(*lobby)
    mallory.say("#lobby", "sorry")
    settle(*lobby)
    assert lines(bob)[-1:] == ["sorry"]
    assert not [person.name for person in lobby if person.of(events.Alarm)]


def test_a_joiner_learns_of_words_and_carries_them_out(
    server: MemoryServer, people: World, lobby: list[Person]
) -> None:
    assert server.speak("#lobby", "bar", "mallory") is None
    assert server.speak("#lobby", "bar", "eve") is None
    (dave,) = people("dave")
    everybody = [*lobby, dave]
    dave.do(commands.JoinRoom("#lobby"))
    settle(*everybody)
    assert [word.account for word in there(dave).words] == ["mallory", "eve"]
    assert members(dave) == ("alice", "bob", "dave")
    dave.say("#lobby", "hello")
    settle(*everybody)
    assert [barred(person) for person in (dave, *lobby[:2])] == [("eve", "mallory")] * 3
    assert lines(lobby[0])[-1:] == ["hello"]
    assert not [person.name for person in everybody if person.of(events.Alarm)]


@pytest.mark.parametrize("earlier", [True, False])
def test_a_new_device_learns_of_words_whatever_epoch_they_were_said_in(
    server: MemoryServer, people: World, lobby: list[Person], tmp_path: Path, *, earlier: bool
) -> None:
    alice, bob, _mallory = lobby
    bob.crash()  # what he leaves for a recovery is sealed at a start
    bob.connect()
    settle(*lobby)
    contents = file_of(bob)
    bob.stop()
    (eve,) = people("eve")
    assert server.speak("#lobby", "bar", "mallory") is None
    if earlier:  # whoever enters begins an epoch, and carries nothing out
        eve.do(commands.JoinRoom("#lobby"))
        settle(alice, eve)
    (tmp_path / "new computer").mkdir()
    new = Recovering(server, tmp_path / "new computer", contents)
    new.connect()
    settle(alice, eve, new)
    new.say("#lobby", "back")
    settle(alice, eve, new)
    assert lines(alice)[-1:] == ["back"]
    assert barred(alice) == barred(new) == ("mallory",)
    assert not [*alice.of(events.Alarm), *alice.of(events.Stopped), *new.of(events.Delayed)]
    new.stop()


def test_what_was_said_while_one_was_away_or_before_a_crash_counts(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, mallory = lobby
    bob.cut()
    mallory.cut()
    alice.say("#lobby", "without them")
    settle(alice)
    assert server.speak("#lobby", "bar", "mallory") is None
    settle(alice)
    alice.crash()
    for person in lobby:
        person.connect()
    settle(*lobby)
    assert [word.account for word in there(alice).words] == [word.account for word in there(bob).words] == ["mallory"]
    assert len(told(mallory)) == 1
    bob.say("#lobby", "back")
    settle(*lobby)
    assert barred(alice) == ("mallory",)
    assert lines(alice)[-1:] == ["back"]


def test_lines_on_their_way_follow_the_commit(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, _mallory = lobby
    for text in ("one", "two"):
        alice.say("#lobby", text)
    assert server.speak("#lobby", "bar", "mallory") is None
    settle(*lobby)
    assert lines(bob)[-2:] == ["one", "two"]
    assert barred(bob) == ("mallory",)


def test_words_are_followed_without_secrets_too(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, mallory = lobby
    bob.cut()
    server.speak("#lobby", "bar", "mallory")
    alice.say("#lobby", "carried out")
    settle(alice, mallory)
    server.speak("#lobby", "bar", "eve")
    settle(alice)
    bob.connect()
    only(bob, lambda message: [_spoiled(message)] if isinstance(message, wire.Entry) else [message])
    settle(alice, bob)
    server.outward = lambda _link, message: [message]
    bob.cut()
    bob.connect()
    settle(alice, bob)
    assert bob.of(events.Stopped)  # and passed over
    assert barred(bob) == ("mallory",)
    assert [word.account for word in there(bob).words] == ["eve"]
    bob.say("#lobby", "repaired")
    settle(alice, bob)
    assert barred(alice) == ("eve", "mallory")
    assert lines(alice)[-1:] == ["repaired"]


def _spoiled(entry: wire.Entry) -> wire.Entry:
    """A commit whose membership tag does not fit."""
    if entry.kind == OPERATORS_WORD or not entry.group_info:
        return entry
    return change(entry, payload=entry.payload[:-1] + bytes((entry.payload[-1] ^ 1,)))


def test_words_are_followed_where_messages_are_gone(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, mallory = lobby
    bob.cut()
    alice.say("#lobby", "gone")
    settle(alice, mallory)
    assert server.speak("#lobby", "bar", "mallory") is None
    alice.say("#lobby", "gone too")
    settle(alice, mallory)
    assert server.speak("#lobby", "bar", "eve") is None
    settle(alice)
    room = there(bob)
    entries = server.entries(room.id)
    first = entries[-1].seq + 1
    chain = entries[-1].chain
    begun: list[object] = []

    def lose(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Entry):
            return [message]
        before = [] if begun else [wire.Truncated(room.id, first, chain)]
        begun.append(message)
        end = [wire.Truncated(room.id, first, b"")] if message.seq == first - 1 else []
        kept = [message] if message.kind == OPERATORS_WORD or message.group_info else []
        return [*before, *kept, *end]

    bob.connect()
    only(bob, lose)
    settle(alice, bob)
    server.outward = lambda _link, message: [message]
    assert bob.of(events.Gap)
    assert [line.split(" from")[0] for line in told(bob)] == [
        "The operator of this server barred mallory", "The operator of this server barred eve",
    ]  # fmt: skip
    bob.say("#lobby", "I am back")
    settle(alice, bob)
    assert barred(alice) == barred(bob) == ("eve", "mallory")
    assert members(bob) == ("alice", "bob")
    assert lines(alice)[-1:] == ["I am back"]


def test_a_new_site_key_is_told_and_counts_once_somebody_has_spoken(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, _mallory = lobby
    assert server.speak("#lobby", "site-key") is None
    settle(*lobby)
    assert told(bob) == ["The operator of this server has a new key for #lobby, signed by the old one."]
    assert server.speak("#lobby", "remove", "mallory") is None  # under the old one still
    settle(*lobby)
    alice.say("#lobby", "carried out")
    settle(*lobby)
    assert rules_of(there(bob).group.public.extensions).site_key == server.store.site_keys[0].public
    assert server.speak("#lobby", "bar", "mallory") is None
    settle(*lobby)
    assert told(bob)[-1:] == ["The operator of this server barred mallory from #lobby."]
    assert not [person.name for person in lobby if person.of(events.Alarm)]

    def old(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.kind == OPERATORS_WORD:
            return [signed(message, server.store.site_keys[1])]
        return [message]

    only(bob, old)
    assert server.speak("#lobby", "bar", "eve") is None
    settle(alice, bob)
    (alarm,) = (event for event in bob.happened if isinstance(event, events.Alarm))
    assert "a signature does not fit" in alarm.text
    assert not alice.of(events.Alarm)


def test_the_room_that_somebody_founds_belongs_to_them(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#garden"))
    settle(alice, bob)
    bob.do(commands.JoinRoom("#garden"))
    settle(alice, bob)
    assert "#garden belongs to alice" in str(server.speak("#garden", "bar", "bob"))


# --- lies -------------------------------------------------------------------------------------------------------------


def word_in(entry: wire.Entry) -> Word:
    return Word.decode(entry.payload)


def signed(entry: wire.Entry, key: SiteKey, **fields: object) -> wire.Entry:
    """The same entry with another word."""
    return change(entry, payload=replace(word_in(entry), **fields).signed(key).encode())  # type: ignore[arg-type]  # fields of a word


STRANGER = SiteKey(b"x" * 32)

LIES: dict[str, tuple[Callable[[wire.Entry, SiteKey], wire.Entry], str]] = {
    "another key": (lambda entry, _: signed(entry, STRANGER), "a signature does not fit"),
    "another conversation": (lambda entry, key: signed(entry, key, conversation=b"c" * 32), "another conversation"),
    "another server": (lambda entry, key: signed(entry, key, server_id=b"s" * 16), "another conversation or server"),
    "another seq": (lambda entry, key: signed(entry, key, seq=entry.seq - 1), "another place in the log"),
    "another time": (lambda entry, key: signed(entry, key, time=entry.time - 1), "another place in the log"),
    "another leaf": (lambda entry, key: signed(entry, key, leaf=b"l" * 32), "another leaf"),
    "another account": (
        lambda entry, _: change(entry, payload=replace(word_in(entry), about=b"bob").encode()), "does not fit",
    ),
    "a device": (lambda entry, _: change(entry, device=b"d" * 16), "comes from a device"),
    "a GroupInfo": (lambda entry, _: change(entry, group_info=b"info"), "comes from a device"),
    "no word": (lambda entry, _: change(entry, payload=b"word"), "cannot have said"),
}  # fmt: skip


@pytest.mark.parametrize("lie", ["", *LIES])
def test_a_word_that_the_operator_did_not_say_is_the_servers_fault(
    server: MemoryServer, lobby: list[Person], lie: str
) -> None:
    alice, bob, _mallory = lobby

    def altered(message: wire.FromServer) -> list[wire.FromServer]:
        if lie and isinstance(message, wire.Entry) and message.kind == OPERATORS_WORD:
            return [LIES[lie][0](message, server.store.site_keys[0])]
        return [message]

    only(bob, altered)
    assert server.speak("#lobby", "bar", "mallory") is None
    settle(*lobby)
    alarms = [event for event in bob.happened if isinstance(event, events.Alarm)]
    if not lie:
        assert (alarms, bob.state_of("#lobby"), members(bob)) == ([], "open", ("alice", "bob"))
        return
    assert [event.kind for event in alarms] == ["history"]
    assert "the server passed on what its operator cannot have said" in alarms[0].text
    assert LIES[lie][1] in alarms[0].text
    assert bob.state_of("#lobby") == "stopped"
    assert members(bob) == ("alice", "bob", "mallory")
    assert not told(bob)
    assert alice.state_of("#lobby") == "open"


def test_a_word_that_is_shown_again_is_refused(server: MemoryServer, lobby: list[Person]) -> None:
    _alice, bob, _mallory = lobby
    said: list[wire.Entry] = []

    def replayed(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.kind == OPERATORS_WORD:
            said.append(message)
            return [message, change(message, seq=message.seq + 1)]
        return [message]

    only(bob, replayed)
    assert server.speak("#lobby", "bar", "mallory") is None
    settle(*lobby)
    assert said
    (alarm,) = (event for event in bob.happened if isinstance(event, events.Alarm))
    assert "another place in the log" in alarm.text


def test_a_word_in_a_room_that_belongs_to_somebody_is_refused(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#garden"))
        settle(alice, bob)
    room = there(bob, "#garden")
    seq, now = room.row.cursor + 1, server.now
    word = Word(server.store.server_id, room.id, room.row.epoch, seq, now, "bar", b"eve")
    encoded = word.signed(server.store.site_keys[0]).encode()
    assert bob.link is not None
    bob.link.send(wire.Entry(room.id, seq, now, NO_DEVICE, OPERATORS_WORD, encoded, b""))
    settle(alice, bob)
    (alarm,) = (event for event in bob.happened if isinstance(event, events.Alarm))
    assert "#garden does not belong to the server's operator" in alarm.text
    assert bob.state_of("#garden") == "stopped"


def test_a_word_that_is_shown_to_some_alone_is_a_fork(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, _mallory = lobby

    def withheld(message: wire.FromServer) -> list[wire.FromServer]:
        return [] if isinstance(message, wire.Entry) and message.kind == OPERATORS_WORD else [message]

    only(bob, withheld)
    assert server.speak("#lobby", "bar", "mallory") is None
    alice.say("#lobby", "without mallory")
    settle(*lobby)
    (alarm,) = (event for event in bob.happened if isinstance(event, events.Alarm))
    assert "the log does not fit together" in alarm.text
    assert lines(bob)[-1:] != ["without mallory"]


@pytest.mark.parametrize("lie", ["", "withheld", "of another room", "replayed"])
def test_a_joiner_checks_the_words_that_it_is_shown(
    server: MemoryServer, people: World, lobby: list[Person], lie: str
) -> None:
    alice, _bob, mallory = lobby
    assert server.speak("#lobby", "remove", "mallory") is None
    settle(*lobby)
    old = [word.encode() for word in there(alice).words]
    if lie == "replayed":
        mallory.do(commands.JoinRoom("#lobby"))
        settle(*lobby)
        assert not there(alice).words
    (dave,) = people("dave")

    def altered(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.JoinOffer) and lie:
            foreign = replace(Word.decode(old[0]), conversation=b"c" * 32).signed(server.store.site_keys[0]).encode()
            shown = {"withheld": [], "of another room": [foreign], "replayed": old}[lie]
            return [change(message, words=shown)]
        return [message]

    only(dave, altered)
    dave.do(commands.JoinRoom("#lobby"))
    settle(*lobby, dave)
    if lie == "withheld":  # nobody can know; the next commit shows it
        assert members(dave) == ("alice", "bob", "dave", "mallory")
        alice.say("#lobby", "she is gone")
        settle(*lobby, dave)
        assert dave.of(events.Stopped) or dave.of(events.Alarm)
    elif lie:
        (alarm,) = (event for event in dave.happened if isinstance(event, events.Alarm))
        assert ("another leaf" if lie == "replayed" else "another conversation") in alarm.text
        assert "dave" not in members(alice)
    else:
        assert members(dave) == ("alice", "bob", "dave")


def test_the_operator_lets_a_room_rise_to_newer_rules_once_every_program_knows_them(
    server: MemoryServer, lobby: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, mallory = lobby
    newer = VERSION + 1

    def version(person: Person) -> int:
        return rules_of(there(person).group.public.extensions).version

    def seen() -> tuple[int, tuple[str, ...]]:
        found: list[list[OwnerlessRoom]] = []
        server.sequencer.operate(Survey(found.append))
        server.run()
        (room,) = found.pop()
        assert room.version == version(alice)
        return room.rising, room.behind

    assert "the newest that this server knows" in str(server.speak("#lobby", "upgrade"))
    assert seen() == (0, ())
    monkeypatch.setitem(READERS, newer, Rules.decode)  # all update their programs
    monkeypatch.setitem(JUDGES, newer, JUDGES[VERSION])
    capabilities = replace(CAPABILITIES, extensions=known_extensions())
    for module in (own_commit, external_commits):
        monkeypatch.setattr(module, "CAPABILITIES", capabilities)
    assert server.speak("#lobby", "upgrade") is None
    settle(*lobby)
    assert told(bob)[-1] == (
        "The operator of this server has #lobby go over to newer rules, as soon as every program there knows them."
    )
    assert seen() == (newer, ("alice", "bob", "mallory"))  # they have said nothing under it yet
    assert "it waits for newer programs of alice, bob, mallory" in str(server.speak("#lobby", "upgrade"))
    for person in (alice, bob):
        renew(person, "#lobby", *lobby)
    alice.say("#lobby", "mallory is in the way")
    settle(*lobby)
    assert version(alice) == VERSION
    assert seen() == (newer, ("mallory",))
    renew(mallory, "#lobby", *lobby)
    alice.say("#lobby", "all know them")
    settle(*lobby)
    assert version(alice) == version(bob) == newer
    assert seen() == (0, ())
    assert not there(bob).words
    bob.say("#lobby", "and we go on")
    settle(*lobby)
    assert lines(alice)[-2:] == ["all know them", "and we go on"]
    mallory.do(commands.Leave(mallory.id_of("#lobby")))
    settle(*lobby)
    mallory.do(commands.JoinRoom("#lobby"))
    settle(*lobby)
    assert version(mallory) == newer
    assert not alice.of(events.Alarm)
