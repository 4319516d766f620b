"""What is kept for whom, seen through the wire; and what the server shows of it."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from securechat.mls.framing import read_header
from securechat.server.sequencer import messages as talking
from securechat.server.sequencer import reading, validation
from securechat.server.sequencer.conversation import IDLE_SECONDS
from securechat.server.sequencer.operations import ForgetAccount
from securechat.server.store.records import KEPT_SECONDS, READER_SECONDS
from securechat.server.store.sqlite import tail, tidying
from securechat.wire import messages as m
from securechat.wire.chain import next_chain
from tests.support.log import logged
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


def talk(enter: Enter) -> tuple[Person, Person, bytes]:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    return alice, bob, bob.accept_welcome()


def chain_after(chain: bytes, entries: list[m.Entry]) -> bytes:
    """The chain after entries that follow the one with this chain."""
    for entry in entries:
        number = int.from_bytes(read_header(entry.payload).authenticated_data, "big")
        chain = next_chain(
            chain, entry.conversation, entry.seq, entry.time, entry.device, number, entry.payload, entry.group_info
        )
    return chain


def acknowledge(person: Person, conversation: bytes, seq: int) -> None:
    person.send(m.Acknowledge(conversation, seq))
    assert isinstance(person.ask(m.ListRooms), m.Rooms)  # so it has been handled


def test_entries_are_deleted_when_everybody_has_them(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    alice, bob, conversation = talk(enter)
    for n in range(5):
        alice.say(conversation, str(n))
    acknowledge(alice, conversation, 6)
    server.tidy()
    assert [entry.seq for entry in server.store.logs.read(conversation, 0, 100, 100, 1 << 20)] == [2, 3, 4, 5, 6]
    acknowledge(bob, conversation, 4)
    server.tidy()
    assert [entry.seq for entry in server.store.logs.read(conversation, 0, 100, 100, 1 << 20)] == [5, 6]
    bob.cursors[conversation] = 4
    bob.subscribe(conversation)
    assert [bob.take(m.Entry).seq for _ in range(2)] == [5, 6]


def test_who_was_away_too_long_is_told_where_the_gap_ends(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    monkeypatch.setattr(tidying, "READER_ENTRIES", 5)
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    for n in range(20):
        alice.say(room, str(n))
    acknowledge(alice, room, 21)
    server.tidy()
    bob.subscribe(room)
    truncated = bob.take(m.Truncated)
    assert truncated.first_seq == 17
    rest = [bob.take(m.Entry) for _ in range(5)]
    assert [entry.seq for entry in rest] == [17, 18, 19, 20, 21]
    assert chain_after(truncated.chain, rest) == server.head(room).chain
    assert isinstance(alice.say(room, "and on"), m.Accepted)
    assert bob.take(m.Entry).seq == 22


@pytest.mark.parametrize("portion", [1, 2, 100])
def test_who_was_away_too_long_gets_the_handshakes_that_it_missed(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, portion: int
) -> None:
    """And follows them with its own secrets to where the log goes on."""
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    monkeypatch.setattr(tidying, "READER_ENTRIES", 5)
    monkeypatch.setattr(reading, "PORTION_ENTRIES", portion)
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    for _ in range(3):
        assert isinstance(alice.change(room), m.Accepted)
        alice.say(room, "lost")
    for n in range(10):
        alice.say(room, str(n))
    acknowledge(alice, room, 17)
    server.tidy()
    cursor = bob.cursors[room]
    for _ in range(2):  # and again, since it has acknowledged nothing
        bob.subscribe(room, cursor)
        truncated = bob.take(m.Truncated)
        assert truncated.first_seq == 13
        rest = [bob.take(m.Entry) for _ in range(8)]
        assert [entry.seq for entry in rest] == [2, 4, 6, 13, 14, 15, 16, 17]
        assert bob.take(m.Truncated) == m.Truncated(room, 13, b"")  # after the three
        assert all(entry.group_info for entry in rest[:3])
        assert chain_after(truncated.chain, rest[3:]) == server.head(room).chain
    for entry in rest[:3]:
        bob.process(entry)
    assert bob.groups[room].epoch_authenticator == alice.groups[room].epoch_authenticator


def test_who_comes_back_to_a_log_of_which_nothing_is_left_learns_its_chain(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    alice, bob, conversation = talk(enter)
    assert isinstance(alice.change(conversation), m.Accepted)
    alice.say(conversation, "read by both")
    for person in (alice, bob):
        acknowledge(person, conversation, 3)
    server.tidy()
    bob.subscribe(conversation, 1)
    assert bob.take(m.Message) == m.Truncated(conversation, 4, server.head(conversation).chain)
    assert bob.take(m.Entry).seq == 2
    assert bob.take(m.Truncated) == m.Truncated(conversation, 4, b"")  # these were all
    alice.say(conversation, "and on")
    assert bob.take(m.Entry).seq == 4


def test_the_sender_of_a_direct_conversation_is_refused_instead(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talking, "READER_ENTRIES", 5)
    alice, bob, conversation = talk(enter)
    acknowledge(alice, conversation, 1)
    for n in range(4):
        assert isinstance(alice.say(conversation, str(n)), m.Accepted)
        acknowledge(alice, conversation, 2 + n)
    while isinstance(reply := alice.say(conversation, "more"), m.Accepted):
        assert reply.seq < 10
        acknowledge(alice, conversation, reply.seq)
    assert reply.code == "reader-full"
    alice.numbers[conversation] -= 1
    acknowledge(bob, conversation, 4)
    assert isinstance(alice.say(conversation, "again"), m.Accepted)


def test_a_lost_device_ends_neither_the_conversation_nor_the_disk(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it never read was kept for ever, and its owner's friend could never write again."""
    monkeypatch.setattr(talking, "READER_ENTRIES", 5)
    alice, bob, conversation = talk(enter)
    bob.drop()

    def fill() -> None:
        while isinstance(reply := alice.say(conversation, "are you there?"), m.Accepted):
            acknowledge(alice, conversation, reply.seq)
        assert reply.code == "reader-full"
        alice.numbers[conversation] -= 1

    fill()
    first = server.head(conversation).seq
    for seconds in (READER_SECONDS, KEPT_SECONDS - READER_SECONDS - 60):
        server.now += seconds * 1000
        server.tidy()
        assert alice.say(conversation, "hello?").code == "reader-full"
        alice.numbers[conversation] -= 1
    server.now += 3_700_000
    server.tidy()
    assert server.entries(conversation) == []
    fill()
    assert server.head(conversation).seq >= first + 5
    assert len(server.entries(conversation)) == server.head(conversation).seq - first


