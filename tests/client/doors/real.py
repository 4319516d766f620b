"""The world again, with real keys: each branch is an epoch of a real MLS group, made as its author would.

What the engine and the rules say of an offer is found out here by letting them, not by reading the symbols. Whoever
writes a commit without the secrets of its epoch cannot make its membership tag; whoever flips a confirmation tag leaves
a commit that nobody can follow.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat import policy
from securechat.client.device import CAPABILITIES
from securechat.client.doors.facts import Leaf, Offered, Way
from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate, certificate_of, credential, issue, leaf_validator
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.framing import MLSMessage, PublicMessage, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Lifetime
from securechat.mls.proposals import Add, Proposal, Remove
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules
from tests.client.doors.moves import Move, Scenario, moves
from tests.client.doors.person import Conv, Door, State, Table, known
from tests.client.doors.world import BOB, Branch, World, path

SERVER: Final = b"S" * 16
NOW: Final = 1_800_000_000
SUITE: Final = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
validate: Final = leaf_validator(SERVER, NOW)


class Device:
    """The keys of one device."""

    def __init__(self, leaf: Leaf) -> None:
        seed = b"%s %s" % (leaf.account.encode(), leaf.identity)
        self.signature = SignaturePrivateKey(SUITE, seed.ljust(32))
        self._identity = Ed25519PrivateKey.from_private_bytes(seed.rjust(32))
        self.who = Identity(leaf.account, self._identity.public_key().public_bytes_raw())
        certificate = issue(
            self._identity, server_id=SERVER, account=leaf.account, device_id=seed.ljust(16)[:16],
            signature_key=self.signature.public_key, not_before=NOW - 1, not_after=NOW + 1,
        )  # fmt: skip
        self.credential = credential(certificate)

    def bundle(self) -> KeyPackageBundle:
        """A fresh key package."""
        return generate_key_package(SUITE, self.credential, self.signature, CAPABILITIES, Lifetime(NOW - 1, NOW + 1))


@dataclass
class Epoch:
    """One branch, in reality."""

    public: PublicGroup
    message: bytes = b""  # the commit that made it; empty if the group was founded like this
    welcome: bytes = b""
    views: dict[Leaf, Group] = field(default_factory=dict)  # of those who know its secrets
    bundles: dict[Leaf, KeyPackageBundle] = field(default_factory=dict)  # by which people were added


class RealWorld:
    """All branches of a world; they are made in order."""

    def __init__(self) -> None:
        self.epochs: dict[Branch, Epoch] = {}
        self._devices: dict[Leaf, Device] = {}
        self._leaves: dict[Identity, Leaf] = {}

    def grow(self, world: World) -> None:
        """Make the branches that are not there yet."""
        for branch in world:
            if branch not in self.epochs:
                self.epochs[branch] = (
                    self._found(branch) if branch.parent is None else self._commit(branch, branch.parent)
                )

    def device(self, leaf: Leaf) -> Device:
        """The device behind a symbol."""
        if leaf not in self._devices:
            self._devices[leaf] = Device(leaf)
            self._leaves[self._devices[leaf].who] = leaf
        return self._devices[leaf]

    def _found(self, branch: Branch) -> Epoch:
        author = self.device(branch.author)
        owners, inviters = (
            tuple(sorted(self.device(Leaf(*key, key.identity)).who for key in keys))
            for keys in (branch.owners, branch.inviters)
        )
        rules = Rules(branch.kind, branch.name, owners=owners, inviters=inviters)
        group = Group.create(branch.group.ljust(32), author.bundle(), author.signature, extensions=(rules.extension(),))
        for _ in range(branch.epoch - 1):
            group = _entered(_commit(group, ()))
        bundles = {leaf: self.device(leaf).bundle() for leaf in sorted(branch.members - {branch.author})}
        epoch = self._made(_commit(group, [Add(each.key_package) for each in bundles.values()]), branch, bundles)
        epoch.bundles = {leaf: bundle for leaf, bundle in bundles.items() if leaf in branch.who}  # others are used up
        return epoch

    def _commit(self, branch: Branch, parent: Branch) -> Epoch:
        before = self.epochs[parent]
        bundles: dict[Leaf, KeyPackageBundle] = {}
        if branch.change in ("enter", "re-enter"):
            staged = self._enter(branch, before)
        else:
            proposals: list[Proposal] = []
            if branch.change == "add":
                bundles = {leaf: self.device(leaf).bundle() for leaf in sorted(branch.who)}
                proposals = [Add(each.key_package) for each in bundles.values()]
            elif branch.change == "remove":
                proposals = [Remove(self._index(before.public, leaf)) for leaf in sorted(branch.who)]
            staged = _commit(before.views[branch.author], proposals)
        epoch = self._made(staged, branch, bundles)
        message = decode_body(staged.message, PublicMessage)
        if not branch.secret and message.membership_tag is not None:
            message = replace(message, membership_tag=bytes(len(message.membership_tag)))
        if not branch.readable:
            message = replace(message, auth=replace(message.auth, confirmation_tag=bytes(32)))
            epoch.bundles = {}  # the Welcome belongs to the commit as its author made it
        epoch.message = bytes(MLSMessage(message).encode())
        for leaf, view in before.views.items():
            if leaf in branch.members and leaf != branch.author and branch.secret:
                epoch.views[leaf] = _entered(view.stage(staged.message, validate=validate, now=NOW))
        return epoch

    def _enter(self, branch: Branch, before: Epoch) -> StagedCommit:
        device = self.device(branch.author)
        view = next(iter(before.views.values()))
        info = decode_body(view.group_info(with_tree=True), GroupInfo)
        places = {certificate_of(node).account: leaf for leaf, node in before.public.members()}
        old = places.get(branch.author.account)
        return Group.join_external(
            info, None, device.signature, credential=device.credential, capabilities=CAPABILITIES,
            remove_own_old_leaf=old, validate=validate, now=NOW,
        )  # fmt: skip

    def _made(self, staged: StagedCommit, branch: Branch, bundles: dict[Leaf, KeyPackageBundle]) -> Epoch:
        group = _entered(staged)
        epoch = Epoch(group.public, staged.message, staged.welcome or b"", {branch.author: group}, bundles)
        for leaf in bundles:
            epoch.views[leaf] = self._join(epoch, leaf)
        return epoch

    def _join(self, epoch: Epoch, leaf: Leaf) -> Group:
        welcome = decode_body(epoch.welcome, Welcome)
        signature = self.device(leaf).signature
        return Group.join(welcome, epoch.bundles[leaf], signature, tree=epoch.public.tree, validate=validate, now=NOW)

    def _index(self, group: PublicGroup, leaf: Leaf) -> LeafIndex:
        found = group.find(self.device(leaf).signature.public_key)
        assert found is not None
        return found

    # --- what an offer really is ----------------------------------------------------------------------------------

    def check(self, offered: Offered, conv: Conv, branch: Branch) -> Offered:
        """Return the offer with everything that reality can say about it in place of the symbols."""
        public = self.epochs[branch].public
        rules = policy.rules_of(public.extensions)
        members = frozenset(self._symbol(certificate_of(node)) for _, node in public.members())
        owners = frozenset(self._leaves[owner].key for owner in rules.owners)
        fault = self._fault(offered.way, conv, branch)
        return replace(offered, kind=rules.kind, members=members, owners=owners, fault=fault)

    def context(self, branch: Branch) -> bytes:
        """SHA-256 of a branch's group context."""
        return hashlib.sha256(self.epochs[branch].public.context.encode()).digest()

    def _fault(self, way: Way, conv: Conv, branch: Branch) -> str:
        try:
            policy.check_state(self.epochs[branch].public)
            if way == "welcome":
                if BOB not in self.epochs[branch].bundles:
                    raise PeerError("it is for none of our key packages")
                self._join(self.epochs[branch], BOB)
            if conv.at is not None and way in ("commit", "walk", "public-walk"):
                steps = path(conv.at, branch) or ()
                known = len(steps) if way != "public-walk" else 0
                if conv.standing == "old-copy-commit":
                    known = next((n for n, step in enumerate(steps) if step.author == BOB), len(steps))
                self._walk(conv.at, steps, known)
        except PeerError as error:
            return str(error)
        return ""

    def _walk(self, at: Branch, steps: World, known: int) -> None:
        """Follow commits, so many of them with the secrets."""
        view, public = self.epochs[at].views[BOB], self.epochs[at].public
        for number, each in enumerate(steps):
            message = decode_body(self.epochs[each].message, PublicMessage)
            policy.check_proposals(message, public)
            if number < known:
                staged = view.stage(self.epochs[each].message, validate=validate, now=NOW)
                policy.check_commit(staged.public, departed=frozenset())
                if staged.group is None and BOB in each.members:
                    raise PeerError("our leaf was replaced by somebody who has our key")
                public, view = staged.public.after, staged.group or view
            else:
                followed = public.stage(message, validate=validate, now=NOW)
                policy.check_commit(followed, departed=frozenset())
                public = followed.after

    def _symbol(self, certificate: DeviceCertificate) -> Leaf:
        return self._leaves[Identity.of(certificate)]


