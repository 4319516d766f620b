"""Cipher suites, as far as no secret is needed (RFC 9420, sections 5.1, 5.1.2 and 5.2).

Hashing, checking public keys and verifying signatures: all that a server or an observer does with a group.
A suite is a row of a table, looked up by its registered value; nothing else asks which suite it is.

Public keys are refused here, before anything is encrypted to them or verified with them, if they are
malformed or of small order: with a small-order EdDSA key one signature fits many messages, and a small-order
X25519 or X448 key makes every shared secret zero.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from securechat.errors import DecodeError
from securechat.mls.errors import InvalidMessage
from securechat.tlscodec import Reader, encode_vector
from securechat.value import value

LABEL_PREFIX = b"MLS 1.0 "

KEPT_VERIFICATION_KEYS = 4096
"""Parsed signature keys kept in memory, a few hundred bytes each: the members of several large groups."""

_P25519 = 2**255 - 19
_P448 = 2**448 - 2**224 - 1

_Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826

_ED25519_SMALL_ORDER_Y = frozenset({1, _P25519 - 1, 0, _Y8, _P25519 - _Y8})  # of orders 1, 2, 4, 8 and 8
"""y-coordinates of the eight points whose order divides the cofactor (edwards25519, RFC 8032)."""

_ED448_SMALL_ORDER_Y = frozenset({1, _P448 - 1, 0})  # of orders 1, 2 and 4
"""y-coordinates of the four points whose order divides the cofactor (edwards448, RFC 8032)."""

_X25519_SMALL_ORDER_U = frozenset(
    {
        0,
        1,
        _P25519 - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
"""u-coordinates of the points of small order on curve25519 and its twist (RFC 7748, section 6.1)."""

_X448_SMALL_ORDER_U = frozenset({0, 1, _P448 - 1})  # of order 2, and of order 4 on the curve or its twist
"""u-coordinates of the points of small order on curve448 and its twist (RFC 7748, section 6.2)."""


class SignatureScheme(ABC):
    """A signature algorithm: it parses public keys, refusing bad ones, and verifies."""

    id: int
    """Its value in the TLS SignatureScheme registry (RFC 8446, section 4.2.3)."""

    @abstractmethod
    def check_public_key(self, public_key: bytes) -> None:
        """Raise `InvalidMessage` unless the encoding is the only one of an acceptable key."""

    @abstractmethod
    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Raise `InvalidMessage` unless `signature` over `message` fits `public_key`."""


@dataclass(frozen=True, eq=False)
class _EdDsa(SignatureScheme):
    id: int
    name: str
    key_size: int
    """Bytes: the y-coordinate, little-endian, and the sign of x as the topmost bit."""
    prime: int
    small_order_y: frozenset[int]
    parse: Callable[[bytes], Ed25519PublicKey | Ed448PublicKey]

    def check_public_key(self, public_key: bytes) -> None:
        if len(public_key) != self.key_size:
            raise InvalidMessage(f"an {self.name} public key is {len(public_key)} bytes long, not {self.key_size}")
        y = int.from_bytes(public_key, "little") & ((1 << (8 * self.key_size - 1)) - 1)
        if y >= self.prime:
            raise InvalidMessage(f"an {self.name} public key is not in its canonical form")
        if y in self.small_order_y:
            raise InvalidMessage(f"an {self.name} public key has small order")

    @lru_cache(maxsize=KEPT_VERIFICATION_KEYS)  # noqa: B019 - two instances, living as long as the module
    def _load(self, public_key: bytes) -> Ed25519PublicKey | Ed448PublicKey:
        self.check_public_key(public_key)
        return self.parse(public_key)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        try:
            self._load(public_key).verify(signature, message)
        except InvalidSignature:
            raise InvalidMessage("a signature does not fit") from None


