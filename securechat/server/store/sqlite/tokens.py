"""Resume tokens on SQLite."""

from securechat.server.store.records import Token
from securechat.server.store.sqlite.database import Database
from securechat.server.store.sqlite.writer import Writer
from securechat.wire.limits import MAX_DEVICES


class Tokens:
    """See `port.TokenStore`."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    def put(self, token: Token) -> None:
        """See the port."""
        self._writer.execute(
            "INSERT OR REPLACE INTO tokens (hash, account, device, generation, expires, used)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            token.hash, token.account, token.device, token.generation, token.expires, token.used,
        )  # fmt: skip
        self._writer.execute(
            "DELETE FROM tokens WHERE account = ?1 AND device IN (SELECT device FROM tokens"
            " WHERE account = ?1 AND device != ?2 ORDER BY expires DESC LIMIT -1 OFFSET ?3)",
            token.account, token.device, MAX_DEVICES - 1,
        )  # fmt: skip

    def find(self, digest: bytes) -> Token | None:
        """See the port."""
        rows = self._writer.rows(
            "SELECT hash, account, device, generation, expires, used FROM tokens WHERE hash = ?", digest
        )
        return Token(*rows[0]) if rows else None

    def of(self, account: str) -> list[Token]:
        """See the port."""
        rows = self._writer.rows(
            "SELECT hash, account, device, generation, expires, used FROM tokens WHERE account = ?", account
        )
        return [Token(*row) for row in rows]

    def drop(self, account: str, device: bytes) -> None:
        """See the port."""
        self._writer.execute("DELETE FROM tokens WHERE account = ? AND device = ?", account, device)

    def keep_only(self, account: str, device: bytes) -> None:
        """See the port."""
        self._writer.execute("DELETE FROM tokens WHERE account = ? AND device != ?", account, device)

    def holders(self, now: int) -> dict[tuple[str, int], int]:
        """See the port."""
        with self._database.snapshot() as reader:
            return {
                (account, generation): count
                for account, generation, count in reader.execute(
                    "SELECT account, generation, count(*) FROM tokens WHERE expires > ? GROUP BY account, generation",
                    (now,),
                )
            }

    def expire(self, now: int, count: int) -> bool:
        """Delete up to `count` tokens that have expired; whether there may be more."""
        return self._writer.execute(
            "DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE expires <= ? LIMIT ?)", now, count
        ).rowcount == count
