"""The operator speaks in rooms that belong to nobody; everybody there carries it out, and nobody elsewhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.errors import RefusedError, SecurechatError, StorageError
from securechat.mls.proposals import GroupContextExtensions, Remove
from securechat.policy import Word, check_word, leaves_to_go, rules_due, rules_of
from securechat.server.store.port import DiskFullError
from securechat.wire import messages as m
from securechat.wire.chain import NO_DEVICE, OPERATORS_WORD, next_chain
from tests.support.memory_server import MemoryPerson, MemoryServer

Enter = Callable[[str], MemoryPerson]


def refused(reply: object, code: str, text: str = "") -> None:
    found = (reply.code, reply.text) if isinstance(reply, m.Refused) else ("", str(reply))
    assert (found[0], text in found[1]) == (code, True), reply


def not_said(answer: SecurechatError | None, code: str, text: str) -> None:
    assert isinstance(answer, RefusedError)
    assert (answer.code, text in str(answer)) == (code, True), answer


@pytest.fixture
def lobby(enter: Enter) -> tuple[MemoryPerson, MemoryPerson, MemoryPerson, bytes]:
    """alice, bob and mallory in the lobby; alice and mallory read it."""
    alice, bob, mallory = (enter(name) for name in ("alice", "bob", "mallory"))
    assert isinstance(alice.open_room("#lobby"), m.Done)
    room = bob.join("#lobby")
    assert mallory.join("#lobby") == room
    alice.subscribe(room)
    mallory.subscribe(room)
    catch_up(alice, room, 2)
    return alice, bob, mallory, room


def catch_up(person: MemoryPerson, room: bytes, entries: int) -> None:
    """Process so many entries that hold no text."""
    for _ in range(entries):
        assert person.process(person.take(m.Entry, lambda entry: entry.conversation == room)) is None


def words(server: MemoryServer, room: bytes) -> list[Word]:
    return [Word.decode(word) for word in server.head(room).words.values()]


def carry_out(server: MemoryServer, person: MemoryPerson, room: bytes) -> object:
    """A commit by somebody that does what the operator has said; the reply."""
    group, said = person.groups[room].public, words(server, room)
    due = GroupContextExtensions((rules_due(group, said).extension(),))
    return person.change(room, *map(Remove, leaves_to_go(group, said)), due)


def test_a_word_is_an_entry_of_its_own_kind_and_its_leaf_departs(
    server: MemoryServer, lobby: tuple[MemoryPerson, MemoryPerson, MemoryPerson, bytes]
) -> None:
    alice, _, mallory, room = lobby
    head = server.head(room)
    seq, before = head.seq, head.chain
    assert server.speak("#lobby", "bar", "mallory") is None
    entry = server.entries(room)[-1]
    assert (entry.seq, entry.kind, entry.device, entry.number) == (seq + 1, OPERATORS_WORD, NO_DEVICE, 0)
    chain = next_chain(before, room, entry.seq, entry.time, NO_DEVICE, 0, entry.payload, kind=OPERATORS_WORD)
    assert head.chain == entry.chain == chain
    assert NO_DEVICE not in head.numbers
    for person in (alice, mallory):
        shown = person.take(m.Entry, lambda each: each.kind == OPERATORS_WORD)
        assert (shown.seq, shown.payload) == (entry.seq, entry.payload)
    group = alice.groups[room].public
    word = check_word(group, entry.payload, seq=entry.seq, time=entry.time, before=())
    assert (word.action, word.account) == ("bar", "mallory")
    refused(mallory.say(room, "still here"), "not-found")
    mallory.numbers[room] -= 1
    refused(alice.say(room, "as if nothing had happened"), "commit-first")
    alice.numbers[room] -= 1
    refused(alice.change(room), "invalid-commit", "does not remove mallory")
    (leaf,) = leaves_to_go(group, [word])
    refused(alice.change(room, Remove(leaf)), "invalid-commit", "does not carry out")
    assert isinstance(carry_out(server, alice, room), m.Accepted)
    assert (head.words, head.departed) == ({}, {})
    assert rules_of(alice.groups[room].public.extensions).barred == ("mallory",)
    assert isinstance(alice.say(room, "peace"), m.Accepted)
    refused(mallory.ask(m.Join, "#lobby"), "not-allowed", "you are barred from #lobby")
    assert [entry.kind for entry in server.store.logs.read_handshakes(room, 0, head.seq, 100, 1 << 20)].count(3) == 1


def test_who_is_barred_does_not_come_in_before_anybody_has_carried_it_out(
    server: MemoryServer, lobby: tuple[MemoryPerson, MemoryPerson, MemoryPerson, bytes], enter: Enter
) -> None:
    room = lobby[-1]
    dave, eve = enter("dave"), enter("eve")
    offer = dave.ask(m.Join, "#lobby")
    assert server.speak("#lobby", "bar", "dave") is None
    staged = dave.external_commit(offer)
    refused(dave.ask(m.Commit, room, 1, staged.message, b"", staged.group_info), "commit-first", "ask again")
    refused(dave.ask(m.Join, "#lobby"), "not-allowed", "you are barred")
    offer = eve.ask(m.Join, "#lobby")
    assert offer.words == [word.encode() for word in words(server, room)]
    assert eve.join("#lobby") == room
    assert [word.account for word in words(server, room)] == ["dave"]
    assert isinstance(carry_out(server, eve, room), m.Accepted)
    refused(dave.ask(m.Join, "#lobby"), "not-allowed", "you are barred")
    assert server.speak("#lobby", "unbar", "dave") is None
    refused(dave.ask(m.Join, "#lobby"), "not-allowed", "you are barred")
    assert isinstance(carry_out(server, eve, room), m.Accepted)
    assert dave.join("#lobby") == room


def test_who_was_removed_may_come_back(
    server: MemoryServer, lobby: tuple[MemoryPerson, MemoryPerson, MemoryPerson, bytes]
) -> None:
    alice, _, mallory, room = lobby
    assert server.speak("#lobby", "remove", "mallory") is None
    offer = mallory.ask(m.Join, "#lobby")
    assert (offer.departures, len(offer.words)) == ([], 1)
    staged = mallory.external_commit(offer, old=mallory.groups[room].own_leaf)
    number = offer.number + 1
    assert isinstance(mallory.ask(m.Commit, room, number, staged.message, b"", staged.group_info), m.Accepted)
    assert (server.head(room).words, server.head(room).departed) == ({}, {})
    catch_up(alice, room, 2)
    assert isinstance(alice.say(room, "oh well"), m.Accepted)


def test_the_operator_has_no_word_in_other_rooms_nor_where_there_is_nothing_to_say(
    server: MemoryServer, lobby: tuple[MemoryPerson, MemoryPerson, MemoryPerson, bytes]
) -> None:
    alice, _, _, room = lobby
    assert isinstance(alice.open_room("#staff", "invite"), m.Done)
    assert isinstance(alice.open_room("#garden"), m.Done)
    before = server.head(room).seq
    not_said(server.speak("#staff", "bar", "bob"), "not-allowed", "#staff belongs to alice; only its owners can bar")
    not_said(server.speak("#garden", "remove", "bob"), "not-allowed", "#garden belongs to alice")
    not_said(server.speak("#staff", "upgrade"), "not-allowed", "belongs to alice; only its owners can change its rules")
    not_said(server.speak("#lobby", "upgrade"), "not-allowed", "version 2, the newest that this server knows")
    not_said(server.speak("#nowhere", "bar", "bob"), "not-found", "there is no room #nowhere")
    not_said(server.speak("#lobby", "unbar", "bob"), "not-allowed", "changes nothing")
    not_said(server.speak("#lobby", "remove", "carol"), "not-allowed", "carol, who is not there")
    assert server.head(room).seq == before
    assert server.speak("#lobby", "bar", "bob") is None
    not_said(server.speak("#lobby", "bar", "bob"), "not-allowed", "changes nothing")


def test_words_survive_a_restart_and_a_group_that_is_not_in_memory(tmp_path: Path) -> None:
    server = MemoryServer(tmp_path)
    alice, bob = (MemoryPerson(server, name).register().login() for name in ("alice", "bob"))
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    assert server.speak("#lobby", "bar", "bob") is None
    said, departed, chain = words(server, room), server.head(room).departed, server.head(room).chain
    server.stop()
    server = MemoryServer(tmp_path)
    assert (words(server, room), server.head(room).departed, server.head(room).chain) == (said, departed, chain)
    assert server.speak("#lobby", "bar", "carol") is None  # the group is rebuilt for it
    assert [word.account for word in words(server, room)] == ["bob", "carol"]
    server.stop()


def test_a_word_that_does_not_fit_on_the_disk_was_not_said(
    server: MemoryServer,
    lobby: tuple[MemoryPerson, MemoryPerson, MemoryPerson, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alice, _, _, room = lobby
    before = (server.head(room).seq, server.head(room).chain)

    def full() -> None:
        raise DiskFullError("full")

    with monkeypatch.context() as patched:
        patched.setattr(server.store, "commit", full)
        assert isinstance(server.speak("#lobby", "bar", "bob"), StorageError)
    head = server.head(room)
    assert ((head.seq, head.chain), head.words, head.departed) == (before, {}, {})
    assert isinstance(alice.say(room, "all is well"), m.Accepted)
    assert server.speak("#lobby", "bar", "bob") is None


def test_carrying_out_what_the_operator_says_uses_up_no_budget(
    server: MemoryServer, lobby: tuple[MemoryPerson, MemoryPerson, MemoryPerson, bytes]
) -> None:
    alice, _, _, room = lobby  # on their first day, and they have entered
    for action in ("bar", "unbar", "bar", "unbar"):
        assert server.speak("#lobby", action, "eve") is None
        assert isinstance(carry_out(server, alice, room), m.Accepted)
    assert server.speak("#lobby", "bar", "mallory") is None
    assert isinstance(carry_out(server, alice, room), m.Accepted)
    while isinstance(reply := alice.change(room), m.Accepted):
        pass
    refused(reply, "slow-down", "may change #lobby")
    assert server.speak("#lobby", "bar", "eve") is None
    assert isinstance(carry_out(server, alice, room), m.Accepted)


def test_with_the_last_one_the_room_goes(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    assert server.speak("#lobby", "remove", "alice") is None
    refused(alice.ask(m.Join, "#lobby"), "ownerless")
