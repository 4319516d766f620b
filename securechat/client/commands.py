"""Commands: what a front end can ask of the client core. Frozen values, the mirror of `events`.

A command is handed over with `ChatClient.do` and carried out later, on the core's own thread. It is answered once, by
`events.Done` or by `events.Refused` with its id; what happens on the way (a line that is kept, a conversation that
opens) names it, too. A command that had no answer when the program ended may still take effect: its changes are in the
vault.
"""

import itertools
from dataclasses import field
from typing import Final, Literal

from securechat.client.message import Disposition
from securechat.client.preferences import Preference
from securechat.value import value

_ids: Final = itertools.count(1)


@value
class Command:
    """Base of all commands. `id` is unique within the process; two commands are equal if they ask for the same."""

    id: int = field(default_factory=lambda: next(_ids), kw_only=True, compare=False)


# --- talking ----------------------------------------------------------------------------------------------------------


@value
class Send(Command):
    """Say something. `Said` when it is in the vault; done when the server has it on disk (`Delivered`)."""

    conversation: bytes
    text: str = field(repr=False)


@value
class Act(Command):
    """Say what we do, in the third person: "waves". As `Send`."""

    conversation: bytes
    text: str = field(repr=False)


@value
class Reply(Command):
    """Say something in answer to a line, in its conversation. As `Send`."""

    local_id: int
    text: str = field(repr=False)


@value
class Edit(Command):
    """Put another text in place of that of a line of ours. Done when the server has it (`Edited`)."""

    local_id: int
    text: str = field(repr=False)


@value
class Delete(Command):
    """Take a line out of everybody's history: ours, or anybody's in a room that we own. Done as `Edit` (`Deleted`)."""

    local_id: int


@value
class SendFile(Command):
    """Share a file: `Transferred` while it is brought to the server, `Said` then; done when the message is in the log.

    `path`: absolute; it is read once, and may change or go after `Transferred` says that it is sealed. `name`: what the
    others see; empty: the last part of the path. What else there is stands in docs/content.md (Files). An `image` gets
    a preview, where one can be made of it. A `voice` note is made of a WAV file or of WebM with Opus, or is one: Ogg
    Opus with one channel; it is refused where that cannot be. A client that ends in between goes on when it is started
    again.

    Where there is a direct link to the other one, or one comes up for it, the message is in the log before the server
    has the file (docs/direct-link.md): until the transfer has ended, only this client has it. `upload_first`: never
    that, for a program that ends after it.
    """

    conversation: bytes
    path: str
    description: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    media_type: str = "application/octet-stream"
    disposition: Disposition = "attachment"
    upload_first: bool = False


@value
class SaveFile(Command):
    """Save the file of a line in a folder, an absolute path, under a name that is safe and free: `FileSaved`.

    `Transferred` while it comes. A client that ends in between goes on when it is started again. What was saved before
    is not fetched again while it is there, whole.
    """

    local_id: int
    folder: str


@value
class CancelFile(Command):
    """Give up sending or saving a file, by the number of its transfer (`Transferred`). What it is for is refused."""

    transfer: int


@value
class React(Command):
    """Put an emoji or a short word under a line, or take ours back. Done as `Edit` (`Reacted`)."""

    local_id: int
    text: str
    remove: bool = False


@value
class OpenDirect(Command):
    """Talk to somebody, in the existing conversation or in a new one; with `ask` they accept or decline first.

    Works for people who are offline, and while we are. Done when the conversation is open and `text`, if there is one,
    is delivered.
    """

    account: str
    text: str = field(default="", repr=False)
    ask: bool = field(kw_only=True)


@value
class Accept(Command):
    """Say yes to somebody who asks to talk. Done when the server has it."""

    conversation: bytes


@value
class Decline(Command):
    """Say no to somebody who asks to talk, which closes the conversation. Done when the server has it."""

    conversation: bytes


@value
class Bye(Command):
    """Say goodbye in a direct conversation; it closes when both have. Done when the server has it."""

    conversation: bytes


@value
class Leave(Command):
    """Leave for good, after everything said before is in the log. Done when we are out."""

    conversation: bytes


@value
class Repair(Command):
    """Resync a conversation that has stopped. Done when we are in."""

    conversation: bytes


# --- rooms ------------------------------------------------------------------------------------------------------------


@value
class JoinRoom(Command):
    """Enter an open room; if there is none of that name, make it. Done when we are in."""

    name: str


