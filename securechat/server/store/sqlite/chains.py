"""Chains on SQLite: what identity keys have signed about their accounts."""

from collections.abc import Iterable

from securechat.server.store.records import ChainLink
from securechat.server.store.sqlite.writer import Writer


class Chains:
    """See `port.ChainStore`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def append(self, account: str, identity_key: bytes, links: Iterable[ChainLink]) -> None:
        """See the port."""
        self._writer.execute_many(
            "INSERT INTO chains VALUES (?, ?, ?, ?, ?)",
            [(account, identity_key, each.seq, each.time, each.link) for each in links],
        )

    def head(self, account: str, identity_key: bytes) -> ChainLink | None:
        """See the port."""
        rows = self._writer.rows(
            "SELECT seq, time, link FROM chains WHERE account = ? AND identity_key = ? ORDER BY seq DESC LIMIT 1",
            account,
            identity_key,
        )
        return ChainLink(*rows[0]) if rows else None

    def read(self, account: str, identity_key: bytes, after: int, max_links: int) -> list[ChainLink]:
        """See the port."""
        rows = self._writer.rows(
            "SELECT seq, time, link FROM chains WHERE account = ? AND identity_key = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            account,
            identity_key,
            after,
            max_links,
        )
        return [ChainLink(*row) for row in rows]
