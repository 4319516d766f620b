"""What people can type after a slash: each command by its name, and what it asks of the core."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from securechat.clean import clean_line
from securechat.client.commands import (
    Accept,
    AcceptInvitation,
    Bar,
    Block,
    Bye,
    Command,
    CreateRoom,
    Decline,
    DeclineInvitation,
    Distrust,
    EndSession,
    Ignore,
    Invite,
    JoinRoom,
    Leave,
    Link,
    ListContacts,
    ListDevices,
    ListInviteLines,
    ListMembers,
    ListRooms,
    ListSessions,
    MakeInviteLine,
    NameDevice,
    OpenDirect,
    Prefer,
    Reconnect,
    Remove,
    Rename,
    Repair,
    RevokeDevice,
    RevokeInviteLine,
    Rotate,
    SetInviter,
    SetLife,
    SetOwner,
    SetTopic,
    ShowSafetyNumber,
    Succeed,
    Trust,
    Unbar,
    Unblock,
    Unignore,
    UseInviteLine,
    Verify,
)
from securechat.client.events import OwnSessions
from securechat.client.preferences import PREFERENCES, Preference, can_be
from securechat.client.snapshot import ConversationSnapshot, Invitation
from securechat.errors import UsageError
from securechat.identity.invite_line import is_line
from securechat.names import normalise_account, normalise_room
from securechat.ui.session import about, back, sharing, voice
from securechat.ui.session.place import Place
from securechat.ui.text.states import absent, preference, unconfirmed
from securechat.ui.text.trust import TRUST
from securechat.ui.text.wording import in_words, title
from securechat.ui.view.completion import Usage, meant
from securechat.ui.view.lines import notice
from securechat.ui.view.listing import Listing
from securechat.ui.view.status import Link as Connection
from securechat.value import value

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

class Session(Protocol):
    """What the commands need of a person's session."""

    client: "ChatClient"
    link: Connection
    listing: Listing
    place: Place
    piped: bool
    sessions: OwnSessions | None
    logout: int
    leaving: dict[int, bytes]
    numbers: about.Numbers
    reading: back.Reading
    voices: voice.Voices

    def show(self, line: str) -> None:
        """Show a line that is already harmless."""

    def do(self, command: Command) -> None:
        """Hand a command to the core, and remember that it is not answered yet."""

    def visit(self, name: str) -> None:
        """Go to a conversation that is there. Raises `UsageError`."""

    def leave_unread(self, line: int) -> None:
        """Let a line of the current conversation, and what came in after it, be unread."""

    def open(self, name: str, command: Command) -> None:
        """Go to a conversation that the command brings into being."""

    def say(self, conversation: ConversationSnapshot, text: str) -> None:
        """Say something in a conversation. Raises `UsageError` if nothing can be said there."""

    def speak(self, conversation: ConversationSnapshot, command: Command) -> None:
        """The same of what is no plain text."""

    def quit(self) -> None:
        """Close the core."""


@value
class Verb(Usage):
    """A line of `/help`, and what the command does with the text after its name."""

    run: Callable[[Session, str], None]

    @property
    def takes_argument(self) -> bool:
        """Whether anything may follow the name."""
        return " " in self.usage


def _help(chat: Session, rest: str) -> None:
    if rest:
        verb = named(f"/{rest.removeprefix('/')}")
        chat.show(notice(f"{verb.usage}  {verb.help}"))
        return
    width = max(len(verb.usage) for verb in VERBS.values())
    chat.show(notice("Type to talk in the current conversation. Esc, then Enter begins a new line; Tab completes."))
    for verb in VERBS.values():
        chat.show(notice(f"{verb.usage:{width}}  {verb.help}"))


def named(word: str) -> Verb:
    """Return the command that a word names. Raises `UsageError`, with the one that may have been meant."""
    verb = VERBS.get(word.lower())
    if verb is None:
        like = ELSEWHERE.get(word.lower()) or meant(word, VERBS.values())
        guess = f" Did you mean {like}?" if like else ""
        raise UsageError(f"There is no command {word}.{guess} /help lists them; /{word} says it as a text.")
    return verb


ELSEWHERE: Final = {
    **dict.fromkeys(("/exit", "/q", "/x", "/logoff"), "/quit"), "/part": "/leave", "/kick": "/remove", "/ban": "/bar",
    "/names": "/who", "/query": "/msg", "/w": "/msg", "/tell": "/msg", "/dm": "/msg", "/pm": "/msg", "/switch": "/go",
}  # fmt: skip
"""What other programs call some of these, though another one here is spelled more like it."""


