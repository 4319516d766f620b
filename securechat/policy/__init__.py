"""The rules of a conversation and what they allow (docs/design.md, section 6, Rules and Leaving).

The server and every client judge a commit by the same functions. These look at the group, the devices that have left
it, and the commit, and at nothing else: members who judged differently would end up in different groups (invariant 8).
They run after the checks of RFC 9420, and raise `PeerError` that says who did what and why that is refused.
"""

from securechat.policy.commits import check_opening
from securechat.policy.departures import check_departure, departure_data, epoch_state
from securechat.policy.judges import check_commit, check_founding, check_joining, check_proposals, check_state
from securechat.policy.revocations import (
    check_revocations,
    check_statement,
    is_about,
    revoked_leaves,
    still_revoked,
    with_revocation,
)
from securechat.policy.rules import Identity, Kind, Rules, known_extensions, rules_of
from securechat.policy.successions import added_by_anybody, taken_over
from securechat.policy.words import Word, barred, check_word, check_words, leaves_to_go, rules_due, still_due

__all__ = [
    "Identity",
    "Kind",
    "Rules",
    "Word",
    "added_by_anybody",
    "barred",
    "check_commit",
    "check_departure",
    "check_founding",
    "check_joining",
    "check_opening",
    "check_proposals",
    "check_revocations",
    "check_state",
    "check_statement",
    "check_word",
    "check_words",
    "departure_data",
    "epoch_state",
    "is_about",
    "known_extensions",
    "leaves_to_go",
    "revoked_leaves",
    "rules_due",
    "rules_of",
    "still_due",
    "still_revoked",
    "taken_over",
    "with_revocation",
]
