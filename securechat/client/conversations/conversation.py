"""One conversation: its row, its group, our pending request, and how it ends (docs/design.md, section 6).

Keeps: the group in its current epoch, our trail through the log, the departed leaves. Deletes: at each commit, what
belongs to past epochs; once we are out, everything but the history.

`entering` is the way in, and `beginning` takes over the group that it leads to; `log` processes the entries, `outbox`
makes our own submissions, `standstill` says what stops us. The vault's row is changed by all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from securechat.client import events
from securechat.client.answers import Key
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.patience import Patience
from securechat.client.conversations.trail import Trail
from securechat.client.conversations.walking import Base, Effort, Walk
from securechat.client.doors.facts import Verdict
from securechat.client.message import Mark
from securechat.client.preferences import PREFERENCES
from securechat.client.snapshot import ConversationSnapshot
from securechat.client.vault.conversations import ConversationRow, PersonRow, StagedRow
from securechat.client.vault.outbox import Dropped, Kind, OutboxRow
from securechat.content import envelope
from securechat.content.registry import Body, encode_body
from securechat.errors import InternalError, PeerError, StorageError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.pins import WORST_FIRST, Standing
from securechat.identity.statements import Statement
from securechat.mls.group import Group, StagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.policy import Word
from securechat.wire.messages import Commit, OpenDirect, OpenRoom, Truncated

ELSEWHERE: Final = (
    "This file was not sent: what was said here goes on in another conversation, for which the server does not have it."
    " Send it again."
)
"""Said of a file that waited in a conversation which another one has replaced."""

_NOTED_MILLISECONDS: Final = 86_400_000
"""Having been there for a day without an entry is written down: less often than the end of every connection."""

People = dict[LeafIndex, DeviceCertificate]
StagedRequest = OpenDirect | OpenRoom | Commit
_decode_request: Final = msgspec.msgpack.Decoder(StagedRequest).decode
_encode_request: Final = msgspec.msgpack.Encoder().encode


@dataclass
class Staged:
    """Our request that changes our membership, on its way: stored before it was sent, and sent again unchanged."""

    number: int  # of the commit in it; 0 without one
    request: StagedRequest
    commit: StagedCommit | None
    submitted: bool = False  # on this connection
    put_off: bool = False  # by the server, on this connection: it is in no log


class Conversation:
    """One conversation. Its changes become durable with `save`, inside the caller's transaction."""

    def __init__(self, context: Context, row: ConversationRow) -> None:
        self.context = context
        self.row = row
        self.live = False  # the server sends us its entries, on this connection
        self.head = 0  # newest seq when it began to do so
        self.newest_time = 0  # of the newest entry that this session has processed (ms)
        self.late_since = 0.0  # since when live entries are dated too early (monotonic seconds); 0: they are not
        self.exhausted = False  # nothing is left behind our cursor but what is to come
        self.settled = False  # we have caught up, on this connection
        self.told_claim = False
        self.untold = False  # whether they ask to talk with us, and the user has not heard of it yet
        self.beside = False  # whether it stands beside another one with them, and the user has not heard of it yet
        self.said_instead = b""  # the conversation that it takes the place of, as they have just said in it
        self.reopened = False  # another one was opened in its place, or tried to, on this connection
        self.missed = False  # a gap was passed
        self.gone: dict[bytes, bytes] = {}  # see `absent`: device -> the certificate that its account has there instead
        self.told_absent = frozenset[events.Unreachable]()  # of those who are absent now
        self.claimed = 0  # our newest number, by the server's word then
        self.claimed_gap: Truncated | None = None  # by the server's word: counts once an entry comes past it
        self.effort = Effort()  # of catching up
        self.stale: set[tuple[str, bytes]] = set()  # who hold what waits only since they came in by an old certificate
        self.told_ahead = False
        self.server_epoch: int | None = None  # the server's when we found that we are ahead of it
        self.restored_epoch = 0  # the epoch that the log had in the backup, by the server's word; 0: none
        self.branch_lost = False  # the server goes on in another branch than ours, on this connection
        self.led_here: set[bytes] | None = None  # digests of the handshakes that are kept
        self.base: Base | None = None  # where a walk begins, if not in our own state
        self.walk: Walk | None = None  # while handshakes are followed without secrets
        self.denied = False  # the server says that we are not in it, on this connection
        self.misnumbered = False  # the server insists that we have said something else
        self.repairing = False  # the user goes on, whatever has stopped us
        self.astray = False  # the log has to be read anew, from an earlier place
        self.doubts = context.vault.doubts.load(row.id)  # account -> the weight of its word, of those who contradict
        self.unregained = False  # our keepsake names it, and there was no way in on this connection
        self.patience = Patience()  # before we enter an open room again
        self.unconfirmed = 0  # since when no owner has signed the state, if that is long ago (ms)
        self._saved: ConversationRow | None = None
        self._group: Group | None = None
        self._group_change: Literal["", "message", "epoch"] = ""
        self._people: People | None = None
        self.departed = frozenset(map(LeafIndex, context.vault.groups.departures(row.id)))
        self.revocations = tuple(map(Statement.decode, context.vault.groups.revocations(row.id)))  # of leaves there
        self.words = tuple(map(Word.decode, context.vault.groups.words(row.id)))  # of the operator, not carried out
        self.trail = Trail(context.vault.trails, row.id)
        self.encrypted: dict[int, OutboxRow] = {}  # number -> the vault's row, for when it is accepted
        self._staged: Staged | None = None
        self._staged_loaded = False
        self.holding: tuple[int, int, tuple[PersonRow, ...]] | None = None  # roster, pins: whose keys hold (`holds`)
        self.confirmed = context.vault.conversations.confirmed(row.id)
        self.heard = frozenset(context.vault.conversations.heard(row.id))  # who has signed something since we came in
        self.marks = context.vault.marks.load(row.id)  # how far others have received and read it, by account and key
        self.question = 0  # the one that `Confirm` answers now
        self.asked_about: frozenset[PersonRow] | None = None  # whom it lets read; None: nothing is asked
        self._shown: tuple[tuple[int, int], tuple[str, ...], tuple[Standing, ...]] | None = None  # see `_members`
        self._shown_heard: tuple[tuple[int, frozenset[tuple[str, bytes]]], tuple[str, ...]] | None = None

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
                self._group = Group.load(*stored, self.context.device.keys)
            except PeerError as error:  # the parsers report what they read as a peer's fault
                raise StorageError(f"A group in the vault is damaged: {error}") from error
        return self._group

    @property
    def people(self) -> People:
        """The certificates in the tree."""
        if self._people is None:
            self._people = {leaf: certificate_of(node) for leaf, node in self.group.public.members()}
        return self._people

    @people.setter
    def people(self, people: People) -> None:
        self._people = people

    @property
    def own_leaf_is_old(self) -> bool:
        """Whether our leaf names another signature key than our new leaves do: a commit of ours has to renew it."""
        return self.people[self.group.own_leaf].signature_key != self.context.device.row.signature_key

    @property
    def present(self) -> list[DeviceCertificate]:
        """The certificates of those who have not left."""
        return [person for leaf, person in self.people.items() if leaf not in self.departed]

    @property
    def absent(self) -> list[DeviceCertificate]:
        """Those of `present` whose devices are not in the server's directory any more, by its word."""
        if not self.gone or self.row.phase not in phases.INSIDE:
            return []
        own = self.context.device.id
        return [person for person in self.present if person.device_id in self.gone and person.device_id != own]

    def author(self, device: bytes) -> DeviceCertificate | None:
        """Return the certificate of the device that the server names as an entry's author, if it is a member."""
        return next((person for person in self.people.values() if person.device_id == device), None)

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
            return StagedCommit.decode(state, self.context.device.keys) if state else None
        except PeerError as error:  # as above
            raise StorageError(f"A commit in the vault is damaged: {error}") from error

    def stage(self, number: int, request: StagedRequest, commit: StagedCommit | None) -> None:
        """Keep a request before it is sent."""
        state = commit.encode() if commit is not None else b""
        self.context.vault.groups.save_staged(self.id, StagedRow(number, _encode_request(request), state))
        self._staged, self._staged_loaded = Staged(number, request, commit), True

    def unstage(self) -> None:
        """Forget our staged request: it is in force, or never will be."""
        self.context.vault.groups.delete_staged(self.id)
        self._staged, self._staged_loaded = None, True

    def reload_group(self) -> None:
        """Load the group anew when it is next needed: the vault has forgotten a key of ours."""
        self.save()
        self._group = None

    def use_keys(self, group: Group) -> None:
        """Take over the group after a message in its epoch; `save` writes what has changed."""
        if (group.group_id, group.epoch) != (self.id, self.group.epoch):
            raise InternalError("a message has led into another epoch")
        self._group = group
        self._group_change = self._group_change or "message"

    def replace_group(self, verdict: Verdict, group: Group) -> None:
        """Take over another epoch, or another group: the only way in which that happens (section 6, Doors)."""
        if not verdict.lets_in:
            raise InternalError(f"a state that was not let in: {verdict.row or 'no row'}, {verdict.action}")
        self._group, self._people = group, None
        self._group_change = "epoch"

    def save(self) -> None:
        """Write what has changed. Call before the transaction ends."""
        self.trail.save()
        if self._group_change and self._group is not None and self.row.phase not in phases.ENDED:
            if self._group_change == "epoch":
                self.context.vault.groups.save(self.id, self._group.public_bytes(), self._group.secret_bytes())
            else:
                self.context.vault.groups.save_secret(self.id, self._group.secret_bytes())
        self._group_change = ""
        if self.row != self._saved:
            vault, before = self.context.vault, self._saved.persons if self._saved is not None else ()
            vault.conversations.save(self.row)
            if self.row.persons != before:
                vault.conversations.save_persons(self.id, before, self.row.persons)
            self._saved = replace(self.row)

    # --- what the front end sees ----------------------------------------------------------------------------------

    def snapshot(self) -> ConversationSnapshot:
        """Return the conversation as it is now."""
        row = self.row
        state: Literal["requested", "request", "open", "closed", "stopped"] = "open"
        if self.is_over:
            state = "closed"
        elif row.phase in phases.REPAIRABLE:
            state = "stopped"
        elif row.asked:
            state = "requested" if row.asked == "ours" else "request"
        members, trust = self._members()
        return ConversationSnapshot(
            row.id, row.kind, self.title, members, state, row.epoch, row.own_bye, row.their_bye, self.unconfirmed,
            trust, row.topic, tuple(row.owners.split()), tuple(row.inviters.split()),
            tuple(sorted(self.doubts)),
            tuple(sorted({person.account for person in self.absent})),
            self._heard(),
            row.life,
            tuple(sorted((account, *mark) for (account, _), mark in self.marks.items() if account in row.members)),
            tuple((name, self.context.preferences.get(name, self.scope_of(name))) for name in PREFERENCES),
            self.is_unheard,
        )  # fmt: skip

    def _members(self) -> tuple[tuple[str, ...], tuple[Standing, ...]]:
        """Return the accounts that are here, sorted, and how the key of each stands: the worst of several."""
        key = (self.row.roster, self.context.pins.version)
        if self._shown is None or self._shown[0] != key:
            trust: dict[str, Standing] = {}
            for account, identity_key, _ in self.row.persons:
                standing = self.context.pins.standing(account, identity_key)
                trust[account] = min(trust.get(account, standing), standing, key=WORST_FIRST.index)
            self._shown = key, tuple(trust), tuple(trust.values())
        return self._shown[1:]

    def _heard(self) -> tuple[str, ...]:
        """Return the others who were heard under each key that they have here: accounts, sorted."""
        key = (self.row.roster, self.heard)
        if self._shown_heard is None or self._shown_heard[0] != key:
            listed = {person.account for person in self.row.persons if person[:2] not in self.heard}
            self._shown_heard = key, tuple(account for account in self.row.members if account not in listed)
        return self._shown_heard[1]

    @property
    def title(self) -> str:
        """What it is called here: by its name, or by a second title."""
        return self.row.title or self.row.name

    @property
    def is_unheard(self) -> bool:
        """Whether the user hears nothing of it: a private one with somebody blocked, or told no and asking again."""
        row, context = self.row, self.context
        return row.kind == "direct" and (
            context.blocks(row.name) or (row.asked == "theirs" and context.is_unwanted(row.name))
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing is said here any more."""
        return self.row.closed or self.row.phase in phases.ENDED

    @property
    def peer_key(self) -> bytes:
        """The other one's identity key in a direct conversation; empty while nobody is in it."""
        return next((person.identity_key for person in self.row.persons if person.account == self.row.name), b"")

    @property
    def command(self) -> int:
        """The command that waits for us to be in, or else for the first message here; 0 if there is none."""
        answers = self.context.answers
        waiting = answers.waiting(("conversation", self.id))
        if not waiting and (items := self.context.vault.outbox.ids(self.id, after=0)):
            waiting = answers.waiting(("item", items[0]))
        return waiting

    def tell(self, change: events.Change, account: str = "", command: int = 0, by: str = "") -> None:
        """Tell the front end that the conversation has changed; `command`: the one that caused it.

        Of one that the user hears nothing of, only what they do themselves is told.
        """
        if command or self.context.answers.current or not self.is_unheard:
            self.context.emit(events.ConversationChanged(self.snapshot(), change, account, by, command=command))

    def tell_request(self) -> None:
        """Tell that they ask to talk with us, if that was put off."""
        if self.untold:
            self.untold = False
            self.tell("request", self.row.name)

    def tell_beside(self) -> None:
        """Tell that it stands beside another one with the same account, if that was put off."""
        if self.beside:
            self.beside = False
            self.tell("beside", self.row.name)

    def tell_entered(self, change: events.Change) -> None:
        """Tell the front end that we are in."""
        key: Key = ("conversation", self.id)
        again = change == "members"  # then what waits to be said did not bring us here
        self.tell(change, self.context.device.account, self.context.answers.waiting(key) if again else self.command)
        self.context.answers.done(key)

    # --- entering and leaving -------------------------------------------------------------------------------------

    def advance(self, event: phases.Event) -> None:
        """Enter the phase that follows. Raises `InternalError`, and moves nothing, if the event cannot happen now."""
        self.row.phase = phases.after(self.row.phase, event)

    def reopen(self, event: phases.Event) -> None:
        """Come back to a conversation that we were out of: its history is all that is left, and goes on."""
        self.advance(event)
        self.row.closed = self.row.own_bye = self.row.their_bye = False
        self.row.asked = ""

    @property
    def caught_up(self) -> bool:
        """Whether we have processed everything that was in the log when this connection began to read it."""
        place = self.walk.cursor if self.walk is not None else self.row.cursor
        return self.live and (self.exhausted or place >= self.head)

    def lost_track(self) -> None:
        """What the server sends from now on belongs to no subscription, until it says that a new one begins."""
        self.live = self.settled = self.exhausted = self.denied = self.branch_lost = False
        self.led_here = None
        self.walk = self.claimed_gap = None
        self.effort = Effort()

    def lost_connection(self) -> None:
        """The connection is gone, and with it the answers to whatever was on its way."""
        now = self.context.clock.milliseconds()
        if self.settled and now - self.row.followed > _NOTED_MILLISECONDS:  # nothing was said, and we were there
            self.row.followed = now
            self.context.touched.add(self.id)
        self.lost_track()
        self.start_over()
        self.base = None
        self.unregained = False
        self.told_ahead = self.reopened = False
        self.late_since = 0.0
        if self._staged is not None:
            self._staged.submitted = self._staged.put_off = False

    def start_over(self) -> None:
        """A state to enter from that was only in memory is looked for again; a request that was made is sent again."""
        if self.row.phase == "regaining" and self.staged is None:
            self.advance("lost")
            self.context.touched.add(self.id)

    def void_ciphertexts(self) -> None:
        """Forget the ciphertexts of everything that waits: it is encrypted again, in order."""
        self.context.vault.outbox.void_ciphertexts(self.id)
        self.encrypted.clear()

    def set_departed(self, leaves: Iterable[LeafIndex]) -> None:
        """Replace the set of departed leaves."""
        departed = frozenset(leaves)
        if departed != self.departed:
            self.departed = departed
            self.context.vault.groups.save_departures(self.id, departed)

    def set_revocations(self, revocations: Iterable[Statement]) -> None:
        """Replace the statements by which leaves are revoked; whose leaves these are, `departed` says as well."""
        if (replaced := tuple(revocations)) != self.revocations:
            self.revocations = replaced
            self.context.vault.groups.save_revocations(self.id, [each.encode() for each in replaced])

    def set_words(self, words: Iterable[Word]) -> None:
        """Replace the words of the operator that are still to be carried out."""
        if (replaced := tuple(words)) != self.words:
            self.words = replaced
            self.context.vault.groups.save_words(self.id, [(word.seq, word.encode()) for word in replaced])

    @property
    def scope(self) -> bytes:
        """What the user's preferences for it are kept by: a person's conversations have one, a room its own."""
        return self.row.name.encode() if self.row.kind == "direct" else self.row.id

    def scope_of(self, preference: str) -> bytes:
        """The same for one preference: agreeing to links is said of a person's key, and not of who comes after it."""
        of_key = preference == "link" and self.row.kind == "direct"
        return b"%b\0%b" % (self.scope, self.peer_key) if of_key else self.scope

    def set_mark(self, whose: tuple[str, bytes], mark: Mark) -> None:
        """Note how far somebody, an account under one key, has received and read what is said here."""
        self.marks[whose] = mark
        self.context.vault.marks.save(self.id, *whose, mark)

    def end(self, problem: str, code: str = "local", text: str = "") -> bool:
        """We are out: delete everything but the history. What was not sent says `problem`.

        `code` and `text`: with what commands are refused; `problem` if there is no text. Returns whether anything was.
        """
        self.advance("over")
        dropped = self.context.vault.outbox.drop(self.id)
        self.refuse_dropped(dropped, code, problem, text or problem)
        keys: list[Key] = [("change", change.id) for change in self.context.vault.changes.load(self.id)]
        waiting = [key for key in (*keys, ("conversation", self.id)) if self.context.answers.waiting(key)]
        for key in waiting:
            self.context.answers.refuse(key, code, text or problem)
        self.context.vault.conversations.clear_working_state(self.id)
        self._group = self._people = self._staged = None
        self._staged_loaded = True
        self.departed, self.words, self.revocations = frozenset(), (), ()
        self.heard = frozenset()
        self.marks = {}
        self.trail = Trail(self.context.vault.trails, self.id)
        self.encrypted.clear()
        self.live = False
        return bool(waiting) or any(each.local_id for each in dropped)

    def hand_over(self, heir: "Conversation") -> None:
        """Let what waits here and was never encrypted be said in another conversation.

        A file whose bytes the server has for this one alone does not go along: nobody could fetch it there.
        """
        vault = self.context.vault
        moved = vault.outbox.move_plain(self.id, heir.id)
        vault.history.move_lines(moved, heir.id)
        for line in moved:
            file = vault.history.file(line)
            if file is not None and file.blob:
                heir.refuse_dropped(vault.outbox.drop_line(line), "local", ELSEWHERE, ELSEWHERE)

    def refuse_dropped(self, dropped: Iterable[Dropped], code: str, problem: str, text: str) -> None:
        """Answer the commands that wait for dropped submissions, and mark their lines."""
        answers = self.context.answers
        for each in dropped:
            message = self.context.vault.history.fail(each.local_id, problem) if each.local_id else None
            if each.kind == "leave":
                answers.done(("item", each.id))  # we are out all the same
            elif message is not None or answers.waiting(("item", each.id)):
                answers.refuse(("item", each.id), code, text, message)

    def put(
        self, body: Body, local_id: int = 0, *, about: int = 0, first: bool = False, kind: Kind = "message"
    ) -> int:
        """Put a body into the outbox; `local_id`: of its line in the history, if it is one. Returns the item's id.

        `about`: of the line that it is about. `first`: before all that waits, and will. `kind`: what it is there.
        """
        sent = self.context.clock.milliseconds()
        self.context.touched.add(self.id)
        unplaced, roster = envelope.unplaced(encode_body(body), sent), self.row.roster
        outbox = self.context.vault.outbox
        return outbox.add(self.id, kind, unplaced, local_id, roster=roster, about=about, first=first)

    def close(self) -> int:
        """Say nothing more, and leave as soon as everything said before is in the log.

        Returns the id of the departure in the outbox; 0 if there was one already.
        """
        if self.row.closed:
            return 0
        self.row.closed = True
        return self.context.vault.outbox.add(self.id, "leave", b"", 0)
