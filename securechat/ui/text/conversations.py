"""What is said of conversations: who comes and goes, what is changed there, and whether it can go on."""

import time
from collections.abc import Iterator, Mapping
from typing import Final

from securechat.clean import clean_line
from securechat.client.events import (
    Blocked,
    ConversationChanged,
    Event,
    Gap,
    Ignored,
    MemberList,
    NotRegained,
    OperatorSpoke,
    OutOfStep,
    PresenceChanged,
    RoomList,
    Stopped,
    Trust,
    Unconfirmed,
    Unread,
)
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.text.states import ENDS, MISSING, unconfirmed
from securechat.ui.text.trust import ACCEPTED, AGAINST, TRUST, as_listed, beside
from securechat.ui.text.wording import (
    MAX_NAMED,
    Sentence,
    in_words,
    life_of,
    moment_of,
    names_of,
    notice,
    people,
    title,
    warning,
)

PROVES_NOTHING: Final = "Whoever makes a room can list anybody: until you hear them there, that speaks for nobody."
"""Said wherever those whom one knows are named."""

_PRESENCE: Final = {
    "online": ("is online", "are online"), "offline": ("has gone", "have gone"),
    "dropped": ("has lost the connection", "have lost the connection"),
}  # fmt: skip

_STANDING: Final = {
    "owner": "an owner of",
    "no-owner": "no longer an owner of",
    "inviter": "allowed to invite others to",
    "no-inviter": "no longer allowed to invite others to",
    "barred": "barred from",
    "unbarred": "no longer barred from",
}


def presence(states: Mapping[str, str]) -> Iterator[Sentence]:
    """Say who has come or gone: states by account."""
    parts = []
    for state, (one, several) in _PRESENCE.items():
        if accounts := [account for account, now in states.items() if now == state]:
            parts.append(f"{names_of(tuple(accounts))} {one if len(accounts) == 1 else several}")
    if parts:
        yield notice(f"{'; '.join(parts)}.")


def changed_more(account: str, count: int, conversation: ConversationSnapshot | None) -> Sentence:
    """Say how much more somebody has edited, deleted or reacted to than was told one by one."""
    things = "1 more thing" if count == 1 else f"{count:,} more things"
    where = in_words(conversation)
    return notice(f"{clean_line(account)} has changed {things} in {where}: /history shows what is there.")


def said(event: Event, conversation: ConversationSnapshot | None, own: str) -> Iterator[Sentence]:
    """Yield what is said of an event, if it is one of these."""
    where = title(conversation)
    match event:
        case ConversationChanged():
            yield from _of_change(event, own)
        case PresenceChanged():
            yield from presence({event.account: event.state})
        case OperatorSpoke():
            yield _of_operator(event, where, own)
        case Unconfirmed():
            yield warning(
                f"{where} is {unconfirmed(event.since)}: no owner has been here, or the server withholds what they "
                "did. Who is listed may have been removed since; ask an owner."
            )
        case Gap():
            yield warning(f"Messages in {in_words(conversation)} are missing here: {MISSING[event.why]}")
        case NotRegained():
            ask = f" Ask {clean_line(event.account)} to invite you again." if event.account else ""
            yield warning(
                f"{where} is in your keepsake, and was not entered. {clean_line(event.why)} It is tried again at each "
                f"new connection.{ask}"
            )
        case OutOfStep():
            yield warning(_out_of_step(event, where, conversation))
        case Stopped(passed_over=True):
            there = in_words(conversation)
            yield warning(f"In {there} {_blame(event)} This device passes over it, and enters again by itself.")
        case Stopped():
            yield warning(f"{where} has stopped: {_blame(event)} /repair tries to rejoin it.")
        case RoomList(rooms=()):
            yield notice("There are no rooms yet. /join #lobby opens one.")
        case RoomList():
            for room in event.rooms:
                inside = ", you are in it" if room.joined else ""
                about = f": {clean_line(room.topic)}" if room.topic else ""
                yield notice(f"{clean_line(room.name)}: {room.kind} room, {people(room.members)}{inside}{about}")
            if outside := [room for room in event.rooms if room.kind == "open" and not room.joined]:
                yield notice(f"/join {clean_line(outside[0].name)} enters it.")
        case MemberList():
            names = (_member(event, name, trust, own, online=online) for name, online, trust in event.members)
            yield notice(f"In {in_words(conversation)}: {', '.join(names)}")
            yield from _of_rules(conversation)
        case Unread(lines=lines):
            count = "1 message" if lines == 1 else f"{lines:,} messages"
            yield notice(f"{count} in {in_words(conversation)} will be there as new again.")
        case Blocked(blocked=True):
            who = clean_line(event.account)
            yield notice(
                f"You hear nothing more of {who} in private and in open rooms; {who} gets no answer, and is not told. "
                f"/unblock {who} ends that, and shows what {who} has asked and said meanwhile."
            )
        case Blocked():
            yield notice(f"{clean_line(event.account)} is heard again.")
        case Ignored(ignored=True):
            who = clean_line(event.account)
            yield notice(
                f"What {who} says in open rooms is hidden on this device from now on; /unignore {who} shows it again. "
                f"Elsewhere nothing changes, and {who} is not told."
            )
        case Ignored():
            yield notice(f"What {clean_line(event.account)} says in open rooms is shown again.")


