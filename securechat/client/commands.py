"""Commands: what a front end can ask of the client core. Frozen values, the mirror of `events`.

A command is handed over with `ChatClient.do` and carried out later, on the core's own thread. It is answered once, by
`events.Done` or by `events.Refused` with its id; what happens on the way (a line that is kept, a conversation that
opens) names it, too. A command that had no answer when the program ended may still take effect: its changes are in the
vault.
"""

import itertools
from dataclasses import dataclass, field
from typing import Final

_ids: Final = itertools.count(1)


@dataclass(frozen=True)
class Command:
    """Base of all commands. `id` is unique within the process; two commands are equal if they ask for the same."""

    id: int = field(default_factory=lambda: next(_ids), kw_only=True, compare=False)


# --- talking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send(Command):
    """Say something. `Said` when it is in the vault; done when the server has it on disk (`Delivered`)."""

    conversation: bytes
    text: str = field(repr=False)


@dataclass(frozen=True)
class OpenDirect(Command):
    """Talk to somebody, in the existing conversation or in a new one; with `ask` they accept or decline first.

    Works for people who are offline, and while we are. Done when the conversation is open and `text`, if there is one,
    is delivered.
    """

    account: str
    text: str = field(default="", repr=False)
    ask: bool = field(kw_only=True)


@dataclass(frozen=True)
class Accept(Command):
    """Say yes to somebody who asks to talk. Done when the server has it."""

    conversation: bytes


@dataclass(frozen=True)
class Decline(Command):
    """Say no to somebody who asks to talk, which closes the conversation. Done when the server has it."""

    conversation: bytes


@dataclass(frozen=True)
class Bye(Command):
    """Say goodbye in a direct conversation; it closes when both have. Done when the server has it."""

    conversation: bytes


@dataclass(frozen=True)
class Leave(Command):
    """Leave for good, after everything said before is in the log. Done when we are out."""

    conversation: bytes


@dataclass(frozen=True)
class Repair(Command):
    """Resync a conversation that has stopped. Done when we are in."""

    conversation: bytes


# --- rooms ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JoinRoom(Command):
    """Enter an open room; if there is none of that name, make it. Done when we are in."""

    name: str


@dataclass(frozen=True)
class CreateRoom(Command):
    """Make an invite room that we own. Done when it exists."""

    name: str


@dataclass(frozen=True)
class Invite(Command):
    """Invite somebody to an invite room. Done when the server has the commit that adds them and the invitation.

    It accepts their key, as writing to them does.
    """

    conversation: bytes
    account: str


@dataclass(frozen=True)
class AcceptInvitation(Command):
    """Enter a room that we are invited to (`Invited`). Done when we are in.

    `question`: the number in the invitation.
    """

    conversation: bytes
    question: int


@dataclass(frozen=True)
class DeclineInvitation(Command):
    """Stay out of a room that we are invited to. With `never`, the same for all that this inviter sends later.

    `question`: the number in the invitation.
    """

    conversation: bytes
    question: int
    never: bool = False


@dataclass(frozen=True)
class MakeInviteLine(Command):
    """Make a line by which one person can come in: `InviteLineMade`. `room`: its name; empty: only to talk with us.

    `days`: how long it is good, at most 14. `code`: one to register with, for servers that ask for it.
    """

    room: str = ""
    days: int = 7
    code: str = field(default="", repr=False)


@dataclass(frozen=True)
class ListInviteLines(Command):
    """Ask for the lines that were given out and have not ended: `InviteLines`."""


@dataclass(frozen=True)
class RevokeInviteLine(Command):
    """Take a line back, by its mark or the beginning of it: nobody is let in by it any more. `InviteLines` follows."""

    mark: str


@dataclass(frozen=True)
class UseInviteLine(Command):
    """Come in by a line: `AskedByLine`. It accepts the inviter's key. Done when the server has what asks them.

    Once the inviter's client has answered, we are in the room without another question.
    """

    line: str = field(repr=False)


@dataclass(frozen=True)
class Remove(Command):
    """Remove somebody from a room that we own. Done when a commit has removed them."""

    conversation: bytes
    account: str


@dataclass(frozen=True)
class SetOwner(Command):
    """Make a member an owner of a room that we own, or no longer. Done when a commit has made it so."""

    conversation: bytes
    account: str
    owner: bool


@dataclass(frozen=True)
class SetInviter(Command):
    """Let a member of an invite room that we own invite others, or no longer. Done when a commit has made it so."""

    conversation: bytes
    account: str
    inviter: bool


@dataclass(frozen=True)
class Bar(Command):
    """Keep an account out of a room that we own; if it is in, it is removed. Done when a commit has made it so."""

    conversation: bytes
    account: str


@dataclass(frozen=True)
class Unbar(Command):
    """Let an account that was barred enter again. Done when a commit has made it so."""

    conversation: bytes
    account: str


@dataclass(frozen=True)
class SetTopic(Command):
    """Say what a room that we own is about; the server can read it. Done when a commit has made it so."""

    conversation: bytes
    topic: str


@dataclass(frozen=True)
class Rename(Command):
    """Give a room that we own another name. Done when a commit has made it so."""

    conversation: bytes
    name: str


@dataclass(frozen=True)
class ListRooms(Command):
    """Ask the server for the rooms one could enter: `RoomList`."""


@dataclass(frozen=True)
class ListMembers(Command):
    """Ask who is in a conversation, and online: `MemberList`."""

    conversation: bytes


# --- trust ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShowSafetyNumber(Command):
    """Ask for the numbers to compare with an account: `SafetyNumber`. `Verify` is about the keys that were shown."""

    account: str


@dataclass(frozen=True)
class Verify(Command):
    """Note that the safety number of a key was compared, which was shown before (`ShowSafetyNumber`).

    `key`: its short form, if the account has shown more than one.
    """

    account: str
    key: str = ""


@dataclass(frozen=True)
class Trust(Command):
    """Accept another key of an account without comparing it; `key` as in `Verify`."""

    account: str
    key: str = ""


@dataclass(frozen=True)
class Distrust(Command):
    """Refuse a key of an account: nothing that is written goes to it. `key` as in `Verify`."""

    account: str
    key: str = ""


@dataclass(frozen=True)
class Confirm(Command):
    """Let what is held in a conversation go to those whom `Held` has named; `question`: the number in it."""

    conversation: bytes
    question: int


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ignore(Command):
    """Hide an account's lines in open rooms on this device (`Ignored`), those that came before as well."""

    account: str


@dataclass(frozen=True)
class Unignore(Command):
    """Show them again."""

    account: str


@dataclass(frozen=True)
class MarkShown(Command):
    """Note that the user has seen everything that came in up to a line."""

    local_id: int
