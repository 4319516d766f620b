"""One conversation as its log tells it: entries in; messages, members and state out (design, sections 4 and 6).

Each entry has to follow the one before it (`seq`), fit the chain and its device's numbers, and be readable in the epoch
that the entries before it produced. An entry is processed beside the current state: a message that fails changes
nothing but the cursor, a commit that fails stops the conversation before it.

Keeps: the group in its current epoch, the chain values of that epoch, the numbers of other devices, the leaves that
have left. Deletes: what belongs to past epochs, at each commit; everything but the history, once we are out.

How our own submissions come about is in `outbox`, how a conversation begins in `entering`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from securechat import policy
from securechat.client import events
from securechat.client.answers import Key
from securechat.client.context import Context
from securechat.client.vault.conversations import ConversationRow, Phase, StagedRow
from securechat.client.vault.history import CANNOT_SHOW
from securechat.client.vault.outbox import Dropped
from securechat.content.envelope import decode
from securechat.content.registry import Accept, Body, Bye, Decline, Request, Text, Unknown, encode_body
from securechat.errors import InternalError, PeerError, StorageError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.mls.framing import ContentType, Header, PublicMessage, decode_body, read_header
from securechat.mls.group import Group, StagedCommit
from securechat.mls.public_group import PublicStagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.wire.chain import next_chain
from securechat.wire.messages import Accepted, Commit, Entry, OpenDirect, OpenRoom, Subscribed

NUMBER_LENGTH: Final = 8
"""Bytes of a number in the authenticated data (`uint64`)."""

MAX_NUMBER: Final = (1 << 63) - 1
"""What the wire and the vault can hold; an honest device never comes near it."""

People = dict[LeafIndex, DeviceCertificate]
StagedRequest = OpenDirect | OpenRoom | Commit
_decode_request: Final = msgspec.msgpack.Decoder(StagedRequest).decode
_encode_request: Final = msgspec.msgpack.Encoder().encode


def encode_number(number: int) -> bytes:
    """Return the MLS authenticated data of the submission `number`."""
    return number.to_bytes(NUMBER_LENGTH, "big")


def decode_number(header: Header) -> int:
    """Return the number in an entry's authenticated data. Raises `PeerError`."""
    authenticated_data = header.authenticated_data
    if header.content_type == ContentType.PROPOSAL:
        authenticated_data = authenticated_data[:NUMBER_LENGTH]  # its leaf stands behind it: `policy.departure_data`
    if len(authenticated_data) != NUMBER_LENGTH:
        raise PeerError("an entry without a number")
    number = int.from_bytes(authenticated_data, "big")
    if number > MAX_NUMBER:
        raise PeerError("an entry with an impossible number")
    return number


@dataclass
class Staged:
    """Our request that changes where we stand, on its way: stored before it was sent, sent again as it is."""

    number: int  # of the commit in it; 0 where there is none
    request: StagedRequest
    commit: StagedCommit | None
    submitted: bool = False  # on this connection


