"""What the server asks of whatever keeps the bytes of blobs (docs/design.md, section 5, Blobs).

Which blobs there are says the store (`store.port.BlobStore`); here are bytes under the names that it gives them. So
another place can stand in the folder's. Methods may be called by any thread, but by one at a time for the same file.
"""

from collections.abc import Sequence
from typing import Protocol

from securechat.errors import StorageError

PARTS = 256
"""Parts of all files, by the first byte of their names: what is looked through at once."""


class BlobLostError(StorageError):
    """Bytes are not there that somebody was told are on disk: the folder was put back from elsewhere, or damaged."""


class BlobFiles(Protocol):
    """All methods raise StorageError; its `__cause__` is an OSError that says whether the disk is full."""

    @property
    def held(self) -> int:
        """How many bytes there are of all files, as far as they have come and gone through these methods, or `recount`
        has seen them."""

    def recount(self, part: int) -> None:
        """Count the bytes of a part anew: its files may have been changed past these methods."""

    def size(self, file: bytes) -> int:
        """Return how many bytes there are of a file; 0: none."""

    def settle(self, file: bytes) -> int:
        """Make durable what there is of a file, whoever wrote it, and return how many bytes that are; 0: none."""

    def append(self, file: bytes, at: int, parts: Sequence[bytes]) -> None:
        """Write bytes at the end of the first `at` bytes, and return once they are durable.

        What lies behind `at` is of an attempt that nobody was told of, and goes. If it fails, so does what was written.
        Raises BlobLostError if there are fewer bytes than `at`.
        """

    def read(self, file: bytes, at: int, length: int) -> bytes:
        """Return bytes of a file; raises BlobLostError if they are not there."""

    def delete(self, file: bytes) -> None:
        """Delete a file, if it is there."""

    def files(self, part: int) -> list[bytes]:
        """Return the files of a part."""
