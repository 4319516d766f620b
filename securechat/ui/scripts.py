"""`securechat send` and `securechat recv`: the client for scripts. Standard output is the result, errors are one line.

Both start the core, watch its events until their own question is answered, and close it. The answer is an exit code.
"""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from securechat.client.commands import (
    Command,
    JoinRoom,
    ListInviteLines,
    MakeInviteLine,
    MarkShown,
    OpenDirect,
    RevokeInviteLine,
    Send,
    UseInviteLine,
)
from securechat.client.events import (
    AskedByLine,
    Connected,
    ConversationSnapshot,
    Delayed,
    Disconnected,
    Done,
    Ended,
    Event,
    Held,
    Invitation,
    Invited,
    InviteLineMade,
    InviteLineRefused,
    InviteLines,
    InviteLineUsed,
    KeyChanged,
    Message,
    Ready,
    Received,
    Refused,
    Unreachable,
    Waiting,
)
from securechat.content.registry import MAX_TEXT, check_text
from securechat.errors import RefusedError, SecurechatError, UsageError
from securechat.identity.invite_line import InviteLine
from securechat.names import normalise_title
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.text.clean import clean_line
from securechat.ui.text.sentences import sentences, title, why_held, why_silent, why_unreachable
from securechat.ui.view.lines import message_line
from securechat.ui.view.rows import line_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

Events = SimpleQueue[Event]
"""The queue whose `put` is the core's `on_event`."""

UNREAD_AT_ONCE: Final = 500
"""Messages taken from the vault, printed and marked as read together."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye."""


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


class _Run:
    """What both commands share: the time limit, lines for a person, and the events that mean the same for both."""

    def __init__(
        self, client: "ChatClient", events: Events, *, wait: bool, timeout: float | None, errors: TextIO
    ) -> None:
        self.client = client
        self._events = events
        self._wait = wait
        self._deadline = inf if timeout is None else monotonic() + timeout
        self._errors = errors
        self._reached = False
        self._ended = False

    def complain(self, text: str) -> None:
        """Print one line for a person."""
        self._errors.write(f"securechat: {clean_line(text)}\n")
        self._errors.flush()

    def complain_of(self, invitation: Invitation) -> None:
        """Say that an invitation waits for a person: a program answers none but those of its settings."""
        who, room = invitation.inviter, invitation.name
        state = "first contact, " if invitation.first_contact else ""
        self.complain(
            f"{who} ({state}key {invitation.key}) invites you to {room}. Answer in the client: /accept {room}. Or let "
            f"programs accept what this key sends: --accept-invitations-of {who}:{invitation.key}"
        )

    def refused(self, event: Refused | Delayed) -> ExitCode:
        """Say why something was not done, and return the exit code for that."""
        theirs = isinstance(event, Refused) and event.code != "local"
        self.complain(f"The server says: {event.text}" if theirs else event.text)
        return exit_code(RefusedError(event.code, event.text))

    def until(
        self, judge: Callable[[Event], ExitCode | None], *, interrupted: ExitCode = ExitCode.FAILURE
    ) -> ExitCode:
        """Start the core and hand its events to `judge` until it answers, the core ends, or time is up.

        `interrupted`: the exit code for Ctrl-C.
        """
        self.client.start()
        try:
            result = self._watch(judge)
        except SecurechatError as error:
            self.complain(str(error))
            result = exit_code(error)
        except KeyboardInterrupt:
            result = interrupted
        except BrokenPipeError:  # the reader of our output has gone
            result = ExitCode.FAILURE
        self._close()
        return result

    def _watch(self, judge: Callable[[Event], ExitCode | None]) -> ExitCode:
        while True:
            event = self._next()
            if event is None:
                self.complain("Time is up.")
                return ExitCode.TIMEOUT
            result = self._judge_connection(event)
            if result is None:
                result = judge(event)
            if result is not None:
                return result

    def _next(self) -> Event | None:
        try:
            return self._events.get(timeout=None if self._deadline == inf else max(0.0, self._deadline - monotonic()))
        except Empty:
            return None

    def _judge_connection(self, event: Event) -> ExitCode | None:
        match event:
            case Connected():
                self._reached = True
            case Disconnected(reason=reason) if not self._reached:
                self.complain(reason)
                return ExitCode.UNREACHABLE
            case Waiting(place=place) if not self._wait:
                self.complain(f"The server is full; {place} in the queue. With --wait this command waits.")
                return ExitCode.FULL
            case Ended(error=error):
                self._ended = True
                self.complain("The client has stopped." if error is None else str(error))
                return exit_code(error) or ExitCode.FAILURE
        return None

    def _close(self) -> None:
        self.client.close()
        self._deadline = monotonic() + CLOSE_SECONDS
        while not self._ended and (event := self._next()) is not None:
            self._ended = isinstance(event, Ended)


