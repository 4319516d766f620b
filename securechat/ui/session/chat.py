"""A session without its terminal: typed lines and events in, lines to show out, or what a face makes of them instead.

Runs on one thread. It knows where one is (`place`) and what has been asked and not answered yet; everything else is
asked of the core when it is needed. What the commands do is `verbs`.
"""

import math
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Final

from securechat.clean import clean, clean_line
from securechat.client.commands import (
    ChangePassword,
    Command,
    Confirm,
    DeleteAccount,
    MarkShown,
    MarkUnread,
    Send,
    TakePassword,
    Type,
    Unlock,
    Visit,
)
from securechat.client.events import (
    AccountDeleted,
    AskedByLine,
    Connected,
    ConversationChanged,
    Delayed,
    Deleted,
    Delivered,
    Disconnected,
    Done,
    Edited,
    Ended,
    Event,
    Held,
    Invited,
    Marked,
    OwnSessions,
    PasswordReplaced,
    PasswordWanted,
    PreferenceChanged,
    PresenceChanged,
    Reacted,
    Ready,
    Received,
    Refused,
    Said,
    Unreachable,
)
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import RefusedError, SecurechatError, UsageError
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.ring import Ring
from securechat.ui.session.about import Numbers
from securechat.ui.session.back import Reading
from securechat.ui.session.place import Place
from securechat.ui.session.verbs import named
from securechat.ui.session.voice import Decoded, Voices
from securechat.ui.text.conversations import changed_more, presence
from securechat.ui.text.states import arrived, why_password, why_silent
from securechat.ui.text.wording import in_words, title
from securechat.ui.view.flood import Flood
from securechat.ui.view.lines import (
    became_of,
    deleted_line,
    edited_line,
    message_line,
    notice,
    reacted_line,
    sent_line,
    sentence_line,
    warning,
)
from securechat.ui.view.listing import Listing
from securechat.ui.view.news import News
from securechat.ui.view.notify import notification
from securechat.ui.view.presence import Presence
from securechat.ui.view.rows import Line, line_of
from securechat.ui.view.status import Link, Typists

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

AT_THE_KEYBOARD: Final = 60.0
"""Seconds after a typed line in which no notice comes of what is said in the same conversation."""

LINES_BACK: Final = 20
"""Newest lines of a conversation among which our own newest one is looked for, to say what became of it."""

LAST: Final = 10
"""Messages that one finds on the screen where one was last: by them one knows where one is."""

UNREAD_AT_ONCE: Final = 500
"""Messages taken from the vault, shown and marked as read together."""


_COMMANDS_ELSEWHERE: Final = {
    **dict.fromkeys(("exit", "quit", "logout", ":q", ":q!", ":wq", ":x"), "leave, type /quit"),
    **dict.fromkeys(("help", "?"), "see what you can type, type /help"),
}
"""What people type to leave a program or to be helped, and what they do here."""


