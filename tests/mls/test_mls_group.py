"""Groups of our own members: every way in, every way out, and talking in between."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from securechat.errors import DecodeError, UsageError
from securechat.mls import public_group
from securechat.mls.credential import Credential
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.errors import InvalidMessage, OutsideLifetime, WrongEpoch
from securechat.mls.extensions import Extension, ExtensionType, ExternalSender
from securechat.mls.external_proposals import propose_as_external_sender, propose_own_add
from securechat.mls.framing import (
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    WireFormat,
    decode_body,
    read_header,
)
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_context import GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, LeafNode, Lifetime
from securechat.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    PskType,
    ReInit,
    Remove,
    ResumptionPskUsage,
)
from securechat.mls.public_group import MAX_REMEMBERED_PROPOSALS, PublicGroup, verify_group_info
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import node_of
from securechat.mls.treekem import PathSecret, TreePrivateKeys
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Writer
from tests.mls import forge
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


def after(*groups: Group, message: bytes) -> list[Group]:
    """These members' views once they have accepted a commit."""
    staged = [stage(group, message).group for group in groups]
    assert same_view(*staged)
    return [group for group in staged if group is not None]


def test_everyone_reads_what_anyone_writes() -> None:
    groups = [group for _, group in group_of("alice", "bob", "carol", "dave", "erin")]
    for sender in groups:
        for number in range(3):
            text = b"%d from %d" % (number, sender.own_leaf)
            message = sender.encrypt(text, authenticated_data=b"header", padding=number * 7)
            for receiver in groups:
                if receiver is not sender:
                    received = receiver.decrypt(message)
                    assert (received.sender, received.plaintext) == (sender.own_leaf, text)
                    assert received.authenticated_data == b"header"


def test_a_creator_alone_can_commit_and_then_add() -> None:
    alice, bob = Person.named("alice"), Person.named("bob")
    staged = commit(alice.create())
    assert staged.welcome is None
    assert staged.group is not None
    bundle = bob.key_package()
    staged = commit(staged.group, Add(bundle.key_package))
    assert staged.welcome is not None
    assert same_view(staged.group, bob.join(staged.welcome, bundle))


def test_a_welcome_without_the_tree_needs_the_tree_from_elsewhere() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    staged = commit(alice, Add(bundle.key_package), tree_in_welcome=False)
    assert staged.welcome is not None
    assert staged.public.new_member_refs == {bundle.key_package.reference(alice.suite)}
    body = decode_body(staged.welcome, Welcome)
    assert body.new_member_refs == staged.public.new_member_refs
    with pytest.raises(InvalidMessage, match="no ratchet tree"):
        carol.join(staged.welcome, bundle)
    with pytest.raises(InvalidMessage, match="not the one"):
        carol.join(staged.welcome, bundle, tree=alice.public.tree)
    tree = RatchetTree.decode(staged.public.after.tree.encode())
    joined = carol.join(staged.welcome, bundle, tree=tree)
    assert same_view(joined, staged.group, *after(bob, message=staged.message))


def test_a_removed_member_learns_of_it_and_reads_nothing_more() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    staged = commit(alice, Remove(bob.own_leaf))
    for_bob = stage(bob, staged.message)
    assert for_bob.removed_us
    assert [leaf for leaf, _ in for_bob.public.removed] == [bob.own_leaf]
    (carol,) = after(carol, message=staged.message)
    assert staged.group is not None
    message = staged.group.encrypt(b"bob is gone")
    assert carol.decrypt(message).plaintext == b"bob is gone"
    before = state(bob)
    with pytest.raises(WrongEpoch):
        bob.decrypt(message)
    assert state(bob) == before


def test_a_removed_member_cannot_follow_by_pretending_that_another_was_removed() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    staged = commit(alice, Remove(bob.own_leaf))
    assert staged.group is not None
    message = decode_body(staged.group.encrypt(b"bob is gone"), PrivateMessage)
    # Whatever epoch the message claims, bob's keys do not open it.
    forged = MLSMessage(replace(message, epoch=bob.epoch)).encode()
    for member in (bob, carol):
        with pytest.raises(InvalidMessage):
            member.decrypt(forged)