def run_send(
    client: "ChatClient",
    events: Events,
    to: str,
    text: str,
    *,
    wait: bool,
    timeout: float | None,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Send `text` to an account or `#room`; OK once the server has it on disk. `timeout` in seconds.

    If we are not in the room yet, we enter it first. A text that was queued and not accepted stays in the vault: the
    next client of this account sends it.
    """
    run = _Run(client, events, wait=wait, timeout=timeout, errors=errors)
    try:
        name = normalise_title(to)
    except SecurechatError as error:
        run.complain(str(error))
        return ExitCode.USAGE
    return run.until(_Sending(run, name, text).judge)


class _Sending:
    """One text's progress."""

    def __init__(self, run: _Run, name: str, text: str) -> None:
        self._run = run
        self._client = run.client
        self._name = name
        self._text = text
        self._command: Command | None = None  # the newest one given

    def judge(self, event: Event) -> ExitCode | None:
        """Give the next command when the one before is done, and say how it ended."""
        if isinstance(event, Ready) and self._command is None:
            for invitation in self._client.invitations():
                if invitation.name == self._name and self._client.find(self._name) is None:
                    self._run.complain_of(invitation)
                    return ExitCode.UNTRUSTED
            return self._go_on()
        if self._command is not None and event.command == self._command.id:
            match event:
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
        if found is not None and found.state != "closed":
            self._do(Send(found.id, self._text))
        elif self._name.startswith("#"):
            self._do(JoinRoom(self._name))
        else:
            self._do(OpenDirect(self._name, self._text, ask=False))
        return None

    def _do(self, command: Command) -> None:
        self._command = command
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
    run = _Run(client, events, wait=wait, timeout=timeout, errors=errors)

    def judge(event: Event) -> ExitCode | None:
        match event:
            case Ready():
                client.do(command)
            case InviteLineMade(line=line, text=text):
                output.write(f"{text}\n")
                output.flush()
                run.complain(
                    f"Whoever uses it first is taken for the one you give it to. `securechat invite --revoke "
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
    run = _Run(client, events, wait=wait, timeout=timeout, errors=errors)
    command = UseInviteLine(text)

    def judge(event: Event) -> ExitCode | None:
        match event:
            case Ready() if line.voucher is None:
                run.complain(f"You are registered. Go on: {_go_on(client, line)}")
                return ExitCode.OK
            case Ready():
                client.do(command)
            case AskedByLine():
                for sentence in sentences(event, None, client.account):
                    run.complain(sentence.text)
            case Done() if event.command == command.id:
                run.complain(f"Go on: {_go_on(client, line)}")
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
    return f"securechat client --user {client.account} --server {line.address} --pin {line.pin}"


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

    As JSON, one object a line: conversation, kind, seq, time (milliseconds since 1970), from, text, trust and problem,
    which is not empty if a message cannot be shown. Otherwise cleaned lines for people.
    """
    run = _Run(client, events, wait=wait, timeout=timeout, errors=errors)

    format_line = _json_line if as_json else _plain_line
    caught_up = False
    printed = 0  # the newest line, by its local id

    def print_unread() -> None:
        nonlocal printed
        while lines := client.unread(printed, UNREAD_AT_ONCE):
            output.writelines(format_line(line, client.conversation(line.conversation)) + "\n" for line in lines)
            output.flush()
            printed = lines[-1].local_id
            client.do(MarkShown(printed))  # after they are out: if we are killed in between, they are printed twice

    def judge(event: Event) -> ExitCode | None:
        nonlocal caught_up
        match event:
            case KeyChanged() | InviteLineUsed() | InviteLineRefused():
                for sentence in sentences(event, None, client.account):
                    run.complain(sentence.text)
            case Invited(invitation=invitation) if caught_up:
                run.complain_of(invitation)
            case Ready():
                caught_up = True
                for invitation in client.invitations():
                    run.complain_of(invitation)
                print_unread()
                return None if follow else ExitCode.OK
            case Received() if caught_up:
                print_unread()
        return None

    return run.until(judge, interrupted=ExitCode.OK if follow else ExitCode.FAILURE)


def _json_line(message: Message, conversation: ConversationSnapshot | None) -> str:
    """Return one line of ASCII: whatever others wrote is escaped."""
    return json.dumps(
        {
            "conversation": conversation.name if conversation else message.conversation.hex(),
            "kind": conversation.kind if conversation else "",
            "seq": message.seq,
            "time": message.time,
            "from": message.sender,
            "text": message.text,
            "trust": message.trust,
            "problem": message.problem,
        }
    )


def _plain_line(message: Message, conversation: ConversationSnapshot | None) -> str:
    return message_line(line_of(message), title(conversation), datetime.now().astimezone())
