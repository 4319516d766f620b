"""Runs the working group's test vectors for RFC 9420: `python -m tests.mls.vectors DIRECTORY`.

Prints `file: passed N of M` for each file, and at the end `N passed, N failed`; exits 1 if a case failed.
A case is recognized by a field that only its format has, whatever its file is called.

Strictly: what a case gives is also made anew, and taken by the others of the case; and every signature, tag and
ciphertext is also altered, and must then be refused.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from securechat.errors import PeerError, UsageError
from securechat.mls import key_schedule, tree_math
from securechat.mls.commit import Commit, UpdatePath
from securechat.mls.crypto import hpke, sealing
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite, cipher_suite
from securechat.mls.errors import OutsideLifetime
from securechat.mls.extensions import ExternalSender
from securechat.mls.framing import (
    AuthenticatedContent,
    Content,
    FramedContent,
    MessageBody,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
    decode_body,
)
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_context import GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.group_secrets import GroupSecrets, decrypt_group_info, encrypt_group_info
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.key_schedule import PskLookup
from securechat.mls.leaf_node import LeafNode, LeafNodeSource, Lifetime
from securechat.mls.message_protection import (
    open_private,
    protect_private,
    protect_public,
    sender_data_key,
    verify_membership_tag,
)
from securechat.mls.parent_hash import set_path_keys, verify_parent_hashes
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
    Update,
)
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.secret_tree import SecretTree
from securechat.mls.transcript_hash import confirmed_transcript_hash, interim_transcript_hash
from securechat.mls.tree_math import LeafIndex, NodeIndex
from securechat.mls.treekem import PathSecret, TreePrivateKeys
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Reader, Writer

Case = dict[str, Any]
H = bytes.fromhex

FOLDER = Path(__file__).parents[2] / os.environ.get("SECURECHAT_MLS_VECTORS", "../shared/vectors/mls")
"""Where the tests look for vectors."""

DAY = 86_400
TIMES = range(1_640_995_200, 1_893_456_000, 28 * DAY)
"""Seconds since 1970, from 2022 to 2029: lifetimes in the vectors are a year long, at any time."""
END_OF_TIME = 2**64 - 1


def equal(actual: object, expected: object) -> None:
    """Like assert, but a vector is data: what differs is said without a traceback."""
    if actual != expected:
        raise AssertionError(f"{actual!r} is not {expected!r}")


def refused(call: Callable[[], object], reason: str = "") -> None:
    """Check that a call refuses what it is given, for a reason that the error's text names."""
    try:
        call()
    except PeerError as error:
        if reason not in str(error):
            raise AssertionError(f"refused, but not for the {reason}: {error}") from None
    else:
        raise AssertionError(f"taken with an altered {reason}")


