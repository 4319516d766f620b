"""Succeeding: an identity key names the next one, in every log in one transaction, and can contest it for a month."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from securechat import policy
from securechat.identity.statements import CONTEST_SECONDS, MAX_SUCCESSION_AGE, Statement
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.proposals import GroupContextExtensions, Remove
from securechat.policy import Identity
from securechat.wire import messages as m
from securechat.wire.chain import HANDED_BACK, STATEMENT
from tests.server.sequencer.test_coming_and_going import refused
from tests.server.sequencer.test_publishing import beside, chain_of, publish
from tests.server.sequencer.test_revoking import club, full, leaf_of
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

__all__ = ["club", "full"]  # fixtures
Enter = Callable[..., Person]


def heir_of(person: Person) -> Person:
    """The same device under a new identity key, in a session of its own."""
    heir = Person(person.server, person.account)
    heir.device, heir.secret = person.device, person.secret
    heir.signature = SignaturePrivateKey.generate(SUITE)
    return heir


def succeed(person: Person) -> tuple[Person, Statement]:
    """An account goes on under another identity key."""
    heir = heir_of(person)
    statement = person.state("succeed", heir.identity_key, successor=heir.identity)
    first = heir.certify()
    reply = publish(person, statement, first, packages=[heir.key_package() for _ in range(3)])
    assert isinstance(reply, m.Published), reply
    return heir, statement


def taken_over(person: Person, room: bytes) -> GroupContextExtensions:
    """The change of the rules by which whoever has succeeded takes over."""
    public, head = person.groups[room].public, person.server.head(room)
    statements = [Statement.decode(each) for each in head.revocations.values()]
    heirs = {Identity(each.account, each.key) for each in statements}
    rules = policy.taken_over(policy.rules_of(public.extensions), statements, heirs)
    return GroupContextExtensions((rules.extension(),))


def test_it_is_in_every_log_of_the_old_key_and_in_no_other(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    for name in ("#one", "#two"):
        bob.open_room(name)
    mine = list(bob.groups)
    alice.open_room("#three")
    left = bob.join("#three")
    assert isinstance(bob.leave(left), m.Accepted)
    server = alice.server
    seq = server.head(left).seq
    _, statement = succeed(bob)
    for room in mine:
        entry, head = server.entries(room)[-1], server.head(room)
        assert (entry.kind, entry.payload) == (STATEMENT, statement.encode())
        assert list(head.revocations.values()) == [statement.encode()]
        assert head.members[bob.device].last_seq == entry.seq
    assert server.head(left).seq == seq


def test_until_it_is_removed_nobody_speaks_and_an_owner_brings_the_successor_in(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, bob, carol, room = club
    heir, statement = succeed(bob)
    refused(alice.say(room, "as if nothing had happened"), "commit-first")
    alice.numbers[room] -= 1
    refused(carol.change(room), "invalid-commit")
    adds = alice.adds("bob")
    assert isinstance(alice.change(room, Remove(leaf_of(alice, room, "bob")), *adds), m.Accepted)
    assert server.head(room).revocations == {}
    members = [each for each in server.head(room).members.values() if each.last_seq is None]
    assert {each.account: each.identity_key for each in members}["bob"] == heir.identity_key
    assert statement.key == heir.identity_key
    conversation, seq = server.sequencer._conversations.get(room), server.head(room).seq
    assert conversation is not None
    publishing = server.sequencer._writing[m.Publish].__self__  # type: ignore[attr-defined]  # a method
    publishing._revoking.append(conversation, statement, HANDED_BACK)  # as a restored server gets it
    assert server.head(room).seq == seq


def test_a_plain_member_removes_the_old_leaf_and_adds_nobody(club: tuple[Person, Person, Person, bytes]) -> None:
    _, bob, carol, room = club
    succeed(bob)
    adds = carol.adds("bob")
    refused(carol.change(room, Remove(leaf_of(carol, room, "bob")), *adds), "invalid-commit")
    assert isinstance(carol.change(room, Remove(leaf_of(carol, room, "bob"))), m.Accepted)


def test_what_the_old_key_certifies_in_the_same_breath_is_no_device_of_the_new_one(enter: Enter) -> None:
    bob, alice = enter("bob"), enter("alice")
    other = beside(bob)
    other.signature = SignaturePrivateKey.generate(SUITE)
    theirs = other.certify()
    bob.chain = list(other.chain)
    heir = heir_of(bob)
    succession = bob.state("succeed", heir.identity_key, successor=heir.identity)
    first = heir.certify()
    assert isinstance(publish(bob, theirs, succession, first, packages=[heir.key_package()]), m.Published)
    assert [each.device for each in bob.server.store.directory.devices("bob")] == [bob.device]
    assert isinstance(alice.ask(m.FetchKeyPackages, "bob"), m.KeyPackages)


def test_the_old_key_does_not_come_back(club: tuple[Person, Person, Person, bytes]) -> None:
    """A revoked leaf gives way to a later certificate of its key; one that has named a successor does not."""
    _, bob, _, room = club
    thief = beside(bob)
    succeed(bob)
    thief.chain = list(bob.chain)
    refused(publish(thief, thief.certify()), "not-allowed")
    refused(bob.ask(m.Resync, room), "not-found")


def test_until_the_rules_name_the_new_key_the_statement_waits(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, _, carol, room = club
    _, statement = succeed(alice)
    refused(carol.say(room, "too early"), "commit-first")
    carol.numbers[room] -= 1
    assert isinstance(carol.change(room, Remove(leaf_of(carol, room, "alice"))), m.Accepted)
    assert list(server.head(room).revocations.values()) == [statement.encode()]  # the rules name the old key
    assert isinstance(carol.say(room, "nobody waits for that"), m.Accepted)
    stored = server.store.conversations.load(room)
    assert stored is not None
    assert stored.leafless == server.head(room).leafless == stored.revocations.keys()


def test_for_what_is_contested_when_its_leaf_has_gone_nobody_waits_either(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, _, carol, room = club
    victim = beside(alice)
    heir, succession = succeed(alice)
    assert isinstance(carol.change(room, Remove(leaf_of(carol, room, "alice"))), m.Accepted)
    victim.chain = [*victim.chain, succession]
    victim = beside(victim)
    assert isinstance(publish(victim, contested(victim, heir.identity_key)), m.Published)
    assert len(server.head(room).revocations) == 1
    assert isinstance(carol.say(room, "nobody waits for that"), m.Accepted)


def test_the_owner_of_an_open_room_comes_in_again_and_takes_over(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#garden")
    room = bob.join("#garden")
    heir, statement = succeed(alice)
    offer = alice.ask(m.Join, "#garden")
    assert offer.revocations == [statement.encode()]
    alice.identity, alice.signature, alice.chain = heir.identity, heir.signature, list(heir.chain)
    staged = alice.external_commit(offer, old=leaf_of(bob, room, "alice"))
    reply = alice.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info)
    assert isinstance(reply, m.Accepted), reply
    alice.numbers[room] = offer.number + 1
    assert staged.group is not None
    alice.groups[room] = staged.group
    assert server.head(room).revocations  # the rules name the old key
    assert isinstance(alice.change(room, taken_over(alice, room)), m.Accepted)
    assert server.head(room).revocations == {}
    owners = policy.rules_of(alice.groups[room].public.extensions).owners
    assert owners == (Identity("alice", heir.identity_key),)


def test_on_a_full_disk_nothing_of_it_happens(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes], full: list[bool]
) -> None:
    _, bob, _, room = club
    heir = heir_of(bob)
    statement, seq = bob.state("succeed", heir.identity_key, successor=heir.identity), server.head(room).seq
    first = heir.certify()
    full.append(True)
    refused(publish(bob, statement, first), "disk-full")
    assert (server.head(room).seq, server.head(room).revocations) == (seq, {})
    assert server.head(room).members[bob.device].last_seq is None
    full.clear()
    assert isinstance(publish(bob, statement, first), m.Published)  # the twin
    assert server.head(room).seq == seq + 1


def test_while_nobody_knows_what_time_it_is_nothing_of_it_happens_either(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    _, bob, _, room = club
    heir = heir_of(bob)
    statement, first = bob.state("succeed", heir.identity_key, successor=heir.identity), heir.certify()
    server.leap = 50 * 86_400.0
    refused(publish(bob, statement, first), "busy")
    assert server.head(room).revocations == {}
    assert server.store.directory.identity_key("bob") == bob.identity_key
    server.leap = 0.0
    assert isinstance(publish(bob, statement, first), m.Published)  # the twin
    assert list(server.head(room).revocations.values()) == [statement.encode()]
    assert server.store.directory.identity_key("bob") == heir.identity_key


# --- contesting ------------------------------------------------------------------------------------------------------


def contested(person: Person, key: bytes) -> Statement:
    return person.state("contest", key)


def test_the_old_key_contests_once_and_all_who_see_either_key_are_told(
    server: MemoryServer, enter: Enter, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, bob, carol, room = club
    victim = beside(bob)
    heir, succession = succeed(bob)
    lonely = enter("dave")
    lonely.open_room("#elsewhere")
    (elsewhere,) = lonely.groups
    before = server.head(elsewhere).seq
    victim.chain = [*victim.chain, succession]
    victim = beside(victim)  # the device was thrown out; the password lets it in
    statement = contested(victim, heir.identity_key)
    refused(publish(victim, statement, victim.certify()), "not-allowed")  # it says nothing else
    victim.chain.pop()
    assert isinstance(publish(victim, statement), m.Published)
    assert isinstance(publish(victim, statement), m.Published)  # again
    assert chain_of(alice, victim)[-1] == statement
    assert [each.payload for each in server.entries(room)[-2:]] == [succession.encode(), statement.encode()]
    assert list(server.head(room).revocations.values()) == [statement.encode()]
    assert server.head(elsewhere).seq == before
    reply = carol.ask(m.FetchStatements, "bob", b"", 0)
    assert reply.identity_key == heir.identity_key  # the account's key stays what it is
    refused(publish(victim, contested(victim, heir.identity_key)), "not-allowed")


def test_it_reaches_the_logs_in_which_the_successor_is(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, bob, _, room = club
    victim = beside(bob)
    heir, succession = succeed(bob)
    adds = alice.adds("bob")
    assert isinstance(alice.change(room, Remove(leaf_of(alice, room, "bob")), *adds), m.Accepted)
    assert server.head(room).revocations == {}
    victim.chain = [*victim.chain, succession]
    victim = beside(victim)
    statement = contested(victim, heir.identity_key)
    assert isinstance(publish(victim, statement), m.Published)
    assert server.entries(room)[-1].payload == statement.encode()
    assert isinstance(alice.change(room), m.Accepted)
    assert server.head(room).revocations == {}


@pytest.mark.parametrize("seconds", [-60, 60])
def test_after_a_month_it_is_too_late(server: MemoryServer, enter: Enter, seconds: int) -> None:
    bob = enter("bob")
    victim = beside(bob)
    heir, succession = succeed(bob)
    server.now += (CONTEST_SECONDS + seconds) * 1000
    victim.chain = [*victim.chain, succession]
    victim = beside(victim)
    reply = publish(victim, contested(victim, heir.identity_key))
    if seconds > 0:
        refused(reply, "not-allowed")
        assert isinstance(reply, m.Refused)
        assert "within 30 days" in reply.text
    else:
        assert isinstance(reply, m.Published), reply


def test_what_was_not_succeeded_is_not_contested(enter: Enter) -> None:
    bob = enter("bob")
    victim, stranger = beside(bob), heir_of(bob)
    refused(publish(victim, contested(victim, stranger.identity_key)), "not-allowed")
    _, succession = succeed(bob)
    victim.chain = [*bob.chain[:1], succession]
    victim = beside(victim)
    refused(publish(victim, contested(victim, stranger.identity_key)), "not-allowed")


def test_a_succession_that_was_dated_back_is_refused(server: MemoryServer, enter: Enter) -> None:
    """A thief's could not be contested any more, as the others count."""
    bob = enter("bob")
    heir = heir_of(bob)
    honest, first = bob.state("succeed", heir.identity_key, successor=heir.identity), heir.certify()

    def dated(back: int) -> Statement:
        unsigned = replace(honest, time=server.now // 1000 - back)
        signed = replace(unsigned, new_signature=heir.identity.sign(unsigned.to_be_signed_by_successor()))
        return replace(signed, signature=bob.identity.sign(signed.to_be_signed()))

    server.now -= server.now % 1000
    refused(publish(bob, dated(MAX_SUCCESSION_AGE + 1), first), "bad-request")
    server.now -= server.now % 1000
    assert isinstance(publish(bob, dated(MAX_SUCCESSION_AGE), first), m.Published)


def test_where_nobody_is_left_who_may_add_a_plain_member_adds_the_successor(
    server: MemoryServer, club: tuple[Person, Person, Person, bytes]
) -> None:
    alice, _, carol, room = club
    heir, _ = succeed(alice)
    adds, removes = carol.adds("alice"), Remove(leaf_of(carol, room, "alice"))
    assert isinstance(carol.change(room, removes, *adds, taken_over(carol, room)), m.Accepted)
    assert server.head(room).revocations == {}
    present = {each.account: each.identity_key for each in server.head(room).members.values() if each.last_seq is None}
    assert present["alice"] == heir.identity_key
    owners = policy.rules_of(carol.groups[room].public.extensions).owners
    assert owners == (Identity("alice", heir.identity_key),)


def test_and_nobody_else(enter: Enter, club: tuple[Person, Person, Person, bytes]) -> None:
    alice, _, carol, room = club
    enter("dave")
    succeed(alice)
    adds = carol.adds("dave")
    refused(carol.change(room, Remove(leaf_of(carol, room, "alice")), *adds), "invalid-commit")
