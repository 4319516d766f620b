"""A member's view of a group: the public group and the member's secrets (RFC 9420, sections 11 and 12).

A `Group` is one epoch. Only `encrypt`, `decrypt`, `propose...` and `receive_proposal` change it, each all or
nothing. A commit does not, except for the key that our own encrypted one uses up: making or staging one gives
a `StagedCommit`, whose `group` is the member's view of the next epoch. To accept the commit, go on with
that one and drop this one.

What it keeps: the epoch's secrets (`key_schedule`), the private keys of our own path (`treekem`), message keys not
used yet (`secret_tree`), and the private keys of updates proposed. What it deletes: a message key with its
message; everything else with the epoch, since the next one is another object.

The saved form has two parts, so that a message does not rewrite the tree: `public_bytes` changes with the
epoch and with proposals, `secret_bytes` with every message. Neither holds a secret that was used up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Self

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.mls.committing import (
    Committer,
    LeafTemplate,
    NewEpoch,
    follow_commit,
    make_commit,
    make_group_info,
)
from securechat.mls.credential import Credential
from securechat.mls.crypto import sealing
from securechat.mls.crypto.hpke import HpkePrivateKey
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import BadExternalKey, CannotDecrypt, InvalidMessage
from securechat.mls.extensions import Extensions, external_pub, verify_group_extensions
from securechat.mls.framing import (
    AuthenticatedContent,
    Content,
    ContentType,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
)
from securechat.mls.group_context import GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.joining import Entrance, enter, open_welcome
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.key_schedule import (
    EpochSecret,
    EpochSecrets,
    PskLookup,
    encapsulate_init_secret,
    no_psks,
)
from securechat.mls.leaf_node import Capabilities, CredentialValidator, LeafNodeSource
from securechat.mls.message_protection import (
    open_private,
    protect_private,
    protect_public,
    verify_membership_tag,
)
from securechat.mls.proposal_list import CommittedProposal, of_members
from securechat.mls.proposals import (
    Add,
    ExternalInit,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    Remove,
    Update,
)
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.secret_tree import SecretTree, Step
from securechat.mls.transcript_hash import interim_transcript_hash
from securechat.mls.tree_math import LeafIndex
from securechat.mls.treekem import TreePrivateKeys
from securechat.mls.welcome import Welcome
from securechat.tlscodec import MAX_VECTOR, Reader, Writer
from securechat.value import value

_SAVED_VERSION = 1

SignatureKeys = Mapping[bytes, SignaturePrivateKey]
"""Our signature keys by their public halves: each of our leaves names its own."""


def _is_available(proposal: Proposal, psks: PskLookup) -> bool:
    """Whether we have the pre-shared key that a proposal asks for, if any: nobody can make us commit to another."""
    if isinstance(proposal, PreSharedKey):
        try:
            psks(proposal.psk)
        except PeerError:
            return False
    return True


def _handshake_format(*, encrypt: bool) -> WireFormat:
    return WireFormat.PRIVATE_MESSAGE if encrypt else WireFormat.PUBLIC_MESSAGE


@value
class ReceivedMessage:
    """An application message that proved genuine."""

    sender: LeafIndex
    plaintext: bytes = field(repr=False)
    authenticated_data: bytes


class Group:
    """One member's view of one epoch of a group."""

    __slots__ = ("_keys", "_messages", "_pending_updates", "_secrets", "_signature_private", "public")

    def __init__(
        self,
        public: PublicGroup,
        signature_private: SignaturePrivateKey,
        secrets: EpochSecrets,
        keys: TreePrivateKeys,
        messages: SecretTree,
        pending_updates: tuple[HpkePrivateKey, ...] = (),
    ) -> None:
        """Put the parts together; use `create`, `join`, `join_external` or `load`.

        Raises `UsageError` if the signature key is not our own leaf's.
        """
        own = public.tree.leaf(keys.leaf)
        if own is None or own.signature_key != signature_private.public_key:
            raise UsageError("the signature key is not that of our own leaf")
        self.public = public
        self._signature_private = signature_private
        self._secrets = secrets
        self._keys = keys
        self._messages = messages
        self._pending_updates = pending_updates

    def __repr__(self) -> str:
        """Group, epoch and leaf."""
        return f"<Group {self.group_id.hex()}: epoch {self.epoch}, leaf {self.own_leaf}>"

    # ---- what it says about itself

    @property
    def suite(self) -> CipherSuite:
        """The group's cipher suite."""
        return self.public.suite

    @property
    def group_id(self) -> bytes:
        """The group's name."""
        return self.public.group_id

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        return self.public.epoch

    @property
    def own_leaf(self) -> LeafIndex:
        """This member's place in the tree."""
        return self._keys.leaf

    @property
    def can_sign(self) -> bool:
        """Whether we still have the private half of our leaf's signature key. Without it we can only follow."""
        return not self._signature_private.is_wiped

    @property
    def epoch_authenticator(self) -> bytes:
        """KDF.Nh bytes, equal for all who have the same view of the group (section 8.7); may be shown."""
        return bytes(self._secrets.epoch_authenticator)

    @property
    def resumption_psk(self) -> Secret:
        """Proves membership in this epoch (section 8.6). Keep it only if later PSKs refer to it."""
        return self._secrets.resumption_psk

    def export(self, label: str, context: bytes, length: int) -> Secret:
        """MLS-Exporter (section 8.5): `length` secret bytes. Raises `UsageError` if that is too many."""
        return self._secrets.export(self.suite, label, context, length)

    def sign(self, label: bytes, content: bytes) -> bytes:
        """SignWithLabel with our leaf's key (section 5.1.2), for something beside the group's own messages."""
        return self._signature_private.sign_with_label(label, content)

    # ---- how it comes into being

    @classmethod
    def create(
        cls,
        group_id: bytes,
        bundle: KeyPackageBundle,
        signature_private: SignaturePrivateKey,
        *,
        extensions: Extensions = (),
    ) -> Self:
        """Make a group of one, with these group context extensions (section 11).

        The bundle's key package must not be published. Raises `InvalidMessage` if its leaf does not support
        the extensions, `UsageError` if two of them are of one type.
        """
        suite, leaf_node = bundle.suite, bundle.key_package.leaf_node
        verify_group_extensions(suite, extensions)
        leaf_node.verify_for(suite, extensions)
        tree = RatchetTree.of_one(leaf_node)
        context = GroupContext(suite.value, group_id, 0, tree.tree_hash(suite), b"", extensions)
        root = EpochSecret(sealing.random_bytes(suite.hash_size))
        secrets, encryption_secret = EpochSecrets.derive(suite, root)
        tag = secrets.confirmation_tag(suite, context)
        return cls(
            PublicGroup(context, tree, interim_transcript_hash(suite, b"", tag)),
            signature_private,
            secrets,
            TreePrivateKeys.of_leaf(suite, LeafIndex(0), bundle.leaf_private),
            SecretTree.create(suite, tree.leaf_count, encryption_secret),
        )

    @classmethod
    def join(
        cls,
        welcome: Welcome,
        bundle: KeyPackageBundle,
        signature_private: SignaturePrivateKey,
        *,
        tree: RatchetTree | None = None,
        psks: PskLookup = no_psks,
        validate: CredentialValidator,
        now: int,
    ) -> Self:
        """Enter a group by a Welcome (section 12.4.3.1).

        `tree` is needed if it is not in the Welcome, and may come from anyone; `now` is in seconds since
        1970. The caller checks that the group is the one we mean to join, and not one that we are in
        already. Raises `InvalidMessage`, `CannotDecrypt`, `DecodeError`, or what `validate` and `psks`
        raise.
        """
        opened = open_welcome(welcome, bundle)
        if any(psk_id.links_groups for psk_id in opened.psks):
            raise InvalidMessage("a Welcome to a group that continues another one cannot be taken for a plain one")
        entrance = enter(welcome, opened, bundle, tree=tree, psks=psks, validate=validate, now=now)
        return cls.entered(entrance, signature_private)

    @classmethod
    def entered(cls, entrance: Entrance, signature_private: SignaturePrivateKey) -> Self:
        """The view of a member that joined by a Welcome."""
        return cls(entrance.public, signature_private, entrance.secrets, entrance.keys, entrance.messages)

    @classmethod
    def join_external(
        cls,
        group_info: GroupInfo,
        tree: RatchetTree | None,
        signature_private: SignaturePrivateKey,
        *,
        credential: Credential,
        capabilities: Capabilities,
        leaf_extensions: Extensions = (),
        remove_own_old_leaf: LeafIndex | None = None,
        psk_ids: Sequence[PreSharedKeyId] = (),
        psks: PskLookup = no_psks,
        authenticated_data: bytes = b"",
        validate: CredentialValidator,
        now: int,
    ) -> "StagedCommit":
        """Enter a group by an external commit, or come back in place of an old leaf (12.4.3.2).

        It mixes the pre-shared keys `psk_ids` in, which `psks` finds. Send the result's `message`, which is public, and
        go on with its `group` once the commit is accepted. Raises `InvalidMessage`, `DecodeError`, or what `validate`
        and `psks` raise.
        """
        public = PublicGroup.from_group_info(group_info, tree, validate=validate, now=now)
        suite = public.suite
        key = external_pub(group_info.extensions)
        if key is None:
            raise InvalidMessage("a GroupInfo has no key for external joins")
        suite.kem.check_public_key(key)
        kem_output, init_secret = encapsulate_init_secret(suite, key)
        proposals: list[Proposal] = [ExternalInit(kem_output)]
        if remove_own_old_leaf is not None:
            proposals.append(Remove(remove_own_old_leaf))
        proposals += (PreSharedKey(psk_id) for psk_id in psk_ids)
        sender = Sender(SenderType.NEW_MEMBER_COMMIT)
        committed = [CommittedProposal(proposal, sender, by_reference=False) for proposal in proposals]
        applied = public.apply_proposals(committed, sender, validate=validate, now=now)
        committer = Committer(
            public,
            sender,
            TreePrivateKeys(suite, applied.committer_leaf, {}),
            signature_private,
            init_secret,
        )
        made = make_commit(
            committer,
            tuple(proposals),
            applied,
            LeafTemplate(signature_private, credential, capabilities, leaf_extensions),
            wire_format=WireFormat.PUBLIC_MESSAGE,
            authenticated_data=authenticated_data,
            tree_in_welcome=False,
            psks=psks,
            validate=validate,
        )
        message = PublicMessage(made.content.content, made.content.auth, None)
        return StagedCommit.of_own(made, MLSMessage(message).encode())

    # ---- application messages

    def encrypt(self, plaintext: bytes, *, authenticated_data: bytes = b"", padding: int = 0) -> bytes:
        """Encrypt an application message with `padding` zero bytes; return an MLSMessage (section 6.3).

        The key is deleted at once: store `secret_bytes` together with the message before it leaves. Raises `UsageError`
        if the group is closed, or no message can hold the padding.
        """
        if not 0 <= padding <= MAX_VECTOR - len(plaintext):
            raise UsageError(f"a message cannot be padded with {padding} bytes")
        return self._protect(self._sign(WireFormat.PRIVATE_MESSAGE, plaintext, authenticated_data), padding)

    def decrypt(self, message: bytes, *, in_order: bool = False) -> ReceivedMessage:
        """Decrypt an application message, verify its signature, delete its key.

        `in_order`: each sender's messages come in the order in which they were made, as from a log. The keys of those
        skipped are then deleted too: they will never come, and the state would carry them until the epoch ends.

        Raises `WrongEpoch`, `CannotDecrypt`, `InvalidMessage` or `DecodeError`; the state is as it was then.
        """
        body = MLSMessage.decode(message).body
        if not isinstance(body, PrivateMessage) or body.content_type != ContentType.APPLICATION:
            raise InvalidMessage("an application message was expected")
        self.public.check_epoch(body.group_id, body.epoch)
        content, step = self._open(body)
        framed = content.content
        if not isinstance(framed.content, bytes):
            raise InvalidMessage("an application message was expected")
        sender = LeafIndex(framed.sender.index)
        content.verify_signature(self.suite, self.public.member(sender).signature_key, self.public.context)
        self._messages.take(step.without_skipped() if in_order else step)
        return ReceivedMessage(sender, framed.content, framed.authenticated_data)

    # ---- proposals

    def propose(self, proposal: Proposal, *, authenticated_data: bytes = b"", encrypt: bool = False) -> bytes:
        """Sign a proposal and remember it; return an MLSMessage.

        It holds a PublicMessage, or with `encrypt` a PrivateMessage, which uses up a key as `encrypt()` does. Raises
        `InvalidMessage` if it cannot be proposed, `UsageError` if the group is closed. For Adds and Updates see
        `propose_add` and `propose_update`.
        """
        if isinstance(proposal, Add | Update):
            raise UsageError("propose_add judges what an Add holds, and propose_update makes what an Update holds")
        return self._propose(proposal, authenticated_data, encrypt=encrypt)

    def propose_add(
        self,
        key_package: KeyPackage,
        *,
        authenticated_data: bytes = b"",
        encrypt: bool = False,
        validate: CredentialValidator,
        now: int,
    ) -> bytes:
        """Propose to add the owner of a key package, which must be in date (section 7.3).

        `now` is in seconds since 1970. Otherwise like `propose`; also raises what `validate` raises.
        """
        key_package.verify(self.suite, self.public.extensions, validate=validate, now=now)
        return self._propose(Add(key_package), authenticated_data, encrypt=encrypt)

    def propose_update(
        self,
        *,
        authenticated_data: bytes = b"",
        credential: Credential | None = None,
        capabilities: Capabilities | None = None,
        leaf_extensions: Extensions | None = None,
        encrypt: bool = False,
    ) -> bytes:
        """Propose a fresh encryption key for our own leaf, and what else is to change in it (12.1.2).

        The leaf's signature key stays: only `commit` can change it. Otherwise like `propose`.
        """
        key = HpkePrivateKey.generate(self.suite)
        old = self.public.member(self.own_leaf)
        leaf_node = replace(
            old,
            encryption_key=key.public_key,
            credential=old.credential if credential is None else credential,
            capabilities=old.capabilities if capabilities is None else capabilities,
            extensions=old.extensions if leaf_extensions is None else leaf_extensions,
            source=LeafNodeSource.UPDATE,
            lifetime=None,
            parent_hash=b"",
        ).signed(self._signature_private.sign_with_label, self.group_id, self.own_leaf)
        message = self._propose(Update(leaf_node), authenticated_data, encrypt=encrypt)
        self._pending_updates = (*self._pending_updates, key)
        return message

    def _propose(self, proposal: Proposal, authenticated_data: bytes, *, encrypt: bool = False) -> bytes:
        content = self._sign(_handshake_format(encrypt=encrypt), proposal, authenticated_data)
        public = self.public.with_proposal(self.public.verify_proposal_content(content))
        message = self._protect(content)
        self.public = public
        return message

    def receive_proposal(self, message: bytes) -> AuthenticatedContent:
        """Verify a proposal and remember it, so that a commit can refer to it.

        Raises `WrongEpoch`, `CannotDecrypt`, `InvalidMessage` or `DecodeError`; the state is as it was then.
        """
        body = MLSMessage.decode(message).body
        if isinstance(body, PublicMessage):
            self.public.check_epoch(body.content.group_id, body.content.epoch)
            self._verify_membership(body)
            content = self.public.verify_proposal(body)
            self.public = self.public.with_proposal(content)
            return content
        if not isinstance(body, PrivateMessage) or body.content_type != ContentType.PROPOSAL:
            raise InvalidMessage("a proposal was expected")
        self.public.check_epoch(body.group_id, body.epoch)
        content, step = self._open(body)
        self.public = self.public.with_proposal(self.public.verify_proposal_content(content))
        self._messages.take(step)
        return content

    # ---- commits

    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        by_reference: Callable[[CommittedProposal], bool] | None = of_members,
        credential: Credential | None = None,
        capabilities: Capabilities | None = None,
        leaf_extensions: Extensions | None = None,
        signature_private: SignaturePrivateKey | None = None,
        authenticated_data: bytes = b"",
        encrypt: bool = False,
        omit_path: bool = False,
        tree_in_welcome: bool,
        psks: PskLookup = no_psks,
        validate: CredentialValidator,
        now: int,
    ) -> "StagedCommit":
        """Make a commit of `proposals`, and of usable ones of this epoch that `by_reference` wants.

        `by_reference`: by default those of members, because the application says whether an outsider may come in
        (section 12.1.8); None for none. The commit has a path with a fresh leaf, in which credential, capabilities,
        extensions and signature key may change. With `omit_path` it has one only if it must: without one, a commit of
        PSKs or a ReInit alone costs less, and heals nothing. One with Adds always has a path, or two such commits in
        one epoch could encrypt two Welcomes under one key and nonce. It is a PublicMessage, or with `encrypt` a
        PrivateMessage, which no public group can follow. This group stays as it is, except for the key that a
        PrivateMessage uses up: store `secret_bytes` before it leaves, so that no other message gets that key.

        Raises `InvalidMessage` if the proposals are not a valid list, `UsageError` if the group is closed, or what
        `validate` and `psks` raise.
        """
        self._check_open()
        public, sender = self.public, Sender.member(self.own_leaf)
        referred = {}
        if by_reference is not None:
            referred = public.committable(
                proposals,
                self.own_leaf,
                by_reference=lambda entry: by_reference(entry) and _is_available(entry.proposal, psks),
                validate=validate,
                now=now,
            )
        committed = [
            *referred.values(),
            *(CommittedProposal(proposal, sender, by_reference=False) for proposal in proposals),
        ]
        applied = public.apply_proposals(committed, sender, validate=validate, now=now)
        template = None
        changes = (credential, capabilities, leaf_extensions, signature_private)
        if applied.path_required or applied.added or any(each is not None for each in changes) or not omit_path:
            old = public.member(self.own_leaf)
            template = LeafTemplate(
                self._signature_private if signature_private is None else signature_private,
                old.credential if credential is None else credential,
                old.capabilities if capabilities is None else capabilities,
                old.extensions if leaf_extensions is None else leaf_extensions,
            )
        committer = Committer(
            public,
            sender,
            self._keys,
            self._signature_private,
            self._secrets.init_secret,
        )
        made = make_commit(
            committer,
            (*referred, *proposals),
            applied,
            template,
            wire_format=_handshake_format(encrypt=encrypt),
            authenticated_data=authenticated_data,
            tree_in_welcome=tree_in_welcome,
            psks=psks,
            validate=validate,
        )
        return StagedCommit.of_own(made, self._protect(made.content))

    def stage(
        self, message: bytes, *, psks: PskLookup = no_psks, validate: CredentialValidator, now: int
    ) -> "StagedCommit":
        """Check someone else's commit, the confirmation tag too; this group stays as it is (section 12.4.2).

        If it came as a PrivateMessage, its key is deleted with the epoch.
        `now`, in seconds since 1970, judges the lifetimes of added key packages, and must be equal for all
        members. Raises `WrongEpoch`, `CannotDecrypt`, `InvalidMessage`, `DecodeError`, or what `validate` and
        `psks` raise.
        """
        body = MLSMessage.decode(message).body
        if isinstance(body, PublicMessage):
            self.public.check_epoch(body.content.group_id, body.content.epoch)
            self._verify_membership(body)
            content = body.authenticated_content
        elif isinstance(body, PrivateMessage) and body.content_type == ContentType.COMMIT:
            self.public.check_epoch(body.group_id, body.epoch)
            content, _ = self._open(body)
        else:
            raise InvalidMessage("a commit was expected")
        if content.content.sender == Sender.member(self.own_leaf):
            raise InvalidMessage(
                "this is our own commit; go on with the one that was staged when it was made"
            )
        staged, applied = self.public.stage_content(content, validate=validate, now=now)
        if any(leaf == self.own_leaf for leaf, _ in staged.removed):
            return StagedCommit(staged, message, None)
        keys = self._keys.kept_in(applied.tree, *self._pending_updates)
        parts = follow_commit(staged, applied, content, self._secrets, keys, psks)
        return StagedCommit(staged, message, Group(staged.after, self._signature_private, *parts))

    def group_info(self, *, with_tree: bool) -> bytes:
        """An MLSMessage with the GroupInfo that lets others join by external commit (section 12.4.3.2).

        Raises `UsageError` if the group is closed.
        """
        self._check_open()
        group_info = make_group_info(
            self.public,
            self._secrets,
            self.own_leaf,
            self._signature_private,
            external=True,
            with_tree=with_tree,
        )
        return MLSMessage(group_info).encode()

    def verify_external_key(self, group_info: GroupInfo) -> None:
        """Raises `BadExternalKey` unless a GroupInfo of this epoch has the group's key for external joins."""
        if external_pub(group_info.extensions) != self._secrets.external_key(self.suite).public_key:
            raise BadExternalKey("a GroupInfo offers a key for external joins that is not the group's")

    # ---- saved form

    def public_bytes(self) -> bytes:
        """The public part of the saved form: changes with the epoch and with proposals."""
        return self.public.encode()

    def secret_bytes(self) -> bytes:
        """The secret part of the saved form: changes with every message."""
        writer = Writer().u16(_SAVED_VERSION)
        for part in (self._secrets, self._keys, self._messages):
            part.write(writer)
        writer.items(
            self._pending_updates,
            lambda inner, key: inner.vector(key.private).vector(key.public_key),
        )
        return bytes(writer)

    @classmethod
    def load(cls, public_bytes: bytes, secret_bytes: bytes, signature_keys: SignatureKeys) -> Self:
        """Load a saved group, with the signature key that our own leaf names.

        Raises `DecodeError` if it is damaged or its parts do not match, `UsageError` if that key is not among ours.
        """
        public = PublicGroup.decode(public_bytes)
        suite = public.suite
        reader = Reader(secret_bytes)
        if reader.u16() != _SAVED_VERSION:
            raise DecodeError("a saved group is of another version")
        secrets, keys, messages = (
            EpochSecrets.read(reader),
            TreePrivateKeys.read(reader),
            SecretTree.read(reader),
        )
        pending = reader.items(lambda inner: HpkePrivateKey(suite, Secret(inner.vector()), inner.vector()))
        reader.done()
        tag = secrets.confirmation_tag(suite, public.context)
        confirmed = public.context.confirmed_transcript_hash
        if interim_transcript_hash(suite, confirmed, tag) != public.interim_transcript_hash:
            raise DecodeError("the two parts of a saved group do not belong together")
        keys.verify_fit(public.tree)
        private = signature_keys.get(public.member(keys.leaf).signature_key)
        if private is None:
            raise UsageError("the signature key that our own leaf names is not among ours")
        return cls(public, private, secrets, keys, messages, pending)

    # ---- shared steps

    def _check_open(self) -> None:
        if self.public.reinit is not None:
            raise UsageError("the group was closed by a ReInit; go on in the group that replaces it")

    def _sign(
        self, wire_format: WireFormat, content: Content, authenticated_data: bytes
    ) -> AuthenticatedContent:
        self._check_open()
        framed = FramedContent(
            self.group_id, self.epoch, Sender.member(self.own_leaf), authenticated_data, content
        )
        sign = self._signature_private.sign_with_label
        return AuthenticatedContent.sign(wire_format, framed, self.public.context, sign)

    def _protect(self, content: AuthenticatedContent, padding: int = 0) -> bytes:
        """Frame our own signed content as an MLSMessage. The key of a PrivateMessage is deleted at once."""
        if content.wire_format == WireFormat.PUBLIC_MESSAGE:
            context = self.public.context
            return MLSMessage(protect_public(self.suite, self._secrets.membership_key, content, context)).encode()
        message, step = protect_private(
            self.suite, self._secrets.sender_data_secret, self._messages, content, padding=padding
        )
        self._messages.take(step)
        return MLSMessage(message).encode()

    def _verify_membership(self, message: PublicMessage) -> None:
        verify_membership_tag(self.suite, self._secrets.membership_key, message, self.public.context)

    def _open(self, message: PrivateMessage) -> tuple[AuthenticatedContent, Step]:
        return open_private(
            self.suite, self._secrets.sender_data_secret, self._messages, message, self._check_sender
        )

    def _check_sender(self, leaf: LeafIndex) -> None:
        if leaf == self.own_leaf:
            raise CannotDecrypt("this is our own message: its key was deleted when it was sent")
        self.public.member(leaf)


