"""Events: what the client core tells its front end. Frozen values that a screen only has to draw.

Events come in the order in which things happened, each already durable in the vault where it says something about a
conversation. An event that a command causes carries the command's id (`commands`). Text in events that another person
or the server chose is raw: clean it before you draw it.
"""

from dataclasses import field
from typing import Literal

from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot, Invitation
from securechat.identity.pins import Standing
from securechat.value import value

Trust = Standing
"""How the key that somebody shows stands with the user (`identity.pins`)."""

Change = Literal[
    "opened", "joined", "entered", "new-device", "new-key", "re-entered", "request", "accepted", "declined", "bye",
    "closed", "leaving", "not-opened", "given-up",
    "members", "left", "stayed-out", "removed", "beside", "merged", "replaced", "namesake", "recovered",
    "renamed", "topic", "life", "owner", "no-owner", "inviter", "no-inviter", "barred", "unbarred",
    "revoked", "succeeded",
]  # fmt: skip
"""`joined`: somebody is in it who was not. With a `by`, that member has let them in, and in a room of invitations they
come once they have said yes: `entered`.
`stayed-out`: somebody was invited and does not come.
`new-device`, `new-key`: somebody who was in it has another device, or another identity key, than before.
`new-key` has a `by` where an owner has put it in place of the old one.
`re-entered`: a device has replaced its own leaf, as it does after `/repair` or from an older copy of itself.
`beside`: the other one has opened a second private conversation, and the first one goes on. Told at the first thing
said in it, which may be that it takes the place of the first one (`replaced`).
`closed`: both have said bye. `leaving`: the user leaves it, and nothing is said there any more; `left` follows where
that is in the log. `not-opened`: what was asked for never came to be, and `Refused` says why. `given-up`: it has ended
here because another one of its name goes on in its place.
`namesake`: a room has a name by which another one goes here, so that this one has a second title (`name`).
`recovered`: a new device of ours has taken the place of a lost one in it.
`replaced`: another one with the same key has taken its place (`OutOfStep` anew).
`merged`: what waited in another one of the same name waits here now.
`revoked`: somebody's identity key has revoked their device that is in it; its next commit takes that out.
`succeeded`: somebody's identity key has named another one as its successor, which is not in it.
"""


WhyPassword = Literal["login", "changed", "rotation", "renewal", "revocation", "succession", "keepsake"]
"""`login`: the last login has expired, and the server wants another one. `changed`: the server has another password
than this vault; the account's is wanted (`commands.TakePassword`), and becomes the vault's. `rotation`: this device's
signature key is to be renewed in time. `renewal`: the user wants it renewed now. `revocation`: the user wants another
device of this account revoked. `succession`: the user wants another identity key. `keepsake`: a room was founded, into
which nobody but a device of later that knows of it could let itself; told once a session."""


@value
class Event:
    """Base of all events. `command`: the id of the command that caused it, or 0."""

    command: int = field(default=0, kw_only=True)


@value
class Done(Event):
    """The command was carried out."""


InvitationEnd = Literal["withdrawn", "expired"]


LinkState = Literal["asked", "offered", "up", "down"]

LineRefusal = Literal["used", "key", "no-right", "barred", "inside"]
"""Why nobody is let in by a right invite line.

`used`: somebody else has used it before. `key`: another key of this account is accepted, or this one is refused.
`no-right`: we may not add anybody to the room any more. `inside`: the account is in the room, under whichever key.
"""


@value
class InviteLine:
    """An invite line that this account has given out, and that has not ended."""

    mark: str  # names it: 8 hexadecimal digits
    room: str  # where it leads; empty: to nothing but a conversation with us
    until: int  # when it ends, in milliseconds since 1970
    user: str = ""  # the account that has used it; empty: nobody has
    key: str = ""  # that one's key, in short form
    used: int = 0  # when, in milliseconds since 1970


@value
class Connected(Event):
    """TLS is up and the server has introduced itself."""

    server_name: str
    greeting: str


@value
class Notice(Event):
    """The server's operator says something: the server's word, and no member's."""

    text: str


@value
class Disconnected(Event):
    """The connection is gone; the core tries again in `retry_in` seconds."""

    reason: str
    retry_in: float


@value
class LoggedIn(Event):
    """The account is logged in on this device."""

    account: str
    resumed: bool


