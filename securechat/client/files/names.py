"""Safe names: under what name a file is saved, whatever its sender calls it. Pure rules, the same on every system.

A file may be carried on to another machine, so a name is one that Linux, macOS and Windows take for a plain file in the
folder where it is, and that a shell, a screen and a person take for what it is:

- one part of a path: no separators, no drive or stream of Windows (`:`), no wildcards, no `.` or `..`
- nothing that is not seen, or turns the direction of what follows (`clean`): no control characters, no line breaks
- no beginning by which it is hidden (`.`), an option (`-`), or a home folder (`~`); no end that Windows drops
- no device of Windows (`CON`, `lpt1.txt`), and nothing that a folder is governed by (`desktop.ini`)
- at most `MAX_BYTES` in UTF-8, its extension kept, so that a number fits beside it

What is not seen goes, and an underscore stands for the rest. A name that is safe already stays as it is.
"""

import re
from typing import Final
from unicodedata import category, normalize

from securechat.clean import NOT_SHOWN, clean_line

MAX_BYTES: Final = 200
"""Bytes of a name in UTF-8: file systems take 255, and a number goes beside it."""

MAX_EXTENSION: Final = 16
"""Bytes of an extension that is kept when a name is cut: longer ones are none."""

NAMELESS: Final = "file"
"""What a file is called of whose name nothing is left."""

_FORBIDDEN: Final = frozenset('<>:"/\\|?*')
_DEVICE: Final = re.compile(
    r"(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\.|$)", re.IGNORECASE
)
"""Windows' own: with any extension, in any case, with blanks before the extension."""

_GOVERNING: Final = frozenset({"desktop.ini", "autorun.inf", "thumbs.db", "folder.htt"})


def safe_name(name: str) -> str:
    """Return the name under which a file is saved that its sender calls `name`: neither empty nor a path."""
    found = "".join(map(_safe, clean_line(normalize("NFC", name[: 4 * MAX_BYTES]))))
    found = found.strip(" ").rstrip(". ")
    found = re.sub(r"^[.~-]", "_", found)
    found = _cut(found, MAX_BYTES)  # before it is judged: what a cut leaves may be a device's name
    if not found.strip("_. "):
        return NAMELESS
    if _DEVICE.match(found) or found.casefold() in _GOVERNING:
        found = _cut(f"_{found}", MAX_BYTES)
    return found


def numbered(name: str, number: int) -> str:
    """Return a safe name with a number, for a folder in which the name is taken: "sea (2).jpg"."""
    stem, extension = _split(name)
    return f"{stem} ({number}){extension}"


def _safe(character: str) -> str:
    """Return what stands for one character of a name."""
    if category(character) == "Zs":
        return " "
    forbidden = category(character)[0] in "CZ" or character == NOT_SHOWN
    return "_" if forbidden or _FORBIDDEN & {*normalize("NFKC", character)} else character


def _cut(name: str, most: int) -> str:
    if len(name.encode()) <= most:
        return name
    stem, extension = _split(name)
    kept = stem.encode()[: most - len(extension.encode())].decode(errors="ignore")
    return kept.rstrip(". ") + extension


def _split(name: str) -> tuple[str, str]:
    """Return a name without its extension, and that with its dot; empty: it has none."""
    stem, dot, extension = name.rpartition(".")
    if not stem or not extension or len(extension.encode()) > MAX_EXTENSION:
        return name, ""
    return stem, dot + extension