def test_an_external_joiner_is_in_after_its_commit() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    staged = carol.join_external(alice.group_info(with_tree=True), None)
    alice, bob = after(alice, bob, message=staged.message)
    assert staged.group is not None
    assert same_view(alice, staged.group)
    assert bob.decrypt(staged.group.encrypt(b"hello")).plaintext == b"hello"
    assert staged.group.decrypt(bob.encrypt(b"welcome")).plaintext == b"welcome"


def test_resync_puts_a_member_that_lost_its_state_in_its_old_place() -> None:
    people = group_of("alice", "bob", "carol")
    (_, alice), (bob_person, bob), (_, carol) = people
    info = alice.group_info(with_tree=False)
    tree = RatchetTree.decode(alice.public.tree.encode())
    staged = bob_person.join_external(info, tree, old=bob.own_leaf)
    assert [leaf for leaf, _ in staged.public.removed] == [bob.own_leaf]
    assert staged.public.committer_leaf == bob.own_leaf
    assert stage(bob, staged.message).removed_us
    alice, carol = after(alice, carol, message=staged.message)
    assert staged.group is not None
    assert same_view(alice, staged.group)


def test_external_joins_follow_each_other_by_the_group_info_of_the_commit_before() -> None:
    ((_, alice),) = group_of("alice")
    group_info, tree = alice.group_info(with_tree=False), alice.public.tree
    members = [alice]
    for number in range(9):
        staged = Person.named(f"joiner {number}").join_external(group_info, tree)
        members = after(*members, message=staged.message)
        assert staged.group is not None
        assert staged.group_info is not None
        members.append(staged.group)
        group_info, tree = staged.group_info, staged.public.after.tree
    assert same_view(*members)


def test_proposals_take_effect_by_reference() -> None:
    (_, alice), (_, bob), (_, carol), (_, dave) = group_of("alice", "bob", "carol", "dave")
    erin = Person.named("erin")
    bundle = erin.key_package()
    update = bob.propose_update(credential=Credential.basic(b"bob, renewed"))
    leaving = carol.propose(Remove(carol.own_leaf))
    add = dave.propose_add(bundle.key_package, validate=anyone, now=NOW)
    for member in (alice, bob, carol, dave):
        for message, proposer in ((update, bob), (leaving, carol), (add, dave)):
            if member is not proposer:
                member.receive_proposal(message)
    staged = commit(alice)
    assert {type(entry.proposal).__name__ for entry in staged.public.proposals} == {"Update", "Remove", "Add"}
    assert all(entry.by_reference for entry in staged.public.proposals)
    assert stage(carol, staged.message).removed_us
    bob, dave = after(bob, dave, message=staged.message)
    assert staged.welcome is not None
    joined = erin.join(staged.welcome, bundle)
    assert same_view(staged.group, bob, joined)
    assert dave.public.member(bob.own_leaf).credential.identity == b"bob, renewed"
    assert joined.decrypt(bob.encrypt(b"hi")).plaintext == b"hi"


def test_a_leaver_cannot_commit_its_own_removal_and_others_can() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    alice.receive_proposal(bob.propose(Remove(bob.own_leaf)))
    assert commit(bob).public.removed == ()
    assert [leaf for leaf, _ in commit(alice).public.removed] == [bob.own_leaf]


def test_a_remembered_proposal_that_is_invalid_does_not_stop_a_commit() -> None:
    (_, alice), (_, bob), (_, _carol) = group_of("alice", "bob", "carol")
    twin = Person(b"alice", Person.named("x").signature)
    good, bad = twin.key_package(), Person.named("late").key_package()
    alice.receive_proposal(bob.propose_add(bad.key_package, validate=anyone, now=NOW))
    alice.receive_proposal(bob.propose_add(good.key_package, validate=anyone, now=NOW))

    def nobody_late(leaf: LeafNode | ExternalSender, /, *, entering: bool) -> None:  # noqa: ARG001 - refused whatever it does
        if leaf.credential.identity == b"late":
            raise InvalidMessage("late")

    staged = commit(alice, validate=nobody_late)
    assert [leaf.signature_key for _, leaf in staged.public.added] == [twin.signature.public_key]


def test_a_proposal_that_is_invalid_does_not_displace_a_valid_one_about_the_same_thing() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    good, bad = (Extension(RULES, b"new"),), (*EXTENSIONS, Extension(ExtensionType.EXTERNAL_SENDERS, b"no list"))
    alice.receive_proposal(bob.propose(GroupContextExtensions(good)))
    alice.receive_proposal(carol.propose(GroupContextExtensions(bad)))
    assert commit(alice).public.after.extensions == good


