"""`securechat send` and `securechat recv`: the client for scripts. Standard output is the result, errors are one line.

Both start the core, watch its events until their own question is answered, and close it. The answer is an exit code.
"""

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from math import inf
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from securechat.clean import clean_line
from securechat.client.commands import (
    ChangePassword,
    Command,
    JoinRoom,
    ListInviteLines,
    ListRooms,
    MakeInviteLine,
    MarkShown,
    OpenDirect,
    Reply,
    RevokeInviteLine,
    Send,
    TakePassword,
    UseInviteLine,
)
from securechat.client.events import (
    Alarm,
    AskedByLine,
    Connected,
    ConversationChanged,
    Delayed,
    Delivered,
    Disconnected,
    Done,
    Ended,
    Event,
    Held,
    Invited,
    InviteLineMade,
    InviteLineRefused,
    InviteLines,
    InviteLineUsed,
    KeyChanged,
    LostRevoked,
    NotRegained,
    OwnKeyUsed,
    PasswordReplaced,
    PasswordWanted,
    Ready,
    Received,
    Recovered,
    Refused,
    RoomList,
    Unreachable,
    Waiting,
)
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot, Invitation
from securechat.content.registry import MAX_TEXT, check_text
from securechat.errors import RefusedError, SecurechatError, UsageError
from securechat.identity.invite_line import InviteLine
from securechat.names import normalise_title
from securechat.ui import person
from securechat.ui.called import program
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.handover import OwnerGone
from securechat.ui.interrupts import Woken, interrupts_wake
from securechat.ui.objects import conversation_of, event_object
from securechat.ui.objects import line_of as object_line
from securechat.ui.qr import show_beside
from securechat.ui.text.sentences import sentences
from securechat.ui.text.states import why_held, why_password, why_silent, why_unreachable
from securechat.ui.text.wording import title
from securechat.ui.time_limit import GRACE_SECONDS, TIME_IS_UP
from securechat.ui.told import tell
from securechat.ui.view.lines import message_line
from securechat.ui.view.rows import line_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

Events = SimpleQueue[Event | Woken]
"""The queue whose `put` is the core's `on_event`."""

UNREAD_AT_ONCE: Final = 500
"""Messages taken from the vault, printed and marked as read together."""

REPLY_LINES: Final = 1000
"""Newest messages among which the one is looked for that a program answers."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye."""

RECOVERY_SECONDS: Final = 600.0
"""How long a recovery may get no further: three connections of a minute (`client.recovery`) are a third of it, the rest
is for waits between them."""


DECIDE: Final = "This device does not go on before you have decided: start securechat, and type /rotate."
"""Said where another program with the identity key has been in: that is a question, and nobody is there to answer."""


