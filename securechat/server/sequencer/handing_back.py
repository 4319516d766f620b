"""A restored server gets back the commits and departures that it has lost (docs/design.md, section 6, Following).

Clients never go back to an epoch that they have used. So members hand back what leads from the server's epoch to
theirs. Each handshake is checked like a new one, by the state that those before it have led to, and gets a new place in
the log, as an entry of its own kind. Only the directory is not asked: it is as old as the backup. An open room takes
nothing back, since everybody can enter it anew.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from securechat.errors import PeerError, RefusedError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import ContentType, read_header
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.commits import Commits, removed_by
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.leaving import Leaving
from securechat.server.sequencer.numbers import check_header
from securechat.server.sequencer.operations import HandBackChecked, Returned
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Validator
from securechat.server.store.port import LogStore
from securechat.server.store.records import Departed
from securechat.wire.limits import MAX_HANDED_BACK
from securechat.wire.messages import Done, HandBack, Handshake

MORE_SECONDS: Final = 10.0
"""How long no new commit is taken after as many handshakes as a request can hold: more are on their way."""

MISSING_SECONDS: Final = 10.0
"""When to come again where what leads to a handshake is missing: another member may have it."""

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
        self._budgets = budgets
        self._validator = validator
        self._checks = checks

    def hand_back(self, session: Session, request: HandBack) -> None:
        """Handle `HandBack`."""
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        if not conversation.head.resumed or conversation.head.kind == "open":
            raise RefusedError("not-allowed", "the log has lost nothing, or the room is open")
        self._budgets.spend_handed_back(conversation, session, max(len(request.handshakes), 1))
        self._check(conversation, session, request)

    def checked(self, session: Session, checked: HandBackChecked) -> None:
        """Append what has passed the checks."""
        request = checked.request
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        if checked.state != _state(conversation):  # somebody else was faster
            self._check(conversation, session, request)
            return
        for each in checked.returned:
            self._append(conversation, each)
        if checked.problem is not None and not checked.returned:
            raise checked.problem
        if len(request.handshakes) == MAX_HANDED_BACK:
            conversation.closed_until = max(conversation.closed_until, self._turn.now + MORE_SECONDS)
        self._turn.answer(session, Done(request.id))

    def _check(self, conversation: Conversation, session: Session, request: HandBack) -> None:
        head, group = conversation.head, conversation.group
        state, time, since, upto = _state(conversation), self._turn.time_in(head), head.resumed, head.seq

        def work() -> HandBackChecked:
            known = self._known(request.conversation, since, upto)
            current = group if group is not None else self._groups.restore(request.conversation)
            new = [each for each in request.handshakes if _digest(each.payload) not in known]
            returned, problem = self._follow(current, state[1], new, time)
            return HandBackChecked(request, state, returned, problem)

        self._checks.check(session, request, work)

    def _known(self, conversation: bytes, since: int, upto: int) -> set[bytes]:
        """The handshakes that the log has had since it was restored. Any thread."""
        entries = self._logs.read_handshakes(conversation, since, upto, 1 << 20, _KNOWN_BYTES)
        return {_digest(entry.payload) for entry in entries}

    def _follow(
        self, group: PublicGroup, departed: frozenset[LeafIndex], handshakes: Sequence[Handshake], time: int
    ) -> tuple[tuple[Returned, ...], RefusedError | None]:
        """Check handshakes one after the other; return those before the first that does not follow, and its problem."""
        returned: list[Returned] = []
        for handshake in handshakes:
            try:
                each, group, departed = self._step(group, departed, handshake, time)
            except RefusedError as error:
                return tuple(returned), error
            except PeerError as error:
                return tuple(returned), RefusedError("invalid-commit", str(error)[:1000])
            returned.append(each)
        return tuple(returned), None

    def _step(
        self, group: PublicGroup, departed: frozenset[LeafIndex], handshake: Handshake, time: int
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
                group, departed, commit=handshake.payload, welcome=None, group_info=handshake.group_info, time=time
            )
            who = certificate_of(commit.staged.committer)
            departed -= {leaf for leaf, _ in commit.staged.removed}
            found = Returned(handshake, who.account, who.device_id, number, commit, None)
            return found, commit.staged.after, departed
        leaf = self._validator.departure(group, handshake.payload)
        who = certificate_of(group.member(leaf))
        departure = Departed(who.device_id, leaf, handshake.payload, group.context.encode())
        return Returned(handshake, who.account, who.device_id, number, None, departure), group, departed | {leaf}

    def _append(self, conversation: Conversation, each: Returned) -> None:
        head, time = conversation.head, self._turn.time_in(conversation.head)
        run = self._turn.run_of_none(conversation)
        if each.commit is not None:
            staged = each.commit.staged
            entry = run.add_handed_back(
                each.handshake, each.device, each.number, staged.after.epoch, each.commit.time,
                last_for=removed_by(staged),
            )  # fmt: skip
            self._commits.bring_in(conversation, entry, each.commit, b"")
        elif each.departed is not None:
            entry = run.add_handed_back(
                each.handshake, each.device, each.number, head.epoch, time, last_for=(each.device,)
            )
            self._leaving.depart(conversation, entry, each.departed)


def _state(conversation: Conversation) -> tuple[int, frozenset[LeafIndex]]:
    return conversation.head.epoch, conversation.departed_leaves


def _digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()
