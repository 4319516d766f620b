"""What the operator sees and ends: sessions, accounts, rooms. And what the operator says to everybody.

An account that is deleted can sign no departure. So its leaves stay in the trees of its conversations until somebody
there removes them, and the server keeps only whose they are: nothing else is kept for it, and nothing of it is handed
out. Its rooms go on without it. It may be in thousands: so that takes as many turns as it needs, and others' requests
have their place in each of them.
"""

from collections.abc import Callable, Sequence

from securechat.errors import RefusedError
from securechat.server.logs import get_logger
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.news import News
from securechat.server.sequencer.operations import (
    Announce,
    DeleteRoom,
    EndSessions,
    Expel,
    ForgetAccount,
    ListSessions,
    SessionSeen,
)
from securechat.server.sequencer.presence import Presence
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.seats import Seats
from securechat.server.sequencer.session import Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import Store
from securechat.wire.messages import Notice

log = get_logger(__name__)

FORGOTTEN_AT_ONCE = 4
"""Conversations of a deleted account that it is taken out of in one turn: each may be a large one that is loaded for
that. A device of it is forgotten in a turn of its own, with its key packages and what waits in its inbox."""

BLOBS_AT_ONCE = 64
"""Blobs of it that are dropped in one turn."""


class Operating:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: Store,
        conversations: Conversations,
        sessions: Sessions,
        seats: Seats,
        leases: Leases,
        reading: Reading,
        news: News,
        presence: Presence,
        submit: Callable[[None, object], None],
    ) -> None:
        """`submit(None, operation)` hands in what is to be done in a later turn."""
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._sessions = sessions
        self._seats = seats
        self._leases = leases
        self._reading = reading
        self._news = news
        self._presence = presence
        self._submit = submit

    def list_sessions(self, operation: ListSessions) -> None:
        """Show who is there."""
        operation.answer([
            SessionSeen(
                each.account, each.device, each.outlet.address, each.seated, each.outlet.backlog, each.handled
            )
            for each in self._sessions.all()
        ])

    def announce(self, operation: Announce) -> None:
        """Tell everybody something."""
        everybody = self._sessions.all()
        for session in everybody:
            session.outlet.send(Notice(operation.text))
        log.info("notice", devices=len(everybody))
        operation.answer(len(everybody))

    def end_sessions(self, operation: EndSessions) -> None:
        """End the sessions of an account; nobody comes back there without the password."""
        account = operation.account
        self._store.tokens.keep_only(account, b"")
        text = "the server's operator has ended this login: log in with the password again"
        self._turn.after(lambda: self._seats.expel_account(Expel(account, text)))
        self._turn.after(lambda: operation.answer(None))
        log.info("sessions ended", account=account)

    def forget_account(self, operation: ForgetAccount) -> None:
        """Forget an account that was deleted, a portion in each turn. Doing so again does no harm."""
        account, store = operation.account, self._store
        store.tokens.keep_only(account, b"")
        store.keepsakes.drop(account)
        was_in: list[Conversation] = []
        for conversation_id in store.conversations.of_account(account, out=True, most=FORGOTTEN_AT_ONCE):
            conversation = self._conversations.find(conversation_id, self._turn.now)
            if self._take_out(account, conversation):
                was_in.append(conversation)
        self._turn.after(lambda: self._seats.expel_account(Expel(account, "this account was deleted")))
        self._turn.after(lambda: self._tell(account, was_in))
        if store.conversations.of_account(account, out=True, most=1):
            self._turn.after(lambda: self._submit(None, operation))
            return
        if store.blobs.drop_of(account, BLOBS_AT_ONCE):
            self._turn.after(lambda: self._submit(None, operation))
            return
        devices = store.directory.devices(account)  # last: others are told that they are offline by these
        for each in devices[:1]:
            store.directory.drop_devices([each.device])
            store.inboxes.acknowledge(each.device, store.inboxes.newest(each.device))
        if devices[1:]:
            self._turn.after(lambda: self._submit(None, operation))
            return
        self._turn.after(lambda: operation.answer(None))
        log.info("account deleted", account=account)

    def _tell(self, account: str, was_in: Sequence[Conversation]) -> None:
        self._presence.forget(account, [conversation.head.id for conversation in was_in])
        for conversation in was_in:
            self._news.tell_in(conversation)

    def _take_out(self, account: str, conversation: Conversation) -> bool:
        """End the places of an account in a conversation, and that with the last of all; return whether it was in.

        Also those that it is out of and has not read to the end: others pay for what waits there.
        """
        head = conversation.head
        out = [each for each in head.members.values() if each.account == account]
        self._conversations.touch(conversation)
        for each in out:
            del head.members[each.device]
            if each.last_seq is None:
                head.deleted[each.device] = account
            self._reading.give_up(conversation, each)
            self._leases.release(conversation, each.who)
        self._store.conversations.drop_members(head.id, account)
        was_in = any(each.last_seq is None for each in out)
        if not conversation.present and (was_in or not head.members):  # others that are out may have heirs
            self._delete(conversation)
        return was_in

    def delete_room(self, operation: DeleteRoom) -> None:
        """Delete a room. Its members are told; who is not there finds out when they come. Raises RefusedError."""
        found = self._store.conversations.room(operation.room) or _id_of(operation.room)
        conversation = self._conversations.get(found) if found else None
        if conversation is None or conversation.head.kind == "direct":
            raise RefusedError("not-found", f"there is no room {operation.room}")
        name = conversation.head.name or "A room that has lost its name"
        there = [self._sessions.find(*each.who) for each in conversation.present]
        self._delete(conversation)

        def tell() -> None:
            for session in filter(None, there):
                session.outlet.send(Notice(f"{name} was deleted. What you say there reaches nobody; /leave closes it."))
            operation.answer(None)

        self._turn.after(tell)
        log.info("room deleted", conversation=conversation.head.title)

    def _delete(self, conversation: Conversation) -> None:
        self._store.conversations.delete(conversation.head.id)
        self._conversations.remove(conversation)
        self._turn.after(lambda: self._reading.close(conversation))
        self._turn.after(lambda: self._leases.close(conversation))


def _id_of(text: str) -> bytes:
    """Read the id of a conversation; empty: it is none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
