"""Which vault is for which server: by the server's id, and not by how somebody typed its address.

    alice@0123...ef.vault            a vault: account, and the server's id in 32 hexadecimal digits
    alice@0123...ef.vault.server     its card, in clear: where that server was reached, and by which CA

A card is for finding a vault before its password is typed and before any server was asked. Nobody is trusted because of
it: the vault knows its server's id, CAs and addresses itself. So what cannot be read as a card counts as none, and is
written again from what the vault knows.
Vaults from before are named by an address, `alice@chat.example-4433.vault`, and get their card once they were open.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from securechat.client.vault_files import CARD, MAX_ADDRESSES, beside
from securechat.errors import UsageError
from securechat.files import open_to_read, write_atomically
from securechat.hosts import address_of, normalise_host
from securechat.transport.certificate_files import CA
from securechat.wire.limits import SERVER_ID_LENGTH

MAX_CARD: Final = 64 << 10
"""Bytes of a card: its CA has less than a tenth of that."""

_NAMED: Final = re.compile(f"[0-9a-f]{{{2 * SERVER_ID_LENGTH}}}")
_AGED: Final = re.compile(r"(.+)-([0-9]{1,5})")


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands beside a vault. `addresses`: `HOST:PORT`, the last one used is the last; `ca` in DER, or empty."""

    account: str
    server_id: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{2 * SERVER_ID_LENGTH}}}$")]
    addresses: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_ADDRESSES)]
    ca_pin: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")] = ""
    ca: bytes = b""


class Folder:
    """The vaults of one account in a folder."""

    def __init__(self, folder: Path, account: str) -> None:
        """Read the cards that are there."""
        self._folder = folder
        self._account = account
        self._cards = {}
        self._aged = {}
        self._bare = []
        prefix = f"{_safe(account)}@"
        names = {path.name.removesuffix(CARD) for path in folder.glob("*.vault*")} if folder.is_dir() else set()
        for path in (folder / name for name in sorted(names) if name.endswith(".vault")):
            card = _read(beside(path, CARD))
            if card is not None and card.account == account:
                self._cards[path] = card
            elif card is not None or not path.exists() or not path.name.startswith(prefix):
                continue
            elif (where := _address_of(path.stem, prefix)) is not None:
                self._aged[path] = where
            elif _NAMED.fullmatch(path.stem.removeprefix(prefix)):
                self._bare.append(path)

    def at(self, address: str) -> list[Path]:
        """Return the vaults whose servers were reached at `HOST:PORT`, in its one spelling: several if another server
        has come to an address."""
        carded = [path for path, card in self._cards.items() if address in card.addresses]
        return carded or [path for path, where in self._aged.items() if where == address]

    def bare(self) -> Path | None:
        """Return the vault that has no card, if there is one only: it may be for any server."""
        return self._bare[0] if len(self._bare) == 1 else None

    def ca_pin(self, path: Path) -> str:
        """Return the pin of the CA on a vault's card, as 64 hexadecimal digits; empty if there is none."""
        return self._cards[path].ca_pin if path in self._cards else ""

    def addresses(self, path: Path) -> list[str]:
        """Return where a vault's server was reached, by its card or its name: for a vault that does not know it."""
        if path in self._cards:
            return self._cards[path].addresses
        return [self._aged[path]] if path in self._aged else []

    def of(self, server_id: bytes) -> Path:
        """Return the vault for a server: the one that is there, or where a new one is to be.

        Raises UsageError if that cannot be said.
        """
        paths = [path for path, card in self._cards.items() if card.server_id == server_id.hex()]
        if len(paths) > 1:
            where = " or ".join(self._cards[path].addresses[-1] for path in paths)
            raise UsageError(
                f"{self._account} has {len(paths)} vaults for this server, from when they were told apart by address: "
                f"say which by giving --server {where}."
            )
        path = paths[0] if paths else self._folder / f"{_safe(self._account)}@{server_id.hex()}.vault"
        if not path.exists() and self._aged:
            where = " and ".join(self._aged.values())
            raise UsageError(
                f"{self._account} has a vault here from an older securechat, for {where}, and it is not known yet "
                "whether that is this server. Start once with --server and that address; or use another folder, "
                "with --vault."
            )
        return path

    def beside(self, path: Path, server_id: bytes) -> list[str]:
        """Return where the servers of other vaults are reached that are, or may be, for the same server."""
        same = [card.addresses[-1] for other, card in self._cards.items()
                if other != path and card.server_id == server_id.hex()]  # fmt: skip
        return [*same, *(where for other, where in self._aged.items() if other != path)]

    def cas(self) -> list[CA]:
        """Return the CAs that are on cards: to ask a server for its id, and for nothing else."""
        return [CA(bytes.fromhex(card.ca_pin), card.ca) for card in self._cards.values() if card.ca]

    def note(self, path: Path, server_id: bytes, addresses: Sequence[str], ca: CA | None) -> None:
        """Write the card of a vault that the caller has open, if any address is known. Raises StorageError."""
        if not addresses or beside(path, CARD).is_dir():  # nothing can be written in the place of a folder
            return
        before = _read(beside(path, CARD))
        card = Card(
            self._account, server_id.hex(), list(addresses[-MAX_ADDRESSES:]),
            "" if ca is None else ca.pin.hex(), b"" if ca is None else ca.certificate,
        )  # fmt: skip
        if card != before:
            write_atomically(beside(path, CARD), msgspec.json.encode(card))


def _read(path: Path) -> Card | None:
    try:
        with os.fdopen(open_to_read(path), "rb") as file:
            return msgspec.json.decode(file.read(MAX_CARD), type=Card)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


def _safe(text: str) -> str:
    """Spell a text so that every system takes it in a file's name."""
    return re.sub(r"[^\w.-]", lambda found: f"%{ord(found[0]):02X}", text)


def _address_of(name: str, prefix: str) -> str | None:
    """Return `HOST:PORT` in its one spelling, from the name of a vault from before, if it is one."""
    found = _AGED.fullmatch(name.removeprefix(prefix))
    if found is None:
        return None
    host = re.sub("%([0-9A-F]{2})", lambda each: chr(int(each[1], 16)), found[1])
    try:
        return address_of(normalise_host(host), int(found[2]))
    except UsageError:
        return None
