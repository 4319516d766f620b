"""Keepsakes: of each account the newest is kept, under its present identity key, and nobody else gets it."""

import os
from collections.abc import Callable
from dataclasses import replace

from securechat.identity.keepsake import Keepsake
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.server.rate import Rate
from securechat.wire import messages as m
from tests.server.sequencer.test_coming_and_going import refused
from tests.server.sequencer.test_publishing import beside
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


def keepsake(person: Person, number: int) -> Keepsake:
    blank = Keepsake(
        person.hello.server_id, person.account, person.identity_key, number, 1_700_000_000, os.urandom(12), b"secret"
    )
    return blank.signed_by(person.identity)


def put(person: Person, what: Keepsake) -> object:
    return person.ask(m.PutKeepsake, what.encode())


def another(person: Person) -> Person:
    """Another device of the same identity."""
    new = beside(person)
    new.signature = SignaturePrivateKey.generate(SUITE)
    new.certify()
    new.publish()
    return new


def kept(person: Person) -> bytes:
    reply = person.ask(m.FetchKeepsake)
    assert isinstance(reply, m.StoredKeepsake)
    return reply.keepsake


def test_the_newest_is_kept_and_only_its_account_gets_it(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    assert kept(alice) == b""
    first, second = keepsake(alice, 1), keepsake(alice, 5)
    for each in (first, second, second):  # the same again is answered as it was
        assert isinstance(put(alice, each), m.Done)
        assert kept(alice) == each.encode()
    assert kept(bob) == b""
    assert kept(another(alice)) == second.encode()


def test_a_number_that_is_not_higher_is_refused(enter: Enter) -> None:
    alice = enter("alice")
    present = keepsake(alice, 5)
    assert isinstance(put(alice, present), m.Done)
    for number in (4, 5):
        refused(put(alice, keepsake(alice, number)), "wrong-number")
    assert kept(alice) == present.encode()


def test_of_two_on_their_way_at_once_the_one_with_the_higher_number_stays(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    other = another(alice)
    newer, older = keepsake(alice, 3), keepsake(alice, 2)
    with server.slow_checks():
        first, second = (
            m.PutKeepsake(person.protocol.next_id(), each.encode()) for person, each in ((alice, newer), (other, older))
        )
        alice.send(first)
        other.send(second)
        alice.flush()
        other.flush()
    server.finish_checks()
    assert isinstance(alice.take(m.Reply, lambda reply: reply.id == first.id), m.Done)
    refused(other.take(m.Reply, lambda reply: reply.id == second.id), "wrong-number")
    assert kept(alice) == newer.encode()


def test_what_is_not_of_this_account_here_is_refused(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    good = keepsake(alice, 1)
    refused(put(bob, good), "bad-request")
    refused(put(alice, replace(good, server_id=bytes(16)).signed_by(alice.identity)), "bad-request")
    refused(put(alice, replace(good, identity_key=bob.identity_key).signed_by(bob.identity)), "identity-differs")
    refused(put(alice, replace(good, number=2)), "bad-request")  # and not signed again
    refused(put(alice, replace(good, number=0).signed_by(alice.identity)), "bad-request")
    refused(alice.ask(m.PutKeepsake, good.encode()[:-1]), "bad-request")
    assert kept(alice) == b""
    assert isinstance(put(alice, good), m.Done)


def test_a_new_identity_key_begins_anew(enter: Enter) -> None:
    alice = enter("alice")
    assert isinstance(put(alice, keepsake(alice, 9)), m.Done)
    new = Person(alice.server, "alice").login(publish=False)
    new.publish(instead_of=alice)
    first = keepsake(new, 1)
    assert isinstance(put(new, first), m.Done)
    assert kept(new) == first.encode()


def test_an_account_leaves_only_so_many(start: Callable[..., MemoryServer]) -> None:
    alice = Person(start(keepsakes_per_account=Rate(2, 0.01)), "alice").register().login()
    forged = replace(keepsake(alice, 1), signature=bytes(64))
    for _ in range(3):
        refused(put(alice, forged), "bad-request")  # who holds no identity key spends nothing of it
    for number in (1, 2):
        assert isinstance(put(alice, keepsake(alice, number)), m.Done)
    refused(put(alice, keepsake(alice, 3)), "slow-down")
    assert isinstance(put(alice, Keepsake.decode(kept(alice))), m.Done)  # the same again costs nothing
