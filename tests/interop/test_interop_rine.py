"""Our code and rine-mls in one group: external commits and resync, each way."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from securechat.mls.errors import InvalidMessage
from tests.interop.member import AddClient, Refused, RemoveMember, altered, read_each_other
from tests.interop.ours import Ours

if TYPE_CHECKING:  # imports what may be missing
    from tests.interop.rine import Rine

Maker = Callable[[], "Rine"]


def agree(*members: "Ours | Rine") -> None:
    """All are in one epoch, and read each other, which they could not with different views of it."""
    assert len({member.epoch for member in members}) == 1
    read_each_other(*members)


def founded_by_us(rine: Maker) -> "tuple[Ours, Rine]":
    """One of our groups, which they joined by external commit."""
    ours, theirs = Ours("ours"), rine()
    ours.create(b"a group")
    ours.receive(theirs.join_external(ours.group_info()))
    return ours, theirs


def founded_by_them(rine: Maker) -> "tuple[Ours, Rine]":
    """A group of theirs that we joined by external commit."""
    ours, theirs = Ours("ours"), rine()
    theirs.create(b"a group")
    theirs.receive(ours.join_external(theirs.group_info()))
    return ours, theirs


BOTH = pytest.mark.parametrize("founded", [founded_by_us, founded_by_them])
Founded = Callable[[Maker], "tuple[Ours, Rine]"]


@BOTH
def test_an_external_commit_is_followed_by_everything_else(rine: Maker, founded: Founded) -> None:
    ours, theirs = founded(rine)
    agree(ours, theirs)
    our_guest, their_guest = Ours("our guest"), rine()

    made = theirs.commit(AddClient(our_guest.key_package()))
    ours.receive(made.message)
    assert made.welcome is not None
    our_guest.join(made.welcome)
    agree(ours, theirs, our_guest)

    made = our_guest.commit(AddClient(their_guest.key_package()))
    ours.receive(made.message)
    theirs.receive(made.message)
    assert made.welcome is not None
    their_guest.join(made.welcome)
    agree(ours, theirs, our_guest, their_guest)

    update = ours.commit().message
    for member in (theirs, our_guest, their_guest):
        member.receive(update)
    agree(ours, theirs, our_guest, their_guest)

    removal = their_guest.commit(RemoveMember(our_guest.identity)).message
    for member in (ours, theirs, our_guest):
        member.receive(removal)
    assert not our_guest.active
    agree(ours, theirs, their_guest)

    removal = ours.commit(RemoveMember(their_guest.identity)).message
    for member in (theirs, their_guest):
        member.receive(removal)
    assert not their_guest.active
    agree(ours, theirs)


@BOTH
def test_they_come_back_by_external_commit(rine: Maker, founded: Founded) -> None:
    ours, theirs = founded(rine)
    ours.commit()  # they never see this one
    ours.receive(theirs.join_external(ours.group_info(), resync=True))
    agree(ours, theirs)
    assert len(list(ours.group.public.members())) == 2


@BOTH
def test_we_come_back_by_external_commit(rine: Maker, founded: Founded) -> None:
    ours, theirs = founded(rine)
    third = rine()
    made = theirs.commit(AddClient(third.key_package()))  # we never see this one
    assert made.welcome is not None
    third.join(made.welcome)
    commit = ours.join_external(theirs.group_info(), resync=True)
    theirs.receive(commit)
    third.receive(commit)
    agree(ours, theirs, third)
    assert len(list(ours.group.public.members())) == 3


# ---- altered messages


def test_their_altered_external_commit_changes_nothing_here(rine: Maker) -> None:
    ours, theirs = Ours("ours"), rine()
    ours.create(b"a group")
    commit, before = theirs.join_external(ours.group_info()), ours.saved()
    with pytest.raises(InvalidMessage, match="confirmation tag"):
        ours.receive(altered(commit))
    assert ours.saved() == before
    ours.receive(commit)
    agree(ours, theirs)


def test_our_altered_external_commit_is_refused_there(rine: Maker) -> None:
    ours, theirs = Ours("ours"), rine()
    theirs.create(b"a group")
    commit = ours.join_external(theirs.group_info())
    with pytest.raises(Refused, match="onfirmation"):
        theirs.receive(altered(commit))
    theirs.receive(commit)
    agree(ours, theirs)


@BOTH
def test_an_altered_text_from_them_changes_nothing_here(rine: Maker, founded: Founded) -> None:
    ours, theirs = founded(rine)
    message, before = theirs.encrypt(b"a text"), ours.saved()
    with pytest.raises(InvalidMessage, match="cannot be decrypted"):
        ours.receive(altered(message))
    assert ours.saved() == before
    assert ours.receive(message) == b"a text"


@BOTH
def test_an_altered_text_from_us_is_refused_there(rine: Maker, founded: Founded) -> None:
    ours, theirs = founded(rine)
    with pytest.raises(Refused, match="AEAD"):
        theirs.receive(altered(ours.encrypt(b"lost")))  # mls-rs has used up the key: the genuine one is lost, too
    agree(ours, theirs)


def test_an_altered_group_info_lets_nobody_in(rine: Maker) -> None:
    ours, theirs = Ours("ours"), rine()
    ours.create(b"a group")
    with pytest.raises(Refused, match="signature"):
        theirs.join_external(altered(ours.group_info()))
    newcomer, founder = Ours("newcomer"), rine()
    founder.create(b"their group")
    with pytest.raises(InvalidMessage, match="signature"):
        newcomer.join_external(altered(founder.group_info()))
