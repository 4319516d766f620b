"""Events: what the client core tells its front end. Frozen values that a screen only has to draw.

Events come in the order in which things happened, each already durable in the vault where it says something about a
conversation. An event that a command causes carries the command's id (`commands`). Text in events that another person
or the server chose is raw: clean it before you draw it.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from securechat.identity.pins import WRITTEN_TO, Standing

Trust = Standing
"""How the key that somebody shows stands with the user (`identity.pins`)."""

Change = Literal[
    "opened", "joined", "new-device", "new-key", "re-entered", "request", "accepted", "declined", "bye", "closed",
    "members", "left", "removed", "beside", "merged", "namesake",
    "renamed", "topic", "owner", "no-owner", "inviter", "no-inviter", "barred", "unbarred",
]  # fmt: skip
"""`new-device`, `new-key`: somebody who was in it has another device, or another identity key, than before.
`new-key` has a `by` where an owner has put it in place of the old one.
`re-entered`: a device has replaced its own leaf, as it does after `/repair` or from an older copy of itself.
`beside`: the other one has opened a second private conversation, and the first one goes on.
`namesake`: a room has a name by which another one goes here, so that this one has a second title (`name`).
`merged`: what waited in another one of the same name waits here now.
"""


@dataclass(frozen=True)
class Event:
    """Base of all events. `command`: the id of the command that caused it, or 0."""

    command: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class Done(Event):
    """The command was carried out."""


@dataclass(frozen=True)
class Message:
    """One line of a conversation's history. `seq` and `time` (ms) are 0 until the server has accepted it."""

    local_id: int
    conversation: bytes
    seq: int
    time: int
    sender: str
    own: bool
    text: str
    trust: Trust = "unknown"
    problem: str = ""  # not empty: the entry cannot be shown, and this says why
    kind: str = ""  # of content, by its name in the registry; empty: nothing could be decrypted
    device: bytes = b""  # this and `number` name the message for everybody; empty and 0 if they are unknown
    number: int = 0
    refers_to: tuple[bytes, int] | None = None  # the name of another message that this one is about
    written: int = 0  # when, by the sender's clock (ms); 0: not known
    doubt: str = ""  # not empty: its sender's history contradicts ours, and this says what is proven


@dataclass(frozen=True)
class ConversationSnapshot:
    """A conversation as the core knows it now."""

    id: bytes
    kind: Literal["direct", "invite", "open"]
    name: str  # the room's name, or the other account; a room's second title where another one goes by its name here
    members: tuple[str, ...]  # accounts, own included, sorted
    state: Literal["requested", "request", "open", "closed", "stopped"]
    # requested: we asked, no answer yet; request: they asked us; stopped: see `Stopped`
    epoch: int
    own_bye: bool = False
    their_bye: bool = False
    unconfirmed_since: int = 0  # when an owner has last signed its state (ms), if that is more than two weeks ago
    trust: tuple[Trust, ...] = ()  # how the key of each of `members` stands that it has here; of several, the worst
    topic: str = ""
    owners: tuple[str, ...] = ()  # accounts, sorted
    inviters: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()  # accounts that saw another history of it than we, sorted
    absent: tuple[str, ...] = ()  # accounts whose devices here have left the directory, by the server's word; sorted

    def trust_in(self, account: str) -> Trust | None:
        """Return how the key of a member stands that it has here; None: it is none."""
        return dict(zip(self.members, self.trust, strict=False)).get(account)

    def outranks(self, older: "ConversationSnapshot") -> bool:
        """Whether this counts in place of an older conversation of the same name.

        One that we are in goes before a closed one, and one with an accepted key before one without. Of two of these
        the older goes on until the user leaves it; otherwise the newest counts.
        """
        rank = self.rank
        return rank > older.rank or rank == older.rank < _FIT

    @property
    def rank(self) -> int:
        """How much it counts: not at all if it is closed, best if what is said in it goes to accepted keys."""
        if self.state == "closed":
            return 0
        fits = self.kind != "direct" or self.trust_in(self.name) in (None, *WRITTEN_TO)
        return _FIT if fits else 1


