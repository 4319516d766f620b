"""Keeping: what a new device of ours would have to know is left at the server, sealed (`client.keepsake`).

It takes the identity key, so a new one is sealed whenever the password is at hand and something has changed. It is in
the vault before it is sent, and is sent again unchanged until the server has it. docs/design.md, section 6, Recovery.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from securechat import policy
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.keepsake import KeptConversation, contents_of, encode, seal
from securechat.client.vault.identity import KeepsakeRow
from securechat.identity.keepsake import Keepsake
from securechat.wire.messages import Code, Done, FetchKeepsake, PutKeepsake, Refused, Reply, StoredKeepsake

_EXPECTED: Final[tuple[Code, ...]] = ("wrong-number", "identity-differs")
"""Another program has left a newer one; our key has just named its successor, which leaves its own."""


class Keeping:
    """The keepsake of one account. One thread at a time."""

    def __init__(self, context: Context, conversations: Iterable[Conversation]) -> None:
        self._context = context
        self._conversations = conversations

    def seal(self) -> None:
        """Seal a new one if the password is at hand and something has changed. Inside a transaction."""
        unlocking = self._context.unlocking
        if unlocking.at_hand and self._context.device.row.server_id:
            unlocking.want("keepsake", self._seal, ask=False)

    def _seal(self) -> None:
        context, device, table = self._context, self._context.device, self._context.vault.keepsake
        kept = (found for each in self._conversations if (found := _kept(each)) is not None)
        encoded = encode(contents_of(device.head, context.vault.pins.load(), kept, context.vault.device_names.load()))
        digest, before = hashlib.sha256(encoded).digest(), table.load()
        if digest == before.contents:
            return
        number = before.number + 1
        with context.unlocking.opened() as key:
            sealed = seal(
                encoded, key, server_id=device.row.server_id, account=device.account, number=number,
                time=context.clock.seconds(),
            )  # fmt: skip
        table.save(KeepsakeRow(number, digest, sealed.encode()))

    def leave(self) -> None:
        """Leave it at the server, which lacks it. We have our seat."""
        context, row = self._context, self._context.vault.keepsake.load()
        if not row.sealed:
            return

        def answer(reply: Reply) -> None:
            if isinstance(reply, Done):
                if context.vault.keepsake.load() == row:
                    context.vault.keepsake.save(replace(row, sealed=b""))
            elif isinstance(reply, Refused) and reply.code == "wrong-number":
                context.request(FetchKeepsake(0), self._outnumber)

        what = "keep what a recovery of this account would enter by itself, so that would be what it had before"
        put = PutKeepsake(0, row.sealed)
        context.errands.run(("keepsake", row.number), what, put, answer, expected=_EXPECTED)

    def _outnumber(self, reply: Reply) -> None:
        """Another program with our identity key has left one: our next one gets a higher number."""
        if not isinstance(reply, StoredKeepsake) or not reply.keepsake:
            return
        device, table = self._context.device, self._context.vault.keepsake
        theirs = Keepsake.decode(reply.keepsake)
        theirs.verify()
        owner = (device.row.server_id, device.account, device.identity_key)
        if (theirs.server_id, theirs.account, theirs.identity_key) == owner:  # it shows another one: its own affair
            table.save(KeepsakeRow(max(theirs.number, table.load().number)))


def _kept(conversation: Conversation) -> KeptConversation | None:
    """Return what is kept of a conversation; None: a new device would have no business there."""
    row = conversation.row
    if row.phase in phases.REGAINING and not row.closed:
        anchors = tuple(policy.Identity(*each) for each in conversation.context.vault.anchors.load(row.id))
        return KeptConversation(row.id, row.kind, row.name, anchors, row.epoch)
    if row.closed or row.asked == "theirs" or row.phase not in phases.INSIDE:
        return None
    if row.kind == "direct":
        peer = policy.Identity(row.name, conversation.peer_key)
        anchors = (peer,) if peer.identity_key else ()
    else:
        anchors = policy.rules_of(conversation.group.public.extensions).owners
    return KeptConversation(row.id, row.kind, row.name, anchors, row.epoch)
