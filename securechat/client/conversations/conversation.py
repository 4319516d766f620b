"""One conversation: its row, its group, our pending request, how it begins and ends (docs/design.md, section 6).

Keeps: the group in its current epoch, our trail through the log, the departed leaves. Deletes: at each commit, what
belongs to past epochs; once we are out, everything but the history.

`log` processes its entries, `outbox` makes our own submissions, `entering` is the way in.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec

from securechat import policy
from securechat.client import events
from securechat.client.answers import Key
from securechat.client.context import Context
from securechat.client.conversations import evidence, phases, rule_changes
from securechat.client.conversations.trail import Trail
from securechat.client.conversations.walking import Effort, Walk, in_date
from securechat.client.doors.checks import GONE_SECONDS
from securechat.client.doors.facts import Verdict, Way
from securechat.client.vault.conversations import ConversationRow, PersonRow, StagedRow
from securechat.client.vault.outbox import Dropped, OutboxRow
from securechat.content import envelope
from securechat.content.registry import Body, encode_body
from securechat.errors import InternalError, PeerError, StorageError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.pins import WORST_FIRST, Standing
from securechat.mls.framing import SenderType
from securechat.mls.group import Group, StagedCommit
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.policy import Identity, Word, rules_of
from securechat.wire.limits import MAX_COUNT
from securechat.wire.messages import Commit, Entry, OpenDirect, OpenRoom, Truncated

PATH_MESSAGES: Final = 50
"""Own messages after which we commit a fresh path: until then a thief reads on (docs/design.md, section 6, Healing)."""

LONG_MILLISECONDS: Final = 7 * 86_400_000
"""An absence after which lines that wait in a room with owners are asked about: a week, in which an owner commits."""

_NOTED_MILLISECONDS: Final = 86_400_000
"""Having been there for a day without an entry is written down: less often than the end of every connection."""

_CLAIM: Final = (
    "The server claims that this device has said {} things here; the log, with all that is in it, shows {}. The claim "
    "is ignored."
)

_CUT_OFF: Final = (
    "The server has lost what leads on from here in {}. What you say waits; /repair tries again. If that does not "
    "help, have somebody invite you again."
)
DENIED: Final = (
    "The server says that you are not in {}: it has lost that, or somebody has removed you. What you say waits; /leave "
    "gives it up."
)
_AHEAD: Final = (
    "The server was restored from a backup, and lost what was changed since in {}. What you say waits until it has got "
    "that back from you and the others."
)

MAX_OFFERED_NUMBER: Final = MAX_COUNT >> 1
"""The highest number of our own that we take a server's word for: as many are left to count on with."""

People = dict[LeafIndex, DeviceCertificate]
StagedRequest = OpenDirect | OpenRoom | Commit
_decode_request: Final = msgspec.msgpack.Decoder(StagedRequest).decode
_encode_request: Final = msgspec.msgpack.Encoder().encode
_decode_entry: Final = msgspec.msgpack.Decoder(Entry).decode


