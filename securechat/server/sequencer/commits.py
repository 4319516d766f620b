"""Commits: exactly one per epoch is accepted (docs/design.md, section 5, Commits).

A commit is examined twice. In one turn: is it a retry, is it possible at all? Then a validation worker checks it
against the immutable group of the present epoch. Its result comes back as an operation and is examined in another turn,
because the conversation may have moved on.
"""

from collections.abc import Iterable

from securechat import policy
from securechat.errors import RefusedError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import Header, SenderType
from securechat.mls.leaf_node import LeafNode
from securechat.mls.public_group import PublicStagedCommit
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.conversation import Conversation, Conversations, not_found
from securechat.server.sequencer.directory import Directory
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.numbers import check_header, is_next, read_commit_header
from securechat.server.sequencer.operations import CommitChecked
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.room_names import RoomNames
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Checked, Validator
from securechat.server.store.port import ConversationStore, InboxStore
from securechat.server.store.records import Checkpoint, InboxEntry, LogEntry, Membership
from securechat.wire.messages import Commit


class Commits:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        inboxes: InboxStore,
        conversations: Conversations,
        names: RoomNames,
        groups: Groups,
        leases: Leases,
        reading: Reading,
        directory: Directory,
        budgets: Budgets,
        validator: Validator,
        checks: Checks,
    ) -> None:
        self._turn = turn
        self._store = store
        self._inboxes = inboxes
        self._conversations = conversations
        self._names = names
        self._groups = groups
        self._leases = leases
        self._reading = reading
        self._directory = directory
        self._budgets = budgets
        self._validator = validator
        self._checks = checks

    def commit(self, session: Session, request: Commit) -> None:
        """Handle `Commit`."""
        header = read_commit_header(request.commit)  # first: a broken one gets the same refusal everywhere
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_commit(conversation, session, request, header):
            return
        self._leases.hold(conversation, session)
        group, departed, words = conversation.group, conversation.departed_leaves, conversation.words
        time = self._turn.time_in(conversation.head)

        def work() -> CommitChecked:
            current = group if group is not None else self._groups.restore(request.conversation)
            checked = self._validator.commit(
                current,
                departed,
                words,
                commit=request.commit,
                welcome=request.welcome,
                group_info=request.group_info,
                time=time,
            )
            return CommitChecked(request, header, checked)

        self._checks.check(session, request, work)

    def commit_checked(self, session: Session, checked: CommitChecked) -> bool:
        """Append a commit that has passed the checks, unless the conversation has moved on; False: it was a retry."""
        request, staged = checked.request, checked.checked.staged
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_commit(conversation, session, request, checked.header):
            return False
        try:
            known = (checked.checked.departed, checked.checked.words)
            if known != (conversation.departed_leaves, conversation.words):
                raise RefusedError("commit-first", "somebody has left meanwhile: process that, commit again")
            committer = certificate_of(staged.committer)
            if (committer.account, committer.device_id) != (session.account, session.device):
                raise RefusedError("invalid-commit", "the commit is of another device")
            self.check_known(staged.committer, *(leaf for _, leaf in staged.added))
            self._budgets.spend(conversation, session, request.number, checked.checked)
            if checked.checked.rules.name != checked.checked.before.name:
                self._names.claim(checked.checked.rules)
        except RefusedError:
            self._leases.release(conversation, session.device)  # while a commit is checked, the lease has no end
            raise

        external = staged.sender.type == SenderType.NEW_MEMBER_COMMIT
        out = removed_by(staged)
        run = self._turn.run(conversation, session)
        time = checked.checked.time
        entry = run.add(
            request.id, request.commit, staged.after.epoch, time,
            group_info=request.group_info, joins=external, last_for=out,
        )  # fmt: skip
        self.bring_in(conversation, entry, checked.checked, request.welcome)
        self._leases.accepted(conversation, session.device)
        return True

    def bring_in(self, conversation: Conversation, entry: LogEntry, checked: Checked, welcome: bytes) -> None:
        """Bring an appended commit into force, whoever handed it in."""
        staged, head = checked.staged, conversation.head
        committer = certificate_of(staged.committer)
        removed = [certificate_of(leaf).device_id for _, leaf in staged.removed]
        self._store.drop_departed(head.id, [device for device in removed if device in head.departed])
        for device in removed:
            head.departed.pop(device, None)
            member = head.members.get(device)
            if member is not None and member.last_seq is None and device != committer.device_id:
                member.last_seq = entry.seq
                self._store.put_members(head.id, [member])
        if head.words:
            due = {word.seq for word in policy.still_due(staged, checked.words)}
            done = [seq for seq in head.words if seq not in due]
            self._store.drop_words(head.id, done)
            for seq in done:
                del head.words[seq]
        head.group_info = entry.group_info
        if staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
            self.admit(conversation, entry, [(committer.device_id, committer.account)])
        if head.kind != "direct":
            self._names.follow(head, checked)
        self.apply(conversation, entry, checked, welcome)
        conversation.lease_queue.offered.clear()  # every offer was for the epoch before

    def rejected(self, session: Session, conversation_id: bytes) -> None:
        """Give the lease of a device, with whose commit a worker found fault, to the next one."""
        conversation = self._conversations.loaded(conversation_id)
        if conversation is not None:
            self._leases.release(conversation, session.device)

    def _may_commit(self, conversation: Conversation, session: Session, request: Commit, header: Header) -> bool:
        """Whether a commit may be tried. Answers a retry; raises RefusedError if it is impossible."""
        head = conversation.head
        member = head.members.get(session.device)
        external = header.sender is not None and header.sender.type == SenderType.NEW_MEMBER_COMMIT
        if (member is None or member.last_seq is not None) and not (external and head.kind == "open"):
            raise not_found()
        number, commit, group_info = request.number, request.commit, request.group_info
        if not is_next(self._turn, conversation, session, request.id, number, commit, group_info):
            return False
        check_header(header, head.id, number)
        if header.epoch != head.epoch:
            self._leases.release(conversation, session.device)
            raise self._leases.refuse_stale(conversation, session.device)
        if (wait := conversation.closed_until - self._turn.now) > 0:
            raise RefusedError("not-now", "changes that the server has lost are handed back", retry_after=wait)
        self._leases.check(conversation, session.device)
        if external:
            self._leases.check_offer(conversation, session.device)
        return True

    def apply(self, conversation: Conversation, entry: LogEntry, checked: Checked, welcome: bytes) -> None:
        """Bring an appended commit into force."""
        staged, head = checked.staged, conversation.head
        self._store.save_commit(head, entry, checked.snapshot)
        departed = tuple((each.proposal, each.group_context) for each in head.departed.values())
        if checked.is_checkpoint:
            account, info = certificate_of(staged.committer).account, head.group_info
            checkpoint = Checkpoint(account, entry.seq, entry.time, entry.chain, info, checked.tree, departed)
            self._store.put_checkpoint(head.id, checkpoint)
        added = [certificate_of(leaf) for _, leaf in staged.added]
        self.admit(conversation, entry, [(each.device_id, each.account) for each in added])
        if welcome:
            devices = [certificate.device_id for certificate in added]
            inbox_entry = InboxEntry(0, entry.time, head.id, entry.seq, entry.chain, welcome, checked.tree, departed)
            self._inboxes.deliver(inbox_entry, devices)
            self._turn.after(lambda: self._reading.notify_inboxes(devices))
        conversation.set_group(staged.after, checked.tree)

    def admit(self, conversation: Conversation, entry: LogEntry, who: Iterable[tuple[bytes, str]]) -> None:
        """Make devices, each with its account, members from this entry on."""
        members = [Membership(device, account, entry.seq, entry.chain, None, entry.seq) for device, account in who]
        conversation.head.members.update((member.device, member) for member in members)
        self._store.put_members(conversation.head.id, members)

    def check_known(self, *leaves: LeafNode) -> None:
        if (unknown := self._directory.unknown([certificate_of(leaf) for leaf in leaves])) is not None:
            text = f"a device of {unknown.account} is not in the directory, or not any more"
            raise RefusedError("invalid-commit", text)


def removed_by(staged: PublicStagedCommit) -> tuple[bytes, ...]:
    """Return the devices that a commit puts out; its maker, who comes back, is none of them."""
    committer = certificate_of(staged.committer).device_id
    removed = (certificate_of(leaf).device_id for _, leaf in staged.removed)
    return tuple(device for device in removed if device != committer)
