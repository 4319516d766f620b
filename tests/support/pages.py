"""A vault's files as somebody with its key can read them: every page that still stands in them, live or not.

SQLCipher 4 (design document, zetetic.net/sqlcipher/design): pages of 4,096 bytes, each encrypted by AES-256-CBC, with
the IV and an HMAC in its last 80 bytes; the first page begins with the salt. Its log holds them in the same form, each
behind 24 bytes, and all behind 32 (sqlite.org/fileformat2.html, section 4.1).
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from securechat.client.vault import key_file
from securechat.client.vault.database import _connect
from securechat_lab.cast.live import PASSWORD

_PAGE: Final = 4096
_RESERVED: Final = 80
_IV: Final = 16
_SALT: Final = 16
_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24

WINDOW: Final = 16
"""Bytes of a secret that are looked for: the shortest ones, keys of AES-128, have that many."""

_RANDOM: Final = 13
"""Different bytes among them: a key has that many in 999 of 1,000 cases, and what stands around keys, as a run of
zeros, comes again elsewhere."""

SECRET: Final = (
    ("groups", "secret"), ("key_packages", "bundle"), ("welcomes", "bundle"), ("staged", "commit_state"),
)  # fmt: skip
"""Tables and columns with keys that are used up."""


def log_of(path: Path) -> Path:
    """The write-ahead log of a vault."""
    return path.with_name(path.name + "-wal")


class Copy:
    """A vault's files at one moment."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Copy the vault at `path`, which nobody is writing to, into `folder`, which is made anew."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for each in path.parent.glob(f"{path.name}*"):
            shutil.copy(each, folder / each.name)
        self._path = folder / path.name
        self._key, _ = key_file.unlock(path.with_name(path.name + ".key"), bytearray(PASSWORD.encode()))

    def pages(self) -> Iterator[bytes]:
        """All pages in the file and in its log, in clear."""
        content = self._path.read_bytes()
        for start in range(0, len(content), _PAGE):
            yield self._decrypted(content[start : start + _PAGE], _SALT if start == 0 else 0)
        log = log_of(self._path).read_bytes() if log_of(self._path).exists() else b""
        for start in range(_LOG_HEADER, len(log) - _PAGE, _FRAME_HEADER + _PAGE):
            first = int.from_bytes(log[start : start + 4], "big") == 1
            page = log[start + _FRAME_HEADER : start + _FRAME_HEADER + _PAGE]
            yield self._decrypted(page, _SALT if first else 0)

    def _decrypted(self, page: bytes, skipped: int) -> bytes:
        iv = page[-_RESERVED : -_RESERVED + _IV]
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(iv)).decryptor()
        return decryptor.update(page[skipped:-_RESERVED]) + decryptor.finalize()

    def windows(self) -> tuple[set[bytes], set[bytes]]:
        """What a reader of the database finds: every WINDOW bytes of the secret columns, every half as many of all."""
        secret: set[bytes] = set()
        everything: set[bytes] = set()
        with closing(_connect(str(self._path), self._key)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                rows = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608  # names that it has told us
                columns = [each[0] for each in rows.description]
                for row in rows:
                    for column, value in zip(columns, row, strict=True):
                        if isinstance(value, bytes):
                            everything |= _windows(value, WINDOW // 2)
                            if (table, column) in SECRET:
                                secret |= {each for each in _windows(value) if len(set(each)) >= _RANDOM}
        return secret, everything

    def left(self, wanted: set[bytes]) -> int:
        """How many of these windows stand anywhere in the files."""
        return sum(len(_windows(page) & wanted) for page in self.pages())


def gone(secret: set[bytes], everything: set[bytes]) -> set[bytes]:
    """Which of these windows are not in a database any more, not even in half, as what begins in a public key is."""
    half = WINDOW // 2
    return {each for each in secret if each[:half] not in everything and each[half:] not in everything}


def _windows(value: bytes, length: int = WINDOW) -> set[bytes]:
    return {value[start : start + length] for start in range(len(value) - length + 1)}
