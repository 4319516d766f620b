"""The surroundings' trouble in sentences: what a system call, the memory or a terminal is to blame for.

Where a program or one of its threads ends by an error that nobody below has turned into one of ours, this says what
happened. What it does not know is a bug, and keeps its traceback.
"""

import errno
import os
import sys

from securechat.errors import SecurechatError


class SurroundingsError(SecurechatError):
    """This computer does not do what is asked of it: mend that, and try again. Nothing half done is left."""


def open_closed_streams() -> None:
    """Put something in place of standard streams that were closed (`<&-`, `>&-`), before a file gets their number.

    There is nothing to read, and nobody hears complaints. But to write to standard output fails, as it does for other
    programs: what was asked for would be lost, and messages that were never shown would count as read.
    """
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8", closefd=False))


def told(error: BaseException) -> SecurechatError | None:
    """Return an error as one of ours, with a sentence for its text; None: it is a bug."""
    match error:
        case SecurechatError():
            return error
        case MemoryError():
            return SurroundingsError("There is too little memory. Close other programs, and start again.")
        case UnicodeEncodeError(encoding=encoding):
            return SurroundingsError(
                f"What is to be shown has characters that {encoding} lacks. Use a UTF-8 locale, such as LC_ALL=C.UTF-8."
            )
        case BrokenPipeError(filename=None):
            return SurroundingsError("Nobody reads the output any more: the rest of it was not shown.")
        case OSError(filename=None, errno=errno.EBADF):
            return SurroundingsError("Standard output is closed. To have nothing shown, send it to /dev/null.")
        case OSError(filename=None, strerror=str(why)):
            return SurroundingsError(f"The system refuses: {why}. If that is a full disk, make room; then start again.")
        case OSError(filename=name, strerror=str(why)):
            return SurroundingsError(f"{name} cannot be used: {why}.")
        case RuntimeError() if "home directory" in str(error):
            return SurroundingsError("This user has no home folder. Name one in HOME, or the folder of the vaults.")
    return None
