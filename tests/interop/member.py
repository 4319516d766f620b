"""What every implementation under test can do as a member of a group, in the same words.

All messages are encoded MLSMessages. A commit takes effect for its maker at once; the others `receive` it. Where an
implementation can do more, or less, its class says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class AddClient:
    """Add the client that this key package is of."""

    key_package: bytes


@dataclass(frozen=True)
class RemoveMember:
    """Remove the member of this identity."""

    identity: bytes


@dataclass(frozen=True)
class MixPsk:
    """Mix in the external PSK of this identifier."""

    psk_id: bytes


@dataclass(frozen=True)
class SetExtensions:
    """Replace the group context's extensions by these types and data."""

    extensions: Sequence[tuple[int, bytes]]


Change = AddClient | RemoveMember | MixPsk | SetExtensions


@dataclass(frozen=True)
class Committed:
    """What comes out of a commit."""

    message: bytes
    welcome: bytes | None
    tree: bytes
    """The new ratchet tree, for joiners whose Welcome does not have it."""


class Refused(Exception):  # noqa: N818 - says what became of the message
    """A foreign implementation refused what it was given; the text is its own."""


class Member(Protocol):
    """A member, or somebody who may become one."""

    @property
    def identity(self) -> bytes:
        """The identity in the basic credential; no two members of a group share it."""

    def key_package(self) -> bytes:
        """A fresh key package. The last one made is the one that `join` uses."""

    def create(self, group_id: bytes) -> None:
        """Make a group of one."""

    def join(self, welcome: bytes, tree: bytes | None = None) -> None:
        """Enter a group. `tree` is needed if it is not in the Welcome."""

    def commit(self, *changes: Change) -> Committed:
        """Commit the proposals received and these changes; without either, renew the own keys."""

    def receive(self, message: bytes) -> bytes | None:
        """Process a commit, proposal or application message of another; of the last one, the text comes back."""

    def encrypt(self, text: bytes) -> bytes:
        """Make an application message."""


def read_each_other(*members: Member) -> None:
    """Each of these members says something, and all others read it."""
    for speaker in members:
        text = b"hello from " + speaker.identity
        message = speaker.encrypt(text)
        for reader in members:
            if reader is not speaker:
                assert reader.receive(message) == text


def altered(message: bytes) -> bytes:
    """The same message with the last bit but seven flipped: in its tag, MAC or ciphertext."""
    return message[:-1] + bytes([message[-1] ^ 0x80])
