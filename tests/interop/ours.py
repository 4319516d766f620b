"""securechat.mls as a member."""

import time

from securechat.mls.credential import Credential
from securechat.mls.crypto import sealing
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import CipherSuite, MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.errors import InvalidMessage
from securechat.mls.extensions import Extension
from securechat.mls.framing import ContentType, MLSMessage, decode_body, read_header
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.mls.proposals import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    PskType,
    Remove,
)
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from tests.interop.member import AddClient, Change, Committed, MixPsk, RemoveMember, SetExtensions
from tests.mls.support import RULES, anyone, state

HOUR = 3600  # seconds


class Ours:
    """A member that runs our code. It also encrypts handshakes, joins externally and proposes."""

    def __init__(self, name: str, suite: CipherSuite = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519) -> None:
        self.identity = name.encode()
        self.suite = suite
        self.signature = SignaturePrivateKey.generate(suite)
        self.credential = Credential.basic(self.identity)
        self.capabilities = Capabilities(cipher_suites=(suite.value,), extensions=(RULES,))
        self.psks: dict[bytes, bytes] = {}
        self._group: Group | None = None

    @property
    def group(self) -> Group:
        """The own view of the group."""
        assert self._group is not None, f"{self.identity!r} is in no group"
        return self._group

    @property
    def active(self) -> bool:
        """Whether this is still a member."""
        return self._group is not None

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.group.epoch

    @property
    def authenticator(self) -> bytes:
        """The epoch authenticator."""
        return self.group.epoch_authenticator

    def saved(self) -> tuple[bytes, bytes]:
        """All that this member remembers of the group."""
        return state(self.group)

    def restart(self) -> None:
        """Go on from the saved state."""
        self._group = Group.load(*self.saved(), {self.signature.public_key: self.signature})

    def learn_psk(self, psk_id: bytes, psk: bytes) -> None:
        """Take note of an external PSK."""
        self.psks[psk_id] = psk

    # ---- coming in

    def key_package(self) -> bytes:
        """A fresh key package."""
        now = int(time.time())
        self.bundle = generate_key_package(
            self.suite, self.credential, self.signature, self.capabilities, Lifetime(now - HOUR, now + HOUR)
        )
        return MLSMessage(self.bundle.key_package).encode()

    def create(self, group_id: bytes, extensions: tuple[Extension, ...] = ()) -> None:
        """Make a group of one."""
        self.key_package()
        self._group = Group.create(group_id, self.bundle, self.signature, extensions=extensions)

    def join(self, welcome: bytes, tree: bytes | None = None) -> None:
        """Enter a group by a Welcome."""
        self._group = Group.join(
            decode_body(welcome, Welcome),
            self.bundle,
            self.signature,
            tree=None if tree is None else RatchetTree.decode(tree),
            psks=self._find_psk,
            validate=anyone,
            now=int(time.time()),
        )

    def join_external(self, group_info: bytes, *, resync: bool = False) -> bytes:
        """Enter a group by an external commit, or come back in place of the old leaf; the commit comes back."""
        info = decode_body(group_info, GroupInfo)
        old = self.leaf_of(self.identity) if resync else None
        staged = Group.join_external(
            info,
            None,
            self.signature,
            credential=self.credential,
            capabilities=self.capabilities,
            remove_own_old_leaf=old,
            validate=anyone,
            now=int(time.time()),
        )
        self._group = staged.group
        return staged.message

    # ---- handshakes

    def propose(self, change: Change, *, encrypt: bool = False) -> bytes:
        """Propose a change, for a later commit to refer to."""
        proposal = self._proposal(change)
        if isinstance(proposal, Add):
            now = int(time.time())
            return self.group.propose_add(proposal.key_package, encrypt=encrypt, validate=anyone, now=now)
        return self.group.propose(proposal, encrypt=encrypt)

    def propose_update(self, *, encrypt: bool = False) -> bytes:
        """Propose fresh keys for the own leaf."""
        return self.group.propose_update(encrypt=encrypt)

    def commit(self, *changes: Change, encrypt: bool = False, tree_in_welcome: bool = True) -> Committed:
        """Commit the proposals received and these changes."""
        staged = self.group.commit(
            [self._proposal(change) for change in changes],
            encrypt=encrypt,
            tree_in_welcome=tree_in_welcome,
            psks=self._find_psk,
            validate=anyone,
            now=int(time.time()),
        )
        self._group = staged.group
        return Committed(staged.message, staged.welcome, self.group.public.tree.encode())

    def receive(self, message: bytes) -> bytes | None:
        """Process what another member sent."""
        kind = read_header(message).content_type
        if kind == ContentType.APPLICATION:
            return self.group.decrypt(message).plaintext
        if kind == ContentType.PROPOSAL:
            self.group.receive_proposal(message)
        else:
            self._group = self._stage(message).group
        return None

    def _stage(self, message: bytes) -> StagedCommit:
        return self.group.stage(message, psks=self._find_psk, validate=anyone, now=int(time.time()))

    def leaf_of(self, identity: bytes) -> LeafIndex:
        """The leaf of the member with this identity."""
        wanted = Credential.basic(identity)
        return next(leaf for leaf, node in self.group.public.members() if node.credential == wanted)

    def _proposal(self, change: Change) -> Proposal:
        match change:
            case AddClient(key_package):
                return Add(decode_body(key_package, KeyPackage))
            case RemoveMember(identity):
                return Remove(self.leaf_of(identity))
            case MixPsk(psk_id):
                nonce = sealing.random_bytes(self.suite.hash_size)
                return PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, nonce, psk_id))
            case SetExtensions(extensions):
                return GroupContextExtensions(tuple(Extension(kind, data) for kind, data in extensions))

    def _find_psk(self, psk_id: PreSharedKeyId) -> bytes:
        if psk_id.psk_id not in self.psks:
            raise InvalidMessage("a pre-shared key is not known here")
        return self.psks[psk_id.psk_id]

    # ---- what a group gives

    def encrypt(self, text: bytes) -> bytes:
        """Make an application message."""
        return self.group.encrypt(text)

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """MLS-Exporter."""
        return bytes(self.group.export(label, context, length))

    def group_info(self) -> bytes:
        """A GroupInfo with the tree, by which others can join externally."""
        return self.group.group_info(with_tree=True)
