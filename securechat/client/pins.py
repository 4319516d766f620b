"""The pins of one client: what its user has decided on identity keys (docs/design.md, section 6, Pins).

All are in memory, written through to the vault: they are looked at for every message. Keys that are merely met are told
once a session where they are not the accepted one, and pin nothing.
"""

from collections.abc import Callable, Iterable
from typing import Final

from securechat.client.events import Alarm, Event, FirstContact, KeyChanged, KeyContested, KeySucceeded
from securechat.client.vault.identity import PinTable
from securechat.errors import TrustError, UsageError
from securechat.identity import pins
from securechat.identity.certificate import KEY_LENGTH, DeviceCertificate
from securechat.identity.pins import Pin, Pins, Standing, State

MAX_MET: Final = 10_000
"""Keys that are remembered as met in this session, the newest: about 1 MB. One that was forgotten is told again."""


class PinBook:
    """All pins. One thread at a time."""

    def __init__(self, table: PinTable, emit: Callable[[Event], None], own_account: str, own_key: bytes) -> None:
        self._table = table
        self._emit = emit
        self._own = Pins(own_account).verify(own_key)
        self._accounts: dict[str, Pins] = {}
        for pin in table.load():
            known = self._accounts.get(pin.account, Pins(pin.account))
            self._accounts[pin.account] = Pins(pin.account, {**known.states, pin.identity_key: pin.state})
        self._met: dict[tuple[str, bytes], None] = {}
        self.version = 0
        """Rises with each decision: whatever was worked out from the pins before is out of date."""

    def restore(self, kept: Iterable[Pin]) -> None:
        """Take over what was decided on another device of ours."""
        states: dict[str, dict[bytes, State]] = {}
        for pin in kept:
            if pin.account != self._own.account:
                states.setdefault(pin.account, {})[pin.identity_key] = pin.state
        for account, keys in states.items():
            self._keep(Pins(account, keys))

    def use(self, own_key: bytes) -> None:
        """Our own identity key is another one now."""
        self._own = Pins(self._own.account).verify(own_key)
        self.version += 1

    def accounts(self) -> Iterable[str]:
        """Return the accounts on whose keys something was decided."""
        return self._accounts.keys()

    def of(self, account: str) -> Pins:
        """Return what was decided on the keys of an account."""
        if account == self._own.account:
            return self._own
        return self._accounts.get(account) or Pins(account)

    def standing(self, account: str, key: bytes) -> Standing:
        """Say how a key of an account stands."""
        return self.of(account).standing(key)

    def met(self, account: str) -> list[bytes]:
        """Return the keys of an account that were met in this session."""
        return [key for each, key in self._met if each == account]

    def meet(self, person: DeviceCertificate, conversation: bytes) -> bytes | None:
        """Take note of the key in a verified certificate, and tell if it is not the one to be expected.

        `conversation`: where it shows itself. Returns the accepted key that it contradicts, when that is told.
        """
        account, key = person.account, person.identity_key
        if (account, key) in self._met:
            return None
        self._met[account, key] = None
        if len(self._met) > MAX_MET:
            del self._met[next(iter(self._met))]
        standing = self.standing(account, key)
        if account == self._own.account:
            if standing != "verified":
                self._emit(Alarm("own-name", conversation, _CLAIMS_TO_BE_US.format(pins.short(key))))
        elif standing in ("changed", "changed-verified", "contested", "refused"):
            self._emit(KeyChanged(account, pins.short(key), standing))
            return self.of(account).written_to
        return None

    def write_first(self, account: str, key: bytes) -> None:
        """The user writes to an account first, which shows this key: accept it if nothing was decided on any."""
        if not self.of(account).states:
            self.accept(account, key)

    def accept(self, account: str, key: bytes) -> None:
        """The user has said yes to somebody under this key. Raises `TrustError` as `Pins.accept` does."""
        if self.vouch(account, key):
            self._emit(FirstContact(account, pins.short(key)))

    def vouch(self, account: str, key: bytes) -> bool:
        """Accept a key on the word of an invite line, of which the caller tells; say whether it was unknown.

        Raises `TrustError` as `Pins.accept` does.
        """
        if len(key) != KEY_LENGTH:  # nobody is there
            raise TrustError(f"{account} shows no key.")
        before = self.of(account)
        after = before.accept(key)
        if after is not before:
            self._keep(after)
        return after is not before

    def trust(self, account: str, key: bytes) -> None:
        """The user accepts a key without having compared it, also against the accepted one."""
        self._keep(self._of_others(account).trust(key))

    def verify(self, account: str, key: bytes) -> None:
        """The user has compared the safety number of a key."""
        self._keep(self._of_others(account).verify(key))

    def refuse(self, account: str, key: bytes) -> None:
        """The user lets nothing go to a key."""
        self._keep(self._of_others(account).refuse(key))

    def succeed(self, account: str, old: bytes, new: bytes) -> bool:
        """An identity key has named its successor, which the caller has verified. Return whether it is written to now,
        or waits for the user."""
        before = self.of(account)
        after = before.succeed(old, new)
        if after is not before:
            self._keep(after)
            self._emit(KeySucceeded(account, pins.short(new), after.standing(new)))
        return after is not before

    def contest(self, account: str, old: bytes, new: bytes) -> None:
        """An identity key denies, in time, that it has named that successor."""
        before = self.of(account)
        after = before.contest(old, new)
        if after is not before:
            self._keep(after)
            self._emit(KeyContested(account, pins.short(old), pins.short(new)))

    def go_on(self, account: str, key: bytes) -> None:
        """The user goes on with a key that has succeeded a compared one."""
        before = self.of(account)
        after = before.go_on(key)
        if after is not before:
            self._keep(after)

    def _of_others(self, account: str) -> Pins:
        if account == self._own.account:
            raise UsageError("That is you: your own key is the one in this vault, and no other is ever accepted.")
        return self.of(account)

    def _keep(self, after: Pins) -> None:
        self._table.save(after.account, after.states)
        self._accounts[after.account] = after
        self.version += 1


_CLAIMS_TO_BE_US: Final = (
    "Somebody is here under your name with another key ({}). It is not this program. If you have not started anew "
    "with another vault, somebody claims to be you: tell the others. Your key and your private conversations stay as "
    "they are."
)
