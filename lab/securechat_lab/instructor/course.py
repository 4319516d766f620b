"""A course: its key, from which everything personal follows, and who takes part.

    securechat-lab-course/
        course.key      32 bytes in hexadecimal digits; 0600, and never printed
        roster.csv      who takes part
        tokens.csv      what each of them is given
        graded/         what was found so far, a file for each
"""

import csv
import io
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from securechat.errors import UsageError
from securechat.files import make_private_folder, open_to_read, others_can_read, write_atomically
from securechat_lab.kit.seeds import COURSE_KEY_BYTES, Seed, graded_seed, new_course_key, token_of

KEY: Final = "course.key"
ROSTER: Final = "roster.csv"
TOKENS: Final = "tokens.csv"
GRADED: Final = "graded"

MAX_ROSTER: Final = 4 << 20
"""Bytes of a roster."""
MAX_FIELD: Final = 254
"""Characters of a name or an address: RFC 5321 allows an address no more."""


@dataclass(frozen=True)
class Enrolled:
    """Somebody who takes part."""

    id: str
    """By which hand-ins are named and seeds are made: the address, if the roster has no column `id`."""
    email: str
    name: str = ""


class Course:
    """A course's folder. Printing one shows no key."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder = folder
        self._key = key

    def __repr__(self) -> str:
        """Show where it is."""
        return f"Course({str(self.folder)!r})"

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make a course with a key of its own. Raises `UsageError`, `StorageError`."""
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is there, and not empty: a course gets a folder of its own.")
        make_private_folder(folder)
        folder.chmod(0o700)
        key = new_course_key()
        write_atomically(folder / KEY, key.hex().encode())
        return cls(folder, key)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a course that was made. Raises `UsageError`, `StorageError`."""
        file = folder / KEY
        if not file.exists():
            raise UsageError(f"{folder} is no course. Make one: securechat lab instructor new-course --course {folder}")
        if others_can_read(file):
            raise UsageError(f"Others on this machine can read {file}, and with it what is graded: chmod 600 {file}")
        try:
            key = bytes.fromhex(read_text(file, 2 * COURSE_KEY_BYTES + 2).strip())
        except ValueError:
            key = b""
        if len(key) != COURSE_KEY_BYTES:
            raise UsageError(f"{file} is damaged: it holds no key of a course. Take it from your backup.")
        return cls(folder, key)

    def seeds(self, student: str, module: str) -> tuple[Seed, Seed]:
        """Return a student's own seed for an exercise, and the one by which they are graded."""
        return token_of(self._key, student).part(module), graded_seed(self._key, student).part(module)

    def token(self, student: str) -> str:
        """Return what a student is given."""
        return token_of(self._key, student).text

    def graded(self, student: str) -> str:
        """Return the seed by which a student is graded, as an autograder needs it."""
        return graded_seed(self._key, student).text

    def enrol(self, roster: Path) -> list[Enrolled]:
        """Take over a roster, and write everybody's token down. Raises `UsageError`."""
        everybody = read_roster(roster)
        rows = [(each.id, each.email, each.name) for each in everybody]
        write_atomically(self.folder / ROSTER, as_csv(("id", "email", "name"), rows).encode())
        tokens = [(*row, self.token(row[0])) for row in rows]
        write_atomically(self.folder / TOKENS, as_csv(("id", "email", "name", "token"), tokens).encode())
        return everybody

    def roster(self) -> list[Enrolled]:
        """Return who takes part. Raises `UsageError`."""
        if not (self.folder / ROSTER).exists():
            raise UsageError("Nobody takes part yet: securechat lab instructor roster FILE.csv")
        return read_roster(self.folder / ROSTER)


def read_roster(file: Path) -> list[Enrolled]:
    """Return who stands in a table with a column `email`, and perhaps `id` and `name`. Raises `UsageError`."""
    table = csv.DictReader(io.StringIO(read_text(file, MAX_ROSTER).removeprefix("\ufeff")))
    everybody: dict[str, Enrolled] = {}
    try:
        columns = {(name or "").strip().lower(): name for name in table.fieldnames or ()}
        if "email" not in columns:
            raise UsageError(f"{file} has no column `email`. Its first line names them: email, and perhaps id, name.")
        for row in table:
            given = {name: _plain((row[column] or "").strip()) for name, column in columns.items() if name}
            email = given["email"].lower()
            one = Enrolled(given.get("id", "").lower() or email, email, given.get("name", ""))
            if "@" not in email or any(len(each) > MAX_FIELD for each in (one.id, email, one.name)):
                raise UsageError(f"{file}, line {table.line_num}: this is no address of somebody: {email[:80]!r}")
            if one.id in everybody or email in [each.email for each in everybody.values()]:
                raise UsageError(f"{file}, line {table.line_num}: {one.id} is in it twice.")
            everybody[one.id] = one
    except csv.Error as error:
        raise UsageError(f"{file} is no table (CSV): {error}") from None
    if not everybody:
        raise UsageError(f"{file} names nobody.")
    return list(everybody.values())


def read_text(file: Path, most: int) -> str:
    """Return a text of at most `most` bytes. Raises `UsageError`."""
    try:
        with os.fdopen(open_to_read(file), "rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}.") from None
    if len(data) > most:
        raise UsageError(f"{file} is longer than {most:,} bytes.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text in UTF-8.") from None


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table that is text and nothing else to a spreadsheet, whatever students have written."""
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(columns)
    table.writerows([_cell(value) for value in row] for row in rows)
    return written.getvalue()


_FORMULA: Final = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet compute a cell, in whichever width (OWASP, CSV Injection)."""


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = _plain(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _plain(text: str) -> str:
    """Return a text without controls, line breaks and what is not seen."""
    return "".join(" " if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") else each for each in text)
