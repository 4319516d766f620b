"""`securechat send`: one message, said once: a text, a file or a voice note."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from securechat.client.commands import Command, JoinRoom, ListRooms, OpenDirect, Reply, Send, SendFile
from securechat.client.events import Delivered, Done, Event, Ready, RoomList, Said, TransferDelayed, TransferEnded
from securechat.client.message import Message
from securechat.content.registry import MAX_TEXT, check_text
from securechat.errors import SecurechatError, UsageError
from securechat.files import descriptor_of, open_to_read
from securechat.names import normalise_title
from securechat.ui.exit_codes import ExitCode
from securechat.ui.objects import line_of, message_object
from securechat.ui.scripts.run import Events, Run, about
from securechat.ui.sharing import sharing
from securechat.ui.text.states import why_silent
from securechat.value import value

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

NEWEST: Final = 1000
"""Newest lines of a conversation among which one is looked for: what a program answers, what it has said before."""


@value
class FileToSend:
    """A file, and what is said of it."""

    path: Path  # absolute
    caption: str = ""
    voice: bool = False  # a recording, which becomes a voice note


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


def file_to_send(path: Path, caption: str, *, voice: bool) -> FileToSend:
    """Return a file that can be sent. Raises `UsageError` for what is none: a pipe, a device, a folder, nothing.

    The program that has the vault open reads it. So a path that means another file there is none.
    """
    if descriptor_of(path) is not None:
        raise UsageError(f"{path} is not sent: it means another file to each program. Name the file itself.")
    try:
        os.close(open_to_read(path))
    except OSError as error:
        raise UsageError(f"{path} is not sent: {error.strerror or error}.") from None
    return FileToSend(path.absolute(), caption, voice)


class Attempt:
    """What a `send` has tried before the program through which it went has ended."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.newest: int | None = None  # the newest line there before it was handed over; None: it was not
        self.line = 0  # the one that says it, once that is known


def run_send(
    client: "ChatClient",
    events: Events,
    to: str,
    what: str | FileToSend,
    *,
    attempt: Attempt | None = None,
    reply: int = 0,
    create: bool = False,
    as_json: bool = False,
    wait: bool,
    timeout: float | None,
    output: TextIO = sys.stdout,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Say something to an account or `#room`; OK once the server has it on disk. `timeout` in seconds.

    `reply`: the seq of the message there that a text answers, among the NEWEST; 0: it answers none. `as_json`: print
    the message (`ui.objects`) then.

    `attempt`: the same one where this goes on after OwnerGone, which it raises as `Run.until` does: what is in the
    vault by then is not said twice.

    If we are not in the room yet, we enter it first; one that is not there is made only with `create`. What was queued
    and not accepted stays in the vault: the next client of this account sends it.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)
    try:
        name = normalise_title(to)
    except SecurechatError as error:
        run.complain(str(error))
        return ExitCode.USAGE
    sending = _Sending(run, name, what, reply, attempt or Attempt(), create=create)
    code = run.until(sending.judge)
    if as_json and sending.delivered is not None:
        output.write(line_of(message_object(sending.delivered, name)).decode() + "\n")
        output.flush()
    return code


