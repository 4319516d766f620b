"""Key packages: how to add a client that is offline (RFC 9420, section 10). Public half only."""

from dataclasses import replace
from functools import cached_property
from typing import Self

from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.extensions import DEFAULT_EXTENSION_TYPES, Extensions, read_extensions, write_extensions
from securechat.mls.leaf_node import MLS10, CredentialValidator, LeafNode, LeafNodeSource, Sign
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Struct, Writer, keep
from securechat.value import value


@value
class KeyPackage(Struct):
    """A leaf to be added, and an HPKE key to welcome its owner with."""

    version: int
    cipher_suite: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: Extensions
    signature: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 10 in order."""
        start = reader.position
        version, cipher_suite, init_key = reader.u16(), reader.u16(), reader.vector()
        leaf_node, extensions = LeafNode.read(reader), read_extensions(reader)
        unsigned, signature = reader.since(start), reader.vector()
        return keep(cls(version, cipher_suite, init_key, leaf_node, extensions, signature), tbs=unsigned)

    def write(self, writer: Writer) -> None:
        """The fields of section 10 in order."""
        writer.opaque(self.tbs).vector(self.signature)

    @cached_property
    def tbs(self) -> bytes:
        """KeyPackageTBS: everything but the signature."""
        writer = Writer().u16(self.version).u16(self.cipher_suite).vector(self.init_key)
        self.leaf_node.write(writer)
        return bytes(write_extensions(writer, self.extensions))

    def signed(self, sign: Sign) -> Self:
        """A copy whose signature is the one that `sign` makes."""
        return replace(self, signature=sign(b"KeyPackageTBS", self.tbs))

    def reference(self, suite: CipherSuite) -> bytes:
        """KeyPackageRef (section 5.2): KDF.Nh bytes."""
        return suite.make_key_package_ref(self.encode())

    def verify(
        self, suite: CipherSuite, group_extensions: Extensions, *, validate: CredentialValidator, now: int
    ) -> None:
        """Check what section 10.1 asks before a client is added to a group with these parameters.

        `now` is in seconds since 1970. Raises `InvalidMessage`, or what `validate` raises.
        """
        if self.version != MLS10 or self.cipher_suite != suite.value:
            raise InvalidMessage("a key package is for another version or cipher suite")
        leaf = self.leaf_node
        if leaf.source != LeafNodeSource.KEY_PACKAGE:
            raise InvalidMessage("the leaf of a key package does not come from a key package")
        leaf.verify_for(suite, group_extensions)
        leaf.verify_lifetime(now)
        supported = DEFAULT_EXTENSION_TYPES.union(leaf.capabilities.extensions)
        if any(extension.type not in supported for extension in self.extensions):
            raise InvalidMessage("a key package has an extension that its leaf's capabilities lack")
        suite.kem.check_public_key(self.init_key)
        if self.init_key == leaf.encryption_key:
            raise InvalidMessage("a key package uses one key for two purposes")
        leaf.verify_signature(suite, b"", LeafIndex(0))
        suite.verify_with_label(leaf.signature_key, b"KeyPackageTBS", self.tbs, self.signature)
        validate(leaf, entering=True)
