"""Budgets of commits: how often an account may change one conversation (docs/design.md, section 6, Poison).

The server cannot tell a commit that no member can process from a good one, and each of those costs every member of an
open room a re-entry. So what an account commits there is counted: nobody is stopped, and a flood meets its end. Not
counted is what honest members owe the group:

    a fresh path           one commit for each `MESSAGES_PER_COMMIT` messages that the account says there
    departed leaves        a commit that drops them and does nothing else; the same for what the operator has said
    coming back            `RE_ENTRIES` a day, each the first after a commit of another account that this device
                           has reported as one that it cannot process
    a renewed key          `ROTATIONS` a day, each a commit that gives its maker a later certificate and does nothing
                           else but what is due

Budgets are in memory: after a restart of the server all are full.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from securechat.errors import RefusedError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import SenderType
from securechat.mls.public_group import PublicStagedCommit
from securechat.policy import revoked_leaves
from securechat.server.sequencer.conversation import Conversation
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Checked

OPEN_COMMITS: Final = 3
"""Commits an hour of one account in an open room: entering, a weekly path, and one to spare."""

FIRST_DAY_COMMITS: Final = 1
"""The same for an account that is younger than a day: accounts cost nothing, so new ones enter, and no more."""

OTHER_COMMITS: Final = 100
"""The same in a direct conversation or an invite room, where somebody has let each member in and can remove them; and
of an owner, who keeps order in a room."""

MESSAGES_PER_COMMIT: Final = 50
"""Messages that earn one commit more: after as many, honest members owe a fresh path."""

RE_ENTRIES: Final = 10
"""Re-entries a day that are not counted."""

ROTATIONS: Final = 1
"""Commits a day with a later certificate that are not counted: an honest device renews its own once a month."""

HANDED_BACK: Final = 1000
"""Handshakes an hour that an account hands back to a restored conversation: a week of the largest, and each is checked
in 3 ms."""

MAX_SAID: Final = OPEN_COMMITS * MESSAGES_PER_COMMIT
"""Messages kept to earn commits: honest members commit at once, others do not save up."""

MAX_BUDGETS: Final = 10_000
"""Budgets remembered, each of one account in one conversation: the longest unused are forgotten first, and full."""

_HOUR: Final = 3600.0
_DAY: Final = 86_400.0


class _Taken(NamedTuple):
    """`full_at`: when all will have come back. `wait`: seconds before it may be taken; 0: now."""

    full_at: float
    wait: float


class Allowance(NamedTuple):
    """So many at once, and as many again in `seconds`."""

    burst: int
    seconds: float

    def taken(self, full_at: float, now: float) -> int:
        """Return how many are taken and have not come back, where all will have at `full_at`."""
        return math.ceil(max(full_at - now, 0.0) * self.burst / self.seconds - 1e-6)

    def take(self, full_at: float, now: float, count: int = 1) -> _Taken:
        """Take some where all will have come back at `full_at` (see `rates.Bucket`). Times in monotonic seconds."""
        full_at = max(full_at, now) + count * self.seconds / self.burst
        wait = full_at - now - self.seconds
        return _Taken(full_at, wait if wait > 1e-6 else 0.0)  # sums of intervals are rounded


_RE_ENTERING: Final = Allowance(RE_ENTRIES, _DAY)
_ROTATING: Final = Allowance(ROTATIONS, _DAY)
_HANDING_BACK: Final = Allowance(HANDED_BACK, _HOUR)


@dataclass(slots=True)
class _Budget:
    """What one account has used in one conversation. Times are when all will have come back, in monotonic seconds."""

    full_at: float = 0.0
    re_entries_full_at: float = 0.0
    rotations_full_at: float = 0.0
    handed_back_full_at: float = 0.0
    said: int = 0  # messages that have earned nothing yet
    counted: dict[bytes, int] = field(default_factory=dict)  # device -> its number up to which they are in `said`
    reported: dict[bytes, int] = field(default_factory=dict)  # device -> seq of the newest bad commit it reported
    answered: dict[bytes, int] = field(default_factory=dict)  # device -> the report after which it came back last


class Budgets:
    """All budgets. Requires holding the turn."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._budgets: OrderedDict[tuple[str, bytes], _Budget] = OrderedDict()

    def spend(self, conversation: Conversation, session: Session, number: int, checked: Checked) -> None:
        """Count the commit `number` of the session's device, which is about to be added, once it is on disk.

        Raises RefusedError `slow-down`, and counts nothing.
        """
        staged, by_owner = checked.staged, checked.by_owner
        device, now = session.device, self._turn.now
        budget = self._budget(session.account, conversation)
        full_at, re_entries_full_at = budget.full_at, budget.re_entries_full_at
        rotations_full_at = budget.rotations_full_at
        said = budget.said + number - 1 - budget.counted.get(device, number - 1)
        reported, answered = budget.reported.get(device, 0), budget.answered.get(device, 0)
        only_what_is_due = _does_nothing_else(conversation, checked)
        if only_what_is_due and (staged.removed or staged.after.extensions != staged.before.extensions):
            pass
        elif (
            only_what_is_due
            and _renews(staged)
            and not (renewed := _ROTATING.take(rotations_full_at, now)).wait
        ):
            rotations_full_at = renewed.full_at
        elif (
            staged.sender.type == SenderType.NEW_MEMBER_COMMIT
            and reported > answered
            and not (again := _RE_ENTERING.take(re_entries_full_at, now)).wait
        ):
            answered, re_entries_full_at = reported, again.full_at
        elif said >= MESSAGES_PER_COMMIT:
            said -= MESSAGES_PER_COMMIT
        else:
            allowance = self._allowance(conversation, session, by_owner=by_owner)
            full_at, wait = allowance.take(full_at, now)
            if wait:
                often = "once" if allowance.burst == 1 else f"{allowance.burst} times"
                text = f"this account may change {conversation.head.title} {often} an hour"
                raise RefusedError("slow-down", text, retry_after=wait)

        def count() -> None:
            budget.full_at, budget.re_entries_full_at = full_at, re_entries_full_at
            budget.rotations_full_at = rotations_full_at
            budget.said, budget.counted[device] = min(said, MAX_SAID), number
            budget.answered[device] = answered

        self._turn.after(count)

    def spend_handed_back(self, conversation: Conversation, session: Session, count: int) -> None:
        """Count handshakes that are handed back, good or not. Raises RefusedError `slow-down`, and counts nothing."""
        budget = self._budget(session.account, conversation)
        taken = _HANDING_BACK.take(budget.handed_back_full_at, self._turn.now, count)
        if taken.wait:
            text = f"this account may hand {HANDED_BACK} changes of {conversation.head.title} back an hour"
            raise RefusedError("slow-down", text, retry_after=taken.wait)
        budget.handed_back_full_at = taken.full_at

    def report(self, conversation: Conversation, session: Session, seq: int) -> bool:
        """A device cannot process the commit `seq` of another account: coming back is not counted.

        Returns whether it is a newer one than it has reported before.
        """
        reported = self._budget(session.account, conversation).reported
        if seq <= reported.get(session.device, 0):
            return False
        reported[session.device] = seq
        return True

    def _allowance(self, conversation: Conversation, session: Session, *, by_owner: bool) -> Allowance:
        if conversation.head.kind != "open" or by_owner:
            return Allowance(OTHER_COMMITS, _HOUR)
        new = 0 <= self._turn.time / 1000 - session.account_created < _DAY
        return Allowance(FIRST_DAY_COMMITS if new else OPEN_COMMITS, _HOUR)

    def _budget(self, account: str, conversation: Conversation) -> _Budget:
        key = account, conversation.head.id
        budget = self._budgets.get(key)
        if budget is None:
            if len(self._budgets) >= MAX_BUDGETS:
                self._budgets.popitem(last=False)
            budget = self._budgets[key] = _Budget()
        self._budgets.move_to_end(key)
        return budget


def _does_nothing_else(conversation: Conversation, checked: Checked) -> bool:
    """Whether a commit does nothing but renew its maker's leaf, drop departed leaves and carry out words.

    Where there are words, it changes no other rules (`policy`).
    """
    staged = checked.staged
    same_rules = staged.after.extensions == staged.before.extensions
    due = conversation.departed_leaves | revoked_leaves(staged.before, checked.revocations)
    return (
        staged.sender.type == SenderType.MEMBER
        and not staged.added
        and (same_rules or bool(checked.words))
        and due.issuperset(leaf for leaf, _ in staged.removed)
    )


def _renews(staged: PublicStagedCommit) -> bool:
    """Whether a commit gives its maker's leaf a later certificate."""
    after = staged.after.member(staged.committer_leaf)
    return certificate_of(after).seq > certificate_of(staged.committer).seq
