"""What SQLite passes over in a damaged write-ahead log: all of it, or commits behind a frame whose checksum is wrong.

It takes such a frame for the end of a log that a power failure has cut, and a log whose header is wrong for one that
holds nothing, and says neither. But frames of the same log bear the same two salts, and the last one of a commit the
size of the database: so they can be counted (sqlite.org/fileformat2.html, section 4; sqlite.org/walformat.html, section
2.1, for the index).

A power failure leaves no wrong header before a frame: SQLite writes the 32 bytes at once and syncs them first.
"""

import struct
import sys
from pathlib import Path
from typing import BinaryIO, Final

_HEADER: Final = struct.Struct(">8xI4x8s8x")  # magic, version; page size; checkpoints; salts; checksum
_FRAME: Final = struct.Struct(">4xI8s8x")  # page number; pages of the database, 0 within a commit; salts; checksum
_MAGIC: Final = 0x377F0682
"""Begins a log whose checksums are of little-endian words; one more, of big-endian ones."""

_PAGE_AT: Final = 16
"""Where the database tells the size of its pages: 2 bytes, and 1 stands for 65,536."""

_FRAMES_AT: Final = 16
"""Where the index tells how many frames are valid: 4 bytes, in the machine's order."""


def passed_over(log: Path, index: BinaryIO) -> int:
    """Return how many commits stand in a log behind its valid frames. Somebody has it open, so the index is right."""
    try:
        valid = int.from_bytes(index.read(_FRAMES_AT + 4)[_FRAMES_AT:], sys.byteorder)
        file = log.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return 0
        page, salts = _HEADER.unpack(header)
        return _commits(file, page, salts, first=valid)


def behind_wrong_header(log: Path, database: Path) -> int | None:
    """Return how many commits a log holds at most whose header is wrong; None: it is right, or there is no frame.

    Those that a checkpoint has copied into the database are among them. A server may be writing to the log meanwhile.
    """
    try:
        file = log.open("rb")
    except FileNotFoundError:
        return None
    with file:
        for _ in range(2):  # the first look may have met half of what a server wrote
            file.seek(0)
            header = file.read(_HEADER.size)
            if _is_right(header):
                return None
        first = file.read(_FRAME.size)
        if len(first) < _FRAME.size:
            return None
        with database.open("rb") as beside:
            page = int.from_bytes(beside.read(_PAGE_AT + 2)[_PAGE_AT:]) or 1
        page = 1 << 16 if page == 1 else page
        if any(first):
            return _commits(file, page, _FRAME.unpack(first)[1])
        file.seek(_HEADER.size + _FRAME.size + page)  # its sector is gone: the next frame has the salts, too
        second = file.read(_FRAME.size)
        return 1 + (_commits(file, page, _FRAME.unpack(second)[1], first=1) if len(second) == _FRAME.size else 0)


def _is_right(header: bytes) -> bool:
    """Whether a log's header begins as one and bears the checksum of its first 24 bytes."""
    if len(header) < _HEADER.size or int.from_bytes(header[:4]) & ~1 != _MAGIC:
        return False
    words = struct.unpack(">6I" if header[3] & 1 else "<6I", header[:24])
    one = two = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = one + even + two & 0xFFFFFFFF
        two = two + odd + one & 0xFFFFFFFF
    return header[24:] == struct.pack(">2I", one, two)


def _commits(file: BinaryIO, page: int, salts: bytes, first: int = 0) -> int:
    """Count the commits whose frames bear these salts, from a frame on."""
    commits, position = 0, _HEADER.size + first * (_FRAME.size + page)
    while file.seek(position) and len(frame := file.read(_FRAME.size)) == _FRAME.size:
        pages, theirs = _FRAME.unpack(frame)
        commits += pages != 0 and theirs == salts
        position += _FRAME.size + page
    return commits
