"""Proof that somebody has used an invite line: a signature by the line's one-time key (`identity.invite_line`).

Signed is TLS{label, server_id[16], room<V>, inviter account<V>, identity_key[32], newcomer's account<V>,
identity_key[32], key_package<V>}. So a proof is good for one room of one inviter at one server, and lets in nobody but
the newcomer, by that key package. Nothing here keeps a secret.
"""

from dataclasses import field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from securechat.tlscodec import Writer
from securechat.value import value

LABEL: Final = b"securechat invite line proof v1"


@value
class Claim:
    """What the proof is about. Each of the two people is an account and its identity key (32 bytes)."""

    server_id: bytes
    room: bytes  # 32 bytes; empty: none
    inviter: tuple[str, bytes]
    newcomer: tuple[str, bytes]
    key_package: bytes = field(repr=False)  # an MLSMessage; empty where there is no room

    def to_be_signed(self) -> bytes:
        """Return what the signature covers."""
        writer = Writer().vector(LABEL).opaque(self.server_id).vector(self.room)
        for account, identity_key in (self.inviter, self.newcomer):
            writer.vector(account.encode()).opaque(identity_key)
        return bytes(writer.vector(self.key_package))


def public_half(secret: bytes) -> bytes:
    """Return the public key (32 bytes) of a line's secret: all that its maker keeps."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def prove(secret: bytes, claim: Claim) -> bytes:
    """Return the signature (64 bytes)."""
    return Ed25519PrivateKey.from_private_bytes(secret).sign(claim.to_be_signed())


def is_proof(public: bytes, claim: Claim, signature: bytes) -> bool:
    """Whether the signature is by the line with this public half (32 bytes), and over exactly this."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, claim.to_be_signed())
    except InvalidSignature:
        return False
    return True