@pytest.mark.parametrize("left", [True, False], ids=["has left", "is in"])
@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "comes back"])
def test_what_waits_for_a_deleted_account_is_kept_for_nobody(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, *, deleted: bool, left: bool
) -> None:
    """Its friend paid for half a year for what nobody could come to read."""
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    alice, bob, conversation = talk(enter)
    for _ in range(5):
        assert isinstance(alice.say(conversation, "x" * 1000), m.Accepted)
    if left:
        assert isinstance(bob.leave(conversation), m.Accepted)
    acknowledge(alice, conversation, server.head(conversation).seq)
    acknowledge(bob, conversation, 2)
    server.tidy()
    seqs = [entry.seq for entry in server.entries(conversation)]
    held = server.store.held("alice")
    assert len(seqs) >= 4
    if deleted:
        server.sequencer.operate(ForgetAccount("bob", lambda _: None))
        server.run()
    server.tidy()
    assert [entry.seq for entry in server.entries(conversation)] == ([] if deleted else seqs)
    assert (server.store.held("alice") < held - 4000) is deleted
    assert [each.account for each in server.head(conversation).members.values()] == ["alice"] + ["bob"] * (not deleted)
    stored = server.store.conversations.load(conversation)
    assert stored is not None
    assert stored.members.keys() == server.head(conversation).members.keys()
    assert server.store.conversations.of_account("bob", out=True) == ([] if deleted else [conversation])


def test_what_the_sender_has_not_acknowledged_is_no_fault_of_the_reader(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talking, "READER_ENTRIES", 5)
    alice, bob, conversation = talk(enter)
    acknowledge(bob, conversation, 1)
    for n in range(5):
        assert isinstance(alice.say(conversation, str(n)), m.Accepted)
        acknowledge(alice, conversation, n)  # behind bob, and behind what it has sent
    assert alice.say(conversation, "bob has not read").code == "reader-full"
    acknowledge(bob, conversation, 6)
    alice.numbers[conversation] -= 1
    acknowledge(alice, conversation, 5)
    assert isinstance(alice.say(conversation, "bob has read"), m.Accepted)


def test_who_acknowledges_nothing_fills_no_disk(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talking, "READER_ENTRIES", 5)
    alice, bob, conversation = talk(enter)
    acknowledge(alice, conversation, 1)
    for n in range(5):
        acknowledge(bob, conversation, alice.say(conversation, str(n)).seq)
    refused = alice.say(conversation, "more")
    assert refused.code == "busy"
    assert refused.code in m.RETRYABLE
    alice.numbers[conversation] -= 1
    acknowledge(alice, conversation, 6)
    assert isinstance(alice.say(conversation, "more"), m.Accepted)


