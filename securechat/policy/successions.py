"""Successions: who takes over what an identity key was in a room, once it has named a successor.

docs/design.md, section 6. The owner or inviter that an account was under its old key it becomes under the new one, in
the commit that adds the successor or in one that the successor makes; that commit changes nothing else in the rules.
Where nobody is left who may add, each member may add the successor of who might: else the room of a sole owner who
succeeds would stay without one for good, by their own hand or a thief's.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from securechat.identity.certificate import certificate_of
from securechat.identity.statements import Statement
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.policy.rules import Identity, Rules, in_order


def added_by_anybody(
    group: PublicGroup, rules: Rules, departed: Collection[LeafIndex], statements: Iterable[Statement]
) -> frozenset[Identity]:
    """Return the successors that each member of a room of invitation may add; none, while somebody is in it who may.

    `departed`: the leaves that have to go, those of `statements` included.
    """
    successors = frozenset(
        Identity(each.account, each.key)
        for each in statements
        if each.action == "succeed" and Identity(each.account, each.identity_key) in rules.who_adds
    )
    staying = (Identity.of(certificate_of(leaf)) for index, leaf in group.members() if index not in departed)
    if not successors or rules.kind != "invite" or not rules.who_adds.isdisjoint(staying):
        return frozenset()
    return successors


def taken_over(rules: Rules, statements: Iterable[Statement], heirs: Collection[Identity]) -> Rules:
    """Return what rules become when `heirs` take over what their keys before them were; the same if that is nothing.

    `statements`: those that wait (`revocations`).
    """
    successors = {
        Identity(each.account, each.identity_key): Identity(each.account, each.key)
        for each in statements
        if each.action == "succeed"
    }

    def heir(of: Identity) -> Identity:
        found = of
        for _ in successors:  # each at most once: whoever names each other in a ring names nobody
            if found in heirs:
                break
            found = successors.get(found, found)
        return found if found in heirs else of

    if not successors:
        return rules
    return replace(rules, owners=in_order(map(heir, rules.owners)), inviters=in_order(map(heir, rules.inviters)))
