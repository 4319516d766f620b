"""The keepsake, as everybody may see it: what an account leaves at its server for the day when its devices are gone.

    struct {
        uint16 version = 1;
        opaque server_id[16];
        opaque account<V>;          /* UTF-8, normalised, 1 to 32 characters */
        opaque identity_key[32];    /* Ed25519: who can open it, and has signed it */
        uint64 number;              /* 1, 2, 3...: the newer one has the higher number */
        uint64 time;                /* seconds since 1970, by the clock of whoever made it */
        opaque nonce[12];
        opaque ciphertext<V>;       /* AES-256-GCM with its tag; the associated data is all fields above it */
        opaque signature[64];       /* by identity_key, over label<V> and all fields above */
    } Keepsake;

The server keeps the newest one of each account, and takes a lower number no more. It can withhold it, or show an older
one that it once got; it cannot make one. What is in it, and how it is sealed: `client.keepsake`. docs/design.md,
section 6.
"""

from dataclasses import replace
from typing import Final, Self

from securechat.errors import DecodeError, PeerError
from securechat.identity.certificate import KEY_LENGTH, SIGNATURE_LENGTH, Signer, check_account
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value
from securechat.wire.limits import MAX_ACCOUNT, MAX_COUNT, MAX_KEEPSAKE, SERVER_ID_LENGTH

LABEL: Final = b"securechat keepsake v1"
VERSION: Final = 1
NONCE_LENGTH: Final = 12

_ED25519: Final = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519.signature


@value
class Keepsake(Struct):
    """One keepsake, sealed."""

    server_id: bytes
    account: str
    identity_key: bytes
    number: int
    time: int
    nonce: bytes
    ciphertext: bytes
    signature: bytes = bytes(SIGNATURE_LENGTH)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one. Raises `DecodeError`; says nothing yet about the signature: see `verify`."""
        version = reader.u16()
        if version != VERSION:
            raise DecodeError(f"A keepsake has version {version}; only {VERSION} is known.")
        server_id = reader.opaque(SERVER_ID_LENGTH)
        try:
            account = reader.vector(4 * MAX_ACCOUNT).decode()
        except UnicodeDecodeError:
            raise DecodeError("The account in a keepsake is not UTF-8.") from None
        identity_key, number, time = reader.opaque(KEY_LENGTH), reader.u64(), reader.u64()
        nonce, ciphertext = reader.opaque(NONCE_LENGTH), reader.vector(MAX_KEEPSAKE)
        return cls(server_id, account, identity_key, number, time, nonce, ciphertext, reader.opaque(SIGNATURE_LENGTH))

    def write(self, writer: Writer) -> None:
        """Append the encoding, signature included."""
        writer.opaque(self.associated_data()).opaque(self.nonce).vector(self.ciphertext).opaque(self.signature)

    def associated_data(self) -> bytes:
        """Return the fields that are not secret, up to the nonce: sealed with the ciphertext, so that none is moved."""
        writer = Writer().u16(VERSION).opaque(self.server_id).vector(self.account.encode()).opaque(self.identity_key)
        return bytes(writer.u64(self.number).u64(self.time))

    def signed_by(self, key: Signer) -> "Keepsake":
        """Return it with the signature of its identity key."""
        return replace(self, signature=key.sign(self._to_be_signed()))

    def verify(self) -> None:
        """Raise `PeerError` unless its number and signature are sound."""
        check_account(self.account)
        if not 0 < self.number <= MAX_COUNT:
            raise PeerError(f"A keepsake of {self.account} has the number {self.number}.")
        _ED25519.check_public_key(self.identity_key)
        _ED25519.verify(self.identity_key, self._to_be_signed(), self.signature)

    def _to_be_signed(self) -> bytes:
        writer = Writer().vector(LABEL).opaque(self.associated_data())
        return bytes(writer.opaque(self.nonce).vector(self.ciphertext))
