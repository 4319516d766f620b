"""Key derivation, MACs, encryption and signing: the half of a cipher suite that needs secrets.

RFC 9420, sections 5.1.2, 5.1.3 and 8. Nothing here keeps state: keys live in the objects that callers hold.
The server never imports this module.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Self

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from securechat.errors import UsageError
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    ECDSA_P256,
    ECDSA_P384,
    ECDSA_P521,
    ED448,
    ED25519,
    LABEL_PREFIX,
    CipherSuite,
    sign_content,
    uncompressed_point,
)
from securechat.mls.errors import CannotDecrypt, InvalidMessage
from securechat.tlscodec import Writer, encode_vector

_AEADS: dict[int, type[AESGCM | ChaCha20Poly1305]] = {
    AES_128_GCM: AESGCM,
    AES_256_GCM: AESGCM,
    CHACHA20_POLY1305: ChaCha20Poly1305,
}

_EDDSA: dict[int, type[Ed25519PrivateKey | Ed448PrivateKey]] = {ED25519: Ed25519PrivateKey, ED448: Ed448PrivateKey}

_ECDSA: dict[int, ec.EllipticCurve] = {
    ECDSA_P256: ec.SECP256R1(),
    ECDSA_P384: ec.SECP384R1(),
    ECDSA_P521: ec.SECP521R1(),
}


def random_bytes(length: int) -> bytes:
    """`length` bytes from the operating system's generator."""
    return os.urandom(length)


def extract(suite: CipherSuite, salt: bytes, ikm: bytes) -> Secret:
    """KDF.Extract(salt, ikm): KDF.Nh bytes."""
    return Secret(HKDF.extract(suite.hash, salt, ikm))


@lru_cache(maxsize=256)  # there are some thirty labels, with one or two lengths each
def _kdf_label_head(label: bytes, length: int) -> bytes:
    return bytes(Writer().u16(length).vector(LABEL_PREFIX + label))


def expand_with_label(suite: CipherSuite, secret: bytes, label: bytes, context: bytes, length: int) -> Secret:
    """ExpandWithLabel of section 8: `length` bytes."""
    info = _kdf_label_head(label, length) + encode_vector(context)
    return Secret(HKDFExpand(suite.hash, length, info).derive(secret))


def derive_secret(suite: CipherSuite, secret: bytes, label: bytes) -> Secret:
    """DeriveSecret of section 8: KDF.Nh bytes."""
    return expand_with_label(suite, secret, label, b"", suite.hash_size)


def derive_tree_secret(
    suite: CipherSuite, secret: bytes, label: bytes, generation: int, length: int
) -> Secret:
    """DeriveTreeSecret of section 9.1: `length` bytes."""
    return expand_with_label(suite, secret, label, generation.to_bytes(4, "big"), length)


def mac(suite: CipherSuite, key: bytes, data: bytes) -> bytes:
    """MAC(key, data): HMAC with the suite's hash, KDF.Nh bytes."""
    code = HMAC(key, suite.hash)
    code.update(data)
    return code.finalize()


def verify_mac(suite: CipherSuite, key: bytes, data: bytes, tag: bytes, name: str) -> None:
    """Compare in constant time. Raises `InvalidMessage` that calls the tag `name`."""
    code = HMAC(key, suite.hash)
    code.update(data)
    try:
        code.verify(tag)
    except InvalidSignature:
        raise InvalidMessage(f"the {name} does not fit") from None


def aead_seal(suite: CipherSuite, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """AEAD.Seal: the ciphertext, 16 bytes longer than the plaintext."""
    return _AEADS[suite.aead_id](key).encrypt(nonce, plaintext, aad)


def aead_open(suite: CipherSuite, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    """AEAD.Open. Raises `CannotDecrypt`."""
    try:
        return _AEADS[suite.aead_id](key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise CannotDecrypt("a message cannot be decrypted: it was altered, or is not for us") from None


class SignaturePrivateKey:
    """A member's signature key. Keep the object: parsing a key costs as much as signing."""

    __slots__ = ("_sign", "public_key", "suite")

    def __init__(self, suite: CipherSuite, private: bytes) -> None:
        """Take the native private key: the seed of 32 (Ed25519) or 57 bytes (Ed448), or a big-endian ECDSA integer.

        Raises `UsageError` if it is not a private key.
        """
        self.suite = suite
        try:
            self._sign, self.public_key = _signer(suite, private)
        except ValueError:
            raise UsageError("this is not a private signature key of the cipher suite") from None

    @classmethod
    def generate(cls, suite: CipherSuite) -> Self:
        """Make a fresh key."""
        return cls(suite, generate_signature_secret(suite))

    @classmethod
    def wiped(cls, suite: CipherSuite, public_key: bytes) -> Self:
        """Return what is left of a key whose private half was deleted: it names the key, and signs nothing."""
        key = cls.__new__(cls)
        key.suite, key.public_key, key._sign = suite, public_key, _refuse  # noqa: SLF001  our own
        return key

    @property
    def is_wiped(self) -> bool:
        """Whether the private half was deleted."""
        return self._sign is _refuse

    def sign_with_label(self, label: bytes, content: bytes) -> bytes:
        """SignWithLabel of section 5.1.2. Raises `UsageError` if the private half was deleted."""
        return self._sign(sign_content(label, content))

    def __repr__(self) -> str:
        """The public key only."""
        return f"<SignaturePrivateKey of {self.public_key.hex()}>"


def _refuse(_message: bytes) -> bytes:
    raise UsageError("the private half of this signature key was deleted")


def generate_signature_secret(suite: CipherSuite) -> Secret:
    """Make the bytes of a fresh signature key, to be stored and given to `SignaturePrivateKey`."""
    eddsa = _EDDSA.get(suite.signature.id)
    if eddsa is not None:
        return Secret(eddsa.generate().private_bytes_raw())
    curve = _ECDSA[suite.signature.id]
    number = ec.generate_private_key(curve).private_numbers().private_value
    return Secret(number.to_bytes((curve.key_size + 7) // 8, "big"))


def _signer(suite: CipherSuite, private: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    """Return the function that signs, and the public key."""
    eddsa = _EDDSA.get(suite.signature.id)
    if eddsa is not None:
        edwards = eddsa.from_private_bytes(private)
        return edwards.sign, edwards.public_key().public_bytes_raw()
    key = ec.derive_private_key(int.from_bytes(private, "big"), _ECDSA[suite.signature.id])
    algorithm = ec.ECDSA(suite.hash)
    return lambda message: key.sign(message, algorithm), uncompressed_point(key.public_key())
