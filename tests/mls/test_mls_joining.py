"""What joiners and loaders refuse when a member of the group lies to them, and messages of the wrong kind."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from securechat.errors import DecodeError, UsageError
from securechat.mls import committing
from securechat.mls.credential import Credential, CredentialType
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.crypto.secret import Secret
from securechat.mls.errors import CannotDecrypt, InvalidMessage, OutsideLifetime
from securechat.mls.framing import (
    MLSMessage,
    PublicMessage,
    decode_body,
    read_header,
)
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_context import GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.proposals import (
    Add,
    PreSharedKeyId,
    PskType,
    Remove,
    ResumptionPskUsage,
)
from securechat.mls.public_group import MAX_REMEMBERED_PROPOSALS
from securechat.mls.ratchet_tree import ParentNode
from securechat.mls.secret_tree import MAX_GENERATION, SecretTree
from securechat.mls.tree_math import LeafIndex, node_of
from securechat.mls.tree_validation import verify_members_agree
from securechat.mls.treekem import PathSecret, TreePrivateKeys
from securechat.mls.welcome import Welcome
from tests.mls.support import (
    CAPABILITIES,
    EXTENSIONS,
    NOW,
    SUITE,
    Person,
    anyone,
    commit,
    group_of,
    same_view,
    stage,
    state,
)

# ---- Welcomes by a member that lies


def welcome_with(
    monkeypatch: pytest.MonkeyPatch,
    group: Group,
    bundle: KeyPackageBundle,
    *,
    secrets: Callable[[GroupSecrets], GroupSecrets] = lambda secrets: secrets,
    info: Callable[[GroupInfo], GroupInfo] = lambda info: info,
) -> bytes:
    """The Welcome of a commit that adds the bundle's owner, with its insides changed before encryption."""
    make_info = committing.make_group_info

    def changed_secrets(joiner: object, path: object, psks: object) -> GroupSecrets:
        return secrets(GroupSecrets(joiner, path, psks))  # type: ignore[arg-type]  # passed on as it came

    def changed_info(*arguments: object, **options: object) -> GroupInfo:
        return info(make_info(*arguments, **options))  # type: ignore[arg-type]  # passed on as it came

    with monkeypatch.context() as patch:
        patch.setattr(committing, "GroupSecrets", changed_secrets)
        patch.setattr(committing, "make_group_info", changed_info)
        welcome = commit(group, Add(bundle.key_package)).welcome
    assert welcome is not None
    return welcome


def resumption(usage: ResumptionPskUsage) -> PreSharedKeyId:
    return PreSharedKeyId(PskType.RESUMPTION, bytes(32), usage=usage, group_id=b"group", epoch=1)


def test_a_welcome_whose_path_secret_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    wrong = welcome_with(
        monkeypatch, alice, bundle, secrets=lambda secrets: replace(secrets, path_secret=Secret(bytes(32)))
    )
    with pytest.raises(InvalidMessage, match="does not lead"):
        carol.join(wrong, bundle)
    carol.join(welcome_with(monkeypatch, alice, bundle), bundle)


@pytest.mark.parametrize("usage", [ResumptionPskUsage.REINIT, ResumptionPskUsage.BRANCH])
def test_a_welcome_to_a_group_that_continues_another_is_not_taken_for_a_plain_one(
    monkeypatch: pytest.MonkeyPatch, usage: ResumptionPskUsage
) -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    wrong = welcome_with(
        monkeypatch, alice, bundle, secrets=lambda secrets: replace(secrets, psks=(resumption(usage),))
    )
    with pytest.raises(InvalidMessage, match="continues another one"):
        carol.join(wrong, bundle)


def test_a_welcome_with_a_key_we_do_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    psk = resumption(ResumptionPskUsage.APPLICATION)
    wrong = welcome_with(monkeypatch, alice, bundle, secrets=lambda secrets: replace(secrets, psks=(psk,)))
    with pytest.raises(InvalidMessage, match="not known here"):
        carol.join(wrong, bundle)


def test_a_welcome_to_a_group_without_us_of_another_suite_or_with_a_wrong_tag_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (person, alice), _ = group_of("alice", "bob")
    sign = person.signature.sign_with_label
    carol = Person.named("carol")
    bundle = carol.key_package()
    without_us = decode_body(alice.group_info(with_tree=True), GroupInfo)

    def other_suite(info: GroupInfo) -> GroupInfo:
        return replace(info, group_context=replace(info.group_context, cipher_suite=3)).signed(sign)

    def wrong_tag(info: GroupInfo) -> GroupInfo:
        return replace(info, confirmation_tag=bytes(32)).signed(sign)

    for change, reason in (
        (lambda _: without_us, "does not have us"),
        (other_suite, "another cipher suite"),
        (wrong_tag, "confirmation tag"),
        (lambda info: replace(info, signer=LeafIndex(3)).signed(sign), "no member"),
        (lambda info: replace(info, signer=LeafIndex(1)).signed(sign), "signature"),
        (
            lambda info: replace(info, signer=LeafIndex(2)).signed(carol.signature.sign_with_label),
            "signed by its receiver",
        ),
    ):
        wrong = welcome_with(monkeypatch, alice, bundle, info=change)
        with pytest.raises(InvalidMessage, match=reason):
            carol.join(wrong, bundle)


