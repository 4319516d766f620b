"""Hybrid public key encryption (RFC 9180) as MLS uses it (RFC 9420, sections 5.1.3 and 8.3).

Seal and open come from `cryptography`, except for X448, which its HPKE lacks. What it does not offer is
written out from RFC 9180 over its Diffie-Hellman, HKDF and AEADs: DeriveKeyPair (section 7.1.3), and base mode
(sections 4.1, 5.1 to 5.3 and 6.1) with X448, and for the exporter that an external commit needs.

What it keeps: only `HpkePrivateKey`, which lives and goes with the tree, bundle or epoch that holds it.
Ephemeral keys and shared secrets end with the call. The server never imports this module.
"""

from abc import ABC, abstractmethod
from dataclasses import field
from functools import cached_property
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import hpke as library
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from securechat.errors import InternalError
from securechat.mls.crypto import sealing
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    LABEL_PREFIX,
    CipherSuite,
    load_uncompressed_point,
    uncompressed_point,
)
from securechat.mls.errors import CannotDecrypt, InvalidMessage
from securechat.tlscodec import Writer
from securechat.value import value

_MODE_BASE = b"\x00"


class _Kem(ABC):
    """DHKEM over one group (RFC 9180, section 4.1): keys as bytes on the outside, objects inside."""

    library_id: library.KEM | None
    """None: the library's HPKE lacks the group."""
    hash: hashes.HashAlgorithm

    @abstractmethod
    def generate(self) -> bytes:
        """SerializePrivateKey of a fresh key."""

    @abstractmethod
    def derive(self, suite_id: bytes, ikm: bytes) -> bytes:
        """DeriveKeyPair: SerializePrivateKey of the key that `ikm` determines."""

    @abstractmethod
    def load_private(self, private: bytes) -> Any:
        """DeserializePrivateKey. Raises `ValueError`."""

    @abstractmethod
    def load_public(self, public: bytes) -> Any:
        """DeserializePublicKey. Raises `ValueError`."""

    @abstractmethod
    def public_bytes(self, private_key: Any) -> bytes:
        """SerializePublicKey of the public half."""

    @abstractmethod
    def exchange(self, private_key: Any, public_key: Any) -> bytes:
        """DH. Raises `ValueError` if the result is zero."""


@value
class _Montgomery(_Kem):
    library_id: library.KEM | None
    hash: hashes.HashAlgorithm
    private_type: type[X25519PrivateKey | X448PrivateKey]
    public_type: type[X25519PublicKey | X448PublicKey]
    key_size: int
    """Nsk and Npk, in bytes."""

    def generate(self) -> bytes:
        return self.private_type.generate().private_bytes_raw()

    def derive(self, suite_id: bytes, ikm: bytes) -> bytes:
        dkp_prk = _labeled_extract(self.hash, suite_id, b"", b"dkp_prk", ikm)
        return _labeled_expand(self.hash, suite_id, dkp_prk, b"sk", b"", self.key_size)

    def load_private(self, private: bytes) -> Any:
        return self.private_type.from_private_bytes(private)

    def load_public(self, public: bytes) -> Any:
        return self.public_type.from_public_bytes(public)

    def public_bytes(self, private_key: Any) -> bytes:
        encoded: bytes = private_key.public_key().public_bytes_raw()
        return encoded

    def exchange(self, private_key: Any, public_key: Any) -> bytes:
        shared: bytes = private_key.exchange(public_key)
        return shared


@value
class _EllipticCurve(_Kem):
    library_id: library.KEM
    hash: hashes.HashAlgorithm
    curve: ec.EllipticCurve
    private_size: int
    """Nsk, in bytes."""
    first_byte_mask: int
    """The `bitmask` of RFC 9180, section 7.1.3."""

    def generate(self) -> bytes:
        number = ec.generate_private_key(self.curve).private_numbers().private_value
        return number.to_bytes(self.private_size, "big")

    def derive(self, suite_id: bytes, ikm: bytes) -> bytes:
        dkp_prk = _labeled_extract(self.hash, suite_id, b"", b"dkp_prk", ikm)
        for counter in range(256):
            info = counter.to_bytes(1, "big")
            candidate = _labeled_expand(self.hash, suite_id, dkp_prk, b"candidate", info, self.private_size)
            number = bytes([candidate[0] & self.first_byte_mask]) + candidate[1:]
            if 0 < int.from_bytes(number, "big") < self.curve.group_order:
                return number
        raise InternalError("DeriveKeyPair found no key in 256 attempts")

    def load_private(self, private: bytes) -> ec.EllipticCurvePrivateKey:
        if len(private) > self.private_size:  # the working group's vectors leave leading zeros out
            raise ValueError(f"a private key has {len(private)} bytes; at most {self.private_size} fit")
        return ec.derive_private_key(int.from_bytes(private, "big"), self.curve)

    def load_public(self, public: bytes) -> ec.EllipticCurvePublicKey:
        return load_uncompressed_point(self.curve, public)

    def public_bytes(self, private_key: ec.EllipticCurvePrivateKey) -> bytes:
        return uncompressed_point(private_key.public_key())

    def exchange(
        self, private_key: ec.EllipticCurvePrivateKey, public_key: ec.EllipticCurvePublicKey
    ) -> bytes:
        return private_key.exchange(ec.ECDH(), public_key)


