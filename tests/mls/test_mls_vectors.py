"""The working group's vectors, through the same runner as `scripts/mls-vectors`."""

import json
from pathlib import Path

import pytest

from securechat.mls.credential import Credential, CredentialType
from securechat.mls.crypto.sealing import SignaturePrivateKey, generate_signature_secret
from securechat.mls.crypto.suite import CipherSuite, cipher_suite
from securechat.mls.extensions import (
    Extension,
    ExtensionType,
    ExternalSender,
    RequiredCapabilities,
    external_senders_extension,
)
from securechat.mls.framing import MLSMessage, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.mls.proposals import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    PskType,
    ReInit,
    Remove,
    ResumptionPskUsage,
)
from securechat.mls.welcome import Welcome
from tests.mls import vectors
from tests.mls.support import NOW, propose
from tests.mls.vectors import FOLDER

FILES = sorted(FOLDER.glob("*.json"))

needs_vectors = pytest.mark.skipif(
    not FILES,
    reason=f"no MLS test vectors in {FOLDER}: clone the repository mls-implementations of GitHub's mlswg, and let"
    " SECURECHAT_MLS_VECTORS name its folder test-vectors",
)


@needs_vectors
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_passes(path: Path) -> None:
    passed, counted, wrong = vectors.run_file(path)
    assert not wrong
    assert passed == counted > 0


@needs_vectors
def test_every_format_and_every_cipher_suite_has_cases() -> None:
    cases = [case for path in FILES for case in json.loads(path.read_text(encoding="utf-8"))]
    assert {vectors.check_for(case) for case in cases} == set(vectors.FORMATS.values())
    assert {case.get("cipher_suite", 1) for case in cases} == set(range(1, 8))


