"""All conversations of one client: the logs it reads and acknowledges (docs/design.md, section 4).

`begin` starts a connection: it reads the inbox, and every conversation from our cursor on. `pump` lets each
conversation in which something happened take its next step. An entry is acknowledged once its transaction is on disk.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

from securechat import policy
from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import directory, log, phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.entering import Entering, new_conversation_id
from securechat.client.conversations.handing_back import HandingBack
from securechat.client.conversations.lines import Lines
from securechat.client.conversations.outbox import Outbox
from securechat.client.conversations.recovering import Recovering
from securechat.client.conversations.unread import Unread
from securechat.client.conversations.waiting import Waiting
from securechat.client.conversations.welcomes import Welcomes
from securechat.client.device import KEY_PACKAGE_LOW, KEY_PACKAGE_STOCK
from securechat.client.vault.conversations import ConversationRow
from securechat.content.registry import LineProof
from securechat.errors import PeerError
from securechat.identity.pins import WRITTEN_TO
from securechat.wire.limits import ACKNOWLEDGE_ENTRIES, ACKNOWLEDGE_SECONDS
from securechat.wire.messages import (
    RETRYABLE,
    Acknowledge,
    DirectoryNews,
    Entry,
    Presence,
    PublishKeyPackages,
    Refused,
    Reply,
    Stock,
    Subscribe,
    Subscribed,
    Truncated,
    Welcomed,
)

MAX_REQUESTS: Final = 20
"""Requests of one account that ended before the user answered, and are kept: whoever asks and leaves again can do so
any number of times."""

_STOCK: Final = b"key packages"
"""Stands for the answer to `PublishKeyPackages`, beside ids of logs."""


_TITLE_DIGITS: Final = 4
"""Hexadecimal digits of a room's id in its second title: people tell few rooms apart by them."""


