"""Invite lines: those that this account has given out, and those that it has used and that are not answered yet.

Of a line that was given out only the public half of its one-time key is kept. A row is there until its line ends.
"""

from typing import Final

from securechat.client.vault.database import Statements
from securechat.policy import Identity
from securechat.value import value


@value
class LineRow:
    """A line that we have given out. Times in milliseconds since 1970."""

    public: bytes
    """The public half of its one-time key, 32 bytes."""
    room: bytes
    """Where it leads; empty: to nothing but a conversation with us."""
    until: int
    used: int = 0
    """When; 0: not yet."""
    user: Identity = Identity("", b"")
    """Who has used it."""


_GIVEN: Final = "SELECT public, room, until, used, account, identity_key FROM lines_given"


class InviteLineTable:
    """Lines given out and lines used."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def expire(self, now: int) -> None:
        """Forget the lines that have ended by `now`."""
        for table in ("lines_given", "lines_followed"):
            self._database.run(f"DELETE FROM {table} WHERE until <= ?", now)  # noqa: S608  # nosec B608  # our own

    # --- given out ------------------------------------------------------------------------------------------------

    def give(self, row: LineRow) -> None:
        """Keep a new line."""
        sql = "INSERT INTO lines_given (public, room, until, used, account, identity_key) VALUES (?, ?, ?, 0, '', x'')"
        self._database.run(sql, row.public, row.room, row.until)

    def given(self, now: int) -> list[LineRow]:
        """Return the lines that have not ended by `now`, oldest first."""
        rows = self._database.all(f"{_GIVEN} WHERE until > ? ORDER BY rowid", now)
        return [_row(*row) for row in rows]

    def any_unused(self, now: int) -> bool:
        """Whether somebody may still come by a line of ours."""
        return self._database.one("SELECT 1 FROM lines_given WHERE used = 0 AND until > ?", now) is not None

    def find(self, public: bytes, now: int) -> LineRow | None:
        """Return the line with this public half, unless it has ended by `now`."""
        row = self._database.one(f"{_GIVEN} WHERE public = ? AND until > ?", public, now)
        return None if row is None else _row(*row)

    def use(self, public: bytes, user: Identity, now: int) -> None:
        """Mark a line as used."""
        sql = "UPDATE lines_given SET used = ?, account = ?, identity_key = ? WHERE public = ?"
        self._database.run(sql, now, *user, public)

    def revoke(self, public: bytes) -> None:
        """Forget a line: nobody is let in by it any more."""
        self._database.run("DELETE FROM lines_given WHERE public = ?", public)

    # --- used by us -----------------------------------------------------------------------------------------------

    def follow(self, room: bytes, inviter: Identity, until: int) -> None:
        """Keep that a line leads to a room, on its inviter's word."""
        sql = "REPLACE INTO lines_followed (room, account, identity_key, until) VALUES (?, ?, ?, ?)"
        self._database.run(sql, room, *inviter, until)

    def leads(self, room: bytes, inviter: Identity, now: int) -> bool:
        """Whether a line that has not ended by `now` leads to a room on the word of this inviter."""
        sql = "SELECT 1 FROM lines_followed WHERE room = ? AND account = ? AND identity_key = ? AND until > ?"
        return self._database.one(sql, room, *inviter, now) is not None

    def followed(self, now: int) -> int:
        """Return how many have not ended by `now`."""
        (count,) = self._database.one("SELECT count(*) FROM lines_followed WHERE until > ?", now)
        return int(count)

    def arrive(self, room: bytes) -> None:
        """Forget the lines to a room: we are in."""
        self._database.run("DELETE FROM lines_followed WHERE room = ?", room)


def _row(public: bytes, room: bytes, until: int, used: int, account: str, identity_key: bytes) -> LineRow:
    return LineRow(public, room, until, used, Identity(account, identity_key))
