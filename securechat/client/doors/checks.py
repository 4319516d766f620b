"""Checks: what a row of the table asks of an offer, each by a name that can be read."""

from collections.abc import Callable
from typing import Final, NamedTuple

from securechat.client.doors.facts import Key, Known, Leaf, Offered, Pins, Trusted
from securechat.content.registry import INVITATION_DAYS
from securechat.value import value

GONE_SECONDS: Final = 30 * 86_400
"""For younger states the server still has every handshake, unless it has lost them: then no checkpoint is taken."""

ACCEPTED: Final = frozenset(("accepted", "verified", "succeeded"))
_AGAINST: Final = frozenset(("changed-verified", "refused"))
_OWNER_AGAINST: Final = _AGAINST | {"changed", "contested"}


@value
class Case:
    """What one call of `decide` is about."""

    known: Known
    offered: Offered
    pins: Pins
    now: int  # seconds, by our own clock

    @property
    def elsewhere(self) -> bool:
        """Whether another group is offered than the one that we know."""
        return bool(self.known.group) and self.offered.group != self.known.group

    @property
    def trusted(self) -> Trusted:
        """T; an empty one if there is none, or if it is one of another group."""
        return _NO_STATE if self.elsewhere else self.known.trusted or _NO_STATE

    @property
    def peer(self) -> Leaf | None:
        """The other member of a direct conversation, if there are two."""
        others = self.offered.members - {self.known.us}
        return next(iter(others)) if len(others) == 1 else None

    @property
    def anchors(self) -> frozenset[Key]:
        """The keys whose word counts: who owned the room in T; in a direct conversation the peer."""
        if self.offered.kind == "direct":
            return frozenset(leaf.key for leaf in self.trusted.members if leaf != self.known.us)
        return self.trusted.owners

    @property
    def namesakes(self) -> frozenset[Leaf]:
        """Leaves under our own name with another key."""
        us = self.known.us
        return frozenset(leaf for leaf in self.offered.members if leaf.account == us.account and leaf.key != us.key)

    @property
    def came(self) -> frozenset[Leaf]:
        """Who is offered as a member and was none in T."""
        return self.offered.members - self.trusted.members - {self.known.us}

    @property
    def went(self) -> frozenset[Leaf]:
        """Who was a member in T and is none in what is offered."""
        return self.trusted.members - self.offered.members - {self.known.us}

    @property
    def back(self) -> frozenset[Leaf]:
        """Who entered again on the way, our own device included: if that was not this vault, it was a copy of it."""
        return frozenset(step.author for step in self.offered.steps or () if step.change == "re-enter")

    @property
    def late(self) -> frozenset[Key]:
        """Who entered by an external commit, or let us in, by a certificate not in force where the offer ends."""
        offered, steps = self.offered, self.offered.steps or ()
        late = {step.author.key for step in steps if step.change in ("enter", "re-enter") and not step.in_force}
        if offered.signer is not None and not offered.dated:
            late.add(offered.signer.key)
        return frozenset(late - {self.known.us.key})


class Check(NamedTuple):
    """A condition, and the words for it."""

    words: str
    holds: Callable[[Case], bool]


def _fits_invitation(case: Case) -> bool:
    offered, said = case.offered, case.offered.invitation
    return said is not None and (said.group, said.kind, said.name, said.owners, said.context) == (
        offered.group, offered.kind, offered.name, offered.owners, offered.context,
    )  # fmt: skip


def _signed_by_inviter(case: Case) -> bool:
    said, signer = case.offered.invitation, case.offered.signer
    return said is not None and signer is not None and signer.key == said.inviter


def _in_time(case: Case) -> bool:
    said = case.offered.invitation
    return said is not None and case.now <= said.until <= said.time + INVITATION_DAYS * 86_400


def _signed_by_anchor(case: Case) -> bool:
    return case.offered.signer is not None and case.offered.signer.key in case.anchors


def _two_leaves(case: Case) -> bool:
    offered = case.offered
    return offered.kind == "direct" and case.peer is not None and case.peer == offered.signer


def _open_steps_in_force(case: Case) -> bool:
    steps = case.offered.steps or ()
    own = case.known.us.key
    judged = [step for step in steps if step.change != "path"] + list(steps[-1:])
    return all(step.in_force or step.author.key == own for step in judged)


SOUND: Final = Check("the engine and the rules find no fault in it", lambda case: not case.offered.fault)
OURS: Final = Check("our own leaf is in it", lambda case: case.known.us in case.offered.members)
NO_NAMESAKE: Final = Check("no other leaf has our name", lambda case: not case.namesakes)
NOBODY_AGAINST: Final = Check(
    "no member has a key against one that the user verified or refused, no owner one against any pin",
    lambda case: not any(
        [case.pins.standing(leaf.account, leaf.identity) in _AGAINST for leaf in case.offered.members - {case.known.us}]
        + [case.pins.standing(*key) in _OWNER_AGAINST for key in case.offered.owners - {case.known.us.key}]
    ),
)
FITS: Final = Check("group, kind, name, owners and context are the invitation's", _fits_invitation)
BY_INVITER: Final = Check("signed by the inviter's key", _signed_by_inviter)
IN_TIME: Final = Check("the invitation is in date", _in_time)
NOT_BACK: Final = Check("epoch above T", lambda case: case.offered.epoch > case.trusted.epoch)
NOT_AGAIN: Final = Check(
    "epoch above T, unless the server has lost T's branch",
    lambda case: case.known.standing != "gone" or case.offered.epoch > case.trusted.epoch,
)
FOLLOWS: Final = Check("unbroken handshakes from T", lambda case: case.offered.steps is not None)
ANCHORED: Final = Check("signed by an owner in T (direct: the peer)", _signed_by_anchor)
BY_ANCHOR: Final = Check(
    "the inviter owned the room in T (direct: the peer), and the invitation came after T",
    lambda case: (
        case.offered.invitation is not None
        and case.offered.invitation.inviter in case.anchors
        and case.offered.invitation.time >= case.trusted.time
    ),
)
IN_FORCE: Final = Check("the signer's certificate is in force", lambda case: case.offered.in_force)
LONG_AWAY: Final = Check("T is older than 30 days", lambda case: case.now - case.trusted.time > GONE_SECONDS)
TWO: Final = Check("two leaves, ours is ours, the other one signed", _two_leaves)
STEPS_IN_FORCE: Final = Check(
    "who changed something without our seeing the secrets, and the newest, has a certificate in force",
    _open_steps_in_force,
)
PEERS: Final = Check(
    "a direct one holds its two people alone, each under the key that is known",
    lambda case: (
        case.offered.kind != "direct"
        or {leaf.key for leaf in case.offered.members} == {leaf.key for leaf in case.trusted.members}
    ),
)
BY_HAND: Final = Check("the user typed /repair", lambda case: case.offered.asked_for)
MEANT: Final = Check(
    "kind and name are the ones that were meant",
    lambda case: (case.offered.kind, case.offered.name) == (case.known.kind, case.known.name),
)
BY_LINE: Final = Check(
    "the inviter's key is the line's",
    lambda case: case.offered.invitation is not None and case.offered.invitation.inviter == case.known.line,
)
NOT_BELOW: Final = Check(
    "epoch not below T: the one that we make is above it", lambda case: case.offered.epoch >= case.trusted.epoch
)

_NO_STATE: Final = Trusted(-1, frozenset())
