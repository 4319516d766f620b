"""A member without scruples: real keys, a real place in real groups, and a client that does what no client should."""

import os
import time
from dataclasses import replace
from typing import Any

from securechat.content import envelope
from securechat.content.envelope import Envelope
from securechat.content.registry import Body, Text
from securechat.mls.commit import HpkeCiphertext
from securechat.mls.crypto.secret import Secret
from securechat.mls.extensions import external_pub_extension
from securechat.mls.framing import (
    AuthenticatedContent,
    FramedContent,
    MLSMessage,
    PrivateMessage,
    Sender,
    WireFormat,
    decode_body,
    read_header,
)
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_schedule import InitSecret
from securechat.mls.message_protection import protect_private
from securechat.mls.proposals import Proposal
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.tree_math import LeafIndex, NodeIndex, node_of
from securechat.mls.treekem import TreePrivateKeys
from securechat.wire import messages as m
from securechat.wire.chain import CHAIN_START, MLS_MESSAGE, next_chain
from securechat_lab.cast.wire_client import M, Person


class Rogue(Person):
    """Follows its conversations as a client does, chain included; what it submits is up to the test."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.chains: dict[bytes, bytes] = {}
        self.newest: dict[type, Any] = {}
        """The newest message taken, by type."""
        super().__init__(*arguments, **options)

    def take(self, kind: type[M], *arguments: Any) -> M:
        """As there, and remember it."""
        message = super().take(kind, *arguments)
        self.newest[type(message)] = message
        return message

    def take_part(self, conversation: bytes, group: Group, *, number: int, cursor: int) -> None:
        """As there, with the chain's value at the cursor."""
        super().take_part(conversation, group, number=number, cursor=cursor)
        entered = self.newest.get(m.Accepted if number else m.Welcomed)
        self.chains[conversation] = CHAIN_START if entered is None else entered.chain

    def enter_room(self, name: str) -> bytes:
        """Join an open room and read it."""
        conversation = self.join(name)
        self.subscribe(conversation)
        return conversation

    def enter_by_welcome(self) -> bytes:
        """Follow a Welcome and read what it leads to."""
        self.read_inbox()
        conversation = self.accept_welcome()
        self.subscribe(conversation)
        return conversation

    # --- reading --------------------------------------------------------------------------------------------------

    def process(self, entry: m.Entry) -> str | None:
        """Take an entry into the group and the chain; the text, if it holds one."""
        self._advance(entry)
        group = self.groups[entry.conversation]
        if isinstance(MLSMessage.decode(entry.payload).body, PrivateMessage):
            body = envelope.decode(group.decrypt(entry.payload).plaintext).body
            return body.text if isinstance(body, Text) else None
        return super().process(entry)

    def _advance(self, entry: m.Entry) -> None:
        number = int.from_bytes(read_header(entry.payload).authenticated_data[:8], "big")
        self.cursors[entry.conversation] = entry.seq
        self.chains[entry.conversation] = next_chain(
            self.chains[entry.conversation], entry.conversation, entry.seq, entry.time, entry.device, number,
            entry.payload, entry.group_info,
        )  # fmt: skip

    def follow(self, conversation: bytes, seq: int) -> None:
        """Process everything up to an entry."""
        while self.cursors[conversation] < seq:
            self.process(self.take(m.Entry, lambda entry: entry.conversation == conversation))

    # --- speaking -------------------------------------------------------------------------------------------------

    def envelope(self, conversation: bytes, body: Body) -> bytes:
        """What an honest member would encrypt."""
        sent = int(time.time() * 1000)
        return envelope.encode(Envelope(self.cursors[conversation], self.chains[conversation], sent, body))

    def protect(self, conversation: bytes, plaintext: bytes) -> bytes:
        """Encrypt anything, under our next number."""
        authenticated_data = self.number(conversation).to_bytes(8, "big")
        return self.groups[conversation].encrypt(plaintext, authenticated_data=authenticated_data)

    def protect_as(self, conversation: bytes, plaintext: bytes, leaf: LeafIndex) -> bytes:
        """Encrypt in the name of another member: with its ratchet, which all know, and our signature."""
        group = self.groups[conversation]
        framed = FramedContent(
            conversation, group.epoch, Sender.member(leaf), self.number(conversation).to_bytes(8, "big"), plaintext
        )
        signed = AuthenticatedContent.sign(
            WireFormat.PRIVATE_MESSAGE, framed, group.public.context, self.signature.sign_with_label
        )
        message, _ = protect_private(group.suite, group._secrets.sender_data_secret, group._messages, signed)
        return MLSMessage(message).encode()

    def submit(self, conversation: bytes, payload: bytes) -> m.Accepted:
        """Submit an application message; what came before it in the log is processed first."""
        number, request = self.number(conversation), self.protocol.next_id()
        self.send(m.Submit(request, conversation, number, payload))
        reply = self._reply(conversation, request)
        assert isinstance(reply, m.Accepted), reply
        self.numbers[conversation] = number
        self._advance(m.Entry(conversation, reply.seq, reply.time, self.device, MLS_MESSAGE, payload, b""))
        return reply

    def tell(self, conversation: bytes, text: str) -> m.Accepted:
        """Say something as an honest member would."""
        return self.submit(conversation, self.protect(conversation, self.envelope(conversation, Text(text))))

    def submit_commit(self, conversation: bytes, staged: StagedCommit) -> Any:
        """Submit a commit; if it is accepted, we go on with it."""
        number, request = self.number(conversation), self.protocol.next_id()
        group_info, welcome = staged.group_info or b"", staged.welcome or b""
        self.send(m.Commit(request, conversation, number, staged.message, welcome, group_info))
        reply = self._reply(conversation, request)
        if isinstance(reply, m.Accepted):
            assert staged.group is not None
            self.numbers[conversation], self.groups[conversation] = number, staged.group
            self._advance(
                m.Entry(conversation, reply.seq, reply.time, self.device, MLS_MESSAGE, staged.message, group_info)
            )
        return reply

    def _reply(self, conversation: bytes, request: int) -> m.Reply:
        while True:
            message: Any = self.take(
                (m.Entry, m.Reply),  # type: ignore[arg-type]  # isinstance takes several
                lambda each: each.id == request if isinstance(each, m.Reply) else each.conversation == conversation,
            )
            if isinstance(message, m.Reply):
                return message
            self.process(message)

    # --- commits that only members can see through -----------------------------------------------------------------

    def commit_wrong_secret(self, conversation: bytes, *proposals: Proposal) -> StagedCommit:
        """A commit that nobody else can follow: its confirmation tag belongs to another key schedule."""
        group = self.groups[conversation]
        secrets = replace(group._secrets, init_secret=InitSecret(os.urandom(32)))
        alone = Group(group.public, self.signature, secrets, group._keys, group._messages)
        return self.make_commit(alone, *proposals)

    def commit_false_key(self, conversation: bytes, *proposals: Proposal) -> StagedCommit:
        """A commit whose GroupInfo offers a key for external joins that only we have."""
        staged = self.make_commit(self.groups[conversation], *proposals)
        assert staged.group_info is not None
        info = decode_body(staged.group_info, GroupInfo)
        false = external_pub_extension(self.bundle().key_package.init_key)
        info = replace(info, extensions=(false,)).signed(self.signature.sign_with_label)
        return replace(staged, group_info=MLSMessage(info).encode())

    def commit_against(self, conversation: bytes, victim: LeafIndex) -> StagedCommit:
        """A commit whose path one member cannot decrypt, and everybody else can."""
        group = self.groups[conversation]
        keys = _keys_against(group._keys, node_of(victim))
        return self.make_commit(Group(group.public, self.signature, group._secrets, keys, group._messages))


def _keys_against(keys: TreePrivateKeys, victim: NodeIndex) -> TreePrivateKeys:
    """The same keys, but what they encrypt to one node is not the path secret."""

    class Spiteful(TreePrivateKeys):
        def _encrypt(self, tree: RatchetTree, recipient: NodeIndex, context: bytes, secret: Secret) -> HpkeCiphertext:
            if recipient == victim:
                secret = Secret(os.urandom(len(secret)))
            return super()._encrypt(tree, recipient, context, secret)  # type: ignore[arg-type]  # a PathSecret or none

    return Spiteful(keys.suite, keys.leaf, keys.keys)