@value
class StagedCommit:
    """A commit that was checked and is not in force yet. Drop it, or go on with its `group`."""

    public: PublicStagedCommit
    message: bytes
    """The commit as an MLSMessage."""
    group: Group | None
    """Our view of the next epoch; None if the commit removes us."""
    welcome: bytes | None = None
    """Of an own commit that adds members: an MLSMessage with the Welcome for all of them."""
    group_info: bytes | None = None
    """Of an own commit: an MLSMessage with the next GroupInfo, with external_pub, without the tree."""

    @property
    def removed_us(self) -> bool:
        """Whether the commit removes us from the group."""
        return self.group is None

    @classmethod
    def of_own(cls, made: NewEpoch, message: bytes) -> Self:
        """Wrap our own commit; `message` is the MLSMessage that holds it."""
        group = Group(made.staged.after, made.signature_private, made.secrets, made.keys, made.messages)
        return cls(made.staged, message, group, made.welcome, made.group_info)

    def encode(self) -> bytes:
        """Saved form: holds secrets. Our own commit has to outlive a restart until its fate is known."""
        writer = Writer().u16(_SAVED_VERSION)
        self.public.write(writer)
        writer.vector(self.message)
        secrets = None if self.group is None else self.group.secret_bytes()
        for part in (secrets, self.welcome, self.group_info):
            writer.optional(part, Writer.vector)
        return bytes(writer)

    @classmethod
    def decode(cls, data: bytes, signature_keys: SignatureKeys) -> Self:
        """Load a saved commit. Raises what `Group.load` raises, of which it loads the one after the commit."""
        reader = Reader(data)
        if reader.u16() != _SAVED_VERSION:
            raise DecodeError("a saved commit is of another version")
        public, message = PublicStagedCommit.read(reader), reader.vector()
        secrets, welcome, group_info = [reader.optional(Reader.vector) for _ in range(3)]
        reader.done()
        group = None if secrets is None else Group.load(public.after.encode(), secrets, signature_keys)
        return cls(public, message, group, welcome, group_info)
