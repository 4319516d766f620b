"""Files between the core and a page: what was dropped on it, and what it shows or plays.

A browser has no paths, and the core knows files by theirs. So what is dropped on the page lies in a folder that nobody
else can read until the core has sealed and sent it, and what the page wants to show is saved there, read, and removed.
The folder goes with the program; what a killed one has left, the system removes with its temporary files.
"""

import shutil
import tempfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from securechat.client.commands import Command, SaveFile, SendFile
from securechat.client.events import Done, Event, FileSaved, Refused
from securechat.client.message import Disposition, Message
from securechat.errors import UsageError
from securechat.ui.view.lines import what_it_is
from securechat.ui.view.rows import Shared

MAX_SHOWN: Final = 16 << 20
"""Bytes of a picture or a voice note that a page shows or plays; larger ones can be saved."""

SHOWN: Final = frozenset(("image/png", "image/jpeg", "image/gif", "image/webp"))
"""Kinds of pictures that are handed to the browser: the same that previews are made of."""

VOICE: Final = "audio/ogg"


class Files:
    """What is on its way. One thread at a time."""

    def __init__(self, do: Callable[[int, Command], None]) -> None:
        """`do`: has a command carried out for a request of the page."""
        self._do = do
        self._folder: Path | None = None  # made when it is needed
        self._numbers = 0
        self._coming: _Upload | None = None
        self._sent: dict[int, Path] = {}  # by the command that sends it
        self._fetched: dict[int, tuple[int, str, Path]] = {}  # local id, media type and folder, by the command

    def close(self) -> None:
        """Remove all."""
        self.give_up()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def give_up(self) -> None:
        """The page has gone: what has not come whole is dropped."""
        if self._coming is not None:
            self._coming.file.close()
            shutil.rmtree(self._coming.path.parent, ignore_errors=True)
            self._coming = None

    # --- from the page --------------------------------------------------------------------------------------------

    def begin(
        self, call: int, where: bytes, name: str, size: int, description: str, media_type: str, disposition: Disposition
    ) -> None:
        """Take a file, whose bytes follow. Raises `UsageError`, OSError where there is no room."""
        if self._coming is not None:
            raise UsageError("Another file is still coming in: one after the other.")
        path = self._place() / "file"
        self._coming = _Upload(call, where, name, size, description, media_type, disposition, path, path.open("xb"))
        self._end_if_whole()

    def take(self, data: bytes) -> None:
        """Take the next bytes of a file. Raises OSError where there is no room: it is dropped."""
        coming = self._coming
        if coming is None:  # it was given up
            return
        if coming.come + len(data) > coming.size:
            self.give_up()
            raise UsageError("More of the file has come than there is of it: it may have changed. Drop it again.")
        try:
            coming.file.write(data)
        except OSError:
            self.give_up()
            raise
        coming.come += len(data)
        self._end_if_whole()

    def _end_if_whole(self) -> None:
        coming = self._coming
        if coming is None or coming.come < coming.size:
            return
        self._coming = None
        coming.file.close()
        command = SendFile(coming.where, str(coming.path), coming.description, coming.name, coming.media_type,
                           coming.disposition)  # fmt: skip
        self._sent[command.id] = coming.path.parent
        self._do(coming.call, command)

    def fetch(self, call: int, message: Message) -> None:
        """Have the file of a line brought, for the page to show. Raises `UsageError` for one that it does not show."""
        file = message.file
        if file is None:
            raise UsageError("There is no file in this message.")
        kind = VOICE if file.disposition == "voice" else file.media_type
        if kind not in SHOWN | {VOICE} or file.size > MAX_SHOWN:
            shown = Shared(file.name, "", file.media_type, file.disposition, file.size)
            raise UsageError(f"This is not shown here ({what_it_is(shown)}): save it, and open it as you trust it.")
        folder = self._place()
        command = SaveFile(message.local_id, str(folder))
        self._fetched[command.id] = message.local_id, kind, folder
        self._do(call, command)

    # --- from the core --------------------------------------------------------------------------------------------

    def shows(self, event: Event) -> dict[str, object] | None:
        """Take note of an event; return what the page is to show if this has brought it."""
        match event:
            case FileSaved(path=path) if event.command in self._fetched:
                local_id, kind, folder = self._fetched.pop(event.command)
                try:
                    with Path(path).open("rb") as file:
                        data = file.read(MAX_SHOWN)
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return {"local_id": local_id, "media_type": kind, "data": b64encode(data).decode()}
            case Done() | Refused():
                folders = [self._sent.pop(event.command, None), self._fetched.pop(event.command, (0, "", None))[2]]
                for each in folders:
                    if each is not None:
                        shutil.rmtree(each, ignore_errors=True)
        return None

    def is_fetching(self, command: int) -> bool:
        """Whether a command only brings something to be shown."""
        return command in self._fetched

    def _place(self) -> Path:
        """Return a new folder, which nobody else can read."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="securechat-"))
        self._numbers += 1
        made = self._folder / str(self._numbers)
        made.mkdir(mode=0o700)
        return made


class _Upload:
    """A file that comes in."""

    def __init__(
        self, call: int, where: bytes, name: str, size: int, description: str, media_type: str,
        disposition: Disposition, path: Path, file: IO[bytes],
    ) -> None:  # fmt: skip
        self.call, self.where, self.name, self.size = call, where, name, size
        self.description, self.media_type, self.disposition = description, media_type, disposition
        self.path, self.file, self.come = path, file, 0
