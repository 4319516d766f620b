"""What is said of events and states: the one place where an event becomes words, for every face.

A sentence is a value; how it looks is the face's business. Whatever others chose is cleaned here.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from securechat.client.events import (
    Alarm,
    AskedByLine,
    Connected,
    ConversationChanged,
    ConversationSnapshot,
    Delayed,
    Disconnected,
    Ended,
    Event,
    FirstContact,
    Gap,
    Held,
    Ignored,
    Invitation,
    InvitationDeclined,
    InvitationEnded,
    Invited,
    InviteLine,
    InviteLineMade,
    InviteLineRefused,
    InviteLines,
    InviteLineUsed,
    KeyAccepted,
    KeyChanged,
    KeyRefused,
    LoggedIn,
    MemberList,
    OperatorSpoke,
    OutOfStep,
    PresenceChanged,
    Refused,
    RoomList,
    SafetyNumber,
    Stopped,
    Trust,
    Unconfirmed,
    Unreachable,
    Waiting,
)
from securechat.ui.text.clean import clean, clean_line
from securechat.ui.text.trust import TRUST, beside

MAX_NAMED: Final = 20
"""People named in one sentence: what a screen holds."""

NAMES: Final = 10
"""Names shown in a row: more would be a screen of them."""

_PRESENCE: Final = {"online": "is online", "offline": "has gone", "dropped": "has lost the connection"}


@dataclass(frozen=True)
class Sentence:
    """Something said to the user. Its text is clean, and may have several lines."""

    kind: Literal["notice", "warning", "alarm"]
    """`warning`: should be read twice. `alarm`: somebody did what honest ones do not."""
    text: str


def _known_there(conversation: ConversationSnapshot, own: str) -> Iterator[Sentence]:
    """Say whom of those in a room the user knows, and who is there under another key. A leaf proves nothing more."""
    there = [each for each in zip(conversation.members, conversation.trust, strict=True) if each[0] != own]
    for trusts, tell, words in (
        (("accepted", "verified"), _notice, "Listed there, of those you know"),
        (("changed", "changed-verified", "refused"), _warning, "There under another key than the one you know"),
    ):
        names = [beside(clean_line(name), trust) for name, trust in there if trust in trusts]
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            yield tell(f"{words}: {', '.join(names[:MAX_NAMED])}{more}.")


def title(conversation: ConversationSnapshot | None) -> str:
    """Return a conversation's name: `#room`, its second title, or the other account."""
    return "a conversation" if conversation is None else clean_line(conversation.name)


def why_held(event: Held, conversation: ConversationSnapshot | None) -> str:
    """Return why a message waits, for whose keys, and what decides."""
    where = title(conversation)
    named = [f"{clean_line(each.account)} (key {each.key}: {TRUST[each.trust].words})" for each in event.whose]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    whose = ", ".join(named[:MAX_NAMED]) + more
    if event.after_absence:
        new = f" New there: {whose}." if named else ""
        return (
            f"Your message in {where} waits: you were away for more than a week, and nobody can prove that the server "
            f"shows the newest state.{new} See /who; an empty line (Enter alone) sends it."
        )
    first = event.whose[0]
    who = clean_line(first.account)
    which = f"{who} {first.key}"
    if event.question:
        return (
            f"Your message in {where} waits. Reading there: {whose}. /safety {who} shows the numbers; "
            f"an empty line (Enter alone) lets it go to them."
        )
    if first.trust == "refused":
        return (
            f"Your message in {where} is held for {whose}. You have refused that key: /trust {which} accepts it again; "
            f"/safety {who} shows what is known."
        )
    new = f"Either {who} has a new device, or somebody sits between you. " if first.trust != "unknown" else ""
    return (
        f"Your message in {where} is held for {whose}. {new}Compare /safety {who}, then /verify {which}; "
        f"/trust {which} goes on without comparing, /distrust {which} refuses it."
    )


