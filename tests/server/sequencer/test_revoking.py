"""Revoking: a device is out of every conversation in one transaction, and whoever commits next takes it out."""

from collections.abc import Callable

import pytest

from securechat import policy
from securechat.identity.statements import Statement
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.proposals import Remove
from securechat.mls.tree_math import LeafIndex
from securechat.server.store.port import DiskFullError
from securechat.wire import messages as m
from securechat.wire.chain import HANDED_BACK, NO_DEVICE, STATEMENT, next_chain
from tests.server.sequencer.test_coming_and_going import refused
from tests.server.sequencer.test_heirs import enters, heir_of
from tests.server.sequencer.test_own_sessions import resumes
from tests.server.sequencer.test_publishing import beside, publish
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


@pytest.fixture
def club(enter: Enter) -> tuple[Person, Person, Person, bytes]:
    """alice owns a room of three, and reads it."""
    alice, bob, carol = (enter(name) for name in ("alice", "bob", "carol"))
    alice.open_room("#club", "invite")
    (room,) = alice.groups
    for guest in (bob, carol):
        guest.read_inbox()
        assert isinstance(alice.change(room, *alice.adds(guest.account)), m.Accepted)
        if guest is carol:
            bob.subscribe(room)
            bob.process(bob.take(m.Entry))
        assert guest.accept_welcome() == room
    for person in (alice, bob, carol):
        person.subscribe(room, 2)
    return alice, bob, carol, room


def revoke(device: Person, by: Person | None = None) -> Statement:
    """The account of a device revokes it, on another one."""
    by = by or beside(device)
    statement = by.state("revoke", device.certificate().signature_key, device_id=device.device)
    assert isinstance(publish(by, statement), m.Published)
    device.chain = list(by.chain)
    return statement


def leaf_of(person: Person, room: bytes, account: str) -> LeafIndex:
    found = policy.words.leaf_of_account(person.groups[room].public, account)
    assert found is not None
    return found[0]