def test_of_proposals_that_do_not_go_together_the_first_take_effect() -> None:
    (_, alice), (_, bob), *_ = group_of("alice", "bob")
    first = Person.named("first").key_package()
    rivals = [forge.forged_key_package(Person.named(str(number)), leaf=_with_key_of(first)) for number in range(3)]
    others = [Person.named(name).key_package() for name in ("dave", "erin", "frank")]
    for package in [first.key_package, *rivals, *(bundle.key_package for bundle in others)]:
        alice.receive_proposal(bob.propose_add(package, validate=anyone, now=NOW))
    added = [leaf for _, leaf in commit(alice).public.added]
    assert added == [bundle.key_package.leaf_node for bundle in (first, *others)]


def _with_key_of(bundle: KeyPackageBundle) -> Callable[[LeafNode], LeafNode]:
    return lambda leaf: replace(leaf, encryption_key=bundle.key_package.leaf_node.encryption_key)


def test_what_is_remembered_for_commits_is_bounded() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    long = (Extension(RULES, bytes(public_group.MAX_REMEMBERED_PROPOSAL)),)
    with pytest.raises(InvalidMessage, match="bytes; at most"):
        bob.propose(GroupContextExtensions(long))
    context = alice.public.context
    carol = Person.named("carol")
    requests = (
        propose_own_add(context, carol.key_package().key_package, carol.signature, now=NOW)
        for _ in range(public_group.MAX_REMEMBERED_REQUESTS + 1)
    )
    for _ in range(public_group.MAX_REMEMBERED_REQUESTS):
        alice.receive_proposal(next(requests))
    before = state(alice)
    with pytest.raises(InvalidMessage, match="too many have asked"):
        alice.receive_proposal(next(requests))
    assert state(alice) == before
    alice.receive_proposal(bob.propose_update())  # a member still has room


def test_nobody_proposes_to_add_by_a_key_package_that_has_expired() -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol = Person.named("carol")
    old = carol.key_package(Lifetime(NOW - 60, NOW - 1)).key_package
    context, before = alice.public.context, state(alice)
    ways: list[Callable[[KeyPackage], bytes]] = [
        lambda package: alice.propose_add(package, validate=anyone, now=NOW),
        lambda package: propose_own_add(context, package, carol.signature, now=NOW),
        lambda package: propose_as_external_sender(context, 0, Add(package), carol.signature, now=NOW),
    ]
    for propose in ways:
        with pytest.raises(OutsideLifetime):
            propose(old)
        assert state(alice) == before
        propose(carol.key_package().key_package)
        alice.public = alice.public.decode(before[0])
    with pytest.raises(UsageError, match="propose_add"):
        alice.propose(Add(old))


def test_an_extension_type_that_occurs_twice_leaves_nobody() -> None:
    """Others could not read it, and we could not read our own saved state again."""
    twice = (Extension(RULES, b"one"), Extension(RULES, b"two"))
    person = Person.named("alice")
    (_, alice), _ = group_of("alice", "bob")
    before = state(alice)
    for make in (
        lambda: person.create(extensions=twice),
        lambda: generate_key_package(
            SUITE, person.credential, person.signature, CAPABILITIES, Lifetime(NOW, NOW), extensions=twice
        ),
        lambda: generate_key_package(
            SUITE, person.credential, person.signature, CAPABILITIES, Lifetime(NOW, NOW), leaf_extensions=twice
        ),
        lambda: commit(alice, leaf_extensions=twice),
        lambda: commit(alice, GroupContextExtensions(twice)),
        lambda: commit(alice, ReInit(b"new", 1, SUITE.value, twice)),
        lambda: alice.propose(GroupContextExtensions(twice)),
    ):
        with pytest.raises(UsageError, match="occurs twice"):
            make()
        assert state(alice) == before


def test_a_pre_shared_key_has_a_usage_if_it_is_of_a_resumption() -> None:
    with pytest.raises(UsageError, match="usage"):
        PreSharedKeyId(PskType.RESUMPTION, bytes(32))
    with pytest.raises(UsageError, match="usage"):
        PreSharedKeyId(PskType.EXTERNAL, bytes(32), usage=ResumptionPskUsage.APPLICATION)


