"""Proposals: the changes that commits bring into force (RFC 9420, section 12.1); PSK identifiers (8.4)."""

from abc import abstractmethod
from enum import IntEnum
from typing import ClassVar, Self

from securechat.errors import DecodeError, UsageError
from securechat.mls.extensions import Extensions, read_extensions, write_extensions
from securechat.mls.key_package import KeyPackage
from securechat.mls.leaf_node import LeafNode
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


class ProposalType(IntEnum):
    """The registered proposal types."""

    ADD = 1
    UPDATE = 2
    REMOVE = 3
    PSK = 4
    REINIT = 5
    EXTERNAL_INIT = 6
    GROUP_CONTEXT_EXTENSIONS = 7


class PskType(IntEnum):
    """Where a pre-shared key comes from."""

    EXTERNAL = 1
    RESUMPTION = 2


class ResumptionPskUsage(IntEnum):
    """What a resumption PSK is used for."""

    APPLICATION = 1
    REINIT = 2
    BRANCH = 3


@value
class PreSharedKeyId(Struct):
    """Names a pre-shared key (section 8.4)."""

    type: PskType
    nonce: bytes
    """`psk_nonce`: KDF.Nh random bytes."""
    psk_id: bytes = b""
    """Of an external PSK."""
    usage: ResumptionPskUsage | None = None
    """Of a resumption PSK, like the two fields below."""
    group_id: bytes = b""
    epoch: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a resumption PSK without a usage, or another one with it: nobody could read that."""
        if (self.type == PskType.RESUMPTION) != (self.usage is not None):
            raise UsageError("a resumption PSK has a usage, an external one has none")

    @property
    def links_groups(self) -> bool:
        """Whether it ties a new group to the one that it continues (sections 11.2 and 11.3)."""
        return self.usage in {ResumptionPskUsage.REINIT, ResumptionPskUsage.BRANCH}

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The type, what it says, and the nonce."""
        try:
            kind = PskType(reader.u8())
            if kind == PskType.EXTERNAL:
                psk_id = reader.vector()
                return cls(kind, reader.vector(), psk_id=psk_id)
            usage, group_id, epoch = ResumptionPskUsage(reader.u8()), reader.vector(), reader.u64()
            return cls(kind, reader.vector(), usage=usage, group_id=group_id, epoch=epoch)
        except ValueError:
            raise DecodeError("a pre-shared key has an unknown type or usage") from None

    def write(self, writer: Writer) -> None:
        """The type, what it says, and the nonce."""
        writer.u8(self.type)
        if self.usage is None:
            writer.vector(self.psk_id)
        else:
            writer.u8(self.usage).vector(self.group_id).u64(self.epoch)
        writer.vector(self.nonce)


class Proposal(Struct):
    """One proposed change. `read` and `write` include the type; the `_body` methods do not."""

    type: ClassVar[ProposalType]
    path_required: ClassVar[bool]
    """Whether a commit that covers it needs a path (section 17.4)."""
    external: ClassVar[bool]
    """Whether a sender outside the group may send it (section 17.4)."""

    @classmethod
    def read(cls, reader: Reader) -> "Proposal":
        """`uint16` and the body. A type without a known body does not decode."""
        kind = reader.u16()
        variant = _VARIANTS.get(kind)
        if variant is None:
            raise DecodeError(f"proposal type {kind:#06x} is not known")
        return variant.read_body(reader)

    def write(self, writer: Writer) -> None:
        """`uint16` and the body."""
        self.write_body(writer.u16(self.type))

    @classmethod
    @abstractmethod
    def read_body(cls, reader: Reader) -> Self:
        """Read the bare structure: Add, Update..."""

    @abstractmethod
    def write_body(self, writer: Writer) -> None:
        """Write the bare structure."""


@value
class Add(Proposal):
    """Add the client of a key package."""

    type, path_required, external = ProposalType.ADD, False, True
    key_package: KeyPackage

    @classmethod
    def read_body(cls, reader: Reader) -> Self:
        """A KeyPackage."""
        return cls(KeyPackage.read(reader))

    def write_body(self, writer: Writer) -> None:
        """A KeyPackage."""
        self.key_package.write(writer)


@value
class Update(Proposal):
    """Replace the proposer's leaf."""

    type, path_required, external = ProposalType.UPDATE, True, False
    leaf_node: LeafNode

    @classmethod
    def read_body(cls, reader: Reader) -> Self:
        """A LeafNode."""
        return cls(LeafNode.read(reader))

    def write_body(self, writer: Writer) -> None:
        """A LeafNode."""
        self.leaf_node.write(writer)


@value
class Remove(Proposal):
    """Remove the member at a leaf."""

    type, path_required, external = ProposalType.REMOVE, True, True
    removed: LeafIndex

    @classmethod
    def read_body(cls, reader: Reader) -> Self:
        """A `uint32`."""
        return cls(LeafIndex(reader.u32()))

    def write_body(self, writer: Writer) -> None:
        """A `uint32`."""
        writer.u32(self.removed)


@value
class PreSharedKey(Proposal):
    """Mix a pre-shared key into the key schedule."""

    type, path_required, external = ProposalType.PSK, False, True
    psk: PreSharedKeyId

    @classmethod
    def read_body(cls, reader: Reader) -> Self:
        """A PreSharedKeyID."""
        return cls(PreSharedKeyId.read(reader))

    def write_body(self, writer: Writer) -> None:
        """A PreSharedKeyID."""
        self.psk.write(writer)


@value
class ReInit(Proposal):
    """Close the group in favour of a new one with these parameters (section 11.2)."""

    type, path_required, external = ProposalType.REINIT, False, True
    group_id: bytes
    version: int
    cipher_suite: int
    extensions: Extensions

    @classmethod
    def read_body(cls, reader: Reader) -> Self:
        """The fields of section 12.1.5 in order."""
        return cls(reader.vector(), reader.u16(), reader.u16(), read_extensions(reader))

    def write_body(self, writer: Writer) -> None:
        """The fields of section 12.1.5 in order."""
        write_extensions(writer.vector(self.group_id).u16(self.version).u16(self.cipher_suite), self.extensions)


@value
class ExternalInit(Proposal):
    """Start the next epoch from a secret that an external joiner encapsulated to the group."""

    type, path_required, external = ProposalType.EXTERNAL_INIT, True, False
    kem_output: bytes

    @classmethod
    def read_body(cls, reader: Reader) -> Self:
        """The KEM's output."""
        return cls(reader.vector())

    def write_body(self, writer: Writer) -> None:
        """The KEM's output."""
        writer.vector(self.kem_output)


@value
class GroupContextExtensions(Proposal):
    """Replace all extensions of the group context."""

    type, path_required, external = ProposalType.GROUP_CONTEXT_EXTENSIONS, True, True
    extensions: Extensions

    @classmethod
    def read_body(cls, reader: Reader) -> Self:
        """The new extensions."""
        return cls(read_extensions(reader))

    def write_body(self, writer: Writer) -> None:
        """The new extensions."""
        write_extensions(writer, self.extensions)


_VARIANTS: dict[int, type[Proposal]] = {
    variant.type: variant
    for variant in (Add, Update, Remove, PreSharedKey, ReInit, ExternalInit, GroupContextExtensions)
}