def altered(data: bytes) -> Iterator[bytes]:
    """Copies of a signature, tag or ciphertext, each with one thing wrong."""
    for position in {0, len(data) // 2, len(data) - 1}:
        yield data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
    yield data[:-1]
    yield b""


def body(message: str, kind: type[MessageBody]) -> Any:  # the caller knows the kind
    """The body of an MLSMessage."""
    decoded = MLSMessage.decode(H(message)).body
    assert isinstance(decoded, kind)
    return decoded


def anyone(holder: LeafNode | ExternalSender, /, *, entering: bool) -> None:
    """The vectors' credentials mean nothing."""


def deserialization(case: Case) -> None:
    reader = Reader(H(case["vlbytes_header"]))
    equal(reader.varint(), case["length"])
    reader.done()
    equal(bytes(Writer().varint(case["length"])), H(case["vlbytes_header"]))


def tree_math_(case: Case) -> None:
    leaves, top = case["n_leaves"], case["root"]
    equal(tree_math.node_width(leaves), case["n_nodes"])
    equal(tree_math.root(leaves), top)
    for index in range(case["n_nodes"]):
        node = NodeIndex(index)
        leaf, is_top = tree_math.is_leaf(node), index == top
        equal(None if leaf else tree_math.left(node), case["left"][index])
        equal(None if leaf else tree_math.right(node), case["right"][index])
        equal(None if is_top else tree_math.parent(node), case["parent"][index])
        equal(None if is_top else tree_math.sibling(node), case["sibling"][index])


def crypto_basics(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    v = case["ref_hash"]
    equal(suite.ref_hash(v["label"].encode(), H(v["value"])), H(v["out"]))
    v = case["expand_with_label"]
    label = v["label"].encode()
    out = sealing.expand_with_label(suite, H(v["secret"]), label, H(v["context"]), v["length"])
    equal(out, H(v["out"]))
    v = case["derive_secret"]
    equal(sealing.derive_secret(suite, H(v["secret"]), v["label"].encode()), H(v["out"]))
    v = case["derive_tree_secret"]
    label = v["label"].encode()
    out = sealing.derive_tree_secret(suite, H(v["secret"]), label, v["generation"], v["length"])
    equal(out, H(v["out"]))
    v = case["sign_with_label"]
    label, content, public = v["label"].encode(), H(v["content"]), H(v["pub"])
    suite.verify_with_label(public, label, content, H(v["signature"]))
    for wrong in altered(H(v["signature"])):
        refused(partial(suite.verify_with_label, public, label, content, wrong), "signature")
    refused(partial(suite.verify_with_label, public, label + b"x", content, H(v["signature"])), "signature")
    private = sealing.SignaturePrivateKey(suite, H(v["priv"]))
    equal(private.public_key, public)
    suite.verify_with_label(public, label, content, private.sign_with_label(label, content))
    v = case["encrypt_with_label"]
    label, context, plaintext = v["label"].encode(), H(v["context"]), H(v["plaintext"])
    key = hpke.HpkePrivateKey.from_private(suite, H(v["priv"]))
    equal(key.public_key, H(v["pub"]))
    sealed = (H(v["kem_output"]), H(v["ciphertext"]))
    equal(hpke.decrypt_with_label(suite, key, label, context, *sealed), plaintext)
    for wrong in altered(sealed[0]):
        refused(partial(hpke.decrypt_with_label, suite, key, label, context, wrong, sealed[1]))
    for wrong in altered(sealed[1]):
        refused(partial(hpke.decrypt_with_label, suite, key, label, context, sealed[0], wrong))
    sealed = hpke.encrypt_with_label(suite, H(v["pub"]), label, context, plaintext)
    equal(hpke.decrypt_with_label(suite, key, label, context, *sealed), plaintext)


def secret_tree(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    v = case["sender_data"]
    key = sender_data_key(suite, Secret(H(v["sender_data_secret"])), H(v["ciphertext"]))
    equal(key, (H(v["key"]), H(v["nonce"])))
    root = key_schedule.EncryptionSecret(H(case["encryption_secret"]))
    tree = SecretTree.create(suite, len(case["leaves"]), root)
    for index, generations in enumerate(case["leaves"]):
        for v in generations:
            for name in ("handshake", "application"):
                key, step = tree.key(LeafIndex(index), v["generation"], handshake=name == "handshake")
                equal(key, (H(v[f"{name}_key"]), H(v[f"{name}_nonce"])))
                tree.take(step)


def message_protection(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    hashes = (H(case["tree_hash"]), H(case["confirmed_transcript_hash"]))
    context = GroupContext(suite.value, H(case["group_id"]), case["epoch"], *hashes, ())
    membership_key = Secret(H(case["membership_key"]))
    sender_data_secret = Secret(H(case["sender_data_secret"]))
    private = sealing.SignaturePrivateKey(suite, H(case["signature_priv"]))
    tag = body(case["commit_pub"], PublicMessage).auth.confirmation_tag

    def fresh_tree() -> SecretTree:
        return SecretTree.create(suite, 2, key_schedule.EncryptionSecret(H(case["encryption_secret"])))

    def signed(wire_format: WireFormat, content: Content) -> AuthenticatedContent:
        framed = FramedContent(context.group_id, context.epoch, Sender.member(LeafIndex(1)), b"", content)
        made = AuthenticatedContent.sign(wire_format, framed, context, private.sign_with_label)
        return made.with_confirmation_tag(tag) if isinstance(content, Commit) else made

    def check_signature(content: AuthenticatedContent) -> None:
        content.verify_signature(suite, H(case["signature_pub"]), context)
        for signature in altered(content.auth.signature):
            wrong = replace(content, auth=replace(content.auth, signature=signature))
            refused(partial(wrong.verify_signature, suite, H(case["signature_pub"]), context), "signature")

    def check_public(message: PublicMessage, content: Content) -> None:
        verify_membership_tag(suite, membership_key, message, context)
        assert message.membership_tag is not None
        for tag in altered(message.membership_tag):
            wrong = replace(message, membership_tag=tag)
            refused(partial(verify_membership_tag, suite, membership_key, wrong, context), "membership tag")
        check_signature(message.authenticated_content)
        equal(message.content.content, content)

    def opened(message: PrivateMessage) -> AuthenticatedContent:
        return open_private(suite, sender_data_secret, fresh_tree(), message, lambda _: None)[0]

    def check_private(message: PrivateMessage, content: Content) -> None:
        check_signature(opened(message))
        equal(opened(message).content.content, content)
        for part in altered(message.ciphertext):
            refused(partial(opened, replace(message, ciphertext=part)))
        for part in altered(message.encrypted_sender_data):
            refused(partial(opened, replace(message, encrypted_sender_data=part)))

    contents: dict[str, Content] = {
        "proposal": Proposal.decode(H(case["proposal"])),
        "commit": Commit.decode(H(case["commit"])),
        "application": H(case["application"]),
    }
    for name, content in contents.items():
        check_private(body(case[f"{name}_priv"], PrivateMessage), content)
        made = signed(WireFormat.PRIVATE_MESSAGE, content)
        check_private(protect_private(suite, sender_data_secret, fresh_tree(), made)[0], content)
        public = signed(WireFormat.PUBLIC_MESSAGE, content)
        if isinstance(content, bytes):
            try:
                protect_public(suite, membership_key, public, context)
            except UsageError:
                continue
            raise AssertionError("application data was protected as a PublicMessage")
        check_public(body(case[f"{name}_pub"], PublicMessage), content)
        check_public(protect_public(suite, membership_key, public, context), content)


def key_schedule_(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    init = key_schedule.InitSecret(H(case["initial_init_secret"]))
    for epoch, v in enumerate(case["epochs"]):
        hashes = (H(v["tree_hash"]), H(v["confirmed_transcript_hash"]))
        context = GroupContext(suite.value, H(case["group_id"]), epoch, *hashes, ())
        equal(context.encode(), H(v["group_context"]))
        commit_secret = key_schedule.CommitSecret(H(v["commit_secret"]))
        psk = key_schedule.PskSecret(H(v["psk_secret"]))
        joiner = key_schedule.joiner_secret(suite, init, commit_secret, context)
        equal(joiner, H(v["joiner_secret"]))
        equal(key_schedule.welcome_secret(suite, joiner, psk), H(v["welcome_secret"]))
        root = key_schedule.epoch_secret(suite, joiner, psk, context)
        secrets, encryption_secret = key_schedule.EpochSecrets.derive(suite, root)
        equal(encryption_secret, H(v["encryption_secret"]))
        for field in fields(secrets):
            equal(getattr(secrets, field.name), H(v[field.name]))
        equal(secrets.external_key(suite).public_key, H(v["external_pub"]))
        e = v["exporter"]
        equal(secrets.export(suite, e["label"], H(e["context"]), e["length"]), H(e["secret"]))
        init = secrets.init_secret


def psk_secret(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    keys = {H(v["psk_id"]): H(v["psk"]) for v in case["psks"]}
    ids = [PreSharedKeyId(PskType.EXTERNAL, H(v["psk_nonce"]), psk_id=H(v["psk_id"])) for v in case["psks"]]
    secret = key_schedule.psk_secret(suite, ids, lambda psk: keys[psk.psk_id])
    equal(secret, H(case["psk_secret"]))


def transcript_hashes(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    content = AuthenticatedContent.decode(H(case["authenticated_content"]))
    before = H(case["interim_transcript_hash_before"])
    confirmed = confirmed_transcript_hash(suite, before, content)
    equal(confirmed, H(case["confirmed_transcript_hash_after"]))
    tag = content.auth.confirmation_tag
    assert tag is not None
    sealing.verify_mac(suite, H(case["confirmation_key"]), confirmed, tag, "confirmation tag")
    equal(sealing.mac(suite, H(case["confirmation_key"]), confirmed), tag)
    for wrong in altered(tag):
        verify = partial(sealing.verify_mac, suite, H(case["confirmation_key"]), confirmed, wrong, "confirmation tag")
        refused(verify, "confirmation tag")
    interim = interim_transcript_hash(suite, confirmed, tag)
    equal(interim, H(case["interim_transcript_hash_after"]))


def welcome(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    message = body(case["welcome"], Welcome)
    reference = body(case["key_package"], KeyPackage).reference(suite)
    init_key = hpke.HpkePrivateKey.from_private(suite, H(case["init_priv"]))
    opened = GroupSecrets.decrypt_from(suite, message, reference, init_key)
    psk = key_schedule.psk_secret(suite, (), key_schedule.no_psks)
    secret = key_schedule.welcome_secret(suite, opened.joiner_secret, psk)
    info = decrypt_group_info(suite, secret, message.encrypted_group_info)
    info.verify_signature(suite, H(case["signer_pub"]))
    for signature in altered(info.signature):
        refused(partial(replace(info, signature=signature).verify_signature, suite, H(case["signer_pub"])), "signature")
    root = key_schedule.epoch_secret(suite, opened.joiner_secret, psk, info.group_context)
    secrets, _ = key_schedule.EpochSecrets.derive(suite, root)
    secrets.verify_confirmation_tag(suite, info.group_context, info.confirmation_tag)
    for tag in altered(info.confirmation_tag):
        refused(partial(secrets.verify_confirmation_tag, suite, info.group_context, tag), "confirmation tag")
    for part in altered(message.encrypted_group_info):
        refused(partial(decrypt_group_info, suite, secret, part))
        wrong = replace(message, encrypted_group_info=part)
        refused(partial(GroupSecrets.decrypt_from, suite, wrong, reference, init_key))

    equal(encrypt_group_info(suite, secret, info), message.encrypted_group_info)
    entry = opened.encrypt_to(suite, body(case["key_package"], KeyPackage), message.encrypted_group_info)
    made = replace(message, secrets=(entry,))
    equal(GroupSecrets.decrypt_from(suite, made, reference, init_key), opened)


def tree_operations(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    tree = RatchetTree.decode(H(case["tree_before"]))
    equal(tree.tree_hash(suite), H(case["tree_hash_before"]))
    match Proposal.decode(H(case["proposal"])):
        case Add(key_package=key_package):
            tree, _ = tree.add_leaf(key_package.leaf_node)
        case Update(leaf_node=leaf_node):
            tree = tree.update_leaf(LeafIndex(case["proposal_sender"]), leaf_node)
        case Remove(removed=leaf):
            tree = tree.remove_leaf(leaf)
    equal(tree.encode(), H(case["tree_after"]))
    equal(tree.tree_hash(suite), H(case["tree_hash_after"]))


def tree_validation(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    tree = RatchetTree.decode(H(case["tree"]))
    equal(tree.encode(), H(case["tree"]))
    nodes = [NodeIndex(index) for index in range(len(tree))]
    equal([tree.resolution(node) for node in nodes], case["resolutions"])
    equal([tree.tree_hash(suite, node).hex() for node in nodes], case["tree_hashes"])
    verify_parent_hashes(suite, tree)
    for leaf, leaf_node in tree.leaves():
        check_leaf(suite, leaf_node, H(case["group_id"]), leaf)
    for index, parent in tree.parents():
        (wrong, *_) = altered(parent.encryption_key)
        damaged = tree.replace({index: replace(parent, encryption_key=wrong)})
        refused(partial(verify_parent_hashes, suite, damaged), "parent-hash")


def check_leaf(suite: CipherSuite, leaf_node: LeafNode, group_id: bytes, leaf: LeafIndex) -> None:
    """Check a leaf's signature, and that it can be neither altered nor moved to another group."""
    leaf_node.verify_signature(suite, group_id, leaf)
    (signature, *_) = altered(leaf_node.signature)
    refused(partial(replace(leaf_node, signature=signature).verify_signature, suite, group_id, leaf), "signature")
    if leaf_node.source != LeafNodeSource.KEY_PACKAGE:
        refused(partial(leaf_node.verify_signature, suite, group_id + b"x", leaf), "signature")


def treekem(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    tree = RatchetTree.decode(H(case["ratchet_tree"]))
    members, signers = {}, {}
    for v in case["leaves_private"]:
        leaf = LeafIndex(v["index"])
        key = hpke.HpkePrivateKey.from_private(suite, H(v["encryption_priv"]))
        keys = TreePrivateKeys.of_leaf(suite, leaf, key).keys.copy()
        for step in v["path_secrets"]:
            node_secret = sealing.derive_secret(suite, H(step["path_secret"]), b"node")
            keys[NodeIndex(step["node"])] = hpke.HpkePrivateKey.derive(suite, node_secret)
        members[leaf] = TreePrivateKeys(suite, leaf, keys)
        members[leaf].verify_fit(tree)
        signers[leaf] = sealing.SignaturePrivateKey(suite, H(v["signature_priv"])).sign_with_label

    def context(tree_hash: bytes) -> bytes:
        transcript = H(case["confirmed_transcript_hash"])
        group_id, epoch = H(case["group_id"]), case["epoch"]
        return GroupContext(suite.value, group_id, epoch, tree_hash, transcript, ()).encode()

    for v in case["update_paths"]:
        sender = LeafIndex(v["sender"])
        path = UpdatePath.decode(H(v["update_path"]))
        with_keys, parent_hash = set_path_keys(
            suite, tree, sender, [node.encryption_key for node in path.nodes]
        )
        equal(path.leaf_node.parent_hash, parent_hash)
        after = with_keys.replace({tree_math.node_of(sender): path.leaf_node})
        equal(after.tree_hash(suite), H(v["tree_hash_after"]))
        verify_parent_hashes(suite, after)
        check_leaf(suite, path.leaf_node, H(case["group_id"]), sender)
        encoded = context(after.tree_hash(suite))
        for leaf, member in members.items():
            if leaf == sender:
                continue
            kept, commit_secret = member.process_path(tree, after, path, sender, (), encoded)
            kept.verify_fit(after)
            equal(commit_secret, H(v["commit_secret"]))
            start = tree_math.common_ancestor(leaf, sender)
            known = PathSecret(H(v["path_secrets"][leaf]))
            equal(member.kept_in(after).with_path_secret(after, start, known)[0], kept)
            (secret, *_) = altered(known)
            learn = partial(member.kept_in(after).with_path_secret, after, start, PathSecret(secret))
            refused(learn, "does not lead")
        damaged = with_altered_ciphertexts(path)
        for leaf, member in members.items():
            if leaf != sender:
                refused(partial(member.process_path, tree, after, damaged, sender, (), encoded), "cannot be opened")

        old = tree.leaf(sender)
        assert old is not None

        def make_leaf(
            encryption_key: bytes,
            parent_hash: bytes,
            old: LeafNode = old,
            sender: LeafIndex = sender,
        ) -> LeafNode:
            unsigned = replace(
                old,
                encryption_key=encryption_key,
                parent_hash=parent_hash,
                source=LeafNodeSource.COMMIT,
                lifetime=None,
            )
            return unsigned.signed(signers[sender], H(case["group_id"]), sender)

        new = members[sender].create_path(tree, (), make_leaf, context)
        new.keys.verify_fit(new.tree)
        encoded = context(new.tree.tree_hash(suite))
        for leaf, member in members.items():
            if leaf != sender:
                _, commit_secret = member.process_path(tree, new.tree, new.update_path, sender, (), encoded)
                equal(commit_secret, new.commit_secret)


def with_altered_ciphertexts(path: UpdatePath) -> UpdatePath:
    """The path with one bit of each ciphertext changed."""
    return replace(
        path,
        nodes=tuple(
            replace(
                node,
                encrypted_path_secret=tuple(
                    replace(sealed, ciphertext=next(altered(sealed.ciphertext)))
                    for sealed in node.encrypted_path_secret
                ),
            )
            for node in path.nodes
        ),
    )


def messages(case: Case) -> None:
    for name, encoded in case.items():
        data = H(encoded)
        if name in _BARE_PROPOSALS:
            reader, writer = Reader(data), Writer()
            proposal = _BARE_PROPOSALS[name].read_body(reader)
            reader.done()
            proposal.write_body(writer)
            equal(bytes(writer), data)
        else:
            equal(_WHOLE.get(name, MLSMessage).decode(data).encode(), data)


_BARE_PROPOSALS: dict[str, type[Proposal]] = {
    "add_proposal": Add,
    "update_proposal": Update,
    "remove_proposal": Remove,
    "pre_shared_key_proposal": PreSharedKey,
    "re_init_proposal": ReInit,
    "external_init_proposal": ExternalInit,
    "group_context_extensions_proposal": GroupContextExtensions,
}
_WHOLE: dict[str, type[RatchetTree | GroupSecrets | Commit]] = {
    "ratchet_tree": RatchetTree,
    "group_secrets": GroupSecrets,
    "commit": Commit,
}


def passive_client(case: Case) -> None:
    suite = cipher_suite(case["cipher_suite"])
    external = {H(v["psk_id"]): H(v["psk"]) for v in case["external_psks"]}
    resumption: dict[tuple[bytes, int], bytes] = {}

    def psks(psk: PreSharedKeyId) -> bytes:
        if psk.type == PskType.EXTERNAL:
            return external[psk.psk_id]
        return resumption[psk.group_id, psk.epoch]

    package = body(case["key_package"], KeyPackage)
    bundle = KeyPackageBundle.from_private(package, H(case["init_priv"]), H(case["encryption_priv"]))
    private = sealing.SignaturePrivateKey(suite, H(case["signature_priv"]))
    equal(private.public_key, package.leaf_node.signature_key)
    tree = case["ratchet_tree"]

    def join(welcome: Welcome) -> Group:
        outside = None if tree is None else RatchetTree.decode(H(tree))
        return Group.join(welcome, bundle, private, tree=outside, psks=psks, validate=anyone, now=END_OF_TIME)

    welcome = body(case["welcome"], Welcome)
    group = join(welcome)
    equal(group.epoch_authenticator, H(case["initial_epoch_authenticator"]))
    (wrong, *_) = altered(welcome.encrypted_group_info)
    refused(partial(join, replace(welcome, encrypted_group_info=wrong)))
    server: PublicGroup | None = group.public
    now = max((leaf.lifetime.not_before for _, leaf in group.public.members() if leaf.lifetime), default=0)
    for epoch in case["epochs"]:
        resumption[group.group_id, group.epoch] = group.resumption_psk
        for proposal in epoch["proposals"]:
            for damaged, reason in damaged_handshakes(group, H(proposal)):
                refused(partial(group.receive_proposal, damaged), reason)
            content = group.receive_proposal(H(proposal))
            server = None if server is None else server.with_proposal(server.verify_proposal_content(content))
        commit, before = H(epoch["commit"]), (group.public_bytes(), group.secret_bytes())
        staged, now = stage_in_time(group, commit, psks, now)
        for damaged, reason in damaged_handshakes(group, commit):
            refused(partial(group.stage, damaged, psks=psks, validate=anyone, now=now), reason)
        equal((group.public_bytes(), group.secret_bytes()), before)
        server = followed(server, commit, staged.public, now)
        assert staged.group is not None
        group = staged.group
        equal(group.epoch_authenticator, H(epoch["epoch_authenticator"]))
    if group.public.reinit is None:
        take_part(group, now)


def stage_in_time(group: Group, commit: bytes, psks: PskLookup, now: int) -> tuple[StagedCommit, int]:
    """Stage a commit at `now`, or at the first time that suits the lifetimes in it, which comes back too."""
    for time in (now, *TIMES, END_OF_TIME):
        try:
            return group.stage(commit, psks=psks, validate=anyone, now=time), time
        except OutsideLifetime:
            continue
    raise AssertionError("no time suits the lifetimes of the added key packages")


def followed(
    server: PublicGroup | None, commit: bytes, seen: PublicStagedCommit, now: int
) -> PublicGroup | None:
    """The group after a commit for somebody without secrets, or None once a commit came encrypted."""
    message = MLSMessage.decode(commit).body
    if server is None or not isinstance(message, PublicMessage):
        return None
    staged = server.stage(message, validate=anyone, now=now)
    equal(staged, seen)
    return staged.after


def damaged_handshakes(group: Group, message: bytes) -> Iterator[tuple[bytes, str]]:
    """A proposal or commit with each signature and tag altered, the others made good again; what is wrong with it."""
    original = MLSMessage.decode(message).body
    if isinstance(original, PublicMessage):
        content = original.authenticated_content
        if original.membership_tag is not None:
            tag = next(altered(original.membership_tag))
            yield MLSMessage(replace(original, membership_tag=tag)).encode(), "membership tag"
    else:
        assert isinstance(original, PrivateMessage)
        content, _ = group._open(original)
        yield MLSMessage(replace(original, ciphertext=next(altered(original.ciphertext)))).encode(), "decrypted"
    auth = content.auth
    signature = replace(auth, signature=next(altered(auth.signature)))
    yield reframed(group, replace(content, auth=signature)), "signature"
    if auth.confirmation_tag is not None:
        tagged = replace(auth, confirmation_tag=next(altered(auth.confirmation_tag)))
        yield reframed(group, replace(content, auth=tagged)), "confirmation tag"


def reframed(group: Group, content: AuthenticatedContent) -> bytes:
    """Another member's content in the wire format that it was signed for: members share the keys for that."""
    message: PublicMessage | PrivateMessage = PublicMessage(content.content, content.auth, None)
    if content.wire_format == WireFormat.PRIVATE_MESSAGE:
        secrets = group._secrets.sender_data_secret
        message, _ = protect_private(group.suite, secrets, group._messages, content)
    elif content.content.sender.leaf is not None:
        message = protect_public(group.suite, group._secrets.membership_key, content, group.public.context)
    return MLSMessage(message).encode()


def take_part(group: Group, now: int) -> None:
    """Make what the passive client only received: an Add with its Welcome, an external join, messages both ways."""
    suite, own = group.suite, group.public.member(group.own_leaf)
    private = sealing.SignaturePrivateKey.generate(suite)
    bundle = generate_key_package(suite, own.credential, private, own.capabilities, Lifetime(0, END_OF_TIME))
    added = group.commit([Add(bundle.key_package)], tree_in_welcome=True, validate=anyone, now=now)
    assert added.group is not None
    assert added.welcome is not None
    newcomer = Group.join(decode_body(added.welcome, Welcome), bundle, private, validate=anyone, now=END_OF_TIME)
    external = Group.join_external(
        decode_body(newcomer.group_info(with_tree=True), GroupInfo),
        None,
        sealing.SignaturePrivateKey.generate(suite),
        credential=own.credential,
        capabilities=own.capabilities,
        validate=anyone,
        now=END_OF_TIME,
    )
    members = [added.group, newcomer]
    for commit in (external, None):
        made = commit or members[0].commit(encrypt=True, tree_in_welcome=False, validate=anyone, now=now)
        others = members if commit else members[1:]
        after = [member.stage(made.message, validate=anyone, now=now).group for member in others]
        members = [member for member in (made.group, *after) if member is not None]
        equal({member.epoch_authenticator for member in members}, {members[0].epoch_authenticator})
    for sender in members:
        message = sender.encrypt(b"hello")
        for receiver in members:
            if receiver is not sender:
                equal(receiver.decrypt(message).plaintext, b"hello")


FORMATS: dict[str, Callable[[Case], None]] = {
    "ref_hash": crypto_basics,
    "vlbytes_header": deserialization,
    "initial_init_secret": key_schedule_,
    "application_priv": message_protection,
    "mls_welcome": messages,
    "initial_epoch_authenticator": passive_client,
    "psk_secret": psk_secret,
    "sender_data": secret_tree,
    "interim_transcript_hash_before": transcript_hashes,
    "n_leaves": tree_math_,
    "tree_before": tree_operations,
    "resolutions": tree_validation,
    "update_paths": treekem,
    "signer_pub": welcome,
}
"""The check for a case, by a field that only cases of its format have at their top level."""


def check_for(case: object) -> Callable[[Case], None]:
    """The check for a case. Raises `AssertionError` if its format is not known."""
    known = [check for field, check in FORMATS.items() if isinstance(case, dict) and field in case]
    if len(known) != 1:
        raise AssertionError("the format of this case is not known")
    return known[0]


def run_file(path: Path) -> tuple[int, int, list[str]]:
    """Run one file: cases passed, cases counted, and what went wrong."""
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return 0, 1, [f"the file cannot be read: {error}"]
    if not isinstance(cases, list) or not cases:
        return 0, 1, ["the file is not a list of cases"]
    passed, wrong = 0, []
    for index, case in enumerate(cases):
        try:
            check_for(case)(case)
        except Exception as error:  # noqa: BLE001 - whatever a case does to us, it has failed, and the others go on
            wrong.append(f"case {index}: {type(error).__name__}: {error}"[:300])
        else:
            passed += 1
    return passed, len(cases), wrong


def main(arguments: list[str]) -> int:
    """Run a folder of vectors; returns the exit code."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: mls-vectors DIRECTORY", file=sys.stderr)  # noqa: T201 - a tool
        return 2
    all_passed = all_failed = 0
    for path in sorted(Path(arguments[0]).glob("*.json")):
        passed, counted, wrong = run_file(path)
        print(f"{path.name}: passed {passed} of {counted}", flush=True)  # noqa: T201 - a tool
        for line in wrong:
            print(f"  {line}", file=sys.stderr)  # noqa: T201 - a tool
        all_passed, all_failed = all_passed + passed, all_failed + counted - passed
    print(f"{all_passed} passed, {all_failed} failed")  # noqa: T201 - a tool
    return 1 if all_failed or not all_passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
