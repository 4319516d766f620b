"""Facts on which `decide` judges an offer: what this vault knows, what is offered, what a pin says of a key.

All are values without secrets. Whoever makes an `Offered` has checked what can be checked of the bytes themselves
(parsing, signatures, tree, `policy`), and says in `fault` what was wrong. Whether what it shows may be entered from
what we know is for the table alone.
"""

from typing import Literal, NamedTuple, Protocol

from securechat.policy import Kind
from securechat.value import value

Standing = Literal[
    "nothing", "invited", "opening", "live", "away", "gone", "lost", "old-copy", "old-copy-commit", "stopped", "forked",
    "left", "ahead", "recovered",
]  # fmt: skip
"""How we stand in the conversation.

nothing: we do not know it. invited: a person was asked and has not answered. opening: our own request to open it.
live: we follow the log. away: handshakes since the last trusted state are still to be followed.
gone: the server has no unbroken handshakes from there. lost: the branch that we were in is not the server's any more.
old-copy: this device has said more than this vault knows. old-copy-commit: one of that is a commit.
stopped: a commit cannot be processed. forked: the history is not the one that others see.
left: we left, declined, or saw the commit that removed us. ahead: the server's log ends before ours.
recovered: known from the keepsake alone.
"""

Way = Literal["welcome", "removal", "commit", "walk", "public-walk", "checkpoint", "offer", "claim", "head", "none"]
"""How it came.

welcome: a Welcome, with its invitation if there is one. removal: the inviter took an invitation back.
commit: the next one in the log. walk: handshakes since the last trusted state, followed with the group's secrets.
public-walk: the same, a part of them without. checkpoint: GroupInfo and tree of an owner's own commit, followed from
there. offer: a GroupInfo to enter an open room by. claim: the server's mere word that it exists or has another id.
head: a log that ends before ours. none: nothing of all this is left.
"""

KeyStanding = Literal[
    "unknown", "accepted", "verified", "succeeded", "changed", "changed-verified", "contested", "refused",
]  # fmt: skip
"""How an account's key compares with what this vault knows of the account."""

Change = Literal["path", "add", "remove", "rules", "enter", "re-enter"]
"""What a commit does beside renewing its maker's path; `enter` and `re-enter` are external commits."""


class Key(NamedTuple):
    """An account with one of its identity keys (32 bytes): what trust belongs to."""

    account: str
    identity: bytes


class Leaf(NamedTuple):
    """A member: an account's device, as its certificate names it. Members are compared by all three."""

    account: str
    identity: bytes  # 32 bytes
    device: bytes  # 16 bytes

    @property
    def key(self) -> Key:
        """The account with its key."""
        return Key(self.account, self.identity)


class Pins(Protocol):
    """What this vault thinks of keys, for reading."""

    def standing(self, account: str, key: bytes) -> KeyStanding:
        """Compare a key with what is known of the account."""


@value
class Trusted:
    """T, the last state of a conversation that this vault trusted."""

    epoch: int
    members: frozenset[Leaf]
    owners: frozenset[Key] = frozenset()
    inviters: frozenset[Key] = frozenset()
    time: int = 0  # seconds, by our own clock


@value
class Known:
    """What this vault knows of the conversation: of this group, or else of the one with the same person or name."""

    us: Leaf
    standing: Standing = "nothing"
    group: bytes = b""  # empty: none
    kind: Kind = "invite"
    name: str = ""  # the room's, or the peer's account
    trusted: Trusted | None = None
    line: Key | None = None  # the inviter that an invite line names for this group
    fetched: Key | None = None  # of a direct one: the key that we write to
    first: bool = False  # of a direct one: nothing was decided on any key of the account yet


@value
class Invitation:
    """A message in the direct conversation with the inviter that says what a Welcome leads to."""

    inviter: Key
    group: bytes
    kind: Kind
    name: str
    owners: frozenset[Key]
    context: bytes  # SHA-256 of the GroupContext that the Welcome opens
    time: int  # seconds, when it was written
    until: int  # seconds, the end of its life