class _Sending:
    """The progress of what is said."""

    def __init__(
        self, run: Run, name: str, what: str | FileToSend, reply: int, attempt: Attempt, *, create: bool
    ) -> None:
        self._run = run
        self._attempt = attempt
        self._goes_on = False  # an earlier attempt has left it in the vault
        self._reply = reply
        self._create = create
        self._listed = False  # by the server
        self._client = run.client
        self._name = name
        self._what = what
        self._command: Command | None = None  # the newest one given
        self.delivered: Message | None = None

    def judge(self, event: Event) -> ExitCode | None:
        """Give the next command when the one before is done, and say how it ended."""
        if isinstance(event, Ready) and self._command is None and not self._goes_on:
            return self._begin()
        if isinstance(event, Said) and (self._is_ours(event) or (self._goes_on and self._says_it(event.message))):
            self._attempt.line = event.message.local_id
        if isinstance(event, Delivered) and event.message.local_id == self._attempt.line:
            self.delivered = event.message
            return ExitCode.OK if self._goes_on else None
        if self._goes_on and isinstance(event, TransferEnded) and self._is_it(event.transfer.kind, event.transfer.name):
            self._run.complain(event.text)
            return ExitCode.FAILURE
        if self._is_ours(event):
            match event:
                case RoomList(rooms=rooms):
                    self._listed = any(each.name == self._name and each.kind == "open" for each in rooms)
                case Done() if isinstance(self._command, ListRooms):
                    return self._enter()
                case Done() if isinstance(self._command, JoinRoom) or self._opened:
                    return self._go_on()
                case Done():
                    return ExitCode.OK
                case TransferDelayed(text=text):
                    self._run.mention(text)
                case _:
                    return self._run.refused(event)
        return None

    @property
    def _opened(self) -> bool:
        """Whether the newest command opens a conversation for a file, which is said in it then."""
        return isinstance(self._command, OpenDirect) and isinstance(self._what, FileToSend)

    def _is_ours(self, event: Event) -> bool:
        return self._command is not None and event.command == self._command.id

    def _begin(self) -> ExitCode | None:
        for invitation in self._client.invitations():
            if invitation.name == self._name and self._client.find(self._name) is None:
                self._run.complain(about(invitation))
                return ExitCode.UNTRUSTED
        if self._attempt.newest is None:
            return self._go_on()
        lines = self._client.past(self._name, NEWEST)
        if self._attempt.line:
            said = next((each for each in lines if each.local_id == self._attempt.line), None)
        else:
            said = next((each for each in reversed(lines) if self._says_it(each)), None)
        if said is not None:
            self._attempt.line, self._goes_on = said.local_id, True
            self.delivered = said if said.seq else None
            return ExitCode.OK if said.seq else None
        if any(self._is_it(each.kind, each.name) for each in self._client.transfers()):
            self._goes_on = True
            return None
        return self._go_on()

    def _says_it(self, line: Message) -> bool:
        """Whether a line may be the one by which an earlier attempt has said it."""
        if not line.own or line.local_id <= (self._attempt.newest or 0):
            return False
        if isinstance(self._what, FileToSend):
            return line.file is not None and self._is_it("send", line.file.name)
        return line.text == self._what

    def _is_it(self, kind: str, name: str) -> bool:
        """Whether a file on its way is ours, by its name."""
        if kind != "send" or not isinstance(self._what, FileToSend):
            return False
        return name == (f"{self._what.path.stem}.ogg" if self._what.voice else self._what.path.name)

    def _go_on(self) -> ExitCode | None:
        found = self._client.find(self._name)
        if found is not None and found.state == "request":
            self._run.complain(f"{why_silent(found)} Decide in `securechat client`.")
            return ExitCode.UNTRUSTED
        if self._reply and isinstance(self._what, str):
            lines = self._client.history(found.id, NEWEST) if found is not None and found.state != "closed" else []
            answered = next((line for line in lines if line.seq == self._reply), None)
            if answered is None:
                self._run.complain(
                    f"There is no message {self._reply} in {self._name} among the newest {NEWEST:,} that this "
                    "device has: `securechat recv --json` shows each one's seq. Nothing was sent."
                )
                return ExitCode.FAILURE
            self._do(Reply(answered.local_id, self._what))
        elif found is not None and found.state != "closed":
            self._do(self._saying(found.id))
        elif self._name.startswith("#"):
            self._do(JoinRoom(self._name) if self._create else ListRooms())
        else:
            self._do(OpenDirect(self._name, self._what if isinstance(self._what, str) else "", ask=False))
        return None

    def _saying(self, conversation: bytes) -> Command:
        """Return the command that says it in a conversation that is there."""
        if isinstance(self._what, str):
            return Send(conversation, self._what)
        # By a link the message comes first, and only this program would have the file, which ends now.
        what = self._what
        return sharing(conversation, what.path, what.caption, voice=what.voice, upload_first=True)

    def _enter(self) -> ExitCode | None:
        """Enter the room if the server has it: `JoinRoom` would found another one, of which nobody knows."""
        if not self._listed:
            self._run.complain(
                f"The server lists no open room {self._name}. Nothing was sent; with --create the room is made."
            )
            return ExitCode.FAILURE
        self._do(JoinRoom(self._name))
        return None

    def _do(self, command: Command) -> None:
        self._command = command
        says = isinstance(command, Send | Reply | SendFile) or (isinstance(command, OpenDirect) and not self._opened)
        if says and self._attempt.newest is None:
            lines = self._client.past(self._name, 1)
            self._attempt.newest = lines[-1].local_id if lines else 0
        self._client.do(command)
