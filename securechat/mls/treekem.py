"""TreeKEM: the private keys of a member, and the path secrets that renew them (RFC 9420, 7.4 to 7.6).

What it keeps: the private key of our own leaf, and of those ancestors whose keys the member was told. What it
deletes: a key as soon as its node is blank or has another public key. Path secrets exist only inside these
functions, and in `NewPath` until the Welcome is written.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple, Self

from securechat.errors import DecodeError, InternalError
from securechat.mls import tree_math
from securechat.mls.commit import HpkeCiphertext, UpdatePath, UpdatePathNode
from securechat.mls.crypto import hpke, sealing
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite, read_cipher_suite
from securechat.mls.errors import InvalidMessage
from securechat.mls.key_schedule import CommitSecret
from securechat.mls.leaf_node import LeafNode
from securechat.mls.parent_hash import set_path_keys
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex, NodeIndex
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value

_PATH_LABEL = b"UpdatePathNode"


class PathSecret(Secret):
    """The secret of one parent node, from which those of its ancestors follow."""

    __slots__ = ()


def _next_path_secret(suite: CipherSuite, secret: PathSecret) -> PathSecret:
    return PathSecret(sealing.derive_secret(suite, secret, b"path"))


def _node_key(suite: CipherSuite, secret: PathSecret) -> HpkePrivateKey:
    return HpkePrivateKey.derive(suite, sealing.derive_secret(suite, secret, b"node"))


def _commit_secret(suite: CipherSuite, last: PathSecret) -> CommitSecret:
    return CommitSecret(_next_path_secret(suite, last))


class NewPath(NamedTuple):
    """What a committer gets from `TreePrivateKeys.create_path`."""

    update_path: UpdatePath
    tree: RatchetTree
    keys: "TreePrivateKeys"
    commit_secret: CommitSecret
    path_secrets: dict[NodeIndex, PathSecret]

    def path_secret_for(self, committer: LeafIndex, new_member: LeafIndex) -> PathSecret:
        """The path secret of the lowest node above both: it goes into the new member's Welcome."""
        return self.path_secrets[tree_math.common_ancestor(committer, new_member)]


