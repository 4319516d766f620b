"""Leaf nodes: one client's appearance in a group (RFC 9420, sections 7.2 and 7.3).

The checks here concern a leaf by itself and the group's parameters. What concerns several leaves at once
(unique keys, credential types that all support) is in `tree_validation`.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from functools import cached_property
from typing import Protocol, Self

from securechat.errors import DecodeError
from securechat.mls.credential import Credential, CredentialType
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage, OutsideLifetime
from securechat.mls.extensions import (
    DEFAULT_EXTENSION_TYPES,
    Extensions,
    ExternalSender,
    read_extensions,
    required_capabilities,
    write_extensions,
)
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Struct, Writer, encode_vector, keep
from securechat.value import value

MLS10 = 1
"""The protocol version of RFC 9420."""

DEFAULT_PROPOSAL_TYPES = frozenset(range(1, 8))
"""Proposal types that every client supports: add to group_context_extensions (section 7.2)."""

_FIRST_LEAF = LeafIndex(0)


class LeafNodeSource(IntEnum):
    """How a leaf came into being."""

    KEY_PACKAGE = 1
    UPDATE = 2
    COMMIT = 3


@value
class Capabilities(Struct):
    """What a client supports beyond the defaults."""

    versions: tuple[int, ...] = (MLS10,)
    cipher_suites: tuple[int, ...] = ()
    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = (CredentialType.BASIC,)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Five vectors of `uint16`."""
        kinds = [reader.items(Reader.u16) for _ in range(5)]
        return cls(*kinds)

    def write(self, writer: Writer) -> None:
        """Five vectors of `uint16`."""
        for kinds in (self.versions, self.cipher_suites, self.extensions, self.proposals, self.credentials):
            writer.items(kinds, Writer.u16)


@value
class Lifetime(Struct):
    """The time in which a KeyPackage may be used, in seconds since 1970, both ends included."""

    not_before: int
    not_after: int

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Two `uint64`."""
        return cls(reader.u64(), reader.u64())

    def write(self, writer: Writer) -> None:
        """Two `uint64`."""
        writer.u64(self.not_before).u64(self.not_after)


@value
class LeafNode(Struct):
    """A member's keys, credential and capabilities, signed by itself."""

    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    source: LeafNodeSource
    lifetime: Lifetime | None
    """For source KEY_PACKAGE, else None."""
    parent_hash: bytes
    """For source COMMIT, else empty."""
    extensions: Extensions
    signature: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 7.2 in order."""
        start = reader.position
        encryption_key, signature_key = reader.vector(), reader.vector()
        credential, capabilities = Credential.read(reader), Capabilities.read(reader)
        try:
            source = LeafNodeSource(reader.u8())
        except ValueError:
            raise DecodeError("a leaf node has an unknown source") from None
        lifetime = Lifetime.read(reader) if source == LeafNodeSource.KEY_PACKAGE else None
        parent_hash = reader.vector() if source == LeafNodeSource.COMMIT else b""
        extensions = read_extensions(reader)
        unsigned, signature = reader.since(start), reader.vector()
        keys = encryption_key, signature_key
        leaf = cls(*keys, credential, capabilities, source, lifetime, parent_hash, extensions, signature)
        return keep(leaf, _unsigned=unsigned, _encoding=reader.since(start))

    def write(self, writer: Writer) -> None:
        """The fields of section 7.2 in order."""
        writer.opaque(self._encoding)

    @cached_property
    def _encoding(self) -> bytes:
        """Kept, because tree hashes and messages ask for it again and again."""
        return self._unsigned + encode_vector(self.signature)

    @cached_property
    def _unsigned(self) -> bytes:
        writer = Writer().vector(self.encryption_key).vector(self.signature_key)
        self.credential.write(writer)
        self.capabilities.write(writer)
        writer.u8(self.source)
        if self.lifetime is not None:
            self.lifetime.write(writer)
        if self.source == LeafNodeSource.COMMIT:
            writer.vector(self.parent_hash)
        return bytes(write_extensions(writer, self.extensions))

    def tbs(self, group_id: bytes, leaf: LeafIndex) -> bytes:
        """LeafNodeTBS: group and leaf index are part of it unless the leaf comes from a KeyPackage."""
        if self.source == LeafNodeSource.KEY_PACKAGE:
            return self._unsigned
        return bytes(Writer().opaque(self._unsigned).vector(group_id).u32(leaf))

    def signed(self, sign: "Sign", group_id: bytes = b"", leaf: LeafIndex = _FIRST_LEAF) -> Self:
        """A copy whose signature is the one that `sign` makes."""
        return replace(self, signature=sign(b"LeafNodeTBS", self.tbs(group_id, leaf)))

    def verify_signature(self, suite: CipherSuite, group_id: bytes, leaf: LeafIndex) -> None:
        """Raises `InvalidMessage` unless the leaf is signed by its own key for this place."""
        suite.verify_with_label(self.signature_key, b"LeafNodeTBS", self.tbs(group_id, leaf), self.signature)

    def verify_for(self, suite: CipherSuite, group_extensions: Extensions) -> None:
        """Check a leaf against a group's parameters (section 7.3); not its signature and lifetime.

        Raises `InvalidMessage`.
        """
        suite.signature.check_public_key(self.signature_key)
        suite.kem.check_public_key(self.encryption_key)
        own = self.capabilities
        if MLS10 not in own.versions or suite.value not in own.cipher_suites:
            raise InvalidMessage("a leaf's capabilities lack the group's version or cipher suite")
        if self.credential.type not in own.credentials:
            raise InvalidMessage("a leaf's capabilities lack the type of its own credential")
        supported = DEFAULT_EXTENSION_TYPES.union(own.extensions)
        if any(extension.type not in supported for extension in self.extensions):
            raise InvalidMessage("a leaf's capabilities lack one of its own extensions")
        if any(extension.type not in supported for extension in group_extensions):
            raise InvalidMessage("a leaf's capabilities lack an extension of the group context")
        required = required_capabilities(group_extensions)
        if (
            not supported.issuperset(required.extension_types)
            or not DEFAULT_PROPOSAL_TYPES.union(own.proposals).issuperset(required.proposal_types)
            or not set(own.credentials).issuperset(required.credential_types)
        ):
            raise InvalidMessage("a leaf's capabilities lack what the group requires")

    def verify_lifetime(self, now: int) -> None:
        """Raise `OutsideLifetime` unless `now` (seconds since 1970) lies in the lifetime, if there is one."""
        if self.lifetime is not None and not self.lifetime.not_before <= now <= self.lifetime.not_after:
            raise OutsideLifetime("a key package has expired or is not valid yet")


Sign = Callable[[bytes, bytes], bytes]
"""SignWithLabel under some private key: label and content in, signature out."""


class CredentialValidator(Protocol):
    """The application's judgement of a credential: a leaf's or an external sender's (section 5.3.1)."""

    def __call__(self, holder: LeafNode | ExternalSender, /, *, entering: bool) -> None:
        """Raise `PeerError` to refuse the holder of a credential.

        `entering`: the holder is put into the group now. Otherwise a joiner meets it there, and its time may have run
        out. The judgement must depend on these alone, so that all members judge alike.
        """
