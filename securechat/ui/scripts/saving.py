"""`securechat save`: files that others have shared, into a folder."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from securechat.client.commands import SaveFile
from securechat.client.events import Event, FileSaved, Ready, TransferDelayed, TransferEnded
from securechat.ui.exit_codes import ExitCode
from securechat.ui.objects import conversation_of, event_object, line_of
from securechat.ui.scripts.run import Events, Run

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


def run_save(
    client: "ChatClient",
    events: Events,
    lines: list[int],
    folder: Path,
    *,
    as_json: bool,
    wait: bool,
    timeout: float | None,
    output: TextIO = sys.stdout,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Save the files of messages, one after the other, and print the path of each; `as_json`: its event.

    `lines`: their local ids; what is saved, or cannot be, is taken out. So after OwnerGone the same list goes on.
    `folder`: absolute. A file that cannot be saved stops no other; the first such one is the answer.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)
    saving = _Saving(run, lines, folder, output, as_json=as_json)
    return run.until(saving.judge)


class _Saving:
    def __init__(self, run: Run, lines: list[int], folder: Path, output: TextIO, *, as_json: bool) -> None:
        self._run = run
        self._lines = lines
        self._folder = folder
        self._output = output
        self._as_json = as_json
        self._begun = False
        self._command = 0  # the one that saves the first of the lines; 0: it was on its way already
        self._result = ExitCode.OK

    def judge(self, event: Event) -> ExitCode | None:
        """Save the next file when one has ended."""
        match event:
            case Ready() if not self._begun:
                self._begun = True
                return self._next()
            case FileSaved(local_id=line) if self._is_next(line):
                self._print(event)
                return self._done()
            case TransferEnded(transfer=transfer, text=text) if transfer.kind == "save" and not event.command:
                if self._is_next(transfer.local_id):
                    return self._failed(text, ExitCode.FAILURE)
            case TransferDelayed(text=text) if event.command == self._command != 0:
                self._run.mention(text)
            case _ if event.command == self._command != 0 and (code := self._run.refused(event)) is not None:
                return self._failed("", code)
        return None

    def _is_next(self, line: int) -> bool:
        return self._begun and self._lines[:1] == [line]

    def _next(self) -> ExitCode | None:
        if not self._lines:
            return self._result
        self._command = 0
        running = {each.local_id for each in self._run.client.transfers() if each.kind == "save"}
        if self._lines[0] not in running:  # else its end is told all the same
            command = SaveFile(self._lines[0], str(self._folder))
            self._command = command.id
            self._run.client.do(command)
        return None

    def _done(self) -> ExitCode | None:
        self._lines.pop(0)
        return self._next()

    def _failed(self, text: str, code: ExitCode) -> ExitCode | None:
        if text:
            self._run.complain(text)
        self._result = self._result or code
        return self._done()

    def _print(self, event: FileSaved) -> None:
        if self._as_json:
            where = self._run.client.conversation(conversation_of(event))
            self._output.write(line_of(event_object(event, "" if where is None else where.name)).decode() + "\n")
        else:
            self._output.write(f"{event.path}\n")
        self._output.flush()
