"""Our code and ts-mls in one group: all that both can do, each way, and what each must refuse from the other."""

from collections.abc import Callable

import pytest

from securechat.errors import PeerError
from securechat.mls.crypto.suite import CipherSuite, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, cipher_suite
from securechat.mls.errors import InvalidMessage
from tests.interop.member import AddClient, MixPsk, Refused, RemoveMember, SetExtensions, altered, read_each_other
from tests.interop.ours import Ours
from tests.interop.ts_mls import TsMember, TsMls
from tests.mls.support import EXTENSIONS, RULES

Either = Ours | TsMember

SUITE = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
SUITES = [cipher_suite(value) for value in range(1, 8)]

FOUNDERS = pytest.mark.parametrize("we_found", [True, False], ids=["our-group", "their-group"])
WIRE_FORMATS = pytest.mark.parametrize("encrypt", [False, True], ids=["public", "private"])


def agree(*members: Either) -> None:
    """All are in one epoch with one view of it, and read each other."""
    assert len({(member.epoch, member.authenticator) for member in members}) == 1
    assert len({member.export("interop", b"context", 40) for member in members}) == 1
    read_each_other(*members)


def pair(
    ts_mls: TsMls, *, we_found: bool = True, suite: CipherSuite = SUITE, tree_in_welcome: bool = True
) -> tuple[Ours, TsMember]:
    """A group of one of us and one of them."""
    ours, theirs = Ours("ours", suite), ts_mls.member("theirs", suite)
    founder, joiner = (ours, theirs) if we_found else (theirs, ours)
    founder.create(b"a group")
    made = founder.commit(AddClient(joiner.key_package()), tree_in_welcome=tree_in_welcome)
    assert made.welcome is not None
    joiner.join(made.welcome, None if tree_in_welcome else made.tree)
    return ours, theirs


# ---- joining


@FOUNDERS
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_welcome_is_understood_in_every_suite(ts_mls: TsMls, suite: CipherSuite, *, we_found: bool) -> None:
    ours, theirs = pair(ts_mls, we_found=we_found, suite=suite)
    agree(ours, theirs)
    theirs.receive(ours.commit().message)
    agree(ours, theirs)
    ours.receive(theirs.commit().message)
    agree(ours, theirs)


@FOUNDERS
def test_the_tree_may_travel_beside_the_welcome(ts_mls: TsMls, *, we_found: bool) -> None:
    agree(*pair(ts_mls, we_found=we_found, tree_in_welcome=False))


def test_a_welcome_without_its_tree_is_refused(ts_mls: TsMls) -> None:
    ours, theirs = Ours("ours"), ts_mls.member("theirs")
    ours.create(b"a group")
    made = ours.commit(AddClient(theirs.key_package()), tree_in_welcome=False)
    assert made.welcome is not None
    with pytest.raises(Refused, match="No RatchetTree"):
        theirs.join(made.welcome)
    theirs.join(made.welcome, made.tree)
    agree(ours, theirs)

    another = Ours("another")
    made = theirs.commit(AddClient(another.key_package()), tree_in_welcome=False)
    assert made.welcome is not None
    with pytest.raises(InvalidMessage, match="tree"):
        another.join(made.welcome)
    another.join(made.welcome, made.tree)
    ours.receive(made.message)
    agree(ours, theirs, another)


@FOUNDERS
def test_an_altered_welcome_is_refused(ts_mls: TsMls, *, we_found: bool) -> None:
    ours, theirs = Ours("ours"), ts_mls.member("theirs")
    founder, joiner = (ours, theirs) if we_found else (theirs, ours)
    founder.create(b"a group")
    made = founder.commit(AddClient(joiner.key_package()))
    assert made.welcome is not None
    with pytest.raises((PeerError, Refused)):
        joiner.join(altered(made.welcome))
    joiner.join(made.welcome)
    agree(ours, theirs)


# ---- commits


