"""Transfers: files that are being sent or saved, until they are. A line that goes takes that of its file along."""

from dataclasses import dataclass, field
from typing import Final, Literal

from securechat.client.vault.database import Database

Kind = Literal["send", "save"]


@dataclass
class TransferRow:
    """One file on its way."""

    id: int
    kind: Kind
    conversation: bytes
    line: int  # local_id of the line that names it; 0 of one that is sent and not said yet
    path: str  # the file that is sent, or the folder where one is saved
    temporary: str  # the name of what is being written there; empty of one that is sent
    body: bytes = field(repr=False)  # the file's own, of the kind `file`: as it will be said, or was
    sealed: bool  # of one that is sent: its sealed copy is whole, and the body's digest is that of the file
    began: int = 0  # of one that is saved: when its user wanted that, in milliseconds since 1970


_ROWS: Final = "SELECT id, kind, conversation, line, path, temporary, body, sealed, began FROM transfers ORDER BY id"


class TransferTable:
    """All of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> list[TransferRow]:
        """Return them, the oldest first."""
        return [TransferRow(*row) for row in self._database.all(_ROWS)]

    def ids(self) -> set[int]:
        """Return the ids of those that there are."""
        return {transfer for (transfer,) in self._database.all("SELECT id FROM transfers")}

    def add(
        self, kind: Kind, conversation: bytes, path: str, body: bytes,
        *, line: int = 0, temporary: str = "", began: int = 0,
    ) -> TransferRow:  # fmt: skip
        """Begin one."""
        added = self._database.run(
            "INSERT INTO transfers (kind, conversation, line, path, temporary, body, sealed, began)"
            " VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            kind, conversation, line, path, temporary, body, began,
        )  # fmt: skip
        return TransferRow(added.lastrowid, kind, conversation, line, path, temporary, body, sealed=False, began=began)

    def save(self, row: TransferRow) -> None:
        """Note what has become of one."""
        self._database.run(
            "UPDATE transfers SET conversation = ?, line = ?, body = ?, sealed = ? WHERE id = ?",
            row.conversation, row.line, row.body, row.sealed, row.id,
        )  # fmt: skip

    def remove(self, transfer: int) -> None:
        """Forget one: it is done, or given up. What it may have left in a folder is noted (`leftovers`)."""
        self._database.run("DELETE FROM transfers WHERE id = ?", transfer)

    def note_saved(self, line: int, path: str) -> None:
        """Note where the file of a line was saved last."""
        self._database.run("INSERT OR REPLACE INTO saved VALUES (?, ?)", line, path)

    def saved(self, line: int) -> str:
        """Return where the file of a line was saved last; empty: nowhere. It may be gone, or another one by now."""
        found = self._database.one("SELECT path FROM saved WHERE line = ?", line)
        return found[0] if found else ""

    def leftovers(self) -> list[tuple[str, str]]:
        """Return the folder and the name of each temporary file that may still be there, and nobody needs."""
        return [*self._database.all("SELECT folder, temporary FROM leftovers")]

    def unshare(self, conversation: bytes, blob: bytes) -> None:
        """Note a blob of ours that the server is to delete."""
        self._database.run("INSERT OR IGNORE INTO unshared VALUES (?, ?)", blob, conversation)

    def unshared(self) -> list[tuple[bytes, bytes]]:
        """Return the conversation and the id of each blob that the server may still have."""
        return [*self._database.all("SELECT conversation, blob FROM unshared")]

    def dropped(self, blob: bytes) -> None:
        """Forget a blob: the server does not have it any more."""
        self._database.run("DELETE FROM unshared WHERE blob = ?", blob)

    def cleared(self, temporary: str) -> None:
        """Forget a temporary file: it is not there any more."""
        self._database.run("DELETE FROM leftovers WHERE temporary = ?", temporary)
