"""People to test groups with."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from securechat.errors import PeerError
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.errors import InvalidMessage
from securechat.mls.extensions import Extension, Extensions, ExternalSender
from securechat.mls.framing import PublicMessage, decode_body
from securechat.mls.group import Group, SignatureKeys, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, LeafNode, Lifetime
from securechat.mls.proposals import Add, Proposal
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome

SUITE = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

NOW = 1_800_000_000
"""The time in these tests, in seconds since 1970."""

RULES = 0xF001
CAPABILITIES = Capabilities(cipher_suites=(SUITE.value,), extensions=(RULES,))
EXTENSIONS = (Extension(RULES, b"the rules of this group"),)


def anyone(holder: LeafNode | ExternalSender, /, *, entering: bool) -> None:
    """Accept every credential."""


@dataclass
class Person:
    """A name and a signature key."""

    name: bytes
    signature: SignaturePrivateKey
    capabilities: Capabilities = CAPABILITIES

    @classmethod
    def named(cls, name: str, capabilities: Capabilities = CAPABILITIES) -> "Person":
        return cls(name.encode(), SignaturePrivateKey.generate(SUITE), capabilities)

    @property
    def credential(self) -> Credential:
        return Credential.basic(self.name)

    @property
    def keys(self) -> SignatureKeys:
        return {self.signature.public_key: self.signature}

    def key_package(self, lifetime: Lifetime = Lifetime(NOW - 60, NOW + 60)) -> KeyPackageBundle:  # noqa: B008 - a constant
        return generate_key_package(SUITE, self.credential, self.signature, self.capabilities, lifetime)

    def create(self, group_id: bytes = b"group", extensions: Extensions = EXTENSIONS) -> Group:
        return Group.create(group_id, self.key_package(), self.signature, extensions=extensions)

    def join(self, welcome: bytes, bundle: KeyPackageBundle, tree: RatchetTree | None = None) -> Group:
        return Group.join(
            decode_body(welcome, Welcome), bundle, self.signature, tree=tree, validate=anyone, now=NOW
        )

    def join_external(
        self, group_info: bytes, tree: RatchetTree | None, old: LeafIndex | None = None
    ) -> StagedCommit:
        return Group.join_external(
            decode_body(group_info, GroupInfo),
            tree,
            self.signature,
            credential=self.credential,
            capabilities=self.capabilities,
            remove_own_old_leaf=old,
            validate=anyone,
            now=NOW,
        )


def commit(group: Group, *proposals: object, **options: object) -> StagedCommit:
    """Commit with this module's time and validator."""
    options = {"tree_in_welcome": True, "validate": anyone, "now": NOW, **options}
    return group.commit(proposals, **options)  # type: ignore[arg-type]  # tests pass what commit takes


def propose(group: Group, proposal: Proposal, *, encrypt: bool = False) -> bytes:
    """Propose anything but an Update, with this module's time and validator."""
    if isinstance(proposal, Add):
        return group.propose_add(proposal.key_package, encrypt=encrypt, validate=anyone, now=NOW)
    return group.propose(proposal, encrypt=encrypt)


def stage(group: Group, message: bytes) -> StagedCommit:
    """Stage with this module's time and validator."""
    return group.stage(message, validate=anyone, now=NOW)


def group_of(
    *names: str, capabilities: Capabilities = CAPABILITIES, extensions: Extensions = EXTENSIONS
) -> list[tuple[Person, Group]]:
    """A group of these people: the first creates it and adds the others in one commit."""
    people = [Person.named(name, capabilities) for name in names]
    bundles = [person.key_package() for person in people[1:]]
    first = people[0].create(extensions=extensions)
    staged = commit(first, *(Add(bundle.key_package) for bundle in bundles))
    assert staged.group is not None
    groups = [staged.group]
    if staged.welcome is not None:
        for person, bundle in zip(people[1:], bundles, strict=True):
            groups.append(person.join(staged.welcome, bundle))
    return list(zip(people, groups, strict=True))


def state(group: Group) -> tuple[bytes, bytes]:
    """Everything that a group remembers."""
    return group.public_bytes(), group.secret_bytes()


def same_view(*groups: Group | None) -> bool:
    """Whether these members are in one epoch with one view of the group."""
    return len({group.epoch_authenticator if group else None for group in groups}) <= 1


def refused(group: Group, message: bytes, reason: str, error: type[PeerError] = InvalidMessage) -> None:
    """A member and the public view refuse a commit for the same reason, and nothing has changed."""
    before = state(group)
    with pytest.raises(error, match=reason):
        stage(group, message)
    with pytest.raises(error, match=reason):
        group.public.stage(decode_body(message, PublicMessage), validate=anyone, now=NOW)
    assert state(group) == before


def refused_by_member(group: Group, message: bytes, reason: str) -> None:
    """A member refuses a commit that the public view cannot judge, and nothing has changed."""
    group.public.stage(decode_body(message, PublicMessage), validate=anyone, now=NOW)
    before = state(group)
    with pytest.raises(InvalidMessage, match=reason):
        stage(group, message)
    assert state(group) == before


def objects_in(root: object) -> Iterator[object]:
    """Everything that can be reached from `root` through fields and containers."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or item is None or isinstance(item, int | str | type):
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            todo += item
        elif type(item).__module__.startswith("securechat."):
            todo += [getattr(item, name, None) for kind in type(item).__mro__ for name in _slots(kind)]
            todo += vars(item).values() if hasattr(item, "__dict__") else []


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
