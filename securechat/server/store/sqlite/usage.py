"""Who holds how much of the disk, on SQLite: the table `held`, which triggers keep (`schema`), and the tail's sums."""

import sqlite3
from collections import Counter
from heapq import nlargest
from operator import attrgetter

from securechat.server.store.records import AccountUsage, ConversationUsage, Usage
from securechat.server.store.sqlite.database import Database
from securechat.server.store.sqlite.logs import Logs
from securechat.server.store.sqlite.writer import Writer


class Holdings:
    """See `port.Store`."""

    def __init__(self, database: Database, writer: Writer, logs: Logs) -> None:
        self._database = database
        self._writer = writer
        self._logs = logs

    def held(self, account: str) -> int:
        """See the port."""
        stored: int = self._writer.one("SELECT bytes FROM held WHERE account = ?", account) or 0
        return stored + self._logs.tail.held[account] + self._logs.pending_bytes(account)

    def held_by_all(self) -> list[int]:
        """See the port."""
        with self._database.snapshot() as reader, self._logs.lock:
            held = self._held(reader)
        del held[""]  # what the operator has said
        return sorted((+held).values(), reverse=True)

    def _held(self, reader: sqlite3.Connection) -> Counter[str]:
        """Bytes by account. Requires the logs' lock since before the reader's first look (see `Logs.read`)."""
        held = Counter(dict(reader.execute("SELECT account, bytes FROM held")))
        held.update(self._logs.tail.held)
        return held

    def usage(self, most: int) -> Usage:
        """See the port."""
        with self._database.snapshot() as reader:
            with self._logs.lock:
                held = self._held(reader)
                newest = self._logs.tail.sizes()
            conversations = [
                ConversationUsage(conversation, kind, name, founder, size + newest[ref])
                for ref, conversation, kind, name, founder, size in reader.execute(
                    "SELECT ref, id, kind, name, founder,"
                    " held_bytes + handshake_bytes + length(group_info) + length(snapshot) FROM conversations"
                )
            ]
        accounts = [AccountUsage(account, count) for account, count in (+held).most_common(most)]
        return Usage(accounts, nlargest(most, conversations, key=attrgetter("held_bytes")))