@value
class TreePrivateKeys(Struct):
    """The private keys that one member holds. A value: a change gives another one."""

    suite: CipherSuite
    leaf: LeafIndex
    keys: dict[NodeIndex, HpkePrivateKey]

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form."""
        suite, leaf = read_cipher_suite(reader), LeafIndex(reader.u32())
        keys = reader.items(
            lambda inner: (
                NodeIndex(inner.u32()),
                HpkePrivateKey(suite, Secret(inner.vector()), inner.vector()),
            )
        )
        return cls(suite, leaf, dict(keys))

    def write(self, writer: Writer) -> None:
        """Saved form: public keys too, so that loading computes nothing."""
        writer.u16(self.suite.value).u32(self.leaf)
        writer.items(
            sorted(self.keys.items(), key=lambda item: item[0]),
            lambda inner, item: inner.u32(item[0]).vector(item[1].private).vector(item[1].public_key),
        )

    @classmethod
    def of_leaf(cls, suite: CipherSuite, leaf: LeafIndex, key: HpkePrivateKey) -> Self:
        """The keys of a member that knows only its leaf's."""
        return cls(suite, leaf, {tree_math.node_of(leaf): key})

    def verify_fit(self, tree: RatchetTree) -> None:
        """Raise `DecodeError` unless our own leaf's key and all others are those of the tree."""
        nodes = {tree_math.node_of(self.leaf), *self.keys}
        if any(
            node not in self.keys or self.keys[node].public_key != tree.encryption_key(node) for node in nodes
        ):
            raise DecodeError("private keys do not fit the ratchet tree")

    def kept_in(self, tree: RatchetTree, *candidates: HpkePrivateKey) -> Self:
        """The keys that still belong to `tree`; our own leaf may have taken one of `candidates`."""
        own = tree_math.node_of(self.leaf)
        keys = {node: key for node, key in self.keys.items() if tree.encryption_key(node) == key.public_key}
        for candidate in candidates:
            if tree.encryption_key(own) == candidate.public_key:
                keys[own] = candidate
        return type(self)(self.suite, self.leaf, keys)

    def with_path_secret(
        self, tree: RatchetTree, start: NodeIndex, secret: PathSecret
    ) -> tuple[Self, CommitSecret]:
        """Learn the keys of `start` and of the nodes with keys above it.

        Raises `InvalidMessage` if the secret does not lead to the tree's public keys.
        """
        if tree.encryption_key(start) is None:
            raise InvalidMessage("a path secret is for a blank node")
        keys = self.keys.copy()
        direct = tree.direct_path(self.leaf)
        last = secret
        for node in direct[direct.index(start) :]:
            expected = tree.encryption_key(node)
            if expected is None:
                continue
            if node != start:
                last = _next_path_secret(self.suite, last)
            key = _node_key(self.suite, last)
            if key.public_key != expected:
                raise InvalidMessage("a path secret does not lead to the public keys of its path")
            keys[node] = key
        return type(self)(self.suite, self.leaf, keys), _commit_secret(self.suite, last)

    def create_path(
        self,
        tree: RatchetTree,
        new_leaves: Collection[LeafIndex],
        make_leaf: Callable[[bytes, bytes], LeafNode],
        make_context: Callable[[bytes], bytes],
    ) -> NewPath:
        """Renew the keys from our own leaf to the root and encrypt them to the others (section 7.5).

        `tree` has the commit's proposals applied; `new_leaves` are those it adds. `make_leaf(encryption_key,
        parent_hash)` gives the signed leaf, `make_context(tree_hash)` the encoded provisional group context.
        """
        suite, path = self.suite, tree.filtered_direct_path(self.leaf)
        secret = PathSecret(sealing.random_bytes(suite.hash_size))
        path_secrets: dict[NodeIndex, PathSecret] = {}
        for step in path:
            path_secrets[step.node] = secret
            secret = _next_path_secret(suite, secret)
        leaf_key = HpkePrivateKey.generate(suite)
        keys = {node: _node_key(suite, node_secret) for node, node_secret in path_secrets.items()}
        with_keys, leaf_parent_hash = set_path_keys(
            suite, tree, self.leaf, [key.public_key for key in keys.values()]
        )
        own = tree_math.node_of(self.leaf)
        leaf_node = make_leaf(leaf_key.public_key, leaf_parent_hash)
        after = with_keys.replace({own: leaf_node})

        context = make_context(after.tree_hash(suite))
        nodes = tuple(
            UpdatePathNode(
                keys[step.node].public_key,
                tuple(
                    self._encrypt(tree, recipient, context, path_secrets[step.node])
                    for recipient in tree.recipients(step, new_leaves)
                ),
            )
            for step in path
        )
        return NewPath(
            UpdatePath(leaf_node, nodes),
            after,
            type(self)(suite, self.leaf, {**keys, own: leaf_key}),
            CommitSecret(secret),
            path_secrets,
        )

    def _encrypt(
        self, tree: RatchetTree, recipient: NodeIndex, context: bytes, secret: PathSecret
    ) -> HpkeCiphertext:
        public_key = tree.encryption_key(recipient)
        if public_key is None:
            raise InternalError("a resolution holds a blank node")
        return HpkeCiphertext(*hpke.encrypt_with_label(self.suite, public_key, _PATH_LABEL, context, secret))

    def process_path(
        self,
        before: RatchetTree,
        after: RatchetTree,
        path: UpdatePath,
        committer: LeafIndex,
        new_leaves: Collection[LeafIndex],
        context: bytes,
    ) -> tuple[Self, CommitSecret]:
        """Learn the new keys above from another member's path (section 7.5).

        `before` has the commit's proposals applied, `after` the path's public keys too; `context` is the
        encoded provisional group context. That the path has the right shape was checked when `after` was made
        (`public_group`). Raises `InvalidMessage` or `CannotDecrypt`.
        """
        for step, node in zip(before.filtered_direct_path(committer), path.nodes, strict=True):
            if tree_math.is_below(self.leaf, step.copath_child):
                recipients = before.recipients(step, new_leaves)
                for recipient, sealed in zip(recipients, node.encrypted_path_secret, strict=True):
                    if recipient in self.keys:
                        secret = PathSecret(
                            hpke.decrypt_with_label(
                                self.suite,
                                self.keys[recipient],
                                _PATH_LABEL,
                                context,
                                sealed.kem_output,
                                sealed.ciphertext,
                            )
                        )
                        kept = self.kept_in(after)
                        return kept.with_path_secret(after, step.node, secret)
        raise InvalidMessage("an update path has no secret for us")
