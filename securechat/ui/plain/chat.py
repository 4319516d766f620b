"""The plain client without its terminal: typed lines and events in, lines to show out.

Runs on one thread. It knows which conversation is current and what has been asked and not answered yet; everything
else is asked of the core when it is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final

from securechat.client.commands import (
    Accept,
    AcceptInvitation,
    Bar,
    Bye,
    Command,
    Confirm,
    CreateRoom,
    Decline,
    DeclineInvitation,
    Distrust,
    Ignore,
    Invite,
    JoinRoom,
    Leave,
    ListInviteLines,
    ListMembers,
    ListRooms,
    MakeInviteLine,
    MarkShown,
    OpenDirect,
    Remove,
    Rename,
    Repair,
    RevokeInviteLine,
    Send,
    SetInviter,
    SetOwner,
    SetTopic,
    ShowSafetyNumber,
    Trust,
    Unbar,
    Unignore,
    UseInviteLine,
    Verify,
)
from securechat.client.events import (
    Connected,
    ConversationChanged,
    ConversationSnapshot,
    Delayed,
    Delivered,
    Disconnected,
    Done,
    Ended,
    Event,
    Held,
    Invitation,
    Invited,
    Message,
    Ready,
    Received,
    Refused,
    Said,
    Unreachable,
)
from securechat.errors import RefusedError, SecurechatError, UsageError
from securechat.identity.invite_line import is_line
from securechat.names import normalise_account, normalise_room, normalise_title
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.text.clean import clean
from securechat.ui.text.sentences import absent, title, unconfirmed, why_silent
from securechat.ui.text.trust import TRUST
from securechat.ui.view.completion import Usage
from securechat.ui.view.lines import message_line, notice, sentence_line, warning
from securechat.ui.view.listing import Listing
from securechat.ui.view.news import News
from securechat.ui.view.rows import line_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

HISTORY_LINES: Final = 20
"""Messages that `/history` shows unless told otherwise: about a screen."""

MAX_HISTORY_LINES: Final = 1000

UNREAD_AT_ONCE: Final = 500
"""Messages taken from the vault, shown and marked as read together."""


@dataclass(frozen=True)
class Verb(Usage):
    """A line of `/help`, and what the command does with the text after its name."""

    run: Callable[["Chat", str], None]

    @property
    def takes_argument(self) -> bool:
        """Whether anything may follow the name."""
        return " " in self.usage


class Chat:
    """One person's session. `show` prints lines that are already harmless."""

    def __init__(self, client: "ChatClient", show: Callable[[str], None], *, piped: bool) -> None:
        """`piped`: nobody is waiting at the keyboard, so a line is kept until the ones before it are settled."""
        self.exit_code: ExitCode | None = None  # set once the core has ended
        self.quitting = False
        self._client = client
        self._show = show
        self._piped = piped
        self._reached = False  # whether there has ever been a connection
        self._ready = False
        self._held = False  # a line waits for a decision that nobody can make in a pipe, or for somebody who is away
        self._failure = ExitCode.OK
        self._current = ""  # the current conversation's name; what is typed goes there
        self._current_id = b""  # its id, once it is known: a room may be renamed, and another one get its name
        self._opening = ""  # the name of the conversation that has been asked for and is not there yet
        self._opened_by = 0  # the command that asked for it
        self._kept: list[str] = []  # lines typed meanwhile
        self._waits_for: Held | Delayed | Unreachable | None = None  # shown since the last typed line
        self._questions: dict[bytes, int] = {}  # conversation -> what Enter alone answers there
        self._unanswered: set[int] = set()  # commands
        self._newest_shown = self._newest_marked = 0  # local ids
        self._listing = Listing(client)
        self._news = News(client)

    @property
    def prompt(self) -> str:
        """The prompt before the line being typed."""
        return f"[{self._current}] > " if self._current else "> "

    @property
    def idle(self) -> bool:
        """Whether everything typed so far is done, or held until somebody decides."""
        done = self._held or not self._unanswered
        return self._ready and done and not (self._opening or self._kept)

    def quit(self) -> None:
        """Close the core; its `Ended` sets `exit_code`."""
        if not self.quitting:
            self.quitting = True
            self._client.close()

    def show_unread(self) -> None:
        """Show what came in while nobody was looking, for example during `securechat send`. Call before the start."""
        while lines := self._client.unread(self._newest_shown, UNREAD_AT_ONCE):
            for message in lines:
                self._show_message(message)
        self.mark_shown()

    def mark_shown(self) -> None:
        """Mark in the vault what is on the screen now. Call when nothing more is waiting to be shown."""
        if self._newest_shown > self._newest_marked:
            self._newest_marked = self._newest_shown
            self._client.do(MarkShown(self._newest_shown))

    # --- typed lines

    def line(self, text: str) -> None:
        """Carry out a typed line."""
        text = text.rstrip()
        if not text:
            self._confirm()
            return
        self._waits_for = None  # what is typed now is answered, too
        if text == "/quit":
            self.quit()
        elif self._has_to_wait(text):
            self._kept.append(text)
            if not self._piped:
                self._show(notice(f"Waiting for {self._opening}; then: {clean(text)}"))
        else:
            self._do(text)

    def _confirm(self) -> None:
        """Enter alone answers what is asked in the current conversation. In a pipe nobody can be asked."""
        conversation = self._find_current()
        if conversation is not None and not self._piped and (question := self._questions.pop(conversation.id, 0)):
            self._do_command(Confirm(conversation.id, question))

    def _has_to_wait(self, text: str) -> bool:
        if self._kept or (self._piped and not self._ready):
            return True
        # What is said in a conversation that is being opened can wait in the vault, once the conversation is in it.
        return bool(self._opening) and (_is_command(text) or self._client.find(self._opening) is None)

    def _do(self, text: str) -> None:
        try:
            if _is_command(text):
                self._command(text)
            else:
                self._say(self._here(), text.removeprefix("/"))
        except SecurechatError as error:
            self._show(warning(clean(str(error))))

    def _command(self, text: str) -> None:
        word, rest = [*text.split(maxsplit=1), ""][:2]
        verb = self.verbs.get(word.lower())
        if verb is None:
            raise UsageError(f"There is no command {word}. /help lists them; /{word} says it as a text.")
        if rest and not verb.takes_argument:
            raise UsageError(f"{verb.usage} takes nothing after it. Type {verb.usage} alone.")
        verb.run(self, rest.strip())

    def _here(self) -> ConversationSnapshot:
        """Return the current conversation. Raises `UsageError` saying how to get one."""
        if not self._current:
            raise UsageError("Nobody hears you yet: /msg USER TEXT talks to somebody, /join #room enters a room.")
        conversation = self._find_current()
        if conversation is None:
            gone = self._current
            self._turn_to("")
            raise UsageError(f"{gone} is gone. /go shows your conversations.")
        return conversation

    def _find_current(self) -> ConversationSnapshot | None:
        """Return the current conversation, if there is one: the same one for as long as it goes on, else its heir."""
        if not self._current:
            return None
        found = self._client.conversation(self._current_id) if self._current_id else None
        if found is None or found.state == "closed":
            found = self._client.find(self._current)
        if found is not None:
            self._turn_to(found.name, found.id)
        return found

    def _turn_to(self, name: str, conversation: bytes = b"") -> None:
        self._current, self._current_id = name, conversation

    def _direct(self, rest: str, what: str) -> ConversationSnapshot:
        """Return the direct conversation with the user in `rest`, or the current one if that is empty."""
        if not rest:
            conversation = self._here()
            if conversation.kind != "direct":
                raise UsageError(f"{title(conversation)} is a room. Type {what} USER.")
            return conversation
        account = normalise_account(rest)
        found = self._client.find(account)
        if found is None:
            raise UsageError(f"You have no conversation with {account}. /chat {account} asks for one.")
        return found

    def _say(self, conversation: ConversationSnapshot, text: str) -> None:
        # Commands that are not answered yet may change what we see here: then the core knows better.
        if not self._unanswered and (silent := why_silent(conversation)):
            if self._piped and conversation.state == "request":
                self._failure = ExitCode.UNTRUSTED  # a question, which nobody answers here
            raise UsageError(silent)
        self._do_command(Send(conversation.id, text))

    def _do_command(self, command: Command) -> None:
        self._unanswered.add(command.id)
        self._client.do(command)

    def _open(self, name: str, command: Command) -> None:
        self._turn_to(name)
        self._opening = name
        self._opened_by = command.id
        self._do_command(command)

    def _alive(self, name: str) -> ConversationSnapshot | None:
        found = self._client.find(name)
        return None if found is None or found.state == "closed" else found

    # --- commands

    def _help(self, _: str) -> None:
        width = max(len(verb.usage) for verb in self.verbs.values())
        self._show(notice("Type to talk in the current conversation. Esc, then Enter begins a new line."))
        for verb in self.verbs.values():
            self._show(notice(f"{verb.usage:{width}}  {verb.help}"))

    def _msg(self, rest: str) -> None:
        to, text = [*rest.split(maxsplit=1), "", ""][:2]
        if not text:
            raise UsageError("Type /msg USER TEXT, as in: /msg bob Hello!")
        if to.startswith("#"):
            self._go(to)
            self._say(self._here(), text)
            return
        account = self._other(to)
        found = self._alive(account)
        if found is None:
            self._open(account, OpenDirect(account, text, ask=False))
        else:
            self._say(found, text)
            self._turn_to(account)

    def _chat(self, rest: str) -> None:
        account = self._other(_one(rest, "/chat USER"))
        found = self._client.find(account)
        if found is not None and found.state in ("open", "requested"):
            self._go(account)
        else:
            self._open(account, OpenDirect(account, ask=True))

    def _other(self, name: str) -> str:
        account = normalise_account(name)
        if account == self._client.account:
            raise UsageError("That is you. Type the name of somebody else.")
        return account

    def _accept(self, rest: str) -> None:
        asked = self._asked(rest, "/accept")
        if isinstance(asked, Invitation):
            self._open(asked.name, AcceptInvitation(asked.conversation, asked.question))
        else:
            self._do_command(Accept(asked.id))
            self._turn_to(asked.name)

    def _decline(self, rest: str) -> None:
        asked = self._asked(rest, "/decline")
        if isinstance(asked, Invitation):
            self._do_command(DeclineInvitation(asked.conversation, asked.question))
        else:
            self._do_command(Decline(asked.id))

    def _never(self, rest: str) -> None:
        account = normalise_account(_one(rest, "/never USER"))
        invitation = next((each for each in self._client.invitations() if each.inviter == account), None)
        if invitation is None:
            raise UsageError(f"{account} has not invited you to anything.")
        self._do_command(DeclineInvitation(invitation.conversation, invitation.question, never=True))

    def _asked(self, rest: str, what: str) -> ConversationSnapshot | Invitation:
        """Return the question that is meant: a request to talk, or an invitation to a room."""
        invitations = self._client.invitations()
        if rest.startswith("#"):
            room = normalise_room(rest)
            found = next((each for each in invitations if each.name == room), None)
            if found is None:
                raise UsageError(f"You have no invitation to {room}. /join {room} enters an open room.")
            return found
        if rest:
            return self._direct(rest, what)
        asking = [one for one in self._client.conversations() if one.state == "request"]
        questions = [*map(title, asking), *(clean(each.name) for each in invitations)]
        if not questions:
            raise UsageError("Nobody has asked to chat with you, or invited you.")
        if len(questions) > 1:
            raise UsageError(f"Several have asked: {', '.join(questions)}. Type {what} and one of these.")
        return asking[0] if asking else invitations[0]

    def _join(self, rest: str) -> None:
        if is_line(rest):
            self._do_command(UseInviteLine(rest))
            return
        room = normalise_room(_one(rest, "/join #room"))
        if self._alive(room) is not None:
            self._go(room)
        else:
            self._open(room, JoinRoom(room))

    def _create(self, rest: str) -> None:
        room = normalise_room(_one(rest, "/create #room"))
        self._open(room, CreateRoom(room))

    def _invite(self, rest: str) -> None:
        self._do_command(Invite(self._here().id, normalise_account(_one(rest, "/invite USER"))))

    def _invite_line(self, rest: str) -> None:
        room, days, *more = [*rest.split(), "", ""] if rest.startswith("#") else ["", *rest.split(), ""]
        if any(more) or (days and not (days.isascii() and days.isdigit() and len(days) < 4)):
            raise UsageError("Type /invite-line #room, or /invite-line #room DAYS; without a room, it leads to you.")
        here = self._find_current() if not rest.startswith("#") else None
        if here is not None and here.kind == "invite":
            room = here.name
        self._do_command(MakeInviteLine(room, int(days)) if days else MakeInviteLine(room))

    def _invite_lines(self, rest: str) -> None:
        word, _, mark = rest.partition(" ")
        if rest and (word != "revoke" or not mark):
            raise UsageError("Type /invite-lines, or /invite-lines revoke LINE with the digits that it shows.")
        self._do_command(RevokeInviteLine(mark.strip()) if rest else ListInviteLines())

    def _remove(self, rest: str) -> None:
        self._do_command(Remove(self._here().id, normalise_account(_one(rest, "/remove USER"))))

    def _role(self, rest: str, role: str) -> tuple[bytes, str, bool]:
        verb, _, account = rest.partition(" ")
        if verb not in ("add", "remove") or not account or " " in account:
            raise UsageError(f"Type /{role} add USER or /{role} remove USER.")
        return self._here().id, normalise_account(account), verb == "add"

    def _owner(self, rest: str) -> None:
        self._do_command(SetOwner(*self._role(rest, "owner")))

    def _inviter(self, rest: str) -> None:
        self._do_command(SetInviter(*self._role(rest, "inviter")))

    def _bar(self, rest: str) -> None:
        self._do_command(Bar(self._here().id, normalise_account(_one(rest, "/bar USER"))))

    def _unbar(self, rest: str) -> None:
        self._do_command(Unbar(self._here().id, normalise_account(_one(rest, "/unbar USER"))))

    def _topic(self, rest: str) -> None:
        self._do_command(SetTopic(self._here().id, rest))

    def _rename(self, rest: str) -> None:
        self._do_command(Rename(self._here().id, normalise_room(_one(rest, "/rename #room"))))

    def _rooms(self, _: str) -> None:
        self._do_command(ListRooms())

    def _who(self, _: str) -> None:
        self._do_command(ListMembers(self._here().id))

    def _go(self, rest: str) -> None:
        if not rest:
            self._list_conversations()
            return
        conversation = self._named(rest)
        self._turn_to(conversation.name, conversation.id)
        self._listing.see(conversation.id)
        if not self._piped:
            self._show(notice(f"You are talking in {conversation.name} now."))

    def _named(self, rest: str) -> ConversationSnapshot:
        """Return the conversation with the room or user in `rest`. Raises `UsageError` saying how to get one."""
        name = normalise_title(rest)
        conversation = self._client.find(name)
        if conversation is None:
            how = f"/join {name} enters it" if name.startswith("#") else f"/msg {name} TEXT begins one"
            raise UsageError(f"You have no conversation {name}; {how}.")
        return conversation

    def _list_conversations(self) -> None:
        conversations = [one for one in self._client.conversations() if one.state != "closed"]
        for invitation in self._client.invitations():
            self._show(notice(f"/accept {clean(invitation.name)}  (invited by {clean(invitation.inviter)})"))
        if not conversations:
            self._show(notice("You have no conversations yet: /msg USER TEXT, /chat USER or /join #room begins one."))
        trust = {item.id: item.trust for item in self._listing.items}
        for conversation in conversations:
            name = title(conversation)
            new = self._listing.unread(conversation.id)
            marks = f"  ({new} new)" if new else "  (here)" if name == self._current else ""
            sign = f"  {TRUST[trust[conversation.id]].sign}".rstrip()
            since = conversation.unconfirmed_since
            states = [unconfirmed(since) if since else "", absent(conversation)]
            self._show(notice(f"/go {name}{sign}{marks}" + "".join(f"  ({state})" for state in states if state)))

    def _leave(self, rest: str) -> None:
        conversation = self._named(rest) if rest else self._here()
        self._do_command(Leave(conversation.id))
        if conversation.name == self._current:
            self._turn_to("")

    def _bye(self, rest: str) -> None:
        self._do_command(Bye(self._direct(rest, "/bye").id))

    def _verify(self, rest: str) -> None:
        self._do_command(Verify(*_named_key(rest, "/verify USER [KEY]")))

    def _trust(self, rest: str) -> None:
        self._do_command(Trust(*_named_key(rest, "/trust USER [KEY]")))

    def _distrust(self, rest: str) -> None:
        self._do_command(Distrust(*_named_key(rest, "/distrust USER [KEY]")))

    def _ignore(self, rest: str) -> None:
        self._do_command(Ignore(normalise_account(_one(rest, "/ignore USER"))))

    def _unignore(self, rest: str) -> None:
        self._do_command(Unignore(normalise_account(_one(rest, "/unignore USER"))))

    def _safety(self, rest: str) -> None:
        self._do_command(ShowSafetyNumber(normalise_account(_one(rest, "/safety USER"))))

    def _history(self, rest: str) -> None:
        if rest and not (rest.isascii() and rest.isdigit() and 1 <= int(rest[:5]) <= MAX_HISTORY_LINES):
            raise UsageError(f"Type /history or /history N with a number from 1 to {MAX_HISTORY_LINES}.")
        conversation = self._here()
        messages = self._client.history(conversation.id, int(rest or HISTORY_LINES))
        now = _now()
        for message in messages:
            self._show(message_line(line_of(message), title(conversation), now))
        if not messages:
            self._show(notice(f"Nothing has been said in {title(conversation)} yet."))

    def _repair(self, _: str) -> None:
        conversation = self._here()
        self._do_command(Repair(conversation.id))
        self._show(notice(f"Trying to rejoin {title(conversation)}."))

    def _quit(self, _: str) -> None:
        self.quit()

    verbs: ClassVar = {
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
            Verb("/topic [TEXT]", "say what the current room is about; the server can read it", _topic),
            Verb("/rename #ROOM", "give the current room another name", _rename),
            Verb("/leave [NAME]", "leave a conversation for good; without a name, the current one", _leave),
            Verb("/rooms", "list the rooms", _rooms),
            Verb("/who", "list the people in the current conversation", _who),
            Verb("/go [NAME]", "talk in another conversation; without a name, list them", _go),
            Verb("/history [N]", "show the last messages here", _history),
            Verb("/safety USER", "show the keys of somebody, and the safety numbers to compare", _safety),
            Verb("/verify USER [KEY]", "note that you have compared it", _verify),
            Verb("/trust USER [KEY]", "accept another key without comparing", _trust),
            Verb("/distrust USER [KEY]", "refuse a key: nothing you write goes to it", _distrust),
            Verb("/ignore USER", "hide what somebody says in open rooms", _ignore),
            Verb("/unignore USER", "show it again", _unignore),
            Verb("/repair", "rejoin a conversation that has stopped", _repair),
            Verb("/help", "show this", _help),
            Verb("/quit", "leave the program; your conversations stay", _quit),
        )
    }
    """What people can type, by name, in the order of `/help`."""

    # --- events

    def event(self, event: Event) -> None:
        """Show an event, and go on with what was waiting for it."""
        self._listing.fold(event)
        if isinstance(event, ConversationChanged):
            self._find_current()  # it may have another name now
        match event:
            case Received(message=message) | Refused(message=Message() as message):
                self._show_message(message)
            case Said(message=message) if event.command in self._unanswered:
                self._show_message(message)
            case Delivered(message=message) if event.command not in self._unanswered:  # said in an earlier run
                self._show_message(message)
            case Said() | Delivered():
                pass
            case Ready():
                self._show_ready()
            case Held() | Delayed() | Unreachable() if replace(event, command=0) == self._waits_for:
                pass  # told to each command that waits, and shown once
            case _:
                for sentence in self._news.of(event):
                    self._show(sentence_line(sentence))
        if isinstance(event, Held | Delayed | Unreachable):
            self._waits_for = replace(event, command=0)
        self._note(event)
        self._go_on(event)

    def _show_message(self, message: Message) -> None:
        conversation = self._client.conversation(message.conversation)
        if not message.own:
            self._newest_shown = max(self._newest_shown, message.local_id)
            if conversation is not None and conversation.name == self._current:
                self._listing.see(conversation.id)
        self._show(message_line(line_of(message), title(conversation), _now()))

    def _show_ready(self) -> None:
        if not self._ready and not self._piped:
            self._show(notice("You are in. /help tells what you can type."))
        self._ready = True
        for invitation in self._client.invitations():  # what an earlier session has not answered
            for sentence in self._news.of(Invited(invitation)):
                self._show(sentence_line(sentence))

    def _note(self, event: Event) -> None:
        """Remember what later lines depend on."""
        match event:
            case Done() | Refused():
                self._unanswered.discard(event.command)
                if event.command == self._opened_by:
                    self._opened(came_about=isinstance(event, Done))
            case Held(conversation=conversation, question=question):
                self._questions[conversation] = question
                if self._piped:
                    self._held, self._failure = True, ExitCode.UNTRUSTED
            case Unreachable(command=command) if self._piped and command:
                self._held, self._failure = True, ExitCode.UNTRUSTED
            case Connected():
                self._reached = True
            case Disconnected() if self._piped and not self._reached:
                self._failure = ExitCode.UNREACHABLE  # a script has to hear of it; a person can wait
                self.quit()
            case Delayed(code=code, text=text) if self._piped:
                self._held, self._failure = True, exit_code(RefusedError(code, text))
            case Ended(error=error):
                self.exit_code = exit_code(error) or self._failure

    def _opened(self, *, came_about: bool) -> None:
        """What was asked for exists, or never will."""
        if not came_about and self._opening:
            if self._current == self._opening:
                self._turn_to("")
            if not self._piped:
                self._kept.clear()  # typed for a conversation that never came to be
        self._opening, self._opened_by = "", 0

    def _go_on(self, event: Event) -> None:
        """Carry out the kept lines, as far as what they waited for is there now."""
        if isinstance(event, ConversationChanged) and event.conversation.name == self._opening:
            self._opening = ""
        while self._kept and not self._opening and (self._ready or not self._piped):
            self._do(self._kept.pop(0))


def _is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")


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


def _now() -> datetime:
    return datetime.now().astimezone()