@value
class CreateRoom(Command):
    """Make an invite room that we own. Done when it exists."""

    name: str


@value
class Invite(Command):
    """Invite somebody to an invite room. Done when the server has the commit that adds them and the invitation.

    It accepts their key, as writing to them does.
    """

    conversation: bytes
    account: str


@value
class AcceptInvitation(Command):
    """Enter a room that we are invited to (`Invited`). Done when we are in.

    `question`: the number in the invitation.
    """

    conversation: bytes
    question: int


@value
class DeclineInvitation(Command):
    """Stay out of a room that we are invited to. With `never`, the same for all that this inviter sends later.

    `question`: the number in the invitation.
    """

    conversation: bytes
    question: int
    never: bool = False


@value
class MakeInviteLine(Command):
    """Make a line by which one person can come in: `InviteLineMade`. `room`: its name; empty: only to talk with us.

    `days`: how long it is good, at most 14. `code`: one to register with, for servers that ask for it.
    """

    room: str = ""
    days: int = 7
    code: str = field(default="", repr=False)


@value
class ListInviteLines(Command):
    """Ask for the lines that were given out and have not ended: `InviteLines`."""


@value
class RevokeInviteLine(Command):
    """Take a line back, by its mark or the beginning of it: nobody is let in by it any more. `InviteLines` follows."""

    mark: str


@value
class UseInviteLine(Command):
    """Come in by a line: `AskedByLine`. It accepts the inviter's key. Done when the server has what asks them.

    Once the inviter's client has answered, we are in the room without another question.
    """

    line: str = field(repr=False)


@value
class Remove(Command):
    """Remove somebody from a room that we own. Done when a commit has removed them."""

    conversation: bytes
    account: str


@value
class SetOwner(Command):
    """Make a member an owner of a room that we own, or no longer. Done when a commit has made it so."""

    conversation: bytes
    account: str
    owner: bool


@value
class SetInviter(Command):
    """Let a member of an invite room that we own invite others, or no longer. Done when a commit has made it so."""

    conversation: bytes
    account: str
    inviter: bool


@value
class Bar(Command):
    """Keep an account out of a room that we own; if it is in, it is removed. Done when a commit has made it so."""

    conversation: bytes
    account: str


@value
class Unbar(Command):
    """Let an account that was barred enter again. Done when a commit has made it so."""

    conversation: bytes
    account: str


@value
class SetTopic(Command):
    """Say what a room that we own is about; the server can read it. Done when a commit has made it so."""

    conversation: bytes
    topic: str


@value
class SetLife(Command):
    """Have what is said from then on go so many `seconds` after it was said; 0: stay. In rooms of ours, and in private.

    Done when a commit has made it so.
    """

    conversation: bytes
    seconds: int


@value
class Rename(Command):
    """Give a room that we own another name. Done when a commit has made it so."""

    conversation: bytes
    name: str


@value
class ListRooms(Command):
    """Ask the server for the rooms one could enter: `RoomList`."""


@value
class ListMembers(Command):
    """Ask who is in a conversation, and online: `MemberList`."""

    conversation: bytes


# --- trust ------------------------------------------------------------------------------------------------------------


@value
class ShowSafetyNumber(Command):
    """Ask for the numbers to compare with an account: `SafetyNumber`. `Verify` is about the keys that were shown."""

    account: str


@value
class ListDevices(Command):
    """Ask for the devices of an account, by default our own: `Devices`."""

    account: str = ""


@value
class Verify(Command):
    """Note that the safety number of a key was compared, which was shown before (`ShowSafetyNumber`).

    `key`: its short form, if the account has shown more than one.
    """

    account: str
    key: str = ""


@value
class Trust(Command):
    """Accept another key of an account without comparing it; `key` as in `Verify`."""

    account: str
    key: str = ""


@value
class Distrust(Command):
    """Refuse a key of an account: nothing that is written goes to it. `key` as in `Verify`."""

    account: str
    key: str = ""


@value
class Confirm(Command):
    """Let what is held in a conversation go to those whom `Held` has named; `question`: the number in it."""

    conversation: bytes
    question: int


@value
class Unlock(Command):
    """Give the password that `PasswordWanted` asks for. It is kept no longer than what waits for it takes.

    Refused if it is not the vault's; done when what waited has been begun.
    """

    password: str = field(repr=False)


