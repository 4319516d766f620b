"""Groups that continue others: ReInit and what it closes, what replaces it, branches (RFC 9420, 11.2 and 11.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from securechat.errors import UsageError
from securechat.mls import resumption
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite, cipher_suite
from securechat.mls.errors import CannotDecrypt, InvalidMessage
from securechat.mls.extensions import Extension, Extensions
from securechat.mls.framing import PublicMessage, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, LeafNode, Lifetime
from securechat.mls.proposals import (
    Add,
    PreSharedKey,
    PreSharedKeyId,
    PskType,
    ReInit,
    Remove,
    ResumptionPskUsage,
)
from securechat.mls.public_group import PublicGroup
from securechat.mls.resumption import PastEpoch
from securechat.mls.welcome import Welcome
from tests.mls.forge import Forged, forged_commit
from tests.mls.support import (
    CAPABILITIES,
    EXTENSIONS,
    NOW,
    RULES,
    SUITE,
    Person,
    anyone,
    commit,
    group_of,
    same_view,
    stage,
    state,
)

P384 = cipher_suite(7)
NEW_EXTENSIONS = (Extension(RULES, b"new rules"),)
REINIT = ReInit(b"new group", 1, P384.value, NEW_EXTENSIONS)


def name(leaf: LeafNode) -> bytes:
    """Clients are the same if their credentials say so."""
    return leaf.credential.identity


@dataclass
class Newcomer:
    """A client with keys for a new group."""

    signature: SignaturePrivateKey
    bundle: KeyPackageBundle

    @classmethod
    def named(cls, who: bytes, suite: CipherSuite) -> "Newcomer":
        signature = SignaturePrivateKey.generate(suite)
        capabilities = Capabilities(cipher_suites=(suite.value,), extensions=(RULES,))
        lifetime = Lifetime(NOW - 60, NOW + 60)
        return cls(signature, generate_key_package(suite, Credential.basic(who), signature, capabilities, lifetime))

    def join(self, old: PastEpoch, welcome: bytes) -> Group:
        body = decode_body(welcome, Welcome)
        return resumption.join(old, body, self.bundle, self.signature, identity=name, validate=anyone, now=NOW)


def reinitialize(old: PastEpoch, founder: Newcomer, *others: Newcomer) -> StagedCommit:
    packages = [other.bundle.key_package for other in others]
    return resumption.reinitialize(
        old,
        founder.bundle,
        founder.signature,
        packages,
        tree_in_welcome=True,
        identity=name,
        validate=anyone,
        now=NOW,
    )


def branch(old: PastEpoch, founder: Newcomer, *others: Newcomer) -> StagedCommit:
    packages = [other.bundle.key_package for other in others]
    return resumption.branch(
        old,
        b"branch",
        founder.bundle,
        founder.signature,
        packages,
        tree_in_welcome=True,
        identity=name,
        validate=anyone,
        now=NOW,
    )


def closed(reinit: ReInit = REINIT) -> list[tuple[Person, Group]]:
    """Alice, bob and carol after a commit that closes their group."""
    (a, alice), (b, bob), (c, carol) = group_of("alice", "bob", "carol")
    staged = commit(alice, reinit)
    views = [staged.group, stage(bob, staged.message).group, stage(carol, staged.message).group]
    assert same_view(*views)
    return [(person, view) for person, view in zip((a, b, c), views, strict=True) if view is not None]


# ---- closing


def test_a_commit_of_a_reinit_closes_the_group_for_everybody() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    server = bob.public
    staged = commit(alice, REINIT)
    seen = server.stage(decode_body(staged.message, PublicMessage), validate=anyone, now=NOW)
    assert seen == staged.public
    assert seen.before.reinit is None
    assert seen.after.reinit == REINIT
    group = stage(bob, staged.message).group
    assert group is not None
    assert group.public.reinit == REINIT
    assert PublicGroup.decode(seen.after.encode()) == seen.after


def test_a_closed_group_sends_nothing() -> None:  # 12.4.2-11
    (person, alice), (_, bob), _ = closed()
    carol = Person.named("x").key_package().key_package
    for group in (alice, Group.load(*state(alice), person.keys)):
        before = state(group)
        for send in (
            lambda group=group: group.encrypt(b"x"),
            lambda group=group: group.propose(Remove(bob.own_leaf)),
            lambda group=group: group.propose_update(),
            lambda group=group: commit(group, Add(carol)),
            lambda group=group: commit(group),
            lambda group=group: group.group_info(with_tree=True),
        ):
            with pytest.raises(UsageError, match="closed by a ReInit"):
                send()
        assert state(group) == before


def open_twin(group: Group, person: Person) -> Group:
    """A member's view that does not know that the group is closed."""
    twin = Group.load(*state(group), person.keys)
    twin.public = replace(twin.public, reinit=None)
    return twin


