"""Where the password comes from when one is needed, and how long it stays: as short as can be.

    typed      at the start, or answering `events.PasswordWanted`: kept until what it was typed for is done
    a file     read again each time it is needed, and never kept; a pipe, which can be read once, counts as typed.
               Once we run, nobody may be kept waiting: what is a file no more is not read

It is handed out as a buffer with its one spelling in UTF-8 (`names.normalise_password`), which is overwritten when the
one who asked is done. What a person types passes through Python's own strings first. Those are dropped, which is not
overwriting: docs/threat-model.md says how long they were found.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from securechat.client.wrapping import wipe
from securechat.errors import InternalError, StorageError, UsageError
from securechat.files import open_to_read
from securechat.names import MAX_PASSWORD, normalise_password

_SPACE, _TILDE = 0x20, 0x7E
"""The first and the last printable character of ASCII."""

MAX_FILE: Final = 8192
"""Bytes. The longest password has 1,024; a larger file is not a password file."""


class PasswordSource:
    """The password of one account. One thread at a time."""

    def __init__(self, typed: bytearray | None = None, file: Path | None = None) -> None:
        """Take over what was typed, in its one spelling. Without either nothing is at hand before `give`."""
        self._typed = bytearray() if typed is None else typed
        self._file = file

    @classmethod
    def typed(cls, password: str) -> Self:
        """Return one that has what somebody typed. Raises `UsageError` for what cannot be a password."""
        source = cls()
        source.give(password)
        return source

    @classmethod
    def in_file(cls, file: Path) -> Self:
        """Return one that has the first line of a file. Raises `StorageError` or `UsageError` if it cannot be used."""
        content, is_file = _read(file, once=True)
        if not is_file:
            return cls(content)
        wipe(content)
        return cls(file=file)

    def copy(self) -> Self:
        """Return another one, which forgets for itself."""
        return type(self)(bytearray(self._typed), self._file)

    def __repr__(self) -> str:
        """Where it comes from."""
        return f"PasswordSource({'typed' if self._file is None else str(self._file)!r})"

    @property
    def at_hand(self) -> bool:
        """Whether there is one now, as far as can be said before it is read."""
        return bool(self._typed) or self._file is not None

    @property
    def is_typed(self) -> bool:
        """Whether somebody has typed it, or none is at hand: no file."""
        return self._file is None

    def give(self, password: str) -> None:
        """Take what somebody typed. Raises `UsageError` for what cannot be a password."""
        self.forget()
        try:
            self._typed = _spelling(bytearray(password.encode()))
        except UnicodeEncodeError:  # not chained: it holds the password
            raise UsageError("a password is text, and this is not") from None

    def forget(self) -> None:
        """Overwrite what was typed."""
        wipe(self._typed)
        self._typed = bytearray()

    @contextmanager
    def read(self) -> Iterator[bytearray]:
        """Hand out the password, to be overwritten at the end.

        Raises `StorageError` for a file that cannot be read, `UsageError` for one that does not hold a password, and
        `InternalError` if none is at hand.
        """
        if self._typed:
            password = bytearray(self._typed)
        elif self._file is not None:
            password, _ = _read(self._file, once=False)
        else:
            raise InternalError("no password is at hand")
        try:
            yield password
        finally:
            wipe(password)


def _read(file: Path, *, once: bool) -> tuple[bytearray, bool]:
    """Return the first line of what is at a path, and whether that is a file which can be read again.

    `once`: it may be a stream (`open_to_read`), which is read to its end. Raises `StorageError` or `UsageError`.
    """
    content = bytearray(MAX_FILE + 1)
    try:
        descriptor = open_to_read(file, once=once)
        with os.fdopen(descriptor, "rb", buffering=0) as opened, memoryview(content) as room:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode) and os.access(file, os.R_OK)
            length = 0
            while count := opened.readinto(room[length:]):
                length += count
        if length > MAX_FILE:
            raise UsageError(f"{file} is too large to be a password file.")
        end = content.find(b"\n", 0, length)
        line = content[: length if end < 0 else end]
        if line.endswith(b"\r"):
            del line[-1:]
        return _spelling(line), is_file
    except OSError as error:
        raise StorageError(f"The password file {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The password file {file} is not UTF-8 text.") from None
    finally:
        wipe(content)


def _spelling(text: bytearray) -> bytearray:
    """Return the one spelling of a password, and overwrite `text`. Raises `UsageError`, or `UnicodeDecodeError`.

    Printable ASCII is its own spelling: then no string is made, which nobody could overwrite.
    """
    if 0 < len(text) <= MAX_PASSWORD and all(_SPACE <= byte <= _TILDE for byte in text):
        return text
    try:
        return bytearray(normalise_password(text.decode(errors="strict")).encode())
    finally:
        wipe(text)
