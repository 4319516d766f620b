"""Reading logs: new entries are pushed from memory, old ones read from the store (docs/design.md, section 4, Reading).

A subscription is *live* when the session has everything up to the log's head. It is then among the conversation's
`readers` and gets each new entry in the turn that adds it. Otherwise it is *behind*, and gets portions of history as
its connection drains; reader threads read them, one portion at a time for each session. It becomes live in a turn that
finds it at the head, or so near that the rest is read on the spot. Heads move only in turns, so there is no gap and no
repeat. A live reader whose connection does not drain falls behind again: what it has not read waits in the store, not
in memory.

Messages that were given up leave a *gap*. A reader that comes to one is told where it ends, and gets the handshakes in
it that are left, in portions as well: they are kept longer.

Inboxes are read in the same way, but nothing is pushed: a new Welcome puts its reader behind.
"""

from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from securechat.errors import RefusedError
from securechat.server.logs import get_logger
from securechat.server.sequencer.conversation import Conversation, Conversations, not_found
from securechat.server.sequencer.heirs import Heirs
from securechat.server.sequencer.news import News
from securechat.server.sequencer.operations import Portion, Workers
from securechat.server.sequencer.session import Outlet, Session, Subscription, contained
from securechat.server.sequencer.turn import Run, Turn
from securechat.server.store.port import DirectoryStore, InboxStore, LogStore
from securechat.server.store.records import InboxEntry, LogEntry, Membership, Trimmed, Who
from securechat.wire import limits
from securechat.wire.chain import CHAIN_START
from securechat.wire.frames import encode_frames
from securechat.wire.messages import Acknowledge, Departure, Entry, Subscribe, Subscribed, Truncated, Welcomed

logger = get_logger(__name__)

_encode_welcomed = msgspec.msgpack.Encoder().encode
_decode_welcomed = msgspec.msgpack.Decoder(Welcomed).decode

PORTION_ENTRIES = 256
PORTION_BYTES = 256 << 10
"""A portion of history: enough to keep a connection busy, little enough to hold one for each of a thousand."""

ON_THE_SPOT = 32
"""Entries read within the turn to make a reader live. Else one close behind a busy log might never catch up."""

UNKNOWN_SECONDS = 10.0
"""When somebody may ask again who says to be in a room of a restored server, and is not known there."""

FALL_BEHIND_BYTES = 512 << 10
"""Backlog of a connection past which its live subscriptions fall behind, and its questions wait (`Sequencer`)."""

FEW_BYTES = 16 << 10
"""The same where much waits for all connections of the account: who takes what comes stays live all the same."""