@value
class _Ecdsa(SignatureScheme):
    id: int
    curve: ec.EllipticCurve
    hash: hashes.HashAlgorithm

    def check_public_key(self, public_key: bytes) -> None:
        load_uncompressed_point(self.curve, public_key)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        key = load_uncompressed_point(self.curve, public_key)
        try:
            key.verify(signature, message, ec.ECDSA(self.hash))
        except InvalidSignature:
            raise InvalidMessage("a signature does not fit") from None


def load_uncompressed_point(curve: ec.EllipticCurve, encoded: bytes) -> ec.EllipticCurvePublicKey:
    """Parse a public key on a NIST curve. Raises `InvalidMessage` if it is not an uncompressed point."""
    if encoded[:1] != b"\x04":
        raise InvalidMessage("an elliptic-curve public key is not an uncompressed point")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, encoded)
    except ValueError:
        raise InvalidMessage("an elliptic-curve public key is not a point on its curve") from None


def uncompressed_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """The reverse of `load_uncompressed_point`."""
    # Imported here, because only these curves need it, and it takes as long as the rest of `cryptography`.
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


class KemPublic(ABC):
    """What is public about a KEM (RFC 9180, section 7.1)."""

    id: int
    output_size: int
    """Nenc and Npk: bytes in an encapsulated key and in a public key."""

    @abstractmethod
    def check_public_key(self, public_key: bytes) -> None:
        """Raise `InvalidMessage` unless something can be encrypted to `public_key`."""


@value
class _MontgomeryPublic(KemPublic):
    id: int
    name: str
    output_size: int
    prime: int
    small_order_u: frozenset[int]

    def check_public_key(self, public_key: bytes) -> None:
        if len(public_key) != self.output_size:
            raise InvalidMessage(f"an {self.name} public key is {len(public_key)} bytes long, not {self.output_size}")
        encoded = int.from_bytes(public_key, "little")
        used = (1 << self.prime.bit_length()) - 1  # X25519 ignores the topmost bit; X448 has none to spare
        u = (encoded & used) % self.prime
        if u in self.small_order_u:
            raise InvalidMessage(f"an {self.name} public key has small order: its shared secrets are zero")
        if u != encoded:  # keys are compared by their bytes, and must differ then (RFC 9420, section 7.3)
            raise InvalidMessage(f"an {self.name} public key is not in its canonical form")


@value
class _EllipticCurvePublic(KemPublic):
    id: int
    curve: ec.EllipticCurve
    output_size: int

    def check_public_key(self, public_key: bytes) -> None:
        load_uncompressed_point(self.curve, public_key)


@value
class CipherSuite:
    """One row of the registry (RFC 9420, section 17.1)."""

    value: int
    name: str
    kem: KemPublic
    aead_id: int
    hash: hashes.HashAlgorithm
    key_size: int
    """AEAD.Nk: bytes in an AEAD key."""
    signature: SignatureScheme
    nonce_size: int = 12
    """AEAD.Nn: bytes in an AEAD nonce; 12 for every AEAD in the registry."""

    @property
    def hash_size(self) -> int:
        """KDF.Nh: bytes in a hash, a MAC and a secret."""
        return self.hash.digest_size

    def hash_of(self, data: bytes) -> bytes:
        """Hash(data)."""
        return hashlib.new(self.hash.name, data).digest()

    def ref_hash(self, label: bytes, value: bytes) -> bytes:
        """RefHash(label, value) of section 5.2; the label is used as it is."""
        return self.hash_of(encode_vector(label) + encode_vector(value))

    def make_key_package_ref(self, key_package: bytes) -> bytes:
        """MakeKeyPackageRef: the name of an encoded KeyPackage."""
        return self.ref_hash(b"MLS 1.0 KeyPackage Reference", key_package)

    def make_proposal_ref(self, authenticated_content: bytes) -> bytes:
        """MakeProposalRef: the name of the encoded AuthenticatedContent that carries a proposal."""
        return self.ref_hash(b"MLS 1.0 Proposal Reference", authenticated_content)

    def verify_with_label(self, public_key: bytes, label: bytes, content: bytes, signature: bytes) -> None:
        """VerifyWithLabel of section 5.1.2. Raises `InvalidMessage`."""
        self.signature.verify(public_key, sign_content(label, content), signature)


