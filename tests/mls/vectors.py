"""Runs the working group's test vectors for RFC 9420: `python -m tests.mls.vectors DIRECTORY`.

Prints `file: passed N of M` for each file, and at the end `N passed, N failed`; exits 1 if a case failed.
Cases of cipher suites that are not implemented are not counted; a line on standard error says how many.
A file is recognized by the beginning of its name, so that `messages-2.json` is run like `messages.json`.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from securechat.errors import SecurechatError, UsageError
from securechat.mls import key_schedule, tree_math
from securechat.mls.commit import Commit, UpdatePath
from securechat.mls.crypto import hpke, sealing
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import SUPPORTED_SUITES, cipher_suite
from securechat.mls.errors import OutsideLifetime
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
)
from securechat.mls.group import Group
from securechat.mls.group_context import GroupContext
from securechat.mls.group_secrets import GroupSecrets, decrypt_group_info
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.leaf_node import LeafNode, LeafNodeSource
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


def equal(actual: object, expected: object) -> None:
    """Like assert, but a vector is data: what differs is said without a traceback."""
    if actual != expected:
        raise AssertionError(f"{actual!r} is not {expected!r}")


def body(message: str, kind: type[MessageBody]) -> Any:  # the caller knows the kind
    """The body of an MLSMessage."""
    decoded = MLSMessage.decode(H(message)).body
    assert isinstance(decoded, kind)
    return decoded


def anyone(leaf: LeafNode, *, entering: bool) -> None:
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
    private = sealing.SignaturePrivateKey(suite, H(v["priv"]))
    equal(private.public_key, public)
    suite.verify_with_label(public, label, content, private.sign_with_label(label, content))
    v = case["encrypt_with_label"]
    label, context, plaintext = v["label"].encode(), H(v["context"]), H(v["plaintext"])
    key = hpke.HpkePrivateKey.from_private(suite, H(v["priv"]))
    equal(key.public_key, H(v["pub"]))
    sealed = (H(v["kem_output"]), H(v["ciphertext"]))
    equal(hpke.decrypt_with_label(suite, key, label, context, *sealed), plaintext)
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

    def check_public(message: PublicMessage, content: Content) -> None:
        verify_membership_tag(suite, membership_key, message, context)
        message.authenticated_content.verify_signature(suite, H(case["signature_pub"]), context)
        equal(message.content.content, content)

    def check_private(message: PrivateMessage, content: Content) -> None:
        opened, _ = open_private(suite, sender_data_secret, fresh_tree(), message, lambda _: None)
        opened.verify_signature(suite, H(case["signature_pub"]), context)
        equal(opened.content.content, content)

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
    root = key_schedule.epoch_secret(suite, opened.joiner_secret, psk, info.group_context)
    secrets, _ = key_schedule.EpochSecrets.derive(suite, root)
    secrets.verify_confirmation_tag(suite, info.group_context, info.confirmation_tag)


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
        leaf_node.verify_signature(suite, H(case["group_id"]), leaf)


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
    resumption: dict[int, bytes] = {}

    def psks(psk: PreSharedKeyId) -> bytes:
        return external[psk.psk_id] if psk.type == PskType.EXTERNAL else resumption[psk.epoch]

    package = body(case["key_package"], KeyPackage)
    bundle = KeyPackageBundle.from_private(package, H(case["init_priv"]), H(case["encryption_priv"]))
    private = sealing.SignaturePrivateKey(suite, H(case["signature_priv"]))
    equal(private.public_key, package.leaf_node.signature_key)
    tree = case["ratchet_tree"]
    group = Group.join(
        body(case["welcome"], Welcome),
        bundle,
        private,
        tree=None if tree is None else RatchetTree.decode(H(tree)),
        psks=psks,
        validate=anyone,
        now=TIMES[-1],
    )
    now = max((leaf.lifetime.not_before for _, leaf in group.public.members() if leaf.lifetime), default=0)
    equal(group.epoch_authenticator, H(case["initial_epoch_authenticator"]))
    for epoch in case["epochs"]:
        resumption[group.epoch] = group.resumption_psk
        for proposal in epoch["proposals"]:
            group.receive_proposal(H(proposal))
        for time in (now, *TIMES):
            try:
                staged = group.stage(H(epoch["commit"]), psks=psks, validate=anyone, now=time)
            except OutsideLifetime:
                continue
            now = time
            break
        else:
            raise AssertionError("no time suits the lifetimes of the added key packages")
        assert staged.group is not None
        group = staged.group
        equal(group.epoch_authenticator, H(epoch["epoch_authenticator"]))


CHECKS: dict[str, Callable[[Case], None]] = {
    "crypto-basics": crypto_basics,
    "deserialization": deserialization,
    "key-schedule": key_schedule_,
    "message-protection": message_protection,
    "messages": messages,
    "passive-client": passive_client,
    "psk_secret": psk_secret,
    "secret-tree": secret_tree,
    "transcript-hashes": transcript_hashes,
    "tree-math": tree_math_,
    "tree-operations": tree_operations,
    "tree-validation": tree_validation,
    "treekem": treekem,
    "welcome": welcome,
}


def check_for(name: str) -> Callable[[Case], None] | None:
    """The check for a file of this name, or None."""
    return next((check for start, check in CHECKS.items() if name.startswith(start)), None)


def is_supported(case: Case) -> bool:
    """Whether a case has no cipher suite, or one that is implemented."""
    return case.get("cipher_suite", 1) in SUPPORTED_SUITES


def run_file(path: Path) -> tuple[int, int, list[str]]:
    """Run one file: cases passed, cases counted, and what went wrong."""
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return 0, 1, [f"the file cannot be read: {error}"]
    if not isinstance(cases, list):
        return 0, 1, ["the file is not a list of cases"]
    check = check_for(path.name)
    if check is None:
        return 0, len(cases), ["no check is known for a file of this name"]
    passed, wrong = 0, []
    counted = [(index, case) for index, case in enumerate(cases) if is_supported(case)]
    for index, case in counted:
        try:
            check(case)
        except (AssertionError, SecurechatError, KeyError, ValueError, TypeError) as error:
            wrong.append(f"case {index}: {type(error).__name__}: {error}"[:300])
        else:
            passed += 1
    if len(counted) < len(cases):
        left_out = len(cases) - len(counted)
        print(f"{path.name}: {left_out} cases of other cipher suites left out", file=sys.stderr)  # noqa: T201 - a tool
    return passed, len(counted), wrong


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
