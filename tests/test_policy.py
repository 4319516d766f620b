"""Every rule on real groups: what it allows, and the same commit with one thing wrong."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import DecodeError, PeerError
from securechat.identity.certificate import (
    CLOCK_SKEW,
    RULES_EXTENSION,
    DeviceCertificate,
    certificate_of,
    credential,
    issue,
    leaf_validator,
)
from securechat.mls.commit import Commit
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.crypto.suite import cipher_suite
from securechat.mls.extensions import Extension, ExtensionType
from securechat.mls.framing import MLSMessage, PublicMessage, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.mls.proposal_list import of_members
from securechat.mls.proposals import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    PskType,
    ReInit,
    Remove,
)
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import (
    Identity,
    Rules,
    check_commit,
    check_departure,
    check_founding,
    check_joining,
    check_opening,
    check_proposals,
    check_state,
    departure_data,
    epoch_state,
    rules_of,
    states,
)
from securechat.policy.commits import _check_used, replacements
from securechat.policy.judges import JUDGES
from securechat.policy.rules import MAX_BARRED, MAX_RULES, READERS, VERSION, extension_type
from securechat.policy.support import check_support
from securechat.tlscodec import Writer
from securechat.wire.limits import (
    EPOCH_STATE_LENGTH,
    MAX_ACCOUNT,
    MAX_COUNT,
    MAX_GROUP_INFO,
    MAX_PROPOSAL,
    MAX_TOPIC,
)

SERVER = b"S" * 16
NOW = 1_800_000_000
validate = leaf_validator(SERVER, NOW)
NOBODY: frozenset[LeafIndex] = frozenset()


@dataclass(frozen=True)
class Device:
    """One device of a person; `identity` and `number` may be chosen to make a wrong one."""

    account: str
    number: int = 1
    identity: str = ""
    suite_value: int = SUITE.value
    seq: int = 5  # of its certificate
    lasting: int = 1  # seconds from NOW that it is valid
    versions: tuple[int, ...] = (VERSION,)  # of the rules that its program knows
    id: bytes = b""  # if it takes another one than its own

    @property
    def signature(self) -> SignaturePrivateKey:
        seed = f"{self.account} {self.number} {self.identity}".encode().ljust(32)
        return SignaturePrivateKey(cipher_suite(self.suite_value), seed)

    @property
    def device_id(self) -> bytes:
        return self.id or f"{self.account} {self.number}".encode().ljust(16)

    @property
    def identity_private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes((self.identity or self.account).encode().ljust(32))

    @property
    def who(self) -> Identity:
        return Identity(self.account, self.identity_private.public_key().public_bytes_raw())

    @property
    def certificate(self) -> DeviceCertificate:
        return issue(
            self.identity_private,
            server_id=SERVER,
            account=self.account,
            device_id=self.device_id,
            signature_key=self.signature.public_key,
            not_before=NOW - 1,
            seq=self.seq,
            previous=bytes([1] * 32),
            not_after=NOW + self.lasting,
        )

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(cipher_suites=(self.suite_value,), extensions=tuple(map(extension_type, self.versions)))

    def bundle(self) -> KeyPackageBundle:
        return generate_key_package(
            cipher_suite(self.suite_value),
            credential(self.certificate),
            self.signature,
            self.capabilities,
            Lifetime(NOW - 1, NOW + 1),
        )


ALICE, BOB, CAROL, DAVE = (Device(name) for name in ("alice", "bob", "carol", "dave"))
INVITE = Rules("invite", "#team", owners=(ALICE.who,))
OPEN = Rules("open", "#lobby")
OWNED = Rules("open", "#garden", owners=(ALICE.who,))
DIRECT = Rules("direct")


def found(rules: Rules, founder: Device = ALICE) -> Group:
    return Group.create(b"G" * 32, founder.bundle(), founder.signature, extensions=(rules.extension(),))


def commit(group: Group, *proposals: Proposal, by_reference: bool = False, **others: object) -> StagedCommit:
    return group.commit(
        proposals,
        by_reference=of_members if by_reference else None,
        tree_in_welcome=True,
        validate=validate,
        now=NOW,
        **others,  # type: ignore[arg-type]  # credential or psks
    )


def group_of(rules: Rules, *people: Device) -> list[Group]:
    """A group with everybody's view of it; the first founds it and adds the others."""
    bundles = [person.bundle() for person in people[1:]]
    staged = commit(found(rules, people[0]), *(Add(bundle.key_package) for bundle in bundles))
    assert staged.group is not None
    views = [staged.group]
    for person, bundle in zip(people[1:], bundles, strict=True):
        assert staged.welcome is not None
        welcome = MLSMessage.decode(staged.welcome).body
        assert isinstance(welcome, Welcome)
        views.append(Group.join(welcome, bundle, person.signature, validate=validate, now=NOW))
    return views


def enter(group: Group, person: Device, old: LeafIndex | None = None, now: int = NOW) -> StagedCommit:
    info = MLSMessage.decode(group.group_info(with_tree=True)).body
    assert isinstance(info, GroupInfo)
    return Group.join_external(
        info,
        None,
        person.signature,
        credential=credential(person.certificate),
        capabilities=person.capabilities,
        remove_own_old_leaf=old,
        validate=leaf_validator(SERVER, now),
        now=now,
    )


def add(person: Device) -> Add:
    return Add(person.bundle().key_package)


def leaf(group: Group, person: Device) -> LeafIndex:
    found_leaf = group.public.find(person.signature.public_key)
    assert found_leaf is not None
    return found_leaf


def departed(group: Group, *people: Device) -> frozenset[LeafIndex]:
    return frozenset(leaf(group, person) for person in people)


def allowed(staged: StagedCommit, gone: frozenset[LeafIndex] = NOBODY) -> None:
    check_commit(staged.public, departed=gone)


def refused(staged: StagedCommit, reason: str, gone: frozenset[LeafIndex] = NOBODY) -> None:
    with pytest.raises(PeerError, match=reason):
        check_commit(staged.public, departed=gone)


# --- the rules themselves

ONE, TWO = Identity("a", b"\2" * 32), Identity("b", b"\1" * 32)


