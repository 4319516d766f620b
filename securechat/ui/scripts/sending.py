"""`securechat send`: one message, said once."""

import sys
from typing import TYPE_CHECKING, Final, TextIO

from securechat.client.commands import Command, JoinRoom, ListRooms, OpenDirect, Reply, Send
from securechat.client.events import Delivered, Done, Event, Ready, RoomList
from securechat.client.message import Message
from securechat.content.registry import MAX_TEXT, check_text
from securechat.errors import SecurechatError, UsageError
from securechat.names import normalise_title
from securechat.ui.exit_codes import ExitCode
from securechat.ui.scripts.run import Events, Run, about
from securechat.ui.text.states import why_silent

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

REPLY_LINES: Final = 1000
"""Newest messages among which the one is looked for that a program answers."""


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
                case _:
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
