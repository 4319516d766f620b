"""All conversations of one client: the logs it reads and acknowledges (docs/design.md, section 4).

`begin` starts a connection: it reads the inbox, and every conversation from our cursor on. `pump` lets each
conversation in which something happened take its next step. An entry is acknowledged once its transaction is on disk.
"""

from typing import Final

from securechat import policy
from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import directory, evidence, log, phases, resync, standstill
from securechat.client.conversations.acknowledging import Acknowledgements
from securechat.client.conversations.bounds import Bounds
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.entering import Entering, new_conversation_id
from securechat.client.conversations.entrance import NoKeyPackageError, unopened
from securechat.client.conversations.ephemerals import STOPPED, TYPES, Ephemerals
from securechat.client.conversations.handing_back import HandingBack
from securechat.client.conversations.inbox import Inbox
from securechat.client.conversations.index import Index
from securechat.client.conversations.inquiries import Inquiries
from securechat.client.conversations.invitations import Invitations
from securechat.client.conversations.inviting import Inviting
from securechat.client.conversations.lines import Lines
from securechat.client.conversations.linking import Linking
from securechat.client.conversations.marking import Marking
from securechat.client.conversations.old_keys import OldKeys
from securechat.client.conversations.outbox import Outbox
from securechat.client.conversations.recovering import Recovering
from securechat.client.conversations.regaining import Regaining
from securechat.client.conversations.reopening import Reopening, is_lost
from securechat.client.conversations.stock import Stock
from securechat.client.conversations.typing import Typing
from securechat.client.conversations.unopened import Unopened
from securechat.client.conversations.unread import Unread
from securechat.client.conversations.waiting import Waiting
from securechat.client.conversations.welcomes import Welcomes
from securechat.client.keepsake import KeptConversation
from securechat.client.vault.conversations import ConversationRow
from securechat.content.registry import DeclineInvite, LineProof
from securechat.errors import PeerError, sentence
from securechat.identity.pins import WRITTEN_TO
from securechat.policy import Identity
from securechat.wire.messages import (
    RETRYABLE,
    DirectoryNews,
    Entry,
    Ephemeral,
    Presence,
    Refused,
    Reply,
    Subscribe,
    Subscribed,
    Truncated,
    Welcomed,
)

MAX_REQUESTS: Final = 20
"""Requests of one account that ended before the user answered, and are kept: whoever asks and leaves again can do so
any number of times."""


