"""Clients of several MLS implementations behind one interface, for the MLS bench.

All speak RFC 9420 and can be in one group, so that all can get the very same Welcome, message or commit. Bytes go in
and come out: decoding and encoding are part of what is measured. `cpu` is how much CPU time the newest operation took,
in seconds.
"""

import gc
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scripts.benchmarks import ROOT
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey, generate_signature_secret
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.extensions import ExternalSender
from securechat.mls.framing import MLSMessage, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import generate_key_package
from securechat.mls.leaf_node import Capabilities, LeafNode, Lifetime
from securechat.mls.proposals import Add
from securechat.mls.welcome import Welcome

TS_MLS = ROOT / "tests" / "interop"
"""The folder whose node_modules has ts-mls, if it is installed."""
CAPABILITIES = Capabilities(cipher_suites=(SUITE.value,))
HOUR = 3600  # seconds
_HEAD = 4  # bytes of version and wire format before the body of an MLSMessage

_numbers = itertools.count()


class Client(ABC):
    """One member of one group. Each operation is there under its name; an implementation overrides what it can do."""

    name: str
    cpu = 0.0

    def run(self, operation: str, *arguments: Any) -> Any:
        """Do what `_operation` does, and note in `cpu` what it cost."""
        work = getattr(self, f"_{operation}")
        gc.collect()
        started = time.process_time()
        result = work(*arguments)
        self.cpu = time.process_time() - started
        return result

    @abstractmethod
    def key_package(self) -> bytes:
        """Its key package, as an MLSMessage."""

    def merge(self, commit: bytes) -> None:
        """Go on with the epoch that its own update, `commit`, begins."""
        self.run("process", commit)

    def close(self) -> None:  # noqa: B027 - most have nothing to let go
        """Let go what the system holds for it."""


class Securechat(Client):
    """This repository's engine."""

    name = "securechat"

    def __init__(self) -> None:
        """Make its keys."""
        now = int(time.time())
        self.signature_secret = generate_signature_secret(SUITE)
        self._signature = SignaturePrivateKey(SUITE, self.signature_secret)
        name = b"securechat %d" % next(_numbers)
        self.bundle = generate_key_package(
            SUITE, Credential.basic(name), self._signature, CAPABILITIES, Lifetime(now - HOUR, now + 24 * HOUR)
        )
        self._group: Group | None = None
        self._staged: StagedCommit | None = None

    @property
    def group(self) -> Group:
        """The group it is in."""
        assert self._group is not None
        return self._group

    def key_package(self) -> bytes:
        """Its key package, as an MLSMessage."""
        return MLSMessage(self.bundle.key_package).encode()

    def _create_and_add(self, key_packages: Sequence[bytes]) -> StagedCommit:
        group = Group.create(b"bench", self.bundle, self._signature)
        adds = [Add(decode_body(encoded, KeyPackage)) for encoded in key_packages]
        return group.commit(adds, tree_in_welcome=True, validate=_anyone, now=int(time.time()))

    def create_and_add(self, key_packages: Sequence[bytes]) -> StagedCommit:
        """Make a group, add the owners of the key packages in one commit, and go on in the group that results."""
        staged: StagedCommit = self.run("create_and_add", key_packages)
        self._group = staged.group
        return staged

    def merge(self, _commit: bytes) -> None:
        """Go on with the epoch that the newest update begins."""
        assert self._staged is not None
        self._group = self._staged.group

    def _join(self, welcome: bytes) -> None:
        self._group = Group.join(
            decode_body(welcome, Welcome), self.bundle, self._signature, validate=_anyone, now=int(time.time())
        )

    def _encrypt(self, texts: Sequence[bytes]) -> list[bytes]:
        return [self.group.encrypt(text) for text in texts]

    def _decrypt(self, messages: Sequence[bytes]) -> list[bytes]:
        return [self.group.decrypt(message).plaintext for message in messages]

    def _update(self) -> bytes:
        self._staged = self.group.commit(tree_in_welcome=False, validate=_anyone, now=int(time.time()))
        return self._staged.message

    def _process(self, commit: bytes) -> None:
        self._group = self.group.stage(commit, validate=_anyone, now=int(time.time())).group


def _anyone(_holder: LeafNode | ExternalSender, /, *, entering: bool) -> None:
    """Nobody else's credential is judged by a bench."""


