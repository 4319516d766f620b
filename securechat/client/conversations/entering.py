"""Ways into a conversation: open a direct one, found a room, join or resync (docs/design.md, section 6).

A conversation is in the vault from the user's command on, so that early messages wait there. It has an id of our own
making; if somebody else was first it gets theirs, and nothing that waits is lost.

    opening    fetch key packages, look at the pins, OpenDirect      lost the race -> awaiting their Welcome
    joining    Join, external commit under the server's lease        no such room  -> founding
    founding   OpenRoom                                              lost the race -> joining
    resync     walk (`walking`), `Resync`, external commit that replaces our own leaf in exactly the state walked to

Each request is in the vault before it is sent, and is sent again unchanged after a crash: the server gives the same
answer. What the server hands us is checked before use: signatures and tree, the rules against what we meant to enter,
and keys against the pins before anything is sent.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from securechat import policy
from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.conversations import (
    beginning,
    external_commits,
    holds,
    offers,
    phases,
    rule_changes,
    standstill,
    verdicts,
)
from securechat.client.conversations.catching_up import MAX_OFFERED_NUMBER
from securechat.client.conversations.conversation import Conversation, Staged
from securechat.client.conversations.external_commits import Joining
from securechat.client.conversations.newcomers import changes
from securechat.client.conversations.numbers import encode_commit
from securechat.client.conversations.reopening import Reopening, is_lost
from securechat.client.conversations.waiting import Waiting
from securechat.client.device import check_key_packages
from securechat.client.doors.facts import Offered, Verdict
from securechat.client.doors.table import OWN
from securechat.client.vault.conversations import PersonRow
from securechat.errors import InternalError, PeerError, sentence
from securechat.identity.certificate import DeviceCertificate, NotYetError
from securechat.identity.pins import WRITTEN_TO
from securechat.mls.errors import OutsideLifetime
from securechat.mls.framing import decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add
from securechat.mls.public_group import PublicGroup
from securechat.policy import Rules
from securechat.wire.chain import CHAIN_START, next_chain
from securechat.wire.limits import CHAIN_LENGTH, CONVERSATION_ID_LENGTH
from securechat.wire.messages import (
    RETRYABLE,
    Accepted,
    Commit,
    FetchKeyPackages,
    FromClient,
    Join,
    JoinOffer,
    KeyPackages,
    OpenDirect,
    OpenRoom,
    Refused,
    Reply,
    Resync,
)

_TOO_LATE: Final = frozenset(("stale-epoch", "leased", "commit-first", "invalid-commit", "old-certificate",
                              "wrong-number", "not-found"))  # fmt: skip
"""Answers to an external commit when the conversation has moved on since the offer, or is gone: ask again."""

MAX_REFUSALS: Final = 8
"""External commits refused in a row before we give up: with the waits between them, about half a minute."""

MAX_FOUNDINGS: Final = 3
"""How often we try to make a room that we could not find: beyond that, it exists and is not open to us."""

MAX_RESYNCS: Final = 3
"""How often we resync one conversation within one connection: more would only help a server that plays games."""

CLOCK_RETRY_SECONDS: Final = 60.0
"""How often we try to enter where something is dated in the future: it passes within a day, or a clock is set right."""


AWAY_SECONDS: Final = 3600.0
"""How often it is tried whether somebody is back whose keys have run out: they have been away for more than a month."""


class RegistryPort(Protocol):
    """What entering needs of the set of conversations."""

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""

    def meant(self, conversation: Conversation, group: bytes) -> Conversation:
        """Return the conversation that an offer of a group concerns: that group's, or one of the same name, or ours."""

    @property
    def reopening(self) -> Reopening:
        """The private conversations that take the place of others."""

    def has_older_unleft(self, conversation: Conversation) -> bool:
        """Whether we are still on our way out of an older conversation of the same name."""

    def rebind(self, conversation: Conversation, new: bytes) -> Conversation:
        """Give the conversation the id `new`, or merge what waits in it into the one that has it."""

    def await_welcome(self, conversation: Conversation) -> None:
        """Somebody else has opened a private one before: read the inbox to its end, where its Welcome has to be."""

    def archive(self, conversation: Conversation) -> None:
        """Move the history into a closed conversation of its own: the log starts over."""

    def follow(self, conversation: Conversation) -> None:
        """Read the conversation's log from its cursor on."""

    def abandon(self, conversation: Conversation, code: str, text: str) -> None:
        """Give the conversation up, and tell the user, also about the messages that waited in it."""