def test_a_commit_may_change_everything_that_the_own_leaf_says() -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    carol, bundle = (carol := Person.named("carol")), carol.key_package()
    key, more = SignaturePrivateKey.generate(SUITE), replace(CAPABILITIES, extensions=(RULES, 0xF002))
    staged = commit(
        alice,
        Add(bundle.key_package),
        credential=Credential.basic(b"alice, renewed"),
        capabilities=more,
        leaf_extensions=(Extension(0xF002, b"said by the leaf"),),
        signature_private=key,
    )
    assert staged.group is not None
    assert staged.welcome is not None
    leaf = staged.group.public.member(alice.own_leaf)
    assert (leaf.signature_key, leaf.capabilities, leaf.extensions[0].type) == (key.public_key, more, 0xF002)
    follower = stage(bob, staged.message).group
    assert follower is not None
    newcomer = carol.join(staged.welcome, bundle)  # its GroupInfo is signed by the new key
    assert same_view(staged.group, follower, newcomer)
    taken_up = StagedCommit.decode(staged.encode(), {**person.keys, key.public_key: key}).group
    assert taken_up is not None
    assert follower.decrypt(taken_up.encrypt(b"with the new key")).plaintext == b"with the new key"
    with pytest.raises(UsageError, match="signature key"):
        StagedCommit.decode(staged.encode(), person.keys)


def test_a_committer_can_bring_the_support_for_new_extensions_in_the_same_commit() -> None:
    new = GroupContextExtensions((*EXTENSIONS, Extension(0xF002, b"")))
    more = replace(CAPABILITIES, extensions=(RULES, 0xF002))
    (_, alone), = group_of("alice")
    with pytest.raises(InvalidMessage, match="lack an extension of the group"):
        commit(alone, new)
    assert commit(alone, new, capabilities=more).public.after.extensions == new.extensions
    (_, alice), _ = group_of("alice", "bob")
    with pytest.raises(InvalidMessage, match="lack an extension of the group"):
        commit(alice, new, capabilities=more)  # bob lacks it


def test_an_update_may_change_what_the_leaf_says() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    more = replace(CAPABILITIES, extensions=(RULES, 0xF002))
    update = bob.propose_update(capabilities=more, leaf_extensions=(Extension(0xF002, b"x"),))
    alice.receive_proposal(update)
    staged = commit(alice)
    assert staged.public.after.member(bob.own_leaf).capabilities == more
    assert same_view(staged.group, stage(bob, staged.message).group)


@pytest.mark.parametrize("padding", [-1, 1 << 30])
def test_a_padding_that_no_message_holds_is_refused(padding: int) -> None:
    (_, alice), _ = group_of("alice", "bob")
    before = state(alice)
    with pytest.raises(UsageError, match="padded"):
        alice.encrypt(b"text", padding=padding)
    assert state(alice) == before


def test_a_remembered_pre_shared_key_that_we_lack_does_not_stop_a_commit() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    psk = PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name"))
    alice.receive_proposal(bob.propose(psk))
    assert commit(alice).public.proposals == ()
    assert [entry.proposal for entry in commit(alice, psks=lambda _: b"secret").public.proposals] == [psk]
    with pytest.raises(InvalidMessage, match="not known"):
        commit(alice, psk)


def test_of_two_proposals_about_one_member_the_removal_wins() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    update = bob.propose_update()
    remove = carol.propose(Remove(bob.own_leaf))
    for message in (remove, update):
        alice.receive_proposal(message)
    carol.receive_proposal(update)
    bob.receive_proposal(remove)
    staged = commit(alice)
    assert [type(entry.proposal) for entry in staged.public.proposals] == [Remove]
    assert stage(bob, staged.message).removed_us
    after(carol, message=staged.message)


def test_a_proposal_by_value_wins_over_the_same_by_reference() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    alice.receive_proposal(carol.propose(Remove(bob.own_leaf)))
    staged = commit(alice, Remove(bob.own_leaf))
    assert [entry.by_reference for entry in staged.public.proposals] == [False]


def test_a_commit_can_replace_the_rules_and_renew_the_credential() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    changed = (Extension(RULES, b"other rules"),)
    staged = commit(alice, GroupContextExtensions(changed), credential=Credential.basic(b"alice, renewed"))
    (bob,) = after(bob, message=staged.message)
    assert bob.public.extensions == changed != EXTENSIONS
    assert bob.public.member(alice.own_leaf).credential.identity == b"alice, renewed"
    assert staged.public.committer.credential.identity == b"alice"


