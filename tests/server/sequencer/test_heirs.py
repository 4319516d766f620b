"""Heirs: a new device of the same identity takes the place of one that is lost, and nobody else does."""

import os
from collections.abc import Callable

import pytest

from securechat.identity.certificate import certificate_of
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.proposals import Remove
from securechat.mls.ratchet_tree import RatchetTree
from securechat.wire import messages as m
from tests.server.sequencer.test_coming_and_going import refused
from tests.server.sequencer.test_publishing import beside
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


@pytest.fixture
def staff(enter: Enter) -> tuple[Person, Person, bytes]:
    """Alice owns an invite room, in which bob is."""
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_room("#staff", "invite"), m.Done)
    (room,) = alice.groups
    assert isinstance(alice.change(room, *alice.adds("bob")), m.Accepted)
    bob.read_inbox()
    return alice, bob, bob.accept_welcome()


def heir_of(person: Person, *, revoked: bool = False) -> Person:
    """A new device of the same identity, published; `revoked`: the old one is not any more."""
    new = beside(person)
    new.signature = SignaturePrivateKey.generate(SUITE)
    if revoked:
        old = person.certificate()
        new.state("revoke", old.signature_key, device_id=old.device_id)
    new.certify()
    new.publish()
    return new


def enters(heir: Person, room: bytes) -> m.Reply:
    """Replace the old leaf by an external commit; the answer."""
    offer = heir.ask(m.Resync, room)
    assert isinstance(offer, m.JoinOffer), offer
    old = next(
        leaf for leaf, node in RatchetTree.decode(offer.tree).leaves() if certificate_of(node).account == heir.account
    )
    staged = heir.external_commit(offer, old=old)
    reply = heir.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info)
    if isinstance(reply, m.Accepted):
        assert staged.group is not None
        heir.take_part(room, staged.group, number=offer.number + 1, cursor=reply.seq)
    assert isinstance(reply, m.Reply)
    return reply


def test_a_device_does_not_hand_in_what_another_one_of_its_account_has_made(
    staff: tuple[Person, Person, bytes],
) -> None:
    """Answers, numbers and leases go by device: who is a member afterwards would not be the one who asked."""
    _, bob, room = staff
    heir = heir_of(bob)
    other = heir_of(heir)
    offer = heir.ask(m.Resync, room)
    old = next(leaf for leaf, node in RatchetTree.decode(offer.tree).leaves() if certificate_of(node).account == "bob")
    number = offer.number + 1
    for maker in (other, heir):
        staged = maker.external_commit(offer, old=old)
        reply = heir.ask(m.Commit, room, number, staged.message, b"", staged.group_info)
        if maker is other:
            refused(reply, "invalid-commit")
            assert "of another device" in reply.text
            offer = heir.ask(m.Resync, room)
    assert isinstance(reply, m.Accepted)


@pytest.mark.parametrize("revoked", [False, True])
def test_a_new_device_of_the_same_identity_reads_enters_and_takes_the_place(
    server: MemoryServer, staff: tuple[Person, Person, bytes], *, revoked: bool
) -> None:
    alice, bob, room = staff
    heir = heir_of(bob, revoked=revoked)
    assert isinstance(heir.ask(m.FetchCheckpoints, room), m.Checkpoints)
    assert isinstance(heir.ask(m.Subscribe, room, 0), m.Subscribed)
    if not revoked:  # or else somebody has to remove the leaf first
        alice.say(room, "sealed")
    assert heir.take(m.Entry).seq == 2  # a message, or the revocation
    assert isinstance(enters(heir, room), m.Accepted)
    present = {member.device for member in server.head(room).members.values() if member.last_seq is None}
    assert present == {alice.device, heir.device}
    heir.subscribe(room)
    alice.subscribe(room, 2)
    alice.process(alice.take(m.Entry, lambda entry: entry.seq == 3))
    alice.say(room, "welcome back")
    assert heir.read(room) == [(4, "welcome back")]
    if not revoked:
        refused(bob.ask(m.Commit, room, 1, bob.make_commit(bob.groups[room]).message, b"", b"x"), "not-found")


def test_an_identity_key_is_no_heir_of_its_own_in_another_account(staff: tuple[Person, Person, bytes]) -> None:
    _, bob, room = staff
    robert = Person(bob.server, "robert").register().login(publish=False)
    robert.identity = bob.identity
    robert.publish()
    for request in ((m.Resync, room), (m.FetchCheckpoints, room), (m.Subscribe, room, 0)):
        refused(robert.ask(*request), "not-found")
    assert isinstance(heir_of(bob).ask(m.Resync, room), m.JoinOffer)


def test_a_place_of_before_keys_were_kept_is_that_of_a_published_device(
    server: MemoryServer, staff: tuple[Person, Person, bytes]
) -> None:
    _, bob, room = staff
    heir = heir_of(bob)
    place = server.head(room).place(bob.certificate().who)
    assert place is not None
    place.identity_key = b""
    assert isinstance(heir.ask(m.Resync, room), m.JoinOffer)