def _editor(_chat: Session, _: str) -> None:
    raise UsageError("An editor needs a terminal: here a line that ends with a backslash goes on in the next one.")


def _msg(chat: Session, rest: str) -> None:
    to, text = [*rest.split(maxsplit=1), "", ""][:2]
    if not text:
        raise UsageError("Type /msg USER TEXT, as in: /msg bob Hello!")
    if to.startswith("#"):
        _go(chat, to)
        chat.say(chat.place.here(), text)
        return
    account = _other(chat, to)
    found = chat.place.alive(account)
    if found is None:
        chat.open(account, OpenDirect(account, text, ask=False))
    else:
        if found.state == "request" and not chat.piped:  # to answer is to agree
            chat.do(Accept(found.id))
        chat.say(found, text)
        chat.place.turn_to(account)


def _chat(chat: Session, rest: str) -> None:
    account = _other(chat, _one(rest, "/chat USER"))
    found = chat.client.find(account)
    if found is not None and found.state in ("open", "requested"):
        _go(chat, account)
    else:
        chat.open(account, OpenDirect(account, ask=True))


def _other(chat: Session, name: str) -> str:
    account = normalise_account(name)
    if account == chat.client.account:
        raise UsageError("That is you. Type the name of somebody else.")
    return account


def _accept(chat: Session, rest: str) -> None:
    asked = _asked(chat, rest, "/accept")
    if isinstance(asked, Invitation):
        chat.open(asked.name, AcceptInvitation(asked.conversation, asked.question))
    else:
        chat.do(Accept(asked.id))
        chat.place.turn_to(asked.name)


def _decline(chat: Session, rest: str) -> None:
    asked = _asked(chat, rest, "/decline")
    if isinstance(asked, Invitation):
        chat.do(DeclineInvitation(asked.conversation, asked.question))
    else:
        chat.do(Decline(asked.id))


def _never(chat: Session, rest: str) -> None:
    account = normalise_account(_one(rest, "/never USER"))
    invitation = next((each for each in chat.client.invitations() if each.inviter == account), None)
    if invitation is None:
        raise UsageError(f"{account} has not invited you to anything.")
    chat.do(DeclineInvitation(invitation.conversation, invitation.question, never=True))


def _asked(chat: Session, rest: str, what: str) -> ConversationSnapshot | Invitation:
    """Return the question that is meant: a request to talk, or an invitation to a room."""
    invitations = chat.client.invitations()
    if rest.startswith("#"):
        room = normalise_room(rest)
        found = next((each for each in invitations if each.name == room), None)
        if found is None:
            raise UsageError(f"You have no invitation to {room}. /join {room} enters an open room.")
        return found
    if rest:
        return chat.place.direct(rest, what)
    inviting = {each.inviter for each in invitations}  # a stranger's comes with a request, and is one question with it
    asking = [one for one in chat.client.conversations() if one.state == "request" and one.name not in inviting]
    questions = [*map(title, asking), *(clean_line(each.name) for each in invitations)]
    if not questions:
        raise UsageError("Nobody has asked to chat with you, or invited you.")
    if len(questions) > 1:
        raise UsageError(f"Several have asked: {', '.join(questions)}. Type {what} and one of these.")
    return asking[0] if asking else invitations[0]


def _join(chat: Session, rest: str) -> None:
    if is_line(rest):
        chat.do(UseInviteLine(rest))
        return
    room = normalise_room(_one(rest, "/join #room"))
    if chat.place.alive(room) is not None:
        _go(chat, room)
    else:
        chat.open(room, JoinRoom(room))


def _create(chat: Session, rest: str) -> None:
    room = normalise_room(_one(rest, "/create #room"))
    chat.open(room, CreateRoom(room))


def _invite(chat: Session, rest: str) -> None:
    chat.do(Invite(chat.place.here().id, normalise_account(_one(rest, "/invite USER"))))


def _invite_line(chat: Session, rest: str) -> None:
    room, days, *more = [*rest.split(), "", ""] if rest.startswith("#") else ["", *rest.split(), ""]
    if any(more) or (days and not (days.isascii() and days.isdigit() and len(days) < 4)):
        raise UsageError("Type /invite-line #room, or /invite-line #room DAYS; without a room, it leads to you.")
    here = chat.place.find() if not rest.startswith("#") else None
    if here is not None and here.kind == "invite":
        room = here.name
    chat.do(MakeInviteLine(room, int(days)) if days else MakeInviteLine(room))


