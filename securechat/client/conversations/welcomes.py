"""Welcomes and invitations: how one is added to a conversation (docs/design.md, section 6, Invitations).

A Welcome into a room leads nowhere by itself, since a server can make one alone. It waits for the invitation that its
maker sends in the direct conversation with us; the two fit together by the maker's key and the hash of the group
context. Only then the user is asked, and only their yes leads in.

    Welcome                kept with its key package, told to nobody            14 days, 20 an inviter, 200 in all
    + invitation           the user is asked: `Invited`                         until it ends, is answered or taken back
    yes                    we enter, and commit a fresh path at once
    no                     told to the inviter, and a departure signed from the Welcome
    never                  no, and whatever else this key sends

A newer invitation to the same room takes the place of an older one. A room that we are in is never left for one. A
Welcome into a direct conversation is entered at once: it is the request that the user is asked about.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from securechat import policy
from securechat.client import events
from securechat.client.context import Added, Context
from securechat.client.conversations import offers, phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.entering import check_departures
from securechat.client.doors.facts import Invitation, Key, Known, Leaf, Offered, Standing, Verdict
from securechat.client.vault.conversations import ConversationRow
from securechat.client.vault.invitations import InviteRow, WelcomeRow
from securechat.content.registry import (
    INVITATION_DAYS,
    Accept,
    DeclineInvite,
    Invite,
    Request,
    Role,
    WithdrawInvite,
    decode_body,
    encode_body,
)
from securechat.errors import InternalError, PeerError, TrustError, UsageError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.pins import WRITTEN_TO, digest, short
from securechat.mls.framing import decode_body as decode_message
from securechat.mls.group import Group
from securechat.mls.joining import enter, open_welcome
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.key_schedule import no_psks
from securechat.mls.leaf_node import LeafNodeSource
from securechat.mls.proposals import Remove
from securechat.mls.ratchet_tree import RatchetTree
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules
from securechat.wire.limits import MAX_SUBSCRIPTIONS
from securechat.wire.messages import Leave, Reply, Welcomed

WAIT_MILLISECONDS: Final = INVITATION_DAYS * 86_400_000
"""How long a Welcome waits for its invitation, and both for an answer."""

MAX_OF_INVITER: Final = 20
"""Welcomes, and invitations, of one inviter that wait; an older one gives way. Nobody has more rooms for one friend."""

MAX_WAITING: Final = 200
"""Welcomes, and invitations, that wait in all. Beyond that, an inviter whom the user does not know is not kept."""

MAX_WAITING_BYTES: Final = 64 << 20
"""Bytes of the Welcomes that wait: the largest one takes 0.6 MB."""

REPEATED_MILLISECONDS: Final = 86_400_000
"""Welcomes into a room that we are in are told of once in this time."""

_OURS: Final[dict[str, Any]] = {"first_contact": False, "again": False, "known": (), "question": 0}
"""What a question says of us, and not of the invitation."""

_decode_welcomed: Final = msgspec.msgpack.Decoder(Welcomed).decode
_encode: Final = msgspec.msgpack.Encoder().encode


MAX_LEAVING: Final = 100
"""Conversations that we are leaving, beyond which no more are entered to be left: an honest server lets us out."""


class RegistryPort(Protocol):
    """What Welcomes need of the set of conversations."""

    @property
    def connected(self) -> bool:
        """Whether this device may make requests."""

    def __iter__(self) -> Iterator[Conversation]:
        """All conversations, oldest first."""

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""

    def named(self, name: str) -> list[Conversation]:
        """Return all conversations of this name (`#room` or account), oldest first."""

    def find(self, name: str) -> Conversation | None:
        """Return the conversation of this name that counts."""

    def add(self, kind: policy.Kind, name: str) -> Conversation:
        """Begin a conversation under an id of our own making."""

    def keep(self, conversation: Conversation) -> Conversation:
        """Add a conversation under the id that it has."""

    def entitle(self, conversation: Conversation) -> None:
        """Give a room that has got its name now a second title, if another one goes by that name here."""

    def forget(self, request: Conversation) -> None:
        """Delete a request that nobody has answered, with what was said in it."""

    def follow(self, conversation: Conversation) -> None:
        """Read the conversation's log from its cursor on."""

    def replace_older(self, newer: Conversation) -> None:
        """Of several direct conversations with one person the newest counts."""

    def used_key_package(self) -> None:
        """One of our key packages at the server is used up."""


class _Facts(msgspec.Struct, array_like=True, frozen=True):
    """What a Welcome leads to, as its tree and rules say it."""

    kind: str
    name: str
    role: Role
    owners: tuple[Identity, ...]
    people: tuple[Leaf, ...]  # ours included
    signer: Leaf
    epoch: int