@FOUNDERS
@WIRE_FORMATS
def test_members_of_both_kinds_come_and_go(ts_mls: TsMls, *, we_found: bool, encrypt: bool) -> None:
    ours, theirs = pair(ts_mls, we_found=we_found)
    our_guest, their_guest = Ours("our guest"), ts_mls.member("their guest")

    made = ours.commit(AddClient(their_guest.key_package()), encrypt=encrypt)
    theirs.receive(made.message)
    assert made.welcome is not None
    their_guest.join(made.welcome)
    agree(ours, theirs, their_guest)

    made = theirs.commit(AddClient(our_guest.key_package()), encrypt=encrypt)
    ours.receive(made.message)
    their_guest.receive(made.message)
    assert made.welcome is not None
    our_guest.join(made.welcome)
    agree(ours, theirs, their_guest, our_guest)

    update = their_guest.commit(encrypt=encrypt).message
    for member in (ours, theirs, our_guest):
        member.receive(update)
    agree(ours, theirs, their_guest, our_guest)

    removal = our_guest.commit(RemoveMember(their_guest.identity), encrypt=encrypt).message
    for member in (ours, theirs, their_guest):
        member.receive(removal)
    assert not their_guest.active
    agree(ours, theirs, our_guest)

    removal = theirs.commit(RemoveMember(our_guest.identity), encrypt=encrypt).message
    for member in (ours, our_guest):
        member.receive(removal)
    assert not our_guest.active
    agree(ours, theirs)


def test_one_commit_adds_and_removes_several(ts_mls: TsMls) -> None:
    ours, theirs = pair(ts_mls)
    first: list[Either] = [Ours("first of ours"), ts_mls.member("first of theirs")]
    second: list[Either] = [Ours("second of ours"), ts_mls.member("second of theirs")]

    made = ours.commit(*(AddClient(member.key_package()) for member in first))
    theirs.receive(made.message)
    assert made.welcome is not None
    for member in first:
        member.join(made.welcome)
    agree(ours, theirs, *first)

    removals = [RemoveMember(member.identity) for member in first]
    made = theirs.commit(*removals, *(AddClient(member.key_package()) for member in second))
    assert made.welcome is not None
    for member in (ours, first[0]):
        member.receive(made.message)
    # first[1], one of theirs, cannot process this: ts-mls takes the next member on its leaf for itself
    for member in second:
        member.join(made.welcome)
    assert not first[0].active
    agree(ours, theirs, *second)


# ---- proposals by reference


@WIRE_FORMATS
def test_our_proposals_are_committed_by_them(ts_mls: TsMls, *, encrypt: bool) -> None:
    ours, theirs = pair(ts_mls)
    guest = ts_mls.member("guest")

    theirs.receive(ours.propose_update(encrypt=encrypt))
    theirs.receive(ours.propose(AddClient(guest.key_package()), encrypt=encrypt))
    made = theirs.commit(encrypt=encrypt)
    ours.receive(made.message)
    assert made.welcome is not None
    guest.join(made.welcome)
    agree(ours, theirs, guest)

    proposal = ours.propose(RemoveMember(ours.identity), encrypt=encrypt)
    for other in (theirs, guest):
        other.receive(proposal)
    leave = guest.commit(encrypt=encrypt).message
    theirs.receive(leave)
    ours.receive(leave)
    assert not ours.active
    agree(theirs, guest)


@WIRE_FORMATS
def test_their_proposals_are_committed_by_us(ts_mls: TsMls, *, encrypt: bool) -> None:
    ours, theirs = pair(ts_mls)
    guest = Ours("guest")

    ours.receive(theirs.propose(AddClient(guest.key_package()), encrypt=encrypt))
    made = ours.commit(encrypt=encrypt)
    theirs.receive(made.message)
    assert made.welcome is not None
    guest.join(made.welcome)
    agree(ours, theirs, guest)

    proposal = theirs.propose(RemoveMember(theirs.identity), encrypt=encrypt)
    for other in (ours, guest):
        other.receive(proposal)
    leave = guest.commit(encrypt=encrypt).message
    ours.receive(leave)
    theirs.receive(leave)
    assert not theirs.active
    agree(ours, guest)


# ---- pre-shared keys


@FOUNDERS
def test_an_external_psk_is_mixed_in(ts_mls: TsMls, *, we_found: bool) -> None:
    ours, theirs = pair(ts_mls, we_found=we_found)
    for psk_id in (b"first", b"second"):
        ours.psks[psk_id] = b"known to both: " + psk_id
        theirs.learn_psk(psk_id, b"known to both: " + psk_id)

    theirs.receive(ours.commit(MixPsk(b"first"), MixPsk(b"second")).message)
    agree(ours, theirs)
    ours.receive(theirs.commit(MixPsk(b"second")).message)
    agree(ours, theirs)
    theirs.receive(ours.propose(MixPsk(b"first")))
    ours.receive(theirs.commit().message)
    agree(ours, theirs)
    ours.receive(theirs.propose(MixPsk(b"first")))
    theirs.receive(ours.commit().message)
    agree(ours, theirs)