class Chat:
    """One person's session. `show` prints lines that are already harmless."""

    def __init__(
        self,
        client: "ChatClient",
        show: Callable[[str], None],
        *,
        piped: bool,
        first: str = "",
        ring: Ring | None = None,
        later: Callable[[Decoded], None] | None = None,
    ) -> None:
        """`piped`: nobody is waiting at the keyboard, so a line is kept until the ones before it are settled.

        `first`: a command, which is done once we are in. `ring`: lets notices come, where somebody may hear them.
        `later`: takes what a thread has made of a voice note, to hand it to `heard`.
        """
        self._ring = ring
        self._typed = -AT_THE_KEYBOARD  # when the last line was typed (monotonic seconds)
        self._wrote = -math.inf  # when something was changed in the line that is being typed
        self.exit_code: ExitCode | None = None  # set once the core has ended
        self.quitting = False
        self.client = client
        self.show = show
        self.piped = piped
        self._reached = False  # whether there has ever been a connection
        self._alone = False  # whether a pipe goes on without one, until there is one
        self._cut_off = False  # whether there is none now, although it was tried
        self._ready = False
        self._held = False  # a line waits for a decision that nobody can make in a pipe, or for somebody who is away
        self._failure = ExitCode.OK
        self._opening = ""  # the name of the conversation that has been asked for and is not there yet
        self._opened_by = 0  # the command that asked for it
        self._came_from = ("", b"")  # where one was before
        self._kept: list[str] = []  # lines typed meanwhile
        self._waits_for: Held | Delayed | Unreachable | None = None  # shown since the last typed line
        self._questions: dict[bytes, int] = {}  # conversation -> what Enter alone answers there
        self._unanswered: set[int] = set()  # commands
        self._newest_shown = self._newest_marked = 0  # local ids
        self._connected = False
        self._said: dict[int, int] = {}  # command -> the local id of the line that it has said
        self._shown_waiting: set[int] = set()  # local ids of lines that the screen shows as not sent yet
        self._fate = ""
        """What became of the newest line of ours in the current conversation, unless it was simply sent."""
        self.link = Link()
        self._typists = Typists(monotonic)
        self._told_typing = b""  # the conversation in which others have been told that we type
        self._marked_place = (b"", 0)  # a conversation, and the line up to which it was seen
        self._unread_again: bytes | None = None  # the conversation that stays unread until they speak there, or go on
        self._other_wanted = False  # the account's password, which is not the vault's
        self.sessions: OwnSessions | None = None  # as shown last
        self.leaving: dict[int, bytes] = {}  # command -> the conversation, which may refuse it
        self.logout = 0  # the command that ends this device's right to come back
        self.place = Place(client)
        self.numbers = Numbers()
        self.reading = Reading()
        self.voices = Voices(later or self.heard)
        self.listing = Listing(client)
        self._news = News(client)
        self._doubtful = ""  # said once Enter alone says so
        self._presence = Presence(monotonic)
        self._flood = Flood(monotonic)
        self._first = first
        self._invited = ("", -math.inf)
        """The room to which an invite line of this session leads, and when it was used (monotonic seconds)."""

    @property
    def prompt(self) -> str:
        """The prompt before the line being typed."""
        where = f"[{self.place.name}] > " if self.place.name else "> "
        return f"(no connection) {where}" if self._cut_off else where

    @property
    def due(self) -> float:
        """When `tell_folded` has something to tell, in monotonic seconds; infinite: nothing is due."""
        return min(self._presence.due, self._flood.due)

    def tell_folded(self) -> None:
        """Show who has come and gone, and how much more was changed than was shown, if that is due."""
        for sentence in presence(self._presence.take()):
            self.show(sentence_line(sentence))
        for (where, who), count in self._flood.rest().items():
            self.show(sentence_line(changed_more(who, count, self.client.conversation(where))))

    @property
    def status(self) -> str:
        """Who types in the current conversation, or else what became of our newest line there. Any thread."""
        return self._typists.told(self.place.id) or self._fate

    @property
    def idle(self) -> bool:
        """Whether everything typed so far is done, or held until somebody decides or there is a connection."""
        done = self._held or not (self._unanswered or self.voices.busy)
        return self._alone or (self._ready and done and not (self._opening or self._kept))

    def quit(self) -> None:
        """Close the core; its `Ended` sets `exit_code`."""
        if not self.quitting:
            self.quitting = True
            self._give_up_kept()
            if self._alone and self._unanswered:
                self.show(warning("There is no connection: what you said is kept, and sent when you come again."))
            self.client.close()

    def show_unread(self) -> None:
        """Show what came in while nobody was looking, for example during `securechat send`. Call before the start."""
        while lines := self.client.unread(self._newest_shown, UNREAD_AT_ONCE):
            for message in lines:
                self._take_message(message)
        self.mark_shown()

    def take_place(self) -> None:
        """Be where one was at the end of the last session, and see what was said there. Call before `show_unread`."""
        conversation = None if self.piped else self.client.place()
        if conversation is None or self.place.alive(conversation.name) is None:
            return
        self.place.turn_to(conversation.name, conversation.id)
        next_shown = next((each.local_id for each in self.client.unread(0, 1)), math.inf)
        now = datetime.now().astimezone()
        for message in self.client.past(conversation.name, LAST):
            if message.own or message.local_id < next_shown:
                self.show(message_line(self._line_of(message), title(conversation), now, fate=True))
        self.visit(conversation.name)

    def mark_shown(self) -> None:
        """Mark in the vault what is on the screen now. Call when nothing more is waiting to be shown."""
        self._mark_place()
        if self._newest_shown > self._newest_marked:
            self._newest_marked = self._newest_shown
            self.client.do(MarkShown(self._newest_shown))

    def _mark_place(self) -> None:
        """Have the vault keep where one is, and up to which line one has seen what came in there."""
        if self.piped:  # nobody is anywhere
            return
        here = self.place.find() if self.place.name else None
        where = b"" if here is None else here.id
        if where == self._unread_again:
            return
        seen = max(self._newest_shown, self.listing.counted(where)) if where else 0
        if (where, seen) != self._marked_place:
            self._marked_place = where, seen
            self.client.do(Visit(where, seen))

    # --- typed lines

    def unlock(self, password: str) -> None:
        """Give the core the password that was typed after `/unlock`, where nobody could read it."""
        self.do(TakePassword(password) if self._other_wanted else Unlock(password))

    def change_password(self, old: str, new: str) -> None:
        """Have the core put another password in place of the present one; both were typed after `/password`."""
        self.do(ChangePassword(old, new))

    def delete_account(self, rest: str, password: str) -> None:
        """Have the account deleted that was typed after `/delete-account`, and the password after that."""
        name, _, wipe = rest.partition(" ")
        if wipe.strip() not in ("", "wipe"):
            self.show(warning(f"Type /delete-account {clean_line(name)}, or /delete-account {clean_line(name)} wipe."))
            return
        self.do(DeleteAccount(name, password, wipe=bool(wipe)))

    def typing(self, text: str) -> None:
        """Take note of what stands in the line that is being typed: whoever is in the conversation may know of it."""
        self._wrote = monotonic()
        here = self.place.find() if self.place.name else None
        says = bool(text.strip()) and not _is_command(text)
        if says and here is not None and not why_silent(here):
            self._told_typing = here.id
            self.client.do(Type(here.id))
        elif not text and self._told_typing:
            self.client.do(Type(self._told_typing, typing=False))
            self._told_typing = b""

    def line(self, text: str) -> None:
        """Carry out a typed line."""
        self._told_typing = b""  # what was said shows that we have stopped
        text = text.rstrip()
        self._typed = monotonic()
        if not text:
            self._confirm()
            return
        self._waits_for = None  # what is typed now is answered, too
        self._doubtful = text if not self.piped and self._doubts(text) else ""
        if self._doubtful:
            return
        if text == "/quit":
            self.quit()
        elif self._has_to_wait(text):
            self._kept.append(text)
            if not self.piped:
                self.show(notice(f"Waiting for {self._opening}; then: {clean(text)}"))
        else:
            self._do(text)
        self._look()

    def heard(self, decoded: Decoded) -> None:
        """Take what has come of a voice note that was to be played."""
        try:
            self.show(notice(clean(self.voices.heard(decoded))))
        except SecurechatError as error:
            self._fail(exit_code(error))
            self.show(warning(clean(str(error))))

    def _confirm(self) -> None:
        """Enter alone answers what is asked in the current conversation. In a pipe nobody can be asked."""
        conversation = self.place.find()
        if self._doubtful:
            doubtful, self._doubtful = self._doubtful, ""
            self._do(doubtful)
        elif conversation is not None and not self.piped and (question := self._questions.pop(conversation.id, 0)):
            self.do(Confirm(conversation.id, question))

    def _doubts(self, text: str) -> bool:
        """Ask before a word is said to people that is a command elsewhere. Whether it was asked."""
        command = _COMMANDS_ELSEWHERE.get(text.strip().lower(), "")
        if command and self.place.name:
            where = clean_line(self.place.name)
            self.show(notice(f"To {command}. Enter alone says this to {where}: {clean_line(text)}"))
        return bool(command and self.place.name)

    def _has_to_wait(self, text: str) -> bool:
        if self._kept or (self.piped and not (self._ready or self._alone)):
            return True
        # What is said in a conversation that is being opened can wait in the vault, once the conversation is in it.
        return bool(self._opening) and (_is_command(text) or self.client.find(self._opening) is None)

    def _do(self, text: str) -> None:
        try:
            _check_typed(text)
            if _is_command(text):
                self._command(text)
            else:
                self.say(self.place.here(), text.removeprefix("/"))
        except SecurechatError as error:
            self._fail(exit_code(error))
            self.show(warning(clean(str(error))))

    def _fail(self, code: ExitCode) -> None:
        """Something that was asked for was not done: a pipe ends with the first such code, whatever comes after it."""
        if self.piped and self._failure == ExitCode.OK:
            self._failure = code

    def _command(self, text: str) -> None:
        word, rest = [*text.split(maxsplit=1), ""][:2]
        verb = named(word)
        if rest and not verb.takes_argument:
            raise UsageError(f"{verb.usage} takes nothing after it. Type {verb.usage} alone.")
        verb.run(self, rest.strip())

    def say(self, conversation: ConversationSnapshot, text: str) -> None:
        """Say something in a conversation. Raises `UsageError` if nothing can be said there."""
        self.speak(conversation, Send(conversation.id, text))

    def speak(self, conversation: ConversationSnapshot, command: Command) -> None:
        """The same of what is no plain text."""
        # Commands that are not answered yet may change what we see here: then the core knows better.
        if not self._unanswered and (silent := why_silent(conversation)):
            if self.piped and conversation.state == "request":
                self._failure = ExitCode.UNTRUSTED  # a question, which nobody answers here
            raise UsageError(silent)
        if conversation.id == self.place.id:
            self.see(conversation)
        self.do(command)

    def do(self, command: Command) -> None:
        """Hand a command to the core, which answers it."""
        self._unanswered.add(command.id)
        self.client.do(command)

    def visit(self, name: str) -> None:
        """Go to a conversation that is there. Raises `UsageError`."""
        conversation = self.place.named(name)
        self.place.turn_to(conversation.name, conversation.id)
        if unread := self.listing.unread(conversation.id):
            self.reading.new = self.client.first_unread(conversation.id)
        self.see(conversation)
        for other in self.client.called(conversation.name):  # what was said there is read under the same name
            if other.id != conversation.id and self.listing.unread(other.id):
                self._see_beside(other.id)
        self.show_arrival(conversation, unread)

    def see(self, conversation: ConversationSnapshot) -> None:
        """Note that one has seen all there is of a conversation."""
        self._unread_again = None
        self.listing.see(conversation.id)

    def _see_beside(self, other: bytes) -> None:
        """Note the same of another conversation that has the name of the current one."""
        self.listing.see(other)
        if not self.piped:
            self.client.do(Visit(other, self.listing.counted(other)))
            self._marked_place = b"", 0  # one is not there

    def leave_unread(self, line: int) -> None:
        """Let a line of the current conversation, and what came in after it, be unread, though one is there."""
        self._unread_again = self.place.here().id
        self.do(MarkUnread(line))

    def open(self, name: str, command: Command) -> None:
        """Go to a conversation that the command brings into being: lines typed meanwhile are kept."""
        self._came_from = self.place.name, self.place.id
        self.place.turn_to(name)
        self._opening = name
        self._opened_by = command.id
        self.do(command)

    # --- events

    def event(self, event: Event) -> None:
        """Show an event, and go on with what was waiting for it."""
        self.listing.fold(event)
        self.link.fold(event)
        self._typists.fold(event)
        self._note_waiting(event)
        self._notify(event)
        if isinstance(event, ConversationChanged):
            self.place.find()  # it may have another name now
        match event:
            case _ if self.voices.takes(event):
                pass
            case Received(message=message) | Refused(message=Message() as message):
                self._take_message(message)
            case Said(message=message) if event.command in self._unanswered:
                self._take_message(message)
            case Delivered(message=message) if message.local_id in self._shown_waiting:
                self._shown_waiting.discard(message.local_id)
                self.show_sent(message)
            case Delivered(message=message) if event.command not in self._unanswered:  # said in an earlier run
                self._take_message(message)
            case Said() | Delivered():
                pass
            case Edited() | Deleted() | Reacted():
                self.show_amended(event)
            case PresenceChanged():
                self._presence.note(event)
            case Ready():
                self._show_ready()
            case Held() | Delayed() | Unreachable() if replace(event, command=0) == self._waits_for:
                pass  # told to each command that waits, and shown once
            case _:
                self.show_news(event)
        if isinstance(event, Held | Delayed | Unreachable):
            self._waits_for = replace(event, command=0)
        self._note(event)
        self._go_on(event)
        if isinstance(event, Said | Delivered | Marked | Refused | PreferenceChanged | ConversationChanged):
            self._look()

    # --- what a face may show in another way

    def show_message(self, message: Message) -> None:
        """Show what was said."""
        waits = message.local_id in self._shown_waiting
        where = title(self.client.conversation(message.conversation))
        self.show(message_line(self._line_of(message), where, datetime.now().astimezone(), fate=waits))

    def show_sent(self, message: Message) -> None:
        """Show that a line has been sent that the screen shows as waiting."""
        self.show(sent_line(self._line_of(message), in_words(self.client.conversation(message.conversation))))

    def show_news(self, event: Event) -> None:
        """Show what is said of an event."""
        for sentence in self._news.of(event):
            self.show(sentence_line(sentence))

    def show_arrival(self, conversation: ConversationSnapshot, unread: int) -> None:
        """Show that one is in a conversation now, and how much is new there."""
        if not self.piped:
            new = f" {unread:,} new: /history shows the last messages." if unread else ""
            self.show(notice(arrived(conversation) + new))

    def show_entry(self) -> None:
        """Show that everything that was missed is there now."""
        if not self.piped:
            self.show(notice("You are in. /help tells what you can type."))

    def _notify(self, event: Event) -> None:
        """Let a notice come of what is new since we have read everything, and who types here has not seen."""
        if self._ring is None or not self._ready:
            return
        match event:
            case Received(message=message):
                where = self.client.conversation(message.conversation)
            case Invited(invitation=invitation):
                where = self.client.find(invitation.inviter)
            case ConversationChanged(conversation=where):
                pass
            case _:
                return
        here = where is not None and where.name == self.place.name and isinstance(event, Received)
        if here and monotonic() - self._typed < AT_THE_KEYBOARD:
            return
        told = notification(event, where, self.client.account, datetime.now().astimezone(), self.client.prefers)
        if told is not None:
            self._ring.ring(told, (self.client if where is None else where).prefers("notify-by"))

    def _note_waiting(self, event: Event) -> None:
        """Remember which lines on the screen are not sent yet, so that it is told once they are."""
        match event:
            case Ready():
                self._connected = True
            case Disconnected():
                self._connected = False
            case Said(message=message):
                self._said[event.command] = message.local_id
                if not self._connected:
                    self._shown_waiting.add(message.local_id)
            case Held() | Delayed() | Unreachable() if event.command in self._said:
                self._shown_waiting.add(self._said[event.command])
            case Done() | Refused():
                self._said.pop(event.command, None)

    def _look(self) -> None:
        """See what has become of the newest line of ours here."""
        here = None if self.piped else self.place.find()
        lines = self.client.history(here.id, LINES_BACK) if here is not None else []
        newest = next((message for message in reversed(lines) if message.own), None)
        line = None if newest is None else self._line_of(newest)
        self._fate = "" if line is None or (line.delivery == "sent" and not line.delivered) else became_of(line)

    def _line_of(self, message: Message) -> Line:
        where = self.client.conversation(message.conversation)
        marks = where is None or where.prefers("show-marks") == "on"
        return line_of(message, self.client.clean, self.client.account, marks=marks)

    def _take_message(self, message: Message) -> None:
        conversation = self.client.conversation(message.conversation)
        if not message.own:
            self._newest_shown = max(self._newest_shown, message.local_id)
            is_here = conversation is not None and conversation.name == self.place.name
            if is_here and message.conversation not in (self._unread_again, self.place.id):
                self._see_beside(message.conversation)
            elif is_here and message.conversation != self._unread_again:
                self.listing.see(message.conversation)
        self.show_message(message)
        nowhere = not (message.own or self.piped or self.place.name)  # and so goes where it was said
        if nowhere and conversation is not None and conversation.state == "open":
            self.listing.see(conversation.id)
            self.visit(conversation.name)

    def show_amended(self, event: Edited | Deleted | Reacted) -> None:
        """Say in a line of its own what has become of one that is on the screen; of many by one person, of a few."""
        match event:
            case Edited(message=message):
                by = message.sender
            case Deleted(message=message):
                by = message.deleted_by
            case Reacted(message=message, account=by):
                pass
        if by != self.client.account and not self.piped and not self._flood.shows((message.conversation, by)):
            return
        conversation = self.client.conversation(event.message.conversation)
        where, line = in_words(conversation), self._line_of(event.message)
        match event:
            case Edited():
                before, now = self.client.clean(event.before), datetime.now().astimezone()
                self.show(edited_line(line, before, title(conversation), now))
            case Deleted():
                self.show(deleted_line(line, where, self.client.account))
            case Reacted():
                who = "you" if by == self.client.account else clean_line(by)
                self.show(reacted_line(line, who, clean_line(event.text), where, removed=event.act == "remove"))

    def _show_ready(self) -> None:
        if not self._ready:
            self.show_entry()
        self._ready = True
        if self._first:
            first, self._first = self._first, ""
            self._do(first)
        for invitation in self.client.invitations():  # what an earlier session has not answered
            for sentence in self._news.of(Invited(invitation)):
                self.show(sentence_line(sentence))

    def _note(self, event: Event) -> None:
        """Remember what later lines depend on."""
        match event:
            case AccountDeleted():
                self.quit()
            case AskedByLine() if not self.piped and self.place.alive(event.account) is not None:
                self.visit(event.account)
                self._invited = event.room, monotonic()
            case ConversationChanged(change="joined", conversation=there) if there.name == self._invited[0]:
                self._come_by_line(there.name)
            case OwnSessions():
                self.sessions = event
            case PasswordWanted(why="changed") if not self.piped:
                self._other_wanted = True
            case PasswordReplaced():
                self._other_wanted = False
            case Done() | Refused():
                left = self.leaving.pop(event.command, None)
                if left is not None and left == self.place.id and isinstance(event, Done):
                    self.place.turn_to("")
                if isinstance(event, Refused) and event.command in self._unanswered:
                    self._fail(exit_code(RefusedError(event.code, event.text)))
                if event.command == self.logout and isinstance(event, Done):
                    self.quit()
                self._unanswered.discard(event.command)
                if event.command == self._opened_by:
                    self._opened(came_about=isinstance(event, Done))
            case Held(conversation=conversation, question=question):
                self._questions[conversation] = question
                if self.piped:
                    self._held, self._failure = True, ExitCode.UNTRUSTED
            case Unreachable(command=command) if self.piped and command:
                self._held, self._failure = True, ExitCode.UNTRUSTED
            case Connected():
                self._reached, self._cut_off = True, False
                self._alone = False
            case Disconnected():
                self._cut_off = True
                if self.piped and not self._reached:  # what needs no server is done, and a script hears of it
                    self._alone = True
            case PasswordWanted(why="login" | "changed") if self.piped:
                self._failure = exit_code(RefusedError("login-refused", why_password(event)))
                self.quit()
            case Delayed(code=code, text=text) if self.piped:
                self._held, self._failure = True, exit_code(RefusedError(code, text))
            case Ended(error=error):
                self.exit_code = exit_code(error) or (ExitCode.UNREACHABLE if self._alone else self._failure)

    def _come_by_line(self, room: str) -> None:
        """Go on to the room that a line leads to, unless something is being said to whoever gave the line."""
        if max(self._typed, self._wrote) < self._invited[1]:
            self.visit(room)
        self._invited = "", -math.inf

    def _opened(self, *, came_about: bool) -> None:
        """What was asked for exists, or never will."""
        if not came_about and self._opening:
            if self.place.name == self._opening:
                self.place.turn_to(*self._came_from)
            self._give_up_kept()
        self._opening, self._opened_by = "", 0

    def _give_up_kept(self) -> None:
        """Tell what is not done any more: it was typed for a conversation that never came to be. A pipe goes on."""
        goes_on = self.piped and not self._alone
        kept, self._kept = ([], self._kept) if goes_on else (self._kept, [])
        for text in kept:
            self.show(warning(f"This was not said or done: {clean(text)}"))

    def _go_on(self, event: Event) -> None:
        """Carry out the kept lines, as far as what they waited for is there now."""
        if isinstance(event, ConversationChanged) and event.conversation.name == self._opening:
            self._opening = ""
        while self._kept and not self._opening and (self._ready or self._alone or not self.piped):
            self._do(self._kept.pop(0))


def _check_typed(text: str) -> None:
    """Raise `UsageError` for what no screen shows, as a key that does something else in other programs leaves it."""
    control = next((each for each in text if unicodedata.category(each) == "Cc" and each not in "\n\t\r"), "")
    if control:
        raise UsageError(f"There is a control character in that (U+{ord(control):04X}): nothing was done with it.")


def _is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")