class Entering:
    """The way into one conversation. Lives as long as one connection; lasting state is in the vault."""

    def __init__(self, conversation: Conversation, registry: RegistryPort) -> None:
        self._conversation = conversation
        self._context = conversation.context
        self._registry = registry
        self._asking = False
        self._checked: tuple[KeyPackage, DeviceCertificate] | None = None  # fetched, waiting for the user's decision
        self._waiting = Waiting(conversation)
        self._foundings = 0
        self._ownerless = False  # the server says that the room belongs to nobody
        self._refusals = 0
        self._resyncs = 0
        self.backoff = Backoff(self._context.clock.monotonic)

    def pump(self) -> None:
        """Take the next step, if none is on its way. Call after anything has changed, inside a transaction."""
        conversation, row = self._conversation, self._conversation.row
        if self._asking or self.backoff.waiting or row.phase not in phases.ENTERING:
            return
        if row.phase in phases.REGAINING and conversation.base is None:  # it was made on an earlier connection
            if conversation.staged is not None:
                self._submit(conversation.staged)
            else:
                conversation.start_over()
            return
        if row.phase in phases.WALKING and not conversation.caught_up:
            return  # the walk comes first
        if row.phase in phases.WALKING and conversation.patience.until > self._context.clock.monotonic():
            self.backoff.until = conversation.patience.until
            return
        if conversation.staged is not None:
            self._submit(conversation.staged)
        elif row.phase in phases.NEW and row.closed:
            conversation.end("You left before this was sent.")  # the server has not heard of it
        elif self._has_no_key:
            self._waiting.tell_expired()
        elif row.phase in phases.NEW and self._registry.has_older_unleft(conversation):
            self.backoff.wait()  # we cannot come back before we are out
        elif row.phase == "opening":
            self._open_direct()
        elif row.phase == "joining":
            self._ask(Join(0, row.name), self._handle_offer)
        elif row.phase == "founding":
            self._found_room()
        else:
            self._resyncs += 1
            if self._resyncs > MAX_RESYNCS and (row.kind != "open" or row.phase in phases.REGAINING):
                self._fail("local", "The server does not let this device follow the conversation.")
            else:
                self._ask(Resync(0, row.id), self._handle_offer)

    @property
    def _has_no_key(self) -> bool:
        """Whether we have to renew our signature key before anybody would let us in."""
        device = self._context.device
        awaited = device.renewal_awaited and self._conversation.row.phase in phases.WALKING
        return awaited or device.is_expired(self._context.clock.seconds())

    @property
    def _is_revoked(self) -> bool:
        """Whether our leaf, in the state that we know, is one that our identity key has revoked."""
        group = self._conversation.group
        return group.own_leaf in policy.revoked_leaves(group.public, self._conversation.revocations)

    def _ask(self, request: FromClient, handler: Callable[[Reply], None]) -> None:
        self._asking, phase = True, self._conversation.row.phase

        def answer(reply: Reply) -> None:
            self._asking = False
            self._context.touched.add(self._conversation.id)
            conversation = self._conversation
            if self._registry.get(conversation.id) is conversation and conversation.row.phase == phase:
                handler(reply)  # otherwise the log has led elsewhere, or it became another conversation, meanwhile

        self._context.request(request, answer)

    # --- direct ---------------------------------------------------------------------------------------------------

    def _open_direct(self) -> None:
        old = self._registry.reopening.replaces(self._conversation)
        if old is not None and not is_lost(old):
            if old.is_over or (old.row.phase in phases.READING and old.caught_up):
                self._registry.reopening.give_up(self._conversation, old)
            return  # else it is not known yet on this connection
        if self._checked is not None and self._context.chains.age(self._checked[1]) != "current":
            self._checked = None  # a newer certificate has come while the user was asked about their key
        if self._checked is None:
            self._ask(FetchKeyPackages(0, self._conversation.row.name), self._handle_key_packages)
            return
        package, person = self._checked
        shown = holds.shown(self._conversation, PersonRow(person.account, person.identity_key))
        if shown.trust in WRITTEN_TO and old is not None and person.identity_key != old.peer_key:
            self._registry.reopening.detach(self._conversation, old)
        elif shown.trust in WRITTEN_TO:
            self._prepare_open_direct(package)
        else:
            self._waiting.tell(events.Held(self._conversation.id, (shown,)))

    def _handle_key_packages(self, reply: Reply) -> None:
        account = self._conversation.row.name
        if isinstance(reply, Refused) and reply.code == "away":
            self._wait_for_peer(
                f"By the server's word {account} has been away for so long that their keys have run out."
            )
        elif isinstance(reply, Refused):
            self._handle_refusal(reply)
        elif isinstance(reply, KeyPackages):
            now = self._context.clock.seconds()
            try:
                validate = self._context.device.validator(now)
                package, person = check_key_packages(reply.key_packages, account, validate=validate, now=now)
                self._context.chains.check(person)
            except OutsideLifetime as error:  # by our clock; the server hands out what is in date by its own
                self._wait_for_peer(str(error))
                return
            except PeerError as error:
                self._refuse_key_packages(error)
                return
            self._checked = package, person
            self._context.pins.write_first(account, person.identity_key)
            self._context.meet(person, self._conversation.id)

    def _refuse_key_packages(self, error: PeerError) -> None:
        conversation = self._conversation
        if self._registry.reopening.replaces(conversation) is not None:
            self.backoff.wait()  # perhaps the server shows another one later
            if ("key-package", conversation.id) not in self._context.alarmed:
                self._context.alarmed.add(("key-package", conversation.id))
                self._context.emit(events.Alarm("key-package", conversation.id, str(error)))
            return
        self._registry.abandon(conversation, "local", f"Nothing was sent to {conversation.row.name}. {error}")
        self._context.emit(events.Alarm("key-package", conversation.id, str(error)))

    def _prepare_open_direct(self, package: KeyPackage) -> None:
        conversation, context = self._conversation, self._context
        now = context.clock.seconds()
        group = self._new_group(Rules("direct"), now)
        founding = group.group_info(with_tree=True)
        try:
            commit = self._commit_opening(group, package, now)
        except OutsideLifetime:  # while the user was asked about their key
            self._checked = None
            self._open_direct()
            return
        except PeerError as error:
            self._refuse_key_packages(error)
            return
        old = self._registry.reopening.replaces(conversation)
        lost = old is None or old.branch_lost  # else the server does not know it
        instead_of = self._registry.reopening.names(conversation) if lost else b""
        request = OpenDirect(
            0, conversation.id, conversation.row.name, founding, commit.message, commit.welcome or b"",
            commit.group_info or b"", instead_of,
        )  # fmt: skip
        conversation.stage(1, request, commit)
        self._checked = None
        self.pump()

    def _commit_opening(self, group: Group, package: KeyPackage, now: int) -> StagedCommit:
        """Return the first commit, which adds the peer. Raises `PeerError` if their key package clashes."""
        commit = group.commit(
            [Add(package)],
            by_reference=None,
            authenticated_data=encode_commit(1, self._context.clock.milliseconds()),
            tree_in_welcome=False,
            validate=self._context.device.validator(now),
            now=now,
        )
        policy.check_commit(commit.public, departed=frozenset())
        return commit

    def _opened_direct(self, staged: Staged, request: OpenDirect, accepted: Accepted) -> None:
        conversation, device = self._conversation, self._context.device
        if staged.commit is None or staged.commit.group is None:
            raise InternalError("a staged opening without its commit")
        chain = next_chain(
            CHAIN_START, conversation.id, 1, accepted.time, device.id, 1, request.commit, request.group_info
        )
        if accepted.seq != 1 or accepted.chain not in (b"", chain):
            raise PeerError("the server put something before the first entry of a new conversation")
        beginning.begin(conversation, OWN, staged.commit.group, seq=1, chain=chain, number=1)
        old = self._registry.reopening.replaces(conversation)
        if old is None or old.is_over:
            conversation.tell_entered("opened")
            if request.instead_of:
                self._context.emit(events.OutOfStep(conversation.id, "anew"))
        else:
            self._registry.reopening.replace(old, conversation)
        self._registry.follow(conversation)

    # --- rooms ----------------------------------------------------------------------------------------------------

    def _found_room(self) -> None:
        conversation = self._conversation
        self._foundings += 1
        rules = rule_changes.founding(conversation)
        if self._ownerless:
            rules = replace(rules, owners=(), site_key=self._context.site_key)
        group = self._new_group(rules, self._context.clock.seconds())
        conversation.replace_group(OWN, group)
        request = OpenRoom(0, conversation.id, group.group_info(with_tree=True), group.group_info(with_tree=False))
        conversation.stage(0, request, None)
        self.pump()

    def _founded_room(self) -> None:
        conversation = self._conversation
        beginning.begin(conversation, OWN, conversation.group, seq=0, chain=CHAIN_START, number=0)
        conversation.tell_entered("opened")
        self._context.founded |= conversation.row.kind == "invite"
        self._registry.follow(conversation)

    def _new_group(self, rules: Rules, now: int) -> Group:
        device = self._context.device
        extensions = (rules.extension(),)
        return Group.create(self._conversation.id, device.make_bundle(now), device.signature, extensions=extensions)

    # --- external commits -----------------------------------------------------------------------------------------

    def _handle_offer(self, reply: Reply) -> None:
        conversation = self._conversation
        if conversation.row.phase == "joining" and conversation.row.closed:
            return  # the user has left meanwhile
        if isinstance(reply, JoinOffer):
            try:
                if conversation.row.phase in phases.WALKING:
                    self._reenter(reply)
                else:
                    self._enter(reply)
            except (NotYetError, OutsideLifetime) as error:
                self._wait_for_clocks(error)
            except PeerError as error:
                if conversation.row.phase == "joining":
                    self._context.emit(events.Alarm("rules", conversation.id, str(error)))
                self._fail("local", str(error))
        elif isinstance(reply, Refused):
            if reply.code in ("not-found", "ownerless") and conversation.row.phase == "joining":
                self._ownerless = reply.code == "ownerless"
                # The id may belong to a room that no longer exists: a new room has its own log.
                conversation = self._conversation = self._registry.rebind(conversation, new_conversation_id())
                conversation.advance("missing")
                self.pump()
            else:
                self._handle_refusal(reply)

    def _enter(self, offer: JoinOffer) -> None:
        """Make the external commit for an offer. Raises `PeerError` if it is not what we meant to enter."""
        conversation = self._conversation
        number = offer.number + 1
        if number > MAX_OFFERED_NUMBER:
            raise PeerError("The server claims that this device has said more here than can be counted.")
        joining = external_commits.join(conversation, offer, number)
        before = joining.commit.public.before
        verdict = self._judge(before)
        if verdict.action == "ignore":  # we are in it already, and stay in the state that we have
            self._conversation = self._registry.rebind(conversation, before.group_id)
            self._context.answers.done(("conversation", before.group_id))
            return
        if not verdict.lets_in:
            raise PeerError(f"The server's offer is refused. What is missing: {sentence(verdict.why)}")
        if offer.conversation != conversation.id:
            conversation = self._conversation = self._registry.rebind(conversation, offer.conversation)
            self._waiting = Waiting(conversation)
        self._note_due(joining)
        self._stage(number, joining.commit)

    def _reenter(self, offer: JoinOffer) -> None:
        """Make the external commit that replaces our leaf in the state walked to. Raises `PeerError` for others."""
        conversation, device, walk = self._conversation, self._context.device, self._conversation.walk
        if walk is None:
            return  # the subscription has begun anew meanwhile
        if offer.conversation != conversation.id:
            raise PeerError("The server offered another conversation than the one to re-enter.")
        number = max(offer.number, walk.number) + 1
        if number > MAX_OFFERED_NUMBER:
            raise PeerError("The server claims that this device has said more here than can be counted.")
        info = decode_body(offer.group_info, GroupInfo)
        if (epoch := info.group_context.epoch) > walk.group.epoch:
            self.backoff.wait()  # the commits between are on their way
            return
        if epoch < walk.group.epoch:
            raise PeerError("The server offered a past state of the conversation, with members who may be gone.")
        regaining = conversation.row.phase in phases.REGAINING
        if not regaining and walk.passed and not external_commits.may_pass(conversation, walk):
            conversation.advance("followed")  # with secrets, as long as nobody has asked for anything else
            conversation.walk = None
            self._registry.follow(conversation)
            return
        verdict = self._judge(walk.group, asked_for=conversation.repairing)
        if verdict.action == "rotate":
            device.want_renewal(awaited=True)
            self._waiting.tell_expired()
            return
        if walk.own_commit:
            device.want_renewal()  # two programs have one key: the older copy of the vault gets another
        try:
            walk.check_offer(info)
        except PeerError as error:
            text = f"The server offers another state than the one that the log leads to: {sentence(str(error))}"
            raise PeerError(text) from error
        if not verdict.lets_in:
            raise PeerError(f"The server's offer is refused. What is missing: {sentence(verdict.why)}")
        joining = external_commits.rejoin(conversation, walk, info, number)
        if regaining and conversation.base is not None:
            base = conversation.base
            self._context.vault.anchors.rely_on(conversation.id, base.way, base.signer.encode())
            self._note_due(joining)
        self._stage(number, joining.commit)

    def _note_due(self, joining: Joining) -> None:
        """Note who has to go in the state that we come into, and why."""
        conversation = self._conversation
        conversation.set_departed(joining.departed)
        conversation.set_words(joining.words)
        conversation.set_revocations(joining.revocations)

    def _stage(self, number: int, commit: StagedCommit) -> None:
        """Keep an external commit, and send it."""
        conversation = self._conversation
        request = Commit(0, conversation.id, number, commit.message, b"", commit.group_info or b"")
        conversation.stage(number, request, commit)
        self.pump()

    def _judge(self, group: PublicGroup, *, asked_for: bool = False) -> Verdict:
        conversation = self._conversation
        again = conversation.row.phase in phases.WALKING
        meant = conversation if again else self._registry.meant(conversation, group.group_id)
        return external_commits.judge(conversation, meant, group, asked_for=asked_for)

    def _entered(self, staged: Staged, accepted: Accepted) -> None:
        conversation, row = self._conversation, self._conversation.row
        if staged.commit is None or staged.commit.group is None:
            raise InternalError("a staged external commit without its group")
        if len(accepted.chain) != CHAIN_LENGTH or accepted.seq == 0:
            raise PeerError("the server let us in at no place in the log")
        again = row.phase in phases.WALKING - phases.REGAINING
        verdict = self._judge(staged.commit.public.before, asked_for=again)  # else it would not have been made
        if not verdict.lets_in:  # something has changed since the offer
            conversation.unstage()
            self._fail("local", f"The server's answer is refused. What is missing: {sentence(verdict.why)}")
            return
        if accepted.seq <= row.cursor:
            # The server has lost entries, or let somebody found the room again under the id of a deleted one.
            self._registry.archive(conversation)
        missed = accepted.seq > row.cursor + 1
        regained = row.phase in phases.REGAINING
        before = frozenset(map(offers.leaf_of, conversation.present if again else []))
        known = conversation if conversation.walk is None else conversation.walk
        departed, words = known.departed, known.words
        removed = {leaf for leaf, _ in staged.commit.public.removed}
        base = conversation.base
        beginning.begin(
            conversation,
            verdict,
            staged.commit.group,
            seq=accepted.seq,
            chain=accepted.chain,
            number=accepted.number,
            departed=departed - removed,
            words=policy.still_due(staged.commit.public, words),
            revocations=policy.still_revoked(staged.commit.public.after, known.revocations),
        )
        if again and missed:
            self._context.emit(events.Gap(conversation.id, accepted.seq, "re-entered"))
        if regained:
            self._context.vault.anchors.delete(conversation.id)
        elif base is not None and base.way == "checkpoint":
            verdicts.tell(conversation, verdict, time=base.time)
        conversation.tell_entered(verdicts.entered(verdict))
        if again:
            after = frozenset(map(offers.leaf_of, conversation.present))
            for change, account in changes(after - before, before - after):
                conversation.tell(change, account)
        self._registry.follow(conversation)

    # --- requests and their answers -------------------------------------------------------------------------------

    def _submit(self, staged: Staged) -> None:
        def handle(reply: Reply) -> None:
            if self._conversation.staged is not staged:
                return  # a Welcome has overtaken it
            if isinstance(reply, Refused):
                self._handle_refused_request(staged, reply)
                return
            self.backoff.reset()
            request = staged.request
            if isinstance(request, OpenRoom):
                self._founded_room()
            elif isinstance(reply, Accepted):
                if (reply.conversation, reply.number) != (self._conversation.id, staged.number):
                    raise PeerError("the server accepted something else than what was submitted")
                if isinstance(request, OpenDirect):
                    self._opened_direct(staged, request, reply)
                else:
                    self._entered(staged, reply)

        self._ask(msgspec.structs.replace(staged.request), handle)

    def _handle_refused_request(self, staged: Staged, refused: Refused) -> None:
        conversation = self._conversation
        if isinstance(staged.request, Commit) and refused.code in _TOO_LATE and self._refusals < MAX_REFUSALS:
            self._refusals += 1
            conversation.unstage()
            self.backoff.wait()
        elif refused.code in ("invalid-commit", "old-certificate") and self._names_old_key(staged):
            conversation.unstage()  # our key was renewed meanwhile
        elif (
            refused.code == "old-certificate"
            and isinstance(staged.request, OpenDirect)
            and self._refusals < MAX_REFUSALS
        ):
            self._refusals += 1
            conversation.unstage()
            self._checked = None  # their key package is fetched again
            self.backoff.wait()
        elif refused.code in RETRYABLE:
            self._wait(refused)
        elif refused.code == "exists" and isinstance(staged.request, OpenDirect | OpenRoom):
            self._lose_race(staged, refused)
        else:
            conversation.unstage()
            self._fail(refused.code, refused.text)

    def _names_old_key(self, staged: Staged) -> bool:
        group = self._conversation.group if staged.commit is None else staged.commit.group
        if group is None:
            return False
        return group.public.member(group.own_leaf).signature_key != self._context.device.row.signature_key

    def _lose_race(self, staged: Staged, refused: Refused) -> None:
        """Somebody else opened this conversation first: theirs takes over what waits in ours."""
        conversation, row, winner = self._conversation, self._conversation.row, refused.conversation
        if row.kind == "direct":
            if len(winner) != len(conversation.id):
                raise PeerError("the server does not say which conversation exists")
            theirs = self._registry.get(winner)
            old = self._registry.reopening.replaces(conversation)
            if old is not None and old is theirs:  # the other one can show the server that we are in it
                self._registry.reopening.give_up(conversation, old)
                return
            if theirs is not None and theirs.row.phase in phases.STOPPED:
                self._fail("local", f"The conversation with {row.name} has stopped: /repair tries to rejoin it.")
                return
            if winner == self._registry.reopening.names(conversation):
                self.backoff.wait()  # another device of ours is in it
                text = f"The server does not let another chat take the place of the one with {row.name}."
                self._waiting.tell(events.Delayed(row.id, "exists", f"{text} It is tried again by itself."))
                return
            leaving = theirs is not None and theirs.row.closed and theirs.row.phase not in phases.ENDED
            if leaving and theirs is not conversation:
                self._wait(refused)  # we are leaving that one; once we are out, ours can be opened
                return
            inside = theirs if theirs is not None and theirs.row.phase in phases.INSIDE else conversation
            verdict = offers.judge(
                self._context, offers.known(inside), Offered("claim", winner, row.kind, row.name)
            )
            if verdict.action not in ("keep", "ignore"):
                raise PeerError("the server names a conversation that cannot be the one that it says exists")
            ours = winner == conversation.id
            conversation = self._conversation = self._registry.rebind(conversation, winner)
            if conversation.row.phase == "opening":
                if ours and staged.commit is not None and staged.commit.group is not None:
                    conversation.replace_group(OWN, staged.commit.group)
                    conversation.advance("unanswered")
                    self._registry.follow(conversation)
                else:
                    conversation.advance("overtaken")
                    self._registry.await_welcome(conversation)
                conversation.unstage()
            elif conversation.row.phase in phases.READING:  # we are in it already
                self._context.answers.done(("conversation", conversation.id))
        elif row.kind == "open" and self._foundings < MAX_FOUNDINGS:
            conversation.unstage()
            conversation.advance("taken")
            self.backoff.wait()
        else:
            self._fail("local", f"By the server's word there is a room {row.name} already: its members can invite you.")

    def _handle_refusal(self, refused: Refused) -> None:
        if refused.code in RETRYABLE:
            self._wait(refused)
        else:
            self._fail(refused.code, refused.text)

    def _wait(self, refused: Refused) -> None:
        """Ask again later, when the server may have another answer."""
        self.backoff.wait(refused.retry_after / 1000)
        self._waiting.tell_long(refused, self.backoff)

    def _wait_for_peer(self, why: str) -> None:
        """Nobody can open a conversation with them before they are back: what is said waits."""
        row = self._conversation.row
        self.backoff.wait(AWAY_SECONDS)
        text = f"{why} Nobody can open a new chat with them before they are back: what you say waits, and goes then."
        self._waiting.tell(events.Delayed(row.id, "away", text))

    def _wait_for_clocks(self, error: PeerError) -> None:
        """What is there is dated in the future, by our clock: that passes, or one of the clocks is set right."""
        row = self._conversation.row
        self._resyncs = 0
        self.backoff.wait(CLOCK_RETRY_SECONDS)
        text = (
            f"{row.name} cannot be entered yet. {sentence(str(error))} One of the clocks is wrong: look at this "
            "machine's first. It is tried again by itself."
        )
        self._waiting.tell(events.Delayed(row.id, "local", text))

    def _fail(self, code: str, text: str) -> None:
        """Give up: `code` and `text` say why, in the server's words unless the code is "local"."""
        conversation = self._conversation
        said = text if code == "local" else f"The server says: {sentence(text)}"
        if conversation.row.phase in phases.REGAINING:
            standstill.not_regained(conversation, said)
        elif conversation.row.phase == "resync" and conversation.row.kind == "open" and not conversation.row.closed:
            standstill.keep_trying(conversation, said)
        elif conversation.row.phase == "resync" and code == "not-found" and self._is_revoked:
            standstill.deny(conversation)  # somebody has taken our leaf out meanwhile: a Welcome leads back
        elif conversation.row.phase == "resync":
            standstill.gave_up(conversation, said)
        elif conversation.row.phase == "opening" and self._registry.reopening.replaces(conversation) is not None:
            self._checked = None
            self.backoff.wait()  # nobody has asked for it: the other one may not have been back since the restore
        elif conversation.row.phase in phases.NEW:  # there is no state yet
            self._registry.abandon(self._conversation, code, text)


def new_conversation_id() -> bytes:
    """Return an id that nobody has used."""
    return os.urandom(CONVERSATION_ID_LENGTH)
