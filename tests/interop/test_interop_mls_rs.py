"""Our code and mls-rs in one group: Welcome, messages, updates, proposals, removals, each way."""

from typing import TYPE_CHECKING

import pytest

from securechat.mls.errors import InvalidMessage
from tests.interop.member import AddClient, Refused, RemoveMember, altered, read_each_other
from tests.interop.ours import Ours

if TYPE_CHECKING:  # imports what may be missing
    from tests.interop.mls_rs import MlsRs

FOUNDERS = pytest.mark.parametrize("we_found", [True, False], ids=["our-group", "their-group"])
TREE_PLACES = pytest.mark.parametrize("tree_in_welcome", [True, False], ids=["tree-inside", "tree-beside"])


def agree(*members: "Ours | MlsRs") -> None:
    """All have one view of the epoch, and read each other."""
    assert len({member.export("interop", b"context", 40) for member in members}) == 1
    read_each_other(*members)


def pair(mls_rs: "type[MlsRs]", *, we_found: bool = True, tree_in_welcome: bool = True) -> "tuple[Ours, MlsRs]":
    """A group of one of us and one of them."""
    ours, theirs = Ours("ours"), mls_rs("theirs", tree_in_welcome=tree_in_welcome)
    if we_found:
        ours.create(b"a group")
        made = ours.commit(AddClient(theirs.key_package()), tree_in_welcome=tree_in_welcome)
    else:
        theirs.create(b"a group")
        made = theirs.commit(AddClient(ours.key_package()))
    assert made.welcome is not None
    joiner = theirs if we_found else ours
    joiner.join(made.welcome, None if tree_in_welcome else made.tree)
    return ours, theirs


@FOUNDERS
@TREE_PLACES
def test_a_welcome_is_understood(mls_rs: "type[MlsRs]", *, we_found: bool, tree_in_welcome: bool) -> None:
    ours, theirs = pair(mls_rs, we_found=we_found, tree_in_welcome=tree_in_welcome)
    agree(ours, theirs)
    theirs.receive(ours.commit().message)
    agree(ours, theirs)
    ours.receive(theirs.commit().message)
    agree(ours, theirs)


@FOUNDERS
def test_members_of_both_kinds_come_and_go(mls_rs: "type[MlsRs]", *, we_found: bool) -> None:
    ours, theirs = pair(mls_rs, we_found=we_found)
    our_guest, their_guest = Ours("our guest"), mls_rs("their guest")

    made = ours.commit(AddClient(their_guest.key_package()))
    theirs.receive(made.message)
    assert made.welcome is not None
    their_guest.join(made.welcome)
    agree(ours, theirs, their_guest)

    made = theirs.commit(AddClient(our_guest.key_package()))
    ours.receive(made.message)
    their_guest.receive(made.message)
    assert made.welcome is not None
    our_guest.join(made.welcome)
    agree(ours, theirs, their_guest, our_guest)

    removal = our_guest.commit(RemoveMember(their_guest.identity)).message
    for member in (ours, theirs, their_guest):
        member.receive(removal)
    assert not their_guest.active
    agree(ours, theirs, our_guest)

    theirs.meet(our_guest.identity, our_guest.encrypt(b"hello"))
    removal = theirs.commit(RemoveMember(our_guest.identity)).message
    for member in (ours, our_guest):
        member.receive(removal)
    assert not our_guest.active
    agree(ours, theirs)


def test_the_left_half_of_the_tree_may_be_empty(mls_rs: "type[MlsRs]") -> None:
    founder, ours, theirs = Ours("founder"), Ours("ours"), mls_rs("theirs")
    founder.create(b"a group")
    made = founder.commit(
        AddClient(Ours("neighbour").key_package()), AddClient(ours.key_package()), AddClient(theirs.key_package())
    )
    assert made.welcome is not None
    ours.join(made.welcome)
    theirs.join(made.welcome)
    theirs.receive(ours.commit(RemoveMember(b"founder"), RemoveMember(b"neighbour")).message)
    assert [leaf for leaf, _ in ours.group.public.members()] == [2, 3]
    agree(ours, theirs)
    ours.receive(theirs.commit().message)
    agree(ours, theirs)


def test_proposals_are_committed_by_the_other(mls_rs: "type[MlsRs]") -> None:
    ours, theirs = pair(mls_rs)
    our_guest, their_guest = Ours("our guest"), mls_rs("their guest")

    theirs.receive(ours.propose_update())
    theirs.receive(ours.propose(AddClient(their_guest.key_package())))
    made = theirs.commit()
    ours.receive(made.message)
    assert made.welcome is not None
    their_guest.join(made.welcome)
    agree(ours, theirs, their_guest)

    proposal = their_guest.propose(AddClient(our_guest.key_package()))
    ours.receive(proposal)
    theirs.receive(proposal)
    made = ours.commit()
    theirs.receive(made.message)
    their_guest.receive(made.message)
    assert made.welcome is not None
    our_guest.join(made.welcome)
    agree(ours, theirs, their_guest, our_guest)


def test_an_altered_message_from_them_changes_nothing_here(mls_rs: "type[MlsRs]") -> None:
    ours, theirs = pair(mls_rs)
    for genuine, reason in (
        (theirs.encrypt(b"a text"), "cannot be decrypted"),
        (theirs.propose(AddClient(Ours("guest").key_package())), "membership tag"),
        (theirs.commit().message, "membership tag"),
    ):
        before = ours.saved()
        with pytest.raises(InvalidMessage, match=reason):
            ours.receive(altered(genuine))
        assert ours.saved() == before
        ours.receive(genuine)
        assert ours.saved() != before


def test_an_altered_message_from_us_is_refused_there(mls_rs: "type[MlsRs]") -> None:
    ours, theirs = pair(mls_rs)
    with pytest.raises(Refused, match="OpenSSL"):
        theirs.receive(altered(ours.encrypt(b"lost")))  # mls-rs has used up the key: the genuine one is lost, too
    agree(ours, theirs)
    for genuine in (ours.propose_update(), ours.commit().message):
        with pytest.raises(Refused, match="membership"):
            theirs.receive(altered(genuine))
        theirs.receive(genuine)
    agree(ours, theirs)