def _of_change(event: ConversationChanged, own: str) -> Iterator[Sentence]:
    conversation = event.conversation
    where, who = title(conversation), clean_line(event.account)
    by_us = event.account in ("", own)
    direct = conversation.kind == "direct"
    match event.change:
        case "opened" if direct:
            asked = conversation.state == "requested"
            begins = f"A private chat with {where} begins; {where} has yet to agree."
            yield notice(begins if asked else f"Your conversation with {where} is open.")
        case "opened":
            yield notice(f"You have opened the room {where}.")
        case "joined" if not by_us:
            came = f"is invited to {where}{_by(event, own)}" if event.by else f"has entered {where}"
            yield notice(f"{who} {came}.")
            if conversation.owners == (own,) and len(conversation.members) == 2:
                yield notice(f"You alone own {where}. /owner add {who} shares it, should your device be lost.")
        case "joined":
            count = people(len(conversation.members))
            opened = " Whoever runs this server can walk in." if conversation.kind == "open" else ""
            yield notice(f"You are in {where} ({count}). Earlier messages cannot be read.{opened}")
            yield from _known_there(conversation, own)
        case "entered":
            yield notice(f"{who} has entered {where}.")
        case "recovered" if direct:
            yield notice(f"You can talk with {where} from this device.")
        case "recovered":
            yield notice(f"You are back in {where} ({people(len(conversation.members))}) with this device.")
        case "new-device" if direct:
            yield notice(f"{who} has a new device.")
        case "new-device":
            yield notice(f"{who} is in {where} with a new device.")
        case "new-key" if event.by:
            by = "You have" if event.by == own else f"{clean_line(event.by)} has"
            yield notice(f"{by} put the new key of {who} in place of the old in {where}. /safety {who} shows it.")
        case "new-key":
            yield warning(f"{who} is in {where} under another key than before. /safety {who} shows it.")
        case "re-entered" if direct:
            yield notice(f"The device of {who} has re-entered your conversation.")
        case "re-entered":
            yield notice(f"The device of {who} has re-entered {where}.")
        case "request":
            standing = conversation.trust_in(conversation.name)
            new = standing == "unknown"
            first = f", of whom you hear for the first time (/safety {where} shows who it is)," if new else ""
            yield notice(f"{where}{first} asks to chat with you: /accept {where} or /decline {where}.")
            if not new and standing is not None and standing not in ACCEPTED:
                yield warning(f"This is {beside(where, standing)}: {TRUST[standing].words}. See /safety {where}.")
        case "accepted":
            yield notice(f"You can talk with {where} now." if by_us else f"{who} has accepted.")
        case "declined":
            yield notice(f"You have declined the chat with {where}." if by_us else f"{who} has declined.")
        case "bye":
            yield notice(
                f"You have said bye to {where}; the chat ends when {where} says it too."
                if by_us
                else f"{who} has said bye. /bye ends the chat."
            )
        case "closed" | "leaving" | "not-opened" | "given-up":
            yield notice(ENDS[event.change, conversation.kind == "direct"].format(where))
        case "beside":
            yield warning(
                f"{where} has opened a second private conversation, under the same key. The first one goes on; "
                f"/leave {where} goes over to the second."
            )
        case "members":
            how = dict(zip(conversation.members, conversation.trust, strict=False))
            names = ", ".join(
                beside(
                    clean_line(name),
                    as_listed(how.get(name, "unknown"), heard=name == own or name in conversation.heard),
                )
                for name in conversation.members
            )
            yield notice(f"Now in {where}{'' if by_us else f', changed by {who}'}: {names}")
        case "revoked" if event.account == own:
            yield warning(
                f"This device was revoked by another program with your identity key, and takes no part in {where} now. "
                "If that was not you, /rotate brings it back; see /devices."
            )
        case "revoked" if direct:
            yield notice(f"{who} has revoked the device that you were talking to: it gets nothing more.")
        case "revoked":
            yield notice(
                f"{who} has revoked the device that is in {where}: it gets nothing more and is taken out."
            )
        case "succeeded" if event.account == own:
            yield warning(f"Your account goes on under another identity key, which is not in {where}.")
        case "succeeded" if direct:
            yield notice(f"{who} goes on under another key: what you write next opens a new private chat with it.")
        case "succeeded":
            yield notice(
                f"{who} goes on under another key: the old one gets nothing more in {where} and is taken out. "
                f"/invite {who} brings the new one in: whoever may invite can, and anybody where nobody else may."
            )
        case "renamed":
            yield notice(f"The room is called {where} now{_by(event, own)}.")
        case "namesake":
            known = clean_line(event.account)
            yield warning(
                f"This room is called {known}, too. You know another one by that name, which keeps it here; the "
                f"new one is {where}, and /go {where} talks there."
            )
        case "topic":
            about = f": {clean_line(event.account)}" if event.account else " is gone."
            yield notice(f"The topic of {where}{_by(event, own)}{about} (the server can read topics)")
        case "life":
            seconds = int(event.account)
            about = f"goes {life_of(seconds)} after it was said" if seconds else "stays"
            yield notice(
                f"What is said in {in_words(conversation)} from now on {about}{_by(event, own)}; that holds for the "
                "history of programs like this one, and not for what somebody copies."
            )
        case "owner" | "no-owner" | "inviter" | "no-inviter" | "barred" | "unbarred":
            subject = "You are" if event.account == own else f"{who} is"
            yield notice(f"{subject} {_STANDING[event.change]} {where}{_by(event, own)}.")
        case "merged":
            pass  # it is one conversation to the user
        case "left" if direct and by_us:
            pass  # the user was told already that it has ended
        case "left" if direct:
            yield notice(f"{who} has left. /chat {where} asks for a new conversation.")
        case "left":
            yield notice(f"You have left {where}." if by_us else f"{who} has left {where}.")
        case "stayed-out":
            yield notice(f"{who} is not invited to {where} any more.")
        case "removed" if conversation.state == "closed":
            yield warning(f"You were removed from {where}{'' if by_us else f' by {who}'}.")
        case "removed":
            yield notice(f"{who} was removed from {where}{_by(event, own)}.")