@value
class NameDevice(Command):
    """Call a device of ours, named as in `RevokeDevice`, by a name that nobody else sees; empty: by none any more."""

    device: str
    name: str


@value
class ChangePassword(Command):
    """Put another password in place of the one that opens vault and account: `PasswordReplaced`.

    Refused if the old one is wrong, the new one easy to guess, or there is no connection. Done when both have it. The
    account's other sessions end.
    """

    password: str = field(repr=False)
    new: str = field(repr=False)


@value
class TakePassword(Command):
    """Give the account's password, where the vault has an older one (`PasswordWanted`, `changed`).

    If it is the account's, it is the vault's from then on: `PasswordReplaced`. If not, it is wanted again.
    """

    password: str = field(repr=False)


@value
class DeleteAccount(Command):
    """Delete this account at the server, for good: `AccountDeleted`. `account`: its name again, so that it is meant.

    What we can leave is left first. With `wipe`, this vault is deleted as well once it is closed.
    """

    account: str
    password: str = field(repr=False)
    wipe: bool = False


@value
class ListSessions(Command):
    """Ask from where this account is logged in, and which devices can come back without the password: `OwnSessions`."""


@value
class EndSession(Command):
    """End the session of a device of this account, by its mark (`OwnSessions`): it needs the password then.

    Done when the server has done it. Of this device, only its right to come back without the password ends.
    """

    device: str


@value
class RevokeDevice(Command):
    """Revoke a device of this account, by its mark (`Devices`), once the password is at hand.

    From then on it speaks for the account no more: `DeviceRevoked`. To revoke this device is to give it a new key
    (`Rotate`), which no copy of its data has.
    """

    device: str


@value
class Succeed(Command):
    """Go on under a fresh identity key that the present one names as its successor, once the password is at hand.

    Our leaves go, and our conversations end: `IdentitySucceeded`.
    """


@value
class Rotate(Command):
    """Give this device a new signature key now, once the password is at hand (`events.PasswordWanted`).

    Also in the place of one that another program with our identity key has published (`events.OwnKeyUsed`).
    """


# --- reading ----------------------------------------------------------------------------------------------------------


@value
class Ignore(Command):
    """Hide an account's lines in open rooms on this device (`Ignored`), those that came before as well."""

    account: str


@value
class Unignore(Command):
    """Show them again."""

    account: str


@value
class Block(Command):
    """Hear nothing more of an account (`Blocked`): what it asks gets no answer, and its lines in private and in open
    rooms are hidden. It is not told."""

    account: str


@value
class Unblock(Command):
    """Hear it again, and what it has asked and said meanwhile."""

    account: str


@value
class Reconnect(Command):
    """Try to connect now, where the next try would come later by itself."""


@value
class ListContacts(Command):
    """Ask for the people on whom we have decided (`ContactList`); with `part`, for all people and rooms that we know
    whose names have it in them. Nobody else is asked.
    """

    part: str = ""


@value
class MarkShown(Command):
    """Note that everything that came in up to a line was shown."""

    local_id: int


@value
class Visit(Command):
    """Note that the user is in a conversation, and has seen what came in there up to a line. An empty id: in none.

    What came in after it is unread, also after a restart, and the user is found there again (`ChatClient.place`).
    Others may be told that what came before was read (`Prefer`): a program without a person does not visit.
    """

    conversation: bytes
    local_id: int = 0


@value
class MarkUnread(Command):
    """Let a line of others, and what came in after it in its conversation, be unread again: `Unread`."""

    local_id: int


@value
class Type(Command):
    """Note that the user types in a conversation, or has stopped: say so while it goes on.

    Others are told, those who are there, at most every three seconds, if that is preferred (`Prefer`).
    """

    conversation: bytes
    typing: bool = True


@value
class Link(Command):
    """Agree to direct links with the other one of a private conversation, and offer one now; or end that.

    For a link each side tells the other an address of its machine: `private`, one in a private network; `anywhere`,
    also a public one. `off`: no more of that. `LinkChanged` tells what comes of it.
    """

    conversation: bytes
    agreed: Literal["private", "anywhere", "off"] = "private"


@value
class Prefer(Command):
    """Prefer something, in one conversation (and in those that follow it) or else in all: `PreferenceChanged`.

    An empty `value`: what counts for all, or where nothing was said.
    """

    name: Preference
    value: str
    conversation: bytes = b""