@pytest.mark.parametrize(
    "rules",
    [
        DIRECT, OPEN, INVITE, replace(OPEN, owners=(ONE,)), replace(INVITE, inviters=(ONE, TWO)),
        replace(DIRECT, life=3600), replace(OPEN, site_key=b"k" * 32), replace(INVITE, barred=("carol", "dave")),
        replace(OPEN, topic="tea, and \u2615", life=(1 << 32) - 1),
    ],
)
def test_rules_have_one_encoding(rules: Rules) -> None:
    assert Rules.decode(encoded(3, b"#lobby")) == OPEN
    assert Rules.decode(rules.encode()) == rules
    assert rules_of((rules.extension(),)) == rules


def encoded(
    kind: int,
    name: bytes,
    *,
    topic: bytes = b"",
    owners: Sequence[Identity] = (),
    inviters: Sequence[Identity] = (),
    barred: Sequence[bytes] = (),
    site_key: bytes = b"",
) -> bytes:
    writer = Writer().u8(kind).vector(name).vector(topic).u32(0)
    for identities in (owners, inviters):
        writer.items(identities, lambda inner, each: inner.vector(each.account.encode()).opaque(each.identity_key))
    return bytes(writer.items(barred, Writer.vector).vector(site_key))


MANY = [Identity(f"x{number:03}", bytes(32)) for number in range(300)]


@pytest.mark.parametrize(
    ("good", "wrong"),
    [
        (encoded(1, b""), encoded(0, b"")),
        (encoded(3, b"#x"), encoded(4, b"#x")),
        (encoded(3, b"#x"), encoded(0, b"#x")),
        (encoded(1, b""), encoded(1, b"#x")),
        (encoded(1, b""), encoded(1, b"", topic=b"tea")),
        (encoded(1, b""), encoded(1, b"", owners=[ONE])),
        (encoded(1, b""), encoded(1, b"", inviters=[ONE])),
        (encoded(1, b""), encoded(1, b"", barred=[b"carol"])),
        (encoded(1, b""), encoded(1, b"", site_key=b"k" * 32)),
        (encoded(2, b"#x", owners=[ONE]), encoded(2, b"#x")),
        (encoded(2, b"#x", owners=[ONE]), encoded(2, b"x", owners=[ONE])),
        (encoded(2, b"#x", owners=[ONE]), encoded(2, b"#X", owners=[ONE])),
        (encoded(2, b"#x", owners=[ONE]), encoded(2, b"#\xff", owners=[ONE])),
        (encoded(2, b"#x", owners=[ONE]), encoded(2, b"#x\n", owners=[ONE])),
        (encoded(2, b"#" + b"x" * 31, owners=[ONE]), encoded(2, b"#" + b"x" * 32, owners=[ONE])),
        (encoded(2, b"#x", owners=[ONE, TWO]), encoded(2, b"#x", owners=[TWO, ONE])),
        (encoded(2, b"#x", owners=[ONE, TWO]), encoded(2, b"#x", owners=[ONE, ONE])),
        (encoded(2, b"#x", owners=[ONE, TWO]), encoded(2, b"#x", owners=[ONE, ONE._replace(identity_key=b"z" * 32)])),
        (encoded(2, b"#x", owners=[ONE], inviters=[TWO]), encoded(2, b"#x", owners=[ONE], inviters=[ONE])),
        (encoded(2, b"#x", owners=[ONE], barred=[b"b"]), encoded(2, b"#x", owners=[ONE], barred=[b"a"])),
        (encoded(2, b"#x", owners=[ONE], barred=[b"b", b"c"]), encoded(2, b"#x", owners=[ONE], barred=[b"c", b"b"])),
        (encoded(2, b"#x", owners=[ONE], barred=[b"b"]), encoded(2, b"#x", owners=[ONE], barred=[b"B"])),
        (encoded(2, b"#x", owners=[ONE], barred=[b"b"]), encoded(2, b"#x", owners=[ONE], barred=[b""])),
        (encoded(2, b"#x", owners=MANY[:64]), encoded(2, b"#x", owners=MANY[:65])),
        (
            encoded(2, b"#x", owners=[ONE], barred=[each.account.encode() for each in MANY[:256]]),
            encoded(2, b"#x", owners=[ONE], barred=[each.account.encode() for each in MANY[:257]]),
        ),
        (encoded(3, b"#x", topic=b"t" * 200), encoded(3, b"#x", topic=b"t" * 201)),
        (encoded(3, b"#x", topic=b"t"), encoded(3, b"#x", topic=b"\xff")),
        (encoded(3, b"#x", owners=[ONE]), encoded(3, b"#x", inviters=[ONE])),
        (encoded(3, b"#x", site_key=b"k" * 32), encoded(3, b"#x", site_key=b"k" * 31)),
        (encoded(3, b"#x", site_key=b"k" * 32), encoded(3, b"#x", site_key=b"k" * 32, owners=[ONE])),
        (encoded(3, b"#x"), encoded(3, b"#x") + b"\0"),
        (encoded(3, b"#x"), b""),
    ],
)
def test_rules_that_make_no_sense_are_refused(good: bytes, wrong: bytes) -> None:
    assert Rules.decode(good).encode() == good
    with pytest.raises(DecodeError):
        Rules.decode(wrong)


@given(st.binary(max_size=100))
def test_random_bytes_are_rules_or_a_decode_error(data: bytes) -> None:
    try:
        rules = Rules.decode(data)
    except DecodeError:
        return
    assert rules.encode() == data


def test_the_group_context_holds_the_rules_and_nothing_else() -> None:
    senders = Extension(ExtensionType.EXTERNAL_SENDERS, bytes(Writer().vector(b"")))
    for extensions in ((), (senders,), (OPEN.extension(), OPEN.extension()), (OPEN.extension(), senders)):
        with pytest.raises(PeerError, match="nothing else"):
            rules_of(extensions)
    with pytest.raises(DecodeError):
        rules_of((Extension(RULES_EXTENSION, b"damaged"),))


# --- founding and joining


@pytest.mark.parametrize("rules", [DIRECT, OPEN, OWNED, INVITE])
def test_a_conversation_begins_with_its_founder_alone(rules: Rules) -> None:
    group = found(rules)
    assert check_founding(group.public, creator=ALICE.certificate) == rules
    for wrong in (BOB, Device("alice", 2), Device("alice", identity="mallory")):
        with pytest.raises(PeerError, match="the device that opens it"):
            check_founding(group.public, creator=wrong.certificate)
    later = commit(group).group
    assert later is not None
    with pytest.raises(PeerError, match="epoch 0"):
        check_founding(later.public, creator=ALICE.certificate)


