"""The store on SQLite: one file, one writer, a write-ahead log synced by every commit (docs/design.md, section 5)."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from securechat.identity.site_key import SiteKey
from securechat.server.store.records import Size, Trimmed, Usage
from securechat.server.store.sqlite.blobs import Blobs
from securechat.server.store.sqlite.chains import Chains
from securechat.server.store.sqlite.conversations import Conversations
from securechat.server.store.sqlite.database import Database, Part
from securechat.server.store.sqlite.directory import Directory
from securechat.server.store.sqlite.inboxes import Inboxes
from securechat.server.store.sqlite.keepsakes import Keepsakes
from securechat.server.store.sqlite.logs import Logs
from securechat.server.store.sqlite.tidying import Tidying
from securechat.server.store.sqlite.tokens import Tokens
from securechat.server.store.sqlite.usage import Holdings
from securechat.server.store.sqlite.writer import Writer


class SQLiteStore:
    """See `port.Store`. `checkpoint` and `backup` are its own."""

    def __init__(self, path: Path, *, durable: bool = True, on_long_log: Callable[[], None] = lambda: None) -> None:
        """Open the database, or make it, with a new server_id.

        `on_long_log` is called, in a commit, when entries have made a checkpoint due.
        Not `durable`: the system decides when commits are written, so a power failure loses some. This breaks the
        store's promise; it is for measuring what the promise costs.

        Raises StorageError if another server uses it, or if it is damaged or not ours; it is left as it is then.
        """
        self._database = database = Database(path)
        try:
            with database.opening():
                database.prepare()
                self._writer = writer = Writer(database, durable=durable, on_long_log=on_long_log)
                self.logs = Logs(database, writer)
                self.conversations = Conversations(database, writer, self.logs)
                self.inboxes = Inboxes(database, writer)
                self.blobs = Blobs(database, writer, self.logs)
                self.chains = Chains(writer)
                self.keepsakes = Keepsakes(writer)
                self.directory = Directory(writer)
                self.tokens = Tokens(database, writer)
                self._holdings = Holdings(database, writer, self.logs)
                self._tidying = Tidying(
                    writer, self.logs, self.conversations, self.inboxes, self.tokens, self.blobs
                )
                writer.finish_opening()
                database.open_readers()
        except BaseException:
            database.close()
            raise
        self.server_id = self.logs.server_id
        self.passed_over = writer.passed_over
        """Commits that stood in the write-ahead log behind a damaged place, and are not in the database."""

    @property
    def site_keys(self) -> tuple[SiteKey, ...]:
        """See `port.Store`."""
        return self.logs.site_keys

    def change_site_key(self) -> None:
        """See `port.Store`."""
        self.logs.change_site_key()

    def commit(self) -> None:
        """See `port.Store`."""
        self.logs.commit()

    def rollback(self) -> None:
        """See `port.Store`."""
        self._writer.rollback()

    def tidy(self, now: int, age: int) -> tuple[list[Trimmed], bool]:
        """See `port.Store`."""
        return self._tidying.tidy(now, age)

    def held(self, account: str) -> int:
        """See `port.Store`."""
        return self._holdings.held(account)

    def held_by_all(self) -> list[int]:
        """See `port.Store`."""
        return self._holdings.held_by_all()

    def usage(self, most: int) -> Usage:
        """See `port.Store`."""
        return self._holdings.usage(most)

    def newest(self) -> int:
        """See `port.Store`."""
        return self.logs.newest()

    def size(self) -> Size:
        """See `port.Store`."""
        return Size(self.logs.count(), self.logs.handshake_bytes(), self._database.size(), self._database.reusable())

    def reusable(self) -> int:
        """Bytes of the file that hold nothing, and that what comes next is written to. Any thread."""
        return self._database.reusable()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[list[Part]]:
        """See `Database.frozen`; the write-ahead log grows meanwhile. Any thread."""
        with self._writer.copying(), self._database.frozen() as parts:
            yield parts

    def checkpoint(self) -> None:
        """Copy what the write-ahead log holds into the database, outside the turn, so that the log can start over."""
        self._writer.checkpoint()

    def close(self) -> None:
        """See `port.Store`."""
        self._database.close()
