"""`securechat save`: files that others have shared, into a folder; voice notes as WAV files, if one wants that.

A note is fetched into a folder of its own then, which goes: what is in the user's folder is what they wanted.
"""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from securechat.client.commands import SaveFile
from securechat.client.events import Event, FileSaved, Ready, TransferDelayed, TransferEnded
from securechat.errors import SecurechatError, StorageError, sentence
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
    as_wav: bool = False,
    as_json: bool,
    wait: bool,
    timeout: float | None,
    output: TextIO = sys.stdout,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Save the files of messages, one after the other, and print the path of each; `as_json`: its event.

    `lines`: their local ids; what is saved, or cannot be, is taken out. So after OwnerGone the same list goes on.
    `folder`: absolute. A file that cannot be saved stops no other; the first such one is the answer. `as_wav`: voice
    notes become WAV files.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)
    saving = _Saving(run, lines, folder, output, as_wav=as_wav, as_json=as_json)
    try:
        return run.until(saving.judge)
    finally:
        saving.clear()


class _Saving:
    def __init__(
        self, run: Run, lines: list[int], folder: Path, output: TextIO, *, as_wav: bool, as_json: bool
    ) -> None:
        self._run = run
        self._lines = lines
        self._folder = folder
        self._output = output
        self._as_wav = as_wav
        self._as_json = as_json
        self._fetched: Path | None = None  # where the voice note is that becomes a WAV file
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
                try:
                    self._print(event if self._fetched is None else self._decoded(event))
                except SecurechatError as error:
                    return self._failed(f"{event.name} was not saved: {sentence(str(error))}", ExitCode.FAILURE)
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
            if self._as_wav and self._is_note(self._lines[0]):
                try:
                    self._fetched = Path(tempfile.mkdtemp(prefix="securechat-"))
                except OSError as error:
                    return self._failed(f"There is no room for a voice note: {error.strerror}.", ExitCode.FAILURE)
            command = SaveFile(self._lines[0], str(self._fetched or self._folder))
            self._command = command.id
            self._run.client.do(command)
        return None

    def _is_note(self, line: int) -> bool:
        files = [each.file for each in self._run.client.around(line, 0) if each.local_id == line]
        return any(file is not None and file.disposition == "voice" for file in files)

    def _decoded(self, saved: FileSaved) -> FileSaved:
        """Make a WAV file of a voice note, and say where it is. Raises `SecurechatError`."""
        from securechat.client.files.placing import new_temporary_name, place, tidy
        from securechat.client.media import voice
        from securechat.content.registry import MAX_NOTE

        note = Path(saved.path)
        try:
            with note.open("rb") as file:
                opus = file.read(MAX_NOTE + 1)
        except OSError as error:
            raise StorageError(f"{note} cannot be read: {error.strerror or error}.") from None
        wav = voice.play_into(opus)

        def write(file: BinaryIO) -> None:
            file.write(wav)

        temporary = new_temporary_name()
        try:
            path = place(self._folder, temporary, f"{note.stem}.wav", write)
        finally:
            tidy(self._folder, temporary)
        return replace(saved, path=str(path))

    def clear(self) -> None:
        """Delete what a voice note was fetched into."""
        if self._fetched is not None:
            shutil.rmtree(self._fetched, ignore_errors=True)
            self._fetched = None

    def _done(self) -> ExitCode | None:
        self.clear()
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
