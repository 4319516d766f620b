"""A restored server gets back the handshakes that it has lost (docs/design.md, section 6, Following).

Clients never go back to an epoch that they have used. So members hand back what leads from the server's epoch to
theirs. Each handshake is checked like a new one, by the state that those before it have led to, and gets a new place in
the log, as an entry of its own kind. Only the directory is not asked: it is as old as the backup. An open room takes
nothing back, since everybody can enter it anew.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Final

from securechat import policy
from securechat.errors import PeerError, RefusedError
from securechat.identity.certificate import certificate_of
from securechat.identity.statements import Statement, is_statement
from securechat.mls.framing import ContentType, read_header
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.server.sequencer.branches import Branches
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.commits import Commits, removed_by
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.leaving import Leaving
from securechat.server.sequencer.numbers import check_header
from securechat.server.sequencer.operations import HandBackChecked, HandBackState, Returned
from securechat.server.sequencer.revoking import Revoking
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Validator
from securechat.server.store.port import LogStore
from securechat.server.store.records import Departed
from securechat.wire.chain import HANDED_BACK
from securechat.wire.limits import MAX_HANDED_BACK
from securechat.wire.messages import RETRYABLE, Done, HandBack, Handshake

MORE_SECONDS: Final = 10.0
"""How long no new commit is taken after as many handshakes as a request can hold: more are on their way."""

MISSING_SECONDS: Final = 10.0
"""When to come again where what leads to a handshake is missing: another member may have it."""

BRANCH_COUNT: Final = 20
"""What a request counts for, beside its handshakes, that may show another branch: for it a worker follows all that has
come since the backup."""

_KNOWN_BYTES: Final = 32 << 20


class HandingBack:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        logs: LogStore,
        conversations: Conversations,
        groups: Groups,
        commits: Commits,
        leaving: Leaving,
        revoking: Revoking,
        branches: Branches,
        budgets: Budgets,
        validator: Validator,
        checks: Checks,
    ) -> None:
        self._turn = turn
        self._logs = logs
        self._conversations = conversations
        self._groups = groups
        self._commits = commits
        self._leaving = leaving
        self._revoking = revoking
        self._branches = branches
        self._budgets = budgets
        self._validator = validator
        self._checks = checks

    def hand_back(self, session: Session, request: HandBack) -> None:
        """Handle `HandBack`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        if not conversation.head.resumed or conversation.head.kind == "open":
            raise RefusedError("not-allowed", "the log has lost nothing, or the room is open")
        count = max(len(request.handshakes), 1) + (BRANCH_COUNT if _may_be_branch(conversation, request) else 0)
        self._budgets.spend_handed_back(conversation, session, count)
        self._check(conversation, session, request)

    def checked(self, session: Session, checked: HandBackChecked) -> None:
        """Append what has passed the checks."""
        request = checked.request
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        running = any(run.conversation is conversation for run in self._turn.runs)
        if checked.state != _state(conversation) or (checked.branch and running):  # somebody else was faster
            self._check(conversation, session, request)
            return
        returned, problem = checked.returned, checked.problem
        if checked.branch is not None:
            self._branches.go_back(conversation, checked.branch)
            returned, problem = checked.branch.returned, None
        for each in returned:
            self._append(conversation, each)
        if problem is not None and not returned:
            raise problem
        if len(request.handshakes) == MAX_HANDED_BACK:
            conversation.closed_until = max(conversation.closed_until, self._turn.now + MORE_SECONDS)
        self._turn.answer(session, Done(request.id))

    def _check(self, conversation: Conversation, session: Session, request: HandBack) -> None:
        head, group = conversation.head, conversation.group
        state, time, since, upto = _state(conversation), self._turn.time_in(head), head.resumed, head.seq
        may_be_branch = _may_be_branch(conversation, request)

        def work() -> HandBackChecked:
            known = self._known(request.conversation, since, upto)
            current = group if group is not None else self._groups.restore(request.conversation)
            new = [each for each in request.handshakes if _digest(each.payload) not in known]
            returned, problem = self._follow(current, state[1], state[2], new, time)
            branch = None
            if may_be_branch and problem is not None and problem.code not in RETRYABLE and not returned:
                branch = self._branches.find(request.conversation, upto, request.handshakes, time, self._follow)
            return HandBackChecked(request, state, returned, problem, branch)

        self._checks.check(session, request, work)

    def _known(self, conversation: bytes, since: int, upto: int) -> set[bytes]:
        """The handshakes that the log has had since it was restored. Any thread."""
        entries = self._logs.read_handshakes(conversation, since, upto, 1 << 20, _KNOWN_BYTES)
        return {_digest(entry.payload) for entry in entries}

    def _follow(
        self,
        group: PublicGroup,
        departed: frozenset[LeafIndex],
        revocations: tuple[Statement, ...],
        handshakes: Sequence[Handshake],
        time: int,
    ) -> tuple[tuple[Returned, ...], RefusedError | None]:
        """Check handshakes one after the other; return those before the first that does not follow, and its problem."""
        returned: list[Returned] = []
        for handshake in handshakes:
            if is_statement(handshake.payload):
                with contextlib.suppress(PeerError):  # one that came earlier, or that does nothing here
                    statement = policy.check_statement(
                        group, handshake.payload, time=time, departed=departed, before=revocations
                    )
                    revocations = policy.with_revocation(revocations, statement)
                    who = statement.account, statement.device_id
                    returned.append(Returned(handshake, *who, 0, None, None, statement))
                continue
            try:
                each, group, departed = self._step(group, departed, revocations, handshake, time)
            except RefusedError as error:
                return tuple(returned), error
            except PeerError as error:
                return tuple(returned), RefusedError("invalid-commit", str(error)[:1000])
            returned.append(each)
            revocations = policy.still_revoked(group, revocations)
        return tuple(returned), None

    def _step(
        self,
        group: PublicGroup,
        departed: frozenset[LeafIndex],
        revocations: tuple[Statement, ...],
        handshake: Handshake,
        time: int,
    ) -> tuple[Returned, PublicGroup, frozenset[LeafIndex]]:
        """Return a handshake that was checked, and the state after it."""
        header = read_header(handshake.payload)
        number = int.from_bytes(header.authenticated_data[:8], "big")
        check_header(header, group.group_id, number)
        if header.content_type == ContentType.APPLICATION:
            raise RefusedError("bad-request", "messages are not handed back")
        if header.epoch < group.epoch:
            raise RefusedError("stale-epoch", "the conversation went on without that")
        if header.epoch > group.epoch:
            raise RefusedError("not-now", "what led there is missing", retry_after=MISSING_SECONDS)
        if header.content_type == ContentType.COMMIT:
            commit = self._validator.commit(
                group, departed, revocations=revocations, commit=handshake.payload, welcome=None,
                group_info=handshake.group_info, time=time,
            )  # fmt: skip
            who = certificate_of(commit.staged.committer)
            departed -= {leaf for leaf, _ in commit.staged.removed}
            found = Returned(handshake, who.account, who.device_id, number, commit, None)
            return found, commit.staged.after, departed
        leaf = policy.check_departure(group, handshake.payload)
        who = certificate_of(group.member(leaf))
        departure = Departed(who.device_id, leaf, handshake.payload, policy.epoch_state(group))
        return Returned(handshake, who.account, who.device_id, number, None, departure), group, departed | {leaf}

    def _append(self, conversation: Conversation, each: Returned) -> None:
        head, time = conversation.head, self._turn.time_in(conversation.head)
        if each.statement is not None:
            self._revoking.append(conversation, each.statement, kind=HANDED_BACK)
            return
        run = self._turn.run_of_none(conversation, each.account)
        if each.commit is not None:
            staged = each.commit.staged
            entry = run.add_handed_back(
                each.handshake, each.device, each.number, staged.after.epoch, each.commit.time,
                last_for=removed_by(staged),
            )  # fmt: skip
            self._commits.bring_in(conversation, entry, each.commit, b"")
        elif each.departed is not None:
            entry = run.add_handed_back(
                each.handshake, each.device, each.number, head.epoch, time, last_for=((each.account, each.device),)
            )
            self._leaving.depart(conversation, entry, each.departed, each.account)


def _may_be_branch(conversation: Conversation, request: HandBack) -> bool:
    """Whether what is handed back may lead on from the backup otherwise than the log does."""
    first = next((each.payload for each in request.handshakes if not is_statement(each.payload)), b"")
    try:
        restored = conversation.head.restored_epoch and conversation.head.kind != "open"  # that one is the server's
        return bool(restored and first) and read_header(first).epoch <= conversation.head.epoch
    except PeerError:
        return False


def _state(conversation: Conversation) -> HandBackState:
    return conversation.head.group_info, conversation.departed_leaves, conversation.revocations


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()
