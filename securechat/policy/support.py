"""Who stands in the way of new rules: members whose programs do not know that version yet."""

from collections.abc import Iterable, Sequence

from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.leaf_node import LeafNode
from securechat.mls.proposals import Add, GroupContextExtensions, Proposal, Remove
from securechat.mls.public_group import PublicGroup
from securechat.policy.rules import extension_type, rules_of


def check_support(group: PublicGroup, proposals: Sequence[Proposal]) -> None:
    """Raise `PeerError` that names who does not know the rules' version after a commit of `proposals`.

    MLS refuses that commit, too (RFC 9420, section 7.3), without saying whose leaf it is. New rules have to be sound.
    """
    rules = before = rules_of(group.extensions)
    for proposal in proposals:
        if isinstance(proposal, GroupContextExtensions):
            rules = rules_of(proposal.extensions)
    joining = [proposal.key_package.leaf_node for proposal in proposals if isinstance(proposal, Add)]
    if rules.version != before.version:
        removed = {proposal.removed for proposal in proposals if isinstance(proposal, Remove)}
        joining += [leaf for index, leaf in group.members() if index not in removed]
    if lacking := who_lacks(joining, rules.version):
        raise PeerError(
            f"Version {rules.version} of the rules is not known to the program of {', '.join(lacking)}. "
            "Whoever has a newer program has to say something here first; the others have to update or be removed."
        )


def who_lacks(leaves: Iterable[LeafNode], version: int) -> list[str]:
    """Return the accounts whose programs do not know a version of the rules, sorted."""
    wanted = extension_type(version)
    return sorted({certificate_of(leaf).account for leaf in leaves if wanted not in leaf.capabilities.extensions})
