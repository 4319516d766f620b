"""Proves, over a socket between two programs, that each can open a vault, and seals what they say then.

    asker  -> owner    a[32]                                      random
    owner  -> asker    b[32]   HMAC(key, "owner" || a || b)[32]
    asker  -> owner    HMAC(key, "asker" || a || b)[32]

    both ways          length[4]   AES-256-GCM(key of this direction, number of the record, text)   associated: length

`key` is HKDF-Expand (RFC 5869) of the vault's key, so who answers right has had the vault's password. HMAC is RFC 2104
with SHA-256. The proofs say who is at the ends, and nothing of who stands between them and passes them on. So all that
follows is in *records*, under a key for each direction that only both ends can derive: HKDF (RFC 5869) of a second
secret of the vault's key, with a || b as salt and the sender's side as info. Records are numbered from 0, apart for
each direction, and the number, in 12 bytes, is the nonce: one that is altered, repeated, behind a gap, out of order or
from another connection does not open. Who stands between can end the connection, as they can end the programs.
"""

from typing import Final, Literal

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from securechat.errors import TrustError

NONCE_LENGTH: Final = 32
"""Bytes of a and of b."""

PROOF_LENGTH: Final = 32
"""Bytes of a proof."""

HEADER_LENGTH: Final = 4
"""Bytes of a record's length."""

MAX_RECORD: Final = 65_536
"""Bytes of text in a record: what is read at once. A longer line has several."""

TAG_LENGTH: Final = 16
"""Bytes that AES-GCM adds to a text."""

Side = Literal["owner", "asker"]


class DoorKey:
    """What both sides know."""

    def __init__(self, vault_key: bytes) -> None:
        """Derive it from the 32 bytes of a vault's key."""
        self._key = HKDFExpand(SHA256(), 32, b"securechat vault door 2 proofs").derive(vault_key)
        self._secret = HKDFExpand(SHA256(), 32, b"securechat vault door 2 records").derive(vault_key)

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

    def records_of(self, side: Side, a: bytes, b: bytes) -> "Records":
        """Return the records that one side says once these two nonces have been agreed on. Once for each connection."""
        return Records(HKDF(SHA256(), 32, salt=a + b, info=side.encode()).derive(self._secret))

    def _mac(self, side: Side, a: bytes, b: bytes) -> HMAC:
        mac = HMAC(self._key, SHA256())
        mac.update(side.encode() + a + b)
        return mac


class Records:
    """The records of one direction of one connection, in their order: sealed at one end, opened at the other."""

    def __init__(self, key: bytes) -> None:
        """Begin with the first. The key, of 32 bytes, is this direction's alone."""
        self._aead = AESGCM(key)
        self._number = 0

    def seal(self, text: bytes) -> bytes:
        """Return the next record, with its header. The text has 1 to MAX_RECORD bytes."""
        header = (len(text) + TAG_LENGTH).to_bytes(HEADER_LENGTH, "big")
        return header + self._aead.encrypt(self._nonce(), text, header)

    @staticmethod
    def length(header: bytes) -> int:
        """Return how many bytes follow the header of a record. Raises TrustError for what no record has."""
        length = int.from_bytes(header, "big")
        if not TAG_LENGTH < length <= MAX_RECORD + TAG_LENGTH:
            raise _tampered()
        return length

    def open(self, header: bytes, sealed: bytes) -> bytes:
        """Return the text of the next record. Raises TrustError if it is not the one that the other end has sealed."""
        try:
            return self._aead.decrypt(self._nonce(), sealed, header)
        except InvalidTag:
            raise _tampered() from None

    def _nonce(self) -> bytes:
        number, self._number = self._number, self._number + 1
        return number.to_bytes(12, "big")


def _tampered() -> TrustError:
    return TrustError(
        "Another program of yours tampers with the socket beside your vault: what came through it was not believed."
        " Find that program before you go on."
    )
