"""The world of the explorer: keys as symbols, and every branch that anybody has made of any group.

A *branch* is one epoch of one group, as its public state shows it. Nobody encrypts anything here: a branch says whose
key signed it, whether that somebody knew the secrets of the epoch before, and whether others can follow it. Each
account has one device, so its key stands for the leaf.
"""

from typing import NamedTuple

from securechat.client.doors.facts import Change, Key, Leaf
from securechat.policy import Kind

DAY = 86_400
START = 1_000_000_000  # seconds: when the story begins


def leaf(account: str, key: str) -> Leaf:
    """A member; its identity key and device are called `key`."""
    return Leaf(account, key.encode(), key.encode())


ALICE = leaf("alice", "A")  # owns the room
BOB = leaf("bob", "B")  # whose client is explored
CAROL = leaf("carol", "C")  # may invite
DAVE = leaf("dave", "D")  # an ordinary member
MALLORY = leaf("mallory", "M")  # an account of the server's own
FALSE_ALICE = leaf("alice", "A'")  # keys that the server made under the names of others
FALSE_BOB = leaf("bob", "B'")

SERVERS = frozenset((MALLORY, FALSE_ALICE, FALSE_BOB))
"""Symmetry over keys: which of its keys the server uses under one name makes no difference, so it has one of each."""


class Branch(NamedTuple):
    """One epoch of one group."""

    group: bytes
    kind: Kind
    name: str
    epoch: int
    members: frozenset[Leaf]
    owners: frozenset[Key]
    inviters: frozenset[Key]
    parent: int  # its place in the world; -1: the group was founded like this
    author: Leaf
    change: Change
    who: frozenset[Leaf] = frozenset()  # whom the commit lets in, or puts out
    secret: bool = True  # its author knew the secrets of the epoch before
    gone: frozenset[Leaf] = frozenset()  # members who have left, and whom the next commit must remove
    readable: bool = True  # tags and path are whole: members can follow it with their secrets


World = tuple[Branch, ...]


def founded(group: bytes, kind: Kind, name: str, author: Leaf, *others: Leaf, epoch: int = 1) -> Branch:
    """A group as its founder made it, with whomever they put into it."""
    owners = frozenset((author.key,)) if kind == "invite" else frozenset[Key]()
    members = frozenset((author, *others))
    return Branch(group, kind, name, epoch, members, owners, frozenset(), -1, author, "add", frozenset(others))


def after(world: World, parent: int, author: Leaf, change: Change, *who: Leaf, secret: bool = True) -> Branch:
    """The epoch that a commit by `author` makes of another one."""
    before = world[parent]
    out = set(who) if change == "remove" else set[Leaf]()
    if change in ("enter", "re-enter"):  # whoever enters takes the place of their account
        out = {each for each in before.members if each.account == author.account}
    members = (before.members - out) | (frozenset() if change == "remove" else set(who))
    roles = frozenset(leaf.key for leaf in members)
    return before._replace(
        epoch=before.epoch + 1, members=members, inviters=before.inviters & roles, parent=parent, author=author,
        change=change, who=frozenset(who), secret=secret, readable=True,
    )  # fmt: skip


def sound(branch: Branch) -> bool:
    """Whether a state is one that the rules allow: an account has one place."""
    return len({leaf.account for leaf in branch.members}) == len(branch.members)


def allowed(world: World, branch: Branch) -> bool:
    """Whether the rules allow the commit that made a branch (`policy`, abridged)."""
    if branch.parent < 0 or not sound(branch):
        return sound(branch)
    before, key = world[branch.parent], branch.author.key
    match branch.change:
        case "add":
            return branch.kind == "invite" and key in before.owners | before.inviters
        case "remove":
            return key in before.owners
        case "enter":
            return branch.kind == "open" and branch.who == {branch.author}
        case "re-enter" | "path":
            return branch.author in before.members
    return False


def path(world: World, start: int, end: int) -> tuple[int, ...] | None:
    """The branches that lead from one to another, without the first; None if none do."""
    found: list[int] = []
    while end != start:
        if end < 0:
            return None
        found.append(end)
        end = world[end].parent
    return tuple(reversed(found))


def authorised(world: World, start: int, end: int) -> bool:
    """Whether each step was made by a key with that right in the step before, and with that epoch's secrets."""
    steps = path(world, start, end)
    return steps is not None and all(
        allowed(world, world[each]) and world[each].secret and not back_after_leaving(world, world[each])
        for each in steps
    )


def back_after_leaving(world: World, branch: Branch) -> bool:
    """Whether a commit was made by somebody who had left: only the log says so, not the tree."""
    return branch.parent >= 0 and branch.author in world[branch.parent].gone


def lets_in(branch: Branch, who: Leaf) -> bool:
    """Whether there is a Welcome to a branch for somebody."""
    return branch.change == "add" and who in branch.who and branch.readable


def letter(world: World, head: int, who: Leaf) -> int:
    """The newest branch on the way to `head` that somebody has a Welcome to; -1 if there is none."""
    while head >= 0 and not lets_in(world[head], who):
        head = world[head].parent
    return head

