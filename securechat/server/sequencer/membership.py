"""Who is in a conversation: founding, commits, leaving (design, section 6). What is expensive is done by workers.

Each request passes twice. First it is looked at: is it a retry, is it possible at all? Then a validation worker checks
it against the immutable group of the present epoch; its result comes back as an operation and is looked at again, for
the conversation may have moved on. Exactly one commit per epoch gets through.
"""

from collections.abc import Callable, Iterable

from securechat.errors import DecodeError, RefusedError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import ContentType, Header, SenderType, WireFormat, read_header
from securechat.mls.leaf_node import LeafNode
from securechat.mls.public_group import PublicGroup
from securechat.server.sequencer.conversation import Conversation, Conversations, not_found
from securechat.server.sequencer.directory import Directory
from securechat.server.sequencer.leases import Entrances
from securechat.server.sequencer.operations import (
    CommitChecked,
    DepartureChecked,
    DirectChecked,
    GroupRead,
    RoomChecked,
)
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Checked, Validator
from securechat.server.store.port import Departed, Head, Letter, LogEntry, Membership, Store
from securechat.wire.chain import CHAIN_START
from securechat.wire.messages import (
    Accepted,
    Commit,
    Done,
    Leave,
    OpenDirect,
    OpenRoom,
    Refused,
    Request,
)