_KEMS: dict[int, _Kem] = {
    0x0010: _EllipticCurve(library.KEM.P256, hashes.SHA256(), ec.SECP256R1(), 32, 0xFF),
    0x0011: _EllipticCurve(library.KEM.P384, hashes.SHA384(), ec.SECP384R1(), 48, 0xFF),
    0x0012: _EllipticCurve(library.KEM.P521, hashes.SHA512(), ec.SECP521R1(), 66, 0x01),
    0x0020: _Montgomery(library.KEM.X25519, hashes.SHA256(), X25519PrivateKey, X25519PublicKey, 32),
    0x0021: _Montgomery(None, hashes.SHA512(), X448PrivateKey, X448PublicKey, 56),
}

_KDFS = {
    "sha256": (0x0001, library.KDF.HKDF_SHA256),
    "sha384": (0x0002, library.KDF.HKDF_SHA384),
    "sha512": (0x0003, library.KDF.HKDF_SHA512),
}

_AEADS = {
    AES_128_GCM: library.AEAD.AES_128_GCM,
    AES_256_GCM: library.AEAD.AES_256_GCM,
    CHACHA20_POLY1305: library.AEAD.CHACHA20_POLY1305,
}


def _library_suite(suite: CipherSuite) -> library.Suite | None:
    kem = _KEMS[suite.kem.id].library_id
    return None if kem is None else library.Suite(kem, _KDFS[suite.hash.name][1], _AEADS[suite.aead_id])


def _labeled_extract(
    hash_: hashes.HashAlgorithm, suite_id: bytes, salt: bytes, label: bytes, ikm: bytes
) -> bytes:
    return HKDF.extract(hash_, salt, b"HPKE-v1" + suite_id + label + ikm)


def _labeled_expand(
    hash_: hashes.HashAlgorithm, suite_id: bytes, prk: bytes, label: bytes, info: bytes, length: int
) -> bytes:
    labeled_info = length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info
    return HKDFExpand(hash_, length, labeled_info).derive(prk)


@value
class HpkePrivateKey:
    """A private key with its public half. The library's object is made at first use: parsing is slow."""

    suite: CipherSuite = field(repr=False)
    private: Secret = field(repr=False)
    public_key: bytes

    @classmethod
    def from_private(cls, suite: CipherSuite, private: bytes) -> Self:
        """Take SerializePrivateKey's bytes and compute the public half. Raises `InvalidMessage`."""
        kem = _KEMS[suite.kem.id]
        try:
            key = kem.load_private(private)
        except ValueError:
            raise InvalidMessage("this is not a private key of the cipher suite") from None
        return cls(suite, Secret(private), kem.public_bytes(key))

    @classmethod
    def generate(cls, suite: CipherSuite) -> Self:
        """Make a fresh key."""
        return cls.from_private(suite, _KEMS[suite.kem.id].generate())

    @classmethod
    def derive(cls, suite: CipherSuite, ikm: bytes) -> Self:
        """KEM.DeriveKeyPair(ikm) (RFC 9180, section 7.1.3)."""
        return cls.from_private(suite, _KEMS[suite.kem.id].derive(_kem_suite_id(suite), ikm))

    @cached_property
    def key(self) -> Any:
        """The library's key object."""
        return _KEMS[self.suite.kem.id].load_private(self.private)


def _encrypt_context(label: bytes, context: bytes) -> bytes:
    return bytes(Writer().vector(LABEL_PREFIX + label).vector(context))


def encrypt_with_label(
    suite: CipherSuite, public_key: bytes, label: bytes, context: bytes, plaintext: bytes
) -> tuple[bytes, bytes]:
    """EncryptWithLabel of RFC 9420, section 5.1.3: (kem_output, ciphertext).

    Raises `InvalidMessage` if nothing can be encrypted to `public_key`.
    """
    info, sealer = _encrypt_context(label, context), _library_suite(suite)
    if sealer is None:
        kem_output, schedule = _setup_base_sender(suite, public_key, info)
        return kem_output, sealing.aead_seal(suite, schedule.key, schedule.base_nonce, b"", plaintext)
    try:
        sealed = sealer.encrypt(plaintext, _KEMS[suite.kem.id].load_public(public_key), info)
    except ValueError:
        raise InvalidMessage("an HPKE public key is malformed, or its shared secrets are zero") from None
    return sealed[: suite.kem.output_size], sealed[suite.kem.output_size :]


def decrypt_with_label(
    suite: CipherSuite,
    private_key: HpkePrivateKey,
    label: bytes,
    context: bytes,
    kem_output: bytes,
    ciphertext: bytes,
) -> bytes:
    """DecryptWithLabel of RFC 9420, section 5.1.3. Raises `CannotDecrypt`."""
    if len(kem_output) != suite.kem.output_size:  # the library is given one string and cuts it itself
        raise CannotDecrypt("an encapsulated key has the wrong length")
    info, opener = _encrypt_context(label, context), _library_suite(suite)
    try:
        if opener is None:
            schedule = _setup_base_receiver(suite, private_key, kem_output, info)
            return sealing.aead_open(suite, schedule.key, schedule.base_nonce, b"", ciphertext)
        return opener.decrypt(kem_output + ciphertext, private_key.key, info)
    except (InvalidTag, ValueError, InvalidMessage):
        raise CannotDecrypt("an HPKE ciphertext cannot be opened: it was altered, or is not for us") from None