def test_a_pre_shared_key_must_be_known_to_all() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    proposal = PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name"))
    staged = commit(alice, proposal, psks=lambda _: b"secret")
    with pytest.raises(InvalidMessage, match="not known"):
        stage(bob, staged.message)
    with pytest.raises(InvalidMessage, match="confirmation tag"):
        bob.stage(staged.message, psks=lambda _: b"other", validate=anyone, now=NOW)
    assert same_view(
        staged.group, bob.stage(staged.message, psks=lambda _: b"secret", validate=anyone, now=NOW).group
    )


def test_a_joiner_can_mix_pre_shared_keys_into_its_external_commit() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    external = PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name")
    earlier = PreSharedKeyId(
        PskType.RESUMPTION,
        bytes(32),
        usage=ResumptionPskUsage.APPLICATION,
        group_id=alice.group_id,
        epoch=alice.epoch,
    )
    keys = {external: b"secret", earlier: bytes(alice.resumption_psk)}

    def joined(*psk_ids: PreSharedKeyId) -> StagedCommit:
        return Group.join_external(
            decode_body(alice.group_info(with_tree=True), GroupInfo),
            None,
            carol.signature,
            credential=carol.credential,
            capabilities=CAPABILITIES,
            psk_ids=psk_ids,
            psks=keys.__getitem__,
            validate=anyone,
            now=NOW,
        )

    staged = joined(external, earlier)
    assert [type(entry.proposal) for entry in staged.public.proposals] == [ExternalInit, PreSharedKey, PreSharedKey]
    with pytest.raises(InvalidMessage, match="not known"):
        stage(bob, staged.message)
    with pytest.raises(InvalidMessage, match="confirmation tag"):
        bob.stage(staged.message, psks=lambda _: b"other", validate=anyone, now=NOW)
    taken = bob.stage(staged.message, psks=keys.__getitem__, validate=anyone, now=NOW)
    assert same_view(staged.group, taken.group)
    with pytest.raises(InvalidMessage, match="key twice"):
        joined(external, external)


def test_a_commit_can_leave_out_its_path_where_it_may() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    psk = PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=b"name"))
    key = alice.public.member(alice.own_leaf).encryption_key
    staged = commit(alice, psk, omit_path=True, psks=lambda _: b"secret")
    assert not staged.public.has_path
    assert staged.public.after.member(alice.own_leaf).encryption_key == key
    assert len(staged.message) < len(commit(alice, psk, psks=lambda _: b"secret").message)
    assert staged.group is not None
    follower = bob.stage(staged.message, psks=lambda _: b"secret", validate=anyone, now=NOW).group
    assert follower is not None
    assert same_view(staged.group, follower)
    # Without a path nobody lost a key: each can make the next commit, with one.
    for committer, other in ((staged.group, follower), (follower, staged.group)):
        made = commit(committer)
        assert made.public.has_path
        after(other, message=made.message)


