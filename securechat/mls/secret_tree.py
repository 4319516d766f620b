"""The secret tree: one key and nonce per message (RFC 9420, section 9).

What it keeps: the secrets of subtrees in which nobody has spoken yet; for each leaf that has, two ratchets
(one for handshake, one for application messages), each with its newest secret and the keys of messages
skipped so far. What it deletes: a node's secret as soon as its children are derived, a ratchet's secret as
soon as it has moved on, a message's key as soon as the message has been read or written. So a saved tree
cannot read again what has been read.

Looking up a key changes nothing: it gives the key together with the `Step` that deletes it, and the caller
takes that step when the message has proved genuine.
"""

from dataclasses import field, replace
from typing import NamedTuple, Self

from securechat.errors import DecodeError, UsageError
from securechat.mls import tree_math
from securechat.mls.crypto import sealing
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite, read_cipher_suite
from securechat.mls.errors import CannotDecrypt
from securechat.mls.key_schedule import EncryptionSecret
from securechat.mls.tree_math import LeafIndex, NodeIndex
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value

MAX_FORWARD_JUMP = 1000
"""Generations that one message may be ahead of the newest one read: bounds the work it causes, 40 ms. Honest gaps come
from messages that were refused or never arrived."""

MAX_SKIPPED_KEYS = 1000
"""Keys of skipped messages kept per ratchet, the newest ones: 34 to 50 bytes each in a saved state, by suite."""

MAX_GENERATION = 2**32 - 1
"""The largest generation that SenderData can name."""


class MessageKey(NamedTuple):
    """The AEAD key and nonce of one message, before the reuse guard."""

    key: Secret
    nonce: Secret