def export_as_sender(
    suite: CipherSuite, public_key: bytes, info: bytes, exporter_context: bytes, length: int
) -> tuple[bytes, Secret]:
    """SetupBaseS(public_key, info), then Context.Export: (kem_output, `length` secret bytes).

    Raises `InvalidMessage` if `public_key` is malformed or gives a zero shared secret.
    """
    kem_output, schedule = _setup_base_sender(suite, public_key, info)
    return kem_output, schedule.export(exporter_context, length)


def export_as_receiver(
    suite: CipherSuite,
    private_key: HpkePrivateKey,
    kem_output: bytes,
    info: bytes,
    exporter_context: bytes,
    length: int,
) -> Secret:
    """SetupBaseR(kem_output, private_key, info), then Context.Export: `length` bytes.

    Raises `InvalidMessage` if `kem_output` is malformed or gives a zero shared secret.
    """
    return _setup_base_receiver(suite, private_key, kem_output, info).export(exporter_context, length)


def _kem_suite_id(suite: CipherSuite) -> bytes:
    return b"KEM" + suite.kem.id.to_bytes(2, "big")


def _setup_base_sender(suite: CipherSuite, public_key: bytes, info: bytes) -> "tuple[bytes, _BaseSchedule]":
    """SetupBaseS (RFC 9180, section 5.1.1): the encapsulated key, and the keys. Raises `InvalidMessage`."""
    kem, ephemeral = _KEMS[suite.kem.id], HpkePrivateKey.generate(suite)
    try:
        dh = kem.exchange(ephemeral.key, kem.load_public(public_key))
    except ValueError:
        raise InvalidMessage("an HPKE public key is malformed, or its shared secrets are zero") from None
    return ephemeral.public_key, _BaseSchedule(suite, dh, ephemeral.public_key + public_key, info)


def _setup_base_receiver(
    suite: CipherSuite, private_key: HpkePrivateKey, kem_output: bytes, info: bytes
) -> "_BaseSchedule":
    """SetupBaseR (RFC 9180, section 5.1.1). Raises `InvalidMessage`."""
    kem = _KEMS[suite.kem.id]
    try:
        dh = kem.exchange(private_key.key, kem.load_public(kem_output))
    except ValueError:
        raise InvalidMessage("an encapsulated key is malformed, or its shared secret is zero") from None
    return _BaseSchedule(suite, dh, kem_output + private_key.public_key, info)


class _BaseSchedule:
    """The keys of one HPKE context in base mode, each derived when it is asked for. Lives inside one call."""

    __slots__ = ("_context", "_secret", "_suite", "_suite_id")

    def __init__(self, suite: CipherSuite, dh: bytes, kem_context: bytes, info: bytes) -> None:
        """ExtractAndExpand, then KeySchedule (RFC 9180, sections 4.1 and 5.1)."""
        kem, kem_id = _KEMS[suite.kem.id], _kem_suite_id(suite)
        eae_prk = _labeled_extract(kem.hash, kem_id, b"", b"eae_prk", dh)
        shared_secret = _labeled_expand(
            kem.hash, kem_id, eae_prk, b"shared_secret", kem_context, kem.hash.digest_size
        )
        self._suite = suite
        self._suite_id = b"HPKE" + b"".join(
            number.to_bytes(2, "big") for number in (suite.kem.id, _KDFS[suite.hash.name][0], suite.aead_id)
        )
        psk_id_hash = _labeled_extract(suite.hash, self._suite_id, b"", b"psk_id_hash", b"")
        info_hash = _labeled_extract(suite.hash, self._suite_id, b"", b"info_hash", info)
        self._context = _MODE_BASE + psk_id_hash + info_hash
        self._secret = _labeled_extract(suite.hash, self._suite_id, shared_secret, b"secret", b"")

    def _expand(self, label: bytes, length: int) -> bytes:
        return _labeled_expand(self._suite.hash, self._suite_id, self._secret, label, self._context, length)

    @property
    def key(self) -> bytes:
        """The AEAD's key: Nk bytes."""
        return self._expand(b"key", self._suite.key_size)

    @property
    def base_nonce(self) -> bytes:
        """The nonce of the first message, which is the only one here: Nn bytes."""
        return self._expand(b"base_nonce", self._suite.nonce_size)

    def export(self, exporter_context: bytes, length: int) -> Secret:
        """Context.Export (RFC 9180, section 5.3): `length` bytes."""
        exporter_secret = self._expand(b"exp", self._suite.hash_size)
        return Secret(
            _labeled_expand(
                self._suite.hash, self._suite_id, exporter_secret, b"sec", exporter_context, length
            )
        )
