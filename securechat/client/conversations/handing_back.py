"""Handing back: a restored server is behind us, and gets the handshakes that lead to our state (design, section 6).

We never go back to an epoch that was used. What we have not seen ourselves another member hands back; so we try again,
after growing waits, as long as there is a connection.
"""

from typing import Final

import msgspec

from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.conversations.conversation import Conversation
from securechat.mls.framing import read_header
from securechat.wire.limits import MAX_HANDED_BACK
from securechat.wire.messages import RETRYABLE, Entry, HandBack, Handshake, Refused, Reply

PORTION_BYTES: Final = 1 << 20
"""Bytes of one request: the largest commit alone may exceed it, and fits into a frame."""

_decode: Final = msgspec.msgpack.Decoder(Entry).decode


class HandingBack:
    """What one conversation's server gets back. Lives as long as one connection."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._context = conversation.context
        self._asking = self._over = False
        self._left: list[Handshake] | None = None  # still to be handed back; None: not looked up yet
        self.backoff = Backoff(self._context.clock.monotonic)

    def pump(self) -> bool:
        """Hand the next portion back. Returns whether the log has to be read again. Call inside a transaction."""
        conversation = self._conversation
        if self._asking or self._over or self.backoff.waiting or conversation.row.phase != "ahead":
            return False
        if self._left is None:
            self._left = self._lacking()
            if not self._left and conversation.server_epoch is not None:
                self._over = conversation.server_epoch >= conversation.group.epoch  # it says less, and lacks nothing
            if not self._left and not self._over:
                self.backoff.wait()  # others may have what the server lacks
        elif not self._left:
            self._left = None
            conversation.advance("retried")
            return True
        if self._left:
            self._send(_portion(self._left))
        return False

    def _lacking(self) -> list[Handshake]:
        """What leads from the server's epoch to our state, each once, in order."""
        conversation = self._conversation
        if conversation.server_epoch is None:
            return []
        kept = conversation.context.vault.handshakes.load(conversation.id, after=0)
        found: dict[bytes, Handshake] = {}
        for _, encoded, _ in kept:
            entry = _decode(encoded)
            if read_header(entry.payload).epoch >= conversation.server_epoch:
                found.setdefault(entry.payload, Handshake(entry.payload, entry.group_info))
        return list(found.values())

    def _send(self, portion: list[Handshake]) -> None:
        self._asking = True

        def answer(reply: Reply) -> None:
            self._asking = False
            self._context.touched.add(self._conversation.id)
            if not isinstance(reply, Refused):
                self._left = (self._left or [])[len(portion) :]
                self.backoff.reset()
                return
            self._left = []  # it may have others' by now: the log says where it is
            if reply.code in RETRYABLE:
                self.backoff.wait(reply.retry_after / 1000)
            else:
                self._over = True
                self._context.emit(events.OutOfStep(self._conversation.id, "nothing-left"))

        self._context.request(HandBack(0, self._conversation.id, portion), answer)


def _portion(handshakes: list[Handshake]) -> list[Handshake]:
    portion: list[Handshake] = []
    size = 0
    for each in handshakes[:MAX_HANDED_BACK]:
        size += len(each.payload) + len(each.group_info)
        if portion and size > PORTION_BYTES:
            break
        portion.append(each)
    return portion