@pytest.mark.parametrize("owned", [INVITE, OWNED])
def test_a_founder_owns_the_room_unless_nobody_does(owned: Rules) -> None:
    assert check_founding(found(owned).public, creator=ALICE.certificate) == owned
    assert check_founding(found(OPEN, BOB).public, creator=BOB.certificate) == OPEN
    for wrong in (owned, replace(owned, owners=(BOB.who._replace(account="alice"),))):
        with pytest.raises(PeerError, match="has to be its owner"):
            check_founding(found(wrong, BOB).public, creator=BOB.certificate)


def test_a_direct_conversation_opens_by_adding_the_peer() -> None:
    group = found(DIRECT)
    opening = commit(group, Add(BOB.bundle().key_package))
    allowed(opening)
    check_opening(opening.public, peer="bob")
    with pytest.raises(PeerError, match="add carol and nobody else"):
        check_opening(opening.public, peer="carol")
    with pytest.raises(PeerError, match="add bob and nobody else"):
        check_opening(commit(group).public, peer="bob")


def test_a_joiner_gets_what_was_meant_or_hears_what_it_was() -> None:
    group = group_of(INVITE, ALICE, BOB)[0].public
    assert check_joining(group, kind="invite", name="#team") == INVITE
    with pytest.raises(PeerError, match="the open room #team, but the server led you to the invite room #team"):
        check_joining(group, kind="open", name="#team")
    with pytest.raises(PeerError, match="the invite room #lobby, but"):
        check_joining(group, kind="invite", name="#lobby")
    with pytest.raises(PeerError, match="a direct conversation, but"):
        check_joining(group, kind="direct", name="")


def test_another_cipher_suite_is_refused() -> None:
    with pytest.raises(PeerError, match="CHACHA20POLY1305"):
        check_state(found(OPEN, Device("alice", suite_value=3)).public)


def test_a_room_has_at_most_so_many_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    group = group_of(OPEN, ALICE, BOB)[0]
    joining = enter(group, CAROL)
    monkeypatch.setattr(states, "MAX_ROOM_DEVICES", 3)
    allowed(joining)
    monkeypatch.setattr(states, "MAX_ROOM_DEVICES", 2)
    refused(joining, "more than 2 devices")


# --- regular commits


@pytest.mark.parametrize("rules", [DIRECT, OPEN, INVITE])
def test_everybody_may_commit_a_fresh_path(rules: Rules) -> None:
    for view in group_of(rules, ALICE, BOB):
        allowed(commit(view))


def test_only_owners_and_inviters_add_to_an_invite_room() -> None:
    alice, bob = group_of(INVITE, ALICE, BOB)
    allowed(commit(alice, Add(CAROL.bundle().key_package)))
    refused(commit(bob, Add(CAROL.bundle().key_package)), "bob adds carol without being an owner or inviter of #team")
    inviting = group_of(replace(INVITE, inviters=(BOB.who,)), ALICE, BOB)[1]
    allowed(commit(inviting, Add(CAROL.bundle().key_package)))


def test_nobody_is_added_to_an_open_room() -> None:
    owned = group_of(replace(OPEN, owners=(ALICE.who,)), ALICE, BOB)[0]
    refused(commit(owned, Add(CAROL.bundle().key_package)), "alice adds carol to an open room")


def test_a_direct_conversation_has_two_members_from_its_first_commit_on() -> None:
    opening = commit(found(DIRECT), Add(BOB.bundle().key_package))
    allowed(opening)
    for others in ((CAROL,), (Device("bob", 2),), (Device("bob", 2, "ghost"),)):
        both = (BOB, *others)
        refused(commit(found(DIRECT), *(Add(each.bundle().key_package) for each in both)), "of two people")
    alice = group_of(DIRECT, ALICE, BOB)[0]
    for newcomer in (CAROL, Device("bob", 2, seq=6)):
        refused(commit(alice, Add(newcomer.bundle().key_package)), "to a direct conversation of two people")


def test_three_people_are_no_direct_conversation() -> None:
    """Whoever enters judges a state alone: nobody shows them the commit that has led to it."""
    check_state(group_of(DIRECT, ALICE, BOB)[0].public)
    check_state(group_of(INVITE, ALICE, BOB, CAROL)[0].public)
    with pytest.raises(PeerError, match="is between two people"):
        check_state(group_of(DIRECT, ALICE, BOB, CAROL)[0].public)


def test_who_stays_alone_in_a_direct_conversation_cannot_add_somebody_else() -> None:
    alice = group_of(DIRECT, ALICE, BOB)[0]
    gone = departed(alice, BOB)
    alone = commit(alice, Remove(leaf(alice, BOB)))
    allowed(alone, gone)
    assert alone.group is not None
    refused(commit(alone.group, Add(CAROL.bundle().key_package)), "alice adds carol")


def test_only_owners_remove_others() -> None:
    alice, bob, _ = group_of(INVITE, ALICE, BOB, CAROL)
    allowed(commit(alice, Remove(leaf(alice, BOB))))
    refused(commit(bob, Remove(leaf(bob, CAROL))), "bob removes carol without being an owner")
    for rules in (DIRECT, OPEN):
        view = group_of(rules, ALICE, BOB)[0]
        refused(commit(view, Remove(leaf(view, BOB))), "alice removes bob without being an owner")


@pytest.mark.parametrize("rules", [INVITE, OPEN])
def test_a_commit_removes_everybody_who_has_left(rules: Rules) -> None:
    _, bob, carol, _ = group_of(rules, ALICE, BOB, CAROL, DAVE)
    gone = departed(bob, CAROL, DAVE)
    both = (Remove(leaf(bob, CAROL)), Remove(leaf(bob, DAVE)))
    allowed(commit(bob, *both), gone)
    refused(commit(bob, both[0]), "bob does not remove dave, who has left", gone)
    refused(commit(bob), "bob does not remove carol, who has left", gone)
    refused(commit(carol, both[1]), "carol commits after having left", gone)
    refused(commit(bob, *both, Remove(leaf(bob, ALICE))), "bob removes alice without being an owner", gone)


