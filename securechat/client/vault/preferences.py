"""What the user prefers, for all conversations and for single ones."""

from securechat.client.preferences import PREFERENCES
from securechat.client.vault.database import Statements


class Preferences:
    """What was said of each: for a conversation, by `Conversation.scope_of`, or for all, whose scope is empty.

    Of one conversation what was said for it counts, else what was said for all.
    """

    def __init__(self, database: Statements) -> None:
        """Load what the vault has."""
        self._database = database
        rows = database.all("SELECT scope, name, value FROM preferences")
        self._said = {(scope, name): value for scope, name, value in rows}

    def get(self, name: str, scope: bytes = b"") -> str:
        """Return what counts."""
        return self._said.get((scope, name)) or self._said.get((b"", name)) or PREFERENCES[name][0]

    def of(self, scope: bytes) -> tuple[tuple[str, str], ...]:
        """Return what counts of each, by name."""
        return tuple((name, self.get(name, scope)) for name in PREFERENCES)

    def put(self, name: str, value: str, scope: bytes = b"") -> None:
        """Note what the user prefers; an empty value: what counts for all, or nothing in particular."""
        if value:
            self._said[scope, name] = value
            self._database.run("INSERT OR REPLACE INTO preferences VALUES (?, ?, ?)", scope, name, value)
        else:
            self._said.pop((scope, name), None)
            self._database.run("DELETE FROM preferences WHERE scope = ? AND name = ?", scope, name)
