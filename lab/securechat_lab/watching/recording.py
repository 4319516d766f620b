"""Recordings: what the network, the server and each person have seen, as lines of JSON.

Whoever watches a scene writes (`Recorder`); the viewer reads, from the beginning or as the file grows (`Reader`). A
recording may come from anybody: each line is checked by its own, and one that is damaged costs nothing but itself.
"""

import os
import threading
import time
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from securechat.clean import clean_line
from securechat.errors import StorageError
from securechat.files import PRIVATE, open_to_read

VERSION: Final = 1

HEX: Final = 512
"""Bytes of a message that are recorded: a text and what stands around it. Of a longer one the size says the rest."""

MAX_TEXT: Final = 4096
"""Characters of a text that are recorded: more than a screen."""

MAX_LINE: Final = 1 << 15
"""Bytes of one line: twice what the longest that we write has, each character of its text escaped."""

MAX_LINES: Final = 50_000
"""Lines that are read: 4,000 messages with all that belongs to them. What follows is not shown, and that is said."""

MAX_READ: Final = 64 << 20
"""Bytes that are read, for the same reason."""

MAX_WRITTEN: Final = 64 << 20
"""Bytes of a recording that is written: as much as is read."""

MAX_PROBLEMS: Final = 5
"""Damaged lines that are told one by one."""

MAX_REASON: Final = 120
"""Characters of what is wrong with a line."""

CHUNK: Final = 1 << 20
"""Bytes that are read at once, so that the viewer answers its keys in between."""

Layer = Literal["scene", "network", "server", "person"]
_Name = Annotated[str, Meta(max_length=64)]
_Word = Annotated[str, Meta(max_length=64, pattern="^[ -~]*$")]
_Hex = Annotated[str, Meta(max_length=2 * HEX, pattern="^([0-9a-f]{2})*$")]
_Count = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]


class Line(msgspec.Struct, frozen=True, omit_defaults=True, rename={"sender": "from"}, gc=False):
    """One thing that was seen. Fields that mean nothing in its layer are left out."""

    v: Literal[1]
    t: Annotated[float, Meta(ge=0, le=1e9)]
    """When, in seconds since the recording began."""
    layer: Layer
    what: _Word
    """Of the network: what the record holds. Of the server: the message's name. Of a person: what they were told."""
    conn: Annotated[int, Meta(ge=0, le=1 << 32)] = 0
    """Which connection: 1, 2, 3..."""
    way: Literal["", "up", "down"] = ""
    """Up: to the server."""
    sender: _Name = ""
    to: _Name = ""
    at: _Count = 0
    """Where `size` begins in what was sent on this connection, this way, inside TLS: it joins records and frames."""
    size: _Count = 0
    """Bytes inside TLS: of the application's data in a record, of a frame."""
    len: _Count = 0
    """Of the network: bytes on the wire. Of the server: bytes of the MLS message. Of a person: bytes of the text."""
    conversation: Annotated[str, Meta(max_length=64, pattern="^[0-9a-f]*$")] = ""
    """Hexadecimal. With `seq` it joins what the server and people saw."""
    seq: _Count = 0
    number: _Count = 0
    epoch: _Count | None = None
    """In which the MLS message was made."""
    time: _Count = 0
    """When the server had an entry, in milliseconds since 1970, by its own clock."""
    local: _Count = 0
    """A person's own number of a line: it joins what was said and what was delivered."""
    digest: Annotated[str, Meta(max_length=16, pattern="^[0-9a-f]*$")] = ""
    """The first 8 bytes of SHA-256 of the MLS message: whether two people got the same."""
    hex: _Hex = ""
    """The first `HEX` bytes of the MLS message, or of what passed in the clear."""
    text: Annotated[str, Meta(max_length=MAX_TEXT)] = ""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Line).decode


