"""What must hold for the tree as a whole (RFC 9420, sections 7.3 and 12.4.3.1)."""

from securechat.mls import tree_math
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage, OutsideLifetime
from securechat.mls.extensions import Extensions
from securechat.mls.leaf_node import CredentialValidator
from securechat.mls.parent_hash import verify_parent_hashes
from securechat.mls.ratchet_tree import RatchetTree


def verify_tree(
    suite: CipherSuite,
    tree: RatchetTree,
    group_id: bytes,
    group_extensions: Extensions,
    *,
    validate: CredentialValidator,
    now: int,
) -> None:
    """Check a tree that comes from outside, as a joiner must.

    Members may have stayed in the group beyond the lifetime of their key package or credential: only the lifetime's
    start is compared with `now` (seconds since 1970), and `validate` is told that they do not enter now. Raises
    `InvalidMessage`, or what `validate` raises.
    """
    if len(tree.truncated()) < len(tree):
        raise InvalidMessage("the right half of the tree has no member (section 7.7)")
    verify_members_agree(tree)
    _verify_parents(suite, tree)
    verify_parent_hashes(suite, tree)
    for index, leaf in tree.leaves():
        leaf.verify_for(suite, group_extensions)
        leaf.verify_signature(suite, group_id, index)
        if leaf.lifetime is not None and leaf.lifetime.not_before > now:
            raise OutsideLifetime("a member's key package is not valid yet")
        validate(leaf, entering=False)


def verify_members_agree(tree: RatchetTree) -> None:
    """Check that members' keys are unique and that all support all credential types in use (section 7.3).

    Raises `InvalidMessage`.
    """
    census = tree.census
    if max(census.signature_keys.values(), default=0) > 1:
        raise InvalidMessage("two members have the same signature key")
    if any(not census.credential_types.keys() <= set(supported) for supported in census.supported_credentials):
        raise InvalidMessage("a member does not support the credential type of another")
    if max(census.encryption_keys.values(), default=0) > 1:
        raise InvalidMessage("two nodes of the tree have the same encryption key")


def _verify_parents(suite: CipherSuite, tree: RatchetTree) -> None:
    for index, parent in tree.parents():
        suite.kem.check_public_key(parent.encryption_key)
        for leaf in parent.unmerged_leaves:
            if tree.leaf(leaf) is None or not tree_math.is_below(leaf, index):
                raise InvalidMessage("an unmerged leaf is not a member below its parent node")
            node = tree_math.parent(tree_math.node_of(leaf))
            while node != index:
                between = tree.parent(node)
                if between is not None and leaf not in between.unmerged_leaves:
                    raise InvalidMessage("a leaf is unmerged at one node but not at another below it")
                node = tree_math.parent(node)
