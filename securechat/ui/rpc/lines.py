"""Lines of a stream of bytes, each of a bounded length: one that is longer is passed over without being kept."""

from collections.abc import Iterator
from typing import Final

from securechat.ui.rpc.codec import MAX_LINE

BLOCK: Final = 65_536
"""Bytes that are read at once."""


class Lines:
    """Cuts blocks of bytes into lines."""

    def __init__(self) -> None:
        """Begin at the beginning of a line."""
        self._begun = bytearray()
        self._passing = False  # the line that has begun is too long

    def take(self, block: bytes) -> Iterator[bytes | None]:
        """Yield the lines that end in this block, without their ends; None for one that was too long."""
        *whole, rest = block.split(b"\n")
        for part in whole:
            line = None if self._passing or len(self._begun) + len(part) > MAX_LINE else bytes(self._begun) + part
            self._begun.clear()
            self._passing = False
            yield line if line is None else line.removesuffix(b"\r")
        if self._passing or len(self._begun) + len(rest) > MAX_LINE:
            self._passing = True
            self._begun.clear()
        else:
            self._begun += rest

    def end(self) -> Iterator[bytes | None]:
        """Yield what stands behind the last end of a line."""
        if self._passing or self._begun:
            yield from self.take(b"\n")