class Reading:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        logs: LogStore,
        inboxes: InboxStore,
        devices: DirectoryStore,
        conversations: Conversations,
        news: News,
        heirs: Heirs,
        readers: Workers,
        submit: Callable[[Session, object], None],
    ) -> None:
        """`submit(session, operation)` hands in what a reader thread has read."""
        self._turn = turn
        self._logs = logs
        self._inboxes = inboxes
        self._devices = devices
        self._conversations = conversations
        self._news = news
        self._heirs = heirs
        self._readers = readers
        self._submit = submit
        self._cursors: dict[tuple[bytes, bytes], int] = {}  # acknowledged, not yet stored
        self._inbox_readers: dict[Who, Session] = {}

    # --- requests ---------------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, request: Subscribe) -> None:
        """Handle `Subscribe`."""
        self._forget(session, request.conversation)
        if len(session.subscriptions) >= limits.MAX_SUBSCRIPTIONS:
            raise RefusedError("bad-request", f"one session reads {limits.MAX_SUBSCRIPTIONS} logs at most")
        if request.conversation == session.device:
            if not self._has_inbox(session):
                raise not_found()
            newest = self._inboxes.newest(session.device)
            self._turn.answer(session, Subscribed(request.id, session.device, 0, newest, None, []))
            subscription = Subscription(session.device, request.after_seq)
            self._inbox_readers[session.who] = session
        else:
            conversation = self._conversations.find(request.conversation, self._turn.now)
            head = conversation.head
            member = self.membership(conversation, session)
            if member is None and head.resumed and head.kind == "invite":
                text = "this server was restored: another member can hand back what shows that you are in"
                raise RefusedError("not-now", text, retry_after=UNKNOWN_SECONDS)
            if member is None:
                raise not_found()
            conversation.come_back(member.device, self._turn.now)
            numbers = head.numbers.get(session.device)
            # A removed device learns of nothing later.
            end, epoch = (head.seq, head.epoch) if member.last_seq is None else (member.last_seq, None)
            gone = self._news.gone(conversation) if member.last_seq is None else []
            last = numbers.last if numbers else 0
            self._turn.answer(session, Subscribed(request.id, head.id, last, end, epoch, gone, head.restored_epoch))
            if request.after_seq < member.join_seq:  # removed and added again: what was between is not for this device
                gap = Truncated(head.id, member.join_seq + 1, member.join_chain)
                self._turn.after(lambda: session.outlet.send(gap))
                end_of_gap = Truncated(head.id, member.join_seq + 1, b"")  # and no handshake of that time
                self._turn.after(lambda: session.outlet.send(end_of_gap))
            subscription = Subscription(head.id, max(request.after_seq, member.join_seq))
        session.subscriptions[request.conversation] = subscription
        self._turn.after(lambda: self._advance(session, subscription))

    def acknowledge(self, session: Session, message: Acknowledge) -> None:
        """Handle `Acknowledge`. One that makes no sense is ignored, as nobody waits for an answer."""
        if message.conversation == session.device:
            if self._has_inbox(session):
                self._inboxes.acknowledge(session.device, message.seq)
            return
        conversation = self._conversations.get(message.conversation)
        member = conversation.membership(session) if conversation is not None else None
        if conversation is None or member is None:
            return
        seq = min(message.seq, conversation.head.seq)
        if seq > member.cursor:
            member.cursor = seq
            self._cursors[(message.conversation, session.device)] = seq

    def leave(self, session: Session) -> None:
        """End all that a session reads."""
        for log in list(session.subscriptions):
            self._forget(session, log)
        session.behind.clear()

    def give_up(self, conversation: Conversation, member: Membership) -> None:
        """End the reading of a member that is out and never reads again, once that is on disk."""

        def end() -> None:
            self._cursors.pop((conversation.head.id, member.device), None)
            if (session := conversation.readers.get(member.who)) is not None:
                self._forget(session, conversation.head.id)

        self._turn.after(end)

    def close(self, conversation: Conversation) -> None:
        """End all live reading of a conversation that is deleted; call this once that is on disk."""
        for session in conversation.readers.values():
            session.subscriptions.pop(conversation.head.id, None)
        conversation.readers.clear()

    # --- delivery ---------------------------------------------------------------------------------------------------

    def push(self, run: Run) -> None:
        """Deliver new entries, which are on disk now. They are encoded once for all readers."""
        conversation, sender = run.conversation, run.session
        log = conversation.head.id
        frames = b""
        slow: list[Session] = []
        for session in conversation.readers.values():
            if session is sender:
                continue
            try:
                if session.outlet.backlog > FEW_BYTES and is_full(session.outlet):
                    slow.append(session)
                else:
                    frames = frames or _frames(log, run.entries)
                    session.outlet.send(frames)
            except Exception:  # a bug: whom it meets reads from disk what was missed, and all others go on
                logger.exception("internal error", account=session.account)
                slow.append(session)
        if sender is not None:
            sender.outlet.send(run.accepted)  # last: a person waits for the message, and nobody for this
        for session in slow:  # first all of them, so that none is taken for live if the next step fails
            del conversation.readers[session.who]
            session.subscriptions[log].position = run.entries[0].seq - 1
            session.subscriptions[log].live = False
        for session in slow:
            contained(session, partial(self._fall_behind, session, session.subscriptions[log]))()
        if run.last_for:
            for reader in list(conversation.readers.values()):
                if reader.who in run.last_for or self.membership(conversation, reader) is None:
                    self._forget(reader, log)

    def notify_inboxes(self, devices: Iterable[Who]) -> None:
        """Let these devices read the new Welcome in their inboxes."""
        for who in devices:
            if (session := self._inbox_readers.get(who)) is not None:
                self._advance(session, session.subscriptions[session.device])

    def portion(self, session: Session, portion: Portion) -> None:
        """Send a portion of history that a reader thread has read."""
        session.reading = False
        subscription = session.subscriptions.get(portion.log)
        if subscription is not None and not subscription.live and subscription.position == portion.start:
            session.outlet.send(portion.frames)
            subscription.position, subscription.gap = portion.position, portion.gap
            self._advance(session, subscription)
        self._read_next(session)

    def drained(self, session: Session) -> None:
        """Go on reading for a session whose connection can take more."""
        self._read_next(session)

    # --- housekeeping -----------------------------------------------------------------------------------------------

    def store_cursors(self, count: int) -> bool:
        """Write some of the new cursors to the store; return whether there are more."""
        portion: list[tuple[bytes, bytes, int]] = []
        while self._cursors and len(portion) < count:
            (conversation, device), seq = self._cursors.popitem()
            portion.append((conversation, device, seq))
        if portion:
            self._logs.set_cursors(portion)
            for log, device, _ in portion:
                self._drop_if_done(log, device)
        return bool(self._cursors)

    def trimmed(self, trimmed: Trimmed) -> None:
        """Note in memory which entries the store has deleted."""
        conversation = self._conversations.loaded(trimmed.conversation)
        if conversation is None:
            return
        if trimmed.deserted:
            self._conversations.forget(conversation)
            return
        head = conversation.head
        head.first_seq = trimmed.first_seq
        if trimmed.held is not None:
            head.held_bytes, head.held_time = trimmed.held
        for member in list(head.members.values()):
            if member.last_seq is not None and member.last_seq <= trimmed.given_up:
                del head.members[member.device]
            else:
                self._drop_if_done(trimmed.conversation, member.device)

    def _drop_if_done(self, log: bytes, device: bytes) -> None:
        conversation = self._conversations.loaded(log)
        member = conversation.head.members.get(device) if conversation is not None else None
        if conversation is None or member is None or member.last_seq is None:
            return
        if member.cursor >= member.last_seq:
            del conversation.head.members[device]

    # --- catching up ------------------------------------------------------------------------------------------------

    def _advance(self, session: Session, subscription: Subscription) -> None:
        """Make a subscription live, or let it be read for."""
        if session.subscriptions.get(subscription.log) is not subscription or subscription.queued:
            return
        if subscription.log == session.device:
            if subscription.position < self._inboxes.newest(session.device):
                self._fall_behind(session, subscription)
            return
        conversation = self._conversations.get(subscription.log)
        member = self.membership(conversation, session) if conversation is not None else None
        if conversation is None or member is None:
            self._forget(session, subscription.log)
            return
        subscription.position = max(subscription.position, member.join_seq)  # removed and added again meanwhile
        end = conversation.head.seq if member.last_seq is None else member.last_seq
        if 0 < end - subscription.position <= ON_THE_SPOT and not is_full(session.outlet):
            log, start = subscription.log, subscription.position
            entries = self._logs.read(log, start, end, ON_THE_SPOT, PORTION_BYTES)
            if entries and entries[0].seq == start + 1:
                session.outlet.send(_frames(log, entries))
                subscription.position = entries[-1].seq
        if subscription.position < end:
            self._fall_behind(session, subscription)
        elif member.last_seq is None:
            subscription.live = True
            conversation.readers[session.who] = session
        else:
            self._forget(session, subscription.log)

    def _fall_behind(self, session: Session, subscription: Subscription) -> None:
        subscription.live = False
        subscription.queued = True
        session.behind.append(subscription)
        self._read_next(session)

    def _read_next(self, session: Session) -> None:
        """Let a reader thread work for the session, unless one does already or its connection is full."""
        if session.reading or not session.behind or session.ended or is_full(session.outlet):
            return
        subscription = session.behind.popleft()
        subscription.queued = False
        if session.subscriptions.get(subscription.log) is not subscription:
            self._read_next(session)
            return
        log, start = subscription.log, subscription.position
        if log == session.device:
            session.reading = True
            newest = self._inboxes.newest(log)
            job = contained(session, lambda: self._read_inbox(session, log, start, newest))
            self._readers.submit(job, session.account, session)
            return
        conversation = self._conversations.get(log)
        member = self.membership(conversation, session) if conversation is not None else None
        if conversation is None or member is None:
            self._forget(session, log)
            self._read_next(session)
            return
        head, gap = conversation.head, subscription.gap
        # The store keeps what a removed device has not acknowledged, so what is left says where its chain begins.
        end, chain = (head.seq, head.chain) if member.last_seq is None else (member.last_seq, CHAIN_START)
        session.reading = True
        job = contained(session, lambda: self._read_log(session, log, start, gap, end, chain))
        self._readers.submit(job, session.account, session)

    def _read_log(self, session: Session, log: bytes, start: int, gap: int, end: int, chain: bytes) -> None:
        """On a reader's thread. `gap` as in `Subscription`; `chain` is chain_end."""
        frames, position = b"", start
        if start >= gap:
            entries = self._logs.read(log, start, end, PORTION_ENTRIES, PORTION_BYTES)
            first, before = (entries[0].seq, entries[0].before) if entries else (end + 1, chain)
            if first > start + 1:
                gap = first - 1
                frames = encode_frames([Truncated(log, first, before or CHAIN_START)])
            else:
                frames, position = _frames(log, entries), entries[-1].seq if entries else end
        if start < gap:
            handshakes = self._logs.read_handshakes(log, start, gap, PORTION_ENTRIES, PORTION_BYTES)
            frames += _frames(log, handshakes) if handshakes else encode_frames([Truncated(log, gap + 1, b"")])
            position = handshakes[-1].seq if handshakes else gap
        self._submit(session, Portion(log, start, position, gap, frames))

    def _read_inbox(self, session: Session, device: bytes, start: int, newest: int) -> None:
        """On a reader's thread. What is not there is told: the client waits for the newest entry."""
        events: list[Welcomed | Truncated] = []
        position = start
        entries = self._inboxes.read(device, start, PORTION_BYTES)
        for entry in entries:
            welcomed = _welcomed(entry)
            if welcomed is None:
                logger.warning("an inbox entry that no client can take is passed over", device=device.hex()[:8])
                continue
            if welcomed.seq > position + 1:
                events.append(Truncated(device, welcomed.seq, b""))
            events.append(welcomed)
            position = welcomed.seq
        end = entries[-1].seq if entries else newest
        if position < end:
            events.append(Truncated(device, end + 1, b""))
        self._submit(session, Portion(device, start, end, 0, encode_frames(events)))

    def _has_inbox(self, session: Session) -> bool:
        """Whether the inbox of the session's device id is its account's. Nobody writes into that of a new device."""
        return self._devices.account_of(session.device) in ("", session.account)

    def membership(self, conversation: Conversation, session: Session) -> Membership | None:
        """Return by which membership a session reads: its own, also one that has ended, or that whose heir it is."""
        own = conversation.membership(session)
        if own is not None:
            return own
        try:
            return self._heirs.membership(conversation, session)
        except RefusedError:
            return None

    def _forget(self, session: Session, log: bytes) -> None:
        subscription = session.subscriptions.pop(log, None)
        if subscription is None:
            return
        if log == session.device:
            if self._inbox_readers.get(session.who) is session:
                del self._inbox_readers[session.who]
            return
        conversation = self._conversations.loaded(log) if subscription.live else None
        if conversation is not None and conversation.readers.get(session.who) is session:
            del conversation.readers[session.who]


def is_full(outlet: Outlet) -> bool:
    """Whether a connection has as much to take as it may, by itself or with the others of its account."""
    backlog = outlet.backlog
    return backlog > FALL_BEHIND_BYTES or (backlog > FEW_BYTES and outlet.crowded)


def _frames(log: bytes, entries: list[LogEntry]) -> bytes:
    return encode_frames(
        [
            Entry(log, entry.seq, entry.time, entry.device, entry.kind, entry.payload, entry.group_info)
            for entry in entries
        ]
    )


def _welcomed(entry: InboxEntry) -> Welcomed | None:
    """Return what tells a client of a Welcome; None: no client could take it. Bounds were wider once."""
    welcomed = Welcomed(
        entry.seq,
        entry.time,
        entry.conversation,
        entry.join_seq,
        entry.chain,
        entry.welcome,
        entry.tree,
        [Departure(*proof) for proof in entry.departed],
        list(entry.revocations),
    )
    try:
        return _decode_welcomed(_encode_welcomed(welcomed))
    except msgspec.DecodeError:
        return None
