"""The ratchet tree: public keys of members and of subgroups (RFC 9420, sections 4, 7 and 12.4.3.3).

A tree is an immutable value. A change gives a new tree that shares the unchanged nodes and their tree hashes,
so that one commit in a large group costs a path and not the tree.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple, Self, TypeVar

from securechat.errors import DecodeError
from securechat.mls import tree_math
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.leaf_node import LeafNode
from securechat.mls.tree_math import LeafIndex, NodeIndex
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value

MAX_LEAVES = 4096
"""Leaves of the widest tree. Work on a tree grows with its width, and a blank node takes one byte to send: without a
bound, 2 MB of them would cost 20 s; the widest tree with hardly anybody in it costs 30 ms. An application may allow
fewer."""

_LEAF, _PARENT = 1, 2  # NodeType

_Counted = TypeVar("_Counted", bound=Hashable)


@value
class ParentNode(Struct):
    """The key of a subgroup (section 7.1)."""

    encryption_key: bytes
    parent_hash: bytes
    unmerged_leaves: tuple[LeafIndex, ...]
    """Members below that do not hold the private key, in increasing order."""

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 7.1 in order."""
        encryption_key, parent_hash = reader.vector(), reader.vector()
        unmerged = reader.items(_read_leaf_index)
        if any(a >= b for a, b in pairwise(unmerged)):
            raise DecodeError("the unmerged leaves of a parent node are not in increasing order")
        return cls(encryption_key, parent_hash, unmerged)

    def write(self, writer: Writer) -> None:
        """The fields of section 7.1 in order."""
        writer.vector(self.encryption_key).vector(self.parent_hash).items(self.unmerged_leaves, Writer.u32)

    def unmerged_below(self, node: NodeIndex) -> set[LeafIndex]:
        """The unmerged leaves that stand under `node`."""
        below = tree_math.subtree(node)
        return {leaf for leaf in self.unmerged_leaves if leaf in below}


def _read_leaf_index(reader: Reader) -> LeafIndex:
    return LeafIndex(reader.u32())


Node = LeafNode | ParentNode


class PathStep(NamedTuple):
    """One step of a filtered direct path."""

    node: NodeIndex
    copath_child: NodeIndex
    """The child of `node` that is not on the path; its resolution is not empty."""


class Census:
    """How often the nodes of a tree hold what must be unique or agreed upon (section 7.3).

    It follows the tree from commit to commit, so that checking one does not look into all members again.
    """

    __slots__ = ("credential_types", "encryption_keys", "signature_keys", "supported_credentials")

    def __init__(self) -> None:
        """Count nothing yet."""
        self.encryption_keys: dict[bytes, int] = {}
        """Of leaves and parents."""
        self.signature_keys: dict[bytes, int] = {}
        self.credential_types: dict[int, int] = {}
        """Of the members' own credentials."""
        self.supported_credentials: dict[tuple[int, ...], int] = {}
        """What the members' capabilities say."""

    def copy(self) -> "Census":
        """Another one that can be changed."""
        other = Census()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name).copy())
        return other

    def count(self, node: "Node | None", change: int) -> None:
        """Take a node in (1) or out (-1)."""
        if node is None:
            return
        _count(self.encryption_keys, node.encryption_key, change)
        if isinstance(node, LeafNode):
            _count(self.signature_keys, node.signature_key, change)
            _count(self.credential_types, node.credential.type, change)
            _count(self.supported_credentials, node.capabilities.credentials, change)


def _count(counts: dict[_Counted, int], item: _Counted, change: int) -> None:
    counts[item] = counts.get(item, 0) + change
    if not counts[item]:
        del counts[item]


