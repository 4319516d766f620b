"""What this client has seen of the chains of identity keys, its own included (docs/design.md, section 6, Pins).

Each certificate in a leaf or key package, and each statement, is looked at once its signature is verified. The newest
of each chain is kept in the vault, so that an older or revoked certificate can be refused where somebody offers it, and
two programs that hold one key are found. None of this decides whether a commit is valid (invariant 8).
"""

from collections.abc import Callable
from typing import Final

from securechat.client.device import Device
from securechat.client.events import Event, OwnKeyUsed, TwoHolders
from securechat.client.pins import PinBook
from securechat.client.vault.identity import SeenChainRow, SeenChainTable
from securechat.errors import PeerError
from securechat.identity import pins
from securechat.identity.certificate import CLOCK_SKEW, DeviceCertificate
from securechat.identity.chains import Age, SeenChain
from securechat.identity.statements import CONTESTED_SECONDS, Link, Statement

MAX_MET: Final = 10_000
"""Chains kept of keys on which the user has decided nothing, about 6 MB: accounts are free, and the newest ten of the
largest rooms fit. The one that said nothing new for the longest time gives way; it is a key that proves nothing anyway.
Chains of keys with a pin are kept with the pin."""

_SLACK: Final = 500
"""So many more may be there before they are looked through."""

_MAX_LOADED: Final = 2_000
"""Chains held in memory, about 2 MB: twice the largest room."""


class ChainBook:
    """The chains of all keys that this client has met. One thread at a time."""

    def __init__(self, table: SeenChainTable, emit: Callable[[Event], None], book: PinBook, device: Device) -> None:
        self._table = table
        self._emit = emit
        self._pins = book
        self._device = device
        self._loaded: dict[tuple[str, bytes], SeenChainRow | None] = {}
        self._met = table.count_met()

    def see(self, link: Link) -> bool:
        """Look at a link whose signature was verified; say whether it is new to us.

        Tells if it shows that somebody else holds the key.
        """
        known = self._load(link.account, link.identity_key)
        chain = SeenChain.begin(link) if known is None else known.chain.see(link)
        if known is not None and chain is known.chain:
            return False
        self._keep(SeenChainRow(chain, confirmed=known is not None and known.confirmed))
        if known is None:
            self._met += 1
            if self._met > MAX_MET + _SLACK:
                self._met = self._table.keep_newest(MAX_MET)
                self._loaded.clear()
        found = chain.two_holders and (known is None or not known.chain.two_holders)
        if self._is_own(link.account, link.identity_key):
            if not self._device.has_signed(link):
                made = link.not_before + CLOCK_SKEW if isinstance(link, DeviceCertificate) else link.time
                self._emit(OwnKeyUsed("certify" if isinstance(link, DeviceCertificate) else link.action, made * 1000))
        elif found and self._pins.standing(link.account, link.identity_key) in pins.WRITTEN_TO:
            self._emit(TwoHolders(link.account, pins.short(link.identity_key)))
        return True

    def of(self, account: str, key: bytes) -> SeenChain | None:
        """Return what was seen of a chain."""
        known = self._load(account, key)
        return None if known is None else known.chain

    def age(self, certificate: DeviceCertificate) -> Age:
        """Say how a certificate stands in what was seen of its chain."""
        known = self._load(certificate.account, certificate.identity_key)
        return "current" if known is None else known.chain.age(certificate)

    def check(self, certificate: DeviceCertificate) -> None:
        """Raise `PeerError` for a certificate that is offered to us, if it is revoked or a later one was seen."""
        if (age := self.age(certificate)) != "current":
            raise PeerError(_REFUSED[age].format(certificate.account))

    def may_contest(self, contest: Statement) -> bool:
        """Whether a statement denies, in time, the succession that was seen in its chain."""
        known = self._load(contest.account, contest.identity_key)
        succession = None if known is None else known.chain.succession
        return (
            succession is not None
            and succession.key == contest.key
            and contest.time <= succession.time + CONTESTED_SECONDS
        )

    def contestable(self, now: int) -> set[tuple[str, bytes]]:
        """Return the keys that can still contest one that we write to; `now` in seconds since 1970."""
        oldest = now - CONTESTED_SECONDS - CLOCK_SKEW
        return {
            (each.account, each.identity_key)
            for each in self._table.successions()
            if each.time > oldest and self._pins.standing(each.account, each.key) in pins.WRITTEN_TO
        }

    def in_doubt(self, account: str, key: bytes) -> bool:
        """Whether two programs hold a key, and the user has not gone on all the same."""
        known = self._load(account, key)
        return known is not None and known.chain.two_holders and not known.confirmed

    def confirm(self, account: str, key: bytes) -> None:
        """The user goes on with a key that two programs hold."""
        known = self._load(account, key)
        if known is not None and known.chain.two_holders:
            self._keep(SeenChainRow(known.chain, confirmed=True))

    def _is_own(self, account: str, key: bytes) -> bool:
        return (account, key) == (self._device.account, self._device.identity_key)

    def _load(self, account: str, key: bytes) -> SeenChainRow | None:
        which = (account, key)
        if which not in self._loaded:
            self._remember(which, self._table.load(account, key))
        return self._loaded[which]

    def _keep(self, row: SeenChainRow) -> None:
        self._table.save(row)
        newest = row.chain.newest
        self._remember((newest.account, newest.identity_key), row)

    def _remember(self, which: tuple[str, bytes], row: SeenChainRow | None) -> None:
        self._loaded[which] = row
        if len(self._loaded) > _MAX_LOADED:
            del self._loaded[next(iter(self._loaded))]


_REFUSED: Final[dict[Age, str]] = {
    "older": (
        "It is by an older certificate of {} than one that you have seen: the server was restored from a backup, or "
        "somebody uses an old copy of their data."
    ),
    "revoked": "It is by a device that {} has revoked.",
}
