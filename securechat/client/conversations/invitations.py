"""Invitations that wait for our answer, and what becomes of them (docs/design.md, section 6, Invitations).

    Welcome                kept with its key package, told to nobody            14 days, 20 an inviter, 200 in all
    + invitation           the user is asked: `Invited`                         until it ends, is answered or taken back
    yes                    we enter, and commit a fresh path at once
    no                     told to the inviter, and a departure signed from the Welcome
    never                  no, and whatever else this key sends

An invitation and its Welcome fit together by the maker's key and the hash of the group context. A newer invitation to
the same room takes the place of an older one. A room that we are in is never left for one.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, Protocol

from securechat.client import events, snapshot
from securechat.client.context import Context
from securechat.client.conversations import offers, phases
from securechat.client.conversations.bounds import WAIT_MILLISECONDS, Bounds
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.entrance import RegistryPort as EntrancePort
from securechat.client.conversations.entrance import decode_facts, depart, enter_room, open_again, signer_of
from securechat.client.doors.facts import Invitation, Key, Known, Offered, Standing, Verdict
from securechat.client.vault.invitations import InviteRow, WelcomeRow
from securechat.content.registry import Accept, DeclineInvite, Invite, WithdrawInvite, decode_body, encode_body
from securechat.errors import InternalError, TrustError, UsageError, sentence
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.pins import WRITTEN_TO, digest, short
from securechat.policy import Identity
from securechat.wire.limits import MAX_SUBSCRIPTIONS

_OURS: Final[dict[str, Any]] = {"first_contact": False, "again": False, "known": (), "question": 0}
"""What a question says of us, and not of the invitation."""


class RegistryPort(EntrancePort, Protocol):
    """What invitations need of the set of conversations."""

    def __iter__(self) -> Iterator[Conversation]:
        """All conversations, oldest first."""

    def find(self, name: str) -> Conversation | None:
        """Return the conversation of this name that counts."""


class Invitations:
    """What waits for an answer, and what becomes of it."""

    def __init__(self, context: Context, registry: RegistryPort, bounds: Bounds) -> None:
        """Load the questions that were asked before."""
        self._context = context
        self._registry = registry
        self._bounds = bounds
        self._vault = context.vault.invitations
        self._asked_last = 0  # number of the newest question
        self.questions: dict[bytes, snapshot.Invitation] = {}
        """Invitations that the user has not answered, by room."""
        self._signers: dict[int, DeviceCertificate] = {}  # of Welcomes, by their ids
        self._alone: set[bytes] = set()  # direct conversations whose request was told without the invitation
        self._invited: set[bytes] = set()  # rooms that an invitation is there for
        self._ends = 0  # when the first thing that waits ends, milliseconds since 1970; 0: nothing waits
        self.note()
        for row in sorted(self._vault.invites(), key=lambda row: not self._bounds.knows(row.inviter)):
            welcome = self._welcome_of(row) if row.told else None
            if welcome is not None and row.conversation not in self.questions:
                self._asked_last += 1
                self.questions[row.conversation] = self._question(row, welcome, self._asked_last)

    # --- what comes -----------------------------------------------------------------------------------------------

    def take(self, direct: Conversation, who: Identity, body: object) -> None:
        """Take what the peer of a direct conversation says about an invitation of theirs."""
        match body:
            case Invite():
                self._take_invite(direct, who, body)
            case WithdrawInvite(group=group):
                self._withdraw(group, who)

    def _take_invite(self, direct: Conversation, who: Identity, body: Invite) -> None:
        now = self._context.clock.milliseconds()
        if body.until <= now or self._context.is_unwanted(who.account, body.group):
            return
        for older in self._vault.invites(body.group):
            if older.inviter == who:
                self._drop(older, keep_welcome=True)  # the newest counts

        def load() -> list[tuple[InviteRow, Identity, int]]:
            return [(row, row.inviter, 0) for row in reversed(self._vault.invites())]

        if not self._bounds.has_room_for(who, 0, load, lambda row: self._end(row, "expired")):
            return
        until = min(body.until, now + WAIT_MILLISECONDS)
        _, data = encode_body(body)
        self._vault.save_invite(InviteRow(body.group, who, direct.id, data, now, until))
        self.note()
        self.consider(body.group)

    def _withdraw(self, conversation: bytes, who: Identity) -> None:
        before = Known(offers.own_leaf(self._context), "invited", conversation, "invite")
        removal = Offered("removal", conversation)
        if offers.judge(self._context, before, removal).action == "withdraw":
            for row in self._vault.invites(conversation):
                if row.inviter == who:
                    self._end(row, "withdrawn")

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
                text = f"An invitation by {row.inviter.account} was refused. What was missing: {sentence(verdict.why)}"
                self._context.emit(events.Alarm("rules", conversation, text))
            else:
                self._tell_alone(row)
        if fitting:
            self._ask(*min(fitting, key=lambda each: self._precedence(each[0])))

    def reconsider(self, conversation: Conversation) -> None:
        """Something has happened in a conversation: we may be out of a room, or know an inviter by now."""
        if self._invited:
            self.consider(conversation.id)
            if conversation.row.kind == "direct":
                for room in {row.conversation for row in self._vault.invites() if row.direct == conversation.id}:
                    self.consider(room)

    def _precedence(self, row: InviteRow) -> int:
        """Whom the user knows is asked about first, the newest of them, and then the stranger who was asked about."""
        if self._bounds.knows(row.inviter):
            return 0
        question = self.questions.get(row.conversation)
        return 1 if question is not None and _is_about(question, row) else 2

    def _tell_alone(self, row: InviteRow) -> None:
        """An invitation waits until its inviter is accepted: so the user is asked about them without it, once."""
        direct = self._registry.get(row.direct)
        if direct is not None and direct.row.asked == "theirs" and direct.id not in self._alone:
            self._alone.add(direct.id)
            direct.tell("request", direct.row.name)

    # --- the question ---------------------------------------------------------------------------------------------

    def _decide(self, row: InviteRow, welcome: WelcomeRow) -> Verdict:
        """Look an invitation and its Welcome up in the table of doors."""
        body, facts = _body_of(row), decode_facts(welcome.facts)
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
            in_force=self._context.chains.age(signer := self._signer(welcome)) != "revoked",
            dated=self._context.in_force(signer),
            fault="" if body.role == facts.role else "another role than the rules give",
        )
        return offers.judge(self._context, before, offered)

    def _signer(self, welcome: WelcomeRow) -> DeviceCertificate:
        if welcome.id not in self._signers:  # a tree can be large, and each Welcome is looked at often
            self._signers[welcome.id] = signer_of(welcome)
        return self._signers[welcome.id]

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

    def _question(self, row: InviteRow, welcome: WelcomeRow, number: int) -> snapshot.Invitation:
        body, facts, inviter = _body_of(row), decode_facts(welcome.facts), row.inviter
        context = self._context
        others = [each.key for each in facts.people if each.device != context.device.id]
        return snapshot.Invitation(
            row.conversation,
            facts.name,
            inviter.account,
            digest(inviter.identity_key),
            first_contact=not self._bounds.knows(inviter),
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

    def _asked(self, conversation: bytes, number: int) -> tuple[snapshot.Invitation, InviteRow, WelcomeRow]:
        """Return a question and what it is about. Raises `UsageError`, also if it is another one than `number`."""
        question = self.questions.get(conversation)
        row = self._row_of(question) if question is not None else None
        welcome = self._welcome_of(row) if row is not None else None
        if question is None or row is None or welcome is None:
            raise UsageError("You have no invitation to that room.")
        if question.question != number:
            raise UsageError(f"There is another invitation to {question.name} by now. Look at it, then answer it.")
        return question, row, welcome

    def _welcome_of(self, row: InviteRow) -> WelcomeRow | None:
        """Return the Welcome that an invitation is about, if it is there."""
        wanted = (row.inviter, _body_of(row).context)
        welcomes = self._vault.welcomes(row.conversation)
        return next((each for each in welcomes if (each.inviter, each.context) == wanted), None)

    def _row_of(self, question: snapshot.Invitation) -> InviteRow | None:
        rows = self._vault.invites(question.conversation)
        return next((row for row in rows if _is_about(question, row)), None)

    # --- the answer -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Answer what has been asked before, as far as the settings do."""
        for question in list(self.questions.values()):
            self._accepts(question)

    def _accepts(self, question: snapshot.Invitation) -> bool:
        """Accept an invitation if the settings say so for its inviter; say whether they do."""
        if (question.inviter, question.key) not in self._context.accepts_from:
            return False
        try:
            self.accept(question.conversation, question.question)
        except UsageError as error:
            self._context.emit(events.Alarm("rules", question.conversation, str(error)))
        return True

    def accept(self, conversation: bytes, number: int) -> None:
        """Enter a room that we are invited to. Raises `UsageError`, having changed nothing."""
        self._accept(*self._asked(conversation, number))

    def _enter_by_line(self, row: InviteRow, welcome: WelcomeRow) -> None:
        """Enter the room that an invite line has named. If that cannot be now, the user is asked as ever."""
        try:
            self._accept(self._question(row, welcome, 0), row, welcome)
        except UsageError:
            self._ask(row, welcome)

    def _accept(self, question: snapshot.Invitation, row: InviteRow, welcome: WelcomeRow) -> None:
        """Enter a room. Raises `UsageError`, having changed nothing."""
        conversation = row.conversation
        self._check_acceptable(question)
        welcomed, opened = open_again(self._context, welcome)
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
        enter_room(self._context, self._registry, verdict, welcomed, opened)
        self._vault.forget(conversation)
        self._context.vault.lines.arrive(conversation)
        self.questions.pop(conversation, None)
        self.note()
        direct = self._registry.get(row.direct)
        if direct is not None and direct.row.asked == "theirs" and not direct.row.closed:
            direct.row.asked = ""
            direct.put(Accept())
            direct.tell("accepted", self._context.device.account)

    def _check_acceptable(self, question: snapshot.Invitation) -> None:
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

    def decline(self, conversation: bytes, number: int, *, never: bool) -> None:
        """Stay out of a room; with `never`, of every one that this key invites to. Raises `UsageError`."""
        _, row, welcome = self._asked(conversation, number)
        self._context.said_no(row.inviter.account, conversation)
        self._decline(row, welcome)
        if never:
            self._vault.refuse(row.inviter)
            for other in self._vault.invites():
                if other.inviter == row.inviter and (theirs := self._welcome_of(other)) is not None:
                    self._decline(other, theirs)
        self.consider(conversation)  # somebody else may have invited us, too

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
        depart(self._context, self._registry, welcome)
        self._drop(row)

    def silence(self, account: str) -> None:
        """Forget what an account has invited us to: it gets no answer."""
        for row in self._vault.invites():
            if row.inviter.account == account:
                self._drop(row)

    # --- the end --------------------------------------------------------------------------------------------------

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
        self.note()

    def drop_welcome(self, welcome: int) -> None:
        """Forget a Welcome that has to give way, with the question about it."""
        self._vault.delete_welcome(welcome)
        self._end_questions()

    def _end_questions(self) -> None:
        """End the questions whose Welcome is not kept any more."""
        for question in list(self.questions.values()):
            row = self._row_of(question)
            if row is not None and self._welcome_of(row) is None:
                self._end(row, "expired")

    def _end(self, row: InviteRow, why: events.InvitationEnd) -> None:
        """An invitation is over, and nobody has answered it."""
        if (question := self._drop(row)) is not None:
            self._context.emit(events.InvitationEnded(question, why))
            self.consider(row.conversation)

    def _drop(self, row: InviteRow, *, keep_welcome: bool = False) -> snapshot.Invitation | None:
        """Forget an invitation and its Welcome. Returns the question that was about it, if there was one."""
        welcome = None if keep_welcome else self._welcome_of(row)
        if welcome is not None:
            self._vault.delete_welcome(welcome.id)
        self._vault.delete_invite(row.conversation, row.inviter)
        self.note()
        question = self.questions.get(row.conversation)
        if question is None or not _is_about(question, row):
            return None
        return self.questions.pop(row.conversation)

    def note(self) -> None:
        """Note for which rooms there are invitations, and when the first thing ends. Call after a change."""
        invites, oldest = self._vault.invites(), self._vault.oldest_welcome()
        self._invited = {row.conversation for row in invites}
        self._signers.clear()
        ends = [row.until for row in invites] + ([oldest + WAIT_MILLISECONDS] if oldest else [])
        self._ends = min(ends, default=0)


def _is_about(question: snapshot.Invitation, row: InviteRow) -> bool:
    return (question.inviter, question.key) == (row.inviter.account, digest(row.inviter.identity_key))


def _same(one: snapshot.Invitation, other: snapshot.Invitation) -> bool:
    """Whether two questions are about one invitation, whatever we know of the people in it."""
    return replace(one, **_OURS) == replace(other, **_OURS)


def _body_of(row: InviteRow) -> Invite:
    body = decode_body("invite", row.body)
    if not isinstance(body, Invite):
        raise InternalError("an invitation in the vault is something else")
    return body