def change(rules: Rules) -> GroupContextExtensions:
    return GroupContextExtensions((rules.extension(),))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (INVITE, replace(INVITE, owners=(ALICE.who, BOB.who)), ""),
        (INVITE, replace(INVITE, owners=(BOB.who,)), ""),
        (INVITE, replace(INVITE, inviters=(BOB.who,)), ""),
        (INVITE, replace(INVITE, barred=("carol",)), ""),
        (INVITE, replace(INVITE, topic="tea", life=3600), ""),
        (INVITE, replace(INVITE, name="#other"), ""),
        (OWNED, replace(OWNED, name="#other", topic="tea", barred=("carol",), life=1, owners=(BOB.who,)), ""),
        (INVITE, replace(INVITE, kind="open"), "alice changes the kind of the conversation"),
        (OWNED, replace(OWNED, kind="invite"), "alice changes the kind of the conversation"),
        (OWNED, replace(OWNED, owners=()), "alice takes its last owner from #garden"),
        (OWNED, replace(OWNED, owners=(), site_key=b"k" * 32), "or its site key, which are fixed"),
        (OPEN, replace(OPEN, owners=(ALICE.who,)), "alice changes the rules of #lobby without being an owner"),
        (OPEN, replace(OPEN, topic="tea"), "alice changes the rules of #lobby without being an owner"),
        (OPEN, replace(OPEN, barred=("carol",)), "alice changes the rules of #lobby without being an owner"),
    ],
)
def test_owners_change_the_rules_but_not_what_the_conversation_is(before: Rules, after: Rules, reason: str) -> None:
    alice, bob = group_of(before, ALICE, BOB)
    if reason:
        refused(commit(alice, change(after)), reason)
    else:
        allowed(commit(alice, change(after)))
        refused(commit(bob, change(after)), f"bob changes the rules of {before.name} without being an owner")
    allowed(commit(alice))
    refused(commit(bob, change(before)), f"bob changes the rules of {before.name} without being an owner")


def test_new_rules_are_sound_and_stand_alone() -> None:
    alice = group_of(INVITE, ALICE, BOB)[0]
    allowed(commit(alice, change(replace(INVITE, topic="tea"))))
    refused(commit(alice, change(replace(INVITE, owners=()))), "needs an owner")
    refused(commit(alice, change(replace(INVITE, name="#A"))), "not normalised")
    refused(commit(alice, GroupContextExtensions(())), "nothing else")
    senders = Extension(ExtensionType.EXTERNAL_SENDERS, bytes(Writer().vector(b"")))
    refused(commit(alice, GroupContextExtensions((INVITE.extension(), senders))), "nothing else")
    refused(commit(alice, GroupContextExtensions((Extension(RULES_EXTENSION, b"x"),))), "unknown kind")


def test_whose_commits_are_checkpoints() -> None:
    assert [OWNED.is_anchor(each.who) for each in (ALICE, BOB)] == [True, False]
    assert [rules.is_anchor(BOB.who) for rules in (DIRECT, OPEN, INVITE)] == [True, False, False]


def test_the_longest_names_and_topic_fit() -> None:
    letter = "\N{CJK UNIFIED IDEOGRAPH-20000}"  # four bytes
    longest = replace(INVITE, name="#" + letter * 31, topic=letter * MAX_TOPIC, barred=(letter * 32,))
    assert Rules.decode(longest.encode()) == longest
    for longer in (replace(INVITE, topic="x" * (MAX_TOPIC + 1)), replace(INVITE, barred=("x" * 33,))):
        with pytest.raises(DecodeError, match="longer than"):
            Rules.decode(longer.encode())


def test_rules_have_a_limit_as_a_whole() -> None:
    people = tuple(Identity(f"{number:03}" + "x" * 29, bytes(32)) for number in range(128))
    barred = tuple(f"z{number:03}" + "x" * 28 for number in range(256))
    fits = replace(INVITE, owners=people[:64], inviters=people[64:], barred=barred[:200])
    assert len(fits.encode()) <= MAX_RULES
    assert rules_of((fits.extension(),)) == fits
    topics = (replace(fits, barred=barred[:243], topic="t" * length) for length in range(MAX_TOPIC))
    full = next(rules for rules in topics if len(rules.encode()) == MAX_RULES)
    assert rules_of((full.extension(),)) == full
    for large in (replace(full, topic=f"{full.topic}t"), replace(fits, barred=barred)):
        with pytest.raises(DecodeError, match="16,384 are allowed"):
            rules_of((large.extension(),))


def test_the_largest_rules_fit_into_a_group_info_on_the_wire() -> None:
    beside_the_rules = len(found(INVITE, ALICE).group_info(with_tree=False)) - len(INVITE.encode())
    assert MAX_RULES + beside_the_rules + 2 <= MAX_GROUP_INFO  # the length of long rules takes 2 bytes more


def test_either_of_two_sets_the_life_of_messages() -> None:
    for view in group_of(DIRECT, ALICE, BOB):
        allowed(commit(view, change(replace(DIRECT, life=3600))))
        with pytest.raises(DecodeError, match="no name, topic"):
            check_commit(commit(view, change(replace(DIRECT, topic="tea"))).public, departed=NOBODY)


# --- bars


def test_whoever_is_barred_is_removed_in_the_same_commit_and_does_not_come_back() -> None:
    barring = change(replace(INVITE, barred=("bob",)))
    alice = group_of(INVITE, ALICE, BOB)[0]
    refused(commit(alice, barring), "bob is barred from #team")
    both = commit(alice, barring, Remove(leaf(alice, BOB)))
    allowed(both)
    assert both.group is not None
    refused(commit(both.group, Add(BOB.bundle().key_package)), "bob is barred from #team")
    allowed(commit(both.group, Add(CAROL.bundle().key_package)))
    allowed(commit(both.group, change(INVITE), Add(BOB.bundle().key_package)))


def test_who_is_barred_from_an_open_room_does_not_enter_under_any_key() -> None:
    room = group_of(replace(OWNED, barred=("carol",)), ALICE, BOB)[0]
    refused(enter(room, CAROL), "carol is barred from #garden")
    refused(enter(room, Device("carol", 2, "ghost")), "carol is barred from #garden")
    allowed(enter(room, DAVE))


