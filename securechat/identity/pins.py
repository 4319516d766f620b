"""Pins: which identity keys of an account a person has accepted, compared or refused (docs/design.md, section 6).

An account may have several keys, each with a state of its own, but one that is written to (`accepted` or `verified`). A
key gets a state by what a person does: a key that is merely seen has none. A pin never decides whether a commit is
valid (invariant 8): it holds our own sending and marks what we read. All here are pure functions on a frozen value.

    accept     write first to an account without a pin, say yes to a request or an invitation, use an invite line
    trust      the same for a key against the one that is accepted, which it takes the place of
    verify     the safety number of this key was compared; it takes the place of whichever was accepted
    refuse     nothing goes to this key

A key may also name another one as its successor, by a signed statement (`identity.statements`). What was accepted is
the new one then; what was compared is `succeeded`, until the user goes on (`go_on`) or compares again. Where the old
key contests that, one of the two is a thief's: both are `contested`, and nothing goes to either until a person decides.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Final, Literal

from securechat.errors import TrustError
from securechat.value import value

State = Literal["accepted", "verified", "refused", "succeeded", "contested"]
"""What a person has decided on a key. `verified`: accepted, and its safety number compared. `succeeded`: a verified key
has named it as its successor, and the person has not seen that. `contested`: the key before it denies that, or it
denies the one after it."""

Standing = Literal[
    "unknown", "accepted", "verified", "succeeded", "changed", "changed-verified", "contested", "refused",
]  # fmt: skip
"""How a key stands. `unknown`: no key of the account is accepted, nor is this one refused. `changed`,
`changed-verified`: another key of the account is accepted, or verified."""

WRITTEN_TO: Final = frozenset[Standing](("accepted", "verified", "succeeded"))
"""A key that stands so may be written to."""

CONTRADICTING: Final = frozenset[Standing](("changed-verified", "refused"))
"""A key that stands so is against what the user has verified or refused."""

WORST_FIRST: Final[tuple[Standing, ...]] = (
    "refused", "contested", "changed-verified", "changed", "succeeded", "unknown", "accepted", "verified",
)  # fmt: skip
"""In the order in which people should look at them."""

AGAINST: Final = frozenset[Standing](("changed", "changed-verified", "contested", "refused"))
"""Another key is, or was, the right one."""

SHORT: Final = 4
"""Hexadecimal digits of a key's short form. They tell apart the few keys of one account, and prove nothing."""


@value
class Pin:
    """What was decided on one key (32 bytes) of an account."""

    account: str
    identity_key: bytes
    state: State


@value
class Pins:
    """The keys of one account that something was decided on."""

    account: str
    states: Mapping[bytes, State] = field(default_factory=dict)  # identity key (32 bytes) -> its state

    @property
    def written_to(self) -> bytes | None:
        """The one key that is accepted or verified, if there is one."""
        return next((key for key, state in self.states.items() if state in WRITTEN_TO), None)

    def standing(self, key: bytes) -> Standing:
        """Say how `key` stands."""
        if key in self.states:
            return self.states[key]
        current = self.written_to
        if current is None:
            return "unknown"
        return "changed-verified" if self.states[current] == "verified" else "changed"

    def accept(self, key: bytes) -> "Pins":
        """Accept `key` at first contact. Raises `TrustError` if another one is accepted, or this one is refused."""
        standing = self.standing(key)
        if standing in WRITTEN_TO:
            return self
        if standing != "unknown":
            raise TrustError(f"{short(key)} is {'refused' if standing == 'refused' else 'not the accepted key'}.")
        return self._with(key, "accepted")

    def trust(self, key: bytes) -> "Pins":
        """Accept `key`, also against another one, which is accepted no more."""
        return self if self.standing(key) in WRITTEN_TO else self._with(key, "accepted")

    def verify(self, key: bytes) -> "Pins":
        """Note that the safety number of `key` was compared. Another key is accepted no more."""
        return self._with(key, "verified")

    def refuse(self, key: bytes) -> "Pins":
        """Let nothing go to `key`."""
        return Pins(self.account, {**self.states, key: "refused"})

    def succeed(self, old: bytes, new: bytes) -> "Pins":
        """The key `old` has named `new` as its successor. Changes nothing unless `old` is written to."""
        if self.written_to != old or self.states.get(new) == "refused":
            return self
        return self._with(new, "accepted" if self.states[old] == "accepted" else "succeeded")

    def contest(self, old: bytes, new: bytes) -> "Pins":
        """The key `old` denies that `new` is its successor. Of no effect if `new` is not accepted, or was compared."""
        if self.written_to != new or self.states[new] == "verified":
            return self
        return Pins(self.account, {**self.states, old: "contested", new: "contested"})

    def go_on(self, key: bytes) -> "Pins":
        """The user has seen that `key` succeeds one that they had compared, and accepts it."""
        return self._with(key, "accepted") if self.states.get(key) == "succeeded" else self

    def _with(self, key: bytes, state: State) -> "Pins":
        """Give `key` a state that means: this is the one that is written to."""
        others = {each: other for each, other in self.states.items() if other == "refused"}
        return Pins(self.account, {**others, key: state})


def short(key: bytes) -> str:
    """Return the short form of a key by which people name it: `1a2b`."""
    return digest(key)[:SHORT]


def digest(key: bytes) -> str:
    """Return the whole of what a short form is the beginning of: 64 hexadecimal digits, SHA-256 of the key."""
    return hashlib.sha256(key).hexdigest()


def named(form: str, keys: list[bytes]) -> list[bytes]:
    """Return those of `keys` that a typed short form may mean: it may be longer, where two begin alike."""
    wanted = form.lower()
    return [key for key in keys if len(wanted) >= SHORT and digest(key).startswith(wanted)]
