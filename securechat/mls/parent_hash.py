"""Parent hashes: proof that the keys of parent nodes were set by members (RFC 9420, section 7.9)."""

from collections.abc import Sequence

from securechat.mls import tree_math
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.ratchet_tree import Node, ParentNode, RatchetTree, leaf_hash, parent_node_hash
from securechat.mls.tree_math import LeafIndex, NodeIndex
from securechat.tlscodec import Writer


def parent_hash(suite: CipherSuite, parent: ParentNode, original_sibling_tree_hash: bytes) -> bytes:
    """The parent hash of a node with a given copath child: Hash(ParentHashInput)."""
    writer = Writer().vector(parent.encryption_key).vector(parent.parent_hash)
    return suite.hash_of(bytes(writer.vector(original_sibling_tree_hash)))


def set_path_keys(
    suite: CipherSuite, tree: RatchetTree, leaf: LeafIndex, keys: Sequence[bytes]
) -> tuple[RatchetTree, bytes]:
    """Put the keys of an update path into the tree, from the bottom up (section 7.5).

    The rest of the direct path becomes blank. Also returns the parent hash that the committer's leaf must
    have. Raises `InvalidMessage` if there are more or fewer keys than nodes on the filtered direct path.
    """
    path = tree.filtered_direct_path(leaf)
    if len(keys) != len(path):
        raise InvalidMessage("an update path does not have one key for each node of the filtered direct path")
    changes: dict[NodeIndex, Node | None] = dict.fromkeys(tree.direct_path(leaf))
    hash_above = b""
    for step, key in zip(reversed(path), reversed(keys), strict=True):
        parent = ParentNode(key, hash_above, ())
        changes[step.node] = parent
        hash_above = parent_hash(suite, parent, tree.tree_hash(suite, step.copath_child))
    return tree.replace(changes), hash_above


def verify_parent_hashes(suite: CipherSuite, tree: RatchetTree) -> None:
    """Check, as a joiner must, that every parent node is parent-hash valid (section 7.9.2, top down).

    Raises `InvalidMessage`.
    """
    for index, parent in tree.parents():
        left, right = tree_math.left(index), tree_math.right(index)
        valid = [
            child
            for child, sibling in ((left, right), (right, left))
            if _is_valid_below(suite, tree, parent, child, sibling)
        ]
        if len(valid) != 1:
            raise InvalidMessage("a parent node of the tree is not parent-hash valid")


def _is_valid_below(
    suite: CipherSuite, tree: RatchetTree, parent: ParentNode, child: NodeIndex, sibling: NodeIndex
) -> bool:
    """Whether one node under `child` was set together with `parent`.

    That node is what remains of the child's resolution without the parent's unmerged leaves.
    """
    unmerged = {tree_math.node_of(leaf) for leaf in parent.unmerged_below(child)}
    resolution = tree.resolution(child)
    below = [node for node in resolution if node not in unmerged]
    if len(below) != 1 or len(resolution) != len(unmerged) + 1:
        return False
    if tree_math.is_leaf(below[0]):
        leaf = tree.leaf(tree_math.leaf_of(below[0]))
        claimed = leaf.parent_hash if leaf else b""
    else:
        node = tree.parent(below[0])
        claimed = node.parent_hash if node else b""
    return claimed == parent_hash(suite, parent, _original_tree_hash(suite, tree, sibling, parent))


def _original_tree_hash(suite: CipherSuite, tree: RatchetTree, node: NodeIndex, parent: ParentNode) -> bytes:
    """The tree hash of `node` as it was when `parent` was set: without `parent.unmerged_leaves`."""
    added = parent.unmerged_below(node)
    if not added:
        return tree.tree_hash(suite, node)
    if tree_math.is_leaf(node):
        return leaf_hash(suite, tree_math.leaf_of(node), None)
    content = tree.parent(node)
    if content is not None:
        merged = tuple(leaf for leaf in content.unmerged_leaves if leaf not in added)
        content = ParentNode(content.encryption_key, content.parent_hash, merged)
    left = _original_tree_hash(suite, tree, tree_math.left(node), parent)
    right = _original_tree_hash(suite, tree, tree_math.right(node), parent)
    return parent_node_hash(suite, content, left, right)