def test_a_joiner_needs_the_psk_of_its_commit(ts_mls: TsMls) -> None:
    ours, theirs = pair(ts_mls)
    guests = Ours("our guest"), ts_mls.member("their guest")
    ours.psks[b"door"] = guests[0].psks[b"door"] = b"open sesame"
    theirs.learn_psk(b"door", b"open sesame")

    made = ours.commit(*(AddClient(guest.key_package()) for guest in guests), MixPsk(b"door"))
    theirs.receive(made.message)
    assert made.welcome is not None
    with pytest.raises(Refused, match="pskId"):
        guests[1].join(made.welcome)
    guests[1].learn_psk(b"door", b"open sesame")
    for guest in guests:
        guest.join(made.welcome)
    agree(ours, theirs, *guests)


def test_another_psk_under_the_same_name_is_refused(ts_mls: TsMls) -> None:
    ours, theirs = pair(ts_mls)
    ours.psks[b"key"] = b"one thing"
    theirs.learn_psk(b"key", b"another")

    before, commit = ours.saved(), theirs.commit(MixPsk(b"key")).message
    with pytest.raises(InvalidMessage, match="confirmation"):
        ours.receive(commit)
    assert ours.saved() == before
    ours.psks[b"key"] = b"another"
    ours.receive(commit)
    agree(ours, theirs)

    ours.psks[b"key"] = b"a third"
    before_theirs, commit = theirs.saved(), ours.commit(MixPsk(b"key")).message
    with pytest.raises(Refused, match="confirmation tag"):
        theirs.receive(commit)
    assert theirs.saved() == before_theirs
    theirs.learn_psk(b"key", b"a third")
    theirs.receive(commit)
    agree(ours, theirs)


# ---- extensions


def test_the_rules_of_a_conversation_are_carried_and_changed(ts_mls: TsMls) -> None:
    ours, theirs = Ours("ours"), ts_mls.member("theirs")
    ours.create(b"a group", EXTENSIONS)
    made = ours.commit(AddClient(theirs.key_package()))
    assert made.welcome is not None
    theirs.join(made.welcome)
    agree(ours, theirs)
    theirs.receive(ours.commit(SetExtensions([(RULES, b"other rules")])).message)
    agree(ours, theirs)


def test_their_change_of_extensions_lacks_the_path_that_the_rfc_requires(ts_mls: TsMls) -> None:
    ours, theirs = pair(ts_mls)
    before, commit = ours.saved(), theirs.commit(SetExtensions([(RULES, b"rules")])).message
    with pytest.raises(InvalidMessage, match="path"):
        ours.receive(commit)
    assert ours.saved() == before


# ---- application messages


def test_messages_are_read_in_any_order(ts_mls: TsMls) -> None:
    ours, theirs = pair(ts_mls)
    texts = [b"%d" % number for number in range(9)]  # ts-mls keeps the keys of 10 skipped messages
    from_us = [ours.encrypt(text) for text in texts]
    from_them = [theirs.encrypt(text) for text in texts]
    assert [theirs.receive(message) for message in reversed(from_us)] == texts[::-1]
    assert [ours.receive(message) for message in reversed(from_them)] == texts[::-1]


# ---- altered messages


MESSAGES: dict[str, Callable[[Either], bytes]] = {
    "application": lambda member: member.encrypt(b"a text"),
    "public-proposal": lambda member: member.propose(RemoveMember(member.identity)),
    "private-proposal": lambda member: member.propose(RemoveMember(member.identity), encrypt=True),
    "public-commit": lambda member: member.commit().message,
    "private-commit": lambda member: member.commit(encrypt=True).message,
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_an_altered_message_from_them_changes_nothing_here(ts_mls: TsMls, kind: str) -> None:
    ours, theirs = pair(ts_mls)
    genuine, before = MESSAGES[kind](theirs), ours.saved()
    reason = "membership tag" if kind.startswith("public") else "cannot be decrypted"
    with pytest.raises(InvalidMessage, match=reason):
        ours.receive(altered(genuine))
    assert ours.saved() == before
    ours.receive(genuine)
    assert ours.saved() != before


@pytest.mark.parametrize("kind", MESSAGES)
def test_an_altered_message_from_us_changes_nothing_there(ts_mls: TsMls, kind: str) -> None:
    ours, theirs = pair(ts_mls)
    genuine, before = MESSAGES[kind](ours), theirs.saved()
    reason = "membership" if kind.startswith("public") else "OperationError"
    with pytest.raises(Refused, match=reason):
        theirs.receive(altered(genuine))
    assert theirs.saved() == before
    theirs.receive(genuine)
    assert theirs.saved() != before
