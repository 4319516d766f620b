"""The keyring: our signature keys, each found by its public half. Each of our leaves and key packages names its own.

A device has several while a new one takes the place of the old (docs/design.md, section 6). Keeps (in the vault): the
private halves. Deletes: those that nothing needs any more.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from securechat.client.vault.identity import SignatureKeyTable
from securechat.mls.crypto.sealing import SignaturePrivateKey, generate_signature_secret
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

_SUITE: Final = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519


class Keyring(Mapping[bytes, SignaturePrivateKey]):
    """The signature keys of one device. Changes belong inside a transaction."""

    def __init__(self, table: SignatureKeyTable) -> None:
        self._table = table
        self._parsed: dict[bytes, SignaturePrivateKey] = {}

    def __repr__(self) -> str:
        """Public halves only."""
        return f"Keyring({', '.join(public.hex()[:8] for public in self)})"

    def __getitem__(self, public: bytes) -> SignaturePrivateKey:
        """Return the key whose public half (32 bytes) this is. Raises `KeyError`."""
        if public not in self._parsed:
            private = self._table.find(public)
            if private is None:
                raise KeyError(public.hex())
            key = SignaturePrivateKey(_SUITE, private) if private else SignaturePrivateKey.wiped(_SUITE, public)
            self._parsed[public] = key
        return self._parsed[public]

    def __iter__(self) -> Iterator[bytes]:
        """Go through the public halves."""
        return iter(self._table.all())

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._table.all())

    def wipe(self, public: bytes) -> None:
        """Delete a private half for good; that the key was ours is still known."""
        self._table.wipe(public)
        self._parsed.pop(public, None)

    def drop(self, public: bytes) -> None:
        """Delete a key that nobody has seen."""
        self._table.delete(public)
        self._parsed.pop(public, None)

    def make(self) -> bytes:
        """Make and keep a fresh key; return its public half, 32 bytes."""
        private = generate_signature_secret(_SUITE)
        public = SignaturePrivateKey(_SUITE, private).public_key
        self._table.add(public, private)
        return public