# --- versions


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> int:
    """A version that somebody will invent: the same rules, under which nobody is called mallory."""

    def no_mallory(group: PublicGroup, own: Rules) -> None:
        if any(certificate_of(node).account == "mallory" for _, node in group.members()):
            raise PeerError("mallory is not welcome")
        states.judge_state(group, own)

    monkeypatch.setitem(READERS, VERSION + 1, Rules.decode)
    monkeypatch.setitem(JUDGES, VERSION + 1, replace(JUDGES[VERSION], state=no_mallory))
    return VERSION + 1


def upgraded(person: Device) -> Device:
    return replace(person, versions=(VERSION, VERSION + 1))


@pytest.mark.parametrize("before", [INVITE, OWNED, DIRECT])
def test_a_live_group_rises_to_a_version_that_all_its_members_know(before: Rules, next_version: int) -> None:
    alice, bob = group_of(before, upgraded(ALICE), upgraded(BOB))
    risen = commit(alice, change(replace(before, version=next_version)))
    check_proposals(decode_body(risen.message, PublicMessage), bob.public)
    allowed(risen)
    after = bob.stage(risen.message, validate=validate, now=NOW).group
    assert after is not None
    assert check_state(after.public).version == next_version
    allowed(commit(after))
    owners = after if before.kind == "direct" else risen.group
    assert owners is not None
    refused(commit(owners, change(before)), "goes back to version 2 of the rules")
    allowed(commit(owners, change(replace(before, version=next_version, life=5))))


def test_each_epoch_is_judged_by_its_own_version(next_version: int) -> None:
    mallory = upgraded(Device("mallory"))
    alice, _ = group_of(INVITE, upgraded(ALICE), mallory)
    allowed(commit(alice))  # version 2 has nothing against the name, before and after the next one is known
    refused(commit(alice, change(replace(INVITE, version=next_version))), "mallory is not welcome")
    gone = Remove(leaf(alice, mallory))
    risen = commit(alice, change(replace(INVITE, version=next_version)), gone)
    allowed(risen)
    assert risen.group is not None
    refused(commit(risen.group, Add(mallory.bundle().key_package)), "mallory is not welcome")


def test_whoever_lacks_the_next_version_stands_in_the_way_and_is_named(next_version: int) -> None:
    rise = change(replace(INVITE, version=next_version))
    alice, bob, carol = group_of(INVITE, upgraded(ALICE), BOB, CAROL)
    with pytest.raises(PeerError, match="not known to the program of bob, carol"):
        check_support(alice.public, [rise])
    with pytest.raises(PeerError, match="not known to the program of bob"):
        check_support(alice.public, [rise, Remove(leaf(alice, CAROL))])
    with pytest.raises(PeerError, match="not known to the program of dave"):
        check_support(alice.public, [rise, Remove(leaf(alice, CAROL)), Remove(leaf(alice, BOB)), add(DAVE)])
    check_support(alice.public, [rise, Remove(leaf(alice, CAROL)), Remove(leaf(alice, BOB)), add(upgraded(DAVE))])
    good = decode_body(commit(alice).message, PublicMessage)
    forged = replace(good, content=replace(good.content, content=Commit((rise,), None)))
    with pytest.raises(PeerError, match="not known to the program of bob, carol"):
        check_proposals(forged, bob.public)
    with pytest.raises(PeerError, match="lack an extension of the group context"):
        commit(alice, rise)  # and MLS itself refuses it
    renewed = commit(carol, capabilities=upgraded(CAROL).capabilities)
    later = alice.stage(renewed.message, validate=validate, now=NOW).group
    assert later is not None
    with pytest.raises(PeerError, match="not known to the program of bob\\."):
        check_support(later.public, [rise])
    check_support(later.public, [rise, Remove(leaf(later, BOB))])


def test_only_owners_raise_the_version_of_a_room(next_version: int) -> None:
    for before, number in ((INVITE, 1), (OWNED, 1), (OPEN, 0), (OPEN, 1)):
        views = group_of(before, upgraded(ALICE), upgraded(BOB))
        refused(commit(views[number], change(replace(before, version=next_version))), "without being an owner")


def test_a_version_that_nobody_knows_is_refused(next_version: int) -> None:
    alice = group_of(INVITE, upgraded(ALICE), upgraded(BOB))[0]
    known, unknown = (replace(INVITE, version=version).extension() for version in (next_version, next_version + 1))
    assert rules_of((known,)).version == next_version
    with pytest.raises(PeerError, match="in a version that is known"):
        rules_of((unknown,))
    with pytest.raises(PeerError, match="in a version that is known"):
        check_support(alice.public, [GroupContextExtensions((unknown,))])


def test_a_new_owner_owns_from_the_next_commit_on() -> None:
    alice, bob, _ = group_of(INVITE, ALICE, BOB, CAROL)
    promotion = commit(alice, GroupContextExtensions((replace(INVITE, owners=(BOB.who,)).extension(),)))
    allowed(promotion)
    later = bob.stage(promotion.message, validate=validate, now=NOW).group
    assert later is not None
    assert promotion.group is not None
    allowed(commit(later, Remove(leaf(later, CAROL))))
    refused(commit(promotion.group, Remove(leaf(alice, CAROL))), "alice removes carol without being an owner")


def test_proposals_stand_in_the_commit() -> None:
    alice, bob = group_of(INVITE, ALICE, BOB)
    alice.receive_proposal(bob.propose_update())
    refused(commit(alice, by_reference=True), "alice commits a proposal by reference")
    allowed(commit(alice))


