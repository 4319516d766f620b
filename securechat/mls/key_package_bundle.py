"""A key package together with its private keys: kept until a Welcome comes (RFC 9420, section 10).

Delete a bundle once a Welcome has used it, unless it is the last-resort one.
"""

from dataclasses import field
from typing import Self

from securechat.errors import DecodeError, UsageError
from securechat.mls.credential import Credential
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import CipherSuite, cipher_suite
from securechat.mls.errors import InvalidMessage
from securechat.mls.extensions import Extensions
from securechat.mls.key_package import KeyPackage
from securechat.mls.leaf_node import MLS10, Capabilities, LeafNode, LeafNodeSource, Lifetime
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


@value
class KeyPackageBundle(Struct):
    """A key package and the private halves of its init key and of its leaf's encryption key."""

    key_package: KeyPackage
    init_private: HpkePrivateKey = field(repr=False)
    leaf_private: HpkePrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        """Raise `UsageError` unless the private keys belong to the key package."""
        package = self.key_package
        expected = (package.init_key, package.leaf_node.encryption_key)
        if expected != (self.init_private.public_key, self.leaf_private.public_key):
            raise UsageError("the private keys do not belong to the key package")

    @property
    def suite(self) -> CipherSuite:
        """The cipher suite of the key package."""
        return self.init_private.suite

    @classmethod
    def from_private(cls, key_package: KeyPackage, init_private: bytes, leaf_private: bytes) -> Self:
        """Put a bundle together from raw private keys. Raises `UsageError` if they do not fit."""
        suite = cipher_suite(key_package.cipher_suite)
        return cls(
            key_package,
            HpkePrivateKey.from_private(suite, init_private),
            HpkePrivateKey.from_private(suite, leaf_private),
        )

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form. Raises `DecodeError`."""
        package, init_private, leaf_private = KeyPackage.read(reader), reader.vector(), reader.vector()
        try:
            return cls.from_private(package, init_private, leaf_private)
        except (UsageError, InvalidMessage) as error:
            raise DecodeError(f"a saved key package is damaged: {error}") from None

    def write(self, writer: Writer) -> None:
        """Saved form: holds secrets."""
        self.key_package.write(writer)
        writer.vector(self.init_private.private).vector(self.leaf_private.private)


def generate_key_package(
    suite: CipherSuite,
    credential: Credential,
    signature_private: SignaturePrivateKey,
    capabilities: Capabilities,
    lifetime: Lifetime,
    *,
    extensions: Extensions = (),
    leaf_extensions: Extensions = (),
) -> KeyPackageBundle:
    """Make a key package with fresh keys, signed by `signature_private`."""
    init_private, leaf_private = HpkePrivateKey.generate(suite), HpkePrivateKey.generate(suite)
    sign = signature_private.sign_with_label
    leaf_node = LeafNode(
        encryption_key=leaf_private.public_key,
        signature_key=signature_private.public_key,
        credential=credential,
        capabilities=capabilities,
        source=LeafNodeSource.KEY_PACKAGE,
        lifetime=lifetime,
        parent_hash=b"",
        extensions=leaf_extensions,
        signature=b"",
    ).signed(sign)
    package = KeyPackage(MLS10, suite.value, init_private.public_key, leaf_node, extensions, signature=b"")
    return KeyPackageBundle(package.signed(sign), init_private, leaf_private)