def test_a_closed_group_takes_nothing() -> None:
    (person, alice), (_, bob), _ = closed()
    open_alice = open_twin(alice, person)
    external = Person.named("x").join_external(open_alice.group_info(with_tree=True), None).message
    committed, proposed = commit(open_alice), open_alice.propose(Remove(bob.own_leaf))
    before = state(bob)
    with pytest.raises(InvalidMessage, match="closed by a ReInit"):
        bob.decrypt(open_alice.encrypt(b"x"))
    for message in (committed.message, external):
        with pytest.raises(InvalidMessage, match="closed by a ReInit"):
            stage(bob, message)
        with pytest.raises(InvalidMessage, match="closed by a ReInit"):
            bob.public.stage(decode_body(message, PublicMessage), validate=anyone, now=NOW)
    with pytest.raises(InvalidMessage, match="closed by a ReInit"):
        bob.receive_proposal(proposed)
    with pytest.raises(InvalidMessage, match="closed by a ReInit"):
        bob.public.verify_proposal(decode_body(proposed, PublicMessage))
    assert state(bob) == before
    bob.public = replace(bob.public, reinit=None)  # the twin: nothing else was wrong with them
    assert bob.decrypt(open_alice.encrypt(b"x")).plaintext == b"x"
    assert same_view(committed.group, stage(bob, committed.message).group)


def test_a_reinit_by_reference_gives_way_to_other_proposals_and_stands_alone() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    reinit, update = bob.propose(REINIT), bob.propose_update()
    for group in (alice, carol):
        group.receive_proposal(reinit)
    assert commit(alice).public.after.reinit == REINIT
    assert commit(alice, Remove(carol.own_leaf)).public.after.reinit is None
    assert commit(alice, ReInit(b"other", 1, 1, ())).public.after.reinit == ReInit(b"other", 1, 1, ())
    alice.receive_proposal(update)
    carol.receive_proposal(update)
    staged = commit(alice)
    assert [type(entry.proposal).__name__ for entry in staged.public.proposals] == ["Update"]
    assert same_view(staged.group, stage(carol, staged.message).group)


# ---- the group that replaces a closed one


def test_any_member_makes_the_new_group_and_the_others_join_it() -> None:  # 12.4.1-3
    views = [PastEpoch.of(group) for _, group in closed()]
    alice, bob, carol = (Newcomer.named(who, P384) for who in (b"alice", b"bob", b"carol"))
    staged = reinitialize(views[1], bob, alice, carol)
    assert staged.group is not None
    assert staged.welcome is not None
    link = resumption.continued_epoch(decode_body(staged.welcome, Welcome), carol.bundle)
    assert link is not None
    assert (link.usage, link.group_id, link.epoch) == (ResumptionPskUsage.REINIT, b"group", 2)
    groups = [staged.group, alice.join(views[0], staged.welcome)]
    groups.append(carol.join(PastEpoch.decode(views[2].encode()), staged.welcome))
    assert same_view(*groups)
    for group in groups:
        assert (group.group_id, group.epoch, group.suite) == (b"new group", 1, P384)
        assert group.public.extensions == NEW_EXTENSIONS
    assert groups[2].decrypt(groups[1].encrypt(b"hello")).plaintext == b"hello"