class Conversation:
    """One conversation. Its changes become durable with `save`, inside the caller's transaction."""

    def __init__(self, context: Context, row: ConversationRow) -> None:
        self.context = context
        self.row = row
        self.live = False  # the server sends us its entries, on this connection
        self.head = 0  # newest seq when it began to
        self._saved: ConversationRow | None = None
        self._group: Group | None = None
        self._group_change: Literal["", "message", "epoch"] = ""
        self._people: People | None = None
        self.departed = frozenset(map(LeafIndex, context.vault.groups.departures(row.id)))
        self._staged: Staged | None = None
        self._staged_loaded = False

    @classmethod
    def load(cls, context: Context, row: ConversationRow) -> "Conversation":
        """Return a conversation that is in the vault."""
        conversation = cls(context, row)
        conversation._saved = replace(row)
        return conversation

    def __repr__(self) -> str:
        """Id and place only."""
        return f"Conversation({self.row.id.hex()[:8]}, {self.row.phase}, at {self.row.cursor})"

    # --- what is in the vault -------------------------------------------------------------------------------------

    @property
    def id(self) -> bytes:
        """The conversation's id, which is the MLS group_id."""
        return self.row.id

    @property
    def group(self) -> Group:
        """The group in its current epoch."""
        if self._group is None:
            stored = self.context.vault.groups.load(self.id)
            if stored is None:
                raise InternalError("a conversation without its group")
            try:
                self._group = Group.load(*stored, self.context.device.signature)
            except PeerError as error:  # its parsers take what they read for a peer's
                raise StorageError(f"A group in the vault is damaged: {error}") from error
        return self._group

    @property
    def people(self) -> People:
        """The certificates in the tree."""
        if self._people is None:
            self._people = {leaf: certificate_of(node) for leaf, node in self.group.public.members()}
        return self._people

    @property
    def staged(self) -> Staged | None:
        """Our request on its way."""
        if not self._staged_loaded:
            row = self.context.vault.groups.staged(self.id)
            if row is not None:
                self._staged = Staged(row.number, _decode_request(row.request), self._decode_commit(row.commit_state))
            self._staged_loaded = True
        return self._staged

    def _decode_commit(self, state: bytes) -> StagedCommit | None:
        try:
            return StagedCommit.decode(state, self.context.device.signature) if state else None
        except PeerError as error:  # as above
            raise StorageError(f"A commit in the vault is damaged: {error}") from error

    def stage(self, number: int, request: StagedRequest, commit: StagedCommit | None) -> None:
        """Keep a request before it is sent."""
        state = commit.encode() if commit is not None else b""
        self.context.vault.groups.save_staged(self.id, StagedRow(number, _encode_request(request), state))
        self._staged, self._staged_loaded = Staged(number, request, commit), True

    def unstage(self) -> None:
        """Forget our request: it is in force, or never will be."""
        self.context.vault.groups.delete_staged(self.id)
        self._staged, self._staged_loaded = None, True

    def use_group(self, group: Group, *, new_epoch: bool) -> None:
        """Take over the group's state; `save` writes what has changed."""
        self._group = group
        if new_epoch:
            self._people = None
        self._group_change = "epoch" if new_epoch or self._group_change == "epoch" else "message"

    def save(self) -> None:
        """Write what has changed. Call before the transaction ends."""
        if self._group_change and self._group is not None and self.row.phase != "gone":
            if self._group_change == "epoch":
                self.context.vault.groups.save(self.id, self._group.public_bytes(), self._group.secret_bytes())
            else:
                self.context.vault.groups.save_secret(self.id, self._group.secret_bytes())
        self._group_change = ""
        if self.row != self._saved:
            vault, before = self.context.vault, self._saved.members if self._saved is not None else ()
            vault.conversations.save(self.row)
            if self.row.members != before:
                vault.conversations.save_members(self.id, before, self.row.members)
            self._saved = replace(self.row)

    # --- what the front end sees ----------------------------------------------------------------------------------

    def snapshot(self) -> events.Conversation:
        """Return the conversation as it is now."""
        row = self.row
        state: Literal["requested", "request", "open", "closed", "stopped"] = "open"
        if row.closed or row.phase == "gone":
            state = "closed"
        elif row.phase == "stopped":
            state = "stopped"
        elif row.asked:
            state = "requested" if row.asked == "ours" else "request"
        return events.Conversation(
            row.id, row.kind, row.name, row.members, state, row.epoch, row.own_bye, row.their_bye
        )

    @property
    def command(self) -> int:
        """The command that waits for us to be in, or else for what is said here first; 0 if there is none."""
        answers = self.context.answers
        waiting = answers.waiting(("conversation", self.id))
        if not waiting and (items := self.context.vault.outbox.first(self.id, 1)):
            waiting = answers.waiting(("item", items[0].id))
        return waiting

    def tell(self, change: events.Change, account: str = "", command: int = 0) -> None:
        """Tell the front end that the conversation has changed; `command`: what that comes of."""
        self.context.emit(events.ConversationChanged(self.snapshot(), change, account, command=command))

    def tell_entered(self, change: events.Change) -> None:
        """Tell the front end that we are in."""
        self.tell(change, self.context.device.account, self.command)
        self.context.answers.done(("conversation", self.id))

    def note_members(self) -> None:
        """Bring the row's list of members and epoch up to the group's."""
        here = {person.account for leaf, person in self.people.items() if leaf not in self.departed}
        self.row.members = tuple(sorted(here))
        self.row.epoch = self.group.epoch

    # --- entering and leaving -------------------------------------------------------------------------------------

    def begin(
        self, group: Group, *, seq: int, chain: bytes, number: int, departed: Iterable[LeafIndex] = ()
    ) -> None:
        """Follow the log from `seq` on, where it has the chain value `chain`. Nothing of an earlier stay is kept.

        `number`: our newest submission in the log. `departed`: leaves that have left and are still in the tree.
        """
        vault, row = self.context.vault, self.row
        # Under `number` we have just entered; what was submitted before that may stand in what we have skipped.
        unsure = vault.outbox.drop_submitted(self.id, number - 1)
        problem = "It is not known whether this message was sent."
        self._refuse_dropped(unsure, "local", problem, problem)
        vault.trails.forget_numbers(self.id)
        vault.trails.delete_chain_before(self.id, seq)
        vault.trails.add_chain_value(self.id, seq, chain)
        vault.outbox.void_ciphertexts(self.id)
        self.unstage()
        self.use_group(group, new_epoch=True)
        row.phase, row.cursor, row.chain, row.number = "member", seq, chain, number
        row.sent_on_path, row.path_time = 0, self.context.clock.milliseconds()
        self.set_departed(departed)
        for person in self.people.values():
            self.context.pins.observe(person)
        self.note_members()

    def reopen(self, phase: Phase) -> None:
        """Come back to a conversation we were out of: only its history is left, and goes on."""
        self.row.phase = phase
        self.row.closed = self.row.own_bye = self.row.their_bye = False
        self.row.asked = ""

    def begin_reading(self, subscribed: Subscribed) -> None:
        """The server begins to send us the log from our cursor on."""
        if self.row.phase != "member":
            return
        self.live, self.head = True, subscribed.head
        if subscribed.head < self.row.cursor:
            self._distrust(f"the server knows {subscribed.head} entries of this conversation, and we {self.row.cursor}")
        elif subscribed.last > self.context.vault.outbox.last_number(self.id, self.row.number):
            self.need_resync()  # this vault is an old copy: it does not know what we said

    def lost_connection(self) -> None:
        """Answers to what was on its way will not come."""
        self.live = False
        if self._staged is not None:
            self._staged.submitted = False

    def set_departed(self, leaves: Iterable[LeafIndex]) -> None:
        """Replace the leaves that have left and are still in the tree."""
        self.departed = frozenset(leaves)
        self.context.vault.groups.save_departures(self.id, self.departed)

    def end(self, problem: str, code: str = "local", text: str = "") -> bool:
        """We are out: delete everything but the history. What was not sent says `problem`; whether there was any.

        `code` and `text`: with what commands are refused; `problem` if there is no text.
        """
        self.row.phase = "gone"
        dropped = self.context.vault.outbox.drop(self.id)
        self._refuse_dropped(dropped, code, problem, text or problem)
        for change in self.context.vault.changes.load(self.id):
            if self.context.answers.waiting(("change", change.id)):
                self.context.answers.refuse(("change", change.id), code, text or problem)
        self.context.vault.conversations.clear_working_state(self.id)
        self._group = self._people = self._staged = None
        self._staged_loaded = True
        self.departed = frozenset()
        self.live = False
        return any(each.local_id for each in dropped)

    def _refuse_dropped(self, dropped: Iterable[Dropped], code: str, problem: str, text: str) -> None:
        """Answer the commands that wait for what is not submitted any more, and mark its lines."""
        answers = self.context.answers
        for each in dropped:
            message = self.context.vault.history.fail(each.local_id, problem) if each.local_id else None
            if each.kind == "leave":
                answers.done(("item", each.id))  # we are out all the same
            elif message is not None or answers.waiting(("item", each.id)):
                answers.refuse(("item", each.id), code, text, message)

    def close(self) -> int:
        """Say nothing more, and leave as soon as everything said before stands in the log.

        Returns the id of the outbox's item with which we leave; 0 if there was one before.
        """
        if self.row.closed:
            return 0
        self.row.closed = True
        return self.context.vault.outbox.add(self.id, "leave", b"", 0)

    def lose(self) -> None:
        """The server does not know us here any more."""
        self.row.closed = True
        self.end("You are no longer in this conversation.")
        self.tell("removed")

    # --- the log --------------------------------------------------------------------------------------------------

    @property
    def caught_up(self) -> bool:
        """Whether we have processed what stood in the log when this connection began to read it."""
        return self.live and self.row.cursor >= self.head

    def receive(self, entry: Entry) -> None:
        """Process the next entry of the log."""
        row = self.row
        if row.phase != "member" or entry.seq <= row.cursor:
            return  # what came twice was the same: the chain has it
        own = entry.device == self.context.device.id
        try:
            if entry.seq != row.cursor + 1:
                raise PeerError(f"entry {entry.seq} follows entry {row.cursor}")
            header = read_header(entry.payload)
            number = decode_number(header)
            last = row.number if own else self.context.vault.trails.last_number(self.id, entry.device)
            if last is not None and number != last + 1:
                raise PeerError(f"entry {entry.seq} is number {number} of a device whose last was {last}")
        except PeerError as error:
            self._distrust(f"the log does not fit together: {error}")
            return
        if self._process(entry, header, number, own=own):
            chain = next_chain(row.chain, self.id, entry.seq, entry.time, entry.device, number, entry.payload)
            row.cursor, row.chain = entry.seq, chain
            if self.row.phase == "gone":
                return
            self.context.vault.trails.add_chain_value(self.id, entry.seq, chain)
            if own:
                row.number = number
            else:
                self.context.vault.trails.save_number(self.id, entry.device, number)

    def receive_own(self, accepted: Accepted, number: int, payload: bytes) -> None:
        """Process our own entry, in whose place `accepted` stands. What we have not caught up to comes by the log.

        Raises `PeerError` if it is the answer to something else than our submission `number`.
        """
        if (accepted.conversation, accepted.number) != (self.id, number):
            raise PeerError("the server accepted something else than what was submitted")
        if accepted.seq == self.row.cursor + 1:
            self.receive(Entry(self.id, accepted.seq, accepted.time, self.context.device.id, payload))

    def _process(self, entry: Entry, header: Header, number: int, *, own: bool) -> bool:
        """Process an entry that fits into the log. Says whether the log goes on after it."""
        if own:
            return self._process_own(entry, number)
        if header.content_type == ContentType.APPLICATION:
            return self._process_message(entry, number)
        if header.content_type == ContentType.COMMIT:
            return self._process_commit(entry)
        return self._process_departure(entry)

    # --- our own entries ------------------------------------------------------------------------------------------

    def _process_own(self, entry: Entry, number: int) -> bool:
        staged = self.staged
        if (
            staged is not None
            and staged.commit is not None
            and (staged.number, staged.commit.message) == (number, entry.payload)
        ):
            try:
                policy.check_commit(staged.commit.public, departed=self.departed)
            except PeerError as error:  # true when it was made; somebody may have left since
                self._distrust(f"the server took a change of yours that all others have to refuse: {error}")
                return False
            self._merge_own(entry, staged.commit)
            return True
        item = self.context.vault.outbox.by_number(self.id, number)
        if item is None or item.payload != entry.payload:
            self.need_resync()  # this vault is an old copy: it does not know what we said
            return False
        key: Key = ("item", item.id)
        answers = self.context.answers
        self.context.vault.outbox.delete(item.id)
        if item.kind == "leave":
            self.row.closed = True
            self.end("You have left this conversation.")
            self.tell("left", self.context.device.account, answers.waiting(key))
        else:
            self.row.sent_on_path += 1
            if item.local_id:
                message = self.context.vault.history.accept(item.local_id, entry.seq, entry.time, number)
                self.context.emit(events.Delivered(message, command=answers.waiting(key)))
        answers.done(key)
        return True

    def _merge_own(self, entry: Entry, commit: StagedCommit) -> None:
        self.unstage()
        if commit.public.has_path:
            self.row.sent_on_path, self.row.path_time = 0, self.context.clock.milliseconds()
        self._swap(entry, commit)

    # --- other people's entries -----------------------------------------------------------------------------------

    def _process_message(self, entry: Entry, number: int) -> bool:
        try:
            received = self.group.decrypt(entry.payload, in_order=True)
            self.use_group(self.group, new_epoch=False)
            sender = self.people[received.sender]
            if sender.device_id != entry.device:
                claimed = self._author(entry.device)
                whose = claimed.account if claimed is not None else "somebody unknown"
                self._distrust(f"the server ascribes a message of {sender.account} to a device of {whose}")
                return False
            envelope = decode(received.plaintext)
        except PeerError as error:
            problem = f"This message cannot be read: {error}"
            self._add_line(entry, number, self._author(entry.device), None, problem)
            return True
        known = self.context.vault.trails.chain_value(self.id, envelope.seq)
        self._receive_body(entry, number, sender, envelope.body)
        if envelope.seq >= entry.seq or known != envelope.chain:
            self._distrust(
                f"{sender.account} saw another history than you up to entry {envelope.seq}: the server shows people "
                f"different histories, or the program of {sender.account} is at fault"
            )
        return True

    def _receive_body(self, entry: Entry, number: int, sender: DeviceCertificate, body: Body | Unknown) -> None:
        row, account = self.row, sender.account
        if isinstance(body, Text):
            if row.asked == "ours":  # they talk: they were opening a conversation with us at the same time
                row.asked = ""
                self.tell("accepted", account)
            self._add_line(entry, number, sender, body)
        elif row.kind != "direct" or not isinstance(body, Request | Accept | Decline | Bye):
            self._add_line(entry, number, sender, body, CANNOT_SHOW)
        elif isinstance(body, Request):
            # Whoever has spoken here already, or is about to, has consented to talk.
            willing = row.number > 0 or self.context.vault.outbox.holds_anything(self.id)
            row.asked = "" if willing else "theirs"
            self.tell("accepted" if willing else "request", account)
            if body.text:
                self._add_line(entry, number, sender, body)
        elif isinstance(body, Accept):
            row.asked = ""
            self.tell("accepted", account)
        elif isinstance(body, Decline):
            self.close()
            self.tell("declined", account)
        else:
            row.their_bye = True
            if row.own_bye:
                self.close()
            self.tell("closed" if row.closed else "bye", account)

    def _process_commit(self, entry: Entry) -> bool:
        now = entry.time // 1000  # the log's own time, so that all members judge alike
        validate = self.context.device.validator(now)
        try:
            policy.check_proposals(decode_body(entry.payload, PublicMessage))
            staged = self.group.stage(entry.payload, validate=validate, now=now)
            policy.check_commit(staged.public, departed=self.departed)
        except PeerError as error:
            self._stop(self._culprit(entry, now), entry.seq, str(error))
            return False
        if self.staged is not None:
            self.unstage()  # another commit came first
        self._swap(entry, staged)
        return True

    def _process_departure(self, entry: Entry) -> bool:
        try:
            leaf = policy.check_departure(self.group.public, entry.payload, self.group.public.context.encode())
            if self.people[leaf].device_id != entry.device:
                raise PeerError("the server ascribes somebody's leaving to another device")
        except PeerError as error:
            self._distrust(f"the server passed on what it had to refuse: {error}")
            return False
        account = self.people[leaf].account
        self.set_departed(self.departed | {leaf})
        self.note_members()
        if self.row.kind == "direct" and account != self.context.device.account:
            self.close()
        self.tell("left", account)
        return True

    def _swap(self, entry: Entry, staged: StagedCommit) -> None:
        """Bring a commit into force: the new epoch replaces the old one."""
        public, people, departed = staged.public, self.people, self.departed
        if staged.group is None:
            self.row.closed = True
            self.end("You are no longer in this conversation.")
            self.tell("removed", certificate_of(public.committer).account)
            return
        self.use_group(staged.group, new_epoch=True)
        self._people = _people_after(people, public)
        self.set_departed(departed - {leaf for leaf, _ in public.removed})
        self.context.vault.trails.delete_chain_before(self.id, entry.seq)
        for leaf, person in self.people.items():
            if person != people.get(leaf):
                self.context.pins.observe(person)
        self.note_members()
        self._settle_changes()
        were, are = ({person.account for person in tree.values()} for tree in (people, self.people))
        for account in sorted(are - were):
            self.tell("joined", account)
        left = {people[leaf].account for leaf in departed}  # that was told when they left
        for account in sorted(were - are - left):
            self.tell("removed", account)

    def _settle_changes(self) -> None:
        """Forget the changes of the members that are in force, whoever made them."""
        here = {person.account for person in self.people.values()}
        for change in self.context.vault.changes.load(self.id):
            if (change.account in here) == (change.action == "add"):
                self.context.vault.changes.delete(change.id)
                self.context.answers.done(("change", change.id))

    def _add_line(
        self,
        entry: Entry,
        number: int,
        sender: DeviceCertificate | None,
        body: Body | Unknown | None,
        problem: str = "",
    ) -> None:
        account = sender.account if sender is not None else "somebody unknown"
        message = self.context.vault.history.add(
            self.id,
            account,
            encode_body(body) if body is not None else ("", b""),
            own=account == self.context.device.account,
            trust=self.context.pins.standing(sender) if sender is not None else "pinned",
            seq=entry.seq,
            time=entry.time,
            device=entry.device,
            number=number,
            problem=problem,
        )
        self.context.emit(events.Received(message))

    # --- trouble --------------------------------------------------------------------------------------------------

    def need_resync(self) -> None:
        """Enter anew, by an external commit, before anything else: our state does not fit the log."""
        self.unstage()
        self.row.phase = "resync"

    def gave_up(self, text: str) -> None:
        """Stop: the server does not let us back in. `/repair` tries again."""
        self.row.phase = "stopped"
        text = f"{text} /repair tries again."
        if self.context.answers.waiting(("conversation", self.id)):
            self.context.answers.refuse(("conversation", self.id), "local", text)
        else:
            self.context.emit(events.Alarm("server", self.id, text))

    def _distrust(self, text: str) -> None:
        """Stop: the history is not the one that others see, or not whole."""
        self.row.phase = "stopped"
        advice = "Nothing more is read or sent here. Compare with the others by another way; /repair enters anew."
        self.context.emit(events.Alarm("history", self.id, f"{text}. {advice}"))

    def _stop(self, culprit: str, seq: int, reason: str) -> None:
        """Stop before a commit that cannot be processed, and say whose it is (design, section 6, Poison)."""
        self.row.phase = "stopped"
        self.context.report_failed_commit(self.id, seq, reason)
        self.context.emit(events.Stopped(self.id, culprit, reason))

    def _culprit(self, entry: Entry, now: int) -> str:
        """Name who made a bad commit; the server, if it is one that a server can see through and has to refuse."""
        try:
            message = decode_body(entry.payload, PublicMessage)
            policy.check_proposals(message)
            public = self.group.public.stage(message, validate=self.context.device.validator(now), now=now)
            policy.check_commit(public, departed=self.departed)
        except PeerError:
            return "the server"
        return certificate_of(public.committer).account

    def _author(self, device: bytes) -> DeviceCertificate | None:
        """Return who the server says wrote an entry, if that device is a member."""
        return next((person for person in self.people.values() if person.device_id == device), None)


def _people_after(before: People, commit: PublicStagedCommit) -> People:
    """Return the certificates in the tree after a commit, without reading the whole tree again."""
    removed = dict(commit.removed)
    after = {leaf: person for leaf, person in before.items() if leaf not in removed}
    committer = (commit.committer_leaf, commit.after.member(commit.committer_leaf))
    for leaf, node in (*commit.added, *commit.updated, committer):
        after[leaf] = certificate_of(node)
    return after