@value
class Ratchet:
    """A sender's hash ratchet. A value: moving on gives another one."""

    generation: int
    """Of the next key that `secret` gives."""
    secret: Secret
    skipped: dict[int, MessageKey] = field(default_factory=dict)
    """Keys of generations passed over, by generation."""

    def take(self, suite: CipherSuite, generation: int) -> tuple[MessageKey, "Ratchet"]:
        """The key of a generation, and the ratchet that no longer has it.

        Raises `CannotDecrypt` if the key was used, or is further ahead than `MAX_FORWARD_JUMP`.
        """
        if generation < self.generation:
            if generation not in self.skipped:
                raise CannotDecrypt("a message was read before, or its key has been deleted")
            skipped = self.skipped.copy()
            return skipped.pop(generation), replace(self, skipped=skipped)
        if generation - self.generation > MAX_FORWARD_JUMP:
            raise CannotDecrypt("a message is too far ahead of the others of its sender")
        secret, skipped = self.secret, self.skipped.copy()
        for passed in range(self.generation, generation):
            skipped[passed] = _message_key(suite, secret, passed)
            secret = _next_secret(suite, secret, passed)
        while len(skipped) > MAX_SKIPPED_KEYS:
            del skipped[next(iter(skipped))]  # the oldest: keys are put in in order
        after = _next_secret(suite, secret, generation)
        return _message_key(suite, secret, generation), Ratchet(generation + 1, after, skipped)

    def write(self, writer: Writer) -> None:
        """Saved form."""
        writer.u64(self.generation).vector(self.secret)
        writer.items(
            self.skipped.items(),
            lambda inner, item: inner.u32(item[0]).vector(item[1].key).vector(item[1].nonce),
        )

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form."""
        generation, secret = reader.u64(), Secret(reader.vector())
        skipped = reader.items(
            lambda inner: (inner.u32(), MessageKey(Secret(inner.vector()), Secret(inner.vector())))
        )
        return cls(generation, secret, dict(skipped))

    def __repr__(self) -> str:
        """Generations only."""
        return f"<Ratchet: generation {self.generation}, {len(self.skipped)} keys kept>"


def _message_key(suite: CipherSuite, secret: Secret, generation: int) -> MessageKey:
    return MessageKey(
        sealing.derive_tree_secret(suite, secret, b"key", generation, suite.key_size),
        sealing.derive_tree_secret(suite, secret, b"nonce", generation, suite.nonce_size),
    )


def _next_secret(suite: CipherSuite, secret: Secret, generation: int) -> Secret:
    return sealing.derive_tree_secret(suite, secret, b"secret", generation, suite.hash_size)


class LeafRatchets(NamedTuple):
    """The two ratchets of one sender."""

    handshake: Ratchet
    application: Ratchet


class Step(NamedTuple):
    """What remains of the tree once a key is used."""

    leaf: LeafIndex
    ratchets: LeafRatchets
    opened: dict[NodeIndex, Secret] | None
    """If the leaf had not spoken before: the secrets that replace those on its path."""

    def without_skipped(self) -> "Step":
        """This step, and the keys of all messages of the leaf that were skipped deleted with it."""
        if not any(ratchet.skipped for ratchet in self.ratchets):
            return self
        return self._replace(ratchets=LeafRatchets(*(replace(ratchet, skipped={}) for ratchet in self.ratchets)))


class SecretTree(Struct):
    """The message keys of one epoch."""

    __slots__ = ("_leaf_count", "_nodes", "_ratchets", "suite")

    def __init__(
        self,
        suite: CipherSuite,
        leaf_count: int,
        nodes: dict[NodeIndex, Secret],
        ratchets: dict[LeafIndex, LeafRatchets],
    ) -> None:
        """Take over the secrets of unopened subtrees and the ratchets of opened leaves."""
        self.suite = suite
        self._leaf_count = leaf_count
        self._nodes = nodes
        self._ratchets = ratchets

    @classmethod
    def create(cls, suite: CipherSuite, leaf_count: int, encryption_secret: EncryptionSecret) -> Self:
        """The tree of a new epoch, with its root secret only."""
        return cls(suite, leaf_count, {tree_math.root(leaf_count): encryption_secret}, {})

    def key(self, leaf: LeafIndex, generation: int, *, handshake: bool) -> tuple[MessageKey, Step]:
        """The key of one message, and the step that deletes it.

        Raises `CannotDecrypt` if the key was used or is out of reach.
        """
        ratchets, opened = self._ratchets_of(leaf)
        if handshake:
            key, ratchet = ratchets.handshake.take(self.suite, generation)
            after = ratchets._replace(handshake=ratchet)
        else:
            key, ratchet = ratchets.application.take(self.suite, generation)
            after = ratchets._replace(application=ratchet)
        return key, Step(leaf, after, opened)

    def next_generation(self, leaf: LeafIndex, *, handshake: bool) -> int:
        """The generation of the next message of a leaf. Raises `UsageError` when there are no more."""
        ratchets, _ = self._ratchets_of(leaf)
        generation = (ratchets.handshake if handshake else ratchets.application).generation
        if generation > MAX_GENERATION:
            raise UsageError("no more messages can be sent in this epoch; commit first")
        return generation

    def take(self, step: Step) -> None:
        """Delete what a message has used up."""
        if step.opened is not None:
            for node in (tree_math.node_of(step.leaf), *self._path(step.leaf)):
                self._nodes.pop(node, None)
            self._nodes.update(step.opened)
        self._ratchets[step.leaf] = step.ratchets

    def _path(self, leaf: LeafIndex) -> list[NodeIndex]:
        return tree_math.direct_path(tree_math.node_of(leaf), self._leaf_count)

    def _ratchets_of(self, leaf: LeafIndex) -> tuple[LeafRatchets, dict[NodeIndex, Secret] | None]:
        """The ratchets of a leaf; if it had none yet, also the secrets that take the place of its path's."""
        known = self._ratchets.get(leaf)
        if known is not None:
            return known, None
        down = [*reversed(self._path(leaf)), tree_math.node_of(leaf)]
        start = next((index for index, node in enumerate(down) if node in self._nodes), None)
        if start is None:
            raise CannotDecrypt("there are no keys for the sender of a message")
        secret, opened, size = self._nodes[down[start]], {}, self.suite.hash_size
        for node, child in zip(down[start:], down[start + 1 :], strict=False):
            left = sealing.expand_with_label(self.suite, secret, b"tree", b"left", size)
            right = sealing.expand_with_label(self.suite, secret, b"tree", b"right", size)
            is_left = child == tree_math.left(node)
            opened[tree_math.sibling(child)] = right if is_left else left
            secret = left if is_left else right
        handshake = sealing.expand_with_label(self.suite, secret, b"handshake", b"", size)
        application = sealing.expand_with_label(self.suite, secret, b"application", b"", size)
        return LeafRatchets(Ratchet(0, handshake), Ratchet(0, application)), opened

    def write(self, writer: Writer) -> None:
        """Saved form."""
        writer.u16(self.suite.value).u32(self._leaf_count)
        writer.items(sorted(self._nodes.items()), lambda inner, item: inner.u32(item[0]).vector(item[1]))
        writer.items(sorted(self._ratchets.items(), key=lambda item: item[0]), _write_ratchets)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Saved form."""
        suite, leaf_count = read_cipher_suite(reader), reader.u32()
        nodes = dict(reader.items(lambda inner: (NodeIndex(inner.u32()), Secret(inner.vector()))))
        ratchets = dict(reader.items(_read_ratchets))
        if not tree_math.is_full(leaf_count) or any(leaf >= leaf_count for leaf in ratchets):
            raise DecodeError("a saved secret tree is damaged")
        return cls(suite, leaf_count, nodes, ratchets)


def _write_ratchets(writer: Writer, item: tuple[LeafIndex, LeafRatchets]) -> None:
    leaf, ratchets = item
    writer.u32(leaf)
    ratchets.handshake.write(writer)
    ratchets.application.write(writer)


def _read_ratchets(reader: Reader) -> tuple[LeafIndex, LeafRatchets]:
    return LeafIndex(reader.u32()), LeafRatchets(Ratchet.read(reader), Ratchet.read(reader))