def test_a_place_of_before_keys_were_kept_stays_where_it_was_when_its_device_commits(
    server: MemoryServer, staff: tuple[Person, Person, bytes]
) -> None:
    _, bob, room = staff
    place = server.head(room).place(bob.certificate().who)
    assert place is not None
    place.identity_key, began = b"", place.join_seq
    assert isinstance(bob.change(room), m.Accepted)
    after = server.head(room).place(bob.certificate().who)
    assert after is not None
    assert after.join_seq == began


def test_who_has_the_account_and_another_identity_key_is_no_heir(
    server: MemoryServer, enter: Enter, staff: tuple[Person, Person, bytes]
) -> None:
    _, bob, room = staff
    stranger = Person(bob.server, "bob").login(publish=False)
    stranger.publish(instead_of=bob)
    for request in ((m.Resync, room), (m.FetchCheckpoints, room), (m.Subscribe, room, 0)):
        refused(stranger.ask(*request), "not-found")
    carol = enter("carol")
    for request in ((m.Resync, room), (m.FetchCheckpoints, room), (m.Subscribe, room, 0)):
        refused(carol.ask(*request), "not-found")
    for person in (stranger, carol):  # also by what an heir has been given
        staged = person.external_commit(server.offer(1, room))
        refused(person.ask(m.Commit, room, 1, staged.message, b"", staged.group_info), "not-found")


def test_who_enters_again_under_another_identity_key_begins_anew_there(server: MemoryServer, enter: Enter) -> None:
    """It is another person's place, as far as anybody can know, though the device id is the same."""
    alice, bob = enter("alice"), enter("bob")
    bob.open_room("#lobby")
    room = alice.join("#lobby")
    again = Person(server, "alice")
    again.device, again.secret = alice.device, alice.secret
    again.login(publish=False)
    again.signature = SignaturePrivateKey.generate(SUITE)
    again.publish(instead_of=alice)
    offer = again.ask(m.Join, "#lobby")
    leaves = RatchetTree.decode(offer.tree).leaves()
    old = next(leaf for leaf, node in leaves if certificate_of(node).account == "alice")
    staged = again.external_commit(offer, old=old)
    reply = again.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info)
    assert isinstance(reply, m.Accepted)
    place = server.head(room).members[alice.device]
    assert (place.join_seq, place.identity_key) == (reply.seq, again.identity_key)


def test_an_heir_only_enters_and_says_nothing_before(staff: tuple[Person, Person, bytes]) -> None:
    _, bob, room = staff
    heir = heir_of(bob)
    regular = bob.make_commit(bob.groups[room], number=1)
    refused(heir.ask(m.Commit, room, 1, regular.message, b"", regular.group_info), "not-found")
    refused(heir.ask(m.Submit, room, 1, os.urandom(99)), "not-found")
    refused(heir.ask(m.Members, room), "not-found")


def test_what_the_old_device_may_not_read_any_more_its_heir_does_not_either(
    staff: tuple[Person, Person, bytes],
) -> None:
    alice, bob, room = staff
    heir = heir_of(bob)
    assert isinstance(heir.ask(m.Subscribe, room, 0), m.Subscribed)
    leaf = next(leaf for leaf, node in alice.groups[room].public.members() if certificate_of(node).account == "bob")
    assert isinstance(alice.change(room, Remove(leaf)), m.Accepted)
    assert heir.take(m.Entry).seq == 2  # how it ended
    alice.say(room, "not for bob")
    refused(heir.ask(m.Resync, room), "not-found")  # no entry has come before this answer
    assert not [each for each in heir.received if isinstance(each, m.Entry)]
    refused(bob.ask(m.Resync, room), "not-found")


@pytest.mark.parametrize("days", [29, 31])
def test_a_room_whose_only_member_is_revoked_waits_a_month_for_its_owner(
    server: MemoryServer, enter: Enter, days: int
) -> None:
    alice = enter("alice")
    assert isinstance(alice.open_room("#diary", "invite"), m.Done)
    (room,) = alice.groups
    heir = heir_of(alice, revoked=True)
    server.tidy()
    server.now += days * 86_400_000
    server.tidy()
    server.tidy()
    assert (server.store.conversations.load(room) is None) == (days > 30)
    if days > 30:
        refused(heir.ask(m.Resync, room), "not-found")
    else:
        assert isinstance(heir.ask(m.Resync, room), m.JoinOffer)


def test_a_room_in_which_somebody_is_waits_for_ever(server: MemoryServer, enter: Enter) -> None:
    alice = enter("alice")
    assert isinstance(alice.open_room("#diary", "invite"), m.Done)
    (room,) = alice.groups
    server.tidy()
    server.now += 400 * 86_400_000
    server.tidy()
    server.tidy()
    assert server.store.conversations.load(room) is not None