def read_text() -> str:
    """Return all of standard input without the line break at its end. Raises `UsageError`."""
    content = sys.stdin.buffer.read(MAX_TEXT + len("\r\n") + 1)
    if len(content) > MAX_TEXT + len("\r\n"):
        raise UsageError(f"One message takes {MAX_TEXT:,} bytes of text; send a longer one in parts.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UsageError("Standard input is not UTF-8 text.") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise UsageError("Standard input is empty: there is nothing to send.")
    check_text(text)
    return text


def about(invitation: Invitation) -> str:
    """Say that an invitation waits for a person: a program answers none but those of its settings."""
    who, room = invitation.inviter, invitation.name
    state = "first contact, " if invitation.first_contact else ""
    return (
        f"{who} ({state}key {invitation.key}) invites you to {room}. Answer in the client: /accept {room}. Or let "
        f"programs accept what this key sends: --accept-invitations-of {who}:{invitation.key}"
    )


class Run:
    """What these commands share: the time limit, lines for a person, and the events that mean the same for both."""

    def __init__(
        self, client: "ChatClient", events: Events, *, wait: bool, timeout: float | None, errors: TextIO
    ) -> None:
        self.client = client
        self._events = events
        self._wait = wait
        self._deadline = inf if timeout is None else monotonic() + timeout
        self.time_is_up = TIME_IS_UP
        self._close_seconds = CLOSE_SECONDS
        self.takes_password = False  # the account's, where the vault has another one
        self._errors = errors
        self._reached = False
        self._ended = False

    def extend(self, seconds: float) -> None:
        """Let time be up so many seconds from now."""
        self._deadline = monotonic() + seconds

    def complain(self, text: str) -> None:
        """Print one line for a person, if anybody hears it: what is done does not depend on that."""
        with suppress(OSError):
            tell(f"securechat: {text}", self._errors)

    def mention(self, text: str) -> None:
        """Print one line of news for a person who wants to hear them."""
        if person.hears_news():
            self.complain(text)

    def refused(self, event: Refused | Delayed) -> ExitCode:
        """Say why something was not done, and return the exit code for that."""
        theirs = isinstance(event, Refused) and event.code != "local"
        self.complain(f"The server says: {event.text}" if theirs else event.text)
        return exit_code(RefusedError(event.code, event.text))

    def until(self, judge: Callable[[Event], ExitCode | None]) -> ExitCode:
        """Start the core and hand its events to `judge` until it answers, the core ends, or time is up.

        Raises OwnerGone where the core was another program's, and that has ended.
        """
        self.client.start()
        try:
            with interrupts_wake(self._events.put):
                result = self._watch(judge)
        except SecurechatError as error:
            self.complain(str(error))
            result = exit_code(error)
        except KeyboardInterrupt:
            result = ExitCode.INTERRUPTED
        finally:
            self._close()
        return result

    def _watch(self, judge: Callable[[Event], ExitCode | None]) -> ExitCode:
        while True:
            event = self._next()
            if event is None:
                self.complain(self.time_is_up)
                self._close_seconds = GRACE_SECONDS
                return ExitCode.TIMEOUT
            result = self._judge_connection(event)
            if result is None:
                result = judge(event)
            if result is not None:
                return result

    def _next(self) -> Event | None:
        event: Event | Woken = Woken()
        while isinstance(event, Woken):
            left = min(max(0.0, self._deadline - monotonic()), TIMEOUT_MAX)
            try:
                event = self._events.get(timeout=None if self._deadline == inf else left)
            except Empty:
                return None
        return event

    def _judge_connection(self, event: Event) -> ExitCode | None:
        match event:
            case Connected():
                self._reached = True
            case Disconnected(reason=reason) if not self._reached:
                self.complain(reason)
                return ExitCode.UNREACHABLE
            case PasswordWanted(why="changed") if self.takes_password:
                pass
            case PasswordWanted(why="login" | "changed"):
                error = RefusedError("login-refused", why_password(event))
                self.complain(f"{error} Programs need a password file that stays.")
                return exit_code(error)
            case PasswordWanted():
                self.complain(f"{why_password(event)} Programs need a password file that stays.")
            case OwnKeyUsed(shut_out=True):
                for sentence in sentences(event, None, self.client.account):
                    self.complain(sentence.text)
                self.complain(DECIDE)
                return ExitCode.UNTRUSTED
            case Waiting(place=place) if not self._wait:
                self.complain(f"The server is full; {place} in the queue. With --wait this command waits.")
                return ExitCode.FULL
            case Ended(error=OwnerGone() as gone):
                self._ended = True
                raise gone
            case Ended(error=error):
                self._ended = True
                self.complain("The client has stopped." if error is None else str(error))
                return exit_code(error) or ExitCode.FAILURE
        return None

    def _close(self) -> None:
        self.client.close()
        self._deadline = monotonic() + self._close_seconds
        while not self._ended and (event := self._next()) is not None:
            self._ended = isinstance(event, Ended)


class Attempt:
    """What a `send` has tried before the program through which it went has ended."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.newest: int | None = None  # the newest line there before the text was handed over; None: it was not


def run_send(
    client: "ChatClient",
    events: Events,
    to: str,
    text: str,
    *,
    attempt: Attempt | None = None,
    reply: int = 0,
    create: bool = False,
    wait: bool,
    timeout: float | None,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Send `text` to an account or `#room`; OK once the server has it on disk. `timeout` in seconds.

    `reply`: the seq of the message there that it answers, among the newest REPLY_LINES; 0: it answers none.

    `attempt`: the same one where this goes on after OwnerGone, which it raises as `Run.until` does: a text that is in
    the vault by then is not said twice.

    If we are not in the room yet, we enter it first; one that is not there is made only with `create`. A text that was
    queued and not accepted stays in the vault: the next client of this account sends it.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)
    try:
        name = normalise_title(to)
    except SecurechatError as error:
        run.complain(str(error))
        return ExitCode.USAGE
    return run.until(_Sending(run, name, text, reply, attempt or Attempt(), create=create).judge)


class _Sending:
    """One text's progress."""

    def __init__(self, run: Run, name: str, text: str, reply: int, attempt: Attempt, *, create: bool) -> None:
        self._run = run
        self._attempt = attempt
        self._said = 0  # the line that an earlier attempt has left in the vault
        self._reply = reply
        self._create = create
        self._listed = False  # by the server
        self._client = run.client
        self._name = name
        self._text = text
        self._command: Command | None = None  # the newest one given

    def judge(self, event: Event) -> ExitCode | None:
        """Give the next command when the one before is done, and say how it ended."""
        if isinstance(event, Ready) and self._command is None:
            for invitation in self._client.invitations():
                if invitation.name == self._name and self._client.find(self._name) is None:
                    self._run.complain(about(invitation))
                    return ExitCode.UNTRUSTED
            if (said := self._said_before()) is not None:
                self._said = said.local_id
                return ExitCode.OK if said.seq else None
            return self._go_on()
        if isinstance(event, Delivered) and event.message.local_id == self._said:
            return ExitCode.OK
        if self._command is not None and event.command == self._command.id:
            match event:
                case RoomList(rooms=rooms):
                    self._listed = any(each.name == self._name and each.kind == "open" for each in rooms)
                case Done() if isinstance(self._command, ListRooms):
                    return self._enter()
                case Done() if isinstance(self._command, JoinRoom):
                    return self._go_on()
                case Done():
                    return ExitCode.OK
                case Held():
                    why = why_held(event, self._client.conversation(event.conversation))
                    self._run.complain(f"{why} Decide in `securechat client`.")
                    return ExitCode.UNTRUSTED
                case Unreachable():
                    why = why_unreachable(event, self._client.conversation(event.conversation))
                    self._run.complain(f"{why} Decide in `securechat client`." if event.new else why)
                    return ExitCode.UNTRUSTED
                case Refused() | Delayed():
                    return self._run.refused(event)
        return None

    def _go_on(self) -> ExitCode | None:
        found = self._client.find(self._name)
        if found is not None and found.state == "request":
            self._run.complain(f"{why_silent(found)} Decide in `securechat client`.")
            return ExitCode.UNTRUSTED
        if self._reply:
            lines = self._client.history(found.id, REPLY_LINES) if found is not None and found.state != "closed" else []
            answered = next((line for line in lines if line.seq == self._reply), None)
            if answered is None:
                self._run.complain(
                    f"There is no message {self._reply} in {self._name} among the newest {REPLY_LINES:,} that this "
                    "device has: `securechat recv --json` shows each one's seq. Nothing was sent."
                )
                return ExitCode.FAILURE
            self._do(Reply(answered.local_id, self._text))
        elif found is not None and found.state != "closed":
            self._do(Send(found.id, self._text))
        elif self._name.startswith("#"):
            self._do(JoinRoom(self._name) if self._create else ListRooms())
        else:
            self._do(OpenDirect(self._name, self._text, ask=False))
        return None

    def _enter(self) -> ExitCode | None:
        """Enter the room if the server has it: `JoinRoom` would found another one, of which nobody knows."""
        if not self._listed:
            self._run.complain(
                f"The server lists no open room {self._name}. Nothing was sent; with --create the room is made."
            )
            return ExitCode.FAILURE
        self._do(JoinRoom(self._name))
        return None

    def _said_before(self) -> Message | None:
        """Return the line by which an earlier attempt has said the text, if it has."""
        if self._attempt.newest is None:
            return None
        lines = reversed(self._client.past(self._name, REPLY_LINES))
        return next(
            (each for each in lines if each.own and each.text == self._text and each.local_id > self._attempt.newest),
            None,
        )

    def _do(self, command: Command) -> None:
        self._command = command
        if isinstance(command, Send | Reply | OpenDirect) and self._attempt.newest is None:
            lines = self._client.past(self._name, 1)
            self._attempt.newest = lines[0].local_id if lines else 0
        self._client.do(command)


def run_invite(
    client: "ChatClient",
    events: Events,
    command: MakeInviteLine | ListInviteLines | RevokeInviteLine,
    *,
    wait: bool,
    timeout: float | None,
    output: TextIO = sys.stdout,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Carry out a command about invite lines. A new line is the one line of output; lists have one for each."""
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)

    def judge(event: Event) -> ExitCode | None:
        match event:
            case Ready():
                client.do(command)
            case InviteLineMade(line=line, text=text):
                output.write(f"{text}\n")
                output.flush()
                show_beside(text)
                run.mention(
                    f"Whoever uses it first is taken for the one you give it to. `{program()} invite --revoke "
                    f"{line.mark}` takes it back."
                )
            case InviteLines(lines=lines) if lines:
                output.writelines(f"{each.text}\n" for each in sentences(event, None, client.account))
            case Done() if event.command == command.id:
                return ExitCode.OK
            case Refused() if event.command == command.id:
                return run.refused(event)
        return None

    return run.until(judge)


def run_password(
    client: "ChatClient", events: Events, old: str, new: str, *, errors: TextIO = sys.stderr
) -> ExitCode:
    """Put another password in place of the present one, or take over the account's where that was done elsewhere."""
    run = Run(client, events, wait=True, timeout=None, errors=errors)
    run.takes_password = True
    command, taking, done = ChangePassword(old, new), 0, False

    def judge(event: Event) -> ExitCode | None:
        nonlocal taking, done
        match event:
            case PasswordWanted(why="changed") if taking:
                run.complain(f"Neither is the password of {client.account}: one of both has to be.")
                return ExitCode.LOGIN_REFUSED
            case PasswordWanted(why="changed"):
                take = TakePassword(new)
                taking = take.id
                client.do(take)
            case PasswordReplaced():
                done = True
                for sentence in sentences(event, None, client.account):
                    run.complain(sentence.text)
            case Ready() if not done:
                client.do(command)
            case Refused() if event.command in (command.id, taking):
                return run.refused(event)
        return ExitCode.OK if done else None

    return run.until(judge)


def run_register(client: "ChatClient", events: Events, *, errors: TextIO = sys.stderr) -> ExitCode:
    """Make the account and log in; OK once the server has this device. However full the server is, it waits."""
    run = Run(client, events, wait=True, timeout=None, errors=errors)

    def judge(event: Event) -> ExitCode | None:
        if isinstance(event, Waiting):
            for sentence in sentences(event, None, client.account):
                run.complain(sentence.text)
        return ExitCode.OK if isinstance(event, Ready) else None

    return run.until(judge)


def run_recovery_of_device(
    client: "ChatClient", events: Events, *, patience: float = RECOVERY_SECONDS, out: TextIO = sys.stdout
) -> ExitCode:
    """Let a new device take the place of lost ones; OK once it has, whether or not every conversation was entered.

    Where another program has the identity key, a person decides, with the client; where nothing moves for `patience`
    seconds, the same command goes on later.
    """
    run = Run(client, events, wait=True, timeout=patience, errors=sys.stderr)
    run.time_is_up = (
        "The server has let this device get no further for a while. Nothing is lost: the same command goes on from "
        "here. If it ends like this again, ask the server's operator."
    )

    def judge(event: Event) -> ExitCode | None:
        moves = isinstance(event, Waiting | NotRegained | Recovered) or (
            isinstance(event, ConversationChanged) and event.change == "recovered"
        )
        if moves:  # a queue takes as long as it takes
            run.extend(inf if isinstance(event, Waiting) and event.place else patience)
        if moves or isinstance(event, Alarm | OwnKeyUsed):
            where = getattr(event, "conversation", None)
            conversation = client.conversation(where) if isinstance(where, bytes) else where
            told_of = sentences(event, conversation, client.account)
            out.writelines(f"{clean_line(sentence.text)}\n" for sentence in told_of)
            out.flush()
        if isinstance(event, OwnKeyUsed):
            run.complain(DECIDE)
            return ExitCode.UNTRUSTED
        return ExitCode.OK if isinstance(event, Recovered) else None

    return run.until(judge)


def run_revocation(
    client: "ChatClient", events: Events, *, patience: float = RECOVERY_SECONDS, out: TextIO = sys.stdout
) -> ExitCode:
    """Revoke the lost devices of an account with its recovery file; OK once the server has that."""
    run = Run(client, events, wait=True, timeout=patience, errors=sys.stderr)

    def judge(event: Event) -> ExitCode | None:
        if isinstance(event, Waiting | Alarm | LostRevoked):
            out.writelines(f"{clean_line(each.text)}\n" for each in sentences(event, None, client.account))
            out.flush()
        return ExitCode.OK if isinstance(event, LostRevoked) else None

    return run.until(judge)


def run_join(
    client: "ChatClient",
    events: Events,
    text: str,
    line: InviteLine,
    *,
    wait: bool,
    timeout: float | None,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Use an invite line, of which `text` is the text; OK once the server has what asks its maker to let us in.

    Where the line leads to a room, the next client of this account enters it as soon as the maker's has answered.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)
    command = UseInviteLine(text)

    def judge(event: Event) -> ExitCode | None:
        match event:
            case Ready() if line.voucher is None:
                run.mention(f"You are registered. Go on: {_go_on(client, line)}")
                return ExitCode.OK
            case Ready():
                client.do(command)
            case AskedByLine():
                for sentence in sentences(event, None, client.account):
                    run.complain(sentence.text)
            case Done() if event.command == command.id:
                run.mention(f"Go on: {_go_on(client, line)}")
                return ExitCode.OK
            case Held() if event.command == command.id:
                run.complain(why_held(event, client.conversation(event.conversation)))
                return ExitCode.UNTRUSTED
            case Unreachable() if event.command == command.id:
                run.complain(why_unreachable(event, client.conversation(event.conversation)))
                return ExitCode.UNTRUSTED
            case Refused() if event.command == command.id:
                return run.refused(event)
        return None

    return run.until(judge)


def _go_on(client: "ChatClient", line: InviteLine) -> str:
    return f"{program()} client --user {shlex.quote(client.account)} --server {line.address}"


def run_recv(
    client: "ChatClient",
    events: Events,
    *,
    as_json: bool,
    follow: bool,
    wait: bool,
    timeout: float | None,
    output: TextIO = sys.stdout,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Print the messages not read on this device yet; `follow`: go on until interrupted, or for `timeout` seconds.

    As JSON, one event a line (`ui.objects`): `Received` for each message, and whatever else happens. Otherwise cleaned
    lines for people.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)

    format_line = _json_line if as_json else _plain_line
    caught_up = False
    printed = 0  # the newest line, by its local id

    def print_lines(lines: list[Message]) -> None:
        nonlocal printed
        output.writelines(format_line(line, client.conversation(line.conversation)) + "\n" for line in lines)
        output.flush()
        printed = lines[-1].local_id
        client.do(MarkShown(printed))  # after they are out: if we are killed in between, they are printed twice

    def print_unread() -> None:
        while lines := client.unread(printed, UNREAD_AT_ONCE):
            print_lines(lines)

    def judge(event: Event) -> ExitCode | None:
        nonlocal caught_up
        if as_json and not isinstance(event, Received):
            where = client.conversation(conversation_of(event))
            output.write(object_line(event_object(event, where.name if where is not None else "")).decode() + "\n")
            output.flush()
        match event:
            case KeyChanged() | InviteLineUsed() | InviteLineRefused():
                for sentence in sentences(event, None, client.account):
                    run.mention(sentence.text)
            case Invited(invitation=invitation) if caught_up:
                run.mention(about(invitation))
            case Ready():
                caught_up = True
                for invitation in client.invitations():
                    run.mention(about(invitation))
                print_unread()
                return None if follow else ExitCode.OK
            case Received(message=message) if caught_up:
                print_unread()
                if follow and message.local_id > printed:  # another program has shown it meanwhile
                    print_lines([message])
        return None

    return run.until(judge)


def _json_line(message: Message, conversation: ConversationSnapshot | None) -> str:
    received = event_object(Received(message), conversation.name if conversation is not None else "")
    return object_line(received).decode()


def _plain_line(message: Message, conversation: ConversationSnapshot | None) -> str:
    return message_line(line_of(message), title(conversation), datetime.now().astimezone())