def test_a_welcome_that_names_another_suite_is_refused() -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    staged = commit(alice, Add(bundle.key_package))
    assert staged.welcome is not None
    other = replace(decode_body(staged.welcome, Welcome), cipher_suite=3)
    with pytest.raises(InvalidMessage, match="another cipher suite"):
        carol.join(MLSMessage(other).encode(), bundle)


def test_joining_with_the_wrong_signature_key_is_our_mistake() -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol, dave = Person.named("carol"), Person.named("dave")
    bundle = carol.key_package()
    staged = commit(alice, Add(bundle.key_package))
    assert staged.welcome is not None
    with pytest.raises(UsageError, match="signature key"):
        dave.join(staged.welcome, bundle)


def test_a_member_whose_key_package_has_expired_keeps_nobody_out_but_one_from_the_future_does() -> None:
    (_, alice), _ = group_of("alice", "bob")
    carol = Person.named("carol")

    def at(now: int) -> StagedCommit:
        return Group.join_external(
            decode_body(alice.group_info(with_tree=True), GroupInfo),
            None,
            carol.signature,
            credential=carol.credential,
            capabilities=CAPABILITIES,
            validate=anyone,
            now=now,
        )

    assert same_view(at(NOW + 10**9).group)
    with pytest.raises(OutsideLifetime):
        at(NOW - 61)


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


def test_members_must_support_each_others_credentials() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    leaf = bob.public.member(bob.own_leaf)
    x509 = replace(
        leaf,
        credential=Credential(CredentialType.X509, certificates=(b"certificate",)),
        capabilities=replace(leaf.capabilities, credentials=(1, 2)),
    )
    verify_members_agree(alice.public.tree)
    with pytest.raises(InvalidMessage, match="credential type of another"):
        verify_members_agree(alice.public.tree.replace({node_of(bob.own_leaf): x509}))


# ---- messages of the wrong kind


def test_each_door_takes_only_its_kind_of_message() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    application, commit_, info = alice.encrypt(b"x"), commit(alice).message, alice.group_info(with_tree=False)
    proposal = alice.propose(Remove(bob.own_leaf))
    before = state(bob)
    for wrong in (commit_, proposal, info):
        with pytest.raises(InvalidMessage, match="application message was expected"):
            bob.decrypt(wrong)
    for wrong in (application, commit_, info):
        with pytest.raises(InvalidMessage, match="a proposal was expected"):
            bob.receive_proposal(wrong)
    for wrong in (application, proposal, info):
        with pytest.raises(InvalidMessage, match="a commit was expected"):
            stage(bob, wrong)
    with pytest.raises(InvalidMessage, match="a PublicMessage was expected, and a PrivateMessage came"):
        decode_body(application, PublicMessage)
    with pytest.raises(DecodeError, match="message of a group"):
        read_header(info)
    assert state(bob) == before


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


# ---- parts of saved states


def test_a_bundle_holds_the_private_keys_of_its_own_key_package() -> None:
    carol = Person.named("carol")
    one, other = carol.key_package(), carol.key_package()
    assert KeyPackageBundle.decode(one.encode()) == one
    with pytest.raises(UsageError, match="do not belong"):
        KeyPackageBundle(one.key_package, other.init_private, one.leaf_private)
    private = one.init_private.private
    with pytest.raises(DecodeError, match="damaged"):
        KeyPackageBundle.decode(one.encode().replace(private, other.init_private.private))


def test_a_damaged_secret_tree_or_key_store_is_refused() -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    alice.encrypt(b"x")
    good = alice._messages.encode()
    for wrong in (
        good[:1] + b"\x09" + good[2:],
        good[:2] + bytes(4) + good[6:],
        good[:5] + b"\x03" + good[6:],
    ):
        with pytest.raises(DecodeError, match="damaged"):
            SecretTree.decode(wrong)
    public, secret = state(alice)
    key = alice._keys.keys[node_of(alice.own_leaf)].public_key
    with pytest.raises(DecodeError, match="do not fit"):
        Group.load(
            public, secret.replace(key, bob._keys.keys[node_of(bob.own_leaf)].public_key), person.signature
        )


def test_a_sender_without_keys_in_the_tree_is_refused_and_a_ratchet_ends() -> None:
    leaf = LeafIndex(0)
    with pytest.raises(CannotDecrypt, match="no keys"):
        SecretTree(SUITE, 2, {}, {}).key(leaf, 0, handshake=False)
    (_, alice), _ = group_of("alice", "bob")
    alice.encrypt(b"x")
    ratchets = alice._messages._ratchets[leaf]
    last = replace(ratchets.application, generation=MAX_GENERATION)
    alice._messages._ratchets[leaf] = ratchets._replace(application=last)
    alice.encrypt(b"the last one")
    before = state(alice)
    with pytest.raises(UsageError, match="commit first"):
        alice.encrypt(b"one too many")
    assert state(alice) == before


def test_unmerged_leaves_out_of_order_do_not_decode() -> None:
    for leaves in ((2, 1), (1, 1)):
        node = ParentNode(bytes(32), b"", tuple(LeafIndex(leaf) for leaf in leaves))
        with pytest.raises(DecodeError, match="order"):
            ParentNode.decode(node.encode())