_FIT: Final = 2


InvitationEnd = Literal["withdrawn", "expired"]


@dataclass(frozen=True)
class Invitation:
    """An invitation to a room, which waits for an answer. Who is in the room is what it lists, and proves nothing."""

    conversation: bytes
    name: str
    inviter: str
    key: str  # the inviter's key: 64 hexadecimal digits, of which people compare the first four
    first_contact: bool  # this key was never accepted: the server could be the inviter
    again: bool  # we were in this room before
    role: Literal["member", "inviter", "owner"]
    owners: tuple[str, ...]  # accounts, sorted
    members: tuple[str, ...]  # the same, without ours
    known: tuple[str, ...]  # those of them that are listed under the key we know them by
    text: str = field(repr=False)
    until: int = 0  # when it ends, in milliseconds since 1970
    question: int = 0  # which the answer names: another invitation to this room is another question


LineRefusal = Literal["used", "key", "no-right", "barred", "inside"]
"""Why nobody is let in by a right invite line.

`used`: somebody else has used it before. `key`: another key of this account is accepted, or this one is refused.
`no-right`: we may not add anybody to the room any more. `inside`: the account is in the room, under whichever key.
"""


@dataclass(frozen=True)
class InviteLine:
    """An invite line that this account has given out, and that has not ended."""

    mark: str  # names it: 8 hexadecimal digits
    room: str  # where it leads; empty: to nothing but a conversation with us
    until: int  # when it ends, in milliseconds since 1970
    user: str = ""  # the account that has used it; empty: nobody has
    key: str = ""  # that one's key, in short form
    used: int = 0  # when, in milliseconds since 1970


@dataclass(frozen=True)
class Connected(Event):
    """TLS is up and the server has introduced itself."""

    server_name: str
    greeting: str


@dataclass(frozen=True)
class Disconnected(Event):
    """The connection is gone; the core tries again in `retry_in` seconds."""

    reason: str
    retry_in: float


@dataclass(frozen=True)
class LoggedIn(Event):
    """The account is logged in on this device."""

    account: str
    resumed: bool


@dataclass(frozen=True)
class Waiting(Event):
    """The server is full; `place` in the queue for a seat."""

    place: int


@dataclass(frozen=True)
class Ready(Event):
    """Seated, and caught up with every log as it was at login: whatever follows is live."""


@dataclass(frozen=True)
class Received(Event):
    """Somebody's message."""

    message: Message


@dataclass(frozen=True)
class Said(Event):
    """Our own line is in the vault, and goes out when it can."""

    message: Message


@dataclass(frozen=True)
class Delivered(Event):
    """Our own line is on the server's disk: `seq` and `time` are set."""

    message: Message


@dataclass(frozen=True)
class KeyShown:
    """A key as people name it."""

    account: str
    key: str  # its short form
    trust: Trust


@dataclass(frozen=True)
class Held(Event):
    """Our message is not sent, because of the keys of those in `whose`, or because it was typed before a long absence.

    `question`: not 0 where `Confirm` with that number lets it go; otherwise `Trust`, `Verify` or `Accept` decides.
    """

    conversation: bytes
    whose: tuple[KeyShown, ...]
    question: int = 0
    after_absence: bool = False


@dataclass(frozen=True)
class Unreachable(Event):
    """By the server's word a member's device is not in its directory any more, and will not get what is said.

    In a conversation of two, what is said waits until the device is back or another key of the account is accepted. Of
    a room only its owners are told, who can put that key in place of the old; all see it in the snapshot.
    """

    conversation: bytes
    account: str
    key: str  # the short form of the one that they have here
    new: KeyShown | None = None  # the other key that the account has in the directory now


