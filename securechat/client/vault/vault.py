"""The vault: everything one account keeps on this machine for one server, in one encrypted database.

What it keeps: keys of the account and the device, pins, unused key packages, conversations with their place in the
log, the state of each group in its current epoch, our staged commit, the outbox, the history. What it deletes, and
overwrites (`secure_delete`): keys of used key packages, each group's past epochs and used message keys, everything but
the history of a conversation we are out of.
"""

from pathlib import Path
from typing import Any

from securechat.client.vault.conversations import (
    ChangeTable,
    ConversationTable,
    DoubtTable,
    GroupTable,
    HandshakeTable,
    RefusedTable,
    TrailTable,
)
from securechat.client.vault.database import Database
from securechat.client.vault.history import History, Pages
from securechat.client.vault.identity import DeviceTable, IgnoredTable, KeyPackageTable, PinTable
from securechat.client.vault.invitations import InvitationTable
from securechat.client.vault.invite_lines import InviteLineTable
from securechat.client.vault.outbox import OutboxTable
from securechat.files import FileLock


class Vault(Database):
    """An open vault, sorted by what it keeps. Made by `open`; call `close` at the end."""

    def __init__(self, path: Path, account: str, connection: Any, key: bytes, lock: FileLock) -> None:
        """Use `open` instead."""
        super().__init__(path, account, connection, key, lock)
        self.device = DeviceTable(self)
        self.pins = PinTable(self)
        self.ignored = IgnoredTable(self)
        self.key_packages = KeyPackageTable(self)
        self.conversations = ConversationTable(self)
        self.groups = GroupTable(self)
        self.trails = TrailTable(self)
        self.handshakes = HandshakeTable(self)
        self.doubts = DoubtTable(self)
        self.refused = RefusedTable(self)
        self.changes = ChangeTable(self)
        self.invitations = InvitationTable(self)
        self.lines = InviteLineTable(self)
        self.outbox = OutboxTable(self)
        self.history = History(self)

    def reader(self) -> Pages:
        """Return the history for other threads, over a connection of its own; it is closed with the vault."""
        return Pages(self.read_only())