@dataclass(frozen=True)
class Base:
    """A state from which we walk in place of our own: the handshakes that lead from ours to it are gone."""

    group: PublicGroup
    departed: frozenset[LeafIndex]
    signer_leaf: LeafIndex
    seq: int  # of the commit that led there
    way: Way
    signer: DeviceCertificate  # on whose word
    time: int  # milliseconds
    restored: bool = False  # the server has lost our branch


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
        self._told_claim = False
        self.untold = False  # whether they ask to talk with us, and the user has not heard of it yet
        self._missed = False  # a gap was passed
        self.gone: dict[bytes, bytes] = {}  # see `absent`: device -> the certificate that its account has there instead
        self.told_absent = frozenset[events.Unreachable]()  # of those who are absent now
        self.claimed = 0  # our newest number, by the server's word then
        self.gap: Truncated | None = None  # messages are gone, by the server's word: counts once an entry comes past it
        self.effort = Effort()  # of catching up
        self._stale: set[tuple[str, bytes]] = set()  # who hold what waits only since they came in out of date
        self._told_ahead = False
        self.server_epoch: int | None = None  # the server's when we found that we are ahead of it
        self._led_here: set[bytes] | None = None  # digests of the handshakes that are kept
        self.base: Base | None = None  # where a walk begins, if not in our own state
        self.walk: Walk | None = None  # while handshakes are followed without secrets
        self.denied = False  # the server says that we are not in it, on this connection
        self.misnumbered = False  # the server insists that we have said something else
        self.repairing = False  # the user goes on, whatever has stopped us
        self.astray = False  # the log has to be read anew, from an earlier place
        self.doubts = context.vault.doubts.load(row.id)  # account -> the weight of its word, of those who contradict
        self.patience = evidence.Patience()  # before we enter an open room again
        self.unconfirmed = 0  # since when no owner has signed the state, if that is long ago (ms)
        self._saved: ConversationRow | None = None
        self._group: Group | None = None
        self._group_change: Literal["", "message", "epoch"] = ""
        self._people: People | None = None
        self.departed = frozenset(map(LeafIndex, context.vault.groups.departures(row.id)))
        self.words = tuple(map(Word.decode, context.vault.groups.words(row.id)))  # of the operator, not carried out
        self.trail = Trail(context.vault.trails, row.id)
        self.encrypted: dict[int, OutboxRow] = {}  # number -> the vault's row, for when it is accepted
        self._staged: Staged | None = None
        self._staged_loaded = False
        self.holding: tuple[int, int, tuple[PersonRow, ...]] | None = None  # roster, pins: whose keys hold (`holds`)
        self.confirmed = context.vault.conversations.confirmed(row.id)
        self.question = 0  # the one that `Confirm` answers now
        self.asked_about: frozenset[PersonRow] | None = None  # whom it lets read; None: nothing is asked
        self._shown: tuple[tuple[int, int], tuple[str, ...], tuple[Standing, ...]] | None = None  # see `_members`

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
            return StagedCommit.decode(state, self.context.device.signature) if state else None
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

    def snapshot(self) -> events.ConversationSnapshot:
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
        return events.ConversationSnapshot(
            row.id, row.kind, self.title, members, state, row.epoch, row.own_bye, row.their_bye, self.unconfirmed,
            trust, row.topic, tuple(row.owners.split()), tuple(row.inviters.split()),
            tuple(sorted(self.doubts)),
            tuple(sorted({person.account for person in self.absent})),
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

    @property
    def title(self) -> str:
        """What it is called here: by its name, or by a second title."""
        return self.row.title or self.row.name

    @property
    def is_over(self) -> bool:
        """Whether nothing is said here any more."""
        return self.row.closed or self.row.phase in phases.ENDED

    @property
    def peer_key(self) -> bytes:
        """The other one's identity key in a direct conversation; empty while nobody is in it."""
        return next((person.identity_key for person in self.row.persons if person.account == self.row.name), b"")

    def ask(self, whose: Iterable[PersonRow]) -> int:
        """Ask the user to confirm these persons. Returns the question's number: the same for the same persons."""
        if self.asked_about != (persons := frozenset(whose)):
            self.question, self.asked_about = self.question + 1, persons
        return self.question

    def confirm(self) -> None:
        """The user lets those read who were asked about last: in an open room for ever, elsewhere as they are now."""
        asked, self.asked_about = self.asked_about or frozenset(), None
        self.row.returned = 0
        if self.row.kind == "open":
            persons = {person[:2] for person in asked}
            self.context.vault.conversations.confirm(self.id, persons)
            self.confirmed |= persons
            self.holding = None
        else:
            self.row.persons = tuple(
                person._replace(door=0) if person in asked else person for person in self.row.persons
            )

    def note_return(self) -> None:
        """We read the log again: lines that wait were typed for people of long ago, if we were away for long."""
        row, now = self.row, self.context.clock.milliseconds()
        away = bool(row.followed) and now - row.followed > LONG_MILLISECONDS
        if away and row.owners and self.context.vault.outbox.holds_anything(self.id):
            row.roster += 1
            row.returned = row.roster

    def forget_door(self, account: str, key: bytes) -> None:
        """The user has decided on a key, whatever way it came by."""
        self.row.persons = tuple(
            person._replace(door=0) if person[:2] == (account, key) else person for person in self.row.persons
        )

    def came_by_door(self, persons: Iterable[tuple[str, bytes]]) -> None:
        """Note that these (account, identity key) came by another way than an ordinary commit: by a checkpoint, an
        external commit that nobody vouches for, a resync of ours.

        Call when the group is in its new epoch (`note_members`). Lines that were typed before wait until the user has
        confirmed them.
        """
        came = frozenset(persons)
        self.row.persons = tuple(
            person._replace(door=self.row.roster) if person[:2] in came else person for person in self.row.persons
        )

    def note_entered(self, person: DeviceCertificate) -> None:
        """Somebody came in by themselves. Out of date by our own clock, that may be an old, stolen key: no member has
        let it in, and lines that were typed before wait.

        At once, whether we had caught up or not: that is the server's word, and no restart may forget it.
        """
        if in_date(person, self.context.clock.seconds()):
            return
        came = (person.account, person.identity_key)
        if any(each[:2] == came and not each.door for each in self.row.persons):
            self._stale.add(came)
        self.row.roster += 1
        self.came_by_door([came])

    def forgive_stale(self) -> None:
        """Whoever had come in out of date, and has a leaf that is in date by now, holds nothing any more."""
        now = self.context.clock.seconds()
        for person in self.people.values() if self._stale else ():
            came = (person.account, person.identity_key)
            if came in self._stale and in_date(person, now):
                self._stale.discard(came)
                self.forget_door(*came)

    @property
    def command(self) -> int:
        """The command that waits for us to be in, or else for the first message here; 0 if there is none."""
        answers = self.context.answers
        waiting = answers.waiting(("conversation", self.id))
        if not waiting and (items := self.context.vault.outbox.ids(self.id, after=0)):
            waiting = answers.waiting(("item", items[0]))
        return waiting

    def tell(self, change: events.Change, account: str = "", command: int = 0, by: str = "") -> None:
        """Tell the front end that the conversation has changed; `command`: the one that caused it."""
        self.context.emit(events.ConversationChanged(self.snapshot(), change, account, by, command=command))

    def tell_request(self) -> None:
        """Tell that they ask to talk with us, if that was put off."""
        if self.untold:
            self.untold = False
            self.tell("request", self.row.name)

    def tell_entered(self, change: events.Change) -> None:
        """Tell the front end that we are in."""
        key: Key = ("conversation", self.id)
        again = change == "members"  # then what waits to be said did not bring us here
        self.tell(change, self.context.device.account, self.context.answers.waiting(key) if again else self.command)
        self.context.answers.done(key)

    def note_members(self) -> None:
        """Update what the row says of the group: its persons and roster, its epoch, its rules."""
        before = {person[:2]: person for person in self.row.persons}
        here = {(each.account, each.identity_key) for each in self.present}
        if here != before.keys():
            self.row.roster += 1
            self.row.persons = tuple(before.get(person) or PersonRow(*person) for person in sorted(here))
        self.row.epoch = self.group.epoch
        row, rules = self.row, policy.rules_of(self.group.public.extensions)
        row.name = rules.name or row.name  # a direct conversation bears the other account's
        row.topic = rules.topic
        row.owners, row.inviters = (
            " ".join(each.account for each in identities) for identities in (rules.owners, rules.inviters)
        )

    # --- entering and leaving -------------------------------------------------------------------------------------

    def begin(
        self,
        verdict: Verdict,
        group: Group,
        *,
        seq: int,
        chain: bytes,
        number: int | None,
        departed: Iterable[LeafIndex] = (),
        words: Iterable[Word] = (),
    ) -> None:
        """Follow the log from `seq` on, where its chain value is `chain`. Nothing of an earlier membership is kept.

        `verdict`: of the table of doors. `number`: our newest submission in the log; None if we may have been in
        before, so that the server has to say. `departed`: leaves of departed devices; `words`: of the operator,
        that are still to be carried out.
        """
        vault, row = self.context.vault, self.row
        # We have just entered under `number`; earlier submissions may be among the entries that we skipped.
        unsure = vault.outbox.drop_submitted(self.id, (number or 0) - 1)
        problem = "It is not known whether this message was sent."
        self._refuse_dropped(unsure, "local", problem, problem)
        self.trail.begin(seq, chain)
        if number is not None:
            self.trail.note_number(self.context.device.id, number)
        self.void_ciphertexts()
        self.unstage()
        self.replace_group(verdict, group)
        self.advance("entered")
        self.walk, self.base, self.gap = None, None, None
        self.repairing = self.misnumbered = False
        row.cursor, row.chain, row.number, row.hole = seq, chain, number or 0, 0
        row.sent_on_path = 0
        row.path_time = row.followed = self.context.clock.milliseconds()
        self.forget_doubts()
        row.confirmed = row.confirmed or row.path_time  # what came before us, nobody can tell
        self.set_departed(departed)
        self.set_words(words)
        were, again = {person[:2] for person in row.persons}, row.roster > 0
        self.note_members()
        if again:  # whatever brought us back here, it was no ordinary commit
            self.came_by_door({person[:2] for person in row.persons} - were)
        for person in self.people.values():
            self.context.pins.meet(person, self.id)
        self.settle_changes()

    def settle_changes(self) -> None:
        """Forget the requested changes that are in force now, whoever made them."""
        if not (wanted := self.context.vault.changes.load(self.id)):
            return
        standing = self.context.pins.standing
        here = {each.account: standing(each.account, each.identity_key) for each in self.people.values()}
        ours = {each.person.account: each for each in self.context.added if each.room == self.id}
        rules = policy.rules_of(self.group.public.extensions)
        for change in wanted:
            if rule_changes.is_in_force(change, rules, here):
                self.context.vault.changes.delete(change.id)
                if change.action in ("add", "replace") and change.value in ours:
                    ours[change.value].change = change.id  # it is answered once their invitation is in the log
                else:
                    self.context.answers.done(("change", change.id))

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

    @property
    def in_hole(self) -> bool:
        """Whether messages after our cursor are gone: of those before `row.hole` only handshakes are left."""
        return self.row.hole > self.row.cursor + 1

    @property
    def next_seq(self) -> int:
        """The seq of the next entry that is not lost."""
        return self.row.hole if self.in_hole else self.row.cursor + 1

    def pass_gap(self, seq: int, *, handshake: bool) -> None:
        """The entry `seq` has come: note the gap before it, if there is one. Raises `PeerError` if it does not follow.

        Behind a gap the numbers of all devices, and the chain, start anew, from the value that the server names: it
        counts once a member's message confirms it, as for somebody who joins.
        """
        row, gap = self.row, self.gap
        if seq == row.cursor + 1 and not self.in_hole:
            return
        end = row.hole if self.in_hole else gap.first_seq if gap is not None else 0
        if seq > end or (seq < end and not handshake):
            raise PeerError(f"entry {seq} follows entry {row.cursor}")
        self.enter_hole()
        if seq == end:
            self.leave_hole()

    def enter_hole(self) -> None:
        """Messages are gone: tell, and forget what was of value only together with them."""
        row, gap = self.row, self.gap
        if gap is not None:
            row.hole, row.chain, self.gap = gap.first_seq, gap.chain, None
            self.trail.begin(row.hole - 1, row.chain)
            row.sent_on_path = PATH_MESSAGES  # a fresh path comes before we speak again
            self._missed = True
            self.context.emit(events.Gap(self.id, row.hole))

    def leave_hole(self) -> None:
        """From here on nothing is missing again."""
        self.row.cursor = self.row.hole - 1
        self.trail.begin(self.row.cursor, self.row.chain)

    def lost_track(self) -> None:
        """What the server sends from now on belongs to no subscription, until it says that a new one begins."""
        self.live = self.settled = self.exhausted = self.denied = False
        self._led_here = None
        self.walk = self.gap = None
        self.effort = Effort()

    def lost_connection(self) -> None:
        """The connection is gone, and with it the answers to whatever was on its way."""
        now = self.context.clock.milliseconds()
        if self.settled and now - self.row.followed > _NOTED_MILLISECONDS:  # nothing was said, and we were there
            self.row.followed = now
            self.context.touched.add(self.id)
        self.lost_track()
        self.base = None
        self._told_ahead = False
        self.late_since = 0.0
        if self._staged is not None:
            self._staged.submitted = self._staged.put_off = False

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

    def set_words(self, words: Iterable[Word]) -> None:
        """Replace the words of the operator that are still to be carried out."""
        if (replaced := tuple(words)) != self.words:
            self.words = replaced
            self.context.vault.groups.save_words(self.id, [(word.seq, word.encode()) for word in replaced])

    def end(self, problem: str, code: str = "local", text: str = "") -> bool:
        """We are out: delete everything but the history. What was not sent says `problem`.

        `code` and `text`: with what commands are refused; `problem` if there is no text. Returns whether anything was.
        """
        self.advance("over")
        dropped = self.context.vault.outbox.drop(self.id)
        self._refuse_dropped(dropped, code, problem, text or problem)
        keys: list[Key] = [("change", change.id) for change in self.context.vault.changes.load(self.id)]
        waiting = [key for key in (*keys, ("conversation", self.id)) if self.context.answers.waiting(key)]
        for key in waiting:
            self.context.answers.refuse(key, code, text or problem)
        self.context.vault.conversations.clear_working_state(self.id)
        self._group = self._people = self._staged = None
        self._staged_loaded = True
        self.departed, self.words = frozenset(), ()
        self.trail = Trail(self.context.vault.trails, self.id)
        self.encrypted.clear()
        self.live = False
        return bool(waiting) or any(each.local_id for each in dropped)

    def _refuse_dropped(self, dropped: Iterable[Dropped], code: str, problem: str, text: str) -> None:
        """Answer the commands that wait for dropped submissions, and mark their lines."""
        answers = self.context.answers
        for each in dropped:
            message = self.context.vault.history.fail(each.local_id, problem) if each.local_id else None
            if each.kind == "leave":
                answers.done(("item", each.id))  # we are out all the same
            elif message is not None or answers.waiting(("item", each.id)):
                answers.refuse(("item", each.id), code, text, message)

    def put(self, body: Body, local_id: int = 0) -> int:
        """Put a body into the outbox; `local_id`: of its line in the history, if it is one. Returns the item's id."""
        sent = self.context.clock.milliseconds()
        self.context.touched.add(self.id)
        unplaced = envelope.unplaced(encode_body(body), sent)
        return self.context.vault.outbox.add(self.id, "message", unplaced, local_id, roster=self.row.roster)

    def close(self) -> int:
        """Say nothing more, and leave as soon as everything said before is in the log.

        Returns the id of the departure in the outbox; 0 if there was one already.
        """
        if self.row.closed:
            return 0
        self.row.closed = True
        return self.context.vault.outbox.add(self.id, "leave", b"", 0)

    def deny(self) -> None:
        """The server says that we are not in this conversation: no more than its word. Who wanted to leave is out.

        Otherwise our state stays, and what is said waits: a removal that we have not seen the log brings, if any is to.
        """
        if self.row.closed and self.row.phase not in phases.ENDED:
            self.end("You have left this conversation.")
            self.tell("left", self.context.device.account)
        elif self.row.phase in phases.FOLLOWING:
            self.denied = True
            self._wait("not-found")

    def _wait(self, what: Literal["cut-off", "not-found"]) -> None:
        self.advance("cut-off")
        self.walk = self.base = None
        self.context.emit(events.OutOfStep(self.id, what))

    # --- trouble --------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """If we have caught up, judge by the log what the server said of us when we began to read."""
        if self.row.phase not in phases.READING or not self.caught_up or self.settled:
            return
        self.settled, self.effort = True, Effort()
        self.row.followed = self.context.clock.milliseconds()
        if self.trail.last_number(self.context.device.id) is None:
            self._settle_number()
        elif self.claimed > self.context.vault.outbox.last_number(self.id, self.row.number) and not self._told_claim:
            self._told_claim = True
            self.context.emit(events.Alarm("server", self.id, _CLAIM.format(self.claimed, self.row.number)))
        if self.context.answers.waiting(("conversation", self.id)):
            self.tell_entered("members")  # `/repair` is done

    def freshen(self) -> None:
        """Commit a fresh path before we speak again, and encrypt whatever waits anew: its keys may have been used."""
        self.void_ciphertexts()
        self.row.sent_on_path = PATH_MESSAGES

    @property
    def highest_number(self) -> int:
        """The highest number that an entry of our own can have behind a gap: one that we have used, or the server's.

        Nobody has signed what we do not know ourselves, so it is no more than the server's word either.
        """
        used = self.context.vault.outbox.last_number(self.id, self.row.number)
        return max(used, min(self.claimed, MAX_OFFERED_NUMBER))

    def _settle_number(self) -> None:
        """We have caught up, and messages of our own may have been among those that are gone: go on behind them.

        Here the server's word counts, as no log says otherwise; a number that is too high hurts nobody but us.
        """
        row, vault, number = self.row, self.context.vault, min(self.claimed, MAX_OFFERED_NUMBER)
        known = vault.outbox.last_number(row.id, row.number)
        row.number = max(row.number, number)
        self.trail.note_number(self.context.device.id, row.number)
        problem = "It is not known whether this message was sent."
        self._refuse_dropped(vault.outbox.drop_submitted(self.id, row.number), "local", problem, problem)
        self.void_ciphertexts()
        if self.staged is not None and self.staged.number != row.number + 1:
            self.unstage()
        if self._missed and number > known:
            self.tell_older_copy()

    def tell_older_copy(self) -> None:
        """Tell once, of all conversations, that this device has said more than this vault knows."""
        if not self.context.told_older_copy:
            self.context.told_older_copy = True
            self.context.emit(events.OutOfStep(self.id, "older-copy"))

    def supersede(self) -> None:
        """Follow the handshakes without secrets, and replace our own leaf where they end.

        This reads the log anew from where our epoch began: a server that was restored may have other handshakes of this
        epoch than those before our cursor.
        """
        self.advance("superseded")
        self.unstage()
        self.lost_track()
        self.astray = True

    @property
    def walk_from(self) -> int:
        """The seq after which a walk begins."""
        return self.trail.first if self.base is None else self.base.seq

    def begin_walk(self) -> None:
        """Walk from our trusted state, beside which everything else is left as it is."""
        own, base = DeviceCertificate.decode(self.context.device.certificate), self.base
        if base is not None:
            self.walk = Walk(
                base.group, base.departed, device=own, after_seq=self.walk_from, last=base.signer_leaf
            )
        else:
            own_state = (self.group.public, self.departed, self.words)
            self.walk = Walk(*own_state, device=own, after_seq=self.walk_from)

    def recover(self, base: Base) -> None:
        """Walk from `base`, which the table of doors has let in."""
        self.advance("recovered")
        self.unstage()
        self.lost_track()
        self.base, self.astray = base, True

    @property
    def _goes_on(self) -> bool:
        """Whether what would stop us is passed by the user's word: our leaf is replaced in the state that we know."""
        return self.repairing and self.row.phase in phases.READING

    def led_here(self, entry: Entry) -> bool:
        """Whether an entry brings a handshake that we have processed in our way to this state."""
        if self._led_here is None:
            kept = self.context.vault.handshakes.load(self.id, after=0)
            self._led_here = {_digest(_decode_entry(each)) for _, each, _ in kept}
        return _digest(entry) in self._led_here

    def cut_off(self) -> None:
        """The handshakes that lead on from our state are gone. Another connection may bring them."""
        if self._goes_on:
            self.supersede()
            return
        self._wait("cut-off")

    def outrun(self, head: int) -> None:
        """The server is behind us, at `head`: it was restored from a backup. We never go back."""
        if self._goes_on:
            self.supersede()
            return
        self.advance("ahead")
        if not self._told_ahead:
            self._told_ahead = True
            self.context.emit(events.OutOfStep(self.id, "ahead", count=max(self.row.cursor - head, 0)))

    def unknown(self) -> None:
        """The restored server does not know that we are in. Others can tell it, as long as they keep what shows it."""
        if self.context.clock.seconds() - self.row.followed // 1000 > GONE_SECONDS:
            self.deny()
        else:
            self.server_epoch = None
            self.outrun(self.row.cursor)

    def delayed(self) -> events.Delayed:
        """Why what is said here waits, while the log does not lead on from our state."""
        text = DENIED if self.denied else _CUT_OFF if self.row.phase == "cut-off" else _AHEAD
        return events.Delayed(self.id, "local", text.format(self.row.name))

    def gave_up(self, text: str) -> None:
        """Stop: the server does not let us back in. `/repair` tries again; whoever wanted to leave is out."""
        if self.row.closed:
            self.end("You have left this conversation.")
            return
        self.stop()
        text = f"{text} /repair tries again."
        if self.context.answers.waiting(("conversation", self.id)):
            self.context.answers.refuse(("conversation", self.id), "local", text)
        else:
            self.context.emit(events.Alarm("server", self.id, text))

    # --- evidence -------------------------------------------------------------------------------------------------

    @property
    def disputed(self) -> bool:
        """Whether what we say waits, since others saw another history, until the user has compared."""
        return evidence.holds(self.row.kind, self.doubts.values())

    def contradicted(self, who: DeviceCertificate, seq: int) -> None:
        """A member saw another history than we up to the entry `seq`: mark them, and tell it once a session."""
        context, account, held = self.context, who.account, self.disputed
        weight: evidence.Weight = "stranger"
        if Identity.of(who) in rules_of(self.group.public.extensions).owners:
            weight = "owner"
        elif self.trail.last_number(who.device_id) is not None:
            weight = "member"
        if self.doubts.get(account) != weight:
            self.doubts[account] = weight
            context.vault.doubts.add(self.id, account, weight)
        if ("history", self.id, account) in context.alarmed and held == self.disputed:
            return
        context.alarmed.add(("history", self.id, account))
        advice = "What is said is read and marked; compare with the others in some other way."
        if self.disputed:
            advice += " What you say here waits; /repair sends it all the same."
        text = (
            f"{account} saw another history than you up to entry {seq}: the server shows people different histories, "
            f"or the program of {account} is at fault. {advice}"
        )
        context.emit(events.Alarm("history", self.id, text))

    def forget_doubts(self) -> None:
        """The user has compared, or our history begins anew."""
        self.context.alarmed.difference_update(("history", self.id, account) for account in self.doubts)
        self.doubts.clear()
        self.context.vault.doubts.clear(self.id)

    def pass_over(self, stopped: events.Stopped) -> None:
        """Enter an open room again past a commit that cannot be processed; told once a session for each culprit."""
        told = ("passed over", self.id, stopped.culprit)
        if told not in self.context.alarmed:
            self.context.alarmed.add(told)
            self.context.emit(stopped)
        self.patience.lose(self.context.clock.monotonic())
        self.supersede()

    def keep_trying(self, text: str) -> None:
        """The way back into an open room has failed: walk again later, and never give it up. Told once a session."""
        if ("way in", self.id) not in self.context.alarmed:
            self.context.alarmed.add(("way in", self.id))
            text = f"{text} It is tried again by itself; what you say waits."
            self.context.emit(events.Alarm("server", self.id, text))
        self.patience.lose(self.context.clock.monotonic())
        self.lost_track()
        self.astray = True

    def stop(self) -> None:
        """Read and say nothing more until the user decides. Tells the commands that wait."""
        self.advance("distrusted")
        self.walk, self.repairing = None, False
        self._tell_waiting()

    def go_on(self, event: Literal["repaired", "retried"]) -> None:
        """Try again what stands. If our request to enter was on its way when the walk ended, it is what goes on.

        The server may have taken it: then its answer is the only way into the epoch that we have made.
        """
        self.advance(event)
        ours = self.staged.commit if self.staged is not None else None
        entering = ours is not None and ours.public.sender.type == SenderType.NEW_MEMBER_COMMIT
        if entering and self.row.phase in phases.READING:
            self.advance("superseded")

    def _tell_waiting(self) -> None:
        text = f"{self.row.name} has stopped: what you said or changed waits until /repair has rejoined it."
        keys: list[Key] = [("item", item) for item in self.context.vault.outbox.ids(self.id, after=0)]
        keys += [("change", change.id) for change in self.context.vault.changes.load(self.id)]
        for key in keys:
            if command := self.context.answers.waiting(key):
                self.context.emit(events.Delayed(self.id, "local", text, command=command))

    def distrust(self, text: str) -> None:
        """Stop: the server did what an honest one never does, so that the log cannot be followed."""
        if self._goes_on:
            self.supersede()
            return
        self.stop()
        advice = "Nothing more is read or sent here. Compare with the others in some other way; /repair rejoins."
        self.context.emit(events.Alarm("history", self.id, f"{text}. {advice}"))


def _digest(entry: Entry) -> bytes:
    return hashlib.sha256(entry.payload + entry.group_info).digest()