def _invite_lines(chat: Session, rest: str) -> None:
    word, _, mark = rest.partition(" ")
    if rest and (word != "revoke" or not mark):
        raise UsageError("Type /invite-lines, or /invite-lines revoke LINE with the digits that it shows.")
    chat.do(RevokeInviteLine(mark.strip()) if rest else ListInviteLines())


def _remove(chat: Session, rest: str) -> None:
    chat.do(Remove(chat.place.here().id, normalise_account(_one(rest, "/remove USER"))))


def _role(chat: Session, rest: str, role: str) -> tuple[bytes, str, bool]:
    verb, _, account = rest.partition(" ")
    if verb not in ("add", "remove") or not account or " " in account:
        raise UsageError(f"Type /{role} add USER or /{role} remove USER.")
    return chat.place.here().id, normalise_account(account), verb == "add"


def _owner(chat: Session, rest: str) -> None:
    chat.do(SetOwner(*_role(chat, rest, "owner")))


def _inviter(chat: Session, rest: str) -> None:
    chat.do(SetInviter(*_role(chat, rest, "inviter")))


def _bar(chat: Session, rest: str) -> None:
    chat.do(Bar(chat.place.here().id, normalise_account(_one(rest, "/bar USER"))))


def _unbar(chat: Session, rest: str) -> None:
    chat.do(Unbar(chat.place.here().id, normalise_account(_one(rest, "/unbar USER"))))


def _topic(chat: Session, rest: str) -> None:
    chat.do(SetTopic(chat.place.here().id, rest))


def _life(chat: Session, rest: str) -> None:
    found = re.fullmatch(r"([0-9]{1,5})([hd])|off", rest)
    if found is None:
        raise UsageError("Type /life 30d, /life 12h or /life off.")
    seconds = 0 if rest == "off" else int(found[1]) * (3600 if found[2] == "h" else 86_400)
    chat.do(SetLife(chat.place.here().id, seconds))


def _rename(chat: Session, rest: str) -> None:
    chat.do(Rename(chat.place.here().id, normalise_room(_one(rest, "/rename #room"))))


def _rooms(chat: Session, _: str) -> None:
    chat.do(ListRooms())


def _who(chat: Session, _: str) -> None:
    chat.do(ListMembers(chat.place.here().id))


def _go(chat: Session, rest: str) -> None:
    if not rest:
        _list_conversations(chat)
        return
    chat.visit(rest)


def _list_conversations(chat: Session) -> None:
    conversations = [one for one in chat.client.conversations() if one.state != "closed"]
    alive = {one.name for one in conversations}
    over = dict.fromkeys(one.name for one in chat.client.conversations() if one.name not in alive)
    conversations += [found for name in over if (found := chat.client.find(name)) is not None]
    for invitation in chat.client.invitations():
        chat.show(notice(f"/accept {clean_line(invitation.name)}  (invited by {clean_line(invitation.inviter)})"))
    if not conversations:
        chat.show(notice("You have no conversations yet: /msg USER TEXT, /chat USER or /join #room begins one."))
    trust = {item.id: item.trust for item in chat.listing.items}
    for conversation in conversations:
        name = title(conversation)
        new = chat.listing.unread(conversation.id)
        marks = f"  ({new} new)" if new else "  (here)" if name == chat.place.name else ""
        sign = f"  {TRUST[trust[conversation.id]].sign}".rstrip()
        since = conversation.unconfirmed_since
        ended = "over: it can be read" if conversation.state == "closed" else ""
        states = [ended, unconfirmed(since) if since else "", absent(conversation)]
        chat.show(notice(f"/go {name}{sign}{marks}" + "".join(f"  ({state})" for state in states if state)))


def _leave(chat: Session, rest: str) -> None:
    conversation = chat.place.named(rest) if rest else chat.place.here()
    command = Leave(conversation.id)
    chat.leaving[command.id] = conversation.id
    chat.do(command)


def _bye(chat: Session, rest: str) -> None:
    chat.do(Bye(chat.place.direct(rest, "/bye").id))


def _verify(chat: Session, rest: str) -> None:
    chat.do(Verify(*_named_key(rest, "/verify USER [KEY]")))


def _trust(chat: Session, rest: str) -> None:
    chat.do(Trust(*_named_key(rest, "/trust USER [KEY]")))


