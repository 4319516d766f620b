"""`/editor`: a text goes through the editor that somebody has chosen, in a file that nobody else can read."""

import os
import shlex
import shutil
import subprocess  # nosec B404
import tempfile
from pathlib import Path
from typing import Final

from securechat.errors import UsageError

_EDITORS: Final = ["/usr/bin/editor", "/usr/bin/nano", "/usr/bin/pico", "/usr/bin/vi", "/usr/bin/emacs"]
"""What systems have, where none was chosen."""

MAX_FILE: Final = 1 << 20
"""Bytes that are read of what an editor leaves: several times what can be said at once."""


def editor() -> list[str]:
    """Return the words that start it: of `VISUAL`, `EDITOR`, or of one that systems have. Raises `UsageError`."""
    chosen = next((name for name in ("VISUAL", "EDITOR") if os.environ.get(name)), "")
    if not chosen:
        for each in filter(shutil.which, _EDITORS):
            return [each]
        raise UsageError("Set EDITOR to an editor.")
    try:
        words = shlex.split(os.environ[chosen])
    except ValueError:
        words = []
    if not words:
        raise UsageError(f"{chosen} is no command: set it to an editor, as in {chosen}=nano.")
    if shutil.which(words[0]) is None:
        raise UsageError(f"There is no program {words[0]}: set {chosen} to an editor.")
    return words


def edited(words: list[str], text: str) -> str:
    """Return what somebody has made of a text in an editor, which `words` start. Raises `UsageError`: it has failed.

    What is no UTF-8 in it is left visible, as what it is not (U+FFFD), so that nothing else is lost.
    """
    try:
        descriptor, name = tempfile.mkstemp(suffix=".txt")
    except OSError as error:
        raise UsageError(f"There is no room for a file to edit: {error.strerror or error}.") from None
    file = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as begun:
            begun.write(text.encode(errors="replace"))  # what a terminal sent in another encoding is no text
        if (code := subprocess.call([*words, name])) != 0:  # noqa: S603  # nosec B603  # as its user has chosen
            raise UsageError(f"{words[0]} has failed ({code}): nothing was changed.")
        with file.open("rb") as left:
            content = left.read(MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"{words[0]} has changed nothing: {error.strerror or error}.") from None
    finally:
        file.unlink(missing_ok=True)
    if len(content) > MAX_FILE:
        raise UsageError(f"{words[0]} has left more than {MAX_FILE:,} bytes, and nobody can say as much at once.")
    return content.decode(errors="replace").replace("\r\n", "\n").removesuffix("\n")
