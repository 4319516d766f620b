"""Reopening: a private conversation that a restored server has lost goes on in another one (docs/design.md, section 6).

Lost is one whose branch the server does not go on in, or that it does not know. Whoever finds that opens another one
by itself, under the key that is known, and says in it first which one it takes the place of (`content.Instead`). So
does who writes to somebody that has let this device into a conversation which its vault does not know, and whose
Welcome nothing opens: there is no way into that one.

    we      begin -> the opening one, with `Instead` before all that is to be said in it -> replace, once we are in
    they    `Instead` by the same accepted key, in a later conversation with the same account -> replace

To replace is to leave the old one, and to move what waits in it. A member could always leave and open another one: it
gives no new power to anybody, and none to the server, which could not say `Instead` under that key.
"""

from typing import Protocol

from securechat import policy
from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases, verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.content import envelope
from securechat.content.registry import Instead
from securechat.identity.pins import WRITTEN_TO


class RegistryPort(Protocol):
    """What reopening needs of the set of conversations."""

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""

    def named(self, name: str) -> list[Conversation]:
        """Return all conversations of this name (`#room` or account), oldest first."""

    def add(self, kind: policy.Kind, name: str) -> Conversation:
        """Begin a conversation under an id of our own making."""

    def leave(self, older: Conversation, change: events.Change = "given-up") -> None:
        """Leave a conversation because another one is to take its place, and tell it."""

    def forget(self, request: Conversation) -> None:
        """Delete a conversation in which nothing was said, or a request that nobody has answered."""


class Reopening:
    """The private conversations that take the place of others."""

    def __init__(self, context: Context, registry: RegistryPort) -> None:
        self._context = context
        self._registry = registry

    def look(self, old: Conversation) -> None:
        """Take the next step for one that may be lost. Call after anything has changed, inside a transaction."""
        if not is_lost(old):
            return
        if not self.is_known(old):  # then nothing is opened: the user has not decided, or against that key
            if ("lost", old.id) not in self._context.alarmed:
                self._context.alarmed.add(("lost", old.id))
                verdicts.look(old, "lost", "none")
            return
        newer = self._successor(old)
        if newer is None and not old.reopened:
            self._begin(old)
        elif newer is not None and newer.row.phase in phases.READING:
            self.replace(old, newer)
        elif newer is not None:
            self._context.touched.add(newer.id)

    def is_known(self, old: Conversation) -> bool:
        """Whether the key of the other one there is the one that we write to, so that another one may be opened."""
        return self._context.pins.standing(old.row.name, old.peer_key) in WRITTEN_TO

    def replaces(self, newer: Conversation) -> Conversation | None:
        """Return the conversation that one of ours that is opening is to take the place of; None: it is the first."""
        old = self._registry.get(named := self.names(newer))
        return old if old is not None and old.id == named else None

    def names(self, newer: Conversation) -> bytes:
        """Return the id of the conversation in whose place one of ours is opening, also of one that we do not know."""
        first = self._context.vault.outbox.first(newer.id, 1)
        body = envelope.decode(first[0].content).body if first and first[0].kind == "message" else None
        return body.group if isinstance(body, Instead) else b""

    def open_in_place(self, lost: bytes, newer: Conversation) -> None:
        """Have `newer`, which is opening, take the place of one that the server knows, and this vault cannot enter."""
        newer.put(Instead(lost), first=True)

    def give_up(self, newer: Conversation, old: Conversation) -> None:
        """The server knows the old one after all, or the user has left it: nothing is opened in its place.

        Until the next connection it is not tried again.
        """
        vault = self._context.vault
        vault.outbox.delete(vault.outbox.first(newer.id, 1)[0].id)
        if old.is_over:
            newer.row.closed = True
            newer.end("You left before this was sent.")
        else:
            newer.unstage()
            vault.history.move_lines(vault.outbox.move_plain(newer.id, old.id), old.id)
            self._context.touched.add(old.id)
        if not vault.history.newest(newer.id, 1):
            self._registry.forget(newer)

    def left(self, old: Conversation) -> None:
        """The user has left a conversation: what was being opened in its place is theirs no more.

        It is given up before the user can say anything else to the same account, which is meant for another one.
        """
        for newer in self._registry.named(old.row.name):
            if newer.row.phase == "opening" and self.replaces(newer) is old:
                if newer.staged is None:
                    self.give_up(newer, old)
                else:  # the server may have opened it already
                    self._registry.leave(newer)

    def detach(self, newer: Conversation, old: Conversation) -> None:
        """The user has accepted another key meanwhile: it is not the old one that goes on, and nothing moves."""
        vault = self._context.vault
        if len(vault.outbox.first(newer.id, 2)) == 1:
            self.give_up(newer, old)
        else:  # the user has begun to talk in it
            vault.outbox.delete(vault.outbox.first(newer.id, 1)[0].id)
            self._context.touched.add(newer.id)

    def take(self, newer: Conversation) -> None:
        """Handle `Instead`, if the other one has just said it in `newer`. What it may not do is ignored."""
        said, newer.said_instead = newer.said_instead, b""
        if not said:
            return
        old, named = self._registry.get(said), self._registry.named(newer.row.name)
        if old is None or old not in named or old.row.phase not in phases.INSIDE or old.is_over:
            return  # not with them, or not any more
        if old.peer_key != newer.peer_key or not self.is_known(old):
            return  # another key claims the name, or the user has not decided on it
        if named.index(newer) > named.index(old):
            self.replace(old, newer)

    def replace(self, old: Conversation, newer: Conversation) -> None:
        """Leave a conversation, and go on in another one with the same account and key: also with what waits."""
        old.hand_over(newer)
        count = self._context.vault.history.unanswered(old.id)
        newer.beside = False
        self._registry.leave(old, "replaced")
        self._context.emit(events.OutOfStep(newer.id, "anew", count=count))
        self._context.touched.add(newer.id)

    def _begin(self, old: Conversation) -> None:
        old.reopened = True
        newer = self._registry.add("direct", old.row.name)
        if old.row.asked == "ours":
            newer.row.asked = "ours"
        newer.put(Instead(old.id), first=True)

    def _successor(self, old: Conversation) -> Conversation | None:
        """Return another one with the same key in which we are or will be; the newest, None if there is none."""
        fits = (
            each
            for each in reversed(self._registry.named(old.row.name))
            if each is not old and not each.is_over and not is_lost(each)
        )
        return next(
            (
                each
                for each in fits
                if each.row.phase in phases.NEW | phases.AWAITING
                or (each.row.phase in phases.READING and each.peer_key == old.peer_key)
            ),
            None,
        )


def is_lost(conversation: Conversation) -> bool:
    """Whether the server goes on in another branch of a private conversation, or says that it does not know it."""
    row = conversation.row
    if row.kind != "direct" or row.closed or row.asked == "theirs":
        return False
    return (row.phase == "ahead" and conversation.branch_lost) or (row.phase == "cut-off" and conversation.denied)