@value
class PasswordWanted(Event):
    """The password is needed, and `commands.Unlock` gives it, or `TakePassword`; what waits for it is done then.

    Told once for each `why`, a rotation once a day. `problem`: why it is not at hand. `until`: before when it is needed
    (ms since 1970); 0: no time is named.
    """

    why: WhyPassword
    problem: str
    until: int = 0


@value
class Waiting(Event):
    """The server is full; `place` in the queue for a seat."""

    place: int


@value
class Ready(Event):
    """Seated, and caught up with every log as it was at login: whatever follows is live."""


@value
class Received(Event):
    """Somebody's message."""

    message: Message


@value
class Said(Event):
    """Our own line is in the vault, and goes out when it can."""

    message: Message


@value
class Delivered(Event):
    """Our own line is on the server's disk: `seq` and `time` are set."""

    message: Message


TransferStage = Literal["sealing", "waiting", "moving", "offered", "opening"]
"""`sealing`: it is being encrypted here. `waiting`: for the server. `moving`: to the server or from there, or by a
direct link. `offered`: it is said, and the other one can have it by a direct link. `opening`: it is here, and is being
decrypted and checked."""


@value
class Transfer:
    """A file on its way, to others or to a folder here."""

    id: int
    kind: Literal["send", "save"]
    conversation: bytes
    local_id: int  # of the line that names it; 0: it is sent, and has none yet
    name: str  # by its sender's word
    stage: TransferStage
    done: int  # bytes, of `size`
    size: int  # 0: not known yet


@value
class Transferred(Event):
    """How far a file has come; told at most twice a second."""

    transfer: Transfer


@value
class TransferDelayed(Event):
    """A file has to wait and is tried again. `text` says why, `code` as on the wire; `local`: no room on this disk."""

    transfer: Transfer
    code: str
    text: str


@value
class FileSent(Event):
    """A file is where it shall be, at the server or with the other one by a direct link: it is on its way no more."""

    transfer: Transfer


@value
class TransferEnded(Event):
    """A file is not sent, or not saved. `Refused` with the same text answers the command, if one waits."""

    transfer: Transfer
    text: str


@value
class FileSaved(Event):
    """The file of a line is on this disk, whole, and is the one that its message names."""

    local_id: int
    name: str
    path: str


@value
class Marked(Event):
    """A member says that they have received our lines up to one seq, and read them up to another."""

    conversation: bytes
    account: str
    delivered: int
    read: int


@value
class Expired(Event):
    """Lines of a conversation have ended with the life that its rules gave them, or reactions: they are in no page."""

    conversation: bytes


@value
class Typing(Event):
    """Somebody types, or has stopped. Whoever types says so again; after 10 seconds without, they do not any more."""

    conversation: bytes
    account: str
    typing: bool


@value
class LinkChanged(Event):
    """A direct link (docs/direct-link.md) has come to another state.

    asked: the other one offers it, and the user has not agreed (`Link`). offered: we do; `addresses` is what the other
    one learns. up. down: `reason` says why, as the end of a sentence; it is empty if both have ended it.
    """

    conversation: bytes
    account: str
    state: LinkState
    reason: str = ""
    addresses: tuple[str, ...] = field(default=(), repr=False)


@value
class PreferenceChanged(Event):
    """The user prefers something else from now on: as `Prefer` says."""

    name: str
    value: str
    conversation: bytes


@value
class Edited(Event):
    """A line has another text, by its sender. `before`: the old one, which is not kept."""

    message: Message
    before: str = field(repr=False)


@value
class Deleted(Event):
    """A line was deleted, by the one in its `deleted_by`: nothing that it said is kept."""

    message: Message


@value
class Reacted(Event):
    """Somebody has put a reaction under a line, or taken one back: `message` has those that are there."""

    message: Message
    account: str
    text: str
    act: Literal["add", "remove"]


@value
class KeyShown:
    """A key as people name it."""

    account: str
    key: str  # its short form
    trust: Trust


@value
class Held(Event):
    """Our message is not sent, because of the keys of those in `whose`, or because it was typed before a long absence.

    `two_holders`: because two programs hold that key (`TwoHolders`).

    `question`: not 0 where `Confirm` with that number lets it go; otherwise `Trust`, `Verify` or `Accept` decides.
    """

    conversation: bytes
    whose: tuple[KeyShown, ...]
    question: int = 0
    after_absence: bool = False
    two_holders: bool = False