class Recorder:
    """Writes a recording. Any thread; each line is there as a whole at once. The path is replaced if it is there."""

    def __init__(self, path: Path, title: str = "") -> None:
        """`title`: what the scene shows. Raises StorageError."""
        try:
            path.unlink(missing_ok=True)
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb", 0)
        except OSError as error:
            raise StorageError(f"cannot write the recording {path}: {error.strerror or error}") from error
        self.path = path
        self._began = time.monotonic()
        self._lock = threading.Lock()  # the size, and one line after the other
        self._size = 0
        self.add("scene", "title", text=title)

    def now(self) -> float:
        """Seconds since the recording began."""
        return time.monotonic() - self._began

    def add(self, layer: Layer, what: str, *, t: float | None = None, text: str = "", **fields: object) -> None:
        """Write a line. `t`: when it was seen, if that is not now; `fields` as in `Line`. Never raises: a full disk, or
        a recording of `MAX_WRITTEN` bytes, loses what follows and harms nobody who is watched."""
        seen = round(self.now() if t is None else t, 6)
        shown = text.encode("utf-8", "replace").decode()[:MAX_TEXT]  # half a surrogate pair cannot be written
        line = Line(v=VERSION, t=seen, layer=layer, what=what[:64], text=shown, **fields)  # type: ignore[arg-type]
        encoded = _encode(line) + b"\n"
        with self._lock:
            if self._file.closed or self._size + len(encoded) > MAX_WRITTEN:
                return
            self._size += len(encoded)
            try:
                self._file.write(encoded)
            except OSError:
                self._file.close()

    def close(self) -> None:
        """Nothing more is recorded."""
        with self._lock:
            self._file.close()


class Reader:
    """Reads a recording as far as it goes, and on as it grows. What is wrong with it is in `problems`, as sentences."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError if there is no such file."""
        self.path = path
        self._descriptor = -1
        self._open()

    def _open(self) -> None:
        try:
            fresh = open_to_read(self.path)
        except OSError as error:
            raise StorageError(f"cannot read the recording {self.path}: {error.strerror or error}") from error
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = fresh
        self._partial = bytearray()
        self._skipping = False  # inside a line that is too long
        self._read = 0
        self._count = 0  # of lines in the file so far
        self._damaged: list[str] = []
        self._damaged_count = 0
        self._ended = ""
        self.lines: list[Line] = []

    @property
    def problems(self) -> list[str]:
        """What is wrong with the recording."""
        more = self._damaged_count - len(self._damaged)
        return [
            *self._damaged,
            *([f"{more:,} more lines are damaged and left out."] if more else []),
            *([self._ended] if self._ended else []),
        ]

    def read(self) -> bool:
        """Read what there is, at most `CHUNK` bytes. Returns whether anything was; call again until not.

        A file that was replaced is read anew. Raises StorageError.
        """
        try:
            if self._was_replaced():
                self._open()
            data = b"" if self._ended else os.read(self._descriptor, CHUNK)
        except OSError as error:
            raise StorageError(f"cannot read the recording {self.path}: {error.strerror or error}") from error
        self._read += len(data)
        if data:
            self._take(data)
        if self._read > MAX_READ or self._count > MAX_LINES:
            most = f"{MAX_LINES:,} lines or {MAX_READ >> 20} MiB"
            self._ended = f"The recording is longer than {most}: the rest is not shown."
            self._partial.clear()
        return bool(data)

    def read_all(self) -> None:
        """Read as far as the recording goes. Raises StorageError."""
        while self.read():
            pass

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
        self._descriptor = -1

    def _was_replaced(self) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:  # between two scenes
            return False
        ours = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino) or ours.st_size < self._read

    def _take(self, data: bytes) -> None:
        self._partial += data
        *lines, rest = bytes(self._partial).split(b"\n")
        self._partial = bytearray(rest)
        for line in lines:
            self._count += 1
            if self._count > MAX_LINES:
                return
            if self._skipping or len(line) > MAX_LINE:
                self._skipping = False
                self._complain(f"it is longer than {MAX_LINE:,} bytes")
            elif line.strip():
                self._decode(line)
        if len(rest) > MAX_LINE:
            self._skipping = True
            self._partial.clear()

    def _decode(self, line: bytes) -> None:
        try:
            self.lines.append(_decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._complain(str(error).partition(" - at ")[0])

    def _complain(self, reason: str) -> None:
        self._damaged_count += 1
        if len(self._damaged) < MAX_PROBLEMS:
            shown = clean_line(reason)[:MAX_REASON]  # it may quote the line
            self._damaged.append(f"Line {self._count:,} is damaged and left out: {shown}.")
