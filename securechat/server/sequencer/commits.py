"""Commits: exactly one per epoch is accepted (docs/design.md, section 5, Commits).

A commit is examined twice. In one turn: is it a retry, is it possible at all? Then a validation worker checks it
against the immutable group of the present epoch. Its result comes back as an operation and is examined in another turn,
because the conversation may have moved on.
"""

from collections.abc import Callable, Iterable, Sequence

from securechat import policy
from securechat.errors import RefusedError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.statements import Statement
from securechat.mls.framing import Header, SenderType
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.conversation import HAND_BACK_SECONDS, Conversation, Conversations
from securechat.server.sequencer.directory import Directory
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.heirs import Heirs
from securechat.server.sequencer.inboxes import Inboxes
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.numbers import check_header, is_next, read_commit_header
from securechat.server.sequencer.operations import CommitChecked
from securechat.server.sequencer.room_names import RoomNames
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Checked, Validator
from securechat.server.store.port import ConversationStore
from securechat.server.store.records import Checkpoint, Head, InboxEntry, LogEntry, Membership, Who
from securechat.wire.messages import Commit


def accepts_commit(head: int, epoch: int) -> bool:
    """Whether a commit made in `epoch` leads on from the log's epoch, `head`: one is accepted in each."""
    return head == epoch


