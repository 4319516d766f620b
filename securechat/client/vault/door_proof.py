"""Proves, over a socket between two programs of one machine, that each of them can open a vault.

    asker  -> owner    a[32]                                      random
    owner  -> asker    b[32]   HMAC(key, "owner" || a || b)[32]
    asker  -> owner    HMAC(key, "asker" || a || b)[32]

`key` is HKDF-Expand (RFC 5869) of the vault's key, so who answers right has had the vault's password. HMAC is RFC 2104
with SHA-256.
"""

from typing import Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securechat.errors import TrustError

NONCE_LENGTH: Final = 32
"""Bytes of a and of b."""

PROOF_LENGTH: Final = 32
"""Bytes of a proof."""

Side = Literal["owner", "asker"]


class DoorKey:
    """What both sides know."""

    def __init__(self, vault_key: bytes) -> None:
        """Derive it from the 32 bytes of a vault's key."""
        self._key = HKDFExpand(SHA256(), 32, b"securechat vault door 1").derive(vault_key)

    def prove(self, side: Side, a: bytes, b: bytes) -> bytes:
        """Return the proof of one side, for these two nonces."""
        return self._mac(side, a, b).finalize()

    def verify(self, side: Side, a: bytes, b: bytes, proof: bytes) -> None:
        """Raise `TrustError` unless this is the other side's proof."""
        try:
            self._mac(side, a, b).verify(proof)
        except InvalidSignature:
            raise TrustError(
                "The program at the other end of the socket beside your vault cannot open it: nothing was said to it."
            ) from None

    def _mac(self, side: Side, a: bytes, b: bytes) -> HMAC:
        mac = HMAC(self._key, SHA256())
        mac.update(side.encode() + a + b)
        return mac