def test_a_public_group_follows_the_first_commit_of_a_new_group() -> None:
    old = PastEpoch.of(closed()[0][1])
    alice, bob, carol = (Newcomer.named(who, P384) for who in (b"alice", b"bob", b"carol"))
    staged = reinitialize(old, alice, bob, carol)
    server = PublicGroup.decode(staged.public.before.encode())
    seen = server.stage(decode_body(staged.message, PublicMessage), validate=anyone, now=NOW)
    assert seen == staged.public


def test_a_group_that_nobody_closed_cannot_be_replaced_and_a_closed_one_not_be_branched() -> None:
    (_, alice), _ = group_of("alice", "bob")
    with pytest.raises(UsageError, match="commit a ReInit first"):
        reinitialize(PastEpoch.of(alice), Newcomer.named(b"alice", P384), Newcomer.named(b"bob", P384))
    ((_, alice), *_) = closed()
    with pytest.raises(UsageError, match="closed group cannot be branched"):
        branch(PastEpoch.of(alice), Newcomer.named(b"alice", SUITE))


def test_the_new_group_has_to_be_what_the_reinit_asks_for() -> None:  # 11.2-1, 12.4.3.1-17
    alice, bob, carol = (Newcomer.named(who, P384) for who in (b"alice", b"bob", b"carol"))
    for reinit in (replace(REINIT, version=2), replace(REINIT, cipher_suite=5)):
        with pytest.raises(InvalidMessage, match="than its ReInit says"):
            reinitialize(PastEpoch.of(closed(reinit)[0][1]), alice, bob, carol)
    old = PastEpoch.of(closed()[0][1])
    with pytest.raises(InvalidMessage, match="lacks a member"):
        reinitialize(old, alice, bob)
    reinitialize(old, alice, bob, carol)


# ---- Welcomes that a dishonest member can make (in suite 1, which the forge knows)

SAME_SUITE = replace(REINIT, cipher_suite=SUITE.value)


def linked(old: PastEpoch, **changes: object) -> PreSharedKeyId:
    """A link to an epoch; `changes` are fields of PreSharedKeyId."""
    public = old.public
    link = PreSharedKeyId(
        PskType.RESUMPTION, bytes(32), usage=old.usage, group_id=public.group_id, epoch=public.epoch
    )
    return replace(link, **changes)  # type: ignore[arg-type]  # fields of the link


def forged(
    old: PastEpoch,
    founder: Person,
    packages: Sequence[KeyPackageBundle],
    psks: Sequence[PreSharedKeyId],
    *,
    group_id: bytes = REINIT.group_id,
    extensions: Extensions = NEW_EXTENSIONS,
    epoch: int = 0,
) -> Forged:
    """The first commit of a new group, or one in a later epoch, unchecked."""
    group: Group | None = Group.create(group_id, founder.key_package(), founder.signature, extensions=extensions)
    for _ in range(epoch):
        assert group is not None
        group = commit(group).group
    assert group is not None
    proposals = [*(Add(bundle.key_package) for bundle in packages), *(PreSharedKey(psk) for psk in psks)]
    return forged_commit(group, founder, proposals, psks=lambda _: bytes(old.resumption_psk))


def enter(old: PastEpoch, welcome: bytes, bundle: KeyPackageBundle, person: Person) -> Group:
    body = decode_body(welcome, Welcome)
    return resumption.join(
        old, body, bundle, person.signature, psks=lambda _: bytes(old.resumption_psk), identity=name, validate=anyone,
        now=NOW,
    )