class Commits:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        inboxes: Inboxes,
        conversations: Conversations,
        names: RoomNames,
        groups: Groups,
        leases: Leases,
        directory: Directory,
        heirs: Heirs,
        budgets: Budgets,
        validator: Validator,
        checks: Checks,
        accepts: Callable[[int, int], bool],
    ) -> None:
        self._turn = turn
        self._store = store
        self._inboxes = inboxes
        self._conversations = conversations
        self._names = names
        self._groups = groups
        self._leases = leases
        self._directory = directory
        self._heirs = heirs
        self._budgets = budgets
        self._validator = validator
        self._checks = checks
        self._accepts = accepts

    def commit(self, session: Session, request: Commit) -> None:
        """Handle `Commit`."""
        header = read_commit_header(request.commit)  # first: a broken one gets the same refusal everywhere
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_commit(conversation, session, request, header):
            return
        self._leases.hold(conversation, session)
        group, departed, words = conversation.group, conversation.departed_leaves, conversation.words
        revocations = conversation.revocations
        time, opening = self._turn.time_in(conversation.head), conversation.head.group_info

        def work() -> CommitChecked:
            current = group if group is not None else self._groups.restore_at(request.conversation, header.epoch)
            checked = self._validator.commit(
                current,
                departed,
                words,
                revocations,
                commit=request.commit,
                welcome=request.welcome,
                group_info=request.group_info,
                time=time,
            )
            return CommitChecked(request, header, checked, opening)

        self._checks.check(session, request, work)

    def commit_checked(self, session: Session, checked: CommitChecked) -> bool:
        """Append a commit that has passed the checks, unless the conversation has moved on; False: it was a retry.

        Where it raises RefusedError, `rejected` has to be called.
        """
        request, staged = checked.request, checked.checked.staged
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_commit(conversation, session, request, checked.header):
            return False
        head = conversation.head
        if checked.header.epoch == head.epoch and checked.opening != head.group_info:  # the epoch of another branch
            raise self._leases.refuse_stale(conversation, session.who)
        known = (checked.checked.departed, checked.checked.words, checked.checked.revocations)
        if known != (conversation.departed_leaves, conversation.words, conversation.revocations):
            raise RefusedError("commit-first", "somebody has left meanwhile: process that, commit again")
        committer = certificate_of(staged.committer)
        if committer.who != session.who:
            raise RefusedError("invalid-commit", "the commit is of another device")
        self.check_known(staged)
        self.check_inboxes(session.account, checked.checked, request.welcome)
        self._budgets.spend(conversation, session, request.number, checked.checked)
        if checked.checked.rules.name != checked.checked.before.name:
            self._names.claim(checked.checked.rules, request.conversation)

        external = staged.sender.type == SenderType.NEW_MEMBER_COMMIT
        out = removed_by(staged)
        run = self._turn.run(conversation, session)
        time = checked.checked.time
        entry = run.add(
            request.id, request.commit, staged.after.epoch, time,
            group_info=request.group_info, joins=external, last_for=out,
        )  # fmt: skip
        self.bring_in(conversation, entry, checked.checked, request.welcome)
        self._leases.accepted(conversation, session.who)
        return True

    def bring_in(self, conversation: Conversation, entry: LogEntry, checked: Checked, welcome: bytes) -> None:
        """Bring an appended commit into force, whoever handed it in."""
        staged, head = checked.staged, conversation.head
        committer = certificate_of(staged.committer)
        removed = [certificate_of(leaf) for _, leaf in staged.removed]
        self._store.drop_departed(head.id, [each.device_id for each in removed if each.device_id in head.departed])
        self._store.drop_deleted(head.id, [each.device_id for each in removed if each.device_id in head.deleted])
        for each in removed:
            head.departed.pop(each.device_id, None)
            head.deleted.pop(each.device_id, None)
            member = head.place(each.who)
            if member is not None and member.last_seq is None and each.who != committer.who:
                member.last_seq = entry.seq
                self._store.put_members(head.id, [member])
        if head.words:
            due = {word.seq for word in policy.still_due(staged, checked.words)}
            done = [seq for seq in head.words if seq not in due]
            self._store.drop_words(head.id, done)
            for seq in done:
                del head.words[seq]
        if head.revocations:
            self._settle_revocations(head, staged.after, checked.revocations)
        head.group_info = entry.group_info
        self._follow_leaf(head, certificate_of(staged.after.member(staged.committer_leaf)))
        if staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
            self.admit(conversation, entry, [committer])
        if head.kind != "direct":
            self._names.follow(head, checked)
        self.apply(conversation, entry, checked, welcome)
        conversation.lease_queue.offered.clear()  # every offer was for the epoch before

    def _follow_leaf(self, head: Head, certificate: DeviceCertificate) -> None:
        """Note which certificate a member has in its leaf by now; who comes back gets a new place all the same."""
        member = head.place(certificate.who)
        if member is not None and member.leaf_seq != certificate.seq:
            member.leaf_seq = certificate.seq
            self._store.put_members(head.id, [member])

    def _settle_revocations(self, head: Head, after: PublicGroup, revocations: Sequence[Statement]) -> None:
        """Forget the statements that wait no more, and note whose leaf has gone."""
        left = {each.encode(): each for each in policy.still_revoked(after, revocations)}
        over = [seq for seq, statement in head.revocations.items() if statement not in left]
        self._store.drop_revocations(head.id, over)
        for seq in over:
            del head.revocations[seq]
        head.leafless &= head.revocations.keys()
        for seq, statement in head.revocations.items():
            if seq not in head.leafless and not policy.revoked_leaves(after, [left[statement]]):
                head.leafless.add(seq)
                self._store.put_revocation(head.id, seq, statement, leafless=True)

    def rejected(self, session: Session, conversation_id: bytes) -> None:
        """Give the lease of a device whose commit came to nothing to the next one: so far it had no end."""
        conversation = self._conversations.loaded(conversation_id)
        if conversation is not None:
            self._leases.release(conversation, session.who)

    def _may_commit(self, conversation: Conversation, session: Session, request: Commit, header: Header) -> bool:
        """Whether a commit may be tried. Answers a retry; raises RefusedError if it is impossible."""
        head = conversation.head
        external = header.sender is not None and header.sender.type == SenderType.NEW_MEMBER_COMMIT
        if not external:
            conversation.member(session)
        elif head.kind != "open":
            self._heirs.membership(conversation, session)
        number, commit, group_info = request.number, request.commit, request.group_info
        if not is_next(self._turn, conversation, session, request.id, number, commit, group_info, joins=external):
            return False
        check_header(header, head.id, number)
        if not self._accepts(head.epoch, header.epoch):
            self._leases.release(conversation, session.who)
            raise self._leases.refuse_stale(conversation, session.who)
        if (wait := conversation.closed_until - self._turn.now) > 0:
            # Whoever comes back last ends it early, so nobody is told to wait for longer than that takes.
            wait = min(wait, HAND_BACK_SECONDS)
            raise RefusedError("not-now", "changes that the server has lost are handed back", retry_after=wait)
        session.quota.take_change(2 * len(commit + group_info) + len(request.welcome), self._turn.now)
        self._leases.check(conversation, session.who)
        if external:
            self._leases.check_offer(conversation, session.who)
        return True

    def apply(self, conversation: Conversation, entry: LogEntry, checked: Checked, welcome: bytes) -> None:
        """Bring an appended commit into force."""
        staged, head = checked.staged, conversation.head
        account = certificate_of(staged.committer).account
        self._store.save_commit(head, entry, checked.snapshot, account)
        departed = tuple((each.proposal, each.state) for each in head.departed.values())
        if checked.is_checkpoint:
            checkpoint = Checkpoint(
                account, entry.seq, entry.time, entry.chain, head.group_info, checked.tree, departed,
                tuple(head.revocations.values()),
            )  # fmt: skip
            self._store.put_checkpoint(head.id, checkpoint)
        added = [certificate_of(leaf) for _, leaf in staged.added]
        self.admit(conversation, entry, added)
        if welcome:
            devices = [certificate.who for certificate in added]
            inbox_entry = InboxEntry(
                0, entry.time, head.id, entry.seq, entry.chain, welcome, checked.tree, departed,
                tuple(head.revocations.values()),
            )  # fmt: skip
            self._inboxes.deliver(inbox_entry, devices, account)
        conversation.set_group(staged.after, checked.tree)

    def admit(self, conversation: Conversation, entry: LogEntry, who: Iterable[DeviceCertificate]) -> None:
        """Make devices members from this entry on.

        One that is a member, and enters again by itself, keeps its place: what lay before is as much its own as before.
        Else whoever has copied its vault could cut it off from the log, where it learns of that.
        """
        members = [
            Membership(
                each.device_id, each.account, entry.seq, entry.chain, None, entry.seq, each.identity_key, each.seq
            )
            for each in who
            if not _stays(conversation.head.place(each.who), each)
        ]
        conversation.head.members.update((member.device, member) for member in members)
        self._store.put_members(conversation.head.id, members)

    def check_inboxes(self, account: str, checked: Checked, welcome: bytes) -> None:
        """Raise RefusedError unless those whom a commit adds can get its Welcome."""
        added = [certificate_of(leaf) for _, leaf in checked.staged.added]
        self._inboxes.check(account, added, len(welcome) + len(checked.tree))

    def check_known(self, staged: PublicStagedCommit) -> None:
        """Raise RefusedError unless the directory has all devices, and every certificate that comes into a leaf.

        Whoever commits may keep the one that it has there: it renews its leaves one conversation after the other.
        """
        committer, path = certificate_of(staged.committer), certificate_of(staged.after.member(staged.committer_leaf))
        coming = [certificate_of(leaf) for _, leaf in staged.added]
        if path != committer or staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
            coming.append(path)
        if (unknown := self._directory.unknown([committer, *coming])) is not None:
            text = f"a device of {unknown.account} is not in the directory, or not any more"
            raise RefusedError("invalid-commit", text)
        if (out := next((each for each in coming if not self._directory.is_enabled(each.account)), None)) is not None:
            raise RefusedError("invalid-commit", f"the operator has disabled the account {out.account}")
        if (other := self._directory.unpublished(coming)) is not None:
            text = f"the certificate of {other.account} is not the one that this device has published"
            raise RefusedError("old-certificate", text)


def _stays(member: Membership | None, certificate: DeviceCertificate) -> bool:
    return member is not None and member.last_seq is None and member.identity_key == certificate.identity_key


def removed_by(staged: PublicStagedCommit) -> tuple[Who, ...]:
    """Return the devices that a commit puts out; its maker, who comes back, is none of them."""
    committer = certificate_of(staged.committer).who
    removed = (certificate_of(leaf).who for _, leaf in staged.removed)
    return tuple(who for who in removed if who != committer)