class Rfc9420(Client):
    """rfc9420, pure Python. Its commits are not compared: its update path's leaf keeps an old signature."""

    name = "rfc9420"

    def __init__(self) -> None:
        """Borrow the keys of a client of ours: it only reads them."""
        import rfc9420
        from rfc9420.messages import data_structures, key_packages, messages

        self._library = rfc9420
        self._welcome, self._key_package = data_structures.Welcome, key_packages.KeyPackage
        self._ciphertext = messages.MLSCiphertext
        self._keys = Securechat()

    def key_package(self) -> bytes:
        """Its key package, as an MLSMessage."""
        return self._keys.key_package()

    def _join(self, welcome: bytes) -> None:
        config = self._library.GroupConfig(
            self._library.DefaultCryptoProvider(SUITE.value), self._library.MemoryStorageProvider()
        )
        self._group = self._library.MLSGroup.join_from_welcome(
            config,
            self._welcome.deserialize(welcome[_HEAD:]),
            bytes(self._keys.bundle.init_private.private),
            self._key_package.deserialize(self.key_package()[_HEAD:]),
        )

    def _encrypt(self, texts: Sequence[bytes]) -> list[bytes]:
        key = bytes(self._keys.signature_secret)
        return [self._group.protect(text, key).serialize() for text in texts]

    def _decrypt(self, messages: Sequence[bytes]) -> list[bytes]:
        return [
            self._group.unprotect(self._ciphertext.deserialize(message))[1] for message in messages
        ]


class MlsRs(Client):
    """AWS mls-rs through its Python bindings (agentvault-mls-rs-uniffi): Rust."""

    name = "mls-rs"

    def __init__(self) -> None:
        """Make its keys."""
        import mls_rs_uniffi

        self._library = mls_rs_uniffi
        suite = mls_rs_uniffi.CipherSuite.CURVE25519_AES128
        self._client = mls_rs_uniffi.Client(
            b"mls-rs %d" % next(_numbers),
            mls_rs_uniffi.generate_signature_keypair(suite),
            mls_rs_uniffi.client_config_default(),
        )

    def key_package(self) -> bytes:
        """Its key package, as an MLSMessage."""
        encoded: bytes = self._client.generate_key_package_message().to_bytes()
        return encoded

    def _read(self, message: bytes) -> Any:
        return self._library.Message.from_bytes(message)

    def _create_and_add(self, key_packages: Sequence[bytes]) -> None:
        made = self._client.create_group(None).add_members([self._read(encoded) for encoded in key_packages])
        made.commit_message.to_bytes()
        made.welcome_message.to_bytes()

    def _join(self, welcome: bytes) -> None:
        self._group = self._client.join_group(None, self._read(welcome)).group

    def _encrypt(self, texts: Sequence[bytes]) -> list[bytes]:
        return [self._group.encrypt_application_message(text).to_bytes() for text in texts]

    def _decrypt(self, messages: Sequence[bytes]) -> list[bytes]:
        return [self._group.process_incoming_message(self._read(message)).data for message in messages]

    def _update(self) -> bytes:
        encoded: bytes = self._group.commit().commit_message.to_bytes()
        return encoded

    def _process(self, commit: bytes) -> None:
        self._group.process_incoming_message(self._read(commit))


class TsMls(Client):
    """ts-mls, TypeScript, in a node process of its own; it measures its CPU time itself."""

    name = "ts-mls"

    def __init__(self) -> None:
        """Start node."""
        self._node = subprocess.Popen(
            [_node() or "node", Path(__file__).with_name("ts_mls_peer.mjs"), TS_MLS, f"ts-mls {next(_numbers)}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, operation: str, *arguments: Any) -> Any:
        """Let node do it."""
        self.cpu = 0.0
        if operation in {"encrypt", "decrypt"}:
            return [self._ask(operation, bytes=item.hex()) for item in arguments[0]]
        if operation == "create_and_add":
            return self._ask("createAndAdd", keyPackages=[encoded.hex() for encoded in arguments[0]])
        return self._ask(operation, **({"bytes": arguments[0].hex()} if arguments else {}))

    def merge(self, _commit: bytes) -> None:
        """Go on with the epoch that its own update begins."""
        self._ask("merge")

    def _ask(self, operation: str, **fields: object) -> bytes:
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps({"op": operation, **fields}) + "\n")
        self._node.stdin.flush()
        reply = json.loads(self._node.stdout.readline())
        if reply.get("error"):
            raise RuntimeError(f"ts-mls cannot {operation}: {reply['error']}")
        self.cpu += reply["cpu"] / 1e6
        return bytes.fromhex(reply.get("bytes") or "")

    def key_package(self) -> bytes:
        """Its key package, as an MLSMessage."""
        return self._ask("keyPackage")

    def close(self) -> None:
        """End node."""
        assert self._node.stdin is not None
        self._node.stdin.close()
        self._node.wait(10)


def _node() -> str | None:
    """Node.js: the one installed beside Python, else the system's."""
    return shutil.which("node", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def installed() -> tuple[list[type[Client]], list[str]]:
    """The foreign implementations at hand, and the names of those that are missing."""
    at_hand: list[type[Client]] = []
    if find_spec("rfc9420"):
        at_hand.append(Rfc9420)
    if find_spec("mls_rs_uniffi"):
        at_hand.append(MlsRs)
    if _node() and (TS_MLS / "node_modules" / "ts-mls").is_dir():
        at_hand.append(TsMls)
    return at_hand, [kind.name for kind in (Rfc9420, MlsRs, TsMls) if kind not in at_hand]
