"""Our trail through one log: its chain in the current epoch, and the newest number of each device.

Every entry needs both, so they are in memory, and are written once per transaction; the chain of an epoch of n entries
takes 32 n bytes. Deletes the chain of past epochs at each commit.
"""

from typing import Literal

from securechat.client.vault.conversations import TrailTable
from securechat.errors import StorageError
from securechat.wire.limits import CHAIN_LENGTH


class Trail:
    """The state behind our cursor. Changes become durable with `save`, inside the caller's transaction."""

    def __init__(self, table: TrailTable, conversation: bytes) -> None:
        """Load the vault's state at first use."""
        self._table = table
        self._conversation = conversation
        self._loaded = False
        self._first = 0  # seq of the first value in `_chain`
        self._chain = bytearray()
        self._saved = 0  # bytes of `_chain` that the vault has
        self._numbers: dict[bytes, int] = {}
        self._changed: set[bytes] = set()  # devices whose number the vault does not have
        self._stale: Literal["", "chain", "all"] = ""  # what of the vault's state is obsolete

    @property
    def first(self) -> int:
        """The seq of the oldest chain value that counts: where this epoch was opened, unless that is gone."""
        self._load()
        return self._first

    def last_number(self, device: bytes) -> int | None:
        """Return the newest number seen of a device; None if none was seen since we came, or since a gap."""
        self._load()
        return self._numbers.get(device)

    def chain_at(self, seq: int) -> bytes | None:
        """Return the chain value at `seq`, 32 bytes, if that lies in the current epoch."""
        self._load()
        place = (seq - self._first) * CHAIN_LENGTH
        return bytes(self._chain[place : place + CHAIN_LENGTH]) if 0 <= place < len(self._chain) else None

    def begin(self, seq: int, chain: bytes) -> None:
        """Start at `seq`, with this chain value: nothing before it counts."""
        self._loaded, self._stale = True, "all"
        self._first, self._chain = seq, bytearray(chain)
        self._numbers.clear()
        self._changed.clear()

    def add(self, chain: bytes) -> None:
        """Note the chain value of the next entry."""
        self._load()
        self._chain += chain

    def note_number(self, device: bytes, number: int) -> None:
        """Note the newest number of another device."""
        self._load()
        self._numbers[device] = number
        self._changed.add(device)

    def open_epoch(self, seq: int) -> None:
        """Forget the chain of past epochs: the next entry, `seq`, is the commit that opens a new one."""
        self._load()
        self._first, self._stale = seq, self._stale or "chain"
        self._chain.clear()

    def save(self) -> None:
        """Write what has changed."""
        table, conversation = self._table, self._conversation
        if self._stale:
            table.clear_chain(conversation)
            self._saved = 0
        if self._stale == "all":
            table.clear_numbers(conversation)
        if fresh := bytes(self._chain[self._saved :]):
            table.add_chain(conversation, self._first + self._saved // CHAIN_LENGTH, fresh)
            self._saved = len(self._chain)
        if self._changed:
            table.save_numbers(conversation, [(device, self._numbers[device]) for device in self._changed])
            self._changed.clear()
        self._stale = ""

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        self._numbers = self._table.numbers(self._conversation)
        for first, links in self._table.chain(self._conversation):
            if not self._chain:
                self._first = first
            elif first != self._first + len(self._chain) // CHAIN_LENGTH:
                raise StorageError("The vault is damaged: the chain of a conversation has a gap.")
            self._chain += links
        self._saved = len(self._chain)
