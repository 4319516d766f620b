"""What is told to those who are there now, and kept nowhere: who types, and offers of direct links (docs/content.md).

What is sent is encrypted under a key that the group exports for the sender's leaf in this epoch, and signed by that
leaf. The server forwards it once; it may hold it back, send it again, or to somebody else: what is not newer than the
last of that leaf, or not of now by both clocks, counts for nothing.

    payload     TLS{epoch uint64, leaf uint32, nonce[12], ciphertext<V>}
    key         MLS-Exporter("securechat typing", leaf uint32, AEAD.Nk)
    plaintext   TLS{said, signature<V>}
    said        TLS{sent uint64 (ms), act uint8}                 act 1: types, 0: has stopped
                TLS{sent uint64 (ms), act uint8, body<V>}        act 2: offers a link, 3: answers (`direct.offers`),
                                                                 4: offers one for a file, by itself
                                                                 5: has all of a file that has come by one: its blob[16]
    signed      SignWithLabel("securechat typing", TLS{conversation<V>, epoch, leaf} || said)
"""

import os
from typing import Final, NamedTuple

from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.marks import MAX_MARKING
from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate
from securechat.mls.crypto.sealing import aead_open, aead_seal
from securechat.mls.group import Group
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Writer
from securechat.wire.limits import MAX_EPHEMERAL
from securechat.wire.messages import Ephemeral

LABEL: Final = "securechat typing"

FRESH_MILLISECONDS: Final = 60_000
"""By how much two clocks may differ, with the way: what is older was held back."""

STOPPED, TYPES, OFFERS, ANSWERS, OFFERS_BY_ITSELF, HAS = range(6)


class Said(NamedTuple):
    """What somebody says. Printing it shows nothing of what it holds."""

    leaf: LeafIndex
    sent: int  # milliseconds since 1970, by its sender's clock
    act: int  # STOPPED to HAS
    body: bytes = b""  # of an offer, an answer, or what somebody has

    def __repr__(self) -> str:
        """Show the act only."""
        return f"Said(act={self.act})"


def seal(group: Group, sent: int, act: int, body: bytes = b"") -> bytes:
    """Return what says that we do something."""
    head = _head(group.epoch, group.own_leaf)
    writer = Writer().u64(sent).u8(act)
    said = bytes(writer.vector(body) if act >= OFFERS else writer)
    signature = group.sign(LABEL.encode(), _signed(group, head, said))
    nonce = os.urandom(group.suite.nonce_size)
    plaintext = said + bytes(Writer().vector(signature))
    sealed = aead_seal(group.suite, _key(group, group.own_leaf), nonce, head, plaintext)
    return head + bytes(Writer().opaque(nonce).vector(sealed))


def open_sealed(group: Group, payload: bytes) -> Said:
    """Return what somebody says in this epoch. Raises `PeerError`."""
    reader = Reader(payload)
    epoch, leaf = reader.u64(), LeafIndex(reader.u32())
    if epoch != group.epoch or leaf == group.own_leaf:
        raise PeerError("it is of another epoch, or ours")
    head = reader.since(0)
    nonce, sealed = reader.opaque(group.suite.nonce_size), reader.vector(MAX_EPHEMERAL)
    reader.done()
    member = group.public.member(leaf)
    inner = Reader(aead_open(group.suite, _key(group, leaf), nonce, head, sealed))
    sent, act = inner.u64(), inner.u8()
    if act > HAS:
        raise PeerError(f"{act} is nothing that anybody does")
    body = inner.vector(MAX_EPHEMERAL) if act >= OFFERS else b""
    said = inner.since(0)
    signature = inner.vector(MAX_EPHEMERAL)
    inner.done()
    group.suite.verify_with_label(member.signature_key, LABEL.encode(), _signed(group, head, said), signature)
    return Said(leaf, sent, act, body)


def _head(epoch: int, leaf: int) -> bytes:
    return bytes(Writer().u64(epoch).u32(leaf))


def _key(group: Group, leaf: int) -> bytes:
    return group.export(LABEL, bytes(Writer().u32(leaf)), group.suite.key_size)


def _signed(group: Group, head: bytes, said: bytes) -> bytes:
    return bytes(Writer().vector(group.group_id)) + head + said


class Ephemerals:
    """Says it, and says which of it counts. Lives as long as the client; nothing of it is stored."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._newest: dict[tuple[bytes, bytes], int] = {}  # conversation and device -> when it was sent (ms)
        self._last = 0  # when we have said something (ms)

    def say(self, conversation: Conversation, act: int, body: bytes = b"") -> None:
        """Tell those who are there that we do something."""
        now = max(self._context.clock.milliseconds(), self._last + 1)  # else of two at once only one would count
        self._last = now
        self._context.send(Ephemeral(conversation.id, seal(conversation.group, now, act, body)))

    def take(self, conversation: Conversation, payload: bytes) -> tuple[DeviceCertificate, Said] | None:
        """Return what somebody says now, and who. What does not count, nobody hears of: it is no record of anything."""
        context, row = self._context, conversation.row
        if row.phase not in phases.READING or conversation.is_unheard or row.asked or len(row.members) > MAX_MARKING:
            return None
        try:
            said = open_sealed(conversation.group, payload)
        except PeerError:
            return None
        person = conversation.people[said.leaf]
        whose = conversation.id, person.device_id
        fresh = abs(context.clock.milliseconds() - said.sent) <= FRESH_MILLISECONDS
        hidden = context.blocks(person.account) or (row.kind == "open" and person.account in context.ignored)
        if not fresh or hidden or said.leaf in conversation.departed or said.sent <= self._newest.get(whose, 0):
            return None
        self._newest[whose] = said.sent
        return person, said