def _by(event: ConversationChanged, own: str) -> str:
    return f" (by {'you' if event.by == own else clean_line(event.by)})" if event.by else ""


def _known_there(conversation: ConversationSnapshot, own: str) -> Iterator[Sentence]:
    """Say who is listed in a room under a key that the user knows, and who under another one. No leaf proves more."""
    there = [each for each in zip(conversation.members, conversation.trust, strict=True) if each[0] != own]
    for trusts, tell, words, remark in (
        (ACCEPTED, notice, "Listed there under keys that you know", f" {PROVES_NOTHING}"),
        (AGAINST, warning, "There under another key than the one you know", ""),
    ):
        names = [
            beside(clean_line(name), as_listed(trust, heard=name in conversation.heard))
            for name, trust in there
            if trust in trusts
        ]
        if names:
            more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
            yield tell(f"{words}: {', '.join(names[:MAX_NAMED])}{more}.{remark}")


def _member(event: MemberList, name: str, trust: Trust, own: str, *, online: bool) -> str:
    heard = name in event.heard
    states = {
        "you": name == own,
        "will not get this: the server says that this device is gone": name in event.absent,
        "invited, has not answered": name in event.invited,
        "heard here since you came": name != own and heard,
        "listed": name != own and not heard and name not in event.invited,
        "online": online and name not in event.absent and name not in event.invited,
        "ignored": name in event.ignored,
    }
    state = ", ".join(words for words, holds in states.items() if holds)
    sign = beside(clean_line(name), as_listed(trust, heard=heard or name == own))
    return f"{sign}{f' ({state})' if state else ''}"


