"""Pins: the identity key we know an account by, and what happens when it shows another one (docs/design.md, section 6).

Trust on first use. A pin never decides whether a commit is valid (invariant 8): it holds our own sending and marks what
we read, until a person decides. The rules are pure functions on a frozen value; the vault keeps the value.

    no pin   --observe(key)-->      pinned
    pinned   --verify(key)-->       verified
    pinned   --observe(other)-->    changed             --trust(other)-->   pinned (other)
    verified --observe(other)-->    changed, verified   --verify(other)-->  verified (other)
"""

from dataclasses import dataclass, replace
from typing import Literal

from securechat.errors import TrustError

Observation = Literal["first", "known", "changed"]
"""`first`: no key was known, this one is pinned. `known`: nothing new. `changed`: tell the user, hold what we send."""

Standing = Literal["pinned", "verified", "changed", "changed-verified"]
"""How a key that signed something compares with the pin: the mark a message of its owner gets."""


@dataclass(frozen=True)
class Pin:
    """What we know of an account's identity key (32 bytes)."""

    account: str
    identity_key: bytes
    verified: bool = False  # a person compared the safety number for `identity_key`
    changed_key: bytes | None = None  # another key the account has shown; a person has to decide

    @property
    def current_key(self) -> bytes:
        """The key the account showed last: the one a safety number is compared for."""
        return self.identity_key if self.changed_key is None else self.changed_key


def observe(pin: Pin | None, account: str, key: bytes) -> tuple[Pin, Observation]:
    """Take note that `account` shows `key`. A change stays noted until `trust` or `verify`, whatever is shown next."""
    if pin is None:
        return Pin(account, key), "first"
    if key in (pin.identity_key, pin.changed_key):
        return pin, "known"
    return replace(pin, changed_key=key), "changed"


def standing(pin: Pin, key: bytes) -> Standing:
    """Compare `key`, which a message was sent under, with the pin."""
    if key == pin.identity_key:
        return "verified" if pin.verified else "pinned"
    return "changed-verified" if pin.verified else "changed"


def trust(pin: Pin, key: bytes) -> Pin:
    """Accept `key`, the one the user was told about, without having compared it.

    Raises `TrustError` if the account shows yet another key meanwhile.
    """
    _check_current(pin, key)
    return pin if key == pin.identity_key else Pin(pin.account, key)


def verify(pin: Pin, key: bytes) -> Pin:
    """Accept `key`, the one whose safety number the user has compared.

    Raises `TrustError` if the account shows another key meanwhile: that one was not compared.
    """
    _check_current(pin, key)
    return Pin(pin.account, key, verified=True)


def _check_current(pin: Pin, key: bytes) -> None:
    if key != pin.current_key:
        raise TrustError(f"The key of {pin.account} has changed again meanwhile. Compare the new safety number.")