def test_it_is_an_entry_of_its_own_kind_and_the_last_that_the_device_gets(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, bob, _, room = club
    head = server.head(room)
    seq, before = head.seq, head.chain
    statement = revoke(bob)
    entry = server.entries(room)[-1]
    assert (entry.seq, entry.kind, entry.device, entry.number) == (seq + 1, STATEMENT, NO_DEVICE, 0)
    chain = next_chain(before, room, seq + 1, entry.time, NO_DEVICE, 0, statement.encode(), kind=STATEMENT)
    assert head.chain == entry.chain == chain
    shown = alice.take(m.Entry, lambda each: each.kind == STATEMENT)
    assert policy.check_statement(
        alice.groups[room].public, shown.payload, time=shown.time, departed=frozenset(), before=()
    ) == statement
    assert head.members[bob.device].last_seq == entry.seq
    assert bob.ended().closing is not None


def test_until_it_is_removed_nobody_speaks_and_whoever_commits_removes_it(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, bob, carol, room = club
    revoke(bob)
    refused(alice.say(room, "as if nothing had happened"), "commit-first")
    alice.numbers[room] -= 1
    refused(carol.change(room), "invalid-commit")
    assert isinstance(carol.change(room, Remove(leaf_of(carol, room, "bob"))), m.Accepted)
    assert server.head(room).revocations == {}
    assert server.store.conversations.load(room).revocations == {}  # type: ignore[union-attr]  # it is there
    alice.process(alice.take(m.Entry, lambda each: each.group_info != b""))
    assert isinstance(alice.say(room, "now"), m.Accepted)


def test_who_enters_an_open_room_meanwhile_changes_nothing_of_that(enter: Enter) -> None:
    alice, bob, carol = (enter(name) for name in ("alice", "bob", "carol"))
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    revoke(bob)
    assert carol.join("#lobby") == room  # who enters need not remove anybody
    refused(carol.say(room, "hello"), "commit-first")
    carol.numbers[room] -= 1
    assert isinstance(carol.change(room, Remove(leaf_of(carol, room, "bob"))), m.Accepted)
    assert isinstance(carol.say(room, "hello"), m.Accepted)


def test_it_is_in_every_log_of_the_device_under_that_key_and_in_no_other(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    stranger = enter("carol")
    rooms = []
    for name in ("#one", "#two", "#three"):
        bob.open_room(name)
        rooms.append(list(bob.groups)[-1])
    alice.open_room("#four")
    stranger.open_room("#five")
    server = alice.server
    bob.join("#four")
    left = bob.join("#five")
    assert isinstance(bob.leave(left), m.Accepted)
    before = {room: server.head(room).seq for room in (*bob.groups, *stranger.groups)}
    revoke(bob)
    told = {room for room, seq in before.items() if server.head(room).seq == seq + 1}
    assert told == {*rooms, *alice.groups}
    assert set(before) - told == {left}


def test_the_device_that_has_taken_its_place_stays(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    """They have the account and its key in common."""
    alice, bob, carol, room = club
    heir = heir_of(bob)
    assert isinstance(enters(heir, room), m.Accepted)
    seq = server.head(room).seq
    statement = revoke(bob, heir)
    conversation = server.sequencer._conversations.get(room)
    assert conversation is not None
    publishing = server.sequencer._writing[m.Publish].__self__  # type: ignore[attr-defined]  # a method
    publishing._revoking.append(conversation, statement, HANDED_BACK)  # as a restored server gets it
    assert server.head(room).seq == seq
    present = {each.device for each in server.head(room).members.values() if each.last_seq is None}
    assert present == {alice.device, carol.device, heir.device}


def test_what_waits_already_is_not_put_there_again(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    """Members would refuse the second one, and stop."""
    _, bob, _, room = club
    statement = revoke(bob)
    conversation, seq = server.sequencer._conversations.get(room), server.head(room).seq
    assert conversation is not None
    publishing = server.sequencer._writing[m.Publish].__self__  # type: ignore[attr-defined]  # a method
    publishing._revoking.append(conversation, statement, HANDED_BACK)  # as a restored server gets it
    assert (server.head(room).seq, list(server.head(room).revocations)) == (seq, [seq])


def test_who_revokes_a_device_resumes_and_the_revoked_one_does_not(server: MemoryServer, enter: Enter) -> None:
    bob = enter("bob")
    other = beside(bob)
    other.signature = SignaturePrivateKey.generate(SUITE)
    other.certify()
    other.publish()
    bob.chain = list(other.chain)
    assert resumes(server, other)
    revoke(other, bob)
    assert resumes(server, bob)
    assert not resumes(server, other)


@pytest.mark.parametrize("who", ["the thief", "an honest member"])
def test_a_commit_that_is_being_checked_meanwhile_comes_too_late(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes], who: str
) -> None:
    """The order in the log decides: nothing of the device comes behind the statement, and nobody passes it by."""
    alice, bob, _, room = club
    person = bob if who == "the thief" else alice
    staged, number, request = person.make_commit(person.groups[room]), person.number(room), person.protocol.next_id()
    with server.slow_checks():
        person.send(m.Commit(request, room, number, staged.message, b"", staged.group_info or b""))
    revoke(bob)
    server.finish_checks()
    if person is alice:
        refused(alice.take(m.Reply, lambda reply: reply.id == request), "commit-first")
    assert server.entries(room)[-1].kind == STATEMENT


def test_in_the_other_order_the_commit_counts(club: tuple[Person, Person, Person, bytes]) -> None:
    alice, bob, _, room = club
    assert isinstance(bob.change(room), m.Accepted)
    revoke(bob)
    alice.process(alice.take(m.Entry))
    assert isinstance(alice.change(room, Remove(leaf_of(alice, room, "bob"))), m.Accepted)


def test_a_later_certificate_takes_the_place_of_the_revoked_leaf(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, bob, _, room = club
    new = beside(bob)
    revoke(bob, new)
    assert isinstance(publish(new, new.rotate(), packages=[new.key_package()]), m.Published)
    offer = new.ask(m.Resync, room)
    assert isinstance(offer, m.JoinOffer), offer
    assert [Statement.decode(each).device_id for each in offer.revocations] == [bob.device]
    staged = new.external_commit(offer, old=leaf_of(alice, room, "bob"))
    reply = new.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info)
    assert isinstance(reply, m.Accepted), reply
    assert server.head(room).revocations == {}
    present = [each for each in server.head(room).members.values() if each.last_seq is None]
    assert [each.device for each in present if each.account == "bob"] == [new.device]


def test_a_device_of_another_account_does_not_come_in_that_way(
    enter: Enter, club: tuple[Person, Person, Person, bytes]
) -> None:
    _, bob, _, room = club
    mallory = enter("mallory")
    revoke(bob)
    refused(mallory.ask(m.Resync, room), "not-found")


def test_checkpoints_bring_what_is_revoked(server: MemoryServer, enter: Enter) -> None:
    """The owner comes back by an external commit, which removes nobody else."""
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#garden")
    room = bob.join("#garden")
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    statement = revoke(bob)
    offer = alice.ask(m.Resync, room)
    staged = alice.external_commit(offer, old=leaf_of(alice, room, "alice"))
    assert isinstance(
        alice.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info), m.Accepted
    )
    (checkpoint,) = alice.ask(m.FetchCheckpoints, room).checkpoints
    assert checkpoint.revocations == [statement.encode()]
    assert list(server.head(room).revocations.values()) == [statement.encode()]


def test_who_has_asked_to_enter_before_it_has_to_ask_again(enter: Enter) -> None:
    alice, bob, carol = (enter(name) for name in ("alice", "bob", "carol"))
    alice.open_room("#garden")
    room = bob.join("#garden")
    offer = carol.ask(m.Join, "#garden")
    revoke(bob)
    staged = carol.external_commit(offer)
    refused(carol.ask(m.Commit, room, 1, staged.message, b"", staged.group_info), "commit-first")
    assert carol.join("#garden") == room
    assert alice.server.head(room).revocations  # whoever enters removes nobody


@pytest.fixture
def full(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it holds something, the disk is full."""
    switch: list[bool] = []
    commit = server.store.commit

    def commit_or_not() -> None:
        if switch:
            raise DiskFullError("full")
        commit()

    monkeypatch.setattr(server.store, "commit", commit_or_not)
    return switch


def test_on_a_full_disk_nothing_of_it_happens(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes], full: list[bool]
) -> None:
    alice, bob, _, room = club
    by = beside(bob)
    statement = by.state("revoke", bob.certificate().signature_key, device_id=bob.device)
    seq = server.head(room).seq
    full.append(True)
    refused(publish(by, statement), "disk-full")
    assert (server.head(room).seq, server.head(room).revocations) == (seq, {})
    assert server.head(room).members[bob.device].last_seq is None
    full.clear()
    assert isinstance(bob.say(room, "still here"), m.Accepted)
    assert isinstance(alice.ask(m.FetchKeyPackages, "bob"), m.KeyPackages)
    assert isinstance(publish(by, statement), m.Published)  # the twin
    assert server.head(room).seq == seq + 2


def test_while_nobody_knows_what_time_it_is_a_device_is_revoked_if_no_log_has_to_say_when(
    server: MemoryServer, enter: Enter, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, bob, _, room = club
    dave = enter("dave")  # in no conversation
    by = {device: beside(device) for device in (bob, dave)}
    seq = server.head(room).seq
    server.leap = 50 * 86_400.0
    statement = by[bob].state("revoke", bob.certificate().signature_key, device_id=bob.device)
    refused(publish(by[bob], statement), "busy")
    assert server.head(room).seq == seq
    assert isinstance(alice.ask(m.FetchKeyPackages, "bob"), m.KeyPackages)  # nothing of it has happened
    revoke(dave, by[dave])
    assert dave.ended().closing is not None
    server.leap = 0.0
    assert isinstance(publish(by[bob], statement), m.Published)  # the twin
    assert list(server.head(room).revocations.values()) == [statement.encode()]
    assert bob.ended().closing is not None


def test_a_device_is_not_added_once_it_is_revoked(
    enter: Enter, club: tuple[Person, Person, Person, bytes]
) -> None:
    """Its key package may have been fetched before: whoever has the stolen device would be let in by it."""
    alice, _, _, room = club
    dave, erin = enter("dave"), enter("erin")
    packages = {each.account: alice.adds(each.account) for each in (dave, erin)}
    for_a_chat = alice.adds("dave")
    revoke(dave)
    for reply in (alice.change(room, *packages["dave"]), alice.open_direct("dave", adds=for_a_chat)):
        refused(reply, "invalid-commit")
        assert "a device of dave is not in the directory" in reply.text
    assert isinstance(alice.change(room, *packages["erin"]), m.Accepted)


def test_a_device_is_out_of_all_its_conversations_in_one_transaction(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = enter("bob")
    for number in range(40):
        assert isinstance(bob.open_room(f"#room{number}"), m.Done)
    by = beside(bob)
    commits: list[None] = []
    commit = bob.server.store.commit

    def count() -> None:
        commits.append(None)
        commit()

    monkeypatch.setattr(bob.server.store, "commit", count)
    revoke(bob, by)
    assert len(commits) <= 3  # asking, checking, taking
    assert all(bob.server.head(room).revocations for room in bob.groups)
