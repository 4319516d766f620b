"""Typing: that somebody writes, told to those who are there now, and kept nowhere (docs/content.md, Typing).

What is sent is encrypted under a key that the group exports for the sender's leaf in this epoch, and signed by that
leaf. The server forwards it once; it may hold it back, send it again, or to somebody else: what is not newer than the
last of that leaf, or not of now by both clocks, counts for nothing.

    payload     TLS{epoch uint64, leaf uint32, nonce[12], ciphertext<V>}
    key         MLS-Exporter("securechat typing", leaf uint32, AEAD.Nk)
    plaintext   TLS{sent uint64 (ms), act uint8 (1: types, 0: has stopped), signature<V>}
    signed      SignWithLabel("securechat typing", TLS{conversation<V>, epoch, leaf, sent, act})
"""

import os
from typing import Final, NamedTuple

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.marking import may_speak
from securechat.client.conversations.marks import MAX_MARKING
from securechat.errors import PeerError
from securechat.mls.crypto.sealing import aead_open, aead_seal
from securechat.mls.group import Group
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Writer
from securechat.wire.limits import MAX_EPHEMERAL
from securechat.wire.messages import Ephemeral

LABEL: Final = "securechat typing"

PERIOD_SECONDS: Final = 3.0
"""Between two that say the same, at least."""

FRESH_MILLISECONDS: Final = 60_000
"""By how much two clocks may differ, with the way: what is older was held back."""


class Typed(NamedTuple):
    """What one says."""

    leaf: LeafIndex
    sent: int  # milliseconds since 1970, by its sender's clock
    typing: bool


def seal(group: Group, sent: int, *, typing: bool) -> bytes:
    """Return what says that we type, or have stopped."""
    head = _head(group.epoch, group.own_leaf)
    what = bytes(Writer().u64(sent).u8(typing))
    signature = group.sign(LABEL.encode(), _signed(group, head, what))
    nonce = os.urandom(group.suite.nonce_size)
    plaintext = what + bytes(Writer().vector(signature))
    sealed = aead_seal(group.suite, _key(group, group.own_leaf), nonce, head, plaintext)
    return head + bytes(Writer().opaque(nonce).vector(sealed))


def open_sealed(group: Group, payload: bytes) -> Typed:
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
    sent, act = inner.u64(), inner.boolean()
    what = inner.since(0)
    signature = inner.vector(MAX_EPHEMERAL)
    inner.done()
    group.suite.verify_with_label(member.signature_key, LABEL.encode(), _signed(group, head, what), signature)
    return Typed(leaf, sent, act)


def _head(epoch: int, leaf: int) -> bytes:
    return bytes(Writer().u64(epoch).u32(leaf))


def _key(group: Group, leaf: int) -> bytes:
    return group.export(LABEL, bytes(Writer().u32(leaf)), group.suite.key_size)


def _signed(group: Group, head: bytes, what: bytes) -> bytes:
    return bytes(Writer().vector(group.group_id)) + head + what


class Typing:
    """Who types where. Lives as long as the client; nothing of it is stored."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._told: dict[bytes, tuple[bool, float]] = {}  # conversation -> what was sent last, and when (monotonic)
        self._newest: dict[tuple[bytes, bytes], int] = {}  # conversation and device -> when it was sent (ms)

    def end(self) -> None:
        """The connection is gone."""
        self._told.clear()

    def tell(self, conversation: Conversation, *, typing: bool) -> None:
        """Tell the others that the user types, or has stopped; not too often, and none who would not get the words."""
        context, now, row = self._context, self._context.clock.monotonic(), conversation.row
        said, when = self._told.get(conversation.id, (False, -PERIOD_SECONDS))
        if (typing == said and (not typing or now - when < PERIOD_SECONDS)) or row.phase not in phases.READING:
            return
        if not conversation.caught_up or conversation.is_unheard or row.closed or row.asked:
            return
        if not 1 < len(row.members) <= MAX_MARKING or not may_speak(conversation):
            return
        if context.preferences.get("send-typing", conversation.scope) != "on" or not conversation.group.can_sign:
            return
        self._told[conversation.id] = typing, now
        sealed = seal(conversation.group, context.clock.milliseconds(), typing=typing)
        context.send(Ephemeral(conversation.id, sealed))

    def take(self, conversation: Conversation, payload: bytes) -> None:
        """Tell the user that somebody types, if it is so. What is not, nobody hears of: it is no record of anything."""
        context, row = self._context, conversation.row
        if row.phase not in phases.READING or context.preferences.get("show-typing", conversation.scope) != "on":
            return
        if conversation.is_unheard or row.asked or len(row.members) > MAX_MARKING:
            return
        try:
            typed = open_sealed(conversation.group, payload)
        except PeerError:
            return
        person = conversation.people[typed.leaf]
        whose = conversation.id, person.device_id
        fresh = abs(context.clock.milliseconds() - typed.sent) <= FRESH_MILLISECONDS
        hidden = context.blocks(person.account) or (row.kind == "open" and person.account in context.ignored)
        if fresh and not hidden and typed.leaf not in conversation.departed and typed.sent > self._newest.get(whose, 0):
            self._newest[whose] = typed.sent
            context.emit(events.Typing(conversation.id, person.account, typed.typing))
