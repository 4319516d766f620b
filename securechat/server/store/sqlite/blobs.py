"""Which blobs there are, on SQLite. A trigger notes the files of those that go, however they go (`schema`)."""

import hashlib
from collections.abc import Collection

from securechat.server.store.records import Blob
from securechat.server.store.sqlite.database import Database, marks, portions
from securechat.server.store.sqlite.logs import Logs
from securechat.server.store.sqlite.writer import Writer


class Blobs:
    """See `port.BlobStore`."""

    def __init__(self, database: Database, writer: Writer, logs: Logs) -> None:
        self._database = database
        self._writer = writer
        self._logs = logs

    def find(self, conversation: bytes, blob: bytes) -> Blob | None:
        """See the port."""
        rows = self._writer.rows(
            "SELECT file, account, device, size, seq, expires FROM blobs WHERE conversation = ? AND blob = ?",
            self._logs.refs.get(conversation), blob,
        )  # fmt: skip
        return Blob(*rows[0]) if rows else None

    def add(self, conversation: bytes, blob: bytes, account: str, device: bytes, size: int, expires: int) -> Blob:
        """See the port."""
        added = Blob(_file_of(conversation, blob), account, device, size, 0, expires)
        self._writer.execute(
            "INSERT INTO blobs (conversation, blob, file, account, device, size, seq, expires)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            self._logs.refs[conversation], blob, *added,
        )  # fmt: skip
        return added

    def change(self, file: bytes, seq: int, expires: int) -> None:
        """See the port."""
        self._writer.execute("UPDATE blobs SET seq = ?, expires = ? WHERE file = ?", seq, expires, file)

    def drop(self, files: Collection[bytes]) -> None:
        """See the port."""
        self._writer.execute_many("DELETE FROM blobs WHERE file = ?", [(file,) for file in files])

    def drop_of(self, account: str, most: int) -> bool:
        """See the port."""
        rows = self._writer.rows("SELECT file FROM blobs WHERE account = ? LIMIT ?", account, most)
        self.drop([file for (file,) in rows])
        return len(rows) == most

    def expire(self, age: int, most: int) -> bool:
        """Drop up to `most` whose time is over; whether there may be more."""
        rows = self._writer.rows("SELECT file FROM blobs WHERE expires <= ? LIMIT ?", age, most)
        self.drop([file for (file,) in rows])
        return len(rows) == most

    def held(self, account: str) -> tuple[int, int]:
        """See the port."""
        rows = self._writer.rows("SELECT bytes, unfinished FROM blob_bytes WHERE account = ?", account)
        return tuple(rows[0]) if rows else (0, 0)

    def unfinished(self) -> int:
        """See the port."""
        with self._database.snapshot() as reader:
            (unfinished,) = reader.execute("SELECT coalesce(sum(unfinished), 0) FROM blob_bytes").fetchone()
        return int(unfinished)

    def held_by_each(self) -> dict[str, int]:
        """See the port."""
        with self._database.snapshot() as reader:
            return dict(reader.execute("SELECT account, bytes FROM blob_bytes WHERE bytes > 0"))

    def is_dropped(self, conversation: bytes, blob: bytes) -> bool:
        """See the port."""
        file = _file_of(conversation, blob)
        return self._writer.one("SELECT 1 FROM dropped_blobs WHERE file = ?", file) is not None

    def forget(self, files: Collection[bytes]) -> None:
        """See the port."""
        self._writer.execute_many("DELETE FROM dropped_blobs WHERE file = ?", [(file,) for file in files])

    def dropped(self, most: int) -> list[bytes]:
        """See the port."""
        with self._database.snapshot() as reader:
            return [file for (file,) in reader.execute("SELECT file FROM dropped_blobs LIMIT ?", (most,))]

    def known(self, files: Collection[bytes]) -> set[bytes]:
        """See the port."""
        found: set[bytes] = set()
        with self._database.snapshot() as reader:
            for portion in portions(files):
                for table in ("blobs", "dropped_blobs"):
                    found.update(
                        file
                        for (file,) in reader.execute(
                            f"SELECT file FROM {table} WHERE file IN ({marks(portion)})",  # noqa: S608  # nosec B608  # only marks
                            portion,
                        )
                    )
        return found

    def whole(self, after: bytes, before: bytes) -> dict[bytes, int]:
        """See the port."""
        with self._database.snapshot() as reader:
            return dict(
                reader.execute(
                    "SELECT file, size FROM blobs WHERE file >= ? AND file < ? AND seq > 0", (after, before)
                )
            )


def _file_of(conversation: bytes, blob: bytes) -> bytes:
    return hashlib.sha256(conversation + blob).digest()