@value
class Step:
    """A commit between the last trusted state and what is offered."""

    author: Leaf
    change: Change
    in_force: bool = True  # as `Offered.in_force`: its maker's certificate, or the leaf's in its place at the end


@value
class Offered:
    """One offer: the way it came, and what it shows."""

    way: Way
    group: bytes = b""
    kind: Kind = "invite"
    name: str = ""
    epoch: int = 0
    members: frozenset[Leaf] = frozenset()
    owners: frozenset[Key] = frozenset()
    signer: Leaf | None = None  # of the Welcome's GroupInfo, the checkpoint, the GroupInfo or the commit
    context: bytes = b""  # SHA-256 of the GroupContext
    invitation: Invitation | None = None
    steps: tuple[Step, ...] | None = ()  # None: no unbroken handshakes lead here from what we trust
    in_force: bool = True
    """The signer's certificate: in date by our own clock, not revoked, no later one was seen. Of a Welcome: not
    revoked; it may have waited while its maker renewed theirs."""
    dated: bool = True  # of a Welcome: all of that; if not, lines wait until the log shows a later one (`roster`)
    behind: bool = False  # our own leaf in it has a later certificate than this vault
    asked_for: bool = False  # the user typed /repair
    fault: str = ""  # what the engine or the rules refuse in it


Action = Literal[
    "keep", "ask", "enter", "beside", "withdraw", "follow", "resync", "rotate", "hand-back", "ignore", "refuse",
]  # fmt: skip
"""What to do with it.

keep: put it by, a person has to say more. ask: one question to the user, which cannot be skipped; yes enters.
enter: take it as this conversation's state. beside: the same, as a conversation beside the one that is known.
withdraw: an invitation is over. follow: take the state after the handshakes, and commit a fresh path before speaking.
resync: enter by an external commit of our own. rotate: make a certificate first, for which the user types the password;
under ours nobody would let us resync, since a leaf gives way to a later certificate alone. hand-back: give the server
the handshakes that it lacks.
ignore: nothing changes, and it may come again. refuse: nothing changes, and it is not taken in this state.
"""

Told = Literal[
    "", "invitation", "first-contact", "invited-by-line", "request", "withdrawn", "key-change", "beside",
    "another-key", "changes", "repeated", "gap", "checkpoint", "ask-for-invitation", "invited-back", "keepsake",
    "old-copy", "own-commit", "culprit", "history", "you-left", "restored", "second-title", "entered", "people",
    "refused",
]  # fmt: skip
"""What the user is told, as a name for the sentence; empty: nothing."""

Waits = Literal["nothing", "everything", "until-in", "fresh-path", "enter", "held"]
"""What people wrote and has not left yet.

nothing: all of it may go. everything: till a person has decided. until-in: till we are in. fresh-path: till a commit
of ours has renewed our path. enter: what was typed before, till the user sees who holds it (`holding`) and says yes
once. held: by pins (docs/design.md, section 6, Pins), and what was typed before by whoever is `late`.
"""


@value
class Verdict:
    """What to do, what the user hears, what waits."""

    row: str
    action: Action
    told: Told = ""
    waits: Waits = "nothing"
    whose: Key | None = None  # the key on whose word it came
    came: frozenset[Leaf] = frozenset()  # in it now, and not in the last trusted state
    went: frozenset[Leaf] = frozenset()
    back: frozenset[Leaf] = frozenset()  # came in again by an external commit: the device itself, or who has its keys
    late: frozenset[Key] = frozenset()  # came in by themselves, or let us in, by a certificate that is not in force
    holding: frozenset[Key] = frozenset()
    """For whom lines that were typed before wait: who is `late`, and where the row lets lines wait for one Enter,
    whoever is new."""
    alarm: frozenset[Leaf] = frozenset()  # leaves under our own name with another key
    why: str = ""  # refuse: the check that failed

    @property
    def lets_in(self) -> bool:
        """Whether what is offered may become our state: at once, or after the user's yes."""
        return self.action in ("ask", "enter", "beside", "follow", "resync")
