"""What people type about files: `/send`, `/save`, `/files`, `/cancel`.

    /send sea.jpg            12:03 [bob] alice: [picture, 2.1 MB] sea.jpg
    /send "my sea.jpg" look  the same with words beside it
    /files                   1) 12:03 [bob] alice: [picture, 2.1 MB] sea.jpg
    /save                    the newest file of somebody else, to the folder for downloads
    /save 1 ~/pictures       the one with that number
    /cancel                  what is on its way, the newest first; /cancel 2 as /files counts
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from securechat.client.commands import CancelFile, Command, SaveFile
from securechat.client.query import Query
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import UsageError
from securechat.ui.session.about import Numbers, split_number
from securechat.ui.session.back import LINES, Reading, show_numbered
from securechat.ui.session.place import Place
from securechat.ui.sharing import sharing
from securechat.ui.text.files import progress
from securechat.ui.text.wording import in_words
from securechat.ui.view.lines import notice

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

_LOOK_AT: Final = 2000
"""Names in a folder among which those are looked for that a word begins."""


class Session(Protocol):
    """What these commands need of a person's session."""

    client: "ChatClient"
    place: Place
    numbers: Numbers
    reading: Reading

    def show(self, line: str) -> None:
        """Show a line that is already harmless."""

    def do(self, command: Command) -> None:
        """Hand a command to the core, and remember that it is not answered yet."""

    def speak(self, conversation: ConversationSnapshot, command: Command) -> None:
        """Have something said in a conversation. Raises `UsageError` if nothing can be said there."""


def send(chat: Session, rest: str) -> None:
    """`/send FILE`, `/send "FILE" TEXT`."""
    here = chat.place.here()
    path, description = _path_and_text(rest)
    if not path:
        raise UsageError('Type /send and a file, as in: /send ~/sea.jpg, or with words: /send "~/sea.jpg" our house')
    chat.speak(here, sharing(here.id, _expanded(path), description))


def save(chat: Session, rest: str) -> None:
    """`/save [N] [FOLDER]`."""
    here = chat.place.here()
    number, folder = split_number(rest)
    if number is not None:
        line = chat.numbers.at(number)
    else:
        found = chat.client.search(Query(where=here.name, has=("file",)), LINES)
        line = next((each.local_id for each in found if not each.own), 0)
        if not line:
            raise UsageError(f"Nobody else has sent a file in {in_words(here)}: /files lists those that are here.")
    chat.do(SaveFile(line, str(_expanded(folder) if folder else downloads())))


def files(chat: Session, rest: str) -> None:
    """`/files`."""
    if rest:
        raise UsageError("Type /files alone: it lists those of the current conversation.")
    for number, transfer in enumerate(chat.client.transfers(), 1):
        chat.show(notice(f"({number}) {progress(transfer)}"))
    here = chat.place.here()
    found = chat.client.search(Query(where=here.name, has=("file",)), LINES)
    if found:
        show_numbered(chat, found[::-1])
        chat.show(notice("/save N saves the one with that number. /search has:file finds older ones."))
    else:
        chat.show(notice(f"There are no files in {in_words(here)} yet."))


def cancel(chat: Session, rest: str) -> None:
    """`/cancel [N]`."""
    running = chat.client.transfers()
    number, more = split_number(rest)
    if more or (number is not None and not 1 <= number <= len(running)):
        raise UsageError("Type /cancel for the newest file on its way, or /cancel N with a number that /files shows.")
    if not running:
        raise UsageError("No file is on its way.")
    chat.do(CancelFile(running[-1 if number is None else number - 1].id))


def paths_like(word: str) -> Iterator[str]:
    """Yield what a path may become, of which `word` is the beginning: files and folders, the latter with a slash."""
    folder, beginning = os.path.split(word)
    try:
        entries = [*islice(os.scandir(_expanded(folder or ".")), _LOOK_AT)]
        names = sorted(each.name + ("/" if each.is_dir() else "") for each in entries)
    except (OSError, UsageError):
        return
    for name in names:
        if name.startswith(beginning) and (beginning or not name.startswith(".")) and name.isprintable():
            yield os.path.join(folder, name)  # noqa: PTH118  # as it was typed, "~" included


def _path_and_text(rest: str) -> tuple[str, str]:
    """Return a path and what stands behind it: a path without quotes is all there is."""
    if rest[:1] in ('"', "'") and rest.find(rest[0], 1) > 0:
        path, _, text = rest[1:].partition(rest[0])
        return path, text.strip()
    bare = rest.replace("\\ ", " ")  # as terminals write what is dragged into them
    return (bare if bare != rest and not _expanded(rest).exists() else rest), ""


def _expanded(path: str) -> Path:
    """Return a whole path. Raises `UsageError`."""
    try:
        return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  # links stay as they are
    except (RuntimeError, ValueError, OSError):
        raise UsageError("There can be no such path: write the whole one.") from None


def downloads() -> Path:
    """Return where files go unless told otherwise: the user's folder for that, or where the program was started."""
    try:
        downloads = Path.home() / "Downloads"
    except RuntimeError:
        return Path.cwd()
    return downloads if downloads.is_dir() else Path.cwd()