@pytest.mark.parametrize("code", ["reader-full", "busy"])
def test_who_has_no_room_is_not_measured_again_before_something_is_read(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """That takes 20 ms in the turn where much is unread, and refused messages cost their sender nothing."""
    monkeypatch.setattr(talking, "READER_ENTRIES", 10)  # then the store is asked, and has too many bytes
    monkeypatch.setattr(talking, "READER_BYTES", 20_000)
    alice, bob, conversation = talk(enter)
    reader, other = (bob, alice) if code == "busy" else (alice, bob)  # who takes what comes, and who does not
    measured = []
    measure = server.store.logs.measure

    def count(*which: Any) -> tuple[int, int]:
        measured.append(which)
        return measure(*which)

    monkeypatch.setattr(server.store.logs, "measure", count)
    acknowledge(other, conversation, 1)
    while isinstance(reply := alice.say(conversation, "x" * 3000), m.Accepted):
        acknowledge(reader, conversation, reply.seq)
    assert reply.code == code
    before = len(measured)
    assert before > 0
    for _ in range(5):
        alice.numbers[conversation] -= 1
        assert alice.say(conversation, "x" * 3000).code == code
    assert len(measured) == before
    acknowledge(other, conversation, server.head(conversation).seq)
    alice.numbers[conversation] -= 1
    assert isinstance(alice.say(conversation, "there is room again"), m.Accepted)


def test_the_limit_falls_within_what_comes_at_once(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talking, "READER_ENTRIES", 5)
    alice, bob, conversation = talk(enter)
    acknowledge(bob, conversation, 1)
    submits = [alice.encrypt(conversation, str(n)) for n in range(10)]
    for submit in submits:
        alice.protocol.send(submit)
    alice.flush()
    replies = [alice.take(m.Reply, lambda reply, wanted=submit.id: reply.id == wanted) for submit in submits]  # type: ignore[misc]  # bound at once
    assert all(isinstance(reply, m.Accepted) for reply in replies[:5])
    refusals = [reply.code for reply in replies[5:] if isinstance(reply, m.Refused)]
    assert refusals == ["reader-full"] + ["wrong-number"] * 4


@pytest.mark.parametrize(("size", "kept"), [(10, 0), (1 << 20, 2)])
def test_a_snapshot_follows_a_large_commit(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, size: int, kept: int
) -> None:
    """The commits since the last one are kept whatever their size."""
    monkeypatch.setattr(validation, "SNAPSHOT_BYTES", size)
    alice, _, conversation = talk(enter)
    assert isinstance(alice.change(conversation), m.Accepted)
    found = server.store.conversations.read_group(conversation)
    assert found is not None
    assert len(found[1]) == kept


def test_an_idle_conversation_leaves_memory_and_comes_back(server: MemoryServer, enter: Enter) -> None:
    def wait() -> None:
        server.advance(server.seconds + IDLE_SECONDS + 1)
        server.tidy()

    alice, bob, conversation = talk(enter)
    accepted = alice.say(conversation, "one")
    wait()
    assert server.sequencer._conversations.loaded(conversation) is None
    assert alice.say(conversation, "two").seq == accepted.seq + 1
    wait()
    assert isinstance(alice.change(conversation), m.Accepted)
    bob.subscribe(conversation)
    wait()
    assert server.sequencer._conversations.loaded(conversation) is not None  # somebody reads
    assert bob.read(conversation, 2) == [(2, "one"), (3, "two")]


def test_show_ciphertext_logs_who_where_epoch_size_and_bytes(
    start: Callable[..., MemoryServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "securechat.server")
    server = start(show_ciphertext=True)
    with Person(server, "alice") as alice:
        alice.register().login()
        alice.open_room("#lobby")
        (room,) = alice.groups
        submit = alice.encrypt(room, "the canary sings")
        alice.send(submit)
        alice.take(m.Accepted)
    size = len(submit.payload)
    (line,) = logged(caplog, "entry")
    assert line == {
        "event": "entry", "conversation": "#lobby", "seq": 1, "account": "alice", "epoch": 0, "size": size,
        "payload": submit.payload.hex(),
    }  # fmt: skip
    assert b"canary".hex() not in line["payload"]


def test_without_it_nothing_of_an_entry_is_logged(enter: Enter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "securechat.server")
    alice, _, conversation = talk(enter)
    submit = alice.encrypt(conversation, "quiet")
    alice.send(submit)
    alice.take(m.Accepted)
    assert submit.payload.hex() not in caplog.text
    for secret in (alice.secret, alice.token):
        assert secret.hex() not in caplog.text
        assert repr(secret) not in caplog.text