def why_unreachable(event: Unreachable, conversation: ConversationSnapshot | None) -> str:
    """Return who will not get what is said, by the server's word, and what to do."""
    where, who, new = title(conversation), clean_line(event.account), event.new
    gone = f"the server says that {who} has no device any more under key {event.key}"
    direct = conversation is None or conversation.kind == "direct"
    text = (
        f"{who} will not get what you write, nor what was not read yet: {gone}"
        if direct
        else f"{who} does not get what is said in {where}: {gone}"
    )
    if new is None:
        return f"{text}. It waits here until {who} is back." if direct else f"{text}."
    text = f"{text}, but under {new.key} ({TRUST[new.trust].words}). "
    decide = f"Compare /safety {who}, then /verify {who} {new.key}; /trust {who} {new.key} goes on without comparing"
    if direct:
        return f"{text}What you write waits. {decide}, and what waits goes to that key."
    again = f"/invite {who} puts the new key in place of the old"
    return (
        f"{text}{again[0].upper()}{again[1:]}."
        if new.trust in ("accepted", "verified")
        else f"{text}{decide}. Then {again}."
    )


def absent(conversation: ConversationSnapshot) -> str:
    """Say of a conversation who will not get what is said there, by the server's word; empty: all will."""
    return f"{_names(conversation.absent)} will not get this" if conversation.absent else ""


def why_silent(conversation: ConversationSnapshot) -> str:
    """Return why nothing can be said in a conversation, and what to do; empty where something can."""
    where = title(conversation)
    match conversation.state:
        case "request":
            return f"{where} has asked to chat: answer with /accept {where} or /decline {where} first."
        case "closed":
            again = f"/chat {where} asks for a new one." if conversation.kind == "direct" else "/join it again."
            return f"The conversation {where} has ended. {again}"
        case "stopped":
            return f"{where} has stopped. /repair tries to rejoin it."
    return ""


