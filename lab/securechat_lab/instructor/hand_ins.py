"""Hand-ins as they come: archives and folders by people whom nobody has to trust. Nothing of them is unpacked to disk.

Of an archive, only files are read that an exercise asks for, and of these no more than a file may have. What an honest
`lab pack` does not make, such as links, names that lead out, and encryption, makes the whole hand-in refused.
"""

import json
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from securechat.errors import UsageError
from securechat_lab.exercises import EXERCISES, Number
from securechat_lab.instructor.course import Enrolled, read_text
from securechat_lab.kit.task import MAX_FILE, HandIn
from securechat_lab.workspace import TO_FILL, as_hand_in

MAX_ARCHIVE: Final = 2 << 20
"""Bytes of an archive: sixteen exercises with files of the greatest size have more than anybody writes."""
MAX_ENTRIES: Final = 1000
MAX_FOLDERS: Final = 100
"""Folders of a hand-in in which exercises are looked for."""
PROGRESS: Final = "progress.json"
MAX_PREDICTION: Final = 1000
"""Characters."""

_FOLDERS: Final = {each.folder: each.number for each in EXERCISES}
_NAMES: Final = (*TO_FILL, PROGRESS)


@dataclass
class Received:
    """What somebody has handed in."""

    exercises: dict[Number, HandIn] = field(default_factory=dict)
    hints: int = 0
    problems: list[str] = field(default_factory=list)
    """Sentences about files that could not be read; the others count."""


def receive(path: Path) -> Received:
    """Return what is in an archive, or in a folder with one or with the exercises. Raises `UsageError`."""
    if path.is_symlink():
        raise UsageError("it is a link, and leads elsewhere")
    if path.is_dir():
        archives = [each for each in sorted(path.iterdir())[:MAX_ENTRIES] if each.suffix.lower() == ".zip"]
        if len(archives) > 1:
            raise UsageError("there are several archives in it: which one counts?")
        if archives:
            return receive(archives[0])
        return _received(_in_folder(path))
    return _received(_in_archive(path))


Found = Iterator[tuple[Number, str, bytes | str]]
"""Exercise, name of a file, and what is in it; or a sentence instead."""


def _received(found: Found) -> Received:
    texts: dict[Number, dict[str, str]] = {}
    received = Received()
    for number, name, content in found:
        files = texts.setdefault(number, {})
        if name in files:
            raise UsageError(f"{name} of exercise {number} is in it twice")
        files[name] = ""
        if isinstance(content, str):
            received.problems.append(content)
        elif len(content) > MAX_FILE:
            received.problems.append(f"{name} of exercise {number} is longer than {MAX_FILE >> 10} KiB")
        else:
            try:
                files[name] = content.decode()
            except UnicodeDecodeError:
                received.problems.append(f"{name} of exercise {number} is no text in UTF-8")
    if not texts:
        raise UsageError("no exercise is in it; `securechat lab pack` makes what is handed in")
    for number in (each.number for each in EXERCISES if each.number in texts):
        files = texts[number]
        prediction, hints = _progress(files.pop(PROGRESS, ""))
        received.exercises[number] = as_hand_in(files, prediction)
        received.hints += hints
    return received


def _progress(text: str) -> tuple[str, int]:
    """Prediction and number of hints, by what the student's machine says."""
    try:
        given: Any = json.loads(text)
        prediction, hints = given["prediction"], given["hints"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", 0
    good = isinstance(prediction, str) and type(hints) is int and 0 <= hints <= MAX_ENTRIES
    return (prediction[:MAX_PREDICTION], hints) if good else ("", 0)


def _in_archive(path: Path) -> Found:
    try:
        if path.stat().st_size > MAX_ARCHIVE:
            raise UsageError(f"it has more than {MAX_ARCHIVE >> 20} MiB")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ENTRIES:
                raise UsageError(f"there are more than {MAX_ENTRIES:,} files in it")
            for entry in entries:
                _check(entry)
            for entry in entries:
                if wanted := _wanted(PurePosixPath(entry.filename)):
                    with archive.open(entry) as stream:  # what it says of its size may be a lie
                        yield *wanted, stream.read(MAX_FILE + 1)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise UsageError(f"it is no archive (ZIP) that could be read: {error}") from None
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}") from None


def _check(entry: zipfile.ZipInfo) -> None:
    """Raise `UsageError` for what no honest hand-in has."""
    name, kind = PurePosixPath(entry.filename), stat.S_IFMT(entry.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in entry.orig_filename or ":" in entry.filename:
        raise UsageError(f"a name in it leads out of the folder: {entry.filename[:80]!r}")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UsageError(f"a link, or something else that is no file, is in it: {entry.filename[:80]!r}")
    if entry.flag_bits & 1:
        raise UsageError("it is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UsageError("it is compressed in a way that `securechat lab pack` does not use")


def _wanted(path: PurePosixPath) -> tuple[Number, str] | None:
    number = _FOLDERS.get(path.parent.name)
    return (number, path.name) if number is not None and path.name in _NAMES else None


def _in_folder(folder: Path) -> Found:
    places = [folder, *(each for each in sorted(folder.iterdir())[:MAX_FOLDERS] if each.is_dir())]
    for place in places:
        for name, number in _FOLDERS.items():
            for file in (place / name / each for each in _NAMES):
                if any(each.is_symlink() for each in (place, place / name, file)):
                    raise UsageError(f"a link is in it: {file.relative_to(folder)}")
                if file.exists():
                    try:
                        yield number, file.name, read_text(file, MAX_FILE).encode()
                    except UsageError as error:
                        yield number, file.name, str(error)


def sort_out(folder: Path, roster: Sequence[Enrolled]) -> tuple[dict[str, list[Path]], list[Path]]:
    """Say whose each hand-in in a folder is, by id, and which are nobody's. Raises `UsageError`.

    A hand-in is a file `ID.zip` or a folder `ID`, ID being the id or the address; after it, `_` and what a learning
    platform has added may follow.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder with hand-ins.")
    names = {name: each.id for each in roster for name in (each.id, each.email)}
    found: dict[str, list[Path]] = {}
    strangers = []
    for path in sorted(folder.iterdir()):
        said = path.name.lower().removesuffix(".zip")
        fitting = [name for name in names if said == name or said.startswith(f"{name}_")]
        if path.name.startswith("."):
            continue
        if fitting:
            found.setdefault(names[max(fitting, key=len)], []).append(path)
        else:
            strangers.append(path)
    return found, strangers