class Memberships:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: Store,
        conversations: Conversations,
        entrances: Entrances,
        reading: Reading,
        directory: Directory,
        validator: Validator,
        check: Callable[[Session, Request, Callable[[], object]], None],
        load: Callable[[Callable[[], object]], None],
    ) -> None:
        """`check(session, request, work)` has a worker do `work`, whose result comes back as an operation, or whose
        PeerError refuses the request; `load(work)` does so for nobody in particular.
        """
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._entrances = entrances
        self._reading = reading
        self._directory = directory
        self._validator = validator
        self._check = check
        self._load = load

    # --- numbers and epochs, for messages as well -------------------------------------------------------------------

    def check_number(
        self, conversation: Conversation, session: Session, request: int, number: int, payload: bytes
    ) -> bool:
        """Whether `number` is the device's next one. Answers a retry itself, and raises RefusedError otherwise."""
        numbers = conversation.head.numbers.get(session.device)
        last = numbers.last if numbers is not None else 0
        if number == last + 1:
            return True
        head = conversation.head
        found = numbers.answer(head.id, session.device, number, payload) if numbers is not None else None
        if found is None:
            raise RefusedError("wrong-number", f"the last number of this device here is {last}")
        seq, time = found
        member = conversation.head.members.get(session.device)
        chain = member.join_chain if member is not None and member.join_seq == seq else b""
        self._turn.answer(session, Accepted(request, conversation.head.id, number, seq, time, chain))
        return False

    def refuse_stale(self, conversation: Conversation, session: Session) -> RefusedError:
        """The refusal of a submission whose epoch has passed."""
        self._entrances.strike(conversation, session.device)
        return RefusedError("stale-epoch", f"the conversation is in epoch {conversation.head.epoch}")

    # --- founding ---------------------------------------------------------------------------------------------------

    def open_room(self, session: Session, request: OpenRoom) -> None:
        """Handle `OpenRoom`."""
        creator = self._directory.certificate(session)
        now = self._turn.time // 1000

        def work() -> RoomChecked:
            founded = self._validator.founding(request.founding, creator, now)
            self._validator.current_group_info(founded.group, request.group_info)
            return RoomChecked(request, founded)

        if not self._is_retry_of_room(session, request):
            self._check(session, request, work)

    def room_checked(self, session: Session, checked: RoomChecked) -> None:
        """Make a room whose founding is as it should be."""
        request, founded = checked.request, checked.founded
        if self._is_retry_of_room(session, request):
            return
        rules = founded.rules
        if founded.group.group_id != request.conversation or rules.kind == "direct":
            raise RefusedError("invalid-commit", "the group is not that of a room with this id")
        if self._directory.unknown([certificate_of(next(leaf for _, leaf in founded.group.members()))]) is not None:
            raise RefusedError("not-now", "publish this device first")
        if self._store.room(rules.name) is not None:
            raise RefusedError("exists", f"there is a room {rules.name}")
        head = Head(
            request.conversation, rules.kind, rules.name, 0, self._turn.time, 0, CHAIN_START, request.group_info
        )
        head.members[session.device] = Membership(session.device, session.account, 0, CHAIN_START, None, 0)
        self._create(head, None, founded.snapshot).set_group(founded.group, founded.tree)
        self._turn.answer(session, Done(request.id))

    def _is_retry_of_room(self, session: Session, request: OpenRoom) -> bool:
        """Whether this device has made the room already; answers then. Raises RefusedError if the id is taken."""
        conversation = self._conversations.get(request.conversation)
        if conversation is None:
            return False
        member = conversation.head.members.get(session.device)
        if conversation.head.kind == "direct" or member is None or member.join_seq != 0:
            raise RefusedError("bad-request", "this conversation id is taken; choose another one")
        self._turn.answer(session, Done(request.id))
        return True

    def open_direct(self, session: Session, request: OpenDirect) -> None:
        """Handle `OpenDirect`."""
        creator = self._directory.certificate(session)
        if request.peer == session.account:
            raise RefusedError("not-allowed", "a direct conversation is with somebody else")
        if self._is_answered(session, request):
            return
        _check_header(read_commit_header(request.commit), request.conversation, 1)
        time = self._turn.time

        def work() -> DirectChecked:
            founded = self._validator.founding(request.founding, creator, time // 1000)
            checked = self._validator.commit(
                founded.group,
                frozenset(),
                commit=request.commit,
                welcome=request.welcome,
                group_info=request.group_info,
                time=time,
            )
            self._validator.opening(checked, request.peer)
            return DirectChecked(request, founded, checked)

        self._check(session, request, work)

    def direct_checked(self, session: Session, checked: DirectChecked) -> None:
        """Make a direct conversation whose founding and first commit are as they should be."""
        request, staged = checked.request, checked.checked.staged
        if self._is_answered(session, request):
            return
        if checked.founded.rules.kind != "direct" or staged.before.group_id != request.conversation:
            raise RefusedError("invalid-commit", "the group is not that of a direct conversation with this id")
        self._check_known(staged.committer, *(leaf for _, leaf in staged.added))
        time = checked.checked.time
        head = Head(request.conversation, "direct", "", 0, time, 0, CHAIN_START, request.group_info)
        conversation = self._create(head, _pair(session.account, request.peer), checked.founded.snapshot)
        run = self._turn.run(conversation, session)
        entry = run.add(request.id, request.commit, staged.after.epoch, time, joins=True)
        self._admit(conversation, entry, [(session.device, session.account)])
        self._apply(conversation, entry, checked.checked, request.welcome)

    def _is_answered(self, session: Session, request: OpenDirect) -> bool:
        """Whether it is a retry, or the two have a direct conversation; answers then."""
        conversation = self._conversations.get(request.conversation)
        if conversation is not None:
            if session.device not in conversation.head.members:
                raise RefusedError("bad-request", "this conversation id is taken; choose another one")
            if self.check_number(conversation, session, request.id, 1, request.commit):
                raise RefusedError("bad-request", "this conversation id is taken; choose another one")
            return True
        existing = self._store.pair(_pair(session.account, request.peer))
        if existing is None or not self._is_alive(existing, session.account, request.peer):
            return False
        text = f"there is a direct conversation with {request.peer}"
        self._turn.answer(session, Refused(request.id, "exists", text, existing))
        return True

    def _is_alive(self, conversation_id: bytes, *accounts: str) -> bool:
        """Whether both accounts have a published device in the conversation, and nobody has left it."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.head.departed:
            return False
        inside = {member.account for member in conversation.present if self._store.device(member.device) is not None}
        return inside.issuperset(accounts)

    def _create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> Conversation:
        conversation = Conversation(head)
        self._conversations.add(conversation)
        self._conversations.touch(conversation)
        self._store.create(head, pair, snapshot)
        return conversation

    # --- commits ----------------------------------------------------------------------------------------------------

    def commit(self, session: Session, request: Commit) -> None:
        """Handle `Commit`."""
        read_commit_header(request.commit)  # first: a broken one is refused in the same words wherever it is for
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_commit(conversation, session, request):
            return
        self._entrances.hold(conversation, session)
        group, departed = conversation.group, conversation.departed_leaves
        time = max(self._turn.time, conversation.head.time)  # a log's time does not follow a clock that is set back

        def work() -> CommitChecked:
            current = group if group is not None else self._restore(request.conversation)
            checked = self._validator.commit(
                current,
                departed,
                commit=request.commit,
                welcome=request.welcome,
                group_info=request.group_info,
                time=time,
            )
            return CommitChecked(request, checked)

        self._check(session, request, work)

    def commit_checked(self, session: Session, checked: CommitChecked) -> bool:
        """Append a commit that is as it should be, unless the conversation has moved on; False: it was there."""
        request, staged = checked.request, checked.checked.staged
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_commit(conversation, session, request):
            return False
        try:
            if checked.checked.departed != conversation.departed_leaves:
                raise RefusedError("commit-first", "somebody has left meanwhile: process that, commit again")
            committer = certificate_of(staged.committer)
            if (committer.account, committer.device_id) != (session.account, session.device):
                raise RefusedError("invalid-commit", "the commit is of another device")
            self._check_known(staged.committer, *(leaf for _, leaf in staged.added))
        except RefusedError:
            self._entrances.release(conversation, session.device)  # it is held without end while a commit is checked
            raise

        external = staged.sender.type == SenderType.NEW_MEMBER_COMMIT
        removed = [certificate_of(leaf).device_id for _, leaf in staged.removed]
        head = conversation.head
        out = tuple(device for device in removed if device != session.device)
        run = self._turn.run(conversation, session)
        entry = run.add(request.id, request.commit, staged.after.epoch, checked.checked.time, joins=external, gone=out)
        self._store.drop_departed(head.id, [device for device in removed if device in head.departed])
        for device in removed:
            head.departed.pop(device, None)
            member = head.members.get(device)
            if member is not None and member.last_seq is None and device != session.device:
                member.last_seq = entry.seq
                self._store.put_members(head.id, [member])
        head.group_info = request.group_info
        if external:
            self._admit(conversation, entry, [(session.device, session.account)])
        self._apply(conversation, entry, checked.checked, request.welcome)
        conversation.entrance.offered.clear()  # every offer was for the epoch before
        self._entrances.accepted(conversation, session.device)
        return True

    def rejected(self, session: Session, conversation_id: bytes) -> None:
        """A worker found fault with a device's commit: its lease, if it has one, goes to the next."""
        conversation = self._conversations.loaded(conversation_id)
        if conversation is not None:
            self._entrances.release(conversation, session.device)

    def _may_commit(self, conversation: Conversation, session: Session, request: Commit) -> bool:
        """Whether a commit may be tried; answers retries, raises RefusedError otherwise."""
        head = conversation.head
        header = read_commit_header(request.commit)
        member = head.members.get(session.device)
        external = header.sender is not None and header.sender.type == SenderType.NEW_MEMBER_COMMIT
        if (member is None or member.last_seq is not None) and not (external and head.kind == "open"):
            raise not_found()
        if not self.check_number(conversation, session, request.id, request.number, request.commit):
            return False
        _check_header(header, head.id, request.number)
        if header.epoch != head.epoch:
            self._entrances.release(conversation, session.device)
            raise self.refuse_stale(conversation, session)
        self._entrances.check(conversation, session.device)
        if external:
            self._entrances.check_offer(conversation, session.device)
        return True

    def _apply(self, conversation: Conversation, entry: LogEntry, checked: Checked, welcome: bytes) -> None:
        """Let a commit that has been appended take effect."""
        staged, head = checked.staged, conversation.head
        self._store.save_commit(head, entry, checked.snapshot)
        if welcome:
            added = [certificate_of(leaf) for _, leaf in staged.added]
            devices = [certificate.device_id for certificate in added]
            self._admit(conversation, entry, [(each.device_id, each.account) for each in added])
            departed = tuple((gone.proposal, gone.group_context) for gone in head.departed.values())
            letter = Letter(0, entry.time, head.id, entry.seq, entry.chain, welcome, checked.tree, departed)
            self._store.deliver(letter, devices)
            self._turn.after(lambda: self._reading.notify_inboxes(devices))
        conversation.set_group(staged.after, checked.tree)

    def _admit(self, conversation: Conversation, entry: LogEntry, who: Iterable[tuple[bytes, str]]) -> None:
        """Make devices, each with its account, members from this entry on."""
        members = [Membership(device, account, entry.seq, entry.chain, None, entry.seq) for device, account in who]
        conversation.head.members.update((member.device, member) for member in members)
        self._store.put_members(conversation.head.id, members)

    def _check_known(self, *leaves: LeafNode) -> None:
        if (unknown := self._directory.unknown([certificate_of(leaf) for leaf in leaves])) is not None:
            text = f"a device of {unknown.account} is not in the directory, or not any more"
            raise RefusedError("invalid-commit", text)

    # --- groups -----------------------------------------------------------------------------------------------------

    def load_group(self, conversation: Conversation) -> None:
        """Have a worker rebuild the group; `group_read` gets it."""
        if conversation.loading:
            return
        conversation.loading = True
        conversation_id = conversation.head.id

        def work() -> GroupRead:
            group = self._restore(conversation_id)
            return GroupRead(conversation_id, group, group.tree.encode())

        self._load(work)

    def group_read(self, result: GroupRead) -> None:
        """A worker has rebuilt a group."""
        conversation = self._conversations.loaded(result.conversation)
        if conversation is None:
            return
        conversation.loading = False
        if conversation.group is None and result.group.epoch == conversation.head.epoch:
            conversation.set_group(result.group, result.tree)
        self._entrances.offer(conversation)

    def _restore(self, conversation: bytes) -> PublicGroup:
        """On a worker's thread."""
        stored = self._store.read_group(conversation)
        if stored is None:
            raise DecodeError("the conversation is gone")
        return self._validator.restore(*stored)

    # --- leaving ----------------------------------------------------------------------------------------------------

    def leave(self, session: Session, request: Leave) -> None:
        """Handle `Leave`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_leave(conversation, session, request):
            return
        group = conversation.group

        def work() -> DepartureChecked:
            current = group if group is not None else self._restore(request.conversation)
            return DepartureChecked(request, self._validator.departure(current, request.proposal), current)

        self._check(session, request, work)

    def departure_checked(self, session: Session, checked: DepartureChecked) -> None:
        """Append a departure that is as it should be."""
        request = checked.request
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if not self._may_leave(conversation, session, request):
            return
        certificate = certificate_of(checked.group.member(checked.leaf))
        if (certificate.account, certificate.device_id) != (session.account, session.device):
            raise RefusedError("not-allowed", "a device can only take itself out")
        head = conversation.head
        run = self._turn.run(conversation, session)
        time = max(self._turn.time, head.time)
        entry = run.add(request.id, request.proposal, head.epoch, time, gone=(session.device,))
        member = head.members[session.device]
        member.last_seq = entry.seq
        self._store.put_members(head.id, [member])
        departed = Departed(session.device, checked.leaf, request.proposal, checked.group.context.encode())
        head.departed[session.device] = departed
        self._store.put_departed(head.id, departed)
        self._entrances.accepted(conversation, session.device)
        if not conversation.present:  # the last one out
            self._store.delete(head.id)
            self._conversations.remove(conversation)
            self._turn.after(lambda: self._entrances.close(conversation))

    def _may_leave(self, conversation: Conversation, session: Session, request: Leave) -> bool:
        if session.device not in conversation.head.members:
            raise not_found()
        if not self.check_number(conversation, session, request.id, request.number, request.proposal):
            return False
        conversation.member(session)
        header = _read_header(request.proposal)
        if header.wire_format != WireFormat.PUBLIC_MESSAGE or header.content_type != ContentType.PROPOSAL:
            raise RefusedError("bad-request", "a device leaves by a proposal")
        _check_header(header, conversation.head.id, request.number)
        if header.epoch != conversation.head.epoch:
            raise self.refuse_stale(conversation, session)
        return True


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def _read_header(payload: bytes) -> Header:
    try:
        return read_header(payload)
    except DecodeError as error:
        raise RefusedError("bad-request", str(error)) from None


def read_commit_header(commit: bytes) -> Header:
    """Return the header of a commit, or raise RefusedError."""
    header = _read_header(commit)
    if header.wire_format != WireFormat.PUBLIC_MESSAGE or header.content_type != ContentType.COMMIT:
        raise RefusedError("invalid-commit", "a commit is a PublicMessage")
    return header


def _check_header(header: Header, conversation: bytes, number: int) -> None:
    """Raise RefusedError unless the message is for this conversation and carries its number.

    A departure names its leaf behind the number; `policy.check_departure` checks that.
    """
    if header.group_id != conversation:
        raise RefusedError("bad-request", "the message is for another group")
    data = header.authenticated_data
    if (data[:8] if header.content_type == ContentType.PROPOSAL else data) != number.to_bytes(8, "big"):
        raise RefusedError("wrong-number", "the number inside the message is another one")


def explain_application(payload: bytes, conversation: Conversation, number: int) -> str | None:
    """Say why an application message does not begin as it should; None: its epoch is another one."""
    header = _read_header(payload)
    if header.wire_format != WireFormat.PRIVATE_MESSAGE or header.content_type != ContentType.APPLICATION:
        raise RefusedError("bad-request", "an application message is a PrivateMessage")
    _check_header(header, conversation.head.id, number)
    return None if header.epoch != conversation.head.epoch else "the message does not begin as it should"
