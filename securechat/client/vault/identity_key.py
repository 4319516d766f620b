"""The account's identity key, as the vault keeps it: wrapped under the password, and open only while that is at hand.

Whoever copies an opened vault, or takes over the process, gets no identity key by that: they cannot certify devices or
speak for the account after its device was renewed. The key has its own salt, so that the vault's key says nothing about
it. Its context binds it to account and public half: a blob from another vault, or beside another key, does not open.

    context = label || opaque account<V> || public[32]          (presentation language of RFC 9420, section 2.1)

    with identity.opened(password) as key:
        key.sign(data)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from securechat.client.wrapping import Cost, WrongPasswordError, unwrap, wipe, wrap
from securechat.errors import InternalError, StorageError
from securechat.tlscodec import Writer
from securechat.value import value

LABEL: Final = b"securechat identity key v2"
KEY_LENGTH: Final = 32


class OpenedKey:
    """An identity key that can sign, until it is closed. Printing it shows the public half alone."""

    def __init__(self, private: bytearray) -> None:
        """Take over `private` (32 bytes), and overwrite it in `close`."""
        self._private = private
        self._public = Ed25519PrivateKey.from_private_bytes(private).public_key()
        self._open = True

    def __repr__(self) -> str:
        """The public half."""
        return f"OpenedKey({self.public.hex()})"

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self._public.public_bytes_raw()

    def public_key(self) -> Ed25519PublicKey:
        """Return the public half, as the library has it."""
        return self._public

    def sign(self, data: bytes, /) -> bytes:
        """Return an Ed25519 signature (64 bytes). Raises `InternalError` after `close`."""
        return Ed25519PrivateKey.from_private_bytes(self.secret()).sign(data)

    def secret(self) -> bytearray:
        """Return the 32 bytes, not a copy: for who wraps them again. Raises `InternalError` after `close`."""
        if not self._open:
            raise InternalError("the identity key is closed")
        return self._private

    def close(self) -> None:
        """Overwrite the key."""
        self._open = False
        wipe(self._private)


@value
class IdentityKey:
    """An account's identity key: the public half in clear, the private half wrapped."""

    account: str
    public: bytes
    wrapped: bytes = field(repr=False)

    @classmethod
    def create(cls, account: str, password: bytearray, cost: Cost) -> Self:
        """Make a fresh one."""
        return cls.of(account, bytearray(os.urandom(KEY_LENGTH)), password, cost)

    @classmethod
    def of(cls, account: str, private: bytearray, password: bytearray, cost: Cost) -> Self:
        """Wrap a key that exists (32 bytes), and overwrite it."""
        key = OpenedKey(private)
        try:
            return cls(account, key.public, wrap(private, password, context=_context(account, key.public), cost=cost))
        finally:
            key.close()

    def rewrapped(self, password: bytearray, new: bytearray, cost: Cost) -> Self:
        """Return the same key under another password. Raises as `opened` does."""
        with self.opened(password) as key:
            return type(self).of(self.account, bytearray(key.secret()), new, cost)

    @contextmanager
    def opened(self, password: bytearray) -> Iterator[OpenedKey]:
        """Open it for a moment, at the price of one guess. Raises `WrongPasswordError`; for damage, `StorageError`."""
        try:
            key = OpenedKey(unwrap(self.wrapped, password, context=_context(self.account, self.public)))
        except WrongPasswordError:
            raise WrongPasswordError(f"The password does not open the identity key of {self.account}.") from None
        except StorageError as error:
            raise StorageError(f"The identity key in the vault of {self.account} is damaged. {error}") from None
        try:
            yield key
        finally:
            key.close()


def _context(account: str, public: bytes) -> bytes:
    return LABEL + bytes(Writer().vector(account.encode()).opaque(public))
