"""Our commits in one conversation: one at a time, and only while none of our messages is on its way.

A commit is made to change the members, to remove departed devices when something waits to be said, or to renew our leaf
key. It is stored before it is sent, and sent again unchanged (invariant 5). After a refusal:

    another commit came first       ours is discarded when that one arrives
    somebody has left meanwhile     a new one, which removes them too
    busy, leased, full disk         the same bytes again, a little later
    a number the server does not    the same bytes again, later each time: what counts is the log
        expect
    anything else                   the change is impossible: the user is told
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from securechat import policy
from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.conversations import freshness, gaps, log, own_commit, phases, resync, rule_changes, standstill
from securechat.client.conversations.conversation import Conversation, Staged
from securechat.client.conversations.waiting import Waiting
from securechat.client.device import check_key_packages
from securechat.client.vault.conversations import ChangeRow
from securechat.client.vault.outbox import OutboxRow
from securechat.errors import InternalError, PeerError, sentence
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.pins import WRITTEN_TO, short
from securechat.mls.framing import ContentType, MLSMessage, decode_body
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add, GroupContextExtensions, Proposal, Remove
from securechat.policy import Identity
from securechat.wire.messages import RETRYABLE, Accepted, Commit, FetchKeyPackages, KeyPackages, Refused, Reply

MAX_FETCHED_AGAIN: Final = 8
"""Key packages of one commit that the server may call old in a row, over one connection: people rotate once a month."""

_REFUSED: Final = (
    "The server refuses what this device has to change in {0} before it may speak there. It says: {1} What you say "
    "waits, and it is tried again; if it stays like this, /repair rejoins."
)


class Committing:
    """Makes and submits the commits of one conversation. Lives as long as one connection."""

    def __init__(
        self,
        conversation: Conversation,
        backoff: Backoff,
        waiting: Waiting,
        put_off_until: Callable[[Callable[[], bool]], None],
    ) -> None:
        """All three are shared with the conversation's messages: whatever refuses those refuses commits, too.

        `put_off_until` submits nothing until the entry that explains a refusal has come, or for a while.
        """
        self._conversation = conversation
        self._context = conversation.context
        self._vault = conversation.context.vault
        self._backoff = backoff
        self._waiting = waiting
        self._put_off_until = put_off_until
        self._stale_in_gap = False
        self._fetched_again = 0  # how often the server had newer certificates than the key packages that it gave
        self._one_by_one = False  # several changes together were impossible: at least one of them is
        self._fetching: set[int] = set()  # changes whose key packages have been requested

    def prepare(self, items: list[OutboxRow]) -> bool:
        """Make, store and send the commit that is due, if one is. Requires that nothing is on its way."""
        conversation, row = self._conversation, self._conversation.row
        leaving = bool(items) and items[0].kind == "leave"
        if row.closed and (leaving or not items):
            return False
        now = self._context.clock.milliseconds()
        if self._context.device.is_expired(now // 1000):
            return False
        public, own = conversation.group.public, conversation.group.own_leaf
        if certificate_of(public.member(own)).identity_key != self._context.device.identity_key:
            return False  # another key of ours has taken over: the log is about to say so
        revoked = own in policy.revoked_leaves(public, conversation.revocations)
        if not conversation.group.can_sign or (revoked and conversation.own_leaf_is_old):
            resync.supersede(conversation)  # our leaf was left behind, or revoked: nothing else can replace it
            self._context.touched.add(conversation.id)
            return True
        if revoked:  # until there is a later certificate of ours
            if items:
                self._waiting.tell_revoked()
            return True
        taking = self._takes_over()
        changes = self._changes(now // 1000) if not taking else []  # a successor may do more once it has taken over
        timing = self._context.parts.timing
        stale_path = row.sent_on_path >= timing.path_messages or not row.path_time
        if not 0 <= now - row.path_time < timing.path_milliseconds:  # our clock may have been ahead then
            stale_path |= bool(items) or freshness.owes_commit(conversation)
        said = self._said_by_the_operator()
        due = stale_path or conversation.own_leaf_is_old
        if not changes and not due and not taking and not (items and (conversation.departed or said)):
            return False
        removals = [*(Remove(leaf) for leaf in sorted(conversation.departed)), *said, *taking]
        proposals: list[Proposal] = [*removals, *(change for change in changes if change not in removals)]
        self._commit(proposals, now)
        return True

    def _said_by_the_operator(self) -> list[Proposal]:
        """Return the change of the rules that the words of the operator ask for."""
        public, words = self._conversation.group.public, self._conversation.words
        due = policy.rules_due(public, words) if words else None
        if due is None or due == policy.rules_of(public.extensions):
            return []
        return [GroupContextExtensions((due.extension(),))]

    def _takes_over(self) -> list[Proposal]:
        """Return the change of the rules by which our key takes over what the one before it was here."""
        rules = policy.rules_of(self._conversation.group.public.extensions)
        own = Identity.of(self._context.device.certificate)
        taken = policy.taken_over(rules, self._conversation.revocations, {own})
        return [] if taken == rules else [GroupContextExtensions((taken.extension(),))]

    def _changes(self, now: int) -> list[Proposal]:
        """Return the proposals for the user's changes, as far as their key packages are here."""
        conversation = self._conversation
        proposals: list[Proposal] = []
        changes = self._vault.changes.load(conversation.id)
        rules = before = policy.rules_of(conversation.group.public.extensions)
        for change in changes[:1] if self._one_by_one else changes:
            so_far, rules = rules, rule_changes.apply(rules, change)
            leaves = (leaf for leaf, person in conversation.people.items() if person.account == change.value)
            removals = (removal for removal in map(Remove, leaves) if removal not in proposals)
            if change.action in ("remove", "bar"):
                proposals += removals
                if Identity.of(self._context.device.certificate) in before.owners:
                    rules = rule_changes.without(rules, change.value)
            elif change.action not in ("add", "replace"):
                pass
            elif change.data and not self._is_outdated(change.data):
                with self._refusing(change):
                    package = self._still_good(change.data, now)
                    proposals += [*(removals if change.action == "replace" else ()), Add(package)]
                    heir = Identity.of(certificate_of(package.leaf_node))
                    taken = policy.taken_over(so_far, conversation.revocations, {heir})
                    rules = rules if taken == so_far else taken
            elif change.id not in self._fetching:
                self._fetching.add(change.id)
                self._context.request(FetchKeyPackages(0, change.value), self._fetched_for(change))
        return proposals if rules == before else [*proposals, GroupContextExtensions((rules.extension(),))]

    def _fetched_for(self, change: ChangeRow) -> Callable[[Reply], None]:
        def answer(reply: Reply) -> None:
            self._fetching.discard(change.id)
            self._context.touched.add(self._conversation.id)
            if isinstance(reply, KeyPackages):
                with self._refusing(change):
                    now = self._context.clock.seconds()
                    validate = self._context.device.validator(now)
                    package, person = check_key_packages(reply.key_packages, change.value, validate=validate, now=now)
                    book = self._context.pins
                    book.write_first(change.value, person.identity_key)  # to invite somebody is to write to them
                    self._context.meet(person, self._conversation.id)
                    self._context.chains.check(person)
                    self._check_accepted(person)
                    self._vault.changes.save_package(change.id, MLSMessage(package).encode())
            elif isinstance(reply, Refused) and reply.code in RETRYABLE:
                self._backoff.wait(reply.retry_after / 1000)
                self._waiting.tell_long(reply, self._backoff)
            elif isinstance(reply, Refused):
                self._drop(change, reply.code, f"{change.value} was not added: {reply.text}")

        return answer

    @contextmanager
    def _refusing(self, change: ChangeRow) -> Iterator[None]:
        """Drop a change that turns out to be impossible, and tell the user."""
        try:
            yield
        except PeerError as error:
            self._drop(change, "local", f"{change.value} was not added: {error} Invite them again.")

    def _is_outdated(self, encoded: bytes) -> bool:
        """Whether a key package was overtaken by a newer certificate of its account: then it is fetched anew."""
        certificate = certificate_of(decode_body(encoded, KeyPackage).leaf_node)
        return self._context.chains.age(certificate) != "current"

    def _still_good(self, encoded: bytes, now: int) -> KeyPackage:
        """Return a key package that was sound, and under an accepted key, when it came. Raises PeerError if its dates
        have passed since, or its key is accepted no more.

        Nothing else is verified here, since the commit does that.
        """
        validate = self._context.device.validator(now)
        try:
            package = decode_body(encoded, KeyPackage)
            package.leaf_node.verify_lifetime(now)
            validate(package.leaf_node, entering=True)
        except PeerError as error:
            raise PeerError(f"Their key package is not good any more: {sentence(str(error))}") from error
        self._check_accepted(certificate_of(package.leaf_node))
        return package

    def _check_accepted(self, person: DeviceCertificate) -> None:
        """Raise `PeerError` unless the user has accepted somebody's key."""
        if self._context.pins.standing(person.account, person.identity_key) not in WRITTEN_TO:
            raise PeerError(f"Their key {short(person.identity_key)} is not accepted: /trust or /verify decides.")

    def _commit(self, proposals: list[Proposal], now: int) -> None:
        try:
            staged = own_commit.stage(self._conversation, proposals, now)
        except PeerError as error:
            self._drop_changes("local", str(error))
            return
        self.submit(staged)

    def submit(self, staged: Staged) -> None:
        """Send the staged commit. Requires that nothing else is on its way."""
        request = staged.request
        if not isinstance(request, Commit):
            raise InternalError("a member has staged something else than a commit")
        if staged.put_off and self._adds_unaccepted(staged):  # the user has refused a key meanwhile
            self._conversation.unstage()
            self._vault.refused.add(self._conversation.id, request.commit)
            self._context.touched.add(self._conversation.id)
            return
        staged.submitted, staged.put_off = True, False

        def answer(reply: Reply) -> None:
            self._context.touched.add(self._conversation.id)
            if isinstance(reply, Accepted):
                self._backoff.reset()
                self._waiting.over()
                log.receive_own(
                    self._conversation, reply, staged.number, request.commit, ContentType.COMMIT, request.group_info
                )
            elif isinstance(reply, Refused) and self._conversation.staged is staged:
                self._handle_refusal(staged, reply)

        self._context.request(msgspec.structs.replace(request), answer)

    def _adds_unaccepted(self, staged: Staged) -> bool:
        added = staged.commit.public.added if staged.commit is not None else ()
        people = (certificate_of(leaf) for _, leaf in added)
        standing = self._context.pins.standing
        return any(standing(each.account, each.identity_key) not in WRITTEN_TO for each in people)

    def _handle_refusal(self, staged: Staged, refused: Refused) -> None:
        conversation = self._conversation
        if conversation.row.phase not in phases.READING:
            return
        if refused.code == "stale-epoch" and not gaps.inside(conversation):
            # The commit that came first discards ours when it arrives; of a server that lies, none comes.
            staged.submitted, staged.put_off = False, True
            self._put_off_until(lambda: conversation.staged is not staged)
            self._waiting.tell_long(refused, self._backoff)
            return
        if refused.code == "stale-epoch":  # none may come behind a gap: what leads on from our epoch is gone, too
            if self._stale_in_gap:
                standstill.cut_off(conversation)
            self._stale_in_gap, staged.submitted = True, False
            self._backoff.wait()
            return
        if refused.code == "wrong-number":
            staged.submitted = False  # and kept: the log may bring it yet
            self._waiting.tell_other_number(staged.number)
            self._backoff.wait()
            return
        if refused.code in RETRYABLE:
            staged.submitted, staged.put_off = False, True
            self._backoff.wait(refused.retry_after / 1000)
            self._waiting.tell_long(refused, self._backoff)
            return
        if refused.code == "not-found":
            staged.submitted = False
            self._waiting.tell_denied()
            self._backoff.wait()
            return
        removed = {leaf for leaf, _ in staged.commit.public.removed} if staged.commit is not None else set()
        conversation.unstage()
        if isinstance(staged.request, Commit):
            self._vault.refused.add(conversation.id, staged.request.commit)
        if refused.code == "old-certificate" and self._fetch_again():
            self._backoff.wait()
        elif refused.code == "commit-first" or not conversation.departed <= removed:
            self._backoff.wait()  # somebody has left meanwhile: the next commit removes them, too
            self._waiting.tell_long(refused, self._backoff)
        else:
            self._drop_changes(refused.code, refused.text)

    def _fetch_again(self) -> bool:
        """Forget the key packages of those who are to be added, so that newer ones are fetched; False: often enough."""
        self._fetched_again += 1
        for change in self._vault.changes.load(self._conversation.id):
            if change.action in ("add", "replace"):
                self._vault.changes.save_package(change.id, b"")
        return self._fetched_again <= MAX_FETCHED_AGAIN

    def _drop_changes(self, code: str, text: str) -> None:
        """The commit is impossible: find out which change is to blame, tell the user, and do not try it again."""
        changes = self._vault.changes.load(self._conversation.id)
        self._context.touched.add(self._conversation.id)
        if len(changes) > 1 and not self._one_by_one:
            self._one_by_one = True
            return
        if changes:
            self._drop(changes[0], code, text)
        else:
            self._backoff.wait()
            row = self._conversation.row
            self._waiting.tell(events.Delayed(row.id, code, _REFUSED.format(row.name, sentence(text))))

    def _drop(self, change: ChangeRow, code: str, text: str) -> None:
        self._vault.changes.delete(change.id)
        self._context.answers.refuse(("change", change.id), code, text)
