"""What a group remembers and forgets, how it is saved, and what it shows of itself."""

import subprocess
import sys
from dataclasses import replace

import pytest

from securechat.errors import DecodeError, UsageError
from securechat.mls.crypto.secret import Secret
from securechat.mls.errors import CannotDecrypt
from securechat.mls.framing import AuthenticatedContent, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_context import GroupContext
from securechat.mls.group_secrets import GroupSecrets
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.proposals import Add, ReInit, Remove, Update
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.secret_tree import SecretTree
from securechat.mls.tree_math import NodeIndex, node_of
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Reader
from tests.mls.support import SUITE, Person, commit, group_of, objects_in, same_view, stage, state


def reloaded(person: Person, group: Group) -> Group:
    loaded = Group.load(*state(group), person.keys)
    assert state(loaded) == state(group)
    return loaded


def test_a_saved_group_goes_on_where_it_was() -> None:
    (alice_person, alice), (bob_person, bob) = group_of("alice", "bob")
    messages = [alice.encrypt(b"%d" % number) for number in range(4)]
    alice = reloaded(alice_person, alice)
    messages.append(alice.encrypt(b"4"))
    for number in (2, 0, 4, 1, 3):
        bob = reloaded(bob_person, bob)
        assert bob.decrypt(messages[number]).plaintext == b"%d" % number
    alice.receive_proposal(bob.propose_update())
    alice, bob = reloaded(alice_person, alice), reloaded(bob_person, bob)
    staged = commit(alice)
    assert same_view(staged.group, stage(bob, staged.message).group)


def test_a_saved_state_cannot_read_again_what_was_read() -> None:
    (_, alice), (bob_person, bob) = group_of("alice", "bob")
    messages = [alice.encrypt(b"%d" % number) for number in range(3)]
    bob.decrypt(messages[1])
    stolen = reloaded(bob_person, bob)
    with pytest.raises(CannotDecrypt):
        stolen.decrypt(messages[1])
    assert stolen.decrypt(messages[0]).plaintext == b"0"
    with pytest.raises(CannotDecrypt):
        reloaded(bob_person, stolen).decrypt(messages[0])


def test_the_sender_cannot_read_again_what_it_wrote() -> None:
    (alice_person, alice), (_, bob) = group_of("alice", "bob")
    leaf = alice.own_leaf
    key, _ = alice._messages.key(leaf, 0, handshake=False)
    alice.encrypt(b"hello")
    _, secret_bytes = state(alice)
    assert bytes(key.key) not in secret_bytes
    with pytest.raises(CannotDecrypt):
        reloaded(alice_person, alice)._messages.key(leaf, 0, handshake=False)
    assert bob._messages.key(leaf, 0, handshake=False)[0] == key


def test_an_epoch_secret_that_opens_all_messages_is_not_kept() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    root = dict(alice._messages._nodes)
    bob.decrypt(alice.encrypt(b"hello"))
    for secret in root.values():
        assert bytes(secret) not in state(alice)[1]
        assert bytes(secret) not in state(bob)[1]


def test_a_commit_leaves_nothing_of_the_epoch_before() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    staged = commit(alice)
    after = stage(bob, staged.message).group
    assert after is not None
    assert staged.group is not None
    for old, new in ((alice, staged.group), (bob, after)):
        kept = state(new)[1]
        for secret in secrets_in(old):
            assert secret not in kept or any(secret == key.private for key in new._keys.keys.values())


def test_staging_a_commit_changes_nothing() -> None:
    (_, alice), (_, bob) = group_of("alice", "bob")
    before = state(alice), state(bob)
    staged = commit(alice)
    stage(bob, staged.message)
    assert (state(alice), state(bob)) == before
    assert bob.decrypt(alice.encrypt(b"the epoch before")).plaintext == b"the epoch before"
    other = commit(bob)
    assert same_view(other.group, stage(alice, other.message).group)


