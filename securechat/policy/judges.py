"""Which judge an epoch has: the one of the version that its own rules have, so that old logs stay readable.

A version of the rules has an entry here and one in `rules.READERS`. The version of a conversation may rise and never
falls; the commit that raises it is judged by the version before it, and the state that it leads to by the new one.
"""

from collections.abc import Callable, Sequence
from typing import Final

from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.statements import Statement
from securechat.mls.commit import Commit
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.framing import PublicMessage
from securechat.mls.proposals import Add, ExternalInit, GroupContextExtensions, Proposal, Remove
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.policy.commits import judge_commit
from securechat.policy.rules import VERSION, Kind, Rules, rules_of
from securechat.policy.states import judge_founding, judge_state
from securechat.policy.support import check_support
from securechat.policy.words import Word
from securechat.value import value


@value
class Judge:
    """What one version of the rules has to say. Each function raises `PeerError`."""

    state: Callable[[PublicGroup, Rules], None]
    founding: Callable[[PublicGroup, Rules, DeviceCertificate], None]
    commit: Callable[
        [PublicStagedCommit, Rules, Rules, frozenset[LeafIndex], Sequence[Word], Sequence[Statement]], None
    ]
    """The commit, the rules before and after it, the leaves whose devices have left, the operator's words, what was
    revoked."""


JUDGES: Final[dict[int, Judge]] = {VERSION: Judge(judge_state, judge_founding, judge_commit)}


def check_state(group: PublicGroup) -> Rules:
    """Check what holds in every epoch of a conversation, as a joiner has to; return its rules."""
    if group.suite != MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519:
        raise PeerError(f"The conversation uses the cipher suite {group.suite.name}, which is not ours.")
    rules = rules_of(group.extensions)
    JUDGES[rules.version].state(group, rules)
    return rules


def check_founding(group: PublicGroup, *, creator: DeviceCertificate) -> Rules:
    """Check the first epoch of a group that `creator` has just made; return its rules."""
    rules = check_state(group)
    JUDGES[rules.version].founding(group, rules, creator)
    return rules


def check_joining(group: PublicGroup, *, kind: Kind, name: str) -> Rules:
    """Check, before joining, that the group is what we meant to join: `kind`, and for rooms the `name`."""
    rules = check_state(group)
    if (rules.kind, rules.name) != (kind, name):
        raise PeerError(
            f"You meant to enter {_title(kind, name)}, but the server led you to {_title(rules.kind, rules.name)}. "
            "Nothing was joined or sent."
        )
    return rules


def _title(kind: Kind, name: str) -> str:
    return "a direct conversation" if kind == "direct" else f"the {kind} room {name}"


def check_proposals(message: PublicMessage, group: PublicGroup) -> None:
    """Check that a commit holds only what is used here, before staging it in `group`.

    Staging tries each proposal, and new extensions on each member: one message must not make that expensive.
    """
    commit = message.content.content
    if not isinstance(commit, Commit):
        raise PeerError("Something else came where a commit was expected.")
    proposals: list[Proposal] = []
    for proposal in commit.proposals:
        if not isinstance(proposal, Proposal):
            raise PeerError("A commit names a proposal by reference; it has to be in the commit.")
        if not isinstance(proposal, Add | Remove | GroupContextExtensions | ExternalInit):
            raise PeerError(f"A commit holds a proposal that is not used here: {type(proposal).__name__}.")
        proposals.append(proposal)
    check_support(group, proposals)


def check_commit(
    staged: PublicStagedCommit,
    *,
    departed: frozenset[LeafIndex],
    words: Sequence[Word] = (),
    revocations: Sequence[Statement] = (),
) -> Rules:
    """Check that the rules allow a commit; return the rules after it.

    `departed`: leaves of the epoch before it whose devices have left, or have to go by the operator's word. `words`:
    what the operator has said and no commit has carried out; only where the room belongs to nobody there are any.
    `revocations`: of leaves that are still in the tree; these may be among `departed`, or not.
    """
    before, after = rules_of(staged.before.extensions), rules_of(staged.after.extensions)
    JUDGES[before.version].commit(staged, before, after, departed, words, revocations)
    return check_state(staged.after)
