"""The checks of MLS objects before the server accepts them; none needs a secret (docs/design.md, section 5, Commits).

Everything here works on immutable values, raises `PeerError` for what must not be accepted, and may run on any thread:
a validation worker does the expensive part of a commit while messages flow, and the turn then compares the epoch.
"""

from collections.abc import Sequence

from securechat import policy
from securechat.errors import PeerError
from securechat.identity import certificate as certificates
from securechat.identity import statements
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.statements import Link, Statement
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.framing import PublicMessage, decode_body
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.public_group import PublicGroup, PublicStagedCommit, verify_group_info
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules, Word
from securechat.value import value

SNAPSHOT_EPOCHS = 64
"""Epochs between two snapshots of a public group: 64 commits are replayed in about a second."""

_MESSAGE_HEADER = 4
"""Bytes before the body of an `MLSMessage`: version and wire format (RFC 9420, section 6)."""

SNAPSHOT_BYTES = 256 << 10
"""Bytes of a commit after which a snapshot is due at once: the commits since one are kept whatever their size."""


def reference(key_package: bytes) -> bytes:
    """Return the reference (32 bytes) of a key package that has been checked: an `MLSMessage`, not decoded again."""
    return MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519.make_key_package_ref(key_package[_MESSAGE_HEADER:])


@value
class Founded:
    """A new conversation's checked group, in epoch 0."""

    group: PublicGroup
    rules: Rules
    tree: bytes  # encoded
    snapshot: bytes


@value
class Checked:
    """A checked commit. `time` (ms): when; it becomes the entry's time, by which members check lifetimes.

    `is_checkpoint`: whoever was away too long may go on from here (`Rules.is_anchor`).
    """

    staged: PublicStagedCommit
    before: Rules  # those by which it was judged
    rules: Rules  # after it
    departed: frozenset[LeafIndex]
    words: tuple[Word, ...]
    revocations: tuple[Statement, ...]
    time: int
    tree: bytes  # of the new epoch, encoded
    snapshot: bytes | None  # of the new epoch, where one is due
    is_checkpoint: bool

    @property
    def by_owner(self) -> bool:
        """Whether an owner of the room made it."""
        return Identity.of(certificate_of(self.staged.committer)) in self.before.owners


@value
class Validator:
    """The checks of one server."""

    server_id: bytes

    def links(self, links: Sequence[Link], *, entering: DeviceCertificate | None, now: int) -> None:
        """Check what an account publishes, each for itself; `entering` has to be in date; `now` in seconds."""
        for link in links:
            if isinstance(link, DeviceCertificate):
                certificates.verify(link, now=now, entering=link == entering)
            else:
                statements.verify(link, now=now)

    def key_packages(self, encoded: Sequence[bytes], owner: DeviceCertificate, now: int) -> None:
        """Check key packages that a device publishes; `now` in seconds."""
        validate = certificates.leaf_validator(self.server_id, now)
        for each in encoded:
            body = decode_body(each, KeyPackage)
            body.verify(MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, (), validate=validate, now=now)
            if certificate_of(body.leaf_node) != owner:
                raise PeerError("A key package belongs to another device.")
            lifetime = body.leaf_node.lifetime
            if lifetime is None or lifetime.not_after != owner.not_after:
                raise PeerError("A key package does not end with its device's certificate.")

    def founding(self, encoded: bytes, creator: DeviceCertificate, now: int) -> Founded:
        """Check the group that `creator` has made; `now` in seconds."""
        validate = certificates.leaf_validator(self.server_id, now)
        group = PublicGroup.from_group_info(decode_body(encoded, GroupInfo), None, validate=validate, now=now)
        rules = policy.check_founding(group, creator=creator)
        return Founded(group, rules, group.tree.encode(), group.encode())

    def commit(
        self,
        group: PublicGroup,
        departed: frozenset[LeafIndex],
        words: tuple[Word, ...] = (),
        revocations: tuple[Statement, ...] = (),
        *,
        commit: bytes,
        welcome: bytes | None,
        group_info: bytes,
        time: int,
    ) -> Checked:
        """Check a commit and what comes with it; `departed`: leaves of departed devices; `time` in ms.

        `words`: of the operator, still to be carried out. `revocations`: of leaves in the tree. `welcome`: None for a
        commit that is handed back: whoever it adds has had one.
        """
        now = time // 1000
        validate = certificates.leaf_validator(self.server_id, now)
        message = decode_body(commit, PublicMessage)
        policy.check_proposals(message, group)
        staged = group.stage(message, validate=validate, now=now)
        rules = policy.check_commit(staged, departed=departed, words=words, revocations=revocations)
        if welcome is not None:
            _check_welcome(staged, welcome)
        verify_group_info(staged.after, decode_body(group_info, GroupInfo), signer=staged.committer_leaf)
        due = staged.after.epoch % SNAPSHOT_EPOCHS == 0 or len(commit) > SNAPSHOT_BYTES
        snapshot = staged.after.encode() if due else None
        before = policy.rules_of(group.extensions)
        is_checkpoint = before.is_anchor(Identity.of(certificate_of(staged.committer)))
        tree = staged.after.tree.encode()
        return Checked(staged, before, rules, departed, words, revocations, time, tree, snapshot, is_checkpoint)

    def opening(self, checked: Checked, peer: str) -> None:
        """Check that the first commit of a direct conversation adds `peer`."""
        policy.check_opening(checked.staged, peer=peer)

    def current_group_info(self, group: PublicGroup, group_info: bytes) -> None:
        """Check that `group_info` lets others enter `group`, which is new: its founder alone is in it."""
        (founder,) = (leaf for leaf, _ in group.members())
        verify_group_info(group, decode_body(group_info, GroupInfo), signer=founder)

    def restore(self, snapshot: bytes, commits: Sequence[tuple[int, bytes]]) -> PublicGroup:
        """Rebuild a group from what the store keeps; each commit comes with its entry's time in ms."""
        group = PublicGroup.decode(snapshot)
        for time, commit in commits:
            now = time // 1000
            validate = certificates.leaf_validator(self.server_id, now)
            group = group.stage(decode_body(commit, PublicMessage), validate=validate, now=now).after
        return group


def _check_welcome(staged: PublicStagedCommit, encoded: bytes) -> None:
    """Check that each new member, and nobody else, finds its secrets."""
    if not encoded:
        covered: frozenset[bytes] = frozenset()
    else:
        welcome = decode_body(encoded, Welcome)
        covered = welcome.new_member_refs
        if not covered:
            raise PeerError("The Welcome is for nobody.")
        if len(covered) != len(welcome.secrets):
            raise PeerError("The Welcome holds secrets for one key package twice.")
    if covered != staged.new_member_refs:
        raise PeerError("The Welcome is not for exactly those whom the commit adds.")