def test_what_a_commit_holds_is_judged_before_any_work_is_spent_on_it() -> None:
    alice, bob = group_of(INVITE, ALICE, BOB)
    alice.receive_proposal(bob.propose_update())
    new_rules = GroupContextExtensions((replace(INVITE, owners=(BOB.who,)).extension(),))

    def content(*proposals: Proposal, **options: object) -> PublicMessage:
        return decode_body(commit(alice, *proposals, **options).message, PublicMessage)  # type: ignore[arg-type]  # options

    def holding(*proposals: Proposal | bytes) -> PublicMessage:
        good = content()
        return replace(good, content=replace(good.content, content=Commit(tuple(proposals), None)))

    adding = Add(CAROL.bundle().key_package)
    for good in (content(), content(adding, Remove(leaf(alice, BOB))), content(new_rules)):
        check_proposals(good, alice.public)
    check_proposals(decode_body(enter(alice, BOB, leaf(alice, BOB)).message, PublicMessage), alice.public)
    psk = PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"x"))
    capabilities = Extension(ExtensionType.REQUIRED_CAPABILITIES, b"\0\0\0")
    for wrong, reason in (
        (content(by_reference=True), "by reference"),
        (content(psk, psks=lambda _: bytes(32)), "not used here: PreSharedKey"),
        (holding(ReInit(b"new", 1, 1, ())), "not used here: ReInit"),
        (holding(GroupContextExtensions((INVITE.extension(), capabilities))), "nothing else"),
        (holding(GroupContextExtensions(())), "nothing else"),
        (decode_body(alice.propose(Remove(leaf(alice, BOB))), PublicMessage), "where a commit was expected"),
    ):
        with pytest.raises(PeerError, match=reason):
            check_proposals(wrong, alice.public)


def test_pre_shared_keys_are_not_used() -> None:
    alice = group_of(INVITE, ALICE, BOB)[0]
    psk = PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"x"))
    refused(commit(alice, psk, psks=lambda _: bytes(32)), "not used here: PreSharedKey")
    _check_used(Remove(LeafIndex(1)), ALICE.certificate, external=True)
    for proposal in (psk, Add(CAROL.bundle().key_package), GroupContextExtensions((OPEN.extension(),))):
        with pytest.raises(PeerError, match="enters with a proposal that is not allowed"):
            _check_used(proposal, ALICE.certificate, external=True)


def test_a_path_keeps_device_and_identity() -> None:
    alice = group_of(INVITE, ALICE, BOB)[0]

    def certified(account: str, number: int, identity: str) -> StagedCommit:
        other = Device(account, number, identity)
        certificate = issue(
            other.identity_private,
            server_id=SERVER,
            account=account,
            device_id=other.device_id,
            signature_key=ALICE.signature.public_key,
            not_before=NOW - 5,
            not_after=NOW + 5,
        )
        return commit(alice, credential=credential(certificate))

    allowed(certified("alice", 1, "alice"))  # a renewed certificate
    for wrong in (("mallory", 1, "alice"), ("alice", 2, "alice"), ("alice", 1, "mallory")):
        refused(certified(*wrong), "alice becomes another device or identity")


def test_a_path_brings_another_signature_key_by_a_later_certificate_alone() -> None:
    alice = group_of(INVITE, ALICE, BOB)[0]
    for seq, reason in ((6, ""), (5, "alice goes back to an older certificate"), (4, "alice goes back to an older")):
        other = Device("alice", 2, seq=seq, id=ALICE.device_id)
        staged = commit(alice, credential=credential(other.certificate), signature_private=other.signature)
        if reason:
            refused(staged, reason)
        else:
            allowed(staged)


def test_an_account_and_a_device_stand_in_a_conversation_once() -> None:
    alice = group_of(INVITE, ALICE, BOB)[0]
    allowed(commit(alice, Add(CAROL.bundle().key_package)))
    refused(commit(alice, Add(Device("bob", 2, seq=6).bundle().key_package)), "bob is in the conversation twice")
    refused(commit(alice, Add(Device("bob", 1, "again").bundle().key_package)), "is in the conversation twice")
    posing = Device("carol", id=BOB.device_id)
    refused(commit(alice, Add(posing.bundle().key_package)), "device is in the conversation twice")


def test_a_device_id_of_somebody_else_stands_for_nobody() -> None:
    lobby = group_of(OPEN, ALICE, BOB)[0]
    allowed(enter(lobby, CAROL))
    refused(enter(lobby, Device("carol", id=BOB.device_id)), "is in the conversation twice")
    team = group_of(INVITE, ALICE, BOB)[0]
    allowed(commit(team, Add(CAROL.bundle().key_package)))
    posing = Device("carol", id=BOB.device_id).bundle().key_package
    refused(commit(team, Add(posing)), "is in the conversation twice")


# --- external commits


def test_an_open_room_is_entered_by_everybody_and_no_other_conversation_is() -> None:
    allowed(enter(group_of(OPEN, ALICE, BOB)[0], CAROL))
    for rules in (INVITE, DIRECT):
        refused(enter(group_of(rules, ALICE, BOB)[0], CAROL), "carol enters without having been added")


def test_a_member_whose_certificate_has_run_out_closes_the_room_to_nobody() -> None:
    later = NOW + 2 * CLOCK_SKEW
    alice = group_of(OPEN, ALICE, BOB)[0]
    allowed(enter(alice, Device("carol", lasting=3 * CLOCK_SKEW), now=later))
    with pytest.raises(PeerError, match="device of carol has expired"):
        enter(alice, CAROL, now=later)


@pytest.mark.parametrize("kind", [OPEN, OWNED, INVITE, DIRECT])
def test_a_leaf_gives_way_to_a_later_certificate_of_the_same_identity_key(kind: Rules) -> None:
    alice = group_of(kind, ALICE, BOB)[0]
    old = leaf(alice, BOB)
    allowed(enter(alice, BOB, old))  # resync
    refused(enter(alice, CAROL, old), "carol enters by removing bob")
    phone = Device("bob", 2, seq=6)
    allowed(enter(alice, phone, old))
    assert replacements(enter(alice, phone, old).public) == ((BOB.certificate, phone.certificate),)
    assert replacements(enter(alice, BOB, old).public) == ()
    for older in (Device("bob", 2), Device("bob", 2, seq=4)):  # of the same place in the chain, and of an earlier one
        refused(enter(alice, older, old), "bob puts an older certificate of bob in place of a newer one")