@value
class Unreachable(Event):
    """By the server's word a member's device is not in its directory any more, and will not get what is said.

    In a conversation of two, what is said waits until the device is back or another key of the account is accepted. Of
    a room only its owners are told, who can put that key in place of the old; all see it in the snapshot.
    """

    conversation: bytes
    account: str
    key: str  # the short form of the one that they have here
    new: KeyShown | None = None  # the other key that the account has in the directory now


@value
class Delayed(Event):
    """The server refuses messages to a conversation for now: they wait in order, and are tried again.

    `text` says why; `code` as on the wire.
    """

    conversation: bytes
    code: str
    text: str


@value
class ConversationChanged(Event):
    """A conversation appeared, or its state, members or name changed."""

    conversation: ConversationSnapshot
    change: Change
    account: str = ""  # whom it is about, or who caused it, where that is one person; the new name, topic or life (s)
    by: str = ""  # who has changed the rules, let somebody in, removed them, or changed their key


@value
class Invited(Event):
    """Somebody invites us to a room: `AcceptInvitation` or `DeclineInvitation` answers. It is in the snapshot, too."""

    invitation: Invitation


@value
class InvitationEnded(Event):
    """An invitation was taken back, or has waited too long; nothing was read or sent."""

    invitation: Invitation
    why: InvitationEnd


@value
class InvitationDeclined(Event):
    """Somebody whom we have invited to a room does not want to come."""

    conversation: bytes
    account: str


@value
class InviteLineMade(Event):
    """Answer to `MakeInviteLine`. `text` is the line, as secret as a password; it is not kept and not shown again."""

    line: InviteLine
    text: str = field(repr=False)


@value
class InviteLines(Event):
    """Answer to `ListInviteLines` and `RevokeInviteLine`: those that have not ended, oldest first."""

    lines: tuple[InviteLine, ...]


@value
class InviteLineUsed(Event):
    """Somebody has come by an invite line of ours: their key is accepted, and the room adds them."""

    conversation: bytes  # the direct one with them
    account: str
    key: str  # its short form
    room: str  # empty: the line led to nothing but us


@value
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


@value
class AskedByLine(Event):
    """We have used an invite line: the inviter's key is accepted, and their client has to be online to let us in."""

    account: str
    key: str  # its short form
    room: str  # empty: the line led to nothing but them
    until: int  # by when their client has to be online, in milliseconds since 1970
    known: bool  # whether the key was accepted before


@value
class PresenceChanged(Event):
    """Somebody who shares a conversation came online, went away, or dropped."""

    conversation: bytes
    account: str
    state: Literal["online", "offline", "dropped"]


@value
class KeyChanged(Event):
    """An account shows a key that is not the accepted one: `trust` says against what it stands."""

    account: str
    key: str  # its short form
    trust: Trust


@value
class TwoHolders(Event):
    """Two programs hold the identity key of somebody whom we write to: each has signed what the other one has not.

    What we write to them waits until `Confirm`; told once.
    """

    account: str
    key: str  # its short form


@value
class KeySucceeded(Event):
    """A key that was accepted has named another one as its successor, which is accepted in its place.

    `trust`: `accepted`, or `succeeded` where the old one was compared: then what is written waits for `Confirm`.
    """

    account: str
    key: str  # the new one's short form
    trust: Trust


@value
class KeyContested(Event):
    """A key denies that it has named the one that succeeded it: neither is accepted before the user decides."""

    account: str
    old: str  # its short form
    new: str  # the other's


@value
class OwnKeyUsed(Event):
    """Another program with our identity key has signed something, at `time` (ms, by its own clock); told once."""

    what: Literal["certify", "revoke", "succeed", "contest", "restart"]  # `identity.statements`
    time: int
    shut_out: bool = False  # this device does not speak for the account by it, and goes on once the user has decided


@value
class CameByOldKey(Event):
    """Somebody came in by themselves, by a certificate that has run out, was revoked, or has a later one after it.

    What was typed before waits until `Confirm`, or until they have renewed it.
    """

    conversation: bytes
    account: str
    key: str  # its short form


@value
class FirstContact(Event):
    """A key was accepted that nothing is known of: the user wrote to the account first, or said yes to it."""

    account: str
    key: str  # its short form


@value
class LookAlike(Event):
    """Names that have just come up are easily taken for others that this client knows. Each is told once a session.

    `pairs`: the new one, and the one known before: accounts, or names of rooms. That is empty for an account whose name
    stands for the program or its operator.
    """

    pairs: tuple[tuple[str, str], ...]