class Registry:
    """The set of conversations."""

    def __init__(self, context: Context) -> None:
        """Load what the vault has. Nothing is sent before `begin`."""
        self._context = context
        self._conversations: dict[bytes, Conversation] = {}
        self._named: dict[str, list[Conversation]] = {}  # by name, oldest first
        self._indexed: dict[bytes, str] = {}  # conversation -> the name that it is under
        for row in context.vault.conversations.load():
            self.keep(Conversation.load(context, row))
        self._aliases: dict[bytes, bytes] = {}  # our own first ids -> the ids that replaced them
        self._outboxes: dict[bytes, Outbox] = {}
        self._entering: dict[bytes, Entering] = {}
        self._standing: dict[bytes, Waiting] = {}
        self._recovering: dict[bytes, Recovering] = {}
        self._handing_back: dict[bytes, HandingBack] = {}
        self._unread: dict[bytes, Unread] = {}
        self._inbox_head = 0
        self._inbox_read = 0  # newest inbox entry that this connection has brought
        self._key_packages = 0  # at the server
        self._awaited: set[bytes] = set()  # what `Ready` waits for: logs to catch up with, and `_STOCK`
        self._ready = False
        self._connected = False
        self._acknowledged: dict[bytes, int] = {}  # log -> newest seq that we have acknowledged
        self._unacknowledged: set[bytes] = set()
        self._acknowledge_at = 0.0
        self.welcomes = Welcomes(context, self)
        self.lines = Lines(context, self, self.welcomes.direct_with)

    # --- for commands ---------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Conversation]:
        """All conversations, oldest first."""
        return iter(self._conversations.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._conversations)

    @property
    def aliases(self) -> Mapping[bytes, bytes]:
        """Ids of our own making, and what came to be in their place."""
        return self._aliases

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""
        while conversation not in self._conversations and conversation in self._aliases:
            conversation = self._aliases[conversation]
        return self._conversations.get(conversation)

    def named(self, name: str) -> list[Conversation]:
        """Return all conversations of this name (`#room` or account), oldest first."""
        return self._named.get(name, [])

    def find(self, name: str) -> Conversation | None:
        """Return the conversation of this name or title that counts (`ConversationSnapshot.outranks`)."""
        best: Conversation | None = None
        room = name[1:].rpartition("~")[0] if name.startswith("##") else name
        for each in self.named(room):
            if each.title == name and (best is None or each.snapshot().outranks(best.snapshot())):
                best = each
        return best

    def add(self, kind: policy.Kind, name: str) -> Conversation:
        """Begin a conversation under an id of our own making."""
        now = self._context.clock.milliseconds()
        row = ConversationRow(new_conversation_id(), kind, name, phases.FIRST[kind], now)
        self._context.touched.add(row.id)
        conversation = self.keep(Conversation(self._context, row))
        self.entitle(conversation)
        return conversation

    def leave(self, older: Conversation) -> None:
        """Leave a conversation because another one is to take its place, and tell it."""
        if older.row.phase in phases.REPAIRABLE | phases.AWAITING:
            older.row.closed = True
            older.end("It is not known whether this message was sent.")  # it is not followed, so nobody will know more
        else:
            older.close()
        older.tell("closed")
        self._context.touched.add(older.id)

    def repair(self, conversation: Conversation) -> None:
        """Go on with a conversation that stands because the user asks for it: tries before this one do not count.

        The log is followed from our own state on. Past a commit that cannot be processed, or a history that others do
        not share, our leaf is replaced.
        """
        self._entering.pop(conversation.id, None)
        self._outboxes.pop(conversation.id, None)
        self._context.touched.add(conversation.id)
        conversation.repairing = conversation.row.phase != "ahead"  # there is nothing to go past: it is asked once more
        if conversation.row.phase in phases.READING:  # its history begins anew where our leaf is replaced
            conversation.forget_doubts()
            conversation.supersede()
        else:
            conversation.go_on("repaired")
            self.follow(conversation)

    # --- the connection -------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether this device has its seat and may make requests."""
        return self._connected

    def begin(self, key_packages: int) -> None:
        """The device has its seat and is published: read everything, and let everything take its next step."""
        context, device = self._context, self._context.device
        self._connected = True
        usable = device.forget_expired_key_packages(context.clock.seconds())
        self._key_packages = min(key_packages, usable)  # after a long absence the server's have expired, too
        self._awaited = {device.id}
        self._replenish()
        self._follow_inbox()
        self.welcomes.begin()
        for conversation in self:
            if conversation.row.phase in phases.WAITING:
                conversation.go_on("retried")
            if conversation.row.phase in phases.FOLLOWING:
                self.follow(conversation)
            elif conversation.row.phase not in phases.ENDED:
                context.touched.add(conversation.id)

    def end(self) -> None:
        """The connection is gone, and with it every answer that was on its way."""
        self._connected = self._ready = False
        self._outboxes.clear()
        self._entering.clear()
        self._standing.clear()
        self._recovering.clear()
        self._handing_back.clear()
        self._unread.clear()
        self._acknowledged.clear()
        self._unacknowledged.clear()
        for conversation in self:
            conversation.lost_connection()

    def receive(self, message: Entry | Welcomed | Truncated | Presence | DirectoryNews) -> None:
        """Process an event of the server."""
        conversation = self._conversations.get(message.conversation)
        if isinstance(message, Welcomed):
            self._receive_welcome(message)
        elif isinstance(message, Truncated) and message.conversation == self._context.device.id:
            self._pass_over_letters(message.first_seq - 1)
        elif conversation is None:
            pass  # a conversation we are out of
        elif isinstance(message, Presence):
            if message.account in conversation.row.members:  # of anybody else there is nothing to say
                self._context.emit(events.PresenceChanged(message.conversation, message.account, message.state))
        elif isinstance(message, DirectoryNews):
            directory.receive(conversation, message.gone)
        else:
            self._context.touched.add(conversation.id)
            if isinstance(message, Truncated):
                log.truncate(conversation, message)
                self.welcomes.notice_return(conversation)
            else:
                log.receive(conversation, message)

    def pump(self) -> set[bytes]:
        """Let what something happened to take its next step; write what has changed. Returns which these are."""
        touched: set[bytes] = set()
        self._pump_invitations()
        while self._context.touched:
            conversation = self.get(self._context.touched.pop())
            if conversation is not None:
                touched.add(conversation.id)
                if self._connected:
                    self._pump(conversation)
                self.welcomes.reconsider(conversation)
                self._pump_invitations()
        for each in touched:
            if (conversation := self._conversations.get(each)) is not None:
                self._follow_name(conversation)
                conversation.save()
                self._note_cursor(each, conversation.row.cursor)
                if conversation.caught_up or conversation.row.phase not in phases.READING:
                    self._awaited.discard(each)
        if self._connected and not self._ready and not self._awaited:
            self._ready = True
            self._context.emit(events.Ready())
        return touched

    def _pump_invitations(self) -> None:
        """Handle what has happened to invitations, ours and others'."""
        context, welcomes = self._context, self.welcomes
        while context.said_of_invitations:
            where, sender, body = context.said_of_invitations.pop(0)
            if (direct := self.get(where)) is None:
                continue
            if isinstance(body, LineProof):
                self.lines.take(direct, sender, body)
            else:
                welcomes.take(direct, sender, body)
        while context.added:
            welcomes.invite(context.added.pop(0))
        while context.removed:
            where, people = context.removed.pop(0)
            welcomes.withdraw(where, people)

    @property
    def timer(self) -> float | None:
        """When to call `handle_timer`, on the monotonic clock."""
        every = (self._outboxes, self._entering, self._recovering, self._handing_back, self._unread)
        waits = [way.backoff.until for ways in every for way in ways.values()]
        if self._unacknowledged:
            waits.append(self._acknowledge_at)
        waits += [outbox.due for outbox in self._outboxes.values()]
        if (ends := self.welcomes.timer) is not None:
            waits.append(ends)
        return min((until for until in waits if until), default=None)

    def handle_timer(self) -> None:
        """Time has passed: acknowledge, and retry whatever is due."""
        now = self._context.clock.monotonic()
        if self._unacknowledged and now >= self._acknowledge_at:
            self.acknowledge()
        self.welcomes.expire()
        for ways in (self._outboxes, self._entering, self._recovering, self._handing_back, self._unread):
            for conversation, way in ways.items():
                if way.backoff.until and now >= way.backoff.until:
                    way.backoff.until = 0.0
                    self._context.touched.add(conversation)
                    if ways is self._unread and (late := self.get(conversation)) and late.row.phase in phases.FOLLOWING:
                        late.astray = True
        self._context.touched.update(each for each, outbox in self._outboxes.items() if 0 < outbox.due <= now)

    def acknowledge(self) -> None:
        """Tell the server how far everything is on our disk; this leaves after the transaction."""
        device = self._context.device
        for each in self._unacknowledged:
            cursor = self._inbox_read if each == device.id else self._conversations[each].row.cursor
            self._acknowledged[each] = cursor
            self._context.send(Acknowledge(each, cursor))
        self._unacknowledged.clear()

    # --- for entering ---------------------------------------------------------------------------------------------

    def meant(self, conversation: Conversation, group: bytes) -> Conversation:
        """Return the conversation that an offer of a group concerns: that group's, or one of the same name, or ours."""
        if (known := self._conversations.get(group)) is not None:
            return known
        row = conversation.row
        others = (each for each in self._named[row.name] if each.row.phase in phases.INSIDE and not each.row.closed)
        return next(others, conversation)

    def has_older_unleft(self, conversation: Conversation) -> bool:
        """Whether we are still on our way out of an older conversation of the same name."""
        older = itertools.takewhile(lambda each: each is not conversation, self._named[conversation.row.name])
        return any(each.row.closed and each.row.phase in phases.LEAVABLE for each in older)

    def rebind(self, conversation: Conversation, new: bytes) -> Conversation:
        """Give the conversation the id `new`, or merge what waits in it into the one that has it.

        Raises `PeerError`, having changed nothing, if that is a different conversation: what waits is meant for its own
        people only.
        """
        old = conversation.id
        if old == new:
            return conversation
        heir = self._conversations.get(new)
        row = conversation.row
        if heir is not None and (
            (heir.row.kind, heir.row.name) != (row.kind, row.name) or heir.row.phase not in phases.RECEIVING
        ):
            raise PeerError("The server gives two conversations one id.")
        vault = self._context.vault
        self._context.answers.move(("conversation", old), ("conversation", new))
        fresh = row.cursor == 0  # otherwise it has a history of its own, which stays where it is
        vault.outbox.move(old, new)
        vault.history.move(old, new, waiting_only=not fresh)
        merged = heir is not None
        if heir is None:
            heir_row = ConversationRow(
                new, row.kind, row.name, row.phase, row.created, asked=row.asked, title=row.title
            )
            heir = self.keep(Conversation(self._context, heir_row))
        elif heir.row.phase in phases.ENDED:
            heir.reopen("joined-again" if row.phase == "joining" else "opened-again")
        heir.row.own_bye |= row.own_bye  # the user's bye counts, wherever it is said in the end
        heir.row.closed |= row.closed
        if merged:
            heir.tell("merged", self._context.device.account)
        if fresh:
            vault.conversations.delete(old)
            del self._conversations[old]
            self._named[row.name].remove(conversation)
            self._aliases[old] = new
        else:
            row.closed = True
            conversation.end("")  # nothing waits in it any more
            conversation.save()
        self._outboxes.pop(old, None)
        if (entering := self._entering.pop(old, None)) is not None:
            self._entering[new] = entering
        self._context.touched.add(new)
        return heir

    def archive(self, conversation: Conversation) -> None:
        """Move the history into a closed conversation of its own: the log starts over."""
        row = conversation.row
        old = ConversationRow(
            new_conversation_id(), row.kind, row.name, "ended", row.created, closed=True, title=row.title
        )
        self.keep(Conversation(self._context, old))
        self._context.touched.add(old.id)
        self._context.vault.history.move_accepted(row.id, old.id)
        row.cursor = 0

    def follow(self, conversation: Conversation) -> None:
        """Read the conversation's log from its cursor on."""
        context, row = self._context, conversation.row
        if not self._connected:
            return  # `begin` does it
        self._acknowledged[conversation.id] = row.cursor
        conversation.lost_track()
        if (unread := self._unread.get(conversation.id)) is not None:
            unread.backoff.until = 0.0
        after_seq = conversation.walk_from if row.phase in phases.WALKING else row.cursor
        if not self._ready:
            self._awaited.add(conversation.id)

        def answer(reply: Reply) -> None:
            context.touched.add(conversation.id)
            if isinstance(reply, Subscribed):
                self._unread.pop(conversation.id, None)
                log.begin_reading(conversation, reply)
            elif isinstance(reply, Refused):
                if reply.code == "not-found":
                    conversation.deny()
                elif reply.code == "not-now" and row.phase in phases.READING:
                    self._awaited.discard(conversation.id)
                    conversation.unknown()
                elif reply.code in RETRYABLE:  # the others are read meanwhile
                    self._awaited.discard(conversation.id)
                    self._unread.setdefault(conversation.id, Unread(conversation)).put_off(reply)
                else:  # that one alone cannot be read: more of them than a server lets one session read, for example
                    self._awaited.discard(conversation.id)
                    text = f"The server does not let you read {conversation.row.name}. It says: {reply.text}."
                    context.emit(events.Alarm("server", conversation.id, text))

        context.request(Subscribe(0, conversation.id, after_seq), answer)

    def abandon(self, conversation: Conversation, code: str, text: str) -> None:
        """Give the conversation up, and tell the user, also about the messages that waited in it."""
        conversation.row.closed = True
        self._context.touched.add(conversation.id)
        command = conversation.command
        why = text if code == "local" else f"the server says: {text}"
        if not conversation.end(f"This message was not sent: {why}", code, text):
            self._context.emit(events.Refused(code, text))
        conversation.tell("closed", command=command)

    # --- the inbox ------------------------------------------------------------------------------------------------

    def _follow_inbox(self) -> None:
        """Read everything in our inbox: what we have acknowledged is not there any more.

        Not from our cursor on: a server restored from a backup counts from an older head, so new Welcomes may have a
        seq that we have had before.
        """
        device = self._context.device
        self._acknowledged[device.id] = self._inbox_read = 0

        def answer(reply: Reply) -> None:
            if not isinstance(reply, Subscribed):
                raise PeerError("the server does not let us read our inbox")
            self._inbox_head = reply.head
            if reply.head < device.row.inbox_cursor:
                device.keep_inbox_cursor(reply.head)
            self._note_inbox()

        self._context.request(Subscribe(0, device.id, 0), answer)

    def _note_inbox(self) -> None:
        device = self._context.device
        if device.row.inbox_cursor >= self._inbox_head:
            self._awaited.discard(device.id)

    def _pass_over_letters(self, seq: int) -> None:
        """Inbox entries up to `seq` are gone: we have had them, or were away too long."""
        device = self._context.device
        if device.row.inbox_cursor < (seq := min(seq, self._inbox_head)):
            device.keep_inbox_cursor(seq)
            self._note_inbox()

    def _receive_welcome(self, welcomed: Welcomed) -> None:
        """Follow a Welcome. One with a seq that we have had is a repeated one, or a new one of a restored server.

        A repeated one is harmless, whoever sends it: its key package is used up, or it is a last-resort one and leads
        into no epoch that we have been in. The user hears of its failure only if that can mean anything to them.
        """
        device = self._context.device
        new = welcomed.seq > device.row.inbox_cursor
        try:
            self.welcomes.receive(welcomed)
        except PeerError as error:
            known = self._conversations.get(welcomed.conversation)
            awaited = known is not None and known.row.phase in phases.AWAITING
            if new or known is None or awaited:
                self._context.emit(events.Alarm("rules", welcomed.conversation, f"An invitation was refused: {error}"))
            if known is not None and awaited:
                self.abandon(known, "local", str(error))
        if new:
            device.keep_inbox_cursor(welcomed.seq)
            self._note_inbox()
        self._inbox_read = max(self._inbox_read, welcomed.seq)
        self._note_cursor(device.id, self._inbox_read)

    def replace_older(self, newer: Conversation) -> None:
        """A direct conversation has come beside others with this name: it takes over from none but its own kind.

        One of ours that was still opening gives way to it, unless another key is accepted. One that is shut for the
        same accepted key (its device has a later certificate) is left, and what waits goes on. Everything else stays.
        """
        account, key, pins = newer.row.name, newer.peer_key, self._context.pins
        over = (each for each in self._named[account] if each.row.phase in phases.ENDED and each.row.asked == "theirs")
        for request in [*over][:-MAX_REQUESTS]:
            self.forget(request)
        for older in list(self._named[account]):
            if older is newer or older.row.closed:
                continue
            if older.row.phase == "opening":
                pins.write_first(account, key)  # the user has written first: theirs came before we could fetch any key
                if pins.standing(account, key) in WRITTEN_TO:
                    self._entering.pop(older.id, None)  # whatever the server answers to ours
                    self.rebind(older, newer.id)
            elif older.row.phase not in phases.INSIDE or older.peer_key != key:
                pass  # another key claims the name: nothing is left, moved or accepted because of it
            elif pins.standing(account, key) in WRITTEN_TO:
                if _later(newer, older):
                    vault = self._context.vault
                    vault.history.move_lines(vault.outbox.move_plain(older.id, newer.id), newer.id)
                    self.leave(older)
                else:
                    newer.tell("beside", account)

    def forget(self, request: Conversation) -> None:
        """Delete a request that nobody has answered, with what was said in it."""
        self._context.vault.history.forget(request.id)
        self._context.vault.conversations.delete(request.id)
        self._named[self._indexed.pop(request.id)].remove(request)
        for kept in (
            self._conversations, self._acknowledged, self._outboxes, self._entering, self._standing, self._recovering,
            self._handing_back,
        ):  # fmt: skip
            kept.pop(request.id, None)
        for noted in (self._unacknowledged, self._awaited, self._context.touched):
            noted.discard(request.id)

    def used_key_package(self) -> None:
        """One of our key packages at the server is used up."""
        self._key_packages -= 1
        self._replenish()

    def _replenish(self) -> None:
        """Publish new key packages when few are left, and a new last-resort one before the old one expires."""
        device, now = self._context.device, self._context.clock.seconds()
        fresh: list[bytes] = []
        if self._key_packages < KEY_PACKAGE_LOW:
            fresh = device.make_key_packages(KEY_PACKAGE_STOCK - max(self._key_packages, 0), now)
            self._key_packages = KEY_PACKAGE_STOCK
        last_resort = b""
        if device.needs_last_resort(now):
            (last_resort,) = device.make_key_packages(1, now, last_resort=True)
        if fresh or last_resort:
            if not self._ready:
                self._awaited.add(_STOCK)  # until they are there, nobody can begin a conversation with us
            made = [*fresh, *([last_resort] if last_resort else [])]

            def answer(reply: Reply) -> None:
                self._awaited.discard(_STOCK)
                if isinstance(reply, Stock):
                    self._key_packages = reply.key_packages
                else:  # nobody has them, or ever will
                    device.forget_key_packages(made)

            self._context.request(PublishKeyPackages(0, fresh, last_resort), answer)

    # --- details --------------------------------------------------------------------------------------------------

    def keep(self, conversation: Conversation) -> Conversation:
        """Add a conversation under the id that it has."""
        self._conversations[conversation.id] = conversation
        self._named.setdefault(conversation.row.name, []).append(conversation)
        self._indexed[conversation.id] = conversation.row.name
        return conversation

    def entitle(self, conversation: Conversation, *, renamed: bool = False) -> None:
        """Give a room that has got its name now a second title, if another one goes by that name here.

        Whoever types the name means the room that they know by it; the second title stays when that one is left. A
        name that the user brought here, by a new room, is free once the older room is over; one that comes by
        `renamed` is not, as nobody has asked for it.
        """
        row = conversation.row
        row.title = ""
        others = [each for each in self._named[row.name] if each is not conversation and (renamed or not each.is_over)]
        if row.kind == "direct" or all(each.row.title for each in others):
            return
        digits, taken = row.id.hex(), {each.row.title for each in others}
        titles = (f"#{row.name}~{digits[:length]}" for length in range(_TITLE_DIGITS, len(digits) + 1))
        row.title = next(title for title in titles if title not in taken)  # ids are of one length, and differ

    def _follow_name(self, conversation: Conversation) -> None:
        """Find a renamed conversation under its new name alone."""
        old, new = self._indexed[conversation.id], conversation.row.name
        if new != old:
            self._named[old].remove(conversation)
            self._named.setdefault(new, []).append(conversation)
            self._indexed[conversation.id] = new
            self.entitle(conversation, renamed=True)
            if conversation.row.title:
                conversation.tell("namesake", new)

    def _note_cursor(self, log_id: bytes, cursor: int) -> None:
        """Acknowledge a log's new entries: at once if they are many, otherwise after a moment, together with more."""
        acknowledged = self._acknowledged.get(log_id)
        if acknowledged is None or cursor <= acknowledged:
            return
        if not self._unacknowledged:
            self._acknowledge_at = self._context.clock.monotonic() + ACKNOWLEDGE_SECONDS
        self._unacknowledged.add(log_id)
        if cursor - acknowledged >= ACKNOWLEDGE_ENTRIES:
            self.acknowledge()

    def _pump(self, conversation: Conversation) -> None:
        """Let one conversation take its next step. What a peer did wrong ends that conversation alone."""
        try:
            self._step(conversation)
        except PeerError as error:
            if conversation.row.phase in phases.NEW:
                self.abandon(conversation, "local", str(error))
            else:
                conversation.distrust(f"this conversation cannot go on: {error}")

    def _step(self, conversation: Conversation) -> None:
        if conversation.astray:
            conversation.astray = False
            self.follow(conversation)
        if conversation.row.phase in phases.ENTERING:
            entering = self._entering.get(conversation.id)
            if entering is None:
                entering = self._entering[conversation.id] = Entering(conversation, self)
            entering.pump()
        elif conversation.row.phase in phases.READING:
            outbox = self._outboxes.get(conversation.id)
            if outbox is None:
                outbox = self._outboxes[conversation.id] = Outbox(conversation)
            outbox.pump()
        elif conversation.row.phase == "ahead" and conversation.row.kind != "open":
            if (handing_back := self._handing_back.get(conversation.id)) is None:
                handing_back = self._handing_back[conversation.id] = HandingBack(conversation)
            if handing_back.pump():
                self.follow(conversation)
        elif conversation.row.phase in phases.WAITING:
            if (recovering := self._recovering.get(conversation.id)) is None:
                recovering = self._recovering[conversation.id] = Recovering(conversation)
            recovering.pump()
        if conversation.row.phase in phases.WAITING and conversation.command:
            self._standing.setdefault(conversation.id, Waiting(conversation)).tell(conversation.delayed())


def _later(newer: Conversation, older: Conversation) -> bool:
    """Whether the peer's device in one conversation was certified after the one in the other, which it replaces."""
    old, new = (
        max(person.not_before for person in each.people.values() if person.account == each.row.name)
        for each in (older, newer)
    )
    return new > old
