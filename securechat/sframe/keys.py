"""The key of one sender (RFC 9605, section 4.4): whoever has it to encrypt with cannot decrypt with it, and vice versa.

    secret      HKDF-Extract("", base key)
    key         HKDF-Expand(secret, "SFrame 1.0 Secret key " || KID as 8 bytes || suite as 2, Nk)
    salt        HKDF-Expand(secret, "SFrame 1.0 Secret salt " || the same, 12)
    nonce       salt XOR CTR
    frame       header || AES-GCM(key, nonce, plaintext; header || metadata), with a tag of 16 bytes
"""

from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.errors import PeerError, UsageError
from securechat.sframe.header import MAX_VALUE, Header

NONCE_LENGTH: Final = 12
"""Bytes (Nn)."""

TAG_LENGTH: Final = 16
"""Bytes (Nt) by which the body of a frame grows."""

REPLAY_WINDOW: Final = 1024
"""Frames that may come later than a newer one: 20 s of sound. An older one is refused, as it may have come before."""


class Suite(IntEnum):
    """A cipher suite, by its registered value (RFC 9605, section 8.1); those with short tags are not among them."""

    AES_128_GCM_SHA256_128 = 4
    AES_256_GCM_SHA512_128 = 5

    @property
    def key_length(self) -> int:
        """Bytes (Nk) of a key, and of the base key that an MLS group exports."""
        return 16 if self is Suite.AES_128_GCM_SHA256_128 else 32

    @property
    def _hash(self) -> hashes.HashAlgorithm:
        return hashes.SHA256() if self is Suite.AES_128_GCM_SHA256_128 else hashes.SHA512()

    def derive(self, label: bytes, base_key: bytes, kid: int, length: int) -> bytes:
        """Return `length` bytes for this suite, key number and label (section 4.4.2)."""
        info = label + kid.to_bytes(8, "big") + self.to_bytes(2, "big")
        return HKDF(self._hash, length, salt=None, info=info).derive(base_key)


class _Key:
    """What both sides derive from a base key."""

    def __init__(self, suite: Suite, kid: int, base_key: bytes) -> None:
        """`kid`: 0 to 2^64 - 1. `base_key`: secret."""
        self.kid = kid
        self._aead = AESGCM(suite.derive(b"SFrame 1.0 Secret key ", base_key, kid, suite.key_length))
        self._salt = int.from_bytes(suite.derive(b"SFrame 1.0 Secret salt ", base_key, kid, NONCE_LENGTH), "big")

    def _nonce(self, ctr: int) -> bytes:
        return (self._salt ^ ctr).to_bytes(NONCE_LENGTH, "big")


class EncryptionKey(_Key):
    """Encrypts the frames of one stream of ours, each under a number of its own. One thread at a time.

    Nothing of it is stored: whoever begins anew, in whatever way, needs a base key or a KID that is new as well.
    """

    def __init__(self, suite: Suite, kid: int, base_key: bytes, *, next_ctr: int = 0) -> None:
        """`next_ctr`: the number of the first frame."""
        super().__init__(suite, kid, base_key)
        self._next = next_ctr

    def encrypt(self, plaintext: bytes, metadata: bytes = b"") -> bytes:
        """Return an encrypted frame: header (1 to 17 bytes), what is encrypted, tag (16).

        `metadata`: what is sent beside it, as it is, and must not be altered either. Raises `UsageError` once the
        numbers are used up.
        """
        if self._next > MAX_VALUE:
            raise UsageError("the key of a stream has encrypted as many frames as it can")
        ctr, self._next = self._next, self._next + 1
        header = Header(self.kid, ctr).encode()
        return header + self._aead.encrypt(self._nonce(ctr), plaintext, header + metadata)


class DecryptionKey(_Key):
    """Decrypts the frames of one stream of somebody else, each of them once. One thread at a time."""

    def __init__(self, suite: Suite, kid: int, base_key: bytes) -> None:
        """`kid`: 0 to 2^64 - 1. `base_key`: secret."""
        super().__init__(suite, kid, base_key)
        self._newest = -1
        self._seen = 0  # bit n: the frame n before the newest one has come

    def decrypt(self, frame: bytes, metadata: bytes = b"") -> bytes:
        """Return what is in a frame.

        Raises `PeerError` if it was encrypted with another key, was altered, has come before, or is too old to tell;
        then nothing has changed.
        """
        header, length = Header.decode(frame)
        if header.kid != self.kid:
            raise PeerError("a frame is encrypted with another key")
        late = self._newest - header.ctr
        if late >= REPLAY_WINDOW:
            raise PeerError("a frame is too old")
        if late >= 0 and self._seen >> late & 1:
            raise PeerError("a frame has come before")
        try:
            plaintext = self._aead.decrypt(self._nonce(header.ctr), frame[length:], frame[:length] + metadata)
        except InvalidTag:
            raise PeerError("a frame does not decrypt") from None
        if late >= 0:
            self._seen |= 1 << late
        else:  # only now: a number that nobody has vouched for must not push others out
            kept = self._seen << -late if -late < REPLAY_WINDOW else 0
            self._newest, self._seen = header.ctr, (kept | 1) & (1 << REPLAY_WINDOW) - 1
        return plaintext