def _commit(group: Group, proposals: Sequence[Proposal]) -> StagedCommit:
    return group.commit(proposals, by_reference=None, tree_in_welcome=False, validate=validate, now=NOW)


def _entered(staged: StagedCommit) -> Group:
    assert staged.group is not None
    return staged.group


def replay(scenario: Scenario, choose: Callable[[list[str]], int], table: Table) -> None:
    """Play a story with real keys beside the symbols: each offer has to be what the symbols say, and judged alike.

    `choose`: which of the possible moves is next, by their labels; negative: none.
    """
    state, real = scenario.start, RealWorld()
    real.grow(state.world)
    while True:
        options = [move for move in moves(state, scenario, table) if _made_here(move)]
        chosen = choose([label for label, _, _ in options])
        if chosen < 0:
            return
        _, new, door = options[chosen]
        if isinstance(door, Door) and door.branch is not None:
            _compare(real, state, door, door.branch, table)
        state = new
        real.grow(state.world)


def _made_here(move: Move) -> bool:
    """Whether a move can be played with the library as it is, without a program of the attacker's own.

    That would be needed to go on from a commit with a wrong tag, which changes the transcript for all who follow, and
    for another Welcome into an epoch that somebody else has made. Each device has one certificate here.
    """
    label, state, _ = move
    whole = all(branch.parent is None or branch.parent.readable for branch in state.world)
    one = not any(branch.seqs or branch.revoked for branch in state.world) and state.certs.own == 1
    return "another Welcome" not in label and whole and one


def _compare(real: RealWorld, state: State, door: Door, branch: Branch, table: Table) -> None:
    before, offered = state.convs[door.slot], door.offered
    truly = real.check(offered, before, branch)
    assert (truly.kind, truly.members, truly.owners) == (offered.kind, offered.members, offered.owners)
    assert bool(truly.fault) == bool(offered.fault), (truly.fault, offered.fault)
    # A flipped tag does not change the context; here such a commit is another one, with a context of its own.
    if door.said is not None and offered.invitation is not None and door.said.branch.readable == branch.readable:
        same = real.context(door.said.branch) == real.context(branch)
        assert same == (offered.invitation.context == offered.context)
    assert table.decide(known(before, state.pins), truly, state.pins, state.now) == door.verdict