@value
class KeyAccepted(Event):
    """The user has accepted a key; `verified`: after comparing the safety number."""

    account: str
    key: str  # its short form
    verified: bool
    lines: int = 0  # waiting ones that go to this key
    stops: tuple[str, ...] = ()  # names of conversations with another key of the account, where nothing more is sent


@value
class KeyRefused(Event):
    """The user has refused a key: nothing that is written goes to it."""

    account: str
    key: str  # its short form
    lines: int = 0  # waiting ones that stay
    stops: tuple[str, ...] = ()  # names of conversations with this key, where nothing more is sent


@value
class Unread(Event):
    """The user has marked lines of others in a conversation as unread, so many, up to this one."""

    conversation: bytes
    lines: int
    newest: int  # local id


@value
class Ignored(Event):
    """The lines of an account in open rooms are hidden here from now on; or, if not `ignored`, shown again."""

    account: str
    ignored: bool


@value
class Blocked(Event):
    """Nothing more is heard of an account, here; or, if not `blocked`, it is heard again."""

    account: str
    blocked: bool


@value
class OperatorSpoke(Event):
    """The server's operator said something in a room that belongs to nobody; everybody there carries it out.

    `account`: whom it is about, which may be us; empty for the other two.
    """

    conversation: bytes
    action: Literal["bar", "unbar", "remove", "upgrade", "site-key"]
    account: str = ""


@value
class Unconfirmed(Event):
    """No owner has signed the state of a room since `since` (ms): the server may be withholding what is newer."""

    conversation: bytes
    since: int


@value
class Gap(Event):
    """Messages before `first_seq` are missing here.

    `away`: the server gave them up before we had read them. `restored`: the log leaps, as it does where the server was
    restored from a backup that lacks them. `re-entered`: this device could not read on, and came in again behind them.
    """

    conversation: bytes
    first_seq: int
    why: Literal["away", "restored", "re-entered"] = "away"


@value
class InvitationsMissed(Event):
    """So many invitations and first messages have gone from the server before this device has had them."""

    count: int


@value
class NotRegained(Event):
    """A conversation that our keepsake names was not entered, and `why`. `account` could invite us again, if named."""

    conversation: bytes
    why: str
    account: str


@value
class Recovered(Event):
    """This device has taken the place of lost ones, of which `revoked` speak no more.

    `kept`: when the keepsake was made (ms since 1970); 0: the server had none. `entered`: how many of the conversations
    that it names were entered; `missing`: the names of the others.
    """

    kept: int
    entered: int
    missing: tuple[str, ...]
    revoked: int


@value
class LostRevoked(Event):
    """With the recovery file alone: these devices (marks) speak for the account no more, and no other one does."""

    devices: tuple[str, ...]


@value
class OutOfStep(Event):
    """This device's state and the log do not fit together, and `what` is done about it.

    older-copy: by the server's word, which no signature bears out, the device has said more than this vault knows, so
    that it is an older copy: at `time` (ms), 0 if that is not known. Told once, of all conversations.
    own-commit: at `time` (ms) the device changed something that this vault does not know: another copy of it did.
    checkpoint: we are back on the word of `account`, of `time`. nothing-left: there is no such word; `account`, or
    whoever owns the room, has to invite us again. cut-off: the server has lost what leads on from here; lines wait.
    not-found: it says that we are not in it; lines wait until the user leaves, or the log shows a removal.
    ahead: the server has lost `count` entries that we know, or more; lines wait.
    anew: a private conversation that it has lost goes on in this one, under the same key; `count` lines of ours there
    may not have arrived.
    """

    conversation: bytes
    what: Literal["older-copy", "own-commit", "cut-off", "not-found", "checkpoint", "nothing-left", "ahead", "anew"]
    time: int = 0
    count: int = 0
    account: str = ""


@value
class Alarm(Event):
    """The server or a member did something that an honest one never does: `text` says what, who, and what to do."""

    kind: Literal["history", "rules", "key-package", "server", "unreadable", "time", "own-name"]
    conversation: bytes
    text: str


@value
class Stopped(Event):
    """A commit of `culprit` cannot be processed. The conversation has stopped, until `/repair` or for good."""

    conversation: bytes
    culprit: str  # whose commit it is; empty: the server passed on what it had to refuse
    reason: str
    proven: bool = True  # False: the server may have altered it on the way
    passed_over: bool = False  # in an open room: this device enters again past it, by itself


@value
class RoomListed:
    """One line of `RoomList`."""

    name: str
    kind: Literal["open", "invite"]
    members: int
    joined: bool
    topic: str = ""