def sentences(event: Event, conversation: ConversationSnapshot | None, own: str) -> Iterator[Sentence]:
    """Yield what is said of an event; messages are not said but shown.

    `conversation`: the one that the event is about, if any. `own`: our account.
    """
    where = title(conversation)
    match event:
        case Connected():
            yield _notice(f"Connected to {clean_line(event.server_name)}.")
            if event.greeting:
                yield _notice(f"The server's greeting: {clean(event.greeting)}")
        case Disconnected():
            seconds = max(1, round(event.retry_in))
            yield _notice(f"No connection: {clean_line(event.reason)} Trying again in {seconds} s.")
        case LoggedIn():
            yield _notice(f"{'Welcome back' if event.resumed else 'Welcome'}, {clean_line(event.account)}.")
        case Waiting():
            yield _notice(f"The server is full. You are number {event.place} in the queue and will be let in.")
        case Held():
            yield _warning(why_held(event, conversation))
        case Unreachable():
            yield _warning(why_unreachable(event, conversation))
        case FirstContact():
            who = clean_line(event.account)
            yield _notice(
                f"First contact with {who}, key {event.key}: until you have compared the numbers that /safety {who} "
                f"shows both of you, by phone or face to face, somebody else may be behind it. Then type /verify {who}."
            )
        case KeyChanged():
            who = clean_line(event.account)
            verified = " It is not the one you had verified!" if event.trust == "changed-verified" else ""
            refused = " It is one that you have refused." if event.trust == "refused" else ""
            decide = f"See /safety {who}; then /verify, /trust or /distrust {who} {event.key}."
            yield _warning(f"Another key claims to be {who}: {event.key}.{verified}{refused} {decide}")
        case KeyAccepted() | KeyRefused():
            yield from _of_decision(event)
        case SafetyNumber():
            yield from _of_safety_number(event)
        case ConversationChanged():
            yield from _of_change(event, own)
        case Invited():
            yield from _of_invitation(event.invitation)
        case InvitationEnded(invitation=ended):
            who, where = clean_line(ended.inviter), clean_line(ended.name)
            yield _notice(
                f"{who} has taken back the invitation to {where}. Nothing was read or sent."
                if event.why == "withdrawn"
                else f"The invitation to {where} by {who} has ended without an answer. Nothing was read or sent."
            )
        case InvitationDeclined():
            yield _notice(f"{clean_line(event.account)} does not want to come to {where}.")
        case InviteLineMade():
            yield from _of_new_line(event)
        case InviteLines(lines=()):
            yield _notice("You have given out no invite line that is still good. /invite-line makes one.")
        case InviteLines():
            yield from (_notice(_listed(each)) for each in event.lines)
        case InviteLineUsed():
            who = clean_line(event.account)
            added = f" {who} is being added to {clean_line(event.room)}." if event.room else ""
            yield _notice(
                f"{who} has come by your invite line: key {event.key} is accepted.{added} Whoever you gave the line to "
                f"holds this key; if somebody else read it on its way, /safety {who} shows it."
            )
        case InviteLineRefused():
            yield _warning(_of_refused_line(event))
        case AskedByLine():
            who = clean_line(event.account)
            into = f" to let you into {clean_line(event.room)}" if event.room else ""
            key = f"Key {event.key} of {who} " + ("is the one you know" if event.known else "is accepted by the line")
            yield _notice(f"Asked {who}{into}; {who} has to be online until {_day(event.until)}. {key}.")
        case PresenceChanged():
            yield _notice(f"{clean_line(event.account)} {_PRESENCE[event.state]}.")
        case OperatorSpoke():
            yield _of_operator(event, where, own)
        case Unconfirmed():
            yield _warning(
                f"{where} is {unconfirmed(event.since)}: no owner has been here, or the server withholds what they "
                "did. Who is listed may have been removed since; ask an owner."
            )
        case Gap():
            yield _warning(f"Messages in {where} are missing here: you were away too long, and they are deleted.")
        case OutOfStep():
            yield _warning(_out_of_step(event, where))
        case Alarm():
            yield Sentence("alarm", f"ALARM{f' in {where}' if conversation else ''}: {clean(event.text)}")
        case Stopped(passed_over=True):
            yield _warning(f"In {where} {_blame(event)} This device passes over it, and enters again by itself.")
        case Stopped():
            yield _warning(f"{where} has stopped: {_blame(event)} /repair tries to rejoin it.")
        case RoomList(rooms=()):
            yield _notice("There are no rooms yet. /join #lobby opens one.")
        case RoomList():
            for room in event.rooms:
                inside = ", you are in it" if room.joined else ""
                about = f": {clean_line(room.topic)}" if room.topic else ""
                yield _notice(f"{clean_line(room.name)}: {room.kind} room, {_people(room.members)}{inside}{about}")
        case MemberList():
            names = (_member(event, name, trust, online=online) for name, online, trust in event.members)
            yield _notice(f"In {where}: {', '.join(names)}")
            yield from _of_rules(conversation)
        case Ignored(ignored=True):
            who = clean_line(event.account)
            yield _notice(
                f"What {who} says in open rooms is hidden on this device from now on; /unignore {who} shows it again. "
                f"Elsewhere nothing changes, and {who} is not told."
            )
        case Ignored():
            yield _notice(f"What {clean_line(event.account)} says in open rooms is shown again.")
        case Refused(message=None, code=code) if code != "local":
            yield _warning(f"The server says: {clean(event.text)}")
        case Refused(message=None) | Delayed():
            yield _warning(clean(event.text))
        case Ended(error=error) if error is not None:
            yield _warning(clean(str(error)))


def _member(event: MemberList, name: str, trust: Trust, *, online: bool) -> str:
    states = {
        "will not get this: the server says that this device is gone": name in event.absent,
        "invited, has not answered": name in event.invited,
        "online": online and name not in event.absent and name not in event.invited,
        "ignored": name in event.ignored,
    }
    state = ", ".join(words for words, holds in states.items() if holds)
    return f"{beside(clean_line(name), trust)}{f' ({state})' if state else ''}"


def _of_invitation(invitation: Invitation) -> Iterator[Sentence]:
    """Ask about an invitation: what is proven, what is only listed, and what can be answered."""
    who, room, key = clean_line(invitation.inviter), clean_line(invitation.name), invitation.key[:4]
    if invitation.first_contact:
        yield _warning(
            f"Somebody whom the server calls {who} (first contact, key {key}) invites you to the room {room}. "
            f"Until you have compared /safety {who}, the server could be {who}."
        )
    else:
        yield _notice(f"{who} (key {key}) invites you to the room {room}.")
    if invitation.text:
        yield _notice(f"{who} says: {clean(invitation.text)}")
    if invitation.again:
        yield _notice(f"You were in {room} before. What was said there meanwhile cannot be read.")
    role = "" if invitation.role == "member" else f" You would be an {invitation.role}."
    yield _notice(f"It belongs to {_names(invitation.owners)} and lists {_names(invitation.members)}.{role}")
    if invitation.known:
        yield _notice(f"Listed under keys that you know: {_names(invitation.known)}. A list proves nothing.")
    yield _notice(f"/accept {room} enters it, /decline {room} stays out, /never {who} refuses all that {who} sends.")


