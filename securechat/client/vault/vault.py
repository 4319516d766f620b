"""The vault: everything one account keeps on this machine for one server, in one encrypted database.

What it keeps: keys of the account and the device, pins, unused key packages, conversations with their place in the
log, the state of each group in its current epoch, our staged commit, the outbox, the history. What it deletes, and
overwrites (`secure_delete`): keys of used key packages, each group's past epochs and used message keys, everything but
the history of a conversation we are out of.
"""

from pathlib import Path
from typing import Any, Self

from securechat.client.password_source import PasswordSource
from securechat.client.vault.authorities import AddressTable, AuthorityTable
from securechat.client.vault.conversations import (
    AnchorTable,
    ChangeTable,
    ConversationTable,
    DoubtTable,
    GroupTable,
    HandshakeTable,
    MarkTable,
    RefusedTable,
    TrailTable,
)
from securechat.client.vault.database import Database, Unlocked
from securechat.client.vault.history import History, Pages
from securechat.client.vault.identity import (
    DeviceNameTable,
    DeviceTable,
    HeirTable,
    IgnoredTable,
    KeepsakeTable,
    KeyPackageTable,
    PinTable,
    RecoveryTable,
    SeenChainTable,
    SignatureKeyTable,
    SignedTable,
    UnwantedTable,
)
from securechat.client.vault.invitations import InvitationTable
from securechat.client.vault.invite_lines import InviteLineTable
from securechat.client.vault.new_password import NewPasswordTable
from securechat.client.vault.outbox import OutboxTable
from securechat.client.vault.preferences import Preferences
from securechat.client.vault.transfers import TransferTable
from securechat.client.wrapping import INTERACTIVE, Cost
from securechat.files import FileLock


class Vault(Database):
    """An open vault, sorted by what it keeps. Made by `open`; call `close` at the end."""

    def __init__(self, path: Path, account: str, unlocked: Unlocked, connection: Any, lock: FileLock) -> None:
        """Use `open` instead."""
        super().__init__(path, account, unlocked, connection, lock)
        self.device = DeviceTable(self)
        self.device_names = DeviceNameTable(self)
        self.addresses = AddressTable(self)
        self.authorities = AuthorityTable(self)
        self.signature_keys = SignatureKeyTable(self)
        self.signed = SignedTable(self)
        self.heir = HeirTable(self)
        self.pins = PinTable(self)
        self.chains = SeenChainTable(self)
        self.ignored = IgnoredTable(self)
        self.unwanted = UnwantedTable(self)
        self.new_password = NewPasswordTable(self)
        self.keepsake = KeepsakeTable(self)
        self.recovery = RecoveryTable(self)
        self.key_packages = KeyPackageTable(self)
        self.conversations = ConversationTable(self)
        self.anchors = AnchorTable(self)
        self.groups = GroupTable(self)
        self.trails = TrailTable(self)
        self.handshakes = HandshakeTable(self)
        self.doubts = DoubtTable(self)
        self.refused = RefusedTable(self)
        self.marks = MarkTable(self)
        self.changes = ChangeTable(self)
        self.invitations = InvitationTable(self)
        self.lines = InviteLineTable(self)
        self.outbox = OutboxTable(self)
        self.preferences = Preferences(self)
        self.transfers = TransferTable(self)
        self.history = History(self)

    @classmethod
    def open(cls, path: Path, account: str, password: PasswordSource, *, cost: Cost = INTERACTIVE) -> Self:
        """Open the vault as `Database.open` does, and end what one that was killed had to do with a new password."""
        vault = super().open(path, account, password, cost=cost)
        try:
            with vault.transaction():
                vault.new_password.settle()
        except BaseException:
            vault.close()
            raise
        return vault

    def reader(self) -> Pages:
        """Return the history for other threads, over a connection of its own; it is closed with the vault."""
        return Pages(self.read_only())
