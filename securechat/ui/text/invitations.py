"""What is said of invitations and invite lines: who asks whom in, and what is proven of that."""

from collections.abc import Iterator

from securechat.clean import clean, clean_line
from securechat.client.events import (
    AskedByLine,
    Event,
    InvitationDeclined,
    InvitationEnded,
    InvitationsMissed,
    Invited,
    InviteLine,
    InviteLineMade,
    InviteLineRefused,
    InviteLines,
    InviteLineUsed,
)
from securechat.client.snapshot import Invitation
from securechat.ui.text.conversations import PROVES_NOTHING
from securechat.ui.text.wording import Sentence, day_of, names_of, notice, warning


def said(event: Event, where: str) -> Iterator[Sentence]:
    """Yield what is said of an event, if it is one of these."""
    match event:
        case Invited():
            yield from _of_invitation(event.invitation)
        case InvitationEnded(invitation=ended):
            who, where = clean_line(ended.inviter), clean_line(ended.name)
            yield notice(
                f"{who} has taken back the invitation to {where}. Nothing was read or sent."
                if event.why == "withdrawn"
                else f"The invitation to {where} by {who} has ended without an answer. Nothing was read or sent."
            )
        case InvitationDeclined():
            yield notice(f"{clean_line(event.account)} does not want to come to {where}.")
        case InviteLineMade():
            yield from _of_new_line(event)
        case InviteLines(lines=()):
            yield notice("You have given out no invite line that is still good. /invite-line makes one.")
        case InviteLines():
            yield from (notice(_listed(each)) for each in event.lines)
        case InviteLineUsed():
            who = clean_line(event.account)
            added = f" {who} is being added to {clean_line(event.room)}." if event.room else ""
            yield notice(
                f"{who} has come by your invite line: key {event.key} is accepted.{added} Whoever you gave the line to "
                f"holds this key; if somebody else read it on its way, /safety {who} shows it."
            )
        case InviteLineRefused():
            yield warning(_of_refused_line(event))
        case AskedByLine():
            who = clean_line(event.account)
            into = f" to let you into {clean_line(event.room)}" if event.room else ""
            key = f"Key {event.key} of {who} " + ("is the one you know" if event.known else "is accepted by the line")
            yield notice(f"Asked {who}{into}; {who} has to be online until {day_of(event.until)}. {key}.")
        case InvitationsMissed():
            yield warning(
                f"Invitations and first messages that went from the server before this device had read them: "
                f"{event.count}. They were too long there, or a copy of this device's data has read them. Whoever sent "
                "them can do so again; nobody tells them."
            )


def _of_invitation(invitation: Invitation) -> Iterator[Sentence]:
    """Ask about an invitation: what is proven, what is only listed, and what can be answered."""
    who, room, key = clean_line(invitation.inviter), clean_line(invitation.name), invitation.key[:4]
    role = "" if invitation.role == "member" else f" You would be an {invitation.role}."
    if invitation.first_contact:
        again = " You were in it before." if invitation.again else ""
        says = f', saying "{clean_line(invitation.text)}"' if invitation.text else ""
        yield warning(
            f"Somebody whom the server calls {who} (first contact, key {key}) invites you to the room {room} of "
            f"{names_of(invitation.owners)}{says}. Until you have compared /safety {who}, the server could be {who}."
            f"{again}{role} /accept {room} enters it, /decline {room} stays out, /block {who} hears no more of {who}."
        )
        return
    yield notice(f"{who} (key {key}) invites you to the room {room}.")
    if invitation.text:
        yield notice(f"{who} says: {clean(invitation.text)}")
    if invitation.again:
        yield notice(f"You were in {room} before. What was said there meanwhile cannot be read.")
    yield notice(f"It belongs to {names_of(invitation.owners)} and lists {names_of(invitation.members)}.{role}")
    if known := tuple(name for name in invitation.known if name != invitation.inviter):
        yield notice(f"Listed there under keys that you know: {names_of(known)}. {PROVES_NOTHING}")
    yield notice(f"/accept {room} enters it, /decline {room} stays out, /never {who} refuses all that {who} sends.")


def _of_new_line(event: InviteLineMade) -> Iterator[Sentence]:
    line = event.line
    where = f"to {clean_line(line.room)}" if line.room else ""
    yield notice(f"One person can come in{where} by this line, until {day_of(line.until)}. It is not shown again:")
    yield notice(event.text)
    yield notice(
        f"Give it to them in a way that nobody else reads: whoever uses it first is taken for them. They run "
        f"`securechat join` and paste it. /invite-lines revoke {line.mark} takes it back."
    )


def _listed(line: InviteLine) -> str:
    where = clean_line(line.room) if line.room else "nothing but a chat with you"
    used = f"used by {clean_line(line.user)} (key {line.key}) on {day_of(line.used)}" if line.user else "not used yet"
    return f"Line {line.mark} to {where}, until {day_of(line.until)}: {used}"


def _of_refused_line(event: InviteLineRefused) -> str:
    who, room = clean_line(event.account), clean_line(event.room) or "a chat with you"
    match event.why:
        case "used":
            first = f"{clean_line(event.user)} (key {event.user_key})"
            why = f"{first} has used it on {day_of(event.used)}. One of the two is not the one that you gave it to"
        case "key":
            why = f"this is not the key of {who} that you know: see /safety {who}"
        case "no-right":
            why = "you cannot add anybody there any more"
        case "barred":
            why = f"{who} is barred there"
        case "inside":
            why = f"{who} is in it already"
    return f"{who} (key {event.key}) comes with your invite line to {room}, and is not let in by it: {why}."