def _of_new_line(event: InviteLineMade) -> Iterator[Sentence]:
    line = event.line
    where = f" into {clean_line(line.room)}" if line.room else ""
    yield _notice(f"One person can come in{where} by this line, until {_day(line.until)}. It is not shown again:")
    yield _notice(event.text)
    yield _notice(
        f"Give it to them in a way that nobody else reads: whoever uses it first is taken for them. They run "
        f"`securechat join` and paste it. /invite-lines revoke {line.mark} takes it back."
    )


def _listed(line: InviteLine) -> str:
    where = clean_line(line.room) if line.room else "nothing but a chat with you"
    used = f"used by {clean_line(line.user)} (key {line.key}) on {_day(line.used)}" if line.user else "not used yet"
    return f"Line {line.mark} to {where}, until {_day(line.until)}: {used}"


def _of_refused_line(event: InviteLineRefused) -> str:
    who, room = clean_line(event.account), clean_line(event.room) or "a chat with you"
    match event.why:
        case "used":
            first = f"{clean_line(event.user)} (key {event.user_key})"
            why = f"{first} has used it on {_day(event.used)}. One of the two is not the one that you gave it to"
        case "key":
            why = f"this is not the key of {who} that you know: see /safety {who}"
        case "no-right":
            why = "you cannot add anybody there any more"
        case "barred":
            why = f"{who} is barred there"
        case "inside":
            why = f"{who} is in it already"
    return f"{who} (key {event.key}) comes with your invite line to {room}, and is not let in by it: {why}."


