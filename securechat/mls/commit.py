"""Commits and the update paths in them (RFC 9420, sections 7.6 and 12.4)."""

from typing import Self

from securechat.errors import DecodeError
from securechat.mls.leaf_node import LeafNode
from securechat.mls.proposals import Proposal
from securechat.mls.ratchet_tree import MAX_LEAVES
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value

MAX_PATH_NODES = MAX_LEAVES.bit_length() - 1
"""Nodes above a leaf of the widest tree."""

MAX_PROPOSALS = 2 * MAX_LEAVES
"""Proposals in one commit: enough to remove everybody and add as many."""

_BY_VALUE, _BY_REFERENCE = 1, 2  # ProposalOrRefType


@value
class HpkeCiphertext(Struct):
    """What EncryptWithLabel gives."""

    kem_output: bytes
    ciphertext: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Two vectors."""
        return cls(reader.vector(), reader.vector())

    def write(self, writer: Writer) -> None:
        """Two vectors."""
        writer.vector(self.kem_output).vector(self.ciphertext)


@value
class UpdatePathNode(Struct):
    """A new public key of a parent node, and its path secret for each node of the copath's resolution."""

    encryption_key: bytes
    encrypted_path_secret: tuple[HpkeCiphertext, ...]

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Key and ciphertexts. Raises `DecodeError` if there are more of them than leaves."""
        return cls(reader.vector(), reader.items(HpkeCiphertext.read, most=MAX_LEAVES))

    def write(self, writer: Writer) -> None:
        """Key and ciphertexts."""
        writer.vector(self.encryption_key).structs(self.encrypted_path_secret)


@value
class UpdatePath(Struct):
    """The committer's new leaf, and the nodes of its filtered direct path from the bottom up."""

    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Leaf and nodes. Raises `DecodeError` beyond `MAX_PATH_NODES`."""
        return cls(LeafNode.read(reader), reader.items(UpdatePathNode.read, most=MAX_PATH_NODES))

    def write(self, writer: Writer) -> None:
        """Leaf and nodes."""
        self.leaf_node.write(writer)
        writer.structs(self.nodes)


ProposalRef = bytes
"""Names a proposal that was sent before (section 5.2): KDF.Nh bytes."""


@value
class Commit(Struct):
    """The proposals that take effect, by value or by reference, and perhaps a path."""

    proposals: tuple[Proposal | ProposalRef, ...]
    path: UpdatePath | None

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Proposals and path. Raises `DecodeError` beyond `MAX_PROPOSALS`."""
        return cls(reader.items(_read_proposal_or_ref, most=MAX_PROPOSALS), reader.optional(UpdatePath.read))

    def write(self, writer: Writer) -> None:
        """Proposals and path."""
        writer.items(self.proposals, _write_proposal_or_ref)
        writer.optional(self.path, lambda inner, path: path.write(inner))


def _read_proposal_or_ref(reader: Reader) -> Proposal | ProposalRef:
    kind = reader.u8()
    if kind == _BY_VALUE:
        return Proposal.read(reader)
    if kind == _BY_REFERENCE:
        return reader.vector()
    raise DecodeError("an entry of a commit is neither a proposal nor a reference")


def _write_proposal_or_ref(writer: Writer, entry: Proposal | ProposalRef) -> None:
    if isinstance(entry, Proposal):
        entry.write(writer.u8(_BY_VALUE))
    else:
        writer.u8(_BY_REFERENCE).vector(entry)