def test_another_identity_key_enters_only_an_open_room_by_itself_and_can_be_seen() -> None:
    ghost = Device("bob", 2, "ghost")
    for kind in (OPEN, OWNED):
        alice = group_of(kind, ALICE, BOB)[0]
        staged = enter(alice, ghost, leaf(alice, BOB))
        allowed(staged)
        ((before, after),) = replacements(staged.public)
        assert (before, after) == (BOB.certificate, ghost.certificate)
        assert before.identity_key != after.identity_key
        refused(enter(alice, ghost), "bob is in the conversation twice")
    for kind in (INVITE, DIRECT):
        alice = group_of(kind, ALICE, BOB)[0]
        refused(enter(alice, ghost, leaf(alice, BOB)), "bob enters under another identity key")


# --- replacement by others

GHOST = Device("bob", 2, "ghost")
PHONE = Device("bob", 2, seq=6)
OLD_PHONE = Device("bob", 2, seq=4)


@pytest.mark.parametrize(
    ("who", "answered", "left", "new", "reason"),
    [
        (ALICE, True, False, PHONE, ""),
        (ALICE, True, False, GHOST, ""),
        (ALICE, False, False, GHOST, ""),
        (ALICE, True, True, GHOST, ""),
        (ALICE, True, True, BOB, ""),
        (ALICE, True, False, OLD_PHONE, "alice puts an older certificate of bob in place of a newer one"),
        (ALICE, True, True, OLD_PHONE, "alice puts an older certificate of bob in place of a newer one"),
        (CAROL, True, False, PHONE, "carol may invite, and removes bob, who is in already"),
        (CAROL, True, False, GHOST, "carol may invite, and removes bob, who is in already"),
        (CAROL, False, False, PHONE, ""),
        (CAROL, False, False, GHOST, ""),
        (CAROL, True, True, GHOST, ""),
        (CAROL, False, False, OLD_PHONE, "carol puts an older certificate of bob in place of a newer one"),
        (DAVE, True, False, GHOST, "dave adds bob without being an owner or inviter"),
        (DAVE, False, False, GHOST, "dave adds bob without being an owner or inviter"),
        (DAVE, True, True, GHOST, "dave adds bob without being an owner or inviter"),
    ],
)
def test_a_leaf_is_replaced_in_one_commit(who: Device, answered: bool, left: bool, new: Device, reason: str) -> None:  # noqa: FBT001 - a table
    people = (ALICE, CAROL, DAVE, BOB)
    views = dict(zip(people, group_of(replace(INVITE, inviters=(CAROL.who,)), *people), strict=True))
    if answered:
        fresh = commit(views[BOB])
        for person in (ALICE, CAROL, DAVE):
            staged = views[person].stage(fresh.message, validate=validate, now=NOW)
            assert staged.group is not None
            views[person] = staged.group
    group = views[who]
    gone = departed(group, BOB) if left else NOBODY
    staged = commit(group, Remove(leaf(group, BOB)), add(new))
    if reason:
        refused(staged, reason, gone)
    else:
        allowed(staged, gone)
        assert replacements(staged.public) == (() if new == BOB else ((BOB.certificate, new.certificate),))
    if new != BOB:  # MLS itself refuses one signature key twice
        refused(commit(group, add(new)), "twice|adds bob without|who has left", gone)


@pytest.mark.parametrize(
    ("rules", "who", "answered", "reason"),
    [
        (INVITE, ALICE, True, ""),
        (INVITE, ALICE, False, ""),
        (INVITE, CAROL, True, "carol removes bob without being an owner"),
        (INVITE, CAROL, False, "carol removes bob without being an owner"),
        (replace(INVITE, inviters=(CAROL.who,)), CAROL, True, "carol may invite, and removes bob, who is in already"),
        (replace(INVITE, inviters=(CAROL.who,)), CAROL, False, ""),
        (replace(INVITE, owners=(ALICE.who, BOB.who)), ALICE, True, ""),
        (replace(INVITE, owners=(ALICE.who, BOB.who), inviters=(CAROL.who,)), CAROL, False, "carol may invite"),
        (replace(INVITE, owners=(ALICE.who._replace(account="alicia"),)), ALICE, True, "alice removes bob without"),
        (replace(INVITE, owners=(ALICE.who._replace(identity_key=bytes(32)),)), ALICE, True, "alice removes bob"),
        (OWNED, ALICE, True, ""),
        (OWNED, CAROL, False, "carol removes bob without being an owner"),
        (OPEN, ALICE, True, "alice removes bob without being an owner"),
    ],
)
def test_who_removes_whom(rules: Rules, who: Device, answered: bool, reason: str) -> None:  # noqa: FBT001 - a table
    people = (ALICE, CAROL, BOB)
    views = dict(zip(people, group_of(rules, *people), strict=True))
    group = views[who]
    if answered:
        staged = group.stage(commit(views[BOB]).message, validate=validate, now=NOW)
        assert staged.group is not None
        group = staged.group
    removal = commit(group, Remove(leaf(group, BOB)))
    if reason:
        refused(removal, reason)
    else:
        allowed(removal)
    allowed(removal, departed(group, BOB))  # who has left is removed by anybody


def test_who_has_left_comes_back_to_an_open_room_only() -> None:
    alice = group_of(OPEN, ALICE, BOB)[0]
    allowed(enter(alice, BOB, leaf(alice, BOB)), departed(alice, BOB))
    refused(enter(alice, Device("bob", 1, "again")), "is in the conversation twice", departed(alice, BOB))
    for rules in (INVITE, DIRECT):
        view = group_of(rules, ALICE, BOB)[0]
        refused(enter(view, BOB, leaf(view, BOB)), "comes back after having left", departed(view, BOB))


def test_who_enters_need_not_remove_those_who_have_left() -> None:
    alice = group_of(OPEN, ALICE, BOB)[0]
    allowed(enter(alice, CAROL), departed(alice, BOB))


# --- leaving


def departure(group: Group, number: int = 1) -> bytes:
    """A member's proof that it leaves."""
    data = departure_data(number, group.public.member(group.own_leaf))
    return group.propose(Remove(group.own_leaf), authenticated_data=data)


def test_a_departure_names_its_number_and_its_leaf() -> None:
    (alice,) = group_of(OPEN, ALICE)
    own = alice.public.member(alice.own_leaf)
    assert departure_data(258, own) == bytes(6) + b"\1\2" + hashlib.sha256(own.encode()).digest()