_decode_facts: Final = msgspec.msgpack.Decoder(_Facts).decode


class _Opened(NamedTuple):
    """A Welcome that has been opened and checked by itself."""

    group: Group
    signer: DeviceCertificate
    facts: _Facts
    reference: bytes
    bundle: KeyPackageBundle
    last_resort: bool

    @property
    def inviter(self) -> Identity:
        """Who made it."""
        return Identity.of(self.signer)

    @property
    def context(self) -> bytes:
        """SHA-256 of the group context that it opens, 32 bytes."""
        return hashlib.sha256(self.group.public.context.encode()).digest()


class Welcomes:
    """What waits for an answer, and what becomes of it."""

    def __init__(self, context: Context, registry: RegistryPort) -> None:
        """Load the questions that were asked before."""
        self._context = context
        self._registry = registry
        self._vault = context.vault.invitations
        self._asked_last = 0  # number of the newest question
        self.questions: dict[bytes, events.Invitation] = {}
        """Invitations that the user has not answered, by room."""
        self._alone: set[bytes] = set()  # direct conversations whose request was told without the invitation
        self.dropped = 0
        """Welcomes and invitations not kept because too many wait."""
        self._repeated: dict[bytes, int] = {}  # room that we are in -> when a Welcome into it was told
        self._invited: set[bytes] = set()  # rooms that an invitation is there for
        self._ends = 0  # when the first thing that waits ends, milliseconds since 1970; 0: nothing waits
        self._note()
        for row in sorted(self._vault.invites(), key=lambda row: not self._knows(row.inviter)):
            welcome = self._welcome_of(row) if row.told else None
            if welcome is not None and row.conversation not in self.questions:
                self._asked_last += 1
                self.questions[row.conversation] = self._question(row, welcome, self._asked_last)

    # --- what comes -----------------------------------------------------------------------------------------------

    def receive(self, welcomed: Welcomed) -> None:
        """Take a Welcome from the inbox. Raises `PeerError` if it is not what it should be."""
        conversation = self._registry.get(welcomed.conversation)
        if conversation is not None and conversation.id != welcomed.conversation:
            raise PeerError("it leads to an id that was only ever ours")  # an alias: nobody has a group under it
        if (
            conversation is not None
            and conversation.row.phase in phases.PLACED
            and welcomed.join_seq <= conversation.row.cursor
        ):
            return  # we are in already, by another way
        opened = self._open(welcomed, *self._bundle_for(welcomed))
        facts = opened.facts
        if conversation is not None:
            row = conversation.row
            if row.kind != facts.kind or (row.kind == "direct" and row.name != facts.name):  # rooms may be renamed
                raise PeerError(f"it was to lead to {row.name}, and leads to {facts.name}")
            if facts.epoch <= conversation.row.epoch:
                raise PeerError("it leads back to a past state of the conversation")  # and to keys that we have used
        if facts.kind == "direct":
            self._enter_direct(welcomed, opened, conversation)
        elif not self._has_room_for(
            opened.inviter, len(welcomed.welcome) + len(welcomed.tree), self._vault.inviters, self._drop_welcome
        ):
            self.dropped += 1
        else:
            self._keep(welcomed, opened)
            if conversation is not None:
                self.notice_return(conversation)
            self._tell_repeated(conversation)
        if not opened.last_resort:
            self._context.vault.key_packages.delete(opened.reference)
            self._registry.used_key_package()
        self.consider(welcomed.conversation)

    def take(self, direct: Conversation, sender: DeviceCertificate | None, body: object) -> None:
        """Take what the peer of a direct conversation says about an invitation."""
        if sender is None or sender.account != direct.row.name:
            return  # our own words, from a restored vault
        who = Identity.of(sender)
        match body:
            case Invite():
                self._take_invite(direct, who, body)
            case WithdrawInvite(group=group):
                self._withdraw(group, who)
            case DeclineInvite(group=group):
                self._take_decline(group, who)

    def consider(self, conversation: bytes) -> None:
        """Ask the user, if an invitation and its Welcome are both there and the table of doors lets them be asked."""
        if conversation not in self._invited:
            return
        fitting: list[tuple[InviteRow, WelcomeRow]] = []
        for row in self._vault.invites(conversation):
            welcome = self._welcome_of(row)
            if welcome is None:
                continue
            verdict = self._decide(row, welcome)
            if verdict.action == "ask" and self._vault.refuses(row.inviter):
                self._decline(row, welcome)
            elif verdict.action == "enter":  # an invite line has said yes before
                self._enter_by_line(row, welcome)
                return
            elif verdict.action == "ask":
                fitting.append((row, welcome))
            elif verdict.action == "refuse" and verdict.row:
                self._drop(row)
                text = f"An invitation by {row.inviter.account} was refused. What was missing: {verdict.why}."
                self._context.emit(events.Alarm("rules", conversation, text))
            else:
                self._tell_alone(row)
        if fitting:
            self._ask(*min(fitting, key=lambda each: self._precedence(each[0])))

    def _precedence(self, row: InviteRow) -> int:
        """Whom the user knows is asked about first, the newest of them, and then the stranger who was asked about."""
        if self._knows(row.inviter):
            return 0
        question = self.questions.get(row.conversation)
        return 1 if question is not None and _is_about(question, row) else 2

    def _tell_alone(self, row: InviteRow) -> None:
        """An invitation waits until its inviter is accepted: so the user is asked about them without it, once."""
        direct = self._registry.get(row.direct)
        if direct is not None and direct.row.asked == "theirs" and direct.id not in self._alone:
            self._alone.add(direct.id)
            direct.tell("request", direct.row.name)

    def notice_return(self, conversation: Conversation) -> None:
        """If all that is left of a log begins where a Welcome has added us again, nothing leads there from our state.

        That is no more than the server's word: our state stays, and what is said waits, until somebody decides.
        """
        if conversation.row.phase in phases.READING and conversation.in_hole:
            welcomes = self._vault.welcomes(conversation.id)
            if any(_decode_welcomed(each.welcomed).join_seq + 1 == conversation.row.hole for each in welcomes):
                conversation.cut_off()

    def reconsider(self, conversation: Conversation) -> None:
        """Something has happened in a conversation: we may be out of a room, or know an inviter by now."""
        if self._invited:
            self.consider(conversation.id)
            if conversation.row.kind == "direct":
                for room in {row.conversation for row in self._vault.invites() if row.direct == conversation.id}:
                    self.consider(room)

    @property
    def timer(self) -> float | None:
        """When the next thing that waits ends, on the monotonic clock."""
        clock = self._context.clock
        return clock.monotonic() + max(0, self._ends - clock.milliseconds()) / 1000 if self._ends else None

    def expire(self) -> None:
        """Forget what has waited too long."""
        now = self._context.clock.milliseconds()
        if not 0 < self._ends <= now:
            return
        self._vault.expire_welcomes(now - WAIT_MILLISECONDS)
        for row in self._vault.invites():
            if row.until <= now:
                self._end(row, "expired")
        self._end_questions()
        self._note()

    def _note(self) -> None:
        """Note for which rooms there are invitations, and when the first thing ends. Call after a change."""
        invites, oldest = self._vault.invites(), self._vault.oldest_welcome()
        self._invited = {row.conversation for row in invites}
        ends = [row.until for row in invites] + ([oldest + WAIT_MILLISECONDS] if oldest else [])
        self._ends = min(ends, default=0)

    def begin(self) -> None:
        """Answer what has been asked before, as far as the settings do."""
        for question in list(self.questions.values()):
            self._accepts(question)

    def _accepts(self, question: events.Invitation) -> bool:
        """Accept an invitation if the settings say so for its inviter; say whether they do."""
        if (question.inviter, question.key) not in self._context.accepts_from:
            return False
        try:
            self.accept(question.conversation, question.question)
        except UsageError as error:
            self._context.emit(events.Alarm("rules", question.conversation, str(error)))
        return True

    # --- what the user answers ------------------------------------------------------------------------------------

    def accept(self, conversation: bytes, number: int) -> None:
        """Enter a room that we are invited to. Raises `UsageError`, having changed nothing."""
        self._accept(*self._asked(conversation, number))

    def _enter_by_line(self, row: InviteRow, welcome: WelcomeRow) -> None:
        """Enter the room that an invite line has named. If that cannot be now, the user is asked as ever."""
        try:
            self._accept(self._question(row, welcome, 0), row, welcome)
        except UsageError:
            self._ask(row, welcome)

    def _accept(self, question: events.Invitation, row: InviteRow, welcome: WelcomeRow) -> None:
        """Enter a room. Raises `UsageError`, having changed nothing."""
        conversation = row.conversation
        self._check_acceptable(question)
        welcomed, opened = self._open_again(welcome)
        verdict = self._decide(row, welcome)
        if not verdict.lets_in:  # something has changed since the question
            missing = verdict.why or "that you are out of the room"
            raise UsageError(f"The invitation to {question.name} is refused. What is missing: {missing}.")
        inviter, key = row.inviter
        try:
            self._context.pins.accept(inviter, key)
        except TrustError as error:
            form = short(key)
            raise UsageError(
                f"This is not the {inviter} whose key you have accepted: {error} /trust {inviter} {form} accepts it "
                f"all the same."
            ) from error
        self._enter_room(verdict, welcomed, opened)
        self._vault.forget(conversation)
        self._context.vault.lines.arrive(conversation)
        self.questions.pop(conversation, None)
        self._note()
        direct = self._registry.get(row.direct)
        if direct is not None and direct.row.asked == "theirs" and not direct.row.closed:
            direct.row.asked = ""
            direct.put(Accept())
            direct.tell("accepted", self._context.device.account)

    def decline(self, conversation: bytes, number: int, *, never: bool) -> None:
        """Stay out of a room; with `never`, of every one that this key invites to. Raises `UsageError`."""
        _, row, welcome = self._asked(conversation, number)
        self._decline(row, welcome)
        if never:
            self._vault.refuse(row.inviter)
            for other in self._vault.invites():
                if other.inviter == row.inviter and (theirs := self._welcome_of(other)) is not None:
                    self._decline(other, theirs)
        self.consider(conversation)  # somebody else may have invited us, too

    # --- what we send ---------------------------------------------------------------------------------------------

    def invite(self, added: Added) -> None:
        """Send somebody whom our commit has just added their invitation, in the transaction that merges it.

        We may be out of the room again by then: they are in its tree, and nobody else can invite them to that epoch.
        """
        context, who, rules = self._context, Identity.of(added.person), added.rules
        if context.pins.standing(*who) not in WRITTEN_TO:  # refused while our commit was on its way
            context.vault.changes.add(added.room, "remove", who.account)
            context.touched.add(added.room)
            text = f"{who.account} was added under a key that you have refused since, and is removed again."
            context.answers.refuse(("change", added.change), "local", text)
            return
        until = context.clock.milliseconds() + WAIT_MILLISECONDS
        body = Invite(added.room, "invite", rules.name, _role(rules, who), rules.owners, added.opens, until)
        direct = self.direct_with(who)
        if direct is None:
            direct = self._registry.add("direct", who.account)
            direct.row.asked = "ours"
            direct.put(Request())
        elif direct.row.asked == "theirs":  # inviting somebody says yes to their request
            direct.row.asked = ""
            direct.put(Accept())
            direct.tell("accepted", context.device.account)
        context.answers.move(("change", added.change), ("item", direct.put(body)))

    def withdraw(self, room: bytes, removed: Iterable[DeviceCertificate]) -> None:
        """Tell those whom our commit has removed before they answered that the invitation is void."""
        for person in removed:
            direct = self.direct_with(Identity.of(person))
            if direct is not None:
                direct.put(WithdrawInvite(room))

    def direct_with(self, who: Identity) -> Conversation | None:
        """Return the conversation in which what we say reaches this key, or will once it is open."""
        for each in reversed(self._registry.named(who.account)):
            people = each.people.values() if each.row.phase in phases.INSIDE else ()
            if not each.row.closed and (not people or who in map(Identity.of, people)):
                return each
        return None

    # --- Welcomes -------------------------------------------------------------------------------------------------

    def _bundle_for(self, welcomed: Welcomed) -> tuple[KeyPackageBundle, bool]:
        for reference in decode_message(welcomed.welcome, Welcome).new_member_refs:
            if (stored := self._context.vault.key_packages.find(reference)) is not None:
                return KeyPackageBundle.decode(stored[0]), stored[1]
        raise PeerError("it is for none of our key packages")

    def _open(self, welcomed: Welcomed, bundle: KeyPackageBundle, last_resort: bool) -> _Opened:  # noqa: FBT001  as it is stored
        device = self._context.device
        now = welcomed.time // 1000  # the time by which members judged the commit
        welcome = decode_message(welcomed.welcome, Welcome)
        secrets = open_welcome(welcome, bundle)
        if secrets.psks:
            raise PeerError("it asks for a key that nobody uses here")
        entrance = enter(
            welcome, secrets, bundle,
            tree=RatchetTree.decode(welcomed.tree), psks=no_psks, validate=device.validator(now), now=now,
        )  # fmt: skip
        group = Group.entered(entrance, device.signature)
        if group.group_id != welcomed.conversation:
            raise PeerError("it leads into another conversation than the server says")
        rules = policy.check_state(group.public)
        departed = check_departures(group.public, welcomed.departures)
        people = tuple(certificate_of(leaf) for _, leaf in group.public.members())
        signer = certificate_of(group.public.member(entrance.signer))
        if any(person.account == device.account and person.device_id != device.id for person in people):
            raise PeerError("somebody else is in it under your name")
        name = rules.name
        if rules.kind == "open":
            raise PeerError("nobody is added to an open room")
        if rules.kind == "direct":
            others = [person for person in people if person.account != device.account]
            if not others:
                raise PeerError("it leads into a direct conversation with nobody")
            if signer not in others:
                raise PeerError("it leads into a direct conversation that somebody else has made")
            if departed:  # an honest server gives the first commit of a log, before which nobody can have left
                raise PeerError("it leads into a direct conversation that its maker has left")
            name = signer.account
        facts = _Facts(
            rules.kind, name, _role(rules, Identity(device.account, device.identity_key)), rules.owners,
            tuple(map(offers.leaf_of, people)), offers.leaf_of(signer), group.epoch,
        )  # fmt: skip
        reference = bundle.key_package.reference(bundle.suite)
        return _Opened(group, signer, facts, reference, bundle, last_resort)

    def _open_again(self, row: WelcomeRow) -> tuple[Welcomed, _Opened]:
        """Open a Welcome that was kept. Raises `UsageError`."""
        welcomed = _decode_welcomed(row.welcomed)
        try:
            return welcomed, self._open(welcomed, KeyPackageBundle.decode(row.bundle), last_resort=True)
        except PeerError as error:
            raise UsageError(f"This invitation cannot be used any more: {error}. Ask to be invited again.") from error

    def _has_room_for(
        self, who: Identity, size: int, load: Callable[[], list[tuple[Any, Identity, int]]], drop: Callable[[Any], None]
    ) -> bool:
        """Make room for one more of an inviter's, of so many bytes; say whether there is any.

        `load` returns what waits, oldest first: what to `drop` it by, its inviter and its bytes.
        """
        while True:
            waiting = load()
            theirs = [each for each, inviter, _ in waiting if inviter == who]
            strangers = Counter(inviter for _, inviter, _ in waiting if not self._knows(inviter))
            if len(theirs) >= MAX_OF_INVITER:
                oldest = theirs[0]
            elif len(waiting) < MAX_WAITING and sum(used for *_, used in waiting) + size <= MAX_WAITING_BYTES:
                return True
            elif not strangers or not self._knows(who):
                return False
            else:  # whoever has most of it gives way
                ((loudest, _),) = strangers.most_common(1)
                oldest = next(each for each, inviter, _ in waiting if inviter == loudest)
            drop(oldest)
            self.dropped += 1

    def _has_room_for_request(self, who: Identity) -> bool:
        """Say whether one more private conversation of somebody's is kept. Requests that ended unanswered give way:
        accounts cost little, and keys nothing."""
        if self._context.pins.standing(*who) != "unknown":
            return True
        if self._vault.refuses(who):
            return False
        asking = [each for each in self._registry if each.row.asked == "theirs"]
        over = [each for each in asking if each.row.phase in phases.ENDED]
        for oldest in over[: max(0, len(asking) - MAX_WAITING + 1)]:
            asking.remove(oldest)
            self._registry.forget(oldest)
        theirs = sum(each.row.name == who.account and each not in over for each in asking)
        return theirs < MAX_OF_INVITER and len(asking) < MAX_WAITING

    def _knows(self, who: Identity) -> bool:
        """Whether the user has accepted this key, whatever has come from it."""
        return self._context.pins.standing(*who) in WRITTEN_TO

    def _keep(self, welcomed: Welcomed, opened: _Opened) -> None:
        if any(row.context == opened.context for row in self._vault.welcomes(welcomed.conversation)):
            return  # the same once more, for a last-resort key package
        self._vault.add_welcome(
            WelcomeRow(
                0,
                welcomed.conversation,
                opened.inviter,
                opened.context,
                _encode(opened.facts),
                opened.bundle.encode(),
                _encode(welcomed),
                self._context.clock.milliseconds(),
            )
        )
        self._note()

    def _tell_repeated(self, conversation: Conversation | None) -> None:
        """Welcomes into a room that we are in lead nowhere; the user hears of it if they come again and again."""
        if conversation is None or conversation.row.phase not in phases.GOING_ON:
            return
        now, told = self._context.clock.milliseconds(), self._repeated.get(conversation.id)
        if told is None:
            self._repeated[conversation.id] = 0
        elif now - told >= REPEATED_MILLISECONDS:
            self._repeated[conversation.id] = now
            text = f"The server brings Welcomes into {conversation.row.name}, which you are in. They are not followed."
            self._context.emit(events.Alarm("server", conversation.id, text))

    def _enter_direct(self, welcomed: Welcomed, opened: _Opened, conversation: Conversation | None) -> None:
        verdict = self._judge_direct(opened, conversation)
        if not verdict.lets_in:
            raise PeerError(f"it is refused; what is missing: {verdict.why}")
        welcome = conversation is not None or self._has_room_for_request(opened.inviter)
        leaving = sum(each.row.closed and each.row.phase in phases.INSIDE for each in self._registry)
        if not welcome and leaving >= MAX_LEAVING:
            self.dropped += 1
            return
        if conversation is None:
            conversation = self._new_row(welcomed.conversation, opened.facts)
        elif conversation.row.phase in phases.ENDED:
            conversation.reopen("awaited-again")
        self._begin(verdict, conversation, welcomed, opened.group)
        self._registry.replace_older(conversation)
        unknown = self._context.pins.standing(conversation.row.name, conversation.peer_key) == "unknown"
        if unknown:  # whoever opens a conversation with us asks by it, whatever they say first
            conversation.row.asked = "theirs"
        if not welcome:
            self.dropped += 1
            conversation.close()  # as if declined: they may ask again, and the user may write to them
            self._registry.follow(conversation)
            return
        invites = unknown and any(inviter == opened.inviter for _, inviter, _ in self._vault.inviters())
        if unknown and not invites:  # while lines of ours are about, what they say first shows whether they come by one
            conversation.untold = self._context.vault.lines.any_unused(self._context.clock.milliseconds())
        if not invites and not conversation.untold:  # else the invitation that comes asks for both
            conversation.tell_entered("request" if unknown else "opened")
        self._registry.follow(conversation)

    def _judge_direct(self, opened: _Opened, conversation: Conversation | None) -> Verdict:
        """Look up a Welcome into a direct conversation."""
        facts, known = opened.facts, conversation or self._registry.find(opened.facts.name)
        before = Known(offers.own_leaf(self._context), kind="direct") if known is None else offers.known(known)
        group = opened.group.public
        return offers.judge(
            self._context, before, offers.shown("welcome", group, name=facts.name, signer=facts.signer)
        )

    def _enter_room(self, verdict: Verdict, welcomed: Welcomed, opened: _Opened) -> None:
        conversation = self._registry.get(welcomed.conversation)
        if conversation is None:
            conversation = self._new_row(welcomed.conversation, opened.facts)
        else:
            if conversation.row.phase not in phases.ENDED:
                conversation.end(f"This message was not sent: you have entered {opened.facts.name} anew.")
            conversation.reopen("awaited-again")
        self._registry.entitle(conversation)
        self._begin(verdict, conversation, welcomed, opened.group)
        conversation.row.path_time = 0  # a path at once: the leaf's key came from a key package
        conversation.tell_entered("joined")
        if conversation.row.title:
            conversation.tell("namesake", opened.facts.name)
        self._registry.follow(conversation)

    def _new_row(self, conversation: bytes, facts: _Facts) -> Conversation:
        kind: policy.Kind = "direct" if facts.kind == "direct" else "invite"
        row = ConversationRow(conversation, kind, facts.name, "awaiting", self._context.clock.milliseconds())
        return self._registry.keep(Conversation(self._context, row))

    def _begin(self, verdict: Verdict, conversation: Conversation, welcomed: Welcomed, group: Group) -> None:
        departed = check_departures(group.public, welcomed.departures)
        conversation.begin(verdict, group, seq=welcomed.join_seq, chain=welcomed.chain, number=None, departed=departed)
        self._context.touched.add(conversation.id)

    # --- invitations ----------------------------------------------------------------------------------------------

    def _take_invite(self, direct: Conversation, who: Identity, body: Invite) -> None:
        now = self._context.clock.milliseconds()
        if body.until <= now:
            return
        for older in self._vault.invites(body.group):
            if older.inviter == who:
                self._drop(older, keep_welcome=True)  # the newest counts

        def load() -> list[tuple[InviteRow, Identity, int]]:
            return [(row, row.inviter, 0) for row in reversed(self._vault.invites())]

        if not self._has_room_for(who, 0, load, lambda row: self._end(row, "expired")):
            self.dropped += 1
            return
        until = min(body.until, now + WAIT_MILLISECONDS)
        _, data = encode_body(body)
        self._vault.save_invite(InviteRow(body.group, who, direct.id, data, now, until))
        self._note()
        self.consider(body.group)

    def _welcome_of(self, row: InviteRow) -> WelcomeRow | None:
        """Return the Welcome that an invitation is about, if it is there."""
        wanted = (row.inviter, _body_of(row).context)
        welcomes = self._vault.welcomes(row.conversation)
        return next((each for each in welcomes if (each.inviter, each.context) == wanted), None)

    def _decide(self, row: InviteRow, welcome: WelcomeRow) -> Verdict:
        """Look an invitation and its Welcome up in the table of doors."""
        body, facts = _body_of(row), _decode_facts(welcome.facts)
        known, namesake = self._registry.get(row.conversation), self._registry.find(facts.name)
        standing: Standing = "invited" if row.conversation in self.questions else "nothing"
        if known is None and namesake is not None and namesake.row.phase in phases.GOING_ON:
            known = namesake
        if known is None or known.row.phase in phases.AWAITING:
            line = Key(*row.inviter) if self._by_line(row) else None
            before = Known(offers.own_leaf(self._context), standing, b"", "invite", facts.name, line=line)
        else:
            before = offers.known(known)
        said = Invitation(
            Key(*row.inviter), body.group, body.kind, body.name, frozenset(Key(*owner) for owner in body.owners),
            body.context, row.received // 1000, row.until // 1000,
        )  # fmt: skip
        offered = Offered(
            "welcome",
            row.conversation,
            "invite",
            facts.name,
            facts.epoch,
            frozenset(facts.people),
            frozenset(Key(*owner) for owner in facts.owners),
            facts.signer,
            welcome.context,
            said,
            fault="" if body.role == facts.role else "another role than the rules give",
        )
        return offers.judge(self._context, before, offered)

    def _by_line(self, row: InviteRow) -> bool:
        """Whether an invite line that we have used names this room and this inviter, whose key is still accepted."""
        context = self._context
        if context.pins.standing(*row.inviter) not in WRITTEN_TO:
            return False
        return context.vault.lines.leads(row.conversation, row.inviter, context.clock.milliseconds())

    def _ask(self, row: InviteRow, welcome: WelcomeRow) -> None:
        before, question = self.questions.get(row.conversation), self._question(row, welcome, self._asked_last + 1)
        if before is not None and _same(before, question):
            self.questions[row.conversation] = replace(question, question=before.question)
            return  # asked already; what we know of the inviter may have changed since
        self._asked_last += 1
        self.questions[row.conversation] = question
        self._vault.save_invite(replace(row, told=True))
        if not self._accepts(question):
            self._context.emit(events.Invited(question))

    def _question(self, row: InviteRow, welcome: WelcomeRow, number: int) -> events.Invitation:
        body, facts, inviter = _body_of(row), _decode_facts(welcome.facts), row.inviter
        context = self._context
        others = [each.key for each in facts.people if each.device != context.device.id]
        return events.Invitation(
            row.conversation,
            facts.name,
            inviter.account,
            digest(inviter.identity_key),
            first_contact=not self._knows(inviter),
            again=self._registry.get(row.conversation) is not None,
            role=facts.role,
            owners=tuple(sorted({account for account, _ in body.owners})),
            members=tuple(sorted({account for account, _ in others})),
            known=tuple(
                sorted({account for account, key in others if context.pins.standing(account, key) in WRITTEN_TO})
            ),
            text=body.text,
            until=row.until,
            question=number,
        )

    def _asked(self, conversation: bytes, number: int) -> tuple[events.Invitation, InviteRow, WelcomeRow]:
        """Return a question and what it is about. Raises `UsageError`, also if it is another one than `number`."""
        question = self.questions.get(conversation)
        row = self._row_of(question) if question is not None else None
        welcome = self._welcome_of(row) if row is not None else None
        if question is None or row is None or welcome is None:
            raise UsageError("You have no invitation to that room.")
        if question.question != number:
            raise UsageError(f"There is another invitation to {question.name} by now. Look at it, then answer it.")
        return question, row, welcome

    def _row_of(self, question: events.Invitation) -> InviteRow | None:
        rows = self._vault.invites(question.conversation)
        return next((row for row in rows if _is_about(question, row)), None)

    def _check_acceptable(self, question: events.Invitation) -> None:
        inviter, name = question.inviter, question.name
        if question.until <= self._context.clock.milliseconds():
            raise UsageError(f"The invitation to {name} has ended. Ask {inviter} for another one.")
        namesake = self._registry.find(name)
        if namesake is not None and namesake.id != question.conversation and not namesake.is_over:
            raise UsageError(f"You are in another room {name}. Leave that one first if you want to change to this one.")
        read = sum(each.row.phase in phases.GOING_ON for each in self._registry)
        if read >= MAX_SUBSCRIPTIONS - 1:  # the inbox is one of them
            raise UsageError(
                f"You are in {read:,} conversations, and a server lets nobody read more. Leave one first."
            )

    def _drop(self, row: InviteRow, *, keep_welcome: bool = False) -> events.Invitation | None:
        """Forget an invitation and its Welcome. Returns the question that was about it, if there was one."""
        welcome = None if keep_welcome else self._welcome_of(row)
        if welcome is not None:
            self._vault.delete_welcome(welcome.id)
        self._vault.delete_invite(row.conversation, row.inviter)
        self._note()
        question = self.questions.get(row.conversation)
        if question is None or not _is_about(question, row):
            return None
        return self.questions.pop(row.conversation)

    def _drop_welcome(self, welcome: int) -> None:
        self._vault.delete_welcome(welcome)
        self._end_questions()

    def _end_questions(self) -> None:
        """End the questions whose Welcome is not kept any more."""
        for question in list(self.questions.values()):
            row = self._row_of(question)
            if row is not None and self._welcome_of(row) is None:
                self._end(row, "expired")

    def _decline(self, row: InviteRow, welcome: WelcomeRow) -> None:
        """Say no to the inviter, and leave from where the Welcome has put us."""
        context, direct = self._context, self._registry.get(row.direct)
        if direct is not None and not direct.row.closed:
            if direct.row.asked == "theirs":  # one question for both; nothing is written to a key not accepted
                direct.row.asked = ""
                direct.close()
                context.touched.add(direct.id)
                direct.tell("declined", context.device.account)
            else:
                direct.put(DeclineInvite(row.conversation))
        self._depart(welcome)
        self._drop(row)

    def _depart(self, welcome: WelcomeRow) -> None:
        """Leave from the epoch that a Welcome opens.

        If the room has gone on since, or we are offline, that comes to nothing: then our answer makes the inviter's
        client remove us.
        """
        known = self._registry.get(welcome.conversation)
        try:
            _, opened = self._open_again(welcome)
        except UsageError:
            return
        if self._registry.connected:
            group = opened.group
            number = known.row.number + 1 if known is not None else 1
            leaving = policy.departure_data(number, group.public.member(group.own_leaf))
            proposal = group.propose(Remove(group.own_leaf), authenticated_data=leaving)
            self._context.request(Leave(0, welcome.conversation, number, proposal), _ignore)

    def _end(self, row: InviteRow, why: events.InvitationEnd) -> None:
        """An invitation is over, and nobody has answered it."""
        if (question := self._drop(row)) is not None:
            self._context.emit(events.InvitationEnded(question, why))
            self.consider(row.conversation)

    def _withdraw(self, conversation: bytes, who: Identity) -> None:
        for row in self._vault.invites(conversation):
            if row.inviter == who:
                self._end(row, "withdrawn")

    def _take_decline(self, conversation: bytes, who: Identity) -> None:
        """Somebody whom we have invited does not want to come: their leaf leaves the room."""
        room = self._registry.get(conversation)
        if room is None or room.row.phase not in phases.READING or room.row.closed:
            return
        if who not in unanswered(room):
            return
        self._context.emit(events.InvitationDeclined(room.id, who.account))
        rules = policy.rules_of(room.group.public.extensions)
        here = any(person.account == who.account for leaf, person in room.people.items() if leaf not in room.departed)
        device = self._context.device
        if here and Identity(device.account, device.identity_key) in rules.who_adds:
            self._context.vault.changes.add(room.id, "remove", who.account)
            self._context.touched.add(room.id)


