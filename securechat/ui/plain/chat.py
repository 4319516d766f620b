"""The plain client without its terminal: typed lines and events in, lines to show out.

Runs on one thread. It knows which conversation is current and what has been asked and not answered yet; everything
else is asked of the core when it is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, Literal

from securechat.client.events import (
    Connected,
    Conversation,
    ConversationChanged,
    Delivered,
    Disconnected,
    Ended,
    Event,
    Held,
    MemberList,
    Message,
    PresenceChanged,
    Ready,
    Received,
    Refused,
    RoomList,
)
from securechat.errors import SecurechatError, UsageError
from securechat.names import normalise_account, normalise_room
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.plain.clean import clean
from securechat.ui.plain.draw import event_lines, first_contact, message_line, notice, title, warning
from securechat.ui.port import ChatClient

HISTORY_LINES: Final = 20
"""Messages that `/history` shows unless told otherwise: about a screen."""

MAX_HISTORY_LINES: Final = 1000

UNREAD_AT_ONCE: Final = 500
"""Messages taken from the vault, shown and noted as read together."""

Awaited = Literal["rooms", "members", "delivered", "entered", "accepted", "declined", "bye", "left"]
"""What the server has not answered yet. Where somebody is at the keyboard it does not matter; a pipe ends after it."""


@dataclass(frozen=True)
class Command:
    """A line of `/help`, and what the command does with the text after its name."""

    usage: str
    help: str
    run: Callable[["Chat", str], None]

    @property
    def takes_argument(self) -> bool:
        """Whether anything may follow the name."""
        return " " in self.usage


class Chat:
    """One person's session. `show` prints lines that are already harmless."""

    def __init__(self, client: ChatClient, show: Callable[[str], None], *, piped: bool) -> None:
        """`piped`: nobody is waiting at the keyboard, so a line is kept until the ones before it are settled."""
        self.exit_code: ExitCode | None = None  # set when the core has ended
        self.quitting = False
        self._client = client
        self._show = show
        self._piped = piped
        self._reached = False  # has there ever been a connection?
        self._ready = False
        self._held = False  # something waits for a decision that nobody makes in a pipe
        self._failure = ExitCode.OK
        self._current = ""  # its name, which outlives the conversation's id
        self._opening = ""  # the name of what has been asked for and is not there yet
        self._kept: list[str] = []  # lines typed meanwhile
        self._unsent: set[int] = set()  # local ids of our messages that are on the screen but not at the server
        self._awaited: list[Awaited] = []
        self._newest_shown = self._newest_marked = 0  # local ids
        self._unread: dict[bytes, int] = {}
        # Accounts whose first contact is behind us: told about here, or in the vault from an earlier session.
        self._met = {one.name for one in client.conversations() if one.kind == "direct"}
        self._presence: dict[str, str] = {}

    @property
    def prompt(self) -> str:
        """What stands before the line being typed."""
        return f"[{self._current}] > " if self._current else "> "

    @property
    def idle(self) -> bool:
        """Everything typed so far is done, as far as the server has to do with it."""
        done = self._held or not (self._unsent or self._awaited)
        return self._ready and done and not (self._opening or self._kept)

    def quit(self) -> None:
        """Close the core; its `Ended` sets `exit_code`."""
        if not self.quitting:
            self.quitting = True
            self._client.close()

    def show_unread(self) -> None:
        """Show what came in while nobody was looking, under `securechat send` for example. Call before the start."""
        while lines := self._client.unread(UNREAD_AT_ONCE):
            for message in lines:
                self._show_message(message, self._find_by_id(message.conversation))
            self.mark_shown()

    def mark_shown(self) -> None:
        """Note in the vault what is on the screen now. Call when nothing more is waiting to be shown."""
        if self._newest_shown > self._newest_marked:
            self._newest_marked = self._newest_shown
            self._client.mark_shown(self._newest_shown)

    # --- typed lines

    def line(self, text: str) -> None:
        """Do what a typed line says."""
        text = text.rstrip()
        if not text:
            return
        if text == "/quit":
            self.quit()
        elif self._has_to_wait(text):
            self._kept.append(text)
            if not self._piped:
                self._show(notice(f"Waiting for {self._opening}; then: {clean(text)}"))
        else:
            self._do(text)

    def _has_to_wait(self, text: str) -> bool:
        if self._kept or (self._piped and not self._ready):
            return True
        # What is said in a conversation that is just being opened can wait in the vault, if that has it already.
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
        command = self.commands.get(word.lower())
        if command is None:
            raise UsageError(f"There is no command {word}. /help lists them; /{word} says it as a text.")
        if rest and not command.takes_argument:
            raise UsageError(f"{command.usage} takes nothing after it. Type {command.usage} alone.")
        command.run(self, rest.strip())

    def _here(self) -> Conversation:
        """Return the current conversation. Raises `UsageError` saying how to get one."""
        if not self._current:
            raise UsageError("Nobody hears you yet: /msg USER TEXT talks to somebody, /join #room enters a room.")
        conversation = self._client.find(self._current)
        if conversation is None:
            gone, self._current = self._current, ""
            raise UsageError(f"{gone} is gone. /go shows your conversations.")
        return conversation

    def _direct(self, rest: str, what: str) -> Conversation:
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

    def _say(self, conversation: Conversation, text: str) -> None:
        where = title(conversation)
        if conversation.state == "request":
            raise UsageError(f"{where} has asked to chat: answer with /accept {where} or /decline {where} first.")
        if conversation.state == "closed":
            again = f"/chat {where} asks for a new one." if conversation.kind == "direct" else "/join it again."
            raise UsageError(f"The conversation {where} has ended. {again}")
        if conversation.state == "stopped":
            raise UsageError(f"{where} stands still. /repair tries to mend it.")
        local_id = self._client.send(conversation.id, text)
        self._unsent.add(local_id)
        own = Message(local_id, conversation.id, seq=0, time=0, sender=self._client.account, own=True, text=text)
        self._show(message_line(own, conversation, _now()))

    def _open(self, name: str, open_it: Callable[[], None]) -> None:
        open_it()
        self._awaited.append("entered")
        self._current = self._opening = name

    def _alive(self, name: str) -> Conversation | None:
        found = self._client.find(name)
        return None if found is None or found.state == "closed" else found

    # --- commands

    def _help(self, _: str) -> None:
        width = max(len(command.usage) for command in self.commands.values())
        self._show(notice("Type to talk in the current conversation. Esc, then Enter begins a new line."))
        for command in self.commands.values():
            self._show(notice(f"{command.usage:{width}}  {command.help}"))

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
            self._awaited.append("delivered")
            self._open(account, lambda: self._client.open_direct(account, text, ask=False))
        else:
            self._say(found, text)
            self._current = account

    def _chat(self, rest: str) -> None:
        account = self._other(_one(rest, "/chat USER"))
        found = self._client.find(account)
        if found is not None and found.state in ("open", "requested"):
            self._go(account)
        else:
            self._open(account, lambda: self._client.open_direct(account, ask=True))

    def _other(self, name: str) -> str:
        account = normalise_account(name)
        if account == self._client.account:
            raise UsageError("That is you. Type the name of somebody else.")
        return account

    def _accept(self, rest: str) -> None:
        conversation = self._asked(rest, "/accept")
        self._client.accept(conversation.id)
        self._awaited.append("accepted")
        self._current = conversation.name

    def _decline(self, rest: str) -> None:
        self._client.decline(self._asked(rest, "/decline").id)
        self._awaited.append("declined")

    def _asked(self, rest: str, what: str) -> Conversation:
        if rest:
            return self._direct(rest, what)
        asking = [one for one in self._client.conversations() if one.state == "request"]
        if not asking:
            raise UsageError("Nobody has asked to chat with you.")
        if len(asking) > 1:
            raise UsageError(f"Several people have asked: {', '.join(map(title, asking))}. Type {what} USER.")
        return asking[0]

    def _join(self, rest: str) -> None:
        room = normalise_room(_one(rest, "/join #room"))
        if self._alive(room) is not None:
            self._go(room)
        else:
            self._open(room, lambda: self._client.join_room(room))

    def _create(self, rest: str) -> None:
        room = normalise_room(_one(rest, "/create #room"))
        self._open(room, lambda: self._client.create_room(room))

    def _invite(self, rest: str) -> None:
        self._client.invite(self._here().id, normalise_account(_one(rest, "/invite USER")))

    def _remove(self, rest: str) -> None:
        self._client.remove(self._here().id, normalise_account(_one(rest, "/remove USER")))

    def _rooms(self, _: str) -> None:
        self._client.list_rooms()
        self._awaited.append("rooms")

    def _who(self, _: str) -> None:
        self._client.list_members(self._here().id)
        self._awaited.append("members")

    def _go(self, rest: str) -> None:
        if not rest:
            self._list_conversations()
            return
        conversation = self._named(rest)
        self._current = conversation.name
        self._unread.pop(conversation.id, None)
        if not self._piped:
            self._show(notice(f"You are talking in {conversation.name} now."))

    def _named(self, rest: str) -> Conversation:
        """Return the conversation with the room or user in `rest`. Raises `UsageError` saying how to get one."""
        name = normalise_room(rest) if rest.startswith("#") else normalise_account(rest)
        conversation = self._client.find(name)
        if conversation is None:
            how = f"/join {name} enters it" if name.startswith("#") else f"/msg {name} TEXT begins one"
            raise UsageError(f"You have no conversation {name}; {how}.")
        return conversation

    def _list_conversations(self) -> None:
        conversations = [one for one in self._client.conversations() if one.state != "closed"]
        if not conversations:
            self._show(notice("You have no conversations yet: /msg USER TEXT, /chat USER or /join #room begins one."))
        for conversation in conversations:
            name = title(conversation)
            new = self._unread.get(conversation.id, 0)
            marks = f"  ({new} new)" if new else "  (here)" if name == self._current else ""
            self._show(notice(f"/go {name}{marks}"))

    def _leave(self, rest: str) -> None:
        conversation = self._named(rest) if rest else self._here()
        self._client.leave(conversation.id)
        self._awaited.append("left")
        if conversation.name == self._current:
            self._current = ""

    def _bye(self, rest: str) -> None:
        conversation = self._direct(rest, "/bye")
        self._client.bye(conversation.id)
        self._awaited.append("bye")

    def _verify(self, rest: str) -> None:
        account = normalise_account(_one(rest, "/verify USER"))
        self._client.verify(account)
        self._show(notice(f"{account} is verified. You will be warned loudly if the key ever changes."))

    def _trust(self, rest: str) -> None:
        account = normalise_account(_one(rest, "/trust USER"))
        self._client.trust(account)
        self._show(notice(f"The new key of {account} is trusted from now on; it has not been compared."))

    def _safety(self, rest: str) -> None:
        account = normalise_account(_one(rest, "/safety USER"))
        groups = self._client.safety_number(account).split(" ")
        self._show(notice(f"Safety number of you and {account}:"))
        for row in range(0, len(groups), 4):
            self._show(notice("    " + " ".join(groups[row : row + 4])))
        self._show(notice(f"If {account} sees the same digits, nobody sits between you: type /verify {account}."))

    def _history(self, rest: str) -> None:
        if rest and not (rest.isascii() and rest.isdigit() and 1 <= int(rest[:5]) <= MAX_HISTORY_LINES):
            raise UsageError(f"Type /history or /history N with a number from 1 to {MAX_HISTORY_LINES}.")
        conversation = self._here()
        messages = self._client.history(conversation.id, int(rest or HISTORY_LINES))
        now = _now()
        for message in messages:
            self._show(message_line(message, conversation, now))
        if not messages:
            self._show(notice(f"Nothing has been said in {title(conversation)} yet."))

    def _repair(self, _: str) -> None:
        conversation = self._here()
        self._client.repair(conversation.id)
        self._show(notice(f"Trying to enter {title(conversation)} anew."))

    def _quit(self, _: str) -> None:
        self.quit()

    commands: ClassVar = {
        command.usage.split(" ")[0]: command
        for command in (
            Command("/msg USER TEXT", "write to somebody, also while they are away", _msg),
            Command("/chat USER", "ask somebody for a private chat", _chat),
            Command("/accept [USER]", "say yes to somebody who asks", _accept),
            Command("/decline [USER]", "say no", _decline),
            Command("/bye [USER]", "end a private chat; it is over when both have said it", _bye),
            Command("/join #ROOM", "enter an open room, or open it", _join),
            Command("/create #ROOM", "make a room that only people you invite can enter", _create),
            Command("/invite USER", "add somebody to the current room", _invite),
            Command("/remove USER", "remove somebody from the current room, if it is yours", _remove),
            Command("/leave [NAME]", "leave a conversation for good; without a name, the current one", _leave),
            Command("/rooms", "list the rooms", _rooms),
            Command("/who", "list the people in the current conversation", _who),
            Command("/go [NAME]", "talk in another conversation; without a name, list them", _go),
            Command("/history [N]", "show the last messages here", _history),
            Command("/safety USER", "show the safety number to compare", _safety),
            Command("/verify USER", "note that you have compared it", _verify),
            Command("/trust USER", "accept a changed key without comparing", _trust),
            Command("/repair", "mend a conversation that stands still", _repair),
            Command("/help", "show this", _help),
            Command("/quit", "leave the program; your conversations stay", _quit),
        )
    }
    """The commands by name, in the order of `/help`."""

    # --- events

    def event(self, event: Event) -> None:
        """Show an event and go on with what was waiting for it."""
        conversation = self._conversation_of(event)
        match event:
            case Received(message=message):
                self._show_message(message, conversation)
            case Delivered(message=message) if message.local_id in self._unsent:
                self._unsent.remove(message.local_id)
            case Delivered(message=message):  # queued by the core for us, or in an earlier run
                self._answered("delivered")
                self._show(message_line(message, conversation, _now()))
            case Ready():
                self._show_ready()
            case PresenceChanged(account=account, state=state) if self._presence.get(account) == state:
                pass  # the same news, told once for each conversation that we share
            case _:
                for line in event_lines(event, conversation, self._client.account):
                    self._show(line)
        self._note(event)
        self._go_on(event)

    def _conversation_of(self, event: Event) -> Conversation | None:
        if isinstance(event, ConversationChanged):
            return event.conversation
        wanted = event.message.conversation if isinstance(event, Received | Delivered) else getattr(
            event, "conversation", None
        )  # fmt: skip
        return self._find_by_id(wanted)

    def _find_by_id(self, conversation: bytes | None) -> Conversation | None:
        return next((one for one in self._client.conversations() if one.id == conversation), None)

    def _show_message(self, message: Message, conversation: Conversation | None) -> None:
        if message.own:  # from another device, or one of which nothing comes: it says why
            self._unsent.discard(message.local_id)
        else:
            self._newest_shown = max(self._newest_shown, message.local_id)
            if conversation is None or conversation.name != self._current:
                self._unread[message.conversation] = self._unread.get(message.conversation, 0) + 1
        self._show(message_line(message, conversation, _now()))

    def _show_ready(self) -> None:
        if not self._ready and not self._piped:
            self._show(notice("You are in. /help tells what you can type."))
        self._ready = True

    def _note(self, event: Event) -> None:
        """Remember what later lines depend on."""
        match event:
            case PresenceChanged():
                self._presence[event.account] = event.state
            case RoomList():
                self._answered("rooms")
            case MemberList():
                self._answered("members")
            case ConversationChanged(conversation=conversation, change=change, account=account):
                if account in ("", self._client.account):
                    self._answered_by(change)
                if conversation.kind == "direct" and change in ("opened", "joined", "request"):
                    self._meet(conversation.name)
            case Refused():
                self._refused()
            case Connected():
                self._reached = True
            case Disconnected() if self._piped and not self._reached:
                self._failure = ExitCode.UNREACHABLE  # a script should hear of it; a person can wait
                self.quit()
            case Held() if self._piped:
                self._held, self._failure = True, ExitCode.UNTRUSTED
            case Ended(error=error):
                self.exit_code = exit_code(error) or self._failure

    def _meet(self, account: str) -> None:
        if account not in self._met:
            self._met.add(account)
            self._show(first_contact(account))

    def _answered_by(self, change: str) -> None:
        match change:
            case "opened" | "joined" | "members":
                self._answered("entered")
            case "closed":  # the second bye; a conversation of which nothing comes
                self._answered("bye")
                self._answered("entered")
            case "accepted" | "declined" | "bye" | "left":
                self._answered(change)

    def _answered(self, what: Awaited) -> None:
        if what in self._awaited:
            self._awaited.remove(what)

    def _refused(self) -> None:
        """A refusal does not say of what: it is taken for what has been waiting longest."""
        if self._opening:
            if self._current == self._opening:
                self._current = ""
            self._opening = ""
            self._answered("delivered")
            self._answered("entered")
            if not self._piped:
                self._kept.clear()  # written for a conversation that does not come about
        elif self._awaited:
            self._awaited.pop(0)

    def _go_on(self, event: Event) -> None:
        """Do the kept lines, as far as what they wait for is there now."""
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


def _now() -> datetime:
    return datetime.now().astimezone()