class RatchetTree(Struct):
    """The nodes of a full tree; None is a blank node."""

    __slots__ = ("_census", "_hashes", "_nodes")

    def __init__(
        self, nodes: list[Node | None], hashes: list[bytes | None] | None = None, census: Census | None = None
    ) -> None:
        """Take over the nodes of a full tree, and what is known of them: tree hashes, census."""
        self._nodes = nodes
        self._hashes: list[bytes | None] = [None] * len(nodes) if hashes is None else hashes
        self._census = census

    @classmethod
    def of_one(cls, leaf: LeafNode) -> Self:
        """The tree of a group that has only its creator."""
        return cls([leaf])

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """`optional<Node> ratchet_tree<V>`, extended to the right with blank nodes (section 12.4.3.3)."""
        inner, nodes = Reader(reader.vector()), list[Node | None]()
        while inner.remaining:
            if len(nodes) == tree_math.node_width(MAX_LEAVES):
                raise DecodeError(f"a ratchet tree is wider than {MAX_LEAVES} leaves")
            nodes.append(inner.optional(_read_node))
        if not nodes or nodes[-1] is None:
            raise DecodeError("a ratchet tree does not end with a node")
        for index, node in enumerate(nodes):
            if node is not None and isinstance(node, LeafNode) != tree_math.is_leaf(NodeIndex(index)):
                raise DecodeError("a ratchet tree has a leaf in a parent's place, or the reverse")
        width = tree_math.node_width(1 << (len(nodes) // 2).bit_length())
        return cls([*nodes, *[None] * (width - len(nodes))])

    def write(self, writer: Writer) -> None:
        """`optional<Node> ratchet_tree<V>` without the blank nodes at its end."""
        end = len(self._nodes)
        while self._nodes[end - 1] is None:
            end -= 1
        writer.items(self._nodes[:end], _write_optional_node)

    def __eq__(self, other: object) -> bool:
        """Trees are equal if their nodes are."""
        return isinstance(other, RatchetTree) and self._nodes == other._nodes

    __hash__ = None  # type: ignore[assignment]  # trees are compared in tests only; nobody needs them as keys

    @property
    def leaf_count(self) -> int:
        """Leaves, blank ones included: a power of two."""
        return len(self._nodes) // 2 + 1

    @property
    def root(self) -> NodeIndex:
        """The root's index."""
        return tree_math.root(self.leaf_count)

    def __len__(self) -> int:
        """Nodes, blank ones included."""
        return len(self._nodes)

    def leaf(self, index: LeafIndex) -> LeafNode | None:
        """The leaf at an index; None if it is blank or outside the tree."""
        node = self._nodes[2 * index] if index < self.leaf_count else None
        return node if isinstance(node, LeafNode) else None

    def parent(self, index: NodeIndex) -> ParentNode | None:
        """The parent node at an odd index, or None if it is blank."""
        node = self._nodes[index]
        return node if isinstance(node, ParentNode) else None

    def encryption_key(self, index: NodeIndex) -> bytes | None:
        """The public key at a node; None if it is blank or outside the tree."""
        node = self._nodes[index] if index < len(self._nodes) else None
        return None if node is None else node.encryption_key

    @property
    def census(self) -> Census:
        """What the nodes hold, counted. Not to be changed."""
        if self._census is None:
            census = Census()
            for node in self._nodes:
                census.count(node, 1)
            self._census = census
        return self._census

    def leaves(self) -> Iterator[tuple[LeafIndex, LeafNode]]:
        """The members, from left to right."""
        for index, node in enumerate(self._nodes[::2]):
            if isinstance(node, LeafNode):
                yield LeafIndex(index), node

    def parents(self) -> Iterator[tuple[NodeIndex, ParentNode]]:
        """The parent nodes that are not blank."""
        for index, node in enumerate(self._nodes):
            if isinstance(node, ParentNode):
                yield NodeIndex(index), node

    def direct_path(self, leaf: LeafIndex) -> list[NodeIndex]:
        """The ancestors of a leaf, root last."""
        return tree_math.direct_path(tree_math.node_of(leaf), self.leaf_count)

    def resolution(self, node: NodeIndex) -> list[NodeIndex]:
        """The nodes whose keys together reach everyone under `node` (section 4.1.1)."""
        content = self._nodes[node]
        if isinstance(content, ParentNode):
            return [node, *(tree_math.node_of(leaf) for leaf in content.unmerged_leaves)]
        if content is not None:
            return [node]
        if tree_math.is_leaf(node):
            return []
        return self.resolution(tree_math.left(node)) + self.resolution(tree_math.right(node))

    def recipients(self, step: PathStep, new_leaves: Collection[LeafIndex]) -> list[NodeIndex]:
        """The nodes that a path secret is encrypted to: the copath's resolution without `new_leaves`.

        Those are added by the same commit; they learn the secret from their Welcome (section 7.5).
        """
        new = {tree_math.node_of(leaf) for leaf in new_leaves}
        return [node for node in self.resolution(step.copath_child) if node not in new]

    def filtered_direct_path(self, leaf: LeafIndex) -> list[PathStep]:
        """The direct path without the nodes below whose other child there is nobody (section 4.1.2)."""
        start = tree_math.node_of(leaf)
        steps = zip(self.direct_path(leaf), tree_math.copath(start, self.leaf_count), strict=True)
        return [PathStep(node, child) for node, child in steps if self.resolution(child)]

    def tree_hash(self, suite: CipherSuite, node: NodeIndex | None = None) -> bytes:
        """The tree hash of a node, by default the root (section 7.8). Kept: a tree has one suite."""
        index = self.root if node is None else node
        known = self._hashes[index]
        if known is None:
            known = self._hashes[index] = self._compute_hash(suite, index)
        return known

    def _compute_hash(self, suite: CipherSuite, index: NodeIndex) -> bytes:
        if tree_math.is_leaf(index):
            return leaf_hash(suite, tree_math.leaf_of(index), self.leaf(tree_math.leaf_of(index)))
        left = self.tree_hash(suite, tree_math.left(index))
        return parent_node_hash(
            suite, self.parent(index), left, self.tree_hash(suite, tree_math.right(index))
        )

    def replace(self, changes: Mapping[NodeIndex, Node | None]) -> Self:
        """A tree with some nodes replaced; None makes a node blank."""
        nodes, hashes = self._nodes.copy(), self._hashes.copy()
        census = None if self._census is None else self._census.copy()
        for index, node in changes.items():
            if census is not None:
                census.count(nodes[index], -1)
                census.count(node, 1)
            nodes[index] = node
            hashes[index] = None
            for above in tree_math.direct_path(index, self.leaf_count):
                hashes[above] = None
        return type(self)(nodes, hashes, census)

    def add_leaf(self, leaf_node: LeafNode) -> tuple[Self, LeafIndex]:
        """Put a leaf at the leftmost blank place, extending the tree if there is none (section 12.1.1)."""
        tree, leaf = self.with_blank_leaf()
        changes: dict[NodeIndex, Node | None] = {tree_math.node_of(leaf): leaf_node}
        for index in tree.direct_path(leaf):
            parent = tree.parent(index)
            if parent is not None:
                unmerged = tuple(sorted((*parent.unmerged_leaves, leaf)))
                changes[index] = ParentNode(parent.encryption_key, parent.parent_hash, unmerged)
        return tree.replace(changes), leaf

    def with_blank_leaf(self) -> tuple[Self, LeafIndex]:
        """Find the leftmost blank leaf; if there is none, extend the tree to the right (section 7.7).

        Raises `InvalidMessage` if the tree would be wider than `MAX_LEAVES`.
        """
        for index, node in enumerate(self._nodes[::2]):
            if node is None:
                return self, LeafIndex(index)
        if self.leaf_count >= MAX_LEAVES:
            raise InvalidMessage("there is no room for another member in the tree")
        blank: list[None] = [None] * (len(self._nodes) + 1)
        extended = type(self)([*self._nodes, *blank], [*self._hashes, *blank], self._census)
        return extended, LeafIndex(self.leaf_count)

    def update_leaf(self, leaf: LeafIndex, leaf_node: LeafNode) -> Self:
        """Replace a leaf and make its direct path blank (section 12.1.2)."""
        return self.replace({**dict.fromkeys(self.direct_path(leaf)), tree_math.node_of(leaf): leaf_node})

    def remove_leaf(self, leaf: LeafIndex) -> Self:
        """Make a leaf and its direct path blank, and cut off empty right halves (section 12.1.3)."""
        return self.replace(dict.fromkeys([tree_math.node_of(leaf), *self.direct_path(leaf)])).truncated()

    def truncated(self) -> Self:
        """Cut off the right half as long as no member stands there (section 7.7)."""
        nodes, hashes = self._nodes, self._hashes
        while len(nodes) > 1 and not any(nodes[len(nodes) // 2 + 1 :: 2]):
            nodes, hashes = nodes[: len(nodes) // 2], hashes[: len(nodes) // 2]
        return self if nodes is self._nodes else type(self)(nodes, hashes)


def leaf_hash(suite: CipherSuite, leaf: LeafIndex, leaf_node: LeafNode | None) -> bytes:
    """The tree hash of a leaf: Hash(TreeHashInput with LeafNodeHashInput)."""
    writer = Writer().u8(_LEAF).u32(leaf)
    writer.optional(leaf_node, _write_struct)
    return suite.hash_of(bytes(writer))


def parent_node_hash(suite: CipherSuite, parent: ParentNode | None, left: bytes, right: bytes) -> bytes:
    """The tree hash of a parent: Hash(TreeHashInput with ParentNodeHashInput)."""
    writer = Writer().u8(_PARENT).optional(parent, _write_struct)
    return suite.hash_of(bytes(writer.vector(left).vector(right)))


def _read_node(reader: Reader) -> Node:
    kind = reader.u8()
    if kind == _LEAF:
        return LeafNode.read(reader)
    if kind == _PARENT:
        return ParentNode.read(reader)
    raise DecodeError("a node of a ratchet tree is neither leaf nor parent")


def _write_node(writer: Writer, node: Struct) -> None:
    node.write(writer.u8(_LEAF if isinstance(node, LeafNode) else _PARENT))


def _write_struct(writer: Writer, node: Struct) -> None:
    node.write(writer)


def _write_optional_node(writer: Writer, node: Node | None) -> None:
    writer.optional(node, _write_node)