class Registry(Index):
    """The set of conversations, and what goes on in each."""

    def __init__(self, context: Context) -> None:
        """Load what the vault has. Nothing is sent before `begin`."""
        super().__init__()
        self._context = context
        for row in context.vault.conversations.load():
            self.keep(Conversation.load(context, row))
        self._outboxes: dict[bytes, Outbox] = {}
        self._entering: dict[bytes, Entering] = {}
        self._standing: dict[bytes, Waiting] = {}
        self._recovering: dict[bytes, Recovering] = {}
        self._regaining: dict[bytes, Regaining] = {}
        self._handing_back: dict[bytes, HandingBack] = {}
        self._unread: dict[bytes, Unread] = {}
        self._marking = Marking(context)
        self._ephemerals = Ephemerals(context)
        self.linking = Linking(context, self, self._ephemerals)
        self.typing = Typing(context, self._ephemerals, self.linking)
        self._inbox = Inbox(context)
        self._stock = Stock(context)
        self._unopened = Unopened(context)
        self._inquiries = Inquiries(context)
        self._old_keys = OldKeys(context, self)
        self._overtaken: set[bytes] = set()  # private ones whose Welcome has to be in our inbox
        self._awaited: set[bytes] = set()  # logs to catch up with before `Ready`
        self._ready = False
        self._connected = False
        self._ending = 0.0  # when more lines whose life is over are to go, on the monotonic clock; 0: there are none
        self._moving = 0.0  # the same of lines that go to another conversation
        self.acknowledgements = Acknowledgements(context, self._cursor_of)
        self.bounds = Bounds(context, self)
        self.invitations = Invitations(context, self, self.bounds)
        self.inviting = Inviting(context, self)
        self.reopening = Reopening(context, self)
        self.lines = Lines(context, self, self.inviting.direct_with)
        self._welcomes = Welcomes(context, self, self.invitations, self.bounds, self._stock)

    # --- for commands ---------------------------------------------------------------------------------------------

    def add(self, kind: policy.Kind, name: str) -> Conversation:
        """Begin a conversation under an id of our own making."""
        now = self._context.clock.milliseconds()
        row = ConversationRow(new_conversation_id(), kind, name, phases.FIRST[kind], now)
        self._context.touched.add(row.id)
        conversation = self.keep(Conversation(self._context, row))
        self.entitle(conversation)
        return conversation

    def recover(self, kept: KeptConversation, made: int) -> None:
        """Take note of a conversation that our keepsake names, to be entered by itself; `made`: when, in ms."""
        if self.at(kept.id) is not None:
            return
        now = self._context.clock.milliseconds()
        row = ConversationRow(kept.id, kept.kind, kept.name, "recovered", now, followed=made, epoch=kept.epoch)
        self._context.vault.anchors.save(kept.id, kept.anchors)
        self._context.touched.add(kept.id)
        self.entitle(self.keep(Conversation(self._context, row)))

    @property
    def regaining(self) -> list[Conversation]:
        """What is still to be entered of what our keepsake names, and may be on this connection."""
        return [each for each in self if each.row.phase in phases.REGAINING and not each.unregained]

    def leave(self, older: Conversation, change: events.Change = "given-up") -> None:
        """Leave a conversation because another one is to take its place, and tell it."""
        if older.row.phase in phases.REPAIRABLE | phases.AWAITING | phases.REGAINING:
            older.row.closed = True
            older.end("It is not known whether this message was sent.")  # it is not followed, so nobody will know more
        else:
            older.close()
        older.tell(change)
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
            evidence.forget(conversation)
            resync.supersede(conversation)
        else:
            standstill.go_on(conversation, "repaired")
            self.follow(conversation)

    # --- the connection -------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether this device has its seat and may make requests."""
        return self._connected

    def begin(self) -> None:
        """The device has its seat and is published: read everything, and let everything take its next step."""
        context = self._context
        self._connected = True
        self._awaited.clear()
        self._stock.begin()
        self._old_keys.begin()
        self._expire()
        self._moving = context.clock.monotonic() if context.vault.history.is_moving() else 0.0
        context.contradicted |= context.chains.contestable(context.clock.seconds())
        self.acknowledgements.begin(context.device.id, 0)
        self._inbox.begin()
        self.invitations.begin()
        for conversation in self:
            conversation.start_over()
            if conversation.row.phase in phases.WAITING:
                standstill.go_on(conversation, "retried")
            if conversation.row.phase in phases.FOLLOWING - phases.REGAINING:
                self.follow(conversation)
            elif conversation.row.phase in phases.AWAITING:
                self._overtaken.add(conversation.id)
            elif conversation.row.phase not in phases.ENDED:
                context.touched.add(conversation.id)

    def await_welcome(self, conversation: Conversation) -> None:
        """Somebody else has opened a private one before: read the inbox to its end, where its Welcome has to be."""
        self._overtaken.add(conversation.id)
        self._inbox.begin()

    def renew(self) -> None:
        """The device has a new signature key, which the server knows: each conversation takes it."""
        self._stock.begin()
        self._context.touched.update(each.id for each in self)

    def look(self) -> None:
        """Forget the keys that nothing needs any more, count the stock, and ask whether a successor was contested.

        Called now and then while there is a connection.
        """
        self._old_keys.look()
        self._unopened.look()
        self._expire()
        self._stock.look(inbox_is_read=self._inbox.caught_up)
        self._context.contradicted |= self._context.chains.contestable(self._context.clock.seconds())

    def _expire(self) -> None:
        """Delete lines whose life is over: not by a clock that may be wrong, or a wrong day would take them all.

        What is left then is done in the next turns, so that no other work waits for all of it.
        """
        context, self._ending = self._context, 0.0
        now = context.clock.milliseconds()
        if not context.clocks_agree:
            if context.vault.history.any_over(now):
                context.tell_lives_on()
            return
        where, more = context.vault.history.expire(now)
        for conversation in where:
            context.emit(events.Expired(conversation))
            context.unshared = True  # a file of ours may have been there
        self._ending = context.clock.monotonic() if more else 0.0

    def _move(self) -> None:
        """Move lines of a log that has begun anew, and follow it once there are none left.

        What is left is done in the next turns, so that no other work waits for all of it.
        """
        history = self._context.vault.history
        where = history.move_some()
        self._moving = self._context.clock.monotonic() if history.is_moving() else 0.0
        conversation = self.at(where) if where is not None and not history.is_moving(where) else None
        if conversation is not None and conversation.row.phase in phases.FOLLOWING - phases.REGAINING:
            self.follow(conversation)

    def end(self) -> None:
        """The connection is gone, and with it every answer that was on its way."""
        self._connected = self._ready = False
        self._overtaken.clear()
        self._outboxes.clear()
        self._entering.clear()
        self._standing.clear()
        self._recovering.clear()
        self._regaining.clear()
        self._handing_back.clear()
        self._unread.clear()
        self._marking.end()
        self.typing.end()
        self.acknowledgements.end()
        for conversation in self:
            conversation.lost_connection()

    def receive(self, message: Entry | Welcomed | Truncated | Presence | Ephemeral | DirectoryNews) -> None:
        """Process an event of the server."""
        conversation = self.at(message.conversation)
        if isinstance(message, Welcomed):
            self._receive_welcome(message)
        elif isinstance(message, Truncated) and message.conversation == self._context.device.id:
            if missed := self._inbox.pass_over(message.first_seq - 1):
                self._context.emit(events.InvitationsMissed(missed))
        elif conversation is None:
            pass  # a conversation we are out of
        elif isinstance(message, Presence):
            told = self._context.preferences.get("presence", conversation.scope) == "on"
            told &= not self._context.blocks(message.account)
            if told and message.account in conversation.row.members:  # of anybody else there is nothing to say
                self._context.emit(events.PresenceChanged(message.conversation, message.account, message.state))
        elif isinstance(message, Ephemeral):
            self._receive_ephemeral(conversation, message)
        elif isinstance(message, DirectoryNews):
            directory.receive(conversation, message.gone)
        else:
            self._context.touched.add(conversation.id)
            if isinstance(message, Truncated):
                log.truncate(conversation, message)
                self._welcomes.notice_return(conversation)
            else:
                log.receive(conversation, message)
                self.reopening.take(conversation)

    def _receive_ephemeral(self, conversation: Conversation, message: Ephemeral) -> None:
        if (counts := self._ephemerals.take(conversation, message.payload)) is not None:
            person, said = counts
            if said.act in {STOPPED, TYPES}:
                self.typing.take(conversation, person, said)
            else:
                self.linking.take(conversation, said)

    def pump(self) -> set[bytes]:
        """Let what something happened to take its next step; write what has changed. Returns which these are."""
        touched: set[bytes] = set()
        self._pump_invitations()
        if self._connected:
            self._inquiries.pump()
            self._open_in_place()
        while self._context.heard_of:  # lines may wait for what they have said of their keys
            self._context.touched.update(each.id for each in self.named(self._context.heard_of.pop()))
        while self._context.touched:
            conversation = self.get(self._context.touched.pop())
            if conversation is not None:
                touched.add(conversation.id)
                if self._connected:
                    self._pump(conversation)
                self.invitations.reconsider(conversation)
                self._pump_invitations()
        for each in touched:
            if (conversation := self.at(each)) is not None:
                self.follow_name(conversation)
                conversation.save()
                self.acknowledgements.note(each)
                if conversation.caught_up or conversation.row.phase not in phases.READING:
                    self._awaited.discard(each)
        self.linking.look()
        waits = self._awaited or self._stock.publishing or not self._inbox.caught_up
        if self._connected and not self._ready and not waits:
            self._ready = True
            self._context.emit(events.Ready())
        return touched

    def _open_in_place(self) -> None:
        """Once the inbox is read, go on in others in the place of those whose Welcome was not in it."""
        while self._overtaken and self._inbox.caught_up:
            lost = self.get(self._overtaken.pop())
            if lost is not None and lost.row.phase in phases.AWAITING and not self.reopening.names(lost):
                lost.advance("unopened")
                self._entering.pop(lost.id, None)  # whatever was asked for that one
                self.reopening.open_in_place(lost.id, self.rebind(lost, new_conversation_id()))

    def _pump_invitations(self) -> None:
        """Handle what has happened to invitations, ours and others'."""
        context = self._context
        while context.said_of_invitations:
            where, sender, body = context.said_of_invitations.pop(0)
            if (direct := self.get(where)) is None or sender is None or sender.account != direct.row.name:
                continue  # in the last two cases our own words, from a restored vault
            if context.blocks(sender.account):
                continue
            if isinstance(body, LineProof):
                self.lines.take(direct, sender, body)
            elif isinstance(body, DeclineInvite):
                self.inviting.take_no(body.group, Identity.of(sender))
            else:
                self.invitations.take(direct, Identity.of(sender), body)
        while context.added:
            self.inviting.invite(context.added.pop(0))
        while context.removed:
            where, people = context.removed.pop(0)
            self.inviting.withdraw(where, people)

    @property
    def timer(self) -> float | None:
        """When to call `handle_timer`, on the monotonic clock."""
        every = (
            self._outboxes, self._entering, self._recovering, self._regaining, self._handing_back, self._unread,
        )  # fmt: skip
        waits = [way.backoff.until for ways in every for way in ways.values()]
        waits += [self.acknowledgements.due, self._ending, self._moving]
        waits += [outbox.due for outbox in self._outboxes.values()]
        if (ends := self.invitations.timer) is not None:
            waits.append(ends)
        if self._connected and (marks_due := self._marking.timer) is not None:
            waits.append(marks_due)
        return min((until for until in waits if until), default=None)

    def handle_timer(self) -> None:
        """Time has passed: acknowledge, and retry whatever is due."""
        now = self._context.clock.monotonic()
        if self.acknowledgements.due and now >= self.acknowledgements.due:
            self.acknowledgements.send()
        if self._ending:
            self._expire()
        if self._moving:
            self._move()
        self.invitations.expire()
        every = (
            self._outboxes, self._entering, self._recovering, self._regaining, self._handing_back, self._unread,
        )  # fmt: skip
        for ways in every:
            for conversation, way in ways.items():
                if way.backoff.until and now >= way.backoff.until:
                    way.backoff.until = 0.0
                    self._context.touched.add(conversation)
                    if ways is self._unread and (late := self.get(conversation)) and late.row.phase in phases.FOLLOWING:
                        late.astray = True
        self._context.touched |= self._marking.ripen()
        self._context.touched.update(each for each, outbox in self._outboxes.items() if 0 < outbox.due <= now)

    # --- for entering ---------------------------------------------------------------------------------------------

    def rebind(self, conversation: Conversation, new: bytes) -> Conversation:
        """Give the conversation the id `new`, or merge what waits in it into the one that has it.

        Raises `PeerError`, having changed nothing, if that is a different conversation: what waits is meant for its own
        people only.
        """
        old = conversation.id
        if old == new:
            return conversation
        heir = self.at(new)
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
            self.take_out(conversation, new)
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
        """Move the history into a closed conversation of its own: the log starts over.

        Many lines go in portions, and the log is not followed before all have gone: what comes in it would be taken for
        what they are about.
        """
        row = conversation.row
        old = ConversationRow(
            new_conversation_id(), row.kind, row.name, "ended", row.created, closed=True, title=row.title
        )
        self.keep(Conversation(self._context, old))
        self._context.touched.add(old.id)
        history = self._context.vault.history
        history.put_aside(row.id, old.id)
        history.move_some()
        self._moving = self._context.clock.monotonic() if history.is_moving() else 0.0
        row.cursor = row.theirs = row.seen = row.told_delivered = row.told_read = 0
        conversation.marks.clear()
        self._context.vault.marks.clear(row.id)

    def follow(self, conversation: Conversation) -> None:
        """Read the conversation's log from its cursor on."""
        context, row = self._context, conversation.row
        if not self._connected or context.vault.history.is_moving(conversation.id):
            return  # `begin` does it, or `_move` at its end
        self.acknowledgements.begin(conversation.id, row.cursor)
        conversation.lost_track()
        if (unread := self._unread.get(conversation.id)) is not None:
            unread.backoff.until = 0.0
        after_seq = resync.walk_from(conversation) if row.phase in phases.WALKING else row.cursor
        if not self._ready:
            self._awaited.add(conversation.id)

        def answer(reply: Reply) -> None:
            context.touched.add(conversation.id)
            if isinstance(reply, Subscribed):
                self._unread.pop(conversation.id, None)
                log.begin_reading(conversation, reply)
            elif isinstance(reply, Refused):
                if reply.code == "not-found":
                    standstill.deny(conversation)
                elif reply.code == "not-now" and row.phase in phases.READING:
                    self._awaited.discard(conversation.id)
                    standstill.unknown(conversation)
                elif reply.code in RETRYABLE:  # the others are read meanwhile
                    self._awaited.discard(conversation.id)
                    self._unread.setdefault(conversation.id, Unread(conversation)).put_off(reply)
                else:  # that one alone cannot be read: more of them than a server lets one session read, for example
                    self._awaited.discard(conversation.id)
                    text = f"The server does not let you read {conversation.row.name}. It says: {sentence(reply.text)}"
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
        conversation.tell("not-opened", command=command)

    # --- the inbox ------------------------------------------------------------------------------------------------

    def _receive_welcome(self, welcomed: Welcomed) -> None:
        """Follow a Welcome. One with a seq that we have had is a repeated one, or a new one of a restored server.

        A repeated one is harmless, whoever sends it: its key package is used up, or it is a last-resort one and leads
        into no epoch that we have been in. The user hears of its failure only if that can mean anything to them.
        """
        new = self._inbox.is_new(welcomed.seq)
        known = self.at(welcomed.conversation)
        awaited = known is not None and known.row.phase in phases.AWAITING
        told = self._unopened.knows(welcomed.conversation)
        try:
            try:
                self._welcomes.receive(welcomed)
            except NoKeyPackageError:
                if known is not None and not awaited:
                    raise
                kept = self._context.vault.invitations.welcomes(welcomed.conversation)  # the same once more
                if not kept and not told:
                    text = unopened(self._context, welcomed)
                    self._unopened.tell(events.Alarm("key-package", welcomed.conversation, text))
        except PeerError as error:
            alarm = events.Alarm("rules", welcomed.conversation, f"An invitation was refused: {error}")
            if awaited:
                self._context.emit(alarm)
            elif new or (known is None and not told):
                self._unopened.tell(alarm)
            if known is not None and awaited:
                self.abandon(known, "local", str(error))
        self._inbox.note(welcomed.seq)
        self.acknowledgements.note(self._context.device.id)

    def replace_older(self, newer: Conversation) -> None:
        """A direct conversation has come beside others with this name: it takes over from none but its own kind.

        One of ours that was still opening gives way to it, unless another key is accepted. One that is shut for the
        same accepted key (its device has a later certificate) is left, and what waits goes on. Everything else stays.
        """
        account, key, pins = newer.row.name, newer.peer_key, self._context.pins
        over = (each for each in self.named(account) if each.row.phase in phases.ENDED and each.row.asked == "theirs")
        for request in [*over][:-MAX_REQUESTS]:
            self.forget(request)
        for older in list(self.named(account)):
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
                elif is_lost(older):
                    self._context.touched.add(older.id)  # it goes on in this one
                else:
                    newer.beside = True

    def forget(self, request: Conversation) -> None:
        """Delete a request that nobody has answered, with what was said in it; or what nobody has heard of."""
        self._context.vault.history.forget(request.id)
        self._context.vault.conversations.delete(request.id)
        self.take_out(request)
        self.acknowledgements.forget(request.id)
        for kept in (
            self._outboxes, self._entering, self._standing, self._recovering, self._regaining, self._handing_back,
        ):  # fmt: skip
            kept.pop(request.id, None)
        for noted in (self._awaited, self._context.touched):
            noted.discard(request.id)

    # --- details --------------------------------------------------------------------------------------------------

    def _cursor_of(self, log: bytes) -> int:
        return self._inbox.read if log == self._context.device.id else self._conversations[log].row.cursor

    def _pump(self, conversation: Conversation) -> None:
        """Let one conversation take its next step. What a peer did wrong ends that conversation alone."""
        try:
            self._step(conversation)
        except PeerError as error:
            if conversation.row.phase in phases.NEW:
                self.abandon(conversation, "local", str(error))
            else:
                standstill.distrust(conversation, f"this conversation cannot go on: {error}")

    def _step(self, conversation: Conversation) -> None:
        if conversation.astray:
            conversation.astray = False
            self.follow(conversation)
        if conversation.row.phase in phases.ENTERING:
            entering = self._entering.get(conversation.id)
            if entering is None:
                entering = self._entering[conversation.id] = Entering(conversation, self)
            entering.pump()
        elif conversation.row.phase == "recovered":
            if (regaining := self._regaining.get(conversation.id)) is None:
                regaining = self._regaining[conversation.id] = Regaining(conversation)
            regaining.pump()
        elif conversation.row.phase in phases.READING:
            outbox = self._outboxes.get(conversation.id)
            if outbox is None:
                outbox = self._outboxes[conversation.id] = Outbox(conversation, self._marking)
            outbox.pump()
        elif conversation.row.phase == "ahead" and conversation.row.kind != "open":
            if (handing_back := self._handing_back.get(conversation.id)) is None:
                handing_back = self._handing_back[conversation.id] = HandingBack(
                    conversation, Waiting(conversation).tell_long
                )
            if handing_back.pump():
                self.follow(conversation)
        elif conversation.row.phase in phases.WAITING:
            if (recovering := self._recovering.get(conversation.id)) is None:
                recovering = self._recovering[conversation.id] = Recovering(conversation)
            recovering.pump()
        self.reopening.look(conversation)
        if conversation.row.phase in phases.WAITING and conversation.command:
            self._standing.setdefault(conversation.id, Waiting(conversation)).tell(standstill.delayed(conversation))


def _later(newer: Conversation, older: Conversation) -> bool:
    """Whether the peer's device in one conversation was certified after the one in the other, which it replaces.

    Both are under the same identity key.
    """
    old, new = (
        max(person.seq for person in each.people.values() if person.account == each.row.name) for each in (older, newer)
    )
    return new > old