def _distrust(chat: Session, rest: str) -> None:
    chat.do(Distrust(*_named_key(rest, "/distrust USER [KEY]")))


def _contacts(chat: Session, _: str) -> None:
    chat.do(ListContacts())


def _find(chat: Session, rest: str) -> None:
    if not rest:
        raise UsageError("Type /find and a part of a name, as in: /find bo")
    chat.do(ListContacts(rest))


def _ignore(chat: Session, rest: str) -> None:
    chat.do(Ignore(normalise_account(_one(rest, "/ignore USER"))))


def _block(chat: Session, rest: str) -> None:
    if rest:
        chat.do(Block(normalise_account(_one(rest, "/block USER"))))
    else:
        names = ", ".join(map(clean_line, chat.client.blocked()))
        chat.show(notice(f"Blocked: {names}" if names else "You block nobody. /block USER hears nothing more of one."))


def _unblock(chat: Session, rest: str) -> None:
    chat.do(Unblock(normalise_account(_one(rest, "/unblock USER"))))


def _unignore(chat: Session, rest: str) -> None:
    chat.do(Unignore(normalise_account(_one(rest, "/unignore USER"))))


def _safety(chat: Session, rest: str) -> None:
    chat.do(ShowSafetyNumber(normalise_account(_one(rest, "/safety USER"))))


def _devices(chat: Session, rest: str) -> None:
    chat.do(ListDevices(normalise_account(_one(rest, "/devices [USER]")) if rest else ""))


def _device(chat: Session, rest: str) -> None:
    device, _, name = rest.partition(" ")
    chat.do(NameDevice(_one(device, "/device DEVICE [NAME]"), name.strip()))
    chat.do(ListDevices())


def _marks(chat: Session, rest: str) -> None:
    _prefer(chat, rest, "/marks", {"send": "send-marks", "show": "show-marks"})


def _presence(chat: Session, rest: str) -> None:
    _prefer(chat, rest, "/presence", {"show": "presence"})


def _prefer(chat: Session, rest: str, verb: str, names: dict[str, Preference]) -> None:
    """Say what one prefers, here or everywhere; without that, show it."""
    match rest.split():
        case []:
            here = chat.place.here()
            for name in names.values():
                chat.show(notice(f"{preference(name, here.prefers(name))} in {in_words(here)}."))
        case [what, ("on" | "off") as value, *where] if what in names and where in ([], ["here"]):
            chat.do(Prefer(names[what], value, chat.place.here().id if where else b""))
        case _:
            raise UsageError(f"Type {verb} {'|'.join(names)} on|off, with here behind it for this conversation alone.")


def _typing(chat: Session, rest: str) -> None:
    _prefer(chat, rest, "/typing", {"send": "send-typing", "show": "show-typing"})


def _notify(chat: Session, rest: str) -> None:
    """`/notify`; `/notify VALUE [here]`; `/notify quiet HOURS|off [here]`."""
    names: tuple[Preference, ...] = ("notify", "notify-of", "notify-by", "quiet")
    words = rest.split()
    here = words[-1:] == ["here"]
    match words[:-1] if here else words:
        case [] if not here:
            where = chat.place.here()
            for name in names:
                chat.show(notice(f"{preference(name, where.prefers(name))} in {in_words(where)}."))
            return
        case ["quiet", hours] if can_be("quiet", hours):
            chosen: tuple[Preference, str] | None = ("quiet", hours)
        case [value]:
            chosen = next(((name, value) for name in names[:3] if can_be(name, value)), None)
        case _:
            chosen = None
    if chosen is None:
        every = "|".join("|".join(PREFERENCES[name]) for name in names[:3])
        raise UsageError(f"Type /notify {every}, or /notify quiet 22:00-07:00; here behind it means this one alone.")
    chat.do(Prefer(*chosen, chat.place.here().id if here else b""))


def _link(chat: Session, rest: str) -> None:
    match rest.split():
        case [name]:
            chat.do(Link(chat.place.direct(name, "/link").id))
        case [name, ("anywhere" | "off") as agreed]:
            chat.do(Link(chat.place.direct(name, "/link").id, agreed))
        case _:
            raise UsageError("Type /link USER, with anywhere behind it for public addresses, too, or off to end it.")


def _mute(chat: Session, _: str) -> None:
    chat.do(Prefer("notify", "none", chat.place.here().id))