def test_a_newcomer_comes_in_by_a_commit_without_a_path_too() -> None:
    """Which others make. Ours would have one, so that no two Welcomes are encrypted under one key and nonce."""
    (person, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    add = Add(bundle.key_package)
    theirs = forge.forged_commit(alice, person, [add], with_path=False)
    body = decode_body(theirs.welcome(bundle.key_package), Welcome)
    reference = bundle.key_package.reference(alice.suite)
    assert GroupSecrets.decrypt_from(alice.suite, body, reference, bundle.init_private).path_secret is None
    newcomer = Group.join(body, bundle, carol.signature, validate=anyone, now=NOW)
    staged = stage(bob, theirs.message)
    assert not staged.public.has_path
    assert same_view(staged.group, newcomer)
    made = commit(newcomer)
    assert staged.group is not None
    after(staged.group, message=made.message)

    first, second = (commit(alice, add, omit_path=True, tree_in_welcome=with_tree) for with_tree in (True, False))
    assert first.public.has_path
    assert first.message != second.message


def test_a_commit_that_needs_its_path_has_one_even_if_it_is_to_be_left_out() -> None:
    (_, alice), (_, bob), (_, carol) = group_of("alice", "bob", "carol")
    for made in (
        commit(alice, omit_path=True),
        commit(alice, Remove(carol.own_leaf), omit_path=True),
        commit(alice, GroupContextExtensions(EXTENSIONS), omit_path=True),
        commit(
            alice,
            Add(Person.named("dave").key_package().key_package),
            credential=Credential.basic(b"alice, renewed"),
            omit_path=True,
        ),
    ):
        assert made.public.has_path
        assert same_view(made.group, stage(bob, made.message).group)


GREASE = 0x0A0A, 0x9A9A, 0xEAEA


def test_values_that_nobody_knows_are_carried_along_where_the_rfc_lets_them_stand() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    capabilities = Capabilities(
        versions=(1, *GREASE),
        cipher_suites=(alice.suite.value, *GREASE),
        extensions=(RULES, *GREASE),
        proposals=GREASE,
        credentials=(1, *GREASE),
    )
    noise = tuple(Extension(kind, b"noise") for kind in GREASE)
    bundle = generate_key_package(
        alice.suite,
        carol.credential,
        carol.signature,
        capabilities,
        Lifetime(NOW - 60, NOW + 60),
        extensions=noise,
        leaf_extensions=noise,
    )
    staged = commit(alice, Add(bundle.key_package))
    assert staged.welcome is not None
    newcomer = carol.join(staged.welcome, bundle)
    (follower,) = after(bob, message=staged.message)
    assert same_view(staged.group, follower, newcomer)
    made = commit(newcomer)
    assert made.public.after.member(newcomer.own_leaf).extensions == noise
    assert made.public.after.member(newcomer.own_leaf).capabilities == capabilities
    assert same_view(made.group, *after(follower, message=made.message))


@pytest.mark.parametrize("kind", GREASE)
def test_values_that_nobody_knows_are_refused_where_all_have_to_know_them(kind: int) -> None:
    (_, alice), _ = group_of("alice", "bob")
    proposal = bytes(Writer().u16(kind).vector(b"noise"))
    with pytest.raises(DecodeError, match="proposal type"):
        Proposal.decode(proposal)
    with pytest.raises(DecodeError, match="credential type"):
        Credential.decode(proposal)
    with pytest.raises(InvalidMessage, match="extension of the group context"):
        commit(alice, GroupContextExtensions((*EXTENSIONS, Extension(kind, b"noise"))))


def test_exports_are_equal_for_members_and_differ_by_label_context_and_epoch() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    assert alice.export("label", b"context", 40) == bob.export("label", b"context", 40)
    staged = commit(alice)
    assert staged.group is not None
    exports = {
        alice.export("label", b"context", 32),
        alice.export("other", b"context", 32),
        alice.export("label", b"other", 32),
        staged.group.export("label", b"context", 32),
    }
    assert len(exports) == 4
    for length in (0, 255 * 32 + 1):
        with pytest.raises(UsageError):
            alice.export("label", b"", length)


def test_the_server_follows_without_secrets() -> None:
    alice = Person.named("alice").create()
    info = decode_body(alice.group_info(with_tree=True), GroupInfo)
    server = PublicGroup.from_group_info(info, None, validate=anyone, now=NOW)
    members = [alice]
    for number in range(4):
        person = Person.named(f"member {number}")
        bundle = person.key_package()
        staged = commit(members[number // 2], Add(bundle.key_package))
        seen = server.stage(decode_body(staged.message, PublicMessage), validate=anyone, now=NOW)
        assert seen == staged.public
        server = PublicGroup.decode(seen.after.encode())
        assert staged.group_info is not None
        given = decode_body(staged.group_info, GroupInfo)
        assert staged.group is not None
        verify_group_info(server, given, signer=staged.group.own_leaf)
        assert staged.welcome is not None
        others = [member for member in members if member.own_leaf != staged.group.own_leaf]
        members = [*after(*others, message=staged.message), staged.group]
        members.append(person.join(staged.welcome, bundle))
        members.sort(key=lambda member: member.own_leaf)
    leaver = members[2]
    message = decode_body(leaver.propose(Remove(leaver.own_leaf)), PublicMessage)
    members[0].receive_proposal(MLSMessage(message).encode())
    server = PublicGroup.decode(server.with_proposal(server.verify_proposal(message)).encode())
    staged = commit(members[0])
    assert server.stage(decode_body(staged.message, PublicMessage), validate=anyone, now=NOW) == staged.public
    assert server.find(leaver.public.member(leaver.own_leaf).signature_key) == leaver.own_leaf
    assert staged.public.after.find(leaver.public.member(leaver.own_leaf).signature_key) is None


def test_the_header_tells_where_a_message_belongs() -> None:
    (_, alice), _ = group_of("alice", "bob")
    header = read_header(alice.encrypt(b"secret", authenticated_data=b"number 7"))
    assert (header.wire_format, header.sender) == (WireFormat.PRIVATE_MESSAGE, None)
    assert (header.group_id, header.epoch, header.authenticated_data) == (b"group", 1, b"number 7")
    header = read_header(commit(alice, authenticated_data=b"number 8").message)
    assert header.wire_format == WireFormat.PUBLIC_MESSAGE
    assert header.sender is not None
    assert (header.sender.leaf, header.authenticated_data) == (alice.own_leaf, b"number 8")


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 9, 16, 17])
def test_trees_of_every_shape_work(size: int) -> None:
    members = [group for _, group in group_of(*(str(number) for number in range(size)))]
    for committer in range(0, size, 2):
        staged = commit(members[committer])
        others = after(*members[:committer], *members[committer + 1 :], message=staged.message)
        assert staged.group is not None
        members = [*others[:committer], staged.group, *others[committer:]]
        assert same_view(*members)
    removed = [Remove(member.own_leaf) for member in members[1::2]]
    staged = commit(members[0], *removed)
    assert same_view(staged.group, *after(*members[2::2], message=staged.message))


def test_a_large_group_works() -> None:
    founder = Person.named("founder")
    people = [Person.named(f"member {number}") for number in range(300)]
    bundles = [person.key_package() for person in people]
    staged = commit(founder.create(), *(Add(bundle.key_package) for bundle in bundles))
    assert staged.welcome is not None
    assert staged.group is not None
    first = people[0].join(staged.welcome, bundles[0])
    last = people[-1].join(staged.welcome, bundles[-1])
    assert last.public.tree.leaf_count == 512
    assert same_view(staged.group, first, last)
    next_one = commit(last, Remove(first.own_leaf))
    assert stage(first, next_one.message).removed_us
    founder_group = stage(staged.group, next_one.message).group
    assert founder_group is not None
    assert next_one.group is not None
    assert next_one.group.decrypt(founder_group.encrypt(b"hello")).plaintext == b"hello"


def test_a_member_cut_off_from_the_path_says_so() -> None:
    members = [group for _, group in group_of("alice", "bob", "carol", "dave", "erin")]
    carol, erin = members[2], members[4]
    own = node_of(carol.own_leaf)
    carol._keys = TreePrivateKeys(SUITE, carol.own_leaf, {own: carol._keys.keys[own]})
    with pytest.raises(InvalidMessage, match="no secret for us"):
        stage(carol, commit(erin).message)


def test_a_path_secret_for_a_blank_node_is_refused() -> None:
    alice = Person.named("alice").create()
    tree, leaf = alice.public.tree.add_leaf(Person.named("bob").key_package().key_package.leaf_node)
    keys = TreePrivateKeys.of_leaf(SUITE, leaf, HpkePrivateKey.generate(SUITE))
    with pytest.raises(InvalidMessage, match="blank"):
        keys.with_path_secret(tree, tree.root, PathSecret(bytes(32)))


def test_only_so_many_proposals_are_remembered() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    content = alice.public.verify_proposal(decode_body(alice.propose(Remove(bob.own_leaf)), PublicMessage))
    full = replace(
        bob.public,
        proposals={number.to_bytes(32, "big"): content for number in range(MAX_REMEMBERED_PROPOSALS)},
    )
    with pytest.raises(InvalidMessage, match="too many"):
        full.with_proposal(content)


def test_epochs_end_where_a_signed_number_of_64_bits_does() -> None:
    (_, alice), _ = group_of("alice", "bob")
    public, context = alice.public, alice.public.context
    last = replace(context, epoch=2**63 - 1)
    assert GroupContext.decode(last.encode()) == last
    with pytest.raises(DecodeError, match="epoch"):
        GroupContext.decode(replace(context, epoch=2**63).encode())
    before = replace(public, context=replace(context, epoch=2**63 - 2))
    assert before.next_context(EXTENSIONS, bytes(32), bytes(32)).epoch == 2**63 - 1
    with pytest.raises(InvalidMessage, match="last epoch"):
        replace(public, context=last).next_context(EXTENSIONS, bytes(32), bytes(32))