def test_a_proof_of_leaving_has_a_size_that_no_rules_change() -> None:
    barred = tuple(sorted(f"{number:03}{'ä' * (MAX_ACCOUNT - 3)}" for number in range(MAX_BARRED)))
    large = replace(OPEN, barred=barred)
    assert len(large.encode()) > MAX_RULES * 0.95
    alice, bob = group_of(large, ALICE, BOB)
    proposal, state = departure(bob, MAX_COUNT), epoch_state(bob.public)
    assert check_departure(alice.public, proposal, state) == leaf(alice, BOB)
    assert MAX_PROPOSAL * 0.75 < len(proposal) <= MAX_PROPOSAL
    assert len(state) == EPOCH_STATE_LENGTH


def test_a_proof_of_leaving_is_as_long_as_an_offer_has_room_for_whoever_brings_it() -> None:
    """Only members can check the tag, and a restored server takes back what it never saw as a `Leave`."""
    alice, bob = group_of(OPEN, ALICE, BOB)
    message = MLSMessage.decode(departure(bob)).body
    assert isinstance(message, PublicMessage)
    room = MAX_PROPOSAL - len(departure(bob)) + 32 - 1  # a length of 64 or more takes a byte more
    for filler in (bytes(room), bytes(room + 1), bytes(20_000)):
        proposal = MLSMessage(replace(message, membership_tag=filler)).encode()
        if len(filler) == room:
            assert len(proposal) == MAX_PROPOSAL
            assert check_departure(alice.public, proposal) == leaf(alice, BOB)
        else:
            with pytest.raises(PeerError, match="256 are allowed"):
                check_departure(alice.public, proposal)


def test_a_proof_of_leaving_is_for_one_conversation() -> None:
    alice, bob = group_of(OPEN, ALICE, BOB)
    _, elsewhere = group_of(replace(OPEN, name="#other"), ALICE, BOB)
    context = alice.public.context
    assert check_departure(alice.public, departure(bob)) == leaf(alice, BOB)
    with pytest.raises(PeerError, match="another conversation"):
        check_departure(replace(alice.public, context=replace(context, group_id=b"o" * 32)), departure(bob))
    with pytest.raises(PeerError):
        check_departure(alice.public, departure(elsewhere))


def test_who_has_come_back_is_not_taken_out_again_by_an_old_proof() -> None:
    alice, bob = group_of(OPEN, ALICE, BOB)
    old, state = departure(bob), epoch_state(bob.public)
    place = check_departure(alice.public, old, state)
    without = commit(alice, Remove(place)).group
    assert without is not None
    for there, back in ((without, enter(without, BOB)), (alice, enter(alice, BOB, place))):
        after = there.stage(back.message, validate=validate, now=NOW).group
        assert after is not None
        assert back.group is not None
        assert leaf(after, BOB) == place
        with pytest.raises(PeerError, match="come back"):
            check_departure(after.public, old, state)
        again = departure(back.group, 3)
        assert check_departure(after.public, again) == place


def test_a_signed_removal_of_oneself_proves_that_one_has_left_now_and_later() -> None:
    alice, bob = group_of(OPEN, ALICE, BOB)
    proposal, state = departure(bob), epoch_state(bob.public)
    assert check_departure(alice.public, proposal, state) == leaf(alice, BOB)
    entered = alice.stage(enter(alice, CAROL).message, validate=validate, now=NOW).group  # what can be in between
    assert entered is not None
    assert check_departure(entered.public, proposal, state) == leaf(alice, BOB)


def test_a_proof_of_leaving_with_one_thing_wrong_is_refused() -> None:
    alice, bob, carol = group_of(INVITE, ALICE, BOB, CAROL)
    state = epoch_state(alice.public)
    later = commit(alice).group
    without_bob = commit(alice, Remove(leaf(alice, BOB))).group
    assert later is not None
    assert without_bob is not None
    with_dave = commit(without_bob, Add(DAVE.bundle().key_package)).group
    assert with_dave is not None
    assert leaf(with_dave, DAVE) == leaf(alice, BOB)
    good = departure(bob)
    unnamed = bob.propose(Remove(bob.own_leaf))
    number_only = bob.propose(Remove(bob.own_leaf), authenticated_data=bytes(8))
    of_alice = departure_data(1, bob.public.member(leaf(bob, ALICE)))
    message = MLSMessage.decode(good).body
    assert isinstance(message, PublicMessage)
    signature, longer = message.auth.signature, message.content.authenticated_data + b"x"
    other_state = bytes(32) + state[32:]
    for group, proposal, shown, reason in (
        (alice, carol.propose(Remove(leaf(alice, BOB))), state, "something else"),
        (alice, bob.propose_add(DAVE.bundle().key_package, validate=validate, now=NOW), state, "something else"),
        (alice, commit(bob).message, state, "something else"),
        (alice, bob.encrypt(b"bye"), state, "PublicMessage"),
        (found(INVITE), good, state, "another epoch"),
        (alice, good, epoch_state(later.public), "signature"),
        (later, good, b"", "another epoch"),
        (alice, good, other_state, "signature"),
        (alice, good.replace(signature, bytes(64)), state, "signature"),
        (with_dave, good, state, "come back"),
        (alice, unnamed, state, "come back"),
        (alice, number_only, state, "come back"),
        (alice, bob.propose(Remove(bob.own_leaf), authenticated_data=of_alice), state, "come back"),
        (alice, bob.propose(Remove(bob.own_leaf), authenticated_data=longer), state, "come back"),
        (without_bob, good, state, "member|blank|leaf"),
    ):
        assert check_departure(alice.public, good, state) == leaf(alice, BOB)
        with pytest.raises(PeerError, match=reason):
            check_departure(group.public, proposal, shown)


def test_a_judgement_is_the_same_for_the_server_and_for_each_member() -> None:
    alice, bob, carol = group_of(INVITE, ALICE, BOB, CAROL)
    staged = commit(bob, Remove(leaf(bob, CAROL)))
    message = MLSMessage.decode(staged.message).body
    assert isinstance(message, PublicMessage)
    views: Sequence[object] = (
        alice.public.stage(message, validate=validate, now=NOW),
        alice.stage(staged.message, validate=validate, now=NOW).public,
        carol.stage(staged.message, validate=validate, now=NOW).public,
    )
    for view in views:
        assert view == staged.public
    assert certificate_of(staged.public.committer) == BOB.certificate
