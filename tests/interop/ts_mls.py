"""ts-mls as members: TypeScript, run by node in one process (`ts_mls_peer.mjs`), spoken to in lines of JSON."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from securechat.mls.crypto.suite import CipherSuite, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from tests.interop.member import AddClient, Change, Committed, MixPsk, Refused, RemoveMember, SetExtensions
from tests.mls.support import RULES

HERE = Path(__file__).parent


def find_node() -> str | None:
    """The path of node: the extra's, else the machine's; None without one."""
    own = Path(sys.prefix) / "bin"
    return shutil.which("node", path=f"{own}{os.pathsep}{os.environ.get('PATH', '')}")


class TsMls:
    """The process that its members live in."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen(
            [node, HERE / "ts_mls_peer.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its input, at which it ends

    def ask(self, member: str, verb: str, **arguments: object) -> dict[str, Any]:
        """Have a member do something. Raises `Refused` with the member's own words if it will not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"member": member, "verb": verb, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the node process has ended"
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise Refused(reply["error"])
        return reply

    def member(self, name: str, suite: CipherSuite = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519) -> "TsMember":
        """A new member; an earlier one of that name is forgotten."""
        self.ask(name, "enrol", suite=suite.name, extensions=[RULES])
        return TsMember(self, name)


class TsMember:
    """A member that runs ts-mls. It also encrypts handshakes and proposes."""

    def __init__(self, peer: TsMls, name: str) -> None:
        self.identity = name.encode()
        self._name = name
        self._peer = peer

    def _ask(self, verb: str, **arguments: object) -> dict[str, Any]:
        return self._peer.ask(self._name, verb, **arguments)

    def key_package(self) -> bytes:
        """A fresh key package."""
        return bytes.fromhex(self._ask("keyPackage")["keyPackage"])

    def create(self, group_id: bytes) -> None:
        """Make a group of one."""
        self._ask("create", groupId=group_id.hex())

    def join(self, welcome: bytes, tree: bytes | None = None) -> None:
        """Enter a group by a Welcome."""
        self._ask("join", welcome=welcome.hex(), tree=None if tree is None else tree.hex())

    def learn_psk(self, psk_id: bytes, psk: bytes) -> None:
        """Take note of an external PSK."""
        self._ask("learnPsk", id=psk_id.hex(), psk=psk.hex())

    def propose(self, change: Change, *, encrypt: bool = False) -> bytes:
        """Propose a change, for a later commit to refer to."""
        return bytes.fromhex(self._ask("propose", proposal=_named(change), encrypt=encrypt)["message"])

    def commit(self, *changes: Change, encrypt: bool = False, tree_in_welcome: bool = True) -> Committed:
        """Commit the proposals received and these changes."""
        made = self._ask(
            "commit",
            proposals=[_named(change) for change in changes],
            encrypt=encrypt,
            treeInWelcome=tree_in_welcome,
        )
        welcome = None if made["welcome"] is None else bytes.fromhex(made["welcome"])
        return Committed(bytes.fromhex(made["message"]), welcome, bytes.fromhex(made["tree"]))

    def receive(self, message: bytes) -> bytes | None:
        """Process what another member sent."""
        text = self._ask("receive", message=message.hex())["text"]
        return None if text is None else bytes.fromhex(text)

    def encrypt(self, text: bytes) -> bytes:
        """Make an application message."""
        return bytes.fromhex(self._ask("encrypt", text=text.hex())["message"])

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter."""
        asked = self._ask("exportSecret", label=label, context=context.hex(), length=length)
        return bytes.fromhex(asked["secret"])

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return int(self._ask("view")["epoch"])

    @property
    def authenticator(self) -> bytes:
        """The epoch authenticator."""
        return bytes.fromhex(self._ask("view")["authenticator"])

    @property
    def active(self) -> bool:
        """Whether this is still a member."""
        return bool(self._ask("view")["active"])

    def saved(self) -> bytes:
        """All that this member remembers of the group."""
        return bytes.fromhex(self._ask("saved")["state"])


def _named(change: Change) -> dict[str, object]:
    """The change in the words of `Member.proposal` in ts_mls_peer.mjs."""
    match change:
        case AddClient(key_package):
            return {"add": key_package.hex()}
        case RemoveMember(identity):
            return {"remove": identity.hex()}
        case MixPsk(psk_id):
            return {"psk": psk_id.hex()}
        case SetExtensions(extensions):
            return {"extensions": [[kind, data.hex()] for kind, data in extensions]}