def _of_rules(conversation: ConversationSnapshot | None) -> Iterator[Sentence]:
    if conversation is None:
        return
    for what, accounts in (("Owners", conversation.owners), ("May invite", conversation.inviters)):
        if accounts:
            yield notice(f"{what}: {', '.join(map(clean_line, accounts))}")
    if conversation.life:
        yield notice(f"What is said here goes {life_of(conversation.life)} after it was said.")
    if conversation.topic:
        yield notice(f"Topic: {clean_line(conversation.topic)}")


def _of_operator(event: OperatorSpoke, where: str, own: str) -> Sentence:
    who, by = clean_line(event.account), "The operator of this server"
    match event.action:
        case "bar" if event.account == own:
            return warning(f"{by} removed you from {where}; you are barred until the operator lets you in again.")
        case "remove" if event.account == own:
            return warning(f"{by} removed you from {where}.")
        case "bar":
            return notice(f"{by} barred {who} from {where}.")
        case "remove":
            return notice(f"{by} removed {who} from {where}.")
        case "unbar":
            return notice(f"{by} lets {who} into {where} again.")
        case "upgrade":
            return notice(f"{by} has {where} go over to newer rules, as soon as every program there knows them.")
        case "site-key":
            return warning(f"{by} has a new key for {where}, signed by the old one.")


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


def _out_of_step(event: OutOfStep, where: str, conversation: ConversationSnapshot | None) -> str:
    there = in_words(conversation)
    direct = conversation is not None and conversation.kind == "direct"
    match event.what:
        case "older-copy":
            return (
                f"The server shows that in {there} this device has said more than your data knows{_on(event.time)}. It "
                "goes on with fresh keys. Have you restored a backup? If not, somebody else has a copy of your data, "
                "or the server says so falsely: /rotate leaves a copy without a key."
            )
        case "own-commit":
            when = moment_of(event.time)
            return (
                f"This device changed something in {there} on {when} that it does not know: another copy of it did. "
                "Was that you? This one rejoins. If it was not, somebody has a copy of your data: /rotate leaves it "
                "without a key."
            )
        case "checkpoint":
            when = time.strftime("%d %b %Y", time.localtime(event.time / 1000))
            who = clean_line(event.account)
            return f"You were away from {there} too long to follow it. You are back on the word of {who}, of {when}."
        case "nothing-left" if direct:
            return (
                f"Nothing leads on from here in {there} any more. /leave {where}, and ask {where} to do the same: "
                f"/chat {where} then opens another chat, under the key that you know. What you say here waits."
            )
        case "nothing-left":
            who = clean_line(event.account) or where
            return f"Nothing leads on from here in {where} any more: ask {who} to invite you again. What you say waits."
        case "cut-off":
            return f"The server has lost what leads on from here in {there}. What you say waits; /repair tries again."
        case "not-found" if direct:
            return (
                f"The server says that it knows of no chat between you and {where}. What you say waits. If it was "
                "restored from a backup, another chat opens by itself, under the key that you know; /leave gives it up."
            )
        case "not-found":
            return (
                f"The server says that you are not in {where}: it has lost or deleted it, or somebody has removed you. "
                "What you say waits; /leave gives it up."
            )
        case "anew":
            lines = "1 message" if event.count == 1 else f"{event.count} messages"
            unsure = f" {lines} of yours may not have arrived." if event.count else ""
            return (
                f"The end of your chat with {where} is lost, to the server or to one of you, as when a backup is put "
                f"back: it goes on anew, under the key that you know.{unsure}"
            )
        case "ahead":
            lost = f"{event.count} entries" if event.count else "what was said last"
            return f"The server was restored from a backup: in {there} it has lost {lost}. What you say waits."


def _on(milliseconds: int) -> str:
    return f", on {moment_of(milliseconds)}" if milliseconds else ""