def test_an_own_commit_survives_a_restart() -> None:
    (alice_person, alice), (_, bob) = group_of("alice", "bob")
    carol = Person.named("carol")
    bundle = carol.key_package()
    saved = commit(alice, Add(bundle.key_package), authenticated_data=b"number 3").encode()
    staged = StagedCommit.decode(saved, alice_person.keys)
    assert staged.encode() == saved
    assert staged.public.authenticated_data == b"number 3"
    assert [leaf.credential.identity for _, leaf in staged.public.added] == [b"carol"]
    assert staged.public.new_member_refs == {bundle.key_package.reference(SUITE)}
    assert staged.welcome is not None
    joined = carol.join(staged.welcome, KeyPackageBundle.decode(bundle.encode()))
    assert same_view(staged.group, stage(bob, staged.message).group, joined)


def test_a_staged_commit_that_removes_us_and_an_external_one_survive_a_restart() -> None:
    (_, alice), (bob_person, bob) = group_of("alice", "bob")
    saved = stage(bob, commit(alice, Remove(bob.own_leaf)).message).encode()
    assert StagedCommit.decode(saved, bob_person.keys).removed_us
    carol = Person.named("carol")
    external = carol.join_external(alice.group_info(with_tree=True), None)
    again = StagedCommit.decode(external.encode(), carol.keys)
    assert same_view(again.group, stage(alice, again.message).group)


def test_damaged_or_mixed_up_saved_states_are_refused() -> None:
    (alice_person, alice), (bob_person, bob) = group_of("alice", "bob")
    public, secret = state(alice)
    after = commit(alice).group
    assert after is not None
    with pytest.raises(DecodeError, match="belong together"):
        Group.load(after.public_bytes(), secret, alice_person.keys)
    with pytest.raises(UsageError, match="signature key"):
        Group.load(public, secret, bob_person.keys)
    for part in (public, secret):
        for bad in (b"", part[:-1], part + b"\x00", b"\xff" + part[1:]):
            parts = (bad, secret) if part is public else (public, bad)
            with pytest.raises(DecodeError):
                Group.load(*parts, alice_person.keys)
    with pytest.raises(DecodeError):
        StagedCommit.decode(commit(bob).encode()[:-1], bob_person.keys)
    mixed = public.replace(alice.public.tree.encode(), after.public.tree.encode())
    with pytest.raises(DecodeError, match="does not fit its context"):
        Group.load(mixed, secret, alice_person.keys)


def test_the_saved_form_is_the_one_that_is_documented() -> None:
    (_, alice), (_, bob), _ = group_of("alice", "bob", "carol")
    bob.propose_update()
    bob.decrypt([alice.encrypt(b"%d" % number) for number in range(3)][2])
    public, secret = (Reader(part) for part in state(bob))
    assert public.u16() == 2
    assert GroupContext.read(public) == bob.public.context
    assert RatchetTree.read(public) == bob.public.tree
    assert public.vector() == bob.public.interim_transcript_hash
    assert len(public.items(AuthenticatedContent.read)) == 1
    assert public.optional(ReInit.read_body) is None
    public.done()
    assert secret.u16() == 1
    assert {len(secret.vector()) for _ in range(8)} == {32}
    assert (secret.u16(), secret.u32()) == (SUITE.value, bob.own_leaf)
    path = dict(secret.items(lambda node: (NodeIndex(node.u32()), (node.vector(), node.vector()))))
    assert {node: public_key for node, (_, public_key) in path.items()} == {
        node: bob.public.tree.encryption_key(node) for node in path
    }
    assert (secret.u16(), secret.u32()) == (SUITE.value, 4)
    unopened = dict(secret.items(lambda node: (node.u32(), node.vector())))
    assert sorted(unopened) == [2, 5]  # alice has opened her leaf's path: bob's leaf and carol's half are left

    def ratchet(reader: Reader) -> tuple[int, int, list[int]]:
        generation, size = reader.u64(), len(reader.vector())
        skipped = reader.items(lambda key: (key.u32(), key.vector(), key.vector()))
        return generation, size, [number for number, *_ in skipped]

    opened = secret.items(lambda leaf: (leaf.u32(), ratchet(leaf), ratchet(leaf)))
    assert opened == ((alice.own_leaf, (0, 32, []), (3, 32, [0, 1])),)
    ((_, pending),) = secret.items(lambda pair: (pair.vector(), pair.vector()))
    (proposal,) = bob.public.proposals.values()
    assert isinstance(proposal.content.content, Update)
    assert pending == proposal.content.content.leaf_node.encryption_key
    secret.done()


