"""Handing back: a restored server is behind us, and gets the handshakes that lead to our state (design, section 6).

We never go back to an epoch that was used. What we have not seen ourselves another member hands back; so we try again,
after growing waits, as long as there is a connection. If somebody has gone on where the backup was, there are two
branches, and the server goes on in the one that an owner has signed: so an owner signs theirs.
"""

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from securechat import policy
from securechat.client.backoff import Backoff
from securechat.client.conversations import own_commit, verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.errors import PeerError
from securechat.identity.statements import is_statement
from securechat.mls.framing import ContentType, read_header
from securechat.mls.proposals import Remove
from securechat.policy import Identity
from securechat.wire.limits import MAX_HANDED_BACK
from securechat.wire.messages import RETRYABLE, Commit, Entry, HandBack, Handshake, Refused, Reply

PORTION_BYTES: Final = 1 << 20
"""Bytes of one request: the largest commit alone may exceed it, and fits into a frame."""

_decode: Final = msgspec.msgpack.Decoder(Entry).decode


class HandingBack:
    """What one conversation's server gets back. Lives as long as one connection."""

    def __init__(self, conversation: Conversation, tell_long: Callable[[Refused, Backoff], None]) -> None:
        """`tell_long` tells that the server puts us off, if that lasts."""
        self._conversation = conversation
        self._context = conversation.context
        self._asking = self._over = False
        self._signed = False  # we have signed our branch, or tried to
        self._left: list[Handshake] | None = None  # still to be handed back; None: not looked up yet
        self._rounds = self._waited_after = 0  # in which the server took all that we have
        self._tell_long = tell_long
        self.backoff = Backoff(self._context.clock.monotonic)

    def pump(self) -> bool:
        """Hand the next portion back. Returns whether the log has to be read again. Call inside a transaction."""
        conversation = self._conversation
        if self._asking or self._over or self.backoff.waiting or conversation.row.phase != "ahead":
            return False
        if self._left is None and self._waited_after < self._rounds:  # and it is behind us all the same
            self._waited_after = self._rounds
            self.backoff.wait()
        elif self._left is None:
            self._left = self._lacking()
            if not self._left and conversation.server_epoch is not None:
                self._over = conversation.server_epoch >= conversation.group.epoch  # it says less, and lacks nothing
            if not self._left and not self._over:
                self.backoff.wait()  # others may have what the server lacks
        elif not self._left:
            self._left = None
            self._rounds += 1
            conversation.advance("retried")
            return True
        if self._left:
            self._send(_portion(self._left))
        return False

    def _lacking(self) -> list[Handshake]:
        """What leads from the server's epoch, or from that of the backup, to our state, each once, in order."""
        entries, behind = self._entries(), self._conversation.server_epoch or 0
        if not any(is_statement(entry.payload) or read_header(entry.payload).epoch >= behind for entry in entries):
            return []  # it knows as much
        return [Handshake(entry.payload, entry.group_info) for entry in entries]

    def _entries(self) -> list[Entry]:
        conversation = self._conversation
        if (since := conversation.server_epoch) is None:
            return []
        since = min(since, conversation.restored_epoch or since)
        kept = conversation.context.vault.handshakes.load(conversation.id, after=0)
        found: dict[bytes, Entry] = {}
        for _, encoded, _ in kept:
            entry = _decode(encoded)
            # A statement names no epoch: the server passes over one that it has.
            if is_statement(entry.payload) or read_header(entry.payload).epoch >= since:
                found.setdefault(entry.payload, entry)
        return list(found.values())

    def _sign(self) -> bool:
        """As an owner of a room, sign our branch if no owner has. Returns whether there is something to hand back."""
        conversation, context = self._conversation, self._context
        owners = policy.rules_of(conversation.group.public.extensions).owners
        if not conversation.group.can_sign:
            return False  # our leaf there was left behind
        if self._signed or Identity(context.device.account, context.device.identity_key) not in owners:
            return False
        self._signed = True
        entries = self._entries()
        authors = (conversation.author(entry.device) for entry in entries if _is_commit(entry))
        if len(entries) >= MAX_HANDED_BACK or any(each and Identity.of(each) in owners for each in authors):
            return False
        staged = conversation.staged
        if staged is None:
            removals = [Remove(leaf) for leaf in sorted(conversation.departed)]
            try:
                staged = own_commit.stage(conversation, removals, context.clock.milliseconds())
            except PeerError:  # somebody is in the tree who may not be: the way on is another one
                return False
        if not isinstance(staged.request, Commit):
            return False
        handshakes = [Handshake(entry.payload, entry.group_info) for entry in entries]
        self._left = [*handshakes, Handshake(staged.request.commit, staged.request.group_info)]
        return True

    def _send(self, portion: list[Handshake]) -> None:
        self._asking = True

        def answer(reply: Reply) -> None:
            self._asking = False
            self._context.touched.add(self._conversation.id)
            if not isinstance(reply, Refused):
                self._left = (self._left or [])[len(portion) :]
                if not self._rounds:  # else the next wait is a longer one
                    self.backoff.reset()
                return
            self._left = []  # it may have others' by now: the log says where it is
            if reply.code in RETRYABLE:
                self.backoff.wait(reply.retry_after / 1000)
                self._tell_long(reply, self.backoff)
            elif not self._sign():
                self._over = True
                if self._conversation.row.kind == "direct":  # goes on in another one (`reopening`) if there is a branch
                    self._conversation.branch_lost = reply.code != "not-allowed"  # else the server has lost nothing
                    return
                self._conversation.branch_lost = True
                verdicts.look(self._conversation, "lost", "none")

        self._context.request(HandBack(0, self._conversation.id, portion), answer)


def _is_commit(entry: Entry) -> bool:
    return not is_statement(entry.payload) and read_header(entry.payload).content_type == ContentType.COMMIT


def _portion(handshakes: list[Handshake]) -> list[Handshake]:
    portion: list[Handshake] = []
    size = 0
    for each in handshakes[:MAX_HANDED_BACK]:
        size += len(each.payload) + len(each.group_info)
        if portion and size > PORTION_BYTES:
            break
        portion.append(each)
    return portion


def led_here(conversation: Conversation, entry: Entry) -> bool:
    """Whether an entry brings a handshake that we have processed in our way to this state."""
    if conversation.led_here is None:
        kept = conversation.context.vault.handshakes.load(conversation.id, after=0)
        conversation.led_here = {_digest(_decode(each)) for _, each, _ in kept}
    return _digest(entry) in conversation.led_here


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(entry.payload + entry.group_info).digest()