def _ignore(_reply: Reply) -> None:
    """Nothing depends on the answer."""


def unanswered(room: Conversation) -> set[Identity]:
    """Return whose leaf still comes from the key package it was added by: they are invited and have not answered.

    Those who said no are among them until the tree has dropped them.
    """
    if room.row.kind != "invite" or room.row.epoch == 0:  # nobody else is added; the founder commits with the first Add
        return set()
    nodes = (node for _, node in room.group.public.members() if node.source == LeafNodeSource.KEY_PACKAGE)
    return {Identity.of(certificate_of(node)) for node in nodes}


def _role(rules: Rules, who: Identity) -> Role:
    return "owner" if who in rules.owners else "inviter" if who in rules.inviters else "member"


def _is_about(question: events.Invitation, row: InviteRow) -> bool:
    return (question.inviter, question.key) == (row.inviter.account, digest(row.inviter.identity_key))


def _same(one: events.Invitation, other: events.Invitation) -> bool:
    """Whether two questions are about one invitation, whatever we know of the people in it."""
    return replace(one, **_OURS) == replace(other, **_OURS)


def _body_of(row: InviteRow) -> Invite:
    body = decode_body("invite", row.body)
    if not isinstance(body, Invite):
        raise InternalError("an invitation in the vault is something else")
    return body
