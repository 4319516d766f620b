"""One caller of the core: its lines in, lines to it out. No I/O here.

Each request has one answer, and answers come in the order of the requests: a read, and what is no request, is answered
once those before it are. A command's answer is what becomes of it: done, or an error whose code is the exit code that
a command in a shell would have ended with. Without a person a question means no: what the core holds until somebody
decides is answered with 5 and the command that decides, and waits in the vault (DOORS, rule 8: docs/threat-model.md).
Events come as they happen, in between.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from securechat.client.commands import AcceptInvitation, Command
from securechat.client.events import Delayed, Done, Ended, Event, Held, Refused, Unreachable
from securechat.errors import RefusedError, SecurechatError
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.handover import OwnerGone
from securechat.ui.objects import conversation_of, to_json
from securechat.ui.rpc.codec import (
    InvalidRequestError,
    Read,
    decode_request,
    encode_error,
    encode_event,
    encode_result,
    too_long,
)
from securechat.ui.text.states import why_held, why_unreachable

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

MAX_UNANSWERED: Final = 1024
"""Requests of one caller that wait for their answer; it is not listened to while there are more."""


class _Answer:
    """The place of one answer in their order; `line` is None until it is known."""

    def __init__(self, call: int, line: bytes | None = None) -> None:
        self.call = call
        self.line = line


class Session:
    """One caller. Every method may be called from any thread."""

    def __init__(
        self, client: "ChatClient", put: Callable[[bytes], object], *, refuses: Callable[[Command], str] = lambda _: ""
    ) -> None:
        """`put` takes a line to the caller, without its line break, and does not wait.

        `refuses`: why a command is none for this caller; empty: it is.
        """
        self._client = client
        self._put = put
        self._refuses = refuses
        self._changed = threading.Condition()  # held while answers, names and `over` change, and while lines go out
        self._answers: deque[_Answer] = deque()
        self._open: dict[int, _Answer] = {}  # commands without an answer, by their own ids
        self._names: dict[int, int] = {}  # how the caller calls commands that are not done
        self.over = False

    # --- from the caller ------------------------------------------------------------------------------------------

    def line(self, line: bytes | None) -> None:
        """Take a request; None: a line that was too long to be kept. Waits while MAX_UNANSWERED have no answer."""
        try:
            if line is None:
                raise too_long()
            call, what = decode_request(line)
        except InvalidRequestError as error:
            self._take(_Answer(error.call, encode_error(error.call, error.code, str(error))))
            return
        if isinstance(what, Command):
            self._do(call, what)
        elif call:
            self._take(_Answer(call, self._read(call, what)))

    def end_of_lines(self, seconds: float) -> None:
        """Wait until all requests have their answers, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or not self._answers, seconds)

    def give_up(self) -> None:
        """The caller has gone: nothing is waited for any more."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def _do(self, call: int, command: Command) -> None:
        why = self._refuses(command) or self._decides(command)
        if why:
            self._take(_Answer(call, encode_error(call, ExitCode.UNTRUSTED, why)))
            return
        if call:
            answer = _Answer(call)
            with self._changed:
                self._open[command.id], self._names[command.id] = answer, call
            self._take(answer)
        self._client.do(command)

    def _decides(self, command: Command) -> str:
        """Say why a program does not answer a question; empty: it is none."""
        if not isinstance(command, AcceptInvitation):
            return ""
        asked = next((each for each in self._client.invitations() if each.conversation == command.conversation), None)
        whose = f" {asked.inviter}:{asked.key}" if asked is not None else ""
        return f"A program accepts invitations by its settings alone: --accept-invitations-of{whose}, or a person does."

    def _read(self, call: int, read: Read) -> bytes:
        try:
            result = getattr(self._client, read.name)(**read.arguments)
        except (SecurechatError, OwnerGone) as error:
            return encode_error(call, exit_code(error), str(error), "local")
        return encode_result(call, to_json(result))

    def _take(self, answer: _Answer) -> None:
        """Give an answer its place, behind those to earlier lines."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or len(self._answers) < MAX_UNANSWERED)
            self._answers.append(answer)
            self._answer()

    # --- from the core --------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Tell the caller of an event, and of the answer that it may be."""
        found = self._client.conversation(conversation_of(event))
        with self._changed:
            call = self._names.get(event.command, 0)
            self._put(encode_event(replace(event, command=call), found.name if found is not None else ""))
            if call and (line := self._said(call, event)) is not None:
                answer = self._open.pop(event.command, None)
                if answer is not None:
                    answer.line = line
                if isinstance(event, Done | Refused):
                    del self._names[event.command]
            if isinstance(event, Ended):
                self._refuse_rest(event)
            self._answer()

    def _said(self, call: int, event: Event) -> bytes | None:
        """Return the answer that an event is to the command that has caused it; None: it is none yet."""
        match event:
            case Done():
                return encode_result(call, None)
            case Refused() | Delayed():
                code = exit_code(RefusedError(event.code, event.text))
                return encode_error(call, code, event.text, event.code)
            case Held():
                why = why_held(event, self._client.conversation(event.conversation))
                return encode_error(call, ExitCode.UNTRUSTED, why)
            case Unreachable():
                why = why_unreachable(event, self._client.conversation(event.conversation))
                return encode_error(call, ExitCode.UNTRUSTED, why)
        return None

    def _refuse_rest(self, event: Ended) -> None:
        """Answer what nothing answers any more. What was done of it is in the vault."""
        error = event.error
        text = "The client has ended before this was answered." if error is None else str(error)
        for answer in self._open.values():
            answer.line = encode_error(answer.call, exit_code(error) or ExitCode.FAILURE, text)
        self._open.clear()
        self.over = True

    def _answer(self) -> None:
        """Let out the answers that are next. Requires the condition."""
        while self._answers and (line := self._answers[0].line) is not None:
            self._answers.popleft()
            self._put(line)
        self._changed.notify_all()