@dataclass(frozen=True)
class Delayed(Event):
    """The server refuses messages to a conversation for now: they wait in order, and are tried again.

    `text` says why; `code` as on the wire.
    """

    conversation: bytes
    code: str
    text: str


@dataclass(frozen=True)
class ConversationChanged(Event):
    """A conversation appeared, or its state, members or name changed."""

    conversation: ConversationSnapshot
    change: Change
    account: str = ""  # whom it is about, or who caused it, where that is one person; the new name or topic
    by: str = ""  # who has changed the rules, or somebody's key


@dataclass(frozen=True)
class Invited(Event):
    """Somebody invites us to a room: `AcceptInvitation` or `DeclineInvitation` answers. It is in the snapshot, too."""

    invitation: Invitation


@dataclass(frozen=True)
class InvitationEnded(Event):
    """An invitation was taken back, or has waited too long; nothing was read or sent."""

    invitation: Invitation
    why: InvitationEnd


@dataclass(frozen=True)
class InvitationDeclined(Event):
    """Somebody whom we have invited to a room does not want to come."""

    conversation: bytes
    account: str


@dataclass(frozen=True)
class InviteLineMade(Event):
    """Answer to `MakeInviteLine`. `text` is the line, as secret as a password; it is not kept and not shown again."""

    line: InviteLine
    text: str = field(repr=False)


@dataclass(frozen=True)
class InviteLines(Event):
    """Answer to `ListInviteLines` and `RevokeInviteLine`: those that have not ended, oldest first."""

    lines: tuple[InviteLine, ...]


@dataclass(frozen=True)
class InviteLineUsed(Event):
    """Somebody has come by an invite line of ours: their key is accepted, and the room adds them."""

    conversation: bytes  # the direct one with them
    account: str
    key: str  # its short form
    room: str  # empty: the line led to nothing but us


@dataclass(frozen=True)
class InviteLineRefused(Event):
    """Somebody has the secret of an invite line of ours and is not let in by it: they ask like anybody else."""

    conversation: bytes  # the direct one with them
    account: str
    key: str  # its short form
    room: str
    why: LineRefusal
    user: str = ""  # who has used it before, if somebody has
    user_key: str = ""
    used: int = 0  # when, in milliseconds since 1970


@dataclass(frozen=True)
class AskedByLine(Event):
    """We have used an invite line: the inviter's key is accepted, and their client has to be online to let us in."""

    account: str
    key: str  # its short form
    room: str  # empty: the line led to nothing but them
    until: int  # by when their client has to be online, in milliseconds since 1970
    known: bool  # whether the key was accepted before


@dataclass(frozen=True)
class PresenceChanged(Event):
    """Somebody who shares a conversation came online, went away, or dropped."""

    conversation: bytes
    account: str
    state: Literal["online", "offline", "dropped"]


@dataclass(frozen=True)
class KeyChanged(Event):
    """An account shows a key that is not the accepted one: `trust` says against what it stands."""

    account: str
    key: str  # its short form
    trust: Trust


@dataclass(frozen=True)
class FirstContact(Event):
    """A key was accepted that nothing is known of: the user wrote to the account first, or said yes to it."""

    account: str
    key: str  # its short form


@dataclass(frozen=True)
class KeyAccepted(Event):
    """The user has accepted a key; `verified`: after comparing the safety number."""

    account: str
    key: str  # its short form
    verified: bool
    lines: int = 0  # waiting ones that go to this key
    stops: tuple[str, ...] = ()  # names of conversations with another key of the account, where nothing more is sent


@dataclass(frozen=True)
class KeyRefused(Event):
    """The user has refused a key: nothing that is written goes to it."""

    account: str
    key: str  # its short form
    lines: int = 0  # waiting ones that stay
    stops: tuple[str, ...] = ()  # names of conversations with this key, where nothing more is sent


@dataclass(frozen=True)
class Ignored(Event):
    """The lines of an account in open rooms are hidden here from now on; or, if not `ignored`, shown again."""

    account: str
    ignored: bool