@value
class RoomList(Event):
    """Answer to `ListRooms`."""

    rooms: tuple[RoomListed, ...]


@value
class MemberList(Event):
    """Answer to `ListMembers`: accounts, whether they are online, and how the key stands that each has here.

    `ignored`: whose lines are hidden here.
    """

    conversation: bytes
    members: tuple[tuple[str, bool, Trust], ...]
    invited: tuple[str, ...] = ()  # those of them who have not answered their invitation
    ignored: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()  # those whose devices here are not in the directory any more, by the server's word
    heard: tuple[str, ...] = ()  # others who have said or changed something since we came in; the rest are listed


@value
class Contact:
    """Somebody that we know."""

    account: str
    key: str  # the short form of the key that is written to, else of one that was decided on; empty: of none was
    trust: Trust  # how it stands
    rooms: tuple[str, ...]  # names of those in which both of us are
    talks: bool = False  # a private conversation with them goes on
    ignored: bool = False
    blocked: bool = False
    heard: int = 0  # when they last said something here under that key (ms since 1970); 0: not lately


@value
class ContactList(Event):
    """Answer to `ListContacts`, by name: of many the first ones, and how many there are in all."""

    part: str
    contacts: tuple[Contact, ...]
    count: int
    rooms: tuple[str, ...] = ()  # names that have `part` in them


@value
class NumberedKey:
    """A key, and the safety number to compare for it."""

    key: str  # its short form
    trust: Trust
    number: str  # 60 digits in groups of five
    conversations: tuple[str, ...]  # names of those that show it


@value
class SafetyNumber(Event):
    """Answer to `ShowSafetyNumber`: every key that is known of the account, the accepted one first."""

    account: str
    keys: tuple[NumberedKey, ...]


@value
class DeviceShown:
    """One device of an account. Times in milliseconds since 1970; certificates are dated by the device's own clock."""

    device: str  # its mark: 8 hexadecimal digits
    key: str  # the short form of the identity key that certifies it
    since: int  # when it was certified first, as far as is known
    renewed: int  # when last
    until: int  # the end of that certificate
    heard: int  # when it last said something, as far as this vault shows; of others: in private; 0: nothing of late
    state: Literal["current", "older", "revoked"]  # older: another device has taken its place
    own: bool = False  # it is this one
    unpublished: bool = False  # it is revoked here, and the server has not taken that yet
    name: str = ""  # what the user calls it, of our own ones


@value
class KeyRenewed(Event):
    """This device has a new key, as the user wanted. `until`: the end of its certificate (ms since 1970)."""

    until: int


@value
class DeviceRevoked(Event):
    """The server has taken our revocation of a device: its session has ended, and nobody takes anything from it."""

    device: str  # its mark


@value
class CaChanged(Event):
    """The server is known by another CA from now on, the one that the user has named, and the former is not trusted."""

    pin: str  # `sha256:` and the hash of its public key


@value
class SecretReplaced(Event):
    """The account has had another secret at the server since `time` (ms), by a login that this program did not make."""

    time: int


@value
class PasswordReplaced(Event):
    """The account and this vault have a new password. `file`: ours comes from a file, which has the old one."""

    file: bool


@value
class AccountDeleted(Event):
    """The server has deleted our account, whose name nobody can take. `wiped`: this vault goes, too, when it closes."""

    wiped: bool


@value
class SessionShown:
    """A device of ours that is logged in, or can come back without the password. Times in ms since 1970; 0: not known.

    `address`: from where, by the server's word, if it is there now. `name`: which the user has given it.
    """

    device: str  # its mark
    name: str
    own: bool  # it is this one
    online: bool
    address: str
    used: int
    expires: int


@value
class OwnSessions(Event):
    """Answer to `ListSessions`: those that are there now first, then the one that was there last."""

    sessions: tuple[SessionShown, ...]


@value
class IdentitySucceeded(Event):
    """The server has our succession: this account goes on under another identity key, and its conversations end."""

    key: str  # short form of the new one


@value
class Devices(Event):
    """Answer to `ListDevices`, oldest first."""

    account: str
    devices: tuple[DeviceShown, ...]


@value
class Refused(Event):
    """Something was not carried out: `text` says why and what to do; `code` is the wire's, or "local".

    `message`: our line that is not sent; its `problem` says why.
    """

    code: str
    text: str
    message: Message | None = None


@value
class Ended(Event):
    """The core has stopped for good. `error` is None after `close`, else what ended it."""

    error: Exception | None
