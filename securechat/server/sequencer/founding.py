"""How rooms and direct conversations begin (docs/design.md, section 6).

A request is examined twice: a validation worker checks the new group, and its result is examined in another turn,
because the name or the pair may have been taken meanwhile.
"""

from securechat.errors import RefusedError
from securechat.identity.certificate import certificate_of
from securechat.server.rates import Rates
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.commits import Commits
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.directory import Directory, published
from securechat.server.sequencer.memberships import check_founded, check_memberships
from securechat.server.sequencer.numbers import check_header, is_next, read_commit_header
from securechat.server.sequencer.operations import DirectChecked, RoomChecked
from securechat.server.sequencer.room_names import RoomNames
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Validator
from securechat.server.store.port import ConversationStore, DirectoryStore
from securechat.server.store.records import Head, Membership
from securechat.wire.chain import CHAIN_START
from securechat.wire.messages import Done, OpenDirect, OpenRoom, Refused


class Founding:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        devices: DirectoryStore,
        conversations: Conversations,
        names: RoomNames,
        directory: Directory,
        commits: Commits,
        validator: Validator,
        checks: Checks,
        rates: Rates,
    ) -> None:
        self._rates = rates
        self._turn = turn
        self._store = store
        self._devices = devices
        self._conversations = conversations
        self._names = names
        self._directory = directory
        self._commits = commits
        self._validator = validator
        self._checks = checks

    def open_room(self, session: Session, request: OpenRoom) -> None:
        """Handle `OpenRoom`."""
        creator = self._directory.certificate(session)
        now = self._turn.time // 1000

        def work() -> RoomChecked:
            founded = self._validator.founding(request.founding, creator, now)
            self._validator.current_group_info(founded.group, request.group_info)
            return RoomChecked(request, founded)

        if not self._is_retry_of_room(session, request):
            session.quota.take_change(len(request.founding + request.group_info), self._turn.now)
            self._check_founder(session)
            self._rates.rooms.take(session.account, self._turn.now)
            self._checks.check(session, request, work)

    def room_checked(self, session: Session, checked: RoomChecked) -> None:
        """Make a room whose founding has passed the checks."""
        request, founded = checked.request, checked.founded
        if self._is_retry_of_room(session, request):
            return
        rules = founded.rules
        if founded.group.group_id != request.conversation or rules.kind == "direct":
            raise RefusedError("invalid-commit", "the group is not that of a room with this id")
        founder = certificate_of(next(leaf for _, leaf in founded.group.members()))
        if self._directory.certificate(session) != founder:
            raise RefusedError("old-certificate", "this device has published a newer certificate meanwhile")
        self._check_founder(session)
        self._names.claim(rules, request.conversation)
        head = Head(
            request.conversation, rules.kind, rules.name, 0, self._turn.time, 0, CHAIN_START, request.group_info,
            topic=rules.topic, owner_time=self._turn.time if rules.owners else 0,
            founder=session.account if rules.owners else "",
        )  # fmt: skip
        head.members[session.device] = Membership(
            session.device, session.account, 0, CHAIN_START, None, 0, founder.identity_key, founder.seq
        )
        self._create(head, None, founded.snapshot).set_group(founded.group, founded.tree)
        self._turn.answer(session, Done(request.id))

    def _check_founder(self, session: Session) -> None:
        check_founded(self._store, session.account)
        check_memberships(self._store, session.account)

    def _is_retry_of_room(self, session: Session, request: OpenRoom) -> bool:
        """Whether this device has made the room already; then answers. Raises RefusedError if the id is taken."""
        conversation = self._conversations.get(request.conversation)
        if conversation is None:
            return False
        member = conversation.membership(session)
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
        check_header(read_commit_header(request.commit), request.conversation, 1)
        check_memberships(self._store, session.account)
        session.quota.take_change(
            len(request.founding + request.welcome) + 2 * len(request.commit + request.group_info), self._turn.now
        )
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

        self._checks.check(session, request, work)

    def direct_checked(self, session: Session, checked: DirectChecked) -> None:
        """Make a direct conversation whose founding and first commit have passed the checks."""
        request, staged = checked.request, checked.checked.staged
        if self._is_answered(session, request):
            return
        if checked.founded.rules.kind != "direct" or staged.before.group_id != request.conversation:
            raise RefusedError("invalid-commit", "the group is not that of a direct conversation with this id")
        if self._directory.certificate(session) != certificate_of(staged.committer):
            raise RefusedError("old-certificate", "this device has published a newer certificate meanwhile")
        self._commits.check_known(staged)
        check_memberships(self._store, session.account)
        self._commits.check_inboxes(session.account, checked.checked, request.welcome)
        if (old := self._replaced(session, request)) is not None:
            self._end(old, session)
        time = checked.checked.time
        head = Head(
            request.conversation, "direct", "", 0, time, 0, CHAIN_START, request.group_info, founder=session.account
        )
        conversation = self._create(head, _pair(session.account, request.peer), checked.founded.snapshot)
        run = self._turn.run(conversation, session)
        entry = run.add(request.id, request.commit, staged.after.epoch, time, group_info=request.group_info, joins=True)
        self._commits.admit(conversation, entry, [certificate_of(staged.committer)])
        self._commits.apply(conversation, entry, checked.checked, request.welcome)

    def _is_answered(self, session: Session, request: OpenDirect) -> bool:
        """Whether it is a retry, or the two have a direct conversation already; then answers."""
        conversation = self._conversations.get(request.conversation)
        if conversation is not None:
            if conversation.membership(session) is None:
                raise RefusedError("bad-request", "this conversation id is taken; choose another one")
            opening = (request.commit, request.group_info)
            if is_next(self._turn, conversation, session, request.id, 1, *opening, joins=True):
                raise RefusedError("bad-request", "this conversation id is taken; choose another one")
            return True
        existing = self._store.pair(_pair(session.account, request.peer))
        if existing is None or not self._is_alive(existing, session.account, request.peer):
            return False
        if self._replaced(session, request) is not None:
            return False
        text = f"there is a direct conversation with {request.peer}"
        self._turn.answer(session, Refused(request.id, "exists", text, existing))
        return True

    def _replaced(self, session: Session, request: OpenDirect) -> Conversation | None:
        """Return the direct conversation of the two if this device is in it and another one is to take its place."""
        existing = self._store.pair(_pair(session.account, request.peer))
        if existing is None or existing != request.instead_of:
            return None
        if not self._is_alive(existing, session.account, request.peer):
            return None  # it stands in nobody's way
        old = self._conversations.get(existing)
        present = old is not None and any(member.who == session.who for member in old.present)
        return old if present else None

    def _end(self, old: Conversation, session: Session) -> None:
        """A device is out of a conversation that it cannot follow, and can sign nothing in. The other one leaves it."""
        head = old.head
        member = old.member(session)
        member.last_seq = head.seq
        self._conversations.touch(old)
        self._store.put_members(head.id, [member])
        if old.readers.pop(session.who, None) is not None:
            session.subscriptions.pop(head.id, None)

    def _is_alive(self, conversation_id: bytes, *accounts: str) -> bool:
        """Whether both accounts have a published device in the conversation, and nobody has left it."""
        conversation = self._conversations.get(conversation_id)
        if conversation is None or conversation.head.departed:
            return False
        there = published(self._devices, conversation.present)
        inside = {member.account for member in conversation.present if member.device in there}
        return inside.issuperset(accounts)

    def _create(self, head: Head, pair: tuple[str, str] | None, snapshot: bytes) -> Conversation:
        conversation = Conversation(head)
        self._conversations.add(conversation)
        self._conversations.touch(conversation)
        self._store.create(head, pair, snapshot)
        return conversation


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