def _unmute(chat: Session, _: str) -> None:
    chat.do(Prefer("notify", "", chat.place.here().id))


def _repair(chat: Session, _: str) -> None:
    conversation = chat.place.here()
    chat.do(Repair(conversation.id))
    chat.show(notice(f"Trying to rejoin {title(conversation)}."))


def _revoke(chat: Session, rest: str) -> None:
    chat.do(RevokeDevice(_one(rest, "/revoke DEVICE")))


def _succeed(chat: Session, _: str) -> None:
    chat.do(Succeed())


def _rotate(chat: Session, _: str) -> None:
    chat.do(Rotate())


def _sessions_of_mine(chat: Session, rest: str) -> None:
    if not rest:
        chat.do(ListSessions())
        return
    word, _, number = rest.partition(" ")
    if word != "end" or not (number.isascii() and number.isdigit() and len(number) < 4):
        raise UsageError("Type /sessions, or /sessions end N with a number that it shows.")
    shown = () if chat.sessions is None else chat.sessions.sessions
    if not 1 <= int(number) <= len(shown):
        raise UsageError(f"There is no session {int(number)}: type /sessions, and take a number that it shows.")
    chosen = shown[int(number) - 1]
    if chosen.own:
        raise UsageError("That is this one. /logout ends it.")
    chat.do(EndSession(chosen.device))


def _log_out(chat: Session, _: str) -> None:
    command = EndSession("")
    chat.logout = command.id
    chat.do(command)


def _password(_chat: Session, _: str) -> None:
    raise UsageError("Passwords are typed at a terminal only. `securechat password` takes them from files.")


def _delete_account(_chat: Session, rest: str) -> None:
    if not rest:
        raise UsageError("Type /delete-account and your user name; with wipe behind it, your data here goes, too.")
    raise UsageError("The password is typed at a terminal only: an account is deleted there.")


def _unlock(_chat: Session, _: str) -> None:
    raise UsageError("A password is typed at a terminal only. Name a file that holds it with --password-file.")


def _reconnect(chat: Session, _: str) -> None:
    tries = chat.link.now.state in ("connecting", "lost")
    chat.show(notice("Trying the server now." if tries else f"The server is reached: {chat.link.now.text}."))
    chat.do(Reconnect())


def _quit(chat: Session, _: str) -> None:
    chat.quit()


def _one(rest: str, usage: str) -> str:
    if not rest or " " in rest:
        raise UsageError(f"Type {usage}.")
    return rest


def _named_key(rest: str, usage: str) -> tuple[str, str]:
    """Return the account and the short form of a key, which may be left out."""
    name, *key = rest.split()[:3] or [""]
    if not name or len(key) > 1:
        raise UsageError(f"Type {usage}.")
    return normalise_account(name), "".join(key)


VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb("/msg USER TEXT", "write to somebody, also while they are away", _msg),
        Verb("/chat USER", "ask somebody for a private chat", _chat),
        Verb("/accept [NAME]", "say yes to somebody who asks, or to an invitation: /accept #room", _accept),
        Verb("/decline [NAME]", "say no", _decline),
        Verb("/never USER", "say no to whatever somebody invites you to", _never),
        Verb("/bye [USER]", "end a private chat; it is over when both have said it", _bye),
        Verb("/join #ROOM", "enter an open room, or open it; /join and an invite line comes in by it", _join),
        Verb("/create #ROOM", "make a room that only people you invite can enter", _create),
        Verb("/invite USER", "invite somebody to the current room", _invite),
        Verb("/invite-line [#ROOM]", "make a line by which one new person comes in", _invite_line),
        Verb("/invite-lines [revoke LINE]", "list those that are good, or take one back", _invite_lines),
        Verb("/remove USER", "remove somebody from the current room, if it is yours", _remove),
        Verb("/owner add|remove USER", "share the current room, or no longer", _owner),
        Verb("/inviter add|remove USER", "let somebody invite others to the current room, or no longer", _inviter),
        Verb("/bar USER", "keep somebody out of the current room", _bar),
        Verb("/unbar USER", "let them in again", _unbar),
        Verb("/life TIME", "let what is said from now on go after so long: 30d, 12h; off lets it stay", _life),
        Verb("/topic [TEXT]", "say what the current room is about; the server can read it", _topic),
        Verb("/rename #ROOM", "give the current room another name", _rename),
        Verb("/leave [NAME]", "leave a conversation for good; without a name, the current one", _leave),
        Verb("/rooms", "list the rooms", _rooms),
        Verb("/who", "list the people in the current conversation", _who),
        Verb("/go [NAME]", "talk in another conversation; without a name, list them", _go),
        Verb("/contacts", "list the people whom you write to, or let write to you", _contacts),
        Verb("/find NAME", "look for people and rooms that you know by a part of their name", _find),
        Verb("/history [N]", "show the last messages here, each with its number; then /history older", back.history),
        Verb("/search WORDS", "find messages, also with from:bob in:#room has:file after:2026-11-30", back.search),
        Verb("/send FILE", 'share a file here; with words: /send "FILE" TEXT', sharing.send),
        Verb("/files", "list the files that were shared here, and those on their way", sharing.files),
        Verb("/save [N] [FOLDER]", "save the newest file of somebody else, or the one with that number", sharing.save),
        Verb("/cancel [N]", "give up sending or saving the newest file on its way, or the one /files counts so",
             sharing.cancel),
        Verb("/unread [N]", "mark the newest message here, or those from that number on, as unread", back.unread),
        Verb("/reply [N] TEXT", "answer the newest message, or the one with that number", about.reply),
        Verb("/edit [N] TEXT", "put another text in place of your newest message", about.edit),
        Verb("/delete [N]", "take your newest message out of everybody's history", about.delete),
        Verb("/react [N] EMOJI", "put an emoji under the newest message; once more takes it back", about.react),
        Verb("/me TEXT", "say what you do, as in: /me waves", about.me),
        Verb("/voice [FILE]", "send a WAV file as a voice note; /voice records one, /voice sends it", voice.voice),
        Verb("/play [N] [FILE]", "play a voice note, or write it to a WAV file; /play stop", voice.play),
        Verb("/marks [send|show on|off [here]]", "tell others what you have read, or see that of them; or not", _marks),
        Verb("/typing [send|show on|off [here]]", "let others see when you type, or see when they do; or not", _typing),
        Verb("/notify [WHAT [here]]", "say of what a notice comes, how, what it says, and when none does", _notify),
        Verb("/mute", "let no notice come of what is said in the current conversation", _mute),
        Verb("/unmute", "let notices come again", _unmute),
        Verb("/safety USER", "show the keys of somebody, and the safety numbers to compare", _safety),
        Verb("/devices [USER]", "show your devices, or those of somebody", _devices),
        Verb("/device DEVICE [NAME]", "call a device of yours by a name that only you see", _device),
        Verb("/verify USER [KEY]", "note that you have compared it", _verify),
        Verb("/trust USER [KEY]", "accept another key without comparing", _trust),
        Verb("/distrust USER [KEY]", "refuse a key: nothing you write goes to it", _distrust),
        Verb("/ignore USER", "hide what somebody says in open rooms", _ignore),
        Verb("/block [USER]", "hear nothing more of somebody, who gets no answer; without a name, list them", _block),
        Verb("/unblock USER", "hear them again", _unblock),
        Verb("/unignore USER", "show it again", _unignore),
        Verb("/repair", "rejoin a conversation that has stopped", _repair),
        Verb("/revoke DEVICE", "let a device of yours, or a copy of this one, speak for you no more", _revoke),
        Verb("/rotate", "give this device a new key now, also after another copy of your data", _rotate),
        Verb("/succeed", "go on under a new identity key that yours names: your conversations end", _succeed),
        Verb("/sessions [end N]", "show where you are logged in, or end one of these", _sessions_of_mine),
        Verb("/logout", "leave, and have this device need the password to come back; your data stays", _log_out),
        Verb("/password", "change the password of your account and your data; it is asked for", _password),
        Verb("/delete-account NAME [wipe]", "delete your account, with wipe your data here, too", _delete_account),
        Verb("/link USER [anywhere|off]", "fetch files directly from each other, who learn your address", _link),
        Verb("/presence [show on|off [here]]", "be told who comes and goes, or not", _presence),
        Verb("/reconnect", "try at once to reach the server, rather than later", _reconnect),
        Verb("/unlock", "give the password when it is wanted; it is asked for, and not shown", _unlock),
        Verb("/editor [TEXT]", "write in $EDITOR; what you save there is sent when you press Enter here", _editor),
        Verb("/help [COMMAND]", "show this, or what one command does", _help),
        Verb("/quit", "leave the program; your conversations stay", _quit),
    )
}
"""What people can type, by name, in the order of `/help`."""