def sign_content(label: bytes, content: bytes) -> bytes:
    """SignContent: what SignWithLabel and VerifyWithLabel are about (section 5.1.2)."""
    return encode_vector(LABEL_PREFIX + label) + encode_vector(content)


_X25519 = _MontgomeryPublic(0x0020, "X25519", 32, _P25519, _X25519_SMALL_ORDER_U)
_X448 = _MontgomeryPublic(0x0021, "X448", 56, _P448, _X448_SMALL_ORDER_U)
_P256 = _EllipticCurvePublic(0x0010, ec.SECP256R1(), 65)
_P384 = _EllipticCurvePublic(0x0011, ec.SECP384R1(), 97)
_P521 = _EllipticCurvePublic(0x0012, ec.SECP521R1(), 133)

AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 0x0001, 0x0002, 0x0003  # RFC 9180, section 7.3
_SHA256, _SHA384, _SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()

ECDSA_P256, ECDSA_P384, ECDSA_P521, ED25519, ED448 = 0x0403, 0x0503, 0x0603, 0x0807, 0x0808
_ED25519 = _EdDsa(
    ED25519, "Ed25519", 32, _P25519, _ED25519_SMALL_ORDER_Y, Ed25519PublicKey.from_public_bytes
)
_ED448 = _EdDsa(ED448, "Ed448", 57, _P448, _ED448_SMALL_ORDER_Y, Ed448PublicKey.from_public_bytes)

MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 = CipherSuite(
    0x0001, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", _X25519, AES_128_GCM, _SHA256, 16, _ED25519
)

_SUITES = {
    suite.value: suite
    for suite in (
        MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
        CipherSuite(
            0x0002,
            "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
            _P256,
            AES_128_GCM,
            _SHA256,
            16,
            _Ecdsa(ECDSA_P256, ec.SECP256R1(), _SHA256),
        ),
        CipherSuite(
            0x0003,
            "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
            _X25519,
            CHACHA20_POLY1305,
            _SHA256,
            32,
            _ED25519,
        ),
        CipherSuite(
            0x0004, "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448", _X448, AES_256_GCM, _SHA512, 32, _ED448
        ),
        CipherSuite(
            0x0005,
            "MLS_256_DHKEMP521_AES256GCM_SHA512_P521",
            _P521,
            AES_256_GCM,
            _SHA512,
            32,
            _Ecdsa(ECDSA_P521, ec.SECP521R1(), _SHA512),
        ),
        CipherSuite(
            0x0006,
            "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448",
            _X448,
            CHACHA20_POLY1305,
            _SHA512,
            32,
            _ED448,
        ),
        CipherSuite(
            0x0007,
            "MLS_256_DHKEMP384_AES256GCM_SHA384_P384",
            _P384,
            AES_256_GCM,
            _SHA384,
            32,
            _Ecdsa(ECDSA_P384, ec.SECP384R1(), _SHA384),
        ),
    )
}

SUPPORTED_SUITES = frozenset(_SUITES)
"""Registered values of the suites that `cipher_suite` finds."""


def cipher_suite(value: int) -> CipherSuite:
    """Find a suite by its registered value. Raises `InvalidMessage` if it is not supported."""
    suite = _SUITES.get(value)
    if suite is None:
        raise InvalidMessage(f"cipher suite {value:#06x} is not supported")
    return suite


def read_cipher_suite(reader: Reader) -> CipherSuite:
    """Find the suite that a saved form names. Raises `DecodeError`."""
    try:
        return cipher_suite(reader.u16())
    except InvalidMessage as error:
        raise DecodeError(f"a saved state is damaged: {error}") from None