@dataclass(frozen=True)
class OperatorSpoke(Event):
    """The server's operator said something in a room that belongs to nobody; everybody there carries it out.

    `account`: whom it is about, which may be us; empty for the other two.
    """

    conversation: bytes
    action: Literal["bar", "unbar", "remove", "upgrade", "site-key"]
    account: str = ""


@dataclass(frozen=True)
class Unconfirmed(Event):
    """No owner has signed the state of a room since `since` (ms): the server may be withholding what is newer."""

    conversation: bytes
    since: int


@dataclass(frozen=True)
class Gap(Event):
    """The server gave up messages before `first_seq` while we were away."""

    conversation: bytes
    first_seq: int


@dataclass(frozen=True)
class OutOfStep(Event):
    """This device's state and the log do not fit together, and `what` is done about it.

    older-copy: by the server's word, which no signature bears out, the device has said more than this vault knows, so
    that it is an older copy. Told once, of all conversations.
    own-commit: at `time` (ms) the device changed something that this vault does not know: another copy of it did.
    checkpoint: we are back on the word of `account`, of `time`. nothing-left: there is no such word; `account`, or
    whoever owns the room, has to invite us again. cut-off: the server has lost what leads on from here; lines wait.
    not-found: it says that we are not in it; lines wait until the user leaves, or the log shows a removal.
    ahead: the server has lost `count` entries that we know, or more; lines wait.
    """

    conversation: bytes
    what: Literal["older-copy", "own-commit", "cut-off", "not-found", "checkpoint", "nothing-left", "ahead"]
    time: int = 0
    count: int = 0
    account: str = ""


@dataclass(frozen=True)
class Alarm(Event):
    """The server or a member did something that an honest one never does: `text` says what, who, and what to do."""

    kind: Literal["history", "rules", "key-package", "server", "unreadable", "time", "own-name"]
    conversation: bytes
    text: str


@dataclass(frozen=True)
class Stopped(Event):
    """A commit of `culprit` cannot be processed. The conversation has stopped, until `/repair` or for good."""

    conversation: bytes
    culprit: str  # whose commit it is; empty: the server passed on what it had to refuse
    reason: str
    proven: bool = True  # False: the server may have altered it on the way
    passed_over: bool = False  # in an open room: this device enters again past it, by itself


@dataclass(frozen=True)
class RoomListed:
    """One line of `RoomList`."""

    name: str
    kind: Literal["open", "invite"]
    members: int
    joined: bool
    topic: str = ""


@dataclass(frozen=True)
class RoomList(Event):
    """Answer to `ListRooms`."""

    rooms: tuple[RoomListed, ...]


@dataclass(frozen=True)
class MemberList(Event):
    """Answer to `ListMembers`: accounts, whether they are online, and how the key stands that each has here.

    `ignored`: whose lines are hidden here.
    """

    conversation: bytes
    members: tuple[tuple[str, bool, Trust], ...]
    invited: tuple[str, ...] = ()  # those of them who have not answered their invitation
    ignored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()  # those whose devices here are not in the directory any more, by the server's word


@dataclass(frozen=True)
class NumberedKey:
    """A key, and the safety number to compare for it."""

    key: str  # its short form
    trust: Trust
    number: str  # 60 digits in groups of five
    conversations: tuple[str, ...]  # names of those that show it


@dataclass(frozen=True)
class SafetyNumber(Event):
    """Answer to `ShowSafetyNumber`: every key that is known of the account, the accepted one first."""

    account: str
    keys: tuple[NumberedKey, ...]


@dataclass(frozen=True)
class Refused(Event):
    """Something was not carried out: `text` says why and what to do; `code` is the wire's, or "local".

    `message`: our line that is not sent; its `problem` says why.
    """

    code: str
    text: str
    message: Message | None = None


@dataclass(frozen=True)
class Ended(Event):
    """The core has stopped for good. `error` is None after `close`, else what ended it."""

    error: Exception | None
