"""Indices of the array-based ratchet tree (RFC 9420, section 4.1 and appendix C).

The tree is full: it has 2^d leaves. Leaf `i` is node `2 * i`; a node's level is the number of its trailing
one bits. Leaf and node indices are different types, since confusing them is the classic mistake.
"""

from typing import NewType

LeafIndex = NewType("LeafIndex", int)
NodeIndex = NewType("NodeIndex", int)


def node_of(leaf: LeafIndex) -> NodeIndex:
    """The node at which a leaf stands."""
    return NodeIndex(2 * leaf)


def leaf_of(node: NodeIndex) -> LeafIndex:
    """The leaf at an even node."""
    return LeafIndex(node // 2)


def is_leaf(node: NodeIndex) -> bool:
    """Whether a node is a leaf."""
    return node % 2 == 0


def node_width(leaf_count: int) -> int:
    """Nodes in a tree of `leaf_count` leaves."""
    return 2 * leaf_count - 1


def level(node: NodeIndex) -> int:
    """Height above the leaves."""
    return (~node & (node + 1)).bit_length() - 1


def root(leaf_count: int) -> NodeIndex:
    """The root of a tree of `leaf_count` leaves, a power of two."""
    return NodeIndex(leaf_count - 1)


def left(node: NodeIndex) -> NodeIndex:
    """The left child of a parent node."""
    return NodeIndex(node ^ (1 << (level(node) - 1)))


def right(node: NodeIndex) -> NodeIndex:
    """The right child of a parent node."""
    return NodeIndex(node ^ (3 << (level(node) - 1)))


def parent(node: NodeIndex) -> NodeIndex:
    """The parent of a node that is not the root."""
    k = level(node)
    return NodeIndex((node | (1 << k)) & ~(1 << (k + 1)))


def sibling(node: NodeIndex) -> NodeIndex:
    """The other child of the parent of a node that is not the root."""
    return NodeIndex(node ^ (2 << level(node)))


def direct_path(node: NodeIndex, leaf_count: int) -> list[NodeIndex]:
    """The ancestors of a node, from its parent to the root."""
    path, top = [], root(leaf_count)
    while node != top:
        node = parent(node)
        path.append(node)
    return path


def copath(node: NodeIndex, leaf_count: int) -> list[NodeIndex]:
    """The siblings of a node and of its ancestors, without the root's, in the order of `direct_path`."""
    below = [node, *direct_path(node, leaf_count)][:-1]
    return [sibling(step) for step in below]


def subtree(node: NodeIndex) -> range:
    """The leaves under a node, as a range of leaf indices."""
    half = (1 << level(node)) - 1
    return range((node - half) // 2, (node + half) // 2 + 1)


def is_below(leaf: LeafIndex, node: NodeIndex) -> bool:
    """Whether a leaf is `node` itself or a descendant of it."""
    return leaf in subtree(node)


def common_ancestor(a: LeafIndex, b: LeafIndex) -> NodeIndex:
    """The lowest node that is above both leaves."""
    height = (a ^ b).bit_length()
    return NodeIndex(((a >> height) << (height + 1)) + (1 << height) - 1)


def is_full(leaf_count: int) -> bool:
    """Whether a number of leaves is a power of two."""
    return leaf_count > 0 and leaf_count & (leaf_count - 1) == 0