def test_a_welcome_that_does_not_replace_the_closed_group_as_agreed_is_refused() -> None:  # 11.2-1, 11.2-2, 11.2-3
    # 12.4.3.1-4, 12.4.3.1-15, 12.4.3.1-16, 12.4.3.1-17
    (alice, group), (bob, _), (carol, _) = closed(SAME_SUITE)
    old = PastEpoch.of(group)
    link = linked(old)
    bundles = [bob.key_package(), carol.key_package()]
    application = linked(old, usage=ResumptionPskUsage.APPLICATION)
    for wrong, reason in (
        (forged(old, alice, bundles, []), "exactly one old one"),
        (forged(old, alice, bundles, [application]), "exactly one old one"),
        (forged(old, alice, bundles, [link, replace(link, nonce=bytes([1] * 32))]), "exactly one old one"),
        (forged(old, alice, bundles, [replace(link, epoch=1)]), "another epoch"),
        (forged(old, alice, bundles, [replace(link, group_id=b"other")]), "another epoch"),
        (forged(old, alice, bundles, [replace(link, usage=ResumptionPskUsage.BRANCH)]), "another purpose"),
        (forged(old, alice, bundles, [link], epoch=1), "in epoch 1"),
        (forged(old, alice, bundles, [link], group_id=b"other"), "than its ReInit says"),
        (forged(old, alice, bundles, [link], extensions=EXTENSIONS), "than its ReInit says"),
        (forged(old, alice, bundles[:1], [link]), "lacks a member"),
    ):
        with pytest.raises(InvalidMessage, match=reason):
            enter(old, wrong.welcome(bundles[0].key_package), bundles[0], bob)
    good = forged(old, alice, bundles, [link]).welcome(bundles[0].key_package)
    assert enter(old, good, bundles[0], bob).epoch == 1
    # With an application PSK beside the link, and with more members than before, it still replaces the old group.
    more = [*bundles, Person.named("dave").key_package()]
    good = forged(old, alice, more, [application, link]).welcome(bundles[0].key_package)
    assert enter(old, good, bundles[0], bob).epoch == 1


def test_only_who_was_there_can_make_or_enter_the_new_group() -> None:
    (alice, group), (bob, _), (carol, _) = closed(SAME_SUITE)
    old = PastEpoch.of(group)
    stranger = replace(old, resumption_psk=Secret(bytes(32)))
    bundles = [bob.key_package(), carol.key_package()]
    welcome = forged(stranger, alice, bundles, [linked(old)]).welcome(bundles[0].key_package)
    with pytest.raises(CannotDecrypt):
        enter(old, welcome, bundles[0], bob)
    welcome = forged(old, alice, bundles, [linked(old)]).welcome(bundles[0].key_package)
    with pytest.raises(CannotDecrypt):
        enter(stranger, welcome, bundles[0], bob)
    enter(old, welcome, bundles[0], bob)


def test_a_welcome_that_replaces_a_group_which_is_open_is_refused() -> None:  # 12.4.3.1-16
    (alice, group), (bob, _) = group_of("alice", "bob")
    old = PastEpoch.of(group)
    bundle = bob.key_package()
    link = linked(old, usage=ResumptionPskUsage.REINIT)
    welcome = forged(old, alice, [bundle], [link]).welcome(bundle.key_package)
    with pytest.raises(InvalidMessage, match="another purpose"):
        enter(old, welcome, bundle, bob)
    welcome = forged(old, alice, [bundle], [linked(old)]).welcome(bundle.key_package)
    enter(old, welcome, bundle, bob)


# ---- branches


def test_some_members_branch_and_the_old_group_goes_on() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    old = PastEpoch.of(alice)
    in_branch = [Newcomer.named(who, SUITE) for who in (b"alice", b"carol")]
    staged = branch(old, *in_branch)
    assert staged.welcome is not None
    joined = in_branch[1].join(PastEpoch.of(carol), staged.welcome)
    assert same_view(staged.group, joined)
    assert (joined.group_id, joined.epoch, joined.public.extensions) == (b"branch", 1, EXTENSIONS)
    assert bob.decrypt(alice.encrypt(b"still here")).plaintext == b"still here"
    assert same_view(stage(bob, commit(alice).message).group)


def test_a_branch_of_a_past_epoch_is_joined_by_who_kept_it() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    kept = PastEpoch.of(bob)
    founder, member = Newcomer.named(b"alice", SUITE), Newcomer.named(b"bob", SUITE)
    staged = branch(PastEpoch.of(alice), founder, member)
    later = stage(bob, commit(alice).message).group
    assert later is not None
    assert staged.welcome is not None
    with pytest.raises(InvalidMessage, match="another epoch"):
        member.join(PastEpoch.of(later), staged.welcome)
    assert same_view(staged.group, member.join(kept, staged.welcome))