def run_folder(folder: Path, name: str, content: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """What the tool says about a folder with one file: exit code, output, errors."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    code = vectors.main([str(folder)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@needs_vectors
def test_a_vector_with_one_wrong_value_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = json.loads((FOLDER / "psk_secret.json").read_text(encoding="utf-8"))[:2]
    good = run_folder(tmp_path, "psk_secret.json", cases, capsys)
    assert good == (0, "psk_secret.json: passed 2 of 2\n2 passed, 0 failed\n", "")
    cases[1]["psk_secret"] = "00" * 32
    code, out, _ = run_folder(tmp_path, "psk_secret.json", cases, capsys)
    assert (code, out) == (1, "psk_secret.json: passed 1 of 2\n1 passed, 1 failed\n")


@needs_vectors
def test_a_case_is_recognized_whatever_its_file_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [json.loads(path.read_text(encoding="utf-8"))[0] for path in FILES]
    code, out, errors = run_folder(tmp_path, "anything.json", cases, capsys)
    assert (code, errors) == (0, "")
    assert out == f"anything.json: passed {len(FILES)} of {len(FILES)}\n{len(FILES)} passed, 0 failed\n"


class History:
    """A passive client's case of our own making, in any suite, with what the published files lack."""

    def __init__(self, suite: CipherSuite, *, with_tree: bool) -> None:
        self.suite = suite
        capabilities = Capabilities(cipher_suites=(suite.value,))
        lifetime = Lifetime(0, vectors.END_OF_TIME)
        self.keys = [SignaturePrivateKey(suite, generate_signature_secret(suite)) for _ in range(4)]
        secret = generate_signature_secret(suite)
        key = SignaturePrivateKey(suite, secret)
        self.capabilities = capabilities
        self.packages = [
            generate_key_package(suite, Credential.basic(b"member"), each, capabilities, lifetime)
            for each in (*self.keys, key)
        ]
        passive, alice = self.packages[-1], Group.create(b"group", self.packages[0], self.keys[0])
        adds = [Add(passive.key_package), Add(self.packages[1].key_package)]
        psk_id = PreSharedKeyId(PskType.EXTERNAL, bytes(suite.hash_size), psk_id=b"name")
        self.psks = {psk_id: b"secret"}
        staged = alice.commit(
            [*adds, PreSharedKey(psk_id)],
            tree_in_welcome=with_tree,
            psks=self.psks.__getitem__,
            validate=vectors.anyone,
            now=NOW,
        )
        assert staged.group is not None
        assert staged.welcome is not None
        tree = staged.group.public.tree
        bob = Group.join(
            decode_body(staged.welcome, Welcome),
            self.packages[1],
            self.keys[1],
            tree=None if with_tree else tree,
            psks=self.psks.__getitem__,
            validate=vectors.anyone,
            now=NOW,
        )
        self.members = [staged.group, bob]
        self.case: vectors.Case = {
            "cipher_suite": suite.value,
            "external_psks": [{"psk_id": b"name".hex(), "psk": b"secret".hex()}],
            "key_package": MLSMessage(passive.key_package).encode().hex(),
            "signature_priv": secret.hex(),
            "encryption_priv": passive.leaf_private.private.hex(),
            "init_priv": passive.init_private.private.hex(),
            "welcome": staged.welcome.hex(),
            "ratchet_tree": None if with_tree else tree.encode().hex(),
            "initial_epoch_authenticator": staged.group.epoch_authenticator.hex(),
            "epochs": [],
        }

    def proposed(self, proposer: int, proposal: Proposal | None, *, encrypt: bool) -> str:
        """A proposal (None: an update) by one member, remembered by all."""
        member = self.members[proposer]
        if proposal is None:
            message = member.propose_update(encrypt=encrypt)
        else:
            message = propose(member, proposal, encrypt=encrypt)
        for other in self.members:
            if other is not member:
                other.receive_proposal(message)
        return message.hex()

    def commit(self, *proposed: str, encrypt: bool = False, by: StagedCommit | None = None) -> None:
        """A commit by the first member, or an external one, taken by all."""
        resumption = {member.epoch: member.resumption_psk for member in self.members}

        def psks(psk_id: PreSharedKeyId) -> bytes:
            return self.psks[psk_id] if psk_id.type == PskType.EXTERNAL else resumption[psk_id.epoch]

        made = by or self.members[0].commit(
            encrypt=encrypt, tree_in_welcome=True, psks=psks, validate=vectors.anyone, now=NOW
        )
        others = self.members if by else self.members[1:]
        after = [member.stage(made.message, psks=psks, validate=vectors.anyone, now=NOW).group for member in others]
        self.members = [group for group in (made.group, *after) if group is not None]
        authenticator = self.members[0].epoch_authenticator.hex()
        epoch = {"proposals": list(proposed), "commit": made.message.hex(), "epoch_authenticator": authenticator}
        self.case["epochs"].append(epoch)

    def external(self) -> StagedCommit:
        """Somebody joins by itself, with a pre-shared key."""
        return Group.join_external(
            decode_body(self.members[0].group_info(with_tree=True), GroupInfo),
            None,
            self.keys[3],
            credential=Credential.basic(b"joiner"),
            capabilities=self.capabilities,
            psk_ids=list(self.psks),
            psks=self.psks.__getitem__,
            validate=vectors.anyone,
            now=NOW,
        )


@pytest.mark.parametrize(("value", "with_tree"), [(1, True), (4, False), (7, True)])
def test_a_passive_client_follows_all_that_a_file_may_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, value: int, with_tree: bool
) -> None:
    history = History(cipher_suite(value), with_tree=with_tree)
    alice, bob = history.members
    resumption = PreSharedKeyId(
        PskType.RESUMPTION,
        bytes(history.suite.hash_size),
        usage=ResumptionPskUsage.APPLICATION,
        group_id=alice.group_id,
        epoch=alice.epoch,
    )
    history.commit(
        history.proposed(0, PreSharedKey(resumption), encrypt=True),
        history.proposed(1, PreSharedKey(next(iter(history.psks))), encrypt=False),
        history.proposed(1, Add(history.packages[2].key_package), encrypt=True),
        encrypt=True,
    )
    requirement = RequiredCapabilities(credential_types=(CredentialType.BASIC,)).encode()
    required = Extension(ExtensionType.REQUIRED_CAPABILITIES, requirement)
    sender = external_senders_extension([ExternalSender(history.keys[3].public_key, Credential.basic(b"warden"))])
    history.commit(
        history.proposed(1, GroupContextExtensions((required, sender)), encrypt=False),
        history.proposed(1, None, encrypt=True),
    )
    history.commit(by=history.external())
    history.commit(history.proposed(1, Remove(bob.own_leaf), encrypt=False), encrypt=True)
    history.commit(history.proposed(0, ReInit(b"new", 1, 1, ()), encrypt=False))
    code, out, errors = run_folder(tmp_path, "passive-client-random.json", [history.case], capsys)
    assert errors == ""
    assert (code, out) == (0, "passive-client-random.json: passed 1 of 1\n1 passed, 0 failed\n")
    # Its twin: with one authenticator wrong, it fails.
    history.case["epochs"][-1]["epoch_authenticator"] = "00"
    assert run_folder(tmp_path, "passive-client-random.json", [history.case], capsys)[0] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{}", "not a list"),
        ("[]", "not a list"),
        ('[{"new": 1}]', "not known"),
        ("[7]", "not known"),
        ('[{"n_leaves": 1, "tree_before": ""}]', "not known"),
        ('[{"n_leaves": "many"}]', "case 0"),
        ('[{"vlbytes_header": "zz", "length": 1}]', "case 0"),
        ('[{"psks": [], "psk_secret": "", "cipher_suite": 8}]', "not supported"),
    ],
)
def test_what_is_no_vector_is_reported_as_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    code, out, errors = run_folder(tmp_path, "treekem.json", content, capsys)
    assert (code, out) == (1, "treekem.json: passed 0 of 1\n0 passed, 1 failed\n")
    assert reason in errors