def secrets_in(root: object) -> set[bytes]:
    return {bytes(item) for item in objects_in(root) if isinstance(item, Secret)}


def everything_secret() -> list[object]:
    """One of each object that holds a secret, in a state in which it holds as many as it can."""
    (person, alice), (_, bob) = group_of("alice", "bob")
    messages = [alice.encrypt(b"the plaintext") for _ in range(3)]
    received = bob.decrypt(messages[2])
    bob.propose_update()
    bundle = Person.named("carol").key_package()
    staged = commit(bob, Add(bundle.key_package))
    assert staged.welcome is not None
    welcome = decode_body(staged.welcome, Welcome)
    reference = bundle.key_package.reference(SUITE)
    group_secrets = GroupSecrets.decrypt_from(SUITE, welcome, reference, bundle.init_private)
    return [alice, bob, received, bundle, staged, group_secrets, person.signature, person]


def test_no_secret_shows_in_any_repr() -> None:
    roots = everything_secret()
    secrets = {secret for root in roots for secret in secrets_in(root)}
    assert len(secrets) > 20
    shown = [
        text
        for root in roots
        for item in objects_in(root)
        if type(item).__module__.startswith("securechat.")
        for text in (repr(item), str(item), f"{item}")
    ]
    assert len(shown) > 100
    for text in shown:
        assert "the plaintext" not in text
        for secret in secrets:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text


def test_a_secret_says_only_its_kind_and_length() -> None:
    (_, alice), _ = group_of("alice", "bob")
    assert repr(alice._secrets.init_secret) == "<InitSecret: 32 bytes>"
    assert str(alice.resumption_psk) == "<Secret: 32 bytes>"


ABLE_TO_DECRYPT = {
    "sealing",
    "hpke",
    "secret",
    "key_schedule",
    "secret_tree",
    "treekem",
    "message_protection",
    "group_secrets",
    "key_package_bundle",
    "committing",
    "joining",
    "group",
}


def test_the_public_view_loads_nothing_that_can_decrypt() -> None:
    code = "import securechat.mls.public_group, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in run.stdout.split() if name.startswith("securechat.mls")}
    assert "securechat.mls.public_group" in loaded
    assert not {name.rsplit(".", 1)[-1] for name in loaded} & ABLE_TO_DECRYPT
    # Its twin: a member's view loads all of them, so these are the modules' names.
    code = "import securechat.mls.group, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.rsplit(".", 1)[-1] for name in run.stdout.split()} >= ABLE_TO_DECRYPT


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
            public, secret.replace(key, bob._keys.keys[node_of(bob.own_leaf)].public_key), person.keys
        )


def test_a_saved_commit_of_another_version_and_a_saved_group_of_an_unknown_suite_are_refused() -> None:
    (person, alice), _ = group_of("alice", "bob")
    saved = commit(alice).encode()
    assert StagedCommit.decode(saved, person.keys).group is not None
    with pytest.raises(DecodeError, match="another version"):
        StagedCommit.decode(b"\x00\x09" + saved[2:], person.keys)
    unknown = replace(alice.public, context=replace(alice.public.context, cipher_suite=9))
    with pytest.raises(DecodeError, match="damaged: cipher suite 0x0009"):
        PublicGroup.decode(unknown.encode())