def _day(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
    return f"{moment.day} {moment:%b %Y}"


def _names(accounts: tuple[str, ...]) -> str:
    """Return names in a row, of many the first ones."""
    shown = ", ".join(clean_line(account) for account in accounts[:NAMES])
    more = len(accounts) - NAMES
    return f"{shown} and {more} more" if more > 0 else shown or "nobody"


def _blame(event: Stopped) -> str:
    """Say of a commit that cannot be processed what is proven about whose fault it is."""
    who, reason = clean_line(event.culprit), clean_line(event.reason)
    if not who:
        return f"the server passed on a change that it had to refuse ({reason})."
    if not event.proven:
        return f"a change by {who} cannot be processed ({reason}); {who} made it so, or the server altered it."
    return (
        f"a change made by {who} cannot be processed ({reason}). If it stays like this, start a new conversation "
        f"without {who}."
    )


def _out_of_step(event: OutOfStep, where: str) -> str:
    match event.what:
        case "older-copy":
            return (
                f"The server shows that in {where} this device has said more than your data knows. It goes on with "
                "fresh keys. If you have not restored a backup, somebody else has a copy of your data, or the server "
                "says so falsely."
            )
        case "own-commit":
            when = time.strftime("%d %b %Y, %H:%M", time.localtime(event.time / 1000))
            return (
                f"This device changed something in {where} on {when} that it does not know: another copy of it did. "
                "Was that you? This one rejoins."
            )
        case "checkpoint":
            when = time.strftime("%d %b %Y", time.localtime(event.time / 1000))
            who = clean_line(event.account)
            return f"You were away from {where} too long to follow it. You are back on the word of {who}, of {when}."
        case "nothing-left":
            who = clean_line(event.account) or where
            return f"Nothing leads on from here in {where} any more: ask {who} to invite you again. What you say waits."
        case "cut-off":
            return f"The server has lost what leads on from here in {where}. What you say waits; /repair tries again."
        case "not-found":
            return (
                f"The server says that you are not in {where}: it has lost that, or somebody has removed you. What you "
                "say waits; /leave gives it up."
            )
        case "ahead":
            lost = f"{event.count} entries" if event.count else "what was said last"
            return f"The server was restored from a backup: in {where} it has lost {lost}. What you say waits."


def _of_decision(event: KeyAccepted | KeyRefused) -> Iterator[Sentence]:
    who, where = clean_line(event.account), ", ".join(map(clean_line, event.stops))
    lines = "1 waiting line" if event.lines == 1 else f"{event.lines} waiting lines"
    if isinstance(event, KeyRefused):
        said = f"Key {event.key} of {who} is refused: nothing that you write goes to it."
        said += f" That holds what you write in {where}." if where else ""
        yield _notice(said + (f" {lines} stay{'s' if event.lines == 1 else ''} there." if event.lines else ""))
        return
    how = "verified: you will be warned loudly if it changes." if event.verified else "trusted; it is not compared."
    said = f"Key {event.key} of {who} is {how}"
    said += f" {lines} go{'es' if event.lines == 1 else ''} to it." if event.lines else ""
    yield _notice(said + (f" Nothing more goes to another key of {who} in {where}." if where else ""))


def _of_safety_number(event: SafetyNumber) -> Iterator[Sentence]:
    who = clean_line(event.account)
    for each in event.keys:
        where = f"; in {', '.join(map(clean_line, each.conversations))}" if each.conversations else ""
        yield _notice(f"Safety number between you and {who}, key {each.key} ({TRUST[each.trust].words}{where}):")
        groups = each.number.split(" ")
        for row in range(0, len(groups), 4):
            yield _notice("    " + " ".join(groups[row : row + 4]))
    if len(event.keys) == 1:
        yield _notice(f"If {who} sees the same digits, nobody sits between you: type /verify {who}.")
    else:
        first = event.keys[0].key
        yield _warning(
            f"{who} has shown {len(event.keys)} keys. Find the digits that {who} sees, and type /verify {who} with the "
            f"key above them, as in /verify {who} {first}; /distrust {who} KEY refuses one."
        )


_STANDING: Final = {
    "owner": "an owner of",
    "no-owner": "no longer an owner of",
    "inviter": "allowed to invite others to",
    "no-inviter": "no longer allowed to invite others to",
    "barred": "barred from",
    "unbarred": "no longer barred from",
}


def _by(event: ConversationChanged, own: str) -> str:
    return f" (by {'you' if event.by == own else clean_line(event.by)})" if event.by else ""


def _of_rules(conversation: ConversationSnapshot | None) -> Iterator[Sentence]:
    if conversation is None:
        return
    for what, accounts in (("Owners", conversation.owners), ("May invite", conversation.inviters)):
        if accounts:
            yield _notice(f"{what}: {', '.join(map(clean_line, accounts))}")
    if conversation.topic:
        yield _notice(f"Topic: {clean_line(conversation.topic)}")


def _of_change(event: ConversationChanged, own: str) -> Iterator[Sentence]:
    conversation = event.conversation
    where, who = title(conversation), clean_line(event.account)
    by_us = event.account in ("", own)
    direct = conversation.kind == "direct"
    match event.change:
        case "opened" if direct:
            asked = conversation.state == "requested"
            yield _notice(f"You have asked {where} to chat." if asked else f"Your conversation with {where} is open.")
        case "opened":
            yield _notice(f"You have opened the room {where}.")
        case "joined" if not by_us:
            yield _notice(f"{who} has entered {where}.")
            if conversation.owners == (own,) and len(conversation.members) == 2:
                yield _notice(f"You alone own {where}. /owner add {who} shares it, should your device be lost.")
        case "joined":
            count = _people(len(conversation.members))
            opened = " Whoever runs this server can walk in." if conversation.kind == "open" else ""
            yield _notice(f"You are in {where} ({count}). Earlier messages cannot be read.{opened}")
            yield from _known_there(conversation, own)
        case "new-device":
            yield _notice(f"{who} is in {where} with a new device.")
        case "new-key" if event.by:
            by = "You have" if event.by == own else f"{clean_line(event.by)} has"
            yield _notice(f"{by} put the new key of {who} in place of the old in {where}. /safety {who} shows it.")
        case "new-key":
            yield _warning(f"{who} is in {where} under another key than before. /safety {who} shows it.")
        case "re-entered":
            yield _notice(f"The device of {who} has re-entered {where}.")
        case "request":
            yield _notice(f"{where} asks to chat with you: /accept {where} or /decline {where}.")
            standing = conversation.trust_in(conversation.name)
            if standing == "unknown":
                yield _notice(
                    f"It is the first you hear of {where}: until you have compared the numbers that /safety {where} "
                    f"shows both of you, somebody else may be behind that name."
                )
            elif standing not in (None, "accepted", "verified"):
                yield _warning(f"This is {beside(where, standing)}: {TRUST[standing].words}. See /safety {where}.")
        case "accepted":
            yield _notice(f"You can talk with {where} now." if by_us else f"{who} has accepted.")
        case "declined":
            yield _notice(f"You have declined the chat with {where}." if by_us else f"{who} has declined.")
        case "bye":
            yield _notice(
                f"You have said bye to {where}; the chat ends when {where} says it too."
                if by_us
                else f"{who} has said bye. /bye ends the chat."
            )
        case "closed":
            again = f" /chat {where} asks for a new one." if direct else ""
            yield _notice(f"The conversation {where} has ended.{again}")
        case "beside":
            yield _warning(
                f"{where} has opened a second private conversation, under the same key. The first one goes on; "
                f"/leave {where} goes over to the second."
            )
        case "members":
            how = dict(zip(conversation.members, conversation.trust, strict=False))
            names = ", ".join(beside(clean_line(name), how.get(name, "unknown")) for name in conversation.members)
            yield _notice(f"Now in {where}{'' if by_us else f', changed by {who}'}: {names}")
        case "renamed":
            yield _notice(f"The room is called {where} now{_by(event, own)}.")
        case "namesake":
            known = clean_line(event.account)
            yield _warning(
                f"This room is called {known}, too. You know another one by that name, which keeps it here; the "
                f"new one is {where}, and /go {where} talks there."
            )
        case "topic":
            about = f": {clean_line(event.account)}" if event.account else " is gone."
            yield _notice(f"The topic of {where}{_by(event, own)}{about} (the server can read topics)")
        case "owner" | "no-owner" | "inviter" | "no-inviter" | "barred" | "unbarred":
            subject = "You are" if event.account == own else f"{who} is"
            yield _notice(f"{subject} {_STANDING[event.change]} {where}{_by(event, own)}.")
        case "merged":
            pass  # it is one conversation to the user
        case "left" if direct and by_us:
            pass  # the user was told already that it has ended
        case "left" if direct:
            yield _notice(f"{who} has left. /chat {where} asks for a new conversation.")
        case "left":
            yield _notice(f"You have left {where}." if by_us else f"{who} has left {where}.")
        case "removed" if conversation.state == "closed":
            yield _warning(f"You were removed from {where}{'' if by_us else f' by {who}'}.")
        case "removed":
            yield _notice(f"{who} was removed from {where}.")


def _of_operator(event: OperatorSpoke, where: str, own: str) -> Sentence:
    who, by = clean_line(event.account), "The operator of this server"
    match event.action:
        case "bar" if event.account == own:
            return _warning(f"{by} removed you from {where}; you are barred until the operator lets you in again.")
        case "remove" if event.account == own:
            return _warning(f"{by} removed you from {where}.")
        case "bar":
            return _notice(f"{by} barred {who} from {where}.")
        case "remove":
            return _notice(f"{by} removed {who} from {where}.")
        case "unbar":
            return _notice(f"{by} lets {who} into {where} again.")
        case "upgrade":
            return _notice(f"{by} has {where} go over to newer rules, as soon as every program there knows them.")
        case "site-key":
            return _warning(f"{by} has a new key for {where}, signed by the old one.")


def _notice(text: str) -> Sentence:
    return Sentence("notice", text)


def _warning(text: str) -> Sentence:
    return Sentence("warning", text)


def unconfirmed(since: int) -> str:
    """Say of a room that no owner has signed its state since then (ms since 1970)."""
    return f"not confirmed by an owner since {_day(since)}"


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"