def test_a_branch_has_no_strangers_and_the_same_suite() -> None:  # 11.3-2, 11.3-4, 12.4.3.1-18
    (alice, group), (bob, _), _ = group_of("alice", "bob", "carol")
    old = PastEpoch.of(group)
    founder, stranger = Newcomer.named(b"alice", SUITE), Newcomer.named(b"mallory", SUITE)
    with pytest.raises(InvalidMessage, match="a member that its group does not have"):
        branch(old, founder, stranger)
    with pytest.raises(InvalidMessage, match="another cipher suite than its group"):
        branch(old, Newcomer.named(b"alice", P384), Newcomer.named(b"bob", P384))
    bundle, mallory = bob.key_package(), Person.named("mallory").key_package()
    wrong = forged(old, alice, [bundle, mallory], [linked(old)]).welcome(bundle.key_package)
    with pytest.raises(InvalidMessage, match="a member that its group does not have"):
        enter(old, wrong, bundle, bob)
    good = forged(old, alice, [bundle], [linked(old)]).welcome(bundle.key_package)
    assert enter(old, good, bundle, bob).group_id == REINIT.group_id


def test_a_branch_is_entered_in_its_first_epoch() -> None:  # 11.3-3, 12.4.3.1-15
    (alice, group), (bob, _) = group_of("alice", "bob")
    old, bundle = PastEpoch.of(group), bob.key_package()
    later = forged(old, alice, [bundle], [linked(old)], epoch=1).welcome(bundle.key_package)
    with pytest.raises(InvalidMessage, match="in epoch 1"):
        enter(old, later, bundle, bob)
    first = forged(old, alice, [bundle], [linked(old)]).welcome(bundle.key_package)
    assert enter(old, first, bundle, bob).epoch == 1


def test_each_link_has_a_nonce_of_its_own() -> None:  # 11.3-1
    (_, group), _ = group_of("alice", "bob")
    old, founder, member = PastEpoch.of(group), Newcomer.named(b"alice", SUITE), Newcomer.named(b"bob", SUITE)
    nonces = {
        entry.proposal.psk.nonce
        for _ in range(3)
        for entry in branch(old, founder, member).public.proposals
        if isinstance(entry.proposal, PreSharedKey)
    }
    assert [len(nonce) for nonce in nonces] == [SUITE.hash_size] * 3


def test_links_are_for_the_first_commit_of_a_member_only() -> None:  # 11.2-4, 11.3-5
    (_, group), _ = group_of("alice", "bob")
    link = PreSharedKey(linked(PastEpoch.of(group)))
    founder = Person.named("alice")
    created = founder.create(b"new")
    commit(created, link, psks=lambda _: b"secret")
    with pytest.raises(InvalidMessage, match="more than one old one"):
        commit(created, link, PreSharedKey(replace(link.psk, nonce=bytes([1] * 32))), psks=lambda _: b"secret")
    second = commit(created).group
    assert second is not None
    with pytest.raises(InvalidMessage, match="only for new groups"):
        commit(second, link, psks=lambda _: b"secret")
    with pytest.raises(InvalidMessage, match="only for new groups"):
        Group.join_external(
            decode_body(created.group_info(with_tree=True), GroupInfo),
            None,
            Person.named("bob").signature,
            credential=Credential.basic(b"bob"),
            capabilities=CAPABILITIES,
            psk_ids=[link.psk],
            psks=lambda _: b"secret",
            validate=anyone,
            now=NOW,
        )


def test_a_past_epoch_does_not_show_its_secret() -> None:
    (_, alice), _ = group_of("alice", "bob")
    old = PastEpoch.of(alice)
    assert old.resumption_psk.hex() not in repr(old)
    assert PastEpoch.decode(old.encode()) == old
