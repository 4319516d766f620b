"""Keepsakes on SQLite: one of each account."""

from securechat.server.store.records import StoredKeepsake
from securechat.server.store.sqlite.writer import Writer


class Keepsakes:
    """See `port.KeepsakeStore`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def put(self, account: str, keepsake: StoredKeepsake) -> None:
        """See the port."""
        self._writer.execute(
            "REPLACE INTO keepsakes VALUES (?, ?, ?, ?)",
            account,
            keepsake.identity_key,
            keepsake.number,
            keepsake.keepsake,
        )

    def find(self, account: str) -> StoredKeepsake | None:
        """See the port."""
        rows = self._writer.rows("SELECT identity_key, number, keepsake FROM keepsakes WHERE account = ?", account)
        return StoredKeepsake(*rows[0]) if rows else None

    def drop(self, account: str) -> None:
        """See the port."""
        self._writer.execute("DELETE FROM keepsakes WHERE account = ?", account)
